/* tokens.c - /v1/tokens: make, list and revoke tokens; admin only, and only an admin of everything.
 *
 * The token itself appears once, in the answer that makes it; kept are its SHA-256 and the first characters, so that
 * people can tell their tokens apart. The cache in memory follows the database after COMMIT, before the request is
 * answered: a revoked token is refused from then on. POST takes no Idempotency-Key into account when the answer holds a
 * secret: it is refused, because a stored answer would keep the token readable.
 */
#include <stdio.h>
#include <string.h>

#include "endpoints/auth.h"
#include "endpoints/page.h"
#include "endpoints/problem.h"
#include "endpoints/routes.h"
#include "endpoints/write.h"
#include "store/tokens.h"
#include "util/clock.h"
#include "util/jsonx.h"
#include "util/numbers.h"

struct token_write {
    struct write write; /* first */
    json_t *body;
    struct token_row row;
    char text[AUTH_TOKEN_BYTES + 1];
    int64_t id;
};

static json_t *token_json(const struct token_row *row, int64_t id)
{
    json_t *object = json_object();
    if (object == NULL) {
        return NULL;
    }
    bool ok = json_put(object, "id", json_integer(id));
    ok = json_put(object, "name", json_text(row->name.bytes, row->name.n)) && ok;
    ok = json_put(object, "prefix", json_text(row->prefix.bytes, row->prefix.n)) && ok;
    ok = json_put(object, "scopes", auth_scopes_json(row->scopes)) && ok;
    ok = json_put(object, "project",
                  row->project.n == 0 ? json_null() : json_text(row->project.bytes, row->project.n)) &&
         ok;
    ok = json_put(object, "annotator",
                  row->annotator.n == 0 ? json_null() : json_text(row->annotator.bytes, row->annotator.n)) &&
         ok;
    ok = json_put(object, "created_at", json_time(row->created_ms)) && ok;
    ok = json_put(object, "expires_at", json_time(row->expires_ms)) && ok;
    if (!ok) {
        json_decref(object);
        return NULL;
    }
    return object;
}

/* Tokens are about everything: an admin token of one project does not see them. */
static bool is_admin_of_all(struct http_request *rq)
{
    struct auth_identity who;
    if (auth_identify(rq, &who) && who.project[0] == '\0') {
        return true;
    }
    problem_reply_as(rq, PROBLEM_FORBIDDEN, "Tokens are managed with an admin token that is bound to no project.");
    return false;
}

/* ---- POST
 * ------------------------------------------------------------------------------------------------------------ */

static enum amx_status read_scopes(const json_t *body, unsigned *out, struct amx_error *err)
{
    const json_t *list, *item;
    size_t i;
    enum amx_status status = jsonx_need_array(body, "scopes", "", &list, err);
    if (status != AMX_OK) {
        return status;
    }
    unsigned scopes = 0;
    json_array_foreach (list, i, item) {
        char pointer[JSONX_POINTER_BYTES];
        unsigned one = 0;
        const char *bad;
        size_t n;
        (void)jsonx_pointer_index(pointer, "/scopes", i);
        if (!json_is_string(item) || strchr(json_string_value(item), ',') != NULL ||
            !auth_scopes_parse(json_string_value(item), &one, &bad, &n)) {
            return jsonx_fail(err, pointer, NULL, "A scope is one of submit, read, gold, write, train, admin.");
        }
        if ((scopes & one) != 0) {
            return jsonx_fail(err, pointer, NULL, "The scope %s stands twice.", json_string_value(item));
        }
        scopes |= one;
    }
    if (scopes == 0) {
        return jsonx_fail(err, "", "scopes", "At least one scope is needed.");
    }
    *out = scopes;
    return AMX_OK;
}

/* "name" or "prefix*"; project names are [A-Za-z0-9][A-Za-z0-9._-]{0,63}. */
static bool project_pattern_valid(const char *text, size_t n)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    size_t name = n > 0 && text[n - 1] == '*' ? n - 1 : n;
    return name > 0 && name <= 64 && strspn(text, letters) >= name;
}

