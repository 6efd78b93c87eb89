/* The rules of labels (wire.md), the change feed, and what labels do to counters. */
#include <stdio.h>
#include <string.h>

#include "fixture.h"
#include "store/annotators.h"
#include "test.h"

struct seen {
    size_t n;
    int64_t seqs[50];
    int classes[50];
    enum label_state states[50];
    char instances[50][16], annotators[50][16];
    char ref[16];
};

static enum amx_status see(void *context, const struct label_row *row)
{
    struct seen *seen = context;

    if (seen->n == 50)
        return AMX_TOO_LARGE;
    seen->seqs[seen->n] = row->seq;
    seen->classes[seen->n] = row->class_index;
    seen->states[seen->n] = row->state;
    (void)snprintf(seen->instances[seen->n], 16, "%s", row->instance.bytes);
    (void)snprintf(seen->annotators[seen->n], 16, "%s", row->annotator.bytes);
    (void)snprintf(seen->ref, 16, "%s", row->ref.bytes != NULL ? row->ref.bytes : "");
    seen->n++;
    return AMX_OK;
}

static void list(struct fixture *f, const char *instance, const char *annotator, const char *ref, bool history,
                 bool tombstones, int64_t after, size_t limit, struct seen *seen, bool *more)
{
    struct label_filter filter = {text(instance), text(annotator), text(ref), history, tombstones};

    memset(seen, 0, sizeof(*seen));
    CHECK_INT(labels_list(f->db, f->project, &filter, after, limit, see, seen, more, &f->err), AMX_OK);
}

TEST(labels_first_replace_unchanged)
{
    struct fixture f;
    struct label_result r;

    fixture_init(&f, 0);
    CHECK_INT(put_label(&f, "i1", "ana", 2, 0, NULL, &r), AMX_OK);
    CHECK_INT(r.outcome, LABEL_CREATED);
    CHECK_INT(r.seq, 1);
    CHECK(r.instance_created && r.annotator_created && !r.replaces);
    CHECK_INT(r.given_ms, f.now);
    int64_t first_given = r.given_ms;

    CHECK_INT(put_label(&f, "i1", "ana", 2, 0, NULL, &r), AMX_OK);
    CHECK_INT(r.outcome, LABEL_UNCHANGED);
    CHECK_INT(r.seq, 1);
    CHECK_INT(r.given_ms, first_given);
    CHECK_INT(ask(&f, "SELECT label_seq FROM projects WHERE id = ?1"), 1);

    CHECK_INT(put_label(&f, "i1", "ana", 3, 0, NULL, &r), AMX_OK);
    CHECK_INT(r.outcome, LABEL_REPLACED);
    CHECK(r.replaces);
    CHECK_INT(r.replaces_class, 2);
    CHECK_INT(r.seq, 2);
    CHECK_INT(ask(&f, "SELECT n_labels FROM projects WHERE id = ?1"), 1);
    CHECK(counters_hold(&f));
    fixture_done(&f);
}

TEST(labels_late_goes_to_history_once)
{
    struct fixture f;
    struct label_result r;
    struct seen seen;
    bool more;

    fixture_init(&f, 0);
    CHECK_INT(put_label(&f, "i1", "ana", 1, 5000, NULL, &r), AMX_OK);
    CHECK_INT(put_label(&f, "i1", "ana", 0, 4000, NULL, &r), AMX_OK);
    CHECK_INT(r.outcome, LABEL_LATE);
    CHECK_INT(r.seq, 2);
    /* Sent again: nothing new. */
    CHECK_INT(put_label(&f, "i1", "ana", 0, 4000, NULL, &r), AMX_OK);
    CHECK_INT(r.outcome, LABEL_LATE);
    CHECK_INT(r.seq, 2);
    /* The same moment, later arrival: replaces. */
    CHECK_INT(put_label(&f, "i1", "ana", 3, 5000, NULL, &r), AMX_OK);
    CHECK_INT(r.outcome, LABEL_REPLACED);
    /* A label from the future does not block one without a time. */
    CHECK_INT(put_label(&f, "i1", "ana", 2, f.now + 10000000, NULL, &r), AMX_OK);
    CHECK_INT(put_label(&f, "i1", "ana", 0, 0, NULL, &r), AMX_OK);
    CHECK_INT(r.outcome, LABEL_REPLACED);
    list(&f, NULL, NULL, NULL, true, true, 0, 50, &seen, &more);
    CHECK_INT(seen.n, 5);
    CHECK_INT(seen.states[1], LABEL_SUPERSEDED);
    list(&f, NULL, NULL, NULL, false, false, 0, 50, &seen, &more);
    CHECK_INT(seen.n, 1);
    CHECK_INT(seen.classes[0], 0);
    CHECK(counters_hold(&f));
    fixture_done(&f);
}

