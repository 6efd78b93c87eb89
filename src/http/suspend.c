/* suspend.c - a request stops, another thread wakes it.
 *
 * libmicrohttpd wants: suspend only inside its callbacks, resume exactly once, never a connection that is not
 * suspended. So each request keeps its own two flags, changed together with libmicrohttpd's state under one lock. The
 * lock is not in the request but one of 64 in the server: after MHD_resume_connection() the HTTP thread may answer and
 * free the request before the resuming thread has unlocked.
 *
 * A request that waits for the disk (HTTP_WAIT_WRITE) is resumed by its writer and by nothing else: no deadline, no
 * wake, no shutdown, because the writer will touch it once more. Everything else stands on the timers list while it
 * waits.
 */
#include <stdint.h>

#include "http/http_int.h"
#include "util/clock.h"

/* mu held. */
static void resume_locked(struct http_request *rq, bool timed_out)
{
    rq->resumed = true;
    rq->timed_out = timed_out;
    MHD_resume_connection(rq->mhd);
}

/* mu held, in the request's thread, in a callback of libmicrohttpd. */
static void suspend_locked(struct http_request *rq, enum http_wait kind)
{
    rq->suspended = true;
    rq->resumed = false;
    rq->timed_out = false;
    rq->wait_kind = kind;
    MHD_suspend_connection(rq->mhd);
    atomic_fetch_add(&rq->server->n_suspended, 1);
}

/* The client is not to blame for time in which the server holds it back. */
static void hold_deadline(struct http_request *rq)
{
    int64_t deadline = atomic_load_explicit(&rq->connection->deadline_ms, memory_order_relaxed);
    rq->held_deadline_ms = deadline == INT64_MAX ? INT64_MAX : deadline - clock_monotonic_ms();
    deadlines_set(rq->connection, INT64_MAX);
}

static void release_deadline(struct http_request *rq)
{
    if (rq->held_deadline_ms != INT64_MAX)
        deadlines_set(rq->connection, clock_monotonic_ms() + rq->held_deadline_ms);
}

/* After a poll has been put on the timers list: the server may have begun to stop in between. */
static void list_poll(struct http_request *rq, unsigned timeout_ms)
{
    timers_add(rq, timeout_ms > 0 ? clock_monotonic_ms() + timeout_ms : INT64_MAX);
    if (atomic_load(&rq->server->stopping))
        suspend_wake(rq, false);
}

static bool count_poll(struct http_request *rq)
{
    if (rq->counted_poll)
        return true;
    if (atomic_fetch_add(&rq->server->n_polls, 1) >= rq->server->limits.suspended) {
        atomic_fetch_sub(&rq->server->n_polls, 1);
        return false;
    }
    rq->counted_poll = true;
    return true;
}

static void uncount_poll(struct http_request *rq)
{
    if (rq->counted_poll && rq->stream == NULL) {
        rq->counted_poll = false;
        atomic_fetch_sub(&rq->server->n_polls, 1);
    }
}

bool suspend_count_stream(struct http_request *rq)
{
    return count_poll(rq);
}

bool http_suspend(struct http_request *rq, enum http_wait kind, unsigned timeout_ms,
                  void (*next)(struct http_request *rq))
{
    if (kind == HTTP_WAIT_POLL && http_is_stopping(rq)) {
        http_reply_problem(rq, 503, "queue-full", "Service unavailable", "the server is stopping", NULL);
        return false;
    }
    if (kind == HTTP_WAIT_POLL && !count_poll(rq)) {
        http_reply_problem(rq, 503, "queue-full", "Service unavailable", "too many requests are waiting", NULL);
        return false;
    }
    rq->next = next;
    hold_deadline(rq);
    pthread_mutex_lock(rq->mu);
    suspend_locked(rq, kind);
    if (kind == HTTP_WAIT_POLL && rq->wake_pending) {
        rq->wake_pending = false;
        resume_locked(rq, false);
    }
    pthread_mutex_unlock(rq->mu);
    if (kind == HTTP_WAIT_POLL)
        list_poll(rq, timeout_ms);
    return true;
}

bool suspend_stream(struct http_request *rq, unsigned heartbeat_ms)
{
    pthread_mutex_lock(rq->mu);
    bool pending = rq->wake_pending;
    rq->wake_pending = false;
    if (!pending)
        suspend_locked(rq, HTTP_WAIT_POLL);
    pthread_mutex_unlock(rq->mu);
    if (pending)
        return false;
    rq->next = NULL;
    rq->held_deadline_ms = INT64_MAX;
    list_poll(rq, heartbeat_ms);
    return true;
}

enum amx_status suspend_check(struct http_request *rq, void (**next)(struct http_request *rq))
{
    *next = NULL;
    if (!rq->suspended)
        return AMX_OK;
    pthread_mutex_lock(rq->mu);
    bool resumed = rq->resumed;
    if (resumed)
        rq->suspended = false;
    pthread_mutex_unlock(rq->mu);
    if (!resumed)
        return AMX_BUSY; /* libmicrohttpd had more input in its buffer and called once more */
    atomic_fetch_sub(&rq->server->n_suspended, 1);
    timers_remove(rq);
    if (!rq->watching)
        waiters_leave(rq);
    uncount_poll(rq);
    release_deadline(rq);
    *next = rq->next;
    rq->next = NULL;
    return AMX_OK;
}

void http_resume(struct http_request *rq)
{
    pthread_mutex_t *mu = rq->mu;
    pthread_mutex_lock(mu);
    if (rq->suspended && !rq->resumed)
        resume_locked(rq, false);
    else if (rq->is_stream)
        rq->wake_pending = true;
    pthread_mutex_unlock(mu); /* rq may be gone by now */
}

void suspend_wake(struct http_request *rq, bool timed_out)
{
    pthread_mutex_t *mu = rq->mu;
    pthread_mutex_lock(mu);
    if (!rq->suspended)
        rq->wake_pending = true;
    else if (rq->wait_kind == HTTP_WAIT_POLL && !rq->resumed)
        resume_locked(rq, timed_out);
    pthread_mutex_unlock(mu);
}

void suspend_wake_all(struct http_server *server)
{
    pthread_mutex_lock(&server->timers_mu);
    for (struct http_request *rq = server->timers; rq != NULL; rq = rq->timer_next)
        suspend_wake(rq, false);
    pthread_mutex_unlock(&server->timers_mu);
}

bool http_timed_out(const struct http_request *rq)
{
    pthread_mutex_lock(rq->mu);
    bool timed_out = rq->timed_out;
    pthread_mutex_unlock(rq->mu);
    return timed_out;
}

void suspend_release(struct http_request *rq)
{
    timers_remove(rq);
    waiters_leave(rq);
    if (rq->suspended) { /* resumed and cut before it was called again */
        rq->suspended = false;
        atomic_fetch_sub(&rq->server->n_suspended, 1);
    }
    if (rq->counted_poll) {
        rq->counted_poll = false;
        atomic_fetch_sub(&rq->server->n_polls, 1);
    }
}
