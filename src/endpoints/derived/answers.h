/* answers.h - pieces of the derived answers: the head that all of them share (model, classes, as_of), and one
 * prediction.
 *
 * Two forms of the same thing: Jansson trees for small answers, and text written straight into a buffer for predictions
 * and streams, where a tree would cost more than the model.
 */
#ifndef ENDPOINTS_DERIVED_ANSWERS_H
#define ENDPOINTS_DERIVED_ANSWERS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "http/http.h"
#include "util/buf.h"
#include "work/catalog.h"
#include "work/snapshots.h"

/* The project's active model, one that predicts. False: it has replied (409 no-model when there is none, or when it was
 * made from labels alone). Caller unrefs *out. */
bool answers_snapshot(struct http_request *rq, const struct project_info *project, struct model_snapshot **out);

#define ANSWERS_ORIENTATION "rows = true class, columns = given label"

/* {"model": n|null, "classes": [...], "as_of": {"label_seq": n, "computed_at": t}}. label_seq < 0: as of the model
 * (what was stored when it was made); else computed now, as of that number. snapshot NULL: of the project, without a
 * model. NULL when memory is out. */
json_t *answers_head(const struct project_info *project, const struct model_snapshot *snapshot, int64_t label_seq);
/* The same members as text, without braces: "model":7,"classes":[..],"as_of":{..} */
void answers_head_write(struct buf *out, const struct model_snapshot *snapshot);

/* What one prediction shows; class and confidence always. */
struct answers_want {
    bool p_class, p_perf, p_annotation, p_confusion;
};
/* Annotators asked for; shapes as amx_predict's for ONE instance. */
struct answers_annotators {
    size_t n;
    const char *const *names;
    const uint64_t *evidence;
};
/* {"id":..,"class":..,"confidence":..,"p_class":[..],"annotators":{..}}. id NULL: left out. The p_ arrays that are not
 * wanted may be NULL. */
void answers_prediction_write(struct buf *out, const struct model_snapshot *snapshot, struct answers_want want,
                              const char *id, size_t n_id, const float *p_class,
                              const struct answers_annotators *annotators, const float *p_perf,
                              const float *p_annotation, const float *p_confusion);
/* Position of the largest, lowest on ties. */
size_t answers_best(const float *p, size_t n);

/* [x, ...] with 9 significant digits; NaN and infinities as null. */
void answers_floats_write(struct buf *out, const float *values, size_t n);
/* The same as a tree, and [[..]..] of a C x C matrix. */
json_t *answers_float_row(const float *values, size_t n);
json_t *answers_float_matrix(const float *values, size_t n_classes);
json_t *answers_strings(const char *const *texts, size_t n);

/* A cell of CSV for spreadsheets: one that would start a formula (= + - @ TAB CR) gets a leading ', names included. */
void answers_csv_name(struct buf *out, const char *text, size_t n);

#endif
