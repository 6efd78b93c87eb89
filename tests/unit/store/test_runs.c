/* The queue of training runs, and models. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fixture.h"
#include "store/models.h"
#include "store/runs.h"
#include "test.h"
#include "util/digest.h"

static struct run_spec spec_of(int64_t seed)
{
    return (struct run_spec){.method = text("annot_mix"),
                             .gold_use = text("evaluate"),
                             .activate = text("always"),
                             .settings = text("{\"alpha\":1}"),
                             .seed = seed,
                             .ensemble = 2,
                             .folds = 0};
}

static int64_t queue(struct fixture *f, int64_t project, int64_t seed)
{
    struct run_spec spec = spec_of(seed);
    int64_t number = 0, id = 0;

    CHECK_INT(runs_insert(f->db, project, &spec, false, 5, &number, &id, &f->err), AMX_OK);
    return id;
}

static int64_t claim(struct fixture *f)
{
    struct run_row row;
    enum amx_status status = runs_claim(f->db, text("me"), 10, 1000, &row, &f->err);

    if (status != AMX_OK)
        return status == AMX_NOT_FOUND ? 0 : -1;
    CHECK_INT(row.state, RUN_RUNNING);
    int64_t id = row.id;
    run_row_done(&row);
    return id;
}

TEST(runs_queue_and_finish)
{
    struct fixture f;
    struct run_row row;
    struct run_spec spec = spec_of(1), other = spec_of(2);
    struct run_end end = {.state = RUN_SUCCEEDED,
                          .label_seq = 4,
                          .labels_used = 10,
                          .instances_used = 5,
                          .model_number = 1,
                          .activated = 1,
                          .metrics = text("{}"),
                          .loss_curve = text("[1]"),
                          .now_ms = 77};
    int64_t counts[RUN_STATES], n = 0, seq = -1;

    fixture_init(&f, 0);
    CHECK_INT(runs_last_seq(f.db, f.project, &seq, &f.err), AMX_OK);
    CHECK_INT(seq, 0);
    int64_t id = queue(&f, f.project, 1);
    CHECK_INT(runs_find_equal(f.db, f.project, &spec, &row, &f.err), AMX_OK);
    CHECK_INT(row.number, 1);
    CHECK(same(row.spec.settings, "{\"alpha\":1}"));
    CHECK_INT(row.label_seq, -1);
    CHECK_INT(row.activated, -1);
    run_row_done(&row);
    CHECK_INT(runs_find_equal(f.db, f.project, &other, &row, &f.err), AMX_NOT_FOUND);
    CHECK_INT(runs_queue_length(f.db, &n, &f.err), AMX_OK);
    CHECK_INT(n, 1);
    CHECK_INT(runs_finish(f.db, id, &end, &f.err), AMX_CONFLICT);
    CHECK_INT(claim(&f), id);
    CHECK_INT(claim(&f), 0);
    CHECK_INT(runs_find_equal(f.db, f.project, &spec, &row, &f.err), AMX_NOT_FOUND); /* it runs already */
    CHECK_INT(runs_set_data(f.db, id, 4, 10, 5, &f.err), AMX_OK);
    CHECK_INT(runs_finish(f.db, id, &end, &f.err), AMX_OK);
    CHECK_INT(runs_get(f.db, f.project, 1, &row, &f.err), AMX_OK);
    CHECK_INT(row.state, RUN_SUCCEEDED);
    CHECK_STR(run_state_name(row.state), "succeeded");
    CHECK_INT(row.labels_used, 10);
    CHECK_INT(row.finished_ms, 77);
    CHECK_INT(row.model_number, 1);
    CHECK(same(row.loss_curve, "[1]") && row.error.bytes == NULL);
    run_row_done(&row);
    CHECK_INT(runs_counts(f.db, counts, &f.err), AMX_OK);
    CHECK_INT(counts[RUN_SUCCEEDED], 1);
    CHECK_INT(counts[RUN_QUEUED] + counts[RUN_RUNNING], 0);
    CHECK_INT(runs_last_seq(f.db, f.project, &seq, &f.err), AMX_OK);
    CHECK_INT(seq, 4);
    CHECK_INT(runs_get(f.db, f.project, 9, &row, &f.err), AMX_NOT_FOUND);
    fixture_done(&f);
}

