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
    int folds;   /* 0, or 2..20 */
    int members; /* the ensemble, then those of the folds unless the ensemble doubles as them */
    struct dims dims;
    struct layout layout;
    size_t labels_used;
    double temperature;
    double fold_temperature;                  /* of predictions that name a fold: see amx_model_set_fold_temperature */
    char **class_names, **annotator_names;    /* or NULL */
    uint64_t *annotator_labels;               /* [A] */
    uint64_t *fold_labels;                    /* [folds][A] of them in each fold; NULL without folds */
    char *data_hash;                          /* or NULL */
    float *mean, *scale;                      /* [D] */
    float *tensors;                           /* [members][compact_length] */
    struct class_predictor **class_predictor; /* [members], from model_prepare */
    void **predictor;                         /* [members], the method's own */
    size_t memory_bytes;
};

/* A model with zeroed tensors, no names and no folds. */
enum amx_status model_new(const struct amx_method *method, const struct amx_settings *settings, size_t n_features,
                          size_t n_classes, size_t n_annotators, int ensemble, struct amx_model **out,
                          struct amx_error *err);
/* The same with folds (0, or 2..20). */
enum amx_status model_new_folds(const struct amx_method *method, const struct amx_settings *settings, size_t n_features,
                                size_t n_classes, size_t n_annotators, int ensemble, int folds, struct amx_model **out,
                                struct amx_error *err);
/* Members of a model: the ensemble's, and one per fold more when the ensemble is smaller than the folds. */
int model_members(int ensemble, int folds);
/* The fold whose labels member m never saw, or AMX_NO_FOLD. */
int model_member_fold(int ensemble, int folds, int member);
/* Bytes of a model in memory with its predictors, names aside; SIZE_MAX when they do not fit. */
size_t model_bytes(const struct layout *layout, const struct dims *dims, int members);
/* Copies names[n]; NULL names give NULL. */
enum amx_status model_copy_names(char ***out, const char *const *names, size_t n);
/* Folds and packs every member for prediction; AMX_NOT_FINITE when a tensor is not finite. */
enum amx_status model_prepare(struct amx_model *model, struct amx_error *err);

static inline const float *model_member(const struct amx_model *model, int member)
{
    return model->tensors + (size_t)member * model->layout.compact_length;
}

/* Labels of annotator a that the member trained on. */
static inline uint64_t model_evidence(const struct amx_model *model, int member, size_t a)
{
    int fold = model_member_fold(model->ensemble, model->folds, member);

    return model->annotator_labels[a] - (fold < 0 ? 0 : model->fold_labels[(size_t)fold * model->dims.A + a]);
}

#endif
