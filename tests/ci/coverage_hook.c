/* coverage_hook.c - keeps the counters of processes that do not end in order; linked into every program of `make coverage`.
 *
 * Counters are written by exit handlers, so a killed server and a child that ends by _exit() would have run for nothing.
 * SIGUSR2 writes them and then kills the process as SIGKILL does, nothing else having been told; tests that kill a server
 * send the signal that ANNOTMIX_KILL names. Nothing of this is part of any other build.
 */
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <unistd.h>

void __gcov_dump(void);
void __wrap__exit(int status) __attribute__((noreturn));
void __real__exit(int status) __attribute__((noreturn));

void __wrap__exit(int status)
{
    __gcov_dump();
    __real__exit(status);
}

static void *wait_for_the_kill(void *set)
{
    int number = 0;

    while (sigwait(set, &number) != 0) {
    }
    __gcov_dump();
    (void)kill(getpid(), SIGKILL);
    return NULL;
}

/* Before main: the threads of the program inherit the mask, so the signal comes to the one that waits for it. That one
 * must take no other: SIGTERM is the program's. */
__attribute__((constructor)) static void begin(void)
{
    static sigset_t set;
    sigset_t all, before;
    pthread_t thread;

    (void)sigfillset(&all);
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGUSR2);
    if (pthread_sigmask(SIG_BLOCK, &all, &before) != 0)
        return;
    if (pthread_create(&thread, NULL, wait_for_the_kill, &set) == 0)
        (void)pthread_detach(thread);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    (void)pthread_sigmask(SIG_BLOCK, &set, NULL);
}
