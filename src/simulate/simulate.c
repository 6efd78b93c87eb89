/* simulate.c - see simulate.h: who is asked about what, attackers beside given labels, the truth about everybody. */
#include "simulate.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crowd/aggregate/majority.h"
#include "util/error.h"
#include "util/size.h"

enum {
    MAX_CONFUSION_NUMBERS = 1000000, /* over all annotators: meta.json stays below 8 MiB */
    REJECTIONS = 64
};

static enum amx_status no_memory(struct amx_error *err)
{
    return error_set(err, AMX_NO_MEMORY, "Out of memory.");
}

static bool add_label(struct simulation *s, uint32_t row, size_t annotator, uint32_t class_)
{
    if (s->n_labels == s->labels_capacity) {
        size_t capacity = s->labels_capacity > 0 ? 2 * s->labels_capacity : 4096, bytes;
        struct training_label *labels;

        if (!size_mul(&bytes, capacity, sizeof *labels) || (labels = realloc(s->labels, bytes)) == NULL)
            return false;
        s->labels = labels;
        s->labels_capacity = capacity;
    }
    s->labels[s->n_labels++] = (struct training_label){row, (uint32_t)annotator, class_};
    return true;
}

/* ---- who is asked ------------------------------------------------------------------------------------------------ */

/* Annotators with their weights, for drawing some without repetition. */
struct urn {
    size_t n;
    double *cumulative;  /* [n] */
    uint64_t *drawn_for; /* [n] row + 1 for which it was drawn last */
    struct sim_random random;
};

static bool urn_init(struct urn *urn, const struct simulation *s)
{
    struct sim_random weights;
    double sum = 0;

    urn->n = s->n_annotators;
    urn->cumulative = calloc(urn->n + 1, sizeof *urn->cumulative);
    urn->drawn_for = calloc(urn->n + 1, sizeof *urn->drawn_for);
    if (urn->cumulative == NULL || urn->drawn_for == NULL)
        return false;
    for (size_t a = 0; a < urn->n; a++) {
        sim_random_init(&weights, s->options->seed, SIM_FOR_WEIGHTS, a, 0);
        /* Not exactly 0: everybody can be asked. */
        sum += s->options->beta_weights ? fmax(sim_beta(&weights, 1, 3), 1e-9) : 1;
        urn->cumulative[a] = sum;
    }
    return true;
}

static void urn_done(struct urn *urn)
{
    free(urn->cumulative);
    free(urn->drawn_for);
}

static double weight_of(const struct urn *urn, size_t a)
{
    return urn->cumulative[a] - (a > 0 ? urn->cumulative[a - 1] : 0);
}

