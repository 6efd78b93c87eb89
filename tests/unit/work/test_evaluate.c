/* Metrics against figures worked out here the slow way; what gold may and may not touch; folds, temperature, two models
 * compared. */
#include "work/judge/evaluate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "crowd.h"
#include "test.h"
#include "work/judge/calibrate.h"

TEST(the_fold_of_a_name_is_the_documented_hash)
{
    static const struct {
        const char *name;
        uint64_t seed;
        int folds;
        uint32_t fold; /* by another implementation of SHA-256 */
    } known[] = {{"a", 1, 5, 4},
                 {"i00000", 1, 5, 3},
                 {"i00001", 1, 5, 3},
                 {"song-17", 9007199254740991, 20, 6},
                 {"\xc3\xa4/b", 0, 2, 1}};
    const struct crowd_kind kind = {.n_train = 500};
    struct crowd crowd;
    struct training_data data;
    size_t count[5] = {0};

    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        CHECK_INT(fold_of(known[i].name, known[i].seed, known[i].folds), known[i].fold);
    crowd_make(&kind, &crowd);
    crowd_data(&crowd, 1, 5, &data);
    CHECK(data.data.fold != NULL);
    for (size_t i = 0; i < 500; i++) {
        CHECK_INT(data.data.fold[i], fold_of(data.set.instance_names[i], 1, 5));
        count[data.data.fold[i]]++;
    }
    for (size_t f = 0; f < 5; f++)
        CHECK(count[f] > 60 && count[f] < 140);
    CHECK_INT(training_data_fold(&data, 1, 0, NULL), AMX_OK);
    CHECK(data.data.fold == NULL);
    training_data_done(&data);
    crowd_free(&crowd);
}

/* ---- gold ----------------------------------------------------------------------------------------------------------
 */

static void hash_with_gold(const char *method, unsigned turn_gold, enum run_gold_use gold_use,
                           char out[DIGEST_HEX_BYTES])
{
    const struct crowd_kind kind = {
        .n_train = 90, .n_valid = 30, .n_test = 30, .held_labels = true, .turn_gold = turn_gold};
    struct amx_fit_options options = crowd_options(method, 3, 2);
    struct crowd crowd;
    struct training_data data;
    struct amx_model *model;
    double temperature;

    crowd_make(&kind, &crowd);
    crowd_data(&crowd, 3, 2, &data);
    options.settings.epochs = 2;
    options.clamp_gold = gold_use == RUN_GOLD_TRAIN;
    model = crowd_fit(&data, &options);
    if (model != NULL) {
        CHECK_INT(calibrate_model(model, &data, gold_use, &temperature, NULL), AMX_OK);
        crowd_hash(model, out);
    }
    amx_model_free(model);
    training_data_done(&data);
    crowd_free(&crowd);
}

TEST(gold_under_evaluate_touches_no_byte_of_any_model_but_ground_truth)
{
    size_t n;
    const struct amx_method_info *methods = amx_methods(&n);

    for (size_t i = 0; i < n; i++) {
        char a[DIGEST_HEX_BYTES] = "a", b[DIGEST_HEX_BYTES] = "b";

        hash_with_gold(methods[i].name, 0, RUN_GOLD_EVALUATE, a);
        hash_with_gold(methods[i].name, 1, RUN_GOLD_EVALUATE, b);
        if (methods[i].needs_gold)
            CHECK(strcmp(a, b) != 0);
        else
            CHECK_STR(a, b);
    }
}

TEST(gold_that_may_be_used_is_used)
{
    char a[DIGEST_HEX_BYTES] = "a", b[DIGEST_HEX_BYTES] = "a";

    hash_with_gold("majority_vote", 0, RUN_GOLD_TRAIN, a); /* certain targets */
    hash_with_gold("majority_vote", 1, RUN_GOLD_TRAIN, b);
    CHECK(strcmp(a, b) != 0);
    hash_with_gold("annot_mix", 0, RUN_GOLD_CALIBRATE, a); /* the temperature */
    hash_with_gold("annot_mix", 1, RUN_GOLD_CALIBRATE, b);
    CHECK(strcmp(a, b) != 0);
}

