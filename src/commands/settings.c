/* settings.c - the table of settings and the one loop that applies it.
 *
 * A value comes as text from a flag or the environment; the kind of the row says how it is read and where it goes.
 * Sizes take K, M or G (times 1024), times s, m, h or d. A wrong value is a usage error that names where it came from: a server that starts
 * with half of what the operator meant is worse than one that does not start.
 */
#include "settings.h"

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "util/error.h"
#include "util/numbers.h"

enum kind {
    KIND_TEXT,
    KIND_CHOICE,
    KIND_COUNT, /* unsigned */
    KIND_SIZE,  /* size_t */
    KIND_TIME,  /* unsigned, seconds */
    KIND_HOST   /* repeatable */
};

struct row {
    const char *flag, *env, *value, *fallback;
    enum kind kind;
    size_t offset; /* in struct settings */
    uint64_t min, max;
    const char *choices; /* "a|b|c" */
    const char *help;
};

#define AT(field) offsetof(struct settings, field)
#define KIB UINT64_C(1024)
#define MIB (KIB * KIB)
#define GIB (MIB * KIB)
#define SECONDS_MAX 86400

static const struct row rows[] = {
    {"--db", "ANNOTMIX_DB", "FILE", "./annotmix.db", KIND_TEXT, AT(config.db_path), 0, 0, NULL,
     "SQLite file; made when it does not exist"},
    {"--listen", "ANNOTMIX_LISTEN", "ADDR:PORT", "127.0.0.1:8080", KIND_TEXT, AT(config.listen), 0, 0, NULL,
     "address of the API; port 0 takes a free one"},
    {"--health-listen", "ANNOTMIX_HEALTH_LISTEN", "ADDR:PORT", "none", KIND_TEXT, AT(config.health_listen), 0, 0, NULL,
     "separate address for /livez, /readyz and /metrics, without tokens"},
    {"--auth", "ANNOTMIX_AUTH", "MODE", "auto", KIND_CHOICE, AT(config.auth), 0, 0, "auto|token|none",
     "auto: tokens are required as soon as one exists or the address is not loopback"},
    {"--allow-host", "ANNOTMIX_ALLOW_HOST", "HOST", "none", KIND_HOST, 0, 0, 0, NULL,
     "further Host header to answer to while tokens are off; repeatable, or a list with commas"},
    {"--admin-token-file", "ANNOTMIX_ADMIN_TOKEN_FILE", "FILE", "none", KIND_TEXT, AT(admin_token_file), 0, 0, NULL,
     "file whose content is an admin token from the start"},
    {"--threads", "ANNOTMIX_THREADS", "N", "2", KIND_COUNT, AT(config.http.threads), 1, 64, NULL,
     "threads that answer requests"},
    {"--trainers", "ANNOTMIX_TRAINERS", "N", "cores", KIND_COUNT, AT(config.trainers), 1, 1024, NULL,
     "training runs at the same time"},
    {"--connections", "ANNOTMIX_CONNECTIONS", "N", "1000", KIND_COUNT, AT(config.http.connections), 1, 1000000, NULL,
     "open connections"},
    {"--connections-per-address", "ANNOTMIX_CONNECTIONS_PER_ADDRESS", "N", "0", KIND_COUNT,
     AT(config.http.connections_per_address), 0, 1000000, NULL, "of one client address; 0 = no limit"},
    {"--long-polls", "ANNOTMIX_LONG_POLLS", "N", "256", KIND_COUNT, AT(config.http.suspended), 0, 1000000, NULL,
     "long polls and event streams at the same time"},
    {"--body-bytes", "ANNOTMIX_BODY_BYTES", "SIZE", "8M", KIND_SIZE, AT(config.http.max_body_bytes), KIB, GIB, NULL,
     "largest JSON body, after gunzip"},
    {"--body-memory", "ANNOTMIX_BODY_MEMORY", "SIZE", "256M", KIND_SIZE, AT(config.http.body_memory), MIB, 1024 * GIB,
     NULL, "JSON bodies held at the same time; when it is full, those above 64K get 503"},
    {"--line-bytes", "ANNOTMIX_LINE_BYTES", "SIZE", "1M", KIND_SIZE, AT(config.line_bytes), KIB, GIB, NULL,
     "largest line of NDJSON or CSV"},
    {"--metadata-bytes", "ANNOTMIX_METADATA_BYTES", "SIZE", "64K", KIND_SIZE, AT(config.metadata_bytes), 0, GIB, NULL,
     "largest metadata of one instance"},
    {"--atomic-lines", "ANNOTMIX_ATOMIC_LINES", "N", "100000", KIND_SIZE, AT(config.atomic_lines), 1, 100000000, NULL,
     "most lines of a bulk body with ?atomic=true"},
    {"--atomic-bytes", "ANNOTMIX_ATOMIC_BYTES", "SIZE", "64M", KIND_SIZE, AT(config.atomic_bytes), KIB, 64 * GIB, NULL,
     "and its most bytes"},
    {"--header-seconds", "ANNOTMIX_HEADER_SECONDS", "N", "10", KIND_COUNT, AT(config.http.header_seconds), 1,
     SECONDS_MAX, NULL, "a request's headers must be there within"},
    {"--body-seconds", "ANNOTMIX_BODY_SECONDS", "N", "30", KIND_COUNT, AT(config.http.body_seconds), 1, SECONDS_MAX,
     NULL, "a body must be there within (longer ones: at least 16 KiB a second)"},
    {"--idle-seconds", "ANNOTMIX_IDLE_SECONDS", "N", "30", KIND_COUNT, AT(config.http.idle_seconds), 1, SECONDS_MAX,
     NULL, "an idle connection is closed after"},
    {"--send-seconds", "ANNOTMIX_SEND_SECONDS", "N", "30", KIND_COUNT, AT(config.http.send_seconds), 1, SECONDS_MAX,
     NULL, "a client that takes no byte is cut after"},
    {"--write-queue", "ANNOTMIX_WRITE_QUEUE", "N", "10000", KIND_SIZE, AT(config.write_queue), 1, 10000000, NULL,
     "writes that may wait for the disk"},
    {"--run-queue", "ANNOTMIX_RUN_QUEUE", "N", "1000", KIND_SIZE, AT(config.run_queue), 1, 1000000, NULL,
     "training runs that may wait"},
    {"--model-memory", "ANNOTMIX_MODEL_MEMORY", "SIZE", "1G", KIND_SIZE, AT(config.model_memory_bytes), MIB, 1024 * GIB,
     NULL, "models kept in memory"},
    {"--run-memory", "ANNOTMIX_RUN_MEMORY", "SIZE", "75 % of RAM", KIND_SIZE, AT(config.run_memory_bytes), MIB,
     1024 * GIB, NULL, "a training run that needs more is refused"},
    {"--rate-per-address", "ANNOTMIX_RATE_PER_ADDRESS", "N", "0", KIND_COUNT, AT(config.rate_per_address), 0, 1000000,
     NULL, "requests a second of one client address, ten seconds' worth at once; 0 = no limit"},
    {"--rate-per-token", "ANNOTMIX_RATE_PER_TOKEN", "N", "0", KIND_COUNT, AT(config.rate_per_token), 0, 1000000, NULL,
     "requests a second with one token, likewise"},
    {"--backup-dir", "ANNOTMIX_BACKUP_DIR", "FOLDER", "none", KIND_TEXT, AT(config.backup_folder), 0, 0, NULL,
     "folder for the server's own backups; none: it makes none"},
    {"--backup-every", "ANNOTMIX_BACKUP_EVERY", "TIME", "1h", KIND_TIME, AT(config.backup_every_seconds), 1,
     366 * SECONDS_MAX, NULL, "time from one backup to the next"},
    {"--backup-keep", "ANNOTMIX_BACKUP_KEEP", "N", "48", KIND_COUNT, AT(config.backup_keep), 1, 1000000, NULL,
     "backups that are kept; older ones are deleted"},
    {"--disk-reserve", "ANNOTMIX_DISK_RESERVE", "SIZE", "256M", KIND_SIZE, AT(config.disk_reserve_bytes), 0, 1024 * GIB,
     NULL, "with less free disk new instances are refused, so that labels go on"},
    {"--check", "ANNOTMIX_CHECK", "MODE", "auto", KIND_CHOICE, AT(config.check), 0, 0, "auto|full",
     "full: check the database before ready; auto: beside, when the last process did not stop in order"},
    {"--log-level", "ANNOTMIX_LOG_LEVEL", "LEVEL", "info", KIND_CHOICE, AT(log_level), 0, 0, "debug|info|warn|error",
     "least level that is logged"},
    {"--log-format", "ANNOTMIX_LOG_FORMAT", "FORMAT", "auto", KIND_CHOICE, AT(log_format), 0, 0, "auto|text|json",
     "auto: text on a terminal, else one JSON object a line"},
};
enum { N_ROWS = sizeof rows / sizeof rows[0] };

