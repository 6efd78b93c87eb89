/* bulk.h - many rows in one body: labels, instances or gold labels as JSON, NDJSON, CSV or npy.
 *
 * Rows are parsed in the HTTP thread as the bytes come in and handed to the writer in batches (WRITER_BULK_ROWS or
 * 2 MiB, one transaction each: every page that it touches is written once, however many of its rows lie there);
 * with two batches under way the request is suspended inside `body`, so memory does not grow with the body. Every
 * row has an outcome of its own: a bad line is an entry in `errors` and stops nobody else. What was committed stays
 * when the body is cut off: rows are upserts and safe to send again.
 *
 * One job instead of many (single_job): with ?atomic=true, where any error undoes all, and with an Idempotency-Key,
 * where the answer must be stored in the same transaction.
 *
 * The answer: {"accepted", "created", "updated", "rejected", "unchanged" (labels), "errors" (100 at most),
 * "errors_truncated"}, 201 when all are new, else 200; all rejected: 422 with the same members. `accepted` counts
 * every row that is not rejected; a late label that went to history counts as updated. With Accept:
 * application/x-ndjson one line per row instead, in order: {"line": 3, "status": "created|updated|unchanged|rejected"}
 * and, when rejected, "pointer" and "detail".
 */
#ifndef ENDPOINTS_INTAKE_BULK_H
#define ENDPOINTS_INTAKE_BULK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "endpoints/rows.h"
#include "endpoints/write.h"
#include "store/changes.h"
#include "store/labels.h"
#include "util/lines.h"

enum {
    BULK_BATCH_ROWS = WRITER_BULK_ROWS,
    BULK_BATCH_BYTES = 2 * 1024 * 1024,
    BULK_UNDER_WAY = 2,
    BULK_ERRORS = 100
};

enum bulk_outcome {
    BULK_PENDING,
    BULK_CREATED,
    BULK_UPDATED,
    BULK_UNCHANGED,
    BULK_REJECTED
};

struct bulk_row {
    uint64_t line;
    enum bulk_outcome outcome;
    uint32_t labels, changed; /* labels taken with this row; those that wrote something */
    enum problem problem;     /* when rejected, with: */
    const char *pointer;      /* in the batch's arena */
    const char *detail;
    union {
        struct label_in label;
        struct instance_in instance;
        struct gold_in gold;
    } as;
    struct label_result label; /* of a label; complete when the batch is applied, as of an instance: */
    enum put_outcome put;
    int64_t instance_id;
};

struct bulk;
struct bulk_csv;
struct bulk_npy;

/* What differs between labels, instances and gold. */
struct bulk_kind {
    enum {
        BULK_LABELS,
        BULK_INSTANCES,
        BULK_GOLD
    } id;
    const char *member; /* of the JSON body: "labels" */
    enum amx_status (*json)(struct row_context *c, struct scan *s, struct arena *a, struct bulk_row *row,
                            struct amx_error *err);
    /* What may stand only once in a JSON body; NULL = anything may stand twice. */
    struct slice (*key)(const struct bulk_row *row);
    /* Writer thread. AMX_OK: row->outcome is set. AMX_INVALID, NOT_FOUND, CONFLICT, TOO_LARGE: this row is rejected,
     * nothing of it is written. Others end the whole batch. */
    enum amx_status (*apply)(struct changes *ch, struct bulk *b, struct bulk_row *row, struct amx_error *err);
    /* Not NULL: the outcome is set here instead, when the whole batch is applied. */
    void (*settled)(struct bulk_row *row);
};

struct bulk_batch {
    struct write_job job;
    struct bulk *bulk;
    struct bulk_batch *next; /* finished (guarded by write.mu) or spare */
    struct arena arena;
    struct bulk_row *rows; /* [n], room for capacity */
    size_t n, capacity;
    bool accounted; /* its outcomes are in the totals */
};

struct bulk {
    struct write write; /* first */
    const struct bulk_kind *kind;
    struct row_context context;
    bool atomic, single_job, result_lines, create_instances;
    enum split split; /* ?split= of npy */

