/* numbers.h - numbers in text, independent of locale. Parsers take the whole slice or refuse it. */
#ifndef UTIL_NUMBERS_H
#define UTIL_NUMBERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    NUMBER_TEXT_BYTES = 32
};

/* Decimal digits with an optional '-'; false on anything else ("", "+1", " 1", "0x1") and out of range. */
bool number_int(const char *text, size_t n, int64_t *out);
bool number_uint(const char *text, size_t n, uint64_t *out);
/* Decimal number: [+-] digits [. digits] [e[+-]digits], at least one digit in the mantissa. No NaN, infinity,
 * hexadecimal, blanks. Correctly rounded. Overflow (1e999) is refused; underflow gives 0 or a denormal. */
bool number_double(const char *text, size_t n, double *out);

/* As printf("%.9g"): nine significant digits, so that a float32 survives the way out and back. 0-terminated; returns
 * the length. NaN and infinities give length 0: the caller writes its own word for "no number". */
size_t number_float_text(float value, char out[NUMBER_TEXT_BYTES]);
size_t number_double_text(double value, char out[NUMBER_TEXT_BYTES]);
/* As printf("%lld"), at a fraction of its price (clock.c says why that is high). */
size_t number_int_text(int64_t value, char out[NUMBER_TEXT_BYTES]);

#endif
