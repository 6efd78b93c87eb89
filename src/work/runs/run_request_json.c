/* run_request_json.c - a request back to JSON, to the store's row and from it. */
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "util/error.h"
#include "util/jsonx.h"
#include "work/runs/run_request_int.h"

enum {
    EXACT_DIGITS = 17
}; /* a double survives the way out and back */

static json_t *value_json(const struct amx_setting_field *field, const double *values, size_t n)
{
    json_t *list;

    switch (field->type) {
    case AMX_SETTING_REAL:
        return jsonx_real_or_null(values[0]);
    case AMX_SETTING_INTEGER:
        return json_integer((json_int_t)values[0]);
    case AMX_SETTING_BOOLEAN:
        return json_boolean(values[0] > 0);
    case AMX_SETTING_CHOICE:
        return json_string(field->choices[(size_t)values[0]]);
    case AMX_SETTING_WIDTHS:
        break;
    }
    list = json_array();
    for (size_t i = 0; i < n; i++) {
        if (json_array_append_new(list, json_integer((json_int_t)values[i])) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

json_t *run_setting_json(const struct amx_setting_field *field, const struct amx_settings *settings)
{
    double values[AMX_MAX_HIDDEN];
    size_t n = amx_settings_get(settings, field->name, values);

    return value_json(field, values, n);
}

json_t *run_request_settings_json(const char *method, const struct amx_settings *settings)
{
    size_t n_fields;
    const struct amx_setting_field *fields = amx_setting_fields(&n_fields);
    json_t *object = json_object();

    for (size_t i = 0; i < n_fields; i++) {
        if (run_method_reads(method, fields[i].name) &&
            json_object_set_new(object, fields[i].name, run_setting_json(&fields[i], settings)) != 0) {
            json_decref(object);
            return NULL;
        }
    }
    return object;
}

json_t *run_auto_json(const struct run_auto *automatic)
{
    json_t *methods = json_array();
    int failed = 0;

    for (size_t i = 0; i < automatic->n_methods; i++)
        failed |= json_array_append_new(methods, json_string(automatic->methods[i]));
    if (failed) {
        json_decref(methods);
        return NULL;
    }
    return json_pack("{s:o, s:o, s:s, s:o}", "budget_seconds",
                     automatic->budget_seconds > 0 ? json_real(automatic->budget_seconds) : json_null(), "budget_fits",
                     automatic->budget_fits > 0 ? json_integer(automatic->budget_fits) : json_null(), "select",
                     run_select_name(automatic->select), "methods", methods);
}

static json_t *all_settings_json(const struct run_request *request)
{
    return request->label_only ? json_object() : run_request_settings_json(request->method, &request->settings);
}

json_t *run_request_json(const struct run_request *request)
{
    json_t *object = json_object();
    int failed = json_object_set_new(object, "method", json_string(request->method));

    failed |= json_object_set_new(object, "seed", json_integer((json_int_t)request->seed));
    failed |= json_object_set_new(object, "ensemble", json_integer(request->ensemble));
    failed |= json_object_set_new(object, "folds", json_integer(request->folds));
    failed |= json_object_set_new(object, "gold_use", json_string(run_gold_use_name(request->gold_use)));
    failed |= json_object_set_new(object, "settings", all_settings_json(request));
    failed |= json_object_set_new(object, "activate", json_string(run_activate_name(request->activate)));
    if (run_request_is_auto(request))
        failed |= json_object_set_new(object, "auto", run_auto_json(&request->automatic));
    if (failed) {
        json_decref(object);
        return NULL;
    }
    return object;
}

char *run_request_settings_text(const struct run_request *request)
{
    const size_t flags = JSON_COMPACT | JSON_REAL_PRECISION(EXACT_DIGITS);
    json_t *object = all_settings_json(request);
    char *text = NULL;

    if (!run_request_is_auto(request) || json_object_set_new(object, "auto", run_auto_json(&request->automatic)) == 0)
        text = object != NULL ? json_dumps(object, flags) : NULL;
    if (text != NULL && strlen(text) != json_dumpb(object, NULL, 0, flags)) {
        free(text); /* Jansson can lose a part of it when memory is out */
        text = NULL;
    }
    json_decref(object);
    return text;
}

static struct slice text_slice(const char *text)
{
    return (struct slice){text, strlen(text)};
}

void run_request_to_spec(const struct run_request *request, const char *settings_text, struct run_spec *out)
{
    *out = (struct run_spec){
        .method = text_slice(request->method),
        .gold_use = text_slice(run_gold_use_name(request->gold_use)),
        .activate = text_slice(run_activate_name(request->activate)),
        .settings = text_slice(settings_text),
        .seed = (int64_t)request->seed,
        .ensemble = request->ensemble,
        .folds = request->folds,
    };
}

/* auto's fields lie among the stored settings; an empty list of methods and null budgets are what was not given. */
static int lift_auto(json_t *object, json_t *settings)
{
    json_t *automatic = json_object_get(settings, "auto");
    int failed = 0;

    if (automatic == NULL)
        return 0;
    if (json_array_size(json_object_get(automatic, "methods")) == 0)
        (void)json_object_del(automatic, "methods");
    failed |= json_object_set(object, "auto", automatic);
    return failed | json_object_del(settings, "auto");
}

enum amx_status run_request_of_spec(const struct run_spec *spec, struct run_request *out, struct amx_error *err)
{
    json_t *object = NULL, *settings = NULL;
    struct run_request request;
    struct amx_error own = {.text = "the settings cannot be read"};
    enum amx_status status = jsonx_load_object(spec->settings.bytes, spec->settings.n, &settings, &own);

    if (status == AMX_OK) {
        /* Methods of labels alone have no settings, every other one has. Number of features and classes were checked
         * when the run was queued; every setting is filled in. */
        size_t n_features = json_object_size(settings) > 0 ? 1 : 0;

        object = json_pack("{s:s%, s:s%, s:s%, s:I, s:i, s:i, s:O}", "method", spec->method.bytes, spec->method.n,
                           "gold_use", spec->gold_use.bytes, spec->gold_use.n, "activate", spec->activate.bytes,
                           spec->activate.n, "seed", (json_int_t)spec->seed, "ensemble", spec->ensemble, "folds",
                           spec->folds, "settings", settings);
        if (object == NULL || lift_auto(object, settings) != 0)
            status = AMX_NO_MEMORY;
        else
            status = run_request_parse(object, NULL, n_features, AMX_MAX_CLASSES, &request, &own);
    }
    json_decref(object);
    json_decref(settings);
    if (status == AMX_NO_MEMORY)
        return error_set(err, AMX_NO_MEMORY, "Out of memory.");
    if (status != AMX_OK)
        return error_set(err, AMX_CORRUPT, "A stored training run cannot be read: %s", own.text);
    *out = request;
    return AMX_OK;
}
