/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* hist.c - reading a histogram (see hist.h). */
#include "cli/hist.h"

#include <math.h>
#include <string.h>

void hist_init(struct hist *h)
{
        memset(h, 0, sizeof(*h));
        h->min = UINT64_MAX;
}

double hist_mean(const struct hist *h)
{
        return h->nr ? h->sum / (double)h->nr : 0;
}

double hist_stddev(const struct hist *h)
{
        double mean = hist_mean(h), variance;

        if (h->nr == 0)
                return 0;
        variance = h->sum_squares / (double)h->nr - mean * mean;
        return variance > 0 ? sqrt(variance) : 0; /* rounding may make it negative */
}

/* The middle of a bucket's values: the inverse of hist_bucket(). */
static uint64_t bucket_value(unsigned bucket)
{
        unsigned shift;

        if (bucket < 2 * HIST_SUB)
                return bucket;
        shift = bucket / HIST_SUB - 1;
        return ((uint64_t)(bucket % HIST_SUB + HIST_SUB) << shift) + ((uint64_t)1 << shift) / 2;
}

uint64_t hist_percentile(const struct hist *h, double percent)
{
        uint64_t wanted = (uint64_t)ceil((double)h->nr * percent / 100), seen = 0;

        for (unsigned i = 0; i < HIST_SIZE && h->nr; i++) {
                seen += h->buckets[i];
                if (seen >= wanted && seen > 0) {
                        uint64_t value = bucket_value(i);

                        return value < h->min ? h->min : value > h->max ? h->max : value;
                }
        }
        return 0;
}
