/* rows.c - rows of bulk bodies and single labels (rows.h). */
#include "endpoints/rows.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "util/clock.h"
#include "util/error.h"
#include "util/jsonx.h"
#include "util/numbers.h"
#include "util/utf8.h"

enum {
    LONGEST_QUOTE = 60,
    INTEGER_MAX_BITS = 53
};

static const double feature_max = 1e6;

enum amx_status row_fail(struct row_context *c, enum problem problem, struct amx_error *err, const char *prefix,
                         const char *name, const char *format, ...)
{
    char text[sizeof((struct amx_error *)0)->text];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    c->problem = problem;
    return jsonx_fail(err, prefix, name, "%s", n < 0 ? "not valid" : text);
}

static enum amx_status no_memory(struct amx_error *err)
{
    return error_set(err, AMX_NO_MEMORY, "out of memory");
}

/* At most LONGEST_QUOTE bytes of a value for an error's text, not cut inside a character. */
static int quoted(struct slice text)
{
    size_t n = text.n;
    if (n > LONGEST_QUOTE) {
        n = LONGEST_QUOTE;
        while (n > 0 && ((unsigned char)text.bytes[n] & 0xC0) == 0x80)
            n--;
    }
    return (int)n;
}

/* ---- single values ---- */

enum amx_status row_name(struct row_context *c, struct slice text, const char *prefix, const char *name,
                         struct arena *a, struct slice *out, struct amx_error *err)
{
    const char *why = NULL;
    if (!name_valid(text.bytes, text.n, &why))
        return row_fail(c, PROBLEM_INVALID_BODY, err, prefix, name, "%s %s", name, why);
    char *copy = arena_copy(a, text.bytes, text.n);
    if (copy == NULL)
        return no_memory(err);
    *out = (struct slice){copy, text.n};
    return AMX_OK;
}

enum amx_status row_class(struct row_context *c, struct slice text, const char *prefix, const char *name, int *out,
                          struct amx_error *err)
{
    uint32_t index;
    if (!project_class_index(c->project, text.bytes, text.n, &index)) {
        if (!utf8_valid(text.bytes, text.n))
            return row_fail(c, PROBLEM_INVALID_BODY, err, prefix, name, "%s is not valid UTF-8", name);
        return row_fail(c, PROBLEM_UNKNOWN_CLASS, err, prefix, name, "the project has no class \"%.*s\"%s",
                        quoted(text), text.bytes, text.n > LONGEST_QUOTE ? "..." : "");
    }
    if (c->project->retired[index])
        return row_fail(c, PROBLEM_UNKNOWN_CLASS, err, prefix, name, "class \"%.*s\" is retired", quoted(text),
                        text.bytes);
    *out = (int)index;
    return AMX_OK;
}

enum amx_status row_annotator_allowed(struct row_context *c, struct slice annotator, const char *prefix,
                                      struct amx_error *err)
{
    if (!c->bound || (strlen(c->annotator) == annotator.n && memcmp(c->annotator, annotator.bytes, annotator.n) == 0))
        return AMX_OK;
    return row_fail(c, PROBLEM_FORBIDDEN, err, prefix, "annotator",
                    "this token writes the labels of one annotator only");
}

enum amx_status row_given_at(struct row_context *c, struct slice text, const char *prefix, int64_t *out,
                             struct amx_error *err)
{
    if (clock_parse(text.bytes, text.n, out))
        return AMX_OK;
    return row_fail(c, PROBLEM_INVALID_BODY, err, prefix, "given_at",
                    "given_at is no RFC 3339 time with a zone, like 2026-11-23T21:00:00Z");
}

enum amx_status row_duration(struct row_context *c, struct slice text, const char *prefix, int64_t *out,
                             struct amx_error *err)
{
    int64_t duration;
    if (!number_int(text.bytes, text.n, &duration) || duration < 0 || duration >> INTEGER_MAX_BITS != 0)
        return row_fail(c, PROBLEM_INVALID_BODY, err, prefix, "duration_ms",
                        "duration_ms must be an integer from 0 to 2^53 - 1");
    *out = duration;
    return AMX_OK;
}

