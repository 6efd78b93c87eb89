/* cmd_fit.c - `annotmixd fit DIR`: trains on the files of a folder and says how good the result is, without a server
 * and without a database. Same learner, same order of rows, same metrics as a training run.
 *
 * On standard output: a table for people; with --json one more line, for programs. On standard error: a progress bar
 * when that is a terminal. Repeat r uses seed S + r. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cmd.h"
#include "crowd/reliability.h"
#include "files/data_dir.h"
#include "fit_report.h"
#include "options.h"
#include "progress_bar.h"
#include "util/error.h"
#include "util/jsonx.h"
#include "work/judge/calibrate.h"
#include "work/judge/evaluate.h"
#include "work/runs/auto_fit.h"
#include "work/runs/run_request.h"

enum {
    MAX_SET = 64,
    MAX_REPEAT = 10000
};

struct fit_options {
    const char *dir;
    json_t *body; /* the request as words of the command line */
    struct run_request request;
    int repeat;
    bool json;
    const char *set[MAX_SET]; /* KEY=VALUE in order */
    size_t n_set;
};

/* ---- command line ------------------------------------------------------------------------------------------------ */

/* The words of the command line as a request: parsed by the same code as a training run's body. */
struct words {
    const char *method, *seed, *repeat, *ensemble, *folds, *gold_use, *seconds, *fits, *select, *methods;
};

/* A number as JSON, or the text itself, which is refused where a number is wanted. */
static json_t *value_of(const char *text)
{
    json_t *json = NULL;

    return jsonx_load(text, strlen(text), &json, NULL) == AMX_OK ? json : json_string(text);
}

static json_t *request_of(const struct words *w)
{
    const struct {
        const char *name, *text;
        json_t *(*value)(const char *);
    } fields[] = {{"method", w->method, json_string},     {"seed", w->seed, value_of},
                  {"ensemble", w->ensemble, value_of},    {"folds", w->folds, value_of},
                  {"gold_use", w->gold_use, json_string}, {"budget_seconds", w->seconds, value_of},
                  {"budget_fits", w->fits, value_of},     {"select", w->select, json_string},
                  {"methods", w->methods, options_list}};
    json_t *object = json_object();

    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        if (fields[i].text != NULL &&
            json_object_set_new(object, fields[i].name, fields[i].value(fields[i].text)) != 0) {
            json_decref(object);
            return NULL;
        }
    }
    return object;
}

/* "/gold_use" -> "--gold-use": what the request's parser calls a field is an option here. */
static void name_option(const char *pointer, char *out, size_t n)
{
    size_t used = 0;

    for (const char *c = pointer; *c != '\0' && (c == pointer || *c != '/') && used + 3 < n; c++) {
        if (*c == '/')
            used += (size_t)snprintf(out, n, "--");
        else
            out[used++] = *c == '_' ? '-' : *c;
    }
    out[used] = '\0';
}

/* False: done already, with *exit_status. */
static bool parse(int argc, char **argv, struct fit_options *o, int *exit_status)
{
    struct words w = {0};
    const char *set = NULL, *words[1];
    const struct option table[] = {
        {"--method", "M", "any method of GET /v1/methods, or auto (annot_mix)", &w.method, NULL},
        {"--seed", "S", "seed of the first repeat, 0 to 2^53-1 (1)", &w.seed, NULL},
        {"--repeat", "R", "fits with seeds S, S+1, ...; mean and deviation are shown (1)", &w.repeat, NULL},
        {"--ensemble", "M", "models per fit, averaged, 1 to 100 (1)", &w.ensemble, NULL},
        {"--folds", "K", "0, or 2 to 20: predicts train instances by models that never saw their labels (0)", &w.folds,
         NULL},
        {"--gold-use", "USE", "evaluate, calibrate or train: what gold labels are for (evaluate)", &w.gold_use, NULL},
        {"--set", "KEY=VALUE", "a setting of the method, may be repeated: --set dropout=0 --set hidden=256,128", &set,
         NULL},
        {"--budget-seconds", "S", "auto: time to search in (300)", &w.seconds, NULL},
        {"--budget-fits", "N", "auto: fits to search with, instead of time", &w.fits, NULL},
        {"--select", "BY", "auto: crowd or valid (crowd)", &w.select, NULL},
        {"--methods", "A,B", "auto: methods to choose among", &w.methods, NULL},
        {"--json", NULL, "one JSON object as the last line", NULL, &o->json},
        {0}};
    int64_t repeat_number = 1;
    size_t n_words = 0;
    char option[64];
    struct amx_error err = {0};

    if (!options_parse(argc, argv, table, "DIR [--method M] [--folds K] [--repeat R] [--set KEY=VALUE]... [--json]", 1,
                       1, words, &n_words, exit_status))
        return false;
    *exit_status = EXIT_USAGE;
    if (!options_number("fit", "--repeat", w.repeat, 1, MAX_REPEAT, &repeat_number))
        return false;
    o->dir = words[0];
    o->repeat = (int)repeat_number;
    o->body = request_of(&w);
    if (o->body == NULL) {
        command_error("fit", "a value is not UTF-8, or memory is out");
        return false;
    }
    /* Once without the data, so that a wrong word is known before files are read. */
    if (run_request_parse(o->body, NULL, 1, AMX_MAX_CLASSES, &o->request, &err) == AMX_OK)
        return true;
    name_option(err.pointer, option, sizeof option);
    command_error("fit", "%s%s%s", option, option[0] != '\0' ? ": " : "", err.text);
    return false;
}

