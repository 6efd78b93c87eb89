/* clock.h - the program's only clock. Times are int64_t milliseconds since 1970 UTC; text is RFC 3339.
 * Tests may move it; everything that reads time goes through here. All functions: any thread. */
#ifndef UTIL_CLOCK_H
#define UTIL_CLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    CLOCK_TEXT_BYTES = 32
};

int64_t clock_wall_ms(void);
int64_t clock_monotonic_ms(void);
int64_t clock_monotonic_ns(void);

/* For tests: adds to both clocks; and stops the wall clock at a moment (negative = let it run again). */
void clock_test_advance_ms(int64_t ms);
void clock_test_set_wall_ms(int64_t ms);

/* "2026-11-23T21:00:00.000Z"; always UTC with milliseconds. Years outside 0000-9999 are clamped. Returns out. */
char *clock_text(int64_t ms, char out[CLOCK_TEXT_BYTES]);
/* RFC 3339 date and time with a zone ("Z" or "+02:00"), 'T' between them; fractions beyond milliseconds are cut. The
 * whole slice must be one. Leap second 60 counts as the next second. False when it is none. */
bool clock_parse(const char *text, size_t n, int64_t *ms);

#endif
