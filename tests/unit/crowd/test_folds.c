/* Out of fold: what an instance is told never depends on its own labels; rows of many folds at once; the figures of
 * annotators with their own label left out. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "crowd/consensus.h"
#include "crowd/folded.h"
#include "crowd/reliability.h"
#include "test.h"

enum {
    N = 120,
    A = 4,
    C = 3,
    D = 2,
    L = N * 3,
    FOLDS = 3
};

static float features[N * D];
static uint32_t label_instance[L], label_annotator[L], label_class[L], fold[N];

/* Three clusters; annotators 0, 1 are mostly right, 2 guesses; 3 labels nothing. */
static struct amx_data make_data(void)
{
    uint32_t state = 11;

    for (uint32_t i = 0; i < N; i++) {
        uint32_t truth = i % C;

        fold[i] = (i / 5) % FOLDS;
        state = state * 1664525 + 1013904223;
        features[i * D] = (float)truth * 2 + (float)(state >> 16 & 255) / 128;
        features[i * D + 1] = (float)(truth * truth) + (float)(state >> 8 & 255) / 128;
        for (uint32_t a = 0; a < 3; a++) {
            state = state * 1664525 + 1013904223;
            label_instance[i * 3 + a] = i;
            label_annotator[i * 3 + a] = a;
            label_class[i * 3 + a] = a < 2 && (state >> 20) % 5 != 0 ? truth : (state >> 24) % C;
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
                             .label_class = label_class,
                             .fold = fold};
}

static struct amx_model *fit(const struct amx_data *data, int folds)
{
    struct amx_fit_options options = {.seed = 3, .ensemble = 1, .threads = 1, .folds = folds};
    struct amx_model *model = NULL;
    struct amx_error err = {.code = AMX_OK};

