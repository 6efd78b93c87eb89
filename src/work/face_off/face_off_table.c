/* face_off_table.c - from the fits of a face-off to its table: means, ranks, order, consensus rows, JSON. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "crowd/aggregate/aggregate.h"
#include "util/clock.h"
#include "util/error.h"
#include "util/jsonx.h"
#include "util/size.h"
#include "work/face_off/face_off_int.h"

static const char *const FIGURE_NAMES[N_FIGURES] = {
    "accuracy",        "balanced_accuracy",       "log_loss", "brier", "calibration_error",
    "annotator_auroc", "held_out_log_likelihood", "risk_rank"};

/* ---- ranks ------------------------------------------------------------------------------------------------------- */

/* Ranks of the risks among the methods that take part in this repeat. risks, ranks: room for n_rows of them. */
static enum amx_status rank_risks(struct face_off_result *result, int r, double *risks, double *ranks, double *scores)
{
    const size_t n = result->n_rows;
    size_t m = 0;
    enum amx_status status;

    for (size_t i = 0; i < n; i++) {
        const struct face_off_row *row = &result->rows[i];

        if (row->fits[r].status == AMX_OK && !row->needs_gold)
            memcpy(risks + m++ * RISKS, row->fits[r].risks, sizeof row->fits[r].risks);
    }
    if (m == 0)
        return AMX_OK;
    status = risk_ranks(risks, m, ranks, scores, scores + n);
    m = 0;
    for (size_t i = 0; i < n && status == AMX_OK; i++) {
        struct face_off_row *row = &result->rows[i];

        if (row->fits[r].status == AMX_OK && !row->needs_gold)
            row->fits[r].figures[FIGURE_RISK_RANK] = scores[m++];
    }
    return status;
}

static void average(struct face_off_row *row, int repeat)
{
    const double n = repeat - (double)row->n_failed;

    row->seconds = 0;
    for (int r = 0; r < repeat; r++)
        row->seconds += row->fits[r].status == AMX_OK ? row->fits[r].seconds / n : 0;
    for (int figure = 0; figure < N_FIGURES; figure++) {
        double mean = 0, squares = 0;

        for (int r = 0; r < repeat; r++)
            mean += row->fits[r].status == AMX_OK ? row->fits[r].figures[figure] / n : 0;
        for (int r = 0; r < repeat; r++) {
            double d = row->fits[r].figures[figure] - mean;

            squares += row->fits[r].status == AMX_OK ? d * d / n : 0;
        }
        row->mean[figure] = n > 0 ? mean : (double)NAN;
        row->deviation[figure] = n > 0 ? sqrt(squares) : (double)NAN;
    }
}

static bool competes(const struct face_off_row *row)
{
    return row->n_failed == 0 && !row->needs_gold;
}

/* Place of row i by sign * mean of a figure among those that compete, 1 = smallest; equal ones share. */
static double place(const struct face_off_result *result, size_t i, enum face_off_figure figure, double sign)
{
    const double own = sign * result->rows[i].mean[figure];
    double before = 0, same = 0;

    for (size_t j = 0; j < result->n_rows; j++) {
        const double other = sign * result->rows[j].mean[figure];

        if (!competes(&result->rows[j]))
            continue;
        before += other < own;
        same += other == own;
    }
    return before + (same + 1) / 2;
}

/* Best first; the upper bound before them all, what failed at the end, in the order of the methods' table. */
static int by_order(const void *a, const void *b)
{
    const struct face_off_row *x = a, *y = b;

    if (x->order < y->order || x->order > y->order)
        return x->order < y->order ? -1 : 1;
    return strcmp(x->method, y->method);
}

enum amx_status face_off_rank(struct face_off_result *result, struct amx_error *err)
{
    const size_t n = result->n_rows;
    const int repeat = result->face_off->repeat;
    double *memory = calloc(2 * n * RISKS + 2 * n, sizeof *memory);
    enum amx_status status = memory == NULL ? AMX_NO_MEMORY : AMX_OK;

    for (int r = 0; r < repeat && result->folds > 0 && status == AMX_OK; r++)
        status = rank_risks(result, r, memory, memory + n * RISKS, memory + 2 * n * RISKS);
    free(memory);
    if (status != AMX_OK)
        return error_set(err, status, "Out of memory.");
    for (size_t i = 0; i < n; i++) {
        struct face_off_row *row = &result->rows[i];

        row->n_failed = 0;
        for (int r = 0; r < repeat; r++)
            row->n_failed += row->fits[r].status != AMX_OK;
        average(row, repeat);
    }
    for (size_t i = 0; i < n; i++) {
        struct face_off_row *row = &result->rows[i];
        double likelihood = place(result, i, FIGURE_HELD_OUT, -1);

        row->rank = (double)NAN;
        row->order = row->n_failed > 0 ? (double)INFINITY : -1;
        if (!competes(row))
            continue;
        row->order = result->by_gold ? place(result, i, FIGURE_ACCURACY, -1)
                                     : (likelihood + place(result, i, FIGURE_RISK_RANK, 1)) / 2 + likelihood * 1e-6;
        row->rank = row->order;
    }
    /* Basis crowd: places by the order made above, so that the first is 1. */
    for (size_t i = 0; i < n && !result->by_gold; i++) {
        double before = 0, same = 0;

        for (size_t j = 0; j < n; j++) {
            before += competes(&result->rows[j]) && result->rows[j].order < result->rows[i].order;
            same += competes(&result->rows[j]) && result->rows[j].order == result->rows[i].order;
        }
        if (competes(&result->rows[i]))
            result->rows[i].rank = before + (same + 1) / 2;
    }
    qsort(result->rows, n, sizeof *result->rows, by_order);
    return AMX_OK;
}

