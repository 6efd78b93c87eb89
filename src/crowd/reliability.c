/* reliability.c - how good each annotator is over the instances it labelled, by a model's p_perf and confusion
 * matrices.
 *
 * Average confusion of a: row k = sum_x p(k|x) P(. | x, a, k) / sum_x p(k|x), x over its instances: matrices count
 * where the class is likely. Confusion matrices are C x C floats per label, so labels are taken in chunks; sums run
 * in the order of the labels, whatever the chunk size, so the result is the same to the last bit. Called by the
 * trainer when a run ends. */
#include "crowd/reliability.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "crowd/consensus.h"
#include "crowd/folded.h"
#include "learn/status.h"

#define CHUNK_BYTES ((size_t)32 << 20)
/* Average matrices of all annotators, 512 MiB of doubles; with more cells only the diagonals are kept. */
#define MAX_CONFUSION_CELLS ((size_t)1 << 26)
enum {
    MAX_ROWS = 4096,
    MAX_PAIRS = 16384
};

struct chunks {
    const struct amx_model *model;
    const struct amx_data *data;
    const volatile int *cancel;
    size_t max_pairs;
    uint32_t *row;      /* [max_pairs] row within the chunk */
    float *p_class;     /* [MAX_ROWS][C] */
    float *p_perf;      /* [max_pairs] */
    float *p_confusion; /* [max_pairs][C][C] */
};

static void chunks_done(struct chunks *c)
{
    free(c->p_confusion);
    free(c->p_perf);
    free(c->p_class);
    free(c->row);
}

static enum amx_status chunks_init(struct chunks *c, const struct amx_model *model, const struct amx_data *data)
{
    const size_t C = data->n_classes;
    size_t pairs = CHUNK_BYTES / (C * C * sizeof(float));

    memset(c, 0, sizeof *c);
    c->model = model;
    c->data = data;
    c->max_pairs = pairs < 1 ? 1 : pairs > MAX_PAIRS ? MAX_PAIRS : pairs;
    c->row = malloc(c->max_pairs * sizeof *c->row);
    c->p_class = malloc(MAX_ROWS * C * sizeof *c->p_class);
    c->p_perf = malloc(c->max_pairs * sizeof *c->p_perf);
    c->p_confusion = malloc(c->max_pairs * C * C * sizeof *c->p_confusion);
    if (c->row == NULL || c->p_class == NULL || c->p_perf == NULL || c->p_confusion == NULL) {
        chunks_done(c);
        return AMX_NO_MEMORY;
    }
    return AMX_OK;
}

static enum amx_status check_cancelled(const struct chunks *c, struct amx_error *err)
{
    if (c->cancel == NULL || __atomic_load_n(c->cancel, __ATOMIC_RELAXED) == 0)
        return AMX_OK;
    return amx_fail(err, AMX_CANCELLED, "", "Cancelled.");
}

/* Predicts for labels [first, ...) as many as fit; returns how many in *n. */
static enum amx_status chunk_predict(struct chunks *c, size_t first, size_t *n, struct amx_error *err)
{
    const struct amx_data *data = c->data;
    const struct amx_pairs_prediction wanted = {
        .p_class = c->p_class, .p_perf = c->p_perf, .p_confusion = c->p_confusion};
    size_t base = data->label_instance[first], last = base, count = 0;

    if (check_cancelled(c, err) != AMX_OK)
        return AMX_CANCELLED;
    while (count < c->max_pairs && first + count < data->n_labels) {
        size_t instance = data->label_instance[first + count];

        if (instance - base >= MAX_ROWS)
            break;
        c->row[count++] = (uint32_t)(instance - base);
        last = instance;
    }
    *n = count;
    return amx_predict_pairs(c->model, AMX_NO_FOLD, data->features + base * data->n_features, last - base + 1, c->row,
                             data->label_annotator + first, count, &wanted, err);
}

