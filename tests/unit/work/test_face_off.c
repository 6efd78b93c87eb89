/* Face-offs: ranks made by hand, the same figures at any number of threads, failed rows, requests, the table as text.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "test.h"
#include "util/jsonx.h"
#include "work/face_off/face_off_int.h"
#include "work/face_off/face_off_request.h"

enum {
    N = 60,
    D = 2,
    A = 4
};

/* ---- data -------------------------------------------------------------------------------------------------------- */

static const char *const annotators[A] = {"ana", "ben", "cid", "dot"};
static const char *const classes[] = {"no", "yes"};

struct table {
    struct training_row rows[N];
    char names[N][8];
    float features[N * D];
    struct training_label labels[N * A];
    struct training_data data;
};

/* Two clusters; ana and ben are right, cid is wrong on every third, dot on every second. */
static void table_init(struct table *t, bool test_gold, bool train_gold, double scale)
{
    struct training_rows in = {.rows = t->rows,
                               .n_rows = N,
                               .n_features = D,
                               .features = t->features,
                               .annotators = annotators,
                               .n_annotators = A,
                               .classes = classes,
                               .n_classes = 2,
                               .labels = t->labels};

    memset(t, 0, sizeof *t);
    for (uint32_t i = 0; i < N; i++) {
        const bool test = i % 5 == 4;
        const uint32_t truth = i % 2;

        (void)snprintf(t->names[i], sizeof t->names[i], "i%02u", i);
        t->rows[i] = (struct training_row){t->names[i], test ? SPLIT_TEST : SPLIT_TRAIN, i,
                                           (test ? test_gold : train_gold) ? (int32_t)truth : -1};
        t->features[i * D] = (float)(scale * ((truth ? 1.0 : -1.0) + 0.3 * sin(17.0 * i)));
        t->features[i * D + 1] = (float)(scale * cos(5.0 * i));
        for (uint32_t a = 0; a < A; a++) {
            const bool wrong = (a == 2 && i % 3 == 0) || (a == 3 && i % 4 < 2);

            t->labels[in.n_labels++] = (struct training_label){i, a, wrong ? 1 - truth : truth};
        }
    }
    CHECK(training_data_build(&in, &t->data, NULL) == AMX_OK);
}

static void table_done(struct table *t)
{
    training_data_done(&t->data);
}

static const char *const quick[] = {"epochs=4", "hidden=8", "batch_size=16"};

static json_t *compare(const struct table *t, const struct face_off *face_off, int threads)
{
    const struct face_off_options options = {.threads = threads, .set = quick, .n_set = 3};
    struct amx_error err = {0};
    json_t *out = NULL;

    CHECK(face_off_do(face_off, &t->data, &options, &out, &err) == AMX_OK);
    CHECK_STR(err.text, "");
    return out;
}

static const json_t *row_of(const json_t *table, const char *method)
{
    const json_t *rows = json_object_get(table, "rows");

    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *row = json_array_get(rows, i);

        if (strcmp(json_string_value(json_object_get(row, "method")), method) == 0)
            return row;
    }
    return NULL;
}

static const char *word(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));

    return text != NULL ? text : "(none)";
}

/* ---- ranks ------------------------------------------------------------------------------------------------------- */

static void set_row(struct face_off_row *row, struct face_off_fit *fits, const char *method, double first,
                    double second)
{
    *row = (struct face_off_row){.method = method, .title = method, .fits = fits};
    for (int r = 0; r < 2; r++) {
        fits[r] = (struct face_off_fit){.seconds = 1 + r};
        for (int figure = 0; figure < N_FIGURES; figure++)
            fits[r].figures[figure] = (double)NAN;
        fits[r].figures[FIGURE_ACCURACY] = r == 0 ? first : second;
    }
}

