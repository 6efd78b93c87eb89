/* bulk.c - batches between a body that comes in and the writer (bulk.h).
 *
 * A batch belongs to the HTTP thread while it is filled, to the writer while it is under way, and to the HTTP thread
 * again once done() has put it into `finished`: only the list and the counts are shared, under write.mu. Batches of
 * one project come back in the order they were handed over, so errors come out in the order of lines.
 */
#include "endpoints/intake/bulk.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "endpoints/auth.h"
#include "endpoints/page.h"
#include "util/clock.h"
#include "util/error.h"
#include "util/size.h"
#include "work/metrics.h"
#include "work/runs/trainers.h"

static struct bulk_batch *batch_of(struct write_job *job)
{
    return (struct bulk_batch *)(void *)((char *)job - offsetof(struct bulk_batch, job));
}

/* ---- batches ---- */

static void batch_free(struct bulk_batch *batch)
{
    if (batch == NULL)
        return;
    arena_done(&batch->arena);
    free(batch->rows);
    free(batch);
}

static void batches_free(struct bulk_batch *batch)
{
    while (batch != NULL) {
        struct bulk_batch *next = batch->next;
        batch_free(batch);
        batch = next;
    }
}

static void recycle(struct bulk *b, struct bulk_batch *batch)
{
    arena_clear(&batch->arena);
    batch->n = 0;
    batch->accounted = false;
    batch->job.status = AMX_OK;
    batch->next = b->spare;
    b->spare = batch;
}

static struct bulk_batch *current_batch(struct bulk *b)
{
    if (b->current != NULL)
        return b->current;
    struct bulk_batch *batch = b->spare;
    if (batch != NULL)
        b->spare = batch->next;
    else if ((batch = calloc(1, sizeof *batch)) == NULL)
        return NULL;
    batch->bulk = b;
    batch->next = NULL;
    batch->job.project_id = b->write.project->id;
    b->current = batch;
    return batch;
}

static bool batch_grow(struct bulk_batch *batch)
{
    size_t capacity = batch->capacity == 0 ? 16 : batch->capacity * 2, size;
    if (!size_mul(&size, capacity, sizeof *batch->rows))
        return false;
    struct bulk_row *rows = realloc(batch->rows, size);
    if (rows == NULL)
        return false;
    batch->rows = rows;
    batch->capacity = capacity;
    return true;
}

static enum amx_status no_memory(struct bulk *b)
{
    struct amx_error err;
    error_set(&err, AMX_NO_MEMORY, "out of memory");
    return bulk_fail(b, PROBLEM_NO_MEMORY, &err);
}

struct bulk_row *bulk_row(struct bulk *b, uint64_t line)
{
    struct bulk_batch *batch = current_batch(b);
    if (batch == NULL || (batch->n == batch->capacity && !batch_grow(batch))) {
        (void)no_memory(b); /* NULL says it */
        return NULL;
    }
    struct bulk_row *row = &batch->rows[batch->n];
    row->line = line;
    row->outcome = BULK_PENDING;
    row->labels = row->changed = 0;
    return row;
}

struct arena *bulk_arena(struct bulk *b)
{
    return &b->current->arena;
}

enum amx_status bulk_fail(struct bulk *b, enum problem problem, const struct amx_error *err)
{
    if (!b->failed) {
        b->failed = true;
        b->problem = problem;
        b->failure = *err;
    }
    return err->code;
}

/* The error's texts into the batch's arena. False: no memory. */
static bool reject(struct bulk_batch *batch, struct bulk_row *row, enum problem problem, const struct amx_error *err)
{
    row->outcome = BULK_REJECTED;
    row->problem = problem;
    row->pointer = arena_copy(&batch->arena, err->pointer, strlen(err->pointer) + 1);
    row->detail = arena_copy(&batch->arena, err->text, strlen(err->text) + 1);
    return row->pointer != NULL && row->detail != NULL;
}

/* ---- writer thread ---- */

/* The kind of problem when the database, not the parser, refused the row. */
static enum problem problem_of_row(const struct bulk *b, enum amx_status status)
{
    if (status == AMX_NOT_FOUND && b->kind->id != BULK_INSTANCES)
        return PROBLEM_UNKNOWN_INSTANCE;
    return problem_of_status(status);
}

/* And when a job failed as a whole: all it looks for is its project. */
static enum problem problem_of_job(enum amx_status status)
{
    return status == AMX_NOT_FOUND ? PROBLEM_UNKNOWN_PROJECT : problem_of_status(status);
}

