/* page.h - what every list has: ?limit= (1-1,000, default 100), ?cursor=, {"items": [...], "next_cursor": "..."|null}.
 *
 * A cursor is opaque to clients: base64url of the last key given and a hash of the list it belongs to (route, path
 * parameters, filters). One of another list or of other filters is refused with 400, so nobody pages through the wrong
 * thing. And the one way to send a single resource: strong ETag, 304.
 */
#ifndef ENDPOINTS_PAGE_H
#define ENDPOINTS_PAGE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "http/http.h"

enum { PAGE_LIMIT_MAX = 1000, PAGE_LIMIT_DEFAULT = 100, PAGE_CURSOR_BYTES = 24, ETAG_BYTES = 40 };

struct page {
    size_t limit;
    bool continued; /* there was a cursor: */
    int64_t after;  /* go on after this key; INT64_MIN when there was none */
    uint64_t list;  /* hash of the list, for page_cursor */
};

/* Reads limit and cursor; `filters` is the NULL-terminated list of query names that choose what is in this list (NULL:
 * none). Any other query name is refused too (limit, cursor and format are allowed). Replies 400 when false. */
bool page_parse(struct http_request *rq, const char *const *filters, struct page *out);
/* Cursor for what comes after the row with this key. Returns out. */
char *page_cursor(const struct page *page, int64_t last_key, char out[PAGE_CURSOR_BYTES]);
/* {"items": items, "next_cursor": ...}; takes items (NULL -> NULL). more: there are rows after last_key. */
json_t *page_envelope(const struct page *page, json_t *items, bool more, int64_t last_key);

/* Strong ETag, quotes included, of a resource of the project with this uid ("" outside projects): hash of uid and JSON
 * text, as_of.computed_at left out. False when memory is out. */
bool resource_etag(const char *uid, const json_t *resource, char out[ETAG_BYTES]);
/* 200 with ETag, or 304. Takes the resource (NULL -> 503). */
void resource_reply(struct http_request *rq, const char *uid, json_t *resource);

/* Sets an object's member and takes value; false when either failed (value NULL included). */
bool json_put(json_t *object, const char *name, json_t *value);
/* Strings of known length; times in ms as RFC 3339, negative or 0 -> null. */
json_t *json_text(const char *bytes, size_t n);
json_t *json_time(int64_t ms);

#endif
