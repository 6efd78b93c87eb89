/* deep_check.h - what the tests of conal, union_net, madl and crowd_ar share: golden cases of tests/golden/deep, and
 * gradients of a step against finite differences of a loss written again in double. */
#ifndef TESTS_UNIT_LEARN_DEEP_CHECK_H
#define TESTS_UNIT_LEARN_DEEP_CHECK_H

#include "fixture.h"
#include "learn/batch.h"
#include "learn/class_model.h"
#include "learn/method.h"
#include "learn/model.h"
#include "learn/workspace.h"

/* Runs tests/golden/deep/NAME.json: losses, gradients, parameters after the first and the last step, predictions (the
 * unseen annotator's too), each tensor within 1e-4 max|tensor| + 1e-6. */
void deep_golden(const char *name);

struct deep {
    struct toy toy;
    struct amx_settings *settings; /* the toy's */
    struct amx_model *model;
    struct train_data train;
    struct workspace workspace; /* after deep_step: the batch and its gradients */
    struct forced_masks forced;
    unsigned char *masks[AMX_MAX_HIDDEN];
    uint32_t order[64];
    double *parameters; /* compact; moved by deep_gradients */
    double *start;      /* the same, never moved: for what the loss takes as constant */
    double *u_start;    /* [B][H] embeddings at the start: for a detached u */
};

/* Toy data, one hidden layer of 8 with dropout; settings may be changed before deep_step. */
void deep_open(struct deep *d, size_t N, size_t D, size_t C, size_t A);
void deep_close(struct deep *d);
/* One step of the method with learning rate 0 over all rows, parameters moved a little from their start, or not
 * (exact_start). Returns its loss. */
double deep_step(struct deep *d, const char *method, bool exact_start);

/* Loss from `parameters` and the class model's p [B][C] and u [B][H], over workspace.batch. */
typedef double (*deep_loss)(const struct deep *d, const double *p, const double *u);
/* Every tensor that is trained, after deep_step. */
void deep_gradients(struct deep *d, double loss, deep_loss reference);

/* A tensor of parameters or start. */
const double *deep_tensor(const struct deep *d, const double *block, const char *name);
/* out[width] = W x + b, tensors NAME.weight [width][in] and NAME.bias. */
void deep_linear(const struct deep *d, const double *block, const char *name, const double *x, size_t in, size_t width,
                 double *out);
/* A fit of the method on toy data, and what it says of one row and every annotator, the unseen one last. Checks that
 * probabilities are probabilities, that an annotator without labels is the unseen one, and, if mixture, that
 * p_annotation and p_perf follow from the confusion matrix. */
void deep_predictions(const char *method, bool mixture);

#endif
