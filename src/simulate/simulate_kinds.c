/* simulate_kinds.c - annotators with a named habit: reading the list, drawing what the habit leaves open, answering.
 *
 * Every habit is a probability for each class given the instance; an answer is drawn from it with the annotator's own
 * stream at that instance. Colluders share a stream: the same draw, hence the same answer. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "simulate.h"
#include "util/error.h"
#include "util/numbers.h"
#include "util/size.h"

enum {
    MAX_ANNOTATORS = 1000000
};
#define BLIND_SHARE 0.4
#define ELSEWHERE   0.95 /* accuracy of a class-confuser on the classes it tells apart */

static const struct {
    const char *name;
    double accuracy;
    bool bad;
} KINDS[] = {
    [SIM_EXPERT] = {"expert", 0.95, false},
    [SIM_CARELESS] = {"careless", 0.6, false},
    [SIM_CLASS_CONFUSER] = {"class_confuser", 0.5, false},
    [SIM_REGION_BLIND] = {"region_blind", 0.95, false},
    [SIM_SPAMMER] = {"spammer", (double)NAN, true},
    [SIM_CONSTANT] = {"constant", (double)NAN, true},
    [SIM_ADVERSARY] = {"adversary", 0.1, true},
    [SIM_COLLUDERS] = {"colluders", 0.4, true},
    [SIM_NETWORK] = {"network", (double)NAN, false},
    [SIM_GIVEN] = {"given", (double)NAN, false},
};

const char *sim_kind_name(enum sim_kind kind)
{
    return KINDS[kind].name;
}

enum amx_status sim_grow_annotators(struct simulation *s, size_t n, struct amx_error *err)
{
    struct sim_annotator *annotators;
    size_t bytes;

    if (n > MAX_ANNOTATORS || s->n_annotators + n > MAX_ANNOTATORS)
        return error_set(err, AMX_INVALID, "More than %d annotators.", (int)MAX_ANNOTATORS);
    if (!size_mul(&bytes, s->n_annotators + n + 1, sizeof *annotators) ||
        (annotators = realloc(s->annotators, bytes)) == NULL)
        return error_set(err, AMX_NO_MEMORY, "Out of memory.");
    memset(annotators + s->n_annotators, 0, (n + 1) * sizeof *annotators);
    for (size_t a = s->n_annotators; a < s->n_annotators + n; a++)
        annotators[a].accuracy = (double)NAN;
    s->annotators = annotators;
    s->n_annotators += n;
    return AMX_OK;
}

/* ---- "expert=2,careless=3:0.7,spammer=20%" ----------------------------------------------------------------------- */

struct wish {
    enum sim_kind kind;
    bool is_share;
    double share; /* of n_annotators */
    size_t count;
    double accuracy;
};
enum {
    MAX_WISHES = 32
};

static enum amx_status read_kind(const char *text, size_t n, struct wish *out, struct amx_error *err)
{
    for (int k = 0; k < SIM_NETWORK; k++) {
        if (strlen(KINDS[k].name) == n && memcmp(KINDS[k].name, text, n) == 0) {
            out->kind = (enum sim_kind)k;
            return AMX_OK;
        }
    }
    return error_set(
        err, AMX_INVALID,
        "\"%.*s\" is no kind; there are expert, careless, class_confuser, region_blind, spammer, constant, "
        "adversary, colluders.",
        (int)(n < 30 ? n : 30), text);
}

/* One "NAME=COUNT[%][:ACCURACY]". */
static enum amx_status read_wish(const char *text, size_t n, struct wish *out, struct amx_error *err)
{
    const char *equals = memchr(text, '=', n), *end = text + n, *colon;
    enum amx_status status;
    int64_t count;

