/* The label-only methods: beside crowd-kit's results, and on odd input. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crowd/aggregate/aggregate.h"
#include "crowd_csv.h"
#include "test.h"

/* ---- crowd-kit --------------------------------------------------------------------------------------------------- */

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

TEST(methods_equal_crowd_kit_on_golden_files)
{
    static const char *const sets[] = {"two", "five"};

    for (size_t s = 0; s < 2; s++) {
        for (size_t m = 0; m < N_PAIRS; m++) {
            char labels[256], theirs[256], gold[256];
            struct comparison c = {0};

            if (strcmp(pairs[m].ours, "kos") == 0 && s == 1)
                continue;
            (void)snprintf(labels, sizeof labels, "tests/golden/crowd/%s.labels.csv", sets[s]);
            (void)snprintf(gold, sizeof gold, "tests/golden/crowd/%s.gold.csv", sets[s]);
            (void)snprintf(theirs, sizeof theirs, "tests/golden/crowd/%s.%s.csv", sets[s], pairs[m].ours);
            CHECK(compare(labels, theirs, gold, pairs[m].ours, &c));
            /* One instance of 120 or 150 is 0.8 points. */
            CHECK(pairs[m].exact ? c.same >= 0.995 : c.right >= c.their_right - 0.009);
        }
    }
}

/* ---- odd input --------------------------------------------------------------------------------------------------- */

enum {
    MOST_LABELS = 400,
    MOST_CELLS = 20000
};

/* Labels written down one by one. */
struct made {
    uint32_t instance[MOST_LABELS], annotator[MOST_LABELS], class_[MOST_LABELS];
    struct crowd_labels labels;
};

static void begin(struct made *m, size_t n_instances, size_t n_annotators, size_t n_classes)
{
    m->labels =
        (struct crowd_labels){n_instances, n_annotators, n_classes, 0, m->instance, m->annotator, m->class_};
}

static void say(struct made *m, uint32_t instance, uint32_t annotator, uint32_t class_)
{
    m->instance[m->labels.n_labels] = instance;
    m->annotator[m->labels.n_labels] = annotator;
    m->class_[m->labels.n_labels++] = class_;
}

static double posterior[MOST_CELLS], reliability[MOST_LABELS];

/* Every method: rows sum to 1, reliabilities are in 0..1 or, without labels, NaN. */
static void check_all(const struct made *m, const struct aggregate_options *options)
{
    size_t n;
    const struct aggregate_method *methods = aggregate_methods(&n);

    CHECK_INT(n, N_PAIRS);
    for (size_t i = 0; i < n; i++) {
        struct amx_error err = {0};
        enum amx_status status = aggregate(&m->labels, methods[i].name, options, posterior, reliability, NULL, &err);

        if (methods[i].two_classes && status == AMX_INVALID) {
            CHECK(strstr(err.text, "two classes") != NULL);
            continue;
        }
        CHECK_INT(status, AMX_OK);
        for (size_t r = 0; r < m->labels.n_instances; r++) {
            double sum = 0;

            for (size_t k = 0; k < m->labels.n_classes; k++) {
                double p = posterior[r * m->labels.n_classes + k];

                CHECK(p >= 0 && p <= 1 + 1e-9);
                sum += p;
            }
            CHECK_NEAR(sum, 1, 1e-9);
        }
        for (size_t a = 0; a < m->labels.n_annotators; a++) {
            bool labelled = false;

            for (size_t l = 0; l < m->labels.n_labels; l++)
                labelled = labelled || m->annotator[l] == a;
            if (labelled != (reliability[a] >= 0 && reliability[a] <= 1 + 1e-9) || labelled == isnan(reliability[a]))
                printf("    %s: reliability %g of annotator %zu\n", methods[i].name, reliability[a], a);
            CHECK(labelled == (reliability[a] >= 0 && reliability[a] <= 1 + 1e-9));
            CHECK(labelled != isnan(reliability[a]));
        }
    }
}

TEST(methods_take_no_labels_at_all)
{
    static struct made m;

    begin(&m, 3, 2, 4);
    check_all(&m, NULL);
    CHECK_NEAR(posterior[0], 0.25, 1e-12);
    begin(&m, 0, 0, 0);
    check_all(&m, NULL);
}

