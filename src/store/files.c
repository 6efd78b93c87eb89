/* files.c - everything the store does with files itself, without SQLite: paths, the lock, the file system it lies on.
 *
 * The lock is flock on a file beside the database, because SQLite's own locks (fcntl on the database) are dropped when
 * any descriptor of the file is closed in the process, and because the lock must be held from before the first look at
 * the database. The lock file stays when the server ends: deleting it would let two servers hold "the" lock.
 *
 * WAL mode needs memory shared between processes of one kernel and locks that work; on network and shared file systems
 * databases have been seen corrupt within a minute. Those are refused by their magic number; FUSE hides many systems
 * behind one number, so there the type is read from /proc/self/mountinfo.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "store/store_int.h"
#include "util/error.h"

/* File system magic numbers, linux/magic.h and fs headers. */
#define MAGIC_NFS  0x6969u
#define MAGIC_SMB  0x517Bu
#define MAGIC_CIFS 0xFF534D42u
#define MAGIC_SMB2 0xFE534D42u
#define MAGIC_9P   0x01021997u
#define MAGIC_CEPH 0x00C36400u
#define MAGIC_AFS  0x5346414Fu
#define MAGIC_FUSE 0x65735546u

/* Folder of a path: "." when it has none. */
static char *folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');

    if (slash == NULL)
        return strdup(".");
    return strndup(path, slash == path ? 1 : (size_t)(slash - path));
}

enum amx_status files_resolve(const char *path, char **out, struct amx_error *err)
{
    const char *slash = strrchr(path, '/');
    const char *name = slash != NULL ? slash + 1 : path;
    struct buf text = BUF_INIT(PATH_MAX);
    char *folder = NULL, *real = NULL;
    enum amx_status status = AMX_OK;

    if (*name == '\0' || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return error_set(err, AMX_IO, "%s is not the name of a file", path);
    folder = folder_of(path);
    if (folder == NULL) {
        status = error_set(err, AMX_NO_MEMORY, "no memory for a path");
        goto done;
    }
    real = realpath(folder, NULL);
    if (real == NULL) {
        status = error_set(err, errno == ENOMEM ? AMX_NO_MEMORY : AMX_IO, "the folder of %s: %s", path, strerror(errno));
        goto done;
    }
    (void)buf_text(&text, strcmp(real, "/") == 0 ? "" : real); /* sticky */
    (void)buf_char(&text, '/');
    if (buf_text(&text, name) != AMX_OK) {
        status = error_set(err, text.status, "the path %s is too long", path);
        goto done;
    }
    *out = buf_take(&text, NULL);
    if (*out == NULL)
        status = error_set(err, AMX_NO_MEMORY, "no memory for a path");
done:
    buf_done(&text);
    free(real);
    free(folder);
    return status;
}

/* The type in the last line of mountinfo that mounts this device; "" when it cannot be told. */
static void mount_type(dev_t device, char *out, size_t n)
{
    char *line = NULL;
    size_t size = 0;
    FILE *f = fopen("/proc/self/mountinfo", "re");

    out[0] = '\0';
    if (f == NULL)
        return;
    while (getline(&line, &size, f) > 0) {
        /* "36 35 98:0 /root /mount options optional... - type source super-options" */
        char *number = strchr(line, ' '), *dash = strstr(line, " - "), *end;
        if (number == NULL || dash == NULL || (number = strchr(number + 1, ' ')) == NULL)
            continue;
        unsigned long major_id = strtoul(number + 1, &end, 10);
        unsigned long minor_id = *end == ':' ? strtoul(end + 1, &end, 10) : 0;
        if (major_id != major(device) || minor_id != minor(device))
            continue;
        dash += 3;
        (void)snprintf(out, n, "%.*s", (int)strcspn(dash, " \n"),
                       dash); /* cut when longer: no such type is of interest */
    }
    free(line);
    (void)fclose(f); /* only read */
}

static const char *refused_system(const struct statfs *fs, dev_t device, char *type, size_t n)
{
    switch ((unsigned)fs->f_type) {
    case MAGIC_NFS:
        return "NFS";
    case MAGIC_SMB:
    case MAGIC_CIFS:
    case MAGIC_SMB2:
        return "SMB";
    case MAGIC_9P:
        return "9p";
    case MAGIC_CEPH:
        return "Ceph";
    case MAGIC_AFS:
        return "AFS";
    case MAGIC_FUSE:
        mount_type(device, type, n);
        if (strcmp(type, "virtiofs") == 0 || strcmp(type, "fuse.sshfs") == 0 || strcmp(type, "fuse.grpcfuse") == 0 ||
            strcmp(type, "fuse.glusterfs") == 0 || strcmp(type, "fuse.s3fs") == 0 || strcmp(type, "fuse.rclone") == 0)
            return type;
        return NULL;
    default:
        return NULL;
    }
}

enum amx_status files_check_system(const char *path, struct amx_error *err)
{
    struct statfs fs;
    struct stat info;
    char type[40];
    char *folder = folder_of(path);