TEST(labels_skipped_counts_apart)
{
    struct fixture f;
    struct label_result r;
    struct annotator_row row;

    fixture_init(&f, 0);
    CHECK_INT(put_label(&f, "i1", "ana", LABEL_SKIPPED, 0, NULL, &r), AMX_OK);
    CHECK_INT(put_label(&f, "i1", "ana", LABEL_SKIPPED, 0, NULL, &r), AMX_OK);
    CHECK_INT(r.outcome, LABEL_UNCHANGED);
    CHECK_INT(annotators_find(f.db, f.project, text("ana"), &row, &f.err), AMX_OK);
    CHECK_INT(row.labels, 1);
    CHECK_INT(row.skipped, 1);
    annotator_row_done(&row);
    CHECK_INT(put_label(&f, "i1", "ana", 1, 0, NULL, &r), AMX_OK);
    CHECK_INT(r.replaces_class, LABEL_SKIPPED);
    CHECK(r.replaces);
    CHECK(counters_hold(&f));
    fixture_done(&f);
}

TEST(labels_ref_is_unique_among_current)
{
    struct fixture f;
    struct label_result r;
    struct seen seen;
    bool more;

    fixture_init(&f, 0);
    CHECK_INT(put_label(&f, "i1", "ana", 1, 0, "r1", &r), AMX_OK);
    CHECK_INT(put_label(&f, "i2", "ana", 1, 0, "r1", &r), AMX_CONFLICT);
    CHECK_INT(put_label(&f, "i3", "bob", 1, 0, "r1", &r), AMX_CONFLICT);
    /* Nothing of the refused ones is there. */
    CHECK_INT(ask(&f, "SELECT count(*) FROM instances WHERE project_id = ?1"), 1);
    CHECK_INT(ask(&f, "SELECT count(*) FROM annotators WHERE project_id = ?1"), 1);
    CHECK_INT(put_label(&f, "i1", "ana", 2, 0, "r1", &r), AMX_OK);
    CHECK_INT(r.outcome, LABEL_REPLACED);
    list(&f, NULL, NULL, "r1", false, false, 0, 50, &seen, &more);
    CHECK_INT(seen.n, 1);
    CHECK_STR(seen.ref, "r1");
    list(&f, NULL, NULL, "r1", true, true, 0, 50, &seen, &more);
    CHECK_INT(seen.n, 2);
    CHECK_INT(delete_label(&f, NULL, NULL, "r1"), AMX_OK);
    CHECK_INT(delete_label(&f, NULL, NULL, "r1"), AMX_NOT_FOUND);
    /* Free again. */
    CHECK_INT(put_label(&f, "i2", "ana", 1, 0, "r1", &r), AMX_OK);
    CHECK(counters_hold(&f));
    fixture_done(&f);
}

TEST(labels_refusals_in_a_job_leave_the_rest)
{
    struct fixture f;
    struct changes ch;
    struct label_result r;
    struct label_put put = {.instance = text("unknown"), .annotator = text("zoe"), .class_index = 1, .duration_ms = 5};

    fixture_init(&f, 0);
    CHECK_INT(put_label(&f, "i1", "ana", 1, 0, "r1", &r), AMX_OK);
    CHECK_INT(db_begin(f.db, &f.err), AMX_OK);
    CHECK_INT(changes_begin(f.db, f.project, f.now, &ch, &f.err), AMX_OK);
    CHECK_INT(labels_put(&ch, &put, &r, &f.err), AMX_NOT_FOUND);
    put.instance = text("i1");
    put.ref = text("r1");
    CHECK_INT(labels_put(&ch, &put, &r, &f.err), AMX_CONFLICT);
    put.ref = text(NULL);
    CHECK_INT(labels_put(&ch, &put, &r, &f.err), AMX_OK);
    CHECK_INT(r.seq, 2);
    CHECK(r.annotator_created);
    CHECK_INT(changes_flush(&ch, &f.err), AMX_OK);
    CHECK_INT(db_commit(f.db, &f.err), AMX_OK);
    CHECK_INT(ask(&f, "SELECT duration_ms FROM labels WHERE project_id = ?1 AND seq = 2"), 5);
    CHECK(counters_hold(&f));
    fixture_done(&f);
}

