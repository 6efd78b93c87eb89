/* options.c - see options.h. Own code instead of getopt_long because the table is also the help, and a help text that
 * is made from the table cannot disagree with it. */
#include "options.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "cmd.h"

void command_error(const char *command, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    (void)fprintf(stderr, "annotmixd %s: ", command);
    (void)vfprintf(stderr, format, args);
    (void)fputc('\n', stderr);
    va_end(args);
}

int command_status(enum amx_status status)
{
    return status == AMX_OK ? EXIT_OK : status == AMX_BUSY ? EXIT_TEMPORARY : EXIT_FAILED;
}

static void print_help(const char *command, const struct option *table, const char *usage)
{
    (void)printf("Usage: annotmixd %s %s\n", command, usage);
    for (const struct option *o = table; o->name != NULL; o++) {
        char left[40];
        (void)snprintf(left, sizeof left, "%s%s%s", o->name, o->value != NULL ? " " : "",
                       o->value != NULL ? o->value : "");
        (void)printf("  %-26s %s\n", left, o->help);
    }
}

static const struct option *find(const struct option *table, const char *word, size_t n)
{
    for (const struct option *o = table; o->name != NULL; o++) {
        if (strlen(o->name) == n && memcmp(o->name, word, n) == 0) {
            return o;
        }
    }
    return NULL;
}

/* One word that starts with "--"; *i moves on when the value is the next word. NULL, or what is wrong with it. */
static const char *take_option(int argc, char **argv, int *i, const struct option *table)
{
    const char *word = argv[*i];
    const char *equals = strchr(word, '=');
    const struct option *o = find(table, word, equals != NULL ? (size_t)(equals - word) : strlen(word));
    if (o == NULL) {
        return "is no option of this command";
    }
    if (o->value == NULL) {
        if (equals != NULL) {
            return "takes no value";
        }
        *o->flag = true;
        return NULL;
    }
    if (equals != NULL) {
        *o->text = equals + 1;
        return NULL;
    }
    if (*i + 1 >= argc) {
        return "needs a value";
    }
    *o->text = argv[++*i];
    return NULL;
}

bool options_parse(int argc, char **argv, const struct option *table, const char *usage, size_t min_words,
                   size_t max_words, const char **words, size_t *n_words, int *status)
{
    size_t n = 0;
    bool only_words = false;
    for (int i = 1; i < argc; i++) {
        const char *word = argv[i];
        if (!only_words && (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0)) {
            print_help(argv[0], table, usage);
            *status = EXIT_OK;
            return false;
        }
        if (!only_words && strcmp(word, "--") == 0) {
            only_words = true;
            continue;
        }
        if (!only_words && word[0] == '-' && word[1] != '\0') {
            const char *wrong = take_option(argc, argv, &i, table);
            if (wrong != NULL) {
                command_error(argv[0], "%s %s; see annotmixd %s --help", word, wrong, argv[0]);
                *status = EXIT_USAGE;
                return false;
            }
            continue;
        }
        if (n == max_words) {
            command_error(argv[0], "unexpected \"%s\"; usage: annotmixd %s %s", word, argv[0], usage);
            *status = EXIT_USAGE;
            return false;
        }
        words[n++] = word;
    }
    if (n < min_words) {
        command_error(argv[0], "usage: annotmixd %s %s", argv[0], usage);
        *status = EXIT_USAGE;
        return false;
    }
    *n_words = n;
    return true;
}
