/* run_memory.c - see run_memory.h.
 *
 * Most runs are far from the limit: first everything that the project has is taken for data, which costs nothing to know.
 * Only where that is too much is it counted what will be read at least. */
#include "work/runs/run_memory.h"

#include <errno.h>

#include "crowd/reliability.h"
#include "store/projects.h"
#include "util/error.h"
#include "util/size.h"
#include "work/runs/auto_fit.h"
#include "work/runs/label_run.h"
#include "work/runs/run_request.h"

enum {
    ROWS = 2 /* the fewest that can be trained on */
};

/* Two instances, of a class each. */
static void make_least(const struct project_row *project, size_t n_annotators, struct training_data *out)
{
    static uint32_t first_second[ROWS] = {0, 1}, first[ROWS] = {0, 0};
    static int32_t gold[ROWS] = {0, 1};
    static int8_t split[] = {SPLIT_TEST};
    const struct training_set set = {
        .n_instances = ROWS,
        .n_features = project->feature_dim,
        .n_classes = project->n_classes,
        .n_annotators = n_annotators,
        .n_labels = ROWS,
        .instance_gold = gold,
        .label_instance = first_second,
        .label_annotator = first,
        .label_class = first_second,
        .n_held = 1,
        .held_split = split,
        .held_gold = gold,
    };

    *out = (struct training_data){.set = set,
                                  .data = {.n_instances = ROWS,
                                           .n_features = set.n_features,
                                           .n_classes = set.n_classes,
                                           .n_annotators = set.n_annotators,
                                           .n_labels = ROWS,
                                           .label_instance = first_second,
                                           .label_annotator = first,
                                           .label_class = first_second,
                                           .gold = gold}};
}

/* auto without its copy of valid: that grows with the data. */
static size_t auto_bytes(const struct training_data *least, const struct run_request *request)
{
    struct training_data train = *least;
    struct auto_job job;
    size_t bytes = SIZE_MAX;

    train.set.n_held = 0;
    if (auto_job_init(&job, request, request->seed, &train, 1, NULL) == AMX_OK)
        bytes = select_memory(&train.data, &job.options);
    auto_job_done(&job);
    return bytes;
}

size_t run_memory_of_request(const struct training_data *least, size_t n_train, const void *context)
{
    const struct run_request *request = context;
    const struct amx_fit_options options = {.method = request->method,
                                            .ensemble = request->ensemble,
                                            .threads = 1,
                                            .folds = request->folds,
                                            .settings = request->settings};
    size_t bytes;

    if (request->label_only) {
        struct training_data counted = *least;
        counted.set.n_instances = n_train;
        return label_run_memory(&counted);
    }
    bytes = run_request_is_auto(request) ? auto_bytes(least, request) : amx_fit_memory(&least->data, &options);
    return size_add(&bytes, bytes, reliability_memory(least->set.n_annotators, least->set.n_classes)) ? bytes : SIZE_MAX;
}

/* Data of that size and what the request takes besides. */
static size_t needed(const struct training_data *least, const struct run_need *need, const struct training_least *count)
{
    const struct training_data data = {.set = {.n_instances = count->n_instances,
                                               .n_features = least->set.n_features,
                                               .n_labels = count->n_labels}};
    size_t features, bytes;

    if (!size_mul(&features, count->n_instances, least->set.n_features * sizeof(float) + 64) ||
        !size_add(&bytes, training_data_bytes(&data), need->bytes(least, count->n_train, need->request)))
        return SIZE_MAX;
    return bytes;
}

enum amx_status run_memory_check(struct db *db, int64_t project_id, const struct run_need *need, size_t limit,
                                 struct amx_error *err)
{
    struct project_row project;
    struct training_data least;
    struct training_least count;
    size_t annotators, bytes;
    enum amx_status status;

    if (limit == 0)
        return AMX_OK;
    if ((status = projects_get(db, project_id, &project, err)) != AMX_OK)
        return status;
    count = (struct training_least){(size_t)project.counts.instances, (size_t)project.counts.instances,
                                    (size_t)project.counts.labels};
    /* Each has given a label. */
    annotators = (size_t)(project.counts.annotators < project.counts.labels ? project.counts.annotators
                                                                            : project.counts.labels);
    make_least(&project, annotators, &least);
    errno = 0; /* see amx_fit_memory */
    bytes = needed(&least, need, &count);
    if (bytes > limit && !(bytes == SIZE_MAX && errno == ENOMEM) &&
        (status = training_measure_least(db, project_id, &count, err)) == AMX_OK) {
        errno = 0;
        bytes = needed(&least, need, &count);
    }
    if (status == AMX_OK && bytes == SIZE_MAX && errno == ENOMEM)
        status = error_set(err, AMX_NO_MEMORY, "out of memory");
    else if (status == AMX_OK && bytes > limit)
        status = error_set(err, AMX_TOO_LARGE,
                           "The run needs at least %zu MiB of memory, with %zu labelled instances of %zu features, %zu "
                           "classes and %zu annotators; the limit is %zu MiB (--run-memory).",
                           (bytes >> 20) + 1, count.n_instances, project.feature_dim, project.n_classes, annotators,
                           limit >> 20);
    project_row_done(&project);
    return status;
}
