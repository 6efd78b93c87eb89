/* dawid_skene.c - Dawid & Skene, "Maximum Likelihood Estimation of Observer Error-Rates Using the EM Algorithm",
 * Applied Statistics 28 (1979): expectation (posterior of each instance's class), maximisation (class prior,
 * confusion matrices).
 *
 * Details follow crowd-kit, whose results ours are compared with: the posterior starts as vote shares; counts and
 * priors are clipped at 1e-10 before they are normalised; the evidence figure divided by the number of labels
 * stops the rounds when it grows by less than the tolerance. A class that an annotator never gave has no cell at all
 * (it stays 0 and takes no part in the normalisation), so clipping touches only cells P(z | k) of given classes z.
 * All in log space, so hundreds of labels on one instance do not underflow. A class that nobody gave has no
 * probability (crowd-kit does not know it).
 *
 * History of an annotator is added to its counts in every round (crowd-kit's "addition" does so in the first only, and
 * then forgets it); gold fixes the posterior in every round, as there.
 *
 * One pass over the labels per round: the posterior of an instance goes straight into the counts of the next
 * maximisation, and the stopping figure is taken from the counts and the entropies of the pass, because
 * sum over labels of q_k log P(z | k) = sum over cells of count log P. Only rows (annotator, given class) that occur
 * are kept, [row][k], one after another for each annotator: ten million labels of ten classes touch 80 bytes each. */
#include "dawid_skene.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "aggregate_int.h"
#include "learn/status.h"
#include "util/size.h"

#define CLIP 1e-10
/* Log of "never": exp gives 0, and 0 times it is 0, not NaN. */
#define NEVER (-1e300)
/* Two tables of 1 GiB; beyond that EM on a service's request is no longer an answer but an attack. */
#define MAX_CELLS ((size_t)1 << 27)

enum {
    AHEAD = 16,        /* labels: measured, 8 to 32 are alike */
    CELLS_IN_LINE = 8, /* of a cache line of 64 bytes */
    MOST_ASKED = 64
};

struct em {
    struct crowd_problem *p;
    struct given_rows rows;
    double *prior;       /* [C] sums of the posterior, then the prior */
    double *log_prior;   /* [C] */
    double *log_p;       /* [row][k] log P(z | k) */
    double *count;       /* [row][k] expected labels z where the truth is k */
    double *total;       /* [C] sums over z of one annotator */
    unsigned char *seen; /* [C] somebody gave it, or gold or history names it */
    double entropy;      /* of the posterior, summed over the instances of the last pass */
};

static void em_done(struct em *em)
{
    given_rows_done(&em->rows);
    free(em->seen);
    free(em->total);
    free(em->count);
    free(em->log_p);
    free(em->log_prior);
    free(em->prior);
}

/* Classes that can be true. */
static void mark_seen(struct em *em)
{
    const struct crowd_problem *p = em->p;
    const size_t C = p->labels.n_classes;

    for (size_t r = 0; r < em->rows.n; r++)
        em->seen[em->rows.class_[r]] = 1;
    for (size_t i = 0; p->gold != NULL && i < p->labels.n_instances; i++) {
        if (p->gold[i] >= 0)
            em->seen[p->gold[i]] = 1;
    }
    for (size_t i = 0; p->history != NULL && i < p->labels.n_annotators * C * C; i++) {
        if (p->history[i] > 0)
            em->seen[i / C % C] = 1;
    }
}

static enum amx_status em_make(struct em *em)
{
    const struct crowd_labels *l = &em->p->labels;
    const size_t C = l->n_classes;
    size_t cells;
    enum amx_status status = given_rows_make(l, em->p->history, &em->rows);

    if (status != AMX_OK)
        return status;
    if (!size_mul(&cells, em->rows.n, C) || cells > MAX_CELLS)
        return amx_fail(em->p->err, AMX_TOO_LARGE, "",
                        "The confusion matrices have %zu rows of %zu classes; %zu cells are the most.", em->rows.n, C,
                        MAX_CELLS);
    em->prior = calloc(C, sizeof *em->prior);
    em->log_prior = calloc(C, sizeof *em->log_prior);
    em->total = calloc(C, sizeof *em->total);
    em->seen = calloc(C, 1);
    em->log_p = malloc((cells + 1) * sizeof *em->log_p);
    em->count = malloc((cells + 1) * sizeof *em->count);
    if (em->prior == NULL || em->log_prior == NULL || em->total == NULL || em->seen == NULL || em->log_p == NULL ||
        em->count == NULL)
        return AMX_NO_MEMORY;
    mark_seen(em);
    return AMX_OK;
}