TEST(gold_that_the_fit_has_seen_leaves_every_metric)
{
    const struct crowd_kind kind = {.n_train = 90, .n_test = 30};
    struct crowd crowd;
    struct training_data data;
    struct amx_model *model;

    crowd_make(&kind, &crowd);
    crowd_data(&crowd, 1, 0, &data);
    for (int ground_truth = 0; ground_truth < 2; ground_truth++) {
        const struct amx_fit_options options = crowd_options(ground_truth ? "ground_truth" : "annot_mix", 1, 0);
        const enum run_gold_use uses[] = {RUN_GOLD_EVALUATE, RUN_GOLD_CALIBRATE, RUN_GOLD_TRAIN};

        model = crowd_fit(&data, &options);
        for (size_t i = 0; model != NULL && i < 3; i++) {
            bool seen = ground_truth || uses[i] == RUN_GOLD_TRAIN;
            json_t *metrics = NULL;

            CHECK_INT(evaluate_metrics(model, &data, uses[i], (double)NAN, &metrics, NULL), AMX_OK);
            CHECK_INT(json_object_get(metrics, "train") == NULL, seen);
            CHECK_INT(json_object_get(metrics, "annotator_model") == NULL, seen); /* test has no labels */
            CHECK(json_object_get(metrics, "test") != NULL);
            CHECK_STR(json_string_value(json_object_get(json_object_get(metrics, "test"), "gold_use")),
                      run_gold_use_name(uses[i]));
            CHECK(json_is_null(json_object_get(json_object_get(metrics, "test"), "majority_vote_accuracy")));
            CHECK(json_is_null(json_object_get(metrics, "temperature")));
            json_decref(metrics);
        }
        amx_model_free(model);
    }
    training_data_done(&data);
    crowd_free(&crowd);
}

TEST(gold_against_every_label_is_a_result_not_a_failure)
{
    const struct crowd_kind kind = {.n_train = 120, .n_test = 30, .held_labels = true, .all_wrong = true};
    struct crowd crowd;
    struct training_data data;
    struct evaluation e;

    crowd_make(&kind, &crowd);
    crowd_data(&crowd, 1, 0, &data);
    for (int clamp = 0; clamp < 2; clamp++) {
        struct amx_fit_options options = crowd_options("dawid_skene", 1, 0);
        struct amx_model *model;

        options.clamp_gold = clamp;
        model = crowd_fit(&data, &options);
        if (model == NULL)
            continue;
        CHECK_INT(evaluate_split(model, &data, SPLIT_TEST, clamp ? RUN_GOLD_TRAIN : RUN_GOLD_EVALUATE, &e, NULL),
                  AMX_OK);
        CHECK_NEAR(e.majority.accuracy, 0, 0);
        if (clamp)
            CHECK(e.classes.accuracy > 0.8); /* gold is certain: it is learnt, the labels are known to be wrong */
        else
            CHECK_NEAR(e.classes.accuracy, 0, 0.2);
        amx_model_free(model);
    }
    training_data_done(&data);
    crowd_free(&crowd);
}

/* ---- figures -------------------------------------------------------------------------------------------------------
 */

/* Everything evaluate_split says of a split, one instance after another by amx_predict_pairs with all its labels. */
static void slowly(const struct amx_model *model, const struct training_data *data, enum split split,
                   struct evaluation *out)
{
    const struct training_set *set = &data->set;
    const bool train = split == SPLIT_TRAIN;
    const size_t C = set->n_classes, N = train ? set->n_instances : set->n_held;
    const size_t L = train ? set->n_labels : set->n_held_labels;
    const uint32_t *row = train ? set->label_instance : set->held_label_held;
    const uint32_t *annotator = train ? set->label_annotator : set->held_label_annotator;
    const uint32_t *class_ = train ? set->label_class : set->held_label_class;
    size_t right = 0, majority = 0, consensus = 0, n = 0, with_labels = 0, first = 0;

