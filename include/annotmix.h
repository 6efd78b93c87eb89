/* annotmix.h - libannotmix: class labels and annotator reliability from noisy labels.
 *
 * The learner is annot-mix (Herde, Lührs, Huseljic, Sick: "Annot-Mix: Learning with Noisy Class
 * Labels from Multiple Annotators via a Mixup Extension", ECAI 2024, doi 10.3233/FAIA240829); amx_methods() names
 * the methods of other articles that it trains as well.
 *
 * Use it in four steps:
 *   1. describe the training data in a struct amx_data (plain arrays, nothing is copied);
 *   2. amx_settings_default(), change what you like, amx_fit() -> struct amx_model;
 *   3. amx_predict() / amx_predict_pairs(), from any number of threads at once;
 *   4. amx_model_encode() / amx_model_decode() for the portable model file.
 *
 * Rules of the whole interface
 * - Numbers in, numbers out: no files, no network, no logging, no global state. Any number of fits
 *   and predictions may run at the same time in different threads.
 * - Same data, settings, seed, build and CPU kernel give bit-identical models, at any number of threads.
 * - Results go to out parameters, last, written only on success. `err` may be NULL everywhere; it
 *   is filled on failure only and belongs to the caller.
 * - Matrices are row-major. Shapes are in comments: N instances, D features, C classes,
 *   A annotators. Confusion matrices: rows = true class, columns = class given.
 */
#ifndef ANNOTMIX_H
#define ANNOTMIX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define AMX_API __attribute__((visibility("default")))
#define AMX_CHECK __attribute__((warn_unused_result))
#else
#define AMX_API
#define AMX_CHECK
#endif

/* What a call came to. The list is short and closed; the program's own rooms use it too. */
enum amx_status {
    AMX_OK = 0,
    AMX_NO_MEMORY,    /* an allocation failed, or a size does not fit in size_t */
    AMX_INVALID,      /* bad argument, setting or input; err says which and what would be right */
    AMX_NOTHING,      /* nothing to train on: fewer than two labelled instances, or labels of one class only */
    AMX_NOT_FINITE,   /* the loss or a parameter became NaN or infinite */
    AMX_CANCELLED,    /* the cancel flag was raised */
    AMX_CORRUPT,      /* a model file or a database is cut, changed or of another format */
    AMX_TOO_LARGE,    /* over a documented limit */
    AMX_NOT_FOUND,    /* no such row, name or number */
    AMX_CONFLICT,     /* exists already, or the state does not allow it */
    AMX_BUSY,         /* queue full or lock held: try again later */
    AMX_FULL,         /* disk full: nothing was written */
    AMX_IO            /* the operating system or SQLite reported an error */
};

/* Why a call failed. Owned by the caller; works across threads. */
struct amx_error {
    enum amx_status code;
    uint64_t line;     /* line of the input, from 1; 0 = not tied to a line */
    char pointer[80];  /* JSON pointer (RFC 6901) into the input; "" = none */
    char text[200];    /* one sentence: what is wrong and what would be right */
};

/* Version of the library, "X.Y.Z"; static string. */
AMX_API const char *amx_version(void);
/* Kernel in use: "avx512", "avx2", "sse2" or "plain"; static string. ANNOTMIX_KERNEL=avx512|avx2|sse2|plain
 * in the environment forces one this CPU can run (read once, at the first call into the library). */
AMX_API const char *amx_kernel_name(void);
/* "OpenBLAS 0.3.21" or similar; static string. */
AMX_API const char *amx_blas_name(void);
/* Short English words for a status, "nothing to train"; static string. */
AMX_API const char *amx_status_text(enum amx_status status);

/* ---- settings ------------------------------------------------------------------------------ */

enum { AMX_MAX_HIDDEN = 8, AMX_MAX_CLASSES = 1000, AMX_MAX_FEATURES = 16384 };

/* Where the posterior behind annot_mix_prior's matrices comes from. */
enum amx_prior {
    AMX_PRIOR_DAWID_SKENE, /* 50 rounds of smoothed EM on the training labels */
    AMX_PRIOR_CONSENSUS    /* out-of-fold consensus (5 folds) of a first annot_mix fit */
};