/* ---- label-only methods ------------------------------------------------------------------------------------------ */

static double right_share(const struct training_set *set, const double *posterior, uint32_t *winner)
{
    size_t right = 0, n = 0;

    aggregate_winners(posterior, set->n_instances, set->n_classes, winner);
    for (size_t i = 0; i < set->n_instances; i++) {
        n += set->instance_gold[i] >= 0;
        right += set->instance_gold[i] >= 0 && winner[i] == (uint32_t)set->instance_gold[i];
    }
    return (double)right / (double)n;
}

static int by_accuracy(const void *a, const void *b)
{
    const struct face_off_consensus *x = a, *y = b;
    const double p = x->status == AMX_OK ? x->accuracy : -1, q = y->status == AMX_OK ? y->accuracy : -1;

    if (p < q || p > q)
        return p > q ? -1 : 1;
    return strcmp(x->method, y->method);
}

static enum amx_status aggregate_all(struct face_off_result *result, double *posterior, uint32_t *winner,
                                     const volatile int *cancel, struct amx_error *err)
{
    const struct training_set *set = &result->data->set;
    const struct crowd_labels labels = {set->n_instances,    set->n_annotators,    set->n_classes,  set->n_labels,
                                        set->label_instance, set->label_annotator, set->label_class};
    const struct aggregate_options options = {.seed = result->face_off->seed, .cancel = cancel};
    size_t n;
    const struct aggregate_method *methods = aggregate_methods(&n);

    for (size_t i = 0; i < n; i++) {
        struct face_off_consensus *row = &result->consensus[result->n_consensus];
        const int64_t begun_ms = clock_monotonic_ms();
        struct amx_error own;

        if (methods[i].two_classes && set->n_classes > 2)
            continue;
        memset(&own, 0, sizeof own);
        *row = (struct face_off_consensus){.method = methods[i].name, .title = methods[i].title};
        row->accuracy = (double)NAN;
        row->status = aggregate(&labels, methods[i].name, &options, posterior, NULL, NULL, &own);
        if (row->status == AMX_CANCELLED)
            return error_set(err, AMX_CANCELLED, "The face-off was cancelled.");
        row->seconds = (double)(clock_monotonic_ms() - begun_ms) / 1000;
        if (row->status == AMX_OK)
            row->accuracy = right_share(set, posterior, winner);
        else
            memcpy(row->error, own.text, sizeof row->error);
        result->n_consensus++;
    }
    qsort(result->consensus, result->n_consensus, sizeof *result->consensus, by_accuracy);
    return AMX_OK;
}

enum amx_status face_off_consensus(struct face_off_result *result, const volatile int *cancel, struct amx_error *err)
{
    const struct training_set *set = &result->data->set;
    double *posterior;
    uint32_t *winner;
    size_t numbers, n;
    enum amx_status status = AMX_OK;

    if (result->n_train_gold == 0)
        return AMX_OK;
    (void)aggregate_methods(&n);
    if (!size_mul(&numbers, set->n_instances, set->n_classes))
        return error_set(err, AMX_NO_MEMORY, "Out of memory.");
    posterior = calloc(numbers, sizeof *posterior);
    winner = calloc(set->n_instances, sizeof *winner);
    result->consensus = calloc(n, sizeof *result->consensus);
    if (posterior == NULL || winner == NULL || result->consensus == NULL)
        status = error_set(err, AMX_NO_MEMORY, "Out of memory.");
    else
        status = aggregate_all(result, posterior, winner, cancel, err);
    free(winner);
    free(posterior);
    return status;
}

/* ---- JSON -------------------------------------------------------------------------------------------------------- */

/* {"mean","std","values"}; null when it was not measured in any fit. */
static json_t *spread_json(const struct face_off_row *row, int repeat, enum face_off_figure figure)
{
    json_t *values;

    if (!isfinite(row->mean[figure]))
        return json_null();
    values = json_array();
    for (int r = 0; r < repeat; r++) {
        const struct face_off_fit *fit = &row->fits[r];

        if (json_array_append_new(
                values, jsonx_real_or_null(fit->status == AMX_OK ? fit->figures[figure] : (double)NAN)) != 0) {
            json_decref(values);
            return NULL;
        }
    }
    return json_pack("{s:f, s:f, s:o}", "mean", row->mean[figure], "std", row->deviation[figure], "values", values);
}

