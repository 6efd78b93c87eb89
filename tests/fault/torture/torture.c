/* torture.c - runs one scenario again and again, each time with another allocation failing.
 *
 *     torture --list
 *     torture NAME [--sample N] [--seed S] [--what calls]       all k without --sample
 *
 * Two kinds of scenario. A call of a room runs in a child that goes through all its k: the call must succeed or say
 * AMX_NO_MEMORY, leave nothing allocated, and succeed at once without the failure. A command runs in a child of its own
 * for every k and must end with an exit status of its own, never by a signal. Each k is tried twice: only that allocation
 * fails, and every one from it on. Prints one JSON object; a failure can be repeated by its k.
 *
 * --what calls: not allocations fail but calls of the system (calls.c), with EIO, and from it on with ENOSPC. A call of a
 * room may then say AMX_IO or AMX_FULL too. A command that says it is done must have written what it writes without a
 * failure, byte for byte.
 */
#include "torture.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../control.h"
#include "util/digest.h"

enum {
    WARM_UP = 3,
    CHILD_SECONDS = 60,
    MANY = 2000,   /* allocations: more than these, and only every so many-th failure is followed by a call without */
    NEXT_CALL = 16
};

struct shared {
    struct fault_control control;
    int64_t k, from_on, tried, total;
    uint8_t written[DIGEST_BYTES], right[DIGEST_BYTES]; /* by a command, now and without failures */
    bool left_over;
    char wrong[200];
};

static struct shared *shared;
static bool by_calls;

static void arm(int64_t k, bool from_on)
{
    struct fault_control *c = &shared->control;

    shared->k = k;
    shared->from_on = from_on;
    c->allocs = c->calls_made = 0;
    c->alloc_fired = c->call_fired = 0;
    c->alloc_times = c->call_times = from_on ? 0 : 1;
    c->call_code = from_on ? ENOSPC : EIO;
    if (by_calls)
        c->call_first = k;
    else
        c->alloc_first = k;
}

static int64_t disarm(void)
{
    shared->control.alloc_first = shared->control.call_first = 0;
    return by_calls ? shared->control.call_fired : shared->control.alloc_fired;
}

static int64_t counted(void)
{
    return by_calls ? shared->control.calls_made : shared->control.allocs;
}

static bool may_say(enum amx_status status)
{
    return status == AMX_OK || status == AMX_NO_MEMORY || (by_calls && (status == AMX_IO || status == AMX_FULL));
}

static void quiet(void)
{
    int null = open("/dev/null", O_RDWR);

    if (null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 || (getenv("TORTURE_LOUD") == NULL && dup2(null, 2) < 0))
        _exit(97);
}

/* ---- which k ---- */

static uint64_t random_state;

static int64_t pick(int64_t n)
{
    random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return 1 + (int64_t)((random_state >> 33) % (uint64_t)n);
}

/* The i-th k to try, or 0 when that was all. */
static int64_t k_of(int64_t i, int64_t n, int64_t sample)
{
    if (sample > 0 && sample < n)
        return i < sample ? pick(n) : 0;
    return i < n ? i + 1 : 0;
}

/* ---- a call ---- */

static bool once(const struct scenario *s, int64_t k, bool from_on, int64_t alive)
{
    arm(k, from_on);
    enum amx_status status = s->call(s->argument);
    int64_t fired = disarm();

    shared->tried++;
    if (!may_say(status)) {
        (void)snprintf(shared->wrong, sizeof shared->wrong, "k=%" PRId64 "%s: status %s", k, from_on ? "+" : "",
                       amx_status_text(status));
        return false;
    }
    if (status != AMX_OK && fired == 0)
        (void)snprintf(shared->wrong, sizeof shared->wrong, "k=%" PRId64 ": failed without a failure", k);
    if (shared->control.live_blocks != alive) {
        int64_t left = shared->control.live_blocks - alive;
        (void)snprintf(shared->wrong, sizeof shared->wrong, "k=%" PRId64 "%s: %" PRId64 " blocks left", k,
                       from_on ? "+" : "", left);
        if (getenv("TORTURE_LOUD") != NULL)
            alloc_tell_leaks();
        return false;
    }
    if (shared->total > MANY && k % NEXT_CALL != 0)
        return shared->wrong[0] == '\0';
    status = s->call(s->argument);
    if (status != AMX_OK || shared->control.live_blocks != alive)
        (void)snprintf(shared->wrong, sizeof shared->wrong, "k=%" PRId64 "%s: the next call: %s, %" PRId64 " blocks", k,
                       from_on ? "+" : "", amx_status_text(status), shared->control.live_blocks - alive);
    return shared->wrong[0] == '\0';
}

static int child_of_call(const struct scenario *s, int64_t sample)
{
    quiet();
    shared->control.trace = 1; /* backtrace() keeps something at its first use */
    free(malloc(1));
    shared->control.trace = 0;
    for (int i = 0; i < WARM_UP; i++) { /* what is kept for good is made now */
        if (s->call(s->argument) != AMX_OK) {
            (void)snprintf(shared->wrong, sizeof shared->wrong, "does not work at all");
            return 1;
        }
    }
    int64_t alive = shared->control.live_blocks, k;
    shared->control.trace = getenv("TORTURE_LOUD") != NULL;
    arm(INT64_MAX, false);
    if (s->call(s->argument) != AMX_OK || shared->control.live_blocks != alive)
        (void)snprintf(shared->wrong, sizeof shared->wrong, "%" PRId64 " blocks left without any failure",
                       shared->control.live_blocks - alive);
    shared->total = counted();
    (void)disarm();
    for (int64_t i = 0; shared->wrong[0] == '\0' && (k = k_of(i, shared->total, sample)) != 0; i++) {
        if (once(s, k, false, alive))
            (void)once(s, k, true, alive);
    }
    return shared->wrong[0] != '\0';
}

