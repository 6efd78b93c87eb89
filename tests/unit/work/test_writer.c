/* The writer's thread: groups, outcomes, fairness, trouble, the end. */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "store/changes.h"
#include "store/labels.h"
#include "store/meta.h"
#include "store/projects.h"
#include "store/store.h"
#include "test.h"
#include "util/clock.h"
#include "util/error.h"
#include "work/writer.h"
#include "writer_bench.h"

/* ---- tests ---- */

TEST(writer_run_tells_what_became_of_the_job)
{
    struct bench b;
    struct counted good = {.job = {.apply = bench_write_row}, .key = "good"};
    struct counted bad = {.job = {.apply = bench_write_row}, .key = "bad", .fails = AMX_CONFLICT};

    bench_open(&b, 0);
    CHECK_INT(writer_run(b.writer, &good.job), AMX_OK);
    CHECK_INT(writer_run(b.writer, &bad.job), AMX_CONFLICT);
    CHECK_STR(bad.job.error.text, "asked to fail");
    CHECK(bench_has_row(&b, "good"));
    CHECK(!bench_has_row(&b, "bad"));
    bench_close(&b);
}

TEST(writer_undoes_only_the_jobs_that_fail)
{
    enum {
        N = 40
    };
    struct bench b;
    struct gate gate;
    static struct counted jobs[N];
    static char keys[N][16];
    atomic_int done = 0;
    struct writer_stats before, after;

    bench_open(&b, 0);
    gate_close(&gate, b.writer);
    writer_get_stats(b.writer, &before);
    for (int i = 0; i < N; i++) {
        (void)snprintf(keys[i], sizeof(keys[i]), "k%d", i);
        jobs[i] = (struct counted){.job = {.apply = bench_write_row, .done = bench_is_done, .project_id = i % 3},
                                   .key = keys[i],
                                   .fails = i % 4 == 0 ? AMX_INVALID : AMX_OK,
                                   .done = &done};
        CHECK_INT(writer_submit(b.writer, &jobs[i].job), AMX_OK);
    }
    gate_open(&gate);
    bench_settle(&b, &done, N);
    writer_get_stats(b.writer, &after);
    CHECK(after.groups < before.groups + N); /* they shared transactions */
    for (int i = 0; i < N; i++) {
        CHECK_INT(jobs[i].job.status, i % 4 == 0 ? AMX_INVALID : AMX_OK);
        CHECK(bench_has_row(&b, keys[i]) == (i % 4 != 0));
    }
    bench_close(&b);
}

TEST(writer_queue_has_an_end)
{
    struct bench b;
    struct gate gate;
    struct counted jobs[4];
    atomic_int done = 0;
    struct writer_stats stats;

    bench_open(&b, 3);
    gate_close(&gate, b.writer);
    for (int i = 0; i < 4; i++) {
        jobs[i] = (struct counted){.job = {.apply = bench_write_row, .done = bench_is_done}, .key = "x", .done = &done};
        CHECK_INT(writer_submit(b.writer, &jobs[i].job), i < 3 ? AMX_OK : AMX_BUSY);
    }
    writer_get_stats(b.writer, &stats);
    CHECK_INT(stats.queue_depth, 3);
    gate_open(&gate);
    bench_settle(&b, &done, 3);
    CHECK_INT(done, 3);
    bench_close(&b);
}

