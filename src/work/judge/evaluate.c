/* evaluate.c - a model against gold and against labels: class model, consensus and annotator model by split.
 *
 * One pass over each split, piece by piece. Gold never reaches a fit from here: the model is finished when this runs.
 */
#include "work/judge/evaluate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "crowd/aggregate/majority.h"
#include "store/instances.h"
#include "util/error.h"
#include "util/size.h"
#include "work/judge/evaluate_int.h"

bool evaluate_saw_gold(const char *method, enum run_gold_use gold_use)
{
    const struct amx_method_info *info = amx_method_named(method);

    return (info != NULL && info->needs_gold) || gold_use == RUN_GOLD_TRAIN;
}

/* Sums over one split. Votes, posterior and group are of the row at hand, which may stretch over pieces. */
struct sums {
    const struct part *part;
    struct class_tally classes;
    double *posterior; /* [C] logarithms */
    uint32_t *votes;   /* [C] */
    double group_sum;
    size_t group_n;
    size_t majority_n, majority_right, consensus_right;
    float *score; /* [labels of the part] p_perf of those on gold */
    unsigned char *right;
    size_t n_scores;
    struct grouped_mean labels;
};

static enum amx_status sums_init(struct sums *s, const struct part *part)
{
    const size_t C = part->n_classes, n = part->n_labels - part->first_label + 1;
    size_t bytes;

    memset(s, 0, sizeof *s);
    s->part = part;
    s->posterior = calloc(C, sizeof *s->posterior);
    s->votes = calloc(C, sizeof *s->votes);
    s->score = size_mul(&bytes, n, sizeof *s->score) ? malloc(bytes) : NULL;
    s->right = malloc(n);
    if (class_tally_init(&s->classes, C) != AMX_OK || s->posterior == NULL || s->votes == NULL || s->score == NULL ||
        s->right == NULL)
        return AMX_NO_MEMORY;
    return AMX_OK;
}

static void sums_done(struct sums *s)
{
    class_tally_done(&s->classes);
    free(s->posterior);
    free(s->votes);
    free(s->score);
    free(s->right);
}

static int32_t gold_of(const struct part *part, size_t row)
{
    return part->gold != NULL ? part->gold[row] : -1;
}

static void begin_row(struct sums *s, size_t row, const float *p_class)
{
    const size_t C = s->part->n_classes;
    int32_t gold = gold_of(s->part, row);

    if (gold >= 0)
        class_tally_add(&s->classes, p_class, (uint32_t)gold);
    for (size_t k = 0; k < C; k++) {
        s->posterior[k] = evaluate_log(p_class[k]);
        s->votes[k] = 0;
    }
    s->group_sum = 0;
    s->group_n = 0;
}

static void add_label(struct sums *s, const struct piece *piece, size_t j, size_t row)
{
    const size_t C = s->part->n_classes, z = s->part->label_class[piece->label + j];
    int32_t gold = gold_of(s->part, row);

    s->group_sum += evaluate_log(piece->p_annotation[j * C + z]);
    s->group_n++;
    s->votes[z]++;
    for (size_t k = 0; k < C; k++)
        s->posterior[k] += evaluate_log(piece->p_confusion[(j * C + k) * C + z]);
    if (gold < 0)
        return;
    s->score[s->n_scores] = piece->p_perf[j];
    s->right[s->n_scores++] = z == (size_t)gold;
}

static void end_row(struct sums *s, size_t row)
{
    int32_t gold = gold_of(s->part, row);
    size_t most = 0, best = 0;

    grouped_mean_add(&s->labels, s->group_sum, s->group_n);
    if (gold < 0 || s->group_n == 0)
        return;
    for (size_t k = 1; k < s->part->n_classes; k++) { /* ties: lowest index */
        most = s->votes[k] > s->votes[most] ? k : most;
        best = s->posterior[k] > s->posterior[best] ? k : best;
    }
    s->majority_n++;
    s->majority_right += most == (size_t)gold;
    s->consensus_right += best == (size_t)gold;
}

