/* model.c - the model file's loader: it refuses or it loads, and what it loads can be encoded and predicts.
 *
 * First byte: 0 mod 4 = the bytes as they are; 1 = as they are, but with a right SHA-256; others: the JSON head, a 0 byte,
 * the tensors, of which a whole file is made (lengths, padding, SHA-256), so that the fuzzer gets behind the hash. */
#include <nettle/sha2.h>
#include <stdlib.h>
#include <string.h>

#include "annotmix.h"
#include "fuzz.h"

enum {
    HEAD_START = 16,
    ALIGNMENT = 64,
    FEATURES_MAX = 64 /* of models that are asked for a prediction: the rest is a question of time only */
};

static void seal(uint8_t *bytes, size_t n)
{
    struct sha256_ctx sha;
    sha256_init(&sha);
    sha256_update(&sha, n - SHA256_DIGEST_SIZE, bytes);
    sha256_digest(&sha, SHA256_DIGEST_SIZE, bytes + n - SHA256_DIGEST_SIZE);
}

static uint8_t *file_of(unsigned mode, const uint8_t *data, size_t n, size_t *n_file)
{
    size_t n_head = 0, start = 0, n_tail = n;
    if (mode >= 2) {
        const uint8_t *end = memchr(data, 0, n);
        n_head = end != NULL ? (size_t)(end - data) : n;
        n_tail = end != NULL ? n - n_head - 1 : 0;
        start = (HEAD_START + n_head + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    }
    *n_file = start + n_tail + (mode > 0 ? SHA256_DIGEST_SIZE : 0);
    uint8_t *file = calloc(*n_file > 0 ? *n_file : 1, 1);
    EXPECT(file != NULL);
    if (mode >= 2) {
        memcpy(file, "AMXMODEL\1\0\0\0", 12);
        for (unsigned i = 0; i < 4; i++)
            file[12 + i] = (uint8_t)(n_head >> (8 * i));
        memcpy(file + HEAD_START, data, n_head);
    }
    if (n_tail > 0)
        memcpy(file + start, data + n - n_tail, n_tail);
    if (mode > 0)
        seal(file, *n_file);
    return file;
}

static void predict(const struct amx_model *model, const struct amx_model_info *info)
{
    static const uint32_t annotators[] = {AMX_UNSEEN, 0};
    size_t m = info->n_annotators > 0 ? 2 : 1;
    float *features = calloc(info->n_features, sizeof *features);
    float *p_class = calloc(info->n_classes, sizeof *p_class), *p_perf = calloc(m, sizeof *p_perf);
    EXPECT(features != NULL && p_class != NULL && p_perf != NULL);
    for (size_t i = 0; i < info->n_features; i++)
        features[i] = i % 3 == 0 ? 1e6F : 0.5F;
    struct amx_prediction out = {.p_class = p_class, .p_perf = p_perf};
    struct amx_error err = {.code = AMX_OK};
    enum amx_status status = amx_predict(model, features, 1, annotators, m, &out, &err);
    EXPECT(status == AMX_OK || status == AMX_NOT_FINITE);
    free(features);
    free(p_class);
    free(p_perf);
}

/* What encode wrote decodes, and encodes to the same bytes. */
static void expect_fixed_point(const unsigned char *file, size_t n)
{
    struct amx_model *model = NULL;
    struct amx_error err = {.code = AMX_OK};
    unsigned char *again = NULL;
    size_t n_again = 0;
    EXPECT(amx_model_decode(file, n, &model, &err) == AMX_OK);
    EXPECT(amx_model_encode(model, &again, &n_again, &err) == AMX_OK);
    EXPECT(n_again == n && memcmp(again, file, n) == 0);
    amx_free(again);
    amx_model_free(model);
}

void fuzz_model(const uint8_t *data, size_t n)
{
    unsigned mode = fuzz_byte(&data, &n) % 4;
    size_t n_file, n_again = 0;
    uint8_t *file = file_of(mode, data, n, &n_file);
    unsigned char *again = NULL;
    struct amx_model *model = NULL;
    struct amx_error err = {.code = AMX_OK};
    enum amx_status status = amx_model_decode(file, n_file, &model, &err);
    EXPECT(status == AMX_OK ? model != NULL : (status == AMX_CORRUPT && model == NULL && err.text[0] != '\0'));
    if (status == AMX_OK) {
        struct amx_model_info info;
        amx_model_info(model, &info);
        if (info.n_features <= FEATURES_MAX)
            predict(model, &info);
        EXPECT(amx_model_encode(model, &again, &n_again, &err) == AMX_OK);
        amx_model_free(model);
        expect_fixed_point(again, n_again);
        amx_free(again);
    }
    free(file);
}
