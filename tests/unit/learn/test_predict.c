/* test_predict.c - amx_predict and amx_predict_pairs: probabilities, independence of rows, unseen annotators,
 * ensembles. */
#include "test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "fixture.h"
#include "learn/model.h"

struct outputs {
    struct amx_prediction p;
    size_t n, m, C;
};

static struct outputs predict(const struct amx_model *model, const float *x, size_t n, const uint32_t *annotators,
                              size_t m)
{
    struct outputs o = {.n = n, .m = m, .C = model->dims.C};
    struct amx_error err;

    o.p.p_class = toy_alloc(n * o.C, sizeof(float));
    o.p.p_perf = toy_alloc(n * m, sizeof(float));
    o.p.p_annotation = toy_alloc(n * m * o.C, sizeof(float));
    o.p.p_confusion = toy_alloc(n * m * o.C * o.C, sizeof(float));
    CHECK_INT(amx_predict(model, x, n, annotators, m, &o.p, &err), AMX_OK);
    return o;
}

static void outputs_free(struct outputs *o)
{
    free(o->p.p_confusion);
    free(o->p.p_annotation);
    free(o->p.p_perf);
    free(o->p.p_class);
}

/* Rows are distributions; p_annotation and p_perf follow from p_class and p_confusion. */
static void check_consistent(const struct outputs *o)
{
    double worst = 0.0;

    for (size_t i = 0; i < o->n; i++) {
        double sum = 0.0;
        for (size_t k = 0; k < o->C; k++)
            sum += (double)o->p.p_class[i * o->C + k];
        worst = test_worst(worst, fabs(sum - 1.0));
        for (size_t j = 0; j < o->m; j++) {
            const float *P = o->p.p_confusion + (i * o->m + j) * o->C * o->C;
            double perf = 0.0;
            for (size_t c = 0; c < o->C; c++) {
                double annotation = 0.0;
                for (size_t k = 0; k < o->C; k++)
                    annotation += (double)o->p.p_class[i * o->C + k] * (double)P[k * o->C + c];
                worst = test_worst(worst, fabs(annotation - (double)o->p.p_annotation[(i * o->m + j) * o->C + c]));
                perf += (double)o->p.p_class[i * o->C + c] * (double)P[c * o->C + c];
            }
            worst = test_worst(worst, fabs(perf - (double)o->p.p_perf[i * o->m + j]));
        }
    }
    CHECK_NEAR(worst, 0.0, 2e-6);
}

static struct amx_model *model_of(struct toy *toy, size_t N, size_t C, int ensemble)
{
    toy_init(toy, N, 7, C, 6, 31);
    toy->options.settings.hidden[0] = 24;
    toy->options.ensemble = ensemble;
    return toy_fit(toy);
}

TEST(learn_predict_consistent)
{
    static const struct {
        size_t C;
        int ensemble;
    } cases[] = {{2, 1}, {5, 1}, {17, 1}, {4, 3}};
    static const uint32_t annotators[] = {0, 3, AMX_UNSEEN, 5, 1, 2, 4};

    for (size_t i = 0; i < 4; i++) {
        struct toy toy;
        struct amx_model *model = model_of(&toy, 130, cases[i].C, cases[i].ensemble);
        struct outputs o = predict(model, toy.features, 130, annotators, 7);
        check_consistent(&o);
        outputs_free(&o);
        amx_model_free(model);
        toy_done(&toy);
    }
}

TEST(learn_predict_rows_do_not_depend_on_each_other)
{
    static const uint32_t annotators[] = {2, AMX_UNSEEN, 0};
    struct toy toy;
    struct amx_model *model = model_of(&toy, 150, 3, 2);
    struct outputs all = predict(model, toy.features, 150, annotators, 3);
    bool same = true;

    for (size_t i = 0; i < 150; i++) {
        for (size_t j = 0; j < 3; j++) {
            struct outputs one = predict(model, toy.features + i * 7, 1, annotators + j, 1);
            same = same && memcmp(one.p.p_class, all.p.p_class + i * 3, 3 * sizeof(float)) == 0;
            same = same && one.p.p_perf[0] == all.p.p_perf[i * 3 + j];
            same = same && memcmp(one.p.p_confusion, all.p.p_confusion + (i * 3 + j) * 9, 9 * sizeof(float)) == 0;
            same = same && memcmp(one.p.p_annotation, all.p.p_annotation + (i * 3 + j) * 3, 3 * sizeof(float)) == 0;
            outputs_free(&one);
        }
    }
    CHECK(same);
    outputs_free(&all);
    amx_model_free(model);
    toy_done(&toy);
}