/* A hundred batches of one project wait; a single write of the same project and one of another come last. */
TEST(writer_lets_single_writes_pass_batches)
{
    enum {
        BATCHES = 100
    };
    struct bench b;
    struct gate gate;
    static struct counted batches[BATCHES];
    struct counted same, other;
    atomic_int done = 0, at = 0;

    bench_open(&b, 0);
    gate_close(&gate, b.writer);
    for (int i = 0; i < BATCHES; i++) {
        batches[i] = (struct counted){.job = {.apply = bench_write_row, .done = bench_is_done, .project_id = 1, .rows = 1000},
                                      .key = "batch",
                                      .done = &done,
                                      .at = &at};
        CHECK_INT(writer_submit(b.writer, &batches[i].job), AMX_OK);
    }
    same = (struct counted){
        .job = {.apply = bench_write_row, .done = bench_is_done, .project_id = 1}, .key = "s", .done = &done, .at = &at};
    other = (struct counted){.job = {.apply = bench_write_row, .done = bench_is_done, .project_id = 2, .rows = 1000},
                             .key = "o",
                             .done = &done,
                             .at = &at};
    CHECK_INT(writer_submit(b.writer, &same.job), AMX_OK);
    CHECK_INT(writer_submit(b.writer, &other.job), AMX_OK);
    gate_open(&gate);
    bench_settle(&b, &done, BATCHES + 2);
    CHECK(same.order <= WRITER_BULK_ROWS / 1000 + 2);
    CHECK(other.order <= WRITER_BULK_ROWS / 1000 + 2);
    for (int i = 1; i < BATCHES; i++)
        CHECK(batches[i].order > batches[i - 1].order); /* batches keep their order */
    bench_close(&b);
}

static void limit_files(rlim_t bytes)
{
    struct rlimit limit;

    CHECK(getrlimit(RLIMIT_FSIZE, &limit) == 0);
    limit.rlim_cur = bytes < limit.rlim_max ? bytes : limit.rlim_max;
    CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
}

TEST(writer_goes_read_only_when_full_and_comes_back)
{
    struct bench b;
    struct writer_stats stats;
    struct counted job = {.job = {.apply = bench_write_row}, .key = "after"};
    static char key[8001];
    enum amx_status status = AMX_OK;
    int written = 0;

    bench_open(&b, 0);
    (void)signal(SIGXFSZ, SIG_IGN); /* a file over the limit is then an error of write() */
    limit_files(1000000);
    memset(key, 'k', sizeof(key) - 1);
    for (; written < 500 && status == AMX_OK; written++) {
        struct counted big = {.job = {.apply = bench_write_row}, .key = key};
        key[written / 20] = (char)('a' + written % 20); /* another one each time */
        status = writer_run(b.writer, &big.job);
    }
    CHECK_INT(status, AMX_FULL);
    CHECK(written > 5);
    writer_get_stats(b.writer, &stats);
    CHECK(stats.read_only);
    CHECK_INT(stats.why, AMX_FULL);
    CHECK_INT(writer_run(b.writer, &job.job), AMX_FULL);
    CHECK_INT(writer_submit(b.writer, &job.job), AMX_FULL);
    CHECK(!bench_has_row(&b, "after"));
    limit_files(RLIM_INFINITY);
    /* Five seconds are over for the program's clock; the thread looks at it when it wakes by itself. */
    clock_test_advance_ms(6000);
    do {
        (void)usleep(10000);
        writer_get_stats(b.writer, &stats);
    } while (stats.read_only);
    CHECK_INT(stats.why, AMX_OK);
    CHECK_INT(writer_run(b.writer, &job.job), AMX_OK);
    CHECK(bench_has_row(&b, "after"));
    CHECK_INT(store_check(b.store, NULL, &b.err), AMX_OK);
    bench_close(&b);
}

static enum amx_status claim_corruption(struct db *db, struct write_job *job)
{
    db_rollback(db); /* as SQLite does itself when it finds the file corrupt */
    return error_set(&job->error, AMX_CORRUPT, "database disk image is malformed");
}

TEST(writer_stays_read_only_when_corrupt)
{
    struct bench b;
    struct writer_stats stats;
    struct write_job bad = {.apply = claim_corruption};
    struct counted job = {.job = {.apply = bench_write_row}, .key = "x"};

    bench_open(&b, 0);
    CHECK_INT(writer_run(b.writer, &bad), AMX_CORRUPT);
    writer_get_stats(b.writer, &stats);
    CHECK(stats.read_only);
    CHECK_INT(writer_run(b.writer, &job.job), AMX_CORRUPT);
    bench_close(&b);
}

/* When the transaction is lost, everybody in the group is told to send it again. */
static enum amx_status lose_transaction(struct db *db, struct write_job *job)
{
    db_rollback(db);
    return error_set(&job->error, AMX_IO, "disk I/O error");
}

