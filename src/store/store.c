/* store.c - opening a database file in the right order, the pool of read connections, and checks.
 *
 * Order of store_open, and why: resolve the folder (SQLite refuses symbolic links anywhere in the path), refuse network
 * file systems, take the lock, create the file with mode 0600 (SQLite gives its -wal and -shm the same), look at the
 * header before SQLite may write to it, open, check application_id and user_version, only then switch to WAL, copy the
 * file when it is of an older version (backup.c), and migrate.
 *
 * Read connections are made when they are needed and kept; who finds all of them out waits. The pool's lock is a leaf:
 * nothing else is taken under it, and no SQL runs under it.
 */
#include "store/store.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "store/store_int.h"
#include "util/clock.h"
#include "util/error.h"

enum {
    READERS_DEFAULT = 16,
    READERS_MOST = 1024
};

struct reader {
    struct db *db; /* NULL: not opened yet */
    bool out;
    int64_t since_ms; /* monotonic, while out */
};

struct store {
    char *path;
    int lock_fd;       /* -1 = none */
    struct db *writer; /* NULL = read-only */
    int version;
    bool unclean_start;
    pthread_mutex_t mu;
    pthread_cond_t back;    /* a reader came back */
    struct reader *readers; /* [n_readers] guarded by mu */
    size_t n_readers;
    struct copying copying; /* has a lock of its own, a leaf too */
};

static enum amx_status new_store(const char *path, size_t n_readers, struct store **out, struct amx_error *err)
{
    struct store *store = calloc(1, sizeof(*store));

    if (store == NULL)
        return error_set(err, AMX_NO_MEMORY, "no memory for the store");
    store->lock_fd = -1;
    (void)pthread_mutex_init(&store->mu, NULL); /* cannot fail with default attributes on Linux */
    (void)pthread_cond_init(&store->back, NULL);
    (void)pthread_mutex_init(&store->copying.mu, NULL);
    store->n_readers = n_readers == 0 ? READERS_DEFAULT : n_readers > READERS_MOST ? READERS_MOST : n_readers;
    store->readers = calloc(store->n_readers, sizeof(*store->readers));
    enum amx_status status = store->readers == NULL ? error_set(err, AMX_NO_MEMORY, "no memory for the store")
                                                    : files_resolve(path, &store->path, err);
    if (status != AMX_OK) {
        store_close(store);
        return status;
    }
    *out = store;
    return AMX_OK;
}

static enum amx_status use_wal(struct db *db, struct amx_error *err)
{
    DB_STMT(s);
    enum amx_status status = db_use(db, "PRAGMA journal_mode = WAL", &s, err);

    if (status == AMX_OK)
        status = db_one(s, NULL, err);
    if (status == AMX_OK && strcmp(db_text(s, 0).bytes, "wal") != 0)
        return error_set(err, AMX_IO, "SQLite cannot use a write-ahead log here");
    return status;
}

/* schema_check, whose words do not know the file's name. */
static enum amx_status check_schema(struct store *store, struct db *db, struct amx_error *err)
{
    struct amx_error why = {.code = AMX_OK};
    enum amx_status status = schema_check(db, &store->version, &why);

    return status == AMX_OK ? AMX_OK : error_set(err, status, "%s: %s", store->path, why.text);
}

static bool wal_left(const char *path)
{
    struct buf name = BUF_INIT(4096);
    struct stat info;
    bool left;

    (void)buf_text(&name, path); /* sticky */
    left = buf_text(&name, "-wal") == AMX_OK && stat(buf_string(&name), &info) == 0 && info.st_size > 0;
    buf_done(&name);
    return left;
}

static enum amx_status open_for_writing(struct store *store, bool must_exist, struct amx_error *err)
{
    bool created = false;
    enum amx_status status = files_check_system(store->path, err);

    if (status == AMX_OK && must_exist && access(store->path, F_OK) != 0)
        status = error_set(err, errno == ENOENT ? AMX_NOT_FOUND : AMX_IO, "%s: %s", store->path, strerror(errno));
    if (status == AMX_OK)
        status = files_lock(store->path, &store->lock_fd, err);
    if (status == AMX_OK)
        status = files_create(store->path, &created, err);
    if (status == AMX_OK)
        status = files_check_header(store->path, err);
    store->unclean_start = wal_left(store->path);
    if (status == AMX_OK)
        status = db_open(store->path, DB_WRITER, false, &store->writer, err);
    if (status == AMX_OK)
        status = check_schema(store, store->writer, err);
    if (status == AMX_OK)
        status = use_wal(store->writer, err);
    if (status == AMX_OK && store->version > 0 && store->version < schema_newest())
        status = backup_before_migration(store->path, store->version, err);
    if (status == AMX_OK)
        status = schema_migrate(store->writer, store->version, err);
    if (status == AMX_OK)
        store->version = schema_newest();
    return status;
}

