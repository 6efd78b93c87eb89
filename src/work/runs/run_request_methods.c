/* run_request_methods.c - the methods a run may name: those of the learner, auto, and those of labels alone; and the
 * list of GET /v1/methods. */
#include <string.h>

#include "crowd/aggregate/aggregate.h"
#include "util/jsonx.h"
#include "work/runs/run_request_int.h"

static const char AUTO[] = "auto";

static const char LABEL_ONLY_DEFAULT[] = "dawid_skene";

bool run_request_is_auto(const struct run_request *request)
{
    return strcmp(request->method, AUTO) == 0;
}

enum amx_status run_method_find(const char *name, size_t n_features, const char *prefix, const char **out,
                                bool *label_only, struct amx_error *err)
{
    const struct amx_method_info *info = name != NULL ? amx_method_named(name) : amx_methods(&(size_t){0});
    const char *learned = info != NULL ? info->name : NULL;
    const struct aggregate_method *plain = aggregate_find(name != NULL ? name : LABEL_ONLY_DEFAULT);

    if (learned == NULL && strcmp(name, AUTO) == 0)
        learned = AUTO;
    *label_only = n_features == 0;
    *out = !*label_only ? learned : plain != NULL ? plain->name : NULL;
    if (*out != NULL)
        return AMX_OK;
    if (learned != NULL)
        return jsonx_fail(
            err, prefix, "method",
            "The method %s needs features, and this project has none; dawid_skene, glad, mace ... do not.", learned);
    if (plain != NULL)
        return jsonx_fail(err, prefix, "method",
                          "The method %s works on labels alone: for projects without features, and for consensus.",
                          plain->name);
    return jsonx_fail(err, prefix, "method", "There is no such method; GET /v1/methods lists them.");
}

/* auto takes any setting: what is given holds for every candidate that reads it. */
bool run_method_reads(const char *method, const char *setting)
{
    return strcmp(method, AUTO) == 0 || amx_setting_applies(method, setting);
}

void run_request_settings_default(const char *method, size_t n_features, struct amx_settings *out)
{
    amx_settings_default(n_features, out);
    if (strcmp(method, "madl") == 0)
        out->eta = 0.8; /* as published for it */
}

/* ---- GET /v1/methods ----------------------------------------------------------------------------------------------
 */

static const char *type_name(enum amx_setting_type type)
{
    switch (type) {
    case AMX_SETTING_REAL:
        return "real";
    case AMX_SETTING_INTEGER:
        return "integer";
    case AMX_SETTING_BOOLEAN:
        return "boolean";
    case AMX_SETTING_WIDTHS:
        return "widths";
    case AMX_SETTING_CHOICE:
        break;
    }
    return "choice";
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
    json_t *object = json_object();
    int failed = json_object_set_new(object, "name", json_string(field->name));

    failed |= json_object_set_new(object, "type", json_string(type_name(field->type)));
    failed |= json_object_set_new(object, "default", run_setting_json(field, few));
    failed |= json_object_set_new(object, "default_from_256_features", run_setting_json(field, many));
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

static json_t *settings_of_method(const char *method)
{
    struct amx_settings few, many;
    size_t n;
    const struct amx_setting_field *fields = amx_setting_fields(&n);
    json_t *list = json_array();

    run_request_settings_default(method, 1, &few);
    run_request_settings_default(method, 256, &many);
    for (size_t i = 0; i < n; i++) {
        if (run_method_reads(method, fields[i].name) &&
            json_array_append_new(list, field_json(&fields[i], &few, &many)) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

/* Fields of the request itself, beside `settings`, that only auto has; in the shape of settings. */
static json_t *fields_of_auto(void)
{
    static const char source[] = "annotmixd, method auto";

    return json_pack(
        "[{s:s, s:s, s:i, s:i, s:i, s:b, s:n, s:s, s:s}, {s:s, s:s, s:n, s:i, s:i, s:b, s:n, s:s, s:s},"
        " {s:s, s:s, s:s, s:n, s:n, s:b, s:[s, s], s:s, s:s}, {s:s, s:s, s:n, s:n, s:n, s:b, s:n, s:s, s:s}]",
        "name", "budget_seconds", "type", "real", "default", 300, "minimum", 0, "maximum", 604800, "exclusive_minimum",
        1, "choices", "source", source, "description", "Seconds to search in. With budget_fits alone: no limit.",
        "name", "budget_fits", "type", "integer", "default", "minimum", 1, "maximum", 1000000, "exclusive_minimum", 0,
        "choices", "source", source, "description",
        "Cross-validations to search with; the choice then follows from the seed.", "name", "select", "type", "choice",
        "default", "crowd", "minimum", "maximum", "exclusive_minimum", 0, "choices", "crowd", "valid", "source", source,
        "description", "Judge by the labels of the crowd, or by gold of split valid.", "name", "methods", "type",
        "methods", "default", "minimum", "maximum", "exclusive_minimum", 0, "choices", "source", source, "description",
        "Names of the methods to choose among; left out: the default candidates.");
}

static json_t *method_json(const char *name, const char *title, const char *source, const char *help, bool needs_gold,
                           json_t *settings, json_t *fields)
{
    return json_pack("{s:s, s:s, s:s, s:s, s:b, s:o, s:o}", "name", name, "title", title, "source", source,
                     "description", help, "needs_gold", needs_gold, "settings", settings, "fields", fields);
}

json_t *run_request_methods_json(void)
{
    size_t n, n_plain;
    const struct amx_method_info *m = amx_methods(&n);
    const struct aggregate_method *plain = aggregate_methods(&n_plain);
    json_t *items = json_array(), *alone = json_array();
    int failed = items == NULL || alone == NULL;

    for (size_t i = 0; i < n; i++)
        failed |=
            json_array_append_new(items, method_json(m[i].name, m[i].title, m[i].source, m[i].help, m[i].needs_gold,
                                                     settings_of_method(m[i].name), json_array()));
    failed |= json_array_append_new(
        items, method_json(AUTO, "Choose for me",
                           "Seven risks judged by cross-validation on the labels of the crowd, after annot-mix, ECAI "
                           "2024, appendix",
                           "Chooses method and settings without gold labels, then trains the best on all labels.",
                           false, settings_of_method(AUTO), fields_of_auto()));
    for (size_t i = 0; i < n_plain; i++)
        failed |= json_array_append_new(alone, method_json(plain[i].name, plain[i].title, plain[i].source,
                                                           plain[i].help, false, json_array(), json_array()));
    if (failed) {
        json_decref(items);
        json_decref(alone);
        return NULL;
    }
    return json_pack("{s:o, s:n, s:o}", "items", items, "next_cursor", "label_only", alone);
}
