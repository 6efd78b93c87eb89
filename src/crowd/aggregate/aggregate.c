/* aggregate.c - table and entry point of the label-only methods.
 *
 * Every method sees a problem in which each class, instance and annotator occurs: classes nobody gave would otherwise
 * take part in smoothing (and could win where all known annotators contradict each other), a thousand unseen classes
 * would cost a million cells per annotator, and instances without labels would pull class priors towards uniform. The
 * numbers are mapped on the way in and back on the way out. */
#include "aggregate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "aggregate_int.h"
#include "learn/status.h"
#include "util/size.h"

static const struct aggregate_method methods[] = {
    {.name = "majority_vote",
     .title = "Majority vote",
     .source = "vote shares, ties to the first class",
     .help = "Every label counts alike.",
     .uses_gold = true},
    {.name = "wawa",
     .title = "Worker agreement with aggregate",
     .source = "Appen (no article); as in crowd-kit",
     .help = "Votes weighted by how often the annotator agrees with the majority.",
     .uses_gold = true, .uses_history = true},
    {.name = "zero_based_skill",
     .title = "Zero-based skill",
     .source = "Toloka (no article); as in crowd-kit",
     .help = "Weighted votes whose weights move step by step to the agreement with the weighted vote.",
     .uses_gold = true, .uses_history = true, .rounds = 100},
    {.name = "dawid_skene",
     .title = "Dawid-Skene",
     .source = "Dawid, Skene, Applied Statistics 28, 1979",
     .help = "A confusion matrix per annotator, by EM.",
     .uses_gold = true, .uses_history = true, .rounds = 100, .tolerance = 1e-5},
    {.name = "one_coin_dawid_skene",
     .title = "One-coin Dawid-Skene",
     .source = "Zhang, Chen, Zhou, Jordan, JMLR 17, 2016",
     .help = "One accuracy per annotator, errors spread evenly, by EM.",
     .uses_gold = true, .uses_history = true, .rounds = 100, .tolerance = 1e-5},
    {.name = "glad",
     .title = "GLAD",
     .source = "Whitehill, Ruvolo, Wu, Bergsma, Movellan, NIPS 2009",
     .help = "Abilities of annotators times easiness of instances, by EM.",
     .uses_gold = true, .rounds = 100, .tolerance = 1e-5},
    {.name = "mace",
     .title = "MACE",
     .source = "Hovy, Berg-Kirkpatrick, Vaswani, Hovy, NAACL 2013",
     .help = "Annotators who know or guess, each guessing in a way of its own, by variational EM.",
     .uses_gold = true, .rounds = 50},
    {.name = "kos",
     .title = "KOS",
     .source = "Karger, Oh, Shah, Operations Research 62, 2014",
     .help = "Messages between instances and annotators; two classes only.",
     .two_classes = true, .rounds = 100},
    {.name = "m_msr",
     .title = "M-MSR",
     .source = "Ma, Olshevsky, NeurIPS 2020",
     .help = "Accuracies from the agreements of pairs by robust rank-one completion, then a weighted vote.",
     .rounds = 10000, .tolerance = 1e-10},
};
enum {
    N_METHODS = sizeof methods / sizeof methods[0]
};
/* In the same order. */
static enum amx_status (*const runs[N_METHODS])(struct crowd_problem *p) = {
    votes_majority, votes_wawa, votes_zero_based_skill, dawid_skene_run,
    one_coin_run, glad_run, mace_run, kos_run, m_msr_run,
};

const struct aggregate_method *aggregate_methods(size_t *n)
{
    *n = N_METHODS;
    return methods;
}

const struct aggregate_method *aggregate_find(const char *name)
{
    for (size_t i = 0; i < N_METHODS; i++) {
        if (strcmp(methods[i].name, name) == 0)
            return &methods[i];
    }
    return NULL;
}

/* ---- leaving out what does not occur ----------------------------------------------------------------------------- */

/* The problem, and the way back. */
struct compact {
    struct crowd_problem problem;
    uint32_t *class_of, *instance_of, *annotator_of; /* compact number -> the caller's */
    uint32_t *instance, *annotator, *class_;         /* mapped labels */
    int32_t *gold;
    float *history;
    double *posterior, *reliability;
};

static void compact_done(struct compact *c)
{
    free(c->reliability);
    free(c->posterior);
    free(c->history);
    free(c->gold);
    free(c->class_);
    free(c->annotator);
    free(c->instance);
    free(c->annotator_of);
    free(c->instance_of);
    free(c->class_of);
}

/* Numbers in use, from marks: map[i] = compact number, or CROWD_NO_CLASS; *of = the way back. Returns their number. */
static size_t number(uint32_t *map, size_t n, uint32_t *of)
{
    size_t used = 0;

    for (size_t i = 0; i < n; i++) {
        if (map[i] != 0) {
            of[used] = (uint32_t)i;
            map[i] = (uint32_t)used++;
        } else {
            map[i] = CROWD_NO_CLASS;
        }
    }
    return used;
}

