/* instances_read.c - reading instances: one, or a page of the list.
 *
 * The list goes by number through an index; the text of the statement is chosen by the filter, so that a page of the
 * few (gold, awaiting, unlabelled, valid, test) never walks through the many. Features and metadata are only read when
 * they are asked for: the features of a list by a join, because their keys rise with the numbers and SQLite then only
 * moves on to the next one; the rest one by one by key.
 */
#include "store/instances.h"

#include <stdlib.h>
#include <string.h>

#include "store/changes_int.h"
#include "util/error.h"

static const char NO_INSTANCE[] = "there is no such instance";

#define INSTANCE_COLUMNS "i.id, i.name, i.split, i.awaiting, i.labelled, i.gold, i.gold_at, i.created_at, i.was_train"

static const char SELECT_VECTOR[] = "SELECT vector FROM features WHERE key = (?1 << 32) | ?2";
static const char SELECT_METADATA[] = "SELECT json FROM instance_metadata WHERE project_id = ?1 AND instance_id = ?2";

/* Columns 0-8 as above. */
enum {
    COLUMN_VECTOR = 9
};
struct reader {
    struct db *db;
    int64_t project_id;
    size_t feature_dim;
    bool joined;                       /* features are a column of the row itself, */
    struct db_stmt *vector, *metadata; /* or fetched by key, as metadata always are */
    float *aligned;                    /* [feature_dim] a copy, when SQLite's own bytes are not aligned */
};

static const char SELECT_DIM[] = "SELECT feature_dim FROM projects WHERE id = ?1 AND gone = 0";

static enum amx_status reader_init(struct reader *r, struct db *db, int64_t project_id, unsigned with, bool join,
                                   struct amx_error *err)
{
    DB_STMT(s);
    enum amx_status status = db_use(db, SELECT_DIM, &s, err);

    *r = (struct reader){.db = db, .project_id = project_id, .joined = join && (with & INSTANCES_FEATURES) != 0};
    if (status != AMX_OK)
        return status;
    db_bind_int(s, 1, project_id);
    status = db_one(s, "there is no such project", err);
    if (status == AMX_OK)
        r->feature_dim = (size_t)db_int(s, 0);
    if (status == AMX_OK && (with & INSTANCES_FEATURES) != 0 && !join)
        status = db_use(db, SELECT_VECTOR, &r->vector, err);
    if (status == AMX_OK && (with & INSTANCES_METADATA) != 0)
        status = db_use(db, SELECT_METADATA, &r->metadata, err);
    return status;
}

static void reader_done(struct reader *r)
{
    db_release(&r->vector);
    db_release(&r->metadata);
    free(r->aligned);
}

static enum amx_status fetch(struct reader *r, struct db_stmt *s, int64_t id, enum db_step *step, struct amx_error *err)
{
    db_reset(s);
    db_bind_int(s, 1, r->project_id);
    db_bind_int(s, 2, id);
    return db_step(s, step, err);
}

/* SQLite promises no alignment: a blob may lie anywhere in a page. */
static enum amx_status align_features(struct reader *r, struct slice blob, const float **out, struct amx_error *err)
{
    if ((uintptr_t)blob.bytes % _Alignof(float) == 0) {
        *out = (const float *)(const void *)blob.bytes;
        return AMX_OK;
    }
    if (r->aligned == NULL && (r->aligned = malloc(blob.n)) == NULL)
        return error_set(err, AMX_NO_MEMORY, "no memory for features");
    memcpy(r->aligned, blob.bytes, blob.n);
    *out = r->aligned;
    return AMX_OK;
}

static enum amx_status read_features(struct reader *r, struct db_stmt *s, struct instance_row *out,
                                     struct amx_error *err)
{
    enum db_step step = DB_DONE;
    enum amx_status status = r->joined ? AMX_OK : fetch(r, r->vector, out->id, &step, err);

    if (status != AMX_OK)
        return status;
    struct slice blob = r->joined        ? db_blob(s, COLUMN_VECTOR)
                        : step == DB_ROW ? db_blob(r->vector, 0)
                                         : (struct slice){NULL, 0};
    if (blob.bytes == NULL || blob.n != r->feature_dim * sizeof(float))
        return error_set(err, AMX_CORRUPT, "the features of an instance are not what its row says");
    out->n_features = r->feature_dim;
    return align_features(r, blob, &out->features, err);
}

/* Everything borrowed until the next row. */
static enum amx_status read_row(struct reader *r, struct db_stmt *s, struct instance_row *out, struct amx_error *err)
{
    enum db_step step = DB_DONE;
    enum amx_status status = AMX_OK;
    bool awaiting = db_int(s, 3) != 0;

    *out = (struct instance_row){.id = db_int(s, 0),
                                 .name = db_text(s, 1),
                                 .split = (enum split)db_int(s, 2),
                                 .has_features = r->feature_dim > 0 && !awaiting,
                                 .awaiting_features = awaiting,
                                 .labelled = db_int(s, 4) != 0,
                                 .gold_class = db_is_null(s, 5) ? -1 : (int)db_int(s, 5),
                                 .gold_ms = db_int(s, 6),
                                 .created_ms = db_int(s, 7),
                                 .was_train = db_int(s, 2) == SPLIT_TRAIN || db_int(s, 8) != 0};
    if ((r->joined || r->vector != NULL) && out->has_features)
        status = read_features(r, s, out, err);
    if (status == AMX_OK && r->metadata != NULL) {
        status = fetch(r, r->metadata, out->id, &step, err);
        if (status == AMX_OK && step == DB_ROW)
            out->metadata = db_text(r->metadata, 0);
    }
    return status;
}

