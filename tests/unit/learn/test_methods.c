/* test_methods.c - what holds for every method of the table, present and future: reproducible bits, model file,
 * probabilities, folds that leave labels out, cancel, and thin data. A method joins by its line in methods.c. */
#include "test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fixture.h"
#include "learn/model.h"

/* ---- one method on toy data ------------------------------------------------------------ */

static const char *now; /* method of the failure messages */

static void check(bool ok, int line, const char *what)
{
    char text[260];

    (void)snprintf(text, sizeof text, "%s: %s", now, what);
    test_check(ok, __FILE__, line, text);
}
#define HOLDS(x) check((x), __LINE__, #x)

static int32_t *gold_of(const struct toy *toy)
{
    int32_t *gold = toy_alloc(toy->data.n_instances, sizeof *gold);

    for (size_t i = 0; i < toy->data.n_instances; i++)
        gold[i] = (int32_t)toy->truth[i];
    return gold;
}

struct subject {
    struct toy toy;
    int32_t *gold;
    uint32_t *fold;
};

static void subject_init(struct subject *s, const char *method, size_t N, size_t C, size_t A)
{
    now = method;
    toy_init(&s->toy, N, 5, C, A, 61);
    s->gold = gold_of(&s->toy);
    s->fold = toy_alloc(N, sizeof *s->fold);
    s->toy.data.gold = s->gold;
    s->toy.options.method = method;
}

static void subject_folds(struct subject *s, int folds)
{
    for (size_t i = 0; i < s->toy.data.n_instances; i++)
        s->fold[i] = (uint32_t)(i * 7 % (size_t)folds);
    s->toy.data.fold = s->fold;
    s->toy.options.folds = folds;
}

static void subject_done(struct subject *s)
{
    free(s->fold);
    free(s->gold);
    toy_done(&s->toy);
}

static struct amx_model *fit(struct subject *s)
{
    struct amx_model *model = NULL;
    struct amx_error err;
    enum amx_status status = amx_fit(&s->toy.data, &s->toy.options, NULL, &model, &err);

    check(status == AMX_OK, __LINE__, status == AMX_OK ? "" : err.text);
    return model;
}

struct answers {
    size_t n, m, C;
    float *p_class, *p_perf, *p_annotation, *p_confusion;
};

static struct answers ask(const struct amx_model *model, const float *x, size_t n, const uint32_t *annotators, size_t m)
{
    struct answers a = {.n = n, .m = m, .C = model->dims.C};
    struct amx_prediction out;

    a.p_class = out.p_class = toy_alloc(n * a.C, sizeof(float));
    a.p_perf = out.p_perf = toy_alloc(n * m, sizeof(float));
    a.p_annotation = out.p_annotation = toy_alloc(n * m * a.C, sizeof(float));
    a.p_confusion = out.p_confusion = toy_alloc(n * m * a.C * a.C, sizeof(float));
    HOLDS(amx_predict(model, x, n, annotators, m, &out, NULL) == AMX_OK);
    return a;
}

static void answers_free(struct answers *a)
{
    free(a->p_confusion);
    free(a->p_annotation);
    free(a->p_perf);
    free(a->p_class);
}

static bool same_answers(const struct answers *a, const struct answers *b)
{
    return memcmp(a->p_class, b->p_class, a->n * a->C * sizeof(float)) == 0 &&
           memcmp(a->p_perf, b->p_perf, a->n * a->m * sizeof(float)) == 0 &&
           memcmp(a->p_annotation, b->p_annotation, a->n * a->m * a->C * sizeof(float)) == 0 &&
           memcmp(a->p_confusion, b->p_confusion, a->n * a->m * a->C * a->C * sizeof(float)) == 0;
}

/* Largest distance of a sum of C numbers from 1; INFINITY for a number outside [0, 1]. */
static double worst_sum(const float *p, size_t n, size_t C)
{
    double worst = 0.0;

    for (size_t i = 0; i < n; i++) {
        double sum = 0.0;
        for (size_t c = 0; c < C; c++) {
            if (!(p[i * C + c] >= 0.0f && p[i * C + c] <= 1.0f + 1e-5f))
                return (double)INFINITY;
            sum += (double)p[i * C + c];
        }
        worst = test_worst(worst, fabs(sum - 1.0));
    }
    return worst;
}

static void check_probabilities(const struct answers *a)
{
    HOLDS(worst_sum(a->p_class, a->n, a->C) < 1e-5);
    HOLDS(worst_sum(a->p_annotation, a->n * a->m, a->C) < 1e-5);
    HOLDS(worst_sum(a->p_confusion, a->n * a->m * a->C, a->C) < 1e-5);
    for (size_t i = 0; i < a->n * a->m; i++) {
        if (!(a->p_perf[i] >= 0.0f && a->p_perf[i] <= 1.0f + 1e-5f)) {
            check(false, __LINE__, "p_perf is a probability");
            break;
        }
    }
}

