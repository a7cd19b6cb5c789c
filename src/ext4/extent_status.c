/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The extent status cache: what is known of one inode's map, so that a repeated lookup reads no
 * tree block and takes no exclusive lock.
 *
 * A red-black tree of disjoint entries by logical block.  An entry is right as long as the map
 * is not changed; whoever changes the map changes the cache with it, under the map lock (C37).
 * Each such change counts: who used a mapping without a lock can see that it may have
 * become another one (C38).
 */

#include "ext4/ext4.h"
#include "util/alloc.h"

static int cmp_entries(const struct ext4_es_entry *a, const struct ext4_es_entry *b)
{
        return a->map.lblk < b->map.lblk ? -1 : a->map.lblk > b->map.lblk;
}

RB_GENERATE_INTERNAL(ext4_es_tree, ext4_es_entry, node, cmp_entries,
                     static __attribute__((unused)))

void ext4_es_init(struct ext4_es *es)
{
        rwsem_init(&es->lock, RANK_MAP_CACHE);
        RB_INIT(&es->tree);
        es->nr = 0;
        es->hand = 0;
        atomic_init(&es->seq, 0);
}

static void remove_locked(struct ext4_es *es, struct ext4_es_entry *e, _Atomic uint64_t *total)
{
        RB_REMOVE(ext4_es_tree, &es->tree, e);
        es->nr--;
        atomic_fetch_sub_explicit(total, 1, memory_order_relaxed);
        mem_free(e);
}

void ext4_es_clear(struct ext4_es *es, _Atomic uint64_t *total)
{
        struct ext4_es_entry *e, *next;

        rwsem_write_lock(&es->lock);
        for (e = RB_MIN(ext4_es_tree, &es->tree); e; e = next) {
                next = RB_NEXT(ext4_es_tree, &es->tree, e);
                remove_locked(es, e, total);
        }
        rwsem_write_unlock(&es->lock);
}

void ext4_es_shrink(struct ext4_es *es, uint32_t nr, _Atomic uint64_t *total)
{
        struct ext4_es_entry *e;

        rwsem_write_lock(&es->lock);
        e = RB_NFIND(ext4_es_tree, &es->tree,
                     &(struct ext4_es_entry){.map = {.lblk = es->hand}});
        for (; nr > 0 && es->nr > 0; nr--) {
                struct ext4_es_entry *next;

                if (!e)
                        e = RB_MIN(ext4_es_tree, &es->tree);
                next = RB_NEXT(ext4_es_tree, &es->tree, e);
                remove_locked(es, e, total);
                e = next;
        }
        es->hand = e ? e->map.lblk : 0;
        rwsem_write_unlock(&es->lock);
}

/* The last entry that begins at or before lblk. */
static struct ext4_es_entry *find_locked(struct ext4_es *es, ext4_lblk_t lblk)
{
        struct ext4_es_entry *e = RB_ROOT(&es->tree);
        struct ext4_es_entry *best = NULL;

        while (e) {
                if (e->map.lblk <= lblk) {
                        best = e;
                        e = RB_RIGHT(e, node);
                } else {
                        e = RB_LEFT(e, node);
                }
        }
        return best;
}

static uint64_t end_of(const struct ext4_map *map)
{
        return map->lblk + map->len;
}

bool ext4_es_lookup(struct ext4_es *es, ext4_lblk_t lblk, struct ext4_map *ret_map)
{
        struct ext4_es_entry *e;
        bool found;

        rwsem_read_lock(&es->lock);
        e = find_locked(es, lblk);
        found = e && lblk < end_of(&e->map);
        if (found)
                *ret_map = e->map;
        rwsem_read_unlock(&es->lock);
        return found;
}

/* True when b begins where a ends, in the file and, if there are blocks, on disk. */
static bool continues(const struct ext4_map *a, const struct ext4_map *b)
{
        return a->type == b->type && end_of(a) == b->lblk &&
               (a->type == EXT4_MAP_HOLE || a->pblk + a->len == b->pblk);
}

/* Two threads may have read the same extent; then both say the same. */
static bool covers(const struct ext4_map *a, const struct ext4_map *b)
{
        return a->type == b->type && a->lblk <= b->lblk && end_of(a) >= end_of(b) &&
               (a->type == EXT4_MAP_HOLE || b->pblk - a->pblk == b->lblk - a->lblk);
}

