/* cmd_serve.c - `annotmixd serve`: settings, log, signals, then the service until somebody ends it.
 *
 * Signals are blocked before any thread of ours starts, so every one inherits that and only this one takes them, by
 * sigwait: no handler runs between two instructions of anything. (OpenBLAS starts threads before main; a signal that
 * comes to one of them is passed on.) SIGTERM, SIGINT and SIGHUP stop in order (host.h); while that
 * goes on they have their default meaning again, so a second one ends the process at once. The database does not mind:
 * what was answered is on disk.
 *
 * Standard output carries one line, when requests are answered; everything else goes to standard error.
 */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cmd.h"
#include "host.h"
#include "settings.h"
#include "store/store.h"
#include "util/clock.h"
#include "util/log.h"

static void stop_signals(sigset_t *set)
{
    (void)sigemptyset(set);
    (void)sigaddset(set, SIGTERM);
    (void)sigaddset(set, SIGINT);
    (void)sigaddset(set, SIGHUP);
}

static pthread_t waiting_thread;

static void pass_on(int signal_number)
{
    (void)pthread_kill(waiting_thread, signal_number); /* blocked there until sigwait takes it */
}

static void take_signals(sigset_t *set)
{
    stop_signals(set);
    waiting_thread = pthread_self();
    (void)pthread_sigmask(SIG_BLOCK, set, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGTERM, pass_on);
    (void)signal(SIGINT, pass_on);
    (void)signal(SIGHUP, pass_on);
}

static void default_again(const sigset_t *set)
{
    (void)signal(SIGTERM, SIG_DFL);
    (void)signal(SIGINT, SIG_DFL);
    (void)signal(SIGHUP, SIG_DFL);
    (void)pthread_sigmask(SIG_UNBLOCK, set, NULL);
}

/* The process keeps tokens and other people's labels: no core files, and what it makes is the owner's alone. */
static void keep_private(void)
{
    const struct rlimit none = {0, 0};
    (void)setrlimit(RLIMIT_CORE, &none); /* a limit that cannot be lowered does not exist */
#ifndef __SANITIZE_ADDRESS__             /* whose leak check looks into the process as a debugger does */
    (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0); /* no core by a pipe either, no debugger of the same user */
#endif
    (void)umask(077);
}

static void setup_log(const struct settings *settings)
{
    enum log_level level = LOG_LEVEL_INFO;
    enum log_format format = LOG_FORMAT_AUTO;
    (void)log_level_of(settings->log_level, &level); /* checked by the table of settings */
    if (strcmp(settings->log_format, "text") == 0) {
        format = LOG_FORMAT_TEXT;
    } else if (strcmp(settings->log_format, "json") == 0) {
        format = LOG_FORMAT_JSON;
    }
    log_setup(2, format, level);
}

/* "ADDRESS:PORT" with the port that was taken. */
static const char *address_of(const char *listen, int port, char out[128])
{
    const char *colon = strrchr(listen, ':');
    int n = colon != NULL ? (int)(colon - listen) : (int)strlen(listen);
    (void)snprintf(out, 128, "%.*s:%d", n, listen, port);
    return out;
}

static void tell_ready(const struct settings *settings, const struct host *host)
{
    char address[128], health[128];
    (void)address_of(settings->config.listen, host_port(host), address);
    if (settings->config.health_listen != NULL) {
        log_info("health listener",
                 LOG_TEXT("address", address_of(settings->config.health_listen, host_health_port(host), health)));
    }
    log_info("ready", LOG_TEXT("version", ANNOTMIX_VERSION), LOG_TEXT("address", address),
             LOG_TEXT("kernel", amx_kernel_name()), LOG_TEXT("blas", amx_blas_name()),
             LOG_TEXT("libmicrohttpd", http_library_version()), LOG_TEXT("sqlite", store_library_version()));
    (void)printf("annotmixd %s listening on http://%s\n", ANNOTMIX_VERSION, address);
    (void)fflush(stdout);
}

static int serve(const struct settings *settings)
{
    const struct host_options options = {
        .config = settings->config, .network = true, .admin_token_file = settings->admin_token_file};
    struct amx_error err = {0};
    struct host *host = NULL;
    sigset_t set;
    int signal_number = 0;

    take_signals(&set);
    enum amx_status status = host_start(&options, &host, &err);
    if (status != AMX_OK) {
        return cmd_end("serve", status, &err);
    }
    tell_ready(settings, host);
    while (sigwait(&set, &signal_number) != 0) {
    }
    int64_t begin_ms = clock_monotonic_ms();
    log_info("stopping", LOG_INT("signal", signal_number));
    default_again(&set);
    bool disk_failed = __atomic_load_n(&host_service(host)->failed, __ATOMIC_ACQUIRE);
    bool ended = host_stop(host);
    /* 75: the service manager starts anew and the database recovers */
    int exit_status = disk_failed ? EXIT_TEMPORARY : EXIT_OK;
    if (!ended)
        log_warn("a training or the check of the database was not waited for; the next start puts it in order");
    log_info("stopped", LOG_REAL("seconds", (double)(clock_monotonic_ms() - begin_ms) / 1000.0));
    if (!ended)
        _exit(exit_status); /* what libraries do at the end of a process must not meet a thread that runs */
    return exit_status;
}

int cmd_serve(int argc, char **argv)
{
    struct settings settings;
    struct amx_error err = {0};
    bool help = false;
    if (settings_read(argc, argv, &settings, &help, &err) != AMX_OK) {
        command_error("serve", "%s", err.text);
        return EXIT_USAGE;
    }
    if (help) {
        settings_print_help(stdout);
        settings_done(&settings);
        return EXIT_OK;
    }
    keep_private();
    setup_log(&settings);
    int exit_status = serve(&settings);
    settings_done(&settings);
    return exit_status;
}
