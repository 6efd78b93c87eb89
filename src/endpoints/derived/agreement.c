/* agreement.c - GET .../agreement: how far the annotators of a project agree beyond chance, all of them and pair by pair.
 *
 * The figures come from labels alone. The view (agreement_view.h) and each page of pairs are made in the background.
 * Pairs are in order of names; a cursor holds the numbers of its last pair's annotators, so it stays good while labels
 * come in, as long as both annotators still have labels. CSV and NDJSON stream the pairs of one view, block by block.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "endpoints/auth.h"
#include "endpoints/derived/agreement_view.h"
#include "endpoints/derived/answers.h"
#include "endpoints/derived/background.h"
#include "endpoints/page.h"
#include "endpoints/problem.h"
#include "endpoints/routes.h"
#include "store/projects.h"
#include "store/store.h"
#include "util/jsonx.h"
#include "util/numbers.h"

enum {
    STREAM_PAIRS = 5000
};
/* Pairs of labels on one instance that one answer may look at: some seconds of work. */
#define WORK_MAX ((uint64_t)500000000)
/* Up to so many, a page of a view that is there is answered at once: some milliseconds. */
#define WORK_INLINE ((uint64_t)500000)

/* One request; hangs on it (or, for a stream, belongs to the stream). */
struct work {
    struct request_state state; /* first */
    struct service *service;
    struct project_info *project;
    struct agreement_view *view;
    enum http_format format;
    struct page page;
    uint32_t a, b;                /* ranks of the last pair given */
    struct agreement_pair *pairs; /* [limit + 1], or [STREAM_PAIRS] */
    size_t n;
    bool lost; /* the cursor's annotators have no labels any more */
    bool header_written;
    enum amx_status status; /* of the background */
    struct amx_error err;
};

static void work_free(void *context)
{
    struct work *w = context;
    agreement_view_unref(w->view);
    project_unref(w->project);
    free(w->pairs);
    free(w);
}

static void work_released(struct request_state *state)
{
    work_free(state);
}

/* ---- one page
 * -------------------------------------------------------------------------------------------------------- */

static double agreed_share(const struct agreement_pair *pair)
{
    return (double)pair->agreed / (double)pair->n;
}

static json_t *pair_json(const struct agreement_view *view, const struct agreement_pair *pair)
{
    return json_pack("{s:s, s:s, s:I, s:o, s:o}", "annotator_a", agreement_view_name(view, pair->a), "annotator_b",
                     agreement_view_name(view, pair->b), "n", (json_int_t)pair->n, "agreement",
                     jsonx_real_or_null(agreed_share(pair)), "cohen_kappa", jsonx_real_or_null(pair->kappa));
}

/* Cursor of a pair: the two annotators' numbers, 32 bits each (a project never has so many that they do not fit). */
static int64_t key_of(const struct agreement_view *view, const struct agreement_pair *pair)
{
    return view->rows.annotator_ids[pair->a] << 32 | view->rows.annotator_ids[pair->b];
}

static json_t *items_json(const struct work *w, size_t n)
{
    json_t *items = json_array();
    for (size_t i = 0; items != NULL && i < n; i++) {
        if (json_array_append_new(items, pair_json(w->view, &w->pairs[i])) != 0) {
            json_decref(items);
            return NULL;
        }
    }
    return items;
}

static json_t *page_json(const struct work *w)
{
    const struct agreement *f = &w->view->figures;
    bool more = w->n > w->page.limit;
    size_t n = more ? w->page.limit : w->n;
    char cursor[PAGE_CURSOR_BYTES];
    json_t *json = answers_head(w->project, NULL, w->view->rows.label_seq);
    bool ok = json != NULL && json_put(json, "krippendorff_alpha", jsonx_real_or_null(f->alpha));
    ok = ok && json_put(json, "fleiss_kappa", jsonx_real_or_null(f->fleiss_kappa));
    ok = ok && json_put(json, "agreement", jsonx_real_or_null(f->n_instances > 0 ? f->observed : (double)NAN));
    ok = ok && json_put(json, "n", json_integer((json_int_t)f->n_instances));
    ok = ok && json_put(json, "labels", json_integer((json_int_t)f->n_labels));
    ok = ok && json_put(json, "annotators", json_integer((json_int_t)w->view->rows.n_annotators));
    ok = ok && json_put(json, "items", items_json(w, n));
    ok = ok &&
         json_put(json, "next_cursor",
                  more ? json_string(page_cursor(&w->page, key_of(w->view, &w->pairs[n - 1]), cursor)) : json_null());
    if (!ok) {
        json_decref(json);
        return NULL;
    }
    return json;
}

/* ---- streams
 * --------------------------------------------------------------------------------------------------------- */

static void write_csv(struct buf *out, const struct agreement_view *view, const struct agreement_pair *pair)
{
    const char *a = agreement_view_name(view, pair->a), *b = agreement_view_name(view, pair->b);
    char number[NUMBER_TEXT_BYTES];
    answers_csv_name(out, a, strlen(a));
    (void)buf_char(out, ',');
    answers_csv_name(out, b, strlen(b));
    (void)buf_printf(out, ",%llu,", (unsigned long long)pair->n);
    (void)buf_append(out, number, number_double_text(agreed_share(pair), number));
    (void)buf_char(out, ',');
    (void)buf_append(out, number, number_double_text(pair->kappa, number));
    (void)buf_text(out, "\r\n");
}

