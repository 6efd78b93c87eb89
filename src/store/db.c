/* db.c - the SQLite driver of db.h.
 *
 * Statements are kept per connection in a small open-addressing table keyed by the address of the SQL text; SQL texts
 * are constants of the program, so the table stops growing soon and nothing is ever parsed twice. A statement that is
 * in use when it is asked for again (a list whose callback asks the same question) gets a twin, kept in the same chain.
 *
 * Result codes become statuses in one place, fail(). Two of them mean more than "this call failed": a failed fsync (the
 * kernel may have dropped the dirty pages and will report success next time) sets must_stop for good, and a full disk
 * is told apart from other I/O errors so that the writer can go read-only and come back by itself.
 */
#include "store/db.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "store/pieces.h"
#include "util/error.h"

enum {
    TABLE_START = 128, /* slots; a power of two */
    BUSY_MS = 5000,
    TRUNCATE_BUSY_MS = 250,          /* a TRUNCATE checkpoint waits this long for readers, then gives up */
    LENGTH_LIMIT = 64 * 1024 * 1024, /* of any text or blob: a chunk of a model is 4 MiB */
    SQL_LIMIT = 1024 * 1024,
    VARIABLES_LIMIT = 256
};

struct db_stmt {
    struct db *db;
    const char *sql;
    sqlite3_stmt *stmt;
    struct db_stmt *twin; /* another one of the same text */
    bool in_use;
    int rc; /* first failed bind */
};

struct db {
    sqlite3 *handle;
    char *wal_path;
    struct db_stmt **table; /* [n_slots] */
    size_t n_slots, n_used;
    sqlite3_stmt *rollback; /* made when there is memory: going back must not need any */
    uint64_t undone;
    int64_t changes_at_savepoint;
    struct db_attachment attachment;
    int64_t page_bytes; /* of the file */
    _Atomic bool must_stop;
    bool is_corrupt;
    _Atomic int64_t wal_frames;
};

/* ---- result codes ---- */

static enum amx_status status_of(int rc)
{
    switch (rc) {
    case SQLITE_FULL:
    case SQLITE_IOERR_WRITE:
    case SQLITE_IOERR_SHMSIZE: /* growing the index of the WAL: the same full disk */
        return AMX_FULL;
    case SQLITE_CONSTRAINT_UNIQUE:
    case SQLITE_CONSTRAINT_PRIMARYKEY:
    case SQLITE_CONSTRAINT_ROWID:
    case SQLITE_CONSTRAINT_FOREIGNKEY:
        return AMX_CONFLICT;
    case SQLITE_IOERR_NOMEM:
        return AMX_NO_MEMORY;
    default:
        break;
    }
    switch (rc & 0xff) {
    case SQLITE_OK:
        return AMX_OK;
    case SQLITE_NOMEM:
        return AMX_NO_MEMORY;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return AMX_CORRUPT;
    case SQLITE_CONSTRAINT:
    case SQLITE_MISMATCH:
    case SQLITE_RANGE:
        return AMX_INVALID;
    case SQLITE_TOOBIG:
        return AMX_TOO_LARGE;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return AMX_BUSY;
    case SQLITE_INTERRUPT:
        return AMX_CANCELLED;
    default:
        return AMX_IO;
    }
}

static enum amx_status fail(struct db *db, int rc, struct amx_error *err)
{
    int code = sqlite3_extended_errcode(db->handle);
    /* A sticky bind error is older than what the handle remembers. */
    const char *text = code == rc ? sqlite3_errmsg(db->handle) : sqlite3_errstr(rc);

    if (rc == SQLITE_IOERR_FSYNC || rc == SQLITE_IOERR_DIR_FSYNC)
        atomic_store(&db->must_stop, true);
    if (status_of(rc) == AMX_CORRUPT)
        db->is_corrupt = true;
    return error_set(err, status_of(rc), "database: %s (%d)", text, rc);
}

/* ---- open and close ---- */

static const char *writer_vfs; /* written once */

/* Once per process, before SQLite is used: without statistics an allocation takes no lock. A label costs a dozen of
 * them. */
static void configure_process(void)
{
    (void)sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0); /* refused when SQLite runs already: then it is only slower */
    writer_vfs = pieces_register();
}

static int count_frames(void *context, sqlite3 *handle, const char *name, int frames)
{
    struct db *db = context;

    (void)handle;
    (void)name;
    atomic_store(&db->wal_frames, frames);
    return SQLITE_OK;
}

