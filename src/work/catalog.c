/* catalog.c - two sorted arrays (by name, by id) of references under one read-write lock.
 *
 * A thousand projects are ten comparisons deep; entries change when a person changes a project, so moving pointers
 * about is nothing. Each struct project_info is one block of memory with the parsed settings beside it. */
#include "work/catalog.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "store/projects.h"
#include "store/store.h"
#include "util/error.h"
#include "util/jsonx.h"
#include "util/log.h"
#include "util/size.h"
#include "work/name_index.h"

enum {
    PAGE = 500
};

struct catalog {
    struct store *store;
    pthread_rwlock_t lock;
    struct project_info **by_name, **by_id; /* guarded by lock; by_name holds the references */
    size_t n, capacity;                     /* guarded by lock */
};

/* ---- one project ------------------------------------------------------------------------------------------------- */

static void project_free(struct project_info *p)
{
    json_decref((json_t *)(uintptr_t)p->settings_object);
    name_index_free((struct name_index *)(uintptr_t)p->class_index);
    free(p);
}

struct project_info *project_ref(struct project_info *project)
{
    (void)__atomic_add_fetch(&project->refs, 1, __ATOMIC_RELAXED);
    return project;
}

void project_unref(struct project_info *project)
{
    if (project != NULL && __atomic_sub_fetch(&project->refs, 1, __ATOMIC_ACQ_REL) == 0)
        project_free(project);
}

static const char *keep(char **end, struct slice text)
{
    char *copy = *end;

    if (text.n > 0)
        memcpy(copy, text.bytes, text.n);
    copy[text.n] = '\0';
    *end += text.n + 1;
    return copy;
}

/* Settings that this build cannot read (a newer one wrote them) do not make the project unreachable. */
static enum amx_status take_settings(struct project_info *p)
{
    json_t *object = NULL;
    struct amx_error err;
    enum amx_status status = jsonx_load_object(p->settings_json, strlen(p->settings_json), &object, &err);

    if (status == AMX_OK) {
        p->settings_object = object;
        status = project_settings_parse(object, "/settings", p->feature_dim, p->n_classes, &p->settings, &err);
    }
    if (status == AMX_INVALID) {
        log_warn("settings of a project cannot be read, defaults are used", LOG_INT("project_id", p->id),
                 LOG_TEXT("reason", err.text));
        status = project_settings_parse(NULL, "", p->feature_dim, p->n_classes, &p->settings, &err);
    }
    return status;
}

/* NULL when memory is out. */
static struct project_info *project_make(const struct project_row *row)
{
    size_t C = row->n_classes, bytes = sizeof(struct project_info) + C * (sizeof(char *) + sizeof(bool) + 1) + 8;
    struct project_info *p;
    const char **classes;
    bool *retired;
    char *end;

    bytes += strlen(row->uid) + 1 + row->name.n + 1 + row->title.n + 1 + row->settings.n + 3;
    for (size_t k = 0; k < C; k++)
        bytes += row->classes[k].name.n;
    p = calloc(1, bytes);
    if (p == NULL)
        return NULL;
    classes = (const char **)(p + 1);
    retired = (bool *)(classes + C);
    end = (char *)(retired + C);
    p->refs = 1;
    p->id = row->id;
    p->created_ms = row->created_ms;
    p->feature_dim = row->feature_dim;
    p->n_classes = C;
    p->uid = keep(&end, (struct slice){row->uid, strlen(row->uid)});
    p->name = keep(&end, row->name);
    p->title = row->title.n > 0 ? keep(&end, row->title) : NULL;
    p->settings_json = keep(&end, row->settings.n > 0 ? row->settings : (struct slice){"{}", 2});
    for (size_t k = 0; k < C; k++) {
        classes[k] = keep(&end, row->classes[k].name);
        retired[k] = row->classes[k].retired;
    }
    p->classes = classes;
    p->retired = retired;
    p->class_index = name_index_new(p->classes, C);
    if (p->class_index == NULL || take_settings(p) != AMX_OK) {
        project_free(p);
        return NULL;
    }
    return p;
}