TEST(ranks_means_and_ties)
{
    struct face_off face_off = {.repeat = 2};
    struct face_off_fit fits[5][2];
    struct face_off_row rows[5];
    struct face_off_result result = {.face_off = &face_off, .by_gold = true, .rows = rows, .n_rows = 5};

    set_row(&rows[0], fits[0], "low", 0.5, 0.7);
    set_row(&rows[1], fits[1], "broken", 0.9, 0.9);
    set_row(&rows[2], fits[2], "tied", 0.75, 0.85);
    set_row(&rows[3], fits[3], "bound", 1, 1);
    set_row(&rows[4], fits[4], "first", 0.85, 0.75);
    fits[1][1].status = AMX_NOT_FINITE;
    rows[3].needs_gold = true;
    CHECK(face_off_rank(&result, NULL) == AMX_OK);
    CHECK_STR(rows[0].method, "bound");
    CHECK_STR(rows[1].method, "first");
    CHECK_STR(rows[2].method, "tied");
    CHECK_STR(rows[3].method, "low");
    CHECK_STR(rows[4].method, "broken");
    CHECK(isnan(rows[0].rank) && isnan(rows[4].rank));
    CHECK_NEAR(rows[1].rank, 1.5, 0);
    CHECK_NEAR(rows[2].rank, 1.5, 0);
    CHECK_NEAR(rows[3].rank, 3, 0);
    CHECK_NEAR(rows[3].mean[FIGURE_ACCURACY], 0.6, 1e-12);
    CHECK_NEAR(rows[3].deviation[FIGURE_ACCURACY], 0.1, 1e-12);
    CHECK_NEAR(rows[3].seconds, 1.5, 1e-12);
    CHECK_INT(rows[4].n_failed, 1);
    CHECK_NEAR(rows[4].mean[FIGURE_ACCURACY], 0.9, 1e-12);
}

/* One is likelier, the other has the smaller risks: equal mean of ranks, and the likelier comes first. */
TEST(the_crowd_ranks_by_likelihood_and_risks)
{
    struct face_off face_off = {.repeat = 2};
    struct face_off_fit fits[3][2];
    struct face_off_row rows[3];
    struct face_off_result result = {.face_off = &face_off, .folds = 5, .rows = rows, .n_rows = 3};
    static const double likelihood[3] = {-1.5, -1.2, -2}, risk[3] = {0.1, 0.2, 0.3};
    static const char *const names[3] = {"careful", "likely", "neither"};

    for (int i = 0; i < 3; i++) {
        set_row(&rows[i], fits[i], names[i], (double)NAN, (double)NAN);
        for (int r = 0; r < 2; r++) {
            fits[i][r].figures[FIGURE_HELD_OUT] = likelihood[i];
            for (int k = 0; k < RISKS; k++)
                fits[i][r].risks[k] = risk[i];
        }
    }
    CHECK(face_off_rank(&result, NULL) == AMX_OK);
    CHECK_STR(rows[0].method, "likely");
    CHECK_STR(rows[1].method, "careful");
    CHECK_STR(rows[2].method, "neither");
    CHECK_NEAR(rows[0].rank, 1, 0);
    CHECK_NEAR(rows[1].rank, 2, 0);
    CHECK_NEAR(rows[2].rank, 3, 0);
    CHECK_NEAR(rows[0].mean[FIGURE_RISK_RANK], 2, 1e-12);
    CHECK_NEAR(rows[1].mean[FIGURE_RISK_RANK], 1, 1e-12);
}

/* ---- fits -------------------------------------------------------------------------------------------------------- */

TEST(threads_change_nothing_but_the_time)
{
    static const char *const kept[] = {"accuracy", "log_loss", "held_out_log_likelihood", "risk_rank", "rank"};
    struct face_off face_off = {
        .methods = {"majority_vote", "crowd_layer", "annot_mix"}, .n_methods = 3, .repeat = 3, .seed = 5, .folds = 3};
    struct table t;
    json_t *one, *three;

    table_init(&t, true, true, 1);
    CHECK_INT(face_off_fits(&face_off, &t.data), 9);
    CHECK(face_off_memory(&face_off, &t.data, 2) > face_off_memory(&face_off, &t.data, 1));
    one = compare(&t, &face_off, 1);
    three = compare(&t, &face_off, 3);
    CHECK_STR(word(one, "basis"), "gold");
    CHECK_STR(word(one, "split"), "test");
    for (size_t m = 0; m < 3; m++) {
        const json_t *a = row_of(one, face_off.methods[m]), *b = row_of(three, face_off.methods[m]);

        CHECK_STR(word(a, "state"), "succeeded");
        for (size_t i = 0; i < sizeof kept / sizeof kept[0]; i++) {
            CHECK(!json_is_null(json_object_get(a, kept[i])));
            CHECK(json_equal(json_object_get(a, kept[i]), json_object_get(b, kept[i])));
        }
    }
    CHECK(json_is_object(json_object_get(one, "consensus")));
    json_decref(one);
    json_decref(three);
    table_done(&t);
}

