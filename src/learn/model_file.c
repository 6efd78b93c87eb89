/* model_file.c - the portable model file; it and model_file_head.c alone know JSON (Jansson) in the learner, it SHA-256 too.
 *
 * Layout, all integers little-endian:
 *   0   8 bytes "AMXMODEL"
 *   8   u32 version (1)
 *   12  u32 length of the JSON head
 *   16  JSON head, UTF-8; then zeros up to a multiple of 64
 *   ..  tensors, float32, back to back in the order of the head
 *   ..  32 bytes SHA-256 of everything before
 * The head names method, settings, seed, classes, annotators with their label counts, and every tensor with dtype,
 * shape and offset (from the start of the tensors). No clock time: equal models are equal bytes.
 *
 * decode trusts nothing: hash first, then sizes against the file's own length before anything is allocated, then each
 * tensor against what method and settings imply, in canonical order, nothing between or after. A file that encode made
 * encodes to the same bytes again; a head in another spelling (0.20 for 0.2) becomes ours. */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <nettle/sha2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "annotmix.h"
#include "model_file_head.h"
#include "model.h"
#include "status.h"

static const char MAGIC[8] = {'A', 'M', 'X', 'M', 'O', 'D', 'E', 'L'};
enum {
    VERSION = 1,
    HEAD_START = 16,
    ALIGNMENT = 64,
    HASH_BYTES = SHA256_DIGEST_SIZE
};

/* ---- little-endian numbers --------------------------------------------------------------------------------------- */

static void put_u32(unsigned char *to, uint32_t x)
{
    for (int i = 0; i < 4; i++)
        to[i] = (unsigned char)(x >> (8 * i));
}

static uint32_t get_u32(const unsigned char *from)
{
    return (uint32_t)from[0] | (uint32_t)from[1] << 8 | (uint32_t)from[2] << 16 | (uint32_t)from[3] << 24;
}

static void put_floats(unsigned char *to, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        put_u32(to + 4 * i, bits);
    }
}

static void get_floats(float *x, const unsigned char *from, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t bits = get_u32(from + 4 * i);
        memcpy(&x[i], &bits, sizeof bits);
    }
}

static void hash_of(const unsigned char *bytes, size_t n, unsigned char *out)
{
    struct sha256_ctx context;

    sha256_init(&context);
    sha256_update(&context, n, bytes);
    sha256_digest(&context, HASH_BYTES, out);
}

/* ---- encode ------------------------------------------------------------------------------------------------------ */

