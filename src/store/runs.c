/* runs.c - the durable queue of training runs.
 *
 * A run is claimed by making it running under a lease, in a write job like any other; that is the whole of the locking,
 * so several processes could share one queue later. Fairness: the project whose last claim is longest ago comes first,
 * and no project has two runs at once. Ended runs are counted in run_totals when they end, so that nobody counts rows
 * for a metric.
 */
#include "store/runs.h"

#include <stdlib.h>

#include "store/changes_int.h"
#include "util/error.h"

static const char NO_RUN[] = "there is no such training run";

const char *run_state_name(enum run_state state)
{
    switch (state) {
    case RUN_QUEUED:
        return "queued";
    case RUN_RUNNING:
        return "running";
    case RUN_SUCCEEDED:
        return "succeeded";
    case RUN_FAILED:
        return "failed";
    case RUN_CANCELLED:
        return "cancelled";
    case RUN_STATES:
        break;
    }
    return "";
}

/* ---- insert ---- */

static const char TAKE_NUMBER[] =
    "UPDATE projects SET next_run = next_run + 1 WHERE id = ?1 AND gone = 0 RETURNING next_run - 1, label_seq";
static const char INSERT_RUN[] =
    "INSERT INTO runs (project_id, number, state, method, seed, ensemble, folds, gold_use, activate, settings, by_rule,"
    " queued_at, queued_seq) VALUES (?1, ?2, 0, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12) RETURNING id";

/* Parameters 3 to 9. */
static void bind_spec(struct db_stmt *s, const struct run_spec *spec)
{
    db_bind_text(s, 3, spec->method);
    db_bind_int(s, 4, spec->seed);
    db_bind_int(s, 5, spec->ensemble);
    db_bind_int(s, 6, spec->folds);
    db_bind_text(s, 7, spec->gold_use);
    db_bind_text(s, 8, spec->activate);
    db_bind_text(s, 9, spec->settings);
}

enum amx_status runs_insert(struct db *db, int64_t project_id, const struct run_spec *spec, bool by_rule,
                            int64_t now_ms, int64_t *number, int64_t *id, struct amx_error *err)
{
    DB_STMT(take);
    DB_STMT(s);
    enum amx_status status = db_use(db, TAKE_NUMBER, &take, err);

    if (status != AMX_OK)
        return status;
    db_bind_int(take, 1, project_id);
    status = db_one(take, "there is no such project", err);
    if (status != AMX_OK)
        return status;
    int64_t new_number = db_int(take, 0), label_seq = db_int(take, 1);
    db_reset(take);
    status = db_use(db, INSERT_RUN, &s, err);
    if (status != AMX_OK)
        return status;
    db_bind_int(s, 1, project_id);
    db_bind_int(s, 2, new_number);
    bind_spec(s, spec);
    db_bind_int(s, 10, by_rule);
    db_bind_int(s, 11, now_ms);
    db_bind_int(s, 12, label_seq);
    status = db_one(s, NULL, err);
    if (status == AMX_OK) {
        *id = db_int(s, 0);
        *number = new_number;
    }
    return status;
}

/* ---- reading ---- */

#define RUN_COLUMNS                                                                                                    \
    "r.id, r.project_id, r.number, r.state, r.method, r.seed, r.ensemble, r.folds, r.gold_use, r.activate, "           \
    "r.settings,"                                                                                                      \
    " r.queued_at, r.started_at, r.finished_at, r.attempts, r.cancel_requested, r.label_seq, r.labels_used,"           \
    " r.instances_used, r.model_number, r.activated, r.metrics, r.loss_curve, r.error, r.by_rule"

static int64_t int_or(struct db_stmt *s, int column, int64_t otherwise)
{
    return db_is_null(s, column) ? otherwise : db_int(s, column);
}