TEST(runs_are_claimed_in_turn)
{
    struct fixture f;
    struct run_end end = {.state = RUN_FAILED,
                          .label_seq = -1,
                          .labels_used = -1,
                          .instances_used = -1,
                          .activated = -1,
                          .error = text("x")};

    fixture_init(&f, 0);
    int64_t other = add_project(&f, "other", 0);
    int64_t a1 = queue(&f, f.project, 1), a2 = queue(&f, f.project, 2), a3 = queue(&f, f.project, 3);
    int64_t b1 = queue(&f, other, 1), b2 = queue(&f, other, 2);
    CHECK_INT(claim(&f), a1);
    CHECK_INT(claim(&f), b1); /* not a2: one at a time per project */
    CHECK_INT(claim(&f), 0);
    CHECK_INT(runs_finish(f.db, a1, &end, &f.err), AMX_OK);
    CHECK_INT(runs_finish(f.db, b1, &end, &f.err), AMX_OK);
    CHECK_INT(claim(&f), a2);
    CHECK_INT(runs_finish(f.db, a2, &end, &f.err), AMX_OK);
    CHECK_INT(claim(&f), b2); /* its turn was longer ago than a's */
    CHECK_INT(claim(&f), a3);
    fixture_done(&f);
}

TEST(runs_cancel_and_recover)
{
    struct fixture f;
    struct run_row row;
    enum run_state state = RUN_QUEUED;
    int64_t requeued = 0, failed = 0, counts[RUN_STATES];

    fixture_init(&f, 0);
    int64_t id = queue(&f, f.project, 1);
    (void)queue(&f, f.project, 2);
    CHECK_INT(runs_cancel(f.db, f.project, 2, 9, &state, &f.err), AMX_OK);
    CHECK_INT(state, RUN_QUEUED);
    CHECK_INT(runs_cancel(f.db, f.project, 2, 9, &state, &f.err), AMX_OK);
    CHECK_INT(state, RUN_CANCELLED);
    CHECK_INT(runs_cancel(f.db, f.project, 7, 9, &state, &f.err), AMX_NOT_FOUND);
    /* Three deaths in a row are enough. */
    for (int i = 1; i <= RUN_MAX_ATTEMPTS; i++) {
        CHECK_INT(claim(&f), id);
        CHECK_INT(runs_recover(f.db, 20, &requeued, &failed, &f.err), AMX_OK);
        CHECK_INT(requeued, i < RUN_MAX_ATTEMPTS);
        CHECK_INT(failed, i == RUN_MAX_ATTEMPTS);
    }
    CHECK_INT(runs_get_id(f.db, id, &row, &f.err), AMX_OK);
    CHECK_INT(row.state, RUN_FAILED);
    CHECK(row.error.bytes != NULL);
    run_row_done(&row);
    /* An orderly stop does not count as a try; a cancelled one does not come back. */
    id = queue(&f, f.project, 3);
    for (int i = 0; i < 5; i++) {
        CHECK_INT(claim(&f), id);
        CHECK_INT(runs_requeue(f.db, id, true, &f.err), AMX_OK);
    }
    CHECK_INT(runs_requeue(f.db, id, true, &f.err), AMX_CONFLICT);
    CHECK_INT(claim(&f), id);
    CHECK_INT(runs_renew_lease(f.db, id, 99, &f.err), AMX_OK);
    CHECK_INT(runs_cancel(f.db, f.project, 3, 9, &state, &f.err), AMX_OK);
    CHECK_INT(state, RUN_RUNNING);
    CHECK_INT(runs_get_id(f.db, id, &row, &f.err), AMX_OK);
    CHECK(row.cancel_requested);
    CHECK_INT(row.attempts, 1);
    run_row_done(&row);
    CHECK_INT(runs_recover(f.db, 20, &requeued, &failed, &f.err), AMX_OK);
    CHECK_INT(requeued, 0);
    CHECK_INT(runs_counts(f.db, counts, &f.err), AMX_OK);
    CHECK_INT(counts[RUN_CANCELLED], 2);
    CHECK_INT(counts[RUN_FAILED], 1);
    fixture_done(&f);
}

static enum amx_status add_number(void *context, const struct run_row *row)
{
    int64_t *digits = context;
    *digits = *digits * 10 + row->number;
    return AMX_OK;
}

TEST(runs_list_newest_first)
{
    struct fixture f;
    int64_t digits = 0;
    bool more = false;

    fixture_init(&f, 0);
    for (int i = 0; i < 5; i++)
        (void)queue(&f, f.project, i);
    CHECK_INT(runs_list(f.db, f.project, INT64_MIN, 3, add_number, &digits, &more, &f.err), AMX_OK);
    CHECK_INT(digits, 543);
    CHECK(more);
    CHECK_INT(runs_list(f.db, f.project, 3, 3, add_number, &digits, &more, &f.err), AMX_OK);
    CHECK_INT(digits, 54321);
    CHECK(!more);
    fixture_done(&f);
}

/* ---- models ---- */

static const struct model_new about = {.method = {"annot_mix", 9},
                                       .settings = {"{}", 2},
                                       .seed = 3,
                                       .ensemble = 1,
                                       .run_number = 1,
                                       .label_seq = 4,
                                       .labels_used = 10,
                                       .instances_used = 5,
                                       .data_hash = {"sha256:0", 8},
                                       .now_ms = 50};

