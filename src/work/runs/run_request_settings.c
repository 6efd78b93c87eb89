/* run_request_settings.c - one setting after another from JSON and from KEY=VALUE, driven by the learner's table. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "util/error.h"
#include "util/jsonx.h"
#include "work/runs/run_request_int.h"

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

static enum amx_status merge_setting(const char *name, const json_t *value, const char *prefix, bool drop_foreign,
                                     struct run_request *request, struct amx_error *err)
{
    const struct amx_setting_field *field = find_field(name);
    double values[AMX_MAX_HIDDEN];
    struct amx_error own;
    const bool reads = !request->label_only && run_method_reads(request->method, name);
    size_t n;
    enum amx_status status;

    if (field == NULL)
        return jsonx_fail(err, prefix, name, "There is no setting \"%.40s\"; GET /v1/methods lists them.", name);
    if (!reads && drop_foreign)
        return AMX_OK;
    if (!reads && request->label_only)
        return jsonx_fail(err, prefix, name, "%s works on labels alone and has no settings.", request->method);
    if (!reads)
        return jsonx_fail(err, prefix, name,
                          "%s is a setting of another method: %s does not read it (see GET /v1/methods).", name,
                          request->method);
    status = read_value(field, value, prefix, values, &n, err);
    if (status != AMX_OK)
        return status;
    status = amx_settings_set(&request->settings, name, values, n, &own);
    if (status != AMX_OK)
        return jsonx_fail(err, prefix, name, "%s", own.text);
    return AMX_OK;
}

enum amx_status run_settings_merge(const json_t *object, const char *prefix, bool drop_foreign,
                                   struct run_request *request, struct amx_error *err)
{
    void *position;

    if (!json_is_object(object))
        return jsonx_fail(err, prefix, NULL, "settings must be an object.");
    /* Jansson's iterators take a pointer to non-const and change nothing. */
    position = json_object_iter((json_t *)(uintptr_t)object);
    for (; position != NULL; position = json_object_iter_next((json_t *)(uintptr_t)object, position)) {
        enum amx_status status = merge_setting(json_object_iter_key(position), json_object_iter_value(position), prefix,
                                               drop_foreign, request, err);
        if (status != AMX_OK)
            return status;
    }
    return AMX_OK;
}

enum amx_status run_request_set(struct run_request *request, const char *assignment, struct amx_error *err)
{
    const char *equals = strchr(assignment, '=');
    const struct amx_setting_field *field;
    char key[64], list[512];
    const char *value;
    json_t *json = NULL;
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
    if (jsonx_load(value, strlen(value), &json, NULL) != AMX_OK)
        json = json_string(value);
    if (json == NULL)
        return error_set(err, AMX_INVALID, "The value of %s is not UTF-8.", key);
    status = merge_setting(key, json, "", false, request, err);
    json_decref(json);
    return status;
}