/* ---- a command ---- */

static int wait_for(pid_t child)
{
    int status = -1;

    while (waitpid(child, &status, 0) < 0) {
    }
    if (WIFSIGNALED(status))
        (void)snprintf(shared->wrong, sizeof shared->wrong, "k=%" PRId64 "%s: signal %d", shared->k,
                       shared->from_on ? "+" : "", WTERMSIG(status));
    return status;
}

static void digest_file(struct digest *d, const char *path)
{
    unsigned char piece[4096];
    size_t n;
    FILE *f = fopen(path, "rb");

    while (f != NULL && (n = fread(piece, 1, sizeof piece, f)) > 0)
        digest_add(d, piece, n);
    if (f != NULL)
        (void)fclose(f);
}

/* What the command wrote: a file, or the files of a folder in the order of their names. */
static void look_at(const char *out)
{
    struct digest d;
    struct dirent **entries = NULL;
    char name[512];

    (void)disarm(); /* what runs from here on is not tortured */
    digest_init(&d);
    int n = scandir(out, &entries, NULL, alphasort);
    for (int i = 0; i < n; i++) {
        (void)snprintf(name, sizeof name, "%s/%s", out, entries[i]->d_name);
        digest_add_sized(&d, entries[i]->d_name, strlen(entries[i]->d_name));
        digest_file(&d, name);
        free(entries[i]);
    }
    free(entries);
    if (n < 0)
        digest_file(&d, out);
    digest_finish(&d, shared->written);
    (void)snprintf(name, sizeof name, "%s.tmp", out);
    shared->left_over = access(name, F_OK) == 0;
}

static void run_command(const struct scenario *s, int64_t k, bool from_on)
{
    arm(INT64_MAX, false);
    pid_t child = fork();

    if (child == 0) {
        (void)alarm(CHILD_SECONDS);
        quiet();
        arm(k, from_on);
        int status = s->command(s->argument);
        (void)disarm(); /* what runs at the end is not tortured */
        _exit(status);
    }
    int status = child > 0 ? wait_for(child) : -1;
    shared->tried++;
    if (!WIFEXITED(status))
        return;
    int code = WEXITSTATUS(status);
    bool fired = disarm() > 0;
    if (shared->total == 0) /* the first time nothing fails */
        memcpy(shared->right, shared->written, sizeof shared->right);
    else if (code == 0 && !digest_same(shared->written, shared->right))
        (void)snprintf(shared->wrong, sizeof shared->wrong, "k=%" PRId64 "%s: says done, but wrote something else", k,
                       from_on ? "+" : "");
    if (shared->left_over)
        (void)snprintf(shared->wrong, sizeof shared->wrong, "k=%" PRId64 "%s: a temporary file stays", k, from_on ? "+" : "");
    if (code != 0 && (!fired || (code > 2 && code != 75)))
        (void)snprintf(shared->wrong, sizeof shared->wrong, "k=%" PRId64 "%s: exit status %d", k, from_on ? "+" : "", code);
}

static void torture_command(const struct scenario *s, int64_t sample)
{
    int64_t k;

    run_command(s, INT64_MAX, false);
    shared->total = counted();
    for (int64_t i = 0; shared->wrong[0] == '\0' && (k = k_of(i, shared->total, sample)) != 0; i++) {
        run_command(s, k, false);
        if (shared->wrong[0] == '\0')
            run_command(s, k, true);
    }
}

/* ---- all ---- */

static int torture(const struct scenario *s, int64_t sample)
{
    pid_t maker = fork();

    if (maker == 0) {
        quiet();
        scenario_prepare(s);
        _exit(0);
    }
    if (maker > 0)
        (void)wait_for(maker);
    if (s->command != NULL) {
        torture_command(s, sample);
    } else {
        pid_t child = fork();
        if (child == 0)
            _exit(child_of_call(s, sample));
        if (child > 0)
            (void)wait_for(child);
    }
    (void)printf("{\"scenario\": \"%s\", \"allocations\": %" PRId64 ", \"tried\": %" PRId64 ", \"wrong\": \"%s\"}\n",
                 s->name, shared->total, shared->tried, shared->wrong);
    return shared->wrong[0] != '\0';
}

int main(int argc, char **argv)
{
    int64_t sample = 0;
    size_t n;
    const struct scenario *all = scenarios(&n);

    for (int i = 2; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--sample") == 0)
            sample = strtoll(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--seed") == 0)
            random_state = strtoull(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--what") == 0)
            by_calls = strcmp(argv[i + 1], "calls") == 0;
    }
    void *page = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (argc < 2 || page == MAP_FAILED)
        return 2;
    shared = page;
    (void)pick(1);
    for (size_t i = 0; i < n; i++) {
        if (strcmp(argv[1], "--list") == 0) {
            (void)printf("%s\n", all[i].name);
        } else if (strcmp(argv[1], all[i].name) == 0) {
            fault_control_use(&shared->control);
            scenario_written = look_at;
            int status = torture(&all[i], sample);
            scenarios_end();
            return status;
        }
    }
    scenarios_end();
    return strcmp(argv[1], "--list") == 0 ? 0 : 2;
}
