/* run_request.c - see run_request.h. Reading is driven by the learner's table of settings; the few top-level fields
 * stand here. What the interface knows but this build cannot do is refused by name, so that nobody waits for a run
 * that silently did something else. */
#include "work/run_request.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/error.h"
#include "util/jsonx.h"

#define MAX_SEED ((INT64_C(1) << 53) - 1)

static const char *const METHODS[] = {"annot_mix"};
/* Methods of the interface that another build may have. */
static const char *const OTHER_METHODS[] = {"ground_truth",
                                            "majority_vote",
                                            "majority_vote_mixup",
                                            "dawid_skene",
                                            "dawid_skene_mixup",
                                            "crowd_layer",
                                            "trace_reg",
                                            "conal",
                                            "union_net",
                                            "madl",
                                            "geo_reg_f",
                                            "geo_reg_w",
                                            "crowd_ar",
                                            "coin_net",
                                            "annot_mix_prior",
                                            "auto",
                                            NULL};
static const char *const OTHER_SETTINGS[] = {"soft", "prior", "prior_strength", "train_gamma", NULL};
static const char *const GOLD_USES[] = {"evaluate", "calibrate", "train"};
static const char *const ACTIVATES[] = {"always", "never", "if_not_worse"};

const char *run_gold_use_name(enum run_gold_use gold_use)
{
    return GOLD_USES[gold_use];
}

const char *run_activate_name(enum run_activate activate)
{
    return ACTIVATES[activate];
}

void run_request_default(size_t n_features, struct run_request *out)
{
    memset(out, 0, sizeof *out);
    out->method = METHODS[0];
    out->seed = 1;
    out->ensemble = 1;
    amx_settings_default(n_features, &out->settings);
}

static bool is_among(const char *const *names, const char *name)
{
    for (; *names != NULL; names++) {
        if (strcmp(*names, name) == 0)
            return true;
    }
    return false;
}

static const struct amx_setting_field *find_field(const char *name)
{
    size_t n;
    const struct amx_setting_field *fields = amx_setting_fields(&n);

    for (size_t i = 0; i < n; i++) {
        if (strcmp(fields[i].name, name) == 0)
            return &fields[i];
    }
    return NULL;
}

/* ---- one setting from JSON -------------------------------------------------------------------------------------- */

static enum amx_status read_widths(const json_t *value, const char *prefix, const char *name, double *values, size_t *n,
                                   struct amx_error *err)
{
    if (!json_is_array(value) || json_array_size(value) > AMX_MAX_HIDDEN)
        return jsonx_fail(err, prefix, name, "%s must be a list of 0 to %d widths.", name, (int)AMX_MAX_HIDDEN);
    *n = json_array_size(value);
    for (size_t i = 0; i < *n; i++) {
        const json_t *width = json_array_get(value, i);

        if (!json_is_integer(width))
            return jsonx_fail(err, prefix, name, "%s must be a list of integers.", name);
        values[i] = (double)json_integer_value(width);
    }
    return AMX_OK;
}

static enum amx_status read_choice(const struct amx_setting_field *field, const json_t *value, const char *prefix,
                                   double *out, struct amx_error *err)
{
    char list[120] = "";
    size_t used = 0;

    for (int i = 0; field->choices[i] != NULL; i++) {
        if (json_is_string(value) && strcmp(json_string_value(value), field->choices[i]) == 0) {
            *out = i;
            return AMX_OK;
        }
        if (used < sizeof list)
            used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", i > 0 ? ", " : "", field->choices[i]);
    }
    return jsonx_fail(err, prefix, field->name, "%s must be one of: %s.", field->name, list);
}

static enum amx_status read_value(const struct amx_setting_field *field, const json_t *value, const char *prefix,
                                  double *values, size_t *n, struct amx_error *err)
{
    *n = 1;
    switch (field->type) {
    case AMX_SETTING_REAL:
        if (json_is_null(value) && field->nullable)
            values[0] = (double)NAN;
        else if (json_is_number(value))
            values[0] = json_number_value(value);
        else
            return jsonx_fail(err, prefix, field->name, "%s must be a number%s.", field->name,
                              field->nullable ? " or null" : "");
        return AMX_OK;
    case AMX_SETTING_INTEGER:
        if (!json_is_integer(value))
            return jsonx_fail(err, prefix, field->name, "%s must be an integer.", field->name);
        values[0] = (double)json_integer_value(value);
        return AMX_OK;
    case AMX_SETTING_BOOLEAN:
        if (!json_is_boolean(value))
            return jsonx_fail(err, prefix, field->name, "%s must be true or false.", field->name);
        values[0] = json_is_true(value) ? 1 : 0;
        return AMX_OK;
    case AMX_SETTING_WIDTHS:
        return read_widths(value, prefix, field->name, values, n, err);
    case AMX_SETTING_CHOICE:
        break;
    }
    return read_choice(field, value, prefix, values, err);
}

