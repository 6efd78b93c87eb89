/* test_arena.c - pieces keep their place and their bytes, whatever is taken after them. */
#include <stdint.h>
#include <string.h>

#include "endpoints/arena.h"
#include "test.h"

TEST(arena_pieces_do_not_overlap)
{
    enum {
        N = 3000
    };
    static unsigned char *pieces[N];
    static size_t sizes[N];
    struct arena a = {0};
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < N; i++) {
            sizes[i] = i * 7919 % (i % 100 == 0 ? 100000 : 300);
            pieces[i] = arena_take(&a, sizes[i]);
            CHECK(pieces[i] != NULL);
            if (pieces[i] == NULL)
                return;
            CHECK_INT((uintptr_t)pieces[i] % 8, 0);
            memset(pieces[i], (int)(i % 251), sizes[i]);
        }
        for (size_t i = 0; i < N; i++)
            for (size_t j = 0; j < sizes[i]; j++)
                if (pieces[i][j] != i % 251) {
                    CHECK(false);
                    return;
                }
        CHECK(a.used > 0);
        arena_clear(&a);
        CHECK_INT(a.used, 0);
    }
    arena_done(&a);
}

TEST(arena_refuses_sizes_that_do_not_fit)
{
    struct arena a = {0};
    CHECK(arena_take(&a, SIZE_MAX) == NULL);
    CHECK(arena_take(&a, SIZE_MAX - 7) == NULL);
    CHECK(arena_copy(&a, "abc", 3) != NULL);
    arena_done(&a);
}
