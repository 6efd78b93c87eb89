/* Simulated annotators: streams of random numbers, habits, who is asked, attackers, and the truth about them. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "simulate/simulate.h"
#include "test.h"

enum {
    N = 300,
    D = 2,
    C = 5
};

/* ---- a small folder in memory ------------------------------------------------------------------------------------ */

struct folder {
    struct data_dir dir;
    char names[N][16];
};

static const char *const class_names[C] = {"a", "b", "c", "d", "e"};

static bool is_test(size_t i)
{
    return i % 6 == 5;
}

/* C clusters; every sixth instance is of split test; `labels` labels by honest annotators h0..h9, all right. */
static void folder_init(struct folder *f, bool features, size_t labels)
{
    struct data_dir *dir = &f->dir;
    struct sim_random random;

    memset(f, 0, sizeof *f);
    sim_random_init(&random, 7, 0, 0, 0);
    dir->rows = calloc(N, sizeof *dir->rows);
    dir->features = calloc((size_t)N * D, sizeof *dir->features);
    dir->labels = calloc(labels + 1, sizeof *dir->labels);
    dir->classes = calloc(C, sizeof *dir->classes);
    for (size_t k = 0; k < C; k++)
        dir->classes[k] = class_names[k];
    for (size_t i = 0; i < N; i++) {
        uint32_t number;

        (void)snprintf(f->names[i], sizeof f->names[i], "i%03zu", i);
        CHECK(name_table_add(&dir->instances, f->names[i], strlen(f->names[i]), &number, NULL) == AMX_OK);
        dir->rows[i] = (struct training_row){f->names[i], is_test(i) ? SPLIT_TEST : SPLIT_TRAIN,
                                             features ? i : SIZE_MAX, (int32_t)(i % C)};
        for (size_t d = 0; d < D; d++)
            dir->features[i * D + d] = (float)(2 * cos((double)(i % C) + (double)d) + 0.3 * sim_normal(&random));
    }
    for (size_t a = 0; a < 10; a++) {
        char name[8];
        uint32_t number;

        (void)snprintf(name, sizeof name, "h%zu", a);
        CHECK(name_table_add(&dir->annotators, name, 2, &number, NULL) == AMX_OK);
    }
    for (size_t l = 0; l < labels; l++)
        dir->labels[l] = (struct training_label){(uint32_t)(l / 10 % N), (uint32_t)(l % 10), (uint32_t)(l / 10 % C)};
    dir->n_labels = labels;
    dir->n_classes = C;
    dir->n_features = features ? D : 0;
}

static void folder_done(struct folder *f)
{
    data_dir_done(&f->dir);
}

static struct sim_options options_of(enum sim_mode mode)
{
    return (struct sim_options){
        .mode = mode, .seed = 3, .n_annotators = 10, .labels_low = 3, .labels_high = 3, .n_hidden = 1, .hidden = {16}};
}

/* ---- random numbers ---------------------------------------------------------------------------------------------- */

TEST(streams_repeat_and_differ)
{
    struct sim_random a, b, c;

    sim_random_init(&a, 1, 2, 3, 4);
    sim_random_init(&b, 1, 2, 3, 4);
    sim_random_init(&c, 1, 2, 4, 3);
    for (int i = 0; i < 20; i++) {
        double x = sim_uniform(&a), y = sim_uniform(&c);

        CHECK(x >= 0 && x < 1);
        CHECK(x == sim_uniform(&b));
        CHECK(x != y);
    }
}

static void beta_moments(double a, double b)
{
    struct sim_random random;
    double sum = 0, squares = 0, mean = a / (a + b), variance = a * b / ((a + b) * (a + b) * (a + b + 1));

    sim_random_init(&random, 11, 0, 0, 0);
    for (int i = 0; i < 20000; i++) {
        double x = sim_beta(&random, a, b);

        CHECK(x >= 0 && x <= 1);
        sum += x / 20000;
        squares += x * x / 20000;
    }
    CHECK_NEAR(sum, mean, 0.012);
    CHECK_NEAR(squares - sum * sum, variance, 0.012);
}

TEST(beta_has_its_moments)
{
    beta_moments(1, 3);
    beta_moments(0.4, 1.7);
    beta_moments(0.01, 0.5);
}

TEST(below_and_shuffle_stay_inside)
{
    struct sim_random random;
    uint32_t order[50];
    unsigned seen[7] = {0}, in_order = 0;

    sim_random_init(&random, 5, 0, 0, 0);
    for (int i = 0; i < 7000; i++)
        seen[sim_below(&random, 7)]++;
    for (int i = 0; i < 7; i++)
        CHECK(seen[i] > 850 && seen[i] < 1150);
    for (uint32_t i = 0; i < 50; i++)
        order[i] = i;
    sim_shuffle(&random, order, 50);
    for (uint32_t want = 0; want < 50; want++) {
        unsigned found = 0;

        for (int i = 0; i < 50; i++)
            found += order[i] == want;
        CHECK_INT(found, 1);
        in_order += order[want] == want;
    }
    CHECK(in_order < 10);
}