enum amx_status store_open(const char *path, const struct store_options *options, struct store **out,
                           struct amx_error *err)
{
    struct store *store = NULL;
    enum amx_status status = new_store(path, options != NULL ? options->max_readers : 0, &store, err);

    if (status != AMX_OK)
        return status;
    status = open_for_writing(store, options != NULL && options->must_exist, err);
    if (status != AMX_OK) {
        store_close(store);
        return status;
    }
    *out = store;
    return AMX_OK;
}

enum amx_status store_open_readonly(const char *path, struct store **out, struct amx_error *err)
{
    struct store *store = NULL;
    struct db *db = NULL;
    enum amx_status status = new_store(path, 2, &store, err);

    if (status != AMX_OK)
        return status;
    status = files_check_system(store->path, err);
    if (status == AMX_OK)
        status = files_check_header(store->path, err);
    if (status == AMX_OK)
        status = store_reader_get(store, &db, err);
    if (status == AMX_OK)
        status = check_schema(store, db, err);
    if (status == AMX_OK && store->version < schema_newest())
        status = error_set(err, AMX_CONFLICT, "%s is of an older version (schema %d); run annotmixd migrate first",
                           store->path, store->version);
    store_reader_put(store, db);
    if (status != AMX_OK) {
        store_close(store);
        return status;
    }
    *out = store;
    return AMX_OK;
}

void store_close(struct store *store)
{
    if (store == NULL)
        return;
    for (size_t i = 0; store->readers != NULL && i < store->n_readers; i++)
        db_close(store->readers[i].db);
    db_close(store->writer); /* the last one: SQLite checkpoints and deletes the WAL */
    if (store->lock_fd >= 0)
        (void)close(store->lock_fd); /* drops the lock */
    (void)pthread_mutex_destroy(&store->copying.mu);
    (void)pthread_cond_destroy(&store->back);
    (void)pthread_mutex_destroy(&store->mu);
    free(store->readers);
    free(store->path);
    free(store);
}

struct db *store_writer(struct store *store)
{
    return store->writer;
}

/* ---- readers ---- */

/* An open connection that is in, else a slot without one, else NULL. */
static struct reader *free_reader_locked(struct store *store)
{
    struct reader *empty = NULL;

    for (size_t i = 0; i < store->n_readers; i++) {
        if (store->readers[i].out)
            continue;
        if (store->readers[i].db != NULL)
            return &store->readers[i];
        if (empty == NULL)
            empty = &store->readers[i];
    }
    return empty;
}

enum amx_status store_reader_get(struct store *store, struct db **out, struct amx_error *err)
{
    struct reader *reader;
    enum amx_status status = AMX_OK;

    (void)pthread_mutex_lock(&store->mu);
    while ((reader = free_reader_locked(store)) == NULL)
        (void)pthread_cond_wait(&store->back, &store->mu);
    reader->out = true;
    reader->since_ms = clock_monotonic_ms();
    (void)pthread_mutex_unlock(&store->mu);

    /* The slot is ours now: opening takes milliseconds and happens outside the lock. */
    if (reader->db == NULL) {
        struct db *db = NULL;
        status = db_open(store->path, DB_READER, false, &db, err);
        (void)pthread_mutex_lock(&store->mu);
        reader->db = db;
        if (status != AMX_OK) {
            reader->out = false;
            (void)pthread_cond_signal(&store->back);
        }
        (void)pthread_mutex_unlock(&store->mu);
    }
    if (status == AMX_OK)
        *out = reader->db;
    return status;
}

void store_reader_put(struct store *store, struct db *db)
{
    if (db == NULL)
        return;
    if (db_in_transaction(db))
        db_rollback(db);
    (void)pthread_mutex_lock(&store->mu);
    for (size_t i = 0; i < store->n_readers; i++) {
        if (store->readers[i].db == db)
            store->readers[i].out = false;
    }
    (void)pthread_cond_signal(&store->back);
    (void)pthread_mutex_unlock(&store->mu);
}

/* ---- backup, check, figures ---- */

enum amx_status store_backup(struct store *store, const char *to, struct amx_error *err)
{
    return backup_make(store->path, to, &store->copying, err);
}