    if (equals == NULL || equals == text)
        return error_set(err, AMX_INVALID, "\"%.*s\": a kind is NAME=COUNT, NAME=PERCENT%% or NAME=COUNT:ACCURACY.",
                         (int)(n < 40 ? n : 40), text);
    if ((status = read_kind(text, (size_t)(equals - text), out, err)) != AMX_OK)
        return status;
    out->accuracy = KINDS[out->kind].accuracy;
    colon = memchr(equals, ':', (size_t)(end - equals));
    if (colon != NULL) {
        if (isnan(out->accuracy))
            return error_set(err, AMX_INVALID, "The kind %s has no accuracy to set.", KINDS[out->kind].name);
        if (!number_double(colon + 1, (size_t)(end - colon - 1), &out->accuracy) || out->accuracy < 0 ||
            out->accuracy > 1)
            return error_set(err, AMX_INVALID, "The accuracy of %s must be from 0 to 1.", KINDS[out->kind].name);
        end = colon;
    }
    out->is_share = end > equals + 1 && end[-1] == '%';
    if (out->is_share && number_double(equals + 1, (size_t)(end - equals - 2), &out->share) && out->share >= 0 &&
        out->share <= 100) {
        out->share /= 100;
        return AMX_OK;
    }
    if (!out->is_share && number_int(equals + 1, (size_t)(end - equals - 1), &count) && count >= 0 &&
        count <= MAX_ANNOTATORS) {
        out->count = (size_t)count;
        return AMX_OK;
    }
    return error_set(err, AMX_INVALID, "How many of %s? A count (3) or a share (20%%) must follow the \"=\".",
                     KINDS[out->kind].name);
}

/* Shares become counts by the largest remainders; together they are `total`. */
static enum amx_status share_out(struct wish *wishes, size_t n, size_t total, struct amx_error *err)
{
    double sum = 0, remainder[MAX_WISHES];
    size_t given = 0;

    for (size_t i = 0; i < n; i++) {
        if (!wishes[i].is_share)
            return error_set(err, AMX_INVALID, "Counts and shares cannot be mixed in one list of kinds.");
        sum += wishes[i].share;
        wishes[i].count = (size_t)(wishes[i].share * (double)total);
        remainder[i] = wishes[i].share * (double)total - (double)wishes[i].count;
        given += wishes[i].count;
    }
    if (fabs(sum - 1) > 1e-6)
        return error_set(err, AMX_INVALID, "The shares of the kinds add up to %.4g %%, not 100 %%.", sum * 100);
    while (given < total) {
        size_t best = 0;

        for (size_t i = 1; i < n; i++) {
            if (remainder[i] > remainder[best] + 1e-12)
                best = i;
        }
        wishes[best].count++;
        remainder[best] = -1;
        given++;
    }
    return AMX_OK;
}

static enum amx_status read_wishes(const struct simulation *s, struct wish *wishes, size_t *n_out,
                                   struct amx_error *err)
{
    const char *text = s->options->kinds;
    size_t n = 0, total = 0;
    bool shares = false;
    enum amx_status status;

    for (;;) {
        size_t length = strcspn(text, ",");

        if (n == MAX_WISHES)
            return error_set(err, AMX_INVALID, "More than %d entries in the list of kinds.", (int)MAX_WISHES);
        if ((status = read_wish(text, length, &wishes[n], err)) != AMX_OK)
            return status;
        shares = shares || wishes[n].is_share;
        total += wishes[n++].count;
        if (text[length] == '\0')
            break;
        text += length + 1;
    }
    if (shares && (status = share_out(wishes, n, s->options->n_annotators, err)) != AMX_OK)
        return status;
    if (!shares && total == 0)
        return error_set(err, AMX_INVALID, "The list of kinds names no annotator.");
    *n_out = n;
    return AMX_OK;
}

enum amx_status sim_kinds_add(struct simulation *s, struct amx_error *err)
{
    struct wish wishes[MAX_WISHES];
    size_t n = 0, of_kind[SIM_NETWORK] = {0};
    enum amx_status status = read_wishes(s, wishes, &n, err);

