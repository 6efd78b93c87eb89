/* fit_report.c - see fit_report.h. Figures over several fits are mean and population deviation. */
#include "fit_report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "util/error.h"
#include "util/jsonx.h"

/* The figures of one split, in the order they are shown. */
enum figure {
    ACCURACY,
    BALANCED_ACCURACY,
    LOG_LOSS,
    BRIER,
    ECE,
    ECE_DEBIASED,
    ECE_FLOOR,
    N_FIGURES
};
static const char *const FIGURE_NAMES[N_FIGURES] = {"accuracy", "balanced_accuracy", "log_loss", "brier",
                                                    "ece",      "ece_debiased",      "ece_floor"};
enum annotator_figure {
    A_AUROC,
    A_ACCURACY,
    A_BALANCED,
    A_AP_RIGHT,
    A_AP_WRONG,
    A_BRIER,
    A_LOG_LOSS,
    N_A_FIGURES
};
static const char *const A_FIGURE_NAMES[N_A_FIGURES] = {
    "auroc", "accuracy", "balanced_accuracy", "average_precision_right", "average_precision_wrong",
    "brier", "log_loss"};

void fit_result_done(struct fit_result *result)
{
    reliability_done(&result->reliability);
    json_decref(result->selection);
    memset(result, 0, sizeof *result);
}

static double figure_of(const struct evaluation *e, enum figure figure)
{
    const double values[N_FIGURES] = {
        e->classes.accuracy, e->classes.balanced_accuracy, e->classes.log_loss, e->classes.brier,
        e->classes.ece,      e->classes.ece_debiased,      e->classes.ece_floor};

    return values[figure];
}

static double annotator_figure_of(const struct evaluation *e, enum annotator_figure figure)
{
    const struct binary_scores *s = &e->annotators;
    const double values[N_A_FIGURES] = {
        s->auroc, s->accuracy, s->balanced_accuracy, s->average_precision_right, s->average_precision_wrong,
        s->brier, s->log_loss};

    return values[figure];
}

struct spread {
    double mean, std;
};

static struct spread spread_of(const double *values, size_t n)
{
    struct spread s = {0, 0};

    for (size_t i = 0; i < n; i++)
        s.mean += values[i] / (double)n;
    for (size_t i = 0; i < n; i++)
        s.std += (values[i] - s.mean) * (values[i] - s.mean) / (double)n;
    s.std = sqrt(s.std);
    return s;
}

static void collect(const struct fit_result *results, size_t n, enum split split, bool annotators, int figure,
                    double *values)
{
    for (size_t i = 0; i < n; i++) {
        const struct evaluation *e = &results[i].splits[split];

        values[i] =
            annotators ? annotator_figure_of(e, (enum annotator_figure)figure) : figure_of(e, (enum figure)figure);
    }
}

/* Labels of test, else of valid, else of train (in sample); -1: no gold on any labelled instance. */
static int annotator_split(const struct fit_result *result)
{
    for (int split = SPLIT_TEST; split >= SPLIT_TRAIN; split--) {
        if (result->splits[split].has_annotators)
            return split;
    }
    return -1;
}

/* ---- table
 * --------------------------------------------------------------------------------------------------------- */

static void print_figure(FILE *out, const char *name, const double *values, size_t n, bool percent)
{
    struct spread s = spread_of(values, n);
    double scale = percent ? 100 : 1;

    (void)fprintf(out, "  %-26s", name);
    if (!isfinite(s.mean))
        (void)fprintf(out, " -");
    else
        (void)fprintf(out, percent ? " %7.2f %%" : " %7.4f  ", s.mean * scale);
    if (n > 1 && isfinite(s.std))
        (void)fprintf(out, percent ? "  +-%.2f" : "  +-%.4f", s.std * scale);
}

static const char *basis_words(const char *basis)
{
    return strcmp(basis, "held_out") == 0      ? "never trained on"
           : strcmp(basis, "out_of_fold") == 0 ? "out of fold"
                                               : "trained on";
}

