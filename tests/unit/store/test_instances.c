/* Instances, gold, features, lists. */
#include <stdio.h>
#include <string.h>

#include "fixture.h"
#include "store/annotators.h"
#include "test.h"

TEST(instances_put_replaces_given_fields)
{
    struct fixture f;
    enum put_outcome o;
    struct instance_row row;
    float x[3] = {1, 2, 3}, y[3] = {1, 2, 4};

    fixture_init(&f, 3);
    CHECK_INT(put_instance(&f, "i1", NULL, SPLIT_KEEP, -1, &o), AMX_OK);
    CHECK_INT(o, PUT_CREATED);
    CHECK_INT(ask(&f, "SELECT n_awaiting FROM projects WHERE id = ?1"), 1);
    CHECK_INT(put_instance(&f, "i1", x, SPLIT_TEST, -1, &o), AMX_OK);
    CHECK_INT(o, PUT_UPDATED);
    CHECK_INT(ask(&f, "SELECT n_awaiting FROM projects WHERE id = ?1"), 0);
    CHECK_INT(put_instance(&f, "i1", x, SPLIT_KEEP, -1, &o), AMX_OK);
    CHECK_INT(o, PUT_UNCHANGED);
    CHECK_INT(put_instance(&f, "i1", y, SPLIT_KEEP, 2, &o), AMX_OK);
    CHECK_INT(o, PUT_UPDATED);
    CHECK_INT(instances_find(f.db, f.project, text("i1"), INSTANCES_FEATURES, &row, &f.err), AMX_OK);
    CHECK(same(row.name, "i1"));
    CHECK_INT(row.split, SPLIT_TEST);
    CHECK_INT(row.gold_class, 2);
    CHECK_INT(row.gold_ms, f.now);
    CHECK_INT(row.n_features, 3);
    CHECK(row.features != NULL && row.features[2] == 4.0f);
    CHECK(row.has_features && !row.awaiting_features && !row.labelled);
    instance_row_done(&row);
    CHECK_INT(instances_find(f.db, f.project, text("i2"), 0, &row, &f.err), AMX_NOT_FOUND);
    CHECK_INT(instances_get(f.db, f.project, 0, 0, &row, &f.err), AMX_NOT_FOUND);
    CHECK(counters_hold(&f));
    fixture_done(&f);
}

static enum amx_status check_listed(void *context, const struct instance_row *row)
{
    int *n = context;

    ++*n;
    if (row->awaiting_features)
        CHECK(row->features == NULL);
    else
        CHECK(row->features != NULL && row->features[0] == (float)row->id && row->n_features == 3);
    return AMX_OK;
}

/* Known and new names by turns in one job, with and without features; the list gives each its own features. */
TEST(instances_put_by_turns)
{
    static const char *const names[] = {"c", "a", "c", "b", "a", "a", "d", "e", "c", "f"};
    static const int64_t ids[] = {1, 2, 1, 3, 2, 2, 4, 5, 1, 6};
    struct fixture f;
    struct changes ch;
    enum put_outcome o;
    int64_t id;
    int64_t most = 0;
    int n = 0;
    bool more = true;

    fixture_init(&f, 3);
    CHECK_INT(db_begin(f.db, &f.err), AMX_OK);
    CHECK_INT(changes_begin(f.db, f.project, f.now, &ch, &f.err), AMX_OK);
    for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++) {
        float x[3] = {(float)ids[i], 0, 0};
        struct instance_put put = {
            .name = text(names[i]), .split = SPLIT_KEEP, .gold_class = -1, .features = ids[i] % 3 == 0 ? NULL : x};
        CHECK_INT(instances_put(&ch, &put, &o, &id, &f.err), AMX_OK);
        CHECK_INT(id, ids[i]);
        CHECK_INT(o, ids[i] > most ? PUT_CREATED : PUT_UNCHANGED);
        most = ids[i] > most ? ids[i] : most;
    }
    CHECK_INT(changes_flush(&ch, &f.err), AMX_OK);
    CHECK_INT(db_commit(f.db, &f.err), AMX_OK);
    CHECK_INT(instances_list(f.db, f.project, NULL, 0, 100, INSTANCES_FEATURES, check_listed, &n, &more, &f.err),
              AMX_OK);
    CHECK(n == 6 && !more);
    CHECK(counters_hold(&f));
    fixture_done(&f);
}

