/* wire.h - one HTTP request through src/http without sockets and without libmicrohttpd's threads.
 *
 * wire.c defines the few functions of libmicrohttpd that look at a connection, so the callbacks of request.c run as
 * they do in the server, on a request line and headers that a fuzzer made. */
#ifndef TESTS_FUZZ_WIRE_H
#define TESTS_FUZZ_WIRE_H

#include "http/http_int.h"

enum {
    WIRE_HEADERS_MAX = 64
};

struct wire_header {
    char *name, *value; /* each followed by a 0 byte */
    size_t n_name, n_value;
};

struct MHD_Connection {
    struct http_connection http;
    struct wire_header headers[WIRE_HEADERS_MAX];
    size_t n_headers;
    char *head; /* all of the above as it lay on the wire */
    size_t n_head;
    int status; /* of the answer; 0 = none yet */
};

/* A server that is never started. app and limits are borrowed for ever. */
struct http_server *wire_server(const struct http_app *app);

/* Copies both. Quietly does nothing beyond WIRE_HEADERS_MAX. */
void wire_header(struct MHD_Connection *mhd, const void *name, size_t n_name, const void *value, size_t n_value);
/* Sends the request: target, headers, the body in pieces of this size; resumes whatever suspends. Returns the status,
 * 0 when the connection was cut without an answer. before_end (may be NULL) looks at the request just before it is freed. */
int wire_send(struct http_server *server, struct MHD_Connection *mhd, const char *method, const char *target,
              const char *version, const uint8_t *body, size_t n, size_t piece,
              void (*before_end)(const struct http_request *rq));

#endif
