/* projects.c - projects: made, read, changed, deleted and purged.
 *
 * A row read holds its texts and its class list in one block of memory, so that it can outlive the statement; the
 * catalog keeps such rows for the whole life of a project.
 */
#include "store/projects.h"

#include <stdlib.h>
#include <string.h>

#include "store/changes_int.h"
#include "util/error.h"
#include "util/random.h"
#include "util/size.h"

enum {
    PURGE_ROWS = 5000,
    PURGE_CHUNKS = 4 /* of 4 MiB each */
};
static const char NO_PROJECT[] = "there is no such project";

/* ---- insert ---- */

static const char INSERT_PROJECT[] =
    "INSERT INTO projects (uid, name, title, settings, feature_dim, n_classes, created_at)"
    " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) RETURNING id";
static const char INSERT_CLASS[] = "INSERT INTO classes (project_id, position, name) VALUES (?1, ?2, ?3)";

static enum amx_status insert_classes(struct db *db, int64_t id, size_t position, const struct slice *classes, size_t n,
                                      struct amx_error *err)
{
    DB_STMT(s);
    enum amx_status status = db_use(db, INSERT_CLASS, &s, err);

    for (size_t i = 0; status == AMX_OK && i < n; i++) {
        db_bind_int(s, 1, id);
        db_bind_int(s, 2, (int64_t)(position + i));
        db_bind_text(s, 3, classes[i]);
        status = db_run(s, err);
        if (status == AMX_CONFLICT)
            return error_set(err, AMX_CONFLICT, "the class %.100s exists already", classes[i].bytes);
    }
    return status;
}

enum amx_status projects_insert(struct db *db, const struct project_new *project, int64_t *id, struct amx_error *err)
{
    DB_STMT(s);
    unsigned char random[(PROJECT_UID_BYTES - 1) / 2];
    char uid[PROJECT_UID_BYTES];
    enum amx_status status = random_bytes(random, sizeof(random));

    if (status != AMX_OK)
        return error_set(err, status, "the kernel gives no random bytes");
    random_hex(random, sizeof(random), uid);
    status = db_use(db, INSERT_PROJECT, &s, err);
    if (status != AMX_OK)
        return status;
    db_bind_string(s, 1, uid);
    db_bind_text(s, 2, project->name);
    db_bind_text(s, 3, project->title.bytes != NULL ? project->title : (struct slice){"", 0});
    db_bind_text(s, 4, project->settings.bytes != NULL ? project->settings : (struct slice){"{}", 2});
    db_bind_int(s, 5, (int64_t)project->feature_dim);
    db_bind_int(s, 6, (int64_t)project->n_classes);
    db_bind_int(s, 7, project->now_ms);
    status = db_one(s, NULL, err);
    if (status == AMX_CONFLICT)
        return error_set(err, AMX_CONFLICT, "a project of this name exists already");
    if (status != AMX_OK)
        return status;
    int64_t new_id = db_int(s, 0);
    db_reset(s);
    status = insert_classes(db, new_id, 0, project->classes, project->n_classes, err);
    if (status == AMX_OK)
        *id = new_id;
    return status;
}

/* ---- reading ---- */

#define PROJECT_COLUMNS                                                                                                \
    "id, uid, name, title, settings, feature_dim, n_classes, n_instances, n_annotators, n_labels, n_skipped, n_gold,"  \
    " n_awaiting, active_model, label_seq, revision, created_at"

static const char SELECT_CLASSES[] = "SELECT name, retired FROM classes WHERE project_id = ?1 ORDER BY position";
static const char SELECT_CLASS_BYTES[] =
    "SELECT coalesce(sum(length(CAST(name AS BLOB)) + 1), 0) FROM classes WHERE project_id = ?1";

static struct slice copy_text(char **p, struct slice text)
{
    struct slice out = {*p, text.n};

    if (text.n > 0)
        memcpy(*p, text.bytes, text.n);
    (*p)[text.n] = '\0';
    *p += text.n + 1;
    return out;
}

static enum amx_status class_bytes(struct db *db, int64_t id, size_t *n, struct amx_error *err)
{
    DB_STMT(s);
    enum amx_status status = db_use(db, SELECT_CLASS_BYTES, &s, err);

    if (status != AMX_OK)
        return status;
    db_bind_int(s, 1, id);
    status = db_one(s, NULL, err);
    if (status == AMX_OK)
        *n = (size_t)db_int(s, 0);
    return status;
}

