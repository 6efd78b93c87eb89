/* idempotency.c - the header, the set of keys in progress, the row (idempotency.h). */
#include "endpoints/idempotency.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "endpoints/auth.h"
#include "endpoints/problem.h"
#include "endpoints/write.h"
#include "store/idempotency.h"
#include "util/clock.h"
#include "util/error.h"

enum {
    BUCKETS = 256,
    PARAMS = 4
};

/* Keys in progress; intrusive, so nothing is allocated and nothing can fail. One lock, held for a few instructions. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct idempotency *buckets[BUCKETS]; /* guarded by lock */

static size_t bucket_of(const struct idempotency *key)
{
    uint64_t hash = 1469598103934665603U ^ (uint64_t)key->token_id; /* FNV-1a */
    for (const char *p = key->key; *p != '\0'; p++)
        hash = (hash ^ (unsigned char)*p) * 1099511628211U;
    return (size_t)(hash ^ hash >> 32) % BUCKETS;
}

static bool same(const struct idempotency *a, const struct idempotency *b)
{
    return a->token_id == b->token_id && a->project_id == b->project_id && strcmp(a->key, b->key) == 0;
}

static bool add(struct idempotency *key)
{
    size_t bucket = bucket_of(key);
    bool taken = false;
    pthread_mutex_lock(&lock);
    for (const struct idempotency *at = buckets[bucket]; at != NULL && !taken; at = at->next)
        taken = same(at, key);
    if (!taken) {
        key->next = buckets[bucket];
        buckets[bucket] = key;
        key->claimed = true;
    }
    pthread_mutex_unlock(&lock);
    return !taken;
}

void idempotency_release(struct idempotency *key)
{
    if (!key->present)
        return;
    pthread_mutex_lock(&lock);
    if (key->claimed) {
        struct idempotency **link = &buckets[bucket_of(key)];
        while (*link != key)
            link = &(*link)->next;
        *link = key->next;
        key->claimed = false;
    }
    pthread_mutex_unlock(&lock);
}

/* What makes a request the same: everything that decides what it does, except who sent it and when. */
static void hash_request(const struct http_request *rq, const char *body, size_t n, uint8_t out[DIGEST_BYTES])
{
    static const char *const queries[] = {"atomic", "create_instances"};
    const struct http_route *route = http_route_of(rq);
    struct digest d;
    digest_init(&d);
    digest_add_sized(&d, route->method, strlen(route->method));
    digest_add_sized(&d, route->pattern, strlen(route->pattern));
    unsigned params = 0;
    for (const char *p = route->pattern; *p != '\0'; p++)
        params += *p == '{';
    for (unsigned i = 0; i < params && i < PARAMS; i++) {
        const char *value = http_param(rq, i);
        digest_add_sized(&d, value, value != NULL ? strlen(value) : 0);
    }
    for (size_t i = 0; i < sizeof queries / sizeof queries[0]; i++) {
        const char *value = http_query(rq, queries[i]);
        digest_add_sized(&d, value, value != NULL ? strlen(value) : 0);
    }
    const char *type = http_media_type(rq);
    digest_add_sized(&d, type, strlen(type));
    digest_add_sized(&d, body, n);
    digest_finish(&d, out);
}

static bool tame(const char *key)
{
    size_t n = strlen(key);
    if (n == 0 || n > IDEMPOTENCY_KEY_BYTES)
        return false;
    for (size_t i = 0; i < n; i++)
        if (key[i] < 0x20 || key[i] > 0x7E)
            return false;
    return true;
}

bool idempotency_claim(struct http_request *rq, int64_t project_id, struct idempotency *out)
{
    const char *header = http_header_in(rq, "Idempotency-Key");
    out->present = false;
    if (header == NULL || strcmp(http_route_of(rq)->method, "POST") != 0)
        return true;
    if (!tame(header)) {
        problem_reply_as(rq, PROBLEM_IDEMPOTENCY_REFUSED, "Idempotency-Key must be 1 to %d printable ASCII characters",
                         IDEMPOTENCY_KEY_BYTES);
        return false;
    }
    size_t n;
    const char *body = http_body(rq, &n);
    if (n > IDEMPOTENCY_MAX_BODY) {
        problem_reply_as(rq, PROBLEM_IDEMPOTENCY_REFUSED,
                         "Idempotency-Key is for bodies of up to 1 MiB; this one has %zu bytes", n);
        return false;
    }
    out->token_id = auth_token_id(rq);
    out->project_id = project_id;
    (void)snprintf(out->key, sizeof out->key, "%s", header);
    hash_request(rq, body, n, out->hash);
    out->present = true;
    if (!add(out)) {
        out->present = false;
        problem_reply_as(rq, PROBLEM_IDEMPOTENCY_BUSY, "the first request with this key is not answered yet");
        return false;
    }
    return true;
}

