/* changes.c - counters of one write job, and the names the writer's connection remembers between jobs.
 *
 * The attachment of the connection holds the rows that the running job has still to write (label_rows.c,
 * instance_rows.c), and:
 * - `touched`, the annotators of the running job with their deltas: an array plus a hash of positions, emptied at each
 * begin. So a bulk job of 1,000 labels of 20 annotators ends in 20 updates of annotators and one of the project.
 * - `names`, a hash (project, annotator name) -> number, which saves one look-up per label; `instances`, the same for
 * the last few thousand instances. Both only remember what stands in the tables: they are dropped whole when something
 * written was undone (db_undone), and when what they hold changes in another way than by labels.
 */
#include "store/changes.h"

#include <stdlib.h>
#include <string.h>

#include "store/changes_int.h"
#include "store/labels.h"
#include "util/error.h"
#include "util/size.h"

enum {
    TOUCHED_START = 16,
    NAMES_SLOTS = 65536,
    NAMES_MOST = 40000,
    NAMES_BYTES = 4 * 1024 * 1024,
    INSTANCES_SLOTS = 4096,
    INSTANCES_NAME = 88 /* longer names are not remembered */
};

struct known_name {
    int64_t project_id, id; /* id 0 = free slot */
    const char *name;       /* in `text` */
    size_t n;
};

struct known_instance {
    int64_t project_id; /* 0 = free slot */
    struct instance_brief brief;
    size_t n;
    char name[INSTANCES_NAME];
};

struct memory {
    struct touched *touched; /* [n_touched] of capacity */
    size_t n_touched, capacity;
    uint32_t *slots; /* [2 * capacity] position + 1 in touched, 0 = free */

    struct known_name *names; /* [NAMES_SLOTS] or NULL as long as there is none */
    char *text;               /* [NAMES_BYTES] */
    size_t n_names, n_text;
    struct known_instance *instances; /* [INSTANCES_SLOTS] by hash, the newer takes the place; NULL = none yet */
    bool any_instance;
    uint64_t undone; /* db_undone() all of this is good for */
    struct label_rows rows;         /* of the running job, and: */
    struct instance_rows instances_waiting;
};

static void free_memory(void *data)
{
    struct memory *m = data;

    free(m->touched);
    free(m->slots);
    free(m->names);
    free(m->text);
    free(m->instances);
    free(m->rows.entries);
    free(m);
}

static struct memory *memory_of(struct db *db)
{
    struct db_attachment *attachment = db_attachment(db);

    if (attachment->data == NULL) {
        attachment->data = calloc(1, sizeof(struct memory));
        attachment->free = attachment->data != NULL ? free_memory : NULL;
    }
    return attachment->data;
}

struct label_rows *changes_label_rows(struct changes *ch)
{
    struct memory *m = memory_of(ch->db);

    return m != NULL ? &m->rows : NULL;
}

struct instance_rows *changes_instance_rows(struct changes *ch)
{
    struct memory *m = memory_of(ch->db);

    return m != NULL ? &m->instances_waiting : NULL;
}

/* ---- begin and flush ---- */

static const char SELECT_PROJECT[] =
    "SELECT label_seq, next_instance, next_annotator, feature_dim, n_classes, n_annotators, active_model"
    " FROM projects WHERE id = ?1 AND gone = 0";

enum amx_status changes_begin(struct db *db, int64_t project_id, int64_t now_ms, struct changes *out,
                              struct amx_error *err)
{
    DB_STMT(s);
    struct memory *m = memory_of(db);
    enum amx_status status =
        m != NULL ? db_use(db, SELECT_PROJECT, &s, err) : error_set(err, AMX_NO_MEMORY, "no memory for a change");

