/* pieces.c - see pieces.h.
 *
 * SQLite writes a frame of the WAL by two calls, 24 bytes and a page, and a checkpoint every page by one. Most of what a
 * bulk body costs the writer in the kernel is per call and per page of the kernel's that a call touches, twice where two
 * calls meet. So writes that follow each other in the file are kept until there are PIECE bytes of them.
 *
 * Nothing changes about when something is on disk, or seen: what is kept is written before a sync, before anything is
 * read of the same bytes, before the size of the file is asked for or set, and before locks or the barrier of the shared
 * memory tell other connections that there is something to read. At synchronous=FULL, as db.c has it, a COMMIT and a
 * checkpoint sync what they wrote before they tell of it, so the latter has nothing left to do. The order of writes to
 * one file stays.
 *
 * A write that fails is told by whatever came in its way: a later write, a sync, a read; where SQLite listens to no
 * answer, by the next call that has one. To SQLite that is a transaction or a checkpoint that failed, as before. */
#include "store/pieces.h"

#include <sqlite3.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum {
    PIECE = 124 * 1024 /* SQLite's own VFS takes at most 2^17 - 1 bytes in one write */
};

struct file {
    sqlite3_file base;
    sqlite3_file *real;  /* follows this struct */
    struct file *wal;    /* of a database: its open WAL, or NULL */
    struct file *db;     /* of a WAL: its database */
    unsigned char *kept; /* [PIECE]; NULL: writes go through */
    int n;               /* bytes of it that wait for their write */
    int failed;          /* result of a write that nobody was told of */
    sqlite3_int64 at;    /* where they belong */
};

static struct file *of(sqlite3_file *file)
{
    return (struct file *)(void *)file;
}

static const sqlite3_io_methods *real_of(sqlite3_file *file)
{
    return of(file)->real->pMethods;
}

/* Writes what is kept; the first failure of all, once. */
static int put_out(struct file *f)
{
    int n = f->n, rc = f->failed;

    f->n = 0;
    f->failed = SQLITE_OK;
    if (n > 0) {
        int written = f->real->pMethods->xWrite(f->real, f->kept, n, f->at);
        rc = rc == SQLITE_OK ? written : rc;
    }
    return rc;
}

/* Before others are told of it: where there is no answer to give, the failure waits for one. */
static void put_out_both(struct file *f)
{
    if (f->n > 0)
        f->failed = put_out(f);
    if (f->wal != NULL && f->wal->n > 0)
        f->wal->failed = put_out(f->wal);
}

/* ---- methods of a file ---- */

static int pieces_close(sqlite3_file *file)
{
    struct file *f = of(file);
    int rc = put_out(f), closed = f->real->pMethods->xClose(f->real);

    if (f->db != NULL)
        f->db->wal = NULL;
    free(f->kept);
    return rc != SQLITE_OK ? rc : closed;
}

static int pieces_read(sqlite3_file *file, void *bytes, int n, sqlite3_int64 at)
{
    struct file *f = of(file);
    int rc = f->n > 0 && at < f->at + f->n && at + n > f->at ? put_out(f) : SQLITE_OK;

    return rc != SQLITE_OK ? rc : f->real->pMethods->xRead(f->real, bytes, n, at);
}

static int pieces_write(sqlite3_file *file, const void *bytes, int n, sqlite3_int64 at)
{
    struct file *f = of(file);
    int rc = SQLITE_OK;

    if (f->failed != SQLITE_OK || (f->n > 0 && (at != f->at + f->n || n > PIECE - f->n)))
        rc = put_out(f);
    if (rc != SQLITE_OK)
        return rc;
    if (f->kept == NULL || n > PIECE)
        return f->real->pMethods->xWrite(f->real, bytes, n, at);
    if (f->n == 0)
        f->at = at;
    memcpy(f->kept + f->n, bytes, (size_t)n);
    f->n += n;
    return SQLITE_OK;
}

static int pieces_truncate(sqlite3_file *file, sqlite3_int64 size)
{
    int rc = put_out(of(file));

    return rc != SQLITE_OK ? rc : real_of(file)->xTruncate(of(file)->real, size);
}

static int pieces_sync(sqlite3_file *file, int flags)
{
    int rc = put_out(of(file));

    return rc != SQLITE_OK ? rc : real_of(file)->xSync(of(file)->real, flags);
}

