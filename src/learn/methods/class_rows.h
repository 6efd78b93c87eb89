/* class_rows.h - class probabilities of a batch as rows, for the methods that keep a matrix per annotator.
 *
 * The class model hands out its logits transposed, [C][Tp], because annot-mix's kernels want lanes of triples. The
 * methods that came before work instance by instance, over rows of C floats. This is the way there and back:
 *
 *     class_model_forward(&classes, batch, ...);
 *     class_rows_forward(&rows, batch, &classes);     p, log_p; d_p and d_z are zeroed
 *     ... the method adds into d_p and/or d_z ...
 *     class_rows_backward(&rows, &classes);           d_logits and classes.grad_out_bias
 *     class_model_backward(&classes, batch, rows.d_logits);
 *
 * Row i is instance i of the batch, or triple i while mixing. Gradients are of the mean loss, 1/T or 1/B included. */
#ifndef LEARN_METHODS_CLASS_ROWS_H
#define LEARN_METHODS_CLASS_ROWS_H

#include "../class_model.h"

struct class_rows {
    const struct dims *dims;
    const struct amx_kernels *kernels;
    size_t n;        /* rows of this batch: n_rows, or n_labels while mixing */
    float *p;        /* [n][C] class probabilities */
    float *log_p;    /* [n][C] their logarithms, exact where p underflows */
    float *d_p;      /* [n][C] gradient by p, added to by the method */
    float *d_z;      /* [n][C] gradient by the logits, added to by the method: for losses in logarithms, whose
                        gradient (p - posterior) must not pass through 1/p */
    float *d_logits; /* [C][Tp] for class_model_backward; scratch before */
};

/* Takes the arrays from the arena. The dims are borrowed. */
void class_rows_lay_out(struct class_rows *rows, const struct dims *dims, struct arena *arena);
void class_rows_bind(struct class_rows *rows, const struct amx_kernels *kernels);
/* From classes->logits, which it overwrites. */
void class_rows_forward(struct class_rows *rows, const struct batch *batch, const struct class_model *classes);
/* d_logits_j = d_z_j + p_j (d_p_j - sum_k p_k d_p_k), transposed, and its sums into classes->grad_out_bias. */
void class_rows_backward(struct class_rows *rows, struct class_model *classes);

#endif
