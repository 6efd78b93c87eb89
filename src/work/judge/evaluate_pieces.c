/* evaluate_pieces.c - predictions for labelled rows in pieces of bounded memory, whatever the project's size and the
 * number of its classes (a confusion matrix of 1,000 classes is 4 MB). */
#include <stdlib.h>
#include <string.h>

#include "crowd/folded.h"
#include "store/instances.h"
#include "util/error.h"
#include "util/size.h"
#include "work/judge/evaluate_int.h"

enum {
    PIECE_ROWS = 1024,
    PIECE_LABELS = 4096,
    PIECE_FLOATS = 1 << 22 /* of confusion matrices: 16 MiB */
};

struct pieces {
    struct pieces_of of;
    struct piece piece;
    size_t max_labels;
    size_t next_row, next_label; /* not yet given */
    uint32_t *annotator;         /* [max_labels] the model's numbers */
    int *fold;                   /* [PIECE_ROWS] */
};

struct part part_of(const struct training_set *set, enum split split)
{
    struct part part = {.n_features = set->n_features, .n_classes = set->n_classes};

    if (split == SPLIT_TRAIN) {
        part.features = set->features;
        part.gold = set->instance_gold;
        part.n = set->n_instances;
        part.label_row = set->label_instance;
        part.label_annotator = set->label_annotator;
        part.label_class = set->label_class;
        part.n_labels = set->n_labels;
        return part;
    }
    part.features = set->held_features;
    part.gold = set->held_gold;
    part.label_row = set->held_label_held;
    part.label_annotator = set->held_label_annotator;
    part.label_class = set->held_label_class;
    /* Held instances are sorted by split. */
    while (part.first < set->n_held && set->held_split[part.first] < (int8_t)split)
        part.first++;
    part.n = part.first;
    while (part.n < set->n_held && set->held_split[part.n] == (int8_t)split)
        part.n++;
    while (part.first_label < set->n_held_labels && part.label_row[part.first_label] < part.first)
        part.first_label++;
    part.n_labels = part.first_label;
    while (part.n_labels < set->n_held_labels && part.label_row[part.n_labels] < part.n)
        part.n_labels++;
    return part;
}

static float *floats(bool wanted, size_t n, size_t width)
{
    size_t bytes;

    if (!wanted || !size_mul(&bytes, n, width) || !size_mul(&bytes, bytes, sizeof(float)))
        return NULL;
    return malloc(bytes > 0 ? bytes : 1);
}

enum amx_status pieces_new(const struct pieces_of *of, struct pieces **out, struct amx_error *err)
{
    const size_t C = of->part->n_classes, most = PIECE_FLOATS / (C * C);
    struct pieces *p = calloc(1, sizeof *p);
    size_t n;

    if (p == NULL)
        return error_set(err, AMX_NO_MEMORY, "Out of memory.");
    p->of = *of;
    p->next_row = of->part->first;
    p->next_label = of->part->first_label;
    n = p->max_labels = most < 1 ? 1 : most > PIECE_LABELS ? PIECE_LABELS : most;
    p->annotator = calloc(n, sizeof *p->annotator);
    p->fold = calloc(PIECE_ROWS, sizeof *p->fold);
    p->piece.pair_row = calloc(n, sizeof *p->piece.pair_row);
    p->piece.p_class = floats(true, PIECE_ROWS, C);
    p->piece.p_perf = floats(of->wanted & PIECE_PERF, n, 1);
    p->piece.p_annotation = floats(of->wanted & PIECE_ANNOTATION, n, C);
    p->piece.p_confusion = floats(of->wanted & PIECE_CONFUSION, n, C * C);
    if (p->annotator == NULL || p->fold == NULL || p->piece.pair_row == NULL || p->piece.p_class == NULL ||
        ((of->wanted & PIECE_PERF) != 0) != (p->piece.p_perf != NULL) ||
        ((of->wanted & PIECE_ANNOTATION) != 0) != (p->piece.p_annotation != NULL) ||
        ((of->wanted & PIECE_CONFUSION) != 0) != (p->piece.p_confusion != NULL)) {
        pieces_free(p);
        return error_set(err, AMX_NO_MEMORY, "Out of memory.");
    }
    *out = p;
    return AMX_OK;
}

void pieces_free(struct pieces *p)
{
    if (p == NULL)
        return;
    free(p->piece.p_confusion);
    free(p->piece.p_annotation);
    free(p->piece.p_perf);
    free(p->piece.p_class);
    free(p->piece.pair_row);
    free(p->fold);
    free(p->annotator);
    free(p);
}

/* Which rows and labels come next. The last row is left open when its labels did not all fit. */
static void choose(struct pieces *p)
{
    const struct part *part = p->of.part;
    struct piece *piece = &p->piece;
    size_t row = p->next_row, label = p->next_label;
    bool open = false;

    piece->row = row;
    piece->label = label;
    while (row < part->n && row - piece->row < PIECE_ROWS && !open) {
        while (label < part->n_labels && part->label_row[label] == row && label - piece->label < p->max_labels) {
            uint32_t annotator = part->label_annotator[label];

            piece->pair_row[label - piece->label] = (uint32_t)(row - piece->row);
            p->annotator[label - piece->label] =
                annotator == AMX_UNSEEN || p->of.annotator_of == NULL ? annotator : p->of.annotator_of[annotator];
            label++;
        }
        p->fold[row - piece->row] = p->of.fold_of_row != NULL ? (int)p->of.fold_of_row[row] : AMX_NO_FOLD;
        open = label < part->n_labels && part->label_row[label] == row;
        row++;
    }
    piece->n_rows = row - piece->row;
    piece->n_labels = label - piece->label;
    p->next_label = label;
    p->next_row = open ? row - 1 : row;
}

enum amx_status pieces_next(struct pieces *p, const struct piece **out, struct amx_error *err)
{
    struct piece *piece = &p->piece;
    const struct amx_pairs_prediction wanted = {piece->p_class, piece->p_perf, piece->p_annotation, piece->p_confusion};
    size_t last = piece->row + piece->n_rows;
    enum amx_status status;

    if (p->next_row >= p->of.part->n) {
        *out = NULL;
        return AMX_OK;
    }
    piece->continues = piece->n_rows > 0 && p->next_row == last - 1;
    choose(p);
    status = folded_predict_pairs(p->of.model, p->fold, p->of.part->features + piece->row * p->of.part->n_features,
                                  piece->n_rows, piece->pair_row, p->annotator, piece->n_labels, &wanted, err);
    if (status == AMX_OK)
        *out = piece;
    return status;
}
