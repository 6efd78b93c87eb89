/* evaluate_compare.c - two models on the same labels, each out of fold: what activate if_not_worse asks.
 *
 * The other model may be of another day: it has its own seed and so its own folds, its own numbers for annotators, and
 * it has not seen labels that came since. The fold of an instance follows from its name, so whatever it was trained on,
 * its answer for the instance comes from members that never saw the instance's labels. */
#include <stdlib.h>
#include <string.h>

#include "store/instances.h"
#include "util/error.h"
#include "util/size.h"
#include "work/judge/evaluate_int.h"
#include "work/runs/name_table.h"

/* log p_annotation of the class given, for every label of the part. */
static enum amx_status log_likelihoods(const struct pieces_of *of, double *out, struct amx_error *err)
{
    const size_t C = of->part->n_classes;
    struct pieces *pieces = NULL;
    const struct piece *piece = NULL;
    enum amx_status status = pieces_new(of, &pieces, err);

    if (status == AMX_OK)
        status = pieces_next(pieces, &piece, err);
    while (status == AMX_OK && piece != NULL) {
        for (size_t j = 0; j < piece->n_labels; j++)
            out[piece->label + j] = evaluate_log(piece->p_annotation[j * C + of->part->label_class[piece->label + j]]);
        status = pieces_next(pieces, &piece, err);
    }
    pieces_free(pieces);
    return status;
}

/* out [A]: the model's number of each annotator of the set, AMX_UNSEEN for those it has not. */
static enum amx_status match_annotators(const struct amx_model_info *info, const struct training_set *set,
                                        uint32_t *out)
{
    const size_t n = info->annotator_names != NULL ? info->n_annotators : 0;
    struct name_table names = NAME_TABLE_INIT;
    enum amx_status status = AMX_OK;

    for (size_t a = 0; a < n && status == AMX_OK; a++) {
        uint32_t number;

        status = name_table_add(&names, info->annotator_names[a], strlen(info->annotator_names[a]), &number, NULL);
    }
    for (size_t a = 0; a < set->n_annotators && status == AMX_OK; a++) {
        if (!name_table_find(&names, set->annotator_names[a], strlen(set->annotator_names[a]), &out[a]))
            out[a] = AMX_UNSEEN;
    }
    name_table_done(&names);
    return status;
}

/* Mean of a - b with instances as groups. */
static struct label_comparison compare(const struct part *part, const double *a, const double *b)
{
    struct grouped_mean mean = {0};

    for (size_t l = 0; l < part->n_labels;) {
        size_t row = part->label_row[l], n = 0;
        double sum = 0;

        for (; l < part->n_labels && part->label_row[l] == row; l++, n++)
            sum += a[l] - b[l];
        grouped_mean_add(&mean, sum, n);
    }
    return (struct label_comparison){mean.n, grouped_mean_value(&mean), grouped_mean_error(&mean)};
}

static void *take(size_t n, size_t size)
{
    size_t bytes;

    return size_mul(&bytes, n, size) ? malloc(bytes + size) : NULL;
}

enum amx_status evaluate_compare(const struct amx_model *model, const struct amx_model *other,
                                 const struct training_data *data, struct label_comparison *out, struct amx_error *err)
{
    const struct training_set *set = &data->set;
    const struct part part = part_of(set, SPLIT_TRAIN);
    struct amx_model_info info;
    double *own = take(set->n_labels, sizeof *own), *others = take(set->n_labels, sizeof *others);
    uint32_t *number = take(set->n_annotators, sizeof *number), *fold = take(set->n_instances, sizeof *fold);
    enum amx_status status = AMX_OK;

    amx_model_info(other, &info);
    if (own == NULL || others == NULL || number == NULL || fold == NULL ||
        match_annotators(&info, set, number) != AMX_OK)
        status = error_set(err, AMX_NO_MEMORY, "Out of memory.");
    else if (info.folds == 0 || data->data.fold == NULL || info.n_classes != set->n_classes ||
             info.n_features != set->n_features)
        status =
            error_set(err, AMX_INVALID, "Two models are compared out of fold, with the same classes and features.");
    if (status == AMX_OK) {
        const struct pieces_of of = {model, &part, PIECE_ANNOTATION, NULL, data->data.fold};

        status = log_likelihoods(&of, own, err);
    }
    if (status == AMX_OK) {
        const struct pieces_of of = {other, &part, PIECE_ANNOTATION, number, fold};

        for (size_t i = 0; i < set->n_instances; i++)
            fold[i] = fold_of(set->instance_names[i], info.seed, info.folds);
        status = log_likelihoods(&of, others, err);
    }
    if (status == AMX_OK)
        *out = compare(&part, own, others);
    free(fold);
    free(number);
    free(others);
    free(own);
    return status;
}
