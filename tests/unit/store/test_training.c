/* What training reads does not depend on the order in which it came. */
#include <stdio.h>
#include <string.h>

#include "fixture.h"
#include "store/training.h"
#include "test.h"

static const struct {
    const char *instance, *annotator;
    int class_index;
} labels[] = {{"i2", "bob", 1},
              {"i1", "cyd", 0},
              {"i1", "ana", 2},
              {"i3", "ana", 3},
              {"i2", "ana", 0},
              {"v1", "bob", 1},
              {"i9", "bob", LABEL_SKIPPED},
              {"t1", "zoe", 2},
              {"i4", "ana", 1},
              {"v1", "ana", 3}};
enum {
    N = sizeof(labels) / sizeof(labels[0])
};

static void fill(struct fixture *f, bool backwards)
{
    static const char *const names[] = {"i1", "i2", "i3", "i9", "v1", "t1", "t2"};
    struct label_result r;
    enum put_outcome o;

    for (int k = 0; k < 7; k++) {
        int i = backwards ? 6 - k : k;
        float x[2] = {(float)i, -(float)i};
        enum split split = names[i][0] == 'v' ? SPLIT_VALID : names[i][0] == 't' ? SPLIT_TEST : SPLIT_KEEP;
        CHECK_INT(put_instance(f, names[i], x, split, split != SPLIT_KEEP ? i % 4 : -1, &o), AMX_OK);
    }
    for (int k = 0; k < N; k++) {
        int i = backwards ? N - 1 - k : k;
        CHECK_INT(put_label(f, labels[i].instance, labels[i].annotator, labels[i].class_index, 0, NULL, &r), AMX_OK);
    }
}

TEST(training_is_in_order_of_names)
{
    for (int backwards = 0; backwards < 2; backwards++) {
        struct fixture f;
        struct training_set t;
        struct training_size size;
    struct training_least least;
        struct label_result r;

        fixture_init(&f, 2);
        fill(&f, backwards);
        CHECK_INT(put_label(&f, "i1", "gone", 1, 0, NULL, &r), AMX_OK);
        CHECK_INT(delete_annotator(&f, "gone"), AMX_OK);
        CHECK_INT(training_read(f.db, f.project, 0, &t, &f.err), AMX_OK);
        /* i4 awaits features, i9 was only skipped. */
        CHECK_INT(t.n_instances, 3);
        CHECK_INT(t.n_awaiting, 1);
        CHECK_INT(t.n_features, 2);
        CHECK_INT(t.n_classes, 4);
        CHECK_INT(t.n_labels, 5);
        CHECK_INT(t.n_annotators, 3);
        CHECK_INT(t.n_labels_total, 9);
        CHECK_STR(t.instance_names[0], "i1");
        CHECK_STR(t.instance_names[2], "i3");
        CHECK_STR(t.annotator_names[0], "ana");
        CHECK_STR(t.annotator_names[1], "bob");
        CHECK_STR(t.annotator_names[2], "cyd");
        CHECK_STR(t.class_names[3], "d");
        CHECK(t.features[2] == 1.0f && t.features[3] == -1.0f);
        static const uint32_t instance[5] = {0, 0, 1, 1, 2}, annotator[5] = {0, 2, 0, 1, 0},
                              class_index[5] = {2, 0, 0, 1, 3};
        CHECK(memcmp(t.label_instance, instance, sizeof(instance)) == 0);
        CHECK(memcmp(t.label_annotator, annotator, sizeof(annotator)) == 0);
        CHECK(memcmp(t.label_class, class_index, sizeof(class_index)) == 0);
        /* Held: v1, then t1 and t2. zoe is not among those trained on. */
        CHECK_INT(t.n_held, 3);
        CHECK_INT(t.held_split[0], SPLIT_VALID);
        CHECK_INT(t.held_split[2], SPLIT_TEST);
        CHECK_INT(t.held_gold[0], 0);
        CHECK(t.held_features[0] == 4.0f && t.held_features[4] == 6.0f);
        CHECK_INT(t.n_held_labels, 3);
        static const uint32_t held[3] = {0, 0, 1}, held_annotator[3] = {0, 1, UINT32_MAX}, held_class[3] = {3, 1, 2};
        CHECK(memcmp(t.held_label_held, held, sizeof(held)) == 0);
        CHECK(memcmp(t.held_label_annotator, held_annotator, sizeof(held_annotator)) == 0);
        CHECK(memcmp(t.held_label_class, held_class, sizeof(held_class)) == 0);
        CHECK_INT(t.label_seq, ask(&f, "SELECT label_seq FROM projects WHERE id = ?1"));
        CHECK_INT(training_measure_least(f.db, f.project, &least, &f.err), AMX_OK);
        CHECK(least.n_instances <= t.n_instances + t.n_held && least.n_train <= t.n_instances);
        CHECK(least.n_labels <= t.n_labels + t.n_held_labels);
        training_set_done(&t);
        CHECK_INT(training_measure(f.db, f.project, 0, &size, &f.err), AMX_OK);
        CHECK_INT(size.n_instances, 3);
        CHECK_INT(size.n_labels, 9);
        CHECK_INT(size.n_classes_seen, 4);
        CHECK_INT(training_read(f.db, f.project, 10, &t, &f.err), AMX_TOO_LARGE);
        CHECK(!db_in_transaction(f.db));
        fixture_done(&f);
    }
}

TEST(training_without_anything)
{
    struct fixture f;
    struct training_set t;
    struct training_size size;
    struct training_least least;
    struct label_result r;

    fixture_init(&f, 0);
    CHECK_INT(training_read(f.db, f.project, 0, &t, &f.err), AMX_OK);
    CHECK_INT(t.n_instances + t.n_labels + t.n_held + t.n_annotators, 0);
    training_set_done(&t);
    CHECK_INT(training_measure(f.db, f.project, 2, &size, &f.err), AMX_OK);
    CHECK_INT(size.n_instances, 0);
    CHECK_INT(training_read(f.db, 99, 0, &t, &f.err), AMX_NOT_FOUND);
    /* No features in the project: labelled instances count all the same. */
    CHECK_INT(put_label(&f, "i1", "ana", 1, 0, NULL, &r), AMX_OK);
    CHECK_INT(training_read(f.db, f.project, 0, &t, &f.err), AMX_OK);
    CHECK_INT(t.n_instances, 1);
    CHECK_INT(t.n_features, 0);
    CHECK_INT(t.n_awaiting, 0);
    CHECK_INT(training_measure_least(f.db, f.project, &least, &f.err), AMX_OK);
    CHECK_INT(least.n_instances, 1);
    CHECK_INT(least.n_train, 1);
    CHECK_INT(least.n_labels, 1);
    CHECK_INT(training_measure_least(f.db, 99, &least, &f.err), AMX_NOT_FOUND);
    training_set_done(&t);
    fixture_done(&f);
}
