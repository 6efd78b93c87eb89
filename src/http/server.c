/* server.c - sockets, libmicrohttpd's options, start and stop.
 *
 * Options: an epoll thread pool (a handler that blocks would stall all connections of its thread, so none does),
 * suspension, an inactivity limit, a connection limit, 128 KiB of memory per connection, the strictest parser there is.
 * Above the connection limit libmicrohttpd leaves clients waiting in the kernel's queue: health checks need a server of
 * their own.
 *
 * Stopping: libmicrohttpd aborts the process when it is stopped with a suspended connection, and drops answers of
 * connections resumed just before. So: quiesce (no new connections, see close_door; polls and streams are woken and see
 * http_is_stopping; every reply says Connection: close), then wait until the number of open REQUESTS is 0, for drain_ms
 * at most; then shut the sockets of the rest down; then wait until nothing is suspended (writes are resumed by their
 * writer, who is alive as long as the server), and only then stop the daemon.
 */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "http/http_int.h"
#include "util/clock.h"
#include "util/error.h"
#include "util/log.h"
#include "util/random.h"

enum {
    BACKLOG = 1024,
    LIBRARY_LOGS_PER_SECOND = 10,
    LAST_WAIT_MS = 20000 /* for writers that never resume: a bug, see http_server_stop */
};

void http_limits_default(struct http_limits *out)
{
    *out = (struct http_limits){
        .threads = 2,
        .connections = 1000,
        .connections_per_address = 0,
        .suspended = 256,
        .max_body_bytes = (size_t)8 << 20,
        .body_memory = (size_t)256 << 20,
        .max_drop_bytes = (size_t)64 << 20,
        .header_seconds = 10,
        .body_seconds = 30,
        .idle_seconds = 30,
        .send_seconds = 30,
        .access_log = true,
    };
}

const char *http_library_version(void)
{
    return MHD_get_version();
}

/* ---- sockets ---------------------------------------------------------------------------------------------------- */

static enum amx_status socket_failed(struct amx_error *err, const char *what, const char *where)
{
    int why = errno;
    char text[80];
    const char *words = strerror_r(why, text, sizeof text);
    enum amx_status status = why == EADDRINUSE ? AMX_BUSY : AMX_IO;
    return error_set(err, status, "%s %s: %s", what, where, words);
}

/* "host:port" or "[v6]:port" -> the two parts. */
static bool split_address(const char *address, char host[64], char port[6])
{
    const char *colon = strrchr(address, ':'), *begin = address;
    if (colon == NULL || strlen(colon + 1) == 0 || strlen(colon + 1) > 5 ||
        strspn(colon + 1, "0123456789") != strlen(colon + 1) || strtoul(colon + 1, NULL, 10) > 65535)
        return false;
    size_t n = (size_t)(colon - address);
    if (address[0] == '[') {
        if (n < 3 || colon[-1] != ']')
            return false;
        begin++;
        n -= 2;
    } else if (memchr(address, ':', n) != NULL) {
        return false; /* IPv6 without brackets: which colon? */
    }
    if (n == 0 || n >= 64)
        return false;
    memcpy(host, begin, n);
    host[n] = '\0';
    memcpy(port, colon + 1, strlen(colon + 1) + 1);
    return true;
}

static enum amx_status listen_address(const char *address, int *out, struct amx_error *err)
{
    char host[64], port[6];
    struct addrinfo hints = {
        .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE};
    struct addrinfo *found = NULL;
    int one = 1, zero = 0;

    if (!split_address(address, host, port))
        return error_set(err, AMX_INVALID,
                         "\"%s\" is not an address: want 127.0.0.1:8080, [::1]:8080 or localhost:8080", address);
    if (getaddrinfo(strcmp(host, "localhost") == 0 ? "127.0.0.1" : host, port, &hints, &found) != 0 || found == NULL)
        return error_set(err, AMX_INVALID, "\"%s\" is not an address: the host must be a number or localhost", address);
    enum amx_status status = AMX_OK;
    int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        status = socket_failed(err, "cannot make a socket for", address);
    } else if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) != 0 ||
               (found->ai_family == AF_INET6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof zero) != 0) ||
               bind(fd, found->ai_addr, found->ai_addrlen) != 0 || listen(fd, BACKLOG) != 0) {
        status = socket_failed(err, "cannot listen on", address);
        (void)close(fd);
    } else {
        *out = fd;
    }
    freeaddrinfo(found);
    return status;
}

