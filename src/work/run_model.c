/* run_model.c - from a fitted model to rows: metrics, reliability of every annotator, bytes in chunks, and the one
 * small job that makes model, activation and the run's success true at the same moment.
 *
 * Everything before that job is invisible to readers; kill -9 anywhere leaves the old state. Jobs are small on
 * purpose: other writes take their turn between them. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "crowd/reliability.h"
#include "store/models.h"
#include "util/clock.h"
#include "util/digest.h"
#include "util/error.h"
#include "util/jsonx.h"
#include "work/evaluate.h"
#include "work/snapshots.h"
#include "work/trainers_int.h"

enum {
    ANNOTATORS_PER_JOB = 500
};
#define ANNOTATOR_JOB_BYTES ((size_t)4 << 20)

/* Everything the jobs read; one at a time is in the writer's hands. */
struct model_write {
    struct write_job job; /* first */
    struct run_work *work;
    const struct training_data *data;
    const struct amx_fit_report *report;
    struct reliability reliability;
    char *settings, *metrics, *curve;
    unsigned char *bytes;
    size_t n_bytes;
    int64_t number;  /* of the model; 0 = not begun */
    size_t chunk;    /* to write now */
    size_t first, n; /* annotators to write now */
    float *row;      /* [2 C + C C] one annotator's numbers */
    bool activate;
};

static struct slice text_slice(const char *text)
{
    return (struct slice){text, text != NULL ? strlen(text) : 0};
}

char *run_curve_text(const double *curve, size_t n)
{
    json_t *list = json_array();
    char *text = NULL;
    size_t bytes, done = 0;

    while (done < n && json_array_append_new(list, jsonx_real_or_null(curve[done])) == 0)
        done++;
    if (list != NULL && done == n)
        text = jsonx_dump(list, &bytes);
    json_decref(list);
    return text;
}

/* ---- the jobs
 * ------------------------------------------------------------------------------------------------------------ */

static enum amx_status begin_apply(struct db *db, struct write_job *job)
{
    struct model_write *w = (struct model_write *)job;
    const struct run_request *request = &w->work->request;
    const struct model_new model = {
        .method = text_slice(request->method),
        .settings = text_slice(w->settings),
        .seed = (int64_t)request->seed,
        .ensemble = request->ensemble,
        .run_number = w->work->row.number,
        .label_seq = w->data->set.label_seq,
        .labels_used = (int64_t)w->report->labels_used,
        .instances_used = (int64_t)w->report->instances_used,
        .data_hash = text_slice(w->data->hash),
        .build = text_slice(amx_version()),
        .kernel = text_slice(amx_kernel_name()),
        .blas = text_slice(amx_blas_name()),
        .now_ms = clock_wall_ms(),
    };

    return models_begin(db, w->work->row.project_id, &model, &w->number, &job->error);
}

static enum amx_status chunk_apply(struct db *db, struct write_job *job)
{
    struct model_write *w = (struct model_write *)job;
    size_t at = w->chunk * MODEL_CHUNK_BYTES, left = w->n_bytes - at;

    return models_put_chunk(db, w->work->row.project_id, w->number, (int64_t)w->chunk, w->bytes + at,
                            left < MODEL_CHUNK_BYTES ? left : MODEL_CHUNK_BYTES, &job->error);
}

/* to [n] = from, in single precision. */
static const float *narrow(float *to, const double *from, size_t n)
{
    if (from == NULL)
        return NULL;
    for (size_t i = 0; i < n; i++)
        to[i] = (float)from[i];
    return to;
}

static enum amx_status annotators_apply(struct db *db, struct write_job *job)
{
    struct model_write *w = (struct model_write *)job;
    const struct reliability *r = &w->reliability;
    const size_t C = r->n_classes;
    enum amx_status status = AMX_OK;

    for (size_t a = w->first; a < w->first + w->n && status == AMX_OK; a++) {
        const struct model_annotator row = {
            .annotator_id = w->data->set.annotator_ids[a],
            .labels = (int64_t)r->labels[a],
            .reliability = r->mean[a],
            .class_reliability = narrow(w->row, r->per_class + a * C, C),
            .class_evidence = narrow(w->row + C, r->evidence + a * C, C),
            .confusion = narrow(w->row + 2 * C, r->confusion != NULL ? r->confusion + a * C * C : NULL, C * C),
            .n_classes = C,
        };

        status = models_put_annotator(db, w->work->row.project_id, w->number, &row, &job->error);
    }
    return status;
}

static enum amx_status finish_apply(struct db *db, struct write_job *job)
{
    struct model_write *w = (struct model_write *)job;
    struct run_row row;
    struct model_end end = {
        .n_chunks = (int64_t)((w->n_bytes + MODEL_CHUNK_BYTES - 1) / MODEL_CHUNK_BYTES),
        .size_bytes = (int64_t)w->n_bytes,
        .metrics = text_slice(w->metrics),
        .population_reliability = w->reliability.population,
        .n_classes = w->reliability.n_classes,
        .activate = w->activate,
    };
    const struct run_end run = {
        .state = RUN_SUCCEEDED,
        .label_seq = w->data->set.label_seq,
        .labels_used = (int64_t)w->report->labels_used,
        .instances_used = (int64_t)w->report->instances_used,
        .model_number = w->number,
        .activated = w->activate ? 1 : 0,
        .metrics = text_slice(w->metrics),
        .loss_curve = text_slice(w->curve),
        .now_ms = clock_wall_ms(),
    };
    enum amx_status status = runs_get_id(db, w->work->row.id, &row, &job->error);

