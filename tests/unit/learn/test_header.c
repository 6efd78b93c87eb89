/* test_header.c - include/annotmix.h alone: as C11 -pedantic and as C++, by asking the compilers. */
#include "annotmix.h" /* first: it must not need anything before it */

#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "test.h"

extern char **environ;

/* Exit status of a compiler on the header; 127 when there is no such program. */
static int compile(const char *compiler, const char *language, const char *standard)
{
    char name[16], lang[8], std[16], header[] = "include/annotmix.h";
    char only[] = "-fsyntax-only", pedantic[] = "-pedantic", wall[] = "-Wall", werror[] = "-Werror", x[] = "-x";
    char *argv[] = {name, only, pedantic, wall, werror, std, x, lang, header, NULL};
    pid_t pid;
    int status = 0;

    (void)snprintf(name, sizeof name, "%s", compiler);
    (void)snprintf(lang, sizeof lang, "%s", language);
    (void)snprintf(std, sizeof std, "%s", standard);
    if (posix_spawnp(&pid, name, NULL, NULL, argv, environ) != 0)
        return 127;
    if (waitpid(pid, &status, 0) != pid)
        return 1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

TEST(learn_header_as_c11)
{
    CHECK_INT(compile("cc", "c", "-std=c11"), 0);
}

TEST(learn_header_as_cplusplus)
{
    int status = compile("c++", "c++", "-std=c++11");

    if (status == 127)
        test_skip("no C++ compiler");
    else
        CHECK_INT(status, 0);
}

TEST(learn_header_words)
{
    CHECK_STR(amx_version(), ANNOTMIX_VERSION);
    CHECK_STR(amx_status_text(AMX_NOTHING), "nothing to train");
    for (int s = AMX_OK; s <= AMX_IO; s++)
        CHECK(strlen(amx_status_text((enum amx_status)s)) > 1);
}