static enum amx_status apply_rows(struct db *db, struct bulk_batch *batch, struct amx_error *err)
{
    struct bulk *b = batch->bulk;
    struct changes ch;
    enum amx_status begun = changes_begin(db, b->write.project->id, clock_wall_ms(), &ch, err);
    if (begun != AMX_OK)
        return begun;
    for (size_t i = 0; i < batch->n; i++) {
        struct bulk_row *row = &batch->rows[i];
        if (row->outcome == BULK_REJECTED)
            continue;
        struct amx_error why = {.code = AMX_OK};
        enum amx_status status = b->kind->apply(&ch, b, row, &why);
        if (status == AMX_OK)
            continue;
        if (status != AMX_INVALID && status != AMX_NOT_FOUND && status != AMX_CONFLICT && status != AMX_TOO_LARGE) {
            *err = why;
            err->code = status;
            return status;
        }
        if (!reject(batch, row, problem_of_row(b, status), &why))
            return error_set(err, AMX_NO_MEMORY, "out of memory");
    }
    enum amx_status status = changes_flush(&ch, err);
    for (size_t i = 0; status == AMX_OK && b->kind->settled != NULL && i < batch->n; i++) {
        if (batch->rows[i].outcome != BULK_REJECTED)
            b->kind->settled(&batch->rows[i]);
    }
    return status;
}

static enum amx_status batch_apply(struct db *db, struct write_job *job)
{
    return apply_rows(db, batch_of(job), &job->error);
}

static void tell_committed(const struct bulk *b, const struct bulk_batch *batch)
{
    uint64_t labels = 0, changed = 0;
    for (size_t i = 0; i < batch->n; i++) {
        const struct bulk_row *row = &batch->rows[i];
        labels += row->outcome != BULK_REJECTED ? row->labels : 0;
        changed += row->outcome != BULK_REJECTED ? row->changed : 0;
    }
    if (labels > 0)
        metrics_labels_accepted(b->write.service->metrics, labels);
    if (changed > 0)
        trainers_labels_written(b->write.service->trainers, b->write.project->id, changed);
}

static void batch_done(struct write_job *job)
{
    struct bulk_batch *batch = batch_of(job);
    struct bulk *b = batch->bulk;
    if (job->status == AMX_OK)
        tell_committed(b, batch);
    pthread_mutex_lock(&b->write.mu);
    *b->finished_end = batch;
    b->finished_end = &batch->next;
    b->done++;
    if (b->wanted > 0 && b->submitted - b->done < b->wanted) {
        b->wanted = 0;
        if (b->write.rq != NULL)
            http_resume(b->write.rq);
    }
    pthread_mutex_unlock(&b->write.mu);
    write_drop(&b->write);
}

/* ---- HTTP thread ---- */

static void submit_current(struct bulk *b)
{
    struct bulk_batch *batch = b->current;
    if (batch == NULL || batch->n == 0)
        return;
    b->current = NULL;
    if (b->failed) {
        recycle(b, batch);
        return;
    }
    batch->job.apply = batch_apply;
    batch->job.done = batch_done;
    batch->job.rows = batch->n;
    pthread_mutex_lock(&b->write.mu);
    b->submitted++;
    b->write.holders++;
    pthread_mutex_unlock(&b->write.mu);
    enum amx_status status = writer_submit(b->write.service->writer, &batch->job);
    if (status == AMX_OK)
        return;
    pthread_mutex_lock(&b->write.mu);
    b->submitted--;
    b->write.holders--; /* the request's own is left */
    pthread_mutex_unlock(&b->write.mu);
    struct amx_error err;
    error_set(&err, status, "%s",
              status == AMX_BUSY ? "the queue of writes is full; what is counted here was stored, send the rest again"
                                 : "writes are refused at the moment");
    bulk_fail(b, problem_of_status(status), &err);
    recycle(b, batch);
}

/* Takes over what the writer has finished. */
static void drain(struct bulk *b)
{
    pthread_mutex_lock(&b->write.mu);
    struct bulk_batch *batch = b->finished;
    b->finished = NULL;
    b->finished_end = &b->finished;
    pthread_mutex_unlock(&b->write.mu);
    while (batch != NULL) {
        struct bulk_batch *next = batch->next;
        if (batch->job.status == AMX_OK) {
            bulk_account(b, batch);
        } else {
            batch->job.error.code = batch->job.status;
            bulk_fail(b, problem_of_job(batch->job.status), &batch->job.error);
        }
        recycle(b, batch);
        batch = next;
    }
}

/* True: suspended until fewer than `wanted` batches are under way; `next` follows. */
static bool wait_below(struct http_request *rq, struct bulk *b, size_t wanted, void (*next)(struct http_request *rq))
{
    pthread_mutex_lock(&b->write.mu);
    bool wait = b->submitted - b->done >= wanted;
    if (wait && http_suspend(rq, HTTP_WAIT_WRITE, 0, next))
        b->wanted = wanted;
    pthread_mutex_unlock(&b->write.mu);
    return wait;
}

