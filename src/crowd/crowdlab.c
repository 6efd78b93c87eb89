/* crowdlab.c - Goh, Tkachenko, Mueller, "CROWDLAB: Supervised learning to infer consensus labels and quality scores for
 * data with multiple annotators", 2022.
 *
 * The posterior is a weighted mean: the model's p with weight w_m, and for each label a distribution with `sure` on its
 * class and the rest spread evenly, with its annotator's weight w_a. On instances with two labels or more:
 *   sure = mean share of labels that agree with the consensus;
 *   base = share of consensus classes that are not the commonest one (the error of always saying that);
 *   w_a = 1 - (1 - agreement of a's labels with the others' on the same instance) / base,
 *   w_m = (1 - error of argmax p against the consensus / base) sqrt(mean number of labels), both at least 1e-6.
 * First the consensus is the majority (ties: greater p, rarer class, better annotators, lowest class where cleanlab
 * draws lots); its posterior gives a better consensus, and everything is computed once more from that one. Quality of
 * an annotator: mean posterior of its labels and its agreement with the consensus, in the proportion of the weights.
 *
 * cleanlab goes over a dense table of N x A labels; here every figure is a sum over the labels. */
#include "crowd/crowdlab.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "learn/status.h"

#define LEAST 1e-6

struct lab {
    const struct crowd_labels *l;
    const float *p;
    size_t N, A, C;
    uint32_t *consensus; /* [N] */
    double *posterior;   /* [N][C] */
    double *agreement;   /* [A] with the other annotators */
    double *weight;      /* [A] */
    double *sums, *n;    /* [A] */
    size_t *votes;       /* [C] of one instance; 0 between */
    size_t *frequency;   /* [C] labels of each class */
    double model_weight, mean_labels;
};

static void lab_done(struct lab *lab)
{
    free(lab->frequency);
    free(lab->votes);
    free(lab->n);
    free(lab->sums);
    free(lab->weight);
    free(lab->agreement);
    free(lab->posterior);
    free(lab->consensus);
}

static enum amx_status lab_make(struct lab *lab)
{
    const struct crowd_labels *l = lab->l;
    size_t cells;

    if (!amx_size_mul(&cells, lab->N, lab->C) || cells > SIZE_MAX / sizeof(double) - 1)
        return AMX_TOO_LARGE;
    lab->consensus = calloc(lab->N + 1, sizeof *lab->consensus);
    lab->posterior = malloc((cells + 1) * sizeof *lab->posterior);
    lab->agreement = calloc(lab->A + 1, sizeof *lab->agreement);
    lab->weight = calloc(lab->A + 1, sizeof *lab->weight);
    lab->sums = calloc(lab->A + 1, sizeof *lab->sums);
    lab->n = calloc(lab->A + 1, sizeof *lab->n);
    lab->votes = calloc(lab->C + 1, sizeof *lab->votes);
    lab->frequency = calloc(lab->C + 1, sizeof *lab->frequency);
    if (lab->consensus == NULL || lab->posterior == NULL || lab->agreement == NULL || lab->weight == NULL ||
        lab->sums == NULL || lab->n == NULL || lab->votes == NULL || lab->frequency == NULL)
        return AMX_NO_MEMORY;
    for (size_t at = 0; at < l->n_labels; at++)
        lab->frequency[l->class_[at]]++;
    return AMX_OK;
}

static size_t run_end(const struct crowd_labels *l, size_t at)
{
    size_t end = at;

    while (end < l->n_labels && l->instance[end] == l->instance[at])
        end++;
    return end;
}

static void count_votes(struct lab *lab, size_t first, size_t end)
{
    for (size_t at = first; at < end; at++)
        lab->votes[lab->l->class_[at]]++;
}

static void clear_votes(struct lab *lab, size_t first, size_t end)
{
    for (size_t at = first; at < end; at++)
        lab->votes[lab->l->class_[at]] = 0;
}

/* ---- the majority ------------------------------------------------------------------------------------------------ */