static void print_split(FILE *out, const struct fit_result *results, size_t n, enum split split, double *values)
{
    const struct evaluation *e = &results[0].splits[split];

    if (!e->has_classes)
        return;
    (void)fprintf(out, "\nOn split %s (%s), %zu instances with gold:\n", split_name(split), basis_words(e->basis),
                  e->classes.n);
    collect(results, n, split, false, ACCURACY, values);
    print_figure(out, "accuracy", values, n, true);
    (void)fprintf(out, "  [%.2f, %.2f] 95 %%", e->classes.accuracy_low * 100, e->classes.accuracy_high * 100);
    (void)fputc('\n', out);
    if (e->majority.n > 0) {
        (void)fprintf(out, "  %-26s %7.2f %%  [%.2f, %.2f] 95 %%, of %zu with labels\n", "majority vote",
                      e->majority.accuracy * 100, e->majority.low * 100, e->majority.high * 100, e->majority.n);
        for (size_t i = 0; i < n; i++)
            values[i] = results[i].splits[split].consensus.accuracy;
        print_figure(out, "consensus with the labels", values, n, true);
        (void)fputc('\n', out);
    }
    for (int figure = BALANCED_ACCURACY; figure < N_FIGURES; figure++) {
        static const char *const shown[N_FIGURES] = {"accuracy",
                                                     "balanced accuracy",
                                                     "log loss",
                                                     "Brier score",
                                                     "calibration error (ECE)",
                                                     "  its bias taken off",
                                                     "  of a calibrated model"};

        collect(results, n, split, false, figure, values);
        print_figure(out, shown[figure], values, n, figure == BALANCED_ACCURACY);
        (void)fputc('\n', out);
    }
}

static void print_held_out(FILE *out, const struct fit_result *results, size_t n, double *values)
{
    const struct evaluation *first = evaluation_held_out(results[0].splits);

    if (first != NULL) {
        (void)fprintf(out, "\nOn %zu labels of split %s (%s):\n", first->labels.n, first->split,
                      basis_words(first->basis));
        for (size_t i = 0; i < n; i++)
            values[i] = grouped_mean_value(&evaluation_held_out(results[i].splits)->labels);
        print_figure(out, "log-likelihood of a label", values, n, false);
        if (n == 1)
            (void)fprintf(out, "  standard error %.4f", grouped_mean_error(&first->labels));
        (void)fputc('\n', out);
    }
    if (isfinite(results[0].temperature)) {
        for (size_t i = 0; i < n; i++)
            values[i] = results[i].temperature;
        print_figure(out, "temperature", values, n, false);
        (void)fputc('\n', out);
    }
}

static void print_annotator_model(FILE *out, const struct fit_result *results, size_t n, double *values)
{
    int split = annotator_split(&results[0]);

    if (split < 0)
        return;
    (void)fprintf(out, "\nIs this label right? On %zu labels of split %s (%s):\n",
                  results[0].splits[split].annotators.n, split_name((enum split)split),
                  basis_words(results[0].splits[split].basis));
    collect(results, n, (enum split)split, true, A_AUROC, values);
    print_figure(out, "AUROC", values, n, true);
    (void)fputc('\n', out);
    collect(results, n, (enum split)split, true, A_ACCURACY, values);
    print_figure(out, "accuracy", values, n, true);
    (void)fputc('\n', out);
}

struct ranked_annotator {
    size_t index;
    double reliability;
};

static int by_reliability(const void *a, const void *b)
{
    const struct ranked_annotator *x = a, *y = b;

    if (x->reliability < y->reliability || x->reliability > y->reliability)
        return x->reliability < y->reliability ? 1 : -1;
    return x->index < y->index ? -1 : x->index > y->index;
}

static double known_accuracy(const struct data_dir *dir, const char *annotator)
{
    uint32_t a;

    if (dir->annotator_accuracy == NULL || !name_table_find(&dir->annotators, annotator, strlen(annotator), &a))
        return (double)NAN;
    return dir->annotator_accuracy[a];
}

