/* projects.c - POST/GET projects; GET/PUT/PATCH/DELETE projects/{p}.
 *
 * Every change is one write job that reads the row again in the writer's thread, so checks against the present state
 * (does it exist, does If-Match hold, which classes are there) and the change are one. The parsed body travels with
 * the job.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "endpoints/auth.h"
#include "endpoints/page.h"
#include "endpoints/project_body.h"
#include "endpoints/write.h"
#include "store/projects.h"
#include "util/clock.h"
#include "util/digest.h"
#include "util/error.h"
#include "util/jsonx.h"
#include "util/log.h"
#include "work/runs/trainers.h"
#include "work/snapshots.h"

/* ---- a project as clients see it ---- */

static json_t *classes_json(const struct project_row *row, bool retired_only)
{
    json_t *list = json_array();
    for (size_t i = 0; list != NULL && i < row->n_classes; i++) {
        if (retired_only && !row->classes[i].retired)
            continue;
        if (json_array_append_new(list, json_text(row->classes[i].name.bytes, row->classes[i].name.n)) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static json_t *counts_json(const struct project_counts *counts, bool gold)
{
    json_t *object = json_object();
    if (object != NULL && json_put(object, "instances", json_integer(counts->instances)) &&
        json_put(object, "annotators", json_integer(counts->annotators)) &&
        json_put(object, "labels", json_integer(counts->labels)) &&
        json_put(object, "gold", gold ? json_integer(counts->gold) : json_null()) &&
        json_put(object, "skipped", json_integer(counts->skipped)) &&
        json_put(object, "awaiting_features", json_integer(counts->awaiting_features)))
        return object;
    json_decref(object);
    return NULL;
}

static json_t *settings_json(struct slice settings)
{
    json_t *object;
    if (settings.n == 0)
        return json_object();
    return jsonx_load_object(settings.bytes, settings.n, &object, NULL) == AMX_OK ? object : NULL;
}

/* gold: whether the token may know how many gold labels there are. */
static json_t *project_json(const struct project_row *row, bool gold)
{
    json_t *object = json_object();
    if (object != NULL && json_put(object, "name", json_text(row->name.bytes, row->name.n)) &&
        json_put(object, "title", row->title.n > 0 ? json_text(row->title.bytes, row->title.n) : json_null()) &&
        json_put(object, "classes", classes_json(row, false)) &&
        json_put(object, "retired_classes", classes_json(row, true)) &&
        json_put(object, "feature_dim", json_integer((json_int_t)row->feature_dim)) &&
        json_put(object, "settings", settings_json(row->settings)) &&
        json_put(object, "counts", counts_json(&row->counts, gold)) &&
        json_put(object, "active_model", row->active_model > 0 ? json_integer(row->active_model) : json_null()) &&
        json_put(object, "label_seq", json_integer(row->label_seq)) && json_put(object, "uid", json_string(row->uid)) &&
        json_put(object, "created_at", json_time(row->created_ms)))
        return object;
    json_decref(object);
    return NULL;
}

/* "UID-REVISION-CONTENT": the whole of it for If-None-Match; If-Match looks at uid and revision only, or no PATCH
 * could get through while labels come in (they move the counts, not the project's words). */
static void etag_of(const struct project_row *row, const char *text, size_t n, char out[WRITE_ETAG_BYTES])
{
    uint8_t sha[DIGEST_BYTES];
    char hex[DIGEST_HEX_BYTES];
    digest_of(text, n, sha);
    (void)snprintf(out, WRITE_ETAG_BYTES, "\"%.16s-%lld-%.16s\"", row->uid, (long long)row->revision,
                   digest_hex(sha, hex));
}

/* One of the tags in an If-Match header is this revision's. */
static bool if_match_holds(const char *header, const struct project_row *row)
{
    char tag[WRITE_ETAG_BYTES];
    int n = snprintf(tag, sizeof tag, "\"%.16s-%lld-", row->uid, (long long)row->revision);
    const char *p = header + strspn(header, " \t");
    if (*p == '*')
        return true;
    for (; *p != '\0'; p += strcspn(p, ","), p += strspn(p, ", \t"))
        if (strncmp(p, tag, (size_t)n) == 0)
            return true;
    return false;
}

/* ---- GET ---- */

struct listing {
    json_t *items;
    const struct auth_identity *who;
    int64_t last;
};

static enum amx_status list_one(void *context, const struct project_row *row)
{
    struct listing *l = context;
    l->last = row->id;
    if (!auth_reaches(l->who, row->name.bytes))
        return AMX_OK;
    bool gold = (l->who->scopes & (SCOPE_GOLD | SCOPE_ADMIN)) != 0;
    return json_array_append_new(l->items, project_json(row, gold)) == 0 ? AMX_OK : AMX_NO_MEMORY;
}

static void list_projects(struct http_request *rq)
{
    struct page page;
    struct auth_identity who;
    if (!page_parse(rq, NULL, &page))
        return;
    if (!auth_identify(rq, &who)) {
        problem_reply_as(rq, PROBLEM_UNAUTHORIZED, "the token has been revoked");
        return;
    }
    size_t n_prefix = strlen(who.project);
    if (n_prefix > 1 && who.project[n_prefix - 1] == '*')
        n_prefix--;
    struct db *db = reader_of(rq);
    if (db == NULL)
        return;
    struct listing l = {.items = json_array(), .who = &who};
    struct amx_error err = {.code = AMX_OK};
    bool more = false;
    enum amx_status status =
        l.items == NULL ? error_set(&err, AMX_NO_MEMORY, "out of memory")
                        : projects_list(db, (struct slice){who.project, n_prefix}, page.continued ? page.after : 0,
                                        page.limit, list_one, &l, &more, &err);
    reader_done(rq, db);
    if (status != AMX_OK) {
        json_decref(l.items);
        err.code = status;
        problem_reply(rq, &err);
        return;
    }
    http_reply_json(rq, 200, page_envelope(&page, l.items, more, l.last));
}

static void get_project(struct http_request *rq)
{
    static const char *const none[] = {NULL};
    struct project_info *project = http_query_only(rq, none) ? project_of(rq, 0) : NULL;
    if (project == NULL)
        return;
    struct project_row row;
    struct amx_error err = {.code = AMX_OK};
    struct db *db = reader_of(rq);
    if (db == NULL) {
        project_unref(project);
        return;
    }
    enum amx_status status = projects_get(db, project->id, &row, &err);
    reader_done(rq, db);
    project_unref(project);
    if (status != AMX_OK) {
        if (status == AMX_NOT_FOUND) /* deleted between the two looks */
            problem_reply_as(rq, PROBLEM_UNKNOWN_PROJECT, "the project was just deleted");
        else
            problem_reply(rq, &err);
        return;
    }
    json_t *json = project_json(&row, auth_has(rq, SCOPE_GOLD));
    size_t n = 0;
    char *text = json != NULL ? jsonx_dump(json, &n) : NULL, etag[WRITE_ETAG_BYTES];
    json_decref(json);
    if (text != NULL)
        etag_of(&row, text, n, etag);
    project_row_done(&row);
    if (text == NULL)
        problem_reply_as(rq, PROBLEM_NO_MEMORY, "out of memory");
    else if (http_reply_if_unchanged(rq, etag))
        free(text);
    else
        http_reply(rq, 200, "application/json", text, n, free);
}

/* ---- writes ---- */

struct project_write {
    struct write write;
    json_t *body;
    struct project_body parsed; /* borrows from body */
    char name[PROJECT_NAME_BYTES + 1];
    char if_match[512]; /* "" = none */
    int64_t id;         /* of the project written */
    bool made, gold, precondition;
    struct project_row row; /* as it is after the write */
    bool have_row;
};

static void free_project(struct write *w)
{
    struct project_write *p = (struct project_write *)w;
    if (p->have_row)
        project_row_done(&p->row);
    project_body_done(&p->parsed);
    json_decref(p->body);
}

static enum amx_status read_row(struct db *db, struct project_write *p)
{
    if (p->have_row)
        project_row_done(&p->row);
    p->have_row = false;
    enum amx_status status = projects_get(db, p->id, &p->row, &p->write.job.error);
    p->have_row = status == AMX_OK;
    return status;
}

static enum amx_status compose_project(struct write *w)
{
    struct project_write *p = (struct project_write *)w;
    enum amx_status status = write_compose_json(w, p->made ? 201 : 200, project_json(&p->row, p->gold));
    if (status != AMX_OK)
        return status;
    etag_of(&p->row, w->reply.body, w->reply.n_body, w->reply.etag);
    if (p->made)
        (void)snprintf(w->reply.location, sizeof w->reply.location, "/v1/projects/%s", p->name);
    return AMX_OK;
}

static void committed_project(struct write *w)
{
    struct project_write *p = (struct project_write *)w;
    struct amx_error err;
    /* On failure the entry is dropped, so nothing stale is served. */
    if (catalog_reload(w->service->catalog, p->id, &err) != AMX_OK)
        log_error("project not reloaded", LOG_TEXT("error", err.text));
}

static void failed_project(struct http_request *rq, struct write *w)
{
    struct project_write *p = (struct project_write *)w;
    if (p->precondition)
        problem_reply_error(rq, PROBLEM_PRECONDITION, &w->job.error);
    else if (w->job.status == AMX_NOT_FOUND)
        problem_reply_error(rq, PROBLEM_UNKNOWN_PROJECT, &w->job.error);
    else if (w->job.status == AMX_INVALID && project_body_is_setting(&w->job.error))
        problem_reply_error(rq, PROBLEM_INVALID_SETTING, &w->job.error);
    else
        problem_reply(rq, &w->job.error);
}

/* The body as a JSON object and the struct that carries it; NULL: replied. */
static struct project_write *begin(struct http_request *rq, struct project_info *project)
{
    static const char *const none[] = {NULL};
    size_t n;
    const char *text = http_body(rq, &n);
    json_t *body = NULL;
    struct amx_error err = {.code = AMX_OK};
    if (!http_query_only(rq, none)) {
        project_unref(project);
        return NULL;
    }
    json_t *any = NULL;
    enum amx_status status = jsonx_load(text, n, &any, &err);
    if (status != AMX_OK) {
        project_unref(project);
        problem_reply_error(rq, status == AMX_INVALID ? PROBLEM_MALFORMED_BODY : problem_of_status(status), &err);
        return NULL;
    }
    body = any;
    if (!json_is_object(body)) {
        json_decref(body);
        project_unref(project);
        problem_reply_as(rq, PROBLEM_INVALID_BODY, "the body must be a JSON object");
        return NULL;
    }
    struct project_write *p = write_new(rq, sizeof *p, project);
    if (p == NULL) {
        json_decref(body);
        return NULL;
    }
    p->body = body;
    p->gold = auth_has(rq, SCOPE_GOLD);
    p->write.free_owner = free_project;
    p->write.compose = compose_project;
    p->write.committed = committed_project;
    p->write.failed = failed_project;
    return p;
}

static void refuse(struct http_request *rq, struct project_write *p, struct amx_error *err, enum amx_status status)
{
    err->code = status;
    write_free(&p->write);
    if (status == AMX_INVALID && project_body_is_setting(err))
        problem_reply_error(rq, PROBLEM_INVALID_SETTING, err);
    else
        problem_reply(rq, err);
}

static enum amx_status insert(struct db *db, struct project_write *p)
{
    const struct project_body *b = &p->parsed;
    struct project_new row = {.name = {p->name, strlen(p->name)},
                              .title = {b->title != NULL ? b->title : "", b->n_title},
                              .settings = b->settings_text.bytes != NULL ? b->settings_text : (struct slice){"{}", 2},
                              .classes = b->classes,
                              .n_classes = b->n_classes,
                              .feature_dim = b->feature_dim,
                              .now_ms = clock_wall_ms()};
    enum amx_status status = projects_insert(db, &row, &p->id, &p->write.job.error);
    p->made = status == AMX_OK;
    return status == AMX_OK ? read_row(db, p) : status;
}

static enum amx_status apply_create(struct db *db, struct write *w)
{
    struct project_write *p = (struct project_write *)w;
    enum amx_status status = insert(db, p);
    if (status == AMX_CONFLICT)
        error_set(&w->job.error, AMX_CONFLICT, "a project \"%s\" exists already", p->name);
    return status;
}

static void post_project(struct http_request *rq)
{
    struct project_write *p = begin(rq, NULL);
    if (p == NULL)
        return;
    struct amx_error err = {.code = AMX_OK};
    enum amx_status status = project_body_parse(p->body, PROJECT_BODY_NEW, &p->parsed, &err);
    if (status != AMX_OK) {
        refuse(rq, p, &err, status);
        return;
    }
    (void)snprintf(p->name, sizeof p->name, "%s", p->parsed.name);
    if (!auth_project_allowed(rq, p->name)) {
        write_free(&p->write);
        problem_reply_as(rq, PROBLEM_FORBIDDEN, "the token does not reach projects of this name");
        return;
    }
    p->write.apply = apply_create;
    write_submit(rq, &p->write);
}

/* ---- PUT: make, or check ---- */

static bool same_classes(const struct project_row *row, const struct project_body *b)
{
    if (row->n_classes != b->n_classes)
        return false;
    for (size_t i = 0; i < b->n_classes; i++)
        if (row->classes[i].name.n != b->classes[i].n ||
            memcmp(row->classes[i].name.bytes, b->classes[i].bytes, b->classes[i].n) != 0)
            return false;
    return true;
}

static enum amx_status differs(struct project_write *p, const char *what)
{
    return error_set(&p->write.job.error, AMX_CONFLICT, "project \"%s\" exists with other %s", p->name, what);
}

static enum amx_status apply_put(struct db *db, struct write *w)
{
    struct project_write *p = (struct project_write *)w;
    const struct project_body *b = &p->parsed;
    struct amx_error *err = &w->job.error;
    enum amx_status status = projects_find(db, (struct slice){p->name, strlen(p->name)}, &p->row, err);
    if (status == AMX_NOT_FOUND)
        return insert(db, p);
    if (status != AMX_OK)
        return status;
    p->have_row = true;
    p->id = p->row.id;
    if (!same_classes(&p->row, b))
        return differs(p, "classes");
    if (p->row.feature_dim != b->feature_dim)
        return differs(p, "feature_dim");
    if (b->title != NULL && (p->row.title.n != b->n_title || memcmp(p->row.title.bytes, b->title, b->n_title) != 0))
        return differs(p, "title");
    if (b->settings != NULL) {
        json_t *now = settings_json(p->row.settings);
        if (now == NULL)
            return error_set(err, AMX_NO_MEMORY, "out of memory");
        bool equal = json_equal(now, b->settings) == 1;
        json_decref(now);
        if (!equal)
            return differs(p, "settings");
    }
    return AMX_OK;
}

static void put_project(struct http_request *rq)
{
    const char *name = http_param(rq, 0);
    struct project_write *p = begin(rq, NULL);
    if (p == NULL)
        return;
    struct amx_error err = {.code = AMX_OK};
    enum amx_status status = project_name_check(name, strlen(name), &err);
    if (status == AMX_OK)
        status = project_body_parse(p->body, PROJECT_BODY_PUT, &p->parsed, &err);
    if (status == AMX_OK && p->parsed.name != NULL && strcmp(p->parsed.name, name) != 0)
        status = jsonx_fail(&err, "", "name", "name is not the one of the path");
    if (status != AMX_OK) {
        refuse(rq, p, &err, status);
        return;
    }
    if (!auth_project_allowed(rq, name)) {
        write_free(&p->write);
        problem_reply_as(rq, PROBLEM_FORBIDDEN, "the token does not reach projects of this name");
        return;
    }
    (void)snprintf(p->name, sizeof p->name, "%s", name);
    p->write.apply = apply_put;
    write_submit(rq, &p->write);
}

/* ---- PATCH ---- */

static enum amx_status check_if_match(struct project_write *p)
{
    if (p->if_match[0] == '\0' || if_match_holds(p->if_match, &p->row))
        return AMX_OK;
    p->precondition = true;
    return error_set(&p->write.job.error, AMX_CONFLICT,
                     "the project has changed since; get it again and look at its ETag");
}

static enum amx_status apply_patch(struct db *db, struct write *w)
{
    struct project_write *p = (struct project_write *)w;
    struct amx_error *err = &w->job.error;
    enum amx_status status = read_row(db, p);
    if (status == AMX_OK)
        status = check_if_match(p);
    struct project_patch patch = {0};
    if (status == AMX_OK)
        status = project_patch_make(p->body, &p->row, &patch, err);
    if (status == AMX_OK && (patch.title.bytes != NULL || patch.settings.bytes != NULL))
        status = projects_update(db, p->id, patch.title, patch.settings, err);
    if (status == AMX_OK && patch.n_new_classes > 0)
        status = projects_append_classes(db, p->id, patch.new_classes, patch.n_new_classes, err);
    for (size_t i = 0; status == AMX_OK && i < patch.n_retired; i++) {
        bool is = i < p->row.n_classes && p->row.classes[i].retired;
        if (is != patch.retired[i])
            status = projects_retire_class(db, p->id, i, patch.retired[i], err);
    }
    project_patch_done(&patch);
    return status == AMX_OK ? read_row(db, p) : status;
}

static bool take_if_match(struct http_request *rq, struct project_write *p)
{
    const char *header = http_header_in(rq, "If-Match");
    if (header == NULL)
        return true;
    if (strlen(header) >= sizeof p->if_match) {
        problem_reply_as(rq, PROBLEM_INVALID_QUERY, "If-Match is too long");
        return false;
    }
    (void)snprintf(p->if_match, sizeof p->if_match, "%s", header);
    return true;
}

static void patch_project(struct http_request *rq)
{
    struct project_info *project = project_of(rq, 0);
    struct project_write *p = project != NULL ? begin(rq, project) : NULL;
    if (p == NULL)
        return;
    struct amx_error err = {.code = AMX_OK};
    enum amx_status status = project_patch_check(p->body, &err);
    if (status != AMX_OK) {
        refuse(rq, p, &err, status);
        return;
    }
    if (!take_if_match(rq, p)) {
        write_free(&p->write);
        return;
    }
    if (p->if_match[0] == '\0') {
        write_free(&p->write);
        problem_reply_as(rq, PROBLEM_PRECONDITION_NEEDED,
                         "PATCH wants If-Match with the ETag of the project you looked at");
        return;
    }
    (void)snprintf(p->name, sizeof p->name, "%s", project->name);
    p->id = project->id;
    p->write.apply = apply_patch;
    write_submit(rq, &p->write);
}

/* ---- DELETE ---- */

static enum amx_status apply_delete(struct db *db, struct write *w)
{
    struct project_write *p = (struct project_write *)w;
    enum amx_status status = AMX_OK;
    if (p->if_match[0] != '\0') {
        status = read_row(db, p);
        if (status == AMX_OK)
            status = check_if_match(p);
    }
    return status == AMX_OK ? projects_delete(db, p->id, &w->job.error) : status;
}

static enum amx_status compose_delete(struct write *w)
{
    w->reply.status = 204;
    return AMX_OK;
}

static void committed_delete(struct write *w)
{
    struct project_write *p = (struct project_write *)w;
    catalog_remove(w->service->catalog, p->id);
    trainers_project_deleted(w->service->trainers, p->id);
    snapshots_changed(w->service->snapshots, p->id);
}

static void delete_project(struct http_request *rq)
{
    static const char *const none[] = {NULL};
    struct project_info *project = http_query_only(rq, none) ? project_of(rq, 0) : NULL;
    struct project_write *p = project != NULL ? write_new(rq, sizeof *p, project) : NULL;
    if (p == NULL)
        return;
    p->write.free_owner = free_project;
    if (!take_if_match(rq, p)) {
        write_free(&p->write);
        return;
    }
    p->id = project->id;
    p->write.apply = apply_delete;
    p->write.compose = compose_delete;
    p->write.committed = committed_delete;
    p->write.failed = failed_project;
    write_submit(rq, &p->write);
}

static const char *const takes_json[] = {"application/json", NULL};
static const char *const takes_patch[] = {"application/merge-patch+json", "application/json", NULL};

const struct http_route projects_routes[] = {
    {.method = "GET", .pattern = "/v1/projects", .scope = SCOPE_READ, .finish = list_projects},
    {.method = "POST",
     .pattern = "/v1/projects",
     .scope = SCOPE_WRITE,
     .media_types = takes_json,
     .finish = post_project},
    {.method = "GET", .pattern = "/v1/projects/{p}", .scope = SCOPE_READ, .finish = get_project},
    {.method = "PUT",
     .pattern = "/v1/projects/{p}",
     .scope = SCOPE_WRITE,
     .media_types = takes_json,
     .finish = put_project},
    {.method = "PATCH",
     .pattern = "/v1/projects/{p}",
     .scope = SCOPE_WRITE,
     .media_types = takes_patch,
     .finish = patch_project},
    {.method = "DELETE", .pattern = "/v1/projects/{p}", .scope = SCOPE_WRITE, .finish = delete_project},
    {0},
};
