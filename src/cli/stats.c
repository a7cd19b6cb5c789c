/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * stats.c - the library's counters, by name (see stats.h).
 *
 * One table names them; what is no counter (the memory in use now) is not among them.
 */
#include "cli/stats.h"

#include <inttypes.h>
#include <stdio.h>

#define ON_A_LINE 4

static const struct {
        const char *name;
        size_t offset;
} counters[] = {
#define COUNTER(counter)                                                          \
        {                                                                         \
                .name = #counter, .offset = offsetof(struct uext4_stats, counter) \
        }
        COUNTER(direct_reads),    COUNTER(direct_read_bytes), COUNTER(device_reads),
        COUNTER(buffered_reads),  COUNTER(direct_writes),     COUNTER(direct_write_bytes),
        COUNTER(device_writes),   COUNTER(fua_writes),        COUNTER(buffered_writes),
        COUNTER(overwrites),      COUNTER(extends),           COUNTER(allocations),
        COUNTER(conversions),     COUNTER(fallback_inline),   COUNTER(fallback_data_journal),
        COUNTER(fallback_verity), COUNTER(fallback_hole),     COUNTER(nowait_again),
        COUNTER(lock_restarts),   COUNTER(finish_batches),    COUNTER(syncs),
        COUNTER(flushes),         COUNTER(commits),           COUNTER(dax_reads),
        COUNTER(dax_writes),      COUNTER(extent_cache_hits), COUNTER(extent_cache_misses),
        COUNTER(meta_reads),
#undef COUNTER
};

#define NR_COUNTERS (sizeof(counters) / sizeof(counters[0]))

static uint64_t counter_get(const struct uext4_stats *stats, size_t i)
{
        return *(const uint64_t *)((const char *)stats + counters[i].offset);
}

void stats_add(struct uext4_stats *sum, const struct uext4_stats *before,
               const struct uext4_stats *after)
{
        for (size_t i = 0; i < NR_COUNTERS; i++) {
                uint64_t *at = (uint64_t *)((char *)sum + counters[i].offset);

                *at += counter_get(after, i) - counter_get(before, i);
        }
}

void stats_print(const struct uext4_stats *stats, const char *indent)
{
        unsigned nr = 0;

        for (size_t i = 0; i < NR_COUNTERS; i++) {
                uint64_t n = counter_get(stats, i);

                if (n == 0)
                        continue;
                if (nr % ON_A_LINE == 0)
                        printf("%s%s", nr > 0 ? ",\n" : "", indent);
                else
                        fputs(", ", stdout);
                printf("%s=%" PRIu64, counters[i].name, n);
                nr++;
        }
        if (nr > 0)
                putchar('\n');
}

json_t *stats_json(const struct uext4_stats *stats)
{
        json_t *object = json_object();

        for (size_t i = 0; i < NR_COUNTERS; i++)
                json_add_uint(object, counters[i].name, counter_get(stats, i));
        return object;
}
