/* fit.h - one fit in its parts: what members train on, the threads that train them, and the fits behind a prior. */
#ifndef LEARN_FIT_H
#define LEARN_FIT_H

#include <pthread.h>

#include "batch.h"
#include "method.h"
#include "model.h"
#include "workspace.h"

/* Rows that some members train on, and how an epoch of them is cut. */
struct row_set {
    const uint32_t *rows; /* [n_rows] into the training data, ascending; owned by the fit */
    size_t n_rows;
    struct batch_plan plan;
    float *posterior; /* [data.n_rows][C] of `prior: consensus`; NULL = none */
};

struct fit;

/* Tasks of one kind, which threads take in order. */
struct phase {
    const struct amx_method *method;
    const struct layout *layout;
    struct dims dims;
    int first; /* number of its first task in progress reports */
    int n;
    enum amx_status (*run)(struct fit *fit, struct workspace *workspace, int task);
    /* Guarded by the fit's mutex. */
    int next;
    int spare; /* threads beyond one per task that no task has as a helper */
};

struct fit {
    const struct amx_data *given;
    const struct amx_fit_options *options;
    const struct amx_method *method;
    struct amx_settings settings;
    struct train_data data;
    uint32_t *rows;        /* memory of all row sets */
    struct row_set *sets;  /* [1 + folds] everything, then everything but fold f */
    int n_sets, first_set; /* set 0 is not trained on when the ensemble doubles as folds */
    struct amx_model *model;
    int members, tasks; /* members of the model, and with the fits of the prior */
    struct phase *phase;
    double started;
    int stop; /* atomic: a task failed */
    pthread_mutex_t mutex;
    /* Guarded by mutex. */
    enum amx_status status; /* first failure */
    double *fraction;       /* [tasks] */
    double *loss;           /* [tasks] of the last finished epoch */
    double *curve;          /* [epochs][members] */
    double step_seconds;    /* in step loops, all members */
    double step_labels;
    double last_report;
};

/* One training from fresh parameters. */
struct training {
    const struct member_data *member;
    const struct batch_plan *plan;
    uint32_t stream; /* random streams of (seed, stream) */
    int task;        /* in progress reports; members of the model come first */
    float *compact;  /* out: trained tensors */
};

/* Trains in a workspace made for the phase. AMX_OK also when another task failed meanwhile. */
enum amx_status fit_train(struct fit *fit, struct workspace *workspace, const struct training *training);
/* Runs the phase's tasks on up to options->threads threads, with this one; false when one failed (fit->status). */
bool fit_run(struct fit *fit, struct phase *phase);

enum {
    CONSENSUS_FOLDS = 5 /* inner folds behind a consensus prior */
};

/* Whether members of this fit need a posterior from fits of annot_mix before them. */
bool consensus_prior_wanted(const struct amx_method *method, const struct amx_settings *settings);
/* Fits for it: one per inner fold and row set. */
int consensus_prior_tasks(const struct fit *fit);
/* Fills sets[].posterior; false when a task failed or memory ran out (fit->status). */
bool consensus_prior_run(struct fit *fit);
/* Bytes one thread needs for it; SIZE_MAX when they do not fit. */
size_t consensus_prior_thread_bytes(const struct dims *dims, const struct amx_settings *settings, size_t n_rows,
                                    size_t max_labels, size_t n_labels);

#endif
