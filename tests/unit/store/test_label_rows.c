/* Labels that wait for others and labels put one by one leave the same rows, numbers, counters and answers. */
#include <stdio.h>
#include <string.h>

#include "fixture.h"
#include "store/annotators.h"
#include "test.h"

enum {
    JOBS = 60,
    JOB = 500 /* not a multiple of what one statement takes */
};

static uint64_t state;

static unsigned roll(unsigned n)
{
    state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (unsigned)(state >> 33) % n;
}

struct made {
    char instance[16], annotator[16], ref[16];
    struct label_put put;
};

/* Instances that exist and some that do not, labels that come again, late ones, skipped ones, some with a ref. The
 * first jobs go through instances in order, so that whole statements succeed. */
static void make(struct made *m, int job, int i)
{
    bool dense = job < JOBS / 3;
    unsigned n = dense ? (unsigned)(job * JOB + i) / 20 : roll(2000), a = dense ? (unsigned)i % 20 : roll(25);

    (void)snprintf(m->instance, sizeof m->instance, "i%u", n);
    (void)snprintf(m->annotator, sizeof m->annotator, "a%u", a);
    (void)snprintf(m->ref, sizeof m->ref, "r%u", roll(300));
    m->put = (struct label_put){.instance = text(m->instance),
                                .annotator = text(m->annotator),
                                .class_index = (int)roll(FIXTURE_CLASSES + 1) - 1,
                                .ref = !dense && roll(50) == 0 ? text(m->ref) : text(NULL),
                                .given_ms = roll(3) == 0 ? 1000 + roll(1000000) : 0,
                                .duration_ms = roll(4) == 0 ? (int64_t)roll(9000) : -1,
                                .create_instance = dense || roll(10) != 0};
}

/* The same job into both; every answer must be the same. */
static void run_job(struct fixture *single, struct fixture *together, int job)
{
    static struct label_result one[JOB], many[JOB];
    static struct made made[JOB];
    enum amx_status status[JOB];
    struct changes a, b;

    CHECK_INT(db_begin(single->db, &single->err), AMX_OK);
    CHECK_INT(db_begin(together->db, &together->err), AMX_OK);
    CHECK_INT(changes_begin(single->db, single->project, 1000000 + job, &a, &single->err), AMX_OK);
    CHECK_INT(changes_begin(together->db, together->project, 1000000 + job, &b, &together->err), AMX_OK);
    for (int i = 0; i < JOB; i++) {
        make(&made[i], job, i);
        status[i] = labels_put(&a, &made[i].put, &one[i], &single->err);
        CHECK_INT(labels_put_soon(&b, &made[i].put, &many[i], &together->err), status[i]);
    }
    CHECK_INT(changes_flush(&a, &single->err), AMX_OK);
    CHECK_INT(changes_flush(&b, &together->err), AMX_OK);
    for (int i = 0; i < JOB; i++) {
        if (status[i] != AMX_OK)
            continue;
        CHECK_INT(many[i].outcome, one[i].outcome);
        CHECK_INT(many[i].seq, one[i].seq);
        CHECK_INT(many[i].replaces, one[i].replaces);
        CHECK_INT(many[i].replaces_class, one[i].replaces_class);
        CHECK_INT(many[i].given_ms, one[i].given_ms);
        CHECK_INT(many[i].instance_id, one[i].instance_id);
        CHECK_INT(many[i].annotator_created, one[i].annotator_created);
        CHECK_INT(many[i].instance_created, one[i].instance_created);
    }
    /* Every fifth job is undone in both: nothing of it may be remembered. */
    if (job % 5 == 4) {
        db_rollback(single->db);
        db_rollback(together->db);
    } else {
        CHECK_INT(db_commit(single->db, &single->err), AMX_OK);
        CHECK_INT(db_commit(together->db, &together->err), AMX_OK);
    }
}

static enum amx_status collect(void *context, const struct label_row *row)
{
    struct buf *out = context;

    return buf_printf(out, "%lld %s %s %d %d %lld %lld %lld %s\n", (long long)row->seq, row->instance.bytes,
                      row->annotator.bytes, row->class_index, (int)row->state, (long long)row->given_ms,
                      (long long)row->received_ms, (long long)row->duration_ms,
                      row->ref.bytes != NULL ? row->ref.bytes : "-");
}

TEST(labels_written_together_are_the_same_as_one_by_one)
{
    struct fixture single, together;
    struct buf one = BUF_INIT(64 << 20), many = BUF_INIT(64 << 20);
    struct label_filter filters[] = {{.history = true}, {.annotator = {"a3", 2}, .history = true}};
    bool more;

    state = 20;
    fixture_init(&single, 0);
    fixture_init(&together, 0);
    for (int job = 0; job < JOBS; job++)
        run_job(&single, &together, job);
    CHECK(counters_hold(&single));
    CHECK(counters_hold(&together));
    for (size_t i = 0; i < sizeof filters / sizeof filters[0]; i++) {
        CHECK_INT(labels_list(single.db, single.project, &filters[i], 0, 1000000, collect, &one, &more, &single.err),
                  AMX_OK);
        CHECK_INT(
            labels_list(together.db, together.project, &filters[i], 0, 1000000, collect, &many, &more, &together.err),
            AMX_OK);
    }
    CHECK(one.n > 100000);
    CHECK(one.n == many.n && memcmp(one.bytes, many.bytes, one.n) == 0);
    buf_done(&one);
    buf_done(&many);
    fixture_done(&single);
    fixture_done(&together);
}

