/* test_radam.c - the optimiser against its formula in double, on every kernel level. */
#include "test.h"

#include <math.h>

#include "fixture.h"
#include "learn/kernels.h"
#include "learn/radam.h"

enum {
    N = 96,
    STEPS = 40
};

static void reference(double *p, const double *g, double *m, double *v, int t, double rate, double decay)
{
    double rho_inf = 2.0 / (1.0 - 0.999) - 1.0;
    double rho = rho_inf - 2.0 * t * pow(0.999, t) / (1.0 - pow(0.999, t));

    for (int i = 0; i < N; i++) {
        double gi = g[i] + decay * p[i];
        m[i] = 0.9 * m[i] + 0.1 * gi;
        v[i] = 0.999 * v[i] + 0.001 * gi * gi;
        double m_hat = m[i] / (1.0 - pow(0.9, t));
        if (rho > 5.0)
            p[i] -= rate * m_hat * sqrt((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho)) *
                    sqrt(1.0 - pow(0.999, t)) / (sqrt(v[i]) + 1e-8);
        else
            p[i] -= rate * m_hat;
    }
}

static void run_level(const struct amx_kernels *kernels)
{
    float p[N], g[N], m[N] = {0}, v[N] = {0};
    double pd[N], gd[N], md[N] = {0}, vd[N] = {0}, worst = 0.0;
    uint64_t state = 4;

    for (int i = 0; i < N; i++)
        pd[i] = (double)(p[i] = (float)(toy_random(&state) - 0.5));
    for (int t = 1; t <= STEPS; t++) {
        struct radam_step step;
        for (int i = 0; i < N; i++)
            gd[i] = (double)(g[i] = i == 0 ? 0.0f : (float)(toy_random(&state) - 0.5) * (i % 3 == 0 ? 1e-4f : 1.0f));
        radam_prepare(&step, (uint64_t)t, 0.01, 0.02);
        CHECK_INT(step.rectified, t >= 6);
        kernels->radam(p, g, m, v, N, &step);
        reference(pd, gd, md, vd, t, 0.01, 0.02);
    }
    for (int i = 0; i < N; i++)
        worst = test_worst(worst, fabs((double)p[i] - pd[i]));
    CHECK_NEAR(worst, 0.0, 2e-6);
}

TEST(learn_radam_formula)
{
    static const char *const levels[] = {"plain", "sse2", "avx2", "avx512"};

    for (int l = 0; l < 4; l++) {
        if (kernels_named(levels[l]) != NULL)
            run_level(kernels_named(levels[l]));
    }
}

TEST(learn_radam_cosine)
{
    CHECK_NEAR(radam_cosine(0.01, 0, 50), 0.01, 1e-12);
    CHECK_NEAR(radam_cosine(0.01, 25, 50), 0.005, 1e-12);
    CHECK_NEAR(radam_cosine(0.01, 2, 50), 0.009960573507, 1e-11); /* as in ../shared/golden */
    CHECK(radam_cosine(0.01, 49, 50) > 0.0);
}
