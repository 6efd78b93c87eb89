/* test_select.c - method auto: candidates, the schedule, the same choice on any number of threads, refusals, cancel,
 * candidates that go astray, and what gold may and may not do. */
#include "test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "crowd/select/select.h"
#include "crowd/select/select_int.h"

enum {
    N = 60,
    D = 3,
    C = 3,
    A = 5,
    PER_INSTANCE = 3,
    N_VALID = 20
};

/* Three clusters on a line, five annotators of falling accuracy, the last one guesses. */
struct made {
    float features[N * D], valid_features[N_VALID * D];
    uint32_t instance[N * PER_INSTANCE], annotator[N * PER_INSTANCE], label[N * PER_INSTANCE];
    uint32_t valid_gold[N_VALID];
    int32_t gold[N];
    struct amx_data data;
    struct select_options options;
};

static double draw(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (double)(*state >> 11) / 9007199254740992.0;
}

static void make_features(float *x, uint32_t truth, uint64_t *state)
{
    for (size_t d = 0; d < D; d++)
        x[d] = (float)((double)truth * (d == 0 ? 3.0 : 1.0) + 1.2 * (draw(state) - 0.5));
}

static void make(struct made *m)
{
    static const double accuracy[A] = {0.95, 0.9, 0.8, 0.7, 1.0 / 3.0};
    uint64_t state = 7;

    memset(m, 0, sizeof *m);
    for (uint32_t i = 0; i < N; i++) {
        uint32_t truth = i % C;

        make_features(m->features + i * D, truth, &state);
        m->gold[i] = (int32_t)truth;
        for (uint32_t j = 0; j < PER_INSTANCE; j++) {
            uint32_t l = i * PER_INSTANCE + j, a = (i + j) % A;

            m->instance[l] = i;
            m->annotator[l] = a;
            m->label[l] = draw(&state) < accuracy[a] ? truth : (uint32_t)(draw(&state) * C);
        }
    }
    for (uint32_t i = 0; i < N_VALID; i++) {
        m->valid_gold[i] = i % C;
        make_features(m->valid_features + i * D, i % C, &state);
    }
    m->data = (struct amx_data){.n_instances = N,
                                .n_features = D,
                                .n_classes = C,
                                .n_annotators = A,
                                .n_labels = N * PER_INSTANCE,
                                .features = m->features,
                                .label_instance = m->instance,
                                .label_annotator = m->annotator,
                                .label_class = m->label};
    m->options = (struct select_options){.seed = 3, .ensemble = 1, .threads = 1, .budget_fits = 24};
    amx_settings_default(D, &m->options.settings);
    m->options.settings.n_hidden = 1; /* small and quick: kept for every candidate */
    m->options.settings.hidden[0] = 8;
    m->options.settings.hidden[1] = 0;
    m->options.settings.annotator_embedding = 8;
    m->options.settings.epochs = 9;
    m->options.methods[0] = "annot_mix";
    m->options.methods[1] = "majority_vote_mixup";
    m->options.n_methods = 2;
}

/* ---- candidates -------------------------------------------------------------------------------------------------- */

