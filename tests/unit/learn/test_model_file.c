/* test_model_file.c - the model file: round trip, and everything that must be refused. */
#include "test.h"

#include <math.h>
#include <nettle/sha2.h>
#include <stdlib.h>
#include <string.h>

#include "fixture.h"

enum {
    HASH = SHA256_DIGEST_SIZE
};

static void seal(unsigned char *bytes, size_t n)
{
    struct sha256_ctx context;

    sha256_init(&context);
    sha256_update(&context, n - HASH, bytes);
    sha256_digest(&context, HASH, bytes + n - HASH);
}

static struct amx_model *small_model(struct toy *toy, int ensemble)
{
    toy_init(toy, 40, 4, 3, 4, 51);
    toy->options.ensemble = ensemble;
    toy->options.settings.annotator_learning_rate = (double)NAN;
    return toy_fit(toy);
}

static void refuse(const unsigned char *bytes, size_t n, const char *what)
{
    struct amx_model *model = NULL;
    struct amx_error err = {.code = AMX_OK};
    enum amx_status status = amx_model_decode(bytes, n, &model, &err);

    test_check(status == AMX_CORRUPT && err.code == AMX_CORRUPT && model == NULL && err.text[0] != '\0', __FILE__,
               __LINE__, what);
    amx_model_free(model);
}

/* A copy of the file whose head has a 0 byte behind a number, for one of the zeros of its padding; sealed again. */
static void refuse_zero_byte(const unsigned char *bytes, size_t n)
{
    unsigned char *copy = toy_alloc(n, 1), *at;
    size_t length = bytes[12] + 256U * bytes[13], rest;

    memcpy(copy, bytes, n);
    at = memmem(copy, n, "\"n_classes\":3", strlen("\"n_classes\":3"));
    test_check(at != NULL && (16 + length) % 64 != 0, __FILE__, __LINE__, "room for a 0 byte");
    if (at != NULL) {
        at += strlen("\"n_classes\":3");
        rest = 16 + length - (size_t)(at - copy);
        memmove(at + 1, at, rest);
        *at = 0;
        copy[12] = (unsigned char)(length + 1);
        copy[13] = (unsigned char)((length + 1) >> 8);
    }
    seal(copy, n);
    refuse(copy, n, "a 0 byte in the head");
    free(copy);
}

/* A copy of the file with `from` in its head replaced by `to` (equal lengths), sealed again. */
static void refuse_edited(const unsigned char *bytes, size_t n, const char *from, const char *to)
{
    unsigned char *copy = toy_alloc(n, 1), *at;

    memcpy(copy, bytes, n);
    at = memmem(copy, n, from, strlen(from));
    test_check(at != NULL && strlen(from) == strlen(to), __FILE__, __LINE__, from);
    if (at != NULL)
        memcpy(at, to, strlen(to));
    seal(copy, n);
    refuse(copy, n, to);
    free(copy);
}

TEST(learn_model_file_round_trip)
{
    struct toy toy;
    struct amx_model *model, *decoded = NULL;
    struct amx_model_info a, b;
    struct amx_error err;
    static const uint32_t annotators[3] = {0, AMX_UNSEEN, 3};
    float p[2][40 * 3], perf[2][40 * 3], confusion[2][40 * 3 * 9];
    size_t n = 0;
    unsigned char *bytes;

    model = small_model(&toy, 2);
    bytes = toy_encode(model, &n);
    CHECK_INT(amx_model_decode(bytes, n, &decoded, &err), AMX_OK);
    CHECK(decoded != NULL && toy_same_bytes(model, decoded));
    for (int i = 0; i < 2; i++) {
        struct amx_prediction out = {.p_class = p[i], .p_perf = perf[i], .p_confusion = confusion[i]};
        CHECK_INT(amx_predict(i == 0 ? model : decoded, toy.features, 40, annotators, 3, &out, &err), AMX_OK);
    }
    CHECK(memcmp(p[0], p[1], sizeof p[0]) == 0);
    CHECK(memcmp(perf[0], perf[1], sizeof perf[0]) == 0);
    CHECK(memcmp(confusion[0], confusion[1], sizeof confusion[0]) == 0);
    amx_model_info(model, &a);
    amx_model_info(decoded, &b);
    CHECK(a.seed == b.seed && a.ensemble == b.ensemble && a.labels_used == b.labels_used);
    CHECK(a.settings.epochs == b.settings.epochs && a.settings.hidden[0] == b.settings.hidden[0]);
    CHECK(b.settings.annotator_learning_rate != b.settings.annotator_learning_rate); /* null came back as NaN */
    CHECK_STR(b.class_names[1], "c1");
    CHECK_STR(b.annotator_names[3], "a3");
    CHECK_STR(b.data_hash, "sha256:toy");
    CHECK(memcmp(a.annotator_labels, b.annotator_labels, 4 * sizeof(uint64_t)) == 0);
    CHECK_INT(a.memory_bytes, b.memory_bytes);
    amx_free(bytes);
    amx_model_free(decoded);
    amx_model_free(model);
    toy_done(&toy);
}

