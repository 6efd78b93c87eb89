/* method.h - what a method has to bring. methods.c is the table; methods/ has one file per method.
 *
 * The fit (fit.c) owns data, epochs, batches, threads, progress and cancelling; the predictor (predict.c) owns the
 * class model, chunks and ensembles. A method says which tensors it has, how they start, what one step does, and how
 * an annotator's confusion matrix is computed for chosen instances. */
#ifndef LEARN_METHOD_H
#define LEARN_METHOD_H

#include "arena.h"
#include "layout.h"
#include "workspace.h"

struct amx_model;
struct class_predictor;

/* What one member trains on: all labelled rows, or those outside its fold. */
struct member_data {
    const struct train_data *data;
    const uint32_t *rows; /* [n_rows] into data, ascending */
    size_t n_rows;
    const float *posterior; /* [data->n_rows][C] over the true class (prior: consensus), or NULL */
    bool clamp_gold;
    const volatile int *cancel; /* as in struct amx_fit_options: for what takes long before the first step; or NULL */
};

static inline bool member_cancelled(const struct member_data *member)
{
    return member->cancel != NULL && __atomic_load_n(member->cancel, __ATOMIC_RELAXED) != 0;
}

struct amx_method {
    struct amx_method_info info;
    /* Settings it reads beside those of the class model, the optimiser and the batches; NULL-terminated. */
    const char *const *own_settings;
    /* Triples of a batch: one per label (false), or one per row (true: methods that train on one target per instance;
     * class1, annotator1 are then 0). */
    bool one_triple_per_row;
    /* What the method refuses before anything is allocated, beyond what holds for all; NULL = nothing. */
    enum amx_status (*check)(const struct amx_data *data, const struct amx_settings *settings, struct amx_error *err);

    /* ---- training ---- */
    /* Adds all tensors, class model included; false when a size does not fit. Pure function of dims. */
    bool (*layout)(struct layout *layout, const struct dims *dims);
    /* Fresh parameters in compact form, those that follow from the labels (matrices, priors) included. AMX_OK,
     * AMX_NO_MEMORY, AMX_NOTHING, AMX_CANCELLED. */
    enum amx_status (*initial)(const struct layout *layout, const struct dims *dims,
                               const struct amx_settings *settings, const struct member_data *member, float *compact,
                               struct rng *rng);
    size_t state_bytes; /* of workspace->state */
    /* Takes the method's scratch from the arena; workspace->state is NULL while counting. */
    void (*lay_out)(struct workspace *workspace, struct arena *arena);
    /* Points the state into the parameter blocks. */
    void (*bind)(struct workspace *workspace);
    /* Before a member's first step, workspace->member set: whatever the steps need beside tensors (targets of each
     * row, zeroed moments of the state's own parameters). NULL = nothing. AMX_OK, AMX_NO_MEMORY, AMX_CANCELLED. */
    enum amx_status (*prepare)(struct workspace *workspace);
    /* Bytes that initial() and prepare() take for a while, beside the workspace; NULL = none worth counting. */
    size_t (*scratch_bytes)(const struct dims *dims);
    /* Draws what the loaded batch needs (mixing). Apart from step(), so that tests can set it instead. */
    void (*draw)(struct workspace *workspace);
    /* One step on the loaded batch, drawn. Returns the mean loss; parameters are only touched if it is finite. */
    double (*step)(struct workspace *workspace, const struct step_rates *rates);

    /* ---- prediction ---- */
    /* Tables of one member, folded and packed from its compact tensors. NULL: out of memory. */
    void *(*predictor_new)(const struct amx_model *model, const float *compact);
    void (*predictor_free)(void *predictor);
    size_t (*predictor_bytes)(const void *predictor);
    /* Floats per instance that pairs() needs, and what it needs from u [n][H padded]. */
    size_t (*row_width)(const void *predictor);
    void (*rows)(const void *predictor, const float *u, size_t n, float *rows);
    /* Floats of scratch for pairs(). */
    size_t (*pair_scratch)(const void *predictor);
    /* Confusion matrices of PANEL pairs, true class by true class: for each k, `use` gets P [C][PANEL] of that row. */
    void (*pairs)(const void *predictor, const float *const row[], const uint32_t annotator[], float *scratch,
                  void (*use)(void *context, size_t k, const float *p), void *context);
    /* NULL: the label an annotator would give follows from the confusion matrix, p_annotation_c = sum_k p_k P_kc and
     * p_perf = sum_k p_k P_kk. Else the method's own for one pair: p [C] class probabilities, row and annotator as in
     * pairs(), p_annotation [C] and p_perf [1] out. */
    void (*pair_given)(const void *predictor, const float *p, const float *row, uint32_t annotator, float *scratch,
                       float *p_annotation, float *p_perf);
};

/* The method of that name; NULL = the default. NULL result: unknown. */
const struct amx_method *method_find(const char *name);

#endif
