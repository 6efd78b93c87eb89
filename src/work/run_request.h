/* run_request.h - the request of a training run: from JSON (or --set KEY=VALUE) to settings, and back to canonical
 * JSON.
 *
 * Three layers, later ones win: published defaults (they depend on the number of features), the project's
 * settings.training, the request. Everything unknown or out of range is refused with a pointer. The table of settings
 * is the learner's (amx_setting_fields), so a setting is described once. */
#ifndef WORK_RUN_REQUEST_H
#define WORK_RUN_REQUEST_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "annotmix.h"
#include "store/runs.h"

enum run_gold_use {
    RUN_GOLD_EVALUATE,
    RUN_GOLD_CALIBRATE,
    RUN_GOLD_TRAIN
};
enum run_activate {
    RUN_ACTIVATE_ALWAYS,
    RUN_ACTIVATE_NEVER,
    RUN_ACTIVATE_IF_NOT_WORSE
};

struct run_request {
    const char *method; /* static */
    uint64_t seed;      /* 0 .. 2^53-1 */
    int ensemble;       /* 1..100 */
    int folds;          /* 0 */
    enum run_gold_use gold_use;
    enum run_activate activate;
    struct amx_settings settings;
};

/* The published defaults: method annot_mix, seed 1, ensemble 1, folds 0, evaluate, always. */
void run_request_default(size_t n_features, struct run_request *out);

/* request: object or NULL; project_training: settings.training or NULL. AMX_INVALID: err->pointer ("/settings/alpha")
 * and a text that says what would be right; what this build cannot do says "not in this build". */
AMX_CHECK enum amx_status run_request_parse(const json_t *request, const json_t *project_training, size_t n_features,
                                            size_t n_classes, struct run_request *out, struct amx_error *err);
/* Merges one object over *request (in place; undefined content after a failure). prefix: pointer of the object. */
AMX_CHECK enum amx_status run_request_merge(const json_t *object, const char *prefix, struct run_request *request,
                                            struct amx_error *err);
/* What depends on the data: eta > 1/C. Pointers begin with prefix. */
AMX_CHECK enum amx_status run_request_check(const struct run_request *request, const char *prefix, size_t n_classes,
                                            struct amx_error *err);
/* "KEY=VALUE" of `fit --set`: VALUE is JSON if it parses, else a string; for hidden, 128 and 256,128 are lists. */
AMX_CHECK enum amx_status run_request_set(struct run_request *request, const char *assignment, struct amx_error *err);

/* The whole request, every setting filled in, fixed order of keys; run_request_settings_json: the `settings` object
 * alone. NULL when memory is out. */
json_t *run_request_json(const struct run_request *request);
json_t *run_request_settings_json(const struct amx_settings *settings);
/* Compact text of the settings, every one filled in, numbers exact: equal settings have equal text (for storing and
 * coalescing). free() it; NULL when memory is out. */
char *run_request_settings_text(const struct amx_settings *settings);

/* The request as the store keeps it; texts are static or borrowed from settings_text. */
void run_request_to_spec(const struct run_request *request, const char *settings_text, struct run_spec *out);
/* And back. AMX_CORRUPT when it is none of ours. */
AMX_CHECK enum amx_status run_request_of_spec(const struct run_spec *spec, struct run_request *out,
                                              struct amx_error *err);

const char *run_gold_use_name(enum run_gold_use gold_use); /* "evaluate" */
const char *run_activate_name(enum run_activate activate); /* "always" */

/* Body of GET /v1/methods: {"items": [...], "next_cursor": null}; each method with its settings: name, type, minimum,
 * maximum, default, nullable, choices, source, description. NULL when memory is out. */
json_t *run_request_methods_json(void);

#endif
