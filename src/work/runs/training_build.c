/* training_build.c - training_data from rows in any order: the part of training_data.h that `fit` needs and the
 * server has in SQL (ORDER BY name, bytewise). Both must agree to the last byte; a test compares the hashes. */
#include <stdlib.h>
#include <string.h>

#include "util/error.h"
#include "util/size.h"
#include "work/runs/training_data.h"

/* One label with the ranks of its names, for sorting. */
struct ranked {
    uint32_t row, annotator; /* ranks in the order of names */
    uint32_t class_;
    uint32_t arrival;
};

struct build {
    const struct training_rows *in;
    uint32_t *row_order;       /* [n_rows] rank -> row */
    uint32_t *row_rank;        /* [n_rows] row -> rank */
    uint32_t *annotator_order; /* [n_annotators] rank -> annotator */
    uint32_t *annotator_rank;
    uint32_t *annotator_index; /* [n_annotators] rank -> index in the model, or UINT32_MAX */
    struct ranked *labels;     /* sorted, one per pair */
    size_t n_labels;
    size_t *first_label; /* [n_rows + 1] by rank */
    struct training_set set;
};

static int by_row_name(const void *a, const void *b, void *context)
{
    const struct training_row *rows = context;

    return strcmp(rows[*(const uint32_t *)a].name, rows[*(const uint32_t *)b].name);
}

static int by_annotator_name(const void *a, const void *b, void *context)
{
    const char *const *names = context;

    return strcmp(names[*(const uint32_t *)a], names[*(const uint32_t *)b]);
}

static int by_rank(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;

    if (x->row != y->row)
        return x->row < y->row ? -1 : 1;
    if (x->annotator != y->annotator)
        return x->annotator < y->annotator ? -1 : 1;
    return x->arrival < y->arrival ? -1 : x->arrival > y->arrival;
}

uint32_t fold_of(const char *name, uint64_t seed, int folds)
{
    uint8_t bytes[DIGEST_BYTES];
    struct digest digest;
    uint64_t number = 0;

    digest_init(&digest);
    digest_add_u64(&digest, seed);
    digest_add(&digest, name, strlen(name));
    digest_finish(&digest, bytes);
    for (int i = 7; i >= 0; i--)
        number = number << 8 | bytes[i];
    return (uint32_t)(number % (uint64_t)folds);
}

/* n + 1 elements, so that 0 rows need no special case. */
static void *array(size_t n, size_t size)
{
    size_t bytes;

    return size_add(&n, n, 1) && size_mul(&bytes, n, size) ? calloc(1, bytes) : NULL;
}

static bool rank_names(struct build *b)
{
    const struct training_rows *in = b->in;

    b->row_order = array(in->n_rows, sizeof *b->row_order);
    b->row_rank = array(in->n_rows, sizeof *b->row_rank);
    b->annotator_order = array(in->n_annotators, sizeof *b->annotator_order);
    b->annotator_rank = array(in->n_annotators, sizeof *b->annotator_rank);
    b->annotator_index = array(in->n_annotators, sizeof *b->annotator_index);
    if (b->row_order == NULL || b->row_rank == NULL || b->annotator_order == NULL || b->annotator_rank == NULL ||
        b->annotator_index == NULL)
        return false;
    for (size_t i = 0; i < in->n_rows; i++)
        b->row_order[i] = (uint32_t)i;
    qsort_r(b->row_order, in->n_rows, sizeof *b->row_order, by_row_name, (void *)(uintptr_t)in->rows);
    for (size_t i = 0; i < in->n_rows; i++)
        b->row_rank[b->row_order[i]] = (uint32_t)i;
    for (size_t a = 0; a < in->n_annotators; a++)
        b->annotator_order[a] = (uint32_t)a;
    qsort_r(b->annotator_order, in->n_annotators, sizeof *b->annotator_order, by_annotator_name,
            (void *)(uintptr_t)in->annotators);
    for (size_t a = 0; a < in->n_annotators; a++)
        b->annotator_rank[b->annotator_order[a]] = (uint32_t)a;
    return true;
}

