/* main.c - annotmixd: one program, several subcommands, one table.
 *
 * The subcommands are thin: they read their words and call the rooms. Exit status: 0 done, 1 failed, 2 the command line
 * is wrong, 75 something that a later try may cure (the database is in use, the server is busy).
 */
#include <stdio.h>
#include <string.h>

#include "commands/cmd.h"

struct command {
    const char *name, *summary;
    int (*run)(int argc, char **argv);
};

static const struct command commands[] = {
    {"serve", "run the HTTP server", cmd_serve},
    {"import", "send a data folder to a project", cmd_import},
    {"export", "write a project to a data folder", cmd_export},
    {"fit", "train on a data folder and print how good the result is", cmd_fit},
    {"aggregate", "true classes from labels alone, by any label-only method", cmd_aggregate},
    {"faceoff", "compare every method on a data folder", cmd_faceoff},
    {"simulate", "make labels of simulated annotators, or add attackers", cmd_simulate},
    {"token", "create, list and revoke tokens", cmd_token},
    {"backup", "copy the database while it is in use", cmd_backup},
    {"migrate", "bring a database file to this version", cmd_migrate},
    {"health", "exit 0 when a server answers and is ready", cmd_health},
    {"version", "print the version", cmd_version},
};
enum { N_COMMANDS = sizeof commands / sizeof commands[0] };

static void print_usage(FILE *out)
{
    (void)fprintf(out, "Usage: annotmixd COMMAND [...]     (annotmixd COMMAND --help says more)\n\n");
    for (size_t i = 0; i < N_COMMANDS; i++) {
        (void)fprintf(out, "  %-10s %s\n", commands[i].name, commands[i].summary);
    }
}

static const struct command *find(const char *name)
{
    for (size_t i = 0; i < N_COMMANDS; i++) {
        if (strcmp(commands[i].name, name) == 0) {
            return &commands[i];
        }
    }
    return NULL;
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        print_usage(stderr);
        return EXIT_USAGE;
    }
    const char *word = argv[1];
    if (strcmp(word, "--version") == 0 || strcmp(word, "-V") == 0) {
        return cmd_version(1, argv + 1);
    }
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || strcmp(word, "help") == 0) {
        const struct command *about = argc > 2 ? find(argv[2]) : NULL;
        if (about != NULL) {
            char help[] = "--help";
            char *words[] = {argv[2], help, NULL};
            return about->run(2, words);
        }
        print_usage(stdout);
        return EXIT_OK;
    }
    const struct command *command = find(word);
    if (command == NULL) {
        (void)fprintf(stderr, "annotmixd: \"%s\" is no command.\n", word);
        print_usage(stderr);
        return EXIT_USAGE;
    }
    return command->run(argc - 1, argv + 1);
}
