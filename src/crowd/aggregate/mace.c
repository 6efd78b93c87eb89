/* mace.c - Hovy, Berg-Kirkpatrick, Vaswani, Hovy, "Learning Whom to Trust with MACE", NAACL 2013: annotator a knows
 * the true class with probability know_a and else guesses z with probability theta_a(z). Variational EM with Beta(.5,
 * .5) on know and Dirichlet(10) on theta, 50 rounds from each of 10 random starts; the start of the greatest likelihood
 * counts. Priors, rounds and starts are crowd-kit 1.4.2's defaults.
 *
 * Two things differ. crowd-kit mixes up the guesses of annotators and classes unless both happen to appear in sorted
 * order (a table sorted by name is read by order of appearance), and draws the same start ten times over; what it
 * gives on unsorted data is no result to follow. And the article takes the true classes as equally frequent: where nine
 * in ten instances are of one class, annotators who say so look like guessers (`product`: 82 % right). So every other
 * start also estimates the classes' shares, and wins only when its likelihood is better by (C - 1)/2 log N (Schwarz'
 * criterion): 93 % on `product`, the article's model where classes are balanced.
 *
 * With g = (1 - know) theta(z), P(z | k) is g for every k but z, where it is g + know. So the likelihood of class k is
 * prod g * prod over labels z = k of (g + know) / g: a label touches one class, and a round costs O(L + N C) without a
 * logarithm. Ratios reach 1e12, so an instance with many labels works with logarithms instead. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "aggregate_int.h"
#include "learn/rng.h"

enum {
    RESTARTS = 10,
    LABELS_IN_PRODUCT = 20 /* 1e12 ^ 20 < 1e308 */
};
#define START_SPREAD 1.5 /* parts of a start are uniform in 1..2.5 before they are made to sum to 1 */
#define KNOW_PRIOR 0.5
#define GUESS_PRIOR 10.0
#define LEAST 1e-12 /* of g and know, so that ratios stay finite */

struct mace {
    struct crowd_problem *p;
    struct given_rows rows;
    double *know;    /* [A] */
    double *guess;   /* [row] (1 - know) theta(z) */
    double *ratio;   /* [row] (g + know) / g */
    double *inverse; /* [row] its inverse */
    double *guessed; /* [row] expected labels that were guesses */
    double *known;   /* [A] expected labels that were knowledge */
    double *best;    /* [row] ratio of the best start, [A] know, [row] guess, [C] share behind it */
    double *labels;  /* [row] labels there are */
    double *share;   /* [C] of the true classes */
    bool shares;     /* this start estimates them */
};

static enum amx_status make(struct mace *m)
{
    const struct crowd_labels *l = &m->p->labels;
    enum amx_status status = given_rows_make(l, NULL, &m->rows);
    size_t n, A = l->n_annotators;

    if (status != AMX_OK)
        return status;
    n = m->rows.n + 1;
    m->know = calloc(A + 1, sizeof *m->know);
    m->known = calloc(A + 1, sizeof *m->known);
    m->guess = calloc(n, sizeof *m->guess);
    m->ratio = calloc(n, sizeof *m->ratio);
    m->inverse = calloc(n, sizeof *m->inverse);
    m->guessed = calloc(n, sizeof *m->guessed);
    m->labels = calloc(n, sizeof *m->labels);
    m->share = calloc(l->n_classes, sizeof *m->share);
    m->best = calloc(2 * n + A + l->n_classes, sizeof *m->best);
    if (m->know == NULL || m->known == NULL || m->guess == NULL || m->ratio == NULL || m->inverse == NULL ||
        m->guessed == NULL || m->labels == NULL || m->share == NULL || m->best == NULL)
        return AMX_NO_MEMORY;
    for (size_t at = 0; at < l->n_labels; at++)
        m->labels[m->rows.row_of[at]]++;
    return AMX_OK;
}

static void done(struct mace *m)
{
    free(m->best);
    free(m->share);
    free(m->labels);
    free(m->guessed);
    free(m->inverse);
    free(m->ratio);
    free(m->guess);
    free(m->known);
    free(m->know);
    given_rows_done(&m->rows);
}