/* Runs body(method) for every method of the table. */
static void each(void (*body)(const char *method))
{
    size_t n;
    const struct amx_method_info *methods = amx_methods(&n);

    for (size_t i = 0; i < n; i++)
        body(methods[i].name);
}

/* ---- bits ------------------------------------------------------------ */

static void same_bits(const char *method)
{
    struct subject s;
    struct amx_model *first, *again, *other;

    subject_init(&s, method, 70, 3, 5);
    first = fit(&s);
    again = fit(&s);
    s.toy.options.seed = 8;
    other = fit(&s);
    HOLDS(toy_same_bytes(first, again));
    HOLDS(!toy_same_bytes(first, other));
    amx_model_free(other);
    amx_model_free(again);
    amx_model_free(first);
    subject_done(&s);
}

TEST(learn_methods_same_seed_same_bytes)
{
    each(same_bits);
}

static void threads_do_not_matter(const char *method)
{
    struct subject s;
    struct amx_model *one, *three;

    subject_init(&s, method, 60, 3, 5);
    subject_folds(&s, 3);
    s.toy.options.settings.prior = AMX_PRIOR_CONSENSUS;
    one = fit(&s);
    s.toy.options.threads = 3;
    three = fit(&s);
    HOLDS(one->members == 4);
    HOLDS(toy_same_bytes(one, three));
    amx_model_free(three);
    amx_model_free(one);
    subject_done(&s);
}

TEST(learn_methods_threads_do_not_change_bytes)
{
    each(threads_do_not_matter);
}

static void round_trip(const char *method)
{
    static const uint32_t annotators[] = {0, AMX_UNSEEN, 4, 2};
    struct subject s;
    struct amx_model *model, *decoded = NULL;
    struct answers a, b;
    unsigned char *bytes;
    size_t n = 0;

    subject_init(&s, method, 60, 4, 5);
    subject_folds(&s, 2);
    model = fit(&s);
    bytes = toy_encode(model, &n);
    HOLDS(amx_model_decode(bytes, n, &decoded, NULL) == AMX_OK);
    HOLDS(toy_same_bytes(model, decoded));
    a = ask(model, s.toy.features, 60, annotators, 4);
    b = ask(decoded, s.toy.features, 60, annotators, 4);
    HOLDS(same_answers(&a, &b));
    check_probabilities(&a);
    answers_free(&b);
    answers_free(&a);
    amx_free(bytes);
    amx_model_free(decoded);
    amx_model_free(model);
    subject_done(&s);
}

TEST(learn_methods_model_file_predicts_the_same_bits)
{
    each(round_trip);
}

static void rows_alone(const char *method)
{
    static const uint32_t annotators[] = {3, 0, AMX_UNSEEN};
    struct subject s;
    struct amx_model *model;
    struct answers all, one;

    subject_init(&s, method, 70, 3, 5);
    s.toy.options.ensemble = 2;
    model = fit(&s);
    all = ask(model, s.toy.features, 70, annotators, 3);
    check_probabilities(&all);
    for (size_t i = 0; i < 70; i += 23) {
        one = ask(model, s.toy.features + i * 5, 1, annotators + 1, 1);
        HOLDS(memcmp(one.p_class, all.p_class + i * 3, 3 * sizeof(float)) == 0);
        HOLDS(one.p_perf[0] == all.p_perf[i * 3 + 1]);
        HOLDS(memcmp(one.p_annotation, all.p_annotation + (i * 3 + 1) * 3, 3 * sizeof(float)) == 0);
        HOLDS(memcmp(one.p_confusion, all.p_confusion + (i * 3 + 1) * 9, 9 * sizeof(float)) == 0);
        answers_free(&one);
    }
    answers_free(&all);
    amx_model_free(model);
    subject_done(&s);
}

TEST(learn_methods_rows_do_not_depend_on_each_other)
{
    each(rows_alone);
}

/* ---- folds ------------------------------------------------------------ */

/* Other labels, from the same annotators, for every instance of the fold, and other gold. */
static void change_fold(struct subject *s, uint32_t fold)
{
    const uint32_t C = (uint32_t)s->toy.data.n_classes;

    for (size_t l = 0; l < s->toy.data.n_labels; l++) {
        if (s->fold[s->toy.instance[l]] == fold)
            s->toy.label[l] = (s->toy.label[l] + 1 + (uint32_t)(l % (C - 1))) % C;
    }
    for (size_t i = 0; i < s->toy.data.n_instances; i++) {
        if (s->fold[i] == fold)
            s->gold[i] = (s->gold[i] + 1) % (int32_t)C;
    }
}

