/* models.h - what the two files about models share. */
#ifndef ENDPOINTS_TRAINING_MODELS_H
#define ENDPOINTS_TRAINING_MODELS_H

#include <jansson.h>
#include <stddef.h>

#include "http/http.h"
#include "store/models.h"

#define MODEL_MEDIA_TYPE "application/vnd.annotmix.model"

/* The model as clients see it; NULL when memory is out. */
json_t *model_json(const struct model_row *row);

/* POST .../models (model_import.c): the three steps of the route. */
void model_import_start(struct http_request *rq);
void model_import_body(struct http_request *rq, const char *data, size_t n);
void model_import_finish(struct http_request *rq);

#endif
