/* simulate_random.c - see simulate_random.h.
 *
 * Generator: xoshiro256** (Blackman, Vigna 2018), its four words taken from splitmix64 started at a hash of seed,
 * purpose, number and part. (The learner has a generator of its own, inside the library; `simulate` stands outside.)
 * Beta(a, b) from two Gamma variates (Marsaglia, Tsang 2000) in log space: a near 0 must not give 0/0. */
#include "simulate_random.h"

#include <math.h>

static const uint64_t GOLDEN = UINT64_C(0x9e3779b97f4a7c15);

static uint64_t mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static uint64_t rotate(uint64_t x, int k)
{
    return (x << k) | (x >> (64 - k));
}

void sim_random_init(struct sim_random *random, uint64_t seed, uint64_t purpose, uint64_t number, uint64_t part)
{
    uint64_t h = mix(seed + GOLDEN);

    h = mix(h ^ (purpose + 1) * GOLDEN);
    h = mix(h ^ (number + 1) * GOLDEN);
    h = mix(h ^ (part + 1) * GOLDEN);
    for (int i = 0; i < 4; i++)
        random->state[i] = mix(h += GOLDEN);
    if ((random->state[0] | random->state[1] | random->state[2] | random->state[3]) == 0)
        random->state[0] = 1; /* the all-zero state is the generator's one fixed point */
}

static uint64_t next(struct sim_random *random)
{
    uint64_t *s = random->state;
    const uint64_t result = rotate(s[1] * 5, 7) * 9, t = s[1] << 17;

    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate(s[3], 45);
    return result;
}

double sim_uniform(struct sim_random *random)
{
    return (double)(next(random) >> 11) * 0x1p-53;
}

/* (0, 1): safe under log. */
static double uniform_open(struct sim_random *random)
{
    return ((double)(next(random) >> 12) + 0.5) * 0x1p-52;
}

uint64_t sim_below(struct sim_random *random, uint64_t n)
{
    const uint64_t limit = UINT64_MAX - UINT64_MAX % n; /* a multiple of n: below it every remainder is as likely */
    uint64_t x;

    do
        x = next(random);
    while (x >= limit);
    return x % n;
}

double sim_normal(struct sim_random *random)
{
    double radius = sqrt(-2.0 * log(uniform_open(random)));

    return radius * cos(6.283185307179586 * sim_uniform(random));
}

static double log_gamma_variate(struct sim_random *random, double shape)
{
    double boost = 0, d, c;

    if (shape < 1) {
        boost = log(uniform_open(random)) / shape;
        shape += 1;
    }
    d = shape - 1.0 / 3.0;
    c = 1.0 / sqrt(9.0 * d);
    for (;;) {
        double x = sim_normal(random), v = 1 + c * x;

        if (v <= 0)
            continue;
        v = v * v * v;
        if (log(uniform_open(random)) < 0.5 * x * x + d - d * v + d * log(v))
            return boost + log(d * v);
    }
}

double sim_beta(struct sim_random *random, double a, double b)
{
    double first = log_gamma_variate(random, a), second = log_gamma_variate(random, b);

    return 1.0 / (1.0 + exp(second - first));
}

void sim_shuffle(struct sim_random *random, uint32_t *order, size_t n)
{
    for (size_t i = n; i > 1; i--) {
        size_t j = (size_t)sim_below(random, i);
        uint32_t kept = order[i - 1];

        order[i - 1] = order[j];
        order[j] = kept;
    }
}
