/* labels_read.c - the lists of labels: current ones, history, the change feed, and bare numbers for votes.
 *
 * Which rows a list has: current ones of living annotators; with history the superseded ones of living annotators; with
 * tombstones the tombstones of anybody. A deleted annotator's labels vanish from all lists at once and come back as
 * tombstones when they are erased, with higher numbers, so a follower of the feed misses nothing.
 *
 * The partial indexes on current and past labels are separate, so a list by instance is the union of two short index
 * reads; the others walk one index in order of seq.
 */
#include "store/labels.h"

#include "store/changes_int.h"
#include "util/error.h"

#define LABEL_COLUMNS                                                                                                  \
    "l.seq, l.instance_id, l.annotator_id, coalesce(i.name, d.name), a.name, l.class, l.state, l.given_at,"            \
    " l.received_at, l.duration_ms, l.ref"
#define LABEL_JOINS                                                                                                    \
    " JOIN annotators a ON a.project_id = l.project_id AND a.id = l.annotator_id"                                      \
    " LEFT JOIN instances i ON i.project_id = l.project_id AND i.id = l.instance_id"                                   \
    " LEFT JOIN departed_instances d ON d.project_id = l.project_id AND d.id = l.instance_id"
/* ?4 rows; ?5 history, ?6 tombstones: 0 or 1. */
#define LABEL_VISIBLE                                                                                                  \
    " ((l.state = 0 AND a.gone = 0) OR (?5 = 1 AND l.state = 1 AND a.gone = 0) OR (?6 = 1 AND l.state = 2))"
#define SOURCE_COLUMNS                                                                                                 \
    "project_id, seq, instance_id, annotator_id, class, state, given_at, received_at, duration_ms, ref"
/* ?3 after; ?7 instance, ?8 annotator (numbers, NULL = any), ?9 ref. */
#define UNION_SOURCE(key)                                                                                              \
    "(SELECT " SOURCE_COLUMNS " FROM labels WHERE project_id = ?1 AND " key " AND state = 0 AND seq > ?3"              \
    " UNION ALL SELECT " SOURCE_COLUMNS " FROM labels WHERE project_id = ?1 AND " key " AND state <> 0 AND seq > ?3"   \
    " AND (?5 = 1 OR ?6 = 1)) l"

static const char LIST_ALL[] = "SELECT " LABEL_COLUMNS " FROM labels l" LABEL_JOINS
                               " WHERE l.project_id = ?1 AND l.seq > ?3 AND" LABEL_VISIBLE " ORDER BY l.seq LIMIT ?4";
static const char LIST_BY_ANNOTATOR[] =
    "SELECT " LABEL_COLUMNS " FROM annotator_labels x CROSS JOIN labels l" LABEL_JOINS
    " WHERE x.project_id = ?1 AND x.shelf = ?8 AND x.seq > ?3 AND l.project_id = x.project_id AND l.seq = x.seq"
    " AND" LABEL_VISIBLE " ORDER BY x.seq LIMIT ?4";
static const char LIST_BY_INSTANCE[] = "SELECT " LABEL_COLUMNS " FROM " UNION_SOURCE("instance_id = ?7") LABEL_JOINS
    " WHERE (?8 IS NULL OR l.annotator_id = ?8) AND" LABEL_VISIBLE " ORDER BY l.seq LIMIT ?4";
static const char LIST_BY_REF[] =
    "SELECT " LABEL_COLUMNS " FROM labels l" LABEL_JOINS
    " WHERE l.project_id = ?1 AND l.ref IS NOT NULL AND l.ref = ?9 AND l.seq > ?3"
    " AND (?7 IS NULL OR l.instance_id = ?7) AND (?8 IS NULL OR l.annotator_id = ?8) AND" LABEL_VISIBLE
    " ORDER BY l.seq LIMIT ?4";
static const char LIST_OF_INSTANCE[] =
    "SELECT " LABEL_COLUMNS " FROM labels l" LABEL_JOINS
    " WHERE l.project_id = ?1 AND l.instance_id = ?2 AND l.state = 0 AND a.gone = 0 ORDER BY l.annotator_id";

