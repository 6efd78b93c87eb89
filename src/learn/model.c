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

int model_members(int ensemble, int folds)
{
    return folds >= 2 && ensemble < folds ? ensemble + folds : ensemble;
}

int model_member_fold(int ensemble, int folds, int member)
{
    if (folds < 2)
        return AMX_NO_FOLD;
    if (ensemble >= folds)
        return member % folds;
    return member < ensemble ? AMX_NO_FOLD : member - ensemble;
}

size_t model_bytes(const struct layout *layout, const struct dims *dims, int members)
{
    size_t floats, table, bytes = SIZE_MAX, fixed;

    /* Tensors; predictors hold at most as much again (hidden layers packed, annotator table folded). */
    if (!amx_size_mul(&floats, layout->compact_length, 2) || !amx_size_mul(&table, dims->A + 1, dims->Ep) ||
        !amx_size_add(&table, table, dims->C * dims->C) || /* a population matrix */
        !amx_size_add(&floats, floats, table) || !amx_size_mul(&floats, floats, (size_t)members) ||
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
    for (int m = 0; m < model->members; m++) {
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
    free(model->fold_labels);
    free(model->annotator_labels);
    free_names(model->annotator_names, model->dims.A);
    free_names(model->class_names, model->dims.C);
    free(model);
}

enum amx_status model_new(const struct amx_method *method, const struct amx_settings *settings, size_t n_features,
                          size_t n_classes, size_t n_annotators, int ensemble, struct amx_model **out,
                          struct amx_error *err)
{
    return model_new_folds(method, settings, n_features, n_classes, n_annotators, ensemble, 0, out, err);
}

enum amx_status model_new_folds(const struct amx_method *method, const struct amx_settings *settings, size_t n_features,
                                size_t n_classes, size_t n_annotators, int ensemble, int folds, struct amx_model **out,
                                struct amx_error *err)
{
    const size_t members = (size_t)model_members(ensemble, folds);
    struct amx_model *model = calloc(1, sizeof *model);
    size_t floats, cells;

    if (model == NULL)
        return amx_fail_memory(err);
    model->method = method;
    model->settings = *settings;
    model->ensemble = ensemble;
    model->folds = folds;
    model->members = (int)members;
    model->temperature = model->fold_temperature = 1.0;
    dims_init(&model->dims, settings, n_features, n_classes, n_annotators);
    layout_init(&model->layout);
    if (!method->layout(&model->layout, &model->dims) ||
        !amx_size_mul(&floats, model->layout.compact_length, members) ||
        !amx_size_mul(&cells, n_annotators, (size_t)folds) || n_annotators == SIZE_MAX)
        goto fail;
    model->annotator_labels = calloc(n_annotators + 1, sizeof(uint64_t)); /* + 1: there may be no annotator */
    if (folds >= 2 && (model->fold_labels = calloc(cells + 1, sizeof(uint64_t))) == NULL)
        goto fail;
    model->mean = calloc(n_features, sizeof(float));
    model->scale = calloc(n_features, sizeof(float));
    model->tensors = calloc(floats, sizeof(float));
    model->class_predictor = calloc(members, sizeof(struct class_predictor *));
    model->predictor = calloc(members, sizeof(void *));
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

static bool all_finite(const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(x[i]))
            return false;
    }
    return true;
}

/* The method's predictor sees the labels its member trained on: its population weighs annotators by them. */
static enum amx_status prepare_member(struct amx_model *model, int m, uint64_t *evidence)
{
    const float *compact = model_member(model, m);
    uint64_t *all = model->annotator_labels;
    size_t labels_used = model->labels_used, total = 0;

    model->class_predictor[m] = class_predictor_new(model, compact);
    for (size_t a = 0; a < model->dims.A; a++)
        total += evidence[a] = model_evidence(model, m, a);
    model->annotator_labels = evidence;
    model->labels_used = total;
    model->predictor[m] = model->method->predictor_new(model, compact);
    model->annotator_labels = all;
    model->labels_used = labels_used;
    return model->class_predictor[m] == NULL || model->predictor[m] == NULL ? AMX_NO_MEMORY : AMX_OK;
}

enum amx_status model_prepare(struct amx_model *model, struct amx_error *err)
{
    const size_t length = model->layout.compact_length, A = model->dims.A;
    size_t bytes = sizeof *model + (size_t)model->members * length * sizeof(float) + A * sizeof(uint64_t) +
                   (size_t)model->folds * A * sizeof(uint64_t) + 2 * model->dims.D * sizeof(float) +
                   names_bytes(model->class_names, model->dims.C) + names_bytes(model->annotator_names, A);
    uint64_t *evidence = calloc(A + 1, sizeof *evidence);
    enum amx_status status = evidence != NULL ? AMX_OK : amx_fail_memory(err);

    for (int m = 0; m < model->members && status == AMX_OK; m++) {
        if (!all_finite(model_member(model, m), length))
            status = amx_fail(err, AMX_NOT_FINITE, "",
                              "A parameter became infinite or not a number; a smaller learning rate or standardised "
                              "features would help.");
        else if (prepare_member(model, m, evidence) != AMX_OK)
            status = amx_fail_memory(err);
        else
            bytes +=
                class_predictor_bytes(model->class_predictor[m]) + model->method->predictor_bytes(model->predictor[m]);
    }
    free(evidence);
    model->memory_bytes = bytes;
    return status;
}

void amx_model_set_temperature(struct amx_model *model, double temperature)
{
    model->temperature = temperature;
}

void amx_model_set_fold_temperature(struct amx_model *model, double temperature)
{
    model->fold_temperature = temperature;
}

void amx_model_info(const struct amx_model *model, struct amx_model_info *out)
{
    memset(out, 0, sizeof *out);
    out->method = model->method->info.name;
    out->seed = model->seed;
    out->ensemble = model->ensemble;
    out->folds = model->folds;
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
