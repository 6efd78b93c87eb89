/* problem.h - the only place where a status or a rule broken becomes an HTTP status (RFC 9457 problem+json).
 *
 * Every problem a client can see is a row of one table in problem.c: HTTP status, the stable slug of /problems/SLUG,
 * and the title. Several rows may share a slug (invalid-body is 400 when the text cannot be read and 422 when it means
 * nothing).
 */
#ifndef ENDPOINTS_PROBLEM_H
#define ENDPOINTS_PROBLEM_H

#include <jansson.h>
#include <stddef.h>

#include "annotmix.h"
#include "http/http.h"

enum problem {
    PROBLEM_MALFORMED_BODY,      /* 400 invalid-body: not JSON, not UTF-8, cut, bad gzip */
    PROBLEM_INVALID_BODY,        /* 422 invalid-body: readable, but a field is unknown, missing or out of range */
    PROBLEM_INVALID_SETTING,     /* 422 invalid-setting */
    PROBLEM_INVALID_QUERY,       /* 400 invalid-query: a query parameter, a cursor, a header */
    PROBLEM_UNKNOWN_CLASS,       /* 422 unknown-class */
    PROBLEM_UNAUTHORIZED,        /* 401 unauthorized */
    PROBLEM_FORBIDDEN,           /* 403 forbidden */
    PROBLEM_NOT_FOUND,           /* 404 not-found */
    PROBLEM_UNKNOWN_PROJECT,     /* 404 unknown-project */
    PROBLEM_UNKNOWN_INSTANCE,    /* 404 unknown-instance */
    PROBLEM_CONFLICT,            /* 409 conflict */
    PROBLEM_NO_MODEL,            /* 409 no-model */
    PROBLEM_NOTHING_TO_TRAIN,    /* 409 nothing-to-train */
    PROBLEM_PRECONDITION,        /* 412 precondition-failed: If-Match does not hold */
    PROBLEM_PRECONDITION_NEEDED, /* 428 precondition-required */
    PROBLEM_TOO_LARGE,           /* 413 too-large */
    PROBLEM_RATE_LIMITED,        /* 429 rate-limited (Retry-After is added) */
    PROBLEM_MISDIRECTED,         /* 421 misdirected-request: a Host this server does not answer to */
    PROBLEM_IDEMPOTENCY_REFUSED, /* 400 idempotency: the header does not belong here, or is no key */
    PROBLEM_IDEMPOTENCY_BUSY,    /* 409 idempotency: the first request is still in progress */
    PROBLEM_IDEMPOTENCY_OTHER,   /* 422 idempotency: the key was used with another body */
    PROBLEM_QUEUE_FULL,          /* 503 queue-full (Retry-After is added) */
    PROBLEM_NO_MEMORY,           /* 503 out-of-memory */
    PROBLEM_STOPPING,            /* 503 stopping */
    PROBLEM_UNAVAILABLE,         /* 503 unavailable */
    PROBLEM_DISK_FULL,           /* 507 disk-full */
    PROBLEM_INTERNAL             /* 500 internal */
};

int problem_status(enum problem problem);       /* HTTP status */
const char *problem_slug(enum problem problem); /* "invalid-body"; static */
/* The row for a status of another room: AMX_INVALID -> PROBLEM_INVALID_BODY, AMX_NOT_FOUND -> PROBLEM_NOT_FOUND,
 * AMX_BUSY -> PROBLEM_QUEUE_FULL, AMX_CONFLICT -> PROBLEM_CONFLICT, ... */
enum problem problem_of_status(enum amx_status status);

/* Replies by err->code, with err->text as detail and, when err names a line or pointer, `errors`. AMX_IO and
 * AMX_CORRUPT are logged with their text; the client sees a general sentence and the request id. */
void problem_reply(struct http_request *rq, const struct amx_error *err);
/* The same under a row the caller chose (jsonx_load failed -> PROBLEM_MALFORMED_BODY). */
void problem_reply_error(struct http_request *rq, enum problem problem, const struct amx_error *err);
/* Detail only. */
void problem_reply_as(struct http_request *rq, enum problem problem, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Detail and `errors: [{"pointer": pointer, "detail": ...}]`. */
void problem_reply_at(struct http_request *rq, enum problem problem, const char *pointer, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* When the status alone is known and nothing can be worded. */
void problem_reply_status(struct http_request *rq, enum amx_status status);

/* One element of `errors`: line (0 = left out), pointer (NULL or "" = left out), detail. NULL when memory is out. */
json_t *problem_error_item(uint64_t line, const char *pointer, const char *detail);
/* The whole object, for answers that carry more members (bulk) or are composed outside the request (idempotency, inside
 * apply()): type, title, status, detail, instance "urn:request:ID"; errors (taken, may be NULL). NULL when memory is
 * out. */
json_t *problem_object(enum problem problem, const char *request_id, const char *detail, json_t *errors);
/* Sends such an object (taken; NULL -> 503) as application/problem+json with the status of the row. */
void problem_reply_object(struct http_request *rq, enum problem problem, json_t *object);

#endif