static bool batch_full(const struct bulk_batch *batch)
{
    return batch->n >= BULK_BATCH_ROWS || batch->arena.used >= BULK_BATCH_BYTES;
}

enum amx_status bulk_row_end(struct bulk *b, struct bulk_row *row, enum amx_status status, const struct amx_error *err)
{
    struct bulk_batch *batch = b->current;
    if (status == AMX_INVALID) {
        if (!reject(batch, row, b->context.problem, err))
            return no_memory(b);
    } else if (status != AMX_OK) {
        return bulk_fail(b, problem_of_status(status), err);
    }
    batch->n++;
    b->rows++;
    if (!b->single_job) {
        if (batch_full(batch))
            submit_current(b);
        return b->failed ? b->failure.code : AMX_OK;
    }
    if (b->atomic && b->rows > b->write.service->config.atomic_lines) {
        struct amx_error large;
        error_set(&large, AMX_TOO_LARGE, "an atomic body may have %zu rows", b->write.service->config.atomic_lines);
        return bulk_fail(b, PROBLEM_TOO_LARGE, &large);
    }
    /* One bad row, and nothing will be written: only the errors are of use from here on. */
    if (b->atomic && (b->rejected > 0 || status != AMX_OK) && batch_full(batch)) {
        bulk_account(b, batch);
        b->current = NULL;
        recycle(b, batch);
    }
    return AMX_OK;
}

static void free_bulk(struct write *w)
{
    struct bulk *b = (struct bulk *)w;
    batches_free(b->current);
    batches_free(b->spare);
    batches_free(b->finished);
    lines_done(&b->lines);
    bulk_csv_close(b);
    bulk_npy_close(b);
    bulk_json_close(b);
    json_decref(b->errors);
    buf_done(&b->results);
    if (b->results_fd >= 0)
        close(b->results_fd);
}

/* ---- one job for all ---- */

static enum amx_status apply_all(struct db *db, struct write *w)
{
    struct bulk *b = (struct bulk *)w;
    struct bulk_batch *batch = b->current;
    if (batch == NULL)
        return AMX_OK;
    enum amx_status status = apply_rows(db, batch, &w->job.error);
    if (status != AMX_OK)
        return status;
    size_t rejected = 0;
    for (size_t i = 0; i < batch->n; i++)
        rejected += batch->rows[i].outcome == BULK_REJECTED;
    if (rejected > 0 && (b->atomic || rejected == batch->n))
        return error_set(&w->job.error, AMX_INVALID, "rows were refused");
    return AMX_OK;
}

static void committed_all(struct write *w)
{
    struct bulk *b = (struct bulk *)w;
    if (b->current != NULL)
        tell_committed(b, b->current);
}

static void submit_all(struct http_request *rq, struct bulk *b)
{
    b->write.apply = apply_all;
    b->write.compose = bulk_compose;
    b->write.failed = bulk_reply_failed;
    b->write.committed = committed_all;
    b->write.job.rows = b->current != NULL ? b->current->n : 0;
    write_submit(rq, &b->write);
}

/* ---- the request ---- */

static bool wants_result_lines(struct http_request *rq, bool *out)
{
    enum http_format format = http_negotiate(rq, 1U << HTTP_FORMAT_JSON | 1U << HTTP_FORMAT_NDJSON);
    *out = format == HTTP_FORMAT_NDJSON;
    return format != HTTP_FORMAT_NONE;
}

/* Everything that can be refused before a byte of the body is read. */
static bool options(struct http_request *rq, const char *const *query, bool stream, struct bulk *b)
{
    if (!http_query_only(rq, query) || !http_query_bool(rq, "atomic", false, &b->atomic) ||
        !http_query_bool(rq, "create_instances", b->write.project->feature_dim == 0, &b->create_instances) ||
        !wants_result_lines(rq, &b->result_lines))
        return false;
    if (stream && !idempotency_refuse(rq))
        return false;
    b->single_job = b->atomic || http_header_in(rq, "Idempotency-Key") != NULL;
    return true;
}

struct bulk *bulk_open(struct http_request *rq, const struct bulk_kind *kind, const char *const *query, bool stream)
{
    struct project_info *project = project_of(rq, 0);
    if (project == NULL)
        return NULL;
    struct bulk *b = write_new(rq, sizeof *b, project);
    if (b == NULL)
        return NULL;
    b->write.free_owner = free_bulk;
    b->kind = kind;
    b->finished_end = &b->finished;
    b->results_fd = -1;
    b->split = SPLIT_KEEP;
    buf_init(&b->results, SIZE_MAX / 2);
    lines_init(&b->lines, b->write.service->config.line_bytes);
    b->context.project = project;
    b->context.may_gold = auth_has(rq, SCOPE_GOLD);
    b->context.bound = auth_annotator(rq, b->context.annotator);
    b->context.metadata_bytes = b->write.service->config.metadata_bytes;
    bool ok = options(rq, query, stream, b);
    if (ok && (b->errors = json_array()) == NULL) {
        problem_reply_as(rq, PROBLEM_NO_MEMORY, "out of memory");
        ok = false;
    }
    const char *type = http_media_type(rq);
    if (ok && stream && strcmp(type, "text/csv") == 0 && !bulk_csv_open(b)) {
        problem_reply_as(rq, PROBLEM_NO_MEMORY, "out of memory");
        ok = false;
    }
    if (ok && stream && strcmp(type, "application/x-npy") == 0)
        ok = bulk_npy_open(rq, b);
    if (!ok) {
        write_free(&b->write);
        return NULL;
    }
    write_attach(rq, &b->write);
    if (stream)
        http_set_body_mode(rq, HTTP_BODY_STREAM);
    return b;
}

