/* background.c - see background.h. The thread is detached; what keeps the server from going away under it is the
 * suspended request, for which http_server_stop waits as it waits for writes. */
#include "endpoints/derived/background.h"

#include <pthread.h>
#include <stdlib.h>

#include "endpoints/problem.h"

struct task {
    struct http_request *rq;
    void (*work)(void *context);
    void *context;
};

static int running; /* atomic */

static void *run(void *argument)
{
    struct task task = *(struct task *)argument;
    free(argument);
    task.work(task.context);
    (void)__atomic_sub_fetch(&running, 1, __ATOMIC_ACQ_REL);
    http_resume(task.rq); /* nothing of the request may be touched after this */
    return NULL;
}

static bool start(struct task *task)
{
    pthread_attr_t attributes;
    pthread_t thread;
    if (pthread_attr_init(&attributes) != 0) {
        return false;
    }
    bool ok = pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED) == 0 &&
              pthread_create(&thread, &attributes, run, task) == 0;
    (void)pthread_attr_destroy(&attributes); /* cannot fail for one that was made */
    return ok;
}

void background_run(struct http_request *rq, void (*work)(void *context), void *context,
                    void (*next)(struct http_request *rq))
{
    struct task *task = malloc(sizeof *task);
    if (task == NULL) {
        problem_reply_status(rq, AMX_NO_MEMORY);
        return;
    }
    *task = (struct task){rq, work, context};
    if (__atomic_add_fetch(&running, 1, __ATOMIC_ACQ_REL) > BACKGROUND_MAX) {
        (void)__atomic_sub_fetch(&running, 1, __ATOMIC_ACQ_REL);
        free(task);
        problem_reply_as(rq, PROBLEM_QUEUE_FULL, "%d long calculations are running; try again in a moment.",
                         (int)BACKGROUND_MAX);
        return;
    }
    if (!http_suspend(rq, HTTP_WAIT_WRITE, 0, next)) {
        (void)__atomic_sub_fetch(&running, 1, __ATOMIC_ACQ_REL);
        free(task);
        return;
    }
    if (!start(task)) {
        (void)run(task); /* no thread to be had: slow is better than not at all */
    }
}
