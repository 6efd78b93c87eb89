/* reliability.c - GET .../reliability and .../reliability/{annotator}.
 *
 * With an active model: the figures its run left in the store. Without one: Dawid-Skene or agreement, made in the
 * background from all labels and kept while they stay as they are. One annotator also gets its confusion matrix, and
 * with ?instance= what the model says about it at that instance.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "endpoints/auth.h"
#include "endpoints/derived/answers.h"
#include "endpoints/derived/background.h"
#include "endpoints/derived/instance_batch.h"
#include "endpoints/derived/reliability_items.h"
#include "endpoints/page.h"
#include "endpoints/problem.h"
#include "endpoints/routes.h"
#include "store/projects.h"
#include "store/store.h"
#include "util/jsonx.h"

#define ANSWER_MAX_BYTES ((size_t)256 << 20)

static const struct crowd_ask no_method = {NULL, NULL};

/* One request; hangs on it (or, for a stream, belongs to the stream). */
struct work {
    struct request_state state; /* first */
    struct service *service;
    struct project_info *project;
    struct model_snapshot *snapshot;
    struct crowd_view *view;
    struct reliability_items items;
    enum http_format format;
    struct page page;
    size_t n_ids;
    const char *annotator, *instance; /* borrowed from the request; NULL: a list */
    enum amx_status status;           /* of the background */
    struct amx_error err;
    int64_t after; /* stream */
    bool more, header_written;
};

static void work_free(void *context)
{
    struct work *w = context;
    reliability_items_done(&w->items);
    crowd_view_unref(w->view);
    snapshot_unref(w->snapshot);
    project_unref(w->project);
    free(w);
}

static void work_released(struct request_state *state)
{
    work_free(state);
}

/* Head of every answer: what all derived answers have, orientation, population. */
static json_t *head_of(const struct work *w)
{
    json_t *head = answers_head(w->project, w->snapshot, w->snapshot != NULL ? -1 : w->view->label_seq);
    json_t *population = json_pack("{s:o}", "reliability", jsonx_real_or_null(reliability_items_population(&w->items)));
    bool ok = head != NULL && json_put(head, "orientation", json_string(ANSWERS_ORIENTATION));
    if (!ok || json_object_set(head, "population", population) != 0) {
        json_decref(head);
        head = NULL;
    }
    json_decref(population);
    return head;
}

/* As text without the closing brace. */
static enum amx_status write_head(struct buf *out, const struct work *w)
{
    json_t *head = head_of(w);
    enum amx_status status = head == NULL ? AMX_NO_MEMORY : jsonx_write(out, head);
    json_decref(head);
    if (status == AMX_OK) {
        out->n--;
    }
    return status;
}

static void reply_text(struct http_request *rq, struct buf *out, enum amx_status status, struct amx_error *err)
{
    size_t n;
    char *bytes = NULL;
    if (status == AMX_OK) {
        status = out->status;
    }
    if (status == AMX_OK && (bytes = buf_take(out, &n)) == NULL) {
        status = AMX_NO_MEMORY;
    }
    if (status != AMX_OK) {
        err->code = status;
        problem_reply(rq, err);
        return;
    }
    http_reply(rq, 200, "application/json", bytes, n, free);
}

/* ---- lists
 * ----------------------------------------------------------------------------------------------------------- */

static void write_item(struct buf *out, const struct work *w, size_t i)
{
    (void)buf_char(out, '{');
    reliability_items_write_json(&w->items, i, out);
    (void)buf_char(out, '}');
}

