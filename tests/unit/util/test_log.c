/* test_log.c - util/log.h: one line, one write, valid JSON whatever the values */
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "test.h"
#include "util/clock.h"
#include "util/log.h"

static int ends[2];

static void begin(enum log_format format)
{
    CHECK_INT(pipe(ends), 0);
    log_setup(ends[1], format, LOG_LEVEL_INFO);
    clock_test_set_wall_ms(1795467600123);
}

/* What was written, as a string. */
static char *finish(void)
{
    static char text[10000];
    log_setup(2, LOG_FORMAT_AUTO, LOG_LEVEL_INFO);
    clock_test_set_wall_ms(-1);
    close(ends[1]);
    ssize_t n = read(ends[0], text, sizeof text - 1);
    close(ends[0]);
    text[n > 0 ? n : 0] = '\0';
    return text;
}

TEST(log_json_line)
{
    begin(LOG_FORMAT_JSON);
    log_info("hello", LOG_TEXT("route", "/v1/{p}"), LOG_INT("status", 200), LOG_REAL("ms", 1.5),
             LOG_TEXT("none", NULL));
    log_debug("not this");
    CHECK_STR(finish(),
              "{\"time\":\"2026-11-23T21:00:00.123Z\",\"level\":\"info\",\"message\":\"hello\",\"route\":\"/v1/{p}\","
              "\"status\":200,\"ms\":1.5,\"none\":null}\n");
}

TEST(log_text_line)
{
    begin(LOG_FORMAT_TEXT);
    log_warn("hello there", LOG_TEXT("a", "x"), LOG_TEXT("b", "two words"), LOG_TEXT("c", "line\nbreak\x1B[31m"));
    CHECK_STR(finish(),
              "2026-11-23T21:00:00.123Z warn hello there a=x b=\"two words\" c=line\\u000abreak\\u001b[31m\n");
}

TEST(log_survives_any_value)
{
    char value[6000];
    for (size_t i = 0; i < sizeof value - 1; i++)
        value[i] = (char)(i % 255 + 1);
    value[sizeof value - 1] = '\0';
    begin(LOG_FORMAT_JSON);
    log_error("m", LOG_TEXT("a", value), LOG_TEXT("b", value), LOG_TEXT("c", value), LOG_TEXT("d", value),
              LOG_INT("e", 1));
    char *line = finish();
    json_t *json = json_loads(line, 0, NULL);
    CHECK(json != NULL);
    CHECK(json_object_get(json, "a") != NULL);
    CHECK(strchr(line, '\n') == line + strlen(line) - 1);
    json_decref(json);
}

TEST(log_levels)
{
    enum log_level level = LOG_LEVEL_INFO;
    CHECK(log_level_of("error", &level) && level == LOG_LEVEL_ERROR);
    CHECK(!log_level_of("loud", &level));
    CHECK(log_enabled(LOG_LEVEL_WARN));
    CHECK(!log_enabled(LOG_LEVEL_DEBUG));
}
