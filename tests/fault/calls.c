/* calls.c - the system's calls that the program makes itself (SQLite's go through shim_vfs.c): each fails when
 * control.h says so. The linker's --wrap puts these in front of libc's and zlib's (fault.mk has the same list).
 *
 * A failing call does nothing and leaves errno; which one, EIO or ENOSPC, is the test's choice. Calls that tell by
 * returning an error number return it. With the compiler's fortified variants a few reads escape; the build that counts
 * coverage has none of them.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <zlib.h>

#include "control.h"

static int refused(void)
{
    struct fault_control *c = fault_control();

    if (c == NULL || __atomic_load_n(&c->call_first, __ATOMIC_RELAXED) == 0)
        return 0;
    int64_t n = __atomic_add_fetch(&c->calls_made, 1, __ATOMIC_RELAXED);
    if (n < c->call_first || (c->call_times > 0 && n >= c->call_first + c->call_times))
        return 0;
    (void)__atomic_add_fetch(&c->call_fired, 1, __ATOMIC_RELAXED);
    errno = (int)c->call_code;
    return 1;
}

/* WRAP(type of result, its value when it fails, name, parameters, arguments) */
#define WRAP(type, wrong, name, parameters, arguments)   \
    type __real_##name parameters;                       \
    type __wrap_##name parameters;                       \
    type __wrap_##name parameters                        \
    {                                                    \
        return refused() ? (wrong) : __real_##name arguments; \
    }

WRAP(FILE *, NULL, fopen, (const char *path, const char *mode), (path, mode))
WRAP(FILE *, NULL, fdopen, (int fd, const char *mode), (fd, mode))
/* ferror() must tell of it afterwards; glibc's name for its own mark. */
static void note(FILE *f)
{
    f->_flags |= _IO_ERR_SEEN;
}

WRAP(size_t, (note(f), (size_t)0), fwrite, (const void *from, size_t size, size_t n, FILE *f), (from, size, n, f))
WRAP(int, (note(f), EOF), fflush, (FILE * f), (f))
WRAP(ssize_t, -1, read, (int fd, void *to, size_t n), (fd, to, n))
WRAP(ssize_t, -1, write, (int fd, const void *from, size_t n), (fd, from, n))
WRAP(int, -1, fsync, (int fd), (fd))
WRAP(int, -1, stat, (const char *path, struct stat *out), (path, out))
WRAP(int, -1, lstat, (const char *path, struct stat *out), (path, out))
WRAP(int, -1, fstat, (int fd, struct stat *out), (fd, out))
WRAP(int, -1, statfs, (const char *path, struct statfs *out), (path, out))
WRAP(int, -1, statvfs, (const char *path, struct statvfs *out), (path, out))
WRAP(int, -1, mkdir, (const char *path, mode_t mode), (path, mode))
WRAP(int, -1, access, (const char *path, int mode), (path, mode))
WRAP(int, -1, flock, (int fd, int operation), (fd, operation))
WRAP(DIR *, NULL, opendir, (const char *path), (path))
WRAP(char *, NULL, realpath, (const char *path, char *out), (path, out))
WRAP(int, -1, socket, (int domain, int type, int protocol), (domain, type, protocol))
WRAP(int, -1, bind, (int fd, const struct sockaddr *address, socklen_t n), (fd, address, n))
WRAP(int, -1, listen, (int fd, int backlog), (fd, backlog))
WRAP(gzFile, NULL, gzopen, (const char *path, const char *mode), (path, mode))
WRAP(gzFile, NULL, gzdopen, (int fd, const char *mode), (fd, mode))
WRAP(int, -1, gzread, (gzFile f, void *to, unsigned n), (f, to, n))
WRAP(int, EAGAIN, pthread_create,
     (pthread_t * out, const pthread_attr_t *attributes, void *(*run)(void *), void *argument),
     (out, attributes, run, argument))

/* These do their work even when they say that it failed: a file is closed for good, and so is what is in it lost. */
int __real_fclose(FILE *f);
int __wrap_fclose(FILE *f);

int __wrap_fclose(FILE *f)
{
    int fails = refused(), code = errno, result = __real_fclose(f);

    if (fails)
        errno = code;
    return fails ? EOF : result;
}

int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);

int __wrap_open(const char *path, int flags, ...)
{
    va_list rest;

    va_start(rest, flags);
    mode_t mode = (flags & O_CREAT) != 0 ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    return refused() ? -1 : __real_open(path, flags, mode);
}
