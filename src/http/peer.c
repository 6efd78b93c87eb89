/* peer.c - the address a request came from, as 16 bytes: IPv4 as ::ffff:a.b.c.d. What stands in X-Forwarded-For is not
 * looked at: anybody can write it. */
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include "http/http_int.h"

bool http_peer(const struct http_request *rq, unsigned char out[16])
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(rq->mhd, MHD_CONNECTION_INFO_CLIENT_ADDRESS);

    if (info == NULL || info->client_addr == NULL)
        return false;
    if (info->client_addr->sa_family == AF_INET6) {
        struct sockaddr_in6 address;
        memcpy(&address, info->client_addr, sizeof address);
        memcpy(out, &address.sin6_addr, 16);
        return true;
    }
    if (info->client_addr->sa_family == AF_INET) {
        struct sockaddr_in address;
        memcpy(&address, info->client_addr, sizeof address);
        memset(out, 0, 10);
        memset(out + 10, 0xff, 2);
        memcpy(out + 12, &address.sin_addr, 4);
        return true;
    }
    return false;
}
