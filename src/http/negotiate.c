/* negotiate.c - which form the client wants: query parameters of every kind, ?format=, Accept with quality values
 * (RFC 9110, 12.5.1). */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "http/http_int.h"
#include "util/numbers.h"
#include "util/utf8.h"

/* ---- query parameters ------------------------------------------------------------------------------------------- */

const char *http_query_nth(const struct http_request *rq, const char *name, unsigned i)
{
    for (size_t k = 0; k < rq->n_query; k++) {
        if (strcmp(rq->query[k].name, name) == 0 && i-- == 0)
            return rq->query[k].value;
    }
    return NULL;
}

const char *http_query(const struct http_request *rq, const char *name)
{
    return http_query_nth(rq, name, 0);
}

static void refuse_query(struct http_request *rq, const char *detail)
{
    http_reply_problem(rq, 400, "invalid-query", "Invalid query parameter", detail, NULL);
}

bool http_query_only(struct http_request *rq, const char *const *names)
{
    for (size_t k = 0; k < rq->n_query; k++) {
        const char *const *name = names;
        while (name != NULL && *name != NULL && strcmp(*name, rq->query[k].name) != 0)
            name++;
        if ((name == NULL || *name == NULL) && strcmp(rq->query[k].name, "format") != 0) {
            char detail[160];
            bool readable = utf8_valid(rq->query[k].name, strlen(rq->query[k].name)) && strlen(rq->query[k].name) < 100;
            (void)snprintf(detail, sizeof detail, "unknown query parameter \"%s\"",
                           readable ? rq->query[k].name : "...");
            refuse_query(rq, detail);
            return false;
        }
    }
    return true;
}

bool http_query_int(struct http_request *rq, const char *name, int64_t min, int64_t max, int64_t fallback, int64_t *out)
{
    const char *text = http_query(rq, name);
    int64_t value = fallback;
    if (text != NULL && (!number_int(text, strlen(text), &value) || value < min || value > max)) {
        char detail[160];
        (void)snprintf(detail, sizeof detail, "query parameter \"%s\" must be an integer from %lld to %lld", name,
                       (long long)min, (long long)max);
        refuse_query(rq, detail);
        return false;
    }
    *out = value;
    return true;
}

bool http_query_bool(struct http_request *rq, const char *name, bool fallback, bool *out)
{
    const char *text = http_query(rq, name);
    if (text == NULL) {
        *out = fallback;
    } else if (strcmp(text, "true") == 0 || strcmp(text, "1") == 0) {
        *out = true;
    } else if (strcmp(text, "false") == 0 || strcmp(text, "0") == 0) {
        *out = false;
    } else {
        char detail[160];
        (void)snprintf(detail, sizeof detail, "query parameter \"%s\" must be true or false", name);
        refuse_query(rq, detail);
        return false;
    }
    return true;
}

/* ---- formats ---------------------------------------------------------------------------------------------------- */

static const struct {
    const char *format; /* of ?format= */
    const char *type, *subtype;
} formats[] = {
    [HTTP_FORMAT_JSON] = {"json", "application", "json"},
    [HTTP_FORMAT_CSV] = {"csv", "text", "csv"},
    [HTTP_FORMAT_NDJSON] = {"ndjson", "application", "x-ndjson"},
    [HTTP_FORMAT_BINARY] = {"binary", "application", "octet-stream"},
    [HTTP_FORMAT_MARKDOWN] = {"markdown", "text", "markdown"},
};
enum {
    N_FORMATS = sizeof formats / sizeof *formats
};

/* The next element of a comma-separated list; false at the end. Blanks around it are left out. */
static bool next_element(const char **at, struct slice *out)
{
    *at += strspn(*at, ", \t");
    if (**at == '\0')
        return false;
    size_t n = strcspn(*at, ",");
    *out = (struct slice){*at, n};
    *at += n;
    while (out->n > 0 && (out->bytes[out->n - 1] == ' ' || out->bytes[out->n - 1] == '\t'))
        out->n--;
    return true;
}