enum amx_status row_split_of(struct row_context *c, struct slice text, enum split *out, struct amx_error *err)
{
    if (split_parse(text.bytes, text.n, out))
        return AMX_OK;
    return row_fail(c, PROBLEM_INVALID_BODY, err, "", "split", "split is none of train, valid, test");
}

enum amx_status row_feature(struct row_context *c, double value, struct slice text, size_t i, struct amx_error *err)
{
    if (isfinite(value) && fabs(value) <= feature_max)
        return AMX_OK;
    char pointer[JSONX_POINTER_BYTES];
    jsonx_pointer_index(pointer, "/features", i);
    return row_fail(c, PROBLEM_INVALID_BODY, err, pointer, NULL, "%.*s is not a finite number with |x| <= 1e6",
                    quoted(text), text.bytes);
}

enum amx_status row_metadata(struct row_context *c, struct slice json, struct arena *a, struct slice *out,
                             struct amx_error *err)
{
    if (json.n > c->metadata_bytes)
        return row_fail(c, PROBLEM_INVALID_BODY, err, "", "metadata", "metadata has %zu bytes; the limit is %zu",
                        json.n, c->metadata_bytes);
    json_auto_t *tree = NULL;
    struct amx_error why;
    enum amx_status status = jsonx_load(json.bytes, json.n, &tree, &why);
    if (status == AMX_NO_MEMORY)
        return no_memory(err);
    if (status != AMX_OK)
        return row_fail(c, PROBLEM_INVALID_BODY, err, "", "metadata", "metadata: %s", why.text);
    char *copy = arena_copy(a, json.bytes, json.n);
    if (copy == NULL)
        return no_memory(err);
    *out = (struct slice){copy, json.n};
    return AMX_OK;
}

enum amx_status row_label_check(struct row_context *c, const struct label_in *row, const char *prefix,
                                struct amx_error *err)
{
    if (row->skipped && row->class_index != ROW_NO_CLASS)
        return row_fail(c, PROBLEM_INVALID_BODY, err, prefix, "class", "a skipped label has no class");
    if (!row->skipped && row->class_index == ROW_NO_CLASS)
        return row_fail(c, PROBLEM_INVALID_BODY, err, prefix, "class", "class is missing");
    return row_annotator_allowed(c, row->annotator, prefix, err);
}

/* ---- values of a JSON object ---- */

/* State of reading one object: which of the known keys were seen. */
struct fields {
    struct row_context *c;
    struct scan *s;
    struct arena *a;
    const char *prefix;
    const char *const *names; /* NULL-terminated, at most 16 */
    unsigned seen;
    size_t n;
};

/* Next member: its index among the names in *which (-1 = closed). */
static enum amx_status next_field(struct fields *f, int *which, struct amx_error *err)
{
    struct scan_text key;
    int got = scan_member(f->s, &f->n, &key);
    *which = -1;
    if (got <= 0) {
        if (got == 0)
            return AMX_OK;
        f->c->problem = PROBLEM_MALFORMED_BODY;
        return scan_error(f->s, err);
    }
    for (int i = 0; f->names[i] != NULL; i++)
        if (scan_is(&key, f->names[i])) {
            if ((f->seen & 1U << i) != 0)
                return row_fail(f->c, PROBLEM_INVALID_BODY, err, f->prefix, f->names[i], "the key stands there twice");
            f->seen |= 1U << i;
            *which = i;
            return AMX_OK;
        }
    char name[64];
    size_t n = 0;
    if (key.raw.n < sizeof name)
        n = scan_unescape(key.raw, name);
    else
        memcpy(name, key.raw.bytes, n = (size_t)quoted(key.raw));
    name[n] = '\0';
    return row_fail(f->c, PROBLEM_INVALID_BODY, err, f->prefix, name, "there is no such field");
}

static enum amx_status grammar(const struct fields *f, struct amx_error *err)
{
    f->c->problem = PROBLEM_MALFORMED_BODY;
    return scan_error(f->s, err);
}

