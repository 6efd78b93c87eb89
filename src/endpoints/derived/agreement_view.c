/* agreement_view.c - see agreement_view.h. */
#include "endpoints/derived/agreement_view.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "store/annotators.h"
#include "store/store.h"
#include "util/error.h"
#include "util/size.h"

enum {
    KEPT = 4,
    NAMES_AT_ONCE = 5000
};
#define NO_NAME SIZE_MAX
#define NO_RANK UINT32_MAX

/* ---- the few that are kept
 * ------------------------------------------------------------------------------------------- */

static pthread_mutex_t kept_mu = PTHREAD_MUTEX_INITIALIZER;
static struct agreement_view *kept[KEPT]; /* newest first; guarded by kept_mu; at most one of a project */

static struct agreement_view *view_ref(struct agreement_view *view)
{
    (void)__atomic_add_fetch(&view->refs, 1, __ATOMIC_RELAXED);
    return view;
}

void agreement_view_unref(struct agreement_view *view)
{
    if (view == NULL || __atomic_sub_fetch(&view->refs, 1, __ATOMIC_ACQ_REL) > 0) {
        return;
    }
    crowd_rows_done(&view->rows);
    buf_done(&view->names);
    free(view->name);
    free(view);
}

struct agreement_view *agreement_view_get(int64_t project_id, int64_t label_seq)
{
    struct agreement_view *found = NULL;
    (void)pthread_mutex_lock(&kept_mu);
    for (size_t i = 0; i < KEPT && found == NULL; i++) {
        if (kept[i] != NULL && kept[i]->project_id == project_id && kept[i]->rows.label_seq == label_seq) {
            found = view_ref(kept[i]);
        }
    }
    (void)pthread_mutex_unlock(&kept_mu);
    return found;
}

static void keep(struct agreement_view *view)
{
    (void)pthread_mutex_lock(&kept_mu);
    size_t at = 0;
    while (at < KEPT - 1 && kept[at] != NULL && kept[at]->project_id != view->project_id) {
        at++;
    }
    struct agreement_view *dropped = kept[at];
    memmove(&kept[1], &kept[0], at * sizeof kept[0]);
    kept[0] = view_ref(view);
    (void)pthread_mutex_unlock(&kept_mu);
    agreement_view_unref(dropped);
}

/* ---- names
 * ----------------------------------------------------------------------------------------------------------- */

struct naming {
    struct agreement_view *view;
    int64_t last;
};

static enum amx_status take_name(void *context, const struct annotator_row *row)
{
    struct naming *n = context;
    struct agreement_view *view = n->view;
    size_t at = crowd_rows_find(view->rows.annotator_ids, view->rows.n_annotators, row->id);
    n->last = row->id;
    if (at == SIZE_MAX) {
        return AMX_OK; /* without labels */
    }
    view->name[at] = view->names.n;
    (void)buf_append(&view->names, row->name.bytes, row->name.n);
    return buf_char(&view->names, '\0');
}

/* By position, as the rows have it so far; NO_NAME: deleted since the labels were read. */
static enum amx_status read_names(struct service *service, struct agreement_view *view, struct amx_error *err)
{
    struct db *db;
    struct naming naming = {.view = view};
    bool more = view->rows.n_annotators > 0;
    enum amx_status status = store_reader_get(service->store, &db, err);
    if (status != AMX_OK) {
        return status;
    }
    status = db_begin_read(db, err);
    for (size_t i = 0; i < view->rows.n_annotators; i++) {
        view->name[i] = NO_NAME;
    }
    while (status == AMX_OK && more) {
        status = annotators_list(db, view->project_id, naming.last, NAMES_AT_ONCE, take_name, &naming, &more, err);
    }
    store_reader_put(service->store, db);
    return status;
}

struct ranked {
    const char *name;
    size_t position;
};

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct ranked *)a)->name, ((const struct ranked *)b)->name);
}

/* Labels whose annotator has no rank are dropped. */
static void renumber(struct crowd_rows *rows, const uint32_t *rank)
{
    size_t n = 0;
    for (size_t l = 0; l < rows->n_labels; l++) {
        if (rank[rows->annotator[l]] != NO_RANK) {
            rows->instance[n] = rows->instance[l];
            rows->class_[n] = rows->class_[l];
            rows->annotator[n++] = rank[rows->annotator[l]];
        }
    }
    rows->n_labels = n;
}

