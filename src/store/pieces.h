/* pieces.h - the VFS of the connection that writes: what SQLite writes page by page reaches the file in large pieces. */
#ifndef STORE_PIECES_H
#define STORE_PIECES_H

/* Name for sqlite3_open_v2; NULL, the default VFS, when it could not be registered. Once per process, before the first
 * connection: no lock. */
const char *pieces_register(void);

#endif
