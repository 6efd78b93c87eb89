/* test_suspend.c - src/http: suspend and resume, waiters, streams, limits in time, stopping */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "peer.h"
#include "test.h"
#include "util/clock.h"

static struct http_limits limits(void)
{
    struct http_limits limits;
    http_limits_default(&limits);
    limits.access_log = false;
    return limits;
}

struct want {
    const struct http_server *server;
    unsigned requests, suspended, connections;
};

static bool counts_are(void *context)
{
    const struct want *want = context;
    unsigned requests, connections, suspended;
    http_server_counts(want->server, &requests, &connections, &suspended);
    return requests == want->requests && suspended == want->suspended &&
           (want->connections == 0 || connections == want->connections);
}

static bool held_are(void *n)
{
    return app_held() == *(unsigned *)n;
}

#define SUSPEND       "POST /suspend HTTP/1.1\r\n" HOST JSON "Content-Length: 2\r\n\r\n{}"
#define SUSPEND_AGAIN "POST /suspend?again=1 HTTP/1.1\r\n" HOST JSON "Content-Length: 2\r\n\r\n{}"

struct sender {
    const struct http_server *server;
    unsigned answered;
};

static void *send_many(void *context)
{
    struct sender *sender = context;
    struct peer peer;
    char buffer[4096];
    size_t n = 0;
    peer_connect(&peer, sender->server);
    /* Answers are counted by their status line, not parsed: peer_read has one static answer. */
    for (int i = 0; i < 250; i++) {
        if (!peer_send(&peer, i % 5 == 0 ? SUSPEND_AGAIN : SUSPEND))
            break;
        do {
            ssize_t got = recv(peer.fd, buffer + n, sizeof buffer - 1 - n, 0);
            if (got <= 0)
                goto done;
            n += (size_t)got;
            buffer[n] = '\0';
        } while (strstr(buffer, "\"written\"") == NULL);
        sender->answered += strncmp(buffer, "HTTP/1.1 201", 12) == 0;
        n = 0;
    }
done:
    peer_close(&peer);
    return NULL;
}

TEST(http_suspend_a_thousand_times)
{
    struct http_server *server = app_start(NULL);
    struct sender senders[4];
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) {
        senders[i] = (struct sender){.server = server};
        CHECK(pthread_create(&threads[i], NULL, send_many, &senders[i]) == 0);
    }
    for (int i = 0; i < 4; i++) {
        (void)pthread_join(threads[i], NULL);
        CHECK_INT(senders[i].answered, 250);
    }
    app_stop(server, 5000);
    CHECK_INT(app_counts().completed, 1000);
}

TEST(http_client_leaves_while_suspended)
{
    struct http_server *server = app_start(NULL);
    unsigned n = 20;
    app_hold_writer(true);
    for (unsigned i = 0; i < n; i++) {
        struct peer peer;
        peer_connect(&peer, server);
        CHECK(peer_send(&peer, SUSPEND));
        unsigned now = i + 1;
        CHECK(until(held_are, &now));
        peer_close(&peer);
    }
    app_hold_writer(false);
    CHECK(until(counts_are, &(struct want){.server = server}));
    app_stop(server, 5000);
    CHECK_INT(app_counts().completed, n);
}

TEST(http_polls_wake_time_out_and_are_limited)
{
    struct http_limits l = limits();
    l.suspended = 3;
    struct http_server *server = app_start(&l);
    struct peer peers[3];
    const struct answer *a = ask(server, "GET /wait?ms=30 HTTP/1.1\r\n" HOST "\r\n");
    CHECK_STR(a->body, "{\"state\":0,\"timed_out\":true,\"stopping\":false}");
    for (int i = 0; i < 3; i++) {
        peer_connect(&peers[i], server);
        CHECK(peer_send(&peers[i], "GET /wait HTTP/1.1\r\n" HOST "\r\n"));
    }
    CHECK(until(counts_are, &(struct want){.server = server, .requests = 3, .suspended = 3}));
    a = ask(server, "GET /wait HTTP/1.1\r\n" HOST "\r\n");
    CHECK_INT(a->status, 503);
    CHECK_STR(header_of(a, "Retry-After"), "1");
    a = ask(server, SUSPEND); /* writes do not count */
    CHECK_INT(a->status, 201);
    app_set_state(7);
    for (int i = 0; i < 3; i++) {
        CHECK_STR(peer_read(&peers[i], false)->body, "{\"state\":7,\"timed_out\":false,\"stopping\":false}");
        peer_close(&peers[i]);
    }
    CHECK(until(counts_are, &(struct want){.server = server}));
    /* a change between watching and suspending is not lost */
    a = ask(server, "GET /watch HTTP/1.1\r\n" HOST "\r\n");
    CHECK_STR(a->body, "{\"state\":8,\"timed_out\":false,\"stopping\":false}");
    app_stop(server, 5000);
}

