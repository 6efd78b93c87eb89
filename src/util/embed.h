/* embed.h - files that are part of the program: migrations, the API document, the dashboard. */
#ifndef UTIL_EMBED_H
#define UTIL_EMBED_H

struct embedded_file {
    const char *path;           /* as in the source tree, "migrations/0001_initial.sql" */
    const unsigned char *begin; /* a 0 byte follows the last one, so text can be used as a string */
    const unsigned char *end;
};

/* Ends with a row whose path is NULL; sorted by path within each folder. Made by src/util/embed.sh. */
extern const struct embedded_file embedded_files[];

#endif
