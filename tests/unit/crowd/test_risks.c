/* test_risks.c - votes, weights, the seven risks and ranks against values worked out by hand. */
#include "test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "crowd/risks.h"

/* Four instances, three annotators, three classes.
 *   i0: a0 says 0, a1 says 0, a2 says 1     vote 0
 *   i1: a0 says 1, a2 says 2                tie, lowest: 1
 *   i2: a1 says 2                           vote 2
 *   i3: nobody
 * Agreement with the vote: a0 2 of 2, a1 2 of 2, a2 0 of 2, so acc = 3/4, 3/4, 1/4 and
 * w = log(3/4 * 2 / (1/4)) = log 6, log 6, max(0, log(1/4 * 2 / (3/4))) = 0. */
static const uint32_t INSTANCE[] = {0, 0, 0, 1, 1, 2}, ANNOTATOR[] = {0, 1, 2, 0, 2, 1}, CLASS[] = {0, 0, 1, 1, 2, 2};
static const struct crowd_labels LABELS = {4, 3, 3, 6, INSTANCE, ANNOTATOR, CLASS};

TEST(crowd_risks_votes)
{
    struct risk_votes votes;

    CHECK_INT(risk_votes_init(&LABELS, &votes), AMX_OK);
    CHECK_NEAR(votes.odds[0], log(6.0), 1e-12);
    CHECK_NEAR(votes.odds[1], log(6.0), 1e-12);
    CHECK_NEAR(votes.odds[2], 0.0, 0.0);
    for (int w = 0; w < 2; w++) {
        CHECK_INT(votes.winner[w][0], 0);
        CHECK_INT(votes.winner[w][1], 1);
        CHECK_INT(votes.winner[w][2], 2);
        CHECK_INT(votes.winner[w][3], CROWD_NO_CLASS);
        CHECK_NEAR(votes.share[w][3], 0.0, 0.0);
    }
    CHECK_NEAR(votes.share[0][0], 2.0 / 3.0, 1e-12);
    CHECK_NEAR(votes.share[0][1], 0.5, 1e-12);
    CHECK_NEAR(votes.share[0][2], 1.0, 0.0);
    /* By log-odds the second annotator of i0 and i1 weighs nothing. */
    CHECK_NEAR(votes.share[1][0], 1.0, 1e-12);
    CHECK_NEAR(votes.share[1][1], 1.0, 1e-12);
    risk_votes_done(&votes);
    risk_votes_done(&votes);
}

TEST(crowd_risks_voters_that_weigh_nothing)
{
    /* i0: a1 2, a2 2, a3 0. i1: a1 0, a2 1. i2: a2 1. a0 says nothing. */
    const uint32_t instance[] = {0, 0, 0, 1, 1, 2}, annotator[] = {1, 2, 3, 1, 2, 2}, label[] = {2, 2, 0, 0, 1, 1};
    const struct crowd_labels labels = {3, 4, 3, 6, instance, annotator, label};
    struct risk_votes votes;

    CHECK_INT(risk_votes_init(&labels, &votes), AMX_OK);
    /* Votes: i0 2, i1 tie 0 1 -> 0, i2 1. a1: 2 of 2; a2: i0 yes, i1 no, i2 yes: 2 of 3; a3: 0 of 1. */
    CHECK_INT(votes.winner[0][0], 2);
    CHECK_INT(votes.winner[0][1], 0);
    CHECK_NEAR(votes.odds[0], 0.0, 0.0); /* no labels */
    CHECK_NEAR(votes.odds[1], log(3.0 / 4.0 * 2.0 / (1.0 / 4.0)), 1e-12);
    CHECK_NEAR(votes.odds[2], log(3.0 / 5.0 * 2.0 / (2.0 / 5.0)), 1e-12);
    CHECK_NEAR(votes.odds[3], 0.0, 0.0); /* log(1/3 * 2 / (2/3)) = 0 */
    CHECK_NEAR(votes.share[1][0], 1.0, 1e-12);
    CHECK_NEAR(votes.share[1][1], log(6.0) / (log(6.0) + log(3.0)), 1e-12);
    risk_votes_done(&votes);
}

