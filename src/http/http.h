/* http.h - what the rest of the program sees of the HTTP server. The only room that includes libmicrohttpd.
 *
 * Life of a request: headers are vetted, the raw path is matched against the route table, `gate` (authentication) runs,
 * the media type and Content-Length are checked, then `start`; the body comes in (kept whole up to a limit, or handed
 * to `body` piece by piece, always already gunzipped); `finish` answers or suspends. Everything about one request
 * happens in one HTTP thread, except http_resume(), which any thread may call.
 *
 * A handler must end in exactly one of: one http_reply*() call, or http_suspend(). It never blocks: no fsync, no
 * training, no waiting; work goes to another thread and the request is suspended. The one exception: a short wait for
 * the disk while http_is_alone().
 */
#ifndef HTTP_HTTP_H
#define HTTP_HTTP_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "annotmix.h"
#include "util/buf.h"

struct http_server;
struct http_request;

/* ---- routes ----------------------------------------------------------------------------------------------------- */

enum http_body_mode {
    HTTP_BODY_NONE,  /* a body is read and dropped */
    HTTP_BODY_WHOLE, /* kept up to max_body_bytes (413 beyond), then `finish` sees it by http_body() */
    HTTP_BODY_STREAM /* any length, handed to `body`; never held whole */
};

struct http_route {
    const char *method;  /* "GET" also serves HEAD */
    const char *pattern; /* "/v1/projects/{p}/instances/{id}"; each {} is one segment of the raw path, decoded once */
    unsigned scope;      /* for the gate; this room does not look at it */
    const char *const *media_types; /* NULL-terminated: accepted request types (415 otherwise); NULL = no body wanted */
    /* Called with the headers; may set the mode by http_set_body_mode (default: WHOLE if media_types, else NONE), may
     * reply at once (then nothing else of this route is called). NULL = nothing to do. */
    void (*start)(struct http_request *rq);
    /* STREAM only: the next n > 0 bytes. May suspend (reading stops until resumed); may not reply: remember the error,
     * go on consuming, reply in finish. */
    void (*body)(struct http_request *rq, const char *data, size_t n);
    /* Body complete, or none. Must reply or suspend. */
    void (*finish)(struct http_request *rq);
};

/* The application behind the server. All functions run in HTTP threads, several at a time. */
struct http_app {
    const struct http_route *routes; /* ends with method == NULL */
    void *context;                   /* http_context(rq) */
    /* Authentication and authorisation; true = go on. Otherwise it has replied. Called after routing. */
    bool (*gate)(struct http_request *rq);
    /* The request is over, whatever way: free what hangs on http_data(rq). NULL = nothing. */
    void (*completed)(struct http_request *rq);
    /* One finished request, for metrics: route template ("" when none matched), method, status, seconds. NULL = none.
     */
    void (*observed)(void *context, const char *route, const char *method, int status, double seconds);
};

struct http_limits {
    unsigned threads;                 /* 2 */
    unsigned connections;             /* 1000 */
    unsigned connections_per_address; /* 0 = no limit */
    unsigned suspended;               /* long polls and streams, 256; writes that wait for the disk do not count */
    size_t max_body_bytes;            /* 8 MiB: HTTP_BODY_WHOLE, after gunzip */
    size_t body_memory;               /* 256 MiB: whole bodies held at once; past it larger ones get 503 */
    size_t max_drop_bytes;            /* 64 MiB: how much of a refused body is read and dropped before the cut */
    unsigned header_seconds, body_seconds, idle_seconds, send_seconds; /* 10, 30, 30, 30 */
    bool access_log; /* true: one log line for each finished request */
};
void http_limits_default(struct http_limits *out);

struct http_listen {
    const char *address;   /* "127.0.0.1:8080", "[::1]:0", or NULL with unix_path */
    const char *unix_path; /* Unix socket, mode 0600; peers on it are trusted (http_is_local_socket) */
    int inherited_fd;      /* a listening socket passed in (systemd), or -1 */
};

/* Starts to serve. `app` and the routes are borrowed until http_server_stop. AMX_BUSY: address in use;
 * AMX_INVALID: not an address; AMX_IO otherwise. */
AMX_CHECK enum amx_status http_server_start(const struct http_listen *listen, const struct http_limits *limits,
                                            const struct http_app *app, struct http_server **out,
                                            struct amx_error *err);
