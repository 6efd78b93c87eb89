/* coin_net.h - the method coin_net, and its state for the tests. */
#ifndef LEARN_METHODS_COIN_NET_H
#define LEARN_METHODS_COIN_NET_H

#include "geo_reg.h"

extern const struct amx_method method_coin_net;

struct coin_net_state {
    struct matrix_state matrix;
    struct logdet logdet;
    /* The outlier vector of every training label: parameters of their own, gone after the fit. Labels in the order of
     * the training data, C floats each, Z padded so that RAdam runs over whole strips. */
    float *e, *moment1, *moment2; /* [Z padded][C] */
    int32_t *triple;              /* [Z] 1 + triple of the batch; not in it: minus the steps since it was */
    float *d_e;                   /* [T][C] gradient of the batch's labels */
    float *strip;                 /* [strip_labels][C] gradient of a run of labels */
    size_t strip_labels;
    float *q, *d_q; /* [C] of one label */
};

#endif