TEST(writer_tells_the_whole_group_when_it_is_lost)
{
    struct bench b;
    struct gate gate;
    atomic_int done = 0;
    struct counted before = {.job = {.apply = bench_write_row, .done = bench_is_done}, .key = "before", .done = &done};
    struct counted bad = {.job = {.apply = lose_transaction, .done = bench_is_done}, .key = "bad", .done = &done};
    struct counted after = {.job = {.apply = bench_write_row, .done = bench_is_done}, .key = "after", .done = &done};

    bench_open(&b, 0);
    gate_close(&gate, b.writer);
    CHECK_INT(writer_submit(b.writer, &before.job), AMX_OK);
    CHECK_INT(writer_submit(b.writer, &bad.job), AMX_OK);
    CHECK_INT(writer_submit(b.writer, &after.job), AMX_OK);
    gate_open(&gate);
    bench_settle(&b, &done, 3);
    CHECK_INT(before.job.status, AMX_BUSY);
    CHECK_INT(bad.job.status, AMX_IO);
    CHECK_INT(after.job.status, AMX_BUSY);
    CHECK(!bench_has_row(&b, "before") && !bench_has_row(&b, "after"));
    bench_close(&b);
}

/* ---- jobs that are applied together ---- */

enum {
    ALIKE = 5
};

struct alike {
    struct counted counted[ALIKE + 2]; /* before, ALIKE of a kind, after */
    char keys[ALIKE + 2][16];
    atomic_int done;
    int calls, together; /* of write_alike; jobs in the last of them */
    enum amx_status fails;
    bool loses;
};
static struct alike alike;

/* Writes a row for each but those that are to fail; then all of it may fail. */
static enum amx_status write_alike(struct db *db, struct write_job *first, size_t n, struct amx_error *err)
{
    struct write_job *job = first;

    alike.calls++;
    alike.together = (int)n;
    for (size_t i = 0; i < n; i++, job = job->next) {
        struct counted *c = (struct counted *)job;
        job->status = c->fails;
        if (c->fails == AMX_OK)
            CHECK_INT(meta_set(db, c->key, bench_text("together"), err), AMX_OK);
        else
            job->status = error_set(&job->error, c->fails, "asked to fail");
    }
    if (alike.loses)
        db_rollback(db);
    return alike.fails == AMX_OK ? AMX_OK : error_set(err, alike.fails, "all of them");
}

/* ALIKE jobs of one kind; beside: with another job on either side. The third fails. */
static void run_alike(struct bench *b, bool beside, enum amx_status fails, bool loses)
{
    struct gate gate;
    int n = 0;

    memset(&alike, 0, sizeof(alike));
    alike.fails = fails;
    alike.loses = loses;
    bench_open(b, 0);
    gate_close(&gate, b->writer);
    for (int i = beside ? 0 : 1; i < (beside ? ALIKE + 2 : ALIKE + 1); i++, n++) {
        (void)snprintf(alike.keys[i], sizeof(alike.keys[i]), "k%d", i);
        alike.counted[i] = (struct counted){
            .job = {.apply = bench_write_row, .done = bench_is_done}, .key = alike.keys[i], .done = &alike.done};
        if (i > 0 && i <= ALIKE)
            alike.counted[i].job.together = write_alike;
        if (i == 3)
            alike.counted[i].fails = AMX_INVALID;
        CHECK_INT(writer_submit(b->writer, &alike.counted[i].job), AMX_OK);
    }
    gate_open(&gate);
    while (alike.done < n) /* nothing else may join their group */
        (void)sched_yield();
}

static bool row_is(struct bench *b, int i, const char *value)
{
    struct db *db;
    AUTO(buf) found = BUF_INIT(64);

    CHECK_INT(store_reader_get(b->store, &db, &b->err), AMX_OK);
    enum amx_status status = meta_get(db, alike.keys[i], &found, &b->err);
    store_reader_put(b->store, db);
    return status == AMX_OK && strcmp(buf_string(&found), value) == 0;
}

