/* settings.h - everything `annotmixd serve` can be told, in one table: flag, environment variable, type, default,
 * range, help. Flags come before the environment, the environment before the defaults. `serve --help` and the README's
 * table are checked against this table. */
#ifndef COMMANDS_SETTINGS_H
#define COMMANDS_SETTINGS_H

#include <stdbool.h>
#include <stdio.h>

#include "annotmix.h"
#include "util/log.h"
#include "work/service.h"

enum { SETTINGS_MAX_HOSTS = 64 };

struct settings {
    struct service_config config; /* strings are borrowed from argv and the environment */
    const char *admin_token_file; /* NULL: none */
    const char *log_level, *log_format;
    const char *allow_hosts[SETTINGS_MAX_HOSTS + 1];
    char *hosts_text; /* storage of allow_hosts that came as a list in the environment */
};

/* The defaults of this machine (cores, memory). */
void settings_default(struct settings *out);
/* Environment, then argv[1..]. AMX_INVALID with a sentence. *help is set when --help was asked for. settings_done
 * frees. */
AMX_CHECK enum amx_status settings_read(int argc, char **argv, struct settings *out, bool *help, struct amx_error *err);
void settings_done(struct settings *settings);
void settings_print_help(FILE *out);

#endif
