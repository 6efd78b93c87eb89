/* instances.c - POST instances (always bulk), list with filters, one, DELETE. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "endpoints/auth.h"
#include "endpoints/derived/consensus_items.h"
#include "endpoints/ids.h"
#include "endpoints/intake/bulk.h"
#include "endpoints/intake/instance_answer.h"
#include "endpoints/page.h"
#include "endpoints/write.h"
#include "store/instances.h"
#include "store/labels.h"
#include "util/clock.h"
#include "util/digest.h"
#include "util/error.h"
#include "util/jsonx.h"

/* Rows looked at for one page of ?resolved= or ?disputed=: bounds the work of a GET that finds few. */
enum {
    LOOKED_AT_MOST = 5000
};

/* ---- POST ---- */

static enum amx_status bulk_instance_json(struct row_context *c, struct scan *s, struct arena *a, struct bulk_row *row,
                                          struct amx_error *err)
{
    return row_instance_json(c, s, a, &row->as.instance, err);
}

static struct slice bulk_instance_key(const struct bulk_row *row)
{
    return row->as.instance.id;
}

/* Is the ref free for this label? The store would find out too, but only when half of the row is written. */
struct ref_check {
    const struct label_in *label;
    bool taken;
};

static enum amx_status look_at_ref(void *context, const struct label_row *row)
{
    struct ref_check *check = context;
    const struct label_in *label = check->label;
    check->taken = row->instance.n != label->instance.n || row->annotator.n != label->annotator.n ||
                   memcmp(row->instance.bytes, label->instance.bytes, label->instance.n) != 0 ||
                   memcmp(row->annotator.bytes, label->annotator.bytes, label->annotator.n) != 0;
    return AMX_OK;
}

static bool ref_twice(const struct instance_in *in, size_t i)
{
    for (size_t j = 0; j < i; j++)
        if (in->labels[j].ref.bytes != NULL && in->labels[j].ref.n == in->labels[i].ref.n &&
            memcmp(in->labels[j].ref.bytes, in->labels[i].ref.bytes, in->labels[i].ref.n) == 0)
            return true;
    return false;
}

static enum amx_status check_refs(struct changes *ch, const struct instance_in *in, struct amx_error *err)
{
    for (size_t i = 0; i < in->n_labels; i++) {
        if (in->labels[i].ref.bytes == NULL)
            continue;
        struct ref_check check = {.label = &in->labels[i], .taken = ref_twice(in, i)};
        struct label_filter filter = {.ref = in->labels[i].ref};
        bool more;
        enum amx_status status = labels_list(ch->db, ch->project_id, &filter, 0, 1, look_at_ref, &check, &more, err);
        if (status != AMX_OK)
            return status;
        if (check.taken) {
            error_set(err, AMX_CONFLICT, "this ref belongs to another label");
            (void)snprintf(err->pointer, sizeof err->pointer, "/labels/%zu/ref", i);
            return AMX_CONFLICT;
        }
    }
    return AMX_OK;
}

static enum amx_status put_labels(struct changes *ch, struct bulk_row *row, int64_t instance_id, struct amx_error *err)
{
    const struct instance_in *in = &row->as.instance;
    for (size_t i = 0; i < in->n_labels; i++) {
        const struct label_in *label = &in->labels[i];
        struct label_put put = {.instance = in->id,
                                .instance_id = instance_id,
                                .annotator = label->annotator,
                                .class_index = label->skipped ? LABEL_SKIPPED : label->class_index,
                                .ref = label->ref,
                                .given_ms = label->given_at_ms,
                                .duration_ms = label->duration_ms};
        struct label_result result;
        enum amx_status status = labels_put(ch, &put, &result, err);
        if (status != AMX_OK)
            return status;
        row->labels++;
        row->changed += result.outcome != LABEL_UNCHANGED;
    }
    return AMX_OK;
}

