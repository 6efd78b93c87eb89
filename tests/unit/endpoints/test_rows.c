/* test_rows.c - rows of labels, instances and gold: fields, names, classes, numbers, and the pointers of what is wrong. */
#include <stdio.h>
#include <string.h>

#include "fixture.h"
#include "test.h"
#include "util/clock.h"

struct outcome {
    enum amx_status status;
    enum problem problem;
    struct amx_error err;
    bool grammar;
};

static struct outcome label(const char *text, struct arena *a, struct label_in *out)
{
    struct outcome o = {.status = AMX_OK};
    struct row_context c = fixture_context();
    struct scan s;
    scan_init(&s, text, strlen(text));
    o.status = row_label_json(&c, &s, "", a, out, &o.err);
    o.problem = c.problem;
    o.grammar = s.why != NULL;
    return o;
}

static struct outcome instance(const char *text, struct arena *a, struct instance_in *out)
{
    struct outcome o = {.status = AMX_OK};
    struct row_context c = fixture_context();
    struct scan s;
    scan_init(&s, text, strlen(text));
    o.status = row_instance_json(&c, &s, a, out, &o.err);
    o.problem = c.problem;
    o.grammar = s.why != NULL;
    return o;
}

static bool is(struct slice text, const char *word)
{
    return text.bytes != NULL && text.n == strlen(word) && memcmp(text.bytes, word, text.n) == 0;
}

TEST(rows_label_with_everything)
{
    struct arena a = {0};
    struct label_in row;
    struct outcome o = label("{\"instance\":\"s\\u0031\",\"annotator\":\"ana\",\"class\":\"rock\",\"ref\":\"t/1\","
                             "\"given_at\":\"2026-11-23T22:00:00+01:00\",\"duration_ms\":2150,\"skipped\":false}",
                             &a, &row);
    CHECK_INT(o.status, AMX_OK);
    CHECK(is(row.instance, "s1"));
    CHECK(is(row.annotator, "ana"));
    CHECK(is(row.ref, "t/1"));
    CHECK_INT(row.class_index, 2);
    CHECK_INT(row.duration_ms, 2150);
    int64_t ms = 0;
    CHECK(clock_parse("2026-11-23T21:00:00Z", 20, &ms));
    CHECK_INT(row.given_at_ms, ms);
    arena_done(&a);
}

TEST(rows_label_with_the_least)
{
    struct arena a = {0};
    struct label_in row;
    CHECK_INT(label("{\"annotator\":\"b\",\"class\":\"blues\",\"instance\":\"i\",\"ref\":null}", &a, &row).status,
              AMX_OK);
    CHECK(row.ref.bytes == NULL);
    CHECK_INT(row.given_at_ms, 0);
    CHECK_INT(row.duration_ms, -1);
    CHECK_INT(label("{\"instance\":\"i\",\"annotator\":\"b\",\"skipped\":true}", &a, &row).status, AMX_OK);
    CHECK(row.skipped);
    CHECK_INT(row.class_index, ROW_NO_CLASS);
    arena_done(&a);
}