/* map: 1 where a class occurs: in a label, as gold of a labelled instance, in a labelling annotator's history. */
static void mark_classes(const struct crowd_labels *l, const struct crowd_problem *p, uint32_t *map)
{
    const size_t C = l->n_classes;
    size_t last = SIZE_MAX, annotator = 0;

    for (size_t i = 0; i < l->n_labels; i++) {
        map[l->class_[i]] = 1;
        if (p->gold != NULL && l->instance[i] != last && p->gold[l->instance[i]] >= 0)
            map[p->gold[l->instance[i]]] = 1;
        last = l->instance[i];
    }
    for (; p->history != NULL && annotator < l->n_annotators; annotator++) {
        for (size_t k = 0; k < C; k++) {
            for (size_t z = 0; z < C; z++) {
                if (p->history[(annotator * C + k) * C + z] > 0)
                    map[k] = map[z] = 1;
            }
        }
    }
}

static enum amx_status map_labels(const struct crowd_labels *l, const uint32_t *instances, const uint32_t *annotators,
                                  const uint32_t *classes, struct compact *c)
{
    const size_t bytes = (l->n_labels > 0 ? l->n_labels : 1) * sizeof(uint32_t);

    c->instance = malloc(bytes);
    c->annotator = malloc(bytes);
    c->class_ = malloc(bytes);
    if (c->instance == NULL || c->annotator == NULL || c->class_ == NULL)
        return AMX_NO_MEMORY;
    for (size_t i = 0; i < l->n_labels; i++) {
        c->instance[i] = instances[l->instance[i]];
        c->annotator[i] = annotators[l->annotator[i]];
        c->class_[i] = classes[l->class_[i]];
    }
    c->problem.labels.n_labels = l->n_labels;
    c->problem.labels.instance = c->instance;
    c->problem.labels.annotator = c->annotator;
    c->problem.labels.class_ = c->class_;
    return AMX_OK;
}

static enum amx_status map_gold(const int32_t *gold, const uint32_t *classes, struct compact *c)
{
    const size_t N = c->problem.labels.n_instances;

    c->gold = malloc((N > 0 ? N : 1) * sizeof *c->gold);
    if (c->gold == NULL)
        return AMX_NO_MEMORY;
    for (size_t i = 0; i < N; i++) {
        int32_t k = gold[c->instance_of[i]];

        c->gold[i] = k >= 0 ? (int32_t)classes[k] : -1;
    }
    c->problem.gold = c->gold;
    return AMX_OK;
}

static enum amx_status map_history(const float *history, size_t all_classes, struct compact *c)
{
    const size_t A = c->problem.labels.n_annotators, C = c->problem.labels.n_classes;
    size_t cells, bytes;

    if (!size_mul(&cells, A * C, C) || !size_mul(&bytes, cells, sizeof *c->history))
        return AMX_TOO_LARGE;
    c->history = malloc(bytes > 0 ? bytes : 1);
    if (c->history == NULL)
        return AMX_NO_MEMORY;
    for (size_t a = 0; a < A; a++) {
        const float *from = history + (size_t)c->annotator_of[a] * all_classes * all_classes;

        for (size_t k = 0; k < C; k++) {
            for (size_t z = 0; z < C; z++)
                c->history[(a * C + k) * C + z] = from[c->class_of[k] * all_classes + c->class_of[z]];
        }
    }
    c->problem.history = c->history;
    return AMX_OK;
}

/* Fills *c from the caller's arrays; c->problem holds the caller's gold and history on the way in. */
static enum amx_status compact_make(const struct crowd_labels *l, struct compact *c)
{
    const int32_t *gold = c->problem.gold;
    const float *history = c->problem.history;
    struct crowd_labels *own = &c->problem.labels;
    uint32_t *instances = calloc(l->n_instances + 1, sizeof *instances);
    uint32_t *annotators = calloc(l->n_annotators + 1, sizeof *annotators);
    uint32_t *classes = calloc(l->n_classes + 1, sizeof *classes);
    enum amx_status status = AMX_NO_MEMORY;
    size_t cells;

    c->instance_of = malloc((l->n_instances + 1) * sizeof *c->instance_of);
    c->annotator_of = malloc((l->n_annotators + 1) * sizeof *c->annotator_of);
    c->class_of = malloc((l->n_classes + 1) * sizeof *c->class_of);
    if (instances == NULL || annotators == NULL || classes == NULL || c->instance_of == NULL ||
        c->annotator_of == NULL || c->class_of == NULL)
        goto done;
    for (size_t i = 0; i < l->n_labels; i++)
        instances[l->instance[i]] = annotators[l->annotator[i]] = 1;
    mark_classes(l, &c->problem, classes);
    own->n_instances = number(instances, l->n_instances, c->instance_of);
    own->n_annotators = number(annotators, l->n_annotators, c->annotator_of);
    own->n_classes = number(classes, l->n_classes, c->class_of);
    status = AMX_TOO_LARGE;
    if (!size_mul(&cells, own->n_instances, own->n_classes) || cells > SIZE_MAX / sizeof(double) - 1)
        goto done;
    status = AMX_NO_MEMORY;
    c->posterior = malloc((cells + 1) * sizeof *c->posterior);
    c->reliability = malloc((own->n_annotators + 1) * sizeof *c->reliability);
    if (c->posterior == NULL || c->reliability == NULL)
        goto done;
    c->problem.posterior = c->posterior;
    c->problem.reliability = c->reliability;
    status = map_labels(l, instances, annotators, classes, c);
    if (status == AMX_OK && gold != NULL)
        status = map_gold(gold, classes, c);
    if (status == AMX_OK && history != NULL)
        status = map_history(history, l->n_classes, c);
done:
    free(classes);
    free(annotators);
    free(instances);
    return status;
}

