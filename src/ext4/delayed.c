/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Promises: see delayed.h.
 *
 * The clusters of a file that are promised are bits in chunks, which are nodes of a tree.  So
 * taking any of them out needs no memory, and cannot fail; a range that would have to be cut in
 * two would need some.
 *
 * A reservation first marks what it wants, beside what is promised already, which may fail for
 * want of memory or in reading the map; then claims that many clusters at once; and then
 * makes the marks promises, or wipes them away.  Nobody else makes promises for the inode
 * meanwhile (inode lock), and nobody allocates in it (map lock).
 */

#include "ext4/delayed.h"

#include <string.h>

#include "ext4/balloc_group.h"
#include "ext4/bitmap.h"
#include "ext4/delayed_need.h"
#include "util/alloc.h"

/* What a reservation is for. */
enum kind {
        FOR_DATA,       /* clusters without blocks */
        FOR_CONVERSION, /* blocks that are there, unwritten */
};

static uint8_t *bits_of(struct ext4_delayed_chunk *c, enum kind kind)
{
        return kind == FOR_DATA ? c->promised : c->unwritten;
}

static int cmp_chunks(const struct ext4_delayed_chunk *a, const struct ext4_delayed_chunk *b)
{
        return a->index < b->index ? -1 : a->index > b->index;
}

RB_GENERATE_INTERNAL(ext4_delayed_tree, ext4_delayed_chunk, node, cmp_chunks,
                     static __attribute__((unused)))

void ext4_delayed_init(struct ext4_delayed *d)
{
        mtx_init_named(&d->lock, RANK_LEAF, "delayed");
        RB_INIT(&d->tree);
}

void ext4_delayed_done(struct ext4_delayed *d)
{
        assert(RB_EMPTY(&d->tree) && d->nr_map == 0 && d->nr_unwritten == 0);
        mtx_done(&d->lock);
}

/* ---- clusters of a file ---- */

struct span {
        uint64_t from, to; /* clusters */
};

/* Those that the blocks touch. */
static struct span touched(const struct ext4_inode *inode, uint64_t from, uint64_t to)
{
        unsigned bits = inode->fs->cluster_bits;

        to = min_t(uint64_t, to, EXT4_NR_LBLKS);
        return (struct span){from >> bits, div_round_up(to, 1ull << bits)};
}

/* ---- chunks ---- */

static struct ext4_delayed_chunk *find_locked(struct ext4_delayed *d, uint64_t cluster)
{
        struct ext4_delayed_chunk key = {.index = (uint32_t)(cluster / EXT4_DELAYED_CHUNK)};

        return RB_FIND(ext4_delayed_tree, &d->tree, &key);
}

/* The first that ends behind the cluster. */
static struct ext4_delayed_chunk *find_from_locked(struct ext4_delayed *d, uint64_t cluster)
{
        struct ext4_delayed_chunk key = {.index = (uint32_t)(cluster / EXT4_DELAYED_CHUNK)};

        return RB_NFIND(ext4_delayed_tree, &d->tree, &key);
}

static struct ext4_delayed_chunk *get_locked(struct ext4_delayed *d, uint64_t cluster)
{
        struct ext4_delayed_chunk *c = find_locked(d, cluster);

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

/* No reservation is under way, or it has been settled in this chunk. */
static void put_if_empty_locked(struct ext4_delayed *d, struct ext4_delayed_chunk *c)
{
        if (!is_empty(c->promised) || !is_empty(c->unwritten) || !is_empty(c->wanted))
                return;
        RB_REMOVE(ext4_delayed_tree, &d->tree, c);
        mem_free(c);
}

/* The part of a span that is in the chunk of its first cluster. */
struct part {
        uint32_t lo, hi;
};

static struct part part_of(struct span s)
{
        uint64_t base = s.from / EXT4_DELAYED_CHUNK * EXT4_DELAYED_CHUNK;

