/* predictions.c - GET .../predictions: what the active model says about the stored instances.
 *
 * JSON is paged (or, with ?id=, exactly those). CSV and NDJSON stream all of them in bounded memory: each block is one
 * short read by key, one amx_predict, text; a stream keeps the model it began with, so all its lines are of one model.
 * Instances without features are left out: there is nothing to predict from.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "endpoints/auth.h"
#include "endpoints/derived/answers.h"
#include "endpoints/derived/instance_batch.h"
#include "endpoints/page.h"
#include "endpoints/problem.h"
#include "endpoints/routes.h"
#include "store/store.h"
#include "util/csv_rows.h"
#include "util/jsonx.h"
#include "util/numbers.h"
#include "util/size.h"

enum { NUMBER_BYTES = 14, LINE_BYTES = 600 };
#define ANSWER_MAX_BYTES ((size_t)256 << 20)

/* What is read and computed block by block. */
struct work {
    struct service *service;
    struct project_info *project;
    struct model_snapshot *snapshot;
    struct instance_filter filter;
    struct instance_batch batch;
    float *p_class; /* [block][C] */
    size_t block;   /* instances at once */
    int64_t after;
    bool more;
    enum http_format format;
    bool header_written;
};

static void work_free(void *context)
{
    struct work *w = context;
    if (w != NULL) {
        instance_batch_done(&w->batch);
        free(w->p_class);
        snapshot_unref(w->snapshot);
        project_unref(w->project);
        free(w);
    }
}

/* Predicts what is in the batch (at most w->block instances). */
static enum amx_status predict_batch(struct work *w, struct amx_error *err)
{
    const struct amx_prediction out = {.p_class = w->p_class};
    return w->batch.n == 0 ? AMX_OK
                           : amx_predict(w->snapshot->model, w->batch.features, w->batch.n, NULL, 0, &out, err);
}

static void write_csv(struct buf *out, const struct work *w, size_t i)
{
    const struct amx_model_info *info = &w->snapshot->info;
    const float *p = w->p_class + i * info->n_classes;
    size_t best = answers_best(p, info->n_classes);
    char confidence[NUMBER_TEXT_BYTES];
    size_t n_confidence = number_float_text(p[best], confidence);
    answers_csv_name(out, instance_batch_name(&w->batch, i), w->batch.rows[i].n_name);
    (void)buf_char(out, ',');
    answers_csv_name(out, info->class_names[best], strlen(info->class_names[best]));
    (void)buf_char(out, ',');
    (void)buf_append(out, confidence, n_confidence);
    char *room = buf_reserve(out, info->n_classes * NUMBER_TEXT_BYTES);
    size_t n = 0;
    for (size_t k = 0; room != NULL && k < info->n_classes; k++) {
        room[n++] = ',';
        if (k == best) {
            memcpy(room + n, confidence, n_confidence);
            n += n_confidence;
        } else {
            n += number_float_text(p[k], room + n);
        }
    }
    if (room != NULL) {
        buf_grew(out, n);
    }
    (void)buf_text(out, "\r\n");
}

static void write_csv_header(struct buf *out, const struct work *w)
{
    const struct amx_model_info *info = &w->snapshot->info;
    (void)buf_text(out, "instance,class,confidence");
    for (size_t k = 0; k < info->n_classes; k++) {
        char name[NAME_MAX_BYTES + 8];
        int n = snprintf(name, sizeof name, "p_%s", info->class_names[k]);
        (void)buf_char(out, ',');
        (void)csv_rows_write_cell(out, name, (size_t)n);
    }
    (void)buf_text(out, "\r\n");
}

static void write_item(struct buf *out, const struct work *w, size_t i)
{
    const struct answers_want want = {.p_class = true};
    answers_prediction_write(out, w->snapshot, want, instance_batch_name(&w->batch, i), w->batch.rows[i].n_name,
                             w->p_class + i * w->snapshot->info.n_classes, NULL, NULL, NULL, NULL);
}

/* ---- the stream
 * ------------------------------------------------------------------------------------------------------ */

