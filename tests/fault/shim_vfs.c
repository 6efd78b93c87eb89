/* shim_vfs.c - a VFS over "unix" that fails when it is told to, and that can cut the power.
 *
 * Errors: the k-th read, write, sync, truncation, open or mapping of shared memory returns what SQLite's own VFS returns
 * for EIO or ENOSPC (fault_hits of control.h decides).
 *
 * Power cut: for every database, WAL and journal the shim keeps a shadow: the bytes that a sync has made durable, and
 * the writes and truncations since. At the cut the new content of each file is the durable bytes plus a random subset
 * of what came after, in units of 512 bytes; names that were made or removed since the last sync may or may not be
 * there. These images are written beside the files (FILE.cut; FILE.gone when there is none) and the process ends at
 * once with status 99. The test moves them into place and starts the program again.
 *
 * SQLite calls a VFS from several threads; one lock guards the shadows, and the cut happens under it, so nothing reaches
 * the "disk" after it.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "control.h"

enum {
    SECTOR = 512,
    CUT_STATUS = 99,
    SHADOWS = 16
};

struct change {
    int64_t at; /* -1: truncated to n */
    size_t n;
    char *bytes;
};

struct shadow {
    char *path; /* NULL: free */
    char *durable;
    size_t n, capacity;
    struct change *changes;
    size_t n_changes, max_changes;
    bool there, there_durably; /* the name */
};

struct shim_file {
    sqlite3_file base;
    struct shadow *shadow; /* NULL: not tracked */
    sqlite3_file *real;    /* follows this struct */
};

static sqlite3_vfs shim, *unix_vfs;
static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;
static struct shadow shadows[SHADOWS];

static _Noreturn void die(const char *what)
{
    (void)fprintf(stderr, "shim_vfs: %s: %s\n", what, strerror(errno));
    _exit(98);
}

static void *grow(void *old, size_t n)
{
    void *bytes = realloc(old, n > 0 ? n : 1);

    if (bytes == NULL)
        die("memory");
    return bytes;
}

/* ---- shadows ---- */

static void put(struct shadow *s, size_t at, const char *bytes, size_t n)
{
    if (at + n > s->capacity) {
        s->capacity = (at + n) * 2;
        s->durable = grow(s->durable, s->capacity);
    }
    if (at > s->n)
        memset(s->durable + s->n, 0, at - s->n);
    memcpy(s->durable + at, bytes, n);
    if (at + n > s->n)
        s->n = at + n;
}

static void cut_to(struct shadow *s, size_t n)
{
    if (n > s->n)
        put(s, n, "", 0);
    s->n = n;
}

static void forget_changes(struct shadow *s)
{
    for (size_t i = 0; i < s->n_changes; i++)
        free(s->changes[i].bytes);
    s->n_changes = 0;
}

static void remember(struct shadow *s, int64_t at, const void *bytes, size_t n)
{
    if (s->n_changes == s->max_changes) {
        s->max_changes = s->max_changes * 2 + 64;
        s->changes = grow(s->changes, s->max_changes * sizeof *s->changes);
    }
    struct change *change = &s->changes[s->n_changes++];
    *change = (struct change){.at = at, .n = n};
    if (at >= 0) {
        change->bytes = grow(NULL, n);
        memcpy(change->bytes, bytes, n);
    }
}

static void make_durable(struct shadow *s)
{
    for (size_t i = 0; i < s->n_changes; i++) {
        const struct change *change = &s->changes[i];
        if (change->at < 0)
            cut_to(s, change->n);
        else
            put(s, (size_t)change->at, change->bytes, change->n);
    }
    forget_changes(s);
}

/* All files lie in one folder. */
static void make_names_durable(void)
{
    for (int i = 0; i < SHADOWS; i++)
        shadows[i].there_durably = shadows[i].there;
}

