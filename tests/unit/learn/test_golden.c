/* test_golden.c - src/learn against the golden vectors of tests/golden, tests/golden/target (and ../shared/golden where
 * present).
 *
 * Each case fixes parameters, mixing and dropout masks and gives, from float64 autograd, the loss of every step, all
 * gradients of the first, parameters after the first and the last, and predictions. The steps run through the same
 * workspace, batch and method as amx_fit; predictions through the model file's compact form and amx_predict. Cases of
 * another method than annot_mix name it, and the tensors (and targets) that it has to derive from the labels. */
#include "test.h"

#include <dirent.h>
#include <jansson.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "annotmix.h"
#include "json_numbers.h"
#include "learn/class_model.h"
#include "learn/method.h"
#include "learn/methods/class_target.h"
#include "learn/mixup.h"
#include "learn/model.h"
#include "learn/workspace.h"

static const char *case_name; /* of the failure messages */

/* The rule of golden/README.md. */
static void compare(const char *what, const float *ours, const json_t *expected)
{
    struct numbers e = numbers_of(expected);
    double largest = 0.0, worst = 0.0;
    bool all_within = expected != NULL;
    char text[160];

    for (size_t i = 0; i < e.n; i++)
        largest = fmax(largest, fabs(e.x[i]));
    for (size_t i = 0; i < e.n; i++) {
        double d = fabs((double)ours[i] - e.x[i]);
        worst = test_worst(worst, d);
        all_within = all_within && d <= 1e-4 * largest + 1e-6; /* false for NaN */
    }
    (void)snprintf(text, sizeof text, "%s: %s within 1e-4 max|tensor| + 1e-6 (max %g, worst difference %g)", case_name,
                   what, largest, worst);
    test_check(all_within, __FILE__, __LINE__, text);
    free(e.x);
}

struct golden {
    json_t *json;
    struct amx_settings settings;
    size_t N, D, C, A;
    float *features;
    uint32_t *instance, *annotator, *class;
    struct amx_data data;
    const char *method;
    int32_t *gold;
    float *history, *posterior; /* or NULL */
    uint32_t order[64];
    struct amx_model *model;
    struct train_data train;
    struct member_data member;
    struct workspace workspace;
};

static void read_settings(struct golden *g)
{
    const json_t *dims = json_object_get(g->json, "dims"), *optimizer = json_object_get(g->json, "optimizer");
    const json_t *hidden = json_object_get(dims, "hidden");

    g->D = (size_t)number_at(dims, "features");
    g->C = (size_t)number_at(dims, "classes");
    g->A = (size_t)number_at(dims, "annotators");
    g->N = json_array_size(json_object_get(g->json, "instances"));
    amx_settings_default(g->D, &g->settings);
    g->settings.n_hidden = (int)json_array_size(hidden);
    for (size_t i = 0; i < json_array_size(hidden); i++)
        g->settings.hidden[i] = (int)json_integer_value(json_array_get(hidden, i));
    g->settings.annotator_embedding = (int)number_at(dims, "embed");
    g->settings.alpha = number_at(g->json, "alpha");
    g->settings.eta = number_at(g->json, "eta");
    g->settings.dropout = number_at(g->json, "dropout");
    g->settings.mix_only_annotators = json_is_true(json_object_get(g->json, "mix_only_annotators"));
    g->settings.weight_decay = number_at(optimizer, "weight_decay_gt");
    g->settings.annotator_weight_decay = number_at(optimizer, "weight_decay_ap");
    g->settings.standardize = false;
    g->settings.soft = json_is_true(json_object_get(json_object_get(g->json, "settings"), "soft"));
    if (json_object_get(json_object_get(g->json, "settings"), "prior_strength") != NULL)
        g->settings.prior_strength = number_at(json_object_get(g->json, "settings"), "prior_strength");
    g->method = json_string_value(json_object_get(g->json, "method"));
    g->method = g->method != NULL ? g->method : "annot_mix";
}

/* The numbers under a key as floats; NULL when the key is missing. */
static float *floats_of(const json_t *object, const char *key)
{
    struct numbers x = numbers_of(json_object_get(object, key));
    float *out = json_object_get(object, key) != NULL ? calloc(x.n + 1, sizeof *out) : NULL;

    for (size_t i = 0; out != NULL && i < x.n; i++)
        out[i] = (float)x.x[i];
    free(x.x);
    return out;
}