/* Adds label number `j` of the chunk, given by annotator a. */
static void add_label(const struct chunks *c, size_t j, size_t a, struct reliability *r)
{
    const size_t C = r->n_classes;
    const float *p = c->p_class + (size_t)c->row[j] * C;
    const float *matrix = c->p_confusion + j * C * C;

    r->mean[a] += (double)c->p_perf[j];
    r->labels[a]++;
    for (size_t k = 0; k < C; k++) {
        double weight = (double)p[k];

        r->evidence[a * C + k] += weight;
        r->per_class[a * C + k] += weight * (double)matrix[k * C + k];
        for (size_t z = 0; r->confusion != NULL && z < C; z++)
            r->confusion[(a * C + k) * C + z] += weight * (double)matrix[k * C + z];
    }
}

/* Sums -> means. A class that is never likely among a's instances has weight near 0; with exactly 0 the row is
 * unknown: NaN. */
static void divide(struct reliability *r)
{
    const size_t C = r->n_classes;

    for (size_t a = 0; a < r->n_annotators; a++) {
        r->mean[a] = r->labels[a] > 0 ? r->mean[a] / (double)r->labels[a] : (double)NAN;
        for (size_t k = 0; k < C; k++) {
            double weight = r->evidence[a * C + k];

            r->per_class[a * C + k] = weight > 0 ? r->per_class[a * C + k] / weight : (double)NAN;
            for (size_t z = 0; r->confusion != NULL && z < C; z++)
                r->confusion[(a * C + k) * C + z] =
                    weight > 0 ? r->confusion[(a * C + k) * C + z] / weight : (double)NAN;
        }
    }
}

static enum amx_status population_of(struct chunks *c, double *out, struct amx_error *err)
{
    static const uint32_t unseen = AMX_UNSEEN;
    const struct amx_data *data = c->data;
    const struct amx_prediction wanted = {.p_perf = c->p_perf};
    const size_t step = c->max_pairs < MAX_ROWS ? c->max_pairs : MAX_ROWS;
    double sum = 0;

    for (size_t first = 0; first < data->n_instances; first += step) {
        size_t n = data->n_instances - first < step ? data->n_instances - first : step;
        enum amx_status status =
            amx_predict(c->model, data->features + first * data->n_features, n, &unseen, 1, &wanted, err);

        if (status != AMX_OK)
            return status;
        for (size_t i = 0; i < n; i++)
            sum += (double)c->p_perf[i];
    }
    *out = data->n_instances > 0 ? sum / (double)data->n_instances : (double)NAN;
    return AMX_OK;
}

size_t reliability_memory(size_t n_annotators, size_t n_classes)
{
    size_t cells, rows, bytes, confusion;

    /* per_class and evidence; mean, labels, and with folds three more of each annotator. */
    if (!amx_size_mul(&cells, n_annotators, n_classes) || !amx_size_mul(&rows, n_annotators, 5) ||
        !amx_size_mul(&bytes, cells, 2) || !amx_size_add(&bytes, bytes, rows))
        return SIZE_MAX;
    if (amx_size_mul(&confusion, cells, n_classes) && confusion <= MAX_CONFUSION_CELLS &&
        !amx_size_add(&bytes, bytes, confusion))
        return SIZE_MAX;
    if (!amx_size_mul(&bytes, bytes, sizeof(double)) ||
        !amx_size_add(&bytes, bytes, 2 * CHUNK_BYTES + MAX_ROWS * n_classes * sizeof(float)))
        return SIZE_MAX;
    return bytes;
}

static enum amx_status reliability_init(struct reliability *r, size_t A, size_t C)
{
    size_t cells, all;

