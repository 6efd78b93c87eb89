/* test_methods_matrix_fit.c - crowd_layer, trace_reg, geo_reg_f, geo_reg_w and coin_net as a whole: start, fit, file,
 * memory, and the rules by which the determinants are dropped. Their numbers are checked in test_methods_matrix.c. */
#include "test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "annotmix.h"
#include "fixture.h"
#include "matrix_case.h"

TEST(learn_matrix_logdet_limit)
{
    double M[2 * 3] = {1e-20, 0.0, 0.0, 0.0, 1e-23, 0.0}, gram[4], term = -1.0;
    struct logdet logdet = {.C = 2, .n = 3, .columns = M, .gram = gram};

    CHECK(!logdet_term(&logdet, 3, &term)); /* -2 log 1e-43 = 198 */
    CHECK(!logdet_term(&logdet, 1, &term)); /* fewer columns than rows */
    CHECK_NEAR(term, -1.0, 0.0);
    M[0] = 2.0;
    M[4] = 1e-20;
    CHECK(logdet_term(&logdet, 3, &term)); /* 92.1 - 1.4; the second row is small, not singular */
    CHECK_NEAR(term, -2.0 * log(2e-20), 1e-9);
    CHECK_NEAR(M[0], 0.5, 1e-12); /* (M M')^-1 M */
    CHECK_NEAR(M[4] * 1e-20, 1.0, 1e-9);
}

static const char *const METHODS[] = {"crowd_layer", "trace_reg", "geo_reg_f", "geo_reg_w", "coin_net"};

/* Learns, whatever the number of threads; the file holds all that prediction needs. Members after the first start
 * anew: with one thread they reuse the workspace of the first, coin_net's vectors included. */
TEST(learn_matrix_fit)
{
    for (size_t i = 0; i < sizeof METHODS / sizeof METHODS[0]; i++) {
        struct toy toy;
        struct amx_model *one, *two, *copy = NULL;
        struct amx_error err;
        unsigned char *bytes;
        size_t n_bytes, right = 0;
        float *p, *q;
        const uint32_t annotators[] = {0, 3, AMX_UNSEEN};
        toy_init(&toy, 120, 6, 3, 4, 5);
        toy.options.method = METHODS[i];
        toy.options.ensemble = 2;
        toy.options.settings.epochs = 20;
        one = toy_fit(&toy);
        toy.options.threads = 2;
        two = toy_fit(&toy);
        if (one == NULL || two == NULL)
            exit(2);
        CHECK(toy_same_bytes(one, two));
        bytes = toy_encode(one, &n_bytes);
        CHECK_INT(amx_model_decode(bytes, n_bytes, &copy, &err), AMX_OK);
        p = toy_alloc(120 * 3, sizeof(float));
        q = toy_alloc(2 * 120 * 3, sizeof(float));
        CHECK_INT(amx_predict(one, toy.features, 120, annotators, 3, &(struct amx_prediction){.p_perf = q}, &err),
                  AMX_OK);
        if (copy != NULL)
            CHECK_INT(amx_predict(copy, toy.features, 120, annotators, 3,
                                  &(struct amx_prediction){.p_class = p, .p_perf = q + 360}, &err),
                      AMX_OK);
        CHECK(memcmp(q, q + 360, 360 * sizeof(float)) == 0);
        for (size_t j = 0; j < 120; j++) {
            const float *row = p + 3 * j;
            size_t top = row[1] > row[0] ? 1 : 0;
            top = row[2] > row[top] ? 2 : top;
            right += top == toy.truth[j];
        }
        test_check(right >= 100, __FILE__, __LINE__, METHODS[i]);
        free(q);
        free(p);
        amx_free(bytes);
        amx_model_free(copy);
        amx_model_free(two);
        amx_model_free(one);
        toy_done(&toy);
    }
}

static float tensor_at(const struct amx_model *model, size_t a, size_t cell)
{
    const struct tensor *t = &model->layout.tensor[layout_find(&model->layout, "confusion.weight")];

    return model->tensors[t->compact + a * t->cols + cell];
}