TEST(crowd_select_candidates)
{
    struct made m;
    struct select_source source;
    struct select_candidate c, again;
    bool spread = false;

    make(&m);
    amx_settings_default(D, &m.options.settings);
    m.options.n_methods = 0;
    select_source_init(&source, &m.data, &m.options);
    CHECK_INT(select_n_always(source.n_methods), 8);
    for (size_t i = 0; i < 8; i++) {
        select_candidate_at(&source, i, &c);
        CHECK(c.always);
        CHECK_INT(c.settings.epochs, 50);
        CHECK_INT(c.settings.n_hidden, i < 7 ? 2 : 0);
    }
    CHECK_STR(c.method, "dawid_skene");
    select_candidate_at(&source, 0, &c);
    CHECK_STR(c.method, "annot_mix");
    CHECK_NEAR(c.settings.eta, 0.9, 0.0);
    select_candidate_at(&source, 4, &c);
    CHECK_STR(c.method, "madl");
    CHECK_NEAR(c.settings.eta, 0.8, 0.0);
    for (size_t i = 8; i < 8 + 7 * 8; i++) {
        const struct amx_settings *s = &c.settings;

        select_candidate_at(&source, i, &c);
        select_candidate_at(&source, i, &again);
        CHECK(memcmp(&c.settings, &again.settings, sizeof c.settings) == 0);
        CHECK_STR(c.method, source.methods[(i - 8) % 7]);
        CHECK(!c.always);
        CHECK_INT(amx_settings_check(s, C, NULL), AMX_OK);
        CHECK(s->alpha >= 0.0 && s->alpha <= 2.0);
        CHECK((s->eta >= 0.75 && s->eta <= 0.95) || !amx_setting_applies(c.method, "eta"));
        CHECK(s->learning_rate >= 1e-4 && s->learning_rate <= 1e-1);
        CHECK(s->weight_decay >= 1e-6 && s->weight_decay <= 1e-3);
        CHECK(s->dropout >= 0.0 && s->dropout <= 0.5);
        CHECK(s->batch_size == 16 || s->batch_size == 32 || s->batch_size == 64 || s->batch_size == 128);
        CHECK(s->epochs == 5 || s->epochs == 30 || s->epochs == 50);
        CHECK_NEAR(s->annotator_learning_rate, s->learning_rate, 0.0);
        spread = spread || (s->n_hidden == 0 && s->batch_size == 16);
    }
    CHECK(spread);
    /* Eight points of one method: one alpha in each eighth of 0..2, whatever the seed shifts by. */
    for (uint64_t seed = 0; seed < 3; seed++) {
        unsigned seen = 0;

        m.options.seed = seed;
        select_source_init(&source, &m.data, &m.options);
        for (size_t r = 0; r < 8; r++) {
            select_candidate_at(&source, 8 + 7 * r, &c);
            seen |= 1u << (unsigned)(c.settings.alpha * 4.0);
        }
        CHECK_INT(seen, 255);
    }
}

TEST(crowd_select_keeps_what_was_asked_for)
{
    struct made m;
    struct select_source source;

    make(&m);
    m.options.settings.learning_rate = 0.02;
    select_source_init(&source, &m.data, &m.options);
    for (size_t i = 0; i < 20; i++) {
        struct select_candidate c;

        select_candidate_at(&source, i, &c);
        CHECK_INT(c.settings.epochs, 9);
        CHECK_NEAR(c.settings.learning_rate, 0.02, 0.0);
        CHECK(i == 2 ? c.settings.n_hidden == 0 : c.settings.n_hidden == 1 && c.settings.hidden[0] == 8);
    }
}

/* ---- the whole --------------------------------------------------------------------------------------------------- */

static bool same_result(const struct select_result *a, const struct select_result *b)
{
    bool same = a->n_candidates == b->n_candidates && a->rung == b->rung;

    for (size_t i = 0; i < a->n_candidates && same; i++) {
        const struct select_candidate *x = &a->candidates[i], *y = &b->candidates[i];

        same = strcmp(x->method, y->method) == 0 && memcmp(&x->settings, &y->settings, sizeof x->settings) == 0 &&
               x->state == y->state && x->rung == y->rung && memcmp(x->risks, y->risks, sizeof x->risks) == 0 &&
               memcmp(x->ranks, y->ranks, sizeof x->ranks) == 0;
    }
    return same;
}

static bool same_model(const struct amx_model *a, const struct amx_model *b)
{
    unsigned char *x = NULL, *y = NULL;
    size_t n = 0, m = 1;
    bool same = amx_model_encode(a, &x, &n, NULL) == AMX_OK && amx_model_encode(b, &y, &m, NULL) == AMX_OK && n == m &&
                memcmp(x, y, n) == 0;

    amx_free(x);
    amx_free(y);
    return same;
}

static void check_table(const struct select_result *r, int members)
{
    static const int EPOCHS[SELECT_RUNGS] = {3, 5, 9, 9};
    size_t of_rung[SELECT_RUNGS] = {0}, always = 0;
    const int last = SELECT_RUNGS - 1;

    CHECK_INT(r->rung, last);
    CHECK_INT(r->candidates[0].state, SELECT_FINISHED);
    for (size_t i = 0; i < r->n_candidates; i++) {
        const struct select_candidate *c = &r->candidates[i];

        CHECK(c->rung >= 0 && c->rung <= last);
        of_rung[c->rung]++;
        always += c->always && c->rung >= 2 ? 1 : 0;
        CHECK_INT(c->epochs, EPOCHS[c->rung]);
        CHECK_INT(c->members, c->rung == last ? members : 1);
        CHECK_INT(c->splits, c->rung == last ? SELECT_SPLITS : 1);
        CHECK_INT(c->state, c->rung == last ? SELECT_FINISHED : SELECT_DROPPED);
        CHECK(c->seconds > 0.0);
        for (size_t k = 0; k < RISKS; k++)
            CHECK(c->risks[k] >= 0.0 && c->risks[k] <= 1.0 && c->ranks[k] >= 1.0);
        if (i > 0 && c->rung == c[-1].rung)
            CHECK(c->score >= c[-1].score);
    }
    /* 24 fits: an eighth are 12 candidates at a quarter of the epochs, another one 6 at a half. */
    CHECK_INT(r->n_candidates, 12);
    CHECK_INT(of_rung[1] + of_rung[2] + of_rung[3], 6);
    CHECK(of_rung[3] >= 1 && of_rung[3] <= 3);
    CHECK(always >= 2); /* they take turns with the best */
}