TEST(http_event_streams)
{
    struct http_server *server = app_start(NULL);
    struct peer peer, other;
    peer_connect(&peer, server);
    CHECK(peer_send(&peer, "GET /events HTTP/1.1\r\n" HOST "\r\n"));
    CHECK(until(counts_are, &(struct want){.server = server, .requests = 1, .suspended = 1}));
    for (int state = 1; state < 100; state++)
        app_set_state(state);
    app_set_state(100); /* the last one ends it */
    const struct answer *a = peer_read(&peer, false);
    CHECK(a != NULL && a->ended && strstr(a->body, "data: 100\n\n") != NULL);
    CHECK_STR(header_of(a, "Content-Type"), "text/event-stream");
    peer_close(&peer);
    CHECK(until(counts_are, &(struct want){.server = server}));
    /* heartbeats find out that a client has gone */
    app_set_state(0);
    peer_connect(&other, server);
    CHECK(peer_send(&other, "GET /events?beat=1 HTTP/1.1\r\n" HOST "\r\n"));
    char seen[4096] = "";
    size_t n = 0;
    while (strstr(seen, ": beat") == NULL) {
        ssize_t got = recv(other.fd, seen + n, sizeof seen - 1 - n, 0);
        CHECK(got > 0);
        if (got <= 0)
            break;
        seen[n += (size_t)got] = '\0';
    }
    peer_close(&other);
    CHECK(until(counts_are, &(struct want){.server = server}));
    app_stop(server, 5000);
    CHECK_INT(app_counts().freed, 2);
}

TEST(http_downloads_whole_broken_and_left)
{
    struct http_server *server = app_start(NULL);
    struct peer peer;
    const struct answer *a = ask(server, "GET /download?n=100000 HTTP/1.1\r\n" HOST "\r\n");
    CHECK(a->ended);
    CHECK_INT(a->n, 588895);
    a = ask(server, "GET /download?n=0 HTTP/1.1\r\n" HOST "\r\n");
    CHECK(a->ended && a->n == 0);
    a = ask(server, "GET /download?n=-2 HTTP/1.1\r\n" HOST "\r\n");
    CHECK(!a->ended); /* the client can tell */
    peer_connect(&peer, server);
    CHECK(peer_send(&peer, "GET /download?n=-1 HTTP/1.1\r\n" HOST "\r\n"));
    char first[1000];
    CHECK(recv(peer.fd, first, sizeof first, 0) > 0);
    peer_close(&peer);
    CHECK(until(counts_are, &(struct want){.server = server}));
    app_stop(server, 5000);
    CHECK_INT(app_counts().freed, 4);
}

TEST(http_slow_reader_is_cut)
{
    struct http_limits l = limits();
    struct http_server *server = NULL;
    struct peer peer;
    l.send_seconds = 1;
    server = app_start(&l);
    peer_connect(&peer, server);
    CHECK(peer_send(&peer, "GET /download?n=-1 HTTP/1.1\r\n" HOST "\r\n"));
    CHECK(until(counts_are, &(struct want){.server = server, .requests = 1}));
    CHECK(until(counts_are, &(struct want){.server = server})); /* never read from */
    peer_close(&peer);
    app_stop(server, 5000);
    CHECK_INT(app_counts().freed, 1);
}

/* One byte now and then, for more than the limit in all: 4 x 600 ms by the server's clock. */
static void check_drip_is_cut(const struct http_server *server, const char *start)
{
    struct peer peer;
    struct want open = {.server = server, .connections = 1};
    peer_connect(&peer, server);
    CHECK(peer_send(&peer, start));
    open.requests = strncmp(start, "POST", 4) == 0;
    CHECK(until(counts_are, &open));
    for (int i = 0; i < 4; i++) {
        clock_test_advance_ms(600);
        (void)peer_send(&peer, "x");
    }
    CHECK(peer_sees_end(&peer));
    peer_close(&peer);
    CHECK(until(nobody, (void *)(uintptr_t)server));
}

