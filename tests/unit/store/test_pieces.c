/* What the writing connection keeps back (pieces.c) is never missed: not by itself, not by readers, not by a checkpoint. */
#include <stdio.h>

#include "fixture.h"
#include "test.h"

static int64_t ask_reader(struct fixture *f, const char *sql)
{
    struct db *own = f->db, *reader = NULL;
    int64_t n;

    CHECK_INT(store_reader_get(f->store, &reader, &f->err), AMX_OK);
    f->db = reader;
    n = ask(f, sql);
    f->db = own;
    store_reader_put(f->store, reader);
    return n;
}

static const char SUM[] = "SELECT coalesce(sum(k), 0) FROM heap WHERE ?1";
static const char LENGTHS[] = "SELECT coalesce(sum(length(x)), 0) FROM heap WHERE ?1";
static const char FILL[] = "WITH RECURSIVE n (k) AS (SELECT 1 UNION ALL SELECT k + 1 FROM n WHERE k < 500)"
                           " INSERT INTO heap (k, x) SELECT k + 1000 * (SELECT count(*) FROM heap),"
                           " randomblob(3000 + k) FROM n";
static const int64_t SUM_500 = 125250, LENGTHS_500 = 500 * 3000 + 125250;

/* 1.6 MB in each transaction, through a cache that holds a tenth of it: pages go to the log before COMMIT and come back. */
TEST(pieces_are_there_when_they_are_looked_for)
{
    struct fixture f;

    fixture_init(&f, 0);
    CHECK_INT(db_exec(f.db, "PRAGMA cache_size = 20; CREATE TABLE heap (k INTEGER PRIMARY KEY, x BLOB)", &f.err), AMX_OK);
    CHECK_INT(db_exec(f.db, FILL, &f.err), AMX_OK);
    CHECK_INT(ask(&f, LENGTHS), LENGTHS_500);
    CHECK_INT(ask_reader(&f, LENGTHS), LENGTHS_500);
    /* Undone, with pages of it in the log already. */
    CHECK_INT(db_begin(f.db, &f.err), AMX_OK);
    CHECK_INT(db_exec(f.db, FILL, &f.err), AMX_OK);
    CHECK_INT(db_exec(f.db, "UPDATE heap SET x = zeroblob(length(x) - 1)", &f.err), AMX_OK);
    CHECK_INT(ask(&f, LENGTHS), 2 * LENGTHS_500 - 1000);
    CHECK_INT(ask_reader(&f, LENGTHS), LENGTHS_500);
    db_rollback(f.db);
    CHECK_INT(ask(&f, LENGTHS), LENGTHS_500);
    CHECK_INT(ask(&f, SUM), SUM_500);
    /* Checkpoints between, of all kinds; a reader looks after each step. */
    for (int i = 0; i < 4; i++) {
        CHECK_INT(db_exec(f.db, "UPDATE heap SET x = randomblob(length(x) + 1)", &f.err), AMX_OK);
        CHECK_INT(ask_reader(&f, LENGTHS), LENGTHS_500 + 500 * (i + 1));
        CHECK_INT(db_checkpoint(f.db, i % 2 == 1, &f.err), AMX_OK);
        CHECK_INT(ask_reader(&f, LENGTHS), LENGTHS_500 + 500 * (i + 1));
    }
    CHECK_INT(store_check(f.store, NULL, &f.err), AMX_OK);
    fixture_reopen(&f);
    CHECK_INT(ask(&f, LENGTHS), LENGTHS_500 + 2000);
    CHECK_INT(ask(&f, SUM), SUM_500);
    fixture_done(&f);
}

/* Even where no sync comes in between, readers do not hear of frames that are not written. */
TEST(pieces_are_written_before_others_are_told)
{
    struct fixture f;

    fixture_init(&f, 0);
    CHECK_INT(db_exec(f.db, "PRAGMA synchronous = OFF; CREATE TABLE heap (k INTEGER PRIMARY KEY, x BLOB)", &f.err),
              AMX_OK);
    for (int i = 1; i <= 20; i++) {
        CHECK_INT(db_exec(f.db, "INSERT INTO heap (x) VALUES (randomblob(5000))", &f.err), AMX_OK);
        CHECK_INT(ask_reader(&f, LENGTHS), 5000 * i);
    }
    CHECK_INT(store_check(f.store, NULL, &f.err), AMX_OK);
    fixture_done(&f);
}
