/* reference.c - see reference.h. */
#include "reference.h"

#include <math.h>

void reference_linear(double *out, const double *in, size_t n, size_t in_width, size_t width, const double *w,
                      const double *b)
{
    for (size_t t = 0; t < n; t++) {
        for (size_t j = 0; j < width; j++) {
            double sum = b[j];
            for (size_t i = 0; i < in_width; i++)
                sum += w[j * in_width + i] * in[t * in_width + i];
            out[t * width + j] = sum;
        }
    }
}

void reference_norm(double *x, size_t n, size_t width, const double *gamma, const double *beta)
{
    for (size_t j = 0; j < width; j++) {
        double mean = 0.0, var = 0.0;
        for (size_t t = 0; t < n; t++)
            mean += x[t * width + j] / (double)n;
        for (size_t t = 0; t < n; t++)
            var += (x[t * width + j] - mean) * (x[t * width + j] - mean) / (double)n;
        for (size_t t = 0; t < n; t++)
            x[t * width + j] = gamma[j] * (x[t * width + j] - mean) / sqrt(var + 1e-5) + beta[j];
    }
}

void reference_relu(double *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = x[i] < 0.0 ? 0.0 : x[i]; /* a NaN stays one */
}

void reference_drop(double *x, const unsigned char *keep, size_t n, double p)
{
    for (size_t i = 0; i < n; i++)
        x[i] = keep[i] ? x[i] / (1.0 - p) : 0.0;
}

void reference_log_softmax(double *x, size_t n)
{
    double top = x[0], sum = 0.0;

    for (size_t i = 1; i < n; i++)
        top = fmax(top, x[i]);
    for (size_t i = 0; i < n; i++)
        sum += exp(x[i] - top);
    for (size_t i = 0; i < n; i++)
        x[i] -= top + log(sum);
}

void reference_softmax(double *x, size_t n)
{
    reference_log_softmax(x, n);
    for (size_t i = 0; i < n; i++)
        x[i] = exp(x[i]);
}
