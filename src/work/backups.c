/* backups.c - the thread that makes the server's own copies of the database.
 *
 * What can go wrong is told: an error line, a counter and a gauge, and the next try comes within a minute. A copy that
 * does not fit beside the database is not begun, because a disk that the copy filled would stop the writes. The thread
 * runs at a low priority; the copy itself reads one snapshot and holds no lock that a writer waits for.
 *
 * Only files whose names this file made are ever deleted, the newest `keep` of them and the one just made excepted.
 */
#include "work/backups.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "store/store.h"
#include "util/buf.h"
#include "util/clock.h"
#include "util/error.h"
#include "util/log.h"

enum {
    RETRY_SECONDS = 60,
    NICE = 10,
    STOP_POLL_MS = 20,
    NUMBER_DIGITS = 6,
    MINUTE_MS = 60000
};
/* Left free on the disk of the database by a copy that goes to the same disk: more than what makes writes stop. */
#define LEFT_FREE (INT64_C(512) << 20)
#define NUMBER_MAX UINT64_C(1000000000000)

struct backups {
    struct backups_config config;
    char *prefix; /* "annotmix-": of the copies' names */
    pthread_t thread;
    pthread_mutex_t mu;
    pthread_cond_t changed; /* monotonic clock */
    /* guarded by mu */
    bool stopping, ended;
    struct backups_stats stats;
};

/* ---- names ---- */

/* "PREFIX000001-20261124T122655Z.db" and nothing else; the number. ".db.tmp" too when temporary. */
static bool parse_name(const struct backups *b, const char *name, bool temporary, uint64_t *number)
{
    static const char shape[] = "-00000000T000000Z.db";
    size_t n = strlen(b->prefix), digits = 0;

    if (strncmp(name, b->prefix, n) != 0)
        return false;
    name += n;
    *number = 0;
    for (; name[digits] >= '0' && name[digits] <= '9' && digits < 12; digits++)
        *number = *number * 10 + (uint64_t)(name[digits] - '0');
    if (digits < NUMBER_DIGITS)
        return false;
    name += digits;
    for (size_t i = 0; i < sizeof shape - 1; i++) {
        bool fits = shape[i] == '0' ? name[i] >= '0' && name[i] <= '9' : name[i] == shape[i];
        if (!fits)
            return false;
    }
    return strcmp(name + sizeof shape - 1, temporary ? ".tmp" : "") == 0;
}

static bool make_path(const struct backups *b, const char *name, struct buf *out)
{
    (void)buf_text(out, b->config.folder); /* sticky */
    (void)buf_char(out, '/');
    return buf_text(out, name) == AMX_OK;
}

/* Deletes a file of ours; a failure is told, and tried again after the next copy. */
static void delete_file(const struct backups *b, const char *name)
{
    AUTO(buf) path = BUF_INIT(4096);

    if (!make_path(b, name, &path))
        return;
    if (unlink(buf_string(&path)) != 0)
        log_warn("an old backup cannot be deleted", LOG_TEXT("file", name), LOG_TEXT("why", strerror(errno)));
}

struct inventory {
    uint64_t *numbers; /* ascending after look(); free() */
    size_t n, room;
    int64_t newest_ms, newest_bytes; /* of the one with the highest number; 0 when there is none */
};

static bool remember(struct inventory *in, uint64_t number)
{
    if (in->n == in->room) {
        size_t room = in->room == 0 ? 64 : in->room * 2;
        uint64_t *more = reallocarray(in->numbers, room, sizeof *more);
        if (more == NULL)
            return false;
        in->numbers = more;
        in->room = room;
    }
    in->numbers[in->n++] = number;
    return true;
}

