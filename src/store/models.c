/* models.c - writing models and choosing the active one.
 *
 * A model file may have hundreds of MiB. It comes in chunks, each in an ordinary job, so labels go on being written
 * between them; nobody sees the model before the last small job has checked it. Deleting is the same backwards: the row
 * is marked in a small job, and the bytes are erased in steps, because erasing writes them all once more
 * (secure_delete).
 */
#include "store/models.h"

#include <string.h>

#include "util/digest.h"
#include "util/error.h"

static const char NO_MODEL[] = "there is no such model";

/* Statement with project and number bound. */
static enum amx_status use_of(struct db *db, const char *sql, int64_t project_id, int64_t number, struct db_stmt **s,
                              struct amx_error *err)
{
    enum amx_status status = db_use(db, sql, s, err);

    if (status == AMX_OK) {
        db_bind_int(*s, 1, project_id);
        db_bind_int(*s, 2, number);
    }
    return status;
}

static enum amx_status run_of(struct db *db, const char *sql, int64_t project_id, int64_t number, struct amx_error *err)
{
    DB_STMT(s);
    enum amx_status status = use_of(db, sql, project_id, number, &s, err);

    return status == AMX_OK ? db_run(s, err) : status;
}

/* ---- writing ---- */

static const char TAKE_NUMBER[] =
    "UPDATE projects SET next_model = next_model + 1 WHERE id = ?1 AND gone = 0 RETURNING next_model - 1";
static const char INSERT_MODEL[] =
    "INSERT INTO models (project_id, number, run_number, method, settings, seed, ensemble, label_seq, labels_used,"
    " instances_used, data_hash, build, kernel, blas, created_at, folds)"
    " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)";

enum amx_status models_begin(struct db *db, int64_t project_id, const struct model_new *model, int64_t *number,
                             struct amx_error *err)
{
    DB_STMT(take);
    DB_STMT(s);
    enum amx_status status = db_use(db, TAKE_NUMBER, &take, err);

    if (status != AMX_OK)
        return status;
    db_bind_int(take, 1, project_id);
    status = db_one(take, "there is no such project", err);
    if (status != AMX_OK)
        return status;
    int64_t new_number = db_int(take, 0);
    db_reset(take);
    status = use_of(db, INSERT_MODEL, project_id, new_number, &s, err);
    if (status != AMX_OK)
        return status;
    if (model->run_number != 0)
        db_bind_int(s, 3, model->run_number);
    db_bind_text(s, 4, model->method);
    db_bind_text(s, 5, model->settings);
    db_bind_int(s, 6, model->seed);
    db_bind_int(s, 7, model->ensemble);
    db_bind_int(s, 8, model->label_seq);
    db_bind_int(s, 9, model->labels_used);
    if (model->instances_used >= 0)
        db_bind_int(s, 10, model->instances_used);
    db_bind_text(s, 11, model->data_hash);
    db_bind_text(s, 12, model->build);
    db_bind_text(s, 13, model->kernel);
    db_bind_text(s, 14, model->blas);
    db_bind_int(s, 15, model->now_ms);
    db_bind_int(s, 16, model->folds);
    status = db_run(s, err);
    if (status == AMX_OK)
        *number = new_number;
    return status;
}

static const char SELECT_WRITING[] = "SELECT 1 FROM models WHERE project_id = ?1 AND number = ?2 AND ready = 0";

/* AMX_NOT_FOUND when nobody writes this model (its project may have been deleted meanwhile). */
static enum amx_status check_writing(struct db *db, int64_t project_id, int64_t number, struct amx_error *err)
{
    DB_STMT(s);
    enum amx_status status = use_of(db, SELECT_WRITING, project_id, number, &s, err);

    return status == AMX_OK ? db_one(s, "the model is not being written", err) : status;
}

static const char INSERT_CHUNK[] =
    "INSERT INTO model_chunks (project_id, number, chunk, bytes) VALUES (?1, ?2, ?3, ?4)";

enum amx_status models_put_chunk(struct db *db, int64_t project_id, int64_t number, int64_t chunk, const void *bytes,
                                 size_t n, struct amx_error *err)
{
    DB_STMT(s);
    enum amx_status status = check_writing(db, project_id, number, err);

    if (status == AMX_OK && (n == 0 || n > MODEL_CHUNK_BYTES))
        status = error_set(err, AMX_INVALID, "a chunk of a model has 1 to %d bytes", (int)MODEL_CHUNK_BYTES);
    if (status == AMX_OK)
        status = use_of(db, INSERT_CHUNK, project_id, number, &s, err);
    if (status != AMX_OK)
        return status;
    db_bind_int(s, 3, chunk);
    db_bind_blob(s, 4, bytes, n);
    return db_run(s, err);
}

static const char INSERT_ANNOTATOR[] =
    "INSERT INTO model_annotators (project_id, number, annotator_id, labels, reliability, class_reliability,"
    " class_evidence, confusion, reliability_all, expected_correct, agreement_with_others)"
    " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";

