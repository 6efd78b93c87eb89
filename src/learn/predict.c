/* predict.c - probabilities for instances and annotators from a model.
 *
 * Rows go in chunks of 96 and pairs (row, annotator) in groups of 16 lanes, so scratch does not grow with the call.
 * Every number of a row or pair comes from a chain of operations that does not depend on the rest of the call
 * (class_predictor.c), so asking for one instance or a thousand gives the same bits.
 *
 * Ensembles: probabilities are means over members. The confusion matrix is the one of the mixture: row k weights
 * member m by its p_m(k given x), so that p_annotation = sum_k p_class[k] p_confusion[k] holds for the ensemble too;
 * the floor EPSILON gives the plain mean where every member excludes class k. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "annotmix.h"
#include "arena.h"
#include "class_predictor.h"
#include "kernels.h"
#include "model.h"
#include "status.h"

enum {
    CHUNK = 96 /* whole tiles of the kernel `layer` at every level */
};
static const float EPSILON = 1e-12f;

struct outputs {
    float *p_class, *p_perf, *p_annotation, *p_confusion;
};

/* Scratch of one call. */
struct call {
    const struct amx_model *model;
    float *x;             /* [CHUNK][Dp] standardised rows */
    float *scratch;       /* class predictor */
    float *p;             /* [CHUNK][C] of one member */
    float *p_sum;         /* [CHUNK][C] over members */
    float *rows;          /* [CHUNK][row width] */
    float *pairs;         /* scratch of the method's pairs() and pair_given() */
    float *given;         /* [C] p_annotation of a pair, from pair_given() */
    int first, step, end; /* members that answer: first, first + step, ... below end */
    float share;          /* 1 / their number */
    double temperature;
    void *memory;
};

/* The pairs of one chunk: pair i is row row[i] (within the chunk), or i / n_cross, and annotator[i] or its cross. */
struct pair_list {
    size_t n;
    const uint32_t *row, *annotator;
    size_t n_cross; /* 0: row and annotator are lists of n; else every row with annotator[0 .. n_cross-1] */
};

/* What the callback of pairs() needs. */
struct group {
    struct call *call;
    struct outputs out; /* of the group's first pair */
    size_t lanes;
    uint32_t row[PANEL];
    bool first;  /* first member: store, do not add */
    float share; /* 1 / members */
};

static void lay_out(struct call *call, size_t rows, struct arena *arena)
{
    const struct amx_model *model = call->model;
    const struct dims *dims = &model->dims;

    call->x = arena_floats(arena, rows, dims->Dp);
    call->scratch = arena_floats(arena, class_predictor_scratch(model->class_predictor[0], rows), 1);
    call->p = arena_floats(arena, rows, dims->C);
    call->p_sum = arena_floats(arena, rows, dims->C);
    call->rows = arena_floats(arena, rows, model->method->row_width(model->predictor[0]));
    call->pairs = arena_floats(arena, model->method->pair_scratch(model->predictor[0]), 1);
    call->given = arena_floats(arena, dims->C, 1);
}

/* All of the ensemble, or the members that never saw a label of the fold. */
static void choose_members(struct call *call, int fold)
{
    const struct amx_model *model = call->model;
    const bool doubled = model->ensemble >= model->folds; /* the ensemble's members are those of the folds */

    call->first = fold == AMX_NO_FOLD ? 0 : doubled ? fold : model->ensemble + fold;
    call->step = fold != AMX_NO_FOLD && doubled ? model->folds : 1;
    call->end = fold != AMX_NO_FOLD && !doubled ? call->first + 1 : model->ensemble;
    call->share = 1.0f / (float)((call->end - call->first + call->step - 1) / call->step);
}

/* Scratch for chunks of `rows` rows: a call for one row must not pay for 96. It is not cleared: pads are never read. */
static enum amx_status call_init(struct call *call, const struct amx_model *model, int fold, size_t rows,
                                 struct amx_error *err)
{
    struct arena arena = {0};

    memset(call, 0, sizeof *call);
    call->model = model;
    call->temperature = fold == AMX_NO_FOLD ? model->temperature : model->fold_temperature;
    choose_members(call, fold);
    lay_out(call, rows, &arena);
    if (arena.used == SIZE_MAX || posix_memalign(&call->memory, 64, arena.used) != 0) {
        call->memory = NULL;
        return amx_fail_memory(err);
    }
    arena = (struct arena){.base = call->memory};
    lay_out(call, rows, &arena);
    return AMX_OK;
}