TEST(methods_take_instances_and_annotators_without_labels)
{
    static struct made m;

    begin(&m, 6, 5, 3);
    for (uint32_t i = 1; i < 5; i++) {
        say(&m, i, 1, i % 2);
        say(&m, i, 3, i % 2);
        say(&m, i, 4, i == 3 ? 0 : i % 2);
    }
    check_all(&m, NULL);
    CHECK_INT(aggregate(&m.labels, "dawid_skene", NULL, posterior, NULL, NULL, NULL), AMX_OK);
    /* The unlabelled ends get the shares of the others; the third class, which nobody gave, nothing. */
    CHECK_NEAR(posterior[0], 0.5, 0.05);
    CHECK_NEAR(posterior[15], posterior[0], 1e-12);
    CHECK(posterior[3 * 3 + 1] > 0.9 && posterior[2] <= 0 && posterior[3 * 3 + 2] <= 0);
}

TEST(methods_take_one_class_and_equal_labels)
{
    static struct made m;

    begin(&m, 4, 3, 1);
    for (uint32_t i = 0; i < 4; i++) {
        for (uint32_t a = 0; a < 3; a++)
            say(&m, i, a, 0);
    }
    check_all(&m, NULL);
    /* The same labels among five classes. */
    begin(&m, 4, 3, 5);
    for (uint32_t i = 0; i < 4; i++) {
        for (uint32_t a = 0; a < 3; a++)
            say(&m, i, a, 3);
    }
    check_all(&m, NULL);
    CHECK_NEAR(posterior[3], 1, 1e-12);
}

TEST(methods_take_one_annotator)
{
    static struct made m;
    size_t n;
    const struct aggregate_method *methods = aggregate_methods(&n);

    begin(&m, 10, 1, 2);
    for (uint32_t i = 0; i < 10; i++)
        say(&m, i, 0, i % 3 == 0);
    check_all(&m, NULL);
    for (size_t i = 0; i < n; i++) {
        uint32_t winner[10];

        CHECK_INT(aggregate(&m.labels, methods[i].name, NULL, posterior, NULL, NULL, NULL), AMX_OK);
        aggregate_winners(posterior, 10, 2, winner);
        for (uint32_t r = 0; r < 10; r++)
            CHECK_INT(winner[r], r % 3 == 0);
    }
}

TEST(methods_take_annotators_who_never_overlap)
{
    static struct made m;
    size_t n;
    const struct aggregate_method *methods = aggregate_methods(&n);

    begin(&m, 12, 4, 2);
    for (uint32_t i = 0; i < 12; i++)
        say(&m, i, i / 3, i % 2);
    check_all(&m, NULL);
    for (size_t i = 0; i < n; i++) {
        uint32_t winner[12];

        CHECK_INT(aggregate(&m.labels, methods[i].name, NULL, posterior, NULL, NULL, NULL), AMX_OK);
        aggregate_winners(posterior, 12, 2, winner);
        for (uint32_t r = 0; r < 12; r++) {
            if (winner[r] != r % 2)
                printf("    %s turns a single label round\n", methods[i].name);
            CHECK_INT(winner[r], r % 2);
        }
    }
}

TEST(methods_take_a_thousand_classes_mostly_unseen)
{
    static struct made m;
    uint32_t winner[20];

    begin(&m, 20, 5, 1000);
    for (uint32_t i = 0; i < 20; i++) {
        for (uint32_t a = 0; a < 4; a++)
            say(&m, i, a, a == 3 ? 999 : 100 + 7 * (i % 3));
    }
    check_all(&m, NULL);
    CHECK_INT(aggregate(&m.labels, "dawid_skene", NULL, posterior, NULL, NULL, NULL), AMX_OK);
    aggregate_winners(posterior, 20, 1000, winner);
    for (uint32_t i = 0; i < 20; i++)
        CHECK_INT(winner[i], 100 + 7 * (i % 3));
}

