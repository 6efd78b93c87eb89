/* Every way a training run can be asked for wrongly, and that what is right comes back whole. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "test.h"
#include "work/project_settings.h"
#include "work/runs/run_request.h"

static enum amx_status parse(const char *text, const char *training, struct run_request *out, struct amx_error *err)
{
    json_t *body = json_loads(text, 0, NULL), *defaults = training != NULL ? json_loads(training, 0, NULL) : NULL;
    enum amx_status status;

    memset(err, 0, sizeof *err);
    CHECK(body != NULL);
    status = run_request_parse(body, defaults, 10, 3, out, err);
    json_decref(body);
    json_decref(defaults);
    return status;
}

TEST(an_empty_request_is_the_published_defaults)
{
    struct run_request r;
    struct amx_error err;

    CHECK_INT(parse("{}", NULL, &r, &err), AMX_OK);
    CHECK_STR(r.method, "annot_mix");
    CHECK_INT(r.seed, 1);
    CHECK_INT(r.ensemble, 1);
    CHECK_INT(r.settings.n_hidden, 2);
    CHECK_NEAR(r.settings.dropout, 0.5, 0);
    CHECK_INT(run_request_parse(NULL, NULL, 256, 3, &r, &err), AMX_OK);
    CHECK_INT(r.settings.n_hidden, 1);
    CHECK_INT(r.settings.hidden[0], 128);
}

TEST(request_goes_over_project_goes_over_defaults)
{
    struct run_request r;
    struct amx_error err;

    CHECK_INT(parse("{\"settings\":{\"alpha\":0.5}}", "{\"seed\":9,\"settings\":{\"alpha\":2,\"epochs\":7}}", &r, &err),
              AMX_OK);
    CHECK_INT(r.seed, 9);
    CHECK_INT(r.settings.epochs, 7);
    CHECK_NEAR(r.settings.alpha, 0.5, 0);
    CHECK_NEAR(r.settings.eta, 0.9, 0);
}

TEST(wrong_requests_are_refused_with_a_pointer)
{
    static const struct {
        const char *text, *pointer, *says; /* says: part of the text, or "" */
    } wrong[] = {
        {"{\"sede\":1}", "/sede", ""},
        {"{\"seed\":-1}", "/seed", ""},
        {"{\"seed\":9007199254740992}", "/seed", ""},
        {"{\"seed\":1.5}", "/seed", ""},
        {"{\"seed\":\"1\"}", "/seed", ""},
        {"{\"ensemble\":0}", "/ensemble", ""},
        {"{\"ensemble\":101}", "/ensemble", ""},
        {"{\"folds\":1}", "/folds", ""},
        {"{\"folds\":21}", "/folds", ""},
        {"{\"folds\":-2}", "/folds", ""},
        {"{\"method\":\"best\"}", "/method", "no such method"},
        {"{\"method\":\"glad\"}", "/method", "labels alone"},
        {"{\"gold_use\":\"no\"}", "/gold_use", ""},
        {"{\"activate\":\"if_not_worse\"}", "/activate", "needs folds"},
        {"{\"activate\":\"if_not_worse\",\"folds\":0}", "/activate", "needs folds"},
        {"{\"activate\":true}", "/activate", ""},
        {"{\"budget_seconds\":3}", "/budget_seconds", "method auto"},
        {"{\"budget_fits\":3}", "/budget_fits", "method auto"},
        {"{\"select\":\"crowd\"}", "/select", "method auto"},
        {"{\"methods\":[\"annot_mix\"]}", "/methods", "method auto"},
        {"{\"auto\":{}}", "/auto", "method auto"},
        {"{\"method\":\"auto\",\"budget_seconds\":0}", "/budget_seconds", ""},
        {"{\"method\":\"auto\",\"budget_seconds\":\"3\"}", "/budget_seconds", ""},
        {"{\"method\":\"auto\",\"budget_fits\":0}", "/budget_fits", ""},
        {"{\"method\":\"auto\",\"budget_fits\":1.5}", "/budget_fits", ""},
        {"{\"method\":\"auto\",\"select\":\"gold\"}", "/select", ""},
        {"{\"method\":\"auto\",\"select\":\"valid\",\"gold_use\":\"evaluate\"}", "/select", "gold_use"},
        {"{\"method\":\"auto\",\"methods\":[]}", "/methods", ""},
        {"{\"method\":\"auto\",\"methods\":[\"annot_mix\",\"best\"]}", "/methods/1", ""},
        {"{\"method\":\"auto\",\"methods\":[\"annot_mix\",\"annot_mix\"]}", "/methods/1", "twice"},
        {"{\"method\":\"auto\",\"methods\":[\"ground_truth\"]}", "/methods/0", "gold"},
        {"{\"method\":\"auto\",\"auto\":{\"budget\":1}}", "/auto/budget", ""},
        {"{\"method\":\"auto\",\"auto\":{\"budget_fits\":0}}", "/auto/budget_fits", ""},
        {"{\"settings\":{\"soft\":true}}", "/settings/soft", "another method"},
        {"{\"method\":\"madl\",\"settings\":{\"alpha\":1}}", "/settings/alpha", "another method"},
        {"{\"method\":\"majority_vote\",\"settings\":{\"eta\":0.9}}", "/settings/eta", "another method"},
        {"{\"method\":\"annot_mix_prior\",\"settings\":{\"eta\":0.9}}", "/settings/eta", "another method"},
        {"{\"method\":\"annot_mix_prior\",\"settings\":{\"prior\":\"gold\"}}", "/settings/prior", ""},
        {"{\"method\":\"annot_mix_prior\",\"settings\":{\"prior_strength\":0}}", "/settings/prior_strength", ""},
        {"{\"method\":\"madl\",\"settings\":{\"train_gamma\":1}}", "/settings/train_gamma", ""},
        {"{\"settings\":[]}", "/settings", ""},
        {"{\"settings\":{\"alfa\":1}}", "/settings/alfa", ""},
        {"{\"settings\":{\"prior_strength\":1}}", "/settings/prior_strength", "another method"},
        {"{\"settings\":{\"alpha\":-1}}", "/settings/alpha", ""},
        {"{\"settings\":{\"alpha\":10.5}}", "/settings/alpha", ""},
        {"{\"settings\":{\"alpha\":\"1\"}}", "/settings/alpha", ""},
        {"{\"settings\":{\"alpha\":null}}", "/settings/alpha", ""},
        {"{\"settings\":{\"eta\":0.3}}", "/settings/eta", ""}, /* not above 1/3 */
        {"{\"settings\":{\"eta\":1}}", "/settings/eta", ""},
        {"{\"settings\":{\"hidden\":[1,2,3,4,5,6,7,8,9]}}", "/settings/hidden", ""},
        {"{\"settings\":{\"hidden\":[0]}}", "/settings/hidden", ""},
        {"{\"settings\":{\"hidden\":[4097]}}", "/settings/hidden", ""},
        {"{\"settings\":{\"hidden\":[2.5]}}", "/settings/hidden", ""},
        {"{\"settings\":{\"hidden\":8}}", "/settings/hidden", ""},
        {"{\"settings\":{\"dropout\":0.96}}", "/settings/dropout", ""},
        {"{\"settings\":{\"annotator_embedding\":0}}", "/settings/annotator_embedding", ""},
        {"{\"settings\":{\"epochs\":0}}", "/settings/epochs", ""},
        {"{\"settings\":{\"epochs\":10001}}", "/settings/epochs", ""},
        {"{\"settings\":{\"epochs\":1.0}}", "/settings/epochs", ""},
        {"{\"settings\":{\"batch_size\":1}}", "/settings/batch_size", ""},
        {"{\"settings\":{\"learning_rate\":0}}", "/settings/learning_rate", ""},
        {"{\"settings\":{\"learning_rate\":1e300}}", "/settings/learning_rate", ""},
        {"{\"settings\":{\"weight_decay\":2}}", "/settings/weight_decay", ""},
        {"{\"settings\":{\"standardize\":1}}", "/settings/standardize", ""},
        {"{\"settings\":{\"last_batch\":\"half\"}}", "/settings/last_batch", ""},
        {"[]", "", ""},
    };

    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct run_request r = {.ensemble = -7};
        struct amx_error err;

        CHECK_INT(parse(wrong[i].text, NULL, &r, &err), AMX_INVALID);
        CHECK_STR(err.pointer, wrong[i].pointer);
        CHECK(err.text[0] != '\0' && strstr(err.text, wrong[i].says) != NULL);
        CHECK_INT(r.ensemble, -7); /* written only on success */
    }
}

