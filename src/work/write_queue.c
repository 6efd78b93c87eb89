/* write_queue.c - a fixed number of lanes, chosen by project, each with a FIFO of single writes and one of batches.
 *
 * A group takes from the lanes in turn, one of each FIFO at a time, so that a project with a million rows waiting delays
 * another's label by one group at most; and batches only up to WRITER_BULK_ROWS rows a group, so that this one group is
 * short. What was taken from one lane stands side by side in the group, so that jobs of one project can be applied
 * together. Nothing is allocated to queue a job.
 */
#include "work/write_queue.h"

static void append(struct write_fifo *fifo, struct write_job *job)
{
    job->next = NULL;
    if (fifo->last != NULL)
        fifo->last->next = job;
    else
        fifo->first = job;
    fifo->last = job;
}

static struct write_job *pop(struct write_fifo *fifo)
{
    struct write_job *job = fifo->first;

    if (job != NULL) {
        fifo->first = job->next;
        if (fifo->first == NULL)
            fifo->last = NULL;
        job->next = NULL;
    }
    return job;
}

static void mark(uint64_t *bits, unsigned lane)
{
    bits[lane / 64] |= UINT64_C(1) << lane % 64;
}

void write_queue_push(struct write_queue *q, struct write_job *job)
{
    unsigned number = (unsigned)((uint64_t)job->project_id % WRITE_LANES);
    struct write_lane *lane = &q->lanes[number];

    append(job->rows > 0 ? &lane->batches : &lane->single, job);
    mark(q->busy, number);
    q->n++;
}

/* From the i-th lane of the turn on, which of them is the first whose bit is set; WRITE_LANES or more: none. */
static unsigned next_marked(const struct write_queue *q, const uint64_t *bits, unsigned i)
{
    while (i < WRITE_LANES) {
        unsigned lane = (q->turn + i) % WRITE_LANES;
        uint64_t rest = bits[lane / 64] >> lane % 64;
        if (rest != 0)
            return i + (unsigned)__builtin_ctzll(rest);
        i += 64 - lane % 64;
    }
    return WRITE_LANES;
}

static void chain(struct write_fifo *group, struct write_fifo *taken)
{
    if (group->last != NULL)
        group->last->next = taken->first;
    else
        group->first = taken->first;
    group->last = taken->last;
    *taken = (struct write_fifo){NULL, NULL};
}

size_t write_queue_take(struct write_queue *q, bool everything, struct write_job **out)
{
    struct write_fifo group = {NULL, NULL};
    uint64_t visited[WRITE_LANES / 64] = {0};
    size_t n = 0, rows = 0;
    bool found = true;

    while (found && (everything || n < WRITER_GROUP_JOBS)) {
        found = false;
        for (unsigned i = 0; (i = next_marked(q, q->busy, i)) < WRITE_LANES && (everything || n < WRITER_GROUP_JOBS);
             i++) {
            unsigned number = (q->turn + i) % WRITE_LANES;
            struct write_lane *lane = &q->lanes[number];
            size_t before = n;
            if (lane->single.first != NULL) {
                append(&lane->taken, pop(&lane->single));
                n++;
            }
            const struct write_job *batch = lane->batches.first;
            if (batch != NULL &&
                (everything || (n < WRITER_GROUP_JOBS && (rows == 0 || rows + batch->rows <= WRITER_BULK_ROWS)))) {
                rows += batch->rows;
                append(&lane->taken, pop(&lane->batches));
                n++;
            }
            if (n > before) {
                mark(visited, number);
                found = true;
            }
            if (lane->single.first == NULL && lane->batches.first == NULL)
                q->busy[number / 64] &= ~(UINT64_C(1) << number % 64);
        }
    }
    for (unsigned i = 0; (i = next_marked(q, visited, i)) < WRITE_LANES; i++)
        chain(&group, &q->lanes[(q->turn + i) % WRITE_LANES].taken);
    q->turn = (q->turn + 1) % WRITE_LANES;
    q->n -= n;
    *out = group.first;
    return n;
}
