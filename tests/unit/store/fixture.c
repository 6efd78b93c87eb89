/* fixture.c - see fixture.h. */
#include "fixture.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "store/annotators.h"
#include "store/models.h"

static void must(bool ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "fixture: %s\n", what);
        exit(2);
    }
}

struct slice text(const char *s)
{
    return (struct slice){s, s != NULL ? strlen(s) : 0};
}

bool same(struct slice a, const char *b)
{
    return a.bytes != NULL && a.n == strlen(b) && memcmp(a.bytes, b, a.n) == 0;
}

void folder_make(char folder[64])
{
    /* Memory, where there is some: thousands of commits wait for no disk. What is tested here does not depend on it. */
    (void)snprintf(folder, 64, "/dev/shm/annotmix-store-XXXXXX");
    if (mkdtemp(folder) == NULL) {
        (void)snprintf(folder, 64, "/tmp/annotmix-store-XXXXXX");
        must(mkdtemp(folder) != NULL, "no temporary folder");
    }
}

void folder_remove(const char *folder)
{
    DIR *d = opendir(folder);
    struct dirent *entry;

    while (d != NULL && (entry = readdir(d)) != NULL) {
        char path[400];
        (void)snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
        (void)unlink(path); /* fails for . and .. */
    }
    if (d != NULL)
        (void)closedir(d);
    (void)rmdir(folder);
}

int64_t add_project(struct fixture *f, const char *name, size_t feature_dim)
{
    static const char *const names[FIXTURE_CLASSES] = {"a", "b", "c", "d"};
    struct slice classes[FIXTURE_CLASSES];
    struct project_new project = {.name = text(name),
                                  .classes = classes,
                                  .n_classes = FIXTURE_CLASSES,
                                  .feature_dim = feature_dim,
                                  .now_ms = f->now};
    int64_t id = 0;

    for (int i = 0; i < FIXTURE_CLASSES; i++)
        classes[i] = text(names[i]);
    must(db_begin(f->db, &f->err) == AMX_OK, f->err.text);
    must(projects_insert(f->db, &project, &id, &f->err) == AMX_OK, f->err.text);
    must(db_commit(f->db, &f->err) == AMX_OK, f->err.text);
    return id;
}

void fixture_init(struct fixture *f, size_t feature_dim)
{
    memset(f, 0, sizeof(*f));
    folder_make(f->folder);
    (void)snprintf(f->path, sizeof(f->path), "%s/test.db", f->folder);
    must(store_open(f->path, NULL, &f->store, &f->err) == AMX_OK, f->err.text);
    f->db = store_writer(f->store);
    f->now = 1000000;
    f->dim = feature_dim;
    f->project = add_project(f, "music", feature_dim);
}

void fixture_reopen(struct fixture *f)
{
    store_close(f->store);
    f->store = NULL;
    must(store_open(f->path, NULL, &f->store, &f->err) == AMX_OK, f->err.text);
    f->db = store_writer(f->store);
}

void fixture_done(struct fixture *f)
{
    store_close(f->store);
    folder_remove(f->folder);
}

int64_t ask(struct fixture *f, const char *sql)
{
    DB_STMT(s);
    enum db_step step = DB_DONE;

    must(db_use(f->db, sql, &s, &f->err) == AMX_OK, f->err.text);
    if (strstr(sql, "?1") != NULL)
        db_bind_int(s, 1, f->project);
    must(db_step(s, &step, &f->err) == AMX_OK, f->err.text);
    return step == DB_ROW ? db_int(s, 0) : -999;
}

static enum amx_status begin(struct fixture *f, struct changes *ch)
{
    f->now += 1000;
    must(db_begin(f->db, &f->err) == AMX_OK, f->err.text);
    return changes_begin(f->db, f->project, f->now, ch, &f->err);
}

static enum amx_status end(struct fixture *f, struct changes *ch, enum amx_status status)
{
    if (status == AMX_OK)
        status = changes_flush(ch, &f->err);
    if (status == AMX_OK)
        status = db_commit(f->db, &f->err);
    if (status != AMX_OK)
        db_rollback(f->db);
    return status;
}