/* Mean over the fits, best first; at most the 30 first of very many. */
static enum amx_status print_reliability(FILE *out, const struct training_data *data, const struct data_dir *dir,
                                         const struct fit_result *results, size_t n, struct amx_error *err)
{
    enum {
        SHOWN = 30
    };
    const size_t A = data->set.n_annotators;
    struct ranked_annotator *order = calloc(A + 1, sizeof *order);

    if (order == NULL)
        return error_set(err, AMX_NO_MEMORY, "Out of memory.");
    for (size_t a = 0; a < A; a++) {
        order[a].index = a;
        for (size_t r = 0; r < n; r++)
            order[a].reliability += results[r].reliability.mean[a] / (double)n;
    }
    qsort(order, A, sizeof *order, by_reliability);
    (void)fprintf(out, "\n%-28s %11s %8s%s\n", "Annotator", "reliability", "labels",
                  dir->annotator_accuracy != NULL ? "  true accuracy" : "");
    for (size_t i = 0; i < A && i < SHOWN; i++) {
        const char *name = data->set.annotator_names[order[i].index];
        double known = known_accuracy(dir, name);

        (void)fprintf(out, "%-28s %11.3f %8llu", name, order[i].reliability,
                      (unsigned long long)results[0].reliability.labels[order[i].index]);
        if (isfinite(known))
            (void)fprintf(out, " %14.3f", known);
        (void)fputc('\n', out);
    }
    if (A > SHOWN)
        (void)fprintf(out, "... and %zu more\n", A - SHOWN);
    (void)fprintf(out, "%-28s %11.3f\n", "(an unknown annotator)", results[0].reliability.population);
    free(order);
    return AMX_OK;
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double median_speed(const struct fit_result *results, size_t n, double *values)
{
    for (size_t i = 0; i < n; i++)
        values[i] = results[i].labels_per_second;
    qsort(values, n, sizeof *values, by_value);
    return n % 2 == 1 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

static double all_seconds(const struct fit_result *results, size_t n)
{
    double seconds = 0;

    for (size_t i = 0; i < n; i++)
        seconds += results[i].seconds;
    return seconds;
}

/* What auto chose in every fit. */
static void print_selections(FILE *out, const struct run_request *request, const struct fit_result *results, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const json_t *s = results[i].selection;
        size_t n_text = 0;
        char *text;

        if (s == NULL)
            continue;
        text = jsonx_dump(json_object_get(json_array_get(json_object_get(s, "candidates"), 0), "settings"), &n_text);
        (void)fprintf(out, "seed %llu: %s of %lld candidates in %.0f s, %s\n", (unsigned long long)request->seed + i,
                      json_string_value(json_object_get(s, "method")),
                      (long long)json_integer_value(json_object_get(s, "n_candidates")),
                      json_number_value(json_object_get(s, "seconds")), text != NULL ? text : "{}");
        free(text);
    }
}

/* Of every fit; null for methods other than auto. */
static json_t *selections_json(const struct fit_result *results, size_t n)
{
    json_t *list = results[0].selection != NULL ? json_array() : json_null();

    for (size_t i = 0; i < n && results[i].selection != NULL; i++) {
        if (json_array_append(list, results[i].selection) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

enum amx_status fit_report_table(FILE *out, const struct run_request *request, const struct training_data *data,
                                 const struct data_dir *dir, const struct fit_result *results, size_t n,
                                 struct amx_error *err)
{
    const struct training_set *set = &data->set;
    double *values = calloc(n, sizeof *values);

    if (values == NULL)
        return error_set(err, AMX_NO_MEMORY, "Out of memory.");
    (void)fprintf(out,
                  "%s, seed %llu, %zu fit%s%s%s: %zu labels by %zu annotators on %zu instances, %zu features, "
                  "%zu classes\n",
                  request->method, (unsigned long long)request->seed, n, n == 1 ? "" : "s",
                  request->ensemble > 1 ? " (ensemble)" : "", request->folds > 0 ? " (folds)" : "", set->n_labels,
                  set->n_annotators, set->n_instances, set->n_features, set->n_classes);
    (void)fprintf(out, "%.2f s, %.0f labels/s in one thread, kernel %s\n", all_seconds(results, n),
                  median_speed(results, n, values), amx_kernel_name());
    print_selections(out, request, results, n);
    for (int split = SPLIT_TEST; split >= SPLIT_VALID; split--)
        print_split(out, results, n, (enum split)split, values);
    if (request->folds > 0 ||
        (!results[0].splits[SPLIT_TEST].has_classes && !results[0].splits[SPLIT_VALID].has_classes))
        print_split(out, results, n, SPLIT_TRAIN, values);
    else if (results[0].splits[SPLIT_TRAIN].majority.n > 0)
        (void)fprintf(out, "  %-26s %7.2f %%   on the %zu training instances with gold\n", "majority vote",
                      results[0].splits[SPLIT_TRAIN].majority.accuracy * 100,
                      results[0].splits[SPLIT_TRAIN].majority.n);
    print_held_out(out, results, n, values);
    print_annotator_model(out, results, n, values);
    free(values);
    return print_reliability(out, data, dir, results, n, err);
}

/* ---- JSON
 * ---------------------------------------------------------------------------------------------------------- */

/* {"mean","std","values"}; NULL when memory is out. */
static json_t *spread_json(const double *values, size_t n)
{
    struct spread s = spread_of(values, n);
    json_t *list = json_array();

    for (size_t i = 0; i < n; i++) {
        if (json_array_append_new(list, jsonx_real_or_null(values[i])) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return json_pack("{s:o, s:o, s:o}", "mean", jsonx_real_or_null(s.mean), "std", jsonx_real_or_null(s.std), "values",
                     list);
}

static json_t *split_json(const struct fit_result *results, size_t n, enum split split, double *values)
{
    const struct evaluation *e = &results[0].splits[split];
    json_t *object;
    int failed = 0;

    if (!e->has_classes)
        return json_null();
    object = json_object();
    for (int figure = 0; figure < N_FIGURES; figure++) {
        collect(results, n, split, false, figure, values);
        failed |= json_object_set_new(object, FIGURE_NAMES[figure], spread_json(values, n));
    }
    if (e->majority.n > 0) {
        for (size_t i = 0; i < n; i++)
            values[i] = results[i].splits[split].consensus.accuracy;
        failed |= json_object_set_new(object, "consensus_accuracy", spread_json(values, n));
    }
    failed |= json_object_set_new(object, "majority_vote_accuracy", jsonx_real_or_null(e->majority.accuracy));
    failed |= json_object_set_new(object, "majority_vote_n", json_integer((json_int_t)e->majority.n));
    failed |= json_object_set_new(object, "n", json_integer((json_int_t)e->classes.n));
    failed |= json_object_set_new(object, "basis", json_string(e->basis));
    if (failed) {
        json_decref(object);
        return NULL;
    }
    return object;
}

static json_t *annotators_json(const struct fit_result *results, size_t n, double *values)
{
    int split = annotator_split(&results[0]), failed = 0;
    json_t *object;

    if (split < 0)
        return json_null();
    object = json_object();
    failed |= json_object_set_new(object, "split", json_string(split_name((enum split)split)));
    failed |= json_object_set_new(object, "n", json_integer((json_int_t)results[0].splits[split].annotators.n));
    for (int figure = 0; figure < N_A_FIGURES; figure++) {
        collect(results, n, (enum split)split, true, figure, values);
        failed |= json_object_set_new(object, A_FIGURE_NAMES[figure], spread_json(values, n));
    }
    if (failed) {
        json_decref(object);
        return NULL;
    }
    return object;
}

static json_t *held_out_json(const struct fit_result *results, size_t n, double *values)
{
    const struct evaluation *first = evaluation_held_out(results[0].splits);

    if (first == NULL)
        return json_null();
    for (size_t i = 0; i < n; i++)
        values[i] = grouped_mean_value(&evaluation_held_out(results[i].splits)->labels);
    return json_pack("{s:o, s:o, s:I, s:s, s:s}", "label_log_likelihood", spread_json(values, n), "standard_error",
                     jsonx_real_or_null(grouped_mean_error(&first->labels)), "n", (json_int_t)first->labels.n, "split",
                     first->split, "basis", first->basis);
}

static json_t *temperature_json(const struct fit_result *results, size_t n, double *values)
{
    if (!isfinite(results[0].temperature))
        return json_null();
    for (size_t i = 0; i < n; i++)
        values[i] = results[i].temperature;
    return spread_json(values, n);
}

/* Mean over the fits by annotator. */
static json_t *reliability_json(const struct training_data *data, const struct fit_result *results, size_t n)
{
    json_t *object = json_object();

    for (size_t a = 0; a < data->set.n_annotators; a++) {
        double mean = 0;

        for (size_t r = 0; r < n; r++)
            mean += results[r].reliability.mean[a] / (double)n;
        if (json_object_set_new(object, data->set.annotator_names[a], jsonx_real_or_null(mean)) != 0) {
            json_decref(object);
            return NULL;
        }
    }
    return object;
}

static json_t *report_json(const struct run_request *request, const struct training_data *data,
                           const struct fit_result *results, size_t n, double *values)
{
    json_t *object = json_object();
    int failed = 0;

    failed |= json_object_set_new(object, "method", json_string(request->method));
    failed |= json_object_set_new(object, "seed", json_integer((json_int_t)request->seed));
    failed |= json_object_set_new(object, "repeat", json_integer((json_int_t)n));
    failed |= json_object_set_new(object, "ensemble", json_integer(request->ensemble));
    failed |= json_object_set_new(object, "folds", json_integer(request->folds));
    failed |= json_object_set_new(object, "gold_use", json_string(run_gold_use_name(request->gold_use)));
    failed |= json_object_set_new(object, "settings", run_request_settings_json(request->method, &request->settings));
    failed |= json_object_set_new(object, "selection", selections_json(results, n));
    failed |= json_object_set_new(object, "test", split_json(results, n, SPLIT_TEST, values));
    failed |= json_object_set_new(object, "valid", split_json(results, n, SPLIT_VALID, values));
    failed |= json_object_set_new(object, "annotator_model", annotators_json(results, n, values));
    failed |= json_object_set_new(object, "train", split_json(results, n, SPLIT_TRAIN, values));
    failed |= json_object_set_new(object, "held_out", held_out_json(results, n, values));
    failed |= json_object_set_new(object, "temperature", temperature_json(results, n, values));
    failed |= json_object_set_new(object, "train_majority_vote_accuracy",
                                  jsonx_real_or_null(results[0].splits[SPLIT_TRAIN].majority.accuracy));
    failed |= json_object_set_new(object, "reliability", reliability_json(data, results, n));
    failed |= json_object_set_new(object, "labels_used", json_integer((json_int_t)data->set.n_labels));
    failed |= json_object_set_new(object, "data_hash", json_string(data->hash));
    failed |= json_object_set_new(object, "labels_per_second", json_real(median_speed(results, n, values)));
    failed |= json_object_set_new(object, "seconds", json_real(all_seconds(results, n)));
    if (failed) {
        json_decref(object);
        return NULL;
    }
    return object;
}

enum amx_status fit_report_json(FILE *out, const struct run_request *request, const struct training_data *data,
                                const struct fit_result *results, size_t n, struct amx_error *err)
{
    double *values = calloc(n, sizeof *values);
    json_t *object = values != NULL ? report_json(request, data, results, n, values) : NULL;
    size_t n_text = 0;
    char *text = object != NULL ? jsonx_dump(object, &n_text) : NULL;
    bool written = text != NULL && fwrite(text, 1, n_text, out) == n_text && fputc('\n', out) != EOF;
    enum amx_status status = text == NULL ? AMX_NO_MEMORY : written ? AMX_OK : AMX_IO;

    free(text);
    json_decref(object);
    free(values);
    if (status == AMX_OK)
        return AMX_OK;
    return error_set(err, status, status == AMX_IO ? "The result cannot be written." : "Out of memory.");
}