static enum amx_status fill_page(struct work *w, struct db *db, struct buf *out, struct amx_error *err)
{
    enum amx_status status = AMX_OK;
    int64_t after = w->page.continued ? w->page.after : 0;
    size_t written = 0;
    bool more = true;
    while (status == AMX_OK && more && written < w->page.limit) {
        size_t left = w->page.limit - written;
        status = reliability_items_read(&w->items, db, &after, left < RELIABILITY_BLOCK ? left : RELIABILITY_BLOCK,
                                        &more, err);
        for (size_t i = 0; status == AMX_OK && i < w->items.n; i++) {
            (void)buf_text(out, written++ > 0 ? "," : "");
            write_item(out, w, i);
        }
    }
    char cursor[PAGE_CURSOR_BYTES];
    if (more) {
        (void)buf_printf(out, "],\"next_cursor\":\"%s\"}", page_cursor(&w->page, after, cursor));
    } else {
        (void)buf_text(out, "],\"next_cursor\":null}");
    }
    return status;
}

static enum amx_status fill_ids(struct http_request *rq, struct work *w, struct db *db, struct buf *out,
                                struct amx_error *err)
{
    AUTO(buf) missing = BUF_INIT(ANSWER_MAX_BYTES);
    enum amx_status status = AMX_OK;
    size_t written = 0;
    for (size_t i = 0; status == AMX_OK && i < w->n_ids; i++) {
        const char *name = http_query_nth(rq, "id", (unsigned)i);
        status = reliability_items_find(&w->items, db, name, err);
        if (status == AMX_NOT_FOUND) {
            (void)buf_text(&missing, missing.n > 0 ? "," : "");
            status = jsonx_write_string(&missing, name, strlen(name));
        } else if (status == AMX_OK) {
            (void)buf_text(out, written++ > 0 ? "," : "");
            write_item(out, w, 0);
        }
    }
    (void)buf_printf(out, "],\"next_cursor\":null,\"missing\":[%s]}", buf_string(&missing));
    return status;
}

static void reply_list(struct http_request *rq, struct work *w)
{
    AUTO(buf) out = BUF_INIT(ANSWER_MAX_BYTES);
    struct amx_error err = {0};
    struct db *db = reader_of(rq);
    if (db == NULL) {
        return;
    }
    enum amx_status status = write_head(&out, w);
    (void)buf_text(&out, ",\"items\":[");
    if (status == AMX_OK) {
        status = w->n_ids > 0 ? fill_ids(rq, w, db, &out, &err) : fill_page(w, db, &out, &err);
    }
    reader_done(rq, db);
    reply_text(rq, &out, status, &err);
}

static enum http_pull pull(struct http_request *rq, void *context, struct buf *out)
{
    struct work *w = context;
    struct db *db;
    (void)rq;
    if (!w->header_written && w->format == HTTP_FORMAT_CSV) {
        reliability_items_write_csv_header(out);
    }
    w->header_written = true;
    if (store_reader_get(w->service->store, &db, NULL) != AMX_OK) {
        return HTTP_PULL_ERROR;
    }
    /* Few at a time where each carries a figure per class. */
    size_t limit = w->items.n_classes > 100 ? 10 : RELIABILITY_BLOCK / 2;
    enum amx_status status = reliability_items_read(&w->items, db, &w->after, limit, &w->more, NULL);
    store_reader_put(w->service->store, db);
    if (status != AMX_OK) {
        return HTTP_PULL_ERROR;
    }
    for (size_t i = 0; i < w->items.n; i++) {
        if (w->format == HTTP_FORMAT_CSV) {
            reliability_items_write_csv(&w->items, i, out);
        } else {
            write_item(out, w, i);
            (void)buf_char(out, '\n');
        }
    }
    return w->more ? HTTP_PULL_MORE : HTTP_PULL_DONE;
}

/* ---- one annotator
 * --------------------------------------------------------------------------------------------------- */

