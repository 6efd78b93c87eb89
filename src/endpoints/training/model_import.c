/* model_import.c - POST .../models: a portable model file becomes a model of the project.
 *
 * The file is collected (up to IMPORT_MAX_BYTES), decoded with all its sizes and its SHA-256 checked, compared with the
 * project (same classes in the same order, same number of features), and then stored by one job: row, chunks,
 * annotators by name (unknown ones are made). It is not activated: that is a decision of its own. What the file cannot
 * tell stays null: the run, the build, metrics, and reliability, which needs the instances that were labelled.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "endpoints/auth.h"
#include "endpoints/idempotency.h"
#include "endpoints/page.h"
#include "endpoints/problem.h"
#include "endpoints/routes.h"
#include "endpoints/training/models.h"
#include "endpoints/write.h"
#include "store/annotators.h"
#include "util/clock.h"
#include "util/digest.h"
#include "util/error.h"
#include "util/jsonx.h"
#include "work/runs/run_request.h"

#define IMPORT_MAX_BYTES ((size_t)256 << 20)

/* While the body comes in. */
struct upload {
    struct request_state state; /* first */
    struct buf bytes;
};

static void upload_released(struct request_state *state)
{
    struct upload *u = (struct upload *)state;
    buf_done(&u->bytes);
    free(u);
}

void model_import_start(struct http_request *rq)
{
    static const char *const no_queries[] = {NULL};
    if (!http_query_only(rq, no_queries) || !idempotency_refuse(rq)) {
        return;
    }
    struct project_info *project = project_of(rq, 0); /* refused before megabytes are sent */
    if (project == NULL) {
        return;
    }
    project_unref(project);
    struct upload *u = calloc(1, sizeof *u);
    if (u == NULL) {
        problem_reply_status(rq, AMX_NO_MEMORY);
        return;
    }
    u->state.release = upload_released;
    buf_init(&u->bytes, IMPORT_MAX_BYTES);
    http_set_data(rq, u);
    http_set_body_mode(rq, HTTP_BODY_STREAM);
}

void model_import_body(struct http_request *rq, const char *data, size_t n)
{
    struct upload *u = http_data(rq);
    if (buf_append(&u->bytes, data, n) != AMX_OK) {
        http_drop_body(rq); /* finish says why */
    }
}

/* ---- the job
 * --------------------------------------------------------------------------------------------------------- */

struct import {
    struct write write; /* first */
    struct buf bytes;
    struct amx_model *model;
    struct amx_model_info info;
    char *settings;
    size_t n_settings;
    int64_t number;
    json_t *json;
};

static void free_import(struct write *w)
{
    struct import *m = (struct import *)w;
    json_decref(m->json);
    free(m->settings);
    amx_model_free(m->model);
    buf_done(&m->bytes);
}

static struct slice slice_of(const char *text)
{
    return (struct slice){text, text != NULL ? strlen(text) : 0};
}

static enum amx_status put_chunks(struct db *db, struct import *m, int64_t *n_chunks)
{
    int64_t chunk = 0;
    for (size_t at = 0; at < m->bytes.n; at += MODEL_CHUNK_BYTES, chunk++) {
        size_t left = m->bytes.n - at, n = left < MODEL_CHUNK_BYTES ? left : MODEL_CHUNK_BYTES;
        enum amx_status status =
            models_put_chunk(db, m->write.project->id, m->number, chunk, m->bytes.bytes + at, n, &m->write.job.error);
        if (status != AMX_OK) {
            return status;
        }
    }
    *n_chunks = chunk;
    return AMX_OK;
}

static enum amx_status put_annotators(struct db *db, struct import *m, struct changes *changes)
{
    struct amx_error *err = &m->write.job.error;
    for (size_t a = 0; m->info.annotator_names != NULL && a < m->info.n_annotators; a++) {
        struct model_annotator row = {
            .labels = (int64_t)m->info.annotator_labels[a], .reliability = (double)NAN, .n_classes = m->info.n_classes};
        enum amx_status status =
            annotators_intern(changes, slice_of(m->info.annotator_names[a]), &row.annotator_id, NULL, err);
        if (status == AMX_OK) {
            status = models_put_annotator(db, m->write.project->id, m->number, &row, err);
        }
        if (status != AMX_OK) {
            return status;
        }
    }
    return changes_flush(changes, err);
}

static enum amx_status finish_model(struct db *db, struct import *m, int64_t n_chunks)
{
    struct amx_error *err = &m->write.job.error;
    struct model_row row;
    struct model_end end = {.n_chunks = n_chunks,
                            .size_bytes = (int64_t)m->bytes.n,
                            .metrics = {"{}", 2},
                            .population_reliability = (double)NAN,
                            .n_classes = m->info.n_classes};
    digest_of(m->bytes.bytes, m->bytes.n, end.sha256);
    enum amx_status status = models_finish(db, m->write.project->id, m->number, &end, err);
    if (status == AMX_OK) {
        status = models_get(db, m->write.project->id, m->number, &row, err);
    }
    if (status == AMX_OK) {
        m->json = model_json(&row);
        model_row_done(&row);
        status = m->json != NULL ? AMX_OK : AMX_NO_MEMORY;
    }
    return status;
}