    memset(r, 0, sizeof *r);
    r->n_annotators = A;
    r->n_classes = C;
    if (!amx_size_mul(&cells, A, C) || cells > SIZE_MAX / sizeof(double))
        return AMX_NO_MEMORY;
    r->mean = calloc(A + 1, sizeof *r->mean);
    r->labels = calloc(A + 1, sizeof *r->labels);
    r->per_class = calloc(cells + 1, sizeof *r->per_class);
    r->evidence = calloc(cells + 1, sizeof *r->evidence);
    if (amx_size_mul(&all, cells, C) && all <= MAX_CONFUSION_CELLS) {
        r->confusion = calloc(all + 1, sizeof *r->confusion);
        if (r->confusion == NULL)
            return AMX_NO_MEMORY;
    }
    return r->mean != NULL && r->labels != NULL && r->per_class != NULL && r->evidence != NULL ? AMX_OK : AMX_NO_MEMORY;
}

/* ---- with folds ----------------------------------------------------------------------------------------------------
 */

static bool has_folds(const struct amx_model *model, const struct amx_data *data)
{
    struct amx_model_info info;

    amx_model_info(model, &info);
    return info.folds >= 2 && data->fold != NULL;
}

/* Labels of whole instances, predicted out of fold; one column of each label's matrix is all that is kept. */
struct group {
    size_t first, n;  /* labels */
    size_t room;      /* labels that the arrays hold */
    float *columns;   /* [n][C] P(z | x, a, k) for every k */
    double *expected; /* [n] */
    unsigned char *agrees;
    int *fold;             /* [MAX_ROWS] */
    double *scratch;       /* [2 C] */
    uint64_t *accompanied; /* [A] labels on instances that others have labelled too */
};

static void group_done(struct group *g)
{
    free(g->columns);
    free(g->expected);
    free(g->agrees);
    free(g->fold);
    free(g->scratch);
    free(g->accompanied);
}

/* As many whole instances from g->first on as a chunk has pairs for, but at least one. */
static bool group_plan(struct group *g, const struct chunks *c)
{
    const struct amx_data *data = c->data;
    const size_t C = data->n_classes, base = data->label_instance[g->first];
    size_t end = g->first, bytes;

    while (end < data->n_labels && data->label_instance[end] - base < MAX_ROWS) {
        size_t next = end;

        while (next < data->n_labels && data->label_instance[next] == data->label_instance[end])
            next++;
        if (end > g->first && next - g->first > c->max_pairs)
            break;
        end = next;
    }
    g->n = end - g->first;
    if (g->n <= g->room)
        return true;
    free(g->columns);
    free(g->expected);
    free(g->agrees);
    g->room = 0;
    g->columns = amx_size_mul(&bytes, g->n, C * sizeof *g->columns) ? malloc(bytes) : NULL;
    g->expected = malloc(g->n * sizeof *g->expected);
    g->agrees = malloc(g->n);
    if (g->columns == NULL || g->expected == NULL || g->agrees == NULL)
        return false;
    g->room = g->n;
    return true;
}

/* Columns of all labels of the group, and p_class of its instances, each by the members that did not see them. */
static enum amx_status group_predict(struct group *g, struct chunks *c, struct amx_error *err)
{
    const struct amx_data *data = c->data;
    const size_t C = data->n_classes, base = data->label_instance[g->first];
    const size_t rows = data->label_instance[g->first + g->n - 1] - base + 1;
    enum amx_status status = AMX_OK;

    for (size_t i = 0; i < rows; i++)
        g->fold[i] = (int)data->fold[base + i];
    for (size_t at = 0; at < g->n && status == AMX_OK; at += c->max_pairs) {
        const struct amx_pairs_prediction wanted = {.p_class = c->p_class, .p_confusion = c->p_confusion};
        size_t n = g->n - at < c->max_pairs ? g->n - at : c->max_pairs;
        const uint32_t *classes = data->label_class + g->first + at;

        for (size_t j = 0; j < n; j++)
            c->row[j] = (uint32_t)(data->label_instance[g->first + at + j] - base);
        status = folded_predict_pairs(c->model, g->fold, data->features + base * data->n_features, rows, c->row,
                                      data->label_annotator + g->first + at, n, &wanted, err);
        for (size_t j = 0; status == AMX_OK && j < n; j++) {
            for (size_t k = 0; k < C; k++)
                g->columns[(at + j) * C + k] = c->p_confusion[(j * C + k) * C + classes[j]];
        }
    }
    return status;
}

