/* peer.h - a real server with a small table of routes, and a client that speaks raw bytes to it. */
#ifndef TESTS_UNIT_HTTP_PEER_H
#define TESTS_UNIT_HTTP_PEER_H

#include <stdbool.h>
#include <stddef.h>

#include "http/http.h"
#include "util/buf.h"

/* ---- the server: app.c ------------------------------------------------------------------------------------------ */

struct app_counts {
    unsigned completed;   /* requests for which `completed` ran */
    unsigned freed;       /* stream contexts freed */
    uint64_t received;    /* bytes of streamed bodies */
    unsigned last_status; /* of the last request told to `observed` */
    char last_route[64], last_method[16];
};

/* Starts a server on a free loopback port (limits NULL: defaults without access log), its writer and its waiters. */
struct http_server *app_start(const struct http_limits *limits);
void app_stop(struct http_server *server, unsigned drain_ms);
struct app_counts app_counts(void);
extern struct http_waiters *app_waiters;
void app_set_state(int value); /* what GET /wait and /events tell; wakes key 1 */
/* Holds back the thread that resumes requests (as a disk that does not answer). */
void app_hold_writer(bool hold);
unsigned app_held(void); /* requests that wait for it */
/* Waits until the condition holds; false after 20 s. */
bool until(bool (*condition)(void *), void *context);
bool nobody(void *server); /* a condition: no request and no connection is open */

/* ---- the client: peer.c ----------------------------------------------------------------------------------------- */

struct peer {
    int fd;
    struct buf in; /* bytes read, not yet used */
};
struct answer {
    int status;
    char head[8192]; /* status line and headers */
    char body[1 << 20];
    size_t n;
    bool chunked, ended; /* ended: the last chunk, or all of Content-Length, came */
};

void peer_connect(struct peer *peer, const struct http_server *server);
void peer_close(struct peer *peer);
bool peer_send(struct peer *peer, const char *text);
bool peer_send_bytes(struct peer *peer, const void *bytes, size_t n);
/* The next answer (of a HEAD request: no body). False when the connection ends before its head is complete. The struct
 * is static: one answer at a time. */
struct answer *peer_read(struct peer *peer, bool is_head);
/* True when the server closes (and sends nothing more) within 20 s. */
bool peer_sees_end(struct peer *peer);
/* One request on a connection of its own. */
struct answer *ask(const struct http_server *server, const char *request);
int ask_status(const struct http_server *server, const char *request);
const char *header_of(const struct answer *answer, const char *name); /* "" when absent; static */
/* gzip; returns the length. */
size_t gzip_bytes(const void *bytes, size_t n, void *out, size_t room);
size_t gunzip_bytes(const void *bytes, size_t n, void *out, size_t room);

#define HOST "Host: localhost\r\n"
#define JSON "Content-Type: application/json\r\n"

#endif
