/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef UEXT4_CLI_HIST_H
#define UEXT4_CLI_HIST_H

/*
 * hist.h - a histogram of latencies, log-linear: each power of two is cut into 64 equal
 * buckets, so that a percentile is off by less than 1.6 %.
 */

#include <stdint.h>

#define HIST_BITS 6
#define HIST_SUB  (1u << HIST_BITS)
#define HIST_SIZE ((64 - HIST_BITS + 1) * HIST_SUB)

struct hist {
        uint64_t nr;
        uint64_t min, max;
        double sum, sum_squares;
        uint64_t buckets[HIST_SIZE];
};

void hist_init(struct hist *h);

/* The bucket of a value: the values below 2 * HIST_SUB have one each. */
static inline unsigned hist_bucket(uint64_t value)
{
        unsigned shift;

        if (value < 2 * HIST_SUB)
                return (unsigned)value;
        shift = 63u - (unsigned)__builtin_clzll(value) - HIST_BITS;
        return shift * HIST_SUB + (unsigned)(value >> shift);
}

/* Here in the header because it stands in the measuring loop. */
static inline void hist_add(struct hist *h, uint64_t value)
{
        double v = (double)value;

        h->nr++;
        h->min = value < h->min ? value : h->min;
        h->max = value > h->max ? value : h->max;
        h->sum += v;
        h->sum_squares += v * v;
        h->buckets[hist_bucket(value)]++;
}

double hist_mean(const struct hist *h);
double hist_stddev(const struct hist *h);

/* The value that `percent` of the samples do not exceed; 0 without samples. */
uint64_t hist_percentile(const struct hist *h, double percent);

#endif
