/* label_run.c - see label_run.h.
 *
 * The method gives the posterior of every instance and a figure per annotator. Confusion matrices, and how many of an
 * annotator's labels speak of each class, are counted from the posterior: N_a[k][z] = sum over its labels of q(k). */
#include "work/label_run.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "crowd/aggregate.h"
#include "crowd/scores.h"
#include "util/error.h"
#include "util/jsonx.h"
#include "util/size.h"
#include "work/evaluate.h"
#include "work/label_model.h"
#include "work/run_result.h"
#include "work/snapshots.h"

/* With more cells the confusion matrices are left out, as for models. */
#define MAX_CONFUSION_CELLS ((size_t)1 << 26)

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

static void count_labels(const struct training_set *set, const double *posterior, struct reliability *r)
{
    const size_t C = set->n_classes;

    for (size_t l = 0; l < set->n_labels; l++) {
        const double *q = posterior + (size_t)set->label_instance[l] * C;
        size_t a = set->label_annotator[l], z = set->label_class[l];

        r->labels[a]++;
        r->per_class[a * C + z] += q[z];
        for (size_t k = 0; k < C; k++) {
            r->evidence[a * C + k] += q[k];
            if (r->confusion != NULL)
                r->confusion[(a * C + k) * C + z] += q[k];
        }
    }
}

/* Counts -> shares, NaN where no label speaks of the class; and what is to be expected of somebody new. */
static void divide(struct reliability *r)
{
    const size_t C = r->n_classes;
    double sum = 0, weight = 0;

    for (size_t a = 0; a < r->n_annotators; a++) {
        for (size_t k = 0; k < C; k++) {
            double n = r->evidence[a * C + k];

            r->per_class[a * C + k] = n > 0 ? r->per_class[a * C + k] / n : (double)NAN;
            for (size_t z = 0; r->confusion != NULL && z < C; z++)
                r->confusion[(a * C + k) * C + z] = n > 0 ? r->confusion[(a * C + k) * C + z] / n : (double)NAN;
        }
        if (isfinite(r->mean[a])) {
            sum += r->mean[a] * (double)r->labels[a];
            weight += (double)r->labels[a];
        }
    }
    r->population = weight > 0 ? sum / weight : (double)NAN;
}

static bool reliability_init(struct reliability *r, size_t A, size_t C)
{
    size_t row, cells;

    r->n_annotators = A;
    r->n_classes = C;
    if (!size_mul(&row, A, C))
        return false;
    r->mean = array(A, sizeof *r->mean);
    r->labels = array(A, sizeof *r->labels);
    r->per_class = array(row, sizeof *r->per_class);
    r->evidence = array(row, sizeof *r->evidence);
    if (size_mul(&cells, row, C) && cells <= MAX_CONFUSION_CELLS) {
        r->confusion = array(cells, sizeof *r->confusion);
        if (r->confusion == NULL)
            return false;
    }
    return r->mean != NULL && r->labels != NULL && r->per_class != NULL && r->evidence != NULL;
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

static enum amx_status compute(struct run_work *work, const struct training_data *data, double *posterior,
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
    enum amx_status status =
        aggregate(&labels, work->request.method, &options, posterior, result->reliability.mean, NULL, err);

    if (status != AMX_OK)
        return status;
    count_labels(set, posterior, &result->reliability);
    divide(&result->reliability);
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
    int64_t number;
    enum amx_status status = AMX_OK;

    result.settings = strdup("{}");
    result.curve = strdup("[]");
    if (!reliability_init(&result.reliability, set->n_annotators, set->n_classes) || posterior == NULL ||
        result.settings == NULL || result.curve == NULL)
        status = error_set(err, AMX_NO_MEMORY, "Out of memory.");
    if (status == AMX_OK)
        status = compute(work, data, posterior, progress, &result, err);
    free(posterior);
    if (status == AMX_OK)
        status = run_result_write(work, data, &result, &number, err);
    if (status == AMX_OK && result.activate)
        snapshots_changed(work->trainers->config.snapshots, work->row.project_id);
    run_result_done(&result);
    return status;
}
