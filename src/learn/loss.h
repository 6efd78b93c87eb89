/* loss.h - annot-mix's loss, its gradients, and the output layer of the annotator model, slab by slab. */
#ifndef LEARN_LOSS_H
#define LEARN_LOSS_H

#include "annotator_model.h"
#include "class_model.h"

struct crew;

enum {
    LOSS_PARTS = 2
};

struct loss {
    const struct dims *dims;
    const struct amx_kernels *kernels;
    /* Output layer Linear(E, C C): weights and moments are updated slab by slab. */
    float *out_weight, *moment1, *moment2; /* [C C][Ep] */
    const float *out_bias;                 /* [C C] */
    const float *prior;                    /* [C C][A + 1] constant logits per annotator, or NULL */
    float *grad_out_bias;
    size_t slab;            /* true classes in a slab */
    bool keep_logits;       /* all C C logits of a batch are kept between forward and backward */
    /* Many classes: true classes from `middle` on are a part of their own, with scratch of its own, which a helper can
     * take. The parts are the same without one. Else middle = C. */
    size_t middle;
    struct crew *crew;            /* the helper, or NULL; set by whoever lends it */
    float *confusion;             /* [C C][Tp], or [slab C][Tp] for each part when they are computed twice */
    float *grad_slab[LOSS_PARTS]; /* [slab C][Ep] */
    float *d_h;                   /* [Tp][Ep] second part's share of annotators->d_h; NULL with one part */
    float *p;               /* [C][Tp] class probabilities, then gradient of the class logits */
    float *log_p;           /* [C][Tp] log class probabilities, only without mixing */
    float *inverse;         /* [C][Tp] 1 / sum of exp of each row of a confusion matrix */
    float *joint1, *joint2; /* [C][Tp] log p_k P_k,label, then weighted posteriors */
    float *log_q1, *log_q2; /* [Tp] log p_annot(label) */
    float *d_logits;        /* [C][Tp] gradient of the class logits, R columns (see class_model.h) */
    float *f[LOSS_PARTS];   /* [Tp] scratch */
};

void loss_lay_out(struct loss *loss, const struct dims *dims, struct arena *arena);
void loss_bind(struct loss *loss, const struct layout *layout, const struct annotator_tensors *tensors,
               float *parameters, float *gradients, float *moment1, float *moment2, const struct amx_kernels *kernels);
/* Mean loss of the batch from class_model_forward and annotator_model_forward. */
double loss_forward(struct loss *loss, const struct batch *batch, struct class_model *classes,
                    struct annotator_model *annotators);
/* Gradients: d_logits, classes->grad_out_bias, annotators->d_h, grad_out_bias. The output layer's weights are
 * updated with `update`, unless it is NULL. out_gradient [C C][Ep] (tests) gets their gradient, or NULL. */
void loss_backward(struct loss *loss, const struct batch *batch, struct class_model *classes,
                   struct annotator_model *annotators, const struct radam_step *update, float *out_gradient);

#endif