enum amx_last_batch {
    AMX_LAST_BATCH_KEEP, /* as published; a last batch of one row joins the one before */
    AMX_LAST_BATCH_DROP  /* a last batch that is not full is left out (the only batch is always kept) */
};

/* Settings of one fit; every field has a row in amx_setting_fields(). */
struct amx_settings {
    double alpha;                  /* Beta(alpha, alpha) of mixup; 0 = no mixing */
    double eta;                    /* prior accuracy of every annotator, (1/C, 1) */
    int n_hidden;                  /* hidden layers of the class model, 0..AMX_MAX_HIDDEN */
    int hidden[AMX_MAX_HIDDEN];    /* their widths, 1..4096 */
    double dropout;                /* of the class model, 0..0.95 (the annotator model's is always 0.5) */
    int annotator_embedding;       /* E, 1..1024 */
    int epochs;                    /* 1..10000 */
    int batch_size;                /* B, instances with at least one label, 2..65536 */
    double learning_rate;          /* (0, 1] */
    double annotator_learning_rate;/* (0, 1]; NaN = learning_rate */
    double weight_decay;           /* 0..1, class model */
    double annotator_weight_decay; /* 0..1, annotator model */
    bool standardize;              /* mean and population deviation over labelled instances, kept in the model */
    bool mix_only_annotators;      /* mixing partners only among labels of the same instance */
    enum amx_last_batch last_batch;
    bool soft;                     /* majority_vote*, dawid_skene*: targets are distributions, not their winner */
    enum amx_prior prior;          /* annot_mix_prior */
    double prior_strength;         /* annot_mix_prior: s, (0, 1000] */
    bool train_gamma;              /* madl: gamma is trained instead of kept at its mode */
};

enum amx_setting_type { AMX_SETTING_REAL, AMX_SETTING_INTEGER, AMX_SETTING_BOOLEAN, AMX_SETTING_WIDTHS, AMX_SETTING_CHOICE };

/* One row per setting, for parsers, help texts and GET /v1/methods. All strings static. */
struct amx_setting_field {
    const char *name;              /* "learning_rate" */
    enum amx_setting_type type;
    double min, max;               /* inclusive unless open_min; WIDTHS: of each width; eta's lower bound is 1/C */
    bool open_min, open_max;
    bool nullable;                 /* null allowed: annotator_learning_rate */
    const char *const *choices;    /* CHOICE: NULL-terminated; else NULL */
    const char *source;            /* where it stands in the article or the specification */
    const char *help;              /* one sentence */
};
/* The rows, *n of them, in the order of struct amx_settings. */
AMX_API const struct amx_setting_field *amx_setting_fields(size_t *n);

/* One method that amx_fit knows. All strings static. */
struct amx_method_info {
    const char *name;   /* "annot_mix" */
    const char *title;  /* "annot-mix" */
    const char *source; /* article, venue and year */
    const char *help;   /* one sentence */
    bool needs_gold;    /* ground_truth: trains on gold labels of split train */
};
/* The table, *n rows, the default first. */
AMX_API const struct amx_method_info *amx_methods(size_t *n);
/* The row of that name; NULL: there is none. */
AMX_API const struct amx_method_info *amx_method_named(const char *name);
/* Whether the method reads the setting; false for an unknown name of either. */
AMX_API bool amx_setting_applies(const char *method, const char *setting);

/* Published defaults: hidden (256, 128) up to 255 features, (128) from 256 on; the rest as in the article. */
AMX_API void amx_settings_default(size_t n_features, struct amx_settings *out);
/* Read or write one setting by name. REAL, INTEGER, BOOLEAN (0/1): values[0]. CHOICE: index into choices.
 * WIDTHS: n values. A null annotator_learning_rate is NaN. set: AMX_NOT_FOUND for an unknown name, AMX_INVALID
 * out of range (err->pointer = "/name", text names the range). get: returns the number of values (<= AMX_MAX_HIDDEN). */
AMX_API AMX_CHECK enum amx_status amx_settings_set(struct amx_settings *settings, const char *name, const double *values,
                                                   size_t n, struct amx_error *err);
AMX_API size_t amx_settings_get(const struct amx_settings *settings, const char *name, double values[AMX_MAX_HIDDEN]);
/* Ranges that depend on the data (eta > 1/C) and every single range once more. */
AMX_API AMX_CHECK enum amx_status amx_settings_check(const struct amx_settings *settings, size_t n_classes,
                                                     struct amx_error *err);

