/* cmd_migrate.c - `annotmixd migrate`: brings a database file to this version without serving. Opening the store is what
 * migrates; when a server already holds the file it has done so, and says which version it is at. */
#include <stdio.h>

#include "client.h"
#include "cmd.h"

int cmd_migrate(int argc, char **argv)
{
    const char *db = NULL;
    const struct option table[] = {{"--db", "FILE", "database (default annotmix.db)", &db, NULL}, {0}};
    size_t n_words = 0;
    int exit_status;
    struct client *client = NULL;
    struct amx_error err = {0};
    enum amx_status status;

    if (!options_parse(argc, argv, table, "[--db FILE]", 0, 0, NULL, &n_words, &exit_status))
        return exit_status;
    status = client_open(cmd_db_path(db), &client, &err);
    if (status == AMX_OK) {
        printf("%s is at the version of annotmixd %s\n", cmd_db_path(db), amx_version());
        client_close(client);
    }
    return cmd_end("migrate", status, &err);
}
