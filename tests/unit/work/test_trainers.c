/* The queue and the trainers with a real store: run, coalesce, cancel, restart, fail, and the same bytes whatever the
 * order of arrival, the number of trainers, or the gold. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fixture.h"
#include "store/models.h"
#include "store/store.h"
#include "test.h"
#include "util/clock.h"
#include "work/face_off/face_off_request.h"
#include "work/runs/run_queue.h"
#include "work/runs/runs_json.h"
#include "work/snapshots.h"
#include "work/runs/trainers.h"

static const int LONG_RUN = 10000; /* epochs: it is cancelled long before */

struct cancel {
    int64_t project_id, number, id;
    enum run_cancel what;
};

static enum amx_status cancel_run(struct db *db, void *context, struct amx_error *err)
{
    struct cancel *c = context;

    return run_queue_cancel(db, c->project_id, c->number, &c->id, &c->what, err);
}

static json_t *look(struct fixture *f, int64_t project, int64_t number, struct run_view *view)
{
    struct db *db = NULL;
    json_t *json = NULL;
    struct amx_error err;

    if (store_reader_get(f->service->store, &db, &err) == AMX_OK)
        CHECK_INT(run_json(db, f->service->trainers, project, "p", number, &json, view, &err), AMX_OK);
    store_reader_put(f->service->store, db);
    return json;
}

TEST(a_run_becomes_the_active_model)
{
    struct fixture f;
    struct run_request request;
    struct run_view view;
    int64_t project, run;
    json_t *json;
    char hash[65];

    if (!fixture_init(&f, 1))
        return;
    project = fixture_project(&f, "p", NULL);
    CHECK(fixture_fill(&f, &(struct fixture_data){project, 100, 3, FORWARD, false}));
    fixture_request(&request, 10);
    run = fixture_queue(&f, project, &request);
    CHECK(fixture_wait(&f, run, RUN_SUCCEEDED));
    json = look(&f, project, 1, &view);
    CHECK(view.ended && view.id == run && view.attempt == 1 && view.epoch == 10);
    CHECK_STR(json_string_value(json_object_get(json, "state")), "succeeded");
    CHECK_INT(json_integer_value(json_object_get(json, "model")), 1);
    CHECK(json_is_true(json_object_get(json, "activated")));
    CHECK_INT(json_integer_value(json_object_get(json, "labels_used")), 240);
    CHECK_INT(json_integer_value(json_object_get(json, "instances_used")), 80);
    CHECK_INT(json_array_size(json_object_get(json, "loss_curve")), 10);
    CHECK_INT(json_integer_value(json_object_get(json_object_get(json_object_get(json, "metrics"), "test"), "n")), 20);
    CHECK_STR(json_string_value(
                  json_object_get(json_object_get(json_object_get(json, "metrics"), "annotator_model"), "split")),
              "test");
    CHECK(json_is_null(json_object_get(json, "error")));
    json_decref(json);
    fixture_model_hash(&f, project, hash);
    CHECK_INT(strlen(hash), 64);

    request.activate = RUN_ACTIVATE_NEVER;
    request.seed = 2;
    CHECK(fixture_wait(&f, fixture_queue(&f, project, &request), RUN_SUCCEEDED));
    json = look(&f, project, 2, NULL);
    CHECK(json_is_false(json_object_get(json, "activated")));
    CHECK_INT(json_integer_value(json_object_get(json, "model")), 2);
    json_decref(json);
    {
        char after[65];

        fixture_model_hash(&f, project, after);
        CHECK_STR(after, hash); /* the first is still the active one */
    }
    fixture_done(&f);
}

struct reliability_check {
    size_t n;
    double best;
};

static enum amx_status check_annotator(void *context, const struct model_annotator *row)
{
    struct reliability_check *check = context;

