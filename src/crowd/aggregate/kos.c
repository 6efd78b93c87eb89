/* kos.c - Karger, Oh, Shah, "Budget-Optimal Task Allocation for Reliable Crowdsourcing Systems", Operations Research
 * 62 (2014): messages along the labels, +1 for one class and -1 for the other,
 *     x(i->a) = sum over the other labels of i of A(i,b) y(b->i),    y(a->i) = sum over the other labels of a of
 *     A(j,a) x(j->a),
 * from y ~ N(1, 1); the class of i is the sign of sum A(i,a) y(a->i).
 *
 * As crowd-kit 1.4.2 (100 rounds), but the messages are scaled to largest magnitude 1 in every round (only their
 * proportions count), where crowd-kit lets them grow and stops at 1e300. The posterior is the weighted vote share,
 * (1 + sum A y / sum |y|) / 2. Where nothing can be inferred (no annotator has two labels) the vote shares stay, and an
 * instance all of whose messages are 0 keeps its own. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "aggregate_int.h"
#include "learn/rng.h"

struct kos {
    struct crowd_problem *p;
    double *y, *x;      /* [L] messages to the instance, to the annotator */
    double *to, *from;  /* [N], [A] sums */
};

/* Class 0 speaks for +1. */
static double sign_of(const struct crowd_labels *l, size_t at)
{
    return l->class_[at] == 0 ? 1.0 : -1.0;
}

/* out[t] = sums over each target's labels of sign * in, less the label's own: the other side's messages. */
static void pass(const struct crowd_labels *l, const uint32_t *target, size_t n, const double *in, double *sums,
                 double *out)
{
    memset(sums, 0, n * sizeof *sums);
    for (size_t at = 0; at < l->n_labels; at++)
        sums[target[at]] += sign_of(l, at) * in[at];
    for (size_t at = 0; at < l->n_labels; at++)
        out[at] = sums[target[at]] - sign_of(l, at) * in[at];
}

static void start(struct kos *s)
{
    struct rng rng;

    rng_seed(&rng, s->p->seed, 0, RNG_KOS);
    for (size_t at = 0; at < s->p->labels.n_labels; at++) {
        /* Box and Muller; 1 - u is never 0. */
        double radius = sqrt(-2 * log(1 - rng_uniform(&rng)));

        s->y[at] = 1 + radius * cos(6.283185307179586 * rng_uniform(&rng));
    }
}

static void scale(double *values, size_t n)
{
    double top = 0;

    for (size_t i = 0; i < n; i++)
        top = fmax(top, fabs(values[i]));
    for (size_t i = 0; i < n && top > 0; i++)
        values[i] /= top;
}

static void decide(struct kos *s)
{
    const struct crowd_labels *l = &s->p->labels;
    size_t at = 0;

    votes_share(s->p);
    for (size_t i = 0; i < l->n_instances; i++) {
        double sum = 0, size = 0;

        for (; at < l->n_labels && l->instance[at] == i; at++) {
            sum += sign_of(l, at) * s->y[at];
            size += fabs(s->y[at]);
        }
        if (size > 0) {
            s->p->posterior[2 * i] = (1 + sum / size) / 2;
            s->p->posterior[2 * i + 1] = (1 - sum / size) / 2;
        }
    }
}

enum amx_status kos_run(struct crowd_problem *p)
{
    const struct crowd_labels *l = &p->labels;
    struct kos s = {
        .p = p,
        .y = calloc(l->n_labels + 1, sizeof *s.y),
        .x = calloc(l->n_labels + 1, sizeof *s.x),
        .to = calloc(l->n_instances + 1, sizeof *s.to),
        .from = calloc(l->n_annotators + 1, sizeof *s.from),
    };
    enum amx_status status = AMX_OK;

    if (s.y == NULL || s.x == NULL || s.to == NULL || s.from == NULL) {
        status = AMX_NO_MEMORY;
        goto done;
    }
    start(&s);
    while (p->rounds_run < p->rounds) {
        if (problem_stop(p, (double)p->rounds_run / p->rounds)) {
            status = AMX_CANCELLED;
            goto done;
        }
        p->rounds_run++;
        pass(l, l->instance, l->n_instances, s.y, s.to, s.x);
        pass(l, l->annotator, l->n_annotators, s.x, s.from, s.y);
        scale(s.y, l->n_labels);
    }
    decide(&s);
    status = votes_expected_right(p);
done:
    free(s.from);
    free(s.to);
    free(s.x);
    free(s.y);
    return status;
}