TEST(gold_fixes_posteriors_even_against_every_label)
{
    static struct made m;
    int32_t gold[8] = {1, 1, 1, 1, -1, -1, -1, 2};
    const struct aggregate_options options = {.gold = gold};
    size_t n;
    const struct aggregate_method *methods = aggregate_methods(&n);

    /* Three annotators say 0 where gold says 1; instance 7 has no label. */
    begin(&m, 8, 3, 3);
    for (uint32_t i = 0; i < 7; i++) {
        for (uint32_t a = 0; a < 3; a++)
            say(&m, i, a, 0);
    }
    check_all(&m, &options);
    for (size_t i = 0; i < n; i++) {
        if (!methods[i].uses_gold)
            continue;
        CHECK_INT(aggregate(&m.labels, methods[i].name, &options, posterior, reliability, NULL, NULL), AMX_OK);
        for (int r = 0; r < 4; r++)
            CHECK_NEAR(posterior[r * 3 + 1], 1, 1e-12);
        CHECK_NEAR(posterior[7 * 3 + 2], 1, 1e-12);
    }
    CHECK_INT(aggregate(&m.labels, "one_coin_dawid_skene", &options, posterior, reliability, NULL, NULL), AMX_OK);
    CHECK(reliability[0] < 0.5);
}

TEST(history_weighs_annotators_before_they_overlap)
{
    static struct made m;
    /* Annotator 0 was right 90 times of 100, annotator 1 50 times; they contradict each other twice. */
    const float history[2 * 4] = {45, 5, 5, 45, 25, 25, 25, 25};
    const struct aggregate_options options = {.history = history};
    static const char *const names[] = {"wawa", "zero_based_skill", "dawid_skene", "one_coin_dawid_skene"};

    begin(&m, 2, 2, 2);
    say(&m, 0, 0, 1);
    say(&m, 0, 1, 0);
    say(&m, 1, 0, 0);
    say(&m, 1, 1, 1);
    check_all(&m, &options);
    for (size_t i = 0; i < 4; i++) {
        CHECK(aggregate_find(names[i])->uses_history);
        CHECK_INT(aggregate(&m.labels, names[i], &options, posterior, reliability, NULL, NULL), AMX_OK);
        CHECK(posterior[1] > 0.6 && posterior[2] > 0.6);
        CHECK(reliability[0] > reliability[1]);
    }
}

static void count_calls(double fraction, void *context)
{
    CHECK(fraction >= 0 && fraction <= 1);
    ++*(int *)context;
}

TEST(methods_report_progress_stop_and_repeat_themselves)
{
    static struct made m;
    static double again[MOST_CELLS];
    const int stop = 1;
    struct aggregate_options options = {.seed = 5};
    struct aggregate_report report;
    struct amx_error err;
    size_t n;
    const struct aggregate_method *methods = aggregate_methods(&n);

    begin(&m, 20, 5, 2);
    for (uint32_t i = 0; i < 20; i++) {
        for (uint32_t a = 0; a < 5; a++)
            say(&m, i, a, (i * 7 + a * a * i) % 5 < 2);
    }
    for (size_t i = 0; i < n; i++) {
        int calls = 0;

        options.cancel = NULL;
        options.progress = count_calls;
        options.context = &calls;
        CHECK_INT(aggregate(&m.labels, methods[i].name, &options, posterior, NULL, &report, NULL), AMX_OK);
        CHECK_INT(calls, report.rounds);
        CHECK(methods[i].rounds > 0 ? report.rounds > 0 : report.converged);
        CHECK_INT(aggregate(&m.labels, methods[i].name, &options, again, NULL, NULL, NULL), AMX_OK);
        CHECK(memcmp(posterior, again, 40 * sizeof *again) == 0);
        options.cancel = &stop;
        if (methods[i].rounds > 0)
            CHECK_INT(aggregate(&m.labels, methods[i].name, &options, posterior, NULL, NULL, &err), AMX_CANCELLED);
    }
    CHECK_INT(aggregate(&m.labels, "nobody", NULL, posterior, NULL, NULL, &err), AMX_NOT_FOUND);
    CHECK(strstr(err.text, "nobody") != NULL);
    CHECK(aggregate_find("nobody") == NULL);
}
