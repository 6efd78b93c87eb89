/* backup.c - copies of a database file that appear under their name when they are whole, checked and on disk.
 *
 * VACUUM INTO reads one snapshot on a connection of its own, so writers go on (the WAL keeps what they write until the
 * copy is done). It fills TO.tmp, which is then opened as any database is, checked by quick_check, synced, and renamed
 * to TO, never over a file that is there: whoever finds TO has a database that opened and was sound.
 *
 * A copy under way can be ended from another thread (struct copying): the server must stop within seconds, whatever the
 * size of its database.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "store/store_int.h"
#include "util/error.h"

enum {
    BEFORE_MIGRATION_MOST = 99, /* copies of one file at one schema version */
    COMPARE_BYTES = 65536
};

void copying_stop(struct copying *copying)
{
    (void)pthread_mutex_lock(&copying->mu);
    copying->stop = true;
    if (copying->db != NULL)
        db_interrupt(copying->db);
    (void)pthread_mutex_unlock(&copying->mu);
}

/* Opens a connection that copying_stop can interrupt; release with put_away. */
static enum amx_status take_up(const char *path, struct copying *copying, struct db **out, struct amx_error *err)
{
    struct db *db = NULL;
    enum amx_status status = db_open(path, DB_READER, false, &db, err);

    if (status == AMX_OK && copying != NULL) {
        (void)pthread_mutex_lock(&copying->mu);
        copying->db = db;
        if (copying->stop)
            status = error_set(err, AMX_CANCELLED, "the copy was stopped");
        (void)pthread_mutex_unlock(&copying->mu);
    }
    *out = db;
    return status;
}

static void put_away(struct copying *copying, struct db *db)
{
    if (copying != NULL) {
        (void)pthread_mutex_lock(&copying->mu);
        copying->db = NULL;
        (void)pthread_mutex_unlock(&copying->mu);
    }
    db_close(db);
}

/* Not a reader of the pool: VACUUM INTO is refused under query_only. */
static enum amx_status vacuum_into(const char *from, const char *to, struct copying *copying, struct amx_error *err)
{
    struct db *db = NULL;
    struct db_stmt *s = NULL;
    enum amx_status status = take_up(from, copying, &db, err);

    if (status == AMX_OK)
        status = db_exec(db, "PRAGMA query_only = OFF", err);
    if (status == AMX_OK)
        status = db_use(db, "VACUUM INTO ?1", &s, err);
    if (status == AMX_OK) {
        db_bind_string(s, 1, to);
        status = db_run(s, err);
        db_release(&s);
    }
    put_away(copying, db);
    return status;
}

/* Opens the copy as a server would and lets SQLite look at every page of it. */
static enum amx_status verify(const char *path, struct copying *copying, struct amx_error *err)
{
    struct db *db = NULL;
    struct db_stmt *s = NULL;
    int version = 0;
    enum amx_status status = files_check_header(path, err);

    if (status == AMX_OK) {
        status = take_up(path, copying, &db, err);
        if (status == AMX_OK)
            status = schema_check(db, &version, err);
        if (status == AMX_OK)
            status = db_use(db, "PRAGMA quick_check(1)", &s, err);
        if (status == AMX_OK)
            status = db_one(s, NULL, err);
        if (status == AMX_OK && strcmp(db_text(s, 0).bytes, "ok") != 0)
            status = error_set(err, store_status_of_check(db_text(s, 0).bytes), "the copy is not sound: %s",
                               db_text(s, 0).bytes);
        db_release(&s);
        put_away(copying, db);
    }
    return status;
}

static char *with_suffix(const char *path, const char *suffix)
{
    AUTO(buf) text = BUF_INIT(4096);

    (void)buf_text(&text, path); /* sticky */
    (void)buf_text(&text, suffix);
    return buf_take(&text, NULL);
}

/* A whole, checked, synced copy in `temporary`; on failure nothing is left there. */
static enum amx_status fill(const char *from, const char *temporary, struct copying *copying, struct amx_error *err)
{
    bool created = false;
    enum amx_status status = files_create(temporary, &created, err);

