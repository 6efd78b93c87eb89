/* client.c - the commands' side of FILE.sock, by libcurl (the only file that includes it).
 *
 * libcurl reads ~/.curlrc never (that is the tool), but honours proxy variables: they are switched off, a Unix socket has no
 * proxy. Answers are bounded by MAX_ANSWER_BYTES; uploads are streamed and never held. */
#include "client.h"

#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host.h"
#include "settings.h"
#include "util/error.h"
#include "util/jsonx.h"

enum { MAX_ANSWER_BYTES = 64 << 20, CONNECT_TIMEOUT_MS = 2000 };

struct client {
    CURL *curl;
    struct host *host; /* the service in our own process, or NULL when a server answers */
    char error[CURL_ERROR_SIZE];
};

struct upload {
    client_read_fn *read;
    void *context;
};

static size_t take_answer(char *bytes, size_t size, size_t n, void *context)
{
    struct client_answer *answer = context;

    /* size is 1 by libcurl's contract; any other count than n stops the exchange. */
    return buf_append(&answer->body, bytes, size * n) == AMX_OK ? n : 0;
}

static size_t give_body(char *out, size_t size, size_t n, void *context)
{
    struct upload *upload = context;
    size_t got = upload->read(upload->context, out, size * n);

    return got == (size_t)-1 ? CURL_READFUNC_ABORT : got;
}

/* Sends what has been set up on client->curl besides the URL. */
static enum amx_status perform(struct client *client, const char *path, struct curl_slist *headers,
                               struct client_answer *out, struct amx_error *err)
{
    AUTO(buf) url = BUF_INIT(8192);
    CURLcode code;

    buf_init(&out->body, MAX_ANSWER_BYTES);
    out->status = 0;
    if (buf_printf(&url, "http://localhost%s", path) != AMX_OK)
        return error_set(err, url.status, "the path of the request is too long");
    client->error[0] = '\0';
    curl_easy_setopt(client->curl, CURLOPT_URL, buf_string(&url));
    curl_easy_setopt(client->curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(client->curl, CURLOPT_WRITEFUNCTION, take_answer);
    curl_easy_setopt(client->curl, CURLOPT_WRITEDATA, out);
    code = curl_easy_perform(client->curl);
    curl_easy_getinfo(client->curl, CURLINFO_RESPONSE_CODE, &out->status);
    curl_easy_setopt(client->curl, CURLOPT_HTTPHEADER, NULL);
    if (code == CURLE_OK)
        return AMX_OK;
    buf_done(&out->body);
    if (code == CURLE_COULDNT_CONNECT)
        return error_set(err, AMX_NOT_FOUND, "no server answers on the socket");
    return error_set(err, code == CURLE_OUT_OF_MEMORY ? AMX_NO_MEMORY : AMX_IO, "%s",
                     client->error[0] != '\0' ? client->error : curl_easy_strerror(code));
}

enum amx_status client_call(struct client *client, const char *method, const char *path, const json_t *body,
                            struct client_answer *out, struct amx_error *err)
{
    struct curl_slist *headers = NULL;
    char *text = NULL;
    size_t n = 0;
    enum amx_status status = AMX_NO_MEMORY;

    curl_easy_setopt(client->curl, CURLOPT_HTTPGET, 1L);
    if (body != NULL) {
        text = jsonx_dump(body, &n);
        headers = curl_slist_append(NULL, "Content-Type: application/json");
        if (text == NULL || headers == NULL) {
            (void)error_set(err, AMX_NO_MEMORY, "out of memory");
            goto done;
        }
        curl_easy_setopt(client->curl, CURLOPT_POST, 1L);
        curl_easy_setopt(client->curl, CURLOPT_POSTFIELDS, text);
        curl_easy_setopt(client->curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)n);
    }
    curl_easy_setopt(client->curl, CURLOPT_CUSTOMREQUEST, method);
    status = perform(client, path, headers, out, err);
done:
    curl_easy_setopt(client->curl, CURLOPT_POSTFIELDS, NULL);
    curl_easy_setopt(client->curl, CURLOPT_CUSTOMREQUEST, NULL);
    curl_slist_free_all(headers);
    free(text);
    return status;
}

enum amx_status client_upload(struct client *client, const char *path, const char *media_type, client_read_fn *read,
                              void *context, struct client_answer *out, struct amx_error *err)
{
    struct upload upload = {read, context};
    struct curl_slist *headers = NULL, *more;
    AUTO(buf) type = BUF_INIT(200);
    enum amx_status status = AMX_NO_MEMORY;

    /* Length unknown: chunked. Expect is left out, nobody refuses this body by its size. */
    (void)buf_printf(&type, "Content-Type: %s", media_type);
    if (type.status == AMX_OK && (headers = curl_slist_append(NULL, buf_string(&type))) != NULL) {
        more = curl_slist_append(headers, "Transfer-Encoding: chunked");
        if (more != NULL)
            more = curl_slist_append(headers, "Expect:");
        if (more != NULL)
            status = AMX_OK;
    }
    if (status != AMX_OK) {
        curl_slist_free_all(headers);
        return error_set(err, AMX_NO_MEMORY, "out of memory");
    }
    curl_easy_setopt(client->curl, CURLOPT_POST, 1L);
    curl_easy_setopt(client->curl, CURLOPT_POSTFIELDS, NULL);
    curl_easy_setopt(client->curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)-1);
    curl_easy_setopt(client->curl, CURLOPT_READFUNCTION, give_body);
    curl_easy_setopt(client->curl, CURLOPT_READDATA, &upload);
    status = perform(client, path, headers, out, err);
    curl_easy_setopt(client->curl, CURLOPT_READFUNCTION, NULL);
    curl_easy_setopt(client->curl, CURLOPT_READDATA, NULL);
    curl_slist_free_all(headers);
    return status;
}

