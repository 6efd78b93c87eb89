/* dawid_skene.c - Dawid & Skene, "Maximum Likelihood Estimation of Observer Error-Rates Using the EM Algorithm",
 * Applied Statistics 28 (1979): expectation (posterior of each instance's class), maximisation (class prior,
 * confusion matrices).
 *
 * Details follow crowd-kit, whose results ours are compared with: the posterior starts as vote shares; counts and
 * priors are clipped at 1e-10 before they are normalised; the evidence figure divided by the number of labels
 * stops the rounds when it grows by less than the tolerance. A class that an annotator never gave has no cell at all
 * (it stays 0 and takes no part in the normalisation), so clipping touches only cells P(z | k) of given classes z.
 * All in log space, so hundreds of labels on one instance do not underflow.
 *
 * Confusion matrices are kept transposed, [A][z][k], because the expectation adds whole columns. */
#include "crowd/dawid_skene.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "util/size.h"

#define CLIP 1e-10
/* 1 GiB of matrices; beyond that EM on a service's request is no longer an answer but an attack. */
#define MAX_CELLS ((size_t)1 << 27)

struct em {
    const struct crowd_labels *labels;
    double *posterior;    /* [N][C] */
    double *prior;        /* [C] */
    double *log_prior;    /* [C] */
    double *log_p;        /* [A][z][k] log P(z | k), or counts while they are being summed */
    double *total;        /* [C] sums over z of one annotator */
    unsigned char *given; /* [A][z] the annotator gave z at least once */
};

/* Class prior and confusion matrices from the posterior. */
static void maximise(struct em *em)
{
    const struct crowd_labels *labels = em->labels;
    const size_t N = labels->n_instances, C = labels->n_classes;

    memset(em->prior, 0, C * sizeof *em->prior);
    for (size_t i = 0; i < N; i++) {
        for (size_t k = 0; k < C; k++)
            em->prior[k] += em->posterior[i * C + k];
    }
    for (size_t k = 0; k < C; k++) {
        em->prior[k] = fmax(em->prior[k] / (double)N, CLIP);
        em->log_prior[k] = log(em->prior[k]);
    }
    memset(em->log_p, 0, labels->n_annotators * C * C * sizeof *em->log_p);
    for (size_t l = 0; l < labels->n_labels; l++) {
        double *column = em->log_p + ((size_t)labels->annotator[l] * C + labels->class_[l]) * C;
        const double *q = em->posterior + (size_t)labels->instance[l] * C;

        for (size_t k = 0; k < C; k++)
            column[k] += q[k];
    }
    for (size_t a = 0; a < labels->n_annotators; a++) {
        double *matrix = em->log_p + a * C * C;

        memset(em->total, 0, C * sizeof *em->total);
        for (size_t z = 0; z < C; z++) {
            for (size_t k = 0; em->given[a * C + z] && k < C; k++) {
                matrix[z * C + k] = fmax(matrix[z * C + k], CLIP);
                em->total[k] += matrix[z * C + k];
            }
        }
        for (size_t z = 0; z < C; z++) {
            for (size_t k = 0; em->given[a * C + z] && k < C; k++)
                matrix[z * C + k] = log(matrix[z * C + k] / em->total[k]);
        }
    }
}

/* scores: log p(k) + sum of log P(z | k) -> probabilities. */
static void normalise(double *scores, size_t C)
{
    double top = scores[0], sum = 0;

    for (size_t k = 1; k < C; k++)
        top = fmax(top, scores[k]);
    for (size_t k = 0; k < C; k++)
        sum += scores[k] = exp(scores[k] - top);
    for (size_t k = 0; k < C; k++)
        scores[k] /= sum;
}

static void expect(struct em *em)
{
    const struct crowd_labels *labels = em->labels;
    const size_t C = labels->n_classes;
    size_t l = 0;

    for (size_t i = 0; i < labels->n_instances; i++) {
        double *q = em->posterior + i * C;

        memcpy(q, em->log_prior, C * sizeof *q);
        for (; l < labels->n_labels && labels->instance[l] == i; l++) {
            const double *column = em->log_p + ((size_t)labels->annotator[l] * C + labels->class_[l]) * C;

            for (size_t k = 0; k < C; k++)
                q[k] += column[k];
        }
        normalise(q, C);
    }
}

/* crowd-kit's stopping figure: expected log joint plus the posterior's entropy, with the class prior counted once per
 * label (once per instance would be the true bound; but then EM runs longer and ends elsewhere, on `duck` with
 * another class for 1 of 108 instances). */
