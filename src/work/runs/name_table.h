/* name_table.h - names interned while they are read: each distinct name gets the next number 0, 1, 2, ... */
#ifndef WORK_RUNS_NAME_TABLE_H
#define WORK_RUNS_NAME_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "annotmix.h"

struct name_table {
    char **names; /* [n] 0-terminated; the table's own */
    size_t n, capacity;
    uint32_t *slots; /* number + 1; 0 = empty */
    size_t n_slots;
};
#define NAME_TABLE_INIT                                                                                                \
    {                                                                                                                  \
        NULL, 0, 0, NULL, 0                                                                                            \
    }

/* Number of the name, added when it is new (*added, may be NULL). AMX_NO_MEMORY. Names hold no 0 byte. */
AMX_CHECK enum amx_status name_table_add(struct name_table *table, const char *name, size_t n, uint32_t *out,
                                         bool *added);
bool name_table_find(const struct name_table *table, const char *name, size_t n, uint32_t *out);
void name_table_done(struct name_table *table);

#endif