static bool sort_labels(struct build *b)
{
    const struct training_rows *in = b->in;
    size_t kept = 0;

    b->labels = array(in->n_labels, sizeof *b->labels);
    b->first_label = array(in->n_rows, sizeof *b->first_label);
    if (b->labels == NULL || b->first_label == NULL)
        return false;
    for (size_t l = 0; l < in->n_labels; l++) {
        const struct training_label *label = &in->labels[l];

        b->labels[l] =
            (struct ranked){b->row_rank[label->row], b->annotator_rank[label->annotator], label->class_, (uint32_t)l};
    }
    qsort(b->labels, in->n_labels, sizeof *b->labels, by_rank);
    /* Of one pair the last to arrive counts. */
    for (size_t l = 0; l < in->n_labels; l++) {
        if (kept > 0 && b->labels[kept - 1].row == b->labels[l].row &&
            b->labels[kept - 1].annotator == b->labels[l].annotator)
            kept--;
        b->labels[kept++] = b->labels[l];
    }
    b->n_labels = kept;
    for (size_t r = 0, l = 0; r <= in->n_rows; r++) {
        while (l < kept && b->labels[l].row < r)
            l++;
        b->first_label[r] = l;
    }
    return true;
}

static const struct training_row *row_at(const struct build *b, size_t rank)
{
    return &b->in->rows[b->row_order[rank]];
}

static bool is_trained_on(const struct build *b, size_t rank)
{
    const struct training_row *row = row_at(b, rank);

    return row->split == SPLIT_TRAIN && row->feature_row != SIZE_MAX && b->first_label[rank + 1] > b->first_label[rank];
}

static bool is_held(const struct build *b, size_t rank, enum split split)
{
    const struct training_row *row = row_at(b, rank);

    return row->split == split && row->feature_row != SIZE_MAX &&
           (row->gold >= 0 || b->first_label[rank + 1] > b->first_label[rank]);
}

/* Sizes, and which annotators take part. */
static void count(struct build *b)
{
    struct training_set *set = &b->set;

    set->n_features = b->in->n_features;
    set->n_classes = b->in->n_classes;
    set->n_labels_total = b->n_labels;
    for (size_t a = 0; a < b->in->n_annotators; a++)
        b->annotator_index[a] = UINT32_MAX;
    for (size_t r = 0; r < b->in->n_rows; r++) {
        size_t n = b->first_label[r + 1] - b->first_label[r];

        if (is_trained_on(b, r)) {
            set->n_instances++;
            set->n_labels += n;
            for (size_t l = b->first_label[r]; l < b->first_label[r + 1]; l++)
                b->annotator_index[b->labels[l].annotator] = 0;
        } else if (is_held(b, r, SPLIT_VALID) || is_held(b, r, SPLIT_TEST)) {
            set->n_held++;
            set->n_held_labels += n;
        } else if (row_at(b, r)->split == SPLIT_TRAIN && n > 0) {
            set->n_awaiting++;
        }
    }
    for (size_t a = 0; a < b->in->n_annotators; a++) {
        if (b->annotator_index[a] == 0)
            b->annotator_index[a] = (uint32_t)set->n_annotators++;
    }
}

static bool allocate(struct build *b)
{
    struct training_set *set = &b->set;
    size_t floats, held_floats, bytes = 0, D = set->n_features;
    const struct training_rows *in = b->in;

    if (!size_mul(&floats, set->n_instances, D) || !size_mul(&held_floats, set->n_held, D))
        return false;
    for (size_t i = 0; i < in->n_rows; i++)
        bytes += strlen(in->rows[i].name) + 1;
    for (size_t a = 0; a < in->n_annotators; a++)
        bytes += strlen(in->annotators[a]) + 1;
    for (size_t k = 0; k < in->n_classes; k++)
        bytes += strlen(in->classes[k]) + 1;
    set->memory = array(bytes, 1);
    set->features = array(floats, sizeof *set->features);
    set->instance_names = array(set->n_instances, sizeof *set->instance_names);
    set->instance_gold = array(set->n_instances, sizeof *set->instance_gold);
    set->label_instance = array(set->n_labels, sizeof *set->label_instance);
    set->label_annotator = array(set->n_labels, sizeof *set->label_annotator);
    set->label_class = array(set->n_labels, sizeof *set->label_class);
    set->annotator_names = array(set->n_annotators, sizeof *set->annotator_names);
    set->class_names = array(set->n_classes, sizeof *set->class_names);
    set->held_features = array(held_floats, sizeof *set->held_features);
    set->held_split = array(set->n_held, sizeof *set->held_split);
    set->held_gold = array(set->n_held, sizeof *set->held_gold);
    set->held_label_held = array(set->n_held_labels, sizeof *set->held_label_held);
    set->held_label_annotator = array(set->n_held_labels, sizeof *set->held_label_annotator);
    set->held_label_class = array(set->n_held_labels, sizeof *set->held_label_class);
    return set->memory != NULL && set->features != NULL && set->instance_names != NULL && set->instance_gold != NULL &&
           set->label_instance != NULL && set->label_annotator != NULL && set->label_class != NULL &&
           set->annotator_names != NULL && set->class_names != NULL && set->held_features != NULL &&
           set->held_split != NULL && set->held_gold != NULL && set->held_label_held != NULL &&
           set->held_label_annotator != NULL && set->held_label_class != NULL;
}