static size_t physical_memory(void)
{
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    return pages > 0 && page > 0 ? (size_t)pages * (size_t)page : (size_t)GIB;
}

void settings_default(struct settings *out)
{
    static const char *const no_hosts[] = {NULL};
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    memset(out, 0, sizeof *out);
    struct service_config *c = &out->config;
    http_limits_default(&c->http);
    c->db_path = "./annotmix.db";
    c->listen = "127.0.0.1:8080";
    c->auth = "auto";
    c->allow_hosts = no_hosts;
    c->trainers = cores > 0 && cores < 1024 ? (unsigned)cores : 1;
    c->write_queue = 10000;
    c->run_queue = 1000;
    c->model_memory_bytes = GIB;
    c->run_memory_bytes = physical_memory() / 4 * 3;
    c->disk_reserve_bytes = 256 * MIB;
    c->check = "auto";
    c->atomic_lines = 100000;
    c->atomic_bytes = 64 * MIB;
    c->line_bytes = MIB;
    c->metadata_bytes = 64 * KIB;
    c->backup_every_seconds = 3600;
    c->backup_keep = 48;
    out->log_level = "info";
    out->log_format = "auto";
}

static bool one_of(const char *choices, const char *text)
{
    size_t n = strlen(text);
    for (const char *c = choices; c != NULL; c = strchr(c, '|') != NULL ? strchr(c, '|') + 1 : NULL) {
        size_t length = strcspn(c, "|");
        if (length == n && memcmp(c, text, n) == 0) {
            return true;
        }
    }
    return false;
}

