/* problem.c - small pieces that several label-only methods need. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "aggregate_int.h"

bool problem_stop(const struct crowd_problem *p, double fraction)
{
    if (p->progress != NULL)
        p->progress(fraction, p->context);
    return p->cancel != NULL && __atomic_load_n(p->cancel, __ATOMIC_RELAXED) != 0;
}

bool problem_fix_gold(const struct crowd_problem *p, size_t i)
{
    const size_t C = p->labels.n_classes;

    if (p->gold == NULL || p->gold[i] < 0)
        return false;
    memset(p->posterior + i * C, 0, C * sizeof *p->posterior);
    p->posterior[i * C + (size_t)p->gold[i]] = 1;
    return true;
}

double scores_to_posterior(double *scores, size_t C)
{
    double top = scores[0], sum = 0, mean = 0;

    for (size_t k = 1; k < C; k++)
        top = scores[k] > top ? scores[k] : top;
    for (size_t k = 0; k < C; k++) {
        /* The greatest needs no exponential: with two classes that is half of them. */
        double e = scores[k] < top ? exp(scores[k] - top) : 1;

        mean += e * (scores[k] - top);
        sum += e;
        scores[k] = e;
    }
    for (size_t k = 0; k < C; k++)
        scores[k] /= sum;
    return log(sum) - mean / sum;
}

/* Labels in the order of their annotators: order[L], begin[A+1]. */
static bool by_annotator(const struct crowd_labels *l, uint32_t **order, size_t **begin)
{
    *order = malloc((l->n_labels + 1) * sizeof **order);
    *begin = calloc(l->n_annotators + 2, sizeof **begin);
    if (*order == NULL || *begin == NULL)
        return false;
    for (size_t i = 0; i < l->n_labels; i++)
        (*begin)[l->annotator[i] + 2]++;
    for (size_t a = 2; a < l->n_annotators + 2; a++)
        (*begin)[a] += (*begin)[a - 1];
    for (size_t i = 0; i < l->n_labels; i++)
        (*order)[(*begin)[l->annotator[i] + 1]++] = (uint32_t)i;
    return true;
}

/* Row of class z for annotator a; made when it has none yet. number [C]: row of each class, valid when owner is a. */
static uint32_t row_for(struct given_rows *rows, uint32_t *number, uint32_t *owner, uint32_t a, uint32_t z)
{
    if (owner[z] != a + 1) {
        owner[z] = a + 1;
        number[z] = (uint32_t)rows->n;
        rows->class_[rows->n++] = z;
    }
    return number[z];
}

/* Whether the history of one annotator, [C][C], has the given class z at all. */
static bool gave_before(const float *history, size_t C, size_t z)
{
    for (size_t k = 0; k < C; k++) {
        if (history[k * C + z] > 0)
            return true;
    }
    return false;
}

enum amx_status given_rows_make(const struct crowd_labels *l, const float *history, struct given_rows *out)
{
    const size_t A = l->n_annotators, C = l->n_classes;
    size_t most = l->n_labels + (history != NULL ? A * C : 0), *begin = NULL;
    uint32_t *order = NULL, *number = calloc(C + 1, sizeof *number), *owner = calloc(C + 1, sizeof *owner);
    struct given_rows rows = {
        .row_of = malloc((l->n_labels + 1) * sizeof *rows.row_of),
        .begin = malloc((A + 1) * sizeof *rows.begin),
        .class_ = most < UINT32_MAX ? malloc((most + 1) * sizeof *rows.class_) : NULL,
    };
    enum amx_status status = AMX_NO_MEMORY;

    if (number == NULL || owner == NULL || rows.row_of == NULL || rows.begin == NULL || rows.class_ == NULL ||
        !by_annotator(l, &order, &begin))
        goto done;
    for (uint32_t a = 0; a < A; a++) {
        rows.begin[a] = (uint32_t)rows.n;
        for (size_t at = begin[a]; at < begin[a + 1]; at++)
            rows.row_of[order[at]] = row_for(&rows, number, owner, a, l->class_[order[at]]);
        for (uint32_t z = 0; history != NULL && z < C; z++) {
            if (gave_before(history + a * C * C, C, z))
                (void)row_for(&rows, number, owner, a, z);
        }
    }
    rows.begin[A] = (uint32_t)rows.n;
    *out = rows;
    status = AMX_OK;
done:
    if (status != AMX_OK)
        given_rows_done(&rows);
    free(begin);
    free(order);
    free(owner);
    free(number);
    return status;
}

void given_rows_done(struct given_rows *rows)
{
    free(rows->class_);
    free(rows->begin);
    free(rows->row_of);
}
