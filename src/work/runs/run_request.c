/* run_request.c - see run_request.h. The top level of a request: one layer over another, then what several fields
 * together must keep to. Settings are in run_request_settings.c, methods in run_request_methods.c. */
#include "work/runs/run_request.h"

#include <string.h>

#include "crowd/select/select.h"
#include "util/error.h"
#include "util/jsonx.h"
#include "work/runs/run_request_int.h"

#define MAX_SEED           ((INT64_C(1) << 53) - 1)
#define BUDGET_SECONDS     300.0
#define MAX_BUDGET_SECONDS 604800.0 /* a week */
#define MAX_BUDGET_FITS    1000000

static const char *const GOLD_USES[] = {"evaluate", "calibrate", "train", NULL};
static const char *const ACTIVATES[] = {"always", "never", "if_not_worse", NULL};
static const char *const SELECTS[] = {"crowd", "valid", NULL};
static const char *const AUTO_FIELDS[] = {"budget_seconds", "budget_fits", "select", "methods", NULL};

/* A request while layers go over it, and which of its fields somebody asked for. */
struct layers {
    struct run_request request;
    bool has_folds, has_gold_use, has_activate, has_seconds, has_fits;
};

const char *run_gold_use_name(enum run_gold_use gold_use)
{
    return GOLD_USES[gold_use];
}

const char *run_activate_name(enum run_activate activate)
{
    return ACTIVATES[activate];
}

const char *run_select_name(enum run_select select)
{
    return SELECTS[select];
}

void run_request_default(size_t n_features, struct run_request *out)
{
    memset(out, 0, sizeof *out);
    /* Without a name nothing can be wrong. */
    (void)!run_method_find(NULL, n_features, "", &out->method, &out->label_only, NULL);
    out->seed = 1;
    out->ensemble = 1;
    out->automatic.budget_seconds = BUDGET_SECONDS;
    run_request_settings_default(out->method, n_features, &out->settings);
}

/* ---- one layer --------------------------------------------------------------------------------------------------- */

/* A word out of a NULL-terminated list. */
static enum amx_status merge_word(const json_t *object, const char *field, const char *prefix, const char *const *words,
                                  int *out, bool *given, struct amx_error *err)
{
    const char *word = NULL;
    enum amx_status status = jsonx_opt_string(object, field, prefix, &word, NULL, err);

    if (status != AMX_OK || word == NULL)
        return status;
    for (int i = 0; words[i] != NULL; i++) {
        if (strcmp(words[i], word) == 0) {
            *out = i;
            *given = true;
            return AMX_OK;
        }
    }
    return jsonx_fail(err, prefix, field, "%s must be one of: %s, %s%s%s.", field, words[0], words[1],
                      words[2] != NULL ? ", " : "", words[2] != NULL ? words[2] : "");
}

static enum amx_status merge_auto_methods(const json_t *object, const char *prefix, struct run_auto *automatic,
                                          struct amx_error *err)
{
    const json_t *list = NULL;
    char pointer[JSONX_POINTER_BYTES];
    size_t n;
    enum amx_status status = jsonx_opt_array(object, "methods", prefix, &list, err);

    if (status != AMX_OK || list == NULL)
        return status;
    n = json_array_size(list);
    if (n < 1 || n > RUN_MAX_METHODS)
        return jsonx_fail(err, prefix, "methods", "methods must name 1 to %d methods.", (int)RUN_MAX_METHODS);
    (void)jsonx_pointer(pointer, prefix, "methods");
    for (size_t i = 0; i < n; i++) {
        const char *text = json_string_value(json_array_get(list, i));
        const struct amx_method_info *info = amx_method_named(text);
        char place[JSONX_POINTER_BYTES];

        (void)jsonx_pointer_index(place, pointer, i);
        if (info == NULL || info->needs_gold)
            return jsonx_fail(err, place, NULL,
                              info == NULL ? "There is no such method to choose; see GET /v1/methods."
                                           : "ground_truth trains on gold labels; auto does not.");
        for (size_t j = 0; j < i; j++) {
            if (automatic->methods[j] == info->name)
                return jsonx_fail(err, place, NULL, "%s is named twice.", info->name);
        }
        automatic->methods[i] = info->name;
    }
    automatic->n_methods = n;
    return AMX_OK;
}