void store_backup_stop(struct store *store)
{
    copying_stop(&store->copying);
}

/* Names of all tables, one after the other, each with its final 0. */
static enum amx_status list_tables(struct db *db, struct buf *out, struct amx_error *err)
{
    DB_STMT(s);
    enum db_step step = DB_ROW;
    enum amx_status status = db_use(db, "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name", &s, err);

    while (status == AMX_OK && (status = db_step(s, &step, err)) == AMX_OK && step == DB_ROW) {
        struct slice name = db_text(s, 0);
        if (buf_append(out, name.bytes, name.n) != AMX_OK || buf_char(out, '\0') != AMX_OK)
            status = error_set(err, out->status, "no memory for the check");
    }
    return status;
}

enum amx_status store_status_of_check(const char *told)
{
    static const char mark[] = "error code=";
    enum { PRIMARY = 0xff, NO_MEMORY = 7, DAMAGED = 11, NO_MEMORY_READING = 3082 }; /* codes of SQLite */

    for (const char *at = strstr(told, mark); at != NULL; at = strstr(at + 1, mark)) {
        long code = strtol(at + sizeof mark - 1, NULL, 10);
        if (code == NO_MEMORY || code == NO_MEMORY_READING)
            return AMX_NO_MEMORY;
        if ((code & PRIMARY) != DAMAGED)
            return AMX_IO;
    }
    return strstr(told, "failed to get page") != NULL ? AMX_IO : AMX_CORRUPT;
}

static enum amx_status check_table(struct db *db, const char *table, struct amx_error *err)
{
    DB_STMT(s);
    enum amx_status status = db_use(db, "SELECT quick_check FROM pragma_quick_check(?1) LIMIT 1", &s, err);

    if (status != AMX_OK)
        return status;
    db_bind_string(s, 1, table);
    if ((status = db_one(s, NULL, err)) == AMX_OK && strcmp(db_text(s, 0).bytes, "ok") != 0)
        status = error_set(err, store_status_of_check(db_text(s, 0).bytes), "quick_check of %s: %s", table,
                           db_text(s, 0).bytes);
    return status;
}

/* Table by table, so that no read transaction lasts longer than one of them: the WAL could not be reset meanwhile. */
enum amx_status store_check(struct store *store, const bool *stop, struct amx_error *err)
{
    struct buf tables = BUF_INIT(1 << 20);
    struct db *db = NULL;
    enum amx_status status = store_reader_get(store, &db, err);

    if (status == AMX_OK)
        status = list_tables(db, &tables, err);
    for (size_t at = 0; status == AMX_OK && at < tables.n; at += strlen(tables.bytes + at) + 1) {
        if (stop != NULL && __atomic_load_n(stop, __ATOMIC_ACQUIRE))
            status = error_set(err, AMX_CANCELLED, "the check was not finished");
        else if ((status = check_table(db, tables.bytes + at, err)) == AMX_CORRUPT || status == AMX_IO)
            status = check_table(db, tables.bytes + at, err); /* memory that was out for a moment reads like damage */
    }
    store_reader_put(store, db);
    buf_done(&tables);
    return status;
}

int64_t store_disk_free(const struct store *store)
{
    struct statvfs fs;

    return statvfs(store->path, &fs) == 0 ? (int64_t)fs.f_bavail * (int64_t)fs.f_frsize : INT64_MAX;
}

bool store_unclean_start(const struct store *store)
{
    return store->unclean_start;
}

void store_get_stats(struct store *store, struct store_stats *out)
{
    struct store_stats stats = {.unclean_start = store->unclean_start};
    struct stat info;
    int64_t now = clock_monotonic_ms(), oldest = now;

    (void)pthread_mutex_lock(&store->mu);
    for (size_t i = 0; i < store->n_readers; i++) {
        stats.readers_open += store->readers[i].db != NULL;
        stats.readers_out += store->readers[i].out;
        if (store->readers[i].out && store->readers[i].since_ms < oldest)
            oldest = store->readers[i].since_ms;
    }
    (void)pthread_mutex_unlock(&store->mu);
    stats.oldest_reader_seconds = (double)(now - oldest) / 1000.0;
    if (store->writer != NULL)
        stats.wal_bytes = db_wal_bytes(store->writer);
    if (stat(store->path, &info) == 0)
        stats.db_bytes = (int64_t)info.st_size;
    stats.disk_free_bytes = store_disk_free(store);
    *out = stats;
}

int store_schema_version(const struct store *store)
{
    return store->version;
}