static enum amx_status merge_setting(const char *name, const json_t *value, const char *prefix,
                                     struct amx_settings *settings, struct amx_error *err)
{
    const struct amx_setting_field *field = find_field(name);
    double values[AMX_MAX_HIDDEN];
    struct amx_error own;
    size_t n;
    enum amx_status status;

    if (field == NULL && is_among(OTHER_SETTINGS, name))
        return jsonx_fail(err, prefix, name, "%s is a setting of another method, which is not in this build.", name);
    if (field == NULL)
        return jsonx_fail(err, prefix, name, "There is no setting \"%.40s\"; GET /v1/methods lists them.", name);
    status = read_value(field, value, prefix, values, &n, err);
    if (status != AMX_OK)
        return status;
    status = amx_settings_set(settings, name, values, n, &own);
    if (status != AMX_OK)
        return jsonx_fail(err, prefix, name, "%s", own.text);
    return AMX_OK;
}

static enum amx_status merge_settings(const json_t *object, const char *prefix, struct amx_settings *settings,
                                      struct amx_error *err)
{
    void *position;

    if (!json_is_object(object))
        return jsonx_fail(err, prefix, NULL, "settings must be an object.");
    /* Jansson's iterators take a pointer to non-const and change nothing. */
    position = json_object_iter((json_t *)(uintptr_t)object);
    for (; position != NULL; position = json_object_iter_next((json_t *)(uintptr_t)object, position)) {
        enum amx_status status =
            merge_setting(json_object_iter_key(position), json_object_iter_value(position), prefix, settings, err);
        if (status != AMX_OK)
            return status;
    }
    return AMX_OK;
}

/* ---- the top level ---------------------------------------------------------------------------------------------- */

static enum amx_status merge_method(const json_t *object, const char *prefix, struct run_request *request,
                                    struct amx_error *err)
{
    const char *name = NULL;
    enum amx_status status = jsonx_opt_string(object, "method", prefix, &name, NULL, err);

    if (status != AMX_OK || name == NULL || strcmp(name, METHODS[0]) == 0) {
        if (status == AMX_OK && name != NULL)
            request->method = METHODS[0];
        return status;
    }
    if (is_among(OTHER_METHODS, name))
        return jsonx_fail(err, prefix, "method", "The method %s is not in this build; annot_mix is.", name);
    return jsonx_fail(err, prefix, "method", "There is no such method; GET /v1/methods lists them.");
}

/* A word out of a short list; the first n_supported words are what this build can do. */
static enum amx_status merge_word(const json_t *object, const char *field, const char *prefix, const char *const *words,
                                  int n_words, int n_supported, int *out, struct amx_error *err)
{
    const char *word = NULL;
    enum amx_status status = jsonx_opt_string(object, field, prefix, &word, NULL, err);

    if (status != AMX_OK || word == NULL)
        return status;
    for (int i = 0; i < n_words; i++) {
        if (strcmp(words[i], word) != 0)
            continue;
        if (i >= n_supported)
            return jsonx_fail(err, prefix, field, "%s %s is not in this build; %s is.", field, word, words[0]);
        *out = i;
        return AMX_OK;
    }
    return jsonx_fail(err, prefix, field, "%s must be one of: %s, %s, %s.", field, words[0], words[1], words[2]);
}

enum amx_status run_request_merge(const json_t *object, const char *prefix, struct run_request *request,
                                  struct amx_error *err)
{
    static const char *const fields[] = {"method",   "seed",   "ensemble",       "folds",       "gold_use", "settings",
                                         "activate", "select", "budget_seconds", "budget_fits", "methods",  NULL};
    static const char *const of_auto[] = {"budget_seconds", "budget_fits", "select", "methods", NULL};
    int64_t seed = (int64_t)request->seed, ensemble = request->ensemble, folds = request->folds;
    int gold_use = (int)request->gold_use, activate = (int)request->activate;
    const json_t *settings = NULL;
    char pointer[JSONX_POINTER_BYTES];
    enum amx_status status;