    memset(out, 0, sizeof *out);
    for (size_t i = 0; i < N; i++) {
        const float *x = (train ? set->features : set->held_features) + i * set->n_features;
        int32_t gold = train ? set->instance_gold[i] : set->held_gold[i];
        size_t m = 0, best = 0, voted = 0, most = 0;
        double sum = 0, *log_q = calloc(C, sizeof *log_q);
        uint32_t *zero, *votes = calloc(C, sizeof *votes);
        float *p = calloc(C, sizeof *p), *given, *confusion;

        while (first + m < L && row[first + m] == i)
            m++;
        zero = calloc(m + 1, sizeof *zero);
        given = calloc(m * C + 1, sizeof *given);
        confusion = calloc(m * C * C + 1, sizeof *confusion);
        if (!train && set->held_split[i] != (int8_t)split) {
            first += m;
        } else {
            const struct amx_pairs_prediction wanted = {.p_class = p, .p_annotation = given, .p_confusion = confusion};

            CHECK_INT(amx_predict_pairs(model, train && data->data.fold != NULL ? (int)data->data.fold[i] : AMX_NO_FOLD,
                                        x, 1, zero, annotator + first, m, &wanted, NULL),
                      AMX_OK);
            for (size_t k = 0; k < C; k++) {
                log_q[k] = log(fmax((double)p[k], 1e-15));
                best = p[k] > p[best] ? k : best;
            }
            for (size_t j = 0; j < m; j++) {
                size_t z = class_[first + j];

                sum += log(fmax((double)given[j * C + z], 1e-15));
                votes[z]++;
                for (size_t k = 0; k < C; k++)
                    log_q[k] += log(fmax((double)confusion[(j * C + k) * C + z], 1e-15));
            }
            for (size_t k = 0; k < C; k++) {
                most = log_q[k] > log_q[most] ? k : most;
                voted = votes[k] > votes[voted] ? k : voted;
            }
            grouped_mean_add(&out->labels, sum, m);
            first += m;
            n += gold >= 0;
            right += gold == (int32_t)best;
            with_labels += gold >= 0 && m > 0;
            majority += m > 0 && gold == (int32_t)voted;
            consensus += m > 0 && gold == (int32_t)most;
        }
        free(log_q);
        free(votes);
        free(p);
        free(zero);
        free(given);
        free(confusion);
    }
    out->classes.n = n;
    out->classes.accuracy = (double)right / (double)n;
    out->majority = (struct share){.n = with_labels, .accuracy = (double)majority / (double)with_labels};
    out->consensus = (struct share){.n = with_labels, .accuracy = (double)consensus / (double)with_labels};
}

static void compare_with_slow(const struct crowd_kind *kind, int folds, int epochs)
{
    struct amx_fit_options options = crowd_options("annot_mix", 5, folds);
    struct crowd crowd;
    struct training_data data;
    struct amx_model *model;

    crowd_make(kind, &crowd);
    crowd_data(&crowd, 5, folds, &data);
    options.settings.epochs = epochs;
    model = crowd_fit(&data, &options);
    for (int split = SPLIT_TRAIN; model != NULL && split <= SPLIT_TEST; split++) {
        struct evaluation fast, slow;

        CHECK_INT(evaluate_split(model, &data, (enum split)split, RUN_GOLD_EVALUATE, &fast, NULL), AMX_OK);
        slowly(model, &data, (enum split)split, &slow);
        CHECK_INT(fast.classes.n, slow.classes.n);
        CHECK_INT(fast.has_classes, slow.classes.n > 0);
        CHECK_INT(fast.majority.n, slow.majority.n);
        CHECK_INT(fast.labels.n, split == SPLIT_TRAIN && folds == 0 ? 0 : slow.labels.n);
        if (!fast.has_classes) /* a split without instances */
            continue;
        CHECK_NEAR(fast.classes.accuracy, slow.classes.accuracy, 1e-12);
        CHECK_NEAR(fast.majority.accuracy, slow.majority.accuracy, 1e-12);
        CHECK_NEAR(fast.consensus.accuracy, slow.consensus.accuracy, 1e-12);
        CHECK_STR(fast.basis, split != SPLIT_TRAIN ? "held_out" : folds > 0 ? "out_of_fold" : "in_sample");
        if (fast.labels.n == 0) /* labels it was trained on say nothing */
            continue;
        CHECK_NEAR(grouped_mean_value(&fast.labels), grouped_mean_value(&slow.labels), 1e-6);
        CHECK_NEAR(grouped_mean_error(&fast.labels), grouped_mean_error(&slow.labels), 1e-6);
    }
    amx_model_free(model);
    training_data_done(&data);
    crowd_free(&crowd);
}