/* The caller holds the lock of the database, so a socket file that is there was left behind by a process that died. */
static enum amx_status listen_unix(const char *path, int *out, struct amx_error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct stat old;

    if (strlen(path) >= sizeof address.sun_path)
        return error_set(err, AMX_INVALID, "the path of the Unix socket is longer than %zu bytes",
                         sizeof address.sun_path - 1);
    memcpy(address.sun_path, path, strlen(path) + 1);
    if (lstat(path, &old) == 0 && S_ISSOCK(old.st_mode))
        (void)unlink(path); /* bind tells when it did not work */
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return socket_failed(err, "cannot make a socket for", path);
    /* fchmod before bind sets the mode the file is made with: there is no moment in which others may connect. */
    if (fchmod(fd, 0600) != 0 || bind(fd, (struct sockaddr *)&address, sizeof address) != 0) {
        enum amx_status status = socket_failed(err, "cannot listen on", path);
        (void)close(fd);
        return status;
    }
    if (chmod(path, 0600) != 0 || listen(fd, BACKLOG) != 0) {
        enum amx_status status = socket_failed(err, "cannot listen on", path);
        (void)unlink(path);
        (void)close(fd);
        return status;
    }
    *out = fd;
    return AMX_OK;
}

static enum amx_status adopt(int fd, int *out, struct amx_error *err)
{
    int listening = 0, flags = fcntl(fd, F_GETFL);
    socklen_t n = sizeof listening;
    if (flags < 0 || getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &n) != 0 || !listening)
        return error_set(err, AMX_INVALID, "descriptor %d is not a listening socket", fd);
    if (fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) != 0)
        return socket_failed(err, "cannot prepare", "the inherited socket");
    *out = fd;
    return AMX_OK;
}

static void read_socket_name(struct http_server *server)
{
    struct sockaddr_storage name;
    socklen_t n = sizeof name;
    memset(&name, 0, sizeof name);
    if (getsockname(server->listen_fd, (struct sockaddr *)&name, &n) != 0)
        return;
    server->is_unix = name.ss_family == AF_UNIX;
    if (name.ss_family == AF_INET)
        server->port = ntohs(((const struct sockaddr_in *)(const void *)&name)->sin_port);
    else if (name.ss_family == AF_INET6)
        server->port = ntohs(((const struct sockaddr_in6 *)(const void *)&name)->sin6_port);
}

static enum amx_status open_socket(struct http_server *server, const struct http_listen *where, struct amx_error *err)
{
    enum amx_status status;
    if (where->inherited_fd >= 0) {
        status = adopt(where->inherited_fd, &server->listen_fd, err);
    } else if (where->unix_path != NULL) {
        server->unix_path = strdup(where->unix_path);
        if (server->unix_path == NULL)
            return error_set(err, AMX_NO_MEMORY, "out of memory");
        status = listen_unix(where->unix_path, &server->listen_fd, err);
        if (status != AMX_OK) { /* not ours: must not be removed */
            free(server->unix_path);
            server->unix_path = NULL;
        }
    } else {
        status = listen_address(where->address, &server->listen_fd, err);
    }
    if (status == AMX_OK)
        read_socket_name(server);
    return status;
}

/* ---- libmicrohttpd ---------------------------------------------------------------------------------------------- */

static void on_connection(void *context, struct MHD_Connection *mhd, void **socket_context,
                          enum MHD_ConnectionNotificationCode code)
{
    struct http_server *server = context;
    struct http_connection *connection = *socket_context;
    if (code == MHD_CONNECTION_NOTIFY_CLOSED) {
        if (connection != NULL) {
            connections_remove(connection);
            request_discard(connection->pending);
            free(connection);
            *socket_context = NULL;
        }
        return;
    }
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD);
    connection = info != NULL ? calloc(1, sizeof *connection) : NULL;
    if (connection == NULL)
        return; /* its requests are cut: request_on_uri */
    connection->server = server;
    connection->fd = info->connect_fd;
    deadlines_set(connection, clock_monotonic_ms() + (int64_t)server->limits.header_seconds * 1000);
    connections_add(connection);
    *socket_context = connection;
}

