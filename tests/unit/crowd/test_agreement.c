/* Alpha, Fleiss and Cohen: an example of Krippendorff's, golden files, and labels that tell nothing. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crowd/agreement.h"
#include "crowd_csv.h"
#include "test.h"

TEST(alpha_of_krippendorffs_example)
{
    /* "Computing Krippendorff's Alpha-Reliability" (2011), part C: 4 observers, 12 units, missing values: 0.743. */
    static const char *const observers[4] = {"123321412...", "1233224125.3", ".3332342251.", "12332441251."};
    uint32_t instance[48], annotator[48], class_[48];
    struct crowd_labels labels = {12, 4, 5, 0, instance, annotator, class_};
    struct agreement found;

    for (uint32_t i = 0; i < 12; i++) {
        for (uint32_t a = 0; a < 4; a++) {
            if (observers[a][i] == '.')
                continue;
            instance[labels.n_labels] = i;
            annotator[labels.n_labels] = a;
            class_[labels.n_labels++] = (uint32_t)(observers[a][i] - '1');
        }
    }
    CHECK_INT(agreement_of(&labels, &found), AMX_OK);
    CHECK_INT(found.n_instances, 11);
    CHECK_INT(found.n_labels, 40);
    CHECK_NEAR(found.alpha, 0.743, 0.0005);
}

struct seen {
    const double *expected; /* rows a, b, n, kappa */
    size_t n, n_expected;
    bool all_right;
};

static enum amx_status compare(void *context, const struct agreement_pair *pair)
{
    struct seen *seen = context;
    const double *row = seen->expected + 4 * seen->n;

    if (seen->n < seen->n_expected)
        seen->all_right = seen->all_right && pair->a == (uint32_t)row[0] && pair->b == (uint32_t)row[1] &&
                          pair->n == (uint64_t)row[2] &&
                          (isnan(row[3]) ? isnan(pair->kappa) : fabs(pair->kappa - row[3]) < 1e-6);
    seen->n++;
    return AMX_OK;
}

/* Rows of the file behind the header and the line of alpha. */
static size_t read_rows(const char *path, double *alpha, double *fleiss, double *rows, size_t most)
{
    FILE *file = fopen(path, "r");
    char line[200];
    size_t n = 0;

    if (file == NULL)
        return 0;
    for (int i = 0; fgets(line, sizeof line, file) != NULL && n < most; i++) {
        char *at = line;

        if (i == 1) {
            *alpha = strtod(at, &at);
            *fleiss = strtod(at + 1, NULL);
        }
        for (int c = 0; i > 1 && c < 4; c++) {
            rows[4 * n + (size_t)c] = strtod(at, &at);
            at += *at == ',';
        }
        n += i > 1;
    }
    (void)fclose(file);
    return n;
}

TEST(agreement_equals_golden_files)
{
    static const char *const sets[] = {"two", "five"};
    static double rows[4 * 400];

    for (size_t s = 0; s < 2; s++) {
        char path[256];
        struct csv_labels l;
        struct agreement found;
        struct seen seen = {.expected = rows, .all_right = true};
        double alpha = 0, fleiss = 0;

        (void)snprintf(path, sizeof path, "tests/golden/crowd/%s.labels.csv", sets[s]);
        CHECK(csv_labels_read(path, &l));
        (void)snprintf(path, sizeof path, "tests/golden/crowd/%s.agreement.csv", sets[s]);
        seen.n_expected = read_rows(path, &alpha, &fleiss, rows, 400);
        CHECK(seen.n_expected > 50);
        CHECK_INT(agreement_of(&l.labels, &found), AMX_OK);
        CHECK_NEAR(found.alpha, alpha, 1e-8);
        if (!isnan(fleiss))
            CHECK_NEAR(found.fleiss_kappa, fleiss, 1e-8);
        CHECK(isfinite(found.fleiss_kappa));
        CHECK_INT(agreement_pairs(&l.labels, 0, compare, &seen), AMX_OK);
        CHECK_INT(seen.n, seen.n_expected);
        CHECK(seen.all_right);
        csv_labels_done(&l);
    }
}

static enum amx_status stop_at_second(void *context, const struct agreement_pair *pair)
{
    int *calls = context;

    CHECK(pair->a < pair->b);
    return ++*calls == 2 ? AMX_CANCELLED : AMX_OK;
}

TEST(agreement_of_nothing_is_no_number)
{
    static const uint32_t zero[4] = {0}, instance[4] = {0, 1, 2, 3}, annotator[4] = {0, 1, 2, 3};
    const struct crowd_labels none = {0, 0, 0, 0, NULL, NULL, NULL};
    const struct crowd_labels apart = {4, 4, 2, 4, instance, annotator, zero};
    const struct crowd_labels together = {1, 4, 1, 4, zero, annotator, zero};
    struct agreement found;
    int calls = 0;

    CHECK_INT(agreement_of(&none, &found), AMX_OK);
    CHECK(isnan(found.alpha) && isnan(found.observed));
    CHECK_INT(agreement_of(&apart, &found), AMX_OK);
    CHECK(isnan(found.alpha) && found.n_instances == 0);
    CHECK_INT(agreement_pairs(&apart, 0, stop_at_second, &calls), AMX_OK);
    CHECK_INT(calls, 0);
    CHECK_INT(agreement_work(&apart), 0);
    /* One class: all agree, and chance explains it. */
    CHECK_INT(agreement_of(&together, &found), AMX_OK);
    CHECK(found.observed >= 1 && isnan(found.alpha) && isnan(found.fleiss_kappa));
    CHECK_INT(agreement_work(&together), 6);
    CHECK_INT(agreement_pairs(&together, 0, stop_at_second, &calls), AMX_CANCELLED);
    CHECK_INT(calls, 2);
    calls = -10;
    CHECK_INT(agreement_pairs(&together, 2, stop_at_second, &calls), AMX_OK);
    CHECK_INT(calls, -9); /* only (2, 3) */
}