TEST(settings_at_their_borders_are_taken)
{
    struct run_request r;
    struct amx_error err;

    CHECK_INT(parse("{\"seed\":9007199254740991,\"ensemble\":100,\"folds\":0,\"activate\":\"never\",\"settings\":"
                    "{\"alpha\":0,\"hidden\":[],\"dropout\":0.95,\"epochs\":10000,\"batch_size\":65536,"
                    "\"learning_rate\":1,\"annotator_learning_rate\":null,\"last_batch\":\"drop\"}}",
                    NULL, &r, &err),
              AMX_OK);
    CHECK_INT(r.settings.n_hidden, 0);
    CHECK(isnan(r.settings.annotator_learning_rate));
    CHECK_INT(r.settings.last_batch, AMX_LAST_BATCH_DROP);
    CHECK_INT(r.activate, RUN_ACTIVATE_NEVER);
}

TEST(a_request_survives_the_store)
{
    struct run_request r, back;
    struct run_spec spec;
    struct amx_error err;
    char *text, *again;

    CHECK_INT(parse("{\"seed\":5,\"settings\":{\"alpha\":0.1234567890123456,\"hidden\":[7],"
                    "\"annotator_learning_rate\":null}}",
                    NULL, &r, &err),
              AMX_OK);
    text = run_request_settings_text(&r);
    run_request_to_spec(&r, text, &spec);
    CHECK_INT(run_request_of_spec(&spec, &back, &err), AMX_OK);
    again = run_request_settings_text(&back);
    CHECK_STR(text, again);
    CHECK(back.settings.alpha <= r.settings.alpha && back.settings.alpha >= r.settings.alpha); /* to the last bit */
    CHECK_INT(back.seed, 5);
    spec.settings = (struct slice){"{\"alpha\":", 9};
    CHECK_INT(run_request_of_spec(&spec, &back, &err), AMX_CORRUPT);
    free(text);
    free(again);
}

