/* name_index.h - from names to positions 0..n-1: one open hash table over an array of strings that it borrows. */
#ifndef WORK_NAME_INDEX_H
#define WORK_NAME_INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct name_index;

/* names[i] is 0-terminated and borrowed until name_index_free. NULL when memory is out. Of equal names the first
 * counts. */
struct name_index *name_index_new(const char *const *names, size_t n);
void name_index_free(struct name_index *index);
bool name_index_find(const struct name_index *index, const char *name, size_t n, uint32_t *out);

#endif
