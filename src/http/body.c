/* body.c - the request body: counted, gunzipped, kept whole or handed on in pieces, or dropped.
 *
 * No answer can be queued while a body comes in, and closing early makes most clients miss the answer (measured: at 3
 * MB 9 of 10 got a broken pipe). So an error is remembered, the rest is read and dropped up to limits.max_drop_bytes,
 * and the answer goes out at the end; beyond that the connection is cut. A client that sent Expect: 100-continue hears
 * at once.
 *
 * Many large bodies at once must not take all memory: what they hold together is counted, and past limits.body_memory a
 * body that is not small gets 503. Only a handler parses, one per HTTP thread, so what parsing makes of a body (Jansson
 * takes up to 21 times its size) is bounded by threads x max_body_bytes x 21 on top.
 *
 * gzip: several members may follow each other. A STREAM may be of any length, but something that unpacks to more than
 * BOMB_BYTES at more than BOMB_RATIO to one is taken for a bomb (text packs 5 to 50 to one; deflate's limit is 1032).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "http/http_int.h"
#include "util/clock.h"
#include "util/error.h"

#define BOMB_BYTES ((uint64_t)64 << 20)
enum {
    BOMB_RATIO = 200
};

/* Brings server->body_bytes up to what the body takes now; false = too much, for all bodies together. */
static bool count_memory(struct http_request *rq)
{
    atomic_size_t *all = &rq->server->body_bytes;
    size_t now = rq->body.capacity, before = rq->body_counted;
    rq->body_counted = now;
    if (now <= before) {
        (void)atomic_fetch_sub(all, before - now);
        return true;
    }
    size_t sum = atomic_fetch_add(all, now - before) + (now - before);
    return sum <= rq->server->limits.body_memory || now <= HTTP_SMALL_BODY;
}

static void free_body(struct http_request *rq)
{
    buf_done(&rq->body);
    (void)count_memory(rq);
}

static void drop_rest(struct http_request *rq)
{
    rq->drop = true;
    free_body(rq);
}

static void refuse_too_large(struct http_request *rq)
{
    char detail[120];
    size_t most = rq->mode == HTTP_BODY_WHOLE ? rq->server->limits.max_body_bytes : rq->server->limits.max_drop_bytes;
    (void)snprintf(detail, sizeof detail, "the body may have at most %zu bytes", most);
    drop_rest(rq);
    if (!http_replied(rq))
        http_reply_problem(rq, 413, "too-large", "Too large", detail, NULL);
}

/* "application/json; charset=utf-8" -> "application/json" */
static void read_media_type(struct http_request *rq)
{
    const char *value = http_header_in(rq, "Content-Type");
    if (value == NULL)
        return;
    value += strspn(value, " \t");
    size_t n = strcspn(value, "; \t");
    if (n >= sizeof rq->media_type)
        return;
    for (size_t i = 0; i < n; i++)
        rq->media_type[i] = (char)(value[i] >= 'A' && value[i] <= 'Z' ? value[i] | 0x20 : value[i]);
    rq->media_type[n] = '\0';
}

static bool check_media_type(struct http_request *rq)
{
    const char *const *types = rq->route->media_types;
    for (; *types != NULL; types++) {
        if (strcmp(*types, rq->media_type) == 0)
            return true;
    }
    AUTO(buf) detail = BUF_INIT(400);
    (void)buf_text(&detail, "Content-Type must be one of ");
    for (types = rq->route->media_types; *types != NULL; types++)
        (void)buf_printf(&detail, "%s%s", types == rq->route->media_types ? "" : ", ", *types);
    http_reply_problem(rq, 415, "unsupported-media-type", "Unsupported media type", buf_string(&detail), NULL);
    return false;
}

