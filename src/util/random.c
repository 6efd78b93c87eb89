/* random.c - unguessable bytes from the kernel, and their text forms. */
#include "util/random.h"

#include <errno.h>
#include <sys/random.h>

enum amx_status random_bytes(void *out, size_t n)
{
    unsigned char *at = out;
    while (n > 0) {
        ssize_t got = getrandom(at, n, 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return AMX_IO;
        at += got;
        n -= (size_t)got;
    }
    return AMX_OK;
}

void random_base64url(const void *bytes, size_t n, char *out)
{
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    const unsigned char *in = bytes;
    uint32_t bits = 0;
    unsigned have = 0;

    for (size_t i = 0; i < n; i++) {
        bits = bits << 8 | in[i];
        for (have += 8; have >= 6;) {
            have -= 6;
            *out++ = alphabet[bits >> have & 63];
        }
    }
    if (have > 0)
        *out++ = alphabet[bits << (6 - have) & 63];
    *out = '\0';
}

void random_hex(const void *bytes, size_t n, char *out)
{
    static const char alphabet[] = "0123456789abcdef";
    const unsigned char *in = bytes;
    for (size_t i = 0; i < n; i++) {
        *out++ = alphabet[in[i] >> 4];
        *out++ = alphabet[in[i] & 15];
    }
    *out = '\0';
}
