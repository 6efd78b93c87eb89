/* sobol.c - the Sobol sequence in its first eight dimensions.
 *
 * Direction numbers of Joe & Kuo (2008), "Constructing Sobol sequences with better two-dimensional projections", file
 * new-joe-kuo-6.21201; the order of points is that of Antonov & Saleev (Gray code), so that point n + 1 differs from
 * point n by one direction number per dimension. The first point is the origin: callers shift all points by one random
 * number per dimension (exclusive or), which keeps the evenness and removes the special role of the origin.
 *
 * A point is computed from its index alone: 32 steps per dimension are nothing beside the fit it stands for. */
#include "sobol.h"

#include <stddef.h>

enum {
    BITS = 32,
    MAX_DEGREE = 5
};

/* Primitive polynomial x^s + a_1 x^(s-1) + ... + 1 (a: bits a_1 .. a_(s-1)) and first direction numbers m_1 .. m_s. */
struct polynomial {
    unsigned s, a;
    uint32_t m[MAX_DEGREE];
};

/* Of dimensions 2 to 8; the first is the van der Corput sequence. */
static const struct polynomial POLYNOMIALS[SOBOL_DIMS - 1] = {
    {1, 0, {1}},          {2, 1, {1, 3}},        {3, 1, {1, 3, 1}},        {3, 2, {1, 1, 1}},
    {4, 1, {1, 1, 3, 3}}, {4, 4, {1, 3, 5, 13}}, {5, 2, {1, 1, 5, 5, 17}},
};

/* v_1 .. v_32 of one dimension, v_k = m_k 2^(32 - k). */
static void directions(unsigned dim, uint32_t v[BITS])
{
    const struct polynomial *p = dim > 0 ? &POLYNOMIALS[dim - 1] : NULL;

    for (unsigned k = 0; k < BITS; k++) {
        if (p == NULL || k < p->s) {
            v[k] = (p == NULL ? 1 : p->m[k]) << (BITS - 1 - k);
            continue;
        }
        v[k] = v[k - p->s] ^ (v[k - p->s] >> p->s);
        for (unsigned j = 1; j < p->s; j++)
            v[k] ^= ((p->a >> (p->s - 1 - j)) & 1) != 0 ? v[k - j] : 0;
    }
}

void sobol_point(uint32_t index, uint32_t point[SOBOL_DIMS])
{
    const uint32_t gray = index ^ (index >> 1);

    for (unsigned dim = 0; dim < SOBOL_DIMS; dim++) {
        uint32_t v[BITS], x = 0;

        directions(dim, v);
        for (unsigned k = 0; k < BITS; k++)
            x ^= ((gray >> k) & 1) != 0 ? v[k] : 0;
        point[dim] = x;
    }
}
