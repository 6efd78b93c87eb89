/* library.c - which SQLite this program runs on, for `annotmixd version` and the start-up log. */
#include <sqlite3.h>

#include "store/store.h"

const char *store_library_version(void)
{
    return sqlite3_libversion();
}
