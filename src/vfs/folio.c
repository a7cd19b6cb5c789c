/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vfs/folio.h"

#include "util/alloc.h"
#include "vfs/inode.h"

#define WORD_BITS 64u

static uint32_t nr_blocks(const struct folio *f)
{
        return f->size >> f->block_bits;
}

static uint64_t *uptodate_map(struct folio *f)
{
        return f->bits;
}

static uint64_t *dirty_map(struct folio *f)
{
        return f->bits + f->nr_words;
}

/* ---- runs of bits ---- */

static void set_bits(uint64_t *map, uint32_t from, uint32_t to)
{
        while (from < to) {
                uint32_t bit = from % WORD_BITS;
                uint32_t n = min_t(uint32_t, to - from, WORD_BITS - bit);
                uint64_t mask = n == WORD_BITS ? UINT64_MAX : ((1ull << n) - 1) << bit;

                map[from / WORD_BITS] |= mask;
                from += n;
        }
}

/* The first of [from, to) that is `value`; `to` when none is. */
static uint32_t find_bit(const uint64_t *map, uint32_t from, uint32_t to, bool value)
{
        while (from < to) {
                uint64_t word = map[from / WORD_BITS];

                if (!value)
                        word = ~word;
                word >>= from % WORD_BITS;
                if (word)
                        return min_t(uint32_t, from + (uint32_t)__builtin_ctzll(word), to);
                from = (from / WORD_BITS + 1) * WORD_BITS;
        }
        return to;
}

/* Blocks that [from, to) touches. */
static uint32_t first_block(const struct folio *f, uint64_t from)
{
        return (uint32_t)((from - f->pos) >> f->block_bits);
}

static uint32_t end_block(const struct folio *f, uint64_t to)
{
        return (uint32_t)((to - f->pos + (1u << f->block_bits) - 1) >> f->block_bits);
}

static bool next_run(const struct folio *f, const uint64_t *map, bool value, uint64_t *pos,
                     uint64_t *end)
{
        const uint32_t last = end_block(f, *end);
        uint32_t from = find_bit(map, first_block(f, *pos), last, value);

        if (from == last)
                return false;
        *pos = f->pos + ((uint64_t)from << f->block_bits);
        *end = f->pos + ((uint64_t)find_bit(map, from, last, !value) << f->block_bits);
        return true;
}

/* ---- states ---- */

bool folio_is_uptodate(const struct folio *f, uint64_t from, uint64_t to)
{
        const uint32_t last = end_block(f, to);

        return find_bit(f->bits, first_block(f, from), last, false) == last;
}

void folio_set_uptodate(struct folio *f, uint64_t from, uint64_t to)
{
        set_bits(uptodate_map(f), first_block(f, from), end_block(f, to));
        if (find_bit(f->bits, 0, nr_blocks(f), false) == nr_blocks(f))
                /* Partner: readers that copy without the lock. */
                atomic_store_explicit(&f->is_uptodate, true, memory_order_release);
}

void folio_set_dirty(struct folio *f, uint64_t from, uint64_t to)
{
        set_bits(dirty_map(f), first_block(f, from), end_block(f, to));
}

void folio_clear_dirty(struct folio *f)
{
        for (uint32_t i = 0; i < f->nr_words; i++)
                dirty_map(f)[i] = 0;
}

bool folio_next_missing(const struct folio *f, uint64_t from, uint64_t to, uint64_t *ret_from,
                        uint64_t *ret_to)
{
        *ret_from = from;
        *ret_to = to;
        return next_run(f, f->bits, false, ret_from, ret_to);
}

bool folio_next_dirty(const struct folio *f, uint64_t from, uint64_t to, uint64_t *ret_from,
                      uint64_t *ret_to)
{
        *ret_from = from;
        *ret_to = to;
        return next_run(f, f->bits + f->nr_words, true, ret_from, ret_to);
}

/* ---- the object ---- */

/* What the device wants memory to be aligned to. */
static uint32_t alignment(const struct vfs_inode *inode)
{
        return max_t(uint32_t, uext4_bdev_geometry(inode->sb->dev)->mem_align, FOLIO_MIN_SIZE);
}

/* Pieces of the arena are aligned to their size. */
static uint32_t piece_of(const struct vfs_inode *inode, uint32_t size)
{
        return max_t(uint32_t, size, alignment(inode));
}

/* Whether smaller ones are to be tried: what is free of the arena is in too small pieces.  What
 * is over the bound, because others are lent, has no room there. */
static bool fits_smaller(struct vfs_inode *inode, uint32_t size)
{
        struct vfs_pagecache *cache = &inode->sb->pagecache;

        return size > vfs_least_folio(inode) && vfs_pagecache_arena(cache)->memory &&
               atomic_load(&cache->bytes) + size <= cache->limit;
}

static char *data_new(struct vfs_inode *inode, uint32_t size)
{
        struct arena *arena = vfs_pagecache_arena(&inode->sb->pagecache);
        char *data = arena_get(arena, piece_of(inode, size));

        if (data || fits_smaller(inode, size))
                return data;
        return mem_alloc_aligned(alignment(inode), size);
}

static void data_free(struct folio *f)
{
        struct arena *arena = vfs_pagecache_arena(f->cache);

        if (arena_has(arena, f->data))
                arena_put(arena, f->data, f->piece);
        else
                mem_free(f->data);
}

struct folio *folio_new(struct vfs_inode *inode, uint64_t pos, uint32_t size)
{
        const uint32_t words = (uint32_t)div_round_up(size >> inode->sb->block_bits, WORD_BITS);
        struct folio *f = mem_zalloc(sizeof(*f) + 2 * (size_t)words * sizeof(f->bits[0]));

        if (!f)
                return NULL;
        f->data = data_new(inode, size);
        if (!f->data) {
                mem_free(f);
                return NULL;
        }
        f->inode = inode;
        f->cache = &inode->sb->pagecache;
        f->piece = piece_of(inode, size);
        f->pos = pos;
        f->size = size;
        f->block_bits = inode->sb->block_bits;
        f->nr_words = words;
        atomic_init(&f->refs, 1);
        mtx_init(&f->lock, RANK_PAGE);
        return f;
}

void folio_put(struct folio *f)
{
        if (atomic_fetch_sub_explicit(&f->refs, 1, memory_order_acq_rel) > 1)
                return;
        mtx_done(&f->lock);
        data_free(f);
        mem_free(f);
}
