/* runs_json.c - see runs_json.h. What is in memory comes first: a running run's progress is nowhere else. */
#include "work/runs/runs_json.h"

#include <math.h>
#include <stdlib.h>

#include "util/clock.h"
#include "util/error.h"
#include "util/jsonx.h"
#include "work/face_off/face_off_request.h"
#include "work/runs/selection_json.h"
#include "work/runs/trainers.h"

static json_t *time_json(int64_t ms)
{
    char text[CLOCK_TEXT_BYTES];

    return ms > 0 ? json_string(clock_text(ms, text)) : json_null();
}

static json_t *count_json(int64_t n)
{
    return n >= 0 ? json_integer(n) : json_null();
}

/* Stored JSON text; `otherwise` (taken) when there is none. NULL when memory is out. */
static json_t *stored_json(struct slice text, json_t *otherwise)
{
    json_t *json = NULL;

    if (text.bytes == NULL)
        return otherwise;
    json_decref(otherwise);
    return jsonx_load(text.bytes, text.n, &json, NULL) == AMX_OK ? json : NULL;
}

static json_t *curve_json(const struct run_progress *progress)
{
    json_t *list = json_array();

    for (size_t i = 0; i < progress->n_curve; i++) {
        if (json_array_append_new(list, jsonx_real_or_null(progress->loss_curve[i])) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

/* While auto searches, or did: how far the candidates of a rung are. */
static int put_candidates(json_t *object, const struct run_progress *p)
{
    int failed = json_object_set_new(object, "rung", json_integer(p->rung));

    failed |= json_object_set_new(object, "candidate", json_integer((json_int_t)p->candidate));
    return failed | json_object_set_new(object, "candidates", json_integer((json_int_t)p->candidates));
}

static json_t *progress_json(const struct run_progress *p)
{
    json_t *object = json_pack("{s:i, s:i, s:f, s:o, s:o, s:o}", "epoch", p->epoch, "epochs", p->epochs, "fraction",
                               p->fraction, "labels_per_second", jsonx_real_or_null(p->labels_per_second),
                               "eta_seconds", jsonx_real_or_null(p->eta_seconds), "loss", jsonx_real_or_null(p->loss));

    if (object != NULL && p->candidates > 0 && put_candidates(object, p) != 0) {
        json_decref(object);
        return NULL;
    }
    return object;
}

/* A face-off counts fits: those it has done, or as far as its request tells those it will do. */
static json_int_t fits_of(const struct run_row *row, const json_t *settings)
{
    json_t *table = stored_json(row->metrics, json_object());
    json_int_t repeat = json_integer_value(json_object_get(settings, "repeat"));
    size_t rows = json_array_size(json_object_get(table, "rows"));

    json_decref(table);
    if (rows == 0)
        rows = json_array_size(json_object_get(settings, "methods"));
    if (rows == 0)
        (void)amx_methods(&rows);
    return (json_int_t)rows * repeat;
}

/* A run that is not in work here: what its state says. */
static json_t *progress_of_state(const struct run_row *row, const json_t *settings, const json_t *curve)
{
    const bool is_face_off = face_off_is(&row->spec);
    json_int_t epochs = is_face_off ? fits_of(row, settings) : json_integer_value(json_object_get(settings, "epochs"));
    size_t done = is_face_off && row->state == RUN_SUCCEEDED ? (size_t)epochs : json_array_size(curve);
    if (epochs < 1) { /* labels alone: it all is one */
        epochs = 1;
        done = row->state == RUN_SUCCEEDED;
    }
    double fraction = row->state == RUN_SUCCEEDED ? 1.0 : (double)done / (double)epochs;
    json_t *loss =
        json_array_size(curve) > 0 ? json_incref(json_array_get(curve, json_array_size(curve) - 1)) : json_null();

    return json_pack("{s:I, s:I, s:f, s:n, s:o, s:o}", "epoch", (json_int_t)done, "epochs", epochs, "fraction",
                     fraction, "labels_per_second", "eta_seconds",
                     row->state == RUN_SUCCEEDED ? json_real(0.0) : json_null(), "loss", loss);
}

/* Takes the settings. Those of auto hold its own fields too, which stand beside them. */
static int put_settings(json_t *object, json_t *settings)
{
    json_t *automatic = json_incref(json_object_get(settings, "auto"));
    int failed = json_object_set_new(object, "auto", automatic != NULL ? automatic : json_null());

    if (automatic != NULL)
        failed |= json_object_del(settings, "auto");
    return failed | json_object_set_new(object, "settings", settings);
}

static int put_request(json_t *object, const struct run_row *row)
{
    const struct run_spec *spec = &row->spec;
    int failed = json_object_set_new(object, "method", json_stringn(spec->method.bytes, spec->method.n));

    failed |= json_object_set_new(object, "seed", json_integer(spec->seed));
    failed |= json_object_set_new(object, "ensemble", json_integer(spec->ensemble));
    failed |= json_object_set_new(object, "folds", json_integer(spec->folds));
    failed |= json_object_set_new(object, "gold_use", json_stringn(spec->gold_use.bytes, spec->gold_use.n));
    failed |= json_object_set_new(object, "activate", json_stringn(spec->activate.bytes, spec->activate.n));
    failed |= put_settings(object, stored_json(spec->settings, json_object()));
    failed |= json_object_set_new(object, "queued_at", time_json(row->queued_ms));
    failed |= json_object_set_new(object, "started_at", time_json(row->started_ms));
    failed |= json_object_set_new(object, "finished_at", time_json(row->finished_ms));
    return failed;
}

/* progress: NULL when the run is not in work here. */
static int put_progress(json_t *object, const struct run_row *row, const struct run_progress *progress)
{
    json_t *curve = progress != NULL ? curve_json(progress) : stored_json(row->loss_curve, json_array());
    int failed =
        json_object_set_new(object, "progress",
                            progress != NULL ? progress_json(progress)
                                             : progress_of_state(row, json_object_get(object, "settings"), curve));

    failed |= json_object_set_new(object, "loss_curve", curve);
    return failed;
}

static int put_outcome(json_t *object, const struct run_row *row)
{
    json_t *metrics = stored_json(row->metrics, json_object());
    int failed = json_object_set_new(object, "label_seq", count_json(row->label_seq));

    failed |= json_object_set_new(object, "labels_used", count_json(row->labels_used));
    failed |= json_object_set_new(object, "instances_used", count_json(row->instances_used));
    failed |=
        json_object_set_new(object, "model", row->model_number > 0 ? json_integer(row->model_number) : json_null());
    failed |=
        json_object_set_new(object, "activated", row->activated >= 0 ? json_boolean(row->activated) : json_null());
    failed |= selection_lift(object, metrics);
    failed |= json_object_set_new(object, "metrics", metrics);
    failed |= json_object_set_new(object, "attempts", json_integer(row->attempts));
    failed |= json_object_set_new(
        object, "error", row->error.bytes != NULL ? json_stringn(row->error.bytes, row->error.n) : json_null());
    return failed;
}

json_t *run_json_of_row(const struct run_row *row, struct trainers *trainers, const char *project_name,
                        struct run_view *view)
{
    struct run_progress progress;
    bool live = row->state == RUN_RUNNING && trainers != NULL && trainers_progress(trainers, row->id, &progress);
    json_t *object = json_object();
    int failed = json_object_set_new(object, "id", json_integer(row->number));

    failed |= json_object_set_new(object, "project", json_string(project_name));
    failed |= json_object_set_new(object, "state", json_string(run_state_name(row->state)));
    failed |= put_request(object, row);
    failed |= put_progress(object, row, live ? &progress : NULL);
    failed |= put_outcome(object, row);
    if (view != NULL) {
        *view = (struct run_view){
            .id = row->id,
            .number = row->number,
            .state = row->state,
            .ended = row->state != RUN_QUEUED && row->state != RUN_RUNNING,
            .attempt = row->attempts,
            .epoch = live ? progress.epoch : (int)json_array_size(json_object_get(object, "loss_curve")),
        };
        view->version = ((uint64_t)row->state << 60) ^ ((uint64_t)row->attempts << 48) ^ (live ? progress.version : 0);
    }
    if (live)
        run_progress_done(&progress);
    if (failed) {
        json_decref(object);
        return NULL;
    }
    return object;
}

enum amx_status run_json(struct db *db, struct trainers *trainers, int64_t project_id, const char *project_name,
                         int64_t number, json_t **out, struct run_view *view, struct amx_error *err)
{
    struct run_row row;
    json_t *object;
    enum amx_status status = runs_get(db, project_id, number, &row, err);

    if (status != AMX_OK)
        return status;
    object = run_json_of_row(&row, trainers, project_name, view);
    run_row_done(&row);
    if (object == NULL)
        return error_set(err, AMX_NO_MEMORY, "Out of memory.");
    *out = object;
    return AMX_OK;
}
