/* crowd_view.c - see crowd_view.h.
 *
 * Agreement: of the other labels on the same instance, the share that is this annotator's class, averaged over its
 * labels that have company. It asks nothing of the data and cannot fail; Dawid-Skene takes over from two labels per
 * instance on. Limits keep one question from eating the machine: beyond MAX_CELLS numbers in the posterior or the
 * confusion matrices the view falls back to agreement.
 */
#include "endpoints/crowd_view.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "crowd/dawid_skene.h"
#include "store/labels.h"
#include "store/projects.h"
#include "store/store.h"
#include "util/error.h"
#include "util/size.h"

enum { KEPT = 8 };
#define MAX_CELLS ((size_t)20000000)
#define MAX_CONFUSION_CELLS ((size_t)16000000)

/* ---- the few that are kept
 * ------------------------------------------------------------------------------------------- */

static pthread_mutex_t kept_mu = PTHREAD_MUTEX_INITIALIZER;
static struct crowd_view *kept[KEPT]; /* newest first; guarded by kept_mu; at most one of a project */

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

struct crowd_view *crowd_view_get(int64_t project_id, int64_t label_seq)
{
    struct crowd_view *found = NULL;
    (void)pthread_mutex_lock(&kept_mu);
    for (size_t i = 0; i < KEPT && found == NULL; i++) {
        if (kept[i] != NULL && kept[i]->project_id == project_id && kept[i]->label_seq == label_seq) {
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
    while (at < KEPT - 1 && kept[at] != NULL && kept[at]->project_id != view->project_id) {
        at++;
    }
    dropped = kept[at];
    memmove(&kept[1], &kept[0], at * sizeof kept[0]);
    kept[0] = view_ref(view);
    (void)pthread_mutex_unlock(&kept_mu);
    crowd_view_unref(dropped);
}

/* ---- reading
 * --------------------------------------------------------------------------------------------------------- */

struct reading {
    struct label_cell *cells;
    size_t n, room;
    size_t n_classes; /* a class appended since the project was looked up is left out */
};

static enum amx_status take_cell(void *context, const struct label_cell *cell)
{
    struct reading *r = context;
    if (cell->class_index == LABEL_SKIPPED || (size_t)cell->class_index >= r->n_classes) {
        return AMX_OK;
    }
    if (r->n == r->room) {
        size_t room = r->room > 0 ? r->room : 1024, bytes;
        if ((r->room > 0 && !size_mul(&room, room, 2)) || !size_mul(&bytes, room, sizeof *r->cells)) {
            return AMX_NO_MEMORY;
        }
        struct label_cell *moved = realloc(r->cells, bytes);
        if (moved == NULL) {
            return AMX_NO_MEMORY;
        }
        r->cells = moved;
        r->room = room;
    }
    r->cells[r->n++] = *cell;
    return AMX_OK;
}

/* All current labels with a class, and the number they are as of, in one view of the database. */
static enum amx_status read_labels(struct service *service, int64_t project_id, struct reading *r, int64_t *label_seq,
                                   struct amx_error *err)
{
    struct db *db;
    struct project_row row;
    enum amx_status status = store_reader_get(service->store, &db, err);
    if (status != AMX_OK) {
        return status;
    }
    status = db_begin_read(db, err);
    if (status == AMX_OK) {
        status = projects_get(db, project_id, &row, err);
    }
    if (status == AMX_OK) {
        *label_seq = row.label_seq;
        project_row_done(&row);
        status = labels_cells(db, project_id, 1, INT64_MAX, take_cell, r, err);
    }
    store_reader_put(service->store, db);
    return status;
}

static int by_number(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static size_t find_id(const int64_t *ids, size_t n, int64_t id)
{
    const int64_t *at = n == 0 ? NULL : bsearch(&id, ids, n, sizeof *ids, by_number);
    return at == NULL ? SIZE_MAX : (size_t)(at - ids);
}

size_t crowd_view_instance(const struct crowd_view *view, int64_t id)
{
    return find_id(view->instance_ids, view->n_instances, id);
}

size_t crowd_view_annotator(const struct crowd_view *view, int64_t id)
{
    return find_id(view->annotator_ids, view->n_annotators, id);
}

static size_t distinct(int64_t *ids, size_t n)
{
    size_t kept_n = 0;
    for (size_t i = 0; i < n; i++) {
        if (i == 0 || ids[i] != ids[kept_n - 1]) {
            ids[kept_n++] = ids[i];
        }
    }
    return kept_n;
}

/* Dense positions for the ids of the cells, which come by (instance, annotator). */
struct dense {
    uint32_t *instance, *annotator, *class_;
};

static void *array(size_t n, size_t item)
{
    size_t bytes;
    return size_mul(&bytes, n > 0 ? n : 1, item) ? calloc(1, bytes) : NULL;
}

static bool make_dense(const struct reading *r, struct crowd_view *view, struct dense *d)
{
    d->instance = array(r->n, sizeof *d->instance);
    d->annotator = array(r->n, sizeof *d->annotator);
    d->class_ = array(r->n, sizeof *d->class_);
    view->instance_ids = array(r->n, sizeof *view->instance_ids);
    view->annotator_ids = array(r->n, sizeof *view->annotator_ids);
    if (d->instance == NULL || d->annotator == NULL || d->class_ == NULL || view->instance_ids == NULL ||
        view->annotator_ids == NULL) {
        return false;
    }
    for (size_t i = 0; i < r->n; i++) {
        view->instance_ids[i] = r->cells[i].instance_id;
        view->annotator_ids[i] = r->cells[i].annotator_id;
    }
    qsort(view->annotator_ids, r->n, sizeof *view->annotator_ids, by_number);
    view->n_instances = distinct(view->instance_ids, r->n);
    view->n_annotators = distinct(view->annotator_ids, r->n);
    uint32_t instance = 0;
    for (size_t i = 0; i < r->n; i++) {
        instance += i > 0 && r->cells[i].instance_id != r->cells[i - 1].instance_id;
        d->instance[i] = instance;
        d->annotator[i] = (uint32_t)crowd_view_annotator(view, r->cells[i].annotator_id);
        d->class_[i] = (uint32_t)r->cells[i].class_index;
    }
    view->reliability = array(view->n_annotators, sizeof *view->reliability);
    view->labels = array(view->n_annotators, sizeof *view->labels);
    return view->reliability != NULL && view->labels != NULL;
}

/* ---- computing
 * ------------------------------------------------------------------------------------------------------- */

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

static enum amx_status run_dawid_skene(const struct crowd_labels *l, struct crowd_view *view)
{
    size_t cells, row, confusion_cells;
    if (!size_mul(&cells, l->n_instances, l->n_classes) || !size_mul(&row, l->n_annotators, l->n_classes) ||
        !size_mul(&confusion_cells, row, l->n_classes) || cells > MAX_CELLS || confusion_cells > MAX_CONFUSION_CELLS) {
        return AMX_TOO_LARGE;
    }
    double *posterior = array(cells, sizeof *posterior), *confusion = array(confusion_cells, sizeof *confusion);
    view->posterior = array(cells, sizeof *view->posterior);
    view->confusion = array(confusion_cells, sizeof *view->confusion);
    enum amx_status status = AMX_NO_MEMORY;
    if (posterior != NULL && confusion != NULL && view->posterior != NULL && view->confusion != NULL) {
        status = dawid_skene(l, DAWID_SKENE_ROUNDS, DAWID_SKENE_TOLERANCE, posterior, confusion, NULL, NULL);
    }
    if (status == AMX_OK) {
        status = dawid_skene_reliability(l, posterior, view->reliability);
    }
    if (status == AMX_OK) {
        for (size_t i = 0; i < cells; i++) {
            view->posterior[i] = (float)posterior[i];
        }
        for (size_t i = 0; i < confusion_cells; i++) {
            view->confusion[i] = (float)confusion[i];
        }
        view->has_dawid_skene = true;
    }
    free(posterior);
    free(confusion);
    return status;
}

static enum amx_status compute(const struct crowd_labels *l, struct crowd_view *view)
{
    enum amx_status status = AMX_TOO_LARGE;
    for (size_t i = 0; i < l->n_labels; i++) {
        view->labels[l->annotator[i]]++;
    }
    if (l->n_labels > 0 && l->n_labels / 2 >= l->n_instances) {
        status = run_dawid_skene(l, view);
    }
    if (status == AMX_TOO_LARGE) {
        uint64_t *counted = array(l->n_annotators, sizeof *counted);
        if (counted == NULL) {
            return AMX_NO_MEMORY;
        }
        agreement(l, view, counted);
        free(counted);
        status = AMX_OK;
    }
    double sum = 0, weight = 0;
    for (size_t a = 0; a < l->n_annotators; a++) {
        if (isfinite(view->reliability[a])) {
            sum += view->reliability[a] * (double)view->labels[a];
            weight += (double)view->labels[a];
        }
    }
    view->mean_reliability = weight > 0 ? sum / weight : (double)NAN;
    return status;
}

enum amx_status crowd_view_make(struct service *service, const struct project_info *project, struct crowd_view **out,
                                struct amx_error *err)
{
    struct reading r = {.n_classes = project->n_classes};
    struct dense d = {0};
    struct crowd_view *view = calloc(1, sizeof *view);
    enum amx_status status = AMX_NO_MEMORY;
    if (view == NULL) {
        return error_set(err, AMX_NO_MEMORY, "Out of memory.");
    }
    view->refs = 1;
    view->project_id = project->id;
    view->n_classes = project->n_classes;
    status = read_labels(service, project->id, &r, &view->label_seq, err);
    if (status == AMX_OK) {
        status = make_dense(&r, view, &d) ? AMX_OK : error_set(err, AMX_NO_MEMORY, "Out of memory.");
    }
    if (status == AMX_OK) {
        struct crowd_labels labels = {.n_instances = view->n_instances,
                                      .n_annotators = view->n_annotators,
                                      .n_classes = view->n_classes,
                                      .n_labels = r.n,
                                      .instance = d.instance,
                                      .annotator = d.annotator,
                                      .class_ = d.class_};
        status = compute(&labels, view);
        if (status != AMX_OK) {
            (void)error_set(err, status, "The labels could not be evaluated: %s.", amx_status_text(status));
        }
    }
    free(r.cells);
    free(d.instance);
    free(d.annotator);
    free(d.class_);
    if (status != AMX_OK) {
        crowd_view_unref(view);
        return status;
    }
    keep(view);
    *out = view;
    return AMX_OK;
}
