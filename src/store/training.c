/* training.c - a project's labels as the arrays a fit wants.
 *
 * Labels lie in order of arrival, the fit wants them by (instance name, annotator name). Joining in the database would
 * look every label up by key, ten million times; instead the labels are read in the order they lie in, as triples of
 * numbers, and put in order here by counting: linear in labels and instances, whatever the order of arrival was.
 * Instances lie in order of their names already, and features are read straight into the matrix.
 *
 * Memory at the peak: the result, 12 bytes per label of the project, 4 bytes per instance number and annotator number
 * ever used. The read transaction is held for the reading only; nothing waits for anybody in it.
 */
#include "store/training.h"

#include <stdlib.h>
#include <string.h>

#include "util/error.h"
#include "util/size.h"

#define NONE UINT32_MAX

/* A label as it is read: numbers of the database, then ranks. */
struct triple {
    uint32_t instance, annotator, class_index;
};

struct build {
    struct db *db;
    int64_t project_id;
    struct training_set *set;
    size_t max_bytes;

    size_t n_instance_ids, n_annotator_ids; /* numbers ever used, plus one */
    size_t n_project_instances, n_project_annotators;
    uint32_t *annotator_rank; /* [n_annotator_ids] place among all living annotators by name, NONE = not living */
    uint32_t *instance_rank; /* [n_instance_ids] place among what is trained on; held ones count from 0 too; NONE = left
                                out */
    uint32_t *label_count;   /* [n_instance_ids] labels with a class */
    unsigned char *is_held;  /* [n_instance_ids] its rank is one of the held instances */
    struct triple *triples;  /* [n_triples] */
    size_t n_triples, triples_room;
    struct buf names;       /* all names, each followed by 0; offsets become pointers at the end */
    size_t *instance_name;  /* [n_instances] offsets into names */
    size_t *annotator_name; /* [n_project_annotators] */
    int64_t *annotator_id;  /* [n_project_annotators] */
    size_t *class_name;     /* [n_classes] */
};

/* Zeroed array; *out is NULL only on failure (a length of 0 gives one element). */
static enum amx_status new_array(void *out, size_t n, size_t size, struct amx_error *err)
{
    void *array = calloc(n > 0 ? n : 1, size); /* calloc checks the product */

    if (array == NULL)
        return error_set(err, AMX_NO_MEMORY, "no memory for the training data");
    memcpy(out, &array, sizeof(array));
    return AMX_OK;
}

static enum amx_status add_name(struct build *b, struct slice name, size_t *offset, struct amx_error *err)
{
    *offset = b->names.n;
    (void)buf_append(&b->names, name.bytes, name.n); /* sticky */
    if (buf_char(&b->names, '\0') != AMX_OK)
        return error_set(err, b->names.status, "no memory for the names of the training data");
    return AMX_OK;
}

static enum amx_status use_project(struct build *b, const char *sql, struct db_stmt **s, struct amx_error *err)
{
    enum amx_status status = db_use(b->db, sql, s, err);

    if (status == AMX_OK)
        db_bind_int(*s, 1, b->project_id);
    return status;
}

/* ---- project, classes, annotators ---- */

static const char SELECT_PROJECT[] =
    "SELECT feature_dim, n_classes, n_instances, n_annotators, next_instance, next_annotator, label_seq, n_labels"
    " FROM projects WHERE id = ?1 AND gone = 0";

static enum amx_status read_project(struct build *b, struct amx_error *err)
{
    DB_STMT(s);
    enum amx_status status = use_project(b, SELECT_PROJECT, &s, err);

