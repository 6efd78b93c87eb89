/* models.c - models of a project: list, get, activate, delete, file out. Import is in model_import.c.
 *
 * A model is immutable; what changes is which one is active. The file goes out chunk by chunk under its SHA-256 as
 * ETag: each chunk is one short read, so a slow client holds no transaction. A model that is deleted meanwhile cuts the
 * stream, and the file's own hash tells the client that it is not whole.
 */
#include "endpoints/training/models.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crowd/aggregate/aggregate.h"
#include "endpoints/auth.h"
#include "endpoints/page.h"
#include "endpoints/problem.h"
#include "endpoints/routes.h"
#include "endpoints/write.h"
#include "store/store.h"
#include "util/digest.h"
#include "util/jsonx.h"
#include "util/numbers.h"
#include "work/runs/selection_json.h"
#include "work/snapshots.h"

enum { PIECE_BYTES = 65536 };

static const char *const no_queries[] = {NULL};

static json_t *text_or_null(struct slice text)
{
    return text.bytes == NULL ? json_null() : json_text(text.bytes, text.n);
}

/* Stored JSON; {} when it is missing or cannot be read. */
static json_t *stored_object(struct slice text)
{
    json_t *json = NULL;
    if (text.bytes == NULL || jsonx_load_object(text.bytes, text.n, &json, NULL) != AMX_OK) {
        return json_object();
    }
    return json;
}

/* Metrics, and beside them how method auto chose. */
static bool put_metrics(json_t *json, struct slice text)
{
    json_t *metrics = stored_object(text);
    bool ok = selection_lift(json, metrics) == 0;

    return json_put(json, "metrics", metrics) && ok;
}

json_t *model_json(const struct model_row *row)
{
    const struct model_new *about = &row->about;
    json_t *json = json_object();
    bool ok = json != NULL && json_put(json, "number", json_integer(row->number));
    ok = ok && json_put(json, "active", json_boolean(row->active));
    ok = ok && json_put(json, "pinned", json_boolean(row->pinned));
    ok = ok && json_put(json, "run", about->run_number == 0 ? json_null() : json_integer(about->run_number));
    ok = ok && json_put(json, "method", text_or_null(about->method));
    ok = ok && json_put(json, "seed", json_integer(about->seed));
    ok = ok && json_put(json, "ensemble", json_integer(about->ensemble));
    ok = ok && json_put(json, "folds", json_integer(about->folds));
    ok = ok && json_put(json, "settings", stored_object(about->settings));
    ok = ok && put_metrics(json, row->metrics);
    ok = ok && json_put(json, "labels_used", json_integer(about->labels_used));
    ok = ok && json_put(json, "instances_used",
                        about->instances_used < 0 ? json_null() : json_integer(about->instances_used));
    ok = ok && json_put(json, "data_hash", text_or_null(about->data_hash));
    ok = ok && json_put(json, "size_bytes", json_integer(row->size_bytes));
    ok = ok && json_put(json, "build", text_or_null(about->build));
    ok = ok && json_put(json, "kernel", text_or_null(about->kernel));
    ok = ok && json_put(json, "blas", text_or_null(about->blas));
    ok = ok && json_put(json, "label_seq", json_integer(about->label_seq));
    ok = ok && json_put(json, "created_at", json_time(about->now_ms));
    if (!ok) {
        json_decref(json);
        return NULL;
    }
    return json;
}

static bool number_of(struct http_request *rq, int64_t *out)
{
    const char *text = http_param(rq, 1);
    if (number_int(text, strlen(text), out) && *out >= 1) {
        return true;
    }
    problem_reply_as(rq, PROBLEM_NOT_FOUND, "There is no such model; models are numbered 1, 2, ...");
    return false;
}

static void no_model(struct http_request *rq, enum amx_status status, struct amx_error *err)
{
    if (status == AMX_NOT_FOUND) {
        problem_reply_as(rq, PROBLEM_NOT_FOUND, "The project has no model of this number.");
        return;
    }
    err->code = status;
    problem_reply(rq, err);
}

/* ---- GET
 * ------------------------------------------------------------------------------------------------------------- */

struct listing {
    json_t *items;
    int64_t last;
};

static enum amx_status list_one(void *context, const struct model_row *row)
{
    struct listing *l = context;
    l->last = row->number;
    return json_array_append_new(l->items, model_json(row)) == 0 ? AMX_OK : AMX_NO_MEMORY;
}

