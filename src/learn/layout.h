/* layout.h - sizes of a fit and where each tensor lies. Letters (B T D C A H E) are declared in README.md. */
#ifndef LEARN_LAYOUT_H
#define LEARN_LAYOUT_H

#include "annotmix.h"

/* Widths (D, hidden, E) and T are padded to multiples of PAD floats; the pads hold zeros (widths) or harmless
 * numbers (T). 32 floats = two AVX-512, four AVX2 or eight SSE vectors: the fixed inner width of the kernels. */
enum {
    PAD = 32
};

/* Everything a fit's memory depends on. Suffix p = padded. */
struct dims {
    size_t D, Dp; /* features */
    size_t C;     /* classes */
    size_t A;     /* annotators */
    size_t E, Ep; /* annotator embedding */
    int L;        /* hidden layers */
    size_t h[AMX_MAX_HIDDEN], hp[AMX_MAX_HIDDEN];
    size_t H, Hp; /* width of the embedding u: of the last hidden layer, or D */
    size_t B, Bp; /* most instances in a batch */
    size_t T, Tp; /* most labels (triples) in a batch */
    size_t N;     /* labelled rows of the training data, all folds; 0 outside training */
    size_t Z;     /* training labels, all folds; 0 outside training */
};

/* B, T, N and Z are set to 0: they do not matter to the parameters. */
void dims_init(struct dims *dims, const struct amx_settings *settings, size_t n_features, size_t n_classes,
               size_t n_annotators);

/* Groups of the training block, in this order.
 * Gradients exist for the first two; moments for the first three. */
enum layout_group {
    GROUP_CLASS,     /* class model: learning_rate, weight_decay */
    GROUP_ANNOTATOR, /* annotator model: its own rate and decay */
    GROUP_STREAMED,  /* annotator model too, but updated slab by slab with the gradient in scratch (loss.c) */
    GROUP_FIXED,     /* never seen by the optimiser: biases before BatchNorm, running statistics */
    N_GROUPS
};

/* One tensor. Its compact form (model file, predictions) is [rows][cols] without gaps; in the training block
 * element (r, c) lies at offset + r row_stride + c col_stride (+ jump if c >= split). */
struct tensor {
    char name[32];
    enum layout_group group;
    int n_dims; /* 1: a vector of `rows`; 2: [rows][cols] */
    size_t rows, cols;
    size_t row_stride, col_stride, split, jump;
    size_t offset;  /* in the training block, after layout_finish */
    size_t compact; /* in the compact block */
};

enum {
    MAX_TENSORS = 72
};

struct layout {
    struct tensor tensor[MAX_TENSORS];
    int n;
    size_t group_start[N_GROUPS + 1]; /* offsets in the training block; [N_GROUPS] = its length */
    size_t compact_length;
    bool overflow; /* some size did not fit in size_t */
};

void layout_init(struct layout *layout);
/* A vector of n elements. Returns the tensor's index. */
int layout_vector(struct layout *layout, enum layout_group group, size_t n, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* A matrix [rows][cols] stored with row length `ld`, over padded_rows rows. */
int layout_matrix(struct layout *layout, enum layout_group group, size_t rows, size_t cols, size_t padded_rows,
                  size_t ld, const char *format, ...) __attribute__((format(printf, 7, 8)));
/* Turns group-relative offsets into offsets; false on overflow. */
bool layout_finish(struct layout *layout);
/* Between compact form and training block. Import leaves the pads alone. */
void layout_import(const struct layout *layout, const float *compact, float *block);
void layout_export(const struct layout *layout, const float *block, float *compact);
/* Index of the tensor of that name, or -1. */
int layout_find(const struct layout *layout, const char *name);

#endif
