/* votes.c - majority vote, and the two methods that only weigh votes: wawa (weight = share of the annotator's labels
 * that the majority shares) and zero-based skill (weights that follow, step by step, the agreement with the vote they
 * make; the step halves every 20 rounds). Both as in crowd-kit 1.4.2; where all weights on an instance are 0, crowd-kit
 * divides 0 by 0 and we take the plain vote. History counts as so many labels more, right on its diagonal. */
#include <stdlib.h>
#include <string.h>

#include "aggregate_int.h"
#include "dawid_skene.h"

enum {
    SKILL_STEPS = 20 /* rounds between two halvings */
};
#define SKILL_START_EXTRA 1e-5

/* Weighted vote shares into the posterior; weight NULL: 1 each. */
static void vote(struct crowd_problem *p, const double *weight)
{
    const struct crowd_labels *l = &p->labels;
    const size_t C = l->n_classes;
    size_t at = 0;

    for (size_t i = 0; i < l->n_instances; i++) {
        double *q = p->posterior + i * C, sum = 0;
        size_t first = at;

        memset(q, 0, C * sizeof *q);
        for (; at < l->n_labels && l->instance[at] == i; at++) {
            double w = weight != NULL ? weight[l->annotator[at]] : 1;

            q[l->class_[at]] += w;
            sum += w;
        }
        for (size_t j = first; j < at && !(sum > 0); j++)
            q[l->class_[j]] += 1;
        sum = sum > 0 ? sum : (double)(at - first);
        for (size_t k = 0; k < C; k++)
            q[k] /= sum;
        (void)problem_fix_gold(p, i);
    }
}

void votes_share(struct crowd_problem *p)
{
    vote(p, NULL);
}

/* Room for winners and counts of `agreement`. */
struct tally {
    uint32_t *winner; /* [N] */
    double *n;        /* [A] labels, with history */
    double *right;    /* [A] of history */
};

static void tally_done(struct tally *t)
{
    free(t->right);
    free(t->n);
    free(t->winner);
    *t = (struct tally){0}; /* a second call does no harm: tally_make may have been the first */
}

static enum amx_status tally_make(const struct crowd_problem *p, struct tally *t)
{
    const struct crowd_labels *l = &p->labels;
    const size_t A = l->n_annotators, C = l->n_classes;

    t->winner = calloc(l->n_instances + 1, sizeof *t->winner);
    t->n = calloc(A + 1, sizeof *t->n);
    t->right = calloc(A + 1, sizeof *t->right);
    if (t->winner == NULL || t->n == NULL || t->right == NULL) {
        tally_done(t);
        return AMX_NO_MEMORY;
    }
    for (size_t i = 0; i < l->n_labels; i++)
        t->n[l->annotator[i]]++;
    for (size_t a = 0; p->history != NULL && a < A; a++) {
        const float *h = p->history + a * C * C;

        for (size_t i = 0; i < C * C; i++)
            t->n[a] += (double)h[i];
        for (size_t k = 0; k < C; k++)
            t->right[a] += (double)h[k * C + k];
    }
    return AMX_OK;
}

/* share [A]: of its labels, how many are the winner of their instance. */
static void agreement(const struct crowd_problem *p, struct tally *t, double *share)
{
    const struct crowd_labels *l = &p->labels;

    aggregate_winners(p->posterior, l->n_instances, l->n_classes, t->winner);
    memcpy(share, t->right, l->n_annotators * sizeof *share);
    for (size_t i = 0; i < l->n_labels; i++)
        share[l->annotator[i]] += l->class_[i] == t->winner[l->instance[i]];
    for (size_t a = 0; a < l->n_annotators; a++)
        share[a] /= t->n[a];
}

enum amx_status votes_majority(struct crowd_problem *p)
{
    struct tally t = {0};
    enum amx_status status = tally_make(p, &t);

    if (status != AMX_OK)
        return status;
    vote(p, NULL);
    agreement(p, &t, p->reliability);
    tally_done(&t);
    return AMX_OK;
}

enum amx_status votes_wawa(struct crowd_problem *p)
{
    enum amx_status status = votes_majority(p);

    if (status == AMX_OK)
        vote(p, p->reliability);
    return status;
}

enum amx_status votes_zero_based_skill(struct crowd_problem *p)
{
    const size_t A = p->labels.n_annotators;
    double *share = malloc((A + 1) * sizeof *share), *skill = p->reliability, step = 1;
    struct tally t = {0};
    enum amx_status status = share != NULL ? tally_make(p, &t) : AMX_NO_MEMORY;

    for (size_t a = 0; a < A; a++)
        skill[a] = 1 / (double)p->labels.n_classes + SKILL_START_EXTRA;
    while (status == AMX_OK && p->rounds_run < p->rounds) {
        if (problem_stop(p, (double)p->rounds_run / p->rounds)) {
            status = AMX_CANCELLED;
            break;
        }
        p->rounds_run++;
        if (p->rounds_run % SKILL_STEPS == 0)
            step /= 2;
        vote(p, skill);
        agreement(p, &t, share);
        for (size_t a = 0; a < A; a++)
            skill[a] += step * (share[a] - skill[a]);
    }
    if (status == AMX_OK)
        vote(p, skill);
    tally_done(&t);
    free(share);
    return status;
}

enum amx_status votes_expected_right(struct crowd_problem *p)
{
    return dawid_skene_reliability(&p->labels, p->posterior, p->reliability);
}
