/* The two name tables. */
#include <stdio.h>
#include <string.h>

#include "test.h"
#include "work/name_index.h"
#include "work/runs/name_table.h"

TEST(name_index_finds_all_and_nothing_else)
{
    enum {
        N = 2000
    };
    static char text[N][16];
    static const char *names[N];
    struct name_index *index;
    uint32_t at;

    for (int i = 0; i < N; i++) {
        (void)snprintf(text[i], sizeof text[i], "n%d", i);
        names[i] = text[i];
    }
    index = name_index_new(names, N);
    CHECK(index != NULL);
    if (index == NULL)
        return;
    for (uint32_t i = 0; i < N; i++) {
        CHECK(name_index_find(index, names[i], strlen(names[i]), &at));
        CHECK_INT(at, i);
    }
    CHECK(!name_index_find(index, "n2000", 5, &at));
    CHECK(!name_index_find(index, "n", 1, &at)); /* a prefix of a name is no name */
    CHECK(!name_index_find(index, "n1x", 3, &at));
    CHECK(name_index_find(index, "n10x", 3, &at)); /* exactly n bytes count */
    CHECK_INT(at, 10);
    name_index_free(index);
    index = name_index_new(NULL, 0);
    CHECK(index != NULL && !name_index_find(index, "a", 1, &at));
    name_index_free(index);
}

TEST(name_table_numbers_names_in_order_of_appearance)
{
    struct name_table table = NAME_TABLE_INIT;
    uint32_t at;
    bool added;
    char name[16];

    CHECK(!name_table_find(&table, "a", 1, &at));
    for (uint32_t i = 0; i < 1000; i++) {
        int n = snprintf(name, sizeof name, "name%u", i);

        CHECK_INT(name_table_add(&table, name, (size_t)n, &at, &added), AMX_OK);
        CHECK(added && at == i);
    }
    CHECK_INT(name_table_add(&table, "name7", 5, &at, &added), AMX_OK);
    CHECK(!added && at == 7);
    CHECK_INT(table.n, 1000);
    CHECK_STR(table.names[999], "name999");
    name_table_done(&table);
}
