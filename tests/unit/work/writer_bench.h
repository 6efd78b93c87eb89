/* writer_bench.h - a writer on a store in memory, and jobs to give it. */
#ifndef TESTS_UNIT_WORK_WRITER_BENCH_H
#define TESTS_UNIT_WORK_WRITER_BENCH_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "store/store.h"
#include "work/writer.h"

struct bench {
    char folder[64], path[96];
    struct store *store;
    struct writer *writer;
    struct amx_error err;
    int64_t project;
};

struct counted {
    struct write_job job;
    struct bench *bench;
    const char *key;       /* meta row to write */
    enum amx_status fails; /* after writing it */
    atomic_int *done, *at; /* counts the jobs that are over; where this one was in the order */
    int order;
    char annotator[16];
};

/* A job that holds whoever does it until it is let go, so that others queue behind it. */
struct gate {
    struct write_job job;
    enum amx_status (*then)(struct db *db, struct write_job *job); /* NULL = it goes well */
    pthread_mutex_t mu;
    pthread_cond_t moved;
    bool entered, open;
};

struct slice bench_text(const char *s);
void bench_open(struct bench *b, size_t queue_limit);
void bench_close(struct bench *b); /* halts the writer */
bool bench_has_row(struct bench *b, const char *key);
/* Everything queued so far is over when this returns: it goes last in its lane, and a group ends as a whole. */
void bench_settle(struct bench *b, atomic_int *done, int n);

/* apply and done of a struct counted. */
enum amx_status bench_write_row(struct db *db, struct write_job *job);
void bench_is_done(struct write_job *job);

void gate_init(struct gate *gate);
void gate_await(struct gate *gate); /* returns when the job has begun */
void gate_open(struct gate *gate);
void gate_close(struct gate *gate, struct writer *writer); /* gate_init, submits it, gate_await */

#endif