static void set_ratio(struct mace *m, size_t r, double know, double guess)
{
    m->guess[r] = fmax(guess, LEAST);
    m->ratio[r] = (m->guess[r] + know) / m->guess[r];
    m->inverse[r] = 1 / m->ratio[r];
}

/* A random start. The classes an annotator never gave take no part but in the sum: their mean stands for them. */
static void start(struct mace *m, uint32_t restart)
{
    const struct crowd_labels *l = &m->p->labels;
    struct rng rng;

    m->shares = restart % 2 == 1;
    for (size_t k = 0; k < l->n_classes; k++)
        m->share[k] = 1 / (double)l->n_classes;
    rng_seed(&rng, m->p->seed, restart, RNG_MACE);
    for (size_t a = 0; a < l->n_annotators; a++) {
        const size_t first = m->rows.begin[a], end = m->rows.begin[a + 1];
        const double spam = 1 + START_SPREAD * rng_uniform(&rng), know = 1 + START_SPREAD * rng_uniform(&rng);
        double sum = (double)(l->n_classes - (end - first)) * (1 + START_SPREAD / 2);

        for (size_t r = first; r < end; r++)
            sum += m->guess[r] = 1 + START_SPREAD * rng_uniform(&rng);
        m->know[a] = know / (know + spam);
        for (size_t r = first; r < end; r++)
            set_ratio(m, r, m->know[a], (1 - m->know[a]) * m->guess[r] / sum);
    }
}

/* Scores of one instance from its labels first..end-1 into q, summing to 1; returns the logarithm of the sum before. */
static double infer(const struct mace *m, double *q, size_t first, size_t end)
{
    const struct crowd_labels *l = &m->p->labels;
    const size_t C = l->n_classes;
    double top = 0, sum = 0;

    if (end - first > LABELS_IN_PRODUCT) {
        memset(q, 0, C * sizeof *q);
        for (size_t at = first; at < end; at++)
            q[l->class_[at]] += log(m->ratio[m->rows.row_of[at]]);
        for (size_t k = 0; k < C; k++)
            top = fmax(top, q[k]);
        for (size_t k = 0; k < C; k++)
            q[k] = m->share[k] * exp(q[k] - top);
    } else {
        for (size_t k = 0; k < C; k++)
            q[k] = m->share[k];
        for (size_t at = first; at < end; at++)
            q[l->class_[at]] *= m->ratio[m->rows.row_of[at]];
    }
    for (size_t k = 0; k < C; k++)
        sum += q[k];
    for (size_t k = 0; k < C; k++)
        q[k] /= sum;
    return top + log(sum);
}

/* Posterior and expected counts. Returns the log likelihood when it is wanted, else 0: it costs a logarithm a row. */
static double expect(struct mace *m, bool wanted)
{
    const struct crowd_labels *l = &m->p->labels;
    const size_t C = l->n_classes;
    double likelihood = 0;
    size_t at = 0;

    memset(m->known, 0, l->n_annotators * sizeof *m->known);
    memset(m->guessed, 0, m->rows.n * sizeof *m->guessed);
    for (size_t i = 0; i < l->n_instances; i++) {
        double *q = m->p->posterior + i * C;
        size_t first = at;

        while (at < l->n_labels && l->instance[at] == i)
            at++;
        if (!problem_fix_gold(m->p, i))
            likelihood += infer(m, q, first, at);
        for (size_t j = first; j < at; j++) {
            const size_t r = m->rows.row_of[j];
            const double known = q[l->class_[j]] * (1 - m->inverse[r]);

            m->known[l->annotator[j]] += known;
            m->guessed[r] += 1 - known;
        }
    }
    for (size_t r = 0; wanted && r < m->rows.n; r++)
        likelihood += m->labels[r] * log(m->guess[r]);
    return wanted ? likelihood : 0;
}

/* Derivative of log Gamma for x > 0: recurrence up to 6, then the asymptotic series. */
static double digamma(double x)
{
    double shift = 0, y;

    for (; x < 6; x++)
        shift -= 1 / x;
    y = 1 / (x * x);
    return shift + log(x) - 0.5 / x - y * (1.0 / 12 - y * (1.0 / 120 - y * (1.0 / 252 - y * (1.0 / 240 - y / 132))));
}

