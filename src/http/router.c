/* router.c - from the raw target to a route.
 *
 * libmicrohttpd hands its handler a path that it has decoded already: %2F would split a name, %00 would cut it. So the
 * raw target is kept (URI callback), cut at '/', and each segment is decoded once. Nothing is normalised: "a/../b" and
 * "a//b" are simply not found, and a trailing slash makes another path.
 *
 * The table has some sixty rows; comparing segment by segment in order costs less than a microsecond, so there is no
 * tree. When several patterns fit, the one with a literal where the other has {} wins, looking from the left.
 */
#include <stdlib.h>
#include <string.h>

#include "http/http_int.h"
#include "util/size.h"

struct compiled {
    const struct http_route *route;
    size_t n;
    struct slice segments[HTTP_MAX_SEGMENTS]; /* n == 0 bytes: a parameter */
    unsigned literal_bits;                    /* bit (HTTP_MAX_SEGMENTS - 1 - i): segment i is a literal */
};

struct router {
    size_t n;
    struct compiled rows[];
};

static bool compile(const struct http_route *route, struct compiled *out)
{
    const char *at = route->pattern;
    size_t n_params = 0;
    *out = (struct compiled){.route = route};
    if (*at != '/')
        return false;
    while (*at == '/') {
        const char *start = ++at;
        if (out->n == HTTP_MAX_SEGMENTS)
            return false;
        at += strcspn(at, "/");
        bool is_param = *start == '{';
        n_params += is_param;
        if (!is_param)
            out->literal_bits |= 1U << (HTTP_MAX_SEGMENTS - 1 - out->n);
        out->segments[out->n++] = (struct slice){start, is_param ? 0 : (size_t)(at - start)};
        if (!is_param && at == start && *at != '\0')
            return false; /* only the last segment may be empty: "/", "/v1/" */
    }
    return n_params <= HTTP_MAX_PARAMS;
}

struct router *router_new(const struct http_route *routes)
{
    size_t n = 0, size;
    while (routes[n].method != NULL)
        n++;
    if (!size_mul(&size, n, sizeof(struct compiled)) || !size_add(&size, size, sizeof(struct router)))
        return NULL;
    struct router *router = calloc(1, size);
    if (router == NULL)
        return NULL;
    router->n = n;
    for (size_t i = 0; i < n; i++) {
        if (!compile(&routes[i], &router->rows[i])) {
            free(router);
            return NULL;
        }
    }
    return router;
}

void router_free(struct router *router)
{
    free(router);
}

/* ---- the target ------------------------------------------------------------------------------------------------- */

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Decodes n bytes to *to, ends them with 0, moves *to behind. A sentence on failure. */
static const char *decode(const char *bytes, size_t n, bool plus_is_blank, char **to)
{
    char *out = *to;
    for (size_t i = 0; i < n; i++) {
        char c = bytes[i];
        if ((unsigned char)c <= 0x20 || c == 0x7F)
            return "the request target holds a blank or a control character";
        if (c == '%') {
            int high = n - i > 2 ? hex_digit(bytes[i + 1]) : -1;
            int low = n - i > 2 ? hex_digit(bytes[i + 2]) : -1;
            if (high < 0 || low < 0)
                return "the request target holds a '%' that is not followed by two hexadecimal digits";
            c = (char)(high << 4 | low);
            if (c == '\0')
                return "the request target holds %00";
            i += 2;
        } else if (c == '+' && plus_is_blank) {
            c = ' ';
        }
        *out++ = c;
    }
    *out++ = '\0';
    *to = out;
    return NULL;
}

static const char *split_path(struct http_request *rq, const char *path, size_t n, char **to)
{
    for (size_t i = 0; i < n;) {
        const char *start = path + i + 1; /* path[i] is '/' */
        const char *end = memchr(start, '/', n - i - 1);
        size_t length = end != NULL ? (size_t)(end - start) : n - i - 1;
        char *segment = *to;
        const char *wrong = decode(start, length, false, to);
        if (wrong != NULL)
            return wrong;
        if (rq->n_path == HTTP_MAX_SEGMENTS) {
            rq->too_deep = true; /* go on: the rest is still checked */
        } else {
            rq->path_bytes[rq->n_path] = (size_t)(*to - segment) - 1;
            rq->path[rq->n_path++] = segment;
        }
        i += 1 + length;
    }
    return NULL;
}

