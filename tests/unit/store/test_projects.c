/* Projects, classes, deleting and purging; tokens and idempotency rows. */
#include <stdio.h>
#include <string.h>

#include "fixture.h"
#include "store/idempotency.h"
#include "store/models.h"
#include "store/runs.h"
#include "store/tokens.h"
#include "test.h"

TEST(projects_round_trip)
{
    struct fixture f;
    struct project_row row;
    struct slice more[2] = {text("e"), text("Ω")};
    struct slice twice[1] = {text("a")};

    fixture_init(&f, 7);
    CHECK_INT(projects_find(f.db, text("music"), &row, &f.err), AMX_OK);
    CHECK_INT(row.id, f.project);
    CHECK_INT(strlen(row.uid), 32);
    CHECK(same(row.name, "music") && same(row.title, "") && same(row.settings, "{}"));
    CHECK_INT(row.n_classes, FIXTURE_CLASSES);
    CHECK(same(row.classes[3].name, "d") && !row.classes[3].retired);
    CHECK_INT(row.feature_dim, 7);
    CHECK_INT(row.active_model, 0);
    CHECK_INT(row.label_seq, 0);
    CHECK_INT(row.created_ms, 1000000);
    int64_t revision = row.revision;
    project_row_done(&row);

    CHECK_INT(projects_update(f.db, f.project, text("Music"), text(NULL), &f.err), AMX_OK);
    CHECK_INT(projects_append_classes(f.db, f.project, more, 2, &f.err), AMX_OK);
    CHECK_INT(db_begin(f.db, &f.err), AMX_OK);
    CHECK_INT(projects_append_classes(f.db, f.project, twice, 1, &f.err), AMX_CONFLICT);
    db_rollback(f.db);
    CHECK_INT(projects_retire_class(f.db, f.project, 1, true, &f.err), AMX_OK);
    CHECK_INT(projects_retire_class(f.db, f.project, 99, true, &f.err), AMX_NOT_FOUND);
    CHECK_INT(projects_update(f.db, 99, text("x"), text("{}"), &f.err), AMX_NOT_FOUND);
    CHECK_INT(projects_get(f.db, f.project, &row, &f.err), AMX_OK);
    CHECK(same(row.title, "Music") && same(row.settings, "{}"));
    CHECK_INT(row.n_classes, 6);
    CHECK(same(row.classes[5].name, "Ω") && row.classes[1].retired);
    CHECK(row.revision > revision);
    project_row_done(&row);
    CHECK_INT(projects_get(f.db, 99, &row, &f.err), AMX_NOT_FOUND);
    fixture_done(&f);
}

TEST(projects_too_many_classes)
{
    struct fixture f;
    static char names[AMX_MAX_CLASSES][16];
    static struct slice classes[AMX_MAX_CLASSES];

    fixture_init(&f, 0);
    for (int i = 0; i < AMX_MAX_CLASSES; i++) {
        (void)snprintf(names[i], sizeof(names[i]), "c%d", i);
        classes[i] = text(names[i]);
    }
    CHECK_INT(projects_append_classes(f.db, f.project, classes, AMX_MAX_CLASSES - FIXTURE_CLASSES + 1, &f.err),
              AMX_TOO_LARGE);
    CHECK_INT(projects_append_classes(f.db, f.project, classes, AMX_MAX_CLASSES - FIXTURE_CLASSES, &f.err), AMX_OK);
    fixture_done(&f);
}

static enum amx_status count(void *context, const struct project_row *row)
{
    int *n = context;
    *n += row->n_classes == FIXTURE_CLASSES;
    return AMX_OK;
}

TEST(projects_list_by_prefix_and_page)
{
    struct fixture f;
    int n = 0;
    bool more = false;

    fixture_init(&f, 0);
    (void)add_project(&f, "acme.one", 0);
    (void)add_project(&f, "acme.two", 0);
    CHECK_INT(projects_list(f.db, text(NULL), INT64_MIN, 10, count, &n, &more, &f.err), AMX_OK);
    CHECK_INT(n, 3);
    CHECK(!more);
    n = 0;
    CHECK_INT(projects_list(f.db, text("acme."), 0, 1, count, &n, &more, &f.err), AMX_OK);
    CHECK_INT(n, 1);
    CHECK(more);
    fixture_done(&f);
}