/* The counts of a pass begin with the history. */
static void clear_counts(struct em *em)
{
    const struct crowd_problem *p = em->p;
    const size_t C = p->labels.n_classes;

    em->entropy = 0;
    memset(em->prior, 0, C * sizeof *em->prior);
    memset(em->count, 0, em->rows.n * C * sizeof *em->count);
    for (size_t a = 0; p->history != NULL && a < p->labels.n_annotators; a++) {
        for (size_t r = em->rows.begin[a]; r < em->rows.begin[a + 1]; r++) {
            for (size_t k = 0; k < C; k++)
                em->count[r * C + k] = (double)p->history[(a * C + k) * C + em->rows.class_[r]];
        }
    }
}

/* to += from, four at a time, which compilers turn into vectors at -O2 too. */
static inline __attribute__((always_inline)) void add_row(double *restrict to, const double *restrict from,
                                                          const size_t n)
{
    size_t k = 0;

    for (; k + 4 <= n; k += 4) {
        for (size_t j = 0; j < 4; j++)
            to[k + j] += from[k + j];
    }
    for (; k < n; k++)
        to[k] += from[k];
}

/* Adds the posterior of one instance, labels first..end-1, to prior and counts. C as an argument: see expect. */
static inline __attribute__((always_inline)) void add_counts(struct em *em, const double *restrict q, size_t first,
                                                             size_t end, const size_t C)
{
    add_row(em->prior, q, C);
    for (size_t l = first; l < end; l++)
        add_row(em->count + (size_t)em->rows.row_of[l] * C, q, C);
}

/* Vote shares; an instance without labels starts (and, with no row to add, stays) near the prior: uniform. */
static void start(struct em *em)
{
    const struct crowd_labels *labels = &em->p->labels;
    const size_t C = labels->n_classes;
    size_t l = 0;

    clear_counts(em);
    for (size_t i = 0; i < labels->n_instances; i++) {
        double *q = em->p->posterior + i * C;
        size_t first = l;

        memset(q, 0, C * sizeof *q);
        for (; l < labels->n_labels && labels->instance[l] == i; l++)
            q[labels->class_[l]] += 1;
        for (size_t k = 0; k < C; k++)
            q[k] = l > first ? q[k] / (double)(l - first) : 1.0 / (double)C;
        (void)problem_fix_gold(em->p, i);
        add_counts(em, q, first, l, C);
    }
}

/* Rows come in no order that the processor could guess: asks for those of a later label. */
static inline __attribute__((always_inline)) void ask_for(const struct em *em, size_t label, const size_t C)
{
    if (label < em->p->labels.n_labels) {
        const size_t at = (size_t)em->rows.row_of[label] * C;

        for (size_t k = 0; k < C && k < MOST_ASKED; k += CELLS_IN_LINE) {
            __builtin_prefetch(em->log_p + at + k, 0);
            __builtin_prefetch(em->count + at + k, 1);
        }
    }
}

/* Expectation of every instance, counted at once. */
static inline __attribute__((always_inline)) void expect_of(struct em *em, const size_t C)
{
    const struct crowd_labels *labels = &em->p->labels;
    size_t l = 0;

    clear_counts(em);
    for (size_t i = 0; i < labels->n_instances; i++) {
        double *restrict q = em->p->posterior + i * C;
        size_t first = l;

        memcpy(q, em->log_prior, C * sizeof *q);
        for (; l < labels->n_labels && labels->instance[l] == i; l++) {
            ask_for(em, l + AHEAD, C);
            add_row(q, em->log_p + (size_t)em->rows.row_of[l] * C, C);
        }
        if (!problem_fix_gold(em->p, i))
            em->entropy += scores_to_posterior(q, C);
        add_counts(em, q, first, l, C);
    }
}

/* With two classes the loops over them cost more than what they do: that case is compiled on its own. */
static void expect(struct em *em)
{
    if (em->p->labels.n_classes == 2)
        expect_of(em, 2);
    else
        expect_of(em, em->p->labels.n_classes);
}

/* Class prior and confusion matrices from the counts. Returns crowd-kit's stopping figure: expected log joint plus
 * the posterior's entropy, with the class prior counted once per label (once per instance would be the true bound; but
 * then EM runs longer and ends elsewhere, on `duck` with another class for 1 of 108 instances). */