    if (status == AMX_OK)
        status = db_one(s, "there is no such project", err);
    if (status != AMX_OK)
        return status;
    b->set->n_features = (size_t)db_int(s, 0);
    b->set->n_classes = (size_t)db_int(s, 1);
    b->n_project_instances = (size_t)db_int(s, 2);
    b->n_project_annotators = (size_t)db_int(s, 3);
    b->n_instance_ids = (size_t)db_int(s, 4);
    b->n_annotator_ids = (size_t)db_int(s, 5);
    b->set->label_seq = db_int(s, 6);
    b->triples_room = (size_t)db_int(s, 7);
    if (b->n_instance_ids >= NONE || b->triples_room >= NONE)
        return error_set(err, AMX_TOO_LARGE,
                         "a project with more than 4,294,967,294 instances or labels cannot be trained");
    return AMX_OK;
}

static const char SELECT_CLASSES[] = "SELECT name FROM classes WHERE project_id = ?1 ORDER BY position";

static enum amx_status read_classes(struct build *b, struct amx_error *err)
{
    DB_STMT(s);
    enum db_step step = DB_ROW;
    size_t n = 0;
    enum amx_status status = new_array(&b->class_name, b->set->n_classes, sizeof(size_t), err);

    if (status == AMX_OK)
        status = use_project(b, SELECT_CLASSES, &s, err);
    while (status == AMX_OK && (status = db_step(s, &step, err)) == AMX_OK && step == DB_ROW) {
        if (n == b->set->n_classes)
            return error_set(err, AMX_CORRUPT, "the classes of a project are more than its row says");
        status = add_name(b, db_text(s, 0), &b->class_name[n++], err);
    }
    if (status == AMX_OK && n != b->set->n_classes)
        return error_set(err, AMX_CORRUPT, "the classes of a project are fewer than its row says");
    return status;
}

static const char SELECT_ANNOTATORS[] =
    "SELECT id, name FROM annotators WHERE project_id = ?1 AND gone = 0 ORDER BY name";

static enum amx_status read_annotators(struct build *b, struct amx_error *err)
{
    DB_STMT(s);
    enum db_step step = DB_ROW;
    size_t n = 0;
    enum amx_status status = new_array(&b->annotator_rank, b->n_annotator_ids, sizeof(uint32_t), err);

    if (status == AMX_OK)
        status = new_array(&b->annotator_name, b->n_project_annotators, sizeof(size_t), err);
    if (status == AMX_OK)
        status = new_array(&b->annotator_id, b->n_project_annotators, sizeof(int64_t), err);
    if (status == AMX_OK)
        status = use_project(b, SELECT_ANNOTATORS, &s, err);
    if (status != AMX_OK)
        return status;
    memset(b->annotator_rank, 0xff, b->n_annotator_ids * sizeof(uint32_t));
    while ((status = db_step(s, &step, err)) == AMX_OK && step == DB_ROW) {
        size_t id = (size_t)db_int(s, 0);
        if (n == b->n_project_annotators || id >= b->n_annotator_ids)
            return error_set(err, AMX_CORRUPT, "the annotators of a project are more than its row says");
        b->annotator_rank[id] = (uint32_t)n;
        b->annotator_id[n] = (int64_t)id;
        status = add_name(b, db_text(s, 1), &b->annotator_name[n++], err);
        if (status != AMX_OK)
            return status;
    }
    return status;
}

/* ---- labels as they lie ---- */

static const char SELECT_LABELS[] =
    "SELECT instance_id, annotator_id, class FROM labels WHERE project_id = ?1 AND state = 0 AND class IS NOT NULL"
    " ORDER BY seq";

static enum amx_status read_labels(struct build *b, struct amx_error *err)
{
    DB_STMT(s);
    enum db_step step = DB_ROW;
    enum amx_status status = new_array(&b->triples, b->triples_room, sizeof(struct triple), err);

