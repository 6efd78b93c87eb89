/* jsonx.c - helpers over Jansson. */
#include "util/jsonx.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/error.h"
#include "util/utf8.h"

static const size_t dump_flags = JSON_COMPACT | JSON_REAL_PRECISION(9) | JSON_ENCODE_ANY;

/* ---- loading ---------------------------------------------------------------------------------------------------- */

/* Jansson's scanner drops characters for which its buffer cannot grow, and goes on: the text then seems broken, or means
 * something else, or (a long number) an assertion ends the process. So while a text is read, failures are noted on the
 * way to malloc, and small requests are served once more from a reserve; the result is thrown away in any case. */
enum { RESERVE_BYTES = 4096 };
static _Thread_local bool parsing, memory_failed;
static _Thread_local size_t reserve_used;
static _Thread_local _Alignas(16) char reserve[RESERVE_BYTES];

static void *watched_malloc(size_t n)
{
    void *memory = malloc(n);

    if (memory != NULL || !parsing)
        return memory;
    memory_failed = true;
    if (n > RESERVE_BYTES - reserve_used)
        return NULL;
    memory = reserve + reserve_used;
    reserve_used += (n + 15) / 16 * 16; /* a multiple of 16 to the end, like RESERVE_BYTES */
    return memory;
}

static void watched_free(void *memory)
{
    uintptr_t at = (uintptr_t)memory, from = (uintptr_t)reserve;

    if (at < from || at >= from + RESERVE_BYTES)
        free(memory);
}

__attribute__((constructor)) static void watch_memory(void)
{
    json_set_alloc_funcs(watched_malloc, watched_free);
}

enum amx_status jsonx_load(const char *text, size_t n, json_t **out, struct amx_error *err)
{
    json_error_t why;
    /* Jansson 2.14 passes over a 0 byte behind a number or a word; in JSON it can stand nowhere. */
    if (n > 0 && memchr(text, 0, n) != NULL)
        return error_set(err, AMX_INVALID, "not JSON: it holds a 0 byte");
    memory_failed = false;
    reserve_used = 0;
    parsing = true;
    json_t *json = json_loadb(n > 0 ? text : "", n, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &why);
    parsing = false;
    if (memory_failed) {
        json_decref(json);
        return error_set(err, AMX_NO_MEMORY, "out of memory");
    }
    if (json == NULL) {
        if (n == 0)
            return error_set(err, AMX_INVALID, "the body is empty; JSON is expected");
        /* Jansson quotes the text near the place; it may be anything, so only the first words of the message are kept.
         */
        int words = (int)strcspn(why.text, "\r\n");
        if (!utf8_valid(why.text, (size_t)words))
            return error_set(err, AMX_INVALID, "not JSON: line %d, column %d: invalid UTF-8", why.line, why.column);
        return error_set(err, AMX_INVALID, "not JSON: line %d, column %d: %.*s", why.line, why.column, words, why.text);
    }
    *out = json;
    return AMX_OK;
}

enum amx_status jsonx_load_object(const char *text, size_t n, json_t **out, struct amx_error *err)
{
    json_t *json;
    enum amx_status status = jsonx_load(text, n, &json, err);
    if (status != AMX_OK)
        return status;
    if (!json_is_object(json)) {
        json_decref(json);
        return error_set(err, AMX_INVALID, "the body must be a JSON object");
    }
    *out = json;
    return AMX_OK;
}

/* ---- pointers and errors ---------------------------------------------------------------------------------------- */

char *jsonx_pointer(char out[JSONX_POINTER_BYTES], const char *prefix, const char *name)
{
    size_t n = 0, room = JSONX_POINTER_BYTES - 1;
    for (; *prefix != '\0' && n < room; prefix++)
        out[n++] = *prefix;
    if (n < room)
        out[n++] = '/';
    for (; *name != '\0'; name++) {
        if (*name == '~' || *name == '/') {
            if (n + 2 > room)
                break;
            out[n++] = '~';
            out[n++] = *name == '~' ? '0' : '1';
        } else {
            if (n == room)
                break;
            out[n++] = *name;
        }
    }
    out[n] = '\0';
    while (n > 0 && !utf8_valid(out, n)) /* cut in the middle of a character */
        out[--n] = '\0';
    return out;
}

