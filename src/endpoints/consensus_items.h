/* consensus_items.h - the consensus of a block of instances: from the active model and their labels, or from labels
 * alone. */
#ifndef ENDPOINTS_CONSENSUS_ITEMS_H
#define ENDPOINTS_CONSENSUS_ITEMS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "annotmix.h"
#include "crowd/consensus.h"
#include "endpoints/crowd_view.h"
#include "endpoints/instance_batch.h"
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

struct consensus_items {
    /* Set before, borrowed. */
    const struct project_info *project;
    const struct model_snapshot *snapshot; /* NULL: labels alone */
    const struct crowd_view *view;         /* Dawid-Skene in place of votes; NULL: majority vote */
    bool may_gold;                         /* gold settles an instance */
    size_t n_classes;                      /* the model's, or the project's */
    /* Made by it. */
    struct instance_batch batch;
    struct consensus_item *items; /* [batch.n] */
    struct consensus_label *labels;
    size_t n_labels, labels_room;
    struct buf names;  /* annotators, each followed by a 0 */
    float *p_class;    /* [block][C] */
    double *posterior; /* [block][C] */
    double *why;
    size_t block; /* most instances at once */
};

/* Sizes by the project and model. consensus_items_done in any case. */
AMX_CHECK enum amx_status consensus_items_init(struct consensus_items *c, struct amx_error *err);
void consensus_items_done(struct consensus_items *c);
/* For what is in c->batch (at most c->block): reads the labels, computes. AMX_TOO_LARGE: one instance has so many
 * labels that their matrices do not fit. */
AMX_CHECK enum amx_status consensus_items_compute(struct consensus_items *c, struct db *db, struct amx_error *err);
/* {"instance": ..., ..., "why": ...} */
void consensus_items_write_json(const struct consensus_items *c, size_t i, struct buf *out);
/* instance,class,confidence and a line end */
void consensus_items_write_csv(const struct consensus_items *c, size_t i, struct buf *out);

#endif
