/* log.c - one line per event, made in a buffer on the stack and written with one write(2): no lock, no allocation, so
 * that it also works when memory is out. A value that does not fit is cut; the line stays valid JSON. */
#include "util/log.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "util/clock.h"
#include "util/numbers.h"
#include "util/utf8.h"

enum {
    LINE_BYTES = 4096,
    VALUE_BYTES = 1500,
    TAIL_BYTES = 8 /* room for closing quote, brace, newline */
};

static const char *const level_names[] = {"debug", "info", "warn", "error"};
static _Atomic int log_fd = 2;
static _Atomic int log_least = LOG_LEVEL_INFO;
static _Atomic bool log_as_text;

struct line {
    char bytes[LINE_BYTES];
    size_t n;
};

void log_setup(int fd, enum log_format format, enum log_level least)
{
    log_fd = fd;
    log_least = (int)least;
    log_as_text = format == LOG_FORMAT_TEXT || (format == LOG_FORMAT_AUTO && isatty(fd));
}

bool log_level_of(const char *name, enum log_level *out)
{
    for (unsigned i = 0; i < sizeof level_names / sizeof *level_names; i++) {
        if (strcmp(name, level_names[i]) == 0) {
            *out = (enum log_level)i;
            return true;
        }
    }
    return false;
}

bool log_enabled(enum log_level level)
{
    return (int)level >= log_least;
}

static bool put(struct line *line, const char *text, size_t n)
{
    if (line->n + n > LINE_BYTES - TAIL_BYTES)
        return false;
    memcpy(line->bytes + line->n, text, n);
    line->n += n;
    return true;
}

static bool put_text(struct line *line, const char *text)
{
    return put(line, text, strlen(text));
}

/* The inside of a JSON string. Bytes that are not UTF-8 come out as U+FFFD, control characters as \u00XX. */
static void put_escaped(struct line *line, const char *text)
{
    size_t n = strnlen(text, VALUE_BYTES), start = line->n;
    for (size_t i = 0; i < n && line->n - start < VALUE_BYTES;) {
        unsigned char c = (unsigned char)text[i];
        char escape[8];
        size_t length = c < 0x80 ? 1 : c >= 0xF0 ? 4 : c >= 0xE0 ? 3 : 2;
        bool ok = true;
        if (c == '"' || c == '\\') {
            escape[0] = '\\';
            escape[1] = (char)c;
            ok = put(line, escape, 2);
        } else if (c < 0x20 || c == 0x7F ||
                   (c == 0xC2 && n - i >= 2 && (unsigned char)text[i + 1] < 0xA0 &&
                    (unsigned char)text[i + 1] >= 0x80)) {
            unsigned point = c < 0x80 ? c : (unsigned char)text[i + 1];
            (void)snprintf(escape, sizeof escape, "\\u%04x", point);
            ok = put(line, escape, 6);
        } else if (length > n - i || !utf8_valid(text + i, length)) {
            length = 1;
            ok = put(line, "\xEF\xBF\xBD", 3);
        } else {
            ok = put(line, text + i, length);
        }
        if (!ok)
            return;
        i += length;
    }
}

static void put_value(struct line *line, const struct log_field *field, bool as_text)
{
    char number[NUMBER_TEXT_BYTES];
    switch (field->type) {
    case LOG_FIELD_TEXT:
        if (field->text == NULL) {
            (void)put_text(line, "null");
            break;
        }
        bool quote = !as_text || field->text[0] == '\0' || strpbrk(field->text, " \"=\\") != NULL;
        if (quote)
            (void)put(line, "\"", 1);
        put_escaped(line, field->text);
        if (quote)
            line->bytes[line->n++] = '"'; /* always room: TAIL_BYTES */
        break;
    case LOG_FIELD_INT:
        (void)snprintf(number, sizeof number, "%lld", (long long)field->integer);
        (void)put_text(line, number);
        break;
    case LOG_FIELD_REAL:
        if (number_double_text(field->real, number) == 0)
            (void)put_text(line, "null");
        (void)put_text(line, number);
        break;
    }
}

static void put_head(struct line *line, enum log_level level, const char *message, bool as_text)
{
    char now[CLOCK_TEXT_BYTES];
    clock_text(clock_wall_ms(), now);
    (void)put_text(line, as_text ? "" : "{\"time\":\"");
    (void)put_text(line, now);
    (void)put_text(line, as_text ? " " : "\",\"level\":\"");
    (void)put_text(line, level_names[level]);
    (void)put_text(line, as_text ? " " : "\",\"message\":\"");
    put_escaped(line, message);
    (void)put_text(line, as_text ? "" : "\"");
}

void log_write(enum log_level level, const char *message, ...)
{
    struct line line; /* not set to 0: 4 KB a line */
    bool as_text = log_as_text;
    va_list args;

    if (!log_enabled(level))
        return;
    line.n = 0;
    put_head(&line, level, message, as_text);
    va_start(args, message);
    for (;;) {
        struct log_field field = va_arg(args, struct log_field);
        if (field.key == NULL)
            break;
        /* A field goes in whole (its value possibly cut) or not at all. */
        if (LINE_BYTES - line.n < strlen(field.key) + 64)
            continue;
        (void)put_text(&line, as_text ? " " : ",\"");
        (void)put_text(&line, field.key);
        (void)put_text(&line, as_text ? "=" : "\":");
        put_value(&line, &field, as_text);
    }
    va_end(args);
    if (!as_text)
        line.bytes[line.n++] = '}';
    line.bytes[line.n++] = '\n';
    ssize_t n;
    do
        n = write(log_fd, line.bytes, line.n);
    while (n < 0 && errno == EINTR);
}