    if (status == AMX_OK)
        status = new_array(&b->label_count, b->n_instance_ids, sizeof(uint32_t), err);
    if (status == AMX_OK)
        status = use_project(b, SELECT_LABELS, &s, err);
    while (status == AMX_OK && (status = db_step(s, &step, err)) == AMX_OK && step == DB_ROW) {
        size_t instance = (size_t)db_int(s, 0), annotator = (size_t)db_int(s, 1), class_index = (size_t)db_int(s, 2);
        if (instance >= b->n_instance_ids || annotator >= b->n_annotator_ids || class_index >= b->set->n_classes)
            return error_set(err, AMX_CORRUPT, "a label refers to an instance, annotator or class that cannot be");
        if (b->annotator_rank[annotator] == NONE)
            continue; /* of a deleted annotator */
        if (b->n_triples == b->triples_room)
            return error_set(err, AMX_CORRUPT, "the labels of a project are more than its row says");
        b->triples[b->n_triples++] =
            (struct triple){(uint32_t)instance, b->annotator_rank[annotator], (uint32_t)class_index};
        b->label_count[instance]++;
    }
    b->set->n_labels_total = b->n_triples;
    return status;
}

/* ---- instances in order of their names ---- */

static const char SELECT_INSTANCES[] =
    "SELECT id, name, split, awaiting, gold FROM instances WHERE project_id = ?1 ORDER BY name";
static const char SELECT_VECTOR[] = "SELECT vector FROM features WHERE key = (?1 << 32) | ?2";

/* What becomes of an instance: 0 nothing, 1 trained on, 2 held. A labelled train instance without features is counted.
 */
static int role_of(struct build *b, struct db_stmt *s, bool count_awaiting)
{
    size_t id = (size_t)db_int(s, 0);
    bool awaiting = db_int(s, 3) != 0;

    if (db_int(s, 2) == SPLIT_TRAIN) {
        if (b->label_count[id] > 0 && awaiting && count_awaiting)
            b->set->n_awaiting++;
        return b->label_count[id] > 0 && !awaiting ? 1 : 0;
    }
    return (!db_is_null(s, 4) || b->label_count[id] > 0) && !awaiting ? 2 : 0;
}

/* First pass: how many, so that each array is allocated once. n_test: held ones of split valid come before those of
 * test. */
static enum amx_status count_instances(struct build *b, size_t *n_valid, struct amx_error *err)
{
    DB_STMT(s);
    enum db_step step = DB_ROW;
    enum amx_status status = use_project(b, SELECT_INSTANCES, &s, err);

    *n_valid = 0;
    while (status == AMX_OK && (status = db_step(s, &step, err)) == AMX_OK && step == DB_ROW) {
        size_t id = (size_t)db_int(s, 0);
        if (id >= b->n_instance_ids)
            return error_set(err, AMX_CORRUPT, "an instance has a number that cannot be");
        int role = role_of(b, s, true);
        if (role == 1) {
            b->set->n_instances++;
            b->set->n_labels += b->label_count[id];
        } else if (role == 2) {
            b->set->n_held++;
            b->set->n_held_labels += b->label_count[id];
            *n_valid += db_int(s, 2) == SPLIT_VALID;
        }
    }
    return status;
}

/* Bytes of the big arrays; false when they do not fit in size_t. */
static bool memory_needed(const struct build *b, size_t *bytes)
{
    const struct training_set *t = b->set;
    size_t features, rows = t->n_instances + t->n_held, labels = t->n_labels + t->n_held_labels, part;

    return size_mul(&features, rows, t->n_features) && size_mul(&features, features, sizeof(float)) &&
           size_mul(&part, labels + b->n_triples, 3 * sizeof(uint32_t)) && size_add(bytes, features, part) &&
           size_mul(&part, rows + b->n_instance_ids, 4 * sizeof(uint64_t)) && size_add(bytes, *bytes, part);
}

static enum amx_status allocate(struct build *b, struct amx_error *err)
{
    struct training_set *t = b->set;
    size_t bytes, n;