static bool write_line(struct buf *out, const struct agreement_view *view, const struct agreement_pair *pair)
{
    json_t *json = pair_json(view, pair);
    bool ok = json != NULL && jsonx_write(out, json) == AMX_OK;
    json_decref(json);
    (void)buf_char(out, '\n');
    return ok;
}

static enum http_pull pull(struct http_request *rq, void *context, struct buf *out)
{
    struct work *w = context;
    (void)rq;
    if (!w->header_written && w->format == HTTP_FORMAT_CSV) {
        (void)buf_text(out, "annotator_a,annotator_b,n,agreement,cohen_kappa\r\n");
    }
    w->header_written = true;
    if (agreement_view_pairs(w->view, w->a, w->b, STREAM_PAIRS, w->pairs, &w->n) != AMX_OK) {
        return HTTP_PULL_ERROR;
    }
    for (size_t i = 0; i < w->n; i++) {
        if (w->format == HTTP_FORMAT_CSV) {
            write_csv(out, w->view, &w->pairs[i]);
        } else if (!write_line(out, w->view, &w->pairs[i])) {
            return HTTP_PULL_ERROR;
        }
    }
    if (w->n < STREAM_PAIRS) {
        return HTTP_PULL_DONE;
    }
    w->a = w->pairs[w->n - 1].a;
    w->b = w->pairs[w->n - 1].b;
    return HTTP_PULL_MORE;
}

/* ---- the request
 * ----------------------------------------------------------------------------------------------------- */

static bool find_cursor(struct work *w)
{
    size_t a, b;
    if (!w->page.continued) {
        return true;
    }
    a = agreement_view_rank(w->view, (int64_t)((uint64_t)w->page.after >> 32));
    b = agreement_view_rank(w->view, (int64_t)((uint64_t)w->page.after & UINT32_MAX));
    if (a == SIZE_MAX || b == SIZE_MAX) {
        return false;
    }
    w->a = (uint32_t)a;
    w->b = (uint32_t)b;
    return true;
}

/* In the background: the view unless it is there, and the pairs of the page. */
static void compute(void *context)
{
    struct work *w = context;
    size_t room = w->format == HTTP_FORMAT_JSON ? w->page.limit + 1 : STREAM_PAIRS;
    w->status = w->view != NULL ? AMX_OK : agreement_view_make(w->service, w->project, &w->view, &w->err);
    if (w->status != AMX_OK || w->view->work > WORK_MAX) {
        return;
    }
    w->pairs = malloc(room * sizeof *w->pairs);
    if (w->pairs == NULL) {
        w->status = AMX_NO_MEMORY;
        return;
    }
    w->lost = !find_cursor(w);
    if (w->format == HTTP_FORMAT_JSON && !w->lost) {
        w->status = agreement_view_pairs(w->view, w->a, w->b, room, w->pairs, &w->n);
    }
}

static void computed(struct http_request *rq)
{
    struct work *w = http_data(rq);
    if (w->status != AMX_OK) {
        w->err.code = w->status;
        problem_reply(rq, &w->err);
    } else if (w->view->work > WORK_MAX) {
        problem_reply_as(rq, PROBLEM_INVALID_BODY, "The instances have too many labels each for pairs to be compared.");
    } else if (w->lost) {
        problem_reply_as(rq, PROBLEM_INVALID_QUERY, "An annotator of the cursor has no labels any more; start again.");
    } else if (w->format == HTTP_FORMAT_JSON) {
        resource_reply(rq, w->project->uid, page_json(w));
    } else {
        http_set_data(rq, NULL); /* the stream frees it */
        http_reply_stream(rq, 200, w->format == HTTP_FORMAT_CSV ? "text/csv; charset=utf-8" : "application/x-ndjson", 0,
                          pull, w, work_free);
    }
}

static void go_on(struct http_request *rq, struct work *w)
{
    struct project_row row;
    struct amx_error err = {0};
    struct db *db = reader_of(rq);
    if (db == NULL) {
        return;
    }
    enum amx_status status = projects_get(db, w->project->id, &row, &err);
    reader_done(rq, db);
    if (status != AMX_OK) {
        err.code = status;
        problem_reply(rq, &err);
        return;
    }
    w->view = agreement_view_get(w->project->id, row.label_seq);
    project_row_done(&row);
    if (w->view != NULL && w->view->work <= WORK_INLINE) {
        compute(w);
        computed(rq);
    } else {
        background_run(rq, compute, w, computed);
    }
}

static void get_agreement(struct http_request *rq)
{
    static const unsigned offered = 1u << HTTP_FORMAT_JSON | 1u << HTTP_FORMAT_CSV | 1u << HTTP_FORMAT_NDJSON;
    struct work *w = calloc(1, sizeof *w);
    if (w == NULL) {
        problem_reply_status(rq, AMX_NO_MEMORY);
        return;
    }
    w->state.release = work_released;
    w->service = service_of(rq);
    http_set_data(rq, w);
    if (!page_parse(rq, NULL, &w->page)) {
        return;
    }
    w->format = http_negotiate(rq, offered);
    if (w->format != HTTP_FORMAT_NONE && (w->project = project_of(rq, 0)) != NULL) {
        go_on(rq, w);
    }
}

const struct http_route agreement_routes[] = {
    {.method = "GET", .pattern = "/v1/projects/{p}/agreement", .scope = SCOPE_READ, .finish = get_agreement},
    {0},
};
