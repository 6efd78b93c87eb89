/* matrix_case.c - see matrix_case.h. */
#include "matrix_case.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fixture.h"
#include "json_numbers.h"
#include "test.h"

/* ---- reading ----------------------------------------------------------------------------------------------------- */

static size_t size_of(const json_t *object, const char *key)
{
    return (size_t)json_integer_value(json_object_get(object, key));
}

static void read_data(struct matrix_case *g)
{
    const json_t *dims = json_object_get(g->json, "dims"), *optimizer = json_object_get(g->json, "optimizer");
    const json_t *hidden = json_object_get(dims, "hidden");
    struct numbers x = numbers_of(json_object_get(g->json, "instances"));
    struct numbers triples = numbers_of(json_object_get(g->json, "triples"));
    const size_t labels = triples.n / 3;

    g->D = size_of(dims, "features");
    g->C = size_of(dims, "classes");
    g->A = size_of(dims, "annotators");
    g->N = x.n / g->D;
    amx_settings_default(g->D, &g->settings);
    g->settings.n_hidden = (int)json_array_size(hidden);
    for (size_t i = 0; i < json_array_size(hidden); i++)
        g->settings.hidden[i] = (int)json_integer_value(json_array_get(hidden, i));
    g->settings.dropout = number_at(g->json, "dropout");
    g->settings.weight_decay = number_at(optimizer, "weight_decay_gt");
    g->settings.annotator_weight_decay = number_at(optimizer, "weight_decay_ap");
    g->settings.standardize = false;
    g->settings.batch_size = (int)g->N;
    g->features = toy_alloc(x.n, sizeof(float));
    g->instance = toy_alloc(labels, sizeof(uint32_t));
    g->annotator = toy_alloc(labels, sizeof(uint32_t));
    g->label = toy_alloc(labels, sizeof(uint32_t));
    for (size_t i = 0; i < x.n; i++)
        g->features[i] = (float)x.x[i];
    for (size_t l = 0; l < labels; l++) {
        g->instance[l] = (uint32_t)triples.x[3 * l];
        g->annotator[l] = (uint32_t)triples.x[3 * l + 1];
        g->label[l] = (uint32_t)triples.x[3 * l + 2];
    }
    g->data = (struct amx_data){.n_instances = g->N,
                                .n_features = g->D,
                                .n_classes = g->C,
                                .n_annotators = g->A,
                                .n_labels = labels,
                                .features = g->features,
                                .label_instance = g->instance,
                                .label_annotator = g->annotator,
                                .label_class = g->label};
    free(triples.x);
    free(x.x);
}

struct coin_net_state *matrix_case_coin(struct matrix_case *g)
{
    return g->model->method == &method_coin_net ? g->workspace.state : NULL;
}

static void start(struct matrix_case *g)
{
    const json_t *initial = json_object_get(g->json, "initial");
    const struct layout *layout = &g->model->layout;
    const size_t cells = g->data.n_labels * g->C;
    struct coin_net_state *coin = matrix_case_coin(g);

    g->parameters = toy_alloc(layout->compact_length + cells, sizeof(double));
    g->outliers = g->parameters + layout->compact_length;
    for (int i = 0; i < layout->n; i++) {
        const struct tensor *t = &layout->tensor[i];
        struct numbers x = numbers_of(json_object_get(initial, t->name));
        test_check(x.n == t->rows * t->cols, __FILE__, __LINE__, t->name);
        for (size_t j = 0; j < x.n && j < t->rows * t->cols; j++)
            g->model->tensors[t->compact + j] = (float)x.x[j];
        free(x.x);
    }
    layout_import(layout, g->model->tensors, g->workspace.parameters);
    if (coin != NULL) {
        struct numbers x = numbers_of(json_object_get(initial, "outliers"));
        CHECK_INT(x.n, cells);
        for (size_t j = 0; j < x.n && j < cells; j++)
            coin->e[j] = (float)x.x[j];
        free(x.x);
    }
    for (size_t i = 0; i < layout->compact_length; i++)
        g->parameters[i] = (double)g->model->tensors[i];
    for (size_t i = 0; coin != NULL && i < cells; i++)
        g->outliers[i] = (double)coin->e[i];
}

