/* consensus_items.c - see consensus_items.h.
 *
 * With a model: posterior proportional to p(k | x) times prod P(z | x, a, k) over the labels (crowd/consensus.h), by the
 * members that never saw the instance's labels when the model has folds: the fold follows from the instance's name. The
 * matrices P(. | x, a, .) are C x C per label, so a block is computed in runs of instances whose labels together need
 * at most PAIR_NUMBERS numbers. An instance without features cannot be asked of the model: it gets its votes, and says
 * so by its basis. Classes appended after the model was made are unknown to it: labels of them count as votes only.
 */
#include "endpoints/derived/consensus_items.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "crowd/aggregate/majority.h"
#include "crowd/folded.h"
#include "endpoints/derived/answers.h"
#include "store/labels.h"
#include "util/error.h"
#include "util/jsonx.h"
#include "util/numbers.h"
#include "util/size.h"
#include "work/runs/label_model.h"
#include "work/runs/training_data.h"

enum {
    PAIR_NUMBERS = 8 << 20,
    NAMES_MAX_BYTES = 64 << 20,
    ITEM_BYTES = 1500,
    NUMBER_BYTES = 14
};
#define NO_WHY SIZE_MAX

static void *array(size_t n, size_t item)
{
    size_t bytes;
    return size_mul(&bytes, n > 0 ? n : 1, item) ? malloc(bytes) : NULL;
}

enum amx_status consensus_items_init(struct consensus_items *c, struct amx_error *err)
{
    size_t numbers;
    c->n_classes = c->snapshot != NULL ? c->snapshot->info.n_classes : c->project->n_classes;
    c->block = instance_batch_size(c->project->feature_dim, c->n_classes * NUMBER_BYTES + ITEM_BYTES);
    instance_batch_init(&c->batch, c->project->feature_dim);
    buf_init(&c->names, NAMES_MAX_BYTES);
    if (size_mul(&numbers, c->block, c->n_classes)) {
        c->items = array(c->block, sizeof *c->items);
        c->p_class = array(numbers, sizeof *c->p_class);
        c->posterior = array(numbers, sizeof *c->posterior);
        c->fold = array(c->block, sizeof *c->fold);
    }
    if (c->items == NULL || c->fold == NULL || c->p_class == NULL || c->posterior == NULL) {
        return error_set(err, AMX_NO_MEMORY, "Out of memory.");
    }
    return AMX_OK;
}

void consensus_items_done(struct consensus_items *c)
{
    instance_batch_done(&c->batch);
    buf_done(&c->names);
    free(c->items);
    free(c->labels);
    free(c->fold);
    free(c->p_class);
    free(c->posterior);
    free(c->why);
}

void consensus_items_use(struct consensus_items *c, const struct model_snapshot *snapshot)
{
    c->snapshot = snapshot;
    if (snapshot != NULL && snapshot->labels != NULL) {
        const struct label_model *labels = snapshot->labels;
        c->made = (struct consensus_made){labels->n_instances, labels->n_classes, labels->instance_ids,
                                          labels->posterior, CONSENSUS_LABELS_ONLY};
    }
}

bool consensus_items_pass(const struct consensus_items *c, size_t i, int resolved, int disputed, double min_confidence)
{
    const struct consensus_item *item = &c->items[i];
    if (resolved >= 0 && (!item->state.known || item->state.resolved != (resolved == 1))) {
        return false;
    }
    if (disputed >= 0 && (!item->state.known || item->state.disputed != (disputed == 1))) {
        return false;
    }
    return min_confidence <= 0 || item->confidence >= min_confidence; /* false for NaN */
}

/* ---- labels
 * ---------------------------------------------------------------------------------------------------------- */

static enum amx_status take_label(void *context, const struct label_row *row)
{
    struct consensus_items *c = context;
    if (row->class_index < 0 || (size_t)row->class_index >= c->project->n_classes) {
        return AMX_OK; /* skipped, or of a class appended since the project was looked up */
    }
    if (c->n_labels == c->labels_room) {
        size_t room = c->labels_room > 0 ? c->labels_room : 256, bytes;
        if ((c->labels_room > 0 && !size_mul(&room, room, 2)) || !size_mul(&bytes, room, sizeof *c->labels)) {
            return AMX_NO_MEMORY;
        }
        struct consensus_label *moved = realloc(c->labels, bytes);
        if (moved == NULL) {
            return AMX_NO_MEMORY;
        }
        c->labels = moved;
        c->labels_room = room;
    }
    struct consensus_label *label = &c->labels[c->n_labels];
    label->class_ = (uint32_t)row->class_index;
    label->name = c->names.n;
    label->annotator =
        c->snapshot != NULL ? snapshot_annotator(c->snapshot, row->annotator.bytes, row->annotator.n) : AMX_UNSEEN;
    (void)buf_append(&c->names, row->annotator.bytes, row->annotator.n);
    if (buf_char(&c->names, '\0') != AMX_OK) {
        return c->names.status;
    }
    c->n_labels++;
    return AMX_OK;
}

