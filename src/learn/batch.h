/* batch.h - training data as the fit keeps it, and one mini-batch of it. */
#ifndef LEARN_BATCH_H
#define LEARN_BATCH_H

#include "arena.h"
#include "kernels.h"
#include "layout.h"
#include "rng.h"

/* Labelled instances only (for methods that need gold: those with gold), in the caller's order; shared read-only by all
 * members, whatever rows they train on. */
struct train_data {
    size_t n_rows, n_labels;
    size_t D, Dp, C, A;
    const float *features;             /* [instances][D] as they came, borrowed from the caller */
    size_t *begin;                     /* [n_rows + 1] first label of each row */
    const uint32_t *annotator, *label; /* [n_labels], borrowed from the caller unless `own` holds them */
    uint32_t *own;
    uint32_t *instance;         /* [n_rows] the caller's instance */
    int32_t *gold;              /* [n_rows] trusted class or -1; NULL = none */
    const float *history;       /* [A][C][C] imported confusion counts, borrowed, or NULL */
    float *mean, *scale;        /* [D]; 0 and 1 when not standardised */
    uint64_t *annotator_labels; /* [A] */
    size_t max_labels;          /* most labels the rows of any batch can have */
};

/* Checks and lists the labelled instances; `data` stays until train_data_done, with which the caller ends in any case.
 * AMX_INVALID, AMX_NOTHING, AMX_NO_MEMORY. */
enum amx_status train_data_init(struct train_data *out, const struct amx_data *data,
                                const struct amx_settings *settings, struct amx_error *err);
/* The same over the instances with gold, labelled or not. */
enum amx_status train_data_init_gold(struct train_data *out, const struct amx_data *data,
                                     const struct amx_settings *settings, struct amx_error *err);
void train_data_done(struct train_data *data);
/* n_rows and max_labels alone, from unchecked data (with_gold: over the instances with gold); false when memory ran
 * out. */
bool train_data_count(const struct amx_data *data, const struct amx_settings *settings, bool with_gold, size_t *n_rows,
                      size_t *max_labels);
/* Bytes train_data_init (with_gold: train_data_init_gold) holds. */
size_t train_data_bytes(const struct amx_data *data, bool with_gold, size_t n_rows);

/* One mini-batch. Triples are grouped by instance: those of row i are begin[i] .. begin[i+1]. Triple t of row i is
 * training label data->begin[source[i]] + (t - begin[i]), unless there is one triple per row. */
struct batch {
    bool one_per_row;                  /* one triple per row, annotator and class 0; set before batch_load */
    size_t n_rows, n_labels;           /* n_labels = triples */
    size_t n_given;                    /* training labels of the rows */
    const uint32_t *source;            /* [n_rows] row of train_data, borrowed from the order */
    size_t Tp;                         /* n_labels padded */
    float *x;                          /* [Bp][Dp] standardised features of the rows */
    uint32_t *begin;                   /* [B + 1] */
    uint32_t *row;                     /* [Tp] row of the triple */
    uint32_t *partner_row;             /* [Tp] row of its mixing partner */
    uint32_t *annotator1, *annotator2; /* [Tp] own, partner's */
    uint32_t *class1, *class2;         /* [Tp] 0 in the pads */
    uint32_t *permutation, *inverse;   /* [Tp] partner of t; triple whose partner t is */
    float *lambda;                     /* [Tp] */
    float *weight1, *weight2;          /* [Tp] lambda / T and (1 - lambda) / T, 0 in the pads */
    bool mixed;                        /* alpha > 0 */
};

void batch_lay_out(struct batch *batch, const struct dims *dims, struct arena *arena);
/* Gathers rows order[0 .. n-1], standardised, and expands their triples. Partners are set to the triples themselves.
 * Pads of x are left alone: its memory was zeroed after batch_lay_out. */
void batch_load(struct batch *batch, const struct train_data *data, const uint32_t *order, size_t n);

/* How an epoch of n_rows instances is cut into batches: batch i is rows start[i] .. */
struct batch_plan {
    size_t n_batches;
    size_t size; /* of all but the last */
    size_t last; /* size of the last */
};
void batch_plan(struct batch_plan *plan, size_t n_rows, const struct amx_settings *settings);

#endif
