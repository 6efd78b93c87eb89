/* settings.h - what the learner itself needs of its settings, beside include/annotmix.h. */
#ifndef LEARN_SETTINGS_H
#define LEARN_SETTINGS_H

#include "annotmix.h"

/* Clears padding and unused widths of checked settings. */
void settings_normalise(struct amx_settings *settings);
/* annotator_learning_rate, or learning_rate when it is null. */
double settings_annotator_rate(const struct amx_settings *settings);

#endif
