/* wire.c - see wire.h. The definitions below stand before those of the shared library, for this program. */
#include "wire.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "fuzz.h"

/* ---- libmicrohttpd's view of a connection ---- */

const union MHD_ConnectionInfo *MHD_get_connection_info(struct MHD_Connection *mhd, enum MHD_ConnectionInfoType type,
                                                        ...)
{
    static union MHD_ConnectionInfo info;
    if (type == MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE) {
        info.header_size = mhd->n_head;
        return &info;
    }
    EXPECT(type == MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    info.socket_context = &mhd->http;
    return &info;
}

const char *MHD_lookup_connection_value(struct MHD_Connection *mhd, enum MHD_ValueKind kind, const char *key)
{
    EXPECT(kind == MHD_HEADER_KIND);
    for (size_t i = 0; i < mhd->n_headers; i++) {
        if (strcasecmp(mhd->headers[i].name, key) == 0)
            return mhd->headers[i].value;
    }
    return NULL;
}

int MHD_get_connection_values_n(struct MHD_Connection *mhd, enum MHD_ValueKind kind, MHD_KeyValueIteratorN iterator,
                                void *context)
{
    for (size_t i = 0; i < mhd->n_headers; i++) {
        const struct wire_header *h = &mhd->headers[i];
        if (iterator(context, kind, h->name, h->n_name, h->value, h->n_value) != MHD_YES)
            break;
    }
    return (int)mhd->n_headers;
}

enum MHD_Result MHD_queue_response(struct MHD_Connection *mhd, unsigned status, struct MHD_Response *response)
{
    EXPECT(response != NULL && mhd->status == 0);
    mhd->status = (int)status;
    return MHD_YES;
}

enum MHD_Result MHD_set_connection_option(struct MHD_Connection *mhd, enum MHD_CONNECTION_OPTION option, ...)
{
    (void)mhd;
    (void)option;
    return MHD_YES;
}

void MHD_suspend_connection(struct MHD_Connection *mhd)
{
    (void)mhd;
}

void MHD_resume_connection(struct MHD_Connection *mhd)
{
    (void)mhd;
}

/* ---- the request ---- */

struct http_server *wire_server(const struct http_app *app)
{
    struct http_server *server = calloc(1, sizeof *server);
    EXPECT(server != NULL);
    server->app = app;
    http_limits_default(&server->limits);
    server->limits.max_body_bytes = 1 << 16;
    server->limits.access_log = false;
    for (size_t i = 0; i < HTTP_STRIPES; i++)
        (void)pthread_mutex_init(&server->stripes[i], NULL);
    (void)pthread_mutex_init(&server->connections_mu, NULL);
    (void)pthread_mutex_init(&server->timers_mu, NULL);
    (void)pthread_cond_init(&server->timers_changed, NULL);
    server->router = router_new(app->routes);
    server->no_memory = reply_no_memory_new();
    EXPECT(server->router != NULL && server->no_memory != NULL);
    return server;
}

static char *copy_of(const void *bytes, size_t n)
{
    char *copy = malloc(n + 1);
    EXPECT(copy != NULL);
    if (n > 0)
        memcpy(copy, bytes, n);
    copy[n] = '\0';
    return copy;
}

void wire_header(struct MHD_Connection *mhd, const void *name, size_t n_name, const void *value, size_t n_value)
{
    if (mhd->n_headers == WIRE_HEADERS_MAX)
        return;
    mhd->headers[mhd->n_headers++] = (struct wire_header){copy_of(name, n_name), copy_of(value, n_value), n_name, n_value};
}

static char *put(char **to, const void *bytes, size_t n, size_t n_zeros)
{
    char *start = *to;
    if (n > 0)
        memcpy(start, bytes, n);
    memset(start + n, 0, n_zeros);
    *to = start + n + n_zeros;
    return start;
}

/* Lays the head out as libmicrohttpd 0.9.75 leaves it (head.c walks it): separators and line ends have become 0 bytes. */
static void lay_out(struct MHD_Connection *mhd, const char **method, const char **target, const char **version)
{
    mhd->n_head = strlen(*method) + strlen(*target) + strlen(*version) + 6;
    for (size_t i = 0; i < mhd->n_headers; i++)
        mhd->n_head += mhd->headers[i].n_name + mhd->headers[i].n_value + 3;
    char *to = mhd->head = malloc(mhd->n_head);
    EXPECT(to != NULL);
    *method = put(&to, *method, strlen(*method), 1);
    *target = put(&to, *target, strlen(*target), 1);
    *version = put(&to, *version, strlen(*version), 2);
    for (size_t i = 0; i < mhd->n_headers; i++) {
        struct wire_header *h = &mhd->headers[i];
        char *name = put(&to, h->name, h->n_name, 1), *value = put(&to, h->value, h->n_value, 2);
        free(h->name);
        free(h->value);
        h->name = name;
        h->value = value;
    }
    (void)put(&to, "", 0, 2);
    EXPECT(to == mhd->head + mhd->n_head);
}

/* One call of the handler with n bytes; takes off what was used. False: cut. */
static bool hand_over(struct http_server *server, struct MHD_Connection *mhd, const char *method, const char *version,
                      const char *bytes, size_t *n, void **context)
{
    struct http_request *rq = *context;
    size_t left = *n;
    bool ok = request_on_call(server, mhd, "", method, version, bytes, &left, context) == MHD_YES;
    *n -= left;
    if (ok && rq != NULL && rq->suspended)
        http_resume(rq);
    return ok;
}

static bool send_body(struct http_server *server, struct MHD_Connection *mhd, const char *method, const char *version,
                      const uint8_t *body, size_t n, size_t piece, void **context)
{
    bool ok = true;
    for (size_t at = 0; at < n && ok && mhd->status == 0;) {
        size_t part = n - at < piece ? n - at : piece, used = 0;
        char *copy = copy_of(body + at, part); /* so that reading beyond it is seen */
        for (int idle = 0; used < part && ok && mhd->status == 0;) {
            size_t step = part - used;
            ok = hand_over(server, mhd, method, version, copy + used, &step, context);
            used += step;
            idle = step > 0 ? 0 : idle + 1;
            EXPECT(idle < 10000); /* it goes on */
        }
        free(copy);
        at += part;
    }
    return ok;
}

int wire_send(struct http_server *server, struct MHD_Connection *mhd, const char *method, const char *target,
              const char *version, const uint8_t *body, size_t n, size_t piece,
              void (*before_end)(const struct http_request *rq))
{
    mhd->http = (struct http_connection){.server = server, .fd = -1};
    lay_out(mhd, &method, &target, &version);
    void *context = request_on_uri(server, target, mhd);
    size_t none = 0;
    bool ok = context != NULL && hand_over(server, mhd, method, version, NULL, &none, &context);
    ok = ok && send_body(server, mhd, method, version, body, n, piece, &context);
    for (int calls = 0; ok && mhd->status == 0; calls++) {
        ok = hand_over(server, mhd, method, version, NULL, &none, &context);
        EXPECT(calls < 10000);
    }
    if (context != NULL && before_end != NULL)
        before_end(context);
    request_on_completed(server, mhd, &context,
                         ok ? MHD_REQUEST_TERMINATED_COMPLETED_OK : MHD_REQUEST_TERMINATED_WITH_ERROR);
    EXPECT(mhd->http.pending == NULL && atomic_load(&server->n_requests) == 0 && atomic_load(&server->n_suspended) == 0);
    free(mhd->head);
    return mhd->status;
}
