/* test_fit.c - amx_fit: reproducible bits, threads, cancel, progress, edge cases, refusals. */
#include "test.h"

#include <malloc.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "fixture.h"
#include "learn/batch.h"

static double accuracy(const struct amx_model *model, const struct toy *toy)
{
    size_t N = toy->data.n_instances, C = toy->data.n_classes, right = 0;
    float *p = toy_alloc(N * C, sizeof(float));
    struct amx_prediction out = {.p_class = p};
    struct amx_error err;

    CHECK_INT(amx_predict(model, toy->features, N, NULL, 0, &out, &err), AMX_OK);
    for (size_t i = 0; i < N; i++) {
        size_t best = 0;
        for (size_t c = 1; c < C; c++)
            best = p[i * C + c] > p[i * C + best] ? c : best;
        right += best == toy->truth[i];
    }
    free(p);
    return (double)right / (double)N;
}

static bool finite_outputs(const struct amx_model *model, const struct toy *toy)
{
    size_t n = toy->data.n_instances < 5 ? toy->data.n_instances : 5, C = toy->data.n_classes;
    uint32_t annotators[2] = {0, AMX_UNSEEN};
    float *confusion = toy_alloc(n * 2 * C * C, sizeof(float));
    struct amx_prediction out = {.p_confusion = confusion};
    struct amx_error err;
    bool ok = amx_predict(model, toy->features, n, annotators, 2, &out, &err) == AMX_OK;

    for (size_t r = 0; r < n * 2 * C; r++) {
        double sum = 0.0;
        for (size_t c = 0; c < C; c++)
            sum += (double)confusion[r * C + c];
        ok = ok && fabs(sum - 1.0) < 1e-4;
    }
    free(confusion);
    return ok;
}

TEST(learn_fit_learns)
{
    struct toy toy;
    struct amx_model *model = NULL;
    struct amx_fit_report report;
    struct amx_error err;

    toy_init(&toy, 300, 6, 3, 5, 1);
    toy.options.settings.epochs = 20;
    toy.options.settings.dropout = 0.0;
    CHECK_INT(amx_fit(&toy.data, &toy.options, &report, &model, &err), AMX_OK);
    CHECK(model != NULL && accuracy(model, &toy) > 0.9);
    CHECK_INT(report.epochs, 20);
    CHECK(report.loss_curve[19] < 0.95 * report.loss_curve[0]);
    CHECK_INT(report.labels_used, toy.data.n_labels);
    CHECK_INT(report.instances_used, 300);
    CHECK(report.labels_per_second > 0.0 && report.seconds > 0.0);
    amx_free(report.loss_curve);
    amx_model_free(model);
    toy_done(&toy);
}

TEST(learn_fit_same_bits)
{
    struct toy toy;
    struct amx_model *first, *again, *other;

    toy_init(&toy, 90, 6, 3, 5, 2);
    first = toy_fit(&toy);
    again = toy_fit(&toy);
    toy.options.seed = 8;
    other = toy_fit(&toy);
    CHECK(toy_same_bytes(first, again));
    CHECK(!toy_same_bytes(first, other));
    amx_model_free(other);
    amx_model_free(again);
    amx_model_free(first);
    toy_done(&toy);
}

TEST(learn_fit_threads_do_not_matter)
{
    struct toy toy;
    struct amx_model *one, *two, *eight;

    toy_init(&toy, 90, 6, 3, 5, 3);
    toy.options.ensemble = 3;
    one = toy_fit(&toy);
    toy.options.threads = 2;
    two = toy_fit(&toy);
    toy.options.threads = 8;
    eight = toy_fit(&toy);
    CHECK(toy_same_bytes(one, two));
    CHECK(toy_same_bytes(one, eight));
    amx_model_free(eight);
    amx_model_free(two);
    amx_model_free(one);
    toy_done(&toy);
}

