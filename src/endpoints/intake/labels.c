/* labels.c - POST labels (one or many), the list and change feed, DELETE.
 *
 * A single label is the hottest write of the program: no database read and no JSON tree in the HTTP thread, one struct
 * and one small arena, the answer written from what the writer learned anyway.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "endpoints/auth.h"
#include "endpoints/intake/bulk.h"
#include "endpoints/page.h"
#include "endpoints/write.h"
#include "store/labels.h"
#include "util/clock.h"
#include "util/error.h"
#include "util/jsonx.h"
#include "util/numbers.h"
#include "util/utf8.h"
#include "work/metrics.h"
#include "work/runs/trainers.h"

static const char *const post_query[] = {"atomic", "create_instances", NULL};

/* ---- into the store ---- */

static struct label_put put_of(const struct label_in *row, bool create_instances)
{
    return (struct label_put){.instance = row->instance,
                              .annotator = row->annotator,
                              .class_index = row->skipped ? LABEL_SKIPPED : row->class_index,
                              .ref = row->ref,
                              .given_ms = row->given_at_ms,
                              .duration_ms = row->duration_ms,
                              .create_instance = create_instances};
}

static enum bulk_outcome bulk_outcome_of(enum label_outcome outcome)
{
    switch (outcome) {
    case LABEL_CREATED:
        return BULK_CREATED;
    case LABEL_UNCHANGED:
        return BULK_UNCHANGED;
    case LABEL_REPLACED:
    case LABEL_LATE:
        break;
    }
    return BULK_UPDATED;
}

static enum amx_status bulk_label_json(struct row_context *c, struct scan *s, struct arena *a, struct bulk_row *row,
                                       struct amx_error *err)
{
    return row_label_json(c, s, "", a, &row->as.label, err);
}

/* What the store refuses a label for lies in one of two fields. */
static void point_at(enum amx_status status, struct amx_error *err)
{
    if (err->pointer[0] == '\0' && (status == AMX_NOT_FOUND || status == AMX_CONFLICT))
        (void)snprintf(err->pointer, sizeof err->pointer, "%s", status == AMX_NOT_FOUND ? "/instance" : "/ref");
}

static enum amx_status bulk_label_apply(struct changes *ch, struct bulk *b, struct bulk_row *row, struct amx_error *err)
{
    struct label_put put = put_of(&row->as.label, b->create_instances);
    enum amx_status status = labels_put_soon(ch, &put, &row->label, err);
    if (status != AMX_OK)
        point_at(status, err);
    return status;
}

static void bulk_label_settled(struct bulk_row *row)
{
    row->outcome = bulk_outcome_of(row->label.outcome);
    row->labels = 1;
    row->changed = row->label.outcome != LABEL_UNCHANGED;
}

static const struct bulk_kind labels_kind = {
    .id = BULK_LABELS,
    .member = "labels",
    .json = bulk_label_json,
    .apply = bulk_label_apply,
    .settled = bulk_label_settled,
};

/* ---- one label ---- */

struct label_write {
    struct write write;
    struct row_context context;
    struct arena arena;
    struct label_in row;
    bool create_instances, may_read;
    struct label_result result;
    int64_t model; /* number of the active one; 0 = none, or not to be shown */
    bool project_gone;
};

static void free_label(struct write *w)
{
    arena_done(&((struct label_write *)w)->arena);
}

/* One of them. Its own refusal is its status; what is returned concerns all. */
static enum amx_status put_label(struct changes *ch, struct label_write *l)
{
    struct write_job *job = &l->write.job;
    struct label_put put = put_of(&l->row, l->create_instances);
    job->status = labels_put_soon(ch, &put, &l->result, &job->error);
    if (job->status == AMX_OK && l->may_read)
        l->model = ch->active_model;
    if (job->status != AMX_NOT_FOUND && job->status != AMX_CONFLICT)
        return job->status;
    point_at(job->status, &job->error);
    return AMX_OK;
}

