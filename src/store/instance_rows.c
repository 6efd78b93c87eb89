/* instance_rows.c - many new instances in one statement.
 *
 * A statement costs more than the row it writes, so instances of which nothing but name, split and features is given wait
 * until there are INSTANCE_ROWS of them; then one INSERT writes their rows and another one their vectors. When one of
 * them turns out to stand there already, or two have the same name, the rows are taken back and all are put one by one;
 * so are those that follow for a while, because known names come in runs.
 */
#include <assert.h>

#include "store/changes_int.h"
#include "util/error.h"

enum {
    SINGLE_ROWS = 8 * INSTANCE_ROWS /* after a conflict, so many are put one by one */
};

#define TIMES_4(x) x ", " x ", " x ", " x
#define TIMES_32(x) TIMES_4(x) ", " TIMES_4(x) ", " TIMES_4(x) ", " TIMES_4(x) ", " TIMES_4(TIMES_4(x))
static const char INSERT_32_INSTANCES[] =
    "INSERT INTO instances (project_id, created_at, name, id, split, awaiting, labelled)"
    " VALUES " TIMES_32("(?1, ?2, ?, ?, ?, ?, 0)") " ON CONFLICT (project_id, name) DO NOTHING";
static const char INSERT_32_VECTORS[] = "INSERT INTO features (key, vector) VALUES " TIMES_32("(?, ?)");
static const char TAKE_BACK[] = "DELETE FROM instances WHERE project_id = ?1 AND id >= ?2";
static_assert(INSTANCE_ROWS == 32, "the statements have as many rows");

static bool awaits(const struct changes *ch, const struct instance_put *put)
{
    return ch->feature_dim > 0 && put->features == NULL;
}

/* *all: every one of them is new, and stands there now; else none does. */
static enum amx_status insert_rows(struct changes *ch, const struct instance_rows *rows, bool *all, struct amx_error *err)
{
    DB_STMT(s);
    DB_STMT(back);
    enum amx_status status = db_use(ch->db, INSERT_32_INSTANCES, &s, err);

    if (status != AMX_OK)
        return status;
    db_bind_int(s, 1, ch->project_id);
    db_bind_int(s, 2, ch->now_ms);
    for (size_t i = 0; i < INSTANCE_ROWS; i++) {
        const struct instance_put *put = &rows->waiting[i].put;
        int at = 3 + 4 * (int)i;
        db_bind_text(s, at, put->name);
        db_bind_int(s, at + 1, ch->next_instance + (int64_t)i);
        db_bind_int(s, at + 2, put->split == SPLIT_KEEP ? SPLIT_TRAIN : put->split);
        db_bind_int(s, at + 3, awaits(ch, put));
    }
    status = db_run(s, err);
    if (status != AMX_OK)
        return status;
    *all = db_changed(ch->db) == INSTANCE_ROWS;
    if (*all)
        return AMX_OK;
    status = db_use(ch->db, TAKE_BACK, &back, err);
    if (status != AMX_OK)
        return status;
    db_bind_int(back, 1, ch->project_id);
    db_bind_int(back, 2, ch->next_instance);
    return db_run(back, err);
}

/* Of the new instances, whose rows have their numbers. */
static enum amx_status insert_vectors(struct changes *ch, const struct instance_rows *rows, struct amx_error *err)
{
    DB_STMT(s);
    enum amx_status status = db_use(ch->db, INSERT_32_VECTORS, &s, err);

    for (size_t i = 0; status == AMX_OK && i < INSTANCE_ROWS; i++) {
        db_bind_int(s, 1 + 2 * (int)i, ch->project_id << 32 | *rows->waiting[i].id);
        db_bind_blob(s, 2 + 2 * (int)i, rows->waiting[i].put.features, ch->feature_dim * sizeof(float));
    }
    return status == AMX_OK ? db_run(s, err) : status;
}

/* All that wait, INSTANCE_ROWS with features or none with, or nothing is written (*all). */
static enum amx_status put_together(struct changes *ch, const struct instance_rows *rows, bool *all, struct amx_error *err)
{
    enum amx_status status = insert_rows(ch, rows, all, err);

    if (status != AMX_OK || !*all)
        return status;
    for (size_t i = 0; i < INSTANCE_ROWS; i++) {
        *rows->waiting[i].id = ch->next_instance++;
        *rows->waiting[i].outcome = PUT_CREATED;
        ch->d_awaiting += awaits(ch, &rows->waiting[i].put);
    }
    ch->d_instances += INSTANCE_ROWS;
    return ch->feature_dim > 0 && rows->n_features > 0 ? insert_vectors(ch, rows, err) : AMX_OK;
}

enum amx_status instances_settle(struct changes *ch, struct amx_error *err)
{
    struct instance_rows *rows = changes_instance_rows(ch);
    enum amx_status status = AMX_OK;
    bool all = false;

    if (rows == NULL || rows->n == 0)
        return AMX_OK;
    if (rows->n == INSTANCE_ROWS && (rows->n_features == 0 || rows->n_features == rows->n) && rows->singly == 0 &&
        !ch->names_repeat) {
        status = put_together(ch, rows, &all, err);
        if (status == AMX_OK && !all)
            rows->singly = SINGLE_ROWS;
    }
    for (size_t i = 0; status == AMX_OK && !all && i < rows->n; i++)
        status = instances_put_row(ch, &rows->waiting[i].put, rows->waiting[i].outcome, rows->waiting[i].id, err);
    if (!all)
        rows->singly -= rows->singly < rows->n ? rows->singly : rows->n;
    rows->n = rows->n_features = 0;
    return status;
}

enum amx_status instances_put_soon(struct changes *ch, const struct instance_put *put, enum put_outcome *outcome,
                                   int64_t *id, struct amx_error *err)
{
    struct instance_rows *rows = changes_instance_rows(ch);

    if (rows == NULL)
        return error_set(err, AMX_NO_MEMORY, "no memory for a change");
    if (put->metadata.bytes != NULL || put->gold_class >= 0)
        return instances_put(ch, put, outcome, id, err);
    rows->waiting[rows->n++] = (struct waiting_instance){*put, outcome, id};
    rows->n_features += put->features != NULL;
    return rows->n == INSTANCE_ROWS ? instances_settle(ch, err) : AMX_OK;
}