/* Proportional to the weights among all; binary search. */
static size_t draw_any(struct urn *urn)
{
    double u = sim_uniform(&urn->random) * urn->cumulative[urn->n - 1];
    size_t low = 0, high = urn->n - 1;

    while (low < high) {
        size_t middle = (low + high) / 2;

        if (urn->cumulative[middle] > u)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

/* The same among those not drawn for this row yet: rejection, and when few are left, one pass over them. */
static size_t draw_new(struct urn *urn, uint64_t mark)
{
    double left = 0, u;
    size_t last = 0;

    for (int tries = 0; tries < REJECTIONS; tries++) {
        size_t a = draw_any(urn);

        if (urn->drawn_for[a] != mark)
            return a;
    }
    for (size_t a = 0; a < urn->n; a++)
        left += urn->drawn_for[a] != mark ? weight_of(urn, a) : 0;
    u = sim_uniform(&urn->random) * left;
    for (size_t a = 0; a < urn->n; a++) {
        if (urn->drawn_for[a] == mark)
            continue;
        last = a;
        u -= weight_of(urn, a);
        if (u < 0)
            break;
    }
    return last;
}

static enum amx_status ask(struct simulation *s, struct amx_error *err)
{
    const struct sim_options *o = s->options;
    double *p = calloc(s->n_classes, sizeof *p);
    struct urn urn = {0};
    enum amx_status status = p == NULL || !urn_init(&urn, s) ? no_memory(err) : AMX_OK;

    for (size_t row = 0; row < s->n_rows && status == AMX_OK; row++) {
        const struct training_row *about = &s->dir->rows[row];
        size_t n;

        if (about->gold < 0 || (about->split != SPLIT_TRAIN && !o->label_test))
            continue;
        sim_random_init(&urn.random, o->seed, SIM_FOR_ASKING, row, 0);
        n = o->labels_low + (size_t)sim_below(&urn.random, o->labels_high - o->labels_low + 1);
        for (size_t i = 0; i < n && status == AMX_OK; i++) {
            size_t a = draw_new(&urn, row + 1);
            uint32_t says = sim_answer(s, a, row, p);

            urn.drawn_for[a] = row + 1;
            if (says != SIM_NO_CLASS && !add_label(s, (uint32_t)row, a, says))
                status = no_memory(err);
        }
    }
    urn_done(&urn);
    free(p);
    return status;
}

/* ---- labels by instance ------------------------------------------------------------------------------------------ */

struct by_instance {
    struct training_label *sorted; /* by row, then annotator */
    uint32_t *classes;             /* of sorted */
    uint32_t *counts;              /* [C] scratch of a vote */
};

static int by_row(const void *a, const void *b)
{
    const struct training_label *x = a, *y = b;

    if (x->row != y->row)
        return x->row < y->row ? -1 : 1;
    return x->annotator < y->annotator ? -1 : x->annotator > y->annotator;
}

static enum amx_status sort_labels(const struct simulation *s, struct by_instance *out, struct amx_error *err)
{
    out->sorted = calloc(s->n_labels + 1, sizeof *out->sorted);
    out->classes = calloc(s->n_labels + 1, sizeof *out->classes);
    out->counts = calloc(s->n_classes, sizeof *out->counts);
    if (out->sorted == NULL || out->classes == NULL || out->counts == NULL)
        return no_memory(err);
    if (s->n_labels > 0)
        memcpy(out->sorted, s->labels, s->n_labels * sizeof *s->labels);
    qsort(out->sorted, s->n_labels, sizeof *out->sorted, by_row);
    for (size_t l = 0; l < s->n_labels; l++)
        out->classes[l] = out->sorted[l].class_;
    return AMX_OK;
}

static void by_instance_done(struct by_instance *labels)
{
    free(labels->sorted);
    free(labels->classes);
    free(labels->counts);
}

static size_t end_of_row(const struct by_instance *labels, size_t n, size_t first)
{
    size_t last = first + 1;

    while (last < n && labels->sorted[last].row == labels->sorted[first].row)
        last++;
    return last;
}

/* ---- attackers beside given labels ------------------------------------------------------------------------------- */

static enum amx_status take_given(struct simulation *s, struct amx_error *err)
{
    const struct data_dir *dir = s->dir;
    enum amx_status status;

    if (dir->n_labels == 0)
        return error_set(err, AMX_NOTHING, "There are no labels to attack; --networks or --kinds make some.");
    if ((status = sim_grow_annotators(s, dir->annotators.n, err)) != AMX_OK)
        return status;
    for (size_t a = 0; a < dir->annotators.n; a++) {
        (void)snprintf(s->annotators[a].name, sizeof s->annotators[a].name, "%s", dir->annotators.names[a]);
        s->annotators[a].kind = SIM_GIVEN;
        s->annotators[a].counted = true;
    }
    s->n_given = dir->annotators.n;
    for (size_t l = 0; l < dir->n_labels; l++) {
        if (!add_label(s, dir->labels[l].row, dir->labels[l].annotator, dir->labels[l].class_))
            return no_memory(err);
    }
    return AMX_OK;
}

/* Where there is no gold, what most of the given labels say passes for the truth. */
static enum amx_status guess_truth(struct simulation *s, struct amx_error *err)
{
    struct by_instance all;
    enum amx_status status = sort_labels(s, &all, err);

    for (size_t first = 0, last; status == AMX_OK && first < s->n_labels; first = last) {
        const uint32_t row = all.sorted[first].row;

        last = end_of_row(&all, s->n_labels, first);
        if (s->dir->rows[row].gold < 0)
            s->truth[row] = (int32_t)majority_of(all.classes + first, last - first, s->n_classes, all.counts);
    }
    by_instance_done(&all);
    return status;
}

/* Labels of split train by annotator a: first[a] to first[a + 1]. */
struct workload {
    size_t *first;
    uint32_t *rows, *classes; /* of each label */
    uint32_t *order;          /* annotators, shuffled */
};

static bool workload_init(struct workload *work, const struct simulation *s)
{
    const size_t A = s->n_given;
    size_t *at;

    work->first = calloc(A + 2, sizeof *work->first);
    work->rows = calloc(s->n_labels + 1, sizeof *work->rows);
    work->classes = calloc(s->n_labels + 1, sizeof *work->classes);
    work->order = calloc(A + 1, sizeof *work->order);
    at = calloc(A + 1, sizeof *at);
    if (work->first == NULL || work->rows == NULL || work->classes == NULL || work->order == NULL || at == NULL) {
        free(at);
        return false;
    }
    for (size_t l = 0; l < s->n_labels; l++) {
        if (s->dir->rows[s->labels[l].row].split == SPLIT_TRAIN)
            work->first[s->labels[l].annotator + 1]++;
    }
    for (size_t a = 0; a < A; a++) {
        work->first[a + 1] += work->first[a];
        at[a] = work->first[a];
        work->order[a] = (uint32_t)a;
    }
    for (size_t l = 0; l < s->n_labels; l++) {
        const struct training_label *label = &s->labels[l];

        if (s->dir->rows[label->row].split != SPLIT_TRAIN)
            continue;
        work->rows[at[label->annotator]] = label->row;
        work->classes[at[label->annotator]++] = label->class_;
    }
    free(at);
    return true;
}

static void workload_done(struct workload *work)
{
    free(work->first);
    free(work->rows);
    free(work->classes);
    free(work->order);
}

static enum amx_status add_attacker(struct simulation *s, size_t number, struct amx_error *err)
{
    struct sim_annotator *attacker;
    char name[sizeof attacker->name];
    uint32_t taken;
    int n = snprintf(name, sizeof name, "attacker-%zu", number);
    enum amx_status status = sim_grow_annotators(s, 1, err);

    if (status != AMX_OK)
        return status;
    /* A set that was attacked before has such names already. */
    for (int i = 2; name_table_find(&s->dir->annotators, name, strlen(name), &taken); i++)
        n = snprintf(name, sizeof name, "attacker-%zu-%d", number, i);
    attacker = &s->annotators[s->n_annotators - 1];
    memcpy(attacker->name, name, (size_t)n + 1);
    attacker->kind = s->options->attack;
    attacker->counted = attacker->kind == SIM_ADVERSARY;
    /* Attackers are never right on purpose. */
    attacker->wanted_accuracy = 0;
    attacker->stream = s->options->attack == SIM_COLLUDERS ? s->n_given : s->n_annotators - 1;
    return sim_kind_draw(s, s->n_annotators - 1, err);
}

/* What the newest attacker makes of label i of the honest one it goes after. */
static uint32_t attack_label(const struct simulation *s, const struct workload *work, size_t i, double *p)
{
    const size_t a = s->n_annotators - 1;

    if (s->annotators[a].kind == SIM_ADVERSARY)
        return (uint32_t)((work->classes[i] + s->annotators[a].class_) % s->n_classes);
    return sim_answer(s, a, work->rows[i], p);
}

/* Each attacker goes through the same instances as one of the honest, chosen in turn from a shuffled list: so attackers
 * look like the others in how much they do, and the last one stops when the share is reached. */
static enum amx_status attack_with(struct simulation *s, struct workload *work, double *p, struct amx_error *err)
{
    const size_t honest = work->first[s->n_given];
    const size_t wanted = (size_t)(s->options->share / (1 - s->options->share) * (double)honest + 0.5);
    struct sim_random random;
    size_t done = 0, number = 0;
    enum amx_status status = AMX_OK;

    if (honest == 0)
        return error_set(err, AMX_NOTHING, "There are no labels of split train to attack.");
    sim_random_init(&random, s->options->seed, SIM_FOR_ATTACK, 0, 0);
    for (size_t turn = 0; done < wanted && status == AMX_OK; turn++) {
        size_t model;

        if (turn % s->n_given == 0)
            sim_shuffle(&random, work->order, s->n_given);
        model = work->order[turn % s->n_given];
        if (work->first[model + 1] == work->first[model])
            continue;
        status = add_attacker(s, ++number, err);
        for (size_t i = work->first[model]; i < work->first[model + 1] && done < wanted && status == AMX_OK; i++) {
            done++;
            if (!add_label(s, work->rows[i], s->n_annotators - 1, attack_label(s, work, i, p)))
                status = no_memory(err);
        }
    }
    return status;
}

static enum amx_status attack(struct simulation *s, struct amx_error *err)
{
    struct workload work = {0};
    double *p = calloc(s->n_classes, sizeof *p);
    enum amx_status status;

    if ((status = take_given(s, err)) == AMX_OK && (status = guess_truth(s, err)) == AMX_OK) {
        status = p == NULL || !workload_init(&work, s) ? no_memory(err) : AMX_OK;
        if (status == AMX_OK)
            status = attack_with(s, &work, p, err);
    }
    workload_done(&work);
    free(p);
    return status;
}

/* ---- the truth about everybody ----------------------------------------------------------------------------------- */

/* Counts of labels that can be checked, of those whose truth is counted. */
static void count_given(struct simulation *s, double *right, double *checked)
{
    const size_t C = s->n_classes;

    for (size_t l = 0; l < s->n_labels; l++) {
        const struct training_label *label = &s->labels[l];
        const struct training_row *row = &s->dir->rows[label->row];
        struct sim_annotator *annotator = &s->annotators[label->annotator];

        if (row->split == SPLIT_TRAIN)
            annotator->n_labels++;
        if (!annotator->counted || row->gold < 0)
            continue;
        checked[label->annotator]++;
        right[label->annotator] += (int32_t)label->class_ == row->gold;
        if (annotator->confusion != NULL)
            annotator->confusion[(size_t)row->gold * C + label->class_]++;
    }
}

/* The same for the simulated: sums of their probabilities over the train instances with gold. */
static void sum_simulated(struct simulation *s, size_t a, double *p, double *right, double *checked)
{
    const size_t C = s->n_classes;

    for (size_t i = 0; i < s->n_rows; i++) {
        const struct training_row *row = &s->dir->rows[i];

        if (row->split != SPLIT_TRAIN || row->gold < 0 || !sim_probabilities(s, a, i, p))
            continue;
        checked[a]++;
        right[a] += p[row->gold];
        for (size_t c = 0; c < C && s->annotators[a].confusion != NULL; c++)
            s->annotators[a].confusion[(size_t)row->gold * C + c] += p[c];
    }
}

static void normalise(double *confusion, size_t C)
{
    for (size_t k = 0; k < C; k++) {
        double sum = 0;

        for (size_t c = 0; c < C; c++)
            sum += confusion[k * C + c];
        for (size_t c = 0; c < C; c++)
            confusion[k * C + c] = sum > 0 ? confusion[k * C + c] / sum : (double)NAN;
    }
}

static enum amx_status measure(struct simulation *s, struct amx_error *err)
{
    const size_t A = s->n_annotators, C = s->n_classes;
    double *p = calloc(C, sizeof *p), *right = calloc(A + 1, sizeof *right), *checked = calloc(A + 1, sizeof *checked);
    size_t numbers;
    bool confusions = size_mul(&numbers, A, C * C) && numbers <= MAX_CONFUSION_NUMBERS;
    bool ok = p != NULL && right != NULL && checked != NULL;

    for (size_t a = 0; a < A && ok && confusions; a++) {
        s->annotators[a].confusion = calloc(C * C, sizeof(double));
        ok = s->annotators[a].confusion != NULL;
    }
    if (ok)
        count_given(s, right, checked);
    for (size_t a = 0; a < A && ok; a++) {
        if (!s->annotators[a].counted)
            sum_simulated(s, a, p, right, checked);
        s->annotators[a].accuracy = checked[a] > 0 ? right[a] / checked[a] : (double)NAN;
        if (s->annotators[a].confusion != NULL)
            normalise(s->annotators[a].confusion, C);
    }
    free(p);
    free(right);
    free(checked);
    return ok ? AMX_OK : no_memory(err);
}

/* Of split train; of several labels for one pair each counts, as they stand in the file. */
enum amx_status simulation_quality(const struct simulation *s, struct sim_quality *out, struct amx_error *err)
{
    struct by_instance all;
    struct sim_quality q = {0};
    size_t right = 0, voted_right = 0;
    enum amx_status status = sort_labels(s, &all, err);

    for (size_t i = 0; i < s->n_rows; i++)
        q.n_train += s->dir->rows[i].split == SPLIT_TRAIN;
    for (size_t first = 0, last; status == AMX_OK && first < s->n_labels; first = last) {
        const struct training_row *row = &s->dir->rows[all.sorted[first].row];

        last = end_of_row(&all, s->n_labels, first);
        if (row->split != SPLIT_TRAIN)
            continue;
        q.n_labels += last - first;
        if (row->gold < 0)
            continue;
        q.n += last - first;
        q.n_voted++;
        for (size_t l = first; l < last; l++)
            right += (int32_t)all.classes[l] == row->gold;
        voted_right += (int32_t)majority_of(all.classes + first, last - first, s->n_classes, all.counts) == row->gold;
    }
    by_instance_done(&all);
    if (status != AMX_OK)
        return status;
    q.label_accuracy = q.n > 0 ? (double)right / (double)q.n : (double)NAN;
    q.majority_accuracy = q.n_voted > 0 ? (double)voted_right / (double)q.n_voted : (double)NAN;
    *out = q;
    return AMX_OK;
}

/* ---- all of it --------------------------------------------------------------------------------------------------- */

static enum amx_status check(const struct simulation *s, struct amx_error *err)
{
    const struct sim_options *o = s->options;
    size_t n_gold = 0;

    for (size_t i = 0; i < s->n_rows; i++)
        n_gold += s->dir->rows[i].split == SPLIT_TRAIN && s->dir->rows[i].gold >= 0;
    if (n_gold == 0 && o->mode != SIM_ATTACK)
        return error_set(err, AMX_NOTHING, "No instance of split train has gold: there is no truth to label from.");
    return AMX_OK;
}

enum amx_status simulation_make(const struct data_dir *dir, const struct sim_options *options, struct simulation *out,
                                struct amx_error *err)
{
    struct simulation s = {.dir = dir, .options = options, .n_classes = dir->n_classes, .n_rows = dir->instances.n};
    enum amx_status status = check(&s, err);

    s.truth = calloc(s.n_rows + 1, sizeof *s.truth);
    if (s.truth == NULL && status == AMX_OK)
        status = no_memory(err);
    for (size_t i = 0; i < s.n_rows && status == AMX_OK; i++)
        s.truth[i] = dir->rows[i].gold;
    if (status == AMX_OK && options->mode == SIM_ATTACK)
        status = attack(&s, err);
    else if (status == AMX_OK)
        status = options->mode == SIM_NETWORKS ? sim_networks_add(&s, err) : sim_kinds_add(&s, err);
    if (status == AMX_OK && options->mode != SIM_ATTACK) {
        if (options->labels_high > s.n_annotators)
            status = error_set(err, AMX_INVALID, "%u labels per instance, but only %zu annotators.",
                               options->labels_high, s.n_annotators);
        else
            status = ask(&s, err);
    }
    if (status == AMX_OK)
        status = measure(&s, err);
    if (status == AMX_OK)
        *out = s;
    else
        simulation_done(&s);
    return status;
}

void simulation_done(struct simulation *s)
{
    for (size_t a = 0; a < s->n_annotators; a++) {
        free(s->annotators[a].partner);
        free(s->annotators[a].votes);
        free(s->annotators[a].blind);
        free(s->annotators[a].confusion);
    }
    free(s->annotators);
    free(s->labels);
    free(s->truth);
    memset(s, 0, sizeof *s);
}
