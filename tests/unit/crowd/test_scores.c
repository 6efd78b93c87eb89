/* Every figure against values worked out by hand. */
#include <math.h>
#include <stdlib.h>

#include "crowd/scores.h"
#include "test.h"

TEST(wilson_interval_known_values)
{
    double low, high;

    wilson_interval(0, 0, &low, &high);
    CHECK(low <= 0 && high >= 1);
    wilson_interval(3, 3, &low, &high);
    CHECK_NEAR(low, 0.43849, 1e-4);
    CHECK_NEAR(high, 1, 1e-12);
    wilson_interval(81, 263, &low, &high); /* Newcombe 1998, table I */
    CHECK_NEAR(low, 0.2553, 1e-4);
    CHECK_NEAR(high, 0.3662, 1e-4);
}

TEST(class_scores_by_hand)
{
    static const float p[] = {0.8F, 0.2F, 0.3F, 0.7F, 0.6F, 0.4F, 0.1F, 0.9F};
    static const uint32_t gold[] = {0, 1, 1, 1};
    struct class_scores s;

    CHECK_INT(class_scores_of(p, gold, 4, 2, &s), AMX_OK);
    CHECK_INT(s.n, 4);
    CHECK_NEAR(s.accuracy, 0.75, 1e-12);
    CHECK_NEAR(s.balanced_accuracy, (1 + 2.0 / 3) / 2, 1e-12);
    CHECK_NEAR(s.brier, 2 * (0.04 + 0.09 + 0.36 + 0.01) / 4, 1e-6);
    CHECK_NEAR(s.log_loss, -(log(0.8) + log(0.7) + log(0.4) + log(0.9)) / 4, 1e-6);
    /* Bins of confidence: 0.8 right; 0.7 right with 0.6 wrong (float32: just above 0.6); 0.9 right. */
    CHECK_NEAR(s.ece, (0.2 + (1.3 - 1) + 0.1) / 4, 1e-6);
    CHECK(s.accuracy_low < 0.75 && s.accuracy_high > 0.75);
}

TEST(binary_scores_with_ties)
{
    /* Pairs right > wrong: (.9 .5)(.9 .2)(.5 .5: half)(.5 .2)(.1 .5: no)(.1 .2: no) = 3.5 of 6. */
    static const float score[] = {0.9F, 0.5F, 0.1F, 0.5F, 0.2F};
    static const unsigned char right[] = {1, 1, 1, 0, 0};
    struct binary_scores s;

    CHECK_INT(binary_scores_of(score, right, 5, &s), AMX_OK);
    CHECK_INT(s.n_positive, 3);
    CHECK_NEAR(s.auroc, 3.5 / 6, 1e-12);
    CHECK_NEAR(s.accuracy, 3.0 / 5, 1e-12); /* .5 counts as "right" */
    CHECK_NEAR(s.balanced_accuracy, (2.0 / 3 + 1.0 / 2) / 2, 1e-12);
    /* Of right: 1 of 1 at .9, 2 of 3 at .5, 3 of 5 at .1. Of wrong: 0 of 1 at .1, 1 of 2 at .2, 2 of 4 at .5. */
    CHECK_NEAR(s.average_precision_right, (1 + 2.0 / 3 + 3.0 / 5) / 3, 1e-12);
    CHECK_NEAR(s.average_precision_wrong, (0.5 + 0.5) / 2, 1e-12);
    CHECK_NEAR(s.brier, (0.01 + 0.25 + 0.81 + 0.25 + 0.04) / 5, 1e-6);
}

TEST(binary_scores_of_one_class_are_unknown_not_invented)
{
    static const float score[] = {0.9F, 0.4F};
    static const unsigned char right[] = {1, 1};
    struct binary_scores s;

    CHECK_INT(binary_scores_of(score, right, 2, &s), AMX_OK);
    CHECK(isnan(s.auroc) && isnan(s.balanced_accuracy) && isnan(s.average_precision_right));
    CHECK_NEAR(s.accuracy, 0.5, 1e-12);
}