enum {
    SOON = 400,
    SOON_DIM = 2
};

/* The i-th put: long runs of new names with features and without, names that come again after a few and much later, and
 * some with gold, which do not wait. */
static struct instance_put soon_put(size_t i, char name[static 32], float x[static SOON_DIM])
{
    size_t number = i % 90 == 70 ? i - 3 : i % 90 == 80 && i > 100 ? i - 100 : i > 300 ? i - 200 : i;
    struct instance_put put = {.split = i % 50 == 7 ? SPLIT_TEST : SPLIT_KEEP, .gold_class = i % 60 == 59 ? 1 : -1};

    (void)snprintf(name, 32, "n%zu", number);
    x[0] = (float)number;
    x[1] = (float)(i / 350);
    put.name = text(name);
    put.features = i >= 128 && i < 200 && (i < 160 || i % 5 == 0) ? NULL : x;
    return put;
}

struct soon {
    enum put_outcome outcome[SOON];
    int64_t id[SOON];
};

static void put_soon(struct fixture *f, bool soon, struct soon *out)
{
    static char names[SOON][32];
    static float x[SOON][SOON_DIM];
    struct changes ch;

    CHECK_INT(db_begin(f->db, &f->err), AMX_OK);
    CHECK_INT(changes_begin(f->db, f->project, f->now, &ch, &f->err), AMX_OK);
    for (size_t i = 0; i < SOON; i++) {
        struct instance_put put = soon_put(i, names[i], x[i]);
        CHECK_INT((soon ? instances_put_soon : instances_put)(&ch, &put, &out->outcome[i], &out->id[i], &f->err), AMX_OK);
    }
    CHECK_INT(changes_flush(&ch, &f->err), AMX_OK);
    CHECK_INT(db_commit(f->db, &f->err), AMX_OK);
    CHECK(counters_hold(f));
}

/* Many rows in one statement are the same as one after the other: outcomes, numbers, features, counters. */
TEST(instances_put_soon_is_the_same_as_put)
{
    static const char *const sums[] = {
        "SELECT count(*) FROM features WHERE ?1", "SELECT sum(awaiting) FROM instances WHERE project_id = ?1",
        "SELECT sum(id * split) FROM instances WHERE project_id = ?1",
        "SELECT sum(id * substr(name, 2)) FROM instances WHERE project_id = ?1",
        "SELECT next_instance FROM projects WHERE id = ?1"};
    static struct soon by_one, together;
    struct fixture a, b;

    fixture_init(&a, SOON_DIM);
    fixture_init(&b, SOON_DIM);
    for (int round = 0; round < 2; round++) { /* new ones, and then the same again */
        put_soon(&a, false, &by_one);
        put_soon(&b, true, &together);
        CHECK(memcmp(by_one.id, together.id, sizeof by_one.id) == 0);
        CHECK(memcmp(by_one.outcome, together.outcome, sizeof by_one.outcome) == 0);
        for (size_t i = 0; i < sizeof sums / sizeof sums[0]; i++)
            CHECK_INT(ask(&b, sums[i]), ask(&a, sums[i]));
        for (size_t i = 0; i < SOON; i++) {
            struct instance_row left, right;
            char name[32];
            float x[SOON_DIM];
            struct slice n = soon_put(i, name, x).name;
            CHECK_INT(instances_find(a.db, a.project, n, INSTANCES_FEATURES, &left, &a.err), AMX_OK);
            CHECK_INT(instances_find(b.db, b.project, n, INSTANCES_FEATURES, &right, &b.err), AMX_OK);
            CHECK(left.id == right.id && left.gold_class == right.gold_class && left.n_features == right.n_features);
            CHECK(left.n_features == 0 || (right.features[0] == x[0] && right.features[1] == left.features[1]));
            instance_row_done(&left);
            instance_row_done(&right);
        }
    }
    CHECK(by_one.outcome[166] == PUT_UPDATED && by_one.outcome[10] == PUT_UNCHANGED); /* of the second round */
    fixture_done(&a);
    fixture_done(&b);
}

