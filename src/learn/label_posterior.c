/* label_posterior.c - EM on the training labels of a member, and smoothed confusion matrices.
 *
 * Dawid and Skene, "Maximum Likelihood Estimation of Observer Error-Rates Using the EM Algorithm", Applied Statistics
 * 1979. src/crowd has the same method with crowd-kit's defaults; this one is part of the learner because methods train
 * on what it gives, and it follows the specification of those methods to the number of rounds.
 *
 * Everything is summed in double, in the order of the rows; posteriors are kept as float, because only their sums
 * matter and they are the one array that grows with rows times classes. */
#include "label_posterior.h"

#include <math.h>
#include <string.h>

enum {
    MOST_ROUNDS = 300,
    SMOOTHED_ROUNDS = 50
};
static const double NEVER = -(double)INFINITY; /* log of 0 */
static const double STOP = 1e-4;               /* change of the class shares, summed */
static const double LEAST_SHARE = 1e-9;        /* added to class shares by the smoothed EM */
static const double EVERYWHERE = 0.001;        /* added to every cell of the population */
static const double ON_DIAGONAL = 0.5;         /* added to its diagonal */

/* ---- rows -------------------------------------------------------------------------------------------------------- */

/* The class known for certain, or -1. */
static int32_t known_class(const struct member_data *member, size_t row)
{
    return member->clamp_gold && member->data->gold != NULL ? member->data->gold[row] : -1;
}

static void one_hot(float *posterior, size_t n_classes, size_t k)
{
    memset(posterior, 0, n_classes * sizeof(float));
    posterior[k] = 1.0f;
}

static bool any_repeat(const struct member_data *member)
{
    const size_t *begin = member->data->begin;

    for (size_t i = 0; i < member->n_rows; i++) {
        if (begin[member->rows[i] + 1] - begin[member->rows[i]] > 1)
            return true;
    }
    return false;
}

void posterior_gold(const struct member_data *member, float *posterior)
{
    const size_t C = member->data->C;

    for (size_t i = 0; i < member->n_rows; i++)
        one_hot(posterior + member->rows[i] * C, C, (size_t)member->data->gold[member->rows[i]]);
}

void posterior_votes(const struct member_data *member, float *posterior)
{
    const struct train_data *data = member->data;
    const size_t C = data->C;

    for (size_t i = 0; i < member->n_rows; i++) {
        const size_t row = member->rows[i], n = data->begin[row + 1] - data->begin[row];
        float *q = posterior + row * C;
        if (known_class(member, row) >= 0) {
            one_hot(q, C, (size_t)known_class(member, row));
            continue;
        }
        memset(q, 0, C * sizeof(float));
        for (size_t l = data->begin[row]; l < data->begin[row + 1]; l++)
            q[data->label[l]] += 1.0f;
        for (size_t k = 0; k < C; k++)
            q[k] /= (float)n;
    }
}

void posterior_majority(const struct member_data *member, float *posterior)
{
    const size_t C = member->data->C;

    posterior_votes(member, posterior);
    for (size_t i = 0; i < member->n_rows; i++) {
        float *q = posterior + member->rows[i] * C, top = 0.0f, n = 0.0f;
        for (size_t k = 0; k < C; k++)
            top = q[k] > top ? q[k] : top;
        for (size_t k = 0; k < C; k++)
            n += q[k] == top ? 1.0f : 0.0f;
        for (size_t k = 0; k < C; k++)
            q[k] = q[k] == top ? 1.0f / n : 0.0f;
    }
}

/* ---- steps of EM ------------------------------------------------------------------------------------------------- */

/* table[a][z][k] = sum over the labels z of a of the posterior of true class k. */
static void count(const struct member_data *member, const float *posterior, double *table)
{
    const struct train_data *data = member->data;
    const size_t C = data->C;

    memset(table, 0, data->A * C * C * sizeof(double));
    for (size_t i = 0; i < member->n_rows; i++) {
        const size_t row = member->rows[i];
        const float *q = posterior + row * C;
        const int32_t known = known_class(member, row);
        for (size_t l = data->begin[row]; l < data->begin[row + 1]; l++) {
            double *cells = table + (data->annotator[l] * C + data->label[l]) * C;
            if (known >= 0)
                cells[known] += 1.0;
            for (size_t k = 0; k < C && known < 0; k++)
                cells[k] += (double)q[k];
        }
    }
}

/* shares[k] = mean over the rows of the posterior. */
static void class_shares(const struct member_data *member, const float *posterior, double *shares)
{
    const size_t C = member->data->C;

    memset(shares, 0, C * sizeof(double));
    for (size_t i = 0; i < member->n_rows; i++) {
        const float *q = posterior + member->rows[i] * C;
        const int32_t known = known_class(member, member->rows[i]);
        if (known >= 0)
            shares[known] += 1.0;
        for (size_t k = 0; k < C && known < 0; k++)
            shares[k] += (double)q[k];
    }
    for (size_t k = 0; k < C; k++)
        shares[k] /= (double)member->n_rows;
}

/* posterior proportional to exp(log_share + sum of log table); sum is scratch [C]. A row that everything excludes
 * keeps what it had. */
static void expect(const struct member_data *member, const double *log_share, const double *table, double *sum,
                   float *posterior)
{
    const struct train_data *data = member->data;
    const size_t C = data->C;

    for (size_t i = 0; i < member->n_rows; i++) {
        const size_t row = member->rows[i];
        float *q = posterior + row * C;
        double top = NEVER, total = 0.0;
        if (known_class(member, row) >= 0)
            continue;
        memcpy(sum, log_share, C * sizeof(double));
        for (size_t l = data->begin[row]; l < data->begin[row + 1]; l++) {
            const double *cells = table + (data->annotator[l] * C + data->label[l]) * C;
            for (size_t k = 0; k < C; k++)
                sum[k] += cells[k];
        }
        for (size_t k = 0; k < C; k++)
            top = sum[k] > top ? sum[k] : top;
        if (!(top > NEVER))
            continue;
        for (size_t k = 0; k < C; k++)
            total += sum[k] = exp(sum[k] - top);
        for (size_t k = 0; k < C; k++)
            q[k] = (float)(sum[k] / total);
    }
}

