/* name_table.c - open addressing, linear probing, at most half full, doubled when it is not. For one thread, for
 * names of files an operator gave: no defence against chosen collisions is needed (name_index.h has one). */
#include "work/runs/name_table.h"

#include <stdlib.h>
#include <string.h>

static size_t slot_of(const struct name_table *table, const char *name, size_t n)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    size_t slot;

    for (size_t i = 0; i < n; i++)
        h = (h ^ (unsigned char)name[i]) * UINT64_C(0x100000001b3);
    slot = (size_t)(h ^ (h >> 29)) & (table->n_slots - 1);
    while (table->slots[slot] != 0) {
        const char *other = table->names[table->slots[slot] - 1];

        if (strncmp(other, name, n) == 0 && other[n] == '\0')
            break;
        slot = (slot + 1) & (table->n_slots - 1);
    }
    return slot;
}

static bool grow(struct name_table *table)
{
    struct name_table bigger = *table;

    bigger.n_slots = table->n_slots > 0 ? 2 * table->n_slots : 64;
    bigger.capacity = bigger.n_slots / 2;
    bigger.slots = calloc(bigger.n_slots, sizeof *bigger.slots);
    bigger.names = bigger.slots != NULL ? realloc(table->names, bigger.capacity * sizeof *bigger.names) : NULL;
    if (bigger.names == NULL) {
        free(bigger.slots);
        return false;
    }
    for (size_t i = 0; i < table->n; i++)
        bigger.slots[slot_of(&bigger, bigger.names[i], strlen(bigger.names[i]))] = (uint32_t)i + 1;
    free(table->slots);
    *table = bigger;
    return true;
}

enum amx_status name_table_add(struct name_table *table, const char *name, size_t n, uint32_t *out, bool *added)
{
    size_t slot;
    char *copy;

    if (added != NULL)
        *added = false;
    if (name_table_find(table, name, n, out))
        return AMX_OK;
    if (table->n >= UINT32_MAX / 4 || (table->n == table->capacity && !grow(table)))
        return AMX_NO_MEMORY;
    copy = malloc(n + 1);
    if (copy == NULL)
        return AMX_NO_MEMORY;
    memcpy(copy, name, n);
    copy[n] = '\0';
    slot = slot_of(table, name, n);
    table->names[table->n] = copy;
    table->slots[slot] = (uint32_t)++table->n;
    *out = (uint32_t)table->n - 1;
    if (added != NULL)
        *added = true;
    return AMX_OK;
}

bool name_table_find(const struct name_table *table, const char *name, size_t n, uint32_t *out)
{
    size_t slot;

    if (table->n_slots == 0)
        return false;
    slot = slot_of(table, name, n);
    if (table->slots[slot] == 0)
        return false;
    *out = table->slots[slot] - 1;
    return true;
}

void name_table_done(struct name_table *table)
{
    for (size_t i = 0; i < table->n; i++)
        free(table->names[i]);
    free(table->names);
    free(table->slots);
    memset(table, 0, sizeof *table);
}
