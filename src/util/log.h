/* log.h - one line per event on standard error: text on a terminal, else one JSON object a line.
 *
 *     log_info("listening", LOG_TEXT("address", address), LOG_INT("threads", n));
 *
 * Each line is one write(2), so lines of several threads never mix. Control bytes and invalid UTF-8 in values are
 * escaped. Never give it tokens, bodies or ids of a project's data. Any thread. */
#ifndef UTIL_LOG_H
#define UTIL_LOG_H

#include <stdbool.h>
#include <stdint.h>

enum log_level {
    LOG_LEVEL_DEBUG,
    LOG_LEVEL_INFO,
    LOG_LEVEL_WARN,
    LOG_LEVEL_ERROR
};
enum log_format {
    LOG_FORMAT_AUTO, /* text on a terminal, else JSON */
    LOG_FORMAT_TEXT,
    LOG_FORMAT_JSON
};

struct log_field {
    const char *key; /* static, [a-z_]; NULL ends the list */
    enum {
        LOG_FIELD_TEXT,
        LOG_FIELD_INT,
        LOG_FIELD_REAL
    } type;
    const char *text; /* NULL is written as null */
    int64_t integer;
    double real;
};
#define LOG_TEXT(k, v) ((struct log_field){.key = (k), .type = LOG_FIELD_TEXT, .text = (v)})
#define LOG_INT(k, v)  ((struct log_field){.key = (k), .type = LOG_FIELD_INT, .integer = (int64_t)(v)})
#define LOG_REAL(k, v) ((struct log_field){.key = (k), .type = LOG_FIELD_REAL, .real = (double)(v)})
#define LOG_END        ((struct log_field){.key = NULL})

/* Where to (default: descriptor 2, AUTO, INFO and above). The descriptor is borrowed. Before threads start. */
void log_setup(int fd, enum log_format format, enum log_level least);
/* "debug", "info", "warn", "error" -> level; false when it is none of them. */
bool log_level_of(const char *name, enum log_level *out);
bool log_enabled(enum log_level level);

/* message: a short static text. Fields are struct log_field, ended by LOG_END; use the macros below. Lines longer than
 * 4 KiB are cut (values first). Failure to write is ignored: there is nobody left to tell. */
void log_write(enum log_level level, const char *message, ...);
#define log_debug(...) log_write(LOG_LEVEL_DEBUG, __VA_ARGS__, LOG_END)
#define log_info(...)  log_write(LOG_LEVEL_INFO, __VA_ARGS__, LOG_END)
#define log_warn(...)  log_write(LOG_LEVEL_WARN, __VA_ARGS__, LOG_END)
#define log_error(...) log_write(LOG_LEVEL_ERROR, __VA_ARGS__, LOG_END)

#endif