    if (status != AMX_OK) {
        if (created) /* but its folder could not be synced */
            (void)unlink(temporary);
        return status;
    }
    if (!created)
        return error_set(err, AMX_CONFLICT, "%s exists: another backup runs, or one was interrupted; remove it",
                         temporary);
    status = vacuum_into(from, temporary, copying, err);
    if (status == AMX_OK)
        status = files_sync(temporary, err);
    if (status == AMX_OK)
        status = verify(temporary, copying, err);
    if (status != AMX_OK)
        (void)unlink(temporary); /* the failure is told already */
    return status;
}

static enum amx_status put_in_place(const char *temporary, const char *target, struct amx_error *err)
{
    /* Never over a file that came to be meanwhile. */
    if (renameat2(AT_FDCWD, temporary, AT_FDCWD, target, RENAME_NOREPLACE) == 0)
        return files_sync_folder(target, err);
    int code = errno;
    (void)unlink(temporary); /* the failure is told below */
    return error_set(err, code == EEXIST ? AMX_CONFLICT : AMX_IO, "cannot rename %s: %s", temporary, strerror(code));
}

enum amx_status backup_make(const char *from, const char *to, struct copying *copying, struct amx_error *err)
{
    char *target = NULL, *temporary = NULL;
    enum amx_status status = files_resolve(to, &target, err);

    if (status != AMX_OK)
        return status;
    temporary = with_suffix(target, ".tmp");
    if (temporary == NULL)
        status = error_set(err, AMX_NO_MEMORY, "no memory for a path");
    if (status == AMX_OK && access(target, F_OK) == 0)
        status = error_set(err, AMX_CONFLICT, "%s exists already", target);
    if (status == AMX_OK)
        status = fill(from, temporary, copying, err);
    if (status == AMX_OK)
        status = put_in_place(temporary, target, err);
    free(temporary);
    free(target);
    return status;
}

/* ---- before a migration ---- */

/* Both files hold the same bytes. False too when one cannot be read: then a copy more is made. */
static bool same_bytes(const char *a, const char *b)
{
    FILE *fa = fopen(a, "re"), *fb = fopen(b, "re");
    char *bytes = malloc((size_t)2 * COMPARE_BYTES);
    bool same = fa != NULL && fb != NULL && bytes != NULL;

    while (same) {
        size_t na = fread(bytes, 1, COMPARE_BYTES, fa), nb = fread(bytes + COMPARE_BYTES, 1, COMPARE_BYTES, fb);
        same = na == nb && memcmp(bytes, bytes + COMPARE_BYTES, na) == 0 && ferror(fa) == 0 && ferror(fb) == 0;
        if (na < COMPARE_BYTES)
            break;
    }
    free(bytes);
    if (fa != NULL)
        (void)fclose(fa); /* only read */
    if (fb != NULL)
        (void)fclose(fb); /* only read */
    return same;
}

/* The temporary file becomes FILE.schema-N, or FILE.schema-N.2, ...; it is dropped when one of them is the same
 * already: a migration that is killed and started again and again must not fill the disk with copies. */
static enum amx_status name_copy(const char *path, int version, const char *temporary, struct amx_error *err)
{
    for (int i = 1; i <= BEFORE_MIGRATION_MOST; i++) {
        char suffix[64];
        (void)snprintf(suffix, sizeof suffix, i == 1 ? ".schema-%d" : ".schema-%d.%d", version, i);
        char *target = with_suffix(path, suffix);
        if (target == NULL)
            return error_set(err, AMX_NO_MEMORY, "no memory for a path");
        bool is_there = access(target, F_OK) == 0, is_same = is_there && same_bytes(target, temporary);
        enum amx_status status = AMX_OK;
        if (is_same)
            (void)unlink(temporary); /* what is left over is found and replaced next time */
        else if (!is_there)
            status = put_in_place(temporary, target, err);
        free(target);
        if (is_same || !is_there)
            return status;
    }
    return error_set(err, AMX_CONFLICT, "%s.schema-%d to .%d are all there: move some of them away", path, version,
                     BEFORE_MIGRATION_MOST);
}

enum amx_status backup_before_migration(const char *path, int version, struct amx_error *err)
{
    char *temporary = with_suffix(path, ".schema.tmp");
    enum amx_status status;

    if (temporary == NULL)
        return error_set(err, AMX_NO_MEMORY, "no memory for a path");
    (void)unlink(temporary); /* of a migration that was killed; we hold the lock of the database */
    status = fill(path, temporary, NULL, err);
    if (status == AMX_OK)
        status = name_copy(path, version, temporary, err);
    free(temporary);
    return status;
}
