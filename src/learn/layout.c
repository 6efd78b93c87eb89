/* layout.c - the table of tensors of a model, and its two forms.
 *
 * Training wants one flat block with padded rows, grouped by optimiser settings, so that RAdam is one pass per
 * group and no kernel needs a remainder loop. The model file and the predictors want plain [rows][cols]. The table
 * says where each element is in both, so only this file knows of padding, of the transposed annotator table and
 * of the gap inside the annotator model's hidden layer. */
#include "layout.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "status.h"

void dims_init(struct dims *dims, const struct amx_settings *settings, size_t n_features, size_t n_classes,
               size_t n_annotators)
{
    memset(dims, 0, sizeof *dims);
    dims->D = n_features;
    dims->Dp = amx_round_up(n_features, PAD);
    dims->C = n_classes;
    dims->A = n_annotators;
    dims->E = (size_t)settings->annotator_embedding;
    dims->Ep = amx_round_up(dims->E, PAD);
    dims->L = settings->n_hidden;
    for (int l = 0; l < dims->L; l++) {
        dims->h[l] = (size_t)settings->hidden[l];
        dims->hp[l] = amx_round_up(dims->h[l], PAD);
    }
    dims->H = dims->L > 0 ? dims->h[dims->L - 1] : dims->D;
    dims->Hp = dims->L > 0 ? dims->hp[dims->L - 1] : dims->Dp;
}

void layout_init(struct layout *layout)
{
    memset(layout, 0, sizeof *layout);
}

static int add(struct layout *layout, enum layout_group group, size_t rows, size_t cols, size_t size)
{
    struct tensor *t = &layout->tensor[layout->n];
    size_t count;

    t->group = group;
    t->rows = rows;
    t->cols = cols;
    t->split = SIZE_MAX;
    t->offset = layout->group_start[group]; /* the group's length so far; layout_finish turns lengths into starts */
    t->compact = layout->compact_length;
    if (size > SIZE_MAX - PAD || !amx_size_mul(&count, rows, cols) ||
        !amx_size_add(&layout->group_start[group], t->offset, amx_round_up(size, PAD)) ||
        !amx_size_add(&layout->compact_length, t->compact, count))
        layout->overflow = true;
    return layout->n++;
}

int layout_vector(struct layout *layout, enum layout_group group, size_t n, const char *format, ...)
{
    int i = add(layout, group, n, 1, n);
    struct tensor *t = &layout->tensor[i];
    va_list arguments;

    t->n_dims = 1;
    t->row_stride = 1;
    va_start(arguments, format);
    (void)vsnprintf(t->name, sizeof t->name, format, arguments); /* our own short names */
    va_end(arguments);
    return i;
}

int layout_matrix(struct layout *layout, enum layout_group group, size_t rows, size_t cols, size_t padded_rows,
                  size_t ld, const char *format, ...)
{
    size_t size = 0;
    bool fits = amx_size_mul(&size, padded_rows, ld);
    int i = add(layout, group, rows, cols, fits ? size : SIZE_MAX);
    struct tensor *t = &layout->tensor[i];
    va_list arguments;

    t->n_dims = 2;
    t->row_stride = ld;
    t->col_stride = 1;
    va_start(arguments, format);
    (void)vsnprintf(t->name, sizeof t->name, format, arguments); /* our own short names */
    va_end(arguments);
    return i;
}

bool layout_finish(struct layout *layout)
{
    size_t start = 0;

    for (int g = 0; g <= N_GROUPS; g++) {
        size_t length = g < N_GROUPS ? layout->group_start[g] : 0;
        layout->group_start[g] = start;
        if (!amx_size_add(&start, start, length))
            layout->overflow = true;
    }
    /* The whole block must be addressable in bytes. */
    if (start > PTRDIFF_MAX / sizeof(float) || layout->compact_length > PTRDIFF_MAX / sizeof(float))
        layout->overflow = true;
    for (int i = 0; i < layout->n; i++)
        layout->tensor[i].offset += layout->group_start[layout->tensor[i].group];
    return !layout->overflow;
}

static size_t place(const struct tensor *t, size_t r, size_t c)
{
    return t->offset + r * t->row_stride + c * t->col_stride + (c >= t->split ? t->jump : 0);
}

void layout_import(const struct layout *layout, const float *compact, float *block)
{
    for (int i = 0; i < layout->n; i++) {
        const struct tensor *t = &layout->tensor[i];
        const float *from = compact + t->compact;
        for (size_t r = 0; r < t->rows; r++) {
            for (size_t c = 0; c < t->cols; c++)
                block[place(t, r, c)] = *from++;
        }
    }
}

void layout_export(const struct layout *layout, const float *block, float *compact)
{
    for (int i = 0; i < layout->n; i++) {
        const struct tensor *t = &layout->tensor[i];
        float *to = compact + t->compact;
        for (size_t r = 0; r < t->rows; r++) {
            for (size_t c = 0; c < t->cols; c++)
                *to++ = block[place(t, r, c)];
        }
    }
}

int layout_find(const struct layout *layout, const char *name)
{
    for (int i = 0; i < layout->n; i++) {
        if (strcmp(layout->tensor[i].name, name) == 0)
            return i;
    }
    return -1;
}
