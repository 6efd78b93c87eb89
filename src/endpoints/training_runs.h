/* training_runs.h - what the two files about training runs share: the resource and its event stream. */
#ifndef ENDPOINTS_TRAINING_RUNS_H
#define ENDPOINTS_TRAINING_RUNS_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "http/http.h"
#include "work/catalog.h"
#include "work/runs_json.h"

/* The number in path parameter `param`; replies 404 when it is none. */
bool training_runs_number(struct http_request *rq, unsigned param, int64_t *out);
/* The run as clients see it; NULL: it has replied. Caller decrefs. */
json_t *training_runs_look(struct http_request *rq, const struct project_info *project, int64_t number,
                           struct run_view *view);
/* GET .../{id}/events (run_events.c). */
void run_events(struct http_request *rq);

#endif
