/* annotators.c - annotators: list, one, DELETE. They come into being with their first label.
 *
 * `reliability` is the short form of GET reliability/{a}: what the active model says, null without one. Counts against
 * gold are shown with the scope gold only.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "endpoints/auth.h"
#include "endpoints/ids.h"
#include "endpoints/page.h"
#include "endpoints/write.h"
#include "store/annotators.h"
#include "store/models.h"
#include "util/clock.h"
#include "util/error.h"
#include "util/jsonx.h"

struct view {
    struct db *db;
    const struct project_info *project;
    bool gold;
    int64_t model; /* number of the active one; 0 = none */
};

/* ---- one annotator as clients see it ---- */

static json_t *gold_json(const struct annotator_row *row)
{
    json_t *object = json_object();
    if (object != NULL && json_put(object, "right", json_integer(row->gold_right)) &&
        json_put(object, "of", json_integer(row->gold_of)))
        return object;
    json_decref(object);
    return NULL;
}

static json_t *reliability_json(const struct view *view, const struct model_annotator *about)
{
    json_t *object = json_object();
    if (object != NULL && json_put(object, "model", json_integer(view->model)) &&
        json_put(object, "basis", json_string("model")) &&
        json_put(object, "reliability", jsonx_real_or_null(about->reliability)) &&
        json_put(object, "evidence", json_integer(about->labels)))
        return object;
    json_decref(object);
    return NULL;
}

static enum amx_status annotator_json(const struct view *view, const struct annotator_row *row, json_t **out,
                                      struct amx_error *err)
{
    json_t *reliability = json_null();
    if (view->model > 0) {
        struct model_annotator about;
        enum amx_status status = model_annotators_get(view->db, view->project->id, view->model, row->id, &about, err);
        if (status == AMX_OK) {
            reliability = reliability_json(view, &about);
            model_annotator_done(&about);
        } else if (status != AMX_NOT_FOUND) { /* not found: the model was trained without its labels */
            return status;
        }
    }
    json_t *object = json_object();
    double skip_rate = row->labels > 0 ? (double)row->skipped / (double)row->labels : (double)NAN;
    if (object != NULL && json_put(object, "annotator", json_text(row->name.bytes, row->name.n)) &&
        json_put(object, "labels", json_integer(row->labels)) &&
        json_put(object, "skipped", json_integer(row->skipped)) &&
        json_put(object, "skip_rate", jsonx_real_or_null(skip_rate)) &&
        json_put(object, "first_label_at", json_time(row->first_label_ms)) &&
        json_put(object, "last_label_at", json_time(row->last_label_ms)) &&
        json_put(object, "created_at", json_time(row->created_ms)) &&
        (!view->gold || json_put(object, "against_gold", gold_json(row))) &&
        json_put(object, "reliability", json_incref(reliability))) {
        json_decref(reliability);
        *out = object;
        return AMX_OK;
    }
    json_decref(reliability);
    json_decref(object);
    return error_set(err, AMX_NO_MEMORY, "out of memory");
}

static enum amx_status look_up_model(struct view *view, struct amx_error *err)
{
    struct model_row row;
    enum amx_status status = models_get_active(view->db, view->project->id, &row, err);
    if (status == AMX_OK) {
        view->model = row.number;
        model_row_done(&row);
    }
    return status == AMX_NOT_FOUND ? AMX_OK : status;
}

/* ---- GET ---- */

static void get_annotator(struct http_request *rq)
{
    static const char *const none[] = {NULL};
    const char *name = http_param(rq, 1);
    struct project_info *project = http_query_only(rq, none) ? project_of(rq, 0) : NULL;
    struct db *db = project != NULL ? reader_of(rq) : NULL;
    if (db == NULL) {
        project_unref(project);
        return;
    }
    struct view view = {.db = db, .project = project, .gold = auth_has(rq, SCOPE_GOLD)};
    struct annotator_row row;
    struct amx_error err = {.code = AMX_OK};
    json_t *json = NULL;
    enum amx_status status = annotators_find(db, project->id, (struct slice){name, strlen(name)}, &row, &err);
    bool found = status == AMX_OK;
    if (found) {
        if ((status = look_up_model(&view, &err)) == AMX_OK)
            status = annotator_json(&view, &row, &json, &err);
        annotator_row_done(&row);
    }
    reader_done(rq, db);
    if (!found && status == AMX_NOT_FOUND) {
        problem_reply_as(rq, PROBLEM_NOT_FOUND, "there is no such annotator in the project");
    } else if (status != AMX_OK) {
        err.code = status;
        problem_reply(rq, &err);
    } else {
        resource_reply(rq, project->uid, json);
    }
    project_unref(project);
}

