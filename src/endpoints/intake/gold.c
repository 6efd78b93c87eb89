/* gold.c - gold labels: PUT and DELETE of one (by path or ?id=), POST in bulk, list. All of it needs the scope gold. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "endpoints/auth.h"
#include "endpoints/ids.h"
#include "endpoints/intake/bulk.h"
#include "endpoints/page.h"
#include "endpoints/write.h"
#include "store/instances.h"
#include "util/clock.h"
#include "util/error.h"
#include "util/jsonx.h"

/* ---- POST in bulk ---- */

static enum amx_status bulk_gold_json(struct row_context *c, struct scan *s, struct arena *a, struct bulk_row *row,
                                      struct amx_error *err)
{
    return row_gold_json(c, s, a, &row->as.gold, err);
}

static struct slice bulk_gold_key(const struct bulk_row *row)
{
    return row->as.gold.instance;
}

static enum amx_status bulk_gold_apply(struct changes *ch, struct bulk *b, struct bulk_row *row, struct amx_error *err)
{
    (void)b; /* nothing of the request matters here */
    enum put_outcome outcome;
    enum amx_status status = gold_put(ch, row->as.gold.instance, row->as.gold.class_index, &outcome, err);
    if (status == AMX_OK)
        row->outcome = outcome == PUT_CREATED ? BULK_CREATED : BULK_UPDATED;
    else if (status == AMX_NOT_FOUND && err->pointer[0] == '\0')
        (void)snprintf(err->pointer, sizeof err->pointer, "/instance");
    return status;
}

static const struct bulk_kind gold_kind = {
    .id = BULK_GOLD,
    .member = "gold",
    .json = bulk_gold_json,
    .key = bulk_gold_key,
    .apply = bulk_gold_apply,
};

static const char *const post_query[] = {"atomic", NULL};

static void start_gold(struct http_request *rq)
{
    if (strcmp(http_media_type(rq), "application/json") != 0)
        (void)bulk_open(rq, &gold_kind, post_query, true); /* NULL: it has replied */
}

static void finish_gold(struct http_request *rq)
{
    if (strcmp(http_media_type(rq), "application/json") == 0)
        bulk_json(rq, &gold_kind, post_query);
    else
        bulk_finish(rq);
}

/* ---- PUT and DELETE of one ---- */

struct gold_write {
    struct write write;
    struct ids ids; /* one */
    int class_index;
    enum put_outcome outcome;
    bool project_gone;
};

static void free_gold(struct write *w)
{
    ids_done(&((struct gold_write *)w)->ids);
}

static enum amx_status apply_put(struct db *db, struct write *w)
{
    struct gold_write *g = (struct gold_write *)w;
    struct changes ch;
    enum amx_status status = changes_begin(db, w->project->id, clock_wall_ms(), &ch, &w->job.error);
    g->project_gone = status == AMX_NOT_FOUND;
    if (status == AMX_OK)
        status = gold_put(&ch, g->ids.names[0], g->class_index, &g->outcome, &w->job.error);
    return status == AMX_OK ? changes_flush(&ch, &w->job.error) : status;
}

static enum amx_status compose_put(struct write *w)
{
    struct gold_write *g = (struct gold_write *)w;
    json_t *json = json_object();
    if (json != NULL && (!json_put(json, "instance", json_text(g->ids.names[0].bytes, g->ids.names[0].n)) ||
                         !json_put(json, "class", json_string(w->project->classes[g->class_index])))) {
        json_decref(json);
        json = NULL;
    }
    return write_compose_json(w, g->outcome == PUT_CREATED ? 201 : 200, json);
}

static enum amx_status apply_delete(struct db *db, struct write *w)
{
    struct gold_write *g = (struct gold_write *)w;
    struct changes ch;
    enum amx_status status = changes_begin(db, w->project->id, clock_wall_ms(), &ch, &w->job.error);
    g->project_gone = status == AMX_NOT_FOUND;
    if (status == AMX_OK)
        status = gold_delete(&ch, g->ids.names[0], &w->job.error);
    return status == AMX_OK ? changes_flush(&ch, &w->job.error) : status;
}

static enum amx_status compose_delete(struct write *w)
{
    w->reply.status = 204;
    return AMX_OK;
}

static void failed_put(struct http_request *rq, struct write *w)
{
    struct gold_write *g = (struct gold_write *)w;
    enum problem problem = problem_of_status(w->job.status);
    if (w->job.status == AMX_NOT_FOUND)
        problem = g->project_gone ? PROBLEM_UNKNOWN_PROJECT : PROBLEM_UNKNOWN_INSTANCE;
    problem_reply_error(rq, problem, &w->job.error);
}

/* The instance named, and the struct to write it with; NULL: replied. */
static struct gold_write *begin(struct http_request *rq)
{
    struct ids ids;
    struct gold_write *g = ids_write_new(rq, 1, sizeof *g, &ids);
    if (g == NULL)
        return NULL;
    g->ids = ids;
    g->write.free_owner = free_gold;
    g->write.failed = failed_put;
    return g;
}

/* {"class": "rock"} */
static bool read_class(struct http_request *rq, const struct project_info *project, int *out)
{
    static const char *const fields[] = {"class", NULL};
    size_t n, n_name;
    const char *text = http_body(rq, &n), *name;
    struct amx_error err = {.code = AMX_OK};
    json_auto_t *body = NULL;
    enum amx_status status = jsonx_load(text, n, &body, &err);
    if (status != AMX_OK) {
        problem_reply_error(rq, status == AMX_INVALID ? PROBLEM_MALFORMED_BODY : problem_of_status(status), &err);
        return false;
    }
    if (!json_is_object(body)) {
        problem_reply_as(rq, PROBLEM_INVALID_BODY, "the body must be an object: {\"class\": \"...\"}");
        return false;
    }
    if ((status = jsonx_only_fields(body, fields, "", &err)) == AMX_OK)
        status = jsonx_need_string(body, "class", "", &name, &n_name, &err);
    if (status != AMX_OK) {
        err.code = status;
        problem_reply(rq, &err);
        return false;
    }
    struct row_context context = {.project = project};
    status = row_class(&context, (struct slice){name, n_name}, "", "class", out, &err);
    if (status != AMX_OK)
        problem_reply_error(rq, context.problem, &err);
    return status == AMX_OK;
}

