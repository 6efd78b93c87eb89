/* waiters.c - requests that wait for the same thing, by key. At most limits.suspended of them, so 64 short lists will
 * do. */
#include <stdint.h>
#include <stdlib.h>

#include "http/http_int.h"

enum {
    BUCKETS = 64
};

struct http_waiters {
    pthread_mutex_t mu;
    struct http_request *first[BUCKETS]; /* guarded by mu */
};

struct http_waiters *http_waiters_new(void)
{
    struct http_waiters *waiters = calloc(1, sizeof *waiters);
    if (waiters == NULL)
        return NULL;
    if (pthread_mutex_init(&waiters->mu, NULL) != 0) {
        free(waiters);
        return NULL;
    }
    return waiters;
}

void http_waiters_free(struct http_waiters *waiters)
{
    if (waiters == NULL)
        return;
    pthread_mutex_destroy(&waiters->mu);
    free(waiters);
}

static struct http_request **bucket(struct http_waiters *waiters, int64_t key)
{
    return &waiters->first[(uint64_t)key % BUCKETS];
}

void waiters_leave(struct http_request *rq)
{
    struct http_waiters *waiters = rq->waiters;
    if (waiters == NULL)
        return;
    pthread_mutex_lock(&waiters->mu);
    if (rq->wait_prev != NULL)
        rq->wait_prev->wait_next = rq->wait_next;
    else
        *bucket(waiters, rq->wait_key) = rq->wait_next;
    if (rq->wait_next != NULL)
        rq->wait_next->wait_prev = rq->wait_prev;
    pthread_mutex_unlock(&waiters->mu);
    rq->waiters = NULL;
    rq->watching = false;
}

/* Stands on the list under key when it returns; wakes of before do not count. */
static void join(struct http_waiters *waiters, int64_t key, struct http_request *rq)
{
    if (rq->waiters == waiters && rq->wait_key == key)
        return;
    waiters_leave(rq);
    pthread_mutex_lock(rq->mu);
    rq->wake_pending = false;
    pthread_mutex_unlock(rq->mu);
    rq->waiters = waiters;
    rq->wait_key = key;
    pthread_mutex_lock(&waiters->mu);
    struct http_request **first = bucket(waiters, key);
    rq->wait_prev = NULL;
    rq->wait_next = *first;
    if (*first != NULL)
        (*first)->wait_prev = rq;
    *first = rq;
    pthread_mutex_unlock(&waiters->mu);
}

void http_watch(struct http_waiters *waiters, int64_t key, struct http_request *rq)
{
    join(waiters, key, rq);
    rq->watching = true;
}

bool http_wait(struct http_waiters *waiters, int64_t key, struct http_request *rq, unsigned timeout_ms,
               void (*next)(struct http_request *rq))
{
    join(waiters, key, rq);
    return http_suspend(rq, HTTP_WAIT_POLL, timeout_ms, next);
}

void http_wake(struct http_waiters *waiters, int64_t key)
{
    /* Under the lock: a request leaves the list before it is freed. */
    pthread_mutex_lock(&waiters->mu);
    for (struct http_request *rq = *bucket(waiters, key); rq != NULL; rq = rq->wait_next) {
        if (rq->wait_key == key)
            suspend_wake(rq, false);
    }
    pthread_mutex_unlock(&waiters->mu);
}
