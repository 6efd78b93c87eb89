/* answers.c - see answers.h. */
#include "endpoints/derived/answers.h"

#include <math.h>
#include <string.h>

#include "endpoints/page.h"
#include "endpoints/problem.h"
#include "endpoints/routes.h"
#include "util/clock.h"
#include "util/csv_rows.h"
#include "util/jsonx.h"
#include "util/numbers.h"

json_t *answers_strings(const char *const *texts, size_t n)
{
    json_t *list = json_array();
    for (size_t i = 0; list != NULL && i < n; i++) {
        if (json_array_append_new(list, json_string(texts[i])) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

json_t *answers_head(const struct project_info *project, const struct model_snapshot *snapshot, int64_t label_seq)
{
    json_t *head = json_object(), *as_of = json_object();
    bool stored = snapshot != NULL && label_seq < 0;
    if (head == NULL || as_of == NULL) {
        json_decref(head);
        json_decref(as_of);
        return NULL;
    }
    json_t *classes = snapshot != NULL ? answers_strings(snapshot->info.class_names, snapshot->info.n_classes)
                                       : answers_strings(project->classes, project->n_classes);
    bool ok = json_put(as_of, "label_seq", json_integer(stored ? snapshot->label_seq : label_seq));
    ok = json_put(as_of, "computed_at", json_time(stored ? snapshot->computed_at_ms : clock_wall_ms())) && ok;
    ok = json_put(head, "model", snapshot != NULL ? json_integer(snapshot->number) : json_null()) && ok;
    ok = json_put(head, "classes", classes) && ok;
    ok = json_put(head, "as_of", as_of) && ok;
    if (!ok) {
        json_decref(head);
        return NULL;
    }
    return head;
}

void answers_head_write(struct buf *out, const struct model_snapshot *snapshot)
{
    char time[CLOCK_TEXT_BYTES];
    (void)buf_printf(out, "\"model\":%lld,\"classes\":[", (long long)snapshot->number);
    for (size_t k = 0; k < snapshot->info.n_classes; k++) {
        const char *name = snapshot->info.class_names[k];
        if (k > 0) {
            (void)buf_char(out, ',');
        }
        (void)jsonx_write_string(out, name, strlen(name));
    }
    (void)buf_printf(out, "],\"as_of\":{\"label_seq\":%lld,\"computed_at\":\"%s\"}", (long long)snapshot->label_seq,
                     clock_text(snapshot->computed_at_ms, time));
}

static void number_write(struct buf *out, float value)
{
    char text[NUMBER_TEXT_BYTES];
    size_t n = number_float_text(value, text);
    if (n == 0) {
        (void)buf_text(out, "null");
    } else {
        (void)buf_append(out, text, n);
    }
}

void answers_floats_write(struct buf *out, const float *values, size_t n)
{
    (void)buf_char(out, '[');
    for (size_t i = 0; i < n; i++) {
        if (i > 0) {
            (void)buf_char(out, ',');
        }
        number_write(out, values[i]);
    }
    (void)buf_char(out, ']');
}

size_t answers_best(const float *p, size_t n)
{
    size_t best = 0;
    for (size_t k = 1; k < n; k++) {
        if (p[k] > p[best]) {
            best = k;
        }
    }
    return best;
}

static void annotator_write(struct buf *out, size_t n_classes, struct answers_want want, uint64_t evidence,
                            const float *p_perf, const float *p_annotation, const float *p_confusion)
{
    (void)buf_char(out, '{');
    if (want.p_perf) {
        (void)buf_text(out, "\"p_perf\":");
        number_write(out, *p_perf);
        (void)buf_char(out, ',');
    }
    if (want.p_annotation) {
        (void)buf_text(out, "\"p_annotation\":");
        answers_floats_write(out, p_annotation, n_classes);
        (void)buf_char(out, ',');
    }
    if (want.p_confusion) {
        (void)buf_text(out, "\"p_confusion\":[");
        for (size_t k = 0; k < n_classes; k++) {
            if (k > 0) {
                (void)buf_char(out, ',');
            }
            answers_floats_write(out, p_confusion + k * n_classes, n_classes);
        }
        (void)buf_text(out, "],");
    }
    (void)buf_printf(out, "\"evidence\":%llu}", (unsigned long long)evidence);
}

void answers_prediction_write(struct buf *out, const struct model_snapshot *snapshot, struct answers_want want,
                              const char *id, size_t n_id, const float *p_class,
                              const struct answers_annotators *annotators, const float *p_perf,
                              const float *p_annotation, const float *p_confusion)
{
    size_t n_classes = snapshot->info.n_classes, best = answers_best(p_class, n_classes);
    const char *name = snapshot->info.class_names[best];
    (void)buf_char(out, '{');
    if (id != NULL) {
        (void)buf_text(out, "\"id\":");
        (void)jsonx_write_string(out, id, n_id);
        (void)buf_char(out, ',');
    }
    (void)buf_text(out, "\"class\":");
    (void)jsonx_write_string(out, name, strlen(name));
    (void)buf_text(out, ",\"confidence\":");
    number_write(out, p_class[best]);
    if (want.p_class) {
        (void)buf_text(out, ",\"p_class\":");
        answers_floats_write(out, p_class, n_classes);
    }
    if (annotators != NULL && annotators->n > 0) {
        (void)buf_text(out, ",\"annotators\":{");
        for (size_t a = 0; a < annotators->n; a++) {
            if (a > 0) {
                (void)buf_char(out, ',');
            }
            (void)jsonx_write_string(out, annotators->names[a], strlen(annotators->names[a]));
            (void)buf_char(out, ':');
            annotator_write(out, n_classes, want, annotators->evidence[a], want.p_perf ? p_perf + a : NULL,
                            want.p_annotation ? p_annotation + a * n_classes : NULL,
                            want.p_confusion ? p_confusion + a * n_classes * n_classes : NULL);
        }
        (void)buf_char(out, '}');
    }
    (void)buf_char(out, '}');
}

json_t *answers_float_row(const float *values, size_t n)
{
    json_t *list = json_array();
    for (size_t i = 0; list != NULL && i < n; i++) {
        if (json_array_append_new(list, jsonx_real_or_null((double)values[i])) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

json_t *answers_float_matrix(const float *values, size_t n_classes)
{
    json_t *rows = json_array();
    for (size_t k = 0; rows != NULL && k < n_classes; k++) {
        if (json_array_append_new(rows, answers_float_row(values + k * n_classes, n_classes)) != 0) {
            json_decref(rows);
            return NULL;
        }
    }
    return rows;
}

void answers_csv_name(struct buf *out, const char *text, size_t n)
{
    if (n == 0 || memchr("=+-@\t\r", text[0], 6) == NULL) {
        (void)csv_rows_write_cell(out, text, n);
        return;
    }
    char guarded[4096];
    if (n + 1 > sizeof guarded) {
        n = sizeof guarded - 1;
    }
    guarded[0] = '\'';
    memcpy(guarded + 1, text, n);
    (void)csv_rows_write_cell(out, guarded, n + 1);
}

bool answers_snapshot(struct http_request *rq, const struct project_info *project, struct model_snapshot **out)
{
    struct amx_error err = {0};
    enum amx_status status = snapshots_get(service_of(rq)->snapshots, project->id, out, &err);
    if (status == AMX_OK && (*out)->model != NULL) {
        return true;
    }
    if (status == AMX_OK) {
        problem_reply_as(rq, PROBLEM_NO_MODEL,
                         "The active model %lld was made from labels alone (%s): it predicts nothing. GET "
                         "/v1/projects/%s/consensus has the class of every labelled instance.",
                         (long long)(*out)->number, (*out)->info.method, project->name);
        snapshot_unref(*out);
        *out = NULL;
        return false;
    }
    if (status == AMX_NOT_FOUND && project->feature_dim == 0) {
        problem_reply_as(rq, PROBLEM_NO_MODEL,
                         "The project \"%s\" has no features to predict from; its training-runs and GET "
                         "/v1/projects/%s/consensus work on labels alone.",
                         project->name, project->name);
        return false;
    }
    if (status == AMX_NOT_FOUND) {
        problem_reply_as(rq, PROBLEM_NO_MODEL,
                         "The project \"%s\" has no active model; train one with POST /v1/projects/%s/training-runs.",
                         project->name, project->name);
        return false;
    }
    err.code = status;
    problem_reply(rq, &err);
    return false;
}
