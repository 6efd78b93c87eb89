/* scores.c - figures of merit (methods.md, "Metrics"). All sums in double, over rows in the order given, so equal
 * input gives equal bits. Wilson's interval rather than the normal one: it stays inside 0..1 and is right for 3 of 3.
 */
#include "crowd/scores.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define Z95 1.959963984540054 /* 97.5 % quantile of the normal distribution */
#define PI 3.14159265358979323846
enum {
    BINS = 10
};

void wilson_interval(double right, double n, double *low, double *high)
{
    double share, centre, half, scale;

    if (n <= 0) {
        *low = 0;
        *high = 1;
        return;
    }
    share = right / n;
    scale = 1 + Z95 * Z95 / n;
    centre = (share + Z95 * Z95 / (2 * n)) / scale;
    half = Z95 * sqrt(share * (1 - share) / n + Z95 * Z95 / (4 * n * n)) / scale;
    /* Rounding must not leave the share itself outside when it is 0 or 1. */
    *low = fmin(share, fmax(0, centre - half));
    *high = fmax(share, fmin(1, centre + half));
}

static double log_loss_of(double p)
{
    return -log(fmin(fmax(p, 1e-15), 1));
}

/* Confidence in 0..1 -> bin 0..9; the upper edge belongs to the bin. */
static size_t bin_of(double confidence)
{
    double bin = ceil(confidence * BINS) - 1;

    return bin < 0 ? 0 : bin >= BINS ? BINS - 1 : (size_t)bin;
}

enum amx_status class_tally_init(struct class_tally *tally, size_t n_classes)
{
    memset(tally, 0, sizeof *tally);
    tally->n_classes = n_classes;
    tally->class_n = calloc(n_classes + 1, sizeof *tally->class_n);
    tally->class_right = calloc(n_classes + 1, sizeof *tally->class_right);
    if (tally->class_n != NULL && tally->class_right != NULL)
        return AMX_OK;
    class_tally_done(tally);
    return AMX_NO_MEMORY;
}

void class_tally_done(struct class_tally *tally)
{
    free(tally->class_n);
    free(tally->class_right);
    memset(tally, 0, sizeof *tally);
}

void class_tally_add(struct class_tally *tally, const float *p, uint32_t gold)
{
    size_t best = 0, bin;
    double hit;

    for (size_t k = 0; k < tally->n_classes; k++) {
        double error = (double)p[k] - (k == gold ? 1.0 : 0.0);

        tally->brier += error * error;
        if (p[k] > p[best])
            best = k;
    }
    hit = best == gold ? 1.0 : 0.0;
    bin = bin_of((double)p[best]);
    tally->bin_n[bin]++;
    tally->bin_right[bin] += hit;
    tally->bin_variance[bin] += (double)p[best] * fmax(0, 1 - (double)p[best]);
    tally->bin_confidence[bin] += (double)p[best];
    tally->right += hit;
    tally->class_n[gold]++;
    tally->class_right[gold] += hit;
    tally->log_loss += log_loss_of((double)p[gold]);
    tally->n++;
}

/* E|Y| of a normal Y with that mean and deviation (folded normal distribution). */
static double mean_absolute(double mean, double deviation)
{
    double z;

    if (!(deviation > 0))
        return fabs(mean);
    z = mean / deviation;
    return deviation * sqrt(2 / PI) * exp(-z * z / 2) + mean * erf(z / sqrt(2));
}

static void calibration_of(const struct class_tally *tally, struct class_scores *s)
{
    double again = 0;

    for (size_t b = 0; b < BINS; b++) {
        const double n = tally->bin_n[b], weight = n / (double)tally->n;
        double right, gap;

        if (n < 1)
            continue;
        right = tally->bin_right[b] / n;
        gap = right - tally->bin_confidence[b] / n;
        s->ece += weight * fabs(gap);
        again += weight * mean_absolute(gap, sqrt(right * (1 - right) / n));
        s->ece_floor += weight * mean_absolute(0, sqrt(tally->bin_variance[b]) / n);
    }
    s->ece_debiased = fmin(s->ece, fmax(0, 2 * s->ece - again));
}

void class_tally_scores(const struct class_tally *tally, struct class_scores *out)
{
    const double n = (double)tally->n;
    struct class_scores s = {.n = tally->n};
    double recall = 0, present = 0;

    for (size_t k = 0; k < tally->n_classes; k++) {
        if (tally->class_n[k] > 0) {
            present++;
            recall += tally->class_right[k] / tally->class_n[k];
        }
    }
    calibration_of(tally, &s);
    s.accuracy = tally->right / n;
    wilson_interval(tally->right, n, &s.accuracy_low, &s.accuracy_high);
    s.balanced_accuracy = recall / present;
    s.log_loss = tally->log_loss / n;
    s.brier = tally->brier / n;
    *out = s;
}

