/* simulate_write.c - a simulation as a folder that fit, import and aggregate read, and meta.json with the truth.
 *
 * instances.csv is copied (unpacked), so that its numbers stay what they were to the last digit. All files are created
 * new and removed again when one of them fails: a folder is whole or not there. */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "simulate.h"
#include "util/csv_rows.h"
#include "util/error.h"
#include "util/jsonx.h"

enum {
    PATH_BYTES = 4096,
    ROW_BYTES = 4096,
    PIECE = 65536,
    N_FILES = 5
};
static const char *const FILES[N_FILES] = {"instances.csv", "labels.csv", "labels_test.csv", "gold.csv", "meta.json"};

/* ---- meta.json --------------------------------------------------------------------------------------------------- */

/* Six decimals are more than any simulation supports. */
static json_t *rounded(double value)
{
    return jsonx_real_or_null(isfinite(value) ? round(value * 1e6) / 1e6 : value);
}

static json_t *matrix_json(const double *values, size_t C)
{
    json_t *rows = json_array();

    for (size_t k = 0; k < C; k++) {
        json_t *row = json_array();

        for (size_t c = 0; c < C; c++) {
            if (json_array_append_new(row, rounded(values[k * C + c])) != 0)
                return json_decref(rows), json_decref(row), NULL;
        }
        if (json_array_append_new(rows, row) != 0)
            return json_decref(rows), NULL;
    }
    return rows;
}

static int put_annotators(json_t *meta, const struct simulation *s)
{
    json_t *accuracy = json_object(), *kinds = json_object(), *bad = json_array(), *confusion = NULL;
    int failed = 0;

    if (s->n_annotators > 0 && s->annotators[0].confusion != NULL) {
        confusion = json_object();
        failed |= confusion == NULL;
    }
    for (size_t a = 0; a < s->n_annotators && !failed; a++) {
        const struct sim_annotator *annotator = &s->annotators[a];
        const double known = s->dir->annotator_accuracy != NULL && annotator->kind == SIM_GIVEN
                                 ? s->dir->annotator_accuracy[a]
                                 : (double)NAN;

        /* What the folder's own meta.json knew of an annotator is better than counting its labels. */
        failed |=
            json_object_set_new(accuracy, annotator->name, rounded(isfinite(known) ? known : annotator->accuracy));
        failed |= json_object_set_new(kinds, annotator->name, json_string(sim_kind_name(annotator->kind)));
        if (annotator->bad)
            failed |= json_array_append_new(bad, json_string(annotator->name));
        if (confusion != NULL)
            failed |= json_object_set_new(confusion, annotator->name, matrix_json(annotator->confusion, s->n_classes));
    }
    failed |= json_object_set_new(meta, "annotator_accuracy", accuracy);
    failed |= json_object_set_new(meta, "annotator_kind", kinds);
    failed |= json_object_set_new(meta, "bad_annotators", bad);
    if (confusion != NULL)
        failed |= json_object_set_new(meta, "annotator_confusion", confusion);
    return failed;
}

/* What was asked for, so that the set can be made again. */
static json_t *options_json(const struct sim_options *o)
{
    static const char *const modes[] = {"networks", "kinds", "attack"};
    json_t *object = json_pack("{s:s+, s:s, s:I}", "by", "annotmixd simulate ", amx_version(), "mode", modes[o->mode],
                               "seed", (json_int_t)o->seed);
    int failed = object == NULL;

    if (o->mode == SIM_ATTACK) {
        failed |= json_object_set_new(object, "attack", json_string(sim_kind_name(o->attack)));
        failed |= json_object_set_new(object, "share", json_real(o->share));
    } else {
        failed |= json_object_set_new(object, "labels", json_pack("[i, i]", (int)o->labels_low, (int)o->labels_high));
        failed |= json_object_set_new(object, "weights", json_string(o->beta_weights ? "beta(1,3)" : "equal"));
    }
    if (o->mode == SIM_KINDS)
        failed |= json_object_set_new(object, "kinds", json_string(o->kinds));
    if (o->mode == SIM_NETWORKS) {
        json_t *hidden = json_array();

        for (int i = 0; i < o->n_hidden; i++)
            failed |= json_array_append_new(hidden, json_integer(o->hidden[i]));
        failed |= json_object_set_new(object, "hidden", hidden);
    }
    failed |= json_object_set_new(object, "orientation", json_string("rows = true class, columns = given label"));
    failed |= json_object_set_new(object, "measured_on",
                                  json_string("all train instances with gold; of kind given, and of "
                                              "attackers that flip: their labels"));
    if (!failed)
        return object;
    json_decref(object);
    return NULL;
}