static enum amx_status wrong_type(const struct fields *f, const char *name, const char *want, struct amx_error *err)
{
    return row_fail(f->c, PROBLEM_INVALID_BODY, err, f->prefix, name, "%s must be %s", name, want);
}

/* True when the value is null, which is passed over; false when it is not, or (status) the grammar is broken. */
static bool is_null(const struct fields *f, enum amx_status *status, struct amx_error *err)
{
    *status = AMX_OK;
    if (scan_peek(f->s) != SCAN_NULL)
        return false;
    if (!scan_skip(f->s)) {
        *status = grammar(f, err);
        return false;
    }
    return true;
}

/* A string value, unescaped; borrowed from the input or in the arena. NULL bytes for null when optional. */
static enum amx_status string_value(const struct fields *f, const char *name, bool optional, struct slice *out,
                                    struct amx_error *err)
{
    enum amx_status status;
    if (optional && is_null(f, &status, err)) {
        *out = (struct slice){NULL, 0};
        return AMX_OK;
    }
    if (scan_peek(f->s) != SCAN_STRING)
        return wrong_type(f, name, "a string", err);
    struct scan_text text;
    if (!scan_string(f->s, &text))
        return grammar(f, err);
    *out = text.raw;
    if (text.escaped) {
        char *plain = arena_take(f->a, text.raw.n);
        if (plain == NULL)
            return no_memory(err);
        *out = (struct slice){plain, scan_unescape(text.raw, plain)};
    }
    return AMX_OK;
}

static enum amx_status name_value(const struct fields *f, const char *name, bool optional, struct slice *out,
                                  struct amx_error *err)
{
    struct slice text;
    enum amx_status status = string_value(f, name, optional, &text, err);
    if (status != AMX_OK || text.bytes == NULL)
        return status;
    return row_name(f->c, text, f->prefix, name, f->a, out, err);
}

static enum amx_status class_value(const struct fields *f, const char *name, int *out, struct slice *text,
                                   struct amx_error *err)
{
    enum amx_status status = string_value(f, name, true, text, err);
    if (status != AMX_OK || text->bytes == NULL)
        return status;
    return row_class(f->c, *text, f->prefix, name, out, err);
}

static enum amx_status duration_value(const struct fields *f, int64_t *out, struct amx_error *err)
{
    enum amx_status status;
    if (is_null(f, &status, err) || status != AMX_OK)
        return status;
    struct slice raw;
    double value;
    if (scan_peek(f->s) != SCAN_NUMBER)
        return wrong_type(f, "duration_ms", "an integer", err);
    if (!scan_number(f->s, &raw, &value))
        return grammar(f, err);
    return row_duration(f->c, raw, f->prefix, out, err);
}

static enum amx_status bool_value(const struct fields *f, const char *name, bool *out, struct amx_error *err)
{
    enum amx_status status;
    if (is_null(f, &status, err) || status != AMX_OK)
        return status;
    enum scan_kind kind = scan_peek(f->s);
    if (kind != SCAN_TRUE && kind != SCAN_FALSE)
        return wrong_type(f, name, "true or false", err);
    *out = kind == SCAN_TRUE;
    return scan_skip(f->s) ? AMX_OK : grammar(f, err);
}

static enum amx_status begin(struct fields *f, const char *what, struct amx_error *err)
{
    if (scan_peek(f->s) == SCAN_OBJECT)
        return AMX_OK;
    if (!scan_skip(f->s))
        return grammar(f, err);
    return row_fail(f->c, PROBLEM_INVALID_BODY, err, f->prefix, NULL, "%s must be an object", what);
}

static enum amx_status missing(const struct fields *f, const char *name, struct amx_error *err)
{
    return row_fail(f->c, PROBLEM_INVALID_BODY, err, f->prefix, name, "%s is missing", name);
}

/* ---- labels ---- */