    check->n++;
    CHECK(row->reliability > 0 && row->reliability <= 1);
    CHECK(row->labels == 80);
    CHECK(row->confusion != NULL && row->class_reliability != NULL && row->class_evidence != NULL);
    if (row->confusion != NULL) {
        CHECK_NEAR(row->confusion[0] + row->confusion[1], 1, 1e-4);
        CHECK_NEAR(row->class_evidence[0] + row->class_evidence[1], 80, 0.01);
    }
    return AMX_OK;
}

TEST(a_model_comes_with_the_reliability_of_every_annotator)
{
    struct fixture f;
    struct run_request request;
    struct reliability_check check = {0};
    struct amx_error err;
    struct db *db = NULL;
    bool more;
    int64_t project;

    if (!fixture_init(&f, 1))
        return;
    project = fixture_project(&f, "p", NULL);
    CHECK(fixture_fill(&f, &(struct fixture_data){project, 100, 3, FORWARD, false}));
    fixture_request(&request, 5);
    CHECK(fixture_wait(&f, fixture_queue(&f, project, &request), RUN_SUCCEEDED));
    CHECK_INT(store_reader_get(f.service->store, &db, &err), AMX_OK);
    CHECK_INT(model_annotators_list(db, project, 1, 0, 100, true, check_annotator, &check, &more, &err), AMX_OK);
    store_reader_put(f.service->store, db);
    CHECK_INT(check.n, 3);
    fixture_done(&f);
}

TEST(queued_equal_runs_are_one_and_the_queue_has_an_end)
{
    struct fixture f;
    struct run_request request;
    int64_t project, run;

    if (!fixture_init(&f, 0)) /* nobody takes them */
        return;
    project = fixture_project(&f, "p", NULL);
    CHECK(fixture_fill(&f, &(struct fixture_data){project, 20, 2, FORWARD, false}));
    fixture_request(&request, 5);
    run = fixture_queue(&f, project, &request);
    CHECK_INT(fixture_queue(&f, project, &request), run);
    request.seed = 2;
    CHECK(fixture_queue(&f, project, &request) != run);
    CHECK_INT(fixture_state(&f, run), RUN_QUEUED);
    fixture_done(&f);
}

struct attempt {
    int64_t project_id;
    const struct run_request *request;
    struct run_limits limits;
};

static enum amx_status try_queue(struct db *db, void *context, struct amx_error *err)
{
    struct attempt *a = context;
    struct run_queued run;

    return run_queue_add(db, a->project_id, a->request, &a->limits, false, &run, err);
}

TEST(refused_runs_say_why)
{
    struct fixture f;
    struct run_request request;
    struct attempt a;
    struct amx_error err;

    if (!fixture_init(&f, 0))
        return;
    fixture_request(&request, 5);
    a = (struct attempt){fixture_project(&f, "p", NULL), &request, {1, 0}};
    CHECK_INT(fixture_write(&f, try_queue, &a, &err), AMX_NOTHING);
    CHECK(strstr(err.text, "no labels") != NULL);
    CHECK(fixture_fill(&f, &(struct fixture_data){a.project_id, 20, 2, FORWARD, false}));
    CHECK_INT(fixture_write(&f, try_queue, &a, &err), AMX_OK);
    request.seed = 77;
    CHECK_INT(fixture_write(&f, try_queue, &a, &err), AMX_BUSY);
    a.project_id = 999;
    CHECK(fixture_write(&f, try_queue, &a, &err) != AMX_OK);
    fixture_done(&f);
}

/* A thousand classes and a million annotators, as far as rows and counters of the project go. */
static enum amx_status make_huge(struct db *db, void *context, struct amx_error *err)
{
    (void)context;
    return db_exec(db,
                   "WITH RECURSIVE n (k) AS (SELECT 2 UNION ALL SELECT k + 1 FROM n WHERE k < 999)"
                   " INSERT INTO classes (project_id, position, name) SELECT id, k, 'class ' || k FROM projects, n;"
                   "UPDATE projects SET n_classes = 1000, n_annotators = 1000000, n_labels = 1000000",
                   err);
}