static void add_locked(struct ext4_es *es, struct ext4_map map, _Atomic uint64_t *total)
{
        struct ext4_es_entry *prev = find_locked(es, map.lblk);
        struct ext4_es_entry *next =
                prev ? RB_NEXT(ext4_es_tree, &es->tree, prev) : RB_MIN(ext4_es_tree, &es->tree);
        struct ext4_es_entry *e;

        if (prev && continues(&prev->map, &map)) {
                map.lblk = prev->map.lblk;
                map.pblk = prev->map.pblk;
                map.len += prev->map.len;
                remove_locked(es, prev, total);
        }
        if (next && continues(&map, &next->map)) {
                map.len += next->map.len;
                remove_locked(es, next, total);
        }
        e = mem_alloc(sizeof(*e));
        if (!e)
                return; /* a cache may forget */
        e->map = map;
        RB_INSERT(ext4_es_tree, &es->tree, e);
        es->nr++;
        atomic_fetch_add_explicit(total, 1, memory_order_relaxed);
}

/* Throw out what lies inside `map`: the same facts in smaller pieces.  False: it is all known.
 */
static bool make_room_locked(struct ext4_es *es, const struct ext4_map *map,
                             _Atomic uint64_t *total)
{
        struct ext4_es_entry *e = find_locked(es, map->lblk);

        if (e && covers(&e->map, map))
                return false;
        if (!e)
                e = RB_MIN(ext4_es_tree, &es->tree);
        else if (end_of(&e->map) <= map->lblk)
                e = RB_NEXT(ext4_es_tree, &es->tree, e);
        while (e && e->map.lblk < end_of(map)) {
                struct ext4_es_entry *next = RB_NEXT(ext4_es_tree, &es->tree, e);

                remove_locked(es, e, total);
                e = next;
        }
        return true;
}

void ext4_es_insert(struct ext4_es *es, const struct ext4_map *map, _Atomic uint64_t *total)
{
        rwsem_write_lock(&es->lock);
        if (make_room_locked(es, map, total))
                add_locked(es, *map, total);
        rwsem_write_unlock(&es->lock);
}

/* ---- changes of the map ---- */

/* An entry for what is left of `map` from `lblk` on. */
static void add_rest_locked(struct ext4_es *es, struct ext4_map map, uint64_t lblk,
                            _Atomic uint64_t *total)
{
        uint64_t skip = lblk - map.lblk;

        map.lblk = (ext4_lblk_t)lblk;
        map.len -= skip;
        if (map.type != EXT4_MAP_HOLE)
                map.pblk += skip;
        add_locked(es, map, total);
}

/* Nothing is known of [from, to) any more; of what is beside it, as much as before. */
static void forget_locked(struct ext4_es *es, uint64_t from, uint64_t to,
                          _Atomic uint64_t *total)
{
        struct ext4_es_entry *e =
                from > EXT4_MAX_LBLK ? NULL : find_locked(es, (ext4_lblk_t)from);

        if (!e)
                e = RB_MIN(ext4_es_tree, &es->tree);
        while (e && e->map.lblk < to) {
                struct ext4_es_entry *next = RB_NEXT(ext4_es_tree, &es->tree, e);
                const struct ext4_map old = e->map;

                if (end_of(&old) > from) {
                        if (old.lblk < from)
                                e->map.len = from - old.lblk; /* keeps its place */
                        else
                                remove_locked(es, e, total);
                        if (end_of(&old) > to) {
                                add_rest_locked(es, old, to, total);
                                return;
                        }
                }
                e = next;
        }
}

static void count_change(struct ext4_es *es)
{
        /* Pairs with ext4_es_seq(): who sees the new map sees that it is new. */
        atomic_fetch_add_explicit(&es->seq, 1, memory_order_release);
}

void ext4_es_forget(struct ext4_es *es, uint64_t from, uint64_t to, _Atomic uint64_t *total)
{
        rwsem_write_lock(&es->lock);
        forget_locked(es, from, to, total);
        count_change(es);
        rwsem_write_unlock(&es->lock);
}

void ext4_es_set(struct ext4_es *es, const struct ext4_map *map, _Atomic uint64_t *total)
{
        rwsem_write_lock(&es->lock);
        forget_locked(es, map->lblk, end_of(map), total);
        add_locked(es, *map, total);
        count_change(es);
        rwsem_write_unlock(&es->lock);
}
