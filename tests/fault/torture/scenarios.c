/* scenarios.c - what is tortured: the learner, the aggregation, the store, the commands. (Endpoints: torture.py.)
 *
 * Data are small: what counts is how many different places allocate, not how much they do.
 */
#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "commands/cmd.h"
#include "crowd/aggregate/aggregate.h"
#include "store/store.h"
#include "torture.h"
#include "util/csv_rows.h"
#include "util/jsonx.h"

enum { N = 24, D = 3, C = 2, A = 4, L = 2 * N, WORDS = 24, MOST = 80 };

static float features[N * D];
static uint32_t instances[L], annotators[L], classes[L];
static int32_t gold[N];
static uint32_t folds[N];

static void make_data(void)
{
    for (uint32_t i = 0; i < N; i++) {
        for (uint32_t d = 0; d < D; d++)
            features[i * D + d] = (float)((i * 7 + d * 3) % 11) - 5.0F + (i % 2 == 0 ? 3.0F : 0.0F);
        gold[i] = (int32_t)(i % C);
        folds[i] = (i / 2) % 2;
        for (uint32_t l = 0; l < 2; l++) {
            instances[2 * i + l] = i;
            annotators[2 * i + l] = (i + l * (1 + i % 3)) % A;
            classes[2 * i + l] = (i * 5 + l) % 7 == 0 ? (i + 1) % C : i % C;
        }
    }
}

/* ---- learner ---- */

static enum amx_status predict(const struct amx_model *model)
{
    static float p_class[N * C], p_perf[N * A], p_annotation[N * A * C], p_confusion[N * A * C * C];
    static const uint32_t all[A] = {0, 1, 2, 3};
    const struct amx_prediction out = {p_class, p_perf, p_annotation, p_confusion};

    return amx_predict(model, features, N, all, A, &out, NULL);
}

static enum amx_status fit(const char *method, int n_folds, int ensemble)
{
    const struct amx_data data = {.n_instances = N, .n_features = D, .n_classes = C, .n_annotators = A, .n_labels = L,
                                  .features = features, .label_instance = instances, .label_annotator = annotators,
                                  .label_class = classes, .gold = gold, .fold = n_folds > 1 ? folds : NULL};
    struct amx_fit_options options = {.method = method, .seed = 1, .ensemble = ensemble, .threads = 1, .folds = n_folds};
    struct amx_fit_report report = {0};
    struct amx_model *model = NULL;
    unsigned char *bytes = NULL;
    size_t n_bytes = 0;

    amx_settings_default(D, &options.settings);
    options.settings.epochs = 2;
    options.settings.n_hidden = 1;
    options.settings.hidden[0] = 4;
    options.settings.annotator_embedding = 2;
    enum amx_status status = amx_fit(&data, &options, &report, &model, NULL);
    if (status != AMX_OK)
        return status;
    status = predict(model);
    if (status == AMX_OK)
        status = amx_model_encode(model, &bytes, &n_bytes, NULL);
    amx_free(bytes);
    amx_free(report.loss_curve);
    amx_model_free(model);
    return status;
}

static enum amx_status fit_one(const char *method)
{
    return fit(method, 0, 1);
}

static enum amx_status fit_folds(const char *method)
{
    return fit(method, 2, 2);
}

/* A model file with what a head can hold: classes and annotators with long names, a hash. Made once. */
static enum amx_status decode(const char *method)
{
    static unsigned char *bytes;
    static size_t n_bytes;
    struct amx_model *model = NULL;

    if (bytes == NULL) {
        static const char *const names[A] = {"a", "fifteen letters", "sixteen letters!", "a name that is longer than the others"};
        const struct amx_data data = {.n_instances = N, .n_features = D, .n_classes = C, .n_annotators = A, .n_labels = L,
                                      .features = features, .label_instance = instances, .label_annotator = annotators,
                                      .label_class = classes, .class_names = names, .annotator_names = names};
        struct amx_fit_options options = {.method = method, .seed = 1, .ensemble = 1, .threads = 1};

        amx_settings_default(D, &options.settings);
        options.settings.epochs = 1;
        enum amx_status status = amx_fit(&data, &options, NULL, &model, NULL);
        if (status == AMX_OK)
            status = amx_model_encode(model, &bytes, &n_bytes, NULL);
        amx_model_free(model);
        return status;
    }
    enum amx_status status = amx_model_decode(bytes, n_bytes, &model, NULL);
    if (status == AMX_OK)
        amx_model_free(model);
    return status;
}

/* ---- aggregation ---- */

