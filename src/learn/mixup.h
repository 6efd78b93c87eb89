/* mixup.h - who is mixed with whom, and how much. */
#ifndef LEARN_MIXUP_H
#define LEARN_MIXUP_H

#include "batch.h"

/* Draws lambda and a permutation for a loaded batch. within_rows: partners only among triples of the same row. */
void mixup_draw(struct batch *batch, double alpha, bool within_rows, struct rng *lambda, struct rng *partner);
/* Sets them instead (golden tests): lambda[T], permutation[T]. */
void mixup_set(struct batch *batch, const float *lambda, const uint32_t *permutation);

#endif