TEST(learn_model_file_without_names)
{
    struct toy toy;
    struct amx_model *model, *decoded = NULL;
    struct amx_model_info info;
    size_t n = 0;
    unsigned char *bytes;

    toy_init(&toy, 40, 4, 3, 4, 52);
    toy.data.class_names = NULL;
    toy.data.annotator_names = NULL;
    toy.data.data_hash = NULL;
    model = toy_fit(&toy);
    bytes = toy_encode(model, &n);
    CHECK_INT(amx_model_decode(bytes, n, &decoded, NULL), AMX_OK);
    amx_model_info(decoded, &info);
    CHECK(info.class_names == NULL && info.annotator_names == NULL && info.data_hash == NULL);
    amx_free(bytes);
    amx_model_free(decoded);
    amx_model_free(model);
    toy_done(&toy);
}

TEST(learn_model_file_refuses_names_that_are_not_utf8)
{
    struct toy toy;
    struct amx_model *model;
    unsigned char *bytes = NULL;
    size_t n = 0;
    struct amx_error err;

    toy_init(&toy, 40, 4, 3, 4, 52);
    memcpy(toy.names[1], "\xff", 2);
    model = toy_fit(&toy);
    CHECK_INT(amx_model_encode(model, &bytes, &n, &err), AMX_INVALID);
    CHECK(bytes == NULL);
    amx_model_free(model);
    toy_done(&toy);
}

TEST(learn_model_file_cut)
{
    struct toy toy;
    struct amx_model *model = small_model(&toy, 1);
    size_t n = 0;
    unsigned char *bytes = toy_encode(model, &n);

    for (size_t cut = 0; cut < n; cut += cut < 300 ? 1 : 97)
        refuse(bytes, cut, "cut file");
    refuse(bytes, n - 1, "file without its last byte");
    /* Cut inside the tensors and sealed again: the hash is right, the sizes are not. */
    for (size_t cut = HASH; cut < n; cut += 211) {
        unsigned char *copy = toy_alloc(cut, 1);
        memcpy(copy, bytes, cut);
        seal(copy, cut);
        refuse(copy, cut, "cut and sealed file");
        free(copy);
    }
    amx_free(bytes);
    amx_model_free(model);
    toy_done(&toy);
}

TEST(learn_model_file_changed)
{
    struct toy toy;
    struct amx_model *model = small_model(&toy, 1);
    size_t n = 0;
    unsigned char *bytes = toy_encode(model, &n), *longer;

    for (size_t i = 0; i < n; i += i < 200 ? 1 : 61) {
        for (int bit = 0; bit < 8; bit += 3) {
            bytes[i] ^= (unsigned char)(1 << bit);
            refuse(bytes, n, "one bit changed");
            bytes[i] ^= (unsigned char)(1 << bit);
        }
    }
    longer = toy_alloc(n + 4, 1);
    memcpy(longer, bytes, n);
    refuse(longer, n + 4, "bytes after the end");
    seal(longer, n + 4);
    refuse(longer, n + 4, "bytes after the tensors, sealed");
    free(longer);
    amx_free(bytes);
    amx_model_free(model);
    toy_done(&toy);
}