static enum amx_status bulk_instance_apply(struct changes *ch, struct bulk *b, struct bulk_row *row,
                                           struct amx_error *err)
{
    (void)b; /* nothing of the request matters here */
    const struct instance_in *in = &row->as.instance;
    enum amx_status status = check_refs(ch, in, err);
    if (status != AMX_OK)
        return status;
    struct instance_put put = {.name = in->id,
                               .features = ch->feature_dim > 0 ? in->features : NULL,
                               .split = in->split,
                               .metadata = in->metadata,
                               .gold_class = in->gold};
    if (in->n_labels == 0)
        return instances_put_soon(ch, &put, &row->put, &row->instance_id, err);
    status = instances_put(ch, &put, &row->put, &row->instance_id, err);
    return status == AMX_OK ? put_labels(ch, row, row->instance_id, err) : status;
}

static void bulk_instance_settled(struct bulk_row *row)
{
    row->outcome = row->put == PUT_CREATED ? BULK_CREATED : BULK_UPDATED;
}

static const struct bulk_kind instances_kind = {
    .id = BULK_INSTANCES,
    .member = "instances",
    .json = bulk_instance_json,
    .key = bulk_instance_key,
    .apply = bulk_instance_apply,
    .settled = bulk_instance_settled,
};

static const char *const post_query[] = {"atomic", NULL};
static const char *const npy_query[] = {"atomic", "id_prefix", "split", NULL};

/* Instances are big and can wait; what is left of the disk is for labels. */
static void start_instances(struct http_request *rq)
{
    if (service_disk_is_low(service_of(rq))) {
        problem_reply_as(rq, PROBLEM_DISK_FULL,
                         "Less than the disk reserve (%zu bytes) is free: new instances are refused, labels are taken.",
                         service_of(rq)->config.disk_reserve_bytes);
        return;
    }
    const char *type = http_media_type(rq);
    if (strcmp(type, "application/json") != 0)
        (void)bulk_open(rq, &instances_kind, strcmp(type, "application/x-npy") == 0 ? npy_query : post_query,
                        true); /* NULL: it has replied */
}

static void finish_instances(struct http_request *rq)
{
    if (strcmp(http_media_type(rq), "application/json") == 0)
        bulk_json(rq, &instances_kind, post_query);
    else
        bulk_finish(rq);
}

/* ---- GET one, and several by ?id= ---- */

static unsigned parts_of(const struct instance_view *view)
{
    return INSTANCES_METADATA | (view->features ? (unsigned)INSTANCES_FEATURES : 0U);
}

static void reply_text(struct http_request *rq, const struct project_info *project, struct buf *out)
{
    size_t n;
    char *text = buf_take(out, &n);
    if (text == NULL) {
        problem_reply_as(rq, PROBLEM_NO_MEMORY, "out of memory");
        return;
    }
    struct digest d;
    uint8_t sha[DIGEST_BYTES];
    char hex[DIGEST_HEX_BYTES], etag[40];
    digest_init(&d);
    digest_add_sized(&d, project->uid, strlen(project->uid));
    digest_add_sized(&d, text, n);
    digest_finish(&d, sha);
    (void)snprintf(etag, sizeof etag, "\"%.32s\"", digest_hex(sha, hex));
    if (http_reply_if_unchanged(rq, etag))
        free(text);
    else
        http_reply(rq, 200, "application/json", text, n, free);
}

