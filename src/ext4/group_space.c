/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Sets of clusters: see group_space.h.  Arithmetic only. */

#include "ext4/group_space.h"

#include <string.h>

#include "ext4/bitmap.h"
#include "util/alloc.h"

static uint32_t end_of(struct group_run run)
{
        return run.start + run.len;
}

/* Index of the first run that ends behind `at`; nr when there is none. */
static uint32_t find(const struct group_space *s, uint32_t at)
{
        uint32_t lo = 0;
        uint32_t hi = s->nr;

        while (lo < hi) {
                uint32_t mid = lo + (hi - lo) / 2;

                if (end_of(s->runs[mid]) > at)
                        hi = mid;
                else
                        lo = mid + 1;
        }
        return lo;
}

void group_space_done(struct group_space *s)
{
        mem_free(s->runs);
        *s = (struct group_space){};
}

int group_space_reserve(struct group_space *s, uint32_t more)
{
        struct group_run *runs;
        uint32_t cap;

        if (s->cap - s->nr >= more)
                return 0;
        cap = max_t(uint32_t, s->nr + more, s->cap + s->cap / 2 + 4);
        runs = mem_array(cap, sizeof(*runs));
        if (!runs)
                return -ENOMEM;
        if (s->nr)
                memcpy(runs, s->runs, s->nr * sizeof(*runs));
        mem_free(s->runs);
        s->runs = runs;
        s->cap = cap;
        return 0;
}

/* The next run of clear bits at or behind `from`; len 0 at the end. */
static struct group_run next_clear_run(const uint8_t *bitmap, uint32_t from, uint32_t nr_bits)
{
        uint32_t start = ext4_bits_next_clear(bitmap, from, nr_bits);

        return (struct group_run){start, ext4_bits_next_set(bitmap, start, nr_bits) - start};
}

int group_space_build(struct group_space *s, const uint8_t *bitmap, uint32_t nr_bits)
{
        struct group_run run;
        uint32_t nr = 0;
        int ret;

        assert(s->nr == 0);
        for (uint32_t at = 0; (run = next_clear_run(bitmap, at, nr_bits)).len; at = end_of(run))
                nr++;
        ret = group_space_reserve(s, nr);
        if (ret < 0)
                return ret;
        s->total = 0;
        s->longest = 0;
        for (uint32_t at = 0; (run = next_clear_run(bitmap, at, nr_bits)).len;
             at = end_of(run)) {
                s->runs[s->nr++] = run;
                s->total += run.len;
                s->longest = max_t(uint32_t, s->longest, run.len);
        }
        s->longest_is_old = false;
        return 0;
}

/* ---- changing it ---- */

static void insert_at(struct group_space *s, uint32_t i, struct group_run run)
{
        assert(s->nr < s->cap);
        memmove(s->runs + i + 1, s->runs + i, (s->nr - i) * sizeof(run));
        s->runs[i] = run;
        s->nr++;
}

static void delete_at(struct group_space *s, uint32_t i)
{
        s->nr--;
        memmove(s->runs + i, s->runs + i + 1, (s->nr - i) * sizeof(*s->runs));
}

void group_space_add(struct group_space *s, struct group_run run)
{
        uint32_t i = find(s, run.start);
        bool joins_left = i > 0 && end_of(s->runs[i - 1]) == run.start;
        bool joins_right = i < s->nr && s->runs[i].start == end_of(run);

        assert(run.len > 0);
        assert(i == s->nr || s->runs[i].start >= end_of(run));
        s->total += run.len;
        if (joins_left && joins_right) {
                s->runs[i - 1].len += run.len + s->runs[i].len;
                delete_at(s, i);
                i--;
        } else if (joins_left) {
                s->runs[--i].len += run.len;
        } else if (joins_right) {
                s->runs[i].start = run.start;
                s->runs[i].len += run.len;
        } else {
                insert_at(s, i, run);
        }
        s->longest = max_t(uint32_t, s->longest, s->runs[i].len);
}

void group_space_take(struct group_space *s, struct group_run run)
{
        uint32_t i = find(s, run.start);
        struct group_run old;

        assert(run.len > 0 && i < s->nr);
        old = s->runs[i];
        assert(old.start <= run.start && end_of(old) >= end_of(run));
        s->total -= run.len;
        s->longest_is_old |= old.len == s->longest;
        if (old.start == run.start && old.len == run.len) {
                delete_at(s, i);
                return;
        }
        if (old.start == run.start) {
                s->runs[i] = (struct group_run){end_of(run), old.len - run.len};
                return;
        }
        s->runs[i].len = run.start - old.start;
        if (end_of(old) > end_of(run))
                insert_at(s, i + 1, (struct group_run){end_of(run), end_of(old) - end_of(run)});
}

/* ---- looking ---- */

struct group_run group_space_at(const struct group_space *s, uint32_t at)
{
        uint32_t i = find(s, at);

        if (i == s->nr || s->runs[i].start > at)
                return (struct group_run){at, 0};
        return (struct group_run){at, end_of(s->runs[i]) - at};
}

struct group_run group_space_next(const struct group_space *s, struct group_run range)
{
        uint32_t i = find(s, range.start);
        uint32_t start;

        if (i == s->nr || s->runs[i].start >= end_of(range))
                return (struct group_run){};
        start = max_t(uint32_t, s->runs[i].start, range.start);
        return (struct group_run){start,
                                  min_t(uint32_t, end_of(s->runs[i]), end_of(range)) - start};
}

bool group_space_overlaps(const struct group_space *s, struct group_run run)
{
        uint32_t i = find(s, run.start);

        return i < s->nr && s->runs[i].start < end_of(run);
}

struct group_run group_space_first(const struct group_space *s, uint32_t len, uint32_t from)
{
        uint32_t first = find(s, from);

        for (uint32_t i = first; i < s->nr; i++) {
                uint32_t start = max_t(uint32_t, s->runs[i].start, from);

                if (end_of(s->runs[i]) - start >= len)
                        return (struct group_run){start, end_of(s->runs[i]) - start};
        }
        for (uint32_t i = 0; i <= first && i < s->nr; i++) {
                if (s->runs[i].len >= len)
                        return s->runs[i];
        }
        return (struct group_run){};
}

struct group_run group_space_tight(const struct group_space *s, uint32_t len)
{
        struct group_run best = {};

        for (uint32_t i = 0; i < s->nr; i++) {
                if (s->runs[i].len == len)
                        return s->runs[i];
                if (s->runs[i].len > len && (best.len == 0 || s->runs[i].len < best.len))
                        best = s->runs[i];
        }
        return best;
}

uint32_t group_space_longest(struct group_space *s)
{
        if (s->longest_is_old) {
                s->longest = 0;
                for (uint32_t i = 0; i < s->nr; i++)
                        s->longest = max_t(uint32_t, s->longest, s->runs[i].len);
                s->longest_is_old = false;
        }
        return s->longest;
}