/* Published starts: identity, and 6 I - 5 for trace_reg. */
TEST(learn_matrix_start)
{
    for (size_t i = 0; i < sizeof METHODS / sizeof METHODS[0]; i++) {
        struct amx_settings settings;
        struct amx_model *model = NULL;
        struct amx_error err;
        struct rng rng;
        const float other = strcmp(METHODS[i], "trace_reg") == 0 ? -5.0f : 0.0f;
        amx_settings_default(3, &settings);
        CHECK_INT(model_new(method_find(METHODS[i]), &settings, 3, 4, 2, 1, &model, &err), AMX_OK);
        rng_seed(&rng, 1, 0, RNG_INITIAL);
        CHECK_INT(model->method->initial(&model->layout, &model->dims, &settings, NULL, model->tensors, &rng), AMX_OK);
        for (size_t cell = 0; cell < 2 * 16; cell++)
            CHECK_NEAR(tensor_at(model, cell / 16, cell % 16), cell % 16 % 5 == 0 ? 1.0f : other, 0.0);
        amx_model_free(model);
    }
}

/* Vectors of labels that no batch has for hundreds of steps are left alone and catch up later: the same as RAdam over
 * all of them in every step, here with the engine's own gradients. */
static void check_outliers(bool dense, float weight_decay)
{
    enum {
        STEPS = 1300,
        HALF = 5
    };
    struct matrix_case g;
    const struct step_rates rates = {1e-3, 1e-3};
    struct coin_net_state *coin;
    double *e, *m, *v, worst = 0.0, largest = 0.0;
    size_t cells;

    matrix_case_open(&g, "coin_net");
    g.settings.annotator_weight_decay = (double)weight_decay;
    coin = matrix_case_coin(&g);
    coin->dense = dense;
    cells = g.data.n_labels * g.C;
    e = toy_alloc(cells, sizeof(double));
    m = toy_alloc(cells, sizeof(double));
    v = toy_alloc(cells, sizeof(double));
    memset(coin->e, 0, cells * sizeof(float)); /* as in every fit */
    matrix_case_load(&g, json_array_get(json_object_get(g.json, "steps"), 0));
    for (uint64_t s = 0; s < STEPS; s++) {
        /* Rows 0..4 for 400 steps, 5..9 for 400, again 0..4, and so on; masks are all 1 in this case. */
        struct radam_step step;
        float *d;
        for (uint32_t i = 0; i < HALF; i++)
            g.order[i] = s / 400 % 2 == 0 ? i : i + HALF;
        batch_load(&g.workspace.batch, &g.train, g.order, HALF);
        CHECK(isfinite(g.model->method->step(&g.workspace, &rates)));
        radam_prepare(&step, s + 1, rates.annotator_learning_rate, (double)weight_decay);
        d = matrix_case_outlier_gradient(&g);
        for (size_t i = 0; i < cells && d != NULL; i++) {
            double x = (double)d[i] + (double)step.weight_decay * e[i];
            m[i] = 0.9 * m[i] + 0.1 * x;
            v[i] = 0.999 * v[i] + 0.001 * x * x;
            e[i] -= (double)step.step * m[i] / (step.rectified ? sqrt(v[i]) + 1e-8 : 1.0);
        }
        free(d);
    }
    for (size_t i = 0; i < cells; i++) {
        worst = test_worst(worst, fabs(e[i] - (double)coin->e[i]));
        largest = fmax(largest, fabs(e[i]));
    }
    CHECK(largest > 0.01);
    CHECK_NEAR(worst / largest, 0.0, 1e-4);
    free(v);
    free(m);
    free(e);
    matrix_case_close(&g);
}

TEST(learn_matrix_coin_net_absent_labels)
{
    check_outliers(false, 0.0f);
    check_outliers(true, 0.0f);
    check_outliers(true, 1e-3f);
}

/* Three floats per label and class, beside what geo_reg_f holds. */
TEST(learn_matrix_coin_net_memory)
{
    struct toy toy;
    size_t with, without;

    toy_init(&toy, 4000, 3, 5, 6, 2);
    toy.options.method = "coin_net";
    with = amx_fit_memory(&toy.data, &toy.options);
    toy.options.method = "geo_reg_f";
    without = amx_fit_memory(&toy.data, &toy.options);
    CHECK(with > without + toy.data.n_labels * 5 * 3 * sizeof(float));
    CHECK(with < without + toy.data.n_labels * 5 * 3 * sizeof(float) + toy.data.n_labels * 4 + 200000);
    toy_done(&toy);
}
