/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The way home, and the tail of the log.
 *
 * A durable transaction stays on the list `checkpoints` as long as a block of it is not home.
 * The log begins with the oldest one.  Its blocks go home when room is needed, at leisure when
 * the log is half full, and at the end; but for those that a later transaction has changed
 * again, which is to be committed first (J41).
 *
 * The order (J43): blocks home, a flush, the superblock with the new tail.  Only then the space
 * before it is free.
 */

#include "jbd2/txn.h"

#define BATCH 256

/* ---- the tail ---- */

/* Oldest transactions of which everything is home. */
static void reap(struct jbd2 *j)
{
        struct jbd2_transaction *t;

        while ((t = TAILQ_FIRST(&j->checkpoints)) && TAILQ_EMPTY(&t->homes)) {
                TAILQ_REMOVE(&j->checkpoints, t, link);
                jbd2_txn_free(t);
        }
}

void jbd2_tail_candidate(struct jbd2 *j, uint32_t *ret_tail, uint32_t *ret_tid)
{
        const struct jbd2_transaction *t;

        reap(j);
        t = TAILQ_FIRST(&j->checkpoints);
        if (!t)
                t = j->committing;
        if (t) {
                *ret_tail = t->log_start;
                *ret_tid = t->tid;
        } else {
                *ret_tail = j->head;
                *ret_tid = j->running ? j->running->tid : j->next_tid;
        }
}

static uint32_t freed_by(const struct jbd2 *j, uint32_t tail)
{
        const uint32_t size = jbd2_log_size(&j->log);

        return (tail - j->tail + size) % size;
}

bool jbd2_tail_frees_much(const struct jbd2 *j, uint32_t tail)
{
        return freed_by(j, tail) >= j->max_cost;
}

int jbd2_move_tail(struct jbd2 *j, uint32_t tail, uint32_t tid)
{
        bool later;
        int ret = 0;

        mtx_lock(&j->super_lock);
        mtx_lock(&j->lock);
        later = jbd2_tid_after(tid, j->tail_tid);
        mtx_unlock(&j->lock);
        if (later && !j->empty_on_disk) {
                j->log.sb.s_start = be32_make(tail);
                j->log.sb.s_sequence = be32_make(tid);
                ret = jbd2_super_write(j);
        }
        if (later && ret == 0) {
                mtx_lock(&j->lock);
                j->free += freed_by(j, tail);
                j->tail = tail;
                j->tail_tid = tid;
                cond_broadcast(&j->changed);
                mtx_unlock(&j->lock);
        }
        mtx_unlock(&j->super_lock);
        return ret;
}

/* ---- blocks home; the lock is held, dropped during I/O; checkpoint_busy is ours ---- */

/* What of t may go home now.  *ret_blocker: a tid that must be committed first. */
static size_t gather(struct jbd2_transaction *t, struct buf_home *homes, uint32_t *ret_blocker,
                     bool *ret_blocked)
{
        struct jbd2_buf *jb;
        size_t nr = 0;

        *ret_blocked = false;
        TAILQ_FOREACH (jb, &t->homes, cp_link) {
                if (nr == BATCH)
                        break;
                if (jb->txn) { /* J21 */
                        *ret_blocker = jb->next ? jb->next->tid : jb->txn->tid;
                        *ret_blocked = true;
                        continue;
                }
                jb->io = true;
                homes[nr++] = (struct buf_home){jb->buf, jb->buf->data};
        }
        return nr;
}

static void home_now(struct jbd2 *j, const struct buf_home *homes, size_t nr, int err)
{
        for (size_t i = 0; i < nr; i++) {
                struct jbd2_buf *jb = jbd2_buf_of(homes[i].buf);

                jb->io = false;
                if (err < 0)
                        continue; /* J42: it stays, and the tail with it */
                jbd2_buf_uncheckpoint(jb);
                jbd2_buf_settle(jb);
        }
        if (err == 0)
                j->stats.nr_home += nr;
        j->stats.nr_checkpoints++;
        cond_broadcast(&j->changed);
}

static void abort_unlocked(struct jbd2 *j, int err)
{
        mtx_unlock(&j->lock);
        jbd2_abort(j, err);
        mtx_lock(&j->lock);
}

/* One batch of the oldest transaction.  False when nothing could be written. */
static bool write_some(struct jbd2 *j, uint32_t *ret_blocker, bool *ret_blocked)
{
        struct jbd2_transaction *t = TAILQ_FIRST(&j->checkpoints);
        struct buf_home homes[BATCH];
        size_t nr = gather(t, homes, ret_blocker, ret_blocked);
        int ret;

        if (nr == 0)
                return false;
        mtx_unlock(&j->lock);
        ret = buf_write_home(j->opts.bufs, homes, nr);
        mtx_lock(&j->lock);
        home_now(j, homes, nr, ret);
        if (ret < 0)
                abort_unlocked(j, ret);
        return true;
}