static int pieces_size(sqlite3_file *file, sqlite3_int64 *size)
{
    int rc = put_out(of(file));

    return rc != SQLITE_OK ? rc : real_of(file)->xFileSize(of(file)->real, size);
}

static int pieces_lock(sqlite3_file *file, int level)
{
    return real_of(file)->xLock(of(file)->real, level);
}

static int pieces_unlock(sqlite3_file *file, int level)
{
    put_out_both(of(file));
    return real_of(file)->xUnlock(of(file)->real, level);
}

static int pieces_check_reserved(sqlite3_file *file, int *out)
{
    return real_of(file)->xCheckReservedLock(of(file)->real, out);
}

static int pieces_control(sqlite3_file *file, int what, void *argument)
{
    return real_of(file)->xFileControl(of(file)->real, what, argument);
}

static int pieces_sector_size(sqlite3_file *file)
{
    return real_of(file)->xSectorSize(of(file)->real);
}

static int pieces_characteristics(sqlite3_file *file)
{
    return real_of(file)->xDeviceCharacteristics(of(file)->real);
}

static int pieces_shm_map(sqlite3_file *file, int region, int bytes, int extend, void volatile **out)
{
    return real_of(file)->xShmMap(of(file)->real, region, bytes, extend, out);
}

static int pieces_shm_lock(sqlite3_file *file, int first, int n, int flags)
{
    put_out_both(of(file));
    return real_of(file)->xShmLock(of(file)->real, first, n, flags);
}

static void pieces_shm_barrier(sqlite3_file *file)
{
    put_out_both(of(file));
    real_of(file)->xShmBarrier(of(file)->real);
}

static int pieces_shm_unmap(sqlite3_file *file, int delete_it)
{
    put_out_both(of(file));
    return real_of(file)->xShmUnmap(of(file)->real, delete_it);
}

static const sqlite3_io_methods methods = {
    .iVersion = 2, /* without xFetch: no page is read past what is kept */
    .xClose = pieces_close,
    .xRead = pieces_read,
    .xWrite = pieces_write,
    .xTruncate = pieces_truncate,
    .xSync = pieces_sync,
    .xFileSize = pieces_size,
    .xLock = pieces_lock,
    .xUnlock = pieces_unlock,
    .xCheckReservedLock = pieces_check_reserved,
    .xFileControl = pieces_control,
    .xSectorSize = pieces_sector_size,
    .xDeviceCharacteristics = pieces_characteristics,
    .xShmMap = pieces_shm_map,
    .xShmLock = pieces_shm_lock,
    .xShmBarrier = pieces_shm_barrier,
    .xShmUnmap = pieces_shm_unmap,
};

/* ---- the VFS ---- */

static sqlite3_vfs vfs, *below;

static int pieces_open(sqlite3_vfs *self, const char *path, sqlite3_file *file, int flags, int *out_flags)
{
    struct file *f = of(file);

    (void)self;
    memset(f, 0, sizeof *f);
    f->real = (sqlite3_file *)(void *)(f + 1);
    if ((flags & (SQLITE_OPEN_MAIN_DB | SQLITE_OPEN_WAL)) != 0 && (f->kept = malloc(PIECE)) == NULL)
        return SQLITE_NOMEM;
    int rc = below->xOpen(below, path, f->real, flags, out_flags);
    if (f->real->pMethods == NULL) { /* SQLite will not close it */
        free(f->kept);
        f->kept = NULL;
        return rc;
    }
    f->base.pMethods = &methods;
    if ((flags & SQLITE_OPEN_WAL) != 0) {
        f->db = of(sqlite3_database_file_object(path));
        f->db->wal = f;
    }
    return rc;
}

const char *pieces_register(void)
{
    below = sqlite3_vfs_find(NULL);
    if (below == NULL)
        return NULL;
    vfs = *below; /* names, time, randomness and the like are its own */
    vfs.zName = "annotmix-pieces";
    vfs.pNext = NULL;
    vfs.szOsFile = (int)sizeof(struct file) + below->szOsFile;
    vfs.xOpen = pieces_open;
    return sqlite3_vfs_register(&vfs, 0) == SQLITE_OK ? vfs.zName : NULL;
}
