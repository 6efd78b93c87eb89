/* auto_train.c - the rule of a project's settings that queues a run after every so many new labels.
 *
 * Labels are counted in memory as they are written; at start the count is what the database says came after the
 * newest run. When the count reaches the project's number, one run is queued (an equal one that waits already is the
 * same run), with the project's own settings. While that job is under way the rule rests, so a burst of labels queues
 * one run, not hundreds. Nothing here blocks: it runs in the writer's done(). */
#include <stdlib.h>
#include <string.h>

#include "store/projects.h"
#include "store/store.h"
#include "util/error.h"
#include "util/log.h"
#include "work/catalog.h"
#include "work/runs/run_queue.h"
#include "work/runs/trainers_int.h"

struct entry {
    int64_t project_id;
    uint64_t labels; /* since a run last read them */
    bool pending;    /* a job that queues a run is under way */
};

struct auto_train {
    struct trainers *trainers;
    pthread_mutex_t mu;
    struct entry *entries; /* guarded by mu; in order of first appearance */
    size_t n, capacity;
};

/* NULL when memory is out: then the rule waits for the next label. */
static struct entry *need_entry_locked(struct auto_train *rule, int64_t project_id)
{
    for (size_t i = 0; i < rule->n; i++) {
        if (rule->entries[i].project_id == project_id)
            return &rule->entries[i];
    }
    if (rule->n == rule->capacity) {
        size_t capacity = rule->capacity > 0 ? 2 * rule->capacity : 16;
        void *entries = realloc(rule->entries, capacity * sizeof *rule->entries);

        if (entries == NULL)
            return NULL;
        rule->entries = entries;
        rule->capacity = capacity;
    }
    rule->entries[rule->n] = (struct entry){.project_id = project_id};
    return &rule->entries[rule->n++];
}

/* ---- the job that queues
 * ------------------------------------------------------------------------------------------------ */

struct queue_job {
    struct write_job job; /* first */
    struct auto_train *rule;
    struct run_request request;
    struct run_queued run;
    uint64_t labels; /* counted when it was submitted */
};

static enum amx_status queue_apply(struct db *db, struct write_job *job)
{
    struct queue_job *q = (struct queue_job *)job;

    const struct run_limits limits = trainers_limits(q->rule->trainers);

    return run_queue_add(db, job->project_id, &q->request, &limits, true, &q->run, &job->error);
}

/* Counts again from where it was; nothing to train on yet, or a full queue, waits for as many labels once more. */
static void settle(struct auto_train *rule, int64_t project_id, uint64_t labels)
{
    struct entry *entry;

    (void)pthread_mutex_lock(&rule->mu);
    entry = need_entry_locked(rule, project_id);
    if (entry != NULL) {
        entry->labels -= entry->labels < labels ? entry->labels : labels;
        entry->pending = false;
    }
    (void)pthread_mutex_unlock(&rule->mu);
}

static void queue_done(struct write_job *job)
{
    struct queue_job *q = (struct queue_job *)job;

    settle(q->rule, job->project_id, q->labels);
    if (job->status == AMX_OK)
        trainers_poke(q->rule->trainers);
    else if (job->status != AMX_NOTHING && job->status != AMX_NOT_FOUND)
        log_warn("a training run could not be queued by rule", LOG_INT("project_id", job->project_id),
                 LOG_TEXT("reason", job->error.text));
    free(q);
}

static void submit(struct auto_train *rule, const struct project_info *project, uint64_t labels)
{
    struct queue_job *q = calloc(1, sizeof *q);
    struct amx_error err;

    if (q == NULL) {
        settle(rule, project->id, 0);
        return;
    }
    q->job.apply = queue_apply;
    q->job.done = queue_done;
    q->job.project_id = project->id;
    q->rule = rule;
    q->labels = labels;
    if (run_request_by_rule(project->settings.training, project->feature_dim, project->n_classes, &q->request, &err) !=
        AMX_OK) {
        log_warn("a project's training settings cannot be used", LOG_INT("project_id", project->id),
                 LOG_TEXT("reason", err.text));
        settle(rule, project->id, labels);
        free(q);
    } else if (writer_submit(rule->trainers->config.writer, &q->job) != AMX_OK) {
        settle(rule, project->id, 0); /* the next label tries again */
        free(q);
    }
}

