/* app.c - the routes the HTTP tests talk to, and a thread that resumes requests as the writer does. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "peer.h"
#include "test.h"
#include "util/log.h"

struct http_waiters *app_waiters;
static atomic_uint n_completed, n_freed;
static _Atomic uint64_t n_received;
static atomic_int state_value;
static pthread_mutex_t observed_mu = PTHREAD_MUTEX_INITIALIZER;
static struct app_counts seen; /* guarded by observed_mu */

/* ---- the writer's stand-in -------------------------------------------------------------------------------------- */

enum {
    QUEUE = 1024
};
static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static struct http_request *queue[QUEUE]; /* guarded by mu */
static unsigned n_queue;
static bool held, ends;
static pthread_t writer;

static void *write_loop(void *context)
{
    struct http_request *mine[QUEUE];
    (void)context;
    pthread_mutex_lock(&mu);
    for (;;) {
        while (!ends && (n_queue == 0 || held))
            pthread_cond_wait(&changed, &mu);
        if (ends && n_queue == 0)
            break;
        unsigned n = n_queue;
        memcpy(mine, queue, n * sizeof *mine);
        n_queue = 0;
        pthread_mutex_unlock(&mu);
        for (unsigned i = 0; i < n; i++)
            http_resume(mine[i]);
        pthread_mutex_lock(&mu);
    }
    pthread_mutex_unlock(&mu);
    return NULL;
}

static void submit(struct http_request *rq)
{
    pthread_mutex_lock(&mu);
    queue[n_queue++] = rq;
    pthread_cond_signal(&changed);
    pthread_mutex_unlock(&mu);
}

void app_hold_writer(bool hold)
{
    pthread_mutex_lock(&mu);
    held = hold;
    pthread_cond_signal(&changed);
    pthread_mutex_unlock(&mu);
}

unsigned app_held(void)
{
    pthread_mutex_lock(&mu);
    unsigned n = n_queue;
    pthread_mutex_unlock(&mu);
    return n;
}

/* ---- handlers --------------------------------------------------------------------------------------------------- */

static void reply_text(struct http_request *rq, int status, const char *text)
{
    http_reply(rq, status, "application/json", (void *)(uintptr_t)text, strlen(text), NULL);
}

static void hello(struct http_request *rq)
{
    reply_text(rq, 200, "\"hello\"");
}

static void literal(struct http_request *rq)
{
    reply_text(rq, 200, "\"literal\"");
}

static void params(struct http_request *rq)
{
    http_reply_json(rq, 200, json_pack("[s, s]", http_param(rq, 0), http_param(rq, 1)));
}

static void item(struct http_request *rq)
{
    if (http_if_match(rq, "\"v1\"") == HTTP_MATCH_NO)
        http_reply_problem(rq, 412, "conflict", "Precondition failed", "another version", NULL);
    else if (!http_reply_if_unchanged(rq, "\"v1\""))
        http_reply_json(rq, 200, json_pack("{s:s}", "id", http_param(rq, 0)));
}

static void query(struct http_request *rq)
{
    static const char *const names[] = {"n", "id", "flag", NULL};
    int64_t n;
    bool flag;
    if (!http_query_only(rq, names) || !http_query_int(rq, "n", 1, 100, 10, &n) ||
        !http_query_bool(rq, "flag", false, &flag))
        return;
    json_t *ids = json_array();
    for (unsigned i = 0; http_query_nth(rq, "id", i) != NULL; i++)
        (void)json_array_append_new(ids, json_string(http_query_nth(rq, "id", i)));
    http_reply_json(rq, 200, json_pack("{s:I, s:b, s:o}", "n", (json_int_t)n, "flag", (int)flag, "id", ids));
}

static void format(struct http_request *rq)
{
    static const char *const words[] = {"\"json\"", "\"csv\"", "\"ndjson\"", "\"binary\""};
    enum http_format f = http_negotiate(rq, 1U << HTTP_FORMAT_JSON | 1U << HTTP_FORMAT_CSV | 1U << HTTP_FORMAT_BINARY);
    if (f != HTTP_FORMAT_NONE)
        reply_text(rq, 200, words[f]);
}

static void big(struct http_request *rq)
{
    char *text = malloc(100000);
    memset(text, 'a', 100000);
    text[0] = text[99999] = '"';
    http_reply(rq, 200, "application/json", text, 100000, free);
}

static void page(struct http_request *rq)
{
    static unsigned char html[3000];
    memset(html, 'x', sizeof html);
    http_reply_static(rq, "text/html; charset=utf-8", html, sizeof html);
}

/* Tells the length of the body and its first bytes. */
static void echo(struct http_request *rq)
{
    size_t n;
    const char *body = http_body(rq, &n);
    http_reply_json(rq, 200,
                    json_pack("{s:I, s:s%, s:s}", "n", (json_int_t)n, "start", body != NULL ? body : "",
                              n < 20 ? n : 20, "type", http_media_type(rq)));
}

static void forbid(struct http_request *rq)
{
    http_reply_problem(rq, 403, "forbidden", "Forbidden", "not you", NULL);
}