static void list_models(struct http_request *rq)
{
    struct page page;
    struct amx_error err = {0};
    bool more = false;
    if (!page_parse(rq, NULL, &page)) {
        return;
    }
    struct project_info *project = project_of(rq, 0);
    struct db *db = project == NULL ? NULL : reader_of(rq);
    if (db == NULL) {
        project_unref(project);
        return;
    }
    struct listing l = {.items = json_array()};
    enum amx_status status = l.items == NULL
                                 ? AMX_NO_MEMORY
                                 : models_list(db, project->id, page.after, page.limit, list_one, &l, &more, &err);
    reader_done(rq, db);
    project_unref(project);
    if (status != AMX_OK) {
        json_decref(l.items);
        err.code = status;
        problem_reply(rq, &err);
        return;
    }
    http_reply_json(rq, 200, page_envelope(&page, l.items, more, l.last));
}

/* The model that the path names, for `answer` to reply with; else replies that there is none. */
static void with_model(struct http_request *rq, void (*answer)(struct http_request *rq, const struct project_info *project,
                                                               const struct model_row *row))
{
    struct amx_error err = {0};
    struct model_row row;
    int64_t number;
    if (!http_query_only(rq, no_queries) || !number_of(rq, &number)) {
        return;
    }
    struct project_info *project = project_of(rq, 0);
    struct db *db = project == NULL ? NULL : reader_of(rq);
    if (db != NULL) {
        enum amx_status status = models_get(db, project->id, number, &row, &err);
        reader_done(rq, db);
        if (status == AMX_OK) {
            answer(rq, project, &row);
            model_row_done(&row);
        } else {
            no_model(rq, status, &err);
        }
    }
    project_unref(project);
}

static void reply_model(struct http_request *rq, const struct project_info *project, const struct model_row *row)
{
    resource_reply(rq, project->uid, model_json(row));
}

static void get_model(struct http_request *rq)
{
    with_model(rq, reply_model);
}

/* ---- file
 * ------------------------------------------------------------------------------------------------------------ */

struct file {
    struct store *store;
    int64_t project_id, number, chunk, n_chunks;
    struct buf bytes; /* the chunk that is being given */
    size_t at;        /* given of it */
};

static void file_free(void *context)
{
    struct file *f = context;
    buf_done(&f->bytes);
    free(f);
}

static bool next_chunk(struct file *f)
{
    struct db *db;
    if (store_reader_get(f->store, &db, NULL) != AMX_OK) {
        return false;
    }
    buf_clear(&f->bytes);
    f->at = 0;
    enum amx_status status = models_read_chunk(db, f->project_id, f->number, f->chunk, &f->bytes, NULL);
    store_reader_put(f->store, db);
    f->chunk++;
    return status == AMX_OK && f->bytes.n > 0;
}

static enum http_pull pull_piece(struct http_request *rq, void *context, struct buf *out)
{
    struct file *f = context;
    (void)rq;
    if (f->at == f->bytes.n) {
        if (f->chunk == f->n_chunks) {
            return HTTP_PULL_DONE;
        }
        if (!next_chunk(f)) {
            return HTTP_PULL_ERROR;
        }
    }
    size_t left = f->bytes.n - f->at, n = left < PIECE_BYTES ? left : PIECE_BYTES;
    (void)buf_append(out, f->bytes.bytes + f->at, n);
    f->at += n;
    return HTTP_PULL_MORE;
}

/* Results of labels alone are of this project only: they name instances by number. */
static bool has_file(const struct project_info *project, const struct model_row *row)
{
    return project->feature_dim > 0 || aggregate_find(row->about.method.bytes) == NULL;
}

static void reply_file(struct http_request *rq, const struct project_info *project, const struct model_row *row)
{
    if (!has_file(project, row)) {
        problem_reply_as(rq, PROBLEM_CONFLICT,
                         "The model %lld was made from labels alone (%s) and has no model file; GET "
                         "/v1/projects/%s/consensus?format=csv is what it says.",
                         (long long)row->number, row->about.method.bytes, project->name);
        return;
    }
    char etag[DIGEST_HEX_BYTES + 2], hex[DIGEST_HEX_BYTES], disposition[160];
    (void)snprintf(etag, sizeof etag, "\"%s\"", digest_hex(row->sha256, hex));
    (void)snprintf(disposition, sizeof disposition, "attachment; filename=\"%s-%lld.amxmodel\"", project->name,
                   (long long)row->number);
    if (http_reply_if_unchanged(rq, etag) || !http_set_header(rq, "Content-Disposition", disposition)) {
        return;
    }
    struct file *f = malloc(sizeof *f);
    if (f == NULL) {
        problem_reply_status(rq, AMX_NO_MEMORY);
        return;
    }
    *f = (struct file){.store = service_of(rq)->store,
                       .project_id = project->id,
                       .number = row->number,
                       .n_chunks = row->n_chunks,
                       .bytes = BUF_INIT(MODEL_CHUNK_BYTES)};
    http_reply_stream(rq, 200, MODEL_MEDIA_TYPE, 0, pull_piece, f, file_free);
}