static double maximise(struct em *em)
{
    const struct crowd_labels *labels = &em->p->labels;
    const size_t C = labels->n_classes;
    double figure = em->entropy;

    for (size_t k = 0; k < C; k++) {
        em->prior[k] = fmax(em->prior[k] / (double)labels->n_instances, CLIP);
        em->log_prior[k] = em->seen[k] ? log(em->prior[k]) : NEVER;
    }
    for (size_t a = 0; a < labels->n_annotators; a++) {
        memset(em->total, 0, C * sizeof *em->total);
        for (size_t r = em->rows.begin[a]; r < em->rows.begin[a + 1]; r++) {
            for (size_t k = 0; k < C; k++)
                em->total[k] += fmax(em->count[r * C + k], CLIP);
        }
        for (size_t r = em->rows.begin[a]; r < em->rows.begin[a + 1]; r++) {
            for (size_t k = 0; k < C; k++) {
                const double n = em->count[r * C + k], log_p = log(fmax(n, CLIP) / em->total[k]);

                em->log_p[r * C + k] = log_p;
                figure += n * (log_p + em->log_prior[k]);
            }
        }
    }
    return figure / (double)(labels->n_labels > 0 ? labels->n_labels : 1);
}

/* AMX_CANCELLED, or AMX_OK with the results in *em and em->p. */
static enum amx_status iterate(struct em *em)
{
    struct crowd_problem *p = em->p;
    double bound = -(double)INFINITY;

    start(em);
    (void)maximise(em);
    p->converged = false;
    while (p->rounds_run < p->rounds && !p->converged) {
        double next;

        if (problem_stop(p, (double)p->rounds_run / p->rounds))
            return AMX_CANCELLED;
        p->rounds_run++;
        expect(em);
        next = maximise(em);
        p->converged = next - bound < p->tolerance;
        bound = next;
    }
    return AMX_OK;
}

enum amx_status dawid_skene_run(struct crowd_problem *p)
{
    struct em em = {.p = p};
    enum amx_status status = em_make(&em);

    if (status == AMX_OK)
        status = iterate(&em);
    em_done(&em);
    return status == AMX_OK ? votes_expected_right(p) : status;
}

/* ---- for callers that want the matrices -------------------------------------------------------------------------- */

static void copy_confusion(const struct em *em, double *confusion)
{
    const size_t C = em->p->labels.n_classes;

    memset(confusion, 0, em->p->labels.n_annotators * C * C * sizeof *confusion);
    for (size_t a = 0; a < em->p->labels.n_annotators; a++) {
        for (size_t r = em->rows.begin[a]; r < em->rows.begin[a + 1]; r++) {
            for (size_t k = 0; k < C; k++)
                confusion[(a * C + k) * C + em->rows.class_[r]] = exp(em->log_p[r * C + k]);
        }
    }
}

enum amx_status dawid_skene(const struct crowd_labels *labels, int max_rounds, double tolerance, double *posterior,
                            double *confusion, double *prior, int *rounds)
{
    struct crowd_problem p = {.labels = *labels, .rounds = max_rounds, .tolerance = tolerance, .posterior = posterior};
    struct em em = {.p = &p};
    enum amx_status status;

    if (rounds != NULL)
        *rounds = 0;
    if (labels->n_instances == 0 || labels->n_classes == 0)
        return AMX_OK;
    status = em_make(&em);
    if (status == AMX_OK)
        status = iterate(&em);
    if (status == AMX_OK && confusion != NULL)
        copy_confusion(&em, confusion);
    if (status == AMX_OK && prior != NULL)
        memcpy(prior, em.prior, labels->n_classes * sizeof *prior);
    if (status == AMX_OK && rounds != NULL)
        *rounds = p.rounds_run;
    em_done(&em);
    return status;
}

enum amx_status dawid_skene_reliability(const struct crowd_labels *labels, const double *posterior, double *reliability)
{
    const size_t C = labels->n_classes, A = labels->n_annotators;
    uint64_t *counts = calloc(A + 1, sizeof *counts);

    if (counts == NULL)
        return AMX_NO_MEMORY;
    memset(reliability, 0, A * sizeof *reliability);
    for (size_t l = 0; l < labels->n_labels; l++) {
        reliability[labels->annotator[l]] += posterior[(size_t)labels->instance[l] * C + labels->class_[l]];
        counts[labels->annotator[l]]++;
    }
    for (size_t a = 0; a < A; a++)
        reliability[a] = counts[a] > 0 ? reliability[a] / (double)counts[a] : (double)NAN;
    free(counts);
    return AMX_OK;
}
