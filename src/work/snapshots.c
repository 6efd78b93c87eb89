/* snapshots.c - one slot per project that was asked for: which model is active, and the models that are in memory.
 *
 * Slots are sorted by project id and looked up under one mutex that is held for a few comparisons. Loading happens
 * outside it. What makes that safe is `generation`: whoever reads the database notes it before, and only writes down
 * what it read when no change was announced meanwhile; otherwise it reads again. */
#include "work/snapshots.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "crowd/aggregate/aggregate.h"
#include "store/models.h"
#include "store/store.h"
#include "util/error.h"
#include "work/name_index.h"
#include "work/runs/label_model.h"

enum {
    TRIES = 5
};

struct slot {
    int64_t project_id;
    bool known;                     /* `active` is what the database says */
    unsigned changing;              /* commits under way that change it: until they are told, only the database knows */
    int64_t active;                 /* number; 0 = none */
    struct model_snapshot **models; /* references */
    uint64_t *used;                 /* when each was asked for last: value of `ticks` */
    size_t n, capacity;
};

struct snapshots {
    struct store *store;
    size_t limit_bytes;
    pthread_mutex_t mu;
    struct slot *slots; /* guarded by mu; sorted by project_id */
    size_t n_slots, slots_capacity;
    size_t bytes, n_models;     /* guarded by mu */
    uint64_t ticks, generation; /* guarded by mu */
};

/* ---- one snapshot -------------------------------------------------------------------------------------------------
 */

struct model_snapshot *snapshot_ref(struct model_snapshot *snapshot)
{
    (void)__atomic_add_fetch(&snapshot->refs, 1, __ATOMIC_RELAXED);
    return snapshot;
}

void snapshot_unref(struct model_snapshot *snapshot)
{
    if (snapshot == NULL || __atomic_sub_fetch(&snapshot->refs, 1, __ATOMIC_ACQ_REL) != 0)
        return;
    name_index_free((struct name_index *)(uintptr_t)snapshot->annotator_index);
    amx_model_free(snapshot->model);
    label_model_free((struct label_model *)(uintptr_t)snapshot->labels);
    free(snapshot);
}

/* What is known of a result of labels alone; its method's name is static. */
static void label_info(const struct label_model *labels, struct slice method, struct amx_model_info *out)
{
    const struct aggregate_method *found = aggregate_find(method.bytes);

    *out = (struct amx_model_info){.method = found != NULL ? found->name : "",
                                   .ensemble = 1,
                                   .n_classes = labels->n_classes,
                                   .class_names = labels->class_names,
                                   .temperature = 1,
                                   .memory_bytes = labels->memory_bytes};
}

/* Takes the model, or the result of labels alone, in any case; the other is NULL. NULL when memory is out. */
static struct model_snapshot *snapshot_make(int64_t project_id, const struct model_row *row, struct amx_model *model,
                                            struct label_model *labels)
{
    struct model_snapshot *s = calloc(1, sizeof *s);

    if (s == NULL) {
        amx_model_free(model);
        label_model_free(labels);
        return NULL;
    }
    s->refs = 1;
    s->model = model;
    s->labels = labels;
    if (model != NULL)
        amx_model_info(model, &s->info);
    else
        label_info(labels, row->about.method, &s->info);
    s->project_id = project_id;
    s->number = row->number;
    s->label_seq = row->about.label_seq;
    s->computed_at_ms = row->about.now_ms;
    s->population_reliability = row->population_reliability;
    s->memory_bytes = s->info.memory_bytes + sizeof *s + s->info.n_annotators * 16;
    s->annotator_index =
        name_index_new(s->info.annotator_names, s->info.annotator_names != NULL ? s->info.n_annotators : 0);
    if (s->annotator_index == NULL) {
        snapshot_unref(s);
        return NULL;
    }
    return s;
}

uint32_t snapshot_annotator(const struct model_snapshot *snapshot, const char *name, size_t n)
{
    uint32_t index;

    return name_index_find(snapshot->annotator_index, name, n, &index) ? index : AMX_UNSEEN;
}

uint64_t snapshot_evidence(const struct model_snapshot *snapshot, uint32_t annotator)
{
    return annotator < snapshot->info.n_annotators ? snapshot->info.annotator_labels[annotator] : 0;
}