/* Whether class k beats class `best` for an instance: more votes, greater p, rarer. 0: none of these decides. */
static int compare(const struct lab *lab, const float *p, size_t k, size_t best)
{
    if (lab->votes[k] != lab->votes[best])
        return lab->votes[k] > lab->votes[best] ? 1 : -1;
    if (p[k] < p[best] || p[k] > p[best])
        return p[k] > p[best] ? 1 : -1;
    if (lab->frequency[k] != lab->frequency[best])
        return lab->frequency[k] < lab->frequency[best] ? 1 : -1;
    return 0;
}

/* Mean of sums over the annotators that gave k. */
static double backing(const struct lab *lab, size_t first, size_t end, size_t k)
{
    double sum = 0, n = 0;

    for (size_t at = first; at < end; at++) {
        if (lab->l->class_[at] == k) {
            sum += lab->sums[lab->l->annotator[at]];
            n++;
        }
    }
    return n > 0 ? sum / n : 0;
}

/* sums [A]: share of the annotator's labels that equal the majority where the votes alone decide; the mean of the
 * others for those who have no such label. */
static void judge_by_clear_votes(struct lab *lab)
{
    const struct crowd_labels *l = lab->l;
    double mean = 0, n = 0;

    memset(lab->sums, 0, lab->A * sizeof *lab->sums);
    memset(lab->n, 0, lab->A * sizeof *lab->n);
    for (size_t at = 0, end; at < l->n_labels; at = end) {
        size_t best = l->class_[at], leaders = 0;

        end = run_end(l, at);
        count_votes(lab, at, end);
        for (size_t i = at; i < end; i++)
            best = lab->votes[l->class_[i]] > lab->votes[best] ? l->class_[i] : best;
        for (size_t i = at; i < end; i++)
            leaders += lab->votes[l->class_[i]] == lab->votes[best];
        /* Every label of a leading class was counted once. */
        for (size_t i = at; i < end && leaders == lab->votes[best]; i++) {
            lab->sums[l->annotator[i]] += l->class_[i] == best;
            lab->n[l->annotator[i]]++;
        }
        clear_votes(lab, at, end);
    }
    for (size_t a = 0; a < lab->A; a++) {
        if (lab->n[a] > 0) {
            mean += lab->sums[a] /= lab->n[a];
            n++;
        }
    }
    for (size_t a = 0; a < lab->A; a++) {
        if (!(lab->n[a] > 0))
            lab->sums[a] = n > 0 ? mean / n : 0;
    }
}

static void majority(struct lab *lab)
{
    const struct crowd_labels *l = lab->l;

    judge_by_clear_votes(lab);
    for (size_t at = 0, end; at < l->n_labels; at = end) {
        const float *p = lab->p + (size_t)l->instance[at] * lab->C;
        size_t best = l->class_[at];

        end = run_end(l, at);
        count_votes(lab, at, end);
        for (size_t i = at + 1; i < end; i++) {
            const size_t k = l->class_[i];
            const int order = k == best ? -1 : compare(lab, p, k, best);

            if (order > 0) {
                best = k;
            } else if (order == 0) {
                const double with = backing(lab, at, end, k), without = backing(lab, at, end, best);

                if (with > without || (with >= without && k < best))
                    best = k;
            }
        }
        lab->consensus[l->instance[at]] = (uint32_t)best;
        clear_votes(lab, at, end);
    }
}

/* ---- weights and posterior --------------------------------------------------------------------------------------- */

/* agreement [A]: share of the other labels on its instances that say the same; the mean of the others for those who
 * never met anybody. Also the mean number of labels. False: no instance has two labels. */
