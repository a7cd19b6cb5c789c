/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef VFS_PAGES_H
#define VFS_PAGES_H

/*
 * The page cache: the folios of a file (struct vfs_pages, in its inode), and what all files of
 * a mount share: a bound on memory (which threads that add folios at the same time may pass, by
 * one folio each, and what is in use), and the dirty ones among them (struct vfs_pagecache, in
 * its super).
 *
 *      pages_tree.c    folios by position
 *      pages.c         the folios of one file: find, add, dirty, take away
 *      pagecache.c     memory: the bound, and which folio goes first
 *      flusher.c       dirty files: who writes them back, and when
 *      readahead.c     a thread that fills folios before somebody asks for them
 *
 * Rules:
 * - Who adds folios, fills them or makes them dirty holds the inode lock, or invalidate_lock,
 *   shared at least; dirty only under the inode lock, exclusive.
 * - Who takes blocks away from a file holds both exclusive, and takes the folios away first
 *   (C39).
 * - Writing back takes neither.  It marks what it writes (is_writeback); who would change or
 *   take away such a folio waits for the end.  It may therefore be waited for with inode locks
 *   held, but not with a handle open.
 */

#include "util/arena.h"
#include "vfs/pages_tree.h"

RB_HEAD(dirty_folios, folio);
TAILQ_HEAD(folio_list, folio);

TAILQ_HEAD(vfs_pages_list_head, vfs_pages);

/* A file that is on a list has a reference for that. */
enum vfs_pages_list {
        VFS_PAGES_UNLISTED,
        VFS_PAGES_DIRTY,   /* something is dirty, or was */
        VFS_PAGES_WRITING, /* somebody is writing it back */
};

struct vfs_pages {
        struct mtx lock;           /* RANK_PAGES */
        struct pages_tree tree;    /* [lock] */
        struct dirty_folios dirty; /* [lock] by position */
        uint32_t nr_dirty;         /* [lock] */
        uint32_t nr_writeback;     /* [lock] folios being written */
        struct cond written;       /* one of these is */

        _Atomic uint32_t nr;     /* folios; changes under `lock` */
        _Atomic uint32_t nr_due; /* nr_dirty + nr_writeback, to be read without the lock */

        /* Errors of writing back, numbered, so that each open file is told once. */
        _Atomic uint64_t error; /* its number << 16 | errno; 0: none yet */
        _Atomic bool is_untold; /* no file has been told of the latest */

        /* The mount's lists [pagecache.lock]. */
        enum vfs_pages_list list;
        uint64_t since; /* it has been on it, CLOCK_MONOTONIC, ns */
        TAILQ_ENTRY(vfs_pages) link;
};

void vfs_pages_init(struct vfs_pages *pages);
/* There are no folios any more. */
void vfs_pages_done(struct vfs_pages *pages);

/* Whether anything of the file is in memory; is not on the device.  Without a lock: who needs
 * it to stay so holds the inode lock. */
static inline bool vfs_has_pages(struct vfs_pages *pages)
{
        return atomic_load_explicit(&pages->nr, memory_order_acquire) > 0;
}

static inline bool vfs_has_dirty(struct vfs_pages *pages)
{
        return atomic_load_explicit(&pages->nr_due, memory_order_acquire) > 0;
}

/* ---- folios of a file (each comes with a reference) ---- */

/* The one that has `pos`; NULL. */
struct folio *vfs_pages_find(struct vfs_inode *inode, uint64_t pos);

/*
 * The one that has `pos`, new if need be: then of `size` bytes (FOLIO_*, a power of two, at
 * least a block) or fewer, where others are in the way.  May write back others' folios to get
 * memory.  No folio is locked, no handle open.  -ENOMEM.
 */
must_check int vfs_pages_get(struct vfs_inode *inode, uint64_t pos, uint32_t size,
                             struct folio **ret_folio);

/* Lock a folio to change it: what is being written stays as it is until it is there. */
void folio_lock_stable(struct folio *f);

/* Under its lock: blocks are uptodate, and newer than on the device.  For the first of a file
 * the mount's list gets a reference to the inode. */
void vfs_pages_dirty(struct folio *f, uint64_t from, uint64_t to);

/* Whether there is a folio that has a byte of [from, to); one that is dirty or being written.
 * They do not sleep. */
bool vfs_pages_have(struct vfs_inode *inode, uint64_t from, uint64_t to);
bool vfs_pages_are_due(struct vfs_inode *inode, uint64_t from, uint64_t to);

/*
 * Whether a block of [from, to) is dirty or being written; *ret_from, *ret_to: the first run of
 * such blocks, as much of it as is in [from, to).  Who wants to know where the file has data
 * asks here first, and then looks at the mapping: what is written in between is there.
 */
bool vfs_pages_next_dirty(struct vfs_inode *inode, uint64_t from, uint64_t to,
                          uint64_t *ret_from, uint64_t *ret_to);

/* Write back and wait for what is dirty of [from, to): 0 or the first error.  No handle is
 * open, no folio locked. */
int vfs_pages_flush(struct vfs_inode *inode, uint64_t from, uint64_t to);

/* Remove the folios that have a byte of [from, to).  -EBUSY: one is dirty, and stays. */
must_check int vfs_pages_invalidate(struct vfs_inode *inode, uint64_t from, uint64_t to);

/* Remove the folios that lie wholly in [from, to), dirty or not. */
void vfs_pages_discard(struct vfs_inode *inode, uint64_t from, uint64_t to);

/* ---- writing back (for iomap/writeback.c) ---- */

/*
 * The first dirty folio that ends behind `from` and begins before `to`, marked as being
 * written, with a reference; its blocks' states are not changed.  NULL: there is none.
 */
