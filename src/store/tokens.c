/* tokens.c - rows of access tokens. */
#include "store/tokens.h"

#include <string.h>

#include "util/error.h"

static const char INSERT_TOKEN[] =
    "INSERT INTO tokens (name, prefix, sha256, scopes, project, annotator, created_at, expires_at)"
    " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) RETURNING id";

enum amx_status tokens_insert(struct db *db, const struct token_row *row, int64_t *id, struct amx_error *err)
{
    static const struct slice empty = {"", 0};
    DB_STMT(s);
    enum amx_status status = db_use(db, INSERT_TOKEN, &s, err);

    if (status != AMX_OK)
        return status;
    db_bind_text(s, 1, row->name.bytes != NULL ? row->name : empty);
    db_bind_text(s, 2, row->prefix.bytes != NULL ? row->prefix : empty);
    db_bind_blob(s, 3, row->sha256, sizeof(row->sha256));
    db_bind_int(s, 4, row->scopes);
    db_bind_text(s, 5, row->project.bytes != NULL ? row->project : empty);
    db_bind_text(s, 6, row->annotator.bytes != NULL ? row->annotator : empty);
    db_bind_int(s, 7, row->created_ms);
    if (row->expires_ms != 0)
        db_bind_int(s, 8, row->expires_ms);
    status = db_one(s, NULL, err);
    if (status == AMX_CONFLICT)
        return error_set(err, AMX_CONFLICT, "the token exists already");
    if (status == AMX_OK)
        *id = db_int(s, 0);
    return status;
}

static const char REVOKE[] = "UPDATE tokens SET revoked_at = ?2 WHERE id = ?1 AND revoked_at IS NULL";

enum amx_status tokens_revoke(struct db *db, int64_t id, int64_t now_ms, struct amx_error *err)
{
    DB_STMT(s);
    enum amx_status status = db_use(db, REVOKE, &s, err);

    if (status != AMX_OK)
        return status;
    db_bind_int(s, 1, id);
    db_bind_int(s, 2, now_ms);
    status = db_run(s, err);
    if (status == AMX_OK && db_changed(db) == 0)
        return error_set(err, AMX_NOT_FOUND, "there is no such token, or it is revoked already");
    return status;
}

static const char SELECT_PAGE[] =
    "SELECT id, name, prefix, sha256, scopes, project, annotator, created_at, expires_at, revoked_at"
    " FROM tokens WHERE id > ?1 ORDER BY id LIMIT ?2";

enum amx_status tokens_list(struct db *db, int64_t after, size_t limit, tokens_fn *fn, void *context, bool *more,
                            struct amx_error *err)
{
    DB_STMT(s);
    enum db_step step = DB_ROW;
    size_t most = limit == 0 ? SIZE_MAX : limit;
    enum amx_status status = db_use(db, SELECT_PAGE, &s, err);

    if (status != AMX_OK)
        return status;
    db_bind_int(s, 1, after);
    db_bind_int(s, 2, limit == 0 ? -1 : (int64_t)limit + 1);
    for (size_t n = 0; status == AMX_OK; n++) {
        status = db_step(s, &step, err);
        if (status != AMX_OK || step == DB_DONE || n == most)
            break;
        struct token_row row = {.id = db_int(s, 0),
                                .name = db_text(s, 1),
                                .prefix = db_text(s, 2),
                                .scopes = (unsigned)db_int(s, 4),
                                .project = db_text(s, 5),
                                .annotator = db_text(s, 6),
                                .created_ms = db_int(s, 7),
                                .expires_ms = db_int(s, 8),
                                .revoked_ms = db_int(s, 9)};
        struct slice hash = db_blob(s, 3);
        if (hash.n != sizeof(row.sha256))
            return error_set(err, AMX_CORRUPT, "the hash of a token is not 32 bytes long");
        memcpy(row.sha256, hash.bytes, sizeof(row.sha256));
        status = fn(context, &row);
    }
    if (status == AMX_OK && more != NULL)
        *more = step == DB_ROW;
    return status;
}

static const char COUNT_TOKENS[] = "SELECT count(*) FROM tokens";

enum amx_status tokens_count(struct db *db, int64_t *n, struct amx_error *err)
{
    DB_STMT(s);
    enum amx_status status = db_use(db, COUNT_TOKENS, &s, err);

    if (status == AMX_OK)
        status = db_one(s, NULL, err);
    if (status == AMX_OK)
        *n = db_int(s, 0);
    return status;
}
