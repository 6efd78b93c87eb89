/* folded.c - rows sorted apart by fold, predicted fold by fold, put back in their places.
 *
 * The learner answers for one fold at a time, because a fold is a choice of members. A page of instances has rows of
 * every fold; here they are gathered, so that each member's tables are visited once. */
#include "crowd/folded.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "learn/status.h"

/* The rows and pairs of one fold. */
struct part {
    size_t n_rows, n_pairs;
    uint32_t *row;                                        /* [n] position in the caller's rows */
    uint32_t *place;                                      /* [n] and back */
    uint32_t *pair;                                       /* [n_pairs] position in the caller's pairs */
    uint32_t *pair_row, *pair_annotator;                  /* [n_pairs] */
    float *features;                                      /* [n][D] */
    float *p_class, *p_perf, *p_annotation, *p_confusion; /* NULL when not asked for */
};

static void part_done(struct part *p)
{
    free(p->row);
    free(p->place);
    free(p->pair);
    free(p->pair_row);
    free(p->pair_annotator);
    free(p->features);
    free(p->p_class);
    free(p->p_perf);
    free(p->p_annotation);
    free(p->p_confusion);
}

/* [n][width] numbers of `size` bytes, one more so that nothing is never NULL; wanted false: stays NULL and is fine. */
static bool take(void *to, bool wanted, size_t n, size_t width, size_t size)
{
    size_t bytes;
    void *memory;

    if (!wanted)
        return true;
    if (!amx_size_mul(&bytes, n, width) || !amx_size_mul(&bytes, bytes, size) || bytes > SIZE_MAX - size)
        return false;
    memory = malloc(bytes + size);
    memcpy(to, &memory, sizeof memory);
    return memory != NULL;
}

static bool part_init(struct part *p, const struct amx_pairs_prediction *out, size_t n, size_t n_pairs, size_t D,
                      size_t C)
{
    memset(p, 0, sizeof *p);
    return take(&p->row, true, n, 1, sizeof *p->row) && take(&p->place, true, n, 1, sizeof *p->place) &&
           take(&p->pair, true, n_pairs, 1, sizeof *p->pair) &&
           take(&p->pair_row, true, n_pairs, 1, sizeof *p->pair_row) &&
           take(&p->pair_annotator, true, n_pairs, 1, sizeof *p->pair_annotator) &&
           take(&p->features, true, n, D, sizeof *p->features) &&
           take(&p->p_class, out->p_class != NULL, n, C, sizeof *p->p_class) &&
           take(&p->p_perf, out->p_perf != NULL, n_pairs, 1, sizeof *p->p_perf) &&
           take(&p->p_annotation, out->p_annotation != NULL, n_pairs, C, sizeof *p->p_annotation) &&
           take(&p->p_confusion, out->p_confusion != NULL, n_pairs, C * C, sizeof *p->p_confusion);
}

static void scatter(float *to, const float *from, const uint32_t *at, size_t n, size_t width)
{
    for (size_t i = 0; to != NULL && i < n; i++)
        memcpy(to + (size_t)at[i] * width, from + i * width, width * sizeof *to);
}

static bool all_same(const int *fold, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        if (fold[i] != fold[0])
            return false;
    }
    return true;
}

static bool all_known(const int *fold, size_t n, int folds)
{
    for (size_t i = 0; i < n; i++) {
        if (fold[i] != AMX_NO_FOLD && (fold[i] < 0 || fold[i] >= folds))
            return false;
    }
    return true;
}

/* Rows and pairs of fold f, side by side. */
static void gather(struct part *p, int f, const int *fold, const float *features, size_t n, size_t D,
                   const uint32_t *pair_row, const uint32_t *pair_annotator, size_t n_pairs)
{
    p->n_rows = p->n_pairs = 0;
    for (size_t i = 0; i < n; i++) {
        if (fold[i] == f) {
            memcpy(p->features + p->n_rows * D, features + i * D, D * sizeof *features);
            p->place[i] = (uint32_t)p->n_rows;
            p->row[p->n_rows++] = (uint32_t)i;
        }
    }
    for (size_t j = 0; j < n_pairs; j++) {
        if (fold[pair_row[j]] == f) {
            p->pair_row[p->n_pairs] = p->place[pair_row[j]];
            p->pair_annotator[p->n_pairs] = pair_annotator[j];
            p->pair[p->n_pairs++] = (uint32_t)j;
        }
    }
}

enum amx_status folded_predict_pairs(const struct amx_model *model, const int *fold, const float *features, size_t n,
                                     const uint32_t *pair_row, const uint32_t *pair_annotator, size_t n_pairs,
                                     const struct amx_pairs_prediction *out, struct amx_error *err)
{
    struct amx_model_info info;
    struct part p;
    enum amx_status status = AMX_OK;

    if (fold == NULL || all_same(fold, n))
        return amx_predict_pairs(model, fold == NULL || n == 0 ? AMX_NO_FOLD : fold[0], features, n, pair_row,
                                 pair_annotator, n_pairs, out, err);
    amx_model_info(model, &info);
    if (!all_known(fold, n, info.folds))
        return amx_fail(err, AMX_INVALID, "", "a row has a fold that the model has not; it has %d", info.folds);
    if (!part_init(&p, out, n, n_pairs, info.n_features, info.n_classes)) {
        part_done(&p);
        return amx_fail_memory(err);
    }
    for (int f = AMX_NO_FOLD; f < info.folds && status == AMX_OK; f++) {
        const struct amx_pairs_prediction wanted = {p.p_class, p.p_perf, p.p_annotation, p.p_confusion};
        const size_t D = info.n_features, C = info.n_classes;

        gather(&p, f, fold, features, n, D, pair_row, pair_annotator, n_pairs);
        if (p.n_rows == 0)
            continue;
        status =
            amx_predict_pairs(model, f, p.features, p.n_rows, p.pair_row, p.pair_annotator, p.n_pairs, &wanted, err);
        if (status != AMX_OK)
            break;
        scatter(out->p_class, p.p_class, p.row, p.n_rows, C);
        scatter(out->p_perf, p.p_perf, p.pair, p.n_pairs, 1);
        scatter(out->p_annotation, p.p_annotation, p.pair, p.n_pairs, C);
        scatter(out->p_confusion, p.p_confusion, p.pair, p.n_pairs, C * C);
    }
    part_done(&p);
    return status;
}