/* There and back; the caller frees nothing. */
static void through_the_store(const struct run_request *r, struct run_request *back)
{
    struct run_spec spec;
    struct amx_error err;
    char *text = run_request_settings_text(r), *again;

    run_request_to_spec(r, text, &spec);
    CHECK_INT(run_request_of_spec(&spec, back, &err), AMX_OK);
    again = run_request_settings_text(back);
    CHECK_STR(text, again);
    free(text);
    free(again);
}

TEST(every_method_takes_its_own_settings_and_survives_the_store)
{
    size_t n, n_fields;
    const struct amx_method_info *methods = amx_methods(&n);
    const struct amx_setting_field *fields = amx_setting_fields(&n_fields);

    for (size_t i = 0; i < n; i++) {
        struct run_request r, back;
        struct amx_error err;
        json_t *body = json_pack("{s:s, s:i, s:s, s:s}", "method", methods[i].name, "folds", 5, "gold_use", "train",
                                 "activate", "if_not_worse");
        json_t *settings;

        CHECK_INT(run_request_parse(body, NULL, 10, 3, &r, &err), AMX_OK);
        CHECK_STR(r.method, methods[i].name);
        CHECK_INT(r.folds, 5);
        CHECK_INT(r.gold_use, RUN_GOLD_TRAIN);
        CHECK_INT(r.activate, RUN_ACTIVATE_IF_NOT_WORSE);
        CHECK(!r.label_only);
        through_the_store(&r, &back);
        CHECK_STR(back.method, methods[i].name);
        CHECK_INT(back.folds, 5);
        CHECK_INT(back.gold_use, RUN_GOLD_TRAIN);
        settings = run_request_settings_json(r.method, &r.settings);
        for (size_t j = 0; j < n_fields; j++)
            CHECK_INT(json_object_get(settings, fields[j].name) != NULL,
                      amx_setting_applies(methods[i].name, fields[j].name));
        /* Its own settings may all be given again. */
        CHECK_INT(json_object_set_new(body, "settings", settings), 0);
        CHECK_INT(run_request_parse(body, NULL, 10, 3, &r, &err), AMX_OK);
        json_decref(body);
    }
}

