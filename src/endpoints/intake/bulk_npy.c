/* bulk_npy.c - features as a numpy matrix: application/x-npy, versions 1 to 3, '<f4' or '<f8', C order, shape (n, D).
 *
 * Rows are named ?id_prefix= followed by 0, 1, ...; ?split= goes for all. The header is a Python literal; of it
 * exactly the three keys are read that numpy writes, in any order, and everything else is refused.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "endpoints/intake/bulk.h"
#include "util/error.h"
#include "util/numbers.h"
#include "util/size.h"
#include "util/utf8.h"

enum {
    HEAD_BYTES = 12,
    HEADER_MAX = 4096,
    PREFIX_MAX = NAME_MAX_BYTES - 20
};
static const float FEATURE_MOST = 1e6F; /* row_feature has the last word */

struct bulk_npy {
    char prefix[NAME_MAX_BYTES + 1];
    struct buf head;    /* magic, version, header, until all of it is there */
    bool known;         /* header read: */
    size_t item;        /* 4 or 8 bytes a number */
    uint64_t rows, row; /* declared; complete so far */
    struct buf partial; /* start of a row whose end has not come */
};

struct bulk_npy *bulk_npy_new(const char *prefix)
{
    struct bulk_npy *npy = calloc(1, sizeof *npy);
    if (npy == NULL)
        return NULL;
    (void)snprintf(npy->prefix, sizeof npy->prefix, "%s", prefix);
    buf_init(&npy->head, HEAD_BYTES + HEADER_MAX);
    buf_init(&npy->partial, (size_t)AMX_MAX_FEATURES * 8);
    return npy;
}

bool bulk_npy_open(struct http_request *rq, struct bulk *b)
{
    const char *prefix = http_query(rq, "id_prefix"), *split = http_query(rq, "split"), *why;
    if (prefix == NULL) {
        problem_reply_as(rq, PROBLEM_INVALID_QUERY,
                         "?id_prefix= is required with application/x-npy: it names the rows");
        return false;
    }
    if (prefix[0] != '\0' && (strlen(prefix) > PREFIX_MAX || !name_valid(prefix, strlen(prefix), &why)) &&
        strcmp(prefix, ".") != 0 && strcmp(prefix, "..") != 0) {
        problem_reply_as(rq, PROBLEM_INVALID_QUERY,
                         "id_prefix must be at most %d bytes of UTF-8 without control characters", PREFIX_MAX);
        return false;
    }
    if (split != NULL && !split_parse(split, strlen(split), &b->split)) {
        problem_reply_as(rq, PROBLEM_INVALID_QUERY, "split is none of train, valid, test");
        return false;
    }
    if (b->context.project->feature_dim == 0) {
        problem_reply_as(rq, PROBLEM_INVALID_BODY, "the project has no features (feature_dim is 0)");
        return false;
    }
    b->npy = bulk_npy_new(prefix);
    if (b->npy == NULL) {
        problem_reply_as(rq, PROBLEM_NO_MEMORY, "out of memory");
        return false;
    }
    return true;
}

void bulk_npy_close(struct bulk *b)
{
    if (b->npy == NULL)
        return;
    buf_done(&b->npy->head);
    buf_done(&b->npy->partial);
    free(b->npy);
    b->npy = NULL;
}

/* ---- header ---- */

static enum amx_status refuse(struct amx_error *err, const char *why)
{
    return error_set(err, AMX_INVALID, "%s; wanted: an npy matrix of '<f4' or '<f8', C order, shape (n, feature_dim)",
                     why);
}

struct literal {
    const char *p, *end;
};

static void blanks(struct literal *l)
{
    while (l->p < l->end && (*l->p == ' ' || *l->p == '\n'))
        l->p++;
}

static bool take(struct literal *l, const char *text)
{
    blanks(l);
    size_t n = strlen(text);
    if ((size_t)(l->end - l->p) < n || memcmp(l->p, text, n) != 0)
        return false;
    l->p += n;
    return true;
}

