/* engine.c - the learner and the store by themselves, for measuring: rates, the limit set by matrix products, and (under
 * callgrind) instruction counts that do not depend on what else the machine does.
 *
 *   engine fit S1..S5 [EPOCHS]                       labels/s of the step loop, and of its products alone
 *   engine fit S1..S5 EPOCHS MEMBERS THREADS [ROUNDS]   a fit of so many members on so many threads against one on one
 *   engine steps S1..S5 [EPOCHS]                     where a step goes: each product in place and hot, and what follows it
 *   engine train S1..S5 [EPOCHS]                     the step loop alone (for counting)
 *   engine data S1..S5 FILE                          writes the made-up data for others: N x D float32, then a uint32
 *                                                    instance, annotator and class a label
 *   engine predict [ROWS]                            rows/s in batches of 256, and of the products alone
 *   engine ingest [LABELS]                           labels/s into a fresh database, transactions of 8,192
 *   engine bare [LABELS]                             the limit of that: bare INSERTs of the same rows into the same tables
 *   engine bare-instances [ROWS]                     the same for instances of 384 features, transactions of 2 MiB
 *   engine commits [LABELS]                          commits/s: of each label its rows and the counters it moves, one
 *                                                    transaction a label, one after the other, nothing looked up
 *
 * One line of JSON each (steps: a table). The limit: every product of an epoch is recorded (sizes, transposes, row
 * lengths) while it runs, then replayed hot, one after the other. Replays alternate with the epochs of the fit, inside
 * its progress callback, both in CPU time of the thread; what is printed is the median over epochs, so that other load
 * on the machine touches both sides alike. Linked with --wrap for the four products of src/learn/blas.h.
 */
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "annotmix.h"
#include "learn/blas.h"
#include "store/instances.h"
#include "store/labels.h"
#include "store/projects.h"
#include "store/store.h"

static double clock_of(clockid_t clock)
{
    struct timespec t;

    (void)clock_gettime(clock, &t); /* cannot fail with these clocks */
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double seconds(void)
{
    return clock_of(CLOCK_MONOTONIC);
}

static double cpu_seconds(void)
{
    return clock_of(CLOCK_THREAD_CPUTIME_ID);
}

static _Noreturn void give_up(const char *what)
{
    (void)fprintf(stderr, "engine: %s\n", what);
    exit(1);
}

static void *need(size_t n, size_t size)
{
    void *memory = calloc(n, size);

    if (memory == NULL)
        give_up("out of memory");
    return memory;
}

/* xorshift: the same data on every machine. */
static uint64_t random_state = 88172645463325252U;
static uint64_t draw(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}
static double uniform(void)
{
    return (double)(draw() >> 11) * 0x1p-53;
}
/* About normal: the sum of twelve uniform numbers. */
static float normal(void)
{
    double sum = -6.0;

    for (int i = 0; i < 12; i++)
        sum += uniform();
    return (float)sum;
}

/* ---- recording products ---- */

typedef void gemm(size_t m, size_t n, size_t k, const float *a, size_t lda, const float *b, size_t ldb, float beta,
                  float *c, size_t ldc);
gemm __real_gemm_nt, __real_gemm_nn, __real_gemm_tn, __real_gemm_tt;
gemm __wrap_gemm_nt, __wrap_gemm_nn, __wrap_gemm_tn, __wrap_gemm_tt;

struct product {
    gemm *call;
    const char *name;
    size_t m, n, k, lda, ldb, ldc, a, b, c; /* a, b, c: floats that each matrix spans */
    float beta;
    double started, ended; /* while recording */
};
static struct product *products;
static size_t n_products, capacity;
static bool recording;

static void record(const struct product *product)
{
    if (n_products == capacity) {
        capacity = capacity == 0 ? 4096 : 2 * capacity;
        products = realloc(products, capacity * sizeof *products);
        if (products == NULL)
            give_up("out of memory");
    }
    products[n_products++] = *product;
}

#define WRAP(kind, a_t, b_t)                                                                                          \
    void __wrap_gemm_##kind(size_t m, size_t n, size_t k, const float *a, size_t lda, const float *b, size_t ldb,     \
                            float beta, float *c, size_t ldc)                                                         \
    {                                                                                                                 \
        double started = recording ? seconds() : 0.0;                                                                 \
        __real_gemm_##kind(m, n, k, a, lda, b, ldb, beta, c, ldc);                                                    \
        if (recording)                                                                                                \
            record(&(struct product){__real_gemm_##kind, #kind, m, n, k, lda, ldb, ldc, ((a_t) ? k : m) * lda,         \
                                     ((b_t) ? n : k) * ldb, m * ldc, beta, started, seconds()});                      \
    }