TEST(settings_of_another_method_are_dropped_from_the_project_and_refused_in_the_request)
{
    static const char project[] = "{\"method\":\"annot_mix\",\"budget_fits\":3,\"settings\":{\"alpha\":0.5,\"eta\":0.6,"
                                  "\"epochs\":7,\"dropout\":0.1}}";
    struct run_request r;
    struct amx_error err;

    CHECK_INT(parse("{\"method\":\"dawid_skene\",\"settings\":{\"soft\":true}}", project, &r, &err), AMX_OK);
    CHECK_NEAR(r.settings.alpha, 1, 0); /* its default: dawid_skene does not read it */
    CHECK_INT(r.settings.epochs, 7);
    CHECK_NEAR(r.settings.dropout, 0.1, 0);
    CHECK(r.settings.soft);
    CHECK_INT(parse("{\"method\":\"dawid_skene\",\"settings\":{\"alpha\":1}}", project, &r, &err), AMX_INVALID);
    CHECK_STR(err.pointer, "/settings/alpha");
    /* A request that the project's eta would not suit, if it read it. */
    CHECK_INT(parse("{\"method\":\"majority_vote\"}", "{\"settings\":{\"eta\":0.34}}", &r, &err), AMX_OK);
}

TEST(madl_starts_from_its_own_eta)
{
    struct run_request r;
    struct amx_error err;

    if (!amx_setting_applies("madl", "eta"))
        return;
    CHECK_INT(parse("{\"method\":\"madl\"}", NULL, &r, &err), AMX_OK);
    CHECK_NEAR(r.settings.eta, 0.8, 0);
    CHECK_INT(parse("{\"method\":\"madl\"}", "{\"settings\":{\"eta\":0.7}}", &r, &err), AMX_OK);
    CHECK_NEAR(r.settings.eta, 0.7, 0);
}

TEST(auto_has_fields_of_its_own)
{
    struct run_request r, back;
    struct amx_error err;

    CHECK_INT(parse("{\"method\":\"auto\"}", NULL, &r, &err), AMX_OK);
    CHECK(run_request_is_auto(&r));
    CHECK_NEAR(r.automatic.budget_seconds, 300, 0);
    CHECK_INT(r.automatic.budget_fits, 0);
    CHECK_INT(r.automatic.n_methods, 0);
    through_the_store(&r, &back);
    CHECK_NEAR(back.automatic.budget_seconds, 300, 0);
    /* Fits alone: no clock, so that the seed decides. */
    CHECK_INT(parse("{\"method\":\"auto\",\"budget_fits\":12,\"select\":\"valid\",\"methods\":[\"annot_mix\"],"
                    "\"settings\":{\"epochs\":3}}",
                    NULL, &r, &err),
              AMX_OK);
    CHECK_NEAR(r.automatic.budget_seconds, 0, 0);
    CHECK_INT(r.automatic.budget_fits, 12);
    CHECK_INT(r.automatic.select, RUN_SELECT_VALID);
    CHECK_INT(r.gold_use, RUN_GOLD_CALIBRATE); /* asked for by select */
    CHECK_INT(r.automatic.n_methods, 1);
    through_the_store(&r, &back);
    CHECK_NEAR(back.automatic.budget_seconds, 0, 0);
    CHECK_INT(back.automatic.budget_fits, 12);
    CHECK_INT(back.automatic.select, RUN_SELECT_VALID);
    CHECK_STR(back.automatic.methods[0], "annot_mix");
    CHECK_INT(back.settings.epochs, 3);
    /* The same in an object; both budgets. */
    CHECK_INT(parse("{\"method\":\"auto\",\"auto\":{\"budget_fits\":12,\"budget_seconds\":7.5}}", NULL, &r, &err),
              AMX_OK);
    CHECK_INT(r.automatic.budget_fits, 12);
    CHECK_NEAR(r.automatic.budget_seconds, 7.5, 0);
    /* A project whose default is auto, and a run that is not. */
    CHECK_INT(parse("{\"method\":\"annot_mix\"}", "{\"method\":\"auto\",\"budget_fits\":2}", &r, &err), AMX_OK);
    CHECK(!run_request_is_auto(&r));
}