/* The last row of a piece ends when the next one does not continue it. */
static void add_piece(struct sums *s, const struct piece *piece, bool last_ends)
{
    const size_t C = s->part->n_classes;
    size_t j = 0;

    for (size_t i = 0; i < piece->n_rows; i++) {
        size_t row = piece->row + i;

        if (i > 0 || !piece->continues)
            begin_row(s, row, piece->p_class + i * C);
        for (; j < piece->n_labels && piece->pair_row[j] == i; j++)
            add_label(s, piece, j, row);
        if (i + 1 < piece->n_rows || last_ends)
            end_row(s, row);
    }
}

static struct share share_of(size_t right, size_t n)
{
    struct share share = {.n = n, .accuracy = n > 0 ? (double)right / (double)n : (double)NAN};

    wilson_interval((double)right, (double)n, &share.low, &share.high);
    return share;
}

static enum amx_status finish(struct sums *s, bool in_sample, struct evaluation *out)
{
    enum amx_status status = AMX_OK;

    if (s->classes.n > 0) {
        out->has_classes = true;
        class_tally_scores(&s->classes, &out->classes);
    }
    out->majority = share_of(s->majority_right, s->majority_n);
    out->consensus = share_of(s->consensus_right, s->majority_n);
    if (!in_sample)
        out->labels = s->labels;
    if (s->n_scores > 0) {
        status = binary_scores_of(s->score, s->right, s->n_scores, &out->annotators);
        out->has_annotators = status == AMX_OK;
    }
    return status;
}

enum amx_status evaluate_split(const struct amx_model *model, const struct training_data *data, enum split split,
                               enum run_gold_use gold_use, struct evaluation *out, struct amx_error *err)
{
    struct part part = part_of(&data->set, split);
    struct evaluation result = {.split = split_name(split), .basis = "held_out"};
    struct amx_model_info info;
    struct pieces *pieces = NULL;
    const struct piece *piece = NULL;
    struct sums sums;
    enum amx_status status;

    amx_model_info(model, &info);
    if (split == SPLIT_TRAIN && evaluate_saw_gold(info.method, gold_use))
        part.gold = NULL;
    struct pieces_of of = {model, &part, PIECE_PERF | PIECE_ANNOTATION | PIECE_CONFUSION, NULL, NULL};
    if (split == SPLIT_TRAIN) {
        of.fold_of_row = info.folds > 0 ? data->data.fold : NULL;
        result.basis = of.fold_of_row != NULL ? "out_of_fold" : "in_sample";
    }
    status = sums_init(&sums, &part);
    if (status == AMX_OK)
        status = pieces_new(&of, &pieces, err);
    if (status == AMX_OK)
        status = pieces_next(pieces, &piece, err);
    while (status == AMX_OK && piece != NULL) {
        bool ends = piece->label + piece->n_labels >= part.n_labels ||
                    part.label_row[piece->label + piece->n_labels] >= piece->row + piece->n_rows;

        add_piece(&sums, piece, ends);
        status = pieces_next(pieces, &piece, err);
    }
    if (status == AMX_OK)
        status = finish(&sums, split == SPLIT_TRAIN && of.fold_of_row == NULL, &result);
    pieces_free(pieces);
    sums_done(&sums);
    if (status != AMX_OK)
        return status == AMX_NO_MEMORY ? error_set(err, AMX_NO_MEMORY, "Out of memory.") : status;
    *out = result;
    return AMX_OK;
}

enum amx_status evaluate_majority(const struct training_data *data, double *accuracy, size_t *n)
{
    const struct part part = part_of(&data->set, SPLIT_TRAIN);
    uint32_t *counts = calloc(part.n_classes + 1, sizeof *counts);
    size_t right = 0, rows = 0, l = 0;

    if (counts == NULL)
        return AMX_NO_MEMORY;
    while (l < part.n_labels) {
        size_t first = l, row = part.label_row[l];

        while (l < part.n_labels && part.label_row[l] == row)
            l++;
        if (part.gold[row] < 0)
            continue;
        rows++;
        right += majority_of(part.label_class + first, l - first, part.n_classes, counts) == (uint32_t)part.gold[row];
    }
    free(counts);
    *accuracy = rows > 0 ? (double)right / (double)rows : (double)NAN;
    *n = rows;
    return AMX_OK;
}
