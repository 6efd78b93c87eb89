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

/* Predicts for labels [first, ...) as many as fit; returns how many in *n. */
static enum amx_status chunk_predict(struct chunks *c, size_t first, size_t *n, struct amx_error *err)
{
    const struct amx_data *data = c->data;
    size_t base = data->label_instance[first], last = base, count = 0;

    while (count < c->max_pairs && first + count < data->n_labels) {
        size_t instance = data->label_instance[first + count];

        if (instance - base >= MAX_ROWS)
            break;
        c->row[count++] = (uint32_t)(instance - base);
        last = instance;
    }
    *n = count;
    const struct amx_pairs_prediction out = {.p_class = c->p_class, .p_perf = c->p_perf, .p_confusion = c->p_confusion};
    return amx_predict_pairs(c->model, AMX_NO_FOLD, data->features + base * data->n_features, last - base + 1, c->row,
                             data->label_annotator + first, count, &out, err);
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

enum amx_status reliability_of_model(const struct amx_model *model, const struct amx_data *data,
                                     struct reliability *out, struct amx_error *err)
{
    struct reliability r;
    struct chunks chunks;
    enum amx_status status = reliability_init(&r, data->n_annotators, data->n_classes);

    if (status != AMX_OK || chunks_init(&chunks, model, data) != AMX_OK) {
        reliability_done(&r);
        return amx_fail_memory(err);
    }
    for (size_t first = 0; first < data->n_labels && status == AMX_OK;) {
        size_t n = 0;

        status = chunk_predict(&chunks, first, &n, err);
        for (size_t j = 0; status == AMX_OK && j < n; j++)
            add_label(&chunks, j, data->label_annotator[first + j], &r);
        first += n;
    }
    if (status == AMX_OK)
        status = population_of(&chunks, &r.population, err);
    chunks_done(&chunks);
    if (status != AMX_OK) {
        reliability_done(&r);
        return status;
    }
    divide(&r);
    *out = r;
    return AMX_OK;
}

void reliability_done(struct reliability *r)
{
    free(r->confusion);
    free(r->evidence);
    free(r->per_class);
    free(r->labels);
    free(r->mean);
    memset(r, 0, sizeof *r);
}
