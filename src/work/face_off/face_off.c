/* face_off.c - see face_off.h: the fits, side by side on some threads, and their figures.
 *
 * Fits are numbered repeat by repeat, method by method; threads take the next number, so a face-off that is cancelled
 * has whole repeats. A fit's figures depend on data, settings, seed and folds only, never on which thread made them.
 * The folds of a repeat are those that a training run with its seed would have. */
#include "work/face_off/face_off.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "util/clock.h"
#include "util/error.h"
#include "util/size.h"
#include "work/face_off/face_off_int.h"
#include "work/judge/evaluate_int.h"

enum {
    MAX_THREADS = 64
};

/* What the threads share. */
struct contest {
    struct face_off_result *result;
    const struct face_off_options *options;
    const struct risk_votes *votes; /* of the training labels; NULL without folds */
    uint32_t **folds;               /* [repeat][N]; NULL without folds */
    size_t fits;
    pthread_mutex_t mu;
    size_t next;                 /* guarded by mu */
    size_t done;                 /* guarded by mu */
    double running[MAX_THREADS]; /* guarded by mu: fraction of each thread's fit */
    const char *methods[MAX_THREADS];
    enum amx_status status; /* guarded by mu: AMX_CANCELLED once somebody asked */
};

struct worker {
    struct contest *contest;
    int number;
    pthread_t thread;
    bool started;
};

/* ---- one fit ----------------------------------------------------------------------------------------------------- */

static void tell(struct contest *contest, int number, double fraction)
{
    struct face_off_progress progress;
    double sum;

    (void)pthread_mutex_lock(&contest->mu);
    contest->running[number] = fraction;
    sum = (double)contest->done;
    for (int i = 0; i < MAX_THREADS; i++)
        sum += contest->running[i];
    progress =
        (struct face_off_progress){contest->done, contest->fits, contest->methods[number], sum / (double)contest->fits};
    if (contest->options->progress != NULL && progress.method != NULL)
        contest->options->progress(&progress, contest->options->context);
    (void)pthread_mutex_unlock(&contest->mu);
}

static void on_progress(const struct amx_progress *p, void *context)
{
    struct worker *worker = context;

    tell(worker->contest, worker->number, p->fraction);
}

/* Both figures of the crowd from the labels of train, each predicted out of fold. */
static enum amx_status hold_out(const struct contest *contest, const struct amx_model *model, const uint32_t *fold,
                                struct face_off_fit *fit, struct amx_error *err)
{
    const struct training_set *set = &contest->result->data->set;
    const struct part part = part_of(set, SPLIT_TRAIN);
    const struct pieces_of of = {
        .model = model, .part = &part, .wanted = PIECE_ANNOTATION, .annotator_of = NULL, .fold_of_row = fold};
    const size_t C = set->n_classes;
    struct risk_tally tally = {0};
    struct pieces *pieces = NULL;
    const struct piece *piece = NULL;
    double sum = 0;
    enum amx_status status = pieces_new(&of, &pieces, err);

    if (status == AMX_OK)
        status = pieces_next(pieces, &piece, err);
    while (status == AMX_OK && piece != NULL) {
        for (size_t i = piece->continues ? 1 : 0; i < piece->n_rows; i++)
            risk_tally_instance(&tally, contest->votes, piece->row + i, piece->p_class + i * C, C);
        for (size_t j = 0; j < piece->n_labels; j++) {
            const float *p = piece->p_annotation + j * C;
            const uint32_t label = part.label_class[piece->label + j];

            risk_tally_label(&tally, contest->votes, part.label_annotator[piece->label + j], label, p, C);
            sum += evaluate_log(p[label]);
        }
        status = pieces_next(pieces, &piece, err);
    }
    pieces_free(pieces);
    if (status != AMX_OK)
        return status;
    risk_tally_end(&tally, fit->risks);
    fit->figures[FIGURE_HELD_OUT] = sum / (double)set->n_labels;
    return AMX_OK;
}

static enum amx_status score_gold(const struct contest *contest, const struct amx_model *model,
                                  struct face_off_fit *fit, struct amx_error *err)
{
    struct evaluation e;
    enum amx_status status =
        evaluate_split(model, contest->result->data, contest->result->split, RUN_GOLD_EVALUATE, &e, err);

    if (status != AMX_OK)
        return status;
    fit->figures[FIGURE_ACCURACY] = e.classes.accuracy;
    fit->figures[FIGURE_BALANCED_ACCURACY] = e.classes.balanced_accuracy;
    fit->figures[FIGURE_LOG_LOSS] = e.classes.log_loss;
    fit->figures[FIGURE_BRIER] = e.classes.brier;
    fit->figures[FIGURE_CALIBRATION_ERROR] = e.classes.ece_debiased;
    if (e.has_annotators)
        fit->figures[FIGURE_ANNOTATOR_AUROC] = e.annotators.auroc;
    return AMX_OK;
}

