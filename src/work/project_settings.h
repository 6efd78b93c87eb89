/* project_settings.h - the `settings` object of a project: which fields it may have and what they mean.
 *
 *     {"overlap": 3, "resolve_threshold": 0.95, "auto_train": {"every_labels": 500}, "training": {...a run...}}
 *
 * Checked when a project is created or changed, read by the catalog. Stored as the client sent it. */
#ifndef WORK_PROJECT_SETTINGS_H
#define WORK_PROJECT_SETTINGS_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "annotmix.h"

struct project_settings {
    int64_t overlap;           /* labels an instance needs before labels alone resolve it; 1..1000, default 3 */
    double resolve_threshold;  /* (0, 1], default 0.95 */
    int64_t auto_train_labels; /* a run every so many new labels; 0 = off */
    const json_t *training;    /* defaults of the project's runs, or NULL; borrowed from the object parsed */
};

/* settings: an object, or NULL for none. prefix: JSON pointer of the object for errors ("/settings"). AMX_INVALID names
 * the field. `training` is checked as a training run for this project would be. */
AMX_CHECK enum amx_status project_settings_parse(const json_t *settings, const char *prefix, size_t n_features,
                                                 size_t n_classes, struct project_settings *out, struct amx_error *err);

#endif
