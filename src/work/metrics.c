/* metrics.c - counters in fixed tables under one lock, and their Prometheus text (exposition format 0.0.4).
 *
 * Tables are fixed because their keys come from closed lists: a table that is full counts on under "other", it never
 * grows. Methods that no route has are counted as "other", so a client cannot invent label values. What is measured
 * rather than counted (queue, WAL, disk, runs, models) is read when somebody asks. */
#include "work/metrics.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "store/models.h"
#include "store/runs.h"
#include "store/store.h"
#include "util/clock.h"
#include "work/backups.h"
#include "work/catalog.h"
#include "work/runs/trainers.h"
#include "work/service.h"
#include "work/snapshots.h"
#include "work/writer.h"

enum {
    SERIES = 512,
    STATUSES = 24,
    NAMES = 64,
    BUCKETS = 13,
    ENDS = 3
};

static const double BOUNDS[BUCKETS] = {0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10};
static const char *const METHODS[] = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "other"};
static const char *const END_NAMES[ENDS] = {"succeeded", "failed", "cancelled"};
enum {
    N_METHODS = sizeof METHODS / sizeof METHODS[0]
};

/* Requests of one route and method. */
struct series {
    const char *route; /* NULL = free */
    int method;
    uint64_t n, buckets[BUCKETS];
    double seconds;
    struct {
        int status;
        uint64_t n;
    } statuses[STATUSES];
};

struct named {
    const char *name; /* NULL = free */
    uint64_t n;
};

struct metrics {
    pthread_mutex_t mu;
    /* All guarded by mu. */
    struct series series[SERIES];
    struct named rejected[NAMES], unavailable[NAMES];
    uint64_t accepted;
    uint64_t ended[ENDS];
    double run_seconds;
    uint64_t labels_trained;
    int64_t last_success_ms; /* 0 = none since the start */
};

struct metrics *metrics_new(void)
{
    struct metrics *m = calloc(1, sizeof *m);

    if (m != NULL && pthread_mutex_init(&m->mu, NULL) != 0) {
        free(m);
        return NULL;
    }
    return m;
}

void metrics_free(struct metrics *m)
{
    if (m == NULL)
        return;
    (void)pthread_mutex_destroy(&m->mu); /* nobody holds it any more */
    free(m);
}

/* ---- counting -----------------------------------------------------------------------------------------------------
 */

static struct series *series_locked(struct metrics *m, const char *route, int method)
{
    size_t h = (size_t)method * 31, slot;

    for (const char *c = route; *c != '\0'; c++)
        h = h * 33 + (unsigned char)*c;
    for (size_t tries = 0; tries < SERIES; tries++) {
        slot = (h + tries) % SERIES;
        if (m->series[slot].route == NULL) {
            m->series[slot].route = route;
            m->series[slot].method = method;
        }
        if (m->series[slot].method == method && strcmp(m->series[slot].route, route) == 0)
            return &m->series[slot];
    }
    return NULL;
}

static void count_status(struct series *s, int status)
{
    for (int i = 0; i < STATUSES; i++) {
        if (s->statuses[i].n == 0)
            s->statuses[i].status = status;
        if (s->statuses[i].status == status) {
            s->statuses[i].n++;
            return;
        }
    }
}

void metrics_request(struct metrics *m, const char *route, const char *method, int status, double seconds)
{
    struct series *s;
    int number = 0;

    if (m == NULL)
        return;
    while (number < N_METHODS - 1 && strcmp(METHODS[number], method) != 0)
        number++;
    (void)pthread_mutex_lock(&m->mu);
    s = series_locked(m, route, number);
    if (s != NULL) {
        s->n++;
        s->seconds += seconds;
        for (int b = 0; b < BUCKETS; b++)
            s->buckets[b] += seconds <= BOUNDS[b];
        count_status(s, status);
    }
    (void)pthread_mutex_unlock(&m->mu);
}

void metrics_labels_accepted(struct metrics *m, uint64_t n)
{
    if (m == NULL)
        return;
    (void)pthread_mutex_lock(&m->mu);
    m->accepted += n;
    (void)pthread_mutex_unlock(&m->mu);
}