TEST(rows_label_refusals_name_their_place)
{
    static const struct {
        const char *text, *pointer;
        enum problem problem;
    } cases[] = {
        {"{\"annotator\":\"a\",\"class\":\"rock\"}", "/instance", PROBLEM_INVALID_BODY},
        {"{\"instance\":\"i\",\"class\":\"rock\"}", "/annotator", PROBLEM_INVALID_BODY},
        {"{\"instance\":\"i\",\"annotator\":\"a\"}", "/class", PROBLEM_INVALID_BODY},
        {"{\"instance\":\"i\",\"annotator\":\"a\",\"class\":\"jazz\"}", "/class", PROBLEM_UNKNOWN_CLASS},
        {"{\"instance\":\"i\",\"annotator\":\"a\",\"class\":\"classical\"}", "/class", PROBLEM_UNKNOWN_CLASS},
        {"{\"instance\":\"i\",\"annotator\":\"a\",\"class\":\"rock\",\"skipped\":true}", "/class",
         PROBLEM_INVALID_BODY},
        {"{\"instance\":\"i\",\"instance\":\"j\",\"annotator\":\"a\",\"class\":\"rock\"}", "/instance",
         PROBLEM_INVALID_BODY},
        {"{\"instance\":\"i\",\"annotator\":\"a\",\"class\":\"rock\",\"clas\":1}", "/clas", PROBLEM_INVALID_BODY},
        {"{\"instance\":\"\",\"annotator\":\"a\",\"class\":\"rock\"}", "/instance", PROBLEM_INVALID_BODY},
        {"{\"instance\":\"a\\tb\",\"annotator\":\"a\",\"class\":\"rock\"}", "/instance", PROBLEM_INVALID_BODY},
        {"{\"instance\":\"..\",\"annotator\":\"a\",\"class\":\"rock\"}", "/instance", PROBLEM_INVALID_BODY},
        {"{\"instance\":5,\"annotator\":\"a\",\"class\":\"rock\"}", "/instance", PROBLEM_INVALID_BODY},
        {"{\"instance\":\"i\",\"annotator\":\"a\",\"class\":\"rock\",\"given_at\":\"yesterday\"}", "/given_at",
         PROBLEM_INVALID_BODY},
        {"{\"instance\":\"i\",\"annotator\":\"a\",\"class\":\"rock\",\"given_at\":\"2026-11-23T21:00:00\"}",
         "/given_at", PROBLEM_INVALID_BODY},
        {"{\"instance\":\"i\",\"annotator\":\"a\",\"class\":\"rock\",\"duration_ms\":-1}", "/duration_ms",
         PROBLEM_INVALID_BODY},
        {"{\"instance\":\"i\",\"annotator\":\"a\",\"class\":\"rock\",\"duration_ms\":1.5}", "/duration_ms",
         PROBLEM_INVALID_BODY},
        {"{\"instance\":\"i\",\"annotator\":\"a\",\"class\":\"rock\",\"skipped\":1}", "/skipped", PROBLEM_INVALID_BODY},
        {"[]", "", PROBLEM_INVALID_BODY},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct arena a = {0};
        struct label_in row;
        struct outcome o = label(cases[i].text, &a, &row);
        CHECK_INT(o.status, AMX_INVALID);
        CHECK_STR(o.err.pointer, cases[i].pointer);
        CHECK_INT(o.problem, cases[i].problem);
        CHECK(!o.grammar);
        arena_done(&a);
    }
}

TEST(rows_names_of_256_bytes_are_refused)
{
    char text[400], name[257];
    struct arena a = {0};
    struct label_in row;
    memset(name, 'x', 256);
    name[256] = '\0';
    (void)snprintf(text, sizeof text, "{\"instance\":\"%s\",\"annotator\":\"a\",\"class\":\"rock\"}", name);
    CHECK_INT(label(text, &a, &row).status, AMX_INVALID);
    name[255] = '\0';
    (void)snprintf(text, sizeof text, "{\"instance\":\"%s\",\"annotator\":\"a\",\"class\":\"rock\"}", name);
    CHECK_INT(label(text, &a, &row).status, AMX_OK);
    arena_done(&a);
}

TEST(rows_broken_grammar_is_told_as_such)
{
    struct arena a = {0};
    struct label_in row;
    struct outcome o = label("{\"instance\":\"i\",\"annotator\":\"a\" \"class\":\"rock\"}", &a, &row);
    CHECK_INT(o.status, AMX_INVALID);
    CHECK_INT(o.problem, PROBLEM_MALFORMED_BODY);
    CHECK(o.grammar);
    arena_done(&a);
}

TEST(rows_bound_tokens_write_their_own_labels_only)
{
    static const char text[] = "{\"instance\":\"i\",\"annotator\":\"ana\",\"class\":\"rock\"}";
    struct row_context c = fixture_context();
    struct arena a = {0};
    struct label_in row;
    struct amx_error err;
    struct scan s;
    c.bound = true;
    (void)snprintf(c.annotator, sizeof c.annotator, "ana");
    scan_init(&s, text, sizeof text - 1);
    CHECK_INT(row_label_json(&c, &s, "", &a, &row, &err), AMX_OK);
    (void)snprintf(c.annotator, sizeof c.annotator, "an");
    scan_init(&s, text, sizeof text - 1);
    CHECK_INT(row_label_json(&c, &s, "", &a, &row, &err), AMX_INVALID);
    CHECK_INT(c.problem, PROBLEM_FORBIDDEN);
    arena_done(&a);
}

TEST(rows_instance_with_everything)
{
    struct arena a = {0};
    struct instance_in row;
    struct outcome o =
        instance("{\"labels\":[{\"annotator\":\"a\",\"class\":\"rock\"},{\"annotator\":\"b\",\"skipped\":true},"
                 "{\"annotator\":\"c\",\"class\":\"blues\"},{\"annotator\":\"d\",\"class\":\"blues\"},"
                 "{\"annotator\":\"e\",\"class\":\"blues\"}],\"id\":\"song\",\"features\":[0.5,-1e6],"
                 "\"split\":\"test\",\"metadata\":{\"x\": [1.50]},\"gold\":\"rock\"}",
                 &a, &row);
    CHECK_INT(o.status, AMX_OK);
    CHECK(is(row.id, "song"));
    CHECK(row.features != NULL && row.features[0] == 0.5F && row.features[1] == -1e6F);
    CHECK_INT(row.split, SPLIT_TEST);
    CHECK(is(row.metadata, "{\"x\": [1.50]}"));
    CHECK_INT(row.gold, 2);
    CHECK_INT(row.n_labels, 5);
    CHECK(is(row.labels[4].instance, "song") && is(row.labels[4].annotator, "e"));
    CHECK(row.labels[1].skipped);
    arena_done(&a);
}