static enum amx_status read_body(struct token_write *t, struct amx_error *err)
{
    static const char *const fields[] = {"name", "scopes", "project", "annotator", "expires_at", NULL};
    struct token_row *row = &t->row;
    const char *expires = NULL;
    size_t n = 0;
    row->project = row->annotator = (struct slice){"", 0};
    enum amx_status status = jsonx_only_fields(t->body, fields, "", err);
    if (status == AMX_OK) {
        status = jsonx_need_name(t->body, "name", "", &row->name.bytes, &row->name.n, err);
    }
    if (status == AMX_OK) {
        status = read_scopes(t->body, &row->scopes, err);
    }
    if (status == AMX_OK) {
        status = jsonx_opt_string(t->body, "project", "", &row->project.bytes, &row->project.n, err);
    }
    if (status == AMX_OK && row->project.n > 0 && !project_pattern_valid(row->project.bytes, row->project.n)) {
        return jsonx_fail(err, "", "project", "A project is a project's name, or the beginning of names and a *.");
    }
    if (status == AMX_OK) {
        status = jsonx_opt_name(t->body, "annotator", "", &row->annotator.bytes, &row->annotator.n, err);
    }
    if (status == AMX_OK) {
        status = jsonx_opt_string(t->body, "expires_at", "", &expires, &n, err);
    }
    if (status == AMX_OK && expires != NULL && (!clock_parse(expires, n, &row->expires_ms) || row->expires_ms <= 0)) {
        return jsonx_fail(err, "", "expires_at", "A time is RFC 3339 with a zone: 2027-01-01T00:00:00Z.");
    }
    if (status == AMX_OK && expires != NULL && row->expires_ms <= row->created_ms) {
        return jsonx_fail(err, "", "expires_at", "expires_at lies in the past.");
    }
    return status;
}

static enum amx_status insert_token(struct db *db, struct write *w)
{
    struct token_write *t = (struct token_write *)w;
    return tokens_insert(db, &t->row, &t->id, &w->job.error);
}

static enum amx_status compose_token(struct write *w)
{
    struct token_write *t = (struct token_write *)w;
    json_t *json = token_json(&t->row, t->id);
    (void)snprintf(w->reply.location, sizeof w->reply.location, "/v1/tokens/%lld", (long long)t->id);
    if (json != NULL && !json_put(json, "token", json_string(t->text))) {
        json_decref(json);
        json = NULL;
    }
    return write_compose_json(w, 201, json);
}

static void token_committed(struct write *w)
{
    struct token_write *t = (struct token_write *)w;
    struct auth_token token = {.id = t->id, .expires_ms = t->row.expires_ms, .who = {.scopes = t->row.scopes}};
    memcpy(token.sha256, t->row.sha256, sizeof token.sha256);
    memcpy(token.who.project, t->row.project.bytes, t->row.project.n);
    memcpy(token.who.annotator, t->row.annotator.bytes, t->row.annotator.n);
    if (auth_cache_add(&token) != AMX_OK) {
        return; /* out of memory: the token works from the next start on; the client sees 401 until then */
    }
    /* --auth auto: open only as long as there is no token. */
    if (strcmp(w->service->config.auth, "auto") == 0) {
        __atomic_store_n(&w->service->auth_required, true, __ATOMIC_RELEASE);
    }
}

static void free_token(struct write *w)
{
    struct token_write *t = (struct token_write *)w;
    explicit_bzero(t->text, sizeof t->text);
    json_decref(t->body);
}