static bool judge_by_others(struct lab *lab)
{
    const struct crowd_labels *l = lab->l;
    double mean = 0, met = 0;
    size_t n_labelled = 0;

    memset(lab->n, 0, lab->A * sizeof *lab->n);
    for (size_t at = 0, end; at < l->n_labels; at = end) {
        end = run_end(l, at);
        n_labelled++;
        count_votes(lab, at, end);
        for (size_t i = at; i < end && end - at > 1; i++) {
            lab->agreement[l->annotator[i]] += (double)(lab->votes[l->class_[i]] - 1);
            lab->n[l->annotator[i]] += (double)(end - at - 1);
        }
        clear_votes(lab, at, end);
    }
    for (size_t a = 0; a < lab->A; a++) {
        if (lab->n[a] > 0) {
            mean += lab->agreement[a] /= lab->n[a];
            met++;
        }
    }
    for (size_t a = 0; a < lab->A; a++) {
        if (!(lab->n[a] > 0))
            lab->agreement[a] = met > 0 ? mean / met : 0;
    }
    lab->mean_labels = n_labelled > 0 ? (double)l->n_labels / (double)n_labelled : 0;
    return met > 0;
}

static size_t argmax(const float *p, size_t C)
{
    size_t best = 0;

    for (size_t k = 1; k < C; k++)
        best = p[k] > p[best] ? k : best;
    return best;
}

/* What instances with two labels say about the consensus. votes is used for its classes. */
static void measure(struct lab *lab, double *sure, double *base, double *model_error)
{
    const struct crowd_labels *l = lab->l;
    double n = 0, agreeing = 0, wrong = 0;
    size_t commonest = 0;

    for (size_t at = 0, end; at < l->n_labels; at = end) {
        const size_t i = l->instance[at], k = lab->consensus[i];
        size_t same = 0;

        end = run_end(l, at);
        if (end - at < 2)
            continue;
        for (size_t j = at; j < end; j++)
            same += l->class_[j] == k;
        agreeing += (double)same / (double)(end - at);
        wrong += argmax(lab->p + i * lab->C, lab->C) != k;
        lab->votes[k]++;
        n++;
    }
    for (size_t k = 0; k < lab->C; k++) {
        commonest = lab->votes[k] > commonest ? lab->votes[k] : commonest;
        lab->votes[k] = 0;
    }
    *sure = agreeing / n;
    *base = fmax(1 - (double)commonest / n, LEAST);
    *model_error = wrong / n;
}

/* Weights from the consensus, then the posterior. */
static void weigh(struct lab *lab)
{
    const struct crowd_labels *l = lab->l;
    const size_t C = lab->C;
    double sure, base, model_error, rest;

    measure(lab, &sure, &base, &model_error);
    rest = C > 1 ? (1 - sure) / (double)(C - 1) : 0;
    for (size_t a = 0; a < lab->A; a++)
        lab->weight[a] = fmax(1 - (1 - lab->agreement[a]) / base, LEAST);
    lab->model_weight = fmax(1 - model_error / base, LEAST) * sqrt(lab->mean_labels);
    for (size_t i = 0; i < lab->N * C; i++)
        lab->posterior[i] = (double)lab->p[i];
    for (size_t at = 0, end; at < l->n_labels; at = end) {
        double *q = lab->posterior + (size_t)l->instance[at] * C, weights = 0;

        end = run_end(l, at);
        for (size_t k = 0; k < C; k++)
            q[k] *= lab->model_weight;
        for (size_t i = at; i < end; i++) {
            const double w = lab->weight[l->annotator[i]];

            weights += w;
            q[l->class_[i]] += w * (sure - rest);
        }
        for (size_t k = 0; k < C; k++)
            q[k] = (q[k] + weights * rest) / (weights + lab->model_weight);
    }
}

/* The posterior's winner; on ties the consensus as it stands. */
static void improve(struct lab *lab)
{
    for (size_t i = 0; i < lab->N; i++) {
        const double *q = lab->posterior + i * lab->C;
        size_t best = 0, ties = 0;

        for (size_t k = 1; k < lab->C; k++)
            best = q[k] > q[best] ? k : best;
        for (size_t k = 0; k < lab->C; k++)
            ties += q[k] >= q[best];
        if (ties == 1)
            lab->consensus[i] = (uint32_t)best;
    }
}