static void read_whole(struct shadow *s)
{
    struct stat info;
    int fd = open(s->path, O_RDONLY | O_CLOEXEC);

    s->there = fd >= 0;
    s->there_durably = s->there;
    if (fd < 0)
        return;
    if (fstat(fd, &info) != 0)
        die(s->path);
    s->capacity = (size_t)info.st_size + 1;
    s->durable = grow(s->durable, s->capacity);
    for (ssize_t n; (n = pread(fd, s->durable + s->n, s->capacity - s->n, (off_t)s->n)) > 0;)
        s->n += (size_t)n;
    (void)close(fd);
}

/* Of a path; called before the file is opened, so that what is on the disk now counts as durable. */
static struct shadow *shadow_of(const char *path, bool add)
{
    struct shadow *free_one = NULL;

    for (int i = 0; i < SHADOWS; i++) {
        if (shadows[i].path == NULL)
            free_one = free_one == NULL ? &shadows[i] : free_one;
        else if (strcmp(shadows[i].path, path) == 0)
            return &shadows[i];
    }
    if (!add)
        return NULL;
    if (free_one == NULL || (free_one->path = strdup(path)) == NULL)
        die("too many files");
    read_whole(free_one);
    return free_one;
}

/* ---- the cut ---- */

static uint64_t next_random(uint64_t *state)
{
    uint64_t z = (*state += UINT64_C(0x9E3779B97F4A7C15));

    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

static bool chance(uint64_t *state, unsigned percent)
{
    return next_random(state) % 100 < percent;
}

static void write_image(const struct shadow *s, bool there)
{
    char path[4096];

    (void)snprintf(path, sizeof path, "%s.%s", s->path, there ? "cut" : "gone");
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        die(path);
    for (size_t done = 0; there && done < s->n;) {
        ssize_t n = pwrite(fd, s->durable + done, s->n - done, (off_t)done);
        if (n <= 0)
            die(path);
        done += (size_t)n;
    }
    (void)close(fd);
}

static _Noreturn void cut_power(const struct fault_control *control)
{
    static const unsigned shares[] = {0, 10, 50, 90, 100};
    uint64_t state = (uint64_t)control->cut_seed;

    for (int i = 0; i < SHADOWS; i++) {
        struct shadow *s = &shadows[i];
        unsigned percent = shares[next_random(&state) % 5];
        if (s->path == NULL)
            continue;
        for (size_t c = 0; c < s->n_changes; c++) {
            const struct change *change = &s->changes[c];
            if (change->at < 0) {
                if (chance(&state, percent))
                    cut_to(s, change->n);
                continue;
            }
            for (size_t from = 0; from < change->n;) {
                size_t at = (size_t)change->at + from, to = from + SECTOR - at % SECTOR;
                to = to < change->n ? to : change->n;
                if (chance(&state, percent))
                    put(s, at, change->bytes + from, to - from);
                from = to;
            }
        }
        write_image(s, s->there == s->there_durably ? s->there : chance(&state, 50));
    }
    _exit(CUT_STATUS);
}

/* Counts one change of the disk, made or about to be made; with the lock held. */
static void tick(void)
{
    struct fault_control *control = fault_control();

    if (control == NULL)
        return;
    int64_t now = __atomic_add_fetch(&control->ops, 1, __ATOMIC_RELAXED);
    int64_t at = __atomic_load_n(&control->cut_at, __ATOMIC_RELAXED);
    if (control->track && at > 0 && now >= at)
        cut_power(control);
}

/* ---- methods of a file ---- */

static struct shim_file *of(sqlite3_file *file)
{
    return (struct shim_file *)(void *)file;
}

static bool no_space(void)
{
    return fault_control()->code == ENOSPC;
}

static int shim_close(sqlite3_file *file)
{
    return of(file)->real->pMethods->xClose(of(file)->real);
}

static int shim_read(sqlite3_file *file, void *out, int n, sqlite3_int64 at)
{
    if (fault_hits(FAULT_READ))
        return SQLITE_IOERR_READ;
    return of(file)->real->pMethods->xRead(of(file)->real, out, n, at);
}

static int shim_write(sqlite3_file *file, const void *bytes, int n, sqlite3_int64 at)
{
    struct shim_file *f = of(file);

    if (fault_hits(FAULT_WRITE))
        return no_space() ? SQLITE_FULL : SQLITE_IOERR_WRITE;
    if (fault_hits(FAULT_SHORT)) {
        (void)f->real->pMethods->xWrite(f->real, bytes, n / 2, at); /* fails either way */
        return no_space() ? SQLITE_FULL : SQLITE_IOERR_WRITE;
    }
    if (f->shadow == NULL)
        return f->real->pMethods->xWrite(f->real, bytes, n, at);
    (void)pthread_mutex_lock(&mu);
    remember(f->shadow, at, bytes, (size_t)n);
    tick();
    int rc = f->real->pMethods->xWrite(f->real, bytes, n, at);
    (void)pthread_mutex_unlock(&mu);
    return rc;
}

static int shim_truncate(sqlite3_file *file, sqlite3_int64 n)
{
    struct shim_file *f = of(file);

    if (fault_hits(FAULT_TRUNCATE))
        return SQLITE_IOERR_TRUNCATE;
    if (f->shadow == NULL)
        return f->real->pMethods->xTruncate(f->real, n);
    (void)pthread_mutex_lock(&mu);
    remember(f->shadow, -1, NULL, (size_t)n);
    tick();
    int rc = f->real->pMethods->xTruncate(f->real, n);
    (void)pthread_mutex_unlock(&mu);
    return rc;
}

/* The real disk is not synced: the shadow is what counts, and a thousand cuts are done sooner. */
static int shim_sync(sqlite3_file *file, int flags)
{
    struct shim_file *f = of(file);

    if (fault_hits(FAULT_SYNC))
        return SQLITE_IOERR_FSYNC;
    if (f->shadow == NULL)
        return f->real->pMethods->xSync(f->real, flags);
    (void)pthread_mutex_lock(&mu);
    tick();
    make_durable(f->shadow);
    if (!f->shadow->there_durably)
        make_names_durable(); /* "unix" syncs the folder with the first sync of a new journal or WAL */
    (void)pthread_mutex_unlock(&mu);
    return SQLITE_OK;
}

static int shim_file_size(sqlite3_file *file, sqlite3_int64 *out)
{
    return of(file)->real->pMethods->xFileSize(of(file)->real, out);
}

static int shim_lock(sqlite3_file *file, int level)
{
    return of(file)->real->pMethods->xLock(of(file)->real, level);
}

static int shim_unlock(sqlite3_file *file, int level)
{
    return of(file)->real->pMethods->xUnlock(of(file)->real, level);
}

static int shim_check_reserved(sqlite3_file *file, int *out)
{
    return of(file)->real->pMethods->xCheckReservedLock(of(file)->real, out);
}

/* A size hint would write behind the shadow's back. */
static int shim_file_control(sqlite3_file *file, int op, void *argument)
{
    if (op == SQLITE_FCNTL_SIZE_HINT || op == SQLITE_FCNTL_CHUNK_SIZE)
        return SQLITE_OK;
    return of(file)->real->pMethods->xFileControl(of(file)->real, op, argument);
}

static int shim_sector_size(sqlite3_file *file)
{
    return of(file)->real->pMethods->xSectorSize(of(file)->real);
}

static int shim_characteristics(sqlite3_file *file)
{
    return of(file)->real->pMethods->xDeviceCharacteristics(of(file)->real);
}

static int shim_shm_map(sqlite3_file *file, int page, int size, int extend, void volatile **out)
{
    if (fault_hits(FAULT_SHM_MAP))
        return no_space() ? SQLITE_IOERR_SHMSIZE : SQLITE_IOERR_SHMMAP;
    return of(file)->real->pMethods->xShmMap(of(file)->real, page, size, extend, out);
}

static int shim_shm_lock(sqlite3_file *file, int offset, int n, int flags)
{
    return of(file)->real->pMethods->xShmLock(of(file)->real, offset, n, flags);
}

static void shim_shm_barrier(sqlite3_file *file)
{
    of(file)->real->pMethods->xShmBarrier(of(file)->real);
}

static int shim_shm_unmap(sqlite3_file *file, int delete_it)
{
    return of(file)->real->pMethods->xShmUnmap(of(file)->real, delete_it);
}

static const sqlite3_io_methods methods = {
    .iVersion = 2, /* without xFetch: no page is read past the shim */
    .xClose = shim_close,
    .xRead = shim_read,
    .xWrite = shim_write,
    .xTruncate = shim_truncate,
    .xSync = shim_sync,
    .xFileSize = shim_file_size,
    .xLock = shim_lock,
    .xUnlock = shim_unlock,
    .xCheckReservedLock = shim_check_reserved,
    .xFileControl = shim_file_control,
    .xSectorSize = shim_sector_size,
    .xDeviceCharacteristics = shim_characteristics,
    .xShmMap = shim_shm_map,
    .xShmLock = shim_shm_lock,
    .xShmBarrier = shim_shm_barrier,
    .xShmUnmap = shim_shm_unmap,
};

/* ---- methods of the VFS ---- */

static int shim_open(sqlite3_vfs *vfs, const char *path, sqlite3_file *file, int flags, int *out_flags)
{
    struct shim_file *f = of(file);
    const struct fault_control *control = fault_control();

    (void)vfs;
    memset(f, 0, sizeof *f);
    if (fault_hits(FAULT_OPEN))
        return SQLITE_CANTOPEN;
    f->real = (sqlite3_file *)(void *)(f + 1);
    bool tracked = control != NULL && control->track && path != NULL &&
                   (flags & (SQLITE_OPEN_MAIN_DB | SQLITE_OPEN_WAL | SQLITE_OPEN_MAIN_JOURNAL)) != 0;
    (void)pthread_mutex_lock(&mu);
    struct shadow *shadow = tracked ? shadow_of(path, true) : NULL;
    int rc = unix_vfs->xOpen(unix_vfs, path, f->real, flags, out_flags);
    if (rc == SQLITE_OK && shadow != NULL && !shadow->there) {
        forget_changes(shadow); /* a new file */
        cut_to(shadow, 0);
        shadow->there = true;
    }
    (void)pthread_mutex_unlock(&mu);
    f->shadow = shadow;
    if (f->real->pMethods != NULL)
        f->base.pMethods = &methods;
    return rc;
}

static int shim_delete(sqlite3_vfs *vfs, const char *path, int sync_folder)
{
    (void)vfs;
    (void)pthread_mutex_lock(&mu);
    struct shadow *shadow = shadow_of(path, false);
    if (shadow != NULL) {
        shadow->there = false;
        tick();
        if (sync_folder)
            make_names_durable();
    }
    int rc = unix_vfs->xDelete(unix_vfs, path, sync_folder);
    (void)pthread_mutex_unlock(&mu);
    return rc;
}

static int shim_access(sqlite3_vfs *vfs, const char *path, int flags, int *out)
{
    (void)vfs;
    return unix_vfs->xAccess(unix_vfs, path, flags, out);
}

static int shim_full_path(sqlite3_vfs *vfs, const char *path, int n, char *out)
{
    (void)vfs;
    return unix_vfs->xFullPathname(unix_vfs, path, n, out);
}

void shim_vfs_install(void)
{
    unix_vfs = sqlite3_vfs_find("unix");
    if (unix_vfs == NULL)
        die("no VFS called unix");
    shim = *unix_vfs; /* time, randomness, sleep and the like are the real one's */
    shim.zName = "shim";
    shim.pNext = NULL;
    shim.szOsFile = (int)sizeof(struct shim_file) + unix_vfs->szOsFile;
    shim.xOpen = shim_open;
    shim.xDelete = shim_delete;
    shim.xAccess = shim_access;
    shim.xFullPathname = shim_full_path;
    if (sqlite3_vfs_register(&shim, 1) != SQLITE_OK)
        die("cannot register");
}
