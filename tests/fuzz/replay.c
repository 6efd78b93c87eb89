/* replay.c - runs targets over files: replay CORPUS (every target over CORPUS/TARGET), or replay TARGET FILE...
 *
 * A finding ends the program (EXPECT, a signal, a sanitizer); the file's name is printed before each run for that. The
 * last line is "N passed, 0 failed". Files are run again cut to half their length, for a corpus twice as large. */
#include <dirent.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fuzz.h"
#include "util/log.h"

enum {
    PATH_BYTES = 1024,
    FILE_BYTES_MAX = 1 << 20
};

static unsigned n_passed;
static char now[PATH_BYTES]; /* the file under way, for the trace of a crash */

static void run_file(const struct fuzz_target *target, const char *path)
{
    static uint8_t bytes[FILE_BYTES_MAX];
    (void)snprintf(now, sizeof now, "%s: %s", target->name, path);
    FILE *file = fopen(path, "rb");
    EXPECT(file != NULL);
    size_t n = fread(bytes, 1, sizeof bytes, file);
    EXPECT(ferror(file) == 0);
    (void)fclose(file); /* was only read */
    for (int times = 1; times <= 2; times++) {
        size_t part = n / (size_t)times;
        uint8_t *copy = malloc(part > 0 ? part : 1); /* of this size exactly, so that reading beyond it is seen */
        EXPECT(copy != NULL);
        memcpy(copy, bytes, part);
        target->run(copy, part);
        free(copy);
    }
    n_passed++;
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

/* False: no file there. */
static bool run_folder(const struct fuzz_target *target, const char *corpus)
{
    char folder[PATH_BYTES / 2], path[PATH_BYTES];
    struct dirent **entries;
    bool any = false;
    (void)snprintf(folder, sizeof folder, "%s/%s", corpus, target->name);
    int n = scandir(folder, &entries, NULL, by_name);
    for (int i = 0; i < n; i++) {
        (void)snprintf(path, sizeof path, "%s/%s", folder, entries[i]->d_name);
        if (entries[i]->d_name[0] != '.') {
            run_file(target, path);
            any = true;
        }
        free(entries[i]);
    }
    if (n >= 0)
        free(entries);
    return any;
}

/* Says which file was under way when a finding aborts. */
static void on_abort(int signal_number)
{
    static const char text[] = "\nwhile running ";
    (void)signal_number;
    (void)!write(2, text, sizeof text - 1);
    (void)!write(2, now, strlen(now));
    (void)!write(2, "\n", 1);
}

int main(int argc, char **argv)
{
    unsigned n_failed = 0;
    log_setup(2, LOG_FORMAT_TEXT, LOG_LEVEL_ERROR);
    (void)signal(SIGABRT, on_abort);
    if (argc < 2 || (argc > 2 && fuzz_target_of(argv[1]) == NULL)) {
        (void)fprintf(stderr, "usage: replay CORPUS | replay TARGET FILE...\n");
        return 2;
    }
    for (int i = 2; i < argc; i++)
        run_file(fuzz_target_of(argv[1]), argv[i]);
    for (const struct fuzz_target *t = fuzz_targets; argc == 2 && t->name != NULL; t++) {
        if (!run_folder(t, argv[1])) {
            (void)fprintf(stderr, "%s/%s: no files\n", argv[1], t->name);
            n_failed++;
        }
    }
    (void)printf("%u passed, %u failed\n", n_passed, n_failed);
    return n_failed > 0;
}
