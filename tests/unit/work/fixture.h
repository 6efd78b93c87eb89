/* fixture.h - a real service without network in a temporary folder, and small projects in it. */
#ifndef TESTS_UNIT_WORK_FIXTURE_H
#define TESTS_UNIT_WORK_FIXTURE_H

#include <stdbool.h>

#include "store/changes.h"
#include "store/runs.h"
#include "work/runs/run_request.h"
#include "work/service.h"

struct fixture {
    char folder[64], path[96];
    struct service_config config;
    struct service *service; /* NULL while it is stopped */
};

bool fixture_init(struct fixture *f, unsigned trainers); /* and starts; false: the test has failed already */
bool fixture_start(struct fixture *f);
void fixture_stop(struct fixture *f);
void fixture_done(struct fixture *f); /* stops, removes the folder */

/* Runs `apply` in a write job; the status of the job. */
enum amx_status fixture_write(struct fixture *f,
                              enum amx_status (*apply)(struct db *db, void *context, struct amx_error *err),
                              void *context, struct amx_error *err);

/* Two classes, two features; settings_json may be NULL. 0 on failure. Known to the catalog afterwards. */
int64_t fixture_project(struct fixture *f, const char *name, const char *settings_json);

enum fixture_order {
    FORWARD,
    BACKWARD,
    SHUFFLED
};
struct fixture_data {
    int64_t project_id;
    unsigned n_instances, n_annotators;
    enum fixture_order order; /* of arrival: the content is the same */
    bool flip_gold;           /* gold of train instances says the opposite */
};
/* Two clusters; annotator 0 is always right, the others less and less; gold for train and for some test instances. */
bool fixture_fill(struct fixture *f, const struct fixture_data *data);

/* Quick settings; epochs as given. */
void fixture_request(struct run_request *out, int epochs);
/* Row id of the run queued; 0 on failure. */
int64_t fixture_queue(struct fixture *f, int64_t project_id, const struct run_request *request);
enum run_state fixture_state(struct fixture *f, int64_t run_id);
/* Waits until the run is in this state (or 60 s are over: false). */
bool fixture_wait(struct fixture *f, int64_t run_id, enum run_state state);
/* Waits until the run has told at least one epoch. */
bool fixture_wait_progress(struct fixture *f, int64_t run_id);
/* SHA-256 of the active model's bytes as text; "" without one. */
void fixture_model_hash(struct fixture *f, int64_t project_id, char out[65]);

#endif