TEST(without_gold_the_labels_decide)
{
    struct face_off face_off = {.methods = {"ground_truth", "dawid_skene"}, .n_methods = 2, .repeat = 1, .seed = 1};
    struct face_off all = {.repeat = 1, .seed = 1};
    struct table t;
    size_t n;
    json_t *table;

    table_init(&t, false, false, 1);
    table = compare(&t, &face_off, 1);
    CHECK_STR(word(table, "basis"), "crowd");
    CHECK_INT(json_integer_value(json_object_get(table, "folds")), FACE_OFF_FOLDS);
    CHECK(json_is_null(json_object_get(table, "consensus")));
    CHECK_STR(word(row_of(table, "dawid_skene"), "state"), "succeeded");
    CHECK(json_is_null(json_object_get(row_of(table, "dawid_skene"), "accuracy")));
    CHECK_STR(word(row_of(table, "ground_truth"), "state"), "failed");
    CHECK(strstr(word(row_of(table, "ground_truth"), "error"), "gold") != NULL);
    (void)amx_methods(&n);
    CHECK_INT(face_off_fits(&all, &t.data), n - 1);
    json_decref(table);
    table_done(&t);
}

/* Raw features of this size overflow a float on the way through the network: that method fails, and alone. */
TEST(a_method_that_diverges_is_a_failed_row)
{
    static const char *const wild[] = {"epochs=30", "standardize=false", "learning_rate=1", "hidden="};
    struct face_off face_off = {.methods = {"crowd_layer", "annot_mix"}, .n_methods = 2, .repeat = 2, .seed = 1};
    const struct face_off_options options = {.threads = 1, .set = wild, .n_set = 4};
    json_t *table = NULL;
    struct table t;
    unsigned failed = 0;

    table_init(&t, true, true, 3e38);
    CHECK(face_off_do(&face_off, &t.data, &options, &table, NULL) == AMX_OK);
    for (size_t m = 0; m < 2; m++) {
        const json_t *row = row_of(table, face_off.methods[m]);

        if (strcmp(word(row, "state"), "failed") != 0)
            continue;
        failed++;
        CHECK(strlen(word(row, "error")) > 10);
        CHECK(json_is_null(json_object_get(row, "rank")));
        CHECK(json_integer_value(json_object_get(row, "fits_failed")) > 0);
    }
    CHECK(failed > 0);
    json_decref(table);
    table_done(&t);
}

TEST(cancelling_and_wrong_settings)
{
    static const char *const unread[] = {"alpha=1"}, *const wrong[] = {"epochs=0"}, *const unknown[] = {"nonesuch=1"};
    const char *const *const sets[] = {unread, wrong, unknown};
    const volatile int cancel = 1;
    struct face_off face_off = {.methods = {"crowd_layer"}, .n_methods = 1, .repeat = 1, .seed = 1};
    struct face_off_options options = {.threads = 2, .cancel = &cancel};
    struct amx_error err;
    json_t *table = NULL;
    struct table t;

    table_init(&t, true, false, 1);
    CHECK(face_off_do(&face_off, &t.data, &options, &table, &err) == AMX_CANCELLED);
    options.cancel = NULL;
    for (size_t i = 0; i < 3; i++) {
        options.set = sets[i];
        options.n_set = 1;
        CHECK(face_off_do(&face_off, &t.data, &options, &table, &err) == AMX_INVALID);
        CHECK(strlen(err.text) > 10);
    }
    CHECK(table == NULL);
    table_done(&t);
}

struct watch {
    double last;
    size_t calls;
};

static void watch(const struct face_off_progress *p, void *context)
{
    struct watch *w = context;

    CHECK(p->fraction >= w->last - 1e-9 && p->fraction <= 1 + 1e-9);
    CHECK(p->done <= p->fits && p->method != NULL);
    w->last = p->fraction;
    w->calls++;
}