/* The request on this data, with published defaults for its number of features, then --set. */
static enum amx_status settle_settings(struct fit_options *o, const struct training_data *data, struct amx_error *err)
{
    enum amx_status status =
        run_request_parse(o->body, NULL, data->set.n_features, data->set.n_classes, &o->request, err);

    for (size_t i = 0; i < o->n_set && status == AMX_OK; i++)
        status = run_request_set(&o->request, o->set[i], err);
    return status != AMX_OK ? status : run_request_check(&o->request, "", data->set.n_classes, err);
}

/* ---- one fit ------------------------------------------------------------------------------------------------------
 */

struct watch {
    struct progress_bar bar;
    int repeat, repeats;
};

static void show_progress(const struct amx_progress *p, void *context)
{
    struct watch *watch = context;
    char text[160], loss[32] = "", which[48] = "";

    if (!watch->bar.visible)
        return;
    if (watch->repeats > 1)
        (void)snprintf(which, sizeof which, "fit %d/%d  ", watch->repeat + 1, watch->repeats);
    if (isfinite(p->loss))
        (void)snprintf(loss, sizeof loss, "  loss %.3f", p->loss);
    (void)snprintf(text, sizeof text, "%sepoch %d/%d%s  %.0f labels/s  %.1f s left", which, p->epoch, p->epochs, loss,
                   p->labels_per_second, p->eta_seconds);
    progress_bar_draw(&watch->bar, (watch->repeat + p->fraction) / watch->repeats, text);
}

static void show_search(const struct select_progress *p, void *context)
{
    struct watch *watch = context;
    char text[160], which[48] = "";

    if (!watch->bar.visible)
        return;
    if (watch->repeats > 1)
        (void)snprintf(which, sizeof which, "fit %d/%d  ", watch->repeat + 1, watch->repeats);
    if (p->fit != NULL)
        (void)snprintf(text, sizeof text, "%s%s  epoch %d/%d  %.1f s left", which, p->method, p->fit->epoch,
                       p->fit->epochs, p->eta_seconds);
    else
        (void)snprintf(text, sizeof text, "%sround %d/%d  candidate %zu/%zu  best %s  %.0f s left", which, p->rung + 1,
                       (int)SELECT_RUNGS, p->candidate, p->candidates, p->method != NULL ? p->method : "-", p->eta_seconds);
    progress_bar_draw(&watch->bar, (watch->repeat + p->fraction) / watch->repeats, text);
}

static enum amx_status fit_auto(const struct run_request *request, uint64_t seed, const struct training_data *data,
                                int threads, struct watch *watch, struct amx_fit_report *report, json_t **selection,
                                struct amx_model **model, struct amx_error *err)
{
    struct auto_job job;
    enum amx_status status = auto_job_init(&job, request, seed, data, threads, err);

    job.options.progress = show_search;
    job.options.context = watch;
    if (status == AMX_OK)
        status = auto_fit(&job, request, data, report, selection, model, err);
    auto_job_done(&job);
    return status;
}

