/* loss.c - loss = -(1/T) sum_t sum_c z_tc log p_annot_t(c), in log space (specification, steps 3 to 5).
 *
 * Heads are transposed: class logits [C][Tp], confusion logits [C C][Tp]. Confusion logits go in slabs of whole true
 * classes, so that softmax over the label is complete inside a slab and slab, weights and gradient stay in the L2
 * cache (limit 600 kB, measured: +20 % at C = 100, nothing at C = 10). Two rounds over the slabs:
 *   forward:  logits, exp, and for the one or two given labels log p_k + log P_k,label for each true class k;
 *   between:  posterior of the true class, loss;
 *   backward: gradient of the logits in place, d(h) summed over slabs, weight gradient to scratch, RAdam at once.
 * The gradient of the output layer (128 C^2 floats, 512 MB at C = 1000) therefore never exists as a whole. The logits
 * are kept between the rounds up to 64 MB; beyond that the slab is computed again, a third more work in that
 * layer against memory that would grow with C^2 T.
 *
 * Slabs do not depend on each other but for the sum d(h). From 50 classes on they are two parts, each with its own
 * scratch and its own d(h), added up in the end: so one fit can use two threads (crew.h), with the same bits as on
 * one. */
#include "loss.h"

#include <string.h>

#include "blas.h"
#include "crew.h"

enum {
    SLAB_BYTES = 600000,
    KEPT_BYTES = 64000000,
    PARTS_FROM = 50 /* classes */
};

void loss_lay_out(struct loss *loss, const struct dims *dims, struct arena *arena)
{
    const size_t C = dims->C, Tp = dims->Tp, Ep = dims->Ep;
    size_t per_class = C * (Tp + 2 * Ep) * sizeof(float); /* C <= 1000, Ep <= 1024, Tp < 2^32: no overflow */
    size_t most = SLAB_BYTES / per_class, parts;

    memset(loss, 0, sizeof *loss);
    loss->dims = dims;
    loss->slab = most < 1 ? 1 : most > C ? C : most;
    loss->keep_logits = C * C * Tp <= KEPT_BYTES / sizeof(float);
    parts = C >= PARTS_FROM ? 2 : 1;
    /* Whole slabs, so that a part has none that is cut short but the last. */
    loss->middle = parts == 1 ? C : (C / 2 + loss->slab - 1) / loss->slab * loss->slab;
    loss->confusion = arena_floats(arena, loss->keep_logits ? C * C : parts * loss->slab * C, Tp);
    for (size_t i = 0; i < parts; i++) {
        loss->grad_slab[i] = arena_floats(arena, loss->slab * C, Ep);
        loss->f[i] = arena_floats(arena, Tp, 1);
    }
    loss->d_h = parts > 1 ? arena_floats(arena, Tp, Ep) : NULL;
    loss->p = arena_floats(arena, C, Tp);
    loss->log_p = arena_floats(arena, C, Tp);
    loss->inverse = arena_floats(arena, C, Tp);
    loss->joint1 = arena_floats(arena, C, Tp);
    loss->joint2 = arena_floats(arena, C, Tp);
    loss->d_logits = arena_floats(arena, C, Tp);
    loss->log_q1 = arena_floats(arena, Tp, 1);
    loss->log_q2 = arena_floats(arena, Tp, 1);
}

void loss_bind(struct loss *loss, const struct layout *layout, const struct annotator_tensors *x, float *parameters,
               float *gradients, float *moment1, float *moment2, const struct amx_kernels *kernels)
{
    size_t at = layout->tensor[x->out_weight].offset;

    loss->out_weight = parameters + at;
    loss->moment1 = moment1 + at;
    loss->moment2 = moment2 + at;
    loss->out_bias = parameters + layout->tensor[x->out_bias].offset;
    loss->grad_out_bias = gradients + layout->tensor[x->out_bias].offset;
    loss->kernels = kernels;
}

static struct loss_rows rows_of(const struct loss *loss, const struct batch *batch)
{
    return (struct loss_rows){.class1 = batch->class1,
                              .class2 = batch->class2,
                              .weight1 = batch->weight1,
                              .weight2 = batch->weight2,
                              .mixed = batch->mixed,
                              .Tp = batch->Tp,
                              .ld = loss->dims->Tp};
}

