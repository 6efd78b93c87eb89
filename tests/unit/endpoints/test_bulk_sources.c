/* test_bulk_sources.c - NDJSON, CSV and npy in pieces of every size: the rows must not depend on how the bytes were cut. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "endpoints/intake/bulk.h"
#include "fixture.h"
#include "test.h"

/* A bulk request without request, writer and store: with single_job all rows stay in the current batch. */
struct source {
    struct bulk bulk;
    struct service service;
    struct amx_error err;
};

static const struct bulk_kind kinds[] = {
    {.id = BULK_LABELS, .member = "labels"},
    {.id = BULK_INSTANCES, .member = "instances"},
    {.id = BULK_GOLD, .member = "gold"},
};

static enum amx_status instance_json(struct row_context *c, struct scan *s, struct arena *a, struct bulk_row *row,
                                     struct amx_error *err)
{
    return row_instance_json(c, s, a, &row->as.instance, err);
}

static struct source *source_new(int kind)
{
    struct source *x = calloc(1, sizeof *x);
    if (x == NULL)
        abort();
    x->service.config.line_bytes = 200;
    x->service.config.atomic_lines = 1000;
    x->bulk.write.service = &x->service;
    x->bulk.write.project = fixture_project();
    x->bulk.kind = &kinds[kind];
    x->bulk.context = fixture_context();
    x->bulk.single_job = true;
    x->bulk.split = SPLIT_KEEP;
    x->bulk.results_fd = -1;
    x->bulk.errors = json_array();
    lines_init(&x->bulk.lines, 200);
    return x;
}

static void source_free(struct source *x)
{
    if (x->bulk.current != NULL) {
        arena_done(&x->bulk.current->arena);
        free(x->bulk.current->rows);
        free(x->bulk.current);
    }
    lines_done(&x->bulk.lines);
    bulk_csv_close(&x->bulk);
    bulk_npy_close(&x->bulk);
    json_decref(x->bulk.errors);
    free(x);
}

static const struct bulk_row *row_at(const struct source *x, size_t i)
{
    static const struct bulk_row none;
    return x->bulk.current != NULL && i < x->bulk.current->n ? &x->bulk.current->rows[i] : &none;
}

static bool is(struct slice text, const char *word)
{
    return text.bytes != NULL && text.n == strlen(word) && memcmp(text.bytes, word, text.n) == 0;
}

static enum amx_status push_csv(struct source *x, const char *text, size_t n, size_t piece)
{
    enum amx_status status = AMX_OK;
    for (size_t at = 0; at < n && status == AMX_OK; at += piece)
        status = bulk_csv_push(&x->bulk, text + at, n - at < piece ? n - at : piece, &x->err);
    return status == AMX_OK ? bulk_csv_end(&x->bulk, &x->err) : status;
}

TEST(bulk_csv_labels_in_pieces)
{
    static const char text[] =
        "worker,label,task,ref\r\nana,rock,\"song \"\"1\"\"\",\r\n\"b,en\",jazz,s2,r2\ncem,blues,s3,r3";
    for (size_t piece = 1; piece < sizeof text; piece++) {
        struct source *x = source_new(0);
        CHECK(bulk_csv_open(&x->bulk));
        CHECK_INT(push_csv(x, text, sizeof text - 1, piece), AMX_OK);
        CHECK_INT(x->bulk.rows, 3);
        CHECK(is(row_at(x, 0)->as.label.instance, "song \"1\""));
        CHECK(row_at(x, 0)->as.label.ref.bytes == NULL);
        CHECK_INT(row_at(x, 0)->line, 2);
        CHECK_INT(row_at(x, 1)->outcome, BULK_REJECTED);
        CHECK_STR(row_at(x, 1)->pointer, "/class");
        CHECK(is(row_at(x, 2)->as.label.annotator, "cem"));
        CHECK(is(row_at(x, 2)->as.label.ref, "r3"));
        CHECK_INT(row_at(x, 2)->as.label.class_index, 0);
        source_free(x);
    }
}

