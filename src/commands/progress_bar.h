/* progress_bar.h - one line on a terminal that fills up; nothing at all when the descriptor is no terminal. */
#ifndef COMMANDS_PROGRESS_BAR_H
#define COMMANDS_PROGRESS_BAR_H

#include <stdbool.h>
#include <stdint.h>

struct progress_bar {
    int fd;
    bool visible;
    int64_t drawn_ms; /* when it was drawn last; monotonic */
};

void progress_bar_init(struct progress_bar *bar, int fd);
/* fraction 0..1; text: what stands behind the bar. Draws at most ten times a second, and always at 1. */
void progress_bar_draw(struct progress_bar *bar, double fraction, const char *text);
/* Takes the line away. Harmless twice. */
void progress_bar_end(struct progress_bar *bar);

#endif