static bool read_number(const struct row *row, const char *text, uint64_t *out)
{
    size_t n = strlen(text);
    uint64_t unit = 1;
    if (n > 1 && row->kind == KIND_TIME) {
        char last = text[n - 1];
        unit = last == 'd' ? 86400 : last == 'h' ? 3600 : last == 'm' ? 60 : 1;
        n -= unit != 1 || last == 's';
    } else if (n > 1 && strcmp(row->value, "SIZE") == 0) {
        char last = text[n - 1];
        unit = last == 'K' || last == 'k'   ? KIB
               : last == 'M' || last == 'm' ? MIB
               : last == 'G' || last == 'g' ? GIB
                                            : 1;
        n -= unit != 1;
    }
    uint64_t value;
    return number_uint(text, n, &value) && !__builtin_mul_overflow(value, unit, out) && *out >= row->min &&
           *out <= row->max;
}

/* Ends in ":" and a port; the address itself is for the resolver to judge. */
static bool has_port(const char *text)
{
    const char *colon = strrchr(text, ':');
    uint64_t port;
    return colon != NULL && number_uint(colon + 1, strlen(colon + 1), &port) && port <= 65535;
}

static enum amx_status add_host(struct settings *s, const char *host, struct amx_error *err)
{
    for (size_t i = 0; i < SETTINGS_MAX_HOSTS; i++) {
        if (s->allow_hosts[i] == NULL) {
            s->allow_hosts[i] = host;
            return AMX_OK;
        }
    }
    return error_set(err, AMX_INVALID, "more than %d hosts are allowed by --allow-host.", SETTINGS_MAX_HOSTS);
}

/* "a,b,c" of the environment; the copy lives in s->hosts_text. */
static enum amx_status add_hosts(struct settings *s, const char *list, struct amx_error *err)
{
    s->hosts_text = strdup(list);
    if (s->hosts_text == NULL) {
        return error_set(err, AMX_NO_MEMORY, "out of memory");
    }
    char *rest = s->hosts_text, *host;
    while ((host = strsep(&rest, ",")) != NULL) {
        enum amx_status status = host[0] == '\0' ? AMX_OK : add_host(s, host, err);
        if (status != AMX_OK) {
            return status;
        }
    }
    return AMX_OK;
}

