/* cmd.c - what the subcommands share: exit status, usage errors, the database's default path. */
#include "cmd.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

int cmd_end(const char *command, enum amx_status status, const struct amx_error *err)
{
    if (status == AMX_OK)
        return EXIT_OK;
    fprintf(stderr, "annotmixd %s: %s\n", command,
            err != NULL && err->text[0] != '\0' ? err->text : amx_status_text(status));
    return status == AMX_BUSY || status == AMX_FULL ? EXIT_TEMPORARY : EXIT_FAILED;
}

int cmd_usage(const char *command, const char *format, ...)
{
    va_list arguments;

    fprintf(stderr, "annotmixd %s: ", command);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fprintf(stderr, "\nTry 'annotmixd %s --help'.\n", command);
    return EXIT_USAGE;
}

const char *cmd_db_path(const char *given)
{
    const char *from_environment = getenv("ANNOTMIX_DB");

    if (given != NULL)
        return given;
    return from_environment != NULL && from_environment[0] != '\0' ? from_environment : "annotmix.db";
}