    amx_settings_default(D, &options.settings);
    options.settings.epochs = 6;
    options.settings.n_hidden = 1;
    options.settings.hidden[0] = 8;
    CHECK_INT(amx_fit(data, &options, NULL, &model, &err), AMX_OK);
    return model;
}

static void predict_one(const struct amx_model *model, int of_fold, uint32_t i, float *p_class, float *p_confusion)
{
    static const uint32_t rows[A] = {0, 0, 0, 0}, annotators[A] = {0, 1, 2, AMX_UNSEEN};
    const struct amx_pairs_prediction out = {.p_class = p_class, .p_confusion = p_confusion};

    CHECK_INT(amx_predict_pairs(model, of_fold, features + (size_t)i * D, 1, rows, annotators, A, &out, NULL), AMX_OK);
}

TEST(out_of_fold_answers_do_not_depend_on_the_own_labels)
{
    struct amx_data data = make_data();
    struct amx_model *before = fit(&data, FOLDS), *after;
    const uint32_t i = 17, other = 16; /* of one fold */
    float p[2][C], confusion[2][A * C * C], whole[2][C];

    CHECK(fold[i] == fold[other]);
    for (uint32_t l = i * 3; l < i * 3 + 3; l++)
        label_class[l] = (label_class[l] + 1) % C;
    after = fit(&data, FOLDS);
    if (before != NULL && after != NULL) {
        predict_one(before, (int)fold[i], i, p[0], confusion[0]);
        predict_one(after, (int)fold[i], i, p[1], confusion[1]);
        CHECK(memcmp(p[0], p[1], sizeof p[0]) == 0);
        CHECK(memcmp(confusion[0], confusion[1], sizeof confusion[0]) == 0);
        /* The rest of the model has changed, so there was something to leave out. */
        predict_one(before, AMX_NO_FOLD, i, whole[0], confusion[0]);
        predict_one(after, AMX_NO_FOLD, i, whole[1], confusion[1]);
        CHECK(memcmp(whole[0], whole[1], sizeof whole[0]) != 0);
    }
    amx_model_free(before);
    amx_model_free(after);
}

TEST(rows_of_many_folds_are_predicted_as_if_one_by_one)
{
    struct amx_data data = make_data();
    struct amx_model *model = fit(&data, FOLDS);
    enum {
        ROWS = 20
    };
    static float p_class[ROWS * C], p_perf[ROWS * 2], p_annotation[ROWS * 2 * C], p_confusion[ROWS * 2 * C * C];
    static float one_class[C], one_confusion[A * C * C];
    uint32_t row[ROWS * 2], annotator[ROWS * 2];
    int folds[ROWS];
    struct amx_error err;
    const struct amx_pairs_prediction out = {p_class, p_perf, p_annotation, p_confusion};

    if (model == NULL)
        return;
    for (uint32_t i = 0; i < ROWS; i++) {
        folds[i] = i == 7 ? AMX_NO_FOLD : (int)fold[i];
        row[2 * i] = row[2 * i + 1] = ROWS - 1 - i;
        annotator[2 * i] = 1;
        annotator[2 * i + 1] = AMX_UNSEEN;
    }
    CHECK_INT(folded_predict_pairs(model, folds, features, ROWS, row, annotator, ROWS * 2, &out, &err), AMX_OK);
    for (uint32_t i = 0; i < ROWS; i++) {
        uint32_t pair = 2 * (ROWS - 1 - i);

        predict_one(model, folds[i], i, one_class, one_confusion);
        for (size_t k = 0; k < C; k++)
            CHECK_NEAR(p_class[i * C + k], one_class[k], 1e-6);
        for (size_t k = 0; k < C * C; k++) {
            CHECK_NEAR(p_confusion[pair * C * C + k], one_confusion[1 * C * C + k], 1e-6);
            CHECK_NEAR(p_confusion[(pair + 1) * C * C + k], one_confusion[3 * C * C + k], 1e-6);
        }
        CHECK(p_perf[pair] > 0 && p_perf[pair] < 1 && p_annotation[pair * C] > 0);
    }
    folds[3] = FOLDS;
    CHECK_INT(folded_predict_pairs(model, folds, features, ROWS, row, annotator, 0, &out, &err), AMX_INVALID);
    amx_model_free(model);
}

TEST(a_label_is_left_out_of_its_own_posterior)
{
    static const float p_class[C] = {0.5f, 0.3f, 0.2f};
    /* P(z_l | k) of the labels given: 0 says 0, 1 says 1, 2 says 0. */
    static const float columns[3 * C] = {0.8f, 0.1f, 0.1f, 0.2f, 0.6f, 0.3f, 0.5f, 0.4f, 0.0f};
    static const uint32_t classes[3] = {0, 1, 0};
    double scratch[2 * C], expected[3], posterior[C];
    unsigned char agrees[3];

    consensus_left_out(p_class, columns, classes, 3, C, scratch, expected, agrees);
    for (size_t left = 0; left < 3; left++) {
        float confusion[2 * C * C] = {0};
        uint32_t rest[2];
        size_t n = 0;

        for (size_t l = 0; l < 3; l++) {
            if (l == left)
                continue;
            for (size_t k = 0; k < C; k++)
                confusion[(n * C + k) * C + classes[l]] = columns[l * C + k];
            rest[n++] = classes[l];
        }
        uint32_t best = consensus_posterior(p_class, confusion, rest, 2, C, posterior, NULL, NULL);
        CHECK_NEAR(expected[left], posterior[classes[left]], 1e-12);
        CHECK_INT(agrees[left], best == classes[left]);
    }
    /* Alone, it is left to the model. */
    consensus_left_out(p_class, columns, classes, 1, C, scratch, expected, agrees);
    CHECK_NEAR(expected[0], 0.5, 1e-7);
    CHECK_INT(agrees[0], 1);
}

/* The figures of annotator 1 once more, one instance at a time. */
static void check_figures(const struct amx_model *model, const struct reliability *r)
{
    double expected_sum = 0, agree_sum = 0, all_sum = 0;

    for (uint32_t i = 0; i < N; i++) {
        float p_class[C], confusion[A * C * C], columns[3 * C], p_perf = 0;
        static const uint32_t one = 1;
        const struct amx_prediction whole = {.p_perf = &p_perf};
        double scratch[2 * C], expected[3];
        unsigned char agrees[3];

        predict_one(model, (int)fold[i], i, p_class, confusion);
        for (size_t l = 0; l < 3; l++) {
            for (size_t k = 0; k < C; k++)
                columns[l * C + k] = confusion[(l * C + k) * C + label_class[i * 3 + l]];
        }
        consensus_left_out(p_class, columns, label_class + i * 3, 3, C, scratch, expected, agrees);
        expected_sum += expected[1];
        agree_sum += agrees[1];
        CHECK_INT(amx_predict(model, features + (size_t)i * D, 1, &one, 1, &whole, NULL), AMX_OK);
        all_sum += (double)p_perf;
    }
    CHECK_NEAR(r->expected_correct[1], expected_sum / N, 1e-5);
    CHECK_NEAR(r->agreement[1], agree_sum / N, 0.01); /* a near tie may fall either way in another chunk */
    CHECK_NEAR(r->all[1], all_sum / N, 1e-5);
}

TEST(figures_with_the_own_label_left_out)
{
    struct amx_data data = make_data();
    struct amx_model *model = fit(&data, FOLDS), *plain = fit(&data, 0);
    struct reliability r;
    struct amx_error err;

    if (model == NULL || plain == NULL)
        return;
    CHECK_INT(reliability_of_model(model, &data, NULL, &r, &err), AMX_OK);
    CHECK(r.all != NULL && r.expected_correct != NULL && r.agreement != NULL);
    if (r.all != NULL && r.expected_correct != NULL && r.agreement != NULL) {
        check_figures(model, &r);
        CHECK(r.expected_correct[0] > r.expected_correct[2] + 0.1 && r.agreement[0] > r.agreement[2] + 0.1);
        CHECK(isnan(r.all[3]) && isnan(r.expected_correct[3]) && isnan(r.agreement[3]));
    }
    reliability_done(&r);
    CHECK_INT(reliability_of_model(plain, &data, NULL, &r, &err), AMX_OK);
    CHECK(r.all == NULL && r.expected_correct == NULL && r.agreement == NULL);
    reliability_done(&r);
    amx_model_free(model);
    amx_model_free(plain);
}