/* {"instance", "p_perf", "p_confusion", "p_annotation"}; nulls where there is no model or no features. */
static json_t *at_instance(const struct work *w, const float *features)
{
    size_t n_classes = w->items.n_classes;
    json_t *json = json_pack("{s:s, s:n, s:n, s:n}", "instance", w->instance, "p_perf", "p_confusion", "p_annotation");
    if (json == NULL || features == NULL || w->snapshot == NULL || w->snapshot->model == NULL) {
        return json;
    }
    float p_perf = 0, *p_annotation = calloc(n_classes * (n_classes + 1), sizeof *p_annotation);
    if (p_annotation == NULL) {
        json_decref(json);
        return NULL;
    }
    uint32_t annotator = snapshot_annotator(w->snapshot, w->annotator, strlen(w->annotator));
    const struct amx_prediction out = {
        .p_perf = &p_perf, .p_annotation = p_annotation, .p_confusion = p_annotation + n_classes};
    bool ok = amx_predict(w->snapshot->model, features, 1, &annotator, 1, &out, NULL) == AMX_OK;
    ok = ok && json_put(json, "p_perf", jsonx_real_or_null((double)p_perf));
    ok = ok && json_put(json, "p_confusion", answers_float_matrix(out.p_confusion, n_classes));
    ok = ok && json_put(json, "p_annotation", answers_float_row(p_annotation, n_classes));
    free(p_annotation);
    if (!ok) {
        json_decref(json);
        return NULL;
    }
    return json;
}

static enum amx_status read_single(struct work *w, struct db *db, struct instance_batch *batch, bool *no_instance,
                                   struct amx_error *err)
{
    enum amx_status status = reliability_items_find(&w->items, db, w->annotator, err);
    status = status == AMX_NOT_FOUND ? AMX_OK : status; /* nobody of this name: an unseen annotator */
    if (status == AMX_OK && w->instance != NULL) {
        status = instance_batch_find(db, w->project->id, w->instance, batch, err);
        *no_instance = status == AMX_NOT_FOUND;
    }
    return status;
}

static json_t *compose_single(const struct work *w, const struct instance_batch *batch)
{
    AUTO(buf) text = BUF_INIT(ANSWER_MAX_BYTES);
    const struct reliability_item *item = &w->items.items[0];
    json_t *json = NULL;
    enum amx_status status = write_head(&text, w);
    (void)buf_char(&text, ',');
    reliability_items_write_json(&w->items, 0, &text);
    (void)buf_char(&text, '}');
    if (status != AMX_OK || text.status != AMX_OK || jsonx_load(text.bytes, text.n, &json, NULL) != AMX_OK) {
        return NULL;
    }
    json_t *confusion =
        item->confusion != NULL ? answers_float_matrix(item->confusion, w->items.n_classes) : json_null();
    bool ok = json_put(json, "confusion", confusion);
    if (ok && w->instance != NULL) {
        ok = json_put(json, "at_instance", at_instance(w, batch->rows[0].has_features ? batch->features : NULL));
    }
    if (!ok) {
        json_decref(json);
        return NULL;
    }
    return json;
}

static void reply_single(struct http_request *rq, struct work *w)
{
    struct instance_batch batch;
    struct amx_error err = {0};
    bool no_instance = false;
    struct db *db = reader_of(rq);
    if (db == NULL) {
        return;
    }
    instance_batch_init(&batch, w->project->feature_dim);
    enum amx_status status = read_single(w, db, &batch, &no_instance, &err);
    reader_done(rq, db);
    if (no_instance) {
        problem_reply_as(rq, PROBLEM_UNKNOWN_INSTANCE, "There is no instance \"%.255s\".", w->instance);
    } else if (status != AMX_OK) {
        err.code = status;
        problem_reply(rq, &err);
    } else {
        resource_reply(rq, w->project->uid, compose_single(w, &batch));
    }
    instance_batch_done(&batch);
}

/* ---- the request
 * ----------------------------------------------------------------------------------------------------- */

static void reply(struct http_request *rq, struct work *w)
{
    struct amx_error err = {0};
    w->items.project = w->project;
    w->items.snapshot = w->snapshot;
    w->items.view = w->view;
    w->items.may_gold = auth_has(rq, SCOPE_GOLD);
    enum amx_status status = reliability_items_init(&w->items, &err);
    if (status != AMX_OK) {
        err.code = status;
        problem_reply(rq, &err);
    } else if (w->annotator != NULL) {
        reply_single(rq, w);
    } else if (w->format == HTTP_FORMAT_JSON) {
        reply_list(rq, w);
    } else {
        http_set_data(rq, NULL); /* the stream frees it */
        http_reply_stream(rq, 200, w->format == HTTP_FORMAT_CSV ? "text/csv; charset=utf-8" : "application/x-ndjson", 0,
                          pull, w, work_free);
    }
}