static const char *first_error(const struct face_off_row *row, int repeat)
{
    for (int r = 0; r < repeat; r++) {
        if (row->fits[r].status != AMX_OK)
            return row->fits[r].error[0] != '\0' ? row->fits[r].error : amx_status_text(row->fits[r].status);
    }
    return NULL;
}

static json_t *row_json(const struct face_off_row *row, int repeat)
{
    const char *error = first_error(row, repeat);
    json_t *object = json_object();
    int failed = json_object_set_new(object, "method", json_string(row->method));

    failed |= json_object_set_new(object, "title", json_string(row->title));
    failed |= json_object_set_new(object, "state", json_string(row->n_failed > 0 ? "failed" : "succeeded"));
    failed |= json_object_set_new(object, "rank", jsonx_real_or_null(row->rank));
    failed |= json_object_set_new(object, "needs_gold", json_boolean(row->needs_gold));
    failed |= json_object_set_new(object, "fits", json_integer(repeat));
    failed |= json_object_set_new(object, "fits_failed", json_integer((json_int_t)row->n_failed));
    for (int figure = 0; figure < N_FIGURES; figure++)
        failed |=
            json_object_set_new(object, FIGURE_NAMES[figure], spread_json(row, repeat, (enum face_off_figure)figure));
    failed |= json_object_set_new(object, "seconds",
                                  jsonx_real_or_null(row->n_failed < (size_t)repeat ? row->seconds : (double)NAN));
    failed |= json_object_set_new(object, "settings", run_request_settings_json(row->method, &row->request.settings));
    failed |= json_object_set_new(object, "error", error != NULL ? json_string(error) : json_null());
    if (!failed)
        return object;
    json_decref(object);
    return NULL;
}

static json_t *consensus_json(const struct face_off_result *result)
{
    json_t *rows = json_array();

    if (result->n_consensus == 0) {
        json_decref(rows);
        return json_null();
    }
    for (size_t i = 0; i < result->n_consensus; i++) {
        const struct face_off_consensus *row = &result->consensus[i];
        const bool good = row->status == AMX_OK;
        json_t *error =
            good ? json_null() : json_string(row->error[0] != '\0' ? row->error : amx_status_text(row->status));
        json_t *object = json_pack("{s:s, s:s, s:s, s:o, s:f, s:o}", "method", row->method, "title", row->title,
                                   "state", good ? "succeeded" : "failed", "accuracy",
                                   jsonx_real_or_null(row->accuracy), "seconds", row->seconds, "error", error);

        if (json_array_append_new(rows, object) != 0) {
            json_decref(rows);
            return NULL;
        }
    }
    return json_pack("{s:s, s:I, s:o}", "split", "train", "n", (json_int_t)result->n_train_gold, "rows", rows);
}

json_t *face_off_json(const struct face_off_result *result)
{
    const struct training_set *set = &result->data->set;
    const int repeat = result->face_off->repeat;
    json_t *rows = json_array(), *object = json_object();
    int failed = 0;

    for (size_t i = 0; i < result->n_rows; i++)
        failed |= json_array_append_new(rows, row_json(&result->rows[i], repeat));
    failed |= json_object_set_new(object, "basis", json_string(result->by_gold ? "gold" : "crowd"));
    failed |=
        json_object_set_new(object, "split", result->by_gold ? json_string(split_name(result->split)) : json_null());
    failed |=
        json_object_set_new(object, "n", result->by_gold ? json_integer((json_int_t)result->n_gold) : json_null());
    failed |= json_object_set_new(object, "repeat", json_integer(repeat));
    failed |= json_object_set_new(object, "seed", json_integer((json_int_t)result->face_off->seed));
    failed |= json_object_set_new(object, "folds", json_integer(result->folds));
    failed |= json_object_set_new(object, "labels_used", json_integer((json_int_t)set->n_labels));
    failed |= json_object_set_new(object, "instances_used", json_integer((json_int_t)set->n_instances));
    failed |= json_object_set_new(object, "annotators", json_integer((json_int_t)set->n_annotators));
    failed |= json_object_set_new(object, "classes", json_integer((json_int_t)set->n_classes));
    failed |= json_object_set_new(object, "features", json_integer((json_int_t)set->n_features));
    failed |= json_object_set_new(object, "data_hash", json_string(result->data->hash));
    failed |= json_object_set_new(object, "kernel", json_string(amx_kernel_name()));
    failed |= json_object_set_new(object, "seconds", json_real(result->seconds));
    failed |= json_object_set_new(object, "rows", rows);
    failed |= json_object_set_new(object, "consensus", consensus_json(result));
    if (!failed)
        return object;
    json_decref(object);
    return NULL;
}