static const char FIND_INSTANCE[] =
    "SELECT id FROM instances WHERE project_id = ?1 AND name = ?2"
    " UNION ALL SELECT id FROM departed_instances WHERE project_id = ?1 AND name = ?2 ORDER BY id DESC LIMIT 1";
static const char FIND_ANNOTATOR[] = "SELECT id FROM annotators WHERE project_id = ?1 AND name = ?2 AND gone = 0";

static void read_row(struct db_stmt *s, struct label_row *out)
{
    *out = (struct label_row){.seq = db_int(s, 0),
                              .instance_id = db_int(s, 1),
                              .annotator_id = db_int(s, 2),
                              .instance = db_text(s, 3),
                              .annotator = db_text(s, 4),
                              .class_index = db_is_null(s, 5) ? LABEL_SKIPPED : (int)db_int(s, 5),
                              .state = (enum label_state)db_int(s, 6),
                              .given_ms = db_int(s, 7),
                              .received_ms = db_int(s, 8),
                              .duration_ms = db_is_null(s, 9) ? -1 : db_int(s, 9),
                              .ref = db_text(s, 10)};
    out->skipped = out->class_index == LABEL_SKIPPED && out->state != LABEL_TOMBSTONE;
}

/* Number by name; 0 = nobody of that name. */
static enum amx_status find_id(struct db *db, const char *sql, int64_t project_id, struct slice name, int64_t *id,
                               struct amx_error *err)
{
    DB_STMT(s);
    enum db_step step = DB_DONE;
    enum amx_status status = db_use(db, sql, &s, err);

    if (status != AMX_OK)
        return status;
    db_bind_int(s, 1, project_id);
    db_bind_text(s, 2, name);
    status = db_step(s, &step, err);
    if (status == AMX_OK)
        *id = step == DB_ROW ? db_int(s, 0) : 0;
    return status;
}

/* Gives at most *limit rows to fn, and takes them off *limit. */
static enum amx_status give_rows(struct db_stmt *s, size_t *limit, labels_fn *fn, void *context, bool *more,
                                 struct amx_error *err)
{
    struct label_row row;
    enum db_step step = DB_ROW;
    enum amx_status status = AMX_OK;

    for (; status == AMX_OK; --*limit) {
        status = db_step(s, &step, err);
        if (status != AMX_OK || step == DB_DONE || *limit == 0)
            break;
        read_row(s, &row);
        status = fn(context, &row);
    }
    if (status == AMX_OK && more != NULL)
        *more = step == DB_ROW;
    return status;
}

static const char SELECT_LABEL_SEQ[] = "SELECT label_seq FROM projects WHERE id = ?1";

/* The statement of one annotator's labels, from shelf to shelf. A label of a shelf that was begun meanwhile is as new
 * as one that came after the list. */
static enum amx_status give_shelves(struct db_stmt *s, struct db *db, int64_t project_id, int64_t annotator_id,
                                    int64_t after_seq, size_t limit, labels_fn *fn, void *context, bool *more,
                                    struct amx_error *err)
{
    DB_STMT(project);
    enum amx_status status = db_use(db, SELECT_LABEL_SEQ, &project, err);

    if (status != AMX_OK)
        return status;
    db_bind_int(project, 1, project_id);
    status = db_one(project, "there is no such project", err);
    int64_t last = status == AMX_OK ? db_int(project, 0) >> SHELF_BITS : 0;
    bool found = false;
    for (int64_t shelf = after_seq >> SHELF_BITS; status == AMX_OK && !found && shelf <= last; shelf++) {
        db_reset(s);
        db_bind_int(s, 4, (int64_t)limit + 1);
        db_bind_int(s, 8, label_shelf(annotator_id, shelf << SHELF_BITS));
        status = give_rows(s, &limit, fn, context, &found, err);
    }
    if (status == AMX_OK)
        *more = found;
    return status;
}