    if (!memory_needed(b, &bytes) || !size_mul(&n, t->n_instances, t->n_features))
        return error_set(err, AMX_TOO_LARGE, "the training data do not fit in memory");
    if (b->max_bytes != 0 && bytes > b->max_bytes)
        return error_set(err, AMX_TOO_LARGE, "the training data need %zu MiB; the limit is %zu MiB", bytes >> 20,
                         b->max_bytes >> 20);
    enum amx_status status = new_array(&t->features, n, sizeof(float), err);
    if (status == AMX_OK)
        status = new_array(&t->held_features, t->n_held * t->n_features, sizeof(float), err);
    if (status == AMX_OK)
        status = new_array(&t->instance_ids, t->n_instances, sizeof(int64_t), err);
    if (status == AMX_OK)
        status = new_array(&t->instance_gold, t->n_instances, sizeof(int32_t), err);
    if (status == AMX_OK)
        status = new_array(&t->held_split, t->n_held, sizeof(int8_t), err);
    if (status == AMX_OK)
        status = new_array(&t->held_gold, t->n_held, sizeof(int32_t), err);
    if (status == AMX_OK)
        status = new_array(&b->instance_name, t->n_instances, sizeof(size_t), err);
    if (status == AMX_OK)
        status = new_array(&b->instance_rank, b->n_instance_ids, sizeof(uint32_t), err);
    if (status == AMX_OK)
        status = new_array(&b->is_held, b->n_instance_ids, 1, err);
    if (status == AMX_OK)
        memset(b->instance_rank, 0xff, b->n_instance_ids * sizeof(uint32_t));
    return status;
}

static enum amx_status read_vector(struct build *b, struct db_stmt *s, int64_t id, float *out, struct amx_error *err)
{
    size_t bytes = b->set->n_features * sizeof(float);
    enum amx_status status;

    if (bytes == 0)
        return AMX_OK;
    db_reset(s);
    db_bind_int(s, 1, b->project_id);
    db_bind_int(s, 2, id);
    status = db_one(s, NULL, err);
    if (status != AMX_OK && status != AMX_NOT_FOUND)
        return status;
    struct slice vector = status == AMX_OK ? db_blob(s, 0) : (struct slice){NULL, 0};
    if (vector.n != bytes)
        return error_set(err, AMX_CORRUPT, "the features of an instance are not what its row says");
    memcpy(out, vector.bytes, bytes);
    return AMX_OK;
}

/* Second pass: ranks, names, gold, features. */
static enum amx_status read_instances(struct build *b, size_t n_valid, struct amx_error *err)
{
    struct training_set *t = b->set;
    DB_STMT(s);
    DB_STMT(vector);
    enum db_step step = DB_ROW;
    size_t n = 0, valid = 0, test = n_valid;
    enum amx_status status = use_project(b, SELECT_INSTANCES, &s, err);

    if (status == AMX_OK)
        status = db_use(b->db, SELECT_VECTOR, &vector, err);
    while (status == AMX_OK && (status = db_step(s, &step, err)) == AMX_OK && step == DB_ROW) {
        int64_t id = db_int(s, 0);
        int role = role_of(b, s, false);
        if (role == 1) {
            b->instance_rank[id] = (uint32_t)n;
            t->instance_ids[n] = id;
            t->instance_gold[n] = db_is_null(s, 4) ? -1 : (int32_t)db_int(s, 4);
            status = add_name(b, db_text(s, 1), &b->instance_name[n], err);
            if (status == AMX_OK)
                status = read_vector(b, vector, id, t->features + n * t->n_features, err);
            n++;
        } else if (role == 2) {
            size_t place = db_int(s, 2) == SPLIT_VALID ? valid++ : test++;
            b->instance_rank[id] = (uint32_t)place;
            b->is_held[id] = 1;
            t->held_split[place] = (int8_t)db_int(s, 2);
            t->held_gold[place] = db_is_null(s, 4) ? -1 : (int32_t)db_int(s, 4);
            status = read_vector(b, vector, id, t->held_features + place * t->n_features, err);
        }
    }
    return status;
}

/* ---- labels in order ---- */

/* Used annotators get their ranks among the used; the rest NONE. By name still, because the old ranks are. */
static enum amx_status choose_annotators(struct build *b, uint32_t **new_rank, struct amx_error *err)
{
    struct training_set *t = b->set;
    uint32_t *rank = NULL;
    enum amx_status status = new_array(&rank, b->n_project_annotators, sizeof(uint32_t), err);