/* The project's row is read and written once, and so are those of the annotators; the labels go in by few statements. */
static enum amx_status apply_labels(struct db *db, struct write_job *first, size_t n, struct amx_error *err)
{
    struct changes ch;
    struct amx_error why = {.code = AMX_OK};
    enum amx_status status = changes_begin(db, first->project_id, clock_wall_ms(), &ch, &why);
    bool gone = status == AMX_NOT_FOUND;
    struct write_job *job = first;
    for (size_t i = 0; i < n && (gone || status == AMX_OK); i++, job = job->next) {
        struct label_write *l = (struct label_write *)write_of_job(job);
        l->project_gone = gone;
        if (gone) {
            job->status = AMX_NOT_FOUND;
            job->error = why;
        } else if ((status = put_label(&ch, l)) != AMX_OK) {
            why = job->error;
        }
    }
    if (status == AMX_OK)
        status = changes_flush(&ch, &why);
    if (gone)
        return AMX_OK;
    if (status != AMX_OK && err != NULL)
        *err = why;
    return status;
}

static enum amx_status apply_label(struct db *db, struct write *w)
{
    enum amx_status status = apply_labels(db, &w->job, 1, &w->job.error);
    return status == AMX_OK ? w->job.status : status;
}

static void write_string_or_null(struct buf *out, const char *key, struct slice text)
{
    buf_text(out, key);
    if (text.bytes == NULL)
        buf_text(out, "null");
    else
        jsonx_write_string(out, text.bytes, text.n);
}

static void write_number(struct buf *out, const char *key, int64_t value)
{
    char text[NUMBER_TEXT_BYTES];
    size_t n = number_int_text(value, text);
    buf_text(out, key);
    buf_append(out, text, n);
}

static struct slice class_name(const struct project_info *project, int index)
{
    if (index < 0 || (size_t)index >= project->n_classes)
        return (struct slice){NULL, 0};
    return (struct slice){project->classes[index], strlen(project->classes[index])};
}

static enum amx_status compose_label(struct write *w)
{
    struct label_write *l = (struct label_write *)w;
    const struct label_result *r = &l->result;
    struct slice replaces = {NULL, 0};
    if (l->may_read && r->replaces)
        replaces = class_name(w->project, r->replaces_class);
    struct buf out = BUF_INIT(16384);
    char time[CLOCK_TEXT_BYTES];
    write_string_or_null(&out, "{\"instance\":", l->row.instance);
    write_string_or_null(&out, ",\"annotator\":", l->row.annotator);
    write_string_or_null(&out, ",\"class\":", class_name(w->project, l->row.skipped ? -1 : l->row.class_index));
    write_string_or_null(&out, ",\"ref\":", l->row.ref);
    buf_text(&out, ",\"given_at\":\"");
    buf_text(&out, clock_text(r->given_ms, time));
    write_number(&out, "\",\"seq\":", r->seq);
    write_string_or_null(&out, ",\"replaces\":", replaces);
    buf_text(&out, r->outcome == LABEL_LATE ? ",\"superseded\":true" : ",\"superseded\":false");
    buf_text(&out, r->outcome == LABEL_UNCHANGED ? ",\"unchanged\":true" : ",\"unchanged\":false");
    if (l->model > 0)
        write_number(&out, ",\"p_correct\":null,\"model\":", l->model);
    else
        buf_text(&out, ",\"p_correct\":null,\"model\":null");
    buf_char(&out, '}');
    w->reply.body = buf_take(&out, &w->reply.n_body);
    buf_done(&out);
    w->reply.status = r->outcome == LABEL_CREATED ? 201 : 200;
    return w->reply.body != NULL ? AMX_OK : AMX_NO_MEMORY;
}

static void committed_label(struct write *w)
{
    struct label_write *l = (struct label_write *)w;
    metrics_labels_accepted(w->service->metrics, 1);
    if (l->result.outcome != LABEL_UNCHANGED)
        trainers_labels_written(w->service->trainers, w->project->id, 1);
}

static void failed_label(struct http_request *rq, struct write *w)
{
    struct label_write *l = (struct label_write *)w;
    enum problem problem = problem_of_status(w->job.status);
    if (w->job.status == AMX_NOT_FOUND)
        problem = l->project_gone ? PROBLEM_UNKNOWN_PROJECT : PROBLEM_UNKNOWN_INSTANCE;
    if (problem != PROBLEM_UNKNOWN_PROJECT)
        metrics_labels_rejected(w->service->metrics, problem_slug(problem), 1);
    problem_reply_error(rq, problem, &w->job.error);
}