TEST(projects_names_are_unique_until_deleted)
{
    struct fixture f;
    struct slice classes[2] = {text("x"), text("y")};
    struct project_new project = {.name = text("music"), .classes = classes, .n_classes = 2, .now_ms = 5};
    struct project_row row;
    int64_t id = 0;

    fixture_init(&f, 0);
    CHECK_INT(db_begin(f.db, &f.err), AMX_OK);
    CHECK_INT(projects_insert(f.db, &project, &id, &f.err), AMX_CONFLICT);
    db_rollback(f.db);
    CHECK_INT(projects_delete(f.db, f.project, &f.err), AMX_OK);
    CHECK_INT(projects_delete(f.db, f.project, &f.err), AMX_NOT_FOUND);
    CHECK_INT(projects_find(f.db, text("music"), &row, &f.err), AMX_NOT_FOUND);
    CHECK_INT(projects_insert(f.db, &project, &id, &f.err), AMX_OK);
    CHECK(id > f.project);
    fixture_done(&f);
}

/* A project with everything in it, and one that must not be touched. */
TEST(projects_purge_leaves_nothing_and_nobody_else)
{
    static const char *const tables[] = {
        "SELECT count(*) FROM labels WHERE project_id = ?1",
        "SELECT count(*) FROM instances WHERE project_id = ?1",
        "SELECT count(*) FROM features WHERE key >> 32 = ?1",
        "SELECT count(*) FROM annotators WHERE project_id = ?1",
        "SELECT count(*) FROM departed_instances WHERE project_id = ?1",
        "SELECT count(*) FROM runs WHERE project_id = ?1",
        "SELECT count(*) FROM models WHERE project_id = ?1",
        "SELECT count(*) FROM model_chunks WHERE project_id = ?1",
        "SELECT count(*) FROM model_annotators WHERE project_id = ?1",
        "SELECT count(*) FROM classes WHERE project_id = ?1",
        "SELECT count(*) FROM idempotency WHERE project_id = ?1",
        "SELECT count(*) FROM projects WHERE id = ?1",
    };
    struct fixture f;
    struct label_result r;
    enum put_outcome o;
    float x[1] = {1};
    char name[24];
    int64_t other, number, id;
    struct run_spec spec = {.method = text("m"),
                            .gold_use = text("evaluate"),
                            .activate = text("always"),
                            .settings = text("{}"),
                            .seed = 1,
                            .ensemble = 1};
    struct model_new model = {.method = text("m"), .settings = text("{}"), .ensemble = 1};
    struct model_annotator annotator = {.annotator_id = 1, .labels = 1, .n_classes = FIXTURE_CLASSES};
    struct idempotency_row key = {.status = 201, .created_ms = 1};

    fixture_init(&f, 1);
    other = add_project(&f, "other", 1);
    for (int round = 0; round < 2; round++) {
        int64_t project = f.project;
        f.project = round == 0 ? project : other;
        for (int i = 0; i < 120; i++) {
            (void)snprintf(name, sizeof(name), "i%d", i);
            CHECK_INT(put_instance(&f, name, x, SPLIT_KEEP, -1, &o), AMX_OK);
            CHECK_INT(put_label(&f, name, "ana", 1, 0, NULL, &r), AMX_OK);
        }
        CHECK_INT(delete_instance(&f, "i5"), AMX_OK);
        CHECK_INT(runs_insert(f.db, f.project, &spec, false, 1, &number, &id, &f.err), AMX_OK);
        CHECK_INT(models_begin(f.db, f.project, &model, &number, &f.err), AMX_OK);
        CHECK_INT(models_put_chunk(f.db, f.project, number, 0, "x", 1, &f.err), AMX_OK);
        CHECK_INT(models_put_annotator(f.db, f.project, number, &annotator, &f.err), AMX_OK);
        CHECK_INT(idempotency_rows_insert(f.db, 1, f.project, text("k"), &key, &f.err), AMX_OK);
        f.project = project;
    }
    CHECK_INT(projects_delete(f.db, f.project, &f.err), AMX_OK);
    CHECK_INT(models_put_chunk(f.db, f.project, 1, 1, "y", 1, &f.err), AMX_OK); /* until it is purged */
    purge(&f);
    CHECK_INT(models_put_chunk(f.db, f.project, 1, 2, "z", 1, &f.err), AMX_NOT_FOUND);
    for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++)
        CHECK_INT(ask(&f, tables[i]), 0);
    f.project = other;
    CHECK(counters_hold(&f));
    for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++)
        CHECK(ask(&f, tables[i]) > 0);
    CHECK_INT(store_check(f.store, NULL, &f.err), AMX_OK);
    fixture_done(&f);
}

