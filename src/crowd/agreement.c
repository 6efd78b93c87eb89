/* agreement.c - see agreement.h.
 *
 * Krippendorff, "Content Analysis", chapter 11: coincidences o(c, k) = sum over instances of pairs (c, k) / (m - 1);
 * n_c = sum_k o(c, k), n = sum_c n_c; alpha = 1 - (n - 1) (n - sum_c o(c, c)) / (n^2 - sum_c n_c^2). Only the diagonal
 * and the margins are needed, so one pass with a counter per class does it.
 *
 * Pairs: annotator by annotator, the labels of all the others on the same instances are gathered and grouped by who
 * gave them; so the tables of one annotator at a time are in memory, and pairs come in order. */
#include "crowd/agreement.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* End of the run of labels on the same instance that begins at `at`. */
static size_t run_end(const struct crowd_labels *l, size_t at)
{
    size_t end = at;

    while (end < l->n_labels && l->instance[end] == l->instance[at])
        end++;
    return end;
}

enum amx_status agreement_of(const struct crowd_labels *l, struct agreement *out)
{
    const size_t C = l->n_classes;
    double *n = calloc(C + 1, sizeof *n), coincidences = 0, squares = 0, total = 0, observed = 0;
    size_t *counts = calloc(C + 1, sizeof *counts);
    struct agreement result = {.observed = (double)NAN, .alpha = (double)NAN, .fleiss_kappa = (double)NAN};

    if (n == NULL || counts == NULL) {
        free(counts);
        free(n);
        return AMX_NO_MEMORY;
    }
    for (size_t at = 0, end; at < l->n_labels; at = end) {
        size_t agreeing = 0; /* ordered pairs of equal labels */

        end = run_end(l, at);
        if (end - at < 2)
            continue;
        for (size_t i = at; i < end; i++)
            agreeing += 2 * counts[l->class_[i]]++;
        for (size_t i = at; i < end; i++) {
            counts[l->class_[i]] = 0;
            n[l->class_[i]]++;
        }
        coincidences += (double)agreeing / (double)(end - at - 1);
        observed += (double)agreeing / ((double)(end - at) * (double)(end - at - 1));
        result.n_instances++;
        result.n_labels += end - at;
    }
    total = (double)result.n_labels;
    for (size_t k = 0; k < C; k++)
        squares += n[k] * n[k];
    if (result.n_instances > 0) {
        const double chance = squares / (total * total);

        result.observed = observed / (double)result.n_instances;
        if (total * total > squares) {
            result.alpha = 1 - (total - 1) * (total - coincidences) / (total * total - squares);
            result.fleiss_kappa = (result.observed - chance) / (1 - chance);
        }
    }
    *out = result;
    free(counts);
    free(n);
    return AMX_OK;
}

uint64_t agreement_work(const struct crowd_labels *l)
{
    uint64_t pairs = 0;

    for (size_t at = 0, end; at < l->n_labels; at = end) {
        end = run_end(l, at);
        pairs += (uint64_t)(end - at) * (end - at - 1) / 2;
    }
    return pairs;
}

/* ---- pairs ------------------------------------------------------------------------------------------------------- */

/* A label of somebody else on an instance of the annotator at hand. */
struct meeting {
    uint32_t own, other; /* classes */
};

struct pairs {
    const struct crowd_labels *l;
    size_t *first, *end;      /* [L] run of labels on the same instance as each label */
    size_t *begin;            /* [A+1] */
    size_t *of;               /* [L] labels in the order of their annotators */
    size_t *count, *place;    /* [A] meetings with each other annotator; where the next one goes */
    uint32_t *partners;       /* [A] who was met */
    size_t *own, *other;      /* [C] margins of one pair */
    struct meeting *meetings;
    size_t capacity;
};

static void pairs_done(struct pairs *p)
{
    free(p->meetings);
    free(p->other);
    free(p->own);
    free(p->partners);
    free(p->place);
    free(p->count);
    free(p->of);
    free(p->begin);
    free(p->end);
    free(p->first);
}

static enum amx_status pairs_make(struct pairs *p)
{
    const struct crowd_labels *l = p->l;
    const size_t L = l->n_labels, A = l->n_annotators;

