/* reply.c - answers: common headers, problem+json (RFC 9457), entity tags (RFC 9110, 13), gzip.
 *
 * gzip is left out where there is an entity tag: the packed form would need a tag of its own, and clients hand the tag
 * they got back in If-Match. Static files have such a second tag, because nobody writes them.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#include "http/http_int.h"
#include "util/clock.h"
#include "util/digest.h"
#include "util/jsonx.h"
#include "util/log.h"
#include "util/utf8.h"

enum {
    GZIP_LEAST_BYTES = 1024,
    GZIP_LEVEL = 1 /* an HTTP thread must not compute for long: about 100 MB/s */
};

/* ---- headers and the response ----------------------------------------------------------------------------------- */

bool http_set_header(struct http_request *rq, const char *name, const char *value)
{
    for (const char *at = value; *at != '\0'; at++) {
        if ((unsigned char)*at < 0x20 || *at == 0x7F) {
            log_error("a reply header with a control character", LOG_TEXT("name", name));
            http_reply_problem(rq, 500, "internal", "Internal error", "the answer could not be written", NULL);
            return false;
        }
    }
    (void)buf_append(&rq->headers, name, strlen(name) + 1);
    if (buf_append(&rq->headers, value, strlen(value) + 1) != AMX_OK) {
        reply_take(rq, 503, NULL, NULL);
        return false;
    }
    rq->has_etag |= strcasecmp(name, "ETag") == 0;
    rq->has_cache_control |= strcasecmp(name, "Cache-Control") == 0;
    rq->has_csp |= strcasecmp(name, "Content-Security-Policy") == 0;
    rq->has_retry_after |= strcasecmp(name, "Retry-After") == 0;
    return true;
}

struct MHD_Response *reply_no_memory_new(void)
{
    static char body[] = "{\"type\":\"/problems/internal\",\"title\":\"Service unavailable\",\"status\":503,"
                         "\"detail\":\"out of memory\"}";
    struct MHD_Response *response = MHD_create_response_from_buffer(sizeof body - 1, body, MHD_RESPMEM_PERSISTENT);
    if (response == NULL)
        return NULL;
    if (MHD_add_response_header(response, "Content-Type", "application/problem+json") != MHD_YES ||
        MHD_add_response_header(response, "Retry-After", "1") != MHD_YES) {
        MHD_destroy_response(response);
        return NULL;
    }
    return response;
}

static bool add(struct MHD_Response *response, const char *name, const char *value)
{
    return MHD_add_response_header(response, name, value) == MHD_YES;
}

static bool add_headers(struct http_request *rq, struct MHD_Response *response, const char *media_type)
{
    bool ok = add(response, "X-Request-Id", rq->id) && add(response, "X-Content-Type-Options", "nosniff");
    if (media_type != NULL)
        ok = ok && add(response, "Content-Type", media_type);
    if (media_type != NULL && !rq->has_csp && strncmp(media_type, "text/html", 9) == 0)
        ok = ok && add(response, "Content-Security-Policy",
                       "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'");
    if (!rq->has_cache_control)
        ok = ok && add(response, "Cache-Control", rq->has_etag ? "no-cache" : "no-store");
    if (rq->keep_closed || http_is_stopping(rq))
        ok = ok && add(response, "Connection", "close");
    const char *first = buf_string(&rq->headers), *end = first + rq->headers.n;
    for (const char *name = first; ok && name < end;) {
        const char *value = name + strlen(name) + 1;
        ok = add(response, name, value);
        name = value + strlen(value) + 1;
    }
    return ok;
}

void reply_take(struct http_request *rq, int status, const char *media_type, struct MHD_Response *response)
{
    if (rq->response != NULL) {
        log_error("a handler replied twice", LOG_TEXT("id", rq->id));
        if (response != NULL)
            MHD_destroy_response(response);
        return;
    }
    if (response != NULL && !add_headers(rq, response, media_type)) {
        MHD_destroy_response(response);
        response = NULL;
    }
    rq->response = response != NULL ? response : rq->server->no_memory;
    rq->status = response != NULL ? status : 503;
}

/* The socket of a client that has stopped reading is closed by libmicrohttpd (inactivity) or, when it only drips, by
 * the deadline; streams have none but inactivity. */
