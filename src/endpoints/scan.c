/* scan.c - a strict JSON scanner without a tree (scan.h). */
#include "endpoints/scan.h"

#include <math.h>
#include <string.h>

#include "util/error.h"
#include "util/numbers.h"

void scan_init(struct scan *s, const char *text, size_t n)
{
    s->begin = s->p = n > 0 ? text : "";
    s->end = s->p + n;
    s->why = NULL;
    s->not_finite = false;
}

static bool fail(struct scan *s, const char *why)
{
    if (s->why == NULL)
        s->why = why;
    return false;
}

static void blanks(struct scan *s)
{
    while (s->p < s->end && (*s->p == ' ' || *s->p == '\t' || *s->p == '\n' || *s->p == '\r'))
        s->p++;
}

enum scan_kind scan_peek(struct scan *s)
{
    blanks(s);
    if (s->p == s->end)
        return SCAN_END;
    switch (*s->p) {
    case '{':
        return SCAN_OBJECT;
    case '[':
        return SCAN_ARRAY;
    case '"':
        return SCAN_STRING;
    case 't':
        return SCAN_TRUE;
    case 'f':
        return SCAN_FALSE;
    case 'n':
        return SCAN_NULL;
    case 'N':
    case 'I':
        return SCAN_NOT_FINITE;
    case '-':
        return s->end - s->p > 1 && s->p[1] == 'I' ? SCAN_NOT_FINITE : SCAN_NUMBER;
    default:
        return *s->p >= '0' && *s->p <= '9' ? SCAN_NUMBER : SCAN_OTHER;
    }
}

/* ---- strings ---- */

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* Four hexadecimal digits at p, or -1. */
static int32_t hex_unit(const char *p, const char *end)
{
    if (end - p < 4)
        return -1;
    int32_t value = 0;
    for (int i = 0; i < 4; i++) {
        int digit = hex_digit(p[i]);
        if (digit < 0)
            return -1;
        value = value * 16 + digit;
    }
    return value;
}

static bool surrogate(int32_t unit, bool low)
{
    return unit >= (low ? 0xDC00 : 0xD800) && unit <= (low ? 0xDFFF : 0xDBFF);
}

/* s->p is at the backslash; passes over the escape. */
static bool escape(struct scan *s)
{
    if (s->end - s->p < 2)
        return fail(s, "a string has no end");
    char c = s->p[1];
    if (c != 'u') {
        if (memchr("\"\\/bfnrt", c, 8) == NULL)
            return fail(s, "unknown escape in a string");
        s->p += 2;
        return true;
    }
    int32_t unit = hex_unit(s->p + 2, s->end);
    if (unit < 0)
        return fail(s, "\\u wants four hexadecimal digits");
    if (unit == 0)
        return fail(s, "\\u0000 is not allowed");
    if (surrogate(unit, true))
        return fail(s, "a lone surrogate is no character");
    s->p += 6;
    if (!surrogate(unit, false))
        return true;
    if (s->end - s->p < 6 || s->p[0] != '\\' || s->p[1] != 'u' || !surrogate(hex_unit(s->p + 2, s->end), true))
        return fail(s, "a lone surrogate is no character");
    s->p += 6;
    return true;
}

bool scan_string(struct scan *s, struct scan_text *out)
{
    if (scan_peek(s) != SCAN_STRING)
        return fail(s, "a string is expected");
    const char *begin = ++s->p;
    out->escaped = false;
    while (s->p < s->end) {
        unsigned char c = (unsigned char)*s->p;
        if (c == '"') {
            out->raw = (struct slice){begin, (size_t)(s->p - begin)};
            s->p++;
            return true;
        }
        if (c < 0x20)
            return fail(s, "a control character stands in a string");
        if (c == '\\') {
            out->escaped = true;
            if (!escape(s))
                return false;
        } else {
            s->p++;
        }
    }
    return fail(s, "a string has no end");
}

