/* bulk_json.c - rows from NDJSON lines and from the array of a whole JSON body.
 *
 * A whole body is gone through twice: first for its grammar and its outer object, so that text that is not JSON changes
 * nothing; then element by element. Both passes build no tree.
 */
#include <stdlib.h>
#include <string.h>

#include "endpoints/intake/bulk.h"
#include "util/error.h"
#include "util/size.h"
#include "util/utf8.h"

/* ---- NDJSON ---- */

static enum amx_status parse_line(struct bulk *b, struct bulk_row *row, const char *text, size_t n,
                                  struct amx_error *err)
{
    if (!utf8_valid(text, n)) {
        b->context.problem = PROBLEM_MALFORMED_BODY;
        return error_set(err, AMX_INVALID, "not JSON: invalid UTF-8");
    }
    struct scan s;
    scan_init(&s, text, n);
    enum amx_status status = b->kind->json(&b->context, &s, bulk_arena(b), row, err);
    if (status == AMX_OK && !scan_done(&s)) {
        b->context.problem = PROBLEM_MALFORMED_BODY;
        status = scan_error(&s, err);
    }
    return status;
}

enum amx_status bulk_ndjson_line(void *context, uint64_t number, const char *text, size_t n, struct amx_error *err)
{
    struct bulk *b = context;
    struct bulk_row *row = bulk_row(b, number);
    if (row == NULL)
        return error_set(err, AMX_NO_MEMORY, "out of memory");
    struct amx_error why = {.code = AMX_OK};
    enum amx_status status = parse_line(b, row, text, n, &why);
    status = bulk_row_end(b, row, status, &why);
    if (status != AMX_OK && err != NULL)
        *err = b->failure;
    return status;
}

/* ---- a set of names: what stands twice in one body ---- */

struct bulk_keys {
    struct arena arena;
    struct slice *slots; /* [capacity] a power of two; bytes NULL = free */
    size_t n, capacity;
};

static uint64_t hash_of(struct slice key)
{
    uint64_t hash = 1469598103934665603U; /* FNV-1a */
    for (size_t i = 0; i < key.n; i++)
        hash = (hash ^ (unsigned char)key.bytes[i]) * 1099511628211U;
    return hash ^ hash >> 29;
}

/* The slot of this key, or the free one where it belongs. */
static struct slice *slot_of(struct slice *slots, size_t capacity, struct slice key)
{
    size_t at = (size_t)hash_of(key) & (capacity - 1);
    while (slots[at].bytes != NULL && (slots[at].n != key.n || memcmp(slots[at].bytes, key.bytes, key.n) != 0))
        at = (at + 1) & (capacity - 1);
    return &slots[at];
}

static bool keys_grow(struct bulk_keys *keys)
{
    size_t capacity = keys->capacity == 0 ? 64 : keys->capacity * 2;
    struct slice *slots = calloc(capacity, sizeof *slots);
    if (slots == NULL)
        return false;
    for (size_t i = 0; i < keys->capacity; i++)
        if (keys->slots[i].bytes != NULL)
            *slot_of(slots, capacity, keys->slots[i]) = keys->slots[i];
    free(keys->slots);
    keys->slots = slots;
    keys->capacity = capacity;
    return true;
}

/* AMX_CONFLICT when it is there already. */
static enum amx_status keys_add(struct bulk_keys *keys, struct slice key)
{
    if (keys->n * 2 >= keys->capacity && !keys_grow(keys))
        return AMX_NO_MEMORY;
    struct slice *slot = slot_of(keys->slots, keys->capacity, key);
    if (slot->bytes != NULL)
        return AMX_CONFLICT;
    const char *copy = arena_copy(&keys->arena, key.bytes, key.n);
    if (copy == NULL)
        return AMX_NO_MEMORY;
    *slot = (struct slice){copy, key.n};
    keys->n++;
    return AMX_OK;
}

/* ---- the whole body ---- */

/* First pass over the root object: grammar everywhere, and where the array begins. Returns false when it has replied.
 * */