static void read_truth(struct golden *g)
{
    const json_t *gold = json_object_get(g->json, "gold");

    g->history = floats_of(g->json, "history");
    g->posterior = floats_of(g->json, "posterior");
    g->data.history = g->history;
    if (json_array_size(gold) == 0)
        return;
    g->gold = calloc(g->N, sizeof *g->gold);
    if (g->gold == NULL)
        exit(2);
    for (size_t i = 0; i < g->N; i++)
        g->gold[i] = (int32_t)json_integer_value(json_array_get(gold, i));
    g->data.gold = g->gold;
}

static void import_parameters(struct golden *g, const json_t *parameters, float *compact)
{
    for (int i = 0; i < g->model->layout.n; i++) {
        const struct tensor *t = &g->model->layout.tensor[i];
        const json_t *value = json_object_get(parameters, t->name);
        struct numbers x = numbers_of(value);
        test_check(value != NULL && x.n == t->rows * t->cols, __FILE__, __LINE__, t->name);
        for (size_t j = 0; j < x.n && j < t->rows * t->cols; j++)
            compact[t->compact + j] = (float)x.x[j];
        free(x.x);
    }
}

static bool golden_open(struct golden *g, const char *path)
{
    const json_t *triples;
    struct numbers x;
    json_error_t error;

    memset(g, 0, sizeof *g);
    g->json = json_load_file(path, 0, &error);
    if (!json_is_object(g->json) || json_object_get(g->json, "triples") == NULL)
        return false;
    case_name = json_string_value(json_object_get(g->json, "name"));
    read_settings(g);
    x = numbers_of(json_object_get(g->json, "instances"));
    g->features = calloc(x.n, sizeof(float));
    triples = json_object_get(g->json, "triples");
    g->data.n_labels = json_array_size(triples);
    g->instance = calloc(g->data.n_labels, sizeof(uint32_t));
    g->annotator = calloc(g->data.n_labels, sizeof(uint32_t));
    g->class = calloc(g->data.n_labels, sizeof(uint32_t));
    if (g->features == NULL || g->instance == NULL || g->annotator == NULL || g->class == NULL)
        exit(2);
    for (size_t i = 0; i < x.n; i++)
        g->features[i] = (float)x.x[i];
    free(x.x);
    x = numbers_of(triples);
    for (size_t t = 0; t < g->data.n_labels; t++) {
        g->instance[t] = (uint32_t)x.x[3 * t];
        g->annotator[t] = (uint32_t)x.x[3 * t + 1];
        g->class[t] = (uint32_t)x.x[3 * t + 2];
    }
    free(x.x);
    g->data.n_instances = g->N;
    g->data.n_features = g->D;
    g->data.n_classes = g->C;
    g->data.n_annotators = g->A;
    g->data.features = g->features;
    g->data.label_instance = g->instance;
    g->data.label_annotator = g->annotator;
    g->data.label_class = g->class;
    read_truth(g);
    return true;
}

static void golden_close(struct golden *g)
{
    workspace_done(&g->workspace);
    train_data_done(&g->train);
    amx_model_free(g->model);
    free(g->posterior);
    free(g->history);
    free(g->gold);
    free(g->class);
    free(g->annotator);
    free(g->instance);
    free(g->features);
    json_decref(g->json);
}

static void compare_tensors(struct golden *g, const float *block, const json_t *expected, const char *what)
{
    float *compact = calloc(g->model->layout.compact_length, sizeof(float));
    char text[100];

    if (compact == NULL)
        exit(2);
    layout_export(&g->model->layout, block, compact);
    for (int i = 0; i < g->model->layout.n; i++) {
        const struct tensor *t = &g->model->layout.tensor[i];
        const json_t *value = json_object_get(expected, t->name);
        (void)snprintf(text, sizeof text, "%s %s", what, t->name);
        if (value != NULL)
            compare(text, compact + t->compact, value);
    }
    free(compact);
}

/* Gradients of groups CLASS and ANNOTATOR come from the workspace, the output layer's from the hook. */
static void compare_gradients(struct golden *g, const float *out_gradient, const json_t *expected)
{
    const struct layout *layout = &g->model->layout;
    float *block = calloc(layout->group_start[N_GROUPS], sizeof(float));
    int out = layout_find(layout, "ap_out.weight");

    if (block == NULL)
        exit(2);
    memcpy(block, g->workspace.gradients, layout->group_start[GROUP_STREAMED] * sizeof(float));
    if (out >= 0)
        memcpy(block + layout->tensor[out].offset, out_gradient, g->C * g->C * g->workspace.dims.Ep * sizeof(float));
    compare_tensors(g, block, expected, "gradient of");
    free(block);
}