static enum amx_status aggregate_labels(const char *method)
{
    const struct crowd_labels labels = {N, A, C, L, instances, annotators, classes};
    const struct aggregate_options options = {.seed = 1, .rounds = 3};
    static double posterior[N * C], reliability[A];

    return aggregate(&labels, method, &options, posterior, reliability, NULL, NULL);
}

/* ---- store ---- */

static char db_path[64], copy_path[80];

static void remove_db(const char *path)
{
    static const char *const suffixes[] = {"", "-wal", "-shm", "-journal", ".lock", ".sock", ".tmp"};
    char name[128];

    for (size_t i = 0; i < sizeof suffixes / sizeof suffixes[0]; i++) {
        (void)snprintf(name, sizeof name, "%s%s", path, suffixes[i]);
        (void)unlink(name); /* what is not there is fine */
    }
}

static enum amx_status store_make(const char *path)
{
    struct store *store = NULL;

    remove_db(path);
    enum amx_status status = store_open(path, NULL, &store, NULL);
    store_close(store);
    remove_db(path);
    return status;
}

static enum amx_status store_work(const char *what)
{
    struct store *store = NULL;
    enum amx_status status =
        strcmp(what, "readonly") == 0 ? store_open_readonly(db_path, &store, NULL) : store_open(db_path, NULL, &store, NULL);

    if (status == AMX_OK && strcmp(what, "check") == 0)
        status = store_check(store, NULL, NULL);
    if (status == AMX_OK && strcmp(what, "backup") == 0) {
        remove_db(copy_path);
        status = store_backup(store, copy_path, NULL);
    }
    store_close(store);
    return status;
}

/* ---- text ---- */

static enum amx_status json_text(const char *text)
{
    struct amx_error err = {.code = AMX_OK};
    json_t *json = NULL;
    size_t n = 0;
    enum amx_status status = jsonx_load(text, strlen(text), &json, &err);

    if (status != AMX_OK)
        return status;
    char *again = jsonx_dump(json, &n);
    json_decref(json);
    status = again != NULL ? AMX_OK : AMX_NO_MEMORY;
    free(again);
    return status;
}

/* ---- commands ---- */

static char base_path[80];
void (*scenario_written)(const char *out);

static void remove_folder(const char *path)
{
    DIR *folder = opendir(path);
    char name[512];

    if (folder == NULL)
        return;
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        (void)snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
        (void)unlink(name); /* "." and ".." stay */
    }
    (void)closedir(folder);
    (void)rmdir(path);
}

static int run_command_words(int n, char **words)
{
    static const struct {
        const char *name;
        int (*run)(int argc, char **argv);
    } commands[] = {{"aggregate", cmd_aggregate}, {"fit", cmd_fit},         {"simulate", cmd_simulate},
                    {"import", cmd_import},       {"export", cmd_export},   {"backup", cmd_backup},
                    {"migrate", cmd_migrate},     {"token", cmd_token},     {"health", cmd_health},
                    {"version", cmd_version},     {"faceoff", cmd_faceoff}, {"serve", cmd_serve}};

    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        if (strcmp(commands[i].name, words[0]) == 0)
            return commands[i].run(n, words);
    }
    return 96;
}

/* DB stands for a database that is not there yet, OUT for a folder or file that is not there yet, BASE for a database
 * with a project. */
static int run_words(const char *line)
{
    static char text[1024], fresh[128], out[128];
    char *words[WORDS + 1] = {NULL}, *rest = text, *word;
    int n = 0;

    (void)snprintf(text, sizeof text, "%s", line);
    (void)snprintf(fresh, sizeof fresh, "%s-%d", db_path, (int)getpid());
    (void)snprintf(out, sizeof out, "%s-%d.out", db_path, (int)getpid());
    while (n < WORDS && (word = strsep(&rest, " ")) != NULL)
        words[n++] = strcmp(word, "DB") == 0     ? fresh
                     : strcmp(word, "OUT") == 0  ? out
                     : strcmp(word, "BASE") == 0 ? base_path
                                                 : word;
    int status = run_command_words(n, words);
    if (scenario_written != NULL)
        scenario_written(out);
    remove_db(fresh);
    remove_folder(out);
    remove_db(out);
    return status;
}

#define DATA "tests/fault/torture/data"

void scenario_prepare(const struct scenario *s)
{
    if (strstr(s->argument, "BASE") == NULL)
        return;
    remove_db(base_path);
    (void)run_words("import p " DATA " --db BASE"); /* without it the scenario does not work at all */
}

