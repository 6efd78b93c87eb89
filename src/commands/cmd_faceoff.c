/* cmd_faceoff.c - `annotmixd faceoff DIR`: every method on the same folder, one table, best first (work/face_off/face_off.h says
 * by what). On standard output the table; with --json one more line, for programs; --csv and --markdown write the same
 * table to files. On standard error a progress bar when that is a terminal. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cmd.h"
#include "files/data_dir.h"
#include "progress_bar.h"
#include "util/buf.h"
#include "util/clock.h"
#include "util/error.h"
#include "util/jsonx.h"
#include "util/numbers.h"
#include "work/face_off/face_off.h"
#include "work/face_off/face_off_request.h"

enum {
    MAX_SET = 64,
    MAX_TEXT = 8 << 20
};

struct faceoff {
    const char *dir, *csv, *markdown;
    struct face_off request;
    int threads;
    bool json;
    const char *set[MAX_SET];
    size_t n_set;
};

/* ---- command line ------------------------------------------------------------------------------------------------ */

struct words {
    const char *methods, *repeat, *seed, *folds, *threads;
};

/* The words as a request of the server: read by the same code. False after a message. */
static bool settle(const struct words *w, struct faceoff *f)
{
    const struct {
        const char *name, *text;
    } numbers[] = {{"repeat", w->repeat}, {"seed", w->seed}, {"folds", w->folds}};
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    int64_t threads = cores > 1 ? cores : 1, number;
    json_t *object = json_object();
    struct amx_error err;
    enum amx_status status;
    int failed = 0;

    memset(&err, 0, sizeof err);
    if (w->methods != NULL)
        failed |= json_object_set_new(object, "methods", options_list(w->methods));
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        if (numbers[i].text != NULL)
            failed |= json_object_set_new(object, numbers[i].name,
                                          number_int(numbers[i].text, strlen(numbers[i].text), &number)
                                              ? json_integer(number)
                                              : json_string(numbers[i].text));
    }
    status = failed ? error_set(&err, AMX_NO_MEMORY, "Out of memory or not UTF-8.")
                    : face_off_parse(object, &f->request, &err);
    json_decref(object);
    if (status == AMX_OK && w->threads != NULL &&
        (!number_int(w->threads, strlen(w->threads), &threads) || threads < 1 || threads > 64))
        status = error_set(&err, AMX_INVALID, "--threads must be an integer from 1 to 64.");
    f->threads = (int)threads;
    if (status != AMX_OK)
        command_error("faceoff", "%s", err.text);
    return status == AMX_OK;
}

/* False: done already, with *exit_status. */
static bool parse(int argc, char **argv, struct faceoff *f, int *exit_status)
{
    struct words w = {0};
    const char *set = NULL, *words[1];
    size_t n_words = 0;
    const struct option table[] = {
        {"--methods", "A,B,...", "methods to compare (all of them)", &w.methods, NULL},
        {"--repeat", "R", "fits of each method, with seeds S, S+1, ...; 1 to 100 (1)", &w.repeat, NULL},
        {"--seed", "S", "seed of the first repeat, 0 to 2^53-1 (1)", &w.seed, NULL},
        {"--folds", "K", "figures of held-out labels from so many folds, 2 to 20 (5 without gold to compare by)",
         &w.folds, NULL},
        {"--set", "KEY=VALUE", "a setting for every method that reads it, may be repeated: --set epochs=20", &set,
         NULL},
        {"--threads", "N", "fits side by side (the number of cores); changes nothing but the time", &w.threads, NULL},
        {"--csv", "FILE", "write the table as CSV, all figures", &f->csv, NULL},
        {"--markdown", "FILE", "write the table as Markdown", &f->markdown, NULL},
        {"--json", NULL, "one JSON object as the last line", NULL, &f->json},
        {0}};

    if (!options_parse(argc, argv, table, "DIR [--methods A,B,...] [--repeat R] [--seed S] [--folds K] [--json]", 1, 1,
                       words, &n_words, exit_status))
        return false;
    *exit_status = EXIT_USAGE;
    f->dir = words[0];
    return settle(&w, f);
}

/* ---- the comparison ---------------------------------------------------------------------------------------------- */

struct watch {
    struct progress_bar bar;
    int64_t begun_ms;
};

static void show_progress(const struct face_off_progress *p, void *context)
{
    struct watch *watch = context;
    const double seconds = (double)(clock_monotonic_ms() - watch->begun_ms) / 1000;
    char text[128];

    (void)snprintf(text, sizeof text, "fit %zu of %zu  %s  %.0f s left", p->done < p->fits ? p->done + 1 : p->fits,
                   p->fits, p->method, p->fraction > 0 ? seconds * (1 - p->fraction) / p->fraction : 0.0);
    progress_bar_draw(&watch->bar, p->fraction, text);
}