static enum amx_status read_labels(struct consensus_items *c, struct db *db, struct amx_error *err)
{
    c->n_labels = 0;
    buf_clear(&c->names);
    for (size_t i = 0; i < c->batch.n; i++) {
        struct consensus_item *item = &c->items[i];
        *item = (struct consensus_item){.first = c->n_labels, .why = NO_WHY};
        enum amx_status status = labels_of_instance(db, c->project->id, c->batch.rows[i].id, take_label, c, err);
        if (status != AMX_OK) {
            return status;
        }
        item->n_labels = c->n_labels - item->first;
    }
    return AMX_OK;
}

int consensus_fold(const struct model_snapshot *snapshot, const struct instance_batch *batch, size_t i)
{
    int folds = snapshot->info.folds;
    if (folds < 2 || !batch->rows[i].was_train) {
        return AMX_NO_FOLD;
    }
    return (int)fold_of(instance_batch_name(batch, i), snapshot->info.seed, folds);
}

/* ---- labels alone
 * ---------------------------------------------------------------------------------------------------- */

/* Votes of one instance into counts [project's C]; the winner, or CROWD_NO_CLASS. */
static uint32_t vote(const struct consensus_items *c, const struct consensus_item *item, uint32_t *counts)
{
    uint32_t best = 0;
    if (item->n_labels == 0) {
        return CROWD_NO_CLASS;
    }
    memset(counts, 0, c->project->n_classes * sizeof *counts);
    for (size_t l = 0; l < item->n_labels; l++) {
        counts[c->labels[item->first + l].class_]++;
    }
    for (uint32_t k = 1; k < c->project->n_classes; k++) {
        if (counts[k] > counts[best]) {
            best = k;
        }
    }
    return best;
}

static void by_votes(struct consensus_items *c, size_t i, const uint32_t *counts)
{
    struct consensus_item *item = &c->items[i];
    double *posterior = c->posterior + i * c->n_classes;
    item->basis = CONSENSUS_LABELS_ONLY;
    item->class_ = item->majority;
    item->confidence = (double)NAN;
    if (item->n_labels > 0) {
        for (size_t k = 0; k < c->n_classes; k++) {
            posterior[k] = (double)counts[k] / (double)item->n_labels;
        }
        item->confidence = (double)counts[item->class_] / (double)item->n_labels;
    }
}

static size_t find_made(const struct consensus_made *made, int64_t id)
{
    size_t low = 0, high = made->n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (made->instance_ids[middle] < id) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < made->n && made->instance_ids[low] == id ? low : SIZE_MAX;
}

/* False: the posterior made before says nothing of this instance. */
static bool by_made(struct consensus_items *c, size_t i)
{
    const struct consensus_made *made = &c->made;
    struct consensus_item *item = &c->items[i];
    double *posterior = c->posterior + i * c->n_classes;
    size_t at = find_made(made, c->batch.rows[i].id), best = 0;
    if (at == SIZE_MAX || made->n_classes > c->n_classes) {
        return false;
    }
    for (size_t k = 0; k < c->n_classes; k++) { /* classes appended since have no part in it */
        posterior[k] = k < made->n_classes ? (double)made->posterior[at * made->n_classes + k] : 0;
        if (posterior[k] > posterior[best]) {
            best = k;
        }
    }
    item->basis = made->basis;
    item->class_ = (uint32_t)best;
    item->confidence = posterior[best];
    return true;
}

/* ---- the model
 * ------------------------------------------------------------------------------------------------------- */

static bool known_to_model(const struct consensus_items *c, const struct consensus_label *label)
{
    return label->class_ < c->n_classes;
}

/* Arrays for one run of instances. */
struct run {
    size_t begin, end; /* of the batch */
    size_t n_pairs;
    uint32_t *row, *annotator, *class_; /* [n_pairs] */
    float *confusion;                   /* [n_pairs][C][C] */
};

static void run_done(struct run *r)
{
    free(r->row);
    free(r->annotator);
    free(r->class_);
    free(r->confusion);
}

