/* test_request.c - src/http: routes, queries, forms, bodies, entity tags, gzip, pipelining */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "peer.h"
#include "test.h"

static struct answer *ask_get(const struct http_server *server, const char *target, const char *headers)
{
    static struct answer none; /* so that a missing answer fails checks, not the program */
    char request[9000];
    (void)snprintf(request, sizeof request, "GET %s HTTP/1.1\r\n" HOST "%s\r\n", target, headers);
    struct answer *a = ask(server, request);
    CHECK(a != NULL);
    return a != NULL ? a : &none;
}

TEST(http_common_headers)
{
    struct http_server *server = app_start(NULL);
    const struct answer *a = ask_get(server, "/hello", "X-Request-Id: my-id.1\r\n");
    CHECK(a != NULL && a->status == 200);
    CHECK_STR(a->body, "\"hello\"");
    CHECK_STR(header_of(a, "Content-Type"), "application/json");
    CHECK_STR(header_of(a, "X-Request-Id"), "my-id.1");
    CHECK_STR(header_of(a, "X-Content-Type-Options"), "nosniff");
    CHECK_STR(header_of(a, "Cache-Control"), "no-store");
    a = ask_get(server, "/nowhere", "X-Request-Id: not tame\r\n");
    CHECK_INT(a->status, 404);
    CHECK_STR(header_of(a, "Content-Type"), "application/problem+json");
    char id[100], want[200];
    (void)snprintf(id, sizeof id, "%s", header_of(a, "X-Request-Id"));
    CHECK(strlen(id) >= 16 && strchr(id, ' ') == NULL);
    (void)snprintf(want, sizeof want, "\"instance\":\"urn:request:%s\"", id);
    CHECK(strstr(a->body, want) != NULL);
    json_t *problem = json_loads(a->body, 0, NULL);
    CHECK_STR(json_string_value(json_object_get(problem, "type")), "/problems/not-found");
    CHECK_INT(json_integer_value(json_object_get(problem, "status")), 404);
    json_decref(problem);
    app_stop(server, 5000);
    CHECK_INT(app_counts().completed, 2);
}

TEST(http_routes)
{
    struct http_server *server = app_start(NULL);
    CHECK_STR(ask_get(server, "/", "")->body, "\"hello\"");
    CHECK_STR(ask_get(server, "/p/a/items/b", "")->body, "[\"a\",\"b\"]");
    CHECK_STR(ask_get(server, "/p/a%2Fb/items/%c3%a9%20+", "")->body, "[\"a/b\",\"\xC3\xA9 +\"]");
    CHECK_STR(ask_get(server, "/p/a/items/special", "")->body, "\"literal\"");
    CHECK_STR(ask_get(server, "/p/%2e%2e/items/.", "")->body, "[\"..\",\".\"]");
    static const struct {
        const char *target;
        int status;
    } cases[] = {{"/hello/", 404},         {"//hello", 404},
                 {"/hello/../hello", 404}, {"/Hello", 404},
                 {"/p//items/b", 404},     {"/p/a/items/", 404},
                 {"/%68ello", 200},        {"/hello?", 200},
                 {"/p/a%00/items/b", 400}, {"/p/a%2/items/b", 400},
                 {"/p/%/items/b", 400},    {"/hello?x=%00", 400},
                 {"/p/%zz/items/b", 400},  {"http://evil/hello", 400},
                 {"hello", 400},           {"/1/2/3/4/5/6/7/8/9/10/11/12/13/14", 404}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct answer *a = ask_get(server, cases[i].target, "");
        if (a == NULL || a->status != cases[i].status)
            CHECK_STR(cases[i].target, "another status");
    }
    app_stop(server, 5000);
}

