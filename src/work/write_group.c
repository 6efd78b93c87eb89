/* write_group.c - the jobs of one group, inside the transaction that the writer has begun.
 *
 * A savepoint per job; a group of one job needs none and is rolled back as a whole. Jobs of one project that know how
 * to be applied together (single labels) are so while they stand side by side, in one savepoint or, when they are the
 * whole group, in none; should that fail, they are undone and applied one by one.
 */
#include "work/write_group.h"

#include <stdbool.h>

#include "util/error.h"

static void apply_one(struct db *db, struct write_job *job)
{
    job->status = job->apply(db, job);
    if (job->status != AMX_OK && job->error.code == AMX_OK)
        (void)error_set(&job->error, job->status, "%s", amx_status_text(job->status));
}

/* The next n jobs one by one; alone: the group is this one job. AMX_OK when the transaction still stands. */
static enum amx_status apply_singly(struct db *db, struct write_job *job, size_t n, bool alone, struct amx_error *err)
{
    enum amx_status status = AMX_OK;

    for (; status == AMX_OK && n > 0; job = job->next, n--) {
        if (!alone)
            status = db_savepoint(db, err);
        if (status != AMX_OK)
            break;
        apply_one(db, job);
        if (job->status == AMX_OK) {
            if (!alone)
                status = db_savepoint_release(db, err);
        } else if (!db_in_transaction(db) || db_must_stop(db)) {
            /* SQLite has given up the whole transaction (disk full, I/O error): this job's error is everybody's. */
            if (err != NULL)
                *err = job->error;
            status = job->status;
        } else if (!alone) {
            status = db_savepoint_undo(db, err);
        }
    }
    return status;
}

/* The next n jobs at once; whole: they are the group. *applied: false when it did not work and nothing of it is left.
 * AMX_OK when the transaction still stands. */
static enum amx_status apply_together(struct db *db, struct write_job *first, size_t n, bool whole, bool *applied,
                                      struct amx_error *err)
{
    struct amx_error why = {.code = AMX_OK};
    enum amx_status status = whole ? AMX_OK : db_savepoint(db, err);

    *applied = false;
    if (status != AMX_OK)
        return status;
    status = first->together(db, first, n, &why);
    *applied = status == AMX_OK;
    if (*applied)
        return whole ? AMX_OK : db_savepoint_release(db, err);
    if (!db_in_transaction(db) || db_must_stop(db)) {
        if (err != NULL)
            *err = why;
        return status;
    }
    for (struct write_job *job = first; n > 0; job = job->next, n--) {
        job->status = AMX_OK;
        job->error.code = AMX_OK;
    }
    if (!whole)
        return db_savepoint_undo(db, err);
    db_rollback(db);
    return db_begin(db, err);
}

/* How many jobs from this one on can be applied together. */
static size_t count_alike(const struct write_job *first)
{
    size_t n = 1;

    for (const struct write_job *job = first->next; first->together != NULL && job != NULL; job = job->next, n++) {
        if (job->together != first->together || job->project_id != first->project_id)
            break;
    }
    return n;
}

enum amx_status write_group_apply(struct db *db, struct write_job *jobs, size_t n, struct amx_error *err)
{
    enum amx_status status = AMX_OK;

    for (struct write_job *job = jobs; status == AMX_OK && job != NULL;) {
        size_t alike = count_alike(job);
        bool applied = false;
        if (alike > 1)
            status = apply_together(db, job, alike, alike == n, &applied, err);
        if (status == AMX_OK && !applied)
            status = apply_singly(db, job, alike, n == 1, err);
        for (; alike > 0; alike--)
            job = job->next;
    }
    return status;
}
