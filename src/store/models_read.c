/* models_read.c - reading models: rows, bytes, and what each says of the annotators. */
#include "store/models.h"

#include <stdlib.h>
#include <string.h>

#include "store/changes_int.h"
#include "util/digest.h"
#include "util/error.h"

static const char NO_MODEL[] = "there is no such model";

#define MODEL_COLUMNS                                                                                                  \
    "m.number, coalesce(p.active_model, 0) = m.number, m.pinned, m.run_number, m.method, m.settings, m.seed,"          \
    " m.ensemble, m.label_seq, m.labels_used, m.instances_used, m.data_hash, m.build, m.kernel, m.blas, m.created_at," \
    " m.metrics, m.n_chunks, m.size_bytes, m.sha256, m.population_reliability, m.n_classes, m.folds"
#define MODEL_SOURCE " FROM models m JOIN projects p ON p.id = m.project_id AND p.gone = 0"

static enum amx_status read_row(struct db_stmt *s, struct model_row *out, struct amx_error *err)
{
    struct slice hash = db_blob(s, 19);

    *out = (struct model_row){.number = db_int(s, 0),
                              .active = db_int(s, 1) != 0,
                              .pinned = db_int(s, 2) != 0,
                              .about = {.run_number = db_int(s, 3),
                                        .method = db_text(s, 4),
                                        .settings = db_text(s, 5),
                                        .seed = db_int(s, 6),
                                        .ensemble = (int)db_int(s, 7),
                                        .folds = (int)db_int(s, 22),
                                        .label_seq = db_int(s, 8),
                                        .labels_used = db_int(s, 9),
                                        .instances_used = db_is_null(s, 10) ? -1 : db_int(s, 10),
                                        .data_hash = db_text(s, 11),
                                        .build = db_text(s, 12),
                                        .kernel = db_text(s, 13),
                                        .blas = db_text(s, 14),
                                        .now_ms = db_int(s, 15)},
                              .metrics = db_text(s, 16),
                              .n_chunks = db_int(s, 17),
                              .size_bytes = db_int(s, 18),
                              .population_reliability = db_real(s, 20),
                              .n_classes = (size_t)db_int(s, 21)};
    if (hash.n != sizeof(out->sha256))
        return error_set(err, AMX_CORRUPT, "the hash of a model is not 32 bytes long");
    memcpy(out->sha256, hash.bytes, sizeof(out->sha256));
    return AMX_OK;
}

void model_row_done(struct model_row *row)
{
    free(row->memory);
    *row = (struct model_row){.number = 0};
}

/* The parameters are bound. */
static enum amx_status get(struct db_stmt *s, struct model_row *out, struct amx_error *err)
{
    struct model_row row;
    enum amx_status status = db_one(s, NO_MODEL, err);

    if (status == AMX_OK)
        status = read_row(s, &row, err);
    if (status != AMX_OK)
        return status;
    struct slice *texts[] = {&row.about.method, &row.about.settings, &row.about.data_hash, &row.about.build,
                             &row.about.kernel, &row.about.blas,     &row.metrics};
    status = rows_own(texts, sizeof(texts) / sizeof(texts[0]), &row.memory, err);
    if (status == AMX_OK)
        *out = row;
    return status;
}

static const char SELECT_MODEL[] =
    "SELECT " MODEL_COLUMNS MODEL_SOURCE " WHERE m.project_id = ?1 AND m.number = ?2 AND m.ready = 1";
static const char SELECT_ACTIVE[] =
    "SELECT " MODEL_COLUMNS MODEL_SOURCE " WHERE m.project_id = ?1 AND m.number = p.active_model AND m.ready = 1";
static const char SELECT_PAGE[] =
    "SELECT " MODEL_COLUMNS MODEL_SOURCE " WHERE m.project_id = ?1 AND m.number < ?2 AND m.ready = 1"
    " ORDER BY m.number DESC LIMIT ?3";

enum amx_status models_get(struct db *db, int64_t project_id, int64_t number, struct model_row *out,
                           struct amx_error *err)
{
    DB_STMT(s);
    enum amx_status status = db_use(db, SELECT_MODEL, &s, err);

    if (status != AMX_OK)
        return status;
    db_bind_int(s, 1, project_id);
    db_bind_int(s, 2, number);
    return get(s, out, err);
}

enum amx_status models_get_active(struct db *db, int64_t project_id, struct model_row *out, struct amx_error *err)
{
    DB_STMT(s);
    enum amx_status status = db_use(db, SELECT_ACTIVE, &s, err);

    if (status != AMX_OK)
        return status;
    db_bind_int(s, 1, project_id);
    return get(s, out, err);
}

