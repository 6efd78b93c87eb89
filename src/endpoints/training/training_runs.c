/* training_runs.c - training runs: queue one, look at it (and wait for it), cancel it, list them.
 *
 * A run is queued by the writer like any other write: equal queued runs coalesce inside that transaction, so two
 * clients that press the button at once share one run. Looking with ?wait= suspends the request under the run's key;
 * the trainer wakes it at every epoch. The request is put on the list BEFORE the state is read, so no change falls
 * between. Event streams are in run_events.c.
 */
#include "endpoints/training/training_runs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "endpoints/auth.h"
#include "endpoints/page.h"
#include "endpoints/problem.h"
#include "endpoints/routes.h"
#include "endpoints/write.h"
#include "store/runs.h"
#include "util/clock.h"
#include "util/jsonx.h"
#include "util/numbers.h"
#include "work/runs/run_queue.h"
#include "work/runs/run_request.h"
#include "work/runs/runs_json.h"
#include "work/runs/trainers.h"

enum { WAIT_MAX_SECONDS = 55 };

static const char *const no_queries[] = {NULL};

bool training_runs_number(struct http_request *rq, unsigned param, int64_t *out)
{
    const char *text = http_param(rq, param);
    if (number_int(text, strlen(text), out) && *out >= 1) {
        return true;
    }
    problem_reply_as(rq, PROBLEM_NOT_FOUND, "There is no such training run; its id is a number.");
    return false;
}

/* ---- POST
 * ------------------------------------------------------------------------------------------------------------ */

struct run_write {
    struct write write; /* first */
    training_runs_queue *queue;
    void *request;        /* of queue; owned */
    const char *resource; /* "training-runs": where the run is looked at; static */
    struct run_queued run;
    enum run_cancel cancelled;
    json_t *json; /* the run as it is inside the transaction */
};

static void free_run(struct write *w)
{
    json_decref(((struct run_write *)w)->json);
    free(((struct run_write *)w)->request);
}

static enum amx_status look_inside(struct db *db, struct run_write *r)
{
    struct write *w = &r->write;
    return run_json(db, w->service->trainers, w->project->id, w->project->name, r->run.number, &r->json, NULL,
                    &w->job.error);
}

static enum amx_status queue_and_look(struct db *db, struct write *w)
{
    struct run_write *r = (struct run_write *)w;
    const struct run_limits limits = trainers_limits(w->service->trainers);
    enum amx_status status = r->queue(db, w->project->id, r->request, &limits, &r->run, &w->job.error);
    return status == AMX_OK ? look_inside(db, r) : status;
}

static enum amx_status compose_queued(struct write *w)
{
    struct run_write *r = (struct run_write *)w;
    (void)snprintf(w->reply.location, sizeof w->reply.location, "/v1/projects/%s/%s/%lld", w->project->name, r->resource,
                   (long long)r->run.number);
    return write_compose_json(w, r->run.coalesced ? 200 : 202, json_incref(r->json));
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

/* The body, if there is one, through `parse`; replies when false. */
static bool read_request(struct http_request *rq, const struct project_info *project, training_runs_parse *parse,
                         void *out)
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
    enum amx_status status = parse(body, project, out, &err);
    json_decref(body);
    if (status != AMX_OK) {
        problem_reply_error(rq, status == AMX_INVALID ? PROBLEM_INVALID_SETTING : problem_of_status(status), &err);
        return false;
    }
    return true;
}

void training_runs_post(struct http_request *rq, struct project_info *project, const struct training_runs_kind *kind)
{
    void *request = calloc(1, kind->request_bytes);
    if (request == NULL) {
        problem_reply_status(rq, AMX_NO_MEMORY);
        project_unref(project);
        return;
    }
    if (!read_request(rq, project, kind->parse, request)) {
        free(request);
        project_unref(project);
        return;
    }
    struct run_write *r = write_new(rq, sizeof *r, project);
    if (r == NULL) {
        free(request);
        return;
    }
    r->queue = kind->queue;
    r->request = request;
    r->resource = kind->resource;
    r->write.apply = queue_and_look;
    r->write.compose = compose_queued;
    r->write.committed = queued;
    r->write.failed = not_queued;
    r->write.free_owner = free_run;
    write_submit(rq, &r->write);
}

