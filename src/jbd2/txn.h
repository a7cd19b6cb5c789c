/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef JBD2_TXN_H
#define JBD2_TXN_H

/*
 * What the files of a journal at work share: transactions, the state of a buffer, and the one
 * lock over both.
 *
 *      handle.c      handles, credits, room
 *      access.c      access to buffers, forget and revoke
 *      commit.c      a transaction's way to the log; log_write.c puts blocks there
 *      checkpoint.c  the way home, and the tail of the log
 *      jbd2.c        begin, end, abort, the journal's superblock
 *
 * Invariants
 *
 * I1. A buffer is on the list of one transaction, `txn`.  While that one commits, a running one
 *     may have it as well, `next`, which takes it over at the end.
 *
 * I2. As long as a buffer has a struct jbd2_buf there is one reference on it.
 *
 * I3. BUF_OPEN iff txn; else BUF_DIRTY iff cp; else there is no struct jbd2_buf.
 *
 * I4. Free space: the blocks from head to the tail that the journal's superblock on the device
 *     has.  It always suffices for the rest of the committing transaction, the running one, and
 *     what is reserved.
 *
 * I5. `io`: the device reads buf->data now; nobody changes it.  The lock is not held meanwhile.
 */

#include "jbd2/jbd2.h"
#include "util/alloc.h"

enum txn_state {
        TXN_RUNNING,
        TXN_LOCKED, /* takes no more handles, waits for those that are open */
        TXN_FLUSH,  /* ordered data, and blocks to the log */
        TXN_COMMIT, /* the commit block: from here on a flush may have begun */
};

struct jbd2_buf {
        struct buf *buf;               /* a reference */
        struct jbd2_transaction *txn;  /* running or committing */
        struct jbd2_transaction *next; /* running, while txn is committing */
        struct jbd2_transaction *cp;   /* durable, but for this block at home */
        TAILQ_ENTRY(jbd2_buf) link;    /* in txn->bufs */
        TAILQ_ENTRY(jbd2_buf) cp_link; /* in cp->homes */
        bool dirty;                    /* changed by txn */
        bool next_dirty;               /* changed by next */
        bool forgotten;                /* freed by its latest transaction: next, or else txn */
        bool created;    /* new in its latest transaction: the log has no copy of it (J38) */
        bool logged;     /* txn has written it to the log */
        bool io;         /* I5 */
        void *frozen;    /* the bytes as txn left them, when next may have changed them */
        void *committed; /* the bytes before txn, for jbd2_get_undo() */
};

TAILQ_HEAD(jbd2_buf_list, jbd2_buf);
TAILQ_HEAD(jbd2_ordered_list, jbd2_ordered);
TAILQ_HEAD(jbd2_callback_list, jbd2_callback);

struct jbd2_transaction {
        struct jbd2 *j;
        uint32_t tid;
        enum txn_state state;
        uint64_t started_ns;
        uint32_t nr_handles;
        uint32_t nr_dirty;       /* blocks for the log */
        uint32_t credits;        /* of open handles, unused */
        uint32_t revoke_credits; /* the same */
        uint32_t cost_left;      /* when committing: log blocks still to be written, at most */
        struct jbd2_buf_list bufs;
        struct jbd2_revoke_table *revokes;
        struct jbd2_ordered_list ordered;
        struct jbd2_callback_list callbacks;

        uint32_t log_start;         /* its first block there */
        struct jbd2_buf_list homes; /* not yet home */
        TAILQ_ENTRY(jbd2_transaction) link;
};

TAILQ_HEAD(jbd2_transaction_list, jbd2_transaction);

struct jbd2_handle {
        struct jbd2 *j;
        struct jbd2_transaction *txn; /* NULL after a failed restart */
        uint32_t depth;
        uint32_t credits, revoke_credits; /* unused */
        bool sync;
        struct jbd2_handle *outer; /* this thread's handle of another journal */
};

struct jbd2_reserved {
        struct jbd2 *j;
        uint32_t blocks;
};

struct jbd2 {
        struct jbd2_journal log; /* its superblock: [super_lock] */
        bool has_log;            /* [const] */
        struct jbd2_options opts;
        uint32_t block_size;
        uint32_t tags_per_block;    /* at least */
        uint32_t revokes_per_block; /* records */
        uint32_t max_cost;          /* log blocks of one transaction */
        bool same_device;           /* log and file system */

        struct mtx super_lock; /* RANK_JOURNAL_SUPER: writing the journal's superblock */
        bool empty_on_disk;    /* it says that there is nothing to recover (J3) [super_lock] */
        void *super_block;     /* memory for it [super_lock] */

