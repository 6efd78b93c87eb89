/* cmd_import.c - `annotmixd import PROJECT DIR`: sends a data folder (layout: data_dir.h) to a project, which is made when it
 * does not exist. The files go to the service as they are, unpacked and streamed, so the server's own reader judges every
 * row and memory stays small; rows that are refused are listed with file and line, all others are kept. Sending the same
 * folder again changes nothing (every row is an upsert). */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "client.h"
#include "cmd.h"
#include "files/data_dir.h"
#include "progress_bar.h"
#include "util/error.h"

struct import {
    struct client *client;
    const char *project, *dir;
    struct buf base; /* "/v1/projects/NAME" */
    struct progress_bar bar;
    bool json;
    json_t *totals; /* by file: the server's bulk answers */
    uint64_t n_rejected;
};

/* One file on its way: gzread gives plain files as they are. */
struct sending {
    struct import *import;
    const char *name;
    gzFile file;
    double size; /* bytes on disk, for the bar */
};

static size_t read_some(void *context, char *out, size_t n)
{
    struct sending *sending = context;
    int got = gzread(sending->file, out, n > (1U << 30) ? 1U << 30 : (unsigned)n);

    if (got < 0)
        return (size_t)-1;
    if (sending->size > 0)
        progress_bar_draw(&sending->import->bar, (double)gzoffset(sending->file) / sending->size, sending->name);
    return (size_t)got;
}

/* Opens DIR/name or DIR/name.gz; false when neither is there. */
static bool open_file(struct import *import, const char *name, struct sending *out)
{
    static const char *const endings[] = {"", ".gz"};

    for (int i = 0; i < 2; i++) {
        AUTO(buf) path = BUF_INIT(4096);
        struct stat about;

        if (buf_printf(&path, "%s/%s%s", import->dir, name, endings[i]) != AMX_OK ||
            stat(buf_string(&path), &about) != 0)
            continue;
        out->file = gzopen(buf_string(&path), "rb");
        if (out->file == NULL)
            continue;
        out->import = import;
        out->name = name;
        out->size = (double)about.st_size;
        return true;
    }
    return false;
}

static long long count_of(const json_t *answer, const char *name)
{
    return (long long)json_integer_value(json_object_get(answer, name));
}

/* Prints one file's line of the table and the rows that were refused. */
static void tell(struct import *import, const char *name, const json_t *answer)
{
    const json_t *errors = json_object_get(answer, "errors"), *error;
    size_t i;

    import->n_rejected += (uint64_t)count_of(answer, "rejected");
    if (!import->json)
        printf("%-16s %9lld rows, %9lld new, %9lld rejected\n", name,
               count_of(answer, "accepted") + count_of(answer, "rejected"), count_of(answer, "created"),
               count_of(answer, "rejected"));
    json_array_foreach(errors, i, error)
        command_error("import", "%s line %lld: %s", name, count_of(error, "line"),
                      json_string_value(json_object_get(error, "detail")));
}

/* Sends one file if the folder has it. query: "" or "?...". */
static enum amx_status send_file(struct import *import, const char *name, const char *resource, const char *query,
                                 struct amx_error *err)
{
    AUTO(buf) path = BUF_INIT(4096);
    json_auto_t *answer_json = NULL;
    struct client_answer answer;
    struct sending sending;
    enum amx_status status;

    if (!open_file(import, name, &sending))
        return AMX_OK;
    (void)buf_printf(&path, "%s/%s%s", buf_string(&import->base), resource, query);
    status = path.status != AMX_OK ? error_set(err, path.status, "the name of the project is too long")
                                   : client_upload(import->client, buf_string(&path), "text/csv", read_some, &sending,
                                                   &answer, err);
    (void)gzclose_r(sending.file);
    progress_bar_end(&import->bar);
    if (status != AMX_OK)
        return status;
    status = client_json(&answer, &answer_json, err);
    if (status == AMX_OK && json_is_integer(json_object_get(answer_json, "rejected"))) {
        tell(import, name, answer_json); /* also when all rows were refused (422 with the same members) */
        if (json_object_set(import->totals, name, answer_json) != 0)
            status = error_set(err, AMX_NO_MEMORY, "out of memory");
    } else if (status == AMX_OK) {
        status = client_problem(&answer, err);
    }
    buf_done(&answer.body);
    return status;
}

