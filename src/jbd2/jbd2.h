/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef JBD2_JBD2_H
#define JBD2_JBD2_H

/*
 * A journal at work: how metadata is changed so that a power cut leaves all of a change or
 * nothing of it (J15 .. J44; docs/journal.md).
 *
 *      jbd2_start(j, credits, revokes, &handle)     from here on, part of a transaction
 *      jbd2_get_write(handle, buf, &bytes)          may fail: before the first change
 *      ... change the bytes ...
 *      jbd2_dirty(handle, buf)                      cannot fail
 *      jbd2_stop(handle)
 *      jbd2_commit(j, tid)                          durable when this returns
 *
 * Handles of many threads make up one transaction.  One transaction is running and takes
 * handles; one may be committing.  A commit is carried out by the thread that asks for it
 * first; the others wait for it.  A thread of the journal's own asks when the interval has
 * passed.
 *
 * A journal without a log (jbd2_load with log NULL) has the same calls.  There a commit writes
 * the blocks home and flushes: what a power cut during it leaves is a matter for e2fsck.
 *
 * Order of locks: a handle counts as a lock of RANK_HANDLE, because starting one may wait for
 * log space, that is, for a commit and so for all other handles.  Waiting for a commit with
 * a handle open would wait for itself: it is refused with -EDEADLK.
 *
 * After an abort reads go on; starting a handle and getting access give -EROFS; handles that
 * are open are stopped as usual.
 */

#include <sys/queue.h>

#include "buf/buf.h"
#include "jbd2/journal.h"

struct jbd2;
struct jbd2_handle;

struct jbd2_options {
        struct buf_cache *bufs;    /* of the file system's device */
        struct uext4_bdev *fs_dev; /* the device of bufs */
        struct log_sink log;
        /* Features that the log shall have, JBD2_INCOMPAT_*; a checksum of an older generation
         * goes. */
        uint32_t set_incompat;
        uint32_t commit_ms; /* a transaction is committed at this age; 0: JBD2_COMMIT_MS */
        bool no_timer;      /* nobody but callers commits (for tests that count requests) */
        bool no_barrier;    /* no flushes: only for devices that lose nothing */
        bool blank_log;     /* jbd2_unload() leaves the log as if it had not been used: zeros,
                             * and the tid that it began with */

        /* Called once when the journal aborts, with no lock of the journal held. */
        void (*aborted)(void *arg, int err);
        void *arg;
};

#define JBD2_COMMIT_MS 5000

/*
 * Begin to write.  `log` has been opened and is empty (recovered); NULL: there is none.  On
 * success it belongs to the journal.  Nothing is written before the first commit (J32).
 */
int jbd2_load(struct jbd2_journal *log, const struct jbd2_options *opts, struct jbd2 **ret_j);

/*
 * Commit, write everything home, mark the log empty, free.  No handle is open.  Returns the
 * error that has aborted the journal, now or before; then the log stays as it is, for
 * recovery.
 */
int jbd2_unload(struct jbd2 *j);

/* ---- handles (handle.c) ---- */

/*
 * Become part of the running transaction, with the right to change `blocks` blocks and to
 * revoke `revokes`: the most that can happen, everything counted (J17).  In a thread that has a
 * handle of this journal already that one is given again, and must have enough left: -ENOSPC.
 * -ENOSPC also for more than jbd2_max_credits().  May wait for a commit and for log space.
 * -EROFS after an abort, -ENOMEM.
 */
must_check int jbd2_start(struct jbd2 *j, uint32_t blocks, uint32_t revokes,
                          struct jbd2_handle **ret_handle);

/* The most that one handle may ask for, revokes / 64 counted as blocks. */
uint32_t jbd2_max_credits(const struct jbd2 *j);

/* Leave the transaction.  0, or the error that has aborted the journal, or that of the commit
 * if jbd2_sync() was called. */
int jbd2_stop(struct jbd2_handle *h);

/* jbd2_stop() of the outermost level shall wait until the transaction is durable. */
void jbd2_sync(struct jbd2_handle *h);

/*
 * More credits, in place (J18).  1 when the transaction has no room: then nothing has changed,
 * and the caller brings its structures into a consistent state and calls jbd2_restart().
 */
must_check int jbd2_extend(struct jbd2_handle *h, uint32_t blocks, uint32_t revokes);

/*
 * Leave the transaction, which may commit what was done so far, and join a running one with new
 * credits.  On an error the handle is in no transaction, and can only be stopped.
 */
must_check int jbd2_restart(struct jbd2_handle *h, uint32_t blocks, uint32_t revokes);

/* jbd2_extend() to at least that many unused credits, or jbd2_restart().  1: it was restarted.
 */
must_check int jbd2_ensure(struct jbd2_handle *h, uint32_t blocks, uint32_t revokes);

uint32_t jbd2_credits(const struct jbd2_handle *h); /* unused */
uint32_t jbd2_tid(const struct jbd2_handle *h);     /* of the transaction it is part of */
struct jbd2 *jbd2_of(const struct jbd2_handle *h);

/* The handle that this thread has open, or NULL. */
struct jbd2_handle *jbd2_current(struct jbd2 *j);

/*
 * Credits set aside for later work that must find room, such as the completion of a write
 * (J19).  Every reservation is used or given back, once, also after an abort.
 */
struct jbd2_reserved;

/* jbd2_start(), outermost, and a reservation of `reserve` blocks, which may need to wait. */
must_check int jbd2_start_reserving(struct jbd2 *j, uint32_t blocks, uint32_t revokes,
                                    uint32_t reserve, struct jbd2_handle **ret_handle,
                                    struct jbd2_reserved **ret_reserved);

/*
 * As jbd2_start(), with what was reserved and without waiting for log space.  The reservation
 * is used up, also on an error.
 */
