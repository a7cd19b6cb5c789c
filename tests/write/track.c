/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "track.h"

void track_init(struct track *t, unsigned file, unsigned nr_sectors)
{
        *t = (struct track){.file = file,
                            .nr_sectors = nr_sectors,
                            .sectors = t_alloc(nr_sectors * sizeof(*t->sectors)),
                            .nr_sizes = 1};
        for (unsigned i = 0; i < nr_sectors; i++)
                t->sectors[i].nr = 1; /* zeros */
}

void track_done(struct track *t)
{
        free(t->sectors);
        t->sectors = NULL;
}

/* ---- bytes ---- */

/* No byte of it is zero. */
static void fill_sector(const struct track *t, uint32_t version, unsigned sector, uint8_t *buf)
{
        uint64_t state = (uint64_t)version << 32 | t->file << 24 | sector;

        for (unsigned i = 0; i < TRACK_SECTOR; i += 8) {
                uint64_t word = t_rand(&state) | 0x0101010101010101u;

                memcpy(buf + i, &word, 8);
        }
}

void track_fill(const struct track *t, uint32_t version, struct track_range r, uint8_t *buf)
{
        for (unsigned i = 0; i < r.nr; i++)
                fill_sector(t, version, r.first + i, buf + i * TRACK_SECTOR);
}

static bool is_version(const struct track *t, uint32_t version, unsigned sector,
                       const uint8_t *bytes)
{
        uint8_t want[TRACK_SECTOR] = {0};

        if (version)
                fill_sector(t, version, sector, want);
        return memcmp(want, bytes, TRACK_SECTOR) == 0;
}

/* ---- operations ---- */

static void may_be(struct track_sector *s, uint32_t version)
{
        for (unsigned i = 0; i < s->nr; i++) {
                if (s->may[i] == version)
                        return;
        }
        T_CHECK(s->nr < TRACK_VERSIONS);
        s->may[s->nr++] = version;
}

static void may_have_size(struct track *t, uint64_t from, uint64_t to)
{
        for (unsigned i = 0; i < t->nr_sizes; i++) {
                if (t->sizes[i].from == from && t->sizes[i].to == to)
                        return;
        }
        T_CHECK(t->nr_sizes < TRACK_SIZES);
        t->sizes[t->nr_sizes].from = from;
        t->sizes[t->nr_sizes++].to = to;
}

/* Writes under way may move it yet. */
static void size_is_durable(struct track *t)
{
        t->nr_sizes = 0;
        may_have_size(t, t->size, t->size);
        for (unsigned i = 0; i < t->nr_sectors; i++) {
                const struct track_sector *s = &t->sectors[i];
                const uint64_t end = (uint64_t)(i + 1) * TRACK_SECTOR;

                if (!s->flying || end <= t->size ||
                    (i + 1 < t->nr_sectors && s[1].flying == s->flying))
                        continue;
                may_have_size(t, s->in_steps ? t->size : end, end);
        }
}

static uint64_t end_of(struct track_range r)
{
        return (uint64_t)(r.first + r.nr) * TRACK_SECTOR;
}

uint32_t track_write(struct track *t, struct track_range r, bool in_steps)
{
        uint32_t version = ++t->last;

        for (unsigned i = 0; i < r.nr; i++) {
                struct track_sector *s = &t->sectors[r.first + i];

                T_CHECK(!s->flying);
                s->flying = version;
                s->in_steps = in_steps;
                may_be(s, version);
        }
        if (end_of(r) > t->size)
                may_have_size(t, in_steps ? t->size : end_of(r), end_of(r));
        return version;
}

void track_written(struct track *t, uint32_t version, struct track_range r)
{
        for (unsigned i = 0; i < r.nr; i++) {
                t->sectors[r.first + i].now = version;
                t->sectors[r.first + i].flying = 0;
        }
        t->size = max_t(uint64_t, t->size, end_of(r));
}

static void is_durable(struct track_sector *s)
{
        s->nr = 0;
        may_be(s, s->now);
        if (s->flying)
                may_be(s, s->flying);
}

void track_durable(struct track *t, uint32_t version, struct track_range r, bool with_size)
{
        for (unsigned i = 0; i < r.nr; i++) {
                if (t->sectors[r.first + i].now == version)
                        is_durable(&t->sectors[r.first + i]);
        }
        if (with_size)
                size_is_durable(t);
}

void track_zero(struct track *t, struct track_range r)
{
        for (unsigned i = 0; i < r.nr; i++)
                may_be(&t->sectors[r.first + i], 0);
}

