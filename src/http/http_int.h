/* http_int.h - what the files of this room share. Nobody else includes it.
 *
 * Locks, in the order they are taken: waiters->mu, server->timers_mu, a stripe (rq->mu), server->connections_mu. MHD's
 * own locks come last. A request belongs to the HTTP thread of its connection; other threads touch only the fields
 * marked "guarded by mu", and only while the request is known to be alive: it is suspended for them (a writer), or it
 * is on a list whose lock they hold (waiters, timers) and which it leaves before it is freed.
 */
#ifndef HTTP_HTTP_INT_H
#define HTTP_HTTP_INT_H

#include <microhttpd.h>
#include <pthread.h>
#include <stdatomic.h>
#include <zlib.h>

#include "http/http.h"
#include "util/buf.h"

#if MHD_VERSION >= 0x00097002
typedef enum MHD_Result mhd_result;
#else
#error "libmicrohttpd 0.9.75 or newer is needed"
#endif

enum {
    HTTP_MAX_SEGMENTS = 12,     /* of a path */
    HTTP_MAX_PARAMS = 6,        /* {} of a pattern */
    HTTP_REQUEST_ID_BYTES = 65, /* with the 0 */
    HTTP_STRIPES = 64,          /* locks for suspend and resume */
    HTTP_PIECE_BYTES = 65536,   /* of streams, in and out */
    HTTP_RATE_BYTES = 16384,    /* slowest client: bytes per second (whole bodies), bytes per window (streams) */
    HTTP_TOTAL_FACTOR = 4,      /* a request that is not streamed may take 4 x body_seconds in all */
    HTTP_MEMORY_BYTES = 131072, /* per connection: headers, pieces of a body; 1,000 ?id= of 36 bytes need 110 KiB */
    HTTP_MEMORY_STEP = 16384,
    HTTP_SMALL_BODY = 65536 /* as much of a body every connection may always hold */
};

/* ---- server ----------------------------------------------------------------------------------------------------- */

/* One open connection; lives in MHD's socket context. */
struct http_connection {
    struct http_server *server;
    struct http_connection *prev, *next; /* guarded by server->connections_mu */
    int fd;
    _Atomic int64_t deadline_ms; /* the sweeper shuts the socket down after it; INT64_MAX = none */
    atomic_bool awaits_body;     /* of the running request: more must come */
    struct http_request *pending; /* made by the URI callback, not handled yet; the connection's own thread only */
    bool seen_gone;              /* guarded by server->connections_mu: the last sweep saw that nothing more can come */
};

struct router;

struct http_server {
    const struct http_app *app;
    struct http_limits limits;
    struct MHD_Daemon *daemon;
    struct router *router;
    int listen_fd;
    int port;
    bool is_unix;
    char *unix_path;    /* removed at the end; NULL when the socket was passed in */
    char id_prefix[17]; /* of request ids: random per start */
    _Atomic uint64_t next_id;
    atomic_bool stopping;
    atomic_uint n_requests, n_connections, n_suspended, n_polls;
    atomic_size_t body_bytes; /* memory of whole bodies, of all requests */
    _Atomic int64_t log_second; /* rate limit of the library's own log lines */
    atomic_uint logged_in_second;
    struct MHD_Response *no_memory; /* 503, made at the start */

    pthread_mutex_t stripes[HTTP_STRIPES];

    pthread_mutex_t connections_mu;
    struct http_connection *connections; /* guarded by connections_mu */

    pthread_mutex_t timers_mu;
    pthread_cond_t timers_changed;
    struct http_request *timers; /* guarded by timers_mu */
    bool sweeper_ends;           /* guarded by timers_mu */
    bool sweeper_runs;           /* written once at the start */
    pthread_t sweeper;
};

/* ---- request ---------------------------------------------------------------------------------------------------- */

struct query_value {
    const char *name, *value; /* decoded, inside rq->text */
};

/* Streamed reply; in stream.c. */
struct http_stream;

struct http_request {
    struct http_server *server;
    struct http_connection *connection;
    struct MHD_Connection *mhd;
    int64_t started_ns;
    const struct http_route *route;
    const char *method; /* MHD's, valid as long as the request */
    void *data;
    char id[HTTP_REQUEST_ID_BYTES];
    bool begun;      /* the handler was called: counted as open */
    bool body_ended; /* the final call came, body_end() ran */
    bool finish_called;
    bool is_head;
    bool keep_closed;      /* Connection: close on the reply, whatever else */
    const char *uri_error; /* found while the target was split; a static sentence */

    /* the target, decoded once */
    char *path[HTTP_MAX_SEGMENTS];
    size_t path_bytes[HTTP_MAX_SEGMENTS];
    size_t n_path;
    bool too_deep;
    const char *params[HTTP_MAX_PARAMS];
    size_t n_params;
    struct query_value *query;
    size_t n_query;
    char *text;       /* holds all of the above */
    size_t raw_bytes; /* length of the target as sent */
    const char *raw_target; /* where it lay; for head.c only: the library changes it */

    /* the request body (body.c) */
    enum http_body_mode mode;
    bool has_body, chunked, gzip, expects_continue;
    bool drop; /* nobody wants the rest: count and forget */
    bool inflate_open, inflate_pending, inflate_ended;
    uint64_t content_length;              /* 0 when chunked */
    uint64_t received, dropped, inflated; /* bytes as sent, as dropped, as handed on */
    uint64_t window_bytes;                /* STREAM: since the last time the deadline moved */
    struct buf body;
    size_t body_counted; /* in server->body_bytes */
    z_stream z;
    unsigned char *piece; /* HTTP_PIECE_BYTES of inflated bytes */
    enum amx_status body_status;
    struct amx_error body_error;
    char media_type[64];