/* As many instances from r->begin as fit. AMX_TOO_LARGE when not even one does. */
static enum amx_status plan(const struct consensus_items *c, struct run *r, struct amx_error *err)
{
    size_t per_pair = c->n_classes * c->n_classes; /* <= 10^6 */
    r->end = r->begin;
    r->n_pairs = 0;
    while (r->end < c->batch.n && (r->n_pairs + c->items[r->end].n_labels) * per_pair <= PAIR_NUMBERS) {
        r->n_pairs += c->items[r->end++].n_labels;
    }
    if (r->end == r->begin) {
        return error_set(err, AMX_TOO_LARGE, "An instance has %zu labels of %zu classes: too much for one answer.",
                         c->items[r->begin].n_labels, c->n_classes);
    }
    r->row = array(r->n_pairs, sizeof *r->row);
    r->annotator = array(r->n_pairs, sizeof *r->annotator);
    r->class_ = array(r->n_pairs, sizeof *r->class_);
    r->confusion = array(r->n_pairs * per_pair, sizeof *r->confusion);
    if (r->row == NULL || r->annotator == NULL || r->class_ == NULL || r->confusion == NULL) {
        return error_set(err, AMX_NO_MEMORY, "Out of memory.");
    }
    return AMX_OK;
}

static void posterior_of(struct consensus_items *c, size_t i, const struct run *r, size_t first_pair, size_t n_pairs,
                         double *scratch)
{
    struct consensus_item *item = &c->items[i];
    size_t n_classes = c->n_classes, pair = 0;
    double *posterior = c->posterior + i * n_classes;
    item->basis = c->snapshot->info.folds >= 2 ? CONSENSUS_OUT_OF_FOLD : CONSENSUS_IN_SAMPLE;
    item->why = item->first + i; /* one more than its labels for every instance before */
    item->class_ = consensus_posterior(c->p_class + i * n_classes, r->confusion + first_pair * n_classes * n_classes,
                                       r->class_ + first_pair, n_pairs, n_classes, posterior, scratch,
                                       &c->why[item->why + item->n_labels]);
    item->confidence = posterior[item->class_];
    for (size_t l = 0; l < item->n_labels; l++) {
        bool known = known_to_model(c, &c->labels[item->first + l]);
        c->why[item->why + l] = known ? scratch[pair++] : (double)NAN;
    }
}

static enum amx_status compute_run(struct consensus_items *c, struct run *r, struct amx_error *err)
{
    size_t n = 0;
    enum amx_status status = plan(c, r, err);
    if (status != AMX_OK) {
        return status;
    }
    for (size_t i = r->begin; i < r->end; i++) {
        c->fold[i] = consensus_fold(c->snapshot, &c->batch, i);
        for (size_t l = 0; l < c->items[i].n_labels; l++) {
            const struct consensus_label *label = &c->labels[c->items[i].first + l];
            if (c->batch.rows[i].has_features && known_to_model(c, label)) {
                r->row[n] = (uint32_t)(i - r->begin);
                r->annotator[n] = label->annotator;
                r->class_[n++] = label->class_;
            }
        }
    }
    const struct amx_pairs_prediction out = {.p_class = c->p_class + r->begin * c->n_classes,
                                             .p_confusion = r->confusion};
    status =
        folded_predict_pairs(c->snapshot->model, c->fold + r->begin, c->batch.features + r->begin * c->batch.n_features,
                             r->end - r->begin, r->row, r->annotator, n, &out, err);
    double *scratch = status == AMX_OK ? array(n, sizeof *scratch) : NULL;
    if (status == AMX_OK && scratch == NULL) {
        status = error_set(err, AMX_NO_MEMORY, "Out of memory.");
    }
    for (size_t i = r->begin, pair = 0; status == AMX_OK && i < r->end; i++) {
        size_t first = pair;
        while (pair < n && r->row[pair] == i - r->begin) {
            pair++;
        }
        if (c->batch.rows[i].has_features) {
            posterior_of(c, i, r, first, pair - first, scratch);
        }
    }
    free(scratch);
    return status;
}

static enum amx_status by_model(struct consensus_items *c, struct amx_error *err)
{
    enum amx_status status = AMX_OK;
    free(c->why);
    c->why = array(c->n_labels + c->batch.n, sizeof *c->why);
    if (c->why == NULL) {
        return error_set(err, AMX_NO_MEMORY, "Out of memory.");
    }
    for (size_t begin = 0; status == AMX_OK && begin < c->batch.n;) {
        struct run r = {.begin = begin};
        status = compute_run(c, &r, err);
        begin = r.end;
        run_done(&r);
    }
    return status;
}

/* ---- all of it
 * ------------------------------------------------------------------------------------------------------- */

static size_t different(const struct consensus_items *c, const uint32_t *counts)
{
    size_t n = 0;
    for (size_t k = 0; k < c->project->n_classes; k++) {
        n += counts[k] > 0;
    }
    return n;
}

