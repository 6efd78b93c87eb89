/* trace_reg.h - the method of that name, for the table in ../methods.c. Its state is struct matrix_state. */
#ifndef LEARN_METHODS_TRACE_REG_H
#define LEARN_METHODS_TRACE_REG_H

#include "../method.h"

extern const struct amx_method method_trace_reg;

#endif
