/* predict_request.h - the body of POST .../predict, read by the strict scanner: numbers go straight into one array of
 * floats. A JSON tree would cost more than the prediction itself (measured figures in predict.c). */
#ifndef ENDPOINTS_DERIVED_PREDICT_REQUEST_H
#define ENDPOINTS_DERIVED_PREDICT_REQUEST_H

#include <stdbool.h>
#include <stddef.h>

#include "annotmix.h"
#include "endpoints/derived/answers.h"
#include "endpoints/problem.h"
#include "util/buf.h"

struct predict_row {
    struct slice id;   /* decoded; bytes NULL = none */
    bool has_features; /* else the stored instance's are used */
};

struct predict_request {
    size_t n_features; /* D of the project */
    size_t n_rows;
    struct predict_row *rows; /* [n_rows] */
    float *features;          /* [n_rows][D]; rows without features hold zeros */
    size_t n_annotators;
    const char **annotators; /* [n_annotators] 0-terminated */
    struct answers_want want;
    /* the parser's own */
    size_t rows_room, annotators_room;
    char *texts; /* decoded strings */
    size_t n_texts;
};

/* JSON. *problem is set when it fails: PROBLEM_MALFORMED_BODY (grammar, UTF-8) or PROBLEM_INVALID_BODY, err has the
 * pointer. AMX_NO_MEMORY too. predict_request_done in any case. */
AMX_CHECK enum amx_status predict_request_json(const char *text, size_t n, size_t n_features,
                                               struct predict_request *out, enum problem *problem,
                                               struct amx_error *err);
/* Little-endian float32 rows. */
AMX_CHECK enum amx_status predict_request_binary(const char *bytes, size_t n, size_t n_features,
                                                 struct predict_request *out, struct amx_error *err);
void predict_request_done(struct predict_request *request);

#endif