/* Positions -> ranks of names, in all of the view. */
static enum amx_status sort_by_name(struct agreement_view *view, struct amx_error *err)
{
    struct crowd_rows *rows = &view->rows;
    size_t n = 0, all = rows->n_annotators;
    struct ranked *sorted = calloc(all + 1, sizeof *sorted);
    uint32_t *rank = calloc(all + 1, sizeof *rank);
    int64_t *ids = calloc(all + 1, sizeof *ids);
    size_t *name = calloc(all + 1, sizeof *name);
    if (sorted == NULL || rank == NULL || ids == NULL || name == NULL) {
        free(sorted);
        free(rank);
        free(ids);
        free(name);
        return error_set(err, AMX_NO_MEMORY, "Out of memory.");
    }
    for (size_t i = 0; i < all; i++) {
        rank[i] = NO_RANK;
        if (view->name[i] != NO_NAME) {
            sorted[n++] = (struct ranked){view->names.bytes + view->name[i], i};
        }
    }
    qsort(sorted, n, sizeof *sorted, by_name);
    for (size_t r = 0; r < n; r++) {
        rank[sorted[r].position] = (uint32_t)r;
        ids[r] = rows->annotator_ids[sorted[r].position];
        name[r] = view->name[sorted[r].position];
    }
    renumber(rows, rank);
    free(sorted);
    free(rank);
    free(rows->annotator_ids);
    free(view->name);
    rows->annotator_ids = ids;
    rows->n_annotators = n;
    view->name = name;
    return AMX_OK;
}

const char *agreement_view_name(const struct agreement_view *view, uint32_t rank)
{
    return view->names.bytes + view->name[rank];
}

size_t agreement_view_rank(const struct agreement_view *view, int64_t annotator_id)
{
    for (size_t r = 0; r < view->rows.n_annotators; r++) {
        if (view->rows.annotator_ids[r] == annotator_id) {
            return r;
        }
    }
    return SIZE_MAX;
}

/* ---- making
 * ---------------------------------------------------------------------------------------------------------- */

static enum amx_status make(struct service *service, const struct project_info *project, struct agreement_view *view,
                            struct amx_error *err)
{
    enum amx_status status = crowd_rows_read(service, project, &view->rows, err);
    if (status != AMX_OK) {
        return status;
    }
    view->name = calloc(view->rows.n_annotators + 1, sizeof *view->name);
    if (view->name == NULL) {
        return error_set(err, AMX_NO_MEMORY, "Out of memory.");
    }
    status = read_names(service, view, err);
    if (status == AMX_OK) {
        status = sort_by_name(view, err);
    }
    if (status != AMX_OK) {
        return status;
    }
    const struct crowd_labels labels = crowd_rows_labels(&view->rows);
    view->work = agreement_work(&labels);
    status = agreement_of(&labels, &view->figures);
    return status == AMX_OK ? AMX_OK : error_set(err, status, "Out of memory.");
}

enum amx_status agreement_view_make(struct service *service, const struct project_info *project,
                                    struct agreement_view **out, struct amx_error *err)
{
    struct agreement_view *view = calloc(1, sizeof *view);
    if (view == NULL) {
        return error_set(err, AMX_NO_MEMORY, "Out of memory.");
    }
    view->refs = 1;
    view->project_id = project->id;
    buf_init(&view->names, SIZE_MAX / 2);
    enum amx_status status = make(service, project, view, err);
    if (status != AMX_OK) {
        agreement_view_unref(view);
        return status;
    }
    keep(view);
    *out = view;
    return AMX_OK;
}

/* ---- pairs
 * ----------------------------------------------------------------------------------------------------------- */

struct collecting {
    uint32_t a, b; /* after these */
    bool from_first;
    size_t limit, n;
    struct agreement_pair *out;
};

static enum amx_status collect(void *context, const struct agreement_pair *pair)
{
    struct collecting *c = context;
    if (!c->from_first && pair->a == c->a && pair->b <= c->b) {
        return AMX_OK;
    }
    if (c->n == c->limit) {
        return AMX_CANCELLED;
    }
    c->out[c->n++] = *pair;
    return AMX_OK;
}

enum amx_status agreement_view_pairs(const struct agreement_view *view, uint32_t a, uint32_t b, size_t limit,
                                     struct agreement_pair *out, size_t *n)
{
    const struct crowd_labels labels = crowd_rows_labels(&view->rows);
    struct collecting c = {.a = a, .b = b, .from_first = a == 0 && b == 0, .limit = limit, .out = out};
    enum amx_status status = agreement_pairs(&labels, a, collect, &c);
    if (status != AMX_OK && status != AMX_CANCELLED) {
        return status;
    }
    *n = c.n;
    return AMX_OK;
}