static void put_gold(struct http_request *rq)
{
    struct gold_write *g = begin(rq);
    if (g == NULL)
        return;
    if (!read_class(rq, g->write.project, &g->class_index)) {
        write_free(&g->write);
        return;
    }
    g->write.apply = apply_put;
    g->write.compose = compose_put;
    write_submit(rq, &g->write);
}

static void delete_gold(struct http_request *rq)
{
    struct gold_write *g = begin(rq);
    if (g == NULL)
        return;
    g->write.apply = apply_delete;
    g->write.compose = compose_delete;
    write_submit(rq, &g->write);
}

/* ---- GET ---- */

static void write_item(struct buf *out, const struct project_info *project, const struct instance_row *row)
{
    char time[CLOCK_TEXT_BYTES];
    const char *class_name = (size_t)row->gold_class < project->n_classes ? project->classes[row->gold_class] : "";
    buf_text(out, "{\"instance\":");
    jsonx_write_string(out, row->name.bytes, row->name.n);
    buf_text(out, ",\"class\":");
    jsonx_write_string(out, class_name, strlen(class_name));
    buf_printf(out, ",\"split\":\"%s\",\"set_at\":", split_name(row->split));
    if (row->gold_ms > 0)
        buf_printf(out, "\"%s\"}", clock_text(row->gold_ms, time));
    else
        buf_text(out, "null}");
}

static enum amx_status item_by_name(struct db *db, void *context, struct slice name, struct buf *item,
                                    struct amx_error *err)
{
    const struct project_info *project = context;
    struct instance_row row;
    enum amx_status status = instances_find(db, project->id, name, 0, &row, err);
    if (status != AMX_OK)
        return status;
    bool has = row.gold_class >= 0;
    if (has)
        write_item(item, project, &row);
    instance_row_done(&row);
    return has ? item->status : AMX_NOT_FOUND;
}

struct listing {
    const struct project_info *project;
    struct buf out;
    size_t n;
    int64_t last;
};

static enum amx_status list_one(void *context, const struct instance_row *row)
{
    struct listing *l = context;
    if (l->n++ > 0)
        buf_char(&l->out, ',');
    write_item(&l->out, l->project, row);
    l->last = row->id;
    return l->out.status;
}

static void list_page(struct http_request *rq, const struct page *page, const struct project_info *project)
{
    struct db *db = reader_of(rq);
    if (db == NULL)
        return;
    struct listing l = {.project = project};
    struct instance_filter filter = INSTANCE_FILTER_ALL;
    struct amx_error err = {.code = AMX_OK};
    bool more = false;
    filter.has_gold = 1;
    buf_init(&l.out, SIZE_MAX / 2);
    buf_text(&l.out, "{\"items\":[");
    enum amx_status status = instances_list(db, project->id, &filter, page->continued ? page->after : 0, page->limit, 0,
                                            list_one, &l, &more, &err);
    reader_done(rq, db);
    char cursor[PAGE_CURSOR_BYTES];
    if (status == AMX_OK && more)
        buf_printf(&l.out, "],\"next_cursor\":\"%s\"}", page_cursor(page, l.last, cursor));
    else
        buf_text(&l.out, "],\"next_cursor\":null}");
    size_t n = 0;
    char *text = status == AMX_OK ? buf_take(&l.out, &n) : NULL;
    if (text != NULL) {
        http_reply(rq, 200, "application/json", text, n, free);
    } else {
        err.code = status != AMX_OK ? status : AMX_NO_MEMORY;
        problem_reply(rq, &err);
    }
    buf_done(&l.out);
}

static void list_gold(struct http_request *rq)
{
    static const char *const filters[] = {"id", NULL};
    struct page page;
    struct project_info *project = page_parse(rq, filters, &page) ? project_of(rq, 0) : NULL;
    if (project == NULL)
        return;
    if (ids_asked(rq))
        ids_reply_list(rq, item_by_name, project);
    else
        list_page(rq, &page, project);
    project_unref(project);
}

static const char *const takes_gold[] = {"application/json", "application/x-ndjson", "text/csv", NULL};
static const char *const takes_json[] = {"application/json", NULL};

const struct http_route gold_routes[] = {
    {.method = "POST",
     .pattern = "/v1/projects/{p}/gold",
     .scope = SCOPE_GOLD,
     .media_types = takes_gold,
     .start = start_gold,
     .body = bulk_body,
     .finish = finish_gold},
    {.method = "GET", .pattern = "/v1/projects/{p}/gold", .scope = SCOPE_GOLD, .finish = list_gold},
    {.method = "PUT",
     .pattern = "/v1/projects/{p}/gold",
     .scope = SCOPE_GOLD,
     .media_types = takes_json,
     .finish = put_gold},
    {.method = "DELETE", .pattern = "/v1/projects/{p}/gold", .scope = SCOPE_GOLD, .finish = delete_gold},
    {.method = "PUT",
     .pattern = "/v1/projects/{p}/gold/{id}",
     .scope = SCOPE_GOLD,
     .media_types = takes_json,
     .finish = put_gold},
    {.method = "DELETE", .pattern = "/v1/projects/{p}/gold/{id}", .scope = SCOPE_GOLD, .finish = delete_gold},
    {0},
};
