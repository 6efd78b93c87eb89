/* head.c - the head of a request, byte by byte, where libmicrohttpd tells half of it (0.9.75).
 *
 * 0.9.75 takes a NUL for the end of a target or a value, a header without a name for the end of all headers, a bare LF
 * for a line end, and joins folded lines: Transfer-Encoding in a folded line is then not seen at all. None of that
 * shows in the headers it hands out. But it parses in place: method, target, version, names and values point into the
 * bytes as they came, whose number it tells. So the head is walked once, and every byte must be a part of what was
 * handed out or a separator in its place. From 1.0 on the library refuses such heads itself (CLIENT_DISCIPLINE_LVL 1
 * and more) and does not parse in place; there this file does nothing.
 */
#include <string.h>

#include "http/http_int.h"

struct walk {
    const char *at, *end;
    bool ok;
};

/* CR and LF, both overwritten with 0 by the library. Never reads beyond the head. */
static bool skip_line_end(struct walk *w)
{
    if (w->end - w->at < 2 || w->at[0] != '\0' || w->at[1] != '\0')
        return false;
    w->at += 2;
    return true;
}

static mhd_result next_header(void *context, enum MHD_ValueKind kind, const char *name, size_t n_name,
                              const char *value, size_t n_value)
{
    struct walk *w = context;
    (void)kind;
    w->ok = value != NULL && name == w->at && (size_t)(w->end - w->at) > n_name;
    if (w->ok) {
        w->at += n_name + 1; /* the colon, now a 0 */
        while (w->at < w->end && (*w->at == ' ' || *w->at == '\t'))
            w->at++;
        w->ok = value == w->at && (size_t)(w->end - w->at) >= n_value;
    }
    if (w->ok) {
        w->at += n_value;
        w->ok = skip_line_end(w);
    }
    return w->ok ? MHD_YES : MHD_NO;
}

/* "0.9.75" is what Debian 12 has; of the two releases after it nobody has looked at how they parse. */
bool head_is_vetted_here(void)
{
    return strcmp(MHD_get_version(), "0.9.75") == 0;
}

bool head_is_whole(const struct http_request *rq, const char *version)
{
    const union MHD_ConnectionInfo *size;
    if (!head_is_vetted_here())
        return true;
    size = MHD_get_connection_info(rq->mhd, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
    if (size == NULL)
        return false;
    struct walk w = {.at = rq->method, .end = rq->method + size->header_size, .ok = true};
    const char *target = rq->method + strlen(rq->method) + 1;
    if (rq->raw_target != target || version != target + rq->raw_bytes + 1)
        return false;
    w.at = version + strlen(version);
    if (!skip_line_end(&w))
        return false;
    (void)MHD_get_connection_values_n(rq->mhd, MHD_HEADER_KIND, next_header, &w);
    return w.ok && skip_line_end(&w) && w.at == w.end;
}
