/* meta.c - what the server says about itself: GET /v1/, liveness, readiness, metrics, the API document.
 *
 * /livez answers as long as the HTTP threads run. /readyz is 200 only between the end of the start and the beginning of
 * the stop, and while the disk takes writes; training and a full queue never make the server unready. Both need no
 * token. /metrics needs one with `read` on the main listener and none on the health listener, whose whole table is
 * health_routes.
 */
#include <jansson.h>
#include <string.h>

#include "crowd/aggregate/aggregate.h"
#include "endpoints/auth.h"
#include "endpoints/derived/crowd_view.h"
#include "endpoints/page.h"
#include "endpoints/problem.h"
#include "endpoints/routes.h"
#include "util/embed.h"
#include "util/utf8.h"
#include "work/metrics.h"
#include "work/runs/trainers.h"
#include "work/writer.h"

enum { METRICS_MAX_BYTES = 4 << 20 };

static const char *const no_queries[] = {NULL};

/* ---- GET /v1/
 * -------------------------------------------------------------------------------------------------------- */

/* Names of the methods a run may have. */
static json_t *method_names(void)
{
    size_t n;
    const struct amx_method_info *methods = amx_methods(&n);
    json_t *list = json_array();
    int failed = 0;
    for (size_t i = 0; i < n; i++) {
        failed |= json_array_append_new(list, json_string(methods[i].name));
    }
    failed |= json_array_append_new(list, json_string("auto"));
    if (failed) {
        json_decref(list);
        return NULL;
    }
    return list;
}

/* What a client may rely on in this build; a name stays when it becomes true. */
/* What ?method= of a consensus takes. */
static json_t *consensus_methods(void)
{
    size_t n;
    const struct aggregate_method *methods = aggregate_methods(&n);
    json_t *names = json_array();
    bool ok = names != NULL;
    for (size_t i = 0; ok && i < n; i++) {
        ok = json_array_append_new(names, json_string(methods[i].name)) == 0;
    }
    if (!ok || json_array_append_new(names, json_string(CROWD_VIEW_CROWDLAB)) != 0) {
        json_decref(names);
        return NULL;
    }
    return names;
}

static json_t *capabilities(void)
{
    return json_pack("{s:o, s:i, s:b, s:[s,s,s], s:[s,s,s], s:o, s:[s,s,s], s:b, s:b, s:b, s:b}", /* */
                     "methods", method_names(), "ensemble_max", 100, "folds", 1, "gold_use", "evaluate", "calibrate",
                     "train", "activate", "always", "never", "if_not_worse", "consensus_methods", consensus_methods(),
                     "formats", "json", "csv", "ndjson", "gzip", 1, "events", 1, "idempotency_keys", 1, "webhooks", 0);
}

static json_t *limits(const struct service_config *c)
{
    json_t *json = json_object();
    const struct {
        const char *name;
        size_t value;
    } all[] = {
        {"classes", AMX_MAX_CLASSES},
        {"features", AMX_MAX_FEATURES},
        {"name_bytes", NAME_MAX_BYTES},
        {"page_items", PAGE_LIMIT_MAX},
        {"body_bytes", c->http.max_body_bytes},
        {"line_bytes", c->line_bytes},
        {"atomic_lines", c->atomic_lines},
        {"atomic_bytes", c->atomic_bytes},
        {"metadata_bytes", c->metadata_bytes},
        {"connections", c->http.connections},
        {"long_polls", c->http.suspended},
        {"write_queue", c->write_queue},
        {"run_queue", c->run_queue},
        {"run_memory_bytes", c->run_memory_bytes},
        {"model_memory_bytes", c->model_memory_bytes},
    };
    for (size_t i = 0; json != NULL && i < sizeof all / sizeof all[0]; i++) {
        if (!json_put(json, all[i].name, json_integer((json_int_t)all[i].value))) {
            json_decref(json);
            return NULL;
        }
    }
    return json;
}

