#include "writer_bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "store/meta.h"
#include "store/projects.h"
#include "test.h"
#include "util/error.h"

struct slice bench_text(const char *s)
{
    return (struct slice){s, strlen(s)};
}

static void remove_files(const struct bench *b)
{
    static const char *const ends[] = {"", "-wal", "-shm", ".lock"};
    char path[128];

    for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
        (void)snprintf(path, sizeof(path), "%s%s", b->path, ends[i]);
        (void)unlink(path); /* may not be there */
    }
    (void)rmdir(b->folder);
}

void bench_open(struct bench *b, size_t queue_limit)
{
    struct slice classes[2] = {bench_text("a"), bench_text("b")};
    struct project_new project = {.name = bench_text("p"), .classes = classes, .n_classes = 2, .now_ms = 1};

    memset(b, 0, sizeof(*b));
    (void)snprintf(b->folder, sizeof(b->folder), "/dev/shm/annotmix-writer-XXXXXX");
    if (mkdtemp(b->folder) == NULL) {
        (void)snprintf(b->folder, sizeof(b->folder), "/tmp/annotmix-writer-XXXXXX");
        if (mkdtemp(b->folder) == NULL)
            exit(2);
    }
    (void)snprintf(b->path, sizeof(b->path), "%s/x.db", b->folder);
    if (store_open(b->path, NULL, &b->store, &b->err) != AMX_OK ||
        projects_insert(store_writer(b->store), &project, &b->project, &b->err) != AMX_OK ||
        writer_start(store_writer(b->store), queue_limit, &b->writer, &b->err) != AMX_OK) {
        fprintf(stderr, "test_writer: %s\n", b->err.text);
        exit(2);
    }
}

void bench_close(struct bench *b)
{
    writer_halt(b->writer);
    writer_free(b->writer);
    store_close(b->store);
    remove_files(b);
}

enum amx_status bench_write_row(struct db *db, struct write_job *job)
{
    struct counted *c = (struct counted *)job;
    enum amx_status status = meta_set(db, c->key, bench_text("1"), &job->error);

    if (status == AMX_OK && c->fails != AMX_OK)
        return error_set(&job->error, c->fails, "asked to fail");
    return status;
}

void bench_is_done(struct write_job *job)
{
    struct counted *c = (struct counted *)job;

    c->order = c->at != NULL ? ++*c->at : 0;
    ++*c->done;
}

static enum amx_status gate_wait(struct db *db, struct write_job *job)
{
    struct gate *gate = (struct gate *)job;

    (void)pthread_mutex_lock(&gate->mu);
    gate->entered = true;
    (void)pthread_cond_broadcast(&gate->moved);
    while (!gate->open)
        (void)pthread_cond_wait(&gate->moved, &gate->mu);
    (void)pthread_mutex_unlock(&gate->mu);
    return gate->then != NULL ? gate->then(db, job) : AMX_OK;
}

static void ignore(struct write_job *job)
{
    (void)job;
}

void gate_init(struct gate *gate)
{
    memset(gate, 0, sizeof(*gate));
    (void)pthread_mutex_init(&gate->mu, NULL);
    (void)pthread_cond_init(&gate->moved, NULL);
    gate->job.apply = gate_wait;
    gate->job.done = ignore;
}

void gate_await(struct gate *gate)
{
    (void)pthread_mutex_lock(&gate->mu);
    while (!gate->entered)
        (void)pthread_cond_wait(&gate->moved, &gate->mu);
    (void)pthread_mutex_unlock(&gate->mu);
}

void gate_close(struct gate *gate, struct writer *writer)
{
    gate_init(gate);
    CHECK_INT(writer_submit(writer, &gate->job), AMX_OK);
    gate_await(gate);
}

void gate_open(struct gate *gate)
{
    (void)pthread_mutex_lock(&gate->mu);
    gate->open = true;
    (void)pthread_cond_broadcast(&gate->moved);
    (void)pthread_mutex_unlock(&gate->mu);
}

void bench_settle(struct bench *b, atomic_int *done, int n)
{
    struct counted last = {.job = {.apply = bench_write_row}, .key = "settle"};

    while (*done < n) {
        enum amx_status status = writer_run(b->writer, &last.job);
        CHECK(status == AMX_OK || status == AMX_FULL || status == AMX_IO || status == AMX_CORRUPT ||
              status == AMX_BUSY);
    }
}

bool bench_has_row(struct bench *b, const char *key)
{
    struct db *db = NULL;
    struct buf value = BUF_INIT(100);
    enum amx_status status = store_reader_get(b->store, &db, &b->err);

    CHECK_INT(status, AMX_OK);
    status = meta_get(db, key, &value, &b->err);
    buf_done(&value);
    store_reader_put(b->store, db);
    return status == AMX_OK;
}