static void make_view(void *context)
{
    struct work *w = context;
    w->status = crowd_view_make(w->service, w->project, &no_method, &w->view, &w->err);
}

static void view_made(struct http_request *rq)
{
    struct work *w = http_data(rq);
    if (w->status != AMX_OK) {
        w->err.code = w->status;
        problem_reply(rq, &w->err);
    } else {
        reply(rq, w);
    }
}

static bool read_label_seq(struct http_request *rq, const struct work *w, int64_t *out)
{
    struct project_row row;
    struct amx_error err = {0};
    struct db *db = reader_of(rq);
    if (db == NULL) {
        return false;
    }
    enum amx_status status = projects_get(db, w->project->id, &row, &err);
    reader_done(rq, db);
    if (status != AMX_OK) {
        err.code = status;
        problem_reply(rq, &err);
        return false;
    }
    *out = row.label_seq;
    project_row_done(&row);
    return true;
}

static void go_on(struct http_request *rq, struct work *w)
{
    struct amx_error err = {0};
    int64_t label_seq;
    enum amx_status status = snapshots_get(w->service->snapshots, w->project->id, &w->snapshot, &err);
    if (status == AMX_OK) {
        reply(rq, w);
        return;
    }
    if (status != AMX_NOT_FOUND) {
        err.code = status;
        problem_reply(rq, &err);
        return;
    }
    if (!read_label_seq(rq, w, &label_seq)) {
        return;
    }
    w->view = crowd_view_get(w->project->id, label_seq, &no_method);
    if (w->view != NULL) {
        reply(rq, w);
    } else {
        background_run(rq, make_view, w, view_made);
    }
}

static struct work *work_new(struct http_request *rq)
{
    struct work *w = calloc(1, sizeof *w);
    if (w == NULL) {
        problem_reply_status(rq, AMX_NO_MEMORY);
        return NULL;
    }
    w->state.release = work_released;
    w->service = service_of(rq);
    http_set_data(rq, w);
    return w;
}

static void list_reliability(struct http_request *rq)
{
    static const char *const filters[] = {"id", NULL};
    static const unsigned offered = 1u << HTTP_FORMAT_JSON | 1u << HTTP_FORMAT_CSV | 1u << HTTP_FORMAT_NDJSON;
    struct work *w = work_new(rq);
    if (w == NULL || !page_parse(rq, filters, &w->page) || !instance_batch_ids(rq, &w->n_ids)) {
        return;
    }
    w->format = http_negotiate(rq, w->n_ids > 0 ? 1u << HTTP_FORMAT_JSON : offered);
    if (w->format != HTTP_FORMAT_NONE && (w->project = project_of(rq, 0)) != NULL) {
        go_on(rq, w);
    }
}

static void get_reliability(struct http_request *rq)
{
    static const char *const queries[] = {"instance", NULL};
    struct work *w = work_new(rq);
    const char *why;
    if (w == NULL || !http_query_only(rq, queries)) {
        return;
    }
    w->annotator = http_param(rq, 1);
    w->instance = http_query(rq, "instance");
    if (!name_valid(w->annotator, strlen(w->annotator), &why)) {
        problem_reply_as(rq, PROBLEM_NOT_FOUND, "No annotator can have this name: it %s.", why);
        return;
    }
    if ((w->project = project_of(rq, 0)) != NULL) {
        go_on(rq, w);
    }
}

const struct http_route reliability_routes[] = {
    {.method = "GET", .pattern = "/v1/projects/{p}/reliability", .scope = SCOPE_READ, .finish = list_reliability},
    {.method = "GET", .pattern = "/v1/projects/{p}/reliability/{a}", .scope = SCOPE_READ, .finish = get_reliability},
    {0},
};
