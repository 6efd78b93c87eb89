/* matrix_case.h - one golden case of tests/golden/matrix, ready to step: for the tests of the methods that keep a
 * matrix per annotator. */
#ifndef TESTS_UNIT_LEARN_MATRIX_CASE_H
#define TESTS_UNIT_LEARN_MATRIX_CASE_H

#include <jansson.h>

#include "annotmix.h"
#include "learn/method.h"
#include "learn/methods/coin_net.h"
#include "learn/model.h"
#include "learn/workspace.h"

enum {
    MOST = 64 /* rows, labels of a batch, widths */
};

struct matrix_case {
    json_t *json;
    const char *name;
    struct amx_settings settings;
    size_t N, D, C, A;
    float *features;
    uint32_t *instance, *annotator, *label;
    struct amx_data data;
    struct amx_model *model;
    struct train_data train;
    struct member_data member;
    struct workspace workspace;
    uint32_t order[MOST];
    unsigned char *masks[AMX_MAX_HIDDEN];
    struct forced_masks forced;
    double *parameters; /* compact, and behind it coin_net's vectors: what the loss in double is a function of */
    double *outliers;   /* [labels][C] */
};

/* Ends the process when the file cannot be read. */
void matrix_case_open(struct matrix_case *g, const char *name);
void matrix_case_close(struct matrix_case *g);
/* Loads the batch and the masks of a step. */
void matrix_case_load(struct matrix_case *g, const json_t *step);
/* State of coin_net, or NULL when the case is of another method. */
struct coin_net_state *matrix_case_coin(struct matrix_case *g);
/* Gradients of all of coin_net's vectors [labels][C], those outside the batch 0; NULL for another method. The caller
 * frees. */
float *matrix_case_outlier_gradient(struct matrix_case *g);

#endif
