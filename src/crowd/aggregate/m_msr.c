/* m_msr.c - Ma, Olshevsky, "Adversarial Crowdsourcing Through Robust Rank-One Matrix Completion", NeurIPS 2020: the
 * chance-corrected agreement of two annotators is the product of their skills, so the matrix of agreements has rank
 * one; its factor is found by alternating steps that leave out the largest and smallest F estimates of each annotator
 * (F from the least number of partners anyone has), and the vote is weighted with the log odds of the accuracies.
 *
 * As crowd-kit 1.4.2 (10,000 rounds, 1e-10; signs of the skills from the eigenvector of a walk on the graph of agreeing
 * and disagreeing pairs), except: both factors start at 1/2 instead of random numbers; an annotator without partners
 * gets the mean skill of the others; F is at least 0; the skill is kept where crowd-kit divides by 0 and ends without
 * an answer (on `product`). The class scores are sums of log odds, made a posterior by softmax. Where the weights on an
 * instance sum to less than 0, crowd-kit's division by that sum turns the order round, and so do we: with few labels
 * per pair the signs come out negative for annotators about whom nothing is known, and such an instance is better
 * decided for its labels than for a class nobody gave (`music-genres`: 74 against 47 % right).
 *
 * Every round sorts A lists of up to A numbers that hardly move: insertion sort from the order of the round before. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "aggregate_int.h"
#include "learn/status.h"

enum {
    MOST_ANNOTATORS = 4096, /* [A][A] tables: 16 million cells */
    WALK_STEPS = 2000
};

/* The partners of one annotator, in the order of its last estimates. */
struct partner {
    double agreement; /* |chance-corrected agreement| with it */
    double estimate;
    uint32_t who;
};

struct msr {
    struct crowd_problem *p;
    size_t A;
    uint32_t *common, *agreed;           /* [A][A] instances, of those with the same class */
    double *covariance;                  /* [A][A]; chance level where nothing is common */
    struct partner *by_column, *by_row;  /* lists of all annotators, list a from begin[a] on */
    size_t *begin;                       /* [A+1] */
    double *u, *v;                       /* [A] */
    double *sign;                        /* [A] -1, 0, 1 */
    size_t cut;                          /* F */
};

static void done(struct msr *m)
{
    free(m->sign);
    free(m->v);
    free(m->u);
    free(m->begin);
    free(m->by_row);
    free(m->by_column);
    free(m->covariance);
    free(m->agreed);
    free(m->common);
}

/* ---- agreements -------------------------------------------------------------------------------------------------- */

static void count_pairs(struct msr *m)
{
    const struct crowd_labels *l = &m->p->labels;
    const size_t A = m->A;

    for (size_t at = 0, end; at < l->n_labels; at = end) {
        for (end = at; end < l->n_labels && l->instance[end] == l->instance[at];)
            end++;
        for (size_t i = at; i < end; i++) {
            for (size_t j = at; j < end; j++) {
                const size_t cell = l->annotator[i] * A + l->annotator[j];

                m->common[cell] += l->annotator[i] != l->annotator[j];
                m->agreed[cell] += l->annotator[i] != l->annotator[j] && l->class_[i] == l->class_[j];
            }
        }
    }
}

static void fill_covariance(struct msr *m)
{
    const double C = (double)m->p->labels.n_classes;

    for (size_t i = 0; i < m->A * m->A; i++) {
        double share = m->common[i] > 0 ? (double)m->agreed[i] / (double)m->common[i] : 0;

        m->covariance[i] = share * (C / (C - 1)) - 1 / (C - 1);
    }
}

static enum amx_status make(struct msr *m)
{
    const size_t A = m->A, cells = A * A;
    size_t n = 0, least = SIZE_MAX;