static void check_alike(bool beside, enum amx_status fails, const char *value)
{
    struct bench b;

    run_alike(&b, beside, fails, false);
    CHECK_INT(alike.calls, 1);
    CHECK_INT(alike.together, ALIKE);
    for (int i = 1; i <= ALIKE; i++) {
        CHECK_INT(alike.counted[i].job.status, i == 3 ? AMX_INVALID : AMX_OK);
        CHECK(i == 3 ? !bench_has_row(&b, alike.keys[i]) : row_is(&b, i, value));
    }
    CHECK_STR(alike.counted[3].job.error.text, "asked to fail");
    if (beside)
        CHECK(row_is(&b, 0, "1") && row_is(&b, ALIKE + 1, "1"));
    bench_close(&b);
}

TEST(writer_applies_jobs_of_a_kind_together)
{
    check_alike(false, AMX_OK, "together");
    check_alike(true, AMX_OK, "together");
}

/* Jobs of two projects that come by turns. */
TEST(writer_applies_jobs_of_each_project_together)
{
    struct bench b;
    struct gate gate;

    memset(&alike, 0, sizeof(alike));
    bench_open(&b, 0);
    gate_close(&gate, b.writer);
    for (int i = 0; i < 6; i++) {
        (void)snprintf(alike.keys[i], sizeof(alike.keys[i]), "k%d", i);
        alike.counted[i] = (struct counted){
            .job = {.apply = bench_write_row, .together = write_alike, .done = bench_is_done, .project_id = 7 + i % 2},
            .key = alike.keys[i],
            .done = &alike.done};
        CHECK_INT(writer_submit(b.writer, &alike.counted[i].job), AMX_OK);
    }
    gate_open(&gate);
    while (alike.done < 6)
        (void)sched_yield();
    CHECK_INT(alike.calls, 2);
    CHECK_INT(alike.together, 3);
    for (int i = 0; i < 6; i++)
        CHECK(alike.counted[i].job.status == AMX_OK && row_is(&b, i, "together"));
    bench_close(&b);
}

TEST(writer_applies_jobs_one_by_one_when_they_fail_together)
{
    check_alike(false, AMX_NO_MEMORY, "1");
    check_alike(true, AMX_NO_MEMORY, "1");
}

TEST(writer_tells_the_whole_group_when_jobs_lose_it_together)
{
    struct bench b;

    run_alike(&b, true, AMX_IO, true);
    CHECK_INT(alike.calls, 1);
    for (int i = 0; i < ALIKE + 2; i++) {
        CHECK_INT(alike.counted[i].job.status, i == 3 ? AMX_INVALID : AMX_BUSY);
        CHECK(!bench_has_row(&b, alike.keys[i]));
    }
    bench_close(&b);
}

TEST(writer_stop_finishes_what_waits)
{
    struct bench b;
    struct gate gate;
    static struct counted jobs[1000];
    atomic_int done = 0;

    bench_open(&b, 0);
    gate_close(&gate, b.writer);
    for (int i = 0; i < 1000; i++) {
        jobs[i] = (struct counted){
            .job = {.apply = bench_write_row, .done = bench_is_done, .project_id = i % 7}, .key = "x", .done = &done};
        CHECK_INT(writer_submit(b.writer, &jobs[i].job), AMX_OK);
    }
    gate_open(&gate);
    bench_close(&b);
    CHECK_INT(done, 1000);
    for (int i = 0; i < 1000; i++)
        CHECK_INT(jobs[i].job.status, AMX_OK);
}

TEST(writer_tells_how_long_it_has_been_at_one_thing)
{
    struct bench b;
    struct gate gate;
    struct writer_stats stats = {.busy_seconds = 0};

    bench_open(&b, 0);
    gate_close(&gate, b.writer); /* a job that does not come back */
    while (stats.busy_seconds <= 0.002)
        writer_get_stats(b.writer, &stats);
    gate_open(&gate);
    while (stats.busy_seconds > 0) /* it goes to sleep again */
        writer_get_stats(b.writer, &stats);
    writer_get_stats(b.writer, &stats); /* the figures of that call may be older than its sleep */
    CHECK(stats.groups >= 1);
    bench_close(&b);
}