/* The port in use (for port 0); 0 for a Unix socket. */
int http_server_port(const struct http_server *server);
/* Stop in two steps (see design notes in server.c). quiesce: no new connections, `Connection: close` on every reply,
 * long polls and streams are resumed (http_is_stopping is true for them). stop: waits up to drain_ms for open requests,
 * cuts the rest, frees. Requests suspended for a write must still be resumed by their writer while stop waits. */
void http_server_quiesce(struct http_server *server);
void http_server_stop(struct http_server *server, unsigned drain_ms);
/* Counters for metrics: requests open now (suspended ones included), connections open now, suspended long polls. */
void http_server_counts(const struct http_server *server, unsigned *requests, unsigned *connections,
                        unsigned *suspended);
const char *http_library_version(void); /* libmicrohttpd's */

/* ---- the request ------------------------------------------------------------------------------------------------ */

void *http_context(const struct http_request *rq);
void *http_data(const struct http_request *rq);          /* the handler's own state, NULL at first */
void http_set_data(struct http_request *rq, void *data); /* freed by app->completed */
const struct http_route *http_route_of(const struct http_request *rq);
/* Also sent as X-Request-Id; taken over from the client's if that is tame. */
const char *http_request_id(const struct http_request *rq);
bool http_is_local_socket(const struct http_request *rq); /* came in over the Unix socket */
/* The peer's address as 16 bytes, IPv4 as ::ffff:a.b.c.d; false on a Unix socket. */
bool http_peer(const struct http_request *rq, unsigned char out[16]);
bool http_is_stopping(const struct http_request *rq);
/* No other request is open in this HTTP thread, suspended or not, and none of another connection has been for a while:
 * waiting a moment keeps nobody waiting, as far as can be known. */
bool http_is_alone(const struct http_request *rq);
const char *http_header_in(const struct http_request *rq, const char *name); /* NULL when absent */
/* Decoded path parameter, in order of the pattern; may not hold NUL ("%00" is refused before). */
const char *http_param(const struct http_request *rq, unsigned index);
/* Decoded query value; NULL when absent; the i-th of a repeated one. "?id" gives "". */
const char *http_query(const struct http_request *rq, const char *name);
const char *http_query_nth(const struct http_request *rq, const char *name, unsigned i);
/* True when every query parameter is among the NULL-terminated names (`format` always is); else replies 400 naming it.
 */
bool http_query_only(struct http_request *rq, const char *const *names);
/* Integer parameter: absent -> fallback. Out of [min, max] or not a number: replies 400 and returns false. */
bool http_query_int(struct http_request *rq, const char *name, int64_t min, int64_t max, int64_t fallback,
                    int64_t *out);
bool http_query_bool(struct http_request *rq, const char *name, bool fallback, bool *out); /* true|false|1|0 */

/* Type of the request body without parameters, lower case, "" when none. */
const char *http_media_type(const struct http_request *rq);
void http_set_body_mode(struct http_request *rq, enum http_body_mode mode);
/* Whole body; a 0 byte follows; NULL and 0 when there was none. Borrowed until the request ends. */
const char *http_body(const struct http_request *rq, size_t *n);
/* STREAM: why the body did not come whole (cut, bad gzip, bomb); AMX_OK when it did. Known in `finish`. A cut
 * connection never reaches finish: app->completed runs. */
enum amx_status http_body_status(const struct http_request *rq, struct amx_error *err);

/* STREAM: nothing more of the body is wanted (the handler knows its answer). The rest is read and dropped, up to
 * limits.max_drop_bytes; then the connection is cut. */
void http_drop_body(struct http_request *rq);

enum http_format {
    HTTP_FORMAT_JSON,
    HTTP_FORMAT_CSV,
    HTTP_FORMAT_NDJSON,
    HTTP_FORMAT_BINARY,
    HTTP_FORMAT_MARKDOWN,
    HTTP_FORMAT_NONE
};
/* Best of `offered` (bit set 1 << enum) by ?format= then Accept; JSON when nothing is said. Replies 406/400 and returns
 * NONE when nothing fits. */
enum http_format http_negotiate(struct http_request *rq, unsigned offered);

/* ---- suspend and resume ----------------------------------------------------------------------------------------- */

enum http_wait {
    HTTP_WAIT_WRITE, /* for the disk: never counted, no deadline */
    HTTP_WAIT_POLL   /* counted against limits.suspended */
};
/* Stops this request until http_resume(rq) or (if timeout_ms > 0) the deadline; then `next` runs in the HTTP thread and
 * must reply, suspend again, or, while the body is still coming in, just return. Call it LAST in the handler, but
 * before the request is made known to the thread that will resume it. False: too many suspended (503 has been replied).
 *
 * Order that is safe: http_suspend(), then publish (writer_submit). If publishing fails call http_resume() yourself.
 * With several jobs outstanding (streams): suspend, then look under your own lock whether there is still something to
 * wait for, and resume yourself if not. A late resume of an earlier job may then wake the next suspension too early:
 * `next` looks at its condition and suspends again. POLL while the server stops: 503 has been replied, false. */