static enum amx_status own_row(struct instance_row *row, struct amx_error *err)
{
    struct slice features = {(const char *)row->features, row->n_features * sizeof(float)};
    struct slice *texts[] = {&features, &row->name, &row->metadata}; /* features first: malloc aligns the block */
    enum amx_status status = rows_own(texts, 3, &row->memory, err);

    row->features = (const float *)(const void *)features.bytes;
    return status;
}

void instance_row_done(struct instance_row *row)
{
    free(row->memory);
    *row = (struct instance_row){.gold_class = -1};
}

static const char SELECT_BY_NAME[] =
    "SELECT " INSTANCE_COLUMNS " FROM instances i WHERE i.project_id = ?1 AND i.name = ?2";
static const char SELECT_BY_ID[] = "SELECT " INSTANCE_COLUMNS " FROM instances i WHERE i.project_id = ?1 AND i.id = ?2";

static enum amx_status get(struct db *db, int64_t project_id, struct slice name, int64_t id, unsigned with,
                           struct instance_row *out, struct amx_error *err)
{
    DB_STMT(s);
    struct reader r;
    struct instance_row row;
    enum amx_status status = reader_init(&r, db, project_id, with, false, err);

    if (status == AMX_OK)
        status = db_use(db, id != 0 ? SELECT_BY_ID : SELECT_BY_NAME, &s, err);
    if (status == AMX_OK) {
        db_bind_int(s, 1, project_id);
        if (id != 0)
            db_bind_int(s, 2, id);
        else
            db_bind_text(s, 2, name);
        status = db_one(s, NO_INSTANCE, err);
    }
    if (status == AMX_OK)
        status = read_row(&r, s, &row, err);
    if (status == AMX_OK)
        status = own_row(&row, err);
    if (status == AMX_OK)
        *out = row;
    reader_done(&r);
    return status;
}

enum amx_status instances_find(struct db *db, int64_t project_id, struct slice name, unsigned with,
                               struct instance_row *out, struct amx_error *err)
{
    return get(db, project_id, name, 0, with, out, err);
}

enum amx_status instances_get(struct db *db, int64_t project_id, int64_t id, unsigned with, struct instance_row *out,
                              struct amx_error *err)
{
    if (id <= 0)
        return error_set(err, AMX_NOT_FOUND, "%s", NO_INSTANCE);
    return get(db, project_id, (struct slice){NULL, 0}, id, with, out, err);
}

/* ?3 after, ?4 rows; ?5 split, ?6 labelled, ?7 has_gold, ?8 awaiting: -1 = any. One text per index that can serve a
 * filter; the rest of the filter is checked row by row. */
#define SELECT_LIST(columns, join, condition)                                                                          \
    "SELECT " INSTANCE_COLUMNS columns " FROM instances i" join " WHERE i.project_id = ?1 AND i.id > ?3" condition     \
    " AND (?5 < 0 OR i.split = ?5) AND (?6 < 0 OR i.labelled = ?6) AND (?7 < 0 OR (i.gold IS NOT NULL) = (?7 = 1))"    \
    " AND (?8 < 0 OR i.awaiting = ?8) ORDER BY i.id LIMIT ?4"
#define SELECT_LISTS(condition)                                                                                        \
    {                                                                                                                  \
        SELECT_LIST("", "", condition),                                                                                \
            SELECT_LIST(", f.vector", " LEFT JOIN features f ON f.key = (?1 << 32) | i.id", condition)                 \
    }
/* [with features] */
static const char *const LIST_ALL[2] = SELECT_LISTS("");
static const char *const LIST_HELD[2] = SELECT_LISTS(" AND i.split <> 0 AND i.split = ?5");
static const char *const LIST_UNLABELLED[2] = SELECT_LISTS(" AND i.labelled = 0");
static const char *const LIST_GOLD[2] = SELECT_LISTS(" AND i.gold IS NOT NULL");
static const char *const LIST_AWAITING[2] = SELECT_LISTS(" AND i.awaiting = 1");

/* The most selective index that fits. */
static const char *list_for(const struct instance_filter *filter, bool features)
{
    if (filter->awaiting_features == 1)
        return LIST_AWAITING[features];
    if (filter->has_gold == 1)
        return LIST_GOLD[features];
    if (filter->labelled == 0)
        return LIST_UNLABELLED[features];
    return (filter->split > SPLIT_TRAIN ? LIST_HELD : LIST_ALL)[features];
}

enum amx_status instances_list(struct db *db, int64_t project_id, const struct instance_filter *filter, int64_t after,
                               size_t limit, unsigned with, instances_fn *fn, void *context, bool *more,
                               struct amx_error *err)
{
    static const struct instance_filter all = INSTANCE_FILTER_ALL;
    const struct instance_filter *f = filter != NULL ? filter : &all;
    DB_STMT(s);
    struct reader r;
    struct instance_row row;
    enum db_step step = DB_ROW;
    size_t n = 0;
    enum amx_status status = reader_init(&r, db, project_id, with, true, err);

    if (status == AMX_OK)
        status = db_use(db, list_for(f, r.joined), &s, err);
    if (status == AMX_OK) {
        db_bind_int(s, 1, project_id);
        db_bind_int(s, 3, after);
        db_bind_int(s, 4, (int64_t)limit + 1);
        db_bind_int(s, 5, f->split);
        db_bind_int(s, 6, f->labelled);
        db_bind_int(s, 7, f->has_gold);
        db_bind_int(s, 8, f->awaiting_features);
    }
    for (; status == AMX_OK; n++) {
        status = db_step(s, &step, err);
        if (status != AMX_OK || step == DB_DONE || n == limit)
            break;
        status = read_row(&r, s, &row, err);
        if (status == AMX_OK)
            status = fn(context, &row);
    }
    if (status == AMX_OK)
        *more = step == DB_ROW;
    reader_done(&r);
    return status;
}
