/* background.h - work that is too long for an HTTP thread and is no training: a thread of its own while the request is
 * suspended. Few at a time (BACKGROUND_MAX), more get 503: they all want the same cores as the trainers. */
#ifndef ENDPOINTS_DERIVED_BACKGROUND_H
#define ENDPOINTS_DERIVED_BACKGROUND_H

#include "http/http.h"

enum { BACKGROUND_MAX = 4 };

/* Suspends rq, runs work(context) in another thread, then next(rq) in the HTTP thread. The request lives until then
 * (the server's stop waits for it), so context may hang on it. Last call of the handler; it has replied when it fails.
 */
void background_run(struct http_request *rq, void (*work)(void *context), void *context,
                    void (*next)(struct http_request *rq));

#endif