static enum amx_status item_by_name(struct db *db, void *context, struct slice name, struct buf *item,
                                    struct amx_error *err)
{
    struct view *view = context;
    struct annotator_row row;
    enum amx_status status = AMX_OK;
    if (view->db == NULL) { /* the first one */
        view->db = db;
        status = look_up_model(view, err);
    }
    if (status == AMX_OK)
        status = annotators_find(db, view->project->id, name, &row, err);
    if (status != AMX_OK)
        return status;
    json_t *json = NULL;
    status = annotator_json(view, &row, &json, err);
    annotator_row_done(&row);
    if (status == AMX_OK)
        status = jsonx_write(item, json);
    json_decref(json);
    return status;
}

struct listing {
    struct view view;
    json_t *items;
    int64_t last;
    struct amx_error *err;
};

static enum amx_status list_one(void *context, const struct annotator_row *row)
{
    struct listing *l = context;
    json_t *json = NULL;
    enum amx_status status = annotator_json(&l->view, row, &json, l->err);
    if (status != AMX_OK)
        return status;
    l->last = row->id;
    return json_array_append_new(l->items, json) == 0 ? AMX_OK : AMX_NO_MEMORY;
}

static void list_page(struct http_request *rq, const struct page *page, struct view view)
{
    struct amx_error err = {.code = AMX_OK};
    bool more = false;
    view.db = reader_of(rq);
    if (view.db == NULL)
        return;
    struct listing l = {.items = json_array(), .err = &err};
    enum amx_status status =
        l.items == NULL ? error_set(&err, AMX_NO_MEMORY, "out of memory") : look_up_model(&view, &err);
    l.view = view;
    if (status == AMX_OK)
        status = annotators_list(view.db, view.project->id, page->continued ? page->after : 0, page->limit, list_one,
                                 &l, &more, &err);
    reader_done(rq, view.db);
    if (status != AMX_OK) {
        json_decref(l.items);
        err.code = status;
        problem_reply(rq, &err);
        return;
    }
    http_reply_json(rq, 200, page_envelope(page, l.items, more, l.last));
}

static void list_annotators(struct http_request *rq)
{
    static const char *const filters[] = {"id", NULL};
    struct page page;
    struct project_info *project = page_parse(rq, filters, &page) ? project_of(rq, 0) : NULL;
    if (project == NULL)
        return;
    struct view view = {.project = project, .gold = auth_has(rq, SCOPE_GOLD)};
    if (ids_asked(rq))
        ids_reply_list(rq, item_by_name, &view);
    else
        list_page(rq, &page, view);
    project_unref(project);
}

/* ---- DELETE ---- */

struct annotator_delete {
    struct write write;
    struct ids ids; /* one */
};

static void free_delete(struct write *w)
{
    ids_done(&((struct annotator_delete *)w)->ids);
}

static enum amx_status apply_delete(struct db *db, struct write *w)
{
    struct annotator_delete *d = (struct annotator_delete *)w;
    struct changes ch;
    enum amx_status status = changes_begin(db, w->project->id, clock_wall_ms(), &ch, &w->job.error);
    if (status == AMX_OK)
        status = annotators_delete(&ch, d->ids.names[0], &w->job.error);
    return status == AMX_OK ? changes_flush(&ch, &w->job.error) : status;
}

static enum amx_status compose_delete(struct write *w)
{
    w->reply.status = 204;
    return AMX_OK;
}

static void delete_annotator(struct http_request *rq)
{
    struct ids ids;
    struct annotator_delete *d = ids_write_new(rq, 1, sizeof *d, &ids);
    if (d == NULL)
        return;
    d->ids = ids;
    d->write.free_owner = free_delete;
    d->write.apply = apply_delete;
    d->write.compose = compose_delete;
    write_submit(rq, &d->write);
}

const struct http_route annotators_routes[] = {
    {.method = "GET", .pattern = "/v1/projects/{p}/annotators", .scope = SCOPE_READ, .finish = list_annotators},
    {.method = "DELETE", .pattern = "/v1/projects/{p}/annotators", .scope = SCOPE_WRITE, .finish = delete_annotator},
    {.method = "GET", .pattern = "/v1/projects/{p}/annotators/{id}", .scope = SCOPE_READ, .finish = get_annotator},
    {.method = "DELETE",
     .pattern = "/v1/projects/{p}/annotators/{id}",
     .scope = SCOPE_WRITE,
     .finish = delete_annotator},
    {0},
};