mhd_result reply_queue(struct http_request *rq)
{
    const struct http_limits *limits = &rq->server->limits;
    if (limits->send_seconds != limits->idle_seconds)
        (void)MHD_set_connection_option(rq->mhd, MHD_CONNECTION_OPTION_TIMEOUT, limits->send_seconds);
    if (rq->stream != NULL)
        deadlines_set(rq->connection, INT64_MAX);
    else
        deadlines_set(rq->connection, clock_monotonic_ms() + (int64_t)limits->body_seconds * HTTP_TOTAL_FACTOR * 1000 +
                                          (int64_t)(rq->reply_bytes / HTTP_RATE_BYTES) * 1000);
    rq->queued = true;
    return MHD_queue_response(rq->mhd, (unsigned)rq->status, rq->response);
}

void reply_raw(struct http_request *rq)
{
    const char *body = rq->problem != NULL ? rq->problem : "";
    const char *reason = MHD_get_reason_phrase_for((unsigned)rq->status);
    AUTO(buf) text = BUF_INIT(16384);
    (void)buf_printf(&text, "HTTP/1.1 %d %s\r\nContent-Type: application/problem+json\r\nX-Request-Id: %s\r\n",
                     rq->status, reason != NULL ? reason : "Refused", rq->id);
    (void)buf_printf(&text, "Content-Length: %zu\r\nConnection: close\r\n\r\n%s", strlen(body), body);
    if (text.status == AMX_OK) {
        (void)send(rq->connection->fd, text.bytes, text.n, MSG_DONTWAIT | MSG_NOSIGNAL); /* or the cut says it */
        (void)shutdown(rq->connection->fd, SHUT_WR);
        rq->queued = true; /* for the log */
    }
}

/* ---- whole bodies ----------------------------------------------------------------------------------------------- */

bool reply_is_compressible(const char *media_type)
{
    return strncmp(media_type, "text/", 5) == 0 || strstr(media_type, "json") != NULL ||
           strstr(media_type, "javascript") != NULL || strstr(media_type, "yaml") != NULL ||
           strstr(media_type, "svg") != NULL;
}

/* The packed bytes (malloc), or NULL when there is no memory or no gain. */
static unsigned char *pack(const void *bytes, size_t n, size_t *n_packed)
{
    z_stream z = {0};
    if (n > (size_t)UINT32_MAX / 2 || deflateInit2(&z, GZIP_LEVEL, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK)
        return NULL;
    size_t room = deflateBound(&z, n);
    unsigned char *packed = malloc(room);
    if (packed != NULL) {
        z.next_in = (unsigned char *)(uintptr_t)bytes;
        z.avail_in = (unsigned)n;
        z.next_out = packed;
        z.avail_out = (unsigned)room;
        if (deflate(&z, Z_FINISH) != Z_STREAM_END || z.total_out >= n) {
            free(packed);
            packed = NULL;
        }
        *n_packed = z.total_out;
    }
    (void)deflateEnd(&z);
    return packed;
}

static void give_back(void *bytes, void (*free_bytes)(void *))
{
    if (free_bytes != NULL)
        free_bytes(bytes);
}

/* Takes bytes like http_reply; packed when `gzip`. */
static void reply_bytes(struct http_request *rq, int status, const char *media_type, void *bytes, size_t n, bool gzip,
                        void (*free_bytes)(void *))
{
    struct MHD_Response *response = NULL;
    size_t n_packed = 0;
    unsigned char *packed = gzip ? pack(bytes, n, &n_packed) : NULL;
    if (packed != NULL) {
        give_back(bytes, free_bytes);
        bytes = packed;
        n = n_packed;
        free_bytes = free;
        if (!http_set_header(rq, "Content-Encoding", "gzip")) {
            free(packed);
            return;
        }
    }
    if (n == 0 || free_bytes == NULL)
        response = MHD_create_response_from_buffer(n, n > 0 ? bytes : NULL, MHD_RESPMEM_MUST_COPY);
    else
        response = MHD_create_response_from_buffer_with_free_callback(n, bytes, free_bytes);
    if (n == 0 || response == NULL)
        give_back(bytes, free_bytes);
    if (response != NULL && rq->response == NULL)
        rq->reply_bytes = rq->is_head ? 0 : n;
    reply_take(rq, status, media_type, response);
}

void http_reply(struct http_request *rq, int status, const char *media_type, void *bytes, size_t n,
                void (*free_bytes)(void *))
{
    bool varies = n >= GZIP_LEAST_BYTES && !rq->has_etag && reply_is_compressible(media_type);
    if (varies && !http_set_header(rq, "Vary", "Accept-Encoding")) {
        give_back(bytes, free_bytes);
        return;
    }
    reply_bytes(rq, status, media_type, bytes, n, varies && reply_accepts_gzip(rq), free_bytes);
}

void http_reply_empty(struct http_request *rq, int status)
{
    reply_take(rq, status, NULL, MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT));
}