TEST(perfect_and_reversed_order)
{
    static const float score[] = {0.9F, 0.8F, 0.3F, 0.2F};
    static const unsigned char right[] = {1, 1, 0, 0}, reversed[] = {0, 0, 1, 1};
    struct binary_scores s;

    CHECK_INT(binary_scores_of(score, right, 4, &s), AMX_OK);
    CHECK_NEAR(s.auroc, 1, 1e-12);
    CHECK_NEAR(s.average_precision_right, 1, 1e-12);
    CHECK_INT(binary_scores_of(score, reversed, 4, &s), AMX_OK);
    CHECK_NEAR(s.auroc, 0, 1e-12);
}

TEST(the_floor_of_the_calibration_error_is_what_a_calibrated_model_shows)
{
    enum {
        REPEATS = 400,
        N = 300
    };
    uint64_t state = 11;
    double seen = 0, floor_ = 0, debiased = 0;

    for (int r = 0; r < REPEATS; r++) {
        float p[N * 2];
        uint32_t gold[N];
        struct class_scores s;

        for (int i = 0; i < N; i++) {
            float confidence = 0.5F + 0.5F * ((float)(i * 7 % N) + 0.5F) / N;
            double chance;

            state = state * 6364136223846793005ULL + 1442695040888963407ULL;
            chance = (double)(state >> 11) / 9007199254740992.0;
            p[2 * i] = confidence;
            p[2 * i + 1] = 1 - confidence;
            gold[i] = chance < (double)confidence ? 0 : 1;
        }
        CHECK_INT(class_scores_of(p, gold, N, 2, &s), AMX_OK);
        CHECK(s.ece_debiased <= s.ece && s.ece_debiased >= 0);
        seen += s.ece / REPEATS;
        floor_ += s.ece_floor / REPEATS;
        debiased += s.ece_debiased / REPEATS;
    }
    CHECK_NEAR(floor_, seen, 0.05 * seen);
    /* The truth is 0; what is left of the bias is what cutting off at 0 and the second absolute value leave. */
    CHECK_NEAR(debiased, 0, 0.65 * seen);
}

TEST(a_large_calibration_error_keeps_its_size)
{
    enum {
        N = 20000
    };
    float *p = calloc(N * 2, sizeof *p);
    uint32_t *gold = calloc(N, sizeof *gold);
    struct class_scores s;

    CHECK(p != NULL && gold != NULL);
    for (int i = 0; i < N; i++) {
        p[2 * i] = 0.95F;
        p[2 * i + 1] = 0.05F;
        gold[i] = i % 4 == 0; /* right in 75 % */
    }
    CHECK_INT(class_scores_of(p, gold, N, 2, &s), AMX_OK);
    CHECK_NEAR(s.ece, 0.2, 1e-6);
    CHECK_NEAR(s.ece_debiased, 0.2, 1e-3);
    CHECK_NEAR(s.ece_floor, sqrt(2 / 3.14159265358979) * sqrt(0.95 * 0.05 / N), 1e-6);
    free(p);
    free(gold);
}

TEST(a_mean_of_groups_has_the_error_of_groups)
{
    struct grouped_mean mean = {0};

    CHECK(isnan(grouped_mean_value(&mean)));
    grouped_mean_add(&mean, 3, 2);
    grouped_mean_add(&mean, 0, 0); /* no group */
    CHECK_NEAR(grouped_mean_value(&mean), 1.5, 1e-12);
    CHECK(isnan(grouped_mean_error(&mean)));
    grouped_mean_add(&mean, 0, 1);
    grouped_mean_add(&mean, 3, 3);
    /* m = 1: residuals of the groups 1, -1, 0; sqrt(3 / 2 * 2) / 6. */
    CHECK_INT(mean.n, 6);
    CHECK_NEAR(grouped_mean_value(&mean), 1, 1e-12);
    CHECK_NEAR(grouped_mean_error(&mean), sqrt(3.0) / 6, 1e-12);
}
