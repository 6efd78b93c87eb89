/* Tests of src/endpoints/derived/predict_request.c: what is read, and how each kind of bad body is named. */
#include <string.h>

#include "endpoints/derived/predict_request.h"
#include "test.h"

/* Parses; gives status, problem and pointer. */
struct outcome {
    enum amx_status status;
    enum problem problem;
    struct amx_error err;
    struct predict_request request;
};

static struct outcome parse(const char *text)
{
    struct outcome o = {0};
    o.status = predict_request_json(text, strlen(text), 2, &o.request, &o.problem, &o.err);
    return o;
}

static void refused(const char *text, enum problem problem, const char *pointer)
{
    struct outcome o = parse(text);
    CHECK_INT(o.status, AMX_INVALID);
    CHECK_INT(o.problem, problem);
    CHECK_STR(o.err.pointer, pointer);
    predict_request_done(&o.request);
}

TEST(features_ids_annotators_and_words_are_read)
{
    struct outcome o =
        parse("{\"instances\":[{\"features\":[0.5,-2]},{\"id\":\"a\\u0062\"},{\"id\":\"x\",\"features\":[1,2]}],"
              "\"annotators\":[\"ana\",\"bo\"],\"return\":[\"p_perf\"]}");
    CHECK_INT(o.status, AMX_OK);
    CHECK_INT(o.request.n_rows, 3);
    CHECK_NEAR(o.request.features[0], 0.5, 0);
    CHECK_NEAR(o.request.features[1], -2, 0);
    CHECK(!o.request.rows[1].has_features);
    CHECK_STR(o.request.rows[1].id.bytes, "ab");
    CHECK(o.request.rows[2].has_features);
    CHECK_NEAR(o.request.features[5], 2, 0);
    CHECK_INT(o.request.n_annotators, 2);
    CHECK_STR(o.request.annotators[1], "bo");
    CHECK(o.request.want.p_perf && !o.request.want.p_class);
    predict_request_done(&o.request);
}

TEST(p_class_is_the_default)
{
    struct outcome o = parse("{\"instances\":[]}");
    CHECK_INT(o.status, AMX_OK);
    CHECK(o.request.want.p_class && !o.request.want.p_perf);
    predict_request_done(&o.request);
}

TEST(many_rows_keep_their_features)
{
    AUTO(buf) text = BUF_INIT(1 << 20);
    size_t n = 1000;
    (void)buf_text(&text, "{\"instances\":[");
    for (size_t i = 0; i < n; i++)
        (void)buf_printf(&text, "%s{\"features\":[%zu,%zu]}", i > 0 ? "," : "", i, 2 * i);
    CHECK_INT(buf_text(&text, "]}"), AMX_OK);
    struct outcome o = parse(buf_string(&text));
    CHECK_INT(o.status, AMX_OK);
    CHECK_INT(o.request.n_rows, n);
    for (size_t i = 0; o.status == AMX_OK && i < n; i += 37)
        CHECK_NEAR(o.request.features[2 * i + 1], 2.0 * (double)i, 0);
    predict_request_done(&o.request);
}

TEST(bad_bodies_are_named)
{
    refused("", PROBLEM_MALFORMED_BODY, "");
    refused("{", PROBLEM_MALFORMED_BODY, "");
    refused("{\"instances\":[]} x", PROBLEM_MALFORMED_BODY, "");
    refused("{\"instances\":[{\"id\":\"\xff\"}]}", PROBLEM_MALFORMED_BODY, "");
    refused("[]", PROBLEM_INVALID_BODY, "");
    refused("{}", PROBLEM_INVALID_BODY, "/instances");
    refused("{\"instances\":3}", PROBLEM_INVALID_BODY, "/instances");
    refused("{\"instances\":[{\"features\":[1]}]}", PROBLEM_INVALID_BODY, "/instances/0/features");
    refused("{\"instances\":[{\"features\":[1,2,3]}]}", PROBLEM_INVALID_BODY, "/instances/0/features");
    refused("{\"instances\":[{\"features\":[1,NaN]}]}", PROBLEM_INVALID_BODY, "/instances/0/features/1");
    refused("{\"instances\":[{\"features\":[1,1e999]}]}", PROBLEM_INVALID_BODY, "/instances/0/features/1");
    refused("{\"instances\":[{\"features\":[1,1000001]}]}", PROBLEM_INVALID_BODY, "/instances/0/features/1");
    refused("{\"instances\":[{\"features\":[1,\"2\"]}]}", PROBLEM_INVALID_BODY, "/instances/0/features/1");
    refused("{\"instances\":[{}]}", PROBLEM_INVALID_BODY, "/instances/0");
    refused("{\"instances\":[{\"id\":\"\"}]}", PROBLEM_INVALID_BODY, "/instances/0/id");
    refused("{\"instances\":[{\"id\":\"a\",\"id\":\"a\"}]}", PROBLEM_INVALID_BODY, "/instances/0");
    refused("{\"instances\":[],\"instances\":[]}", PROBLEM_INVALID_BODY, "/instances");
    refused("{\"instances\":[],\"what\":1}", PROBLEM_INVALID_BODY, "/what");
    refused("{\"instances\":[],\"return\":[\"p\"]}", PROBLEM_INVALID_BODY, "/return/0");
    refused("{\"instances\":[],\"annotators\":[\"a\",\"a\"]}", PROBLEM_INVALID_BODY, "/annotators");
    refused("{\"instances\":[],\"annotators\":[\".\"]}", PROBLEM_INVALID_BODY, "/annotators/0");
}

TEST(binary_rows_are_little_endian_floats)
{
    static const unsigned char one_and_two[] = {0, 0, 0x80, 0x3f, 0, 0, 0, 0x40};
    static const unsigned char nan_row[] = {0, 0, 0x80, 0x3f, 0, 0, 0xc0, 0x7f};
    struct predict_request request;
    struct amx_error err = {0};
    CHECK_INT(predict_request_binary((const char *)one_and_two, sizeof one_and_two, 2, &request, &err), AMX_OK);
    CHECK_INT(request.n_rows, 1);
    CHECK_NEAR(request.features[0], 1, 0);
    CHECK_NEAR(request.features[1], 2, 0);
    predict_request_done(&request);
    CHECK_INT(predict_request_binary((const char *)one_and_two, 7, 2, &request, &err), AMX_INVALID);
    predict_request_done(&request);
    CHECK_INT(predict_request_binary((const char *)nan_row, sizeof nan_row, 2, &request, &err), AMX_INVALID);
    CHECK_INT(err.line, 1);
    predict_request_done(&request);
}