/* The body has an error of meaning; if it is not even JSON, that is said instead. */
static void refuse_label(struct http_request *rq, struct label_write *l, enum amx_status status, struct amx_error *err)
{
    size_t n;
    const char *body = http_body(rq, &n);
    struct scan s;
    struct amx_error grammar;
    enum problem problem = status == AMX_INVALID ? l->context.problem : problem_of_status(status);
    scan_init(&s, body, n);
    if (status == AMX_INVALID && problem != PROBLEM_MALFORMED_BODY && !(scan_skip(&s) && scan_done(&s))) {
        problem = PROBLEM_MALFORMED_BODY;
        scan_error(&s, &grammar);
        err = &grammar;
    } else if (status == AMX_INVALID && s.not_finite) { /* NaN is no JSON either; err has its place */
        problem = PROBLEM_MALFORMED_BODY;
    }
    metrics_labels_rejected(l->write.service->metrics, problem_slug(problem), 1);
    write_free(&l->write);
    problem_reply_error(rq, problem, err);
}

static void post_one(struct http_request *rq, const char *body, size_t n)
{
    bool create;
    bool atomic; /* one label always is */
    if (!http_query_only(rq, post_query) || !http_query_bool(rq, "atomic", true, &atomic))
        return;
    struct project_info *project = project_of(rq, 0);
    if (project == NULL)
        return;
    if (!http_query_bool(rq, "create_instances", project->feature_dim == 0, &create)) {
        project_unref(project);
        return;
    }
    struct label_write *l = write_new(rq, sizeof *l, project);
    if (l == NULL)
        return;
    l->write.free_owner = free_label;
    l->create_instances = create;
    l->may_read = auth_has(rq, SCOPE_READ);
    l->context.project = project;
    l->context.bound = auth_annotator(rq, l->context.annotator);
    struct amx_error err = {.code = AMX_OK};
    struct scan s;
    scan_init(&s, body, n);
    enum amx_status status = row_label_json(&l->context, &s, "", &l->arena, &l->row, &err);
    if (status == AMX_OK && !scan_done(&s)) {
        l->context.problem = PROBLEM_MALFORMED_BODY;
        status = scan_error(&s, &err);
    }
    if (status != AMX_OK) {
        refuse_label(rq, l, status, &err);
        return;
    }
    l->write.apply = apply_label;
    l->write.together = apply_labels;
    l->write.compose = compose_label;
    l->write.committed = committed_label;
    l->write.failed = failed_label;
    l->write.is_small = true;
    write_submit(rq, &l->write);
}

/* A root object with the member "labels" is bulk; grammar does not matter here, it is checked by whoever reads on. */
static bool is_bulk(const char *body, size_t n)
{
    struct scan s;
    struct scan_text key;
    size_t members = 0;
    scan_init(&s, body, n);
    if (scan_peek(&s) != SCAN_OBJECT)
        return false;
    while (scan_member(&s, &members, &key) == 1) {
        if (scan_is(&key, "labels"))
            return true;
        if (!scan_skip(&s))
            return false;
    }
    return false;
}

static void start_labels(struct http_request *rq)
{
    if (strcmp(http_media_type(rq), "application/json") != 0)
        (void)bulk_open(rq, &labels_kind, post_query, true); /* NULL: it has replied */
}

static void finish_labels(struct http_request *rq)
{
    if (strcmp(http_media_type(rq), "application/json") != 0) {
        bulk_finish(rq);
        return;
    }
    size_t n;
    const char *body = http_body(rq, &n);
    if (n == 0)
        problem_reply_as(rq, PROBLEM_MALFORMED_BODY, "the body is empty; JSON is expected");
    else if (!utf8_valid(body, n))
        problem_reply_as(rq, PROBLEM_MALFORMED_BODY, "the body is not valid UTF-8");
    else if (is_bulk(body, n))
        bulk_json(rq, &labels_kind, post_query);
    else
        post_one(rq, body, n);
}

/* ---- GET: list and change feed ---- */

struct listing {
    json_t *items;
    const struct project_info *project;
    int64_t last;
};

static json_t *slice_or_null(struct slice text)
{
    return text.bytes != NULL ? json_text(text.bytes, text.n) : json_null();
}