/* Confusion row k of the group's pairs, P [C][PANEL], of one member. */
static void use_row(void *context, size_t k, const float *P)
{
    struct group *group = context;
    const size_t C = group->call->model->dims.C;

    for (size_t lane = 0; lane < group->lanes; lane++) {
        const float p = group->call->p[group->row[lane] * C + k];
        if (group->out.p_perf != NULL) {
            float *perf = group->out.p_perf + lane;
            *perf = (group->first && k == 0 ? 0.0f : *perf) + group->share * p * P[k * PANEL + lane];
        }
        if (group->out.p_annotation != NULL) {
            float *annotation = group->out.p_annotation + lane * C;
            for (size_t c = 0; c < C; c++)
                annotation[c] =
                    (group->first && k == 0 ? 0.0f : annotation[c]) + group->share * p * P[c * PANEL + lane];
        }
        if (group->out.p_confusion != NULL) {
            float *row = group->out.p_confusion + (lane * C + k) * C;
            const float weight = group->share == 1.0f ? 1.0f : p + EPSILON;
            for (size_t c = 0; c < C; c++)
                row[c] = (group->first ? 0.0f : row[c]) + weight * P[c * PANEL + lane];
        }
    }
}

static struct outputs outputs_at(const struct outputs *out, size_t pair, size_t C)
{
    struct outputs at = {NULL, NULL, NULL, NULL};

    at.p_perf = out->p_perf == NULL ? NULL : out->p_perf + pair;
    at.p_annotation = out->p_annotation == NULL ? NULL : out->p_annotation + pair * C;
    at.p_confusion = out->p_confusion == NULL ? NULL : out->p_confusion + pair * C * C;
    return at;
}

static void pair_at(const struct pair_list *list, size_t i, uint32_t *row, uint32_t *annotator)
{
    *row = list->n_cross > 0 ? (uint32_t)(i / list->n_cross) : list->row[i];
    *annotator = list->annotator[list->n_cross > 0 ? i % list->n_cross : i];
}

/* Methods with an answer of their own: p_perf and p_annotation of the group, of one member. */
static void given_pairs(const struct group *group, const void *predictor, const float *const row[],
                        const uint32_t annotator[])
{
    struct call *call = group->call;
    const size_t C = call->model->dims.C;

    for (size_t lane = 0; lane < group->lanes; lane++) {
        float perf = 0.0f;
        call->model->method->pair_given(predictor, call->p + group->row[lane] * C, row[lane], annotator[lane],
                                        call->pairs, call->given, &perf);
        if (group->out.p_perf != NULL)
            group->out.p_perf[lane] = (group->first ? 0.0f : group->out.p_perf[lane]) + group->share * perf;
        for (size_t c = 0; c < C && group->out.p_annotation != NULL; c++) {
            float *annotation = group->out.p_annotation + lane * C + c;
            *annotation = (group->first ? 0.0f : *annotation) + group->share * call->given[c];
        }
    }
}

/* Outputs of the group from the confusion matrices, and what pair_given() has. */
static void group_pairs(struct group *group, const void *predictor, const float *const row[],
                        const uint32_t annotator[])
{
    const struct amx_method *method = group->call->model->method;

    if (method->pair_given != NULL) {
        if (group->out.p_perf != NULL || group->out.p_annotation != NULL)
            given_pairs(group, predictor, row, annotator);
        group->out.p_perf = group->out.p_annotation = NULL;
    }
    if (group->out.p_perf != NULL || group->out.p_annotation != NULL || group->out.p_confusion != NULL)
        method->pairs(predictor, row, annotator, group->call->pairs, use_row, group);
}

