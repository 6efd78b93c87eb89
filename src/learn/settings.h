/* settings.h - what the learner itself needs of its settings, beside include/annotmix.h. */
#ifndef LEARN_SETTINGS_H
#define LEARN_SETTINGS_H

#include "annotmix.h"

/* Checked settings as a model keeps them: those the method does not read at their defaults, unused widths 0. */
void settings_normalise(struct amx_settings *settings, const char *method, size_t n_features);
/* annotator_learning_rate, or learning_rate when it is null. */
double settings_annotator_rate(const struct amx_settings *settings);

#endif
