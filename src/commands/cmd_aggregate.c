/* cmd_aggregate.c - `annotmixd aggregate DIR|labels.csv`: true classes from labels alone, by any label-only method,
 * without a server, a database or features.
 *
 * On standard output: what was found, for people; with --json one more line, for programs. On standard error: a
 * progress bar when that is a terminal and the work is long. Accuracy is over the labelled instances that have gold and
 * whose gold did not help (with --gold-use train: none). */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cmd.h"
#include "crowd/aggregate/aggregate.h"
#include "crowd/agreement.h"
#include "crowd/scores.h"
#include "files/label_files.h"
#include "options.h"
#include "progress_bar.h"
#include "util/buf.h"
#include "util/clock.h"
#include "util/csv_rows.h"
#include "util/error.h"
#include "util/jsonx.h"
#include "util/numbers.h"

enum {
    ANNOTATORS_SHOWN = 12,
    OUT_PIECE = 1024 * 1024
};

struct aggregate_command {
    const char *source, *method, *out;
    struct label_paths paths;
    struct buf labels, gold, meta; /* paths within a folder */
    struct aggregate_options options;
    bool train_on_gold, json;
};

/* How it went. */
struct outcome {
    double *posterior, *reliability;
    uint32_t *winner;
    struct aggregate_report report;
    struct agreement agreement;
    size_t n, right, majority_right; /* against gold */
    double seconds;
};

/* ---- command line ------------------------------------------------------------------------------------------------ */

static void list_methods(struct buf *out)
{
    size_t n;
    const struct aggregate_method *methods = aggregate_methods(&n);

    for (size_t i = 0; i < n; i++)
        (void)buf_printf(out, "%s%s%s", i > 0 ? ", " : "", methods[i].name,
                         strcmp(methods[i].name, "dawid_skene") == 0 ? " (the default)" : "");
}

/* FOLDER/name, else FOLDER/name.gz; *found tells whether either is there. */
static const char *path_in(struct buf *path, const char *folder, const char *name, bool *found)
{
    static const char *const endings[] = {"", ".gz", ""};
    struct stat about;

    *found = false;
    for (int i = 0; i < 3 && !*found; i++) {
        buf_clear(path);
        *found = buf_printf(path, "%s/%s%s", folder, name, endings[i]) == AMX_OK && stat(buf_string(path), &about) == 0;
    }
    return buf_string(path);
}

/* A folder's files, or the one file that was named; --gold and --history win. */
static void find_files(struct aggregate_command *o)
{
    struct stat about;
    bool found;

    o->paths.labels = o->source;
    if (stat(o->source, &about) != 0 || !S_ISDIR(about.st_mode))
        return;
    o->paths.labels = path_in(&o->labels, o->source, "labels.csv", &found);
    o->paths.meta = path_in(&o->meta, o->source, "meta.json", &found);
    if (o->paths.gold == NULL) {
        const char *gold = path_in(&o->gold, o->source, "gold.csv", &found);

        o->paths.gold = found ? gold : NULL;
    }
}

/* What the words say, checked. */
static bool settle(struct aggregate_command *o, const char *gold_use, const char *names)
{
    const struct aggregate_method *method = aggregate_find(o->method);

    if (method == NULL) {
        command_error("aggregate", "\"%s\" is no label-only method; they are %s", o->method, names);
        return false;
    }
    o->train_on_gold = strcmp(gold_use, "train") == 0;
    if (!o->train_on_gold && strcmp(gold_use, "evaluate") != 0) {
        command_error("aggregate", "--gold-use is evaluate or train, not \"%s\"", gold_use);
        return false;
    }
    if ((o->train_on_gold && !method->uses_gold) || (o->paths.history != NULL && !method->uses_history)) {
        command_error("aggregate", "%s has no use for %s", o->method,
                      o->train_on_gold && !method->uses_gold ? "gold labels" : "a history");
        return false;
    }
    return true;
}

