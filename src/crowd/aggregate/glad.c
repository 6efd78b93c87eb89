/* glad.c - Whitehill, Ruvolo, Wu, Bergsma, Movellan, "Whose Vote Should Count More", NIPS 2009: annotator a labels
 * instance i correctly with probability sigma(alpha_a exp(beta_i)), ability times easiness, and otherwise gives any
 * other class alike.
 *
 * As crowd-kit 1.4.2: alpha and beta start at 1 with priors N(1, 1), uniform class prior; each round is an expectation
 * and up to 25 steps of conjugate gradients (Polak-Ribiere, strong Wolfe conditions 1e-4 and 0.4, until no part of the
 * gradient exceeds 0.01); rounds end when Q / (L C) grows by less than the tolerance. The line search is our own
 * (Nocedal and Wright, algorithms 3.5 and 3.6, cubic steps), so paths differ in detail.
 *
 * A label's part of Q depends on the posterior of its own class alone: q x - log(1 + e^x) - (1 - q) log(C - 1) with
 * x = alpha exp(beta), gradient q - sigma(x). One exponential per label gives both; the logarithms are taken of
 * products of many factors 1 + e^-|x|. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "aggregate_int.h"
#include "util/size.h"

enum {
    STEPS = 25,        /* of conjugate gradients per round */
    SEARCH_TRIALS = 40,
    FACTORS = 512      /* each in (1, 2]: the product stays finite */
};
#define GRADIENT_END 1e-2
#define DECREASE 1e-4
#define CURVATURE 0.4

struct glad {
    struct crowd_problem *p;
    size_t n;         /* A + N parameters: alpha, then beta */
    double *block;    /* [5 n] the arrays below, which change places */
    double *given;    /* [L] posterior of the class given */
    double *at;       /* [n] the point */
    double *gradient; /* [n] */
    double *way;      /* [n] direction */
    double *trial;    /* [n] */
    double *trial_gradient;
    double spread;    /* sum over labels of (1 - q) log(C - 1): the part of Q without parameters */
};

/* One point of a line: distance t, value f, slope along the way. */
struct point {
    double t, f, slope;
};

static enum amx_status make(struct glad *g)
{
    const struct crowd_labels *l = &g->p->labels;
    size_t bytes;
    double *block;

    g->n = l->n_annotators + l->n_instances;
    if (!size_mul(&bytes, g->n, 5 * sizeof *block))
        return AMX_TOO_LARGE;
    block = malloc(bytes);
    g->given = malloc((l->n_labels + 1) * sizeof *g->given);
    g->block = g->at = block;
    if (block == NULL || g->given == NULL)
        return AMX_NO_MEMORY;
    g->gradient = block + g->n;
    g->way = block + 2 * g->n;
    g->trial = block + 3 * g->n;
    g->trial_gradient = block + 4 * g->n;
    for (size_t i = 0; i < g->n; i++)
        g->at[i] = 1;
    return AMX_OK;
}

static void done(struct glad *g)
{
    free(g->given);
    free(g->block);
}

/* log-odds of a label being right add up to the scores of the classes given. */
static void expect(struct glad *g)
{
    const struct crowd_labels *l = &g->p->labels;
    const size_t C = l->n_classes;
    const double others = log((double)C - 1), *alpha = g->at, *beta = g->at + l->n_annotators;
    size_t at = 0;

    g->spread = 0;
    for (size_t i = 0; i < l->n_instances; i++) {
        double *q = g->p->posterior + i * C, easy = exp(beta[i]);
        size_t first = at;

        memset(q, 0, C * sizeof *q);
        for (; at < l->n_labels && l->instance[at] == i; at++)
            q[l->class_[at]] += alpha[l->annotator[at]] * easy + others;
        if (!problem_fix_gold(g->p, i))
            (void)scores_to_posterior(q, C);
        for (size_t j = first; j < at; j++) {
            g->given[j] = q[l->class_[j]];
            g->spread += (1 - g->given[j]) * others;
        }
    }
}

/* -Q without its constants, and its gradient. */
static double evaluate(const struct glad *g, const double *restrict point, double *restrict gradient)
{
    const struct crowd_labels *l = &g->p->labels;
    const double *alpha = point, *beta = point + l->n_annotators;
    double *d_beta = gradient + l->n_annotators, q_sum = 0, product = 1, logs = 0, f = g->spread;
    size_t at = 0, factors = 0;

    for (size_t i = 0; i < g->n; i++) {
        gradient[i] = point[i] - 1;
        f += 0.5 * gradient[i] * gradient[i];
    }
    for (size_t i = 0; i < l->n_instances; i++) {
        const double easy = exp(beta[i]);
        double slope = 0;

        for (; at < l->n_labels && l->instance[at] == i; at++) {
            const uint32_t a = l->annotator[at];
            const double x = alpha[a] * easy, e = exp(-fabs(x)), one = 1 + e;
            const double sigma = (x >= 0 ? 1 : e) / one, d = sigma - g->given[at];

            q_sum += g->given[at] * x - (x > 0 ? x : 0);
            product *= one;
            if (++factors == FACTORS) {
                logs += log(product);
                product = 1;
                factors = 0;
            }
            gradient[a] += d * easy;
            slope += d * alpha[a];
        }
        d_beta[i] += slope * easy;
    }
    return f + logs + log(product) - q_sum;
}

