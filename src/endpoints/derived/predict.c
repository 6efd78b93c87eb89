/* predict.c - POST .../predict: features or stored instances in, distributions out.
 *
 * With features in the request no database is touched: project from the catalog, model from the snapshots, numbers from
 * the scanner into one array, probabilities through amx_predict, text straight into the answer. One answer is of one
 * model from start to end. Instances named by id are read first, in one short read.
 *
 * An answer may not be larger than ANSWER_NUMBERS numbers (a p_confusion of a thousand classes has a million per pair):
 * beyond it, 413 says how many were asked for.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "endpoints/auth.h"
#include "endpoints/derived/answers.h"
#include "endpoints/derived/predict_request.h"
#include "endpoints/problem.h"
#include "endpoints/routes.h"
#include "store/instances.h"
#include "util/size.h"

enum { ANSWER_NUMBERS = 4000000 };
#define ANSWER_MAX_BYTES ((size_t)256 << 20)

/* Everything one prediction holds; one exit frees it. */
struct work {
    struct project_info *project;
    struct model_snapshot *snapshot;
    struct predict_request request;
    uint32_t *annotators; /* [m] positions in the model */
    uint64_t *evidence;   /* [m] */
    float *numbers; /* one block: p_class [n][C], p_perf [n][m], p_annotation [n][m][C], p_confusion [n][m][C][C] */
    struct amx_prediction out;
};

static void work_done(struct work *w)
{
    predict_request_done(&w->request);
    free(w->annotators);
    free(w->evidence);
    free(w->numbers);
    snapshot_unref(w->snapshot);
    project_unref(w->project);
}

/* Reads the body by its type; replies when false. */
static bool read_request(struct http_request *rq, struct work *w)
{
    size_t n;
    const char *body = http_body(rq, &n);
    struct amx_error err = {0};
    enum problem problem = PROBLEM_INVALID_BODY;
    enum amx_status status;
    if (strcmp(http_media_type(rq), "application/octet-stream") == 0) {
        status = predict_request_binary(body, n, w->project->feature_dim, &w->request, &err);
    } else {
        status = predict_request_json(body, n, w->project->feature_dim, &w->request, &problem, &err);
    }
    if (status == AMX_OK) {
        return true;
    }
    problem_reply_error(rq, status == AMX_NO_MEMORY ? PROBLEM_NO_MEMORY : problem, &err);
    return false;
}

/* Features of the instances that came by id only. */
static bool read_stored(struct http_request *rq, struct work *w)
{
    struct predict_request *r = &w->request;
    size_t first = 0;
    while (first < r->n_rows && r->rows[first].has_features) {
        first++;
    }
    if (first == r->n_rows) {
        return true;
    }
    struct db *db = reader_of(rq);
    if (db == NULL) {
        return false;
    }
    for (size_t i = first; i < r->n_rows; i++) {
        struct instance_row row;
        struct amx_error err = {0};
        char pointer[64];
        if (r->rows[i].has_features) {
            continue;
        }
        (void)snprintf(pointer, sizeof pointer, "/instances/%zu/id", i);
        enum amx_status status = instances_find(db, w->project->id, r->rows[i].id, INSTANCES_FEATURES, &row, &err);
        if (status != AMX_OK) {
            reader_done(rq, db);
            if (status == AMX_NOT_FOUND) {
                problem_reply_at(rq, PROBLEM_UNKNOWN_INSTANCE, pointer, "There is no instance \"%.255s\".",
                                 r->rows[i].id.bytes);
            } else {
                err.code = status;
                problem_reply(rq, &err);
            }
            return false;
        }
        bool there = row.features != NULL && row.n_features == r->n_features;
        if (there) {
            memcpy(r->features + i * r->n_features, row.features, r->n_features * sizeof(float));
        }
        instance_row_done(&row);
        if (!there) {
            reader_done(rq, db);
            problem_reply_at(rq, PROBLEM_INVALID_BODY, pointer, "The instance \"%.255s\" has no features yet.",
                             r->rows[i].id.bytes);
            return false;
        }
    }
    reader_done(rq, db);
    return true;
}

static bool find_annotators(struct work *w)
{
    size_t m = w->request.n_annotators;
    w->annotators = calloc(m + 1, sizeof *w->annotators);
    w->evidence = calloc(m + 1, sizeof *w->evidence);
    if (w->annotators == NULL || w->evidence == NULL) {
        return false;
    }
    for (size_t a = 0; a < m; a++) {
        const char *name = w->request.annotators[a];
        w->annotators[a] = snapshot_annotator(w->snapshot, name, strlen(name));
        w->evidence[a] = snapshot_evidence(w->snapshot, w->annotators[a]);
    }
    return true;
}

/* Sizes of the four outputs, in numbers; false when they do not fit in size_t. */
static bool sizes(const struct work *w, size_t size[4], size_t *total)
{
    const struct answers_want *want = &w->request.want;
    size_t n = w->request.n_rows, m = w->request.n_annotators, c = w->snapshot->info.n_classes, pairs, nmc, nmcc;
    bool fits =
        size_mul(&size[0], n, c) && size_mul(&pairs, n, m) && size_mul(&nmc, pairs, c) && size_mul(&nmcc, nmc, c);
    if (!fits) {
        return false;
    }
    size[1] = want->p_perf ? pairs : 0;
    size[2] = want->p_annotation ? nmc : 0;
    size[3] = want->p_confusion ? nmcc : 0;
    return size_add(total, size[0], size[1]) && size_add(total, *total, size[2]) && size_add(total, *total, size[3]);
}

