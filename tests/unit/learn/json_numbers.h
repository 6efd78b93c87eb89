/* json_numbers.h - the numbers of a golden file: nested JSON arrays as one run of doubles. */
#ifndef TESTS_UNIT_LEARN_JSON_NUMBERS_H
#define TESTS_UNIT_LEARN_JSON_NUMBERS_H

#include <jansson.h>
#include <stddef.h>

struct numbers {
    double *x; /* the caller frees; never NULL */
    size_t n;
};

/* The numbers of a nested array in order, or a number by itself. A missing value (NULL) has none, so that no key that
 * is misspelt or left out passes for a 0. */
struct numbers numbers_of(const json_t *value);
/* The number under a key, 0 when there is none. */
double number_at(const json_t *object, const char *key);

#endif