static enum amx_status finish(struct fixture *f, int64_t number, const char *bytes, int64_t n_chunks, bool activate)
{
    struct model_end end = {.n_chunks = n_chunks,
                            .size_bytes = (int64_t)strlen(bytes),
                            .metrics = text("{\"x\":1}"),
                            .population_reliability = 0.5,
                            .n_classes = 2,
                            .activate = activate};

    digest_of(bytes, strlen(bytes), end.sha256);
    CHECK_INT(db_begin(f->db, &f->err), AMX_OK);
    enum amx_status status = models_finish(f->db, f->project, number, &end, &f->err);
    if (status == AMX_OK)
        CHECK_INT(db_commit(f->db, &f->err), AMX_OK);
    else
        db_rollback(f->db);
    return status;
}

static int64_t add_model(struct fixture *f, bool activate)
{
    int64_t number = 0;

    CHECK_INT(models_begin(f->db, f->project, &about, &number, &f->err), AMX_OK);
    CHECK_INT(models_put_chunk(f->db, f->project, number, 0, "abc", 3, &f->err), AMX_OK);
    CHECK_INT(models_put_chunk(f->db, f->project, number, 1, "de", 2, &f->err), AMX_OK);
    CHECK_INT(finish(f, number, "abcde", 2, activate), AMX_OK);
    return number;
}

TEST(models_are_seen_when_they_are_whole)
{
    struct fixture f;
    struct model_row row;
    int64_t number = 0;
    unsigned char *bytes = NULL;
    size_t n = 0;

    fixture_init(&f, 0);
    CHECK_INT(models_begin(f.db, f.project, &about, &number, &f.err), AMX_OK);
    CHECK_INT(models_put_chunk(f.db, f.project, number, 0, "abc", 3, &f.err), AMX_OK);
    CHECK_INT(models_put_chunk(f.db, f.project, number, 0, "abc", 3, &f.err), AMX_CONFLICT);
    CHECK_INT(models_put_chunk(f.db, f.project, number, 1, "", 0, &f.err), AMX_INVALID);
    CHECK_INT(models_get(f.db, f.project, number, &row, &f.err), AMX_NOT_FOUND);
    CHECK_INT(models_activate(f.db, f.project, number, &f.err), AMX_NOT_FOUND);
    CHECK_INT(finish(&f, number, "abcd", 1, true), AMX_CORRUPT); /* size */
    CHECK_INT(finish(&f, number, "abx", 1, true), AMX_CORRUPT);  /* hash */
    CHECK_INT(finish(&f, number, "abc", 2, true), AMX_CORRUPT);  /* count */
    CHECK_INT(models_get_active(f.db, f.project, &row, &f.err), AMX_NOT_FOUND);
    CHECK_INT(finish(&f, number, "abc", 1, true), AMX_OK);
    CHECK_INT(finish(&f, number, "abc", 1, true), AMX_NOT_FOUND);
    CHECK_INT(models_get_active(f.db, f.project, &row, &f.err), AMX_OK);
    CHECK(row.active && !row.pinned);
    CHECK_INT(row.number, number);
    CHECK(same(row.metrics, "{\"x\":1}") && same(row.about.method, "annot_mix") && row.about.build.bytes == NULL);
    CHECK_NEAR(row.population_reliability, 0.5, 0);
    CHECK_INT(row.about.now_ms, 50);
    model_row_done(&row);
    CHECK_INT(models_load(f.db, f.project, number, &bytes, &n, &f.err), AMX_OK);
    CHECK(n == 3 && memcmp(bytes, "abc", 3) == 0);
    free(bytes);
    CHECK_INT(db_exec(f.db, "UPDATE model_chunks SET bytes = x'616264'", &f.err), AMX_OK);
    CHECK_INT(models_load(f.db, f.project, number, &bytes, &n, &f.err), AMX_CORRUPT);
    fixture_done(&f);
}

static enum amx_status add_model_number(void *context, const struct model_row *row)
{
    int64_t *sum = context;
    *sum += row->number;
    return AMX_OK;
}

