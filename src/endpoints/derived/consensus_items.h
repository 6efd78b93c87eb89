/* consensus_items.h - the consensus of a block of instances: from the active model and their labels, from a posterior
 * that was made before (?method=, a run on labels alone), or from the votes. */
#ifndef ENDPOINTS_DERIVED_CONSENSUS_ITEMS_H
#define ENDPOINTS_DERIVED_CONSENSUS_ITEMS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "annotmix.h"
#include "crowd/consensus.h"
#include "endpoints/derived/instance_batch.h"
#include "util/buf.h"
#include "work/catalog.h"
#include "work/snapshots.h"

struct consensus_label {
    uint32_t class_;    /* of the project */
    uint32_t annotator; /* position in the model, or AMX_UNSEEN */
    size_t name;        /* offset in names */
};

/* One instance, after consensus_items_compute. */
struct consensus_item {
    enum consensus_basis basis;
    size_t first, n_labels;    /* in labels: those with a class */
    uint32_t class_, majority; /* CROWD_NO_CLASS: none */
    double confidence;         /* NaN: none */
    size_t why;                /* offset in why: n_labels + 1 numbers, the model's last; SIZE_MAX: none */
    struct consensus_state state;
};

/* A posterior made before, over instances by ascending id; borrowed. n = 0: none. An instance that is not in it gets its
 * votes. */
struct consensus_made {
    size_t n, n_classes;
    const int64_t *instance_ids; /* [n] */
    const float *posterior;      /* [n][n_classes] */
    enum consensus_basis basis;
};

struct consensus_items {
    /* Set before, borrowed. */
    const struct project_info *project;
    const struct model_snapshot *snapshot; /* NULL: `made`, or votes */
    struct consensus_made made;
    bool may_gold;    /* gold settles an instance */
    size_t n_classes; /* the model's, or the project's */
    /* Made by it. */
    struct instance_batch batch;
    struct consensus_item *items; /* [batch.n] */
    struct consensus_label *labels;
    size_t n_labels, labels_room;
    struct buf names;  /* annotators, each followed by a 0 */
    int *fold;         /* [block] see consensus_fold */
    float *p_class;    /* [block][C] */
    double *posterior; /* [block][C] */
    double *why;
    size_t block; /* most instances at once */
};

/* The fold whose members never saw a label of row i of the batch: known from its name (training_data.h). AMX_NO_FOLD:
 * the model has no folds, or the instance was never of split train, so that no member saw any. */
int consensus_fold(const struct model_snapshot *snapshot, const struct instance_batch *batch, size_t i);

/* Sizes by the project and model. consensus_items_done in any case. */
AMX_CHECK enum amx_status consensus_items_init(struct consensus_items *c, struct amx_error *err);
void consensus_items_done(struct consensus_items *c);
/* For what is in c->batch (at most c->block): reads the labels, computes. AMX_TOO_LARGE: one instance has so many
 * labels that their matrices do not fit. */
AMX_CHECK enum amx_status consensus_items_compute(struct consensus_items *c, struct db *db, struct amx_error *err);
/* What the active model has left for them: a model that predicts, or the posterior of a run on labels alone. */
void consensus_items_use(struct consensus_items *c, const struct model_snapshot *snapshot);
/* ?resolved=, ?disputed= (-1 any, 0, 1) and ?min_confidence= of item i. */
bool consensus_items_pass(const struct consensus_items *c, size_t i, int resolved, int disputed, double min_confidence);
/* {"instance": ..., ..., "why": ...} */
void consensus_items_write_json(const struct consensus_items *c, size_t i, struct buf *out);
/* instance,class,confidence and a line end */
void consensus_items_write_csv(const struct consensus_items *c, size_t i, struct buf *out);

#endif
