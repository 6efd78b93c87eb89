/* instances.c - writing instances and gold.
 *
 * The table lies in order of (project, name): a label names its instance, and the row found has all a label needs
 * (number, gold, labelled), in one look-up. Features and metadata stand in tables of their own and are only written
 * when they differ from what is there, so that a body sent twice costs no disk.
 */
#include "store/instances.h"

#include <string.h>

#include "store/changes_int.h"
#include "util/error.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "feature vectors are stored as little-endian float32"
#endif

static const char NO_INSTANCE[] = "there is no such instance";

const char *split_name(enum split split)
{
    switch (split) {
    case SPLIT_TRAIN:
        return "train";
    case SPLIT_VALID:
        return "valid";
    case SPLIT_TEST:
        return "test";
    case SPLIT_KEEP:
        break;
    }
    return "";
}

bool split_parse(const char *text, size_t n, enum split *out)
{
    for (enum split split = SPLIT_TRAIN; split <= SPLIT_TEST; split++) {
        if (strlen(split_name(split)) == n && memcmp(split_name(split), text, n) == 0) {
            *out = split;
            return true;
        }
    }
    return false;
}

/* ---- what labels need ---- */

static const char SELECT_BRIEF[] = "SELECT id, gold, labelled FROM instances WHERE project_id = ?1 AND name = ?2";
static const char SELECT_BRIEF_ID[] = "SELECT id, gold, labelled FROM instances WHERE project_id = ?1 AND id = ?2";

enum amx_status instances_brief(struct changes *ch, struct slice name, int64_t id, struct instance_brief *out,
                                struct amx_error *err)
{
    DB_STMT(s);
    if (id == 0 && changes_known_instance(ch, name, out))
        return AMX_OK;
    enum amx_status status = db_use(ch->db, id != 0 ? SELECT_BRIEF_ID : SELECT_BRIEF, &s, err);

    if (status != AMX_OK)
        return status;
    db_bind_int(s, 1, ch->project_id);
    if (id != 0)
        db_bind_int(s, 2, id);
    else
        db_bind_text(s, 2, name);
    status = db_one(s, NO_INSTANCE, err);
    if (status != AMX_OK)
        return status;
    *out = (struct instance_brief){db_int(s, 0), db_is_null(s, 1) ? -1 : (int)db_int(s, 1), db_int(s, 2) != 0};
    if (id == 0)
        changes_know_instance(ch, name, out);
    return AMX_OK;
}

static const char UPDATE_LABELLED[] = "UPDATE instances SET labelled = ?3 WHERE project_id = ?1 AND name = ?2";
static const char UPDATE_LABELLED_ID[] = "UPDATE instances SET labelled = ?3 WHERE project_id = ?1 AND id = ?2";

enum amx_status instances_set_labelled(struct changes *ch, struct slice name, int64_t id, bool labelled,
                                       struct amx_error *err)
{
    DB_STMT(s);
    enum amx_status status = db_use(ch->db, name.bytes != NULL ? UPDATE_LABELLED : UPDATE_LABELLED_ID, &s, err);

    if (status != AMX_OK)
        return status;
    db_bind_int(s, 1, ch->project_id);
    if (name.bytes != NULL)
        db_bind_text(s, 2, name);
    else
        db_bind_int(s, 2, id);
    db_bind_int(s, 3, labelled);
    if (!labelled)
        changes_forget_instances(ch->db);
    return db_run(s, err);
}

static const char SELECT_ANY_LABEL[] =
    "SELECT 1 FROM labels INDEXED BY labels_pair WHERE project_id = ?1 AND instance_id = ?2 AND state = 0 LIMIT 1";

enum amx_status instances_renew_labelled(struct changes *ch, int64_t id, struct amx_error *err)
{
    DB_STMT(s);
    enum db_step step = DB_DONE;
    enum amx_status status = db_use(ch->db, SELECT_ANY_LABEL, &s, err);

    if (status != AMX_OK)
        return status;
    db_bind_int(s, 1, ch->project_id);
    db_bind_int(s, 2, id);
    status = db_step(s, &step, err);
    return status == AMX_OK && step == DB_DONE ? instances_set_labelled(ch, (struct slice){NULL, 0}, id, false, err)
                                               : status;
}

/* ---- put ---- */

static const char INSERT_INSTANCE[] = "INSERT INTO instances (project_id, name, id, split, awaiting, labelled, "
                                      "created_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)"
                                      " ON CONFLICT (project_id, name) DO NOTHING";