static json_t *setting_json(const struct amx_setting_field *field, const double *values, size_t n)
{
    json_t *list;

    switch (field->type) {
    case AMX_SETTING_REAL:
        return isnan(values[0]) ? json_null() : json_real(values[0]);
    case AMX_SETTING_INTEGER:
        return json_integer((json_int_t)values[0]);
    case AMX_SETTING_BOOLEAN:
        return json_boolean(values[0] != 0.0);
    case AMX_SETTING_CHOICE:
        return json_string(field->choices[(size_t)values[0]]);
    case AMX_SETTING_WIDTHS:
        break;
    }
    list = json_array();
    for (size_t i = 0; i < n; i++) {
        if (json_array_append_new(list, json_integer((json_int_t)values[i])) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

/* Every function of this kind returns false when memory ran out or a name is not UTF-8. */
static bool add_settings(json_t *head, const struct amx_model *model)
{
    json_t *object = json_object();
    size_t n_fields;
    const struct amx_setting_field *fields = amx_setting_fields(&n_fields);

    if (json_object_set_new(head, "settings", object) != 0)
        return false;
    for (size_t i = 0; i < n_fields; i++) {
        double values[AMX_MAX_HIDDEN];
        size_t n;
        if (!amx_setting_applies(model->method->info.name, fields[i].name))
            continue;
        n = amx_settings_get(&model->settings, fields[i].name, values);
        if (json_object_set_new(object, fields[i].name, setting_json(&fields[i], values, n)) != 0)
            return false;
    }
    return true;
}

static bool add_fold_labels(json_t *entry, const struct amx_model *model, size_t annotator)
{
    json_t *list = json_array();

    if (json_object_set_new(entry, "fold_labels", list) != 0)
        return false;
    for (size_t f = 0; f < (size_t)model->folds; f++) {
        if (json_array_append_new(list, json_integer((json_int_t)model->fold_labels[f * model->dims.A + annotator])) !=
            0)
            return false;
    }
    return true;
}

static bool add_names(json_t *head, const struct amx_model *model)
{
    json_t *classes = model->class_names != NULL ? json_array() : json_null(), *annotators = json_array();
    int failed = json_object_set_new(head, "classes", classes); /* takes it in any case; so the other must be set too */

    failed |= json_object_set_new(head, "annotators", annotators);
    if (failed)
        return false;
    for (size_t i = 0; model->class_names != NULL && i < model->dims.C; i++) {
        if (json_array_append_new(classes, json_string(model->class_names[i])) != 0)
            return false;
    }
    for (size_t i = 0; i < model->dims.A; i++) {
        json_t *name = model->annotator_names != NULL ? json_string(model->annotator_names[i]) : json_null();
        json_t *entry = name == NULL
                            ? NULL
                            : json_pack("{s:o, s:I}", "name", name, "labels", (json_int_t)model->annotator_labels[i]);
        if (json_array_append_new(annotators, entry) != 0 || (model->folds > 0 && !add_fold_labels(entry, model, i)))
            return false;
    }
    return true;
}

static bool add_tensor(json_t *list, const char *name, int n_dims, size_t rows, size_t cols, size_t *offset)
{
    json_t *entry = json_pack("{s:s, s:s, s:[I], s:I}", "name", name, "dtype", "float32", "shape", (json_int_t)rows,
                              "offset", (json_int_t)*offset);

    if (entry != NULL && n_dims == 2 &&
        json_array_append_new(json_object_get(entry, "shape"), json_integer((json_int_t)cols)) != 0) {
        json_decref(entry);
        return false;
    }
    *offset += rows * cols * sizeof(float);
    return json_array_append_new(list, entry) == 0; /* also refuses NULL */
}

/* m0/.. of the ensemble, then f0/.. of the folds. */
static void member_name(char *out, size_t size, int ensemble, int member, const char *tensor)
{
    bool of_fold = member >= ensemble;

    (void)snprintf(out, size, "%c%d/%s", of_fold ? 'f' : 'm', of_fold ? member - ensemble : member,
                   tensor); /* sizes fit: 32 for the tensor, 48 here */
}

static bool add_tensors(json_t *head, const struct amx_model *model, size_t *bytes)
{
    json_t *list = json_array();
    size_t offset = 0;

    if (json_object_set_new(head, "tensors", list) != 0 ||
        !add_tensor(list, "feature_mean", 1, model->dims.D, 1, &offset) ||
        !add_tensor(list, "feature_scale", 1, model->dims.D, 1, &offset))
        return false;
    for (int m = 0; m < model->members; m++) {
        for (int i = 0; i < model->layout.n; i++) {
            const struct tensor *t = &model->layout.tensor[i];
            char name[48];
            member_name(name, sizeof name, model->ensemble, m, t->name);
            if (!add_tensor(list, name, t->n_dims, t->rows, t->cols, &offset))
                return false;
        }
    }
    *bytes = offset;
    return true;
}

static json_t *head_of(const struct amx_model *model, size_t *tensor_bytes)
{
    json_t *head = json_pack("{s:s, s:I, s:i, s:I, s:I, s:I, s:f}", "method", model->method->info.name, "seed",
                             (json_int_t)model->seed, "ensemble", model->ensemble, "feature_dim",
                             (json_int_t)model->dims.D, "n_classes", (json_int_t)model->dims.C, "labels_used",
                             (json_int_t)model->labels_used, "temperature", model->temperature);

    if (head == NULL ||
        (model->folds > 0 && json_object_set_new(head, "folds", json_integer((json_int_t)model->folds)) != 0) ||
        !add_settings(head, model) || !add_names(head, model) ||
        json_object_set_new(head, "data_hash",
                            model->data_hash != NULL ? json_string(model->data_hash) : json_null()) != 0 ||
        !add_tensors(head, model, tensor_bytes)) {
        json_decref(head);
        return NULL;
    }
    return head;
}

enum amx_status amx_model_encode(const struct amx_model *model, unsigned char **bytes, size_t *n_bytes,
                                 struct amx_error *err)
{
    size_t tensor_bytes = 0, length, start, total;
    errno = 0; /* Jansson returns NULL for both; this tells a bad name and memory that ran out apart */
    json_t *head = head_of(model, &tensor_bytes);
    char *text = NULL;
    unsigned char *file = NULL, *at;
    enum amx_status status = AMX_OK;

    if (head == NULL && errno == ENOMEM)
        return amx_fail_memory(err);
    if (head == NULL)
        return amx_fail(err, AMX_INVALID, "", "A class or annotator name is not valid UTF-8.");
    text = json_dumps(head, JSON_COMPACT | JSON_REAL_PRECISION(17));
    length = json_dumpb(head, NULL, 0, JSON_COMPACT | JSON_REAL_PRECISION(17));
    json_decref(head);
    if (text == NULL || strlen(text) != length) { /* Jansson can lose a part of it when memory is out */
        status = amx_fail_memory(err);
        goto done;
    }
    start = amx_round_up(HEAD_START + length, ALIGNMENT);
    total = start + tensor_bytes + HASH_BYTES;
    file = text != NULL ? calloc(total, 1) : NULL;
    if (file == NULL) {
        status = amx_fail_memory(err);
        goto done;
    }
    if (length > UINT32_MAX) {
        status = amx_fail(err, AMX_TOO_LARGE, "", "The head of the model file is larger than 4 GiB.");
        goto done;
    }
    memcpy(file, MAGIC, sizeof MAGIC);
    put_u32(file + 8, VERSION);
    put_u32(file + 12, (uint32_t)length);
    memcpy(file + HEAD_START, text, length);
    at = file + start;
    put_floats(at, model->mean, model->dims.D);
    put_floats(at + 4 * model->dims.D, model->scale, model->dims.D);
    put_floats(at + 8 * model->dims.D, model->tensors, (size_t)model->members * model->layout.compact_length);
    hash_of(file, total - HASH_BYTES, file + total - HASH_BYTES);
    *bytes = file;
    *n_bytes = total;
    file = NULL;
done:
    free(file);
    free(text);
    return status;
}

/* ---- decode ------------------------------------------------------------------------------------------------------ */

/* Or no memory to look at it: a sound file must not be called damaged for that. */
static enum amx_status corrupt(struct amx_error *err, const char *what)
{
    if (errno == ENOMEM)
        return amx_fail_memory(err);
    return amx_fail(err, AMX_CORRUPT, "", "The model file is damaged: %s.", what);
}

static bool read_count(const json_t *head, const char *key, uint64_t max, uint64_t *out)
{
    const json_t *value = json_object_get(head, key);

    if (!json_is_integer(value) || json_integer_value(value) < 0 || (uint64_t)json_integer_value(value) > max)
        return false;
    *out = (uint64_t)json_integer_value(value);
    return true;
}

static bool read_setting(const json_t *value, const struct amx_setting_field *field, struct amx_settings *out)
{
    double values[AMX_MAX_HIDDEN] = {0};
    size_t n = 1;

    switch (field->type) {
    case AMX_SETTING_REAL:
        if (!json_is_number(value) && !(json_is_null(value) && field->nullable))
            return false;
        values[0] = json_is_null(value) ? (double)NAN : json_number_value(value);
        break;
    case AMX_SETTING_INTEGER:
        if (!json_is_integer(value))
            return false;
        values[0] = (double)json_integer_value(value);
        break;
    case AMX_SETTING_BOOLEAN:
        if (!json_is_boolean(value))
            return false;
        values[0] = json_is_true(value);
        break;
    case AMX_SETTING_CHOICE:
        if (!json_is_string(value))
            return false;
        while (field->choices[(size_t)values[0]] != NULL &&
               strcmp(field->choices[(size_t)values[0]], json_string_value(value)) != 0)
            values[0] += 1.0;
        break;
    case AMX_SETTING_WIDTHS:
        n = json_array_size(value);
        if (!json_is_array(value) || n > AMX_MAX_HIDDEN)
            return false;
        for (size_t i = 0; i < n; i++) {
            if (!json_is_integer(json_array_get(value, i)))
                return false;
            values[i] = (double)json_integer_value(json_array_get(value, i));
        }
        break;
    }
    return amx_settings_set(out, field->name, values, n, NULL) == AMX_OK;
}

/* Exactly the settings the method reads. */
static bool read_settings(const json_t *head, const char *method, size_t n_features, size_t n_classes,
                          struct amx_settings *out)
{
    const json_t *object = json_object_get(head, "settings");
    size_t n_fields, n_read = 0;
    const struct amx_setting_field *fields = amx_setting_fields(&n_fields);

    amx_settings_default(n_features, out);
    if (!json_is_object(object))
        return false;
    for (size_t i = 0; i < n_fields; i++) {
        if (!amx_setting_applies(method, fields[i].name))
            continue;
        if (!read_setting(json_object_get(object, fields[i].name), &fields[i], out))
            return false;
        n_read++;
    }
    return json_object_size(object) == n_read && amx_settings_check(out, n_classes, NULL) == AMX_OK;
}

static bool same_tensor(const json_t *entry, const char *name, const struct tensor *t, size_t offset)
{
    const json_t *shape = json_object_get(entry, "shape");
    const char *own = json_string_value(json_object_get(entry, "name"));
    const char *dtype = json_string_value(json_object_get(entry, "dtype"));
    uint64_t at;

    if (own == NULL || strcmp(own, name) != 0 || dtype == NULL || strcmp(dtype, "float32") != 0 ||
        !read_count(entry, "offset", SIZE_MAX, &at) || at != offset || json_array_size(shape) != (size_t)t->n_dims)
        return false;
    if (json_integer_value(json_array_get(shape, 0)) != (json_int_t)t->rows)
        return false;
    return t->n_dims == 1 || json_integer_value(json_array_get(shape, 1)) == (json_int_t)t->cols;
}

/* The list of tensors must be exactly the one add_tensors writes, and fill the section. */
static bool check_tensors(const json_t *head, const struct layout *layout, size_t D, int ensemble, int members,
                          size_t section)
{
    const json_t *list = json_object_get(head, "tensors");
    struct tensor features = {.n_dims = 1, .rows = D, .cols = 1};
    size_t floats, offset = 0, at = 0;

    if (json_array_size(list) != 2 + (size_t)members * (size_t)layout->n ||
        !amx_size_mul(&floats, layout->compact_length, (size_t)members) || !amx_size_add(&floats, floats, 2 * D) ||
        !amx_size_mul(&floats, floats, sizeof(float)) || floats != section)
        return false;
    if (!same_tensor(json_array_get(list, at++), "feature_mean", &features, offset))
        return false;
    offset += D * sizeof(float);
    if (!same_tensor(json_array_get(list, at++), "feature_scale", &features, offset))
        return false;
    offset += D * sizeof(float);
    for (int m = 0; m < members; m++) {
        for (int i = 0; i < layout->n; i++) {
            const struct tensor *t = &layout->tensor[i];
            char name[48];
            member_name(name, sizeof name, ensemble, m, t->name);
            if (!same_tensor(json_array_get(list, at++), name, t, offset))
                return false;
            offset += t->rows * t->cols * sizeof(float);
        }
    }
    return true;
}

static bool read_classes(const json_t *head, struct amx_model *model)
{
    const json_t *list = json_object_get(head, "classes");

    if (json_is_null(list))
        return true;
    if (json_array_size(list) != model->dims.C || (model->class_names = calloc(model->dims.C, sizeof(char *))) == NULL)
        return false;
    for (size_t i = 0; i < model->dims.C; i++) {
        const char *name = json_string_value(json_array_get(list, i));
        if (name == NULL || (model->class_names[i] = strdup(name)) == NULL)
            return false;
    }
    return true;
}

/* The annotator's labels fold by fold; they add up to all of them. */
static bool read_fold_labels(const json_t *entry, struct amx_model *model, size_t annotator)
{
    const json_t *list = json_object_get(entry, "fold_labels");
    uint64_t total = 0;

    if (!json_is_array(list) || json_array_size(list) != (size_t)model->folds)
        return false;
    for (size_t f = 0; f < (size_t)model->folds; f++) {
        const json_t *n = json_array_get(list, f);
        if (!json_is_integer(n) || json_integer_value(n) < 0 || json_integer_value(n) > UINT32_MAX)
            return false;
        model->fold_labels[f * model->dims.A + annotator] = (uint64_t)json_integer_value(n);
        total += (uint64_t)json_integer_value(n);
    }
    return total == model->annotator_labels[annotator];
}

static bool read_annotators(const json_t *head, struct amx_model *model)
{
    const json_t *list = json_object_get(head, "annotators");
    const size_t n = model->dims.A;
    uint64_t total = 0;
    bool named = n > 0 && json_is_string(json_object_get(json_array_get(list, 0), "name"));

    if (named && (model->annotator_names = calloc(n, sizeof(char *))) == NULL)
        return false;
    for (size_t i = 0; i < n; i++) {
        const json_t *entry = json_array_get(list, i), *name = json_object_get(entry, "name");
        if (json_object_size(entry) != (model->folds > 0 ? 3 : 2) ||
            !read_count(entry, "labels", UINT32_MAX, &model->annotator_labels[i]) ||
            (model->folds > 0 && !read_fold_labels(entry, model, i)))
            return false;
        total += model->annotator_labels[i];
        if (named ? !json_is_string(name) : !json_is_null(name))
            return false;
        if (named && (model->annotator_names[i] = strdup(json_string_value(name))) == NULL)
            return false;
    }
    return total == model->labels_used;
}

static bool read_extras(const json_t *head, struct amx_model *model)
{
    const json_t *hash = json_object_get(head, "data_hash"), *temperature = json_object_get(head, "temperature");

    if (!json_is_real(temperature) || !(json_real_value(temperature) > 0.0))
        return false;
    model->temperature = json_real_value(temperature);
    if (json_is_null(hash))
        return true;
    return json_is_string(hash) && (model->data_hash = strdup(json_string_value(hash))) != NULL;
}

/* Variances must not be negative and scales must be positive: prediction takes roots and divides. */
static bool check_values(const struct amx_model *model)
{
    for (size_t j = 0; j < model->dims.D; j++) {
        if (!isfinite(model->mean[j]) || !isfinite(model->scale[j]) || !(model->scale[j] > 0.0f))
            return false;
    }
    for (int m = 0; m < model->members; m++) {
        const float *compact = model_member(model, m);
        for (int i = 0; i < model->layout.n; i++) {
            const struct tensor *t = &model->layout.tensor[i];
            bool variance = strstr(t->name, "running_var") != NULL;
            for (size_t j = 0; j < t->rows * t->cols; j++) {
                float x = compact[t->compact + j];
                if (!isfinite(x) || (variance && x < 0.0f))
                    return false;
            }
        }
    }
    return true;
}

/* The numbers of a head. */
struct counts {
    uint64_t seed, ensemble, folds, D, C, labels;
    size_t A;
};

static bool read_counts(const json_t *head, struct counts *n)
{
    const bool folded = json_object_get(head, "folds") != NULL;

    n->folds = 0;
    n->A = json_array_size(json_object_get(head, "annotators"));
    return json_object_size(head) == (folded ? 13 : 12) && n->A < UINT32_MAX &&
           (!folded || (read_count(head, "folds", 20, &n->folds) && n->folds >= 2)) &&
           read_count(head, "seed", (UINT64_C(1) << 53) - 1, &n->seed) &&
           read_count(head, "ensemble", 100, &n->ensemble) && n->ensemble >= 1 &&
           read_count(head, "feature_dim", AMX_MAX_FEATURES, &n->D) && n->D >= 1 &&
           read_count(head, "n_classes", AMX_MAX_CLASSES, &n->C) && n->C >= 2 &&
           read_count(head, "labels_used", UINT32_MAX, &n->labels);
}

/* Fills the model from head and section, which agree with its layout. */
static enum amx_status fill(struct amx_model *model, const json_t *head, const unsigned char *section,
                            struct amx_error *err)
{
    const size_t D = model->dims.D;

    get_floats(model->mean, section, D);
    get_floats(model->scale, section + 4 * D, D);
    get_floats(model->tensors, section + 8 * D, (size_t)model->members * model->layout.compact_length);
    if (!read_classes(head, model) || !read_annotators(head, model) || !read_extras(head, model))
        return corrupt(err, "classes, annotators or another part of its head is wrong, or memory ran out");
    if (!check_values(model))
        return corrupt(err, "a tensor holds a number that cannot be");
    return model_prepare(model, err);
}

/* The head agrees with the layout it implies; then the model is made and filled. */
static enum amx_status build(const json_t *head, const unsigned char *section, size_t section_bytes,
                             struct amx_model **out, struct amx_error *err)
{
    const char *name = json_string_value(json_object_get(head, "method"));
    const struct amx_method *method = name != NULL ? method_find(name) : NULL;
    struct counts n;
    struct amx_settings settings;
    struct layout layout;
    struct dims dims;
    struct amx_model *model = NULL;
    enum amx_status status;

    if (method == NULL)
        return corrupt(err, "its method is unknown");
    if (!read_counts(head, &n))
        return corrupt(err, "a number in its head is missing or out of range");
    if (!read_settings(head, name, n.D, n.C, &settings))
        return corrupt(err, "its settings are missing or out of range");
    dims_init(&dims, &settings, n.D, n.C, n.A);
    layout_init(&layout);
    if (!method->layout(&layout, &dims) || !check_tensors(head, &layout, n.D, (int)n.ensemble,
                                                          model_members((int)n.ensemble, (int)n.folds), section_bytes))
        return corrupt(err, "its tensors do not match its settings");
    status = model_new_folds(method, &settings, n.D, n.C, n.A, (int)n.ensemble, (int)n.folds, &model, err);
    if (status != AMX_OK)
        return status;
    model->seed = n.seed;
    model->labels_used = n.labels;
    if ((status = fill(model, head, section, err)) != AMX_OK) {
        amx_model_free(model);
        return status;
    }
    *out = model;
    return AMX_OK;
}

enum amx_status amx_model_decode(const unsigned char *bytes, size_t n_bytes, struct amx_model **out,
                                 struct amx_error *err)
{
    unsigned char hash[HASH_BYTES];
    size_t length, start, end;
    json_t *head;
    enum amx_status status;

    errno = 0; /* see corrupt() */
    if (n_bytes < HEAD_START + HASH_BYTES || memcmp(bytes, MAGIC, sizeof MAGIC) != 0)
        return amx_fail(err, AMX_CORRUPT, "", "This is not a model file: it does not start with AMXMODEL.");
    if (get_u32(bytes + 8) != VERSION)
        return amx_fail(err, AMX_CORRUPT, "", "The model file has version %" PRIu32 "; this program reads version %d.",
                        get_u32(bytes + 8), (int)VERSION);
    hash_of(bytes, n_bytes - HASH_BYTES, hash);
    if (memcmp(hash, bytes + n_bytes - HASH_BYTES, HASH_BYTES) != 0)
        return corrupt(err, "its SHA-256 does not match, so it was cut or changed");
    length = get_u32(bytes + 12);
    end = n_bytes - HASH_BYTES;
    start = amx_round_up(HEAD_START + length, ALIGNMENT);
    if (length > end || start > end)
        return corrupt(err, "its head is longer than the file");
    for (size_t i = HEAD_START + length; i < start; i++) {
        if (bytes[i] != 0)
            return corrupt(err, "the padding after its head is not zero");
    }
    if (length > 0 && memchr(bytes + HEAD_START, 0, length) != NULL) /* Jansson passes over one behind a number */
        return corrupt(err, "its head holds a 0 byte");
    head = model_file_head_load((const char *)bytes + HEAD_START, length); /* errno says why not, see corrupt() */
    if (!json_is_object(head)) {
        json_decref(head);
        return corrupt(err, "its head is not a JSON object");
    }
    status = build(head, bytes + start, end - start, out, err);
    json_decref(head);
    return status;
}
