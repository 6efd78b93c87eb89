/* run_request_json.c - a request back to JSON, to the store's row and from it; and the list of methods. */
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "util/error.h"
#include "util/jsonx.h"
#include "work/run_request.h"

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

json_t *run_request_settings_json(const struct amx_settings *settings)
{
    size_t n_fields;
    const struct amx_setting_field *fields = amx_setting_fields(&n_fields);
    json_t *object = json_object();

    for (size_t i = 0; i < n_fields; i++) {
        double values[AMX_MAX_HIDDEN];
        size_t n = amx_settings_get(settings, fields[i].name, values);

        if (json_object_set_new(object, fields[i].name, value_json(&fields[i], values, n)) != 0) {
            json_decref(object);
            return NULL;
        }
    }
    return object;
}

json_t *run_request_json(const struct run_request *request)
{
    json_t *object = json_object();
    int failed = json_object_set_new(object, "method", json_string(request->method));

    failed |= json_object_set_new(object, "seed", json_integer((json_int_t)request->seed));
    failed |= json_object_set_new(object, "ensemble", json_integer(request->ensemble));
    failed |= json_object_set_new(object, "folds", json_integer(request->folds));
    failed |= json_object_set_new(object, "gold_use", json_string(run_gold_use_name(request->gold_use)));
    failed |= json_object_set_new(object, "settings", run_request_settings_json(&request->settings));
    failed |= json_object_set_new(object, "activate", json_string(run_activate_name(request->activate)));
    if (failed) {
        json_decref(object);
        return NULL;
    }
    return object;
}

char *run_request_settings_text(const struct amx_settings *settings)
{
    json_t *object = run_request_settings_json(settings);
    char *text = object != NULL ? json_dumps(object, JSON_COMPACT | JSON_REAL_PRECISION(EXACT_DIGITS)) : NULL;

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

enum amx_status run_request_of_spec(const struct run_spec *spec, struct run_request *out, struct amx_error *err)
{
    json_t *object = NULL, *settings = NULL;
    struct run_request request;
    struct amx_error own = {.text = "the settings cannot be read"};
    enum amx_status status = jsonx_load_object(spec->settings.bytes, spec->settings.n, &settings, &own);

    run_request_default(0, &request);
    if (status == AMX_OK) {
        object = json_pack("{s:s%, s:s%, s:s%, s:I, s:i, s:i, s:O}", "method", spec->method.bytes, spec->method.n,
                           "gold_use", spec->gold_use.bytes, spec->gold_use.n, "activate", spec->activate.bytes,
                           spec->activate.n, "seed", (json_int_t)spec->seed, "ensemble", spec->ensemble, "folds",
                           spec->folds, "settings", settings);
        status = object == NULL ? AMX_NO_MEMORY : run_request_merge(object, "", &request, &own);
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

/* ---- GET /v1/methods ----------------------------------------------------------------------------------------------
 */

static const char *type_name(enum amx_setting_type type)
{
    switch (type) {
    case AMX_SETTING_REAL:
        return "number";
    case AMX_SETTING_INTEGER:
        return "integer";
    case AMX_SETTING_BOOLEAN:
        return "boolean";
    case AMX_SETTING_WIDTHS:
        return "array";
    case AMX_SETTING_CHOICE:
        break;
    }
    return "string";
}

static json_t *choices_json(const struct amx_setting_field *field)
{
    json_t *list;

    if (field->choices == NULL)
        return json_null();
    list = json_array();
    for (int i = 0; field->choices[i] != NULL; i++) {
        if (json_array_append_new(list, json_string(field->choices[i])) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static json_t *bound_json(const struct amx_setting_field *field, double bound)
{
    if (field->type == AMX_SETTING_BOOLEAN || field->type == AMX_SETTING_CHOICE)
        return json_null();
    return field->type == AMX_SETTING_REAL ? json_real(bound) : json_integer((json_int_t)bound);
}

static json_t *field_json(const struct amx_setting_field *field, const struct amx_settings *few,
                          const struct amx_settings *many)
{
    double values[AMX_MAX_HIDDEN];
    json_t *object = json_object();
    int failed = json_object_set_new(object, "name", json_string(field->name));
    size_t n = amx_settings_get(few, field->name, values);

    failed |= json_object_set_new(object, "type", json_string(type_name(field->type)));
    failed |= json_object_set_new(object, "default", value_json(field, values, n));
    n = amx_settings_get(many, field->name, values);
    failed |= json_object_set_new(object, "default_from_256_features", value_json(field, values, n));
    failed |= json_object_set_new(object, "minimum", bound_json(field, field->min));
    failed |= json_object_set_new(object, "maximum", bound_json(field, field->max));
    failed |= json_object_set_new(object, "exclusive_minimum", json_boolean(field->open_min));
    failed |= json_object_set_new(object, "exclusive_maximum", json_boolean(field->open_max));
    failed |= json_object_set_new(object, "nullable", json_boolean(field->nullable));
    failed |= json_object_set_new(object, "choices", choices_json(field));
    failed |= json_object_set_new(object, "source", json_string(field->source));
    failed |= json_object_set_new(object, "description", json_string(field->help));
    if (failed) {
        json_decref(object);
        return NULL;
    }
    return object;
}

json_t *run_request_methods_json(void)
{
    struct amx_settings few, many;
    size_t n;
    const struct amx_setting_field *fields = amx_setting_fields(&n);
    json_t *settings = json_array(), *body;

    amx_settings_default(0, &few);
    amx_settings_default(256, &many);
    for (size_t i = 0; i < n; i++) {
        if (json_array_append_new(settings, field_json(&fields[i], &few, &many)) != 0) {
            json_decref(settings);
            return NULL;
        }
    }
    body = json_pack("{s:[{s:s, s:s, s:s, s:o}], s:n}", "items", "name", "annot_mix", "title", "annot-mix", "source",
                     "Herde, Luehrs, Huseljic, Sick: Annot-Mix, ECAI 2024, doi 10.3233/FAIA240829", "settings",
                     settings, "next_cursor");
    return body;
}
