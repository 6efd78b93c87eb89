/* crowd_view.c - see crowd_view.h.
 *
 * Agreement: of the other labels on the same instance, the share that is this annotator's class, averaged over its
 * labels that have company. It asks nothing of the data and cannot fail; Dawid-Skene takes over from two labels per
 * instance on. Limits keep one question from eating the machine: beyond MAX_CELLS numbers in the posterior or the
 * confusion matrices the view without a method falls back to agreement, and one with a method is refused.
 */
#include "endpoints/derived/crowd_view.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "crowd/aggregate/aggregate.h"
#include "crowd/crowdlab.h"
#include "crowd/reliability.h"
#include "util/error.h"
#include "util/size.h"

enum {
    KEPT = 8,
    SEED = 1
};
#define MAX_CELLS           ((size_t)20000000)
#define MAX_CONFUSION_CELLS ((size_t)16000000)

/* ---- the few that are kept
 * ------------------------------------------------------------------------------------------- */

static pthread_mutex_t kept_mu = PTHREAD_MUTEX_INITIALIZER;
static struct crowd_view *kept[KEPT]; /* newest first; guarded by kept_mu; at most one of a project and method */

static struct crowd_view *view_ref(struct crowd_view *view)
{
    (void)__atomic_add_fetch(&view->refs, 1, __ATOMIC_RELAXED);
    return view;
}

void crowd_view_unref(struct crowd_view *view)
{
    if (view == NULL || __atomic_sub_fetch(&view->refs, 1, __ATOMIC_ACQ_REL) > 0) {
        return;
    }
    free(view->instance_ids);
    free(view->posterior);
    free(view->annotator_ids);
    free(view->reliability);
    free(view->labels);
    free(view->confusion);
    free(view);
}

static bool same_question(const struct crowd_view *view, int64_t project_id, const char *method)
{
    if (view->project_id != project_id || (view->method == NULL) != (method == NULL)) {
        return false;
    }
    return method == NULL || strcmp(view->method, method) == 0;
}

struct crowd_view *crowd_view_get(int64_t project_id, int64_t label_seq, const struct crowd_ask *ask)
{
    int64_t model = ask->snapshot != NULL ? ask->snapshot->number : 0;
    struct crowd_view *found = NULL;
    (void)pthread_mutex_lock(&kept_mu);
    for (size_t i = 0; i < KEPT && found == NULL; i++) {
        if (kept[i] != NULL && same_question(kept[i], project_id, ask->method) && kept[i]->label_seq == label_seq &&
            kept[i]->model == model) {
            found = view_ref(kept[i]);
        }
    }
    (void)pthread_mutex_unlock(&kept_mu);
    return found;
}

static void keep(struct crowd_view *view)
{
    struct crowd_view *dropped = NULL;
    (void)pthread_mutex_lock(&kept_mu);
    size_t at = 0;
    while (at < KEPT - 1 && kept[at] != NULL && !same_question(kept[at], view->project_id, view->method)) {
        at++;
    }
    dropped = kept[at];
    memmove(&kept[1], &kept[0], at * sizeof kept[0]);
    kept[0] = view_ref(view);
    (void)pthread_mutex_unlock(&kept_mu);
    crowd_view_unref(dropped);
}

size_t crowd_view_annotator(const struct crowd_view *view, int64_t id)
{
    return crowd_rows_find(view->annotator_ids, view->n_annotators, id);
}

/* ---- without a method
 * ------------------------------------------------------------------------------------------------ */

static void *array(size_t n, size_t item)
{
    size_t bytes;
    return size_mul(&bytes, n > 0 ? n : 1, item) ? calloc(1, bytes) : NULL;
}

/* Into view->reliability; `counted` [A] is scratch. */
static void agreement(const struct crowd_labels *l, struct crowd_view *view, uint64_t *counted)
{
    for (size_t first = 0; first < l->n_labels;) {
        size_t end = first;
        while (end < l->n_labels && l->instance[end] == l->instance[first]) {
            end++;
        }
        for (size_t i = first; i < end && end - first > 1; i++) {
            size_t same = 0;
            for (size_t j = first; j < end; j++) {
                same += j != i && l->class_[j] == l->class_[i];
            }
            view->reliability[l->annotator[i]] += (double)same / (double)(end - first - 1);
            counted[l->annotator[i]]++;
        }
        first = end;
    }
    for (size_t a = 0; a < l->n_annotators; a++) {
        view->reliability[a] = counted[a] > 0 ? view->reliability[a] / (double)counted[a] : (double)NAN;
    }
}

