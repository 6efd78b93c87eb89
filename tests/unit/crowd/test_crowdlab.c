/* Beside cleanlab's results, and on odd input. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "crowd/crowdlab.h"
#include "crowd_csv.h"
#include "test.h"

static void compare(const char *set)
{
    char path[4][256];
    static const char *const ends[4] = {"labels", "p", "crowdlab", "annotators"};
    struct csv_labels l;
    size_t N, A, C, same = 0;
    double *p, *instances, *annotators, model_weight, worst = 0;

    for (int i = 0; i < 4; i++)
        (void)snprintf(path[i], sizeof path[i], "tests/golden/crowd/%s.%s.csv", set, ends[i]);
    CHECK(csv_labels_read(path[0], &l));
    N = l.labels.n_instances, A = l.labels.n_annotators, C = l.labels.n_classes;
    p = csv_numbers(path[1], N, C);
    instances = csv_numbers(path[2], N, 2);
    annotators = csv_numbers(path[3], A, 3);
    float *p_class = calloc(N * C, sizeof *p_class);
    const struct crowdlab out = {.posterior = calloc(N * C, sizeof(double)), .consensus = calloc(N, sizeof(uint32_t)),
                                 .quality = calloc(N, sizeof(double)), .annotator_quality = calloc(A, sizeof(double)),
                                 .annotator_weight = calloc(A, sizeof(double)), .model_weight = &model_weight};

    CHECK(p != NULL && instances != NULL && annotators != NULL);
    if (p != NULL && instances != NULL && annotators != NULL && p_class != NULL) {
        for (size_t i = 0; i < N * C; i++)
            p_class[i] = (float)p[i];
        CHECK_INT(crowdlab(&l.labels, p_class, &out, NULL), AMX_OK);
        for (size_t i = 0; i < N; i++) {
            same += out.consensus[i] == (uint32_t)instances[2 * i];
            worst = test_worst(worst, fabs(out.quality[i] - instances[2 * i + 1]));
        }
        CHECK((double)same >= 0.995 * (double)N);
        CHECK(worst < 1e-4);
        for (size_t a = 0; a < A; a++) {
            CHECK_NEAR(out.annotator_quality[a], annotators[3 * a], 1e-4);
            CHECK_NEAR(out.annotator_weight[a], annotators[3 * a + 1], 1e-4);
        }
        CHECK_NEAR(model_weight, annotators[2], 1e-4);
    }
    free(out.annotator_weight);
    free(out.annotator_quality);
    free(out.quality);
    free(out.consensus);
    free(out.posterior);
    free(p_class);
    free(annotators);
    free(instances);
    free(p);
    csv_labels_done(&l);
}

TEST(crowdlab_equals_cleanlab)
{
    compare("two");
    compare("five");
}

TEST(crowdlab_takes_what_has_no_labels)
{
    /* Instance 1 and annotator 2 have none; annotator 3 never met anybody. */
    static const uint32_t instance[] = {0, 0, 2, 2, 3}, annotator[] = {0, 1, 0, 1, 3}, class_[] = {1, 1, 0, 2, 2};
    static const float p[12] = {0.2F, 0.6F, 0.2F, 0.1F, 0.2F, 0.7F, 0.5F, 0.25F, 0.25F, 0.3F, 0.3F, 0.4F};
    const struct crowd_labels labels = {4, 4, 3, 5, instance, annotator, class_};
    double posterior[12], quality[4], annotator_quality[4];
    uint32_t consensus[4];
    const struct crowdlab out = {.posterior = posterior, .consensus = consensus, .quality = quality,
                                 .annotator_quality = annotator_quality};

    CHECK_INT(crowdlab(&labels, p, &out, NULL), AMX_OK);
    for (int i = 0; i < 4; i++)
        CHECK_NEAR(posterior[3 * i] + posterior[3 * i + 1] + posterior[3 * i + 2], 1, 1e-6);
    CHECK_INT(consensus[0], 1);
    CHECK_INT(consensus[1], 2);
    CHECK_NEAR(quality[1], 0.7, 1e-6);
    CHECK_INT(consensus[2], 0); /* a tie of votes: the model decides */
    CHECK(isnan(annotator_quality[2]) && annotator_quality[3] > 0 && annotator_quality[3] <= 1);
}

TEST(crowdlab_takes_one_class)
{
    static const uint32_t zero[3] = {0}, annotator[3] = {0, 1, 2};
    static const float p[1] = {1};
    const struct crowd_labels labels = {1, 3, 1, 3, zero, annotator, zero};
    double quality;
    const struct crowdlab out = {.quality = &quality};

    CHECK_INT(crowdlab(&labels, p, &out, NULL), AMX_OK);
    CHECK_NEAR(quality, 1, 1e-9);
}

TEST(crowdlab_needs_two_labels_somewhere)
{
    static const uint32_t instance[2] = {0, 1}, annotator[2] = {0, 1}, class_[2] = {0, 1};
    static const float p[4] = {0.5F, 0.5F, 0.5F, 0.5F};
    const struct crowd_labels labels = {2, 2, 2, 2, instance, annotator, class_};
    const struct crowdlab out = {0};
    struct amx_error err;

    CHECK_INT(crowdlab(&labels, p, &out, &err), AMX_NOTHING);
    CHECK(err.text[0] != '\0');
}
