/* label_model.h - the result of a training run on labels alone (projects without features): the class posterior of
 * every instance it was made from. It stands where a model stands (numbered, active or not, in chunks), but it predicts
 * nothing: what it says of annotators is in the rows of model_annotators, and what it says of instances is here.
 *
 * Bytes: "AMXLABEL", u32 version 1, u32 C, u64 N, C class names (u32 length, bytes), zeros up to a multiple of 8,
 * int64 instance numbers [N] ascending, float32 posterior [N][C]. Little-endian. Instances are named by their numbers in
 * this project, so this is no portable file and is never given out. */
#ifndef WORK_RUNS_LABEL_MODEL_H
#define WORK_RUNS_LABEL_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "annotmix.h"

struct label_model {
    size_t n_instances, n_classes;
    const char *const *class_names; /* [C] */
    const int64_t *instance_ids;    /* [N] ascending */
    const float *posterior;         /* [N][C] */
    size_t memory_bytes;
    unsigned char *memory; /* the bytes; the arrays lie in them */
    char *names;
};

/* ids [n] in any order, posterior [n][C] in the order of ids. *bytes: free() it. AMX_NO_MEMORY. */
AMX_CHECK enum amx_status label_model_encode(const int64_t *ids, const double *posterior, size_t n,
                                             const char *const *class_names, size_t n_classes, unsigned char **bytes,
                                             size_t *n_bytes, struct amx_error *err);
bool label_model_is(const unsigned char *bytes, size_t n); /* by the first bytes */
/* Takes the bytes (malloc'd) on success. AMX_CORRUPT, AMX_NO_MEMORY. */
AMX_CHECK enum amx_status label_model_decode(unsigned char *bytes, size_t n, struct label_model **out,
                                             struct amx_error *err);
void label_model_free(struct label_model *model); /* NULL allowed */

#endif
