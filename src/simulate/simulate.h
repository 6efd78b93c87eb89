/* simulate.h - simulated annotators: labels for any data with gold, or attackers added to labels that are there.
 *
 * Three ways:
 *   networks  as the article does: every annotator is a small network trained on a class-dependent random part of the
 *             gold labels of split train, and says the class its network holds most likely;
 *   kinds     a named habit each (table below) with a known probability for every label;
 *   attack    attackers beside the annotators of an existing set, until they give the wanted share of its labels. Each
 *             goes through the instances of an honest one. random, constant: as the kinds spammer and constant;
 * collude:
 *             one wrong class for each instance, all the same; flip: the honest one's own labels, each turned into
 * another
 *             class (so it knows no more than an annotator can: one that flipped gold would give gold away).
 *
 * What an annotator says about an instance is a fixed function of (seed, annotator, instance); which pairs are asked is
 * drawn apart. So more labels per instance only add labels. Everything is decided by the data and the seed.
 *
 * True accuracy and true confusion of an annotator: means, over all train instances with gold (asked or not), of the
 * probabilities it answers with. Of the annotators that were in the set before, and of
 * those who flip them: counted from their labels. */
#ifndef SIMULATE_SIMULATE_H
#define SIMULATE_SIMULATE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "annotmix.h"
#include "files/data_dir.h"
#include "simulate_random.h"

enum sim_mode {
    SIM_NETWORKS,
    SIM_KINDS,
    SIM_ATTACK
};

/* Habits. accuracy = probability of the true class where the habit leaves it any choice. */
enum sim_kind {
    SIM_EXPERT,         /* accuracy .95; errors uniform over the other classes */
    SIM_CARELESS,       /* the same with .6 */
    SIM_CLASS_CONFUSER, /* half of the classes stand in pairs: there accuracy .5, else the partner; .95 elsewhere */
    SIM_REGION_BLIND,   /* guesses in a random 40 % of feature space, accuracy .95 elsewhere */
    SIM_SPAMMER,        /* uniform over the classes, whatever is shown */
    SIM_CONSTANT,       /* one class of its own, always */
    SIM_ADVERSARY,      /* accuracy .1; otherwise true class + shift of its own (mod C) */
    SIM_COLLUDERS,      /* all of them give the same labels; the one they copy has accuracy .4 */
    SIM_NETWORK,        /* a trained network */
    SIM_GIVEN           /* was in the set before */
};

struct sim_annotator {
    char name[256];
    enum sim_kind kind;
    double wanted_accuracy; /* of the habit */
    uint64_t stream;        /* of its answers; colluders share one */
    uint32_t class_;        /* constant: which; adversary: the shift */
    uint32_t *partner;      /* [C] class-confuser: k itself where it is not confused */
    uint32_t *votes;        /* [n_rows] network: what it says; SIM_NO_CLASS without features */
    unsigned char *blind;   /* [n_rows] region-blind: 1 where it guesses */
    bool counted;           /* the truth about it is counted from its labels, not summed from probabilities */
    bool bad;               /* spammer, constant, adversary, colluders: what a reliability should find */
    double accuracy;        /* true, as above; NaN: no instance to measure it on */
    double *confusion; /* [C][C] true; NaN rows: no instance of that class; NULL when there would be too many numbers */
    size_t n_labels;   /* given to split train */
};
#define SIM_NO_CLASS UINT32_MAX

struct sim_options {
    enum sim_mode mode;
    uint64_t seed;
    const char *kinds;                /* kinds: "expert=2,careless=3:0.7,spammer=20%" */
    size_t n_annotators;              /* networks, and kinds given in per cent */
    unsigned labels_low, labels_high; /* labels per instance, uniform between */
    bool beta_weights;                /* annotators are asked with weights ~ Beta(1, 3), else all alike */
    bool label_test;                  /* instances of valid and test too (labels_test.csv) */
    int hidden[AMX_MAX_HIDDEN];       /* networks: widths of the hidden layers */
    int n_hidden;
    enum sim_kind attack; /* attack: SPAMMER, CONSTANT, ADVERSARY or COLLUDERS */
    double share;         /* attack: of all labels, (0, 0.9] */
    void (*progress)(double fraction, const char *text, void *context); /* may be NULL */
    void *context;
};

/* What comes out. Classes and instances are those of the folder read. */
struct simulation {
    const struct data_dir *dir;
    const struct sim_options *options;
    size_t n_classes, n_rows;
    int32_t *truth; /* [n_rows] gold; attack: else the majority of the labels; -1 = unknown */
    struct sim_annotator *annotators;
    size_t n_annotators, n_given;
    struct training_label *labels; /* annotator: index into annotators */
    size_t n_labels, labels_capacity;
};

/* Makes everything. AMX_INVALID with a sentence: options that do not fit the data. simulation_done frees. */
AMX_CHECK enum amx_status simulation_make(const struct data_dir *dir, const struct sim_options *options,
                                          struct simulation *out, struct amx_error *err);
void simulation_done(struct simulation *s);

/* Writes instances.csv (as it was), labels.csv, gold.csv, labels_test.csv where there are such labels, and meta.json to
 * `folder`, which is made; none of the files may exist. On failure none of them is left. */
AMX_CHECK enum amx_status simulation_write(const struct simulation *s, const char *from, const char *folder,
                                           struct amx_error *err);
/* Accuracy of the labels of split train against gold, and of their majority vote (NaN without any); n: labels with
 * gold, n_voted: instances with gold and labels. AMX_NO_MEMORY. */
struct sim_quality {
    double label_accuracy, majority_accuracy;
    size_t n, n_voted, n_train, n_labels;
};
AMX_CHECK enum amx_status simulation_quality(const struct simulation *s, struct sim_quality *out,
                                             struct amx_error *err);

/* ---- between the files ------------------------------------------------------------------------------------------- */

/* Purposes of the random streams: never renumber. */
enum sim_purpose {
    SIM_FOR_KIND = 1,
    SIM_FOR_ANSWER,
    SIM_FOR_ASKING,
    SIM_FOR_WEIGHTS,
    SIM_FOR_NETWORK,
    SIM_FOR_ATTACK
};

const char *sim_kind_name(enum sim_kind kind); /* "class_confuser" */
/* simulate_kinds.c. Annotators of options->kinds, their habits drawn. */
AMX_CHECK enum amx_status sim_kinds_add(struct simulation *s, struct amx_error *err);
/* Draws what the habit of annotator a leaves to chance (class, shift, pairs, region). */
AMX_CHECK enum amx_status sim_kind_draw(struct simulation *s, size_t a, struct amx_error *err);
/* p [C]: with which probability annotator a says each class about the row, whose truth is known. False: it cannot say
 * anything (a network without features). */
bool sim_probabilities(const struct simulation *s, size_t a, size_t row, double *p);
/* Room for n more annotators, zeroed, at the end. */
AMX_CHECK enum amx_status sim_grow_annotators(struct simulation *s, size_t n, struct amx_error *err);
/* What annotator a says about the row; SIM_NO_CLASS: nothing. p [C] is scratch. */
uint32_t sim_answer(const struct simulation *s, size_t a, size_t row, double *p);
/* simulate_networks.c. options->n_annotators networks, trained. */
AMX_CHECK enum amx_status sim_networks_add(struct simulation *s, struct amx_error *err);
/* simulate_write.c. meta.json as it will be written; NULL when memory is out. meta: of the folder read, may be NULL. */
json_t *simulation_meta(const struct simulation *s, const struct sim_quality *quality, const json_t *meta);

#endif
