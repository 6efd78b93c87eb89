/* select.h - method "auto": chooses method and settings without gold labels, then fits the best.
 *
 * Candidates: every method in turn with settings from a Sobol sequence, after the published defaults of every method
 * and a linear model on Dawid-Skene labels, which are always among them. Each is judged by 5-fold cross-validation on
 * the crowd's labels alone: the seven risks of risks.h, ranked among the candidates; the smallest mean rank wins.
 *
 * Schedule (successive halving on epochs). Three rungs train with a quarter, a half and all of a candidate's epochs,
 * rounded up, each with a learning rate that falls to 0 within them. The fourth repeats the cross-validation on
 * SELECT_SPLITS other ways to deal out the folds, and if an ensemble is asked for, with SELECT_MEMBERS members without
 * each fold: a few hundred instances make one split a matter of luck, and what is best alone need not be best
 * together. The better half and the candidates that are always there take turns in going on to the next rung, until its
 * part of the budget is used up: an eighth, an eighth, a quarter, a half.
 * - budget_fits counts cross-validations with all epochs; one at a quarter of the epochs counts 1/4, one in the last
 *   rung as many as it has splits and members. Seed and budget_fits decide everything: the same choice at any number
 *   of threads, on any day (unless budget_seconds is given too, and is over first).
 * - budget_seconds: rung after rung until its share of the time is used up; how many candidates that are depends on the
 *   machine. Time ends the search, never the last fit.
 *
 * Gold labels are read in two cases only: data->gold of training instances if clamp_gold, and those of the valid part
 * if by_valid; the test part is not even known here. */
#ifndef CROWD_SELECT_SELECT_H
#define CROWD_SELECT_SELECT_H

#include "annotmix.h"
#include "crowd/risks.h"

enum {
    SELECT_FOLDS = 5,
    SELECT_RUNGS = 4,
    SELECT_SPLITS = 4,
    SELECT_MEMBERS = 2,
    SELECT_MAX_METHODS = 16,
    SELECT_MAX_CANDIDATES = 4096
};

struct select_progress {
    int rung;                       /* 0 .. SELECT_RUNGS - 1; SELECT_RUNGS: the last fit */
    size_t candidate, candidates;   /* finished in this rung, of how many (budget_seconds: as far as is known) */
    double fraction;                /* of search and last fit, 0..1, never falling */
    double eta_seconds;             /* estimate for all that is left */
    const char *method;             /* of the best so far, or of the last fit; NULL before the first candidate */
    const struct amx_progress *fit; /* of the last fit; NULL while searching */
};

struct select_options {
    uint64_t seed;
    int ensemble, folds; /* of the last fit; data->fold belongs to it */
    int threads;         /* >= 1; candidates are trained side by side */
    bool clamp_gold;
    struct amx_settings settings; /* what differs here from the published defaults is kept for every candidate */
    const char *methods[SELECT_MAX_METHODS]; /* n_methods = 0: select_default_methods() */
    size_t n_methods;
    double budget_seconds;       /* > 0, or 0 = no limit: then budget_fits is one */
    int64_t budget_fits;         /* 0 = by time */
    bool by_valid;               /* smallest error on the valid part wins; the crowd's mean rank decides ties */
    const float *valid_features; /* [n_valid][D] */
    const uint32_t *valid_gold;  /* [n_valid] < C */
    size_t n_valid;
    void (*progress)(const struct select_progress *progress, void *context); /* never two at once; NULL = none */
    void *context;
    const volatile int *cancel; /* as in amx_fit_options */
};

enum select_state {
    SELECT_FINISHED, /* judged in the last rung that was held */
    SELECT_DROPPED,  /* judged in an earlier rung, and others were better (or time was over) */
    SELECT_FAILED,   /* could not be trained: see error */
    SELECT_UNJUDGED  /* time was over before its first rung */
};
const char *select_state_name(enum select_state state); /* "finished"; static */

/* One row of the table. Ranks, score and deviation are among the candidates judged in its last rung. */
struct select_candidate {
    const char *method;           /* static */
    struct amx_settings settings; /* what a fit with all epochs has */
    bool always;                  /* published defaults, or the linear model */
    enum select_state state;
    int rung;                    /* the last it was judged in; -1 none */
    int epochs, splits, members; /* of that rung: ways to deal out folds, members without each fold */
    double risks[RISKS], ranks[RISKS];
    double score, deviation;      /* mean and deviation of the ranks */
    double valid_error;           /* NaN unless by_valid */
    double seconds, rung_seconds; /* of training and judging, in one thread: all rungs, the last one */
    char error[200];
};

struct select_result {
    struct select_candidate *candidates; /* [n_candidates] best first: the first one was chosen */
    size_t n_candidates;
    int rung; /* the last that was held */
    double search_seconds;
    struct amx_fit_report report; /* of the last fit; loss_curve is this result's */
};

/* The methods tried by default, *n of them, static. */
const char *const *select_default_methods(size_t *n);
/* The smallest budget_fits for that many methods: every one of the always-candidates must come through rung 0. */
int64_t select_min_fits(size_t n_methods);
/* Most bytes the search and the last fit hold besides the data; SIZE_MAX when it does not fit in size_t. */
size_t select_memory(const struct amx_data *data, const struct select_options *options);
/* Chooses and fits. AMX_INVALID: an option is wrong, or the budget is too small for one candidate (the text names the
 * smallest). A candidate that cannot be trained is listed as failed; if all fail, the first one's failure is the
 * answer, so that unusable data are refused as amx_fit refuses them. AMX_CANCELLED within one batch. On success the
 * caller frees *model with amx_model_free and *out with select_result_done. */
AMX_CHECK enum amx_status select_fit(const struct amx_data *data, const struct select_options *options,
                                     struct select_result *out, struct amx_model **model, struct amx_error *err);
void select_result_done(struct select_result *result);

#endif
