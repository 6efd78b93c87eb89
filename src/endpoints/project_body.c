/* project_body.c - bodies of projects (project_body.h). */
#include "endpoints/project_body.h"

#include <stdlib.h>
#include <string.h>

#include "util/error.h"
#include "util/jsonx.h"
#include "util/utf8.h"
#include "work/project_settings.h"

static enum amx_status no_memory(struct amx_error *err)
{
    return error_set(err, AMX_NO_MEMORY, "out of memory");
}

static bool alphanumeric(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

enum amx_status project_name_check(const char *name, size_t n, struct amx_error *err)
{
    bool ok = n >= 1 && n <= PROJECT_NAME_BYTES && alphanumeric(name[0]);
    for (size_t i = 1; ok && i < n; i++)
        ok = alphanumeric(name[i]) || name[i] == '.' || name[i] == '_' || name[i] == '-';
    return ok ? AMX_OK : jsonx_fail(err, "", "name", "name must match [A-Za-z0-9][A-Za-z0-9._-]{0,63}");
}

bool project_body_is_setting(const struct amx_error *err)
{
    return strncmp(err->pointer, "/settings", 9) == 0;
}

/* ---- classes ---- */

static int by_name(const void *a, const void *b)
{
    const struct slice *x = a, *y = b;
    int order = memcmp(x->bytes, y->bytes, x->n < y->n ? x->n : y->n);
    return order != 0 ? order : (x->n > y->n) - (x->n < y->n);
}

static enum amx_status check_distinct(const struct slice *names, size_t n, const char *prefix, struct amx_error *err)
{
    struct slice *sorted = malloc((n > 0 ? n : 1) * sizeof *sorted); /* n <= 1,000 */
    if (sorted == NULL)
        return no_memory(err);
    memcpy(sorted, names, n * sizeof *sorted);
    qsort(sorted, n, sizeof *sorted, by_name);
    const struct slice *twice = NULL;
    for (size_t i = 1; i < n && twice == NULL; i++)
        if (by_name(&sorted[i - 1], &sorted[i]) == 0)
            twice = &sorted[i];
    size_t at = 0, seen = 0;
    for (size_t i = 0; twice != NULL && i < n && seen < 2; i++)
        if (by_name(twice, &names[i]) == 0) {
            seen++;
            at = i;
        }
    bool distinct = twice == NULL;
    free(sorted);
    if (distinct)
        return AMX_OK;
    char pointer[JSONX_POINTER_BYTES];
    return jsonx_fail(err, jsonx_pointer_index(pointer, prefix, at), NULL, "the class stands in the list twice");
}

/* An array of names; *out is malloc'd. */
static enum amx_status read_classes(const json_t *array, const char *prefix, size_t min, struct slice **out,
                                    size_t *n_out, struct amx_error *err)
{
    size_t n = json_array_size(array);
    if (!json_is_array(array))
        return jsonx_fail(err, prefix, NULL, "must be an array of class names");
    if (n < min || n > AMX_MAX_CLASSES)
        return jsonx_fail(err, prefix, NULL, "has %zu classes; %zu to %d are allowed", n, min, (int)AMX_MAX_CLASSES);
    struct slice *names = malloc((n > 0 ? n : 1) * sizeof *names);
    if (names == NULL)
        return no_memory(err);
    for (size_t i = 0; i < n; i++) {
        const json_t *item = json_array_get(array, i);
        const char *why = "must be a string";
        char pointer[JSONX_POINTER_BYTES];
        if (!json_is_string(item) || !name_valid(json_string_value(item), json_string_length(item), &why)) {
            free(names);
            return jsonx_fail(err, jsonx_pointer_index(pointer, prefix, i), NULL, "the class name %s", why);
        }
        names[i] = (struct slice){json_string_value(item), json_string_length(item)};
    }
    enum amx_status status = check_distinct(names, n, prefix, err);
    if (status != AMX_OK) {
        free(names);
        return status;
    }
    *out = names;
    *n_out = n;
    return AMX_OK;
}

/* ---- POST and PUT ---- */

static enum amx_status check_title(size_t n, struct amx_error *err)
{
    if (n > PROJECT_TITLE_BYTES)
        return jsonx_fail(err, "", "title", "title has %zu bytes; the limit is %d", n, (int)PROJECT_TITLE_BYTES);
    return AMX_OK;
}

static enum amx_status settings_text(const json_t *settings, struct slice *out, struct amx_error *err)
{
    size_t n;
    char *text = jsonx_dump(settings, &n);
    if (text == NULL)
        return no_memory(err);
    *out = (struct slice){text, n};
    return AMX_OK;
}

enum amx_status project_body_parse(const json_t *body, enum project_body_kind kind, struct project_body *out,
                                   struct amx_error *err)
{
    static const char *const fields[] = {"name", "title", "classes", "feature_dim", "settings", NULL};
    *out = (struct project_body){0};
    size_t n_name = 0;
    int64_t feature_dim = 0;
    enum amx_status status = jsonx_only_fields(body, fields, "", err);
    if (status == AMX_OK)
        status = kind == PROJECT_BODY_NEW ? jsonx_need_string(body, "name", "", &out->name, &n_name, err)
                                          : jsonx_opt_string(body, "name", "", &out->name, &n_name, err);
    if (status == AMX_OK && out->name != NULL)
        status = project_name_check(out->name, n_name, err);
    if (status == AMX_OK)
        status = jsonx_opt_string(body, "title", "", &out->title, &out->n_title, err);
    if (status == AMX_OK && out->title != NULL)
        status = check_title(out->n_title, err);
    const json_t *classes = NULL;
    if (status == AMX_OK)
        status = jsonx_need_array(body, "classes", "", &classes, err);
    if (status == AMX_OK)
        status = read_classes(classes, "/classes", 2, &out->classes, &out->n_classes, err);
    if (status == AMX_OK)
        status = jsonx_opt_int(body, "feature_dim", "", 0, AMX_MAX_FEATURES, &feature_dim, err);
    if (status == AMX_OK)
        status = jsonx_opt_object(body, "settings", "", &out->settings, err);
    if (status != AMX_OK)
        return status;
    out->feature_dim = (size_t)feature_dim;
    struct project_settings settings;
    status = project_settings_parse(out->settings, "/settings", out->feature_dim, out->n_classes, &settings, err);
    if (status == AMX_OK && out->settings != NULL)
        status = settings_text(out->settings, &out->settings_text, err);
    return status;
}

void project_body_done(struct project_body *body)
{
    free(body->classes);
    free((char *)(uintptr_t)body->settings_text.bytes); /* malloc'd by settings_text */
    *body = (struct project_body){0};
}

/* ---- PATCH ---- */

enum amx_status project_patch_check(const json_t *body, struct amx_error *err)
{
    static const char *const fields[] = {"name",        "title",    "classes", "retired_classes",
                                         "feature_dim", "settings", NULL};
    static const char *const never_null[] = {"name", "classes", "retired_classes", "feature_dim"};
    enum amx_status status = jsonx_only_fields(body, fields, "", err);
    for (size_t i = 0; status == AMX_OK && i < sizeof never_null / sizeof never_null[0]; i++)
        if (json_is_null(json_object_get(body, never_null[i])))
            status = jsonx_fail(err, "", never_null[i], "%s cannot be removed", never_null[i]);
    const char *title = NULL;
    size_t n = 0;
    const json_t *settings = NULL;
    if (status == AMX_OK)
        status = jsonx_opt_string(body, "title", "", &title, &n, err);
    if (status == AMX_OK && title != NULL)
        status = check_title(n, err);
    if (status == AMX_OK)
        status = jsonx_opt_object(body, "settings", "", &settings, err);
    return status;
}

/* RFC 7396: target becomes target merged with patch. False: no memory. Depth is bounded by Jansson's limit on input. */
static bool merge(json_t *target, const json_t *patch)
{
    const char *key;
    json_t *value;
    json_object_foreach ((json_t *)(uintptr_t)patch, key, value) /* only read */
    {
        if (json_is_null(value)) {
            (void)json_object_del(target, key); /* absent already is fine */
            continue;
        }
        if (!json_is_object(value)) {
            if (json_object_set_new(target, key, json_deep_copy(value)) != 0)
                return false;
            continue;
        }
        json_t *inner = json_object_get(target, key);
        if (!json_is_object(inner)) {
            inner = json_object();
            if (json_object_set_new(target, key, inner) != 0)
                return false;
        }
        if (!merge(inner, value))
            return false;
    }
    return true;
}

static enum amx_status patch_settings(const json_t *patch, const struct project_row *row, size_t n_classes,
                                      struct slice *out, struct amx_error *err)
{
    json_auto_t *now = NULL;
    if (!json_is_null(patch) && row->settings.n > 0) {
        enum amx_status status = jsonx_load_object(row->settings.bytes, row->settings.n, &now, err);
        if (status != AMX_OK)
            return status == AMX_INVALID ? error_set(err, AMX_CORRUPT, "stored settings are no JSON object") : status;
    } else {
        now = json_object();
    }
    if (now == NULL || (!json_is_null(patch) && !merge(now, patch)))
        return no_memory(err);
    struct project_settings settings;
    enum amx_status status = project_settings_parse(now, "/settings", row->feature_dim, n_classes, &settings, err);
    return status == AMX_OK ? settings_text(now, out, err) : status;
}

/* The patch's list must be the present one with new ones behind it. */
static enum amx_status patch_classes(const json_t *list, const struct project_row *row, struct slice **names,
                                     size_t *n_names, struct amx_error *err)
{
    enum amx_status status = read_classes(list, "/classes", 2, names, n_names, err);
    if (status != AMX_OK)
        return status;
    for (size_t i = 0; i < row->n_classes; i++) {
        char pointer[JSONX_POINTER_BYTES];
        if (i >= *n_names || by_name(&row->classes[i].name, &(*names)[i]) != 0)
            return jsonx_fail(err, jsonx_pointer_index(pointer, "/classes", i), NULL,
                              "classes are never removed, renamed or reordered; new ones go to the end");
    }
    return AMX_OK;
}

static enum amx_status patch_retired(const json_t *list, const struct slice *names, size_t n, struct project_patch *out,
                                     struct amx_error *err)
{
    struct slice *retired = NULL;
    size_t n_retired = 0;
    enum amx_status status = read_classes(list, "/retired_classes", 0, &retired, &n_retired, err);
    if (status != AMX_OK)
        return status;
    out->retired = calloc(n, sizeof *out->retired);
    out->n_retired = n;
    if (out->retired == NULL)
        status = no_memory(err);
    for (size_t r = 0; r < n_retired && status == AMX_OK; r++) {
        size_t i = 0;
        while (i < n && by_name(&names[i], &retired[r]) != 0)
            i++;
        char pointer[JSONX_POINTER_BYTES];
        if (i == n)
            status = jsonx_fail(err, jsonx_pointer_index(pointer, "/retired_classes", r), NULL,
                                "the project has no such class");
        else
            out->retired[i] = true;
    }
    free(retired);
    if (status == AMX_OK && n_retired >= n)
        status = jsonx_fail(err, "", "retired_classes", "at least one class must remain in use");
    return status;
}

static enum amx_status make(const json_t *body, const struct project_row *row, struct slice **listed, struct slice *all,
                            struct project_patch *out, struct amx_error *err)
{
    const json_t *name = json_object_get(body, "name"), *dim = json_object_get(body, "feature_dim");
    const json_t *title = json_object_get(body, "title"), *settings = json_object_get(body, "settings");
    const json_t *classes = json_object_get(body, "classes"), *retired = json_object_get(body, "retired_classes");
    if (name != NULL && (!json_is_string(name) || strcmp(json_string_value(name), row->name.bytes) != 0))
        return jsonx_fail(err, "", "name", "the name of a project never changes");
    if (dim != NULL && (!json_is_integer(dim) || json_integer_value(dim) != (json_int_t)row->feature_dim))
        return jsonx_fail(err, "", "feature_dim", "feature_dim of a project never changes");
    if (title != NULL)
        out->title = json_is_null(title) ? (struct slice){"", 0}
                                         : (struct slice){json_string_value(title), json_string_length(title)};
    size_t n = row->n_classes;
    for (size_t i = 0; i < n; i++)
        all[i] = row->classes[i].name;
    if (classes != NULL) {
        enum amx_status status = patch_classes(classes, row, listed, &n, err);
        if (status != AMX_OK)
            return status;
        memcpy(all, *listed, n * sizeof *all);
        out->new_classes = *listed + row->n_classes;
        out->n_new_classes = n - row->n_classes;
    }
    enum amx_status status = AMX_OK;
    if (retired != NULL)
        status = patch_retired(retired, all, n, out, err);
    if (status == AMX_OK && settings != NULL)
        status = patch_settings(settings, row, n, &out->settings, err);
    return status;
}

enum amx_status project_patch_make(const json_t *body, const struct project_row *row, struct project_patch *out,
                                   struct amx_error *err)
{
    *out = (struct project_patch){0};
    struct slice *listed = NULL;
    struct slice *all = calloc(AMX_MAX_CLASSES + 1, sizeof *all);
    enum amx_status status = all == NULL ? no_memory(err) : make(body, row, &listed, all, out, err);
    if (out->new_classes == NULL)
        free(listed);
    else
        out->listed = listed;
    free(all);
    return status;
}

void project_patch_done(struct project_patch *patch)
{
    free(patch->listed);
    free(patch->retired);
    free((char *)(uintptr_t)patch->settings.bytes); /* malloc'd by settings_text */
    *patch = (struct project_patch){0};
}
