/* test.c - runs the registered tests: PROGRAM [-l] [PATTERN]. Prints one line per failure and a closing line
 * "N passed, N failed[, N skipped]"; exit status 1 on any failure, 2 when a pattern matches nothing. */
#include "test.h"

#include <fnmatch.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_TESTS = 1000 };
static struct {
    const char *name;
    void (*body)(void);
} tests[MAX_TESTS];
static int n_tests;
static int failures_of_test; /* of the running test */
static bool skipped;

void test_register(const char *name, void (*body)(void))
{
    if (n_tests == MAX_TESTS) {
        fprintf(stderr, "test.c: more than %d tests\n", (int)MAX_TESTS);
        exit(2);
    }
    tests[n_tests].name = name;
    tests[n_tests++].body = body;
}

void test_check(bool ok, const char *file, int line, const char *text)
{
    if (!ok) {
        failures_of_test++;
        printf("%s:%d: failed: %s\n", file, line, text);
    }
}

void test_check_near(double a, double b, double tolerance, const char *file, int line, const char *text)
{
    if (!(fabs(a - b) <= tolerance)) {
        failures_of_test++;
        printf("%s:%d: failed: %s: %.17g and %.17g differ by more than %g\n", file, line, text, a, b, tolerance);
    }
}

void test_check_int(long long a, long long b, const char *file, int line, const char *text)
{
    if (a != b) {
        failures_of_test++;
        printf("%s:%d: failed: %s: %lld and %lld\n", file, line, text, a, b);
    }
}

void test_check_str(const char *a, const char *b, const char *file, int line, const char *text)
{
    if (a == NULL || b == NULL || strcmp(a, b) != 0) {
        failures_of_test++;
        printf("%s:%d: failed: %s: \"%s\" and \"%s\"\n", file, line, text, a ? a : "(null)", b ? b : "(null)");
    }
}

double test_worst(double worst, double difference)
{
    return isnan(difference) ? (double)INFINITY : fmax(worst, difference);
}

void test_skip(const char *why)
{
    skipped = true;
    printf("skipped: %s\n", why);
}

int main(int argc, char **argv)
{
    bool list = argc > 1 && strcmp(argv[1], "-l") == 0;
    const char *pattern = argc > 1 && !list ? argv[1] : "*";
    int n_passed = 0, n_failed = 0, n_skipped = 0;

    setvbuf(stdout, NULL, _IOLBF, 0);
    for (int i = 0; i < n_tests; i++) {
        if (fnmatch(pattern, tests[i].name, 0) != 0)
            continue;
        if (list) {
            printf("%s\n", tests[i].name);
            continue;
        }
        failures_of_test = 0;
        skipped = false;
        tests[i].body();
        if (failures_of_test > 0) {
            printf("FAIL %s\n", tests[i].name);
            n_failed++;
        } else if (skipped) {
            n_skipped++;
        } else {
            n_passed++;
        }
    }
    if (list)
        return 0;
    printf("%d passed, %d failed", n_passed, n_failed);
    if (n_skipped > 0)
        printf(", %d skipped", n_skipped);
    printf("\n");
    if (n_passed + n_failed + n_skipped == 0)
        return 2;
    return n_failed > 0;
}
