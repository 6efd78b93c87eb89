/* ids.h - what is addressed: by the path's last segment, or by ?id= (one or several), because proxies change paths. */
#ifndef ENDPOINTS_IDS_H
#define ENDPOINTS_IDS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "annotmix.h"
#include "http/http.h"
#include "store/db.h"
#include "util/buf.h"

enum {
    IDS_MAX = 1000
};

struct ids {
    struct slice *names; /* [n], each followed by a 0 byte; one block of memory */
    size_t n;
};

/* There is at least one ?id=. */
bool ids_asked(const struct http_request *rq);
void ids_done(struct ids *ids);
/* The usual start of a write to named things: refuses other queries, finds the project, copies the names (path parameter 1
 * where the route has one, else ?id=, 1 to `max` of them; copies outlive the request) and calls write_new(size). NULL: it
 * has replied (400 when there are no names, too many, or one is no name). On success *ids is the caller's. */
void *ids_write_new(struct http_request *rq, size_t max, size_t size, struct ids *ids);

/* Replies {"items": [...], "missing": [...], "next_cursor": null}: item_of gives each in turn, AMX_NOT_FOUND =
 * missing. */
typedef enum amx_status ids_item_fn(struct db *db, void *context, struct slice name, struct buf *item,
                                    struct amx_error *err);
void ids_reply_list(struct http_request *rq, ids_item_fn *item_of, void *context);

#endif
