/* requests.c - targets that are whole requests: targets and queries, headers, packed bodies, cursors and tokens.
 *
 * The routes are the service's own, with handlers that look at what arrived; whatever is let in is compared with a
 * second reading that is written as simply as possible. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "endpoints/auth.h"
#include "endpoints/page.h"
#include "endpoints/routes.h"
#include "fuzz.h"
#include "util/buf.h"
#include "util/digest.h"
#include "wire.h"

/* ---- the second reading of a target ---- */

static int hex(char c)
{
    const char *digits = "0123456789abcdef", *at = c != '\0' ? strchr(digits, c >= 'A' && c <= 'F' ? c + 32 : c) : NULL;
    return at != NULL ? (int)(at - digits) : -1;
}

/* Decodes n bytes; false: not allowed. */
static bool decode(const char *from, size_t n, bool plus, char *out)
{
    while (n > 0) {
        unsigned char c = (unsigned char)*from;
        if (c < 0x20 || c == 0x7F)
            return false;
        size_t width = 1;
        if (c == '%') {
            if (n < 3 || hex(from[1]) < 0 || hex(from[2]) < 0 || (from[1] == '0' && from[2] == '0'))
                return false;
            c = (unsigned char)(hex(from[1]) * 16 + hex(from[2]));
            width = 3;
        } else if (c == '+' && plus) {
            c = ' ';
        }
        *out++ = (char)c;
        from += width;
        n -= width;
    }
    *out = '\0';
    return true;
}

static const char *sent; /* the target of the request under way */
static unsigned n_seen;  /* requests that got as far as a handler */

static void expect_path(const struct http_request *rq)
{
    const char *pattern = http_route_of(rq)->pattern, *raw = sent, *path_end = sent + strcspn(sent, "?");
    char *value = malloc(strlen(sent) + 1);
    unsigned params = 0;
    EXPECT(value != NULL);
    while (*pattern == '/') {
        EXPECT(*raw == '/' && raw < path_end);
        size_t n_pattern = strcspn(++pattern, "/"), n_raw = strcspn(++raw, "/?");
        EXPECT(decode(raw, n_raw, false, value));
        if (*pattern == '{')
            EXPECT(value[0] != '\0' && strcmp(http_param(rq, params++), value) == 0);
        else
            EXPECT(strlen(value) == n_pattern && memcmp(value, pattern, n_pattern) == 0);
        pattern += n_pattern;
        raw += n_raw;
    }
    EXPECT(raw == path_end && http_param(rq, params) == NULL);
    free(value);
}

static void expect_query(const struct http_request *rq)
{
    const char *at = strchr(sent, '?');
    size_t i = 0;
    char *name = malloc(strlen(sent) + 1), *value = malloc(strlen(sent) + 1);
    EXPECT(name != NULL && value != NULL);
    while (at != NULL && *at != '\0') {
        size_t n = strcspn(++at, "&"), n_name = strcspn(at, "=&");
        if (n > 0) {
            EXPECT(decode(at, n_name, true, name));
            EXPECT(decode(at + n_name + (n_name < n), n - n_name - (n_name < n), true, value));
            EXPECT(i < rq->n_query && strcmp(rq->query[i].name, name) == 0 && strcmp(rq->query[i].value, value) == 0);
            EXPECT(http_query(rq, name) != NULL);
            i++;
        }
        at += n;
    }
    EXPECT(i == rq->n_query);
    free(name);
    free(value);
}

static void look_at_target(struct http_request *rq)
{
    static const char *const names[] = {"limit", "wait", "id", NULL};
    int64_t number;
    bool truth;
    n_seen++;
    expect_path(rq);
    expect_query(rq);
    if (!http_query_int(rq, "limit", -5, 1000, 7, &number))
        return;
    EXPECT(number >= -5 && number <= 1000);
    if (!http_query_bool(rq, "wait", true, &truth) || !http_query_only(rq, names))
        return;
    if (http_negotiate(rq, 1U << HTTP_FORMAT_JSON | 1U << HTTP_FORMAT_CSV) == HTTP_FORMAT_NONE)
        return;
    http_reply_empty(rq, 204);
}

