/* settings.c - the table of settings: names, ranges, defaults, and access by name.
 *
 * One row per field of struct amx_settings. Parsers, help texts, the model file and GET /v1/methods all read this
 * table, so a new setting is one field, one row and one case in value_of(). Defaults are the article's. */
#include "settings.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "method.h"
#include "status.h"

static const char *const LAST_BATCH[] = {"keep", "drop", NULL};
static const char *const PRIOR[] = {"dawid_skene", "consensus", NULL};

enum row {
    ROW_ALPHA,
    ROW_ETA,
    ROW_HIDDEN,
    ROW_DROPOUT,
    ROW_EMBEDDING,
    ROW_EPOCHS,
    ROW_BATCH_SIZE,
    ROW_LEARNING_RATE,
    ROW_ANNOTATOR_LEARNING_RATE,
    ROW_WEIGHT_DECAY,
    ROW_ANNOTATOR_WEIGHT_DECAY,
    ROW_STANDARDIZE,
    ROW_MIX_ONLY_ANNOTATORS,
    ROW_LAST_BATCH,
    ROW_SOFT,
    ROW_PRIOR,
    ROW_PRIOR_STRENGTH,
    ROW_TRAIN_GAMMA,
    N_ROWS
};

static const struct amx_setting_field FIELDS[N_ROWS] = {
    [ROW_ALPHA] = {"alpha", AMX_SETTING_REAL, 0, 10, false, false, false, NULL,
                   "annot-mix, section 4: Beta(alpha, alpha)",
                   "Strength of mixup: mixing weights are drawn from Beta(alpha, alpha); 0 turns mixing off."},
    [ROW_ETA] = {"eta", AMX_SETTING_REAL, 0, 1, true, true, false, NULL, "annot-mix, section 4: prior eta",
                 "Accuracy every annotator is believed to have before training; above 1 / number of classes."},
    [ROW_HIDDEN] = {"hidden", AMX_SETTING_WIDTHS, 1, 4096, false, false, false, NULL,
                    "annot-mix, appendix: architectures", "Widths of the class model's hidden layers, 0 to 8 of them."},
    [ROW_DROPOUT] = {"dropout", AMX_SETTING_REAL, 0, 0.95, false, false, false, NULL,
                     "annot-mix, appendix: architectures",
                     "Share of hidden units of the class model switched off at random in each step."},
    [ROW_EMBEDDING] = {"annotator_embedding", AMX_SETTING_INTEGER, 1, 1024, false, false, false, NULL,
                       "annot-mix, section 4: E", "Width of the embeddings of annotators and instances."},
    [ROW_EPOCHS] = {"epochs", AMX_SETTING_INTEGER, 1, 10000, false, false, false, NULL, "annot-mix, section 5",
                    "How often training goes through all instances."},
    [ROW_BATCH_SIZE] = {"batch_size", AMX_SETTING_INTEGER, 2, 65536, false, false, false, NULL, "annot-mix, section 5",
                        "Labelled instances in one training step."},
    [ROW_LEARNING_RATE] = {"learning_rate", AMX_SETTING_REAL, 0, 1, true, false, false, NULL, "annot-mix, section 5",
                           "Learning rate of the class model in the first epoch; a cosine takes it to 0."},
    [ROW_ANNOTATOR_LEARNING_RATE] = {"annotator_learning_rate", AMX_SETTING_REAL, 0, 1, true, false, true, NULL,
                                     "annot-mix, section 5",
                                     "Learning rate of the annotator model; null takes learning_rate."},
    [ROW_WEIGHT_DECAY] = {"weight_decay", AMX_SETTING_REAL, 0, 1, false, false, false, NULL, "annot-mix, section 5",
                          "Weight decay of the class model."},
    [ROW_ANNOTATOR_WEIGHT_DECAY] = {"annotator_weight_decay", AMX_SETTING_REAL, 0, 1, false, false, false, NULL,
                                    "annot-mix, section 5", "Weight decay of the annotator model."},
    [ROW_STANDARDIZE] = {"standardize", AMX_SETTING_BOOLEAN, 0, 1, false, false, false, NULL, "annot-mix, section 5",
                         "Scale every feature to mean 0 and deviation 1 over the labelled training instances."},
    [ROW_MIX_ONLY_ANNOTATORS] = {"mix_only_annotators", AMX_SETTING_BOOLEAN, 0, 1, false, false, false, NULL,
                                 "annot-mix, ablation", "Mix only labels of the same instance with each other."},
    [ROW_LAST_BATCH] = {"last_batch", AMX_SETTING_CHOICE, 0, 1, false, false, false, LAST_BATCH, "published code",
                        "Whether an epoch's last, smaller batch is trained on."},
    [ROW_SOFT] = {"soft", AMX_SETTING_BOOLEAN, 0, 1, false, false, false, NULL, "Dawid and Skene 1979, posterior",
                  "Train on the distribution of each instance's class instead of its most likely class."},
    [ROW_PRIOR] = {"prior", AMX_SETTING_CHOICE, 0, 1, false, false, false, PRIOR, "annotmixd, annot_mix_prior",
                   "Where the true classes behind each annotator's prior confusion matrix come from."},
    [ROW_PRIOR_STRENGTH] = {"prior_strength", AMX_SETTING_REAL, 0, 1000, true, false, false, NULL,
                            "annotmixd, annot_mix_prior",
                            "Labels that the crowd's common confusion matrix counts for in each annotator's prior."},
    [ROW_TRAIN_GAMMA] = {"train_gamma", AMX_SETTING_BOOLEAN, 0, 1, false, false, false, NULL, "madl, section 4",
                         "Train the width of the kernel between annotators instead of keeping it at its mode."},
};

