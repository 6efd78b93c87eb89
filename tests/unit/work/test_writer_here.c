/* Jobs that another thread does in the writer's place: alone, beside queued ones, failing, at the end. */
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "store/changes.h"
#include "store/labels.h"
#include "store/meta.h"
#include "store/projects.h"
#include "test.h"
#include "util/clock.h"
#include "util/error.h"
#include "writer_bench.h"

/* Offers the job until the writer's thread sleeps; false: it never let go. Small jobs in between make the moving average
 * of a slow moment go down. */
static bool do_here(struct writer *writer, struct write_job *job)
{
    for (int i = 0; i < 20000; i++) {
        struct counted other = {.job = {.apply = bench_write_row}, .key = "other"};
        if (writer_run_here(writer, job))
            return true;
        (void)sched_yield();
        if (i % 100 == 99 && writer_run(writer, &other.job) != AMX_OK)
            return false;
    }
    return false;
}

static pthread_t done_by;

static void note_thread(struct write_job *job)
{
    done_by = pthread_self();
    bench_is_done(job);
}

TEST(writer_here_does_the_job_in_the_calling_thread)
{
    struct bench b;
    atomic_int done = 0;
    struct writer_stats before, after;

    bench_open(&b, 0);
    struct counted good = {.job = {.apply = bench_write_row, .done = note_thread}, .key = "good", .done = &done};
    struct counted bad = {
        .job = {.apply = bench_write_row, .done = note_thread}, .key = "bad", .fails = AMX_CONFLICT, .done = &done};
    struct counted next = {.job = {.apply = bench_write_row, .done = note_thread}, .key = "next", .done = &done};
    writer_get_stats(b.writer, &before);
    CHECK(do_here(b.writer, &good.job));
    CHECK_INT(done, 1);
    CHECK(pthread_equal(done_by, pthread_self()));
    CHECK_INT(good.job.status, AMX_OK);
    CHECK(bench_has_row(&b, "good"));
    writer_get_stats(b.writer, &after);
    CHECK(after.groups > before.groups && after.jobs > before.jobs);
    CHECK(do_here(b.writer, &bad.job));
    CHECK_INT(bad.job.status, AMX_CONFLICT);
    CHECK_STR(bad.job.error.text, "asked to fail");
    CHECK(!bench_has_row(&b, "bad"));
    CHECK(do_here(b.writer, &next.job)); /* a job's own failure is nobody else's */
    CHECK_INT(next.job.status, AMX_OK);
    CHECK(bench_has_row(&b, "next"));
    CHECK_INT(done, 3);
    do
        writer_get_stats(b.writer, &after);
    while (after.busy_seconds > 0); /* nobody is at anything any more */
    bench_close(&b);
}

TEST(writer_here_leaves_a_busy_writer_alone)
{
    struct bench b;
    struct gate gate;
    atomic_int done = 0;
    struct counted job = {.job = {.apply = bench_write_row, .done = bench_is_done}, .key = "x", .done = &done};

    bench_open(&b, 0);
    gate_close(&gate, b.writer);
    for (int i = 0; i < 100; i++)
        CHECK(!writer_run_here(b.writer, &job.job));
    CHECK_INT(done, 0);
    gate_open(&gate);
    bench_close(&b);
    CHECK_INT(done, 0);
}

/* ---- a thread that is at it ---- */

struct borrower {
    struct writer *writer;
    struct gate gate;
    pthread_t thread;
    bool did;
};

static void *borrow_main(void *context)
{
    struct borrower *me = context;

    me->did = do_here(me->writer, &me->gate.job);
    return NULL;
}

static void borrow(struct borrower *me, struct writer *writer,
                   enum amx_status (*then)(struct db *db, struct write_job *job))
{
    me->writer = writer;
    me->did = false;
    gate_init(&me->gate);
    me->gate.then = then;
    CHECK(pthread_create(&me->thread, NULL, borrow_main, me) == 0);
    gate_await(&me->gate);
}