        struct mtx lock; /* RANK_JOURNAL: all of the rest, and what transactions and buffers
                            have */
        struct cond changed;
        struct jbd2_transaction *running;
        struct jbd2_transaction *committing;
        struct jbd2_transaction_list checkpoints; /* durable ones, oldest first */
        bool commit_busy;                         /* a thread is in commit_one() */
        bool checkpoint_busy;                     /* a thread is writing home */
        uint32_t reserved;
        uint32_t next_tid;
        uint32_t head, free; /* log blocks (I4) */
        uint32_t first_tid;  /* [const] that the log began with */
        uint32_t tail;       /* as on the device */
        uint32_t tail_tid;
        uint64_t last_commit_sec;
        _Atomic uint32_t durable_tid;
        _Atomic bool is_shut_down;
        _Atomic int err;
        struct jbd2_stats stats;

        void *spare[2]; /* blocks for a commit that finds no memory */
        void *log_out;  /* what log_write.c works with [the committing thread] */

        struct cond timer_wake;
        pthread_t timer;
        bool has_timer, stop_timer;
        bool want_checkpoint; /* a commit has taken log space */
};

static inline void *jbd2_block_new(const struct jbd2 *j)
{
        uint32_t align = uext4_bdev_geometry(j->opts.fs_dev)->mem_align;

        if (j->has_log)
                align = max_t(uint32_t, align,
                              uext4_bdev_geometry(j->log.place.dev)->mem_align);
        return mem_alloc_aligned(max_t(uint32_t, align, 64), j->block_size);
}

static inline bool jbd2_is_aborted(const struct jbd2 *j)
{
        return atomic_load_explicit(&j->err, memory_order_acquire) != 0;
}

/* What a journal that is aborted says to who wants to change something. */
static inline int jbd2_refusal(const struct jbd2 *j)
{
        return atomic_load(&j->is_shut_down) ? -EIO : -EROFS;
}

/* ---- buffers (access.c); the lock is held ---- */

static inline struct jbd2_buf *jbd2_buf_of(struct buf *buf)
{
        return buf->journal;
}

/* Keep I3 after txn or cp have changed; frees the struct when neither is left. */
void jbd2_buf_settle(struct jbd2_buf *jb);

/* Off its checkpoint list.  jbd2_buf_settle() follows. */
void jbd2_buf_uncheckpoint(struct jbd2_buf *jb);

/* ---- handle.c ---- */

/* Log blocks that so many blocks and revokes take, with everything around them. */
uint32_t jbd2_cost(const struct jbd2 *j, uint32_t blocks, uint32_t revokes);

/* The most log blocks that the transaction takes.  The lock is held. */
uint32_t jbd2_txn_cost(const struct jbd2_transaction *t, uint32_t blocks, uint32_t revokes);

void jbd2_txn_free(struct jbd2_transaction *t);

/* ---- commit.c ---- */

/* Commit what is running and wait for what is committing, up to `tid`.  The lock is held, no
 * handle is open; it is dropped meanwhile. */
void jbd2_commit_locked(struct jbd2 *j, uint32_t tid);

/* ---- log_write.c ---- */

/* Memory for the next two, once for all commits. */
void *jbd2_log_out_new(void);

/* Write the revoke records, then the blocks of the transaction.  0 or -errno. */
int jbd2_log_write(struct jbd2_transaction *t, uint32_t *ret_v1_crc);

/* Write the commit block, durably if there are barriers. */
int jbd2_log_write_commit(struct jbd2_transaction *t, uint32_t v1_crc);

/* ---- checkpoint.c ---- */

/* Where the log would begin now.  The lock is held. */
void jbd2_tail_candidate(struct jbd2 *j, uint32_t *ret_tail, uint32_t *ret_tid);

/*
 * Let the log begin there, in the superblock, unless it begins later already.  The file
 * system's device has been flushed since the candidate was taken (J25, J43).  No lock is held.
 */
int jbd2_move_tail(struct jbd2 *j, uint32_t tail, uint32_t tid);

/* Would that free so much that it is worth a write?  The lock is held. */
bool jbd2_tail_frees_much(const struct jbd2 *j, uint32_t tail);

/* Make room in the log: one step of what helps.  An abort when nothing does (J44).  The lock is
 * held, and dropped meanwhile. */
void jbd2_make_room(struct jbd2 *j);

/* Write blocks home until that many log blocks are free, or it would take a commit.  As above.
 */
void jbd2_checkpoint_some(struct jbd2 *j, uint32_t want_free);

/* ---- jbd2.c; no lock is held ---- */

/* Write the journal's superblock, durably.  super_lock is held. */
int jbd2_super_write(struct jbd2 *j);

/* Flush the file system's device, or the log's. */
int jbd2_flush_fs(struct jbd2 *j);
int jbd2_flush_log(struct jbd2 *j);

#endif
