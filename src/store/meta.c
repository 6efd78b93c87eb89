/* meta.c - values of the file itself, by name. */
#include "store/meta.h"

#include "util/error.h"

static const char SELECT_VALUE[] = "SELECT value FROM meta WHERE key = ?1";
static const char UPSERT_VALUE[] =
    "INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = excluded.value";

enum amx_status meta_get(struct db *db, const char *key, struct buf *out, struct amx_error *err)
{
    DB_STMT(s);
    enum amx_status status = db_use(db, SELECT_VALUE, &s, err);

    if (status != AMX_OK)
        return status;
    db_bind_string(s, 1, key);
    status = db_one(s, "no such value", err);
    if (status != AMX_OK)
        return status;
    struct slice value = db_text(s, 0);
    status = buf_append(out, value.bytes, value.n);
    return status == AMX_OK ? AMX_OK : error_set(err, status, "no memory for a value");
}

enum amx_status meta_set(struct db *db, const char *key, struct slice value, struct amx_error *err)
{
    DB_STMT(s);
    enum amx_status status = db_use(db, UPSERT_VALUE, &s, err);

    if (status != AMX_OK)
        return status;
    db_bind_string(s, 1, key);
    db_bind_text(s, 2, value);
    return db_run(s, err);
}
