/* data_dir.c - the reader of data folders. The input is cut at bytes 0x1D into the files of a folder; bits of the first
 * byte say which of them are missing, and whether what is left is packed. */
#include "files/data_dir.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include "fuzz.h"
#include "util/utf8.h"

static const char *const names[] = {"instances.csv", "labels.csv", "gold.csv", "labels_test.csv", "meta.json"};
enum {
    FILES = sizeof names / sizeof names[0]
};

static char folder[64];

static void path_of(char out[128], size_t i, bool packed)
{
    (void)snprintf(out, 128, "%s/%s%s", folder, names[i], packed ? ".gz" : "");
}

static void remove_files(void)
{
    for (size_t i = 0; i < FILES; i++) {
        char path[128];
        path_of(path, i, false);
        (void)unlink(path); /* may not be there */
        path_of(path, i, true);
        (void)unlink(path);
    }
}

static void remove_folder(void)
{
    remove_files();
    (void)rmdir(folder);
}

static void write_file(size_t i, bool packed, const uint8_t *bytes, size_t n)
{
    char path[128];
    path_of(path, i, packed);
    gzFile file = gzopen(path, packed ? "wb1" : "wbT");
    EXPECT(file != NULL);
    EXPECT(n == 0 || gzwrite(file, bytes, (unsigned)n) == (int)n);
    EXPECT(gzclose(file) == Z_OK);
}

static void expect_sound(const struct data_dir *dir)
{
    for (size_t i = 0; i < dir->instances.n; i++) {
        const struct training_row *row = &dir->rows[i];
        EXPECT(name_valid(row->name, strlen(row->name), NULL));
        EXPECT(row->gold >= -1 && row->gold < (int32_t)dir->n_classes);
        EXPECT(row->feature_row == SIZE_MAX || dir->n_features > 0);
    }
    for (size_t i = 0; i < dir->n_labels; i++) {
        const struct training_label *label = &dir->labels[i];
        EXPECT(label->row < dir->instances.n && label->annotator < dir->annotators.n && label->class_ < dir->n_classes);
    }
}

void fuzz_data_dir(const uint8_t *data, size_t n)
{
    if (folder[0] == '\0') {
        (void)snprintf(folder, sizeof folder, "%s/annotmix-fuzz-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
        EXPECT(mkdtemp(folder) != NULL);
        (void)atexit(remove_folder);
    }
    uint8_t choice = fuzz_byte(&data, &n);
    bool packed = (choice & 0x20) != 0;
    remove_files();
    for (size_t i = 0; i < FILES; i++) {
        const uint8_t *end = i + 1 < FILES ? memchr(data, 0x1D, n) : NULL;
        size_t length = end != NULL ? (size_t)(end - data) : n;
        if ((choice >> i & 1) == 0)
            write_file(i, packed && i + 1 < FILES, data, length);
        data += length + (end != NULL);
        n -= length + (end != NULL);
    }
    struct data_dir dir = {0};
    struct amx_error err = {.code = AMX_OK};
    unsigned may_miss = (choice & 0x40) != 0 ? DATA_DIR_NO_LABELS | DATA_DIR_NO_INSTANCES : 0;
    enum amx_status status = data_dir_read_partly(folder, may_miss, &dir, &err);
    EXPECT(status != AMX_NO_MEMORY && status != AMX_IO);
    if (status == AMX_OK) {
        expect_sound(&dir);
        data_dir_done(&dir);
    } else {
        EXPECT(err.text[0] != '\0' && utf8_valid(err.text, strlen(err.text)));
    }
}