TEST(crowd_select_same_choice_on_any_number_of_threads)
{
    struct made m;
    struct select_result first, other;
    struct amx_model *model = NULL, *again = NULL;
    struct amx_model_info info;

    make(&m);
    CHECK_INT(select_fit(&m.data, &m.options, &first, &model, NULL), AMX_OK);
    if (model == NULL)
        return;
    check_table(&first, 1);
    amx_model_info(model, &info);
    CHECK_STR(info.method, first.candidates[0].method);
    CHECK_INT(first.report.epochs, first.candidates[0].settings.epochs);
    for (int threads = 2; threads <= 3; threads++) {
        m.options.threads = threads;
        CHECK_INT(select_fit(&m.data, &m.options, &other, &again, NULL), AMX_OK);
        CHECK(same_result(&first, &other));
        CHECK(same_model(model, again));
        amx_model_free(again);
        select_result_done(&other);
    }
    m.options.seed = 4;
    CHECK_INT(select_fit(&m.data, &m.options, &other, &again, NULL), AMX_OK);
    CHECK(!same_result(&first, &other));
    amx_model_free(again);
    amx_model_free(model);
    select_result_done(&other);
    select_result_done(&first);
}

TEST(crowd_select_judges_ensembles_as_ensembles)
{
    struct made m;
    struct select_result result;
    struct amx_model *model = NULL;
    struct amx_model_info info;

    make(&m);
    m.options.ensemble = 3;
    CHECK_INT(select_fit(&m.data, &m.options, &result, &model, NULL), AMX_OK);
    if (model == NULL)
        return;
    amx_model_info(model, &info);
    CHECK_INT(info.ensemble, 3);
    check_table(&result, SELECT_MEMBERS);
    amx_model_free(model);
    select_result_done(&result);
}

TEST(crowd_select_gold_touches_nothing_by_itself)
{
    struct made m;
    struct select_result first, other;
    struct amx_model *model = NULL, *again = NULL;

    make(&m);
    m.options.budget_fits = 1;
    m.data.gold = m.gold;
    m.options.valid_features = m.valid_features;
    m.options.valid_gold = m.valid_gold;
    m.options.n_valid = N_VALID;
    CHECK_INT(select_fit(&m.data, &m.options, &first, &model, NULL), AMX_OK);
    for (size_t i = 0; i < N; i++)
        m.gold[i] = (m.gold[i] + 1) % C;
    for (size_t i = 0; i < N_VALID; i++)
        m.valid_gold[i] = (m.valid_gold[i] + 1) % C;
    CHECK_INT(select_fit(&m.data, &m.options, &other, &again, NULL), AMX_OK);
    CHECK(same_result(&first, &other));
    CHECK(same_model(model, again));
    CHECK(isnan(other.candidates[0].valid_error));
    amx_model_free(again);
    select_result_done(&other);
    amx_model_free(model);
    select_result_done(&first);
}

TEST(crowd_select_by_valid)
{
    struct made m;
    struct select_result result;
    struct amx_model *model = NULL;

    make(&m);
    m.options.by_valid = true;
    CHECK_INT(select_fit(&m.data, &m.options, &result, &model, NULL), AMX_NOTHING);
    m.options.valid_features = m.valid_features;
    m.options.valid_gold = m.valid_gold;
    m.options.n_valid = N_VALID;
    m.options.budget_fits = 20;
    CHECK_INT(select_fit(&m.data, &m.options, &result, &model, NULL), AMX_OK);
    if (model == NULL)
        return;
    for (size_t i = 0; i < result.n_candidates && result.candidates[i].state == SELECT_FINISHED; i++) {
        CHECK(result.candidates[i].valid_error >= result.candidates[0].valid_error);
        CHECK(result.candidates[i].valid_error <= 1.0);
    }
    CHECK(result.candidates[0].valid_error < 0.5);
    amx_model_free(model);
    select_result_done(&result);
}

