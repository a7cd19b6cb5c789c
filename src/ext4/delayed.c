/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Promises: see delayed.h.  Which clusters have one is a set of chunks (delayed_set.h).
 *
 * A reservation first marks what it wants, beside what is promised already, which may fail for
 * want of memory or in reading the map; then claims that many clusters at once; and then
 * makes the marks promises, or wipes them away.  Nobody else makes promises for the inode
 * meanwhile (inode lock), and nobody allocates in it (map lock).
 */

#include "ext4/delayed.h"

#include "ext4/balloc_group.h"
#include "ext4/delayed_need.h"

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

/* ---- looking ---- */

static uint64_t run_end(struct ext4_inode *inode, struct ext4_delayed_span s,
                        bool *ret_promised)
{
        struct ext4_delayed *d = &inode->delayed;
        uint64_t end;

        mtx_lock(&d->lock);
        end = ext4_delayed_run_end(d, s, ret_promised);
        mtx_unlock(&d->lock);
        return end;
}

bool ext4_delayed_cut(struct ext4_inode *inode, ext4_lblk_t lblk, uint32_t *len)
{
        uint64_t end;
        bool promised;

        end = run_end(inode, ext4_delayed_touched(inode, lblk, (uint64_t)lblk + *len),
                      &promised);
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
        const struct ext4_delayed_span all = ext4_delayed_touched(inode, 0, EXT4_NR_LBLKS);
        struct ext4_delayed_span left = all;
        struct ext4_delayed *d = &inode->delayed;
        struct ext4_delayed_chunk *c;

        while (d->nr_unwritten > 0 && (c = ext4_delayed_next_chunk(d, &left))) {
                d->nr_unwritten -= ext4_delayed_take_out(c, all, EXT4_DELAYED_CONVERSION);
                weigh_locked(inode, c);
                ext4_delayed_chunk_put(d, c);
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

enum dropping {
        DROP_DATA,
        DROP_ALL,
};

/* How many there were to data, and how many for the map go with them. */
static uint64_t drop(struct ext4_inode *inode, struct ext4_delayed_span s, enum dropping how,
                     uint64_t *ret_map)
{
        struct ext4_delayed *d = &inode->delayed;
        struct ext4_delayed_span left = s;
        struct ext4_delayed_chunk *c;
        uint64_t nr = 0, nr_unwritten = 0;

        *ret_map = 0;
        if (s.from >= s.to)
                return 0;
        mtx_lock(&d->lock);
        while ((c = ext4_delayed_next_chunk(d, &left))) {
                nr += ext4_delayed_take_out(c, s, EXT4_DELAYED_DATA);
                if (how == DROP_ALL)
                        nr_unwritten += ext4_delayed_take_out(c, s, EXT4_DELAYED_CONVERSION);
                weigh_locked(inode, c);
                ext4_delayed_chunk_put(d, c);
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
        uint64_t nr =
                drop(inode, ext4_delayed_touched(inode, 0, EXT4_NR_LBLKS), DROP_ALL, &nr_map);

        give_back(inode, nr, nr_map);
}

void ext4_delayed_spend(struct ext4_inode *inode, ext4_lblk_t lblk, uint32_t len)
{
        struct ext4_delayed_span s = ext4_delayed_touched(inode, lblk, (uint64_t)lblk + len);
        struct ext4_balloc *b = inode->fs->balloc;
        uint64_t nr_map;
        uint64_t nr = drop(inode, s, DROP_DATA, &nr_map);

        atomic_fetch_sub(&b->nr_delayed, nr);
        /* Some were taken back between the allocation and now: it pays as others do. */
        ext4_clusters_charge(b, s.to - s.from - nr);
        give_back(inode, 0, nr_map);
}

/* ---- making them ---- */

/* Mark what of it is not promised; *nr counts. */
static int want(struct ext4_inode *inode, struct ext4_delayed_span s,
                enum ext4_delayed_kind kind, uint64_t *nr)
{
        struct ext4_delayed *d = &inode->delayed;
        int ret;

        mtx_lock(&d->lock);
        ret = ext4_delayed_want(d, s, kind, nr);
        mtx_unlock(&d->lock);
        return ret;
}

struct claim {
        enum ext4_delayed_kind kind;
        uint64_t nr_data, nr_map; /* clusters */
        uint64_t nr_loose;        /* clusters that are there, and get more blocks mapped */
        uint64_t nr_unwritten;    /* clusters, some of whose blocks get converted */
};

/* Never more than every second block of the file, however often it is written to. */
static uint64_t loose_with(struct ext4_inode *inode, struct ext4_delayed_span s, uint64_t nr)
{
        const struct ext4_fs *fs = inode->fs;
        uint64_t end = max_t(uint64_t, vfs_size(&inode->vfs) >> fs->block_bits,
                             s.to << fs->cluster_bits);

        return min_t(uint64_t, inode->delayed.nr_loose + nr * ext4_delayed_extents(fs),
                     end / 2 + 1);
}

/* How many promises for the map there must be more.  Those that there are stay, until it is
 * settled. */
static void want_map(struct ext4_inode *inode, struct ext4_delayed_span s, struct claim *claim)
{
        struct ext4_delayed *d = &inode->delayed;
        struct ext4_delayed_span left = s;
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
        while ((c = ext4_delayed_next_chunk(d, &left))) {
                struct ext4_delayed_chunk then = *c;

                ext4_delayed_keep_wanted(&then, claim->kind);
                need += ext4_delayed_need(inode, &then);
                need -= c->need;
        }
        all = ext4_delayed_need_in_all(inode, d->nr + claim->nr_data,
                                       d->nr_unwritten + claim->nr_unwritten, need);
        claim->nr_map = all > d->nr_map ? all - d->nr_map : 0;
        mtx_unlock(&d->lock);
}

/* The marks become promises, or go. */
static void end_claim(struct ext4_inode *inode, struct ext4_delayed_span s,
                      const struct claim *claim, bool keep)
{
        struct ext4_delayed *d = &inode->delayed;
        struct ext4_delayed_chunk *c;

        mtx_lock(&d->lock);
        while ((c = ext4_delayed_next_chunk(d, &s))) {
                if (keep)
                        ext4_delayed_keep_wanted(c, claim->kind);
                else
                        ext4_delayed_forget_wanted(c);
                weigh_locked(inode, c);
                ext4_delayed_chunk_put(d, c);
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
static int want_holes(struct ext4_inode *inode, struct ext4_delayed_span s, struct claim *claim)
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
                        ret = want(inode, (struct ext4_delayed_span){s.from, lblk >> bits},
                                   EXT4_DELAYED_DATA, &claim->nr_data);
                        s.from = div_round_up(map.lblk + map.len, 1ull << bits);
                        claim->nr_loose += min_t(uint64_t, s.from, s.to) - (lblk >> bits);
                        lblk = s.from << bits;
                } else {
                        lblk = map.lblk + map.len;
                }
        }
        return ret < 0 ? ret : want(inode, s, EXT4_DELAYED_DATA, &claim->nr_data);
}

static int reserve_locked(struct ext4_inode *inode, struct ext4_delayed_span s,
                          enum ext4_delayed_kind kind, unsigned alloc_flags)
{
        struct ext4_balloc *b = inode->fs->balloc;
        struct claim claim = {.kind = kind};
        uint64_t nr;
        int ret = kind == EXT4_DELAYED_DATA
                          ? want_holes(inode, s, &claim)
                          : want(inode, s, EXT4_DELAYED_CONVERSION, &claim.nr_unwritten);

        if (ret == 0)
                want_map(inode, s, &claim);
        nr = claim.nr_data + claim.nr_map;
        if (ret == 0 && nr > 0 && ext4_clusters_claim(b, nr, nr, alloc_flags) == 0)
                ret = -ENOSPC;
        if (ret == 0) {
                atomic_fetch_add(&b->nr_delayed, claim.nr_data);
                atomic_fetch_add(&b->nr_delayed_map, claim.nr_map);
        }
        end_claim(inode, s, &claim, ret == 0);
        return ret;
}

int ext4_delayed_reserve(struct ext4_inode *inode, ext4_lblk_t lblk, uint64_t len,
                         unsigned alloc_flags)
{
        struct ext4_delayed_span s;
        bool promised;
        int ret;

        assert(len > 0 && !(inode->flags & EXT4_FL_INLINE_DATA));
        if (len > EXT4_NR_LBLKS - lblk)
                return -EFBIG;
        s = ext4_delayed_touched(inode, lblk, lblk + len);
        /* Written to again: if some of it gets its blocks just now, it has them. */
        if (run_end(inode, s, &promised) == s.to && promised)
                return 0;
        rwsem_read_lock(&inode->map_lock);
        ret = reserve_locked(inode, s, EXT4_DELAYED_DATA, alloc_flags);
        rwsem_read_unlock(&inode->map_lock);
        return ret;
}

static bool are_promised(struct ext4_inode *inode, struct ext4_delayed_span s)
{
        struct ext4_delayed *d = &inode->delayed;
        bool are;

        mtx_lock(&d->lock);
        are = ext4_delayed_has_all(d, s, EXT4_DELAYED_CONVERSION);
        mtx_unlock(&d->lock);
        return are;
}

int ext4_delayed_reserve_conversion(struct ext4_inode *inode, ext4_lblk_t lblk, uint64_t len,
                                    unsigned alloc_flags)
{
        const struct ext4_delayed_span s = ext4_delayed_touched(inode, lblk, lblk + len);
        int ret;

        set_writing(&inode->delayed, true); /* order: then nobody takes back what there is */
        if (are_promised(inode, s))
                return 0;
        rwsem_read_lock(&inode->map_lock); /* the depth stays */
        /* The blocks are there: who has preallocated is not told that there is no space. */
        ret = reserve_locked(inode, s, EXT4_DELAYED_CONVERSION, alloc_flags | EXT4_ALLOC_POOL);
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