    for (size_t i = 0; i < n && status == AMX_OK; i++) {
        const size_t first = s->n_annotators;

        status = sim_grow_annotators(s, wishes[i].count, err);
        for (size_t a = first; a < s->n_annotators && status == AMX_OK; a++) {
            struct sim_annotator *annotator = &s->annotators[a];

            (void)snprintf(annotator->name, sizeof annotator->name, "%s-%zu", KINDS[wishes[i].kind].name,
                           ++of_kind[wishes[i].kind]);
            annotator->kind = wishes[i].kind;
            annotator->wanted_accuracy = wishes[i].accuracy;
            annotator->stream = wishes[i].kind == SIM_COLLUDERS ? first : a;
            status = sim_kind_draw(s, a, err);
        }
    }
    return status;
}

/* ---- what a habit leaves open ------------------------------------------------------------------------------------ */

static enum amx_status draw_pairs(struct simulation *s, struct sim_annotator *annotator, struct sim_random *random,
                                  struct amx_error *err)
{
    const size_t C = s->n_classes;
    size_t confused = C / 2 / 2 * 2 >= 2 ? C / 2 / 2 * 2 : 2;
    uint32_t *order = calloc(C, sizeof *order);

    annotator->partner = calloc(C, sizeof *annotator->partner);
    if (order == NULL || annotator->partner == NULL) {
        free(order);
        return error_set(err, AMX_NO_MEMORY, "Out of memory.");
    }
    for (size_t k = 0; k < C; k++)
        order[k] = annotator->partner[k] = (uint32_t)k;
    sim_shuffle(random, order, C);
    for (size_t i = 0; i < confused; i += 2) {
        annotator->partner[order[i]] = order[i + 1];
        annotator->partner[order[i + 1]] = order[i];
    }
    free(order);
    return AMX_OK;
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* direction [D]: normal over the deviation of each feature, so that no feature counts for its unit; places [n_rows]. */
static void project(const struct data_dir *dir, struct sim_random *random, double *direction, double *places)
{
    const size_t D = dir->n_features;

    for (size_t d = 0; d < D; d++) {
        double sum = 0, squares = 0;
        size_t n = 0;

        for (size_t i = 0; i < dir->instances.n; i++) {
            double x = (double)dir->features[dir->rows[i].feature_row * D + d];

            n++;
            sum += x;
            squares += x * x;
        }
        double deviation = sqrt(fmax(squares / (double)n - sum / (double)n * (sum / (double)n), 0));

        direction[d] = sim_normal(random) / (deviation > 1e-12 ? deviation : 1);
    }
    for (size_t i = 0; i < dir->instances.n; i++) {
        places[i] = 0;
        for (size_t d = 0; d < D; d++)
            places[i] += direction[d] * (double)dir->features[dir->rows[i].feature_row * D + d];
    }
}

/* Blind are the 40 % of the instances that lie farthest in a random direction. */
static enum amx_status draw_region(struct simulation *s, struct sim_annotator *annotator, struct sim_random *random,
                                   struct amx_error *err)
{
    const size_t n = s->n_rows;
    double *direction, *places, *sorted, border;

    if (s->dir->n_features == 0)
        return error_set(err, AMX_INVALID, "region_blind needs features: the folder has none.");
    direction = calloc(s->dir->n_features, sizeof *direction);
    places = calloc(n + 1, sizeof *places);
    sorted = calloc(n + 1, sizeof *sorted);
    annotator->blind = calloc(n + 1, 1);
    if (direction == NULL || places == NULL || sorted == NULL || annotator->blind == NULL) {
        free(direction);
        free(places);
        free(sorted);
        return error_set(err, AMX_NO_MEMORY, "Out of memory.");
    }
    project(s->dir, random, direction, places);
    memcpy(sorted, places, n * sizeof *sorted);
    qsort(sorted, n, sizeof *sorted, by_value);
    border = sorted[(size_t)((1 - BLIND_SHARE) * (double)n)];
    for (size_t i = 0; i < n; i++)
        annotator->blind[i] = places[i] >= border;
    free(direction);
    free(places);
    free(sorted);
    return AMX_OK;
}

enum amx_status sim_kind_draw(struct simulation *s, size_t a, struct amx_error *err)
{
    struct sim_annotator *annotator = &s->annotators[a];
    struct sim_random random;