enum amx_status put_label(struct fixture *f, const char *instance, const char *annotator, int class_index,
                          int64_t given, const char *ref, struct label_result *out)
{
    struct changes ch;
    struct label_put put = {.instance = text(instance),
                            .annotator = text(annotator),
                            .class_index = class_index,
                            .ref = text(ref),
                            .given_ms = given,
                            .duration_ms = -1,
                            .create_instance = true};
    enum amx_status status = begin(f, &ch);

    if (status == AMX_OK)
        status = labels_put(&ch, &put, out, &f->err);
    return end(f, &ch, status);
}

enum amx_status put_instance(struct fixture *f, const char *name, const float *features, enum split split, int gold,
                             enum put_outcome *out)
{
    struct changes ch;
    int64_t id;
    struct instance_put put = {.name = text(name), .features = features, .split = split, .gold_class = gold};
    enum amx_status status = begin(f, &ch);

    if (status == AMX_OK)
        status = instances_put(&ch, &put, out, &id, &f->err);
    return end(f, &ch, status);
}

enum amx_status put_gold(struct fixture *f, const char *instance, int class_index)
{
    struct changes ch;
    enum put_outcome outcome;
    enum amx_status status = begin(f, &ch);

    if (status == AMX_OK)
        status = class_index >= 0 ? gold_put(&ch, text(instance), class_index, &outcome, &f->err)
                                  : gold_delete(&ch, text(instance), &f->err);
    return end(f, &ch, status);
}

enum amx_status delete_label(struct fixture *f, const char *instance, const char *annotator, const char *ref)
{
    struct changes ch;
    enum amx_status status = begin(f, &ch);

    if (status == AMX_OK)
        status = ref != NULL ? labels_delete_ref(&ch, text(ref), &f->err)
                             : labels_delete(&ch, text(instance), text(annotator), &f->err);
    return end(f, &ch, status);
}

enum amx_status delete_instance(struct fixture *f, const char *name)
{
    struct changes ch;
    enum amx_status status = begin(f, &ch);

    return end(f, &ch, status == AMX_OK ? instances_delete(&ch, text(name), &f->err) : status);
}

enum amx_status delete_annotator(struct fixture *f, const char *name)
{
    struct changes ch;
    enum amx_status status = begin(f, &ch);

    return end(f, &ch, status == AMX_OK ? annotators_delete(&ch, text(name), &f->err) : status);
}

void purge(struct fixture *f)
{
    bool annotators = true, projects = true, models = true;

    while (annotators || projects || models) {
        must(db_begin(f->db, &f->err) == AMX_OK, f->err.text);
        must(annotators_purge_step(f->db, f->now, &annotators, &f->err) == AMX_OK, f->err.text);
        must(projects_purge_step(f->db, &projects, &f->err) == AMX_OK, f->err.text);
        must(models_purge_step(f->db, &models, &f->err) == AMX_OK, f->err.text);
        must(db_commit(f->db, &f->err) == AMX_OK, f->err.text);
    }
}

#define LIVE                                                                                                           \
    " FROM labels l JOIN annotators a ON a.project_id = l.project_id AND a.id = l.annotator_id AND a.gone = 0"         \
    " WHERE l.project_id = ?1 AND l.state = 0"