static bool keep_posterior(struct crowd_view *view, const double *posterior, size_t cells)
{
    view->posterior = array(cells, sizeof *view->posterior);
    for (size_t i = 0; view->posterior != NULL && i < cells; i++) {
        view->posterior[i] = (float)posterior[i];
    }
    return view->posterior != NULL;
}

/* Of Dawid-Skene: how often each annotator is right, and its confusion matrix. */
static bool keep_figures(struct crowd_view *view, const struct reliability *figures)
{
    size_t cells = figures->n_annotators * figures->n_classes * figures->n_classes; /* at most MAX_CONFUSION_CELLS */
    view->confusion = array(cells, sizeof *view->confusion);
    for (size_t i = 0; view->confusion != NULL && figures->confusion != NULL && i < cells; i++) {
        view->confusion[i] = (float)figures->confusion[i];
    }
    memcpy(view->reliability, figures->mean, figures->n_annotators * sizeof *view->reliability);
    return view->confusion != NULL && figures->confusion != NULL;
}

static enum amx_status run_dawid_skene(const struct service *service, const struct crowd_labels *l,
                                       struct crowd_view *view, struct amx_error *err)
{
    const struct aggregate_options options = {.cancel = &service->stopping};
    struct reliability figures = {.n_classes = 0};
    size_t cells = l->n_instances * l->n_classes; /* at most MAX_CELLS: enough_labels */
    double *posterior = array(cells, sizeof *posterior);
    enum amx_status status = posterior == NULL ? error_set(err, AMX_NO_MEMORY, "Out of memory.") : AMX_OK;
    if (status == AMX_OK) {
        status = aggregate(l, "dawid_skene", &options, posterior, NULL, NULL, err);
    }
    if (status == AMX_OK && (reliability_of_posterior(l, posterior, &figures) != AMX_OK ||
                             !keep_posterior(view, posterior, cells) || !keep_figures(view, &figures))) {
        status = error_set(err, AMX_NO_MEMORY, "Out of memory.");
    }
    view->has_dawid_skene = status == AMX_OK;
    reliability_done(&figures);
    free(posterior);
    return status;
}

/* Two labels per labelled instance on the average, and neither the posterior nor the matrices are too large. */
static bool enough_labels(const struct crowd_labels *l)
{
    size_t cells, row, confusion_cells;
    return l->n_labels > 0 && l->n_labels / 2 >= l->n_instances && size_mul(&cells, l->n_instances, l->n_classes) &&
           size_mul(&row, l->n_annotators, l->n_classes) && size_mul(&confusion_cells, row, l->n_classes) &&
           cells <= MAX_CELLS && confusion_cells <= MAX_CONFUSION_CELLS;
}

static enum amx_status by_default(const struct service *service, const struct crowd_labels *l, struct crowd_view *view,
                                  struct amx_error *err)
{
    if (enough_labels(l)) {
        return run_dawid_skene(service, l, view, err);
    }
    uint64_t *counted = array(l->n_annotators, sizeof *counted);
    if (counted == NULL) {
        return error_set(err, AMX_NO_MEMORY, "Out of memory.");
    }
    agreement(l, view, counted);
    free(counted);
    return AMX_OK;
}

/* ---- by a method
 * ----------------------------------------------------------------------------------------------------- */

