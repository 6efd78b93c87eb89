/* rows.c - targets for rows of labels, instances and gold labels: JSON, NDJSON, CSV and npy.
 *
 * Each body is read twice, whole and in small pieces: the rows, their outcomes and the errors must be the same. A row
 * that was taken must keep the promises of rows.h (names, classes, finite numbers).
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "endpoints/intake/bulk.h"
#include "fuzz.h"
#include "util/digest.h"
#include "util/utf8.h"
#include "work/name_index.h"

enum {
    DIMS = 2,
    CLASSES = 3,
    LINE_BYTES = 400,
    METADATA_BYTES = 100
};

static const char *const class_names[CLASSES] = {"blues", "classical", "rock"};
static const bool retired[CLASSES] = {false, true, false};

static struct project_info *project(void)
{
    static struct project_info it;
    if (it.classes == NULL)
        it = (struct project_info){.refs = 1000,
                                   .id = 7,
                                   .uid = "0123456789abcdef0123456789abcdef",
                                   .name = "music",
                                   .feature_dim = DIMS,
                                   .n_classes = CLASSES,
                                   .classes = class_names,
                                   .retired = retired,
                                   .class_index = name_index_new(class_names, CLASSES)};
    return &it;
}

static enum amx_status label_json(struct row_context *c, struct scan *s, struct arena *a, struct bulk_row *row,
                                  struct amx_error *err)
{
    return row_label_json(c, s, "", a, &row->as.label, err);
}

static enum amx_status instance_json(struct row_context *c, struct scan *s, struct arena *a, struct bulk_row *row,
                                     struct amx_error *err)
{
    return row_instance_json(c, s, a, &row->as.instance, err);
}

static enum amx_status gold_json(struct row_context *c, struct scan *s, struct arena *a, struct bulk_row *row,
                                 struct amx_error *err)
{
    return row_gold_json(c, s, a, &row->as.gold, err);
}

static const struct bulk_kind kinds[] = {
    {.id = BULK_LABELS, .member = "labels", .json = label_json},
    {.id = BULK_INSTANCES, .member = "instances", .json = instance_json},
    {.id = BULK_GOLD, .member = "gold", .json = gold_json},
};

/* ---- what a row that was taken must be ---- */

static void expect_name(struct slice name)
{
    EXPECT(name.bytes != NULL && name_valid(name.bytes, name.n, NULL));
}

static void expect_class(int class_index, bool may_be_none)
{
    EXPECT((may_be_none && class_index == ROW_NO_CLASS) || (class_index >= 0 && class_index < CLASSES));
}

static void expect_label(const struct label_in *label)
{
    expect_name(label->annotator);
    expect_class(label->class_index, label->skipped);
    EXPECT(label->skipped == (label->class_index == ROW_NO_CLASS));
    EXPECT(label->ref.bytes == NULL || name_valid(label->ref.bytes, label->ref.n, NULL));
    EXPECT(label->duration_ms >= -1);
}

static void expect_row(const struct bulk_kind *kind, const struct bulk_row *row)
{
    if (kind->id == BULK_LABELS) {
        expect_name(row->as.label.instance);
        expect_label(&row->as.label);
    } else if (kind->id == BULK_GOLD) {
        expect_name(row->as.gold.instance);
        expect_class(row->as.gold.class_index, false);
    } else {
        const struct instance_in *it = &row->as.instance;
        expect_name(it->id);
        expect_class(it->gold, true);
        for (size_t i = 0; it->features != NULL && i < DIMS; i++)
            EXPECT(fabsf(it->features[i]) <= 1e6F);
        EXPECT(it->metadata.bytes == NULL || it->metadata.n <= METADATA_BYTES);
        for (size_t i = 0; i < it->n_labels; i++)
            expect_label(&it->labels[i]);
    }
}

/* ---- a hash of all that came of a body ---- */

static void add_slice(struct digest *d, struct slice text)
{
    digest_add_u64(d, text.bytes != NULL);
    digest_add_sized(d, text.bytes, text.bytes != NULL ? text.n : 0);
}