    sim_random_init(&random, s->options->seed, SIM_FOR_KIND, annotator->stream, 0);
    annotator->bad = KINDS[annotator->kind].bad;
    if (annotator->kind == SIM_CONSTANT)
        annotator->class_ = (uint32_t)sim_below(&random, s->n_classes);
    else if (annotator->kind == SIM_ADVERSARY)
        annotator->class_ = 1 + (uint32_t)sim_below(&random, s->n_classes - 1);
    else if (annotator->kind == SIM_CLASS_CONFUSER)
        return draw_pairs(s, annotator, &random, err);
    else if (annotator->kind == SIM_REGION_BLIND)
        return draw_region(s, annotator, &random, err);
    return AMX_OK;
}

/* ---- answers ----------------------------------------------------------------------------------------------------- */

static void uniform(double *p, size_t C)
{
    for (size_t c = 0; c < C; c++)
        p[c] = 1.0 / (double)C;
}

/* Accuracy on the truth, the rest spread over the others. */
static void around(double *p, size_t C, size_t truth, double accuracy)
{
    for (size_t c = 0; c < C; c++)
        p[c] = c == truth ? accuracy : (1 - accuracy) / (double)(C - 1);
}

/* Accuracy on the truth, the rest on one other class. */
static void instead(double *p, size_t C, size_t truth, size_t other, double accuracy)
{
    memset(p, 0, C * sizeof *p);
    p[truth] += accuracy;
    p[other] += 1 - accuracy;
}

static void habit(const struct sim_annotator *annotator, size_t row, size_t truth, size_t C, double *p)
{
    const double accuracy = annotator->wanted_accuracy;
    const size_t partner = annotator->kind == SIM_CLASS_CONFUSER ? annotator->partner[truth] : truth;

    if (annotator->kind == SIM_ADVERSARY)
        instead(p, C, truth, (truth + annotator->class_) % C, accuracy);
    else if (annotator->kind == SIM_CLASS_CONFUSER && partner != truth)
        instead(p, C, truth, partner, accuracy);
    else if (annotator->kind == SIM_CLASS_CONFUSER)
        around(p, C, truth, ELSEWHERE);
    else if (annotator->kind == SIM_REGION_BLIND && annotator->blind[row])
        uniform(p, C);
    else
        around(p, C, truth, accuracy);
}

bool sim_probabilities(const struct simulation *s, size_t a, size_t row, double *p)
{
    const struct sim_annotator *annotator = &s->annotators[a];
    const size_t C = s->n_classes;

    if (annotator->kind == SIM_CONSTANT || annotator->kind == SIM_NETWORK) {
        uint32_t says = annotator->kind == SIM_CONSTANT ? annotator->class_ : annotator->votes[row];

        if (says == SIM_NO_CLASS)
            return false;
        memset(p, 0, C * sizeof *p);
        p[says] = 1;
    } else if (annotator->kind == SIM_SPAMMER || s->truth[row] < 0) {
        uniform(p, C); /* without the truth nobody can be right or wrong on purpose */
    } else {
        habit(annotator, row, (size_t)s->truth[row], C, p);
    }
    return true;
}

uint32_t sim_answer(const struct simulation *s, size_t a, size_t row, double *p)
{
    struct sim_random random;
    double u, sum = 0;
    uint32_t last = 0;

    if (!sim_probabilities(s, a, row, p))
        return SIM_NO_CLASS;
    sim_random_init(&random, s->options->seed, SIM_FOR_ANSWER, s->annotators[a].stream, row);
    u = sim_uniform(&random);
    for (uint32_t c = 0; c < s->n_classes; c++) {
        sum += p[c];
        if (p[c] > 0)
            last = c;
        if (u < sum)
            return c;
    }
    return last; /* the sum was rounded below u */
}
