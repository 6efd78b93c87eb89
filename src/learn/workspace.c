/* workspace.c - one function lays out everything a training run touches; run without memory it is the estimate, run
 * with memory it hands out the pointers. No step allocates. The block is zeroed once: pads stay zero for good,
 * because kernels write zeros there and products do not write there at all. */
#include "workspace.h"

#include <stdlib.h>
#include <string.h>

#include "method.h"

void workspace_dims(struct dims *dims, const struct amx_method *method, size_t batch_size, size_t n_rows,
                    size_t max_labels, size_t n_labels)
{
    dims->N = n_rows;
    dims->Z = n_labels;
    dims->B = n_rows < batch_size + 1 ? n_rows : batch_size + 1;
    dims->Bp = amx_round_up(dims->B, PAD);
    dims->T = method->one_triple_per_row ? dims->B : max_labels;
    dims->Tp = amx_round_up(dims->T, PAD);
}

static void lay_out(struct workspace *workspace, size_t n_rows, struct arena *arena)
{
    const size_t *start = workspace->layout->group_start;

    workspace->parameters = arena_floats(arena, start[N_GROUPS], 1);
    workspace->gradients = arena_floats(arena, start[GROUP_STREAMED], 1);
    workspace->moment1 = arena_floats(arena, start[GROUP_FIXED], 1);
    workspace->moment2 = arena_floats(arena, start[GROUP_FIXED], 1);
    workspace->order = arena_u32(arena, n_rows);
    batch_lay_out(&workspace->batch, &workspace->dims, arena);
    workspace->batch.one_per_row = workspace->method->one_triple_per_row;
    workspace->state = arena_take(arena, 1, workspace->method->state_bytes);
}

size_t workspace_bytes(const struct amx_method *method, const struct layout *layout, const struct dims *dims,
                       const struct amx_settings *settings, size_t n_rows)
{
    struct workspace workspace;
    struct arena arena = {0};

    memset(&workspace, 0, sizeof workspace);
    workspace.method = method;
    workspace.layout = layout;
    workspace.settings = settings;
    workspace.dims = *dims;
    lay_out(&workspace, n_rows, &arena);
    method->lay_out(&workspace, &arena);
    return arena.used;
}

enum amx_status workspace_init(struct workspace *workspace, const struct amx_method *method,
                               const struct layout *layout, const struct dims *dims,
                               const struct amx_settings *settings, size_t n_rows)
{
    size_t bytes = workspace_bytes(method, layout, dims, settings, n_rows);
    struct arena arena = {0};

    memset(workspace, 0, sizeof *workspace);
    if (bytes == SIZE_MAX || posix_memalign(&workspace->memory, 64, bytes) != 0) {
        workspace->memory = NULL;
        return AMX_NO_MEMORY;
    }
    memset(workspace->memory, 0, bytes);
    workspace->method = method;
    workspace->layout = layout;
    workspace->settings = settings;
    workspace->dims = *dims;
    workspace->kernels = kernels_get();
    arena.base = workspace->memory;
    lay_out(workspace, n_rows, &arena);
    method->lay_out(workspace, &arena);
    method->bind(workspace);
    return AMX_OK;
}

void workspace_seed(struct workspace *workspace, uint64_t seed, uint32_t member, size_t n_rows)
{
    size_t n_moments = workspace->layout->group_start[GROUP_FIXED];

    rng_seed(&workspace->shuffle, seed, member, RNG_SHUFFLE);
    rng_seed(&workspace->lambda, seed, member, RNG_LAMBDA);
    rng_seed(&workspace->partner, seed, member, RNG_PARTNER);
    rng_lanes_seed(&workspace->annotator_dropout, seed, member, RNG_ANNOTATOR_DROPOUT);
    for (uint32_t l = 0; l < AMX_MAX_HIDDEN; l++)
        rng_lanes_seed(&workspace->class_dropout[l], seed, member, RNG_CLASS_DROPOUT + l);
    for (size_t i = 0; i < n_rows; i++)
        workspace->order[i] = workspace->member != NULL ? workspace->member->rows[i] : (uint32_t)i;
    memset(workspace->moment1, 0, n_moments * sizeof(float));
    memset(workspace->moment2, 0, n_moments * sizeof(float));
    workspace->n_steps = 0;
}

void workspace_done(struct workspace *workspace)
{
    free(workspace->memory);
    memset(workspace, 0, sizeof *workspace);
}

void workspace_update(struct workspace *workspace, const struct radam_step *classes,
                      const struct radam_step *annotators)
{
    const size_t *start = workspace->layout->group_start;

    for (int g = GROUP_CLASS; g <= GROUP_ANNOTATOR; g++) {
        workspace->kernels->radam(workspace->parameters + start[g], workspace->gradients + start[g],
                                  workspace->moment1 + start[g], workspace->moment2 + start[g], start[g + 1] - start[g],
                                  g == GROUP_CLASS ? classes : annotators);
    }
}
