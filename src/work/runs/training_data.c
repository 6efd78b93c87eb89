/* training_data.c - what amx_fit gets, from the database or from files, and the hash that names it.
 *
 * data_hash: SHA-256 over the instances trained on, in order: name (length first), features (length first,
 * little-endian float32), number of labels, and for each label annotator and class (length first). Nothing else
 * decides a model besides settings, seed and build; gold is not in it. */
#include "work/runs/training_data.h"

#include <stdlib.h>
#include <string.h>

#include "util/error.h"
#include "util/size.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "hash and model file hold little-endian numbers as they are");

static void hash_of(const struct training_set *set, char out[TRAINING_HASH_BYTES])
{
    uint8_t bytes[DIGEST_BYTES];
    struct digest digest;
    size_t l = 0;

    digest_init(&digest);
    for (size_t i = 0; i < set->n_instances; i++) {
        size_t first = l;

        while (l < set->n_labels && set->label_instance[l] == i)
            l++;
        digest_add_sized(&digest, set->instance_names[i], strlen(set->instance_names[i]));
        digest_add_sized(&digest, set->features + i * set->n_features, set->n_features * sizeof(float));
        digest_add_u64(&digest, l - first);
        for (size_t j = first; j < l; j++) {
            const char *annotator = set->annotator_names[set->label_annotator[j]];
            const char *class_ = set->class_names[set->label_class[j]];

            digest_add_sized(&digest, annotator, strlen(annotator));
            digest_add_sized(&digest, class_, strlen(class_));
        }
    }
    digest_finish(&digest, bytes);
    memcpy(out, "sha256:", 7);
    (void)digest_hex(bytes, out + 7);
}

void training_data_view(struct training_data *data)
{
    const struct training_set *set = &data->set;

    hash_of(set, data->hash);
    data->data = (struct amx_data){
        .n_instances = set->n_instances,
        .n_features = set->n_features,
        .n_classes = set->n_classes,
        .n_annotators = set->n_annotators,
        .n_labels = set->n_labels,
        .features = set->features,
        .label_instance = set->label_instance,
        .label_annotator = set->label_annotator,
        .label_class = set->label_class,
        .class_names = (const char *const *)set->class_names,
        .annotator_names = (const char *const *)set->annotator_names,
        .data_hash = data->hash,
        .gold = set->instance_gold,
        .fold = data->fold,
    };
}

enum amx_status training_data_fold(struct training_data *data, uint64_t seed, int folds, struct amx_error *err)
{
    const size_t N = data->set.n_instances;
    uint32_t *fold = NULL;

    if (folds > 0) {
        fold = N < SIZE_MAX / sizeof *fold ? malloc((N + 1) * sizeof *fold) : NULL;
        if (fold == NULL)
            return error_set(err, AMX_NO_MEMORY, "Out of memory.");
        for (size_t i = 0; i < N; i++)
            fold[i] = fold_of(data->set.instance_names[i], seed, folds);
    }
    free(data->fold);
    data->fold = fold;
    data->data.fold = fold;
    return AMX_OK;
}

enum amx_status training_data_read(struct db *db, int64_t project_id, size_t max_bytes, struct training_data *out,
                                   struct amx_error *err)
{
    struct training_set set;
    enum amx_status status = training_read(db, project_id, max_bytes, &set, err);

    if (status != AMX_OK)
        return status;
    memset(out, 0, sizeof *out);
    out->set = set;
    training_data_view(out);
    return AMX_OK;
}

void training_data_done(struct training_data *data)
{
    struct training_set *set = &data->set;

    free(data->fold);
    if (!data->built) {
        training_set_done(set);
        memset(data, 0, sizeof *data);
        return;
    }
    free(set->features);
    free(set->instance_names);
    free(set->instance_gold);
    free(set->label_instance);
    free(set->label_annotator);
    free(set->label_class);
    free(set->annotator_names);
    free(set->class_names);
    free(set->held_features);
    free(set->held_split);
    free(set->held_gold);
    free(set->held_label_held);
    free(set->held_label_annotator);
    free(set->held_label_class);
    free(set->memory);
    memset(data, 0, sizeof *data);
}

enum amx_status training_data_check(const struct training_data *data, struct amx_error *err)
{
    const struct training_set *set = &data->set;
    uint32_t first = set->n_labels > 0 ? set->label_class[0] : 0;

    if (set->n_labels_total == 0)
        return error_set(err, AMX_NOTHING, "There are no labels yet: nothing to train on.");
    if (set->n_instances < 2 && set->n_awaiting > 0)
        return error_set(
            err, AMX_NOTHING,
            "Features are missing: %zu labelled train instances await them, and training needs 2 with both.",
            set->n_awaiting);
    if (set->n_instances < 2)
        return error_set(err, AMX_NOTHING, "Training needs at least 2 labelled instances of split train; there %s %zu.",
                         set->n_instances == 1 ? "is" : "are", set->n_instances);
    for (size_t l = 1; l < set->n_labels; l++) {
        if (set->label_class[l] != first)
            return AMX_OK;
    }
    return error_set(err, AMX_NOTHING, "All labels name the class \"%.60s\": training needs labels of two classes.",
                     set->class_names[first]);
}

size_t training_data_bytes(const struct training_data *data)
{
    const struct training_set *set = &data->set;
    size_t names = set->n_instances + set->n_annotators;

    return (set->n_instances + set->n_held) * (set->n_features * sizeof(float) + 16) + set->n_labels * 12 +
           set->n_held_labels * 12 + names * 48;
}
