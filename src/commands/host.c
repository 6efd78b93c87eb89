/* host.c - start and stop of the whole service, in one order.
 *
 * Start: store, writer, catalog, snapshots, trainers (service_start), tokens, backups, then the listeners; ready last.
 * Stop: not ready; no new connections, long polls and streams resumed; trainers at their next batch, runs back to
 * queued; open requests answered (the writer still lives, for those that wait for the disk); then the writer with a
 * checkpoint, and the rest. Requests still open after DRAIN_MS are cut, so that all of it stays under 10 s. */
#include "host.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "endpoints/auth.h"
#include "endpoints/routes.h"
#include "util/buf.h"
#include "util/error.h"
#include "util/log.h"
#include "util/numbers.h"

enum { DRAIN_MS = 7000, FIRST_INHERITED_FD = 3 };

struct host {
    struct service *service;
    struct http_app app, health_app;
    struct http_server *socket_server, *server, *health_server; /* NULL when not wanted */
    bool tokens_loaded;
};

/* The listening socket that systemd passed to this process (sd_listen_fds(3)), or -1. */
static int inherited_socket(void)
{
    const char *pid = getenv("LISTEN_PID"), *fds = getenv("LISTEN_FDS");
    int64_t for_pid = 0, n_fds = 0;

    if (pid == NULL || fds == NULL || !number_int(pid, strlen(pid), &for_pid) || !number_int(fds, strlen(fds), &n_fds))
        return -1;
    return for_pid == (int64_t)getpid() && n_fds >= 1 ? FIRST_INHERITED_FD : -1;
}

static enum amx_status start_listeners(struct host *host, const struct host_options *options, struct amx_error *err)
{
    const struct service_config *config = &options->config;
    struct http_listen on_socket = {.inherited_fd = -1}, on_network = {.address = config->listen, .inherited_fd = -1};
    struct http_listen on_health = {.address = config->health_listen, .inherited_fd = -1};
    AUTO(buf) path = BUF_INIT(4096);
    enum amx_status status;

    if (!routes_app(host->service, &host->app) || buf_printf(&path, "%s.sock", config->db_path) != AMX_OK)
        return error_set(err, AMX_NO_MEMORY, "out of memory");
    on_socket.unix_path = buf_string(&path);
    status = http_server_start(&on_socket, &config->http, &host->app, &host->socket_server, err);
    if (status != AMX_OK || !options->network)
        return status;
    on_network.inherited_fd = inherited_socket();
    status = http_server_start(&on_network, &config->http, &host->app, &host->server, err);
    if (status != AMX_OK || config->health_listen == NULL)
        return status;
    routes_health_app(host->service, &host->health_app);
    return http_server_start(&on_health, &config->http, &host->health_app, &host->health_server, err);
}

/* A message about the file begins with its name, whoever worded it. */
static void name_file(const char *path, struct amx_error *err)
{
    char text[sizeof err->text];

    if (err == NULL || strstr(err->text, path) != NULL)
        return;
    (void)snprintf(text, sizeof text, "%s", err->text);
    (void)error_set(err, err->code, "%s: %s", path, text);
}

enum amx_status host_start(const struct host_options *options, struct host **out, struct amx_error *err)
{
    struct host *host = calloc(1, sizeof *host);
    enum amx_status status;

    if (host == NULL)
        return error_set(err, AMX_NO_MEMORY, "out of memory");
    status = service_start(&options->config, &host->service, err);
    if (status == AMX_CORRUPT)
        name_file(options->config.db_path, err);
    if (status == AMX_OK && options->network) {
        status = auth_start(host->service, options->admin_token_file, err);
        host->tokens_loaded = status == AMX_OK;
    }
    if (status == AMX_OK && options->network)
        status = service_start_backups(host->service, err);
    if (status == AMX_OK)
        status = start_listeners(host, options, err);
    if (status != AMX_OK) {
        (void)host_stop(host); /* the process ends */
        return status;
    }
    __atomic_store_n(&host->service->ready, true, __ATOMIC_RELEASE);
    *out = host;
    return AMX_OK;
}

int host_port(const struct host *host)
{
    return host->server != NULL ? http_server_port(host->server) : 0;
}

int host_health_port(const struct host *host)
{
    return host->health_server != NULL ? http_server_port(host->health_server) : 0;
}

struct service *host_service(struct host *host)
{
    return host->service;
}

bool host_stop(struct host *host)
{
    struct http_server *servers[3];

    if (host == NULL)
        return true;
    servers[0] = host->server;
    servers[1] = host->socket_server;
    servers[2] = host->health_server;
    if (host->service != NULL)
        __atomic_store_n(&host->service->ready, false, __ATOMIC_RELEASE);
    for (int i = 0; i < 3; i++) {
        if (servers[i] != NULL)
            http_server_quiesce(servers[i]);
    }
    if (host->service != NULL)
        service_stop_trainers(host->service);
    for (int i = 0; i < 3; i++) {
        if (servers[i] != NULL)
            http_server_stop(servers[i], DRAIN_MS);
    }
    if (host->tokens_loaded)
        auth_stop();
    bool ended = service_stop(host->service);
    free(host);
    return ended;
}
