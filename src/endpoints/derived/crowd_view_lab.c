/* crowd_view_lab.c - what crowdlab needs beside the labels: for every labelled instance with features, p(k | x) by the
 * members of the active model that never saw its labels.
 *
 * Instances are read block by block in short reads, so that no read holds the database open while a model computes. One
 * that was deleted or got its features meanwhile is as it was when its block was read. */
#include <stdlib.h>
#include <string.h>

#include "crowd/folded.h"
#include "endpoints/derived/consensus_items.h"
#include "endpoints/derived/crowd_view.h"
#include "store/store.h"
#include "util/error.h"
#include "util/size.h"

/* Where the walk over the instances stands. */
struct walk {
    struct service *service;
    const struct project_info *project;
    const struct model_snapshot *snapshot;
    struct crowd_rows *rows;
    struct instance_batch batch;
    size_t at;      /* position in the rows' instances: all before it are done */
    size_t n_kept;  /* of these, with features */
    bool *keep;     /* [n_instances] */
    float *p_class; /* [n_kept][C of the project], closed up */
    float *p_block; /* [block][C of the model] */
    int *fold;      /* [block] */
    size_t block;
};

static enum amx_status read_block(struct walk *w, int64_t *after, bool *more, struct amx_error *err)
{
    static const struct instance_filter labelled = {SPLIT_KEEP, 1, -1, -1};
    struct db *db;
    enum amx_status status = store_reader_get(w->service->store, &db, err);
    if (status != AMX_OK) {
        return status;
    }
    instance_batch_clear(&w->batch);
    status = db_begin_read(db, err);
    if (status == AMX_OK) {
        status = instance_batch_read(db, w->project->id, &labelled, after, w->block, &w->batch, more, err);
    }
    store_reader_put(w->service->store, db);
    return status;
}

/* The probabilities of one row go to their place: classes the model does not know have none. */
static void put(struct walk *w, const float *p)
{
    size_t n = w->snapshot->info.n_classes, all = w->rows->n_classes;
    float *to = w->p_class + w->n_kept * all;
    memset(to, 0, all * sizeof *to);
    memcpy(to, p, (n < all ? n : all) * sizeof *to);
    w->n_kept++;
}

/* Both lists are by id: rows of the batch that carry labels with a class, and have features. */
static enum amx_status use_block(struct walk *w, struct amx_error *err)
{
    const struct amx_pairs_prediction out = {.p_class = w->p_block};
    size_t n_classes = w->snapshot->info.n_classes;
    for (size_t i = 0; i < w->batch.n; i++) {
        w->fold[i] = consensus_fold(w->snapshot, &w->batch, i);
    }
    enum amx_status status =
        folded_predict_pairs(w->snapshot->model, w->fold, w->batch.features, w->batch.n, NULL, NULL, 0, &out, err);
    for (size_t i = 0; status == AMX_OK && i < w->batch.n; i++) {
        const struct batch_instance *row = &w->batch.rows[i];
        while (w->at < w->rows->n_instances && w->rows->instance_ids[w->at] < row->id) {
            w->at++;
        }
        if (w->at < w->rows->n_instances && w->rows->instance_ids[w->at] == row->id && row->has_features) {
            w->keep[w->at] = true;
            put(w, w->p_block + i * n_classes);
        }
    }
    return status;
}

static enum amx_status walk_all(struct walk *w, struct amx_error *err)
{
    enum amx_status status = AMX_OK;
    int64_t after = 0;
    bool more = true;
    while (status == AMX_OK && more) {
        if (__atomic_load_n(&w->service->stopping, __ATOMIC_RELAXED) != 0) {
            return error_set(err, AMX_CANCELLED, "The service is stopping.");
        }
        status = read_block(w, &after, &more, err);
        if (status == AMX_OK) {
            status = use_block(w, err);
        }
    }
    return status;
}

enum amx_status crowd_view_probabilities(struct service *service, const struct project_info *project,
                                         const struct model_snapshot *snapshot, struct crowd_rows *rows,
                                         float **p_class, struct amx_error *err)
{
    struct walk w = {.service = service, .project = project, .snapshot = snapshot, .rows = rows};
    size_t cells, block_cells, bytes, n = rows->n_instances;
    w.block = instance_batch_size(project->feature_dim, 1);
    instance_batch_init(&w.batch, project->feature_dim);
    enum amx_status status = error_set(err, AMX_NO_MEMORY, "Out of memory.");
    if (size_mul(&cells, n + 1, rows->n_classes) && size_mul(&bytes, cells, sizeof *w.p_class) &&
        size_mul(&block_cells, w.block, snapshot->info.n_classes)) {
        w.p_class = malloc(bytes);
        w.keep = calloc(n + 1, sizeof *w.keep);
        w.p_block = calloc(block_cells, sizeof *w.p_block);
        w.fold = calloc(w.block, sizeof *w.fold);
        if (w.p_class != NULL && w.keep != NULL && w.p_block != NULL && w.fold != NULL) {
            status = walk_all(&w, err);
        }
    }
    if (status == AMX_OK) {
        crowd_rows_only(rows, w.keep);
        *p_class = w.p_class;
        w.p_class = NULL;
    }
    instance_batch_done(&w.batch);
    free(w.p_class);
    free(w.keep);
    free(w.p_block);
    free(w.fold);
    return status;
}