static const struct scenario fixed[] = {
    {"folds annot_mix", fit_folds, NULL, "annot_mix"},
    {"folds crowd_layer", fit_folds, NULL, "crowd_layer"},
    {"folds dawid_skene", fit_folds, NULL, "dawid_skene"},
    {"store make", store_make, NULL, db_path},
    {"store open", store_work, NULL, "open"},
    {"store readonly", store_work, NULL, "readonly"},
    {"store check", store_work, NULL, "check"},
    {"store backup", store_work, NULL, "backup"},
    {"json", json_text, NULL, "{\"a\":[1,2.5,0.12345678901234567,\"\\u00e9\",null,true],\"b\":{\"c\":{\"d\":[[[]]]}}}"},
    {"cmd aggregate majority_vote", NULL, run_words, "aggregate " DATA " --method majority_vote --json"},
    {"cmd aggregate dawid_skene", NULL, run_words, "aggregate " DATA " --method dawid_skene"},
    {"cmd aggregate glad", NULL, run_words, "aggregate " DATA " --method glad --rounds 2"},
    {"cmd fit", NULL, run_words, "fit " DATA " --set epochs=2 --set hidden=4 --json"},
    {"cmd fit folds", NULL, run_words, "fit " DATA " --folds 2 --set epochs=1 --set hidden=4"},
    {"cmd version", NULL, run_words, "version"},
    {"cmd health", NULL, run_words, "health --help"},
    {"cmd import", NULL, run_words, "import p " DATA " --db DB"},
    {"cmd token", NULL, run_words, "token create --db DB --name t --scope read"},
    {"cmd migrate", NULL, run_words, "migrate --db DB"},
    {"decode annot_mix", decode, NULL, "annot_mix"},
    {"cmd backup", NULL, run_words, "backup OUT --db BASE"},
    {"cmd export", NULL, run_words, "export p OUT --db BASE"},
    {"cmd aggregate file", NULL, run_words, "aggregate " DATA "/labels.csv --gold " DATA "/gold.csv --out OUT"},
    {"cmd fit auto", NULL, run_words, "fit " DATA " --method auto --budget-fits 2 --methods annot_mix,majority_vote"},
    {"cmd token list", NULL, run_words, "token list --db BASE"},
    {"cmd simulate kinds", NULL, run_words, "simulate " DATA " --out OUT --kinds expert=2,spammer=1 --labels 1-2"},
    {"cmd simulate networks", NULL, run_words,
     "simulate " DATA " --out OUT --networks --annotators 2 --labels 1-2 --hidden 4 --json"},
    {"cmd faceoff table", NULL, run_words,
     "faceoff " DATA " --methods majority_vote --set epochs=1 --set hidden=4 --threads 1 --markdown /dev/null"},
    {"cmd simulate", NULL, run_words, "simulate " DATA " --out OUT --attack flip --share 20%"},
    {"cmd faceoff", NULL, run_words, "faceoff " DATA " --methods majority_vote --set epochs=1 --set hidden=4 --threads 1 --folds 2"},
};

const struct scenario *scenarios(size_t *n)
{
    static struct scenario all[MOST];
    static char names[MOST][64];
    size_t count, n_all = 0;
    struct store *store = NULL;

    make_data();
    const struct amx_method_info *methods = amx_methods(&count);
    for (size_t i = 0; i < count; i++, n_all++) {
        (void)snprintf(names[n_all], sizeof names[0], "fit %s", methods[i].name);
        all[n_all] = (struct scenario){names[n_all], fit_one, NULL, methods[i].name};
    }
    const struct aggregate_method *ways = aggregate_methods(&count);
    for (size_t i = 0; i < count; i++, n_all++) {
        (void)snprintf(names[n_all], sizeof names[0], "aggregate %s", ways[i].name);
        all[n_all] = (struct scenario){names[n_all], aggregate_labels, NULL, ways[i].name};
    }
    for (size_t i = 0; i < sizeof fixed / sizeof fixed[0]; i++)
        all[n_all++] = fixed[i];
    /* In memory where there is such a place: every k makes and syncs files. */
    (void)snprintf(db_path, sizeof db_path, "%s/annotmix-torture-%d.db", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp",
                   (int)getpid());
    (void)snprintf(copy_path, sizeof copy_path, "%s.copy", db_path);
    (void)snprintf(base_path, sizeof base_path, "%s.base", db_path);
    remove_db(db_path);
    remove_db(copy_path);
    if (store_open(db_path, NULL, &store, NULL) == AMX_OK)
        store_close(store);
    *n = n_all;
    return all;
}

void scenarios_end(void)
{
    remove_db(db_path);
    remove_db(copy_path);
    remove_db(base_path);
}