/* One fit of the request's method with that seed; *selection: how auto chose, else untouched. */
static enum amx_status fit_model(const struct run_request *request, uint64_t seed, const struct training_data *data,
                                 struct watch *watch, struct amx_fit_report *report, json_t **selection,
                                 struct amx_model **model, struct amx_error *err)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    const struct amx_fit_options options = {
        .method = request->method,
        .seed = seed,
        .ensemble = request->ensemble,
        .threads = cores > 1 ? (int)cores : 1,
        .folds = request->folds,
        .clamp_gold = request->gold_use == RUN_GOLD_TRAIN,
        .settings = request->settings,
        .progress = show_progress,
        .context = watch,
    };

    if (run_request_is_auto(request))
        return fit_auto(request, seed, data, options.threads, watch, report, selection, model, err);
    return amx_fit(&data->data, &options, report, model, err);
}

static enum amx_status fit_once(const struct fit_options *o, struct training_data *data, int repeat,
                                struct watch *watch, struct fit_result *out, struct amx_error *err)
{
    const uint64_t seed = o->request.seed + (uint64_t)repeat;
    struct amx_fit_report report = {0};
    struct amx_model *model = NULL;
    enum amx_status status = training_data_fold(data, seed, o->request.folds, err);

    watch->repeat = repeat;
    if (status == AMX_OK)
        status = fit_model(&o->request, seed, data, watch, &report, &out->selection, &model, err);
    if (status != AMX_OK)
        return status;
    out->seconds = report.seconds;
    out->labels_per_second = report.labels_per_second;
    amx_free(report.loss_curve);
    status = calibrate_model(model, data, o->request.gold_use, &out->temperature, err);
    for (int split = SPLIT_TRAIN; split <= SPLIT_TEST && status == AMX_OK; split++)
        status = evaluate_split(model, data, (enum split)split, o->request.gold_use, &out->splits[split], err);
    if (status == AMX_OK)
        status = reliability_of_model(model, &data->data, NULL, &out->reliability, err);
    amx_model_free(model);
    return status;
}

static enum amx_status fit_all(struct fit_options *o, struct training_data *data, struct fit_result *results,
                               struct amx_error *err)
{
    struct watch watch = {.repeats = o->repeat};
    enum amx_status status = AMX_OK;

    progress_bar_init(&watch.bar, STDERR_FILENO);
    for (int r = 0; r < o->repeat && status == AMX_OK; r++)
        status = fit_once(o, data, r, &watch, &results[r], err);
    progress_bar_end(&watch.bar);
    return status;
}

static enum amx_status run(struct fit_options *o, struct amx_error *err)
{
    struct data_dir dir = {0};
    struct training_data data = {.built = true};
    struct fit_result *results = calloc((size_t)o->repeat, sizeof *results);
    enum amx_status status;

    if (results == NULL)
        return error_set(err, AMX_NO_MEMORY, "Out of memory.");
    if ((status = data_dir_read(o->dir, &dir, err)) != AMX_OK ||
        (status = training_data_build(&dir.view, &data, err)) != AMX_OK ||
        (status = settle_settings(o, &data, err)) != AMX_OK || (status = training_data_check(&data, err)) != AMX_OK ||
        (status = fit_all(o, &data, results, err)) != AMX_OK)
        goto done;
    status = fit_report_table(stdout, &o->request, &data, &dir, results, (size_t)o->repeat, err);
    if (status == AMX_OK && o->json)
        status = fit_report_json(stdout, &o->request, &data, results, (size_t)o->repeat, err);
done:
    for (int r = 0; r < o->repeat; r++)
        fit_result_done(&results[r]);
    free(results);
    training_data_done(&data);
    data_dir_done(&dir);
    return status;
}

int cmd_fit(int argc, char **argv)
{
    struct fit_options o = {0};
    char **rest = calloc((size_t)argc + 1, sizeof *rest);
    struct amx_error err;
    int exit_status = EXIT_FAILED, n;

    if (rest == NULL)
        return cmd_end("fit", error_set(&err, AMX_NO_MEMORY, "Out of memory."), &err);
    n = options_take_repeated(argc, argv, "--set", MAX_SET, rest, o.set, &o.n_set);
    if (n < 0) {
        exit_status = EXIT_USAGE;
    } else if (parse(n, rest, &o, &exit_status)) {
        enum amx_status status;

        memset(&err, 0, sizeof err);
        status = run(&o, &err);
        /* A wrong --set is a wrong command line; a wrong file is a failure. */
        exit_status = cmd_end("fit", status, &err);
        if (status == AMX_INVALID && err.pointer[0] != '\0')
            exit_status = EXIT_USAGE;
        if (status == AMX_OK && fflush(stdout) != 0)
            exit_status = EXIT_FAILED;
    }
    json_decref(o.body);
    free(rest);
    return exit_status;
}