static void get_file(struct http_request *rq)
{
    with_model(rq, reply_file);
}

/* ---- activate, delete
 * ------------------------------------------------------------------------------------------------ */

struct model_write {
    struct write write; /* first */
    int64_t number;
    json_t *json;
};

static void free_model_write(struct write *w)
{
    json_decref(((struct model_write *)w)->json);
}

static enum amx_status activate(struct db *db, struct write *w)
{
    struct model_write *m = (struct model_write *)w;
    struct model_row row;
    enum amx_status status = models_activate(db, w->project->id, m->number, &w->job.error);
    if (status == AMX_OK) {
        status = models_get(db, w->project->id, m->number, &row, &w->job.error);
    }
    if (status == AMX_OK) {
        m->json = model_json(&row);
        model_row_done(&row);
        status = m->json != NULL ? AMX_OK : AMX_NO_MEMORY;
    }
    return status;
}

static enum amx_status compose_activated(struct write *w)
{
    return write_compose_json(w, 200, json_incref(((struct model_write *)w)->json));
}

static void activated(struct write *w)
{
    snapshots_changed(w->service->snapshots, w->project->id);
}

static enum amx_status delete_one(struct db *db, struct write *w)
{
    return models_delete(db, w->project->id, ((struct model_write *)w)->number, &w->job.error);
}

static enum amx_status compose_deleted(struct write *w)
{
    w->reply.status = 204;
    return AMX_OK;
}

static void deleted(struct write *w)
{
    snapshots_drop(w->service->snapshots, w->project->id, ((struct model_write *)w)->number);
}

static void failed(struct http_request *rq, struct write *w)
{
    if (w->job.status == AMX_CONFLICT) {
        problem_reply_as(rq, PROBLEM_CONFLICT, "The model is active; activate another one first.");
    } else {
        no_model(rq, w->job.status, &w->job.error);
    }
}

static struct model_write *begin(struct http_request *rq)
{
    int64_t number;
    if (!http_query_only(rq, no_queries) || !number_of(rq, &number)) {
        return NULL;
    }
    struct project_info *project = project_of(rq, 0);
    struct model_write *m = project == NULL ? NULL : write_new(rq, sizeof *m, project);
    if (m != NULL) {
        m->number = number;
        m->write.failed = failed;
        m->write.free_owner = free_model_write;
    }
    return m;
}

static void post_activate(struct http_request *rq)
{
    struct model_write *m = begin(rq);
    if (m != NULL) {
        m->write.apply = activate;
        m->write.compose = compose_activated;
        m->write.committed = activated;
        write_submit(rq, &m->write);
    }
}

static void delete_model(struct http_request *rq)
{
    struct model_write *m = begin(rq);
    if (m != NULL) {
        m->write.apply = delete_one;
        m->write.compose = compose_deleted;
        m->write.committed = deleted;
        write_submit(rq, &m->write);
    }
}

static const char *const takes_model[] = {MODEL_MEDIA_TYPE, NULL};
const struct http_route models_routes[] = {
    {.method = "GET", .pattern = "/v1/projects/{p}/models", .scope = SCOPE_READ | SCOPE_TRAIN, .finish = list_models},
    {.method = "POST",
     .pattern = "/v1/projects/{p}/models",
     .scope = SCOPE_TRAIN,
     .media_types = takes_model,
     .start = model_import_start,
     .body = model_import_body,
     .finish = model_import_finish},
    {.method = "GET", .pattern = "/v1/projects/{p}/models/{n}", .scope = SCOPE_READ | SCOPE_TRAIN, .finish = get_model},
    {.method = "DELETE", .pattern = "/v1/projects/{p}/models/{n}", .scope = SCOPE_TRAIN, .finish = delete_model},
    {.method = "POST",
     .pattern = "/v1/projects/{p}/models/{n}/activate",
     .scope = SCOPE_TRAIN,
     .finish = post_activate},
    {.method = "GET",
     .pattern = "/v1/projects/{p}/models/{n}/file",
     .scope = SCOPE_READ | SCOPE_TRAIN,
     .finish = get_file},
    {0},
};
