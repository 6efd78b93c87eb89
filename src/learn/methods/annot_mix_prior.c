/* annot_mix_prior.c - annot-mix on top of a prior confusion matrix per annotator.
 *
 * The confusion logits get the constant row of the annotator (mixed annotators: the lambda-weighted sum of two) from a
 * table B that is not trained: the logarithm of a smoothed confusion matrix counted from a posterior over the true
 * class of every training row. What the network learns is then the difference, so few labels already tell a good
 * annotator from a bad one. The output layer's bias starts at 0, there is no eta.
 *
 * The posterior is EM on the labels alone (`prior: dawid_skene`), or comes with the member from fits of annot_mix
 * before (`prior: consensus`; consensus_prior.c), unless there were too few rows for those. */
#include <stdlib.h>

#include "../label_posterior.h"
#include "annot_mix.h"

extern const struct amx_method method_annot_mix_prior;

static bool layout(struct layout *out, const struct dims *dims)
{
    return annot_mix_layout(out, dims, true);
}

/* B [A + 1][C C] from tables with the label first. */
static void fill_prior(float *prior, const double *table, const double *population, size_t A, size_t C)
{
    for (size_t a = 0; a <= A; a++) {
        const double *from = a < A ? table + a * C * C : population;
        for (size_t i = 0; i < C * C; i++)
            prior[a * C * C + i] = (float)from[i % C * C + i / C];
    }
}

static enum amx_status initial(const struct layout *layout_of, const struct dims *dims,
                               const struct amx_settings *settings, const struct member_data *member, float *compact,
                               struct rng *rng)
{
    const size_t C = dims->C;
    double *table = malloc((dims->A + 1) * C * C * sizeof *table); /* fits: B has as many floats, twice over */
    double *work = malloc(matrices_work(C) * sizeof *work);
    float *posterior = calloc(dims->N + 1, C * sizeof *posterior);
    enum amx_status status = AMX_NO_MEMORY;

    if (table != NULL && work != NULL && posterior != NULL) {
        double *population = table + dims->A * C * C;
        status = annot_mix_initial(layout_of, dims, settings, member, compact, rng);
        constant_initial(layout_of, layout_find(layout_of, "ap_out.bias"), compact, 0.0f);
        if (member->posterior != NULL)
            matrices_smoothed(member, member->posterior, settings->prior_strength, table, population, work);
        else
            status = matrices_dawid_skene(member, posterior, settings->prior_strength, table, population, work);
    }
    if (status == AMX_OK)
        fill_prior(compact + layout_of->tensor[layout_find(layout_of, ANNOT_MIX_PRIOR_TENSOR)].compact, table,
                   table + dims->A * C * C, dims->A, C);
    free(posterior);
    free(work);
    free(table);
    return status;
}

static const char *const OWN_SETTINGS[] = {"alpha",
                                           "annotator_embedding",
                                           "annotator_learning_rate",
                                           "annotator_weight_decay",
                                           "mix_only_annotators",
                                           "prior",
                                           "prior_strength",
                                           NULL};

const struct amx_method method_annot_mix_prior = {
    .info = {.name = "annot_mix_prior",
             .title = "annot-mix with a prior",
             .source = "annotmixd; annot-mix (ECAI 2024) over Dawid and Skene (Applied Statistics 1979)",
             .help = "annot-mix that starts from each annotator's confusion matrix as the labels alone tell it."},
    .own_settings = OWN_SETTINGS,
    .layout = layout,
    .initial = initial,
    .state_bytes = sizeof(struct annot_mix_state),
    .lay_out = annot_mix_lay_out,
    .bind = annot_mix_bind,
    .scratch_bytes = label_posterior_bytes,
    .draw = annot_mix_draw,
    .step = annot_mix_step,
    .predictor_new = annot_mix_predictor_new,
    .predictor_free = annot_mix_predictor_free,
    .predictor_bytes = annot_mix_predictor_bytes,
    .row_width = annot_mix_row_width,
    .rows = annot_mix_rows,
    .pair_scratch = annot_mix_pair_scratch,
    .pairs = annot_mix_pairs,
};
