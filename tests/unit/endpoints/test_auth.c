/* Tests of src/endpoints/auth.c: scopes, reach, tokens. The gate itself is tested over HTTP. */
#include <stdio.h>
#include <string.h>

#include "endpoints/auth.h"
#include "test.h"

TEST(scopes_are_a_set_of_words)
{
    unsigned scopes = 0;
    const char *bad = NULL;
    size_t n = 0;
    CHECK(auth_scopes_parse("read,submit", &scopes, &bad, &n));
    CHECK_INT(scopes, SCOPE_READ | SCOPE_SUBMIT);
    CHECK(!auth_scopes_parse("read,root", &scopes, &bad, &n));
    CHECK(n == 4 && memcmp(bad, "root", 4) == 0);
    CHECK(!auth_scopes_parse("", &scopes, &bad, &n));
    CHECK(!auth_scopes_parse("read,", &scopes, &bad, &n));
    CHECK(!auth_scopes_parse("rea", &scopes, &bad, &n));
}

TEST(scopes_come_out_in_a_fixed_order)
{
    json_t *list = auth_scopes_json(SCOPE_ADMIN | SCOPE_SUBMIT);
    CHECK_INT(json_array_size(list), 2);
    CHECK_STR(json_string_value(json_array_get(list, 0)), "submit");
    CHECK_STR(json_string_value(json_array_get(list, 1)), "admin");
    json_decref(list);
}

TEST(a_token_reaches_its_project_or_prefix)
{
    struct auth_identity who = {0};
    CHECK(auth_reaches(&who, "anything"));
    (void)snprintf(who.project, sizeof who.project, "acme");
    CHECK(auth_reaches(&who, "acme"));
    CHECK(!auth_reaches(&who, "acme.x"));
    CHECK(!auth_reaches(&who, "acm"));
    (void)snprintf(who.project, sizeof who.project, "acme.*");
    CHECK(auth_reaches(&who, "acme.x"));
    CHECK(!auth_reaches(&who, "acme"));
    CHECK(!auth_reaches(&who, "acmex"));
}

TEST(tokens_are_unlike_and_hashed)
{
    char a[AUTH_TOKEN_BYTES + 1], b[AUTH_TOKEN_BYTES + 1];
    uint8_t x[32], y[32];
    CHECK_INT(auth_token_make(a, x), AMX_OK);
    CHECK_INT(auth_token_make(b, y), AMX_OK);
    CHECK_INT(strlen(a), AUTH_TOKEN_BYTES);
    CHECK(strncmp(a, "amx_", 4) == 0);
    CHECK(strcmp(a, b) != 0);
    CHECK(memcmp(x, y, sizeof x) != 0);
}