    if (A > MOST_ANNOTATORS)
        return amx_fail(m->p->err, AMX_TOO_LARGE, "", "m_msr works on every pair of annotators: %zu are too many, %d "
                        "the most.", A, (int)MOST_ANNOTATORS);
    m->common = calloc(cells, sizeof *m->common);
    m->agreed = calloc(cells, sizeof *m->agreed);
    m->covariance = malloc(cells * sizeof *m->covariance);
    m->begin = calloc(A + 1, sizeof *m->begin);
    m->u = malloc(A * sizeof *m->u);
    m->v = malloc(A * sizeof *m->v);
    m->sign = malloc(A * sizeof *m->sign);
    if (m->common == NULL || m->agreed == NULL || m->covariance == NULL || m->begin == NULL || m->u == NULL ||
        m->v == NULL || m->sign == NULL)
        return AMX_NO_MEMORY;
    count_pairs(m);
    fill_covariance(m);
    for (size_t i = 0; i < cells; i++)
        n += m->common[i] > 0;
    m->by_column = malloc((n + 1) * sizeof *m->by_column);
    m->by_row = malloc((n + 1) * sizeof *m->by_row);
    if (m->by_column == NULL || m->by_row == NULL)
        return AMX_NO_MEMORY;
    n = 0;
    for (size_t a = 0; a < A; a++) {
        for (size_t b = 0; b < A; b++) {
            if (m->common[a * A + b] > 0)
                m->by_column[n++] = (struct partner){fabs(m->covariance[a * A + b]), 0, (uint32_t)b};
        }
        m->begin[a + 1] = n;
        least = n - m->begin[a] < least ? n - m->begin[a] : least;
        m->u[a] = m->v[a] = 0.5;
    }
    memcpy(m->by_row, m->by_column, n * sizeof *m->by_row);
    m->cut = least >= 4 ? least / 2 - 1 : 0;
    return AMX_OK;
}

/* ---- rank-one completion ----------------------------------------------------------------------------------------- */

static void sort(struct partner *list, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        const struct partner moved = list[i];
        size_t j = i;

        for (; j > 0 && list[j - 1].estimate > moved.estimate; j--)
            list[j] = list[j - 1];
        list[j] = moved;
    }
}

/* Mean of the estimates without the F largest and smallest ones, but those beyond `now` only: when fewer than F lie
 * beyond it, they all go and nothing else does. `now` when nothing is left. */
static double trimmed_mean(const struct partner *list, size_t n, size_t cut, double now, size_t n_instances)
{
    size_t first = 0, end = n, count;
    double sum = 0;

    for (count = 0; count < n && list[count].estimate < now;)
        count++;
    first = count < cut ? count : cut;
    for (count = 0; end - count > first && list[end - count - 1].estimate > now;)
        count++;
    end -= count < cut ? count : cut;
    for (size_t i = first; i < end; i++)
        sum += list[i].estimate;
    if (end <= first || !isfinite(sum))
        return now;
    if (end - first == 1 && sum <= 0)
        return 1 / sqrt((double)n_instances);
    return sum / (double)(end - first);
}

/* One side from the other: out[a] from agreement(a, b) / in[b]. */
static void complete(struct msr *m, struct partner *lists, const double *in, double *out)
{
    for (size_t a = 0; a < m->A; a++) {
        struct partner *list = lists + m->begin[a];
        size_t n = m->begin[a + 1] - m->begin[a];

        for (size_t i = 0; i < n; i++)
            list[i].estimate = in[list[i].who] > 0 ? list[i].agreement / in[list[i].who] : (double)INFINITY;
        sort(list, n);
        out[a] = trimmed_mean(list, n, m->cut, out[a], m->p->labels.n_instances);
    }
}

