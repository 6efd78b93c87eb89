/* One order for all ways in: files forward and backward, and the database. */
#include <stdlib.h>
#include <string.h>

#include "fixture.h"
#include "store/store.h"
#include "test.h"
#include "work/runs/training_data.h"

static const char *const annotators[] = {"zoe", "ana", "idle"};
static const char *const classes[] = {"no", "yes"};
static const float features[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9};

/* b has two labels, one of them given twice; d awaits features; t is held out. */
static const struct training_row rows[] = {
    {"b", SPLIT_TRAIN, 0, 1}, {"a", SPLIT_TRAIN, 1, -1}, {"d", SPLIT_TRAIN, SIZE_MAX, 0},
    {"t", SPLIT_TEST, 2, 0},  {"c", SPLIT_TRAIN, 3, 1},
};
static const struct training_label labels[] = {
    {0, 0, 0}, {0, 0, 1}, {1, 0, 0}, {0, 1, 0}, {2, 0, 1}, {3, 2, 1}, {3, 1, 0},
};

static struct training_rows make_rows(void)
{
    return (struct training_rows){.rows = rows,
                                  .n_rows = 5,
                                  .n_features = 2,
                                  .features = features,
                                  .annotators = annotators,
                                  .n_annotators = 3,
                                  .classes = classes,
                                  .n_classes = 2,
                                  .labels = labels,
                                  .n_labels = 7};
}

TEST(rows_are_sorted_and_only_used_ones_kept)
{
    struct training_rows in = make_rows();
    struct training_data data;
    struct amx_error err;
    const struct training_set *set = &data.set;

    CHECK_INT(training_data_build(&in, &data, &err), AMX_OK);
    CHECK_INT(set->n_instances, 2); /* a, b; c has no label, d no features */
    CHECK_STR(set->instance_names[0], "a");
    CHECK_STR(set->instance_names[1], "b");
    CHECK_INT(set->n_labels, 3);
    CHECK_INT(set->n_annotators, 2); /* idle gave no label that is used */
    CHECK_STR(set->annotator_names[0], "ana");
    CHECK_STR(set->annotator_names[1], "zoe");
    CHECK_INT(set->label_annotator[0], 1); /* a: zoe */
    CHECK_INT(set->label_annotator[1], 0); /* b: ana, zoe */
    CHECK_INT(set->label_class[2], 1);     /* the last label of a pair counts */
    CHECK_NEAR(set->features[0], 2, 0);
    CHECK_INT(set->n_held, 1);
    CHECK_INT(set->n_held_labels, 2);
    CHECK_INT(set->held_label_annotator[0], 0);
    CHECK_INT(set->held_label_annotator[1], UINT32_MAX); /* idle is unknown to a model of this data */
    CHECK_INT(set->n_awaiting, 1);
    CHECK_INT(training_data_check(&data, &err), AMX_OK);
    training_data_done(&data);
}

TEST(hash_ignores_gold_and_sees_everything_else)
{
    struct training_rows in = make_rows();
    struct training_row other_rows[5];
    struct training_label other_labels[7];
    struct training_data a, b;
    struct amx_error err;

    CHECK_INT(training_data_build(&in, &a, &err), AMX_OK);
    memcpy(other_rows, rows, sizeof rows);
    other_rows[0].gold = 0;
    in.rows = other_rows;
    CHECK_INT(training_data_build(&in, &b, &err), AMX_OK);
    CHECK_STR(a.hash, b.hash);
    training_data_done(&b);
    memcpy(other_labels, labels, sizeof labels);
    other_labels[3].class_ = 1;
    in.labels = other_labels;
    CHECK_INT(training_data_build(&in, &b, &err), AMX_OK);
    CHECK(strcmp(a.hash, b.hash) != 0);
    CHECK_INT(strlen(a.hash), 71);
    training_data_done(&b);
    training_data_done(&a);
}

TEST(nothing_to_train_on_names_what_is_missing)
{
    struct training_rows in = make_rows();
    struct training_data data;
    struct amx_error err;
    struct training_label same[2] = {{0, 0, 1}, {1, 0, 1}};

    in.n_labels = 0;
    CHECK_INT(training_data_build(&in, &data, &err), AMX_OK);
    CHECK_INT(training_data_check(&data, &err), AMX_NOTHING);
    CHECK(strstr(err.text, "no labels") != NULL);
    training_data_done(&data);
    in.labels = same;
    in.n_labels = 2;
    CHECK_INT(training_data_build(&in, &data, &err), AMX_OK);
    CHECK_INT(training_data_check(&data, &err), AMX_NOTHING);
    CHECK(strstr(err.text, "\"yes\"") != NULL);
    training_data_done(&data);
    in.n_labels = 1;
    CHECK_INT(training_data_build(&in, &data, &err), AMX_OK);
    CHECK_INT(training_data_check(&data, &err), AMX_NOTHING);
    CHECK(strstr(err.text, "at least 2") != NULL);
    training_data_done(&data);
}

/* The rows of fixture_fill as files would have them. */
static enum amx_status build_as_file(const struct training_set *of, struct training_data *out, struct amx_error *err)
{
    struct training_row *file_rows = calloc(of->n_instances, sizeof *file_rows);
    struct training_label *file_labels = calloc(of->n_labels, sizeof *file_labels);
    struct training_rows in = {.rows = file_rows,
                               .n_rows = of->n_instances,
                               .n_features = of->n_features,
                               .features = of->features,
                               .annotators = (const char *const *)of->annotator_names,
                               .n_annotators = of->n_annotators,
                               .classes = (const char *const *)of->class_names,
                               .n_classes = of->n_classes,
                               .labels = file_labels,
                               .n_labels = of->n_labels};
    enum amx_status status = AMX_NO_MEMORY;

    if (file_rows != NULL && file_labels != NULL) {
        for (size_t i = 0; i < of->n_instances; i++) /* the other way round */
            file_rows[i] = (struct training_row){of->instance_names[of->n_instances - 1 - i], SPLIT_TRAIN,
                                                 of->n_instances - 1 - i, -1};
        for (size_t l = 0; l < of->n_labels; l++)
            file_labels[of->n_labels - 1 - l] = (struct training_label){
                (uint32_t)of->n_instances - 1 - of->label_instance[l], of->label_annotator[l], of->label_class[l]};
        status = training_data_build(&in, out, err);
    }
    free(file_labels);
    free(file_rows);
    return status;
}

TEST(database_and_files_give_the_same_hash)
{
    struct fixture f;
    struct training_data read, built;
    struct amx_error err;
    struct db *db = NULL;
    int64_t project;

    if (!fixture_init(&f, 0))
        return;
    project = fixture_project(&f, "p", NULL);
    CHECK(fixture_fill(&f, &(struct fixture_data){project, 50, 3, SHUFFLED, false}));
    CHECK_INT(store_reader_get(f.service->store, &db, &err), AMX_OK);
    if (training_data_read(db, project, 0, &read, &err) != AMX_OK) {
        CHECK(false);
    } else {
        CHECK_INT(read.set.n_instances, 40);
        CHECK_INT(read.set.n_held, 10);
        CHECK_INT(build_as_file(&read.set, &built, &err), AMX_OK);
        CHECK_STR(read.hash, built.hash);
        training_data_done(&built);
        training_data_done(&read);
    }
    CHECK_INT(training_data_read(db, project, 100, &read, &err), AMX_TOO_LARGE);
    store_reader_put(f.service->store, db);
    fixture_done(&f);
}
