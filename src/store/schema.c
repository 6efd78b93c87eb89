/* schema.c - which version the database has, and the migrations that bring it to this program's.
 *
 * Migrations are files migrations/NNNN_name.sql, embedded in the program; NNNN is the version that user_version holds
 * afterwards. Each runs in one transaction together with setting user_version, so a crash leaves the old version or the
 * new one. A released migration is never edited. A file of a newer program is refused: this one would not know what it
 * breaks.
 */
#include <stdlib.h>
#include <string.h>

#include "store/meta.h"
#include "store/store_int.h"
#include "util/clock.h"
#include "util/embed.h"
#include "util/error.h"

static const char FOLDER[] = "migrations/";

/* Version of an embedded file; 0 when it is no migration. */
static int version_of(const struct embedded_file *file)
{
    if (strncmp(file->path, FOLDER, sizeof(FOLDER) - 1) != 0)
        return 0;
    return (int)strtol(file->path + sizeof(FOLDER) - 1, NULL, 10);
}

int schema_newest(void)
{
    int newest = 0;

    for (const struct embedded_file *file = embedded_files; file->path != NULL; file++) {
        if (version_of(file) > newest)
            newest = version_of(file);
    }
    return newest;
}

static enum amx_status ask(struct db *db, const char *sql, int64_t *out, struct amx_error *err)
{
    DB_STMT(s);
    enum amx_status status = db_use(db, sql, &s, err);

    if (status == AMX_OK)
        status = db_one(s, NULL, err);
    if (status == AMX_OK)
        *out = db_int(s, 0);
    return status;
}

enum amx_status schema_check(struct db *db, int *version, struct amx_error *err)
{
    int64_t application = 0, user = 0, tables = 0;
    enum amx_status status = ask(db, "PRAGMA application_id", &application, err);

    if (status == AMX_OK)
        status = ask(db, "PRAGMA user_version", &user, err);
    if (status == AMX_OK)
        status = ask(db, "SELECT count(*) FROM sqlite_schema", &tables, err);
    if (status != AMX_OK)
        return status;
    if (application == 0 && user == 0 && tables == 0) {
        *version = 0;
        return AMX_OK;
    }
    if (application != SCHEMA_APPLICATION_ID || user < 1)
        return error_set(err, AMX_CORRUPT, "the file is a database of another program");
    if (user > schema_newest())
        return error_set(err, AMX_CORRUPT,
                         "the file was made by a newer version (schema %d; this program knows up to %d)", (int)user,
                         schema_newest());
    *version = (int)user;
    return AMX_OK;
}

static enum amx_status run_one(struct db *db, const struct embedded_file *file, int version, struct amx_error *err)
{
    struct buf pragmas = BUF_INIT(200);
    enum amx_status status = db_begin(db, err);

    if (status != AMX_OK)
        return status;
    status = db_exec(db, (const char *)file->begin, err);
    if (status == AMX_OK && version == 1) {
        char now[CLOCK_TEXT_BYTES];
        struct slice text = {clock_text(clock_wall_ms(), now), 0};
        text.n = strlen(text.bytes);
        status = meta_set(db, "created_at", text, err);
    }
    /* PRAGMA takes no parameters; both values are numbers of ours. */
    if (status == AMX_OK && buf_printf(&pragmas, "PRAGMA application_id = %d; PRAGMA user_version = %d;",
                                       (int)SCHEMA_APPLICATION_ID, version) != AMX_OK)
        status = error_set(err, pragmas.status, "no memory for a migration");
    if (status == AMX_OK)
        status = db_exec(db, buf_string(&pragmas), err);
    if (status == AMX_OK)
        status = db_commit(db, err);
    if (status != AMX_OK)
        db_rollback(db);
    buf_done(&pragmas);
    return status;
}

enum amx_status schema_migrate(struct db *db, int version, struct amx_error *err)
{
    DB_STMT(s);
    enum db_step step = DB_DONE;
    enum amx_status status = AMX_OK;

    if (version == schema_newest())
        return AMX_OK;
    for (const struct embedded_file *file = embedded_files; status == AMX_OK && file->path != NULL; file++) {
        if (version_of(file) > version)
            status = run_one(db, file, version_of(file), err); /* the table is sorted by path */
    }
    if (status == AMX_OK)
        status = db_use(db, "PRAGMA foreign_key_check", &s, err);
    if (status == AMX_OK)
        status = db_step(s, &step, err);
    if (status == AMX_OK && step == DB_ROW)
        status = error_set(err, AMX_CORRUPT, "after the migrations a row of %s refers to nothing", db_text(s, 0).bytes);
    return status;
}
