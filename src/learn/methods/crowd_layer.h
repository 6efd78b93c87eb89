/* crowd_layer.h - the method of that name, for the table in ../methods.c. Its state is struct matrix_state. */
#ifndef LEARN_METHODS_CROWD_LAYER_H
#define LEARN_METHODS_CROWD_LAYER_H

#include "../method.h"

extern const struct amx_method method_crowd_layer;

#endif
