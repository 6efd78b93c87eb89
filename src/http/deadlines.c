/* deadlines.c - one thread that cuts connections and ends waits.
 *
 * libmicrohttpd has an inactivity time-out only: one byte a second keeps a connection for ever (measured), and
 * suspended connections have none. So every connection carries one moment after which its socket is shut down: set when
 * it opens (header), when the headers are complete (body), as bytes of a stream come in (pace), when the answer is
 * queued, when the request is over (idle), and lifted while the server itself holds the request back. shutdown() is
 * safe from here: the descriptor is closed only after the connection has left the list, which needs the same lock;
 * libmicrohttpd then sees the end of the connection in its own thread. Inactivity itself stays libmicrohttpd's job.
 *
 * Deadlines are looked at four times a second, which reads one number a connection; whether a client has gone asks the
 * kernel and is looked at less often. Waits of requests are kept to the millisecond by the condition variable.
 */
#include <poll.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>

#include "http/http_int.h"
#include "util/clock.h"

enum {
    SWEEP_MS = 250
};

void deadlines_set(struct http_connection *connection, int64_t at_ms)
{
    atomic_store_explicit(&connection->deadline_ms, at_ms, memory_order_relaxed);
}

void connections_add(struct http_connection *connection)
{
    struct http_server *server = connection->server;
    pthread_mutex_lock(&server->connections_mu);
    connection->prev = NULL;
    connection->next = server->connections;
    if (server->connections != NULL)
        server->connections->prev = connection;
    server->connections = connection;
    pthread_mutex_unlock(&server->connections_mu);
    atomic_fetch_add(&server->n_connections, 1);
}

void connections_remove(struct http_connection *connection)
{
    struct http_server *server = connection->server;
    pthread_mutex_lock(&server->connections_mu);
    if (connection->prev != NULL)
        connection->prev->next = connection->next;
    else
        server->connections = connection->next;
    if (connection->next != NULL)
        connection->next->prev = connection->prev;
    pthread_mutex_unlock(&server->connections_mu);
    atomic_fetch_sub(&server->n_connections, 1);
}

/* A body is not complete, everything that came has been read, and the client has closed its side: no more can come.
 * libmicrohttpd misses that when the last bytes and the end arrive together (0.9.75, epoll). True when it was so at two
 * sweeps running: in between, what had just been read has been worked on. connections_mu held. */