TEST(crowd_select_by_time)
{
    struct made m;
    struct select_result result;
    struct amx_model *model = NULL;
    size_t always = 0;

    make(&m);
    m.options.budget_fits = 0;
    m.options.budget_seconds = 2.0;
    m.options.threads = 2;
    CHECK_INT(select_fit(&m.data, &m.options, &result, &model, NULL), AMX_OK);
    if (model == NULL)
        return;
    for (size_t i = 0; i < result.n_candidates; i++)
        always += result.candidates[i].always ? 1 : 0;
    CHECK_INT(always, 3);
    CHECK(result.candidates[0].rung == result.rung);
    amx_model_free(model);
    select_result_done(&result);
}

/* ---- refusals ---------------------------------------------------------------------------------------------------- */

TEST(crowd_select_budget_too_small)
{
    static const char *const many[SELECT_MAX_METHODS] = {
        "annot_mix", "majority_vote", "dawid_skene", "annot_mix", "annot_mix", "annot_mix", "annot_mix", "annot_mix",
        "annot_mix", "annot_mix",     "annot_mix",   "annot_mix", "annot_mix", "annot_mix", "annot_mix", "annot_mix"};
    struct made m;
    struct select_result result;
    struct amx_model *model = NULL;
    struct amx_error err;

    make(&m);
    memcpy(m.options.methods, many, sizeof many);
    m.options.n_methods = SELECT_MAX_METHODS;
    m.options.budget_fits = 1;
    CHECK_INT(select_min_fits(7), 2);
    CHECK_INT(select_min_fits(SELECT_MAX_METHODS), 5);
    CHECK_INT(select_fit(&m.data, &m.options, &result, &model, &err), AMX_INVALID);
    CHECK_STR(err.pointer, "/budget_fits");
    CHECK(strstr(err.text, "at least 5") != NULL);
    m.options.budget_fits = 0;
    m.options.budget_seconds = 1e-3;
    m.options.settings.epochs = 10000;
    m.options.n_methods = 1;
    CHECK_INT(select_fit(&m.data, &m.options, &result, &model, &err), AMX_INVALID);
    CHECK_STR(err.pointer, "/budget_seconds");
    CHECK(strstr(err.text, "at least") != NULL);
    m.options.budget_seconds = 0.0;
    CHECK_INT(select_fit(&m.data, &m.options, &result, &model, &err), AMX_INVALID);
}

TEST(crowd_select_methods_refused)
{
    struct made m;
    struct select_result result;
    struct amx_model *model = NULL;
    struct amx_error err;

    make(&m);
    m.options.methods[1] = "astrology";
    CHECK_INT(select_fit(&m.data, &m.options, &result, &model, &err), AMX_INVALID);
    CHECK_STR(err.pointer, "/methods");
    m.options.methods[1] = "ground_truth";
    CHECK_INT(select_fit(&m.data, &m.options, &result, &model, &err), AMX_INVALID);
    CHECK(strstr(err.text, "gold") != NULL);
}

TEST(crowd_select_refuses_data_as_a_fit_does)
{
    struct made m;
    struct select_result result;
    struct amx_model *model = NULL;
    struct amx_fit_options fit = {.method = "annot_mix", .ensemble = 1, .threads = 1};
    struct amx_error plain, err;

    make(&m);
    fit.settings = m.options.settings;
    memset(m.label, 0, sizeof m.label); /* every label the same */
    CHECK_INT(amx_fit(&m.data, &fit, NULL, &model, &plain), AMX_NOTHING);
    CHECK_INT(select_fit(&m.data, &m.options, &result, &model, &err), AMX_NOTHING);
    CHECK_STR(err.text, plain.text);
    make(&m);
    m.data.n_labels = 0;
    CHECK_INT(amx_fit(&m.data, &fit, NULL, &model, &plain), AMX_NOTHING);
    CHECK_INT(select_fit(&m.data, &m.options, &result, &model, &err), AMX_NOTHING);
    CHECK_STR(err.text, plain.text);
    /* Two labelled instances can be fitted, but nothing is left of them without a fold. */
    make(&m);
    m.data.n_labels = 2 * PER_INSTANCE;
    m.label[0] = 1;
    CHECK_INT(select_fit(&m.data, &m.options, &result, &model, &err), AMX_NOTHING);
    CHECK(strstr(err.text, "cross-validation") != NULL);
}