static enum amx_status list_one(void *context, const struct label_row *row)
{
    struct listing *l = context;
    json_t *item = json_object();
    if (item == NULL || !json_put(item, "instance", json_text(row->instance.bytes, row->instance.n)) ||
        !json_put(item, "annotator", json_text(row->annotator.bytes, row->annotator.n)) ||
        !json_put(item, "class", slice_or_null(class_name(l->project, row->class_index))) ||
        !json_put(item, "ref", slice_or_null(row->ref)) || !json_put(item, "given_at", json_time(row->given_ms)) ||
        !json_put(item, "duration_ms", row->duration_ms >= 0 ? json_integer(row->duration_ms) : json_null()) ||
        !json_put(item, "seq", json_integer(row->seq)) || !json_put(item, "skipped", json_boolean(row->skipped)) ||
        !json_put(item, "superseded", json_boolean(row->state == LABEL_SUPERSEDED)) ||
        !json_put(item, "deleted", json_boolean(row->state == LABEL_TOMBSTONE))) {
        json_decref(item);
        return AMX_NO_MEMORY;
    }
    l->last = row->seq;
    return json_array_append_new(l->items, item) == 0 ? AMX_OK : AMX_NO_MEMORY;
}

static struct slice query_slice(struct http_request *rq, const char *name)
{
    const char *text = http_query(rq, name);
    return text != NULL ? (struct slice){text, strlen(text)} : (struct slice){NULL, 0};
}

/* A token that is bound to one annotator sees its labels only; so must one that may not read. */
static bool restrict_to_own(struct http_request *rq, char own[NAME_MAX_BYTES + 1], struct label_filter *filter)
{
    bool bound = auth_annotator(rq, own);
    if (!bound && auth_has(rq, SCOPE_READ))
        return true;
    if (!bound) {
        problem_reply_as(rq, PROBLEM_FORBIDDEN,
                         "reading labels needs the scope read, or a token bound to an annotator");
        return false;
    }
    if (filter->annotator.bytes != NULL && strcmp(filter->annotator.bytes, own) != 0) {
        problem_reply_as(rq, PROBLEM_FORBIDDEN, "this token reads the labels of one annotator only");
        return false;
    }
    filter->annotator = (struct slice){own, strlen(own)};
    return true;
}

static void list_labels(struct http_request *rq)
{
    static const char *const filters[] = {"instance", "annotator", "ref", "after_seq", "history", NULL};
    struct page page;
    int64_t after;
    char own[NAME_MAX_BYTES + 1];
    struct label_filter filter = {.instance = query_slice(rq, "instance"),
                                  .annotator = query_slice(rq, "annotator"),
                                  .ref = query_slice(rq, "ref")};
    if (!page_parse(rq, filters, &page) || !http_query_int(rq, "after_seq", 0, INT64_MAX, 0, &after) ||
        !http_query_bool(rq, "history", false, &filter.history) || !restrict_to_own(rq, own, &filter))
        return;
    filter.tombstones = http_query(rq, "after_seq") != NULL;
    struct project_info *project = project_of(rq, 0);
    if (project == NULL)
        return;
    struct db *db = reader_of(rq);
    if (db == NULL) {
        project_unref(project);
        return;
    }
    struct listing l = {.items = json_array(), .project = project};
    struct amx_error err = {.code = AMX_OK};
    bool more = false;
    enum amx_status status = l.items == NULL
                                 ? error_set(&err, AMX_NO_MEMORY, "out of memory")
                                 : labels_list(db, project->id, &filter, page.continued ? page.after : after,
                                               page.limit, list_one, &l, &more, &err);
    reader_done(rq, db);
    project_unref(project);
    if (status != AMX_OK) {
        json_decref(l.items);
        err.code = status;
        problem_reply(rq, &err);
        return;
    }
    http_reply_json(rq, 200, page_envelope(&page, l.items, more, l.last));
}

/* ---- DELETE ---- */

struct label_delete {
    struct write write;
    char instance[NAME_MAX_BYTES + 1], annotator[NAME_MAX_BYTES + 1], ref[NAME_MAX_BYTES + 1];
    char own[NAME_MAX_BYTES + 1]; /* annotator the token is bound to; "" = none */
    bool forbidden;
};

static struct slice text_of(const char *text)
{
    return (struct slice){text, strlen(text)};
}