static void count_name(struct metrics *m, struct named *table, const char *name, uint64_t n)
{
    if (m == NULL || n == 0)
        return;
    (void)pthread_mutex_lock(&m->mu);
    for (int i = 0; i < NAMES; i++) {
        if (table[i].name == NULL)
            table[i].name = i < NAMES - 1 ? name : "other";
        if (strcmp(table[i].name, name) == 0 || i == NAMES - 1) {
            table[i].n += n;
            break;
        }
    }
    (void)pthread_mutex_unlock(&m->mu);
}

void metrics_labels_rejected(struct metrics *m, const char *problem, uint64_t n)
{
    count_name(m, m != NULL ? m->rejected : NULL, problem, n);
}

void metrics_unavailable(struct metrics *m, const char *cause)
{
    count_name(m, m != NULL ? m->unavailable : NULL, cause, 1);
}

void metrics_run_ended(struct metrics *m, const char *state, double seconds, uint64_t labels)
{
    if (m == NULL)
        return;
    (void)pthread_mutex_lock(&m->mu);
    for (int i = 0; i < ENDS; i++)
        m->ended[i] += strcmp(END_NAMES[i], state) == 0;
    m->run_seconds += seconds;
    if (strcmp(END_NAMES[0], state) == 0) {
        m->last_success_ms = clock_wall_ms();
        m->labels_trained += labels;
    }
    (void)pthread_mutex_unlock(&m->mu);
}

/* ---- the text
 * ------------------------------------------------------------------------------------------------------- */