static double stopping_figure(const struct em *em)
{
    const struct crowd_labels *labels = em->labels;
    const size_t C = labels->n_classes;
    double figure = 0;

    for (size_t l = 0; l < labels->n_labels; l++) {
        const double *column = em->log_p + ((size_t)labels->annotator[l] * C + labels->class_[l]) * C;
        const double *q = em->posterior + (size_t)labels->instance[l] * C;

        for (size_t k = 0; k < C; k++)
            figure += q[k] * (column[k] + em->log_prior[k]);
    }
    for (size_t i = 0; i < labels->n_instances * C; i++) {
        if (em->posterior[i] > 0)
            figure -= em->posterior[i] * log(em->posterior[i]);
    }
    return figure;
}

/* Vote shares; an instance without labels starts (and, with no column to add, stays) near the prior: uniform. */
static void start(struct em *em)
{
    const struct crowd_labels *labels = em->labels;
    const size_t C = labels->n_classes;
    size_t l = 0;

    memset(em->given, 0, labels->n_annotators * C);
    for (size_t i = 0; i < labels->n_instances; i++) {
        double *q = em->posterior + i * C;
        size_t first = l;

        memset(q, 0, C * sizeof *q);
        for (; l < labels->n_labels && labels->instance[l] == i; l++) {
            q[labels->class_[l]] += 1;
            em->given[(size_t)labels->annotator[l] * C + labels->class_[l]] = 1;
        }
        for (size_t k = 0; k < C; k++)
            q[k] = l > first ? q[k] / (double)(l - first) : 1.0 / (double)C;
    }
}

static void copy_confusion(const struct em *em, double *confusion)
{
    const size_t C = em->labels->n_classes;

    for (size_t a = 0; a < em->labels->n_annotators; a++) {
        for (size_t k = 0; k < C; k++) {
            for (size_t z = 0; z < C; z++)
                confusion[(a * C + k) * C + z] = em->given[a * C + z] ? exp(em->log_p[(a * C + z) * C + k]) : 0.0;
        }
    }
}

enum amx_status dawid_skene(const struct crowd_labels *labels, int max_rounds, double tolerance, double *posterior,
                            double *confusion, double *prior, int *rounds)
{
    const size_t C = labels->n_classes;
    enum amx_status status = AMX_OK;
    struct em em = {.labels = labels, .posterior = posterior};
    double bound = -(double)INFINITY;
    size_t row, cells;
    int round = 0;

    if (labels->n_instances == 0 || C == 0) {
        if (rounds != NULL)
            *rounds = 0;
        return AMX_OK;
    }
    if (!size_mul(&row, labels->n_annotators, C) || !size_mul(&cells, row, C) || cells > MAX_CELLS)
        return AMX_TOO_LARGE;
    em.prior = malloc(C * sizeof *em.prior);
    em.log_prior = malloc(C * sizeof *em.log_prior);
    em.total = malloc(C * sizeof *em.total);
    em.log_p = malloc((cells > 0 ? cells : 1) * sizeof *em.log_p);
    em.given = malloc(row > 0 ? row : 1);
    if (em.prior == NULL || em.log_prior == NULL || em.total == NULL || em.log_p == NULL || em.given == NULL) {
        status = AMX_NO_MEMORY;
        goto done;
    }
    start(&em);
    maximise(&em);
    while (round < max_rounds) {
        double next;

        round++;
        expect(&em);
        maximise(&em);
        next = stopping_figure(&em) / (double)(labels->n_labels > 0 ? labels->n_labels : 1);
        if (next - bound < tolerance)
            break;
        bound = next;
    }
    if (confusion != NULL)
        copy_confusion(&em, confusion);
    if (prior != NULL)
        memcpy(prior, em.prior, C * sizeof *prior);
    if (rounds != NULL)
        *rounds = round;
done:
    free(em.given);
    free(em.log_p);
    free(em.total);
    free(em.log_prior);
    free(em.prior);
    return status;
}

enum amx_status dawid_skene_reliability(const struct crowd_labels *labels, const double *posterior, double *reliability)
{
    const size_t C = labels->n_classes, A = labels->n_annotators;
    uint64_t *counts = calloc(A > 0 ? A : 1, sizeof *counts);

    if (counts == NULL)
        return AMX_NO_MEMORY;
    for (size_t a = 0; a < A; a++)
        reliability[a] = 0;
    for (size_t l = 0; l < labels->n_labels; l++) {
        reliability[labels->annotator[l]] += posterior[(size_t)labels->instance[l] * C + labels->class_[l]];
        counts[labels->annotator[l]]++;
    }
    for (size_t a = 0; a < A; a++)
        reliability[a] = counts[a] > 0 ? reliability[a] / (double)counts[a] : (double)NAN;
    free(counts);
    return AMX_OK;
}