enum amx_status models_put_annotator(struct db *db, int64_t project_id, int64_t number,
                                     const struct model_annotator *row, struct amx_error *err)
{
    DB_STMT(s);
    size_t class_bytes = row->n_classes * sizeof(float); /* at most 1,000 classes */
    enum amx_status status = check_writing(db, project_id, number, err);

    if (status == AMX_OK)
        status = use_of(db, INSERT_ANNOTATOR, project_id, number, &s, err);
    if (status != AMX_OK)
        return status;
    db_bind_int(s, 3, row->annotator_id);
    db_bind_int(s, 4, row->labels);
    db_bind_real(s, 5, row->reliability);
    db_bind_blob(s, 6, row->class_reliability, class_bytes); /* NULL binds NULL */
    db_bind_blob(s, 7, row->class_evidence, class_bytes);
    db_bind_blob(s, 8, row->confusion, class_bytes * row->n_classes);
    if (row->folds != NULL) { /* else NULL */
        db_bind_real(s, 9, row->folds->reliability_all);
        db_bind_real(s, 10, row->folds->expected_correct);
        db_bind_real(s, 11, row->folds->agreement_with_others);
    }
    return db_run(s, err);
}

static const char SELECT_CHUNKS[] =
    "SELECT chunk, bytes FROM model_chunks WHERE project_id = ?1 AND number = ?2 ORDER BY chunk";

static enum amx_status check_chunks(struct db *db, int64_t project_id, int64_t number, const struct model_end *end,
                                    struct amx_error *err)
{
    DB_STMT(s);
    struct digest digest;
    uint8_t sha256[DIGEST_BYTES];
    enum db_step step = DB_ROW;
    int64_t n_chunks = 0, size = 0;
    bool in_order = true;
    enum amx_status status = use_of(db, SELECT_CHUNKS, project_id, number, &s, err);

    digest_init(&digest);
    while (status == AMX_OK && (status = db_step(s, &step, err)) == AMX_OK && step == DB_ROW) {
        struct slice bytes = db_blob(s, 1);
        digest_add(&digest, bytes.bytes, bytes.n);
        in_order = in_order && db_int(s, 0) == n_chunks;
        n_chunks++;
        size += (int64_t)bytes.n;
    }
    if (status != AMX_OK)
        return status;
    digest_finish(&digest, sha256);
    if (!in_order || n_chunks != end->n_chunks || size != end->size_bytes)
        return error_set(err, AMX_CORRUPT, "the model was written in %lld chunks and %lld bytes, not as told",
                         (long long)n_chunks, (long long)size);
    if (memcmp(sha256, end->sha256, DIGEST_BYTES) != 0)
        return error_set(err, AMX_CORRUPT, "the model's bytes do not have the hash told");
    return AMX_OK;
}

static const char FINISH_MODEL[] =
    "UPDATE models SET ready = 1, n_chunks = ?3, size_bytes = ?4, sha256 = ?5, metrics = ?6,"
    " population_reliability = ?7, n_classes = ?8 WHERE project_id = ?1 AND number = ?2 AND ready = 0";
/* Over the newest MODELS_KEPT; neither active nor pinned. */
static const char PRUNE[] =
    "UPDATE models SET ready = 2 WHERE project_id = ?1 AND ready = 1 AND pinned = 0"
    " AND number NOT IN (SELECT number FROM models WHERE project_id = ?1 AND ready = 1 ORDER BY number DESC LIMIT ?2)"
    " AND number <> coalesce((SELECT active_model FROM projects WHERE id = ?1), 0)";

enum amx_status models_finish(struct db *db, int64_t project_id, int64_t number, const struct model_end *end,
                              struct amx_error *err)
{
    DB_STMT(s);
    enum amx_status status = check_writing(db, project_id, number, err);

    if (status == AMX_OK)
        status = check_chunks(db, project_id, number, end, err);
    if (status == AMX_OK)
        status = use_of(db, FINISH_MODEL, project_id, number, &s, err);
    if (status != AMX_OK)
        return status;
    db_bind_int(s, 3, end->n_chunks);
    db_bind_int(s, 4, end->size_bytes);
    db_bind_blob(s, 5, end->sha256, sizeof(end->sha256));
    db_bind_text(s, 6, end->metrics.bytes != NULL ? end->metrics : (struct slice){"{}", 2});
    db_bind_real(s, 7, end->population_reliability);
    db_bind_int(s, 8, (int64_t)end->n_classes);
    status = db_run(s, err);
    if (status == AMX_OK && end->activate)
        status = models_activate(db, project_id, number, err);
    return status == AMX_OK ? run_of(db, PRUNE, project_id, MODELS_KEPT, err) : status;
}

