/* rows.h - one label, instance or gold label as it came in: parsed, and checked as far as that goes without the
 * database (fields, names, classes, numbers). The writer resolves the rest (is there such an instance?).
 *
 * Every parser gives AMX_OK, AMX_INVALID (err has pointer and sentence; context->problem says which kind) or
 * AMX_NO_MEMORY. Texts and numbers of a row lie in the arena; nothing of the input is kept.
 */
#ifndef ENDPOINTS_ROWS_H
#define ENDPOINTS_ROWS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "annotmix.h"
#include "endpoints/arena.h"
#include "endpoints/problem.h"
#include "endpoints/scan.h"
#include "store/instances.h"
#include "util/buf.h"
#include "work/catalog.h"

enum {
    ROW_NO_CLASS = -1
};

struct label_in {
    struct slice instance, annotator;
    struct slice ref; /* bytes NULL = none */
    int class_index;  /* ROW_NO_CLASS when skipped */
    bool skipped;
    int64_t given_at_ms; /* 0 = not said */
    int64_t duration_ms; /* -1 = not said */
};

struct instance_in {
    struct slice id;
    const float *features;   /* [D] or NULL */
    enum split split;        /* NONE = not said */
    struct slice metadata;   /* JSON text; bytes NULL = not said */
    int gold;                /* ROW_NO_CLASS = not said */
    struct label_in *labels; /* [n_labels]; their instance is id */
    size_t n_labels;
};

struct gold_in {
    struct slice instance;
    int class_index;
};

/* What the rows of one request are checked against. */
struct row_context {
    const struct project_info *project; /* borrowed */
    bool may_gold;                      /* the token has the scope gold */
    bool bound;                         /* to one annotator: */
    char annotator[256];
    size_t metadata_bytes; /* limit */
    enum problem problem;  /* kind of the last AMX_INVALID */
};

/* Reads one row at s (an object); s->why != NULL afterwards when the grammar was broken. prefix: pointer of the row
 * ("" when the line says where). */
AMX_CHECK enum amx_status row_label_json(struct row_context *c, struct scan *s, const char *prefix, struct arena *a,
                                         struct label_in *out, struct amx_error *err);
AMX_CHECK enum amx_status row_instance_json(struct row_context *c, struct scan *s, struct arena *a,
                                            struct instance_in *out, struct amx_error *err);
AMX_CHECK enum amx_status row_gold_json(struct row_context *c, struct scan *s, struct arena *a, struct gold_in *out,
                                        struct amx_error *err);

/* The checks by themselves, for CSV and npy: each fails at prefix/name. Slices are copied into the arena. */
enum amx_status row_name(struct row_context *c, struct slice text, const char *prefix, const char *name,
                         struct arena *a, struct slice *out, struct amx_error *err);
enum amx_status row_class(struct row_context *c, struct slice text, const char *prefix, const char *name, int *out,
                          struct amx_error *err);
enum amx_status row_annotator_allowed(struct row_context *c, struct slice annotator, const char *prefix,
                                      struct amx_error *err);
enum amx_status row_given_at(struct row_context *c, struct slice text, const char *prefix, int64_t *out,
                             struct amx_error *err);
enum amx_status row_duration(struct row_context *c, struct slice text, const char *prefix, int64_t *out,
                             struct amx_error *err);
enum amx_status row_split_of(struct row_context *c, struct slice text, enum split *out, struct amx_error *err);
/* AMX_OK when value is finite with |value| <= 1e6; else AMX_INVALID at /features/i naming `text`. */
enum amx_status row_feature(struct row_context *c, double value, struct slice text, size_t i, struct amx_error *err);
enum amx_status row_metadata(struct row_context *c, struct slice json, struct arena *a, struct slice *out,
                             struct amx_error *err);
/* A label whose fields are read: class against skipped, bound annotator. */
enum amx_status row_label_check(struct row_context *c, const struct label_in *row, const char *prefix,
                                struct amx_error *err);
/* AMX_INVALID of this kind at prefix/name. */
enum amx_status row_fail(struct row_context *c, enum problem problem, struct amx_error *err, const char *prefix,
                         const char *name, const char *format, ...) __attribute__((format(printf, 6, 7)));

#endif
