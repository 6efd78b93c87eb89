/* The bytes of a result of labels alone: there and back, and everything that can be wrong with them. */
#include <stdlib.h>
#include <string.h>

#include "test.h"
#include "work/runs/label_model.h"

enum {
    N = 4,
    C = 3
};
static const char *const names[C] = {"cat", "", "a longer name than eight bytes"};
static const int64_t ids[N] = {12, 3, 40, 7};
static const double posterior[N * C] = {0.5, 0.25, 0.25, 1, 0, 0, 0, 0, 1, 0.125, 0.75, 0.125};

static unsigned char *copy_of(const unsigned char *bytes, size_t n)
{
    unsigned char *copy = malloc(n + 1);

    if (copy != NULL)
        memcpy(copy, bytes, n);
    return copy;
}

TEST(a_label_model_goes_there_and_back_by_ascending_number)
{
    unsigned char *bytes = NULL;
    size_t n = 0;
    struct label_model *model = NULL;
    struct amx_error err;

    CHECK_INT(label_model_encode(ids, posterior, N, names, C, &bytes, &n, &err), AMX_OK);
    CHECK(label_model_is(bytes, n) && !label_model_is((const unsigned char *)"AMXMODEL................", 24));
    CHECK_INT(label_model_decode(bytes, n, &model, &err), AMX_OK); /* takes the bytes */
    if (model == NULL)
        return;
    CHECK_INT(model->n_instances, N);
    CHECK_INT(model->n_classes, C);
    for (size_t k = 0; k < C; k++)
        CHECK_STR(model->class_names[k], names[k]);
    CHECK_INT(model->instance_ids[0], 3);
    CHECK_INT(model->instance_ids[3], 40);
    CHECK_NEAR(model->posterior[0], 1, 0);            /* of 3 */
    CHECK_NEAR(model->posterior[1 * C + 1], 0.75, 0); /* of 7 */
    CHECK_NEAR(model->posterior[2 * C], 0.5, 0);      /* of 12 */
    label_model_free(model);
    label_model_free(NULL);
}

TEST(a_label_model_that_is_cut_or_changed_is_refused)
{
    unsigned char *bytes = NULL;
    size_t n = 0;
    struct label_model *model = NULL;
    struct amx_error err;

    CHECK_INT(label_model_encode(ids, posterior, N, names, C, &bytes, &n, &err), AMX_OK);
    if (bytes == NULL)
        return;
    for (size_t cut = 0; cut < n; cut++) {
        unsigned char *copy = copy_of(bytes, cut);

        CHECK_INT(label_model_decode(copy, cut, &model, &err), AMX_CORRUPT);
        free(copy);
    }
    for (size_t at = 8; at < 28; at++) { /* version, sizes, length of the first name */
        unsigned char *copy = copy_of(bytes, n);

        copy[at] = (unsigned char)(copy[at] ^ 0x81);
        CHECK_INT(label_model_decode(copy, n, &model, &err), AMX_CORRUPT);
        free(copy);
    }
    free(bytes);
    CHECK_INT(label_model_encode(NULL, NULL, 0, names, C, &bytes, &n, &err), AMX_OK);
    CHECK_INT(label_model_decode(bytes, n, &model, &err), AMX_OK);
    CHECK_INT(model->n_instances, 0);
    label_model_free(model);
}
