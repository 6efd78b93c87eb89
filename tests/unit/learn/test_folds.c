/* test_folds.c - members that leave folds out, gold, history and temperature: what goes in, what the model file keeps,
 * and what is refused. That no label of a fold is seen is in test_methods.c, for every method. */
#include "test.h"

#include <math.h>
#include <nettle/sha2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fixture.h"
#include "learn/model.h"

enum {
    N = 60,
    D = 4,
    C = 3,
    A = 5
};

struct folded {
    struct toy toy;
    uint32_t fold[N];
    int32_t gold[N];
    float history[A * C * C];
};

static void folded_init(struct folded *f, int folds, int ensemble)
{
    memset(f, 0, sizeof *f);
    toy_init(&f->toy, N, D, C, A, 71);
    for (uint32_t i = 0; i < N; i++) {
        f->fold[i] = i * 5 % (uint32_t)(folds > 0 ? folds : 1);
        f->gold[i] = (int32_t)f->toy.truth[i];
    }
    f->toy.data.fold = f->fold;
    f->toy.options.folds = folds;
    f->toy.options.ensemble = ensemble;
}

static void refuse(struct folded *f, enum amx_status expected, const char *words)
{
    struct amx_model *model = NULL;
    struct amx_error err = {.code = AMX_OK};

    CHECK_INT(amx_fit(&f->toy.data, &f->toy.options, NULL, &model, &err), expected);
    test_check(strstr(err.text, words) != NULL, __FILE__, __LINE__, err.text);
    CHECK(model == NULL);
}

/* p_class of all rows, then p_perf of annotator a everywhere, by the members of the fold. */
static void ask(const struct amx_model *model, int fold, const float *x, uint32_t a, float *out)
{
    uint32_t row[N], annotator[N];
    const struct amx_pairs_prediction wanted = {.p_class = out, .p_perf = out + N * C};

    for (uint32_t i = 0; i < N; i++) {
        row[i] = i;
        annotator[i] = a;
    }
    CHECK_INT(amx_predict_pairs(model, fold, x, N, row, annotator, N, &wanted, NULL), AMX_OK);
}

TEST(learn_folds_refused)
{
    struct folded f;

    folded_init(&f, 3, 1);
    f.toy.options.folds = 1;
    refuse(&f, AMX_INVALID, "folds must be 0");
    f.toy.options.folds = 21;
    refuse(&f, AMX_INVALID, "folds must be 0");
    f.toy.options.folds = 2;
    refuse(&f, AMX_INVALID, "in fold 2 of 2");
    f.toy.options.folds = 3;
    f.toy.data.fold = NULL;
    refuse(&f, AMX_INVALID, "fold of each instance");
    f.toy.data.fold = f.fold;
    memset(f.fold, 0, sizeof f.fold);
    f.fold[0] = 1;
    refuse(&f, AMX_NOTHING, "fold 0");
    toy_done(&f.toy);
}

TEST(learn_folds_leave_the_ensemble_as_it_is)
{
    struct folded f;
    const struct amx_pairs_prediction none = {.p_class = NULL};
    struct amx_model *plain, *folded;
    struct amx_model_info info;
    float a[N * (C + 1)], b[N * (C + 1)];

    folded_init(&f, 3, 2);
    folded = toy_fit(&f.toy);
    f.toy.options.folds = 0;
    plain = toy_fit(&f.toy);
    amx_model_info(folded, &info);
    CHECK_INT(info.folds, 3);
    CHECK_INT(info.ensemble, 2);
    CHECK_INT(folded->members, 5);
    ask(plain, AMX_NO_FOLD, f.toy.features, 1, a);
    ask(folded, AMX_NO_FOLD, f.toy.features, 1, b);
    CHECK(memcmp(a, b, sizeof a) == 0);
    for (int fold = 0; fold < 3; fold++) {
        ask(folded, fold, f.toy.features, 1, b);
        CHECK(memcmp(a, b, sizeof a) != 0);
    }
    CHECK_INT(amx_predict_pairs(folded, 3, f.toy.features, N, NULL, NULL, 0, &none, NULL), AMX_INVALID);
    CHECK_INT(amx_predict_pairs(plain, 0, f.toy.features, N, NULL, NULL, 0, &none, NULL), AMX_INVALID);
    amx_model_free(plain);
    amx_model_free(folded);
    toy_done(&f.toy);
}