/* Over the project's own defaults. */
static enum amx_status parse_run(const json_t *body, const struct project_info *project, void *out,
                                 struct amx_error *err)
{
    return run_request_parse(body, project->settings.training, project->feature_dim, project->n_classes, out, err);
}

static enum amx_status queue_run(struct db *db, int64_t project_id, const void *request,
                                 const struct run_limits *limits, struct run_queued *out, struct amx_error *err)
{
    return run_queue_add(db, project_id, request, limits, false, out, err);
}

static void post_run(struct http_request *rq)
{
    static const struct training_runs_kind kind = {"training-runs", sizeof(struct run_request), parse_run,
                                                   queue_run};
    struct project_info *project = http_query_only(rq, no_queries) ? project_of(rq, 0) : NULL;
    if (project != NULL) {
        training_runs_post(rq, project, &kind);
    }
}

/* ---- cancel
 * ---------------------------------------------------------------------------------------------------------- */

static enum amx_status cancel_run(struct db *db, struct write *w)
{
    struct run_write *r = (struct run_write *)w;
    enum amx_status status =
        run_queue_cancel(db, w->project->id, r->run.number, &r->run.id, &r->cancelled, &w->job.error);
    return status == AMX_OK ? look_inside(db, r) : status;
}

static enum amx_status compose_cancelled(struct write *w)
{
    struct run_write *r = (struct run_write *)w;
    return write_compose_json(w, r->cancelled == RUN_CANCEL_ALREADY ? 200 : 202, json_incref(r->json));
}

static void cancelled(struct write *w)
{
    struct run_write *r = (struct run_write *)w;
    trainers_cancelled(w->service->trainers, r->run.id);
}

static void post_cancel(struct http_request *rq)
{
    int64_t number;
    size_t n;
    (void)http_body(rq, &n);
    if (!http_query_only(rq, no_queries) || !training_runs_number(rq, 1, &number)) {
        return;
    }
    struct project_info *project = project_of(rq, 0);
    struct run_write *r = project == NULL ? NULL : write_new(rq, sizeof *r, project);
    if (r == NULL) {
        return;
    }
    r->run.number = number;
    r->write.apply = cancel_run;
    r->write.compose = compose_cancelled;
    r->write.committed = cancelled;
    r->write.free_owner = free_run;
    write_submit(rq, &r->write);
}

/* ---- GET one
 * --------------------------------------------------------------------------------------------------------- */

/* A request that waits; hangs on the request from the first look on. */
struct run_wait {
    struct request_state state; /* first */
    struct project_info *project;
    int64_t number;
    int64_t deadline_ms; /* monotonic */
    bool watches;        /* is on the list of the run's waiters */
};

static void wait_released(struct request_state *state)
{
    struct run_wait *w = (struct run_wait *)state;
    project_unref(w->project);
    free(w);
}

json_t *training_runs_look(struct http_request *rq, const struct project_info *project, int64_t number,
                           struct run_view *view)
{
    struct amx_error err = {0};
    json_t *json = NULL;
    struct db *db = reader_of(rq);
    if (db == NULL) {
        return NULL;
    }
    enum amx_status status =
        run_json(db, service_of(rq)->trainers, project->id, project->name, number, &json, view, &err);
    reader_done(rq, db);
    if (status == AMX_NOT_FOUND) {
        problem_reply_as(rq, PROBLEM_NOT_FOUND, "The project \"%s\" has no training run %lld.", project->name,
                         (long long)number);
        return NULL;
    }
    if (status != AMX_OK) {
        err.code = status;
        problem_reply(rq, &err);
        return NULL;
    }
    return json;
}

static bool is_known(const struct http_request *rq, const char *uid, const json_t *json)
{
    char etag[ETAG_BYTES];
    const char *header = http_header_in(rq, "If-None-Match");
    return header != NULL && resource_etag(uid, json, etag) && strstr(header, etag) != NULL;
}

