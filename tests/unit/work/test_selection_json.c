/* How auto chose, as JSON: bounded, with every published default in it, and taken apart again. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "test.h"
#include "work/runs/selection_json.h"

enum {
    MANY = 300
};

static void fill(struct select_candidate *candidates, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct select_candidate *c = &candidates[i];

        c->method = "annot_mix";
        amx_settings_default(10, &c->settings);
        c->state = i == 0 ? SELECT_FINISHED : SELECT_DROPPED;
        c->rung = i == 0 ? 2 : 0;
        c->epochs = 6;
        c->members = c->splits = 1;
        c->score = 1.0 + (double)i;
        c->valid_error = (double)NAN;
        c->always = i == 3 || i == n - 2 || i == n - 1;
    }
    candidates[n - 1].state = SELECT_UNJUDGED;
    candidates[n - 1].rung = -1;
}

TEST(selection_is_bounded_and_has_the_published_ones)
{
    struct select_candidate *candidates = calloc(MANY, sizeof *candidates);
    struct select_result result = {.candidates = candidates, .n_candidates = MANY, .rung = 2};
    const struct run_auto automatic = {.budget_fits = 100};
    json_t *json, *rows, *row;
    size_t published = 0, i;

    if (candidates == NULL)
        return;
    fill(candidates, MANY);
    json = selection_json(&result, &automatic);
    rows = json_object_get(json, "candidates");
    CHECK_INT(json_array_size(rows), SELECTION_ROWS);
    json_array_foreach (rows, i, row) {
        published += json_is_true(json_object_get(row, "published")) ? 1 : 0;
        if (i < 3)
            CHECK_NEAR(json_number_value(json_object_get(row, "score")), 1.0 + (double)i, 0.0);
    }
    CHECK_INT(published, 3);
    row = json_array_get(rows, SELECTION_ROWS - 1);
    CHECK_STR(json_string_value(json_object_get(row, "state")), "unjudged");
    CHECK(json_is_null(json_object_get(row, "risks")) && json_is_null(json_object_get(row, "rung")));
    CHECK_INT(json_integer_value(json_object_get(json, "n_candidates")), MANY);
    CHECK_INT(json_integer_value(json_object_get(json, "n_finished")), 1);
    CHECK(json_is_null(json_object_get(json, "budget_seconds")));
    CHECK(json_object_get(json_object_get(json, "settings"), "last_batch") != NULL);
    json_decref(json);
    free(candidates);
}

TEST(selection_is_lifted_out_of_metrics)
{
    json_t *object = json_object(), *metrics = json_pack("{s:{s:i}, s:{}}", "selection", "rung", 2, "test");

    CHECK_INT(selection_lift(object, metrics), 0);
    CHECK_INT(json_integer_value(json_object_get(json_object_get(object, "selection"), "rung")), 2);
    CHECK(json_object_get(metrics, "selection") == NULL && json_object_get(metrics, "test") != NULL);
    CHECK_INT(selection_lift(object, metrics), 0);
    CHECK(json_is_null(json_object_get(object, "selection")));
    json_decref(metrics);
    json_decref(object);
}
