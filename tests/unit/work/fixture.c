#include "fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "store/instances.h"
#include "store/labels.h"
#include "store/models.h"
#include "store/projects.h"
#include "store/store.h"
#include "test.h"
#include "util/clock.h"
#include "util/digest.h"
#include "util/error.h"
#include "util/log.h"
#include "work/catalog.h"
#include "work/runs/run_queue.h"
#include "work/runs/trainers.h"
#include "work/writer.h"

enum {
    PATIENCE_MS = 180000
};

/* ---- service ----------------------------------------------------------------------------------------------- */

bool fixture_start(struct fixture *f)
{
    struct amx_error err;
    enum amx_status status = service_start(&f->config, &f->service, &err);

    if (status != AMX_OK) {
        printf("service_start: %s\n", err.text);
        f->service = NULL;
    }
    CHECK_INT(status, AMX_OK);
    return status == AMX_OK;
}

bool fixture_init(struct fixture *f, unsigned trainers)
{
    memset(f, 0, sizeof *f);
    log_setup(2, LOG_FORMAT_TEXT, LOG_LEVEL_ERROR);
    (void)snprintf(f->folder, sizeof f->folder, "/tmp/annotmix-work-XXXXXX");
    if (mkdtemp(f->folder) == NULL) {
        CHECK(false);
        return false;
    }
    (void)snprintf(f->path, sizeof f->path, "%s/a.db", f->folder);
    f->config = (struct service_config){.db_path = f->path,
                                        .trainers = trainers,
                                        .write_queue = 1000,
                                        .run_queue = 10,
                                        .model_memory_bytes = (size_t)1 << 28,
                                        .run_memory_bytes = (size_t)1 << 30};
    http_limits_default(&f->config.http);
    return fixture_start(f);
}

void fixture_stop(struct fixture *f)
{
    (void)service_stop(f->service); /* the tests' runs end at once */
    f->service = NULL;
}

void fixture_done(struct fixture *f)
{
    static const char *const endings[] = {"", "-wal", "-shm", ".lock", ".sock"};
    char path[128];

    fixture_stop(f);
    for (size_t i = 0; i < sizeof endings / sizeof endings[0]; i++) {
        (void)snprintf(path, sizeof path, "%s%s", f->path, endings[i]);
        (void)unlink(path);
    }
    CHECK_INT(rmdir(f->folder), 0);
}

struct job {
    struct write_job job; /* first */
    enum amx_status (*apply)(struct db *db, void *context, struct amx_error *err);
    void *context;
};

static enum amx_status job_apply(struct db *db, struct write_job *job)
{
    struct job *j = (struct job *)job;

    return j->apply(db, j->context, &job->error);
}

enum amx_status fixture_write(struct fixture *f, enum amx_status (*apply)(struct db *, void *, struct amx_error *),
                              void *context, struct amx_error *err)
{
    struct job job = {.job = {.apply = job_apply}, .apply = apply, .context = context};
    enum amx_status status = writer_run(f->service->writer, &job.job);

    if (err != NULL)
        *err = job.job.error;
    return status;
}

/* ---- data -------------------------------------------------------------------------------------------------- */

static struct slice text(const char *t)
{
    return (struct slice){t, t != NULL ? strlen(t) : 0};
}

struct new_project {
    const char *name, *settings;
    int64_t id;
};

static enum amx_status insert_project(struct db *db, void *context, struct amx_error *err)
{
    struct new_project *p = context;
    const struct slice classes[] = {text("no"), text("yes")};
    const struct project_new row = {.name = text(p->name),
                                    .title = text(""),
                                    .settings = text(p->settings != NULL ? p->settings : "{}"),
                                    .classes = classes,
                                    .n_classes = 2,
                                    .feature_dim = 2,
                                    .now_ms = clock_wall_ms()};

    return projects_insert(db, &row, &p->id, err);
}

int64_t fixture_project(struct fixture *f, const char *name, const char *settings_json)
{
    struct new_project p = {name, settings_json, 0};
    struct amx_error err;
    enum amx_status status = fixture_write(f, insert_project, &p, &err);

    CHECK_INT(status, AMX_OK);
    if (status != AMX_OK)
        return 0;
    CHECK_INT(catalog_reload(f->service->catalog, p.id, &err), AMX_OK);
    return p.id;
}

/* What stands at place i, whatever the order of arrival. */
static unsigned place(enum fixture_order order, unsigned i, unsigned n)
{
    switch (order) {
    case FORWARD:
        break;
    case BACKWARD:
        return n - 1 - i;
    case SHUFFLED:
        return (unsigned)((i * 7919ULL + 13) % n); /* n is never a multiple of 7919 */
    }
    return i;
}

static enum amx_status put_instance(struct changes *ch, const struct fixture_data *data, unsigned i,
                                    struct amx_error *err)
{
    char name[16];
    unsigned truth = i % 2;
    bool test = i >= data->n_instances * 4 / 5;
    const float features[] = {(float)truth * 2 + (float)(i * 37 % 100) / 100,
                              (float)(i * 61 % 100) / 100 - (float)truth};
    const struct instance_put put = {.name = {name, (size_t)snprintf(name, sizeof name, "i%u", i)},
                                     .features = features,
                                     .split = test ? SPLIT_TEST : SPLIT_TRAIN,
                                     .gold_class = (int)(data->flip_gold ? 1 - truth : truth)};
    enum put_outcome outcome;
    int64_t id;

