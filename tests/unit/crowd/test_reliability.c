/* Means over chunks are the means; the average matrix weighs by p(k|x); the unseen annotator has a figure too. */
#include <math.h>
#include <stdlib.h>

#include "crowd/reliability.h"
#include "test.h"

enum {
    N = 300,
    A = 4,
    C = 3,
    D = 2,
    L = N * 3
};

static float features[N * D];
static uint32_t label_instance[L], label_annotator[L], label_class[L];

/* Three clusters; annotators 0, 1 are right, 2 guesses; 3 labels nothing. */
static struct amx_data make_data(void)
{
    uint32_t state = 7;

    for (uint32_t i = 0; i < N; i++) {
        uint32_t truth = i % C;

        state = state * 1664525 + 1013904223;
        features[i * D] = (float)truth * 3 + (float)(state >> 16 & 255) / 512;
        features[i * D + 1] = (float)(truth * truth) + (float)(state >> 8 & 255) / 512;
        for (uint32_t a = 0; a < 3; a++) {
            label_instance[i * 3 + a] = i;
            label_annotator[i * 3 + a] = a;
            label_class[i * 3 + a] = a < 2 ? truth : (state >> 20) % C;
        }
    }
    return (struct amx_data){.n_instances = N,
                             .n_features = D,
                             .n_classes = C,
                             .n_annotators = A,
                             .n_labels = L,
                             .features = features,
                             .label_instance = label_instance,
                             .label_annotator = label_annotator,
                             .label_class = label_class};
}

static struct amx_model *fit(const struct amx_data *data)
{
    struct amx_fit_options options = {.seed = 3, .ensemble = 1, .threads = 1};
    struct amx_model *model = NULL;
    struct amx_error err;

    amx_settings_default(D, &options.settings);
    options.settings.epochs = 30;
    CHECK_INT(amx_fit(data, &options, NULL, &model, &err), AMX_OK);
    return model;
}

TEST(reliability_is_the_mean_over_labelled_instances)
{
    struct amx_data data = make_data();
    struct amx_model *model = fit(&data);
    struct reliability r;
    struct amx_error err;
    static float p_perf[N], p_class[N * C], p_confusion[N * C * C];
    static uint32_t rows[N], annotators[N];
    double mean = 0, weight = 0, cell = 0;

    if (model == NULL)
        return;
    CHECK_INT(reliability_of_model(model, &data, NULL, &r, &err), AMX_OK);
    for (uint32_t i = 0; i < N; i++) {
        rows[i] = i;
        annotators[i] = 2;
    }
    const struct amx_pairs_prediction out = {.p_class = p_class, .p_perf = p_perf, .p_confusion = p_confusion};
    CHECK_INT(amx_predict_pairs(model, AMX_NO_FOLD, features, N, rows, annotators, N, &out, &err), AMX_OK);
    for (size_t i = 0; i < N; i++) {
        mean += (double)p_perf[i] / N;
        weight += (double)p_class[i * C + 1];
        cell += (double)p_class[i * C + 1] * (double)p_confusion[(i * C + 1) * C + 2];
    }
    CHECK_NEAR(r.mean[2], mean, 1e-6);
    CHECK_NEAR(r.evidence[2 * C + 1], weight, 1e-3);
    CHECK_NEAR(r.confusion[(2 * C + 1) * C + 2], cell / weight, 1e-5);
    CHECK_NEAR(r.per_class[2 * C + 1], r.confusion[(2 * C + 1) * C + 1], 1e-12);
    for (size_t k = 0; k < C; k++) {
        const double *row = r.confusion + (2 * C + k) * C;

        CHECK_NEAR(row[0] + row[1] + row[2], 1, 1e-5);
    }
    CHECK_INT(r.labels[0], N);
    CHECK_INT(r.labels[3], 0);
    CHECK(isnan(r.mean[3]));
    CHECK(r.mean[0] > r.mean[2] + 0.1 && r.mean[1] > r.mean[2] + 0.1);
    CHECK(r.population > 0 && r.population < 1);
    reliability_done(&r);
    amx_model_free(model);
}

TEST(reliability_is_counted_from_a_posterior)
{
    static const uint32_t instance[5] = {0, 0, 1, 1, 2}, annotator[5] = {0, 1, 0, 1, 0}, class_[5] = {0, 1, 1, 1, 0};
    static const double posterior[3 * 3] = {0.75, 0.25, 0, 0, 1, 0, 0.5, 0.5, 0};
    const struct crowd_labels labels = {.n_instances = 3,
                                        .n_annotators = 3,
                                        .n_classes = 3,
                                        .n_labels = 5,
                                        .instance = instance,
                                        .annotator = annotator,
                                        .class_ = class_};
    struct reliability r;

    CHECK_INT(reliability_of_posterior(&labels, posterior, &r), AMX_OK);
    CHECK_NEAR(r.mean[0], (0.75 + 1 + 0.5) / 3, 1e-12);
    CHECK_NEAR(r.mean[1], (0.25 + 1) / 2, 1e-12);
    CHECK(isnan(r.mean[2]) && r.labels[2] == 0);
    CHECK_NEAR(r.population, (0.75 + 1 + 0.5 + 0.25 + 1) / 5, 1e-12);
    CHECK_NEAR(r.evidence[0], 1.25, 1e-12);
    CHECK_NEAR(r.per_class[0], 1, 1e-12);                           /* it said 0 whenever 0 was likely */
    CHECK_NEAR(r.confusion[1 * 3 + 0], (0.25 + 0.5) / 1.75, 1e-12); /* and 0 where 1 was likely */
    CHECK(isnan(r.confusion[2 * 3]) && isnan(r.per_class[2]));      /* nothing speaks of class 2 */
    CHECK(r.all == NULL && r.expected_correct == NULL);
    reliability_done(&r);
}
