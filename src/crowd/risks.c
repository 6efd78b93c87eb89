/* risks.c - see risks.h. Sums run over instances and labels in the order they are given, in double, so that a model's
 * risks have the same bits however many threads train models. */
#include "crowd/risks.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "crowd/aggregate/majority.h"

static const char *const NAMES[RISKS] = {"class", "class_share",      "class_odds", "class_odds_share",
                                         "label", "label_confidence", "label_odds"};

enum {
    CLASS_RISK = 0, /* and three more: share, odds, odds and share */
    LABEL_RISK = 4  /* and two more: confidence, odds */
};

const char *risk_name(size_t risk)
{
    return NAMES[risk];
}

/* ---- votes ------------------------------------------------------------------------------------------------------- */

/* w_a = max(0, log(acc_a (C-1) / (1 - acc_a))); with both counts smoothed by one, acc_a is never 0 or 1. */
static void fill_odds(const struct crowd_labels *labels, const uint32_t *winner, uint64_t *given, uint64_t *agreed,
                      double *odds)
{
    for (size_t l = 0; l < labels->n_labels; l++) {
        given[labels->annotator[l]]++;
        agreed[labels->annotator[l]] += winner[labels->instance[l]] == labels->class_[l] ? 1 : 0;
    }
    for (size_t a = 0; a < labels->n_annotators; a++) {
        double accuracy = ((double)agreed[a] + 1.0) / ((double)given[a] + 2.0);

        odds[a] = given[a] > 0 ? fmax(0.0, log(accuracy * ((double)labels->n_classes - 1.0) / (1.0 - accuracy))) : 0.0;
    }
}

/* One instance's labels first .. end: the class whose voters weigh most, and its share. votes [C] is scratch, all 0
 * before and after. Only classes that were given can win. */
static uint32_t vote(const struct crowd_labels *labels, size_t first, size_t end, const double *odds, double *votes,
                     double *share)
{
    uint32_t best = CROWD_NO_CLASS;
    double sum = 0.0;

    for (size_t l = first; l < end; l++) {
        double weight = odds != NULL ? odds[labels->annotator[l]] : 1.0;

        votes[labels->class_[l]] += weight;
        sum += weight;
    }
    for (size_t l = first; l < end; l++) {
        uint32_t k = labels->class_[l];

        if (best == CROWD_NO_CLASS || votes[k] > votes[best] || (votes[k] >= votes[best] && k < best))
            best = k;
    }
    *share = sum > 0.0 ? votes[best] / sum : 0.0;
    for (size_t l = first; l < end; l++)
        votes[labels->class_[l]] = 0.0;
    return best;
}

static void vote_all(const struct crowd_labels *labels, const double *odds, double *votes, uint32_t *winner,
                     double *share)
{
    size_t first = 0, end;

    for (size_t i = 0; i < labels->n_instances; i++, first = end) {
        end = first;
        while (end < labels->n_labels && labels->instance[end] == i)
            end++;
        winner[i] = vote(labels, first, end, odds, votes, &share[i]);
    }
}

enum amx_status risk_votes_init(const struct crowd_labels *labels, struct risk_votes *out)
{
    const size_t N = labels->n_instances > 0 ? labels->n_instances : 1;
    const size_t A = labels->n_annotators > 0 ? labels->n_annotators : 1;
    struct risk_votes v = {{NULL, NULL}, {NULL, NULL}, NULL};
    double *votes = calloc(labels->n_classes > 0 ? labels->n_classes : 1, sizeof *votes);
    uint64_t *counts = calloc(A, 2 * sizeof *counts);
    enum amx_status status = AMX_NO_MEMORY;