TEST(http_drips_are_cut)
{
    struct http_limits l = limits();
    l.header_seconds = l.body_seconds = 1;
    struct http_server *server = app_start(&l);
    check_drip_is_cut(server, "GET /hello HTTP/1.1\r\nX: ");
    check_drip_is_cut(server, "POST /echo HTTP/1.1\r\n" HOST JSON "Content-Length: 1000\r\n\r\n");
    check_drip_is_cut(server,
                      "POST /upload HTTP/1.1\r\n" HOST "Content-Type: text/csv\r\nContent-Length: 1000\r\n\r\n");
    app_stop(server, 5000);
    clock_test_advance_ms(-7200);
}

static bool received_all(void *bytes)
{
    return app_counts().received >= *(uint64_t *)bytes;
}

TEST(http_streams_at_a_good_pace_go_on)
{
    struct http_limits l = limits();
    l.header_seconds = l.body_seconds = 1;
    struct http_server *server = app_start(&l);
    struct peer peer;
    static char piece[20000];
    memset(piece, 'x', sizeof piece);
    peer_connect(&peer, server);
    CHECK(
        peer_send(&peer, "POST /upload HTTP/1.1\r\n" HOST "Content-Type: text/csv\r\nContent-Length: 200000\r\n\r\n"));
    for (uint64_t i = 1; i <= 10; i++) {
        CHECK(peer_send_bytes(&peer, piece, sizeof piece));
        CHECK(until(received_all, &(uint64_t){i * sizeof piece}));
        clock_test_advance_ms(900); /* 9 s in all: no limit on the whole */
    }
    const struct answer *a = peer_read(&peer, false);
    CHECK(a != NULL && a->status == 200);
    peer_close(&peer);
    app_stop(server, 5000);
    clock_test_advance_ms(-9000);
}

TEST(http_time_held_back_does_not_count)
{
    struct http_limits l = limits();
    l.header_seconds = l.body_seconds = 1;
    struct http_server *server = app_start(&l);
    struct peer peer, witness;
    unsigned one = 1;
    app_hold_writer(true);
    peer_connect(&peer, server);
    CHECK(peer_send(&peer, SUSPEND));
    CHECK(until(held_are, &one));
    peer_connect(&witness, server);
    CHECK(peer_send(&witness, "GET "));
    CHECK(until(counts_are, &(struct want){.server = server, .requests = 1, .connections = 2}));
    clock_test_advance_ms(100000);  /* a request may take 4 s in all */
    CHECK(peer_sees_end(&witness)); /* by now the sweeper has seen the new time */
    app_hold_writer(false);
    const struct answer *a = peer_read(&peer, false);
    CHECK(a != NULL && a->status == 201);
    peer_close(&witness);
    peer_close(&peer);
    app_stop(server, 5000);
    clock_test_advance_ms(-100000);
}

static void *release_later(void *context)
{
    const struct timespec pause = {.tv_nsec = 300000000};
    (void)context;
    (void)nanosleep(&pause, NULL);
    app_hold_writer(false);
    return NULL;
}