static void read_row(struct db_stmt *s, struct run_row *out)
{
    *out = (struct run_row){.id = db_int(s, 0),
                            .project_id = db_int(s, 1),
                            .number = db_int(s, 2),
                            .state = (enum run_state)db_int(s, 3),
                            .spec = {.method = db_text(s, 4),
                                     .seed = db_int(s, 5),
                                     .ensemble = (int)db_int(s, 6),
                                     .folds = (int)db_int(s, 7),
                                     .gold_use = db_text(s, 8),
                                     .activate = db_text(s, 9),
                                     .settings = db_text(s, 10)},
                            .queued_ms = db_int(s, 11),
                            .started_ms = db_int(s, 12),
                            .finished_ms = db_int(s, 13),
                            .attempts = (int)db_int(s, 14),
                            .cancel_requested = db_int(s, 15) != 0,
                            .label_seq = int_or(s, 16, -1),
                            .labels_used = int_or(s, 17, -1),
                            .instances_used = int_or(s, 18, -1),
                            .model_number = db_int(s, 19),
                            .activated = (int)int_or(s, 20, -1),
                            .metrics = db_text(s, 21),
                            .loss_curve = db_text(s, 22),
                            .error = db_text(s, 23),
                            .by_rule = db_int(s, 24) != 0};
}

void run_row_done(struct run_row *row)
{
    free(row->memory);
    *row = (struct run_row){.id = 0};
}

static enum amx_status own_row(struct run_row *row, struct amx_error *err)
{
    struct slice *texts[] = {&row->spec.method, &row->spec.gold_use, &row->spec.activate, &row->spec.settings,
                             &row->metrics,     &row->loss_curve,    &row->error};
    return rows_own(texts, sizeof(texts) / sizeof(texts[0]), &row->memory, err);
}

/* The parameters are bound. */
static enum amx_status get(struct db_stmt *s, struct run_row *out, struct amx_error *err)
{
    struct run_row row;
    enum amx_status status = db_one(s, NO_RUN, err);

    if (status != AMX_OK)
        return status;
    read_row(s, &row);
    status = own_row(&row, err);
    if (status == AMX_OK)
        *out = row;
    return status;
}

static const char SELECT_EQUAL[] =
    "SELECT " RUN_COLUMNS " FROM runs r WHERE r.project_id = ?1 AND r.state = 0 AND r.state <= 1 AND r.method = ?3"
    " AND r.seed = ?4 AND r.ensemble = ?5 AND r.folds = ?6 AND r.gold_use = ?7 AND r.activate = ?8 AND r.settings = ?9"
    " AND r.cancel_requested = 0 ORDER BY r.id LIMIT 1";

enum amx_status runs_find_equal(struct db *db, int64_t project_id, const struct run_spec *spec, struct run_row *out,
                                struct amx_error *err)
{
    DB_STMT(s);
    enum amx_status status = db_use(db, SELECT_EQUAL, &s, err);

    if (status != AMX_OK)
        return status;
    db_bind_int(s, 1, project_id);
    bind_spec(s, spec);
    return get(s, out, err);
}

static const char SELECT_BY_NUMBER[] = "SELECT " RUN_COLUMNS " FROM runs r WHERE r.project_id = ?1 AND r.number = ?2";
static const char SELECT_BY_ID[] = "SELECT " RUN_COLUMNS " FROM runs r WHERE r.id = ?1";

enum amx_status runs_get(struct db *db, int64_t project_id, int64_t number, struct run_row *out, struct amx_error *err)
{
    DB_STMT(s);
    enum amx_status status = db_use(db, SELECT_BY_NUMBER, &s, err);

    if (status != AMX_OK)
        return status;
    db_bind_int(s, 1, project_id);
    db_bind_int(s, 2, number);
    return get(s, out, err);
}

enum amx_status runs_get_id(struct db *db, int64_t id, struct run_row *out, struct amx_error *err)
{
    DB_STMT(s);
    enum amx_status status = db_use(db, SELECT_BY_ID, &s, err);

    if (status != AMX_OK)
        return status;
    db_bind_int(s, 1, id);
    return get(s, out, err);
}

static const char SELECT_PAGE[] =
    "SELECT " RUN_COLUMNS " FROM runs r WHERE r.project_id = ?1 AND r.number < ?2 ORDER BY r.number DESC LIMIT ?3";

enum amx_status runs_list(struct db *db, int64_t project_id, int64_t before, size_t limit, runs_fn *fn, void *context,
                          bool *more, struct amx_error *err)
{
    DB_STMT(s);
    struct run_row row;
    enum db_step step = DB_ROW;
    enum amx_status status = db_use(db, SELECT_PAGE, &s, err);

    if (status != AMX_OK)
        return status;
    db_bind_int(s, 1, project_id);
    db_bind_int(s, 2, before > 0 ? before : INT64_MAX);
    db_bind_int(s, 3, (int64_t)limit + 1);
    for (size_t n = 0; status == AMX_OK; n++) {
        status = db_step(s, &step, err);
        if (status != AMX_OK || step == DB_DONE || n == limit)
            break;
        read_row(s, &row);
        status = fn(context, &row);
    }
    if (status == AMX_OK)
        *more = step == DB_ROW;
    return status;
}