/* Threat 7 of the threat table: refused before it is queued, with the number. */
TEST(a_run_that_cannot_fit_is_refused_with_the_estimate)
{
    static const char *const methods[] = {"annot_mix", "annot_mix_prior", "crowd_layer", "trace_reg"};
    struct fixture f;
    struct run_request request;
    struct attempt a;
    struct amx_error err;

    if (!fixture_init(&f, 0))
        return;
    fixture_request(&request, 5);
    a = (struct attempt){fixture_project(&f, "p", NULL), &request, {100, (size_t)16 << 30}};
    CHECK(fixture_fill(&f, &(struct fixture_data){a.project_id, 20, 2, FORWARD, false}));
    CHECK_INT(fixture_write(&f, try_queue, &a, &err), AMX_OK);
    CHECK_INT(fixture_write(&f, make_huge, NULL, &err), AMX_OK);
    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++) {
        request.method = methods[i];
        CHECK_INT(fixture_write(&f, try_queue, &a, &err), AMX_TOO_LARGE);
        CHECK(strstr(err.text, "MiB") != NULL && strstr(err.text, "1000 classes and 1000000 annotators") != NULL);
        CHECK(strstr(err.text, "the limit is 16384 MiB") != NULL);
    }
    request.method = "annot_mix";
    a.limits.memory_bytes = (size_t)64 << 30;
    CHECK_INT(fixture_write(&f, try_queue, &a, &err), AMX_OK);
    fixture_done(&f);
}

static enum amx_status try_face_off(struct db *db, void *context, struct amx_error *err)
{
    struct attempt *a = context;
    struct face_off face_off;
    const struct run_need need = {face_off_least_memory, &face_off};
    struct run_spec spec;
    struct run_queued run;

    face_off_default(&face_off);
    face_off_to_spec(&face_off, "{}", &spec);
    return run_queue_add_spec(db, a->project_id, &spec, &need, &a->limits, &run, err);
}

/* A thousand classes again, by way of every kind of run that is not one fit. */
TEST(every_kind_of_run_is_refused_when_it_cannot_fit)
{
    struct fixture f;
    struct run_request request;
    struct attempt a;
    struct amx_error err;

    if (!fixture_init(&f, 0))
        return;
    fixture_request(&request, 5);
    a = (struct attempt){fixture_project(&f, "p", NULL), &request, {100, (size_t)1 << 30}};
    CHECK(fixture_fill(&f, &(struct fixture_data){a.project_id, 20, 2, FORWARD, false}));
    for (int huge = 0; huge < 2; huge++) {
        const enum amx_status expected = huge ? AMX_TOO_LARGE : AMX_OK;
        if (huge)
            CHECK_INT(fixture_write(&f, make_huge, NULL, &err), AMX_OK);
        run_request_default(2, &request);
        request.method = "auto";
        CHECK_INT(fixture_write(&f, try_queue, &a, &err), expected);
        request.method = "dawid_skene";
        request.label_only = true;
        CHECK_INT(fixture_write(&f, try_queue, &a, &err), expected);
        CHECK_INT(fixture_write(&f, try_face_off, &a, &err), expected);
        CHECK(!huge || strstr(err.text, "1000 classes and 1000000 annotators; the limit is 1024 MiB") != NULL);
    }
    fixture_done(&f);
}

static enum amx_status make_long(struct db *db, void *context, struct amx_error *err)
{
    (void)context;
    return db_exec(db, "UPDATE projects SET n_instances = 20000000", err);
}

static enum amx_status make_awaiting(struct db *db, void *context, struct amx_error *err)
{
    (void)context;
    return db_exec(db, "UPDATE projects SET n_awaiting = 19999980", err);
}

