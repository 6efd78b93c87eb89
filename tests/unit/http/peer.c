/* peer.c - a client that speaks raw bytes, with time limits so that no test can hang. */
#include "peer.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>

#include "test.h"

void peer_connect(struct peer *peer, const struct http_server *server)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)http_server_port(server))};
    struct timeval limit = {.tv_sec = 20};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    buf_init(&peer->in, (size_t)64 << 20);
    peer->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(peer->fd >= 0);
    (void)setsockopt(peer->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    (void)setsockopt(peer->fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    CHECK(connect(peer->fd, (struct sockaddr *)&to, sizeof to) == 0);
}

void peer_close(struct peer *peer)
{
    close(peer->fd);
    buf_done(&peer->in);
}

bool peer_send_bytes(struct peer *peer, const void *bytes, size_t n)
{
    const char *at = bytes;
    while (n > 0) {
        ssize_t sent = send(peer->fd, at, n, MSG_NOSIGNAL);
        if (sent <= 0)
            return false;
        at += sent;
        n -= (size_t)sent;
    }
    return true;
}

bool peer_send(struct peer *peer, const char *text)
{
    return peer_send_bytes(peer, text, strlen(text));
}

static bool more(struct peer *peer)
{
    char *room = buf_reserve(&peer->in, 65536);
    ssize_t n = room != NULL ? recv(peer->fd, room, 65536, 0) : -1;
    if (n <= 0)
        return false;
    buf_grew(&peer->in, (size_t)n);
    return true;
}

static void used(struct peer *peer, size_t n)
{
    memmove(peer->in.bytes, peer->in.bytes + n, peer->in.n - n);
    peer->in.n -= n;
}

/* A line without its end, at most room - 1 bytes; false at the end of the connection. */
static bool line(struct peer *peer, char *out, size_t room)
{
    for (size_t from = 0;;) {
        char *end = peer->in.n > from ? memchr(peer->in.bytes + from, '\n', peer->in.n - from) : NULL;
        if (end != NULL) {
            size_t n = (size_t)(end - peer->in.bytes);
            (void)snprintf(out, room, "%.*s", (int)(n > 0 && end[-1] == '\r' ? n - 1 : n), peer->in.bytes);
            used(peer, n + 1);
            return true;
        }
        from = peer->in.n;
        if (!more(peer))
            return false;
    }
}

static bool body_bytes(struct peer *peer, struct answer *a, size_t n)
{
    while (n > 0) {
        if (peer->in.n == 0 && !more(peer))
            return false;
        size_t take = peer->in.n < n ? peer->in.n : n;
        size_t keep = take < sizeof a->body - 1 - a->n ? take : sizeof a->body - 1 - a->n;
        memcpy(a->body + a->n, peer->in.bytes, keep);
        a->n += keep;
        used(peer, take);
        n -= take;
    }
    return true;
}

static bool chunks(struct peer *peer, struct answer *a)
{
    char text[100];
    while (line(peer, text, sizeof text)) {
        size_t n = strtoul(text, NULL, 16);
        if (n > 0 && !body_bytes(peer, a, n))
            return false;
        if (!line(peer, text, sizeof text))
            return false;
        if (n == 0)
            return true;
    }
    return false;
}

struct answer *peer_read(struct peer *peer, bool is_head)
{
    static struct answer a;
    char text[2048];
    memset(&a, 0, offsetof(struct answer, body));
    a.n = 0;
    a.chunked = a.ended = false;
    do {
        size_t n = strlen(a.head);
        if (!line(peer, text, sizeof text))
            return NULL;
        (void)snprintf(a.head + n, sizeof a.head - n, "%s\n", text);
    } while (text[0] != '\0');
    a.status = (int)strtol(a.head + 9, NULL, 10);
    a.chunked = strcmp(header_of(&a, "Transfer-Encoding"), "chunked") == 0;
    if (is_head || a.status == 304 || a.status == 204 || a.status == 100)
        a.ended = true;
    else if (a.chunked)
        a.ended = chunks(peer, &a);
    else
        a.ended = body_bytes(peer, &a, strtoul(header_of(&a, "Content-Length"), NULL, 10));
    a.body[a.n] = '\0';
    return &a;
}

bool peer_sees_end(struct peer *peer)
{
    return peer->in.n == 0 && !more(peer);
}

struct answer *ask(const struct http_server *server, const char *request)
{
    struct peer peer;
    peer_connect(&peer, server);
    CHECK(peer_send(&peer, request));
    struct answer *a = peer_read(&peer, strncmp(request, "HEAD", 4) == 0);
    peer_close(&peer);
    return a;
}

int ask_status(const struct http_server *server, const char *request)
{
    const struct answer *a = ask(server, request);
    return a != NULL ? a->status : 0;
}

const char *header_of(const struct answer *answer, const char *name)
{
    static char value[1024];
    size_t n = strlen(name);
    for (const char *at = strchr(answer->head, '\n'); at != NULL; at = strchr(at + 1, '\n')) {
        if (strncasecmp(at + 1, name, n) == 0 && at[1 + n] == ':') {
            at += 2 + n + strspn(at + 2 + n, " ");
            (void)snprintf(value, sizeof value, "%.*s", (int)strcspn(at, "\n"), at);
            return value;
        }
    }
    return "";
}

size_t gzip_bytes(const void *bytes, size_t n, void *out, size_t room)
{
    z_stream z = {0};
    CHECK(deflateInit2(&z, 9, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK);
    z.next_in = (unsigned char *)(uintptr_t)bytes;
    z.avail_in = (unsigned)n;
    z.next_out = out;
    z.avail_out = (unsigned)room;
    CHECK(deflate(&z, Z_FINISH) == Z_STREAM_END);
    n = z.total_out;
    (void)deflateEnd(&z);
    return n;
}

size_t gunzip_bytes(const void *bytes, size_t n, void *out, size_t room)
{
    z_stream z = {0};
    CHECK(inflateInit2(&z, 15 + 16) == Z_OK);
    z.next_in = (unsigned char *)(uintptr_t)bytes;
    z.avail_in = (unsigned)n;
    z.next_out = out;
    z.avail_out = (unsigned)room;
    CHECK(inflate(&z, Z_FINISH) == Z_STREAM_END);
    n = z.total_out;
    (void)inflateEnd(&z);
    return n;
}

bool until(bool (*condition)(void *), void *context)
{
    const struct timespec pause = {.tv_nsec = 1000000};
    for (int i = 0; i < 20000; i++) {
        if (condition(context))
            return true;
        (void)nanosleep(&pause, NULL);
    }
    return false;
}

bool nobody(void *server)
{
    unsigned requests, connections, suspended;
    http_server_counts(server, &requests, &connections, &suspended);
    return requests == 0 && connections == 0 && suspended == 0;
}