static size_t encode(uint32_t point, char *out)
{
    if (point < 0x80) {
        out[0] = (char)point;
        return 1;
    }
    if (point < 0x800) {
        out[0] = (char)(0xC0 | point >> 6);
        out[1] = (char)(0x80 | (point & 0x3F));
        return 2;
    }
    if (point < 0x10000) {
        out[0] = (char)(0xE0 | point >> 12);
        out[1] = (char)(0x80 | (point >> 6 & 0x3F));
        out[2] = (char)(0x80 | (point & 0x3F));
        return 3;
    }
    out[0] = (char)(0xF0 | point >> 18);
    out[1] = (char)(0x80 | (point >> 12 & 0x3F));
    out[2] = (char)(0x80 | (point >> 6 & 0x3F));
    out[3] = (char)(0x80 | (point & 0x3F));
    return 4;
}

size_t scan_unescape(struct slice raw, char *out)
{
    static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
    const char *p = raw.bytes, *end = raw.bytes + raw.n;
    size_t n = 0;
    while (p < end) {
        if (*p != '\\') {
            out[n++] = *p++;
        } else if (p[1] != 'u') {
            const char *at = memchr(names, p[1], 8);
            out[n++] = at != NULL ? values[at - names] : p[1];
            p += 2;
        } else {
            uint32_t point = (uint32_t)hex_unit(p + 2, end);
            p += 6;
            if (surrogate((int32_t)point, false)) {
                point = 0x10000 + ((point - 0xD800) << 10) + ((uint32_t)hex_unit(p + 2, end) - 0xDC00);
                p += 6;
            }
            n += encode(point, out + n);
        }
    }
    return n;
}

bool scan_is(const struct scan_text *text, const char *word)
{
    size_t n = strlen(word);
    if (!text->escaped)
        return text->raw.n == n && memcmp(text->raw.bytes, word, n) == 0;
    char plain[128]; /* an escape is at most six bytes a character; longer text is none of our words */
    if (text->raw.n > sizeof plain)
        return false;
    return scan_unescape(text->raw, plain) == n && memcmp(plain, word, n) == 0;
}

/* ---- numbers ---- */

