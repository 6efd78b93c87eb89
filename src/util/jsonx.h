/* jsonx.h - helpers over Jansson: strict loading, typed fields with JSON pointers in the errors, writing.
 *
 * Getters look at one object. `prefix` is the pointer of that object ("" for the root, "/labels/3"). A `need_` getter
 * fails when the field is absent or null; an `opt_` getter then leaves *out as it is and returns AMX_OK. All errors are
 * AMX_INVALID with err->pointer set. Strings and values are borrowed from the object. */
#ifndef UTIL_JSONX_H
#define UTIL_JSONX_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "annotmix.h"
#include "util/buf.h"

enum {
    JSONX_POINTER_BYTES = sizeof(((struct amx_error *)0)->pointer)
};

/* Any JSON text; duplicate keys, trailing text, NaN, 1e999, \u0000, invalid UTF-8 and nesting over 2048 are errors.
 * AMX_INVALID (err->text says where: "line 1, column 17: ..."), AMX_NO_MEMORY. Caller decrefs *out. */
AMX_CHECK enum amx_status jsonx_load(const char *text, size_t n, json_t **out, struct amx_error *err);
/* The same, and the root must be an object. */
AMX_CHECK enum amx_status jsonx_load_object(const char *text, size_t n, json_t **out, struct amx_error *err);

/* "prefix/name" with ~ and / of the name escaped; a pointer that does not fit keeps the part that does. Returns out. */
char *jsonx_pointer(char out[JSONX_POINTER_BYTES], const char *prefix, const char *name);
char *jsonx_pointer_index(char out[JSONX_POINTER_BYTES], const char *prefix, size_t index);
/* Error AMX_INVALID at prefix/name (name NULL: at prefix itself). Returns AMX_INVALID. */
enum amx_status jsonx_fail(struct amx_error *err, const char *prefix, const char *name, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Every field of the object is among the NULL-terminated names; otherwise the error points at the first that is not. */
AMX_CHECK enum amx_status jsonx_only_fields(const json_t *object, const char *const *names, const char *prefix,
                                            struct amx_error *err);

AMX_CHECK enum amx_status jsonx_need_string(const json_t *object, const char *name, const char *prefix,
                                            const char **out, size_t *n, struct amx_error *err);
AMX_CHECK enum amx_status jsonx_opt_string(const json_t *object, const char *name, const char *prefix, const char **out,
                                           size_t *n, struct amx_error *err);
/* A string that is a name by name_valid(). */
AMX_CHECK enum amx_status jsonx_need_name(const json_t *object, const char *name, const char *prefix, const char **out,
                                          size_t *n, struct amx_error *err);
AMX_CHECK enum amx_status jsonx_opt_name(const json_t *object, const char *name, const char *prefix, const char **out,
                                         size_t *n, struct amx_error *err);
/* Integers: a real without fraction (3.0) is refused. Bounds are inclusive. */
AMX_CHECK enum amx_status jsonx_need_int(const json_t *object, const char *name, const char *prefix, int64_t min,
                                         int64_t max, int64_t *out, struct amx_error *err);
AMX_CHECK enum amx_status jsonx_opt_int(const json_t *object, const char *name, const char *prefix, int64_t min,
                                        int64_t max, int64_t *out, struct amx_error *err);
AMX_CHECK enum amx_status jsonx_opt_real(const json_t *object, const char *name, const char *prefix, double min,
                                         double max, double *out, struct amx_error *err);
AMX_CHECK enum amx_status jsonx_opt_bool(const json_t *object, const char *name, const char *prefix, bool *out,
                                         struct amx_error *err);
AMX_CHECK enum amx_status jsonx_need_array(const json_t *object, const char *name, const char *prefix,
                                           const json_t **out, struct amx_error *err);
AMX_CHECK enum amx_status jsonx_opt_array(const json_t *object, const char *name, const char *prefix,
                                          const json_t **out, struct amx_error *err);
AMX_CHECK enum amx_status jsonx_opt_object(const json_t *object, const char *name, const char *prefix,
                                           const json_t **out, struct amx_error *err);

/* Compact, 9 significant digits. *n bytes and a 0; NULL when memory is out or a value cannot be written; free() it. */
char *jsonx_dump(const json_t *json, size_t *n);
/* Appends the same to a buffer; its status tells. */
enum amx_status jsonx_write(struct buf *out, const json_t *json);
/* Appends a JSON string with quotes, escaped; the bytes must be valid UTF-8. For exports that build no tree. */
enum amx_status jsonx_write_string(struct buf *out, const char *bytes, size_t n);
/* json_real, or json_null for NaN and infinities; NULL when memory is out. */
json_t *jsonx_real_or_null(double value);

#endif
