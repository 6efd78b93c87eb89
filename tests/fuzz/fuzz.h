/* fuzz.h - what the fuzz targets share.
 *
 * A target is a function of bytes. It must not crash, leak, or break what it EXPECTs, whatever the bytes are. The same
 * targets are linked twice: with libFuzzer (libfuzzer.c, `make fuzz`) and as a plain program that replays files
 * (replay.c, part of `make test`). */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>

struct fuzz_target {
    const char *name;
    void (*run)(const uint8_t *data, size_t n);
};

extern const struct fuzz_target fuzz_targets[]; /* ends with name NULL */
const struct fuzz_target *fuzz_target_of(const char *name); /* NULL: there is none */

/* The condition holds, or the program ends with the place and the text. */
#define EXPECT(condition) ((condition) ? (void)0 : fuzz_fail(__FILE__, __LINE__, #condition))
_Noreturn void fuzz_fail(const char *file, int line, const char *what);

/* Takes the first byte off; 0 when there is none. */
uint8_t fuzz_byte(const uint8_t **data, size_t *n);

void fuzz_json_rows(const uint8_t *data, size_t n);
void fuzz_json_bodies(const uint8_t *data, size_t n);
void fuzz_ndjson(const uint8_t *data, size_t n);
void fuzz_csv_in(const uint8_t *data, size_t n);
void fuzz_csv_out(const uint8_t *data, size_t n);
void fuzz_npy(const uint8_t *data, size_t n);
void fuzz_gzip(const uint8_t *data, size_t n);
void fuzz_route(const uint8_t *data, size_t n);
void fuzz_headers(const uint8_t *data, size_t n);
void fuzz_cursor_token(const uint8_t *data, size_t n);
void fuzz_model(const uint8_t *data, size_t n);
void fuzz_data_dir(const uint8_t *data, size_t n);

#endif