struct tokens {
    int n;
    struct token_row last;
    char name[32];
};

static enum amx_status see_token(void *context, const struct token_row *row)
{
    struct tokens *tokens = context;

    tokens->n++;
    tokens->last = *row;
    (void)snprintf(tokens->name, sizeof(tokens->name), "%s", row->name.bytes);
    return AMX_OK;
}

TEST(tokens_insert_list_revoke)
{
    struct fixture f;
    struct token_row row = {
        .name = text("ci"), .prefix = text("amx_abcd"), .scopes = 5, .created_ms = 10, .expires_ms = 99};
    struct tokens tokens = {.n = 0};
    int64_t id = 0, n = -1;
    bool more = true;

    fixture_init(&f, 0);
    CHECK_INT(tokens_count(f.db, &n, &f.err), AMX_OK);
    CHECK_INT(n, 0);
    CHECK_INT(tokens_insert(f.db, &row, &id, &f.err), AMX_OK);
    CHECK_INT(tokens_insert(f.db, &row, &id, &f.err), AMX_CONFLICT);
    row.sha256[31] = 1;
    row.name = text("second");
    CHECK_INT(tokens_insert(f.db, &row, &id, &f.err), AMX_OK);
    CHECK_INT(tokens_list(f.db, 0, 1, see_token, &tokens, &more, &f.err), AMX_OK);
    CHECK_INT(tokens.n, 1);
    CHECK(more);
    CHECK_INT(tokens_revoke(f.db, id, 50, &f.err), AMX_OK);
    CHECK_INT(tokens_revoke(f.db, id, 50, &f.err), AMX_NOT_FOUND);
    CHECK_INT(tokens_list(f.db, 0, 0, see_token, &tokens, NULL, &f.err), AMX_OK);
    CHECK_INT(tokens.n, 3);
    CHECK_STR(tokens.name, "second");
    CHECK_INT(tokens.last.revoked_ms, 50);
    CHECK_INT(tokens.last.expires_ms, 99);
    CHECK_INT(tokens.last.scopes, 5);
    CHECK_INT(tokens.last.sha256[31], 1);
    fixture_done(&f);
}

TEST(idempotency_rows_live_for_a_day)
{
    struct fixture f;
    struct idempotency_row row = {.status = 201,
                                  .media_type = text("application/json"),
                                  .body = text("{\"a\":1}"),
                                  .created_ms = 1000,
                                  .request_hash = {7}};
    struct idempotency_row got;
    int64_t day = IDEMPOTENCY_KEEP_MS;
    bool worked;

    fixture_init(&f, 0);
    CHECK_INT(idempotency_rows_insert(f.db, 3, f.project, text("k"), &row, &f.err), AMX_OK);
    CHECK_INT(idempotency_rows_insert(f.db, 3, f.project, text("k"), &row, &f.err), AMX_CONFLICT);
    CHECK_INT(idempotency_rows_insert(f.db, 4, f.project, text("k"), &row, &f.err), AMX_OK);
    CHECK_INT(idempotency_rows_find(f.db, 3, f.project, text("k"), 2000, &got, &f.err), AMX_OK);
    CHECK_INT(got.status, 201);
    CHECK(same(got.media_type, "application/json") && same(got.body, "{\"a\":1}"));
    CHECK(got.location.bytes == NULL && got.etag.bytes == NULL);
    CHECK_INT(got.request_hash[0], 7);
    idempotency_row_done(&got);
    CHECK_INT(idempotency_rows_find(f.db, 3, 0, text("k"), 2000, &got, &f.err), AMX_NOT_FOUND);
    CHECK_INT(idempotency_rows_find(f.db, 3, f.project, text("k"), 1000 + day, &got, &f.err), AMX_NOT_FOUND);
    row.created_ms = 1000 + day;
    CHECK_INT(idempotency_rows_insert(f.db, 3, f.project, text("k"), &row, &f.err), AMX_OK);
    CHECK_INT(idempotency_rows_purge_step(f.db, 1000 + day, &worked, &f.err), AMX_OK);
    CHECK(!worked);
    CHECK_INT(ask(&f, "SELECT count(*) FROM idempotency"), 1);
    fixture_done(&f);
}