static void get_instance(struct http_request *rq)
{
    static const char *const query[] = {"features", NULL};
    const char *name = http_param(rq, 1);
    struct instance_view view = {.gold = auth_has(rq, SCOPE_GOLD)};
    if (!http_query_only(rq, query) || !http_query_bool(rq, "features", false, &view.features))
        return;
    struct project_info *project = project_of(rq, 0);
    struct db *db = project != NULL ? reader_of(rq) : NULL;
    if (db == NULL) {
        project_unref(project);
        return;
    }
    view.project = project;
    struct instance_row row;
    struct buf out = BUF_INIT(SIZE_MAX / 2);
    struct amx_error err = {.code = AMX_OK};
    enum amx_status status =
        instances_find(db, project->id, (struct slice){name, strlen(name)}, parts_of(&view), &row, &err);
    bool found = status == AMX_OK;
    if (found) {
        status = instance_write_one(&out, db, &view, &row, &err);
        instance_row_done(&row);
    }
    reader_done(rq, db);
    if (!found && status == AMX_NOT_FOUND) {
        problem_reply_as(rq, PROBLEM_UNKNOWN_INSTANCE, "there is no such instance in the project");
    } else if (status != AMX_OK) {
        err.code = status;
        problem_reply(rq, &err);
    } else {
        reply_text(rq, project, &out);
    }
    buf_done(&out);
    project_unref(project);
}

static enum amx_status item_by_name(struct db *db, void *context, struct slice name, struct buf *item,
                                    struct amx_error *err)
{
    const struct instance_view *view = context;
    struct instance_row row;
    enum amx_status status = instances_find(db, view->project->id, name, parts_of(view), &row, err);
    if (status != AMX_OK)
        return status;
    instance_write_summary(item, view, &row);
    instance_row_done(&row);
    return item->status;
}

/* ---- GET list ---- */

struct listing {
    struct instance_view view;
    struct model_snapshot *active; /* with ?resolved= or ?disputed=: whose consensus counts; NULL: the votes' */
    struct instance_filter filter;
    int resolved, disputed; /* -1 any, 0, 1 */
    struct page page;
    struct db *db;
    struct buf out;
    size_t n;
    int64_t last; /* last row looked at */
    struct amx_error *err;
};

/* ?name=true|false -> 1, 0; absent -> -1. False: it has replied. */
static bool query_tri(struct http_request *rq, const char *name, int *out)
{
    bool value;
    *out = -1;
    if (http_query(rq, name) == NULL)
        return true;
    if (!http_query_bool(rq, name, false, &value))
        return false;
    *out = value;
    return true;
}

static bool parse_filters(struct http_request *rq, struct listing *l)
{
    static const char *const filters[] = {
        "id", "split", "unlabelled", "disputed", "resolved", "has_gold", "awaiting_features", "features", NULL};
    int unlabelled;
    l->filter = (struct instance_filter)INSTANCE_FILTER_ALL;
    const char *split = http_query(rq, "split");
    if (!page_parse(rq, filters, &l->page) || !query_tri(rq, "unlabelled", &unlabelled) ||
        !query_tri(rq, "disputed", &l->disputed) || !query_tri(rq, "resolved", &l->resolved) ||
        !query_tri(rq, "has_gold", &l->filter.has_gold) ||
        !query_tri(rq, "awaiting_features", &l->filter.awaiting_features) ||
        !http_query_bool(rq, "features", false, &l->view.features))
        return false;
    if (split != NULL && !split_parse(split, strlen(split), &l->filter.split)) {
        problem_reply_as(rq, PROBLEM_INVALID_QUERY, "split is none of train, valid, test");
        return false;
    }
    if (l->filter.has_gold >= 0 && !l->view.gold) {
        problem_reply_as(rq, PROBLEM_FORBIDDEN, "?has_gold= needs the scope gold");
        return false;
    }
    l->filter.labelled = unlabelled < 0 ? -1 : !unlabelled;
    return true;
}

static enum amx_status write_listed(struct listing *l, const struct instance_row *row)
{
    if (l->n > 0)
        buf_char(&l->out, ',');
    instance_write_summary(&l->out, &l->view, row);
    l->n++;
    l->last = row->id;
    return l->out.status;
}