static enum amx_status import_model(struct db *db, struct write *w)
{
    struct import *m = (struct import *)w;
    struct changes changes;
    int64_t n_chunks = 0, now = clock_wall_ms();
    enum amx_status status = changes_begin(db, w->project->id, now, &changes, &w->job.error);
    if (status != AMX_OK) {
        return status;
    }
    struct model_new about = {.method = slice_of(m->info.method),
                              .settings = {m->settings, m->n_settings},
                              .seed = (int64_t)m->info.seed,
                              .ensemble = m->info.ensemble,
                              .folds = m->info.folds,
                              .label_seq = changes.label_seq,
                              .labels_used = (int64_t)m->info.labels_used,
                              .instances_used = -1,
                              .data_hash = slice_of(m->info.data_hash),
                              .now_ms = now};
    status = models_begin(db, w->project->id, &about, &m->number, &w->job.error);
    if (status == AMX_OK) {
        status = put_chunks(db, m, &n_chunks);
    }
    if (status == AMX_OK) {
        status = put_annotators(db, m, &changes);
    }
    return status == AMX_OK ? finish_model(db, m, n_chunks) : status;
}

static enum amx_status compose_imported(struct write *w)
{
    struct import *m = (struct import *)w;
    (void)snprintf(w->reply.location, sizeof w->reply.location, "/v1/projects/%s/models/%lld", w->project->name,
                   (long long)m->number);
    if (!resource_etag(w->project->uid, m->json, w->reply.etag)) {
        return AMX_NO_MEMORY;
    }
    return write_compose_json(w, 201, json_incref(m->json));
}

/* ---- the body is there
 * ----------------------------------------------------------------------------------------------- */

/* The model must speak of the same classes and features; replies when it does not. */
static bool fits_project(struct http_request *rq, const struct project_info *project, const struct amx_model_info *info)
{
    if (info->n_features != project->feature_dim) {
        problem_reply_as(rq, PROBLEM_INVALID_BODY, "The model has %zu features, the project %zu.", info->n_features,
                         project->feature_dim);
        return false;
    }
    bool same = info->n_classes == project->n_classes && info->class_names != NULL;
    for (size_t k = 0; same && k < info->n_classes; k++) {
        same = strcmp(info->class_names[k], project->classes[k]) == 0;
    }
    if (!same) {
        problem_reply_as(rq, PROBLEM_INVALID_BODY,
                         "The model's %zu classes are not the project's %zu, in the same order.", info->n_classes,
                         project->n_classes);
    }
    return same;
}

static enum amx_status read_model(struct import *m, struct amx_error *err)
{
    enum amx_status status = amx_model_decode((const unsigned char *)m->bytes.bytes, m->bytes.n, &m->model, err);
    if (status != AMX_OK) {
        return status;
    }
    amx_model_info(m->model, &m->info);
    json_t *settings = run_request_settings_json(m->info.method, &m->info.settings);
    m->settings = settings == NULL ? NULL : jsonx_dump(settings, &m->n_settings);
    json_decref(settings);
    return m->settings != NULL ? AMX_OK : error_set(err, AMX_NO_MEMORY, "Out of memory.");
}

static void start_import(struct http_request *rq, struct import *m)
{
    struct amx_error err = {0};
    enum amx_status status = read_model(m, &err);
    if (status != AMX_OK) {
        if (status == AMX_CORRUPT)
            err.code = AMX_INVALID; /* what the client sent is, no file of ours */
        write_free(&m->write);
        problem_reply_error(rq, status == AMX_CORRUPT ? PROBLEM_INVALID_BODY : problem_of_status(status), &err);
        return;
    }
    if (!fits_project(rq, m->write.project, &m->info)) {
        write_free(&m->write);
        return;
    }
    m->write.apply = import_model;
    m->write.compose = compose_imported;
    write_submit(rq, &m->write);
}

void model_import_finish(struct http_request *rq)
{
    struct upload *u = http_data(rq);
    struct amx_error err = {0};
    if (u->bytes.status != AMX_OK) {
        problem_reply_as(rq, u->bytes.status == AMX_TOO_LARGE ? PROBLEM_TOO_LARGE : PROBLEM_NO_MEMORY,
                         "A model file may have up to %zu bytes.", IMPORT_MAX_BYTES);
        return;
    }
    enum amx_status status = http_body_status(rq, &err);
    if (status != AMX_OK) {
        problem_reply_error(rq, status == AMX_TOO_LARGE ? PROBLEM_TOO_LARGE : PROBLEM_MALFORMED_BODY, &err);
        return;
    }
    if (u->bytes.n == 0) {
        problem_reply_as(rq, PROBLEM_MALFORMED_BODY, "The body is empty; it must be a model file.");
        return;
    }
    struct project_info *project = project_of(rq, 0);
    struct import *m = project == NULL ? NULL : write_new(rq, sizeof *m, project);
    if (m == NULL) {
        return;
    }
    m->write.free_owner = free_import;
    m->bytes = u->bytes;
    buf_init(&u->bytes, 0);
    http_set_data(rq, NULL);
    upload_released(&u->state);
    start_import(rq, m);
}
