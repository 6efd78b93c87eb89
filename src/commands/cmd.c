/* cmd.c - what the subcommands share besides options.h. */
#include "cmd.h"

#include <stdlib.h>

const char *cmd_db_path(const char *given)
{
    const char *from_environment = getenv("ANNOTMIX_DB");

    if (given != NULL)
        return given;
    return from_environment != NULL && from_environment[0] != '\0' ? from_environment : "annotmix.db";
}

int cmd_end(const char *command, enum amx_status status, const struct amx_error *err)
{
    if (status != AMX_OK)
        command_error(command, "%s", err->text[0] != '\0' ? err->text : amx_status_text(status));
    return command_status(status);
}
