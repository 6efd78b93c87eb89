/* tokens.h - access tokens: what is kept of them (never the token itself). */
#ifndef STORE_TOKENS_H
#define STORE_TOKENS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "annotmix.h"
#include "store/db.h"

/* Slices are followed by a 0 byte. */
struct token_row {
    int64_t id;
    struct slice name;
    struct slice prefix; /* first characters of the token, for people */
    uint8_t sha256[32];
    unsigned scopes;                            /* bits of endpoints/auth.h */
    struct slice project;                       /* "", a name, or a prefix "acme.*" */
    struct slice annotator;                     /* "" = any */
    int64_t created_ms, expires_ms, revoked_ms; /* 0 = never */
};
/* AMX_CONFLICT when the hash exists. row->id is ignored. */
AMX_CHECK enum amx_status tokens_insert(struct db *db, const struct token_row *row, int64_t *id, struct amx_error *err);
/* AMX_NOT_FOUND: none, or revoked already. */
AMX_CHECK enum amx_status tokens_revoke(struct db *db, int64_t id, int64_t now_ms, struct amx_error *err);
typedef enum amx_status tokens_fn(void *context, const struct token_row *row);
/* Rows with id > after, revoked ones included; limit 0 = all. more may be NULL. The row is borrowed for the call. */
AMX_CHECK enum amx_status tokens_list(struct db *db, int64_t after, size_t limit, tokens_fn *fn, void *context,
                                      bool *more, struct amx_error *err);
/* Every token ever made; 0 = a fresh file. */
AMX_CHECK enum amx_status tokens_count(struct db *db, int64_t *n, struct amx_error *err);

#endif
