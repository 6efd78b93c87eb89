/* rng.h - random numbers with a documented layout of streams (see rng.c). */
#ifndef LEARN_RNG_H
#define LEARN_RNG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    RNG_LANES = 16
};

/* What a stream is for. Numbers are part of the layout: never renumber, only add. */
enum rng_purpose {
    RNG_INITIAL = 0,           /* initial parameters, tensors in the order of the layout, elements row by row */
    RNG_SHUFFLE = 1,           /* order of the instances, one permutation per epoch */
    RNG_LAMBDA = 2,            /* mixing weights, one per triple */
    RNG_PARTNER = 3,           /* mixing partners, one permutation per batch */
    RNG_ANNOTATOR_DROPOUT = 4, /* bits, lanes */
    RNG_PRIOR_FOLDS = 5,       /* folds of the consensus behind annot_mix_prior */
    RNG_CLASS_DROPOUT = 16     /* + index of the hidden layer; 16-bit decisions, lanes */
};

/* One xoshiro128++ generator. */
struct rng {
    uint32_t s[4];
};
/* Sixteen xoshiro128++ generators side by side; the kernels step them together. */
struct rng_lanes {
    uint32_t s[4][RNG_LANES];
};

void rng_seed(struct rng *rng, uint64_t seed, uint32_t member, uint32_t purpose);
void rng_lanes_seed(struct rng_lanes *rng, uint64_t seed, uint32_t member, uint32_t purpose);

uint32_t rng_next(struct rng *rng);
/* Uniform in [0, 1), 53 bits. */
double rng_uniform(struct rng *rng);
/* Uniform in 0 .. n-1, n >= 1, without bias. */
uint32_t rng_below(struct rng *rng, uint32_t n);
/* Beta(alpha, alpha), alpha > 0, in [0, 1]. */
double rng_beta(struct rng *rng, double alpha);
/* Shuffles order[n] in place (Fisher-Yates from the end). */
void rng_shuffle(struct rng *rng, uint32_t *order, size_t n);
/* One step of all lanes, as the kernels do it; out[RNG_LANES]. */
void rng_lanes_next(struct rng_lanes *rng, uint32_t *out);

#endif
