/* test_methods_union_net.c - UnionNet: golden values, gradients, predictions. */
#include <math.h>

#include "deep_check.h"
#include "test.h"

static double reference(const struct deep *d, const double *p, const double *u)
{
    const struct batch *b = &d->workspace.batch;
    const size_t C = d->model->dims.C, A = d->model->dims.A;
    const double *logits = deep_tensor(d, d->parameters, "confusion.weight"); /* [a][k][c] */
    double loss = 0.0, column[8] = {0};

    (void)u;
    for (size_t i = 0; i < A * C * C; i++)
        column[i / C % C] += exp(logits[i]);
    for (size_t t = 0; t < b->n_labels; t++) {
        double q = 0.0;
        for (size_t k = 0; k < C; k++)
            q += p[b->row[t] * C + k] * exp(logits[(b->annotator1[t] * C + k) * C + b->class1[t]]) / column[k];
        loss -= log(q) / (double)b->n_rows;
    }
    return loss;
}

TEST(learn_union_net_golden)
{
    deep_golden("union_net");
    deep_golden("union_net_start");
}

TEST(learn_union_net_gradients)
{
    struct deep d;

    deep_open(&d, 9, 5, 3, 4);
    deep_gradients(&d, deep_step(&d, "union_net", false), reference);
    deep_close(&d);
    deep_open(&d, 10, 3, 4, 1);
    d.settings->n_hidden = 0;
    deep_gradients(&d, deep_step(&d, "union_net", true), reference);
    deep_close(&d);
}

TEST(learn_union_net_predictions)
{
    deep_predictions("union_net", true);
}
