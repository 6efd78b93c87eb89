/* consensus.c - GET .../consensus and .../consensus/{instance}.
 *
 * With an active model the posterior of model and labels; without one the votes; with ?method= that method on labels
 * alone. Dawid-Skene needs all labels at once, so it is made in the background and kept while the labels stay as they
 * are (crowd_view.h). Filters on what is derived (resolved, disputed, min_confidence) are applied here, block by block;
 * a page ends early after LOOK_MAX instances looked at, with a cursor to go on.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "endpoints/answers.h"
#include "endpoints/auth.h"
#include "endpoints/background.h"
#include "endpoints/consensus_items.h"
#include "endpoints/page.h"
#include "endpoints/problem.h"
#include "endpoints/routes.h"
#include "store/projects.h"
#include "store/store.h"
#include "util/jsonx.h"
#include "util/numbers.h"

enum { LOOK_MAX = 20000 };
#define ANSWER_MAX_BYTES ((size_t)256 << 20)

enum method { METHOD_MODEL, METHOD_MAJORITY, METHOD_DAWID_SKENE };

/* One request; hangs on it (or, for a stream, belongs to the stream). */
struct work {
    struct request_state state; /* first */
    struct service *service;
    struct project_info *project;
    struct model_snapshot *snapshot;
    struct crowd_view *view;
    struct consensus_items items;
    enum method method;
    enum http_format format;
    struct page page;
    size_t n_ids;
    bool single;            /* one instance at top level */
    const char *instance;   /* its name; borrowed from the request */
    int resolved, disputed; /* -1 any, 0, 1 */
    double min_confidence;
    int64_t label_seq;
    enum amx_status status; /* of the background */
    struct amx_error err;
    int64_t after; /* stream */
    bool more, header_written;
};

static void work_free(void *context)
{
    struct work *w = context;
    consensus_items_done(&w->items);
    crowd_view_unref(w->view);
    snapshot_unref(w->snapshot);
    project_unref(w->project);
    free(w);
}

static void work_released(struct request_state *state)
{
    work_free(state);
}

static bool passes(const struct work *w, size_t i)
{
    const struct consensus_item *item = &w->items.items[i];
    if (w->resolved >= 0 && (!item->state.known || item->state.resolved != (w->resolved == 1))) {
        return false;
    }
    if (w->disputed >= 0 && (!item->state.known || item->state.disputed != (w->disputed == 1))) {
        return false;
    }
    return w->min_confidence <= 0 || item->confidence >= w->min_confidence; /* false for NaN */
}

/* Reads and computes the next block after *after. */
static enum amx_status next_block(struct work *w, struct db *db, int64_t *after, size_t limit, struct amx_error *err)
{
    const struct instance_filter all = INSTANCE_FILTER_ALL;
    size_t n = limit < w->items.block ? limit : w->items.block;
    instance_batch_clear(&w->items.batch);
    enum amx_status status = instance_batch_read(db, w->project->id, &all, after, n, &w->items.batch, &w->more, err);
    return status == AMX_OK ? consensus_items_compute(&w->items, db, err) : status;
}

/* ---- answers
 * --------------------------------------------------------------------------------------------------------- */