    if (status != AMX_OK)
        return status;
    if (row.cancel_requested)
        status = error_set(&job->error, AMX_CANCELLED, "The run was cancelled.");
    run_row_done(&row);
    if (status != AMX_OK)
        return status;
    digest_of(w->bytes, w->n_bytes, end.sha256);
    status = models_finish(db, w->work->row.project_id, w->number, &end, &job->error);
    return status != AMX_OK ? status : runs_finish(db, w->work->row.id, &run, &job->error);
}

static enum amx_status abandon_apply(struct db *db, struct write_job *job)
{
    struct model_write *w = (struct model_write *)job;

    return models_abandon(db, w->work->row.project_id, w->number, &job->error);
}

/* ---- in order
 * -------------------------------------------------------------------------------------------------------------- */

static enum amx_status do_job(struct model_write *w, enum amx_status (*apply)(struct db *, struct write_job *),
                              struct amx_error *err)
{
    memset(&w->job, 0, sizeof w->job);
    w->job.apply = apply;
    w->job.project_id = w->work->row.project_id;
    return trainers_write(w->work->trainers, &w->job, err);
}

/* Numbers and texts; nothing is written yet. */
static enum amx_status prepare(struct model_write *w, const struct amx_model *model, struct amx_error *err)
{
    const size_t C = w->data->set.n_classes;
    json_t *metrics = NULL;
    size_t n;
    enum amx_status status;

    if ((status = evaluate_metrics(model, w->data, &metrics, err)) != AMX_OK)
        return status;
    w->metrics = jsonx_dump(metrics, &n);
    json_decref(metrics);
    w->settings = run_request_settings_text(&w->work->request.settings);
    w->curve = run_curve_text(w->report->loss_curve, (size_t)w->report->epochs);
    w->row = malloc((2 * C + C * C) * sizeof *w->row);
    if (w->metrics == NULL || w->settings == NULL || w->curve == NULL || w->row == NULL)
        return error_set(err, AMX_NO_MEMORY, "Out of memory.");
    if ((status = reliability_of_model(model, &w->data->data, &w->reliability, err)) != AMX_OK)
        return status;
    return amx_model_encode(model, &w->bytes, &w->n_bytes, err);
}

static enum amx_status write_pieces(struct model_write *w, struct amx_error *err)
{
    const struct reliability *r = &w->reliability;
    size_t row_bytes = (2 * r->n_classes + (r->confusion != NULL ? r->n_classes * r->n_classes : 0)) * sizeof(float);
    size_t step = ANNOTATOR_JOB_BYTES / row_bytes;
    enum amx_status status = do_job(w, begin_apply, err);

    for (w->chunk = 0; status == AMX_OK && w->chunk * MODEL_CHUNK_BYTES < w->n_bytes; w->chunk++)
        status = do_job(w, chunk_apply, err);
    step = step < 1 ? 1 : step > ANNOTATORS_PER_JOB ? ANNOTATORS_PER_JOB : step;
    for (w->first = 0; status == AMX_OK && w->first < r->n_annotators; w->first += step) {
        w->n = r->n_annotators - w->first < step ? r->n_annotators - w->first : step;
        status = do_job(w, annotators_apply, err);
    }
    return status;
}

enum amx_status run_model_write(struct run_work *work, const struct training_data *data, struct amx_model *model,
                                const struct amx_fit_report *report, struct amx_error *err)
{
    struct model_write w = {.work = work, .data = data, .report = report};
    struct snapshots *snapshots = work->trainers->config.snapshots;
    enum amx_status status;

    w.activate = work->request.activate == RUN_ACTIVATE_ALWAYS;
    status = prepare(&w, model, err);
    if (status == AMX_OK)
        status = write_pieces(&w, err);
    /* From COMMIT on everybody may see that the run has succeeded: from then on its model has to answer. */
    if (status == AMX_OK)
        status = snapshots_changing(snapshots, work->row.project_id, err);
    if (status == AMX_OK) {
        status = do_job(&w, finish_apply, err);
        if (status == AMX_OK && w.activate) {
            snapshots_swap(snapshots, work->row.project_id, w.number, model);
            model = NULL;
        }
        snapshots_settled(snapshots, work->row.project_id);
    }
    if (status != AMX_OK && w.number != 0)
        (void)do_job(&w, abandon_apply, NULL); /* if this fails too, the next start deletes it */
    amx_model_free(model);
    amx_free(w.bytes);
    reliability_done(&w.reliability);
    free(w.row);
    free(w.curve);
    free(w.metrics);
    free(w.settings);
    return status;
}
