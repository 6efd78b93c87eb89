/* arena.h - one allocation handed out in pieces. Run the same lay-out code twice: first with base NULL, which only
 * adds up the sizes, then with memory of that size. Pieces are 64-byte aligned and zeroed by the caller's calloc-like
 * allocation (workspace.c). */
#ifndef LEARN_ARENA_H
#define LEARN_ARENA_H

#include <stddef.h>

#include "status.h"

struct arena {
    unsigned char *base; /* NULL while counting */
    size_t used;         /* SIZE_MAX once a size did not fit */
};

/* n elements of `size` bytes each; NULL while counting. */
static inline void *arena_take(struct arena *arena, size_t n, size_t size)
{
    size_t bytes, start = arena->used;

    if (!amx_size_mul(&bytes, n, size) || bytes > SIZE_MAX - 64 ||
        !amx_size_add(&arena->used, start, amx_round_up(bytes, 64)))
        arena->used = SIZE_MAX;
    return arena->base == NULL ? NULL : arena->base + start;
}

static inline float *arena_floats(struct arena *arena, size_t rows, size_t cols)
{
    size_t n;

    (void)amx_size_mul(&n, rows, cols); /* SIZE_MAX then, which arena_take turns into SIZE_MAX too */
    return arena_take(arena, n, sizeof(float));
}

static inline uint32_t *arena_u32(struct arena *arena, size_t n)
{
    return arena_take(arena, n, sizeof(uint32_t));
}

#endif
