/* model_file_head.h - JSON of a model file's head. */
#ifndef LEARN_MODEL_FILE_HEAD_H
#define LEARN_MODEL_FILE_HEAD_H

#include <jansson.h>
#include <stddef.h>

/* NULL when the n bytes are no JSON, or with errno ENOMEM when memory ran out. They hold no 0 byte. */
json_t *model_file_head_load(const char *head, size_t n);

#endif
