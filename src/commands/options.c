/* options.c - see options.h. */
#include "options.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "cmd.h"
#include "util/numbers.h"

void command_error(const char *command, const char *format, ...)
{
    va_list arguments;

    (void)fprintf(stderr, "annotmixd %s: ", command);
    va_start(arguments, format);
    (void)vfprintf(stderr, format, arguments);
    va_end(arguments);
    (void)fputc('\n', stderr);
}

int command_status(enum amx_status status)
{
    if (status == AMX_OK)
        return EXIT_OK;
    return status == AMX_BUSY || status == AMX_FULL ? EXIT_TEMPORARY : EXIT_FAILED;
}

static void print_help(const char *command, const struct option *table, const char *usage)
{
    printf("Usage: annotmixd %s %s\n", command, usage);
    if (table[0].name != NULL)
        putchar('\n');
    for (const struct option *o = table; o->name != NULL; o++) {
        char left[48];

        (void)snprintf(left, sizeof left, "%s%s%s", o->name, o->value != NULL ? " " : "",
                       o->value != NULL ? o->value : "");
        printf("  %-22s %s\n", left, o->help);
    }
}

/* The row that `word` names, "--name" or "--name=VALUE"; *value then points behind the '='. */
static const struct option *find(const struct option *table, const char *word, const char **value)
{
    size_t n = strcspn(word, "=");

    *value = word[n] == '=' ? word + n + 1 : NULL;
    for (const struct option *o = table; o->name != NULL; o++) {
        if (strlen(o->name) == n && memcmp(o->name, word, n) == 0)
            return o;
    }
    return NULL;
}

/* Takes one option at argv[*i]; NULL, or what is wrong with it. */
static const char *take_option(int argc, char **argv, const struct option *table, int *i)
{
    const char *value;
    const struct option *o = find(table, argv[*i], &value);

    if (o == NULL)
        return "is no option";
    if (o->value == NULL) {
        if (value != NULL)
            return "takes no value";
        *o->flag = true;
        return NULL;
    }
    if (value == NULL && *i + 1 >= argc)
        return "needs a value";
    *o->text = value != NULL ? value : argv[++*i];
    return NULL;
}

bool options_parse(int argc, char **argv, const struct option *table, const char *usage, size_t min_words,
                   size_t max_words, const char **words, size_t *n_words, int *exit_status)
{
    size_t n = 0;
    bool only_words = false; /* after "--" */

    *exit_status = EXIT_USAGE;
    for (int i = 1; i < argc; i++) {
        const char *word = argv[i], *wrong;

        if (!only_words && (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0)) {
            print_help(argv[0], table, usage);
            *exit_status = EXIT_OK;
            return false;
        }
        if (!only_words && strcmp(word, "--") == 0) {
            only_words = true;
        } else if (!only_words && word[0] == '-' && word[1] != '\0') {
            wrong = take_option(argc, argv, table, &i);
            if (wrong != NULL) {
                command_error(argv[0], "%s %s; see annotmixd %s --help", word, wrong, argv[0]);
                return false;
            }
        } else if (n == max_words) {
            command_error(argv[0], "unexpected \"%s\"; usage: annotmixd %s %s", word, argv[0], usage);
            return false;
        } else {
            words[n++] = word;
        }
    }
    if (n < min_words) {
        command_error(argv[0], "usage: annotmixd %s %s", argv[0], usage);
        return false;
    }
    *n_words = n;
    return true;
}

int options_take_repeated(int argc, char **argv, const char *name, size_t max, char **rest, const char **values,
                          size_t *n_values)
{
    const size_t length = strlen(name);
    size_t taken = 0;
    int n = 0;

    for (int i = 0; i < argc; i++) {
        const bool names_it = strncmp(argv[i], name, length) == 0;
        const bool joined = names_it && argv[i][length] == '=';

        if (!joined && !(names_it && argv[i][length] == '\0' && i + 1 < argc)) {
            rest[n++] = argv[i];
            continue;
        }
        if (taken == max) {
            command_error(argv[0], "more than %zu %s", max, name);
            return -1;
        }
        values[taken++] = joined ? argv[i] + length + 1 : argv[++i];
    }
    rest[n] = NULL;
    *n_values = taken;
    return n;
}

bool options_number(const char *command, const char *option, const char *text, int64_t min, int64_t max, int64_t *out)
{
    int64_t number;

    if (text == NULL)
        return true;
    if (number_int(text, strlen(text), &number) && number >= min && number <= max) {
        *out = number;
        return true;
    }
    command_error(command, "%s must be an integer from %lld to %lld", option, (long long)min, (long long)max);
    return false;
}

json_t *options_list(const char *text)
{
    json_t *list = json_array();

    while (list != NULL && *text != '\0') {
        size_t n = strcspn(text, ",");

        if (json_array_append_new(list, json_stringn(text, n)) != 0) {
            json_decref(list);
            return NULL;
        }
        text += text[n] == ',' ? n + 1 : n;
    }
    return list;
}
