/* simulate_random.h - seeded random numbers for `simulate`: as many independent streams as there are things to draw. */
#ifndef SIMULATE_SIMULATE_RANDOM_H
#define SIMULATE_SIMULATE_RANDOM_H

#include <stddef.h>
#include <stdint.h>

struct sim_random {
    uint64_t state[4];
};

/* The stream of (seed, purpose, number, part): the same four give the same numbers, wherever and whenever. */
void sim_random_init(struct sim_random *random, uint64_t seed, uint64_t purpose, uint64_t number, uint64_t part);
double sim_uniform(struct sim_random *random);                  /* [0, 1), 53 bits */
uint64_t sim_below(struct sim_random *random, uint64_t n);      /* 0 .. n-1, n >= 1, without bias */
double sim_normal(struct sim_random *random);                   /* mean 0, deviation 1 */
double sim_beta(struct sim_random *random, double a, double b); /* a, b > 0; in [0, 1] */
void sim_shuffle(struct sim_random *random, uint32_t *order, size_t n);

#endif
