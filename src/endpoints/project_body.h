/* project_body.h - the bodies of projects: of POST and PUT, and the merge patch of PATCH. Parsing and checking only. */
#ifndef ENDPOINTS_PROJECT_BODY_H
#define ENDPOINTS_PROJECT_BODY_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "annotmix.h"
#include "store/projects.h"
#include "util/buf.h"

enum {
    PROJECT_NAME_BYTES = 64,
    PROJECT_TITLE_BYTES = 1000
};

/* [A-Za-z0-9][A-Za-z0-9._-]{0,63}; else AMX_INVALID at /name. */
AMX_CHECK enum amx_status project_name_check(const char *name, size_t n, struct amx_error *err);
/* The error is about a setting (its pointer begins with /settings): problem invalid-setting. */
bool project_body_is_setting(const struct amx_error *err);

enum project_body_kind {
    PROJECT_BODY_NEW, /* name is needed */
    PROJECT_BODY_PUT  /* name may be left out */
};

struct project_body {
    const char *name;  /* borrowed from the JSON; NULL = not given */
    const char *title; /* likewise */
    size_t n_title;
    struct slice *classes; /* [n_classes] malloc'd array of borrowed names */
    size_t n_classes;
    size_t feature_dim;
    const json_t *settings;     /* borrowed; NULL = not given */
    struct slice settings_text; /* compact text, malloc'd; bytes NULL = not given */
};
/* project_body_done afterwards, whatever it returns. */
AMX_CHECK enum amx_status project_body_parse(const json_t *body, enum project_body_kind kind, struct project_body *out,
                                             struct amx_error *err);
void project_body_done(struct project_body *body);

/* What a patch changes, worked out against the row as it is. */
struct project_patch {
    struct slice title;        /* bytes NULL = stays; "" = removed */
    struct slice settings;     /* malloc'd text after the merge; bytes NULL = stays */
    struct slice *new_classes; /* [n_new_classes] borrowed names */
    size_t n_new_classes;
    struct slice *listed; /* what holds them; malloc'd */
    bool *retired;        /* [n_retired] per class, old and new; n_retired 0 = stays */
    size_t n_retired;
};
/* What can be said without the row: known fields and their types. */
AMX_CHECK enum amx_status project_patch_check(const json_t *body, struct amx_error *err);
/* project_patch_done afterwards, whatever it returns. */
AMX_CHECK enum amx_status project_patch_make(const json_t *body, const struct project_row *row,
                                             struct project_patch *out, struct amx_error *err);
void project_patch_done(struct project_patch *patch);

#endif