TEST(without_features_there_are_the_methods_of_labels_alone)
{
    static const struct {
        const char *text, *pointer;
    } wrong[] = {{"{\"method\":\"annot_mix\"}", "/method"},
                 {"{\"method\":\"auto\"}", "/method"},
                 {"{\"settings\":{\"epochs\":1}}", "/settings/epochs"},
                 {"{\"folds\":5}", "/folds"},
                 {"{\"ensemble\":2}", "/ensemble"},
                 {"{\"gold_use\":\"calibrate\"}", "/gold_use"},
                 {"{\"method\":\"best\"}", "/method"}};
    struct run_request r, back;
    struct amx_error err;
    json_t *body;

    CHECK_INT(run_request_parse(NULL, NULL, 0, 3, &r, &err), AMX_OK);
    CHECK_STR(r.method, "dawid_skene");
    CHECK(r.label_only);
    body = json_pack("{s:s, s:s}", "method", "glad", "gold_use", "train");
    CHECK_INT(run_request_parse(body, NULL, 0, 3, &r, &err), AMX_OK);
    json_decref(body);
    CHECK_STR(r.method, "glad");
    through_the_store(&r, &back);
    CHECK(back.label_only);
    CHECK_STR(back.method, "glad");
    CHECK_INT(run_request_by_rule(NULL, 0, 3, &r, &err), AMX_OK);
    CHECK_INT(r.folds, 0);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        body = json_loads(wrong[i].text, 0, NULL);
        CHECK_INT(run_request_parse(body, NULL, 0, 3, &r, &err), AMX_INVALID);
        CHECK_STR(err.pointer, wrong[i].pointer);
        json_decref(body);
    }
}

TEST(the_rule_compares_unless_told_otherwise)
{
    static const struct {
        const char *training;
        int folds;
        enum run_activate activate;
    } cases[] = {{"{}", RUN_RULE_FOLDS, RUN_ACTIVATE_IF_NOT_WORSE},
                 {"{\"folds\":3}", 3, RUN_ACTIVATE_IF_NOT_WORSE},
                 {"{\"folds\":0}", 0, RUN_ACTIVATE_ALWAYS},
                 {"{\"activate\":\"always\"}", 0, RUN_ACTIVATE_ALWAYS},
                 {"{\"activate\":\"never\",\"folds\":4}", 4, RUN_ACTIVATE_NEVER}};

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        json_t *training = json_loads(cases[i].training, 0, NULL);
        struct run_request r;
        struct amx_error err;

        CHECK_INT(run_request_by_rule(training, 10, 3, &r, &err), AMX_OK);
        CHECK_INT(r.folds, cases[i].folds);
        CHECK_INT(r.activate, cases[i].activate);
        /* A run that somebody asks for is plain. */
        CHECK_INT(run_request_parse(NULL, training, 10, 3, &r, &err), AMX_OK);
        CHECK(r.activate != RUN_ACTIVATE_IF_NOT_WORSE);
        json_decref(training);
    }
}

TEST(set_takes_json_lists_and_words)
{
    struct run_request r;
    struct amx_error err;

    run_request_default(10, &r);
    CHECK_INT(run_request_set(&r, "hidden=256,128", &err), AMX_OK);
    CHECK_INT(r.settings.n_hidden, 2);
    CHECK_INT(run_request_set(&r, "hidden=64", &err), AMX_OK);
    CHECK_INT(r.settings.n_hidden, 1);
    CHECK_INT(r.settings.hidden[0], 64);
    CHECK_INT(run_request_set(&r, "hidden=[]", &err), AMX_OK);
    CHECK_INT(r.settings.n_hidden, 0);
    CHECK_INT(run_request_set(&r, "last_batch=drop", &err), AMX_OK);
    CHECK_INT(run_request_set(&r, "standardize=false", &err), AMX_OK);
    CHECK(!r.settings.standardize);
    CHECK_INT(run_request_set(&r, "dropout=0", &err), AMX_OK);
    CHECK_INT(run_request_set(&r, "dropout", &err), AMX_INVALID);
    CHECK_INT(run_request_set(&r, "=1", &err), AMX_INVALID);
    CHECK_INT(run_request_set(&r, "hiden=1", &err), AMX_INVALID);
    CHECK_STR(err.pointer, "/hiden");
    CHECK_INT(run_request_set(&r, "dropout=much", &err), AMX_INVALID);
}

