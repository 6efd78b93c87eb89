/* run_request_int.h - what the files of run_request share: which method reads which setting, and one object of
 * settings over another. */
#ifndef WORK_RUNS_RUN_REQUEST_INT_H
#define WORK_RUNS_RUN_REQUEST_INT_H

#include "work/runs/run_request.h"

/* ---- run_request_methods.c ---- */
/* The static name of a method that a project with so many features can train; AMX_INVALID with pointer and what would
 * be right. *label_only: it is one of labels alone. */
AMX_CHECK enum amx_status run_method_find(const char *name, size_t n_features, const char *prefix, const char **out,
                                          bool *label_only, struct amx_error *err);
/* Whether a run of the method takes the setting: amx_setting_applies, and everything for auto. */
bool run_method_reads(const char *method, const char *setting);

/* ---- run_request_settings.c ---- */
/* Merges an object of settings over request->settings. drop_foreign: what the method does not read is left out instead
 * of refused. */
AMX_CHECK enum amx_status run_settings_merge(const json_t *object, const char *prefix, bool drop_foreign,
                                             struct run_request *request, struct amx_error *err);

/* ---- run_request.c ---- */
/* One value of a setting as JSON (run_request_json.c has it). */
json_t *run_setting_json(const struct amx_setting_field *field, const struct amx_settings *settings);
json_t *run_auto_json(const struct run_auto *automatic);

#endif