static const struct {
    const char *name, *kept, *counted;
} counters[] = {
    {"instances", "SELECT n_instances FROM projects WHERE id = ?1",
     "SELECT count(*) FROM instances WHERE project_id = ?1"},
    {"annotators", "SELECT n_annotators FROM projects WHERE id = ?1",
     "SELECT count(*) FROM annotators WHERE project_id = ?1 AND gone = 0"},
    {"labels", "SELECT n_labels FROM projects WHERE id = ?1", "SELECT count(*)" LIVE},
    {"skipped", "SELECT n_skipped FROM projects WHERE id = ?1", "SELECT count(*)" LIVE " AND l.class IS NULL"},
    {"gold", "SELECT n_gold FROM projects WHERE id = ?1",
     "SELECT count(*) FROM instances WHERE project_id = ?1 AND gold IS NOT NULL"},
    {"awaiting", "SELECT n_awaiting FROM projects WHERE id = ?1",
     "SELECT count(*) FROM instances i JOIN projects p ON p.id = i.project_id WHERE i.project_id = ?1"
     " AND p.feature_dim > 0 AND NOT EXISTS (SELECT 1 FROM features f"
     " WHERE f.key = (i.project_id << 32) | i.id)"},
    {"sum of annotators' labels", "SELECT coalesce(sum(n_labels), 0) FROM annotators WHERE project_id = ?1",
     "SELECT count(*)" LIVE},
    {"annotators whose counters are wrong", "SELECT 0",
     "SELECT count(*) FROM annotators x WHERE x.project_id = ?1 AND x.gone = 0 AND"
     " (x.n_labels <> (SELECT count(*) FROM labels l WHERE l.project_id = ?1 AND l.annotator_id = x.id AND l.state = 0)"
     " OR x.n_skipped <> (SELECT count(*) FROM labels l WHERE l.project_id = ?1 AND l.annotator_id = x.id AND l.state "
     "= 0"
     " AND l.class IS NULL)"
     " OR x.gold_of <> (SELECT count(*) FROM labels l JOIN instances i ON i.project_id = l.project_id AND"
     " i.id = l.instance_id WHERE l.project_id = ?1 AND l.annotator_id = x.id AND l.state = 0 AND l.class IS NOT NULL"
     " AND i.gold IS NOT NULL)"
     " OR x.gold_right <> (SELECT count(*) FROM labels l JOIN instances i ON i.project_id = l.project_id AND"
     " i.id = l.instance_id WHERE l.project_id = ?1 AND l.annotator_id = x.id AND l.state = 0 AND l.class = i.gold))"},
    {"instances whose labelled is wrong", "SELECT 0",
     "SELECT count(*) FROM instances i WHERE i.project_id = ?1 AND i.labelled <> EXISTS"
     " (SELECT 1 FROM labels l WHERE l.project_id = ?1 AND l.instance_id = i.id AND l.state = 0)"},
    {"pairs with two current labels", "SELECT 0",
     "SELECT count(*) FROM (SELECT 1 FROM labels WHERE project_id = ?1 AND state = 0 GROUP BY instance_id, annotator_id"
     " HAVING count(*) > 1)"},
    {"numbers above label_seq", "SELECT 0",
     "SELECT count(*) FROM labels WHERE project_id = ?1 AND seq > (SELECT label_seq FROM projects WHERE id = ?1)"},
    {"labels without their row by annotator, or such rows without a label", "SELECT 0",
     "SELECT (SELECT count(*) FROM labels l WHERE l.project_id = ?1 AND NOT EXISTS (SELECT 1 FROM annotator_labels x"
     " WHERE x.project_id = ?1 AND x.shelf = (l.seq >> 16) << 32 | l.annotator_id AND x.seq = l.seq))"
     " + (SELECT count(*) FROM annotator_labels x WHERE x.project_id = ?1 AND NOT EXISTS (SELECT 1 FROM labels l"
     " WHERE l.project_id = ?1 AND l.annotator_id = x.shelf & 4294967295 AND l.seq = x.seq AND l.seq >> 16 = x.shelf >> 32))"},
    {"current labels of nothing", "SELECT 0",
     "SELECT count(*) FROM labels l WHERE l.project_id = ?1 AND l.state = 0 AND NOT EXISTS"
     " (SELECT 1 FROM instances i WHERE i.project_id = ?1 AND i.id = l.instance_id)"},
};

bool counters_hold(struct fixture *f)
{
    bool ok = true;

    for (size_t i = 0; i < sizeof(counters) / sizeof(counters[0]); i++) {
        int64_t kept = ask(f, counters[i].kept), counted = ask(f, counters[i].counted);
        if (kept != counted) {
            printf("%s: %lld kept, %lld counted\n", counters[i].name, (long long)kept, (long long)counted);
            ok = false;
        }
    }
    return ok;
}
