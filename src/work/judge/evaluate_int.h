/* evaluate_int.h - labelled rows, predicted piece by piece: what metrics, comparison and calibration share. */
#ifndef WORK_JUDGE_EVALUATE_INT_H
#define WORK_JUDGE_EVALUATE_INT_H

#include <math.h>

#include "work/judge/evaluate.h"

/* The logarithm of a probability, clipped at 1e-15 like log_loss. */
static inline double evaluate_log(float p)
{
    return log(fmin(fmax((double)p, 1e-15), 1));
}

/* The instances of one split, as positions in one of the two halves of a training_set. */
struct part {
    const float *features; /* [..][D] */
    const int32_t *gold;   /* class or -1; NULL = none may be looked at */
    size_t first, n;       /* rows [first, n) */
    const uint32_t *label_row, *label_annotator, *label_class;
    size_t first_label, n_labels; /* labels [first_label, n_labels), non-decreasing rows */
    size_t n_features, n_classes;
};
struct part part_of(const struct training_set *set, enum split split);

/* A piece: some rows one after another, and some labels one after another on them. A row whose labels do not fit is
 * continued in the next piece. */
struct piece {
    size_t row, n_rows;     /* rows [row, row + n_rows) of the part */
    size_t label, n_labels; /* labels [label, label + n_labels) */
    bool continues;         /* the first row was the last of the piece before */
    uint32_t *pair_row;     /* [n_labels] row of each label, from 0 */
    float *p_class;         /* [n_rows][C] */
    float *p_perf, *p_annotation, *p_confusion; /* [n_labels]..., NULL when not wanted */
};
enum {
    PIECE_PERF = 1,
    PIECE_ANNOTATION = 2,
    PIECE_CONFUSION = 4
};
struct pieces;
/* wanted: what of the labels beside p_class. annotator_of: [..] the model's number of each annotator of the part, or
 * NULL when they are the same. fold_of_row: [part.n] or NULL: AMX_NO_FOLD for all. Borrows everything. */
struct pieces_of {
    const struct amx_model *model;
    const struct part *part;
    unsigned wanted;
    const uint32_t *annotator_of;
    const uint32_t *fold_of_row;
};
AMX_CHECK enum amx_status pieces_new(const struct pieces_of *of, struct pieces **out, struct amx_error *err);
/* The next piece, valid until the next call; NULL at the end. */
AMX_CHECK enum amx_status pieces_next(struct pieces *pieces, const struct piece **out, struct amx_error *err);
void pieces_free(struct pieces *pieces);

#endif