        return (struct part){
                .lo = (uint32_t)(s.from - base),
                .hi = (uint32_t)min_t(uint64_t, s.to - base, EXT4_DELAYED_CHUNK),
        };
}

/* Where what is like the first cluster, promised or not, ends. */
static uint64_t run_end_locked(struct ext4_delayed *d, struct span s, bool *ret_promised)
{
        const struct ext4_delayed_chunk *c = find_locked(d, s.from);
        bool promised = false;

        if (c)
                promised = ext4_bits_next_set(c->promised, part_of(s).lo, part_of(s).lo + 1) ==
                           part_of(s).lo;
        *ret_promised = promised;
        while (s.from < s.to) {
                struct part p = part_of(s);
                uint32_t stop = promised ? p.lo : p.hi;

                c = find_locked(d, s.from);
                if (c && promised)
                        stop = ext4_bits_next_clear(c->promised, p.lo, p.hi);
                else if (c)
                        stop = ext4_bits_next_set(c->promised, p.lo, p.hi);
                s.from += stop - p.lo;
                if (stop < p.hi)
                        break;
        }
        return s.from;
}

static uint64_t run_end(struct ext4_inode *inode, struct span s, bool *ret_promised)
{
        struct ext4_delayed *d = &inode->delayed;
        uint64_t end;

        mtx_lock(&d->lock);
        end = run_end_locked(d, s, ret_promised);
        mtx_unlock(&d->lock);
        return end;
}

bool ext4_delayed_cut(struct ext4_inode *inode, ext4_lblk_t lblk, uint32_t *len)
{
        uint64_t end;
        bool promised;

        end = run_end(inode, touched(inode, lblk, (uint64_t)lblk + *len), &promised);
        end <<= inode->fs->cluster_bits;
        *len = (uint32_t)min_t(uint64_t, *len, end - lblk);
        return promised;
}

/* ---- how many there are ---- */

/* The chunk's promises have changed. */
static void weigh_locked(struct ext4_inode *inode, struct ext4_delayed_chunk *c)
{
        uint32_t need = ext4_delayed_need(inode, c);

        inode->delayed.need += need;
        inode->delayed.need -= c->need;
        c->need = need;
}

static void set_nr_locked(struct ext4_delayed *d, uint64_t nr)
{
        d->nr = nr;
        atomic_store_explicit(&d->nr_data, nr, memory_order_release);
}

/* ---- promises for the map ---- */

/* Nothing is to be converted. */
static void forget_unwritten_locked(struct ext4_inode *inode)
{
        struct ext4_delayed *d = &inode->delayed;
        struct ext4_delayed_chunk *c, *next;

        for (c = RB_MIN(ext4_delayed_tree, &d->tree); c && d->nr_unwritten > 0; c = next) {
                next = RB_NEXT(ext4_delayed_tree, &d->tree, c);
                d->nr_unwritten -= ext4_delayed_count(c->unwritten);
                memset(c->unwritten, 0, sizeof(c->unwritten));
                weigh_locked(inode, c);
                put_if_empty_locked(d, c);
        }
}

/* How many of them are not needed any more, and are the caller's to give. */
static uint64_t leave_map_locked(struct ext4_inode *inode)
{
        struct ext4_delayed *d = &inode->delayed;
        uint64_t nr = d->nr_map;

        /* What is being written is still to be entered, or converted. */
        if (d->nr > 0 || d->is_reserving || d->is_writing || vfs_has_dirty(&inode->vfs.pages))
                return 0;
        forget_unwritten_locked(inode);
        d->nr_map = 0;
        d->nr_loose = 0;
        return nr;
}

static void give_back(struct ext4_inode *inode, uint64_t nr_data, uint64_t nr_map)
{
        struct ext4_balloc *b = inode->fs->balloc;

        if (nr_data + nr_map == 0 || !b)
                return;
        atomic_fetch_sub(&b->nr_delayed, nr_data);
        atomic_fetch_sub(&b->nr_delayed_map, nr_map);
        ext4_clusters_give(b, nr_data + nr_map);
}

static void leave_map(struct ext4_inode *inode)
{
        uint64_t nr;

        if (inode->delayed.nr_map == 0 && inode->delayed.nr_unwritten == 0)
                return;
        mtx_lock(&inode->delayed.lock);
        nr = leave_map_locked(inode);
        mtx_unlock(&inode->delayed.lock);
        give_back(inode, 0, nr);
}

bool ext4_delayed_take_node(struct ext4_inode *inode)
{
        struct ext4_delayed *d = &inode->delayed;
        bool got;

        mtx_lock(&d->lock);
        got = d->nr_map > 0;
        if (got) {
                d->nr_map--;
                atomic_fetch_sub(&inode->fs->balloc->nr_delayed_map, 1);
        }
        mtx_unlock(&d->lock);
        return got;
}

void ext4_delayed_return_node(struct ext4_inode *inode)
{
        struct ext4_delayed *d = &inode->delayed;

        mtx_lock(&d->lock);
        d->nr_map++;
        atomic_fetch_add(&inode->fs->balloc->nr_delayed_map, 1);
        mtx_unlock(&d->lock);
        leave_map(inode);
}

static void set_writing(struct ext4_delayed *d, bool is_writing)
{
        if (!is_writing && !d->is_writing) /* it changes under the inode lock */
                return;
        mtx_lock(&d->lock);
        d->is_writing = is_writing;
        mtx_unlock(&d->lock);
}

void ext4_delayed_settle(struct ext4_inode *inode)
{
        set_writing(&inode->delayed, false);
        if (vfs_has_dirty(&inode->vfs.pages))
                return;
        if (atomic_load_explicit(&inode->delayed.nr_data, memory_order_acquire) > 0)
                ext4_delayed_clear(inode);
        else
                leave_map(inode);
}

void ext4_delayed_try_settle(struct ext4_inode *inode)
{
        leave_map(inode);
        if (atomic_load_explicit(&inode->delayed.nr_data, memory_order_acquire) == 0 ||
            vfs_has_dirty(&inode->vfs.pages) || !rwsem_write_trylock(&inode->vfs.lock))
                return;
        ext4_delayed_settle(inode);
        rwsem_write_unlock(&inode->vfs.lock);
}

/* ---- taking them out ---- */

static uint32_t clear_part(uint8_t *bits, uint32_t lo, uint32_t hi)
{
        uint32_t at = ext4_bits_next_set(bits, lo, hi);
        uint32_t nr = 0;

        while (at < hi) {
                uint32_t stop = ext4_bits_next_clear(bits, at, hi);

                ext4_bits_clear(bits, at, stop - at);
                nr += stop - at;
                at = ext4_bits_next_set(bits, stop, hi);
        }
        return nr;
}

enum dropping {
        DROP_DATA,
        DROP_ALL,
};

/* How many there were to data, and how many for the map go with them. */
static uint64_t drop(struct ext4_inode *inode, struct span s, enum dropping how,
                     uint64_t *ret_map)
{
        struct ext4_delayed *d = &inode->delayed;
        struct ext4_delayed_chunk *c, *next;
        uint64_t nr = 0, nr_unwritten = 0;

        *ret_map = 0;
        if (s.from >= s.to)
                return 0;
        mtx_lock(&d->lock);
        for (c = find_from_locked(d, s.from); c && ext4_delayed_base(c) < s.to; c = next) {
                struct part p;

                next = RB_NEXT(ext4_delayed_tree, &d->tree, c);
                s.from = max_t(uint64_t, s.from, ext4_delayed_base(c));
                p = part_of(s);
                nr += clear_part(c->promised, p.lo, p.hi);
                if (how == DROP_ALL)
                        nr_unwritten += clear_part(c->unwritten, p.lo, p.hi);
                weigh_locked(inode, c);
                put_if_empty_locked(d, c);
        }
        set_nr_locked(d, d->nr - nr);
        d->nr_unwritten -= nr_unwritten;
        *ret_map = leave_map_locked(inode);
        mtx_unlock(&d->lock);
        return nr;
}

void ext4_delayed_clear(struct ext4_inode *inode)
{
        uint64_t nr_map;
        uint64_t nr = drop(inode, touched(inode, 0, EXT4_NR_LBLKS), DROP_ALL, &nr_map);

        give_back(inode, nr, nr_map);
}

void ext4_delayed_spend(struct ext4_inode *inode, ext4_lblk_t lblk, uint32_t len)
{
        struct span s = touched(inode, lblk, (uint64_t)lblk + len);
        struct ext4_balloc *b = inode->fs->balloc;
        uint64_t nr_map;
        uint64_t nr = drop(inode, s, DROP_DATA, &nr_map);

        atomic_fetch_sub(&b->nr_delayed, nr);
        /* Some were taken back between the allocation and now: it pays as others do. */
        ext4_clusters_charge(b, s.to - s.from - nr);
        give_back(inode, 0, nr_map);
}

/* ---- making them ---- */

static int want_part_locked(struct ext4_delayed *d, struct span s, enum kind kind, uint64_t *nr)
{
        struct ext4_delayed_chunk *c = get_locked(d, s.from);
        const struct part p = part_of(s);
        uint32_t at, stop;

        if (!c)
                return -ENOMEM;
        for (at = ext4_bits_next_clear(bits_of(c, kind), p.lo, p.hi); at < p.hi;
             at = ext4_bits_next_clear(bits_of(c, kind), stop, p.hi)) {
                stop = ext4_bits_next_set(bits_of(c, kind), at, p.hi);
                ext4_bits_set(c->wanted, at, stop - at);
                *nr += stop - at;
        }
        return 0;
}

/* Mark what of it is not promised; *nr counts. */
static int want(struct ext4_inode *inode, struct span s, enum kind kind, uint64_t *nr)
{
        struct ext4_delayed *d = &inode->delayed;
        int ret = 0;

        mtx_lock(&d->lock);
        while (ret == 0 && s.from < s.to) {
                const struct part p = part_of(s);

                ret = want_part_locked(d, s, kind, nr);
                s.from += p.hi - p.lo;
        }
        mtx_unlock(&d->lock);
        return ret;
}

struct claim {
        enum kind kind;
        uint64_t nr_data, nr_map; /* clusters */
        uint64_t nr_loose;        /* clusters that are there, and get more blocks mapped */
        uint64_t nr_unwritten;    /* clusters, some of whose blocks get converted */
};

/* Never more than every second block of the file, however often it is written to. */
static uint64_t loose_with(struct ext4_inode *inode, struct span s, uint64_t nr)
{
        const struct ext4_fs *fs = inode->fs;
        uint64_t end = max_t(uint64_t, vfs_size(&inode->vfs) >> fs->block_bits,
                             s.to << fs->cluster_bits);

        return min_t(uint64_t, inode->delayed.nr_loose + nr * ext4_delayed_extents(fs),
                     end / 2 + 1);
}

/* How many promises for the map there must be more.  Those that there are stay, until it is
 * settled. */
static void want_map(struct ext4_inode *inode, struct span s, struct claim *claim)
{
        struct ext4_delayed *d = &inode->delayed;
        struct ext4_delayed_chunk *c;
        uint64_t need, all;

        /* Blocks of clusters that are there: not without clusters. */
        if (inode->fs->cluster_bits == 0)
                claim->nr_loose = 0;
        if (claim->nr_data + claim->nr_loose + claim->nr_unwritten == 0)
                return;

        mtx_lock(&d->lock);
        d->is_reserving = true;
        d->nr_loose = loose_with(inode, s, claim->nr_loose);
        need = d->need;
        for (c = find_from_locked(d, s.from); c && ext4_delayed_base(c) < s.to;
             c = RB_NEXT(ext4_delayed_tree, &d->tree, c)) {
                struct ext4_delayed_chunk then = *c;

                for (unsigned i = 0; i < sizeof(then.wanted); i++)
                        bits_of(&then, claim->kind)[i] |= c->wanted[i];
                need += ext4_delayed_need(inode, &then);
                need -= c->need;
        }
        all = ext4_delayed_need_in_all(inode, d->nr + claim->nr_data,
                                       d->nr_unwritten + claim->nr_unwritten, need);
        claim->nr_map = all > d->nr_map ? all - d->nr_map : 0;
        mtx_unlock(&d->lock);
}

/* The marks become promises, or go. */
static void settle(struct ext4_inode *inode, struct span s, const struct claim *claim,
                   bool keep)
{
        struct ext4_delayed *d = &inode->delayed;
        struct ext4_delayed_chunk *c, *next;

        mtx_lock(&d->lock);
        for (c = find_from_locked(d, s.from); c && ext4_delayed_base(c) < s.to; c = next) {
                next = RB_NEXT(ext4_delayed_tree, &d->tree, c);
                for (unsigned i = 0; keep && i < sizeof(c->wanted); i++)
                        bits_of(c, claim->kind)[i] |= c->wanted[i];
                memset(c->wanted, 0, sizeof(c->wanted));
                weigh_locked(inode, c);
                put_if_empty_locked(d, c);
        }
        if (keep) {
                set_nr_locked(d, d->nr + claim->nr_data);
                d->nr_unwritten += claim->nr_unwritten;
                d->nr_map += claim->nr_map;
        }
        d->is_reserving = false;
        mtx_unlock(&d->lock);
        leave_map(inode);
}

/* The map is locked: what the cache knows is right, too. */
static int look(struct ext4_inode *inode, uint64_t lblk, struct ext4_map *ret_map)
{
        if (ext4_es_lookup(&inode->es, (ext4_lblk_t)lblk, ret_map))
                return 0;
        return ext4_map_lookup_locked(inode, (ext4_lblk_t)lblk, 0, ret_map);
}

/* Mark those without blocks.  Several mappings may share a cluster; one is enough to have it.
 */
static int want_holes(struct ext4_inode *inode, struct span s, struct claim *claim)
{
        const unsigned bits = inode->fs->cluster_bits;
        const uint64_t end = min_t(uint64_t, s.to << bits, EXT4_NR_LBLKS);
        uint64_t lblk = s.from << bits;
        int ret = 0;

        /* From s.from on, up to lblk, nothing is mapped. */
        while (ret == 0 && lblk < end) {
                struct ext4_map map;

                ret = look(inode, lblk, &map);
                if (ret < 0)
                        break;
                if (map.type != EXT4_MAP_HOLE) {
                        ret = want(inode, (struct span){s.from, lblk >> bits}, FOR_DATA,
                                   &claim->nr_data);
                        s.from = div_round_up(map.lblk + map.len, 1ull << bits);
                        claim->nr_loose += min_t(uint64_t, s.from, s.to) - (lblk >> bits);
                        lblk = s.from << bits;
                } else {
                        lblk = map.lblk + map.len;
                }
        }
        return ret < 0 ? ret : want(inode, s, FOR_DATA, &claim->nr_data);
}

static int reserve_locked(struct ext4_inode *inode, struct span s, enum kind kind,
                          unsigned alloc_flags)
{
        struct ext4_balloc *b = inode->fs->balloc;
        struct claim claim = {.kind = kind};
        uint64_t nr;
        int ret = kind == FOR_DATA ? want_holes(inode, s, &claim)
                                   : want(inode, s, FOR_CONVERSION, &claim.nr_unwritten);

        if (ret == 0)
                want_map(inode, s, &claim);
        nr = claim.nr_data + claim.nr_map;
        if (ret == 0 && nr > 0 && ext4_clusters_claim(b, nr, nr, alloc_flags) == 0)
                ret = -ENOSPC;
        if (ret == 0) {
                atomic_fetch_add(&b->nr_delayed, claim.nr_data);
                atomic_fetch_add(&b->nr_delayed_map, claim.nr_map);
        }
        settle(inode, s, &claim, ret == 0);
        return ret;
}

int ext4_delayed_reserve(struct ext4_inode *inode, ext4_lblk_t lblk, uint64_t len,
                         unsigned alloc_flags)
{
        struct span s;
        bool promised;
        int ret;

        assert(len > 0 && !(inode->flags & EXT4_FL_INLINE_DATA));
        if (len > EXT4_NR_LBLKS - lblk)
                return -EFBIG;
        s = touched(inode, lblk, lblk + len);
        /* Written to again: if some of it gets its blocks just now, it has them. */
        if (run_end(inode, s, &promised) == s.to && promised)
                return 0;
        rwsem_read_lock(&inode->map_lock);
        ret = reserve_locked(inode, s, FOR_DATA, alloc_flags);
        rwsem_read_unlock(&inode->map_lock);
        return ret;
}

static bool are_promised(struct ext4_inode *inode, struct span s)
{
        struct ext4_delayed *d = &inode->delayed;
        bool are = true;

        mtx_lock(&d->lock);
        while (are && s.from < s.to) {
                struct ext4_delayed_chunk *c = find_locked(d, s.from);
                const struct part p = part_of(s);

                are = c && ext4_bits_next_clear(c->unwritten, p.lo, p.hi) == p.hi;
                s.from += p.hi - p.lo;
        }
        mtx_unlock(&d->lock);
        return are;
}

int ext4_delayed_reserve_conversion(struct ext4_inode *inode, ext4_lblk_t lblk, uint64_t len,
                                    unsigned alloc_flags)
{
        const struct span s = touched(inode, lblk, lblk + len);
        int ret;

        set_writing(&inode->delayed, true); /* order: then nobody takes back what there is */
        if (are_promised(inode, s))
                return 0;
        rwsem_read_lock(&inode->map_lock); /* the depth stays */
        /* The blocks are there: who has preallocated is not told that there is no space. */
        ret = reserve_locked(inode, s, FOR_CONVERSION, alloc_flags | EXT4_ALLOC_POOL);
        rwsem_read_unlock(&inode->map_lock);
        if (ret < 0)
                set_writing(&inode->delayed, false);
        return ret;
}

uint64_t ext4_delayed_clusters(const struct ext4_fs *fs)
{
        return fs->balloc ? atomic_load(&fs->balloc->nr_delayed) : 0;
}

uint64_t ext4_delayed_map_clusters(const struct ext4_fs *fs)
{
        return fs->balloc ? atomic_load(&fs->balloc->nr_delayed_map) : 0;
}