static bool compute(struct http_request *rq, struct work *w)
{
    size_t size[4], total, bytes;
    struct amx_error err = {0};
    if (!sizes(w, size, &total) || total > ANSWER_NUMBERS) {
        problem_reply_as(rq, PROBLEM_TOO_LARGE,
                         "The answer would have more than %d numbers; ask for fewer instances, annotators or matrices.",
                         (int)ANSWER_NUMBERS);
        return false;
    }
    w->numbers = size_mul(&bytes, total + 1, sizeof *w->numbers) ? malloc(bytes) : NULL;
    if (w->numbers == NULL || !find_annotators(w)) {
        problem_reply_status(rq, AMX_NO_MEMORY);
        return false;
    }
    float *at = w->numbers;
    w->out.p_class = at;
    at += size[0];
    w->out.p_perf = size[1] > 0 ? at : NULL;
    at += size[1];
    w->out.p_annotation = size[2] > 0 ? at : NULL;
    at += size[2];
    w->out.p_confusion = size[3] > 0 ? at : NULL;
    if (w->request.n_rows == 0) {
        return true;
    }
    enum amx_status status = amx_predict(w->snapshot->model, w->request.features, w->request.n_rows, w->annotators,
                                         w->request.n_annotators, &w->out, &err);
    if (status != AMX_OK) {
        err.code = status;
        problem_reply(rq, &err);
        return false;
    }
    return true;
}

static void write_json(struct buf *text, const struct work *w)
{
    const struct predict_request *r = &w->request;
    size_t c = w->snapshot->info.n_classes, m = r->n_annotators;
    const struct answers_annotators annotators = {m, r->annotators, w->evidence};
    (void)buf_char(text, '{');
    answers_head_write(text, w->snapshot);
    (void)buf_text(text, ",\"predictions\":[");
    for (size_t i = 0; i < r->n_rows; i++) {
        if (i > 0) {
            (void)buf_char(text, ',');
        }
        answers_prediction_write(text, w->snapshot, r->want, r->rows[i].id.bytes, r->rows[i].id.n,
                                 w->out.p_class + i * c, &annotators,
                                 w->out.p_perf != NULL ? w->out.p_perf + i * m : NULL,
                                 w->out.p_annotation != NULL ? w->out.p_annotation + i * m * c : NULL,
                                 w->out.p_confusion != NULL ? w->out.p_confusion + i * m * c * c : NULL);
    }
    (void)buf_text(text, "]}");
}

static void reply_json(struct http_request *rq, const struct work *w)
{
    AUTO(buf) text = BUF_INIT(ANSWER_MAX_BYTES);
    size_t n;
    write_json(&text, w);
    if (text.status != AMX_OK) {
        problem_reply_status(rq, text.status);
        return;
    }
    char *bytes = buf_take(&text, &n);
    if (bytes == NULL) {
        problem_reply_status(rq, AMX_NO_MEMORY);
        return;
    }
    http_reply(rq, 200, "application/json", bytes, n, free);
}

/* n x C float32, row-major, little-endian. */
static void reply_binary(struct http_request *rq, const struct work *w)
{
    size_t n = w->request.n_rows * w->snapshot->info.n_classes;
    unsigned char *bytes = malloc(n * sizeof(float) + 1);
    if (bytes == NULL) {
        problem_reply_status(rq, AMX_NO_MEMORY);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &w->out.p_class[i], sizeof bits);
        for (size_t b = 0; b < sizeof bits; b++) {
            bytes[i * sizeof bits + b] = (unsigned char)(bits >> (8 * b));
        }
    }
    http_reply(rq, 200, "application/octet-stream", bytes, n * sizeof(float), free);
}

static void predict(struct http_request *rq)
{
    static const char *const no_queries[] = {NULL};
    struct work w = {0};
    char model[32];
    if (!http_query_only(rq, no_queries)) {
        return;
    }
    enum http_format format = http_negotiate(rq, 1u << HTTP_FORMAT_JSON | 1u << HTTP_FORMAT_BINARY);
    if (format == HTTP_FORMAT_NONE || (w.project = project_of(rq, 0)) == NULL) {
        return;
    }
    if (read_request(rq, &w) && answers_snapshot(rq, w.project, &w.snapshot) && read_stored(rq, &w) &&
        compute(rq, &w)) {
        (void)snprintf(model, sizeof model, "%lld", (long long)w.snapshot->number);
        if (http_set_header(rq, "X-Annotmix-Model", model)) {
            if (format == HTTP_FORMAT_BINARY) {
                reply_binary(rq, &w);
            } else {
                reply_json(rq, &w);
            }
        }
    }
    work_done(&w);
}

static const char *const media_types[] = {"application/json", "application/octet-stream", NULL};
const struct http_route predict_routes[] = {
    {.method = "POST",
     .pattern = "/v1/projects/{p}/predict",
     .scope = SCOPE_READ,
     .media_types = media_types,
     .finish = predict},
    {0},
};
