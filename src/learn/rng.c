/* rng.c - the only source of randomness of a fit.
 *
 * Generator: xoshiro128++ (Blackman, Vigna), 128 bits of state, 32 bits per step: the longest generator whose step
 * stays within 32-bit lanes, so that sixteen of them run in one vector.
 *
 * Layout of streams. Every use has a stream of its own, so that changing one (say, the dropout) leaves the
 * others as they were. A stream belongs to (seed, ensemble member, purpose):
 *   h = mix(seed + G); h = mix(h ^ (member + 1) G); h = mix(h ^ (purpose + 1) G)      (all mod 2^64)
 * with G = 0x9e3779b97f4a7c15 and mix the finaliser of splitmix64. The state words are the low and high halves of
 * splitmix64 outputs started at h. Lanes take their words in turn: lane 0 first, two outputs for each lane.
 *
 * Uniform doubles take two steps (27 high bits, then 26). Bounded integers use Lemire's multiplication with
 * rejection. Beta(1, 1) is one uniform; other alpha draw two Gamma variates by Marsaglia and Tsang's method in log
 * space: for alpha = 0.01 both Gammas underflow and their quotient would be 0/0, while
 * 1 / (1 + exp(log g2 - log g1)) is exact to rounding.
 *
 * Lanes. One step gives 16 words. Dropout with any rate reads each word as two 16-bit decisions: the low halves
 * decide elements 0..15 of a run of 32, the high halves elements 16..31; an element is kept when its number is at
 * least round(65536 p). The annotator model's dropout (p = 1/2) reads bits: bit b of lane l decides element 16 b + l of
 * a run of 512. Elements are counted over padded rows (multiples of 32). */
#include "rng.h"

#include <math.h>

static const uint64_t GOLDEN = UINT64_C(0x9e3779b97f4a7c15);

static uint64_t mix64(uint64_t z)
{
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static uint64_t stream_start(uint64_t seed, uint32_t member, uint32_t purpose)
{
    uint64_t h = mix64(seed + GOLDEN);

    h = mix64(h ^ ((uint64_t)member + 1) * GOLDEN);
    return mix64(h ^ ((uint64_t)purpose + 1) * GOLDEN);
}

void rng_seed(struct rng *rng, uint64_t seed, uint32_t member, uint32_t purpose)
{
    uint64_t h = stream_start(seed, member, purpose);

    for (int i = 0; i < 4; i += 2) {
        uint64_t word = mix64(h += GOLDEN);
        rng->s[i] = (uint32_t)word;
        rng->s[i + 1] = (uint32_t)(word >> 32);
    }
    if ((rng->s[0] | rng->s[1] | rng->s[2] | rng->s[3]) == 0)
        rng->s[0] = 1; /* the all-zero state is the generator's one fixed point */
}

void rng_lanes_seed(struct rng_lanes *rng, uint64_t seed, uint32_t member, uint32_t purpose)
{
    uint64_t h = stream_start(seed, member, purpose);

    for (int lane = 0; lane < RNG_LANES; lane++) {
        for (int i = 0; i < 4; i += 2) {
            uint64_t word = mix64(h += GOLDEN);
            rng->s[i][lane] = (uint32_t)word;
            rng->s[i + 1][lane] = (uint32_t)(word >> 32);
        }
        if ((rng->s[0][lane] | rng->s[1][lane] | rng->s[2][lane] | rng->s[3][lane]) == 0)
            rng->s[0][lane] = 1;
    }
}

static uint32_t rotate(uint32_t x, int k)
{
    return (x << k) | (x >> (32 - k));
}

uint32_t rng_next(struct rng *rng)
{
    uint32_t *s = rng->s;
    uint32_t result = rotate(s[0] + s[3], 7) + s[0];
    uint32_t t = s[1] << 9;

    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate(s[3], 11);
    return result;
}

void rng_lanes_next(struct rng_lanes *rng, uint32_t *out)
{
    for (int lane = 0; lane < RNG_LANES; lane++) {
        struct rng one = {{rng->s[0][lane], rng->s[1][lane], rng->s[2][lane], rng->s[3][lane]}};
        out[lane] = rng_next(&one);
        for (int i = 0; i < 4; i++)
            rng->s[i][lane] = one.s[i];
    }
}

double rng_uniform(struct rng *rng)
{
    uint64_t high = rng_next(rng) >> 5;
    uint64_t low = rng_next(rng) >> 6;

    return (double)((high << 26) | low) * 0x1p-53;
}

uint32_t rng_below(struct rng *rng, uint32_t n)
{
    uint64_t product = (uint64_t)rng_next(rng) * n;

    if ((uint32_t)product < n) {
        uint32_t floor = (0u - n) % n;
        while ((uint32_t)product < floor)
            product = (uint64_t)rng_next(rng) * n;
    }
    return (uint32_t)(product >> 32);
}

/* Uniform in (0, 1): safe to take the logarithm of. */
static double uniform_open(struct rng *rng)
{
    return rng_uniform(rng) + 0x1p-54;
}

static double normal(struct rng *rng)
{
    double radius = sqrt(-2.0 * log(uniform_open(rng)));

    return radius * cos(6.283185307179586 * rng_uniform(rng));
}

/* log of a Gamma(shape, 1) variate; below 1 through Gamma(shape + 1) and a power of a uniform. */
static double log_gamma_variate(struct rng *rng, double shape)
{
    double boost = 0.0;
    double d, c;

    if (shape < 1.0) {
        boost = log(uniform_open(rng)) / shape;
        shape += 1.0;
    }
    d = shape - 1.0 / 3.0;
    c = 1.0 / sqrt(9.0 * d);
    for (;;) {
        double x = normal(rng);
        double v = 1.0 + c * x;
        if (v <= 0.0)
            continue;
        v = v * v * v;
        if (log(uniform_open(rng)) < 0.5 * x * x + d - d * v + d * log(v))
            return boost + log(d * v);
    }
}

double rng_beta(struct rng *rng, double alpha)
{
    double first, second;

    if (alpha == 1.0)
        return rng_uniform(rng);
    first = log_gamma_variate(rng, alpha);
    second = log_gamma_variate(rng, alpha);
    return 1.0 / (1.0 + exp(second - first));
}

void rng_shuffle(struct rng *rng, uint32_t *order, size_t n)
{
    for (size_t i = n; i > 1; i--) {
        size_t j = rng_below(rng, (uint32_t)i);
        uint32_t kept = order[i - 1];
        order[i - 1] = order[j];
        order[j] = kept;
    }
}
