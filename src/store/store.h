/* store.h - one database file: its lock, its checks, its migrations, its connections.
 *
 * One process at a time may serve a file (flock on FILE.lock; the kernel drops it when the process dies). Inside, one
 * connection writes and checkpoints, always in the writer's thread, and a pool of read-only connections answers
 * questions. `export` and `backup` open the file read-only beside a running server.
 */
#ifndef STORE_STORE_H
#define STORE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "annotmix.h"
#include "store/db.h"

struct store;

struct store_options {
    size_t max_readers; /* read connections that may exist; 0 = 16 */
    bool must_exist;    /* do not create a missing file: AMX_NOT_FOUND */
};

/* Opens for serving: takes the lock, creates or checks the file, runs the migrations that are missing (after a copy of
 * the file to FILE.schema-N, N being its old version).
 * AMX_BUSY: another server holds it. AMX_CORRUPT: no database, another program's, or of a newer version (err says
 * which). AMX_IO: folder missing or read-only, network file system, ... */
AMX_CHECK enum amx_status store_open(const char *path, const struct store_options *options, struct store **out,
                                     struct amx_error *err);
/* For export and backup: no lock, no migration (AMX_CONFLICT when one is missing), no writer. */
AMX_CHECK enum amx_status store_open_readonly(const char *path, struct store **out, struct amx_error *err);
/* Every reader must be back. Checkpoints; NULL allowed. */
void store_close(struct store *store);

struct db *store_writer(struct store *store); /* NULL when read-only. For the writer's thread only, once it runs. */
/* A read connection; waits when max_readers are out. Give it back soon: never hold it while waiting for a client. */
AMX_CHECK enum amx_status store_reader_get(struct store *store, struct db **out, struct amx_error *err);
void store_reader_put(struct store *store, struct db *db); /* ends its transaction, if any; NULL allowed */

/* Copies the database as it is now to `to` (a path the operator named; must not exist), readable by the owner only:
 * online, into TO.tmp, opened and checked (quick_check), fsync, rename. One at a time, any thread. AMX_CONFLICT when
 * `to` exists, AMX_CORRUPT when the copy does not pass, AMX_CANCELLED, AMX_FULL, AMX_IO. */
AMX_CHECK enum amx_status store_backup(struct store *store, const char *to, struct amx_error *err);
/* From another thread: ends a store_backup under way, and every later one. Once may be too early to hit: repeat it
 * until store_backup is back. */
void store_backup_stop(struct store *store);

/* quick_check of every table on a read connection; slow on big files. AMX_CORRUPT with the first finding; AMX_CANCELLED
 * when *stop (atomic; NULL allowed) became true. Any thread. */
AMX_CHECK enum amx_status store_check(struct store *store, const bool *stop, struct amx_error *err);
/* Bytes that may still be written where the database lies; INT64_MAX when that cannot be told. Any thread. */
int64_t store_disk_free(const struct store *store);
/* The last process did not stop in order. */
bool store_unclean_start(const struct store *store);

struct store_stats {
    int64_t wal_bytes, db_bytes;
    int64_t disk_free_bytes;
    double oldest_reader_seconds; /* of the connections that are out now */
    size_t readers_out, readers_open;
    bool unclean_start; /* the last process did not stop in order: store_check is worth its time */
};
void store_get_stats(struct store *store, struct store_stats *out);
int store_schema_version(const struct store *store);
const char *store_library_version(void); /* SQLite's */

#endif