/* The service's routes with this end. */
static struct http_route *routes_with(void (*finish)(struct http_request *rq))
{
    const struct http_route *all = routes_all();
    size_t n = 0;
    EXPECT(all != NULL);
    while (all[n].method != NULL)
        n++;
    struct http_route *copy = calloc(n + 1, sizeof *copy);
    EXPECT(copy != NULL);
    for (size_t i = 0; i < n; i++) {
        copy[i] = all[i];
        copy[i].start = NULL;
        copy[i].body = NULL;
        copy[i].finish = finish;
    }
    return copy;
}

static void host(struct MHD_Connection *mhd)
{
    wire_header(mhd, "Host", 4, "localhost", 9);
}

/* First byte: the method; then an Accept header up to a line end; the rest is the target. */
void fuzz_route(const uint8_t *data, size_t n)
{
    static const char *const methods[] = {"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE"};
    static struct http_app app;
    static struct http_server *server;
    if (server == NULL) {
        app.routes = routes_with(look_at_target);
        server = wire_server(&app);
    }
    struct MHD_Connection mhd = {0};
    const char *method = methods[fuzz_byte(&data, &n) % 8];
    const uint8_t *line = memchr(data, '\n', n);
    host(&mhd);
    if (line != NULL) {
        size_t length = (size_t)(line - data);
        if (length > 0 && memchr(data, 0, length) == NULL)
            wire_header(&mhd, "Accept", 6, data, length);
        data = line + 1;
        n -= length + 1;
    }
    char *target = calloc(n + 2, 1);
    EXPECT(target != NULL);
    memcpy(target, data, n);
    target[strcspn(target, " ")] = '\0'; /* where a request line would end */
    if (target[0] == '\0')
        target[0] = '/'; /* an empty one is no request line */
    sent = target;
    int status = wire_send(server, &mhd, method, target, "HTTP/1.1", NULL, 0, 1, NULL);
    EXPECT(status < 500 || status == 501);
    free(target);
}

/* ---- headers ---- */