enum amx_status labels_list(struct db *db, int64_t project_id, const struct label_filter *filter, int64_t after_seq,
                            size_t limit, labels_fn *fn, void *context, bool *more, struct amx_error *err)
{
    DB_STMT(s);
    int64_t instance_id = 0, annotator_id = 0;
    const char *sql = LIST_ALL;
    enum amx_status status = AMX_OK;

    if (filter->instance.bytes != NULL)
        status = find_id(db, FIND_INSTANCE, project_id, filter->instance, &instance_id, err);
    if (status == AMX_OK && filter->annotator.bytes != NULL)
        status = find_id(db, FIND_ANNOTATOR, project_id, filter->annotator, &annotator_id, err);
    if (status != AMX_OK)
        return status;
    if ((filter->instance.bytes != NULL && instance_id == 0) ||
        (filter->annotator.bytes != NULL && annotator_id == 0)) {
        *more = false;
        return AMX_OK;
    }
    if (filter->ref.bytes != NULL)
        sql = LIST_BY_REF;
    else if (instance_id != 0)
        sql = LIST_BY_INSTANCE;
    else if (annotator_id != 0)
        sql = LIST_BY_ANNOTATOR;
    status = db_use(db, sql, &s, err);
    if (status != AMX_OK)
        return status;
    db_bind_int(s, 1, project_id);
    db_bind_int(s, 3, after_seq);
    db_bind_int(s, 4, (int64_t)limit + 1);
    db_bind_int(s, 5, filter->history);
    db_bind_int(s, 6, filter->history || filter->tombstones);
    if (instance_id != 0 && (sql == LIST_BY_INSTANCE || sql == LIST_BY_REF))
        db_bind_int(s, 7, instance_id);
    if (annotator_id != 0)
        db_bind_int(s, 8, annotator_id);
    if (sql == LIST_BY_REF)
        db_bind_text(s, 9, filter->ref);
    if (sql == LIST_BY_ANNOTATOR)
        return give_shelves(s, db, project_id, annotator_id, after_seq, limit, fn, context, more, err);
    return give_rows(s, &limit, fn, context, more, err);
}

enum amx_status labels_of_instance(struct db *db, int64_t project_id, int64_t instance_id, labels_fn *fn, void *context,
                                   struct amx_error *err)
{
    DB_STMT(s);
    enum amx_status status = db_use(db, LIST_OF_INSTANCE, &s, err);

    if (status != AMX_OK)
        return status;
    db_bind_int(s, 1, project_id);
    db_bind_int(s, 2, instance_id);
    size_t limit = SIZE_MAX;
    return give_rows(s, &limit, fn, context, NULL, err);
}

static const char SELECT_CELLS[] =
    "SELECT l.instance_id, l.annotator_id, l.class FROM labels l"
    " JOIN annotators a ON a.project_id = l.project_id AND a.id = l.annotator_id AND a.gone = 0"
    " WHERE l.project_id = ?1 AND l.instance_id BETWEEN ?2 AND ?3 AND l.state = 0"
    " ORDER BY l.instance_id, l.annotator_id";

enum amx_status labels_cells(struct db *db, int64_t project_id, int64_t first_instance, int64_t last_instance,
                             label_cells_fn *fn, void *context, struct amx_error *err)
{
    DB_STMT(s);
    struct label_cell cell;
    enum db_step step = DB_ROW;
    enum amx_status status = db_use(db, SELECT_CELLS, &s, err);

    if (status != AMX_OK)
        return status;
    db_bind_int(s, 1, project_id);
    db_bind_int(s, 2, first_instance);
    db_bind_int(s, 3, last_instance);
    while (status == AMX_OK && (status = db_step(s, &step, err)) == AMX_OK && step == DB_ROW) {
        cell = (struct label_cell){db_int(s, 0), db_int(s, 1), db_is_null(s, 2) ? LABEL_SKIPPED : (int)db_int(s, 2)};
        status = fn(context, &cell);
    }
    return status;
}