TEST(progress_grows_to_the_end)
{
    struct watch w = {0};
    struct face_off face_off = {.methods = {"madl", "majority_vote"}, .n_methods = 2, .repeat = 2, .seed = 1};
    const struct face_off_options options = {.threads = 2, .set = quick, .n_set = 3, .progress = watch, .context = &w};
    json_t *table = NULL;
    struct table t;

    table_init(&t, true, false, 1);
    CHECK(face_off_do(&face_off, &t.data, &options, &table, NULL) == AMX_OK);
    CHECK_NEAR(w.last, 1, 1e-9);
    CHECK(w.calls >= 4);
    json_decref(table);
    table_done(&t);
}

/* ---- requests ---------------------------------------------------------------------------------------------------- */

TEST(a_request_goes_to_its_row_and_back)
{
    json_t *object =
        json_pack("{s:[s,s], s:i, s:i, s:i}", "methods", "madl", "annot_mix", "repeat", 4, "seed", 9, "folds", 3);
    struct face_off face_off, back;
    struct run_spec spec;
    char *text;

    CHECK(face_off_parse(object, &face_off, NULL) == AMX_OK);
    text = face_off_settings_text(&face_off);
    face_off_to_spec(&face_off, text, &spec);
    CHECK(face_off_is(&spec));
    CHECK_STR(text, "{\"methods\":[\"annot_mix\",\"madl\"],\"repeat\":4}");
    CHECK(face_off_of_spec(&spec, &back, NULL) == AMX_OK);
    CHECK_INT(back.n_methods, 2);
    CHECK_STR(back.methods[0], "annot_mix");
    CHECK_INT(back.repeat, 4);
    CHECK_INT(back.seed, 9);
    CHECK_INT(back.folds, 3);
    spec.settings = (struct slice){"{\"methods\":[\"gone\"]}", 20};
    CHECK(face_off_of_spec(&spec, &back, NULL) == AMX_CORRUPT);
    free(text);
    json_decref(object);
    CHECK(face_off_parse(NULL, &face_off, NULL) == AMX_OK);
    text = face_off_settings_text(&face_off);
    CHECK_STR(text, "{\"methods\":[],\"repeat\":1}");
    free(text);
}

/* ---- text -------------------------------------------------------------------------------------------------------- */

static size_t count(const char *text, char c, char end)
{
    size_t n = 0;

    for (; *text != '\0' && *text != end; text++)
        n += *text == c;
    return n;
}

TEST(the_table_as_text)
{
    struct face_off face_off = {
        .methods = {"majority_vote", "ground_truth"}, .n_methods = 2, .repeat = 2, .seed = 1, .folds = 2};
    AUTO(buf) csv = BUF_INIT(1 << 20);
    AUTO(buf) markdown = BUF_INIT(1 << 20);
    AUTO(buf) text = BUF_INIT(1 << 20);
    struct table t;
    json_t *table;
    const char *line;
    size_t columns, lines = 0;

    table_init(&t, true, true, 1);
    table = compare(&t, &face_off, 1);
    CHECK(face_off_csv(table, &csv) == AMX_OK);
    columns = count(buf_string(&csv), ',', '\n');
    for (line = buf_string(&csv); *line != '\0'; line = strchr(line, '\n') + 1, lines++)
        CHECK_INT(count(line, ',', '\n'), columns);
    CHECK_INT(lines, 1 + 2 + json_array_size(json_object_get(json_object_get(table, "consensus"), "rows")));
    CHECK(face_off_markdown(table, &markdown) == AMX_OK);
    CHECK(strstr(buf_string(&markdown), "| 1 | majority_vote | ") != NULL);
    CHECK(strstr(buf_string(&markdown), "| - | ground_truth | ") != NULL);
    CHECK(strstr(buf_string(&markdown), "- ground_truth is trained on gold") != NULL);
    CHECK(strstr(buf_string(&markdown), "seeds 1 to 2") != NULL);
    CHECK(face_off_text(table, &text) == AMX_OK);
    CHECK(strstr(buf_string(&text), "held-out log-likelihood") != NULL);
    json_decref(table);
    table_done(&t);
}
