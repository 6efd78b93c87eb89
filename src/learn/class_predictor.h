/* class_predictor.h - the class model at prediction: BatchNorm folded into the layers, weights packed in panels. */
#ifndef LEARN_CLASS_PREDICTOR_H
#define LEARN_CLASS_PREDICTOR_H

#include <stddef.h>

struct amx_model;
struct class_predictor;

/* From one member's compact tensors; NULL when memory ran out. */
struct class_predictor *class_predictor_new(const struct amx_model *model, const float *compact);
void class_predictor_free(struct class_predictor *predictor);
size_t class_predictor_bytes(const struct class_predictor *predictor);
/* Floats of scratch for `n` rows. */
size_t class_predictor_scratch(const struct class_predictor *predictor, size_t n);
/* x [n][Dp] standardised rows -> p [n][C]; *u = embeddings [n][Hp], in scratch (or x itself without hidden layers). */
void class_predictor_rows(const struct class_predictor *predictor, const float *x, size_t n, double temperature,
                          float *scratch, float *p, const float **u);

/* Packs weights [rows][cols] as panels [rows padded / PANEL][cols][PANEL], each row times factor (NULL = 1). */
void panels_pack(float *out, const float *weight, size_t rows, size_t cols, const float *factor);
/* Floats of that. */
size_t panels_floats(size_t rows, size_t cols);
/* out[n][ld] = a[n][lda] times the packed weights; ld is at least rows padded to PANEL. */
void panels_product(float *out, size_t ld, const float *a, size_t lda, size_t n, const float *panels, size_t rows,
                    size_t cols);

#endif
