/* project_settings.c - checks a project's `settings` object; everything has a default. */
#include "work/project_settings.h"

#include "util/jsonx.h"
#include "work/runs/run_request.h"

#define LEAST_THRESHOLD 1e-9

static enum amx_status parse_auto_train(const json_t *object, const char *prefix, int64_t *every, struct amx_error *err)
{
    static const char *const fields[] = {"every_labels", NULL};
    enum amx_status status = jsonx_only_fields(object, fields, prefix, err);

    if (status != AMX_OK)
        return status;
    return jsonx_need_int(object, "every_labels", prefix, 1, INT64_C(1000000000), every, err);
}

enum amx_status project_settings_parse(const json_t *settings, const char *prefix, size_t n_features, size_t n_classes,
                                       struct project_settings *out, struct amx_error *err)
{
    static const char *const fields[] = {"overlap", "resolve_threshold", "auto_train", "training", NULL};
    struct project_settings parsed = {.overlap = 3, .resolve_threshold = 0.95};
    const json_t *auto_train = NULL;
    char pointer[JSONX_POINTER_BYTES];
    enum amx_status status = AMX_OK;

    if (settings == NULL || json_is_null(settings)) {
        *out = parsed;
        return AMX_OK;
    }
    if (!json_is_object(settings))
        return jsonx_fail(err, prefix, NULL, "settings must be an object.");
    if ((status = jsonx_only_fields(settings, fields, prefix, err)) != AMX_OK ||
        (status = jsonx_opt_int(settings, "overlap", prefix, 1, 1000, &parsed.overlap, err)) != AMX_OK ||
        (status = jsonx_opt_real(settings, "resolve_threshold", prefix, LEAST_THRESHOLD, 1, &parsed.resolve_threshold,
                                 err)) != AMX_OK ||
        (status = jsonx_opt_object(settings, "auto_train", prefix, &auto_train, err)) != AMX_OK ||
        (status = jsonx_opt_object(settings, "training", prefix, &parsed.training, err)) != AMX_OK)
        return status;
    if (auto_train != NULL) {
        status =
            parse_auto_train(auto_train, jsonx_pointer(pointer, prefix, "auto_train"), &parsed.auto_train_labels, err);
        if (status != AMX_OK)
            return status;
    }
    if (parsed.training != NULL) {
        status = run_request_check_training(parsed.training, jsonx_pointer(pointer, prefix, "training"), n_features,
                                            n_classes, err);
        if (status != AMX_OK)
            return status;
    }
    *out = parsed;
    return AMX_OK;
}
