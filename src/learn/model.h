/* model.h - a trained model: immutable after model_prepare. */
#ifndef LEARN_MODEL_H
#define LEARN_MODEL_H

#include "layout.h"
#include "method.h"

struct amx_model {
    const struct amx_method *method;
    struct amx_settings settings;
    uint64_t seed;
    int ensemble;
    struct dims dims;
    struct layout layout;
    size_t labels_used;
    double temperature;
    char **class_names, **annotator_names;    /* or NULL */
    uint64_t *annotator_labels;               /* [A] */
    char *data_hash;                          /* or NULL */
    float *mean, *scale;                      /* [D] */
    float *tensors;                           /* [ensemble][compact_length] */
    struct class_predictor **class_predictor; /* [ensemble], from model_prepare */
    void **predictor;                         /* [ensemble], the method's own */
    size_t memory_bytes;
};

/* A model with zeroed tensors and no names. */
enum amx_status model_new(const struct amx_method *method, const struct amx_settings *settings, size_t n_features,
                          size_t n_classes, size_t n_annotators, int ensemble, struct amx_model **out,
                          struct amx_error *err);
/* Bytes of a model in memory with its predictors, names aside; SIZE_MAX when they do not fit. */
size_t model_bytes(const struct layout *layout, const struct dims *dims, int ensemble);
/* Copies names[n]; NULL names give NULL. */
enum amx_status model_copy_names(char ***out, const char *const *names, size_t n);
/* Folds and packs every member for prediction; AMX_NOT_FINITE when a tensor is not finite. */
enum amx_status model_prepare(struct amx_model *model, struct amx_error *err);

static inline const float *model_member(const struct amx_model *model, int member)
{
    return model->tensors + (size_t)member * model->layout.compact_length;
}

#endif
