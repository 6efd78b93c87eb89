/* EM on a case whose answer is plain, on odd input, and beside crowd-kit's results where ../shared is at hand. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crowd/dawid_skene.h"
#include "crowd/majority.h"
#include "test.h"

enum {
    MAX_ROWS = 40000,
    NAME = 40
};

TEST(dawid_skene_trusts_the_reliable_and_turns_the_adversary_round)
{
    enum {
        N = 60,
        A = 4
    };
    static uint32_t instance[N * A], annotator[N * A], class_[N * A];
    static double posterior[N * 2], confusion[A * 4], reliability[A];
    struct crowd_labels labels = {N, A, 2, N * A, instance, annotator, class_};
    double prior[2];
    int rounds, right = 0;

    /* Truth alternates; 0 and 1 err on one in ten and one in seven, 2 on every third, 3 says the opposite. */
    for (uint32_t i = 0; i < N; i++) {
        uint32_t truth = i % 2;
        const uint32_t says[A] = {i % 10 == 0 ? 1 - truth : truth, i % 7 == 3 ? 1 - truth : truth,
                                  i % 3 == 1 ? 1 - truth : truth, 1 - truth};

        for (uint32_t a = 0; a < A; a++) {
            instance[i * A + a] = i;
            annotator[i * A + a] = a;
            class_[i * A + a] = says[a];
        }
    }
    CHECK_INT(dawid_skene(&labels, DAWID_SKENE_ROUNDS, DAWID_SKENE_TOLERANCE, posterior, confusion, prior, &rounds),
              AMX_OK);
    for (int i = 0; i < N; i++) {
        CHECK_NEAR(posterior[i * 2] + posterior[i * 2 + 1], 1, 1e-12);
        right += (posterior[i * 2 + 1] > 0.5) == (i % 2 == 1);
    }
    CHECK(right >= N - 2);
    CHECK(confusion[3 * 4] < 0.1 && confusion[3 * 4 + 1] > 0.9); /* row 0 of the adversary */
    CHECK_NEAR(prior[0], 0.5, 0.05);
    CHECK(rounds >= 1 && rounds <= DAWID_SKENE_ROUNDS);
    CHECK_INT(dawid_skene_reliability(&labels, posterior, reliability), AMX_OK);
    CHECK(reliability[0] > 0.85 && reliability[3] < 0.1);
}

TEST(dawid_skene_takes_instances_and_annotators_without_labels)
{
    static const uint32_t instance[] = {0, 0, 2}, annotator[] = {0, 1, 0}, class_[] = {1, 1, 0};
    const struct crowd_labels labels = {4, 3, 3, 3, instance, annotator, class_};
    double posterior[12], reliability[3], sum;

    CHECK_INT(dawid_skene(&labels, 100, 1e-5, posterior, NULL, NULL, NULL), AMX_OK);
    for (int i = 0; i < 4; i++) {
        sum = posterior[i * 3] + posterior[i * 3 + 1] + posterior[i * 3 + 2];
        CHECK_NEAR(sum, 1, 1e-12);
    }
    CHECK(posterior[1] > 0.5);
    CHECK_INT(dawid_skene_reliability(&labels, posterior, reliability), AMX_OK);
    CHECK(isnan(reliability[2]));
}

TEST(dawid_skene_refuses_what_cannot_fit)
{
    const struct crowd_labels labels = {1, 1000000, 1000, 0, NULL, NULL, NULL};
    double posterior[1000];

    CHECK_INT(dawid_skene(&labels, 1, 1e-5, posterior, NULL, NULL, NULL), AMX_TOO_LARGE);
}

/* ---- crowd-kit --------------------------------------------------------------------------------------------- */

struct row {
    char cell[3][NAME];
};
struct table {
    struct row *rows;
    size_t n;
};

/* Simple CSV without quotes; false when the file is not there. */
static bool read_table(const char *path, struct table *out)
{
    FILE *file = fopen(path, "r");
    char line[200];

    out->n = 0;
    out->rows = calloc(MAX_ROWS, sizeof *out->rows);
    if (file == NULL || out->rows == NULL || fgets(line, sizeof line, file) == NULL) {
        if (file != NULL)
            (void)fclose(file);
        return false;
    }
    while (out->n < MAX_ROWS && fgets(line, sizeof line, file) != NULL) {
        const char *at = line;

        for (int c = 0; c < 3; c++) {
            size_t n = strcspn(at, ",\r\n");

            (void)snprintf(out->rows[out->n].cell[c], NAME, "%.*s", (int)n, at);
            at += n + (at[n] == ',');
        }
        out->n++;
    }
    (void)fclose(file);
    return true;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(a, b);
}