/* *id 0: one of this name stands there already. */
static enum amx_status insert(struct changes *ch, struct slice name, enum split split, bool awaiting, bool labelled,
                              int64_t *id, struct amx_error *err)
{
    DB_STMT(s);
    enum amx_status status = db_use(ch->db, INSERT_INSTANCE, &s, err);

    if (status != AMX_OK)
        return status;
    db_bind_int(s, 1, ch->project_id);
    db_bind_text(s, 2, name);
    db_bind_int(s, 3, ch->next_instance);
    db_bind_int(s, 4, split);
    db_bind_int(s, 5, awaiting);
    db_bind_int(s, 6, labelled);
    db_bind_int(s, 7, ch->now_ms);
    status = db_run(s, err);
    if (status != AMX_OK)
        return status;
    *id = 0;
    if (db_changed(ch->db) == 0)
        return AMX_OK;
    *id = ch->next_instance++;
    ch->d_instances++;
    ch->d_awaiting += awaiting;
    return AMX_OK;
}

enum amx_status instances_create(struct changes *ch, struct slice name, int64_t *id, struct amx_error *err)
{
    struct instance_brief brief = {0, -1, true};
    enum amx_status status = insert(ch, name, SPLIT_TRAIN, ch->feature_dim > 0, true, &brief.id, err);

    if (status == AMX_OK && brief.id == 0)
        status = error_set(err, AMX_CORRUPT, "an instance is there and was not found");
    if (status != AMX_OK)
        return status;
    changes_know_instance(ch, name, &brief);
    *id = brief.id;
    return AMX_OK;
}

static const char SELECT_VECTOR[] = "SELECT vector FROM features WHERE key = (?1 << 32) | ?2";
static const char UPSERT_VECTOR[] = "INSERT INTO features (key, vector) VALUES ((?1 << 32) | ?2, ?3)"
                                    " ON CONFLICT (key) DO UPDATE SET vector = excluded.vector";
static const char SELECT_METADATA[] = "SELECT json FROM instance_metadata WHERE project_id = ?1 AND instance_id = ?2";
static const char UPSERT_METADATA[] =
    "INSERT INTO instance_metadata (project_id, instance_id, json) VALUES (?1, ?2, ?3)"
    " ON CONFLICT (project_id, instance_id) DO UPDATE SET json = excluded.json";
static const char DELETE_METADATA[] = "DELETE FROM instance_metadata WHERE project_id = ?1 AND instance_id = ?2";

/* Statement with project and instance bound. */
static enum amx_status use_of(struct db *db, const char *sql, int64_t project_id, int64_t id, struct db_stmt **s,
                              struct amx_error *err)
{
    enum amx_status status = db_use(db, sql, s, err);

    if (status == AMX_OK) {
        db_bind_int(*s, 1, project_id);
        db_bind_int(*s, 2, id);
    }
    return status;
}

/* Writes bytes unless they stand there already: a body sent twice writes nothing. select and upsert belong together. */
static enum amx_status put_bytes(struct changes *ch, const char *select, const char *upsert, int64_t id, bool created,
                                 bool is_text, struct slice bytes, bool *changed, struct amx_error *err)
{
    DB_STMT(s);
    DB_STMT(old);
    enum db_step step = DB_DONE;
    enum amx_status status = AMX_OK;

    if (!created) {
        status = use_of(ch->db, select, ch->project_id, id, &old, err);
        if (status == AMX_OK)
            status = db_step(old, &step, err);
        if (status == AMX_OK && step == DB_ROW) {
            struct slice before = is_text ? db_text(old, 0) : db_blob(old, 0);
            if (before.n == bytes.n && memcmp(before.bytes, bytes.bytes, bytes.n) == 0)
                return AMX_OK;
        }
    }
    if (status == AMX_OK)
        status = use_of(ch->db, upsert, ch->project_id, id, &s, err);
    if (status != AMX_OK)
        return status;
    if (is_text)
        db_bind_text(s, 3, bytes);
    else
        db_bind_blob(s, 3, bytes.bytes, bytes.n);
    *changed = true;
    return db_run(s, err);
}

static enum amx_status put_metadata(struct changes *ch, int64_t id, bool created, struct slice json, bool *changed,
                                    struct amx_error *err)
{
    DB_STMT(s);
    enum amx_status status;

    if (json.n != 4 || memcmp(json.bytes, "null", 4) != 0)
        return put_bytes(ch, SELECT_METADATA, UPSERT_METADATA, id, created, true, json, changed, err);
    if (created)
        return AMX_OK;
    status = use_of(ch->db, DELETE_METADATA, ch->project_id, id, &s, err);
    if (status == AMX_OK)
        status = db_run(s, err);
    if (status == AMX_OK && db_changed(ch->db) > 0)
        *changed = true;
    return status;
}

