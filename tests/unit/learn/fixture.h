/* fixture.h - small made-up training data for the learner's tests. */
#ifndef TESTS_UNIT_LEARN_FIXTURE_H
#define TESTS_UNIT_LEARN_FIXTURE_H

#include "annotmix.h"

struct toy {
    struct amx_data data; /* points into the arrays below */
    float *features;
    uint32_t *instance, *annotator, *label, *truth;
    char (*names)[8];
    const char **class_names, **annotator_names;
    struct amx_fit_options options; /* small and quick: hidden 8, E 8, 3 epochs, batch 16 */
};

/* N instances in C noisy clusters; each gets 1 to 3 labels of A annotators; annotator 0 is mostly right, the last one
 * guesses. All names set. Ends the process when memory runs out. */
void toy_init(struct toy *toy, size_t N, size_t D, size_t C, size_t A, uint64_t seed);
void toy_done(struct toy *toy);
/* Fits and returns the model; fails the running test (and returns NULL) unless the status is AMX_OK. */
struct amx_model *toy_fit(struct toy *toy);
/* Encodes a model. The caller frees with amx_free. */
unsigned char *toy_encode(const struct amx_model *model, size_t *n);
/* True when both models encode to the same bytes. */
bool toy_same_bytes(const struct amx_model *a, const struct amx_model *b);
/* Memory or the end of the process. */
void *toy_alloc(size_t n, size_t size);
/* Small deterministic generator for tests: uniform in [0, 1). */
double toy_random(uint64_t *state);

#endif
