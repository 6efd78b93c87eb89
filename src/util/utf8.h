/* utf8.h - what may be a name: callers own their ids, compared byte for byte, never normalised or trimmed. */
#ifndef UTIL_UTF8_H
#define UTIL_UTF8_H

#include <stdbool.h>
#include <stddef.h>

enum {
    NAME_MAX_BYTES = 255
};

/* Well-formed by RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF. A 0 byte counts as valid. */
bool utf8_valid(const char *bytes, size_t n);
/* Name of an instance, annotator, class or project: 1-255 bytes of valid UTF-8 without control characters (U+0000-1F,
 * U+007F-9F), not "." or "..". When false, *why (may be NULL) says what is wrong, as a static text that goes after the
 * word for the thing: "is empty", "is longer than 255 bytes", ... */
bool name_valid(const char *bytes, size_t n, const char **why);

#endif