/* Items are summaries; a page that is full ends the walk when the next match comes, so that there is a next page. */
static enum amx_status list_one(void *context, const struct instance_row *row)
{
    struct listing *l = context;
    if (l->resolved >= 0 || l->disputed >= 0) {
        struct instance_votes votes;
        enum amx_status status = instance_votes(l->db, l->view.project, row, &votes, l->err);
        if (status != AMX_OK)
            return status;
        if ((l->resolved >= 0 && votes.resolved != (l->resolved == 1)) ||
            (l->disputed >= 0 && votes.disputed != (l->disputed == 1))) {
            l->last = row->id;
            return AMX_OK;
        }
        if (l->n == l->page.limit)
            return AMX_CANCELLED;
    }
    return write_listed(l, row);
}

/* One block after *after; items that pass go out until the page is full. */
static enum amx_status list_block(struct listing *l, struct consensus_items *items, int64_t *after, bool *more,
                                  struct amx_error *err)
{
    instance_batch_clear(&items->batch);
    enum amx_status status = instance_batch_read(l->db, l->view.project->id, &l->filter, after, items->block,
                                                 &items->batch, more, err);
    if (status == AMX_OK)
        status = consensus_items_compute(items, l->db, err);
    for (size_t i = 0; status == AMX_OK && i < items->batch.n; i++) {
        struct instance_row row;
        bool passes = consensus_items_pass(items, i, l->resolved, l->disputed, 0);
        if (passes && l->n == l->page.limit) {
            *more = true;
            return AMX_OK;
        }
        l->last = items->batch.rows[i].id;
        if (!passes)
            continue;
        status = instances_get(l->db, l->view.project->id, l->last, parts_of(&l->view), &row, err);
        if (status == AMX_OK) {
            status = write_listed(l, &row);
            instance_row_done(&row);
        }
    }
    return status;
}

/* By the consensus of the active model. In sample it is not known what is resolved: nothing is listed. */
static enum amx_status walk_by_model(struct listing *l, const struct model_snapshot *active, bool *more,
                                     struct amx_error *err)
{
    struct consensus_items items = {.project = l->view.project, .may_gold = l->view.gold};
    int64_t after = l->page.continued ? l->page.after : 0;
    if (active->model != NULL && active->info.folds < 2)
        return AMX_OK;
    consensus_items_use(&items, active);
    enum amx_status status = consensus_items_init(&items, err);
    *more = true;
    for (size_t looked = 0; status == AMX_OK && *more && l->n < l->page.limit && looked < LOOKED_AT_MOST;) {
        status = list_block(l, &items, &after, more, err);
        looked += items.batch.n;
    }
    consensus_items_done(&items);
    return status;
}

static enum amx_status walk(struct listing *l, bool *more, struct amx_error *err)
{
    bool derived = l->resolved >= 0 || l->disputed >= 0;
    int64_t project_id = l->view.project->id;
    *more = false;
    if (l->active != NULL)
        return walk_by_model(l, l->active, more, err);
    enum amx_status status =
        instances_list(l->db, project_id, &l->filter, l->page.continued ? l->page.after : 0,
                       derived ? LOOKED_AT_MOST : l->page.limit, parts_of(&l->view), list_one, l, more, err);
    if (status == AMX_CANCELLED) {
        *more = true;
        return AMX_OK;
    }
    return status;
}

/* The active model, if what is asked for follows from it. Before a reader is taken: loading a model takes one too. */
static bool find_active(struct http_request *rq, struct listing *l)
{
    struct amx_error err = {.code = AMX_OK};
    if (l->resolved < 0 && l->disputed < 0)
        return true;
    enum amx_status status = snapshots_get(service_of(rq)->snapshots, l->view.project->id, &l->active, &err);
    if (status == AMX_OK || status == AMX_NOT_FOUND)
        return true;
    err.code = status;
    problem_reply(rq, &err);
    return false;
}