    if (status != AMX_OK)
        return status;
    db_bind_int(s, 1, project_id);
    status = db_one(s, "there is no such project", err);
    if (status != AMX_OK)
        return status;
    *out = (struct changes){.db = db, .project_id = project_id, .now_ms = now_ms};
    out->label_seq = db_int(s, 0);
    out->next_instance = db_int(s, 1);
    out->next_annotator = db_int(s, 2);
    out->feature_dim = (size_t)db_int(s, 3);
    out->n_classes = (size_t)db_int(s, 4);
    out->n_annotators = db_int(s, 5);
    out->active_model = db_int(s, 6);
    out->began_seq = out->label_seq;
    m->n_touched = 0;
    m->rows.n = m->rows.singly = m->rows.n_entries = 0; /* of a job that failed */
    m->instances_waiting.n = m->instances_waiting.n_features = m->instances_waiting.singly = 0;
    if (m->slots != NULL)
        memset(m->slots, 0, 2 * m->capacity * sizeof(*m->slots));
    return AMX_OK;
}

static const char UPDATE_PROJECT[] =
    "UPDATE projects SET label_seq = ?2, next_instance = ?3, next_annotator = ?4, n_instances = n_instances + ?5,"
    " n_annotators = n_annotators + ?6, n_labels = n_labels + ?7, n_skipped = n_skipped + ?8, n_gold = n_gold + ?9,"
    " n_awaiting = n_awaiting + ?10 WHERE id = ?1";
static const char UPDATE_ANNOTATOR[] =
    "UPDATE annotators SET n_labels = n_labels + ?3, n_skipped = n_skipped + ?4, gold_right = gold_right + ?5,"
    " gold_of = gold_of + ?6,"
    " first_label_at = CASE WHEN first_label_at IS NULL OR first_label_at > ?7 THEN ?7 ELSE first_label_at END,"
    " last_label_at = CASE WHEN last_label_at IS NULL OR last_label_at < ?8 THEN ?8 ELSE last_label_at END"
    " WHERE project_id = ?1 AND id = ?2 AND gone = 0";

static enum amx_status flush_annotators(struct changes *ch, const struct memory *m, struct amx_error *err)
{
    DB_STMT(s);
    enum amx_status status = db_use(ch->db, UPDATE_ANNOTATOR, &s, err);

    for (size_t i = 0; status == AMX_OK && i < m->n_touched; i++) {
        const struct touched *t = &m->touched[i];
        db_bind_int(s, 1, ch->project_id);
        db_bind_int(s, 2, t->annotator_id);
        db_bind_int(s, 3, t->d_labels);
        db_bind_int(s, 4, t->d_skipped);
        db_bind_int(s, 5, t->d_right);
        db_bind_int(s, 6, t->d_of);
        if (t->first_ms != 0) {
            db_bind_int(s, 7, t->first_ms);
            db_bind_int(s, 8, t->last_ms);
        } else {
            db_bind_null(s, 7);
            db_bind_null(s, 8);
        }
        status = db_run(s, err);
    }
    return status;
}

enum amx_status changes_flush(struct changes *ch, struct amx_error *err)
{
    DB_STMT(s);
    struct memory *m = memory_of(ch->db);
    enum amx_status status = instances_settle(ch, err);

    if (status == AMX_OK)
        status = labels_settle(ch, err);
    if (status == AMX_OK)
        status = label_rows_end(ch, err);
    if (status == AMX_OK && m != NULL && m->n_touched > 0)
        status = flush_annotators(ch, m, err);
    if (status == AMX_OK)
        status = db_use(ch->db, UPDATE_PROJECT, &s, err);
    if (status != AMX_OK)
        return status;
    db_bind_int(s, 1, ch->project_id);
    db_bind_int(s, 2, ch->label_seq);
    db_bind_int(s, 3, ch->next_instance);
    db_bind_int(s, 4, ch->next_annotator);
    db_bind_int(s, 5, ch->d_instances);
    db_bind_int(s, 6, ch->d_annotators);
    db_bind_int(s, 7, ch->d_labels);
    db_bind_int(s, 8, ch->d_skipped);
    db_bind_int(s, 9, ch->d_gold);
    db_bind_int(s, 10, ch->d_awaiting);
    return db_run(s, err);
}

/* ---- touched annotators ---- */