static unsigned char *mask_of(const json_t *value)
{
    struct numbers x = numbers_of(value);
    unsigned char *mask = calloc(x.n + 1, 1);

    if (mask == NULL)
        exit(2);
    for (size_t i = 0; i < x.n; i++)
        mask[i] = x.x[i] != 0.0;
    free(x.x);
    return mask;
}

static void run_step(struct golden *g, const json_t *step, float *out_gradient)
{
    const json_t *masks = json_object_get(step, "dropout_keep_masks");
    struct numbers lambda = numbers_of(json_object_get(step, "lambda"));
    struct numbers permutation = numbers_of(json_object_get(step, "permutation"));
    struct step_rates rates = {number_at(step, "lr"), number_at(step, "lr")};
    struct forced_masks forced = {.annotator = NULL};
    unsigned char *owned[AMX_MAX_HIDDEN + 1] = {NULL};
    int L = g->settings.n_hidden;
    float loss, lambdas[256];
    uint32_t partners[256];

    for (int l = 0; l < L; l++)
        forced.hidden[l] = owned[l] = mask_of(json_array_get(masks, (size_t)l));
    if ((size_t)L < json_array_size(masks))
        forced.annotator = owned[L] = mask_of(json_array_get(masks, (size_t)L));
    for (size_t t = 0; t < lambda.n; t++) {
        lambdas[t] = (float)lambda.x[t];
        partners[t] = (uint32_t)permutation.x[t];
    }
    g->workspace.forced = &forced;
    g->workspace.out_gradient = out_gradient;
    batch_load(&g->workspace.batch, &g->train, g->order, g->N);
    if (g->settings.alpha > 0.0)
        mixup_set(&g->workspace.batch, lambdas, partners);
    loss = (float)g->model->method->step(&g->workspace, &rates);
    compare("loss", &loss, json_object_get(step, "loss"));
    for (int l = 0; l <= L; l++)
        free(owned[l]);
    free(lambda.x);
    free(permutation.x);
}

/* The confusion matrices of an annotator the model has not seen, where the case has them. */
static void compare_unseen(struct golden *g, const json_t *expected)
{
    static const uint32_t unseen = AMX_UNSEEN;
    struct amx_prediction out = {.p_confusion = calloc(g->N * g->C * g->C, sizeof(float))};

    if (out.p_confusion == NULL)
        exit(2);
    CHECK_INT(amx_predict(g->model, g->features, g->N, &unseen, 1, &out, NULL), AMX_OK);
    if (expected != NULL)
        compare("p_confusion_unseen", out.p_confusion, expected);
    free(out.p_confusion);
}

static void compare_predictions(struct golden *g)
{
    const json_t *predict = json_object_get(g->json, "predict");
    uint32_t annotators[64];
    size_t pairs = g->N * g->A;
    struct amx_prediction out;
    struct amx_error err;

    for (uint32_t a = 0; a < g->A; a++)
        annotators[a] = a;
    out.p_class = calloc(g->N * g->C, sizeof(float));
    out.p_perf = calloc(pairs, sizeof(float));
    out.p_annotation = calloc(pairs * g->C, sizeof(float));
    out.p_confusion = calloc(pairs * g->C * g->C, sizeof(float));
    layout_export(&g->model->layout, g->workspace.parameters, g->model->tensors);
    memcpy(g->model->annotator_labels, g->train.annotator_labels, g->A * sizeof(uint64_t));
    g->model->labels_used = g->data.n_labels;
    for (size_t j = 0; j < g->D; j++)
        g->model->scale[j] = 1.0f;
    CHECK_INT(model_prepare(g->model, &err), AMX_OK);
    CHECK_INT(amx_predict(g->model, g->features, g->N, annotators, g->A, &out, &err), AMX_OK);
    compare("p_class", out.p_class, json_object_get(predict, "p_class"));
    compare("p_perf", out.p_perf, json_object_get(predict, "p_perf"));
    compare("p_annotation", out.p_annotation, json_object_get(predict, "p_annotation"));
    compare("p_confusion", out.p_confusion, json_object_get(predict, "p_confusion"));
    compare_unseen(g, json_object_get(predict, "p_confusion_unseen"));
    free(out.p_confusion);
    free(out.p_annotation);
    free(out.p_perf);
    free(out.p_class);
}

