/* predict_request.c - see predict_request.h.
 *
 *     {"instances": [{"features": [..]} | {"id": ".."}, ...], "annotators": ["..", ...], "return": ["p_class", ...]}
 *
 * Strings are decoded into one block that cannot move: decoding never lengthens a string, so the length of the body is
 * enough for all of them.
 */
#include "endpoints/derived/predict_request.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "endpoints/scan.h"
#include "util/error.h"
#include "util/jsonx.h"
#include "util/size.h"
#include "util/utf8.h"

#define FEATURE_LIMIT 1e6

struct parser {
    struct scan scan;
    struct predict_request *out;
    enum problem *problem;
    struct amx_error *err;
};

static enum amx_status no_memory(struct parser *p)
{
    *p->problem = PROBLEM_NO_MEMORY;
    return error_set(p->err, AMX_NO_MEMORY, "Out of memory.");
}

static enum amx_status grammar(struct parser *p)
{
    *p->problem = PROBLEM_MALFORMED_BODY;
    return scan_error(&p->scan, p->err);
}

/* Doubles *room until it holds `needed`. */
static bool grow(void **memory, size_t *room, size_t needed, size_t item_bytes)
{
    size_t more = *room > 0 ? *room : 16, bytes;
    while (more < needed) {
        if (!size_mul(&more, more, 2)) {
            return false;
        }
    }
    if (more == *room) {
        return true;
    }
    void *moved = size_mul(&bytes, more, item_bytes) ? realloc(*memory, bytes) : NULL;
    if (moved == NULL) {
        return false;
    }
    *memory = moved;
    *room = more;
    return true;
}

/* Copies a scanned string, decoded and ended by 0, into the block of texts. */
static const char *keep_text(struct parser *p, const struct scan_text *text, size_t *n)
{
    struct predict_request *r = p->out;
    char *at = r->texts + r->n_texts;
    if (text->escaped) {
        *n = scan_unescape(text->raw, at);
    } else {
        memcpy(at, text->raw.bytes, text->raw.n);
        *n = text->raw.n;
    }
    at[*n] = '\0';
    r->n_texts += *n + 1;
    return at;
}

/* A string at the scanner that must be a valid name; pointer says where. */
static enum amx_status read_name(struct parser *p, const char *pointer, const char *what, struct slice *out)
{
    struct scan_text text;
    const char *why;
    if (scan_peek(&p->scan) != SCAN_STRING) {
        return scan_skip(&p->scan) ? jsonx_fail(p->err, pointer, NULL, "The %s must be a string.", what) : grammar(p);
    }
    if (!scan_string(&p->scan, &text)) {
        return grammar(p);
    }
    out->bytes = keep_text(p, &text, &out->n);
    if (!name_valid(out->bytes, out->n, &why)) {
        return jsonx_fail(p->err, pointer, NULL, "The %s %s.", what, why);
    }
    return AMX_OK;
}

/* ---- instances
 * ------------------------------------------------------------------------------------------------------- */

static enum amx_status read_feature(struct parser *p, const char *prefix, size_t i, float *out)
{
    struct slice raw;
    double value;
    enum scan_kind kind = scan_peek(&p->scan);
    if (kind == SCAN_NUMBER) {
        if (!scan_number(&p->scan, &raw, &value)) {
            return grammar(p);
        }
        if (fabs(value) <= FEATURE_LIMIT) { /* false for infinities too */
            *out = (float)value;
            return AMX_OK;
        }
    } else if (!scan_skip(&p->scan)) {
        return grammar(p);
    }
    char pointer[JSONX_POINTER_BYTES];
    (void)jsonx_pointer_index(pointer, prefix, i);
    return jsonx_fail(p->err, pointer, NULL,
                      kind == SCAN_NUMBER ? "A feature must lie between -1e6 and 1e6."
                                          : "A feature must be a finite number.");
}

