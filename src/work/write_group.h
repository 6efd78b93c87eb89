/* write_group.h - what one transaction of the writer does. */
#ifndef WORK_WRITE_GROUP_H
#define WORK_WRITE_GROUP_H

#include <stddef.h>

#include "annotmix.h"
#include "store/db.h"
#include "work/writer.h"

/* Applies n > 0 jobs linked by `next`, in a transaction that has begun; whoever has the writer's connection. AMX_OK: the
 * transaction still stands and may be committed; each job's status tells its own outcome (a group of one job that failed
 * must be rolled back). Anything else: nothing of the group may stand, and err says why. */
AMX_CHECK enum amx_status write_group_apply(struct db *db, struct write_job *jobs, size_t n, struct amx_error *err);

#endif
