/* skeleton.c - the least a server with our options can do: the limits that bench_http.py holds annotmixd against.
 *
 *   skeleton answer             takes the body of any request, answers a constant
 *   skeleton insert DB          the same, after one row with the body is on disk: group commit by one writer thread
 *   skeleton commits DB ROWS    no HTTP: ROWS transactions of one row each into one table, one after the other; prints
 *                               commits/s (`engine commits` is the same for the rows of a label in their tables)
 *
 * Options of libmicrohttpd as in src/http/server.c, pragmas of SQLite as in src/store/db.c, checkpoints as in
 * src/work/writer.c. It prints where it listens and ends on SIGTERM. Nothing is checked that a client sends.
 */
#include <arpa/inet.h>
#include <microhttpd.h>
#include <pthread.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    THREADS = 2,
    CONNECTIONS = 1000,
    IDLE_SECONDS = 30,
    MEMORY_BYTES = 131072,
    MEMORY_STEP = 16384,
    BODY_BYTES = 8192,
    CHECKPOINT_PAGES = 16 * 1024 * 1024 / 4096
};
static const char ANSWER[] = "{\"class\":\"c0\",\"confidence\":0.123456789,\"p_class\":[0.1,0.2,0.3,0.4],\"seq\":1234567}";

struct request {
    struct MHD_Connection *connection;
    struct request *next;
    size_t n;
    bool written;
    char body[BODY_BYTES];
};

static sqlite3 *db;
static sqlite3_stmt *begin, *insert, *commit;
static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t work = PTHREAD_COND_INITIALIZER;
static struct request *waiting; /* guarded by mu, newest first */
static bool stopping;           /* guarded by mu */
static int pages_since_checkpoint;

static _Noreturn void give_up(const char *what)
{
    (void)fprintf(stderr, "skeleton: %s\n", what);
    exit(1);
}

/* ---- SQLite ---- */

static int on_commit(void *context, sqlite3 *handle, const char *name, int pages)
{
    (void)context, (void)handle, (void)name;
    pages_since_checkpoint = pages;
    return SQLITE_OK;
}

static sqlite3_stmt *prepare(const char *sql)
{
    sqlite3_stmt *statement;

    if (sqlite3_prepare_v3(db, sql, -1, SQLITE_PREPARE_PERSISTENT, &statement, NULL) != SQLITE_OK)
        give_up(sqlite3_errmsg(db));
    return statement;
}

static void open_db(const char *path)
{
    static const char *const PRAGMAS = "PRAGMA auto_vacuum = NONE; PRAGMA journal_mode = WAL;"
                                       "PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;"
                                       "PRAGMA trusted_schema = OFF; PRAGMA temp_store = MEMORY;"
                                       "PRAGMA secure_delete = ON; PRAGMA journal_size_limit = 67108864;"
                                       "PRAGMA wal_autocheckpoint = 0; PRAGMA cache_size = -32768;"
                                       "CREATE TABLE row (id INTEGER PRIMARY KEY, body BLOB NOT NULL)";

    (void)sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
    if (sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL) !=
            SQLITE_OK ||
        sqlite3_exec(db, PRAGMAS, NULL, NULL, NULL) != SQLITE_OK)
        give_up(sqlite3_errmsg(db));
    (void)sqlite3_wal_hook(db, on_commit, NULL);
    begin = prepare("BEGIN IMMEDIATE");
    insert = prepare("INSERT INTO row (body) VALUES (?)");
    commit = prepare("COMMIT");
}

static void step(sqlite3_stmt *statement)
{
    if (sqlite3_step(statement) != SQLITE_DONE)
        give_up(sqlite3_errmsg(db));
    (void)sqlite3_reset(statement);
}

static void insert_row(const char *body, size_t n)
{
    if (sqlite3_bind_blob64(insert, 1, body, n, SQLITE_STATIC) != SQLITE_OK)
        give_up(sqlite3_errmsg(db));
    step(insert);
}