/* Rows of the class model, the optimiser and the batches: every method reads them. */
static const char *const COMMON[] = {"hidden",        "dropout",      "epochs",      "batch_size",
                                     "learning_rate", "weight_decay", "standardize", "last_batch"};

static bool listed(const char *const *names, size_t n, const char *name)
{
    for (size_t i = 0; i < n && names[i] != NULL; i++) {
        if (strcmp(names[i], name) == 0)
            return true;
    }
    return false;
}

bool amx_setting_applies(const char *method_name, const char *setting)
{
    const struct amx_method *method = method_find(method_name);

    if (method == NULL)
        return false;
    return listed(COMMON, sizeof COMMON / sizeof COMMON[0], setting) || listed(method->own_settings, N_ROWS, setting);
}

const struct amx_setting_field *amx_setting_fields(size_t *n)
{
    *n = N_ROWS;
    return FIELDS;
}

void amx_settings_default(size_t n_features, struct amx_settings *out)
{
    memset(out, 0, sizeof *out); /* unused widths are 0, so that equal settings are equal bytes */
    out->alpha = 1.0;
    out->eta = 0.9;
    if (n_features < 256) {
        out->n_hidden = 2;
        out->hidden[0] = 256;
        out->hidden[1] = 128;
    } else {
        out->n_hidden = 1;
        out->hidden[0] = 128;
    }
    out->dropout = 0.5;
    out->annotator_embedding = 128;
    out->epochs = 50;
    out->batch_size = 64;
    out->learning_rate = 0.01;
    out->annotator_learning_rate = 0.01;
    out->standardize = true;
    out->last_batch = AMX_LAST_BATCH_KEEP;
    out->prior = AMX_PRIOR_DAWID_SKENE;
    out->prior_strength = 2.0;
}

static const struct amx_setting_field *find(const char *name)
{
    for (int i = 0; i < N_ROWS; i++) {
        if (strcmp(FIELDS[i].name, name) == 0)
            return &FIELDS[i];
    }
    return NULL;
}

/* The real-valued field of a row, or NULL for rows of another type. */
static double *real_of(struct amx_settings *s, enum row row)
{
    double *const fields[N_ROWS] = {
        [ROW_ALPHA] = &s->alpha,
        [ROW_ETA] = &s->eta,
        [ROW_DROPOUT] = &s->dropout,
        [ROW_LEARNING_RATE] = &s->learning_rate,
        [ROW_ANNOTATOR_LEARNING_RATE] = &s->annotator_learning_rate,
        [ROW_WEIGHT_DECAY] = &s->weight_decay,
        [ROW_ANNOTATOR_WEIGHT_DECAY] = &s->annotator_weight_decay,
        [ROW_PRIOR_STRENGTH] = &s->prior_strength,
    };

    return fields[row];
}

static int *integer_of(struct amx_settings *s, enum row row)
{
    int *const fields[N_ROWS] = {
        [ROW_EMBEDDING] = &s->annotator_embedding,
        [ROW_EPOCHS] = &s->epochs,
        [ROW_BATCH_SIZE] = &s->batch_size,
    };

    return fields[row];
}

static bool *boolean_of(struct amx_settings *s, enum row row)
{
    bool *const fields[N_ROWS] = {
        [ROW_STANDARDIZE] = &s->standardize,
        [ROW_MIX_ONLY_ANNOTATORS] = &s->mix_only_annotators,
        [ROW_SOFT] = &s->soft,
        [ROW_TRAIN_GAMMA] = &s->train_gamma,
    };

    return fields[row];
}

static bool in_range(const struct amx_setting_field *field, double value)
{
    if (isnan(value))
        return field->nullable;
    if (value < field->min || (field->open_min && value <= field->min))
        return false;
    if (value > field->max || (field->open_max && value >= field->max))
        return false;
    return field->type == AMX_SETTING_REAL || value == floor(value);
}

static enum amx_status out_of_range(const struct amx_setting_field *field, double value, struct amx_error *err)
{
    char pointer[80];
    const char *kind = field->type == AMX_SETTING_REAL ? "a number" : "an integer";

