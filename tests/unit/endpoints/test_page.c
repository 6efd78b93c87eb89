/* Tests of src/endpoints/page.c: cursors and ETags; reading them back from a request is tested over HTTP. */
#include <string.h>

#include "endpoints/page.h"
#include "test.h"

TEST(a_cursor_is_tame_text_and_differs_by_list_and_key)
{
    char a[PAGE_CURSOR_BYTES], b[PAGE_CURSOR_BYTES], c[PAGE_CURSOR_BYTES];
    struct page one = {.list = 0x0123456789abcdef}, two = {.list = 0x0123456789abcdee};
    (void)page_cursor(&one, 7, a);
    (void)page_cursor(&one, 8, b);
    (void)page_cursor(&two, 7, c);
    CHECK_INT(strlen(a), 22);
    CHECK_INT(strspn(a, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"), 22);
    CHECK(strcmp(a, b) != 0 && strcmp(a, c) != 0);
}

TEST(an_envelope_has_items_and_a_cursor_or_null)
{
    struct page page = {.list = 1};
    json_t *last = page_envelope(&page, json_array(), false, 0), *more = page_envelope(&page, json_array(), true, 5);
    CHECK(json_is_null(json_object_get(last, "next_cursor")));
    CHECK(json_is_string(json_object_get(more, "next_cursor")));
    CHECK(json_is_array(json_object_get(more, "items")));
    CHECK(page_envelope(&page, NULL, false, 0) == NULL);
    json_decref(last);
    json_decref(more);
}

TEST(an_etag_follows_content_and_project_not_the_moment_of_asking)
{
    char a[ETAG_BYTES], b[ETAG_BYTES], c[ETAG_BYTES], d[ETAG_BYTES];
    json_t *first = json_pack("{s:i, s:{s:i, s:s}}", "x", 1, "as_of", "label_seq", 3, "computed_at", "then");
    json_t *second = json_pack("{s:i, s:{s:i, s:s}}", "x", 1, "as_of", "label_seq", 3, "computed_at", "now");
    json_t *third = json_pack("{s:i, s:{s:i, s:s}}", "x", 1, "as_of", "label_seq", 4, "computed_at", "now");
    CHECK(resource_etag("p", first, a) && resource_etag("p", second, b));
    CHECK(resource_etag("p", third, c) && resource_etag("q", first, d));
    CHECK_STR(a, b);
    CHECK(strcmp(a, c) != 0 && strcmp(a, d) != 0);
    CHECK(a[0] == '"' && a[strlen(a) - 1] == '"');
    CHECK_STR(json_string_value(json_object_get(json_object_get(first, "as_of"), "computed_at")), "then");
    json_decref(first);
    json_decref(second);
    json_decref(third);
}

TEST(no_time_is_null)
{
    json_t *none = json_time(0), *some = json_time(1);
    CHECK(json_is_null(none));
    CHECK_STR(json_string_value(some), "1970-01-01T00:00:00.001Z");
    json_decref(none);
    json_decref(some);
}
