/* progress_bar.c - "\r[########........]  52 %  epoch 26/50 ..." with one write(2) per drawing. */
#include "progress_bar.h"

#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "util/clock.h"

enum {
    CELLS = 28,
    LINE = 240,
    REDRAW_MS = 100
};

static void put(const struct progress_bar *bar, const char *text, size_t n)
{
    ssize_t ignored = write(bar->fd, text, n); /* a terminal that is gone needs no bar */

    (void)ignored;
}

void progress_bar_init(struct progress_bar *bar, int fd)
{
    bar->fd = fd;
    bar->visible = isatty(fd) == 1;
    bar->drawn_ms = 0;
}

void progress_bar_draw(struct progress_bar *bar, double fraction, const char *text)
{
    char line[LINE], cells[CELLS + 1];
    int64_t now = clock_monotonic_ms();
    struct winsize size;
    int full = (int)(fraction * CELLS + 0.5), n;
    size_t width = 79;

    if (!bar->visible || (fraction < 1 && bar->drawn_ms != 0 && now - bar->drawn_ms < REDRAW_MS))
        return;
    bar->drawn_ms = now;
    if (ioctl(bar->fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 20)
        width = (size_t)size.ws_col - 1;
    for (int i = 0; i < CELLS; i++)
        cells[i] = i < full ? '#' : '.';
    cells[CELLS] = '\0';
    n = snprintf(line, sizeof line, "\r[%s] %3.0f %%  %s", cells, fraction * 100, text);
    if (n < 0)
        return;
    if ((size_t)n >= sizeof line)
        n = sizeof line - 1;
    /* Longer than the terminal is wide would scroll; the rest of an older, longer line is cleared. */
    put(bar, line, (size_t)n > width + 1 ? width + 1 : (size_t)n);
    put(bar, "\x1b[K", 3);
}

void progress_bar_end(struct progress_bar *bar)
{
    if (bar->visible && bar->drawn_ms != 0)
        put(bar, "\r\x1b[K", 4);
    bar->drawn_ms = 0;
}
