/* risks.h - how wrong a model is by the crowd's own labels, and which of several models is best by that.
 *
 * Seven zero-one risks on labels that the model did not see (held out), all weighted means in [0, 1]:
 *   0 class             1{argmax p != v_i}, v_i = class with most votes
 *   1 class_share       the same, instances weighted by the winner's share of the votes
 *   2 class_odds        as 0 with votes of weight w_a = max(0, log(acc_a (C-1) / (1 - acc_a)))
 *   3 class_odds_share  as 1 with these weights
 *   4 label             1{argmax p_annotation != z}, every label alike
 *   5 label_confidence  labels weighted by max_c p_annotation
 *   6 label_odds        labels weighted by w_a
 * acc_a = (labels of a that equal the unweighted vote + 1) / (labels of a + 2), over all labels. Votes and weights are
 * the same for every model. A weighted mean is sum(w error) / sum(w), 0 when all weights are 0. */
#ifndef CROWD_RISKS_H
#define CROWD_RISKS_H

#include "annotmix.h"
#include "crowd/labels.h"

enum {
    RISKS = 7
};

const char *risk_name(size_t risk); /* "class_share"; static */

/* What all models are measured against. */
struct risk_votes {
    uint32_t *winner[2]; /* [N] unweighted, by log-odds: most votes, lowest index on ties; CROWD_NO_CLASS: no labels */
    double *share[2];    /* [N] the winner's share of the votes; 0 when they weigh nothing */
    double *odds;        /* [A] w_a; 0 without labels */
};
/* Two passes over the labels. An instance whose voters all weigh 0 keeps its unweighted winner, with share 0. On
 * failure (AMX_NO_MEMORY) nothing is held. */
AMX_CHECK enum amx_status risk_votes_init(const struct crowd_labels *labels, struct risk_votes *out);
void risk_votes_done(struct risk_votes *votes);

/* Sums of one model, filled in a fixed order of instances and labels so that the same model gives the same bits. */
struct risk_tally {
    double error[RISKS], weight[RISKS];
};
/* p [C] of an instance that has labels; p_annotation [C] of one of its labels. */
void risk_tally_instance(struct risk_tally *tally, const struct risk_votes *votes, size_t instance, const float *p,
                         size_t n_classes);
void risk_tally_label(struct risk_tally *tally, const struct risk_votes *votes, uint32_t annotator, uint32_t label,
                      const float *p_annotation, size_t n_classes);
void risk_tally_end(const struct risk_tally *tally, double risks[RISKS]);

/* Ranks of n models in each risk, 1 = smallest, equal risks share the mean of their ranks. risks, ranks [n][RISKS];
 * score [n] = mean rank, deviation [n] = population deviation of the ranks. AMX_NO_MEMORY. */
AMX_CHECK enum amx_status risk_ranks(const double *risks, size_t n, double *ranks, double *score, double *deviation);

#endif