TEST(instances_metadata_comes_and_goes)
{
    struct fixture f;
    struct changes ch;
    enum put_outcome o;
    int64_t id;
    struct instance_row row;
    struct instance_put put = {
        .name = text("i1"), .split = SPLIT_KEEP, .gold_class = -1, .metadata = text("{\"a\":1}")};

    fixture_init(&f, 0);
    CHECK_INT(db_begin(f.db, &f.err), AMX_OK);
    CHECK_INT(changes_begin(f.db, f.project, f.now, &ch, &f.err), AMX_OK);
    CHECK_INT(instances_put(&ch, &put, &o, &id, &f.err), AMX_OK);
    CHECK_INT(instances_put(&ch, &put, &o, &id, &f.err), AMX_OK);
    CHECK_INT(o, PUT_UNCHANGED);
    CHECK_INT(changes_flush(&ch, &f.err), AMX_OK);
    CHECK_INT(db_commit(f.db, &f.err), AMX_OK);
    CHECK_INT(instances_get(f.db, f.project, id, INSTANCES_METADATA, &row, &f.err), AMX_OK);
    CHECK(same(row.metadata, "{\"a\":1}"));
    instance_row_done(&row);
    put.metadata = text("null");
    CHECK_INT(db_begin(f.db, &f.err), AMX_OK);
    CHECK_INT(changes_begin(f.db, f.project, f.now, &ch, &f.err), AMX_OK);
    CHECK_INT(instances_put(&ch, &put, &o, &id, &f.err), AMX_OK);
    CHECK_INT(o, PUT_UPDATED);
    CHECK_INT(changes_flush(&ch, &f.err), AMX_OK);
    CHECK_INT(db_commit(f.db, &f.err), AMX_OK);
    CHECK_INT(instances_get(f.db, f.project, id, INSTANCES_METADATA, &row, &f.err), AMX_OK);
    CHECK(row.metadata.bytes == NULL);
    instance_row_done(&row);
    fixture_done(&f);
}

TEST(gold_moves_the_counters_of_those_who_labelled)
{
    struct fixture f;
    struct label_result r;
    struct annotator_row row;

    fixture_init(&f, 0);
    CHECK_INT(put_label(&f, "i1", "ana", 1, 0, NULL, &r), AMX_OK);
    CHECK_INT(put_label(&f, "i1", "bob", 2, 0, NULL, &r), AMX_OK);
    CHECK_INT(put_label(&f, "i1", "cyd", LABEL_SKIPPED, 0, NULL, &r), AMX_OK);
    CHECK_INT(put_gold(&f, "i1", 1), AMX_OK);
    CHECK_INT(ask(&f, "SELECT label_seq FROM projects WHERE id = ?1"), 4);
    CHECK_INT(annotators_find(f.db, f.project, text("ana"), &row, &f.err), AMX_OK);
    CHECK_INT(row.gold_right, 1);
    CHECK_INT(row.gold_of, 1);
    annotator_row_done(&row);
    CHECK_INT(put_gold(&f, "i1", 1), AMX_OK); /* unchanged takes no number */
    CHECK_INT(ask(&f, "SELECT label_seq FROM projects WHERE id = ?1"), 4);
    CHECK_INT(put_gold(&f, "i1", 2), AMX_OK);
    CHECK(counters_hold(&f));
    CHECK_INT(put_label(&f, "i1", "ana", 2, 0, NULL, &r), AMX_OK);
    CHECK(counters_hold(&f));
    CHECK_INT(put_gold(&f, "i1", -1), AMX_OK);
    CHECK_INT(put_gold(&f, "i1", -1), AMX_NOT_FOUND);
    CHECK_INT(put_gold(&f, "nothing", 1), AMX_NOT_FOUND);
    CHECK(counters_hold(&f));
    fixture_done(&f);
}

struct names {
    size_t n;
    char names[40][12];
    int64_t last;
    size_t stop_at;
};

static enum amx_status note(void *context, const struct instance_row *row)
{
    struct names *names = context;

    if (names->n == 40 || (names->stop_at != 0 && names->n == names->stop_at))
        return AMX_CANCELLED;
    (void)snprintf(names->names[names->n++], 12, "%s", row->name.bytes);
    names->last = row->id;
    return AMX_OK;
}

