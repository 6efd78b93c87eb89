/* aggregate_int.h - what the label-only methods of this room share. Not for other rooms. */
#ifndef CROWD_AGGREGATE_AGGREGATE_INT_H
#define CROWD_AGGREGATE_AGGREGATE_INT_H

#include "aggregate.h"

/* What a method works on: as aggregate.h says, but everything left out that does not occur, and C >= 2. */
struct crowd_problem {
    struct crowd_labels labels;
    const int32_t *gold;  /* [N] or NULL; NULL for methods that do not use it */
    const float *history; /* [A][C][C] or NULL; likewise */
    int rounds;           /* limits; the method's defaults are filled in */
    double tolerance;
    uint64_t seed;
    const volatile int *cancel;
    void (*progress)(double fraction, void *context);
    void *context;

    /* results */
    double *posterior;   /* [N][C] */
    double *reliability; /* [A] */
    int rounds_run;
    bool converged; /* true at the start */
    struct amx_error *err;
};

/* To be called before every round: tells progress, and is true when the work is to stop with AMX_CANCELLED. */
bool problem_stop(const struct crowd_problem *p, double fraction);

enum amx_status votes_majority(struct crowd_problem *p);
enum amx_status votes_wawa(struct crowd_problem *p);
enum amx_status votes_zero_based_skill(struct crowd_problem *p);
enum amx_status dawid_skene_run(struct crowd_problem *p);
enum amx_status one_coin_run(struct crowd_problem *p);
enum amx_status glad_run(struct crowd_problem *p);
enum amx_status mace_run(struct crowd_problem *p);
enum amx_status kos_run(struct crowd_problem *p);
enum amx_status m_msr_run(struct crowd_problem *p);

/* Vote shares as posterior, gold fixed. */
void votes_share(struct crowd_problem *p);
/* reliability = mean posterior of the classes the annotator gave. */
enum amx_status votes_expected_right(struct crowd_problem *p);
/* Gold of instance i: its row becomes certain, and true. */
bool problem_fix_gold(const struct crowd_problem *p, size_t i);
/* scores [C], logarithms -> probabilities; returns the entropy of the row. */
double scores_to_posterior(double *scores, size_t n_classes);

/* Distinct (annotator, given class) pairs: the rows of confusion matrices that exist. */
struct given_rows {
    uint32_t *row_of;    /* [L] row of each label */
    uint32_t *begin;     /* [A+1] rows of each annotator */
    uint32_t *class_;    /* [n] given class of each row */
    size_t n;
};
/* history [A][C][C] (may be NULL) adds the classes an annotator gave there. AMX_NO_MEMORY. given_rows_done frees. */
AMX_CHECK enum amx_status given_rows_make(const struct crowd_labels *labels, const float *history,
                                          struct given_rows *out);
void given_rows_done(struct given_rows *rows);

/* What the first label-order streams of the generator are for (learn/rng.h numbers purposes of a fit below these). */
enum {
    RNG_MACE = 1000,
    RNG_KOS = 1001
};

#endif