static bool gate(struct http_request *rq)
{
    if (http_route_of(rq)->scope == 0 || http_header_in(rq, "Authorization") != NULL)
        return true;
    if (http_set_header(rq, "WWW-Authenticate", "Bearer"))
        http_reply_problem(rq, 401, "unauthorized", "Unauthorized", "a token is needed", NULL);
    return false;
}

static void suspend_next(struct http_request *rq)
{
    const char *again = http_query(rq, "again");
    int64_t left = (int64_t)(intptr_t)http_data(rq);
    if (again != NULL && left < 3) {
        http_set_data(rq, (void *)(intptr_t)(left + 1));
        if (http_suspend(rq, HTTP_WAIT_WRITE, 0, suspend_next))
            submit(rq);
        return;
    }
    http_set_data(rq, NULL);
    reply_text(rq, 201, "\"written\"");
}

static void suspend(struct http_request *rq)
{
    if (http_suspend(rq, HTTP_WAIT_WRITE, 0, suspend_next))
        submit(rq);
}

static void waited(struct http_request *rq)
{
    char text[80];
    (void)snprintf(text, sizeof text, "{\"state\":%d,\"timed_out\":%s,\"stopping\":%s}", atomic_load(&state_value),
                   http_timed_out(rq) ? "true" : "false", http_is_stopping(rq) ? "true" : "false");
    http_reply(rq, 200, "application/json", text, strlen(text), NULL);
}

static void wait_state(struct http_request *rq)
{
    int64_t ms;
    if (http_query_int(rq, "ms", 1, 60000, 60000, &ms))
        (void)http_wait(app_waiters, 1, rq, (unsigned)ms, waited);
}

/* Watches, then lets the state change, then waits: the wake in between must not be lost. */
static void watch_state(struct http_request *rq)
{
    http_watch(app_waiters, 1, rq);
    app_set_state(atomic_load(&state_value) + 1);
    (void)http_suspend(rq, HTTP_WAIT_POLL, 60000, waited);
}

/* ---- streamed bodies -------------------------------------------------------------------------------------------- */

struct upload {
    uint64_t bytes, sum;
    unsigned pieces, every; /* suspends after every that many pieces */
};

static void upload_start(struct http_request *rq)
{
    struct upload *upload = calloc(1, sizeof *upload);
    int64_t every = 0;
    http_set_data(rq, upload);
    http_set_body_mode(rq, HTTP_BODY_STREAM);
    if (http_query_int(rq, "every", 0, 1000, 0, &every))
        upload->every = (unsigned)every;
}

static void upload_next(struct http_request *rq)
{
    CHECK(!http_replied(rq)); /* the body goes on */
}

static void upload_body(struct http_request *rq, const char *data, size_t n)
{
    struct upload *upload = http_data(rq);
    upload->bytes += n;
    atomic_fetch_add(&n_received, n);
    for (size_t i = 0; i < n; i++)
        upload->sum = upload->sum * 31 + (unsigned char)data[i];
    if (http_query(rq, "drop") != NULL)
        http_drop_body(rq);
    if (upload->every > 0 && ++upload->pieces % upload->every == 0 && http_suspend(rq, HTTP_WAIT_WRITE, 0, upload_next))
        submit(rq);
}

static void upload_finish(struct http_request *rq)
{
    struct upload *upload = http_data(rq);
    struct amx_error err = {.code = AMX_OK};
    enum amx_status status = http_body_status(rq, &err);
    http_reply_json(rq, status == AMX_OK ? 200 : 400,
                    json_pack("{s:I, s:I, s:i, s:s}", "bytes", (json_int_t)upload->bytes, "sum",
                              (json_int_t)(upload->sum & 0xFFFFFFFF), "status", (int)status, "text", err.text));
}

/* ---- streamed replies ------------------------------------------------------------------------------------------- */

struct download {
    int64_t left;
    int told;
};

static void download_free(void *context)
{
    free(context);
    atomic_fetch_add(&n_freed, 1);
}

static enum http_pull download_pull(struct http_request *rq, void *context, struct buf *out)
{
    struct download *d = context;
    (void)rq;
    if (d->left == 0)
        return HTTP_PULL_DONE;
    if (d->left < 0) { /* endless, or (-2) broken */
        char zeros[16384] = {0};
        (void)buf_append(out, zeros, sizeof zeros);
        return d->left == -2 ? HTTP_PULL_ERROR : HTTP_PULL_MORE;
    }
    for (int i = 0; i < 1000 && d->left > 0; i++, d->left--)
        (void)buf_printf(out, "%lld\n", (long long)d->left);
    return HTTP_PULL_MORE;
}

static void download(struct http_request *rq)
{
    struct download *d = calloc(1, sizeof *d);
    if (!http_query_int(rq, "n", -2, 1000000, 10, &d->left))
        free(d);
    else
        http_reply_stream(rq, 200, "text/csv", 0, download_pull, d, download_free);
}