static void give_back(struct borrower *me)
{
    gate_open(&me->gate);
    CHECK(pthread_join(me->thread, NULL) == 0);
    CHECK(me->did);
}

TEST(writer_here_goes_before_what_is_queued_behind_it)
{
    enum {
        N = 20
    };
    struct bench b;
    struct borrower borrower;
    struct writer_stats stats = {.busy_seconds = 0};
    static struct counted jobs[N];
    struct counted here = {.job = {.apply = bench_write_row}, .key = "here"};
    atomic_int done = 0, at = 0;

    bench_open(&b, 0);
    borrow(&borrower, b.writer, NULL);
    while (stats.busy_seconds <= 0.002) /* its time counts as the writer's */
        writer_get_stats(b.writer, &stats);
    for (int i = 0; i < N; i++) {
        jobs[i] = (struct counted){
            .job = {.apply = bench_write_row, .done = bench_is_done}, .key = "x", .done = &done, .at = &at};
        CHECK_INT(writer_submit(b.writer, &jobs[i].job), AMX_OK);
        CHECK(!writer_run_here(b.writer, &here.job));
    }
    writer_get_stats(b.writer, &stats);
    CHECK_INT(stats.queue_depth, N);
    CHECK_INT(done, 0);
    give_back(&borrower);
    bench_settle(&b, &done, N);
    for (int i = 0; i < N; i++)
        CHECK(jobs[i].job.status == AMX_OK && jobs[i].order == i + 1);
    CHECK(do_here(b.writer, &here.job)); /* and all is as before */
    bench_close(&b);
}

static enum amx_status claim_corruption(struct db *db, struct write_job *job)
{
    db_rollback(db); /* as SQLite does itself when it finds the file corrupt */
    return error_set(&job->error, AMX_CORRUPT, "database disk image is malformed");
}

TEST(writer_here_failing_makes_it_read_only)
{
    struct bench b;
    struct borrower borrower;
    struct writer_stats stats;
    atomic_int done = 0;
    struct counted behind = {.job = {.apply = bench_write_row, .done = bench_is_done}, .key = "behind", .done = &done};

    bench_open(&b, 0);
    borrow(&borrower, b.writer, claim_corruption);
    CHECK_INT(writer_submit(b.writer, &behind.job), AMX_OK);
    give_back(&borrower);
    CHECK_INT(borrower.gate.job.status, AMX_CORRUPT);
    while (done == 0)
        (void)sched_yield();
    CHECK_INT(behind.job.status, AMX_CORRUPT); /* not tried any more */
    CHECK(!bench_has_row(&b, "behind"));
    writer_get_stats(b.writer, &stats);
    CHECK(stats.read_only);
    CHECK(!writer_run_here(b.writer, &behind.job));
    CHECK_INT(writer_submit(b.writer, &behind.job), AMX_CORRUPT);
    bench_close(&b);
}

static enum amx_status lose_transaction(struct db *db, struct write_job *job)
{
    db_rollback(db);
    return error_set(&job->error, AMX_IO, "disk I/O error");
}

TEST(writer_here_failing_once_goes_on)
{
    struct bench b;
    struct borrower borrower;
    atomic_int done = 0;
    struct counted behind = {.job = {.apply = bench_write_row, .done = bench_is_done}, .key = "behind", .done = &done};

    bench_open(&b, 0);
    borrow(&borrower, b.writer, lose_transaction);
    CHECK_INT(writer_submit(b.writer, &behind.job), AMX_OK);
    give_back(&borrower);
    CHECK_INT(borrower.gate.job.status, AMX_IO);
    bench_settle(&b, &done, 1);
    CHECK_INT(behind.job.status, AMX_OK);
    CHECK(bench_has_row(&b, "behind"));
    bench_close(&b);
}

static void *halt_main(void *context)
{
    writer_halt(context);
    return NULL;
}