static enum amx_status by_method(const struct service *service, const struct crowd_labels *l, const float *p_class,
                                 struct crowd_view *view, struct amx_error *err)
{
    const struct aggregate_options options = {.seed = SEED, .cancel = &service->stopping};
    size_t cells = l->n_instances * l->n_classes; /* at most MAX_CELLS: check_size */
    double *posterior = array(cells, sizeof *posterior);
    enum amx_status status = posterior == NULL ? error_set(err, AMX_NO_MEMORY, "Out of memory.") : AMX_OK;
    if (status == AMX_OK && p_class != NULL) {
        const struct crowdlab out = {.posterior = posterior, .annotator_quality = view->reliability};
        status = crowdlab(l, p_class, &out, err);
    } else if (status == AMX_OK) {
        status = aggregate(l, view->method, &options, posterior, view->reliability, NULL, err);
    }
    if (status == AMX_OK && !keep_posterior(view, posterior, cells)) {
        status = error_set(err, AMX_NO_MEMORY, "Out of memory.");
    }
    free(posterior);
    return status;
}

static enum amx_status check_size(const struct crowd_rows *rows, struct amx_error *err)
{
    size_t cells;
    if (size_mul(&cells, rows->n_instances, rows->n_classes) && cells <= MAX_CELLS) {
        return AMX_OK;
    }
    return error_set(err, AMX_TOO_LARGE,
                     "%zu labelled instances of %zu classes are too many for one answer; annotmixd aggregate has no "
                     "such limit.",
                     rows->n_instances, rows->n_classes);
}

/* ---- all of it
 * ------------------------------------------------------------------------------------------------------- */

static void mean_of(struct crowd_view *view)
{
    double sum = 0, weight = 0;
    for (size_t a = 0; a < view->n_annotators; a++) {
        if (isfinite(view->reliability[a])) {
            sum += view->reliability[a] * (double)view->labels[a];
            weight += (double)view->labels[a];
        }
    }
    view->mean_reliability = weight > 0 ? sum / weight : (double)NAN;
}

/* The view takes the ids of the rows. */
static enum amx_status fill(const struct service *service, struct crowd_rows *rows, const float *p_class,
                            struct crowd_view *view, struct amx_error *err)
{
    const struct crowd_labels labels = crowd_rows_labels(rows);
    view->label_seq = rows->label_seq;
    view->n_instances = rows->n_instances;
    view->n_annotators = rows->n_annotators;
    view->reliability = array(rows->n_annotators, sizeof *view->reliability);
    view->labels = array(rows->n_annotators, sizeof *view->labels);
    if (view->reliability == NULL || view->labels == NULL) {
        return error_set(err, AMX_NO_MEMORY, "Out of memory.");
    }
    for (size_t l = 0; l < rows->n_labels; l++) {
        view->labels[rows->annotator[l]]++;
    }
    enum amx_status status = view->method == NULL ? by_default(service, &labels, view, err)
                                                  : by_method(service, &labels, p_class, view, err);
    if (status != AMX_OK) {
        return status;
    }
    mean_of(view);
    view->instance_ids = rows->instance_ids;
    view->annotator_ids = rows->annotator_ids;
    rows->instance_ids = rows->annotator_ids = NULL;
    return AMX_OK;
}

enum amx_status crowd_view_make(struct service *service, const struct project_info *project,
                                const struct crowd_ask *ask, struct crowd_view **out, struct amx_error *err)
{
    struct crowd_rows rows;
    float *p_class = NULL;
    struct crowd_view *view = calloc(1, sizeof *view);
    if (view == NULL) {
        return error_set(err, AMX_NO_MEMORY, "Out of memory.");
    }
    view->refs = 1;
    view->project_id = project->id;
    view->method = ask->method;
    view->model = ask->snapshot != NULL ? ask->snapshot->number : 0;
    view->n_classes = project->n_classes;
    enum amx_status status = crowd_rows_read(service, project, &rows, err);
    if (status == AMX_OK && ask->method != NULL) {
        status = check_size(&rows, err);
    }
    if (status == AMX_OK && ask->snapshot != NULL) {
        status = crowd_view_probabilities(service, project, ask->snapshot, &rows, &p_class, err);
    }
    if (status == AMX_OK) {
        status = fill(service, &rows, p_class, view, err);
    }
    crowd_rows_done(&rows);
    free(p_class);
    if (status != AMX_OK) {
        crowd_view_unref(view);
        return status;
    }
    keep(view);
    *out = view;
    return AMX_OK;
}