/* Back to the caller's numbers. */
static void compact_give(const struct compact *c, const struct crowd_labels *l, const int32_t *gold, double *posterior,
                         double *reliability)
{
    const size_t C = l->n_classes, n = c->problem.labels.n_instances, m = c->problem.labels.n_classes;
    double *shares = posterior; /* row 0 is written last, so it can hold the class shares until then */
    size_t at = n;

    if (l->n_instances == 0 || C == 0)
        return;
    for (size_t k = 0; k < C; k++)
        shares[k] = n > 0 ? 0 : 1.0 / (double)C;
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < m; k++)
            shares[c->class_of[k]] += c->posterior[i * m + k] / (double)n;
    }
    for (size_t i = l->n_instances; i-- > 0;) {
        double *row = posterior + i * C;
        bool labelled = at > 0 && c->instance_of[at - 1] == i;

        if (!labelled) {
            if (i > 0)
                memcpy(row, shares, C * sizeof *row);
            if (gold != NULL && gold[i] >= 0) {
                memset(row, 0, C * sizeof *row);
                row[gold[i]] = 1;
            }
            continue;
        }
        at--;
        memset(row, 0, C * sizeof *row);
        for (size_t k = 0; k < m; k++)
            row[c->class_of[k]] = c->posterior[at * m + k];
    }
    for (size_t a = 0; reliability != NULL && a < l->n_annotators; a++)
        reliability[a] = (double)NAN;
    for (size_t a = 0; reliability != NULL && a < c->problem.labels.n_annotators; a++)
        reliability[c->annotator_of[a]] = c->reliability[a];
}

/* ---- entry ------------------------------------------------------------------------------------------------------- */

/* One class in use: nothing to find out. */
static void certain(struct crowd_problem *p)
{
    for (size_t i = 0; i < p->labels.n_instances * p->labels.n_classes; i++)
        p->posterior[i] = 1;
    for (size_t a = 0; a < p->labels.n_annotators; a++)
        p->reliability[a] = 1;
}

static enum amx_status run(const struct aggregate_method *method, struct crowd_problem *p)
{
    if (method->two_classes && p->labels.n_classes > 2)
        return amx_fail(p->err, AMX_INVALID, "", "%s takes labels of two classes; these have %zu.", method->name,
                        p->labels.n_classes);
    if (p->labels.n_classes < 2) {
        certain(p);
        return AMX_OK;
    }
    return runs[method - methods](p);
}

enum amx_status aggregate(const struct crowd_labels *labels, const char *name, const struct aggregate_options *options,
                          double *posterior, double *reliability, struct aggregate_report *report,
                          struct amx_error *err)
{
    static const struct aggregate_options defaults;
    const struct aggregate_options *o = options != NULL ? options : &defaults;
    const struct aggregate_method *method = aggregate_find(name);
    struct compact c = {0};
    struct amx_error own;
    enum amx_status status;

    if (method == NULL)
        return amx_fail(err, AMX_NOT_FOUND, "", "There is no label-only method \"%.40s\".", name);
    memset(&own, 0, sizeof own);
    c.problem = (struct crowd_problem){
        .gold = method->uses_gold ? o->gold : NULL,
        .history = method->uses_history ? o->history : NULL,
        .rounds = o->rounds > 0 ? o->rounds : method->rounds,
        .tolerance = o->tolerance > 0 ? o->tolerance : method->tolerance,
        .seed = o->seed,
        .cancel = o->cancel,
        .progress = o->progress,
        .context = o->context,
        .converged = true,
        .err = &own,
    };
    status = compact_make(labels, &c);
    if (status == AMX_OK)
        status = run(method, &c.problem);
    if (status == AMX_OK) {
        compact_give(&c, labels, method->uses_gold ? o->gold : NULL, posterior, reliability);
        if (report != NULL)
            *report = (struct aggregate_report){c.problem.rounds_run, c.problem.converged};
    } else if (own.code != AMX_OK) {
        if (err != NULL)
            *err = own;
    } else {
        (void)amx_fail(err, status, "", "%s: %s.", method->name, amx_status_text(status));
    }
    compact_done(&c);
    return status;
}

void aggregate_winners(const double *posterior, size_t n_instances, size_t n_classes, uint32_t *winner)
{
    for (size_t i = 0; i < n_instances; i++) {
        const double *row = posterior + i * n_classes;
        size_t best = 0;

        for (size_t k = 1; k < n_classes; k++) {
            if (row[k] > row[best])
                best = k;
        }
        winner[i] = (uint32_t)best;
    }
}