WRAP(nt, false, true)
WRAP(nn, false, false)
WRAP(tn, true, false)
WRAP(tt, true, true)

/* Matrices for replaying: every product uses the same three. */
struct operands {
    float *a, *b, *c;
};

static float *filled(size_t n)
{
    float *x = need(n + 1, sizeof *x);

    for (size_t i = 0; i < n; i++)
        x[i] = normal();
    return x;
}

static struct operands make_operands(void)
{
    size_t a = 0, b = 0, c = 0;

    for (size_t i = 0; i < n_products; i++) {
        a = products[i].a > a ? products[i].a : a;
        b = products[i].b > b ? products[i].b : b;
        c = products[i].c > c ? products[i].c : c;
    }
    return (struct operands){filled(a), filled(b), filled(c)};
}

static void free_operands(struct operands *x)
{
    free(x->a);
    free(x->b);
    free(x->c);
}

static void call(const struct product *p, const struct operands *x)
{
    p->call(p->m, p->n, p->k, x->a, p->lda, x->b, p->ldb, p->beta, x->c, p->ldc);
}

/* CPU seconds for all recorded products. */
static double replay(const struct operands *x)
{
    double start = cpu_seconds();

    for (size_t i = 0; i < n_products; i++)
        call(&products[i], x);
    return cpu_seconds() - start;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* The value below which `share` of them lie; sorts them. */
static double quantile(double *values, size_t n, double share)
{
    qsort(values, n, sizeof *values, compare);
    return values[(size_t)(share * (double)(n - 1) + 0.5)];
}

/* ---- data ---- */

struct shape {
    const char *name;
    size_t N, D, C, A;
    double labels; /* per instance */
    int hidden[2], n_hidden, batch;
};
static const struct shape SHAPES[] = {{"S1", 700, 124, 10, 42, 4.2, {256, 128}, 2, 64},
                                      {"S2", 2000, 16, 26, 20, 2.0, {128}, 1, 64},
                                      {"S3", 4000, 384, 10, 60, 2.5, {256, 128}, 2, 64},
                                      {"S4", 4000, 384, 10, 60, 2.5, {256, 128}, 2, 512},
                                      {"S5", 4000, 384, 100, 500, 2.5, {128}, 1, 64}};

static const struct shape *shape_of(const char *name)
{
    for (size_t i = 0; i < sizeof SHAPES / sizeof SHAPES[0]; i++) {
        if (strcmp(SHAPES[i].name, name) == 0)
            return &SHAPES[i];
    }
    give_up("there is no such shape; S1 to S5 are known");
}

static void make_data(const struct shape *shape, struct amx_data *out)
{
    size_t most = shape->N * ((size_t)shape->labels + 2), n = 0;
    float *features = need(shape->N * shape->D, sizeof *features), *centre = need(shape->C * shape->D, sizeof *centre);
    uint32_t *instance = need(most, sizeof *instance), *annotator = need(most, sizeof *annotator);
    uint32_t *given = need(most, sizeof *given);

    for (size_t i = 0; i < shape->C * shape->D; i++)
        centre[i] = normal();
    for (size_t i = 0; i < shape->N; i++) {
        size_t class = i % shape->C, labels = (size_t)shape->labels;
        labels += uniform() < shape->labels - (double)labels;
        for (size_t d = 0; d < shape->D; d++)
            features[i * shape->D + d] = centre[class * shape->D + d] + normal();
        uint32_t a = (uint32_t)(draw() % (shape->A - labels));
        for (size_t l = 0; l < labels; l++) {
            instance[n] = (uint32_t)i;
            annotator[n] = a + (uint32_t)l;
            given[n++] = (uint32_t)(uniform() < 0.7 ? class : draw() % shape->C);
        }
    }
    free(centre);
    *out = (struct amx_data){.n_instances = shape->N,
                             .n_features = shape->D,
                             .n_classes = shape->C,
                             .n_annotators = shape->A,
                             .n_labels = n,
                             .features = features,
                             .label_instance = instance,
                             .label_annotator = annotator,
                             .label_class = given};
}

static void free_data(struct amx_data *data)
{
    free((void *)(uintptr_t)data->features);
    free((void *)(uintptr_t)data->label_instance);
    free((void *)(uintptr_t)data->label_annotator);
    free((void *)(uintptr_t)data->label_class);
}

/* Replays alternating with the epochs of a fit. */
struct pairs {
    struct operands operands;
    double last, *fit, *products, *share;
    size_t n;
};

static void after_epoch(const struct amx_progress *progress, void *context)
{
    struct pairs *pairs = context;
    double now = cpu_seconds();

    if (!progress->epoch_ended)
        return;
    if (progress->epoch > 1) { /* the first one begins before any replay */
        pairs->fit[pairs->n] = now - pairs->last;
        pairs->products[pairs->n] = replay(&pairs->operands);
        pairs->share[pairs->n] = pairs->products[pairs->n] / pairs->fit[pairs->n];
        pairs->n++;
    }
    pairs->last = cpu_seconds();
}

/* Folding the model for predictions multiplies too; that is no part of an epoch. */
static void end_recording(const struct amx_progress *progress, void *context)
{
    (void)context;
    if (progress->epoch_ended)
        recording = false;
}

static struct amx_model *fit(const struct shape *shape, const struct amx_data *data, int epochs, int members,
                             int threads, struct pairs *pairs, struct amx_fit_report *report)
{
    struct amx_fit_options options = {.seed = 1, .ensemble = members, .threads = threads, .context = pairs};
    struct amx_model *model = NULL;
    struct amx_error err;

    amx_settings_default(shape->D, &options.settings);
    options.settings.n_hidden = shape->n_hidden;
    memcpy(options.settings.hidden, shape->hidden, sizeof shape->hidden);
    options.settings.batch_size = shape->batch;
    options.settings.epochs = epochs;
    options.progress = pairs != NULL ? after_epoch : recording ? end_recording : NULL;
    if (amx_fit(data, &options, report, &model, &err) != AMX_OK)
        give_up(err.text);
    return model;
}

/* ---- commands ---- */

/* One epoch with recording. */
static void record_epoch(const struct shape *shape, const struct amx_data *data)
{
    struct amx_fit_report report = {0};

    recording = true;
    amx_model_free(fit(shape, data, 1, 1, 1, NULL, &report));
    amx_free(report.loss_curve);
}

static void do_fit(const char *name, int epochs)
{
    const struct shape *shape = shape_of(name);
    struct amx_fit_report report = {0};
    struct amx_data data;
    struct pairs pairs = {.n = 0};

    make_data(shape, &data);
    record_epoch(shape, &data);
    pairs.operands = make_operands();
    pairs.fit = need((size_t)epochs, sizeof(double));
    pairs.products = need((size_t)epochs, sizeof(double));
    pairs.share = need((size_t)epochs, sizeof(double));
    amx_model_free(fit(shape, &data, epochs + 1, 1, 1, &pairs, &report));
    amx_free(report.loss_curve);
    printf("{\"shape\": \"%s\", \"labels_per_second\": %.1f, \"bound\": %.1f, \"share\": %.3f, \"share_quartiles\": "
           "[%.3f, %.3f], \"best_labels_per_second\": %.1f}\n",
           shape->name, (double)data.n_labels / quantile(pairs.fit, pairs.n, 0.5),
           (double)data.n_labels / quantile(pairs.products, pairs.n, 0.5), quantile(pairs.share, pairs.n, 0.5),
           quantile(pairs.share, pairs.n, 0.25), quantile(pairs.share, pairs.n, 0.75),
           (double)data.n_labels / quantile(pairs.fit, pairs.n, 0.0));
    free(pairs.share);
    free(pairs.products);
    free(pairs.fit);
    free_operands(&pairs.operands);
    free_data(&data);
}

static double labels_per_second(const struct shape *shape, const struct amx_data *data, int epochs, int members,
                                int threads)
{
    struct amx_fit_report report = {0};

    amx_model_free(fit(shape, data, epochs, members, threads, NULL, &report));
    amx_free(report.loss_curve);
    return (double)data->n_labels * epochs * members / report.seconds;
}

/* Wall time of the whole fit: the two sides alternate, but other load still counts. */
static void do_fit_threads(const char *name, int epochs, int members, int threads, int rounds)
{
    const struct shape *shape = shape_of(name);
    struct amx_data data;
    double *one = need((size_t)rounds, sizeof *one), *all = need((size_t)rounds, sizeof *all),
           *ratio = need((size_t)rounds, sizeof *ratio);

    make_data(shape, &data);
    for (int i = 0; i < rounds; i++) {
        one[i] = labels_per_second(shape, &data, epochs, 1, 1);
        all[i] = labels_per_second(shape, &data, epochs, members, threads);
        ratio[i] = all[i] / one[i];
    }
    printf("{\"shape\": \"%s\", \"members\": %d, \"threads\": %d, \"one\": %.1f, \"all\": %.1f, \"times\": %.3f, "
           "\"best_times\": %.3f}\n",
           shape->name, members, threads, quantile(one, (size_t)rounds, 0.5), quantile(all, (size_t)rounds, 0.5),
           quantile(ratio, (size_t)rounds, 0.5), quantile(ratio, (size_t)rounds, 1.0));
    free(ratio);
    free(all);
    free(one);
    free_data(&data);
}

/* Times per product of a step, from the lower quartile over all steps: what interrupts a step does not show. */
static void do_steps(const char *name, int epochs)
{
    const struct shape *shape = shape_of(name);
    size_t steps = (shape->N + (size_t)shape->batch - 1) / (size_t)shape->batch, period, n;
    double total[3] = {0}, *values;
    struct operands operands;
    struct amx_data data;

    make_data(shape, &data);
    for (int e = 0; e < epochs; e++)
        record_epoch(shape, &data);
    steps *= (size_t)epochs;
    period = n_products / steps;
    operands = make_operands();
    values = need(steps, sizeof *values);
    printf("%5s %6s %6s %6s  %9s %9s %9s %9s\n", "", "M", "N", "K", "us", "hot us", "GFLOP/s", "us after");
    for (size_t i = 0; i < period; i++) {
        struct product *first = &products[i];
        double place, hot, after;
        for (size_t s = 0; s < steps; s++)
            values[s] = first[s * period].ended - first[s * period].started;
        place = 1e6 * quantile(values, steps, 0.25);
        n = 0;
        for (size_t s = 0; s < steps && i + s * period + 1 < n_products; s++)
            values[n++] = first[s * period + 1].started - first[s * period].ended;
        after = 1e6 * quantile(values, n, 0.25);
        for (size_t s = 0; s < steps; s++) {
            double start;
            call(first, &operands);
            start = seconds();
            call(&first[s * period], &operands);
            values[s] = seconds() - start;
        }
        hot = 1e6 * quantile(values, steps, 0.25);
        printf("%5s %6zu %6zu %6zu  %9.1f %9.1f %9.1f %9.1f\n", first->name, first->m, first->n, first->k, place, hot,
               2e-3 * (double)(first->m * first->n * first->k) / hot, after);
        total[0] += place;
        total[1] += hot;
        total[2] += after;
    }
    printf("%5s %20s  %9.1f %9.1f %9s %9.1f  share %.3f\n", "all", "", total[0], total[1], "", total[2],
           total[1] / (total[0] + total[2]));
    free(values);
    free_operands(&operands);
    free_data(&data);
}

static void do_train(const char *name, int epochs)
{
    const struct shape *shape = shape_of(name);
    struct amx_fit_report report = {0};
    struct amx_data data;
    double cpu;

    make_data(shape, &data);
    cpu = clock_of(CLOCK_PROCESS_CPUTIME_ID);
    amx_model_free(fit(shape, &data, epochs, 1, 1, NULL, &report));
    cpu = clock_of(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    printf("{\"shape\": \"%s\", \"labels_per_second\": %.1f, \"labels_per_cpu_second\": %.1f}\n", shape->name,
           report.labels_per_second, (double)data.n_labels * epochs / cpu);
    amx_free(report.loss_curve);
    free_data(&data);
}

static void do_data(const char *name, const char *path)
{
    const struct shape *shape = shape_of(name);
    struct amx_data data;
    FILE *out = fopen(path, "wb");
    bool good;

    make_data(shape, &data);
    good = out != NULL && fwrite(data.features, shape->D * sizeof(float), shape->N, out) == shape->N;
    for (size_t i = 0; i < data.n_labels && good; i++) {
        const uint32_t label[] = {data.label_instance[i], data.label_annotator[i], data.label_class[i]};
        good = fwrite(label, sizeof label, 1, out) == 1;
    }
    if (!good || fclose(out) != 0)
        give_up("the data cannot be written");
    printf("{\"shape\": \"%s\", \"labels\": %zu}\n", shape->name, data.n_labels);
    free_data(&data);
}

static void do_predict(size_t rows)
{
    enum {
        BATCH = 256,
        TURN = 16 * BATCH
    };
    const struct shape *shape = &SHAPES[0];
    struct amx_fit_report report = {0};
    struct amx_data data;
    struct amx_model *model;
    struct amx_error err;
    double start, ours = 0.0, products_seconds = 0.0;

    make_data(shape, &data);
    model = fit(shape, &data, 1, 1, 1, NULL, &report);
    amx_free(report.loss_curve);
    float *p = need(BATCH * shape->C, sizeof *p), *y = need(BATCH * 256, sizeof *y), *w = need(256 * 256, sizeof *w);
    const struct amx_prediction out = {.p_class = p};
    /* In turns of a few milliseconds, so that other load on the machine falls on both. */
    for (size_t i0 = 0; i0 < rows; i0 += TURN) {
        start = seconds();
        for (size_t i = i0; i < i0 + TURN && i < rows; i += BATCH) {
            if (amx_predict(model, data.features + i % 256 * shape->D, BATCH, NULL, 0, &out, &err) != AMX_OK)
                give_up(err.text);
        }
        ours += seconds() - start;
        start = seconds();
        for (size_t i = i0; i < i0 + TURN && i < rows; i += BATCH) {
            const float *x = data.features + i % 256 * shape->D;
            __real_gemm_nt(BATCH, 256, shape->D, x, shape->D, w, shape->D, 0.0f, y, 256);
            __real_gemm_nt(BATCH, 128, 256, y, 256, w, 256, 0.0f, y, 256);
            __real_gemm_nt(BATCH, shape->C, 128, y, 256, w, 128, 0.0f, p, shape->C);
        }
        products_seconds += seconds() - start;
    }
    printf("{\"rows_per_second\": %.0f, \"products_alone\": %.0f, \"share\": %.3f}\n", (double)rows / ours,
           (double)rows / products_seconds, products_seconds / ours);
    free(w);
    free(y);
    free(p);
    amx_model_free(model);
    free_data(&data);
}

static struct slice text(const char *s)
{
    return (struct slice){s, strlen(s)};
}

static void must(enum amx_status status, const struct amx_error *err)
{
    if (status != AMX_OK)
        give_up(err->text);
}

enum {
    PER_INSTANCE = 100,
    ROWS = 8192,
    FEATURES = 384, /* of bare-instances, */
    FEATURE_ROWS = 2 * 1024 * 1024 / (4 * FEATURES), /* and its transactions */
    CHECKPOINT_BYTES = 16 * 1024 * 1024
};

/* A fresh database with an empty project in a folder of its own. */
struct fresh {
    char folder[256], path[300];
    struct store *store;
    struct db *db;
    int64_t project;
};

static void fresh_open(struct fresh *f)
{
    const struct slice classes[] = {text("a"), text("b")};
    const struct project_new project = {.name = text("p"), .title = text(""), .settings = text("{}"),
                                        .classes = classes, .n_classes = 2, .now_ms = 1};
    const char *tmp = getenv("TMPDIR");
    struct amx_error err;

    *f = (struct fresh){.folder = ""};
    if ((size_t)snprintf(f->folder, sizeof f->folder, "%s/annotmix-engine-XXXXXX", tmp != NULL ? tmp : "/tmp") >=
            sizeof f->folder || mkdtemp(f->folder) == NULL)
        give_up("no temporary folder");
    (void)snprintf(f->path, sizeof f->path, "%s/e.db", f->folder);
    must(store_open(f->path, &(struct store_options){0}, &f->store, &err), &err);
    f->db = store_writer(f->store);
    must(db_begin(f->db, &err), &err);
    must(projects_insert(f->db, &project, &f->project, &err), &err);
    must(db_commit(f->db, &err), &err);
}

static void fresh_close(struct fresh *f)
{
    static const char *const ends[] = {"", "-wal", "-shm", ".lock"};

    store_close(f->store);
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        char file[320];
        (void)snprintf(file, sizeof file, "%s%s", f->path, ends[i]);
        (void)unlink(file); /* not all of them are there */
    }
    (void)rmdir(f->folder);
}

/* Labels of 100 annotators, instance by instance; instances are made by their first label. */
static void ingest_batch(struct fresh *f, size_t from, size_t to)
{
    static struct label_result results[ROWS];
    char instance[32], annotator[32];
    struct amx_error err;
    struct changes ch;

    must(changes_begin(f->db, f->project, 1, &ch, &err), &err);
    for (size_t j = from; j < to; j++) {
        (void)snprintf(instance, sizeof instance, "i%zu", j / PER_INSTANCE);
        (void)snprintf(annotator, sizeof annotator, "a%zu", j % PER_INSTANCE);
        const struct label_put put = {.instance = text(instance), .annotator = text(annotator),
                                      .class_index = (int)(j % 2), .duration_ms = -1, .create_instance = true};
        must(labels_put_soon(&ch, &put, &results[j - from], &err), &err);
    }
    must(changes_flush(&ch, &err), &err);
}

/* The rows of the same labels, nothing looked up, counted or checked by us. */
static void bare_batch(struct fresh *f, size_t from, size_t to)
{
    static const char label[] = "INSERT INTO labels (project_id, seq, instance_id, annotator_id, class, state, given_at,"
                                " received_at) VALUES (?1, ?2, ?3, ?4, ?5, 0, 1, 1)";
    static const char entry[] = "INSERT INTO annotator_labels (project_id, shelf, seq) VALUES (?1, (?3 >> 16) << 32 | ?2, ?3)";
    DB_STMT(labels);
    DB_STMT(entries);
    struct amx_error err;

    must(db_use(f->db, label, &labels, &err), &err);
    must(db_use(f->db, entry, &entries, &err), &err);
    for (size_t j = from; j < to; j++) {
        int64_t seq = (int64_t)j + 1, instance = (int64_t)(j / PER_INSTANCE) + 1;
        int64_t annotator = (int64_t)(j % PER_INSTANCE) + 1;
        db_bind_int(labels, 1, f->project);
        db_bind_int(labels, 2, seq);
        db_bind_int(labels, 3, instance);
        db_bind_int(labels, 4, annotator);
        db_bind_int(labels, 5, (int64_t)(j % 2));
        must(db_run(labels, &err), &err);
        db_bind_int(entries, 1, f->project);
        db_bind_int(entries, 2, annotator);
        db_bind_int(entries, 3, seq);
        must(db_run(entries, &err), &err);
    }
}

static void bare_instances_batch(struct fresh *f, size_t from, size_t to)
{
    static const char instance[] = "INSERT INTO instances (project_id, name, id, split, awaiting, labelled, created_at)"
                                   " VALUES (?1, ?2, ?3, 0, 0, 0, 1)";
    static const char vector[] = "INSERT INTO features (key, vector) VALUES ((?1 << 32) | ?2, ?3)";
    static float features[FEATURES];
    DB_STMT(instances);
    DB_STMT(vectors);
    struct amx_error err;
    char name[32];

    must(db_use(f->db, instance, &instances, &err), &err);
    must(db_use(f->db, vector, &vectors, &err), &err);
    for (size_t j = from; j < to; j++) {
        (void)snprintf(name, sizeof name, "n%zu", j);
        features[j % FEATURES] = (float)j;
        db_bind_int(instances, 1, f->project);
        db_bind_text(instances, 2, text(name));
        db_bind_int(instances, 3, (int64_t)j + 1);
        must(db_run(instances, &err), &err);
        db_bind_int(vectors, 1, f->project);
        db_bind_int(vectors, 2, (int64_t)j + 1);
        db_bind_blob(vectors, 3, features, sizeof features);
        must(db_run(vectors, &err), &err);
    }
}

/* The counters of annotator and project, as every label moves them. */
static void bare_counters(struct fresh *f, size_t j)
{
    static const char annotator[] = "UPDATE annotators SET n_labels = n_labels + 1, last_label_at = ?3"
                                    " WHERE project_id = ?1 AND id = ?2";
    static const char project[] = "UPDATE projects SET label_seq = ?2, n_labels = n_labels + 1 WHERE id = ?1";
    DB_STMT(annotators);
    DB_STMT(projects);
    struct amx_error err;

    must(db_use(f->db, annotator, &annotators, &err), &err);
    must(db_use(f->db, project, &projects, &err), &err);
    db_bind_int(annotators, 1, f->project);
    db_bind_int(annotators, 2, (int64_t)(j % PER_INSTANCE) + 1);
    db_bind_int(annotators, 3, (int64_t)j + 1);
    must(db_run(annotators, &err), &err);
    db_bind_int(projects, 1, f->project);
    db_bind_int(projects, 2, (int64_t)j + 1);
    must(db_run(projects, &err), &err);
}

static void do_commits(size_t n)
{
    struct amx_error err;
    struct fresh f;

    fresh_open(&f);
    must(db_begin(f.db, &err), &err);
    ingest_batch(&f, 0, PER_INSTANCE); /* makes the annotators */
    must(db_commit(f.db, &err), &err);
    double start = seconds(), cpu = cpu_seconds();
    for (size_t j = PER_INSTANCE; j < n + PER_INSTANCE; j++) {
        must(db_begin(f.db, &err), &err);
        bare_batch(&f, j, j + 1);
        bare_counters(&f, j);
        must(db_commit(f.db, &err), &err);
        if (db_wal_used(f.db) >= CHECKPOINT_BYTES)
            must(db_checkpoint(f.db, false, &err), &err);
    }
    printf("{\"commits_per_second\": %.1f, \"cpu_us\": %.3f}\n", (double)n / (seconds() - start),
           (cpu_seconds() - cpu) / (double)n * 1e6);
    fresh_close(&f);
}

/* n rows in transactions of so many; a checkpoint every 16 MiB or so, as the writer makes them. */
static void do_rows(size_t n, size_t rows, size_t checkpoint_rows,
                    void (*batch)(struct fresh *f, size_t from, size_t to))
{
    struct amx_error err;
    struct fresh f;

    fresh_open(&f);
    double start = seconds(), cpu = cpu_seconds();
    for (size_t i = 0; i < n; i += rows) {
        must(db_begin(f.db, &err), &err);
        batch(&f, i, i + rows < n ? i + rows : n);
        must(db_commit(f.db, &err), &err);
        if ((i + rows) / checkpoint_rows > i / checkpoint_rows)
            must(db_checkpoint(f.db, false, &err), &err);
    }
    printf("{\"rows_per_second\": %.0f, \"cpu_us\": %.3f}\n", (double)n / (seconds() - start),
           (cpu_seconds() - cpu) / (double)n * 1e6);
    fresh_close(&f);
}

static void do_labels(size_t n, void (*batch)(struct fresh *f, size_t from, size_t to))
{
    do_rows(n, ROWS, (size_t)4 * ROWS, batch);
}

/* The whole number behind argv[i], or the default. */
static long number(int argc, char **argv, int i, long fallback)
{
    char *end;
    long value = argc > i ? strtol(argv[i], &end, 10) : fallback;

    if (value < 1 || (argc > i && *end != '\0'))
        give_up("a number from 1 on is wanted");
    return value;
}

int main(int argc, char **argv)
{
    const char *command = argc > 1 ? argv[1] : "";

    if (strcmp(command, "fit") == 0 && argc > 4)
        do_fit_threads(argv[2], (int)number(argc, argv, 3, 5), (int)number(argc, argv, 4, 1),
                       (int)number(argc, argv, 5, 1), (int)number(argc, argv, 6, 5));
    else if (strcmp(command, "fit") == 0 && argc > 2)
        do_fit(argv[2], (int)number(argc, argv, 3, 9));
    else if (strcmp(command, "steps") == 0 && argc > 2)
        do_steps(argv[2], (int)number(argc, argv, 3, 5));
    else if (strcmp(command, "train") == 0 && argc > 2)
        do_train(argv[2], (int)number(argc, argv, 3, 5));
    else if (strcmp(command, "data") == 0 && argc > 3)
        do_data(argv[2], argv[3]);
    else if (strcmp(command, "predict") == 0)
        do_predict((size_t)number(argc, argv, 2, 1000000));
    else if (strcmp(command, "ingest") == 0)
        do_labels((size_t)number(argc, argv, 2, 1000000), ingest_batch);
    else if (strcmp(command, "bare") == 0)
        do_labels((size_t)number(argc, argv, 2, 1000000), bare_batch);
    else if (strcmp(command, "bare-instances") == 0)
        do_rows((size_t)number(argc, argv, 2, 200000), FEATURE_ROWS, (size_t)8 * FEATURE_ROWS, bare_instances_batch);
    else if (strcmp(command, "commits") == 0)
        do_commits((size_t)number(argc, argv, 2, 10000));
    else
        give_up("fit, steps or train SHAPE [EPOCHS], fit SHAPE EPOCHS MEMBERS THREADS [ROUNDS], predict [ROWS], ingest or "
                "bare [LABELS], bare-instances [ROWS], commits [LABELS]");
    free(products);
    return 0;
}