TEST(http_methods)
{
    struct http_server *server = app_start(NULL);
    const struct answer *a = ask(server, "POST /hello HTTP/1.1\r\n" HOST "Content-Length: 0\r\n\r\n");
    CHECK_INT(a->status, 405);
    CHECK_STR(header_of(a, "Allow"), "GET, HEAD, PATCH, DELETE, OPTIONS");
    a = ask(server, "OPTIONS /echo HTTP/1.1\r\n" HOST "\r\n");
    CHECK_INT(a->status, 204);
    CHECK_STR(header_of(a, "Allow"), "POST, OPTIONS");
    CHECK_INT(ask_status(server, "OPTIONS * HTTP/1.1\r\n" HOST "\r\n"), 204);
    CHECK_INT(ask_status(server, "OPTIONS /nowhere HTTP/1.1\r\n" HOST "\r\n"), 404);
    CHECK_INT(ask_status(server, "GET * HTTP/1.1\r\n" HOST "\r\n"), 400);
    CHECK_INT(ask_status(server, "TRACE /hello HTTP/1.1\r\n" HOST "\r\n"), 405);
    CHECK_INT(ask_status(server, "get /hello HTTP/1.1\r\n" HOST "\r\n"), 501);
    CHECK_INT(ask_status(server, "BREW /hello HTTP/1.1\r\n" HOST "\r\n"), 501);
    a = ask(server, "HEAD /hello HTTP/1.1\r\n" HOST "\r\n");
    CHECK_INT(a->status, 200);
    CHECK_STR(header_of(a, "Content-Length"), "7");
    CHECK_INT(ask_status(server, "HEAD /echo HTTP/1.1\r\n" HOST "\r\n"), 405);
    CHECK_INT(ask_status(server, "HEAD /download HTTP/1.1\r\n" HOST "\r\n"), 200);
    CHECK_INT(ask_status(server, "GET /hello HTTP/1.0\r\n\r\n"), 200);
    a = ask(server, "DELETE /hello HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nabcde"); /* a body nobody wants */
    CHECK_INT(a->status, 200);
    app_stop(server, 5000);
}

static bool completed_are(void *n)
{
    return app_counts().completed == *(unsigned *)n;
}

TEST(http_observed_and_gate)
{
    struct http_server *server = app_start(NULL);
    const struct answer *a = ask(server, "PUT /secret HTTP/1.1\r\n" HOST JSON "Content-Length: 2\r\n\r\n{}");
    CHECK_INT(a->status, 401);
    CHECK_STR(header_of(a, "WWW-Authenticate"), "Bearer");
    CHECK_INT(
        ask_status(server, "PUT /secret HTTP/1.1\r\n" HOST JSON "Authorization: x\r\nContent-Length: 2\r\n\r\n{}"),
        200);
    CHECK(until(completed_are, &(unsigned){2}));
    CHECK_INT(ask_status(server, "BREW /secret?token=x HTTP/1.1\r\n" HOST "\r\n"), 501);
    http_server_stop(server, 5000);
    struct app_counts counts = app_counts();
    CHECK_STR(counts.last_route, "");
    CHECK_STR(counts.last_method, "OTHER");
    CHECK_INT(counts.last_status, 501);
    app_stop(NULL, 0);
}

TEST(http_queries)
{
    struct http_server *server = app_start(NULL);
    CHECK_STR(ask_get(server, "/query", "")->body, "{\"n\":10,\"flag\":false,\"id\":[]}");
    CHECK_STR(ask_get(server, "/query?n=7&id=a%2Fb&id=&id=x+y&flag=1&format=json", "")->body,
              "{\"n\":7,\"flag\":true,\"id\":[\"a/b\",\"\",\"x y\"]}");
    CHECK_STR(ask_get(server, "/query?id", "")->body, "{\"n\":10,\"flag\":false,\"id\":[\"\"]}");
    static const char *const bad[] = {"/query?m=1", "/query?n=0",      "/query?n=101", "/query?n=x",
                                      "/query?n=",  "/query?flag=yes", "/query?N=1"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const struct answer *a = ask_get(server, bad[i], "");
        CHECK_INT(a->status, 400);
        CHECK(strstr(a->body, "/problems/invalid-query") != NULL);
    }
    app_stop(server, 5000);
}

