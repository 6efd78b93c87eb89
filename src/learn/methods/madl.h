/* madl.h - the method of that name, for the table in ../methods.c, and its state, for its test. */
#ifndef LEARN_METHODS_MADL_H
#define LEARN_METHODS_MADL_H

#include "../annotator_model.h"
#include "../loss.h"
#include "../method.h"
#include "embeddings.h"

struct madl_tensors {
    struct class_tensors classes;
    struct embedding_tensors embed;
    int outer;                            /* outer.weight [16][16 16] K_r */
    int hidden_weight[2], hidden_bias[2]; /* ap_hidden0 [128][48], ap_hidden1 [16][128] */
    int bn_weight[2], bn_bias[2], bn_mean[2], bn_var[2];
    struct annotator_tensors output; /* out_weight, out_bias alone: ap_out [C C][16] */
    int gamma;                       /* gamma [1] */
};

/* Weights of the annotators in the loss (madl_weights.c). */
struct madl_weights {
    size_t A, Ep;
    const float *table; /* [A][Ep] annotator embeddings, padded */
    float *ones;        /* [PAD] */
    float *square;      /* [A] |e|^2 */
    float *minus;       /* [A][PAD] -gamma d^2 of one block of annotators with all, then the shares of the sum */
    float *distance;    /* [A][PAD] d^2 */
    float *log_sum;     /* [PAD] */
    float *weight;      /* [A] sum A */
    float *slope;       /* [A] d weight / d gamma */
};

struct madl_state {
    struct dims dims; /* the fit's, with E = 16 */
    struct madl_tensors tensors;
    struct class_model classes;
    struct embeddings embed;
    struct annotator_model head; /* h and d_h alone, for the loss */
    struct loss loss;
    struct madl_weights weights;
    struct batch_norm bn[2];
    const float *outer, *hidden[2]; /* [256][16], [128][64], [16][128] with rows padded */
    float *gamma;
    float *grad_outer, *grad_hidden[2], *grad_gamma;
    float *f, *d_f;        /* [Tp][Ep] e_a + e_x */
    float *kf, *d_kf;      /* [Tp][256] K_r f, and d o_r f */
    float *v, *d_v;        /* [Tp][64] e_a, e_x, o */
    float *z1, *h1, *d_h1; /* [Tp][128] */
    float *z2;             /* [Tp][Ep] */
    double *sums;          /* [2][128] */
};

void madl_weights_lay_out(struct madl_weights *weights, size_t A, size_t Ep, struct arena *arena);
/* weight, and slope if asked for. */
void madl_weights_compute(struct madl_weights *weights, double gamma, bool with_slope,
                          const struct amx_kernels *kernels);

extern const struct amx_method method_madl;

#endif
