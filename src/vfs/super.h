/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef VFS_SUPER_H
#define VFS_SUPER_H

/*
 * What all inodes of one mount share: the device, the queues that carry their I/O,
 * counters, and the place where one waits for requests to end.
 */

#include <sys/queue.h>

#include "bdev/bdev.h"
#include "util/lock.h"
#include "util/log.h"
#include "vfs/pages.h"

enum vfs_counter {
        VFS_DIRECT_READS,
        VFS_DIRECT_READ_BYTES,
        VFS_DEVICE_READS,
        VFS_BUFFERED_READS,
        VFS_FALLBACK_INLINE,
        VFS_FALLBACK_DATA_JOURNAL,
        VFS_FALLBACK_VERITY,
        VFS_NOWAIT_AGAIN,
        VFS_DIRECT_WRITES,
        VFS_DIRECT_WRITE_BYTES,
        VFS_DEVICE_WRITES,
        VFS_FUA_WRITES, /* of these */
        VFS_BUFFERED_WRITES,
        VFS_OVERWRITES,    /* direct writes that changed nothing but bytes */
        VFS_EXTENDS,       /* direct writes that moved the size */
        VFS_ALLOCATIONS,   /* mappings made for them */
        VFS_CONVERSIONS,   /* requests whose blocks became written at the end */
        VFS_FALLBACK_HOLE, /* holes of files without extents */
        VFS_LOCK_RESTARTS, /* the shared lock was not enough (C1) */
        VFS_BATCHES,       /* of requests that were finished together */
        VFS_SYNCS,         /* fsync and what is like it */
        VFS_FLUSHES,       /* that those sent, beside those of commits */
        VFS_DAX_READS,     /* copies out of the mapped device */
        VFS_DAX_WRITES,    /* and into it */
        VFS_MAP_CACHE_HITS,
        VFS_MAP_CACHE_MISSES,
        VFS_NR_COUNTERS,
};

/* Threads count on different cache lines, so that files do not meet in a counter. */
#define VFS_COUNTER_STRIPES 16

struct vfs_counter_stripe {
        _Atomic uint64_t value[VFS_NR_COUNTERS];
} __attribute__((aligned(CACHE_LINE)));

/* A request whose I/O is over and which needs more than telling its user: a transaction. */
struct vfs_work {
        struct vfs_work *next;
};

/* A device queue that is in use on a mount, so that whoever waits can help it. */
struct vfs_queue {
        struct uext4_bdev_queue *bdev_queue;
        uint32_t pins; /* helpers that are driving it now [super.queue_lock] */
        LIST_ENTRY(vfs_queue) list;
        _Atomic(struct vfs_work *) works; /* the latest first */
};

struct vfs_super {
        struct vfs_counter_stripe counters[VFS_COUNTER_STRIPES];
        struct uext4_bdev *dev; /* [const] */
        struct log_sink log;    /* [const] */
        uint32_t block_bits;    /* [const] log2 of the block size in bytes */
        _Atomic bool is_down;   /* nothing is read or written any more */
        char *map; /* [const] all of the device as memory, for DAX; NULL: there is none */

        struct vfs_pagecache pagecache;

        struct mtx queue_lock; /* RANK_QUEUE_LIST */
        struct cond queue_unpinned;
        LIST_HEAD(, vfs_queue) queues; /* [queue_lock] */

        /*
         * Finish what was put on a queue's list, in the order of its end: set by the file
         * system before the first request.  Called by who has driven the queue, who has no
         * handle open and holds no lock above RANK_INVALIDATE.  It tells the users.
         */
        void (*finish)(struct vfs_super *sb, struct vfs_work *works);

        /* Flushes of the device are numbered as they begin; see vfs_written(). */
        _Atomic uint64_t flushes_begun;
        _Atomic uint64_t flushes_done; /* the highest number that has ended well */

        struct mtx lease_lock; /* RANK_LEAF; leases of all inodes (lease.h) */
        struct cond lease_ended;

        struct mtx drain_lock; /* RANK_DRAIN; sleepers on `ended` */
        struct cond ended;
        _Atomic uint32_t nr_sleepers;
};

void vfs_super_init(struct vfs_super *sb, struct uext4_bdev *dev, const struct log_sink *log);
void vfs_super_done(struct vfs_super *sb);

/* Make a queue known to helpers, and unknown again: remove waits until no helper is in it. */
void vfs_queue_add(struct vfs_super *sb, struct vfs_queue *queue);
void vfs_queue_remove(struct vfs_super *sb, struct vfs_queue *queue);

/*
 * The I/O of a request on this queue is over: have it finished by who drives the queue.  Called
 * from done().
 */
void vfs_queue_defer(struct vfs_queue *queue, struct vfs_work *work);

void vfs_queue_finish_works(struct vfs_super *sb, struct vfs_queue *queue);

/* After driving a queue.  No handle is open. */
static inline void vfs_queue_finish(struct vfs_super *sb, struct vfs_queue *queue)
{
        if (atomic_load_explicit(&queue->works, memory_order_relaxed))
                vfs_queue_finish_works(sb, queue);
}

/*
 * Drive every queue of the mount that has requests under way, each for at most timeout_ns: who
 * waits, helps (docs/architecture.md, rule 3).  Returns false when there was none.
 */
bool vfs_help_queues(struct vfs_super *sb, int64_t timeout_ns);

/* ---- counts of requests under way ---- */

/* A number of requests under way that somebody may wait for to become zero. */
struct vfs_pending {
        _Atomic uint32_t nr;
};

static inline void vfs_pending_begin(struct vfs_pending *p)
{
        atomic_fetch_add_explicit(&p->nr, 1, memory_order_relaxed);
}

/* Wakes those who sleep in vfs_pending_drain(). */
void vfs_pending_wake(struct vfs_super *sb);

/* `p` may be gone as soon as it is zero: it is not touched afterwards. */
static inline void vfs_pending_end(struct vfs_super *sb, struct vfs_pending *p)
{
        if (atomic_fetch_sub(&p->nr, 1) == 1 && unlikely(atomic_load(&sb->nr_sleepers) > 0))
                vfs_pending_wake(sb);
}

/*
 * Wait until the count is zero, helping the queues that carry the requests: they may be on one
 * whose owner sleeps, or is the caller.  No handle is open, and no lock above RANK_INVALIDATE
 * is held: helping finishes writes.
 */
void vfs_pending_drain(struct vfs_super *sb, struct vfs_pending *p);

/* ---- flushes ---- */

/*
 * A flush is about to begin; its number.  What was completed before this call is durable when
 * it has ended.
 */
static inline uint64_t vfs_flush_begin(struct vfs_super *sb)
{
        return atomic_fetch_add(&sb->flushes_begun, 1) + 1;
}

/* It has ended well. */
void vfs_flush_end(struct vfs_super *sb, uint64_t number);

/* ---- counters ---- */

unsigned vfs_counter_stripe_new(void);

static inline void vfs_count_by(struct vfs_super *sb, enum vfs_counter what, uint64_t n)
{
        static _Thread_local unsigned stripe; /* 0: not chosen yet */

        if (unlikely(stripe == 0))
                stripe = vfs_counter_stripe_new();
        atomic_fetch_add_explicit(&sb->counters[stripe % VFS_COUNTER_STRIPES].value[what], n,
                                  memory_order_relaxed);
}

static inline void vfs_count(struct vfs_super *sb, enum vfs_counter what)
{
        vfs_count_by(sb, what, 1);
}

uint64_t vfs_counter_sum(struct vfs_super *sb, enum vfs_counter what);

#endif