/* From 50 classes on a spare thread takes half of the confusion output. */
TEST(learn_fit_helper_does_not_matter)
{
    struct toy toy;
    struct amx_model *one, *two, *member;

    toy_init(&toy, 80, 6, 60, 5, 31);
    toy.options.settings.epochs = 2;
    toy.options.settings.annotator_embedding = 64; /* several slabs */
    one = toy_fit(&toy);
    toy.options.threads = 2;
    two = toy_fit(&toy);
    CHECK(toy_same_bytes(one, two));
    amx_model_free(two);
    amx_model_free(one);
    toy.options.ensemble = 2;
    two = toy_fit(&toy);
    toy.options.threads = 3; /* one of the two members has a helper */
    member = toy_fit(&toy);
    CHECK(toy_same_bytes(two, member));
    amx_model_free(member);
    amx_model_free(two);
    toy_done(&toy);
}

/* Large products are cut in two for a spare thread. */
TEST(learn_fit_halves_of_products_do_not_matter)
{
    struct toy toy;
    struct amx_model *one, *two;

    toy_init(&toy, 300, 40, 10, 8, 33);
    toy.options.settings.epochs = 2;
    toy.options.settings.batch_size = 128;
    toy.options.settings.annotator_embedding = 128;
    one = toy_fit(&toy);
    toy.options.threads = 2;
    two = toy_fit(&toy);
    CHECK(toy_same_bytes(one, two));
    amx_model_free(two);
    amx_model_free(one);
    toy_done(&toy);
}

TEST(learn_fit_first_member_is_the_single_fit)
{
    struct toy toy;
    struct amx_model *single, *ensemble;
    float a[3], b[3];
    struct amx_prediction out = {.p_class = a};

    toy_init(&toy, 60, 6, 3, 5, 4);
    single = toy_fit(&toy);
    toy.options.ensemble = 2;
    ensemble = toy_fit(&toy);
    CHECK_INT(amx_predict(single, toy.features, 1, NULL, 0, &out, NULL), AMX_OK);
    out.p_class = b;
    CHECK_INT(amx_predict(ensemble, toy.features, 1, NULL, 0, &out, NULL), AMX_OK);
    CHECK(a[0] != b[0]); /* two members differ */
    amx_model_free(ensemble);
    amx_model_free(single);
    toy_done(&toy);
}

TEST(learn_fit_shapes)
{
    /* N, D, C, A, hidden..., alpha: corners of the padding and of the loops over classes. */
    static const struct {
        size_t N, D, C, A;
        int n_hidden, hidden[3];
        double alpha;
        bool within;
    } shapes[] = {
        {40, 1, 2, 1, 1, {1}, 1.0, false},
        {40, 33, 2, 3, 0, {0}, 1.0, false},
        {40, 5, 2, 3, 0, {0}, 0.0, false},
        {101, 7, 100, 4, 1, {40}, 1.0, false},
        {2, 3, 2, 2, 1, {4}, 1.0, false},
        {3, 3, 2, 2, 2, {4, 3}, 0.0, false},
        {65, 16, 5, 40, 3, {33, 32, 31}, 0.3, false},
        {50, 4, 3, 6, 1, {8}, 1.0, true},
        {50, 4, 3, 6, 0, {0}, 0.5, true},
    };

    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        struct toy toy;
        struct amx_model *model;
        toy_init(&toy, shapes[i].N, shapes[i].D, shapes[i].C, shapes[i].A, 5 + i);
        toy.label[0] = 0; /* at least two classes, however small the set */
        toy.label[toy.data.n_labels - 1] = 1;
        toy.options.settings.n_hidden = shapes[i].n_hidden;
        memcpy(toy.options.settings.hidden, shapes[i].hidden, sizeof shapes[i].hidden);
        toy.options.settings.alpha = shapes[i].alpha;
        toy.options.settings.mix_only_annotators = shapes[i].within;
        toy.options.settings.epochs = shapes[i].C > 50 ? 1 : 3;
        model = toy_fit(&toy);
        CHECK(model != NULL && finite_outputs(model, &toy));
        amx_model_free(model);
        toy_done(&toy);
    }
}

