/* face_offs.c - face-offs: every method on a project's data, as a run like any other.
 *
 * POST queues a run whose method is "face_off"; it is waited for, watched and cancelled under training-runs by the same
 * id. Here are the list of those runs, and one of them as JSON (the run, its table in `metrics`) or its table alone as
 * CSV or Markdown.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "endpoints/auth.h"
#include "endpoints/page.h"
#include "endpoints/problem.h"
#include "endpoints/routes.h"
#include "endpoints/training_runs.h"
#include "endpoints/write.h"
#include "store/runs.h"
#include "util/buf.h"
#include "util/jsonx.h"
#include "work/face_off_request.h"
#include "work/run_queue.h"
#include "work/runs_json.h"
#include "work/trainers.h"

enum {
    MAX_TABLE = 4 << 20
};

static const char *const no_queries[] = {NULL};

/* ---- POST
 * ------------------------------------------------------------------------------------------------------------ */

struct face_off_write {
    struct write write; /* first */
    struct face_off face_off;
    struct run_queued run;
    json_t *json; /* the run as it is inside the transaction */
};

static void free_face_off(struct write *w)
{
    json_decref(((struct face_off_write *)w)->json);
}

static enum amx_status queue_face_off(struct db *db, struct write *w)
{
    struct face_off_write *f = (struct face_off_write *)w;
    char *settings = face_off_settings_text(&f->face_off);
    struct run_spec spec;
    enum amx_status status;

    if (settings == NULL) {
        w->job.error.code = AMX_NO_MEMORY;
        return AMX_NO_MEMORY;
    }
    face_off_to_spec(&f->face_off, settings, &spec);
    status =
        run_queue_add_spec(db, w->project->id, &spec, trainers_run_queue(w->service->trainers), &f->run, &w->job.error);
    free(settings);
    return status != AMX_OK ? status
                            : run_json(db, w->service->trainers, w->project->id, w->project->name, f->run.number,
                                       &f->json, NULL, &w->job.error);
}

static enum amx_status compose_queued(struct write *w)
{
    struct face_off_write *f = (struct face_off_write *)w;

    (void)snprintf(w->reply.location, sizeof w->reply.location, "/v1/projects/%s/face-offs/%lld", w->project->name,
                   (long long)f->run.number);
    return write_compose_json(w, f->run.coalesced ? 200 : 202, json_incref(f->json));
}

static void queued(struct write *w)
{
    trainers_poke(w->service->trainers);
}

/* What is missing is a 404 (the project went away); the rest is worded by the queue. */
static void not_queued(struct http_request *rq, struct write *w)
{
    if (w->job.status == AMX_NOT_FOUND) {
        problem_reply_error(rq, PROBLEM_UNKNOWN_PROJECT, &w->job.error);
    } else {
        problem_reply(rq, &w->job.error);
    }
}

/* The body; absent: all methods once. Replies when false. */
static bool read_request(struct http_request *rq, struct face_off *out)
{
    size_t n;
    const char *text = http_body(rq, &n);
    struct amx_error err = {0};
    json_t *body = NULL;

    if (n > 0 && jsonx_load(text, n, &body, &err) != AMX_OK) {
        problem_reply_error(rq, PROBLEM_MALFORMED_BODY, &err);
        return false;
    }
    if (body != NULL && !json_is_object(body)) {
        json_decref(body);
        problem_reply_as(rq, PROBLEM_INVALID_BODY, "The body must be an object, or be left out.");
        return false;
    }
    enum amx_status status = face_off_parse(body, out, &err);

    json_decref(body);
    if (status != AMX_OK) {
        problem_reply_error(rq, status == AMX_INVALID ? PROBLEM_INVALID_SETTING : problem_of_status(status), &err);
        return false;
    }
    return true;
}

static void post_face_off(struct http_request *rq)
{
    struct face_off face_off;

    if (!http_query_only(rq, no_queries)) {
        return;
    }
    struct project_info *project = project_of(rq, 0);

    if (project == NULL) {
        return;
    }
    if (!read_request(rq, &face_off)) {
        project_unref(project);
        return;
    }
    if (project->feature_dim == 0) {
        problem_reply_as(rq, PROBLEM_NOTHING_TO_TRAIN,
                         "The project has no features (feature_dim 0): there is nothing for the methods to learn from. "
                         "Consensus with ?method= compares what labels alone say.");
        project_unref(project);
        return;
    }
    struct face_off_write *f = write_new(rq, sizeof *f, project);

    if (f == NULL) {
        return;
    }
    f->face_off = face_off;
    f->write.apply = queue_face_off;
    f->write.compose = compose_queued;
    f->write.committed = queued;
    f->write.failed = not_queued;
    f->write.free_owner = free_face_off;
    write_submit(rq, &f->write);
}

/* ---- GET one
 * --------------------------------------------------------------------------------------------------------- */

