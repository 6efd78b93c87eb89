/* label_model.c - see label_model.h. Every size is checked against the number of bytes before anything is believed. */
#include "work/runs/label_model.h"

#include <stdlib.h>
#include <string.h>

#include "util/error.h"
#include "util/size.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the bytes hold little-endian numbers as they are");

enum {
    VERSION = 1,
    HEAD_BYTES = 24
};
static const char MAGIC[] = "AMXLABEL";

/* An instance and where its row stands. */
struct place {
    int64_t id;
    size_t row;
};

static int by_id(const void *a, const void *b)
{
    const struct place *x = a, *y = b;

    return (x->id > y->id) - (x->id < y->id);
}

/* Where the numbers begin, for class names of so many bytes in all. */
static size_t numbers_at(size_t n_classes, size_t name_bytes)
{
    return (HEAD_BYTES + 4 * n_classes + name_bytes + 7) / 8 * 8;
}

static void write_head(unsigned char *bytes, size_t n, const char *const *class_names, size_t n_classes)
{
    const uint32_t version = VERSION, classes = (uint32_t)n_classes;
    const uint64_t instances = n;
    unsigned char *at = bytes + HEAD_BYTES;

    memcpy(bytes, MAGIC, 8);
    memcpy(bytes + 8, &version, 4);
    memcpy(bytes + 12, &classes, 4);
    memcpy(bytes + 16, &instances, 8);
    for (size_t k = 0; k < n_classes; k++) {
        uint32_t length = (uint32_t)strlen(class_names[k]);

        memcpy(at, &length, 4);
        memcpy(at + 4, class_names[k], length);
        at += 4 + length;
    }
}

enum amx_status label_model_encode(const int64_t *ids, const double *posterior, size_t n,
                                   const char *const *class_names, size_t n_classes, unsigned char **bytes,
                                   size_t *n_bytes, struct amx_error *err)
{
    size_t name_bytes = 0, row_bytes = sizeof(int64_t) + n_classes * sizeof(float), total, places;
    unsigned char *all = NULL;
    struct place *order = NULL;

    for (size_t k = 0; k < n_classes; k++)
        name_bytes += strlen(class_names[k]);
    if (size_mul(&total, n, row_bytes) && size_add(&total, total, numbers_at(n_classes, name_bytes)) &&
        size_mul(&places, n + 1, sizeof *order)) {
        all = calloc(total, 1);
        order = malloc(places);
    }
    if (all == NULL || order == NULL) {
        free(order);
        free(all);
        return error_set(err, AMX_NO_MEMORY, "Out of memory.");
    }
    for (size_t i = 0; i < n; i++)
        order[i] = (struct place){ids[i], i};
    qsort(order, n, sizeof *order, by_id);
    write_head(all, n, class_names, n_classes);
    int64_t *to_ids = (int64_t *)(void *)(all + numbers_at(n_classes, name_bytes));
    float *to = (float *)(void *)(to_ids + n);
    for (size_t i = 0; i < n; i++) {
        to_ids[i] = order[i].id;
        for (size_t k = 0; k < n_classes; k++)
            to[i * n_classes + k] = (float)posterior[order[i].row * n_classes + k];
    }
    free(order);
    *bytes = all;
    *n_bytes = total;
    return AMX_OK;
}

bool label_model_is(const unsigned char *bytes, size_t n)
{
    return n >= HEAD_BYTES && memcmp(bytes, MAGIC, 8) == 0;
}

/* The class names, 0-terminated, behind an array of pointers to them; *end: first byte after them. NULL: cut, or no
 * memory (*cut says which). */
static char *read_names(const unsigned char *bytes, size_t n, size_t n_classes, size_t *end, bool *cut)
{
    size_t at = HEAD_BYTES, room = n_classes * sizeof(char *) + n_classes, name_bytes = 0;
    uint32_t length;

    *cut = true;
    for (size_t k = 0; k < n_classes; k++) {
        if (n - at < 4)
            return NULL;
        memcpy(&length, bytes + at, 4);
        if (n - at - 4 < length)
            return NULL;
        at += 4 + (size_t)length;
        name_bytes += length;
    }
    *cut = false;
    char *block = malloc(room + name_bytes + 1);
    if (block == NULL)
        return NULL;
    char **names = (char **)(void *)block;
    char *text = block + n_classes * sizeof(char *);
    at = HEAD_BYTES;
    for (size_t k = 0; k < n_classes; k++) {
        memcpy(&length, bytes + at, 4);
        names[k] = text;
        memcpy(text, bytes + at + 4, length);
        text[length] = '\0';
        text += length + 1;
        at += 4 + (size_t)length;
    }
    *end = (at + 7) / 8 * 8;
    return block;
}

enum amx_status label_model_decode(unsigned char *bytes, size_t n, struct label_model **out, struct amx_error *err)
{
    struct label_model model = {.n_instances = 0};
    uint32_t version = 0, classes = 0;
    uint64_t instances = 0;
    size_t at = 0, numbers, row_bytes;
    bool cut = false;

    if (!label_model_is(bytes, n))
        return error_set(err, AMX_CORRUPT, "The bytes are no result of labels alone.");
    memcpy(&version, bytes + 8, 4);
    memcpy(&classes, bytes + 12, 4);
    memcpy(&instances, bytes + 16, 8);
    if (version != VERSION || classes < 1 || classes > AMX_MAX_CLASSES)
        return error_set(err, AMX_CORRUPT, "The result of labels alone is of another version.");
    model.n_classes = classes;
    model.n_instances = (size_t)instances;
    model.names = read_names(bytes, n, classes, &at, &cut);
    if (model.names == NULL && !cut)
        return error_set(err, AMX_NO_MEMORY, "Out of memory.");
    row_bytes = sizeof(int64_t) + classes * sizeof(float);
    if (cut || at > n || !size_mul(&numbers, model.n_instances, row_bytes) || numbers != n - at) {
        free(model.names);
        return error_set(err, AMX_CORRUPT, "The result of labels alone is cut or too long.");
    }
    struct label_model *made = malloc(sizeof *made);
    if (made == NULL) {
        free(model.names);
        return error_set(err, AMX_NO_MEMORY, "Out of memory.");
    }
    model.class_names = (const char *const *)(void *)model.names;
    model.instance_ids = (const int64_t *)(const void *)(bytes + at);
    model.posterior = (const float *)(const void *)(model.instance_ids + model.n_instances);
    model.memory = bytes;
    model.memory_bytes = n + sizeof model;
    *made = model;
    *out = made;
    return AMX_OK;
}

void label_model_free(struct label_model *model)
{
    if (model == NULL)
        return;
    free(model->names);
    free(model->memory);
    free(model);
}
