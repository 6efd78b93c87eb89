/* run_result.c - see run_result.h. Jobs are small on purpose: other writes take their turn between them. */
#include "work/runs/run_result.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "store/models.h"
#include "util/clock.h"
#include "util/digest.h"
#include "util/error.h"
#include "work/snapshots.h"

enum {
    ANNOTATORS_PER_JOB = 500
};
#define ANNOTATOR_JOB_BYTES ((size_t)4 << 20)

/* Everything the jobs read; one at a time is in the writer's hands. */
struct model_write {
    struct write_job job; /* first */
    struct run_work *work;
    const struct training_data *data;
    const struct run_result *result;
    int64_t number;  /* of the model; 0 = not begun */
    size_t chunk;    /* to write now */
    size_t first, n; /* annotators to write now */
    float *row;      /* [2 C + C C] one annotator's numbers */
};

static struct slice text_slice(const char *text)
{
    return (struct slice){text, text != NULL ? strlen(text) : 0};
}

/* ---- the jobs
 * ------------------------------------------------------------------------------------------------------------ */

static enum amx_status begin_apply(struct db *db, struct write_job *job)
{
    struct model_write *w = (struct model_write *)job;
    const struct model_new model = {
        .method = text_slice(w->result->method),
        .settings = text_slice(w->result->settings),
        .seed = (int64_t)w->result->seed,
        .ensemble = w->result->ensemble,
        .folds = w->result->folds,
        .run_number = w->work->row.number,
        .label_seq = w->data->set.label_seq,
        .labels_used = (int64_t)w->result->labels_used,
        .instances_used = (int64_t)w->result->instances_used,
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
    size_t at = w->chunk * MODEL_CHUNK_BYTES, left = w->result->n_bytes - at;

    return models_put_chunk(db, w->work->row.project_id, w->number, (int64_t)w->chunk, w->result->bytes + at,
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
    const struct reliability *r = &w->result->reliability;
    const size_t C = r->n_classes;
    enum amx_status status = AMX_OK;

    for (size_t a = w->first; a < w->first + w->n && status == AMX_OK; a++) {
        const struct model_annotator_folds folds = {
            .reliability_all = r->all != NULL ? r->all[a] : (double)NAN,
            .expected_correct = r->expected_correct != NULL ? r->expected_correct[a] : (double)NAN,
            .agreement_with_others = r->agreement != NULL ? r->agreement[a] : (double)NAN,
        };
        const struct model_annotator row = {
            .annotator_id = w->data->set.annotator_ids[a],
            .labels = (int64_t)r->labels[a],
            .reliability = r->mean[a],
            .class_reliability = narrow(w->row, r->per_class != NULL ? r->per_class + a * C : NULL, C),
            .class_evidence = narrow(w->row + C, r->evidence != NULL ? r->evidence + a * C : NULL, C),
            .confusion = narrow(w->row + 2 * C, r->confusion != NULL ? r->confusion + a * C * C : NULL, C * C),
            .n_classes = C,
            .folds = r->all != NULL ? &folds : NULL,
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
        .n_chunks = (int64_t)((w->result->n_bytes + MODEL_CHUNK_BYTES - 1) / MODEL_CHUNK_BYTES),
        .size_bytes = (int64_t)w->result->n_bytes,
        .metrics = text_slice(w->result->metrics),
        .population_reliability = w->result->reliability.population,
        .n_classes = w->result->reliability.n_classes,
        .activate = w->result->activate,
    };
    const struct run_end run = {
        .state = RUN_SUCCEEDED,
        .label_seq = w->data->set.label_seq,
        .labels_used = (int64_t)w->result->labels_used,
        .instances_used = (int64_t)w->result->instances_used,
        .model_number = w->number,
        .activated = w->result->activate ? 1 : 0,
        .metrics = text_slice(w->result->metrics),
        .loss_curve = text_slice(w->result->curve),
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
    digest_of(w->result->bytes, w->result->n_bytes, end.sha256);
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

static enum amx_status write_pieces(struct model_write *w, struct amx_error *err)
{
    const struct reliability *r = &w->result->reliability;
    size_t row_bytes = (2 * r->n_classes + (r->confusion != NULL ? r->n_classes * r->n_classes : 0)) * sizeof(float);
    size_t step = ANNOTATOR_JOB_BYTES / row_bytes;
    enum amx_status status = do_job(w, begin_apply, err);

    for (w->chunk = 0; status == AMX_OK && w->chunk * MODEL_CHUNK_BYTES < w->result->n_bytes; w->chunk++)
        status = do_job(w, chunk_apply, err);
    step = step < 1 ? 1 : step > ANNOTATORS_PER_JOB ? ANNOTATORS_PER_JOB : step;
    for (w->first = 0; status == AMX_OK && w->first < r->n_annotators; w->first += step) {
        w->n = r->n_annotators - w->first < step ? r->n_annotators - w->first : step;
        status = do_job(w, annotators_apply, err);
    }
    return status;
}

/* From COMMIT on everybody may see that the run has succeeded: from then on its model has to answer. */
static enum amx_status finish(struct model_write *w, struct amx_model **model, struct amx_error *err)
{
    struct snapshots *snapshots = w->work->trainers->config.snapshots;
    const int64_t project_id = w->work->row.project_id;
    enum amx_status status = snapshots_changing(snapshots, project_id, err);

    if (status != AMX_OK)
        return status;
    status = do_job(w, finish_apply, err);
    if (status == AMX_OK && w->result->activate && *model != NULL) {
        snapshots_swap(snapshots, project_id, w->number, *model);
        *model = NULL;
    } else if (status == AMX_OK && w->result->activate) {
        snapshots_changed(snapshots, project_id);
    }
    snapshots_settled(snapshots, project_id);
    return status;
}

enum amx_status run_result_write(struct run_work *work, const struct training_data *data,
                                 const struct run_result *result, struct amx_model **model, struct amx_error *err)
{
    const size_t C = result->reliability.n_classes;
    struct model_write w = {.work = work, .data = data, .result = result};
    enum amx_status status;

    w.row = malloc((2 * C + C * C) * sizeof *w.row); /* C is at most 1,000 */
    if (w.row == NULL)
        return error_set(err, AMX_NO_MEMORY, "Out of memory.");
    status = write_pieces(&w, err);
    if (status == AMX_OK)
        status = finish(&w, model, err);
    if (status != AMX_OK && w.number != 0)
        (void)do_job(&w, abandon_apply, NULL); /* if this fails too, the next start deletes it */
    free(w.row);
    return status;
}

void run_result_done(struct run_result *result)
{
    amx_free(result->bytes);
    reliability_done(&result->reliability);
    free(result->settings);
    free(result->metrics);
    free(result->curve);
    memset(result, 0, sizeof *result);
}
