/* auth.h - who may come in. One cache of the tokens in memory, loaded at start and changed by the writer's done(), so
 * that authentication touches no database and a revoked token stops working at once.
 *
 * A request is somebody: a token, the Unix socket or an open server (both: every scope, no limits), or nobody. Handlers
 * ask the functions below; they look at the request's header each time (a hash of 47 bytes), so nothing hangs on the
 * request.
 */
#ifndef ENDPOINTS_AUTH_H
#define ENDPOINTS_AUTH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "annotmix.h"
#include "http/http.h"
#include "util/utf8.h"
#include "work/service.h"

/* Scopes are a set. http_route.scope is the set of which ONE suffices; admin is in all of them. */
enum {
    SCOPE_PUBLIC = 0, /* as a route's scope: no token needed */
    SCOPE_SUBMIT = 1 << 0,
    SCOPE_READ = 1 << 1,
    SCOPE_GOLD = 1 << 2,
    SCOPE_WRITE = 1 << 3,
    SCOPE_TRAIN = 1 << 4,
    SCOPE_ADMIN = 1 << 5,
    SCOPE_ANY = (1 << 6) - 1 /* as a route's scope: any token that is valid */
};
enum { AUTH_TOKEN_BYTES = 47, AUTH_PREFIX_BYTES = 8, AUTH_PATTERN_BYTES = 80 };

struct auth_identity {
    unsigned scopes;
    int64_t token_id;                   /* 0: no token (socket, or auth is off) */
    char project[AUTH_PATTERN_BYTES];   /* "" = all; "name"; "acme.*" = every name that starts with "acme." */
    char annotator[NAME_MAX_BYTES + 1]; /* "" = any; else this token writes and reads only this annotator's labels */
};

/* app->gate: Host rule while auth is off (421), Bearer header (401), the route's scope (403). Replies when false. */
bool auth_gate(struct http_request *rq);

/* Who this is; false: nobody (no token, unknown, expired, revoked since the gate). */
bool auth_identify(const struct http_request *rq, struct auth_identity *out);
/* Has one of these scopes. */
bool auth_has(const struct http_request *rq, unsigned scopes);
/* Key of the token's row; 0 without one. */
int64_t auth_token_id(const struct http_request *rq);
/* True when the token is bound to one annotator, whose name is then in out (0-terminated). */
bool auth_annotator(const struct http_request *rq, char out[NAME_MAX_BYTES + 1]);
/* The project's name is within the token's reach. Outside it: 404 for everything but creation, which is 403. */
bool auth_project_allowed(const struct http_request *rq, const char *project);
bool auth_reaches(const struct auth_identity *who, const char *project);

/* "submit,read" <-> bits. False names the first word that is no scope in *bad (borrowed from text, length *n). */
bool auth_scopes_parse(const char *text, unsigned *out, const char **bad, size_t *n);
/* JSON array of scope names, fixed order. */
json_t *auth_scopes_json(unsigned scopes);

/* ---- for tokens.c and the start of the service ----------------------------------------------------------------------
 */

struct auth_token {
    int64_t id;
    uint8_t sha256[32];
    struct auth_identity who;
    int64_t expires_ms; /* 0 = never */
};
/* Loads the tokens from the store, sets service->auth_required by --auth, the address and the tokens there are, and
 * (where tokens are required and none exists) makes one admin token and prints it once on standard error. The
 * ANNOTMIX_ADMIN_TOKEN_FILE token is read here. Before the server starts; auth_stop after it stopped. */
AMX_CHECK enum amx_status auth_start(struct service *service, const char *admin_token_file, struct amx_error *err);
void auth_stop(void);
/* After COMMIT. add replaces a token of the same id. */
AMX_CHECK enum amx_status auth_cache_add(const struct auth_token *token);
void auth_cache_remove(int64_t id);
/* 256 random bits as "amx_" + 43 characters, and their SHA-256 (of the whole text). */
AMX_CHECK enum amx_status auth_token_make(char text[AUTH_TOKEN_BYTES + 1], uint8_t sha256[32]);

#endif