static bool find_array(struct http_request *rq, struct bulk *b, struct scan *s, const char **array)
{
    const char *member = b->kind->member;
    struct scan_text key;
    size_t n = 0;
    int got;
    bool twice = false;
    char unknown[64] = "";
    if (scan_peek(s) != SCAN_OBJECT) {
        if (scan_skip(s) && scan_done(s)) {
            problem_reply_as(rq, PROBLEM_INVALID_BODY, "the body must be an object: {\"%s\": [...]}", member);
            return false;
        }
        got = -1;
    } else {
        while ((got = scan_member(s, &n, &key)) == 1) {
            (void)scan_peek(s); /* to the value */
            if (scan_is(&key, member)) {
                twice = twice || *array != NULL;
                *array = s->p;
            } else if (unknown[0] == '\0') {
                size_t length = key.raw.n < sizeof unknown - 2 ? key.raw.n : sizeof unknown - 2;
                unknown[0] = '/';
                memcpy(unknown + 1, key.raw.bytes, length); /* as it is written: escapes included */
                unknown[length + 1] = '\0';
            }
            if (!scan_skip(s)) {
                got = -1;
                break;
            }
        }
        if (got == 0 && !scan_done(s))
            got = -1;
    }
    if (got < 0) {
        struct amx_error err;
        scan_error(s, &err);
        problem_reply_error(rq, PROBLEM_MALFORMED_BODY, &err);
        return false;
    }
    if (unknown[0] != '\0') {
        problem_reply_at(rq, PROBLEM_INVALID_BODY, unknown, "there is no such field");
        return false;
    }
    if (twice || *array == NULL || **array != '[') {
        problem_reply_as(rq, PROBLEM_INVALID_BODY,
                         twice ? "the key \"%s\" stands there twice" : "\"%s\" must be an array", member);
        return false;
    }
    return true;
}

bool bulk_json_open(struct http_request *rq, struct bulk *b)
{
    size_t n;
    const char *body = http_body(rq, &n), *array = NULL;
    if (n == 0) {
        problem_reply_as(rq, PROBLEM_MALFORMED_BODY, "the body is empty; JSON is expected");
        return false;
    }
    if (!utf8_valid(body, n)) {
        problem_reply_as(rq, PROBLEM_MALFORMED_BODY, "the body is not valid UTF-8");
        return false;
    }
    b->bytes = n;
    struct scan s;
    scan_init(&s, body, n);
    if (!find_array(rq, b, &s, &array))
        return false;
    if (b->kind->key != NULL && (b->keys = calloc(1, sizeof *b->keys)) == NULL) {
        problem_reply_as(rq, PROBLEM_NO_MEMORY, "out of memory");
        return false;
    }
    scan_init(&b->scan, body, n);
    b->scan.p = array;
    return true;
}

/* Element at b->scan into row; afterwards the scan stands behind the element, whatever was wrong with it. */
static enum amx_status parse_element(struct bulk *b, struct bulk_row *row, struct amx_error *err)
{
    const char *start = b->scan.p;
    enum amx_status status = b->kind->json(&b->context, &b->scan, bulk_arena(b), row, err);
    if (status != AMX_OK) {
        b->scan.p = start;
        b->scan.why = NULL;
        return scan_skip(&b->scan) ? status : scan_error(&b->scan, err); /* it passed in the first pass */
    }
    if (b->kind->key == NULL)
        return AMX_OK;
    status = keys_add(b->keys, b->kind->key(row));
    if (status == AMX_NO_MEMORY)
        return error_set(err, AMX_NO_MEMORY, "out of memory");
    if (status == AMX_OK)
        return AMX_OK;
    const char *name = b->kind->id == BULK_INSTANCES ? "id" : "instance";
    return row_fail(&b->context, PROBLEM_INVALID_BODY, err, "", name, "%s stands in this body twice", name);
}

void bulk_json_read(struct bulk *b, size_t rows, bool *ended)
{
    for (size_t i = 0; i < rows; i++) {
        int got = scan_element(&b->scan, &b->scanned);
        if (got != 1) {
            *ended = true;
            return;
        }
        struct bulk_row *row = bulk_row(b, b->scanned);
        if (row == NULL)
            return;
        struct amx_error err = {.code = AMX_OK};
        enum amx_status status = parse_element(b, row, &err);
        if (bulk_row_end(b, row, status, &err) != AMX_OK)
            return;
    }
}

void bulk_json_close(struct bulk *b)
{
    if (b->keys == NULL)
        return;
    arena_done(&b->keys->arena);
    free(b->keys->slots);
    free(b->keys);
    b->keys = NULL;
}
