/* rate.h - how many requests a second one client address and one token may make: a bucket for each, in a fixed table. */
#ifndef ENDPOINTS_RATE_H
#define ENDPOINTS_RATE_H

#include <stdbool.h>
#include <stdint.h>

#include "http/http.h"

enum { RATE_KEY_BYTES = 16 };

/* Before any work for the request: true = go on; false: it has replied 429. No limit set, or a Unix socket: true. */
bool rate_address(struct http_request *rq);
bool rate_token(struct http_request *rq, int64_t token_id);

/* For the two above and for tests: takes one request out of the key's bucket. rate a second go in, ten seconds' worth at most is
 * in it. Seconds until there is one again, rounded up; 0 = it was there. Any thread. */
unsigned rate_take(const unsigned char key[RATE_KEY_BYTES], unsigned rate, int64_t now_ns);
/* Forgets every bucket. For tests. */
void rate_forget(void);

#endif
