/* reliability_items.h - reliability of a block of annotators: the figures stored with the active model, or, without
 * one, what the labels say by themselves. Nothing is computed here; the model's figures were made when its run ended.
 */
#ifndef ENDPOINTS_DERIVED_RELIABILITY_ITEMS_H
#define ENDPOINTS_DERIVED_RELIABILITY_ITEMS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "annotmix.h"
#include "endpoints/derived/crowd_view.h"
#include "store/annotators.h"
#include "store/models.h"
#include "util/buf.h"
#include "work/catalog.h"
#include "work/snapshots.h"

struct reliability_item {
    int64_t id;
    size_t name;    /* offset in names */
    int64_t labels; /* current ones with a class */
    int64_t gold_right, gold_of;
    double reliability;                 /* NaN: nothing to go by */
    struct model_annotator_folds folds; /* NaN each: the model has no folds, or nothing to say */
    uint64_t evidence;
    const float *per_class, *class_evidence; /* [C] or NULL */
    const float *confusion;                  /* [C][C] or NULL; only of a single one */
};

struct reliability_items {
    /* Set before, borrowed. */
    const struct project_info *project;
    const struct model_snapshot *snapshot; /* NULL: by the view */
    const struct crowd_view *view;         /* NULL with a model */
    bool may_gold;                         /* against_gold is shown */
    size_t n_classes;
    /* Made. */
    size_t n;
    struct reliability_item *items; /* [RELIABILITY_BLOCK] */
    float *numbers;                 /* [RELIABILITY_BLOCK][2][C]: per_class, class_evidence */
    float *confusion;               /* [C][C] or NULL */
    struct buf names;
};
enum {
    RELIABILITY_BLOCK = 200
};

AMX_CHECK enum amx_status reliability_items_init(struct reliability_items *r, struct amx_error *err);
void reliability_items_done(struct reliability_items *r);
/* The next annotators after *after (at most limit <= RELIABILITY_BLOCK); moves *after. */
AMX_CHECK enum amx_status reliability_items_read(struct reliability_items *r, struct db *db, int64_t *after,
                                                 size_t limit, bool *more, struct amx_error *err);
/* The one of this name, with its confusion matrix. AMX_NOT_FOUND: nobody of this name; the item is then an unseen
 * annotator's. */
AMX_CHECK enum amx_status reliability_items_find(struct reliability_items *r, struct db *db, const char *name,
                                                 struct amx_error *err);
/* Members of the item without braces, so that more may follow. */
void reliability_items_write_json(const struct reliability_items *r, size_t i, struct buf *out);
void reliability_items_write_csv_header(struct buf *out);
void reliability_items_write_csv(const struct reliability_items *r, size_t i, struct buf *out);
double reliability_items_population(const struct reliability_items *r); /* NaN: not known */

#endif