    if (!json_is_object(object))
        return jsonx_fail(err, prefix, NULL, "A training run must be an object.");
    if ((status = jsonx_only_fields(object, fields, prefix, err)) != AMX_OK ||
        (status = merge_method(object, prefix, request, err)) != AMX_OK ||
        (status = jsonx_opt_int(object, "seed", prefix, 0, MAX_SEED, &seed, err)) != AMX_OK ||
        (status = jsonx_opt_int(object, "ensemble", prefix, 1, 100, &ensemble, err)) != AMX_OK ||
        (status = jsonx_opt_int(object, "folds", prefix, 0, 20, &folds, err)) != AMX_OK ||
        (status = merge_word(object, "gold_use", prefix, GOLD_USES, 3, 1, &gold_use, err)) != AMX_OK ||
        (status = merge_word(object, "activate", prefix, ACTIVATES, 3, 2, &activate, err)) != AMX_OK ||
        (status = jsonx_opt_object(object, "settings", prefix, &settings, err)) != AMX_OK)
        return status;
    for (int i = 0; of_auto[i] != NULL; i++) {
        if (json_object_get(object, of_auto[i]) != NULL)
            return jsonx_fail(err, prefix, of_auto[i], "%s belongs to the method auto, which is not in this build.",
                              of_auto[i]);
    }
    if (folds == 1)
        return jsonx_fail(err, prefix, "folds", "folds must be 0 or 2 to 20.");
    if (folds != 0)
        return jsonx_fail(err, prefix, "folds", "Folds are not in this build; folds must be 0.");
    if (settings != NULL) {
        status = merge_settings(settings, jsonx_pointer(pointer, prefix, "settings"), &request->settings, err);
        if (status != AMX_OK)
            return status;
    }
    request->seed = (uint64_t)seed;
    request->ensemble = (int)ensemble;
    request->folds = (int)folds;
    request->gold_use = (enum run_gold_use)gold_use;
    request->activate = (enum run_activate)activate;
    return AMX_OK;
}

enum amx_status run_request_check(const struct run_request *request, const char *prefix, size_t n_classes,
                                  struct amx_error *err)
{
    char pointer[JSONX_POINTER_BYTES];
    struct amx_error own;

    memset(&own, 0, sizeof own);
    if (amx_settings_check(&request->settings, n_classes, &own) == AMX_OK)
        return AMX_OK;
    (void)jsonx_pointer(pointer, prefix, "settings");
    return jsonx_fail(err, pointer, own.pointer[0] == '/' ? own.pointer + 1 : NULL, "%s", own.text);
}

enum amx_status run_request_parse(const json_t *request, const json_t *project_training, size_t n_features,
                                  size_t n_classes, struct run_request *out, struct amx_error *err)
{
    struct run_request parsed;
    enum amx_status status = AMX_OK;

    run_request_default(n_features, &parsed);
    if (project_training != NULL)
        status = run_request_merge(project_training, "", &parsed, err);
    if (status == AMX_OK && request != NULL && !json_is_null(request))
        status = run_request_merge(request, "", &parsed, err);
    if (status == AMX_OK)
        status = run_request_check(&parsed, "", n_classes, err);
    if (status == AMX_OK)
        *out = parsed;
    return status;
}

enum amx_status run_request_set(struct run_request *request, const char *assignment, struct amx_error *err)
{
    const char *equals = strchr(assignment, '=');
    const struct amx_setting_field *field;
    char key[64], list[512];
    const char *value;
    json_t *json;
    enum amx_status status;

    if (equals == NULL || equals == assignment || (size_t)(equals - assignment) >= sizeof key)
        return error_set(err, AMX_INVALID, "--set wants KEY=VALUE, not \"%.60s\".", assignment);
    memcpy(key, assignment, (size_t)(equals - assignment));
    key[equals - assignment] = '\0';
    value = equals + 1;
    field = find_field(key);
    /* "256,128" and "128" are lists of widths. */
    if (field != NULL && field->type == AMX_SETTING_WIDTHS && value[0] != '[') {
        if ((size_t)snprintf(list, sizeof list, "[%s]", value) >= sizeof list)
            return error_set(err, AMX_INVALID, "The value of %s is too long.", key);
        value = list;
    }
    json = json_loads(value, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, NULL);
    if (json == NULL)
        json = json_string(value);
    if (json == NULL)
        return error_set(err, AMX_INVALID, "The value of %s is not UTF-8.", key);
    status = merge_setting(key, json, "", &request->settings, err);
    json_decref(json);
    return status;
}
