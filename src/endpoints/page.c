/* page.c - cursors, list envelopes, ETags.
 *
 * Cursor: 16 bytes (hash of the list, key; big-endian) in base64url, 22 characters. The hash is the first 8 bytes of
 * SHA-256 over route template, path parameters and filter values, length-prefixed. It is no secret and no signature: it
 * protects from mistakes, and a forged key shows nothing that the list would not show.
 */
#include "endpoints/page.h"

#include <stdlib.h>
#include <string.h>

#include "endpoints/problem.h"
#include "util/buf.h"
#include "util/clock.h"
#include "util/digest.h"
#include "util/jsonx.h"
#include "util/random.h"

enum { CURSOR_RAW = 16, CURSOR_TEXT = 22, MAX_FILTERS = 16, MAX_REPEATS = 1000 };

static void add_text(struct digest *d, const char *text)
{
    digest_add_sized(d, text, strlen(text));
}

static uint64_t list_hash(const struct http_request *rq, const char *const *filters)
{
    struct digest d;
    digest_init(&d);
    const char *pattern = http_route_of(rq)->pattern;
    add_text(&d, pattern);
    unsigned params = 0;
    for (const char *c = pattern; *c != '\0'; c++) {
        params += *c == '{';
    }
    for (unsigned i = 0; i < params; i++) {
        const char *value = http_param(rq, i);
        add_text(&d, value != NULL ? value : "");
    }
    for (size_t f = 0; filters != NULL && filters[f] != NULL; f++) {
        const char *value;
        for (unsigned i = 0; i < MAX_REPEATS && (value = http_query_nth(rq, filters[f], i)) != NULL; i++) {
            add_text(&d, filters[f]);
            add_text(&d, value);
        }
    }
    uint8_t sha[DIGEST_BYTES];
    digest_finish(&d, sha);
    uint64_t hash = 0;
    for (int i = 0; i < 8; i++) {
        hash = hash << 8 | sha[i];
    }
    return hash;
}

static int sextet(char c)
{
    if (c >= 'A' && c <= 'Z') {
        return c - 'A';
    }
    if (c >= 'a' && c <= 'z') {
        return c - 'a' + 26;
    }
    if (c >= '0' && c <= '9') {
        return c - '0' + 52;
    }
    return c == '-' ? 62 : c == '_' ? 63 : -1;
}

static bool cursor_decode(const char *text, uint64_t *list, int64_t *key)
{
    if (strlen(text) != CURSOR_TEXT) {
        return false;
    }
    uint8_t raw[CURSOR_RAW + 2] = {0};
    size_t n = 0;
    unsigned bits = 0;
    uint32_t word = 0;
    for (size_t i = 0; i < CURSOR_TEXT; i++) {
        int six = sextet(text[i]);
        if (six < 0) {
            return false;
        }
        word = word << 6 | (uint32_t)six;
        bits += 6;
        if (bits >= 8) {
            bits -= 8;
            raw[n++] = (uint8_t)(word >> bits);
        }
    }
    if (n != CURSOR_RAW || (word & ((1u << bits) - 1)) != 0) {
        return false;
    }
    uint64_t a = 0, b = 0;
    for (int i = 0; i < 8; i++) {
        a = a << 8 | raw[i];
        b = b << 8 | raw[8 + i];
    }
    *list = a;
    *key = (int64_t)b;
    return true;
}

char *page_cursor(const struct page *page, int64_t last_key, char out[PAGE_CURSOR_BYTES])
{
    uint8_t raw[CURSOR_RAW];
    for (int i = 0; i < 8; i++) {
        raw[i] = (uint8_t)(page->list >> (56 - 8 * i));
        raw[8 + i] = (uint8_t)((uint64_t)last_key >> (56 - 8 * i));
    }
    random_base64url(raw, sizeof raw, out);
    return out;
}