/* What the data alone need is known before it is read; instances that are not read do not count. */
TEST(a_run_whose_data_cannot_fit_is_refused)
{
    struct fixture f;
    struct run_request request;
    struct attempt a;
    struct amx_error err;

    if (!fixture_init(&f, 0))
        return;
    fixture_request(&request, 5);
    a = (struct attempt){fixture_project(&f, "p", NULL), &request, {100, (size_t)1 << 30}};
    CHECK(fixture_fill(&f, &(struct fixture_data){a.project_id, 20, 2, FORWARD, false}));
    CHECK_INT(fixture_write(&f, make_long, NULL, &err), AMX_OK);
    CHECK_INT(fixture_write(&f, try_queue, &a, &err), AMX_TOO_LARGE);
    CHECK(strstr(err.text, "with 20000000 labelled instances of 2 features") != NULL);
    CHECK_INT(fixture_write(&f, try_face_off, &a, &err), AMX_TOO_LARGE);
    CHECK_INT(fixture_write(&f, make_awaiting, NULL, &err), AMX_OK);
    CHECK_INT(fixture_write(&f, try_queue, &a, &err), AMX_OK);
    fixture_done(&f);
}

TEST(cancel_stops_queued_and_running_runs)
{
    struct fixture f;
    struct run_request request;
    struct amx_error err;
    struct cancel c;
    int64_t project, running, queued;

    if (!fixture_init(&f, 1))
        return;
    project = fixture_project(&f, "p", NULL);
    CHECK(fixture_fill(&f, &(struct fixture_data){project, 100, 3, FORWARD, false}));
    fixture_request(&request, LONG_RUN);
    running = fixture_queue(&f, project, &request);
    request.seed = 2;
    queued = fixture_queue(&f, project, &request);
    CHECK(fixture_wait_progress(&f, running));
    CHECK_INT(fixture_state(&f, queued), RUN_QUEUED); /* one run of a project at a time */

    c = (struct cancel){.project_id = project, .number = 2};
    CHECK_INT(fixture_write(&f, cancel_run, &c, &err), AMX_OK);
    trainers_cancelled(f.service->trainers, c.id);
    CHECK(c.what == RUN_CANCEL_ACCEPTED && c.id == queued);
    CHECK_INT(fixture_state(&f, queued), RUN_CANCELLED);
    CHECK_INT(fixture_write(&f, cancel_run, &c, &err), AMX_OK);
    CHECK_INT(c.what, RUN_CANCEL_ALREADY);

    c.number = 1;
    CHECK_INT(fixture_write(&f, cancel_run, &c, &err), AMX_OK);
    trainers_cancelled(f.service->trainers, c.id);
    CHECK(fixture_wait(&f, running, RUN_CANCELLED));
    c.number = 3;
    CHECK_INT(fixture_write(&f, cancel_run, &c, &err), AMX_NOT_FOUND);

    request.settings.epochs = 2;
    CHECK(fixture_wait(&f, fixture_queue(&f, project, &request), RUN_SUCCEEDED));
    CHECK_INT(fixture_write(&f, cancel_run, &c, &err), AMX_CONFLICT);
    fixture_done(&f);
}

TEST(a_stop_puts_the_run_back_and_a_start_takes_it_up)
{
    struct fixture f;
    struct run_request request;
    struct run_view view;
    struct amx_error err;
    struct cancel c;
    int64_t project, run;

    if (!fixture_init(&f, 2))
        return;
    project = fixture_project(&f, "p", NULL);
    CHECK(fixture_fill(&f, &(struct fixture_data){project, 100, 3, FORWARD, false}));
    fixture_request(&request, LONG_RUN);
    run = fixture_queue(&f, project, &request);
    CHECK(fixture_wait_progress(&f, run));
    fixture_stop(&f);
    f.config.trainers = 0;
    if (fixture_start(&f)) {
        CHECK_INT(fixture_state(&f, run), RUN_QUEUED);
        json_decref(look(&f, project, 1, &view));
        CHECK_INT(view.attempt, 0); /* the interrupted try does not count */
        fixture_stop(&f);
    }
    f.config.trainers = 1;
    if (fixture_start(&f)) {
        CHECK(fixture_wait_progress(&f, run));
        c = (struct cancel){.project_id = project, .number = 1};
        CHECK_INT(fixture_write(&f, cancel_run, &c, &err), AMX_OK);
        trainers_cancelled(f.service->trainers, c.id);
        CHECK(fixture_wait(&f, run, RUN_CANCELLED));
    }
    fixture_done(&f);
}