static void add_label(struct digest *d, const struct label_in *label)
{
    add_slice(d, label->instance);
    add_slice(d, label->annotator);
    add_slice(d, label->ref);
    digest_add_u64(d, (uint64_t)(int64_t)label->class_index << 1 | label->skipped);
    digest_add_u64(d, (uint64_t)label->given_at_ms);
    digest_add_u64(d, (uint64_t)label->duration_ms);
}

static void add_row(struct digest *d, const struct bulk_kind *kind, const struct bulk_row *row)
{
    digest_add_u64(d, row->line);
    digest_add_u64(d, row->outcome);
    if (row->outcome == BULK_REJECTED) {
        digest_add_u64(d, row->problem);
        digest_add_sized(d, row->pointer, row->pointer != NULL ? strlen(row->pointer) : 0);
        digest_add_sized(d, row->detail, row->detail != NULL ? strlen(row->detail) : 0);
        return;
    }
    expect_row(kind, row);
    if (kind->id == BULK_LABELS) {
        add_label(d, &row->as.label);
    } else if (kind->id == BULK_GOLD) {
        add_slice(d, row->as.gold.instance);
        digest_add_u64(d, (uint64_t)(int64_t)row->as.gold.class_index);
    } else {
        const struct instance_in *it = &row->as.instance;
        add_slice(d, it->id);
        add_slice(d, it->metadata);
        digest_add_u64(d, (uint64_t)(int64_t)it->split);
        digest_add_u64(d, (uint64_t)(int64_t)it->gold);
        digest_add_sized(d, it->features, it->features != NULL ? DIMS * sizeof(float) : 0);
        digest_add_u64(d, it->n_labels);
        for (size_t i = 0; i < it->n_labels; i++)
            add_label(d, &it->labels[i]);
    }
}

/* ---- a bulk request without request, writer and store: with single_job all rows stay in the current batch ---- */

enum format {
    NDJSON,
    CSV,
    NPY
};

static enum amx_status push(struct bulk *b, enum format format, const char *bytes, size_t n, struct amx_error *err)
{
    switch (format) {
    case NDJSON:
        return lines_push(&b->lines, bytes, n, bulk_ndjson_line, b, err);
    case CSV:
        return bulk_csv_push(b, bytes, n, err);
    case NPY:
        break;
    }
    return bulk_npy_push(b, bytes, n, err);
}

static enum amx_status end(struct bulk *b, enum format format, struct amx_error *err)
{
    switch (format) {
    case NDJSON:
        return lines_end(&b->lines, bulk_ndjson_line, b, err);
    case CSV:
        return bulk_csv_end(b, err);
    case NPY:
        break;
    }
    return bulk_npy_end(b, err);
}

static struct row_context context_of(void)
{
    return (struct row_context){.project = project(), .may_gold = true, .metadata_bytes = METADATA_BYTES};
}