TEST(learn_fit_last_batch)
{
    struct amx_settings settings;
    struct batch_plan plan;
    static const struct {
        size_t n, size;
        enum amx_last_batch last_batch;
        size_t n_batches, last;
    } cases[] = {
        {128, 64, AMX_LAST_BATCH_KEEP, 2, 64}, {129, 64, AMX_LAST_BATCH_KEEP, 2, 65},
        {130, 64, AMX_LAST_BATCH_KEEP, 3, 2},  {65, 64, AMX_LAST_BATCH_KEEP, 1, 65},
        {63, 64, AMX_LAST_BATCH_KEEP, 1, 63},  {3, 2, AMX_LAST_BATCH_KEEP, 1, 3},
        {129, 64, AMX_LAST_BATCH_DROP, 2, 64}, {191, 64, AMX_LAST_BATCH_DROP, 2, 64},
        {63, 64, AMX_LAST_BATCH_DROP, 1, 63},  {64, 64, AMX_LAST_BATCH_DROP, 1, 64},
    };

    amx_settings_default(4, &settings);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        settings.batch_size = (int)cases[i].size;
        settings.last_batch = cases[i].last_batch;
        batch_plan(&plan, cases[i].n, &settings);
        CHECK_INT(plan.n_batches, cases[i].n_batches);
        CHECK_INT(plan.last, cases[i].last);
    }
}

TEST(learn_fit_ignores_instances_without_labels)
{
    struct toy toy;
    struct amx_model *all, *labelled;
    size_t N = 40;
    float *moved;

    toy_init(&toy, N, 4, 3, 4, 6);
    all = toy_fit(&toy);
    /* The same data with unlabelled instances in between: only their positions change. */
    moved = toy_alloc(2 * N * 4, sizeof(float));
    for (size_t i = 0; i < N; i++) {
        memcpy(moved + (2 * i + 1) * 4, toy.features + i * 4, 4 * sizeof(float));
        moved[2 * i * 4] = 1e6f;
    }
    for (size_t l = 0; l < toy.data.n_labels; l++)
        toy.instance[l] = 2 * toy.instance[l] + 1;
    toy.data.features = moved;
    toy.data.n_instances = 2 * N;
    labelled = toy_fit(&toy);
    CHECK(toy_same_bytes(all, labelled));
    free(moved);
    amx_model_free(labelled);
    amx_model_free(all);
    toy_done(&toy);
}

/* ---- cancel and progress ------------------------------------------------------------ */

struct seen {
    int epochs_ended, calls;
    double last_fraction, last_loss;
    bool ordered;
    volatile int cancel;
    int cancel_after;
};

static void watch(const struct amx_progress *progress, void *context)
{
    struct seen *seen = context;

    seen->calls++;
    seen->ordered = seen->ordered && progress->fraction >= seen->last_fraction && progress->eta_seconds >= 0.0;
    seen->last_fraction = progress->fraction;
    seen->epochs_ended += progress->epoch_ended;
    if (progress->epoch_ended)
        seen->last_loss = progress->loss;
    if (seen->epochs_ended == seen->cancel_after)
        __atomic_store_n(&seen->cancel, 1, __ATOMIC_RELAXED);
}

TEST(learn_fit_progress)
{
    struct toy toy;
    struct seen seen = {.ordered = true, .cancel_after = -1};
    struct amx_model *model = NULL;
    struct amx_fit_report report;

    toy_init(&toy, 60, 4, 3, 4, 7);
    toy.options.progress = watch;
    toy.options.context = &seen;
    toy.options.cancel = &seen.cancel;
    toy.options.ensemble = 2;
    toy.options.threads = 2;
    CHECK_INT(amx_fit(&toy.data, &toy.options, &report, &model, NULL), AMX_OK);
    CHECK_INT(seen.epochs_ended, 2 * toy.options.settings.epochs);
    CHECK(seen.ordered);
    CHECK_NEAR(seen.last_fraction, 1.0, 1e-9);
    CHECK(isfinite(seen.last_loss));
    amx_free(report.loss_curve);
    amx_model_free(model);
    toy_done(&toy);
}