static uint64_t mix(uint64_t x)
{
    x ^= x >> 32;
    x *= UINT64_C(0x9E3779B97F4A7C15);
    return x ^ (x >> 29);
}

static uint32_t *touched_slot(const struct memory *m, int64_t annotator_id)
{
    size_t mask = 2 * m->capacity - 1;
    size_t i = (size_t)mix((uint64_t)annotator_id) & mask;

    while (m->slots[i] != 0 && m->touched[m->slots[i] - 1].annotator_id != annotator_id)
        i = (i + 1) & mask;
    return &m->slots[i];
}

static bool grow_touched(struct memory *m)
{
    size_t capacity = m->capacity == 0 ? TOUCHED_START : 2 * m->capacity, bytes, slot_bytes;

    if (!size_mul(&bytes, capacity, sizeof(*m->touched)) || !size_mul(&slot_bytes, 2 * capacity, sizeof(*m->slots)))
        return false;
    uint32_t *slots = malloc(slot_bytes);
    struct touched *touched = slots != NULL ? realloc(m->touched, bytes) : NULL;
    if (touched == NULL) {
        free(slots);
        return false;
    }
    memset(slots, 0, slot_bytes);
    free(m->slots);
    m->touched = touched;
    m->slots = slots;
    m->capacity = capacity;
    for (size_t i = 0; i < m->n_touched; i++)
        *touched_slot(m, touched[i].annotator_id) = (uint32_t)(i + 1);
    return true;
}

struct touched *changes_touch(struct changes *ch, int64_t annotator_id)
{
    struct memory *m = memory_of(ch->db);

    if (m == NULL || (m->n_touched == m->capacity && !grow_touched(m)))
        return NULL;
    uint32_t *slot = touched_slot(m, annotator_id);
    if (*slot == 0) {
        m->touched[m->n_touched] = (struct touched){.annotator_id = annotator_id};
        *slot = (uint32_t)++m->n_touched;
    }
    return &m->touched[*slot - 1];
}

enum amx_status changes_count_label(struct changes *ch, int64_t annotator_id, int class_index, int gold, int sign,
                                    struct amx_error *err)
{
    struct touched *t = changes_touch(ch, annotator_id);

    if (t == NULL)
        return error_set(err, AMX_NO_MEMORY, "no memory for a change");
    t->d_labels += sign;
    ch->d_labels += sign;
    if (class_index == LABEL_SKIPPED) {
        t->d_skipped += sign;
        ch->d_skipped += sign;
    } else if (gold >= 0) {
        t->d_of += sign;
        t->d_right += class_index == gold ? sign : 0;
    }
    return AMX_OK;
}

/* ---- known names ---- */

static void forget(struct memory *m)
{
    if (m->names != NULL && m->n_names > 0)
        memset(m->names, 0, NAMES_SLOTS * sizeof(*m->names));
    m->n_names = 0;
    m->n_text = 0;
}

static void forget_instances(struct memory *m)
{
    for (size_t i = 0; m->any_instance && i < INSTANCES_SLOTS; i++)
        m->instances[i].project_id = 0;
    m->any_instance = false;
}

void changes_forget(struct db *db)
{
    struct memory *m = db_attachment(db)->data;

    if (m != NULL)
        forget(m);
}

void changes_forget_instances(struct db *db)
{
    struct memory *m = db_attachment(db)->data;

    if (m != NULL)
        forget_instances(m);
}

/* The memory, with nothing in it that was undone since. */
static struct memory *fresh_memory(struct db *db)
{
    struct memory *m = memory_of(db);

    if (m != NULL && m->undone != db_undone(db)) {
        forget(m);
        forget_instances(m);
        m->undone = db_undone(db);
    }
    return m;
}

static uint64_t hash_name(int64_t project_id, struct slice name)
{
    uint64_t h = (uint64_t)project_id;

    for (size_t i = 0; i < name.n; i++)
        h = (h ^ (unsigned char)name.bytes[i]) * UINT64_C(0x100000001B3); /* FNV-1a */
    return mix(h);
}

