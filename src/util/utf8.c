/* utf8.c - UTF-8 validation (RFC 3629) and the rule for names (service.md, Identity). */
#include "util/utf8.h"

#include <stdint.h>
#include <string.h>

/* Length of the well-formed sequence at s (at most n bytes), 0 when there is none; the code point in *point. */
static size_t sequence(const unsigned char *s, size_t n, uint32_t *point)
{
    if (s[0] < 0x80) {
        *point = s[0];
        return 1;
    }
    size_t length = s[0] >= 0xF0 ? 4 : s[0] >= 0xE0 ? 3 : 2;
    if (s[0] < 0xC2 || s[0] > 0xF4 || length > n)
        return 0;
    uint32_t value = s[0] & (length == 2 ? 0x1FU : length == 3 ? 0x0FU : 0x07U);
    for (size_t i = 1; i < length; i++) {
        if ((s[i] & 0xC0) != 0x80)
            return 0;
        value = value << 6 | (s[i] & 0x3FU);
    }
    if ((length == 3 && value < 0x800) || (length == 4 && value < 0x10000) || value > 0x10FFFF ||
        (value >= 0xD800 && value <= 0xDFFF))
        return 0;
    *point = value;
    return length;
}

bool utf8_valid(const char *bytes, size_t n)
{
    const unsigned char *s = (const unsigned char *)bytes;
    for (size_t i = 0; i < n;) {
        /* Eight ASCII bytes at a time: nearly all text is. */
        uint64_t word;
        if (n - i >= sizeof word) {
            memcpy(&word, s + i, sizeof word);
            if ((word & 0x8080808080808080U) == 0) {
                i += sizeof word;
                continue;
            }
        }
        uint32_t point;
        size_t length = sequence(s + i, n - i, &point);
        if (length == 0)
            return false;
        i += length;
    }
    return true;
}

static const char *wrong_with_name(const unsigned char *s, size_t n)
{
    if (n == 0)
        return "is empty";
    if (n > NAME_MAX_BYTES)
        return "is longer than 255 bytes";
    if ((n == 1 && s[0] == '.') || (n == 2 && s[0] == '.' && s[1] == '.'))
        return "may not be \".\" or \"..\"";
    for (size_t i = 0; i < n;) {
        uint32_t point;
        size_t length = sequence(s + i, n - i, &point);
        if (length == 0)
            return "is not valid UTF-8";
        if (point < 0x20 || (point >= 0x7F && point <= 0x9F))
            return "holds a control character";
        i += length;
    }
    return NULL;
}

bool name_valid(const char *bytes, size_t n, const char **why)
{
    const char *wrong = wrong_with_name((const unsigned char *)bytes, n);
    if (wrong != NULL && why != NULL)
        *why = wrong;
    return wrong == NULL;
}
