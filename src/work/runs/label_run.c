/* label_run.c - see label_run.h.
 *
 * The method gives the posterior of every instance and a figure per annotator. Confusion matrices, and how many of an
 * annotator's labels speak of each class, are counted from the posterior (crowd/reliability.h). */
#include "work/runs/label_run.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "crowd/aggregate/aggregate.h"
#include "crowd/scores.h"
#include "util/error.h"
#include "util/jsonx.h"
#include "util/size.h"
#include "work/judge/evaluate.h"
#include "work/runs/label_model.h"
#include "work/runs/run_result.h"

static void *array(size_t n, size_t size)
{
    size_t bytes;

    return size_mul(&bytes, n > 0 ? n : 1, size) ? calloc(1, bytes) : NULL;
}

size_t label_run_memory(const struct training_data *data)
{
    const struct training_set *set = &data->set;
    size_t instances, annotators, bytes;

    /* Posterior twice (the method's own copy), once as float32, once more as bytes; matrices of the method and ours. */
    if (!size_mul(&instances, set->n_instances, set->n_classes) || !size_mul(&instances, instances, 24) ||
        !size_mul(&annotators, set->n_annotators, set->n_classes) ||
        !size_mul(&annotators, annotators, set->n_classes * 16) || !size_add(&bytes, instances, annotators) ||
        !size_add(&bytes, bytes, set->n_labels * 24))
        return SIZE_MAX;
    return bytes;
}

/* ---- annotators
 * ------------------------------------------------------------------------------------------------------ */

/* The method's own figure in place of the expected share right. */
static void take_means(struct reliability *r, const double *mean)
{
    double sum = 0, weight = 0;

    for (size_t a = 0; a < r->n_annotators; a++) {
        r->mean[a] = mean[a];
        if (isfinite(mean[a])) {
            sum += mean[a] * (double)r->labels[a];
            weight += (double)r->labels[a];
        }
    }
    r->population = weight > 0 ? sum / weight : (double)NAN;
}

/* ---- against gold
 * ------------------------------------------------------------------------------------------------------ */

/* {"train": {...}} when train instances have gold that the run has not seen; else {}. */
static enum amx_status metrics_of(const struct training_data *data, const double *posterior, enum run_gold_use gold_use,
                                  char **out, struct amx_error *err)
{
    const struct training_set *set = &data->set;
    const size_t C = set->n_classes;
    struct evaluation e = {.split = "train", .basis = "in_sample"};
    struct class_tally tally;
    json_t *metrics = json_object();
    float *p = array(C, sizeof *p);
    size_t bytes;
    bool ok = class_tally_init(&tally, C) == AMX_OK && metrics != NULL && p != NULL;

    for (size_t i = 0; ok && gold_use != RUN_GOLD_TRAIN && i < set->n_instances; i++) {
        if (set->instance_gold[i] < 0)
            continue;
        for (size_t k = 0; k < C; k++)
            p[k] = (float)posterior[i * C + k];
        class_tally_add(&tally, p, (uint32_t)set->instance_gold[i]);
    }
    if (ok && tally.n > 0) {
        double accuracy;
        size_t n;

        e.has_classes = true;
        class_tally_scores(&tally, &e.classes);
        e.consensus = (struct share){e.classes.n, e.classes.accuracy, e.classes.accuracy_low, e.classes.accuracy_high};
        ok = evaluate_majority(data, &accuracy, &n) == AMX_OK;
        e.majority = (struct share){.n = n, .accuracy = accuracy};
        wilson_interval(n > 0 ? accuracy * (double)n : 0, (double)n, &e.majority.low, &e.majority.high);
        ok = ok && json_object_set_new(metrics, e.split, evaluation_json(&e, gold_use)) == 0;
    }
    *out = ok ? jsonx_dump(metrics, &bytes) : NULL;
    class_tally_done(&tally);
    free(p);
    json_decref(metrics);
    return *out != NULL ? AMX_OK : error_set(err, AMX_NO_MEMORY, "Out of memory.");
}

/* ---- the run
 * ----------------------------------------------------------------------------------------------------------- */

static enum amx_status compute(struct run_work *work, const struct training_data *data, double *posterior, double *mean,
                               void (*progress)(double fraction, void *context), struct run_result *result,
                               struct amx_error *err)
{
    const struct training_set *set = &data->set;
    const struct crowd_labels labels = {.n_instances = set->n_instances,
                                        .n_annotators = set->n_annotators,
                                        .n_classes = set->n_classes,
                                        .n_labels = set->n_labels,
                                        .instance = set->label_instance,
                                        .annotator = set->label_annotator,
                                        .class_ = set->label_class};
    const struct aggregate_options options = {.gold =
                                                  work->request.gold_use == RUN_GOLD_TRAIN ? set->instance_gold : NULL,
                                              .seed = work->request.seed,
                                              .cancel = &work->cancel,
                                              .progress = progress,
                                              .context = work};
    enum amx_status status = aggregate(&labels, work->request.method, &options, posterior, mean, NULL, err);

    if (status != AMX_OK)
        return status;
    if (reliability_of_posterior(&labels, posterior, &result->reliability) != AMX_OK)
        return error_set(err, AMX_NO_MEMORY, "Out of memory.");
    take_means(&result->reliability, mean);
    status = metrics_of(data, posterior, work->request.gold_use, &result->metrics, err);
    if (status == AMX_OK)
        status =
            label_model_encode(set->instance_ids, posterior, set->n_instances, (const char *const *)set->class_names,
                               set->n_classes, &result->bytes, &result->n_bytes, err);
    return status;
}

enum amx_status label_run(struct run_work *work, const struct training_data *data,
                          void (*progress)(double fraction, void *context), struct amx_error *err)
{
    const struct training_set *set = &data->set;
    struct run_result result = {.method = work->request.method,
                                .seed = work->request.seed,
                                .ensemble = 1,
                                .labels_used = set->n_labels,
                                .instances_used = set->n_instances,
                                .activate = work->request.activate != RUN_ACTIVATE_NEVER};
    size_t cells;
    double *posterior = size_mul(&cells, set->n_instances, set->n_classes) ? array(cells, sizeof *posterior) : NULL;
    double *mean = array(set->n_annotators, sizeof *mean);
    struct amx_model *no_model = NULL; /* the next request reads the stored posterior */
    enum amx_status status = AMX_OK;

    result.settings = strdup("{}");
    result.curve = strdup("[]");
    if (posterior == NULL || mean == NULL || result.settings == NULL || result.curve == NULL)
        status = error_set(err, AMX_NO_MEMORY, "Out of memory.");
    if (status == AMX_OK)
        status = compute(work, data, posterior, mean, progress, &result, err);
    free(posterior);
    free(mean);
    if (status == AMX_OK)
        status = run_result_write(work, data, &result, &no_model, err);
    run_result_done(&result);
    return status;
}
