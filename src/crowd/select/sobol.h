/* sobol.h - points of the Sobol sequence: they fill a cube evenly however many are taken. */
#ifndef CROWD_SELECT_SOBOL_H
#define CROWD_SELECT_SOBOL_H

#include <stdint.h>

enum {
    SOBOL_DIMS = 8
};

/* Point `index` (from 0, unscrambled, Gray code order), coordinates in units of 2^-32. */
void sobol_point(uint32_t index, uint32_t point[SOBOL_DIMS]);

#endif
