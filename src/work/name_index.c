/* name_index.c - open addressing, linear probing, at most half full; FNV-1a with a random start, so that names chosen
 * by clients cannot be made to collide from outside. Immutable once built, so any number of threads may look things
 * up. */
#include "work/name_index.h"

#include <stdlib.h>
#include <string.h>

#include "util/random.h"

struct name_index {
    const char *const *names;
    uint64_t start;
    size_t mask;      /* slots - 1 */
    uint32_t slots[]; /* position + 1; 0 = empty */
};

static uint64_t hash_of(uint64_t h, const char *name, size_t n)
{
    for (size_t i = 0; i < n; i++)
        h = (h ^ (unsigned char)name[i]) * UINT64_C(0x100000001b3);
    return h ^ (h >> 29);
}

struct name_index *name_index_new(const char *const *names, size_t n)
{
    struct name_index *index;
    size_t slots = 8;

    if (n >= UINT32_MAX / 4)
        return NULL;
    while (slots < 2 * n)
        slots *= 2;
    index = calloc(1, sizeof *index + slots * sizeof index->slots[0]);
    if (index == NULL)
        return NULL;
    index->names = names;
    index->mask = slots - 1;
    if (random_bytes(&index->start, sizeof index->start) != AMX_OK)
        index->start = UINT64_C(0xcbf29ce484222325); /* FNV's own: worse against malice, right otherwise */
    for (size_t i = 0; i < n; i++) {
        size_t length = strlen(names[i]);
        size_t slot = hash_of(index->start, names[i], length) & index->mask;

        while (index->slots[slot] != 0 && strcmp(names[index->slots[slot] - 1], names[i]) != 0)
            slot = (slot + 1) & index->mask;
        if (index->slots[slot] == 0)
            index->slots[slot] = (uint32_t)i + 1;
    }
    return index;
}

void name_index_free(struct name_index *index)
{
    free(index);
}

bool name_index_find(const struct name_index *index, const char *name, size_t n, uint32_t *out)
{
    size_t slot = hash_of(index->start, name, n) & index->mask;

    for (; index->slots[slot] != 0; slot = (slot + 1) & index->mask) {
        const char *other = index->names[index->slots[slot] - 1];

        /* Names hold no 0 byte, so a name of n bytes that agrees in n bytes and ends there is the same one. */
        if (strncmp(other, name, n) == 0 && other[n] == '\0') {
            *out = index->slots[slot] - 1;
            return true;
        }
    }
    return false;
}