static enum amx_status read_features(struct parser *p, const char *prefix, float *out)
{
    char pointer[JSONX_POINTER_BYTES];
    size_t n = 0, n_features = p->out->n_features;
    int more;
    (void)jsonx_pointer(pointer, prefix, "features");
    if (scan_peek(&p->scan) != SCAN_ARRAY) {
        return scan_skip(&p->scan) ? jsonx_fail(p->err, pointer, NULL, "features must be an array of numbers.")
                                   : grammar(p);
    }
    while ((more = scan_element(&p->scan, &n)) == 1) {
        if (n > n_features) {
            if (!scan_skip(&p->scan)) { /* only counts on, to name the length */
                return grammar(p);
            }
            continue;
        }
        enum amx_status status = read_feature(p, pointer, n - 1, &out[n - 1]);
        if (status != AMX_OK) {
            return status;
        }
    }
    if (more < 0) {
        return grammar(p);
    }
    if (n != n_features) {
        return jsonx_fail(p->err, pointer, NULL, "There are %zu features; the project has %zu.", n, n_features);
    }
    return AMX_OK;
}

/* Room for one more row of features; amortised. */
static float *features_room(struct predict_request *r, size_t rows_before)
{
    size_t bytes;
    if (rows_before != r->rows_room) { /* grew: both arrays keep the same room */
        if (!size_mul(&bytes, r->rows_room, r->n_features) || !size_mul(&bytes, bytes, sizeof(float))) {
            return NULL;
        }
        float *moved = realloc(r->features, bytes > 0 ? bytes : 1);
        if (moved == NULL) {
            return NULL;
        }
        r->features = moved;
    }
    return r->features + r->n_rows * r->n_features;
}

static enum amx_status read_instance(struct parser *p, size_t index)
{
    struct predict_request *r = p->out;
    char prefix[JSONX_POINTER_BYTES];
    struct scan_text key;
    size_t members = 0, before = r->rows_room;
    int more;
    void *rows = r->rows;
    bool grown = grow(&rows, &r->rows_room, r->n_rows + 1, sizeof *r->rows);
    r->rows = rows;
    float *features = grown ? features_room(r, before) : NULL;
    if (features == NULL) {
        return no_memory(p);
    }
    struct predict_row *row = &r->rows[r->n_rows];
    *row = (struct predict_row){0};
    (void)jsonx_pointer_index(prefix, "/instances", index);
    if (scan_peek(&p->scan) != SCAN_OBJECT) {
        return scan_skip(&p->scan) ? jsonx_fail(p->err, prefix, NULL, "An instance must be an object.") : grammar(p);
    }
    while ((more = scan_member(&p->scan, &members, &key)) == 1) {
        enum amx_status status;
        char pointer[JSONX_POINTER_BYTES];
        if (scan_is(&key, "features") && !row->has_features) {
            row->has_features = true;
            status = read_features(p, prefix, features);
        } else if (scan_is(&key, "id") && row->id.bytes == NULL) {
            status = read_name(p, jsonx_pointer(pointer, prefix, "id"), "id", &row->id);
        } else {
            return jsonx_fail(p->err, prefix, NULL,
                              "An instance has features or id, each once; nothing else is known.");
        }
        if (status != AMX_OK) {
            return status;
        }
    }
    if (more < 0) {
        return grammar(p);
    }
    if (!row->has_features) {
        if (row->id.bytes == NULL) {
            return jsonx_fail(p->err, prefix, NULL, "An instance needs features or an id.");
        }
        memset(features, 0, r->n_features * sizeof *features);
    }
    r->n_rows++;
    return AMX_OK;
}

static enum amx_status read_instances(struct parser *p)
{
    size_t n = 0;
    int more;
    if (scan_peek(&p->scan) != SCAN_ARRAY) {
        return scan_skip(&p->scan) ? jsonx_fail(p->err, "", "instances", "instances must be an array.") : grammar(p);
    }
    while ((more = scan_element(&p->scan, &n)) == 1) {
        enum amx_status status = read_instance(p, n - 1);
        if (status != AMX_OK) {
            return status;
        }
    }
    return more < 0 ? grammar(p) : AMX_OK;
}

/* ---- the rest
 * -------------------------------------------------------------------------------------------------------- */