/* False: done already, with *exit_status. */
static bool parse(int argc, char **argv, struct aggregate_command *o, int *exit_status)
{
    const char *seed = NULL, *rounds = NULL, *gold_use = "evaluate", *words[1];
    int64_t seed_number = 0, rounds_number = 0;
    size_t n_words = 0;
    AUTO(buf) names = BUF_INIT(1024);

    list_methods(&names);
    const struct option table[] = {
        {"--method", "M", buf_string(&names), &o->method, NULL},
        {"--gold", "FILE", "gold labels, instance,class (DIR/gold.csv)", &o->paths.gold, NULL},
        {"--gold-use", "USE", "evaluate: gold only tells the accuracy; train: it fixes its instances (evaluate)",
         &gold_use, NULL},
        {"--history", "FILE", "earlier work, annotator,true_class,given_class,count", &o->paths.history, NULL},
        {"--out", "FILE", "write instance,class,confidence", &o->out, NULL},
        {"--seed", "S", "of methods with random starts, 0 to 2^53-1 (0)", &seed, NULL},
        {"--rounds", "R", "at most so many rounds (the method's default)", &rounds, NULL},
        {"--json", NULL, "one JSON object as the last line", NULL, &o->json},
        {0}};

    o->method = "dawid_skene";
    if (!options_parse(argc, argv, table,
                       "DIR|LABELS.csv [--method M] [--gold FILE] [--history FILE] [--out FILE] [--json]", 1, 1, words,
                       &n_words, exit_status))
        return false;
    *exit_status = EXIT_USAGE;
    if (!options_number("aggregate", "--seed", seed, 0, (INT64_C(1) << 53) - 1, &seed_number) ||
        !options_number("aggregate", "--rounds", rounds, 1, 1000000, &rounds_number) ||
        !settle(o, gold_use, buf_string(&names)))
        return false;
    o->source = words[0];
    o->options.seed = (uint64_t)seed_number;
    o->options.rounds = (int)rounds_number;
    return true;
}

/* ---- work -------------------------------------------------------------------------------------------------------- */

struct watch {
    struct progress_bar bar;
    const char *text;
};

static void show(double fraction, void *context)
{
    struct watch *watch = context;

    /* A bar that is full is drawn at once: the end of the work takes it away. */
    progress_bar_draw(&watch->bar, fmin(fraction, 0.999), watch->text);
}

static void outcome_done(struct outcome *r)
{
    free(r->winner);
    free(r->reliability);
    free(r->posterior);
}

/* Counts against gold, beside the majority vote. */
static enum amx_status judge(const struct label_files *f, struct outcome *r, struct amx_error *err)
{
    const struct crowd_labels *l = &f->labels;
    double *shares = malloc(l->n_instances * l->n_classes * sizeof *shares);
    uint32_t *majority = malloc((l->n_instances + 1) * sizeof *majority);
    enum amx_status status = AMX_NO_MEMORY;

    if (shares != NULL && majority != NULL)
        status = aggregate(l, "majority_vote", NULL, shares, NULL, NULL, err);
    else
        (void)error_set(err, AMX_NO_MEMORY, "Out of memory.");
    if (status == AMX_OK)
        aggregate_winners(shares, l->n_instances, l->n_classes, majority);
    for (size_t i = 0; status == AMX_OK && i < l->n_instances; i++) {
        if (f->gold[i] < 0)
            continue;
        r->n++;
        r->right += r->winner[i] == (uint32_t)f->gold[i];
        r->majority_right += majority[i] == (uint32_t)f->gold[i];
    }
    free(majority);
    free(shares);
    return status;
}

static enum amx_status work(struct aggregate_command *o, const struct label_files *f, struct outcome *r,
                            struct amx_error *err)
{
    const struct crowd_labels *l = &f->labels;
    int64_t start;
    enum amx_status status;

    r->posterior = malloc(l->n_instances * l->n_classes * sizeof *r->posterior);
    r->reliability = malloc((l->n_annotators + 1) * sizeof *r->reliability);
    r->winner = malloc((l->n_instances + 1) * sizeof *r->winner);
    if (r->posterior == NULL || r->reliability == NULL || r->winner == NULL)
        return error_set(err, AMX_NO_MEMORY, "Out of memory.");
    o->options.gold = o->train_on_gold ? f->gold : NULL;
    o->options.history = f->history;
    start = clock_monotonic_ns();
    status = aggregate(l, o->method, &o->options, r->posterior, r->reliability, &r->report, err);
    r->seconds = (double)(clock_monotonic_ns() - start) / 1e9;
    if (status != AMX_OK)
        return status;
    aggregate_winners(r->posterior, l->n_instances, l->n_classes, r->winner);
    if (agreement_of(l, &r->agreement) != AMX_OK)
        return error_set(err, AMX_NO_MEMORY, "Out of memory.");
    return f->n_gold > 0 && !o->train_on_gold ? judge(f, r, err) : AMX_OK;
}

