/* crew.h - two halves of one piece of work, on two threads when there is a helper. */
#ifndef LEARN_CREW_H
#define LEARN_CREW_H

struct crew;

/* Starts the helper, which sleeps between pieces; NULL when there is no memory or no thread for it. */
struct crew *crew_new(void);
/* job(context, 0) on this thread and job(context, 1) on the helper at the same time; returns when both are done.
 * crew NULL: one after the other here. The two must not write to the same memory. */
void crew_run(struct crew *crew, void (*job)(void *context, int part), void *context);
/* NULL is fine. Not while crew_run runs. */
void crew_free(struct crew *crew);

#endif