static void group_add(struct group *g, const struct chunks *c, struct reliability *r)
{
    const struct amx_data *data = c->data;
    const size_t C = data->n_classes, base = data->label_instance[g->first];

    for (size_t at = 0; at < g->n;) {
        const size_t instance = data->label_instance[g->first + at];
        const uint32_t *annotator = data->label_annotator + g->first + at;
        size_t n = 0;

        while (at + n < g->n && data->label_instance[g->first + at + n] == instance)
            n++;
        consensus_left_out(c->p_class + (instance - base) * C, g->columns + at * C, data->label_class + g->first + at,
                           n, C, g->scratch, g->expected, g->agrees);
        for (size_t l = 0; l < n; l++) {
            r->expected_correct[annotator[l]] += g->expected[l];
            if (n > 1) {
                r->agreement[annotator[l]] += g->agrees[l];
                g->accompanied[annotator[l]]++;
            }
        }
        at += n;
    }
}

static enum amx_status left_out_of(struct chunks *c, struct reliability *r, struct amx_error *err)
{
    const size_t A = r->n_annotators, C = r->n_classes;
    struct group g = {.first = 0};
    enum amx_status status = AMX_OK;

    g.fold = malloc(MAX_ROWS * sizeof *g.fold);
    g.scratch = malloc(2 * C * sizeof *g.scratch);
    g.accompanied = calloc(A + 1, sizeof *g.accompanied);
    r->expected_correct = calloc(A + 1, sizeof *r->expected_correct);
    r->agreement = calloc(A + 1, sizeof *r->agreement);
    if (g.fold == NULL || g.scratch == NULL || g.accompanied == NULL || r->expected_correct == NULL ||
        r->agreement == NULL)
        status = amx_fail_memory(err);
    while (status == AMX_OK && g.first < c->data->n_labels) {
        status = check_cancelled(c, err);
        if (status == AMX_OK && !group_plan(&g, c))
            status = amx_fail_memory(err);
        if (status == AMX_OK)
            status = group_predict(&g, c, err);
        if (status == AMX_OK)
            group_add(&g, c, r);
        g.first += g.n;
    }
    for (size_t a = 0; a < A && status == AMX_OK; a++) {
        r->expected_correct[a] = r->labels[a] > 0 ? r->expected_correct[a] / (double)r->labels[a] : (double)NAN;
        r->agreement[a] = g.accompanied[a] > 0 ? r->agreement[a] / (double)g.accompanied[a] : (double)NAN;
    }
    group_done(&g);
    return status;
}

/* How far apart the instances are that `all` is a mean over: 1 = all of them. */
static size_t all_step(size_t N, size_t A, size_t C)
{
    size_t cells, n;

    if (!amx_size_mul(&cells, A > 0 ? A : 1, C * C))
        cells = SIZE_MAX;
    n = RELIABILITY_ALL_CELLS / cells;
    n = n < RELIABILITY_ALL_LEAST ? RELIABILITY_ALL_LEAST : n;
    return N <= n ? 1 : (N + n - 1) / n;
}

/* Neighbours are predicted together when they all count and their pairs fit. */
static size_t rows_at_once(size_t step, size_t A, size_t max_pairs)
{
    size_t rows = A > 0 ? max_pairs / A : 1;

    return step > 1 || rows < 1 ? 1 : rows > MAX_ROWS ? MAX_ROWS : rows;
}

/* By the whole ensemble, like `mean`: the two differ only in the instances they are taken over. */
static enum amx_status all_of(struct chunks *c, struct reliability *r, struct amx_error *err)
{
    const struct amx_data *data = c->data;
    const size_t A = r->n_annotators, step = all_step(data->n_instances, A, r->n_classes);
    const size_t block = c->max_pairs; /* annotators at once */
    const struct amx_prediction wanted = {.p_perf = c->p_perf};
    uint32_t *annotators = malloc((block + 1) * sizeof *annotators);
    enum amx_status status = AMX_OK;
    size_t n = 0;