/* Cuts the parameters off an element; returns its q in thousandths (1000 without one, 0 for nonsense). */
static int quality(struct slice *element)
{
    const char *semicolon = memchr(element->bytes, ';', element->n);
    if (semicolon == NULL)
        return 1000;
    const char *end = element->bytes + element->n, *at = semicolon;
    element->n = (size_t)(semicolon - element->bytes);
    while (element->n > 0 && (element->bytes[element->n - 1] == ' ' || element->bytes[element->n - 1] == '\t'))
        element->n--;
    while (at < end) {
        at++;
        while (at < end && (*at == ' ' || *at == '\t'))
            at++;
        const char *stop = at < end ? memchr(at, ';', (size_t)(end - at)) : NULL;
        if (stop == NULL)
            stop = end;
        if (stop - at >= 2 && (at[0] | 0x20) == 'q' && at[1] == '=') {
            double q = 0;
            if (!number_double(at + 2, (size_t)(stop - at - 2), &q) || q < 0 || q > 1)
                return 0;
            return (int)(q * 1000 + 0.5);
        }
        at = stop;
    }
    return 1000;
}

static bool same(const char *bytes, size_t n, const char *want)
{
    return n == strlen(want) && strncasecmp(bytes, want, n) == 0;
}

/* How exactly a media range names a format: 0 not, 1 all, 2 the type, 3 the whole. */
static int match(const struct slice *range, size_t format)
{
    const char *slash = memchr(range->bytes, '/', range->n);
    if (slash == NULL)
        return 0;
    size_t n_type = (size_t)(slash - range->bytes), n_subtype = range->n - n_type - 1;
    if (same(range->bytes, n_type, "*") && same(slash + 1, n_subtype, "*"))
        return 1;
    if (!same(range->bytes, n_type, formats[format].type))
        return 0;
    if (same(slash + 1, n_subtype, "*"))
        return 2;
    if (format == HTTP_FORMAT_NDJSON && same(slash + 1, n_subtype, "ndjson"))
        return 3;
    return same(slash + 1, n_subtype, formats[format].subtype) ? 3 : 0;
}

static int quality_of_format(const char *accept, size_t format)
{
    int best_match = 0, best_quality = 0;
    struct slice range;
    for (const char *at = accept; next_element(&at, &range);) {
        int q = quality(&range);
        int exact = match(&range, format);
        if (exact > best_match || (exact == best_match && exact > 0 && q > best_quality)) {
            best_match = exact;
            best_quality = q;
        }
    }
    return best_quality;
}

enum http_format http_negotiate(struct http_request *rq, unsigned offered)
{
    const char *format = http_query(rq, "format");
    if (format != NULL) {
        for (size_t i = 0; i < N_FORMATS; i++) {
            if ((offered >> i & 1) != 0 && strcmp(format, formats[i].format) == 0)
                return (enum http_format)i;
        }
        refuse_query(rq, "query parameter \"format\" names a format that is not offered here");
        return HTTP_FORMAT_NONE;
    }
    const char *accept = http_header_in(rq, "Accept");
    if (accept == NULL || accept[0] == '\0')
        accept = "*/*";
    int best = 0;
    enum http_format chosen = HTTP_FORMAT_NONE;
    for (size_t i = 0; i < N_FORMATS; i++) { /* in order of the enum: JSON wins a tie */
        int q = (offered >> i & 1) != 0 ? quality_of_format(accept, i) : 0;
        if (q > best) {
            best = q;
            chosen = (enum http_format)i;
        }
    }
    if (chosen == HTTP_FORMAT_NONE)
        http_reply_problem(rq, 406, "not-acceptable", "Not acceptable",
                           "none of the media types in the Accept header is offered here", NULL);
    return chosen;
}

bool reply_accepts_gzip(const struct http_request *rq)
{
    const char *accept = http_header_in(rq, "Accept-Encoding");
    int any = 0, gzip = -1;
    struct slice coding;
    if (accept == NULL)
        return false;
    for (const char *at = accept; next_element(&at, &coding);) {
        int q = quality(&coding);
        if (same(coding.bytes, coding.n, "gzip") || same(coding.bytes, coding.n, "x-gzip"))
            gzip = q;
        else if (same(coding.bytes, coding.n, "*"))
            any = q;
    }
    return gzip >= 0 ? gzip > 0 : any > 0;
}
