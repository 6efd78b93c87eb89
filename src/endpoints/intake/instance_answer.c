/* instance_answer.c - an instance as clients see it (instance_answer.h). */
#include "endpoints/intake/instance_answer.h"

#include <stdlib.h>
#include <string.h>

#include "endpoints/derived/answers.h"
#include "store/labels.h"
#include "util/clock.h"
#include "util/error.h"
#include "util/jsonx.h"

/* ---- votes ---- */

struct tally {
    uint32_t *votes; /* [C] */
    size_t n_classes;
    int64_t labels, skipped;
};

static enum amx_status count_label(void *context, const struct label_row *row)
{
    struct tally *t = context;
    t->labels++;
    if (row->class_index < 0 || (size_t)row->class_index >= t->n_classes)
        t->skipped++;
    else
        t->votes[row->class_index]++;
    return AMX_OK;
}

enum amx_status instance_votes(struct db *db, const struct project_info *project, const struct instance_row *row,
                               struct instance_votes *out, struct amx_error *err)
{
    /* One class more than there is room for in the snapshot may have been appended meanwhile; count_label guards. */
    struct tally t = {.votes = calloc(project->n_classes, sizeof *t.votes), .n_classes = project->n_classes};
    if (t.votes == NULL)
        return error_set(err, AMX_NO_MEMORY, "out of memory");
    enum amx_status status = labels_of_instance(db, project->id, row->id, count_label, &t, err);
    if (status == AMX_OK) {
        uint32_t most = 0;
        size_t classes = 0;
        for (size_t k = 0; k < t.n_classes; k++) {
            most = t.votes[k] > most ? t.votes[k] : most;
            classes += t.votes[k] > 0;
        }
        int64_t n = t.labels - t.skipped;
        bool sure =
            n > 0 && n >= project->settings.overlap && (double)most / (double)n >= project->settings.resolve_threshold;
        *out = (struct instance_votes){.labels = t.labels, .skipped = t.skipped};
        out->resolved = row->gold_class >= 0 || sure;
        out->disputed = !out->resolved && classes >= 2;
    }
    free(t.votes);
    return status;
}

/* ---- text ---- */

static void write_class(struct buf *out, const struct project_info *project, int index)
{
    if (index < 0 || (size_t)index >= project->n_classes)
        buf_text(out, "null");
    else
        jsonx_write_string(out, project->classes[index], strlen(project->classes[index]));
}

static void write_time(struct buf *out, int64_t ms)
{
    char text[CLOCK_TEXT_BYTES];
    buf_printf(out, "\"%s\"", clock_text(ms, text));
}

/* All but the closing brace. */
static void write_head(struct buf *out, const struct instance_view *view, const struct instance_row *row)
{
    bool awaiting = view->project->feature_dim > 0 && !row->has_features;
    buf_text(out, "{\"id\":");
    jsonx_write_string(out, row->name.bytes, row->name.n);
    buf_printf(out, ",\"split\":\"%s\",\"awaiting_features\":%s,\"labelled\":%s,\"metadata\":", split_name(row->split),
               awaiting ? "true" : "false", row->labelled ? "true" : "false");
    if (row->metadata.bytes != NULL)
        buf_append(out, row->metadata.bytes, row->metadata.n);
    else
        buf_text(out, "null");
    if (view->gold) {
        buf_text(out, ",\"gold\":");
        write_class(out, view->project, row->gold_class);
    }
    if (view->features) {
        buf_text(out, ",\"features\":");
        if (row->features != NULL)
            answers_floats_write(out, row->features, row->n_features);
        else
            buf_text(out, "null");
    }
    buf_text(out, ",\"created_at\":");
    write_time(out, row->created_ms);
}

void instance_write_summary(struct buf *out, const struct instance_view *view, const struct instance_row *row)
{
    write_head(out, view, row);
    buf_char(out, '}');
}

struct writing {
    struct buf *out;
    const struct project_info *project;
    int64_t labels, skipped;
};

static enum amx_status write_label(void *context, const struct label_row *row)
{
    struct writing *w = context;
    struct buf *out = w->out;
    buf_text(out, w->labels > 0 ? ",{\"annotator\":" : "{\"annotator\":");
    jsonx_write_string(out, row->annotator.bytes, row->annotator.n);
    buf_text(out, ",\"class\":");
    write_class(out, w->project, row->class_index);
    buf_text(out, ",\"ref\":");
    if (row->ref.bytes != NULL)
        jsonx_write_string(out, row->ref.bytes, row->ref.n);
    else
        buf_text(out, "null");
    buf_text(out, ",\"given_at\":");
    write_time(out, row->given_ms);
    if (row->duration_ms >= 0)
        buf_printf(out, ",\"duration_ms\":%lld", (long long)row->duration_ms);
    else
        buf_text(out, ",\"duration_ms\":null");
    buf_printf(out, ",\"seq\":%lld,\"skipped\":%s}", (long long)row->seq, row->skipped ? "true" : "false");
    w->labels++;
    w->skipped += row->skipped;
    return out->status;
}

enum amx_status instance_write_one(struct buf *out, struct db *db, const struct instance_view *view,
                                   const struct instance_row *row, struct amx_error *err)
{
    struct writing w = {.out = out, .project = view->project};
    write_head(out, view, row);
    buf_text(out, ",\"labels\":[");
    enum amx_status status = labels_of_instance(db, view->project->id, row->id, write_label, &w, err);
    if (status != AMX_OK)
        return status;
    buf_printf(out, "],\"counts\":{\"labels\":%lld,\"skipped\":%lld}}", (long long)w.labels, (long long)w.skipped);
    return out->status == AMX_OK ? AMX_OK : error_set(err, AMX_NO_MEMORY, "out of memory");
}
