/* write_queue.h - jobs that wait for the writer, and which of them make the next group. No lock: the writer's. */
#ifndef WORK_WRITE_QUEUE_H
#define WORK_WRITE_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "work/writer.h"

enum {
    WRITE_LANES = 256 /* projects are numbered one by one, so neighbours never share one */
};

struct write_fifo {
    struct write_job *first, *last;
};
struct write_lane {
    struct write_fifo single, batches;
    struct write_fifo taken; /* of the group that is being made */
};
/* All zero is an empty queue. */
struct write_queue {
    struct write_lane lanes[WRITE_LANES];
    uint64_t busy[WRITE_LANES / 64]; /* a bit for each lane that is not empty */
    unsigned turn;                   /* lane that comes first next time */
    size_t n;
};

void write_queue_push(struct write_queue *q, struct write_job *job);
/* One group, linked by `next`, and how many jobs it has. everything: without limits (to refuse what waits). */
size_t write_queue_take(struct write_queue *q, bool everything, struct write_job **out);

#endif
