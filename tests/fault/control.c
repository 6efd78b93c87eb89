/* control.c - maps the page of control.h before main, counts calls, and holds the mutants: mistakes built in on purpose,
 * which the tests must notice. The linker's --wrap puts the mutants in front of the store's own functions. */
#include "control.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "endpoints/problem.h"
#include "store/db.h"

static struct fault_control *control;

struct fault_control *fault_control(void)
{
    return control;
}

void fault_control_use(struct fault_control *page)
{
    control = page;
}

__attribute__((constructor)) static void map_control(void)
{
    const char *path = getenv("ANNOTMIX_FAULT");

    if (path == NULL)
        return;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    void *page = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (page == MAP_FAILED) {
        perror(path);
        _exit(98);
    }
    (void)close(fd); /* the mapping stays */
    shim_vfs_install();
    control = page;
}

/* What runs at the end, a sanitizer or the counters of coverage, is not to be broken. */
__attribute__((destructor)) static void disarm(void)
{
    if (control == NULL)
        return;
    control->alloc_first = 0;
    control->call_first = 0;
}

int fault_hits(enum fault_kind kind)
{
    if (control == NULL || __atomic_load_n(&control->kind, __ATOMIC_ACQUIRE) != (int64_t)kind)
        return 0;
    int64_t call = __atomic_add_fetch(&control->calls, 1, __ATOMIC_RELAXED);
    if (call < control->first || (control->times > 0 && call >= control->first + control->times))
        return 0;
    (void)__atomic_add_fetch(&control->fired, 1, __ATOMIC_RELAXED);
    return 1;
}

/* ---- the clock ---- */

int __real_clock_gettime(clockid_t clock, struct timespec *out);
int __wrap_clock_gettime(clockid_t clock, struct timespec *out);

int __wrap_clock_gettime(clockid_t clock, struct timespec *out)
{
    int status = __real_clock_gettime(clock, out);
    int64_t shift = control != NULL ? __atomic_load_n(&control->wall_shift_ms, __ATOMIC_RELAXED) : 0;

    if (status == 0 && clock == CLOCK_REALTIME)
        out->tv_sec += (time_t)(shift / 1000);
    return status;
}

/* ---- rare calls made often ---- */

struct store;
int64_t __real_db_wal_used(const struct db *db);
int64_t __wrap_db_wal_used(const struct db *db);
enum amx_status __real_store_reader_get(struct store *store, struct db **out, struct amx_error *err);
enum amx_status __wrap_store_reader_get(struct store *store, struct db **out, struct amx_error *err);
void __real_store_reader_put(struct store *store, struct db *db);
void __wrap_store_reader_put(struct store *store, struct db *db);

static char served[4096]; /* what the writer has opened, before any reader is asked for */

/* Longer at every look by more than the writer puts up with. */
int64_t __wrap_db_wal_used(const struct db *db)
{
    static _Atomic int64_t looks;
    enum { STEP = 128 * 1024 * 1024 };

    return control != NULL && control->eager_checkpoints != 0 ? ++looks * STEP : __real_db_wal_used(db);
}

static bool is_fresh(void)
{
    return control != NULL && control->fresh_readers != 0 && served[0] != '\0';
}

enum amx_status __wrap_store_reader_get(struct store *store, struct db **out, struct amx_error *err)
{
    return is_fresh() ? db_open(served, DB_READER, false, out, err) : __real_store_reader_get(store, out, err);
}

void __wrap_store_reader_put(struct store *store, struct db *db)
{
    if (is_fresh())
        db_close(db);
    else
        __real_store_reader_put(store, db);
}

/* ---- mutants ---- */

enum amx_status __real_db_open(const char *path, enum db_role role, bool create, struct db **out, struct amx_error *err);
enum amx_status __wrap_db_open(const char *path, enum db_role role, bool create, struct db **out, struct amx_error *err);
enum amx_status __real_db_begin(struct db *db, struct amx_error *err);
enum amx_status __wrap_db_begin(struct db *db, struct amx_error *err);
enum amx_status __real_db_commit(struct db *db, struct amx_error *err);
enum amx_status __wrap_db_commit(struct db *db, struct amx_error *err);
enum amx_status __real_db_checkpoint(struct db *db, bool truncate, struct amx_error *err);
enum amx_status __wrap_db_checkpoint(struct db *db, bool truncate, struct amx_error *err);

static bool is_mutant(enum fault_mutant mutant)
{
    return control != NULL && control->mutant == (int64_t)mutant;
}

enum amx_status __wrap_db_open(const char *path, enum db_role role, bool create, struct db **out, struct amx_error *err)
{
    enum amx_status status = __real_db_open(path, role, create, out, err);

    if (role == DB_WRITER)
        (void)snprintf(served, sizeof served, "%s", path);
    if (status == AMX_OK && role == DB_WRITER && is_mutant(MUTANT_NO_SYNC))
        status = db_exec(*out, "PRAGMA synchronous = OFF", err);
    return status;
}

/* Says yes at once and commits when the next transaction begins, as slowly as a disk is. One writer, so one flag. */
static bool owed;
enum { SLOW_DISK_US = 5000 };

static enum amx_status pay(struct db *db, struct amx_error *err)
{
    bool was_owed = owed;

    owed = false;
    if (was_owed)
        (void)usleep(SLOW_DISK_US);
    return was_owed ? __real_db_commit(db, err) : AMX_OK;
}

enum amx_status __wrap_db_commit(struct db *db, struct amx_error *err)
{
    if (!is_mutant(MUTANT_EARLY_ANSWER))
        return __real_db_commit(db, err);
    owed = true;
    return AMX_OK;
}

enum amx_status __wrap_db_begin(struct db *db, struct amx_error *err)
{
    enum amx_status status = pay(db, err);

    return status == AMX_OK ? __real_db_begin(db, err) : status;
}

enum amx_status __wrap_db_checkpoint(struct db *db, bool truncate, struct amx_error *err)
{
    enum amx_status status = pay(db, err);

    return status == AMX_OK ? __real_db_checkpoint(db, truncate, err) : status;
}

void __real_problem_reply_as(struct http_request *rq, enum problem problem, const char *format, ...);
void __wrap_problem_reply_as(struct http_request *rq, enum problem problem, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

void __wrap_problem_reply_as(struct http_request *rq, enum problem problem, const char *format, ...)
{
    char text[512];
    va_list arguments;

    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    __real_problem_reply_as(rq, problem, "%s", text);
    if (problem == PROBLEM_NO_MEMORY && is_mutant(MUTANT_FREED_REQUEST))
        free(rq);
}
