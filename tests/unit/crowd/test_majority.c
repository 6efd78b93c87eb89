/* Votes, ties, instances without labels; the rules of a settled class. */
#include <stdint.h>

#include "crowd/consensus.h"
#include "crowd/aggregate/majority.h"
#include "test.h"

TEST(majority_counts_votes_and_breaks_ties_to_the_lowest_index)
{
    static const uint32_t instance[] = {0, 0, 0, 1, 1, 3};
    static const uint32_t annotator[] = {0, 1, 2, 0, 1, 2};
    static const uint32_t class_[] = {2, 2, 1, 2, 1, 0};
    const struct crowd_labels labels = {4, 3, 3, 6, instance, annotator, class_};
    uint32_t winner[4];
    double share[12];

    CHECK_INT(majority_vote(&labels, winner, share), AMX_OK);
    CHECK_INT(winner[0], 2);
    CHECK_INT(winner[1], 1); /* 1 and 2 tie */
    CHECK_INT(winner[2], CROWD_NO_CLASS);
    CHECK_INT(winner[3], 0);
    CHECK_NEAR(share[2], 2.0 / 3, 1e-15);
    CHECK_NEAR(share[3 + 1], 0.5, 1e-15);
    CHECK_NEAR(share[6], 0, 0);
}

TEST(consensus_multiplies_model_and_labels)
{
    /* Two labels of class 1 by an annotator that is right 80 % of the time; the model says class 0 with 0.9. */
    static const float p[] = {0.9F, 0.1F};
    static const float confusion[] = {0.8F, 0.2F, 0.2F, 0.8F, 0.8F, 0.2F, 0.2F, 0.8F};
    static const uint32_t classes[] = {1, 1};
    double posterior[2], why[2], why_model;
    uint32_t winner = consensus_posterior(p, confusion, classes, 2, 2, posterior, why, &why_model);
    double odds = (0.1 * 0.8 * 0.8) / (0.9 * 0.2 * 0.2);

    CHECK_INT(winner, 1);
    CHECK_NEAR(posterior[1], odds / (1 + odds), 1e-6);
    CHECK_NEAR(posterior[0] + posterior[1], 1, 1e-12);
    CHECK_NEAR(why[0], 1.3862943611, 1e-6);     /* log 4 */
    CHECK_NEAR(why_model, -2.1972245773, 1e-6); /* log 1/9: the model speaks against it */
}

TEST(consensus_survives_impossible_labels_and_many_of_them)
{
    enum {
        N = 200
    };
    static float confusion[N * 4];
    static uint32_t classes[N];
    static const float p[] = {0.5F, 0.5F};
    double posterior[2];

    for (int i = 0; i < N; i++) {
        confusion[i * 4 + 0] = 1e-3F; /* P(0 | 0): each label alone would underflow a product of 200 */
        confusion[i * 4 + 2] = 1e-4F;
        classes[i] = 0;
    }
    CHECK_INT(consensus_posterior(p, confusion, classes, N, 2, posterior, NULL, NULL), 0);
    CHECK_NEAR(posterior[0], 1, 1e-12);
    confusion[0] = 0; /* one label says class 0 is impossible: it does not silence the other 199 */
    CHECK_INT(consensus_posterior(p, confusion, classes, N, 2, posterior, NULL, NULL), 0);
}

TEST(settled_and_disputed_follow_the_basis)
{
    struct consensus_state s = consensus_settle(CONSENSUS_IN_SAMPLE, true, 1, 5, 1, 0.95, 3);

    CHECK(!s.known);
    s = consensus_settle(CONSENSUS_LABELS_ONLY, false, 1, 2, 1, 0.95, 3);
    CHECK(s.known && !s.resolved && !s.disputed); /* overlap not reached */
    s = consensus_settle(CONSENSUS_LABELS_ONLY, false, 1, 3, 1, 0.95, 3);
    CHECK(s.resolved);
    s = consensus_settle(CONSENSUS_LABELS_ONLY, false, 0.6, 5, 2, 0.95, 3);
    CHECK(!s.resolved && s.disputed);
    s = consensus_settle(CONSENSUS_OUT_OF_FOLD, false, 0.96, 1, 1, 0.95, 3);
    CHECK(s.resolved); /* one label is enough beside a model */
    s = consensus_settle(CONSENSUS_OUT_OF_FOLD, false, 0.99, 0, 0, 0.95, 3);
    CHECK(!s.resolved);
    s = consensus_settle(CONSENSUS_OUT_OF_FOLD, true, 0.2, 2, 2, 0.95, 3);
    CHECK(s.resolved && !s.disputed); /* gold settles it */
    CHECK_STR(consensus_basis_name(CONSENSUS_IN_SAMPLE), "in_sample");
    CHECK_STR(consensus_basis_name(CONSENSUS_OUT_OF_FOLD), "out_of_fold");
    CHECK_STR(consensus_basis_name(CONSENSUS_LABELS_ONLY), "labels_only");
}
