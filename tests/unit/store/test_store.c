/* Opening a file: the lock, what is refused, migrations, readers, backup; and a process that is killed while it writes.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fixture.h"
#include "store/meta.h"
#include "test.h"

static void write_file(const char *path, const void *bytes, size_t n)
{
    FILE *f = fopen(path, "wbe");

    CHECK(f != NULL);
    if (f == NULL)
        return;
    CHECK(fwrite(bytes, 1, n, f) == n);
    CHECK(fclose(f) == 0);
}

static enum amx_status try_open(const char *path, const struct store_options *options, struct amx_error *err)
{
    struct store *store = NULL;
    enum amx_status status = store_open(path, options, &store, err);

    CHECK((status == AMX_OK) == (store != NULL));
    store_close(store);
    return status;
}

TEST(store_creates_private_files_and_locks)
{
    struct fixture f;
    struct stat info;
    struct amx_error err;
    char path[128];

    fixture_init(&f, 0);
    CHECK(stat(f.path, &info) == 0 && (info.st_mode & 0777) == 0600);
    (void)snprintf(path, sizeof(path), "%s-wal", f.path);
    CHECK(stat(path, &info) == 0 && (info.st_mode & 0777) == 0600);
    (void)snprintf(path, sizeof(path), "%s.lock", f.path);
    CHECK(stat(path, &info) == 0 && (info.st_mode & 0777) == 0600);
    CHECK_INT(try_open(f.path, NULL, &err), AMX_BUSY);
    CHECK(strstr(err.text, "another annotmixd") != NULL);
    CHECK_INT(store_schema_version(f.store), 5);
    CHECK_INT(ask(&f, "PRAGMA application_id"), 0x414D5831);
    CHECK_INT(ask(&f, "PRAGMA foreign_keys"), 1);
    CHECK_INT(ask(&f, "PRAGMA synchronous"), 2);
    CHECK_INT(ask(&f, "PRAGMA auto_vacuum"), 0);
    CHECK_INT(ask(&f, "PRAGMA page_size"), 8192);
    CHECK_INT(ask(&f, "PRAGMA wal_autocheckpoint"), 0);
    fixture_reopen(&f);
    CHECK_INT(ask(&f, "SELECT count(*) FROM projects"), 1);
    fixture_done(&f);
}

TEST(store_refuses_what_is_not_its_own)
{
    static const char sql_of_another[] = "PRAGMA application_id = 7; CREATE TABLE t (x INTEGER);";
    char folder[64], path[96], link_path[128];
    struct amx_error err;
    struct db *db = NULL;
    struct store_options must_exist = {.must_exist = true};

    folder_make(folder);
    (void)snprintf(path, sizeof(path), "%s/x.db", folder);
    CHECK_INT(try_open(path, &must_exist, &err), AMX_NOT_FOUND);
    CHECK(access(path, F_OK) != 0);
    /* No database at all. */
    write_file(path, "hello, this is a text and not a database; it is longer than a header, though, by far......", 90);
    CHECK_INT(try_open(path, NULL, &err), AMX_CORRUPT);
    CHECK(strstr(err.text, "not a database") != NULL);
    write_file(path, "short", 5);
    CHECK_INT(try_open(path, NULL, &err), AMX_CORRUPT);
    CHECK(unlink(path) == 0);
    /* Another program's, with and without an id. */
    CHECK_INT(db_open(path, DB_WRITER, true, &db, &err), AMX_OK);
    CHECK_INT(db_exec(db, sql_of_another, &err), AMX_OK);
    db_close(db);
    CHECK_INT(try_open(path, NULL, &err), AMX_CORRUPT);
    CHECK(strstr(err.text, "another program") != NULL);
    CHECK(unlink(path) == 0);
    CHECK_INT(db_open(path, DB_WRITER, true, &db, &err), AMX_OK);
    CHECK_INT(db_exec(db, "CREATE TABLE t (x INTEGER)", &err), AMX_OK);
    db_close(db);
    CHECK_INT(try_open(path, NULL, &err), AMX_CORRUPT);
    CHECK(strstr(err.text, "another program") != NULL);
    CHECK(unlink(path) == 0);
    /* A symbolic link, a folder, a folder that is not there. */
    (void)snprintf(link_path, sizeof(link_path), "%s/link.db", folder);
    CHECK(symlink(path, link_path) == 0);
    CHECK_INT(try_open(link_path, NULL, &err), AMX_IO);
    CHECK_INT(try_open("/proc/self/nothing/x.db", NULL, &err), AMX_IO);
    CHECK_INT(try_open("/tmp/..", NULL, &err), AMX_IO);
    folder_remove(folder);
}

