/* select_search.c - the rungs of auto: which candidates are judged at which share of their epochs, on threads.
 *
 * The calling thread does not train. It waits in short naps, hands the outer cancel flag and the end of the time on to
 * the trainers (one flag, which every amx_fit reads before every batch), and reports progress. Trainers take candidates
 * in order; nothing a candidate gets depends on who trains it or on what runs beside it. A rung ends when all of its
 * candidates have: ranks are relative, so that they need them all.
 *
 * By fits, the numbers are settled before each rung (affordable). By time, a rung goes on while there is time for one
 * more candidate, guessed from what this one took in the rung before, or from the others' mean. The always-candidates
 * may use the first rung's time up and more, and only the end of all time stops a candidate half way. */
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "learn/now.h"
#include "learn/status.h"
#include "select_int.h"

#define NAP_SECONDS    0.005
#define REPORT_SECONDS 0.1
#define KEEP_SHARE     0.5  /* of the candidates of a rung go on to the next */
#define FITS_EPSILON   1e-9 /* of sums that should be whole */

/* Of the budget, rung by rung. */
static const double PARTS[SELECT_RUNGS] = {0.125, 0.125, 0.25, 0.5};

struct search;

struct trainer {
    struct search *search;
    pthread_t thread;
    bool started;
    /* Guarded by search->mutex. */
    size_t candidate; /* SIZE_MAX: none */
    double fraction;  /* of its fit */
};

struct search {
    const struct select_ground *ground;
    const struct select_options *options;
    const struct select_source *source;
    double begun;
    struct trainer *trainers; /* [n_trainers] */
    size_t n_trainers;
    int stop;        /* atomic: trainers end at the next batch */
    int rung;        /* written between rungs */
    double rung_end; /* seconds after `begun` when this rung should start no more; by time only */
    pthread_mutex_t mutex;
    pthread_cond_t changed; /* a trainer has ended */
    /* Guarded by mutex while trainers run. */
    struct select_candidate *candidates; /* [capacity] */
    size_t n, capacity;
    uint32_t *order; /* [capacity] candidates of this rung */
    size_t n_order, next, judged, running;
    bool grows;          /* the first rung by time: new candidates are made as long as there is time */
    double rung_seconds; /* trained in this rung */
    double units;        /* cross-validations with all epochs that are done; by fits only */
    double fraction;     /* last reported */
    double cut;          /* how far the furthest fit was that the end of the time stopped */
    double reported;
    bool timed_out, cancelled;
    enum amx_status status;        /* first failure that ends everything */
    enum amx_status first_failure; /* of a candidate */
    struct amx_error error, first_error;
};

static bool by_fits(const struct search *s)
{
    return s->options->budget_fits > 0;
}

static double elapsed(const struct search *s)
{
    return amx_now() - s->begun;
}

/* ---- progress ---------------------------------------------------------------------------------------------------- */

double select_search_part(const struct select_options *options)
{
    double members = options->ensemble + (options->folds > options->ensemble ? options->folds : 0);
    double search = (double)options->budget_fits * SELECT_FOLDS;

    return options->budget_fits > 0 ? search / (search + members) : 0.9;
}

static const char *best_method(const struct search *s)
{
    const struct select_candidate *best = NULL;

    for (size_t i = 0; i < s->n; i++) {
        if (s->candidates[i].rung >= 0 && !isnan(s->candidates[i].score) &&
            (best == NULL || select_compare(&s->candidates[i], best) < 0))
            best = &s->candidates[i];
    }
    return best != NULL ? best->method : NULL;
}

static void report_locked(struct search *s)
{
    double time = elapsed(s), done = s->units, cost = select_rung_cost(s->options, s->rung), fraction;
    struct select_progress progress = {
        .rung = s->rung, .candidate = s->judged, .candidates = s->n_order, .method = best_method(s)};

    for (size_t t = 0; t < s->n_trainers; t++)
        done += s->trainers[t].candidate != SIZE_MAX ? s->trainers[t].fraction * cost : 0.0;
    fraction = by_fits(s) ? done / (double)s->options->budget_fits : time / s->options->budget_seconds;
    fraction = fmin(fraction, 1.0) * select_search_part(s->options);
    s->fraction = fmax(s->fraction, fraction);
    s->reported = time;
    progress.fraction = s->fraction;
    progress.eta_seconds = s->fraction > 0.0 ? time * (1.0 - s->fraction) / s->fraction : 0.0;
    s->options->progress(&progress, s->options->context);
}