/* ---- habits ------------------------------------------------------------------------------------------------------ */

TEST(every_habit_is_a_distribution_with_its_accuracy)
{
    static const double want[] = {0.9, 0.6, -1, -1, 0.2, -1, 0.1, 0.4, 0.4};
    struct sim_options options = options_of(SIM_KINDS);
    struct simulation s = {0};
    struct folder f;

    folder_init(&f, true, 0);
    options.kinds =
        "expert=1:0.9,careless=1,class_confuser=1,region_blind=1,spammer=1,constant=1,adversary=1,colluders=2";
    CHECK(simulation_make(&f.dir, &options, &s, NULL) == AMX_OK);
    CHECK_INT(s.n_annotators, 9);
    for (size_t a = 0; a < s.n_annotators; a++) {
        size_t blind = 0;
        double p[C], right = 0, n = 0;

        for (size_t i = 0; i < N; i++) {
            double sum = 0;

            CHECK(sim_probabilities(&s, a, i, p));
            for (size_t c = 0; c < C; c++) {
                CHECK(p[c] >= 0 && p[c] <= 1);
                sum += p[c];
            }
            CHECK_NEAR(sum, 1, 1e-12);
            if (f.dir.rows[i].split == SPLIT_TRAIN) {
                right += p[i % C];
                n++;
            }
            blind += s.annotators[a].blind != NULL && s.annotators[a].blind[i];
        }
        CHECK_NEAR(s.annotators[a].accuracy, right / n, 1e-12);
        if (want[a] >= 0)
            CHECK_NEAR(s.annotators[a].accuracy, want[a], 1e-9);
        if (s.annotators[a].kind == SIM_REGION_BLIND)
            CHECK_INT(blind, N * 4 / 10);
    }
    simulation_done(&s);
    folder_done(&f);
}

TEST(confused_classes_stand_in_pairs)
{
    struct sim_options options = options_of(SIM_KINDS);
    struct simulation s = {0};
    struct folder f;

    folder_init(&f, true, 0);
    options.kinds = "class_confuser=6:0.3";
    CHECK(simulation_make(&f.dir, &options, &s, NULL) == AMX_OK);
    for (size_t a = 0; a < s.n_annotators; a++) {
        const struct sim_annotator *annotator = &s.annotators[a];
        unsigned confused = 0;

        for (size_t k = 0; k < C; k++) {
            size_t other = annotator->partner[k];

            CHECK_INT(annotator->partner[other], k);
            confused += other != k;
            CHECK_NEAR(annotator->confusion[k * C + k], other != k ? 0.3 : 0.95, 1e-12);
            if (other != k)
                CHECK_NEAR(annotator->confusion[k * C + other], 0.7, 1e-12);
        }
        CHECK_INT(confused, 2);
    }
    simulation_done(&s);
    folder_done(&f);
}

/* The share of each habit's answers that are right is its accuracy; both colluders answer alike. */
TEST(answers_follow_the_probabilities)
{
    struct sim_options options = options_of(SIM_KINDS);
    struct simulation s = {0};
    struct folder f;
    double p[C];

    folder_init(&f, true, 0);
    options.kinds = "careless=1:0.7,colluders=2,constant=1";
    CHECK(simulation_make(&f.dir, &options, &s, NULL) == AMX_OK);
    unsigned right = 0, same = 0, shared = 0;

    for (size_t i = 0; i < N; i++) {
        right += sim_answer(&s, 0, i, p) == i % C;
        shared += sim_answer(&s, 1, i, p) == i % C;
        same += sim_answer(&s, 1, i, p) == sim_answer(&s, 2, i, p);
        CHECK_INT(sim_answer(&s, 3, i, p), s.annotators[3].class_);
    }
    CHECK_INT(same, N);
    CHECK_NEAR(right / (double)N, 0.7, 0.08);
    CHECK_NEAR(shared / (double)N, 0.4, 0.08);
    simulation_done(&s);
    folder_done(&f);
}

static void refused(const char *kinds, unsigned labels, bool features)
{
    struct sim_options options = options_of(SIM_KINDS);
    struct simulation s = {0};
    struct amx_error err = {0};
    struct folder f;

    folder_init(&f, features, 0);
    options.kinds = kinds;
    options.labels_low = options.labels_high = labels;
    CHECK(simulation_make(&f.dir, &options, &s, &err) == AMX_INVALID);
    CHECK(strlen(err.text) > 10);
    CHECK(s.annotators == NULL);
    folder_done(&f);
}

