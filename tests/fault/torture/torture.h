/* torture.h - a scenario: something that must survive the failure of any of its allocations. */
#ifndef TESTS_FAULT_TORTURE_TORTURE_H
#define TESTS_FAULT_TORTURE_TORTURE_H

#include <stddef.h>

#include "annotmix.h"

struct scenario {
    const char *name;
    enum amx_status (*call)(const char *argument);
    int (*command)(const char *argument); /* instead of call: the words of a command line */
    const char *argument;
};

const struct scenario *scenarios(size_t *n);
/* Makes what the scenario needs and does not make itself; in a process of its own, which may start threads. */
void scenario_prepare(const struct scenario *s);
void scenarios_end(void); /* removes the files */
/* Told, when a command has ended, where its OUT was, before that is removed. */
extern void (*scenario_written)(const char *out);

#endif