/* ---- results ----------------------------------------------------------------------------------------------------- */

static void rate_annotators(struct lab *lab, double *quality)
{
    const struct crowd_labels *l = lab->l;
    double all = 0, model;

    /* sums: posterior of its labels over all; n: their number; agreement: with the consensus, where two labels are. */
    memset(lab->sums, 0, lab->A * sizeof *lab->sums);
    memset(lab->n, 0, lab->A * sizeof *lab->n);
    memset(lab->agreement, 0, lab->A * sizeof *lab->agreement);
    for (size_t a = 0; a < lab->A; a++)
        quality[a] = 0; /* its labels on instances with two */
    for (size_t at = 0, end; at < l->n_labels; at = end) {
        const size_t i = l->instance[at];

        end = run_end(l, at);
        for (size_t j = at; j < end; j++) {
            const uint32_t a = l->annotator[j];

            lab->sums[a] += lab->posterior[i * lab->C + l->class_[j]];
            lab->n[a]++;
            quality[a] += end - at > 1;
            lab->agreement[a] += end - at > 1 && l->class_[j] == lab->consensus[i];
        }
    }
    /* mean weight of an annotator with labels, times the mean number of labels of an instance */
    model = 0;
    for (size_t a = 0; a < lab->A; a++) {
        if (lab->n[a] > 0) {
            all += lab->weight[a];
            model++;
        }
    }
    all = all / model * lab->mean_labels;
    model = lab->model_weight / (lab->model_weight + all);
    for (size_t a = 0; a < lab->A; a++) {
        const double mean = lab->sums[a] / lab->n[a];

        /* cleanlab has no figure for those who never met anybody; theirs is the posterior's alone. */
        quality[a] = quality[a] > 0 ? model * mean + (1 - model) * lab->agreement[a] / quality[a] : mean;
        if (!(lab->n[a] > 0))
            quality[a] = lab->weight[a] = (double)NAN;
    }
}

enum amx_status crowdlab(const struct crowd_labels *labels, const float *p_class, const struct crowdlab *out,
                         struct amx_error *err)
{
    struct lab lab = {.l = labels, .p = p_class, .N = labels->n_instances, .A = labels->n_annotators,
                      .C = labels->n_classes};
    double *quality = calloc(lab.A + 1, sizeof *quality);
    enum amx_status status = quality != NULL ? lab_make(&lab) : AMX_NO_MEMORY;

    if (status != AMX_OK) {
        (void)amx_fail(err, status, "", "crowdlab: %s.", amx_status_text(status));
        goto done;
    }
    if (!judge_by_others(&lab)) {
        status = amx_fail(err, AMX_NOTHING, "", "crowdlab needs instances with at least two labels; there are none.");
        goto done;
    }
    for (size_t i = 0; i < lab.N; i++)
        lab.consensus[i] = (uint32_t)argmax(p_class + i * lab.C, lab.C);
    majority(&lab);
    weigh(&lab);
    improve(&lab);
    weigh(&lab);
    rate_annotators(&lab, quality);
    for (size_t i = 0; i < lab.N && out->quality != NULL; i++)
        out->quality[i] = lab.posterior[i * lab.C + lab.consensus[i]];
    if (out->posterior != NULL)
        memcpy(out->posterior, lab.posterior, lab.N * lab.C * sizeof *lab.posterior);
    if (out->consensus != NULL)
        memcpy(out->consensus, lab.consensus, lab.N * sizeof *lab.consensus);
    if (out->annotator_quality != NULL)
        memcpy(out->annotator_quality, quality, lab.A * sizeof *quality);
    if (out->annotator_weight != NULL)
        memcpy(out->annotator_weight, lab.weight, lab.A * sizeof *lab.weight);
    if (out->model_weight != NULL)
        *out->model_weight = lab.model_weight;
done:
    lab_done(&lab);
    free(quality);
    return status;
}
