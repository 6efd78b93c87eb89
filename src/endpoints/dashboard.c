/* dashboard.c - the status page at `/`: plain files of src/dashboard, embedded in the program.
 *
 * The files need no token; what they show they ask the API for like any other client. The policy allows scripts, styles
 * and calls of this server only, no inline code and no frames (names of projects and annotators are other people's
 * text).
 */
#include <string.h>

#include "endpoints/auth.h"
#include "endpoints/problem.h"
#include "endpoints/routes.h"
#include "util/embed.h"

static const char policy[] =
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "form-action 'none'; frame-ancestors 'none'; base-uri 'none'";

static const char *media_type_of(const char *path)
{
    static const char *const types[][2] = {
        {".html", "text/html; charset=utf-8"},
        {".css", "text/css; charset=utf-8"},
        {".js", "text/javascript; charset=utf-8"},
        {".svg", "image/svg+xml"},
    };
    const char *dot = strrchr(path, '.');
    for (size_t i = 0; dot != NULL && i < sizeof types / sizeof types[0]; i++) {
        if (strcmp(dot, types[i][0]) == 0) {
            return types[i][1];
        }
    }
    return NULL;
}

static void reply_file(struct http_request *rq, const char *name)
{
    static const char folder[] = "src/dashboard/";
    const char *media_type = media_type_of(name);
    const struct embedded_file *file = media_type == NULL ? NULL : embedded_files;
    for (; file != NULL && file->path != NULL; file++) {
        if (strncmp(file->path, folder, sizeof folder - 1) == 0 && strcmp(file->path + sizeof folder - 1, name) == 0) {
            if (http_set_header(rq, "Content-Security-Policy", policy) &&
                http_set_header(rq, "Referrer-Policy", "no-referrer") &&
                http_set_header(rq, "Cache-Control", "no-cache")) {
                http_reply_static(rq, media_type, file->begin, (size_t)(file->end - file->begin));
            }
            return;
        }
    }
    problem_reply_as(rq, PROBLEM_NOT_FOUND, "There is nothing here.");
}

static void get_index(struct http_request *rq)
{
    reply_file(rq, "index.html");
}

static void get_file(struct http_request *rq)
{
    reply_file(rq, http_route_of(rq)->pattern + 1);
}

const struct http_route dashboard_routes[] = {
    {.method = "GET", .pattern = "/", .scope = SCOPE_PUBLIC, .finish = get_index},
    {.method = "GET", .pattern = "/app.js", .scope = SCOPE_PUBLIC, .finish = get_file},
    {.method = "GET", .pattern = "/style.css", .scope = SCOPE_PUBLIC, .finish = get_file},
    {.method = "GET", .pattern = "/icon.svg", .scope = SCOPE_PUBLIC, .finish = get_file},
    {0},
};