TEST(rows_instance_refusals_name_their_place)
{
    static const struct {
        const char *text, *pointer, *detail;
    } cases[] = {
        {"{\"features\":[1,2]}", "/id", "id is missing"},
        {"{\"id\":\"x\",\"features\":[1,NaN]}", "/features/1", "NaN is not a finite number with |x| <= 1e6"},
        {"{\"id\":\"x\",\"features\":[-Infinity,1]}", "/features/0",
         "-Infinity is not a finite number with |x| <= 1e6"},
        {"{\"id\":\"x\",\"features\":[1e999,1]}", "/features/0", "1e999 is not a finite number with |x| <= 1e6"},
        {"{\"id\":\"x\",\"features\":[1,1000001]}", "/features/1", "1000001 is not a finite number with |x| <= 1e6"},
        {"{\"id\":\"x\",\"features\":[1,\"2\"]}", "/features/1", "a feature must be a number"},
        {"{\"id\":\"x\",\"features\":[1,null]}", "/features/1", "a feature must be a number"},
        {"{\"id\":\"x\",\"features\":[1]}", "/features", "features has 1 numbers; feature_dim is 2"},
        {"{\"id\":\"x\",\"features\":[1,2,3]}", "/features", "features has 3 numbers; feature_dim is 2"},
        {"{\"id\":\"x\",\"features\":7}", "/features", "features must be an array of numbers"},
        {"{\"id\":\"x\",\"split\":\"Train\"}", "/split", "split is none of train, valid, test"},
        {"{\"id\":\"x\",\"gold\":\"jazz\"}", "/gold", "the project has no class \"jazz\""},
        {"{\"id\":\"x\",\"labels\":[{\"annotator\":\"a\",\"class\":\"rock\"},{\"class\":\"rock\"}]}",
         "/labels/1/annotator", "annotator is missing"},
        {"{\"id\":\"x\",\"labels\":[{\"annotator\":\"a\",\"instance\":\"y\"}]}", "/labels/0/instance",
         "there is no such field"},
        {"{\"id\":\"x\",\"a~b/c\":1}", "/a~0b~1c", "there is no such field"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct arena a = {0};
        struct instance_in row;
        struct outcome o = instance(cases[i].text, &a, &row);
        CHECK_INT(o.status, AMX_INVALID);
        CHECK_STR(o.err.pointer, cases[i].pointer);
        CHECK_STR(o.err.text, cases[i].detail);
        CHECK(!o.grammar);
        arena_done(&a);
    }
}

TEST(rows_metadata_is_bounded_and_checked)
{
    char text[300];
    struct arena a = {0};
    struct instance_in row;
    (void)snprintf(text, sizeof text, "{\"id\":\"x\",\"metadata\":\"%0100d\"}", 0); /* 102 bytes with the quotes */
    struct outcome o = instance(text, &a, &row);
    CHECK_INT(o.status, AMX_INVALID);
    CHECK_STR(o.err.pointer, "/metadata");
    CHECK_INT(instance("{\"id\":\"x\",\"metadata\":{\"a\":1,\"a\":2}}", &a, &row).status, AMX_INVALID);
    CHECK_INT(instance("{\"id\":\"x\",\"metadata\":[NaN]}", &a, &row).status, AMX_INVALID);
    CHECK_INT(instance("{\"id\":\"x\",\"metadata\":null}", &a, &row).status, AMX_OK);
    CHECK(is(row.metadata, "null"));
    arena_done(&a);
}

TEST(rows_gold_needs_the_scope)
{
    static const char text[] = "{\"id\":\"x\",\"gold\":\"rock\"}";
    struct row_context c = fixture_context();
    struct arena a = {0};
    struct instance_in row;
    struct amx_error err;
    struct scan s;
    c.may_gold = false;
    scan_init(&s, text, sizeof text - 1);
    CHECK_INT(row_instance_json(&c, &s, &a, &row, &err), AMX_INVALID);
    CHECK_INT(c.problem, PROBLEM_FORBIDDEN);
    arena_done(&a);
}
