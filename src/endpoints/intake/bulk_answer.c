/* bulk_answer.c - totals of a bulk request and its answer (bulk.h).
 *
 * The NDJSON answer has a line for every row and can only be sent when the whole body is read. So that memory does not
 * grow with the body, lines beyond 256 KiB go to a file without a name beside the database.
 */
#include "endpoints/intake/bulk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "endpoints/page.h"
#include "util/error.h"
#include "util/jsonx.h"
#include "work/metrics.h"

enum {
    RESULTS_IN_MEMORY = 256 * 1024,
    RESULTS_PIECE = 32 * 1024
};

static enum amx_status no_memory(struct bulk *b)
{
    struct amx_error err;
    error_set(&err, AMX_NO_MEMORY, "out of memory");
    return bulk_fail(b, PROBLEM_NO_MEMORY, &err);
}

/* ---- lines of the NDJSON answer ---- */

/* A file that is gone when its descriptor is closed, whatever happens to the process. */
static int open_nameless(const char *db_path)
{
    char folder[4096];
    int n = snprintf(folder, sizeof folder, "%s", db_path);
    if (n < 0 || (size_t)n >= sizeof folder)
        return -1;
    char *slash = strrchr(folder, '/');
    if (slash == NULL)
        (void)snprintf(folder, sizeof folder, ".");
    else
        slash[slash == folder ? 1 : 0] = '\0';
    int fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd >= 0)
        return fd;
    /* File systems without O_TMPFILE (some network and overlay ones). */
    size_t used = strlen(folder);
    n = snprintf(folder + used, sizeof folder - used, "/.annotmix-results-XXXXXX");
    if (n < 0 || (size_t)n >= sizeof folder - used)
        return -1;
    fd = mkostemp(folder, O_CLOEXEC);
    if (fd >= 0)
        unlink(folder);
    return fd;
}