enum amx_status consensus_items_compute(struct consensus_items *c, struct db *db, struct amx_error *err)
{
    uint32_t *counts = array(c->project->n_classes, sizeof *counts);
    enum amx_status status = counts == NULL ? error_set(err, AMX_NO_MEMORY, "Out of memory.") : read_labels(c, db, err);
    if (status == AMX_OK && c->snapshot != NULL && c->snapshot->model != NULL) {
        status = by_model(c, err);
    }
    for (size_t i = 0; status == AMX_OK && i < c->batch.n; i++) {
        struct consensus_item *item = &c->items[i];
        const struct project_settings *settings = &c->project->settings;
        item->majority = vote(c, item, counts);
        if (item->why == NO_WHY && !by_made(c, i)) {
            by_votes(c, i, counts);
        }
        item->state = consensus_settle(item->basis, c->may_gold && c->batch.rows[i].has_gold,
                                       isfinite(item->confidence) ? item->confidence : 0, item->n_labels,
                                       item->n_labels > 0 ? different(c, counts) : 0, settings->resolve_threshold,
                                       (size_t)settings->overlap);
    }
    free(counts);
    return status;
}

/* ---- writing
 * --------------------------------------------------------------------------------------------------------- */

static void write_number(struct buf *out, double value)
{
    char text[NUMBER_TEXT_BYTES];
    size_t n = number_double_text(value, text);
    if (n == 0) {
        (void)buf_text(out, "null");
    } else {
        (void)buf_append(out, text, n);
    }
}

static void write_class(struct buf *out, const struct consensus_items *c, uint32_t class_)
{
    if (class_ == CROWD_NO_CLASS) {
        (void)buf_text(out, "null");
    } else {
        (void)jsonx_write_string(out, c->project->classes[class_], strlen(c->project->classes[class_]));
    }
}

static void write_why(struct buf *out, const struct consensus_items *c, const struct consensus_item *item)
{
    (void)buf_char(out, '[');
    for (size_t l = 0; l < item->n_labels; l++) {
        const struct consensus_label *label = &c->labels[item->first + l];
        const char *name = c->names.bytes + label->name;
        (void)buf_text(out, "{\"annotator\":");
        (void)jsonx_write_string(out, name, strlen(name));
        (void)buf_text(out, ",\"class\":");
        write_class(out, c, label->class_);
        (void)buf_text(out, ",\"log_likelihood_ratio\":");
        write_number(out, c->why[item->why + l]);
        (void)buf_text(out, "},");
    }
    (void)buf_text(out, "{\"model\":true,\"log_likelihood_ratio\":");
    write_number(out, c->why[item->why + item->n_labels]);
    (void)buf_text(out, "}]");
}

void consensus_items_write_json(const struct consensus_items *c, size_t i, struct buf *out)
{
    const struct consensus_item *item = &c->items[i];
    (void)buf_text(out, "{\"instance\":");
    (void)jsonx_write_string(out, instance_batch_name(&c->batch, i), c->batch.rows[i].n_name);
    (void)buf_text(out, ",\"class\":");
    write_class(out, c, item->class_);
    (void)buf_text(out, ",\"confidence\":");
    write_number(out, item->confidence);
    (void)buf_text(out, ",\"posterior\":");
    if (isfinite(item->confidence)) {
        (void)buf_char(out, '[');
        for (size_t k = 0; k < c->n_classes; k++) {
            (void)buf_text(out, k > 0 ? "," : "");
            write_number(out, c->posterior[i * c->n_classes + k]);
        }
        (void)buf_char(out, ']');
    } else {
        (void)buf_text(out, "null");
    }
    (void)buf_printf(out, ",\"basis\":\"%s\",\"labels\":%zu,\"majority\":", consensus_basis_name(item->basis),
                     item->n_labels);
    write_class(out, c, item->majority);
    (void)buf_printf(out, ",\"resolved\":%s,\"disputed\":%s,\"why\":",
                     !item->state.known     ? "null"
                     : item->state.resolved ? "true"
                                            : "false",
                     !item->state.known     ? "null"
                     : item->state.disputed ? "true"
                                            : "false");
    if (item->why == NO_WHY) {
        (void)buf_text(out, "null");
    } else {
        write_why(out, c, item);
    }
    (void)buf_char(out, '}');
}

void consensus_items_write_csv(const struct consensus_items *c, size_t i, struct buf *out)
{
    const struct consensus_item *item = &c->items[i];
    char number[NUMBER_TEXT_BYTES];
    answers_csv_name(out, instance_batch_name(&c->batch, i), c->batch.rows[i].n_name);
    (void)buf_char(out, ',');
    if (item->class_ != CROWD_NO_CLASS) {
        answers_csv_name(out, c->project->classes[item->class_], strlen(c->project->classes[item->class_]));
    }
    (void)buf_char(out, ',');
    (void)buf_append(out, number, number_double_text(item->confidence, number));
    (void)buf_text(out, "\r\n");
}