/* What fit number r of a row asks of the learner. Basis crowd needs nothing but the members of the folds: an ensemble
 * of as many members as folds is exactly these. */
static struct amx_fit_options options_of(const struct face_off_result *result, const struct face_off_row *row, int r)
{
    return (struct amx_fit_options){.method = row->method,
                                    .seed = result->face_off->seed + (uint64_t)r,
                                    .ensemble = result->by_gold ? 1 : result->folds,
                                    .threads = 1,
                                    .folds = result->folds,
                                    .settings = row->request.settings};
}

static enum amx_status fit_one(struct worker *worker, struct face_off_row *row, int r, struct face_off_fit *fit,
                               struct amx_error *err)
{
    struct contest *contest = worker->contest;
    struct amx_fit_options options = options_of(contest->result, row, r);
    struct amx_data data = contest->result->data->data;
    struct amx_model *model = NULL;
    struct amx_fit_report report = {0};
    enum amx_status status;

    options.progress = on_progress;
    options.context = worker;
    options.cancel = contest->options->cancel;
    data.fold = contest->folds != NULL ? contest->folds[r] : NULL;
    status = amx_fit(&data, &options, &report, &model, err);
    amx_free(report.loss_curve);
    fit->seconds = report.seconds;
    if (status == AMX_OK && contest->result->by_gold)
        status = score_gold(contest, model, fit, err);
    if (status == AMX_OK && contest->folds != NULL)
        status = hold_out(contest, model, contest->folds[r], fit, err);
    amx_model_free(model);
    return status;
}

/* Takes one number; false: there is none left, or somebody cancelled. */
static bool do_next(struct worker *worker)
{
    struct contest *contest = worker->contest;
    struct face_off_result *result = contest->result;
    struct face_off_row *row;
    struct face_off_fit *fit;
    struct amx_error err;
    size_t number;
    enum amx_status status;

    (void)pthread_mutex_lock(&contest->mu);
    number = contest->status == AMX_OK ? contest->next++ : contest->fits;
    row = &result->rows[number % result->n_rows];
    contest->methods[worker->number] = row->method;
    (void)pthread_mutex_unlock(&contest->mu);
    if (number >= contest->fits)
        return false;
    fit = &row->fits[number / result->n_rows];
    memset(&err, 0, sizeof err);
    status = fit_one(worker, row, (int)(number / result->n_rows), fit, &err);
    fit->status = status;
    if (status != AMX_OK)
        memcpy(fit->error, err.text, sizeof fit->error);
    (void)pthread_mutex_lock(&contest->mu);
    contest->done++;
    contest->running[worker->number] = 0;
    if (status == AMX_CANCELLED)
        contest->status = AMX_CANCELLED;
    (void)pthread_mutex_unlock(&contest->mu);
    tell(contest, worker->number, 0);
    return true;
}

static void *worker_main(void *argument)
{
    while (do_next(argument))
        ;
    return NULL;
}

/* ---- all fits ---------------------------------------------------------------------------------------------------- */

/* The caller's thread is the first worker; one that cannot be started is done without. */
static enum amx_status run_workers(struct contest *contest)
{
    struct worker workers[MAX_THREADS] = {0};
    int n = contest->options->threads < MAX_THREADS ? contest->options->threads : MAX_THREADS;

    for (int i = 1; i < n; i++) {
        workers[i] = (struct worker){.contest = contest, .number = i};
        workers[i].started = pthread_create(&workers[i].thread, NULL, worker_main, &workers[i]) == 0;
    }
    workers[0] = (struct worker){.contest = contest};
    (void)worker_main(&workers[0]);
    for (int i = 1; i < n; i++) {
        if (workers[i].started)
            (void)pthread_join(workers[i].thread, NULL); /* cannot fail for a thread of ours */
    }
    return contest->status;
}

static void free_folds(struct contest *contest)
{
    for (int r = 0; contest->folds != NULL && r < contest->result->face_off->repeat; r++)
        free(contest->folds[r]);
    free(contest->folds);
}

static enum amx_status make_folds(struct contest *contest, struct amx_error *err)
{
    const struct face_off_result *result = contest->result;
    const struct training_set *set = &result->data->set;
    const size_t repeat = (size_t)result->face_off->repeat;

