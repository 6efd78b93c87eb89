/* face_off_int.h - what the files of a face-off share: fits and their figures (face_off.c), table (face_off_table.c).
 */
#ifndef WORK_FACE_OFF_FACE_OFF_INT_H
#define WORK_FACE_OFF_FACE_OFF_INT_H

#include "crowd/risks.h"
#include "work/face_off/face_off.h"
#include "work/runs/run_request.h"

/* Figures of one fit; NaN: not measured. */
enum face_off_figure {
    FIGURE_ACCURACY,
    FIGURE_BALANCED_ACCURACY,
    FIGURE_LOG_LOSS,
    FIGURE_BRIER,
    FIGURE_CALIBRATION_ERROR,
    FIGURE_ANNOTATOR_AUROC, /* "is this label right?", where labels of the split are there */
    FIGURE_HELD_OUT,        /* mean log-likelihood of held-out labels */
    FIGURE_RISK_RANK,       /* mean rank over the risks, among the methods of this repeat */
    N_FIGURES
};

struct face_off_fit {
    enum amx_status status;
    char error[200];
    double seconds;
    double figures[N_FIGURES];
    double risks[RISKS];
};

struct face_off_row {
    const char *method, *title; /* static */
    bool needs_gold;            /* outside the ranking */
    struct run_request request; /* method and settings */
    struct face_off_fit *fits;  /* [repeat] */
    size_t n_failed;
    double mean[N_FIGURES], deviation[N_FIGURES]; /* over the fits that did not fail */
    double seconds;                               /* mean */
    double rank;                                  /* NaN: outside the ranking or failed */
    double order;                                 /* smaller is better; failed rows last */
};

struct face_off_consensus {
    const char *method, *title;
    enum amx_status status;
    char error[200];
    double accuracy, seconds;
};

struct face_off_result {
    const struct face_off *face_off;
    const struct training_data *data;
    bool by_gold;     /* basis */
    enum split split; /* of the gold */
    size_t n_gold;
    int folds; /* as done */
    struct face_off_row *rows;
    size_t n_rows;
    struct face_off_consensus *consensus;
    size_t n_consensus, n_train_gold;
    double seconds;
};

/* Ranks of the risks within each repeat, means, deviations, ranks, order. AMX_NO_MEMORY. */
AMX_CHECK enum amx_status face_off_rank(struct face_off_result *result, struct amx_error *err);
json_t *face_off_json(const struct face_off_result *result); /* NULL when memory is out */
/* Label-only methods on the training labels against the gold of train; fills consensus. Reads cancel between methods.
 */
AMX_CHECK enum amx_status face_off_consensus(struct face_off_result *result, const volatile int *cancel,
                                             struct amx_error *err);

#endif