/* What the method makes of the labels by itself takes the place of the case's tensors; then it is compared. */
static void derive(struct golden *g)
{
    const json_t *names = json_object_get(g->json, "derived"), *targets = json_object_get(g->json, "targets");
    const struct layout *layout = &g->model->layout;
    float *own = calloc(layout->compact_length, sizeof(float));
    struct rng rng;

    if (own == NULL)
        exit(2);
    rng_seed(&rng, 1, 0, RNG_INITIAL);
    CHECK_INT(g->model->method->initial(layout, &g->workspace.dims, &g->settings, &g->member, own, &rng), AMX_OK);
    for (size_t i = 0; i < json_array_size(names); i++) {
        const struct tensor *t = &layout->tensor[layout_find(layout, json_string_value(json_array_get(names, i)))];
        memcpy(g->model->tensors + t->compact, own + t->compact, t->rows * t->cols * sizeof(float));
    }
    free(own);
    layout_import(layout, g->model->tensors, g->workspace.parameters);
    if (g->model->method->prepare != NULL)
        CHECK_INT(g->model->method->prepare(&g->workspace), AMX_OK);
    compare_tensors(g, g->workspace.parameters, json_object_get(g->json, "initial"), "initial");
    if (targets != NULL)
        compare("targets", ((const struct class_target_state *)g->workspace.state)->targets, targets);
}

/* Model, training data and workspace of a case, with its parameters. */
static void golden_start(struct golden *g)
{
    const struct amx_method *method = method_find(g->method);
    struct amx_error err;

    CHECK_INT(model_new(method, &g->settings, g->D, g->C, g->A, 1, &g->model, &err), AMX_OK);
    g->settings.batch_size = (int)g->N;
    CHECK_INT(train_data_init(&g->train, &g->data, &g->settings, &err), AMX_OK);
    CHECK_INT(g->train.n_rows, g->N);
    workspace_dims(&g->model->dims, method, g->N, g->N, g->train.max_labels, g->data.n_labels);
    CHECK_INT(workspace_init(&g->workspace, method, &g->model->layout, &g->model->dims, &g->settings, g->N), AMX_OK);
    for (uint32_t i = 0; i < g->N; i++)
        g->order[i] = i;
    g->member = (struct member_data){.data = &g->train,
                                     .rows = g->order,
                                     .n_rows = g->N,
                                     .posterior = g->posterior,
                                     .clamp_gold = json_is_true(json_object_get(g->json, "clamp_gold"))};
    g->workspace.member = &g->member;
    workspace_seed(&g->workspace, 1, 0, g->N);
    import_parameters(g, json_object_get(g->json, "initial"), g->model->tensors);
    derive(g);
}

static bool run_case(const char *path)
{
    struct golden g;
    const json_t *steps;
    float *out_gradient = NULL;
    bool opened = golden_open(&g, path);

    if (!opened)
        goto done;
    golden_start(&g);
    out_gradient = calloc(g.C * g.C * g.workspace.dims.Ep, sizeof(float));
    steps = json_object_get(g.json, "steps");
    for (size_t s = 0; s < json_array_size(steps); s++) {
        const json_t *step = json_array_get(steps, s);
        char what[40];
        run_step(&g, step, out_gradient);
        if (json_object_get(step, "gradients") != NULL)
            compare_gradients(&g, out_gradient, json_object_get(step, "gradients"));
        (void)snprintf(what, sizeof what, "after step %zu", s + 1);
        compare_tensors(&g, g.workspace.parameters, json_object_get(step, "parameters_after"), what);
    }
    compare_predictions(&g);
done:
    free(out_gradient);
    golden_close(&g);
    return opened;
}

/* Runs every *.json of the folder; the number of cases, or -1 when there is no such folder. */
static int run_folder(const char *folder)
{
    DIR *dir = opendir(folder);
    struct dirent *entry;
    int n = 0;

    if (dir == NULL)
        return -1;
    while ((entry = readdir(dir)) != NULL) {
        size_t length = strlen(entry->d_name);
        char path[4096];
        if (length < 5 || strcmp(entry->d_name + length - 5, ".json") != 0)
            continue;
        (void)snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        test_check(run_case(path), __FILE__, __LINE__, path);
        n++;
    }
    (void)closedir(dir);
    return n;
}

TEST(learn_golden_own)
{
    CHECK_INT(run_folder("tests/golden"), 7);
}

TEST(learn_golden_targets_and_prior)
{
    CHECK_INT(run_folder("tests/golden/target"), 14);
}

TEST(learn_golden_shared)
{
    const char *shared = getenv("AMX_SHARED");
    char folder[4096];
    int n;

    (void)snprintf(folder, sizeof folder, "%s/golden", shared != NULL ? shared : "../shared");
    n = run_folder(folder);
    if (n < 0)
        test_skip("no golden folder beside the project (../shared, or AMX_SHARED)");
    else
        CHECK(n >= 6);
}
