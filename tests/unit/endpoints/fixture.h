/* fixture.h - a project of three classes and two features, without a store, for the tests of parsers. */
#ifndef TESTS_UNIT_ENDPOINTS_FIXTURE_H
#define TESTS_UNIT_ENDPOINTS_FIXTURE_H

#include "endpoints/rows.h"

/* Classes blues, classical (retired), rock; feature_dim 2. Made once; never freed. */
struct project_info *fixture_project(void);
struct row_context fixture_context(void);

#endif
