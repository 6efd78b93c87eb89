/* idempotency.h - the rows of Idempotency-Key: the answer a key was given, written in the transaction of the write
 * itself. (The header rules stand in endpoints/idempotency.h.) */
#ifndef STORE_IDEMPOTENCY_H
#define STORE_IDEMPOTENCY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "annotmix.h"
#include "store/db.h"

enum {
    IDEMPOTENCY_KEEP_MS = 24 * 60 * 60 * 1000
};

/* Slices are followed by a 0 byte when read. */
struct idempotency_row {
    uint8_t request_hash[32];
    int status;              /* HTTP */
    struct slice media_type; /* bytes NULL = none, each */
    struct slice location, etag;
    struct slice body;
    int64_t created_ms;
    void *memory;
};
void idempotency_row_done(struct idempotency_row *row);

/* project_id: 0 outside projects. Rows older than 24 h count as unknown. AMX_NOT_FOUND. */
AMX_CHECK enum amx_status idempotency_rows_find(struct db *db, int64_t token_id, int64_t project_id, struct slice key,
                                                int64_t now_ms, struct idempotency_row *out, struct amx_error *err);
/* Replaces a row that is older than 24 h; AMX_CONFLICT when a younger one exists. */
AMX_CHECK enum amx_status idempotency_rows_insert(struct db *db, int64_t token_id, int64_t project_id, struct slice key,
                                                  const struct idempotency_row *row, struct amx_error *err);
/* Deletes up to 5,000 rows older than 24 h. *worked: call again. */
AMX_CHECK enum amx_status idempotency_rows_purge_step(struct db *db, int64_t now_ms, bool *worked,
                                                      struct amx_error *err);

#endif