/* instance: NULL when the label itself names it, else the id of the instance it stands in. */
static enum amx_status label_object(struct row_context *c, struct scan *s, const char *prefix, struct arena *a,
                                    const struct slice *instance, struct label_in *out, struct amx_error *err)
{
    static const char *const names[] = {"instance", "annotator",   "class",   "ref",
                                        "given_at", "duration_ms", "skipped", NULL};
    struct fields f = {c, s, a, prefix, instance != NULL ? names + 1 : names, 0, 0};
    struct label_in row = {.class_index = ROW_NO_CLASS, .duration_ms = -1};
    struct slice text, class_text = {NULL, 0};
    int which;
    enum amx_status status = begin(&f, "a label", err);
    while (status == AMX_OK && (status = next_field(&f, &which, err)) == AMX_OK && which >= 0) {
        switch (instance != NULL ? which + 1 : which) {
        case 0:
            status = name_value(&f, "instance", false, &row.instance, err);
            break;
        case 1:
            status = name_value(&f, "annotator", false, &row.annotator, err);
            break;
        case 2:
            status = class_value(&f, "class", &row.class_index, &class_text, err);
            break;
        case 3:
            status = name_value(&f, "ref", true, &row.ref, err);
            break;
        case 4:
            status = string_value(&f, "given_at", true, &text, err);
            if (status == AMX_OK && text.bytes != NULL)
                status = row_given_at(c, text, prefix, &row.given_at_ms, err);
            break;
        case 5:
            status = duration_value(&f, &row.duration_ms, err);
            break;
        default:
            status = bool_value(&f, "skipped", &row.skipped, err);
            break;
        }
    }
    if (status != AMX_OK)
        return status;
    if (instance != NULL)
        row.instance = *instance;
    else if (row.instance.bytes == NULL)
        return missing(&f, "instance", err);
    if (row.annotator.bytes == NULL)
        return missing(&f, "annotator", err);
    if ((status = row_label_check(c, &row, prefix, err)) != AMX_OK)
        return status;
    *out = row;
    return AMX_OK;
}

enum amx_status row_label_json(struct row_context *c, struct scan *s, const char *prefix, struct arena *a,
                               struct label_in *out, struct amx_error *err)
{
    return label_object(c, s, prefix, a, NULL, out, err);
}

/* ---- instances ---- */

static enum amx_status features_value(const struct fields *f, const float **out, struct amx_error *err)
{
    enum amx_status status;
    if (is_null(f, &status, err) || status != AMX_OK)
        return status;
    if (scan_peek(f->s) != SCAN_ARRAY)
        return wrong_type(f, "features", "an array of numbers", err);
    size_t d = f->c->project->feature_dim, n = 0;
    float *features = arena_take(f->a, d * sizeof *features); /* d <= 16,384 */
    if (features == NULL)
        return no_memory(err);
    int got;
    while ((got = scan_element(f->s, &n)) == 1) {
        char pointer[JSONX_POINTER_BYTES];
        enum scan_kind kind = scan_peek(f->s);
        const char *start = f->s->p;
        struct slice raw;
        double value = (double)NAN;
        if (kind == SCAN_NUMBER ? !scan_number(f->s, &raw, &value) : !scan_skip(f->s))
            return grammar(f, err);
        raw = (struct slice){start, (size_t)(f->s->p - start)};
        if (kind != SCAN_NUMBER && kind != SCAN_NOT_FINITE)
            return row_fail(f->c, PROBLEM_INVALID_BODY, err, jsonx_pointer_index(pointer, "/features", n - 1), NULL,
                            "a feature must be a number");
        if (!(fabs(value) <= feature_max))
            return row_feature(f->c, value, raw, n - 1, err);
        if (n <= d)
            features[n - 1] = (float)value;
    }
    if (got < 0)
        return grammar(f, err);
    if (n != d)
        return row_fail(f->c, PROBLEM_INVALID_BODY, err, "", "features", "features has %zu numbers; feature_dim is %zu",
                        n, d);
    *out = features;
    return AMX_OK;
}

