/* random.h - unguessable bytes from the kernel, and their text forms. (The learner has its own seeded generator.) */
#ifndef UTIL_RANDOM_H
#define UTIL_RANDOM_H

#include <stddef.h>
#include <stdint.h>

#include "annotmix.h"

/* AMX_IO when the kernel refuses; then out holds nothing to rely on. */
AMX_CHECK enum amx_status random_bytes(void *out, size_t n);

/* RFC 4648 without padding, 0-terminated: 4 characters for 3 bytes, rounded up. 32 bytes give 43 characters. */
#define RANDOM_BASE64URL_BYTES(n) (((n)*4 + 2) / 3 + 1)
void random_base64url(const void *bytes, size_t n, char *out);
/* Lower-case, 0-terminated: 2 n + 1 bytes. */
void random_hex(const void *bytes, size_t n, char *out);

#endif