static int put_counts(json_t *meta, const struct simulation *s, const struct sim_quality *quality)
{
    size_t of_split[3] = {0};
    json_t *splits = json_object(), *classes = json_array();
    int failed = 0;

    for (size_t i = 0; i < s->n_rows; i++)
        of_split[s->dir->rows[i].split]++;
    for (int split = SPLIT_TRAIN; split <= SPLIT_TEST; split++) {
        if (of_split[split] > 0)
            failed |=
                json_object_set_new(splits, split_name((enum split)split), json_integer((json_int_t)of_split[split]));
    }
    for (size_t k = 0; k < s->n_classes; k++)
        failed |= json_array_append_new(classes, json_string(s->dir->classes[k]));
    failed |= json_object_set_new(meta, "instances", splits);
    failed |= json_object_set_new(meta, "features", json_integer((json_int_t)s->dir->n_features));
    failed |= json_object_set_new(meta, "classes", classes);
    failed |= json_object_set_new(meta, "annotators", json_integer((json_int_t)s->n_annotators));
    failed |= json_object_set_new(meta, "labels", json_integer((json_int_t)quality->n_labels));
    failed |= json_object_set_new(meta, "label_accuracy", rounded(quality->label_accuracy));
    failed |= json_object_set_new(meta, "majority_vote_accuracy", rounded(quality->majority_accuracy));
    return failed;
}

json_t *simulation_meta(const struct simulation *s, const struct sim_quality *quality, const json_t *meta)
{
    static const char *const kept[] = {"name", "source", "licence", "license", "preprocessing", "reference"};
    json_t *object = json_object();
    int failed = 0;

    for (size_t i = 0; i < sizeof kept / sizeof kept[0]; i++) {
        json_t *value = json_object_get(meta, kept[i]);

        if (value != NULL)
            failed |= json_object_set(object, kept[i], value);
    }
    failed |= put_counts(object, s, quality);
    failed |= json_object_set_new(object, "simulation", options_json(s->options));
    failed |= put_annotators(object, s);
    if (!failed)
        return object;
    json_decref(object);
    return NULL;
}

/* ---- files ------------------------------------------------------------------------------------------------------- */

struct output {
    const struct simulation *s;
    const char *folder;
    bool created[N_FILES];
    struct buf row;
};

static bool path_of(char path[PATH_BYTES], const char *folder, const char *name)
{
    int n = snprintf(path, PATH_BYTES, "%s/%s", folder, name);

    return n > 0 && n < PATH_BYTES;
}

static FILE *create_file(struct output *out, int which, struct amx_error *err)
{
    char path[PATH_BYTES];
    FILE *file = NULL;
    int fd;

    if (!path_of(path, out->folder, FILES[which])) {
        (void)error_set(err, AMX_INVALID, "The path of the folder is too long.");
        return NULL;
    }
    fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
    if (fd >= 0) {
        out->created[which] = true;
        file = fdopen(fd, "w");
    }
    if (file == NULL) {
        (void)error_set(err, AMX_IO, "%.100s: %s.", path, strerror(errno));
        if (fd >= 0)
            (void)close(fd);
    }
    return file;
}

/* Closes; whether everything reached the file. */
static enum amx_status close_file(FILE *file, enum amx_status status, struct amx_error *err)
{
    bool good = fflush(file) == 0 && ferror(file) == 0;
    int code = errno;

    good = fclose(file) == 0 && good;
    if (status == AMX_OK && !good)
        return error_set(err, code == ENOSPC ? AMX_FULL : AMX_IO, "The files cannot be written: %s.", strerror(code));
    return status;
}

static enum amx_status write_cells(struct output *out, FILE *file, const char *const *cells, size_t n)
{
    buf_clear(&out->row);
    for (size_t i = 0; i < n; i++) {
        if (i > 0)
            (void)buf_char(&out->row, ',');
        (void)csv_rows_write_cell(&out->row, cells[i], strlen(cells[i]));
    }
    (void)buf_char(&out->row, '\n');
    if (out->row.status == AMX_OK)
        (void)fwrite(buf_string(&out->row), 1, out->row.n, file); /* close_file looks at ferror */
    return out->row.status;
}

static enum amx_status write_labels(struct output *out, bool of_test, struct amx_error *err)
{
    const struct simulation *s = out->s;
    FILE *file = create_file(out, of_test ? 2 : 1, err);
    enum amx_status status = AMX_OK;

    if (file == NULL)
        return AMX_IO;
    (void)fputs("task,worker,label\n", file);
    for (size_t l = 0; l < s->n_labels && status == AMX_OK; l++) {
        const struct training_label *label = &s->labels[l];
        const char *const cells[] = {s->dir->rows[label->row].name, s->annotators[label->annotator].name,
                                     s->dir->classes[label->class_]};

        if ((s->dir->rows[label->row].split != SPLIT_TRAIN) == of_test)
            status = write_cells(out, file, cells, 3);
    }
    return close_file(file, status, err);
}

