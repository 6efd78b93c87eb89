/* instance_batch.h - a few hundred stored instances with their features, read in one go: what predictions and consensus
 * are computed from. Also ?id= lists: up to 1,000 names, answered in order, those that do not exist are named. */
#ifndef ENDPOINTS_DERIVED_INSTANCE_BATCH_H
#define ENDPOINTS_DERIVED_INSTANCE_BATCH_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "annotmix.h"
#include "http/http.h"
#include "store/instances.h"
#include "util/buf.h"

enum { BATCH_IDS_MAX = 1000 };

struct batch_instance {
    int64_t id;
    size_t name, n_name; /* offset in names */
    bool has_features, has_gold;
    bool was_train; /* of split train, now or before */
};

struct instance_batch {
    size_t n_features; /* D */
    size_t n, room;
    struct batch_instance *rows; /* [n] */
    float *features;             /* [n][D]; zeros where there are none */
    struct buf names;            /* each followed by a 0 */
};

void instance_batch_init(struct instance_batch *batch, size_t n_features);
void instance_batch_done(struct instance_batch *batch);
void instance_batch_clear(struct instance_batch *batch);                       /* keeps the memory */
const char *instance_batch_name(const struct instance_batch *batch, size_t i); /* 0-terminated */

/* Appends up to `limit` instances after *after in order; moves *after; *more: there are further ones. */
AMX_CHECK enum amx_status instance_batch_read(struct db *db, int64_t project_id, const struct instance_filter *filter,
                                              int64_t *after, size_t limit, struct instance_batch *batch, bool *more,
                                              struct amx_error *err);
/* Appends the instance of this name. AMX_NOT_FOUND. */
AMX_CHECK enum amx_status instance_batch_find(struct db *db, int64_t project_id, const char *name,
                                              struct instance_batch *batch, struct amx_error *err);

/* How many instances to read at once, so that features and (answer_bytes each) text stay within about a megabyte. */
size_t instance_batch_size(size_t n_features, size_t answer_bytes);

/* ?id=: how many there are (0 = the parameter is absent). Over BATCH_IDS_MAX, or with cursor or limit besides: replies
 * 400, false. */
bool instance_batch_ids(struct http_request *rq, size_t *n);

#endif
