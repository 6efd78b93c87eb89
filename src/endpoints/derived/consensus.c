/* consensus.c - GET .../consensus and .../consensus/{instance}.
 *
 * With an active model the posterior of model and labels (a run on labels alone left its own); without one the votes;
 * with ?method= that method on labels alone, or crowdlab, which takes the model's out-of-fold probabilities besides.
 * All methods but the vote need all labels at once, so they are made in the background and kept while the labels stay
 * as they are (crowd_view.h). Filters on what is derived (resolved, disputed, min_confidence) are applied here, block by block;
 * a page ends early after LOOK_MAX instances looked at, with a cursor to go on.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crowd/aggregate/aggregate.h"
#include "endpoints/auth.h"
#include "endpoints/derived/answers.h"
#include "endpoints/derived/background.h"
#include "endpoints/derived/consensus_items.h"
#include "endpoints/derived/crowd_view.h"
#include "endpoints/page.h"
#include "endpoints/problem.h"
#include "endpoints/routes.h"
#include "store/projects.h"
#include "store/store.h"
#include "util/jsonx.h"
#include "util/numbers.h"

enum {
    LOOK_MAX = 20000
};
#define ANSWER_MAX_BYTES ((size_t)256 << 20)

enum method {
    METHOD_MODEL,
    METHOD_MAJORITY,
    METHOD_VIEW,
    METHOD_CROWDLAB
};

/* One request; hangs on it (or, for a stream, belongs to the stream). */
struct work {
    struct request_state state; /* first */
    struct service *service;
    struct project_info *project;
    struct model_snapshot *snapshot;
    struct crowd_view *view;
    struct consensus_items items;
    enum method method;
    const char *method_name; /* static; NULL = by the model */
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
    return consensus_items_pass(&w->items, i, w->resolved, w->disputed, w->min_confidence);
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
    bool stored = w->snapshot != NULL && w->snapshot->labels != NULL; /* as of when its run read the labels */
    json_t *head = answers_head(w->project, w->snapshot, stored ? -1 : w->label_seq);
    bool ok =
        head != NULL && json_put(head, "method", w->method_name == NULL ? json_null() : json_string(w->method_name));
    if (ok && w->method == METHOD_CROWDLAB) { /* the labels may name classes that the model does not know */
        ok = json_put(head, "classes", answers_strings(w->project->classes, w->project->n_classes));
    }
    ok = ok && jsonx_write(out, head) == AMX_OK;
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
    if (w->view != NULL) {
        w->items.made =
            (struct consensus_made){w->view->n_instances, w->view->n_classes, w->view->instance_ids, w->view->posterior,
                                    w->method == METHOD_CROWDLAB ? CONSENSUS_OUT_OF_FOLD : CONSENSUS_LABELS_ONLY};
    } else {
        consensus_items_use(&w->items, w->snapshot);
    }
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

static struct crowd_ask ask_of(const struct work *w)
{
    return (struct crowd_ask){w->method_name, w->method == METHOD_CROWDLAB ? w->snapshot : NULL};
}

static void make_view(void *context)
{
    struct work *w = context;
    const struct crowd_ask ask = ask_of(w);
    w->status = crowd_view_make(w->service, w->project, &ask, &w->view, &w->err);
}

static void view_made(struct http_request *rq)
{
    struct work *w = http_data(rq);
    w->err.code = w->status;
    if (w->status == AMX_INVALID || w->status == AMX_TOO_LARGE) {
        problem_reply_as(rq, PROBLEM_INVALID_SETTING, "%s: %s", w->method_name, w->err.text);
    } else if (w->status == AMX_NOTHING) {
        problem_reply_as(rq, PROBLEM_CONFLICT, "%s: %s", w->method_name, w->err.text);
    } else if (w->status == AMX_CANCELLED) {
        problem_reply_error(rq, PROBLEM_STOPPING, &w->err);
    } else if (w->status != AMX_OK) {
        problem_reply(rq, &w->err);
    } else {
        w->label_seq = w->view->label_seq;
        reply(rq, w);
    }
}

static void refuse_method(struct http_request *rq, const char *text)
{
    char names[400] = "";
    size_t n, at = 0;
    const struct aggregate_method *methods = aggregate_methods(&n);
    for (size_t i = 0; i < n && at < sizeof names; i++) {
        at += (size_t)snprintf(names + at, sizeof names - at, "%s, ", methods[i].name);
    }
    problem_reply_as(rq, PROBLEM_INVALID_SETTING, "method is one of %s%s, not \"%.40s\".", names, CROWD_VIEW_CROWDLAB,
                     text);
}

static bool read_method(struct http_request *rq, struct work *w)
{
    const char *text = http_query(rq, "method");
    if (text == NULL) {
        return true; /* METHOD_MODEL */
    }
    const struct aggregate_method *found = aggregate_find(text);
    if (found != NULL) {
        w->method_name = found->name;
        w->method = strcmp(text, "majority_vote") == 0 ? METHOD_MAJORITY : METHOD_VIEW;
    } else if (strcmp(text, CROWD_VIEW_CROWDLAB) == 0) {
        w->method_name = CROWD_VIEW_CROWDLAB;
        w->method = METHOD_CROWDLAB;
    } else {
        refuse_method(rq, text);
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

/* crowdlab takes p(k | x) from members that did not see an instance's labels. Replies with what is missing when false.
 */
static bool check_crowdlab(struct http_request *rq, const struct work *w)
{
    static const char how[] = "crowdlab needs a model's probabilities out of fold; train one with folds, as in "
                              "{\"folds\": 5}";
    if (w->method != METHOD_CROWDLAB) {
        return true;
    }
    if (w->project->feature_dim == 0) {
        problem_reply_as(rq, PROBLEM_CONFLICT, "crowdlab needs a model, and a project without features has none.");
    } else if (w->snapshot == NULL) {
        problem_reply_as(rq, PROBLEM_NO_MODEL, "There is no active model: %s.", how);
    } else if (w->snapshot->info.folds < 2) {
        problem_reply_as(rq, PROBLEM_CONFLICT, "The active model %lld has no folds: %s.",
                         (long long)w->snapshot->number, how);
    } else {
        return true;
    }
    return false;
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
        if (w->method == METHOD_MODEL || w->method == METHOD_CROWDLAB) {
            status = snapshots_get(w->service->snapshots, w->project->id, &w->snapshot, &err);
            status = status == AMX_NOT_FOUND ? AMX_OK : status;
        }
    }
    if (status != AMX_OK) {
        err.code = status;
        problem_reply(rq, &err);
        return false;
    }
    return check_crowdlab(rq, w);
}

static void go_on(struct http_request *rq, struct work *w)
{
    if (!read_state(rq, w)) {
        return;
    }
    if (w->method != METHOD_VIEW && w->method != METHOD_CROWDLAB) {
        reply(rq, w);
        return;
    }
    const struct crowd_ask ask = ask_of(w);
    w->view = crowd_view_get(w->project->id, w->label_seq, &ask);
    if (w->view != NULL) {
        w->status = AMX_OK;
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
    if (w == NULL || !page_parse(rq, filters, &w->page) || !instance_batch_ids(rq, &w->n_ids) || !read_method(rq, w) ||
        !read_filters(rq, w)) {
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
    if (w == NULL || !http_query_only(rq, queries) || !read_method(rq, w)) {
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
