/* model.c - the model as an object: what it holds, what it tells, how it is freed.
 *
 * It keeps each member's tensors in the compact form of the model file (layout.h), so that encode is a copy and equal
 * models give equal bytes, and beside them the predictors' folded tables, made once by model_prepare. Nothing changes
 * afterwards: any number of threads may read it. */
#include "model.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "class_predictor.h"
#include "status.h"

size_t model_bytes(const struct layout *layout, const struct dims *dims, int ensemble)
{
    size_t floats, table, bytes = SIZE_MAX, fixed;

    /* Tensors; predictors hold at most as much again (hidden layers packed, annotator table folded). */
    if (!amx_size_mul(&floats, layout->compact_length, 2) || !amx_size_mul(&table, dims->A + 1, dims->Ep) ||
        !amx_size_add(&floats, floats, table) || !amx_size_mul(&floats, floats, (size_t)ensemble) ||
        !amx_size_mul(&bytes, floats, sizeof(float)) || !amx_size_mul(&fixed, dims->A, sizeof(uint64_t)) ||
        !amx_size_add(&bytes, bytes, fixed))
        return SIZE_MAX;
    return bytes;
}

static void free_names(char **names, size_t n)
{
    if (names == NULL)
        return;
    for (size_t i = 0; i < n; i++)
        free(names[i]);
    free(names);
}

void amx_model_free(struct amx_model *model)
{
    if (model == NULL)
        return;
    for (int m = 0; m < model->ensemble; m++) {
        if (model->predictor != NULL)
            model->method->predictor_free(model->predictor[m]);
        if (model->class_predictor != NULL)
            class_predictor_free(model->class_predictor[m]);
    }
    free(model->predictor);
    free(model->class_predictor);
    free(model->tensors);
    free(model->scale);
    free(model->mean);
    free(model->data_hash);
    free(model->annotator_labels);
    free_names(model->annotator_names, model->dims.A);
    free_names(model->class_names, model->dims.C);
    free(model);
}

enum amx_status model_new(const struct amx_method *method, const struct amx_settings *settings, size_t n_features,
                          size_t n_classes, size_t n_annotators, int ensemble, struct amx_model **out,
                          struct amx_error *err)
{
    struct amx_model *model = calloc(1, sizeof *model);
    size_t floats;

    if (model == NULL)
        return amx_fail_memory(err);
    model->method = method;
    model->settings = *settings;
    model->ensemble = ensemble;
    model->temperature = 1.0;
    dims_init(&model->dims, settings, n_features, n_classes, n_annotators);
    layout_init(&model->layout);
    if (!method->layout(&model->layout, &model->dims) ||
        !amx_size_mul(&floats, model->layout.compact_length, (size_t)ensemble))
        goto fail;
    model->annotator_labels = calloc(n_annotators, sizeof(uint64_t));
    model->mean = calloc(n_features, sizeof(float));
    model->scale = calloc(n_features, sizeof(float));
    model->tensors = calloc(floats, sizeof(float));
    model->class_predictor = calloc((size_t)ensemble, sizeof(struct class_predictor *));
    model->predictor = calloc((size_t)ensemble, sizeof(void *));
    if (model->annotator_labels == NULL || model->mean == NULL || model->scale == NULL || model->tensors == NULL ||
        model->class_predictor == NULL || model->predictor == NULL)
        goto fail;
    *out = model;
    return AMX_OK;
fail:
    amx_model_free(model);
    return amx_fail_memory(err);
}

enum amx_status model_copy_names(char ***out, const char *const *names, size_t n)
{
    char **copy;

    if (names == NULL) {
        *out = NULL;
        return AMX_OK;
    }
    copy = calloc(n, sizeof *copy);
    if (copy == NULL)
        return AMX_NO_MEMORY;
    for (size_t i = 0; i < n; i++) {
        if ((copy[i] = strdup(names[i])) == NULL) {
            free_names(copy, n);
            return AMX_NO_MEMORY;
        }
    }
    *out = copy;
    return AMX_OK;
}

static size_t names_bytes(char **names, size_t n)
{
    size_t bytes = 0;

    for (size_t i = 0; names != NULL && i < n; i++)
        bytes += sizeof(char *) + strlen(names[i]) + 1;
    return bytes;
}

enum amx_status model_prepare(struct amx_model *model, struct amx_error *err)
{
    const size_t length = model->layout.compact_length;
    size_t bytes = sizeof *model + (size_t)model->ensemble * length * sizeof(float) + model->dims.A * sizeof(uint64_t) +
                   2 * model->dims.D * sizeof(float) + names_bytes(model->class_names, model->dims.C) +
                   names_bytes(model->annotator_names, model->dims.A);

    for (int m = 0; m < model->ensemble; m++) {
        const float *compact = model_member(model, m);
        for (size_t i = 0; i < length; i++) {
            if (!isfinite(compact[i]))
                return amx_fail(err, AMX_NOT_FINITE, "",
                                "A parameter became infinite or not a number; a smaller learning rate or standardised "
                                "features would help.");
        }
        model->class_predictor[m] = class_predictor_new(model, compact);
        model->predictor[m] = model->method->predictor_new(model, compact);
        if (model->class_predictor[m] == NULL || model->predictor[m] == NULL)
            return amx_fail_memory(err);
        bytes += class_predictor_bytes(model->class_predictor[m]) + model->method->predictor_bytes(model->predictor[m]);
    }
    model->memory_bytes = bytes;
    return AMX_OK;
}

void amx_model_info(const struct amx_model *model, struct amx_model_info *out)
{
    memset(out, 0, sizeof *out);
    out->method = model->method->name;
    out->seed = model->seed;
    out->ensemble = model->ensemble;
    out->settings = model->settings;
    out->n_features = model->dims.D;
    out->n_classes = model->dims.C;
    out->n_annotators = model->dims.A;
    out->labels_used = model->labels_used;
    out->class_names = (const char *const *)model->class_names;
    out->annotator_names = (const char *const *)model->annotator_names;
    out->annotator_labels = model->annotator_labels;
    out->data_hash = model->data_hash;
    out->temperature = model->temperature;
    out->memory_bytes = model->memory_bytes;
}
