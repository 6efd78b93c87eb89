/* run_model.c - from a fitted model to a result that can be written (run_result.h): metrics, reliability of every
 * annotator, bytes; and the model into memory when it becomes the active one. */
#include <stdlib.h>
#include <string.h>

#include "crowd/reliability.h"
#include "util/error.h"
#include "util/jsonx.h"
#include "work/judge/activation.h"
#include "work/judge/calibrate.h"
#include "work/judge/evaluate.h"
#include "work/runs/run_result.h"
#include "work/runs/trainers_int.h"

char *run_curve_text(const double *curve, size_t n)
{
    json_t *list = json_array();
    char *text = NULL;
    size_t bytes, done = 0;

    while (done < n && json_array_append_new(list, jsonx_real_or_null(curve[done])) == 0)
        done++;
    if (list != NULL && done == n)
        text = jsonx_dump(list, &bytes);
    json_decref(list);
    return text;
}

/* Metrics of the calibrated model, and whether it shall be the active one. */
static enum amx_status judge(const struct run_work *work, struct amx_model *model, const struct training_data *data,
                             json_t **out, bool *activate, struct amx_error *err)
{
    const struct run_request *request = &work->request;
    json_t *metrics = NULL, *why = NULL;
    double temperature;
    enum amx_status status;

    if ((status = calibrate_model(model, data, request->gold_use, &temperature, err)) != AMX_OK ||
        (status = evaluate_metrics(model, data, request->gold_use, temperature, &metrics, err)) != AMX_OK)
        return status;
    status = activation_decide(request->activate, model, data, work->trainers->config.snapshots, work->row.project_id,
                               activate, &why, err);
    if (status == AMX_OK && work->selection != NULL && json_object_set(metrics, "selection", work->selection) != 0)
        status = error_set(err, AMX_NO_MEMORY, "Out of memory.");
    if (status == AMX_OK && json_object_set_new(metrics, "activation", why) != 0)
        status = error_set(err, AMX_NO_MEMORY, "Out of memory.");
    if (status != AMX_OK) {
        json_decref(metrics);
        return status;
    }
    *out = metrics;
    return AMX_OK;
}

/* Numbers and texts; nothing is written yet. result: method, seed, ensemble, folds and what was used are set. */
static enum amx_status prepare(const struct run_work *work, struct amx_model *model, const struct training_data *data,
                               const struct amx_fit_report *report, struct run_result *result, struct amx_error *err)
{
    struct amx_model_info info;
    struct run_request trained;
    json_t *metrics = NULL;
    size_t n;
    enum amx_status status;

    amx_model_info(model, &info);
    trained = (struct run_request){.method = info.method, .settings = info.settings};
    if ((status = judge(work, model, data, &metrics, &result->activate, err)) != AMX_OK)
        return status;
    result->metrics = jsonx_dump(metrics, &n);
    json_decref(metrics);
    result->settings = run_request_settings_text(&trained);
    result->curve = run_curve_text(report->loss_curve, (size_t)report->epochs);
    if (result->metrics == NULL || result->settings == NULL || result->curve == NULL)
        return error_set(err, AMX_NO_MEMORY, "Out of memory.");
    if ((status = reliability_of_model(model, &data->data, &work->cancel, &result->reliability, err)) != AMX_OK)
        return status;
    return amx_model_encode(model, &result->bytes, &result->n_bytes, err);
}

enum amx_status run_model_write(struct run_work *work, const struct training_data *data, struct amx_model *model,
                                const struct amx_fit_report *report, struct amx_error *err)
{
    struct amx_model_info info;
    struct run_result result = {.labels_used = report->labels_used, .instances_used = report->instances_used};
    enum amx_status status;

    amx_model_info(model, &info);
    result.method = info.method;
    result.seed = info.seed;
    result.ensemble = info.ensemble;
    result.folds = info.folds;
    status = prepare(work, model, data, report, &result, err);
    if (status == AMX_OK)
        status = run_result_write(work, data, &result, &model, err);
    run_result_done(&result);
    amx_model_free(model);
    return status;
}