/* ---- results ----------------------------------------------------------------------------------------------------- */

static enum amx_status write_file(const char *path, const struct label_files *f, const struct outcome *r,
                                  struct amx_error *err)
{
    FILE *file = fopen(path, "wbe");
    struct buf text = BUF_INIT(2 * OUT_PIECE);
    bool ok = file != NULL;

    if (!ok)
        return error_set(err, AMX_IO, "Cannot write %.150s.", path);
    (void)buf_text(&text, "instance,class,confidence\n");
    for (size_t i = 0; i < f->labels.n_instances && ok; i++) {
        const char *name = f->instances.names[i], *class_ = f->classes[r->winner[i]];
        char number[NUMBER_TEXT_BYTES];

        (void)number_double_text(r->posterior[i * f->labels.n_classes + r->winner[i]], number);
        (void)csv_rows_write_cell(&text, name, strlen(name));
        (void)buf_char(&text, ',');
        (void)csv_rows_write_cell(&text, class_, strlen(class_));
        (void)buf_printf(&text, ",%s\n", number);
        if (text.n >= OUT_PIECE) {
            ok = text.status == AMX_OK && fwrite(text.bytes, 1, text.n, file) == text.n;
            buf_clear(&text);
        }
    }
    ok = ok && text.status == AMX_OK && fwrite(buf_string(&text), 1, text.n, file) == text.n;
    buf_done(&text);
    if (fclose(file) != 0 || !ok)
        return error_set(err, AMX_IO, "Cannot write %.150s.", path);
    return AMX_OK;
}

/* Annotators with most labels, with what the method thinks of them. */
static void print_annotators(const struct label_files *f, const struct outcome *r)
{
    const size_t A = f->labels.n_annotators;
    size_t *n = calloc(A + 1, sizeof *n), *gold = calloc(A + 1, sizeof *gold), *right = calloc(A + 1, sizeof *right);

    for (size_t i = 0; n != NULL && gold != NULL && right != NULL && i < f->labels.n_labels; i++) {
        const uint32_t a = f->annotator[i];
        const int32_t truth = f->gold[f->instance[i]];

        n[a]++;
        gold[a] += truth >= 0;
        right[a] += truth >= 0 && (uint32_t)truth == f->class_[i];
    }
    if (n != NULL && gold != NULL && right != NULL)
        printf("\n%-24s %9s %12s %14s\n", A > ANNOTATORS_SHOWN ? "annotators, most labels" : "annotator", "labels",
               "reliability", "right of gold");
    for (size_t shown = 0; n != NULL && gold != NULL && right != NULL && shown < A && shown < ANNOTATORS_SHOWN;
         shown++) {
        size_t most = 0;

        for (size_t a = 1; a < A; a++)
            most = n[a] > n[most] ? a : most;
        printf("%-24.60s %9zu %11.1f%% %7zu/%zu\n", f->annotators.names[most], n[most], 100 * r->reliability[most],
               right[most], gold[most]);
        n[most] = 0;
    }
    free(right);
    free(gold);
    free(n);
}