TEST(learn_predict_pairs_are_the_cross_product)
{
    enum {
        N = 100,
        A = 6,
        PAIRS = N * A
    };
    static const uint32_t annotators[A] = {0, 1, 2, 3, AMX_UNSEEN, 5};
    static uint32_t row[PAIRS], annotator[PAIRS];
    struct toy toy;
    struct amx_model *model = model_of(&toy, N, 4, 1);
    struct outputs all = predict(model, toy.features, N, annotators, A);
    float *p_class = toy_alloc(N * 4, sizeof(float)), *perf = toy_alloc(PAIRS, sizeof(float));
    float *confusion = toy_alloc(PAIRS * 16, sizeof(float));
    struct amx_error err;
    bool same = true;

    for (size_t i = 0; i < PAIRS; i++) {
        size_t p = i * 271 % PAIRS; /* scattered: 271 is prime to 600 */
        row[i] = (uint32_t)(p / A);
        annotator[i] = annotators[p % A];
    }
    const struct amx_pairs_prediction out = {.p_class = p_class, .p_perf = perf, .p_confusion = confusion};
    const struct amx_pairs_prediction none = {.p_class = NULL};
    CHECK_INT(amx_predict_pairs(model, AMX_NO_FOLD, toy.features, N, row, annotator, PAIRS, &out, &err), AMX_OK);
    CHECK(memcmp(p_class, all.p.p_class, N * 4 * sizeof(float)) == 0);
    for (size_t i = 0; i < PAIRS; i++) {
        size_t p = i * 271 % PAIRS;
        same = same && perf[i] == all.p.p_perf[p];
        same = same && memcmp(confusion + i * 16, all.p.p_confusion + p * 16, 16 * sizeof(float)) == 0;
    }
    CHECK(same);
    CHECK_INT(amx_predict_pairs(model, AMX_NO_FOLD, toy.features, N, NULL, NULL, 0, &none, &err), AMX_OK);
    CHECK_INT(amx_predict_pairs(model, 0, toy.features, N, row, annotator, PAIRS, &out, &err), AMX_INVALID);
    row[7] = N;
    CHECK_INT(amx_predict_pairs(model, AMX_NO_FOLD, toy.features, N, row, annotator, PAIRS, &out, &err), AMX_INVALID);
    free(confusion);
    free(perf);
    free(p_class);
    outputs_free(&all);
    amx_model_free(model);
    toy_done(&toy);
}

TEST(learn_predict_unseen_annotator)
{
    static const uint32_t both[2] = {AMX_UNSEEN, 5};
    struct toy toy;
    struct amx_model *model;
    struct outputs o;
    const float *embed;
    double e[8] = {0};

    toy_init(&toy, 60, 4, 3, 5, 33);
    toy.data.n_annotators = 6; /* number 5 never labelled: unseen, although the data names it */
    toy.data.annotator_names = NULL;
    model = toy_fit(&toy);
    o = predict(model, toy.features, 60, both, 2);
    for (size_t i = 0; i < 60; i++)
        CHECK(o.p.p_perf[2 * i] == o.p.p_perf[2 * i + 1]);
    check_consistent(&o);

    /* By hand for instance 0: the embedding is the share-weighted mean of the table. */
    embed = model->tensors + model->layout.tensor[layout_find(&model->layout, "annotator_embed.weight")].compact;
    for (size_t k = 0; k < 8; k++) {
        for (size_t a = 0; a < 6; a++)
            e[k] += (double)embed[k * 6 + a] * (double)model->annotator_labels[a] / (double)model->labels_used;
    }
    /* Put that mean into annotator 5's column and give it evidence: it must now predict the same to rounding. */
    struct amx_model *changed = NULL;
    struct amx_error err;
    CHECK_INT(model_new(model->method, &model->settings, 4, 3, 6, 1, &changed, &err), AMX_OK);
    memcpy(changed->tensors, model->tensors, model->layout.compact_length * sizeof(float));
    memcpy(changed->mean, model->mean, 4 * sizeof(float));
    memcpy(changed->scale, model->scale, 4 * sizeof(float));
    memcpy(changed->annotator_labels, model->annotator_labels, 6 * sizeof(uint64_t));
    changed->labels_used = model->labels_used;
    changed->annotator_labels[5] = 1;
    for (size_t k = 0; k < 8; k++)
        changed
            ->tensors[model->layout.tensor[layout_find(&model->layout, "annotator_embed.weight")].compact + k * 6 + 5] =
            (float)e[k];
    CHECK_INT(model_prepare(changed, &err), AMX_OK);
    struct outputs q = predict(changed, toy.features, 60, both + 1, 1);
    for (size_t i = 0; i < 60; i++)
        CHECK_NEAR(q.p.p_perf[i], o.p.p_perf[2 * i], 2e-6);
    outputs_free(&q);
    outputs_free(&o);
    amx_model_free(changed);
    amx_model_free(model);
    toy_done(&toy);
}