static enum amx_status read_classes(struct db *db, struct project_row *row, char *p, const char *end,
                                    struct amx_error *err)
{
    DB_STMT(s);
    enum db_step step = DB_ROW;
    size_t n = 0;
    enum amx_status status = db_use(db, SELECT_CLASSES, &s, err);

    if (status != AMX_OK)
        return status;
    db_bind_int(s, 1, row->id);
    while ((status = db_step(s, &step, err)) == AMX_OK && step == DB_ROW) {
        struct slice name = db_text(s, 0);
        if (n == row->n_classes || (size_t)(end - p) < name.n + 1)
            return error_set(err, AMX_CORRUPT, "the classes of a project are not as many as its row says");
        row->classes[n++] = (struct project_class){copy_text(&p, name), db_int(s, 1) != 0};
    }
    if (status == AMX_OK && n != row->n_classes)
        return error_set(err, AMX_CORRUPT, "the classes of a project are not as many as its row says");
    return status;
}

/* From a statement that stands on a row. All in one block: class array, class names, texts. */
static enum amx_status read_row(struct db *db, struct db_stmt *s, struct project_row *out, struct amx_error *err)
{
    struct project_row row = {.id = db_int(s, 0)};
    struct slice uid = db_text(s, 1), texts[3] = {db_text(s, 2), db_text(s, 3), db_text(s, 4)};
    size_t n_class_bytes = 0, total;
    enum amx_status status = class_bytes(db, row.id, &n_class_bytes, err);

    if (status != AMX_OK)
        return status;
    row.n_classes = (size_t)db_int(s, 6);
    total = row.n_classes * sizeof(struct project_class) + n_class_bytes + 3; /* at most 1,000 classes of 255 bytes */
    for (int i = 0; i < 3; i++) {
        if (!size_add(&total, total, texts[i].n))
            return error_set(err, AMX_NO_MEMORY, "a project does not fit in memory");
    }
    row.memory = malloc(total);
    if (row.memory == NULL)
        return error_set(err, AMX_NO_MEMORY, "no memory for a project");
    row.classes = row.memory;
    char *p = (char *)row.memory + row.n_classes * sizeof(struct project_class);
    status = read_classes(db, &row, p, p + n_class_bytes, err);
    if (status == AMX_OK && uid.n != PROJECT_UID_BYTES - 1)
        status = error_set(err, AMX_CORRUPT, "the uid of a project is not 32 digits long");
    if (status != AMX_OK) {
        free(row.memory);
        return status;
    }
    p += n_class_bytes;
    row.name = copy_text(&p, texts[0]);
    row.title = copy_text(&p, texts[1]);
    row.settings = copy_text(&p, texts[2]);
    memcpy(row.uid, uid.bytes, PROJECT_UID_BYTES);
    row.feature_dim = (size_t)db_int(s, 5);
    row.counts =
        (struct project_counts){db_int(s, 7), db_int(s, 8), db_int(s, 9), db_int(s, 10), db_int(s, 11), db_int(s, 12)};
    row.active_model = db_int(s, 13);
    row.label_seq = db_int(s, 14);
    row.revision = db_int(s, 15);
    row.created_ms = db_int(s, 16);
    *out = row;
    return AMX_OK;
}

void project_row_done(struct project_row *row)
{
    free(row->memory);
    *row = (struct project_row){.id = 0};
}

static const char SELECT_BY_ID[] = "SELECT " PROJECT_COLUMNS " FROM projects WHERE id = ?1 AND gone = 0";
static const char SELECT_BY_NAME[] = "SELECT " PROJECT_COLUMNS " FROM projects WHERE name = ?1 AND gone = 0";

enum amx_status projects_get(struct db *db, int64_t id, struct project_row *out, struct amx_error *err)
{
    DB_STMT(s);
    enum amx_status status = db_use(db, SELECT_BY_ID, &s, err);

    if (status != AMX_OK)
        return status;
    db_bind_int(s, 1, id);
    status = db_one(s, NO_PROJECT, err);
    return status == AMX_OK ? read_row(db, s, out, err) : status;
}

enum amx_status projects_find(struct db *db, struct slice name, struct project_row *out, struct amx_error *err)
{
    DB_STMT(s);
    enum amx_status status = db_use(db, SELECT_BY_NAME, &s, err);