TEST(wrong_lists_are_refused)
{
    static const char *const wrong[] = {"",
                                        "expert",
                                        "expert=",
                                        "=3",
                                        "expert=-1",
                                        "expert=1:",
                                        "expert=1:1.1",
                                        "nobody=1",
                                        "spammer=1:.5",
                                        "expert=1,",
                                        "expert=30%",
                                        "expert=50%,careless=1",
                                        "expert=0",
                                        "network=1",
                                        "given=1",
                                        "expert=%"};

    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        refused(wrong[i], 1, true);
    refused("expert=2", 3, true);
    refused("region_blind=3", 1, false);
}

TEST(shares_are_handed_out_to_the_last_annotator)
{
    struct sim_options options = options_of(SIM_KINDS);
    struct simulation s = {0};
    struct folder f;
    unsigned experts = 0;

    folder_init(&f, false, 0);
    options.kinds = "expert=33%,careless=33%,spammer=34%";
    CHECK(simulation_make(&f.dir, &options, &s, NULL) == AMX_OK);
    CHECK_INT(s.n_annotators, 10);
    for (size_t a = 0; a < s.n_annotators; a++)
        experts += s.annotators[a].kind == SIM_EXPERT;
    CHECK_INT(experts, 3);
    simulation_done(&s);
    folder_done(&f);
}

/* ---- who is asked ------------------------------------------------------------------------------------------------ */

static bool has_label(const struct simulation *s, const struct training_label *label)
{
    for (size_t l = 0; l < s->n_labels; l++) {
        if (memcmp(&s->labels[l], label, sizeof *label) == 0)
            return true;
    }
    return false;
}

TEST(more_labels_only_add_labels)
{
    struct sim_options few = options_of(SIM_KINDS), many = options_of(SIM_KINDS);
    struct simulation a = {0}, b = {0};
    struct folder f;

    folder_init(&f, true, 0);
    few.kinds = many.kinds = "expert=2,careless=4";
    few.beta_weights = many.beta_weights = true;
    many.labels_low = many.labels_high = 6;
    CHECK(simulation_make(&f.dir, &few, &a, NULL) == AMX_OK);
    CHECK(simulation_make(&f.dir, &many, &b, NULL) == AMX_OK);
    CHECK_INT(a.n_labels, 3 * N * 5 / 6);
    CHECK_INT(b.n_labels, 6 * N * 5 / 6);
    for (size_t l = 0; l < a.n_labels; l++)
        CHECK(has_label(&b, &a.labels[l]));
    for (size_t l = 0; l < b.n_labels; l++) {
        CHECK(f.dir.rows[b.labels[l].row].split == SPLIT_TRAIN);
        for (size_t m = l + 1; m < l + 6 && m < b.n_labels; m++)
            CHECK(b.labels[m].row != b.labels[l].row || b.labels[m].annotator != b.labels[l].annotator);
    }
    simulation_done(&a);
    simulation_done(&b);
    folder_done(&f);
}

TEST(without_gold_there_is_nothing_to_label_from)
{
    struct sim_options options = options_of(SIM_KINDS);
    struct simulation s = {0};
    struct amx_error err = {0};
    struct folder f;

    folder_init(&f, true, 0);
    options.kinds = "expert=5";
    for (size_t i = 0; i < N; i++)
        f.dir.rows[i].gold = f.dir.rows[i].split == SPLIT_TRAIN ? -1 : f.dir.rows[i].gold;
    CHECK(simulation_make(&f.dir, &options, &s, &err) == AMX_NOTHING);
    options.mode = SIM_NETWORKS;
    CHECK(simulation_make(&f.dir, &options, &s, &err) == AMX_NOTHING);
    folder_done(&f);
}

/* ---- networks ---------------------------------------------------------------------------------------------------- */

TEST(networks_learn_some_of_it_and_say_one_thing_each)
{
    struct sim_options options = options_of(SIM_NETWORKS);
    struct simulation s = {0}, again = {0};
    struct folder f;
    double best = 0;

    folder_init(&f, true, 0);
    CHECK(simulation_make(&f.dir, &options, &s, NULL) == AMX_OK);
    CHECK(simulation_make(&f.dir, &options, &again, NULL) == AMX_OK);
    CHECK_INT(s.n_labels, again.n_labels);
    CHECK(memcmp(s.labels, again.labels, s.n_labels * sizeof *s.labels) == 0);
    for (size_t a = 0; a < s.n_annotators; a++) {
        CHECK(memcmp(s.annotators[a].votes, again.annotators[a].votes, N * sizeof(uint32_t)) == 0);
        CHECK(!s.annotators[a].bad);
        best = s.annotators[a].accuracy > best ? s.annotators[a].accuracy : best;
    }
    CHECK(best > 1.5 / C);
    for (size_t l = 0; l < s.n_labels; l++)
        CHECK_INT(s.labels[l].class_, s.annotators[s.labels[l].annotator].votes[s.labels[l].row]);
    simulation_done(&s);
    simulation_done(&again);
    folder_done(&f);
}