/* Predictions of the fold's instances by the members that never saw it. */
static float *out_of_fold(const struct subject *s, const struct amx_model *model, uint32_t fold, size_t *n)
{
    const size_t C = s->toy.data.n_classes, N = s->toy.data.n_instances, cells = C + C * C + 1 + C;
    float *out = toy_alloc(N * cells, sizeof(float)), *at = out;

    for (uint32_t i = 0; i < N; i++) {
        const uint32_t row = 0, annotator = i % (uint32_t)s->toy.data.n_annotators;
        const struct amx_pairs_prediction wanted = {
            .p_class = at, .p_confusion = at + C, .p_perf = at + C + C * C, .p_annotation = at + C + C * C + 1};
        if (s->fold[i] != fold)
            continue;
        HOLDS(amx_predict_pairs(model, (int)fold, s->toy.features + i * 5, 1, &row, &annotator, 1, &wanted, NULL) ==
              AMX_OK);
        at += cells;
    }
    *n = (size_t)(at - out);
    return out;
}

static void leaves_labels_out(const char *method, int ensemble, enum amx_prior prior)
{
    struct subject s;
    struct amx_model *before, *after;
    float *p, *q;
    size_t n, m;

    subject_init(&s, method, 48, 3, 5);
    subject_folds(&s, 3);
    s.toy.options.ensemble = ensemble;
    s.toy.options.settings.prior = prior;
    before = fit(&s);
    change_fold(&s, 1);
    after = fit(&s);
    p = out_of_fold(&s, before, 1, &n);
    q = out_of_fold(&s, after, 1, &m);
    HOLDS(n == m && memcmp(p, q, n * sizeof(float)) == 0);
    free(q);
    free(p);
    p = out_of_fold(&s, before, 2, &n); /* these members did see the changed labels */
    q = out_of_fold(&s, after, 2, &m);
    HOLDS(n == m && memcmp(p, q, n * sizeof(float)) != 0);
    free(q);
    free(p);
    amx_model_free(after);
    amx_model_free(before);
    subject_done(&s);
}

static void folds(const char *method)
{
    leaves_labels_out(method, 1, AMX_PRIOR_DAWID_SKENE);
    leaves_labels_out(method, 4, AMX_PRIOR_DAWID_SKENE); /* members double as folds */
    if (amx_setting_applies(method, "prior"))
        leaves_labels_out(method, 1, AMX_PRIOR_CONSENSUS);
}

TEST(learn_methods_out_of_fold_never_saw_the_labels)
{
    each(folds);
}

/* ---- cancel ------------------------------------------------------------ */

static void cancel_soon(const struct amx_progress *progress, void *context)
{
    volatile int *cancel = context;

    if (progress->epoch >= 1)
        __atomic_store_n(cancel, 1, __ATOMIC_RELAXED);
}

static void cancelled(const char *method)
{
    struct subject s;
    struct amx_model *model = NULL;
    struct amx_error err;
    volatile int cancel = 0;
    int priors = amx_setting_applies(method, "prior") ? 2 : 1;

    for (int prior = 0; prior < priors; prior++) {
        subject_init(&s, method, 60, 3, 5);
        s.toy.options.settings.prior = prior == 0 ? AMX_PRIOR_DAWID_SKENE : AMX_PRIOR_CONSENSUS;
        s.toy.options.settings.epochs = 10000;
        s.toy.options.progress = cancel_soon;
        s.toy.options.context = (void *)(uintptr_t)&cancel;
        s.toy.options.cancel = &cancel;
        cancel = 0;
        HOLDS(amx_fit(&s.toy.data, &s.toy.options, NULL, &model, &err) == AMX_CANCELLED && model == NULL);
        subject_done(&s);
    }
}

TEST(learn_methods_cancel)
{
    each(cancelled);
}

/* ---- thin data ------------------------------------------------------------ */

static void silent_annotator(const char *method)
{
    static const uint32_t both[] = {AMX_UNSEEN, 5};
    struct subject s;
    struct amx_model *model;
    struct answers a;

    subject_init(&s, method, 60, 3, 5);
    s.toy.data.n_annotators = 6; /* number 5 labelled nothing */
    s.toy.data.annotator_names = NULL;
    model = fit(&s);
    a = ask(model, s.toy.features, 60, both, 2);
    check_probabilities(&a);
    for (size_t i = 0; i < 60; i++) {
        if (a.p_perf[2 * i] != a.p_perf[2 * i + 1]) {
            check(false, __LINE__, "an annotator without labels is the population");
            break;
        }
    }
    answers_free(&a);
    amx_model_free(model);
    subject_done(&s);
}

TEST(learn_methods_annotator_without_labels)
{
    each(silent_annotator);
}

