/* client.h - how a command reaches the service: HTTP over the Unix socket FILE.sock, where every scope is granted (the
 * socket's mode is 0600). When nobody answers there the command starts the service in its own process, listening on that
 * socket only. So there is one writer, always, and one code path. */
#ifndef COMMANDS_CLIENT_H
#define COMMANDS_CLIENT_H

#include <jansson.h>
#include <stddef.h>

#include "annotmix.h"
#include "util/buf.h"

struct client;

struct client_answer {
    long status;     /* HTTP */
    struct buf body; /* caller: buf_done */
};

/* AMX_BUSY: the file is locked by a server that does not answer (it may be starting). */
AMX_CHECK enum amx_status client_open(const char *db_path, struct client **out, struct amx_error *err);
/* Only if a server answers; starts nothing. AMX_NOT_FOUND when none does. */
AMX_CHECK enum amx_status client_connect(const char *db_path, struct client **out, struct amx_error *err);
void client_close(struct client *client); /* NULL allowed; stops a service that client_open started */

/* One exchange with a JSON body (borrowed; NULL = none). An answer of 4xx or 5xx is AMX_OK here; see client_problem. */
AMX_CHECK enum amx_status client_call(struct client *client, const char *method, const char *path, const json_t *body,
                                      struct client_answer *out, struct amx_error *err);
/* Like fread: up to n bytes into out, 0 at the end; (size_t)-1 stops the upload with AMX_IO. */
typedef size_t client_read_fn(void *context, char *out, size_t n);
/* POST of a body of any length. */
AMX_CHECK enum amx_status client_upload(struct client *client, const char *path, const char *media_type,
                                        client_read_fn *read, void *context, struct client_answer *out,
                                        struct amx_error *err);
/* AMX_OK for 2xx; else fills err with the problem's detail and its first error (line, pointer). 503 and 507 are AMX_BUSY. */
AMX_CHECK enum amx_status client_problem(const struct client_answer *answer, struct amx_error *err);
/* The parsed JSON body; caller decrefs. */
AMX_CHECK enum amx_status client_json(const struct client_answer *answer, json_t **out, struct amx_error *err);
/* Percent-encodes one path segment or query value into out. */
enum amx_status client_escape(struct buf *out, const char *text);

#endif