TEST(metrics_are_those_of_one_instance_after_another)
{
    /* 1,500 instances: more than one piece. */
    const struct crowd_kind kind = {.n_train = 1500, .n_valid = 40, .n_test = 60, .held_labels = true};

    compare_with_slow(&kind, 3, 2);
    compare_with_slow(&kind, 0, 2);
}

TEST(an_instance_with_more_labels_than_a_piece_holds_is_counted_once)
{
    /* 700 classes: 8 matrices to a piece, 20 labels to an instance. */
    const struct crowd_kind kind = {
        .n_train = 40, .n_test = 5, .n_classes = 700, .n_annotators = 25, .labels_each = 20, .held_labels = true};

    if (getenv("TEST_QUICK") != NULL) {
        test_skip("490,000 outputs take many minutes under valgrind and ThreadSanitizer");
        return;
    }
    compare_with_slow(&kind, 2, 1);
}

TEST(labels_of_instances_without_gold_are_measured_too)
{
    const struct crowd_kind kind = {.n_train = 60, .n_valid = 20, .held_labels = true, .no_gold = true};
    const struct amx_fit_options options = crowd_options("annot_mix", 1, 0);
    struct crowd crowd;
    struct training_data data;
    struct amx_model *model;
    json_t *metrics = NULL, *held_out;

    crowd_make(&kind, &crowd);
    crowd_data(&crowd, 1, 0, &data);
    CHECK_INT(data.set.n_held, 20);
    model = crowd_fit(&data, &options);
    CHECK_INT(evaluate_metrics(model, &data, RUN_GOLD_EVALUATE, (double)NAN, &metrics, NULL), AMX_OK);
    CHECK(json_object_get(metrics, "valid") == NULL && json_object_get(metrics, "train") == NULL);
    held_out = json_object_get(metrics, "held_out");
    CHECK_STR(json_string_value(json_object_get(held_out, "split")), "valid");
    CHECK_INT(json_integer_value(json_object_get(held_out, "n")), 40);
    CHECK(json_real_value(json_object_get(held_out, "label_log_likelihood")) < 0);
    CHECK(json_real_value(json_object_get(held_out, "standard_error")) > 0);
    CHECK(json_is_null(json_object_get(held_out, "test")));
    json_decref(metrics);
    amx_model_free(model);
    training_data_done(&data);
    crowd_free(&crowd);
}

/* ---- temperature ---------------------------------------------------------------------------------------------------
 */

static double log_loss_at(struct amx_model *model, const struct training_data *data, double temperature, bool by_gold)
{
    struct evaluation e;

    if (by_gold)
        amx_model_set_temperature(model, temperature);
    else
        amx_model_set_fold_temperature(model, temperature);
    CHECK_INT(evaluate_split(model, data, by_gold ? SPLIT_VALID : SPLIT_TRAIN, RUN_GOLD_EVALUATE, &e, NULL), AMX_OK);
    return by_gold ? e.classes.log_loss : -grouped_mean_value(&e.labels);
}