    r->all = calloc(A + 1, sizeof *r->all);
    if (annotators == NULL || r->all == NULL)
        status = amx_fail_memory(err);
    for (size_t i = 0, rows; i < data->n_instances && status == AMX_OK; i += rows * step, n += rows) {
        rows = rows_at_once(step, A, block);
        rows = rows > data->n_instances - i ? data->n_instances - i : rows;
        status = check_cancelled(c, err);
        for (size_t first = 0; first < A && status == AMX_OK; first += block) {
            size_t m = A - first < block ? A - first : block;

            for (size_t j = 0; j < m; j++)
                annotators[j] = (uint32_t)(first + j);
            status = amx_predict(c->model, data->features + i * data->n_features, rows, annotators, m, &wanted, err);
            for (size_t j = 0; status == AMX_OK && j < rows * m; j++)
                r->all[first + j % m] += (double)c->p_perf[j];
        }
    }
    for (size_t a = 0; a < A && status == AMX_OK; a++)
        r->all[a] = r->labels[a] > 0 ? r->all[a] / (double)n : (double)NAN;
    free(annotators);
    return status;
}

enum amx_status reliability_of_model(const struct amx_model *model, const struct amx_data *data,
                                     const volatile int *cancel, struct reliability *out, struct amx_error *err)
{
    struct reliability r;
    struct chunks chunks;
    enum amx_status status = reliability_init(&r, data->n_annotators, data->n_classes);

    if (status != AMX_OK || chunks_init(&chunks, model, data) != AMX_OK) {
        reliability_done(&r);
        return amx_fail_memory(err);
    }
    chunks.cancel = cancel;
    for (size_t first = 0; first < data->n_labels && status == AMX_OK;) {
        size_t n = 0;

        status = chunk_predict(&chunks, first, &n, err);
        for (size_t j = 0; status == AMX_OK && j < n; j++)
            add_label(&chunks, j, data->label_annotator[first + j], &r);
        first += n;
    }
    if (status == AMX_OK)
        status = population_of(&chunks, &r.population, err);
    if (status == AMX_OK && has_folds(model, data))
        status = left_out_of(&chunks, &r, err);
    if (status == AMX_OK && has_folds(model, data))
        status = all_of(&chunks, &r, err);
    chunks_done(&chunks);
    if (status != AMX_OK) {
        reliability_done(&r);
        return status;
    }
    divide(&r);
    *out = r;
    return AMX_OK;
}

enum amx_status reliability_of_posterior(const struct crowd_labels *labels, const double *posterior,
                                         struct reliability *out)
{
    const size_t C = labels->n_classes;
    struct reliability r;
    double sum = 0;

    if (reliability_init(&r, labels->n_annotators, C) != AMX_OK) {
        reliability_done(&r);
        return AMX_NO_MEMORY;
    }
    for (size_t l = 0; l < labels->n_labels; l++) {
        const double *q = posterior + (size_t)labels->instance[l] * C;
        const size_t a = labels->annotator[l], z = labels->class_[l];

        r.labels[a]++;
        r.mean[a] += q[z];
        r.per_class[a * C + z] += q[z];
        sum += q[z];
        for (size_t k = 0; k < C; k++) {
            r.evidence[a * C + k] += q[k];
            if (r.confusion != NULL)
                r.confusion[(a * C + k) * C + z] += q[k];
        }
    }
    divide(&r);
    r.population = labels->n_labels > 0 ? sum / (double)labels->n_labels : (double)NAN;
    *out = r;
    return AMX_OK;
}

void reliability_done(struct reliability *r)
{
    free(r->all);
    free(r->expected_correct);
    free(r->agreement);
    free(r->confusion);
    free(r->evidence);
    free(r->per_class);
    free(r->labels);
    free(r->mean);
    memset(r, 0, sizeof *r);
}