/* All pairs of the chunk for one member; p and u of its rows are ready. */
static void member_pairs(struct call *call, int member, const float *u, size_t n_rows, const struct pair_list *list,
                         const struct outputs *out)
{
    const struct amx_model *model = call->model;
    const struct amx_method *method = model->method;
    const void *predictor = model->predictor[member];
    const size_t width = method->row_width(predictor);
    const int fold = model_member_fold(model->ensemble, model->folds, member);
    const uint64_t *left_out = fold < 0 ? NULL : model->fold_labels + (size_t)fold * model->dims.A;

    method->rows(predictor, u, n_rows, call->rows);
    for (size_t i0 = 0; i0 < list->n; i0 += PANEL) {
        struct group group = {.call = call, .first = member == call->first, .share = call->share};
        const float *row[PANEL];
        uint32_t annotator[PANEL];
        group.out = outputs_at(out, i0, model->dims.C);
        group.lanes = list->n - i0 < PANEL ? list->n - i0 : PANEL;
        for (size_t lane = 0; lane < PANEL; lane++) {
            /* Spare lanes repeat the first pair; nobody reads them. */
            pair_at(list, i0 + (lane < group.lanes ? lane : 0), &group.row[lane], &annotator[lane]);
            row[lane] = call->rows + group.row[lane] * width;
            if (annotator[lane] == AMX_UNSEEN ||
                model->annotator_labels[annotator[lane]] == (left_out != NULL ? left_out[annotator[lane]] : 0))
                annotator[lane] = (uint32_t)model->dims.A;
        }
        group_pairs(&group, predictor, row, annotator);
    }
}

/* Mixture weights of an ensemble's confusion rows sum to p_sum + members EPSILON. */
static void normalise_confusion(const struct call *call, const struct pair_list *list, float *confusion)
{
    const size_t C = call->model->dims.C;
    const float floor = EPSILON / call->share;

    for (size_t i = 0; i < list->n; i++) {
        uint32_t r, a;
        pair_at(list, i, &r, &a);
        for (size_t k = 0; k < C; k++) {
            float factor = 1.0f / (call->p_sum[r * C + k] + floor);
            for (size_t c = 0; c < C; c++)
                confusion[(i * C + k) * C + c] *= factor;
        }
    }
}

/* One chunk: n <= CHUNK rows of raw features, given by row[] (NULL: 0, 1, ...). Outputs start at the chunk's own. */
static enum amx_status predict_chunk(struct call *call, const float *features, size_t first, const uint32_t *row,
                                     size_t n, const struct pair_list *list, const struct outputs *out,
                                     struct amx_error *err)
{
    const struct amx_model *model = call->model;
    const struct dims *dims = &model->dims;
    const struct amx_kernels *kernels = kernels_get();
    const size_t C = dims->C;

    for (size_t i = 0; i < n; i++) {
        size_t index = row != NULL ? row[i] : first + i;
        const float *from = features + index * dims->D;
        if (!kernels->standardise(call->x + i * dims->Dp, from, model->mean, model->scale, dims->D)) {
            size_t j = 0;
            while (isfinite(from[j]))
                j++;
            return amx_fail(err, AMX_INVALID, "", "Feature %zu of row %zu is not a finite number.", j, index);
        }
    }
    for (int m = call->first; m < call->end; m += call->step) {
        const float *u;
        class_predictor_rows(model->class_predictor[m], call->x, n, call->temperature, call->scratch, call->p, &u);
        if (list->n > 0)
            member_pairs(call, m, u, n, list, out);
        if (m == call->first)
            memcpy(call->p_sum, call->p, n * C * sizeof(float));
        else
            for (size_t i = 0; i < n * C; i++)
                call->p_sum[i] += call->p[i];
    }
    if (out->p_confusion != NULL && call->share < 1.0f)
        normalise_confusion(call, list, out->p_confusion);
    if (out->p_class != NULL) {
        for (size_t i = 0; i < n * C; i++)
            out->p_class[i] = call->p_sum[i] * call->share;
    }
    return AMX_OK;
}

static enum amx_status check_annotators(const struct amx_model *model, const uint32_t *annotators, size_t n,
                                        struct amx_error *err)
{
    for (size_t i = 0; i < n; i++) {
        if (annotators[i] != AMX_UNSEEN && annotators[i] >= model->dims.A)
            return amx_fail(err, AMX_INVALID, "", "Annotator %zu of the call is %u; the model has %zu annotators.", i,
                            annotators[i], model->dims.A);
    }
    return AMX_OK;
}

static enum amx_status predict_cross(const struct amx_model *model, int fold, const float *features, size_t n,
                                     const uint32_t *annotators, size_t m, const struct amx_prediction *out,
                                     struct amx_error *err)
{
    const size_t C = model->dims.C;
    struct call call;
    bool with_pairs = m > 0 && (out->p_perf != NULL || out->p_annotation != NULL || out->p_confusion != NULL);
    /* Many annotators: one row at a time keeps n m of a chunk far below any overflow. */
    size_t chunk = m > UINT32_MAX / CHUNK ? 1 : CHUNK;
    enum amx_status status = call_init(&call, model, fold, n < chunk ? n : chunk, err);