enum amx_status client_json(const struct client_answer *answer, json_t **out, struct amx_error *err)
{
    return jsonx_load(buf_string(&answer->body), answer->body.n, out, err);
}

enum amx_status client_problem(const struct client_answer *answer, struct amx_error *err)
{
    json_auto_t *problem = NULL;
    const json_t *first;
    const char *detail;
    enum amx_status code = AMX_INVALID;

    if (answer->status >= 200 && answer->status < 300)
        return AMX_OK;
    if (answer->status == 503 || answer->status == 507)
        code = AMX_BUSY;
    else if (answer->status == 404)
        code = AMX_NOT_FOUND;
    else if (answer->status == 409)
        code = AMX_CONFLICT;
    if (client_json(answer, &problem, NULL) != AMX_OK)
        return error_set(err, code, "the server answered %ld", answer->status);
    detail = json_string_value(json_object_get(problem, "detail"));
    first = json_array_get(json_object_get(problem, "errors"), 0);
    if (first != NULL && json_is_string(json_object_get(first, "detail"))) {
        const char *what = json_string_value(json_object_get(first, "detail"));
        json_int_t line = json_integer_value(json_object_get(first, "line"));

        if (line > 0)
            return error_set_line(err, code, (uint64_t)line, "line %lld: %s", (long long)line, what);
        return error_set(err, code, "%s", what);
    }
    return error_set(err, code, "%s", detail != NULL ? detail : "the server refused");
}

enum amx_status client_escape(struct buf *out, const char *text)
{
    static const char hex[] = "0123456789ABCDEF";

    for (; *text != '\0'; text++) {
        unsigned char c = (unsigned char)*text;

        if ((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || strchr("-._~", c) != NULL)
            (void)buf_char(out, (char)c);
        else
            (void)buf_printf(out, "%%%c%c", hex[c >> 4], hex[c & 15]);
    }
    return out->status;
}

/* True when a server answers /livez on the socket. */
static bool server_answers(struct client *client)
{
    struct client_answer answer;

    if (client_call(client, "GET", "/livez", NULL, &answer, NULL) != AMX_OK)
        return false;
    buf_done(&answer.body);
    return answer.status == 200;
}

static enum amx_status start_own_service(struct client *client, const char *db_path, struct amx_error *err)
{
    struct settings settings;
    struct host_options options = {.network = false};

    settings_default(&settings);
    options.config = settings.config;
    options.config.db_path = db_path;
    options.config.trainers = 0;
    return host_start(&options, &client->host, err);
}

/* A client whose requests go to FILE.sock; nothing is sent yet. */
static enum amx_status client_new(const char *db_path, struct client **out, struct amx_error *err)
{
    struct client *client = calloc(1, sizeof *client);
    AUTO(buf) socket_path = BUF_INIT(4096);
    enum amx_status status = AMX_NO_MEMORY;

    if (client == NULL || buf_printf(&socket_path, "%s.sock", db_path) != AMX_OK ||
        curl_global_init(CURL_GLOBAL_NOTHING) != 0 || (client->curl = curl_easy_init()) == NULL) {
        status = error_set(err, AMX_NO_MEMORY, "out of memory");
        goto failed;
    }
    curl_easy_setopt(client->curl, CURLOPT_ERRORBUFFER, client->error);
    curl_easy_setopt(client->curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(client->curl, CURLOPT_PROXY, "");
    curl_easy_setopt(client->curl, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_TIMEOUT_MS);
    if (curl_easy_setopt(client->curl, CURLOPT_UNIX_SOCKET_PATH, buf_string(&socket_path)) != CURLE_OK) {
        status = error_set(err, AMX_INVALID, "the path of the database is too long for a Unix socket");
        goto failed;
    }
    *out = client;
    return AMX_OK;
failed:
    client_close(client);
    return status;
}

enum amx_status client_connect(const char *db_path, struct client **out, struct amx_error *err)
{
    enum amx_status status = client_new(db_path, out, err);

    if (status != AMX_OK || server_answers(*out))
        return status;
    client_close(*out);
    *out = NULL;
    return error_set(err, AMX_NOT_FOUND, "no server answers on %s.sock", db_path);
}

enum amx_status client_open(const char *db_path, struct client **out, struct amx_error *err)
{
    struct client *client = NULL;
    enum amx_status status = client_new(db_path, &client, err);

    if (status != AMX_OK)
        return status;
    if (!server_answers(client))
        status = start_own_service(client, db_path, err);
    if (status != AMX_OK) {
        client_close(client);
        return status;
    }
    *out = client;
    return AMX_OK;
}

void client_close(struct client *client)
{
    if (client == NULL)
        return;
    if (client->curl != NULL)
        curl_easy_cleanup(client->curl);
    if (client->host != NULL)
        (void)host_stop(client->host); /* it has no trainers; the check of a big file ends with the process */
    curl_global_cleanup();
    free(client);
}
