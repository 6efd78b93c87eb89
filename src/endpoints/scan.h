/* scan.h - a strict JSON scanner that builds no tree: rows of bulk bodies (labels, instances, gold) and single labels.
 *
 * Why not Jansson here: a tree of an array of numbers takes twenty times its text, its errors know no pointer (NaN in
 * element 5 of features is "invalid token"), and a label is three short strings. The grammar is RFC 8259's, whole:
 * strings are checked for control characters, escapes, lone surrogates and \u0000 (UTF-8 by the caller, once per
 * text). One relaxation: NaN, Infinity and -Infinity are recognised as values, so that the error can name them;
 * scan_skip passes over them and sets not_finite. Everything else of the program reads JSON by util/jsonx.h.
 */
#ifndef ENDPOINTS_SCAN_H
#define ENDPOINTS_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "annotmix.h"
#include "util/buf.h"

enum {
    SCAN_DEPTH = 64
};

struct scan {
    const char *begin, *p, *end;
    const char *why; /* static: first error of grammar; NULL = none */
    bool not_finite; /* scan_skip saw NaN or Infinity */
};

enum scan_kind {
    SCAN_END,
    SCAN_OBJECT,
    SCAN_ARRAY,
    SCAN_STRING,
    SCAN_NUMBER,
    SCAN_TRUE,
    SCAN_FALSE,
    SCAN_NULL,
    SCAN_NOT_FINITE,
    SCAN_OTHER
};

struct scan_text {
    struct slice raw; /* between the quotes, into the text scanned */
    bool escaped;     /* holds escapes: scan_unescape makes the string */
};

void scan_init(struct scan *s, const char *text, size_t n);
/* What comes next, blanks passed over; a hint by its first bytes, checked when read. */
enum scan_kind scan_peek(struct scan *s);
/* All return false on an error of grammar: s->why says what, s->p where. */
bool scan_string(struct scan *s, struct scan_text *out);
bool scan_skip(struct scan *s); /* any value; nesting up to SCAN_DEPTH */
bool scan_done(struct scan *s); /* only blanks are left */
/* Members of an object, elements of an array: *n = 0 at the opening bracket; each call that returns 1 leaves s at the
 * value (which must then be read or skipped); 0 = closed; -1 = grammar. */
int scan_member(struct scan *s, size_t *n, struct scan_text *key);
int scan_element(struct scan *s, size_t *n);
/* A number. *raw is its text; false also when there is none. *out is correctly rounded; infinite when it overflows. */
bool scan_number(struct scan *s, struct slice *raw, double *out);

/* Decodes escapes; out has room for raw.n bytes. Returns the length. Only for text that scan_string accepted. */
size_t scan_unescape(struct slice raw, char *out);
/* The key is this word (escapes decoded). */
bool scan_is(const struct scan_text *text, const char *word);
/* AMX_INVALID "not JSON: column N: why". */
enum amx_status scan_error(const struct scan *s, struct amx_error *err);

#endif