static enum amx_status create_project(struct import *import, struct amx_error *err)
{
    struct data_dir dir;
    struct client_answer answer;
    json_auto_t *body = NULL, *classes = json_array();
    enum amx_status status = data_dir_read(import->dir, &dir, err);

    if (status != AMX_OK)
        return status;
    for (size_t i = 0; classes != NULL && i < dir.n_classes; i++) {
        if (json_array_append_new(classes, json_string(dir.classes[i])) != 0)
            status = AMX_NO_MEMORY;
    }
    if (classes != NULL && status == AMX_OK)
        body = json_pack("{s:s, s:O, s:I}", "name", import->project, "classes", classes, "feature_dim",
                         (json_int_t)dir.n_features);
    data_dir_done(&dir);
    if (body == NULL)
        return error_set(err, AMX_INVALID, "the names of the project and of its classes must be valid UTF-8");
    status = client_call(import->client, "POST", "/v1/projects", body, &answer, err);
    if (status != AMX_OK)
        return status;
    status = client_problem(&answer, err);
    buf_done(&answer.body);
    return status;
}

static enum amx_status need_project(struct import *import, struct amx_error *err)
{
    struct client_answer answer;
    enum amx_status status = client_call(import->client, "GET", buf_string(&import->base), NULL, &answer, err);
    long http_status;

    if (status != AMX_OK)
        return status;
    http_status = answer.status;
    status = http_status == 404 ? AMX_OK : client_problem(&answer, err);
    buf_done(&answer.body);
    return http_status == 404 ? create_project(import, err) : status;
}

static enum amx_status import_folder(struct import *import, struct amx_error *err)
{
    static const struct {
        const char *file, *resource;
    } files[] = {{"instances.csv", "instances"}, {"awaiting.csv", "instances"}, {"labels.csv", "labels"},
                 {"labels_test.csv", "labels"},  {"gold.csv", "gold"}};
    enum amx_status status = need_project(import, err);

    for (size_t i = 0; i < sizeof files / sizeof files[0] && status == AMX_OK; i++)
        status = send_file(import, files[i].file, files[i].resource, "", err);
    return status;
}

int cmd_import(int argc, char **argv)
{
    const char *db = NULL, *words[2] = {NULL, NULL};
    struct import import = {.base = BUF_INIT(1024)};
    const struct option table[] = {{"--db", "FILE", "database (default annotmix.db)", &db, NULL},
                                   {"--json", NULL, "print the server's answers as one JSON object", NULL, &import.json},
                                   {0}};
    size_t n_words = 0;
    int exit_status;
    struct stat about;
    struct amx_error err = {0};
    enum amx_status status;

    if (!options_parse(argc, argv, table, "PROJECT DIR [--db FILE] [--json]", 2, 2, words, &n_words, &exit_status))
        return exit_status;
    import.project = words[0];
    import.dir = words[1];
    if (stat(import.dir, &about) != 0 || !S_ISDIR(about.st_mode)) {
        command_error("import", "%s is no folder", import.dir);
        return EXIT_FAILED;
    }
    progress_bar_init(&import.bar, STDERR_FILENO);
    import.totals = json_object();
    (void)buf_text(&import.base, "/v1/projects/");
    status = import.totals == NULL || client_escape(&import.base, import.project) != AMX_OK ? AMX_NO_MEMORY
                                                                                        : AMX_OK;
    if (status == AMX_OK)
        status = client_open(cmd_db_path(db), &import.client, &err);
    if (status == AMX_OK)
        status = import_folder(&import, &err);
    client_close(import.client);
    if (status == AMX_OK && import.json && json_dumpf(import.totals, stdout, JSON_COMPACT) == 0)
        putchar('\n');
    json_decref(import.totals);
    buf_done(&import.base);
    if (status == AMX_OK && import.n_rejected > 0)
        return EXIT_FAILED;
    return cmd_end("import", status, &err);
}