static double dot(const double *a, const double *b, size_t n)
{
    double sum = 0;

    for (size_t i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

/* Frobenius norm of u v' - s t' = u (v - t)' + (u - s) t', without cancellation; du [n], dv [n]: the differences. */
static double moved(const double *u, const double *du, const double *dv, const double *t, size_t n)
{
    return sqrt(fmax(dot(u, u, n) * dot(dv, dv, n) + 2 * dot(u, du, n) * dot(dv, t, n) + dot(du, du, n) * dot(t, t, n),
                     0));
}

static enum amx_status alternate(struct msr *m)
{
    struct crowd_problem *p = m->p;
    const size_t A = m->A;
    double *s = malloc(4 * A * sizeof *s), *t, *du, *dv;

    if (s == NULL)
        return AMX_NO_MEMORY;
    t = s + A;
    du = t + A;
    dv = du + A;
    p->converged = false;
    while (p->rounds_run < p->rounds && !p->converged) {
        if (problem_stop(p, (double)p->rounds_run / p->rounds)) {
            free(s);
            return AMX_CANCELLED;
        }
        p->rounds_run++;
        memcpy(s, m->u, A * sizeof *s);
        memcpy(t, m->v, A * sizeof *t);
        complete(m, m->by_column, m->u, m->v);
        complete(m, m->by_row, m->v, m->u);
        for (size_t a = 0; a < A; a++) {
            du[a] = m->u[a] - s[a];
            dv[a] = m->v[a] - t[a];
        }
        p->converged = moved(m->u, du, dv, t, A) < p->tolerance;
    }
    free(s);
    return AMX_OK;
}

/* ---- signs ------------------------------------------------------------------------------------------------------- */

/* crowd-kit walks on a graph with an edge between annotators who disagree (below chance; pairs without common instances
 * and everyone with himself count so too) and a path over a node in between for those who agree; the eigenvector of
 * the walk for the eigenvalue nearest -1 splits the annotators in two camps. The nodes in between are eliminated: for
 * a given eigenvalue the rest is one symmetric operator. degree [A]; out = operator(in). */
static void walk(const struct msr *m, const double *root, double eigenvalue, const double *in, double *out)
{
    const double over_two = 1 / (2 * eigenvalue);

    for (size_t i = 0; i < m->A; i++) {
        const double *row = m->covariance + i * m->A;
        double agreeing = 0, sum = 0;

        for (size_t j = 0; j < m->A; j++) {
            const double part = in[j] / root[j];

            if (row[j] < 0) {
                sum += part;
            } else if (row[j] > 0) {
                sum += over_two * part;
                agreeing++;
            }
        }
        out[i] = (sum + over_two * agreeing * in[i] / root[i]) / root[i];
    }
}

/* Moves x (length 1) to the operator's lowest eigenvector by conjugate gradients on the Rayleigh quotient; work [5 A].
 * Returns the eigenvalue. */
static double lowest(const struct msr *m, const double *root, double eigenvalue, double *x, double *work)
{
    const size_t A = m->A;
    double *rx = work, *way = work + A, *rway = work + 2 * A, *gradient = work + 3 * A, square = 0, value = 0;

    walk(m, root, eigenvalue, x, rx);
    for (int step = 0; step < WALK_STEPS; step++) {
        double next = 0, xw, ww, b, c, p, q, r, t, norm;

        value = dot(x, rx, A);
        for (size_t i = 0; i < A; i++)
            gradient[i] = rx[i] - value * x[i];
        next = dot(gradient, gradient, A);
        if (next < 1e-24)
            break;
        for (size_t i = 0; i < A; i++)
            way[i] = (step > 0 ? next / square * way[i] : 0) - gradient[i];
        square = next;
        walk(m, root, eigenvalue, way, rway);
        /* The lowest quotient on the line x + t way: a root of p t^2 + q t + r. */
        xw = dot(x, way, A);
        ww = dot(way, way, A);
        b = dot(x, rway, A);
        c = dot(way, rway, A);
        p = c * xw - b * ww;
        q = c - value * ww;
        r = b - value * xw;
        t = q * q - 4 * p * r;
        t = t >= 0 && fabs(q + sqrt(t)) > 0 ? -2 * r / (q + sqrt(t)) : 0;
        norm = 1 + 2 * t * xw + t * t * ww;
        if (!isfinite(t) || norm <= 0)
            break;
        norm = sqrt(norm);
        for (size_t i = 0; i < A; i++) {
            x[i] = (x[i] + t * way[i]) / norm;
            rx[i] = (rx[i] + t * rway[i]) / norm;
            way[i] /= norm;
        }
    }
    return value;
}

static enum amx_status find_signs(struct msr *m)
{
    const size_t A = m->A;
    double *work = malloc(7 * A * sizeof *work), *root = NULL, *x = NULL;
    double eigenvalue = -1, last = 0, last_off = 0, sum = 0;

    if (work == NULL)
        return AMX_NO_MEMORY;
    root = work + 5 * A;
    x = work + 6 * A;
    for (size_t i = 0; i < A; i++) {
        double degree = 0;

        for (size_t j = 0; j < A; j++)
            degree += m->covariance[i * A + j] < 0 || m->covariance[i * A + j] > 0;
        root[i] = sqrt(degree);
        x[i] = 1 / sqrt((double)A);
    }
    /* Secant steps to the eigenvalue for which the operator has itself. */
    for (int outer = 0; outer < 50; outer++) {
        const double off = lowest(m, root, eigenvalue, x, work) - eigenvalue;
        const double slope = outer > 0 ? (off - last_off) / (eigenvalue - last) : -2;

        if (fabs(off) < 1e-11)
            break;
        last = eigenvalue;
        last_off = off;
        eigenvalue = fmin(eigenvalue - off / (isfinite(slope) && slope < -0.5 ? slope : -2), -0.01);
        if (!(fabs(eigenvalue - last) > 0))
            break;
    }
    for (size_t i = 0; i < A; i++)
        sum += m->sign[i] = (x[i] > 0) - (x[i] < 0);
    for (size_t i = 0; i < A && sum < 0; i++)
        m->sign[i] = -m->sign[i];
    free(work);
    return AMX_OK;
}

/* ---- the vote ---------------------------------------------------------------------------------------------------- */

/* u becomes the skill, -1/(C-1)..1; those without partners get the mean of the others. */
static void settle_skills(struct msr *m)
{
    const double C = (double)m->p->labels.n_classes, edge = 1 / sqrt((double)m->p->labels.n_instances);
    const double v = sqrt(dot(m->v, m->v, m->A)), u = sqrt(dot(m->u, m->u, m->A)), k = u > 0 && v > 0 ? sqrt(u / v) : 1;
    double sum = 0, n = 0;

    for (size_t a = 0; a < m->A; a++) {
        m->u[a] = fmax(fmin(m->sign[a] * m->u[a] / k, 1 - edge), edge - 1 / (C - 1));
        if (m->begin[a + 1] > m->begin[a]) {
            sum += m->u[a];
            n++;
        }
    }
    for (size_t a = 0; a < m->A; a++) {
        if (m->begin[a + 1] == m->begin[a])
            m->u[a] = n > 0 ? sum / n : 1 - edge;
        m->p->reliability[a] = m->u[a] * (C - 1) / C + 1 / C;
    }
}

static void vote(struct msr *m)
{
    const struct crowd_labels *l = &m->p->labels;
    const size_t C = l->n_classes;
    size_t at = 0;

    for (size_t i = 0; i < l->n_instances; i++) {
        double *q = m->p->posterior + i * C, sum = 0;

        memset(q, 0, C * sizeof *q);
        for (; at < l->n_labels && l->instance[at] == i; at++) {
            const double right = m->p->reliability[l->annotator[at]];
            const double weight = log(right * (double)(C - 1) / (1 - right));

            q[l->class_[at]] += weight;
            sum += weight;
        }
        for (size_t k = 0; k < C && sum < 0; k++)
            q[k] = -q[k];
        (void)scores_to_posterior(q, C);
    }
}

enum amx_status m_msr_run(struct crowd_problem *p)
{
    struct msr m = {.p = p, .A = p->labels.n_annotators};
    enum amx_status status = make(&m);

    if (status == AMX_OK)
        status = alternate(&m);
    if (status == AMX_OK)
        status = find_signs(&m);
    if (status == AMX_OK) {
        settle_skills(&m);
        vote(&m);
    }
    done(&m);
    return status;
}
