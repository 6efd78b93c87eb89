/* crew.h - two halves of one piece of work, on two threads when there is a helper. */
#ifndef LEARN_CREW_H
#define LEARN_CREW_H

#include <stdbool.h>

struct crew;

/* Starts the helper, which sleeps when there is nothing for it; NULL when there is no memory or no thread for it. The
 * crew belongs to the thread that made it: only that thread calls the functions below. */
struct crew *crew_new(void);
/* True when there is a helper and no piece under way: false inside a job. */
bool crew_is_free(const struct crew *crew);
/* job(context, 0) on this thread and job(context, 1) on the helper at the same time, or here when it does not come;
 * returns when both are done. crew NULL: one after the other here. The two must not write to the same memory, and part 0
 * must not use the crew (crew_is_free). */
void crew_run(struct crew *crew, void (*job)(void *context, int part), void *context);
/* NULL is fine. Not while crew_run runs. */
void crew_free(struct crew *crew);

#endif
