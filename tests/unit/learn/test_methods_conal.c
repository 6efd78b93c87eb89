/* test_methods_conal.c - CoNAL: golden values, gradients, predictions. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "deep_check.h"
#include "reference.h"
#include "test.h"

enum {
    WIDTH = 20,
    MOST_CLASSES = 8
};

static double norm(const double *x, size_t n)
{
    double sum = 0.0;

    for (size_t i = 0; i < n; i++)
        sum += x[i] * x[i];
    return sqrt(sum);
}

static double reference(const struct deep *d, const double *p, const double *u)
{
    const struct dims *dims = &d->model->dims;
    const struct batch *b = &d->workspace.batch;
    const size_t C = dims->C, A = dims->A;
    const double *common = deep_tensor(d, d->parameters, "common.weight");
    const double *own = deep_tensor(d, d->parameters, "confusion.weight");
    double loss = 0.0, apart = 0.0, difference[MOST_CLASSES * MOST_CLASSES];

    for (size_t t = 0; t < b->n_labels; t++) {
        double ex[WIDTH], ea[WIDTH], cosine = 0.0, r, s[MOST_CLASSES], one_hot[16] = {0};
        const double *row = p + b->row[t] * C;
        one_hot[b->annotator1[t]] = 1.0;
        deep_linear(d, d->parameters, "instance_embed", u + b->row[t] * dims->H, dims->H, WIDTH, ex);
        deep_linear(d, d->parameters, "annotator_embed", one_hot, A, WIDTH, ea);
        for (size_t e = 0; e < WIDTH; e++)
            cosine += ex[e] * ea[e] / norm(ex, WIDTH) / norm(ea, WIDTH);
        r = 1.0 / (1.0 + exp(-cosine));
        for (size_t c = 0; c < C; c++) {
            s[c] = 0.0;
            for (size_t k = 0; k < C; k++)
                s[c] += row[k] * (r * common[k * C + c] + (1.0 - r) * own[(b->annotator1[t] * C + k) * C + c]);
        }
        reference_log_softmax(s, C);
        loss -= s[b->class1[t]] / (double)b->n_labels;
    }
    for (size_t a = 0; a < A; a++) {
        for (size_t i = 0; i < C * C; i++)
            difference[i] = own[a * C * C + i] - common[i];
        apart += norm(difference, C * C);
    }
    return loss - 1e-5 * apart;
}

TEST(learn_conal_golden)
{
    deep_golden("conal");
    deep_golden("conal_start");
}

TEST(learn_conal_gradients)
{
    struct deep d;

    deep_open(&d, 9, 5, 3, 4);
    deep_gradients(&d, deep_step(&d, "conal", false), reference);
    deep_close(&d);
    deep_open(&d, 8, 4, 2, 3);
    d.settings->n_hidden = 0;
    deep_gradients(&d, deep_step(&d, "conal", false), reference);
    deep_close(&d);
}

/* At the start every W_a is G, where the length of their difference has no gradient: everything must stay finite. */
TEST(learn_conal_start)
{
    struct deep d;
    const float *gradient;
    int tensor;

    deep_open(&d, 9, 5, 3, 4);
    CHECK(isfinite(deep_step(&d, "conal", true)));
    tensor = layout_find(&d.model->layout, "confusion.weight");
    CHECK(tensor >= 0);
    gradient = d.workspace.gradients + d.model->layout.tensor[tensor].offset;
    for (size_t i = 0; i < 4 * 3 * 3; i++)
        CHECK(isfinite(gradient[i]));
    free(d.workspace.out_gradient);
    deep_close(&d);
}

TEST(learn_conal_predictions)
{
    deep_predictions("conal", false);
}
