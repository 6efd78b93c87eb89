/* EM on a case whose answer is plain and on odd input. (Beside crowd-kit's results: test_aggregate.c.) */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "crowd/aggregate/dawid_skene.h"
#include "test.h"

TEST(dawid_skene_trusts_the_reliable_and_turns_the_adversary_round)
{
    enum {
        N = 60,
        A = 4
    };
    static uint32_t instance[N * A], annotator[N * A], class_[N * A];
    static double posterior[N * 2], confusion[A * 4], reliability[A];
    struct crowd_labels labels = {N, A, 2, N * A, instance, annotator, class_};
    double prior[2];
    int rounds, right = 0;

    /* Truth alternates; 0 and 1 err on one in ten and one in seven, 2 on every third, 3 says the opposite. */
    for (uint32_t i = 0; i < N; i++) {
        uint32_t truth = i % 2;
        const uint32_t says[A] = {i % 10 == 0 ? 1 - truth : truth, i % 7 == 3 ? 1 - truth : truth,
                                  i % 3 == 1 ? 1 - truth : truth, 1 - truth};

        for (uint32_t a = 0; a < A; a++) {
            instance[i * A + a] = i;
            annotator[i * A + a] = a;
            class_[i * A + a] = says[a];
        }
    }
    CHECK_INT(dawid_skene(&labels, DAWID_SKENE_ROUNDS, DAWID_SKENE_TOLERANCE, posterior, confusion, prior, &rounds),
              AMX_OK);
    for (int i = 0; i < N; i++) {
        CHECK_NEAR(posterior[i * 2] + posterior[i * 2 + 1], 1, 1e-12);
        right += (posterior[i * 2 + 1] > 0.5) == (i % 2 == 1);
    }
    CHECK(right >= N - 2);
    CHECK(confusion[3 * 4] < 0.1 && confusion[3 * 4 + 1] > 0.9); /* row 0 of the adversary */
    CHECK_NEAR(prior[0], 0.5, 0.05);
    CHECK(rounds >= 1 && rounds <= DAWID_SKENE_ROUNDS);
    CHECK_INT(dawid_skene_reliability(&labels, posterior, reliability), AMX_OK);
    CHECK(reliability[0] > 0.85 && reliability[3] < 0.1);
}

TEST(dawid_skene_takes_instances_and_annotators_without_labels)
{
    static const uint32_t instance[] = {0, 0, 2}, annotator[] = {0, 1, 0}, class_[] = {1, 1, 0};
    const struct crowd_labels labels = {4, 3, 3, 3, instance, annotator, class_};
    double posterior[12], reliability[3], sum;

    CHECK_INT(dawid_skene(&labels, 100, 1e-5, posterior, NULL, NULL, NULL), AMX_OK);
    for (int i = 0; i < 4; i++) {
        sum = posterior[i * 3] + posterior[i * 3 + 1] + posterior[i * 3 + 2];
        CHECK_NEAR(sum, 1, 1e-12);
    }
    CHECK(posterior[1] > 0.5);
    CHECK_INT(dawid_skene_reliability(&labels, posterior, reliability), AMX_OK);
    CHECK(isnan(reliability[2]));
}

TEST(dawid_skene_gives_no_probability_to_a_class_nobody_gave)
{
    /* Two annotators contradict each other all the time: with a smoothed third class, that one would win. */
    enum {
        N = 12
    };
    uint32_t instance[2 * N], annotator[2 * N], class_[2 * N];
    const struct crowd_labels labels = {N, 2, 3, 2 * N, instance, annotator, class_};
    double posterior[3 * N];

    for (uint32_t i = 0; i < 2 * N; i++) {
        instance[i] = i / 2;
        annotator[i] = i % 2;
        class_[i] = (i / 2 + i) % 2;
    }
    CHECK_INT(dawid_skene(&labels, 100, 1e-5, posterior, NULL, NULL, NULL), AMX_OK);
    for (int i = 0; i < N; i++)
        CHECK(posterior[i * 3 + 2] <= 0);
}

TEST(dawid_skene_refuses_what_cannot_fit)
{
    enum {
        A = 135,
        C = 1000
    };
    /* Everybody gives every class: 135,000 rows of 1,000 classes. */
    const struct crowd_labels labels = {1, A, C, A * C, calloc(A * C, sizeof(uint32_t)),
                                        malloc(A * C * sizeof(uint32_t)), malloc(A * C * sizeof(uint32_t))};
    uint32_t *annotator, *class_;
    double *posterior = calloc(C, sizeof *posterior);

    memcpy(&annotator, &labels.annotator, sizeof annotator);
    memcpy(&class_, &labels.class_, sizeof class_);
    if (labels.instance != NULL && annotator != NULL && class_ != NULL && posterior != NULL) {
        for (uint32_t l = 0; l < A * C; l++) {
            annotator[l] = l / C;
            class_[l] = l % C;
        }
        CHECK_INT(dawid_skene(&labels, 1, 1e-5, posterior, NULL, NULL, NULL), AMX_TOO_LARGE);
    }
    free(posterior);
    free(class_);
    free(annotator);
    memcpy(&annotator, &labels.instance, sizeof annotator);
    free(annotator);
}