/* Sorted distinct texts of column c. */
static size_t distinct(const struct table *t, int c, char (*names)[NAME])
{
    size_t n = 0;

    for (size_t i = 0; i < t->n; i++)
        (void)snprintf(names[i], NAME, "%s", t->rows[i].cell[c]);
    qsort(names, t->n, NAME, by_text);
    for (size_t i = 0; i < t->n; i++) {
        if (n == 0 || strcmp(names[n - 1], names[i]) != 0)
            memmove(names[n++], names[i], NAME);
    }
    return n;
}

static uint32_t index_in(char (*names)[NAME], size_t n, const char *text)
{
    char(*found)[NAME] = bsearch(text, names, n, NAME, by_text);

    return found == NULL ? UINT32_MAX : (uint32_t)(found - names);
}

static int by_instance(const void *a, const void *b)
{
    return strcmp(((const struct row *)a)->cell[0], ((const struct row *)b)->cell[0]);
}

/* Share of instances on which ours is crowd-kit's class; -1: files are not there. */
static double agreement(const char *set)
{
    const char *shared = getenv("AMX_SHARED");
    char path[512];
    struct table labels = {0}, golden = {0};
    char(*names[3])[NAME] = {NULL};
    size_t n[3], same = 0;
    uint32_t *index[3] = {NULL};
    double *posterior = NULL, result = -1;

    if (shared == NULL)
        shared = "../shared";
    (void)snprintf(path, sizeof path, "%s/data/%s/labels.csv", shared, set);
    if (!read_table(path, &labels))
        goto done;
    (void)snprintf(path, sizeof path, "%s/golden/crowd-kit/%s.DawidSkene.csv", shared, set);
    if (!read_table(path, &golden))
        goto done;
    qsort(labels.rows, labels.n, sizeof *labels.rows, by_instance);
    for (int c = 0; c < 3; c++) {
        names[c] = calloc(MAX_ROWS, NAME);
        index[c] = calloc(MAX_ROWS, sizeof **index);
        if (names[c] == NULL || index[c] == NULL)
            goto done;
        n[c] = distinct(&labels, c, names[c]);
        for (size_t i = 0; i < labels.n; i++)
            index[c][i] = index_in(names[c], n[c], labels.rows[i].cell[c]);
    }
    posterior = calloc(n[0] * n[2], sizeof *posterior);
    const struct crowd_labels crowd = {n[0], n[1], n[2], labels.n, index[0], index[1], index[2]};
    if (posterior == NULL ||
        dawid_skene(&crowd, DAWID_SKENE_ROUNDS, DAWID_SKENE_TOLERANCE, posterior, NULL, NULL, NULL) != AMX_OK)
        goto done;
    for (size_t g = 0; g < golden.n; g++) {
        uint32_t i = index_in(names[0], n[0], golden.rows[g].cell[0]), best = 0;

        for (uint32_t k = 1; i != UINT32_MAX && k < n[2]; k++) {
            if (posterior[i * n[2] + k] > posterior[i * n[2] + best])
                best = k;
        }
        same += i != UINT32_MAX && strcmp(names[2][best], golden.rows[g].cell[1]) == 0;
    }
    result = (double)same / (double)golden.n;
done:
    free(posterior);
    for (int c = 0; c < 3; c++) {
        free(index[c]);
        free(names[c]);
    }
    free(golden.rows);
    free(labels.rows);
    return result;
}

TEST(dawid_skene_equals_crowd_kit)
{
    static const char *const sets[] = {"duck", "dog", "product", "music-genres"};

    for (size_t i = 0; i < 4; i++) {
        double share = agreement(sets[i]);

        if (share < 0) {
            test_skip("no data folder beside the project (../shared, or AMX_SHARED)");
            return;
        }
        printf("    %s: %.2f %% as crowd-kit\n", sets[i], share * 100);
        CHECK(share >= 0.995);
    }
}