TEST(networks_need_features_and_two_classes)
{
    struct sim_options options = options_of(SIM_NETWORKS);
    struct simulation s = {0};
    struct amx_error err = {0};
    struct folder f;

    folder_init(&f, false, 0);
    CHECK(simulation_make(&f.dir, &options, &s, &err) == AMX_INVALID);
    folder_done(&f);
    folder_init(&f, true, 0);
    for (size_t i = 0; i < N; i++)
        f.dir.rows[i].gold = 2;
    CHECK(simulation_make(&f.dir, &options, &s, &err) == AMX_NOTHING);
    folder_done(&f);
}

/* ---- attackers --------------------------------------------------------------------------------------------------- */

static void attacked(enum sim_kind attack, double share, bool gold)
{
    struct sim_options options = options_of(SIM_ATTACK);
    struct simulation s = {0};
    struct folder f;
    size_t by_attackers = 0, right = 0, honest = 0, said[N];

    folder_init(&f, true, 2000);
    for (size_t i = 0; i < N && !gold; i++)
        f.dir.rows[i].gold = -1;
    for (size_t i = 0; i < N; i++)
        said[i] = SIZE_MAX;
    options.attack = attack;
    options.share = share;
    CHECK(simulation_make(&f.dir, &options, &s, NULL) == AMX_OK);
    CHECK(memcmp(s.labels, f.dir.labels, 2000 * sizeof *s.labels) == 0);
    for (size_t l = 0; l < s.n_labels; l++) {
        const struct training_label *label = &s.labels[l];

        if (label->annotator < 10) {
            honest += f.dir.rows[label->row].split == SPLIT_TRAIN;
            continue;
        }
        CHECK(f.dir.rows[label->row].split == SPLIT_TRAIN);
        CHECK(s.annotators[label->annotator].bad);
        by_attackers++;
        right += label->class_ == label->row % C;
        if (attack == SIM_COLLUDERS) {
            CHECK(said[label->row] == SIZE_MAX || said[label->row] == label->class_);
            said[label->row] = label->class_;
        }
    }
    CHECK_NEAR((double)by_attackers / (double)(by_attackers + honest), share, 0.001);
    if (attack == SIM_ADVERSARY || attack == SIM_COLLUDERS)
        CHECK_INT(right, 0);
    else
        CHECK_NEAR((double)right / (double)by_attackers, 1.0 / C, 0.12);
    simulation_done(&s);
    folder_done(&f);
}

/* Without gold the honest majority, which is right here, is what they turn against. */
TEST(attackers_reach_their_share)
{
    for (int gold = 0; gold < 2; gold++) {
        attacked(SIM_SPAMMER, 0.3, gold);
        attacked(SIM_CONSTANT, 0.4, gold);
        attacked(SIM_ADVERSARY, 0.2, gold);
        attacked(SIM_COLLUDERS, 0.45, gold);
    }
}

TEST(nothing_to_attack_is_said)
{
    struct sim_options options = options_of(SIM_ATTACK);
    struct simulation s = {0};
    struct amx_error err = {0};
    struct folder f;

    folder_init(&f, true, 0);
    options.attack = SIM_SPAMMER;
    options.share = 0.2;
    CHECK(simulation_make(&f.dir, &options, &s, &err) == AMX_NOTHING);
    folder_done(&f);
}

TEST(quality_counts_labels_and_votes)
{
    struct sim_options options = options_of(SIM_ATTACK);
    struct simulation s = {0};
    struct sim_quality q;
    struct folder f;

    folder_init(&f, true, 2000);
    options.attack = SIM_ADVERSARY;
    options.share = 0.2;
    CHECK(simulation_make(&f.dir, &options, &s, NULL) == AMX_OK);
    CHECK(simulation_quality(&s, &q, NULL) == AMX_OK);
    CHECK_NEAR(q.label_accuracy, 0.8, 0.001);
    CHECK_NEAR(q.majority_accuracy, 1, 1e-12);
    CHECK_INT(q.n_voted, 167); /* 200 instances have labels, 33 are of split test */
    CHECK_INT(q.n, q.n_labels);
    simulation_done(&s);
    folder_done(&f);
}