    if (status != AMX_OK)
        return status;
    for (size_t i = 0; i < b->n_triples; i++) {
        uint32_t instance = b->triples[i].instance;
        if (b->instance_rank[instance] != NONE && !b->is_held[instance])
            rank[b->triples[i].annotator] = 1;
    }
    for (size_t i = 0; i < b->n_project_annotators; i++) {
        if (rank[i] != 0) {
            b->annotator_name[t->n_annotators] = b->annotator_name[i];
            b->annotator_id[t->n_annotators] = b->annotator_id[i];
            rank[i] = (uint32_t)t->n_annotators++;
        } else {
            rank[i] = NONE;
        }
    }
    *new_rank = rank;
    return AMX_OK;
}

/* Labels of one kind (trained on or held), by (instance rank, annotator rank): counted by annotator first, then stably
 * by instance, which is a radix sort with two digits. */
static enum amx_status sort_labels(struct build *b, bool held, size_t n_rows, size_t n_labels, struct triple **out,
                                   struct amx_error *err)
{
    size_t *start = NULL, n_places = n_rows > b->n_project_annotators ? n_rows : b->n_project_annotators;
    struct triple *by_annotator = NULL, *sorted = NULL;
    enum amx_status status = new_array(&start, n_places + 1, sizeof(size_t), err);

    if (status == AMX_OK)
        status = new_array(&by_annotator, n_labels, sizeof(struct triple), err);
    if (status == AMX_OK)
        status = new_array(&sorted, n_labels, sizeof(struct triple), err);
    if (status != AMX_OK)
        goto done;
    for (size_t i = 0; i < b->n_triples; i++) {
        const struct triple *l = &b->triples[i];
        if (b->instance_rank[l->instance] != NONE && (b->is_held[l->instance] != 0) == held)
            start[l->annotator + 1]++;
    }
    for (size_t i = 0; i < n_places; i++)
        start[i + 1] += start[i];
    for (size_t i = 0; i < b->n_triples; i++) {
        const struct triple *l = &b->triples[i];
        if (b->instance_rank[l->instance] != NONE && (b->is_held[l->instance] != 0) == held)
            by_annotator[start[l->annotator]++] =
                (struct triple){b->instance_rank[l->instance], l->annotator, l->class_index};
    }
    memset(start, 0, (n_places + 1) * sizeof(size_t));
    for (size_t i = 0; i < n_labels; i++)
        start[by_annotator[i].instance + 1]++;
    for (size_t i = 0; i < n_places; i++)
        start[i + 1] += start[i];
    for (size_t i = 0; i < n_labels; i++)
        sorted[start[by_annotator[i].instance]++] = by_annotator[i];
    *out = sorted;
    sorted = NULL;
done:
    free(sorted);
    free(by_annotator);
    free(start);
    return status;
}

/* Splits triples into the three arrays of the set. */
static enum amx_status spread(const struct triple *triples, size_t n, const uint32_t *new_rank, uint32_t **instance,
                              uint32_t **annotator, uint32_t **class_index, struct amx_error *err)
{
    enum amx_status status = new_array(instance, n, sizeof(uint32_t), err);

    if (status == AMX_OK)
        status = new_array(annotator, n, sizeof(uint32_t), err);
    if (status == AMX_OK)
        status = new_array(class_index, n, sizeof(uint32_t), err);
    for (size_t i = 0; status == AMX_OK && i < n; i++) {
        (*instance)[i] = triples[i].instance;
        (*annotator)[i] = new_rank[triples[i].annotator];
        (*class_index)[i] = triples[i].class_index;
    }
    return status;
}

static enum amx_status order_labels(struct build *b, struct amx_error *err)
{
    struct training_set *t = b->set;
    uint32_t *new_rank = NULL;
    struct triple *labels = NULL, *held = NULL;
    enum amx_status status = choose_annotators(b, &new_rank, err);

