/* cmd_simulate.c - `annotmixd simulate DIR --out DIR2`: simulated annotators for data with gold, or attackers added
 * to a set of labels; the true accuracy and confusion matrix of everybody are written beside, so that what fit,
 * aggregate or the server say about annotators can be checked. simulate.h says what is simulated. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cmd.h"
#include "files/data_dir.h"
#include "progress_bar.h"
#include "simulate/simulate.h"
#include "util/error.h"
#include "util/jsonx.h"
#include "util/numbers.h"

enum {
    SHOWN = 40
};

struct simulate {
    const char *from, *to;
    struct sim_options options;
    bool json;
    struct progress_bar bar;
};

static const char usage[] = "DIR --out DIR2 [--seed S] (--networks | --kinds LIST | --attack KIND --share S)";

/* ---- command line ------------------------------------------------------------------------------------------------ */

static bool wrong(const char *text)
{
    command_error("simulate", "%s", text);
    return false;
}

/* "3" or "2-4". */
static bool take_range(const char *text, unsigned *low, unsigned *high)
{
    const char *dash;
    int64_t first, last;

    if (text == NULL)
        return true;
    dash = strchr(text, '-');
    if (!number_int(text, dash != NULL ? (size_t)(dash - text) : strlen(text), &first))
        return wrong("--labels must be a number or a range, 3 or 2-4");
    last = first;
    if (dash != NULL && !number_int(dash + 1, strlen(dash + 1), &last))
        return wrong("--labels must be a number or a range, 3 or 2-4");
    if (first < 1 || last < first || last > 1000000)
        return wrong("--labels must be from 1 on, the smaller number first");
    *low = (unsigned)first;
    *high = (unsigned)last;
    return true;
}

/* "256,128". */
static bool take_hidden(const char *text, struct sim_options *o)
{
    o->n_hidden = 0;
    while (*text != '\0') {
        size_t n = strcspn(text, ",");
        int64_t width;

        if (o->n_hidden == AMX_MAX_HIDDEN || !number_int(text, n, &width) || width < 1 || width > 4096)
            return wrong("--hidden must be up to 8 widths from 1 to 4096, as 256,128");
        o->hidden[o->n_hidden++] = (int)width;
        text += text[n] == ',' ? n + 1 : n;
    }
    return true;
}

static bool take_share(const char *text, double *out)
{
    size_t n = text != NULL ? strlen(text) : 0;
    double scale = n > 0 && text[n - 1] == '%' ? 100 : 1;

    if (text == NULL)
        return wrong("--attack needs --share S");
    if (!number_double(text, scale > 1 ? n - 1 : n, out) || *out <= 0 || *out > 0.9 * scale)
        return wrong("--share must be above 0 and at most 0.9 (or 90%): of all labels that come out");
    *out /= scale;
    return true;
}

static bool take_attack(const char *text, enum sim_kind *out)
{
    static const struct {
        const char *name;
        enum sim_kind kind;
    } attacks[] = {
        {"random", SIM_SPAMMER}, {"constant", SIM_CONSTANT}, {"flip", SIM_ADVERSARY}, {"collude", SIM_COLLUDERS}};

    for (size_t i = 0; i < sizeof attacks / sizeof attacks[0]; i++) {
        if (strcmp(attacks[i].name, text) == 0) {
            *out = attacks[i].kind;
            return true;
        }
    }
    return wrong("--attack must be random, constant, flip or collude");
}

/* The words of the options that name a way, and those that go with one way only. */
struct words {
    const char *out, *seed, *kinds, *attack, *share, *annotators, *labels, *weights, *hidden;
    bool networks;
};