static const char SELECT_FOR_PUT[] =
    "SELECT id, split, awaiting, gold, labelled FROM instances WHERE project_id = ?1 AND name = ?2";
static const char UPDATE_FOR_PUT[] =
    "UPDATE instances SET was_train = was_train OR (split = 0 AND ?3 <> 0), split = ?3, awaiting = ?4"
    " WHERE project_id = ?1 AND name = ?2";
static const char UPDATE_GOLD[] =
    "UPDATE instances SET gold = ?3, gold_seq = ?4, gold_at = ?5 WHERE project_id = ?1 AND id = ?2";

/* class_index -1 removes it. */
static enum amx_status set_gold(struct changes *ch, const struct instance_brief *instance, int class_index,
                                struct amx_error *err)
{
    DB_STMT(s);
    enum amx_status status = use_of(ch->db, UPDATE_GOLD, ch->project_id, instance->id, &s, err);

    if (status != AMX_OK)
        return status;
    changes_forget_instances(ch->db);
    ch->label_seq++;
    if (class_index >= 0) {
        db_bind_int(s, 3, class_index);
        db_bind_int(s, 4, ch->label_seq);
        db_bind_int(s, 5, ch->now_ms);
    } else {
        db_bind_null(s, 3);
        db_bind_null(s, 4);
        db_bind_null(s, 5);
    }
    status = db_run(s, err);
    ch->d_gold += (class_index >= 0) - (instance->gold >= 0);
    if (status == AMX_OK && instance->labelled)
        status = labels_regold(ch, instance->id, instance->gold, class_index, err);
    return status;
}

/* Row as it stands, or as it was just made. */
struct found {
    struct instance_brief brief;
    enum split split;
    bool awaiting, created;
};

/* *there false: there is none of this name. */
static enum amx_status find(struct changes *ch, struct slice name, struct found *out, bool *there,
                            struct amx_error *err)
{
    DB_STMT(s);
    enum db_step step = DB_DONE;
    enum amx_status status = db_use(ch->db, SELECT_FOR_PUT, &s, err);

    if (status != AMX_OK)
        return status;
    db_bind_int(s, 1, ch->project_id);
    db_bind_text(s, 2, name);
    status = db_step(s, &step, err);
    if (status != AMX_OK)
        return status;
    *there = step == DB_ROW;
    if (*there)
        *out = (struct found){{db_int(s, 0), db_is_null(s, 3) ? -1 : (int)db_int(s, 3), db_int(s, 4) != 0},
                              (enum split)db_int(s, 1),
                              db_int(s, 2) != 0,
                              false};
    return AMX_OK;
}

/* New names come in runs, and so do known ones: what the last put was is tried first. An INSERT that must have looked
 * for its place anyway then spares a new instance the SELECT. */
static enum amx_status find_or_insert(struct changes *ch, const struct instance_put *put, struct found *out,
                                      struct amx_error *err)
{
    struct found made = {{0, -1, false},
                         put->split == SPLIT_KEEP ? SPLIT_TRAIN : put->split,
                         ch->feature_dim > 0 && put->features == NULL,
                         true};
    bool there = false;
    enum amx_status status = ch->names_repeat ? find(ch, put->name, out, &there, err) : AMX_OK;

    if (status != AMX_OK || there)
        return status;
    ch->names_repeat = false;
    status = insert(ch, put->name, made.split, made.awaiting, false, &made.brief.id, err);
    if (status != AMX_OK)
        return status;
    if (made.brief.id != 0) {
        *out = made;
        return AMX_OK;
    }
    ch->names_repeat = true;
    status = find(ch, put->name, out, &there, err);
    return status == AMX_OK && !there ? error_set(err, AMX_CORRUPT, "an instance is there and was not found")
                                      : status;
}

enum amx_status instances_put(struct changes *ch, const struct instance_put *put, enum put_outcome *outcome,
                              int64_t *id, struct amx_error *err)
{
    enum amx_status status = instances_settle(ch, err);

    return status == AMX_OK ? instances_put_row(ch, put, outcome, id, err) : status;
}