/* Reads the body in pieces of this size; gives the hash of all that came of it. */
static void read_body(enum format format, unsigned kind, const uint8_t *data, size_t n, size_t piece,
                      uint8_t out[DIGEST_BYTES])
{
    struct service service = {.config = {.line_bytes = LINE_BYTES, .atomic_lines = 1000}};
    struct bulk b = {.kind = &kinds[kind], .context = context_of(), .single_job = true, .split = SPLIT_KEEP};
    struct amx_error err = {.code = AMX_OK};
    b.write.service = &service;
    b.write.project = project();
    b.results_fd = -1;
    b.errors = json_array();
    lines_init(&b.lines, LINE_BYTES);
    EXPECT(format != CSV || bulk_csv_open(&b));
    EXPECT(format != NPY || (b.npy = bulk_npy_new("p")) != NULL);

    enum amx_status status = AMX_OK;
    for (size_t at = 0; at < n && status == AMX_OK; at += piece) {
        size_t length = n - at < piece ? n - at : piece;
        char *copy = malloc(length); /* of this size exactly, so that reading beyond it is seen */
        EXPECT(copy != NULL);
        memcpy(copy, data + at, length);
        status = push(&b, format, copy, length, &err);
        free(copy);
    }
    if (status == AMX_OK)
        status = end(&b, format, &err);
    EXPECT(status != AMX_NO_MEMORY && status != AMX_IO);
    struct digest d;
    digest_init(&d);
    digest_add_u64(&d, status);
    if (status != AMX_OK) {
        EXPECT(err.text[0] != '\0' && utf8_valid(err.text, strlen(err.text)));
        digest_add_u64(&d, err.line);
        digest_add_sized(&d, err.text, strlen(err.text));
    }
    digest_add_u64(&d, b.rows);
    for (size_t i = 0; b.current != NULL && i < b.current->n; i++)
        add_row(&d, b.kind, &b.current->rows[i]);
    digest_finish(&d, out);
    if (b.current != NULL) {
        arena_done(&b.current->arena);
        free(b.current->rows);
        free(b.current);
    }
    lines_done(&b.lines);
    bulk_csv_close(&b);
    bulk_npy_close(&b);
    json_decref(b.errors);
}

/* First byte: kind of rows and size of the pieces; the rest is the body. */
static void both_ways(enum format format, const uint8_t *data, size_t n)
{
    uint8_t choice = fuzz_byte(&data, &n), whole[DIGEST_BYTES], pieces[DIGEST_BYTES];
    unsigned kind = format == NPY ? BULK_INSTANCES : choice % 3;
    read_body(format, kind, data, n, n > 0 ? n : 1, whole);
    read_body(format, kind, data, n, 1 + choice / 3U, pieces);
    EXPECT(memcmp(whole, pieces, DIGEST_BYTES) == 0);
}

void fuzz_ndjson(const uint8_t *data, size_t n)
{
    both_ways(NDJSON, data, n);
}

void fuzz_csv_in(const uint8_t *data, size_t n)
{
    both_ways(CSV, data, n);
}

void fuzz_npy(const uint8_t *data, size_t n)
{
    both_ways(NPY, data, n);
}

/* ---- one JSON row, and the scanner against Jansson ---- */

/* The scanner knows exactly Jansson's JSON, but for nesting, numbers out of range, what is not finite, and 0 bytes (2.14
 * passes over one behind a number). */
static void compare_with_jansson(const char *text, size_t n)
{
    struct scan s;
    json_error_t why;
    scan_init(&s, text, n);
    bool scanned = utf8_valid(text, n) && scan_skip(&s) && scan_done(&s) && !s.not_finite;
    json_t *tree = json_loadb(text, n, JSON_DECODE_ANY, &why);
    if (tree != NULL)
        EXPECT(scanned || memchr(text, 0, n) != NULL || (s.why != NULL && strstr(s.why, "nest") != NULL));
    else if (scanned)
        EXPECT(json_error_code(&why) == json_error_numeric_overflow);
    json_decref(tree);
}

void fuzz_json_rows(const uint8_t *data, size_t n)
{
    unsigned kind = fuzz_byte(&data, &n) % 3;
    char *text = malloc(n > 0 ? n : 1);
    EXPECT(text != NULL);
    memcpy(text, data, n);
    compare_with_jansson(text, n);

    struct row_context context = context_of();
    struct arena arena = {0};
    struct bulk_row row = {.line = 1};
    struct amx_error err = {.code = AMX_OK};
    struct scan s;
    scan_init(&s, text, n);
    if (utf8_valid(text, n)) { /* which the callers have made sure of */
        enum amx_status status = kinds[kind].json(&context, &s, &arena, &row, &err);
        EXPECT(status == AMX_OK || status == AMX_INVALID);
        if (status == AMX_OK)
            expect_row(&kinds[kind], &row);
        else
            EXPECT(err.text[0] != '\0' && utf8_valid(err.text, strlen(err.text)) &&
                   utf8_valid(err.pointer, strlen(err.pointer)));
    }
    arena_done(&arena);
    free(text);
}