static void on_fit_progress(const struct amx_progress *p, void *context)
{
    struct trainer *trainer = context;

    pthread_mutex_lock(&trainer->search->mutex);
    trainer->fraction = p->fraction / select_rung_splits(trainer->search->rung); /* of the split in work */
    pthread_mutex_unlock(&trainer->search->mutex);
}

/* ---- trainers ---------------------------------------------------------------------------------------------------- */

/* Seconds that a candidate will probably take in this rung; 0 = no idea. */
static double guess_locked(const struct search *s, const struct select_candidate *c)
{
    if (c != NULL && c->rung >= 0)
        return c->rung_seconds * select_rung_cost(s->options, s->rung) / select_rung_cost(s->options, c->rung);
    return s->judged > 0 ? s->rung_seconds / (double)s->judged : 0.0;
}

/* Always by fits; by time, while it is likely to end in time. The first two of every trainer may always try: guesses
 * are rough, and a rung of one compares nothing. */
static bool may_start_locked(const struct search *s, const struct select_candidate *c)
{
    if (by_fits(s) || (s->rung == 0 && c != NULL && c->always) || s->judged + s->running < 2 * s->n_trainers)
        return true;
    return elapsed(s) + guess_locked(s, c) <= s->rung_end;
}

static size_t take_locked(struct search *s)
{
    if (s->status != AMX_OK || __atomic_load_n(&s->stop, __ATOMIC_RELAXED))
        return SIZE_MAX;
    if (s->next < s->n_order)
        return may_start_locked(s, &s->candidates[s->order[s->next]]) ? s->order[s->next++] : SIZE_MAX;
    if (!s->grows || s->n == s->capacity || !may_start_locked(s, NULL))
        return SIZE_MAX;
    select_candidate_at(s->source, s->n, &s->candidates[s->n]);
    s->order[s->n_order++] = (uint32_t)s->n++;
    return s->order[s->next++];
}

/* A candidate's end. Failures of the machine and cancelling end the search; all others are the candidate's own. */
static void put_locked(struct search *s, size_t index, const struct select_candidate *judged, enum amx_status status,
                       const struct amx_error *err)
{
    struct select_candidate *c = &s->candidates[index];

    if (status == AMX_CANCELLED)
        return; /* whoever raised the flag knows why */
    if (status == AMX_NO_MEMORY) {
        if (s->status == AMX_OK) {
            s->status = status;
            s->error = *err;
        }
        __atomic_store_n(&s->stop, 1, __ATOMIC_RELAXED);
        return;
    }
    s->rung_seconds += judged->seconds - c->seconds;
    s->units += select_rung_cost(s->options, s->rung);
    s->judged++;
    *c = *judged;
    if (status == AMX_OK)
        return;
    c->state = SELECT_FAILED;
    memcpy(c->error, err->text, sizeof c->error);
    if (s->first_failure == AMX_OK) {
        s->first_failure = status;
        s->first_error = *err;
    }
}

static void judge_one(struct trainer *trainer, size_t index, int threads)
{
    struct search *s = trainer->search;
    struct amx_fit_options fit;
    struct select_candidate judged;
    struct amx_error err;
    double begun = amx_now();
    enum amx_status status;

    memset(&err, 0, sizeof err);
    pthread_mutex_lock(&s->mutex);
    judged = s->candidates[index];
    pthread_mutex_unlock(&s->mutex);
    select_fit_options(s->ground, &judged, s->rung, &fit);
    fit.threads = threads;
    fit.cancel = &s->stop;
    fit.progress = on_fit_progress;
    fit.context = trainer;
    status = select_judge(s->ground, s->rung, &fit, &judged, &err);
    judged.rung_seconds = (amx_now() - begun) * threads;
    judged.seconds += judged.rung_seconds;
    if (status == AMX_OK)
        judged.state = SELECT_DROPPED; /* until the last rung is known */
    pthread_mutex_lock(&s->mutex);
    put_locked(s, index, &judged, status, &err);
    if (status == AMX_CANCELLED)
        s->cut = fmax(s->cut, trainer->fraction);
    trainer->candidate = SIZE_MAX;
    trainer->fraction = 0.0;
    s->running--;
    pthread_mutex_unlock(&s->mutex);
}

