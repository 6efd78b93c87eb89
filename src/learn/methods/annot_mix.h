/* annot_mix.h - the training state of annot-mix, for annot_mix.c, methods that build on it, and their tests. */
#ifndef LEARN_METHODS_ANNOT_MIX_H
#define LEARN_METHODS_ANNOT_MIX_H

#include "../annotator_model.h"
#include "../class_model.h"
#include "../loss.h"

struct annot_mix_state {
    struct class_tensors class_tensors;
    struct annotator_tensors annotator_tensors;
    struct class_model classes;
    struct annotator_model annotators;
    struct loss loss;
};

#endif