TEST(http_formats)
{
    struct http_server *server = app_start(NULL);
    static const struct {
        const char *target, *accept, *want;
    } cases[] = {
        {"/format", "", "\"json\""},
        {"/format", "Accept: */*\r\n", "\"json\""},
        {"/format", "Accept: text/csv\r\n", "\"csv\""},
        {"/format", "Accept: text/*\r\n", "\"csv\""},
        {"/format", "Accept: application/json;q=0.5, text/csv;q=0.9\r\n", "\"csv\""},
        {"/format", "Accept: text/html, application/xhtml+xml, application/xml;q=0.9, */*;q=0.8\r\n", "\"json\""},
        {"/format", "Accept: */*, application/json;q=0\r\n", "\"csv\""},
        {"/format", "Accept: Application/Octet-Stream ; q=1.0\r\n", "\"binary\""},
        {"/format?format=csv", "Accept: application/json\r\n", "\"csv\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        CHECK_STR(ask_get(server, cases[i].target, cases[i].accept)->body, cases[i].want);
    CHECK_INT(ask_get(server, "/format", "Accept: application/x-ndjson\r\n")->status, 406);
    CHECK_INT(ask_get(server, "/format", "Accept: */*;q=0\r\n")->status, 406);
    CHECK_INT(ask_get(server, "/format?format=ndjson", "")->status, 400);
    CHECK_INT(ask_get(server, "/format?format=xml", "")->status, 400);
    app_stop(server, 5000);
}

TEST(http_entity_tags)
{
    struct http_server *server = app_start(NULL);
    static const struct {
        const char *header;
        int status;
    } cases[] = {{"", 200},
                 {"If-None-Match: \"v1\"\r\n", 304},
                 {"If-None-Match: W/\"v1\"\r\n", 304},
                 {"If-None-Match: \"v0\", \"v1\"\r\n", 304},
                 {"If-None-Match: *\r\n", 304},
                 {"If-None-Match: \"v0\"\r\n", 200},
                 {"If-None-Match: v1\r\n", 200},
                 {"If-None-Match: \"v1\r\n", 200},
                 {"If-Match: \"v1\"\r\n", 200},
                 {"If-Match: *\r\n", 200},
                 {"If-Match: W/\"v1\"\r\n", 412},
                 {"If-Match: \"v2\"\r\n", 412}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct answer *a = ask_get(server, "/items/7", cases[i].header);
        CHECK_INT(a->status, cases[i].status);
        if (a->status != 412) {
            CHECK_STR(header_of(a, "ETag"), "\"v1\"");
            CHECK_STR(header_of(a, "Cache-Control"), "no-cache");
        }
        CHECK_INT(a->n > 0, a->status != 304);
    }
    app_stop(server, 5000);
}

TEST(http_gzip_out)
{
    static char plain[200000];
    struct http_server *server = app_start(NULL);
    const struct answer *a = ask_get(server, "/big", "");
    CHECK_INT(a->n, 100000);
    CHECK_STR(header_of(a, "Content-Encoding"), "");
    CHECK_STR(header_of(a, "Vary"), "Accept-Encoding");
    a = ask_get(server, "/big", "Accept-Encoding: br, gzip;q=0.5\r\n");
    CHECK_STR(header_of(a, "Content-Encoding"), "gzip");
    CHECK(a->n < 2000);
    CHECK_INT(gunzip_bytes(a->body, a->n, plain, sizeof plain), 100000);
    CHECK(plain[0] == '"' && plain[99998] == 'a');
    CHECK_INT(ask_get(server, "/big", "Accept-Encoding: gzip;q=0\r\n")->n, 100000);
    CHECK_INT(ask_get(server, "/big", "Accept-Encoding: gzip;q=0, *\r\n")->n, 100000);
    CHECK_STR(header_of(ask_get(server, "/hello", "Accept-Encoding: gzip\r\n"), "Content-Encoding"), "");
    /* static files: a tag for each form */
    char tag[100], header[200];
    a = ask_get(server, "/page", "Accept-Encoding: gzip\r\n");
    CHECK_STR(header_of(a, "Content-Encoding"), "gzip");
    CHECK(strstr(header_of(a, "Content-Security-Policy"), "default-src 'self'") != NULL);
    (void)snprintf(tag, sizeof tag, "%s", header_of(a, "ETag"));
    (void)snprintf(header, sizeof header, "Accept-Encoding: gzip\r\nIf-None-Match: %s\r\n", tag);
    CHECK_INT(ask_get(server, "/page", header)->status, 304);
    (void)snprintf(header, sizeof header, "If-None-Match: %s\r\n", tag);
    CHECK_INT(ask_get(server, "/page", header)->status, 200);
    /* streams */
    a = ask_get(server, "/download?n=20000", "Accept-Encoding: gzip\r\n");
    CHECK(a->ended && a->chunked);
    CHECK_STR(header_of(a, "Content-Encoding"), "gzip");
    size_t n = gunzip_bytes(a->body, a->n, plain, sizeof plain);
    CHECK(n == 108894 && memcmp(plain, "20000\n19999\n", 12) == 0 && memcmp(plain + n - 4, "2\n1\n", 4) == 0);
    app_stop(server, 5000);
    CHECK_INT(app_counts().freed, 1);
}

TEST(http_pipelining)
{
    struct http_server *server = app_start(NULL);
    struct peer peer;
    peer_connect(&peer, server);
    CHECK(peer_send(&peer,
                    "GET /p/a/items/1 HTTP/1.1\r\n" HOST "\r\n"
                    "POST /echo HTTP/1.1\r\n" HOST JSON "Content-Length: 3\r\n\r\n[1]"
                    "POST /suspend HTTP/1.1\r\n" HOST JSON "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
                    "HEAD /hello HTTP/1.1\r\n" HOST "\r\n"
                    "GET /p/a/items/5 HTTP/1.1\r\n" HOST "\r\n"));
    CHECK_STR(peer_read(&peer, false)->body, "[\"a\",\"1\"]");
    CHECK_STR(peer_read(&peer, false)->body, "{\"n\":3,\"start\":\"[1]\",\"type\":\"application/json\"}");
    CHECK_STR(peer_read(&peer, false)->body, "\"written\"");
    CHECK_INT(peer_read(&peer, true)->status, 200);
    CHECK_STR(peer_read(&peer, false)->body, "[\"a\",\"5\"]");
    peer_close(&peer);
    app_stop(server, 5000);
    CHECK_INT(app_counts().completed, 5);
}

TEST(http_listening)
{
    struct http_limits limits;
    struct http_server *server = app_start(NULL), *other = NULL;
    struct amx_error err;
    char address[40];
    http_limits_default(&limits);
    static const struct http_route none[] = {{NULL, NULL, 0, NULL, NULL, NULL, NULL}};
    const struct http_app app = {.routes = none};
    struct http_listen where = {.address = address, .inherited_fd = -1};
    (void)snprintf(address, sizeof address, "127.0.0.1:%d", http_server_port(server));
    CHECK_INT(http_server_start(&where, &limits, &app, &other, &err), AMX_BUSY);
    CHECK(strstr(err.text, address) != NULL);
    static const char *const bad[] = {"",       "127.0.0.1", "127.0.0.1:",      "127.0.0.1:x", "127.0.0.1:65536",
                                      "::1:80", "[::1]80",   "host.example:80", ":80"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        where.address = bad[i];
        CHECK_INT(http_server_start(&where, &limits, &app, &other, &err), AMX_INVALID);
    }
    where.address = "[::1]:0";
    if (http_server_start(&where, &limits, &app, &other, &err) == AMX_OK) { /* no IPv6 here: nothing to test */
        CHECK(http_server_port(other) > 0);
        http_server_stop(other, 1000);
    }
    app_stop(server, 5000);
}
