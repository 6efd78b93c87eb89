/* auth.c - tokens in memory, the gate in front of every handler.
 *
 * A token is 256 random bits; what is kept is the SHA-256 of its text. Looking one up hashes what the client sent and
 * goes by that hash, so the time it takes tells nothing about any secret; the final comparison does not stop early
 * either.
 *
 * There is one cache per process, because there is one service per process. It is read under a shared lock for the time
 * of a look-up and copied out, so a token that is revoked meanwhile does no harm.
 *
 * DNS rebinding: while no token is required, a web page could make the browser of a user on this machine talk to us
 * under the page's own host name. Therefore the Host header must then name an address of ours (421 otherwise).
 */
#include "endpoints/auth.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "endpoints/page.h"
#include "endpoints/problem.h"
#include "endpoints/rate.h"
#include "endpoints/routes.h"
#include "store/store.h"
#include "store/tokens.h"
#include "util/clock.h"
#include "util/digest.h"
#include "util/error.h"
#include "util/log.h"
#include "util/random.h"
#include "work/writer.h"

enum { BUCKETS = 256, FILE_TOKEN_ID = -1, FILE_TOKEN_MIN = 16, FILE_TOKEN_MAX = 512 };

struct entry {
    struct auth_token token;
    struct entry *next;
};

static pthread_rwlock_t lock = PTHREAD_RWLOCK_INITIALIZER;
static struct entry *buckets[BUCKETS]; /* by the first byte of the hash; guarded by lock */

static const char *const scope_names[] = {"submit", "read", "gold", "write", "train", "admin"};
enum { N_SCOPES = sizeof scope_names / sizeof scope_names[0] };

bool auth_scopes_parse(const char *text, unsigned *out, const char **bad, size_t *n)
{
    unsigned scopes = 0;
    for (const char *word = text;; word++) {
        size_t length = strcspn(word, ","), i = 0;
        while (i < N_SCOPES && (strlen(scope_names[i]) != length || memcmp(scope_names[i], word, length) != 0)) {
            i++;
        }
        if (i == N_SCOPES) {
            *bad = word;
            *n = length;
            return false;
        }
        scopes |= 1u << i;
        word += length;
        if (*word == '\0') {
            break;
        }
    }
    *out = scopes;
    return true;
}