/* Every malformed request makes the library log a line; a flood of them must not become a flood of lines. */
static void on_library_log(void *context, const char *format, va_list args) __attribute__((format(printf, 2, 0)));
static void on_library_log(void *context, const char *format, va_list args)
{
    struct http_server *server = context;
    int64_t second = clock_monotonic_ms() / 1000;
    char text[300];
    if (atomic_exchange(&server->log_second, second) != second)
        atomic_store(&server->logged_in_second, 0);
    if (atomic_fetch_add(&server->logged_in_second, 1) >= LIBRARY_LOGS_PER_SECOND || !log_enabled(LOG_LEVEL_DEBUG))
        return;
    if (vsnprintf(text, sizeof text, format, args) < 0)
        return;
    text[strcspn(text, "\r\n")] = '\0';
    log_debug("libmicrohttpd", LOG_TEXT("text", text));
}

static bool start_daemon(struct http_server *server)
{
    const struct http_limits *limits = &server->limits;
    struct MHD_OptionItem options[] = {
        {MHD_OPTION_LISTEN_SOCKET, (intptr_t)server->listen_fd, NULL},
        {MHD_OPTION_CONNECTION_LIMIT, (intptr_t)limits->connections, NULL},
        {MHD_OPTION_CONNECTION_TIMEOUT, (intptr_t)limits->idle_seconds, NULL},
        {MHD_OPTION_CONNECTION_MEMORY_LIMIT, HTTP_MEMORY_BYTES, NULL},
        {MHD_OPTION_CONNECTION_MEMORY_INCREMENT, HTTP_MEMORY_STEP, NULL},
#if MHD_VERSION >= 0x00097701
        {MHD_OPTION_CLIENT_DISCIPLINE_LVL, 2, NULL},
#else
        /* All that 1 adds in 0.9.75 is a check of Host and of blanks in the target; both are vetted here, with better
         * answers. A newer library below a program built for 0.9.75 needs it. */
        {MHD_OPTION_STRICT_FOR_CLIENT, head_is_vetted_here() ? 0 : 1, NULL},
#endif
        {limits->connections_per_address > 0 ? MHD_OPTION_PER_IP_CONNECTION_LIMIT : MHD_OPTION_END,
         (intptr_t)limits->connections_per_address, NULL},
        {MHD_OPTION_END, 0, NULL},
    };
    struct MHD_OptionItem pool[] = {
        {limits->threads > 1 ? MHD_OPTION_THREAD_POOL_SIZE : MHD_OPTION_END, (intptr_t)limits->threads, NULL},
        {MHD_OPTION_END, 0, NULL},
    };
    server->daemon = MHD_start_daemon(
        MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ITC | MHD_USE_ERROR_LOG, 0, NULL, NULL,
        request_on_call, server, MHD_OPTION_EXTERNAL_LOGGER, on_library_log, server, MHD_OPTION_URI_LOG_CALLBACK,
        request_on_uri, server, MHD_OPTION_NOTIFY_COMPLETED, request_on_completed, server, MHD_OPTION_NOTIFY_CONNECTION,
        on_connection, server, MHD_OPTION_ARRAY, pool, MHD_OPTION_ARRAY, options, MHD_OPTION_END);
    return server->daemon != NULL;
}

/* ---- start ------------------------------------------------------------------------------------------------------ */

/* Everything but the daemon; also for a server that was never whole. */
static void server_free(struct http_server *server)
{
    if (server->listen_fd >= 0)
        (void)close(server->listen_fd);
    if (server->unix_path != NULL)
        (void)unlink(server->unix_path);
    free(server->unix_path);
    if (server->no_memory != NULL)
        MHD_destroy_response(server->no_memory);
    router_free(server->router);
    for (size_t i = 0; i < HTTP_STRIPES; i++) {
        /* A writer that has just resumed the last request may still be about to unlock. */
        pthread_mutex_lock(&server->stripes[i]);
        pthread_mutex_unlock(&server->stripes[i]);
        pthread_mutex_destroy(&server->stripes[i]);
    }
    pthread_mutex_destroy(&server->connections_mu);
    pthread_mutex_destroy(&server->timers_mu);
    free(server);
}

static bool init_locks(struct http_server *server)
{
    bool ok =
        pthread_mutex_init(&server->connections_mu, NULL) == 0 && pthread_mutex_init(&server->timers_mu, NULL) == 0;
    for (size_t i = 0; i < HTTP_STRIPES; i++)
        ok = pthread_mutex_init(&server->stripes[i], NULL) == 0 && ok;
    return ok;
}