static const char *split_query(struct http_request *rq, const char *query, size_t n, char **to)
{
    for (size_t i = 0; i < n;) {
        size_t length = strcspn(query + i, "&");
        const char *equals = memchr(query + i, '=', length);
        size_t name = equals != NULL ? (size_t)(equals - (query + i)) : length;
        if (length > 0) {
            struct query_value *value = &rq->query[rq->n_query];
            value->name = *to;
            const char *wrong = decode(query + i, name, true, to);
            if (wrong != NULL)
                return wrong;
            value->value = *to;
            wrong = equals != NULL ? decode(equals + 1, length - name - 1, true, to) : decode("", 0, true, to);
            if (wrong != NULL)
                return wrong;
            rq->n_query++;
        }
        i += length + 1;
    }
    return NULL;
}

bool router_split(struct http_request *rq, const char *uri)
{
    size_t n = strlen(uri), n_path = strcspn(uri, "?"), n_pairs = 1, size;
    rq->raw_bytes = n;
    rq->raw_target = uri;
    /* Decoding never lengthens; each segment, name and value gets a 0: at most one per separator, two for the last. */
    if (!size_mul(&size, n, 2) || !size_add(&size, size, 4))
        return false;
    rq->text = malloc(size);
    if (rq->text == NULL)
        return false;
    char *to = rq->text;
    if (uri[0] == '*' && n == 1)
        return true; /* OPTIONS *: no segments */
    if (uri[0] != '/') {
        rq->uri_error = "the request target must be a path that starts with '/'";
        return true;
    }
    rq->uri_error = split_path(rq, uri, n_path, &to);
    if (rq->uri_error != NULL || n_path == n)
        return true;
    for (size_t i = n_path; i < n; i++)
        n_pairs += uri[i] == '&';
    if (!size_mul(&size, n_pairs, sizeof *rq->query))
        return false;
    rq->query = malloc(size);
    if (rq->query == NULL)
        return false;
    rq->uri_error = split_query(rq, uri + n_path + 1, n - n_path - 1, &to);
    return true;
}

/* ---- matching --------------------------------------------------------------------------------------------------- */

static bool fits(const struct compiled *row, const struct http_request *rq)
{
    if (row->n != rq->n_path || rq->too_deep)
        return false;
    for (size_t i = 0; i < row->n; i++) {
        const struct slice *want = &row->segments[i];
        bool is_param = (row->literal_bits >> (HTTP_MAX_SEGMENTS - 1 - i) & 1) == 0;
        if (is_param ? rq->path_bytes[i] == 0
                     : rq->path_bytes[i] != want->n || memcmp(rq->path[i], want->bytes, want->n) != 0)
            return false;
    }
    return true;
}

static void take_params(struct http_request *rq, const struct compiled *row)
{
    for (size_t i = 0; i < row->n; i++) {
        if ((row->literal_bits >> (HTTP_MAX_SEGMENTS - 1 - i) & 1) == 0)
            rq->params[rq->n_params++] = rq->path[i];
    }
}

/* "GET, HEAD, POST, OPTIONS" of all rows that fit the path (all rows when rq has none: "*"); false when no row fits. */
static bool allowed_methods(const struct router *router, const struct http_request *rq, struct buf *out)
{
    static const char *const methods[] = {"GET", "POST", "PUT", "PATCH", "DELETE"};
    for (size_t m = 0; m < sizeof methods / sizeof *methods; m++) {
        for (size_t i = 0; i < router->n; i++) {
            if (strcmp(router->rows[i].route->method, methods[m]) == 0 &&
                (rq->n_path == 0 || fits(&router->rows[i], rq))) {
                (void)buf_printf(out, "%s%s%s", out->n > 0 ? ", " : "", methods[m], m == 0 ? ", HEAD" : "");
                break;
            }
        }
    }
    if (out->n == 0)
        return false;
    (void)buf_text(out, ", OPTIONS");
    return true;
}

bool router_match(struct http_request *rq)
{
    const struct router *router = rq->server->router;
    const char *method = rq->is_head ? "GET" : rq->method;
    const struct compiled *best = NULL;

    for (size_t i = 0; i < router->n; i++) {
        const struct compiled *row = &router->rows[i];
        if (row->n == rq->n_path && strcmp(row->route->method, method) == 0 && fits(row, rq) &&
            (best == NULL || row->literal_bits > best->literal_bits))
            best = row;
    }
    if (best != NULL) {
        rq->route = best->route;
        take_params(rq, best);
        return true;
    }
    AUTO(buf) allow = BUF_INIT(256);
    if (!allowed_methods(router, rq, &allow)) {
        http_reply_problem(rq, 404, "not-found", "Not found", "there is nothing at this path", NULL);
        return false;
    }
    if (!http_set_header(rq, "Allow", buf_string(&allow)))
        return false;
    if (strcmp(rq->method, "OPTIONS") == 0)
        http_reply_empty(rq, 204);
    else
        http_reply_problem(rq, 405, "method-not-allowed", "Method not allowed",
                           "this path exists, but not with this method; see the Allow header", NULL);
    return false;
}
