/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef UTIL_LOCK_H
#define UTIL_LOCK_H

/*
 * Ranked locks.
 *
 * Every lock has a rank, given at init.  A thread takes locks in rising rank
 * only; with -Dlock_debug=true each thread keeps a list of what it
 * holds, and a lock out of order ends the process with both names.  A trylock
 * may break the order, because it cannot wait.
 *
 * The table is the lock order of the whole library (docs/locking.md).  Names of
 * higher layers appear here as numbers only.
 */

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "util/base.h"

enum lock_rank {
        RANK_RENAME = 15,       /* ext4: which directory is in which */
        RANK_INODE = 20,        /* vfs_inode.lock, the outer lock of file I/O */
        RANK_INODE_SECOND = 22, /* that of a second directory */
        RANK_INODE_CHILD = 25,  /* that of an inode found in a directory that is locked */
        RANK_INODE_CHILD2 = 26, /* and of another one */
        RANK_INVALIDATE = 30,   /* vfs_inode.invalidate_lock */
        RANK_HANDLE = 40,       /* jbd2: start blocks for log space */
        RANK_PAGE = 50,         /* vfs: one folio */
        RANK_PAGES = 52,        /* vfs: the folios of one file */
        RANK_MAP = 60,          /* the map lock: block map of one inode */
        RANK_MAP_CACHE = 61,    /* its extent status cache */
        RANK_TRIM = 65,         /* ext4: free space that is being discarded */
        RANK_GROUP = 70,
        RANK_ORPHAN = 71,        /* ext4: the orphans of a mount */
        RANK_SUPER = 72,         /* ext4: the superblock's bytes */
        RANK_INODE_LOAD = 74,    /* an inode being read from disk */
        RANK_INODE_TABLE = 76,   /* hash table of the inodes in memory */
        RANK_JOURNAL_SUPER = 77, /* writing the superblock of a journal */
        RANK_JOURNAL = 78,       /* transactions, and what they know of buffers */
        RANK_BUF_LOAD = 80,      /* one buffer's bytes being read or verified */
        RANK_BUF_SHARD = 81,     /* hash table of the buffer cache */
        RANK_QUEUE_LIST = 85,    /* the queues of a mount */
        RANK_BDEV_DRIVE = 90,    /* baton of a device queue */
        RANK_BDEV_QUEUE = 91,    /* backend's submission side */
        RANK_PAGECACHE = 94,     /* vfs: memory of folios, dirty files */
        RANK_DRAIN = 95,         /* who waits for requests to end */
        RANK_LEAF = 99,          /* takes nothing else */
};

/* ---- mutex and condition ---- */

struct mtx {
        pthread_mutex_t m;
#ifdef UEXT4_LOCK_DEBUG
        enum lock_rank rank;
        const char *name;
#endif
};

void mtx_init_named(struct mtx *m, enum lock_rank rank, const char *name);
#define mtx_init(m, rank) mtx_init_named(m, rank, #m)
void mtx_done(struct mtx *m);

struct cond {
        pthread_cond_t c; /* on CLOCK_MONOTONIC */
};

void cond_init(struct cond *c);
void cond_done(struct cond *c);
void cond_wait(struct cond *c, struct mtx *m);

/* False when `deadline` (CLOCK_MONOTONIC, ns) passed first. */
bool cond_wait_until(struct cond *c, struct mtx *m, uint64_t deadline_ns);
void cond_signal(struct cond *c);
void cond_broadcast(struct cond *c);

uint64_t clock_ns(void); /* CLOCK_MONOTONIC */

/*
 * A wait of timeout_ns (0: none, negative: for ever) that begins now ends at clock_deadline().
 * clock_left() is what is left of it, as another timeout_ns.
 */
uint64_t clock_deadline(int64_t timeout_ns);
int64_t clock_left(int64_t timeout_ns, uint64_t deadline_ns);

/* Such a wait.  False when it is over. */
bool cond_wait_for(struct cond *c, struct mtx *m, int64_t timeout_ns, uint64_t deadline_ns);

/* ---- reader-writer semaphore ---- */

/*
 * Many readers or one writer; a waiting writer keeps new readers out.  Uncontended
 * it is one atomic operation each way.  It belongs to no thread: another thread
 * may release it (not with lock_debug on).
 *
 * `state` counts readers in its low bits; RWSEM_WRITER is set by the holder and
 * RWSEM_WAITERS by anybody who sleeps on `queue`.  Every release that finds
 * RWSEM_WAITERS wakes all of them under `m`; they try again in turn.
 */