/* page_size: of new files; one that stands keeps its own. By 8 KiB a vector of 384 numbers takes 1.07 times its size
 * (five fill a page) instead of 1.33, and bulk bodies cost a quarter less; by 16 KiB single labels would cost more.
 * auto_vacuum: Debian's SQLite turns it on, which would move pages at every COMMIT that freed some; space is used
 * again. */
static const char *const WRITER_PRAGMAS = "PRAGMA page_size = 8192;"
                                          "PRAGMA auto_vacuum = NONE;"
                                          "PRAGMA foreign_keys = ON;"
                                          "PRAGMA trusted_schema = OFF;"
                                          "PRAGMA synchronous = FULL;"
                                          "PRAGMA temp_store = MEMORY;"
                                          "PRAGMA secure_delete = ON;"
                                          "PRAGMA journal_size_limit = 67108864;"
                                          "PRAGMA wal_autocheckpoint = 0;"
                                          "PRAGMA cache_size = -32768;";
static const char *const READER_PRAGMAS = "PRAGMA query_only = ON;"
                                          "PRAGMA trusted_schema = OFF;"
                                          "PRAGMA temp_store = MEMORY;"
                                          "PRAGMA wal_autocheckpoint = 0;"
                                          "PRAGMA cache_size = -4096;";

static enum amx_status ask_page_size(struct db *db, struct amx_error *err)
{
    DB_STMT(s);
    enum amx_status status = db_use(db, "PRAGMA page_size", &s, err);

    if (status == AMX_OK)
        status = db_one(s, NULL, err);
    if (status == AMX_OK)
        db->page_bytes = db_int(s, 0);
    return status;
}

static enum amx_status configure(struct db *db, enum db_role role, struct amx_error *err)
{
    sqlite3 *h = db->handle;
    int rc = sqlite3_extended_result_codes(h, 1);

