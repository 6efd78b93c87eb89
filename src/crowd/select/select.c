/* select.c - method auto from its options to a fitted model. The search is in select_search.c; here are the checks
 * before it, the last fit after it, and the estimate of memory. */
#include "select.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "learn/status.h"
#include "select_int.h"

static const char *const STATES[] = {"finished", "dropped", "failed", "unjudged"};

const char *select_state_name(enum select_state state)
{
    return STATES[state];
}

/* ---- checks ------------------------------------------------------------------------------------------------------ */

static enum amx_status check_methods(const struct select_source *source, struct amx_error *err)
{
    for (size_t i = 0; i < source->n_methods; i++) {
        const struct amx_method_info *info = amx_method_named(source->methods[i]);

        if (info == NULL)
            return amx_fail(err, AMX_INVALID, "/methods", "There is no method named \"%.60s\".", source->methods[i]);
        if (info->needs_gold)
            return amx_fail(err, AMX_INVALID, "/methods", "auto chooses without gold labels; \"%.60s\" trains on them.",
                            info->name);
    }
    return AMX_OK;
}

static enum amx_status check_options(const struct select_options *o, const struct select_source *source,
                                     struct amx_error *err)
{
    const int64_t least = select_min_fits(source->n_methods);
    enum amx_status status = check_methods(source, err);

    if (status != AMX_OK)
        return status;
    if (o->threads < 1)
        return amx_fail(err, AMX_INVALID, "", "A fit needs at least one thread.");
    if (o->budget_fits < 0 || (o->budget_fits == 0 && !(o->budget_seconds > 0.0 && isfinite(o->budget_seconds))))
        return amx_fail(err, AMX_INVALID, "/budget_seconds", "budget_seconds must be a number above 0.");
    if (o->budget_fits > 0 && o->budget_fits < least)
        return amx_fail(err, AMX_INVALID, "/budget_fits",
                        "budget_fits must be at least %lld for %zu methods; it is %lld.", (long long)least,
                        source->n_methods, (long long)o->budget_fits);
    if (o->by_valid && o->n_valid == 0)
        return amx_fail(err, AMX_NOTHING, "/select",
                        "There are no gold labels on instances of split valid; select must be \"crowd\" without them.");
    return AMX_OK;
}

/* ---- the last fit ------------------------------------------------------------------------------------------------ */

/* Hands the fit's progress on as the end of the whole. */
struct last_fit {
    const struct select_options *options;
    struct select_progress progress;
    double search_part, begun;
};

static void on_progress(const struct amx_progress *p, void *context)
{
    struct last_fit *last = context;

    last->progress.fraction = last->search_part + (1.0 - last->search_part) * p->fraction;
    last->progress.eta_seconds = p->eta_seconds;
    last->progress.fit = p;
    last->options->progress(&last->progress, last->options->context);
}

static void last_options(const struct select_options *o, const struct select_candidate *chosen, struct last_fit *last,
                         struct amx_fit_options *fit)
{
    memset(fit, 0, sizeof *fit);
    fit->method = chosen->method;
    fit->seed = o->seed;
    fit->ensemble = o->ensemble;
    fit->folds = o->folds;
    fit->threads = o->threads;
    fit->clamp_gold = o->clamp_gold;
    fit->settings = chosen->settings;
    fit->cancel = o->cancel;
    if (o->progress != NULL && last != NULL) {
        fit->progress = on_progress;
        fit->context = last;
    }
}

/* Fits the best candidate; one that goes astray with all the labels leaves its place to the next. */
static enum amx_status fit_best(const struct amx_data *data, const struct select_options *o,
                                struct select_outcome *outcome, struct select_result *result, struct amx_model **model,
                                struct amx_error *err)
{
    enum amx_status status = AMX_NOT_FINITE;

    for (size_t i = 0; i < outcome->n && outcome->candidates[i].state == SELECT_FINISHED; i++) {
        struct select_candidate chosen = outcome->candidates[i];
        struct last_fit last = {.options = o, .search_part = select_search_part(o)};
        struct amx_fit_options fit;
        struct amx_error why;

        memset(&why, 0, sizeof why);
        last.progress.rung = SELECT_RUNGS;
        last.progress.candidate = last.progress.candidates = 1;
        last.progress.method = chosen.method;
        last_options(o, &chosen, &last, &fit);
        status = amx_fit(data, &fit, &result->report, model, &why);
        if (status == AMX_OK) {
            memmove(outcome->candidates + 1, outcome->candidates, i * sizeof chosen);
            outcome->candidates[0] = chosen;
            return AMX_OK;
        }
        if (err != NULL)
            *err = why;
        if (status != AMX_NOT_FINITE)
            return status;
        outcome->candidates[i].state = SELECT_FAILED;
        memcpy(outcome->candidates[i].error, why.text, sizeof chosen.error);
    }
    return status;
}

/* ---- the whole --------------------------------------------------------------------------------------------------- */

size_t select_memory(const struct amx_data *data, const struct select_options *options)
{
    struct select_ground ground = {.options = options, .folds = SELECT_FOLDS};
    struct select_source source;
    size_t searching = 0, last = 0, total;

    select_source_init(&source, data, options);
    for (size_t i = 0; i < 2 * source.n_methods; i++) {
        struct select_candidate candidate;
        struct amx_fit_options fit;
        size_t bytes;

        if (i < source.n_methods)
            select_candidate_at(&source, i, &candidate);
        else
            select_largest(&source, i - source.n_methods, &candidate);
        /* What does not fit in a size_t cannot be trained and is listed as failed. */
        select_fit_options(&ground, &candidate, SELECT_RUNGS - 1, &fit);
        bytes = amx_fit_memory(data, &fit);
        searching = bytes > searching && bytes != SIZE_MAX ? bytes : searching;
        last_options(options, &candidate, NULL, &fit);
        bytes = amx_fit_memory(data, &fit);
        last = bytes > last && bytes != SIZE_MAX ? bytes : last;
    }
    if (!amx_size_mul(&total, searching, (size_t)options->threads))
        return SIZE_MAX;
    return total > last ? total : last;
}

enum amx_status select_fit(const struct amx_data *data, const struct select_options *options, struct select_result *out,
                           struct amx_model **model, struct amx_error *err)
{
    struct select_ground ground;
    struct select_source source;
    struct select_outcome outcome = {0};
    struct select_result result;
    enum amx_status status;

    memset(&result, 0, sizeof result);
    memset(&ground, 0, sizeof ground);
    select_source_init(&source, data, options);
    if ((status = check_options(options, &source, err)) != AMX_OK ||
        (status = select_ground_init(&ground, data, options, err)) != AMX_OK ||
        (status = select_search(&ground, &source, &outcome, err)) != AMX_OK ||
        (status = fit_best(data, options, &outcome, &result, model, err)) != AMX_OK)
        goto done;
    result.candidates = outcome.candidates;
    result.n_candidates = outcome.n;
    result.rung = outcome.rung;
    result.search_seconds = outcome.seconds;
    outcome.candidates = NULL;
    *out = result;
done:
    free(outcome.candidates);
    select_ground_done(&ground);
    return status;
}

void select_result_done(struct select_result *result)
{
    free(result->candidates);
    amx_free(result->report.loss_curve);
    memset(result, 0, sizeof *result);
}
