/* test_sobol.c - the sequence against scipy.stats.qmc.Sobol(8, scramble=False, bits=32) of SciPy 1.17.1, in units of
 * 2^-32, and evenness: of the first 2^k points each half, quarter, ... of every axis gets its share. */
#include "test.h"

#include <stddef.h>
#include <string.h>

#include "crowd/select/sobol.h"

static const struct {
    uint32_t index, point[SOBOL_DIMS];
} SCIPY[] = {
    {0, {0, 0, 0, 0, 0, 0, 0, 0}},
    {1, {2147483648, 2147483648, 2147483648, 2147483648, 2147483648, 2147483648, 2147483648, 2147483648}},
    {2, {3221225472, 1073741824, 1073741824, 1073741824, 3221225472, 3221225472, 1073741824, 3221225472}},
    {3, {1073741824, 3221225472, 3221225472, 3221225472, 1073741824, 1073741824, 3221225472, 1073741824}},
    {4, {1610612736, 1610612736, 2684354560, 3758096384, 1610612736, 536870912, 1610612736, 3758096384}},
    {5, {3758096384, 3758096384, 536870912, 1610612736, 3758096384, 2684354560, 3758096384, 1610612736}},
    {7, {536870912, 2684354560, 1610612736, 536870912, 536870912, 1610612736, 2684354560, 2684354560}},
    {12, {1342177280, 805306368, 1342177280, 2415919104, 4026531840, 1879048192, 268435456, 268435456}},
    {31, {134217728, 2281701376, 3892314112, 4160749568, 4160749568, 3355443200, 1476395008, 2281701376}},
    {100, {1778384896, 1107296256, 3321888768, 3120562176, 3791650816, 3187671040, 100663296, 2046820352}},
    {513, {2160066560, 3225419776, 1950351360, 2109734912, 4114612224, 281018368, 490733568, 1757413376}},
    {1000, {943718400, 415236096, 2227175424, 2906652672, 1203765248, 3896508416, 197132288, 3862953984}},
    {1023, {4194304, 3233808384, 2629828608, 624951296, 801112064, 1883242496, 599785472, 2654994432}},
};

TEST(crowd_sobol_as_scipy)
{
    for (size_t i = 0; i < sizeof SCIPY / sizeof SCIPY[0]; i++) {
        uint32_t point[SOBOL_DIMS];

        sobol_point(SCIPY[i].index, point);
        for (size_t d = 0; d < SOBOL_DIMS; d++)
            CHECK_INT(point[d], SCIPY[i].point[d]);
    }
}

TEST(crowd_sobol_fills_every_axis)
{
    enum {
        BITS = 6,
        POINTS = 1 << BITS
    };

    for (size_t d = 0; d < SOBOL_DIMS; d++) {
        unsigned char seen[POINTS];

        memset(seen, 0, sizeof seen);
        for (uint32_t i = 0; i < POINTS; i++) {
            uint32_t point[SOBOL_DIMS];

            sobol_point(i, point);
            seen[point[d] >> (32 - BITS)]++;
        }
        for (size_t cell = 0; cell < POINTS; cell++)
            CHECK_INT(seen[cell], 1);
    }
}