enum amx_status instances_put_row(struct changes *ch, const struct instance_put *put, enum put_outcome *outcome,
                                  int64_t *id, struct amx_error *err)
{
    struct found found;
    bool changed = false;
    enum amx_status status = find_or_insert(ch, put, &found, err);

    if (status != AMX_OK)
        return status;
    /* Features and metadata, in tables of their own. */
    if (put->features != NULL && ch->feature_dim > 0) {
        struct slice vector = {(const char *)put->features, ch->feature_dim * sizeof(float)};
        status =
            put_bytes(ch, SELECT_VECTOR, UPSERT_VECTOR, found.brief.id, found.created, false, vector, &changed, err);
    }
    if (status == AMX_OK && put->metadata.bytes != NULL)
        status = put_metadata(ch, found.brief.id, found.created, put->metadata, &changed, err);

    /* The row itself. */
    enum split split = put->split == SPLIT_KEEP ? found.split : put->split;
    bool awaiting = found.awaiting && put->features == NULL;
    if (status == AMX_OK && (split != found.split || awaiting != found.awaiting)) {
        DB_STMT(s);
        status = db_use(ch->db, UPDATE_FOR_PUT, &s, err);
        if (status == AMX_OK) {
            db_bind_int(s, 1, ch->project_id);
            db_bind_text(s, 2, put->name);
            db_bind_int(s, 3, split);
            db_bind_int(s, 4, awaiting);
            status = db_run(s, err);
        }
        ch->d_awaiting += (int)awaiting - (int)found.awaiting;
        changed = true;
    }
    if (status == AMX_OK && put->gold_class >= 0 && put->gold_class != found.brief.gold) {
        status = set_gold(ch, &found.brief, put->gold_class, err);
        changed = true;
    }
    if (status == AMX_OK) {
        *outcome = found.created ? PUT_CREATED : changed ? PUT_UPDATED : PUT_UNCHANGED;
        *id = found.brief.id;
    }
    return status;
}

/* ---- gold ---- */

enum amx_status gold_put(struct changes *ch, struct slice instance, int class_index, enum put_outcome *outcome,
                         struct amx_error *err)
{
    struct instance_brief brief;
    enum amx_status status = instances_brief(ch, instance, 0, &brief, err);

    if (status != AMX_OK)
        return status;
    if (brief.gold == class_index) {
        *outcome = PUT_UNCHANGED;
        return AMX_OK;
    }
    status = set_gold(ch, &brief, class_index, err);
    if (status == AMX_OK)
        *outcome = brief.gold >= 0 ? PUT_UPDATED : PUT_CREATED;
    return status;
}

enum amx_status gold_delete(struct changes *ch, struct slice instance, struct amx_error *err)
{
    struct instance_brief brief;
    enum amx_status status = instances_brief(ch, instance, 0, &brief, err);

    if (status != AMX_OK)
        return status;
    if (brief.gold < 0)
        return error_set(err, AMX_NOT_FOUND, "the instance has no gold label");
    return set_gold(ch, &brief, -1, err);
}

/* ---- delete ---- */

static const char INSERT_DEPARTED[] = "INSERT INTO departed_instances (project_id, id, name) VALUES (?1, ?2, ?3)";
static const char DELETE_INSTANCE[] = "DELETE FROM instances WHERE project_id = ?1 AND id = ?2";
static const char DELETE_VECTOR[] = "DELETE FROM features WHERE key = (?1 << 32) | ?2";

static enum amx_status run_of(struct changes *ch, const char *sql, int64_t id, struct amx_error *err)
{
    DB_STMT(s);
    enum amx_status status = use_of(ch->db, sql, ch->project_id, id, &s, err);

    return status == AMX_OK ? db_run(s, err) : status;
}

enum amx_status instances_delete(struct changes *ch, struct slice name, struct amx_error *err)
{
    DB_STMT(find);
    DB_STMT(depart);
    enum amx_status status = db_use(ch->db, SELECT_FOR_PUT, &find, err);

    if (status != AMX_OK)
        return status;
    db_bind_int(find, 1, ch->project_id);
    db_bind_text(find, 2, name);
    status = db_one(find, NO_INSTANCE, err);
    if (status != AMX_OK)
        return status;
    int64_t id = db_int(find, 0);
    bool awaiting = db_int(find, 2) != 0;
    int gold = db_is_null(find, 3) ? -1 : (int)db_int(find, 3);
    db_reset(find);
    changes_forget_instances(ch->db);

    status = labels_erase_instance(ch, id, gold, err);
    if (status == AMX_OK)
        status = run_of(ch, DELETE_VECTOR, id, err);
    if (status == AMX_OK)
        status = run_of(ch, DELETE_METADATA, id, err);
    if (status == AMX_OK)
        status = run_of(ch, DELETE_INSTANCE, id, err);
    if (status == AMX_OK)
        status = use_of(ch->db, INSERT_DEPARTED, ch->project_id, id, &depart, err);
    if (status != AMX_OK)
        return status;
    db_bind_text(depart, 3, name);
    ch->d_instances--;
    ch->d_awaiting -= awaiting;
    if (gold >= 0) {
        ch->d_gold--;
        ch->label_seq++; /* a gold label went: what was computed before is older than this */
    }
    return db_run(depart, err);
}