    if (folder == NULL)
        return error_set(err, AMX_NO_MEMORY, "no memory for a path");
    if (statfs(folder, &fs) != 0 || stat(folder, &info) != 0) {
        int code = errno;
        free(folder);
        return error_set(err, AMX_IO, "the folder of %s: %s", path, strerror(code));
    }
    free(folder);
    const char *name = refused_system(&fs, info.st_dev, type, sizeof(type));
    if (name != NULL)
        return error_set(err, AMX_IO,
                         "%s lies on %s, where SQLite databases get corrupt; use a local disk or a named volume", path,
                         name);
    return AMX_OK;
}

enum amx_status files_lock(const char *path, int *fd, struct amx_error *err)
{
    struct buf name = BUF_INIT(PATH_MAX);
    enum amx_status status = AMX_OK;

    (void)buf_text(&name, path); /* sticky */
    if (buf_text(&name, ".lock") != AMX_OK) {
        status = error_set(err, name.status, "the path %s is too long", path);
        buf_done(&name);
        return status;
    }
    int lock = open(buf_string(&name), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (lock < 0) {
        status = error_set(err, AMX_IO, "cannot open %s: %s", buf_string(&name), strerror(errno));
    } else if (flock(lock, LOCK_EX | LOCK_NB) != 0) {
        int code = errno;
        (void)close(lock); /* nothing was written */
        if (code == EWOULDBLOCK)
            status = error_set(err, AMX_BUSY, "another annotmixd serves %s", path);
        else
            status = error_set(err, AMX_IO, "cannot lock %s: %s", buf_string(&name), strerror(code));
    } else {
        *fd = lock;
    }
    buf_done(&name);
    return status;
}

enum amx_status files_create(const char *path, bool *created, struct amx_error *err)
{
    struct stat info;
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);

    *created = fd >= 0;
    if (fd < 0 && errno != EEXIST)
        return error_set(err, AMX_IO, "cannot create %s: %s", path, strerror(errno));
    if (fd >= 0) {
        (void)close(fd); /* nothing was written */
        return files_sync_folder(path, err);
    }
    if (lstat(path, &info) != 0)
        return error_set(err, AMX_IO, "%s: %s", path, strerror(errno));
    if (!S_ISREG(info.st_mode))
        return error_set(err, AMX_IO, "%s is not a regular file", path);
    if (access(path, R_OK | W_OK) != 0)
        return error_set(err, AMX_IO, "%s: %s", path, strerror(errno));
    return AMX_OK;
}

enum amx_status files_check_header(const char *path, struct amx_error *err)
{
    /* SQLite file format: 16 bytes of magic; application_id is big-endian at offset 68. */
    unsigned char head[72];
    int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

    if (fd < 0)
        return error_set(err, errno == ENOENT ? AMX_NOT_FOUND : AMX_IO, "%s: %s", path, strerror(errno));
    ssize_t n = read(fd, head, sizeof(head));
    int code = errno;
    (void)close(fd); /* only read */
    if (n < 0)
        return error_set(err, AMX_IO, "%s: %s", path, strerror(code));
    if (n == 0)
        return AMX_OK;
    if (n < (ssize_t)sizeof(head) || memcmp(head, "SQLite format 3", 16) != 0)
        return error_set(err, AMX_CORRUPT, "%s is not a database", path);
    uint32_t id = (uint32_t)head[68] << 24 | (uint32_t)head[69] << 16 | (uint32_t)head[70] << 8 | (uint32_t)head[71];
    /* 0: ours too, when the first migration still stands in the WAL; schema_check looks closer. */
    if (id != 0 && id != SCHEMA_APPLICATION_ID)
        return error_set(err, AMX_CORRUPT, "%s is a database of another program", path);
    return AMX_OK;
}

static enum amx_status sync_path(const char *path, int flags, struct amx_error *err)
{
    int fd = open(path, flags | O_CLOEXEC);

    if (fd < 0)
        return error_set(err, AMX_IO, "%s: %s", path, strerror(errno));
    int rc = fsync(fd);
    int code = errno;
    (void)close(fd); /* fsync told what there was to tell */
    return rc == 0 ? AMX_OK : error_set(err, AMX_IO, "cannot sync %s: %s", path, strerror(code));
}

enum amx_status files_sync(const char *path, struct amx_error *err)
{
    return sync_path(path, O_RDWR | O_NOFOLLOW, err);
}

enum amx_status files_sync_folder(const char *path, struct amx_error *err)
{
    char *folder = folder_of(path);
    enum amx_status status;

    if (folder == NULL)
        return error_set(err, AMX_NO_MEMORY, "no memory for a path");
    status = sync_path(folder, O_RDONLY | O_DIRECTORY, err);
    free(folder);
    return status;
}
