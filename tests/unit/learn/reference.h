/* reference.h - the parts that every loss written again in double is made of, read literally from the specification.
 *
 * The tests hold the gradients of a step against central differences of such a loss; nothing here shares code with
 * src/learn. Arrays are dense, one row after the other. */
#ifndef TESTS_UNIT_LEARN_REFERENCE_H
#define TESTS_UNIT_LEARN_REFERENCE_H

#include <stddef.h>

/* out[n][width] = in[n][in_width] W' + b, W [width][in_width]. */
void reference_linear(double *out, const double *in, size_t n, size_t in_width, size_t width, const double *w,
                      const double *b);
/* x [n][width] through BatchNorm with the statistics of these rows. */
void reference_norm(double *x, size_t n, size_t width, const double *gamma, const double *beta);
void reference_relu(double *x, size_t n);
/* Dropout with probability p, keep[n] its mask. */
void reference_drop(double *x, const unsigned char *keep, size_t n, double p);
/* x - log sum exp(x). */
void reference_log_softmax(double *x, size_t n);
void reference_softmax(double *x, size_t n);

#endif