/* An unchanged file sent again takes no number, whole statements of it. */
TEST(labels_sent_again_together_write_nothing)
{
    struct fixture f;
    struct changes ch;
    static struct label_result results[1000];
    char instance[16], annotator[16];

    fixture_init(&f, 0);
    for (int round = 0; round < 2; round++) {
        CHECK_INT(db_begin(f.db, &f.err), AMX_OK);
        CHECK_INT(changes_begin(f.db, f.project, 5000 + round, &ch, &f.err), AMX_OK);
        for (int i = 0; i < 1000; i++) {
            (void)snprintf(instance, sizeof instance, "i%d", i / 10);
            (void)snprintf(annotator, sizeof annotator, "a%d", i % 10);
            const struct label_put put = {.instance = text(instance),
                                          .annotator = text(annotator),
                                          .class_index = i % 3,
                                          .duration_ms = -1,
                                          .create_instance = true};
            CHECK_INT(labels_put_soon(&ch, &put, &results[i], &f.err), AMX_OK);
        }
        CHECK_INT(changes_flush(&ch, &f.err), AMX_OK);
        CHECK_INT(db_commit(f.db, &f.err), AMX_OK);
        for (int i = 0; i < 1000; i++) {
            CHECK_INT(results[i].outcome, round == 0 ? LABEL_CREATED : LABEL_UNCHANGED);
            CHECK_INT(results[i].seq, i + 1);
            CHECK_INT(results[i].given_ms, 5000);
        }
        CHECK_INT(ask(&f, "SELECT label_seq FROM projects WHERE id = ?1"), 1000);
    }
    CHECK(counters_hold(&f));
    fixture_done(&f);
}

/* What a list by annotator gives, by pages of two. */
struct seen {
    int64_t seqs[16], instances[16];
    size_t n;
};

static enum amx_status see(void *context, const struct label_row *row)
{
    struct seen *seen = context;

    if (seen->n < 16) {
        seen->seqs[seen->n] = row->seq;
        seen->instances[seen->n] = row->instance_id;
    }
    seen->n++;
    return AMX_OK;
}

static struct seen pages_of(struct fixture *f, const char *annotator)
{
    const struct label_filter filter = {.annotator = text(annotator)};
    struct seen seen = {.n = 0};
    bool more = true;
    int64_t after = 0;

    for (int page = 0; more && page < 10; page++) {
        size_t before = seen.n;
        CHECK_INT(labels_list(f->db, f->project, &filter, after, 2, see, &seen, &more, &f->err), AMX_OK);
        CHECK(seen.n - before <= 2 && (!more || seen.n - before == 2));
        after = seen.n > 0 ? seen.seqs[(seen.n - 1) % 16] : 0;
    }
    CHECK(!more);
    return seen;
}

/* Labels on both sides of a shelf's end, with shelves between that have none of the annotator. */
TEST(label_rows_of_an_annotator_go_from_shelf_to_shelf)
{
    static const int64_t starts[] = {0, 65533, 4 * 65536, 9 * 65536 - 1}; /* label_seq before each two labels */
    struct fixture f;
    struct label_result r;
    char sql[96], name[16];
    int64_t expected[8];
    size_t n = 0;

    fixture_init(&f, 0);
    for (size_t i = 0; i < 4; i++) {
        (void)snprintf(sql, sizeof sql, "UPDATE projects SET label_seq = %lld", (long long)starts[i]);
        CHECK_INT(db_exec(f.db, sql, &f.err), AMX_OK);
        for (int j = 0; j < 2; j++) {
            (void)snprintf(name, sizeof name, "i%zu-%d", i, j);
            CHECK_INT(put_label(&f, name, "bob", 0, 0, NULL, &r), AMX_OK); /* somebody else between */
            CHECK_INT(put_label(&f, name, "ana", 1, 0, NULL, &r), AMX_OK);
            expected[n++] = r.seq;
        }
    }
    CHECK(counters_hold(&f));
    struct seen seen = pages_of(&f, "ana");
    CHECK_INT(seen.n, n);
    for (size_t i = 0; i < n && i < seen.n; i++)
        CHECK_INT(seen.seqs[i], expected[i]);
    CHECK_INT(pages_of(&f, "bob").n, n);
    CHECK_INT(delete_instance(&f, "i2-0"), AMX_OK);
    CHECK(counters_hold(&f));
    CHECK_INT(pages_of(&f, "ana").n, n - 1);
    CHECK_INT(delete_annotator(&f, "ana"), AMX_OK);
    purge(&f);
    CHECK(counters_hold(&f));
    CHECK_INT(ask(&f, "SELECT count(*) FROM labels WHERE project_id = ?1 AND state <> 2 AND annotator_id = 2"), 0);
    CHECK_INT(pages_of(&f, "bob").n, n - 1);
    fixture_done(&f);
}