/* Writes the annotators' constant logits of true classes k0 .. k1 to x; zeros up to the last column of the product. */
static void slab_prior(const struct loss *loss, const struct batch *batch, size_t k0, size_t k1, size_t n_columns,
                       float *x)
{
    const size_t C = loss->dims->C, ld = loss->dims->Tp, n = batch->n_labels, stride = loss->dims->A + 1;

    for (size_t i = 0; i < (k1 - k0) * C; i++) {
        const float *from = loss->prior + (k0 * C + i) * stride;
        float *to = x + i * ld;
        if (batch->mixed)
            for (size_t t = 0; t < n; t++)
                to[t] = batch->lambda[t] * from[batch->annotator1[t]] +
                        (1.0f - batch->lambda[t]) * from[batch->annotator2[t]];
        else
            for (size_t t = 0; t < n; t++)
                to[t] = from[batch->annotator1[t]];
        for (size_t t = n; t < n_columns; t++)
            to[t] = 0.0f;
    }
}

/* One pass over the slabs: forward or backward. */
struct pass {
    struct loss *loss;
    const struct batch *batch;
    struct annotator_model *annotators; /* forward: not written */
    struct loss_rows rows;
    const float *log_p;               /* forward */
    const struct radam_step *update;  /* backward */
    float *out_gradient;              /* backward */
    void (*slab)(const struct pass *pass, int part, size_t k0, size_t k1);
};

static void run_part(void *context, int part)
{
    const struct pass *pass = context;
    const struct loss *loss = pass->loss;
    const size_t end = part == 0 ? loss->middle : loss->dims->C;

    for (size_t k0 = part == 0 ? 0 : loss->middle; k0 < end; k0 += loss->slab)
        pass->slab(pass, part, k0, k0 + loss->slab < end ? k0 + loss->slab : end);
}

static void run_pass(struct pass *pass)
{
    if (pass->loss->middle < pass->loss->dims->C)
        crew_run(pass->loss->crew, run_part, pass);
    else
        run_part(pass, 0);
}

/* Where the logits of true classes k0 .. go. */
static float *slab_place(const struct loss *loss, int part, size_t k0)
{
    const size_t row = loss->keep_logits ? k0 * loss->dims->C : (size_t)part * loss->slab * loss->dims->C;

    return loss->confusion + row * loss->dims->Tp;
}

/* Logits of true classes k0 .. k1 for all triples. */
static float *slab_logits(const struct pass *pass, int part, size_t k0, size_t k1)
{
    const struct loss *loss = pass->loss;
    const struct dims *dims = loss->dims;
    const size_t C = dims->C;
    const size_t n = amx_round_up(pass->batch->n_labels, 16);
    float *x = slab_place(loss, part, k0);

    if (loss->prior != NULL)
        slab_prior(loss, pass->batch, k0, k1, n, x);
    gemm_nt((k1 - k0) * C, n, dims->E, loss->out_weight + k0 * C * dims->Ep, dims->Ep, pass->annotators->h, dims->Ep,
            loss->prior != NULL ? 1.0f : 0.0f, x, dims->Tp);
    return x;
}

static void slab_forward(const struct pass *pass, int part, size_t k0, size_t k1)
{
    const struct loss *loss = pass->loss;
    float *x = slab_logits(pass, part, k0, k1);

    loss->kernels->confusion_forward(x, loss->out_bias, loss->dims->C, k0, k1, &pass->rows, pass->log_p, loss->inverse,
                                     loss->joint1, loss->joint2);
}