must_check int jbd2_start_reserved(struct jbd2_reserved *r, struct jbd2_handle **ret_handle);
void jbd2_unreserve(struct jbd2_reserved *r); /* NULL is fine */

/* ---- access to blocks (access.c) ---- */

/*
 * The right to change a buffer, and its bytes to change.  Until jbd2_dirty() they must not be
 * changed unless that is called as well.  If the committing transaction still needs the
 * bytes as they are they are copied first (J20).  May wait for a write of the buffer to end.
 * -EROFS, -ENOMEM: nothing has happened.
 */
must_check int jbd2_get_write(struct jbd2_handle *h, struct buf *buf, void **ret_bytes);

/* The same for a block that has just been allocated: the bytes are zeros.  Revoked in this
 * transaction, it is no longer (J36). */
must_check int jbd2_get_create(struct jbd2_handle *h, struct buf *buf, void **ret_bytes);

/* As jbd2_get_write, and the bytes as they are in the last durable state stay to be had. */
must_check int jbd2_get_undo(struct jbd2_handle *h, struct buf *buf, void **ret_bytes);

/*
 * Copy the bytes as of the last commit of a buffer that jbd2_get_undo() has been called for.
 * False when they are the current ones.
 */
bool jbd2_committed_bytes(struct jbd2 *j, struct buf *buf, void *ret_bytes);

/* The buffer has been changed: its new bytes are part of the transaction.  Takes one credit,
 * the first time in a transaction. */
void jbd2_dirty(struct jbd2_handle *h, struct buf *buf);

/*
 * The block is being freed: what the transaction changed in it is void, and it will not be
 * written home once the transaction is durable.  Waits for a write of it that is under way
 * (J23).  The caller keeps its reference.  When the block may be reused for data, and might
 * have been journalled in an earlier transaction, jbd2_revoke() is what is needed.
 */
void jbd2_forget(struct jbd2_handle *h, struct buf *buf);

/*
 * jbd2_forget(), and recovery will not bring back copies of the block from this or earlier
 * transactions (J36).  `buf` NULL: whatever is cached of it.  Takes one revoke credit; without
 * a log nothing is recorded.
 */
void jbd2_revoke(struct jbd2_handle *h, uint64_t blk, struct buf *buf);

/* ---- what else belongs to a transaction (handle.c) ---- */

/*
 * File data that must be on the device before the transaction's metadata is (data=ordered,
 * J25c).  submit() starts the writes or does them, wait() ends when they have; both are called
 * by the committing thread, without locks, and start no handle.  An error aborts.
 */
struct jbd2_ordered;
struct jbd2_ordered_ops {
        int (*submit)(struct jbd2_ordered *o);
        int (*wait)(struct jbd2_ordered *o);
};

struct jbd2_transaction;
struct jbd2_ordered {
        const struct jbd2_ordered_ops *ops;
        struct jbd2_transaction *txn; /* zeros to begin with; the journal's */
        TAILQ_ENTRY(jbd2_ordered) link;
};

/* From now until the handle's transaction is committed `o` is part of it.  Idempotent. */
void jbd2_order(struct jbd2_handle *h, struct jbd2_ordered *o);

/* `o` is part of no transaction any more; waits while a commit is calling it. */
void jbd2_unorder(struct jbd2 *j, struct jbd2_ordered *o);

/*
 * Called once, when the handle's transaction is durable (err 0) or never will be (J22).  By the
 * committing thread, without locks; it must not start a handle or wait for a commit, and takes
 * no lock that others hold around jbd2_get_undo() or jbd2_order().
 */
struct jbd2_callback {
        TAILQ_ENTRY(jbd2_callback) link;
        void (*fn)(struct jbd2_callback *cb, int err);
};

void jbd2_on_commit(struct jbd2_handle *h, struct jbd2_callback *cb);

/* ---- durability (commit.c, checkpoint.c) ---- */

/* Whether the transaction is durable.  Takes no lock (C47). */
bool jbd2_is_durable(const struct jbd2 *j, uint32_t tid);

/* Make the transaction durable, if it is not.  The caller has no handle open: -EDEADLK. */
int jbd2_commit(struct jbd2 *j, uint32_t tid);

/* Make everything durable that was done before this call.  The free space that the commits
 * gave back is there when it returns. */
int jbd2_commit_all(struct jbd2 *j);

/*
 * Whether a commit that makes `tid` durable will flush the file system's device, after this
 * call: then who needs such a flush need not send one (B49, J25).
 */
bool jbd2_will_flush(struct jbd2 *j, uint32_t tid);

/* jbd2_commit_all(), everything home, the log empty. */
int jbd2_flush(struct jbd2 *j);

/* ---- abort (jbd2.c) ---- */

/* Stop writing, for ever.  The first error counts; it is stored in the journal's superblock. */
void jbd2_abort(struct jbd2 *j, int err);

/* The same, and nobody is told: not the journal's superblock, not options.aborted.  Then the
 * error is -EIO, and so is what an abort answers with -EROFS. */
void jbd2_shut_down(struct jbd2 *j);
int jbd2_error(const struct jbd2 *j); /* 0, or what has aborted the journal */

struct jbd2_stats {
        uint64_t nr_handles;
        uint64_t nr_commits;
        uint64_t nr_logged;      /* metadata blocks written to the log, or home without one */
        uint64_t nr_revokes;     /* records written */
        uint64_t nr_copied_out;  /* blocks copied because the committing transaction had them */
        uint64_t nr_checkpoints; /* rounds of writing home */
        uint64_t nr_home;        /* blocks written home by those */
        uint64_t nr_space_waits; /* handles that had to wait for log space */
};

void jbd2_get_stats(struct jbd2 *j, struct jbd2_stats *ret_stats);

#endif
