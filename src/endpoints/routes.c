/* routes.c - every route of the program, in one table, and what all handlers share.
 *
 * The table is put together once, before any thread starts, from the tables of the resource files: a resource and its
 * routes stand in one file, and the document api/openapi.yaml is compared with this table by a test.
 */
#include "endpoints/routes.h"

#include <pthread.h>
#include <stdlib.h>

#include "endpoints/auth.h"
#include "endpoints/problem.h"
#include "store/store.h"
#include "work/metrics.h"

static const struct http_route *const tables[] = {
    projects_routes,      instances_routes, labels_routes, gold_routes,    annotators_routes,
    training_runs_routes, face_offs_routes, models_routes, predict_routes, predictions_routes,
    reliability_routes,   consensus_routes, agreement_routes, methods_routes, tokens_routes,
    meta_routes,          health_routes,    dashboard_routes,
};
enum {
    N_TABLES = sizeof tables / sizeof tables[0]
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static struct http_route *all; /* written once */

static void put_together(void)
{
    size_t n = 0;
    for (size_t t = 0; t < N_TABLES; t++) {
        for (const struct http_route *r = tables[t]; r->method != NULL; r++) {
            n++;
        }
    }
    all = calloc(n + 1, sizeof *all); /* the last one stays zero: the end */
    if (all == NULL) {
        return;
    }
    n = 0;
    for (size_t t = 0; t < N_TABLES; t++) {
        for (const struct http_route *r = tables[t]; r->method != NULL; r++) {
            all[n++] = *r;
        }
    }
}

const struct http_route *routes_all(void)
{
    (void)pthread_once(&once, put_together); /* cannot fail with a valid control */
    return all;
}

static void completed(struct http_request *rq)
{
    struct request_state *state = http_data(rq);
    if (state != NULL) {
        http_set_data(rq, NULL);
        state->release(state);
    }
}

static void observed(void *context, const char *route, const char *method, int status, double seconds)
{
    const struct service *service = context;
    metrics_request(service->metrics, route, method, status, seconds);
}

bool routes_app(struct service *service, struct http_app *out)
{
    const struct http_route *routes = routes_all();
    if (routes == NULL) {
        return false;
    }
    *out = (struct http_app){
        .routes = routes, .context = service, .gate = auth_gate, .completed = completed, .observed = observed};
    return true;
}

static bool open_gate(struct http_request *rq)
{
    (void)rq;
    return true;
}

void routes_health_app(struct service *service, struct http_app *out)
{
    *out = (struct http_app){
        .routes = health_routes, .context = service, .gate = open_gate, .completed = completed, .observed = observed};
}

struct service *service_of(const struct http_request *rq)
{
    return http_context(rq);
}

struct project_info *project_of(struct http_request *rq, unsigned param)
{
    const char *name = http_param(rq, param);
    struct project_info *project = NULL;
    if (name != NULL && auth_project_allowed(rq, name)) {
        project = catalog_get(service_of(rq)->catalog, name);
    }
    if (project == NULL) {
        problem_reply_as(rq, PROBLEM_UNKNOWN_PROJECT, "There is no project \"%.64s\".", name != NULL ? name : "");
    }
    return project;
}

struct db *reader_of(struct http_request *rq)
{
    struct store *store = service_of(rq)->store;
    struct amx_error err = {0};
    struct db *db;
    enum amx_status status = store_reader_get(store, &db, &err);
    if (status == AMX_OK) {
        status = db_begin_read(db, &err);
        if (status == AMX_OK) {
            return db;
        }
        store_reader_put(store, db);
    }
    err.code = status;
    problem_reply(rq, &err);
    return NULL;
}

void reader_done(struct http_request *rq, struct db *db)
{
    store_reader_put(service_of(rq)->store, db);
}