bool http_suspend(struct http_request *rq, enum http_wait kind, unsigned timeout_ms,
                  void (*next)(struct http_request *rq));
/* Wakes it up; any thread; extra calls for the same suspension are harmless, but rq must be alive. */
void http_resume(struct http_request *rq);
bool http_timed_out(const struct http_request *rq); /* in `next`: it was the deadline */

/* Requests that wait for the same thing (a run's next change). One lock inside; a request is in at most one. */
struct http_waiters;
struct http_waiters *http_waiters_new(void);
void http_waiters_free(struct http_waiters *waiters);
/* Suspends rq (HTTP_WAIT_POLL) and lists it under key. It leaves the list by itself when resumed, timed out or gone. */
bool http_wait(struct http_waiters *waiters, int64_t key, struct http_request *rq, unsigned timeout_ms,
               void (*next)(struct http_request *rq));
void http_wake(struct http_waiters *waiters, int64_t key); /* resumes all of that key; any thread */
/* Lists rq under key until it ends. Call it BEFORE reading the state that is waited for: a wake that comes between
 * reading and suspending (http_wait, http_suspend POLL, HTTP_PULL_WAIT) is then not lost but ends the wait at once.
 * Also how a streamed reply gets woken. Wakes never touch a request that waits for the disk (HTTP_WAIT_WRITE). */
void http_watch(struct http_waiters *waiters, int64_t key, struct http_request *rq);

/* ---- replies ---------------------------------------------------------------------------------------------------- */

/* A header of the reply to come; copied. False on no memory (then a 503 has been replied: return). */
bool http_set_header(struct http_request *rq, const char *name, const char *value);
/* Body of n bytes; `bytes` is taken and freed by free_bytes when that is not NULL, else copied. gzip is applied when
 * the client accepts it and n is worth it. HEAD and 304/204 send no body. */
void http_reply(struct http_request *rq, int status, const char *media_type, void *bytes, size_t n,
                void (*free_bytes)(void *));
void http_reply_empty(struct http_request *rq, int status);
/* Takes the reference. NULL json = out of memory -> 503. Numbers: real values are written with 9 significant digits
 * (float32 survives), integers as integers. */
void http_reply_json(struct http_request *rq, int status, json_t *json);
/* Bytes of a static file with a strong ETag (content hash) and 304 handling. */
void http_reply_static(struct http_request *rq, const char *media_type, const unsigned char *bytes, size_t n);
/* RFC 9457. `type` is the slug of /problems/SLUG; title is derived from it by the caller; `errors` may be NULL (taken).
 * Adds Retry-After when the status is 503 or 429. */
void http_reply_problem(struct http_request *rq, int status, const char *type, const char *title, const char *detail,
                        json_t *errors);
/* 304 (and true) when If-None-Match holds this strong etag ("\"...\"", quotes included); sets the ETag header
 * otherwise. */
bool http_reply_if_unchanged(struct http_request *rq, const char *etag);
bool http_replied(const struct http_request *rq);
/* If-Match against this strong etag (NULL = there is no such thing): ABSENT without the header; "*" matches whatever
 * exists. */
enum http_match {
    HTTP_MATCH_ABSENT,
    HTTP_MATCH_YES,
    HTTP_MATCH_NO
};
enum http_match http_if_match(const struct http_request *rq, const char *etag);

enum http_pull {
    HTTP_PULL_MORE,
    HTTP_PULL_DONE,
    HTTP_PULL_ERROR,
    HTTP_PULL_WAIT
};
/* Streamed reply of unknown length (chunked; gzip when accepted, unless SSE). `pull` appends the next 1..64 KiB to out;
 * WAIT: nothing yet, call again after http_resume(rq) or heartbeat_ms (then pull is called and may append a comment);
 * ERROR cuts the connection so that the client sees it was not whole. free_context runs once, in any case. */
void http_reply_stream(struct http_request *rq, int status, const char *media_type, unsigned heartbeat_ms,
                       enum http_pull (*pull)(struct http_request *rq, void *context, struct buf *out), void *context,
                       void (*free_context)(void *context));

#endif