static enum amx_status read_annotators(struct parser *p)
{
    struct predict_request *r = p->out;
    size_t n = 0;
    int more;
    if (scan_peek(&p->scan) != SCAN_ARRAY) {
        return scan_skip(&p->scan) ? jsonx_fail(p->err, "", "annotators", "annotators must be an array of names.")
                                   : grammar(p);
    }
    while ((more = scan_element(&p->scan, &n)) == 1) {
        char pointer[JSONX_POINTER_BYTES];
        struct slice name;
        void *list = r->annotators;
        bool grown = grow(&list, &r->annotators_room, n, sizeof *r->annotators);
        r->annotators = list;
        if (!grown) {
            return no_memory(p);
        }
        enum amx_status status = read_name(p, jsonx_pointer_index(pointer, "/annotators", n - 1), "annotator", &name);
        if (status != AMX_OK) {
            return status;
        }
        r->annotators[r->n_annotators++] = name.bytes;
    }
    return more < 0 ? grammar(p) : AMX_OK;
}

static enum amx_status read_return(struct parser *p)
{
    struct answers_want want = {0};
    size_t n = 0;
    int more;
    if (scan_peek(&p->scan) != SCAN_ARRAY) {
        return scan_skip(&p->scan) ? jsonx_fail(p->err, "", "return", "return must be an array of words.") : grammar(p);
    }
    while ((more = scan_element(&p->scan, &n)) == 1) {
        struct scan_text text = {0};
        char pointer[JSONX_POINTER_BYTES];
        bool is_string = scan_peek(&p->scan) == SCAN_STRING;
        if (is_string ? !scan_string(&p->scan, &text) : !scan_skip(&p->scan)) {
            return grammar(p);
        }
        if (is_string && scan_is(&text, "p_class")) {
            want.p_class = true;
        } else if (is_string && scan_is(&text, "p_perf")) {
            want.p_perf = true;
        } else if (is_string && scan_is(&text, "p_annotation")) {
            want.p_annotation = true;
        } else if (is_string && scan_is(&text, "p_confusion")) {
            want.p_confusion = true;
        } else {
            return jsonx_fail(p->err, jsonx_pointer_index(pointer, "/return", n - 1), NULL,
                              "return may have p_class, p_perf, p_annotation and p_confusion.");
        }
    }
    p->out->want = want;
    return more < 0 ? grammar(p) : AMX_OK;
}

static int by_text(const void *a, const void *b)
{
    const char *const *x = a, *const *y = b;
    return strcmp(*x, *y);
}

/* Annotators are keys of an object in the answer, so none may come twice. */
static enum amx_status check_annotators(struct parser *p)
{
    const struct predict_request *r = p->out;
    size_t bytes;
    if (r->n_annotators < 2) {
        return AMX_OK;
    }
    const char **sorted = size_mul(&bytes, r->n_annotators, sizeof *sorted) ? malloc(bytes) : NULL;
    if (sorted == NULL) {
        return no_memory(p);
    }
    enum amx_status status = AMX_OK;
    memcpy(sorted, r->annotators, bytes);
    qsort(sorted, r->n_annotators, sizeof *sorted, by_text);
    for (size_t i = 1; i < r->n_annotators && status == AMX_OK; i++) {
        if (strcmp(sorted[i - 1], sorted[i]) == 0) {
            status = jsonx_fail(p->err, "", "annotators", "The annotator \"%.64s\" is named twice.", sorted[i]);
        }
    }
    free(sorted);
    return status;
}

