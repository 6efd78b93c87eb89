/* cmd_health.c - `annotmixd health`: exit 0 when the server of this database answers and is ready, else 1. Made for container
 * health checks, where curl is not at hand. Starts nothing. */
#include <stdio.h>

#include "client.h"
#include "cmd.h"
#include "util/error.h"

int cmd_health(int argc, char **argv)
{
    const char *db = NULL;
    const struct option table[] = {{"--db", "FILE", "database of the server (default annotmix.db)", &db, NULL}, {0}};
    size_t n_words = 0;
    int exit_status;
    struct client *client = NULL;
    struct client_answer answer;
    struct amx_error err = {0};
    enum amx_status status;

    if (!options_parse(argc, argv, table, "[--db FILE]", 0, 0, NULL, &n_words, &exit_status))
        return exit_status;
    status = client_connect(cmd_db_path(db), &client, &err);
    if (status == AMX_OK)
        status = client_call(client, "GET", "/readyz", NULL, &answer, &err);
    if (status == AMX_OK) {
        if (answer.status != 200)
            status = error_set(&err, AMX_CONFLICT, "the server answers, but is not ready");
        buf_done(&answer.body);
    }
    client_close(client);
    (void)cmd_end("health", status, &err);
    return status == AMX_OK ? EXIT_OK : EXIT_FAILED;
}