TEST(bulk_csv_refuses_wrong_headers)
{
    static const struct {
        int kind;
        const char *header;
    } cases[] = {{0, "task,worker\n"},
                 {0, "task,worker,label,label\n"},
                 {0, "task,worker,label,colour\n"},
                 {0, "instance,task,worker,label\n"},
                 {1, "split,f0,f1\n"},
                 {1, "instance,f0\n"},
                 {1, "instance,f0,f2\n"},
                 {1, "instance,f0,f00\n"},
                 {2, "instance\n"},
                 {2, "instance,label\n"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct source *x = source_new(cases[i].kind);
        CHECK(bulk_csv_open(&x->bulk));
        CHECK_INT(push_csv(x, cases[i].header, strlen(cases[i].header), 1000), AMX_INVALID);
        CHECK_INT(x->err.line, 1);
        source_free(x);
    }
}

TEST(bulk_csv_instances)
{
    static const char text[] = "instance,f1,split,f0\na,2,test,1\nb,,,\nc,nan,,1\nd,1,,1e999\ne,x,,1\nf,,,3\n";
    struct source *x = source_new(1);
    CHECK(bulk_csv_open(&x->bulk));
    CHECK_INT(push_csv(x, text, sizeof text - 1, 7), AMX_OK);
    CHECK_INT(x->bulk.rows, 6);
    const struct instance_in *a = &row_at(x, 0)->as.instance;
    CHECK(a->features != NULL && a->features[0] == 1 && a->features[1] == 2);
    CHECK_INT(a->split, SPLIT_TEST);
    CHECK(row_at(x, 1)->as.instance.features == NULL);
    CHECK_INT(row_at(x, 1)->outcome, BULK_PENDING);
    static const char *const pointers[] = {"/features/1", "/features/0", "/features/1", "/features/1"};
    for (size_t i = 2; i < 6; i++) {
        CHECK_INT(row_at(x, i)->outcome, BULK_REJECTED);
        CHECK_STR(row_at(x, i)->pointer, pointers[i - 2]);
    }
    source_free(x);
}

TEST(bulk_ndjson_lines_are_rows)
{
    static struct bulk_kind kind;
    static const char text[] =
        "{\"id\":\"a\"}\n\n  "
        "\r\n{\"id\":\"b\",\"features\":[1,NaN]}\r\n{\"id\":\n{\"id\":\"\xff\"}\n{\"id\":\"e\"}x\n{\"id\":\"f\"}";
    kind = kinds[1];
    kind.json = instance_json;
    for (size_t piece = 1; piece < sizeof text; piece++) {
        struct source *x = source_new(1);
        x->bulk.kind = &kind;
        enum amx_status status = AMX_OK;
        for (size_t at = 0; at < sizeof text - 1 && status == AMX_OK; at += piece) {
            size_t n = sizeof text - 1 - at < piece ? sizeof text - 1 - at : piece;
            status = lines_push(&x->bulk.lines, text + at, n, bulk_ndjson_line, &x->bulk, &x->err);
        }
        CHECK_INT(status, AMX_OK);
        CHECK_INT(lines_end(&x->bulk.lines, bulk_ndjson_line, &x->bulk, &x->err), AMX_OK);
        CHECK_INT(x->bulk.rows, 6);
        static const uint64_t lines[] = {1, 4, 5, 6, 7, 8};
        for (size_t i = 0; i < 6; i++) {
            CHECK_INT(row_at(x, i)->line, lines[i]);
            CHECK_INT(row_at(x, i)->outcome, i == 0 || i == 5 ? BULK_PENDING : BULK_REJECTED);
        }
        CHECK_STR(row_at(x, 1)->pointer, "/features/1");
        CHECK(is(row_at(x, 5)->as.instance.id, "f"));
        source_free(x);
    }
}

/* ---- npy ---- */

static size_t npy(char *out, const char *header, int version, const void *data, size_t n)
{
    size_t length = strlen(header), start = version == 1 ? 10 : 12;
    memcpy(out, "\x93NUMPY", 6);
    out[6] = (char)version;
    out[7] = 0;
    out[8] = (char)(length & 0xFF);
    out[9] = (char)(length >> 8);
    if (version > 1)
        out[10] = out[11] = 0;
    memcpy(out + start, header, length);
    memcpy(out + start + length, data, n);
    return start + length + n;
}

static struct source *npy_source(void)
{
    struct source *x = source_new(1);
    x->bulk.npy = bulk_npy_new("P");
    CHECK(x->bulk.npy != NULL);
    return x;
}

static enum amx_status push_npy(struct source *x, const char *bytes, size_t n, size_t piece)
{
    enum amx_status status = AMX_OK;
    for (size_t at = 0; at < n && status == AMX_OK; at += piece)
        status = bulk_npy_push(&x->bulk, bytes + at, n - at < piece ? n - at : piece, &x->err);
    return status == AMX_OK ? bulk_npy_end(&x->bulk, &x->err) : status;
}

TEST(bulk_npy_in_pieces)
{
    static const float singles[] = {1, 2, 3, -4, 5, NAN};
    static const double doubles[] = {1, 2, 3, -4, 5, 1e7};
    char bytes[300];
    for (int version = 1; version <= 3; version++)
        for (int wide = 0; wide < 2; wide++) {
            size_t n = npy(bytes,
                           wide ? "{'descr': '<f8', 'fortran_order': False, 'shape': (3, 2), }  \n"
                                : "{'shape': (3,2), 'fortran_order': False, 'descr': '<f4'}\n",
                           version, wide ? (const void *)doubles : singles, wide ? sizeof doubles : sizeof singles);
            for (size_t piece = 1; piece <= n; piece++) {
                struct source *x = npy_source();
                CHECK_INT(push_npy(x, bytes, n, piece), AMX_OK);
                CHECK_INT(x->bulk.rows, 3);
                CHECK(is(row_at(x, 1)->as.instance.id, "P1"));
                const float *features = row_at(x, 1)->as.instance.features;
                CHECK(features != NULL && features[0] == 3 && features[1] == -4);
                CHECK_INT(row_at(x, 2)->outcome, BULK_REJECTED);
                CHECK_STR(row_at(x, 2)->pointer, "/features/1");
                CHECK_INT(row_at(x, 2)->line, 3);
                source_free(x);
            }
        }
}

TEST(bulk_npy_refusals)
{
    static const float data[] = {1, 2, 3, 4};
    static const char *const headers[] = {
        "{'descr': '>f4', 'fortran_order': False, 'shape': (2, 2), }\n",
        "{'descr': '<i4', 'fortran_order': False, 'shape': (2, 2), }\n",
        "{'descr': '<f4', 'fortran_order': True, 'shape': (2, 2), }\n",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (4,), }\n",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 4), }\n",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2, 2), }\n",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2), }\n", /* too many bytes */
        "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2), }\n", /* too few */
        "{'descr': '<f4', 'shape': (2, 2), }\n",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999, 2), }\n",
        "{",
        "",
    };
    char bytes[300];
    for (size_t i = 0; i < sizeof headers / sizeof headers[0]; i++) {
        struct source *x = npy_source();
        size_t n = npy(bytes, headers[i], 1, data, sizeof data);
        CHECK_INT(push_npy(x, bytes, n, 64), AMX_INVALID);
        source_free(x);
    }
    struct source *x = npy_source();
    CHECK_INT(push_npy(x, "not a numpy file", 16, 16), AMX_INVALID);
    source_free(x);
    x = npy_source();
    CHECK_INT(push_npy(x, "\x93NUM", 4, 4), AMX_INVALID);
    source_free(x);
}

TEST(bulk_rows_over_the_atomic_limit_fail_the_request)
{
    struct source *x = source_new(2);
    x->bulk.atomic = true;
    x->service.config.atomic_lines = 2;
    CHECK(bulk_csv_open(&x->bulk));
    static const char text[] = "instance,class\na,rock\nb,rock\nc,rock\n";
    CHECK_INT(push_csv(x, text, sizeof text - 1, 1000), AMX_TOO_LARGE);
    CHECK(x->bulk.failed);
    CHECK_INT(x->bulk.problem, PROBLEM_TOO_LARGE);
    source_free(x);
}