    if (status != AMX_OK)
        return status;
    db_bind_text(s, 1, name);
    status = db_one(s, NO_PROJECT, err);
    return status == AMX_OK ? read_row(db, s, out, err) : status;
}

static const char SELECT_PAGE[] =
    "SELECT " PROJECT_COLUMNS " FROM projects WHERE gone = 0 AND id > ?1 AND substr(name, 1, ?3) = ?2"
    " ORDER BY id LIMIT ?4";

enum amx_status projects_list(struct db *db, struct slice prefix, int64_t after, size_t limit, projects_fn *fn,
                              void *context, bool *more, struct amx_error *err)
{
    DB_STMT(s);
    struct project_row row;
    enum db_step step = DB_ROW;
    enum amx_status status = db_use(db, SELECT_PAGE, &s, err);

    if (status != AMX_OK)
        return status;
    db_bind_int(s, 1, after);
    db_bind_text(s, 2, prefix.bytes != NULL ? prefix : (struct slice){"", 0});
    db_bind_int(s, 3, (int64_t)prefix.n); /* project names are ASCII: characters are bytes */
    db_bind_int(s, 4, (int64_t)limit + 1);
    for (size_t n = 0; status == AMX_OK; n++) {
        status = db_step(s, &step, err);
        if (status != AMX_OK || step == DB_DONE || n == limit)
            break;
        status = read_row(db, s, &row, err);
        if (status == AMX_OK) {
            status = fn(context, &row);
            project_row_done(&row);
        }
    }
    if (status == AMX_OK)
        *more = step == DB_ROW;
    return status;
}

/* ---- changes ---- */

static const char UPDATE_WORDS[] =
    "UPDATE projects SET title = coalesce(?2, title), settings = coalesce(?3, settings), revision = revision + 1"
    " WHERE id = ?1 AND gone = 0";
static const char UPDATE_CLASSES[] =
    "UPDATE projects SET n_classes = n_classes + ?2, revision = revision + 1 WHERE id = ?1 AND gone = 0";
static const char RETIRE_CLASS[] = "UPDATE classes SET retired = ?3 WHERE project_id = ?1 AND position = ?2";
static const char SELECT_N_CLASSES[] = "SELECT n_classes FROM projects WHERE id = ?1 AND gone = 0";

/* Runs a statement that must hit one row. */
static enum amx_status run_one(struct db *db, struct db_stmt *s, const char *not_found, struct amx_error *err)
{
    enum amx_status status = db_run(s, err);

    if (status == AMX_OK && db_changed(db) == 0)
        return error_set(err, AMX_NOT_FOUND, "%s", not_found);
    return status;
}

enum amx_status projects_update(struct db *db, int64_t id, struct slice title, struct slice settings,
                                struct amx_error *err)
{
    DB_STMT(s);
    enum amx_status status = db_use(db, UPDATE_WORDS, &s, err);

    if (status != AMX_OK)
        return status;
    db_bind_int(s, 1, id);
    db_bind_text(s, 2, title);
    db_bind_text(s, 3, settings);
    return run_one(db, s, NO_PROJECT, err);
}

static enum amx_status grow_classes(struct db *db, int64_t id, size_t n, struct amx_error *err)
{
    DB_STMT(s);
    enum amx_status status = db_use(db, UPDATE_CLASSES, &s, err);

    if (status != AMX_OK)
        return status;
    db_bind_int(s, 1, id);
    db_bind_int(s, 2, (int64_t)n);
    return run_one(db, s, NO_PROJECT, err);
}

enum amx_status projects_append_classes(struct db *db, int64_t id, const struct slice *classes, size_t n,
                                        struct amx_error *err)
{
    DB_STMT(s);
    enum amx_status status = db_use(db, SELECT_N_CLASSES, &s, err);

    if (status != AMX_OK)
        return status;
    db_bind_int(s, 1, id);
    status = db_one(s, NO_PROJECT, err);
    if (status != AMX_OK)
        return status;
    size_t before = (size_t)db_int(s, 0);
    db_reset(s);
    if (n > AMX_MAX_CLASSES - before)
        return error_set(err, AMX_TOO_LARGE, "a project has at most %d classes", (int)AMX_MAX_CLASSES);
    status = insert_classes(db, id, before, classes, n, err);
    return status == AMX_OK ? grow_classes(db, id, n, err) : status;
}

