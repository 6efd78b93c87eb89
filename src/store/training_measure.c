/* training_measure.c - how much there is to train on, found without reading it: for refusing a run before it is queued.
 */
#include "store/training.h"

#include <stdbool.h>

static const char MEASURE_PROJECT[] =
    "SELECT n_labels - n_skipped, n_annotators FROM projects WHERE id = ?1 AND gone = 0";
static const char MEASURE_INSTANCES[] =
    "SELECT i.id FROM instances i WHERE i.project_id = ?1 AND i.split = 0 AND i.labelled = 1 AND i.awaiting = 0";
static const char MEASURE_LABELS[] =
    "SELECT l.class FROM labels l INDEXED BY labels_pair" /* see labels.c */
    " JOIN annotators a ON a.project_id = l.project_id AND a.id = l.annotator_id AND a.gone = 0"
    " WHERE l.project_id = ?1 AND l.instance_id = ?2 AND l.state = 0 AND l.class IS NOT NULL";

/* Classes of one instance's labels; *any: it has one. */
static enum amx_status look_at(struct db_stmt *s, int64_t project_id, int64_t id, unsigned char *seen, bool *any,
                               struct amx_error *err)
{
    enum db_step step = DB_ROW;
    enum amx_status status = AMX_OK;

    *any = false;
    db_reset(s);
    db_bind_int(s, 1, project_id);
    db_bind_int(s, 2, id);
    while (status == AMX_OK && (status = db_step(s, &step, err)) == AMX_OK && step == DB_ROW) {
        int64_t class_index = db_int(s, 0);
        if (class_index >= 0 && class_index < AMX_MAX_CLASSES)
            seen[class_index] = 1;
        *any = true;
    }
    return status;
}

static size_t count_seen(const unsigned char *seen)
{
    size_t n = 0;

    for (size_t i = 0; i < AMX_MAX_CLASSES; i++)
        n += seen[i];
    return n;
}

enum amx_status training_measure(struct db *db, int64_t project_id, size_t enough, struct training_size *out,
                                 struct amx_error *err)
{
    DB_STMT(project);
    DB_STMT(s);
    DB_STMT(labels);
    struct training_size size = {.n_instances = 0};
    unsigned char seen[AMX_MAX_CLASSES] = {0};
    enum db_step step = DB_ROW;
    enum amx_status status = db_use(db, MEASURE_PROJECT, &project, err);

    if (status != AMX_OK)
        return status;
    db_bind_int(project, 1, project_id);
    status = db_one(project, "there is no such project", err);
    if (status == AMX_OK)
        status = db_use(db, MEASURE_INSTANCES, &s, err);
    if (status == AMX_OK)
        status = db_use(db, MEASURE_LABELS, &labels, err);
    if (status != AMX_OK)
        return status;
    size.n_labels = (size_t)db_int(project, 0);
    size.n_annotators = (size_t)db_int(project, 1);
    db_bind_int(s, 1, project_id);
    /* Stops when there are enough instances and more than one class: then there is something to train on. */
    while (enough == 0 || size.n_instances < enough || count_seen(seen) < 2) {
        bool any;
        status = db_step(s, &step, err);
        if (status != AMX_OK || step == DB_DONE)
            break;
        status = look_at(labels, project_id, db_int(s, 0), seen, &any, err);
        if (status != AMX_OK)
            break;
        size.n_instances += any;
    }
    size.n_classes_seen = count_seen(seen);
    if (status == AMX_OK)
        *out = size;
    return status;
}

static const char MEASURE_GOLD[] =
    "SELECT count(*), count(DISTINCT gold) FROM instances"
    " WHERE project_id = ?1 AND gold IS NOT NULL AND split = 0 AND labelled = 1 AND awaiting = 0";

enum amx_status training_measure_gold(struct db *db, int64_t project_id, size_t *n_instances, size_t *n_classes,
                                      struct amx_error *err)
{
    DB_STMT(s);
    enum amx_status status = db_use(db, MEASURE_GOLD, &s, err);

    if (status != AMX_OK)
        return status;
    db_bind_int(s, 1, project_id);
    status = db_one(s, NULL, err);
    if (status != AMX_OK)
        return status;
    *n_instances = (size_t)db_int(s, 0);
    *n_classes = (size_t)db_int(s, 1);
    return AMX_OK;
}

/* Each skipped label may be all that an instance has. */
static const char MEASURE_LEAST[] =
    "SELECT n_instances - n_awaiting - n_skipped"
    "  - (SELECT count(*) FROM instances i WHERE i.project_id = p.id AND i.labelled = 0),"
    " (SELECT count(*) FROM instances i WHERE i.project_id = p.id AND i.split <> 0),"
    " CASE n_awaiting WHEN 0 THEN n_labels - n_skipped ELSE 0 END,"
    " EXISTS (SELECT 1 FROM annotators a WHERE a.project_id = p.id AND a.gone = 1)"
    " FROM projects p WHERE id = ?1 AND gone = 0";

static size_t above_zero(int64_t n)
{
    return n > 0 ? (size_t)n : 0;
}

enum amx_status training_measure_least(struct db *db, int64_t project_id, struct training_least *out,
                                       struct amx_error *err)
{
    DB_STMT(s);
    enum amx_status status = db_use(db, MEASURE_LEAST, &s, err);

    if (status != AMX_OK)
        return status;
    db_bind_int(s, 1, project_id);
    status = db_one(s, "there is no such project", err);
    if (status != AMX_OK)
        return status;
    *out = (struct training_least){.n_instances = 0};
    if (db_int(s, 3) == 0)
        *out = (struct training_least){.n_instances = above_zero(db_int(s, 0)),
                                       .n_train = above_zero(db_int(s, 0) - db_int(s, 1)),
                                       .n_labels = above_zero(db_int(s, 2))};
    return AMX_OK;
}
