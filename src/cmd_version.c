/* cmd_version.c - `annotmixd version`: this program and the libraries it runs on, as a bug report wants them. */
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <zlib.h>

#include "annotmix.h"
#include "cmd.h"
#include "http/http.h"
#include "store/store.h"

int cmd_version(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--help") == 0) {
        puts("usage: annotmixd version\nPrints the version of the program and of the libraries it runs on.");
        return EXIT_OK;
    }
    if (argc > 1)
        return cmd_usage("version", "unexpected argument '%s'", argv[1]);
    printf("annotmixd %s\n", amx_version());
    printf("  kernel         %s\n", amx_kernel_name());
    printf("  BLAS           %s\n", amx_blas_name());
    printf("  libmicrohttpd  %s\n", http_library_version());
    printf("  SQLite         %s\n", store_library_version());
    printf("  Jansson        %s\n", jansson_version_str());
    printf("  zlib           %s\n", zlibVersion());
    return EXIT_OK;
}