static bool settle_mode(const struct words *w, struct sim_options *o)
{
    const char *only = w->attack != NULL ? (w->labels != NULL    ? "--labels"
                                            : w->weights != NULL ? "--weights"
                                            : o->label_test      ? "--label-test"
                                                                 : NULL)
                                         : (w->share != NULL ? "--share" : NULL);

    if (w->networks + (w->kinds != NULL) + (w->attack != NULL) != 1)
        return wrong("say how: one of --networks, --kinds LIST and --attack KIND; see annotmixd simulate --help");
    o->mode = w->networks ? SIM_NETWORKS : w->kinds != NULL ? SIM_KINDS : SIM_ATTACK;
    if (only == NULL && w->hidden != NULL && !w->networks)
        only = "--hidden";
    if (only == NULL && w->annotators != NULL && w->attack != NULL)
        only = "--annotators";
    if (only != NULL) {
        command_error("simulate", "%s does not go with %s", only,
                      w->networks        ? "--networks"
                      : w->kinds != NULL ? "--kinds"
                                         : "--attack");
        return false;
    }
    o->kinds = w->kinds;
    o->beta_weights = w->weights != NULL ? strcmp(w->weights, "beta") == 0 : w->networks;
    if (w->weights != NULL && strcmp(w->weights, "beta") != 0 && strcmp(w->weights, "equal") != 0)
        return wrong("--weights must be beta or equal");
    return w->attack == NULL || (take_attack(w->attack, &o->attack) && take_share(w->share, &o->share));
}

static bool settle(const struct words *w, struct sim_options *o)
{
    int64_t seed = 1, annotators = 20;

    o->labels_low = 2;
    o->labels_high = 4;
    if (!settle_mode(w, o) || !options_number("simulate", "--seed", w->seed, 0, (INT64_C(1) << 53) - 1, &seed) ||
        !options_number("simulate", "--annotators", w->annotators, 1, 1000000, &annotators) ||
        !take_hidden(w->hidden != NULL ? w->hidden : "256,128", o) ||
        !take_range(w->labels, &o->labels_low, &o->labels_high))
        return false;
    o->seed = (uint64_t)seed;
    o->n_annotators = (size_t)annotators;
    return true;
}

/* False: done already, with *exit_status. */
static bool parse(int argc, char **argv, struct simulate *s, int *exit_status)
{
    struct words w = {0};
    const char *words[1];
    size_t n_words = 0;
    const struct option table[] = {
        {"--out", "DIR2", "folder to write; made when it is not there (needed)", &w.out, NULL},
        {"--seed", "S", "everything is decided by the data and this, 0 to 2^53-1 (1)", &w.seed, NULL},
        {"--networks", NULL, "annotators are small networks, each trained on a random part of the gold of train", NULL,
         &w.networks},
        {"--kinds", "LIST", "annotators with habits: expert=2,careless=3:0.7,class_confuser=2,region_blind=1,",
         &w.kinds, NULL},
        {"", "", "  spammer=1,constant=1,adversary=1,colluders=3; NAME=COUNT or NAME=20% (of --annotators),", NULL,
         NULL},
        {"", "", "  then :ACCURACY (expert .95, careless .6, class_confuser .5 on its pairs, region_blind .95", NULL,
         NULL},
        {"", "", "  where it sees, adversary .1, colluders .4)", NULL, NULL},
        {"--attack", "KIND", "add attackers to the labels: random, constant, flip (of honest labels) or collude",
         &w.attack, NULL},
        {"--share", "S", "with --attack: their share of all labels, 0.2 or 20%", &w.share, NULL},
        {"--annotators", "N", "how many networks, or what the shares of --kinds are taken of (20)", &w.annotators,
         NULL},
        {"--labels", "N|N-M", "labels per instance, uniform between (2-4)", &w.labels, NULL},
        {"--weights", "W", "who is asked how often: beta (Beta(1,3), of --networks) or equal (of --kinds)", &w.weights,
         NULL},
        {"--hidden", "W,W,...", "widths of the networks' hidden layers (256,128)", &w.hidden, NULL},
        {"--label-test", NULL, "label valid and test instances too (labels_test.csv, never trained on)", NULL,
         &s->options.label_test},
        {"--json", NULL, "one JSON object as the last line", NULL, &s->json},
        {0}};

    if (!options_parse(argc, argv, table, usage, 1, 1, words, &n_words, exit_status))
        return false;
    *exit_status = EXIT_USAGE;
    if (w.out == NULL)
        return wrong("--out DIR2 is needed: the folder to write");
    s->from = words[0];
    s->to = w.out;
    return settle(&w, &s->options);
}

/* ---- what is printed --------------------------------------------------------------------------------------------- */

