/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef EXT4_BALLOC_GROUP_H
#define EXT4_BALLOC_GROUP_H

/*
 * Inside of balloc: the state of the mount's allocation and of each group.
 *
 * Invariants of a group, under its lock:
 *  I1  While `loaded`, `space` is what may be given out: clear in the bitmap, and neither
 *      freed by a transaction that is not durable, nor in a window, nor being trimmed.
 *  I2  A run of such a kind is one of `nr_promised`; while there are any the group stays
 *      loaded, and `space` has room for them to come back.
 *  I3  A group that is bad has no space and is never changed again.
 */

#include "ext4/balloc.h"
#include "ext4/group_space.h"
#include "ext4/system_zone.h"

/* What one transaction has freed in one group (bfree.c). */
struct ext4_freed {
        struct jbd2_callback callback;
        struct ext4_fs *fs;
        ext4_group_t group;
        uint32_t tid;
        struct group_space clusters; /* [group lock] */
};

struct ext4_group_state {
        struct mtx lock; /* RANK_GROUP */

        /* Written under the lock; read without by who looks for a group, as hints. */
        _Atomic uint32_t free;    /* clusters, as the descriptor has it; 0 when bad */
        _Atomic uint32_t longest; /* no run that can be given out is longer */
        _Atomic bool loaded;
        _Atomic bool bad;
        bool bad_desc; /* what its descriptor names must not be written to [const] */

        struct group_space space;           /* [lock] */
        uint32_t nr_promised;               /* [lock] */
        LIST_HEAD(, ext4_prealloc) windows; /* [lock] */
        struct ext4_freed *freed;           /* by the latest transaction [lock] */
};

#define EXT4_NR_DESC_LOCKS 16

struct ext4_balloc {
        struct ext4_fs *fs;
        struct ext4_group_state *groups; /* fs->nr_groups */
        struct ext4_zones zones;         /* [const] */
        uint64_t reserved;               /* clusters for root [const] */
        uint64_t pool;                   /* clusters for completion work [const] */

        /*
         * Sum of the groups' free clusters, less what is claimed by allocations under way and
         * what is promised (delayed.h); and of these the ones that can be given out now, that
         * is without nr_pending.  A claim takes from `free` first, and what is given back comes
         * to `ready` first: so who gets what he wants of `free` finds it in `ready`, too,
         * unless something is pending.  The pool is kept in both: who has the right to it
         * need not wait for a commit.  Below zero for a while when a group turns bad.
         */
        _Atomic int64_t free;
        _Atomic int64_t ready;
        _Atomic uint64_t nr_delayed;     /* clusters promised to data */
        _Atomic uint64_t nr_delayed_map; /* clusters promised to the maps of that data */
        _Atomic uint64_t nr_pending;     /* clusters freed, not durably */
        _Atomic uint64_t nr_windows;     /* windows in use */
        _Atomic uint64_t space_bytes;    /* memory of all spaces */
        _Atomic uint32_t trim_hand;      /* where the next search for memory begins */
        _Atomic bool no_discard;         /* the device has refused */
        struct mtx trim_lock;            /* RANK_TRIM; see trim.c */

        /* Bytes of the descriptors, RANK_LEAF: readers do not hold the group's lock. */
        struct mtx desc_locks[EXT4_NR_DESC_LOCKS];
};

static inline struct ext4_group_state *ext4_group_state(const struct ext4_fs *fs,
                                                        ext4_group_t group)
{
        return &fs->balloc->groups[group];
}

static inline ext4_fsblk_t ext4_group_first_block(const struct ext4_fs *fs, ext4_group_t group)
{
        return fs->first_data_block + (uint64_t)group * fs->blocks_per_group;
}

static inline ext4_group_t ext4_group_of(const struct ext4_fs *fs, ext4_fsblk_t blk)
{
        return (ext4_group_t)((blk - fs->first_data_block) / fs->blocks_per_group);
}

/* The cluster within its group. */
static inline uint32_t ext4_cluster_of(const struct ext4_fs *fs, ext4_fsblk_t blk)
{
        return (uint32_t)((blk - fs->first_data_block) % fs->blocks_per_group) >>
               fs->cluster_bits;
}

static inline ext4_fsblk_t ext4_cluster_block(const struct ext4_fs *fs, ext4_group_t group,
                                              uint32_t cluster)
{
        return ext4_group_first_block(fs, group) + ((uint64_t)cluster << fs->cluster_bits);
}

/* ---- counting (balloc.c) ---- */

/*
 * Take at least `least`, at most `most` clusters out of the counts, leaving what the flags
 * (EXT4_ALLOC_RIGHTS) do not go for.  How many; 0: there are not as many.
 */
must_check uint64_t ext4_clusters_claim(struct ext4_balloc *b, uint64_t least, uint64_t most,
                                        unsigned flags);

/* Give clusters back that were claimed.  Take some that are used already. */
void ext4_clusters_give(struct ext4_balloc *b, uint64_t nr);
void ext4_clusters_charge(struct ext4_balloc *b, uint64_t nr);

/* ---- discarding (trim.c) ---- */

must_check int ext4_discard_run(struct ext4_fs *fs, ext4_group_t group, struct group_run run);

/* In between nothing is out of its group's space in order to be trimmed. */
void ext4_trim_pause(struct ext4_fs *fs);
void ext4_trim_resume(struct ext4_fs *fs);

/* ---- one group (balloc_group.c); the caller holds its lock ---- */

/*
 * Have its free space in memory.  -EUCLEAN: it is bad, said; others (-EIO, -ENOMEM) may pass.
 */
must_check int ext4_space_load(struct ext4_fs *fs, ext4_group_t group);

/* Room in its space for `more` promised runs beyond those there are. */
must_check int ext4_space_reserve(struct ext4_fs *fs, ext4_group_t group, uint32_t more);

/* After changes of its space: what others see of it. */
void ext4_space_publish(struct ext4_fs *fs, ext4_group_t group);

/* It contradicts itself.  Returns -EUCLEAN. */
int ext4_group_condemn(struct ext4_fs *fs, ext4_group_t group);

enum ext4_change {
        EXT4_CHANGE_TAKE,
        EXT4_CHANGE_FREE,
};

/*
 * Change a run in bitmap and descriptor: 2 credits.  On an error nothing has changed.
 * -EUCLEAN, said: the bits are not what they should be.
 */
must_check int ext4_space_change(struct jbd2_handle *h, struct ext4_fs *fs, ext4_group_t group,
                                 struct group_run run, enum ext4_change change);

/* ---- windows (prealloc.c) ---- */

/* Clusters to look for, for a request that needs `need`: those and the window behind. */
uint32_t ext4_window_want(const struct ext4_alloc *req, uint32_t need);

/*
 * If the inode's window has the request's first block: the group, locked, and the run there of
 * at most `need` clusters, which is out of the window now, and neither in the space.  The rest
 * of the window, behind the run, stays.
 */
bool ext4_window_take(const struct ext4_alloc *req, uint32_t need, ext4_group_t *ret_group,
                      struct group_run *ret_run);

/* Keep a run that is out of the group's space, for blocks of the inode from lblk on.  The
 * inode has no window.  The group is locked. */
void ext4_window_put(struct ext4_inode *inode, ext4_group_t group, struct group_run run,
                     ext4_lblk_t lblk);

/* Take every window away from its owner.  No lock is held. */
void ext4_windows_drop_all(struct ext4_fs *fs);

#endif