/* A face-off compares methods and leaves no model behind: labels it has seen are still to be trained on. */
static const char SELECT_LAST_SEQ[] = "SELECT coalesce(label_seq, queued_seq) FROM runs WHERE project_id = ?1 AND "
                                      "state <= 2 AND method <> 'face_off' ORDER BY number DESC LIMIT 1";

enum amx_status runs_last_seq(struct db *db, int64_t project_id, int64_t *label_seq, struct amx_error *err)
{
    DB_STMT(s);
    enum db_step step = DB_DONE;
    enum amx_status status = db_use(db, SELECT_LAST_SEQ, &s, err);

    if (status != AMX_OK)
        return status;
    db_bind_int(s, 1, project_id);
    status = db_step(s, &step, err);
    if (status == AMX_OK)
        *label_seq = step == DB_ROW ? db_int(s, 0) : 0;
    return status;
}

/* ---- claim ---- */

static const char SELECT_NEXT[] =
    "SELECT r.id, r.project_id FROM runs r JOIN projects p ON p.id = r.project_id AND p.gone = 0"
    " WHERE r.state = 0 AND NOT EXISTS"
    " (SELECT 1 FROM runs o WHERE o.state = 1 AND o.project_id = r.project_id)"
    " ORDER BY p.last_claim, r.id LIMIT 1";
/* A claim's rank, not its time: clocks jump, and many claims fall into one millisecond. */
static const char TURN_TAKEN[] =
    "UPDATE projects SET last_claim = (SELECT coalesce(max(last_claim), 0) + 1 FROM projects) WHERE id = ?1";
static const char CLAIM[] =
    "UPDATE runs SET state = 1, attempts = attempts + 1, claimed_by = ?2, lease_until = ?3, started_at = ?4"
    " WHERE id = ?1 AND state = 0";

enum amx_status runs_claim(struct db *db, struct slice claimed_by, int64_t now_ms, int64_t lease_ms,
                           struct run_row *out, struct amx_error *err)
{
    DB_STMT(next);
    DB_STMT(turn);
    DB_STMT(claim);
    enum amx_status status = db_use(db, SELECT_NEXT, &next, err);

    if (status == AMX_OK)
        status = db_one(next, "no training run is queued", err);
    if (status != AMX_OK)
        return status;
    int64_t id = db_int(next, 0), project_id = db_int(next, 1);
    db_reset(next);
    status = db_use(db, TURN_TAKEN, &turn, err);
    if (status == AMX_OK) {
        db_bind_int(turn, 1, project_id);
        status = db_run(turn, err);
    }
    if (status == AMX_OK)
        status = db_use(db, CLAIM, &claim, err);
    if (status != AMX_OK)
        return status;
    db_bind_int(claim, 1, id);
    db_bind_text(claim, 2, claimed_by);
    db_bind_int(claim, 3, now_ms + lease_ms);
    db_bind_int(claim, 4, now_ms);
    status = db_run(claim, err);
    return status == AMX_OK ? runs_get_id(db, id, out, err) : status;
}

/* ?1 id, ?2 a number. The run must be running. */
static enum amx_status change_running(struct db *db, const char *sql, int64_t id, int64_t value, struct amx_error *err)
{
    DB_STMT(s);
    enum amx_status status = db_use(db, sql, &s, err);

    if (status != AMX_OK)
        return status;
    db_bind_int(s, 1, id);
    db_bind_int(s, 2, value);
    status = db_run(s, err);
    if (status == AMX_OK && db_changed(db) == 0)
        return error_set(err, AMX_CONFLICT, "the training run is not running");
    return status;
}

static const char RENEW_LEASE[] = "UPDATE runs SET lease_until = ?2 WHERE id = ?1 AND state = 1";
static const char REQUEUE[] =
    "UPDATE runs SET state = 0, attempts = attempts - ?2, claimed_by = NULL, lease_until = NULL, started_at = NULL"
    " WHERE id = ?1 AND state = 1";

