/* options.h - command line of the small subcommands: "--name VALUE", "--name=VALUE", "--flag", and positional words.
 * (serve has its own table, settings.h, because the environment and the README take part there.) */
#ifndef OPTIONS_H
#define OPTIONS_H

#include <stdbool.h>
#include <stddef.h>

#include "annotmix.h"

struct option {
    const char *name;  /* "--db"; NULL ends the table */
    const char *value; /* "FILE": name of the value in the help; NULL: a flag without value */
    const char *help;
    const char **text; /* where the value goes (the last one wins); borrowed from argv */
    bool *flag;        /* for flags */
};

/* The usual start of a subcommand: parses argv[1..]; words[0..] get the positional words, *n_words their number.
 * "--help" prints usage and returns false with *exit_status = 0; a wrong line says what is wrong and returns false
 * with 2. */
bool options_parse(int argc, char **argv, const struct option *table, const char *usage, size_t min_words,
                   size_t max_words, const char **words, size_t *n_words, int *exit_status);
/* "annotmixd NAME: text" on standard error. */
void command_error(const char *command, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Exit status of a failure: AMX_OK 0; AMX_BUSY and AMX_FULL 75; everything else 1. */
int command_status(enum amx_status status);

#endif