static enum amx_status spill(struct bulk *b)
{
    if (b->results_fd < 0)
        b->results_fd = open_nameless(b->write.service->config.db_path);
    size_t done = 0;
    while (b->results_fd >= 0 && done < b->results.n) {
        ssize_t n = write(b->results_fd, b->results.bytes + done, b->results.n - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        done += (size_t)n;
    }
    if (b->results_fd < 0 || done < b->results.n) {
        struct amx_error err;
        bool full = errno == ENOSPC || errno == EDQUOT;
        error_set(&err, full ? AMX_FULL : AMX_IO, "the list of results cannot be kept: %s",
                  full ? "the disk is full" : "file error");
        return bulk_fail(b, problem_of_status(err.code), &err);
    }
    b->results_in_file += b->results.n;
    buf_clear(&b->results);
    return AMX_OK;
}

static void result_line(struct bulk *b, const struct bulk_row *row)
{
    static const char *const names[] = {"pending", "created", "updated", "unchanged", "rejected"};
    struct buf *out = &b->results;
    buf_printf(out, "{\"line\":%llu,\"status\":\"%s\"", (unsigned long long)row->line, names[row->outcome]);
    if (row->outcome == BULK_REJECTED) {
        if (row->pointer[0] != '\0') {
            buf_text(out, ",\"pointer\":");
            jsonx_write_string(out, row->pointer, strlen(row->pointer));
        }
        buf_text(out, ",\"detail\":");
        jsonx_write_string(out, row->detail, strlen(row->detail));
    }
    if (buf_text(out, "}\n") != AMX_OK)
        (void)no_memory(b); /* remembered in b */
    else if (out->n >= RESULTS_IN_MEMORY && !b->single_job)
        (void)spill(b); /* likewise */
}

/* ---- totals ---- */

static void account_rejected(struct bulk *b, const struct bulk_row *row)
{
    b->rejected++;
    b->n_errors++;
    if (b->kind->id == BULK_LABELS)
        metrics_labels_rejected(b->write.service->metrics, problem_slug(row->problem), 1);
    if (json_array_size(b->errors) < BULK_ERRORS &&
        json_array_append_new(b->errors, problem_error_item(row->line, row->pointer, row->detail)) != 0)
        (void)no_memory(b); /* remembered in b */
}

void bulk_account(struct bulk *b, struct bulk_batch *batch)
{
    if (batch->accounted)
        return;
    batch->accounted = true;
    for (size_t i = 0; i < batch->n; i++) {
        const struct bulk_row *row = &batch->rows[i];
        switch (row->outcome) {
        case BULK_PENDING:
            break;
        case BULK_CREATED:
            b->created++;
            break;
        case BULK_UPDATED:
            b->updated++;
            break;
        case BULK_UNCHANGED:
            b->unchanged++;
            break;
        case BULK_REJECTED:
            account_rejected(b, row);
            break;
        }
        if (b->result_lines && row->outcome != BULK_PENDING)
            result_line(b, row);
    }
}

/* ---- answer ---- */

static bool members(struct bulk *b, json_t *object, bool with_errors)
{
    uint64_t accepted = b->created + b->updated + b->unchanged;
    bool ok = json_put(object, "accepted", json_integer((json_int_t)accepted)) &&
              json_put(object, "created", json_integer((json_int_t)b->created)) &&
              json_put(object, "updated", json_integer((json_int_t)b->updated)) &&
              json_put(object, "rejected", json_integer((json_int_t)b->rejected));
    if (ok && b->kind->id == BULK_LABELS)
        ok = json_put(object, "unchanged", json_integer((json_int_t)b->unchanged));
    if (ok && with_errors)
        ok = json_put(object, "errors", json_incref(b->errors));
    return ok && json_put(object, "errors_truncated", json_boolean(b->n_errors > json_array_size(b->errors)));
}

static int status_of(const struct bulk *b)
{
    return b->created > 0 && b->updated + b->unchanged + b->rejected == 0 ? 201 : 200;
}

enum amx_status bulk_compose(struct write *w)
{
    struct bulk *b = (struct bulk *)w;
    if (b->current != NULL)
        bulk_account(b, b->current);
    if (b->failed)
        return AMX_NO_MEMORY;
    if (b->result_lines) {
        w->reply.status = status_of(b);
        w->reply.media_type = "application/x-ndjson";
        w->reply.body = buf_take(&b->results, &w->reply.n_body);
        return w->reply.body != NULL ? AMX_OK : AMX_NO_MEMORY;
    }
    json_t *object = json_object();
    if (object != NULL && !members(b, object, true)) {
        json_decref(object);
        object = NULL;
    }
    return write_compose_json(w, status_of(b), object);
}

/* problem+json that carries the totals too. */
static void reply_problem(struct http_request *rq, struct bulk *b, enum problem problem, const char *detail)
{
    json_t *object = problem_object(problem, http_request_id(rq), detail, NULL);
    if (object != NULL && b->failed && b->failure.line > 0 && json_array_size(b->errors) < BULK_ERRORS &&
        json_array_append_new(b->errors, problem_error_item(b->failure.line, b->failure.pointer, b->failure.text)) !=
            0) {
        json_decref(object);
        object = NULL;
    }
    if (object != NULL && !members(b, object, problem_status(problem) == 422 || json_array_size(b->errors) > 0)) {
        json_decref(object);
        object = NULL;
    }
    problem_reply_object(rq, problem, object);
}

static enum http_pull pull_results(struct http_request *rq, void *context, struct buf *out)
{
    struct bulk *b = context;
    (void)rq;
    if (b->results_in_file == 0)
        return HTTP_PULL_DONE;
    char *room = buf_reserve(out, RESULTS_PIECE);
    if (room == NULL)
        return HTTP_PULL_ERROR;
    size_t want = b->results_in_file < RESULTS_PIECE ? (size_t)b->results_in_file : RESULTS_PIECE;
    ssize_t n = read(b->results_fd, room, want);
    if (n <= 0)
        return n < 0 && errno == EINTR ? HTTP_PULL_MORE : HTTP_PULL_ERROR;
    buf_grew(out, (size_t)n);
    b->results_in_file -= (uint64_t)n;
    return HTTP_PULL_MORE;
}

static void results_sent(void *context)
{
    write_drop(context);
}

static void reply_lines(struct http_request *rq, struct bulk *b)
{
    if (b->results_fd < 0) {
        size_t n;
        char *text = buf_take(&b->results, &n);
        if (text == NULL)
            problem_reply_as(rq, PROBLEM_NO_MEMORY, "the rows were stored; there is no memory left to list them");
        else
            http_reply(rq, status_of(b), "application/x-ndjson", text, n, free);
        return;
    }
    if (spill(b) != AMX_OK || lseek(b->results_fd, 0, SEEK_SET) != 0) {
        problem_reply_as(rq, PROBLEM_INTERNAL, "the rows were stored; the list of results cannot be read back");
        return;
    }
    write_hold(&b->write);
    http_reply_stream(rq, status_of(b), "application/x-ndjson", 0, pull_results, b, results_sent);
}

void bulk_reply(struct http_request *rq, struct bulk *b)
{
    if (b->atomic && (b->failed || b->rejected > 0)) { /* nothing was written */
        b->rejected = b->failed ? b->rejected : b->rows;
        b->created = b->updated = b->unchanged = 0;
    }
    if (b->failed) {
        reply_problem(rq, b, b->problem, b->failure.text);
    } else if (b->rejected > 0 && b->created + b->updated + b->unchanged == 0) {
        reply_problem(rq, b, PROBLEM_INVALID_BODY,
                      b->atomic ? "a row was refused, so nothing was stored (atomic)" : "every row was refused");
    } else if (b->result_lines) {
        reply_lines(rq, b);
    } else if (bulk_compose(&b->write) != AMX_OK) {
        problem_reply_as(rq, PROBLEM_NO_MEMORY, "the rows were stored; there is no memory left to count them");
    } else {
        write_send(rq, &b->write);
    }
}

void bulk_reply_failed(struct http_request *rq, struct write *w)
{
    struct bulk *b = (struct bulk *)w;
    if (w->job.status != AMX_INVALID)
        bulk_fail(b, w->job.status == AMX_NOT_FOUND ? PROBLEM_UNKNOWN_PROJECT : problem_of_status(w->job.status),
                  &w->job.error);
    else if (b->current != NULL)
        bulk_account(b, b->current);
    b->created = b->updated = b->unchanged = 0; /* undone, all of it */
    bulk_reply(rq, b);
}