static bool is_token(const struct wire_header *h)
{
    bool ok = h->n_name > 0;
    for (size_t i = 0; i < h->n_name; i++) {
        char c = h->name[i];
        ok = ok && c != '\0' &&
             strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-.^_`|~", c) != NULL;
    }
    return ok;
}

static bool is_clean(const struct wire_header *h)
{
    bool ok = true;
    for (size_t i = 0; i < h->n_value; i++)
        ok = ok && ((unsigned char)h->value[i] >= ' ' || h->value[i] == '\t') && h->value[i] != 0x7F;
    return ok;
}

static bool is_host(const struct wire_header *h)
{
    bool ok = h->n_value > 0;
    for (size_t i = 0; i < h->n_value; i++) {
        char c = h->value[i];
        ok = ok && c != '\0' && strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~%!$&'()*+;=:[]", c) != NULL;
    }
    return ok;
}

/* Each header once at most, the rules of framing, clean names and values; by the list, not by the code. */
static bool must_be_let_in(const struct MHD_Connection *mhd, const char *method, bool http11)
{
    static const char *const once[] = {"Host", "Content-Length", "Transfer-Encoding", "Content-Type", "Authorization"};
    unsigned times[5] = {0};
    bool ok = strcmp(method, "BREW") != 0;
    for (size_t i = 0; i < mhd->n_headers; i++) {
        const struct wire_header *h = &mhd->headers[i];
        ok = ok && is_token(h) && is_clean(h);
        for (size_t k = 0; k < 5; k++)
            times[k] += h->n_name == strlen(once[k]) && strcasecmp(h->name, once[k]) == 0;
        if (strcasecmp(h->name, "Transfer-Encoding") == 0)
            ok = ok && http11 && h->n_value == 7 && strcasecmp(h->value, "chunked") == 0;
        if (strcasecmp(h->name, "Host") == 0)
            ok = ok && is_host(h);
        if (strcasecmp(h->name, "Expect") == 0)
            ok = ok && h->n_value == 12 && strcasecmp(h->value, "100-continue") == 0;
    }
    for (size_t k = 0; k < 5; k++)
        ok = ok && times[k] <= 1;
    return ok && !(times[1] > 0 && times[2] > 0) && (times[0] == 1 || !http11);
}

static bool let_in;

static void note_verdict(const struct http_request *rq)
{
    let_in = !rq->keep_closed;
}

static void reply_nothing(struct http_request *rq)
{
    n_seen++;
    http_reply_empty(rq, 204);
}

static size_t trim(const uint8_t **text, size_t n)
{
    while (n > 0 && (**text == ' ' || **text == '\t')) {
        ++*text;
        n--;
    }
    while (n > 0 && ((*text)[n - 1] == ' ' || (*text)[n - 1] == '\t' || (*text)[n - 1] == '\r'))
        n--;
    return n;
}

/* First byte: method and version; then lines of headers. */
void fuzz_headers(const uint8_t *data, size_t n)
{
    static const char *const methods[] = {"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "BREW"};
    static struct http_app app;
    static struct http_server *server;
    if (server == NULL) {
        app.routes = routes_with(reply_nothing);
        server = wire_server(&app);
    }
    struct MHD_Connection mhd = {0};
    uint8_t choice = fuzz_byte(&data, &n);
    const char *method = methods[choice % 8];
    bool http11 = (choice & 8) == 0;
    while (n > 0) {
        const uint8_t *end = memchr(data, '\n', n), *colon;
        size_t length = end != NULL ? (size_t)(end - data) : n;
        if ((colon = memchr(data, ':', length)) != NULL) {
            const uint8_t *value = colon + 1;
            size_t n_value = trim(&value, length - (size_t)(value - data));
            wire_header(&mhd, data, (size_t)(colon - data), value, n_value);
        }
        data += length + (end != NULL);
        n -= length + (end != NULL);
    }
    /* A Content-Length that is no number never comes this far: libmicrohttpd answers. */
    const char *length = MHD_lookup_connection_value(&mhd, MHD_HEADER_KIND, "Content-Length");
    if (length != NULL && (*length == '\0' || strlen(length) > 18 || length[strspn(length, "0123456789")] != '\0'))
        for (size_t i = 0; i < mhd.n_headers; i++)
            if (strcasecmp(mhd.headers[i].name, "Content-Length") == 0)
                mhd.headers[i].value[mhd.headers[i].n_value = 0] = '\0';
    bool wanted = must_be_let_in(&mhd, method, http11);
    let_in = false;
    int status = wire_send(server, &mhd, method, "/v1/projects", http11 ? "HTTP/1.1" : "HTTP/1.0", NULL, 0, 1,
                           note_verdict);
    EXPECT(let_in == wanted);
    EXPECT(let_in || status == 400 || status == 501 || status == 417 || status == 0);
}

/* ---- packed bodies ---- */

static struct buf got;
static unsigned every; /* the handler stops after this many pieces; 0 = never */
static unsigned pieces;
static enum amx_status stream_status;

static void go_on(struct http_request *rq)
{
    (void)rq;
}

static void take_piece(struct http_request *rq, const char *bytes, size_t n)
{
    EXPECT(n > 0);
    (void)buf_append(&got, bytes, n);
    if (every > 0 && ++pieces % every == 0)
        EXPECT(http_suspend(rq, HTTP_WAIT_WRITE, 0, go_on));
}

static void begin_stream(struct http_request *rq)
{
    http_set_body_mode(rq, HTTP_BODY_STREAM);
}

static void end_stream(struct http_request *rq)
{
    stream_status = http_body_status(rq, NULL);
    http_reply_empty(rq, stream_status == AMX_OK ? 204 : 422);
}

static void end_whole(struct http_request *rq)
{
    size_t n;
    const char *body = http_body(rq, &n);
    stream_status = AMX_OK;
    (void)buf_append(&got, body, n);
    http_reply_empty(rq, 204);
}

/* The body by one call per member; false: it is not whole and right, or larger than what out takes. */
static bool gunzip(const uint8_t *data, size_t n, struct buf *out)
{
    bool ended = false;
    while (n > 0) {
        z_stream z = {.next_in = (unsigned char *)(uintptr_t)data, .avail_in = (unsigned)n};
        unsigned char piece[4096];
        int result;
        EXPECT(inflateInit2(&z, 15 + 16) == Z_OK);
        do {
            z.next_out = piece;
            z.avail_out = sizeof piece;
            result = inflate(&z, Z_NO_FLUSH);
            (void)buf_append(out, piece, sizeof piece - z.avail_out);
        } while (result == Z_OK && out->status == AMX_OK && (z.avail_in > 0 || z.avail_out == 0));
        ended = result == Z_STREAM_END;
        data = z.next_in;
        n = z.avail_in;
        (void)inflateEnd(&z);
        if (!ended || out->status != AMX_OK)
            return false;
    }
    return ended;
}

static uint8_t *gzip(const uint8_t *data, size_t n, size_t *n_packed)
{
    z_stream z = {.next_in = (unsigned char *)(uintptr_t)data, .avail_in = (unsigned)n};
    EXPECT(deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK);
    size_t room = deflateBound(&z, n) + 32;
    uint8_t *packed = malloc(room);
    EXPECT(packed != NULL);
    z.next_out = packed;
    z.avail_out = (unsigned)room;
    EXPECT(deflate(&z, Z_FINISH) == Z_STREAM_END);
    *n_packed = z.total_out;
    (void)deflateEnd(&z);
    return packed;
}

/* First byte: bit 0 stream or whole, bit 1 packed here or taken as packed, 2-3 suspensions, 4-7 size of the pieces. */
void fuzz_gzip(const uint8_t *data, size_t n)
{
    static const char *const types[] = {"text/csv", NULL};
    static const struct http_route routes[] = {
        {"POST", "/stream", SCOPE_PUBLIC, types, begin_stream, take_piece, end_stream},
        {"POST", "/whole", SCOPE_PUBLIC, types, NULL, NULL, end_whole},
        {NULL, NULL, 0, NULL, NULL, NULL, NULL}};
    static const struct http_app app = {.routes = routes};
    static struct http_server *server;
    if (server == NULL)
        server = wire_server(&app);
    uint8_t choice = fuzz_byte(&data, &n);
    bool stream = (choice & 1) != 0, pack = (choice & 2) != 0;
    size_t n_sent = n, piece = 1 + (size_t)(choice >> 4) * 37;
    uint8_t *packed = pack ? gzip(data, n, &n_sent) : NULL;
    const uint8_t *body = pack ? packed : data;
    AUTO(buf) wanted = BUF_INIT((size_t)32 << 20);
    bool whole = gunzip(body, n_sent, &wanted);

    struct MHD_Connection mhd = {0};
    char length[32];
    host(&mhd);
    wire_header(&mhd, "Content-Type", 12, "text/csv", 8);
    wire_header(&mhd, "Content-Encoding", 16, "gzip", 4);
    wire_header(&mhd, "Content-Length", 14, length, (size_t)snprintf(length, sizeof length, "%zu", n_sent));
    every = (choice >> 2) & 3;
    pieces = 0;
    stream_status = AMX_INVALID;
    buf_init(&got, (size_t)64 << 20);
    int status = wire_send(server, &mhd, "POST", stream ? "/stream" : "/whole", "HTTP/1.1", body, n_sent, piece, NULL);
    if (wanted.status == AMX_OK && n_sent > 0) {
        bool fits = stream || wanted.n <= server->limits.max_body_bytes;
        EXPECT(!whole || !fits || (status == 204 && got.n == wanted.n));
        EXPECT(whole || status == 400 || status == 422 || status == 413);
        EXPECT(fits || status == 413 || (status == 400 && !whole));
        EXPECT(got.n <= wanted.n && (got.n == 0 || memcmp(got.bytes, wanted.bytes, got.n) == 0));
    }
    buf_done(&got);
    free(packed);
}

/* ---- cursors and tokens ---- */

static const char *const filters[] = {"state", NULL};
static struct page page;
static bool page_ok;

static void read_page(struct http_request *rq)
{
    page_ok = page_parse(rq, filters, &page);
    if (!page_ok)
        return;
    char again[PAGE_CURSOR_BYTES];
    const char *cursor = http_query(rq, "cursor");
    EXPECT((cursor != NULL) == page.continued && page.limit >= 1 && page.limit <= PAGE_LIMIT_MAX);
    EXPECT(cursor == NULL || strcmp(page_cursor(&page, page.after, again), cursor) == 0); /* one spelling only */
    http_reply_empty(rq, 204);
}

/* The routes and the service (tokens on or off) that this target asks. */
static struct http_server *guarded_server(bool tokens, const char *token)
{
    static const struct http_route routes[] = {{"GET", "/list/{p}", SCOPE_READ, NULL, NULL, NULL, read_page},
                                               {NULL, NULL, 0, NULL, NULL, NULL, NULL}};
    static struct service services[2] = {{.config = {.listen = "127.0.0.1:8080"}},
                                         {.config = {.listen = "127.0.0.1:8080"}, .auth_required = true}};
    static const struct http_app apps[2] = {{.routes = routes, .context = &services[0], .gate = auth_gate},
                                            {.routes = routes, .context = &services[1], .gate = auth_gate}};
    static struct http_server *servers[2];
    if (servers[tokens] == NULL) {
        struct auth_token it = {.id = 1, .who = {.scopes = SCOPE_READ}};
        digest_of(token, strlen(token), it.sha256);
        EXPECT(auth_cache_add(&it) == AMX_OK);
        servers[tokens] = wire_server(&apps[tokens]);
    }
    return servers[tokens];
}

static void add_escaped(struct buf *out, const uint8_t *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        (void)buf_printf(out, "%%%02X", bytes[i] == 0 ? 1U : bytes[i]);
}

/* A cursor that the server gives out goes on where it says. */
static void expect_own_cursor(struct http_server *server, const char *authorization, const struct buf *filter, int64_t key)
{
    char cursor[PAGE_CURSOR_BYTES];
    AUTO(buf) target = BUF_INIT((size_t)1 << 20);
    (void)buf_append(&target, filter->bytes, filter->n);
    EXPECT(buf_printf(&target, "&cursor=%s", page_cursor(&page, key, cursor)) == AMX_OK);
    struct MHD_Connection mhd = {0};
    host(&mhd);
    if (authorization != NULL)
        wire_header(&mhd, "Authorization", 13, authorization, strlen(authorization));
    EXPECT(wire_send(server, &mhd, "GET", target.bytes, "HTTP/1.1", NULL, 0, 1, NULL) == 204);
    EXPECT(page_ok && page.continued && page.after == key);
}

/* First byte: bit 0 tokens on; then lines: cursor, filter, and Authorization (on) or Host (off). */
void fuzz_cursor_token(const uint8_t *data, size_t n)
{
    static const char token[] = "amx_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    bool tokens = (fuzz_byte(&data, &n) & 1) != 0;
    struct http_server *server = guarded_server(tokens, token);
    AUTO(buf) target = BUF_INIT((size_t)1 << 20);
    const uint8_t *lines[3] = {NULL, NULL, NULL};
    size_t lengths[3] = {0};
    for (size_t i = 0; i < 3; i++) {
        const uint8_t *end = i < 2 ? memchr(data, '\n', n) : NULL;
        lines[i] = data;
        lengths[i] = end != NULL ? (size_t)(end - data) : n;
        data += lengths[i] + (end != NULL);
        n -= lengths[i] + (end != NULL);
    }
    (void)buf_text(&target, "/list/x?state=");
    add_escaped(&target, lines[1], lengths[1]);
    AUTO(buf) filter = BUF_INIT((size_t)1 << 20);
    (void)buf_append(&filter, target.bytes, target.n);
    if (lengths[0] > 0) {
        (void)buf_text(&target, "&cursor=");
        add_escaped(&target, lines[0], lengths[0]);
    }
    EXPECT(target.status == AMX_OK);
    char *header = malloc(lengths[2] + 1);
    EXPECT(header != NULL);
    memcpy(header, lines[2], lengths[2]);
    header[lengths[2]] = '\0';
    size_t n_header = strlen(header);
    for (size_t i = 0; i < n_header; i++)
        header[i] = (unsigned char)header[i] < ' ' || header[i] == 0x7F ? '?' : header[i];
    struct MHD_Connection mhd = {0};
    if (tokens) {
        host(&mhd);
        wire_header(&mhd, "Authorization", 13, header, n_header);
    } else {
        wire_header(&mhd, "Host", 4, header, n_header);
    }
    int status = wire_send(server, &mhd, "GET", buf_string(&target), "HTTP/1.1", NULL, 0, 1, NULL);
    if (tokens) {
        const char *blank = strchr(header, ' ');
        bool right = blank != NULL && strncasecmp(header, "Bearer", 6) == 0 && blank == header + 6 &&
                     strcmp(blank + strspn(blank, " "), token) == 0;
        EXPECT((status != 401) == right || status == 0);
    }
    EXPECT(status == 0 || status == 204 || status == 400 || status == 401 || status == 421);
    if (status == 204) {
        int64_t key = 0;
        memcpy(&key, lines[0], lengths[0] < sizeof key ? lengths[0] : sizeof key);
        expect_own_cursor(server, tokens ? header : NULL, &filter, key);
    }
    free(header);
}
