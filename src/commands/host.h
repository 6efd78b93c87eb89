/* host.h - the whole service with its listeners: what `serve` runs, and what the writing commands start for themselves
 * when no server answers on FILE.sock (client.c). One start order, one stop order (design notes in host.c). */
#ifndef COMMANDS_HOST_H
#define COMMANDS_HOST_H

#include <stdbool.h>

#include "annotmix.h"
#include "work/service.h"

struct host;

struct host_options {
    struct service_config config;
    bool network;                 /* false: only the Unix socket FILE.sock */
    const char *admin_token_file; /* ANNOTMIX_ADMIN_TOKEN_FILE; NULL = none */
};

/* Opens the database (AMX_BUSY when another server holds it), starts writer, trainers and listeners, makes ready. */
AMX_CHECK enum amx_status host_start(const struct host_options *options, struct host **out, struct amx_error *err);
int host_port(const struct host *host);        /* of the main listener; 0 without network */
int host_health_port(const struct host *host); /* of the health listener; 0 without one */
struct service *host_service(struct host *host);
/* Refuses new work, answers what is open, puts running trainings back into the queue, checkpoints, frees; under 10 s.
 * False: something long was not waited for (service_stop); everything is written, leave by _exit. */
bool host_stop(struct host *host);

#endif