static void create_token(struct http_request *rq)
{
    static const char *const no_queries[] = {NULL};
    struct amx_error err = {0};
    size_t n;
    const char *text = http_body(rq, &n);
    if (!is_admin_of_all(rq) || !http_query_only(rq, no_queries)) {
        return;
    }
    if (http_header_in(rq, "Idempotency-Key") != NULL) {
        problem_reply_as(
            rq, PROBLEM_IDEMPOTENCY_REFUSED,
            "A token is shown once and never stored, so its answer cannot be replayed; leave the key out.");
        return;
    }
    json_t *body;
    if (jsonx_load(text != NULL ? text : "", n, &body, &err) != AMX_OK) {
        problem_reply_error(rq, PROBLEM_MALFORMED_BODY, &err);
        return;
    }
    if (!json_is_object(body)) {
        json_decref(body);
        problem_reply_as(rq, PROBLEM_INVALID_BODY, "The body must be an object.");
        return;
    }
    struct token_write *t = write_new(rq, sizeof *t, NULL);
    if (t == NULL) {
        json_decref(body);
        return;
    }
    t->body = body;
    t->write.free_owner = free_token;
    t->row.created_ms = clock_wall_ms();
    enum amx_status status = read_body(t, &err);
    if (status == AMX_OK) {
        status = auth_token_make(t->text, t->row.sha256);
    }
    if (status != AMX_OK) {
        err.code = status;
        write_free(&t->write);
        problem_reply(rq, &err);
        return;
    }
    t->row.prefix = (struct slice){t->text, AUTH_PREFIX_BYTES};
    t->write.apply = insert_token;
    t->write.compose = compose_token;
    t->write.committed = token_committed;
    if (http_set_header(rq, "Cache-Control", "no-store")) {
        write_submit(rq, &t->write);
    } else {
        write_free(&t->write);
    }
}

/* ---- GET
 * ------------------------------------------------------------------------------------------------------------- */

struct listing {
    json_t *items;
    size_t limit;
    int64_t last;
    bool more, failed;
};

static enum amx_status list_one(void *context, const struct token_row *row)
{
    struct listing *l = context;
    if (row->revoked_ms != 0) {
        return AMX_OK;
    }
    if (json_array_size(l->items) == l->limit) {
        l->more = true;
        return AMX_CANCELLED;
    }
    l->last = row->id;
    if (json_array_append_new(l->items, token_json(row, row->id)) != 0) {
        l->failed = true;
        return AMX_NO_MEMORY;
    }
    return AMX_OK;
}

static void list_tokens(struct http_request *rq)
{
    struct page page;
    if (!is_admin_of_all(rq) || !page_parse(rq, NULL, &page)) {
        return;
    }
    struct db *db = reader_of(rq);
    if (db == NULL) {
        return;
    }
    struct listing l = {.items = json_array(), .limit = page.limit};
    struct amx_error err = {0};
    enum amx_status status =
        l.items == NULL ? AMX_NO_MEMORY : tokens_list(db, page.continued ? page.after : 0, 0, list_one, &l, NULL, &err);
    reader_done(rq, db);
    if (status != AMX_OK && status != AMX_CANCELLED) {
        json_decref(l.items);
        err.code = status;
        problem_reply(rq, &err);
        return;
    }
    http_reply_json(rq, 200, page_envelope(&page, l.items, l.more, l.last));
}

/* ---- DELETE
 * ---------------------------------------------------------------------------------------------------------- */

static enum amx_status revoke(struct db *db, struct write *w)
{
    return tokens_revoke(db, ((struct token_write *)w)->id, clock_wall_ms(), &w->job.error);
}

static enum amx_status compose_revoked(struct write *w)
{
    w->reply.status = 204;
    return AMX_OK;
}

static void revoked(struct write *w)
{
    auth_cache_remove(((struct token_write *)w)->id);
}

static void delete_token(struct http_request *rq)
{
    static const char *const no_queries[] = {NULL};
    const char *text = http_param(rq, 0);
    int64_t id = 0;
    if (!is_admin_of_all(rq) || !http_query_only(rq, no_queries)) {
        return;
    }
    if (!number_int(text, strlen(text), &id) || id < 1) {
        problem_reply_as(rq, PROBLEM_NOT_FOUND, "There is no such token; its id is a number.");
        return;
    }
    struct token_write *t = write_new(rq, sizeof *t, NULL);
    if (t == NULL) {
        return;
    }
    t->id = id;
    t->write.apply = revoke;
    t->write.compose = compose_revoked;
    t->write.committed = revoked;
    write_submit(rq, &t->write);
}

static const char *const takes_json[] = {"application/json", NULL};
const struct http_route tokens_routes[] = {
    {.method = "POST",
     .pattern = "/v1/tokens",
     .scope = SCOPE_ADMIN,
     .media_types = takes_json,
     .finish = create_token},
    {.method = "GET", .pattern = "/v1/tokens", .scope = SCOPE_ADMIN, .finish = list_tokens},
    {.method = "DELETE", .pattern = "/v1/tokens/{id}", .scope = SCOPE_ADMIN, .finish = delete_token},
    {0},
};