TEST(instances_list_filters)
{
    struct fixture f;
    enum put_outcome o;
    struct label_result r;
    struct names names = {.n = 0};
    char name[32];
    float x[2] = {0.5f, 1.5f};
    bool more;

    fixture_init(&f, 2);
    for (int i = 0; i < 30; i++) {
        (void)snprintf(name, sizeof(name), "i%02d", 29 - i);
        CHECK_INT(put_instance(&f, name, i % 3 == 0 ? NULL : x, i % 5 == 0 ? SPLIT_TEST : SPLIT_KEEP,
                               i % 7 == 0 ? 1 : -1, &o),
                  AMX_OK);
        if (i % 2 == 0)
            CHECK_INT(put_label(&f, name, "ana", 1, 0, NULL, &r), AMX_OK);
    }
    static const struct {
        struct instance_filter filter;
        size_t expected;
    } cases[] = {
        {INSTANCE_FILTER_ALL, 30},      {{SPLIT_TEST, -1, -1, -1}, 6}, {{SPLIT_TRAIN, -1, -1, -1}, 24},
        {{SPLIT_VALID, -1, -1, -1}, 0}, {{SPLIT_KEEP, 0, -1, -1}, 15}, {{SPLIT_KEEP, 1, -1, -1}, 15},
        {{SPLIT_KEEP, -1, 1, -1}, 5},   {{SPLIT_KEEP, -1, 0, -1}, 25}, {{SPLIT_KEEP, -1, -1, 1}, 10},
        {{SPLIT_KEEP, -1, -1, 0}, 20},  {{SPLIT_TEST, 0, -1, 1}, 1},   {{SPLIT_TEST, 1, 1, 1}, 1},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        memset(&names, 0, sizeof(names));
        CHECK_INT(instances_list(f.db, f.project, &cases[i].filter, INT64_MIN, 40, INSTANCES_FEATURES, note, &names,
                                 &more, &f.err),
                  AMX_OK);
        CHECK_INT(names.n, cases[i].expected);
        CHECK(!more);
    }
    /* Pages, in order of arrival. */
    memset(&names, 0, sizeof(names));
    CHECK_INT(instances_list(f.db, f.project, NULL, 0, 20, 0, note, &names, &more, &f.err), AMX_OK);
    CHECK(more);
    CHECK_STR(names.names[0], "i29");
    CHECK_INT(instances_list(f.db, f.project, NULL, names.last, 20, 0, note, &names, &more, &f.err), AMX_OK);
    CHECK(!more);
    CHECK_INT(names.n, 30);
    CHECK_STR(names.names[29], "i00");
    /* The callback ends it. */
    memset(&names, 0, sizeof(names));
    names.stop_at = 4;
    CHECK_INT(instances_list(f.db, f.project, NULL, 0, 20, 0, note, &names, &more, &f.err), AMX_CANCELLED);
    CHECK_INT(names.n, 4);
    fixture_done(&f);
}

TEST(instances_delete_takes_everything)
{
    struct fixture f;
    enum put_outcome o;
    struct label_result r;
    float x[2] = {1, 2};

    fixture_init(&f, 2);
    CHECK_INT(put_instance(&f, "i1", x, SPLIT_KEEP, 2, &o), AMX_OK);
    CHECK_INT(put_label(&f, "i1", "ana", 2, 0, NULL, &r), AMX_OK);
    CHECK_INT(put_label(&f, "i1", "ana", 1, 0, NULL, &r), AMX_OK);
    CHECK_INT(delete_instance(&f, "i1"), AMX_OK);
    CHECK_INT(delete_instance(&f, "i1"), AMX_NOT_FOUND);
    CHECK_INT(ask(&f, "SELECT count(*) FROM features WHERE key >> 32 = ?1"), 0);
    CHECK_INT(ask(&f, "SELECT count(*) FROM labels WHERE project_id = ?1"), 1); /* the tombstone */
    CHECK(counters_hold(&f));
    /* The name is free; the number is not used again. */
    CHECK_INT(put_instance(&f, "i1", x, SPLIT_KEEP, -1, &o), AMX_OK);
    CHECK_INT(o, PUT_CREATED);
    CHECK_INT(ask(&f, "SELECT id FROM instances WHERE project_id = ?1 AND name = 'i1'"), 2);
    CHECK(counters_hold(&f));
    fixture_done(&f);
}

TEST(split_names)
{
    enum split split = SPLIT_KEEP;

    CHECK(split_parse("valid", 5, &split));
    CHECK_INT(split, SPLIT_VALID);
    CHECK(!split_parse("vali", 4, &split));
    CHECK(!split_parse("", 0, &split));
    CHECK_STR(split_name(SPLIT_TEST), "test");
}