static const double powers_of_ten[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                       1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

static bool digit_at(const struct scan *s)
{
    return s->p < s->end && *s->p >= '0' && *s->p <= '9';
}

struct decimal {
    uint64_t mantissa; /* all digits, while they fit */
    int n_digits;      /* significant ones */
    int exponent;      /* of ten, to apply to the mantissa */
};

static void digits(struct scan *s, struct decimal *d, int step)
{
    for (; digit_at(s); s->p++) {
        if (d->n_digits < 19)
            d->mantissa = d->mantissa * 10 + (uint64_t)(*s->p - '0');
        if (d->mantissa != 0 && d->n_digits < 1000)
            d->n_digits++;
        if (d->exponent > -100000)
            d->exponent += step;
    }
}

/* The grammar of RFC 8259: -? (0 | [1-9][0-9]*) (. [0-9]+)? ([eE] [+-]? [0-9]+)? */
static bool number_grammar(struct scan *s, struct decimal *d)
{
    if (*s->p == '-')
        s->p++;
    if (!digit_at(s))
        return fail(s, "a digit is expected");
    if (*s->p == '0') {
        s->p++;
        if (digit_at(s))
            return fail(s, "a number may not start with 0");
    } else {
        digits(s, d, 0);
    }
    if (s->p < s->end && *s->p == '.') {
        s->p++;
        if (!digit_at(s))
            return fail(s, "a digit is expected");
        digits(s, d, -1);
    }
    if (s->p < s->end && (*s->p == 'e' || *s->p == 'E')) {
        s->p++;
        bool negative = s->p < s->end && *s->p == '-';
        if (s->p < s->end && (*s->p == '-' || *s->p == '+'))
            s->p++;
        if (!digit_at(s))
            return fail(s, "a digit is expected");
        int exponent = 0;
        for (; digit_at(s); s->p++)
            exponent = exponent < 100000 ? exponent * 10 + (*s->p - '0') : exponent;
        d->exponent += negative ? -exponent : exponent;
    }
    return true;
}

bool scan_number(struct scan *s, struct slice *raw, double *out)
{
    if (scan_peek(s) != SCAN_NUMBER)
        return fail(s, "a number is expected");
    const char *begin = s->p;
    struct decimal d = {0, 0, 0};
    if (!number_grammar(s, &d))
        return false;
    *raw = (struct slice){begin, (size_t)(s->p - begin)};
    /* Exact in one rounding when mantissa and power of ten are both exact doubles (Clinger's fast path); most numbers
     * are. */
    if (d.n_digits <= 19 && d.mantissa <= (UINT64_C(1) << 53) && d.exponent >= -22 && d.exponent <= 22) {
        double value = (double)d.mantissa;
        value = d.exponent < 0 ? value / powers_of_ten[-d.exponent] : value * powers_of_ten[d.exponent];
        *out = *begin == '-' ? -value : value;
        return true;
    }
    if (!number_double(raw->bytes, raw->n, out))
        *out = *begin == '-' ? -HUGE_VAL : HUGE_VAL;
    return true;
}

/* ---- whole values ---- */

static bool word(struct scan *s, const char *text)
{
    size_t n = strlen(text);
    if ((size_t)(s->end - s->p) < n || memcmp(s->p, text, n) != 0)
        return fail(s, "a value is expected");
    s->p += n;
    return true;
}

static int broken(struct scan *s, const char *why)
{
    (void)fail(s, why); /* always false */
    return -1;
}

int scan_member(struct scan *s, size_t *n, struct scan_text *key)
{
    if (*n == 0)
        s->p++; /* the bracket */
    blanks(s);
    if (s->p < s->end && *s->p == '}') {
        s->p++;
        return 0;
    }
    if (*n > 0) {
        if (s->p == s->end || *s->p != ',')
            return broken(s, "a comma or } is expected");
        s->p++;
        if (scan_peek(s) != SCAN_STRING)
            return broken(s, "a key in quotes is expected");
    } else if (scan_peek(s) != SCAN_STRING) {
        return broken(s, "a key in quotes or } is expected");
    }
    ++*n;
    if (!scan_string(s, key))
        return -1;
    blanks(s);
    if (s->p == s->end || *s->p != ':')
        return broken(s, "a colon is expected");
    s->p++;
    return 1;
}

int scan_element(struct scan *s, size_t *n)
{
    if (*n == 0)
        s->p++; /* the bracket */
    blanks(s);
    if (s->p < s->end && *s->p == ']') {
        s->p++;
        return 0;
    }
    if (*n > 0) {
        if (s->p == s->end || *s->p != ',')
            return broken(s, "a comma or ] is expected");
        s->p++;
        if (scan_peek(s) == SCAN_OTHER || scan_peek(s) == SCAN_END)
            return broken(s, "a value is expected");
    }
    ++*n;
    return 1;
}

static bool skip(struct scan *s, int depth)
{
    struct scan_text text;
    struct slice raw;
    double value;
    size_t n = 0;
    int got;
    enum scan_kind kind = scan_peek(s);
    if ((kind == SCAN_OBJECT || kind == SCAN_ARRAY) && depth == SCAN_DEPTH)
        return fail(s, "brackets are nested too deeply");
    switch (kind) {
    case SCAN_OBJECT:
        while ((got = scan_member(s, &n, &text)) == 1)
            if (!skip(s, depth + 1))
                return false;
        return got == 0;
    case SCAN_ARRAY:
        while ((got = scan_element(s, &n)) == 1)
            if (!skip(s, depth + 1))
                return false;
        return got == 0;
    case SCAN_STRING:
        return scan_string(s, &text);
    case SCAN_NUMBER:
        return scan_number(s, &raw, &value);
    case SCAN_TRUE:
        return word(s, "true");
    case SCAN_FALSE:
        return word(s, "false");
    case SCAN_NULL:
        return word(s, "null");
    case SCAN_NOT_FINITE:
        s->not_finite = true;
        if (*s->p == '-')
            s->p++;
        return word(s, *s->p == 'N' ? "NaN" : "Infinity");
    case SCAN_END:
        return fail(s, "the text ends too early");
    case SCAN_OTHER:
        return fail(s, "a value is expected");
    }
    return false;
}

bool scan_skip(struct scan *s)
{
    return skip(s, 0);
}

bool scan_done(struct scan *s)
{
    blanks(s);
    return s->p == s->end || fail(s, "text follows the end");
}

enum amx_status scan_error(const struct scan *s, struct amx_error *err)
{
    size_t line = 1;
    const char *start = s->begin;
    for (const char *p = s->begin; p < s->p; p++)
        if (*p == '\n') {
            line++;
            start = p + 1;
        }
    return error_set(err, AMX_INVALID, "not JSON: line %zu, column %zu: %s", line, (size_t)(s->p - start) + 1,
                     s->why != NULL ? s->why : "not a value");
}
