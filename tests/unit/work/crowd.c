#include "crowd.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "test.h"
#include "work/runs/run_request.h"

static void *need(size_t n, size_t size)
{
    void *memory = calloc(n + 1, size);

    if (memory == NULL)
        abort();
    return memory;
}

/* In [0, 1). */
static double chance(uint64_t *state)
{
    *state = *state * 6364136223846793005ULL + 1442695040888963407ULL;
    return (double)(*state >> 11) / 9007199254740992.0;
}

static void make_labels(const struct crowd_kind *k, struct crowd *c, size_t i, size_t truth, uint64_t *state)
{
    const size_t C = c->rows.n_classes, A = c->rows.n_annotators, each = k->labels_each > 0 ? k->labels_each : 2;

    if (c->row[i].split != SPLIT_TRAIN && !k->held_labels)
        return;
    for (size_t j = 0; j < each; j++) {
        size_t a = (i * each + j) % A;
        bool right = chance(state) < 0.95 - 0.05 * (double)(a % 10);
        size_t other = (truth + 1 + (size_t)(chance(state) * (double)(C - 1))) % C;

        c->label[c->rows.n_labels++] = (struct training_label){(uint32_t)i, (uint32_t)a,
                                                               (uint32_t)(k->all_wrong ? (truth + 1) % C
                                                                          : right      ? truth
                                                                                       : other)};
    }
}

void crowd_make(const struct crowd_kind *k, struct crowd *c)
{
    const size_t C = k->n_classes > 0 ? k->n_classes : 3, A = k->n_annotators > 0 ? k->n_annotators : 6;
    const size_t N = k->n_train + k->n_valid + k->n_test, each = k->labels_each > 0 ? k->labels_each : 2;
    uint64_t state = 7;

    *c = (struct crowd){.row = need(N, sizeof *c->row),
                        .label = need(N * each, sizeof *c->label),
                        .features = need(N * 2, sizeof *c->features),
                        .names = need(N + A + C, sizeof *c->names),
                        .annotators = need(A, sizeof *c->annotators),
                        .classes = need(C, sizeof *c->classes)};
    c->rows = (struct training_rows){.rows = c->row,
                                     .n_rows = N,
                                     .n_features = 2,
                                     .features = c->features,
                                     .annotators = c->annotators,
                                     .n_annotators = A,
                                     .classes = c->classes,
                                     .n_classes = C,
                                     .labels = c->label};
    for (size_t a = 0; a < A; a++) {
        (void)snprintf(c->names[N + a], sizeof c->names[0], "a%03zu", a);
        c->annotators[a] = c->names[N + a];
    }
    for (size_t k_ = 0; k_ < C; k_++) {
        (void)snprintf(c->names[N + A + k_], sizeof c->names[0], "c%03zu", k_);
        c->classes[k_] = c->names[N + A + k_];
    }
    for (size_t i = 0; i < N; i++) {
        size_t truth = i * 7 % C;
        double angle = 6.283185307179586 * (double)truth / (double)C;

        (void)snprintf(c->names[i], sizeof c->names[0], "i%05zu", i);
        c->features[2 * i] = (float)(2 * cos(angle) + 2 * chance(&state) - 1);
        c->features[2 * i + 1] = (float)(2 * sin(angle) + 2 * chance(&state) - 1);
        c->row[i] = (struct training_row){.name = c->names[i],
                                          .split = i < k->n_train                ? SPLIT_TRAIN
                                                   : i < k->n_train + k->n_valid ? SPLIT_VALID
                                                                                 : SPLIT_TEST,
                                          .feature_row = i,
                                          .gold = k->no_gold ? -1 : (int32_t)((truth + k->turn_gold) % C)};
        make_labels(k, c, i, truth, &state);
    }
}

void crowd_free(struct crowd *c)
{
    free(c->row);
    free(c->label);
    free(c->features);
    free(c->names);
    free(c->annotators);
    free(c->classes);
}

void crowd_data(const struct crowd *crowd, uint64_t seed, int folds, struct training_data *out)
{
    struct amx_error err;

    CHECK_INT(training_data_build(&crowd->rows, out, &err), AMX_OK);
    CHECK_INT(training_data_fold(out, seed, folds, &err), AMX_OK);
}

struct amx_fit_options crowd_options(const char *method, uint64_t seed, int folds)
{
    struct amx_fit_options options = {.method = method, .seed = seed, .ensemble = 1, .threads = 1, .folds = folds};

    run_request_settings_default(method, 2, &options.settings);
    options.settings.n_hidden = 0;
    options.settings.dropout = 0;
    options.settings.annotator_embedding = 4;
    options.settings.epochs = 20;
    options.settings.learning_rate = options.settings.annotator_learning_rate = 0.05;
    options.settings.batch_size = 32;
    return options;
}

struct amx_model *crowd_fit(const struct training_data *data, const struct amx_fit_options *options)
{
    struct amx_model *model = NULL;
    struct amx_error err = {0};
    enum amx_status status = amx_fit(&data->data, options, NULL, &model, &err);

    CHECK_INT(status, AMX_OK);
    if (status != AMX_OK)
        (void)fprintf(stderr, "%s: %s\n", options->method, err.text);
    return model;
}

void crowd_hash(const struct amx_model *model, char out[DIGEST_HEX_BYTES])
{
    unsigned char *bytes = NULL;
    uint8_t digest[DIGEST_BYTES];
    size_t n = 0;
    struct amx_error err;

    CHECK_INT(amx_model_encode(model, &bytes, &n, &err), AMX_OK);
    digest_of(bytes, n, digest);
    (void)digest_hex(digest, out);
    amx_free(bytes);
}