void track_zeroed(struct track *t, struct track_range r)
{
        for (unsigned i = 0; i < r.nr; i++) {
                T_CHECK(!t->sectors[r.first + i].flying);
                t->sectors[r.first + i].now = 0;
        }
}

/* What is cut off, when the file gets that size. */
static struct track_range cut_off(const struct track *t, uint64_t size)
{
        unsigned first = (unsigned)(size / TRACK_SECTOR);

        return (struct track_range){first, t->nr_sectors - first};
}

void track_resize(struct track *t, uint64_t size)
{
        track_zero(t, cut_off(t, size));
        may_have_size(t, size, size);
}

void track_resized(struct track *t, uint64_t size)
{
        track_zeroed(t, cut_off(t, size));
        t->size = size;
}

void track_synced(struct track *t)
{
        for (unsigned i = 0; i < t->nr_sectors; i++)
                is_durable(&t->sectors[i]);
        size_is_durable(t);
}

bool track_is_flying(const struct track *t, struct track_range r)
{
        for (unsigned i = 0; i < r.nr; i++) {
                if (t->sectors[r.first + i].flying)
                        return true;
        }
        return false;
}

bool track_is_full(const struct track *t)
{
        if (t->nr_sizes > TRACK_SIZES - 12)
                return true;
        for (unsigned i = 0; i < t->nr_sectors; i++) {
                if (t->sectors[i].nr > TRACK_VERSIONS - 12)
                        return true;
        }
        return false;
}

/* ---- what is found ---- */

static const char *complain(const struct track *t, unsigned sector, const uint8_t *bytes)
{
        static _Thread_local char text[512];
        const struct track_sector *s = &t->sectors[sector];
        int n = snprintf(text, sizeof(text),
                         "file %u, size %llu, sector %u begins with %02x%02x%02x%02x: now %u, "
                         "flying %u, may be",
                         t->file, (unsigned long long)t->size, sector, bytes[0], bytes[1],
                         bytes[2], bytes[3], s->now, s->flying);

        for (unsigned i = 0; i < s->nr && n > 0 && (size_t)n < sizeof(text); i++)
                n += snprintf(text + n, sizeof(text) - (size_t)n, " %u", s->may[i]);
        for (uint32_t v = 0; v <= t->last && n > 0 && (size_t)n < sizeof(text); v++) {
                if (is_version(t, v, sector, bytes))
                        n += snprintf(text + n, sizeof(text) - (size_t)n, "; it is %u", v);
        }
        return text;
}

const char *track_check_now(const struct track *t, struct track_range r, const uint8_t *bytes)
{
        for (unsigned i = 0; i < r.nr; i++) {
                const struct track_sector *s = &t->sectors[r.first + i];
                const uint8_t *got = bytes + i * TRACK_SECTOR;

                if (is_version(t, s->now, r.first + i, got) ||
                    (s->flying && is_version(t, s->flying, r.first + i, got)))
                        continue;
                return complain(t, r.first + i, got);
        }
        return NULL;
}

static bool size_may_be(const struct track *t, uint64_t size)
{
        for (unsigned i = 0; i < t->nr_sizes; i++) {
                if (size >= t->sizes[i].from && size <= t->sizes[i].to)
                        return true;
        }
        return false;
}

static bool sector_may_be(const struct track *t, unsigned sector, const uint8_t *bytes)
{
        const struct track_sector *s = &t->sectors[sector];

        for (unsigned i = 0; i < s->nr; i++) {
                if (is_version(t, s->may[i], sector, bytes))
                        return true;
        }
        return false;
}

const char *track_check_range_cut(const struct track *t, struct track_range r,
                                  const uint8_t *bytes)
{
        for (unsigned i = 0; i < r.nr; i++) {
                const uint8_t *got = bytes + (size_t)i * TRACK_SECTOR;

                if (!sector_may_be(t, r.first + i, got))
                        return complain(t, r.first + i, got);
        }
        return NULL;
}

const char *track_check_cut(const struct track *t, uint64_t size, const uint8_t *bytes)
{
        static _Thread_local char text[128];

        if (size % TRACK_SECTOR || size > (uint64_t)t->nr_sectors * TRACK_SECTOR ||
            !size_may_be(t, size)) {
                snprintf(text, sizeof(text), "file %u: size %llu, last %llu", t->file,
                         (unsigned long long)size, (unsigned long long)t->size);
                return text;
        }
        return track_check_range_cut(
                t, (struct track_range){0, (unsigned)(size / TRACK_SECTOR)}, bytes);
}
