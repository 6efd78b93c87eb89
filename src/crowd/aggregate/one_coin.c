/* one_coin.c - one-coin Dawid-Skene (Zhang, Chen, Zhou, Jordan, "Spectral Methods Meet EM", JMLR 17, 2016): annotator
 * a is right with probability s_a whatever the true class, and otherwise gives any other class alike.
 *
 * As crowd-kit 1.4.2: start from vote shares; s_a = mean posterior of the classes a gave; probabilities clipped at
 * 1e-10; the same stopping figure as dawid_skene. Because the wrong classes are alike, a label adds
 * log s - log((1 - s)/(C - 1)) to the score of its own class only, so a round costs O(L + N C), not O(L C). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "aggregate_int.h"

#define CLIP 1e-10

struct coin {
    struct crowd_problem *p;
    double *n, *right;      /* [A] labels; expected right ones. With history */
    double *gain;           /* [A] log s - log wrong */
    double *prior;          /* [C] sums of the posterior */
    double *log_prior;      /* [C] */
    double *label_prior;    /* [C] sums of the posterior, once per label */
    double *history;        /* [2 A] labels and right ones of history */
    double entropy;
};

static enum amx_status make(struct coin *c)
{
    const struct crowd_labels *l = &c->p->labels;
    const size_t A = l->n_annotators, C = l->n_classes;

    c->n = calloc(A + 1, sizeof *c->n);
    c->right = calloc(A + 1, sizeof *c->right);
    c->gain = calloc(A + 1, sizeof *c->gain);
    c->prior = calloc(C, sizeof *c->prior);
    c->log_prior = calloc(C, sizeof *c->log_prior);
    c->label_prior = calloc(C, sizeof *c->label_prior);
    c->history = calloc(2 * A + 1, sizeof *c->history);
    if (c->n == NULL || c->right == NULL || c->gain == NULL || c->prior == NULL || c->log_prior == NULL ||
        c->label_prior == NULL || c->history == NULL)
        return AMX_NO_MEMORY;
    for (size_t a = 0; c->p->history != NULL && a < A; a++) {
        const float *h = c->p->history + a * C * C;

        for (size_t i = 0; i < C * C; i++)
            c->history[2 * a] += (double)h[i];
        for (size_t k = 0; k < C; k++)
            c->history[2 * a + 1] += (double)h[k * C + k];
    }
    for (size_t a = 0; a < A; a++)
        c->n[a] = c->history[2 * a];
    for (size_t i = 0; i < l->n_labels; i++)
        c->n[l->annotator[i]]++;
    return AMX_OK;
}

static void done(struct coin *c)
{
    free(c->history);
    free(c->label_prior);
    free(c->log_prior);
    free(c->prior);
    free(c->gain);
    free(c->right);
    free(c->n);
}

static void clear(struct coin *c)
{
    const size_t C = c->p->labels.n_classes;

    c->entropy = 0;
    memset(c->prior, 0, C * sizeof *c->prior);
    memset(c->label_prior, 0, C * sizeof *c->label_prior);
    for (size_t a = 0; a < c->p->labels.n_annotators; a++)
        c->right[a] = c->history[2 * a + 1];
}

/* Adds the posterior of instance i, whose labels are first..end-1, to the sums. */
static void count(struct coin *c, size_t i, size_t first, size_t end)
{
    const struct crowd_labels *l = &c->p->labels;
    const size_t C = l->n_classes;
    const double *q = c->p->posterior + i * C;

    for (size_t k = 0; k < C; k++) {
        c->prior[k] += q[k];
        c->label_prior[k] += (double)(end - first) * q[k];
    }
    for (size_t at = first; at < end; at++)
        c->right[l->annotator[at]] += q[l->class_[at]];
}

/* The sums of the posterior as it stands: vote shares. */
static void start(struct coin *c)
{
    const struct crowd_labels *l = &c->p->labels;
    size_t at = 0, first;

    clear(c);
    votes_share(c->p);
    for (size_t i = 0; i < l->n_instances; i++) {
        for (first = at; at < l->n_labels && l->instance[at] == i; at++)
            continue;
        count(c, i, first, at);
    }
}

static void expect(struct coin *c)
{
    const struct crowd_labels *l = &c->p->labels;
    const size_t C = l->n_classes;
    size_t at = 0;

    clear(c);
    for (size_t i = 0; i < l->n_instances; i++) {
        double *q = c->p->posterior + i * C;
        size_t first = at;

        memcpy(q, c->log_prior, C * sizeof *q);
        for (; at < l->n_labels && l->instance[at] == i; at++)
            q[l->class_[at]] += c->gain[l->annotator[at]];
        if (!problem_fix_gold(c->p, i))
            c->entropy += scores_to_posterior(q, C);
        count(c, i, first, at);
    }
}

static double clip(double p)
{
    return fmin(fmax(p, CLIP), 1 - CLIP);
}

/* Skills and class prior from the sums; returns the stopping figure (dawid_skene.c). */
static double maximise(struct coin *c)
{
    const struct crowd_labels *l = &c->p->labels;
    double figure = c->entropy;

    for (size_t k = 0; k < l->n_classes; k++) {
        c->log_prior[k] = log(fmax(c->prior[k] / (double)l->n_instances, CLIP));
        figure += c->label_prior[k] * c->log_prior[k];
    }
    for (size_t a = 0; a < l->n_annotators; a++) {
        const double s = c->right[a] / c->n[a], log_right = log(clip(s));
        const double log_wrong = log(clip((1 - s) / (double)(l->n_classes - 1)));

        c->p->reliability[a] = s;
        c->gain[a] = log_right - log_wrong;
        figure += c->right[a] * log_right + (c->n[a] - c->right[a]) * log_wrong;
    }
    return figure / (double)l->n_labels;
}

enum amx_status one_coin_run(struct crowd_problem *p)
{
    struct coin c = {.p = p};
    enum amx_status status = make(&c);
    double bound = -(double)INFINITY;

    if (status != AMX_OK)
        goto end;
    start(&c);
    (void)maximise(&c);
    p->converged = false;
    while (p->rounds_run < p->rounds && !p->converged) {
        double next;

        if (problem_stop(p, (double)p->rounds_run / p->rounds)) {
            status = AMX_CANCELLED;
            break;
        }
        p->rounds_run++;
        expect(&c);
        next = maximise(&c);
        p->converged = next - bound < p->tolerance;
        bound = next;
    }
end:
    done(&c);
    return status;
}
