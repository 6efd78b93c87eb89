/* folded.h - predictions where every row is answered by the members that never saw its fold. */
#ifndef CROWD_FOLDED_H
#define CROWD_FOLDED_H

#include "annotmix.h"

/* amx_predict_pairs with a fold for each row: fold [n], AMX_NO_FOLD or below the model's folds; NULL = no folds, the
 * whole ensemble for all. Rows of one fold are predicted together; a row's result is amx_predict_pairs's to the last
 * bit. AMX_NO_MEMORY, AMX_INVALID. */
AMX_CHECK enum amx_status folded_predict_pairs(const struct amx_model *model, const int *fold, const float *features,
                                               size_t n, const uint32_t *pair_row, const uint32_t *pair_annotator,
                                               size_t n_pairs, const struct amx_pairs_prediction *out,
                                               struct amx_error *err);

#endif
