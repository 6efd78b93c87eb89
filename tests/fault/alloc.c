/* alloc.c - malloc and its family, in front of libc's: fails when control.h says so, counts what is alive, and remembers
 * who allocated it.
 *
 * Defined in the program, these names stand for every library in it too (SQLite, Jansson, libmicrohttpd, OpenBLAS), so
 * nothing has to be told to use them. The table of live blocks is only filled while `trace` is on: a test compares what
 * is alive before and after, and names the callers of what is left.
 */
#include <errno.h>
#include <execinfo.h>
#include <malloc.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "control.h"

#define VISIBLE __attribute__((visibility("default")))

void *__libc_malloc(size_t n);
void *__libc_calloc(size_t count, size_t n);
void *__libc_realloc(void *old, size_t n);
void *__libc_memalign(size_t alignment, size_t n);
void __libc_free(void *block);

enum { TRACED = 1 << 15, FRAMES = 8, SKIP = 2 };

struct traced {
    void *block; /* NULL: free */
    size_t n;
    int64_t number;
    void *frames[FRAMES];
    int n_frames;
};

static struct traced traced[TRACED];
static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;
static __thread bool inside; /* backtrace() may allocate itself */

static bool refuse(void)
{
    struct fault_control *c = fault_control();

    if (c == NULL || __atomic_load_n(&c->alloc_first, __ATOMIC_RELAXED) == 0 || inside)
        return false;
    int64_t n = __atomic_add_fetch(&c->allocs, 1, __ATOMIC_RELAXED);
    if (n < c->alloc_first || (c->alloc_times > 0 && n >= c->alloc_first + c->alloc_times))
        return false;
    (void)__atomic_add_fetch(&c->alloc_fired, 1, __ATOMIC_RELAXED);
    errno = ENOMEM;
    return true;
}

static size_t slot_of(const void *block)
{
    return (size_t)(((uintptr_t)block >> 4) * UINT64_C(0x9E3779B97F4A7C15) >> 49) % TRACED;
}

static void trace(const struct fault_control *c, void *block)
{
    inside = true;
    (void)pthread_mutex_lock(&mu);
    for (size_t i = 0, slot = slot_of(block); i < 64; i++, slot = (slot + 1) % TRACED) {
        struct traced *t = &traced[slot];
        if (t->block != NULL)
            continue;
        *t = (struct traced){.block = block, .n = malloc_usable_size(block), .number = c->allocs};
        t->n_frames = backtrace(t->frames, FRAMES);
        break;
    }
    (void)pthread_mutex_unlock(&mu);
    inside = false;
}

static void untrace(const void *block)
{
    (void)pthread_mutex_lock(&mu);
    for (size_t i = 0, slot = slot_of(block); i < 64; i++, slot = (slot + 1) % TRACED) {
        if (traced[slot].block == block) {
            traced[slot].block = NULL;
            break;
        }
    }
    (void)pthread_mutex_unlock(&mu);
}

static void *born(void *block)
{
    struct fault_control *c = fault_control();

    if (block == NULL || c == NULL || inside)
        return block;
    (void)__atomic_add_fetch(&c->live_blocks, 1, __ATOMIC_RELAXED);
    (void)__atomic_add_fetch(&c->live_bytes, (int64_t)malloc_usable_size(block), __ATOMIC_RELAXED);
    if (c->trace)
        trace(c, block);
    return block;
}

static void dies(void *block)
{
    struct fault_control *c = fault_control();

    if (block == NULL || c == NULL)
        return;
    (void)__atomic_sub_fetch(&c->live_blocks, 1, __ATOMIC_RELAXED);
    (void)__atomic_sub_fetch(&c->live_bytes, (int64_t)malloc_usable_size(block), __ATOMIC_RELAXED);
    if (c->trace && !inside)
        untrace(block);
}

void alloc_tell_leaks(void)
{
    for (size_t i = 0; i < TRACED; i++) {
        if (traced[i].block == NULL)
            continue;
        (void)fprintf(stderr, "leak: %zu bytes, allocation %lld\n", traced[i].n, (long long)traced[i].number);
        backtrace_symbols_fd(traced[i].frames + SKIP, traced[i].n_frames - SKIP, 2);
    }
}

/* What a program leaves when it ends in order, while it is traced. */
__attribute__((destructor)) static void tell_at_the_end(void)
{
    if (fault_control() != NULL && fault_control()->trace)
        alloc_tell_leaks();
}

VISIBLE void *malloc(size_t n)
{
    return refuse() ? NULL : born(__libc_malloc(n));
}

VISIBLE void *calloc(size_t count, size_t n)
{
    return refuse() ? NULL : born(__libc_calloc(count, n));
}

VISIBLE void *realloc(void *old, size_t n)
{
    if (old == NULL)
        return malloc(n);
    if (refuse())
        return NULL;
    dies(old);
    void *block = __libc_realloc(old, n);
    if (block == NULL)
        return n > 0 ? born(old) : NULL;
    return born(block);
}

VISIBLE void free(void *block)
{
    dies(block);
    __libc_free(block);
}

VISIBLE void *memalign(size_t alignment, size_t n)
{
    return refuse() ? NULL : born(__libc_memalign(alignment, n));
}

VISIBLE void *aligned_alloc(size_t alignment, size_t n)
{
    return memalign(alignment, n);
}

VISIBLE int posix_memalign(void **out, size_t alignment, size_t n)
{
    void *block = memalign(alignment, n);

    if (block == NULL)
        return ENOMEM;
    *out = block;
    return 0;
}
