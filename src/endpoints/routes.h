/* routes.h - the one table of routes, put together from the tables of the resource files, and what every handler
 * shares.
 *
 * Each resource file exports `extern const struct http_route NAME_routes[]`, ended by {0}; here they are listed once.
 */
#ifndef ENDPOINTS_ROUTES_H
#define ENDPOINTS_ROUTES_H

#include "http/http.h"
#include "work/catalog.h"
#include "work/service.h"

/* What a handler hangs on a request by http_set_data() must begin with this: when the request is over (answered, cut,
 * timed out), `release` is called with it, once. */
struct request_state {
    void (*release)(struct request_state *state);
};

/* endpoints-write */
extern const struct http_route projects_routes[];
extern const struct http_route instances_routes[];
extern const struct http_route labels_routes[];
extern const struct http_route gold_routes[];
extern const struct http_route annotators_routes[];
/* endpoints-read */
extern const struct http_route training_runs_routes[];
extern const struct http_route face_offs_routes[];
extern const struct http_route models_routes[];
extern const struct http_route predict_routes[];
extern const struct http_route predictions_routes[];
extern const struct http_route reliability_routes[];
extern const struct http_route consensus_routes[];
extern const struct http_route agreement_routes[];
extern const struct http_route methods_routes[];
extern const struct http_route tokens_routes[];
extern const struct http_route meta_routes[];
extern const struct http_route dashboard_routes[];
/* livez, readyz, metrics only: the health listener. */
extern const struct http_route health_routes[];

/* All routes in one table; made at the first call (before threads start). NULL when memory is out. */
const struct http_route *routes_all(void);
/* http_app for the main server (and the Unix socket), and for the health listener. False when memory is out. */
bool routes_app(struct service *service, struct http_app *out);
void routes_health_app(struct service *service, struct http_app *out);

/* The project named by path parameter `param`, if it exists and is within the token's reach; else replies 404
 * unknown-project and returns NULL. The reference is the caller's: catalog's unref. */
struct project_info *project_of(struct http_request *rq, unsigned param);

/* The service behind a request. */
struct service *service_of(const struct http_request *rq);
/* A read connection for this handler, in a read transaction (one view of everything it reads); NULL: replied. Give it
 * back by reader_done before the reply is sent. */
struct db *reader_of(struct http_request *rq);
void reader_done(struct http_request *rq, struct db *db);

#endif