/* ---- training ------------------------------------------------------------------------------ */

/* Training data. Everything is borrowed for the duration of amx_fit. The caller gives instances ordered by their
 * id and labels ordered by (instance, annotator), bytewise by name, so that order of arrival never matters.
 * Instances without labels are allowed and ignored. Every feature must be finite. */
struct amx_data {
    size_t n_instances, n_features, n_classes, n_annotators, n_labels;
    const float *features;            /* [N][D] */
    const uint32_t *label_instance;   /* [n_labels] < N, non-decreasing */
    const uint32_t *label_annotator;  /* [n_labels] < A */
    const uint32_t *label_class;      /* [n_labels] < C */
    const char *const *class_names;     /* [C] or NULL; copied into the model */
    const char *const *annotator_names; /* [A] or NULL; copied into the model */
    const char *data_hash;              /* "sha256:..." over the sorted training rows, or NULL; copied */
    const int32_t *gold;   /* [N] trusted class or -1; NULL = none. Read by ground_truth alone, unless options->clamp_gold */
    const uint32_t *fold;  /* [N] < options->folds: the fold each instance belongs to; NULL unless folds >= 2 */
    const float *history;  /* [A][C][C] imported confusion counts of each annotator (rows = true class); NULL = none */
};

/* Where a fit stands; passed to the progress callback after every epoch (and at most 20 times a second between). */
struct amx_progress {
    int member, members;        /* which training reports: from 0 the ensemble's members, then the folds', then the fits
                                 * behind `prior: consensus` (which run first) */
    int epoch, epochs;          /* finished epochs of that member */
    double fraction;            /* of the whole fit, 0..1 */
    double loss;                /* mean loss of the last finished epoch; NaN before the first */
    bool epoch_ended;           /* this call tells the end of an epoch: `loss` is new */
    double labels_per_second;   /* of the step loop so far, one member */
    double eta_seconds;         /* estimate for the whole fit */
};

struct amx_fit_options {
    const char *method;         /* a name of amx_methods(); NULL = "annot_mix" */
    uint64_t seed;              /* 0 .. 2^53-1 */
    int ensemble;               /* members, 1..100; member m uses a stream derived from (seed, m) */
    int threads;                /* threads to train members on, >= 1; never changes the result */
    /* 0, or 2..20: besides the ensemble, member f of `folds` more is trained without the labels of fold f; when
     * ensemble >= folds the ensemble's own members do it: member m leaves out fold m mod folds and no more are made. */
    int folds;
    bool clamp_gold;            /* gold_use train: data->gold is certain wherever a method estimates true classes */
    struct amx_settings settings;
    /* Called from the training threads, never two at once for one fit. NULL = none. */
    void (*progress)(const struct amx_progress *progress, void *context);
    void *context;
    const volatile int *cancel; /* read (atomically) before every batch; non-zero stops with AMX_CANCELLED. NULL = never */
};

/* What a fit used and how it went. */
struct amx_fit_report {
    size_t labels_used, instances_used;
    double labels_per_second;   /* labels in all training steps of one member / seconds of its step loop */
    double seconds;             /* whole fit */
    int epochs;                 /* length of loss_curve */
    double *loss_curve;         /* [epochs] mean over the ensemble's members; free with amx_free */
};

struct amx_model; /* immutable after fit or decode; any number of threads may read it */

/* Bytes that amx_fit will hold besides the data; SIZE_MAX when it does not fit in size_t, or, with errno ENOMEM, when
 * there was no memory to count the rows. */
AMX_API size_t amx_fit_memory(const struct amx_data *data, const struct amx_fit_options *options);

/* Trains. AMX_NOTHING, AMX_NOT_FINITE, AMX_CANCELLED, AMX_INVALID and AMX_NO_MEMORY as described above.
 * `report` may be NULL. On success the caller frees *out with amx_model_free. */
AMX_API AMX_CHECK enum amx_status amx_fit(const struct amx_data *data, const struct amx_fit_options *options,
                                          struct amx_fit_report *report, struct amx_model **out, struct amx_error *err);

AMX_API void amx_model_free(struct amx_model *model); /* NULL allowed */
AMX_API void amx_free(void *memory);                  /* for arrays that the library handed out */