void matrix_case_open(struct matrix_case *g, const char *name)
{
    char path[200];
    struct amx_error err;
    static uint32_t all[MOST];

    memset(g, 0, sizeof *g);
    (void)snprintf(path, sizeof path, "tests/golden/matrix/%s.json", name);
    g->json = json_load_file(path, 0, NULL);
    g->name = name;
    if (g->json == NULL) {
        fprintf(stderr, "cannot read %s\n", path);
        exit(2);
    }
    read_data(g);
    CHECK_INT(model_new(method_find(json_string_value(json_object_get(g->json, "method"))), &g->settings, g->D, g->C,
                        g->A, 1, &g->model, &err),
              AMX_OK);
    CHECK_INT(train_data_init(&g->train, &g->data, &g->settings, &err), AMX_OK);
    workspace_dims(&g->model->dims, g->model->method, g->N, g->N, g->train.max_labels, g->train.n_labels);
    CHECK_INT(workspace_init(&g->workspace, g->model->method, &g->model->layout, &g->model->dims, &g->settings, g->N),
              AMX_OK);
    for (uint32_t i = 0; i < MOST; i++)
        all[i] = i;
    g->member = (struct member_data){.data = &g->train, .rows = all, .n_rows = g->N};
    g->workspace.member = &g->member;
    workspace_seed(&g->workspace, 1, 0, g->N);
    if (g->model->method->prepare != NULL)
        CHECK_INT(g->model->method->prepare(&g->workspace), AMX_OK);
    start(g);
}

static void free_masks(struct matrix_case *g)
{
    for (int l = 0; l < AMX_MAX_HIDDEN; l++) {
        free(g->masks[l]);
        g->masks[l] = NULL;
    }
}

void matrix_case_close(struct matrix_case *g)
{
    free_masks(g);
    free(g->parameters);
    workspace_done(&g->workspace);
    train_data_done(&g->train);
    amx_model_free(g->model);
    free(g->label);
    free(g->annotator);
    free(g->instance);
    free(g->features);
    json_decref(g->json);
}

void matrix_case_load(struct matrix_case *g, const json_t *step)
{
    const json_t *masks = json_object_get(step, "dropout_keep_masks");
    struct numbers rows = numbers_of(json_object_get(step, "rows"));

    for (size_t i = 0; i < rows.n; i++)
        g->order[i] = (uint32_t)rows.x[i];
    batch_load(&g->workspace.batch, &g->train, g->order, rows.n);
    free(rows.x);
    free_masks(g);
    for (size_t l = 0; l < json_array_size(masks); l++) {
        struct numbers x = numbers_of(json_array_get(masks, l));
        g->masks[l] = toy_alloc(x.n, 1);
        for (size_t i = 0; i < x.n; i++)
            g->masks[l][i] = x.x[i] != 0.0;
        g->forced.hidden[l] = g->masks[l];
        free(x.x);
    }
    g->workspace.forced = &g->forced;
}

float *matrix_case_outlier_gradient(struct matrix_case *g)
{
    const struct batch *batch = &g->workspace.batch;
    const struct coin_net_state *coin = matrix_case_coin(g);
    float *all;

    if (coin == NULL)
        return NULL;
    all = toy_alloc(g->data.n_labels * g->C, sizeof(float));
    for (size_t i = 0; i < batch->n_rows; i++) {
        size_t first = g->train.begin[batch->source[i]];
        for (size_t t = batch->begin[i]; t < batch->begin[i + 1]; t++)
            memcpy(all + (first + t - batch->begin[i]) * g->C, coin->d_e + t * g->C, g->C * sizeof(float));
    }
    return all;
}