    v.odds = calloc(A, sizeof *v.odds);
    for (int w = 0; w < 2; w++) {
        v.winner[w] = calloc(N, sizeof *v.winner[w]);
        v.share[w] = calloc(N, sizeof *v.share[w]);
    }
    if (votes == NULL || counts == NULL || v.odds == NULL || v.winner[0] == NULL || v.winner[1] == NULL ||
        v.share[0] == NULL || v.share[1] == NULL)
        goto done;
    vote_all(labels, NULL, votes, v.winner[0], v.share[0]);
    fill_odds(labels, v.winner[0], counts, counts + A, v.odds);
    vote_all(labels, v.odds, votes, v.winner[1], v.share[1]);
    for (size_t i = 0; i < labels->n_instances; i++) {
        if (!(v.share[1][i] > 0.0))
            v.winner[1][i] = v.winner[0][i];
    }
    *out = v;
    status = AMX_OK;
done:
    if (status != AMX_OK)
        risk_votes_done(&v);
    free(counts);
    free(votes);
    return status;
}

void risk_votes_done(struct risk_votes *votes)
{
    for (int w = 0; w < 2; w++) {
        free(votes->winner[w]);
        free(votes->share[w]);
    }
    free(votes->odds);
    memset(votes, 0, sizeof *votes);
}

/* ---- one model's risks ------------------------------------------------------------------------------------------- */

static size_t largest(const float *p, size_t n)
{
    size_t best = 0;

    for (size_t k = 1; k < n; k++)
        best = p[k] > p[best] ? k : best;
    return best;
}

static void add(struct risk_tally *tally, size_t risk, bool wrong, double weight)
{
    tally->error[risk] += wrong ? weight : 0.0;
    tally->weight[risk] += weight;
}

void risk_tally_instance(struct risk_tally *tally, const struct risk_votes *votes, size_t instance, const float *p,
                         size_t n_classes)
{
    size_t best = largest(p, n_classes);

    for (size_t w = 0; w < 2; w++) {
        bool wrong = best != votes->winner[w][instance];

        add(tally, CLASS_RISK + 2 * w, wrong, 1.0);
        add(tally, CLASS_RISK + 2 * w + 1, wrong, votes->share[w][instance]);
    }
}

void risk_tally_label(struct risk_tally *tally, const struct risk_votes *votes, uint32_t annotator, uint32_t label,
                      const float *p_annotation, size_t n_classes)
{
    size_t best = largest(p_annotation, n_classes);
    bool wrong = best != label;

    add(tally, LABEL_RISK, wrong, 1.0);
    add(tally, LABEL_RISK + 1, wrong, (double)p_annotation[best]);
    add(tally, LABEL_RISK + 2, wrong, votes->odds[annotator]);
}

void risk_tally_end(const struct risk_tally *tally, double risks[RISKS])
{
    for (size_t r = 0; r < RISKS; r++)
        risks[r] = tally->weight[r] > 0.0 ? tally->error[r] / tally->weight[r] : 0.0;
}

/* ---- ranks ------------------------------------------------------------------------------------------------------- */

struct ranked {
    double risk;
    size_t model;
};

static int by_risk(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;

    return (x->risk > y->risk) - (x->risk < y->risk);
}

enum amx_status risk_ranks(const double *risks, size_t n, double *ranks, double *score, double *deviation)
{
    struct ranked *order = calloc(n > 0 ? n : 1, sizeof *order);

    if (order == NULL)
        return AMX_NO_MEMORY;
    for (size_t r = 0; r < RISKS; r++) {
        for (size_t i = 0; i < n; i++)
            order[i] = (struct ranked){risks[i * RISKS + r], i};
        qsort(order, n, sizeof *order, by_risk);
        for (size_t first = 0, end; first < n; first = end) {
            end = first + 1;
            while (end < n && by_risk(&order[end], &order[first]) == 0)
                end++;
            /* Ranks first + 1 .. end, shared. */
            for (size_t i = first; i < end; i++)
                ranks[order[i].model * RISKS + r] = 0.5 * (double)(first + 1 + end);
        }
    }
    for (size_t i = 0; i < n; i++) {
        double sum = 0.0, squares = 0.0;

        for (size_t r = 0; r < RISKS; r++)
            sum += ranks[i * RISKS + r];
        score[i] = sum / RISKS;
        for (size_t r = 0; r < RISKS; r++)
            squares += (ranks[i * RISKS + r] - score[i]) * (ranks[i * RISKS + r] - score[i]);
        deviation[i] = sqrt(squares / RISKS);
    }
    free(order);
    return AMX_OK;
}
