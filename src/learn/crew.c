/* crew.c - one helper thread that belongs to one training thread.
 *
 * A fit with more threads than members lends a member the spare one: it takes half of a product (blas.c) or of the
 * confusion output (loss.c). Pieces are 20 us and longer and follow each other closely, so both sides look for each
 * other for a while before they sleep on the condition variable; waking a thread takes as long as a small piece. Where
 * the helper has not begun when the first half is done (cores busy with requests), the training thread takes its half
 * back; where it was interrupted within its half, the training thread works alone for a while. */
#include "crew.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

#include "now.h"

enum {
    LOOKS = 4000, /* before a thread goes to sleep, some 50 us */
    ALONE = 32    /* times as long as the piece that came late */
};
enum state {
    IDLE,
    OFFERED,
    TAKEN,
    LEAVE
};

struct crew {
    pthread_t thread;
    pthread_mutex_t mutex; /* for sleeping only */
    pthread_cond_t changed;
    int state;    /* enum state, atomic; job and context are handed over by it */
    int sleepers; /* atomic: threads at the condition variable, or on their way to it */
    void (*job)(void *context, int part);
    void *context;
    /* Of the training thread alone. */
    bool running; /* crew_run is under way */
    double alone_until;
};

static int state_of(const struct crew *crew)
{
    return __atomic_load_n(&crew->state, __ATOMIC_SEQ_CST);
}

static bool move(struct crew *crew, int from, int to)
{
    return __atomic_compare_exchange_n(&crew->state, &from, to, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

/* After a change of state: either this sees the sleeper, or the sleeper sees the new state before it sleeps. */
static void tell(struct crew *crew)
{
    if (__atomic_load_n(&crew->sleepers, __ATOMIC_SEQ_CST) == 0)
        return;
    (void)pthread_mutex_lock(&crew->mutex); /* as everywhere here: cannot fail, not recursive */
    (void)pthread_cond_broadcast(&crew->changed);
    (void)pthread_mutex_unlock(&crew->mutex);
}

static void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
}

/* Returns when the state is no longer `old`. */
static void wait_while(struct crew *crew, int old)
{
    for (int i = 0; i < LOOKS; i++) {
        if (state_of(crew) != old)
            return;
        relax();
    }
    (void)pthread_mutex_lock(&crew->mutex);
    (void)__atomic_add_fetch(&crew->sleepers, 1, __ATOMIC_SEQ_CST);
    while (state_of(crew) == old)
        (void)pthread_cond_wait(&crew->changed, &crew->mutex);
    (void)__atomic_sub_fetch(&crew->sleepers, 1, __ATOMIC_SEQ_CST);
    (void)pthread_mutex_unlock(&crew->mutex);
}

static void *help(void *argument)
{
    struct crew *crew = argument;

    while (state_of(crew) != LEAVE) {
        if (move(crew, OFFERED, TAKEN)) {
            crew->job(crew->context, 1);
            (void)move(crew, TAKEN, IDLE); /* nobody else leaves TAKEN */
            tell(crew);
        } else {
            wait_while(crew, IDLE);
        }
    }
    return NULL;
}

struct crew *crew_new(void)
{
    struct crew *crew = calloc(1, sizeof *crew);

    if (crew == NULL)
        return NULL;
    if (pthread_mutex_init(&crew->mutex, NULL) != 0)
        goto no_mutex;
    if (pthread_cond_init(&crew->changed, NULL) != 0)
        goto no_condition;
    if (pthread_create(&crew->thread, NULL, help, crew) != 0)
        goto no_thread;
    return crew;
no_thread:
    (void)pthread_cond_destroy(&crew->changed);
no_condition:
    (void)pthread_mutex_destroy(&crew->mutex);
no_mutex:
    free(crew);
    return NULL;
}

bool crew_is_free(const struct crew *crew)
{
    return crew != NULL && !crew->running;
}

static void run_both(void (*job)(void *context, int part), void *context)
{
    job(context, 0);
    job(context, 1);
}

static void run_together(struct crew *crew, void (*job)(void *context, int part), void *context)
{
    double start = amx_now(), half, end;

    crew->job = job;
    crew->context = context;
    (void)move(crew, IDLE, OFFERED); /* idle between pieces */
    tell(crew);
    job(context, 0);
    if (move(crew, OFFERED, IDLE)) {
        job(context, 1);
        return;
    }
    half = amx_now();
    wait_while(crew, TAKEN);
    end = amx_now();
    if (end - half > half - start)
        crew->alone_until = end + ALONE * (end - start);
}

void crew_run(struct crew *crew, void (*job)(void *context, int part), void *context)
{
    if (crew == NULL) {
        run_both(job, context);
        return;
    }
    crew->running = true;
    if (amx_now() < crew->alone_until)
        run_both(job, context);
    else
        run_together(crew, job, context);
    crew->running = false;
}

void crew_free(struct crew *crew)
{
    if (crew == NULL)
        return;
    (void)move(crew, IDLE, LEAVE);
    tell(crew);
    (void)pthread_join(crew->thread, NULL); /* joinable and ours */
    (void)pthread_cond_destroy(&crew->changed);
    (void)pthread_mutex_destroy(&crew->mutex);
    free(crew);
}
