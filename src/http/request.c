/* request.c - the life of one request, as libmicrohttpd calls it.
 *
 * The URI callback comes first and makes the request (it alone sees the raw target). The handler is then called once
 * with the headers, once per piece of the body, and once more at the end; after a suspension again. Answers are
 * composed at any time but handed to libmicrohttpd only where it takes them: at the end of the body, or, when the
 * client waits for 100-continue or the connection must be closed anyway, at the first call. Everything is freed in
 * `completed`, nowhere else.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "http/http_int.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/random.h"

enum {
    ALONE_NS = 100000000 /* nothing of another connection for so long */
};

/* What this HTTP thread has in hand. */
static _Thread_local struct {
    unsigned open;                            /* requests whose headers have come */
    const struct http_connection *connection; /* of the last of them; only compared */
    int64_t since_ns;                         /* since when it has been the only one */
} hand;

static void take_in_hand(const struct http_request *rq)
{
    hand.open++;
    if (hand.connection != rq->connection) {
        hand.connection = rq->connection;
        hand.since_ns = rq->started_ns;
    }
}

bool http_is_alone(const struct http_request *rq)
{
    return hand.open == 1 && rq->started_ns - hand.since_ns >= ALONE_NS;
}

static pthread_mutex_t *stripe_of(struct http_server *server, const struct http_request *rq)
{
    uintptr_t bits = (uintptr_t)rq;
    return &server->stripes[(bits >> 6 ^ bits >> 12) % HTTP_STRIPES];
}

/* One that no other request has. */
static void make_id(struct http_request *rq)
{
    unsigned char number[8];
    uint64_t n = atomic_fetch_add_explicit(&rq->server->next_id, 1, memory_order_relaxed);
    for (size_t i = sizeof number; i-- > 0; n >>= 8)
        number[i] = (unsigned char)n;
    size_t prefix = strlen(rq->server->id_prefix), skip = 0;
    while (skip < 4 && number[skip] == 0)
        skip++;
    memcpy(rq->id, rq->server->id_prefix, prefix);
    random_hex(number + skip, sizeof number - skip, rq->id + prefix);
}

