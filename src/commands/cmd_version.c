/* cmd_version.c - `annotmixd version`: this program and the libraries it runs on, as a bug report wants them. */
#include <jansson.h>
#include <stdio.h>
#include <zlib.h>

#include "annotmix.h"
#include "cmd.h"
#include "http/http.h"
#include "store/store.h"

int cmd_version(int argc, char **argv)
{
    const struct option none[] = {{0}};
    size_t n_words = 0;
    int status;

    if (!options_parse(argc, argv, none, "", 0, 0, NULL, &n_words, &status))
        return status;
    printf("annotmixd %s\n", amx_version());
    printf("  kernel         %s\n", amx_kernel_name());
    printf("  BLAS           %s\n", amx_blas_name());
    printf("  libmicrohttpd  %s\n", http_library_version());
    printf("  SQLite         %s\n", store_library_version());
    printf("  Jansson        %s\n", jansson_version_str());
    printf("  zlib           %s\n", zlibVersion());
    return EXIT_OK;
}
