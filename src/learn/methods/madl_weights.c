/* madl_weights.c - how much each annotator counts in the loss of MaDL: less, the more others are like it.
 *
 *     w_a = A v_a / sum_b v_b,   v_a = 1 / n_a,   n_a = sum_b exp(-gamma ||e_a - e_b||^2).
 *
 * A clique of spammers who answer alike must not outvote the others by its size. All pairs of annotators are compared
 * in every step, PAD annotators at a time: |e_a|^2 + |e_b|^2 - 2 e_a e_b from one product, then the kernel that takes
 * the logarithm of a sum of exponentials in lanes. So memory is A, not A^2; time is A^2, which is why the method
 * refuses more than 20,000 annotators. The bias of the embedding cancels in the distances. */
#include <math.h>
#include <string.h>

#include "../blas.h"
#include "madl.h"

void madl_weights_lay_out(struct madl_weights *x, size_t A, size_t Ep, struct arena *arena)
{
    memset(x, 0, sizeof *x);
    x->A = A;
    x->Ep = Ep;
    x->ones = arena_floats(arena, PAD, 1);
    x->square = arena_floats(arena, A, 1);
    x->minus = arena_floats(arena, A, PAD);
    x->distance = arena_floats(arena, A, PAD);
    x->log_sum = arena_floats(arena, PAD, 1);
    x->weight = arena_floats(arena, A, 1);
    x->slope = arena_floats(arena, A, 1);
}

/* Annotators a0 .. a0 + n: minus and distance of each with all. */
static void compare_block(struct madl_weights *x, size_t a0, size_t n, float gamma)
{
    gemm_nt(x->A, n, x->Ep, x->table, x->Ep, x->table + a0 * x->Ep, x->Ep, 0.0f, x->distance, PAD);
    for (size_t b = 0; b < x->A; b++) {
        float *restrict distance = x->distance + b * PAD, *restrict minus = x->minus + b * PAD;
        for (size_t j = 0; j < n; j++) {
            float d = x->square[b] + x->square[a0 + j] - 2.0f * distance[j];
            distance[j] = d < 0.0f || b == a0 + j ? 0.0f : d; /* rounding may leave less than nothing */
            minus[j] = -gamma * distance[j];
        }
    }
}

void madl_weights_compute(struct madl_weights *x, double gamma, bool with_slope, const struct amx_kernels *kernels)
{
    const size_t A = x->A, Ep = x->Ep;
    double total = 0.0, total_slope = 0.0;

    for (size_t j = 0; j < PAD; j++)
        x->ones[j] = 1.0f;
    for (size_t a = 0; a < A; a++) {
        float sum = 0.0f;
        for (size_t e = 0; e < Ep; e++)
            sum += x->table[a * Ep + e] * x->table[a * Ep + e];
        x->square[a] = sum;
    }
    for (size_t a0 = 0; a0 < A; a0 += PAD) {
        const size_t n = A - a0 < PAD ? A - a0 : PAD;
        compare_block(x, a0, n, (float)gamma);
        /* minus becomes exp(-gamma d^2) / n_a. */
        kernels->posterior(x->minus, x->ones, x->log_sum, A, PAD, PAD);
        for (size_t j = 0; j < n; j++) {
            double v = exp(-(double)x->log_sum[j]), slope = 0.0;
            for (size_t b = 0; b < A && with_slope; b++)
                slope += (double)x->minus[b * PAD + j] * (double)x->distance[b * PAD + j];
            x->weight[a0 + j] = (float)v;
            x->slope[a0 + j] = (float)(v * slope); /* -n_a' / n_a^2 */
            total += v;
            total_slope += v * slope;
        }
    }
    for (size_t a = 0; a < A; a++) {
        const double v = (double)x->weight[a];
        x->slope[a] = (float)((double)A * ((double)x->slope[a] / total - v * total_slope / (total * total)));
        x->weight[a] = (float)((double)A * v / total);
    }
}
