/* crew.c - one helper thread that belongs to one training thread.
 *
 * A fit with more threads than members lends a member the spare one: it takes the second half of the confusion output
 * (loss.c). Pieces last milliseconds, so a condition variable wakes it fast enough, and it costs nothing while the
 * rest of a step runs. What both threads write is handed over under the mutex. */
#include "crew.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

struct crew {
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    /* Guarded by mutex. */
    void (*job)(void *context, int part); /* NULL: nothing to do, or done */
    void *context;
    bool leave;
};

static void *help(void *argument)
{
    struct crew *crew = argument;

    (void)pthread_mutex_lock(&crew->mutex); /* as everywhere here: cannot fail, not recursive */
    for (;;) {
        void (*job)(void *context, int part);
        void *context;
        while (crew->job == NULL && !crew->leave)
            (void)pthread_cond_wait(&crew->changed, &crew->mutex);
        if (crew->job == NULL)
            break;
        job = crew->job;
        context = crew->context;
        (void)pthread_mutex_unlock(&crew->mutex);
        job(context, 1);
        (void)pthread_mutex_lock(&crew->mutex);
        crew->job = NULL;
        (void)pthread_cond_broadcast(&crew->changed);
    }
    (void)pthread_mutex_unlock(&crew->mutex);
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

void crew_run(struct crew *crew, void (*job)(void *context, int part), void *context)
{
    if (crew == NULL) {
        job(context, 0);
        job(context, 1);
        return;
    }
    (void)pthread_mutex_lock(&crew->mutex);
    crew->job = job;
    crew->context = context;
    (void)pthread_cond_broadcast(&crew->changed);
    (void)pthread_mutex_unlock(&crew->mutex);
    job(context, 0);
    (void)pthread_mutex_lock(&crew->mutex);
    while (crew->job != NULL)
        (void)pthread_cond_wait(&crew->changed, &crew->mutex);
    (void)pthread_mutex_unlock(&crew->mutex);
}

void crew_free(struct crew *crew)
{
    if (crew == NULL)
        return;
    (void)pthread_mutex_lock(&crew->mutex);
    crew->leave = true;
    (void)pthread_cond_broadcast(&crew->changed);
    (void)pthread_mutex_unlock(&crew->mutex);
    (void)pthread_join(crew->thread, NULL); /* joinable and ours */
    (void)pthread_cond_destroy(&crew->changed);
    (void)pthread_mutex_destroy(&crew->mutex);
    free(crew);
}