static enum amx_status apply(struct settings *s, const struct row *row, const char *from, const char *text,
                             struct amx_error *err)
{
    char *field = (char *)s + row->offset;
    uint64_t number = 0;
    switch (row->kind) {
    case KIND_CHOICE:
        if (!one_of(row->choices, text)) {
            return error_set(err, AMX_INVALID, "%s must be one of %s.", from, row->choices);
        }
        memcpy(field, &text, sizeof text);
        return AMX_OK;
    case KIND_TEXT:
        if (text[0] == '\0') {
            return error_set(err, AMX_INVALID, "%s is empty; it takes %s.", from, row->value);
        }
        if (strcmp(row->value, "ADDR:PORT") == 0 && strcmp(text, row->fallback) != 0 && !has_port(text)) {
            return error_set(err, AMX_INVALID, "%s must be an address and a port: 127.0.0.1:8080 or [::1]:8080.", from);
        }
        memcpy(field, &text, sizeof text);
        return AMX_OK;
    case KIND_HOST:
        return from[0] == '-' ? add_host(s, text, err) : add_hosts(s, text, err);
    case KIND_COUNT:
    case KIND_SIZE:
    case KIND_TIME:
        break;
    }
    if (!read_number(row, text, &number)) {
        return error_set(err, AMX_INVALID, "%s must be a whole number from %llu to %llu%s.", from,
                         (unsigned long long)row->min, (unsigned long long)row->max,
                         strcmp(row->value, "SIZE") == 0 ? " bytes; K, M and G may follow it"
                         : row->kind == KIND_TIME        ? " seconds; s, m, h and d may follow it"
                                                         : "");
    }
    if (row->kind != KIND_SIZE) {
        unsigned value = (unsigned)number;
        memcpy(field, &value, sizeof value);
    } else {
        size_t value = (size_t)number;
        memcpy(field, &value, sizeof value);
    }
    return AMX_OK;
}

static enum amx_status read_environment(struct settings *s, struct amx_error *err)
{
    for (size_t i = 0; i < N_ROWS; i++) {
        const char *text = getenv(rows[i].env);
        enum amx_status status = text == NULL || text[0] == '\0' ? AMX_OK : apply(s, &rows[i], rows[i].env, text, err);
        if (status != AMX_OK) {
            return status;
        }
    }
    return AMX_OK;
}

/* One flag at argv[*i], with its value. */
static enum amx_status read_flag(struct settings *s, int argc, char **argv, int *i, struct amx_error *err)
{
    const char *word = argv[*i];
    size_t n = strcspn(word, "=");
    for (size_t r = 0; r < N_ROWS; r++) {
        const struct row *row = &rows[r];
        if (strlen(row->flag) != n || memcmp(row->flag, word, n) != 0) {
            continue;
        }
        const char *text = word[n] == '=' ? word + n + 1 : NULL;
        if (text == NULL && *i + 1 >= argc) {
            return error_set(err, AMX_INVALID, "%s needs a value: %s.", row->flag, row->value);
        }
        return apply(s, row, row->flag, text != NULL ? text : argv[++*i], err);
    }
    return error_set(err, AMX_INVALID, "\"%.60s\" is no option of serve; see annotmixd serve --help.", word);
}

enum amx_status settings_read(int argc, char **argv, struct settings *out, bool *help, struct amx_error *err)
{
    settings_default(out);
    *help = false;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            *help = true;
            return AMX_OK;
        }
    }
    enum amx_status status = read_environment(out, err);
    for (int i = 1; status == AMX_OK && i < argc; i++) {
        status = read_flag(out, argc, argv, &i, err);
    }
    if (status != AMX_OK) {
        settings_done(out);
        return status;
    }
    if (out->config.health_listen != NULL && strcmp(out->config.health_listen, "none") == 0) {
        out->config.health_listen = NULL;
    }
    if (out->config.backup_folder != NULL && strcmp(out->config.backup_folder, "none") == 0) {
        out->config.backup_folder = NULL;
    }
    out->config.allow_hosts = out->allow_hosts;
    return AMX_OK;
}

void settings_done(struct settings *settings)
{
    free(settings->hosts_text);
    settings->hosts_text = NULL;
}

void settings_print_help(FILE *out)
{
    (void)fprintf(
        out, "Usage: annotmixd serve [OPTION VALUE]...\n"
             "Serves the HTTP API. When ready it prints one line on standard output; it logs to standard error.\n"
             "Flags come before the environment, the environment before the defaults. SIZE is in bytes; K, M, G are\n"
             "KiB, MiB, GiB. TIME is in seconds; m, h, d are minutes, hours, days.\n\n");
    for (size_t i = 0; i < N_ROWS; i++) {
        const struct row *row = &rows[i];
        char left[48];
        (void)snprintf(left, sizeof left, "%s %s", row->flag, row->value);
        (void)fprintf(out, "  %-33s %s\n", left, row->help);
        (void)fprintf(out, "  %-33s default %s", "", row->fallback);
        if (row->choices != NULL) {
            (void)fprintf(out, "; one of %s", row->choices);
        } else if (row->kind != KIND_TEXT && row->kind != KIND_HOST) {
            (void)fprintf(out, "; %llu to %llu", (unsigned long long)row->min, (unsigned long long)row->max);
        }
        (void)fprintf(out, "; environment %s\n", row->env);
    }
}
