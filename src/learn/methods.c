/* methods.c - the table of methods. A new one is a file in methods/ and a line here. */
#include <string.h>

#include "method.h"

extern const struct amx_method method_annot_mix;

static const struct amx_method *const METHODS[] = {&method_annot_mix};

const struct amx_method *method_find(const char *name)
{
    if (name == NULL)
        return METHODS[0];
    for (size_t i = 0; i < sizeof METHODS / sizeof METHODS[0]; i++) {
        if (strcmp(METHODS[i]->name, name) == 0)
            return METHODS[i];
    }
    return NULL;
}