static struct known_name *name_slot(const struct memory *m, int64_t project_id, struct slice name)
{
    for (size_t i = (size_t)hash_name(project_id, name) & (NAMES_SLOTS - 1);; i = (i + 1) & (NAMES_SLOTS - 1)) {
        struct known_name *known = &m->names[i];
        if (known->id == 0 ||
            (known->project_id == project_id && known->n == name.n && memcmp(known->name, name.bytes, name.n) == 0))
            return known;
    }
}

int64_t changes_known_annotator(struct changes *ch, struct slice name)
{
    struct memory *m = fresh_memory(ch->db);

    return m != NULL && m->names != NULL ? name_slot(m, ch->project_id, name)->id : 0;
}

void changes_know_annotator(struct changes *ch, struct slice name, int64_t id)
{
    struct memory *m = fresh_memory(ch->db);

    if (m == NULL)
        return;
    if (m->names == NULL) {
        m->names = calloc(NAMES_SLOTS, sizeof(*m->names));
        m->text = malloc(NAMES_BYTES);
        if (m->names == NULL || m->text == NULL) {
            free(m->names);
            free(m->text);
            m->names = NULL;
            m->text = NULL;
            return;
        }
    }
    if (m->n_names >= NAMES_MOST || m->n_text + name.n > NAMES_BYTES)
        forget(m);
    struct known_name *known = name_slot(m, ch->project_id, name);
    if (known->id != 0)
        return;
    memcpy(m->text + m->n_text, name.bytes, name.n);
    *known = (struct known_name){ch->project_id, id, m->text + m->n_text, name.n};
    m->n_text += name.n;
    m->n_names++;
}

static struct known_instance *instance_slot(const struct memory *m, int64_t project_id, struct slice name)
{
    return &m->instances[(size_t)hash_name(project_id, name) & (INSTANCES_SLOTS - 1)];
}

bool changes_known_instance(struct changes *ch, struct slice name, struct instance_brief *out)
{
    const struct memory *m = fresh_memory(ch->db);

    if (m == NULL || !m->any_instance)
        return false;
    const struct known_instance *known = instance_slot(m, ch->project_id, name);
    if (known->project_id != ch->project_id || known->n != name.n || memcmp(known->name, name.bytes, name.n) != 0)
        return false;
    *out = known->brief;
    return true;
}

void changes_know_instance(struct changes *ch, struct slice name, const struct instance_brief *brief)
{
    struct memory *m = fresh_memory(ch->db);

    if (m == NULL || name.n > INSTANCES_NAME)
        return;
    if (m->instances == NULL)
        m->instances = calloc(INSTANCES_SLOTS, sizeof(*m->instances));
    if (m->instances == NULL)
        return;
    struct known_instance *known = instance_slot(m, ch->project_id, name);
    known->project_id = ch->project_id;
    known->brief = *brief;
    known->n = name.n;
    memcpy(known->name, name.bytes, name.n);
    m->any_instance = true;
}

/* ---- rows ---- */

enum amx_status rows_own(struct slice *const *texts, size_t n, void **memory, struct amx_error *err)
{
    size_t total = 0;

    *memory = NULL;
    for (size_t i = 0; i < n; i++) {
        if (texts[i]->bytes != NULL && (!size_add(&total, total, texts[i]->n) || !size_add(&total, total, 1)))
            return error_set(err, AMX_NO_MEMORY, "a row does not fit in memory");
    }
    if (total == 0)
        return AMX_OK;
    char *p = malloc(total);
    if (p == NULL)
        return error_set(err, AMX_NO_MEMORY, "no memory for a row");
    *memory = p;
    for (size_t i = 0; i < n; i++) {
        if (texts[i]->bytes == NULL)
            continue;
        memcpy(p, texts[i]->bytes, texts[i]->n);
        p[texts[i]->n] = '\0';
        texts[i]->bytes = p;
        p += texts[i]->n + 1;
    }
    return AMX_OK;
}