static enum http_pull pull(struct http_request *rq, void *context, struct buf *out)
{
    struct work *w = context;
    struct db *db;
    (void)rq;
    if (!w->header_written && w->format == HTTP_FORMAT_CSV) {
        write_csv_header(out, w);
    }
    w->header_written = true;
    if (!w->more) {
        return HTTP_PULL_DONE;
    }
    if (store_reader_get(w->service->store, &db, NULL) != AMX_OK) {
        return HTTP_PULL_ERROR;
    }
    instance_batch_clear(&w->batch);
    enum amx_status status =
        instance_batch_read(db, w->project->id, &w->filter, &w->after, w->block, &w->batch, &w->more, NULL);
    store_reader_put(w->service->store, db);
    if (status != AMX_OK || predict_batch(w, NULL) != AMX_OK) {
        return HTTP_PULL_ERROR;
    }
    for (size_t i = 0; i < w->batch.n; i++) {
        if (w->format == HTTP_FORMAT_CSV) {
            write_csv(out, w, i);
        } else {
            write_item(out, w, i);
            (void)buf_char(out, '\n');
        }
    }
    return w->more ? HTTP_PULL_MORE : HTTP_PULL_DONE;
}

/* ---- one page
 * -------------------------------------------------------------------------------------------------------- */

static void start_json(struct buf *out, const struct work *w)
{
    (void)buf_char(out, '{');
    answers_head_write(out, w->snapshot);
    (void)buf_text(out, ",\"items\":[");
}

static void reply_text(struct http_request *rq, struct buf *out, enum amx_status status, struct amx_error *err)
{
    size_t n;
    if (status == AMX_OK) {
        status = out->status;
    }
    if (status != AMX_OK) {
        err->code = status;
        problem_reply(rq, err);
        return;
    }
    char *bytes = buf_take(out, &n);
    if (bytes == NULL) {
        problem_reply_status(rq, AMX_NO_MEMORY);
        return;
    }
    http_reply(rq, 200, "application/json", bytes, n, free);
}

static void write_items(struct buf *out, const struct work *w, size_t *written)
{
    for (size_t i = 0; i < w->batch.n; i++, ++*written) {
        if (*written > 0) {
            (void)buf_char(out, ',');
        }
        write_item(out, w, i);
    }
}

static void reply_page(struct http_request *rq, struct work *w, const struct page *page)
{
    AUTO(buf) out = BUF_INIT(ANSWER_MAX_BYTES);
    struct amx_error err = {0};
    size_t written = 0;
    struct db *db = reader_of(rq);
    if (db == NULL) {
        return;
    }
    enum amx_status status = AMX_OK;
    w->after = page->continued ? page->after : 0;
    start_json(&out, w);
    while (status == AMX_OK && w->more && written < page->limit) {
        size_t left = page->limit - written;
        instance_batch_clear(&w->batch);
        status = instance_batch_read(db, w->project->id, &w->filter, &w->after, left < w->block ? left : w->block,
                                     &w->batch, &w->more, &err);
        if (status == AMX_OK) {
            status = predict_batch(w, &err);
        }
        if (status == AMX_OK) {
            write_items(&out, w, &written);
        }
    }
    reader_done(rq, db);
    char cursor[PAGE_CURSOR_BYTES];
    if (w->more) {
        (void)buf_printf(&out, "],\"next_cursor\":\"%s\"}", page_cursor(page, w->after, cursor));
    } else {
        (void)buf_text(&out, "],\"next_cursor\":null}");
    }
    reply_text(rq, &out, status, &err);
}

