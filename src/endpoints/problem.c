/* problem.c - RFC 9457 answers, from one table.
 *
 * Who detects an error words it (struct amx_error); here it only gets its HTTP status, its stable type and a title.
 * What the operating system or SQLite said stays in the log: a client cannot use it, and it may name paths.
 */
#include "endpoints/problem.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/jsonx.h"
#include "util/log.h"
#include "work/metrics.h"
#include "work/service.h"

struct row {
    int status;
    const char *slug, *title;
};

static const struct row rows[] = {
    [PROBLEM_MALFORMED_BODY] = {400, "invalid-body", "The body cannot be read"},
    [PROBLEM_INVALID_BODY] = {422, "invalid-body", "The body is not what this operation takes"},
    [PROBLEM_INVALID_SETTING] = {422, "invalid-setting", "A setting is unknown or out of range"},
    [PROBLEM_INVALID_QUERY] = {400, "invalid-query", "A parameter of the request is wrong"},
    [PROBLEM_UNKNOWN_CLASS] = {422, "unknown-class", "The project has no such class"},
    [PROBLEM_UNAUTHORIZED] = {401, "unauthorized", "A valid token is required"},
    [PROBLEM_FORBIDDEN] = {403, "forbidden", "The token does not allow this"},
    [PROBLEM_NOT_FOUND] = {404, "not-found", "Not found"},
    [PROBLEM_UNKNOWN_PROJECT] = {404, "unknown-project", "There is no such project"},
    [PROBLEM_UNKNOWN_INSTANCE] = {404, "unknown-instance", "The project has no such instance"},
    [PROBLEM_CONFLICT] = {409, "conflict", "The present state does not allow this"},
    [PROBLEM_NO_MODEL] = {409, "no-model", "The project has no model yet"},
    [PROBLEM_NOTHING_TO_TRAIN] = {409, "nothing-to-train", "There is nothing to train on"},
    [PROBLEM_PRECONDITION] = {412, "precondition-failed", "The resource has changed"},
    [PROBLEM_PRECONDITION_NEEDED] = {428, "precondition-required", "If-Match is required"},
    [PROBLEM_TOO_LARGE] = {413, "too-large", "Over a limit of this server"},
    [PROBLEM_RATE_LIMITED] = {429, "rate-limited", "Too many requests; try again"},
    [PROBLEM_MISDIRECTED] = {421, "misdirected-request", "This server does not answer to that host"},
    [PROBLEM_IDEMPOTENCY_REFUSED] = {400, "idempotency", "Idempotency-Key cannot be used so"},
    [PROBLEM_IDEMPOTENCY_BUSY] = {409, "idempotency", "The first request with this key is in progress"},
    [PROBLEM_IDEMPOTENCY_OTHER] = {422, "idempotency", "This key was used for another request"},
    [PROBLEM_QUEUE_FULL] = {503, "queue-full", "Too much is waiting; try again"},
    [PROBLEM_NO_MEMORY] = {503, "out-of-memory", "Out of memory; try again"},
    [PROBLEM_STOPPING] = {503, "stopping", "The server is stopping; try again"},
    [PROBLEM_UNAVAILABLE] = {503, "unavailable", "Part of the server does not work; try again"},
    [PROBLEM_DISK_FULL] = {507, "disk-full", "The disk is full; nothing was written"},
    [PROBLEM_INTERNAL] = {500, "internal", "Something failed inside the server"},
};

int problem_status(enum problem problem)
{
    return rows[problem].status;
}

const char *problem_slug(enum problem problem)
{
    return rows[problem].slug;
}

enum problem problem_of_status(enum amx_status status)
{
    switch (status) {
    case AMX_INVALID:
        return PROBLEM_INVALID_BODY;
    case AMX_NOTHING:
        return PROBLEM_NOTHING_TO_TRAIN;
    case AMX_TOO_LARGE:
        return PROBLEM_TOO_LARGE;
    case AMX_NOT_FOUND:
        return PROBLEM_NOT_FOUND;
    case AMX_CONFLICT:
    case AMX_CANCELLED:
        return PROBLEM_CONFLICT;
    case AMX_BUSY:
        return PROBLEM_QUEUE_FULL;
    case AMX_FULL:
        return PROBLEM_DISK_FULL;
    case AMX_NO_MEMORY:
        return PROBLEM_NO_MEMORY;
    case AMX_IO:
    case AMX_CORRUPT:
        return PROBLEM_UNAVAILABLE;
    case AMX_OK:
    case AMX_NOT_FINITE:
        return PROBLEM_INTERNAL;
    }
    return PROBLEM_INTERNAL;
}

