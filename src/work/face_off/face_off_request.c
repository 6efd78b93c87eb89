/* face_off_request.c - see face_off_request.h. */
#include "work/face_off/face_off_request.h"

#include <stdlib.h>
#include <string.h>

#include "util/error.h"
#include "util/jsonx.h"

#define MAX_SEED ((INT64_C(1) << 53) - 1)

void face_off_default(struct face_off *out)
{
    *out = (struct face_off){.repeat = 1, .seed = 1};
}

static enum amx_status read_methods(const json_t *list, struct face_off *out, struct amx_error *err)
{
    char pointer[JSONX_POINTER_BYTES];

    out->n_methods = 0;
    if (json_array_size(list) == 0 || json_array_size(list) > FACE_OFF_MAX_METHODS)
        return jsonx_fail(err, "", "methods", "methods must name 1 to %d methods, or be left out.",
                          (int)FACE_OFF_MAX_METHODS);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *word = json_string_value(json_array_get(list, i));
        const struct amx_method_info *info = amx_method_named(word);

        (void)jsonx_pointer_index(pointer, "/methods", i);
        if (info == NULL)
            return jsonx_fail(err, pointer, NULL, "There is no method \"%.40s\"; GET /v1/methods lists them.",
                              word != NULL ? word : "");
        for (size_t j = 0; j < out->n_methods; j++) {
            if (out->methods[j] == info->name)
                return jsonx_fail(err, pointer, NULL, "The method %s is named twice.", info->name);
        }
        out->methods[out->n_methods++] = info->name;
    }
    return AMX_OK;
}

enum amx_status face_off_parse(const json_t *object, struct face_off *out, struct amx_error *err)
{
    static const char *const fields[] = {"methods", "repeat", "seed", "folds", NULL};
    struct face_off parsed;
    const json_t *methods = NULL;
    int64_t repeat = 1, seed = 1, folds = 0;
    enum amx_status status = AMX_OK;

    face_off_default(&parsed);
    if (object != NULL && !json_is_object(object))
        return jsonx_fail(err, "", NULL, "A face-off must be an object.");
    if (object != NULL &&
        ((status = jsonx_only_fields(object, fields, "", err)) != AMX_OK ||
         (status = jsonx_opt_array(object, "methods", "", &methods, err)) != AMX_OK ||
         (status = jsonx_opt_int(object, "repeat", "", 1, FACE_OFF_MAX_REPEAT, &repeat, err)) != AMX_OK ||
         (status = jsonx_opt_int(object, "seed", "", 0, MAX_SEED, &seed, err)) != AMX_OK ||
         (status = jsonx_opt_int(object, "folds", "", 0, RUN_MAX_FOLDS, &folds, err)) != AMX_OK))
        return status;
    if (folds == 1)
        return jsonx_fail(err, "", "folds", "folds must be 0, or 2 to %d.", (int)RUN_MAX_FOLDS);
    if (seed > MAX_SEED - repeat)
        return jsonx_fail(err, "", "seed", "The seeds of all repeats must be below 2^53.");
    if (methods != NULL && (status = read_methods(methods, &parsed, err)) != AMX_OK)
        return status;
    parsed.repeat = (int)repeat;
    parsed.seed = (uint64_t)seed;
    parsed.folds = (int)folds;
    *out = parsed;
    return AMX_OK;
}

bool face_off_is(const struct run_spec *spec)
{
    return spec->method.n == strlen(FACE_OFF_METHOD) &&
           memcmp(spec->method.bytes, FACE_OFF_METHOD, spec->method.n) == 0;
}

char *face_off_settings_text(const struct face_off *face_off)
{
    size_t n_all, bytes;
    const struct amx_method_info *all = amx_methods(&n_all);
    json_t *methods = json_array(), *object;
    char *text = NULL;
    int failed = 0;

    /* All of them: an empty list, which stands for whatever the program that runs it knows. */
    for (size_t i = 0; i < n_all && face_off->n_methods > 0; i++) {
        for (size_t j = 0; j < face_off->n_methods; j++) {
            if (strcmp(all[i].name, face_off->methods[j]) == 0)
                failed |= json_array_append_new(methods, json_string(all[i].name));
        }
    }
    object = json_pack("{s:o, s:i}", "methods", methods, "repeat", face_off->repeat);
    if (object != NULL && !failed)
        text = jsonx_dump(object, &bytes);
    json_decref(object);
    return text;
}

void face_off_to_spec(const struct face_off *face_off, const char *settings_text, struct run_spec *out)
{
    static const char method[] = FACE_OFF_METHOD, gold_use[] = "evaluate", activate[] = "never";

    *out = (struct run_spec){
        .method = {method, sizeof method - 1},
        .gold_use = {gold_use, sizeof gold_use - 1},
        .activate = {activate, sizeof activate - 1},
        .settings = {settings_text, strlen(settings_text)},
        .seed = (int64_t)face_off->seed,
        .ensemble = 1,
        .folds = face_off->folds,
    };
}

enum amx_status face_off_of_spec(const struct run_spec *spec, struct face_off *out, struct amx_error *err)
{
    json_t *settings = NULL;
    const json_t *methods;
    struct face_off read;
    int64_t repeat = 1;
    struct amx_error own;
    enum amx_status status = jsonx_load_object(spec->settings.bytes, spec->settings.n, &settings, &own);

    face_off_default(&read);
    methods = json_object_get(settings, "methods");
    if (status == AMX_OK)
        status = jsonx_opt_int(settings, "repeat", "", 1, FACE_OFF_MAX_REPEAT, &repeat, &own);
    if (status == AMX_OK && json_array_size(methods) > 0)
        status = read_methods(methods, &read, &own);
    json_decref(settings);
    if (status != AMX_OK || !face_off_is(spec) || spec->folds < 0)
        return error_set(err, status == AMX_NO_MEMORY ? status : AMX_CORRUPT, "The face-off's row cannot be read.");
    read.repeat = (int)repeat;
    read.seed = (uint64_t)spec->seed;
    read.folds = spec->folds;
    *out = read;
    return AMX_OK;
}
