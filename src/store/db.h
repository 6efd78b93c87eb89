/* db.h - the seam over SQLite: connections, prepared statements, transactions, and one mapping of result codes to
 * statuses.
 *
 * Only src/store includes <sqlite3.h>, and in it only db.c, pieces.c and library.c. Everything else speaks this
 * interface, which holds nothing that PostgreSQL has not.
 *
 *     DB_STMT(s);
 *     if (db_use(db, SELECT_NAME, &s, err) != AMX_OK) ...
 *     db_bind_int(s, 1, project_id);
 *     status = db_step(s, &step, err);      // first failed bind is told here too
 *
 * A statement is prepared once per connection and found again by the ADDRESS of its SQL text: give string literals or
 * static constants only. A statement that is still in use by an outer function is not disturbed: the inner one gets its
 * own.
 *
 * A connection belongs to one thread at a time. Nothing here locks.
 */
#ifndef STORE_DB_H
#define STORE_DB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "annotmix.h"
#include "util/buf.h"

struct db;
struct db_stmt;

enum db_role {
    DB_WRITER, /* the one connection that writes and checkpoints */
    DB_READER  /* read-only: query_only, never checkpoints */
};
enum db_step {
    DB_ROW,
    DB_DONE
};

/* Opens an existing file (store.h creates and checks it) and sets every pragma and limit. AMX_NOT_FOUND, AMX_CORRUPT
 * (no database), AMX_IO, AMX_NO_MEMORY. */
AMX_CHECK enum amx_status db_open(const char *path, enum db_role role, bool create, struct db **out,
                                  struct amx_error *err);
void db_close(struct db *db); /* NULL allowed. The last connection that closes a file also checkpoints it. */

/* ---- statements ---- */

/* Declares a statement pointer that is released at the end of the block. */
#define DB_STMT(name) __attribute__((cleanup(db_release))) struct db_stmt *name = NULL
AMX_CHECK enum amx_status db_use(struct db *db, const char *sql, struct db_stmt **out, struct amx_error *err);
void db_release(struct db_stmt **stmt); /* resets and hands back; NULL allowed */

/* Parameters count from 1. Text and blobs are borrowed until the statement is released or stepped to its end; a slice
 * whose bytes are NULL binds NULL. A failure sticks and is told by the next db_step. */
void db_bind_int(struct db_stmt *stmt, int index, int64_t value);
void db_bind_real(struct db_stmt *stmt, int index, double value); /* NaN binds NULL */
void db_bind_text(struct db_stmt *stmt, int index, struct slice text);
void db_bind_string(struct db_stmt *stmt, int index, const char *text); /* 0-terminated; NULL binds NULL */
void db_bind_blob(struct db_stmt *stmt, int index, const void *bytes, size_t n);
void db_bind_null(struct db_stmt *stmt, int index);

AMX_CHECK enum amx_status db_step(struct db_stmt *stmt, enum db_step *step, struct amx_error *err);
/* Steps a statement that gives no rows, then makes it ready for the next binds (bindings are kept). */
AMX_CHECK enum amx_status db_run(struct db_stmt *stmt, struct amx_error *err);
/* One row is expected: AMX_NOT_FOUND (err->text = not_found, if not NULL) when there is none. */
AMX_CHECK enum amx_status db_one(struct db_stmt *stmt, const char *not_found, struct amx_error *err);
void db_reset(struct db_stmt *stmt); /* ready to be bound and stepped again; bindings are kept */

/* Columns count from 0. Borrowed until the next step, reset or release. NULL reads as 0, NaN, {NULL, 0}. Text is
 * followed by a 0 byte. */
int64_t db_int(struct db_stmt *stmt, int column);
double db_real(struct db_stmt *stmt, int column);
struct slice db_text(struct db_stmt *stmt, int column);
struct slice db_blob(struct db_stmt *stmt, int column);
bool db_is_null(struct db_stmt *stmt, int column);

/* ---- plain SQL and transactions ---- */

AMX_CHECK enum amx_status db_exec(struct db *db, const char *sql, struct amx_error *err);
/* Rows the last INSERT, UPDATE or DELETE touched. */
int64_t db_changed(const struct db *db);

AMX_CHECK enum amx_status db_begin(struct db *db, struct amx_error *err); /* write lock at once (BEGIN IMMEDIATE) */
AMX_CHECK enum amx_status db_begin_read(struct db *db, struct amx_error *err); /* one consistent view from here on */
/* When it fails nothing is known until db_rollback. */
AMX_CHECK enum amx_status db_commit(struct db *db, struct amx_error *err);
void db_rollback(struct db *db); /* harmless without a transaction */
AMX_CHECK enum amx_status db_savepoint(struct db *db, struct amx_error *err);
AMX_CHECK enum amx_status db_savepoint_release(struct db *db, struct amx_error *err);
AMX_CHECK enum amx_status db_savepoint_undo(struct db *db, struct amx_error *err); /* back to it, and gone */
bool db_in_transaction(const struct db *db);

/* ---- state ---- */

/* Ends the statement that runs on this connection now (AMX_CANCELLED there). From any thread, while it is open. */
void db_interrupt(struct db *db);

/* After an fsync error: nothing may be written on this process's handles any more (a second fsync may lie). Sticks. */
bool db_must_stop(const struct db *db);
/* PASSIVE: copies what it can without waiting for readers. truncate: waits a little and cuts the WAL to zero. Writer
 * only. */
AMX_CHECK enum amx_status db_checkpoint(struct db *db, bool truncate, struct amx_error *err);
int64_t db_wal_bytes(const struct db *db); /* size of FILE-wal; 0 when there is none */
/* Frames in the WAL after the last COMMIT of this connection, in bytes: when to checkpoint. (The file may be longer.)
 */
int64_t db_wal_used(const struct db *db);

/* Instructions of SQLite's machine run by all statements of this connection so far: what a question costs, without a
 * clock. */
int64_t db_work(const struct db *db);

/* Something kept beside the connection between jobs (the name cache of changes.c); freed with it. Whoever keeps copies
 * of rows there must drop them when db_undone() has changed: something that was written has been undone. */
struct db_attachment {
    void *data;
    void (*free)(void *data);
};
struct db_attachment *db_attachment(struct db *db);
uint64_t db_undone(const struct db *db);

#endif
