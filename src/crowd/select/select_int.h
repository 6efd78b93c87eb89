/* select_int.h - what the files of auto share: candidates (select_candidates.c), cross-validation of one
 * (select_judge.c), rungs and threads (select_search.c), and the whole (select.c). */
#ifndef CROWD_SELECT_SELECT_INT_H
#define CROWD_SELECT_SELECT_INT_H

#include <stdbool.h>

#include "select.h"
#include "sobol.h"

/* ---- select_candidates.c ---- */
struct select_source {
    const struct select_options *options;
    const char *const *methods;
    size_t n_methods, n_features, n_instances, n_classes;
    uint32_t shift[SOBOL_DIMS]; /* of every coordinate, from the seed */
};
void select_source_init(struct select_source *source, const struct amx_data *data,
                        const struct select_options *options);
/* How many are always among the candidates: they come first. */
size_t select_n_always(size_t n_methods);
/* Candidate `index`, not judged yet. A pure function of data sizes, options and index. */
void select_candidate_at(const struct select_source *source, size_t index, struct select_candidate *out);

/* What takes most memory of all that this method may be tried with. */
void select_largest(const struct select_source *source, size_t method, struct select_candidate *out);
/* Best first: later rungs, then smaller error on valid (if asked), smaller mean rank, smaller deviation. What failed
 * comes last. */
int select_compare(const struct select_candidate *a, const struct select_candidate *b);
/* order [n] = the candidates, best first, equal ones in order of their index. AMX_NO_MEMORY. */
enum amx_status select_sort(const struct select_candidate *candidates, size_t n, uint32_t *order);

/* ---- select_judge.c ---- */
#define SELECT_FIRST_SHARE 0.25 /* of its epochs that every candidate is trained for */

/* What every candidate is judged on. Read-only while candidates are judged. */
struct select_ground {
    const struct select_options *options;
    struct amx_data data; /* with the folds of the cross-validation */
    int folds;            /* SELECT_FOLDS, fewer with fewer labelled instances */
    uint32_t *fold;       /* [SELECT_SPLITS][N] */
    size_t *begin;        /* [N + 1] first label of each instance */
    struct risk_votes votes;
};
/* AMX_NOTHING and AMX_INVALID as amx_fit says it. select_ground_done frees, also after a failure. */
enum amx_status select_ground_init(struct select_ground *ground, const struct amx_data *data,
                                   const struct select_options *options, struct amx_error *err);
void select_ground_done(struct select_ground *ground);
/* How many cross-validations with all epochs one in this rung counts for, and what amx_fit is asked for. */
double select_rung_cost(const struct select_options *options, int rung);
void select_fit_options(const struct select_ground *ground, const struct select_candidate *candidate, int rung,
                        struct amx_fit_options *out);
/* Trains the members without each fold, on every split of the rung; fills in risks, valid_error, what it took. */
enum amx_status select_judge(const struct select_ground *ground, int rung, const struct amx_fit_options *fit,
                             struct select_candidate *candidate, struct amx_error *err);
int select_rung_splits(int rung);

/* ---- select_search.c ---- */
struct select_outcome {
    struct select_candidate *candidates; /* [n], best first; free() it */
    size_t n;
    int rung;
    double seconds;
};
/* The rungs. On success there is a best one, SELECT_FINISHED. */
enum amx_status select_search(const struct select_ground *ground, const struct select_source *source,
                              struct select_outcome *out, struct amx_error *err);
/* The part of the whole that the search is, for progress: 0..1. */
double select_search_part(const struct select_options *options);

#endif