/* Fields of auto, at the top of the request or in its object `auto`. */
static enum amx_status merge_auto(const json_t *object, const char *prefix, struct layers *l, struct amx_error *err)
{
    struct run_auto *automatic = &l->request.automatic;
    int select = (int)automatic->select;
    bool given;
    enum amx_status status;

    if (json_is_number(json_object_get(object, "budget_seconds"))) {
        if (json_number_value(json_object_get(object, "budget_seconds")) <= 0)
            return jsonx_fail(err, prefix, "budget_seconds", "budget_seconds must be over 0.");
        l->has_seconds = true;
    }
    if ((status = jsonx_opt_real(object, "budget_seconds", prefix, 0, MAX_BUDGET_SECONDS, &automatic->budget_seconds,
                                 err)) != AMX_OK ||
        (status = jsonx_opt_int(object, "budget_fits", prefix, 1, MAX_BUDGET_FITS, &automatic->budget_fits, err)) !=
            AMX_OK ||
        (status = merge_word(object, "select", prefix, SELECTS, &select, &given, err)) != AMX_OK ||
        (status = merge_auto_methods(object, prefix, automatic, err)) != AMX_OK)
        return status;
    automatic->select = (enum run_select)select;
    l->has_fits |= automatic->budget_fits > 0;
    return AMX_OK;
}

/* What belongs to auto is refused for another method, or left out when the project's defaults have it. */
static enum amx_status merge_auto_layer(const json_t *object, const char *prefix, bool drop_foreign, struct layers *l,
                                        struct amx_error *err)
{
    static const char *const fields[] = {"budget_seconds", "budget_fits", "select", "methods", NULL};
    const json_t *inner = NULL;
    char pointer[JSONX_POINTER_BYTES];
    enum amx_status status = jsonx_opt_object(object, "auto", prefix, &inner, err);

    if (status != AMX_OK)
        return status;
    if (!run_request_is_auto(&l->request)) {
        if (!drop_foreign && inner != NULL)
            return jsonx_fail(err, prefix, "auto", "auto belongs to the method auto.");
        for (int i = 0; !drop_foreign && AUTO_FIELDS[i] != NULL; i++) {
            if (json_object_get(object, AUTO_FIELDS[i]) != NULL)
                return jsonx_fail(err, prefix, AUTO_FIELDS[i], "%s belongs to the method auto.", AUTO_FIELDS[i]);
        }
        return AMX_OK;
    }
    status = merge_auto(object, prefix, l, err);
    if (status != AMX_OK || inner == NULL)
        return status;
    (void)jsonx_pointer(pointer, prefix, "auto");
    status = jsonx_only_fields(inner, fields, pointer, err);
    return status != AMX_OK ? status : merge_auto(inner, pointer, l, err);
}

/* One object over the request, whose method is settled already. */
static enum amx_status merge_layer(const json_t *object, const char *prefix, bool drop_foreign, struct layers *l,
                                   struct amx_error *err)
{
    static const char *const fields[] = {"method",   "seed",     "ensemble", "folds",          "gold_use",
                                         "settings", "activate", "auto",     "budget_seconds", "budget_fits",
                                         "select",   "methods",  NULL};
    struct run_request *request = &l->request;
    int64_t seed = (int64_t)request->seed, ensemble = request->ensemble, folds = -1;
    int gold_use = (int)request->gold_use, activate = (int)request->activate;
    const json_t *settings = NULL;
    char pointer[JSONX_POINTER_BYTES];
    enum amx_status status;