/* The client's own id if it is tame: it goes into logs and headers. */
static void choose_id(struct http_request *rq)
{
    const char *given = http_header_in(rq, "X-Request-Id");
    size_t n = given != NULL ? strlen(given) : 0;
    bool tame = n > 0 && n < HTTP_REQUEST_ID_BYTES;
    for (size_t i = 0; i < n && tame; i++) {
        char c = given[i];
        tame = (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') || c == '-' || c == '_' || c == '.';
    }
    if (tame)
        memcpy(rq->id, given, n + 1);
    else
        make_id(rq);
}

void request_discard(struct http_request *rq)
{
    if (rq == NULL)
        return;
    if (rq->response != NULL && rq->response != rq->server->no_memory)
        MHD_destroy_response(rq->response);
    buf_done(&rq->headers);
    free(rq->problem);
    free(rq->query);
    free(rq->text);
    free(rq);
}

/* libmicrohttpd keeps the target and 64 bytes for each parameter in the connection's memory. 0.9.75 answers nothing when
 * they do not fit and lets the client wait until the time is over; so it is told before they are looked at. */
static bool target_fits(const char *uri)
{
    size_t n = HTTP_MEMORY_STEP + HTTP_MEMORY_STEP / 2; /* other headers, and the step its buffer grows by */
    for (const char *c = uri; *c != '\0'; c++)
        n += *c == '&' ? 65 : 1;
    return n <= HTTP_MEMORY_BYTES;
}

static void refuse_target(struct http_request *rq)
{
    rq->method = "GET";
    rq->has_body = true; /* so the problem is kept as text, for reply_raw */
    make_id(rq);
    http_reply_problem(rq, 414, "too-large", "Too large", "the query has too many parameters", NULL);
    reply_raw(rq);
    (void)shutdown(rq->connection->fd, SHUT_RD); /* nothing more is read: libmicrohttpd closes */
}

void *request_on_uri(void *context, const char *uri, struct MHD_Connection *mhd)
{
    struct http_server *server = context;
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    if (info == NULL || info->socket_context == NULL)
        return NULL; /* no memory when it was opened: the handler cuts it */
    struct http_connection *connection = info->socket_context;
    request_discard(connection->pending); /* libmicrohttpd has forgotten it */
    connection->pending = NULL;
    struct http_request *rq = calloc(1, sizeof *rq);
    if (rq == NULL)
        return NULL;
    rq->server = server;
    rq->connection = connection;
    rq->mhd = mhd;
    rq->mu = stripe_of(server, rq);
    rq->held_deadline_ms = INT64_MAX;
    buf_init(&rq->headers, 16384);
    buf_init(&rq->body, server->limits.max_body_bytes);
    bool fits = target_fits(uri);
    if (!fits)
        refuse_target(rq);
    if (!fits || !router_split(rq, uri)) {
        request_discard(rq);
        return NULL;
    }
    connection->pending = rq;
    return rq;
}

/* How long the client has for the rest of this request. */
static void set_deadline(struct http_request *rq)
{
    const struct http_limits *limits = &rq->server->limits;
    int64_t seconds = limits->body_seconds, total = seconds * HTTP_TOTAL_FACTOR;
    if (!rq->has_body || (rq->chunked && rq->mode != HTTP_BODY_STREAM)) {
        seconds = total;
    } else if (rq->mode != HTTP_BODY_STREAM) {
        int64_t by_rate = (int64_t)(rq->content_length / HTTP_RATE_BYTES);
        seconds = by_rate < seconds ? seconds : by_rate < total ? by_rate : total;
    }
    deadlines_set(rq->connection, clock_monotonic_ms() + seconds * 1000);
}

static void on_headers(struct http_request *rq, const char *method, const char *version)
{
    const struct http_app *app = rq->server->app;
    rq->begun = true;
    rq->method = method;
    rq->is_head = strcmp(method, "HEAD") == 0;
    rq->started_ns = clock_monotonic_ns();
    atomic_fetch_add(&rq->server->n_requests, 1);
    take_in_hand(rq);
    choose_id(rq);
    if (vet_headers(rq, version) && router_match(rq) && (app->gate == NULL || app->gate(rq)) && body_begin(rq)) {
        if (rq->route->start != NULL)
            rq->route->start(rq);
        if (!http_replied(rq))
            (void)body_fits(rq);
    }
    set_deadline(rq);
    atomic_store_explicit(&rq->connection->awaits_body, rq->has_body, memory_order_relaxed);
}

/* Answers before the body has come, where that is right. 0.9.75 lets such answers out for POST and PUT only; with other
 * methods it would wait for ever, so there the bare bytes are written and the connection is cut. */
static bool answers_at_once(struct http_request *rq, mhd_result *result)
{
    bool must_close = rq->keep_closed || rq->content_length > rq->server->limits.max_drop_bytes;
    bool early_works = MHD_VERSION >= 0x00097701 || strcmp(rq->method, "POST") == 0 || strcmp(rq->method, "PUT") == 0;
    if (!http_replied(rq) || !rq->has_body || !(must_close || (rq->expects_continue && early_works)))
        return false;
    if (early_works) {
        *result = reply_queue(rq);
    } else {
        reply_raw(rq);
        *result = MHD_NO;
    }
    return true;
}

/* The body is complete: finish answers or suspends. */
static mhd_result on_end(struct http_request *rq)
{
    atomic_store_explicit(&rq->connection->awaits_body, false, memory_order_relaxed);
    if (!body_end(rq))
        return MHD_YES; /* suspended with unpacked bytes left over */
    if (!http_replied(rq) && !rq->finish_called && !rq->suspended) {
        rq->finish_called = true;
        rq->route->finish(rq);
    }
    if (http_replied(rq))
        return reply_queue(rq);
    if (rq->suspended)
        return MHD_YES;
    log_error("a handler neither replied nor suspended", LOG_TEXT("route", rq->route->pattern), LOG_TEXT("id", rq->id));
    http_reply_problem(rq, 500, "internal", "Internal error", "the request was not answered; this is a bug", NULL);
    return reply_queue(rq);
}

mhd_result request_on_call(void *server, struct MHD_Connection *mhd, const char *url, const char *method,
                           const char *version, const char *upload, size_t *upload_size, void **context)
{
    struct http_request *rq = *context;
    mhd_result result = MHD_YES;
    (void)server;
    (void)mhd;
    (void)url;
    if (rq == NULL)
        return MHD_NO;
    if (!rq->begun) {
        rq->connection->pending = NULL;
        on_headers(rq, method, version);
        (void)answers_at_once(rq, &result);
        return result;
    }
    void (*next)(struct http_request * rq);
    if (suspend_check(rq, &next) != AMX_OK)
        return MHD_YES; /* what was sent stays in the buffer */
    if (next != NULL)
        next(rq);
    if (rq->suspended && !http_replied(rq))
        return MHD_YES;
    if (rq->queued)
        *upload_size = 0;
    if (*upload_size > 0) {
        size_t used;
        if (!body_feed(rq, upload, *upload_size, &used))
            return MHD_NO;
        *upload_size -= used;
        return MHD_YES;
    }
    return rq->queued ? MHD_YES : on_end(rq);
}

static const char *method_word(const struct http_request *rq)
{
    static const char *const words[] = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (strcmp(rq->method, words[i]) == 0)
            return words[i];
    }
    return "OTHER"; /* not the client's text: it would be a label of the metrics */
}