static enum amx_status read_members(struct parser *p)
{
    bool instances = false, annotators = false, wanted = false;
    struct scan_text key;
    size_t members = 0;
    int more;
    while ((more = scan_member(&p->scan, &members, &key)) == 1) {
        enum amx_status status;
        if (scan_is(&key, "instances") && !instances) {
            instances = true;
            status = read_instances(p);
        } else if (scan_is(&key, "annotators") && !annotators) {
            annotators = true;
            status = read_annotators(p);
        } else if (scan_is(&key, "return") && !wanted) {
            wanted = true;
            status = read_return(p);
        } else {
            char pointer[JSONX_POINTER_BYTES], name[64];
            size_t n = key.raw.n < sizeof name ? key.raw.n : sizeof name - 1;
            memcpy(name, key.raw.bytes, n);
            name[n] = '\0';
            return jsonx_fail(p->err, jsonx_pointer(pointer, "", name), NULL,
                              "The body has instances, annotators and return, each once; nothing else is known.");
        }
        if (status != AMX_OK) {
            return status;
        }
    }
    if (more < 0) {
        return grammar(p);
    }
    if (!scan_done(&p->scan)) {
        return grammar(p);
    }
    if (!instances) {
        return jsonx_fail(p->err, "", "instances", "instances is missing.");
    }
    return check_annotators(p);
}

enum amx_status predict_request_json(const char *text, size_t n, size_t n_features, struct predict_request *out,
                                     enum problem *problem, struct amx_error *err)
{
    struct parser p = {.out = out, .problem = problem, .err = err};
    size_t bytes;
    *out = (struct predict_request){.n_features = n_features, .want = {.p_class = true}};
    *problem = PROBLEM_INVALID_BODY;
    if (!utf8_valid(text, n)) {
        *problem = PROBLEM_MALFORMED_BODY;
        return error_set(err, AMX_INVALID, "The body is not valid UTF-8.");
    }
    /* A string of k bytes stands in the body with two quotes, so k + 1 bytes for each fit. */
    out->texts = size_add(&bytes, n, 1) ? malloc(bytes) : NULL;
    if (out->texts == NULL) {
        return no_memory(&p);
    }
    scan_init(&p.scan, text, n);
    if (scan_peek(&p.scan) != SCAN_OBJECT) {
        if (!scan_skip(&p.scan) || !scan_done(&p.scan)) {
            return grammar(&p);
        }
        return jsonx_fail(err, "", NULL, "The body must be an object.");
    }
    enum amx_status status = read_members(&p);
    if (status == AMX_INVALID && *problem == PROBLEM_INVALID_BODY) {
        /* A text that is no JSON is refused as such, wherever the first wrong field stood. */
        struct scan whole;
        scan_init(&whole, text, n);
        if (!scan_skip(&whole) || !scan_done(&whole)) {
            p.scan = whole;
            return grammar(&p);
        }
    }
    return status;
}

enum amx_status predict_request_binary(const char *bytes, size_t n, size_t n_features, struct predict_request *out,
                                       struct amx_error *err)
{
    *out = (struct predict_request){.n_features = n_features, .want = {.p_class = true}};
    size_t row_bytes;
    if (n_features == 0 || !size_mul(&row_bytes, n_features, sizeof(float)) || n % row_bytes != 0) {
        return error_set(err, AMX_INVALID, "The body has %zu bytes, which is no whole number of rows of %zu float32.",
                         n, n_features);
    }
    out->n_rows = out->rows_room = n / row_bytes;
    out->rows = calloc(out->n_rows > 0 ? out->n_rows : 1, sizeof *out->rows);
    out->features = malloc(n > 0 ? n : 1);
    if (out->rows == NULL || out->features == NULL) {
        return error_set(err, AMX_NO_MEMORY, "Out of memory.");
    }
    for (size_t i = 0; i < n / sizeof(float); i++) {
        const unsigned char *b = (const unsigned char *)bytes + i * sizeof(float);
        uint32_t bits = (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
        memcpy(&out->features[i], &bits, sizeof bits);
        if (!(fabsf(out->features[i]) <= (float)FEATURE_LIMIT)) { /* NaN fails too */
            return error_set_line(err, AMX_INVALID, i / n_features + 1,
                                  "Feature %zu of row %zu is not a finite number between -1e6 and 1e6.", i % n_features,
                                  i / n_features + 1);
        }
    }
    for (size_t i = 0; i < out->n_rows; i++) {
        out->rows[i].has_features = true;
    }
    return AMX_OK;
}

void predict_request_done(struct predict_request *request)
{
    free(request->rows);
    free(request->features);
    free((void *)request->annotators);
    free(request->texts);
    *request = (struct predict_request){0};
}
