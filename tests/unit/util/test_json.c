/* test_json.c - util/jsonx.h */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "test.h"
#include "util/jsonx.h"
#include "util/utf8.h"

static json_t *load(const char *text)
{
    json_t *json = NULL;
    CHECK_INT(jsonx_load(text, strlen(text), &json, NULL), AMX_OK);
    return json;
}

TEST(json_loading_is_strict)
{
    static const char *const bad[] = {"",           "{",           "{\"a\":1,\"a\":2}",      "[1e999]",    "[NaN]",
                                      "[Infinity]", "{\"a\":1} x", "[\"\\u0000\"]",          "[\"\xFF\"]", "{'a':1}",
                                      "[1,]",       "[01]",        "[123456789012345678901]"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        json_t *json = NULL;
        struct amx_error err = {.code = AMX_OK};
        CHECK_INT(jsonx_load(bad[i], strlen(bad[i]), &json, &err), AMX_INVALID);
        CHECK(json == NULL);
        CHECK(err.text[0] != '\0' && utf8_valid(err.text, strlen(err.text)));
    }
    json_t *json = NULL;
    struct amx_error err;
    CHECK_INT(jsonx_load("{\"a\":1\0}", 8, &json, &err), AMX_INVALID);
    CHECK_INT(jsonx_load("[null\0]", 7, &json, &err), AMX_INVALID);
    CHECK_INT(jsonx_load("{\"a\":\n 1,\n \"b\" 2}", 16, &json, &err), AMX_INVALID);
    CHECK(strstr(err.text, "line 3") != NULL);
    CHECK_INT(jsonx_load_object("[1]", 3, &json, &err), AMX_INVALID);
    CHECK_STR(err.text, "the body must be a JSON object");
    size_t depth = 5000;
    char *deep = malloc(depth);
    memset(deep, '[', depth);
    CHECK_INT(jsonx_load(deep, depth, &json, &err), AMX_INVALID);
    free(deep);
}

TEST(json_fields_point_at_themselves)
{
    json_t *json = load("{\"n\":3,\"x\":2.5,\"s\":\"text\",\"z\":null,\"a\":[],\"o\":{},\"t\":true,\"big\":1e6,\"bad\":"
                        "\"a\\nb\",\"a/b~c\":1}");
    struct amx_error err;
    const char *text = NULL;
    const json_t *value = NULL;
    int64_t n = -1;
    double x = -1;
    bool flag = false;
    CHECK_INT(jsonx_need_int(json, "n", "", 0, 3, &n, &err), AMX_OK);
    CHECK_INT(n, 3);
    CHECK_INT(jsonx_need_int(json, "n", "/p", 0, 2, &n, &err), AMX_INVALID);
    CHECK_STR(err.pointer, "/p/n");
    CHECK_STR(err.text, "must be an integer from 0 to 2");
    CHECK_INT(jsonx_need_int(json, "x", "", 0, 9, &n, &err), AMX_INVALID);
    CHECK_INT(jsonx_opt_int(json, "absent", "", 0, 9, &n, &err), AMX_OK);
    CHECK_INT(jsonx_opt_int(json, "z", "", 0, 9, &n, &err), AMX_OK);
    CHECK_INT(n, 3);
    CHECK_INT(jsonx_need_string(json, "absent", "/q", &text, NULL, &err), AMX_INVALID);
    CHECK_STR(err.pointer, "/q/absent");
    CHECK_INT(jsonx_need_string(json, "z", "", &text, NULL, &err), AMX_INVALID);
    CHECK_INT(jsonx_need_string(json, "n", "", &text, NULL, &err), AMX_INVALID);
    CHECK_INT(jsonx_need_name(json, "bad", "", &text, NULL, &err), AMX_INVALID);
    CHECK_STR(err.text, "the name holds a control character");
    CHECK(text == NULL);
    CHECK_INT(jsonx_need_name(json, "s", "", &text, NULL, &err), AMX_OK);
    CHECK_STR(text, "text");
    CHECK_INT(jsonx_opt_real(json, "n", "", 0, 5, &x, &err), AMX_OK);
    CHECK_NEAR(x, 3, 0);
    CHECK_INT(jsonx_opt_real(json, "big", "", 0, 5, &x, &err), AMX_INVALID);
    CHECK_INT(jsonx_opt_bool(json, "t", "", &flag, &err), AMX_OK);
    CHECK(flag);
    CHECK_INT(jsonx_opt_bool(json, "n", "", &flag, &err), AMX_INVALID);
    CHECK_INT(jsonx_need_array(json, "a", "", &value, &err), AMX_OK);
    CHECK_INT(jsonx_need_array(json, "o", "", &value, &err), AMX_INVALID);
    CHECK_INT(jsonx_opt_object(json, "o", "", &value, &err), AMX_OK);
    static const char *const names[] = {"n", "x", "s", "z", "a", "o", "t", "big", "bad", NULL};
    CHECK_INT(jsonx_only_fields(json, names, "/r", &err), AMX_INVALID);
    CHECK_STR(err.pointer, "/r/a~1b~0c");
    json_decref(json);
}

TEST(json_pointers_fit)
{
    char out[JSONX_POINTER_BYTES], name[200];
    memset(name, '/', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    CHECK(strlen(jsonx_pointer(out, "/features", name)) < JSONX_POINTER_BYTES);
    CHECK_STR(jsonx_pointer_index(out, "/labels", 12), "/labels/12");
    for (size_t i = 0; i + 1 < sizeof name; i++)
        name[i] = i % 2 == 0 ? '\xC3' : '\xA9';
    jsonx_pointer(out, "/x", name);
    CHECK(utf8_valid(out, strlen(out)));
}

TEST(json_writing)
{
    size_t n = 0;
    json_t *json = json_pack("{s:f, s:i, s:o, s:o}", "p", (double)0.1F, "i", 3, "nan", jsonx_real_or_null((double)NAN),
                             "one", jsonx_real_or_null(1));
    char *text = jsonx_dump(json, &n);
    CHECK_STR(text, "{\"p\":0.100000001,\"i\":3,\"nan\":null,\"one\":1.0}");
    CHECK_INT(n, strlen(text));
    free(text);
    json_decref(json);
    CHECK(jsonx_dump(NULL, &n) == NULL);
    AUTO(buf) out = BUF_INIT(100);
    (void)jsonx_write_string(&out, "a\"b\\c\n\xC3\xA9", 8);
    CHECK_STR(buf_string(&out), "\"a\\\"b\\\\c\\u000a\xC3\xA9\"");
    AUTO(buf) small = BUF_INIT(3);
    json = json_string("long");
    CHECK_INT(jsonx_write(&small, json), AMX_TOO_LARGE);
    json_decref(json);
}