static int ascending(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void note_newest(const struct backups *b, const char *name, struct inventory *in)
{
    AUTO(buf) path = BUF_INIT(4096);
    struct stat info;

    if (!make_path(b, name, &path) || stat(buf_string(&path), &info) != 0)
        return;
    in->newest_ms = (int64_t)info.st_mtim.tv_sec * 1000 + info.st_mtim.tv_nsec / 1000000;
    in->newest_bytes = (int64_t)info.st_size;
}

/* What is in the folder. With `sweep`, copies that a killed process left unfinished are deleted on the way. */
static enum amx_status look(const struct backups *b, bool sweep, struct inventory *out, struct amx_error *err)
{
    DIR *dir = opendir(b->config.folder);
    struct inventory in = {0};
    uint64_t number, highest = 0;
    struct dirent *entry;

    if (dir == NULL)
        return error_set(err, AMX_IO, "the folder of backups %s: %s", b->config.folder, strerror(errno));
    while ((entry = readdir(dir)) != NULL) {
        if (parse_name(b, entry->d_name, false, &number)) {
            if (!remember(&in, number)) {
                (void)closedir(dir); /* only read */
                free(in.numbers);
                return error_set(err, AMX_NO_MEMORY, "no memory for the list of backups");
            }
            if (number >= highest) {
                highest = number;
                note_newest(b, entry->d_name, &in);
            }
        } else if (sweep && parse_name(b, entry->d_name, true, &number)) {
            delete_file(b, entry->d_name);
        }
    }
    (void)closedir(dir); /* only read */
    if (in.n > 1)
        qsort(in.numbers, in.n, sizeof *in.numbers, ascending);
    *out = in;
    return AMX_OK;
}

/* All but the newest `keep`. */
static enum amx_status prune(const struct backups *b, struct inventory *in, struct amx_error *err)
{
    struct dirent *entry;
    uint64_t number, least;
    DIR *dir;

    if (in->n <= b->config.keep)
        return AMX_OK;
    least = in->numbers[in->n - b->config.keep];
    dir = opendir(b->config.folder);
    if (dir == NULL)
        return error_set(err, AMX_IO, "the folder of backups %s: %s", b->config.folder, strerror(errno));
    while ((entry = readdir(dir)) != NULL) {
        if (parse_name(b, entry->d_name, false, &number) && number < least)
            delete_file(b, entry->d_name);
    }
    (void)closedir(dir); /* only read */
    free(in->numbers);
    *in = (struct inventory){0};
    return look(b, false, in, err);
}

/* ---- one copy ---- */

static enum amx_status check_room(const struct backups *b, struct amx_error *err)
{
    struct store_stats store;
    struct statvfs fs;
    struct stat there, here;
    int64_t need;

    store_get_stats(b->config.store, &store);
    if (statvfs(b->config.folder, &fs) != 0 || stat(b->config.folder, &there) != 0)
        return error_set(err, AMX_IO, "the folder of backups %s: %s", b->config.folder, strerror(errno));
    need = store.db_bytes + store.wal_bytes;
    if (stat(b->config.db_path, &here) == 0 && here.st_dev == there.st_dev)
        need += LEFT_FREE;
    int64_t available = (int64_t)fs.f_bavail * (int64_t)fs.f_frsize;
    if (available < need)
        return error_set(err, AMX_FULL, "%s has %" PRId64 " bytes free, a copy needs up to %" PRId64, b->config.folder,
                         available, need);
    return AMX_OK;
}

static bool make_name(const struct backups *b, uint64_t number, struct buf *out)
{
    char stamp[24];
    time_t now = (time_t)(clock_wall_ms() / 1000);
    struct tm utc;

    if (gmtime_r(&now, &utc) == NULL || strftime(stamp, sizeof stamp, "%Y%m%dT%H%M%SZ", &utc) != 16)
        memcpy(stamp, "00000101T000000Z", 17); /* a clock out of all bounds; the number tells them apart */
    return buf_printf(out, "%s%0*" PRIu64 "-%s.db", b->prefix, (int)NUMBER_DIGITS, number, stamp) == AMX_OK;
}

/* Makes one, prunes; on success the figures of the folder are in *in (numbers freed). */
static enum amx_status make_one(struct backups *b, struct buf *name, struct inventory *in, struct amx_error *err)
{
    AUTO(buf) path = BUF_INIT(4096);
    enum amx_status status = look(b, true, in, err);

    if (status == AMX_OK)
        status = check_room(b, err);
    if (status == AMX_OK) {
        uint64_t number = in->n > 0 ? in->numbers[in->n - 1] + 1 : 1;
        if (number >= NUMBER_MAX || !make_name(b, number, name) || !make_path(b, buf_string(name), &path))
            status = error_set(err, AMX_NO_MEMORY, "no name for a backup");
    }
    if (status == AMX_OK)
        status = store_backup(b->config.store, buf_string(&path), err);
    free(in->numbers);
    *in = (struct inventory){0};
    if (status == AMX_OK)
        status = look(b, false, in, err);
    if (status == AMX_OK)
        status = prune(b, in, err);
    return status;
}

static bool stopping(struct backups *b)
{
    (void)pthread_mutex_lock(&b->mu);
    bool is = b->stopping;
    (void)pthread_mutex_unlock(&b->mu);
    return is;
}

/* One attempt with its log line and figures; false: it failed. */
static bool attempt(struct backups *b)
{
    AUTO(buf) name = BUF_INIT(1024);
    struct inventory in = {0};
    struct amx_error err = {0};
    int64_t begin_ms = clock_monotonic_ms();
    enum amx_status status = make_one(b, &name, &in, &err);
    double seconds = (double)(clock_monotonic_ms() - begin_ms) / 1000.0;

    free(in.numbers);
    if (status != AMX_OK && stopping(b))
        return false; /* it was ended on purpose */
    (void)pthread_mutex_lock(&b->mu);
    b->stats.last_failed = status != AMX_OK;
    b->stats.failed += status != AMX_OK;
    if (status == AMX_OK) {
        b->stats.made++;
        b->stats.last_success_ms = clock_wall_ms();
        b->stats.last_seconds = seconds;
        b->stats.last_bytes = in.newest_bytes;
        b->stats.kept = in.n;
    }
    (void)pthread_mutex_unlock(&b->mu);
    if (status == AMX_OK)
        log_info("backup made", LOG_TEXT("file", buf_string(&name)), LOG_INT("bytes", in.newest_bytes),
                 LOG_REAL("seconds", seconds), LOG_INT("kept", in.n));
    else
        log_error("the backup failed", LOG_TEXT("why", err.text[0] != '\0' ? err.text : amx_status_text(status)),
                  LOG_REAL("seconds", seconds));
    return status == AMX_OK;
}

/* ---- the thread ---- */

/* Waits; false: stop. */
static bool wait_ms(struct backups *b, int64_t ms)
{
    int64_t end = clock_monotonic_ms() + ms, left = ms;

    (void)pthread_mutex_lock(&b->mu);
    while (!b->stopping && left > 0) {
        struct timespec until;
        (void)clock_gettime(CLOCK_MONOTONIC, &until); /* cannot fail on Linux */
        int64_t nap = left < MINUTE_MS ? left : MINUTE_MS;
        int64_t at = (int64_t)until.tv_sec * 1000 + until.tv_nsec / 1000000 + nap;
        until.tv_sec = (time_t)(at / 1000);
        until.tv_nsec = (long)(at % 1000) * 1000000;
        (void)pthread_cond_timedwait(&b->changed, &b->mu, &until); /* the loop looks again */
        left = end - clock_monotonic_ms();
    }
    bool go_on = !b->stopping;
    (void)pthread_mutex_unlock(&b->mu);
    return go_on;
}

static void *run(void *context)
{
    struct backups *b = context;
    int64_t every_ms = (int64_t)b->config.every_seconds * 1000;
    int64_t retry_ms = every_ms < RETRY_SECONDS * 1000 ? every_ms : RETRY_SECONDS * 1000;
    int64_t age_ms = clock_wall_ms() - b->stats.last_success_ms; /* nobody else writes it */
    int64_t next_ms = b->stats.last_success_ms == 0 || age_ms < 0 || age_ms >= every_ms ? 0 : every_ms - age_ms;

    (void)setpriority(PRIO_PROCESS, (id_t)gettid(), NICE); /* of this thread alone, on Linux; a refusal does not matter */
    while (wait_ms(b, next_ms)) {
        int64_t begin_ms = clock_monotonic_ms();
        int64_t pause = attempt(b) ? every_ms : retry_ms;
        /* From beginning to beginning, but never without a rest in between. */
        int64_t took = clock_monotonic_ms() - begin_ms;
        next_ms = pause - took > pause / 10 ? pause - took : pause / 10;
    }
    (void)pthread_mutex_lock(&b->mu);
    b->ended = true;
    (void)pthread_cond_broadcast(&b->changed);
    (void)pthread_mutex_unlock(&b->mu);
    return NULL;
}

/* "annotmix-" of "/data/annotmix.db". */
static char *prefix_of(const char *db_path)
{
    const char *slash = strrchr(db_path, '/'), *name = slash != NULL ? slash + 1 : db_path;
    size_t n = strlen(name);
    AUTO(buf) text = BUF_INIT(1024);

    if (n > 3 && strcmp(name + n - 3, ".db") == 0)
        n -= 3;
    (void)buf_printf(&text, "%.*s-", (int)n, name); /* sticky */
    return buf_take(&text, NULL);
}

static bool init_sync(struct backups *b)
{
    pthread_condattr_t attributes;

    if (pthread_condattr_init(&attributes) != 0)
        return false;
    bool ok = pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC) == 0 &&
              pthread_cond_init(&b->changed, &attributes) == 0;
    (void)pthread_condattr_destroy(&attributes);
    if (ok && pthread_mutex_init(&b->mu, NULL) != 0) {
        (void)pthread_cond_destroy(&b->changed);
        return false;
    }
    return ok;
}