struct folio *vfs_pages_take_dirty(struct vfs_inode *inode, uint64_t from, uint64_t to);

/* It has been written. */
void vfs_pages_written(struct folio *f);

/* Wait until no folio that has a byte of [from, to) is being written by anybody else. */
void vfs_pages_wait(struct vfs_inode *inode, uint64_t from, uint64_t to);

/* Writing back has failed: remembered for who calls fsync. */
void vfs_pages_set_error(struct vfs_inode *inode, int err);

/*
 * Errors since *seen, which began as vfs_pages_error_now(): 0, or the latest one.  *seen moves
 * on.  The second is for open files, which several threads may ask at once: one of them is
 * told, and then it is no error that nobody was told of.
 */
int vfs_pages_error_since(struct vfs_inode *inode, uint64_t *seen);
int vfs_pages_tell_error(struct vfs_inode *inode, _Atomic uint64_t *seen);
uint64_t vfs_pages_error_now(struct vfs_inode *inode);

/* The file is no more: nobody misses what could not be written. */
void vfs_pages_forget_error(struct vfs_inode *inode);

/* ---- the mount ---- */

struct vfs_super;

struct vfs_pagecache_ops {
        /* A reference to the inode, and its end: no lock is held then. */
        void (*hold)(struct vfs_inode *inode);
        void (*release)(struct vfs_inode *inode);

        /* Write back what is dirty of [from, to), but do not wait for what others write. */
        int (*write)(struct vfs_inode *inode, uint64_t from, uint64_t to);

        /*
         * Fill the folio that has `pos`, with the locks that this takes: one of `size` bytes,
         * if there is none.  Where it ends; 0: at the end of the file, when the locks are not
         * to be had at once, or after an error.  No lock is held; somebody has the file open.
         */
        uint64_t (*fill)(struct vfs_inode *inode, uint64_t pos, uint32_t size);
};

/* ---- readahead.c ---- */

struct vfs_readahead;
TAILQ_HEAD(vfs_readahead_list, vfs_readahead);

struct vfs_readers {
        struct mtx lock;
        struct vfs_readahead_list asked; /* [lock] */
        struct vfs_readahead *now;       /* [lock] whose folio the thread is filling */
        struct cond wake;                /* the thread */
        struct cond done;                /* it is done with a folio */
        pthread_t thread;
        bool has_thread, stops; /* [lock] */
};

void vfs_readers_init(struct vfs_readers *r);
/* All files are closed. */
void vfs_readers_done(struct vfs_readers *r);

/* ---- memory, and dirty files ---- */

struct vfs_pagecache {
        const struct vfs_pagecache_ops *ops; /* [const] */
        uint64_t limit;                      /* bytes of folios [const once mounted] */
        _Atomic uint64_t bytes;
        _Atomic uint64_t dirty_bytes; /* of these, dirty or being written */
        _Atomic uint32_t nr_untold;   /* files with an error that is, evicted ones too */

        struct arena arena; /* where folios are */
        _Atomic bool has_arena;

        struct vfs_readers readers;

        struct mtx lock;       /* RANK_PAGECACHE */
        struct folio_list lru; /* [lock] the longest unused first */
        uint64_t nr;           /* [lock] */

        struct vfs_pages_list_head dirty, writing; /* [lock] the longest there first */
        struct cond wake;                          /* the flusher */
        struct cond done;                          /* one has left `writing`, or was released */
        pthread_t flusher;
        bool has_flusher, stops; /* [lock] */
        bool is_pressed;         /* [lock] there is something to write now */
        unsigned nr_releasing;   /* [lock] files being given back by who wrote them */
};

/* Bytes of folios, where the mount does not say how many. */
#define VFS_PAGECACHE_LIMIT (256ull << 20)

void vfs_pagecache_init(struct vfs_pagecache *cache, uint64_t limit);
void vfs_pagecache_done(struct vfs_pagecache *cache);

/* Room for `size` bytes: folios that have not been used for long go.  False when there are not
 * enough that can. */
bool vfs_pagecache_make_room(struct vfs_pagecache *cache, uint32_t size);

/* The memory of folios, made when it is asked for first: its size is that of the bound. */
struct arena *vfs_pagecache_arena(struct vfs_pagecache *cache);

/* A folio is a file's now; is no more.  The lock of its pages is held. */
void vfs_pagecache_add(struct vfs_pagecache *cache, struct folio *f);
void vfs_pagecache_remove(struct vfs_pagecache *cache, struct folio *f);

/* ---- flusher.c ---- */

/* The first folio of a file has become dirty: the lock of its pages is held. */
void vfs_flusher_note(struct vfs_inode *inode);

/* Whether the list has a reference to the file and nobody is writing it. */
bool vfs_flusher_lists(struct vfs_inode *inode);

/*
 * Take the file off the list without writing, when it is there and nobody is writing it: true,
 * and the caller has its reference.
 */
bool vfs_flusher_forget(struct vfs_inode *inode);

/* After making something dirty: write back when there is too much.  No handle is open, no folio
 * locked. */
void vfs_balance_dirty(struct vfs_inode *inode);

/* Write back the file that has been dirty the longest, or wait for one that is being written.
 * False: there is none.  As vfs_balance_dirty(). */
bool vfs_write_oldest(struct vfs_super *sb);

/* Write back all files, and give the list's references back.  No lock is held.  The first
 * error. */
int vfs_write_all(struct vfs_super *sb);

/* Whether writing back has failed, and no open file was told.  For the end of the mount. */
bool vfs_has_untold_error(struct vfs_super *sb);

/* End the flusher's thread, until something becomes dirty again. */
void vfs_flusher_stop(struct vfs_super *sb);

#endif
