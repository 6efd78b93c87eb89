/* After any sequence of operations the counters equal a recount: 10,000 random operations, the seed printed on failure.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "fixture.h"
#include "store/annotators.h"
#include "test.h"

enum {
    OPERATIONS = 10000,
    INSTANCES = 60,
    ANNOTATORS = 12,
    JOB = 25
};

static uint64_t state;

static unsigned roll(unsigned n)
{
    state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (unsigned)(state >> 33) % n;
}

/* One random operation; any refusal it may meet is fine, everything else is not. */
static enum amx_status operate(struct fixture *f, struct changes *ch)
{
    static const float x[2] = {1, 2}, y[2] = {3, 4};
    char instance[16], annotator[16], ref[16];
    struct label_result r;
    enum put_outcome o;
    int64_t id;
    unsigned kind = roll(100);

    (void)snprintf(instance, sizeof(instance), "i%u", roll(INSTANCES));
    (void)snprintf(annotator, sizeof(annotator), "a%u", roll(ANNOTATORS));
    (void)snprintf(ref, sizeof(ref), "r%u", roll(40));
    if (kind < 60) {
        struct label_put put = {.instance = text(instance),
                                .annotator = text(annotator),
                                .class_index = roll(6) == 0 ? LABEL_SKIPPED : (int)roll(FIXTURE_CLASSES),
                                .ref = text(roll(4) == 0 ? ref : NULL),
                                .given_ms = roll(3) == 0 ? 1 + roll(1000) : 0,
                                .duration_ms = -1,
                                .create_instance = roll(2) == 0};
        return labels_put(ch, &put, &r, &f->err);
    }
    if (kind < 75) {
        struct instance_put put = {.name = text(instance),
                                   .features = roll(3) == 0 ? NULL
                                               : roll(2)    ? x
                                                            : y,
                                   .split = (enum split)((int)roll(4) - 1),
                                   .gold_class = roll(3) == 0 ? (int)roll(FIXTURE_CLASSES) : -1};
        return instances_put(ch, &put, &o, &id, &f->err);
    }
    if (kind < 83)
        return gold_put(ch, text(instance), (int)roll(FIXTURE_CLASSES), &o, &f->err);
    if (kind < 87)
        return gold_delete(ch, text(instance), &f->err);
    if (kind < 94)
        return labels_delete(ch, text(instance), text(annotator), &f->err);
    if (kind < 97)
        return labels_delete_ref(ch, text(ref), &f->err);
    if (kind < 99)
        return instances_delete(ch, text(instance), &f->err);
    return annotators_delete(ch, text(annotator), &f->err);
}

TEST(counters_equal_a_recount_after_random_operations)
{
    struct fixture f;
    struct changes ch;
    uint64_t seed = (uint64_t)getpid() * UINT64_C(2654435761);
    const char *given = getenv("SEED");
    bool worked;

    state = seed = given != NULL ? strtoull(given, NULL, 10) : seed;
    fixture_init(&f, 2);
    for (int done = 0; done < OPERATIONS; done += JOB) {
        f.now += 1000;
        CHECK_INT(db_begin(f.db, &f.err), AMX_OK);
        CHECK_INT(db_savepoint(f.db, &f.err), AMX_OK);
        CHECK_INT(changes_begin(f.db, f.project, f.now, &ch, &f.err), AMX_OK);
        enum amx_status status = AMX_OK;
        for (int i = 0; i < JOB && status == AMX_OK; i++) {
            status = operate(&f, &ch);
            if (status == AMX_NOT_FOUND || status == AMX_CONFLICT)
                status = AMX_OK;
        }
        CHECK_INT(status, AMX_OK);
        if (roll(10) == 0) {
            CHECK_INT(db_savepoint_undo(f.db, &f.err), AMX_OK);
        } else {
            CHECK_INT(changes_flush(&ch, &f.err), AMX_OK);
            CHECK_INT(db_savepoint_release(f.db, &f.err), AMX_OK);
        }
        CHECK_INT(db_commit(f.db, &f.err), AMX_OK);
        if (roll(5) == 0) {
            CHECK_INT(db_begin(f.db, &f.err), AMX_OK);
            CHECK_INT(annotators_purge_step(f.db, f.now, &worked, &f.err), AMX_OK);
            CHECK_INT(db_commit(f.db, &f.err), AMX_OK);
        }
        if (done % 1000 == 0 && !counters_hold(&f)) {
            printf("SEED=%llu after %d operations: %s\n", (unsigned long long)seed, done, f.err.text);
            CHECK(false);
            break;
        }
    }
    purge(&f);
    CHECK(counters_hold(&f));
    CHECK_INT(store_check(f.store, NULL, &f.err), AMX_OK);
    if (!counters_hold(&f))
        printf("SEED=%llu\n", (unsigned long long)seed);
    fixture_done(&f);
}