    /* the reply (reply.c, stream.c) */
    struct buf headers; /* "name\0value\0" ... */
    char *problem;      /* copy of a problem that was replied before the body came; for reply_raw */
    struct MHD_Response *response;
    int status;
    bool queued;
    bool has_etag, has_cache_control, has_csp, has_retry_after;
    uint64_t reply_bytes;
    struct http_stream *stream;

    /* suspend and resume (suspend.c) */
    pthread_mutex_t *mu;      /* one of server->stripes */
    bool suspended;           /* guarded by mu; written by the request's thread only, which may read it without */
    bool resumed;             /* guarded by mu */
    bool is_stream;           /* guarded by mu */
    bool timed_out;           /* guarded by mu */
    bool wake_pending;        /* guarded by mu: a wake came while it was not suspended (streams, watchers) */
    enum http_wait wait_kind; /* guarded by mu */
    bool counted_poll;
    int64_t held_deadline_ms; /* what was left of the connection's deadline when it was suspended */
    void (*next)(struct http_request *rq);

    struct http_request *timer_prev, *timer_next; /* guarded by server->timers_mu */
    int64_t wake_at_ms;                           /* guarded by server->timers_mu; INT64_MAX = no deadline */
    bool timer_listed;                            /* written by the request's thread only */

    struct http_waiters *waiters;               /* NULL = on no list; written by the request's thread only */
    struct http_request *wait_prev, *wait_next; /* guarded by waiters->mu */
    int64_t wait_key;
    bool watching; /* stays listed until the request ends */
};

/* vet.c: false = refused, and rq has a reply (which closes the connection). */
bool vet_headers(struct http_request *rq, const char *version);

/* head.c: false = the head holds bytes that the library has not told of. */
bool head_is_vetted_here(void); /* this libmicrohttpd needs it */
bool head_is_whole(const struct http_request *rq, const char *version);

/* router.c */
struct router *router_new(const struct http_route *routes);
void router_free(struct router *router);
/* Sets rq->route and the parameters; or replies 404, 405, or (OPTIONS) 204. */
bool router_match(struct http_request *rq);
/* Splits and decodes the raw target into rq; false when memory is out. Grammar errors go to rq->uri_error. */
bool router_split(struct http_request *rq, const char *uri);

/* body.c: what the headers say; false: replied (415). */
bool body_begin(struct http_request *rq);
/* After `start`, which may have changed the mode: Content-Length within the limit; false: replied (413). */
bool body_fits(struct http_request *rq);
/* The next n bytes from the wire; *used of them were taken (all, unless the handler suspended). false = cut. */
bool body_feed(struct http_request *rq, const char *bytes, size_t n, size_t *used);
/* No more bytes. False = suspended on the way: call again. */
bool body_end(struct http_request *rq);
void body_done(struct http_request *rq);

/* suspend.c */
void suspend_release(struct http_request *rq); /* the request ends: off every list */
/* In the request's thread: AMX_BUSY while it is suspended; AMX_OK otherwise, with *next the function to run (or NULL).
 */
enum amx_status suspend_check(struct http_request *rq, void (**next)(struct http_request *rq));
bool suspend_count_stream(struct http_request *rq); /* false: too many polls and streams */
/* WAIT of a stream; false = a wake is pending, pull again. */
bool suspend_stream(struct http_request *rq, unsigned heartbeat_ms);
void suspend_wake(struct http_request *rq, bool timed_out); /* never a request that waits for the disk */
void suspend_wake_all(struct http_server *server);          /* every poll and stream: the server stops */

/* waiters.c */
void waiters_leave(struct http_request *rq);

/* deadlines.c */
bool deadlines_start(struct http_server *server);
void deadlines_stop(struct http_server *server);
void deadlines_set(struct http_connection *connection, int64_t at_ms);
void timers_add(struct http_request *rq, int64_t at_ms);
void timers_remove(struct http_request *rq);
void connections_add(struct http_connection *connection);
void connections_remove(struct http_connection *connection);
void connections_shutdown_all(struct http_server *server);

/* reply.c */
mhd_result reply_queue(struct http_request *rq); /* hands rq->response to MHD */
struct MHD_Response *reply_no_memory_new(void);
/* Wraps up a response: common headers, status. Takes the response; NULL -> 503. */
void reply_take(struct http_request *rq, int status, const char *media_type, struct MHD_Response *response);
bool reply_accepts_gzip(const struct http_request *rq);
bool reply_is_compressible(const char *media_type);
/* For refusals that libmicrohttpd would not let out: writes the bare answer to the socket; the caller then cuts. */
void reply_raw(struct http_request *rq);

/* stream.c */
void stream_release(struct http_request *rq);

/* request.c: MHD's callbacks */
void *request_on_uri(void *server, const char *uri, struct MHD_Connection *mhd);
/* Frees a request that its handler has never seen (NULL allowed). */
void request_discard(struct http_request *rq);
mhd_result request_on_call(void *server, struct MHD_Connection *mhd, const char *url, const char *method,
                           const char *version, const char *upload, size_t *upload_size, void **context);
void request_on_completed(void *server, struct MHD_Connection *mhd, void **context,
                          enum MHD_RequestTerminationCode code);

#endif