static void get_service(struct http_request *rq)
{
    const struct service *service = service_of(rq);
    if (!http_query_only(rq, no_queries)) {
        return;
    }
    json_t *json = json_object();
    bool ok = json != NULL && json_put(json, "name", json_string("annotmixd"));
    ok = ok && json_put(json, "version", json_string(ANNOTMIX_VERSION));
    ok = ok && json_put(json, "api_version", json_string("v1"));
    ok = ok && json_put(json, "started_at", json_time(service->started_ms));
    ok =
        ok && json_put(json, "auth_required", json_boolean(__atomic_load_n(&service->auth_required, __ATOMIC_ACQUIRE)));
    ok = ok && json_put(json, "kernel", json_string(amx_kernel_name()));
    ok = ok && json_put(json, "blas", json_string(amx_blas_name()));
    ok = ok && json_put(json, "http", json_string(http_library_version()));
    ok = ok && json_put(json, "trainers", json_integer(trainers_threads(service->trainers)));
    ok = ok && json_put(json, "capabilities", capabilities());
    ok = ok && json_put(json, "limits", limits(&service->config));
    if (!ok) {
        json_decref(json);
        json = NULL;
    }
    http_reply_json(rq, 200, json);
}

/* ---- health
 * ---------------------------------------------------------------------------------------------------------- */

static void get_livez(struct http_request *rq)
{
    if (http_query_only(rq, no_queries) && http_set_header(rq, "Cache-Control", "no-store")) {
        http_reply_json(rq, 200, json_pack("{s:s, s:{s:s}}", "status", "ok", "checks", "process", "ok"));
    }
}

static void get_readyz(struct http_request *rq)
{
    struct service *service = service_of(rq);
    if (!http_query_only(rq, no_queries) || !http_set_header(rq, "Cache-Control", "no-store")) {
        return;
    }
    if (!__atomic_load_n(&service->ready, __ATOMIC_ACQUIRE) || http_is_stopping(rq)) {
        problem_reply_as(rq, PROBLEM_STOPPING, "The server is starting or stopping.");
        return;
    }
    struct writer_stats stats;
    writer_get_stats(service->writer, &stats);
    if (stats.read_only) {
        problem_reply_as(rq, PROBLEM_UNAVAILABLE, "Writes are refused: the disk is full or failed. Reading goes on.");
        return;
    }
    if (stats.busy_seconds > WRITER_STUCK_SECONDS) {
        problem_reply_as(rq, PROBLEM_UNAVAILABLE, "The thread that writes has not come forward for a minute.");
        return;
    }
    http_reply_json(rq, 200,
                    json_pack("{s:s, s:{s:s, s:s}}", "status", "ok", "checks", "started", "ok", "writes", "ok"));
}

static void get_metrics(struct http_request *rq)
{
    struct service *service = service_of(rq);
    if (!http_query_only(rq, no_queries)) {
        return;
    }
    AUTO(buf) text = BUF_INIT(METRICS_MAX_BYTES);
    struct amx_error err = {.code = metrics_write(service->metrics, service, &text)};
    if (err.code == AMX_OK) {
        err.code = text.status;
    }
    if (err.code != AMX_OK) {
        problem_reply(rq, &err);
        return;
    }
    http_reply(rq, 200, "text/plain; version=0.0.4; charset=utf-8", text.bytes, text.n, NULL);
}

/* ---- the API document
 * ------------------------------------------------------------------------------------------------ */

static void reply_document(struct http_request *rq, const char *path, const char *media_type)
{
    if (!http_query_only(rq, no_queries)) {
        return;
    }
    for (const struct embedded_file *file = embedded_files; file->path != NULL; file++) {
        if (strcmp(file->path, path) == 0) {
            http_reply_static(rq, media_type, file->begin, (size_t)(file->end - file->begin));
            return;
        }
    }
    problem_reply_as(rq, PROBLEM_NOT_FOUND, "This build carries no such document.");
}

static void get_openapi_yaml(struct http_request *rq)
{
    reply_document(rq, "api/openapi.yaml", "application/yaml");
}

static void get_openapi_json(struct http_request *rq)
{
    reply_document(rq, "api/openapi.json", "application/json");
}

const struct http_route health_routes[] = {
    {.method = "GET", .pattern = "/livez", .scope = SCOPE_PUBLIC, .finish = get_livez},
    {.method = "GET", .pattern = "/readyz", .scope = SCOPE_PUBLIC, .finish = get_readyz},
    {.method = "GET", .pattern = "/metrics", .scope = SCOPE_READ, .finish = get_metrics},
    {0},
};

const struct http_route meta_routes[] = {
    {.method = "GET", .pattern = "/v1/", .scope = SCOPE_ANY, .finish = get_service},
    {.method = "GET", .pattern = "/openapi.yaml", .scope = SCOPE_PUBLIC, .finish = get_openapi_yaml},
    {.method = "GET", .pattern = "/openapi.json", .scope = SCOPE_PUBLIC, .finish = get_openapi_json},
    {0},
};
