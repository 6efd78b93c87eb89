/* arena.c - a first block of 2 KiB, enough for a single label, then blocks of 64 KiB; a piece that is larger than a
 * quarter of a block gets one of its own. */
#include "endpoints/arena.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "util/size.h"

enum {
    FIRST_BYTES = 2 * 1024,
    BLOCK_BYTES = 64 * 1024,
    ALIGN = 8
};

struct arena_block {
    struct arena_block *next;
    size_t capacity, n;
    _Alignas(16) char bytes[];
};

static struct arena_block *block_new(size_t capacity)
{
    size_t size;
    if (!size_add(&size, sizeof(struct arena_block), capacity))
        return NULL;
    struct arena_block *block = malloc(size);
    if (block != NULL) {
        block->next = NULL;
        block->capacity = capacity;
        block->n = 0;
    }
    return block;
}

/* The block that has room for n bytes (rounded up already), made if need be. */
static struct arena_block *room(struct arena *a, size_t n)
{
    struct arena_block *at = a->current;
    if (at != NULL && at->capacity - at->n >= n)
        return at;
    struct arena_block *spare = at != NULL ? at->next : a->first;
    if (spare == NULL || spare->capacity < n) {
        size_t ordinary = a->first == NULL ? FIRST_BYTES : BLOCK_BYTES;
        spare = block_new(n > ordinary / 4 ? n : ordinary);
        if (spare == NULL)
            return NULL;
        struct arena_block **link = at != NULL ? &at->next : &a->first;
        spare->next = *link;
        *link = spare;
    }
    spare->n = 0;
    a->current = spare;
    return spare;
}

void *arena_take(struct arena *a, size_t n)
{
    size_t rounded;
    if (!size_add(&rounded, n > 0 ? n : 1, ALIGN - 1))
        return NULL;
    rounded &= ~(size_t)(ALIGN - 1);
    struct arena_block *block = room(a, rounded);
    if (block == NULL)
        return NULL;
    void *piece = block->bytes + block->n;
    block->n += rounded;
    a->used += rounded;
    return piece;
}

char *arena_copy(struct arena *a, const char *bytes, size_t n)
{
    char *copy = arena_take(a, n);
    if (copy != NULL && n > 0)
        memcpy(copy, bytes, n);
    return copy;
}

void arena_clear(struct arena *a)
{
    struct arena_block **link = &a->first;
    while (*link != NULL) {
        struct arena_block *block = *link;
        if (block->capacity > BLOCK_BYTES) {
            *link = block->next;
            free(block);
        } else {
            block->n = 0;
            link = &block->next;
        }
    }
    a->current = NULL;
    a->used = 0;
}

void arena_done(struct arena *a)
{
    for (struct arena_block *block = a->first; block != NULL;) {
        struct arena_block *next = block->next;
        free(block);
        block = next;
    }
    *a = (struct arena){NULL, NULL, 0};
}
