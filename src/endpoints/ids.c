/* ids.c - names from the path or the query (ids.h). */
#include "endpoints/ids.h"

#include <stdlib.h>
#include <string.h>

#include "endpoints/problem.h"
#include "endpoints/routes.h"
#include "endpoints/write.h"
#include "util/error.h"
#include "util/jsonx.h"
#include "util/utf8.h"

bool ids_asked(const struct http_request *rq)
{
    return http_query(rq, "id") != NULL;
}

static const char *nth(const struct http_request *rq, size_t i)
{
    /* The project is parameter 0; what the route is about, if it names it, is parameter 1. */
    const char *open = strchr(http_route_of(rq)->pattern, '{');
    bool by_path = open != NULL && strchr(open + 1, '{') != NULL;
    if (by_path)
        return i == 0 ? http_param(rq, 1) : NULL;
    return http_query_nth(rq, "id", (unsigned)i);
}

/* Copies of the names that the path or the query gives, 1 to `max`; false: replied. */
static bool take(struct http_request *rq, size_t max, struct ids *out)
{
    size_t n = 0, bytes = 0;
    const char *text, *why;
    while ((text = nth(rq, n)) != NULL) {
        if (n == max) {
            problem_reply_as(rq, PROBLEM_INVALID_QUERY, "at most %zu ?id= can be given", max);
            return false;
        }
        if (!name_valid(text, strlen(text), &why)) {
            problem_reply_as(rq, PROBLEM_INVALID_QUERY, "id %s", why);
            return false;
        }
        bytes += strlen(text) + 1; /* at most 1,000 x 256 */
        n++;
    }
    if (n == 0) {
        problem_reply_as(rq, PROBLEM_INVALID_QUERY, "?id= is missing: it names what this is about");
        return false;
    }
    struct slice *names = malloc(n * sizeof *names + bytes);
    if (names == NULL) {
        problem_reply_as(rq, PROBLEM_NO_MEMORY, "out of memory");
        return false;
    }
    char *p = (char *)(names + n);
    for (size_t i = 0; i < n; i++) {
        text = nth(rq, i);
        names[i] = (struct slice){p, strlen(text)};
        memcpy(p, text, names[i].n + 1);
        p += names[i].n + 1;
    }
    *out = (struct ids){names, n};
    return true;
}

void ids_done(struct ids *ids)
{
    free(ids->names);
    *ids = (struct ids){NULL, 0};
}

void *ids_write_new(struct http_request *rq, size_t max, size_t size, struct ids *ids)
{
    static const char *const query[] = {"id", NULL}, *const none[] = {NULL};
    if (!http_query_only(rq, http_param(rq, 1) != NULL ? none : query))
        return NULL;
    struct project_info *project = project_of(rq, 0);
    if (project == NULL)
        return NULL;
    if (!take(rq, max, ids)) {
        project_unref(project);
        return NULL;
    }
    void *write = write_new(rq, size, project);
    if (write == NULL)
        ids_done(ids);
    return write;
}

static enum amx_status write_list(struct db *db, const struct ids *ids, ids_item_fn *item_of, void *context,
                                  struct buf *out, struct buf *missing, struct amx_error *err)
{
    size_t n_items = 0;
    buf_text(out, "{\"items\":[");
    for (size_t i = 0; i < ids->n; i++) {
        size_t before = out->n;
        if (n_items > 0)
            buf_char(out, ',');
        enum amx_status status = item_of(db, context, ids->names[i], out, err);
        if (status == AMX_OK) {
            n_items++;
        } else if (status == AMX_NOT_FOUND) {
            out->n = before;
            if (missing->n > 0)
                buf_char(missing, ',');
            jsonx_write_string(missing, ids->names[i].bytes, ids->names[i].n);
        } else {
            return status;
        }
    }
    buf_text(out, "],\"missing\":[");
    buf_append(out, missing->bytes, missing->n);
    buf_text(out, "],\"next_cursor\":null}");
    if (out->status != AMX_OK || missing->status != AMX_OK)
        return error_set(err, AMX_NO_MEMORY, "out of memory");
    return AMX_OK;
}

void ids_reply_list(struct http_request *rq, ids_item_fn *item_of, void *context)
{
    struct ids ids;
    if (!take(rq, IDS_MAX, &ids))
        return;
    struct db *db = reader_of(rq);
    if (db == NULL) {
        ids_done(&ids);
        return;
    }
    struct buf out = BUF_INIT(SIZE_MAX / 2), missing = BUF_INIT(SIZE_MAX / 2);
    struct amx_error err = {.code = AMX_OK};
    enum amx_status status = write_list(db, &ids, item_of, context, &out, &missing, &err);
    reader_done(rq, db);
    size_t n = 0;
    char *text = status == AMX_OK ? buf_take(&out, &n) : NULL;
    if (text != NULL) {
        http_reply(rq, 200, "application/json", text, n, free);
    } else {
        err.code = status != AMX_OK ? status : AMX_NO_MEMORY;
        problem_reply(rq, &err);
    }
    buf_done(&out);
    buf_done(&missing);
    ids_done(&ids);
}
