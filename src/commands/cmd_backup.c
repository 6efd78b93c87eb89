/* cmd_backup.c - `annotmixd backup FILE`: a copy of the database as it is now, also while a server writes to it. Reads only, and
 * never checkpoints; the copy appears under its name when it is whole and on disk. To restore: stop the server, put the copy in
 * the place of the database (and remove its -wal and -shm), start. */
#include <stdio.h>
#include <sys/resource.h>

#include "cmd.h"
#include "store/store.h"

enum {
    NICENESS = 10
};

int cmd_backup(int argc, char **argv)
{
    const char *db = NULL, *to = NULL;
    const struct option table[] = {{"--db", "FILE", "database (default annotmix.db)", &db, NULL}, {0}};
    size_t n_words = 0;
    int exit_status;
    struct store *store = NULL;
    struct amx_error err = {0};
    enum amx_status status;

    if (!options_parse(argc, argv, table, "FILE [--db FILE]", 1, 1, &to, &n_words, &exit_status))
        return exit_status;
    (void)setpriority(PRIO_PROCESS, 0, NICENESS); /* the server's requests come first; refused: then as they are */
    status = store_open_readonly(cmd_db_path(db), &store, &err);
    if (status == AMX_OK)
        status = store_backup(store, to, &err);
    store_close(store);
    if (status == AMX_OK)
        printf("%s is a copy of %s\n", to, cmd_db_path(db));
    return cmd_end("backup", status, &err);
}