    (void)snprintf(pointer, sizeof pointer, "/%s", field->name);
    if (field->type == AMX_SETTING_BOOLEAN)
        return amx_fail(err, AMX_INVALID, pointer, "%s must be true or false.", field->name);
    if (field->type == AMX_SETTING_CHOICE)
        return amx_fail(err, AMX_INVALID, pointer, "%s must be \"%s\" or \"%s\".", field->name, field->choices[0],
                        field->choices[1]);
    if (field->type == AMX_SETTING_WIDTHS)
        return amx_fail(err, AMX_INVALID, pointer, "%s must be a list of 0 to %d integers from %.9g to %.9g.",
                        field->name, (int)AMX_MAX_HIDDEN, field->min, field->max);
    return amx_fail(err, AMX_INVALID, pointer, "%s must be %s %s %.9g and %s %.9g%s; it is %.9g.", field->name, kind,
                    field->open_min ? "above" : "from", field->min, field->open_max ? "below" : "up to", field->max,
                    field->nullable ? ", or null" : "", value);
}

enum amx_status amx_settings_set(struct amx_settings *settings, const char *name, const double *values, size_t n,
                                 struct amx_error *err)
{
    const struct amx_setting_field *field = find(name);
    enum row row;

    if (field == NULL)
        return amx_fail(err, AMX_NOT_FOUND, "", "There is no setting named \"%.60s\".", name);
    row = (enum row)(field - FIELDS);
    if (field->type == AMX_SETTING_WIDTHS) {
        if (n > AMX_MAX_HIDDEN)
            return out_of_range(field, 0, err);
        for (size_t i = 0; i < n; i++) {
            if (!in_range(field, values[i]))
                return out_of_range(field, values[i], err);
        }
        memset(settings->hidden, 0, sizeof settings->hidden);
        for (size_t i = 0; i < n; i++)
            settings->hidden[i] = (int)values[i];
        settings->n_hidden = (int)n;
        return AMX_OK;
    }
    if (n != 1 || !in_range(field, values[0]))
        return out_of_range(field, n == 1 ? values[0] : 0.0, err);
    if (real_of(settings, row) != NULL)
        *real_of(settings, row) = values[0];
    else if (integer_of(settings, row) != NULL)
        *integer_of(settings, row) = (int)values[0];
    else if (boolean_of(settings, row) != NULL)
        *boolean_of(settings, row) = values[0] != 0.0;
    else if (row == ROW_PRIOR)
        settings->prior = values[0] != 0.0 ? AMX_PRIOR_CONSENSUS : AMX_PRIOR_DAWID_SKENE;
    else
        settings->last_batch = values[0] != 0.0 ? AMX_LAST_BATCH_DROP : AMX_LAST_BATCH_KEEP;
    return AMX_OK;
}

size_t amx_settings_get(const struct amx_settings *settings, const char *name, double values[AMX_MAX_HIDDEN])
{
    const struct amx_setting_field *field = find(name);
    struct amx_settings copy = *settings;
    enum row row;

    if (field == NULL)
        return 0;
    row = (enum row)(field - FIELDS);
    if (field->type == AMX_SETTING_WIDTHS) {
        size_t n = copy.n_hidden < 0 ? 0 : copy.n_hidden > AMX_MAX_HIDDEN ? AMX_MAX_HIDDEN : (size_t)copy.n_hidden;
        for (size_t i = 0; i < n; i++)
            values[i] = copy.hidden[i];
        return n;
    }
    if (real_of(&copy, row) != NULL)
        values[0] = *real_of(&copy, row);
    else if (integer_of(&copy, row) != NULL)
        values[0] = *integer_of(&copy, row);
    else if (boolean_of(&copy, row) != NULL)
        values[0] = *boolean_of(&copy, row);
    else if (row == ROW_PRIOR)
        values[0] = (int)copy.prior;
    else
        values[0] = (int)copy.last_batch;
    return 1;
}

enum amx_status amx_settings_check(const struct amx_settings *settings, size_t n_classes, struct amx_error *err)
{
    struct amx_settings scratch = *settings;

    if (settings->n_hidden < 0 || settings->n_hidden > AMX_MAX_HIDDEN)
        return out_of_range(&FIELDS[ROW_HIDDEN], 0, err);
    for (int row = 0; row < N_ROWS; row++) {
        double values[AMX_MAX_HIDDEN] = {0};
        size_t n = amx_settings_get(settings, FIELDS[row].name, values);
        enum amx_status status = amx_settings_set(&scratch, FIELDS[row].name, values, n, err);
        if (status != AMX_OK)
            return status;
    }
    if (n_classes > 0 && !(settings->eta > 1.0 / (double)n_classes))
        return amx_fail(err, AMX_INVALID, "/eta", "eta must be above 1/%zu (guessing among %zu classes) and below 1.",
                        n_classes, n_classes);
    return AMX_OK;
}

void settings_normalise(struct amx_settings *settings, const char *method, size_t n_features)
{
    const struct amx_settings given = *settings;

    amx_settings_default(n_features, settings);
    for (int row = 0; row < N_ROWS; row++) {
        double values[AMX_MAX_HIDDEN] = {0};
        size_t n = amx_settings_get(&given, FIELDS[row].name, values);
        if (amx_setting_applies(method, FIELDS[row].name) &&
            amx_settings_set(settings, FIELDS[row].name, values, n, NULL) != AMX_OK)
            break; /* cannot be: the settings were checked */
    }
}

double settings_annotator_rate(const struct amx_settings *settings)
{
    return isnan(settings->annotator_learning_rate) ? settings->learning_rate : settings->annotator_learning_rate;
}