static bool take_count(struct literal *l, uint64_t *out)
{
    blanks(l);
    const char *start = l->p;
    while (l->p < l->end && *l->p >= '0' && *l->p <= '9')
        l->p++;
    return number_uint(start, (size_t)(l->p - start), out);
}

/* {'descr': '<f4', 'fortran_order': False, 'shape': (n, D), } */
static enum amx_status read_header(struct bulk_npy *npy, struct literal l, size_t d, struct amx_error *err)
{
    unsigned seen = 0;
    uint64_t columns = 0;
    if (!take(&l, "{"))
        return refuse(err, "the npy header cannot be read");
    while (!take(&l, "}")) {
        if (take(&l, "'descr':")) {
            seen |= 1;
            npy->item = take(&l, "'<f4'") ? 4 : take(&l, "'<f8'") ? 8 : 0;
            if (npy->item == 0)
                return refuse(err, "the type of the numbers is neither '<f4' nor '<f8'");
        } else if (take(&l, "'fortran_order':")) {
            seen |= 2;
            if (!take(&l, "False"))
                return refuse(err, "the matrix is not in C order");
        } else if (take(&l, "'shape':")) {
            seen |= 4;
            if (!take(&l, "(") || !take_count(&l, &npy->rows) || !take(&l, ",") || !take_count(&l, &columns) ||
                !take(&l, ")"))
                return refuse(err, "the shape is not (n, feature_dim)");
        } else {
            return refuse(err, "the npy header cannot be read");
        }
        (void)take(&l, ","); /* the last one may be left out */
    }
    if (seen != 7)
        return refuse(err, "the npy header cannot be read");
    if (columns != d)
        return error_set(err, AMX_INVALID, "the matrix has %llu columns; feature_dim is %zu",
                         (unsigned long long)columns, d);
    return AMX_OK;
}

/* Takes bytes until the header is complete; *used of them. */
static enum amx_status push_header(struct bulk *b, const char *data, size_t n, size_t *used, struct amx_error *err)
{
    struct bulk_npy *npy = b->npy;
    for (*used = 0; *used < n && !npy->known; ++*used) {
        if (buf_char(&npy->head, data[*used]) != AMX_OK)
            return npy->head.status == AMX_NO_MEMORY ? error_set(err, AMX_NO_MEMORY, "out of memory")
                                                     : refuse(err, "the npy header is too long");
        const unsigned char *h = (const unsigned char *)npy->head.bytes;
        if (npy->head.n == 8 && (memcmp(h, "\x93NUMPY", 6) != 0 || h[6] < 1 || h[6] > 3))
            return refuse(err, "the body is no npy file of version 1, 2 or 3");
        size_t start = npy->head.n >= 8 && h[6] == 1 ? 10 : 12;
        if (npy->head.n < start)
            continue;
        size_t length = h[8] | (size_t)h[9] << 8;
        if (start == 12)
            length |= (size_t)h[10] << 16 | (size_t)h[11] << 24;
        if (length > HEADER_MAX)
            return refuse(err, "the npy header is too long");
        if (npy->head.n < start + length)
            continue;
        struct literal l = {npy->head.bytes + start, npy->head.bytes + start + length};
        enum amx_status status = read_header(npy, l, b->context.project->feature_dim, err);
        if (status != AMX_OK)
            return status;
        npy->known = true;
    }
    return AMX_OK;
}

/* ---- rows ---- */

static double number_at(const struct bulk_npy *npy, const char *bytes, size_t i)
{
    float single;
    double value;
    if (npy->item == 8) {
        memcpy(&value, bytes + i * 8, sizeof value);
        return value;
    }
    memcpy(&single, bytes + i * 4, sizeof single);
    return (double)single;
}

/* Without a branch per number: a body has hundreds of millions of them, and hardly ever a bad one. */
static bool all_in_range(const float *features, size_t d)
{
    unsigned bad = 0;
    for (size_t i = 0; i < d; i++)
        bad |= !(fabsf(features[i]) <= FEATURE_MOST);
    return bad == 0;
}

