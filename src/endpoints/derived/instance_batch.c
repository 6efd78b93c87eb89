/* instance_batch.c - see instance_batch.h. */
#include "endpoints/derived/instance_batch.h"

#include <stdlib.h>
#include <string.h>

#include "endpoints/problem.h"
#include "util/buf.h"
#include "util/error.h"
#include "util/size.h"

enum { SIZE_MAX_ROWS = 256, NAMES_MAX_BYTES = 16 << 20, BATCH_BYTES = 1 << 19 };

void instance_batch_init(struct instance_batch *batch, size_t n_features)
{
    *batch = (struct instance_batch){.n_features = n_features};
    buf_init(&batch->names, NAMES_MAX_BYTES);
}

void instance_batch_done(struct instance_batch *batch)
{
    free(batch->rows);
    free(batch->features);
    buf_done(&batch->names);
    batch->rows = NULL;
    batch->features = NULL;
    batch->n = batch->room = 0;
}

void instance_batch_clear(struct instance_batch *batch)
{
    batch->n = 0;
    buf_clear(&batch->names);
}

const char *instance_batch_name(const struct instance_batch *batch, size_t i)
{
    return batch->names.bytes + batch->rows[i].name;
}

static bool make_room(struct instance_batch *batch)
{
    size_t room = batch->room > 0 ? batch->room : 32, bytes, numbers;
    if (batch->n < batch->room) {
        return true;
    }
    if ((batch->room > 0 && !size_mul(&room, room, 2)) || !size_mul(&bytes, room, sizeof *batch->rows) ||
        !size_mul(&numbers, room, batch->n_features) || !size_mul(&numbers, numbers, sizeof(float))) {
        return false;
    }
    struct batch_instance *rows = realloc(batch->rows, bytes);
    if (rows == NULL) {
        return false;
    }
    batch->rows = rows;
    float *features = realloc(batch->features, numbers > 0 ? numbers : 1);
    if (features == NULL) {
        return false;
    }
    batch->features = features;
    batch->room = room;
    return true;
}

static enum amx_status append(struct instance_batch *batch, const struct instance_row *row)
{
    if (!make_room(batch)) {
        return AMX_NO_MEMORY;
    }
    struct batch_instance *to = &batch->rows[batch->n];
    *to = (struct batch_instance){.id = row->id, .name = batch->names.n, .n_name = row->name.n};
    to->has_gold = row->gold_class >= 0;
    to->was_train = row->was_train;
    to->has_features = row->features != NULL && row->n_features == batch->n_features;
    float *features = batch->features + batch->n * batch->n_features;
    if (to->has_features) {
        memcpy(features, row->features, batch->n_features * sizeof *features);
    } else {
        memset(features, 0, batch->n_features * sizeof *features);
    }
    (void)buf_append(&batch->names, row->name.bytes, row->name.n);
    if (buf_char(&batch->names, '\0') != AMX_OK) {
        return batch->names.status;
    }
    batch->n++;
    return AMX_OK;
}

struct listing {
    struct instance_batch *batch;
    int64_t last;
};

static enum amx_status list_one(void *context, const struct instance_row *row)
{
    struct listing *l = context;
    l->last = row->id;
    return append(l->batch, row);
}

enum amx_status instance_batch_read(struct db *db, int64_t project_id, const struct instance_filter *filter,
                                    int64_t *after, size_t limit, struct instance_batch *batch, bool *more,
                                    struct amx_error *err)
{
    struct listing l = {batch, *after};
    enum amx_status status =
        instances_list(db, project_id, filter, *after, limit, INSTANCES_FEATURES, list_one, &l, more, err);
    *after = l.last;
    return status;
}

enum amx_status instance_batch_find(struct db *db, int64_t project_id, const char *name, struct instance_batch *batch,
                                    struct amx_error *err)
{
    struct instance_row row;
    enum amx_status status =
        instances_find(db, project_id, (struct slice){name, strlen(name)}, INSTANCES_FEATURES, &row, err);
    if (status != AMX_OK) {
        return status;
    }
    status = append(batch, &row);
    instance_row_done(&row);
    return status == AMX_OK ? AMX_OK : error_set(err, status, "Out of memory.");
}

size_t instance_batch_size(size_t n_features, size_t answer_bytes)
{
    size_t by_features = BATCH_BYTES / (n_features * sizeof(float) + 1), by_answer = BATCH_BYTES / (answer_bytes + 1);
    size_t n = by_features < by_answer ? by_features : by_answer;
    return n < 1 ? 1 : n > SIZE_MAX_ROWS ? SIZE_MAX_ROWS : n;
}

bool instance_batch_ids(struct http_request *rq, size_t *n)
{
    size_t count = 0;
    while (count <= BATCH_IDS_MAX && http_query_nth(rq, "id", (unsigned)count) != NULL) {
        count++;
    }
    if (count > BATCH_IDS_MAX) {
        problem_reply_as(rq, PROBLEM_INVALID_QUERY, "id may be given up to %d times.", (int)BATCH_IDS_MAX);
        return false;
    }
    if (count > 0 && (http_query(rq, "cursor") != NULL || http_query(rq, "limit") != NULL)) {
        problem_reply_as(rq, PROBLEM_INVALID_QUERY, "With id there are no pages; leave limit and cursor out.");
        return false;
    }
    *n = count;
    return true;
}