static enum amx_status claim_only(struct db *db, void *context, struct amx_error *err)
{
    struct run_row row;
    enum amx_status status = runs_claim(db, (struct slice){"dead", 4}, clock_wall_ms(), 1000, &row, err);

    (void)context;
    if (status == AMX_OK)
        run_row_done(&row);
    return status;
}

TEST(a_run_that_kills_the_process_three_times_fails)
{
    struct fixture f;
    struct run_request request;
    struct amx_error err;
    json_t *json;
    int64_t project, run;

    if (!fixture_init(&f, 0))
        return;
    project = fixture_project(&f, "p", NULL);
    CHECK(fixture_fill(&f, &(struct fixture_data){project, 20, 2, FORWARD, false}));
    fixture_request(&request, 5);
    run = fixture_queue(&f, project, &request);
    for (int i = 0; i < RUN_MAX_ATTEMPTS; i++) {
        CHECK_INT(fixture_state(&f, run), RUN_QUEUED);
        CHECK_INT(fixture_write(&f, claim_only, NULL, &err), AMX_OK);
        CHECK_INT(fixture_state(&f, run), RUN_RUNNING);
        fixture_stop(&f); /* nobody puts it back: as after kill -9 */
        if (!fixture_start(&f))
            break;
    }
    if (f.service != NULL) {
        CHECK_INT(fixture_state(&f, run), RUN_FAILED);
        json = look(&f, project, 1, NULL);
        CHECK(json_is_string(json_object_get(json, "error")));
        json_decref(json);
    }
    fixture_done(&f);
}

TEST(a_failed_run_keeps_its_error_and_the_old_model)
{
    struct fixture f;
    struct run_request request;
    struct model_snapshot *snapshot = NULL;
    struct amx_error err;
    int64_t project;
    json_t *json;
    char before[65], after[65];

    if (!fixture_init(&f, 1))
        return;
    project = fixture_project(&f, "p", NULL);
    CHECK(fixture_fill(&f, &(struct fixture_data){project, 100, 3, FORWARD, false}));
    fixture_request(&request, 3);
    CHECK(fixture_wait(&f, fixture_queue(&f, project, &request), RUN_SUCCEEDED));
    fixture_model_hash(&f, project, before);
    fixture_stop(&f);
    f.config.run_memory_bytes = 100 * 1024; /* the data fits, the fit does not */
    if (!fixture_start(&f))
        goto done;
    request.seed = 2;
    request.settings.hidden[0] = 4096;
    CHECK(fixture_wait(&f, fixture_queue(&f, project, &request), RUN_FAILED));
    json = look(&f, project, 2, NULL);
    CHECK(strstr(json_string_value(json_object_get(json, "error")), "memory") != NULL);
    CHECK(json_is_null(json_object_get(json, "model")));
    json_decref(json);
    fixture_model_hash(&f, project, after);
    CHECK_STR(before, after);
    CHECK_INT(snapshots_get(f.service->snapshots, project, &snapshot, &err), AMX_OK);
    CHECK_INT(snapshot != NULL ? snapshot->number : 0, 1);
    snapshot_unref(snapshot);
done:
    fixture_done(&f);
}

