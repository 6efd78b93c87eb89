/* write.c - one write of one request, from suspension to answer (write.h). */
#include "endpoints/write.h"

#include <stdlib.h>
#include <string.h>

#include "util/error.h"
#include "util/jsonx.h"

/* ---- life ---- */

struct write *write_of_job(struct write_job *job)
{
    return (struct write *)(void *)((char *)job - offsetof(struct write, job));
}

static void released(struct request_state *state)
{
    struct write *w = (struct write *)state;
    pthread_mutex_lock(&w->mu);
    w->rq = NULL;
    pthread_mutex_unlock(&w->mu);
    write_drop(w);
}

void *write_new(struct http_request *rq, size_t size, struct project_info *project)
{
    struct write *w = calloc(1, size);
    if (w == NULL || pthread_mutex_init(&w->mu, NULL) != 0) {
        free(w);
        project_unref(project);
        problem_reply_as(rq, PROBLEM_NO_MEMORY, "out of memory");
        return NULL;
    }
    w->state.release = released;
    w->service = service_of(rq);
    w->project = project;
    w->job.project_id = project != NULL ? project->id : 0;
    memcpy(w->request_id, http_request_id(rq), strnlen(http_request_id(rq), sizeof w->request_id - 1)); /* 0 follows */
    return w;
}

void write_free(struct write *w)
{
    if (w == NULL)
        return;
    if (w->free_owner != NULL)
        w->free_owner(w);
    idempotency_release(&w->key);
    project_unref(w->project);
    free(w->reply.body);
    pthread_mutex_destroy(&w->mu);
    free(w);
}

void write_attach(struct http_request *rq, struct write *w)
{
    w->rq = rq; /* nobody else knows w yet */
    w->holders = 1;
    http_set_data(rq, w);
}

void write_hold(struct write *w)
{
    pthread_mutex_lock(&w->mu);
    w->holders++;
    pthread_mutex_unlock(&w->mu);
}

void write_drop(struct write *w)
{
    pthread_mutex_lock(&w->mu);
    bool last = --w->holders == 0;
    pthread_mutex_unlock(&w->mu);
    if (last)
        write_free(w);
}

void write_resume(struct write *w)
{
    pthread_mutex_lock(&w->mu);
    if (w->rq != NULL)
        http_resume(w->rq);
    pthread_mutex_unlock(&w->mu);
}

/* ---- writer thread ---- */

static enum amx_status compose_once(struct write *w)
{
    if (w->composed)
        return AMX_OK;
    enum amx_status status = w->compose(w);
    w->composed = status == AMX_OK;
    return status;
}

static enum amx_status run_apply(struct db *db, struct write_job *job)
{
    struct write *w = write_of_job(job);
    if (!w->key.present)
        return w->apply(db, w);
    enum amx_status status = idempotency_find(db, &w->key, &w->reply, &job->error);
    if (status != AMX_OK || w->key.replayed) {
        w->composed = w->key.replayed;
        return status;
    }
    if ((status = w->apply(db, w)) != AMX_OK)
        return status;
    if ((status = compose_once(w)) != AMX_OK)
        return error_set(&job->error, status, "out of memory");
    return idempotency_keep(db, &w->key, &w->reply, &job->error);
}

static void run_done(struct write_job *job)
{
    struct write *w = write_of_job(job);
    if (job->status == AMX_OK && !w->key.replayed && w->committed != NULL)
        w->committed(w);
    idempotency_release(&w->key);
    write_resume(w);
    write_drop(w);
}

/* ---- HTTP thread ---- */

void write_send(struct http_request *rq, struct write *w)
{
    struct write_reply *reply = &w->reply;
    if (reply->location[0] != '\0' && !http_set_header(rq, "Location", reply->location))
        return;
    if (reply->etag[0] != '\0' && !http_set_header(rq, "ETag", reply->etag))
        return;
    if (w->key.replayed && !http_set_header(rq, "Idempotency-Replayed", "true"))
        return;
    if (reply->body == NULL) {
        http_reply_empty(rq, reply->status);
        return;
    }
    char *body = reply->body;
    reply->body = NULL;
    http_reply(rq, reply->status, reply->media_type != NULL ? reply->media_type : "application/json", body,
               reply->n_body, free);
}

static void resumed(struct http_request *rq)
{
    struct write *w = http_data(rq);
    struct amx_error *err = &w->job.error;
    if (w->job.status != AMX_OK) {
        err->code = w->job.status;
        if (w->key.other)
            problem_reply_error(rq, PROBLEM_IDEMPOTENCY_OTHER, err);
        else if (w->failed != NULL)
            w->failed(rq, w);
        else
            problem_reply(rq, err);
        return;
    }
    if (compose_once(w) != AMX_OK) {
        problem_reply_as(rq, PROBLEM_NO_MEMORY, "the write was done; there is no memory left to describe it");
        return;
    }
    write_send(rq, w);
}

void write_submit(struct http_request *rq, struct write *w)
{
    if (w->holders == 0)
        write_attach(rq, w);
    if (!idempotency_claim(rq, w->job.project_id, &w->key))
        return;
    w->job.apply = run_apply;
    w->job.together = w->key.present ? NULL : w->together;
    w->job.done = run_done;
    if (w->is_small && http_is_alone(rq)) {
        write_hold(w);
        if (writer_run_here(w->service->writer, &w->job)) {
            resumed(rq);
            return;
        }
        write_drop(w);
    }
    if (!http_suspend(rq, HTTP_WAIT_WRITE, 0, resumed))
        return; /* replied; freed with the request */
    write_hold(w);
    enum amx_status status = writer_submit(w->service->writer, &w->job);
    if (status != AMX_OK) {
        w->job.status = error_set(&w->job.error, status, "%s",
                                  status == AMX_BUSY ? "the queue of writes is full; try again in a moment"
                                                     : "writes are refused at the moment");
        idempotency_release(&w->key);
        http_resume(rq);
        write_drop(w);
    }
}

enum amx_status write_compose_json(struct write *w, int status, json_t *json)
{
    char *body = json != NULL ? jsonx_dump(json, &w->reply.n_body) : NULL;
    json_decref(json);
    if (body == NULL)
        return AMX_NO_MEMORY;
    free(w->reply.body);
    w->reply.body = body;
    w->reply.status = status;
    return AMX_OK;
}
