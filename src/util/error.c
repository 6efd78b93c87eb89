/* error.c - fills a struct amx_error. The text has a fixed size: whoever words an error must never fail for memory. */
#include "util/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "util/utf8.h"

/* snprintf cuts by bytes; what is left of a cut UTF-8 sequence at the end would make the reply invalid. */
static void drop_cut_sequence(char *text, size_t n)
{
    size_t i = n;
    while (i > 0 && n - i < 4 && ((unsigned char)text[i - 1] & 0xC0) == 0x80)
        i--;
    if (i == 0)
        return;
    unsigned char lead = (unsigned char)text[i - 1];
    size_t want = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC0 ? 2 : 1;
    if (want > n - (i - 1))
        text[i - 1] = '\0';
}

/* Errors quote what was read, and "%.40s" may cut it anywhere: what is no UTF-8, or would move a terminal, becomes '?'. */
static void make_readable(char *text)
{
    while (*text != '\0') {
        size_t n = 1, most = strnlen(text, 4);
        while (n <= most && !utf8_valid(text, n))
            n++;
        if (n > most || ((unsigned char)*text < ' ' && *text != '\n' && *text != '\t') || *text == 0x7F) {
            *text++ = '?';
            continue;
        }
        text += n;
    }
}

static void fill(struct amx_error *err, enum amx_status code, uint64_t line, const char *format, va_list args)
    __attribute__((format(printf, 4, 0)));
static void fill(struct amx_error *err, enum amx_status code, uint64_t line, const char *format, va_list args)
{
    if (err == NULL)
        return;
    err->code = code;
    err->line = line;
    err->pointer[0] = '\0';
    if (vsnprintf(err->text, sizeof err->text, format, args) < 0)
        err->text[0] = '\0';
    drop_cut_sequence(err->text, strlen(err->text));
    make_readable(err->text);
}

enum amx_status error_set(struct amx_error *err, enum amx_status code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fill(err, code, 0, format, args);
    va_end(args);
    return code;
}

enum amx_status error_set_line(struct amx_error *err, enum amx_status code, uint64_t line, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fill(err, code, line, format, args);
    va_end(args);
    return code;
}