static void slab_backward(const struct pass *pass, int part, size_t k0, size_t k1)
{
    const struct loss *loss = pass->loss;
    const struct amx_kernels *kernels = loss->kernels;
    const struct annotator_model *annotators = pass->annotators;
    const size_t C = loss->dims->C, E = loss->dims->E, Ep = loss->dims->Ep, ld = loss->dims->Tp;
    const size_t n = pass->batch->n_labels, m = (k1 - k0) * C, at = k0 * C * Ep;
    const bool first = k0 == (part == 0 ? 0 : loss->middle);
    float *x = slab_place(loss, part, k0), *gradient = loss->grad_slab[part];

    if (!loss->keep_logits) {
        x = slab_logits(pass, part, k0, k1);
        kernels->confusion_forward(x, loss->out_bias, C, k0, k1, &pass->rows, NULL, loss->inverse, NULL, NULL);
    }
    kernels->confusion_backward(x, loss->grad_out_bias + k0 * C, C, k0, k1, &pass->rows, loss->inverse, loss->joint1,
                                loss->joint2, loss->f[part]);
    gemm_tn(n, E, m, x, ld, loss->out_weight + at, Ep, first ? 0.0f : 1.0f, part == 0 ? annotators->d_h : loss->d_h,
            Ep);
    gemm_nn(m, E, n, x, ld, annotators->h, Ep, 0.0f, gradient, Ep);
    if (pass->out_gradient != NULL)
        memcpy(pass->out_gradient + at, gradient, m * Ep * sizeof(float));
    if (pass->update != NULL)
        kernels->radam(loss->out_weight + at, gradient, loss->moment1 + at, loss->moment2 + at, m * Ep, pass->update);
}

/* Class logits of the triples: the class model's own columns while mixing, else its instances' columns repeated. */
static float *triple_logits(struct loss *loss, const struct batch *batch, const struct class_model *classes)
{
    const size_t ld = loss->dims->Tp;

    if (batch->mixed)
        return classes->logits;
    for (size_t k = 0; k < loss->dims->C; k++) {
        const float *from = classes->logits + k * ld;
        float *to = loss->log_p + k * ld;
        for (size_t t = 0; t < batch->n_labels; t++)
            to[t] = from[batch->row[t]];
    }
    return loss->log_p;
}

double loss_forward(struct loss *loss, const struct batch *batch, struct class_model *classes,
                    struct annotator_model *annotators)
{
    const struct dims *dims = loss->dims;
    const struct amx_kernels *kernels = loss->kernels;
    const size_t C = dims->C, ld = dims->Tp;
    float *log_p = triple_logits(loss, batch, classes);
    struct pass pass = {.loss = loss,
                        .batch = batch,
                        .annotators = annotators,
                        .rows = rows_of(loss, batch),
                        .log_p = log_p,
                        .slab = slab_forward};
    double total = 0.0;

    kernels->log_softmax(log_p, classes->out_bias, loss->p, C, ld, batch->Tp);
    run_pass(&pass);
    kernels->posterior(loss->joint1, batch->weight1, loss->log_q1, C, ld, batch->Tp);
    if (batch->mixed)
        kernels->posterior(loss->joint2, batch->weight2, loss->log_q2, C, ld, batch->Tp);
    for (size_t t = 0; t < batch->n_labels; t++) {
        total -= (double)batch->weight1[t] * (double)loss->log_q1[t];
        if (batch->mixed)
            total -= (double)batch->weight2[t] * (double)loss->log_q2[t];
    }
    return total;
}

/* Gradient of the class logits: per triple, or summed over the triples of an instance. */
static void class_gradient(struct loss *loss, const struct batch *batch, struct class_model *classes,
                           const struct loss_rows *rows)
{
    const size_t C = loss->dims->C, ld = loss->dims->Tp;

    loss->kernels->class_backward(loss->p, classes->grad_out_bias, C, rows, loss->joint1, loss->joint2);
    for (size_t k = 0; k < C; k++) {
        const float *from = loss->p + k * ld;
        float *to = loss->d_logits + k * ld;
        if (batch->mixed) {
            memcpy(to, from, batch->n_labels * sizeof(float));
            continue;
        }
        for (size_t i = 0; i < batch->n_rows; i++) {
            float sum = 0.0f;
            for (uint32_t t = batch->begin[i]; t < batch->begin[i + 1]; t++)
                sum += from[t];
            to[i] = sum;
        }
    }
}

void loss_backward(struct loss *loss, const struct batch *batch, struct class_model *classes,
                   struct annotator_model *annotators, const struct radam_step *update, float *out_gradient)
{
    struct pass pass = {.loss = loss,
                        .batch = batch,
                        .annotators = annotators,
                        .rows = rows_of(loss, batch),
                        .update = update,
                        .out_gradient = out_gradient,
                        .slab = slab_backward};

    class_gradient(loss, batch, classes, &pass.rows);
    run_pass(&pass);
    if (loss->d_h != NULL) {
        for (size_t i = 0; i < batch->n_labels * loss->dims->Ep; i++)
            annotators->d_h[i] += loss->d_h[i];
    }
}
