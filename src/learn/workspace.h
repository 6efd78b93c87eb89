/* workspace.h - the whole state of training one member: one allocation, sized by one function. */
#ifndef LEARN_WORKSPACE_H
#define LEARN_WORKSPACE_H

#include "batch.h"
#include "class_model.h"
#include "layout.h"
#include "radam.h"

struct amx_method;
struct crew;
struct member_data;

/* Rates of one step; the same for all batches of an epoch. */
struct step_rates {
    double learning_rate, annotator_learning_rate;
};

struct workspace {
    const struct amx_method *method;
    const struct member_data *member; /* rows it trains on; set before method->prepare, NULL in tests without */
    const struct amx_settings *settings;
    const struct layout *layout;
    struct dims dims;
    const struct amx_kernels *kernels;
    float *parameters;        /* [group_start[N_GROUPS]] */
    float *gradients;         /* [group_start[GROUP_STREAMED]] */
    float *moment1, *moment2; /* [group_start[GROUP_FIXED]] */
    struct batch batch;
    uint32_t *order;  /* [n_rows] rows in the order of this epoch */
    void *state;      /* the method's own, laid out by it */
    uint64_t n_steps; /* finished optimiser steps */
    struct crew *crew; /* a helper lent by the fit; NULL = none */
    struct rng shuffle, lambda, partner;
    struct rng_lanes annotator_dropout, class_dropout[AMX_MAX_HIDDEN];
    /* Hooks of the golden tests; NULL in every fit. */
    const struct forced_masks *forced;
    float *out_gradient; /* [C C][Ep] */
    void *memory;        /* the one allocation */
};

/* Bytes of a workspace, SIZE_MAX when they do not fit. dims as workspace_dims left them. */
size_t workspace_bytes(const struct amx_method *method, const struct layout *layout, const struct dims *dims,
                       const struct amx_settings *settings, size_t n_rows);
/* Sets B and T of dims (and their padded forms), N and Z. max_labels bounds a batch, n_labels is all of them. */
void workspace_dims(struct dims *dims, const struct amx_method *method, size_t batch_size, size_t n_rows,
                    size_t max_labels, size_t n_labels);
/* layout and settings are borrowed until workspace_done. */
enum amx_status workspace_init(struct workspace *workspace, const struct amx_method *method,
                               const struct layout *layout, const struct dims *dims,
                               const struct amx_settings *settings, size_t n_rows);
/* Streams of (seed, member) at their starts, order 0, 1, ... n_rows - 1 (or workspace->member's rows when it is set),
 * no steps, moments 0. */
void workspace_seed(struct workspace *workspace, uint64_t seed, uint32_t member, size_t n_rows);
void workspace_done(struct workspace *workspace);
/* One RAdam pass over groups CLASS and ANNOTATOR with the scalars given. */
void workspace_update(struct workspace *workspace, const struct radam_step *classes,
                      const struct radam_step *annotators);

#endif
