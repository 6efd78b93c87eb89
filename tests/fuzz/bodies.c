/* bodies.c - targets for whole JSON bodies that are not rows: predict, projects, training runs, face-offs. */
#include <stdlib.h>
#include <string.h>

#include "endpoints/derived/predict_request.h"
#include "endpoints/project_body.h"
#include "fuzz.h"
#include "util/jsonx.h"
#include "util/utf8.h"
#include "work/face_off/face_off_request.h"
#include "work/runs/run_request.h"

enum {
    DIMS = 3,
    CLASSES = 4
};

static void expect_error(enum amx_status status, const struct amx_error *err)
{
    EXPECT(status == AMX_OK || (status == AMX_INVALID && err->text[0] != '\0' && utf8_valid(err->text, strlen(err->text)) &&
                                utf8_valid(err->pointer, strlen(err->pointer))));
}

static void predict(const char *text, size_t n)
{
    struct predict_request request = {0};
    enum problem problem = PROBLEM_INTERNAL;
    struct amx_error err = {.code = AMX_OK};
    enum amx_status status = predict_request_json(text, n, DIMS, &request, &problem, &err);
    expect_error(status, &err);
    EXPECT(status == AMX_OK || problem != PROBLEM_INTERNAL);
    for (size_t i = 0; status == AMX_OK && i < request.n_rows * DIMS; i++)
        EXPECT(request.features[i] >= -1e6F && request.features[i] <= 1e6F);
    predict_request_done(&request);
    request = (struct predict_request){0};
    status = predict_request_binary(text, n, DIMS, &request, &err);
    EXPECT(status == AMX_OK || status == AMX_INVALID);
    EXPECT(status != AMX_OK || request.n_rows * DIMS * sizeof(float) == n);
    predict_request_done(&request);
}

/* A request that was read says itself the same way twice: queued runs are told apart by this text. */
static void training_run(const json_t *json)
{
    struct run_request request, again;
    struct amx_error err = {.code = AMX_OK};
    enum amx_status status = run_request_parse(json, NULL, DIMS, CLASSES, &request, &err);
    expect_error(status, &err);
    if (status == AMX_OK) {
        char *text = run_request_settings_text(&request);
        struct run_spec spec;
        EXPECT(text != NULL);
        run_request_to_spec(&request, text, &spec);
        EXPECT(run_request_of_spec(&spec, &again, &err) == AMX_OK);
        char *text_again = run_request_settings_text(&again);
        EXPECT(text_again != NULL && strcmp(text, text_again) == 0);
        EXPECT(strcmp(request.method, again.method) == 0 && request.seed == again.seed && request.folds == again.folds);
        free(text);
        free(text_again);
    }
    status = run_request_check_training(json, "/settings/training", DIMS, CLASSES, &err);
    expect_error(status, &err);
    status = run_request_parse(json, NULL, 0, CLASSES, &request, &err);
    expect_error(status, &err);
}

static void face_off(const json_t *json)
{
    struct face_off request, again;
    struct amx_error err = {.code = AMX_OK};
    enum amx_status status = face_off_parse(json, &request, &err);
    expect_error(status, &err);
    if (status == AMX_OK) {
        char *text = face_off_settings_text(&request);
        struct run_spec spec;
        EXPECT(text != NULL);
        face_off_to_spec(&request, text, &spec);
        EXPECT(face_off_of_spec(&spec, &again, &err) == AMX_OK);
        free(text);
    }
}

static void project(const json_t *json, enum project_body_kind kind)
{
    struct project_body body = {0};
    struct amx_error err = {.code = AMX_OK};
    enum amx_status status = project_body_parse(json, kind, &body, &err);
    expect_error(status, &err);
    if (status == AMX_OK) {
        EXPECT(body.n_classes >= 2 && body.n_classes <= AMX_MAX_CLASSES && body.feature_dim <= AMX_MAX_FEATURES);
        for (size_t i = 0; i < body.n_classes; i++)
            EXPECT(name_valid(body.classes[i].bytes, body.classes[i].n, NULL));
    }
    project_body_done(&body);
    status = project_patch_check(json, &err);
    expect_error(status, &err);
}

void fuzz_json_bodies(const uint8_t *data, size_t n)
{
    uint8_t kind = fuzz_byte(&data, &n) % 4;
    struct amx_error err = {.code = AMX_OK};
    char *text = malloc(n > 0 ? n : 1);
    json_t *json = NULL;
    EXPECT(text != NULL);
    memcpy(text, data, n);
    enum amx_status status = jsonx_load_object(text, n, &json, &err);
    expect_error(status, &err);
    if (kind == 0)
        predict(text, n);
    else if (json != NULL && kind == 1)
        training_run(json);
    else if (json != NULL && kind == 2)
        face_off(json);
    else if (json != NULL)
        project(json, data[n - 1] % 2 == 0 ? PROJECT_BODY_NEW : PROJECT_BODY_PUT);
    json_decref(json);
    free(text);
}
