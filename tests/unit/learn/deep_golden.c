/* deep_golden.c - runs a case of tests/golden/deep (format: tests/golden/make_deep_golden.py). */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "deep_check.h"
#include "json_numbers.h"
#include "test.h"

/* Numbers of a tensor, or of {"every_7th": [...]} with stride 7. */
static struct numbers sampled(const json_t *value, size_t *stride)
{
    const json_t *sample = json_object_get(value, "every_7th");

    *stride = sample != NULL ? 7 : 1;
    return numbers_of(sample != NULL ? sample : value);
}

struct golden {
    json_t *json;
    const char *name;
    struct amx_settings settings;
    struct amx_data data;
    float *features;
    uint32_t *triples[3], *order;
    struct amx_model *model;
    struct train_data train;
    struct workspace workspace;
};

static void compare(const struct golden *g, const char *when, const char *what, const float *ours, size_t n,
                    const json_t *expected)
{
    size_t stride;
    struct numbers e = sampled(expected, &stride);
    double largest = 0.0, worst = 0.0;
    bool within = e.n > 0 && e.n == (n + stride - 1) / stride;
    char text[200];

    for (size_t i = 0; i < e.n; i++)
        largest = fmax(largest, fabs(e.x[i]));
    for (size_t i = 0; i < e.n && within; i++) {
        double d = fabs((double)ours[i * stride] - e.x[i]);
        worst = test_worst(worst, d);
        within = d <= 1e-4 * largest + 1e-6; /* false for NaN */
    }
    (void)snprintf(text, sizeof text, "%s: %s %s within 1e-4 max|tensor| + 1e-6 (max %g, difference %g)", g->name, when,
                   what, largest, worst);
    test_check(within, __FILE__, __LINE__, text);
    free(e.x);
}

/* `block` in training form; tensors that the file names. */
static void compare_tensors(const struct golden *g, const char *when, const float *block, const json_t *expected)
{
    const struct layout *layout = &g->model->layout;
    float *compact = toy_alloc(layout->compact_length, sizeof(float));
    size_t found = 0;

    layout_export(layout, block, compact);
    for (int i = 0; i < layout->n; i++) {
        const struct tensor *t = &layout->tensor[i];
        const json_t *value = json_object_get(expected, t->name);
        found += value != NULL;
        if (value != NULL)
            compare(g, when, t->name, compact + t->compact, t->rows * t->cols, value);
    }
    CHECK_INT(found, json_object_size(expected));
    free(compact);
}

static void compare_gradients(const struct golden *g, const json_t *expected)
{
    const struct layout *layout = &g->model->layout;
    float *block = toy_alloc(layout->group_start[N_GROUPS], sizeof(float));
    int streamed = layout_find(layout, "ap_out.weight");

    memcpy(block, g->workspace.gradients, layout->group_start[GROUP_STREAMED] * sizeof(float));
    if (streamed >= 0) {
        const struct tensor *t = &layout->tensor[streamed];
        memcpy(block + t->offset, g->workspace.out_gradient, t->rows * t->row_stride * sizeof(float));
    }
    compare_tensors(g, "gradient of", block, expected);
    free(block);
}

static void read_settings(struct golden *g)
{
    const json_t *dims = json_object_get(g->json, "dims"), *settings = json_object_get(g->json, "settings");
    const json_t *hidden = json_object_get(dims, "hidden");

    g->data.n_features = (size_t)number_at(dims, "features");
    g->data.n_classes = (size_t)number_at(dims, "classes");
    g->data.n_annotators = (size_t)number_at(dims, "annotators");
    amx_settings_default(g->data.n_features, &g->settings);
    g->settings.n_hidden = (int)json_array_size(hidden);
    for (size_t i = 0; i < json_array_size(hidden); i++)
        g->settings.hidden[i] = (int)json_integer_value(json_array_get(hidden, i));
    g->settings.eta = number_at(settings, "eta");
    g->settings.dropout = number_at(settings, "dropout");
    g->settings.weight_decay = number_at(settings, "weight_decay");
    g->settings.annotator_weight_decay = number_at(settings, "annotator_weight_decay");
    g->settings.train_gamma = json_is_true(json_object_get(settings, "train_gamma"));
    g->settings.standardize = false;
}

static void read_data(struct golden *g)
{
    struct numbers x = numbers_of(json_object_get(g->json, "instances"));

    g->data.n_instances = json_array_size(json_object_get(g->json, "instances"));
    g->features = toy_alloc(x.n, sizeof(float));
    for (size_t i = 0; i < x.n; i++)
        g->features[i] = (float)x.x[i];
    free(x.x);
    x = numbers_of(json_object_get(g->json, "triples"));
    g->data.n_labels = x.n / 3;
    for (size_t c = 0; c < 3; c++) {
        g->triples[c] = toy_alloc(x.n / 3, sizeof(uint32_t));
        for (size_t t = 0; t < x.n / 3; t++)
            g->triples[c][t] = (uint32_t)x.x[3 * t + c];
    }
    free(x.x);
    g->data.features = g->features;
    g->data.label_instance = g->triples[0];
    g->data.label_annotator = g->triples[1];
    g->data.label_class = g->triples[2];
    g->order = toy_alloc(g->data.n_instances, sizeof(uint32_t));
    for (uint32_t i = 0; i < g->data.n_instances; i++)
        g->order[i] = i;
}