    if ((status = jsonx_only_fields(object, fields, prefix, err)) != AMX_OK ||
        (status = jsonx_opt_int(object, "seed", prefix, 0, MAX_SEED, &seed, err)) != AMX_OK ||
        (status = jsonx_opt_int(object, "ensemble", prefix, 1, 100, &ensemble, err)) != AMX_OK ||
        (status = jsonx_opt_int(object, "folds", prefix, 0, RUN_MAX_FOLDS, &folds, err)) != AMX_OK ||
        (status = merge_word(object, "gold_use", prefix, GOLD_USES, &gold_use, &l->has_gold_use, err)) != AMX_OK ||
        (status = merge_word(object, "activate", prefix, ACTIVATES, &activate, &l->has_activate, err)) != AMX_OK ||
        (status = jsonx_opt_object(object, "settings", prefix, &settings, err)) != AMX_OK ||
        (status = merge_auto_layer(object, prefix, drop_foreign, l, err)) != AMX_OK)
        return status;
    if (folds == 1)
        return jsonx_fail(err, prefix, "folds", "folds must be 0 or 2 to 20.");
    if (settings != NULL) {
        status = run_settings_merge(settings, jsonx_pointer(pointer, prefix, "settings"), drop_foreign, request, err);
        if (status != AMX_OK)
            return status;
    }
    request->seed = (uint64_t)seed;
    request->ensemble = (int)ensemble;
    request->gold_use = (enum run_gold_use)gold_use;
    request->activate = (enum run_activate)activate;
    if (folds >= 0) {
        request->folds = (int)folds;
        l->has_folds = true;
    }
    return AMX_OK;
}

/* ---- layers together ----------------------------------------------------------------------------------------------
 */

/* The method that `object` names, if it does. */
static enum amx_status name_method(const json_t *object, const char *prefix, size_t n_features, const char **method,
                                   bool *label_only, struct amx_error *err)
{
    const char *name = NULL;
    enum amx_status status;

    if (!json_is_object(object))
        return jsonx_fail(err, prefix, NULL, "A training run must be an object.");
    status = jsonx_opt_string(object, "method", prefix, &name, NULL, err);
    if (status != AMX_OK || name == NULL)
        return status;
    return run_method_find(name, n_features, prefix, method, label_only, err);
}

/* What follows from fields that were not given. */
static void settle(struct layers *l)
{
    struct run_request *request = &l->request;
    struct run_auto *automatic = &request->automatic;

    /* A budget of fits is reproducible; a clock beside it only when asked for. */
    if (l->has_fits && !l->has_seconds)
        automatic->budget_seconds = 0;
    /* Gold of valid is asked for by name. */
    if (run_request_is_auto(request) && automatic->select == RUN_SELECT_VALID && !l->has_gold_use)
        request->gold_use = RUN_GOLD_CALIBRATE;
}

/* request, project: objects or NULL. Pointers begin with prefix. */
static enum amx_status merge_layers(const json_t *request, const json_t *project, const char *prefix, size_t n_features,
                                    struct layers *out, struct amx_error *err)
{
    struct layers l;
    enum amx_status status = AMX_OK;

    memset(&l, 0, sizeof l);
    run_request_default(n_features, &l.request);
    if (project != NULL)
        status = name_method(project, prefix, n_features, &l.request.method, &l.request.label_only, err);
    if (status == AMX_OK && request != NULL)
        status = name_method(request, prefix, n_features, &l.request.method, &l.request.label_only, err);
    if (status != AMX_OK)
        return status;
    run_request_settings_default(l.request.method, n_features, &l.request.settings);
    if (project != NULL)
        status = merge_layer(project, prefix, true, &l, err);
    if (status == AMX_OK && request != NULL)
        status = merge_layer(request, prefix, false, &l, err);
    if (status != AMX_OK)
        return status;
    settle(&l);
    *out = l;
    return AMX_OK;
}

static enum amx_status check_label_only(const struct run_request *request, const char *prefix, struct amx_error *err)
{
    if (request->ensemble != 1)
        return jsonx_fail(err, prefix, "ensemble", "A method of labels alone has no ensemble.");
    if (request->folds != 0)
        return jsonx_fail(err, prefix, "folds", "A method of labels alone has no folds.");
    if (request->gold_use == RUN_GOLD_CALIBRATE)
        return jsonx_fail(err, prefix, "gold_use", "A method of labels alone has nothing to calibrate.");
    return AMX_OK;
}

