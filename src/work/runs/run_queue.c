/* run_queue.c - see run_queue.h. */
#include "work/runs/run_queue.h"

#include <stdlib.h>

#include "store/runs.h"
#include "store/training.h"
#include "util/clock.h"
#include "util/error.h"
#include "work/judge/evaluate.h"

/* So many labelled instances are looked at to find two classes; only a project whose first thousand all carry the
 * same class costs a full count. */
enum {
    SAMPLE = 1000
};

static enum amx_status check_enough(struct db *db, int64_t project_id, struct amx_error *err)
{
    struct training_size size;
    enum amx_status status = training_measure(db, project_id, SAMPLE, &size, err);

    if (status == AMX_OK && size.n_instances >= SAMPLE && size.n_classes_seen < 2)
        status = training_measure(db, project_id, 0, &size, err);
    if (status != AMX_OK)
        return status;
    if (size.n_labels == 0)
        return error_set(err, AMX_NOTHING, "There are no labels yet: nothing to train on.");
    if (size.n_instances < 2)
        return error_set(err, AMX_NOTHING,
                         "Training needs at least 2 labelled instances of split train that have their features; "
                         "there %s %zu.",
                         size.n_instances == 1 ? "is" : "are", size.n_instances);
    if (size.n_classes_seen < 2)
        return error_set(err, AMX_NOTHING, "All labels name one class: training needs labels of two classes.");
    return AMX_OK;
}

/* For a method that trains on gold. */
static enum amx_status check_gold(struct db *db, int64_t project_id, const char *method, struct amx_error *err)
{
    size_t n = 0, classes = 0;
    enum amx_status status = training_measure_gold(db, project_id, &n, &classes, err);

    if (status != AMX_OK)
        return status;
    if (n < 2 || classes < 2)
        return error_set(err, AMX_NOTHING,
                         "%s trains on gold labels: it needs 2 labelled instances of split train with gold of 2 "
                         "classes; there %s %zu, of %zu class%s.",
                         method, n == 1 ? "is" : "are", n, classes, classes == 1 ? "" : "es");
    return AMX_OK;
}

static enum amx_status insert(struct db *db, int64_t project_id, const struct run_spec *spec, size_t queue_limit,
                              bool by_rule, struct run_queued *out, struct amx_error *err)
{
    struct run_queued queued = {.coalesced = false};
    struct run_row row;
    int64_t waiting;
    enum amx_status status = runs_find_equal(db, project_id, spec, &row, err);

    if (status == AMX_OK) {
        *out = (struct run_queued){row.number, row.id, true};
        run_row_done(&row);
        return AMX_OK;
    }
    if (status != AMX_NOT_FOUND || (status = runs_queue_length(db, &waiting, err)) != AMX_OK)
        return status;
    if (waiting >= 0 && (size_t)waiting >= queue_limit)
        return error_set(err, AMX_BUSY, "%lld training runs are queued already; try again later.", (long long)waiting);
    status = runs_insert(db, project_id, spec, by_rule, clock_wall_ms(), &queued.number, &queued.id, err);
    if (status == AMX_OK)
        *out = queued;
    return status;
}

enum amx_status run_queue_add(struct db *db, int64_t project_id, const struct run_request *request,
                              const struct run_limits *limits, bool by_rule, struct run_queued *out,
                              struct amx_error *err)
{
    const struct run_need need = {run_memory_of_request, request};
    char *settings = run_request_settings_text(request);
    struct run_spec spec;
    enum amx_status status;

    if (settings == NULL)
        return error_set(err, AMX_NO_MEMORY, "Out of memory.");
    run_request_to_spec(request, settings, &spec);
    status = check_enough(db, project_id, err);
    if (status == AMX_OK && !request->label_only && evaluate_saw_gold(request->method, RUN_GOLD_EVALUATE))
        status = check_gold(db, project_id, request->method, err);
    if (status == AMX_OK)
        status = run_memory_check(db, project_id, &need, limits->memory_bytes, err);
    if (status == AMX_OK)
        status = insert(db, project_id, &spec, limits->queue, by_rule, out, err);
    free(settings);
    return status;
}

enum amx_status run_queue_add_spec(struct db *db, int64_t project_id, const struct run_spec *spec,
                                   const struct run_need *need, const struct run_limits *limits, struct run_queued *out,
                                   struct amx_error *err)
{
    enum amx_status status = check_enough(db, project_id, err);

    if (status == AMX_OK)
        status = run_memory_check(db, project_id, need, limits->memory_bytes, err);
    return status != AMX_OK ? status : insert(db, project_id, spec, limits->queue, false, out, err);
}

enum amx_status run_queue_cancel(struct db *db, int64_t project_id, int64_t number, int64_t *id, enum run_cancel *what,
                                 struct amx_error *err)
{
    struct run_row row;
    enum run_state found;
    enum amx_status status = runs_get(db, project_id, number, &row, err);

    if (status == AMX_NOT_FOUND)
        return error_set(err, AMX_NOT_FOUND, "There is no training run %lld.", (long long)number);
    if (status != AMX_OK)
        return status;
    *id = row.id;
    run_row_done(&row);
    status = runs_cancel(db, project_id, number, clock_wall_ms(), &found, err);
    if (status != AMX_OK)
        return status;
    if (found == RUN_SUCCEEDED || found == RUN_FAILED)
        return error_set(err, AMX_CONFLICT, "The training run has ended already: it %s.", run_state_name(found));
    *what = found == RUN_CANCELLED ? RUN_CANCEL_ALREADY : RUN_CANCEL_ACCEPTED;
    return AMX_OK;
}