TEST(labels_feed_has_tombstones_and_no_gaps)
{
    struct fixture f;
    struct label_result r;
    struct seen seen;
    bool more;

    fixture_init(&f, 0);
    CHECK_INT(put_label(&f, "i1", "ana", 1, 0, NULL, &r), AMX_OK); /* 1 */
    CHECK_INT(put_label(&f, "i1", "bob", 2, 0, NULL, &r), AMX_OK); /* 2 */
    CHECK_INT(put_label(&f, "i2", "ana", 3, 0, NULL, &r), AMX_OK); /* 3 */
    CHECK_INT(delete_label(&f, "i1", "ana", NULL), AMX_OK);        /* 4 */
    CHECK_INT(delete_label(&f, "i1", "ana", NULL), AMX_NOT_FOUND);
    CHECK_INT(delete_label(&f, "i1", "nobody", NULL), AMX_NOT_FOUND);
    CHECK_INT(delete_label(&f, "nothing", "ana", NULL), AMX_NOT_FOUND);
    list(&f, NULL, NULL, NULL, false, true, 0, 50, &seen, &more);
    CHECK_INT(seen.n, 3);
    CHECK_INT(seen.seqs[2], 4);
    CHECK_INT(seen.states[2], LABEL_TOMBSTONE);
    CHECK_STR(seen.instances[2], "i1");
    CHECK_STR(seen.annotators[2], "ana");

    CHECK_INT(delete_instance(&f, "i1"), AMX_OK); /* 5: bob's */
    list(&f, NULL, NULL, NULL, false, true, 4, 50, &seen, &more);
    CHECK_INT(seen.n, 1);
    CHECK_INT(seen.seqs[0], 5);
    CHECK_STR(seen.instances[0], "i1");
    CHECK_STR(seen.annotators[0], "bob");

    CHECK_INT(delete_annotator(&f, "ana"), AMX_OK); /* 6 */
    list(&f, NULL, NULL, NULL, true, true, 5, 50, &seen, &more);
    CHECK_INT(seen.n, 0);
    list(&f, NULL, NULL, NULL, false, false, 0, 50, &seen, &more);
    CHECK_INT(seen.n, 0); /* gone at once */
    CHECK(counters_hold(&f));
    purge(&f);
    list(&f, NULL, NULL, NULL, false, true, 6, 50, &seen, &more);
    CHECK_INT(seen.n, 1);
    CHECK_INT(seen.seqs[0], 7);
    CHECK_INT(seen.states[0], LABEL_TOMBSTONE);
    CHECK_STR(seen.annotators[0], "ana");
    CHECK(counters_hold(&f));
    CHECK_INT(ask(&f, "SELECT count(*) FROM labels WHERE project_id = ?1 AND class IS NOT NULL"), 0); /* erased */
    fixture_done(&f);
}