bool project_class_index(const struct project_info *project, const char *name, size_t n, uint32_t *out)
{
    return name_index_find(project->class_index, name, n, out);
}

/* ---- the two arrays -----------------------------------------------------------------------------------------------
 */

/* First position whose name is not below `name`. */
static size_t place_by_name_locked(const struct catalog *catalog, const char *name)
{
    size_t low = 0, high = catalog->n;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (strcmp(catalog->by_name[middle]->name, name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static size_t place_by_id_locked(const struct catalog *catalog, int64_t id)
{
    size_t low = 0, high = catalog->n;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (catalog->by_id[middle]->id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void insert_at(struct project_info **array, size_t n, size_t at, struct project_info *p)
{
    memmove(array + at + 1, array + at, (n - at) * sizeof(struct project_info *));
    array[at] = p;
}

static void remove_at(struct project_info **array, size_t n, size_t at)
{
    memmove(array + at, array + at + 1, (n - at - 1) * sizeof(struct project_info *));
}

static void remove_locked(struct catalog *catalog, int64_t id)
{
    size_t at = place_by_id_locked(catalog, id), named;
    struct project_info *p;

    if (at == catalog->n || catalog->by_id[at]->id != id)
        return;
    p = catalog->by_id[at];
    named = place_by_name_locked(catalog, p->name);
    remove_at(catalog->by_id, catalog->n, at);
    remove_at(catalog->by_name, catalog->n, named);
    catalog->n--;
    project_unref(p);
}

/* Takes p, in the place of an older entry with its id or its name. */
static enum amx_status insert_locked(struct catalog *catalog, struct project_info *p)
{
    size_t at;

    remove_locked(catalog, p->id);
    at = place_by_name_locked(catalog, p->name);
    if (at < catalog->n && strcmp(catalog->by_name[at]->name, p->name) == 0)
        remove_locked(catalog, catalog->by_name[at]->id);
    if (catalog->n == catalog->capacity) {
        size_t capacity = catalog->capacity > 0 ? 2 * catalog->capacity : 64;
        void *by_name = realloc(catalog->by_name, capacity * sizeof *catalog->by_name);
        void *by_id;

        if (by_name != NULL)
            catalog->by_name = by_name;
        by_id = realloc(catalog->by_id, capacity * sizeof *catalog->by_id);
        if (by_id != NULL)
            catalog->by_id = by_id;
        if (by_name == NULL || by_id == NULL) {
            project_unref(p);
            return AMX_NO_MEMORY;
        }
        catalog->capacity = capacity;
    }
    insert_at(catalog->by_name, catalog->n, place_by_name_locked(catalog, p->name), p);
    insert_at(catalog->by_id, catalog->n, place_by_id_locked(catalog, p->id), p);
    catalog->n++;
    return AMX_OK;
}

/* ---- reading the store
 * --------------------------------------------------------------------------------------------- */

struct loading {
    struct catalog *catalog;
    int64_t last;
};

static enum amx_status load_row(void *context, const struct project_row *row)
{
    struct loading *loading = context;
    struct project_info *p = project_make(row);

    loading->last = row->id;
    return p == NULL ? AMX_NO_MEMORY : insert_locked(loading->catalog, p);
}

/* No other thread knows the catalog yet. */
static enum amx_status load_all(struct catalog *catalog, struct amx_error *err)
{
    struct loading loading = {catalog, INT64_MIN};
    struct db *db = NULL;
    bool more = true;
    enum amx_status status = store_reader_get(catalog->store, &db, err);

    while (status == AMX_OK && more) {
        more = false;
        status = projects_list(db, (struct slice){"", 0}, loading.last, PAGE, load_row, &loading, &more, err);
    }
    store_reader_put(catalog->store, db);
    return status;
}

enum amx_status catalog_open(struct store *store, struct catalog **out, struct amx_error *err)
{
    struct catalog *catalog = calloc(1, sizeof *catalog);
    enum amx_status status;

    if (catalog == NULL)
        return error_set(err, AMX_NO_MEMORY, "Out of memory.");
    catalog->store = store;
    if (pthread_rwlock_init(&catalog->lock, NULL) != 0) {
        free(catalog);
        return error_set(err, AMX_NO_MEMORY, "Out of memory.");
    }
    status = load_all(catalog, err);
    if (status != AMX_OK) {
        catalog_close(catalog);
        return status == AMX_NO_MEMORY ? error_set(err, AMX_NO_MEMORY, "Out of memory.") : status;
    }
    *out = catalog;
    return AMX_OK;
}

void catalog_close(struct catalog *catalog)
{
    if (catalog == NULL)
        return;
    for (size_t i = 0; i < catalog->n; i++)
        project_unref(catalog->by_name[i]);
    free(catalog->by_name);
    free(catalog->by_id);
    (void)pthread_rwlock_destroy(&catalog->lock); /* nobody holds it any more */
    free(catalog);
}

enum amx_status catalog_reload(struct catalog *catalog, int64_t project_id, struct amx_error *err)
{
    struct project_row row;
    struct project_info *p = NULL;
    struct db *db = NULL;
    enum amx_status status = store_reader_get(catalog->store, &db, err);

    if (status == AMX_OK) {
        status = projects_get(db, project_id, &row, err);
        if (status == AMX_OK) {
            p = project_make(&row);
            project_row_done(&row);
            if (p == NULL)
                status = error_set(err, AMX_NO_MEMORY, "Out of memory.");
        }
    }
    store_reader_put(catalog->store, db);
    (void)pthread_rwlock_wrlock(&catalog->lock);
    if (p != NULL)
        status = insert_locked(catalog, p);
    else
        remove_locked(catalog, project_id);
    (void)pthread_rwlock_unlock(&catalog->lock);
    return status == AMX_NOT_FOUND ? AMX_OK : status;
}

void catalog_remove(struct catalog *catalog, int64_t project_id)
{
    (void)pthread_rwlock_wrlock(&catalog->lock);
    remove_locked(catalog, project_id);
    (void)pthread_rwlock_unlock(&catalog->lock);
}

/* ---- looking up
 * ------------------------------------------------------------------------------------------------------ */

struct project_info *catalog_get(struct catalog *catalog, const char *name)
{
    struct project_info *found = NULL;
    size_t at;

    (void)pthread_rwlock_rdlock(&catalog->lock);
    at = place_by_name_locked(catalog, name);
    if (at < catalog->n && strcmp(catalog->by_name[at]->name, name) == 0)
        found = project_ref(catalog->by_name[at]);
    (void)pthread_rwlock_unlock(&catalog->lock);
    return found;
}

struct project_info *catalog_get_id(struct catalog *catalog, int64_t id)
{
    struct project_info *found = NULL;
    size_t at;

    (void)pthread_rwlock_rdlock(&catalog->lock);
    at = place_by_id_locked(catalog, id);
    if (at < catalog->n && catalog->by_id[at]->id == id)
        found = project_ref(catalog->by_id[at]);
    (void)pthread_rwlock_unlock(&catalog->lock);
    return found;
}

enum amx_status catalog_list(struct catalog *catalog, struct project_info ***out, size_t *n)
{
    struct project_info **list;

    (void)pthread_rwlock_rdlock(&catalog->lock);
    list = malloc((catalog->n + 1) * sizeof(struct project_info *));
    for (size_t i = 0; list != NULL && i < catalog->n; i++)
        list[i] = project_ref(catalog->by_name[i]);
    if (list != NULL) {
        *n = catalog->n;
        *out = list;
    }
    (void)pthread_rwlock_unlock(&catalog->lock);
    return list != NULL ? AMX_OK : AMX_NO_MEMORY;
}

size_t catalog_count(struct catalog *catalog)
{
    size_t n;

    (void)pthread_rwlock_rdlock(&catalog->lock);
    n = catalog->n;
    (void)pthread_rwlock_unlock(&catalog->lock);
    return n;
}