/* An ensemble of 4 with 3 folds: members 0 and 3 left fold 0 out, and only they answer for it. */
TEST(learn_folds_of_the_ensemble_itself)
{
    struct folded f;
    struct amx_model *model, *member[4];
    float all[N * (C + 1)], one[4][N * (C + 1)];
    double worst = 0.0;
    struct amx_error err;

    folded_init(&f, 3, 4);
    model = toy_fit(&f.toy);
    CHECK_INT(model->members, 4);
    for (int m = 0; m < 4; m++) {
        CHECK_INT(model_new(model->method, &model->settings, D, C, A, 1, &member[m], &err), AMX_OK);
        memcpy(member[m]->tensors, model_member(model, m), model->layout.compact_length * sizeof(float));
        memcpy(member[m]->mean, model->mean, D * sizeof(float));
        memcpy(member[m]->scale, model->scale, D * sizeof(float));
        for (size_t a = 0; a < A; a++)
            member[m]->labels_used += member[m]->annotator_labels[a] = model_evidence(model, m, a);
        CHECK_INT(model_prepare(member[m], &err), AMX_OK);
        ask(member[m], AMX_NO_FOLD, f.toy.features, 2, one[m]);
        amx_model_free(member[m]);
    }
    ask(model, 0, f.toy.features, 2, all);
    for (size_t i = 0; i < N * (C + 1); i++)
        worst = test_worst(worst, fabs((double)all[i] - 0.5 * ((double)one[0][i] + (double)one[3][i])));
    CHECK_NEAR(worst, 0.0, 1e-6);
    ask(model, 2, f.toy.features, 2, all);
    CHECK(memcmp(all, one[2], sizeof all) == 0);
    ask(model, AMX_NO_FOLD, f.toy.features, 2, all);
    for (size_t i = 0, j = 0; i < N * (C + 1); i++) {
        double mean = 0.0;
        for (j = 0; j < 4; j++)
            mean += (double)one[j][i] / 4.0;
        worst = test_worst(worst, fabs((double)all[i] - mean));
    }
    CHECK_NEAR(worst, 0.0, 1e-6);
    amx_model_free(model);
    toy_done(&f.toy);
}

/* An annotator all of whose labels lie in one fold is unseen for that fold's member, and only for it. */
TEST(learn_folds_annotator_of_one_fold)
{
    struct folded f;
    struct amx_model *model;
    float own[N * (C + 1)], unseen[N * (C + 1)];

    folded_init(&f, 2, 1);
    for (size_t l = 0; l < f.toy.data.n_labels; l++) {
        if (f.toy.annotator[l] == 4 && f.fold[f.toy.instance[l]] != 1)
            f.toy.annotator[l] = 3;
    }
    model = toy_fit(&f.toy);
    CHECK(model->annotator_labels[4] > 0 && model->fold_labels[A + 4] == model->annotator_labels[4]);
    ask(model, 1, f.toy.features, 4, own);
    ask(model, 1, f.toy.features, AMX_UNSEEN, unseen);
    CHECK(memcmp(own, unseen, sizeof own) == 0);
    ask(model, 0, f.toy.features, 4, own);
    ask(model, 0, f.toy.features, AMX_UNSEEN, unseen);
    CHECK(memcmp(own, unseen, sizeof own) != 0);
    amx_model_free(model);
    toy_done(&f.toy);
}

/* ---- model file ------------------------------------------------------------ */

static void refuse_edited(const unsigned char *bytes, size_t n, const char *from, const char *to)
{
    unsigned char *copy = toy_alloc(n, 1), *at;
    struct sha256_ctx context;
    struct amx_model *model = NULL;

    memcpy(copy, bytes, n);
    at = memmem(copy, n, from, strlen(from));
    test_check(at != NULL && strlen(from) == strlen(to), __FILE__, __LINE__, from);
    if (at != NULL)
        memcpy(at, to, strlen(to));
    sha256_init(&context);
    sha256_update(&context, n - SHA256_DIGEST_SIZE, copy);
    sha256_digest(&context, SHA256_DIGEST_SIZE, copy + n - SHA256_DIGEST_SIZE);
    test_check(amx_model_decode(copy, n, &model, NULL) == AMX_CORRUPT, __FILE__, __LINE__, to);
    amx_model_free(model);
    free(copy);
}

