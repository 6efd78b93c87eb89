/* metrics.h - counters of the service and their Prometheus text. Counting: any thread, one short lock. No ids, no
 * project names, ever: label values come from closed lists (route templates, methods, problem slugs, states). */
#ifndef WORK_METRICS_H
#define WORK_METRICS_H

#include <stddef.h>
#include <stdint.h>

#include "annotmix.h"
#include "util/buf.h"

struct metrics;
struct service;

struct metrics *metrics_new(void); /* NULL when memory is out */
void metrics_free(struct metrics *metrics);

/* route: template, static string; "" when none matched. metrics may be NULL in all of these. */
void metrics_request(struct metrics *metrics, const char *route, const char *method, int status, double seconds);
void metrics_labels_accepted(struct metrics *metrics, uint64_t n);
/* problem: slug, static string ("unknown-class"). */
void metrics_labels_rejected(struct metrics *metrics, const char *problem, uint64_t n);
/* A 503 and why: "queue-full", "out-of-memory", "stopping", ... static string. */
void metrics_unavailable(struct metrics *metrics, const char *cause);
/* state: "succeeded", "failed", "cancelled". seconds: of the run. */
void metrics_run_ended(struct metrics *metrics, const char *state, double seconds, uint64_t labels);

/* Appends the whole text: counters, and what is measured now (queue, WAL, free disk, runs by state, models). Reads the
 * database with a read connection. */
AMX_CHECK enum amx_status metrics_write(struct metrics *metrics, struct service *service, struct buf *out);

#endif