/* total[k] = sum over labels of one annotator's cells. */
static void row_sums(const double *cells, size_t C, double *total)
{
    memset(total, 0, C * sizeof(double));
    for (size_t z = 0; z < C; z++) {
        for (size_t k = 0; k < C; k++)
            total[k] += cells[z * C + k];
    }
}

/* ---- Dawid and Skene without smoothing --------------------------------------------------------------------------- */

/* Counts -> logarithms of each annotator's matrix; a true class without labels stays 0 (its logarithm -inf). */
static void log_normalise(double *table, size_t A, size_t C, double *total)
{
    for (size_t a = 0; a < A; a++) {
        double *cells = table + a * C * C;
        row_sums(cells, C, total);
        for (size_t z = 0; z < C; z++, cells += C) {
            for (size_t k = 0; k < C; k++)
                cells[k] = cells[k] > 0.0 ? log(cells[k] / total[k]) : NEVER;
        }
    }
}

enum amx_status posterior_dawid_skene(const struct member_data *member, float *posterior, double *table, double *work)
{
    const size_t C = member->data->C;
    double *shares = work, *before = work + C, *log_share = work + 2 * C, *sum = work + 3 * C;

    posterior_votes(member, posterior);
    if (!any_repeat(member))
        return AMX_OK;
    for (int round = 0; round < MOST_ROUNDS; round++) {
        double change = 0.0;
        if (member_cancelled(member))
            return AMX_CANCELLED;
        class_shares(member, posterior, shares);
        count(member, posterior, table);
        log_normalise(table, member->data->A, C, sum);
        for (size_t k = 0; k < C; k++)
            log_share[k] = shares[k] > 0.0 ? log(shares[k]) : NEVER;
        expect(member, log_share, table, sum, posterior);
        for (size_t k = 0; k < C && round > 0; k++)
            change += fabs(shares[k] - before[k]);
        if (round > 0 && change < STOP)
            break;
        memcpy(before, shares, C * sizeof(double));
    }
    return AMX_OK;
}

/* ---- smoothed ---------------------------------------------------------------------------------------------------- */

size_t matrices_work(size_t n_classes)
{
    return n_classes * n_classes + 4 * n_classes; /* C <= 1000 */
}

static void add_history(const struct train_data *data, double *table)
{
    const size_t C = data->C;

    for (size_t a = 0; data->history != NULL && a < data->A; a++) {
        const float *history = data->history + a * C * C;
        for (size_t i = 0; i < C * C; i++)
            table[a * C * C + i % C * C + i / C] += (double)history[i];
    }
}

void matrices_smoothed(const struct member_data *member, const float *posterior, double strength, double *table,
                       double *population, double *work)
{
    const size_t C = member->data->C, cells = C * C;
    double *total = work, *log_prior = work + C; /* [C], [C][C] log (strength M) */

    count(member, posterior, table);
    add_history(member->data, table);
    for (size_t i = 0; i < cells; i++)
        population[i] = EVERYWHERE + (i / C == i % C ? ON_DIAGONAL : 0.0);
    for (size_t a = 0; a < member->data->A; a++) {
        for (size_t i = 0; i < cells; i++)
            population[i] += table[a * cells + i];
    }
    row_sums(population, C, total);
    for (size_t i = 0; i < cells; i++) {
        population[i] = log(population[i] / total[i % C]);
        log_prior[i] = log(strength) + population[i];
    }
    for (size_t a = 0; a < member->data->A; a++) {
        double *own = table + a * cells;
        row_sums(own, C, total); /* strength M adds `strength` to each */
        for (size_t k = 0; k < C; k++)
            total[k] = log(total[k] + strength);
        for (size_t z = 0; z < C; z++) {
            for (size_t k = 0; k < C; k++) {
                double *x = &own[z * C + k], prior = log_prior[z * C + k];
                *x = (*x > 0.0 ? log(*x + exp(prior)) : prior) - total[k];
            }
        }
    }
}

enum amx_status matrices_dawid_skene(const struct member_data *member, float *posterior, double strength, double *table,
                                     double *population, double *work)
{
    const size_t C = member->data->C;
    const int rounds = any_repeat(member) ? SMOOTHED_ROUNDS : 1;
    double *log_share = work, *sum = work + C;

    posterior_votes(member, posterior);
    for (int round = 0; round < rounds; round++) {
        if (member_cancelled(member))
            return AMX_CANCELLED;
        matrices_smoothed(member, posterior, strength, table, population, work);
        class_shares(member, posterior, log_share);
        for (size_t k = 0; k < C; k++)
            log_share[k] = log(log_share[k] + LEAST_SHARE);
        expect(member, log_share, table, sum, posterior);
    }
    return AMX_OK;
}

size_t label_posterior_bytes(const struct dims *dims)
{
    size_t bytes, table, posterior;

    if (!amx_size_mul(&table, dims->A + 1, dims->C * dims->C) || !amx_size_add(&table, table, matrices_work(dims->C)) ||
        !amx_size_mul(&table, table, sizeof(double)) || !amx_size_mul(&posterior, dims->N, dims->C * sizeof(float)) ||
        !amx_size_add(&bytes, table, posterior))
        return SIZE_MAX;
    return bytes;
}