static enum amx_status snapshot_load(struct db *db, int64_t project_id, int64_t number, struct model_snapshot **out,
                                     struct amx_error *err)
{
    struct model_row row;
    unsigned char *bytes = NULL;
    struct amx_model *model = NULL;
    struct label_model *labels = NULL;
    struct model_snapshot *snapshot;
    size_t n = 0;
    enum amx_status status = models_get(db, project_id, number, &row, err);

    if (status != AMX_OK)
        return status;
    status = models_load(db, project_id, number, &bytes, &n, err);
    if (status == AMX_OK && label_model_is(bytes, n)) {
        status = label_model_decode(bytes, n, &labels, err);
        bytes = status == AMX_OK ? NULL : bytes; /* they are its memory now */
    } else if (status == AMX_OK) {
        status = amx_model_decode(bytes, n, &model, err);
    }
    if (status == AMX_OK) {
        snapshot = snapshot_make(project_id, &row, model, labels);
        if (snapshot != NULL)
            *out = snapshot;
        else
            status = error_set(err, AMX_NO_MEMORY, "Out of memory.");
    }
    free(bytes);
    model_row_done(&row);
    return status;
}

/* ---- slots
 * ------------------------------------------------------------------------------------------------------------ */

static size_t place_locked(const struct snapshots *s, int64_t project_id)
{
    size_t low = 0, high = s->n_slots;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (s->slots[middle].project_id < project_id)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct slot *find_locked(const struct snapshots *s, int64_t project_id)
{
    size_t at = place_locked(s, project_id);

    return at < s->n_slots && s->slots[at].project_id == project_id ? &s->slots[at] : NULL;
}

/* NULL when memory is out. */
static struct slot *need_slot_locked(struct snapshots *s, int64_t project_id)
{
    struct slot *found = find_locked(s, project_id);
    size_t at = place_locked(s, project_id);

    if (found != NULL)
        return found;
    if (s->n_slots == s->slots_capacity) {
        size_t capacity = s->slots_capacity > 0 ? 2 * s->slots_capacity : 16;
        void *slots = realloc(s->slots, capacity * sizeof *s->slots);

        if (slots == NULL)
            return NULL;
        s->slots = slots;
        s->slots_capacity = capacity;
    }
    memmove(s->slots + at + 1, s->slots + at, (s->n_slots - at) * sizeof *s->slots);
    s->slots[at] = (struct slot){.project_id = project_id};
    s->n_slots++;
    return &s->slots[at];
}

static void drop_locked(struct snapshots *s, struct slot *slot, size_t i)
{
    s->bytes -= slot->models[i]->memory_bytes;
    s->n_models--;
    snapshot_unref(slot->models[i]);
    slot->n--;
    slot->models[i] = slot->models[slot->n];
    slot->used[i] = slot->used[slot->n];
}

/* A reference, or NULL when it is not in memory. */
static struct model_snapshot *cached_locked(struct snapshots *s, struct slot *slot, int64_t number)
{
    for (size_t i = 0; slot != NULL && i < slot->n; i++) {
        if (slot->models[i]->number == number) {
            slot->used[i] = ++s->ticks;
            return snapshot_ref(slot->models[i]);
        }
    }
    return NULL;
}

/* Least recently used first, never `keep`, until the rest fits. */
static void evict_locked(struct snapshots *s, const struct model_snapshot *keep)
{
    while (s->bytes > s->limit_bytes) {
        struct slot *oldest = NULL;
        size_t at = 0;

        for (size_t j = 0; j < s->n_slots; j++) {
            for (size_t i = 0; i < s->slots[j].n; i++) {
                if (s->slots[j].models[i] != keep && (oldest == NULL || s->slots[j].used[i] < oldest->used[at])) {
                    oldest = &s->slots[j];
                    at = i;
                }
            }
        }
        if (oldest == NULL)
            return;
        drop_locked(s, oldest, at);
    }
}

/* Keeps a reference of its own. Without memory for the list it is simply not kept. */
static void keep_locked(struct snapshots *s, struct model_snapshot *snapshot)
{
    struct slot *slot = need_slot_locked(s, snapshot->project_id);

    if (slot == NULL)
        return;
    if (slot->n == slot->capacity) {
        size_t capacity = slot->capacity > 0 ? 2 * slot->capacity : 2;
        void *models = realloc(slot->models, capacity * sizeof(struct model_snapshot *)), *used;

        if (models == NULL)
            return;
        slot->models = models;
        used = realloc(slot->used, capacity * sizeof *slot->used);
        if (used == NULL)
            return;
        slot->used = used;
        slot->capacity = capacity;
    }
    slot->models[slot->n] = snapshot_ref(snapshot);
    slot->used[slot->n++] = ++s->ticks;
    s->bytes += snapshot->memory_bytes;
    s->n_models++;
    evict_locked(s, snapshot);
}

/* ---- open, close
 * ------------------------------------------------------------------------------------------------------ */

enum amx_status snapshots_open(struct store *store, size_t memory_bytes, struct snapshots **out, struct amx_error *err)
{
    struct snapshots *s = calloc(1, sizeof *s);

    if (s == NULL || pthread_mutex_init(&s->mu, NULL) != 0) {
        free(s);
        return error_set(err, AMX_NO_MEMORY, "Out of memory.");
    }
    s->store = store;
    s->limit_bytes = memory_bytes;
    *out = s;
    return AMX_OK;
}

static void empty_slot_locked(struct snapshots *s, struct slot *slot)
{
    while (slot->n > 0)
        drop_locked(s, slot, slot->n - 1);
    slot->known = false;
}

void snapshots_close(struct snapshots *s)
{
    if (s == NULL)
        return;
    for (size_t j = 0; j < s->n_slots; j++) {
        empty_slot_locked(s, &s->slots[j]);
        free(s->slots[j].models);
        free(s->slots[j].used);
    }
    free(s->slots);
    (void)pthread_mutex_destroy(&s->mu); /* nobody holds it any more */
    free(s);
}

/* ---- asking
 * ------------------------------------------------------------------------------------------------------------- */

/* Hands `loaded` over: *out is it, or the same model that another thread brought in first. */
static void settle_locked(struct snapshots *s, struct model_snapshot *loaded, struct model_snapshot **out)
{
    struct model_snapshot *other = cached_locked(s, find_locked(s, loaded->project_id), loaded->number);

    if (other != NULL) {
        snapshot_unref(loaded);
        *out = other;
        return;
    }
    keep_locked(s, loaded);
    *out = loaded;
}

/* One try. *stale: a change was announced while the database was read. number 0 = the active one. */
static enum amx_status try_get(struct snapshots *s, int64_t project_id, int64_t number, struct model_snapshot **out,
                               bool *stale, struct amx_error *err)
{
    struct model_snapshot *loaded = NULL;
    struct model_row row;
    struct slot *slot;
    struct db *db = NULL;
    bool active = number == 0;
    uint64_t generation;
    enum amx_status status;

    *stale = false;
    (void)pthread_mutex_lock(&s->mu);
    slot = find_locked(s, project_id);
    if (active && slot != NULL && slot->known && slot->changing == 0) {
        number = slot->active;
        if (number == 0) {
            (void)pthread_mutex_unlock(&s->mu);
            return error_set(err, AMX_NOT_FOUND, "The project has no active model.");
        }
    }
    *out = number != 0 ? cached_locked(s, slot, number) : NULL;
    generation = s->generation;
    (void)pthread_mutex_unlock(&s->mu);
    if (*out != NULL)
        return AMX_OK;

    status = store_reader_get(s->store, &db, err);
    if (status == AMX_OK)
        status = db_begin_read(db, err);
    if (status == AMX_OK && active && number == 0) {
        status = models_get_active(db, project_id, &row, err);
        if (status == AMX_OK) {
            number = row.number;
            model_row_done(&row);
            (void)pthread_mutex_lock(&s->mu);
            *out = cached_locked(s, find_locked(s, project_id), number);
            (void)pthread_mutex_unlock(&s->mu);
        }
    }
    if (status == AMX_OK && *out == NULL)
        status = snapshot_load(db, project_id, number, &loaded, err);
    store_reader_put(s->store, db);

    (void)pthread_mutex_lock(&s->mu);
    *stale = s->generation != generation;
    if (!*stale && active && (status == AMX_OK || status == AMX_NOT_FOUND)) {
        slot = need_slot_locked(s, project_id);
        if (slot != NULL && slot->changing == 0) {
            slot->known = true;
            slot->active = status == AMX_OK ? number : 0;
        }
    }
    if (status == AMX_OK && loaded != NULL) {
        if (*stale)
            *out = loaded; /* right when it was read, but not to be kept */
        else
            settle_locked(s, loaded, out);
    }
    (void)pthread_mutex_unlock(&s->mu);
    return status;
}

static enum amx_status get(struct snapshots *s, int64_t project_id, int64_t number, struct model_snapshot **out,
                           struct amx_error *err)
{
    struct model_snapshot *found = NULL;
    enum amx_status status = AMX_OK;

    for (int i = 0; i < TRIES; i++) {
        bool stale;

        snapshot_unref(found);
        found = NULL;
        status = try_get(s, project_id, number, &found, &stale, err);
        if (!stale)
            break;
    }
    if (status == AMX_OK)
        *out = found;
    return status;
}

enum amx_status snapshots_get(struct snapshots *snapshots, int64_t project_id, struct model_snapshot **out,
                              struct amx_error *err)
{
    return get(snapshots, project_id, 0, out, err);
}

enum amx_status snapshots_get_number(struct snapshots *snapshots, int64_t project_id, int64_t number,
                                     struct model_snapshot **out, struct amx_error *err)
{
    if (number <= 0)
        return error_set(err, AMX_NOT_FOUND, "There is no such model.");
    return get(snapshots, project_id, number, out, err);
}

/* ---- changes
 * -------------------------------------------------------------------------------------------------------------- */

void snapshots_changed(struct snapshots *s, int64_t project_id)
{
    struct slot *slot;

    (void)pthread_mutex_lock(&s->mu);
    s->generation++;
    slot = find_locked(s, project_id);
    /* Its models go too: after a deletion the id, and with it their numbers, may come to stand for others. */
    if (slot != NULL)
        empty_slot_locked(s, slot);
    (void)pthread_mutex_unlock(&s->mu);
}

enum amx_status snapshots_changing(struct snapshots *s, int64_t project_id, struct amx_error *err)
{
    struct slot *slot;

    (void)pthread_mutex_lock(&s->mu);
    slot = need_slot_locked(s, project_id);
    if (slot != NULL)
        slot->changing++;
    (void)pthread_mutex_unlock(&s->mu);
    return slot != NULL ? AMX_OK : error_set(err, AMX_NO_MEMORY, "Out of memory.");
}

void snapshots_settled(struct snapshots *s, int64_t project_id)
{
    (void)pthread_mutex_lock(&s->mu);
    find_locked(s, project_id)->changing--; /* slots stay until the end */
    (void)pthread_mutex_unlock(&s->mu);
}

void snapshots_swap(struct snapshots *s, int64_t project_id, int64_t number, struct amx_model *model)
{
    struct model_snapshot *snapshot = NULL, *ignored = NULL;
    struct model_row row;
    struct db *db = NULL;
    enum amx_status status;

    snapshots_changed(s, project_id);
    status = store_reader_get(s->store, &db, NULL);
    if (status == AMX_OK)
        status = models_get(db, project_id, number, &row, NULL);
    store_reader_put(s->store, db);
    if (status != AMX_OK) {
        amx_model_free(model); /* the next request loads it, or learns what is wrong */
        return;
    }
    snapshot = snapshot_make(project_id, &row, model, NULL);
    model_row_done(&row);
    if (snapshot == NULL)
        return;
    (void)pthread_mutex_lock(&s->mu);
    settle_locked(s, snapshot, &ignored);
    (void)pthread_mutex_unlock(&s->mu);
    snapshot_unref(ignored);
}

void snapshots_drop(struct snapshots *s, int64_t project_id, int64_t number)
{
    struct slot *slot;

    (void)pthread_mutex_lock(&s->mu);
    s->generation++;
    slot = find_locked(s, project_id);
    for (size_t i = slot != NULL ? slot->n : 0; i > 0; i--) {
        if (slot->models[i - 1]->number == number)
            drop_locked(s, slot, i - 1);
    }
    (void)pthread_mutex_unlock(&s->mu);
}

void snapshots_memory(struct snapshots *s, size_t *bytes, size_t *n_models)
{
    (void)pthread_mutex_lock(&s->mu);
    *bytes = s->bytes;
    *n_models = s->n_models;
    (void)pthread_mutex_unlock(&s->mu);
}