static enum amx_status check_owner(void *context, const struct label_row *row)
{
    struct label_delete *d = context;
    d->forbidden = strcmp(row->annotator.bytes, d->own) != 0;
    return AMX_OK;
}

static enum amx_status apply_delete(struct db *db, struct write *w)
{
    struct label_delete *d = (struct label_delete *)w;
    struct amx_error *err = &w->job.error;
    struct changes ch;
    enum amx_status status = changes_begin(db, w->project->id, clock_wall_ms(), &ch, err);
    if (status != AMX_OK)
        return status;
    if (d->ref[0] == '\0') {
        status = labels_delete(&ch, text_of(d->instance), text_of(d->annotator), err);
    } else {
        struct label_filter filter = {.ref = text_of(d->ref)};
        bool more;
        if (d->own[0] != '\0')
            status = labels_list(db, w->project->id, &filter, 0, 1, check_owner, d, &more, err);
        if (status == AMX_OK && d->forbidden)
            return error_set(err, AMX_CONFLICT, "this token deletes the labels of one annotator only");
        if (status == AMX_OK)
            status = labels_delete_ref(&ch, text_of(d->ref), err);
    }
    return status == AMX_OK ? changes_flush(&ch, err) : status;
}

static enum amx_status compose_delete(struct write *w)
{
    w->reply.status = 204;
    return AMX_OK;
}

static void failed_delete(struct http_request *rq, struct write *w)
{
    struct label_delete *d = (struct label_delete *)w;
    problem_reply_error(rq, d->forbidden ? PROBLEM_FORBIDDEN : problem_of_status(w->job.status), &w->job.error);
}

/* Copies a query value that is a name; false: it has replied. */
static bool take_name(struct http_request *rq, const char *name, char out[NAME_MAX_BYTES + 1])
{
    const char *text = http_query(rq, name), *why;
    if (text == NULL)
        return true;
    if (!name_valid(text, strlen(text), &why)) {
        problem_reply_as(rq, PROBLEM_INVALID_QUERY, "%s %s", name, why);
        return false;
    }
    memcpy(out, text, strlen(text) + 1);
    return true;
}

static void delete_label(struct http_request *rq)
{
    static const char *const query[] = {"instance", "annotator", "ref", NULL};
    struct project_info *project = http_query_only(rq, query) ? project_of(rq, 0) : NULL;
    struct label_delete *d = project != NULL ? write_new(rq, sizeof *d, project) : NULL;
    if (d == NULL)
        return;
    if (!take_name(rq, "instance", d->instance) || !take_name(rq, "annotator", d->annotator) ||
        !take_name(rq, "ref", d->ref)) {
        write_free(&d->write);
        return;
    }
    bool pair = d->instance[0] != '\0' && d->annotator[0] != '\0',
         part = d->instance[0] != '\0' || d->annotator[0] != '\0';
    bool by_ref = d->ref[0] != '\0';
    if ((by_ref && part) || (!by_ref && !pair)) {
        write_free(&d->write);
        problem_reply_as(rq, PROBLEM_INVALID_QUERY, "name the label by ?instance= and ?annotator=, or by ?ref= alone");
        return;
    }
    if (auth_annotator(rq, d->own) && !by_ref && strcmp(d->own, d->annotator) != 0) {
        write_free(&d->write);
        problem_reply_as(rq, PROBLEM_FORBIDDEN, "this token deletes the labels of one annotator only");
        return;
    }
    d->write.apply = apply_delete;
    d->write.compose = compose_delete;
    d->write.failed = failed_delete;
    write_submit(rq, &d->write);
}

static const char *const takes_labels[] = {"application/json", "application/x-ndjson", "text/csv", NULL};

const struct http_route labels_routes[] = {
    {.method = "POST",
     .pattern = "/v1/projects/{p}/labels",
     .scope = SCOPE_SUBMIT,
     .media_types = takes_labels,
     .start = start_labels,
     .body = bulk_body,
     .finish = finish_labels},
    {.method = "GET", .pattern = "/v1/projects/{p}/labels", .scope = SCOPE_SUBMIT | SCOPE_READ, .finish = list_labels},
    {.method = "DELETE", .pattern = "/v1/projects/{p}/labels", .scope = SCOPE_SUBMIT, .finish = delete_label},
    {0},
};