bool idempotency_refuse(struct http_request *rq)
{
    if (http_header_in(rq, "Idempotency-Key") == NULL)
        return true;
    problem_reply_as(rq, PROBLEM_IDEMPOTENCY_REFUSED,
                     "bodies that are streamed take no Idempotency-Key; rows are upserts and safe to send again");
    return false;
}

static bool copy_text(struct slice from, char *to, size_t room)
{
    if (from.n >= room)
        return false;
    if (from.n > 0)
        memcpy(to, from.bytes, from.n);
    to[from.n] = '\0';
    return true;
}

/* Media types are static in struct write_reply; those of stored answers are a closed list. */
static const char *media_type_of(struct slice type)
{
    static const char *const known[] = {"application/x-ndjson", "application/problem+json"};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (type.n == strlen(known[i]) && memcmp(type.bytes, known[i], type.n) == 0)
            return known[i];
    return NULL; /* application/json */
}

static enum amx_status reply_of_row(const struct idempotency_row *row, struct write_reply *reply, struct amx_error *err)
{
    reply->status = row->status;
    reply->media_type = media_type_of(row->media_type);
    if (!copy_text(row->location, reply->location, sizeof reply->location) ||
        !copy_text(row->etag, reply->etag, sizeof reply->etag))
        return error_set(err, AMX_CORRUPT, "a stored answer has headers that are too long");
    if (row->body.bytes == NULL)
        return AMX_OK;
    reply->body = malloc(row->body.n + 1);
    if (reply->body == NULL)
        return error_set(err, AMX_NO_MEMORY, "out of memory");
    memcpy(reply->body, row->body.bytes, row->body.n);
    reply->body[row->body.n] = '\0';
    reply->n_body = row->body.n;
    return AMX_OK;
}

enum amx_status idempotency_find(struct db *db, struct idempotency *key, struct write_reply *reply,
                                 struct amx_error *err)
{
    struct idempotency_row row;
    struct slice text = {key->key, strlen(key->key)};
    struct amx_error unknown;
    enum amx_status status =
        idempotency_rows_find(db, key->token_id, key->project_id, text, clock_wall_ms(), &row, &unknown);
    if (status == AMX_NOT_FOUND)
        return AMX_OK;
    if (status != AMX_OK) {
        if (err != NULL)
            *err = unknown;
        return status;
    }
    if (memcmp(row.request_hash, key->hash, DIGEST_BYTES) != 0) {
        key->other = true;
        status = error_set(err, AMX_CONFLICT, "this Idempotency-Key was used for another request in the last 24 hours");
    } else {
        status = reply_of_row(&row, reply, err);
        key->replayed = status == AMX_OK;
    }
    idempotency_row_done(&row);
    return status;
}

static struct slice text_or_null(const char *text)
{
    return text != NULL && text[0] != '\0' ? (struct slice){text, strlen(text)} : (struct slice){NULL, 0};
}

enum amx_status idempotency_keep(struct db *db, const struct idempotency *key, const struct write_reply *reply,
                                 struct amx_error *err)
{
    struct idempotency_row row = {.status = reply->status,
                                  .media_type = text_or_null(reply->media_type),
                                  .location = text_or_null(reply->location),
                                  .etag = text_or_null(reply->etag),
                                  .body = {reply->body, reply->n_body},
                                  .created_ms = clock_wall_ms()};
    memcpy(row.request_hash, key->hash, DIGEST_BYTES);
    return idempotency_rows_insert(db, key->token_id, key->project_id, (struct slice){key->key, strlen(key->key)}, &row,
                                   err);
}
