/* fixture.h - a store in a temporary folder, and the short words the store's tests are written in. */
#ifndef TESTS_UNIT_STORE_FIXTURE_H
#define TESTS_UNIT_STORE_FIXTURE_H

#include <stdint.h>

#include "annotmix.h"
#include "store/changes.h"
#include "store/instances.h"
#include "store/labels.h"
#include "store/projects.h"
#include "store/store.h"

enum {
    FIXTURE_CLASSES = 4
};

struct fixture {
    char folder[64];
    char path[96]; /* of the database */
    struct store *store;
    struct db *db;   /* its writer */
    int64_t project; /* "music", classes a b c d */
    size_t dim;
    int64_t now; /* time of the next job; each takes a second */
    struct amx_error err;
};

/* Exits the program when the store cannot be made: no test could mean anything. */
void fixture_init(struct fixture *f, size_t feature_dim);
void fixture_reopen(struct fixture *f); /* closes and opens the file again */
void fixture_done(struct fixture *f);   /* and deletes the folder */
void folder_make(char folder[64]);
void folder_remove(const char *folder);

struct slice text(const char *s); /* {NULL, 0} for NULL */
bool same(struct slice a, const char *b);
/* One number; -999 when the statement gives none. sql is a literal; ?1 is the project. */
int64_t ask(struct fixture *f, const char *sql);

int64_t add_project(struct fixture *f, const char *name, size_t feature_dim);
/* Each is one committed job; a failure is rolled back and returned. */
enum amx_status put_label(struct fixture *f, const char *instance, const char *annotator, int class_index,
                          int64_t given, const char *ref, struct label_result *out);
enum amx_status put_instance(struct fixture *f, const char *name, const float *features, enum split split, int gold,
                             enum put_outcome *out);
enum amx_status put_gold(struct fixture *f, const char *instance, int class_index); /* -1 deletes */
enum amx_status delete_label(struct fixture *f, const char *instance, const char *annotator, const char *ref);
enum amx_status delete_instance(struct fixture *f, const char *name);
enum amx_status delete_annotator(struct fixture *f, const char *name);
void purge(struct fixture *f); /* until no step has anything to do */

/* Compares every counter of the project and its annotators with what counting finds; tells what differs. */
bool counters_hold(struct fixture *f);

#endif