struct rwsem {
        _Atomic uint32_t state;
        uint32_t nr_writers_waiting; /* [m] */
        uint32_t nr_waiting;         /* [m] */
        pthread_mutex_t m;
        pthread_cond_t queue;
#ifdef UEXT4_LOCK_DEBUG
        enum lock_rank rank;
        const char *name;
#endif
};

#define RWSEM_WRITER  0x80000000u
#define RWSEM_WAITERS 0x40000000u
#define RWSEM_READERS 0x3fffffffu

void rwsem_init_named(struct rwsem *s, enum lock_rank rank, const char *name);
#define rwsem_init(s, rank) rwsem_init_named(s, rank, #s)
void rwsem_done(struct rwsem *s);

void rwsem_read_lock_slow(struct rwsem *s);
void rwsem_write_lock_slow(struct rwsem *s);
void rwsem_wake(struct rwsem *s);

/* ---- the order check ---- */

#ifdef UEXT4_LOCK_DEBUG
void lock_debug_before(enum lock_rank rank, const char *name);
void lock_debug_taken(const void *lock, enum lock_rank rank, const char *name);
void lock_debug_released(const void *lock);
#define LOCK_BEFORE(l)   lock_debug_before((l)->rank, (l)->name)
#define LOCK_TAKEN(l)    lock_debug_taken((l), (l)->rank, (l)->name)
#define LOCK_RELEASED(l) lock_debug_released(l)
#else
#define LOCK_BEFORE(l)   ((void)0)
#define LOCK_TAKEN(l)    ((void)0)
#define LOCK_RELEASED(l) ((void)0)
#endif

/* ---- inline fast paths ---- */

static inline void mtx_lock(struct mtx *m)
{
        LOCK_BEFORE(m);
        pthread_mutex_lock(&m->m);
        LOCK_TAKEN(m);
}

static inline bool mtx_trylock(struct mtx *m)
{
        if (pthread_mutex_trylock(&m->m) != 0)
                return false;
        LOCK_TAKEN(m);
        return true;
}

static inline void mtx_unlock(struct mtx *m)
{
        LOCK_RELEASED(m);
        pthread_mutex_unlock(&m->m);
}

static inline bool rwsem_read_trylock(struct rwsem *s)
{
        uint32_t old = atomic_load_explicit(&s->state, memory_order_relaxed);

        while ((old & (RWSEM_WRITER | RWSEM_WAITERS)) == 0) {
                if (atomic_compare_exchange_weak_explicit(&s->state, &old, old + 1,
                                                          memory_order_acquire,
                                                          memory_order_relaxed)) {
                        LOCK_TAKEN(s);
                        return true;
                }
        }
        return false;
}

static inline bool rwsem_write_trylock(struct rwsem *s)
{
        uint32_t old = 0;

        if (!atomic_compare_exchange_strong_explicit(
                    &s->state, &old, RWSEM_WRITER, memory_order_acquire, memory_order_relaxed))
                return false;
        LOCK_TAKEN(s);
        return true;
}

static inline void rwsem_read_lock(struct rwsem *s)
{
        LOCK_BEFORE(s);
        if (!rwsem_read_trylock(s))
                rwsem_read_lock_slow(s);
}

static inline void rwsem_write_lock(struct rwsem *s)
{
        LOCK_BEFORE(s);
        if (!rwsem_write_trylock(s))
                rwsem_write_lock_slow(s);
}

/* A second lock of the same kind, of which one knows that it comes later: the order is checked
 * as if it had that rank. */
static inline void rwsem_write_lock_nested(struct rwsem *s, enum lock_rank rank)
{
#ifdef UEXT4_LOCK_DEBUG
        lock_debug_before(rank, s->name);
#else
        (void)rank;
#endif
        if (!rwsem_write_trylock(s))
                rwsem_write_lock_slow(s);
}

static inline void rwsem_read_unlock(struct rwsem *s)
{
        uint32_t old;

        LOCK_RELEASED(s);
        old = atomic_fetch_sub_explicit(&s->state, 1, memory_order_release);
        if (unlikely(old & RWSEM_WAITERS) && (old & RWSEM_READERS) == 1)
                rwsem_wake(s);
}

static inline void rwsem_write_unlock(struct rwsem *s)
{
        uint32_t old;

        LOCK_RELEASED(s);
        old = atomic_fetch_and_explicit(&s->state, ~RWSEM_WRITER, memory_order_release);
        if (unlikely(old & RWSEM_WAITERS))
                rwsem_wake(s);
}

#endif
