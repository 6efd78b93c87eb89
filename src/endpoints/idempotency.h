/* idempotency.h - Idempotency-Key: the first answer to a POST is kept for 24 h and replayed to whoever sends the same
 * again.
 *
 * A key belongs to (token or 0, project or 0). What makes a request "the same" is the SHA-256 of method, route, path
 * parameters and body. Two places: a set in memory of the keys in progress (409 meanwhile; it dies with the process,
 * and then nothing was committed either), and one row per key, written in the same transaction as the write itself, so
 * a key is known exactly when its write happened. Only answers 2xx are kept: a refused request changed nothing and may
 * be corrected.
 */
#ifndef ENDPOINTS_IDEMPOTENCY_H
#define ENDPOINTS_IDEMPOTENCY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "annotmix.h"
#include "http/http.h"
#include "store/db.h"
#include "util/digest.h"

enum {
    IDEMPOTENCY_KEY_BYTES = 255,
    IDEMPOTENCY_MAX_BODY = 1024 * 1024
};

struct write_reply;

/* One request's claim on its key; lives in the request's struct write. */
struct idempotency {
    bool present;  /* there is a key: */
    bool replayed; /* the answer is the first one's */
    bool other;    /* the key was used with another request: 422 */
    int64_t token_id;
    int64_t project_id;
    char key[IDEMPOTENCY_KEY_BYTES + 1];
    uint8_t hash[DIGEST_BYTES]; /* of the request */
    struct idempotency *next;   /* in the set of keys in progress; guarded by its lock */
    bool claimed;
};

/* Reads the header of a POST and claims the key. No header: true, present false. False: it has replied (400 no key or
 * too large a body, 409 in progress). project_id: 0 outside projects. */
bool idempotency_claim(struct http_request *rq, int64_t project_id, struct idempotency *out);
/* Ends the claim; harmless without one. Any thread. */
void idempotency_release(struct idempotency *key);
/* For bodies that are streamed: 400 and false when the header is there. */
bool idempotency_refuse(struct http_request *rq);

/* Writer thread. AMX_OK and key->replayed: *reply is the first answer. AMX_OK and not replayed: unknown, go on.
 * AMX_CONFLICT with key->other: used with another request. */
AMX_CHECK enum amx_status idempotency_find(struct db *db, struct idempotency *key, struct write_reply *reply,
                                           struct amx_error *err);
/* Writer thread, same savepoint as the write. */
AMX_CHECK enum amx_status idempotency_keep(struct db *db, const struct idempotency *key,
                                           const struct write_reply *reply, struct amx_error *err);

#endif