TEST(http_stopping_answers_everybody)
{
    struct http_server *server = app_start(NULL);
    struct peer polls[5], stream, write, idle, half;
    pthread_t later;
    app_hold_writer(true);
    for (int i = 0; i < 5; i++) {
        peer_connect(&polls[i], server);
        CHECK(peer_send(&polls[i], "GET /wait HTTP/1.1\r\n" HOST "\r\n"));
    }
    peer_connect(&stream, server);
    CHECK(peer_send(&stream, "GET /events HTTP/1.1\r\n" HOST "\r\n"));
    peer_connect(&write, server);
    CHECK(peer_send(&write, SUSPEND));
    peer_connect(&idle, server);
    peer_connect(&half, server);
    CHECK(peer_send(&half, "GET /hello HTTP/1.1\r\nHo"));
    CHECK(until(counts_are, &(struct want){.server = server, .requests = 7, .suspended = 6, .connections = 9}));
    http_server_quiesce(server);
    for (int i = 0; i < 5; i++) {
        const struct answer *a = peer_read(&polls[i], false);
        CHECK(a != NULL && strstr(a->body, "\"stopping\":true") != NULL);
        CHECK_STR(header_of(a, "Connection"), "close");
        peer_close(&polls[i]);
    }
    const struct answer *a = peer_read(&stream, false);
    CHECK(a != NULL && a->ended); /* the stream ends as a stream should */
    /* connections that are open may still ask; new waits are refused */
    CHECK(peer_send(&idle, "GET /wait HTTP/1.1\r\n" HOST "\r\n"));
    CHECK_INT(peer_read(&idle, false)->status, 503);
    CHECK(peer_send(&half, "st: x\r\n\r\n"));
    CHECK_INT(peer_read(&half, false)->status, 200);
    CHECK(pthread_create(&later, NULL, release_later, NULL) == 0);
    http_server_stop(server, 5000); /* waits for the write */
    a = peer_read(&write, false);
    CHECK(a != NULL && a->status == 201);
    (void)pthread_join(later, NULL);
    peer_close(&stream);
    peer_close(&write);
    peer_close(&idle);
    peer_close(&half);
    app_stop(NULL, 0);
    CHECK_INT(app_counts().completed, 9);
    CHECK_INT(app_counts().freed, 1);
}

TEST(http_stopping_cuts_the_rest)
{
    struct http_server *server = app_start(NULL);
    struct peer body, download;
    peer_connect(&body, server);
    CHECK(peer_send(&body, "POST /echo HTTP/1.1\r\n" HOST JSON "Content-Length: 10\r\n\r\n[1,"));
    peer_connect(&download, server);
    CHECK(peer_send(&download, "GET /download?n=-1 HTTP/1.1\r\n" HOST "\r\n"));
    CHECK(until(counts_are, &(struct want){.server = server, .requests = 2}));
    app_stop(server, 100);
    CHECK_INT(app_counts().completed, 2);
    peer_close(&body);
    peer_close(&download);
}

static void say_local(struct http_request *rq)
{
    http_reply_json(rq, 200, json_boolean(http_is_local_socket(rq)));
}

TEST(http_unix_socket)
{
    static const struct http_route routes[] = {{"GET", "/", 0, NULL, NULL, NULL, say_local},
                                               {NULL, NULL, 0, NULL, NULL, NULL, NULL}};
    const struct http_app app = {.routes = routes};
    struct http_limits l = limits();
    struct http_server *server = NULL;
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    struct stat file;
    struct peer peer;
    struct amx_error err = {.text = ""};
    (void)snprintf(to.sun_path, sizeof to.sun_path, "/tmp/annotmix-test-%d.sock", (int)getpid());
    struct http_listen where = {.unix_path = to.sun_path, .inherited_fd = -1};
    /* a file that a dead process left behind */
    int left = socket(AF_UNIX, SOCK_STREAM, 0);
    CHECK(bind(left, (struct sockaddr *)&to, sizeof to) == 0);
    close(left);
    CHECK_INT(http_server_start(&where, &l, &app, &server, &err), AMX_OK);
    CHECK_STR(err.text, "");
    CHECK_INT(http_server_port(server), 0);
    CHECK(stat(to.sun_path, &file) == 0 && (file.st_mode & 0777) == 0600);
    buf_init(&peer.in, 100000);
    peer.fd = socket(AF_UNIX, SOCK_STREAM, 0);
    CHECK(connect(peer.fd, (struct sockaddr *)&to, sizeof to) == 0);
    CHECK(peer_send(&peer, "GET / HTTP/1.1\r\n" HOST "\r\n"));
    CHECK_STR(peer_read(&peer, false)->body, "true");
    peer_close(&peer);
    http_server_stop(server, 1000);
    CHECK(stat(to.sun_path, &file) != 0);
    /* something that is no socket is not removed */
    FILE *plain = fopen(to.sun_path, "w");
    CHECK(plain != NULL && fclose(plain) == 0);
    CHECK_INT(http_server_start(&where, &l, &app, &server, &err), AMX_BUSY);
    CHECK(stat(to.sun_path, &file) == 0);
    (void)unlink(to.sun_path);
}
