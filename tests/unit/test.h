/* test.h - the whole unit test harness. TEST(name) { CHECK(...); } registers itself; test.c has main(). */
#ifndef TESTS_UNIT_TEST_H
#define TESTS_UNIT_TEST_H

#include <stdbool.h>

void test_register(const char *name, void (*body)(void));
/* Each prints file:line and both sides when it fails; the test goes on; the program's exit status is 1. */
void test_check(bool ok, const char *file, int line, const char *text);
void test_check_near(double a, double b, double tolerance, const char *file, int line, const char *text);
void test_check_int(long long a, long long b, const char *file, int line, const char *text);
void test_check_str(const char *a, const char *b, const char *file, int line, const char *text);
/* The larger of the two; infinite when the new one is NaN, which fmax would pass over. */
double test_worst(double worst, double difference);
/* Ends the running test as skipped (after return), with the reason in the output and in the count. */
void test_skip(const char *why);

#define TEST(name)                                                                      \
    static void test_##name(void);                                                      \
    __attribute__((constructor)) static void register_##name(void) { test_register(#name, test_##name); } \
    static void test_##name(void)
#define CHECK(x) test_check((x), __FILE__, __LINE__, #x)
#define CHECK_NEAR(a, b, tol) test_check_near((double)(a), (double)(b), (double)(tol), __FILE__, __LINE__, #a " ~ " #b)
#define CHECK_INT(a, b) test_check_int((long long)(a), (long long)(b), __FILE__, __LINE__, #a " == " #b)
#define CHECK_STR(a, b) test_check_str((a), (b), __FILE__, __LINE__, #a " == " #b)

#endif
