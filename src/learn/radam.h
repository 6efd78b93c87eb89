/* radam.h - the optimiser's scalars. The pass over the parameters is a kernel (kernels.h). */
#ifndef LEARN_RADAM_H
#define LEARN_RADAM_H

#include "kernels.h"

/* Step t = 1, 2, ... */
void radam_prepare(struct radam_step *out, uint64_t t, double learning_rate, double weight_decay);
/* Cosine annealing to 0: rate of epoch e = 0, 1, ... */
double radam_cosine(double learning_rate, int epoch, int epochs);

#endif