/* ---- idle work ---- */

struct idle {
    atomic_int left, calls;
};

static enum amx_status idle_work(struct db *db, void *context, bool *worked, struct amx_error *err)
{
    struct idle *idle = context;

    idle->calls++;
    *worked = idle->left > 0;
    if (!*worked)
        return AMX_OK;
    idle->left--;
    return meta_set(db, "idle", (struct slice){"1", 1}, err);
}

TEST(writer_does_idle_work_until_nothing_is_left)
{
    struct bench b;
    static struct idle idle;
    struct counted job = {.job = {.apply = bench_write_row}, .key = "x"};

    bench_open(&b, 0);
    idle.left = 5;
    CHECK_INT(writer_on_idle(b.writer, idle_work, &idle), AMX_OK);
    CHECK_INT(writer_run(b.writer, &job.job), AMX_OK);
    while (idle.left > 0 || idle.calls < 6)
        (void)usleep(5000); /* its own thread gets there; nothing here is timed */
    CHECK(bench_has_row(&b, "idle"));
    bench_close(&b);
}

/* ---- many threads, and a recount ---- */

enum {
    THREADS = 8,
    EACH = 300
};

struct labelling {
    struct write_job job;
    int64_t project;
    char instance[16], annotator[16];
    int class_index;
};

static enum amx_status apply_label(struct db *db, struct write_job *job)
{
    struct labelling *l = (struct labelling *)job;
    struct changes ch;
    struct label_result r;
    struct label_put put = {.instance = bench_text(l->instance),
                            .annotator = bench_text(l->annotator),
                            .class_index = l->class_index,
                            .duration_ms = -1,
                            .create_instance = l->class_index == 0};
    enum amx_status status = changes_begin(db, l->project, clock_wall_ms(), &ch, &job->error);

    if (status == AMX_OK)
        status = labels_put(&ch, &put, &r, &job->error);
    return status == AMX_OK ? changes_flush(&ch, &job->error) : status;
}

struct labeller {
    struct bench *bench;
    int number, written, unknown;
};

static void *label_often(void *context)
{
    struct labeller *me = context;

    for (int i = 0; i < EACH; i++) {
        struct labelling l = {.job = {.apply = apply_label, .project_id = me->bench->project},
                              .project = me->bench->project,
                              .class_index = i % 2};
        (void)snprintf(l.instance, sizeof(l.instance), "i%d", i / 2);
        (void)snprintf(l.annotator, sizeof(l.annotator), "a%d-%d", me->number, i % 2);
        enum amx_status status = writer_run(me->bench->writer, &l.job);
        me->written += status == AMX_OK;
        me->unknown += status == AMX_NOT_FOUND;
    }
    return NULL;
}

TEST(writer_counts_right_from_many_threads)
{
    struct bench b;
    pthread_t threads[THREADS];
    struct labeller labellers[THREADS];
    struct project_row row;
    int64_t written = 0, unknown = 0;

    bench_open(&b, 0);
    for (int i = 0; i < THREADS; i++) {
        labellers[i] = (struct labeller){.bench = &b, .number = i};
        CHECK(pthread_create(&threads[i], NULL, label_often, &labellers[i]) == 0);
    }
    for (int i = 0; i < THREADS; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
        written += labellers[i].written;
        unknown += labellers[i].unknown;
    }
    CHECK_INT(written + unknown, THREADS * EACH);
    writer_halt(b.writer);
    writer_free(b.writer);
    b.writer = NULL;
    CHECK_INT(projects_get(store_writer(b.store), b.project, &row, &b.err), AMX_OK);
    CHECK_INT(row.counts.labels, written);
    CHECK_INT(row.label_seq, written);
    CHECK_INT(row.counts.instances, EACH / 2);
    project_row_done(&row);
    CHECK_INT(store_check(b.store, NULL, &b.err), AMX_OK);
    bench_close(&b);
}
