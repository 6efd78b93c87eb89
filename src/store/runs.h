/* runs.h - training runs: a durable queue. Numbers count from 1 in each project; `id` is the row's, over all projects.
 */
#ifndef STORE_RUNS_H
#define STORE_RUNS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "annotmix.h"
#include "store/db.h"

enum run_state {
    RUN_QUEUED = 0,
    RUN_RUNNING = 1,
    RUN_SUCCEEDED = 2,
    RUN_FAILED = 3,
    RUN_CANCELLED = 4,
    RUN_STATES = 5
};
const char *run_state_name(enum run_state state); /* "queued"; static */
enum {
    RUN_MAX_ATTEMPTS = 3
};

/* What was asked; two queued runs of a project that are equal in all of it are one. */
struct run_spec {
    struct slice method, gold_use, activate;
    struct slice settings; /* JSON object, canonical (the caller's sorted compact form) */
    int64_t seed;
    int ensemble, folds;
};
/* Slices are followed by a 0 byte. Times: 0 = not yet. */
struct run_row {
    int64_t id, project_id, number;
    enum run_state state;
    struct run_spec spec;
    int64_t queued_ms, started_ms, finished_ms;
    int attempts;
    bool cancel_requested;
    int64_t label_seq;                   /* of the data it trained on; -1 = not known yet */
    int64_t labels_used, instances_used; /* -1 = not known yet */
    int64_t model_number;                /* 0 = none */
    int activated;                       /* -1 not known, 0, 1 */
    struct slice metrics;                /* JSON object; bytes NULL = none */
    struct slice loss_curve;             /* JSON array; bytes NULL = none */
    struct slice error;                  /* text; bytes NULL = none */
    bool by_rule;                        /* queued by the project's auto_train rule */
    void *memory;                        /* NULL when borrowed */
};
void run_row_done(struct run_row *row);

/* AMX_NOT_FOUND: no such project. */
AMX_CHECK enum amx_status runs_insert(struct db *db, int64_t project_id, const struct run_spec *spec, bool by_rule,
                                      int64_t now_ms, int64_t *number, int64_t *id, struct amx_error *err);
/* The queued run equal to spec; AMX_NOT_FOUND. */
AMX_CHECK enum amx_status runs_find_equal(struct db *db, int64_t project_id, const struct run_spec *spec,
                                          struct run_row *out, struct amx_error *err);
AMX_CHECK enum amx_status runs_get(struct db *db, int64_t project_id, int64_t number, struct run_row *out,
                                   struct amx_error *err);
AMX_CHECK enum amx_status runs_get_id(struct db *db, int64_t id, struct run_row *out, struct amx_error *err);
typedef enum amx_status runs_fn(void *context, const struct run_row *row);
/* Newest first: rows with number < before (INT64_MIN or 0 = from the newest). */
AMX_CHECK enum amx_status runs_list(struct db *db, int64_t project_id, int64_t before, size_t limit, runs_fn *fn,
                                    void *context, bool *more, struct amx_error *err);
/* Label_seq of the newest run that succeeded or is queued or running (queued: label_seq when it was queued); 0 = none.
 * For auto_train: how much has come since. */
AMX_CHECK enum amx_status runs_last_seq(struct db *db, int64_t project_id, int64_t *label_seq, struct amx_error *err);

/* The next queued run, made running: of the project whose last turn is longest ago, oldest first in it, and never a
 * second one of a project that has one running. AMX_NOT_FOUND: nothing to do. */
AMX_CHECK enum amx_status runs_claim(struct db *db, struct slice claimed_by, int64_t now_ms, int64_t lease_ms,
                                     struct run_row *out, struct amx_error *err);
AMX_CHECK enum amx_status runs_renew_lease(struct db *db, int64_t id, int64_t lease_until_ms, struct amx_error *err);
/* A running run back to queued (shutdown). refund: this try does not count. */
AMX_CHECK enum amx_status runs_requeue(struct db *db, int64_t id, bool refund, struct amx_error *err);
/* At start, before trainers: every running run is queued again; failed after RUN_MAX_ATTEMPTS; cancelled when asked to.
 */
AMX_CHECK enum amx_status runs_recover(struct db *db, int64_t now_ms, int64_t *n_requeued, int64_t *n_failed,
                                       struct amx_error *err);
/* Queued: becomes cancelled at once. Running: cancel_requested is set. *state: as it was found (RUN_CANCELLED or
 * another end: nothing changed). AMX_NOT_FOUND. */
AMX_CHECK enum amx_status runs_cancel(struct db *db, int64_t project_id, int64_t number, int64_t now_ms,
                                      enum run_state *state, struct amx_error *err);

struct run_end {
    enum run_state state;                           /* RUN_SUCCEEDED, RUN_FAILED or RUN_CANCELLED */
    int64_t label_seq, labels_used, instances_used; /* -1 = not known */
    int64_t model_number;                           /* 0 = none */
    int activated;                                  /* -1 not known, 0, 1 */
    struct slice metrics, loss_curve, error;        /* bytes NULL = none */
    int64_t now_ms;
};
/* AMX_CONFLICT when the run is not running. */
AMX_CHECK enum amx_status runs_finish(struct db *db, int64_t id, const struct run_end *end, struct amx_error *err);
/* What is known once the data was read; for GET while it runs. */
AMX_CHECK enum amx_status runs_set_data(struct db *db, int64_t id, int64_t label_seq, int64_t labels_used,
                                        int64_t instances_used, struct amx_error *err);

/* Over all projects; queued and running are exact and cheap, ended ones are kept as counters. */
AMX_CHECK enum amx_status runs_counts(struct db *db, int64_t counts[RUN_STATES], struct amx_error *err);
AMX_CHECK enum amx_status runs_queue_length(struct db *db, int64_t *n, struct amx_error *err);

#endif