static char *keep(char **end, const char *name)
{
    size_t n = strlen(name) + 1;
    char *copy = *end;

    memcpy(copy, name, n);
    *end += n;
    return copy;
}

static void fill_names(struct build *b, char **end)
{
    const struct training_rows *in = b->in;

    for (size_t k = 0; k < in->n_classes; k++)
        b->set.class_names[k] = keep(end, in->classes[k]);
    for (size_t a = 0; a < in->n_annotators; a++) {
        if (b->annotator_index[a] != UINT32_MAX)
            b->set.annotator_names[b->annotator_index[a]] = keep(end, in->annotators[b->annotator_order[a]]);
    }
}

static void fill_training(struct build *b, char **end)
{
    struct training_set *set = &b->set;
    const size_t D = set->n_features;
    size_t i = 0, out = 0;

    for (size_t r = 0; r < b->in->n_rows; r++) {
        const struct training_row *row = row_at(b, r);

        if (!is_trained_on(b, r))
            continue;
        set->instance_names[i] = keep(end, row->name);
        set->instance_gold[i] = row->gold;
        memcpy(set->features + i * D, b->in->features + row->feature_row * D, D * sizeof(float));
        for (size_t l = b->first_label[r]; l < b->first_label[r + 1]; l++, out++) {
            set->label_instance[out] = (uint32_t)i;
            set->label_annotator[out] = b->annotator_index[b->labels[l].annotator];
            set->label_class[out] = b->labels[l].class_;
        }
        i++;
    }
}

static void fill_held(struct build *b)
{
    struct training_set *set = &b->set;
    const size_t D = set->n_features;
    size_t i = 0, out = 0;

    for (int split = SPLIT_VALID; split <= SPLIT_TEST; split++) {
        for (size_t r = 0; r < b->in->n_rows; r++) {
            const struct training_row *row = row_at(b, r);

            if (!is_held(b, r, (enum split)split))
                continue;
            set->held_split[i] = (int8_t)split;
            set->held_gold[i] = row->gold;
            memcpy(set->held_features + i * D, b->in->features + row->feature_row * D, D * sizeof(float));
            for (size_t l = b->first_label[r]; l < b->first_label[r + 1]; l++, out++) {
                set->held_label_held[out] = (uint32_t)i;
                set->held_label_annotator[out] = b->annotator_index[b->labels[l].annotator];
                set->held_label_class[out] = b->labels[l].class_;
            }
            i++;
        }
    }
}

enum amx_status training_data_build(const struct training_rows *rows, struct training_data *out, struct amx_error *err)
{
    struct build b = {.in = rows};
    bool ok = rows->n_labels < UINT32_MAX && rows->n_rows < UINT32_MAX && rank_names(&b) && sort_labels(&b);

    if (ok) {
        count(&b);
        ok = allocate(&b);
    }
    if (ok) {
        char *end = b.set.memory;

        fill_names(&b, &end);
        fill_training(&b, &end);
        fill_held(&b);
    }
    free(b.first_label);
    free(b.labels);
    free(b.annotator_index);
    free(b.annotator_rank);
    free(b.annotator_order);
    free(b.row_rank);
    free(b.row_order);
    memset(out, 0, sizeof *out);
    out->built = true;
    out->set = b.set;
    if (!ok) {
        training_data_done(out);
        return error_set(err, AMX_NO_MEMORY, "Out of memory.");
    }
    training_data_view(out);
    return AMX_OK;
}