static bool check_encoding(struct http_request *rq)
{
    const char *encoding = http_header_in(rq, "Content-Encoding");
    if (encoding == NULL || encoding[0] == '\0' || strcasecmp(encoding, "identity") == 0)
        return true;
    rq->gzip = strcasecmp(encoding, "gzip") == 0 || strcasecmp(encoding, "x-gzip") == 0;
    if (rq->gzip)
        return true;
    if (http_set_header(rq, "Accept-Encoding", "gzip"))
        http_reply_problem(rq, 415, "unsupported-media-type", "Unsupported media type",
                           "the only Content-Encoding understood is gzip", NULL);
    return false;
}

bool body_begin(struct http_request *rq)
{
    read_media_type(rq);
    rq->mode = rq->route->media_types != NULL ? HTTP_BODY_WHOLE : HTTP_BODY_NONE;
    if (!rq->has_body || rq->route->media_types == NULL)
        return true;
    return check_media_type(rq) && check_encoding(rq);
}

bool body_fits(struct http_request *rq)
{
    const struct http_limits *limits = &rq->server->limits;
    uint64_t most = rq->mode == HTTP_BODY_STREAM  ? UINT64_MAX - 1
                    : rq->mode == HTTP_BODY_WHOLE ? limits->max_body_bytes
                                                  : limits->max_drop_bytes;
    if (rq->content_length <= most)
        return true;
    refuse_too_large(rq);
    return false;
}

void http_set_body_mode(struct http_request *rq, enum http_body_mode mode)
{
    rq->mode = mode;
}

void http_drop_body(struct http_request *rq)
{
    drop_rest(rq);
}

static void body_failed(struct http_request *rq, enum amx_status status, const char *text)
{
    if (rq->body_status == AMX_OK)
        rq->body_status = error_set(&rq->body_error, status, "%s", text);
    drop_rest(rq);
    if (rq->mode == HTTP_BODY_WHOLE && !http_replied(rq)) {
        if (status == AMX_NO_MEMORY)
            http_reply_problem(rq, 503, "internal", "Service unavailable", text, NULL);
        else
            http_reply_problem(rq, 400, "invalid-body", "Invalid body", text, NULL);
    }
}

static void refuse_for_now(struct http_request *rq)
{
    drop_rest(rq);
    if (!http_replied(rq))
        http_reply_problem(rq, 503, "queue-full", "Service unavailable",
                           "too many large bodies are coming in at the same time", NULL);
}

/* Plain bytes to whoever wants them. */
static void deliver(struct http_request *rq, const char *bytes, size_t n)
{
    if (n == 0 || rq->drop)
        return;
    rq->inflated += n;
    if (rq->mode == HTTP_BODY_STREAM) {
        rq->route->body(rq, bytes, n);
        return;
    }
    enum amx_status status = buf_append(&rq->body, bytes, n);
    if (status == AMX_TOO_LARGE)
        refuse_too_large(rq);
    else if (status != AMX_OK)
        body_failed(rq, AMX_NO_MEMORY, "out of memory");
    else if (!count_memory(rq))
        refuse_for_now(rq);
}

static bool open_inflate(struct http_request *rq)
{
    rq->piece = malloc(HTTP_PIECE_BYTES);
    rq->inflate_open = rq->piece != NULL && inflateInit2(&rq->z, 15 + 16) == Z_OK;
    if (!rq->inflate_open)
        body_failed(rq, AMX_NO_MEMORY, "out of memory");
    return rq->inflate_open;
}