static void release(struct backups *b)
{
    (void)pthread_mutex_destroy(&b->mu);
    (void)pthread_cond_destroy(&b->changed);
    free(b->prefix);
    free(b);
}

enum amx_status backups_start(const struct backups_config *config, struct backups **out, struct amx_error *err)
{
    struct backups *b = calloc(1, sizeof *b);
    struct inventory in = {0};
    enum amx_status status = AMX_OK;

    if (b == NULL || !init_sync(b)) {
        free(b);
        return error_set(err, AMX_NO_MEMORY, "no memory for the backups");
    }
    b->config = *config;
    b->prefix = prefix_of(config->db_path);
    if (b->prefix == NULL)
        status = error_set(err, AMX_NO_MEMORY, "no memory for the backups");
    if (status == AMX_OK && mkdir(config->folder, 0700) != 0 && errno != EEXIST)
        status = error_set(err, AMX_IO, "the folder of backups %s: %s", config->folder, strerror(errno));
    if (status == AMX_OK && access(config->folder, R_OK | W_OK | X_OK) != 0)
        status = error_set(err, AMX_IO, "the folder of backups %s: %s", config->folder, strerror(errno));
    if (status == AMX_OK)
        status = look(b, true, &in, err);
    free(in.numbers);
    b->stats.last_success_ms = in.newest_ms;
    b->stats.last_bytes = in.newest_bytes;
    b->stats.kept = in.n;
    if (status == AMX_OK && pthread_create(&b->thread, NULL, run, b) != 0)
        status = error_set(err, AMX_NO_MEMORY, "no thread for the backups");
    if (status != AMX_OK) {
        release(b);
        return status;
    }
    *out = b;
    return AMX_OK;
}

void backups_get_stats(struct backups *b, struct backups_stats *out)
{
    (void)pthread_mutex_lock(&b->mu);
    *out = b->stats;
    (void)pthread_mutex_unlock(&b->mu);
}

void backups_stop(struct backups *b)
{
    if (b == NULL)
        return;
    (void)pthread_mutex_lock(&b->mu);
    b->stopping = true;
    (void)pthread_cond_broadcast(&b->changed);
    while (!b->ended) {
        struct timespec until;
        (void)pthread_mutex_unlock(&b->mu);
        store_backup_stop(b->config.store); /* takes a lock of the store: not under ours */
        (void)clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += STOP_POLL_MS * 1000000;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        (void)pthread_mutex_lock(&b->mu);
        if (!b->ended)
            (void)pthread_cond_timedwait(&b->changed, &b->mu, &until); /* the loop looks again */
    }
    (void)pthread_mutex_unlock(&b->mu);
    (void)pthread_join(b->thread, NULL);
    release(b);
}
