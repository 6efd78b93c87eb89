/* Every way a training run can be asked for wrongly, and that what is right comes back whole. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "test.h"
#include "work/project_settings.h"
#include "work/run_request.h"

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
        {"{\"folds\":5}", "/folds", "not in this build"},
        {"{\"method\":\"madl\"}", "/method", "not in this build"},
        {"{\"method\":\"auto\"}", "/method", "not in this build"},
        {"{\"method\":\"best\"}", "/method", ""},
        {"{\"gold_use\":\"train\"}", "/gold_use", "not in this build"},
        {"{\"gold_use\":\"calibrate\"}", "/gold_use", "not in this build"},
        {"{\"gold_use\":\"no\"}", "/gold_use", ""},
        {"{\"activate\":\"if_not_worse\"}", "/activate", "not in this build"},
        {"{\"activate\":true}", "/activate", ""},
        {"{\"budget_seconds\":3}", "/budget_seconds", "not in this build"},
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
    text = run_request_settings_text(&r.settings);
    run_request_to_spec(&r, text, &spec);
    CHECK_INT(run_request_of_spec(&spec, &back, &err), AMX_OK);
    again = run_request_settings_text(&back.settings);
    CHECK_STR(text, again);
    CHECK(back.settings.alpha <= r.settings.alpha && back.settings.alpha >= r.settings.alpha); /* to the last bit */
    CHECK_INT(back.seed, 5);
    spec.settings = (struct slice){"{\"alpha\":", 9};
    CHECK_INT(run_request_of_spec(&spec, &back, &err), AMX_CORRUPT);
    free(text);
    free(again);
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

TEST(methods_list_every_setting_with_its_default)
{
    json_t *body = run_request_methods_json();
    json_t *method = json_array_get(json_object_get(body, "items"), 0);
    json_t *settings = json_object_get(method, "settings");
    size_t n;

    (void)amx_setting_fields(&n);
    CHECK_STR(json_string_value(json_object_get(method, "name")), "annot_mix");
    CHECK_INT(json_array_size(settings), n);
    CHECK(json_object_get(json_array_get(settings, 0), "default") != NULL);
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