TEST(the_temperature_is_where_the_loss_is_least)
{
    const struct crowd_kind kind = {.n_train = 300, .n_valid = 200};
    struct crowd crowd;
    struct training_data data;

    crowd_make(&kind, &crowd);
    crowd_data(&crowd, 1, 4, &data);
    for (int by_gold = 0; by_gold < 2; by_gold++) {
        struct amx_fit_options options = crowd_options("majority_vote", 1, 4);
        struct amx_model_info info;
        struct amx_model *model;
        double t, least;

        options.ensemble = 2;
        options.settings.epochs = 5;
        model = crowd_fit(&data, &options);
        if (model == NULL)
            break;
        CHECK_INT(calibrate_model(model, &data, by_gold ? RUN_GOLD_CALIBRATE : RUN_GOLD_EVALUATE, &t, NULL), AMX_OK);
        amx_model_info(model, &info);
        CHECK_NEAR(info.temperature, t, 0);
        CHECK(t >= 0.1 && t <= 10.0001);
        least = log_loss_at(model, &data, t, by_gold);
        CHECK(least < log_loss_at(model, &data, t * 1.1, by_gold));
        CHECK(least < log_loss_at(model, &data, t / 1.1, by_gold));
        CHECK(least <= log_loss_at(model, &data, 1, by_gold));
        amx_model_free(model);
    }
    training_data_done(&data);
    crowd_free(&crowd);
}

TEST(without_gold_and_folds_nothing_is_calibrated)
{
    const struct crowd_kind kind = {.n_train = 60, .n_valid = 20};
    const struct amx_fit_options options = crowd_options("annot_mix", 1, 0);
    struct crowd crowd;
    struct training_data data;
    struct amx_model *model;
    struct amx_model_info info;
    double t = 0;

    crowd_make(&kind, &crowd);
    crowd_data(&crowd, 1, 0, &data);
    model = crowd_fit(&data, &options);
    CHECK_INT(calibrate_model(model, &data, RUN_GOLD_EVALUATE, &t, NULL), AMX_OK);
    CHECK(isnan(t));
    amx_model_info(model, &info);
    CHECK_NEAR(info.temperature, 1, 0);
    amx_model_free(model);
    training_data_done(&data);
    crowd_free(&crowd);
}

/* ---- two models ----------------------------------------------------------------------------------------------------
 */

TEST(models_are_compared_on_the_same_labels_out_of_fold)
{
    const struct crowd_kind kind = {.n_train = 300, .n_annotators = 6}, more = {.n_train = 330, .n_annotators = 9};
    struct amx_fit_options options = crowd_options("annot_mix", 1, 3);
    struct crowd crowd, later;
    struct training_data data, grown;
    struct amx_model *good, *poor, *other;
    struct label_comparison c;
    struct amx_error err;

    crowd_make(&kind, &crowd);
    crowd_make(&more, &later);
    crowd_data(&crowd, 1, 3, &data);
    crowd_data(&later, 2, 5, &grown);
    good = crowd_fit(&data, &options);
    options.settings.epochs = 1;
    options.settings.learning_rate = 1e-6;
    poor = crowd_fit(&data, &options);
    CHECK_INT(evaluate_compare(good, good, &data, &c, NULL), AMX_OK);
    CHECK_INT(c.n, 600);
    CHECK_NEAR(c.difference, 0, 0);
    CHECK_NEAR(c.standard_error, 0, 0);
    CHECK_INT(evaluate_compare(good, poor, &data, &c, NULL), AMX_OK);
    CHECK(c.difference > 2 * c.standard_error && c.standard_error > 0);
    CHECK_INT(evaluate_compare(poor, good, &data, &c, NULL), AMX_OK);
    CHECK(c.difference < -2 * c.standard_error);
    /* An older model of other folds, another seed and fewer annotators. */
    options = crowd_options("annot_mix", 2, 5);
    other = crowd_fit(&grown, &options);
    CHECK_INT(evaluate_compare(other, poor, &grown, &c, NULL), AMX_OK);
    CHECK_INT(c.n, 660);
    CHECK(c.difference > 0);
    /* Without folds there is no answer. */
    options = crowd_options("annot_mix", 2, 0);
    amx_model_free(other);
    other = crowd_fit(&data, &options);
    CHECK_INT(evaluate_compare(good, other, &data, &c, &err), AMX_INVALID);
    amx_model_free(other);
    amx_model_free(poor);
    amx_model_free(good);
    training_data_done(&grown);
    training_data_done(&data);
    crowd_free(&later);
    crowd_free(&crowd);
}