TEST(crowd_select_one_annotator)
{
    struct made m;
    struct select_result result;
    struct amx_model *model = NULL;

    make(&m);
    for (size_t i = 0; i < N; i++) {
        m.instance[i] = (uint32_t)i;
        m.annotator[i] = 0;
        m.label[i] = (uint32_t)m.gold[i];
    }
    m.data.n_labels = N;
    m.data.n_annotators = 1;
    m.options.budget_fits = 1;
    CHECK_INT(select_fit(&m.data, &m.options, &result, &model, NULL), AMX_OK);
    amx_model_free(model);
    select_result_done(&result);
}

TEST(crowd_select_lists_what_cannot_be_trained)
{
    struct made m;
    struct select_result result;
    struct amx_model *model = NULL;
    size_t failed = 0;

    /* madl weighs pairs of annotators and refuses so many. */
    make(&m);
    m.data.n_annotators = 20001;
    m.options.methods[1] = "madl";
    m.options.budget_fits = 1;
    CHECK_INT(select_fit(&m.data, &m.options, &result, &model, NULL), AMX_OK);
    if (model == NULL)
        return;
    for (size_t i = 0; i < result.n_candidates; i++) {
        const struct select_candidate *c = &result.candidates[i];
        bool madl = strcmp(c->method, "madl") == 0;

        CHECK((c->state == SELECT_FAILED) == madl);
        CHECK((c->error[0] != '\0') == madl);
        failed += madl ? 1 : 0;
    }
    CHECK(failed > 0);
    CHECK_INT(result.candidates[0].state, SELECT_FINISHED);
    amx_model_free(model);
    select_result_done(&result);
}

TEST(crowd_select_tells_when_nothing_can_be_trained)
{
    struct made m;
    struct select_result result;
    struct amx_model *model = NULL;
    struct amx_error err;

    make(&m);
    m.data.n_annotators = 20001;
    m.options.methods[0] = "madl";
    m.options.n_methods = 1;
    m.options.budget_fits = 1;
    m.options.settings.learning_rate = 2.0; /* out of range for everything */
    CHECK_INT(select_fit(&m.data, &m.options, &result, &model, &err), AMX_INVALID);
    CHECK_STR(err.pointer, "/learning_rate");
}

/* ---- progress and cancel ----------------------------------------------------------------------------------------- */

struct watch {
    double fraction;
    int calls, rung;
    bool fell, outside, fit;
    volatile int cancel;
    int cancel_at_rung; /* -1 never */
};

static void on_progress(const struct select_progress *p, void *context)
{
    struct watch *w = context;

    w->fell = w->fell || p->fraction < w->fraction || p->rung < w->rung;
    w->outside = w->outside || !(p->fraction >= 0.0 && p->fraction <= 1.0) || p->candidate > p->candidates;
    w->fraction = p->fraction;
    w->rung = p->rung;
    w->fit = w->fit || p->fit != NULL;
    w->calls++;
    if (w->cancel_at_rung >= 0 && p->rung >= w->cancel_at_rung)
        __atomic_store_n(&w->cancel, 1, __ATOMIC_RELAXED);
}

TEST(crowd_select_progress)
{
    struct made m;
    struct select_result result;
    struct amx_model *model = NULL;
    struct watch w = {.cancel_at_rung = -1};

    make(&m);
    m.options.progress = on_progress;
    m.options.context = &w;
    m.options.threads = 2;
    CHECK_INT(select_fit(&m.data, &m.options, &result, &model, NULL), AMX_OK);
    CHECK(w.calls > 3 && w.fit && !w.fell && !w.outside);
    CHECK_INT(w.rung, SELECT_RUNGS);
    CHECK_NEAR(w.fraction, 1.0, 1e-9);
    amx_model_free(model);
    select_result_done(&result);
}

TEST(crowd_select_cancel)
{
    struct made m;
    struct select_result result;
    struct amx_model *model = NULL;

    make(&m);
    for (int rung = -1; rung <= SELECT_RUNGS; rung++) {
        struct watch w = {.cancel_at_rung = rung, .cancel = rung < 0 ? 1 : 0};

        m.options.progress = on_progress;
        m.options.context = &w;
        m.options.cancel = &w.cancel;
        CHECK_INT(select_fit(&m.data, &m.options, &result, &model, NULL), AMX_CANCELLED);
        CHECK(model == NULL);
    }
}