static void look_again(struct http_request *rq)
{
    struct run_wait *w = http_data(rq);
    struct run_view view;
    int64_t left = w->deadline_ms - clock_monotonic_ms();
    json_t *json = training_runs_look(rq, w->project, w->number, &view);
    if (json == NULL) {
        return;
    }
    /* Without If-None-Match the end is waited for; with it, any change. */
    bool conditional = http_header_in(rq, "If-None-Match") != NULL;
    bool news = view.ended || (conditional && !is_known(rq, w->project->uid, json));
    if (news || left <= 0 || http_is_stopping(rq)) {
        resource_reply(rq, w->project->uid, json);
        return;
    }
    json_decref(json);
    if (!w->watches) {
        /* Now the key is known: on the list, and then a second look, so that no change falls between. */
        w->watches = true;
        http_watch(service_of(rq)->run_waiters, view.id, rq);
        look_again(rq);
        return;
    }
    (void)http_suspend(rq, HTTP_WAIT_POLL, (unsigned)left, look_again); /* false: it has replied */
}

static void get_run(struct http_request *rq)
{
    static const char *const queries[] = {"wait", NULL};
    int64_t number, seconds;
    struct run_wait *w;
    if (!http_query_only(rq, queries) || !http_query_int(rq, "wait", 0, WAIT_MAX_SECONDS, 0, &seconds) ||
        !training_runs_number(rq, 1, &number)) {
        return;
    }
    struct project_info *project = project_of(rq, 0);
    if (project == NULL) {
        return;
    }
    w = calloc(1, sizeof *w);
    if (w == NULL) {
        project_unref(project);
        problem_reply_status(rq, AMX_NO_MEMORY);
        return;
    }
    *w = (struct run_wait){.state = {wait_released}, .project = project, .number = number};
    w->deadline_ms = clock_monotonic_ms() + seconds * 1000;
    http_set_data(rq, w);
    look_again(rq);
}

/* ---- list
 * ------------------------------------------------------------------------------------------------------------ */

struct listing {
    struct trainers *trainers;
    const char *project;
    bool (*wanted)(const struct run_spec *spec); /* NULL: all */
    json_t *items;
    size_t limit;
    int64_t seen, last; /* number of the last run looked at, and of the last one listed */
    bool more;
};

/* Runs that are not wanted are passed over; the first wanted one that has no room tells that there are more. */
static enum amx_status list_one(void *context, const struct run_row *row)
{
    struct listing *l = context;
    l->seen = row->number;
    if (l->more || (l->wanted != NULL && !l->wanted(&row->spec))) {
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

void training_runs_list(struct http_request *rq, bool (*wanted)(const struct run_spec *spec))
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
                        .wanted = wanted,
                        .items = json_array(),
                        .limit = page.limit,
                        .seen = page.after};
    /* Where all are wanted one row more than the page holds is enough. */
    const size_t step = wanted == NULL ? page.limit + 1 : PAGE_LIMIT_MAX;
    enum amx_status status = l.items == NULL ? AMX_NO_MEMORY : AMX_OK;
    while (status == AMX_OK && more_runs && !l.more) {
        status = runs_list(db, project->id, l.seen, step, list_one, &l, &more_runs, &err);
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

static void list_runs(struct http_request *rq)
{
    training_runs_list(rq, NULL);
}

static const char *const takes_json[] = {"application/json", NULL};
const struct http_route training_runs_routes[] = {
    {.method = "POST",
     .pattern = "/v1/projects/{p}/training-runs",
     .scope = SCOPE_TRAIN,
     .media_types = takes_json,
     .finish = post_run},
    {.method = "GET",
     .pattern = "/v1/projects/{p}/training-runs",
     .scope = SCOPE_READ | SCOPE_TRAIN,
     .finish = list_runs},
    {.method = "GET",
     .pattern = "/v1/projects/{p}/training-runs/{id}",
     .scope = SCOPE_READ | SCOPE_TRAIN,
     .finish = get_run},
    {.method = "POST",
     .pattern = "/v1/projects/{p}/training-runs/{id}/cancel",
     .scope = SCOPE_TRAIN,
     .finish = post_cancel},
    {.method = "GET",
     .pattern = "/v1/projects/{p}/training-runs/{id}/events",
     .scope = SCOPE_READ | SCOPE_TRAIN,
     .finish = run_events},
    {0},
};