static bool is_face_off(const json_t *run)
{
    const char *method = json_string_value(json_object_get(run, "method"));

    return method != NULL && strcmp(method, FACE_OFF_METHOD) == 0;
}

/* The table alone; takes the run. */
static void reply_table(struct http_request *rq, json_t *run, enum http_format format)
{
    const json_t *table = json_object_get(run, "metrics");
    AUTO(buf) text = BUF_INIT(MAX_TABLE);
    const bool csv = format == HTTP_FORMAT_CSV;

    if (json_object_get(table, "rows") == NULL) {
        problem_reply_as(rq, PROBLEM_CONFLICT, "The face-off has no table: it is %s.",
                         json_string_value(json_object_get(run, "state")));
    } else if ((csv ? face_off_csv(table, &text) : face_off_markdown(table, &text)) != AMX_OK) {
        problem_reply_status(rq, text.status);
    } else {
        http_reply(rq, 200, csv ? "text/csv; charset=utf-8" : "text/markdown; charset=utf-8", text.bytes, text.n, NULL);
    }
    json_decref(run);
}

static void get_face_off(struct http_request *rq)
{
    static const unsigned offered = 1u << HTTP_FORMAT_JSON | 1u << HTTP_FORMAT_CSV | 1u << HTTP_FORMAT_MARKDOWN;
    enum http_format format;
    struct run_view view;
    int64_t number;

    if (!http_query_only(rq, no_queries) || (format = http_negotiate(rq, offered)) == HTTP_FORMAT_NONE ||
        !training_runs_number(rq, 1, &number)) {
        return;
    }
    struct project_info *project = project_of(rq, 0);

    if (project == NULL) {
        return;
    }
    json_t *run = training_runs_look(rq, project, number, &view);

    if (run != NULL && !is_face_off(run)) {
        problem_reply_as(rq, PROBLEM_NOT_FOUND, "The training run %lld is no face-off.", (long long)number);
        json_decref(run);
    } else if (run != NULL && format == HTTP_FORMAT_JSON) {
        resource_reply(rq, project->uid, run);
    } else if (run != NULL) {
        reply_table(rq, run, format);
    }
    project_unref(project);
}

/* ---- list
 * ------------------------------------------------------------------------------------------------------------ */

struct listing {
    struct trainers *trainers;
    const char *project;
    json_t *items;
    size_t limit;
    int64_t seen, last; /* number of the last run looked at, and of the last one listed */
    bool more;
};

/* Runs of other methods are passed over; the first face-off that has no room tells that there are more. */
static enum amx_status list_one(void *context, const struct run_row *row)
{
    struct listing *l = context;

    l->seen = row->number;
    if (!face_off_is(&row->spec) || l->more) {
        return AMX_OK;
    }
    if (json_array_size(l->items) == l->limit) {
        l->more = true;
        return AMX_OK;
    }
    l->last = row->number;
    return json_array_append_new(l->items, run_json_of_row(row, l->trainers, l->project, NULL)) == 0 ? AMX_OK
                                                                                                     : AMX_NO_MEMORY;
}

/* Newest first. */
static void list_face_offs(struct http_request *rq)
{
    struct page page;
    struct amx_error err = {0};
    bool more_runs = true;

    if (!page_parse(rq, NULL, &page)) {
        return;
    }
    struct project_info *project = project_of(rq, 0);
    struct db *db = project == NULL ? NULL : reader_of(rq);

    if (db == NULL) {
        project_unref(project);
        return;
    }
    struct listing l = {.trainers = service_of(rq)->trainers,
                        .project = project->name,
                        .items = json_array(),
                        .limit = page.limit,
                        .seen = page.after};
    enum amx_status status = l.items == NULL ? AMX_NO_MEMORY : AMX_OK;

    while (status == AMX_OK && more_runs && !l.more) {
        status = runs_list(db, project->id, l.seen, PAGE_LIMIT_MAX, list_one, &l, &more_runs, &err);
    }
    reader_done(rq, db);
    project_unref(project);
    if (status != AMX_OK) {
        json_decref(l.items);
        err.code = status;
        problem_reply(rq, &err);
        return;
    }
    http_reply_json(rq, 200, page_envelope(&page, l.items, l.more, l.last));
}

static const char *const takes_json[] = {"application/json", NULL};
const struct http_route face_offs_routes[] = {
    {.method = "POST",
     .pattern = "/v1/projects/{p}/face-offs",
     .scope = SCOPE_TRAIN,
     .media_types = takes_json,
     .finish = post_face_off},
    {.method = "GET",
     .pattern = "/v1/projects/{p}/face-offs",
     .scope = SCOPE_READ | SCOPE_TRAIN,
     .finish = list_face_offs},
    {.method = "GET",
     .pattern = "/v1/projects/{p}/face-offs/{id}",
     .scope = SCOPE_READ | SCOPE_TRAIN,
     .finish = get_face_off},
    {0},
};
