/* class_predictor.c - p(k given x) without BLAS.
 *
 * Why not BLAS here: a row must get the same bits alone and among others (answers must not depend on who else asked),
 * and OpenBLAS rounds differently for different shapes. The kernel `layer` gives every output one fixed chain of
 * multiply-adds. Weights are packed once in panels of 16 outputs, [in][16], so that a single row streams them and
 * some rows together share each load. BatchNorm with running statistics is folded into weights and bias. */
#include "class_predictor.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels.h"
#include "model.h"
#include "status.h"

struct class_predictor {
    const struct dims *dims;
    float *panels[AMX_MAX_HIDDEN + 1]; /* hidden layers, then the output layer */
    float *bias[AMX_MAX_HIDDEN + 1];
    size_t widest; /* padded */
    size_t bytes;
    float *memory;
};

size_t panels_floats(size_t rows, size_t cols)
{
    return amx_round_up(rows, PANEL) * cols;
}

void panels_pack(float *out, const float *weight, size_t rows, size_t cols, const float *factor)
{
    for (size_t r0 = 0; r0 < rows; r0 += PANEL) {
        for (size_t c = 0; c < cols; c++) {
            for (size_t r = r0; r < r0 + PANEL; r++)
                *out++ = r >= rows ? 0.0f : factor != NULL ? weight[r * cols + c] * factor[r] : weight[r * cols + c];
        }
    }
}

void panels_product(float *out, size_t ld, const float *a, size_t lda, size_t n, const float *panels, size_t rows,
                    size_t cols)
{
    kernels_get()->layer(a, lda, n, panels, amx_round_up(rows, PANEL) / PANEL, cols, NULL, out, ld);
}

static const float *tensor_of(const struct amx_model *model, const float *compact, const char *kind, int l,
                              const char *part)
{
    char name[32];
    size_t at = 0;

    /* "hidden", 3, ".weight" without snprintf's format checks on non-literals */
    for (const char *p = kind; *p != '\0'; p++)
        name[at++] = *p;
    name[at++] = (char)('0' + l);
    memcpy(name + at, part, strlen(part) + 1);
    return compact + model->layout.tensor[layout_find(&model->layout, name)].compact;
}

/* Layer l: factor a = gamma / sqrt(var + eps) on the weights, bias beta + a (bias - mean). factor [h] is scratch. */
static void fold_layer(struct class_predictor *predictor, const struct amx_model *model, const float *compact, int l,
                       float *factor)
{
    const struct dims *dims = &model->dims;
    const float *gamma = tensor_of(model, compact, "bn", l, ".weight"),
                *beta = tensor_of(model, compact, "bn", l, ".bias");
    const float *mean = tensor_of(model, compact, "bn", l, ".running_mean");
    const float *var = tensor_of(model, compact, "bn", l, ".running_var");
    const float *bias = tensor_of(model, compact, "hidden", l, ".bias");

    for (size_t j = 0; j < dims->h[l]; j++) {
        double a = (double)gamma[j] / sqrt((double)var[j] + 1e-5);
        factor[j] = (float)a;
        predictor->bias[l][j] = (float)((double)beta[j] + a * ((double)bias[j] - (double)mean[j]));
    }
    panels_pack(predictor->panels[l], tensor_of(model, compact, "hidden", l, ".weight"), dims->h[l],
                l > 0 ? dims->h[l - 1] : dims->D, factor);
}

struct class_predictor *class_predictor_new(const struct amx_model *model, const float *compact)
{
    const struct dims *dims = &model->dims;
    const struct layout *layout = &model->layout;
    struct class_predictor *predictor = calloc(1, sizeof *predictor);
    size_t floats = 0, widest = amx_round_up(dims->C, PANEL);
    float *next, *factor = NULL;

    if (predictor == NULL)
        return NULL;
    for (int l = 0; l < dims->L; l++) {
        floats += panels_floats(dims->h[l], l > 0 ? dims->h[l - 1] : dims->D) + dims->hp[l];
        widest = dims->hp[l] > widest ? dims->hp[l] : widest;
    }
    floats += panels_floats(dims->C, dims->H) + amx_round_up(dims->C, PAD);
    predictor->dims = dims;
    predictor->widest = widest;
    predictor->bytes = sizeof *predictor + floats * sizeof(float);
    predictor->memory = calloc(floats, sizeof(float));
    factor = calloc(widest, sizeof(float));
    if (predictor->memory == NULL || factor == NULL) {
        free(factor);
        class_predictor_free(predictor);
        return NULL;
    }
    next = predictor->memory;
    for (int l = 0; l < dims->L; l++) {
        predictor->panels[l] = next;
        next += panels_floats(dims->h[l], l > 0 ? dims->h[l - 1] : dims->D);
        predictor->bias[l] = next;
        next += dims->hp[l];
        fold_layer(predictor, model, compact, l, factor);
    }
    predictor->panels[dims->L] = next;
    next += panels_floats(dims->C, dims->H);
    predictor->bias[dims->L] = next;
    panels_pack(predictor->panels[dims->L], compact + layout->tensor[layout_find(layout, "class_out.weight")].compact,
                dims->C, dims->H, NULL);
    memcpy(predictor->bias[dims->L], compact + layout->tensor[layout_find(layout, "class_out.bias")].compact,
           dims->C * sizeof(float));
    free(factor);
    return predictor;
}

void class_predictor_free(struct class_predictor *predictor)
{
    if (predictor == NULL)
        return;
    free(predictor->memory);
    free(predictor);
}

size_t class_predictor_bytes(const struct class_predictor *predictor)
{
    return predictor->bytes;
}

size_t class_predictor_scratch(const struct class_predictor *predictor, size_t n)
{
    return 3 * n * predictor->widest;
}

void class_predictor_rows(const struct class_predictor *predictor, const float *x, size_t n, double temperature,
                          float *scratch, float *p, const float **u)
{
    const struct dims *dims = predictor->dims;
    const struct amx_kernels *kernels = kernels_get();
    const float inverse_temperature = (float)(1.0 / temperature);
    const float *in = x;
    size_t in_ld = dims->Dp, in_width = dims->D, logits_ld = amx_round_up(dims->C, PANEL);
    float *logits = scratch + 2 * n * predictor->widest;

    for (int l = 0; l < dims->L; l++) {
        float *out = scratch + (size_t)(l % 2) * n * predictor->widest;
        kernels->layer(in, in_ld, n, predictor->panels[l], amx_round_up(dims->h[l], PANEL) / PANEL, in_width,
                       predictor->bias[l], out, dims->hp[l]);
        in = out;
        in_ld = dims->hp[l];
        in_width = dims->h[l];
    }
    panels_product(logits, logits_ld, in, in_ld, n, predictor->panels[dims->L], dims->C, in_width);
    for (size_t i = 0; i < n; i++)
        kernels->softmax_row(p + i * dims->C, logits + i * logits_ld, predictor->bias[dims->L], dims->C,
                             inverse_temperature);
    *u = in;
}