TEST(methods_list_their_own_settings_with_defaults)
{
    size_t n, n_fields;
    const struct amx_method_info *methods = amx_methods(&n);
    const struct amx_setting_field *fields = amx_setting_fields(&n_fields);
    json_t *body = run_request_methods_json(), *items = json_object_get(body, "items"), *last;

    CHECK_INT(json_array_size(items), n + 1);
    for (size_t i = 0; i < n; i++) {
        json_t *method = json_array_get(items, i), *settings = json_object_get(method, "settings");
        size_t own = 0;

        for (size_t j = 0; j < n_fields; j++)
            own += amx_setting_applies(methods[i].name, fields[j].name);
        CHECK_STR(json_string_value(json_object_get(method, "name")), methods[i].name);
        CHECK_INT(json_array_size(settings), own);
        CHECK_INT(json_is_true(json_object_get(method, "needs_gold")), methods[i].needs_gold);
        CHECK(json_object_get(json_array_get(settings, 0), "default") != NULL);
    }
    last = json_array_get(items, n);
    CHECK_STR(json_string_value(json_object_get(last, "name")), "auto");
    CHECK_INT(json_array_size(json_object_get(last, "fields")), 4);
    CHECK(json_array_size(json_object_get(body, "label_only")) >= 9);
    json_decref(body);
}

TEST(project_settings_are_checked)
{
    static const struct {
        const char *text, *pointer;
    } wrong[] = {
        {"{\"overlap\":0}", "/settings/overlap"},
        {"{\"over\":3}", "/settings/over"},
        {"{\"resolve_threshold\":0}", "/settings/resolve_threshold"},
        {"{\"resolve_threshold\":1.1}", "/settings/resolve_threshold"},
        {"{\"auto_train\":{}}", "/settings/auto_train/every_labels"},
        {"{\"auto_train\":{\"every_labels\":0}}", "/settings/auto_train/every_labels"},
        {"{\"training\":{\"settings\":{\"alpha\":-1}}}", "/settings/training/settings/alpha"},
        {"{\"training\":{\"method\":\"x\"}}", "/settings/training/method"},
        {"{\"training\":{\"settings\":{\"soft\":true}}}", "/settings/training/settings/soft"},
        {"{\"training\":{\"activate\":\"if_not_worse\"}}", "/settings/training/activate"},
        {"{\"training\":{\"budget_fits\":1}}", "/settings/training/budget_fits"},
        {"[]", "/settings"},
    };
    struct project_settings settings;
    struct amx_error err;
    json_t *json;

    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        json = json_loads(wrong[i].text, 0, NULL);
        CHECK_INT(project_settings_parse(json, "/settings", 10, 3, &settings, &err), AMX_INVALID);
        CHECK_STR(err.pointer, wrong[i].pointer);
        json_decref(json);
    }
    json = json_loads("{\"overlap\":5,\"auto_train\":{\"every_labels\":100},\"training\":{\"seed\":2}}", 0, NULL);
    CHECK_INT(project_settings_parse(json, "/settings", 10, 3, &settings, &err), AMX_OK);
    CHECK_INT(settings.overlap, 5);
    CHECK_INT(settings.auto_train_labels, 100);
    CHECK(settings.training != NULL);
    json_decref(json);
    CHECK_INT(project_settings_parse(NULL, "/settings", 10, 3, &settings, &err), AMX_OK);
    CHECK_NEAR(settings.resolve_threshold, 0.95, 0);
}