static double dot(const double *a, const double *b, size_t n)
{
    double sum = 0;

    for (size_t i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

static struct point look(struct glad *g, double t)
{
    struct point p = {.t = t};

    for (size_t i = 0; i < g->n; i++)
        g->trial[i] = g->at[i] + t * g->way[i];
    p.f = evaluate(g, g->trial, g->trial_gradient);
    p.slope = dot(g->trial_gradient, g->way, g->n);
    if (!isfinite(p.f) || !isfinite(p.slope)) {
        p.f = (double)INFINITY;
        p.slope = 1;
    }
    return p;
}

/* Minimum of the cubic through two points, kept away from the ends of the interval. */
static double between(struct point a, struct point b)
{
    const double width = b.t - a.t, margin = 0.1 * fabs(width), low = fmin(a.t, b.t), high = fmax(a.t, b.t);
    double d1, d2, t;

    if (!isfinite(a.f) || !isfinite(b.f))
        return a.t + width / 10;
    d1 = a.slope + b.slope - 3 * (a.f - b.f) / (a.t - b.t);
    d2 = d1 * d1 - a.slope * b.slope;
    if (d2 < 0)
        return a.t + width / 2;
    d2 = width > 0 ? sqrt(d2) : -sqrt(d2);
    t = b.t - width * (b.slope + d2 - d1) / (b.slope - a.slope + 2 * d2);
    return isfinite(t) ? fmin(fmax(t, low + margin), high - margin) : a.t + width / 2;
}

/* A point of the line that meets both conditions; the trial arrays then hold it. False: none was found. */
static bool search(struct glad *g, struct point from, double first, struct point *out)
{
    struct point low = from, high = from, last = from, p;
    bool bracketed = false;
    double t = first;

    for (int trial = 0; trial < SEARCH_TRIALS; trial++) {
        bool worse;

        p = look(g, t);
        worse = p.f > from.f + DECREASE * t * from.slope || p.f >= low.f;
        if (!worse && fabs(p.slope) <= -CURVATURE * from.slope) {
            *out = p;
            return true;
        }
        if (!bracketed) {
            if (worse || p.slope >= 0) {
                bracketed = true;
                low = worse ? last : p;
                high = worse ? p : last;
            } else {
                last = low = p;
                t *= 2;
                continue;
            }
        } else if (worse) {
            high = p;
        } else {
            if (p.slope * (high.t - low.t) >= 0)
                high = low;
            low = p;
        }
        t = between(low, high);
        if (fabs(high.t - low.t) < 1e-12)
            break;
    }
    return false;
}

static double largest(const double *v, size_t n)
{
    double top = 0;

    for (size_t i = 0; i < n; i++)
        top = fmax(top, fabs(v[i]));
    return top;
}

static void swap(double **a, double **b)
{
    double *other = *a;

    *a = *b;
    *b = other;
}

/* Conjugate gradients from the point; returns the value reached. */
static double maximise(struct glad *g)
{
    double f = evaluate(g, g->at, g->gradient), square = dot(g->gradient, g->gradient, g->n);
    double before = f + sqrt(square) / 2;

    for (size_t i = 0; i < g->n; i++)
        g->way[i] = -g->gradient[i];
    for (int step = 0; step < STEPS && largest(g->gradient, g->n) > GRADIENT_END; step++) {
        struct point from = {0, f, dot(g->gradient, g->way, g->n)}, to;
        double first = 1, turn;

        if (from.slope >= 0) {
            for (size_t i = 0; i < g->n; i++)
                g->way[i] = -g->gradient[i];
            from.slope = -square;
        }
        if (2.02 * (f - before) / from.slope > 0)
            first = fmin(1, 2.02 * (f - before) / from.slope);
        if (!search(g, from, first, &to))
            break;
        turn = fmax(0, (dot(g->trial_gradient, g->trial_gradient, g->n) -
                        dot(g->trial_gradient, g->gradient, g->n)) / square);
        swap(&g->at, &g->trial);
        swap(&g->gradient, &g->trial_gradient);
        for (size_t i = 0; i < g->n; i++)
            g->way[i] = turn * g->way[i] - g->gradient[i];
        square = dot(g->gradient, g->gradient, g->n);
        before = f;
        f = to.f;
    }
    return f;
}

/* Mean probability of being right over the instances the annotator labelled. */
static enum amx_status judge(const struct glad *g)
{
    const struct crowd_labels *l = &g->p->labels;
    double *reliability = g->p->reliability, *n = calloc(l->n_annotators + 1, sizeof *n);

    if (n == NULL)
        return AMX_NO_MEMORY;
    memset(reliability, 0, l->n_annotators * sizeof *reliability);
    for (size_t at = 0; at < l->n_labels; at++) {
        const uint32_t a = l->annotator[at];

        reliability[a] += 1 / (1 + exp(-g->at[a] * exp(g->at[l->n_annotators + l->instance[at]])));
        n[a]++;
    }
    for (size_t a = 0; a < l->n_annotators; a++)
        reliability[a] /= n[a];
    free(n);
    return AMX_OK;
}

enum amx_status glad_run(struct crowd_problem *p)
{
    struct glad g = {.p = p};
    const double size = (double)p->labels.n_labels * (double)p->labels.n_classes;
    double last = -(double)INFINITY;
    enum amx_status status = make(&g);

    p->converged = false;
    while (status == AMX_OK && p->rounds_run < p->rounds && !p->converged) {
        double q;

        if (problem_stop(p, (double)p->rounds_run / p->rounds)) {
            status = AMX_CANCELLED;
            break;
        }
        p->rounds_run++;
        expect(&g);
        q = -maximise(&g) / size;
        p->converged = q - last < p->tolerance;
        last = q;
    }
    if (status == AMX_OK)
        status = judge(&g);
    done(&g);
    return status;
}