TEST(writer_here_is_waited_for_when_it_stops)
{
    struct bench b;
    struct borrower borrower;
    pthread_t halting;
    atomic_int done = 0;
    enum amx_status status = AMX_OK;
    int queued = 0;
    static struct counted jobs[1000];

    bench_open(&b, 1000);
    borrow(&borrower, b.writer, NULL);
    CHECK(pthread_create(&halting, NULL, halt_main, b.writer) == 0);
    for (; status == AMX_OK && queued < 1000; queued++) { /* until it stops, or the queue is full */
        jobs[queued] =
            (struct counted){.job = {.apply = bench_write_row, .done = bench_is_done}, .key = "q", .done = &done};
        status = writer_submit(b.writer, &jobs[queued].job);
        (void)sched_yield();
    }
    queued -= status != AMX_OK;
    CHECK_INT(done, 0);
    give_back(&borrower);
    CHECK_INT(borrower.gate.job.status, AMX_OK);
    CHECK(pthread_join(halting, NULL) == 0);
    CHECK_INT(done, queued); /* what was taken is done */
    for (int i = 0; i < queued; i++)
        CHECK_INT(jobs[i].job.status, AMX_OK);
    CHECK(!writer_run_here(b.writer, &jobs[0].job));
    CHECK_INT(writer_submit(b.writer, &jobs[0].job), AMX_BUSY);
    writer_free(b.writer);
    b.writer = NULL;
    bench_close(&b);
}

/* ---- a slow disk ---- */

static enum amx_status take_long(struct db *db, struct write_job *job)
{
    const struct timespec pause = {.tv_nsec = 40000000};

    (void)nanosleep(&pause, NULL);
    return bench_write_row(db, job);
}

TEST(writer_here_not_while_the_disk_is_slow)
{
    struct bench b;
    struct counted quick = {.job = {.apply = bench_write_row}, .key = "quick"};
    struct counted slow = {.job = {.apply = take_long}, .key = "slow"};

    bench_open(&b, 0);
    CHECK(do_here(b.writer, &quick.job));
    CHECK_INT(writer_run(b.writer, &slow.job), AMX_OK);
    for (int i = 0; i < 1000; i++) {
        CHECK(!writer_run_here(b.writer, &quick.job));
        (void)sched_yield();
    }
    CHECK(do_here(b.writer, &quick.job)); /* quick ones in between */
    bench_close(&b);
}

/* ---- what the thread does beside ---- */

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
    return meta_set(db, "idle", bench_text("1"), err);
}

/* The thread sleeps for a minute when all is done; a job beside it makes idle work due all the same. */
TEST(writer_here_makes_idle_work_due)
{
    struct bench b;
    static struct idle idle;
    struct writer_stats stats;
    struct counted job = {.job = {.apply = bench_write_row}, .key = "x"};

    bench_open(&b, 0);
    CHECK_INT(writer_on_idle(b.writer, idle_work, &idle), AMX_OK);
    do {
        (void)sched_yield();
        writer_get_stats(b.writer, &stats);
    } while (stats.last_checkpoint_seconds <= 0 || stats.busy_seconds > 0); /* the log is emptied last */
    idle.left = 3;
    int calls = idle.calls;
    CHECK(do_here(b.writer, &job.job));
    while (idle.left > 0 || idle.calls < calls + 4)
        (void)sched_yield();
    CHECK(bench_has_row(&b, "idle"));
    bench_close(&b);
}

static enum amx_status write_much(struct db *db, struct write_job *job)
{
    static char much[1 << 16]; /* other bytes each time: what is not changed is not written */

    memset(much, much[0] == 'm' ? 'n' : 'm', sizeof(much));
    return meta_set(db, ((struct counted *)job)->key, (struct slice){much, sizeof(much)}, &job->error);
}

