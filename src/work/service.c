/* service.c - starts and stops what serves, in one order: store, writer, catalog, snapshots, trainers; and back. */
#include "work/service.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "store/store.h"
#include "util/clock.h"
#include "util/error.h"
#include "util/log.h"
#include "work/backups.h"
#include "work/catalog.h"
#include "work/metrics.h"
#include "work/runs/trainers.h"
#include "work/snapshots.h"
#include "work/writer.h"

enum {
    CHECK_WAIT_MS = 2000
};

/* In the writer's thread, once: fsync failed, so nothing this process writes can be trusted to reach the disk. The
 * process ends in order (readers get their answers, writers 5xx) and its exit status asks for a new start. */
static void on_fatal(void *context)
{
    struct service *service = context;

    log_error("the disk refused an fsync: the service ends, start it again");
    __atomic_store_n(&service->failed, true, __ATOMIC_RELEASE);
    (void)kill(getpid(), SIGTERM); /* to ourselves: cannot fail */
}

/* quick_check of the whole file. What it finds makes the store read-only: answers go on, nothing is made worse. */
static void check_database(struct service *service)
{
    struct amx_error err = {.code = AMX_OK};
    int64_t began = clock_monotonic_ms();
    int found = CHECK_OK;

    __atomic_store_n(&service->check, CHECK_RUNNING, __ATOMIC_RELEASE);
    enum amx_status status = store_check(service->store, &service->stop_check, &err);
    double seconds = (double)(clock_monotonic_ms() - began) / 1000;
    if (status == AMX_OK) {
        log_info("the database is whole", LOG_REAL("seconds", seconds));
    } else if (status == AMX_CORRUPT) {
        found = CHECK_CORRUPT;
        writer_refuse(service->writer, AMX_CORRUPT);
        log_error("database corrupt: read-only for good; restore a backup", LOG_TEXT("why", err.text));
    } else {
        found = status == AMX_CANCELLED ? CHECK_NONE : CHECK_FAILED;
        log_warn("the database was not checked", LOG_TEXT("why", err.text));
    }
    __atomic_store_n(&service->check, found, __ATOMIC_RELEASE);
}

static void *checker_main(void *argument)
{
    check_database(argument);
    return NULL;
}

/* Before ready when it was asked for, beside the service after a process that did not stop in order. */
static void start_check(struct service *service)
{
    if (service->config.check != NULL && strcmp(service->config.check, "full") == 0)
        check_database(service);
    else if (store_unclean_start(service->store))
        service->has_checker = pthread_create(&service->checker, NULL, checker_main, service) == 0;
}

bool service_disk_is_low(const struct service *service)
{
    return store_disk_free(service->store) < (int64_t)service->config.disk_reserve_bytes;
}

static enum amx_status start_trainers(struct service *service, struct amx_error *err)
{
    const struct trainers_config config = {
        .threads = service->config.trainers,
        .run_queue = service->config.run_queue,
        .run_memory_bytes = service->config.run_memory_bytes,
        .store = service->store,
        .writer = service->writer,
        .catalog = service->catalog,
        .snapshots = service->snapshots,
        .metrics = service->metrics,
        .run_waiters = service->run_waiters,
    };

    return trainers_start(&config, &service->trainers, err);
}

static enum amx_status start(struct service *service, struct amx_error *err)
{
    /* Every HTTP thread may hold one read connection, every trainer one, and the writer's done() one. */
    const struct store_options options = {.max_readers = service->config.http.threads + service->config.trainers + 4};
    enum amx_status status;

    service->metrics = metrics_new();
    service->run_waiters = http_waiters_new();
    if (service->metrics == NULL || service->run_waiters == NULL)
        return error_set(err, AMX_NO_MEMORY, "Out of memory.");
    if ((status = store_open(service->config.db_path, &options, &service->store, err)) != AMX_OK ||
        (status = writer_start(store_writer(service->store), service->config.write_queue, &service->writer, err)) !=
            AMX_OK)
        return status;
    writer_on_fatal(service->writer, on_fatal, service);
    if ((status = catalog_open(service->store, &service->catalog, err)) != AMX_OK ||
        (status = snapshots_open(service->store, service->config.model_memory_bytes, &service->snapshots, err)) !=
            AMX_OK)
        return status;
    if ((status = start_trainers(service, err)) == AMX_OK)
        start_check(service);
    return status;
}

/* False: it is in the middle of a big table and cannot be waited for. */
static bool stop_check(struct service *service)
{
    const struct timespec nap = {.tv_nsec = 5000000};
    int64_t end_ms = clock_monotonic_ms() + CHECK_WAIT_MS;

    if (!service->has_checker)
        return true;
    __atomic_store_n(&service->stop_check, true, __ATOMIC_RELEASE);
    /* Not pthread_timedjoin_np: its clock may be set back, and the stop would wait as much longer. */
    while (pthread_tryjoin_np(service->checker, NULL) != 0) {
        if (clock_monotonic_ms() >= end_ms)
            return false;
        (void)nanosleep(&nap, NULL); /* a signal only makes it shorter */
    }
    return true;
}

enum amx_status service_start(const struct service_config *config, struct service **out, struct amx_error *err)
{
    struct service *service = calloc(1, sizeof *service);
    enum amx_status status;

    if (service == NULL)
        return error_set(err, AMX_NO_MEMORY, "Out of memory.");
    service->config = *config;
    service->started_ms = clock_wall_ms();
    status = start(service, err);
    if (status != AMX_OK) {
        (void)service_stop(service); /* the process ends */
        return status;
    }
    *out = service;
    return AMX_OK;
}

enum amx_status service_start_backups(struct service *service, struct amx_error *err)
{
    const struct backups_config config = {
        .store = service->store,
        .folder = service->config.backup_folder,
        .db_path = service->config.db_path,
        .every_seconds = service->config.backup_every_seconds,
        .keep = service->config.backup_keep,
    };

    return config.folder == NULL ? AMX_OK : backups_start(&config, &service->backups, err);
}

static void stop_backups(struct service *service)
{
    backups_stop(service->backups);
    service->backups = NULL;
}

void service_stop_trainers(struct service *service)
{
    __atomic_store_n(&service->stopping, 1, __ATOMIC_RELAXED);
    (void)trainers_stop(service->trainers); /* service_stop asks again */
}

/* The writer goes before the trainers' memory: a job of auto_train may still be under way in it. */
bool service_stop(struct service *service)
{
    if (service == NULL)
        return true;
    stop_backups(service);
    bool ended = trainers_stop(service->trainers);
    writer_halt(service->writer);
    /* Everything is written. What is open the process's end closes, and the next start checks again. */
    if (!stop_check(service) || !ended)
        return false;
    writer_free(service->writer);
    trainers_free(service->trainers);
    snapshots_close(service->snapshots);
    catalog_close(service->catalog);
    store_close(service->store);
    if (service->run_waiters != NULL)
        http_waiters_free(service->run_waiters);
    metrics_free(service->metrics);
    free(service);
    return true;
}
