#include "crowd_csv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    MAX_ROWS = 40000
};

struct row {
    char cell[3][CSV_NAME];
};

static struct row *read_rows(const char *path, size_t *n)
{
    FILE *file = fopen(path, "r");
    struct row *rows = calloc(MAX_ROWS, sizeof *rows);
    char line[200];

    *n = 0;
    if (file == NULL || rows == NULL || fgets(line, sizeof line, file) == NULL) {
        if (file != NULL)
            (void)fclose(file);
        free(rows);
        return NULL;
    }
    while (*n < MAX_ROWS && fgets(line, sizeof line, file) != NULL) {
        const char *at = line;

        for (int c = 0; c < 3; c++) {
            size_t length = strcspn(at, ",\r\n");

            (void)snprintf(rows[*n].cell[c], CSV_NAME, "%.*s", (int)length, at);
            at += length + (at[length] == ',');
        }
        ++*n;
    }
    (void)fclose(file);
    return rows;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(a, b);
}

static int by_row(const void *a, const void *b)
{
    const struct row *x = a, *y = b;
    int order = strcmp(x->cell[0], y->cell[0]);

    return order != 0 ? order : strcmp(x->cell[1], y->cell[1]);
}

static void distinct(const struct row *rows, size_t n, int c, struct csv_names *out)
{
    out->name = calloc(n + 1, CSV_NAME);
    out->n = 0;
    for (size_t i = 0; i < n; i++)
        (void)snprintf(out->name[i], CSV_NAME, "%s", rows[i].cell[c]);
    qsort(out->name, n, CSV_NAME, by_text);
    for (size_t i = 0; i < n; i++) {
        if (out->n == 0 || strcmp(out->name[out->n - 1], out->name[i]) != 0)
            memmove(out->name[out->n++], out->name[i], CSV_NAME);
    }
}

uint32_t csv_find(const struct csv_names *names, const char *name)
{
    char(*found)[CSV_NAME] = bsearch(name, names->name, names->n, CSV_NAME, by_text);

    return found == NULL ? UINT32_MAX : (uint32_t)(found - names->name);
}

bool csv_labels_read(const char *path, struct csv_labels *out)
{
    size_t n;
    struct row *rows = read_rows(path, &n);

    memset(out, 0, sizeof *out);
    if (rows == NULL)
        return false;
    qsort(rows, n, sizeof *rows, by_row);
    distinct(rows, n, 0, &out->instances);
    distinct(rows, n, 1, &out->annotators);
    distinct(rows, n, 2, &out->classes);
    out->instance = calloc(n, sizeof(uint32_t));
    out->annotator = calloc(n, sizeof(uint32_t));
    out->class_ = calloc(n, sizeof(uint32_t));
    for (size_t i = 0; i < n; i++) {
        out->instance[i] = csv_find(&out->instances, rows[i].cell[0]);
        out->annotator[i] = csv_find(&out->annotators, rows[i].cell[1]);
        out->class_[i] = csv_find(&out->classes, rows[i].cell[2]);
    }
    out->labels = (struct crowd_labels){out->instances.n, out->annotators.n, out->classes.n, n,
                                        out->instance,    out->annotator,    out->class_};
    free(rows);
    return true;
}

void csv_labels_done(struct csv_labels *labels)
{
    free(labels->class_);
    free(labels->annotator);
    free(labels->instance);
    free(labels->classes.name);
    free(labels->annotators.name);
    free(labels->instances.name);
}

bool csv_classes_read(const char *path, struct csv_classes *out)
{
    struct row *rows = read_rows(path, &out->n);

    if (rows == NULL)
        return false;
    out->instance = calloc(out->n + 1, CSV_NAME);
    out->class_ = calloc(out->n + 1, CSV_NAME);
    for (size_t i = 0; i < out->n; i++) {
        memcpy(out->instance[i], rows[i].cell[0], CSV_NAME);
        memcpy(out->class_[i], rows[i].cell[1], CSV_NAME);
    }
    free(rows);
    return true;
}

void csv_classes_done(struct csv_classes *classes)
{
    free(classes->class_);
    free(classes->instance);
}

double *csv_numbers(const char *path, size_t n_rows, size_t n_columns)
{
    FILE *file = fopen(path, "r");
    double *numbers = calloc(n_rows * n_columns + 1, sizeof *numbers);
    char line[4096];
    bool fits = file != NULL && numbers != NULL && fgets(line, sizeof line, file) != NULL;

    for (size_t i = 0; i < n_rows && fits; i++) {
        char *at = line;

        fits = fgets(line, sizeof line, file) != NULL;
        for (size_t c = 0; c < n_columns && fits; c++) {
            char *end;

            numbers[i * n_columns + c] = strtod(at, &end);
            fits = end != at;
            at = end + (*end == ',');
        }
    }
    if (file != NULL)
        (void)fclose(file);
    if (fits)
        return numbers;
    free(numbers);
    return NULL;
}
