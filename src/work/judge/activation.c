/* activation.c - see activation.h. */
#include "work/judge/activation.h"

#include <math.h>

#include "util/error.h"
#include "util/jsonx.h"
#include "work/judge/evaluate.h"

#define ERRORS_WORSE 2 /* standard errors */

struct decision {
    bool activate;
    const char *reason;
    int64_t active; /* model compared with; 0 = none */
    struct label_comparison compared;
};

static json_t *why_json(enum run_activate rule, const struct decision *d)
{
    return json_pack("{s:s, s:b, s:s, s:o, s:o, s:o, s:o}", "rule", run_activate_name(rule), "activated", d->activate,
                     "reason", d->reason, "active_model", d->active > 0 ? json_integer(d->active) : json_null(),
                     "difference", jsonx_real_or_null(d->compared.difference), "standard_error",
                     jsonx_real_or_null(d->compared.standard_error), "n", json_integer((json_int_t)d->compared.n));
}

static enum amx_status compare(const struct amx_model *model, const struct training_data *data,
                               const struct model_snapshot *active, struct decision *d, struct amx_error *err)
{
    enum amx_status status;

    d->active = active->number;
    d->activate = true;
    if (active->info.folds == 0)
        d->reason = "the active model has no folds to compare with";
    else if (active->info.n_classes != data->set.n_classes || active->info.n_features != data->set.n_features)
        d->reason = "the active model has other classes";
    if (d->reason != NULL)
        return AMX_OK;
    status = evaluate_compare(model, active->model, data, &d->compared, err);
    if (status != AMX_OK)
        return status;
    d->activate = !(d->compared.difference < -ERRORS_WORSE * d->compared.standard_error);
    d->reason = d->activate ? "held-out label log-likelihood is not worse than the active model's"
                            : "held-out label log-likelihood is worse than the active model's by more than 2 standard "
                              "errors";
    return AMX_OK;
}

enum amx_status activation_decide(enum run_activate rule, const struct amx_model *model,
                                  const struct training_data *data, struct snapshots *snapshots, int64_t project_id,
                                  bool *activate, json_t **why, struct amx_error *err)
{
    struct decision d = {.compared = {0, (double)NAN, (double)NAN}};
    struct model_snapshot *active = NULL;
    enum amx_status status = AMX_OK;

    if (rule == RUN_ACTIVATE_IF_NOT_WORSE) {
        status = snapshots_get(snapshots, project_id, &active, err);
        if (status == AMX_OK)
            status = compare(model, data, active, &d, err);
        else if (status == AMX_NOT_FOUND) {
            d.activate = true;
            d.reason = "there is no active model";
            status = AMX_OK;
        }
        snapshot_unref(active);
    } else {
        d.activate = rule == RUN_ACTIVATE_ALWAYS;
        d.reason = "as asked for";
    }
    if (status != AMX_OK)
        return status;
    *why = why_json(rule, &d);
    if (*why == NULL)
        return error_set(err, AMX_NO_MEMORY, "Out of memory.");
    *activate = d.activate;
    return AMX_OK;
}