enum amx_status http_server_start(const struct http_listen *where, const struct http_limits *limits,
                                  const struct http_app *app, struct http_server **out, struct amx_error *err)
{
    unsigned char random[8];
    struct http_server *server = calloc(1, sizeof *server);
    if (server == NULL)
        return error_set(err, AMX_NO_MEMORY, "out of memory");
    server->listen_fd = -1;
    server->app = app;
    server->limits = *limits;
    enum amx_status status = AMX_OK;
    if (!init_locks(server) || (server->router = router_new(app->routes)) == NULL ||
        (server->no_memory = reply_no_memory_new()) == NULL)
        status = error_set(err, AMX_NO_MEMORY, "out of memory, or a route pattern that cannot be used");
    if (status == AMX_OK && random_bytes(random, sizeof random) != AMX_OK)
        status = error_set(err, AMX_IO, "the kernel gives no random bytes");
    if (status == AMX_OK) {
        random_hex(random, sizeof random, server->id_prefix);
        status = open_socket(server, where, err);
    }
    if (status == AMX_OK && !deadlines_start(server))
        status = error_set(err, AMX_IO, "cannot start a thread");
    if (status == AMX_OK && !start_daemon(server))
        status = error_set(err, AMX_IO, "libmicrohttpd does not start");
    if (status != AMX_OK) {
        deadlines_stop(server);
        server_free(server);
        return status;
    }
    *out = server;
    return AMX_OK;
}

int http_server_port(const struct http_server *server)
{
    return server->port;
}

void http_server_counts(const struct http_server *server, unsigned *requests, unsigned *connections,
                        unsigned *suspended)
{
    *requests = atomic_load(&server->n_requests);
    *connections = atomic_load(&server->n_connections);
    *suspended = atomic_load(&server->n_polls);
}

/* ---- stop ------------------------------------------------------------------------------------------------------- */

/* No new connections. Not by MHD_quiesce_daemon(): it takes the listening socket out of the epoll sets in this thread
 * while its workers do the same in theirs, and whoever comes second aborts the process (seen with 0.9.75). Instead the
 * number that libmicrohttpd knows gets another meaning, a descriptor on which nothing ever happens; the kernel closes
 * the socket and takes it out of all sets. When there is no descriptor to be had, new connections are still accepted
 * and hear Connection: close. */
static void close_door(struct http_server *server)
{
    int nothing = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (nothing < 0)
        return;
    (void)dup3(nothing, server->listen_fd, O_CLOEXEC); /* on failure: as above */
    (void)close(nothing);
}

void http_server_quiesce(struct http_server *server)
{
    if (atomic_exchange(&server->stopping, true))
        return;
    close_door(server);
    suspend_wake_all(server);
}

/* True when the counter reached 0 in time. Looked at every 5 ms: nothing here is worth a condition variable per
 * request. */
static bool wait_for_zero(const atomic_uint *counter, int64_t milliseconds)
{
    const struct timespec pause = {.tv_nsec = 5000000};
    int64_t until = clock_monotonic_ms() + milliseconds;
    while (atomic_load(counter) > 0) {
        if (clock_monotonic_ms() >= until)
            return false;
        (void)nanosleep(&pause, NULL);
    }
    return true;
}

void http_server_stop(struct http_server *server, unsigned drain_ms)
{
    if (server == NULL)
        return;
    http_server_quiesce(server);
    if (!wait_for_zero(&server->n_requests, drain_ms)) {
        log_warn("requests were cut at the end", LOG_INT("open", atomic_load(&server->n_requests)));
        connections_shutdown_all(server);
    }
    suspend_wake_all(server);
    /* A request between two waits may suspend itself once more; when all have ended, none can. */
    (void)wait_for_zero(&server->n_requests, LAST_WAIT_MS);
    if (!wait_for_zero(&server->n_suspended, LAST_WAIT_MS)) {
        /* Stopping now would abort the process and leave the rest of the shutdown undone. */
        log_error("suspended requests were never resumed; the server is left as it is",
                  LOG_INT("suspended", atomic_load(&server->n_suspended)));
        return;
    }
    MHD_stop_daemon(server->daemon);
    server->listen_fd = -1; /* the daemon has closed it */
    deadlines_stop(server);
    server_free(server);
}
