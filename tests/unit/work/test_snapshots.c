/* Models in memory: the active one, older ones, the swap, the limit. */
#include <math.h>
#include <string.h>

#include "fixture.h"
#include "store/models.h"
#include "test.h"
#include "work/snapshots.h"

struct activation {
    int64_t project_id, number;
};

static enum amx_status activate(struct db *db, void *context, struct amx_error *err)
{
    struct activation *a = context;

    return models_activate(db, a->project_id, a->number, err);
}

/* Trains `n` models, seeds 1, 2, ... */
static bool train(struct fixture *f, int64_t project, int n)
{
    struct run_request request;

    fixture_request(&request, 2);
    for (int i = 1; i <= n; i++) {
        request.seed = (uint64_t)i;
        if (!fixture_wait(f, fixture_queue(f, project, &request), RUN_SUCCEEDED))
            return false;
    }
    return true;
}

TEST(snapshots_serve_the_active_model_and_swap)
{
    struct fixture f;
    struct model_snapshot *first = NULL, *second = NULL, *again = NULL;
    struct amx_error err;
    struct activation back;
    int64_t project;

    if (!fixture_init(&f, 1))
        return;
    project = fixture_project(&f, "p", NULL);
    CHECK_INT(snapshots_get(f.service->snapshots, project, &first, &err), AMX_NOT_FOUND);
    CHECK(fixture_fill(&f, &(struct fixture_data){project, 50, 3, FORWARD, false}));
    if (!train(&f, project, 1) || snapshots_get(f.service->snapshots, project, &first, &err) != AMX_OK) {
        CHECK(false);
        goto done;
    }
    CHECK_INT(first->number, 1);
    CHECK_INT(first->info.n_annotators, 3);
    CHECK_INT(snapshot_annotator(first, "a2", 2), 2);
    CHECK_INT(snapshot_annotator(first, "nobody", 6), AMX_UNSEEN);
    CHECK_INT(snapshot_evidence(first, 0), 40);
    CHECK_INT(snapshot_evidence(first, AMX_UNSEEN), 0);
    CHECK(isfinite(first->population_reliability));
    CHECK(first->label_seq > 0 && first->computed_at_ms > 0);

    CHECK(train(&f, project, 2));
    CHECK_INT(snapshots_get(f.service->snapshots, project, &second, &err), AMX_OK);
    CHECK_INT(second->number, 3);
    CHECK_INT(first->info.n_classes, 2); /* still valid for who holds it */
    back = (struct activation){project, 1};
    /* Committed, and not yet told: who asks now gets it already. */
    CHECK_INT(snapshots_changing(f.service->snapshots, project, &err), AMX_OK);
    CHECK_INT(fixture_write(&f, activate, &back, &err), AMX_OK);
    CHECK_INT(snapshots_get(f.service->snapshots, project, &again, &err), AMX_OK);
    CHECK_INT(again->number, 1);
    snapshot_unref(again);
    again = NULL;
    snapshots_changed(f.service->snapshots, project);
    snapshots_settled(f.service->snapshots, project);
    CHECK_INT(snapshots_get(f.service->snapshots, project, &again, &err), AMX_OK);
    CHECK_INT(again->number, 1);
    snapshot_unref(again);
    again = NULL;
    CHECK_INT(snapshots_get_number(f.service->snapshots, project, 2, &again, &err), AMX_OK);
    CHECK_INT(again->number, 2);
    snapshot_unref(again);
    again = NULL;
    CHECK_INT(snapshots_get_number(f.service->snapshots, project, 9, &again, &err), AMX_NOT_FOUND);
    CHECK_INT(snapshots_get_number(f.service->snapshots, project, -1, &again, &err), AMX_NOT_FOUND);
done:
    snapshot_unref(first);
    snapshot_unref(second);
    fixture_done(&f);
}

TEST(snapshots_keep_under_the_limit)
{
    struct fixture f;
    struct model_snapshot *s = NULL;
    struct amx_error err;
    size_t bytes, n, one;
    int64_t project;

    if (!fixture_init(&f, 1))
        return;
    project = fixture_project(&f, "p", NULL);
    CHECK(fixture_fill(&f, &(struct fixture_data){project, 50, 3, FORWARD, false}));
    CHECK(train(&f, project, 3));
    CHECK_INT(snapshots_get(f.service->snapshots, project, &s, &err), AMX_OK);
    one = s != NULL ? s->memory_bytes : 0;
    snapshot_unref(s);
    fixture_stop(&f);
    f.config.model_memory_bytes = one * 5 / 2; /* two of them */
    if (!fixture_start(&f))
        goto done;
    for (int64_t number = 1; number <= 3; number++) {
        s = NULL;
        CHECK_INT(snapshots_get_number(f.service->snapshots, project, number, &s, &err), AMX_OK);
        snapshot_unref(s);
    }
    snapshots_memory(f.service->snapshots, &bytes, &n);
    CHECK_INT(n, 2);
    CHECK(bytes <= f.config.model_memory_bytes);
    snapshots_drop(f.service->snapshots, project, 3);
    snapshots_memory(f.service->snapshots, &bytes, &n);
    CHECK_INT(n, 1);
done:
    fixture_done(&f);
}
