/* madl_predict.h - prediction of MaDL: the hooks of struct amx_method. */
#ifndef LEARN_METHODS_MADL_PREDICT_H
#define LEARN_METHODS_MADL_PREDICT_H

#include <stddef.h>
#include <stdint.h>

struct amx_model;

enum {
    MADL_WIDTH = 16,  /* of the embeddings, and number of interactions */
    MADL_HIDDEN = 128 /* of the hidden layer; a multiple of PAD */
};

void *madl_predictor_new(const struct amx_model *model, const float *compact);
void madl_predictor_free(void *predictor);
size_t madl_predictor_bytes(const void *predictor);
size_t madl_row_width(const void *predictor);
void madl_rows(const void *predictor, const float *u, size_t n, float *rows);
size_t madl_pair_scratch(const void *predictor);
void madl_pairs(const void *predictor, const float *const row[], const uint32_t annotator[], float *scratch,
                void (*use)(void *context, size_t k, const float *p), void *context);

#endif