char *jsonx_pointer_index(char out[JSONX_POINTER_BYTES], const char *prefix, size_t index)
{
    char text[24];
    (void)snprintf(text, sizeof text, "%zu", index);
    return jsonx_pointer(out, prefix, text);
}

enum amx_status jsonx_fail(struct amx_error *err, const char *prefix, const char *name, const char *format, ...)
{
    if (err == NULL)
        return AMX_INVALID;
    char text[sizeof err->text];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    (void)error_set(err, AMX_INVALID, "%s", text);
    if (name != NULL)
        jsonx_pointer(err->pointer, prefix, name);
    else
        (void)snprintf(err->pointer, sizeof err->pointer, "%s", prefix);
    return AMX_INVALID;
}

enum amx_status jsonx_only_fields(const json_t *object, const char *const *names, const char *prefix,
                                  struct amx_error *err)
{
    for (void *at = json_object_iter((json_t *)(uintptr_t)object); at != NULL;
         at = json_object_iter_next((json_t *)(uintptr_t)object, at)) {
        const char *key = json_object_iter_key(at);
        const char *const *name = names;
        while (*name != NULL && strcmp(*name, key) != 0)
            name++;
        if (*name == NULL)
            return jsonx_fail(err, prefix, key, "unknown field");
    }
    return AMX_OK;
}

/* ---- typed fields ----------------------------------------------------------------------------------------------- */

/* The field, or NULL when absent or null; `need` makes that an error. */
static enum amx_status find(const json_t *object, const char *name, const char *prefix, bool need, const json_t **out,
                            struct amx_error *err)
{
    const json_t *value = json_object_get(object, name);
    if (value == NULL || json_is_null(value)) {
        if (need)
            return jsonx_fail(err, prefix, name, value == NULL ? "this field is required" : "must not be null");
        value = NULL;
    }
    *out = value;
    return AMX_OK;
}

static enum amx_status get_string(const json_t *object, const char *name, const char *prefix, bool need, bool is_name,
                                  const char **out, size_t *n, struct amx_error *err)
{
    const json_t *value = NULL;
    const char *why;
    enum amx_status status = find(object, name, prefix, need, &value, err);
    if (status != AMX_OK || value == NULL)
        return status;
    if (!json_is_string(value))
        return jsonx_fail(err, prefix, name, "must be a string");
    if (is_name && !name_valid(json_string_value(value), json_string_length(value), &why))
        return jsonx_fail(err, prefix, name, "the name %s", why);
    *out = json_string_value(value);
    if (n != NULL)
        *n = json_string_length(value);
    return AMX_OK;
}

enum amx_status jsonx_need_string(const json_t *object, const char *name, const char *prefix, const char **out,
                                  size_t *n, struct amx_error *err)
{
    return get_string(object, name, prefix, true, false, out, n, err);
}

enum amx_status jsonx_opt_string(const json_t *object, const char *name, const char *prefix, const char **out,
                                 size_t *n, struct amx_error *err)
{
    return get_string(object, name, prefix, false, false, out, n, err);
}

enum amx_status jsonx_need_name(const json_t *object, const char *name, const char *prefix, const char **out, size_t *n,
                                struct amx_error *err)
{
    return get_string(object, name, prefix, true, true, out, n, err);
}

enum amx_status jsonx_opt_name(const json_t *object, const char *name, const char *prefix, const char **out, size_t *n,
                               struct amx_error *err)
{
    return get_string(object, name, prefix, false, true, out, n, err);
}

static enum amx_status get_int(const json_t *object, const char *name, const char *prefix, bool need, int64_t min,
                               int64_t max, int64_t *out, struct amx_error *err)
{
    const json_t *value = NULL;
    enum amx_status status = find(object, name, prefix, need, &value, err);
    if (status != AMX_OK || value == NULL)
        return status;
    if (!json_is_integer(value) || json_integer_value(value) < min || json_integer_value(value) > max)
        return jsonx_fail(err, prefix, name, "must be an integer from %lld to %lld", (long long)min, (long long)max);
    *out = json_integer_value(value);
    return AMX_OK;
}