static void print_summary(const struct simulation *s, const struct sim_quality *q, const char *to)
{
    printf("%zu labels by %zu annotators on %zu train instances to %s\n", q->n_labels, s->n_annotators, q->n_train, to);
    if (isfinite(q->label_accuracy))
        printf("%.2f %% of %zu labels with gold are right, majority vote %.2f %% of %zu instances\n",
               q->label_accuracy * 100, q->n, q->majority_accuracy * 100, q->n_voted);
    printf("\n%-28s %-15s %8s %14s\n", "Annotator", "kind", "labels", "true accuracy");
    /* Of very many the last ones: attackers stand at the end. */
    size_t first = s->n_annotators > SHOWN ? s->n_annotators - SHOWN : 0;

    if (first > 0)
        printf("(%zu more)\n", first);
    for (size_t a = first; a < s->n_annotators; a++) {
        const struct sim_annotator *annotator = &s->annotators[a];

        printf("%-28s %-15s %8zu", annotator->name, sim_kind_name(annotator->kind), annotator->n_labels);
        if (isfinite(annotator->accuracy))
            printf(" %14.3f\n", annotator->accuracy);
        else
            printf(" %14s\n", "-");
    }
    if (s->n_annotators > 0 && s->annotators[0].confusion == NULL)
        printf("(too many numbers: confusion matrices were left out of meta.json)\n");
}

static enum amx_status print_json(const struct simulation *s, const struct sim_quality *q, struct amx_error *err)
{
    size_t n, bad = 0;
    char *text;
    json_t *object;

    for (size_t a = 0; a < s->n_annotators; a++)
        bad += s->annotators[a].bad;
    object =
        json_pack("{s:I, s:I, s:I, s:I, s:I, s:o, s:o}", "seed", (json_int_t)s->options->seed, "annotators",
                  (json_int_t)s->n_annotators, "bad_annotators", (json_int_t)bad, "labels", (json_int_t)q->n_labels,
                  "n", (json_int_t)q->n, "label_accuracy", jsonx_real_or_null(q->label_accuracy),
                  "majority_vote_accuracy", jsonx_real_or_null(q->majority_accuracy));
    text = object != NULL ? jsonx_dump(object, &n) : NULL;
    json_decref(object);
    if (text == NULL)
        return error_set(err, AMX_NO_MEMORY, "Out of memory.");
    puts(text);
    free(text);
    return AMX_OK;
}

static void show_progress(double fraction, const char *text, void *context)
{
    progress_bar_draw(context, fraction, text);
}

/* *usage_wrong: the options do not fit the data, which is a wrong command line. */
static enum amx_status run(struct simulate *command, bool *usage_wrong, struct amx_error *err)
{
    struct data_dir dir = {0};
    struct simulation s = {0};
    struct sim_quality quality;
    enum amx_status status;

    progress_bar_init(&command->bar, STDERR_FILENO);
    command->options.progress = command->bar.visible ? show_progress : NULL;
    command->options.context = &command->bar;
    if ((status = data_dir_read_partly(command->from, DATA_DIR_NO_LABELS | DATA_DIR_NO_INSTANCES, &dir, err)) != AMX_OK)
        return status;
    status = simulation_make(&dir, &command->options, &s, err);
    progress_bar_end(&command->bar);
    *usage_wrong = status == AMX_INVALID;
    if (status == AMX_OK && (status = simulation_write(&s, command->from, command->to, err)) == AMX_OK &&
        (status = simulation_quality(&s, &quality, err)) == AMX_OK) {
        print_summary(&s, &quality, command->to);
        if (command->json)
            status = print_json(&s, &quality, err);
    }
    simulation_done(&s);
    data_dir_done(&dir);
    return status;
}

int cmd_simulate(int argc, char **argv)
{
    struct simulate command = {0};
    struct amx_error err;
    enum amx_status status;
    bool usage_wrong = false;
    int exit_status = EXIT_FAILED;

    if (!parse(argc, argv, &command, &exit_status))
        return exit_status;
    memset(&err, 0, sizeof err);
    status = run(&command, &usage_wrong, &err);
    exit_status = cmd_end("simulate", status, &err);
    if (usage_wrong)
        exit_status = EXIT_USAGE;
    if (status == AMX_OK && fflush(stdout) != 0)
        exit_status = EXIT_FAILED;
    return exit_status;
}
