/* methods.c - the table of methods. A new one is a file in methods/ and a line in METHODS_OF_TABLE. */
#include <pthread.h>
#include <string.h>

#include "method.h"

/* The default first. */
#define METHODS_OF_TABLE(X)                                                                                            \
    X(method_annot_mix)                                                                                                \
    X(method_annot_mix_prior)                                                                                          \
    X(method_ground_truth)                                                                                             \
    X(method_majority_vote)                                                                                            \
    X(method_majority_vote_mixup)                                                                                      \
    X(method_dawid_skene)                                                                                              \
    X(method_dawid_skene_mixup)                                                                                        \
    X(method_crowd_layer)                                                                                              \
    X(method_trace_reg)                                                                                                \
    X(method_conal)                                                                                                    \
    X(method_union_net)                                                                                                \
    X(method_madl)                                                                                                     \
    X(method_geo_reg_f)                                                                                                \
    X(method_geo_reg_w)                                                                                                \
    X(method_crowd_ar)                                                                                                 \
    X(method_coin_net)

#define DECLARE(name) extern const struct amx_method name;
#define ADDRESS(name) &name,
METHODS_OF_TABLE(DECLARE)
static const struct amx_method *const METHODS[] = {METHODS_OF_TABLE(ADDRESS)};

enum {
    N_METHODS = sizeof METHODS / sizeof METHODS[0]
};

/* The infos side by side, as the public header promises; filled once, then constant. */
static struct amx_method_info infos[N_METHODS];
static pthread_once_t infos_once = PTHREAD_ONCE_INIT;

static void fill_infos(void)
{
    for (size_t i = 0; i < N_METHODS; i++)
        infos[i] = METHODS[i]->info;
}

const struct amx_method_info *amx_methods(size_t *n)
{
    (void)pthread_once(&infos_once, fill_infos); /* fails only on a bad control object */
    *n = N_METHODS;
    return infos;
}

const struct amx_method_info *amx_method_named(const char *name)
{
    const struct amx_method *method = name != NULL ? method_find(name) : NULL;

    return method != NULL ? &method->info : NULL;
}

const struct amx_method *method_find(const char *name)
{
    if (name == NULL)
        return METHODS[0];
    for (size_t i = 0; i < N_METHODS; i++) {
        if (strcmp(METHODS[i]->info.name, name) == 0)
            return METHODS[i];
    }
    return NULL;
}