enum amx_status jsonx_need_int(const json_t *object, const char *name, const char *prefix, int64_t min, int64_t max,
                               int64_t *out, struct amx_error *err)
{
    return get_int(object, name, prefix, true, min, max, out, err);
}

enum amx_status jsonx_opt_int(const json_t *object, const char *name, const char *prefix, int64_t min, int64_t max,
                              int64_t *out, struct amx_error *err)
{
    return get_int(object, name, prefix, false, min, max, out, err);
}

enum amx_status jsonx_opt_real(const json_t *object, const char *name, const char *prefix, double min, double max,
                               double *out, struct amx_error *err)
{
    const json_t *value = NULL;
    enum amx_status status = find(object, name, prefix, false, &value, err);
    if (status != AMX_OK || value == NULL)
        return status;
    double number = json_number_value(value);
    if (!json_is_number(value) || !(number >= min && number <= max))
        return jsonx_fail(err, prefix, name, "must be a number from %g to %g", min, max);
    *out = number;
    return AMX_OK;
}

enum amx_status jsonx_opt_bool(const json_t *object, const char *name, const char *prefix, bool *out,
                               struct amx_error *err)
{
    const json_t *value = NULL;
    enum amx_status status = find(object, name, prefix, false, &value, err);
    if (status != AMX_OK || value == NULL)
        return status;
    if (!json_is_boolean(value))
        return jsonx_fail(err, prefix, name, "must be true or false");
    *out = json_is_true(value);
    return AMX_OK;
}

static enum amx_status get_typed(const json_t *object, const char *name, const char *prefix, bool need, json_type type,
                                 const char *words, const json_t **out, struct amx_error *err)
{
    const json_t *value = NULL;
    enum amx_status status = find(object, name, prefix, need, &value, err);
    if (status != AMX_OK || value == NULL)
        return status;
    if (json_typeof(value) != type)
        return jsonx_fail(err, prefix, name, "must be %s", words);
    *out = value;
    return AMX_OK;
}

enum amx_status jsonx_need_array(const json_t *object, const char *name, const char *prefix, const json_t **out,
                                 struct amx_error *err)
{
    return get_typed(object, name, prefix, true, JSON_ARRAY, "an array", out, err);
}

enum amx_status jsonx_opt_array(const json_t *object, const char *name, const char *prefix, const json_t **out,
                                struct amx_error *err)
{
    return get_typed(object, name, prefix, false, JSON_ARRAY, "an array", out, err);
}

enum amx_status jsonx_opt_object(const json_t *object, const char *name, const char *prefix, const json_t **out,
                                 struct amx_error *err)
{
    return get_typed(object, name, prefix, false, JSON_OBJECT, "an object", out, err);
}

/* ---- writing ---------------------------------------------------------------------------------------------------- */

static int dump_piece(const char *bytes, size_t n, void *out)
{
    return buf_append(out, bytes, n) == AMX_OK ? 0 : -1;
}

enum amx_status jsonx_write(struct buf *out, const json_t *json)
{
    if (out->status == AMX_OK && json_dump_callback(json, dump_piece, out, dump_flags) != 0 && out->status == AMX_OK)
        out->status = AMX_NO_MEMORY;
    return out->status;
}

char *jsonx_dump(const json_t *json, size_t *n)
{
    AUTO(buf) out = BUF_INIT(SIZE_MAX / 4);
    if (json == NULL || jsonx_write(&out, json) != AMX_OK)
        return NULL;
    return buf_take(&out, n);
}

enum amx_status jsonx_write_string(struct buf *out, const char *bytes, size_t n)
{
    size_t start = 0;
    (void)buf_char(out, '"');
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)bytes[i];
        if (c >= 0x20 && c != '"' && c != '\\')
            continue;
        (void)buf_append(out, bytes + start, i - start);
        if (c < 0x20)
            (void)buf_printf(out, "\\u%04x", (unsigned)c);
        else
            (void)buf_printf(out, "\\%c", c);
        start = i + 1;
    }
    (void)buf_append(out, bytes + start, n - start);
    return buf_char(out, '"');
}

json_t *jsonx_real_or_null(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}
