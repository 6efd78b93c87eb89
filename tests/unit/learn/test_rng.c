/* test_rng.c - the generator against published numbers, and the distributions drawn from it. */
#include "test.h"

#include <math.h>
#include <string.h>

#include "learn/kernels.h"
#include "learn/rng.h"

TEST(learn_rng_reference)
{
    /* xoshiro128++ from state 1, 2, 3, 4: the first outputs of the authors' C code. */
    static const uint32_t expected[] = {641, 1573767, 3222811527, 3517856514, 836907274, 4247214768};
    struct rng rng = {{1, 2, 3, 4}};

    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++)
        CHECK_INT(rng_next(&rng), expected[i]);
}

TEST(learn_rng_streams_differ)
{
    struct rng a, b, c, d, same;

    rng_seed(&a, 1, 0, RNG_SHUFFLE);
    rng_seed(&b, 2, 0, RNG_SHUFFLE);
    rng_seed(&c, 1, 1, RNG_SHUFFLE);
    rng_seed(&d, 1, 0, RNG_LAMBDA);
    rng_seed(&same, 1, 0, RNG_SHUFFLE);
    CHECK(memcmp(&a, &b, sizeof a) != 0);
    CHECK(memcmp(&a, &c, sizeof a) != 0);
    CHECK(memcmp(&a, &d, sizeof a) != 0);
    CHECK(memcmp(&b, &c, sizeof a) != 0);
    CHECK(memcmp(&a, &same, sizeof a) == 0);
}

TEST(learn_rng_lanes_match_kernels)
{
    static const char *const levels[] = {"plain", "sse2", "avx2", "avx512"};
    struct rng_lanes scalar;
    uint32_t expected[4 * RNG_LANES], words[4 * RNG_LANES];

    rng_lanes_seed(&scalar, 5, 3, RNG_ANNOTATOR_DROPOUT);
    for (int i = 0; i < 4; i++)
        rng_lanes_next(&scalar, expected + i * RNG_LANES);
    for (size_t l = 0; l < 4; l++) {
        const struct amx_kernels *kernels = kernels_named(levels[l]);
        struct rng_lanes lanes;
        if (kernels == NULL)
            continue;
        rng_lanes_seed(&lanes, 5, 3, RNG_ANNOTATOR_DROPOUT);
        kernels->random_bits(&lanes, words, 4);
        CHECK(memcmp(words, expected, sizeof words) == 0);
        CHECK(memcmp(&lanes, &scalar, sizeof lanes) == 0);
    }
}

TEST(learn_rng_below_and_shuffle)
{
    struct rng rng;
    int counts[7] = {0}, places[5][5] = {{0}};

    rng_seed(&rng, 11, 0, RNG_SHUFFLE);
    for (int i = 0; i < 70000; i++) {
        uint32_t x = rng_below(&rng, 7);
        CHECK(x < 7);
        counts[x < 7 ? x : 0]++;
    }
    for (int i = 0; i < 7; i++)
        CHECK_NEAR(counts[i], 10000, 400); /* 4 standard deviations are 370 */
    CHECK_INT(rng_below(&rng, 1), 0);
    for (int i = 0; i < 20000; i++) {
        uint32_t order[5] = {0, 1, 2, 3, 4}, seen = 0;
        rng_shuffle(&rng, order, 5);
        for (int j = 0; j < 5; j++) {
            seen |= UINT32_C(1) << order[j];
            places[j][order[j]]++;
        }
        CHECK_INT(seen, 31);
    }
    for (int i = 0; i < 25; i++)
        CHECK_NEAR(places[i / 5][i % 5], 4000, 240);
}

TEST(learn_rng_beta)
{
    static const double alphas[] = {0.001, 0.05, 0.5, 1.0, 4.0, 10.0};
    enum {
        N = 20000
    };

    for (size_t a = 0; a < sizeof alphas / sizeof alphas[0]; a++) {
        double sum = 0.0, square = 0.0, alpha = alphas[a];
        struct rng rng;
        bool in_range = true;
        rng_seed(&rng, 3, 0, RNG_LAMBDA);
        for (int i = 0; i < N; i++) {
            double x = rng_beta(&rng, alpha);
            in_range = in_range && x >= 0.0 && x <= 1.0; /* false for NaN */
            sum += x - 0.5;
            square += (x - 0.5) * (x - 0.5);
        }
        CHECK(in_range);
        double variance = 1.0 / (4.0 * (2.0 * alpha + 1.0));
        CHECK_NEAR(sum / N, 0.0, 5.0 * sqrt(variance / N));
        CHECK_NEAR(square / N, variance, 0.03 * variance);
    }
}

TEST(learn_rng_dropout_rate)
{
    enum {
        WIDTH = 64,
        ROWS = 1000
    };
    static float y[ROWS * WIDTH], z[ROWS * WIDTH];
    float a[WIDTH], c[WIDTH];
    static const double rates[] = {0.1, 0.25, 0.5, 0.95};

    for (int j = 0; j < WIDTH; j++) {
        a[j] = 0.0f;
        c[j] = 1.0f;
    }
    for (size_t r = 0; r < 4; r++) {
        struct rng_lanes rng;
        int kept = 0, same_as_next = 0;
        rng_lanes_seed(&rng, 1, 0, RNG_CLASS_DROPOUT);
        kernels_get()->affine_relu_dropout(y, z, a, c, WIDTH, ROWS, NULL, (uint32_t)lround(65536.0 * rates[r]),
                                           &rng);
        for (int i = 0; i < ROWS * WIDTH; i++) {
            kept += y[i] > 0.0f;
            same_as_next += i > 0 && (y[i] > 0.0f) == (y[i - 1] > 0.0f);
        }
        double n = ROWS * WIDTH, p = rates[r];
        CHECK_NEAR(kept / n, 1.0 - p, 5.0 * sqrt(p * (1.0 - p) / n));
        CHECK_NEAR(same_as_next / n, p * p + (1.0 - p) * (1.0 - p), 0.02);
    }
}