static void list_page(struct http_request *rq, struct listing *l)
{
    struct amx_error err = {.code = AMX_OK};
    bool more;
    if (!find_active(rq, l) || (l->db = reader_of(rq)) == NULL)
        return;
    l->err = &err;
    buf_init(&l->out, SIZE_MAX / 2);
    buf_text(&l->out, "{\"items\":[");
    enum amx_status status = walk(l, &more, &err);
    reader_done(rq, l->db);
    char cursor[PAGE_CURSOR_BYTES];
    if (status == AMX_OK && more)
        buf_printf(&l->out, "],\"next_cursor\":\"%s\"}", page_cursor(&l->page, l->last, cursor));
    else
        buf_text(&l->out, "],\"next_cursor\":null}");
    size_t n = 0;
    char *text = status == AMX_OK ? buf_take(&l->out, &n) : NULL;
    if (text != NULL) {
        http_reply(rq, 200, "application/json", text, n, free);
    } else {
        err.code = status != AMX_OK ? status : AMX_NO_MEMORY;
        problem_reply(rq, &err);
    }
    buf_done(&l->out);
}

static void list_instances(struct http_request *rq)
{
    struct listing l = {.view = {.gold = auth_has(rq, SCOPE_GOLD)}};
    if (!parse_filters(rq, &l))
        return;
    struct project_info *project = project_of(rq, 0);
    if (project == NULL)
        return;
    l.view.project = project;
    if (ids_asked(rq))
        ids_reply_list(rq, item_by_name, &l.view);
    else
        list_page(rq, &l);
    snapshot_unref(l.active);
    project_unref(project);
}

/* ---- DELETE ---- */

struct instances_delete {
    struct write write;
    struct ids ids;
};

static void free_delete(struct write *w)
{
    ids_done(&((struct instances_delete *)w)->ids);
}

static enum amx_status apply_delete(struct db *db, struct write *w)
{
    struct instances_delete *d = (struct instances_delete *)w;
    struct amx_error *err = &w->job.error;
    struct changes ch;
    enum amx_status status = changes_begin(db, w->project->id, clock_wall_ms(), &ch, err);
    for (size_t i = 0; status == AMX_OK && i < d->ids.n; i++) {
        status = instances_delete(&ch, d->ids.names[i], err);
        if (status == AMX_NOT_FOUND)
            error_set(err, AMX_NOT_FOUND, "there is no instance \"%.100s\" in the project; nothing was deleted",
                      d->ids.names[i].bytes);
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
    problem_reply_error(rq,
                        w->job.status == AMX_NOT_FOUND ? PROBLEM_UNKNOWN_INSTANCE : problem_of_status(w->job.status),
                        &w->job.error);
}

static void delete_instances(struct http_request *rq)
{
    struct ids ids;
    struct instances_delete *d = ids_write_new(rq, IDS_MAX, sizeof *d, &ids);
    if (d == NULL)
        return;
    d->ids = ids;
    d->write.free_owner = free_delete;
    d->write.apply = apply_delete;
    d->write.compose = compose_delete;
    d->write.failed = failed_delete;
    d->write.job.rows = ids.n;
    write_submit(rq, &d->write);
}

static const char *const takes_instances[] = {"application/json", "application/x-ndjson", "text/csv",
                                              "application/x-npy", NULL};

const struct http_route instances_routes[] = {
    {.method = "POST",
     .pattern = "/v1/projects/{p}/instances",
     .scope = SCOPE_WRITE,
     .media_types = takes_instances,
     .start = start_instances,
     .body = bulk_body,
     .finish = finish_instances},
    {.method = "GET", .pattern = "/v1/projects/{p}/instances", .scope = SCOPE_READ, .finish = list_instances},
    {.method = "DELETE", .pattern = "/v1/projects/{p}/instances", .scope = SCOPE_WRITE, .finish = delete_instances},
    {.method = "GET", .pattern = "/v1/projects/{p}/instances/{id}", .scope = SCOPE_READ, .finish = get_instance},
    {.method = "DELETE",
     .pattern = "/v1/projects/{p}/instances/{id}",
     .scope = SCOPE_WRITE,
     .finish = delete_instances},
    {0},
};