enum amx_status runs_renew_lease(struct db *db, int64_t id, int64_t lease_until_ms, struct amx_error *err)
{
    return change_running(db, RENEW_LEASE, id, lease_until_ms, err);
}

enum amx_status runs_requeue(struct db *db, int64_t id, bool refund, struct amx_error *err)
{
    return change_running(db, REQUEUE, id, refund, err);
}

/* ---- ends ---- */

static const char COUNT_ENDED[] = "UPDATE run_totals SET n = n + ?2 WHERE state = ?1";

static enum amx_status count_ended(struct db *db, enum run_state state, int64_t n, struct amx_error *err)
{
    DB_STMT(s);
    enum amx_status status = db_use(db, COUNT_ENDED, &s, err);

    if (status != AMX_OK)
        return status;
    db_bind_int(s, 1, state);
    db_bind_int(s, 2, n);
    return db_run(s, err);
}

static const char RECOVER_CANCELLED[] =
    "UPDATE runs SET state = 4, finished_at = ?1 WHERE state = 1 AND state <= 1 AND cancel_requested = 1";
static const char RECOVER_FAILED[] =
    "UPDATE runs SET state = 3, finished_at = ?1, error = 'the server stopped while it ran, three times in a row'"
    " WHERE state = 1 AND state <= 1 AND attempts >= ?2";
static const char RECOVER_QUEUED[] = "UPDATE runs SET state = 0, claimed_by = NULL, lease_until = NULL, started_at = "
                                     "NULL WHERE state = 1 AND state <= 1";

static enum amx_status recover_one(struct db *db, const char *sql, int64_t now_ms, int64_t *n, struct amx_error *err)
{
    DB_STMT(s);
    enum amx_status status = db_use(db, sql, &s, err);

    if (status != AMX_OK)
        return status;
    if (sql != RECOVER_QUEUED)
        db_bind_int(s, 1, now_ms);
    if (sql == RECOVER_FAILED)
        db_bind_int(s, 2, RUN_MAX_ATTEMPTS);
    status = db_run(s, err);
    *n = db_changed(db);
    return status;
}

enum amx_status runs_recover(struct db *db, int64_t now_ms, int64_t *n_requeued, int64_t *n_failed,
                             struct amx_error *err)
{
    int64_t cancelled = 0, failed = 0, queued = 0;
    enum amx_status status = recover_one(db, RECOVER_CANCELLED, now_ms, &cancelled, err);

    if (status == AMX_OK)
        status = recover_one(db, RECOVER_FAILED, now_ms, &failed, err);
    if (status == AMX_OK)
        status = recover_one(db, RECOVER_QUEUED, now_ms, &queued, err);
    if (status == AMX_OK)
        status = count_ended(db, RUN_CANCELLED, cancelled, err);
    if (status == AMX_OK)
        status = count_ended(db, RUN_FAILED, failed, err);
    if (status == AMX_OK) {
        *n_requeued = queued;
        *n_failed = failed;
    }
    return status;
}

static const char SELECT_STATE[] = "SELECT id, state FROM runs WHERE project_id = ?1 AND number = ?2";
static const char CANCEL_QUEUED[] =
    "UPDATE runs SET state = 4, cancel_requested = 1, finished_at = ?2 WHERE id = ?1 AND state = 0";
static const char CANCEL_RUNNING[] = "UPDATE runs SET cancel_requested = 1 WHERE id = ?1 AND state = 1";

static enum amx_status cancel(struct db *db, int64_t id, bool queued, int64_t now_ms, struct amx_error *err)
{
    DB_STMT(s);
    enum amx_status status = db_use(db, queued ? CANCEL_QUEUED : CANCEL_RUNNING, &s, err);

    if (status != AMX_OK)
        return status;
    db_bind_int(s, 1, id);
    if (queued)
        db_bind_int(s, 2, now_ms);
    status = db_run(s, err);
    return status == AMX_OK && queued ? count_ended(db, RUN_CANCELLED, 1, err) : status;
}

enum amx_status runs_cancel(struct db *db, int64_t project_id, int64_t number, int64_t now_ms, enum run_state *state,
                            struct amx_error *err)
{
    DB_STMT(s);
    enum amx_status status = db_use(db, SELECT_STATE, &s, err);