enum amx_status projects_retire_class(struct db *db, int64_t id, size_t class_index, bool retired,
                                      struct amx_error *err)
{
    DB_STMT(s);
    enum amx_status status = db_use(db, RETIRE_CLASS, &s, err);

    if (status != AMX_OK)
        return status;
    db_bind_int(s, 1, id);
    db_bind_int(s, 2, (int64_t)class_index);
    db_bind_int(s, 3, retired);
    status = run_one(db, s, "there is no such class", err);
    return status == AMX_OK ? grow_classes(db, id, 0, err) : status;
}

/* ---- delete and purge ---- */

static const char MARK_GONE[] = "UPDATE projects SET gone = 1, active_model = NULL WHERE id = ?1 AND gone = 0";
/* Queued runs end with the project; a running one finds the project gone when it wants to finish. */
static const char CANCEL_RUNS[] = "UPDATE runs SET state = 4, cancel_requested = 1, error = 'the project was deleted' "
                                  "WHERE project_id = ?1 AND state = 0";
static const char COUNT_CANCELLED[] = "UPDATE run_totals SET n = n + ?1 WHERE state = 4";

enum amx_status projects_delete(struct db *db, int64_t id, struct amx_error *err)
{
    DB_STMT(mark);
    DB_STMT(cancel);
    DB_STMT(count);
    enum amx_status status = db_use(db, MARK_GONE, &mark, err);

    if (status != AMX_OK)
        return status;
    db_bind_int(mark, 1, id);
    status = run_one(db, mark, NO_PROJECT, err);
    if (status == AMX_OK)
        status = db_use(db, CANCEL_RUNS, &cancel, err);
    if (status != AMX_OK)
        return status;
    db_bind_int(cancel, 1, id);
    status = db_run(cancel, err);
    int64_t n = db_changed(db);
    if (status == AMX_OK)
        status = db_use(db, COUNT_CANCELLED, &count, err);
    if (status != AMX_OK)
        return status;
    db_bind_int(count, 1, n);
    return db_run(count, err);
}

/* In this order: what refers to others goes first. Each takes ?1 project, ?2 rows; `most` of them make a job by
 * themselves. */
static const struct {
    int64_t most;
    const char *sql;
} PURGE[] = {
    {PURGE_ROWS, "DELETE FROM labels WHERE project_id = ?1 AND seq IN"
                 " (SELECT seq FROM labels WHERE project_id = ?1 ORDER BY seq LIMIT ?2)"},
    {PURGE_ROWS, "DELETE FROM annotator_labels WHERE project_id = ?1 AND (shelf, seq) IN"
                 " (SELECT shelf, seq FROM annotator_labels WHERE project_id = ?1"
                 " ORDER BY shelf, seq LIMIT ?2)"},
    {PURGE_ROWS, "DELETE FROM features WHERE key IN"
                 " (SELECT key FROM features WHERE key BETWEEN ?1 << 32 AND (?1 << 32) | 4294967295"
                 " ORDER BY key LIMIT ?2)"},
    {PURGE_ROWS, "DELETE FROM instance_metadata WHERE project_id = ?1 AND instance_id IN"
                 " (SELECT instance_id FROM instance_metadata WHERE project_id = ?1 ORDER BY instance_id LIMIT ?2)"},
    {PURGE_ROWS, "DELETE FROM instances WHERE project_id = ?1 AND name IN"
                 " (SELECT name FROM instances WHERE project_id = ?1 ORDER BY name LIMIT ?2)"},
    {PURGE_ROWS, "DELETE FROM departed_instances WHERE project_id = ?1 AND id IN"
                 " (SELECT id FROM departed_instances WHERE project_id = ?1 ORDER BY id LIMIT ?2)"},
    {PURGE_ROWS, "DELETE FROM annotators WHERE project_id = ?1 AND id IN"
                 " (SELECT id FROM annotators WHERE project_id = ?1 ORDER BY id LIMIT ?2)"},
    {PURGE_ROWS, "DELETE FROM model_annotators WHERE project_id = ?1 AND (number, annotator_id) IN"
                 " (SELECT number, annotator_id FROM model_annotators WHERE project_id = ?1 ORDER BY number, "
                 "annotator_id LIMIT ?2)"},
    {PURGE_CHUNKS, "DELETE FROM model_chunks WHERE project_id = ?1 AND (number, chunk) IN"
                   " (SELECT number, chunk FROM model_chunks WHERE project_id = ?1 ORDER BY number, chunk LIMIT ?2)"},
    {PURGE_ROWS, "DELETE FROM models WHERE project_id = ?1 AND number IN"
                 " (SELECT number FROM models WHERE project_id = ?1 ORDER BY number LIMIT ?2)"},
    {PURGE_ROWS, "DELETE FROM runs WHERE project_id = ?1 AND state <> 1 AND number IN"
                 " (SELECT number FROM runs WHERE project_id = ?1 AND state <> 1 ORDER BY number LIMIT ?2)"},
    {PURGE_ROWS, "DELETE FROM idempotency WHERE project_id = ?1 AND (token_id, key) IN"
                 " (SELECT token_id, key FROM idempotency WHERE project_id = ?1 LIMIT ?2)"},
};
static const char SELECT_GONE[] = "SELECT id FROM projects WHERE gone = 1 AND id > ?1 ORDER BY id LIMIT 1";
static const char SELECT_RUNNING[] = "SELECT 1 FROM runs WHERE project_id = ?1 LIMIT 1";
static const char DELETE_CLASSES[] = "DELETE FROM classes WHERE project_id = ?1";
static const char DELETE_PROJECT[] = "DELETE FROM projects WHERE id = ?1";