json_t *auth_scopes_json(unsigned scopes)
{
    json_t *list = json_array();
    for (size_t i = 0; list != NULL && i < N_SCOPES; i++) {
        if ((scopes & 1u << i) != 0 && json_array_append_new(list, json_string(scope_names[i])) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

/* ---- the cache
 * ------------------------------------------------------------------------------------------------------- */

static bool find(const uint8_t sha256[DIGEST_BYTES], struct auth_identity *out)
{
    int64_t now = clock_wall_ms();
    bool found = false;
    (void)pthread_rwlock_rdlock(&lock); /* fails only on misuse */
    for (const struct entry *e = buckets[sha256[0]]; e != NULL; e = e->next) {
        if (digest_same(e->token.sha256, sha256)) {
            found = e->token.expires_ms == 0 || now < e->token.expires_ms;
            *out = e->token.who;
        }
    }
    (void)pthread_rwlock_unlock(&lock);
    return found;
}

void auth_cache_remove(int64_t id)
{
    (void)pthread_rwlock_wrlock(&lock);
    for (size_t b = 0; b < BUCKETS; b++) {
        struct entry **at = &buckets[b];
        while (*at != NULL) {
            struct entry *e = *at;
            if (e->token.id != id) {
                at = &e->next;
                continue;
            }
            *at = e->next;
            free(e);
        }
    }
    (void)pthread_rwlock_unlock(&lock);
}

enum amx_status auth_cache_add(const struct auth_token *token)
{
    struct entry *e = calloc(1, sizeof *e);
    if (e == NULL) {
        return AMX_NO_MEMORY;
    }
    auth_cache_remove(token->id);
    e->token = *token;
    e->token.who.token_id = token->id;
    (void)pthread_rwlock_wrlock(&lock);
    e->next = buckets[token->sha256[0]];
    buckets[token->sha256[0]] = e;
    (void)pthread_rwlock_unlock(&lock);
    return AMX_OK;
}

void auth_stop(void)
{
    (void)pthread_rwlock_wrlock(&lock);
    for (size_t b = 0; b < BUCKETS; b++) {
        while (buckets[b] != NULL) {
            struct entry *e = buckets[b];
            buckets[b] = e->next;
            free(e);
        }
    }
    (void)pthread_rwlock_unlock(&lock);
}

/* ---- who is it
 * ------------------------------------------------------------------------------------------------------- */

static bool required(const struct service *service)
{
    return __atomic_load_n(&service->auth_required, __ATOMIC_ACQUIRE);
}

bool auth_identify(const struct http_request *rq, struct auth_identity *out)
{
    if (http_is_local_socket(rq) || !required(service_of(rq))) {
        *out = (struct auth_identity){.scopes = SCOPE_ANY};
        return true;
    }
    const char *header = http_header_in(rq, "Authorization");
    if (header == NULL || strncasecmp(header, "Bearer ", 7) != 0) {
        return false;
    }
    const char *token = header + 7 + strspn(header + 7, " ");
    uint8_t sha256[DIGEST_BYTES];
    digest_of(token, strlen(token), sha256);
    return find(sha256, out);
}

bool auth_has(const struct http_request *rq, unsigned scopes)
{
    struct auth_identity who;
    return auth_identify(rq, &who) && (who.scopes & (scopes | SCOPE_ADMIN)) != 0;
}

int64_t auth_token_id(const struct http_request *rq)
{
    struct auth_identity who;
    return auth_identify(rq, &who) ? who.token_id : 0;
}

bool auth_annotator(const struct http_request *rq, char out[NAME_MAX_BYTES + 1])
{
    struct auth_identity who;
    if (!auth_identify(rq, &who) || who.annotator[0] == '\0') {
        return false;
    }
    memcpy(out, who.annotator, sizeof who.annotator);
    return true;
}

bool auth_reaches(const struct auth_identity *who, const char *project)
{
    size_t n = strlen(who->project);
    if (n == 0) {
        return true;
    }
    if (who->project[n - 1] == '*') {
        return strncmp(who->project, project, n - 1) == 0;
    }
    return strcmp(who->project, project) == 0;
}

bool auth_project_allowed(const struct http_request *rq, const char *project)
{
    struct auth_identity who;
    return auth_identify(rq, &who) && auth_reaches(&who, project);
}

/* ---- the gate
 * -------------------------------------------------------------------------------------------------------- */

/* The host of "host:port", "[v6]:port", "host": start and length, brackets left out. */
static const char *host_part(const char *text, size_t *n)
{
    if (text[0] == '[') {
        *n = strcspn(text + 1, "]");
        return text + 1;
    }
    const char *colon = strrchr(text, ':');
    *n = colon != NULL ? (size_t)(colon - text) : strlen(text);
    return text;
}

static bool is_host(const char *host, size_t n, const char *other)
{
    return strlen(other) == n && strncasecmp(host, other, n) == 0;
}

static bool is_ip(const char *host, size_t n)
{
    char text[64];
    unsigned char address[16];
    if (n >= sizeof text) {
        return false;
    }
    memcpy(text, host, n);
    text[n] = '\0';
    return inet_pton(AF_INET, text, address) == 1 || inet_pton(AF_INET6, text, address) == 1;
}

static bool host_allowed(const struct service *service, const char *header)
{
    size_t n, own_n;
    const char *host = host_part(header, &n);
    const char *own = host_part(service->config.listen, &own_n);
    if (is_host(host, n, "localhost") || is_host(host, n, "127.0.0.1") || is_host(host, n, "::1")) {
        return true;
    }
    if (n == own_n && strncasecmp(host, own, n) == 0) {
        return true;
    }
    /* Listening everywhere: any address may be ours, and an address in the Host header is never a rebound name. */
    if ((is_host(own, own_n, "0.0.0.0") || is_host(own, own_n, "::") || own_n == 0) && is_ip(host, n)) {
        return true;
    }
    for (const char *const *allowed = service->config.allow_hosts; allowed != NULL && *allowed != NULL; allowed++) {
        if (is_host(host, n, *allowed) || strcasecmp(header, *allowed) == 0) {
            return true;
        }
    }
    return false;
}

static bool is_probe(const struct http_route *route)
{
    return strcmp(route->pattern, "/livez") == 0 || strcmp(route->pattern, "/readyz") == 0;
}

/* Names the scopes of which one would do. */
static void reply_forbidden(struct http_request *rq, unsigned scopes)
{
    char words[64] = "";
    size_t n = 0;
    for (size_t i = 0; i < N_SCOPES; i++) {
        if ((scopes & 1u << i) != 0 && n < sizeof words) {
            n += (size_t)snprintf(words + n, sizeof words - n, "%s%s", n > 0 ? " or " : "", scope_names[i]);
        }
    }
    problem_reply_as(rq, PROBLEM_FORBIDDEN, "This needs a token with the scope %s.", words);
}

/* A page of another origin can make a browser send a POST without any token (a form, a no-cors fetch), and the browser
 * says where it came from. What has no Origin is no browser, or an old one with a GET. */
static bool origin_allowed(const struct http_request *rq)
{
    const char *origin = http_header_in(rq, "Origin"), *host = http_header_in(rq, "Host");
    const char *method = http_route_of(rq)->method;
    if (origin == NULL || strcmp(method, "GET") == 0) {
        return true;
    }
    const char *authority = strstr(origin, "://");
    return authority != NULL && host != NULL && strcasecmp(authority + 3, host) == 0;
}

bool auth_gate(struct http_request *rq)
{
    const struct http_route *route = http_route_of(rq);
    const struct service *service = service_of(rq);
    if (http_is_local_socket(rq) || is_probe(route)) {
        return true;
    }
    if (!rate_address(rq)) {
        return false;
    }
    if (!required(service)) {
        const char *host = http_header_in(rq, "Host");
        if (host != NULL && !host_allowed(service, host)) {
            problem_reply_as(rq, PROBLEM_MISDIRECTED,
                             "No token is required here, so only the listening address and localhost are answered; "
                             "--allow-host adds names.");
            return false;
        }
        if (!origin_allowed(rq)) {
            problem_reply_as(rq, PROBLEM_FORBIDDEN,
                             "A page of another origin may not change anything here while no token is required.");
            return false;
        }
        return true;
    }
    if (route->scope == SCOPE_PUBLIC) {
        return true;
    }
    struct auth_identity who;
    if (!auth_identify(rq, &who)) {
        problem_reply_as(
            rq, PROBLEM_UNAUTHORIZED,
            "Send `Authorization: Bearer TOKEN`; `annotmixd token create` makes one. Unknown, expired and revoked "
            "tokens look the same.");
        return false;
    }
    if (!rate_token(rq, who.token_id)) {
        return false;
    }
    if ((who.scopes & (route->scope | SCOPE_ADMIN)) == 0) {
        reply_forbidden(rq, route->scope);
        return false;
    }
    return true;
}

/* ---- start
 * ----------------------------------------------------------------------------------------------------------- */

enum amx_status auth_token_make(char text[AUTH_TOKEN_BYTES + 1], uint8_t sha256[32])
{
    uint8_t bits[32];
    enum amx_status status = random_bytes(bits, sizeof bits);
    if (status != AMX_OK) {
        return status;
    }
    memcpy(text, "amx_", 4);
    random_base64url(bits, sizeof bits, text + 4);
    digest_of(text, AUTH_TOKEN_BYTES, sha256);
    return AMX_OK;
}

static void copy_text(char *out, size_t capacity, struct slice text)
{
    size_t n = text.n < capacity ? text.n : capacity - 1;
    if (n > 0) {
        memcpy(out, text.bytes, n);
    }
    out[n] = '\0';
}

static enum amx_status load_one(void *context, const struct token_row *row)
{
    (void)context;
    if (row->revoked_ms != 0) {
        return AMX_OK;
    }
    struct auth_token token = {.id = row->id, .expires_ms = row->expires_ms, .who = {.scopes = row->scopes}};
    memcpy(token.sha256, row->sha256, sizeof token.sha256);
    copy_text(token.who.project, sizeof token.who.project, row->project);
    copy_text(token.who.annotator, sizeof token.who.annotator, row->annotator);
    return auth_cache_add(&token);
}

static enum amx_status load_all(struct service *service, int64_t *n, struct amx_error *err)
{
    struct db *db;
    enum amx_status status = store_reader_get(service->store, &db, err);
    if (status != AMX_OK) {
        return status;
    }
    status = tokens_list(db, 0, 0, load_one, NULL, NULL, err);
    if (status == AMX_OK) {
        status = tokens_count(db, n, err);
    }
    store_reader_put(service->store, db);
    return status;
}

/* The token of ANNOTMIX_ADMIN_TOKEN_FILE: white space around it is not part of it. */
static enum amx_status load_file(const char *path, struct amx_error *err)
{
    char text[FILE_TOKEN_MAX + 64];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd < 0 ? -1 : read(fd, text, sizeof text);
    if (fd >= 0) {
        (void)close(fd); /* was only read */
    }
    if (got < 0) {
        return error_set(err, AMX_IO, "The admin token file %s cannot be read.", path);
    }
    size_t begin = 0, end = (size_t)got;
    while (begin < end && strchr(" \t\r\n", text[begin]) != NULL) {
        begin++;
    }
    while (end > begin && strchr(" \t\r\n", text[end - 1]) != NULL) {
        end--;
    }
    size_t n = end - begin;
    bool tame = n >= FILE_TOKEN_MIN && n <= FILE_TOKEN_MAX;
    for (size_t i = begin; tame && i < end; i++) {
        tame = text[i] > ' ' && text[i] < 0x7f;
    }
    if (!tame) {
        return error_set(err, AMX_INVALID,
                         "The admin token file %s must hold one word of %d to %d printable characters.", path,
                         FILE_TOKEN_MIN, FILE_TOKEN_MAX);
    }
    struct auth_token token = {.id = FILE_TOKEN_ID, .who = {.scopes = SCOPE_ADMIN}};
    digest_of(text + begin, n, token.sha256);
    explicit_bzero(text, sizeof text);
    return auth_cache_add(&token);
}

struct first_token {
    struct write_job job; /* first */
    struct token_row row;
    int64_t id;
};

static enum amx_status insert_first(struct db *db, struct write_job *job)
{
    struct first_token *first = (struct first_token *)job;
    return tokens_insert(db, &first->row, &first->id, &job->error);
}

static enum amx_status make_first(struct service *service, struct amx_error *err)
{
    char text[AUTH_TOKEN_BYTES + 1];
    struct first_token first = {.job = {.apply = insert_first}};
    enum amx_status status = auth_token_make(text, first.row.sha256);
    if (status != AMX_OK) {
        return error_set(err, status, "No random bytes for a token.");
    }
    first.row.name = (struct slice){"first", 5};
    first.row.prefix = (struct slice){text, AUTH_PREFIX_BYTES};
    first.row.scopes = SCOPE_ADMIN;
    first.row.project = first.row.annotator = (struct slice){"", 0};
    first.row.created_ms = clock_wall_ms();
    status = writer_run(service->writer, &first.job);
    if (status != AMX_OK) {
        if (err != NULL) {
            *err = first.job.error;
        }
        return status;
    }
    struct auth_token token = {.id = first.id, .who = {.scopes = SCOPE_ADMIN}};
    memcpy(token.sha256, first.row.sha256, sizeof token.sha256);
    status = auth_cache_add(&token);
    if (status == AMX_OK) {
        (void)fprintf(stderr, "annotmixd: first start with tokens required. Admin token, shown this once: %s\n", text);
    }
    explicit_bzero(text, sizeof text);
    return status;
}

static bool is_loopback(const char *listen)
{
    size_t n;
    const char *host = host_part(listen, &n);
    return strncmp(host, "127.", 4) == 0 || is_host(host, n, "::1") || is_host(host, n, "localhost");
}

enum amx_status auth_start(struct service *service, const char *admin_token_file, struct amx_error *err)
{
    int64_t n = 0;
    enum amx_status status = load_all(service, &n, err);
    if (status == AMX_OK && admin_token_file != NULL) {
        status = load_file(admin_token_file, err);
        n++;
    }
    if (status != AMX_OK) {
        auth_stop();
        return status;
    }
    const char *mode = service->config.auth;
    bool open =
        strcmp(mode, "none") == 0 || (strcmp(mode, "auto") == 0 && n == 0 && is_loopback(service->config.listen));
    __atomic_store_n(&service->auth_required, !open, __ATOMIC_RELEASE);
    if (open) {
        log_warn(strcmp(mode, "none") == 0 ? "no token is required: --auth none"
                                           : "no token is required: loopback address and no token made yet");
        return AMX_OK;
    }
    if (n == 0) {
        status = make_first(service, err);
        if (status != AMX_OK) {
            auth_stop();
        }
    }
    return status;
}