static void *train(void *argument)
{
    struct trainer *trainer = argument;
    struct search *s = trainer->search;

    for (;;) {
        size_t index;
        int threads;

        pthread_mutex_lock(&s->mutex);
        index = take_locked(s);
        trainer->candidate = index;
        s->running += index != SIZE_MAX ? 1 : 0;
        /* Fewer candidates than threads: each gets its part of them. */
        threads = !s->grows && s->n_order < s->n_trainers ? (int)(s->n_trainers / s->n_order) : 1;
        pthread_mutex_unlock(&s->mutex);
        if (index == SIZE_MAX)
            break;
        judge_one(trainer, index, threads);
    }
    pthread_mutex_lock(&s->mutex);
    trainer->started = false;
    pthread_cond_signal(&s->changed);
    pthread_mutex_unlock(&s->mutex);
    return NULL;
}

/* ---- one rung ---------------------------------------------------------------------------------------------------- */

static bool any_started_locked(const struct search *s)
{
    for (size_t t = 0; t < s->n_trainers; t++) {
        if (s->trainers[t].started)
            return true;
    }
    return false;
}

/* Cancelled from outside, or out of time: tells the trainers. */
static void watch_locked(struct search *s)
{
    const volatile int *cancel = s->options->cancel;

    if (cancel != NULL && __atomic_load_n(cancel, __ATOMIC_RELAXED) != 0)
        s->cancelled = true;
    if (s->options->budget_seconds > 0.0 && elapsed(s) > s->options->budget_seconds)
        s->timed_out = true;
    if (s->cancelled || s->timed_out)
        __atomic_store_n(&s->stop, 1, __ATOMIC_RELAXED);
}

static void wait_for_trainers(struct search *s)
{
    pthread_mutex_lock(&s->mutex);
    while (any_started_locked(s)) {
        struct timespec until;
        double at = amx_now() + NAP_SECONDS;

        until.tv_sec = (time_t)at;
        until.tv_nsec = (long)((at - floor(at)) * 1e9);
        (void)pthread_cond_timedwait(&s->changed, &s->mutex, &until); /* a nap that may end early */
        watch_locked(s);
        if (s->options->progress != NULL && elapsed(s) - s->reported >= REPORT_SECONDS)
            report_locked(s);
    }
    pthread_mutex_unlock(&s->mutex);
}

/* Judges order[0 .. n_order-1] (and more, if it grows). */
static enum amx_status run_rung(struct search *s, struct amx_error *err)
{
    size_t created = 0;

    s->next = s->judged = s->running = 0;
    s->rung_seconds = 0.0;
    for (size_t t = 0; t < s->n_trainers; t++) {
        s->trainers[t].candidate = SIZE_MAX;
        s->trainers[t].fraction = 0.0;
        s->trainers[t].started = false;
    }
    pthread_mutex_lock(&s->mutex); /* nobody ends before all are begun */
    for (size_t t = 0; t < s->n_trainers; t++) {
        s->trainers[t].started = pthread_create(&s->trainers[t].thread, NULL, train, &s->trainers[t]) == 0;
        if (!s->trainers[t].started)
            break;
        created++;
    }
    pthread_mutex_unlock(&s->mutex);
    if (created == 0)
        return amx_fail(err, AMX_NO_MEMORY, "", "No thread could be started.");
    wait_for_trainers(s);
    for (size_t t = 0; t < created; t++)
        (void)pthread_join(s->trainers[t].thread, NULL); /* joinable and ours */
    if (s->options->progress != NULL) {
        pthread_mutex_lock(&s->mutex);
        report_locked(s);
        pthread_mutex_unlock(&s->mutex);
    }
    if (s->cancelled)
        return amx_fail(err, AMX_CANCELLED, "", "The fit was cancelled.");
    if (s->status != AMX_OK && err != NULL)
        *err = s->error;
    return s->status;
}

/* Ranks, scores and deviations of those judged in this rung; *n how many. */
static enum amx_status rank_rung(struct search *s, size_t *n)
{
    double *risks = calloc(s->n > 0 ? s->n : 1, (2 * RISKS + 2) * sizeof *risks);
    double *ranks, *score, *deviation;
    size_t m = 0, at = 0;
    enum amx_status status;

