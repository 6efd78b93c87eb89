/* What options.h gives the subcommands besides the table: repeated options, numbers, lists, and what they say. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "commands/options.h"
#include "test.h"

/* ---- standard error, caught -------------------------------------------------------------------------------------- */

struct caught {
    FILE *file;
    int kept;
    char text[256];
};

static void catch_begin(struct caught *c)
{
    memset(c, 0, sizeof *c);
    c->kept = -1;
    c->file = tmpfile();
    CHECK(c->file != NULL);
    (void)fflush(stderr);
    if (c->file != NULL && (c->kept = dup(STDERR_FILENO)) >= 0)
        CHECK(dup2(fileno(c->file), STDERR_FILENO) == STDERR_FILENO);
    CHECK(c->kept >= 0);
}

static const char *catch_end(struct caught *c)
{
    (void)fflush(stderr);
    if (c->kept >= 0) {
        CHECK(dup2(c->kept, STDERR_FILENO) == STDERR_FILENO);
        (void)close(c->kept);
    }
    if (c->file != NULL) {
        rewind(c->file);
        c->text[fread(c->text, 1, sizeof c->text - 1, c->file)] = '\0';
        (void)fclose(c->file);
    }
    return c->text;
}

/* ---- repeated options -------------------------------------------------------------------------------------------- */

enum { MAX = 3 };

/* Words as argv has them: writable, with a NULL at the end. */
struct line {
    char words[12][24];
    char *argv[13];
    int argc;
};

static void line_of(struct line *l, const char *text)
{
    memset(l, 0, sizeof *l);
    while (*text != '\0' && l->argc < 12) {
        size_t n = strcspn(text, " ");

        memcpy(l->words[l->argc], text, n < 23 ? n : 23);
        l->argv[l->argc] = l->words[l->argc];
        l->argc++;
        text += text[n] == ' ' ? n + 1 : n;
    }
}

TEST(repeated_options_are_taken_out_in_order)
{
    struct line l;
    char *rest[13];
    const char *values[MAX] = {NULL, NULL, NULL};
    size_t n = 99;

    line_of(&l, "fit --set a=1 DIR --set=b=2,3 --json --set --json");
    CHECK_INT(options_take_repeated(l.argc, l.argv, "--set", MAX, rest, values, &n), 3);
    CHECK_INT(n, 3);
    CHECK_STR(values[0], "a=1");
    CHECK_STR(values[1], "b=2,3");
    CHECK_STR(values[2], "--json");
    CHECK_STR(rest[0], "fit");
    CHECK_STR(rest[1], "DIR");
    CHECK_STR(rest[2], "--json");
    CHECK(rest[3] == NULL);
}

TEST(repeated_options_leave_the_rest_alone)
{
    struct line l;
    char *rest[13];
    const char *values[MAX];
    size_t n = 99;

    /* Longer and shorter names are others; a name at the end has no value and is left for options_parse. */
    line_of(&l, "fit --settle x --se y --set= --set");
    CHECK_INT(options_take_repeated(l.argc, l.argv, "--set", MAX, rest, values, &n), 6);
    CHECK_INT(n, 1);
    CHECK_STR(values[0], "");
    CHECK_STR(rest[1], "--settle");
    CHECK_STR(rest[3], "--se");
    CHECK_STR(rest[5], "--set");
    CHECK(rest[6] == NULL);
}

TEST(repeated_options_have_a_limit)
{
    struct line l;
    struct caught c;
    char *rest[13];
    const char *values[MAX];
    size_t n = 99;
    int got;

    line_of(&l, "faceoff --set a=1 --set b=1 --set c=1 DIR");
    CHECK_INT(options_take_repeated(l.argc, l.argv, "--set", MAX, rest, values, &n), 2);
    CHECK_INT(n, 3);
    n = 99;
    line_of(&l, "faceoff --set a=1 --set b=1 --set c=1 DIR --set=d=1");
    catch_begin(&c);
    got = options_take_repeated(l.argc, l.argv, "--set", MAX, rest, values, &n);
    CHECK_STR(catch_end(&c), "annotmixd faceoff: more than 3 --set\n");
    CHECK_INT(got, -1);
    CHECK_INT(n, 99);
}

/* ---- numbers ----------------------------------------------------------------------------------------------------- */

TEST(numbers_keep_their_default_or_their_bounds)
{
    int64_t number = 7;

    CHECK(options_number("fit", "--repeat", NULL, 1, 10, &number));
    CHECK_INT(number, 7);
    CHECK(options_number("fit", "--repeat", "1", 1, 10, &number));
    CHECK_INT(number, 1);
    CHECK(options_number("fit", "--repeat", "10", 1, 10, &number));
    CHECK_INT(number, 10);
    CHECK(options_number("fit", "--repeat", "-3", -3, 10, &number));
    CHECK_INT(number, -3);
}

TEST(wrong_numbers_are_refused_with_the_range)
{
    static const char *const wrong[] = {"0", "11", "", "x", "1.5", "+1", " 1", "99999999999999999999"};

    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct caught c;
        int64_t number = 7;
        bool good;

        catch_begin(&c);
        good = options_number("simulate", "--seed", wrong[i], 1, 10, &number);
        CHECK_STR(catch_end(&c), "annotmixd simulate: --seed must be an integer from 1 to 10\n");
        CHECK(!good);
        CHECK_INT(number, 7);
    }
}

/* ---- lists ------------------------------------------------------------------------------------------------------- */

TEST(lists_are_cut_at_commas)
{
    static const struct {
        const char *text, *json;
    } cases[] = {{"", "[]"},
                 {"a", "[\"a\"]"},
                 {"a,b c,d", "[\"a\",\"b c\",\"d\"]"},
                 {"a,,b", "[\"a\",\"\",\"b\"]"},
                 {",a", "[\"\",\"a\"]"},
                 {"a,", "[\"a\"]"}};

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        json_t *list = options_list(cases[i].text);
        char text[64] = "";

        CHECK(list != NULL);
        if (list != NULL)
            text[json_dumpb(list, text, sizeof text - 1, JSON_COMPACT)] = '\0';
        CHECK_STR(text, cases[i].json);
        json_decref(list);
    }
    CHECK(options_list("a,\xff") == NULL);
}