/* Status 499: the connection ended before there was an answer. Never ids, tokens, targets: the template says enough. */
static void tell(struct http_request *rq, enum MHD_RequestTerminationCode code)
{
    const struct http_app *app = rq->server->app;
    const char *template = rq->route != NULL ? rq->route->pattern : "";
    double seconds = (double)(clock_monotonic_ns() - rq->started_ns) / 1e9;
    int status = rq->queued ? rq->status : 499;
    if (app->observed != NULL)
        app->observed(app->context, template, method_word(rq), status, seconds);
    if (rq->server->limits.access_log)
        log_info("request", LOG_TEXT("method", method_word(rq)), LOG_TEXT("route", template), LOG_INT("status", status),
                 LOG_INT("bytes", rq->reply_bytes), LOG_REAL("ms", (double)(int64_t)(seconds * 1e6) / 1e3),
                 LOG_TEXT("end", code == MHD_REQUEST_TERMINATED_COMPLETED_OK ? "ok" : "cut"),
                 LOG_TEXT("request_id", rq->id));
}

void request_on_completed(void *context, struct MHD_Connection *mhd, void **request,
                          enum MHD_RequestTerminationCode code)
{
    struct http_server *server = context;
    struct http_request *rq = *request;
    (void)mhd;
    if (rq == NULL)
        return;
    *request = NULL;
    if (rq->connection->pending == rq)
        rq->connection->pending = NULL;
    atomic_store_explicit(&rq->connection->awaits_body, false, memory_order_relaxed);
    suspend_release(rq);
    stream_release(rq);
    if (rq->begun) {
        if (server->app->completed != NULL)
            server->app->completed(rq);
        tell(rq, code);
    }
    deadlines_set(rq->connection,
                  clock_monotonic_ms() + (int64_t)(server->limits.idle_seconds + server->limits.header_seconds) * 1000);
    body_done(rq);
    bool begun = rq->begun;
    request_discard(rq);
    if (begun) {
        hand.open--;
        atomic_fetch_sub(&server->n_requests, 1);
    }
}

/* ---- what handlers ask ------------------------------------------------------------------------------------------ */

void *http_context(const struct http_request *rq)
{
    return rq->server->app->context;
}

void *http_data(const struct http_request *rq)
{
    return rq->data;
}

void http_set_data(struct http_request *rq, void *data)
{
    rq->data = data;
}

const struct http_route *http_route_of(const struct http_request *rq)
{
    return rq->route;
}

const char *http_request_id(const struct http_request *rq)
{
    return rq->id;
}

bool http_is_local_socket(const struct http_request *rq)
{
    return rq->server->is_unix;
}

bool http_is_stopping(const struct http_request *rq)
{
    return atomic_load(&rq->server->stopping);
}

const char *http_header_in(const struct http_request *rq, const char *name)
{
    return MHD_lookup_connection_value(rq->mhd, MHD_HEADER_KIND, name);
}

const char *http_param(const struct http_request *rq, unsigned index)
{
    return index < rq->n_params ? rq->params[index] : NULL;
}

bool http_replied(const struct http_request *rq)
{
    return rq->response != NULL;
}
