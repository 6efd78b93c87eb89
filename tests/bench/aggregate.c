/* aggregate.c - time and memory of the label-only methods and of crowdlab on simulated labels.
 *
 *     aggregate METHOD LABELS INSTANCES CLASSES ANNOTATORS [SEED]
 *
 * METHOD is one of the table or `crowdlab`. Annotators are right with probability 0.4 to 0.95, else give any other
 * class. Prints one line of JSON: seconds of CPU and of the clock for the method alone, rounds, accuracy, and the
 * greatest resident memory of the process, labels and results included. tests/bench/aggregate.py builds and runs it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "crowd/aggregate/aggregate.h"
#include "crowd/crowdlab.h"
#include "learn/rng.h"

struct simulated {
    struct crowd_labels labels;
    uint32_t *instance, *annotator, *class_, *truth;
    float *p_class; /* [N][C], for crowdlab */
};

static double seconds(clockid_t clock)
{
    struct timespec t;

    (void)clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static uint32_t other_than(struct rng *rng, uint32_t k, uint32_t n)
{
    uint32_t z = rng_below(rng, n - 1);

    return z + (z >= k);
}

static bool simulate(struct simulated *s, bool with_model, uint64_t seed)
{
    struct crowd_labels *l = &s->labels;
    const uint32_t N = (uint32_t)l->n_instances, A = (uint32_t)l->n_annotators, C = (uint32_t)l->n_classes;
    double *skill = malloc(A * sizeof *skill);
    struct rng rng;
    size_t at = 0;

    s->instance = malloc(l->n_labels * sizeof(uint32_t));
    s->annotator = malloc(l->n_labels * sizeof(uint32_t));
    s->class_ = malloc(l->n_labels * sizeof(uint32_t));
    s->truth = malloc(N * sizeof(uint32_t));
    s->p_class = with_model ? malloc((size_t)N * C * sizeof(float)) : NULL;
    if (skill == NULL || s->instance == NULL || s->annotator == NULL || s->class_ == NULL || s->truth == NULL ||
        (with_model && s->p_class == NULL))
        return false;
    rng_seed(&rng, seed, 0, 0);
    for (uint32_t a = 0; a < A; a++)
        skill[a] = 0.4 + 0.55 * rng_uniform(&rng);
    for (uint32_t i = 0; i < N; i++) {
        const size_t end = l->n_labels * (i + 1) / N;

        s->truth[i] = rng_below(&rng, C);
        for (uint32_t a = rng_below(&rng, A); at < end; at++, a = (a + 1 + rng_below(&rng, A / 64 + 1)) % A) {
            s->instance[at] = i;
            s->annotator[at] = a;
            s->class_[at] = rng_uniform(&rng) < skill[a] ? s->truth[i] : other_than(&rng, s->truth[i], C);
        }
        for (uint32_t k = 0; with_model && k < C; k++)
            s->p_class[(size_t)i * C + k] = k == (rng_uniform(&rng) < 0.1 ? (s->truth[i] + 1) % C : s->truth[i])
                                                ? 0.7F
                                                : 0.3F / (float)(C - 1);
    }
    free(skill);
    l->instance = s->instance;
    l->annotator = s->annotator;
    l->class_ = s->class_;
    return true;
}

static void tell(const char *method, const struct simulated *s, const uint32_t *winner, double cpu, double wall,
                 int rounds)
{
    struct rusage use;
    size_t right = 0;

    for (size_t i = 0; i < s->labels.n_instances; i++)
        right += winner[i] == s->truth[i];
    (void)getrusage(RUSAGE_SELF, &use);
    printf("{\"method\":\"%s\",\"labels\":%zu,\"instances\":%zu,\"classes\":%zu,\"annotators\":%zu,"
           "\"cpu_seconds\":%.3f,\"seconds\":%.3f,\"rounds\":%d,\"accuracy\":%.4f,\"peak_mib\":%.0f}\n",
           method, s->labels.n_labels, s->labels.n_instances, s->labels.n_classes, s->labels.n_annotators, cpu, wall,
           rounds, (double)right / (double)s->labels.n_instances, (double)use.ru_maxrss / 1024);
}

int main(int argc, char **argv)
{
    struct simulated s = {0};
    struct aggregate_report report = {0};
    struct amx_error err = {0};
    double cpu, wall, *posterior = NULL;
    uint32_t *winner;
    enum amx_status status;

    if (argc < 6) {
        (void)fprintf(stderr, "usage: aggregate METHOD LABELS INSTANCES CLASSES ANNOTATORS [SEED]\n");
        return 2;
    }
    s.labels.n_labels = (size_t)strtoull(argv[2], NULL, 10);
    s.labels.n_instances = (size_t)strtoull(argv[3], NULL, 10);
    s.labels.n_classes = (size_t)strtoull(argv[4], NULL, 10);
    s.labels.n_annotators = (size_t)strtoull(argv[5], NULL, 10);
    winner = malloc(s.labels.n_instances * sizeof *winner);
    if (winner == NULL || !simulate(&s, strcmp(argv[1], "crowdlab") == 0, argc > 6 ? strtoull(argv[6], NULL, 10) : 1))
        return 1;
    cpu = seconds(CLOCK_PROCESS_CPUTIME_ID);
    wall = seconds(CLOCK_MONOTONIC);
    if (s.p_class != NULL) {
        const struct crowdlab out = {.consensus = winner};

        status = crowdlab(&s.labels, s.p_class, &out, &err);
    } else {
        posterior = malloc(s.labels.n_instances * s.labels.n_classes * sizeof *posterior);
        if (posterior == NULL)
            return 1;
        status = aggregate(&s.labels, argv[1], NULL, posterior, NULL, &report, &err);
        if (status == AMX_OK)
            aggregate_winners(posterior, s.labels.n_instances, s.labels.n_classes, winner);
    }
    cpu = seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    wall = seconds(CLOCK_MONOTONIC) - wall;
    if (status != AMX_OK) {
        (void)fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    tell(argv[1], &s, winner, cpu, wall, report.rounds);
    return 0;
}