static void print_table(const struct aggregate_command *o, const struct label_files *f, const struct outcome *r)
{
    const struct crowd_labels *l = &f->labels;
    double low, high;

    printf("%s of %zu labels: %zu instances, %zu annotators, %zu classes\n", aggregate_find(o->method)->title,
           l->n_labels, l->n_instances, l->n_annotators, l->n_classes);
    if (r->report.rounds > 0)
        printf("  %d rounds%s, %.3f s\n", r->report.rounds,
               aggregate_find(o->method)->tolerance > 0 ? r->report.converged ? ", converged" : ", not converged" : "",
               r->seconds);
    if (isfinite(r->agreement.alpha))
        printf("  Krippendorff's alpha %.3f, Fleiss' kappa %.3f over %zu instances with several labels\n",
               r->agreement.alpha, r->agreement.fleiss_kappa, r->agreement.n_instances);
    if (r->n > 0) {
        wilson_interval((double)r->right, (double)r->n, &low, &high);
        printf("  accuracy %.2f %% (95 %%: %.1f to %.1f) of %zu with gold; majority vote %.2f %%\n",
               100 * (double)r->right / (double)r->n, 100 * low, 100 * high, r->n,
               100 * (double)r->majority_right / (double)r->n);
    }
    print_annotators(f, r);
}

static enum amx_status print_json(const struct aggregate_command *o, const struct label_files *f,
                                  const struct outcome *r, struct amx_error *err)
{
    const bool judged = r->n > 0;
    double low = (double)NAN, high = (double)NAN, n = (double)r->n;
    json_t *json;
    char *text = NULL;

    if (judged)
        wilson_interval((double)r->right, n, &low, &high);
    json = json_pack("{s:s, s:o, s:I, s:f, s:o, s:o, s:I, s:I, s:I, s:I, s:i, s:b, s:o, s:o}", "method", o->method,
                     "accuracy", jsonx_real_or_null(judged ? (double)r->right / n : (double)NAN), "n", (json_int_t)r->n,
                     "seconds", r->seconds, "accuracy_interval",
                     judged ? json_pack("[f,f]", low, high) : json_null(), "majority_vote_accuracy",
                     jsonx_real_or_null(judged ? (double)r->majority_right / n : (double)NAN), "labels",
                     (json_int_t)f->labels.n_labels, "instances", (json_int_t)f->labels.n_instances, "annotators",
                     (json_int_t)f->labels.n_annotators, "classes", (json_int_t)f->labels.n_classes, "rounds",
                     r->report.rounds, "converged", r->report.converged ? 1 : 0, "krippendorff_alpha",
                     jsonx_real_or_null(r->agreement.alpha), "fleiss_kappa",
                     jsonx_real_or_null(r->agreement.fleiss_kappa));
    if (json != NULL)
        text = jsonx_dump(json, NULL);
    json_decref(json);
    if (text == NULL)
        return error_set(err, AMX_NO_MEMORY, "Out of memory.");
    puts(text);
    free(text);
    return AMX_OK;
}

static enum amx_status run(struct aggregate_command *o, struct amx_error *err)
{
    struct watch watch = {.text = "reading"};
    struct label_files files;
    struct outcome outcome = {0};
    enum amx_status status;

    find_files(o);
    progress_bar_init(&watch.bar, STDERR_FILENO);
    o->paths.progress = o->options.progress = show;
    o->paths.context = o->options.context = &watch;
    status = label_files_read(&o->paths, &files, err);
    progress_bar_end(&watch.bar);
    if (status != AMX_OK)
        return status;
    watch.text = o->method;
    status = work(o, &files, &outcome, err);
    progress_bar_end(&watch.bar);
    if (status == AMX_OK && o->out != NULL)
        status = write_file(o->out, &files, &outcome, err);
    if (status == AMX_OK)
        print_table(o, &files, &outcome);
    if (status == AMX_OK && o->json)
        status = print_json(o, &files, &outcome, err);
    outcome_done(&outcome);
    label_files_done(&files);
    return status;
}

int cmd_aggregate(int argc, char **argv)
{
    struct aggregate_command o = {.labels = BUF_INIT(8192), .gold = BUF_INIT(8192), .meta = BUF_INIT(8192)};
    struct amx_error err;
    int exit_status = EXIT_FAILED;

    memset(&err, 0, sizeof err);
    if (parse(argc, argv, &o, &exit_status)) {
        exit_status = cmd_end("aggregate", run(&o, &err), &err);
        if (exit_status == EXIT_OK && fflush(stdout) != 0)
            exit_status = EXIT_FAILED;
    }
    buf_done(&o.meta);
    buf_done(&o.gold);
    buf_done(&o.labels);
    return exit_status;
}
