/* selection_json.c - see selection_json.h. Bounded: the table has at most SELECTION_ROWS rows however many candidates
 * there were, and a row names only the settings that auto chooses. */
#include "work/runs/selection_json.h"

#include <string.h>

#include "util/jsonx.h"
#include "work/runs/run_request_int.h"

/* What auto chooses, in the order of the Sobol dimensions. */
static const char *const CHOSEN_SETTINGS[] = {"alpha",   "eta",        "learning_rate", "weight_decay",
                                              "dropout", "batch_size", "epochs",        "hidden"};

static json_t *chosen_settings(const struct select_candidate *c)
{
    size_t n_fields;
    const struct amx_setting_field *fields = amx_setting_fields(&n_fields);
    json_t *object = json_object();
    int failed = 0;

    for (size_t s = 0; s < sizeof CHOSEN_SETTINGS / sizeof CHOSEN_SETTINGS[0]; s++) {
        for (size_t i = 0; i < n_fields; i++) {
            if (strcmp(fields[i].name, CHOSEN_SETTINGS[s]) == 0 && amx_setting_applies(c->method, fields[i].name))
                failed |= json_object_set_new(object, fields[i].name, run_setting_json(&fields[i], &c->settings));
        }
    }
    if (failed) {
        json_decref(object);
        return NULL;
    }
    return object;
}

/* values [RISKS] by name; null for a candidate that was not judged. */
static json_t *by_risk(const struct select_candidate *c, const double *values)
{
    json_t *object = json_object();
    int failed = 0;

    if (c->rung < 0) {
        json_decref(object);
        return json_null();
    }
    for (size_t r = 0; r < RISKS; r++)
        failed |= json_object_set_new(object, risk_name(r), jsonx_real_or_null(values[r]));
    if (failed) {
        json_decref(object);
        return NULL;
    }
    return object;
}

static json_t *candidate_json(const struct select_candidate *c)
{
    return json_pack("{s:s, s:o, s:s, s:b, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:f, s:o}", "method", c->method,
                     "settings", chosen_settings(c), "state", select_state_name(c->state), "published", c->always,
                     "rung", c->rung >= 0 ? json_integer(c->rung) : json_null(), "epochs",
                     c->rung >= 0 ? json_integer(c->epochs) : json_null(), "members",
                     c->rung >= 0 ? json_integer(c->members) : json_null(), "splits",
                     c->rung >= 0 ? json_integer(c->splits) : json_null(), "risks", by_risk(c, c->risks), "ranks",
                     by_risk(c, c->ranks), "score", jsonx_real_or_null(c->score), "deviation",
                     jsonx_real_or_null(c->deviation), "valid_error", jsonx_real_or_null(c->valid_error), "seconds",
                     c->seconds, "error", c->error[0] != '\0' ? json_string(c->error) : json_null());
}

static json_t *table(const struct select_result *result)
{
    json_t *list = json_array();
    size_t always = 0, left = SELECTION_ROWS;
    int failed = 0;

    for (size_t i = 0; i < result->n_candidates; i++)
        always += result->candidates[i].always ? 1 : 0;
    for (size_t i = 0; i < result->n_candidates && left > 0; i++) {
        const struct select_candidate *c = &result->candidates[i];

        if (!c->always && left <= always)
            continue; /* the rows left are for those */
        failed |= json_array_append_new(list, candidate_json(c));
        always -= c->always ? 1 : 0;
        left--;
    }
    if (failed) {
        json_decref(list);
        return NULL;
    }
    return list;
}

json_t *selection_json(const struct select_result *result, const struct run_auto *automatic)
{
    const struct select_candidate *best = &result->candidates[0];
    json_int_t finished = 0, failed = 0;

    for (size_t i = 0; i < result->n_candidates; i++) {
        finished += result->candidates[i].state == SELECT_FINISHED ? 1 : 0;
        failed += result->candidates[i].state == SELECT_FAILED ? 1 : 0;
    }
    return json_pack("{s:s, s:o, s:s, s:o, s:o, s:i, s:i, s:i, s:f, s:I, s:I, s:I, s:o}", "method", best->method,
                     "settings", run_request_settings_json(best->method, &best->settings), "select",
                     run_select_name(automatic->select), "budget_seconds",
                     automatic->budget_seconds > 0 ? json_real(automatic->budget_seconds) : json_null(), "budget_fits",
                     automatic->budget_fits > 0 ? json_integer(automatic->budget_fits) : json_null(), "folds",
                     (int)SELECT_FOLDS, "rung", result->rung, "rungs", (int)SELECT_RUNGS, "seconds",
                     result->search_seconds, "n_candidates", (json_int_t)result->n_candidates, "n_finished", finished,
                     "n_failed", failed, "candidates", table(result));
}

int selection_lift(json_t *object, json_t *metrics)
{
    json_t *selection = json_object_get(metrics, "selection");
    int failed;

    if (selection == NULL)
        return json_object_set_new(object, "selection", json_null());
    failed = json_object_set(object, "selection", selection);
    return failed != 0 ? failed : json_object_del(metrics, "selection");
}