TEST(learn_fit_cancel)
{
    struct toy toy;
    struct seen seen = {.ordered = true, .cancel_after = 2};
    struct amx_model *model = NULL;
    struct amx_error err;

    toy_init(&toy, 60, 4, 3, 4, 8);
    toy.options.progress = watch;
    toy.options.context = &seen;
    toy.options.cancel = &seen.cancel;
    toy.options.settings.epochs = 10000; /* would take minutes */
    CHECK_INT(amx_fit(&toy.data, &toy.options, NULL, &model, &err), AMX_CANCELLED);
    CHECK_INT(err.code, AMX_CANCELLED);
    CHECK_INT(seen.epochs_ended, 2); /* not one batch later */
    CHECK(model == NULL);
    toy.options.threads = 2;
    toy.options.ensemble = 3;
    CHECK_INT(amx_fit(&toy.data, &toy.options, NULL, &model, &err), AMX_CANCELLED); /* raised before the start */
    CHECK(model == NULL);
    toy_done(&toy);
    toy_init(&toy, 200, 4, 60, 4, 8); /* with a helper */
    seen = (struct seen){.ordered = true, .cancel_after = 2};
    toy.options.progress = watch;
    toy.options.context = &seen;
    toy.options.cancel = &seen.cancel;
    toy.options.settings.epochs = 10000;
    toy.options.threads = 2;
    CHECK_INT(amx_fit(&toy.data, &toy.options, NULL, &model, &err), AMX_CANCELLED);
    CHECK_INT(seen.epochs_ended, 2);
    CHECK(model == NULL);
    toy_done(&toy);
}

/* ---- refusals ------------------------------------------------------------ */

static void refuse(struct toy *toy, enum amx_status expected, const char *words)
{
    struct amx_model *model = NULL;
    struct amx_error err = {.code = AMX_OK};

    CHECK_INT(amx_fit(&toy->data, &toy->options, NULL, &model, &err), expected);
    CHECK_INT(err.code, expected);
    test_check(strstr(err.text, words) != NULL, __FILE__, __LINE__, err.text);
    CHECK(model == NULL);
    CHECK_INT(amx_fit(&toy->data, &toy->options, NULL, &model, NULL), expected);
}

TEST(learn_fit_nothing_to_train)
{
    struct toy toy;

    toy_init(&toy, 20, 4, 3, 4, 9);
    toy.data.n_labels = 0;
    refuse(&toy, AMX_NOTHING, "two labelled instances");
    toy_done(&toy);
    toy_init(&toy, 20, 4, 3, 4, 9);
    memset(toy.instance, 0, toy.data.n_labels * sizeof(uint32_t));
    refuse(&toy, AMX_NOTHING, "two labelled instances");
    toy_done(&toy);
    toy_init(&toy, 20, 4, 3, 4, 9);
    memset(toy.label, 0, toy.data.n_labels * sizeof(uint32_t));
    refuse(&toy, AMX_NOTHING, "one class");
    toy_done(&toy);
}

TEST(learn_fit_bad_data)
{
    struct toy toy;
    float kept;

    toy_init(&toy, 20, 4, 3, 4, 10);
    kept = toy.features[13];
    toy.features[13] = NAN;
    refuse(&toy, AMX_INVALID, "instance 3");
    toy.features[13] = INFINITY;
    refuse(&toy, AMX_INVALID, "finite");
    toy.features[13] = kept;
    toy.label[5] = 3;
    refuse(&toy, AMX_INVALID, "Label 5");
    toy.label[5] = 0;
    toy.annotator[5] = 4;
    refuse(&toy, AMX_INVALID, "Label 5");
    toy.annotator[5] = 0;
    toy.instance[5] = 20;
    refuse(&toy, AMX_INVALID, "Label 5");
    toy.instance[5] = 0;
    toy.instance[0] = 1;
    refuse(&toy, AMX_INVALID, "ordered");
    toy.data.n_classes = 1001;
    refuse(&toy, AMX_INVALID, "classes");
    toy.data.n_classes = 3;
    toy.data.n_features = 0;
    refuse(&toy, AMX_INVALID, "features");
    toy_done(&toy);
}

TEST(learn_fit_bad_options)
{
    struct toy toy;

    toy_init(&toy, 20, 4, 3, 4, 11);
    toy.options.method = "no_such";
    refuse(&toy, AMX_INVALID, "no_such");
    toy.options.method = "annot_mix";
    toy.options.ensemble = 101;
    refuse(&toy, AMX_INVALID, "ensemble");
    toy.options.ensemble = 1;
    toy.options.seed = UINT64_C(1) << 53;
    refuse(&toy, AMX_INVALID, "seed");
    toy.options.seed = 0;
    toy.options.threads = 0;
    refuse(&toy, AMX_INVALID, "thread");
    toy.options.threads = 1;
    toy.options.settings.eta = 0.2;
    refuse(&toy, AMX_INVALID, "eta");
    toy_done(&toy);
}