static void make_workspace(struct golden *g)
{
    const json_t *initial = json_object_get(g->json, "initial");
    const struct layout *layout;
    struct dims *dims;
    struct amx_error err;
    size_t widest = 0;

    CHECK_INT(model_new(method_find(json_string_value(json_object_get(g->json, "method"))), &g->settings,
                        g->data.n_features, g->data.n_classes, g->data.n_annotators, 1, &g->model, &err),
              AMX_OK);
    layout = &g->model->layout;
    dims = &g->model->dims;
    g->settings.batch_size = (int)g->data.n_instances;
    CHECK_INT(train_data_init(&g->train, &g->data, &g->settings, &err), AMX_OK);
    workspace_dims(dims, g->model->method, g->train.n_rows, g->train.n_rows, g->train.max_labels, g->train.n_labels);
    CHECK_INT(workspace_init(&g->workspace, g->model->method, layout, dims, &g->settings, g->train.n_rows), AMX_OK);
    workspace_seed(&g->workspace, 1, 0, g->train.n_rows);
    for (int i = 0; i < layout->n; i++) {
        const struct tensor *t = &layout->tensor[i];
        struct numbers x = numbers_of(json_object_get(initial, t->name));
        test_check(x.n == t->rows * t->cols, __FILE__, __LINE__, t->name);
        for (size_t j = 0; j < x.n && j < t->rows * t->cols; j++)
            g->model->tensors[t->compact + j] = (float)x.x[j];
        widest = t->group == GROUP_STREAMED ? t->rows * t->row_stride : widest;
        free(x.x);
    }
    layout_import(layout, g->model->tensors, g->workspace.parameters);
    g->workspace.out_gradient = toy_alloc(widest, sizeof(float));
}

static void run_step(struct golden *g, const json_t *step)
{
    const json_t *masks = json_object_get(step, "dropout_keep_masks");
    const struct step_rates rates = {number_at(step, "lr"), number_at(step, "lr")};
    struct forced_masks forced = {.annotator = NULL};
    unsigned char *owned[AMX_MAX_HIDDEN] = {NULL};
    float loss;

    for (size_t l = 0; l < json_array_size(masks); l++) {
        struct numbers x = numbers_of(json_array_get(masks, l));
        forced.hidden[l] = owned[l] = toy_alloc(x.n, 1);
        for (size_t i = 0; i < x.n; i++)
            owned[l][i] = x.x[i] != 0.0;
        free(x.x);
    }
    g->workspace.forced = &forced;
    batch_load(&g->workspace.batch, &g->train, g->order, g->data.n_instances);
    g->model->method->draw(&g->workspace);
    loss = (float)g->model->method->step(&g->workspace, &rates);
    compare(g, "loss", "", &loss, 1, json_object_get(step, "loss"));
    for (size_t l = 0; l < AMX_MAX_HIDDEN; l++)
        free(owned[l]);
}

static void compare_predictions(struct golden *g)
{
    const json_t *predict = json_object_get(g->json, "predict");
    const size_t N = g->data.n_instances, C = g->data.n_classes, m = g->data.n_annotators + 1;
    uint32_t annotators[32];
    struct amx_prediction out;
    struct amx_error err;

    for (uint32_t a = 0; a < m; a++)
        annotators[a] = a + 1 == m ? AMX_UNSEEN : a;
    out.p_class = toy_alloc(N * C, sizeof(float));
    out.p_perf = toy_alloc(N * m, sizeof(float));
    out.p_annotation = toy_alloc(N * m * C, sizeof(float));
    out.p_confusion = toy_alloc(N * m * C * C, sizeof(float));
    layout_export(&g->model->layout, g->workspace.parameters, g->model->tensors);
    memcpy(g->model->annotator_labels, g->train.annotator_labels, g->data.n_annotators * sizeof(uint64_t));
    g->model->labels_used = g->data.n_labels;
    for (size_t j = 0; j < g->data.n_features; j++)
        g->model->scale[j] = 1.0f;
    CHECK_INT(model_prepare(g->model, &err), AMX_OK);
    CHECK_INT(amx_predict(g->model, g->features, N, annotators, m, &out, &err), AMX_OK);
    compare(g, "p_class", "", out.p_class, N * C, json_object_get(predict, "p_class"));
    compare(g, "p_perf", "", out.p_perf, N * m, json_object_get(predict, "p_perf"));
    compare(g, "p_annotation", "", out.p_annotation, N * m * C, json_object_get(predict, "p_annotation"));
    compare(g, "p_confusion", "", out.p_confusion, N * m * C * C, json_object_get(predict, "p_confusion"));
    free(out.p_confusion);
    free(out.p_annotation);
    free(out.p_perf);
    free(out.p_class);
}

void deep_golden(const char *name)
{
    struct golden g;
    const json_t *steps;
    json_error_t error;
    char text[100];

    memset(&g, 0, sizeof g);
    (void)snprintf(text, sizeof text, "tests/golden/deep/%s.json", name);
    g.json = json_load_file(text, 0, &error);
    test_check(g.json != NULL, __FILE__, __LINE__, text);
    if (g.json == NULL)
        return;
    g.name = name;
    read_settings(&g);
    read_data(&g);
    make_workspace(&g);
    steps = json_object_get(g.json, "steps");
    CHECK(json_array_size(steps) > 1);
    for (size_t s = 0; s < json_array_size(steps); s++) {
        const json_t *step = json_array_get(steps, s);
        run_step(&g, step);
        (void)snprintf(text, sizeof text, "after step %zu", s + 1);
        if (json_object_get(step, "gradients") != NULL)
            compare_gradients(&g, json_object_get(step, "gradients"));
        if (json_object_get(step, "parameters_after") != NULL)
            compare_tensors(&g, text, g.workspace.parameters, json_object_get(step, "parameters_after"));
    }
    compare_predictions(&g);
    free(g.workspace.out_gradient);
    workspace_done(&g.workspace);
    train_data_done(&g.train);
    amx_model_free(g.model);
    free(g.order);
    for (size_t c = 0; c < 3; c++)
        free(g.triples[c]);
    free(g.features);
    json_decref(g.json);
}