/* Every method's published defaults must come through the first round of auto. */
static enum amx_status check_fits(const struct run_request *request, const char *prefix, struct amx_error *err)
{
    size_t n = request->automatic.n_methods;
    const int64_t fits = request->automatic.budget_fits;

    if (n == 0)
        (void)select_default_methods(&n);
    if (!run_request_is_auto(request) || fits == 0 || fits >= select_min_fits(n))
        return AMX_OK;
    return jsonx_fail(err, prefix, "budget_fits", "budget_fits must be at least %lld for %zu methods; it is %lld.",
                      (long long)select_min_fits(n), n, (long long)fits);
}

enum amx_status run_request_check(const struct run_request *request, const char *prefix, size_t n_classes,
                                  struct amx_error *err)
{
    char pointer[JSONX_POINTER_BYTES];
    struct amx_error own;

    if (request->activate == RUN_ACTIVATE_IF_NOT_WORSE && request->folds == 0)
        return jsonx_fail(err, prefix, "activate",
                          "if_not_worse compares models out of fold: it needs folds, 2 to 20.");
    if (run_request_is_auto(request) && request->automatic.select == RUN_SELECT_VALID &&
        request->gold_use == RUN_GOLD_EVALUATE)
        return jsonx_fail(err, prefix, "select", "select valid uses gold: gold_use must be calibrate or train.");
    if (check_fits(request, prefix, err) != AMX_OK)
        return AMX_INVALID;
    if (request->label_only)
        return check_label_only(request, prefix, err);
    memset(&own, 0, sizeof own);
    if (amx_settings_check(&request->settings, n_classes, &own) == AMX_OK)
        return AMX_OK;
    (void)jsonx_pointer(pointer, prefix, "settings");
    return jsonx_fail(err, pointer, own.pointer[0] == '/' ? own.pointer + 1 : NULL, "%s", own.text);
}

enum amx_status run_request_parse(const json_t *request, const json_t *project_training, size_t n_features,
                                  size_t n_classes, struct run_request *out, struct amx_error *err)
{
    struct layers l;
    enum amx_status status =
        merge_layers(json_is_null(request) ? NULL : request, project_training, "", n_features, &l, err);

    if (status == AMX_OK)
        status = run_request_check(&l.request, "", n_classes, err);
    if (status == AMX_OK)
        *out = l.request;
    return status;
}

enum amx_status run_request_by_rule(const json_t *project_training, size_t n_features, size_t n_classes,
                                    struct run_request *out, struct amx_error *err)
{
    struct layers l;
    enum amx_status status = merge_layers(NULL, project_training, "", n_features, &l, err);

    if (status != AMX_OK)
        return status;
    if (!l.has_activate && !l.request.label_only) {
        if (!l.has_folds)
            l.request.folds = RUN_RULE_FOLDS;
        l.request.activate = l.request.folds > 0 ? RUN_ACTIVATE_IF_NOT_WORSE : RUN_ACTIVATE_ALWAYS;
    }
    status = run_request_check(&l.request, "", n_classes, err);
    if (status == AMX_OK)
        *out = l.request;
    return status;
}

enum amx_status run_request_check_training(const json_t *training, const char *prefix, size_t n_features,
                                           size_t n_classes, struct amx_error *err)
{
    struct layers l;
    enum amx_status status = merge_layers(training, NULL, prefix, n_features, &l, err);

    return status != AMX_OK ? status : run_request_check(&l.request, prefix, n_classes, err);
}

enum amx_status run_request_set_method(struct run_request *request, const char *name, size_t n_features,
                                       struct amx_error *err)
{
    enum amx_status status = run_method_find(name, n_features, "", &request->method, &request->label_only, err);

    if (status == AMX_OK)
        run_request_settings_default(request->method, n_features, &request->settings);
    return status;
}
