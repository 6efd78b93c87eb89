/* models.h - models: rows, chunked bytes, and what each model says about each annotator.
 *
 * A model is written in several small jobs: models_begin (takes the number, which is never used again),
 * models_put_chunk and models_put_annotator as often as needed, and models_finish, which checks count, size and SHA-256
 * and makes it visible. Rows in state `writing` are seen by nobody; those a crash left behind are deleted at start.
 */
#ifndef STORE_MODELS_H
#define STORE_MODELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "annotmix.h"
#include "store/db.h"

enum {
    MODEL_CHUNK_BYTES = 4 * 1024 * 1024,
    MODELS_KEPT = 10
};

struct model_new {
    struct slice method, settings; /* name; JSON object */
    int64_t seed;
    int ensemble;
    int folds;                           /* 0, or 2..20 */
    int64_t run_number;                  /* 0 = imported */
    int64_t label_seq;                   /* of the data; imported: of now */
    int64_t labels_used, instances_used; /* instances_used -1 = not known */
    struct slice data_hash;              /* "sha256:..."; bytes NULL = none */
    struct slice build, kernel, blas;    /* bytes NULL = not known (imported) */
    int64_t now_ms;
};
/* AMX_NOT_FOUND: no such project. */
AMX_CHECK enum amx_status models_begin(struct db *db, int64_t project_id, const struct model_new *model,
                                       int64_t *number, struct amx_error *err);
/* Chunks 0, 1, ... of at most MODEL_CHUNK_BYTES, in order. */
AMX_CHECK enum amx_status models_put_chunk(struct db *db, int64_t project_id, int64_t number, int64_t chunk,
                                           const void *bytes, size_t n, struct amx_error *err);
/* What a model with folds says of an annotator (service.md, reliability). NaN = none. */
struct model_annotator_folds {
    double reliability_all;       /* mean p_perf over all train instances */
    double expected_correct;      /* mean posterior of the class it gave, its own label left out */
    double agreement_with_others; /* share of its labels that are the consensus of the others' labels */
};
struct model_annotator {
    int64_t annotator_id;
    struct slice name;              /* reading: followed by a 0 byte; writing: not used */
    int64_t labels;                 /* labels this model was trained on: its evidence */
    double reliability;             /* mean p_perf over the train instances it labelled; NaN = none */
    const float *class_reliability; /* [n_classes] NaN where there is no evidence; NULL = none */
    const float *class_evidence;    /* [n_classes] expected number with that true class; NULL = none */
    const float *confusion;         /* [n_classes][n_classes] rows = true class; NULL = not kept or not asked for */
    size_t n_classes;               /* of the model */
    const struct model_annotator_folds *folds; /* NULL = the model has none */
    void *memory;                   /* NULL when borrowed */
};
void model_annotator_done(struct model_annotator *row);
AMX_CHECK enum amx_status models_put_annotator(struct db *db, int64_t project_id, int64_t number,
                                               const struct model_annotator *row, struct amx_error *err);

struct model_end {
    int64_t n_chunks, size_bytes;
    uint8_t sha256[32];            /* of all bytes */
    struct slice metrics;          /* JSON object */
    double population_reliability; /* NaN = none */
    size_t n_classes;              /* it was trained with */
    bool activate;
};
/* Makes the model visible; activates it; deletes what is over the newest MODELS_KEPT, the active and the pinned ones.
 * AMX_CORRUPT when chunks, size or hash are not as told; AMX_NOT_FOUND. */
AMX_CHECK enum amx_status models_finish(struct db *db, int64_t project_id, int64_t number, const struct model_end *end,
                                        struct amx_error *err);
/* Gives up a model in state writing. Harmless when there is none. */
AMX_CHECK enum amx_status models_abandon(struct db *db, int64_t project_id, int64_t number, struct amx_error *err);
/* At start: leftovers in state writing are deleted. */
AMX_CHECK enum amx_status models_recover(struct db *db, int64_t *n_deleted, struct amx_error *err);

AMX_CHECK enum amx_status models_activate(struct db *db, int64_t project_id, int64_t number, struct amx_error *err);
AMX_CHECK enum amx_status models_pin(struct db *db, int64_t project_id, int64_t number, bool pinned,
                                     struct amx_error *err);
/* Gone at once; its bytes are erased later, by models_purge_step. AMX_CONFLICT when it is active. */
AMX_CHECK enum amx_status models_delete(struct db *db, int64_t project_id, int64_t number, struct amx_error *err);

/* Erases some 16 MiB of deleted models, in one job. *worked: call again. */
AMX_CHECK enum amx_status models_purge_step(struct db *db, bool *worked, struct amx_error *err);

/* Slices are followed by a 0 byte. */
struct model_row {
    int64_t number;
    bool active, pinned;
    struct model_new about; /* as given to models_begin; now_ms = created */
    struct slice metrics;   /* JSON object */
    int64_t n_chunks, size_bytes;
    uint8_t sha256[32];
    double population_reliability; /* NaN = none */
    size_t n_classes;
    void *memory; /* NULL when borrowed */
};
void model_row_done(struct model_row *row);
AMX_CHECK enum amx_status models_get(struct db *db, int64_t project_id, int64_t number, struct model_row *out,
                                     struct amx_error *err);
/* The active one; AMX_NOT_FOUND when there is none. */
AMX_CHECK enum amx_status models_get_active(struct db *db, int64_t project_id, struct model_row *out,
                                            struct amx_error *err);
typedef enum amx_status models_fn(void *context, const struct model_row *row);
/* Newest first: rows with number < before (INT64_MIN or 0 = from the newest). */
AMX_CHECK enum amx_status models_list(struct db *db, int64_t project_id, int64_t before, size_t limit, models_fn *fn,
                                      void *context, bool *more, struct amx_error *err);
/* One chunk, appended to out. AMX_NOT_FOUND after the last. */
AMX_CHECK enum amx_status models_read_chunk(struct db *db, int64_t project_id, int64_t number, int64_t chunk,
                                            struct buf *out, struct amx_error *err);
/* All bytes, checked against the hash (AMX_CORRUPT); free() them. */
AMX_CHECK enum amx_status models_load(struct db *db, int64_t project_id, int64_t number, unsigned char **bytes,
                                      size_t *n, struct amx_error *err);
/* Projects with an active model: what start-up loads. */
typedef enum amx_status models_active_fn(void *context, int64_t project_id, int64_t number);
AMX_CHECK enum amx_status models_list_active(struct db *db, models_active_fn *fn, void *context, struct amx_error *err);

/* Rows by annotator number > after; deleted annotators are left out. */
typedef enum amx_status model_annotators_fn(void *context, const struct model_annotator *row);
AMX_CHECK enum amx_status model_annotators_list(struct db *db, int64_t project_id, int64_t number, int64_t after,
                                                size_t limit, bool with_confusion, model_annotators_fn *fn,
                                                void *context, bool *more, struct amx_error *err);
AMX_CHECK enum amx_status model_annotators_get(struct db *db, int64_t project_id, int64_t number, int64_t annotator_id,
                                               struct model_annotator *out, struct amx_error *err);

#endif
