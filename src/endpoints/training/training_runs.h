/* training_runs.h - what the files about runs share: queueing one, looking at one, the list, the event stream. Face-offs
 * are runs of another kind (face_offs.c). */
#ifndef ENDPOINTS_TRAINING_TRAINING_RUNS_H
#define ENDPOINTS_TRAINING_TRAINING_RUNS_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "http/http.h"
#include "work/catalog.h"
#include "work/runs/run_queue.h"
#include "work/runs/runs_json.h"

struct db;

/* The number in path parameter `param`; replies 404 when it is none. */
bool training_runs_number(struct http_request *rq, unsigned param, int64_t *out);
/* The run as clients see it; NULL: it has replied. Caller decrefs. */
json_t *training_runs_look(struct http_request *rq, const struct project_info *project, int64_t number,
                           struct run_view *view);

/* The body of a POST, NULL when there was none, as a request [request_bytes, zeroed]. AMX_INVALID with a pointer; AMX_NOTHING:
 * the project has nothing that such a run could learn from. */
typedef enum amx_status training_runs_parse(const json_t *body, const struct project_info *project, void *out,
                                            struct amx_error *err);
/* In the writer thread, inside the job. */
typedef enum amx_status training_runs_queue(struct db *db, int64_t project_id, const void *request,
                                            const struct run_limits *limits, struct run_queued *out, struct amx_error *err);
struct training_runs_kind {
    const char *resource; /* last part of the Location: "training-runs" */
    size_t request_bytes; /* of a flat struct: it is freed, nothing more */
    training_runs_parse *parse;
    training_runs_queue *queue;
};
/* Parses, queues and replies: 202 with Location and the run, 200 for an equal one that waits already. Takes the
 * project. */
void training_runs_post(struct http_request *rq, struct project_info *project, const struct training_runs_kind *kind);
/* A page of the project's runs that are wanted (NULL: all), newest first. */
void training_runs_list(struct http_request *rq, bool (*wanted)(const struct run_spec *spec));

/* GET .../{id}/events (run_events.c). */
void run_events(struct http_request *rq);

#endif