    if (status != AMX_OK)
        return status;
    for (size_t i0 = 0; i0 < n && status == AMX_OK; i0 += chunk) {
        size_t rows = n - i0 < chunk ? n - i0 : chunk;
        struct pair_list list = {.n = with_pairs ? rows * m : 0, .annotator = annotators, .n_cross = m};
        struct outputs all = {NULL, out->p_perf, out->p_annotation, out->p_confusion};
        struct outputs at = with_pairs ? outputs_at(&all, i0 * m, C) : (struct outputs){NULL, NULL, NULL, NULL};
        at.p_class = out->p_class == NULL ? NULL : out->p_class + i0 * C;
        status = predict_chunk(&call, features, i0, NULL, rows, &list, &at, err);
    }
    free(call.memory);
    return status;
}

enum amx_status amx_predict(const struct amx_model *model, const float *features, size_t n, const uint32_t *annotators,
                            size_t m, const struct amx_prediction *out, struct amx_error *err)
{
    enum amx_status status = check_annotators(model, annotators, m, err);

    return status != AMX_OK ? status : predict_cross(model, AMX_NO_FOLD, features, n, annotators, m, out, err);
}

/* Collects pairs p0 .. with at most CHUNK runs of equal rows and at most `most` pairs; returns the end. */
static size_t collect(const uint32_t *pair_row, size_t p0, size_t n_pairs, size_t most, uint32_t *distinct,
                      size_t *n_rows, uint32_t *local)
{
    size_t p = p0;

    *n_rows = 0;
    for (; p < n_pairs && p - p0 < most; p++) {
        if (*n_rows == 0 || distinct[*n_rows - 1] != pair_row[p]) {
            if (*n_rows == CHUNK)
                break;
            distinct[(*n_rows)++] = pair_row[p];
        }
        local[p - p0] = (uint32_t)(*n_rows - 1);
    }
    return p;
}

static enum amx_status check_pairs(const struct amx_model *model, int fold, size_t n, const uint32_t *pair_row,
                                   const uint32_t *pair_annotator, size_t n_pairs, struct amx_error *err)
{
    if (fold != AMX_NO_FOLD && (fold < 0 || fold >= model->folds))
        return amx_fail(err, AMX_INVALID, "", "The model has %d folds; there is no fold %d.", model->folds, fold);
    for (size_t i = 0; i < n_pairs; i++) {
        if (pair_row[i] >= n)
            return amx_fail(err, AMX_INVALID, "", "Pair %zu names row %u; there are %zu rows.", i, pair_row[i], n);
    }
    return check_annotators(model, pair_annotator, n_pairs, err);
}

enum amx_status amx_predict_pairs(const struct amx_model *model, int fold, const float *features, size_t n,
                                  const uint32_t *pair_row, const uint32_t *pair_annotator, size_t n_pairs,
                                  const struct amx_pairs_prediction *out, struct amx_error *err)
{
    enum {
        MOST = 16 * CHUNK
    };
    const struct amx_prediction classes = {.p_class = out->p_class};
    const struct outputs all = {NULL, out->p_perf, out->p_annotation, out->p_confusion};
    uint32_t distinct[CHUNK], local[MOST];
    struct call call;
    enum amx_status status = check_pairs(model, fold, n, pair_row, pair_annotator, n_pairs, err);

    if (status == AMX_OK && out->p_class != NULL)
        status = predict_cross(model, fold, features, n, NULL, 0, &classes, err);
    if (status != AMX_OK || n_pairs == 0 ||
        (out->p_perf == NULL && out->p_annotation == NULL && out->p_confusion == NULL))
        return status;
    /* a chunk has at most one row per pair */
    status = call_init(&call, model, fold, n_pairs < CHUNK ? n_pairs : CHUNK, err);
    if (status != AMX_OK)
        return status;
    for (size_t p0 = 0; p0 < n_pairs && status == AMX_OK;) {
        const struct outputs at = outputs_at(&all, p0, model->dims.C);
        size_t n_rows, p1 = collect(pair_row, p0, n_pairs, MOST, distinct, &n_rows, local);
        struct pair_list list = {.n = p1 - p0, .row = local, .annotator = pair_annotator + p0};
        status = predict_chunk(&call, features, 0, distinct, n_rows, &list, &at, err);
        p0 = p1;
    }
    free(call.memory);
    return status;
}