/* Head of the answer as text without its closing brace. */
static bool write_head(struct buf *out, const struct work *w)
{
    static const char *const names[] = {NULL, "majority_vote", "dawid_skene"};
    json_t *head = answers_head(w->project, w->snapshot, w->label_seq);
    bool ok = head != NULL &&
              json_put(head, "method", names[w->method] == NULL ? json_null() : json_string(names[w->method])) &&
              jsonx_write(out, head) == AMX_OK;
    json_decref(head);
    if (ok) {
        out->n--;
    }
    return ok;
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

static enum amx_status fill_page(struct work *w, struct db *db, struct buf *out, struct amx_error *err)
{
    enum amx_status status = AMX_OK;
    size_t written = 0, looked = 0;
    int64_t after = w->page.continued ? w->page.after : 0, last = after;
    w->more = true;
    while (status == AMX_OK && w->more && written < w->page.limit && looked < LOOK_MAX) {
        status = next_block(w, db, &after, w->page.limit, err);
        size_t i = 0;
        for (; status == AMX_OK && i < w->items.batch.n && written < w->page.limit; i++) {
            last = w->items.batch.rows[i].id;
            if (passes(w, i)) {
                (void)buf_text(out, written++ > 0 ? "," : "");
                consensus_items_write_json(&w->items, i, out);
            }
        }
        w->more = w->more || i < w->items.batch.n; /* the page is full before the block was */
        looked += w->items.batch.n;
    }
    char cursor[PAGE_CURSOR_BYTES];
    if (w->more) {
        (void)buf_printf(out, "],\"next_cursor\":\"%s\"}", page_cursor(&w->page, last, cursor));
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
        instance_batch_clear(&w->items.batch);
        status = instance_batch_find(db, w->project->id, name, &w->items.batch, err);
        if (status == AMX_NOT_FOUND) {
            (void)buf_text(&missing, missing.n > 0 ? "," : "");
            status = jsonx_write_string(&missing, name, strlen(name));
        } else if (status == AMX_OK) {
            status = consensus_items_compute(&w->items, db, err);
            if (status == AMX_OK && passes(w, 0)) {
                (void)buf_text(out, written++ > 0 ? "," : "");
                consensus_items_write_json(&w->items, 0, out);
            }
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
    enum amx_status status = AMX_NO_MEMORY;
    if (write_head(&out, w)) {
        (void)buf_text(&out, ",\"items\":[");
        status = w->n_ids > 0 ? fill_ids(rq, w, db, &out, &err) : fill_page(w, db, &out, &err);
    }
    reader_done(rq, db);
    reply_text(rq, &out, status, &err);
}

/* One instance: its members at top level, with ETag. */
static void reply_single(struct http_request *rq, struct work *w)
{
    AUTO(buf) out = BUF_INIT(ANSWER_MAX_BYTES);
    struct amx_error err = {0};
    json_t *json = NULL, *item = NULL;
    struct db *db = reader_of(rq);
    if (db == NULL) {
        return;
    }
    enum amx_status status = instance_batch_find(db, w->project->id, w->instance, &w->items.batch, &err);
    if (status == AMX_OK) {
        status = consensus_items_compute(&w->items, db, &err);
    }
    reader_done(rq, db);
    if (status == AMX_NOT_FOUND) {
        problem_reply_as(rq, PROBLEM_UNKNOWN_INSTANCE, "There is no instance \"%.255s\".", w->instance);
        return;
    }
    if (status == AMX_OK && write_head(&out, w)) {
        (void)buf_char(&out, '}');
        if (out.status == AMX_OK && jsonx_load(out.bytes, out.n, &json, &err) == AMX_OK) {
            buf_clear(&out);
            consensus_items_write_json(&w->items, 0, &out);
            if (out.status != AMX_OK || jsonx_load(out.bytes, out.n, &item, &err) != AMX_OK ||
                json_object_update(json, item) != 0) {
                json_decref(json);
                json = NULL;
            }
            json_decref(item);
        }
    }
    if (status != AMX_OK) {
        err.code = status;
        problem_reply(rq, &err);
        return;
    }
    resource_reply(rq, w->project->uid, json);
}

static enum http_pull pull(struct http_request *rq, void *context, struct buf *out)
{
    struct work *w = context;
    struct db *db;
    (void)rq;
    if (!w->header_written && w->format == HTTP_FORMAT_CSV) {
        (void)buf_text(out, "instance,class,confidence\r\n");
    }
    w->header_written = true;
    if (store_reader_get(w->service->store, &db, NULL) != AMX_OK) {
        return HTTP_PULL_ERROR;
    }
    enum amx_status status = db_begin_read(db, NULL);
    if (status == AMX_OK) {
        status = next_block(w, db, &w->after, w->items.block, NULL);
    }
    store_reader_put(w->service->store, db);
    if (status != AMX_OK) {
        return HTTP_PULL_ERROR;
    }
    for (size_t i = 0; i < w->items.batch.n; i++) {
        if (!passes(w, i)) {
            continue;
        }
        if (w->format == HTTP_FORMAT_CSV) {
            consensus_items_write_csv(&w->items, i, out);
        } else {
            consensus_items_write_json(&w->items, i, out);
            (void)buf_char(out, '\n');
        }
    }
    return w->more ? HTTP_PULL_MORE : HTTP_PULL_DONE;
}

static void reply(struct http_request *rq, struct work *w)
{
    struct amx_error err = {0};
    w->items.project = w->project;
    w->items.snapshot = w->snapshot;
    w->items.view = w->method == METHOD_DAWID_SKENE ? w->view : NULL;
    w->items.may_gold = auth_has(rq, SCOPE_GOLD);
    enum amx_status status = consensus_items_init(&w->items, &err);
    if (status != AMX_OK) {
        err.code = status;
        problem_reply(rq, &err);
    } else if (w->single) {
        reply_single(rq, w);
    } else if (w->format == HTTP_FORMAT_JSON) {
        reply_list(rq, w);
    } else {
        http_set_data(rq, NULL); /* the stream frees it */
        http_reply_stream(rq, 200, w->format == HTTP_FORMAT_CSV ? "text/csv; charset=utf-8" : "application/x-ndjson", 0,
                          pull, w, work_free);
    }
}

/* ---- the request
 * ----------------------------------------------------------------------------------------------------- */

static void make_view(void *context)
{
    struct work *w = context;
    w->status = crowd_view_make(w->service, w->project, &w->view, &w->err);
}

static void view_made(struct http_request *rq)
{
    struct work *w = http_data(rq);
    if (w->status != AMX_OK) {
        w->err.code = w->status;
        problem_reply(rq, &w->err);
        return;
    }
    if (!w->view->has_dawid_skene && w->view->n_instances > 0) {
        problem_reply_as(
            rq, PROBLEM_INVALID_BODY,
            "dawid_skene needs two labels per labelled instance on the average, and not too many for one answer.");
        return;
    }
    w->label_seq = w->view->label_seq;
    reply(rq, w);
}

static bool read_method(struct http_request *rq, enum method *out)
{
    const char *text = http_query(rq, "method");
    if (text == NULL) {
        *out = METHOD_MODEL;
    } else if (strcmp(text, "majority_vote") == 0) {
        *out = METHOD_MAJORITY;
    } else if (strcmp(text, "dawid_skene") == 0) {
        *out = METHOD_DAWID_SKENE;
    } else {
        problem_reply_as(rq, PROBLEM_INVALID_SETTING,
                         "method is majority_vote or dawid_skene; \"%.40s\" is not in this build.", text);
        return false;
    }
    return true;
}

static bool read_tristate(struct http_request *rq, const char *name, int *out)
{
    bool value = false;
    if (http_query(rq, name) == NULL) {
        *out = -1;
        return true;
    }
    if (!http_query_bool(rq, name, false, &value)) {
        return false;
    }
    *out = value ? 1 : 0;
    return true;
}

static bool read_filters(struct http_request *rq, struct work *w)
{
    const char *text = http_query(rq, "min_confidence");
    w->min_confidence = 0;
    if (text != NULL &&
        (!number_double(text, strlen(text), &w->min_confidence) || w->min_confidence < 0 || w->min_confidence > 1)) {
        problem_reply_as(rq, PROBLEM_INVALID_QUERY, "min_confidence is a number from 0 to 1.");
        return false;
    }
    return read_tristate(rq, "resolved", &w->resolved) && read_tristate(rq, "disputed", &w->disputed);
}

/* The project's label_seq now, and the active model if it is wanted and there is one. Replies when false. */
static bool read_state(struct http_request *rq, struct work *w)
{
    struct project_row row;
    struct amx_error err = {0};
    struct db *db = reader_of(rq);
    if (db == NULL) {
        return false;
    }
    enum amx_status status = projects_get(db, w->project->id, &row, &err);
    reader_done(rq, db);
    if (status == AMX_OK) {
        w->label_seq = row.label_seq;
        project_row_done(&row);
        if (w->method == METHOD_MODEL) {
            status = snapshots_get(w->service->snapshots, w->project->id, &w->snapshot, &err);
            status = status == AMX_NOT_FOUND ? AMX_OK : status;
        }
    }
    if (status != AMX_OK) {
        err.code = status;
        problem_reply(rq, &err);
    }
    return status == AMX_OK;
}

static void go_on(struct http_request *rq, struct work *w)
{
    if (!read_state(rq, w)) {
        return;
    }
    if (w->method != METHOD_DAWID_SKENE) {
        reply(rq, w);
        return;
    }
    w->view = crowd_view_get(w->project->id, w->label_seq);
    if (w->view != NULL) {
        view_made(rq);
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
    w->resolved = w->disputed = -1;
    http_set_data(rq, w);
    return w;
}

static void list_consensus(struct http_request *rq)
{
    static const char *const filters[] = {"resolved", "disputed", "min_confidence", "method", "id", NULL};
    static const unsigned offered = 1u << HTTP_FORMAT_JSON | 1u << HTTP_FORMAT_CSV | 1u << HTTP_FORMAT_NDJSON;
    struct work *w = work_new(rq);
    if (w == NULL || !page_parse(rq, filters, &w->page) || !instance_batch_ids(rq, &w->n_ids) ||
        !read_method(rq, &w->method) || !read_filters(rq, w)) {
        return;
    }
    w->format = http_negotiate(rq, w->n_ids > 0 ? 1u << HTTP_FORMAT_JSON : offered);
    if (w->format != HTTP_FORMAT_NONE && (w->project = project_of(rq, 0)) != NULL) {
        go_on(rq, w);
    }
}

static void get_consensus(struct http_request *rq)
{
    static const char *const queries[] = {"method", NULL};
    struct work *w = work_new(rq);
    if (w == NULL || !http_query_only(rq, queries) || !read_method(rq, &w->method)) {
        return;
    }
    w->single = true;
    w->instance = http_param(rq, 1);
    if ((w->project = project_of(rq, 0)) != NULL) {
        go_on(rq, w);
    }
}

const struct http_route consensus_routes[] = {
    {.method = "GET", .pattern = "/v1/projects/{p}/consensus", .scope = SCOPE_READ, .finish = list_consensus},
    {.method = "GET", .pattern = "/v1/projects/{p}/consensus/{instance}", .scope = SCOPE_READ, .finish = get_consensus},
    {0},
};