static enum amx_status labels_value(const struct fields *f, struct instance_in *row, struct amx_error *err)
{
    enum amx_status status;
    if (is_null(f, &status, err) || status != AMX_OK)
        return status;
    if (scan_peek(f->s) != SCAN_ARRAY)
        return wrong_type(f, "labels", "an array of labels", err);
    size_t n = 0, room = 0;
    int got;
    while ((got = scan_element(f->s, &n)) == 1) {
        if (n > room) { /* the old piece stays in the arena until the batch is over: at most as much again */
            size_t more = room == 0 ? 4 : room * 2;
            struct label_in *labels = arena_take(f->a, more * sizeof *labels);
            if (labels == NULL)
                return no_memory(err);
            if (n > 1)
                memcpy(labels, row->labels, (n - 1) * sizeof *labels);
            row->labels = labels;
            room = more;
        }
        char pointer[JSONX_POINTER_BYTES];
        jsonx_pointer_index(pointer, "/labels", n - 1);
        static const struct slice later = {"", 0}; /* the id may come after the labels: set at the end */
        if ((status = label_object(f->c, f->s, pointer, f->a, &later, &row->labels[n - 1], err)) != AMX_OK)
            return status;
    }
    row->n_labels = n;
    return got < 0 ? grammar(f, err) : AMX_OK;
}

static enum amx_status metadata_value(const struct fields *f, struct slice *out, struct amx_error *err)
{
    (void)scan_peek(f->s); /* to the first byte */
    const char *start = f->s->p;
    if (!scan_skip(f->s))
        return grammar(f, err);
    return row_metadata(f->c, (struct slice){start, (size_t)(f->s->p - start)}, f->a, out, err);
}

enum amx_status row_instance_json(struct row_context *c, struct scan *s, struct arena *a, struct instance_in *out,
                                  struct amx_error *err)
{
    static const char *const names[] = {"id", "features", "split", "metadata", "gold", "labels", NULL};
    struct fields f = {c, s, a, "", names, 0, 0};
    struct instance_in row = {.split = SPLIT_KEEP, .gold = ROW_NO_CLASS};
    struct slice text;
    int which;
    enum amx_status status = begin(&f, "an instance", err);
    while (status == AMX_OK && (status = next_field(&f, &which, err)) == AMX_OK && which >= 0) {
        switch (which) {
        case 0:
            status = name_value(&f, "id", false, &row.id, err);
            break;
        case 1:
            status = features_value(&f, &row.features, err);
            break;
        case 2:
            status = string_value(&f, "split", true, &text, err);
            if (status == AMX_OK && text.bytes != NULL)
                status = row_split_of(c, text, &row.split, err);
            break;
        case 3:
            status = metadata_value(&f, &row.metadata, err);
            break;
        case 4:
            status = class_value(&f, "gold", &row.gold, &text, err);
            if (status == AMX_OK && row.gold != ROW_NO_CLASS && !c->may_gold)
                status = row_fail(c, PROBLEM_FORBIDDEN, err, "", "gold", "writing gold labels needs the scope gold");
            break;
        default:
            status = labels_value(&f, &row, err);
            break;
        }
    }
    if (status != AMX_OK)
        return status;
    if (row.id.bytes == NULL)
        return missing(&f, "id", err);
    for (size_t i = 0; i < row.n_labels; i++)
        row.labels[i].instance = row.id;
    *out = row;
    return AMX_OK;
}

/* ---- gold ---- */

enum amx_status row_gold_json(struct row_context *c, struct scan *s, struct arena *a, struct gold_in *out,
                              struct amx_error *err)
{
    static const char *const names[] = {"instance", "class", NULL};
    struct fields f = {c, s, a, "", names, 0, 0};
    struct gold_in row = {.class_index = ROW_NO_CLASS};
    struct slice text;
    int which;
    enum amx_status status = begin(&f, "a gold label", err);
    while (status == AMX_OK && (status = next_field(&f, &which, err)) == AMX_OK && which >= 0)
        status = which == 0 ? name_value(&f, "instance", false, &row.instance, err)
                            : class_value(&f, "class", &row.class_index, &text, err);
    if (status != AMX_OK)
        return status;
    if (row.instance.bytes == NULL)
        return missing(&f, "instance", err);
    if (row.class_index == ROW_NO_CLASS)
        return missing(&f, "class", err);
    *out = row;
    return AMX_OK;
}