/* One step of inflating what z.next_in has; false when there is nothing more to do for now. */
static bool inflate_step(struct http_request *rq)
{
    if (rq->inflate_ended) { /* the next member of the file */
        if (rq->z.avail_in == 0)
            return false;
        if (inflateReset(&rq->z) != Z_OK) {
            body_failed(rq, AMX_INVALID, "the gzip data is broken");
            return false;
        }
        rq->inflate_ended = false;
    }
    rq->z.next_out = rq->piece;
    rq->z.avail_out = HTTP_PIECE_BYTES;
    int result = inflate(&rq->z, Z_NO_FLUSH);
    size_t n = HTTP_PIECE_BYTES - rq->z.avail_out;
    rq->inflate_pending = rq->z.avail_out == 0;
    rq->inflate_ended = result == Z_STREAM_END;
    deliver(rq, (const char *)rq->piece, n);
    if (rq->drop)
        return false;
    if (result != Z_OK && result != Z_STREAM_END && result != Z_BUF_ERROR) {
        body_failed(rq, result == Z_MEM_ERROR ? AMX_NO_MEMORY : AMX_INVALID,
                    result == Z_MEM_ERROR ? "out of memory" : "the gzip data is broken");
        return false;
    }
    if (rq->mode == HTTP_BODY_STREAM && rq->inflated > BOMB_BYTES && rq->inflated / BOMB_RATIO > rq->received) {
        body_failed(rq, AMX_TOO_LARGE, "the gzip data unpacks to more than 200 times its size");
        return false;
    }
    return rq->z.avail_in > 0 || rq->inflate_pending;
}

/* Inflates n bytes, and what was left over before; returns how many were used: fewer when the handler suspended. */
static size_t inflate_bytes(struct http_request *rq, const char *bytes, size_t n)
{
    rq->z.next_in = (unsigned char *)(uintptr_t)bytes;
    rq->z.avail_in = (unsigned)n;
    while (inflate_step(rq) && !rq->suspended)
        ;
    return rq->drop ? n : n - rq->z.avail_in;
}

/* A client must keep a pace; see "Options" of the design notes. Whole bodies have one deadline from the start. */
static void keep_pace(struct http_request *rq, size_t n)
{
    if (rq->mode != HTTP_BODY_STREAM)
        return;
    rq->window_bytes += n;
    if (rq->window_bytes >= HTTP_RATE_BYTES) {
        rq->window_bytes = 0;
        deadlines_set(rq->connection, clock_monotonic_ms() + (int64_t)rq->server->limits.body_seconds * 1000);
    }
}

bool body_feed(struct http_request *rq, const char *bytes, size_t n, size_t *used)
{
    *used = n;
    if (rq->mode == HTTP_BODY_NONE || http_replied(rq))
        rq->drop = true;
    keep_pace(rq, n);
    if (!rq->drop && rq->gzip) {
        rq->received += n;
        if (rq->inflate_open || open_inflate(rq)) {
            *used = inflate_bytes(rq, bytes, n);
            rq->received -= n - *used;
        }
        return true;
    }
    rq->received += n;
    if (!rq->drop) {
        deliver(rq, bytes, n);
        return true;
    }
    rq->dropped += n;
    return rq->dropped <= rq->server->limits.max_drop_bytes;
}

bool body_end(struct http_request *rq)
{
    if (rq->body_ended)
        return true;
    if (rq->gzip && rq->has_body && !rq->drop && rq->mode != HTTP_BODY_NONE && !http_replied(rq)) {
        if (rq->inflate_open && rq->inflate_pending) { /* output that was held back by a suspension */
            (void)inflate_bytes(rq, "", 0);
            if (rq->suspended)
                return false;
        }
        if (!rq->drop && !rq->inflate_ended)
            body_failed(rq, AMX_INVALID, "the gzip data ends too early");
    }
    rq->body_ended = true;
    return true;
}

void body_done(struct http_request *rq)
{
    if (rq->inflate_open)
        (void)inflateEnd(&rq->z);
    free(rq->piece);
    free_body(rq);
}

const char *http_media_type(const struct http_request *rq)
{
    return rq->media_type;
}

const char *http_body(const struct http_request *rq, size_t *n)
{
    *n = rq->body.n;
    return rq->body.n > 0 ? rq->body.bytes : NULL;
}

enum amx_status http_body_status(const struct http_request *rq, struct amx_error *err)
{
    if (rq->body_status != AMX_OK && err != NULL)
        *err = rq->body_error;
    return rq->body_status;
}