    p->first = malloc((L + 1) * sizeof *p->first);
    p->end = malloc((L + 1) * sizeof *p->end);
    p->of = malloc((L + 1) * sizeof *p->of);
    p->begin = calloc(A + 2, sizeof *p->begin);
    p->count = calloc(A + 1, sizeof *p->count);
    p->place = calloc(A + 1, sizeof *p->place);
    p->partners = calloc(A + 1, sizeof *p->partners);
    p->own = calloc(l->n_classes + 1, sizeof *p->own);
    p->other = calloc(l->n_classes + 1, sizeof *p->other);
    if (p->first == NULL || p->end == NULL || p->of == NULL || p->begin == NULL || p->count == NULL ||
        p->place == NULL || p->partners == NULL || p->own == NULL || p->other == NULL)
        return AMX_NO_MEMORY;
    for (size_t at = 0, end; at < L; at = end) {
        end = run_end(l, at);
        for (size_t i = at; i < end; i++) {
            p->first[i] = at;
            p->end[i] = end;
            p->begin[l->annotator[i] + 1]++;
        }
    }
    for (size_t a = 0; a < A; a++)
        p->begin[a + 1] += p->begin[a];
    for (size_t a = 0; a < A; a++)
        p->place[a] = p->begin[a];
    for (size_t i = 0; i < L; i++)
        p->of[p->place[l->annotator[i]]++] = i;
    return AMX_OK;
}

static int by_number(const void *a, const void *b)
{
    const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

/* Counts the meetings of a with every b > a, and lists those b in order. Returns their number. */
static size_t count_meetings(struct pairs *p, uint32_t a, size_t *n_meetings)
{
    size_t n = 0;

    *n_meetings = 0;
    for (size_t j = p->begin[a]; j < p->begin[a + 1]; j++) {
        for (size_t i = p->first[p->of[j]]; i < p->end[p->of[j]]; i++) {
            const uint32_t b = p->l->annotator[i];

            if (b <= a)
                continue;
            if (p->count[b]++ == 0)
                p->partners[n++] = b;
            ++*n_meetings;
        }
    }
    qsort(p->partners, n, sizeof *p->partners, by_number);
    return n;
}

static enum amx_status room_for(struct pairs *p, size_t n)
{
    struct meeting *more;

    if (n <= p->capacity)
        return AMX_OK;
    more = realloc(p->meetings, n * sizeof *more);
    if (more == NULL)
        return AMX_NO_MEMORY;
    p->meetings = more;
    p->capacity = n;
    return AMX_OK;
}

/* Fills meetings, those with each partner together, and leaves place[b] at the end of b's. */
static void gather(struct pairs *p, uint32_t a, size_t n_partners)
{
    size_t at = 0;

    for (size_t k = 0; k < n_partners; k++) {
        p->place[p->partners[k]] = at;
        at += p->count[p->partners[k]];
    }
    for (size_t j = p->begin[a]; j < p->begin[a + 1]; j++) {
        for (size_t i = p->first[p->of[j]]; i < p->end[p->of[j]]; i++) {
            const uint32_t b = p->l->annotator[i];

            if (b > a)
                p->meetings[p->place[b]++] = (struct meeting){p->l->class_[p->of[j]], p->l->class_[i]};
        }
    }
}

static struct agreement_pair judge(struct pairs *p, uint32_t a, uint32_t b)
{
    const struct meeting *m = p->meetings + p->place[b] - p->count[b];
    const size_t n = p->count[b];
    struct agreement_pair out = {.a = a, .b = b, .n = n};
    double chance = 0, size = (double)n;

    for (size_t i = 0; i < n; i++) {
        out.agreed += m[i].own == m[i].other;
        p->own[m[i].own]++;
        p->other[m[i].other]++;
    }
    for (size_t i = 0; i < n; i++) {
        chance += (double)p->own[m[i].own] * (double)p->other[m[i].own];
        p->own[m[i].own] = 0; /* each class once */
    }
    for (size_t i = 0; i < n; i++)
        p->other[m[i].other] = 0;
    chance /= size * size;
    out.kappa = chance < 1 ? ((double)out.agreed / size - chance) / (1 - chance) : (double)NAN;
    p->count[b] = 0;
    return out;
}

enum amx_status agreement_pairs(const struct crowd_labels *labels, uint32_t first_a, agreement_pair_fn *fn,
                                void *context)
{
    struct pairs p = {.l = labels};
    enum amx_status status = pairs_make(&p);

    for (size_t a = first_a; a < labels->n_annotators && status == AMX_OK; a++) {
        size_t n_meetings, n_partners = count_meetings(&p, (uint32_t)a, &n_meetings);

        status = room_for(&p, n_meetings);
        if (status != AMX_OK)
            break;
        gather(&p, (uint32_t)a, n_partners);
        for (size_t k = 0; k < n_partners && status == AMX_OK; k++) {
            const struct agreement_pair pair = judge(&p, (uint32_t)a, p.partners[k]);

            status = fn(context, &pair);
        }
    }
    pairs_done(&p);
    return status;
}