static enum amx_status run_of(struct db *db, const char *sql, int64_t id, struct amx_error *err)
{
    DB_STMT(s);
    enum amx_status status = db_use(db, sql, &s, err);

    if (status != AMX_OK)
        return status;
    db_bind_int(s, 1, id);
    return db_run(s, err);
}

/* *id 0: there is no further one. */
static enum amx_status next_gone(struct db *db, int64_t after, int64_t *id, struct amx_error *err)
{
    DB_STMT(s);
    enum db_step step = DB_DONE;
    enum amx_status status = db_use(db, SELECT_GONE, &s, err);

    if (status != AMX_OK)
        return status;
    db_bind_int(s, 1, after);
    status = db_step(s, &step, err);
    if (status == AMX_OK)
        *id = step == DB_ROW ? db_int(s, 0) : 0;
    return status;
}

/* Deletes some rows; *left: budget that remains; 0 = enough for one job. */
static enum amx_status purge_rows(struct db *db, int64_t id, int64_t *left, struct amx_error *err)
{
    for (size_t i = 0; *left > 0 && i < sizeof(PURGE) / sizeof(PURGE[0]); i++) {
        DB_STMT(s);
        enum amx_status status = db_use(db, PURGE[i].sql, &s, err);
        if (status != AMX_OK)
            return status;
        db_bind_int(s, 1, id);
        db_bind_int(s, 2, PURGE[i].most < *left ? PURGE[i].most : *left);
        status = db_run(s, err);
        if (status != AMX_OK)
            return status;
        *left = db_changed(db) == PURGE[i].most ? 0 : *left - db_changed(db);
    }
    return AMX_OK;
}

/* The project's own rows, once everything else is gone. A run that is still running keeps them for now: *waits. */
static enum amx_status purge_project(struct db *db, int64_t id, bool *waits, struct amx_error *err)
{
    DB_STMT(s);
    enum db_step step = DB_DONE;
    enum amx_status status = db_use(db, SELECT_RUNNING, &s, err);

    if (status != AMX_OK)
        return status;
    db_bind_int(s, 1, id);
    status = db_step(s, &step, err);
    *waits = step == DB_ROW;
    db_reset(s);
    if (status == AMX_OK && step == DB_DONE)
        status = run_of(db, DELETE_CLASSES, id, err);
    if (status == AMX_OK && step == DB_DONE)
        status = run_of(db, DELETE_PROJECT, id, err);
    return status;
}

enum amx_status projects_purge_step(struct db *db, bool *worked, struct amx_error *err)
{
    int64_t id = 0, left = PURGE_ROWS;
    bool waits = true;
    enum amx_status status = AMX_OK;

    *worked = false;
    while (status == AMX_OK && waits && (status = next_gone(db, id, &id, err)) == AMX_OK && id != 0) {
        status = purge_rows(db, id, &left, err);
        if (status == AMX_OK && left < PURGE_ROWS)
            *worked = true;
        if (status != AMX_OK || left <= 0)
            return status;
        status = purge_project(db, id, &waits, err);
        *worked = *worked || !waits;
    }
    return status;
}
