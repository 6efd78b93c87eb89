/* label_posterior.h - the true class of each training row as the labels alone tell it, and the confusion matrices that
 * follow. Functions read and write only the member's rows of posterior [data->n_rows][C]. Rows whose class is certain
 * (gold with clamp_gold) are that class everywhere.
 *
 * Tables of annotators are [A][C labels][C true classes], label first: a label then names one run of true classes. */
#ifndef LEARN_LABEL_POSTERIOR_H
#define LEARN_LABEL_POSTERIOR_H

#include "method.h"

/* Share of the row's labels that each class got. */
void posterior_votes(const struct member_data *member, float *posterior);
/* Uniform over the classes with the most labels. */
void posterior_majority(const struct member_data *member, float *posterior);
/* Gold of every row, which all must have. */
void posterior_gold(const struct member_data *member, float *posterior);
/* Dawid and Skene's EM from vote shares: class shares and confusion matrices without smoothing, then posteriors, until
 * the class shares move less than 1e-4 or 300 rounds are over. Without any row of two labels: the label itself.
 * AMX_OK, or AMX_CANCELLED between two rounds.
 * table and work as below. */
enum amx_status posterior_dawid_skene(const struct member_data *member, float *posterior, double *table, double *work);

/* Smoothed log confusion matrices from a posterior: N_a = sum of posteriors by label (plus a's history), population
 * M = sum_a N_a + 0.001 + 0.5 I with rows normalised, P_a = N_a + strength M with rows normalised.
 * table [A][C][C] and population [C][C] (label first too) get logarithms; work: matrices_work(C) doubles. */
void matrices_smoothed(const struct member_data *member, const float *posterior, double strength, double *table,
                       double *population, double *work);
size_t matrices_work(size_t n_classes);
/* EM with those matrices, 50 rounds from vote shares (one if no row has two labels); table and population are those of
 * the last round, which the posterior of that round follows. */
enum amx_status matrices_dawid_skene(const struct member_data *member, float *posterior, double strength, double *table,
                                     double *population, double *work);
/* Bytes of one posterior, table, population and work; SIZE_MAX when they do not fit. */
size_t label_posterior_bytes(const struct dims *dims);

#endif