TEST(store_refuses_a_newer_file)
{
    struct fixture f;
    struct amx_error err;
    struct store *reader = NULL;

    fixture_init(&f, 0);
    CHECK_INT(db_exec(f.db, "PRAGMA user_version = 99", &err), AMX_OK);
    store_close(f.store);
    f.store = NULL;
    CHECK_INT(try_open(f.path, NULL, &err), AMX_CORRUPT);
    CHECK(strstr(err.text, "newer version") != NULL);
    CHECK_INT(store_open_readonly(f.path, &reader, &err), AMX_CORRUPT);
    fixture_done(&f);
}

TEST(store_in_a_folder_without_write_permission)
{
    char folder[64], path[96];
    pid_t child;
    int status = 0;

    folder_make(folder);
    (void)snprintf(path, sizeof(path), "%s/x.db", folder);
    CHECK(chmod(folder, 0555) == 0);
    child = fork();
    if (child == 0) { /* root may write everywhere: become somebody else */
        struct store *store = NULL;
        struct amx_error err;
        if (getuid() == 0 && setuid(65534) != 0)
            _exit(3);
        _exit(store_open(path, NULL, &store, &err) == AMX_IO && strstr(err.text, "ermission") != NULL ? 0 : 1);
    }
    CHECK(child > 0 && waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    folder_remove(folder);
}

TEST(store_readers_see_commits_and_cannot_write)
{
    struct fixture f;
    struct label_result r;
    struct db *reader = NULL, *second = NULL;
    struct project_row row;
    struct store_stats stats;

    fixture_init(&f, 0);
    CHECK_INT(store_reader_get(f.store, &reader, &f.err), AMX_OK);
    CHECK_INT(store_reader_get(f.store, &second, &f.err), AMX_OK);
    CHECK(reader != second);
    store_get_stats(f.store, &stats);
    CHECK_INT(stats.readers_out, 2);
    CHECK(stats.disk_free_bytes > 0 && stats.db_bytes >= 0 && stats.wal_bytes > 0);
    CHECK_INT(db_exec(reader, "DELETE FROM projects", &f.err), AMX_IO);
    CHECK_INT(db_begin_read(reader, &f.err), AMX_OK);
    CHECK_INT(projects_get(reader, f.project, &row, &f.err), AMX_OK);
    CHECK_INT(row.counts.labels, 0);
    project_row_done(&row);
    CHECK_INT(put_label(&f, "i1", "ana", 1, 0, NULL, &r), AMX_OK);
    CHECK_INT(projects_get(reader, f.project, &row, &f.err), AMX_OK);
    CHECK_INT(row.counts.labels, 0); /* its own view */
    project_row_done(&row);
    CHECK_INT(projects_get(second, f.project, &row, &f.err), AMX_OK);
    CHECK_INT(row.counts.labels, 1);
    project_row_done(&row);
    store_reader_put(f.store, reader); /* ends the transaction */
    store_reader_put(f.store, second);
    CHECK_INT(store_reader_get(f.store, &reader, &f.err), AMX_OK);
    CHECK(!db_in_transaction(reader));
    store_reader_put(f.store, reader);
    fixture_done(&f);
}

struct crowd {
    struct store *store;
    _Atomic int out, most, failures;
};

static void *read_often(void *context)
{
    struct crowd *crowd = context;

    for (int i = 0; i < 50; i++) {
        struct db *db = NULL;
        struct project_row row;
        if (store_reader_get(crowd->store, &db, NULL) != AMX_OK) {
            crowd->failures++;
            continue;
        }
        int out = ++crowd->out, most = crowd->most;
        while (out > most && !atomic_compare_exchange_weak(&crowd->most, &most, out))
            ;
        if (projects_find(db, text("music"), &row, NULL) == AMX_OK)
            project_row_done(&row);
        else
            crowd->failures++;
        crowd->out--;
        store_reader_put(crowd->store, db);
    }
    return NULL;
}

TEST(store_pool_lets_the_surplus_wait)
{
    struct fixture f;
    struct crowd crowd = {.store = NULL};
    struct store_options options = {.max_readers = 3};
    pthread_t threads[12];

    fixture_init(&f, 0);
    store_close(f.store);
    CHECK_INT(store_open(f.path, &options, &f.store, &f.err), AMX_OK);
    crowd.store = f.store;
    for (int i = 0; i < 12; i++)
        CHECK(pthread_create(&threads[i], NULL, read_often, &crowd) == 0);
    for (int i = 0; i < 12; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    CHECK_INT(crowd.failures, 0);
    CHECK(crowd.most >= 1 && crowd.most <= 3);
    fixture_done(&f);
}

TEST(store_backup_that_is_stopped_leaves_nothing)
{
    struct fixture f;
    char to[128], temporary[140];

    fixture_init(&f, 0);
    (void)snprintf(to, sizeof to, "%s/copy.db", f.folder);
    (void)snprintf(temporary, sizeof temporary, "%s.tmp", to);
    store_backup_stop(f.store);
    CHECK_INT(store_backup(f.store, to, &f.err), AMX_CANCELLED);
    CHECK(access(to, F_OK) != 0);
    CHECK(access(temporary, F_OK) != 0);
    fixture_done(&f);
}

TEST(store_backup_is_a_whole_database)
{
    struct fixture f;
    struct label_result r;
    struct store *copy = NULL;
    struct db *db = NULL;
    struct project_row row;
    struct stat info;
    char to[128], temporary[140];

    fixture_init(&f, 0);
    CHECK_INT(put_label(&f, "i1", "ana", 1, 0, NULL, &r), AMX_OK);
    (void)snprintf(to, sizeof(to), "%s/copy.db", f.folder);
    (void)snprintf(temporary, sizeof(temporary), "%s.tmp", to);
    CHECK_INT(store_backup(f.store, to, &f.err), AMX_OK);
    CHECK(stat(to, &info) == 0 && (info.st_mode & 0777) == 0600);
    CHECK(access(temporary, F_OK) != 0);
    CHECK_INT(store_backup(f.store, to, &f.err), AMX_CONFLICT);
    CHECK_INT(put_label(&f, "i2", "ana", 1, 0, NULL, &r), AMX_OK);
    /* A backup can be read as it is, and served. */
    CHECK_INT(store_open_readonly(to, &copy, &f.err), AMX_OK);
    CHECK(store_writer(copy) == NULL);
    CHECK_INT(store_reader_get(copy, &db, &f.err), AMX_OK);
    CHECK_INT(projects_get(db, f.project, &row, &f.err), AMX_OK);
    CHECK_INT(row.counts.labels, 1);
    project_row_done(&row);
    store_reader_put(copy, db);
    store_close(copy);
    CHECK_INT(store_open(to, NULL, &copy, &f.err), AMX_OK);
    CHECK_INT(store_check(copy, NULL, &f.err), AMX_OK);
    store_close(copy);
    CHECK_INT(store_backup(f.store, "/proc/self/nothing/x", &f.err), AMX_IO);
    fixture_done(&f);
}

TEST(store_readonly_beside_a_server)
{
    struct fixture f;
    struct label_result r;
    struct store *second = NULL;
    struct db *db = NULL;
    struct project_row row;

    fixture_init(&f, 0);
    CHECK_INT(put_label(&f, "i1", "ana", 1, 0, NULL, &r), AMX_OK);
    CHECK_INT(store_open_readonly(f.path, &second, &f.err), AMX_OK);
    CHECK_INT(store_reader_get(second, &db, &f.err), AMX_OK);
    CHECK_INT(projects_get(db, f.project, &row, &f.err), AMX_OK);
    CHECK_INT(row.counts.labels, 1);
    project_row_done(&row);
    store_reader_put(second, db);
    store_close(second);
    CHECK_INT(put_label(&f, "i2", "ana", 1, 0, NULL, &r), AMX_OK);
    fixture_done(&f);
}

TEST(store_finds_a_flipped_page)
{
    struct fixture f;
    struct label_result r;
    char name[16];
    unsigned char page[4096]; /* its first part */
    int fd;

    fixture_init(&f, 0);
    for (int i = 0; i < 300; i++) {
        (void)snprintf(name, sizeof(name), "i%d", i);
        CHECK_INT(put_label(&f, name, "ana", 1, 0, NULL, &r), AMX_OK);
    }
    CHECK_INT(db_checkpoint(f.db, true, &f.err), AMX_OK);
    int64_t page_number = ask(&f, "SELECT rootpage FROM sqlite_schema WHERE name = 'labels_pair'");
    int64_t at = (page_number - 1) * ask(&f, "PRAGMA page_size");
    store_close(f.store);
    f.store = NULL;
    fd = open(f.path, O_RDWR | O_CLOEXEC);
    CHECK(fd >= 0);
    CHECK(pread(fd, page, sizeof(page), at) == (ssize_t)sizeof(page));
    memset(page + 100, 0xa5, 3000);
    CHECK(pwrite(fd, page, sizeof(page), at) == (ssize_t)sizeof(page));
    CHECK(close(fd) == 0);
    CHECK_INT(store_open(f.path, NULL, &f.store, &f.err), AMX_OK);
    CHECK_INT(store_check(f.store, NULL, &f.err), AMX_CORRUPT);
    fixture_done(&f);
}

/* The child writes label after label and tells each number once COMMIT has returned; then it is killed. */
static void write_until_killed(const char *path, int64_t project, int fd)
{
    struct fixture f = {.project = project, .now = 1};
    struct label_result r;
    char instance[24], annotator[24];

    if (store_open(path, NULL, &f.store, &f.err) != AMX_OK)
        _exit(1);
    f.db = store_writer(f.store);
    for (int64_t i = 1;; i++) {
        (void)snprintf(instance, sizeof(instance), "i%lld", (long long)(i % 500));
        (void)snprintf(annotator, sizeof(annotator), "a%lld", (long long)(i / 500));
        if (put_label(&f, instance, annotator, (int)(i % FIXTURE_CLASSES), 0, NULL, &r) != AMX_OK || r.seq <= 0 ||
            write(fd, &r.seq, sizeof(r.seq)) != sizeof(r.seq))
            _exit(1);
    }
}

TEST(store_keeps_what_was_committed_over_kill_9)
{
    struct fixture f;
    int64_t acknowledged = 0, seq;

    fixture_init(&f, 0);
    for (int round = 0; round < 8; round++) {
        int fds[2];
        store_close(f.store);
        f.store = NULL;
        CHECK(pipe(fds) == 0);
        pid_t child = fork();
        if (child == 0) {
            (void)close(fds[0]);
            write_until_killed(f.path, f.project, fds[1]);
        }
        (void)close(fds[1]);
        /* Kill it when it has told so many, wherever it then is. */
        int64_t until = acknowledged + 20 + round * 13;
        while (acknowledged < until && read(fds[0], &seq, sizeof(seq)) == sizeof(seq))
            acknowledged = seq > acknowledged ? seq : acknowledged;
        CHECK(kill(child, SIGKILL) == 0);
        while (read(fds[0], &seq, sizeof(seq)) == sizeof(seq))
            acknowledged = seq > acknowledged ? seq : acknowledged;
        CHECK(waitpid(child, NULL, 0) == child);
        (void)close(fds[0]);
        CHECK_INT(store_open(f.path, NULL, &f.store, &f.err), AMX_OK);
        struct store_stats stats;
        store_get_stats(f.store, &stats);
        CHECK(stats.unclean_start);
        f.db = store_writer(f.store);
        int64_t kept = ask(&f, "SELECT max(seq) FROM labels WHERE project_id = ?1");
        CHECK(kept >= acknowledged && kept <= acknowledged + 1);
        CHECK_INT(ask(&f, "SELECT count(*) FROM labels WHERE project_id = ?1"), kept);
        CHECK(counters_hold(&f));
        CHECK_INT(store_check(f.store, NULL, &f.err), AMX_OK);
        acknowledged = kept;
    }
    CHECK(acknowledged > 300);
    fixture_done(&f);
}

TEST(store_full_disk_is_told_and_passes)
{
    struct fixture f;
    struct label_result r;
    char name[64];
    enum amx_status status = AMX_OK;
    int i = 0;

    fixture_init(&f, 0);
    CHECK(ask(&f, "PRAGMA max_page_count = 80") > 0);
    for (; i < 20000 && status == AMX_OK; i++) {
        (void)snprintf(name, sizeof(name), "a-rather-long-name-of-an-instance-%d", i);
        status = put_label(&f, name, "ana", 1, 0, NULL, &r);
    }
    CHECK_INT(status, AMX_FULL);
    CHECK_INT(ask(&f, "SELECT n_labels FROM projects WHERE id = ?1"), i - 1);
    CHECK(ask(&f, "PRAGMA max_page_count = 100000") > 0);
    CHECK_INT(put_label(&f, name, "ana", 1, 0, NULL, &r), AMX_OK);
    CHECK(counters_hold(&f));
    CHECK(!db_must_stop(f.db));
    fixture_done(&f);
}

TEST(meta_values)
{
    struct fixture f;
    struct buf value = BUF_INIT(1000);

    fixture_init(&f, 0);
    CHECK_INT(meta_get(f.db, "created_at", &value, &f.err), AMX_OK);
    CHECK_INT(value.n, 24);
    buf_clear(&value);
    CHECK_INT(meta_get(f.db, "nothing", &value, &f.err), AMX_NOT_FOUND);
    CHECK_INT(meta_set(f.db, "x", text("1"), &f.err), AMX_OK);
    CHECK_INT(meta_set(f.db, "x", text("22"), &f.err), AMX_OK);
    CHECK_INT(meta_get(f.db, "x", &value, &f.err), AMX_OK);
    CHECK_STR(buf_string(&value), "22");
    buf_done(&value);
    fixture_done(&f);
}
