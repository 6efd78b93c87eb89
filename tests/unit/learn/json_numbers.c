/* json_numbers.c - see json_numbers.h. */
#include "json_numbers.h"

#include "fixture.h"

static size_t count(const json_t *value)
{
    size_t n = 0;

    if (!json_is_array(value))
        return value != NULL ? 1 : 0;
    for (size_t i = 0; i < json_array_size(value); i++)
        n += count(json_array_get(value, i));
    return n;
}

static double *fill(const json_t *value, double *to)
{
    if (!json_is_array(value)) {
        *to = json_number_value(value);
        return to + 1;
    }
    for (size_t i = 0; i < json_array_size(value); i++)
        to = fill(json_array_get(value, i), to);
    return to;
}

struct numbers numbers_of(const json_t *value)
{
    struct numbers out = {.n = count(value)};

    out.x = toy_alloc(out.n, sizeof(double));
    if (value != NULL)
        (void)fill(value, out.x);
    return out;
}

double number_at(const json_t *object, const char *key)
{
    return json_number_value(json_object_get(object, key));
}
