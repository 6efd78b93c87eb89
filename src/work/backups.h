/* backups.h - copies of the database made by the server itself: every so often, each opened and checked before it has
 * its name, the oldest deleted. A thread of its own that reads and never writes to the database.
 */
#ifndef WORK_BACKUPS_H
#define WORK_BACKUPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "annotmix.h"

struct store;
struct backups;

struct backups_config {
    struct store *store;
    const char *folder;     /* made (mode 0700) when it is not there; its parent must be. Borrowed. */
    const char *db_path;    /* its name is the beginning of the copies' names. Borrowed. */
    unsigned every_seconds; /* at least 1 */
    unsigned keep;          /* at least 1 */
};

struct backups_stats {
    uint64_t made, failed;
    int64_t last_success_ms; /* wall clock, of the newest copy, also one of an earlier process; 0 = none */
    double last_seconds;     /* what the last one took; 0 = none since the start */
    int64_t last_bytes;
    size_t kept;      /* copies in the folder */
    bool last_failed; /* the last attempt: something must be done */
};

/* Copies are NAME-000001-20261124T122655Z.db: the number rises by one each time whatever the clock does, and it decides
 * which are the oldest. The first is made at once when the newest is older than every_seconds. AMX_IO: the folder. */
AMX_CHECK enum amx_status backups_start(const struct backups_config *config, struct backups **out,
                                        struct amx_error *err);
void backups_get_stats(struct backups *backups, struct backups_stats *out);
/* Ends a copy under way, and the thread. While the store is open. NULL allowed. */
void backups_stop(struct backups *backups);

#endif
