/* kernel_math.h - small inline functions of kernels.c: exp, log and the generator's lanes, written so that a loop
 * over 16 or 32 of them becomes vector code on every level. Included by kernels.c only.
 *
 * exp and log are the classic single precision polynomials (Cephes, Moshier): reduce by powers of two, degree 5 and
 * 8, error about 1 ulp. Both are free of branches; NaN goes through. */
#ifndef LEARN_KERNEL_MATH_H
#define LEARN_KERNEL_MATH_H

#include <stdint.h>
#include <string.h>

#include "layout.h"
#include "rng.h"

/* gcc unrolls loops of up to 16 rounds whole before it looks for vectors, and then finds none. */
#if defined(__GNUC__) && !defined(__clang__)
#define AS_VECTORS _Pragma("GCC ivdep") _Pragma("GCC unroll 1")
#else
#define AS_VECTORS
#endif

/* Inner loops: over one strip of a padded row, and over the generator's lanes (also used for runs of 16 floats; what
 * they read and write does not overlap but in the same element). */
#define W     PAD
#define EACH  for (int j = 0; j < W; j++)
#define LANES AS_VECTORS for (int lane = 0; lane < RNG_LANES; lane++)

/* A multiply-add is fused where the level has the instruction, else two roundings: never a call into libm. */
#ifdef __FMA__
#define MADD(a, b, c) __builtin_fmaf((a), (b), (c))
#else
#define MADD(a, b, c) ((a) * (b) + (c))
#endif

static inline int32_t bits_of(float x)
{
    int32_t i;

    memcpy(&i, &x, sizeof i);
    return i;
}

static inline float float_of(int32_t i)
{
    float x;

    memcpy(&x, &i, sizeof x);
    return x;
}

/* exp(x) for x <= 88 (everywhere here x <= 0: the largest is taken off first), -87 for what is less: the result is
 * never denormal or zero. */
static inline float exp_f(float x)
{
    const float magic = 12582912.0f; /* 1.5 * 2^23: adding it rounds to an integer in the low mantissa bits */
    float n, r, y;

    x = x < -87.0f ? -87.0f : x;
    n = MADD(x, 1.44269504088896341f, magic);
    int32_t exponent = bits_of(n) - bits_of(magic);
    n -= magic;
    r = MADD(n, -0.693359375f, x);
    r = MADD(n, 2.12194440e-4f, r);
    y = 1.9875691500e-4f;
    y = MADD(y, r, 1.3981999507e-3f);
    y = MADD(y, r, 8.3334519073e-3f);
    y = MADD(y, r, 4.1665795894e-2f);
    y = MADD(y, r, 1.6666665459e-1f);
    y = MADD(y, r, 5.0000001201e-1f);
    y = MADD(y, r * r, r) + 1.0f;
    return y * float_of((int32_t)((uint32_t)(exponent + 127) << 23));
}

/* log(x) for normal positive x; NaN for NaN. */
static inline float log_f(float x)
{
    int32_t i = bits_of(x);
    /* Exponent such that the mantissa m lies in [sqrt(1/2), sqrt(2)). */
    int32_t e = (i - 0x3f3504f3) >> 23;
    float m = float_of(i - (int32_t)((uint32_t)e << 23)) - 1.0f;
    float n = (float)e, z = m * m, y;

    y = 7.0376836292e-2f;
    y = MADD(y, m, -1.1514610310e-1f);
    y = MADD(y, m, 1.1676998740e-1f);
    y = MADD(y, m, -1.2420140846e-1f);
    y = MADD(y, m, 1.4249322787e-1f);
    y = MADD(y, m, -1.6668057665e-1f);
    y = MADD(y, m, 2.0000714765e-1f);
    y = MADD(y, m, -2.4999993993e-1f);
    y = MADD(y, m, 3.3333331174e-1f);
    y = y * m * z;
    y = MADD(n, -2.12194440e-4f, y);
    y = MADD(z, -0.5f, y);
    y = m + y;
    y = MADD(n, 0.693359375f, y);
    return x != x ? x : y;
}

/* One step of all lanes. The caller keeps the state in a local, so that it stays in registers around a loop. */
static inline void lanes_step(struct rng_lanes *restrict state, uint32_t *restrict out)
{
    LANES
    {
        uint32_t s0 = state->s[0][lane], s1 = state->s[1][lane], s2 = state->s[2][lane], s3 = state->s[3][lane];
        uint32_t sum = s0 + s3;
        out[lane] = ((sum << 7) | (sum >> 25)) + s0;
        uint32_t t = s1 << 9;
        s2 ^= s0;
        s3 ^= s1;
        s1 ^= s2;
        s0 ^= s3;
        s2 ^= t;
        s3 = (s3 << 11) | (s3 >> 21);
        state->s[0][lane] = s0;
        state->s[1][lane] = s1;
        state->s[2][lane] = s2;
        state->s[3][lane] = s3;
    }
}

#endif