static void head(struct buf *out, const char *name, const char *type, const char *help)
{
    (void)buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void gauge(struct buf *out, const char *name, const char *help, double value)
{
    head(out, name, "gauge", help);
    (void)buf_printf(out, "%s %.15g\n", name, value);
}

static void counter(struct buf *out, const char *name, const char *help, double value)
{
    head(out, name, "counter", help);
    (void)buf_printf(out, "%s %.15g\n", name, value);
}

static void named_counters(struct buf *out, const struct named *table, const char *name, const char *label,
                           const char *help)
{
    head(out, name, "counter", help);
    for (int i = 0; i < NAMES && table[i].name != NULL; i++)
        (void)buf_printf(out, "%s{%s=\"%s\"} %llu\n", name, label, table[i].name, (unsigned long long)table[i].n);
}

static void write_requests(const struct metrics *m, struct buf *out)
{
    head(out, "annotmix_http_requests_total", "counter", "Requests by route template, method and status.");
    for (size_t i = 0; i < SERIES; i++) {
        const struct series *s = &m->series[i];

        for (int j = 0; s->route != NULL && j < STATUSES && s->statuses[j].n > 0; j++)
            (void)buf_printf(out, "annotmix_http_requests_total{route=\"%s\",method=\"%s\",status=\"%d\"} %llu\n",
                             s->route, METHODS[s->method], s->statuses[j].status, (unsigned long long)s->statuses[j].n);
    }
    head(out, "annotmix_http_request_duration_seconds", "histogram", "Time from headers to the last byte handed over.");
    for (size_t i = 0; i < SERIES; i++) {
        const struct series *s = &m->series[i];

        if (s->route == NULL)
            continue;
        for (int b = 0; b < BUCKETS; b++)
            (void)buf_printf(
                out, "annotmix_http_request_duration_seconds_bucket{route=\"%s\",method=\"%s\",le=\"%g\"} %llu\n",
                s->route, METHODS[s->method], BOUNDS[b], (unsigned long long)s->buckets[b]);
        (void)buf_printf(out,
                         "annotmix_http_request_duration_seconds_bucket{route=\"%s\",method=\"%s\",le=\"+Inf\"} %llu\n",
                         s->route, METHODS[s->method], (unsigned long long)s->n);
        (void)buf_printf(out, "annotmix_http_request_duration_seconds_sum{route=\"%s\",method=\"%s\"} %.9g\n", s->route,
                         METHODS[s->method], s->seconds);
        (void)buf_printf(out, "annotmix_http_request_duration_seconds_count{route=\"%s\",method=\"%s\"} %llu\n",
                         s->route, METHODS[s->method], (unsigned long long)s->n);
    }
}

/* A copy, so that the text is written without the lock. */
static void write_counters(const struct metrics *m, struct buf *out)
{
    write_requests(m, out);
    counter(out, "annotmix_labels_accepted_total", "Labels written.", (double)m->accepted);
    named_counters(out, m->rejected, "annotmix_labels_rejected_total", "problem", "Labels refused, by problem type.");
    named_counters(out, m->unavailable, "annotmix_unavailable_total", "cause", "Answers 503, by cause.");
    head(out, "annotmix_training_runs_ended_total", "counter", "Training runs that ended since the start.");
    for (int i = 0; i < ENDS; i++)
        (void)buf_printf(out, "annotmix_training_runs_ended_total{state=\"%s\"} %llu\n", END_NAMES[i],
                         (unsigned long long)m->ended[i]);
    counter(out, "annotmix_training_seconds_total", "Seconds spent on training runs.", m->run_seconds);
    counter(out, "annotmix_training_labels_total", "Labels in successful training runs.", (double)m->labels_trained);
    gauge(out, "annotmix_training_last_success_timestamp_seconds",
          "When a run last succeeded since the start; 0 = not yet.", (double)m->last_success_ms / 1000);
}

static void write_store(struct service *service, struct buf *out)
{
    struct writer_stats writer;
    struct store_stats store;

    writer_get_stats(service->writer, &writer);
    store_get_stats(service->store, &store);
    gauge(out, "annotmix_write_queue_depth", "Write jobs that wait now.", (double)writer.queue_depth);
    counter(out, "annotmix_write_jobs_total", "Write jobs done.", (double)writer.jobs);
    head(out, "annotmix_commit_seconds", "summary", "Time of commits; count is the number of groups.");
    (void)buf_printf(out, "annotmix_commit_seconds_sum %.9g\nannotmix_commit_seconds_count %llu\n",
                     writer.total_commit_seconds, (unsigned long long)writer.groups);
    gauge(out, "annotmix_last_commit_seconds", "Time of the last commit.", writer.last_commit_seconds);
    gauge(out, "annotmix_writer_busy_seconds", "How long the writer has been at one thing; 0 when it has nothing to do.",
          writer.busy_seconds);
    gauge(out, "annotmix_write_read_only", "1 when writes are refused (disk full or failed).",
          writer.read_only ? 1 : 0);
    gauge(out, "annotmix_wal_bytes", "Size of the write-ahead log.", (double)writer.wal_bytes);
    gauge(out, "annotmix_database_bytes", "Size of the database file.", (double)store.db_bytes);
    gauge(out, "annotmix_disk_free_bytes", "Free bytes where the database lies.", (double)store.disk_free_bytes);
    gauge(out, "annotmix_database_check",
          "quick_check at the start: 0 not needed, 1 under way, 2 whole, 3 corrupt, 4 could not be done.",
          __atomic_load_n(&service->check, __ATOMIC_ACQUIRE));
    gauge(out, "annotmix_oldest_reader_seconds", "Age of the oldest read connection in use.",
          store.oldest_reader_seconds);
}

static void write_backups(struct backups *backups, struct buf *out)
{
    struct backups_stats stats;

    if (backups == NULL)
        return;
    backups_get_stats(backups, &stats);
    counter(out, "annotmix_backups_made_total", "Backups made and checked since the start.", (double)stats.made);
    counter(out, "annotmix_backups_failed_total", "Backups that failed since the start.", (double)stats.failed);
    gauge(out, "annotmix_backup_last_failed", "1 when the last attempt failed.", stats.last_failed ? 1 : 0);
    gauge(out, "annotmix_backup_last_success_timestamp_seconds", "When the newest backup was made; 0 = there is none.",
          (double)stats.last_success_ms / 1000);
    gauge(out, "annotmix_backup_last_duration_seconds", "What the last backup took.", stats.last_seconds);
    gauge(out, "annotmix_backup_last_bytes", "Size of the newest backup.", (double)stats.last_bytes);
    gauge(out, "annotmix_backups_kept", "Backups in the folder.", (double)stats.kept);
}

struct ages {
    struct db *db;
    int64_t oldest_ms;
    size_t n;
};

static enum amx_status add_age(void *context, int64_t project_id, int64_t number)
{
    struct ages *ages = context;
    struct model_row row;
    enum amx_status status = models_get(ages->db, project_id, number, &row, NULL);

    if (status != AMX_OK)
        return status == AMX_NOT_FOUND ? AMX_OK : status;
    if (ages->n++ == 0 || row.about.now_ms < ages->oldest_ms)
        ages->oldest_ms = row.about.now_ms;
    model_row_done(&row);
    return AMX_OK;
}

static enum amx_status write_training(struct service *service, struct buf *out)
{
    int64_t counts[RUN_STATES];
    struct ages ages = {0};
    size_t bytes = 0, n_models = 0;
    enum amx_status status = store_reader_get(service->store, &ages.db, NULL);

    if (status == AMX_OK)
        status = runs_counts(ages.db, counts, NULL);
    if (status == AMX_OK)
        status = models_list_active(ages.db, add_age, &ages, NULL);
    store_reader_put(service->store, ages.db);
    if (status != AMX_OK)
        return status;
    head(out, "annotmix_training_runs", "gauge", "Training runs by state.");
    for (int i = 0; i < RUN_STATES; i++)
        (void)buf_printf(out, "annotmix_training_runs{state=\"%s\"} %lld\n", run_state_name((enum run_state)i),
                         (long long)counts[i]);
    gauge(out, "annotmix_active_models", "Projects with an active model.", (double)ages.n);
    gauge(out, "annotmix_oldest_active_model_age_seconds", "Age of the oldest active model; 0 without one.",
          ages.n > 0 ? (double)(clock_wall_ms() - ages.oldest_ms) / 1000 : 0);
    snapshots_memory(service->snapshots, &bytes, &n_models);
    gauge(out, "annotmix_models_in_memory", "Models kept in memory.", (double)n_models);
    gauge(out, "annotmix_model_memory_bytes", "Bytes they hold.", (double)bytes);
    gauge(out, "annotmix_training_silent_seconds",
          "The longest that a running training has not told of progress; 0 without one.",
          trainers_silent_seconds(service->trainers));
    gauge(out, "annotmix_trainers", "Trainer threads.", trainers_threads(service->trainers));
    gauge(out, "annotmix_projects", "Projects.", (double)catalog_count(service->catalog));
    return AMX_OK;
}

static void write_process(const struct service *service, struct buf *out)
{
    unsigned long pages = 0, resident = 0;
    FILE *statm = fopen("/proc/self/statm", "re");

    if (statm != NULL) {
        char text[128] = "", *end;

        if (fgets(text, sizeof text, statm) != NULL) {
            pages = strtoul(text, &end, 10);
            resident = strtoul(end, NULL, 10);
        }
        (void)fclose(statm); /* only read */
    }
    if (pages > 0)
        gauge(out, "process_resident_memory_bytes", "Resident memory.",
              (double)resident * (double)sysconf(_SC_PAGESIZE));
    gauge(out, "process_start_time_seconds", "When the process started.", (double)service->started_ms / 1000);
    head(out, "annotmix_build_info", "gauge", "Always 1; what this build is in its labels.");
    (void)buf_printf(out, "annotmix_build_info{version=\"%s\",kernel=\"%s\",blas=\"%s\"} 1\n", amx_version(),
                     amx_kernel_name(), amx_blas_name());
}

enum amx_status metrics_write(struct metrics *m, struct service *service, struct buf *out)
{
    struct metrics *copy = malloc(sizeof *copy);
    enum amx_status status;

    if (copy == NULL)
        return AMX_NO_MEMORY;
    (void)pthread_mutex_lock(&m->mu);
    memcpy(copy, m, sizeof *copy);
    (void)pthread_mutex_unlock(&m->mu);
    write_counters(copy, out);
    free(copy);
    write_store(service, out);
    write_backups(service->backups, out);
    status = write_training(service, out);
    write_process(service, out);
    return status != AMX_OK ? status : out->status;
}
