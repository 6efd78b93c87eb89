/* libfuzzer.c - the targets under libFuzzer: one program for all, FUZZ_TARGET in the environment names the target. */
#include <stdio.h>
#include <stdlib.h>

#include "fuzz.h"
#include "util/log.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const struct fuzz_target *target;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    const char *name = getenv("FUZZ_TARGET");
    (void)argc;
    (void)argv;
    target = name != NULL ? fuzz_target_of(name) : NULL;
    if (target == NULL) {
        (void)fprintf(stderr, "FUZZ_TARGET=%s: there is no such target\n", name != NULL ? name : "");
        exit(2);
    }
    log_setup(2, LOG_FORMAT_TEXT, LOG_LEVEL_ERROR);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    target->run(data, n);
    return 0;
}