/* Let the log begin later, if it can.  False when not. */
static bool advance_tail(struct jbd2 *j)
{
        uint32_t tail, tid;
        int ret;

        jbd2_tail_candidate(j, &tail, &tid);
        if (!jbd2_tid_after(tid, j->tail_tid))
                return false;
        mtx_unlock(&j->lock);
        ret = jbd2_flush_fs(j); /* order: checkpointed blocks before the tail moves */
        if (ret == 0)
                ret = jbd2_move_tail(j, tail, tid);
        if (ret < 0)
                jbd2_abort(j, ret);
        mtx_lock(&j->lock);
        return true;
}

/* ---- room ---- */

static void claim(struct jbd2 *j)
{
        while (j->checkpoint_busy)
                cond_wait(&j->changed, &j->lock);
        j->checkpoint_busy = true;
}

static void unclaim(struct jbd2 *j)
{
        j->checkpoint_busy = false;
        cond_broadcast(&j->changed);
}

/* Write the oldest transaction home as far as possible.  *ret_blocked: up to that tid. */
static bool oldest_home(struct jbd2 *j, uint32_t *ret_blocker, bool *ret_blocked)
{
        const struct jbd2_transaction *oldest;
        bool wrote = false;

        *ret_blocked = false;
        reap(j);
        oldest = TAILQ_FIRST(&j->checkpoints);
        while (oldest && TAILQ_FIRST(&j->checkpoints) == oldest && !jbd2_is_aborted(j) &&
               write_some(j, ret_blocker, ret_blocked)) {
                wrote = true;
                reap(j);
        }
        return wrote;
}

/* A flush and a superblock for every few blocks would be a waste. */
static bool frees_enough(struct jbd2 *j)
{
        uint32_t tail, tid;

        jbd2_tail_candidate(j, &tail, &tid);
        return jbd2_tail_frees_much(j, tail);
}

void jbd2_make_room(struct jbd2 *j)
{
        uint32_t blocker = 0;
        bool blocked, helped;

        if (j->checkpoint_busy) { /* another one makes room: look again afterwards */
                cond_wait(&j->changed, &j->lock);
                return;
        }
        claim(j);
        helped = oldest_home(j, &blocker, &blocked);
        while (!blocked && !frees_enough(j) && oldest_home(j, &blocker, &blocked))
                ;
        helped |= advance_tail(j);
        unclaim(j);
        if (helped || jbd2_is_aborted(j))
                return;
        if (blocked)
                jbd2_commit_locked(j, blocker);
        else if (j->commit_busy)
                cond_wait(&j->changed, &j->lock);
        else if (j->running)
                jbd2_commit_locked(j, j->running->tid);
        else
                abort_unlocked(j, -ENOSPC); /* J44 */
}

void jbd2_checkpoint_some(struct jbd2 *j, uint32_t want_free)
{
        uint32_t blocker;
        bool blocked;

        claim(j);
        while (j->free < want_free && !jbd2_is_aborted(j)) {
                const bool wrote = oldest_home(j, &blocker, &blocked);

                if (!advance_tail(j) && !wrote)
                        break;
        }
        unclaim(j);
}

/* ---- everything ---- */

/* All that is durable now; what comes later may follow.  The lock is held. */
static void all_home(struct jbd2 *j)
{
        const uint32_t last = j->next_tid - 1;
        const struct jbd2_transaction *t;
        uint32_t blocker;
        bool blocked;

        claim(j);
        while (reap(j), (t = TAILQ_FIRST(&j->checkpoints)) && !jbd2_is_aborted(j) &&
                                !jbd2_tid_after(t->tid, last)) {
                oldest_home(j, &blocker, &blocked);
                if (blocked)
                        jbd2_commit_locked(j, blocker);
        }
        unclaim(j);
}

static int write_empty(struct jbd2 *j, uint32_t tid)
{
        int ret;

        j->log.sb.s_start = be32_make(0);
        j->log.sb.s_sequence = be32_make(tid);
        ret = jbd2_super_write(j);
        if (ret < 0)
                return ret;
        j->empty_on_disk = true;
        mtx_lock(&j->lock);
        j->tail = j->head;
        j->tail_tid = tid;
        j->free = jbd2_log_size(&j->log) - 1;
        mtx_unlock(&j->lock);
        return 0;
}

/* The superblock says that there is nothing to recover, unless somebody commits just now. */
static int mark_empty(struct jbd2 *j)
{
        uint32_t tid = 0;
        bool empty;
        int ret = 0;

        mtx_lock(&j->super_lock);
        mtx_lock(&j->lock);
        empty = TAILQ_EMPTY(&j->checkpoints) && !j->commit_busy && !j->empty_on_disk;
        if (empty)
                tid = j->running ? j->running->tid : j->next_tid;
        mtx_unlock(&j->lock);
        if (empty) {
                ret = jbd2_flush_fs(j); /* order: everything home before the log is void */
                if (ret == 0)
                        ret = write_empty(j, tid);
        }
        mtx_unlock(&j->super_lock);
        if (ret < 0)
                jbd2_abort(j, ret);
        return ret;
}

int jbd2_flush(struct jbd2 *j)
{
        int ret = jbd2_commit_all(j);

        if (ret < 0 || !j->has_log)
                return ret;
        mtx_lock(&j->lock);
        all_home(j);
        mtx_unlock(&j->lock);
        ret = jbd2_error(j);
        return ret < 0 ? ret : mark_empty(j);
}