    if (risks == NULL)
        return AMX_NO_MEMORY;
    for (size_t i = 0; i < s->n; i++) {
        if (s->candidates[i].state != SELECT_FAILED && s->candidates[i].rung == s->rung)
            memcpy(risks + RISKS * m++, s->candidates[i].risks, sizeof s->candidates[i].risks);
    }
    ranks = risks + RISKS * s->n;
    score = ranks + RISKS * s->n;
    deviation = score + s->n;
    status = risk_ranks(risks, m, ranks, score, deviation);
    for (size_t i = 0; i < s->n && status == AMX_OK; i++) {
        struct select_candidate *c = &s->candidates[i];

        if (c->state == SELECT_FAILED || c->rung != s->rung)
            continue;
        memcpy(c->ranks, ranks + RISKS * at, sizeof c->ranks);
        c->score = score[at];
        c->deviation = deviation[at++];
    }
    free(risks);
    *n = m;
    return status;
}

/* ---- the plan ---------------------------------------------------------------------------------------------------- */

int64_t select_min_fits(size_t n_methods)
{
    return (int64_t)ceil(SELECT_FIRST_SHARE * (double)select_n_always(n_methods));
}

/* Of the budget, from this rung on. */
static double parts_from(int rung)
{
    double sum = 0.0;

    for (int r = rung; r < SELECT_RUNGS; r++)
        sum += PARTS[r];
    return sum;
}

/* How many a rung can take with its part of what is left of the budget. */
static size_t affordable(const struct search *s)
{
    double left = (double)s->options->budget_fits - s->units, part = left * PARTS[s->rung] / parts_from(s->rung);
    double cost = select_rung_cost(s->options, s->rung), n = floor(part / cost + FITS_EPSILON);

    if (n < 1.0 && left + FITS_EPSILON >= cost)
        n = 1.0;
    return n < (double)SELECT_MAX_CANDIDATES ? (size_t)n : SELECT_MAX_CANDIDATES;
}

static enum amx_status plan_first(struct search *s)
{
    const size_t always = select_n_always(s->source->n_methods);
    size_t n = always;

    s->grows = !by_fits(s);
    if (by_fits(s) && affordable(s) > n)
        n = affordable(s);
    s->capacity = s->grows ? SELECT_MAX_CANDIDATES : n;
    s->candidates = calloc(s->capacity, sizeof *s->candidates);
    s->order = calloc(s->capacity, sizeof *s->order);
    if (s->candidates == NULL || s->order == NULL)
        return AMX_NO_MEMORY;
    for (s->n = 0; s->n < n; s->n++) {
        select_candidate_at(s->source, s->n, &s->candidates[s->n]);
        s->order[s->n] = (uint32_t)s->n;
    }
    s->n_order = n;
    return AMX_OK;
}

/* order [n] becomes the best half (`keep`) and the always-candidates in turn: the best, the best always-candidate, the
 * second best, ... so that however many can be judged, both have their part. Few epochs favour what learns fast; the
 * published defaults were made for many. Returns how many there are. */
static size_t take_turns(const struct select_candidate *candidates, uint32_t *order, size_t n, size_t keep,
                         uint32_t *turns, bool *taken)
{
    size_t best = 0, always = 0, m = 0;

    while (best < keep || always < n) {
        while (best < keep && taken[best])
            best++;
        if (best < keep) {
            taken[best] = true;
            turns[m++] = order[best];
        }
        while (always < n && (taken[always] || !candidates[order[always]].always))
            always++;
        if (always < n) {
            taken[always] = true;
            turns[m++] = order[always];
        }
    }
    memcpy(order, turns, m * sizeof *order);
    return m;
}

static enum amx_status plan_next(struct search *s, size_t n_judged)
{
    uint32_t *turns = calloc(n_judged, sizeof *turns);
    bool *taken = calloc(n_judged, sizeof *taken);
    enum amx_status status = AMX_NO_MEMORY;

    if (turns != NULL && taken != NULL && (status = select_sort(s->candidates, s->n, s->order)) == AMX_OK) {
        size_t n =
            take_turns(s->candidates, s->order, n_judged, (size_t)ceil(KEEP_SHARE * (double)n_judged), turns, taken);

        s->rung++;
        s->grows = false;
        s->n_order = by_fits(s) && affordable(s) < n ? affordable(s) : n;
    }
    free(taken);
    free(turns);
    return status;
}

