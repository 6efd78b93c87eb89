/* cmd.h - the subcommands. Each takes what follows its name (argv[0] is the name) and returns the exit status:
 * 0 ok, 1 failure, 2 usage, 75 temporary (sysexits: a server is starting, the disk is full, try again). */
#ifndef COMMANDS_CMD_H
#define COMMANDS_CMD_H

#include "annotmix.h"
#include "options.h"

enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_TEMPORARY = 75 };

int cmd_serve(int argc, char **argv);
int cmd_fit(int argc, char **argv);
int cmd_aggregate(int argc, char **argv);
int cmd_faceoff(int argc, char **argv);
int cmd_simulate(int argc, char **argv);
int cmd_import(int argc, char **argv);
int cmd_export(int argc, char **argv);
int cmd_backup(int argc, char **argv);
int cmd_migrate(int argc, char **argv);
int cmd_token(int argc, char **argv);
int cmd_health(int argc, char **argv);
int cmd_version(int argc, char **argv);

/* Exit status for a call that ended with `status`; prints err's sentence on standard error when it is not AMX_OK. */
int cmd_end(const char *command, enum amx_status status, const struct amx_error *err);
/* --db FILE when given, else ANNOTMIX_DB, else annotmix.db; never NULL. */
const char *cmd_db_path(const char *given);

#endif
