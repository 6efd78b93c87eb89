/* coin_net.h - the method coin_net, and its state for the tests. */
#ifndef LEARN_METHODS_COIN_NET_H
#define LEARN_METHODS_COIN_NET_H

#include "geo_reg.h"

extern const struct amx_method method_coin_net;

struct coin_net_state {
    struct matrix_state matrix;
    struct logdet logdet;
    /* The outlier vector of every training label: parameters of their own, gone after the fit. Labels in the order of
     * the training data. */
    float *e, *moment1, *moment2; /* [Z][C] */
    bool dense;                   /* all labels move in every step, not only those seen lately */
    uint32_t *last;               /* [Z] step whose batch had the label last, 0: none yet */
    float *d_e;                   /* [T][C] gradient of the batch's labels */
    /* A strip of labels on their way through RAdam: copies, gradient, and which they are. */
    float *strip_e, *strip_d, *strip1, *strip2; /* [strip_labels][C] */
    float *zeros;                               /* [strip_labels][C] gradient of the absent */
    size_t *held;                               /* [strip_labels] */
    size_t n_held, strip_labels;
    float *q, *d_q; /* [C] of one label */
};

#endif
