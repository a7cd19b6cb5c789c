/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ext4/delayed_set.h"

#include <string.h>

#include "ext4/bitmap.h"
#include "util/alloc.h"

struct ext4_delayed_span ext4_delayed_touched(const struct ext4_inode *inode, uint64_t from,
                                              uint64_t to)
{
        unsigned bits = inode->fs->cluster_bits;

        to = min_t(uint64_t, to, EXT4_NR_LBLKS);
        return (struct ext4_delayed_span){from >> bits, div_round_up(to, 1ull << bits)};
}

/* ---- chunks ---- */

static int cmp_chunks(const struct ext4_delayed_chunk *a, const struct ext4_delayed_chunk *b)
{
        return a->index < b->index ? -1 : a->index > b->index;
}

RB_GENERATE_INTERNAL(ext4_delayed_tree, ext4_delayed_chunk, node, cmp_chunks,
                     static __attribute__((unused)))

static struct ext4_delayed_chunk *find(struct ext4_delayed *d, uint64_t cluster)
{
        struct ext4_delayed_chunk key = {.index = (uint32_t)(cluster / EXT4_DELAYED_CHUNK)};

        return RB_FIND(ext4_delayed_tree, &d->tree, &key);
}

struct ext4_delayed_chunk *ext4_delayed_next_chunk(struct ext4_delayed *d,
                                                   struct ext4_delayed_span *s)
{
        struct ext4_delayed_chunk key = {.index = (uint32_t)(s->from / EXT4_DELAYED_CHUNK)};
        struct ext4_delayed_chunk *c = NULL;

        if (s->from < s->to)
                c = RB_NFIND(ext4_delayed_tree, &d->tree, &key);
        if (!c || ext4_delayed_base(c) >= s->to)
                return NULL;
        s->from = ext4_delayed_base(c) + EXT4_DELAYED_CHUNK;
        return c;
}

static struct ext4_delayed_chunk *get(struct ext4_delayed *d, uint64_t cluster)
{
        struct ext4_delayed_chunk *c = find(d, cluster);

        if (c)
                return c;
        c = mem_zalloc(sizeof(*c));
        if (!c)
                return NULL;
        c->index = (uint32_t)(cluster / EXT4_DELAYED_CHUNK);
        RB_INSERT(ext4_delayed_tree, &d->tree, c);
        return c;
}

static bool is_empty(const uint8_t *bits)
{
        return ext4_bits_next_set(bits, 0, EXT4_DELAYED_CHUNK) == EXT4_DELAYED_CHUNK;
}

void ext4_delayed_chunk_put(struct ext4_delayed *d, struct ext4_delayed_chunk *c)
{
        if (!is_empty(c->promised[EXT4_DELAYED_DATA]) ||
            !is_empty(c->promised[EXT4_DELAYED_CONVERSION]) || !is_empty(c->wanted))
                return;
        RB_REMOVE(ext4_delayed_tree, &d->tree, c);
        mem_free(c);
}

uint32_t ext4_delayed_count(const struct ext4_delayed_chunk *c, enum ext4_delayed_kind kind)
{
        return EXT4_DELAYED_CHUNK -
               ext4_bits_count_clear(c->promised[kind], EXT4_DELAYED_CHUNK);
}

/* ---- spans ---- */

/* The part of a span that is in the chunk of its first cluster. */
struct part {
        uint32_t lo, hi;
};

static struct part part_of(struct ext4_delayed_span s)
{
        uint64_t base = s.from / EXT4_DELAYED_CHUNK * EXT4_DELAYED_CHUNK;

        return (struct part){
                .lo = (uint32_t)(s.from - base),
                .hi = (uint32_t)min_t(uint64_t, s.to - base, EXT4_DELAYED_CHUNK),
        };
}

uint64_t ext4_delayed_run_end(struct ext4_delayed *d, struct ext4_delayed_span s,
                              bool *ret_promised)
{
        const struct ext4_delayed_chunk *c = find(d, s.from);
        const uint8_t *bits = c ? c->promised[EXT4_DELAYED_DATA] : NULL;
        const struct part first = part_of(s);
        const bool promised =
                bits && ext4_bits_next_set(bits, first.lo, first.lo + 1) == first.lo;

        *ret_promised = promised;
        while (s.from < s.to) {
                struct part p = part_of(s);
                uint32_t stop = promised ? p.lo : p.hi;

                c = find(d, s.from);
                bits = c ? c->promised[EXT4_DELAYED_DATA] : NULL;
                if (bits && promised)
                        stop = ext4_bits_next_clear(bits, p.lo, p.hi);
                else if (bits)
                        stop = ext4_bits_next_set(bits, p.lo, p.hi);
                s.from += stop - p.lo;
                if (stop < p.hi)
                        break;
        }
        return s.from;
}

bool ext4_delayed_has_all(struct ext4_delayed *d, struct ext4_delayed_span s,
                          enum ext4_delayed_kind kind)
{
        while (s.from < s.to) {
                const struct ext4_delayed_chunk *c = find(d, s.from);
                const struct part p = part_of(s);

                if (!c || ext4_bits_next_clear(c->promised[kind], p.lo, p.hi) < p.hi)
                        return false;
                s.from += p.hi - p.lo;
        }
        return true;
}

uint32_t ext4_delayed_take_out(struct ext4_delayed_chunk *c, struct ext4_delayed_span s,
                               enum ext4_delayed_kind kind)
{
        uint8_t *bits = c->promised[kind];
        uint32_t at, nr = 0;
        struct part p;

        s.from = max_t(uint64_t, s.from, ext4_delayed_base(c));
        p = part_of(s);
        at = ext4_bits_next_set(bits, p.lo, p.hi);
        while (at < p.hi) {
                uint32_t stop = ext4_bits_next_clear(bits, at, p.hi);

                ext4_bits_clear(bits, at, stop - at);
                nr += stop - at;
                at = ext4_bits_next_set(bits, stop, p.hi);
        }
        return nr;
}

/* ---- what is wanted ---- */

static uint32_t want_part(struct ext4_delayed_chunk *c, struct part p,
                          enum ext4_delayed_kind kind)
{
        const uint8_t *bits = c->promised[kind];
        uint32_t at = ext4_bits_next_clear(bits, p.lo, p.hi);
        uint32_t nr = 0;

        while (at < p.hi) {
                uint32_t stop = ext4_bits_next_set(bits, at, p.hi);

                ext4_bits_set(c->wanted, at, stop - at);
                nr += stop - at;
                at = ext4_bits_next_clear(bits, stop, p.hi);
        }
        return nr;
}

int ext4_delayed_want(struct ext4_delayed *d, struct ext4_delayed_span s,
                      enum ext4_delayed_kind kind, uint64_t *nr)
{
        while (s.from < s.to) {
                struct ext4_delayed_chunk *c = get(d, s.from);
                const struct part p = part_of(s);

                if (!c)
                        return -ENOMEM;
                *nr += want_part(c, p, kind);
                s.from += p.hi - p.lo;
        }
        return 0;
}

void ext4_delayed_keep_wanted(struct ext4_delayed_chunk *c, enum ext4_delayed_kind kind)
{
        for (unsigned i = 0; i < sizeof(c->wanted); i++)
                c->promised[kind][i] |= c->wanted[i];
        ext4_delayed_forget_wanted(c);
}

void ext4_delayed_forget_wanted(struct ext4_delayed_chunk *c)
{
        memset(c->wanted, 0, sizeof(c->wanted));
}
