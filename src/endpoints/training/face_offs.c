/* face_offs.c - face-offs: every method on a project's data, as a run like any other.
 *
 * POST queues a run whose method is "face_off"; it is waited for, watched and cancelled under training-runs by the same
 * id. Here are the list of those runs, and one of them as JSON (the run, its table in `metrics`) or its table alone as
 * CSV or Markdown.
 */
#include <stdlib.h>
#include <string.h>

#include "endpoints/auth.h"
#include "endpoints/page.h"
#include "endpoints/problem.h"
#include "endpoints/routes.h"
#include "endpoints/training/training_runs.h"
#include "util/buf.h"
#include "util/error.h"
#include "work/face_off/face_off_request.h"

enum {
    MAX_TABLE = 4 << 20
};

static const char *const no_queries[] = {NULL};

/* ---- POST
 * ------------------------------------------------------------------------------------------------------------ */

static enum amx_status parse_face_off(const json_t *body, const struct project_info *project, void *out,
                                      struct amx_error *err)
{
    enum amx_status status = face_off_parse(body, out, err);

    if (status != AMX_OK || project->feature_dim > 0) {
        return status;
    }
    return error_set(err, AMX_NOTHING,
                     "The project has no features (feature_dim 0): there is nothing for the methods to learn from. "
                     "Consensus with ?method= compares what labels alone say.");
}

static enum amx_status queue_face_off(struct db *db, int64_t project_id, const void *request,
                                      const struct run_limits *limits, struct run_queued *out, struct amx_error *err)
{
    const struct run_need need = {face_off_least_memory, request};
    char *settings = face_off_settings_text(request);
    struct run_spec spec;

    if (settings == NULL) {
        err->code = AMX_NO_MEMORY;
        return AMX_NO_MEMORY;
    }
    face_off_to_spec(request, settings, &spec);
    enum amx_status status = run_queue_add_spec(db, project_id, &spec, &need, limits, out, err);

    free(settings);
    return status;
}

static void post_face_off(struct http_request *rq)
{
    static const struct training_runs_kind kind = {"face-offs", sizeof(struct face_off), parse_face_off,
                                                   queue_face_off};
    struct project_info *project = http_query_only(rq, no_queries) ? project_of(rq, 0) : NULL;

    if (project != NULL) {
        training_runs_post(rq, project, &kind);
    }
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

static void list_face_offs(struct http_request *rq)
{
    training_runs_list(rq, face_off_is);
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
