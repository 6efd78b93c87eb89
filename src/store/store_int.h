/* store_int.h - what store.c shares with its helpers: files, the shape of the database, copies of it. */
#ifndef STORE_STORE_INT_H
#define STORE_STORE_INT_H

#include <pthread.h>
#include <stdbool.h>

#include "annotmix.h"
#include "store/db.h"

/* The absolute path with every symbolic link of the folder resolved; the last part is kept as it is. free() it. AMX_IO
 * when the folder is not there. */
AMX_CHECK enum amx_status files_resolve(const char *path, char **out, struct amx_error *err);
/* AMX_IO when the file's folder lies on a network or shared file system, where locks and shared memory do not work. */
AMX_CHECK enum amx_status files_check_system(const char *path, struct amx_error *err);
/* Takes PATH.lock; the descriptor holds the lock until it is closed. AMX_BUSY, AMX_IO. */
AMX_CHECK enum amx_status files_lock(const char *path, int *fd, struct amx_error *err);
/* Makes an empty file, mode 0600, if there is none; *created tells. Refuses what is no regular file. */
AMX_CHECK enum amx_status files_create(const char *path, bool *created, struct amx_error *err);
/* Looks at the first bytes without SQLite: AMX_CORRUPT when they are no database of ours (empty is fine). */
AMX_CHECK enum amx_status files_check_header(const char *path, struct amx_error *err);
/* fsync of the file, and of the folder it is in. AMX_IO. */
AMX_CHECK enum amx_status files_sync(const char *path, struct amx_error *err);
AMX_CHECK enum amx_status files_sync_folder(const char *path, struct amx_error *err);

/* A copy under way, so that another thread can end it. */
struct copying {
    pthread_mutex_t mu;
    struct db *db; /* guarded by mu, like stop; NULL: none */
    bool stop;
};
/* Ends the copy that is under way, and every later one. Once may be too early to hit the statement: repeat it until the
 * copying thread is back. */
void copying_stop(struct copying *copying);
/* Copies the database `from` to `to`: online, into TO.tmp, checked, fsync, rename. copying may be NULL. AMX_CONFLICT
 * when `to` exists, AMX_CANCELLED when stopped, AMX_CORRUPT when the copy does not pass, AMX_FULL, AMX_IO. */
AMX_CHECK enum amx_status backup_make(const char *from, const char *to, struct copying *copying, struct amx_error *err);
/* Makes PATH.schema-VERSION, unless such a copy of the same content is there. Under the lock of the database. */
AMX_CHECK enum amx_status backup_before_migration(const char *path, int version, struct amx_error *err);

/* PRAGMA application_id of our files: "AMX1". */
enum {
    SCHEMA_APPLICATION_ID = 0x414D5831
};
/* Version of the newest migration in this program. */
int schema_newest(void);
/* Checks that the database is ours and not newer than the program. *version 0: an empty file. AMX_CORRUPT. */
AMX_CHECK enum amx_status schema_check(struct db *db, int *version, struct amx_error *err);
/* Runs the migrations that are missing, each in a transaction of its own. */
AMX_CHECK enum amx_status schema_migrate(struct db *db, int version, struct amx_error *err);

/* quick_check tells of pages that could not be read, or for which there was no memory, as of damage. They are none: the
 * next time they may be readable. AMX_NO_MEMORY, AMX_IO or AMX_CORRUPT. */
enum amx_status store_status_of_check(const char *told);

#endif