enum amx_status class_scores_of(const float *p, const uint32_t *gold, size_t n, size_t n_classes,
                                struct class_scores *out)
{
    struct class_tally tally;
    enum amx_status status = class_tally_init(&tally, n_classes);

    if (status != AMX_OK)
        return status;
    for (size_t i = 0; i < n; i++)
        class_tally_add(&tally, p + i * n_classes, gold[i]);
    class_tally_scores(&tally, out);
    class_tally_done(&tally);
    return AMX_OK;
}

struct scored {
    float score;
    unsigned char right;
};

static int by_score(const void *a, const void *b)
{
    const struct scored *x = a, *y = b;

    return (x->score > y->score) - (x->score < y->score);
}

/* Mann-Whitney by average ranks: P(score of a right one > score of a wrong one), ties half. rows sorted ascending. */
static double auroc_of(const struct scored *rows, size_t n, double n_right)
{
    double rank_sum = 0;

    for (size_t i = 0; i < n;) {
        size_t j = i;
        double rights = 0;

        for (; j < n && !(rows[j].score > rows[i].score); j++)
            rights += rows[j].right;
        rank_sum += rights * ((double)(i + 1 + j) / 2); /* mean of the ranks i+1 .. j */
        i = j;
    }
    return (rank_sum - n_right * (n_right + 1) / 2) / (n_right * ((double)n - n_right));
}

/* Sum over distinct thresholds of (recall gained) x precision. descending: of "right" (score high first); else of
 * "wrong". */
static double average_precision_of(const struct scored *rows, size_t n, bool descending, double n_wanted)
{
    double found = 0, seen = 0, sum = 0;

    for (size_t i = 0; i < n;) {
        float score = rows[descending ? n - 1 - i : i].score;
        double gained = 0;

        for (; i < n; i++) {
            const struct scored *row = &rows[descending ? n - 1 - i : i];

            if (row->score < score || row->score > score)
                break;
            gained += descending ? row->right : !row->right;
            seen++;
        }
        found += gained;
        sum += gained / n_wanted * (found / seen);
    }
    return sum;
}

enum amx_status binary_scores_of(const float *score, const unsigned char *right, size_t n, struct binary_scores *out)
{
    struct scored *rows = n <= SIZE_MAX / sizeof *rows ? malloc(n * sizeof *rows) : NULL;
    double hits[2] = {0, 0}, count[2] = {0, 0};
    struct binary_scores s = {.n = n};

    if (rows == NULL)
        return AMX_NO_MEMORY;
    for (size_t i = 0; i < n; i++) {
        double p = (double)score[i];
        unsigned truth = right[i] != 0;

        rows[i] = (struct scored){score[i], (unsigned char)truth};
        count[truth]++;
        hits[truth] += (p >= 0.5) == (truth == 1) ? 1 : 0;
        s.log_loss += log_loss_of(truth ? p : 1 - p);
        s.brier += (p - truth) * (p - truth);
    }
    qsort(rows, n, sizeof *rows, by_score);
    s.n_positive = (size_t)count[1];
    s.accuracy = (hits[0] + hits[1]) / (double)n;
    wilson_interval(hits[0] + hits[1], (double)n, &s.accuracy_low, &s.accuracy_high);
    s.log_loss /= (double)n;
    s.brier /= (double)n;
    s.balanced_accuracy = s.auroc = s.average_precision_right = s.average_precision_wrong = (double)NAN;
    if (count[0] > 0 && count[1] > 0) {
        s.balanced_accuracy = (hits[0] / count[0] + hits[1] / count[1]) / 2;
        s.auroc = auroc_of(rows, n, count[1]);
        s.average_precision_right = average_precision_of(rows, n, true, count[1]);
        s.average_precision_wrong = average_precision_of(rows, n, false, count[0]);
    }
    free(rows);
    *out = s;
    return AMX_OK;
}

void grouped_mean_add(struct grouped_mean *mean, double sum, size_t n)
{
    if (n == 0)
        return;
    mean->n += n;
    mean->groups++;
    mean->sum += sum;
    mean->sum_squares += sum * sum;
    mean->sum_cross += sum * (double)n;
    mean->size_squares += (double)n * (double)n;
}

double grouped_mean_value(const struct grouped_mean *mean)
{
    return mean->n > 0 ? mean->sum / (double)mean->n : (double)NAN;
}

double grouped_mean_error(const struct grouped_mean *mean)
{
    const double m = grouped_mean_value(mean), groups = (double)mean->groups;
    double squares;

    if (mean->groups < 2)
        return (double)NAN;
    /* Rounding may take a spread of 0 below 0. */
    squares = fmax(0, mean->sum_squares - 2 * m * mean->sum_cross + m * m * mean->size_squares);
    return sqrt(squares * groups / (groups - 1)) / (double)mean->n;
}
