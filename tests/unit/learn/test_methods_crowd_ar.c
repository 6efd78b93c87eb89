/* test_methods_crowd_ar.c - CrowdAR: golden values, gradients, the sign of w3, predictions. */
#include <math.h>
#include <string.h>

#include "deep_check.h"
#include "reference.h"
#include "test.h"

enum {
    WIDTH = 128,
    MOST_CLASSES = 8
};

static double sigmoid(double x)
{
    return 1.0 / (1.0 + exp(-x));
}

/* u is detached: the difficulty is always that of the start. */
static double reference(const struct deep *d, const double *p, const double *u)
{
    const struct dims *dims = &d->model->dims;
    const struct batch *b = &d->workspace.batch;
    const size_t C = dims->C;
    const double *expertise = deep_tensor(d, d->parameters, "expertise");
    const double *own = deep_tensor(d, d->parameters, "confusion.weight");
    const double *w3 = deep_tensor(d, d->parameters, "reliability.weight");
    const double *b3 = deep_tensor(d, d->parameters, "reliability.bias");
    double loss = 0.0;

    (void)u;
    for (size_t t = 0; t < b->n_labels; t++) {
        double hidden[WIDTH], difficulty[MOST_CLASSES], s[MOST_CLASSES], m = b3[0];
        const size_t i = b->row[t], a = b->annotator1[t], z = b->class1[t];
        size_t top = 0;
        deep_linear(d, d->parameters, "difficulty0", d->u_start + i * dims->H, dims->H, WIDTH, hidden);
        for (size_t j = 0; j < WIDTH; j++)
            hidden[j] = sigmoid(hidden[j]);
        deep_linear(d, d->parameters, "difficulty1", hidden, WIDTH, C, difficulty);
        for (size_t c = 0; c < C; c++) {
            m += w3[c] * (sigmoid(expertise[a * C + c]) - sigmoid(difficulty[c])) * p[i * C + c];
            top = p[i * C + c] > p[i * C + top] ? c : top;
            s[c] = 0.0;
            for (size_t k = 0; k < C; k++)
                s[c] += p[i * C + k] * own[(a * C + k) * C + c];
        }
        m = sigmoid(m);
        reference_log_softmax(s, C);
        for (size_t c = 0; c < C; c++)
            loss -= 0.9 * ((c == z ? m : 0.0) + (1.0 - m) / (double)C) * s[c];
        loss -= 0.1 * log(top == z ? m : 1.0 - m);
    }
    return loss / (double)b->n_labels;
}

TEST(learn_crowd_ar_golden)
{
    deep_golden("crowd_ar");
    deep_golden("crowd_ar_start");
}

TEST(learn_crowd_ar_gradients)
{
    struct deep d;

    deep_open(&d, 9, 5, 3, 4);
    deep_gradients(&d, deep_step(&d, "crowd_ar", false), reference);
    deep_close(&d);
    deep_open(&d, 8, 4, 2, 3);
    d.settings->n_hidden = 0;
    deep_gradients(&d, deep_step(&d, "crowd_ar", false), reference);
    deep_close(&d);
}

/* Fresh weights are of both signs; from the first step on none is below 0. */
TEST(learn_crowd_ar_weights_not_negative)
{
    struct toy toy;
    struct amx_model *model;

    toy_init(&toy, 60, 4, 6, 5, 3);
    toy.options.method = "crowd_ar";
    toy.options.settings.epochs = 1;
    model = toy_fit(&toy);
    if (model != NULL) {
        int tensor = layout_find(&model->layout, "reliability.weight");
        bool some = false;
        CHECK(tensor >= 0);
        for (size_t c = 0; c < 6; c++) {
            float w = model->tensors[model->layout.tensor[tensor].compact + c];
            CHECK(w >= 0.0f);
            some = some || w > 0.0f;
        }
        CHECK(some);
    }
    amx_model_free(model);
    toy_done(&toy);
}

TEST(learn_crowd_ar_predictions)
{
    deep_predictions("crowd_ar", false);
}