TEST(learn_folds_in_the_model_file)
{
    struct folded f;
    struct amx_model *model, *decoded = NULL;
    struct amx_model_info info;
    float a[N * (C + 1)], b[N * (C + 1)];
    unsigned char *bytes;
    char from[40], to[40];
    size_t n = 0;

    folded_init(&f, 3, 1);
    f.toy.options.method = "annot_mix_prior";
    f.toy.options.settings.prior_strength = 1.5;
    model = toy_fit(&f.toy);
    amx_model_set_temperature(model, 2.5);
    bytes = toy_encode(model, &n);
    CHECK_INT(amx_model_decode(bytes, n, &decoded, NULL), AMX_OK);
    CHECK(toy_same_bytes(model, decoded));
    amx_model_info(decoded, &info);
    CHECK(info.folds == 3 && info.temperature == 2.5 && info.settings.prior_strength == 1.5);
    ask(model, 2, f.toy.features, 4, a);
    ask(decoded, 2, f.toy.features, 4, b);
    CHECK(memcmp(a, b, sizeof a) == 0);
    refuse_edited(bytes, n, "\"folds\":3", "\"folds\":4");
    refuse_edited(bytes, n, "\"folds\":3", "\"folds\":1");
    refuse_edited(bytes, n, "\"folds\":3", "\"falds\":3");
    refuse_edited(bytes, n, "\"fold_labels\":[", "\"fald_labels\":[");
    (void)snprintf(from, sizeof from, "\"fold_labels\":[%d", (int)model->fold_labels[0]);
    (void)snprintf(to, sizeof to, "\"fold_labels\":[%d", (int)model->fold_labels[0] ^ 1); /* does not add up */
    refuse_edited(bytes, n, from, to);
    refuse_edited(bytes, n, "\"f0/hidden0.weight\"", "\"m1/hidden0.weight\"");
    refuse_edited(bytes, n, "\"prior_strength\":1.5", "\"prior_straight\":1.5");
    refuse_edited(bytes, n, "\"prior\":\"dawid_skene\"", "\"prior\":\"dawid_skane\"");
    CHECK(memmem(bytes, n, "\"eta\"", 5) == NULL); /* not a setting of this method */
    amx_free(bytes);
    amx_model_free(decoded);
    amx_model_free(model);
    toy_done(&f.toy);
}

TEST(learn_folds_temperature)
{
    struct folded f;
    struct amx_model *model;
    float a[N * (C + 1)], b[N * (C + 1)];
    double worst = 0.0;

    folded_init(&f, 2, 1);
    model = toy_fit(&f.toy);
    ask(model, AMX_NO_FOLD, f.toy.features, 0, a);
    amx_model_set_temperature(model, 2.0);
    ask(model, AMX_NO_FOLD, f.toy.features, 0, b);
    for (size_t i = 0; i < N; i++) {
        double sum = 0.0;
        for (size_t k = 0; k < C; k++)
            sum += sqrt((double)a[i * C + k]);
        for (size_t k = 0; k < C; k++)
            worst = test_worst(worst, fabs(sqrt((double)a[i * C + k]) / sum - (double)b[i * C + k]));
    }
    CHECK_NEAR(worst, 0.0, 1e-5);
    amx_model_free(model);
    toy_done(&f.toy);
}

/* ---- gold and history ------------------------------------------------------------ */

TEST(learn_gold_is_enough_for_ground_truth)
{
    struct folded f;
    struct amx_model *model;
    struct amx_model_info info;

    folded_init(&f, 2, 1);
    f.toy.options.method = "ground_truth";
    refuse(&f, AMX_NOTHING, "two instances with gold");
    f.toy.data.gold = f.gold;
    f.gold[3] = C;
    refuse(&f, AMX_INVALID, "Gold of instance 3");
    for (size_t i = 0; i < N; i++)
        f.gold[i] = i < 20 ? 1 : -1;
    refuse(&f, AMX_NOTHING, "two classes");
    for (size_t i = 0; i < N; i++)
        f.gold[i] = i < 20 ? (int32_t)f.toy.truth[i] : -1;
    model = toy_fit(&f.toy);
    amx_model_info(model, &info);
    CHECK(info.labels_used > 0 && info.labels_used < f.toy.data.n_labels); /* those of the 20 instances */
    amx_model_free(model);
    f.toy.data.n_labels = f.toy.data.n_annotators = 0;
    f.toy.data.annotator_names = NULL;
    model = toy_fit(&f.toy);
    amx_model_info(model, &info);
    CHECK_INT(info.labels_used, 0);
    amx_model_free(model);
    toy_done(&f.toy);
}