/* Jobs without a pause: the log is copied back by the thread, again and again. */
TEST(writer_here_leaves_checkpoints_to_the_thread)
{
    struct bench b;
    struct writer_stats stats;
    struct counted job = {.job = {.apply = write_much}, .key = "much"};
    int64_t highest = 0;

    bench_open(&b, 0);
    bool did = true;
    for (int i = 0; did && i < 500; i++) {
        did = do_here(b.writer, &job.job) && job.job.status == AMX_OK;
        writer_get_stats(b.writer, &stats);
        highest = highest > stats.wal_bytes ? highest : stats.wal_bytes;
    }
    CHECK(did);
    CHECK(highest > (int64_t)8 << 20);
    CHECK(highest < (int64_t)20 << 20); /* of 31 MiB written */
    bench_close(&b);
}

/* ---- many threads, and a recount ---- */

enum {
    THREADS = 4,
    EACH = 400
};

struct labelling {
    struct write_job job;
    int64_t project;
    char instance[16], annotator[16];
    atomic_int *done;
};

static enum amx_status apply_label(struct db *db, struct write_job *job)
{
    struct labelling *l = (struct labelling *)job;
    struct changes ch;
    struct label_result r;
    struct label_put put = {.instance = bench_text(l->instance),
                            .annotator = bench_text(l->annotator),
                            .duration_ms = -1,
                            .create_instance = true};
    enum amx_status status = changes_begin(db, l->project, clock_wall_ms(), &ch, &job->error);

    if (status == AMX_OK)
        status = labels_put(&ch, &put, &r, &job->error);
    return status == AMX_OK ? changes_flush(&ch, &job->error) : status;
}

static void count_done(struct write_job *job)
{
    ++*((struct labelling *)job)->done;
}

struct labeller {
    struct bench *bench;
    int number, here;
    atomic_int *done;
};

/* Here when it can be, queued otherwise; every seventh is waited for. */
static void *label_often(void *context)
{
    static struct labelling labels[THREADS][EACH];
    struct labeller *me = context;

    for (int i = 0; i < EACH; i++) {
        struct labelling *l = &labels[me->number][i];
        *l = (struct labelling){.job = {.apply = apply_label, .done = count_done, .project_id = me->bench->project},
                                .project = me->bench->project,
                                .done = me->done};
        (void)snprintf(l->instance, sizeof(l->instance), "i%d", i);
        (void)snprintf(l->annotator, sizeof(l->annotator), "a%d", me->number);
        if (writer_run_here(me->bench->writer, &l->job)) {
            CHECK_INT(l->job.status, AMX_OK);
            me->here++;
        } else if (i % 7 == 0) {
            CHECK_INT(writer_run(me->bench->writer, &l->job), AMX_OK);
            ++*me->done;
        } else {
            CHECK_INT(writer_submit(me->bench->writer, &l->job), AMX_OK);
        }
    }
    return NULL;
}

TEST(writer_here_and_queued_count_right_together)
{
    struct bench b;
    pthread_t threads[THREADS];
    struct labeller labellers[THREADS];
    struct project_row row;
    atomic_int done = 0;

    bench_open(&b, 0);
    for (int i = 0; i < THREADS; i++) {
        labellers[i] = (struct labeller){.bench = &b, .number = i, .done = &done};
        CHECK(pthread_create(&threads[i], NULL, label_often, &labellers[i]) == 0);
    }
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    writer_halt(b.writer);
    writer_free(b.writer);
    b.writer = NULL;
    CHECK_INT(done, THREADS * EACH);
    CHECK_INT(projects_get(store_writer(b.store), b.project, &row, &b.err), AMX_OK);
    CHECK_INT(row.counts.labels, THREADS * EACH);
    CHECK_INT(row.label_seq, THREADS * EACH);
    CHECK_INT(row.counts.instances, EACH);
    project_row_done(&row);
    CHECK_INT(store_check(b.store, NULL, &b.err), AMX_OK);
    bench_close(&b);
}