/* Says which number is the first bad one. */
static enum amx_status check_numbers(struct bulk *b, const char *bytes, size_t d, struct amx_error *err)
{
    enum amx_status status = AMX_OK;
    for (size_t i = 0; i < d && status == AMX_OK; i++) {
        double value = number_at(b->npy, bytes, i);
        if (fabs(value) <= (double)FEATURE_MOST)
            continue;
        char text[NUMBER_TEXT_BYTES];
        size_t length = number_double_text(value, text);
        struct slice shown = length > 0 ? (struct slice){text, length}
                                        : (struct slice){isnan(value) ? "NaN" : "Infinity", isnan(value) ? 3 : 8};
        status = row_feature(&b->context, value, shown, i, err);
    }
    return status;
}

static enum amx_status parse_row(struct bulk *b, const char *bytes, struct instance_in *row, struct amx_error *err)
{
    struct bulk_npy *npy = b->npy;
    size_t d = b->context.project->feature_dim;
    char name[NAME_MAX_BYTES + 32];
    int n = snprintf(name, sizeof name, "%s%llu", npy->prefix, (unsigned long long)npy->row);
    float *features = arena_take(bulk_arena(b), d * sizeof *features);
    if (features == NULL || n < 0)
        return error_set(err, AMX_NO_MEMORY, "out of memory");
    *row = (struct instance_in){.split = b->split, .gold = ROW_NO_CLASS, .features = features};
    enum amx_status status =
        row_name(&b->context, (struct slice){name, (size_t)n}, "", "id", bulk_arena(b), &row->id, err);
    if (status != AMX_OK)
        return status;
    if (npy->item == 8) {
        for (size_t i = 0; i < d; i++)
            features[i] = (float)number_at(npy, bytes, i);
        return check_numbers(b, bytes, d, err); /* of the doubles: rounded, one just too large may pass */
    }
    memcpy(features, bytes, d * sizeof *features);
    return all_in_range(features, d) ? AMX_OK : check_numbers(b, bytes, d, err);
}

static enum amx_status add_row(struct bulk *b, const char *bytes, struct amx_error *err)
{
    struct bulk_row *row = bulk_row(b, b->npy->row + 1);
    if (row == NULL)
        return error_set(err, AMX_NO_MEMORY, "out of memory");
    struct amx_error why = {.code = AMX_OK};
    enum amx_status status = parse_row(b, bytes, &row->as.instance, &why);
    b->npy->row++;
    status = bulk_row_end(b, row, status, &why);
    if (status != AMX_OK)
        *err = b->failure;
    return status;
}

enum amx_status bulk_npy_push(struct bulk *b, const char *data, size_t n, struct amx_error *err)
{
    struct bulk_npy *npy = b->npy;
    size_t used = 0;
    if (!npy->known) {
        enum amx_status status = push_header(b, data, n, &used, err);
        if (status != AMX_OK || !npy->known)
            return status;
    }
    data += used;
    n -= used;
    size_t row_bytes = b->context.project->feature_dim * npy->item; /* at most 16,384 x 8 */
    while (n > 0) {
        if (npy->row == npy->rows)
            return refuse(err, "the body is longer than its header says");
        size_t missing = row_bytes - npy->partial.n;
        if (npy->partial.n > 0 || n < row_bytes) {
            size_t part = n < missing ? n : missing;
            if (buf_append(&npy->partial, data, part) != AMX_OK)
                return error_set(err, AMX_NO_MEMORY, "out of memory");
            data += part;
            n -= part;
            if (npy->partial.n < row_bytes)
                return AMX_OK;
        }
        bool whole = npy->partial.n == 0;
        enum amx_status status = add_row(b, whole ? data : npy->partial.bytes, err);
        if (status != AMX_OK)
            return status;
        if (whole) {
            data += row_bytes;
            n -= row_bytes;
        }
        buf_clear(&npy->partial);
    }
    return AMX_OK;
}

enum amx_status bulk_npy_end(struct bulk *b, struct amx_error *err)
{
    if (!b->npy->known)
        return refuse(err, "the body ends within the npy header");
    if (b->npy->row != b->npy->rows || b->npy->partial.n > 0)
        return refuse(err, "the body is shorter than its header says");
    return AMX_OK;
}
