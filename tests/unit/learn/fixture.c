/* fixture.c - see fixture.h. The generator is a plain 64-bit LCG: independent of the code under test. */
#include "fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "test.h"

void *toy_alloc(size_t n, size_t size)
{
    void *memory = calloc(n > 0 ? n : 1, size);

    if (memory == NULL) {
        fprintf(stderr, "fixture.c: out of memory\n");
        exit(2);
    }
    return memory;
}

double toy_random(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (double)(*state >> 11) * 0x1p-53;
}

void toy_init(struct toy *toy, size_t N, size_t D, size_t C, size_t A, uint64_t seed)
{
    uint64_t state = seed * 2 + 1;
    size_t n = 0;

    memset(toy, 0, sizeof *toy);
    toy->features = toy_alloc(N * D, sizeof(float));
    toy->truth = toy_alloc(N, sizeof(uint32_t));
    toy->instance = toy_alloc(3 * N, sizeof(uint32_t));
    toy->annotator = toy_alloc(3 * N, sizeof(uint32_t));
    toy->label = toy_alloc(3 * N, sizeof(uint32_t));
    toy->names = toy_alloc(C + A, sizeof *toy->names);
    toy->class_names = toy_alloc(C, sizeof(char *));
    toy->annotator_names = toy_alloc(A, sizeof(char *));
    for (size_t i = 0; i < N; i++) {
        toy->truth[i] = (uint32_t)(i % C);
        for (size_t j = 0; j < D; j++)
            toy->features[i * D + j] = (float)(toy_random(&state) - 0.5 + (j % C == i % C ? 1.0 : 0.0));
        size_t labels = 1 + (size_t)(3.0 * toy_random(&state)), first = (size_t)((double)A * toy_random(&state));
        labels = labels > A ? A : labels;
        first = first + labels > A ? A - labels : first;
        for (size_t l = 0; l < labels; l++, n++) {
            uint32_t a = (uint32_t)(first + l);
            double right = 1.0 - 0.9 * (double)a / (double)A;
            toy->instance[n] = (uint32_t)i;
            toy->annotator[n] = a;
            toy->label[n] = toy_random(&state) < right ? toy->truth[i] : (uint32_t)((double)C * toy_random(&state));
        }
    }
    for (size_t i = 0; i < C + A; i++)
        (void)snprintf(toy->names[i], sizeof *toy->names, "%c%zu", i < C ? 'c' : 'a', i < C ? i : i - C);
    for (size_t c = 0; c < C; c++)
        toy->class_names[c] = toy->names[c];
    for (size_t a = 0; a < A; a++)
        toy->annotator_names[a] = toy->names[C + a];
    toy->data = (struct amx_data){.n_instances = N,
                                  .n_features = D,
                                  .n_classes = C,
                                  .n_annotators = A,
                                  .n_labels = n,
                                  .features = toy->features,
                                  .label_instance = toy->instance,
                                  .label_annotator = toy->annotator,
                                  .label_class = toy->label,
                                  .class_names = toy->class_names,
                                  .annotator_names = toy->annotator_names,
                                  .data_hash = "sha256:toy"};
    toy->options.seed = 7;
    toy->options.ensemble = 1;
    toy->options.threads = 1;
    amx_settings_default(D, &toy->options.settings);
    toy->options.settings.n_hidden = 1;
    toy->options.settings.hidden[0] = 8;
    toy->options.settings.hidden[1] = 0;
    toy->options.settings.annotator_embedding = 8;
    toy->options.settings.epochs = 3;
    toy->options.settings.batch_size = 16;
}

void toy_done(struct toy *toy)
{
    free(toy->annotator_names);
    free(toy->class_names);
    free(toy->names);
    free(toy->label);
    free(toy->annotator);
    free(toy->instance);
    free(toy->truth);
    free(toy->features);
}

struct amx_model *toy_fit(struct toy *toy)
{
    struct amx_model *model = NULL;
    struct amx_error err;
    enum amx_status status = amx_fit(&toy->data, &toy->options, NULL, &model, &err);

    test_check(status == AMX_OK, __FILE__, __LINE__, status == AMX_OK ? "" : err.text);
    return model;
}

unsigned char *toy_encode(const struct amx_model *model, size_t *n)
{
    unsigned char *bytes = NULL;
    struct amx_error err;
    enum amx_status status = amx_model_encode(model, &bytes, n, &err);

    test_check(status == AMX_OK, __FILE__, __LINE__, status == AMX_OK ? "" : err.text);
    return bytes;
}

bool toy_same_bytes(const struct amx_model *a, const struct amx_model *b)
{
    size_t na = 0, nb = 0;
    unsigned char *x = toy_encode(a, &na), *y = toy_encode(b, &nb);
    bool same = x != NULL && y != NULL && na == nb && memcmp(x, y, na) == 0;

    amx_free(x);
    amx_free(y);
    return same;
}
