/* run_request.h - the request of a training run: from JSON (or --set KEY=VALUE) to settings, and back to canonical
 * JSON.
 *
 * Three layers, later ones win: published defaults (they depend on the number of features and on the method), the
 * project's settings.training, the request. Everything unknown or out of range is refused with a pointer, and so is a
 * setting that the method does not read (amx_setting_applies): in the request it is an error; one that the project's
 * defaults have for another method is dropped. The table of settings is the learner's (amx_setting_fields), so a
 * setting is described once.
 *
 * Methods: those of amx_methods() and "auto", which chooses among them (crowd/select/select.h) and takes every setting: what
 * is given (differs from the published default) holds for all its candidates. A project without features has the
 * methods that work on labels alone instead (label_only; crowd/aggregate/aggregate.h), which have no settings. */
#ifndef WORK_RUNS_RUN_REQUEST_H
#define WORK_RUNS_RUN_REQUEST_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "annotmix.h"
#include "store/runs.h"

enum run_gold_use {
    RUN_GOLD_EVALUATE,  /* gold is for metrics only */
    RUN_GOLD_CALIBRATE, /* gold of valid may set the temperature and choose (select: valid) */
    RUN_GOLD_TRAIN      /* gold of train is certain for the fit; those instances leave every metric */
};
enum run_activate {
    RUN_ACTIVATE_ALWAYS,
    RUN_ACTIVATE_NEVER,
    RUN_ACTIVATE_IF_NOT_WORSE /* by held-out label log-likelihood; needs folds */
};
enum run_select {
    RUN_SELECT_CROWD, /* by the labels of the crowd alone */
    RUN_SELECT_VALID  /* by gold of split valid; needs gold_use calibrate or train */
};

enum {
    RUN_MAX_METHODS = 16,
    RUN_MIN_FOLDS = 2,
    RUN_MAX_FOLDS = 20,
    RUN_RULE_FOLDS = 5 /* of a run that auto_train queues, unless the project's training says otherwise */
};

/* What the method auto needs besides. Read only when run_request_is_auto. */
struct run_auto {
    double budget_seconds; /* > 0; 0 = no limit, which is what budget_fits alone means. Default 300 */
    int64_t budget_fits;   /* >= 1; 0 = no limit */
    enum run_select select;
    const char *methods[RUN_MAX_METHODS]; /* static names of amx_methods(), in the order given */
    size_t n_methods;                     /* 0 = the default candidates */
};

struct run_request {
    const char *method; /* static; one of amx_methods(), "auto", or of labels alone */
    bool label_only;    /* the method works on labels alone: no model, no settings, folds 0, ensemble 1 */
    uint64_t seed;      /* 0 .. 2^53-1 */
    int ensemble;       /* 1..100 */
    int folds;          /* 0, or 2..20 */
    enum run_gold_use gold_use;
    enum run_activate activate;
    struct amx_settings settings; /* those the method does not read have their defaults */
    struct run_auto automatic;
};

bool run_request_is_auto(const struct run_request *request);

/* The published defaults: method annot_mix, seed 1, ensemble 1, folds 0, evaluate, always. */
void run_request_default(size_t n_features, struct run_request *out);

/* request: object or NULL; project_training: settings.training or NULL. AMX_INVALID: err->pointer ("/settings/alpha")
 * and a text that says what would be right. n_features 0: the methods of labels alone, dawid_skene by default. */
AMX_CHECK enum amx_status run_request_parse(const json_t *request, const json_t *project_training, size_t n_features,
                                            size_t n_classes, struct run_request *out, struct amx_error *err);
/* The request that auto_train makes of the project's training settings: activate if_not_worse and RUN_RULE_FOLDS folds
 * where they say nothing; with folds 0 asked for, nothing can be compared and activate is always. */
AMX_CHECK enum amx_status run_request_by_rule(const json_t *project_training, size_t n_features, size_t n_classes,
                                              struct run_request *out, struct amx_error *err);
/* Is this object fit to be settings.training of a project? Pointers begin with prefix. */
AMX_CHECK enum amx_status run_request_check_training(const json_t *training, const char *prefix, size_t n_features,
                                                     size_t n_classes, struct amx_error *err);
/* The method by its name, with its defaults for everything (seed, ensemble, folds ... stay): for the command line.
 * AMX_INVALID: unknown. */
AMX_CHECK enum amx_status run_request_set_method(struct run_request *request, const char *name, size_t n_features,
                                                 struct amx_error *err);
/* "KEY=VALUE" of `fit --set`: VALUE is JSON if it parses, else a string; for hidden, 128 and 256,128 are lists. The
 * method is set before. */
AMX_CHECK enum amx_status run_request_set(struct run_request *request, const char *assignment, struct amx_error *err);
/* What depends on several fields or on the data: eta > 1/C, if_not_worse without folds ... Pointers begin with prefix.
 */
AMX_CHECK enum amx_status run_request_check(const struct run_request *request, const char *prefix, size_t n_classes,
                                            struct amx_error *err);

/* Published defaults of one method: amx_settings_default, and what the method's article has otherwise (madl: eta 0.8).
 */
void run_request_settings_default(const char *method, size_t n_features, struct amx_settings *out);

/* The whole request, every setting of the method filled in, fixed order of keys; run_request_settings_json: the
 * `settings` object alone. NULL: memory is out. */
json_t *run_request_json(const struct run_request *request);
json_t *run_request_settings_json(const char *method, const struct amx_settings *settings);
/* Compact text of the settings (and of auto's fields, under the key "auto"), every one filled in, numbers exact: equal
 * settings have equal text (for storing and coalescing). free() it; NULL when memory is out. */
char *run_request_settings_text(const struct run_request *request);

/* The request as the store keeps it; texts are static or borrowed from settings_text. */
void run_request_to_spec(const struct run_request *request, const char *settings_text, struct run_spec *out);
/* And back. AMX_CORRUPT when it is none of ours. */
AMX_CHECK enum amx_status run_request_of_spec(const struct run_spec *spec, struct run_request *out,
                                              struct amx_error *err);

const char *run_gold_use_name(enum run_gold_use gold_use); /* "evaluate" */
const char *run_activate_name(enum run_activate activate); /* "always" */
const char *run_select_name(enum run_select select);       /* "crowd" */

/* Body of GET /v1/methods: {"items": [...], "next_cursor": null, "label_only": [...]}; each method with its settings:
 * name, type, minimum, maximum, default, nullable, choices, source, description; auto also with `fields`, which stand
 * beside `settings` in a request. label_only: of projects without features. NULL when memory is out. */
json_t *run_request_methods_json(void);

#endif