    if (result->folds == 0)
        return AMX_OK;
    contest->folds = calloc(repeat, sizeof *contest->folds);
    for (size_t r = 0; contest->folds != NULL && r < repeat; r++) {
        contest->folds[r] = calloc(set->n_instances + 1, sizeof **contest->folds);
        if (contest->folds[r] == NULL)
            return error_set(err, AMX_NO_MEMORY, "Out of memory.");
        for (size_t i = 0; i < set->n_instances; i++)
            contest->folds[r][i] = fold_of(set->instance_names[i], result->face_off->seed + r, result->folds);
    }
    return contest->folds != NULL ? AMX_OK : error_set(err, AMX_NO_MEMORY, "Out of memory.");
}

static enum amx_status fit_all(struct face_off_result *result, const struct face_off_options *options,
                               struct amx_error *err)
{
    const struct training_set *set = &result->data->set;
    const struct crowd_labels labels = {set->n_instances,    set->n_annotators,    set->n_classes,  set->n_labels,
                                        set->label_instance, set->label_annotator, set->label_class};
    struct risk_votes votes;
    struct contest contest = {.result = result, .options = options, .mu = PTHREAD_MUTEX_INITIALIZER};
    enum amx_status status;

    contest.fits = result->n_rows * (size_t)result->face_off->repeat;
    if (result->folds > 0) {
        if ((status = risk_votes_init(&labels, &votes)) != AMX_OK)
            return error_set(err, status, "Out of memory.");
        contest.votes = &votes;
    }
    status = make_folds(&contest, err);
    if (status == AMX_OK && (status = run_workers(&contest)) == AMX_CANCELLED)
        status = error_set(err, AMX_CANCELLED, "The face-off was cancelled.");
    free_folds(&contest);
    if (contest.votes != NULL)
        risk_votes_done(&votes);
    (void)pthread_mutex_destroy(&contest.mu);
    return status;
}

/* ---- what is to be compared -------------------------------------------------------------------------------------- */

static size_t count_gold(const struct training_set *set, enum split split)
{
    size_t n = 0;

    for (size_t i = 0; split == SPLIT_TRAIN && i < set->n_instances; i++)
        n += set->instance_gold[i] >= 0;
    for (size_t i = 0; split != SPLIT_TRAIN && i < set->n_held; i++)
        n += set->held_split[i] == (int8_t)split && set->held_gold[i] >= 0;
    return n;
}

/* Basis and folds. */
static void look_at(struct face_off_result *result, const struct face_off *face_off, const struct training_data *data)
{
    *result = (struct face_off_result){.face_off = face_off, .data = data, .split = SPLIT_TEST};
    result->n_gold = count_gold(&data->set, SPLIT_TEST);
    if (result->n_gold == 0) {
        result->split = SPLIT_VALID;
        result->n_gold = count_gold(&data->set, SPLIT_VALID);
    }
    result->by_gold = result->n_gold > 0;
    result->n_train_gold = count_gold(&data->set, SPLIT_TRAIN);
    result->folds = face_off->folds > 0 || result->by_gold ? face_off->folds : FACE_OFF_FOLDS;
}

/* Named, or one of all: then an upper bound from gold only where there is gold to train on and to be compared by. */
static bool is_wanted(const struct face_off_result *result, const struct amx_method_info *info)
{
    const struct face_off *face_off = result->face_off;

    for (size_t i = 0; i < face_off->n_methods; i++) {
        if (strcmp(face_off->methods[i], info->name) == 0)
            return true;
    }
    return face_off->n_methods == 0 && (!info->needs_gold || (result->by_gold && result->n_train_gold > 0));
}

/* Settings of one method: its published defaults, then every --set that it reads. used [n_set]. */
static enum amx_status settle(struct face_off_row *row, const struct face_off_result *result,
                              const struct face_off_options *options, bool *used, struct amx_error *err)
{
    const struct training_set *set = &result->data->set;
    enum amx_status status;

    run_request_default(set->n_features, &row->request);
    status = run_request_set_method(&row->request, row->method, set->n_features, err);
    for (size_t i = 0; i < options->n_set && status == AMX_OK; i++) {
        char key[64];
        size_t n = strcspn(options->set[i], "=");

        n = n < sizeof key ? n : sizeof key - 1;
        memcpy(key, options->set[i], n);
        key[n] = '\0';
        if (!amx_setting_applies(row->method, key))
            continue;
        used[i] = true;
        status = run_request_set(&row->request, options->set[i], err);
    }
    return status != AMX_OK ? status : run_request_check(&row->request, "", set->n_classes, err);
}