bool page_parse(struct http_request *rq, const char *const *filters, struct page *out)
{
    const char *names[MAX_FILTERS + 3];
    size_t n = 0;
    names[n++] = "limit";
    names[n++] = "cursor";
    for (size_t i = 0; filters != NULL && filters[i] != NULL && n < MAX_FILTERS + 2; i++) {
        names[n++] = filters[i];
    }
    names[n] = NULL;
    int64_t limit;
    if (!http_query_only(rq, names) || !http_query_int(rq, "limit", 1, PAGE_LIMIT_MAX, PAGE_LIMIT_DEFAULT, &limit)) {
        return false;
    }
    struct page page = {.limit = (size_t)limit, .after = INT64_MIN, .list = list_hash(rq, filters)};
    const char *cursor = http_query(rq, "cursor");
    if (cursor != NULL) {
        uint64_t list;
        if (!cursor_decode(cursor, &list, &page.after)) {
            problem_reply_as(rq, PROBLEM_INVALID_QUERY, "cursor is none that this server has given.");
            return false;
        }
        if (list != page.list) {
            problem_reply_as(rq, PROBLEM_INVALID_QUERY,
                             "cursor belongs to another list or other filters; start again without it.");
            return false;
        }
        page.continued = true;
    }
    *out = page;
    return true;
}

json_t *page_envelope(const struct page *page, json_t *items, bool more, int64_t last_key)
{
    json_t *object = items == NULL ? NULL : json_object();
    if (object == NULL) {
        json_decref(items);
        return NULL;
    }
    char cursor[PAGE_CURSOR_BYTES];
    json_t *next = more ? json_string(page_cursor(page, last_key, cursor)) : json_null();
    bool ok = json_put(object, "items", items);
    ok = json_put(object, "next_cursor", next) && ok;
    if (!ok) {
        json_decref(object);
        return NULL;
    }
    return object;
}

bool json_put(json_t *object, const char *name, json_t *value)
{
    return json_object_set_new(object, name, value) == 0; /* takes value even on failure */
}

json_t *json_text(const char *bytes, size_t n)
{
    return json_stringn(bytes, n);
}

json_t *json_time(int64_t ms)
{
    char text[CLOCK_TEXT_BYTES];
    return ms <= 0 ? json_null() : json_string(clock_text(ms, text));
}

/* The JSON text without as_of.computed_at: the moment of asking changes nothing about the resource. */
static char *text_for_etag(const json_t *resource, size_t *n)
{
    json_t *as_of = json_object_get(resource, "as_of");
    if (as_of == NULL || json_object_get(as_of, "computed_at") == NULL) {
        return jsonx_dump(resource, n);
    }
    json_t *copy = json_copy((json_t *)(uintptr_t)resource); /* shallow; the original is not changed */
    json_t *as_of_copy = copy == NULL ? NULL : json_copy(as_of);
    char *text = NULL;
    if (as_of_copy != NULL) {
        (void)json_object_del(as_of_copy, "computed_at");
        if (json_object_set_new(copy, "as_of", as_of_copy) == 0) {
            text = jsonx_dump(copy, n);
        }
    }
    json_decref(copy);
    return text;
}

bool resource_etag(const char *uid, const json_t *resource, char out[ETAG_BYTES])
{
    size_t n = 0;
    char *text = text_for_etag(resource, &n);
    if (text == NULL) {
        return false;
    }
    struct digest d;
    uint8_t sha[DIGEST_BYTES];
    char hex[DIGEST_HEX_BYTES];
    digest_init(&d);
    add_text(&d, uid);
    digest_add_sized(&d, text, n);
    digest_finish(&d, sha);
    free(text);
    (void)digest_hex(sha, hex);
    out[0] = '"';
    memcpy(out + 1, hex, 32);
    out[33] = '"';
    out[34] = '\0';
    return true;
}

void resource_reply(struct http_request *rq, const char *uid, json_t *resource)
{
    char etag[ETAG_BYTES];
    if (resource == NULL || !resource_etag(uid, resource, etag)) {
        json_decref(resource);
        http_reply_json(rq, 503, NULL);
        return;
    }
    if (http_reply_if_unchanged(rq, etag)) {
        json_decref(resource);
        return;
    }
    http_reply_json(rq, 200, resource);
}
