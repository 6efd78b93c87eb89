/* idempotency.c - rows of Idempotency-Key. Age decides on reading, so a row that the purge has not reached yet is as
 * good as gone. */
#include "store/idempotency.h"

#include <stdlib.h>
#include <string.h>

#include "store/changes_int.h"
#include "util/error.h"

enum {
    PURGE_ROWS = 5000
};

void idempotency_row_done(struct idempotency_row *row)
{
    free(row->memory);
    *row = (struct idempotency_row){.status = 0};
}

/* Parameters 1 to 3. */
static void bind_key(struct db_stmt *s, int64_t token_id, int64_t project_id, struct slice key)
{
    db_bind_int(s, 1, token_id);
    db_bind_int(s, 2, project_id);
    db_bind_text(s, 3, key);
}

static const char SELECT_ROW[] =
    "SELECT request_hash, status, media_type, location, etag, body, created_at FROM idempotency"
    " WHERE token_id = ?1 AND project_id = ?2 AND key = ?3 AND created_at > ?4";

enum amx_status idempotency_rows_find(struct db *db, int64_t token_id, int64_t project_id, struct slice key,
                                      int64_t now_ms, struct idempotency_row *out, struct amx_error *err)
{
    DB_STMT(s);
    enum amx_status status = db_use(db, SELECT_ROW, &s, err);

    if (status != AMX_OK)
        return status;
    bind_key(s, token_id, project_id, key);
    db_bind_int(s, 4, now_ms - IDEMPOTENCY_KEEP_MS);
    status = db_one(s, "the key is not known", err);
    if (status != AMX_OK)
        return status;
    struct slice hash = db_blob(s, 0);
    struct idempotency_row row = {.status = (int)db_int(s, 1),
                                  .media_type = db_text(s, 2),
                                  .location = db_text(s, 3),
                                  .etag = db_text(s, 4),
                                  .body = db_blob(s, 5),
                                  .created_ms = db_int(s, 6)};
    if (hash.n != sizeof(row.request_hash))
        return error_set(err, AMX_CORRUPT, "the hash of a request is not 32 bytes long");
    memcpy(row.request_hash, hash.bytes, sizeof(row.request_hash));
    struct slice *texts[] = {&row.media_type, &row.location, &row.etag, &row.body};
    status = rows_own(texts, sizeof(texts) / sizeof(texts[0]), &row.memory, err);
    if (status == AMX_OK)
        *out = row;
    return status;
}

static const char DELETE_OLD_ROW[] =
    "DELETE FROM idempotency WHERE token_id = ?1 AND project_id = ?2 AND key = ?3 AND created_at <= ?4";
static const char INSERT_ROW[] =
    "INSERT INTO idempotency (token_id, project_id, key, request_hash, status, media_type, location, etag, body,"
    " created_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";

enum amx_status idempotency_rows_insert(struct db *db, int64_t token_id, int64_t project_id, struct slice key,
                                        const struct idempotency_row *row, struct amx_error *err)
{
    DB_STMT(old);
    DB_STMT(s);
    enum amx_status status = db_use(db, DELETE_OLD_ROW, &old, err);

    if (status != AMX_OK)
        return status;
    bind_key(old, token_id, project_id, key);
    db_bind_int(old, 4, row->created_ms - IDEMPOTENCY_KEEP_MS);
    status = db_run(old, err);
    if (status == AMX_OK)
        status = db_use(db, INSERT_ROW, &s, err);
    if (status != AMX_OK)
        return status;
    bind_key(s, token_id, project_id, key);
    db_bind_blob(s, 4, row->request_hash, sizeof(row->request_hash));
    db_bind_int(s, 5, row->status);
    db_bind_text(s, 6, row->media_type);
    db_bind_text(s, 7, row->location);
    db_bind_text(s, 8, row->etag);
    db_bind_blob(s, 9, row->body.bytes, row->body.n);
    db_bind_int(s, 10, row->created_ms);
    status = db_run(s, err);
    return status == AMX_CONFLICT ? error_set(err, AMX_CONFLICT, "the key is known already") : status;
}

static const char PURGE[] =
    "DELETE FROM idempotency WHERE (token_id, project_id, key) IN"
    " (SELECT token_id, project_id, key FROM idempotency WHERE created_at <= ?1 ORDER BY created_at LIMIT ?2)";

enum amx_status idempotency_rows_purge_step(struct db *db, int64_t now_ms, bool *worked, struct amx_error *err)
{
    DB_STMT(s);
    enum amx_status status = db_use(db, PURGE, &s, err);

    *worked = false;
    if (status != AMX_OK)
        return status;
    db_bind_int(s, 1, now_ms - IDEMPOTENCY_KEEP_MS);
    db_bind_int(s, 2, PURGE_ROWS);
    status = db_run(s, err);
    if (status == AMX_OK)
        *worked = db_changed(db) == PURGE_ROWS;
    return status;
}