/* share [C]: mean posterior, with one instance more of each class. */
static void estimate_shares(const struct mace *m, double *share)
{
    const size_t C = m->p->labels.n_classes, N = m->p->labels.n_instances;

    for (size_t k = 0; k < C; k++)
        share[k] = 1;
    for (size_t i = 0; i < N; i++) {
        for (size_t k = 0; k < C; k++)
            share[k] += m->p->posterior[i * C + k];
    }
    for (size_t k = 0; k < C; k++)
        share[k] /= (double)(N + C);
}

static void maximise(struct mace *m)
{
    const struct crowd_labels *l = &m->p->labels;

    if (m->shares)
        estimate_shares(m, m->share);
    for (size_t a = 0; a < l->n_annotators; a++) {
        double n = 0, whole, spam;

        for (size_t r = m->rows.begin[a]; r < m->rows.begin[a + 1]; r++)
            n += m->guessed[r];
        whole = digamma(n + m->known[a] + 2 * KNOW_PRIOR);
        spam = exp(digamma(n + KNOW_PRIOR) - whole);
        m->know[a] = exp(digamma(m->known[a] + KNOW_PRIOR) - whole);
        whole = digamma(n + GUESS_PRIOR * (double)l->n_classes);
        for (size_t r = m->rows.begin[a]; r < m->rows.begin[a + 1]; r++)
            set_ratio(m, r, m->know[a], spam * exp(digamma(m->guessed[r] + GUESS_PRIOR) - whole));
    }
}

/* Keeps or brings back a start's parameters. */
static void keep(struct mace *m, bool back)
{
    const size_t n = m->rows.n, A = m->p->labels.n_annotators;
    double *parts[4] = {m->ratio, m->know, m->guess, m->share}, *at = m->best;
    const size_t sizes[4] = {n, A, n, m->p->labels.n_classes};

    for (int i = 0; i < 4; at += sizes[i], i++)
        memcpy(back ? parts[i] : at, back ? at : parts[i], sizes[i] * sizeof *at);
    for (size_t r = 0; back && r < n; r++)
        m->inverse[r] = 1 / m->ratio[r];
}

/* How often right: knows, or guesses the true class, by the classes' shares. know and guess do not sum to 1 after a
 * variational step, so they are taken in proportion. */
static void judge(struct mace *m)
{
    const struct crowd_labels *l = &m->p->labels;
    const double all = GUESS_PRIOR * (double)l->n_classes;

    estimate_shares(m, m->share);
    for (size_t a = 0; a < l->n_annotators; a++) {
        double n = 0, lucky = GUESS_PRIOR, know;

        for (size_t r = m->rows.begin[a]; r < m->rows.begin[a + 1]; r++) {
            n += m->guessed[r];
            lucky += m->share[m->rows.class_[r]] * m->guessed[r];
        }
        know = (m->known[a] + KNOW_PRIOR) / (m->known[a] + n + 2 * KNOW_PRIOR);
        m->p->reliability[a] = know + (1 - know) * lucky / (all + n);
    }
}

/* All rounds from one start; *score = its likelihood less what its parameters cost. */
static enum amx_status climb(struct mace *m, uint32_t restart, double *score)
{
    struct crowd_problem *p = m->p;

    start(m, restart);
    (void)expect(m, false);
    for (int round = 1; round <= p->rounds; round++) {
        if (problem_stop(p, (double)p->rounds_run / ((double)p->rounds * RESTARTS)))
            return AMX_CANCELLED;
        p->rounds_run++;
        maximise(m);
        if (round < p->rounds)
            (void)expect(m, false);
    }
    *score = expect(m, true);
    if (m->shares)
        *score -= 0.5 * (double)(p->labels.n_classes - 1) * log((double)p->labels.n_instances);
    return AMX_OK;
}

enum amx_status mace_run(struct crowd_problem *p)
{
    struct mace m = {.p = p};
    double best = -(double)INFINITY, score = 0;
    enum amx_status status = make(&m);

    for (uint32_t restart = 0; status == AMX_OK && restart < RESTARTS; restart++) {
        status = climb(&m, restart, &score);
        if (status == AMX_OK && (restart == 0 || score > best)) {
            best = score;
            keep(&m, false);
        }
    }
    if (status == AMX_OK) {
        keep(&m, true);
        (void)expect(&m, false);
        judge(&m);
    }
    done(&m);
    return status;
}