static enum amx_status write_file(const char *path, const struct buf *text, struct amx_error *err)
{
    FILE *file = fopen(path, "we");
    bool good = file != NULL && fwrite(buf_string(text), 1, text->n, file) == text->n;
    int code = errno;

    if (file != NULL && fclose(file) != 0) {
        code = good ? errno : code;
        good = false;
    }
    return good ? AMX_OK : error_set(err, code == ENOSPC ? AMX_FULL : AMX_IO, "%.120s: %s.", path, strerror(code));
}

typedef enum amx_status render_fn(const json_t *table, struct buf *out);

/* To the file; path NULL: to standard output. */
static enum amx_status render(render_fn *fn, const json_t *table, const char *path, struct amx_error *err)
{
    AUTO(buf) text = BUF_INIT(MAX_TEXT);

    if (fn(table, &text) != AMX_OK)
        return error_set(err, text.status, "The table cannot be written: %s.", amx_status_text(text.status));
    if (path != NULL)
        return write_file(path, &text, err);
    (void)fwrite(buf_string(&text), 1, text.n, stdout); /* the end looks at stdout */
    return AMX_OK;
}

static enum amx_status dump(const json_t *table, struct buf *out)
{
    (void)jsonx_write(out, table);
    return buf_char(out, '\n');
}

static enum amx_status compare(const struct faceoff *f, const struct training_data *data, json_t **table,
                               struct amx_error *err)
{
    struct watch watch = {.begun_ms = clock_monotonic_ms()};
    struct face_off_options options = {.threads = f->threads, .set = f->set, .n_set = f->n_set, .context = &watch};
    enum amx_status status;

    progress_bar_init(&watch.bar, STDERR_FILENO);
    if (watch.bar.visible)
        options.progress = show_progress;
    status = face_off_do(&f->request, data, &options, table, err);
    progress_bar_end(&watch.bar);
    return status;
}

/* Whether any method came through. */
static bool any_succeeded(const json_t *table)
{
    const json_t *rows = json_object_get(table, "rows");

    for (size_t i = 0; i < json_array_size(rows); i++) {
        const char *state = json_string_value(json_object_get(json_array_get(rows, i), "state"));

        if (state != NULL && strcmp(state, "succeeded") == 0)
            return true;
    }
    return false;
}

/* *usage_wrong: a --set was not possible. */
static enum amx_status run(const struct faceoff *f, bool *usage_wrong, struct amx_error *err)
{
    struct data_dir dir = {0};
    struct training_data data = {.built = true};
    json_t *table = NULL;
    enum amx_status status;

    if ((status = data_dir_read(f->dir, &dir, err)) == AMX_OK &&
        (status = training_data_build(&dir.view, &data, err)) == AMX_OK &&
        (status = training_data_check(&data, err)) == AMX_OK) {
        status = compare(f, &data, &table, err);
        *usage_wrong = status == AMX_INVALID;
    }
    if (status == AMX_OK && (status = render(face_off_text, table, NULL, err)) == AMX_OK && f->csv != NULL)
        status = render(face_off_csv, table, f->csv, err);
    if (status == AMX_OK && f->markdown != NULL)
        status = render(face_off_markdown, table, f->markdown, err);
    if (status == AMX_OK && f->json)
        status = render(dump, table, NULL, err);
    if (status == AMX_OK && !any_succeeded(table))
        status = error_set(err, AMX_NOTHING, "No method came through.");
    json_decref(table);
    training_data_done(&data);
    data_dir_done(&dir);
    return status;
}

int cmd_faceoff(int argc, char **argv)
{
    struct faceoff f = {0};
    char **rest = calloc((size_t)argc + 1, sizeof *rest);
    struct amx_error err;
    int exit_status = EXIT_USAGE, n;

    memset(&err, 0, sizeof err);
    if (rest == NULL)
        return cmd_end("faceoff", error_set(&err, AMX_NO_MEMORY, "Out of memory."), &err);
    n = options_take_repeated(argc, argv, "--set", MAX_SET, rest, f.set, &f.n_set);
    if (n >= 0 && parse(n, rest, &f, &exit_status)) {
        bool usage_wrong = false;
        enum amx_status status = run(&f, &usage_wrong, &err);

        exit_status = cmd_end("faceoff", status, &err);
        if (usage_wrong)
            exit_status = EXIT_USAGE;
        if (status == AMX_OK && (fflush(stdout) != 0 || ferror(stdout)))
            exit_status = EXIT_FAILED;
    }
    free(rest);
    return exit_status;
}
