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
#include "data_dir.h"
#include "fit_report.h"
#include "options.h"
#include "progress_bar.h"
#include "util/error.h"
#include "util/numbers.h"
#include "work/evaluate.h"
#include "work/run_request.h"

enum {
    MAX_SET = 64,
    MAX_REPEAT = 10000
};

struct fit_options {
    const char *dir;
    struct run_request request;
    int repeat;
    bool json;
    const char *set[MAX_SET]; /* KEY=VALUE in order */
    size_t n_set;
};

/* ---- command line ------------------------------------------------------------------------------------------------ */

/* Takes every --set out of argv, because it may come several times. Returns the new argc, or -1 (after a message). */
static int take_sets(int argc, char **argv, char **rest, struct fit_options *o)
{
    int n = 0;

    for (int i = 0; i < argc; i++) {
        const char *value = NULL;

        if (strncmp(argv[i], "--set=", 6) == 0) {
            value = argv[i] + 6;
        } else if (strcmp(argv[i], "--set") == 0 && i + 1 < argc) {
            value = argv[++i];
        } else {
            rest[n++] = argv[i];
            continue;
        }
        if (o->n_set == MAX_SET) {
            command_error("fit", "more than %d --set", (int)MAX_SET);
            return -1;
        }
        o->set[o->n_set++] = value;
    }
    rest[n] = NULL;
    return n;
}

static bool take_number(const char *option, const char *text, int64_t min, int64_t max, int64_t *out)
{
    if (text == NULL)
        return true;
    if (number_int(text, strlen(text), out) && *out >= min && *out <= max)
        return true;
    command_error("fit", "%s must be an integer from %lld to %lld", option, (long long)min, (long long)max);
    return false;
}

/* False: done already, with *exit_status. */
static bool parse(int argc, char **argv, struct fit_options *o, int *exit_status)
{
    const char *method = NULL, *seed = NULL, *repeat = NULL, *ensemble = NULL, *set = NULL, *words[1];
    const struct option table[] = {
        {"--method", "M", "annot_mix (the one in this build)", &method, NULL},
        {"--seed", "S", "seed of the first repeat, 0 to 2^53-1 (1)", &seed, NULL},
        {"--repeat", "R", "fits with seeds S, S+1, ...; mean and deviation are shown (1)", &repeat, NULL},
        {"--ensemble", "M", "models per fit, averaged, 1 to 100 (1)", &ensemble, NULL},
        {"--set", "KEY=VALUE", "a setting of the method, may be repeated: --set dropout=0 --set hidden=256,128", &set,
         NULL},
        {"--json", NULL, "one JSON object as the last line", NULL, &o->json},
        {0}};
    int64_t seed_number = 1, repeat_number = 1, ensemble_number = 1;
    size_t n_words = 0;

    if (!options_parse(argc, argv, table,
                       "DIR [--method M] [--seed S] [--repeat R] [--ensemble M] [--set KEY=VALUE]... [--json]", 1, 1,
                       words, &n_words, exit_status))
        return false;
    *exit_status = EXIT_USAGE;
    if (!take_number("--seed", seed, 0, (INT64_C(1) << 53) - 1, &seed_number) ||
        !take_number("--repeat", repeat, 1, MAX_REPEAT, &repeat_number) ||
        !take_number("--ensemble", ensemble, 1, 100, &ensemble_number))
        return false;
    if (method != NULL && strcmp(method, "annot_mix") != 0) {
        command_error("fit", "the method %s is not in this build; annot_mix is", method);
        return false;
    }
    o->dir = words[0];
    o->repeat = (int)repeat_number;
    run_request_default(0, &o->request);
    o->request.seed = (uint64_t)seed_number;
    o->request.ensemble = (int)ensemble_number;
    return true;
}

/* Published defaults for this number of features, then --set. */
static enum amx_status settle_settings(struct fit_options *o, const struct training_data *data, struct amx_error *err)
{
    enum amx_status status = AMX_OK;

    amx_settings_default(data->set.n_features, &o->request.settings);
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

static enum amx_status fit_once(const struct fit_options *o, const struct training_data *data, int repeat,
                                struct watch *watch, struct fit_result *out, struct amx_error *err)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    struct amx_fit_options options = {
        .method = o->request.method,
        .seed = o->request.seed + (uint64_t)repeat,
        .ensemble = o->request.ensemble,
        .threads = cores > 1 ? (int)cores : 1,
        .settings = o->request.settings,
        .progress = show_progress,
        .context = watch,
    };
    struct amx_fit_report report = {0};
    struct amx_model *model = NULL;
    enum amx_status status;

    watch->repeat = repeat;
    status = amx_fit(&data->data, &options, &report, &model, err);
    if (status != AMX_OK)
        return status;
    out->seconds = report.seconds;
    out->labels_per_second = report.labels_per_second;
    amx_free(report.loss_curve);
    for (int split = SPLIT_TRAIN; split <= SPLIT_TEST && status == AMX_OK; split++)
        status = evaluate_split(model, data, (enum split)split, &out->splits[split], err);
    if (status == AMX_OK)
        status = reliability_of_model(model, &data->data, &out->reliability, err);
    amx_model_free(model);
    return status;
}

static enum amx_status fit_all(struct fit_options *o, const struct training_data *data, struct fit_result *results,
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
        reliability_done(&results[r].reliability);
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
    n = take_sets(argc, argv, rest, &o);
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
    free(rest);
    return exit_status;
}
