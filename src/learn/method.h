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

struct amx_method {
    const char *name;

    /* ---- training ---- */
    /* Adds all tensors, class model included; false when a size does not fit. Pure function of dims. */
    bool (*layout)(struct layout *layout, const struct dims *dims);
    /* Fresh parameters in compact form. */
    void (*initial)(const struct layout *layout, const struct dims *dims, const struct amx_settings *settings,
                    float *compact, struct rng *rng);
    size_t state_bytes; /* of workspace->state */
    /* Takes the method's scratch from the arena; workspace->state is NULL while counting. */
    void (*lay_out)(struct workspace *workspace, struct arena *arena);
    /* Points the state into the parameter blocks. */
    void (*bind)(struct workspace *workspace);
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
};

/* The method of that name; NULL = the default. NULL result: unknown. */
const struct amx_method *method_find(const char *name);

#endif