TEST(models_prune_activate_delete)
{
    struct fixture f;
    struct model_row row;
    int64_t sum = 0, n = 0;
    bool more;

    fixture_init(&f, 0);
    int64_t first = add_model(&f, true), second = add_model(&f, false), third = add_model(&f, false);
    CHECK_INT(models_pin(f.db, f.project, second, true, &f.err), AMX_OK);
    for (int i = 0; i < MODELS_KEPT; i++)
        (void)add_model(&f, false);
    /* Kept: the newest ten, the active first, the pinned second. */
    CHECK_INT(models_get(f.db, f.project, third, &row, &f.err), AMX_NOT_FOUND);
    CHECK_INT(models_list(f.db, f.project, 0, 100, add_model_number, &sum, &more, &f.err), AMX_OK);
    CHECK_INT(sum, 1 + 2 + (4 + 13) * 10 / 2);
    CHECK_INT(models_delete(f.db, f.project, first, &f.err), AMX_CONFLICT);
    CHECK_INT(models_activate(f.db, f.project, 13, &f.err), AMX_OK);
    CHECK_INT(models_delete(f.db, f.project, first, &f.err), AMX_OK);
    CHECK_INT(models_delete(f.db, f.project, first, &f.err), AMX_NOT_FOUND);
    CHECK_INT(add_model(&f, false), 14); /* numbers are never used again */
    CHECK_INT(models_begin(f.db, f.project, &about, &n, &f.err), AMX_OK);
    CHECK_INT(models_recover(f.db, &n, &f.err), AMX_OK);
    CHECK_INT(n, 1);
    purge(&f);
    CHECK_INT(ask(&f, "SELECT count(*) FROM models"), 11);
    CHECK_INT(ask(&f, "SELECT count(*) FROM model_chunks"), 22);
    fixture_done(&f);
}

struct seen_annotators {
    int n;
    double sum;
    float evidence, confusion;
};

static enum amx_status see_annotator(void *context, const struct model_annotator *row)
{
    struct seen_annotators *seen = context;

    seen->n++;
    seen->sum += isnan(row->reliability) ? 0 : row->reliability;
    seen->evidence += row->class_evidence != NULL ? row->class_evidence[1] : 0;
    seen->confusion += row->confusion != NULL ? row->confusion[3] : 0;
    return AMX_OK;
}

TEST(models_tell_of_annotators)
{
    struct fixture f;
    struct label_result r;
    struct model_annotator row;
    struct seen_annotators seen = {.n = 0};
    float two[2] = {0.25f, 0.75f}, four[4] = {1, 2, 3, 4};
    const struct model_annotator_folds folds = {0.5, 0.25, (double)NAN};
    struct model_new with_folds = about;
    int64_t number = 0;
    bool more;

    with_folds.folds = 5;
    fixture_init(&f, 0);
    CHECK_INT(put_label(&f, "i1", "ana", 1, 0, NULL, &r), AMX_OK);
    CHECK_INT(put_label(&f, "i1", "bob", 1, 0, NULL, &r), AMX_OK);
    CHECK_INT(models_begin(f.db, f.project, &with_folds, &number, &f.err), AMX_OK);
    CHECK_INT(models_put_chunk(f.db, f.project, number, 0, "abc", 3, &f.err), AMX_OK);
    row = (struct model_annotator){.annotator_id = 1,
                                   .labels = 7,
                                   .reliability = 0.5,
                                   .class_reliability = two,
                                   .class_evidence = two,
                                   .confusion = four,
                                   .n_classes = 2,
                                   .folds = &folds};
    CHECK_INT(models_put_annotator(f.db, f.project, number, &row, &f.err), AMX_OK);
    row = (struct model_annotator){.annotator_id = 2, .labels = 1, .reliability = (double)NAN, .n_classes = 2};
    CHECK_INT(models_put_annotator(f.db, f.project, number, &row, &f.err), AMX_OK);
    CHECK_INT(finish(&f, number, "abc", 1, true), AMX_OK);
    CHECK_INT(model_annotators_list(f.db, f.project, number, 0, 10, true, see_annotator, &seen, &more, &f.err), AMX_OK);
    CHECK_INT(seen.n, 2);
    CHECK_NEAR(seen.sum, 0.5, 0);
    CHECK_NEAR(seen.evidence, 0.75, 0);
    CHECK_NEAR(seen.confusion, 4, 0);
    CHECK_INT(model_annotators_get(f.db, f.project, number, 2, &row, &f.err), AMX_OK);
    CHECK(isnan(row.reliability) && row.confusion == NULL && same(row.name, "bob"));
    CHECK(row.folds != NULL && isnan(row.folds->reliability_all)); /* of a model with folds, but not told */
    model_annotator_done(&row);
    CHECK_INT(model_annotators_get(f.db, f.project, number, 1, &row, &f.err), AMX_OK);
    CHECK(row.folds != NULL && row.class_evidence != NULL && row.confusion != NULL);
    if (row.folds != NULL) {
        CHECK_NEAR(row.folds->reliability_all, 0.5, 0);
        CHECK_NEAR(row.folds->expected_correct, 0.25, 0);
        CHECK(isnan(row.folds->agreement_with_others));
    }
    model_annotator_done(&row);
    CHECK_INT(delete_annotator(&f, "bob"), AMX_OK);
    CHECK_INT(model_annotators_get(f.db, f.project, number, 2, &row, &f.err), AMX_NOT_FOUND);
    fixture_done(&f);
}