TEST(learn_fit_not_finite)
{
    struct toy toy;

    toy_init(&toy, 40, 4, 3, 4, 12);
    for (size_t i = 0; i < 40 * 4; i++)
        toy.features[i] *= 1e37f;
    toy.options.settings.standardize = false;
    toy.options.settings.n_hidden = 0; /* no BatchNorm to tame it */
    toy.options.settings.learning_rate = 1.0;
    toy.options.settings.epochs = 50;
    refuse(&toy, AMX_NOT_FINITE, "smaller learning rate");
    toy.options.ensemble = 3;
    toy.options.threads = 2;
    refuse(&toy, AMX_NOT_FINITE, "not a number");
    toy_done(&toy);
}

/* Bytes that malloc has handed out, those it maps by themselves too. */
static size_t held(void)
{
    struct mallinfo2 info = mallinfo2();

    return info.uordblks + info.hblkhd;
}

static bool malloc_is_counted(void) /* not where a sanitizer or valgrind stands in for it */
{
    size_t before = held(), counted;
    void *volatile piece = malloc(1 << 20);

    counted = held() - before;
    free(piece);
    return counted >= 1 << 20 && counted < 1 << 21;
}

static void note_peak(const struct amx_progress *progress, void *context)
{
    size_t *most = context, now = held();

    (void)progress;
    *most = now > *most ? now : *most;
}

/* What a fit takes while it trains is what was said, and the features are not among it: they stay where they are. */
TEST(learn_fit_takes_what_it_said)
{
    enum {
        ROWS = 20000,
        FEATURES = 100
    };
    static const char *const methods[] = {"annot_mix", "crowd_layer", "ground_truth"};
    struct toy toy;
    int32_t *gold = calloc(ROWS, sizeof *gold);

    toy_init(&toy, ROWS, FEATURES, 3, 4, 14);
    for (size_t i = 0; gold != NULL && i < ROWS; i++)
        gold[i] = (int32_t)(i % 3);
    toy.data.gold = gold;
    toy.options.settings.epochs = 1;
    toy.options.settings.n_hidden = 1;
    toy.options.settings.hidden[0] = 32;
    toy.options.progress = note_peak;
    for (size_t i = 0; i < sizeof methods / sizeof methods[0] && malloc_is_counted(); i++) {
        struct amx_model *model = NULL;
        size_t before, most = 0, said;
        toy.options.method = methods[i];
        toy.options.context = &most;
        said = amx_fit_memory(&toy.data, &toy.options);
        before = held();
        CHECK_INT(amx_fit(&toy.data, &toy.options, NULL, &model, NULL), AMX_OK);
        CHECK(most - before <= said);
        CHECK(most - before >= said / 2);
        CHECK(said < ROWS * FEATURES * sizeof(float) / 4);
        amx_model_free(model);
    }
    free(gold);
    toy_done(&toy);
}

TEST(learn_fit_memory)
{
    struct toy toy;
    size_t small, large;

    toy_init(&toy, 40, 4, 3, 4, 13);
    small = amx_fit_memory(&toy.data, &toy.options);
    toy.options.settings.hidden[0] = 512;
    large = amx_fit_memory(&toy.data, &toy.options);
    CHECK(small > 1000 && small < 1000000);
    CHECK(large > small);
    /* C = 1000, E = 128: 128 M weights, two moments, no gradient, logits in slabs: below 3 GB with the model itself. */
    toy.options.settings.annotator_embedding = 128;
    toy.data.n_classes = 1000;
    large = amx_fit_memory(&toy.data, &toy.options);
    CHECK(large > (size_t)1500000000 && large < (size_t)3000000000);
    toy.data.n_annotators = SIZE_MAX / 64;
    CHECK(amx_fit_memory(&toy.data, &toy.options) == SIZE_MAX);
    toy.options.settings.epochs = 0;
    CHECK(amx_fit_memory(&toy.data, &toy.options) == SIZE_MAX);
    toy_done(&toy);
}
