/* face_off_request.h - what a face-off is asked for: from JSON, and to and from the row of a run.
 *
 * A face-off of the server is a run like any other: same queue, progress, cancel and restart. Its method is "face_off",
 * its settings are {"methods": [...], "repeat": R} with the methods in the order of the learner's table ([] = all of
 * them), so that equal requests coalesce; its metrics are the table. It makes no model and activates nothing. */
#ifndef WORK_FACE_OFF_FACE_OFF_REQUEST_H
#define WORK_FACE_OFF_FACE_OFF_REQUEST_H

#include <jansson.h>
#include <stdbool.h>

#include "annotmix.h"
#include "store/runs.h"
#include "work/face_off/face_off.h"
#include "work/runs/run_request.h"

#define FACE_OFF_METHOD "face_off"

/* All methods, one repeat, seed 1, no folds. */
void face_off_default(struct face_off *out);
/* {"methods": [..], "repeat": R, "seed": S, "folds": K}, each may be left out; object may be NULL. AMX_INVALID with a
 * pointer: unknown field or method, a method twice, out of range. */
AMX_CHECK enum amx_status face_off_parse(const json_t *object, struct face_off *out, struct amx_error *err);

bool face_off_is(const struct run_spec *spec);
/* free() it; NULL when memory is out. */
char *face_off_settings_text(const struct face_off *face_off);
/* Texts are static or borrowed from settings_text. */
void face_off_to_spec(const struct face_off *face_off, const char *settings_text, struct run_spec *out);
/* AMX_CORRUPT when it is none of ours. */
AMX_CHECK enum amx_status face_off_of_spec(const struct run_spec *spec, struct face_off *out, struct amx_error *err);

#endif
