/* vet.c - headers that libmicrohttpd lets through and that must not be believed.
 *
 * 0.9.75 takes the first of two Content-Lengths and serves the rest of the body as a new request; it accepts
 * Content-Length beside Transfer-Encoding, two Hosts, control bytes in values, any method. Behind a proxy that reads
 * them the other way each of these is request smuggling. Whatever is not clear closes the connection: after the answer
 * nothing that follows on the wire is taken for a request. What does not even show in the headers is found by head.c.
 */
#include <string.h>
#include <strings.h>

#include "http/http_int.h"
#include "util/numbers.h"

struct findings {
    unsigned content_lengths, transfer_encodings, hosts, content_types, expects, authorizations;
    bool bad_name, bad_value, bad_transfer_encoding, bad_expect, bad_host;
};

/* tchar of RFC 9110, 5.6.2. */
static bool is_token(const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)text[i];
        bool alphanumeric = (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z');
        if (!alphanumeric && (c == 0 || strchr("!#$%&'*+-.^_`|~", c) == NULL))
            return false;
    }
    return n > 0;
}

static bool is_clean_value(const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)text[i];
        if ((c < 0x20 && c != '\t') || c == 0x7F)
            return false;
    }
    return true;
}

/* uri-host and port of RFC 9110, 7.2, by their characters: what no host can hold must not reach a comparison. Without
 * the comma, by which some join two headers. */
static bool is_host(const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)text[i];
        bool alphanumeric = (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z');
        if (!alphanumeric && (c == 0 || strchr("-._~%!$&'()*+;=:[]", c) == NULL))
            return false;
    }
    return n > 0;
}

static bool is(const char *name, size_t n, const char *want)
{
    return n == strlen(want) && strncasecmp(name, want, n) == 0;
}

static mhd_result look_at(void *context, enum MHD_ValueKind kind, const char *name, size_t n_name, const char *value,
                          size_t n_value)
{
    struct findings *f = context;
    (void)kind;
    if (value == NULL)
        n_value = 0;
    f->bad_name |= !is_token(name, n_name);
    f->bad_value |= !is_clean_value(value, n_value);
    f->content_lengths += is(name, n_name, "Content-Length");
    f->content_types += is(name, n_name, "Content-Type");
    f->authorizations += is(name, n_name, "Authorization");
    if (is(name, n_name, "Host")) {
        f->hosts++;
        f->bad_host |= !is_host(value, n_value);
    }
    if (is(name, n_name, "Transfer-Encoding")) {
        f->transfer_encodings++;
        f->bad_transfer_encoding |= !is(value, n_value, "chunked");
    }
    if (is(name, n_name, "Expect")) {
        f->expects++;
        f->bad_expect |= !is(value, n_value, "100-continue");
    }
    return MHD_YES;
}

static bool refuse(struct http_request *rq, int status, const char *type, const char *title, const char *detail)
{
    rq->keep_closed = true;
    http_reply_problem(rq, status, type, title, detail, NULL);
    return false;
}

static bool malformed(struct http_request *rq, const char *detail)
{
    return refuse(rq, 400, "invalid-request", "Malformed request", detail);
}

static bool is_known_method(const char *method)
{
    static const char *const known[] = {"GET",    "HEAD",    "POST",  "PUT",     "PATCH",
                                        "DELETE", "OPTIONS", "TRACE", "CONNECT", "QUERY"};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strcmp(method, known[i]) == 0)
            return true;
    }
    return false;
}

bool vet_headers(struct http_request *rq, const char *version)
{
    struct findings f = {0};
    bool http11 = strcmp(version, "HTTP/1.1") == 0;
    const char *length = http_header_in(rq, "Content-Length");

    if (length != NULL)
        (void)number_uint(length, strlen(length), &rq->content_length); /* the library has refused what is no number */
    (void)MHD_get_connection_values_n(rq->mhd, MHD_HEADER_KIND, look_at, &f);
    rq->expects_continue = f.expects > 0 && !f.bad_expect && http11;
    rq->chunked = f.transfer_encodings > 0;
    rq->has_body = rq->chunked || rq->content_length > 0;
    if (!http11 && strcmp(version, "HTTP/1.0") != 0)
        return refuse(rq, 505, "invalid-request", "HTTP version not supported", "speak HTTP/1.1 or HTTP/1.0");
    if (!head_is_whole(rq, version))
        return malformed(rq, "the head of the request is not made of lines \"name: value\" that end with CR LF");
    if (f.content_lengths > 1)
        return malformed(rq, "more than one Content-Length header");
    if (f.content_lengths > 0 && f.transfer_encodings > 0)
        return malformed(rq, "Content-Length and Transfer-Encoding together");
    if (f.transfer_encodings > 1)
        return malformed(rq, "more than one Transfer-Encoding header");
    if (f.transfer_encodings > 0 && !http11)
        return malformed(rq, "Transfer-Encoding in an HTTP/1.0 request");
    if (f.bad_transfer_encoding)
        return refuse(rq, 501, "invalid-request", "Not implemented",
                      "the only Transfer-Encoding understood is chunked");
    if (f.bad_name)
        return malformed(rq, "a header name is not a token");
    if (f.bad_value)
        return malformed(rq, "a header value holds a control character");
    if (f.hosts > 1 || (f.hosts == 0 && http11))
        return malformed(rq, "exactly one Host header is needed");
    if (f.bad_host)
        return malformed(rq, "the Host header names no host");
    if (f.content_types > 1 || f.authorizations > 1)
        return malformed(rq, "Content-Type and Authorization may be given once");
    if (rq->uri_error != NULL)
        return malformed(rq, rq->uri_error);
    if (!is_known_method(rq->method))
        return refuse(rq, 501, "method-not-allowed", "Not implemented", "this method is not known here");
    if (rq->n_path == 0 && strcmp(rq->method, "OPTIONS") != 0)
        return malformed(rq, "the request target \"*\" goes with OPTIONS only");
    if (f.bad_expect)
        return refuse(rq, 417, "expectation-failed", "Expectation failed",
                      "the only expectation understood is 100-continue");
    return true;
}