json_t *problem_error_item(uint64_t line, const char *pointer, const char *detail)
{
    json_t *item = json_object();
    if (item == NULL) {
        return NULL;
    }
    bool ok = true;
    if (line > 0) {
        ok = json_object_set_new(item, "line", json_integer((json_int_t)line)) == 0;
    }
    if (ok && pointer != NULL && pointer[0] != '\0') {
        ok = json_object_set_new(item, "pointer", json_string(pointer)) == 0;
    }
    ok = ok && json_object_set_new(item, "detail", json_string(detail)) == 0;
    if (!ok) {
        json_decref(item);
        return NULL;
    }
    return item;
}

json_t *problem_object(enum problem problem, const char *request_id, const char *detail, json_t *errors)
{
    char type[64], instance[160];
    (void)snprintf(type, sizeof type, "/problems/%s", rows[problem].slug);
    (void)snprintf(instance, sizeof instance, "urn:request:%s", request_id != NULL ? request_id : "");
    json_t *object = json_pack("{s:s, s:s, s:i, s:s, s:s}", "type", type, "title", rows[problem].title, "status",
                               rows[problem].status, "detail", detail, "instance", instance);
    if (object == NULL) {
        json_decref(errors);
        return NULL;
    }
    if (errors != NULL && json_object_set_new(object, "errors", errors) != 0) {
        json_decref(object);
        return NULL;
    }
    return object;
}

/* 503s by cause, for /metrics. (Those of the HTTP room itself are in the counts of requests by status.) */
static void count_unavailable(const struct http_request *rq, enum problem problem)
{
    if (rows[problem].status == 503)
        metrics_unavailable(((struct service *)http_context(rq))->metrics, rows[problem].slug);
}

void problem_reply_object(struct http_request *rq, enum problem problem, json_t *object)
{
    size_t n = 0;
    char *text = object == NULL ? NULL : jsonx_dump(object, &n);
    json_decref(object);
    int status = rows[problem].status;
    if (text == NULL) {
        http_reply_json(rq, 503, NULL);
        return;
    }
    count_unavailable(rq, problem);
    if ((status == 503 || status == 429) && !http_set_header(rq, "Retry-After", "1")) {
        free(text);
        return;
    }
    http_reply(rq, status, "application/problem+json", text, n, free);
}

static void reply(struct http_request *rq, enum problem problem, uint64_t line, const char *pointer, const char *detail)
{
    json_t *errors = NULL;
    if (line > 0 || (pointer != NULL && pointer[0] != '\0')) {
        json_t *item = problem_error_item(line, pointer, detail);
        errors = json_array();
        if (json_array_append_new(errors, item) != 0) { /* takes the item whatever happens, and either may be NULL */
            /* The answer still says what is wrong, only not where. */
            json_decref(errors);
            errors = NULL;
        }
    }
    if (problem == PROBLEM_UNAUTHORIZED && !http_set_header(rq, "WWW-Authenticate", "Bearer realm=\"annotmix\"")) {
        json_decref(errors);
        return;
    }
    count_unavailable(rq, problem);
    http_reply_problem(rq, rows[problem].status, rows[problem].slug, rows[problem].title, detail, errors);
}

void problem_reply_error(struct http_request *rq, enum problem problem, const struct amx_error *err)
{
    if (problem == PROBLEM_MALFORMED_BODY && err->code == AMX_NO_MEMORY)
        problem = PROBLEM_NO_MEMORY; /* nobody could look at the body */
    if (problem == PROBLEM_INTERNAL || err->code == AMX_IO || err->code == AMX_CORRUPT) {
        log_error("request failed", LOG_TEXT("request", http_request_id(rq)),
                  LOG_TEXT("status", amx_status_text(err->code)), LOG_TEXT("why", err->text));
        /* After a failed fsync nobody knows what is on the disk. */
        reply(rq, problem, 0, NULL,
              problem == PROBLEM_INTERNAL
                  ? "Nothing was changed by this request; the log has the details under this request id."
                  : "The database cannot be read or written at the moment, so it is not known whether a write was done; "
                    "send it again later. The log has the details under this request id.");
        return;
    }
    const char *detail = err->text[0] != '\0' ? err->text : rows[problem].title;
    reply(rq, problem, err->line, err->pointer, detail);
}

void problem_reply(struct http_request *rq, const struct amx_error *err)
{
    problem_reply_error(rq, problem_of_status(err->code), err);
}

void problem_reply_status(struct http_request *rq, enum amx_status status)
{
    struct amx_error err = {.code = status};
    problem_reply(rq, &err);
}

void problem_reply_as(struct http_request *rq, enum problem problem, const char *format, ...)
{
    char detail[512];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(detail, sizeof detail, format, args);
    va_end(args);
    reply(rq, problem, 0, NULL, detail);
}

void problem_reply_at(struct http_request *rq, enum problem problem, const char *pointer, const char *format, ...)
{
    char detail[512];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(detail, sizeof detail, format, args);
    va_end(args);
    reply(rq, problem, 0, pointer, detail);
}
