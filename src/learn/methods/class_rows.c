/* class_rows.c - see class_rows.h. The softmax runs over the transposed logits with the kernel that annot-mix uses, 32
 * rows at a time; only its result is turned. Batches are small (64 rows, 10 classes: 2.5 kB), so turning costs nothing
 * next to the class model's products. */
#include "class_rows.h"

#include <string.h>

void class_rows_lay_out(struct class_rows *rows, const struct dims *dims, struct arena *arena)
{
    memset(rows, 0, sizeof *rows);
    rows->dims = dims;
    rows->p = arena_floats(arena, dims->Tp, dims->C);
    rows->log_p = arena_floats(arena, dims->Tp, dims->C);
    rows->d_p = arena_floats(arena, dims->Tp, dims->C);
    rows->d_z = arena_floats(arena, dims->Tp, dims->C);
    rows->d_logits = arena_floats(arena, dims->C, dims->Tp);
}

void class_rows_bind(struct class_rows *rows, const struct amx_kernels *kernels)
{
    rows->kernels = kernels;
}

/* to[n][C] = from[C][ld]' */
static void turn(float *restrict to, const float *restrict from, size_t C, size_t ld, size_t n)
{
    for (size_t k = 0; k < C; k++) {
        for (size_t i = 0; i < n; i++)
            to[i * C + k] = from[k * ld + i];
    }
}

void class_rows_forward(struct class_rows *rows, const struct batch *batch, const struct class_model *classes)
{
    const size_t C = rows->dims->C, ld = rows->dims->Tp;
    const size_t n = batch->mixed ? batch->n_labels : batch->n_rows;

    rows->n = n;
    rows->kernels->log_softmax(classes->logits, classes->out_bias, rows->d_logits, C, ld, amx_round_up(n, PAD));
    turn(rows->p, rows->d_logits, C, ld, n);
    turn(rows->log_p, classes->logits, C, ld, n);
    memset(rows->d_p, 0, n * C * sizeof(float));
    memset(rows->d_z, 0, n * C * sizeof(float));
}

void class_rows_backward(struct class_rows *rows, struct class_model *classes)
{
    const size_t C = rows->dims->C, ld = rows->dims->Tp;

    memset(classes->grad_out_bias, 0, C * sizeof(float));
    for (size_t i = 0; i < rows->n; i++) {
        const float *p = rows->p + i * C, *d_p = rows->d_p + i * C, *d_z = rows->d_z + i * C;
        float mean = 0.0f;
        for (size_t k = 0; k < C; k++)
            mean += p[k] * d_p[k];
        for (size_t k = 0; k < C; k++) {
            float d = d_z[k] + p[k] * (d_p[k] - mean);
            rows->d_logits[k * ld + i] = d;
            classes->grad_out_bias[k] += d;
        }
    }
}
