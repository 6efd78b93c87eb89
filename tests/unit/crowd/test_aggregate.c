/* The label-only methods: beside crowd-kit's results, and on odd input. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crowd/aggregate.h"
#include "crowd_csv.h"
#include "test.h"

/* ---- crowd-kit ----------------------------------------------------------------------------------------------------- */

struct comparison {
    double same; /* share of instances with crowd-kit's class */
    double right, their_right; /* against gold */
};

static bool compare(const char *labels_path, const char *theirs_path, const char *gold_path, const char *method,
                    struct comparison *out)
{
    struct csv_labels l = {0};
    struct csv_classes theirs = {0}, gold = {0};
    double *posterior = NULL;
    uint32_t *winner = NULL;
    struct amx_error err;
    size_t same = 0, right = 0, their_right = 0;
    bool ok = csv_labels_read(labels_path, &l) && csv_classes_read(theirs_path, &theirs) &&
              csv_classes_read(gold_path, &gold);

    if (ok) {
        posterior = calloc(l.labels.n_instances * l.labels.n_classes, sizeof *posterior);
        winner = calloc(l.labels.n_instances, sizeof *winner);
        CHECK_INT(aggregate(&l.labels, method, NULL, posterior, NULL, NULL, &err), AMX_OK);
        aggregate_winners(posterior, l.labels.n_instances, l.labels.n_classes, winner);
    }
    for (size_t i = 0; ok && i < theirs.n; i++) {
        uint32_t at = csv_find(&l.instances, theirs.instance[i]);

        same += at != UINT32_MAX && strcmp(l.classes.name[winner[at]], theirs.class_[i]) == 0;
        for (size_t g = 0; g < gold.n; g++) {
            if (strcmp(gold.instance[g], theirs.instance[i]) != 0)
                continue;
            right += at != UINT32_MAX && strcmp(l.classes.name[winner[at]], gold.class_[g]) == 0;
            their_right += strcmp(theirs.class_[i], gold.class_[g]) == 0;
            break;
        }
    }
    if (ok)
        *out = (struct comparison){(double)same / (double)theirs.n, (double)right / (double)theirs.n,
                                   (double)their_right / (double)theirs.n};
    free(winner);
    free(posterior);
    csv_classes_done(&gold);
    csv_classes_done(&theirs);
    csv_labels_done(&l);
    return ok;
}

static const struct pair {
    const char *ours, *theirs;
    bool exact; /* the same class on 99.5 % of the instances; else accuracy within half a point, or better */
} pairs[] = {
    {"majority_vote", "MajorityVote", false}, {"wawa", "Wawa", true},
    {"zero_based_skill", "ZeroBasedSkill", false}, {"dawid_skene", "DawidSkene", true},
    {"one_coin_dawid_skene", "OneCoinDawidSkene", true}, {"glad", "GLAD", false},
    {"mace", "MACE", false}, {"kos", "KOS", false}, {"m_msr", "MMSR", true},
};
enum {
    N_PAIRS = sizeof pairs / sizeof pairs[0]
};

TEST(methods_equal_crowd_kit_on_shared_data)
{
    static const char *const sets[] = {"duck", "dog", "product", "music-genres"};
    const char *shared = getenv("AMX_SHARED");
    int compared = 0;

    shared = shared != NULL ? shared : "../shared";
    for (size_t s = 0; s < 4; s++) {
        for (size_t m = 0; m < N_PAIRS; m++) {
            char labels[512], theirs[512], gold[512];
            struct comparison c;

            (void)snprintf(labels, sizeof labels, "%s/data/%s/labels.csv", shared, sets[s]);
            (void)snprintf(gold, sizeof gold, "%s/data/%s/gold.csv", shared, sets[s]);
            (void)snprintf(theirs, sizeof theirs, "%s/golden/crowd-kit/%s.%s.csv", shared, sets[s], pairs[m].theirs);
            if (!compare(labels, theirs, gold, pairs[m].ours, &c))
                continue;
            compared++;
            printf("    %-13s %-21s %6.2f %% the same, accuracy %.2f (crowd-kit %.2f)\n", sets[s], pairs[m].ours,
                   100 * c.same, 100 * c.right, 100 * c.their_right);
            CHECK(pairs[m].exact ? c.same >= 0.995 : c.right >= c.their_right - 0.005);
        }
    }
    if (compared == 0)
        test_skip("no data folder beside the project (../shared, or AMX_SHARED)");
}