    /* Sources: one of them is in use. */
    struct lines lines;
    struct bulk_csv *csv;
    struct bulk_npy *npy;
    struct scan scan; /* whole JSON body: at the array */
    size_t scanned;   /* elements read of it */
    struct bulk_keys *keys;

    /* Batches. */
    struct bulk_batch *current, *spare;
    struct bulk_batch *finished, **finished_end; /* guarded by write.mu; in order */
    size_t submitted, done;                      /* guarded by write.mu */
    size_t wanted; /* guarded by write.mu; suspended until fewer are under way; 0 = not suspended */

    /* Totals so far. */
    uint64_t rows, bytes, created, updated, unchanged, rejected;
    uint64_t n_errors; /* rows that were refused for themselves: an atomic request rejects the others too */
    json_t *errors;
    struct buf results; /* lines of the NDJSON answer not yet in the file */
    int results_fd;     /* -1 = all in memory */
    uint64_t results_in_file;

    bool failed; /* the whole request, by: */
    enum problem problem;
    struct amx_error failure;
};

/* The start of a bulk request: project, query, Accept, Idempotency-Key. NULL: it has replied. The struct hangs on the
 * request (http_data). stream: the body will come by bulk_body. */
struct bulk *bulk_open(struct http_request *rq, const struct bulk_kind *kind, const char *const *query, bool stream);
/* The route's functions for NDJSON and CSV (and npy): start is bulk_start_stream after the kind's own checks. */
void bulk_body(struct http_request *rq, const char *data, size_t n);
void bulk_finish(struct http_request *rq);
/* Whole JSON body {"member": [...]}, scan at its root object. Opens, reads, replies later. */
void bulk_json(struct http_request *rq, const struct bulk_kind *kind, const char *const *query);

/* ---- for the sources ---- */

/* The next row, in the current batch; NULL when memory is out (bulk_fail was called). */
struct bulk_row *bulk_row(struct bulk *b, uint64_t line);
struct arena *bulk_arena(struct bulk *b); /* of the current batch */
/* The row is complete (AMX_OK), rejected (AMX_INVALID), or the request failed (others). Hands a full batch over. */
enum amx_status bulk_row_end(struct bulk *b, struct bulk_row *row, enum amx_status status, const struct amx_error *err);
/* The request as a whole fails; the first failure counts. Returns err->code. */
enum amx_status bulk_fail(struct bulk *b, enum problem problem, const struct amx_error *err);

bool bulk_csv_open(struct bulk *b);
enum amx_status bulk_csv_push(struct bulk *b, const char *data, size_t n, struct amx_error *err);
enum amx_status bulk_csv_end(struct bulk *b, struct amx_error *err);
void bulk_csv_close(struct bulk *b);
struct bulk_npy *bulk_npy_new(const char *prefix); /* NULL when memory is out */
/* Replies 400 or 422 and returns false when the query is not right. */
bool bulk_npy_open(struct http_request *rq, struct bulk *b);
enum amx_status bulk_npy_push(struct bulk *b, const char *data, size_t n, struct amx_error *err);
enum amx_status bulk_npy_end(struct bulk *b, struct amx_error *err);
void bulk_npy_close(struct bulk *b);
/* One NDJSON line (lines_fn). */
enum amx_status bulk_ndjson_line(void *context, uint64_t number, const char *text, size_t n, struct amx_error *err);
/* Finds the array in the body; false: it has replied. */
bool bulk_json_open(struct http_request *rq, struct bulk *b);
/* Reads elements until `rows` more are read or the array ends (then *ended). */
void bulk_json_read(struct bulk *b, size_t rows, bool *ended);
void bulk_json_close(struct bulk *b);

/* ---- bulk_answer.c ---- */

void bulk_account(struct bulk *b,
                  struct bulk_batch *batch); /* adds its outcomes to the totals; HTTP thread (or compose) */
enum amx_status bulk_compose(struct write *w);
void bulk_reply(struct http_request *rq, struct bulk *b);
void bulk_reply_failed(struct http_request *rq, struct write *w);

#endif
