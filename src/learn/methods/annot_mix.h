/* annot_mix.h - the training state of annot-mix, for annot_mix.c, methods that build on it, and their tests. */
#ifndef LEARN_METHODS_ANNOT_MIX_H
#define LEARN_METHODS_ANNOT_MIX_H

#include "../annotator_model.h"
#include "../class_model.h"
#include "../loss.h"
#include "../method.h"

struct annot_mix_state {
    struct class_tensors class_tensors;
    struct annotator_tensors annotator_tensors;
    struct class_model classes;
    struct annotator_model annotators;
    struct loss loss;
};

/* Hooks shared with annot_mix_prior. Its layout has one tensor more, found by this name: constant confusion logits
 * [A + 1][C C] of each annotator, the last row for annotators the model has not seen. */
#define ANNOT_MIX_PRIOR_TENSOR "ap_prior.weight"
bool annot_mix_layout(struct layout *layout, const struct dims *dims, bool with_prior);
enum amx_status annot_mix_initial(const struct layout *layout, const struct dims *dims,
                                  const struct amx_settings *settings, const struct member_data *member, float *compact,
                                  struct rng *rng);
void annot_mix_lay_out(struct workspace *workspace, struct arena *arena);
void annot_mix_bind(struct workspace *workspace);
void annot_mix_draw(struct workspace *workspace);
double annot_mix_step(struct workspace *workspace, const struct step_rates *rates);
void *annot_mix_predictor_new(const struct amx_model *model, const float *compact);
void annot_mix_predictor_free(void *predictor);
size_t annot_mix_predictor_bytes(const void *predictor);
size_t annot_mix_row_width(const void *predictor);
void annot_mix_rows(const void *predictor, const float *u, size_t n, float *rows);
size_t annot_mix_pair_scratch(const void *predictor);
void annot_mix_pairs(const void *predictor, const float *const row[], const uint32_t annotator[], float *scratch,
                     void (*use)(void *context, size_t k, const float *p), void *context);

#endif