    return instances_put(ch, &put, &outcome, &id, err);
}

static enum amx_status put_label(struct changes *ch, unsigned i, unsigned a, struct amx_error *err)
{
    char instance[16], annotator[16];
    unsigned truth = i % 2;
    const struct label_put put = {.instance = {instance, (size_t)snprintf(instance, sizeof instance, "i%u", i)},
                                  .annotator = {annotator, (size_t)snprintf(annotator, sizeof annotator, "a%u", a)},
                                  .class_index =
                                      (int)(a > 0 && (i * 13 + a * 7) % (8 / a + 1) == 0 ? 1 - truth : truth),
                                  .duration_ms = -1};
    struct label_result result;

    return labels_put(ch, &put, &result, err);
}

static enum amx_status fill(struct db *db, void *context, struct amx_error *err)
{
    const struct fixture_data *data = context;
    unsigned n_labels = data->n_instances * data->n_annotators;
    struct changes ch;
    enum amx_status status = changes_begin(db, data->project_id, clock_wall_ms(), &ch, err);

    for (unsigned i = 0; i < data->n_instances && status == AMX_OK; i++)
        status = put_instance(&ch, data, place(data->order, i, data->n_instances), err);
    for (unsigned l = 0; l < n_labels && status == AMX_OK; l++) {
        unsigned at = place(data->order, l, n_labels);

        status = put_label(&ch, at / data->n_annotators, at % data->n_annotators, err);
    }
    return status == AMX_OK ? changes_flush(&ch, err) : status;
}

bool fixture_fill(struct fixture *f, const struct fixture_data *data)
{
    struct amx_error err;
    struct fixture_data copy = *data;
    enum amx_status status = fixture_write(f, fill, &copy, &err);

    if (status != AMX_OK)
        printf("fill: %s\n", err.text);
    CHECK_INT(status, AMX_OK);
    return status == AMX_OK;
}

/* ---- runs -------------------------------------------------------------------------------------------------- */

void fixture_request(struct run_request *out, int epochs)
{
    run_request_default(2, out);
    out->settings.epochs = epochs;
    out->settings.n_hidden = 1;
    out->settings.hidden[0] = 8;
    out->settings.hidden[1] = 0;
    out->settings.annotator_embedding = 4;
    out->settings.batch_size = 16;
}

struct new_run {
    int64_t project_id;
    const struct run_request *request;
    struct run_limits limits;
    struct run_queued run;
};

static enum amx_status insert_run(struct db *db, void *context, struct amx_error *err)
{
    struct new_run *r = context;

    return run_queue_add(db, r->project_id, r->request, &r->limits, false, &r->run, err);
}

int64_t fixture_queue(struct fixture *f, int64_t project_id, const struct run_request *request)
{
    struct new_run r = {project_id, request, {f->config.run_queue, 0}, {0}};
    struct amx_error err;
    enum amx_status status = fixture_write(f, insert_run, &r, &err);

    if (status != AMX_OK)
        printf("run_queue_add: %s\n", err.text);
    CHECK_INT(status, AMX_OK);
    trainers_poke(f->service->trainers);
    return r.run.id;
}

enum run_state fixture_state(struct fixture *f, int64_t run_id)
{
    struct db *db = NULL;
    struct run_row row;
    enum run_state state = RUN_STATES; /* there is no such run */
    struct amx_error err;

    if (store_reader_get(f->service->store, &db, &err) == AMX_OK && runs_get_id(db, run_id, &row, &err) == AMX_OK) {
        state = row.state;
        run_row_done(&row);
    }
    store_reader_put(f->service->store, db);
    return state;
}

static void let_others_work(void)
{
    const struct timespec pause = {0, 1000000};

    (void)nanosleep(&pause, NULL); /* between two looks at a condition; never instead of one */
}

bool fixture_wait(struct fixture *f, int64_t run_id, enum run_state state)
{
    int64_t end = clock_monotonic_ms() + PATIENCE_MS;
    enum run_state now = fixture_state(f, run_id);

    while (now != state && clock_monotonic_ms() < end) {
        if (now > RUN_RUNNING && state > RUN_RUNNING)
            break; /* it has ended otherwise */
        let_others_work();
        now = fixture_state(f, run_id);
    }
    CHECK_STR(now < RUN_STATES ? run_state_name(now) : "none", run_state_name(state));
    return now == state;
}

bool fixture_wait_progress(struct fixture *f, int64_t run_id)
{
    int64_t end = clock_monotonic_ms() + PATIENCE_MS;
    bool moving = false;

    while (!moving && clock_monotonic_ms() < end) {
        struct run_progress progress;

        if (trainers_progress(f->service->trainers, run_id, &progress)) {
            moving = progress.n_curve > 0;
            run_progress_done(&progress);
        }
        if (!moving)
            let_others_work();
    }
    CHECK(moving);
    return moving;
}

void fixture_model_hash(struct fixture *f, int64_t project_id, char out[65])
{
    struct db *db = NULL;
    struct model_row row;
    struct amx_error err;

    out[0] = '\0';
    if (store_reader_get(f->service->store, &db, &err) == AMX_OK &&
        models_get_active(db, project_id, &row, &err) == AMX_OK) {
        (void)digest_hex(row.sha256, out);
        model_row_done(&row);
    }
    store_reader_put(f->service->store, db);
}
