/* snapshots.h - models in memory: immutable, reference counted, swapped by pointer.
 *
 * Models are loaded from their chunks when first asked for and kept, least recently used first out, under
 * --model-memory. A model that a request holds stays valid until it is unref'd, whatever happens meanwhile: so an
 * answer is of one model from start to end, and a new one takes over between two requests. All functions: any thread;
 * a load reads the database (a read connection of its own for the time), everything else is a look-up under a lock. */
#ifndef WORK_SNAPSHOTS_H
#define WORK_SNAPSHOTS_H

#include <stddef.h>
#include <stdint.h>

#include "annotmix.h"

struct label_model;
struct name_index;
struct snapshots;
struct store;

struct model_snapshot {
    int refs; /* atomic; the room's own */
    struct amx_model *model;    /* NULL: the result of a run on labels alone, which predicts nothing: */
    const struct label_model *labels; /* of it (label_model.h), else NULL */
    /* Borrowed from the model: classes, annotator names, evidence, settings. Of labels alone: method and classes, nothing
     * else; its annotators are in the store. */
    struct amx_model_info info;
    int64_t project_id;
    int64_t number;    /* what clients call it: 1, 2, ... in its project */
    int64_t label_seq; /* as of which the data were read */
    int64_t computed_at_ms;
    double population_reliability; /* mean p_perf of an unseen annotator over the train instances; NaN = not known */
    size_t memory_bytes;
    const struct name_index *annotator_index; /* for snapshot_annotator */
};

AMX_CHECK enum amx_status snapshots_open(struct store *store, size_t memory_bytes, struct snapshots **out,
                                         struct amx_error *err);
void snapshots_close(struct snapshots *snapshots);

/* The project's active model. AMX_NOT_FOUND: there is none; AMX_CORRUPT, AMX_NO_MEMORY, AMX_IO. Caller unrefs *out. */
AMX_CHECK enum amx_status snapshots_get(struct snapshots *snapshots, int64_t project_id, struct model_snapshot **out,
                                        struct amx_error *err);
/* Any model of the project that is complete. AMX_NOT_FOUND: no such number. */
AMX_CHECK enum amx_status snapshots_get_number(struct snapshots *snapshots, int64_t project_id, int64_t number,
                                               struct model_snapshot **out, struct amx_error *err);
struct model_snapshot *snapshot_ref(struct model_snapshot *snapshot);
void snapshot_unref(struct model_snapshot *snapshot); /* NULL allowed */

/* The active model of the project changed (activated, trained, deleted, project deleted): call after COMMIT, before the
 * request is answered. The next snapshots_get asks the database which one it is. */
void snapshots_changed(struct snapshots *snapshots, int64_t project_id);
/* A COMMIT is coming that will change which model is active, and others may see its other effects before
 * snapshots_changed or _swap is called: until snapshots_settled, which must follow, snapshots_get asks the database each
 * time. AMX_NO_MEMORY. */
AMX_CHECK enum amx_status snapshots_changing(struct snapshots *snapshots, int64_t project_id, struct amx_error *err);
void snapshots_settled(struct snapshots *snapshots, int64_t project_id);
/* As snapshots_changed, for a model just trained: hands it over, so that nobody has to load it. Takes `model` in any case. */
void snapshots_swap(struct snapshots *snapshots, int64_t project_id, int64_t number, struct amx_model *model);
/* A model was deleted: drop it from memory (those who hold it keep it). */
void snapshots_drop(struct snapshots *snapshots, int64_t project_id, int64_t number);

/* Position of this annotator in the model, or AMX_UNSEEN. */
uint32_t snapshot_annotator(const struct model_snapshot *snapshot, const char *name, size_t n);
/* Training labels of that annotator; 0 for AMX_UNSEEN. */
uint64_t snapshot_evidence(const struct model_snapshot *snapshot, uint32_t annotator);

void snapshots_memory(struct snapshots *snapshots, size_t *bytes, size_t *n_models);

#endif
