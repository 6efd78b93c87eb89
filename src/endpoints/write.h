/* write.h - how an endpoint changes something: one job for the writer thread, the request suspended until COMMIT said
 * OK, one answer; with Idempotency-Key handled on the way.
 *
 * Use: allocate a struct whose first member is a struct write, fill it in (write_init, then apply, compose, ...), and
 * end the handler with write_submit(). Two threads hold the struct, the request's and the writer's; it is freed
 * (free_owner) when the last of them lets go, so a connection that is cut during COMMIT harms nothing.
 *
 *   HTTP thread    write_submit: key checked and claimed, request suspended, job handed over
 *   writer thread  apply (in a savepoint; with a key: looked up before, answer composed and stored after, same
 * transaction)
 *                  COMMIT; committed (catalogs, counters, trainers); request resumed
 *   HTTP thread    compose (without a key), reply; or the problem of job.status
 *
 * A small write is done by the HTTP thread alone when nobody can be kept waiting by it (http_is_alone, writer_run_here):
 * the same steps in the same order, nothing suspended, nobody woken.
 */
#ifndef ENDPOINTS_WRITE_H
#define ENDPOINTS_WRITE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "annotmix.h"
#include "endpoints/idempotency.h"
#include "endpoints/problem.h"
#include "endpoints/routes.h"
#include "http/http.h"
#include "work/catalog.h"
#include "work/service.h"
#include "work/writer.h"

enum {
    WRITE_LOCATION_BYTES = 256,
    WRITE_ETAG_BYTES = 64
};

/* The answer of a write that went well. An empty text is a header left out; body NULL is an answer without body. */
struct write_reply {
    int status;
    const char *media_type; /* static; NULL = application/json */
    char location[WRITE_LOCATION_BYTES];
    char etag[WRITE_ETAG_BYTES];
    char *body; /* malloc'd; freed with the struct */
    size_t n_body;
};

struct write {
    struct request_state state; /* first: what http_data() points to */
    struct write_job job;
    struct service *service;
    struct project_info *project; /* reference, dropped with the struct; NULL for what is not in a project */

    /* Set by the endpoint before write_submit. */
    /* Writer thread, inside the savepoint. AMX_OK, or why nothing is written (job.error says so to the client). */
    enum amx_status (*apply)(struct db *db, struct write *w);
    /* NULL, or write_job.together of those that have no Idempotency-Key. */
    enum amx_status (*together)(struct db *db, struct write_job *first, size_t n, struct amx_error *err);
    /* Fills w->reply after apply went well; any thread; AMX_NO_MEMORY is its only failure. */
    enum amx_status (*compose)(struct write *w);
    /* Writer thread, after COMMIT, not for a replay. NULL = nothing. */
    void (*committed)(struct write *w);
    /* HTTP thread: replies in place of problem_reply when status is not AMX_OK. NULL = problem_reply(job.error). */
    void (*failed)(struct http_request *rq, struct write *w);
    /* Frees what the endpoint's struct holds, not the struct itself. NULL = nothing. */
    void (*free_owner)(struct write *w);
    bool is_small; /* a few rows: the HTTP thread may write them itself when it and the writer have nothing else to do */

    struct write_reply reply;
    char request_id[64]; /* for problem_object inside apply */

    /* The machinery's own. */
    struct idempotency key;
    bool composed;
    pthread_mutex_t mu;
    struct http_request *rq; /* guarded by mu; NULL once the request is over */
    int holders;             /* guarded by mu */
};

/* Zeroed struct of `size` bytes (>= sizeof(struct write)) that starts with a struct write. project: the reference is
 * taken, even on failure; NULL allowed. NULL when memory is out: then 503 has been replied. */
void *write_new(struct http_request *rq, size_t size, struct project_info *project);
struct write *write_of_job(struct write_job *job);
/* Drops a struct that was not submitted. */
void write_free(struct write *w);
/* Suspends, submits, and later replies. Taken in any case. Last call of the handler. */
void write_submit(struct http_request *rq, struct write *w);

/* For bulk.c, which hands over many jobs for one request: it hangs the struct on the request itself and counts
 * holders. */
void write_attach(struct http_request *rq, struct write *w); /* http_set_data; the request becomes a holder */
void write_hold(struct write *w);
void write_drop(struct write *w);   /* frees with the last holder */
void write_resume(struct write *w); /* http_resume if the request is still there; any thread */
/* Sends w->reply with its headers. */
void write_send(struct http_request *rq, struct write *w);

/* reply.body = compact JSON text of `json` (taken; NULL -> AMX_NO_MEMORY). */
enum amx_status write_compose_json(struct write *w, int status, json_t *json);

#endif
