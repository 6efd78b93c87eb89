/* digest.h - SHA-256 (by nettle): tokens, idempotency keys, ETags, data hashes. */
#ifndef UTIL_DIGEST_H
#define UTIL_DIGEST_H

#include <nettle/sha2.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    DIGEST_BYTES = 32,
    DIGEST_HEX_BYTES = 65
};

struct digest {
    struct sha256_ctx sha;
};

void digest_init(struct digest *d);
void digest_add(struct digest *d, const void *bytes, size_t n);
/* Length first (8 bytes, little-endian), then the bytes: rows hashed so can never be split in two ways. */
void digest_add_sized(struct digest *d, const void *bytes, size_t n);
void digest_add_u64(struct digest *d, uint64_t value); /* 8 bytes, little-endian */
void digest_finish(struct digest *d, uint8_t out[DIGEST_BYTES]);

void digest_of(const void *bytes, size_t n, uint8_t out[DIGEST_BYTES]);
/* Takes equally long wherever they differ: for secrets. */
bool digest_same(const uint8_t a[DIGEST_BYTES], const uint8_t b[DIGEST_BYTES]);
/* Lower-case hexadecimal, 0-terminated; returns out. */
char *digest_hex(const uint8_t digest[DIGEST_BYTES], char out[DIGEST_HEX_BYTES]);

#endif