    if (rc == SQLITE_OK)
        rc = sqlite3_busy_timeout(h, BUSY_MS);
    if (rc == SQLITE_OK)
        rc = sqlite3_db_config(h, SQLITE_DBCONFIG_DEFENSIVE, 1, (int *)NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_db_config(h, SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 0, (int *)NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_db_config(h, SQLITE_DBCONFIG_ENABLE_TRIGGER, 0, (int *)NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_db_config(h, SQLITE_DBCONFIG_ENABLE_VIEW, 0, (int *)NULL);
    if (rc != SQLITE_OK)
        return fail(db, rc, err);
    (void)sqlite3_limit(h, SQLITE_LIMIT_LENGTH, LENGTH_LIMIT);
    (void)sqlite3_limit(h, SQLITE_LIMIT_SQL_LENGTH, SQL_LIMIT);
    (void)sqlite3_limit(h, SQLITE_LIMIT_VARIABLE_NUMBER, VARIABLES_LIMIT);
    if (role == DB_WRITER)
        (void)sqlite3_wal_hook(h, count_frames, db); /* returns the earlier hook: none */
    /* The hook must come first: wal_autocheckpoint would otherwise put its own in place. */
    enum amx_status status = db_exec(db, role == DB_WRITER ? WRITER_PRAGMAS : READER_PRAGMAS, err);
    if (role == DB_WRITER)
        (void)sqlite3_wal_hook(h, count_frames, db);
    if (status == AMX_OK && role == DB_WRITER)
        status = ask_page_size(db, err);
    if (status != AMX_OK)
        return status;
    rc = sqlite3_prepare_v3(h, "ROLLBACK", -1, SQLITE_PREPARE_PERSISTENT, &db->rollback, NULL);
    return rc == SQLITE_OK ? AMX_OK : fail(db, rc, err);
}

static enum amx_status open_handle(struct db *db, const char *path, enum db_role role, bool create,
                                   struct amx_error *err)
{
    int flags = SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_NOFOLLOW | SQLITE_OPEN_EXRESCODE;
    struct stat info;

    if (!create && stat(path, &info) != 0) {
        if (errno == ENOENT)
            return error_set(err, AMX_NOT_FOUND, "there is no file %s", path);
        return error_set(err, AMX_IO, "%s: %s", path, strerror(errno));
    }
    flags |= role == DB_READER ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE;
    if (create)
        flags |= SQLITE_OPEN_CREATE;
    int rc = sqlite3_open_v2(path, &db->handle, flags, role == DB_WRITER ? writer_vfs : NULL);
    if (rc == SQLITE_OK)
        return configure(db, role, err);
    return error_set(err, status_of(rc), "cannot open %s: %s", path,
                     db->handle ? sqlite3_errmsg(db->handle) : "no memory");
}

enum amx_status db_open(const char *path, enum db_role role, bool create, struct db **out, struct amx_error *err)
{
    static pthread_once_t configured = PTHREAD_ONCE_INIT;
    (void)pthread_once(&configured, configure_process);
    struct db *db = calloc(1, sizeof(*db));
    struct buf wal_path = BUF_INIT(4096);
    enum amx_status status;

    if (db == NULL)
        return error_set(err, AMX_NO_MEMORY, "no memory for a database connection");
    db->n_slots = TABLE_START;
    db->table = calloc(db->n_slots, sizeof(struct db_stmt *));
    (void)buf_text(&wal_path, path); /* sticky: seen by the next one */
    (void)buf_text(&wal_path, "-wal");
    db->wal_path = buf_take(&wal_path, NULL);
    if (db->table == NULL || db->wal_path == NULL)
        status = error_set(err, AMX_NO_MEMORY, "no memory for a database connection");
    else
        status = open_handle(db, path, role, create, err);
    if (status != AMX_OK) {
        db_close(db);
        return status;
    }
    *out = db;
    return AMX_OK;
}

void db_close(struct db *db)
{
    if (db == NULL)
        return;
    for (size_t i = 0; db->table != NULL && i < db->n_slots; i++) {
        for (struct db_stmt *s = db->table[i], *next; s != NULL; s = next) {
            next = s->twin;
            (void)sqlite3_finalize(s->stmt); /* tells the error of the last step again */
            free(s);
        }
    }
    (void)sqlite3_finalize(db->rollback);
    if (db->attachment.free != NULL)
        db->attachment.free(db->attachment.data);
    /* What must not be written any more must not be written on closing either. */
    if (db->handle != NULL && (db->is_corrupt || db_must_stop(db)))
        (void)sqlite3_db_config(db->handle, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, (int *)NULL); /* a flag: cannot fail */
    (void)sqlite3_close_v2(db->handle); /* cannot fail: no statement is left */
    free(db->table);
    free(db->wal_path);
    free(db);
}

void db_interrupt(struct db *db)
{
    sqlite3_interrupt(db->handle);
}

/* ---- statements ---- */

static size_t slot_of(const char *sql, size_t n_slots)
{
    uint64_t x = (uint64_t)(uintptr_t)sql * UINT64_C(0x9E3779B97F4A7C15);
    return (size_t)(x >> 32) & (n_slots - 1);
}

/* The chain of this text, or the free slot for it. */
static struct db_stmt **find_slot(struct db_stmt **table, size_t n_slots, const char *sql)
{
    size_t i = slot_of(sql, n_slots);

    while (table[i] != NULL && table[i]->sql != sql)
        i = (i + 1) & (n_slots - 1);
    return &table[i];
}

static bool grow_table(struct db *db)
{
    size_t n_slots = db->n_slots * 2;
    struct db_stmt **table = calloc(n_slots, sizeof(struct db_stmt *));

    if (table == NULL)
        return false;
    for (size_t i = 0; i < db->n_slots; i++) {
        if (db->table[i] != NULL)
            *find_slot(table, n_slots, db->table[i]->sql) = db->table[i];
    }
    free(db->table);
    db->table = table;
    db->n_slots = n_slots;
    return true;
}

static enum amx_status prepare(struct db *db, const char *sql, struct db_stmt **out, struct amx_error *err)
{
    struct db_stmt *s = calloc(1, sizeof(*s));

    if (s == NULL)
        return error_set(err, AMX_NO_MEMORY, "no memory for a statement");
    int rc = sqlite3_prepare_v3(db->handle, sql, -1, SQLITE_PREPARE_PERSISTENT, &s->stmt, NULL);
    if (rc != SQLITE_OK) {
        free(s);
        return fail(db, rc, err);
    }
    s->db = db;
    s->sql = sql;
    *out = s;
    return AMX_OK;
}

enum amx_status db_use(struct db *db, const char *sql, struct db_stmt **out, struct amx_error *err)
{
    struct db_stmt **slot = find_slot(db->table, db->n_slots, sql);
    struct db_stmt *s = *slot;

    while (s != NULL && s->in_use)
        s = s->twin;
    if (s == NULL) {
        enum amx_status status = prepare(db, sql, &s, err);
        if (status != AMX_OK)
            return status;
        if (*slot == NULL)
            db->n_used++;
        s->twin = *slot;
        *slot = s;
        /* Room is made after use of the slot; when memory is out the table only gets fuller, and one slot must stay
         * free. */
        if (db->n_used * 2 > db->n_slots && !grow_table(db) && db->n_used + 1 >= db->n_slots) {
            *slot = s->twin;
            db->n_used -= *slot == NULL;
            (void)sqlite3_finalize(s->stmt); /* never stepped */
            free(s);
            return error_set(err, AMX_NO_MEMORY, "no memory for a statement");
        }
    }
    s->in_use = true;
    s->rc = SQLITE_OK;
    *out = s;
    return AMX_OK;
}

void db_release(struct db_stmt **stmt)
{
    struct db_stmt *s = *stmt;

    if (s == NULL)
        return;
    (void)sqlite3_reset(s->stmt); /* tells the error of the last step again */
    (void)sqlite3_clear_bindings(s->stmt);
    s->in_use = false;
    *stmt = NULL;
}

void db_reset(struct db_stmt *stmt)
{
    (void)sqlite3_reset(stmt->stmt); /* tells the error of the last step again */
}

static void stick(struct db_stmt *stmt, int rc)
{
    if (stmt->rc == SQLITE_OK)
        stmt->rc = rc;
}

void db_bind_int(struct db_stmt *stmt, int index, int64_t value)
{
    stick(stmt, sqlite3_bind_int64(stmt->stmt, index, value));
}

void db_bind_real(struct db_stmt *stmt, int index, double value)
{
    stick(stmt, isnan(value) ? sqlite3_bind_null(stmt->stmt, index) : sqlite3_bind_double(stmt->stmt, index, value));
}

void db_bind_text(struct db_stmt *stmt, int index, struct slice text)
{
    stick(stmt, sqlite3_bind_text64(stmt->stmt, index, text.bytes, text.n, SQLITE_STATIC, SQLITE_UTF8));
}

void db_bind_string(struct db_stmt *stmt, int index, const char *text)
{
    stick(stmt, sqlite3_bind_text(stmt->stmt, index, text, -1, SQLITE_STATIC));
}

void db_bind_blob(struct db_stmt *stmt, int index, const void *bytes, size_t n)
{
    stick(stmt, sqlite3_bind_blob64(stmt->stmt, index, bytes, n, SQLITE_STATIC));
}

void db_bind_null(struct db_stmt *stmt, int index)
{
    stick(stmt, sqlite3_bind_null(stmt->stmt, index));
}

enum amx_status db_step(struct db_stmt *stmt, enum db_step *step, struct amx_error *err)
{
    int rc = stmt->rc != SQLITE_OK ? stmt->rc : sqlite3_step(stmt->stmt);

    if (rc != SQLITE_ROW && rc != SQLITE_DONE)
        return fail(stmt->db, rc, err);
    *step = rc == SQLITE_ROW ? DB_ROW : DB_DONE;
    return AMX_OK;
}

enum amx_status db_run(struct db_stmt *stmt, struct amx_error *err)
{
    enum db_step step = DB_DONE;
    enum amx_status status = db_step(stmt, &step, err);

    db_reset(stmt);
    return status;
}

enum amx_status db_one(struct db_stmt *stmt, const char *not_found, struct amx_error *err)
{
    enum db_step step = DB_DONE;
    enum amx_status status = db_step(stmt, &step, err);

    if (status == AMX_OK && step == DB_DONE)
        return error_set(err, AMX_NOT_FOUND, "%s", not_found != NULL ? not_found : "not found");
    return status;
}

int64_t db_int(struct db_stmt *stmt, int column)
{
    return sqlite3_column_int64(stmt->stmt, column);
}

double db_real(struct db_stmt *stmt, int column)
{
    return db_is_null(stmt, column) ? (double)NAN : sqlite3_column_double(stmt->stmt, column);
}

struct slice db_text(struct db_stmt *stmt, int column)
{
    struct slice text = {(const char *)sqlite3_column_text(stmt->stmt, column), 0};

    if (text.bytes != NULL)
        text.n = (size_t)sqlite3_column_bytes(stmt->stmt, column);
    return text;
}

struct slice db_blob(struct db_stmt *stmt, int column)
{
    struct slice blob = {sqlite3_column_blob(stmt->stmt, column), 0};

    if (blob.bytes != NULL)
        blob.n = (size_t)sqlite3_column_bytes(stmt->stmt, column);
    return blob;
}

bool db_is_null(struct db_stmt *stmt, int column)
{
    return sqlite3_column_type(stmt->stmt, column) == SQLITE_NULL;
}

/* ---- plain SQL and transactions ---- */

enum amx_status db_exec(struct db *db, const char *sql, struct amx_error *err)
{
    int rc = sqlite3_exec(db->handle, sql, NULL, NULL, NULL);
    return rc == SQLITE_OK ? AMX_OK : fail(db, rc, err);
}

int64_t db_changed(const struct db *db)
{
    return sqlite3_changes64(db->handle);
}

static enum amx_status run_text(struct db *db, const char *sql, struct amx_error *err)
{
    DB_STMT(s);
    enum amx_status status = db_use(db, sql, &s, err);

    return status == AMX_OK ? db_run(s, err) : status;
}

enum amx_status db_begin(struct db *db, struct amx_error *err)
{
    return run_text(db, "BEGIN IMMEDIATE", err);
}

enum amx_status db_begin_read(struct db *db, struct amx_error *err)
{
    return run_text(db, "BEGIN", err);
}

enum amx_status db_commit(struct db *db, struct amx_error *err)
{
    return run_text(db, "COMMIT", err);
}

void db_rollback(struct db *db)
{
    db->undone++;
    if (db_in_transaction(db)) {
        (void)sqlite3_step(db->rollback); /* fails only when there is nothing to roll back */
        (void)sqlite3_reset(db->rollback);
    }
}

enum amx_status db_savepoint(struct db *db, struct amx_error *err)
{
    db->changes_at_savepoint = sqlite3_total_changes64(db->handle);
    return run_text(db, "SAVEPOINT job", err);
}

enum amx_status db_savepoint_release(struct db *db, struct amx_error *err)
{
    return run_text(db, "RELEASE job", err);
}

enum amx_status db_savepoint_undo(struct db *db, struct amx_error *err)
{
    enum amx_status status = run_text(db, "ROLLBACK TO job", err);

    /* A job that was refused before it wrote anything leaves what others remember valid. */
    if (sqlite3_total_changes64(db->handle) != db->changes_at_savepoint)
        db->undone++;
    return status == AMX_OK ? run_text(db, "RELEASE job", err) : status;
}

bool db_in_transaction(const struct db *db)
{
    return sqlite3_get_autocommit(db->handle) == 0;
}

/* ---- state ---- */

bool db_must_stop(const struct db *db)
{
    return atomic_load(&db->must_stop);
}

enum amx_status db_checkpoint(struct db *db, bool truncate, struct amx_error *err)
{
    int in_log = 0, copied = 0;

    if (truncate)
        (void)sqlite3_busy_timeout(db->handle, TRUNCATE_BUSY_MS); /* cannot fail on an open handle */
    int rc = sqlite3_wal_checkpoint_v2(
        db->handle, "main", truncate ? SQLITE_CHECKPOINT_TRUNCATE : SQLITE_CHECKPOINT_PASSIVE, &in_log, &copied);
    if (truncate)
        (void)sqlite3_busy_timeout(db->handle, BUSY_MS);
    if (rc == SQLITE_OK)
        atomic_store(&db->wal_frames, in_log > copied ? in_log - copied : 0);
    /* Readers in the way: what could be copied was, the rest next time. */
    return rc == SQLITE_OK || rc == SQLITE_BUSY ? AMX_OK : fail(db, rc, err);
}

int64_t db_wal_bytes(const struct db *db)
{
    struct stat info;

    return stat(db->wal_path, &info) == 0 ? (int64_t)info.st_size : 0;
}

int64_t db_wal_used(const struct db *db)
{
    return atomic_load(&db->wal_frames) * db->page_bytes;
}

int64_t db_work(const struct db *db)
{
    int64_t steps = 0;

    for (size_t i = 0; i < db->n_slots; i++) {
        for (const struct db_stmt *s = db->table[i]; s != NULL; s = s->twin)
            steps += sqlite3_stmt_status(s->stmt, SQLITE_STMTSTATUS_VM_STEP, 0);
    }
    return steps;
}

struct db_attachment *db_attachment(struct db *db)
{
    return &db->attachment;
}

uint64_t db_undone(const struct db *db)
{
    return db->undone;
}
