/* methods.c - GET /v1/methods: the methods of this build with their settings, types, ranges, defaults and sources.
 * The table is the learner's own (work/runs/run_request.h), so that what is listed is what is accepted. */
#include "endpoints/auth.h"
#include "endpoints/page.h"
#include "endpoints/routes.h"
#include "work/runs/run_request.h"

static void list_methods(struct http_request *rq)
{
    struct page page;
    if (page_parse(rq, NULL, &page)) {
        resource_reply(rq, "", run_request_methods_json());
    }
}

const struct http_route methods_routes[] = {
    {.method = "GET", .pattern = "/v1/methods", .scope = SCOPE_ANY, .finish = list_methods},
    {0},
};