    if (status == AMX_OK)
        status = sort_labels(b, false, t->n_instances, t->n_labels, &labels, err);
    if (status == AMX_OK)
        status = spread(labels, t->n_labels, new_rank, &t->label_instance, &t->label_annotator, &t->label_class, err);
    if (status == AMX_OK)
        status = sort_labels(b, true, t->n_held, t->n_held_labels, &held, err);
    if (status == AMX_OK)
        status = spread(held, t->n_held_labels, new_rank, &t->held_label_held, &t->held_label_annotator,
                        &t->held_label_class, err);
    free(held);
    free(labels);
    free(new_rank);
    return status;
}

/* Offsets into the names become pointers, now that the buffer moves no more. */
static enum amx_status point_names(struct build *b, struct amx_error *err)
{
    struct training_set *t = b->set;
    char *text = buf_take(&b->names, NULL);
    enum amx_status status = text != NULL ? AMX_OK : error_set(err, AMX_NO_MEMORY, "no memory for the training data");

    t->memory = text;
    if (status == AMX_OK)
        status = new_array(&t->instance_names, t->n_instances, sizeof(char *), err);
    if (status == AMX_OK)
        status = new_array(&t->annotator_names, t->n_annotators, sizeof(char *), err);
    if (status == AMX_OK)
        status = new_array(&t->class_names, t->n_classes, sizeof(char *), err);
    if (status != AMX_OK)
        return status;
    for (size_t i = 0; i < t->n_instances; i++)
        t->instance_names[i] = text + b->instance_name[i];
    for (size_t i = 0; i < t->n_annotators; i++)
        t->annotator_names[i] = text + b->annotator_name[i];
    for (size_t i = 0; i < t->n_classes; i++)
        t->class_names[i] = text + b->class_name[i];
    t->annotator_ids = b->annotator_id;
    b->annotator_id = NULL;
    return AMX_OK;
}

static void build_done(struct build *b)
{
    free(b->annotator_rank);
    free(b->instance_rank);
    free(b->label_count);
    free(b->is_held);
    free(b->triples);
    free(b->instance_name);
    free(b->annotator_name);
    free(b->annotator_id);
    free(b->class_name);
    buf_done(&b->names);
}

enum amx_status training_read(struct db *db, int64_t project_id, size_t max_bytes, struct training_set *out,
                              struct amx_error *err)
{
    struct training_set set = {.n_instances = 0};
    struct build b = {.db = db, .project_id = project_id, .set = &set, .max_bytes = max_bytes};
    size_t n_valid = 0;
    enum amx_status status = db_begin_read(db, err);

    if (status != AMX_OK)
        return status;
    buf_init(&b.names, SIZE_MAX / 2);
    status = read_project(&b, err);
    if (status == AMX_OK)
        status = read_classes(&b, err);
    if (status == AMX_OK)
        status = read_annotators(&b, err);
    if (status == AMX_OK)
        status = read_labels(&b, err);
    if (status == AMX_OK)
        status = count_instances(&b, &n_valid, err);
    if (status == AMX_OK)
        status = allocate(&b, err);
    if (status == AMX_OK)
        status = read_instances(&b, n_valid, err);
    db_rollback(db); /* ends the reading; the rest is memory */
    if (status == AMX_OK)
        status = order_labels(&b, err);
    if (status == AMX_OK)
        status = point_names(&b, err);
    build_done(&b);
    if (status == AMX_OK)
        *out = set;
    else
        training_set_done(&set);
    return status;
}

void training_set_done(struct training_set *set)
{
    free(set->features);
    free(set->instance_names);
    free(set->instance_ids);
    free(set->instance_gold);
    free(set->label_instance);
    free(set->label_annotator);
    free(set->label_class);
    free(set->annotator_names);
    free(set->annotator_ids);
    free(set->class_names);
    free(set->held_features);
    free(set->held_split);
    free(set->held_gold);
    free(set->held_label_held);
    free(set->held_label_annotator);
    free(set->held_label_class);
    free(set->memory);
    *set = (struct training_set){.n_instances = 0};
}
