/* face_off_run.c - a face-off as a run of the server: same steps as run_work.c, no model at the end.
 *
 * Progress counts fits as epochs: "epoch" fits have ended of "epochs". The run's end and its table are one write;
 * kill -9 before it leaves the run to be done again, from its seed, to the same table. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "util/clock.h"
#include "util/error.h"
#include "util/jsonx.h"
#include "util/size.h"
#include "work/face_off/face_off_request.h"
#include "work/runs/trainers_int.h"

struct watch {
    struct run_work *work;
    int64_t begun_ms;
};

/* In one of the threads that fit, never two at once. */
static void on_progress(const struct face_off_progress *p, void *context)
{
    struct watch *watch = context;
    struct run_work *work = watch->work;
    struct trainers *t = work->trainers;
    const double seconds = (double)(clock_monotonic_ms() - watch->begun_ms) / 1000;
    bool ended;

    (void)pthread_mutex_lock(&t->mu);
    ended = work->progress.epoch != (int)p->done;
    work->progress.epoch = (int)p->done;
    work->progress.epochs = (int)p->fits;
    work->progress.fraction = p->fraction;
    work->progress.eta_seconds = p->fraction > 0 ? seconds * (1 - p->fraction) / p->fraction : (double)NAN;
    work->progress.labels_per_second = (double)NAN;
    work->progress.version++;
    (void)pthread_mutex_unlock(&t->mu);
    if (ended)
        trainers_wake(t, work->row.id);
    run_work_renew_lease(work);
}

static enum amx_status write_table(struct run_work *work, const struct training_data *data, const json_t *table,
                                   struct amx_error *err)
{
    size_t n = 0;
    char *text = jsonx_dump(table, &n);
    struct run_end end = {
        .state = RUN_SUCCEEDED,
        .label_seq = data->set.label_seq,
        .labels_used = (int64_t)data->set.n_labels,
        .instances_used = (int64_t)data->set.n_instances,
        .activated = -1,
        .metrics = {text, n},
        .now_ms = clock_wall_ms(),
    };
    enum amx_status status;

    if (text == NULL)
        return error_set(err, AMX_NO_MEMORY, "Out of memory.");
    status = run_work_finish(work, &end, err);
    free(text);
    return status;
}

static enum amx_status compare(struct run_work *work, const struct face_off *face_off, const struct training_data *data,
                               struct amx_error *err)
{
    struct watch watch = {work, clock_monotonic_ms()};
    const int fits = (int)face_off_fits(face_off, data);
    struct face_off_options options = {.threads = run_work_threads(work, fits > 0 ? fits : 1),
                                       .progress = on_progress,
                                       .context = &watch,
                                       .cancel = &work->cancel};
    json_t *table = NULL;
    size_t bytes;
    enum amx_status status;

    if (!size_add(&bytes, face_off_memory(face_off, data, options.threads), training_data_bytes(data)))
        bytes = SIZE_MAX;
    if ((status = run_work_note_data(work, data, fits, err)) != AMX_OK ||
        (status = run_work_reserve(work, bytes, err)) != AMX_OK)
        return status;
    if (run_work_is_cancelled(work))
        return error_set(err, AMX_CANCELLED, "The face-off was cancelled.");
    status = face_off_do(face_off, data, &options, &table, err);
    if (status == AMX_OK)
        status = write_table(work, data, table, err);
    json_decref(table);
    return status;
}

enum amx_status face_off_run(struct run_work *work, struct amx_error *err)
{
    struct face_off face_off;
    struct training_data data;
    enum amx_status status;

    if ((status = face_off_of_spec(&work->row.spec, &face_off, err)) != AMX_OK ||
        (status = run_work_read(work, &data, err)) != AMX_OK)
        return status;
    status = training_data_check(&data, err);
    if (status == AMX_OK)
        status = compare(work, &face_off, &data, err);
    training_data_done(&data);
    return status;
}