static const char ABANDON[] = "UPDATE models SET ready = 2 WHERE project_id = ?1 AND number = ?2 AND ready = 0";

enum amx_status models_abandon(struct db *db, int64_t project_id, int64_t number, struct amx_error *err)
{
    return run_of(db, ABANDON, project_id, number, err);
}

static const char RECOVER[] = "UPDATE models SET ready = 2 WHERE ready = 0 AND ready <> 1";

enum amx_status models_recover(struct db *db, int64_t *n_deleted, struct amx_error *err)
{
    DB_STMT(s);
    enum amx_status status = db_use(db, RECOVER, &s, err);

    if (status == AMX_OK)
        status = db_run(s, err);
    if (status == AMX_OK)
        *n_deleted = db_changed(db);
    return status;
}

/* ---- active, pinned, deleted ---- */

static const char SELECT_STATE[] =
    "SELECT coalesce(p.active_model, 0) = m.number FROM models m JOIN projects p ON p.id = m.project_id AND p.gone = 0"
    " WHERE m.project_id = ?1 AND m.number = ?2 AND m.ready = 1";

static enum amx_status check_ready(struct db *db, int64_t project_id, int64_t number, bool *active,
                                   struct amx_error *err)
{
    DB_STMT(s);
    enum amx_status status = use_of(db, SELECT_STATE, project_id, number, &s, err);

    if (status == AMX_OK)
        status = db_one(s, NO_MODEL, err);
    if (status == AMX_OK)
        *active = db_int(s, 0) != 0;
    return status;
}

static const char ACTIVATE[] = "UPDATE projects SET active_model = ?2 WHERE id = ?1 AND gone = 0";

enum amx_status models_activate(struct db *db, int64_t project_id, int64_t number, struct amx_error *err)
{
    bool active = false;
    enum amx_status status = check_ready(db, project_id, number, &active, err);

    return status == AMX_OK && !active ? run_of(db, ACTIVATE, project_id, number, err) : status;
}

static const char PIN[] = "UPDATE models SET pinned = ?3 WHERE project_id = ?1 AND number = ?2";

enum amx_status models_pin(struct db *db, int64_t project_id, int64_t number, bool pinned, struct amx_error *err)
{
    DB_STMT(s);
    bool active = false;
    enum amx_status status = check_ready(db, project_id, number, &active, err);

    if (status == AMX_OK)
        status = use_of(db, PIN, project_id, number, &s, err);
    if (status != AMX_OK)
        return status;
    db_bind_int(s, 3, pinned);
    return db_run(s, err);
}

static const char MARK_DELETED[] = "UPDATE models SET ready = 2 WHERE project_id = ?1 AND number = ?2 AND ready = 1";

enum amx_status models_delete(struct db *db, int64_t project_id, int64_t number, struct amx_error *err)
{
    bool active = false;
    enum amx_status status = check_ready(db, project_id, number, &active, err);

    if (status == AMX_OK && active)
        return error_set(err, AMX_CONFLICT, "the active model cannot be deleted; activate another one first");
    return status == AMX_OK ? run_of(db, MARK_DELETED, project_id, number, err) : status;
}

/* ---- erasing ---- */

static const char SELECT_DELETED[] =
    "SELECT project_id, number FROM models WHERE ready = 2 AND ready <> 1 ORDER BY project_id, number LIMIT 1";
static const char ERASE_CHUNKS[] =
    "DELETE FROM model_chunks WHERE project_id = ?1 AND number = ?2 AND chunk IN"
    " (SELECT chunk FROM model_chunks WHERE project_id = ?1 AND number = ?2 ORDER BY chunk LIMIT 4)";
static const char ERASE_ANNOTATORS[] =
    "DELETE FROM model_annotators WHERE project_id = ?1 AND number = ?2 AND annotator_id IN"
    " (SELECT annotator_id FROM model_annotators WHERE project_id = ?1 AND number = ?2 ORDER BY annotator_id LIMIT "
    "1000)";
static const char ERASE_MODEL[] = "DELETE FROM models WHERE project_id = ?1 AND number = ?2 AND ready = 2";

enum amx_status models_purge_step(struct db *db, bool *worked, struct amx_error *err)
{
    static const char *const steps[] = {ERASE_CHUNKS, ERASE_ANNOTATORS, ERASE_MODEL};
    DB_STMT(s);
    enum db_step step = DB_DONE;
    enum amx_status status = db_use(db, SELECT_DELETED, &s, err);

    *worked = false;
    if (status == AMX_OK)
        status = db_step(s, &step, err);
    if (status != AMX_OK || step == DB_DONE)
        return status;
    int64_t project_id = db_int(s, 0), number = db_int(s, 1);
    db_reset(s);
    *worked = true;
    /* The first of them that finds anything is this job's work. */
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        status = run_of(db, steps[i], project_id, number, err);
        if (status != AMX_OK || db_changed(db) > 0)
            break;
    }
    return status;
}