static void checkpoint_when_long(void)
{
    if (pages_since_checkpoint >= CHECKPOINT_PAGES) {
        (void)sqlite3_wal_checkpoint_v2(db, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
        pages_since_checkpoint = 0;
    }
}

static void close_db(void)
{
    (void)sqlite3_finalize(begin);
    (void)sqlite3_finalize(insert);
    (void)sqlite3_finalize(commit);
    (void)sqlite3_close(db);
}

/* Everything that waits becomes one transaction; after it, everybody is told. */
static void *writer(void *unused)
{
    (void)pthread_mutex_lock(&mu);
    for (;;) {
        while (waiting == NULL && !stopping)
            (void)pthread_cond_wait(&work, &mu);
        struct request *group = waiting;
        waiting = NULL;
        if (group == NULL)
            break;
        (void)pthread_mutex_unlock(&mu);
        step(begin);
        for (struct request *rq = group; rq != NULL; rq = rq->next)
            insert_row(rq->body, rq->n);
        step(commit);
        while (group != NULL) {
            struct request *rq = group;
            group = rq->next; /* rq may be gone once it is resumed */
            rq->written = true;
            MHD_resume_connection(rq->connection);
        }
        checkpoint_when_long();
        (void)pthread_mutex_lock(&mu);
    }
    (void)pthread_mutex_unlock(&mu);
    return unused;
}

/* ---- HTTP ---- */

static enum MHD_Result answer(struct MHD_Connection *connection)
{
    struct MHD_Response *response =
        MHD_create_response_from_buffer(sizeof ANSWER - 1, (void *)(uintptr_t)ANSWER, MHD_RESPMEM_PERSISTENT);
    enum MHD_Result result = MHD_NO;

    if (response == NULL)
        return MHD_NO;
    if (MHD_add_response_header(response, "Content-Type", "application/json") == MHD_YES)
        result = MHD_queue_response(connection, db != NULL ? 201 : 200, response);
    MHD_destroy_response(response);
    return result;
}

static enum MHD_Result on_call(void *context, struct MHD_Connection *connection, const char *url, const char *method,
                               const char *version, const char *upload, size_t *n_upload, void **request)
{
    struct request *rq = *request;

    (void)context, (void)url, (void)method, (void)version;
    if (rq == NULL) {
        rq = malloc(sizeof *rq);
        if (rq == NULL)
            return MHD_NO;
        rq->connection = connection;
        rq->n = 0;
        rq->written = false;
        *request = rq;
        return MHD_YES;
    }
    if (*n_upload > 0) {
        if (*n_upload > BODY_BYTES - rq->n)
            return MHD_NO;
        memcpy(rq->body + rq->n, upload, *n_upload);
        rq->n += *n_upload;
        *n_upload = 0;
        return MHD_YES;
    }
    if (db == NULL || rq->written)
        return answer(connection);
    MHD_suspend_connection(connection);
    (void)pthread_mutex_lock(&mu);
    rq->next = waiting;
    if (waiting == NULL)
        (void)pthread_cond_signal(&work);
    waiting = rq;
    (void)pthread_mutex_unlock(&mu);
    return MHD_YES;
}

static void on_completed(void *context, struct MHD_Connection *connection, void **request,
                         enum MHD_RequestTerminationCode code)
{
    (void)context, (void)connection, (void)code;
    free(*request);
    *request = NULL;
}

static void serve(void)
{
    struct MHD_OptionItem options[] = {
        {MHD_OPTION_THREAD_POOL_SIZE, THREADS, NULL},
        {MHD_OPTION_CONNECTION_LIMIT, CONNECTIONS, NULL},
        {MHD_OPTION_CONNECTION_TIMEOUT, IDLE_SECONDS, NULL},
        {MHD_OPTION_CONNECTION_MEMORY_LIMIT, MEMORY_BYTES, NULL},
        {MHD_OPTION_CONNECTION_MEMORY_INCREMENT, MEMORY_STEP, NULL},
#if MHD_VERSION >= 0x00097701
        {MHD_OPTION_CLIENT_DISCIPLINE_LVL, 2, NULL},
#else
        {MHD_OPTION_STRICT_FOR_CLIENT, 1, NULL},
#endif
        {MHD_OPTION_END, 0, NULL},
    };
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    sigset_t signals;
    int got;

    (void)sigemptyset(&signals);
    (void)sigaddset(&signals, SIGTERM);
    (void)sigaddset(&signals, SIGINT);
    (void)pthread_sigmask(SIG_BLOCK, &signals, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
    struct MHD_Daemon *daemon =
        MHD_start_daemon(MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ITC | MHD_USE_ERROR_LOG, 0,
                         NULL, NULL, on_call, NULL, MHD_OPTION_SOCK_ADDR, &address, MHD_OPTION_NOTIFY_COMPLETED,
                         on_completed, NULL, MHD_OPTION_ARRAY, options, MHD_OPTION_END);
    const union MHD_DaemonInfo *port = daemon == NULL ? NULL : MHD_get_daemon_info(daemon, MHD_DAEMON_INFO_BIND_PORT);
    if (port == NULL)
        give_up("cannot listen");
    printf("listening on http://127.0.0.1:%u\n", (unsigned)port->port);
    (void)fflush(stdout);
    (void)sigwait(&signals, &got);
    (void)MHD_quiesce_daemon(daemon); /* load has ended before: nothing is suspended now */
    MHD_stop_daemon(daemon);
}

/* ---- commands ---- */

static void serve_inserts(const char *path)
{
    pthread_t thread;

    open_db(path);
    if (pthread_create(&thread, NULL, writer, NULL) != 0)
        give_up("no thread");
    serve();
    (void)pthread_mutex_lock(&mu);
    stopping = true;
    (void)pthread_cond_signal(&work);
    (void)pthread_mutex_unlock(&mu);
    (void)pthread_join(thread, NULL);
    close_db();
}

static void commits(const char *path, long rows)
{
    struct timespec a, b;
    char body[80];

    open_db(path);
    (void)clock_gettime(CLOCK_MONOTONIC, &a);
    for (long i = 0; i < rows; i++) {
        int n = snprintf(body, sizeof body, "{\"instance\":\"i%ld\",\"annotator\":\"r1-0-%ld\",\"class\":\"c%ld\"}",
                         i % 1000, i / 1000, i % 10);
        step(begin);
        insert_row(body, (size_t)n);
        step(commit);
        checkpoint_when_long();
    }
    (void)clock_gettime(CLOCK_MONOTONIC, &b);
    double seconds = (double)(b.tv_sec - a.tv_sec) + 1e-9 * (double)(b.tv_nsec - a.tv_nsec);
    printf("%.1f\n", (double)rows / seconds);
    close_db();
}

int main(int argc, char **argv)
{
    const char *command = argc > 1 ? argv[1] : "";
    char *end;

    if (strcmp(command, "answer") == 0) {
        serve();
    } else if (strcmp(command, "insert") == 0 && argc > 2) {
        serve_inserts(argv[2]);
    } else if (strcmp(command, "commits") == 0 && argc > 3) {
        long rows = strtol(argv[3], &end, 10);
        if (rows < 1 || *end != '\0')
            give_up("ROWS is a number from 1 on");
        commits(argv[2], rows);
    } else {
        give_up("answer, insert DB or commits DB ROWS");
    }
    return 0;
}
