/* radam.c - RAdam (Liu et al., "On the Variance of the Adaptive Learning Rate and Beyond", ICLR 2020) as
 * torch.optim.RAdam does it with decoupled_weight_decay = False: decay is added to the gradient.
 *
 * Everything that does not depend on the parameter is one factor, so the pass is p -= step m / (sqrt(v) + eps) while
 * the variance is tractable (rho_t > 5, from step 6 on with beta2 = 0.999), and p -= step m before. */
#include "radam.h"

#include <math.h>

#define BETA1 0.9
#define BETA2 0.999
#define EPS   1e-8

void radam_prepare(struct radam_step *out, uint64_t t, double learning_rate, double weight_decay)
{
    const double rho_inf = 2.0 / (1.0 - BETA2) - 1.0;
    double power1 = pow(BETA1, (double)t), power2 = pow(BETA2, (double)t);
    double rho = rho_inf - 2.0 * (double)t * power2 / (1.0 - power2);
    double step = learning_rate / (1.0 - power1);

    out->rectified = rho > 5.0;
    if (out->rectified)
        step *=
            sqrt((rho - 4.0) * (rho - 2.0) * rho_inf / ((rho_inf - 4.0) * (rho_inf - 2.0) * rho)) * sqrt(1.0 - power2);
    out->beta1 = (float)BETA1;
    out->one_minus_beta1 = (float)(1.0 - BETA1);
    out->beta2 = (float)BETA2;
    out->one_minus_beta2 = (float)(1.0 - BETA2);
    out->eps = (float)EPS;
    out->weight_decay = (float)weight_decay;
    out->step = (float)step;
}

double radam_cosine(double learning_rate, int epoch, int epochs)
{
    return learning_rate / 2.0 * (1.0 + cos(3.141592653589793 * epoch / epochs));
}
