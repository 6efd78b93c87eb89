/* fixture.c - a project for the tests of parsers (fixture.h). */
#include "fixture.h"

#include <string.h>

#include "work/name_index.h"

static const char *const classes[] = {"blues", "classical", "rock"};
static const bool retired[] = {false, true, false};

struct project_info *fixture_project(void)
{
    static struct project_info project;
    if (project.classes == NULL) {
        project = (struct project_info){.refs = 1000,
                                        .id = 7,
                                        .uid = "0123456789abcdef0123456789abcdef",
                                        .name = "music",
                                        .feature_dim = 2,
                                        .n_classes = 3,
                                        .classes = classes,
                                        .retired = retired,
                                        .class_index = name_index_new(classes, 3)};
    }
    return &project;
}

struct row_context fixture_context(void)
{
    return (struct row_context){.project = fixture_project(), .may_gold = true, .metadata_bytes = 100};
}