TEST(new_labels_queue_a_run_by_rule_once)
{
    struct fixture f;
    struct run_view view;
    json_t *json;
    int64_t project;

    if (!fixture_init(&f, 0))
        return;
    project = fixture_project(
        &f, "p", "{\"auto_train\":{\"every_labels\":10},\"training\":{\"seed\":42,\"settings\":{\"epochs\":2}}}");
    CHECK(fixture_fill(&f, &(struct fixture_data){project, 20, 2, FORWARD, false}));
    trainers_labels_written(f.service->trainers, project, 9);
    fixture_stop(&f); /* what is counted in memory is found again: 40 labels and 20 gold since no run */
    if (!fixture_start(&f))
        goto done;
    trainers_labels_written(f.service->trainers, project, 1);
    trainers_labels_written(f.service->trainers, project, 30);
    CHECK(fixture_wait(&f, 1, RUN_QUEUED));
    trainers_labels_written(f.service->trainers, project, 40);
    fixture_stop(&f); /* all jobs are done */
    if (!fixture_start(&f))
        goto done;
    json = look(&f, project, 1, &view);
    CHECK_INT(json_integer_value(json_object_get(json, "seed")), 42);
    json_decref(json);
    CHECK_INT(fixture_state(&f, 2), RUN_STATES); /* equal queued runs are one: there is no second */
done:
    fixture_done(&f);
}

static void train_somehow(enum fixture_order order, unsigned trainers, int ensemble, bool flip_gold, char hash[65])
{
    struct fixture f;
    struct run_request request;
    int64_t project;

    hash[0] = '\0';
    if (!fixture_init(&f, trainers))
        return;
    project = fixture_project(&f, "p", NULL);
    CHECK(fixture_fill(&f, &(struct fixture_data){project, 100, 4, order, flip_gold}));
    fixture_request(&request, 4);
    request.ensemble = ensemble;
    CHECK(fixture_wait(&f, fixture_queue(&f, project, &request), RUN_SUCCEEDED));
    fixture_model_hash(&f, project, hash);
    fixture_done(&f);
}

TEST(order_trainers_and_gold_change_no_byte_of_the_model)
{
    char reference[65], other[65];

    train_somehow(FORWARD, 1, 3, false, reference);
    CHECK_INT(strlen(reference), 64);
    train_somehow(BACKWARD, 1, 3, false, other);
    CHECK_STR(other, reference);
    train_somehow(SHUFFLED, 4, 3, false, other);
    CHECK_STR(other, reference);
    train_somehow(FORWARD, 2, 3, true, other);
    CHECK_STR(other, reference);
    train_somehow(FORWARD, 1, 1, false, other);
    CHECK(strcmp(other, reference) != 0); /* and the comparison is not of nothing with nothing */
}

TEST(projects_train_side_by_side)
{
    struct fixture f;
    struct run_request request;
    struct amx_error err;
    struct cancel c;
    int64_t slow, quick, long_run;

    if (!fixture_init(&f, 2))
        return;
    slow = fixture_project(&f, "slow", NULL);
    quick = fixture_project(&f, "quick", NULL);
    CHECK(fixture_fill(&f, &(struct fixture_data){slow, 100, 3, FORWARD, false}));
    CHECK(fixture_fill(&f, &(struct fixture_data){quick, 50, 3, FORWARD, false}));
    fixture_request(&request, LONG_RUN);
    long_run = fixture_queue(&f, slow, &request);
    CHECK(fixture_wait_progress(&f, long_run));
    request.settings.epochs = 2;
    CHECK(fixture_wait(&f, fixture_queue(&f, quick, &request), RUN_SUCCEEDED));
    CHECK_INT(fixture_state(&f, long_run), RUN_RUNNING);
    trainers_project_deleted(f.service->trainers, slow); /* stops it, too */
    CHECK(fixture_wait(&f, long_run, RUN_CANCELLED));
    c = (struct cancel){.project_id = slow, .number = 1};
    CHECK_INT(fixture_write(&f, cancel_run, &c, &err), AMX_OK);
    CHECK_INT(c.what, RUN_CANCEL_ALREADY);
    fixture_done(&f);
}