/* One label per instance, every label of another annotator: nobody overlaps with anybody. */
static void one_label_each(const char *method)
{
    enum {
        N = 30
    };
    static uint32_t instance[N], annotator[N], label[N];
    struct subject s;
    struct amx_model *model;
    struct answers a;

    subject_init(&s, method, N, 3, 4);
    for (uint32_t i = 0; i < N; i++) {
        instance[i] = annotator[i] = i;
        label[i] = i % 3;
    }
    s.toy.data.label_instance = instance;
    s.toy.data.label_annotator = annotator;
    s.toy.data.label_class = label;
    s.toy.data.n_labels = s.toy.data.n_annotators = N;
    s.toy.data.annotator_names = NULL;
    model = fit(&s);
    a = ask(model, s.toy.features, N, annotator, N);
    check_probabilities(&a);
    answers_free(&a);
    amx_model_free(model);
    subject_done(&s);
}

TEST(learn_methods_one_label_per_annotator)
{
    each(one_label_each);
}

/* Two instances, two classes of a hundred, one annotator; consensus has too few rows to leave any out. */
static void least_data(const char *method)
{
    static const uint32_t instance[] = {0, 1}, annotator[] = {0, 0}, label[] = {4, 99}, who[] = {0, AMX_UNSEEN};
    struct subject s;
    struct amx_model *model;
    struct answers a;

    subject_init(&s, method, 2, 100, 1);
    s.toy.data.label_instance = instance;
    s.toy.data.label_annotator = annotator;
    s.toy.data.label_class = label;
    s.toy.data.n_labels = 2;
    s.toy.options.settings.prior = AMX_PRIOR_CONSENSUS;
    model = fit(&s);
    a = ask(model, s.toy.features, 2, who, 2);
    check_probabilities(&a);
    answers_free(&a);
    amx_model_free(model);
    subject_done(&s);
}

TEST(learn_methods_two_instances_of_a_hundred_classes)
{
    each(least_data);
}

/* ---- what they are for ------------------------------------------------------------ */

static void learns(const char *method)
{
    struct subject s;
    struct amx_model *model;
    struct answers a;
    static const uint32_t who[] = {0, 5};
    size_t right = 0;
    double good = 0.0, bad = 0.0;

    subject_init(&s, method, 240, 3, 6);
    s.toy.options.settings.epochs = 60;
    s.toy.options.settings.hidden[0] = 16;
    s.toy.options.settings.dropout = 0.0;
    model = fit(&s);
    a = ask(model, s.toy.features, 240, who, 2);
    for (size_t i = 0; i < 240; i++) {
        size_t best = 0;
        for (size_t c = 1; c < 3; c++)
            best = a.p_class[i * 3 + c] > a.p_class[i * 3 + best] ? c : best;
        right += best == s.toy.truth[i];
        good += (double)a.p_perf[2 * i] / 240;
        bad += (double)a.p_perf[2 * i + 1] / 240;
    }
    HOLDS(right >= 112); /* guessing: 80; most methods: all, but madl may explain labels by x alone */
    HOLDS(good > bad);   /* annotator 0 is mostly right, the last one guesses */
    answers_free(&a);
    amx_model_free(model);
    subject_done(&s);
}

TEST(learn_methods_learn_classes_and_annotators)
{
    each(learns);
}

static void infos(const char *method)
{
    size_t n, n_fields;
    const struct amx_method_info *methods = amx_methods(&n), *info = NULL;
    const struct amx_setting_field *fields = amx_setting_fields(&n_fields);

    now = method;
    for (size_t i = 0; i < n; i++)
        info = strcmp(methods[i].name, method) == 0 ? &methods[i] : info;
    HOLDS(info != NULL && strlen(info->title) > 1 && strlen(info->source) > 5 && strlen(info->help) > 20);
    HOLDS(amx_setting_applies(method, "epochs") && !amx_setting_applies(method, "no_such"));
    for (const char *const *own = method_find(method)->own_settings; *own != NULL; own++) {
        bool known = false;
        for (size_t f = 0; f < n_fields; f++)
            known = known || strcmp(fields[f].name, *own) == 0;
        check(known, __LINE__, *own);
    }
}

TEST(learn_methods_table)
{
    size_t n;

    each(infos);
    CHECK_STR(amx_methods(&n)[0].name, "annot_mix");
    CHECK(n >= 7);
    CHECK(!amx_setting_applies("no_such", "epochs"));
    CHECK(amx_setting_applies(NULL, "alpha"));
    CHECK(amx_setting_applies("annot_mix_prior", "prior") && !amx_setting_applies("annot_mix_prior", "eta"));
    CHECK(amx_setting_applies("dawid_skene", "soft") && !amx_setting_applies("ground_truth", "soft"));
}
