/* aggregate.h - the label-only methods: true classes from the labels alone, one table and one entry point.
 *
 * Results follow crowd-kit 1.4.2 with its defaults (what differs, and why, stands at the head of each method's file).
 * Before a method runs, classes nobody ever gave (and no gold label or history names), instances without labels and
 * annotators without labels are left out: they cost nothing and never change the answer for the others. Afterwards an
 * instance without labels gets the class shares the method found over the labelled instances, an unseen class 0, an
 * annotator without labels the reliability NaN. Every row of the posterior sums to 1. Ties go to the lowest class. */
#ifndef CROWD_AGGREGATE_AGGREGATE_H
#define CROWD_AGGREGATE_AGGREGATE_H

#include <stdbool.h>

#include "annotmix.h"
#include "crowd/labels.h"

/* One row of the table. All strings static. */
struct aggregate_method {
    const char *name;   /* "dawid_skene" */
    const char *title;  /* "Dawid-Skene" */
    const char *source; /* authors, venue, year */
    const char *help;   /* one sentence */
    bool uses_gold;     /* gold labels fix posteriors while it runs */
    bool uses_history;  /* confusion counts of earlier work count as more labels of the annotator */
    bool two_classes;   /* refuses labels of more than two different classes: AMX_INVALID */
    int rounds;         /* default number of rounds; 0: it has none */
    double tolerance;   /* default; 0: it has none */
};
/* The table, *n rows: majority_vote, wawa, zero_based_skill, dawid_skene, one_coin_dawid_skene, glad, mace, kos,
 * m_msr. */
const struct aggregate_method *aggregate_methods(size_t *n);
/* NULL for an unknown name. */
const struct aggregate_method *aggregate_find(const char *name);

/* All zero = the method's defaults. Everything is borrowed for the call. */
struct aggregate_options {
    const int32_t *gold;         /* [N] certain class or -1; NULL = none. Ignored unless the method uses_gold */
    const float *history;        /* [A][C][C] counts, rows = true class; NULL = none. Ignored unless uses_history */
    int rounds;                  /* at most so many; 0 = the method's default */
    double tolerance;            /* 0 = the method's default */
    uint64_t seed;               /* of mace, kos, m_msr; the same seed gives the same answer */
    const volatile int *cancel;  /* read (atomically) before every round; non-zero: AMX_CANCELLED. NULL = never */
    void (*progress)(double fraction, void *context); /* at most once a round; NULL = none */
    void *context;
};

struct aggregate_report {
    int rounds;     /* rounds run; of mace: of all its restarts */
    bool converged; /* ended by the tolerance, not by the number of rounds; true for methods without rounds */
};

/* posterior [N][C] probability of each true class (of weighted votes: their shares). reliability [A], may be NULL: the
 * method's own figure of how often the annotator is right, 0..1, or NaN without labels. report may be NULL.
 * AMX_NOT_FOUND (unknown method), AMX_INVALID, AMX_TOO_LARGE (with the reason), AMX_CANCELLED, AMX_NO_MEMORY. No labels
 * at all is no failure. Out arrays are undefined after one. */
AMX_CHECK enum amx_status aggregate(const struct crowd_labels *labels, const char *method,
                                    const struct aggregate_options *options, double *posterior, double *reliability,
                                    struct aggregate_report *report, struct amx_error *err);

/* winner [N]: class of the greatest probability, the lowest on ties. */
void aggregate_winners(const double *posterior, size_t n_instances, size_t n_classes, uint32_t *winner);

#endif