/* ---- what a model knows ---------------------------------------------------------------------- */

struct amx_model_info {
    const char *method;          /* all pointers are borrowed from the model */
    uint64_t seed;
    int ensemble;
    int folds;                   /* 0, or 2..20: amx_predict_pairs can leave an instance's own labels out */
    struct amx_settings settings;
    size_t n_features, n_classes, n_annotators, labels_used;
    const char *const *class_names;      /* [C], or NULL when the data had none */
    const char *const *annotator_names;  /* [A], or NULL */
    const uint64_t *annotator_labels;    /* [A] training labels of each annotator: its evidence */
    const char *data_hash;               /* or NULL */
    double temperature;                  /* of the class model, 1 = not calibrated */
    size_t memory_bytes;                 /* what the model holds */
};
AMX_API void amx_model_info(const struct amx_model *model, struct amx_model_info *out);

/* ---- prediction ------------------------------------------------------------------------------ */

/* An annotator the model has not seen: the population prior (its share-weighted mean embedding). */
#define AMX_UNSEEN UINT32_MAX

/* Every instance crossed with every annotator. Any output may be NULL. Features are raw (the model standardises). */
struct amx_prediction {
    float *p_class;       /* [n][C] probability of each true class */
    float *p_perf;        /* [n][m] probability that the annotator labels the instance correctly */
    float *p_annotation;  /* [n][m][C] probability of each label the annotator would give */
    float *p_confusion;   /* [n][m][C][C] */
};
/* features [n][D], annotators [m] (indices or AMX_UNSEEN; m may be 0). Batches of any size; scratch memory of a fixed
 * size is allocated per call. A row's result does not depend on the other rows of the call. */
AMX_API AMX_CHECK enum amx_status amx_predict(const struct amx_model *model, const float *features, size_t n,
                                              const uint32_t *annotators, size_t m, const struct amx_prediction *out,
                                              struct amx_error *err);

enum { AMX_NO_FOLD = -1 };

/* Chosen pairs of (row, annotator): what consensus and reliability need, without the cross product. Any may be NULL. */
struct amx_pairs_prediction {
    float *p_class;       /* [n][C], of the rows */
    float *p_perf;        /* [n_pairs] */
    float *p_annotation;  /* [n_pairs][C] */
    float *p_confusion;   /* [n_pairs][C][C] */
};
/* fold: AMX_NO_FOLD = the whole ensemble; f = only the members that never saw a label of fold f, so that the answer
 * for an instance of that fold is out of fold. AMX_INVALID when the model has no such fold. */
AMX_API AMX_CHECK enum amx_status amx_predict_pairs(const struct amx_model *model, int fold, const float *features,
                                                    size_t n, const uint32_t *pair_row, const uint32_t *pair_annotator,
                                                    size_t n_pairs, const struct amx_pairs_prediction *out,
                                                    struct amx_error *err);
/* Sets the temperature that divides the class logits of every later prediction, > 0. Only before the model is shared
 * between threads; it goes into the model file. */
AMX_API void amx_model_set_temperature(struct amx_model *model, double temperature);
/* The same for predictions that name a fold. They are not divided by the model's own temperature: that was found with
 * labels of every fold in sight, so an instance's own labels would reach its out-of-fold answer. For the search for a
 * temperature only; 1 unless set, and not in the model file. */
AMX_API void amx_model_set_fold_temperature(struct amx_model *model, double temperature);

/* ---- model file ------------------------------------------------------------------------------ */

/* Portable file: "AMXMODEL", version, JSON head, float32 tensors, SHA-256 (src/learn/README.md has the layout).
 * encode: *bytes is freed with amx_free. Holds no clock time: equal models give equal bytes.
 * decode: every size is checked against the file's; AMX_CORRUPT says what is wrong. */
AMX_API AMX_CHECK enum amx_status amx_model_encode(const struct amx_model *model, unsigned char **bytes, size_t *n_bytes,
                                                   struct amx_error *err);
AMX_API AMX_CHECK enum amx_status amx_model_decode(const unsigned char *bytes, size_t n_bytes, struct amx_model **out,
                                                   struct amx_error *err);

#ifdef __cplusplus
}
#endif
#endif
