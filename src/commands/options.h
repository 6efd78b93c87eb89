/* options.h - command line of the small subcommands: "--name VALUE", "--name=VALUE", "--flag", and positional words.
 * (serve has its own table, settings.h, because the environment and the README take part there.) */
#ifndef COMMANDS_OPTIONS_H
#define COMMANDS_OPTIONS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

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
/* Takes an option that may come several times out of argv before options_parse sees the rest: every "name VALUE" and
 * "name=VALUE". values[0..max) get the values in order, *n_values their number, rest[0..argc] the other words and a
 * NULL; all are borrowed from argv, the arrays are the caller's. A name without a value stays among the rest, where
 * options_parse complains. Returns the new argc, or -1 after saying (for command argv[0]) that there are more than
 * max; the arrays are then of no use and *n_values is untouched. */
int options_take_repeated(int argc, char **argv, const char *name, size_t max, char **rest, const char **values,
                          size_t *n_values);
/* The integer that `option` of `command` got as text; NULL, the option was not there, leaves *out as it is. False after
 * a message when it is no integer (number_int) from min to max; *out is untouched then too. */
bool options_number(const char *command, const char *option, const char *text, int64_t min, int64_t max, int64_t *out);
/* "a,b" -> ["a","b"]; "" -> [], a comma at the end adds nothing. The caller's (json_decref). NULL when memory is out or
 * an item is not UTF-8; says nothing itself. */
json_t *options_list(const char *text);
/* "annotmixd NAME: text" on standard error. */
void command_error(const char *command, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Exit status of a failure: AMX_OK 0; AMX_BUSY and AMX_FULL 75; everything else 1. */
int command_status(enum amx_status status);

#endif
