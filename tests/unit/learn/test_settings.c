/* test_settings.c - defaults, ranges and access by name. */
#include "test.h"

#include <math.h>
#include <string.h>

#include "annotmix.h"

static enum amx_status set(struct amx_settings *s, const char *name, double value, struct amx_error *err)
{
    return amx_settings_set(s, name, &value, 1, err);
}

TEST(learn_settings_defaults)
{
    struct amx_settings s;
    double values[AMX_MAX_HIDDEN];

    amx_settings_default(255, &s);
    CHECK_INT(s.n_hidden, 2);
    CHECK_INT(s.hidden[0], 256);
    CHECK_INT(s.hidden[1], 128);
    CHECK(s.alpha == 1.0 && s.eta == 0.9 && s.dropout == 0.5 && s.learning_rate == 0.01);
    CHECK(s.epochs == 50 && s.batch_size == 64 && s.annotator_embedding == 128 && s.standardize);
    CHECK(s.weight_decay == 0.0 && s.annotator_weight_decay == 0.0 && !s.mix_only_annotators);
    CHECK_INT(amx_settings_get(&s, "hidden", values), 2);
    CHECK(values[0] == 256 && values[1] == 128);
    amx_settings_default(256, &s);
    CHECK_INT(s.n_hidden, 1);
    CHECK_INT(s.hidden[0], 128);
    CHECK_INT(amx_settings_check(&s, 10, NULL), AMX_OK);
    CHECK_INT(amx_settings_get(&s, "no_such", values), 0);
}

TEST(learn_settings_ranges)
{
    struct amx_settings s, before;
    struct amx_error err;
    size_t n;
    const struct amx_setting_field *fields = amx_setting_fields(&n);

    CHECK_INT(n, 18);
    amx_settings_default(10, &s);
    for (size_t i = 0; i < n; i++) {
        const struct amx_setting_field *f = &fields[i];
        char pointer[80] = "/";
        (void)strncat(pointer, f->name, sizeof pointer - 2);
        before = s;
        CHECK(f->help != NULL && f->source != NULL && strlen(f->help) > 10);
        CHECK_INT(set(&s, f->name, f->max + 1.0, &err), AMX_INVALID);
        CHECK_STR(err.pointer, pointer);
        CHECK_INT(set(&s, f->name, f->min - 1.0, &err), AMX_INVALID);
        CHECK_INT(set(&s, f->name, (double)INFINITY, &err), AMX_INVALID);
        CHECK_INT(set(&s, f->name, (double)NAN, &err), f->nullable ? AMX_OK : AMX_INVALID);
        if (f->type != AMX_SETTING_REAL)
            CHECK_INT(set(&s, f->name, f->min + 0.5, &err), AMX_INVALID);
        if (!f->nullable)
            CHECK(memcmp(&s, &before, sizeof s) == 0); /* a refused value changes nothing */
        CHECK_INT(set(&s, f->name, f->min, &err), f->open_min ? AMX_INVALID : AMX_OK);
        CHECK_INT(set(&s, f->name, f->max, &err), f->open_max ? AMX_INVALID : AMX_OK);
        s = before;
    }
    CHECK_INT(set(&s, "alhpa", 1.0, &err), AMX_NOT_FOUND);
    CHECK(strstr(err.text, "alhpa") != NULL);
}

TEST(learn_settings_widths_and_null)
{
    struct amx_settings s;
    double nine[9] = {1, 2, 3, 4, 5, 6, 7, 8, 9}, bad[2] = {5, 0}, out[AMX_MAX_HIDDEN];

    amx_settings_default(10, &s);
    CHECK_INT(amx_settings_set(&s, "hidden", nine, 9, NULL), AMX_INVALID);
    CHECK_INT(amx_settings_set(&s, "hidden", bad, 2, NULL), AMX_INVALID);
    CHECK_INT(s.n_hidden, 2);
    CHECK_INT(amx_settings_set(&s, "hidden", nine, 8, NULL), AMX_OK);
    CHECK_INT(s.n_hidden, 8);
    CHECK_INT(amx_settings_set(&s, "hidden", nine, 0, NULL), AMX_OK);
    CHECK_INT(s.n_hidden, 0);
    CHECK_INT(amx_settings_set(&s, "alpha", nine, 2, NULL), AMX_INVALID);
    CHECK_INT(set(&s, "annotator_learning_rate", (double)NAN, NULL), AMX_OK);
    CHECK_INT(amx_settings_get(&s, "annotator_learning_rate", out), 1);
    CHECK(isnan(out[0]));
    CHECK_INT(set(&s, "last_batch", 1, NULL), AMX_OK);
    CHECK_INT(s.last_batch, AMX_LAST_BATCH_DROP);
    CHECK_INT(set(&s, "mix_only_annotators", 1, NULL), AMX_OK);
    CHECK(s.mix_only_annotators);
}

TEST(learn_settings_check)
{
    struct amx_settings s;
    struct amx_error err;

    amx_settings_default(10, &s);
    s.eta = 0.5;
    CHECK_INT(amx_settings_check(&s, 3, &err), AMX_OK);
    CHECK_INT(amx_settings_check(&s, 2, &err), AMX_INVALID); /* 1/C itself is guessing */
    CHECK_STR(err.pointer, "/eta");
    s.eta = (double)NAN;
    CHECK_INT(amx_settings_check(&s, 3, &err), AMX_INVALID);
    amx_settings_default(10, &s);
    s.n_hidden = 9;
    CHECK_INT(amx_settings_check(&s, 3, &err), AMX_INVALID);
    s.n_hidden = -1;
    CHECK_INT(amx_settings_check(&s, 3, &err), AMX_INVALID);
    amx_settings_default(10, &s);
    s.hidden[1] = 5000;
    CHECK_INT(amx_settings_check(&s, 3, &err), AMX_INVALID);
    CHECK_STR(err.pointer, "/hidden");
    s.n_hidden = 1; /* widths beyond n_hidden do not count */
    CHECK_INT(amx_settings_check(&s, 3, &err), AMX_OK);
}