void auto_train_written(struct auto_train *rule, int64_t project_id, size_t n)
{
    struct project_info *project = catalog_get_id(rule->trainers->config.catalog, project_id);
    struct entry *entry;
    uint64_t due = 0;

    if (project == NULL || project->settings.auto_train_labels <= 0) {
        project_unref(project);
        return;
    }
    (void)pthread_mutex_lock(&rule->mu);
    entry = need_entry_locked(rule, project_id);
    if (entry != NULL) {
        entry->labels += n;
        if (!entry->pending && entry->labels >= (uint64_t)project->settings.auto_train_labels) {
            entry->pending = true;
            due = entry->labels;
        }
    }
    (void)pthread_mutex_unlock(&rule->mu);
    if (due > 0)
        submit(rule, project, due);
    project_unref(project);
}

void auto_train_read(struct auto_train *rule, int64_t project_id)
{
    (void)pthread_mutex_lock(&rule->mu);
    for (size_t i = 0; i < rule->n; i++) {
        if (rule->entries[i].project_id == project_id)
            rule->entries[i].labels = 0;
    }
    (void)pthread_mutex_unlock(&rule->mu);
}

void auto_train_forget(struct auto_train *rule, int64_t project_id)
{
    (void)pthread_mutex_lock(&rule->mu);
    for (size_t i = 0; i < rule->n; i++) {
        if (rule->entries[i].project_id == project_id)
            rule->entries[i--] = rule->entries[--rule->n];
    }
    (void)pthread_mutex_unlock(&rule->mu);
}

/* ---- start
 * ------------------------------------------------------------------------------------------------------------------ */

static enum amx_status count_since_last_run(struct auto_train *rule, struct db *db, const struct project_info *project,
                                            struct amx_error *err)
{
    struct project_row row;
    struct entry *entry;
    int64_t last = 0, since;
    enum amx_status status = runs_last_seq(db, project->id, &last, err);

    if (status == AMX_OK)
        status = projects_get(db, project->id, &row, err);
    if (status != AMX_OK)
        return status == AMX_NOT_FOUND ? AMX_OK : status;
    since = row.label_seq - last;
    project_row_done(&row);
    (void)pthread_mutex_lock(&rule->mu);
    entry = need_entry_locked(rule, project->id);
    if (entry != NULL)
        entry->labels = since > 0 ? (uint64_t)since : 0;
    (void)pthread_mutex_unlock(&rule->mu);
    return AMX_OK;
}

static enum amx_status rebuild(struct auto_train *rule, struct amx_error *err)
{
    const struct trainers_config *config = &rule->trainers->config;
    struct project_info **projects = NULL;
    struct db *db = NULL;
    size_t n = 0;
    enum amx_status status = catalog_list(config->catalog, &projects, &n);

    if (status != AMX_OK)
        return error_set(err, status, "Out of memory.");
    status = store_reader_get(config->store, &db, err);
    for (size_t i = 0; i < n; i++) {
        if (status == AMX_OK && projects[i]->settings.auto_train_labels > 0)
            status = count_since_last_run(rule, db, projects[i], err);
        project_unref(projects[i]);
    }
    store_reader_put(config->store, db);
    free(projects);
    return status;
}

enum amx_status auto_train_new(struct trainers *t, struct auto_train **out, struct amx_error *err)
{
    struct auto_train *rule = calloc(1, sizeof *rule);
    enum amx_status status;

    if (rule == NULL || pthread_mutex_init(&rule->mu, NULL) != 0) {
        free(rule);
        return error_set(err, AMX_NO_MEMORY, "Out of memory.");
    }
    rule->trainers = t;
    status = rebuild(rule, err);
    if (status != AMX_OK) {
        auto_train_free(rule);
        return status;
    }
    *out = rule;
    return AMX_OK;
}

void auto_train_free(struct auto_train *rule)
{
    if (rule == NULL)
        return;
    free(rule->entries);
    (void)pthread_mutex_destroy(&rule->mu);
    free(rule);
}