enum amx_status models_list(struct db *db, int64_t project_id, int64_t before, size_t limit, models_fn *fn,
                            void *context, bool *more, struct amx_error *err)
{
    DB_STMT(s);
    struct model_row row;
    enum db_step step = DB_ROW;
    enum amx_status status = db_use(db, SELECT_PAGE, &s, err);

    if (status != AMX_OK)
        return status;
    db_bind_int(s, 1, project_id);
    db_bind_int(s, 2, before > 0 ? before : INT64_MAX);
    db_bind_int(s, 3, (int64_t)limit + 1);
    for (size_t n = 0; status == AMX_OK; n++) {
        status = db_step(s, &step, err);
        if (status != AMX_OK || step == DB_DONE || n == limit)
            break;
        status = read_row(s, &row, err);
        if (status == AMX_OK)
            status = fn(context, &row);
    }
    if (status == AMX_OK)
        *more = step == DB_ROW;
    return status;
}

static const char SELECT_ALL_ACTIVE[] =
    "SELECT id, active_model FROM projects WHERE gone = 0 AND active_model IS NOT NULL ORDER BY id";

enum amx_status models_list_active(struct db *db, models_active_fn *fn, void *context, struct amx_error *err)
{
    DB_STMT(s);
    enum db_step step = DB_ROW;
    enum amx_status status = db_use(db, SELECT_ALL_ACTIVE, &s, err);

    while (status == AMX_OK && (status = db_step(s, &step, err)) == AMX_OK && step == DB_ROW)
        status = fn(context, db_int(s, 0), db_int(s, 1));
    return status;
}

/* ---- bytes ---- */

static const char SELECT_CHUNK[] =
    "SELECT c.bytes FROM model_chunks c"
    " JOIN models m ON m.project_id = c.project_id AND m.number = c.number AND m.ready = 1"
    " WHERE c.project_id = ?1 AND c.number = ?2 AND c.chunk = ?3";

enum amx_status models_read_chunk(struct db *db, int64_t project_id, int64_t number, int64_t chunk, struct buf *out,
                                  struct amx_error *err)
{
    DB_STMT(s);
    enum amx_status status = db_use(db, SELECT_CHUNK, &s, err);

    if (status != AMX_OK)
        return status;
    db_bind_int(s, 1, project_id);
    db_bind_int(s, 2, number);
    db_bind_int(s, 3, chunk);
    status = db_one(s, "the model has no such chunk", err);
    if (status != AMX_OK)
        return status;
    struct slice bytes = db_blob(s, 0);
    status = buf_append(out, bytes.bytes, bytes.n);
    return status == AMX_OK ? AMX_OK : error_set(err, status, "no memory for a model");
}

enum amx_status models_load(struct db *db, int64_t project_id, int64_t number, unsigned char **bytes, size_t *n,
                            struct amx_error *err)
{
    struct model_row row = {.number = 0};
    struct buf all = BUF_INIT(SIZE_MAX / 2);
    uint8_t sha256[DIGEST_BYTES];
    enum amx_status status = models_get(db, project_id, number, &row, err);

    if (status == AMX_OK && buf_reserve(&all, (size_t)row.size_bytes) == NULL)
        status = error_set(err, AMX_NO_MEMORY, "no memory for a model of %lld bytes", (long long)row.size_bytes);
    for (int64_t chunk = 0; status == AMX_OK && chunk < row.n_chunks; chunk++)
        status = models_read_chunk(db, project_id, number, chunk, &all, err);
    if (status == AMX_OK) {
        digest_of(all.bytes, all.n, sha256);
        if (all.n != (size_t)row.size_bytes || memcmp(sha256, row.sha256, DIGEST_BYTES) != 0)
            status = error_set(err, AMX_CORRUPT, "the bytes of a model do not have its hash");
    }
    if (status == AMX_OK) {
        char *taken = buf_take(&all, n);
        if (taken == NULL)
            status = error_set(err, AMX_NO_MEMORY, "no memory for a model");
        else
            *bytes = (unsigned char *)taken;
    }
    model_row_done(&row);
    buf_done(&all);
    return status;
}

/* ---- annotators ---- */

#define ANNOTATOR_SOURCE                                                                                               \
    " FROM model_annotators x JOIN annotators a ON a.project_id = x.project_id AND a.id = x.annotator_id AND a.gone "  \
    "= 0"                                                                                                              \
    " JOIN models m ON m.project_id = x.project_id AND m.number = x.number AND m.ready = 1"                            \
    " WHERE x.project_id = ?1 AND x.number = ?2"
#define ANNOTATOR_COLUMNS                                                                                              \
    "SELECT x.annotator_id, a.name, x.labels, x.reliability, m.n_classes, m.folds, x.reliability_all,"                 \
    " x.expected_correct, x.agreement_with_others, x.class_reliability, x.class_evidence"
static const char ANNOTATORS_PAGE[] =
    ANNOTATOR_COLUMNS ANNOTATOR_SOURCE " AND x.annotator_id > ?3 ORDER BY x.annotator_id LIMIT ?4";
static const char ANNOTATORS_PAGE_FULL[] =
    ANNOTATOR_COLUMNS ", x.confusion" ANNOTATOR_SOURCE " AND x.annotator_id > ?3 ORDER BY x.annotator_id LIMIT ?4";