static bool is_abandoned_locked(struct http_connection *c)
{
    struct pollfd state = {.fd = c->fd, .events = POLLRDHUP};
    int unread = 0;
    bool was_gone = c->seen_gone;
    c->seen_gone = atomic_load_explicit(&c->awaits_body, memory_order_relaxed) &&
                   atomic_load_explicit(&c->deadline_ms, memory_order_relaxed) != INT64_MAX && /* not held back */
                   poll(&state, 1, 0) == 1 && (state.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0 &&
                   ioctl(c->fd, FIONREAD, &unread) == 0 && unread == 0;
    return was_gone && c->seen_gone;
}

static void shutdown_late(struct http_server *server, int64_t now_ms, bool abandoned_too)
{
    pthread_mutex_lock(&server->connections_mu);
    for (struct http_connection *c = server->connections; c != NULL; c = c->next) {
        if (atomic_load_explicit(&c->deadline_ms, memory_order_relaxed) <= now_ms ||
            (abandoned_too && is_abandoned_locked(c))) {
            (void)shutdown(c->fd, SHUT_RDWR); /* already gone: nothing to do */
            deadlines_set(c, INT64_MAX);
        }
    }
    pthread_mutex_unlock(&server->connections_mu);
}

void connections_shutdown_all(struct http_server *server)
{
    shutdown_late(server, INT64_MAX, false);
}

void timers_add(struct http_request *rq, int64_t at_ms)
{
    struct http_server *server = rq->server;
    pthread_mutex_lock(&server->timers_mu);
    rq->wake_at_ms = at_ms;
    rq->timer_prev = NULL;
    rq->timer_next = server->timers;
    if (server->timers != NULL)
        server->timers->timer_prev = rq;
    server->timers = rq;
    pthread_cond_signal(&server->timers_changed);
    pthread_mutex_unlock(&server->timers_mu);
    rq->timer_listed = true;
}

void timers_remove(struct http_request *rq)
{
    struct http_server *server = rq->server;
    if (!rq->timer_listed)
        return;
    pthread_mutex_lock(&server->timers_mu);
    if (rq->timer_prev != NULL)
        rq->timer_prev->timer_next = rq->timer_next;
    else
        server->timers = rq->timer_next;
    if (rq->timer_next != NULL)
        rq->timer_next->timer_prev = rq->timer_prev;
    pthread_mutex_unlock(&server->timers_mu);
    rq->timer_listed = false;
}

/* Wakes what is due; returns the next moment, at most `latest`. timers_mu held: nobody on the list can be freed. */
static int64_t wake_due_locked(struct http_server *server, int64_t now_ms, int64_t latest)
{
    for (struct http_request *rq = server->timers; rq != NULL; rq = rq->timer_next) {
        if (rq->wake_at_ms <= now_ms) {
            rq->wake_at_ms = INT64_MAX; /* once; it leaves the list in its own thread */
            suspend_wake(rq, true);
        } else if (rq->wake_at_ms < latest) {
            latest = rq->wake_at_ms;
        }
    }
    return latest;
}

static void wait_locked(struct http_server *server, int64_t milliseconds)
{
    struct timespec until;
    if (clock_gettime(CLOCK_MONOTONIC, &until) != 0)
        return;
    until.tv_sec += milliseconds / 1000;
    until.tv_nsec += milliseconds % 1000 * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    (void)pthread_cond_timedwait(&server->timers_changed, &server->timers_mu, &until);
}

static void *sweep(void *context)
{
    struct http_server *server = context;
    /* A quarter of the shortest limit, at most a second. */
    unsigned seconds = server->limits.header_seconds < server->limits.body_seconds ? server->limits.header_seconds
                                                                                   : server->limits.body_seconds;
    int64_t look_ms = seconds >= 4 ? 4 * SWEEP_MS : seconds * SWEEP_MS;
    int64_t swept = clock_monotonic_ms(), looked = swept;

    pthread_mutex_lock(&server->timers_mu);
    while (!server->sweeper_ends) {
        int64_t now = clock_monotonic_ms();
        if (now - swept >= SWEEP_MS) {
            bool look = now - looked >= look_ms;
            pthread_mutex_unlock(&server->timers_mu);
            shutdown_late(server, now, look);
            pthread_mutex_lock(&server->timers_mu);
            swept = now;
            looked = look ? now : looked;
            continue;
        }
        int64_t at = wake_due_locked(server, now, swept + SWEEP_MS);
        if (at > now)
            wait_locked(server, at - now);
    }
    pthread_mutex_unlock(&server->timers_mu);
    return NULL;
}

bool deadlines_start(struct http_server *server)
{
    pthread_condattr_t attributes;
    if (pthread_condattr_init(&attributes) != 0)
        return false;
    bool ok = pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC) == 0 &&
              pthread_cond_init(&server->timers_changed, &attributes) == 0;
    pthread_condattr_destroy(&attributes);
    if (!ok)
        return false;
    if (pthread_create(&server->sweeper, NULL, sweep, server) != 0) {
        pthread_cond_destroy(&server->timers_changed);
        return false;
    }
    server->sweeper_runs = true;
    return true;
}

void deadlines_stop(struct http_server *server)
{
    if (!server->sweeper_runs)
        return;
    pthread_mutex_lock(&server->timers_mu);
    server->sweeper_ends = true;
    pthread_cond_signal(&server->timers_changed);
    pthread_mutex_unlock(&server->timers_mu);
    (void)pthread_join(server->sweeper, NULL); /* cannot fail: joined once, by its maker */
    pthread_cond_destroy(&server->timers_changed);
    server->sweeper_runs = false;
}