void http_reply_json(struct http_request *rq, int status, json_t *json)
{
    size_t n = 0;
    char *text = json != NULL ? jsonx_dump(json, &n) : NULL;
    json_decref(json);
    if (text == NULL)
        reply_take(rq, 503, NULL, NULL);
    else
        http_reply(rq, status, "application/json", text, n, free);
}

void http_reply_problem(struct http_request *rq, int status, const char *type, const char *title, const char *detail,
                        json_t *errors)
{
    AUTO(buf) text = BUF_INIT((size_t)1 << 20);
    (void)buf_printf(&text, "{\"type\":\"/problems/%s\",\"title\":", type);
    (void)jsonx_write_string(&text, title, strlen(title));
    (void)buf_printf(&text, ",\"status\":%d", status);
    if (detail != NULL && utf8_valid(detail, strlen(detail))) {
        (void)buf_text(&text, ",\"detail\":");
        (void)jsonx_write_string(&text, detail, strlen(detail));
    }
    (void)buf_printf(&text, ",\"instance\":\"urn:request:%s\"", rq->id);
    if (errors != NULL) {
        (void)buf_text(&text, ",\"errors\":");
        (void)jsonx_write(&text, errors);
    }
    (void)buf_char(&text, '}');
    json_decref(errors);
    /* Headers that the handler set for another answer (an entity tag) must not stand on this one; Allow and the like
     * may. */
    rq->has_etag = false;
    if (rq->has_body && !rq->body_ended && rq->problem == NULL && text.status == AMX_OK)
        rq->problem = strdup(buf_string(&text)); /* NULL: an answer without a body */
    if ((status == 503 || status == 429) && !rq->has_retry_after && !http_set_header(rq, "Retry-After", "1"))
        return;
    size_t n = 0;
    char *bytes = buf_take(&text, &n);
    if (bytes == NULL)
        reply_take(rq, 503, NULL, NULL);
    else
        reply_bytes(rq, status, "application/problem+json", bytes, n, false, free);
}

/* ---- entity tags ------------------------------------------------------------------------------------------------ */

/* Does a list of entity tags ("a", W/"b", or *) hold this one? weak: W/ is ignored; otherwise W/ never matches. */
static bool holds_etag(const char *list, const char *etag, bool weak)
{
    size_t n = strlen(etag);
    for (const char *at = list; *at != '\0';) {
        at += strspn(at, ", \t");
        if (*at == '*')
            return true;
        bool is_weak = at[0] == 'W' && at[1] == '/';
        if (is_weak)
            at += 2;
        if (*at != '"')
            return false; /* not a list of tags: as if it named none */
        const char *end = strchr(at + 1, '"');
        if (end == NULL)
            return false;
        if ((weak || !is_weak) && (size_t)(end + 1 - at) == n && memcmp(at, etag, n) == 0)
            return true;
        at = end + 1;
    }
    return false;
}

enum http_match http_if_match(const struct http_request *rq, const char *etag)
{
    const char *list = http_header_in(rq, "If-Match");
    if (list == NULL)
        return HTTP_MATCH_ABSENT;
    return etag != NULL && holds_etag(list, etag, false) ? HTTP_MATCH_YES : HTTP_MATCH_NO;
}

bool http_reply_if_unchanged(struct http_request *rq, const char *etag)
{
    const char *list = http_header_in(rq, "If-None-Match");
    if (!http_set_header(rq, "ETag", etag))
        return true; /* replied: out of memory */
    if (list == NULL || !holds_etag(list, etag, true))
        return false;
    http_reply_empty(rq, 304);
    return true;
}

void http_reply_static(struct http_request *rq, const char *media_type, const unsigned char *bytes, size_t n)
{
    uint8_t digest[DIGEST_BYTES];
    char hex[DIGEST_HEX_BYTES], etag[48];
    bool gzip = n >= GZIP_LEAST_BYTES && reply_is_compressible(media_type) && reply_accepts_gzip(rq);

    digest_of(bytes, n, digest);
    digest_hex(digest, hex);
    (void)snprintf(etag, sizeof etag, "\"%.32s%s\"", hex, gzip ? "-gz" : "");
    if (http_reply_if_unchanged(rq, etag) || !http_set_header(rq, "Vary", "Accept-Encoding"))
        return;
    if (gzip)
        reply_bytes(rq, 200, media_type, (void *)(uintptr_t)bytes, n, true, NULL);
    else
        reply_take(rq, 200, media_type,
                   MHD_create_response_from_buffer(n, (void *)(uintptr_t)bytes, MHD_RESPMEM_PERSISTENT));
}
