/* Every page is served by an index: no statement that answers a list sorts or scans what it does not give. Costs are
 * counted in instructions of SQLite's machine (db_work). */
#include <stdio.h>
#include <string.h>

#include "fixture.h"
#include "store/annotators.h"
#include "store/training.h"
#include "test.h"

static enum amx_status first(void *context, const struct label_row *row)
{
    int64_t *seq = context;
    *seq = row->seq;
    return AMX_OK;
}

/* The rows of EXPLAIN QUERY PLAN as one text. */
static void plan(struct fixture *f, const char *sql, struct buf *out)
{
    DB_STMT(s);
    enum db_step step = DB_ROW;

    CHECK_INT(db_use(f->db, sql, &s, &f->err), AMX_OK);
    while (s != NULL && db_step(s, &step, &f->err) == AMX_OK && step == DB_ROW)
        (void)buf_printf(out, "%s; ", db_text(s, 3).bytes);
}

TEST(plans_of_lists_use_their_indexes)
{
    static const struct {
        const char *sql, *must_have;
    } cases[] = {
        {"EXPLAIN QUERY PLAN DELETE FROM instances WHERE project_id = 1 AND id >= 5", "instances_by_id"},
        {"EXPLAIN QUERY PLAN SELECT i.id FROM instances i WHERE i.project_id = 1 AND i.id > 5 AND i.labelled = 0"
         " ORDER BY i.id LIMIT 5",
         "instances_unlabelled"},
        {"EXPLAIN QUERY PLAN SELECT i.id FROM instances i WHERE i.project_id = 1 AND i.id > 5 AND i.gold IS NOT NULL"
         " ORDER BY i.id LIMIT 5",
         "instances_gold"},
        {"EXPLAIN QUERY PLAN SELECT i.id FROM instances i WHERE i.project_id = 1 AND i.id > 5 AND i.awaiting = 1"
         " ORDER BY i.id LIMIT 5",
         "instances_awaiting"},
        {"EXPLAIN QUERY PLAN SELECT i.id FROM instances i WHERE i.project_id = 1 AND i.id > 5 AND i.split <> 0"
         " AND i.split = 2 ORDER BY i.id LIMIT 5",
         "instances_held"},
        {"EXPLAIN QUERY PLAN SELECT name FROM instances WHERE project_id = 1 ORDER BY name", "PRIMARY KEY"},
        {"EXPLAIN QUERY PLAN SELECT id FROM annotators WHERE project_id = 1 AND gone = 0 ORDER BY name",
         "annotators_by_name"},
        {"EXPLAIN QUERY PLAN SELECT l.class FROM annotator_labels x CROSS JOIN labels l WHERE x.project_id = 1"
         " AND x.shelf = 2 AND x.seq > 5 AND l.project_id = x.project_id AND l.seq = x.seq ORDER BY x.seq",
         "SEARCH l USING PRIMARY KEY (project_id=? AND seq=?)"},
        {"EXPLAIN QUERY PLAN SELECT seq FROM labels WHERE project_id = 1 AND ref IS NOT NULL AND ref = 'x' AND seq > 5"
         " ORDER BY seq",
         "labels_ref"},
    };
    struct fixture f;

    fixture_init(&f, 1);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct buf out = BUF_INIT(4000);
        plan(&f, cases[i].sql, &out);
        CHECK(strstr(buf_string(&out), cases[i].must_have) != NULL);
        CHECK(strstr(buf_string(&out), "TEMP B-TREE") == NULL);
        if (strstr(buf_string(&out), cases[i].must_have) == NULL)
            printf("%s\n", buf_string(&out));
        buf_done(&out);
    }
    fixture_done(&f);
}

/* 20,000 labels by ten annotators on 2,000 instances. */
static void fill(struct fixture *f)
{
    struct changes ch;
    struct label_result r;
    char instance[16], annotator[16];

    fixture_init(f, 0);
    CHECK_INT(db_begin(f->db, &f->err), AMX_OK);
    CHECK_INT(changes_begin(f->db, f->project, f->now, &ch, &f->err), AMX_OK);
    for (int i = 0; i < 20000; i++) {
        (void)snprintf(instance, sizeof(instance), "i%d", i % 2000);
        (void)snprintf(annotator, sizeof(annotator), "a%d", i / 2000);
        struct label_put put = {.instance = text(instance),
                                .annotator = text(annotator),
                                .class_index = i % 4,
                                .duration_ms = -1,
                                .create_instance = true};
        if (labels_put(&ch, &put, &r, &f->err) != AMX_OK)
            CHECK(false);
    }
    CHECK_INT(changes_flush(&ch, &f->err), AMX_OK);
    CHECK_INT(db_commit(f->db, &f->err), AMX_OK);
}

/* The last page of a long feed costs no more than the first, counted in instructions of SQLite's machine. */
TEST(plans_of_the_feed_do_not_walk_it)
{
    struct fixture f;
    int64_t seq = 0;
    bool more;

    fill(&f);
    CHECK(counters_hold(&f));
    static const struct label_filter filters[] = {
        {.tombstones = true}, {.history = true}, {.annotator = {"a9", 2}}, {.instance = {"i1990", 5}, .history = true}};
    for (size_t i = 0; i < sizeof(filters) / sizeof(filters[0]); i++) {
        int64_t before = db_work(f.db);
        CHECK_INT(labels_list(f.db, f.project, &filters[i], 19900, 5, first, &seq, &more, &f.err), AMX_OK);
        CHECK(seq > 19900);
        CHECK(db_work(f.db) - before < 1000);
    }
    fixture_done(&f);
}

/* What is done for one instance looks at its labels, not at the project's. */
TEST(plans_of_one_instance_do_not_walk_the_project)
{
    struct fixture f;
    struct training_size size;
    struct label_result r;
    int64_t before;

    fill(&f);
    before = db_work(f.db);
    CHECK_INT(put_gold(&f, "i1", 2), AMX_OK);
    CHECK(db_work(f.db) - before < 5000);
    before = db_work(f.db);
    CHECK_INT(delete_label(&f, "i1", "a3", NULL), AMX_OK);
    CHECK(db_work(f.db) - before < 5000);
    before = db_work(f.db);
    CHECK_INT(put_label(&f, "i1", "a4", 3, 1, NULL, &r), AMX_OK); /* late: looks for the same one in the past */
    CHECK_INT(r.outcome, LABEL_LATE);
    CHECK(db_work(f.db) - before < 5000);
    before = db_work(f.db);
    CHECK_INT(delete_instance(&f, "i2"), AMX_OK);
    CHECK(db_work(f.db) - before < 8000);
    before = db_work(f.db);
    CHECK_INT(training_measure(f.db, f.project, 100, &size, &f.err), AMX_OK);
    CHECK(size.n_instances >= 100);
    CHECK(db_work(f.db) - before < 50000);
    fixture_done(&f);
}
