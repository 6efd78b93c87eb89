/* targets.c - the table of fuzz targets. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"

const struct fuzz_target fuzz_targets[] = {
    {"json_rows", fuzz_json_rows},       /* one row of labels, instances or gold labels, against Jansson */
    {"json_bodies", fuzz_json_bodies},   /* predict, project, training run, face-off */
    {"ndjson", fuzz_ndjson},             /* lines in pieces */
    {"csv_in", fuzz_csv_in},             /* rows in pieces */
    {"csv_out", fuzz_csv_out},           /* what is written is read back */
    {"npy", fuzz_npy},                   /* matrices in pieces */
    {"gzip", fuzz_gzip},                 /* request bodies, packed or broken */
    {"route", fuzz_route},               /* raw target, query */
    {"headers", fuzz_headers},           /* the vetting */
    {"cursor_token", fuzz_cursor_token}, /* page cursors, Authorization, Host */
    {"model", fuzz_model},               /* the model file's loader */
    {"data_dir", fuzz_data_dir},         /* folders of data sets */
    {NULL, NULL},
};

const struct fuzz_target *fuzz_target_of(const char *name)
{
    for (const struct fuzz_target *t = fuzz_targets; t->name != NULL; t++) {
        if (strcmp(t->name, name) == 0)
            return t;
    }
    return NULL;
}

void fuzz_fail(const char *file, int line, const char *what)
{
    (void)fprintf(stderr, "%s:%d: ERROR: expected %s\n", file, line, what);
    abort();
}

uint8_t fuzz_byte(const uint8_t **data, size_t *n)
{
    if (*n == 0)
        return 0;
    --*n;
    return *(*data)++;
}