/* Files with a right hash and a wrong head: what an attacker would send. */
TEST(learn_model_file_forged)
{
    struct toy toy;
    struct amx_model *model = small_model(&toy, 1);
    size_t n = 0;
    unsigned char *bytes = toy_encode(model, &n), *copy;

    refuse_edited(bytes, n, "AMXMODEL", "AMXMODEM");
    refuse_edited(bytes, n, "\"annot_mix\"", "\"annot_mux\"");
    refuse_zero_byte(bytes, n);
    refuse_edited(bytes, n, "\"feature_dim\":4", "\"feature_dim\":5");
    refuse_edited(bytes, n, "\"n_classes\":3", "\"n_classes\":9");
    refuse_edited(bytes, n, "\"n_classes\":3", "\"n_classes\":1");
    refuse_edited(bytes, n, "\"ensemble\":1", "\"ensemble\":0");
    refuse_edited(bytes, n, "\"ensemble\":1", "\"ensemble\":2");
    refuse_edited(bytes, n, "\"hidden\":[8]", "\"hidden\":[9]");
    refuse_edited(bytes, n, "\"hidden\":[8]", "\"hidden\":[0]");
    refuse_edited(bytes, n, "\"hidden\":[8]", "\"hidden\":\"8 ");
    refuse_edited(bytes, n, "\"epochs\":3", "\"epochs\":0");
    refuse_edited(bytes, n, "\"keep\"", "\"keap\"");
    refuse_edited(bytes, n, "\"standardize\":true", "\"standardize\":1   ");
    refuse_edited(bytes, n, "\"seed\":7", "\"sead\":7");
    refuse_edited(bytes, n, "\"m0/hidden0.weight\"", "\"m0/hidden1.weight\"");
    refuse_edited(bytes, n, "\"m0/bn0.weight\"", "\"m0/bn0.bias\"  ");
    refuse_edited(bytes, n, "\"float32\"", "\"float64\"");
    refuse_edited(bytes, n, "\"shape\":[8,4]", "\"shape\":[4,8]");
    refuse_edited(bytes, n, "\"offset\":0", "\"offset\":4");
    refuse_edited(bytes, n, "\"name\":\"a1\"", "\"name\":null");
    refuse_edited(bytes, n, "\"labels\":", "\"lebals\":");
    refuse_edited(bytes, n, "\"c1\"", "\"\xff\"\x20");
    refuse_edited(bytes, n, "\"temperature\":1.0", "\"temperature\":0.0");

    /* A NaN, a negative variance, a scale of 0 in the tensors. */
    static const unsigned char nan_bytes[4] = {0, 0, 0xc0, 0x7f}, minus_one[4] = {0, 0, 0x80, 0xbf}, zero[4] = {0};
    copy = toy_alloc(n, 1);
    size_t head = (size_t)bytes[12] | (size_t)bytes[13] << 8 | (size_t)bytes[14] << 16;
    size_t tensors = (16 + head + 63) / 64 * 64;
    memcpy(copy, bytes, n);
    memcpy(copy + n - HASH - 4, nan_bytes, 4);
    seal(copy, n);
    refuse(copy, n, "NaN in the last tensor");
    memcpy(copy, bytes, n);
    memcpy(copy + tensors + 16, zero, 4); /* feature_scale[0] */
    seal(copy, n);
    refuse(copy, n, "scale of 0");
    memcpy(copy, bytes, n);
    /* mean 4, scale 4, then hidden0.weight 8x4, bias 8, bn weight 8, bias 8, running_mean 8, running_var */
    memcpy(copy + tensors + 4 * (4 + 4 + 32 + 8 + 8 + 8 + 8), minus_one, 4);
    seal(copy, n);
    refuse(copy, n, "negative variance");
    if (tensors > 16 + head) {
        memcpy(copy, bytes, n);
        copy[16 + head] = 1;
        seal(copy, n);
        refuse(copy, n, "padding that is not zero");
    }
    free(copy);
    amx_free(bytes);
    amx_model_free(model);
    toy_done(&toy);
}

TEST(learn_model_file_version)
{
    struct toy toy;
    struct amx_model *model = small_model(&toy, 1), *out = NULL;
    size_t n = 0;
    unsigned char *bytes = toy_encode(model, &n);
    struct amx_error err;

    bytes[8] = 2;
    seal(bytes, n);
    CHECK_INT(amx_model_decode(bytes, n, &out, &err), AMX_CORRUPT);
    CHECK(strstr(err.text, "version 2") != NULL);
    CHECK(out == NULL);
    amx_free(bytes);
    amx_model_free(model);
    toy_done(&toy);
}
