/* digest.c - SHA-256 by nettle. */
#include "util/digest.h"

#include <nettle/memops.h>

#include "util/random.h"

void digest_init(struct digest *d)
{
    sha256_init(&d->sha);
}

void digest_add(struct digest *d, const void *bytes, size_t n)
{
    if (n > 0)
        sha256_update(&d->sha, n, bytes);
}

void digest_add_u64(struct digest *d, uint64_t value)
{
    uint8_t bytes[8];
    for (unsigned i = 0; i < 8; i++)
        bytes[i] = (uint8_t)(value >> 8 * i);
    digest_add(d, bytes, sizeof bytes);
}

void digest_add_sized(struct digest *d, const void *bytes, size_t n)
{
    digest_add_u64(d, n);
    digest_add(d, bytes, n);
}

void digest_finish(struct digest *d, uint8_t out[DIGEST_BYTES])
{
    sha256_digest(&d->sha, DIGEST_BYTES, out);
}

void digest_of(const void *bytes, size_t n, uint8_t out[DIGEST_BYTES])
{
    struct digest d;
    digest_init(&d);
    digest_add(&d, bytes, n);
    digest_finish(&d, out);
}

bool digest_same(const uint8_t a[DIGEST_BYTES], const uint8_t b[DIGEST_BYTES])
{
    return memeql_sec(a, b, DIGEST_BYTES) != 0;
}

char *digest_hex(const uint8_t digest[DIGEST_BYTES], char out[DIGEST_HEX_BYTES])
{
    random_hex(digest, DIGEST_BYTES, out);
    return out;
}
