/* run_events.c - GET .../training-runs/{id}/events: the run as server-sent events.
 *
 * `progress` with the whole run object at the start and after every change, `done` with the last one, then the end;
 * `id:` is attempt-epoch. Whoever connects when the run has ended gets 204, which also stops an EventSource from coming
 * back for ever. Every event is the whole present state, so a client that was away needs no replay, and a slow one
 * skips what it missed. A comment every 15 s keeps proxies awake and finds out who has gone.
 */
#include <stdlib.h>

#include "endpoints/problem.h"
#include "endpoints/routes.h"
#include "endpoints/training/training_runs.h"
#include "store/store.h"
#include "util/clock.h"
#include "util/jsonx.h"
#include "work/runs/runs_json.h"

enum { HEARTBEAT_MS = 15000 };

struct events {
    struct service *service;
    struct project_info *project;
    int64_t number;
    uint64_t last;   /* version of the object last sent */
    bool started;    /* something was sent */
    int64_t sent_ms; /* monotonic: when something was last sent */
    bool done;
};

static void events_free(void *context)
{
    struct events *e = context;
    project_unref(e->project);
    free(e);
}

/* In one read. Runs outside a handler, so it cannot reply. */
static bool look(struct events *e, json_t **json, struct run_view *view)
{
    struct db *db;
    if (store_reader_get(e->service->store, &db, NULL) != AMX_OK) {
        return false;
    }
    enum amx_status status =
        run_json(db, e->service->trainers, e->project->id, e->project->name, e->number, json, view, NULL);
    store_reader_put(e->service->store, db);
    return status == AMX_OK;
}

static enum http_pull pull(struct http_request *rq, void *context, struct buf *out)
{
    struct events *e = context;
    json_t *json = NULL;
    struct run_view view;
    (void)rq;
    if (e->done) {
        return HTTP_PULL_DONE;
    }
    if (!look(e, &json, &view)) {
        return HTTP_PULL_ERROR;
    }
    int64_t now = clock_monotonic_ms();
    if (!e->started || view.version != e->last) {
        e->started = true;
        e->last = view.version;
        e->sent_ms = now;
        (void)buf_printf(out, "event: %s\nid: %d-%d\ndata: ", view.ended ? "done" : "progress", view.attempt,
                         view.epoch);
        (void)jsonx_write(out, json); /* one line: no line feed is left unescaped */
        (void)buf_text(out, "\n\n");
        e->done = view.ended;
    } else if (now - e->sent_ms >= HEARTBEAT_MS - 100) {
        e->sent_ms = now;
        (void)buf_text(out, ": still there\n\n");
    }
    json_decref(json);
    return e->done ? HTTP_PULL_DONE : HTTP_PULL_WAIT;
}

void run_events(struct http_request *rq)
{
    static const char *const no_queries[] = {NULL};
    int64_t number;
    struct run_view view;
    if (!http_query_only(rq, no_queries) || !training_runs_number(rq, 1, &number)) {
        return;
    }
    struct project_info *project = project_of(rq, 0);
    if (project == NULL) {
        return;
    }
    json_t *json = training_runs_look(rq, project, number, &view);
    if (json == NULL) {
        project_unref(project);
        return;
    }
    json_decref(json);
    if (!http_set_header(rq, "Cache-Control", "no-store")) {
        project_unref(project);
        return;
    }
    if (view.ended) {
        project_unref(project);
        http_reply_empty(rq, 204);
        return;
    }
    struct events *e = calloc(1, sizeof *e);
    if (e == NULL) {
        project_unref(project);
        problem_reply_status(rq, AMX_NO_MEMORY);
        return;
    }
    *e = (struct events){.service = service_of(rq), .project = project, .number = number};
    http_watch(e->service->run_waiters, view.id, rq);
    http_reply_stream(rq, 200, "text/event-stream", HEARTBEAT_MS, pull, e, events_free);
}