/* ?id=: in the order asked for; unknown ones, and those without features, are named in `missing`. */
static void reply_ids(struct http_request *rq, struct work *w, size_t n_ids)
{
    AUTO(buf) out = BUF_INIT(ANSWER_MAX_BYTES);
    AUTO(buf) missing = BUF_INIT(ANSWER_MAX_BYTES);
    struct amx_error err = {0};
    enum amx_status status = AMX_OK;
    size_t written = 0;
    struct db *db = reader_of(rq);
    if (db == NULL) {
        return;
    }
    start_json(&out, w);
    for (size_t i = 0; status == AMX_OK && i < n_ids; i++) {
        const char *name = http_query_nth(rq, "id", (unsigned)i);
        instance_batch_clear(&w->batch);
        status = instance_batch_find(db, w->project->id, name, &w->batch, &err);
        if (status == AMX_NOT_FOUND || (status == AMX_OK && !w->batch.rows[0].has_features)) {
            (void)buf_text(&missing, missing.n > 0 ? "," : "");
            (void)jsonx_write_string(&missing, name, strlen(name));
            status = missing.status;
        } else if (status == AMX_OK) {
            status = predict_batch(w, &err);
            write_items(&out, w, &written);
        }
    }
    reader_done(rq, db);
    (void)buf_printf(&out, "],\"next_cursor\":null,\"missing\":[%s]}", buf_string(&missing));
    reply_text(rq, &out, status, &err);
}

/* ---- the request
 * ----------------------------------------------------------------------------------------------------- */

static bool read_split(struct http_request *rq, enum split *out)
{
    const char *text = http_query(rq, "split");
    if (text == NULL || split_parse(text, strlen(text), out)) {
        return true;
    }
    problem_reply_as(rq, PROBLEM_INVALID_QUERY, "split is train, valid or test.");
    return false;
}

static struct work *work_new(struct http_request *rq, struct project_info *project)
{
    struct work *w = calloc(1, sizeof *w);
    size_t bytes;
    if (w == NULL) {
        project_unref(project);
        problem_reply_status(rq, AMX_NO_MEMORY);
        return NULL;
    }
    w->service = service_of(rq);
    w->project = project;
    w->filter = (struct instance_filter)INSTANCE_FILTER_ALL;
    w->filter.awaiting_features = 0;
    w->more = true;
    instance_batch_init(&w->batch, project->feature_dim);
    if (!answers_snapshot(rq, project, &w->snapshot)) {
        work_free(w);
        return NULL;
    }
    size_t n_classes = w->snapshot->info.n_classes;
    w->block = instance_batch_size(project->feature_dim, n_classes * NUMBER_BYTES + LINE_BYTES);
    w->p_class = size_mul(&bytes, w->block, n_classes * sizeof *w->p_class) ? malloc(bytes) : NULL;
    if (w->p_class == NULL) {
        work_free(w);
        problem_reply_status(rq, AMX_NO_MEMORY);
        return NULL;
    }
    return w;
}

static void get_predictions(struct http_request *rq)
{
    static const char *const filters[] = {"split", "id", NULL};
    static const unsigned offered = 1u << HTTP_FORMAT_JSON | 1u << HTTP_FORMAT_CSV | 1u << HTTP_FORMAT_NDJSON;
    struct page page;
    enum split split = SPLIT_KEEP;
    size_t n_ids;
    char model[32];
    if (!page_parse(rq, filters, &page) || !instance_batch_ids(rq, &n_ids) || !read_split(rq, &split)) {
        return;
    }
    enum http_format format = http_negotiate(rq, n_ids > 0 ? 1u << HTTP_FORMAT_JSON : offered);
    struct project_info *project = format == HTTP_FORMAT_NONE ? NULL : project_of(rq, 0);
    struct work *w = project == NULL ? NULL : work_new(rq, project);
    if (w == NULL) {
        return;
    }
    w->filter.split = split;
    w->format = format;
    (void)snprintf(model, sizeof model, "%lld", (long long)w->snapshot->number);
    if (!http_set_header(rq, "X-Annotmix-Model", model)) {
        work_free(w);
        return;
    }
    if (format == HTTP_FORMAT_JSON) {
        if (n_ids > 0) {
            reply_ids(rq, w, n_ids);
        } else {
            reply_page(rq, w, &page);
        }
        work_free(w);
        return;
    }
    http_reply_stream(rq, 200, format == HTTP_FORMAT_CSV ? "text/csv; charset=utf-8" : "application/x-ndjson", 0, pull,
                      w, work_free);
}

const struct http_route predictions_routes[] = {
    {.method = "GET", .pattern = "/v1/projects/{p}/predictions", .scope = SCOPE_READ, .finish = get_predictions},
    {0},
};