TEST(labels_lists_by_filter_and_page)
{
    struct fixture f;
    struct label_result r;
    struct seen seen;
    char name[16];
    bool more;

    fixture_init(&f, 0);
    for (int i = 0; i < 10; i++) {
        (void)snprintf(name, sizeof(name), "i%d", i);
        CHECK_INT(put_label(&f, name, i % 2 ? "ana" : "bob", i % 4, 0, NULL, &r), AMX_OK);
    }
    CHECK_INT(put_label(&f, "i1", "bob", 0, 0, NULL, &r), AMX_OK);
    list(&f, NULL, "ana", NULL, false, false, 0, 3, &seen, &more);
    CHECK_INT(seen.n, 3);
    CHECK(more);
    list(&f, NULL, "ana", NULL, false, false, seen.seqs[2], 3, &seen, &more);
    CHECK_INT(seen.n, 2);
    CHECK(!more);
    list(&f, "i1", NULL, NULL, false, false, 0, 50, &seen, &more);
    CHECK_INT(seen.n, 2);
    list(&f, "i1", "bob", NULL, false, false, 0, 50, &seen, &more);
    CHECK_INT(seen.n, 1);
    CHECK_INT(seen.seqs[0], 11);
    list(&f, "nothing", NULL, NULL, false, false, 0, 50, &seen, &more);
    CHECK_INT(seen.n, 0);
    list(&f, NULL, "nobody", NULL, true, true, 0, 50, &seen, &more);
    CHECK_INT(seen.n, 0);
    memset(&seen, 0, sizeof(seen));
    CHECK_INT(labels_of_instance(f.db, f.project, 2, see, &seen, &f.err), AMX_OK);
    CHECK_INT(seen.n, 2);
    fixture_done(&f);
}

static enum amx_status count_cell(void *context, const struct label_cell *cell)
{
    int64_t *sum = context;
    *sum += cell->instance_id * 100 + cell->annotator_id * 10 + cell->class_index;
    return AMX_OK;
}

TEST(labels_cells_and_failing_callback)
{
    struct fixture f;
    struct label_result r;
    int64_t sum = 0;

    fixture_init(&f, 0);
    CHECK_INT(put_label(&f, "i1", "ana", 3, 0, NULL, &r), AMX_OK);
    CHECK_INT(put_label(&f, "i2", "ana", 1, 0, NULL, &r), AMX_OK);
    CHECK_INT(put_label(&f, "i3", "bob", 2, 0, NULL, &r), AMX_OK);
    CHECK_INT(labels_cells(f.db, f.project, 2, 3, count_cell, &sum, &f.err), AMX_OK);
    CHECK_INT(sum, 211 + 322);
    fixture_done(&f);
}

/* What the connection remembers must not outlive a rollback. */
TEST(labels_after_undo_remember_nothing)
{
    struct fixture f;
    struct changes ch;
    struct label_result r;
    struct label_put put = {
        .instance = text("i1"), .annotator = text("ana"), .class_index = 1, .duration_ms = -1, .create_instance = true};

    fixture_init(&f, 0);
    CHECK_INT(db_begin(f.db, &f.err), AMX_OK);
    CHECK_INT(db_savepoint(f.db, &f.err), AMX_OK);
    CHECK_INT(changes_begin(f.db, f.project, f.now, &ch, &f.err), AMX_OK);
    CHECK_INT(labels_put(&ch, &put, &r, &f.err), AMX_OK);
    CHECK_INT(db_savepoint_undo(f.db, &f.err), AMX_OK);
    CHECK_INT(db_savepoint(f.db, &f.err), AMX_OK);
    CHECK_INT(changes_begin(f.db, f.project, f.now, &ch, &f.err), AMX_OK);
    CHECK_INT(labels_put(&ch, &put, &r, &f.err), AMX_OK);
    CHECK(r.annotator_created && r.instance_created);
    CHECK_INT(changes_flush(&ch, &f.err), AMX_OK);
    CHECK_INT(db_savepoint_release(f.db, &f.err), AMX_OK);
    CHECK_INT(db_commit(f.db, &f.err), AMX_OK);
    CHECK_INT(ask(&f, "SELECT count(*) FROM annotators WHERE project_id = ?1"), 1);
    CHECK(counters_hold(&f));
    fixture_done(&f);
}

TEST(labels_in_a_project_that_is_gone)
{
    struct fixture f;
    struct label_result r;

    fixture_init(&f, 0);
    CHECK_INT(db_begin(f.db, &f.err), AMX_OK);
    CHECK_INT(projects_delete(f.db, f.project, &f.err), AMX_OK);
    CHECK_INT(db_commit(f.db, &f.err), AMX_OK);
    CHECK_INT(put_label(&f, "i1", "ana", 1, 0, NULL, &r), AMX_NOT_FOUND);
    fixture_done(&f);
}
