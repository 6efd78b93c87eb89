/* class_target.h - the training state of the methods that train the class model on one target per instance. */
#ifndef LEARN_METHODS_CLASS_TARGET_H
#define LEARN_METHODS_CLASS_TARGET_H

#include "../class_model.h"
#include "class_rows.h"

struct class_target_state {
    struct class_tensors class_tensors;
    int confusion; /* tensor confusion.weight */
    struct class_model classes;
    struct class_rows rows;
    float *targets; /* [N][C] target of each training row, from prepare() */
};

#endif
