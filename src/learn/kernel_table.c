/* kernel_table.c - which compiled copy of kernels.c this process uses.
 *
 * The Makefile compiles kernels.c once per level. The table is chosen once, at the first call into the library, by
 * asking the CPU; ANNOTMIX_KERNEL in the environment forces a level that this CPU can run (others are ignored).
 * The choice is written once under pthread_once and only read afterwards. target_clones would do the same with less
 * text, but its resolver runs before sanitizers are set up and crashes. */
#include "kernels.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "annotmix.h"

extern const struct amx_kernels amx_kernels_plain;
#if defined(__x86_64__)
extern const struct amx_kernels amx_kernels_sse2, amx_kernels_avx2, amx_kernels_avx512;
#endif

static pthread_once_t once = PTHREAD_ONCE_INIT;
static const struct amx_kernels *chosen; /* written once */

const struct amx_kernels *kernels_named(const char *name)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (strcmp(name, "avx512") == 0 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        return &amx_kernels_avx512;
    if (strcmp(name, "avx2") == 0 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
        __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2"))
        return &amx_kernels_avx2;
    if (strcmp(name, "sse2") == 0)
        return &amx_kernels_sse2;
#endif
    return strcmp(name, "plain") == 0 ? &amx_kernels_plain : NULL;
}

static void choose(void)
{
    static const char *const levels[] = {"avx512", "avx2", "sse2", "plain"};
    const char *forced = getenv("ANNOTMIX_KERNEL");

    if (forced != NULL)
        chosen = kernels_named(forced);
    for (size_t i = 0; chosen == NULL; i++)
        chosen = kernels_named(levels[i]);
}

const struct amx_kernels *kernels_get(void)
{
    (void)pthread_once(&once, choose); /* cannot fail with a static control */
    return chosen;
}

const char *amx_kernel_name(void)
{
    return kernels_get()->name;
}