TEST(crowd_risks_all_odds_zero_keep_the_vote)
{
    /* Two classes, every annotator right half of the time: log(1/2 / (1/2)) = 0. */
    const uint32_t instance[] = {0, 0, 1, 1}, annotator[] = {0, 1, 0, 1}, label[] = {1, 0, 0, 1};
    const struct crowd_labels labels = {2, 2, 2, 4, instance, annotator, label};
    struct risk_tally tally = {{0}, {0}};
    struct risk_votes votes;
    const float p[2] = {0.4F, 0.6F};
    double risks[RISKS];

    CHECK_INT(risk_votes_init(&labels, &votes), AMX_OK);
    for (int i = 0; i < 2; i++) {
        CHECK_INT(votes.winner[1][i], 0);
        CHECK_NEAR(votes.share[1][i], 0.0, 0.0);
        risk_tally_instance(&tally, &votes, (size_t)i, p, 2);
    }
    risk_tally_end(&tally, risks);
    CHECK_NEAR(risks[2], 1.0, 0.0);
    CHECK_NEAR(risks[3], 0.0, 0.0); /* no weight at all */
    risk_votes_done(&votes);
}

TEST(crowd_risks_seven)
{
    const float p[3][3] = {{0.5F, 0.3F, 0.2F}, {0.2F, 0.2F, 0.6F}, {0.1F, 0.7F, 0.2F}};
    const float given[6][3] = {{0.5F, 0.25F, 0.25F}, {0.25F, 0.5F, 0.25F}, {0.5F, 0.25F, 0.25F},
                               {0.25F, 0.25F, 0.5F}, {0.0F, 0.25F, 0.75F}, {0.0F, 0.0F, 1.0F}};
    struct risk_tally tally = {{0}, {0}};
    struct risk_votes votes;
    double risks[RISKS];

    CHECK_INT(risk_votes_init(&LABELS, &votes), AMX_OK);
    for (size_t i = 0; i < 3; i++)
        risk_tally_instance(&tally, &votes, i, p[i], 3);
    for (size_t l = 0; l < 6; l++)
        risk_tally_label(&tally, &votes, ANNOTATOR[l], CLASS[l], given[l], 3);
    risk_tally_end(&tally, risks);
    /* Instances: right, wrong, wrong. Labels: right, wrong (.5), wrong (.5), wrong (.5), right (.75), right (1). */
    CHECK_NEAR(risks[0], 2.0 / 3.0, 1e-12);
    CHECK_NEAR(risks[1], 1.5 / (2.0 / 3.0 + 1.5), 1e-12);
    CHECK_NEAR(risks[2], 2.0 / 3.0, 1e-12);
    CHECK_NEAR(risks[3], 2.0 / 3.0, 1e-12);
    CHECK_NEAR(risks[4], 0.5, 1e-12);
    CHECK_NEAR(risks[5], 1.5 / 3.75, 1e-7);
    /* Odds log 6 for a0 (l0 right, l3 wrong) and a1 (l1 wrong, l5 right), 0 for a2. */
    CHECK_NEAR(risks[6], 0.5, 1e-12);
    risk_votes_done(&votes);
}

TEST(crowd_risks_ranks)
{
    /* Three models; in risk 0 the first two tie for ranks 1 and 2, in risk 1 all tie, else the order is 2 < 0 < 1. */
    double risks[3][RISKS], ranks[3][RISKS], score[3], deviation[3];

    for (size_t r = 0; r < RISKS; r++) {
        risks[0][r] = 0.2;
        risks[1][r] = 0.3;
        risks[2][r] = 0.1;
    }
    risks[0][0] = risks[1][0] = 0.05;
    risks[0][1] = risks[1][1] = risks[2][1] = 0.4;
    CHECK_INT(risk_ranks(&risks[0][0], 3, &ranks[0][0], score, deviation), AMX_OK);
    CHECK_NEAR(ranks[0][0], 1.5, 0.0);
    CHECK_NEAR(ranks[1][0], 1.5, 0.0);
    CHECK_NEAR(ranks[2][0], 3.0, 0.0);
    for (int i = 0; i < 3; i++)
        CHECK_NEAR(ranks[i][1], 2.0, 0.0);
    CHECK_NEAR(score[0], (1.5 + 2.0 + 5 * 2.0) / 7.0, 1e-12);
    CHECK_NEAR(score[1], (1.5 + 2.0 + 5 * 3.0) / 7.0, 1e-12);
    CHECK_NEAR(score[2], (3.0 + 2.0 + 5 * 1.0) / 7.0, 1e-12);
    /* Ranks 3, 2, 1 x 5: mean 10/7, mean square 18/7. */
    CHECK_NEAR(deviation[2], sqrt(18.0 / 7.0 - 100.0 / 49.0), 1e-12);
    CHECK_STR(risk_name(0), "class");
    CHECK_STR(risk_name(6), "label_odds");
}
