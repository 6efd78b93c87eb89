/* service.h - everything that is alive while the program serves, in one struct that the endpoints reach through
 * http_context(rq). Started and stopped by cmd_serve.c and by the commands that write without a server (client.c). */
#ifndef WORK_SERVICE_H
#define WORK_SERVICE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "annotmix.h"
#include "http/http.h"

struct store;
struct writer;
struct catalog;
struct snapshots;
struct trainers;
struct metrics;
struct backups;

struct service_config {
    const char *db_path;            /* ./annotmix.db */
    const char *listen;             /* 127.0.0.1:8080 */
    const char *health_listen;      /* NULL = none */
    const char *auth;               /* auto | token | none */
    const char *const *allow_hosts; /* NULL-terminated, besides the listening address and localhost */
    unsigned trainers;              /* default: cores */
    size_t write_queue;             /* 10,000 jobs */
    size_t run_queue;               /* 1,000 queued runs */
    size_t model_memory_bytes;      /* 1 GiB: snapshots kept in memory */
    size_t run_memory_bytes;        /* 75 % of RAM: a run that needs more is refused */
    size_t disk_reserve_bytes;      /* 256 MiB: with less free disk new instances are refused, labels are not */
    const char *check;              /* auto | full: the database's quick_check at the start */
    size_t atomic_lines;            /* 100,000 */
    size_t atomic_bytes;            /* 64 MiB */
    size_t line_bytes;              /* 1 MiB: NDJSON and CSV */
    size_t metadata_bytes;          /* 64 KiB per instance */
    unsigned rate_per_address;      /* requests a second; 0 = no limit */
    unsigned rate_per_token;
    const char *backup_folder;      /* NULL = no backups */
    unsigned backup_every_seconds;  /* 3,600 */
    unsigned backup_keep;           /* 48 */
    struct http_limits http;
};

enum service_check {
    CHECK_NONE, /* not asked for: the last process stopped in order */
    CHECK_RUNNING,
    CHECK_OK,
    CHECK_CORRUPT,
    CHECK_FAILED /* could not be done */
};

struct service {
    struct service_config config;
    struct store *store;              /* src/store/store.h: files, lock, write connection, read connections */
    struct writer *writer;            /* writer.h */
    struct catalog *catalog;          /* catalog.h: projects by name, immutable snapshots of what rarely changes */
    struct snapshots *snapshots;      /* snapshots.h: models in memory */
    struct trainers *trainers;        /* trainers.h */
    struct metrics *metrics;          /* metrics.h: counters for /metrics */
    struct backups *backups;          /* backups.h; NULL = none are made */
    struct http_waiters *run_waiters; /* keyed by run row id: long polls and event streams */
    int64_t started_ms;               /* wall clock */
    volatile int stopping;            /* atomic; long calculations for an answer look at it and give up */
    bool auth_required;               /* atomic; by --auth, the address, and whether a token exists */
    bool ready;                       /* atomic */
    pthread_t checker;                /* runs the check in the background; joined when has_checker */
    bool has_checker, stop_check;     /* stop_check: atomic */
    int check;                        /* atomic; enum service_check */
    bool failed;                      /* atomic; an fsync failed: the process got SIGTERM from itself, exit with 75 */
};

/* Opens the store (lock, migrations), then writer, catalog, snapshots, trainers, in this order. config is copied, its
 * strings are borrowed. Backups are not begun: service_start_backups.
 * AMX_BUSY: another process holds the lock; AMX_CORRUPT: not our database, or a newer one. On
 * success the caller calls service_stop. */
AMX_CHECK enum amx_status service_start(const struct service_config *config, struct service **out,
                                        struct amx_error *err);
/* Begins the backups, if the configuration wants them: for `serve`, not for commands that run the service in passing.
 */
AMX_CHECK enum amx_status service_start_backups(struct service *service, struct amx_error *err);
/* Stops the backups and the trainers (runs go back to queued) while the writer lives, then the writer (checkpoint), then the rest.
 * The HTTP servers must have stopped before, except that http_server_stop of suspended writes needs the writer: call
 * service_stop_trainers first, then http_server_stop, then this. NULL allowed. False: a training or the check of the
 * database is in the middle of something long and was not waited for. Everything is written; leave by _exit. */
/* True when there is less free disk than the reserve: what is big and can wait is refused. */
bool service_disk_is_low(const struct service *service);
void service_stop_trainers(struct service *service);
bool service_stop(struct service *service);

#endif
