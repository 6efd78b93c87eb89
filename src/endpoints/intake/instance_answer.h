/* instance_answer.h - an instance as clients see it, written as text: metadata comes out byte for byte as it came in,
 * and features with nine digits. */
#ifndef ENDPOINTS_INTAKE_INSTANCE_ANSWER_H
#define ENDPOINTS_INTAKE_INSTANCE_ANSWER_H

#include <stdbool.h>
#include <stdint.h>

#include "annotmix.h"
#include "store/db.h"
#include "store/instances.h"
#include "util/buf.h"
#include "work/catalog.h"

/* What the labels of one instance say by themselves. */
struct instance_votes {
    int64_t labels, skipped; /* current ones, skipped included; of these */
    bool resolved, disputed; /* wire.md, Consensus, basis labels_only */
};
AMX_CHECK enum amx_status instance_votes(struct db *db, const struct project_info *project,
                                         const struct instance_row *row, struct instance_votes *out,
                                         struct amx_error *err);

struct instance_view {
    const struct project_info *project;
    bool gold;     /* the token may see gold */
    bool features; /* asked for */
};
/* {"id":...}: an item of a list. */
void instance_write_summary(struct buf *out, const struct instance_view *view, const struct instance_row *row);
/* One instance with its labels and counts. */
AMX_CHECK enum amx_status instance_write_one(struct buf *out, struct db *db, const struct instance_view *view,
                                             const struct instance_row *row, struct amx_error *err);

#endif