static enum amx_status write_gold(struct output *out, struct amx_error *err)
{
    const struct simulation *s = out->s;
    FILE *file = create_file(out, 3, err);
    enum amx_status status = AMX_OK;

    if (file == NULL)
        return AMX_IO;
    (void)fputs("instance,class\n", file);
    for (size_t i = 0; i < s->n_rows && status == AMX_OK; i++) {
        const struct training_row *row = &s->dir->rows[i];

        if (row->gold >= 0) {
            const char *const cells[] = {row->name, s->dir->classes[row->gold]};

            status = write_cells(out, file, cells, 2);
        }
    }
    return close_file(file, status, err);
}

/* DIR/instances.csv or .csv.gz, byte for byte; a label-only set has none. */
static enum amx_status copy_instances(struct output *out, const char *from, struct amx_error *err)
{
    static const char *const names[] = {"instances.csv", "instances.csv.gz"};
    char path[PATH_BYTES], piece[PIECE];
    gzFile in = NULL;
    FILE *file;
    int n;

    for (int i = 0; i < 2 && in == NULL; i++) {
        if (!path_of(path, from, names[i]))
            return error_set(err, AMX_INVALID, "The path of the folder is too long.");
        in = gzopen(path, "rbe");
    }
    if (in == NULL)
        return out->s->dir->n_features == 0 ? AMX_OK : error_set(err, AMX_IO, "%.100s cannot be read again.", path);
    file = create_file(out, 0, err);
    if (file == NULL) {
        (void)gzclose_r(in);
        return AMX_IO;
    }
    while ((n = gzread(in, piece, sizeof piece)) > 0)
        (void)fwrite(piece, 1, (size_t)n, file); /* close_file looks at ferror */
    return close_file(
        file, gzclose_r(in) != Z_OK || n < 0 ? error_set(err, AMX_IO, "%.100s cannot be read again.", path) : AMX_OK,
        err);
}

/* One key a line: readable, and matrices stay on theirs. */
static enum amx_status write_meta(struct output *out, const char *from, struct amx_error *err)
{
    struct sim_quality quality;
    json_t *before = NULL, *meta = NULL;
    enum amx_status status = simulation_quality(out->s, &quality, err);
    FILE *file;
    const char *separator = "{\n ";

    if (status == AMX_OK)
        status = data_dir_meta(from, &before, err);
    if (status == AMX_OK && (meta = simulation_meta(out->s, &quality, before)) == NULL)
        status = error_set(err, AMX_NO_MEMORY, "Out of memory.");
    json_decref(before);
    if (status != AMX_OK)
        return status;
    file = create_file(out, 4, err);
    for (void *at = json_object_iter(meta); file != NULL && at != NULL; at = json_object_iter_next(meta, at)) {
        struct buf value = BUF_INIT((size_t)64 << 20);

        status = status == AMX_OK ? jsonx_write(&value, json_object_iter_value(at)) : status;
        (void)fprintf(file, "%s\"%s\": %s", separator, json_object_iter_key(at), buf_string(&value));
        separator = ",\n ";
        buf_done(&value);
    }
    json_decref(meta);
    if (file == NULL)
        return AMX_IO;
    (void)fputs("\n}\n", file);
    return close_file(file, status, err);
}

static bool has_test_labels(const struct simulation *s)
{
    for (size_t l = 0; l < s->n_labels; l++) {
        if (s->dir->rows[s->labels[l].row].split != SPLIT_TRAIN)
            return true;
    }
    return false;
}

enum amx_status simulation_write(const struct simulation *s, const char *from, const char *folder,
                                 struct amx_error *err)
{
    struct output out = {.s = s, .folder = folder, .row = BUF_INIT(ROW_BYTES)};
    enum amx_status status = AMX_OK;

    if (mkdir(folder, 0777) != 0 && errno != EEXIST)
        return error_set(err, AMX_IO, "%.100s: %s.", folder, strerror(errno));
    if ((status = copy_instances(&out, from, err)) == AMX_OK && (status = write_labels(&out, false, err)) == AMX_OK &&
        (status = write_gold(&out, err)) == AMX_OK && has_test_labels(s))
        status = write_labels(&out, true, err);
    if (status == AMX_OK)
        status = write_meta(&out, from, err);
    for (int i = 0; i < N_FILES && status != AMX_OK; i++) {
        char path[PATH_BYTES];

        if (out.created[i] && path_of(path, folder, FILES[i]))
            (void)unlink(path); /* the failure that brought us here is the one to tell */
    }
    buf_done(&out.row);
    return status;
}