static void answer(struct http_request *rq)
{
    struct bulk *b = http_data(rq);
    drain(b);
    if (!wait_below(rq, b, 1, answer))
        bulk_reply(rq, b);
}

/* All rows are read: the rest is handed over, the answer follows when the writer is through. */
static void finish(struct http_request *rq, struct bulk *b)
{
    if (!b->single_job) {
        submit_current(b);
        answer(rq);
        return;
    }
    const struct bulk_batch *batch = b->current;
    bool bad = b->failed || b->rejected > 0;
    for (size_t i = 0; b->atomic && batch != NULL && i < batch->n && !bad; i++)
        bad = batch->rows[i].outcome == BULK_REJECTED;
    if (!bad) {
        submit_all(rq, b);
        return;
    }
    if (b->current != NULL)
        bulk_account(b, b->current);
    bulk_reply(rq, b);
}

/* In `body` the rest of the bytes follows by itself. */
static void go_on(struct http_request *rq)
{
    struct bulk *b = http_data(rq);
    drain(b);
    (void)wait_below(rq, b, BULK_UNDER_WAY, go_on); /* either way there is nothing else to do here */
}

void bulk_body(struct http_request *rq, const char *data, size_t n)
{
    struct bulk *b = http_data(rq);
    b->bytes += n;
    if (b->atomic && b->bytes > b->write.service->config.atomic_bytes && !b->failed) {
        struct amx_error large;
        error_set(&large, AMX_TOO_LARGE, "an atomic body may have %zu bytes", b->write.service->config.atomic_bytes);
        bulk_fail(b, PROBLEM_TOO_LARGE, &large);
    }
    if (b->failed) { /* read and drop; the answer comes in finish */
        if (b->single_job && b->current != NULL)
            arena_clear(&b->current->arena), b->current->n = 0;
        return;
    }
    struct amx_error err = {.code = AMX_OK};
    enum amx_status status = b->csv != NULL   ? bulk_csv_push(b, data, n, &err)
                             : b->npy != NULL ? bulk_npy_push(b, data, n, &err)
                                              : lines_push(&b->lines, data, n, bulk_ndjson_line, b, &err);
    if (status != AMX_OK)
        bulk_fail(b, problem_of_status(status), &err);
    drain(b);
    (void)wait_below(rq, b, BULK_UNDER_WAY, go_on); /* suspended or not, more bytes follow */
}

void bulk_finish(struct http_request *rq)
{
    struct bulk *b = http_data(rq);
    struct amx_error err = {.code = AMX_OK};
    enum amx_status status = http_body_status(rq, &err);
    if (status != AMX_OK) {
        bulk_fail(b,
                  status == AMX_INVALID || status == AMX_CORRUPT ? PROBLEM_MALFORMED_BODY : problem_of_status(status),
                  &err);
    } else if (b->bytes == 0) {
        error_set(&err, AMX_INVALID, "the body is empty");
        bulk_fail(b, PROBLEM_MALFORMED_BODY, &err);
    } else if (!b->failed) {
        status = b->csv != NULL   ? bulk_csv_end(b, &err)
                 : b->npy != NULL ? bulk_npy_end(b, &err)
                                  : lines_end(&b->lines, bulk_ndjson_line, b, &err);
        if (status != AMX_OK)
            bulk_fail(b, problem_of_status(status), &err);
    }
    finish(rq, b);
}

static void read_json(struct http_request *rq)
{
    struct bulk *b = http_data(rq);
    bool ended = false;
    drain(b);
    while (!ended && !b->failed) {
        bulk_json_read(b, BULK_BATCH_ROWS, &ended);
        if (!ended && wait_below(rq, b, BULK_UNDER_WAY, read_json))
            return;
    }
    finish(rq, b);
}

void bulk_json(struct http_request *rq, const struct bulk_kind *kind, const char *const *query)
{
    struct bulk *b = bulk_open(rq, kind, query, false);
    if (b != NULL && bulk_json_open(rq, b))
        read_json(rq);
}
