/* mixup.c - mixup over triples (article, section 4; specification, "One training step", 2).
 *
 * Nothing is mixed here: the batch only learns for each triple t its partner permutation[t] and weight lambda[t]. The
 * first product runs over the unmixed instances and its rows are mixed (linear, so exact); annotators and labels
 * are mixed as gathers of two rows. The inverse permutation turns the backward scatter into a gather. */
#include "mixup.h"

static void finish(struct batch *batch)
{
    const float share = 1.0f / (float)batch->n_labels;

    for (size_t t = 0; t < batch->n_labels; t++) {
        uint32_t p = batch->permutation[t];
        batch->inverse[p] = (uint32_t)t;
        batch->partner_row[t] = batch->row[p];
        batch->annotator2[t] = batch->annotator1[p];
        batch->class2[t] = batch->class1[p];
        batch->weight1[t] = batch->lambda[t] * share;
        batch->weight2[t] = (1.0f - batch->lambda[t]) * share;
    }
    batch->mixed = true;
}

void mixup_draw(struct batch *batch, double alpha, bool within_rows, struct rng *lambda, struct rng *partner)
{
    for (size_t t = 0; t < batch->n_labels; t++)
        batch->lambda[t] = (float)rng_beta(lambda, alpha);
    if (!within_rows)
        rng_shuffle(partner, batch->permutation, batch->n_labels);
    else
        for (size_t i = 0; i < batch->n_rows; i++)
            rng_shuffle(partner, batch->permutation + batch->begin[i], batch->begin[i + 1] - batch->begin[i]);
    finish(batch);
}

void mixup_set(struct batch *batch, const float *lambda, const uint32_t *permutation)
{
    for (size_t t = 0; t < batch->n_labels; t++) {
        batch->lambda[t] = lambda[t];
        batch->permutation[t] = permutation[t];
    }
    finish(batch);
}
