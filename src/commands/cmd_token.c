/* cmd_token.c - `annotmixd token create|list|revoke`: asks the service over FILE.sock, so that a revoked token stops working
 * at once. The token itself is printed once, by create; only its SHA-256 is kept. */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "client.h"
#include "cmd.h"
#include "util/error.h"

static const char usage[] = "create --name N --scope S[,S] | list | revoke ID   [--db FILE] [--json]";

struct words {
    const char *db, *name, *scope, *project, *annotator, *expires;
    bool json;
};

/* Sends one request and gives the parsed answer (NULL for 204). */
static enum amx_status exchange(struct client *client, const char *method, const char *path, const json_t *body,
                                json_t **out, struct amx_error *err)
{
    struct client_answer answer;
    enum amx_status status = client_call(client, method, path, body, &answer, err);

    *out = NULL;
    if (status != AMX_OK)
        return status;
    status = client_problem(&answer, err);
    if (status == AMX_OK && answer.status != 204)
        status = client_json(&answer, out, err);
    buf_done(&answer.body);
    return status;
}

static void print_json(const json_t *json)
{
    if (json != NULL && json_dumpf(json, stdout, JSON_COMPACT) == 0)
        putchar('\n');
}

static enum amx_status create(struct client *client, const struct words *w, struct amx_error *err)
{
    json_auto_t *body = NULL, *answer = NULL, *scopes = options_list(w->scope);
    enum amx_status status;

    if (scopes != NULL)
        body = json_pack("{s:s, s:O, s:s*, s:s*, s:s*}", "name", w->name, "scopes", scopes, "project", w->project,
                         "annotator", w->annotator, "expires_at", w->expires);
    if (body == NULL)
        return error_set(err, AMX_INVALID, "the name and the scopes must be valid UTF-8");
    status = exchange(client, "POST", "/v1/tokens", body, &answer, err);
    if (status != AMX_OK)
        return status;
    if (w->json)
        print_json(answer);
    else
        printf("%s\n", json_string_value(json_object_get(answer, "token")));
    return AMX_OK;
}

static void print_row(const json_t *token)
{
    const json_t *scopes = json_object_get(token, "scopes"), *scope;
    const char *project = json_string_value(json_object_get(token, "project"));
    const char *annotator = json_string_value(json_object_get(token, "annotator"));
    const char *expires = json_string_value(json_object_get(token, "expires_at"));
    char text[64] = "";
    size_t i, n = 0;

    json_array_foreach(scopes, i, scope) {
        int more = snprintf(text + n, sizeof text - n, "%s%s", i > 0 ? "," : "", json_string_value(scope));

        if (more > 0 && n + (size_t)more < sizeof text)
            n += (size_t)more;
    }
    printf("%5lld  %-20s  %-10s  %-36s  %-16s  %-16s  %s\n", (long long)json_integer_value(json_object_get(token, "id")),
           json_string_value(json_object_get(token, "name")), json_string_value(json_object_get(token, "prefix")), text,
           project != NULL ? project : "all", annotator != NULL ? annotator : "any", expires != NULL ? expires : "never");
}

static enum amx_status list(struct client *client, const struct words *w, struct amx_error *err)
{
    char path[96] = "/v1/tokens?limit=1000";

    if (!w->json)
        printf("%5s  %-20s  %-10s  %-36s  %-16s  %-16s  %s\n", "id", "name", "begins", "scopes", "project", "annotator",
               "expires");
    for (;;) {
        json_auto_t *answer = NULL;
        const json_t *items, *item;
        const char *next;
        size_t i;
        enum amx_status status = exchange(client, "GET", path, NULL, &answer, err);

        if (status != AMX_OK)
            return status;
        items = json_object_get(answer, "items");
        json_array_foreach(items, i, item) {
            if (w->json)
                print_json(item);
            else
                print_row(item);
        }
        next = json_string_value(json_object_get(answer, "next_cursor"));
        if (next == NULL)
            return AMX_OK;
        (void)snprintf(path, sizeof path, "/v1/tokens?limit=1000&cursor=%s", next);
    }
}

static enum amx_status revoke(struct client *client, const char *id, struct amx_error *err)
{
    AUTO(buf) path = BUF_INIT(1024);
    json_auto_t *answer = NULL;

    (void)buf_text(&path, "/v1/tokens/");
    if (client_escape(&path, id) != AMX_OK)
        return error_set(err, AMX_INVALID, "the id of a token is a number; see annotmixd token list");
    return exchange(client, "DELETE", buf_string(&path), NULL, &answer, err);
}

int cmd_token(int argc, char **argv)
{
    struct words w = {0};
    const struct option table[] = {
        {"--db", "FILE", "database (default annotmix.db)", &w.db, NULL},
        {"--name", "NAME", "create: what to call the token", &w.name, NULL},
        {"--scope", "S[,S]", "create: submit, read, gold, write, train, admin", &w.scope, NULL},
        {"--project", "P", "create: only this project, or a prefix such as acme.*", &w.project, NULL},
        {"--annotator", "A", "create: only this annotator's labels", &w.annotator, NULL},
        {"--expires", "TIME", "create: RFC 3339, 2027-01-01T00:00:00Z", &w.expires, NULL},
        {"--json", NULL, "one JSON object a line", NULL, &w.json},
        {0},
    };
    const char *words[2] = {NULL, NULL};
    size_t n = 0;
    int exit_status;
    struct client *client = NULL;
    struct amx_error err = {0};
    enum amx_status status;

    if (!options_parse(argc, argv, table, usage, 1, 2, words, &n, &exit_status))
        return exit_status;
    bool creates = strcmp(words[0], "create") == 0, lists = strcmp(words[0], "list") == 0;

    if ((!creates && !lists && strcmp(words[0], "revoke") != 0) || n != (creates || lists ? 1 : 2) ||
        (creates && (w.name == NULL || w.scope == NULL))) {
        command_error("token", "usage: annotmixd token %s", usage);
        return EXIT_USAGE;
    }
    status = client_open(cmd_db_path(w.db), &client, &err);
    if (status == AMX_OK) {
        status = creates ? create(client, &w, &err) : lists ? list(client, &w, &err) : revoke(client, words[1], &err);
        client_close(client);
    }
    return cmd_end("token", status, &err);
}