    if (status != AMX_OK)
        return status;
    db_bind_int(s, 1, project_id);
    db_bind_int(s, 2, number);
    status = db_one(s, NO_RUN, err);
    if (status != AMX_OK)
        return status;
    int64_t id = db_int(s, 0);
    enum run_state found = (enum run_state)db_int(s, 1);
    db_reset(s);
    if (found == RUN_QUEUED || found == RUN_RUNNING)
        status = cancel(db, id, found == RUN_QUEUED, now_ms, err);
    if (status == AMX_OK)
        *state = found;
    return status;
}

static const char FINISH[] =
    "UPDATE runs SET state = ?2, finished_at = ?3, label_seq = coalesce(?4, label_seq),"
    " labels_used = coalesce(?5, labels_used), instances_used = coalesce(?6, instances_used), model_number = ?7,"
    " activated = ?8, metrics = ?9, loss_curve = ?10, error = ?11, claimed_by = NULL, lease_until = NULL"
    " WHERE id = ?1 AND state = 1";

/* Leaves the parameter NULL when the value is the one that means "none". */
static void bind_unless(struct db_stmt *s, int index, int64_t value, int64_t none)
{
    if (value != none)
        db_bind_int(s, index, value);
}

enum amx_status runs_finish(struct db *db, int64_t id, const struct run_end *end, struct amx_error *err)
{
    DB_STMT(s);
    enum amx_status status = db_use(db, FINISH, &s, err);

    if (status != AMX_OK)
        return status;
    db_bind_int(s, 1, id);
    db_bind_int(s, 2, end->state);
    db_bind_int(s, 3, end->now_ms);
    bind_unless(s, 4, end->label_seq, -1);
    bind_unless(s, 5, end->labels_used, -1);
    bind_unless(s, 6, end->instances_used, -1);
    bind_unless(s, 7, end->model_number, 0);
    bind_unless(s, 8, end->activated, -1);
    db_bind_text(s, 9, end->metrics);
    db_bind_text(s, 10, end->loss_curve);
    db_bind_text(s, 11, end->error);
    status = db_run(s, err);
    if (status == AMX_OK && db_changed(db) == 0)
        return error_set(err, AMX_CONFLICT, "the training run is not running");
    return status == AMX_OK ? count_ended(db, end->state, 1, err) : status;
}

static const char SET_DATA[] =
    "UPDATE runs SET label_seq = ?2, labels_used = ?3, instances_used = ?4 WHERE id = ?1 AND state = 1";

enum amx_status runs_set_data(struct db *db, int64_t id, int64_t label_seq, int64_t labels_used, int64_t instances_used,
                              struct amx_error *err)
{
    DB_STMT(s);
    enum amx_status status = db_use(db, SET_DATA, &s, err);

    if (status != AMX_OK)
        return status;
    db_bind_int(s, 1, id);
    bind_unless(s, 2, label_seq, -1);
    bind_unless(s, 3, labels_used, -1);
    bind_unless(s, 4, instances_used, -1);
    status = db_run(s, err);
    if (status == AMX_OK && db_changed(db) == 0)
        return error_set(err, AMX_CONFLICT, "the training run is not running");
    return status;
}

/* ---- figures ---- */

static const char SELECT_COUNTS[] = "SELECT state, n FROM run_totals"
                                    " UNION ALL SELECT state, count(*) FROM runs WHERE state <= 1 GROUP BY state";

enum amx_status runs_counts(struct db *db, int64_t counts[RUN_STATES], struct amx_error *err)
{
    DB_STMT(s);
    enum db_step step = DB_ROW;
    int64_t n[RUN_STATES] = {0};
    enum amx_status status = db_use(db, SELECT_COUNTS, &s, err);

    while (status == AMX_OK && (status = db_step(s, &step, err)) == AMX_OK && step == DB_ROW) {
        if (db_int(s, 0) >= 0 && db_int(s, 0) < RUN_STATES)
            n[db_int(s, 0)] = db_int(s, 1);
    }
    for (int i = 0; status == AMX_OK && i < RUN_STATES; i++)
        counts[i] = n[i];
    return status;
}

enum amx_status runs_queue_length(struct db *db, int64_t *n, struct amx_error *err)
{
    int64_t counts[RUN_STATES];
    enum amx_status status = runs_counts(db, counts, err);

    if (status == AMX_OK)
        *n = counts[RUN_QUEUED];
    return status;
}
