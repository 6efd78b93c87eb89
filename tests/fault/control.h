/* control.h - one page of numbers through which a test tells the fault-injecting build what to break, and when.
 *
 * The page is a file that both sides map (ANNOTMIX_FAULT=FILE in the environment of the program; control.py writes it),
 * so faults are armed and disarmed while the program runs. Without the variable nothing is ever broken. Numbers are
 * read and written whole (aligned 8 bytes). control.py has the same list in the same order.
 */
#ifndef TESTS_FAULT_CONTROL_H
#define TESTS_FAULT_CONTROL_H

#include <stdint.h>

enum fault_kind {
    FAULT_NONE,
    FAULT_READ,
    FAULT_WRITE,
    FAULT_SYNC,
    FAULT_TRUNCATE,
    FAULT_OPEN,
    FAULT_SHM_MAP,
    FAULT_SHORT /* a write that gets half of its bytes down */
};

enum fault_mutant {
    MUTANT_NONE,
    MUTANT_NO_SYNC,     /* PRAGMA synchronous = OFF */
    MUTANT_EARLY_ANSWER, /* the answer goes out before COMMIT */
    MUTANT_FREED_REQUEST /* the answer "out of memory" frees its request, which is still used */
};

struct fault_control {
    /* Disk errors: calls of this kind, counted from arming; the first-th fails, and `times` in all (0: until disarmed). */
    int64_t kind, code /* errno */, first, times, calls, fired;
    /* Power cut: at this number of writes, syncs, truncations and deletions since the start. 0: never. */
    int64_t cut_at, cut_seed, ops;
    int64_t track; /* set before the start when there may be a cut */
    int64_t mutant;
    /* Memory: allocations counted from arming; 0: never fails. */
    int64_t alloc_first, alloc_times, allocs, alloc_fired;
    int64_t live_blocks, live_bytes; /* of everything, now */
    int64_t trace;                   /* remember who allocates from now on; see alloc.c */
    int64_t wall_shift_ms;           /* added to CLOCK_REALTIME, whole seconds */
    /* So that rare calls are made at every turn: the WAL looks too long after each group and is emptied; whoever reads
     * gets a connection of his own. Set before the start. */
    int64_t eager_checkpoints, fresh_readers;
    /* Calls of the system that are not SQLite's (calls.c), counted as allocations are; call_code is the errno. */
    int64_t call_first, call_times, calls_made, call_fired, call_code;
};

/* alloc.c: tells on standard error who allocated what is still there of what was traced. */
void alloc_tell_leaks(void);
/* NULL when nothing is to be broken. */
struct fault_control *fault_control(void);
/* Instead of the environment's page; for programs that break themselves. */
void fault_control_use(struct fault_control *page);
/* True when this call of this kind must fail. */
int fault_hits(enum fault_kind kind);
/* The default VFS from here on is the one that breaks; called before main. */
void shim_vfs_install(void);

#endif