/* Nobody could be judged. */
static enum amx_status nothing_judged(const struct search *s, struct amx_error *err)
{
    double time = elapsed(s);

    if (s->first_failure == AMX_NOTHING)
        return amx_fail(err, AMX_NOTHING, "",
                        "Too few labelled instances to choose by cross-validation: without each of its %d parts, two "
                        "labelled instances and two classes must be left.",
                        s->ground->folds);
    if (s->first_failure != AMX_OK) {
        if (err != NULL)
            *err = s->first_error;
        return s->first_failure;
    }
    return amx_fail(
        err, AMX_INVALID, "/budget_seconds",
        "budget_seconds is too small: %.3g s were over before one candidate was judged; at least %.3g would "
        "be needed.",
        time, s->cut > 0.0 ? 1.2 * time / s->cut : 10.0 * time);
}

static enum amx_status rungs(struct search *s, struct amx_error *err)
{
    enum amx_status status = plan_first(s);

    if (status != AMX_OK)
        return amx_fail_memory(err);
    for (;;) {
        size_t n;

        s->rung_end = s->options->budget_seconds * (1.0 - parts_from(s->rung + 1));
        if ((status = run_rung(s, err)) != AMX_OK)
            return status;
        if (rank_rung(s, &n) != AMX_OK)
            return amx_fail_memory(err);
        if (n == 0 || s->rung == SELECT_RUNGS - 1 || s->timed_out)
            return AMX_OK;
        if (plan_next(s, n) != AMX_OK)
            return amx_fail_memory(err);
        if (s->n_order == 0)
            return AMX_OK;
    }
}

/* ---- the search -------------------------------------------------------------------------------------------------- */

/* The rung that decides is the last one that somebody came through. */
static enum amx_status hand_over(struct search *s, struct select_outcome *out, struct amx_error *err)
{
    struct select_candidate *sorted = calloc(s->n, sizeof *sorted);

    if (sorted == NULL || select_sort(s->candidates, s->n, s->order) != AMX_OK) {
        free(sorted);
        return amx_fail_memory(err);
    }
    for (size_t i = 0; i < s->n; i++)
        sorted[i] = s->candidates[s->order[i]];
    if (sorted[0].state != SELECT_DROPPED) {
        free(sorted);
        return nothing_judged(s, err);
    }
    s->rung = sorted[0].rung;
    for (size_t i = 0; i < s->n; i++) {
        if (sorted[i].state == SELECT_DROPPED && sorted[i].rung == s->rung)
            sorted[i].state = SELECT_FINISHED;
    }
    *out = (struct select_outcome){sorted, s->n, s->rung, elapsed(s)};
    return AMX_OK;
}

static bool conditions_init(struct search *s)
{
    pthread_condattr_t attr;
    bool ok;

    if (pthread_mutex_init(&s->mutex, NULL) != 0)
        return false;
    ok = pthread_condattr_init(&attr) == 0;
    if (ok) {
        ok = pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) == 0 && pthread_cond_init(&s->changed, &attr) == 0;
        (void)pthread_condattr_destroy(&attr);
    }
    if (!ok)
        (void)pthread_mutex_destroy(&s->mutex);
    return ok;
}

enum amx_status select_search(const struct select_ground *ground, const struct select_source *source,
                              struct select_outcome *out, struct amx_error *err)
{
    struct search s;
    enum amx_status status = AMX_NO_MEMORY;

    memset(&s, 0, sizeof s);
    s.ground = ground;
    s.options = ground->options;
    s.source = source;
    s.begun = amx_now();
    s.n_trainers = (size_t)s.options->threads;
    if (!conditions_init(&s))
        return amx_fail_memory(err);
    s.trainers = calloc(s.n_trainers, sizeof *s.trainers);
    if (s.trainers == NULL) {
        status = amx_fail_memory(err);
        goto done;
    }
    for (size_t t = 0; t < s.n_trainers; t++)
        s.trainers[t].search = &s;
    status = rungs(&s, err);
    if (status == AMX_OK)
        status = hand_over(&s, out, err);
done:
    free(s.order);
    free(s.candidates);
    free(s.trainers);
    (void)pthread_cond_destroy(&s.changed);
    (void)pthread_mutex_destroy(&s.mutex);
    return status;
}
