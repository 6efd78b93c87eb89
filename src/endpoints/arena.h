/* arena.h - memory of one batch of rows: many small pieces, given back all at once, at stable addresses. */
#ifndef ENDPOINTS_ARENA_H
#define ENDPOINTS_ARENA_H

#include <stddef.h>

struct arena_block;

struct arena {
    struct arena_block *first, *current; /* blocks after current are spare */
    size_t used;                         /* bytes handed out since the last clear */
};

/* n bytes, aligned to 8; NULL when memory is out. */
void *arena_take(struct arena *a, size_t n);
char *arena_copy(struct arena *a, const char *bytes, size_t n);
void arena_clear(struct arena *a); /* empty again; keeps ordinary blocks, frees large ones */
void arena_done(struct arena *a);

#endif
