/* meta.h - a few values of the file itself, by name ("created_at", "created_by"). */
#ifndef STORE_META_H
#define STORE_META_H

#include "annotmix.h"
#include "store/db.h"

/* Appends the value to out. AMX_NOT_FOUND. */
AMX_CHECK enum amx_status meta_get(struct db *db, const char *key, struct buf *out, struct amx_error *err);
AMX_CHECK enum amx_status meta_set(struct db *db, const char *key, struct slice value, struct amx_error *err);

#endif