static const char ANNOTATORS_ONE[] = ANNOTATOR_COLUMNS ", x.confusion" ANNOTATOR_SOURCE " AND x.annotator_id = ?3";
enum {
    FIRST_ARRAY = 9
}; /* column of class_reliability */

/* A BLOB of n floats as a slice; AMX_CORRUPT when it has another size. */
static enum amx_status read_floats(struct db_stmt *s, int column, size_t n, struct slice *out, struct amx_error *err)
{
    *out = db_blob(s, column);
    if (out->bytes != NULL && out->n != n * sizeof(float))
        return error_set(err, AMX_CORRUPT, "the figures of an annotator are not as many as the model's classes");
    return AMX_OK;
}

/* The arrays are copied, because SQLite promises no alignment: one block, figures and arrays first, then the name. */
static enum amx_status read_annotator(struct db_stmt *s, bool with_confusion, struct model_annotator *out,
                                      struct amx_error *err)
{
    struct slice arrays[3] = {{NULL, 0}, {NULL, 0}, {NULL, 0}};
    struct model_annotator row = {.annotator_id = db_int(s, 0),
                                  .labels = db_int(s, 2),
                                  .reliability = db_real(s, 3),
                                  .n_classes = (size_t)db_int(s, 4)};
    struct model_annotator_folds folds = {db_real(s, 6), db_real(s, 7), db_real(s, 8)};
    struct slice name = db_text(s, 1);
    const float **fields[3] = {&row.class_reliability, &row.class_evidence, &row.confusion};
    size_t total = sizeof folds + name.n + 1;
    enum amx_status status = read_floats(s, FIRST_ARRAY, row.n_classes, &arrays[0], err);

    if (status == AMX_OK)
        status = read_floats(s, FIRST_ARRAY + 1, row.n_classes, &arrays[1], err);
    if (status == AMX_OK && with_confusion)
        status = read_floats(s, FIRST_ARRAY + 2, row.n_classes * row.n_classes, &arrays[2], err);
    if (status != AMX_OK)
        return status;
    for (int i = 0; i < 3; i++)
        total += arrays[i].n; /* at most a few MiB: the limit of a BLOB is 64 MiB */
    char *p = malloc(total);
    if (p == NULL)
        return error_set(err, AMX_NO_MEMORY, "no memory for a row");
    row.memory = p;
    memcpy(p, &folds, sizeof folds);
    if (db_int(s, 5) > 0)
        row.folds = row.memory;
    p += sizeof folds;
    for (int i = 0; i < 3; i++) {
        if (arrays[i].bytes == NULL)
            continue;
        memcpy(p, arrays[i].bytes, arrays[i].n);
        *fields[i] = (const float *)(void *)p;
        p += arrays[i].n;
    }
    memcpy(p, name.bytes, name.n);
    p[name.n] = '\0';
    row.name = (struct slice){p, name.n};
    *out = row;
    return AMX_OK;
}

void model_annotator_done(struct model_annotator *row)
{
    free(row->memory);
    *row = (struct model_annotator){.annotator_id = 0};
}

enum amx_status model_annotators_list(struct db *db, int64_t project_id, int64_t number, int64_t after, size_t limit,
                                      bool with_confusion, model_annotators_fn *fn, void *context, bool *more,
                                      struct amx_error *err)
{
    DB_STMT(s);
    struct model_annotator row;
    enum db_step step = DB_ROW;
    enum amx_status status = db_use(db, with_confusion ? ANNOTATORS_PAGE_FULL : ANNOTATORS_PAGE, &s, err);

    if (status != AMX_OK)
        return status;
    db_bind_int(s, 1, project_id);
    db_bind_int(s, 2, number);
    db_bind_int(s, 3, after);
    db_bind_int(s, 4, (int64_t)limit + 1);
    for (size_t n = 0; status == AMX_OK; n++) {
        status = db_step(s, &step, err);
        if (status != AMX_OK || step == DB_DONE || n == limit)
            break;
        status = read_annotator(s, with_confusion, &row, err);
        if (status == AMX_OK) {
            status = fn(context, &row);
            model_annotator_done(&row);
        }
    }
    if (status == AMX_OK)
        *more = step == DB_ROW;
    return status;
}

enum amx_status model_annotators_get(struct db *db, int64_t project_id, int64_t number, int64_t annotator_id,
                                     struct model_annotator *out, struct amx_error *err)
{
    DB_STMT(s);
    enum amx_status status = db_use(db, ANNOTATORS_ONE, &s, err);

    if (status != AMX_OK)
        return status;
    db_bind_int(s, 1, project_id);
    db_bind_int(s, 2, number);
    db_bind_int(s, 3, annotator_id);
    status = db_one(s, "the model does not know this annotator", err);
    return status == AMX_OK ? read_annotator(s, true, out, err) : status;
}
