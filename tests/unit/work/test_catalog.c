/* Projects in memory: found by name and id, replaced when they change, alive for whoever holds them. */
#include <stdlib.h>
#include <string.h>

#include "fixture.h"
#include "store/projects.h"
#include "test.h"
#include "work/catalog.h"

static enum amx_status delete_project(struct db *db, void *context, struct amx_error *err)
{
    return projects_delete(db, *(int64_t *)context, err);
}

static enum amx_status change_project(struct db *db, void *context, struct amx_error *err)
{
    static const char settings[] = "{\"overlap\":7}";
    const struct slice more[] = {{"maybe", 5}};
    enum amx_status status = projects_update(db, *(int64_t *)context, (struct slice){"Title", 5},
                                             (struct slice){settings, sizeof settings - 1}, err);

    return status != AMX_OK ? status : projects_append_classes(db, *(int64_t *)context, more, 1, err);
}

TEST(catalog_follows_the_store)
{
    struct fixture f;
    struct project_info *p, *held, **list;
    struct amx_error err;
    int64_t a, b;
    uint32_t k;
    size_t n;

    if (!fixture_init(&f, 0))
        return;
    b = fixture_project(&f, "beta", NULL);
    a = fixture_project(&f, "alpha", "{\"resolve_threshold\":0.8}");
    CHECK(catalog_get(f.service->catalog, "gamma") == NULL);
    p = catalog_get(f.service->catalog, "alpha");
    CHECK(p != NULL && p->id == a);
    if (p == NULL)
        goto done;
    CHECK_NEAR(p->settings.resolve_threshold, 0.8, 0);
    CHECK_INT(p->feature_dim, 2);
    CHECK(project_class_index(p, "yes", 3, &k) && k == 1);
    CHECK(!project_class_index(p, "ye", 2, &k));
    CHECK(!project_class_index(p, "maybe", 5, &k));
    CHECK_INT(strlen(p->uid), 32);
    held = p;

    CHECK_INT(fixture_write(&f, change_project, &a, &err), AMX_OK);
    CHECK_INT(catalog_reload(f.service->catalog, a, &err), AMX_OK);
    p = catalog_get_id(f.service->catalog, a);
    CHECK(p != NULL && p != held);
    if (p != NULL) {
        CHECK(project_class_index(p, "maybe", 5, &k) && k == 2);
        CHECK_INT(p->settings.overlap, 7);
        CHECK_STR(p->title, "Title");
    }
    CHECK_INT(held->n_classes, 2); /* whoever holds the old one sees the old one */
    project_unref(p);

    CHECK_INT(catalog_list(f.service->catalog, &list, &n), AMX_OK);
    CHECK_INT(n, 2);
    CHECK_STR(list[0]->name, "alpha");
    for (size_t i = 0; i < n; i++)
        project_unref(list[i]);
    free(list);

    CHECK_INT(fixture_write(&f, delete_project, &a, &err), AMX_OK);
    CHECK_INT(catalog_reload(f.service->catalog, a, &err), AMX_OK);
    CHECK(catalog_get(f.service->catalog, "alpha") == NULL);
    CHECK_STR(held->name, "alpha");
    project_unref(held);
    catalog_remove(f.service->catalog, b);
    CHECK_INT(catalog_count(f.service->catalog), 0);

    /* A new start loads what there is. */
    fixture_stop(&f);
    if (fixture_start(&f)) {
        CHECK_INT(catalog_count(f.service->catalog), 1);
        p = catalog_get_id(f.service->catalog, b);
        CHECK(p != NULL && strcmp(p->name, "beta") == 0);
        project_unref(p);
    }
done:
    fixture_done(&f);
}
