/* face_off.h - every method on the same data: one table, best first. For `annotmixd faceoff` and for runs of the server
 * whose method is "face_off" (face_off_request.h, face_off_run.c).
 *
 * What is compared (basis):
 * - gold: accuracy on the gold labels of split test, else of valid. Repeat r trains on all labels with seed S + r.
 * - crowd: without such gold, by labels held out in folds: each label is predicted by a model that saw no label of its
 *   instance. Two figures: the mean log-likelihood of the held-out labels, and the mean rank over the seven risks of
 *   crowd/risks.h. The methods are ranked by each (a repeat's average), and sorted by the mean of both ranks; equal
 *   ones by likelihood.
 * With folds asked for, the table of basis gold has the figures of the crowd too.
 *
 * A method that cannot be trained (diverges, needs gold or memory that is not there) is a row "failed" with the reason;
 * the others go on. Methods that train on gold stand outside the ranking: an upper bound, not a rival. Where train
 * instances have gold, the label-only methods follow in a section of their own: consensus of train, not a class
 * model. */
#ifndef WORK_FACE_OFF_FACE_OFF_H
#define WORK_FACE_OFF_FACE_OFF_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "annotmix.h"
#include "util/buf.h"
#include "work/runs/run_memory.h"
#include "work/runs/training_data.h"

enum {
    FACE_OFF_MAX_METHODS = 32,
    FACE_OFF_MAX_REPEAT = 100,
    FACE_OFF_FOLDS = 5 /* of basis crowd, when none are given */
};

struct face_off {
    const char *methods[FACE_OFF_MAX_METHODS]; /* static names of amx_methods(), distinct; n_methods = 0: all of them */
    size_t n_methods;
    int repeat;    /* 1..FACE_OFF_MAX_REPEAT */
    uint64_t seed; /* of the first repeat */
    int folds;     /* 0, or 2..20 */
};

struct face_off_progress {
    size_t done, fits;  /* fits that have ended, of how many */
    const char *method; /* of the fit that tells; static */
    double fraction;    /* of everything, 0..1 */
};

struct face_off_options {
    int threads;            /* >= 1; fits side by side; changes nothing but the seconds */
    const char *const *set; /* "KEY=VALUE", for every method that reads KEY */
    size_t n_set;
    void (*progress)(const struct face_off_progress *progress, void *context); /* never two at once; may be NULL */
    void *context;
    const volatile int *cancel; /* read atomically; non-zero stops within a batch with AMX_CANCELLED. NULL = never */
};

/* The table as JSON (api/openapi.yaml: FaceOffTable). data has been checked (training_data_check). AMX_INVALID: a --set
 * that no method reads, or that is out of range. AMX_CANCELLED, AMX_NO_MEMORY. Caller decrefs *out. */
AMX_CHECK enum amx_status face_off_do(const struct face_off *face_off, const struct training_data *data,
                                      const struct face_off_options *options, json_t **out, struct amx_error *err);
/* Most bytes that the fits hold at the same time; SIZE_MAX when it does not fit. */
size_t face_off_memory(const struct face_off *face_off, const struct training_data *data, int threads);
/* The same of a request that is not queued yet (work/runs/run_memory.h): a fit at a time. */
run_memory_least face_off_least_memory;
size_t face_off_fits(const struct face_off *face_off, const struct training_data *data);

/* ---- the table as text; from the JSON, so that a stored table reads the same ------------------------------------- */

/* One line per row, section "method" or "consensus", figures with all digits; buf's status tells. */
enum amx_status face_off_csv(const json_t *table, struct buf *out);
/* Two tables, accuracies in per cent. */
enum amx_status face_off_markdown(const json_t *table, struct buf *out);
/* The same for a terminal. */
enum amx_status face_off_text(const json_t *table, struct buf *out);

#endif