TEST(learn_gold_is_seen_only_where_it_is_asked_for)
{
    static const char *const METHODS[] = {"annot_mix", "majority_vote", "dawid_skene", "annot_mix_prior"};

    for (size_t i = 0; i < 4; i++) {
        struct folded f;
        struct amx_model *without, *given, *clamped;
        folded_init(&f, 0, 1);
        f.toy.options.method = METHODS[i];
        without = toy_fit(&f.toy);
        for (size_t j = 0; j < N; j++)
            f.gold[j] = j % 2 == 0 ? (int32_t)(f.toy.truth[j] + 1) % C : -1; /* wrong, so that it shows */
        f.toy.data.gold = f.gold;
        given = toy_fit(&f.toy);
        f.toy.options.clamp_gold = true;
        clamped = toy_fit(&f.toy);
        CHECK(toy_same_bytes(without, given));
        CHECK(toy_same_bytes(without, clamped) == (i == 0));
        amx_model_free(clamped);
        amx_model_free(given);
        amx_model_free(without);
        toy_done(&f.toy);
    }
}

TEST(learn_history_counts)
{
    struct folded f;
    struct amx_model *model;
    float with[N * (C + 1)], without[N * (C + 1)];

    folded_init(&f, 0, 1);
    f.toy.options.method = "annot_mix_prior";
    model = toy_fit(&f.toy);
    ask(model, AMX_NO_FOLD, f.toy.features, 0, without);
    amx_model_free(model);
    f.toy.data.history = f.history;
    for (size_t k = 0; k < C; k++)
        f.history[k * C + (k + 1) % C] = 500.0f; /* annotator 0 always named the next class */
    model = toy_fit(&f.toy);
    ask(model, AMX_NO_FOLD, f.toy.features, 0, with);
    CHECK(with[N * C] < 0.5f * without[N * C]);
    f.history[7] = -1.0f;
    refuse(&f, AMX_INVALID, "history of annotator 0");
    amx_model_free(model);
    toy_done(&f.toy);
}

/* ---- progress and memory ------------------------------------------------------------ */

struct seen {
    int members, first_ended;
    double fraction;
    bool ordered;
};

static void watch(const struct amx_progress *progress, void *context)
{
    struct seen *seen = context;

    seen->members = progress->members;
    seen->first_ended += progress->epoch_ended && progress->member == 0;
    seen->ordered = seen->ordered && progress->fraction >= seen->fraction && progress->member < progress->members;
    seen->fraction = progress->fraction;
}

TEST(learn_folds_progress_counts_the_fits_of_the_prior)
{
    struct folded f;
    struct seen seen = {.ordered = true};

    folded_init(&f, 3, 1);
    f.toy.options.method = "annot_mix_prior";
    f.toy.options.settings.prior = AMX_PRIOR_CONSENSUS;
    f.toy.options.progress = watch;
    f.toy.options.context = &seen;
    amx_model_free(toy_fit(&f.toy));
    CHECK_INT(seen.members, 4 + 4 * 5); /* one fit for all and three for folds, each after five of annot_mix */
    CHECK_INT(seen.first_ended, f.toy.options.settings.epochs);
    CHECK(seen.ordered);
    CHECK_NEAR(seen.fraction, 1.0, 1e-9);
    toy_done(&f.toy);
}

TEST(learn_folds_memory)
{
    struct folded f;
    size_t plain, folded, doubled, consensus;

    folded_init(&f, 0, 5);
    f.toy.options.method = "annot_mix_prior";
    plain = amx_fit_memory(&f.toy.data, &f.toy.options);
    f.toy.options.folds = 5;
    doubled = amx_fit_memory(&f.toy.data, &f.toy.options);
    f.toy.options.folds = 6;
    folded = amx_fit_memory(&f.toy.data, &f.toy.options);
    f.toy.options.settings.prior = AMX_PRIOR_CONSENSUS;
    consensus = amx_fit_memory(&f.toy.data, &f.toy.options);
    CHECK(plain < doubled && doubled < folded && folded < consensus);
    CHECK(doubled - plain < 10000); /* no member more */
    f.toy.options.method = "no_such";
    CHECK(amx_fit_memory(&f.toy.data, &f.toy.options) == SIZE_MAX);
    toy_done(&f.toy);
}
