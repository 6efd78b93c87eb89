/* consensus.c - posterior of an instance's class from features and labels, and when a class counts as settled.
 *
 * Labels are taken as independent given the true class and the instance, as the model does. Everything is added in
 * log space: a hundred labels of 1e-3 each would underflow a product. A probability of 0 (float32 may round to it) is
 * taken as 1e-30, so that one impossible label cannot silence all others. */
#include "crowd/consensus.h"

#include <math.h>

#define LEAST 1e-30

static double log_of(float p)
{
    return log(fmax((double)p, LEAST));
}

uint32_t consensus_posterior(const float *p_class, const float *p_confusion, const uint32_t *classes, size_t n,
                             size_t n_classes, double *posterior, double *why_labels, double *why_model)
{
    const size_t C = n_classes;
    uint32_t first = 0, second;
    double sum = 0, top;

    for (size_t k = 0; k < C; k++) {
        posterior[k] = log_of(p_class[k]);
        for (size_t l = 0; l < n; l++)
            posterior[k] += log_of(p_confusion[(l * C + k) * C + classes[l]]);
        if (posterior[k] > posterior[first])
            first = (uint32_t)k;
    }
    second = first == 0 && C > 1 ? 1 : 0;
    for (size_t k = 0; k < C; k++) {
        if (k != first && posterior[k] > posterior[second])
            second = (uint32_t)k;
    }
    for (size_t l = 0; why_labels != NULL && l < n; l++)
        why_labels[l] = log_of(p_confusion[(l * C + first) * C + classes[l]]) -
                        log_of(p_confusion[(l * C + second) * C + classes[l]]);
    if (why_model != NULL)
        *why_model = log_of(p_class[first]) - log_of(p_class[second]);
    top = posterior[first];
    for (size_t k = 0; k < C; k++)
        sum += posterior[k] = exp(posterior[k] - top);
    for (size_t k = 0; k < C; k++)
        posterior[k] /= sum;
    return first;
}

void consensus_left_out(const float *p_class, const float *columns, const uint32_t *classes, size_t n, size_t n_classes,
                        double *scratch, double *expected, unsigned char *agrees)
{
    const size_t C = n_classes;
    double *sum = scratch, *rest = scratch + C;

    for (size_t k = 0; k < C; k++) {
        sum[k] = log_of(p_class[k]);
        for (size_t l = 0; l < n; l++)
            sum[k] += log_of(columns[l * C + k]);
    }
    for (size_t l = 0; l < n; l++) {
        size_t best = 0;
        double total = 0;

        for (size_t k = 0; k < C; k++) {
            rest[k] = sum[k] - log_of(columns[l * C + k]);
            if (rest[k] > rest[best])
                best = k;
        }
        for (size_t k = 0; k < C; k++)
            total += exp(rest[k] - rest[best]);
        expected[l] = exp(rest[classes[l]] - rest[best]) / total;
        agrees[l] = best == classes[l];
    }
}

const char *consensus_basis_name(enum consensus_basis basis)
{
    switch (basis) {
    case CONSENSUS_IN_SAMPLE:
        return "in_sample";
    case CONSENSUS_OUT_OF_FOLD:
        return "out_of_fold";
    case CONSENSUS_LABELS_ONLY:
        break;
    }
    return "labels_only";
}

struct consensus_state consensus_settle(enum consensus_basis basis, bool has_gold, double confidence, size_t n_labels,
                                        size_t n_different, double threshold, size_t overlap)
{
    struct consensus_state state = {false, false, false};
    size_t enough = basis == CONSENSUS_LABELS_ONLY && overlap > 1 ? overlap : 1;

    if (basis == CONSENSUS_IN_SAMPLE)
        return state;
    state.known = true;
    state.resolved = has_gold || (confidence >= threshold && n_labels >= enough);
    state.disputed = !state.resolved && n_different >= 2;
    return state;
}