TEST(learn_predict_ensemble_is_the_mean)
{
    static const uint32_t annotators[2] = {0, 4};
    struct toy toy;
    struct amx_model *model = model_of(&toy, 80, 3, 2), *member[2] = {NULL, NULL};
    struct outputs all = predict(model, toy.features, 80, annotators, 2), one[2];
    struct amx_error err;

    for (int m = 0; m < 2; m++) {
        CHECK_INT(model_new(model->method, &model->settings, 7, 3, 6, 1, &member[m], &err), AMX_OK);
        memcpy(member[m]->tensors, model_member(model, m), model->layout.compact_length * sizeof(float));
        memcpy(member[m]->mean, model->mean, 7 * sizeof(float));
        memcpy(member[m]->scale, model->scale, 7 * sizeof(float));
        memcpy(member[m]->annotator_labels, model->annotator_labels, 6 * sizeof(uint64_t));
        member[m]->labels_used = model->labels_used;
        CHECK_INT(model_prepare(member[m], &err), AMX_OK);
        one[m] = predict(member[m], toy.features, 80, annotators, 2);
    }
    for (size_t i = 0; i < 80 * 3; i++)
        CHECK_NEAR(all.p.p_class[i], 0.5f * (one[0].p.p_class[i] + one[1].p.p_class[i]), 1e-6);
    for (size_t i = 0; i < 160; i++)
        CHECK_NEAR(all.p.p_perf[i], 0.5f * (one[0].p.p_perf[i] + one[1].p.p_perf[i]), 1e-6);
    for (int m = 0; m < 2; m++) {
        outputs_free(&one[m]);
        amx_model_free(member[m]);
    }
    outputs_free(&all);
    amx_model_free(model);
    toy_done(&toy);
}

TEST(learn_predict_refuses)
{
    struct toy toy;
    struct amx_model *model = model_of(&toy, 70, 3, 1);
    uint32_t annotator = 6;
    float p[70 * 3];
    struct amx_prediction out = {.p_class = p};
    struct amx_error err;

    CHECK_INT(amx_predict(model, toy.features, 70, &annotator, 1, &out, &err), AMX_INVALID);
    CHECK(strstr(err.text, "6 annotators") != NULL);
    toy.features[65 * 7 + 2] = NAN;
    CHECK_INT(amx_predict(model, toy.features, 70, NULL, 0, &out, &err), AMX_INVALID);
    CHECK(strstr(err.text, "row 65") != NULL);
    CHECK_INT(amx_predict(model, toy.features, 0, NULL, 0, &out, &err), AMX_OK);
    amx_model_free(model);
    toy_done(&toy);
}

TEST(learn_predict_info)
{
    struct toy toy;
    struct amx_model *model = model_of(&toy, 70, 3, 2);
    struct amx_model_info info;
    uint64_t total = 0;

    amx_model_info(model, &info);
    CHECK_STR(info.method, "annot_mix");
    CHECK_INT(info.seed, 7);
    CHECK_INT(info.ensemble, 2);
    CHECK_INT(info.n_features, 7);
    CHECK_INT(info.n_classes, 3);
    CHECK_INT(info.n_annotators, 6);
    CHECK_STR(info.class_names[2], "c2");
    CHECK_STR(info.annotator_names[5], "a5");
    CHECK_STR(info.data_hash, "sha256:toy");
    for (size_t a = 0; a < 6; a++)
        total += info.annotator_labels[a];
    CHECK_INT(total, info.labels_used);
    CHECK(info.temperature == 1.0 && info.memory_bytes > 1000);
    amx_model_free(model);
    amx_model_free(NULL);
    toy_done(&toy);
}
