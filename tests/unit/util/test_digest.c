/* test_digest.c - SHA-256 of known texts, in one piece and in many; equality at every place. */
#include <stdint.h>
#include <string.h>

#include "test.h"
#include "util/digest.h"

/* The examples of FIPS 180-4 and the empty text. */
static const struct {
    const char *text, *hex;
} known[] = {
    {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
    {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
    {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
     "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
};

TEST(digest_known_texts)
{
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        uint8_t whole[DIGEST_BYTES], pieces[DIGEST_BYTES];
        char hex[DIGEST_HEX_BYTES];
        struct digest d;
        digest_of(known[i].text, strlen(known[i].text), whole);
        CHECK_STR(digest_hex(whole, hex), known[i].hex);
        digest_init(&d);
        for (const char *at = known[i].text; *at != '\0'; at++)
            digest_add(&d, at, 1);
        digest_finish(&d, pieces);
        CHECK(digest_same(whole, pieces));
    }
}

TEST(digest_sized_rows_cannot_be_split_in_two_ways)
{
    uint8_t one[DIGEST_BYTES], other[DIGEST_BYTES];
    struct digest d;

    digest_init(&d);
    digest_add_sized(&d, "ab", 2);
    digest_add_sized(&d, "c", 1);
    digest_finish(&d, one);
    digest_init(&d);
    digest_add_sized(&d, "a", 1);
    digest_add_sized(&d, "bc", 2);
    digest_finish(&d, other);
    CHECK(!digest_same(one, other));
}

TEST(digest_same_looks_at_every_bit)
{
    uint8_t a[DIGEST_BYTES], b[DIGEST_BYTES];

    digest_of("token", 5, a);
    memcpy(b, a, sizeof b);
    CHECK(digest_same(a, b));
    for (size_t bit = 0; bit < DIGEST_BYTES * 8; bit++) {
        b[bit / 8] = (uint8_t)(b[bit / 8] ^ (1U << bit % 8));
        CHECK(!digest_same(a, b));
        b[bit / 8] = a[bit / 8];
    }
}
