/* A file of schema 1 with data in it, opened by this program: everything is still there, and what is new is null. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "fixture.h"
#include "store/models.h"
#include "test.h"
#include "util/embed.h"

static const char PRAGMAS_OF_1[] = "PRAGMA application_id = 1095587889; PRAGMA user_version = 1;";
/* Project 1 with two instances, one annotator, its label, and an active model that has figures of the annotator. */
static const char DATA_OF_1[] =
    "INSERT INTO projects (id, uid, name, title, settings, feature_dim, n_classes, created_at, label_seq,"
    " next_instance, next_annotator, next_model, n_instances, n_annotators, n_labels, active_model)"
    " VALUES (1, '0123456789abcdef0123456789abcdef', 'old', '', '{}', 0, 2, 1000, 1, 3, 2, 2, 2, 1, 1, 1);"
    "INSERT INTO classes (project_id, position, name) VALUES (1, 0, 'a'), (1, 1, 'b');"
    "INSERT INTO instances (project_id, name, id, split, awaiting, labelled, created_at)"
    " VALUES (1, 'i1', 1, 0, 0, 1, 1000), (1, 'i2', 2, 2, 0, 0, 1000);"
    "INSERT INTO annotators (project_id, id, name, created_at, n_labels) VALUES (1, 1, 'ana', 1000, 1);"
    "INSERT INTO labels (project_id, seq, instance_id, annotator_id, class, state, given_at, received_at)"
    " VALUES (1, 1, 1, 1, 1, 0, 1000, 1000);"
    "INSERT INTO features (project_id, instance_id, vector) VALUES (1, 2, x'0000803f00000040');"
    "INSERT INTO models (project_id, number, ready, method, settings, seed, ensemble, label_seq, labels_used,"
    " created_at, n_chunks, size_bytes, sha256, n_classes, population_reliability)"
    " VALUES (1, 1, 1, 'annot_mix', '{}', 1, 1, 1, 1, 1000, 0, 0,"
    " x'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855', 2, 0.5);"
    "INSERT INTO model_annotators (project_id, number, annotator_id, labels, reliability) VALUES (1, 1, 1, 1, 0.75);";

static bool make_file_of_1(const char *path)
{
    struct db *db = NULL;
    struct amx_error err;
    const struct embedded_file *file = embedded_files;
    bool ok;

    while (file->path != NULL && strcmp(file->path, "migrations/0001_initial.sql") != 0)
        file++;
    if (file->path == NULL || db_open(path, DB_WRITER, true, &db, &err) != AMX_OK)
        return false;
    ok = db_exec(db, (const char *)file->begin, &err) == AMX_OK && db_exec(db, PRAGMAS_OF_1, &err) == AMX_OK &&
         db_exec(db, DATA_OF_1, &err) == AMX_OK;
    db_close(db);
    return ok;
}

static void check_old_rows(struct fixture *f)
{
    struct instance_row instance;
    struct model_row model;
    struct model_annotator annotator;

    CHECK_INT(instances_find(f->db, 1, text("i1"), 0, &instance, &f->err), AMX_OK);
    CHECK(instance.was_train && instance.split == SPLIT_TRAIN);
    instance_row_done(&instance);
    CHECK_INT(instances_find(f->db, 1, text("i2"), 0, &instance, &f->err), AMX_OK);
    CHECK(!instance.was_train);
    instance_row_done(&instance);
    CHECK_INT(models_get_active(f->db, 1, &model, &f->err), AMX_OK);
    CHECK_INT(model.number, 1);
    CHECK_INT(model.about.folds, 0);
    model_row_done(&model);
    CHECK_INT(model_annotators_get(f->db, 1, 1, 1, &annotator, &f->err), AMX_OK);
    CHECK_NEAR(annotator.reliability, 0.75, 0);
    CHECK(annotator.folds == NULL);
    model_annotator_done(&annotator);
}

TEST(a_file_of_schema_1_is_brought_up_to_date_with_its_data)
{
    struct fixture f = {.project = 1, .now = 2000};
    struct label_result r;
    enum put_outcome outcome;
    struct instance_row instance;

    folder_make(f.folder);
    (void)snprintf(f.path, sizeof f.path, "%s/old.db", f.folder);
    CHECK(make_file_of_1(f.path));
    CHECK_INT(store_open(f.path, NULL, &f.store, &f.err), AMX_OK);
    if (f.store == NULL)
        return;
    f.db = store_writer(f.store);
    CHECK(store_schema_version(f.store) >= 5);
    CHECK_INT(ask(&f, "SELECT count(*) FROM labels WHERE project_id = ?1"), 1);
    CHECK_INT(ask(&f, "SELECT count(*) FROM annotator_labels WHERE project_id = ?1 AND shelf = 1 AND seq = 1"),
              1);
    CHECK(counters_hold(&f));
    check_old_rows(&f);
    /* And it goes on. */
    CHECK_INT(put_label(&f, "i1", "bob", 0, 0, NULL, &r), AMX_OK);
    CHECK_INT(put_label(&f, "i1", "ana", 0, 3000, NULL, &r), AMX_OK);
    CHECK_INT(r.outcome, LABEL_REPLACED);
    CHECK(counters_hold(&f));
    CHECK_INT(put_instance(&f, "i1", NULL, SPLIT_TEST, -1, &outcome), AMX_OK);
    CHECK_INT(instances_find(f.db, 1, text("i1"), 0, &instance, &f.err), AMX_OK);
    CHECK(instance.split == SPLIT_TEST && instance.was_train);
    instance_row_done(&instance);
    store_close(f.store);
    folder_remove(f.folder);
}

TEST(an_instance_that_leaves_train_is_remembered)
{
    struct fixture f;
    struct instance_row row;
    enum put_outcome outcome;

    fixture_init(&f, 0);
    CHECK_INT(put_instance(&f, "x", NULL, SPLIT_VALID, -1, &outcome), AMX_OK);
    CHECK_INT(instances_find(f.db, f.project, text("x"), 0, &row, &f.err), AMX_OK);
    CHECK(!row.was_train);
    instance_row_done(&row);
    CHECK_INT(put_instance(&f, "x", NULL, SPLIT_TEST, -1, &outcome), AMX_OK);
    CHECK_INT(ask(&f, "SELECT was_train FROM instances WHERE project_id = ?1"), 0);
    CHECK_INT(put_instance(&f, "x", NULL, SPLIT_TRAIN, -1, &outcome), AMX_OK);
    CHECK_INT(put_instance(&f, "x", NULL, SPLIT_TEST, -1, &outcome), AMX_OK);
    CHECK_INT(put_instance(&f, "x", NULL, SPLIT_VALID, -1, &outcome), AMX_OK);
    CHECK_INT(ask(&f, "SELECT was_train FROM instances WHERE project_id = ?1"), 1);
    fixture_done(&f);
}