static enum amx_status make_rows(struct face_off_result *result, const struct face_off_options *options,
                                 struct amx_error *err)
{
    size_t n;
    const struct amx_method_info *methods = amx_methods(&n);
    bool *used = calloc(options->n_set + 1, sizeof *used);
    enum amx_status status = AMX_OK;

    result->rows = calloc(n + 1, sizeof *result->rows);
    if (used == NULL || result->rows == NULL)
        status = error_set(err, AMX_NO_MEMORY, "Out of memory.");
    for (size_t i = 0; i < n && status == AMX_OK; i++) {
        struct face_off_row *row = &result->rows[result->n_rows];

        if (!is_wanted(result, &methods[i]))
            continue;
        row->method = methods[i].name;
        row->title = methods[i].title;
        row->needs_gold = methods[i].needs_gold;
        row->fits = calloc((size_t)result->face_off->repeat, sizeof *row->fits);
        result->n_rows++;
        if (row->fits == NULL)
            status = error_set(err, AMX_NO_MEMORY, "Out of memory.");
        for (int r = 0; r < result->face_off->repeat && status == AMX_OK; r++) {
            for (int figure = 0; figure < N_FIGURES; figure++)
                row->fits[r].figures[figure] = (double)NAN;
        }
        if (status == AMX_OK)
            status = settle(row, result, options, used, err);
    }
    for (size_t i = 0; i < options->n_set && status == AMX_OK; i++) {
        if (!used[i])
            status =
                error_set(err, AMX_INVALID, "--set %.60s: none of the methods reads this setting.", options->set[i]);
    }
    if (status == AMX_OK && result->n_rows == 0)
        status = error_set(err, AMX_INVALID, "There is no method to compare.");
    free(used);
    return status;
}

static void release(struct face_off_result *result)
{
    for (size_t i = 0; i < result->n_rows; i++)
        free(result->rows[i].fits);
    free(result->rows);
    free(result->consensus);
}

enum amx_status face_off_do(const struct face_off *face_off, const struct training_data *data,
                            const struct face_off_options *options, json_t **out, struct amx_error *err)
{
    struct face_off_result result;
    const int64_t begun_ms = clock_monotonic_ms();
    enum amx_status status;

    look_at(&result, face_off, data);
    if ((status = make_rows(&result, options, err)) == AMX_OK &&
        (status = face_off_consensus(&result, options->cancel, err)) == AMX_OK &&
        (status = fit_all(&result, options, err)) == AMX_OK)
        status = face_off_rank(&result, err);
    if (status == AMX_OK) {
        result.seconds = (double)(clock_monotonic_ms() - begun_ms) / 1000;
        *out = face_off_json(&result);
        if (*out == NULL)
            status = error_set(err, AMX_NO_MEMORY, "Out of memory.");
    }
    release(&result);
    return status;
}

size_t face_off_fits(const struct face_off *face_off, const struct training_data *data)
{
    struct face_off_result result;
    size_t n, wanted = 0;
    const struct amx_method_info *methods = amx_methods(&n);

    look_at(&result, face_off, data);
    for (size_t i = 0; i < n; i++)
        wanted += is_wanted(&result, &methods[i]);
    return wanted * (size_t)face_off->repeat;
}

/* A fit that does not fit at all is refused by itself, as a failed row. */
size_t face_off_memory(const struct face_off *face_off, const struct training_data *data, int threads)
{
    struct face_off_result result;
    size_t n, most = 0, bytes;
    const struct amx_method_info *methods = amx_methods(&n);

    look_at(&result, face_off, data);
    for (size_t i = 0; i < n; i++) {
        struct face_off_row row = {.method = methods[i].name};
        struct amx_fit_options options;

        if (!is_wanted(&result, &methods[i]))
            continue;
        run_request_default(data->set.n_features, &row.request);
        run_request_settings_default(row.method, data->set.n_features, &row.request.settings);
        options = options_of(&result, &row, 0);
        bytes = amx_fit_memory(&data->data, &options);
        if (bytes != SIZE_MAX && bytes > most)
            most = bytes;
    }
    return size_mul(&bytes, most, (size_t)(threads > 0 ? threads : 1)) ? bytes : SIZE_MAX;
}

size_t face_off_least_memory(const struct training_data *least, size_t n_train, const void *face_off)
{
    struct training_data data = *least;

    (void)n_train; /* what grows with it is little beside the rest */
    /* Of both bases the one with fewer members: with folds that of the crowd (look_at, options_of). */
    if (((const struct face_off *)face_off)->folds > 0)
        data.set.n_held = 0;
    return face_off_memory(face_off, &data, 1);
}
