/* stream.c - answers of unknown length, pulled by the client's pace.
 *
 * libmicrohttpd calls the reader for the next block when the socket takes more. When `pull` has nothing yet the
 * connection is suspended, never answered with 0 in a loop (that would be a busy wait), and woken by http_resume(), by
 * a watcher's wake or by the heartbeat. The context is freed in the request's `completed`, before app->completed, so
 * that the order is always the same; libmicrohttpd's own free callback comes later or earlier and frees only the shell.
 */
#include <stdlib.h>
#include <string.h>

#include "http/http_int.h"
#include "util/log.h"

struct http_stream {
    struct http_request *rq;
    enum http_pull (*pull)(struct http_request *rq, void *context, struct buf *out);
    void *context;
    void (*free_context)(void *context);
    unsigned heartbeat_ms;
    struct buf out; /* pulled, not yet given */
    size_t at;      /* given of out */
    bool ended;
    bool gzip;
    z_stream z;
    struct buf packed; /* gzip: packed form of out */
};

/* Packs s->out into s->packed and empties it. */
static bool pack(struct http_stream *s, int flush)
{
    s->z.next_in = (unsigned char *)(uintptr_t)buf_string(&s->out);
    s->z.avail_in = (unsigned)s->out.n;
    do {
        char *room = buf_reserve(&s->packed, HTTP_PIECE_BYTES);
        if (room == NULL)
            return false;
        s->z.next_out = (unsigned char *)room;
        s->z.avail_out = HTTP_PIECE_BYTES;
        if (deflate(&s->z, flush) == Z_STREAM_ERROR)
            return false;
        buf_grew(&s->packed, HTTP_PIECE_BYTES - s->z.avail_out);
    } while (s->z.avail_out == 0);
    buf_clear(&s->out);
    return true;
}

static ssize_t give(struct http_stream *s, char *block, size_t max)
{
    struct buf *from = s->gzip ? &s->packed : &s->out;
    size_t n = from->n - s->at < max ? from->n - s->at : max;
    memcpy(block, from->bytes + s->at, n);
    s->at += n;
    if (s->at == from->n) {
        buf_clear(from);
        s->at = 0;
    }
    s->rq->reply_bytes += n;
    return (ssize_t)n;
}

static ssize_t fail(struct http_stream *s, const char *why)
{
    log_warn("a streamed answer was cut", LOG_TEXT("why", why), LOG_TEXT("request_id", s->rq->id));
    return MHD_CONTENT_READER_END_WITH_ERROR;
}

/* The next bytes, 0 when suspended. */
static ssize_t read_block(void *context, uint64_t position, char *block, size_t max)
{
    struct http_stream *s = context;
    struct http_request *rq = s->rq;
    void (*next)(struct http_request * rq);
    (void)position;
    if (suspend_check(rq, &next) != AMX_OK)
        return 0;
    for (;;) {
        if ((s->gzip ? s->packed.n : s->out.n) > s->at)
            return give(s, block, max);
        if (s->ended)
            return MHD_CONTENT_READER_END_OF_STREAM;
        enum http_pull result = s->pull(rq, s->context, &s->out);
        if (result == HTTP_PULL_ERROR)
            return fail(s, "the handler gave up");
        if (s->out.status != AMX_OK)
            return fail(s, "out of memory");
        s->ended = result == HTTP_PULL_DONE;
        if (result == HTTP_PULL_WAIT && http_is_stopping(rq)) {
            if (s->heartbeat_ms == 0)
                return fail(s, "the server stops");
            s->ended = true; /* an event stream may end at any event */
        }
        int flush = s->ended ? Z_FINISH : result == HTTP_PULL_WAIT ? Z_SYNC_FLUSH : Z_NO_FLUSH;
        if (s->gzip && (s->out.n > 0 || s->ended) && !pack(s, flush))
            return fail(s, "out of memory");
        bool nothing = (s->gzip ? s->packed.n : s->out.n) == 0;
        if (result == HTTP_PULL_WAIT && nothing && !s->ended && suspend_stream(rq, s->heartbeat_ms))
            return 0;
    }
}

/* The shell: libmicrohttpd's reference is gone. */
static void free_shell(void *context)
{
    struct http_stream *s = context;
    if (s->gzip)
        (void)deflateEnd(&s->z);
    buf_done(&s->out);
    buf_done(&s->packed);
    free(s);
}

void stream_release(struct http_request *rq)
{
    struct http_stream *s = rq->stream;
    if (s == NULL)
        return;
    rq->stream = NULL;
    if (s->free_context != NULL)
        s->free_context(s->context);
}

static struct http_stream *stream_new(struct http_request *rq, unsigned heartbeat_ms, bool gzip)
{
    struct http_stream *s = calloc(1, sizeof *s);
    if (s == NULL)
        return NULL;
    s->rq = rq;
    s->heartbeat_ms = heartbeat_ms;
    /* 1..64 KiB is asked of pull; what is more than a few times that is a bug, not a bigger buffer. */
    buf_init(&s->out, (size_t)16 * HTTP_PIECE_BYTES);
    buf_init(&s->packed, (size_t)32 * HTTP_PIECE_BYTES);
    s->gzip = gzip && deflateInit2(&s->z, 1, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK;
    return s;
}

void http_reply_stream(struct http_request *rq, int status, const char *media_type, unsigned heartbeat_ms,
                       enum http_pull (*pull)(struct http_request *rq, void *context, struct buf *out), void *context,
                       void (*free_context)(void *context))
{
    struct MHD_Response *response = NULL;
    struct http_stream *s = NULL;
    bool packs = heartbeat_ms == 0 && !rq->has_etag && reply_is_compressible(media_type);

    if (heartbeat_ms > 0 && !suspend_count_stream(rq)) {
        http_reply_problem(rq, 503, "queue-full", "Service unavailable", "too many streams are open", NULL);
    } else if (!packs || http_set_header(rq, "Vary", "Accept-Encoding")) {
        s = stream_new(rq, heartbeat_ms, packs && reply_accepts_gzip(rq));
        if (s != NULL && s->gzip && !http_set_header(rq, "Content-Encoding", "gzip")) {
            free_shell(s);
            s = NULL;
        }
        if (s != NULL)
            response = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, HTTP_PIECE_BYTES, read_block, s, free_shell);
        if (s != NULL && response == NULL) {
            free_shell(s);
            s = NULL;
        }
        if (rq->response == NULL && response == NULL)
            reply_take(rq, 503, NULL, NULL);
    }
    if (response == NULL) {
        if (free_context != NULL)
            free_context(context);
        return;
    }
    s->pull = pull;
    s->context = context;
    s->free_context = free_context;
    rq->stream = s;
    pthread_mutex_lock(rq->mu);
    rq->is_stream = true;
    pthread_mutex_unlock(rq->mu);
    reply_take(rq, status, media_type, response);
    if (rq->response != response) /* no memory for a header: the shell is gone */
        stream_release(rq);
}