static enum http_pull events_pull(struct http_request *rq, void *context, struct buf *out)
{
    struct download *d = context;
    int state = atomic_load(&state_value);
    (void)rq;
    if (state != d->told) {
        d->told = state;
        (void)buf_printf(out, "data: %d\n\n", state);
        return state >= 100 ? HTTP_PULL_DONE : HTTP_PULL_MORE;
    }
    if (d->left++ > 0 && http_query(rq, "beat") != NULL)
        (void)buf_text(out, ": beat\n\n");
    return HTTP_PULL_WAIT;
}

static void events(struct http_request *rq)
{
    struct download *d = calloc(1, sizeof *d);
    d->told = -1;
    http_watch(app_waiters, 1, rq);
    http_reply_stream(rq, 200, "text/event-stream", http_query(rq, "beat") != NULL ? 20 : 60000, events_pull, d,
                      download_free);
}

/* ---- table ------------------------------------------------------------------------------------------------------ */

static const char *const json_types[] = {"application/json", NULL};
static const char *const stream_types[] = {"application/x-ndjson", "text/csv", NULL};
static const struct http_route routes[] = {
    {"GET", "/", 0, NULL, NULL, NULL, hello},
    {"GET", "/hello", 0, NULL, NULL, NULL, hello},
    {"PATCH", "/hello", 1, json_types, NULL, NULL, hello},
    {"DELETE", "/hello", 0, NULL, NULL, NULL, hello},
    {"GET", "/p/{p}/items/{id}", 0, NULL, NULL, NULL, params},
    {"GET", "/p/{p}/items/special", 0, NULL, NULL, NULL, literal},
    {"POST", "/p/{p}/items", 0, json_types, NULL, NULL, echo},
    {"GET", "/items/{id}", 0, NULL, NULL, NULL, item},
    {"GET", "/query", 0, NULL, NULL, NULL, query},
    {"GET", "/format", 0, NULL, NULL, NULL, format},
    {"GET", "/big", 0, NULL, NULL, NULL, big},
    {"GET", "/page", 0, NULL, NULL, NULL, page},
    {"POST", "/echo", 0, json_types, NULL, NULL, echo},
    {"PUT", "/secret", 1, json_types, NULL, NULL, echo},
    {"POST", "/forbidden", 0, json_types, forbid, NULL, echo},
    {"POST", "/suspend", 0, json_types, NULL, NULL, suspend},
    {"GET", "/wait", 0, NULL, NULL, NULL, wait_state},
    {"GET", "/watch", 0, NULL, NULL, NULL, watch_state},
    {"POST", "/upload", 0, stream_types, upload_start, upload_body, upload_finish},
    {"GET", "/download", 0, NULL, NULL, NULL, download},
    {"GET", "/events", 0, NULL, NULL, NULL, events},
    {NULL, NULL, 0, NULL, NULL, NULL, NULL},
};

static void completed(struct http_request *rq)
{
    free(http_data(rq));
    http_set_data(rq, NULL);
    atomic_fetch_add(&n_completed, 1);
}

static void observed(void *context, const char *route, const char *method, int status, double seconds)
{
    (void)context;
    CHECK(seconds >= 0);
    pthread_mutex_lock(&observed_mu);
    seen.last_status = (unsigned)status;
    (void)snprintf(seen.last_route, sizeof seen.last_route, "%s", route);
    (void)snprintf(seen.last_method, sizeof seen.last_method, "%s", method);
    pthread_mutex_unlock(&observed_mu);
}

static const struct http_app app = {.routes = routes, .gate = gate, .completed = completed, .observed = observed};

struct app_counts app_counts(void)
{
    pthread_mutex_lock(&observed_mu);
    struct app_counts counts = seen;
    pthread_mutex_unlock(&observed_mu);
    counts.completed = atomic_load(&n_completed);
    counts.freed = atomic_load(&n_freed);
    counts.received = atomic_load(&n_received);
    return counts;
}

void app_set_state(int value)
{
    atomic_store(&state_value, value);
    http_wake(app_waiters, 1);
}

struct http_server *app_start(const struct http_limits *limits)
{
    struct http_listen where = {.address = "127.0.0.1:0", .unix_path = NULL, .inherited_fd = -1};
    struct http_limits defaults;
    struct http_server *server = NULL;
    struct amx_error err = {.text = ""};
    http_limits_default(&defaults);
    defaults.access_log = false;
    atomic_store(&n_completed, 0);
    atomic_store(&n_freed, 0);
    atomic_store(&n_received, 0);
    atomic_store(&state_value, 0);
    ends = held = false;
    log_setup(2, LOG_FORMAT_JSON, LOG_LEVEL_ERROR);
    app_waiters = http_waiters_new();
    CHECK(app_waiters != NULL);
    CHECK(pthread_create(&writer, NULL, write_loop, NULL) == 0);
    CHECK_INT(http_server_start(&where, limits != NULL ? limits : &defaults, &app, &server, &err), AMX_OK);
    CHECK_STR(err.text, "");
    return server;
}

void app_stop(struct http_server *server, unsigned drain_ms)
{
    http_server_stop(server, drain_ms);
    pthread_mutex_lock(&mu);
    ends = true;
    pthread_cond_signal(&changed);
    pthread_mutex_unlock(&mu);
    (void)pthread_join(writer, NULL);
    http_waiters_free(app_waiters);
}
