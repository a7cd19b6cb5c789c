/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A transaction's way to durability (J24).
 *
 *   1 no more handles; wait for those that are open
 *   2 it becomes the committing one, and a new one may run
 *   3 ordered data is submitted
 *   4 revoke records, descriptors and blocks are written to the log
 *   5 wait for ordered data
 *   6 note where the log would begin now (J25)
 *   7 flush the file system's device, if it is another one: for the data that completed before,
 *     of which the journal knows nothing, and for step 6
 *   8 flush the log's device; the commit block, FUA
 *   9 callbacks; only then it counts as durable
 *  10 the log begins where step 6 said, if that frees much
 *  11 its buffers are to go home
 *
 * Without a log steps 4 to 8 are: write the blocks home, flush.
 *
 * Whoever asks first carries the commit out, the others wait; there is one at a time.
 */

#include "jbd2/txn.h"

/* ---- the parts of a commit; the lock is not held ---- */

static int submit_ordered(struct jbd2_transaction *t)
{
        struct jbd2_ordered *o;
        int ret = 0;

        TAILQ_FOREACH (o, &t->ordered, link)
                ret = first_error(ret, o->ops->submit(o));
        return ret;
}

static int wait_ordered(struct jbd2_transaction *t)
{
        struct jbd2_ordered *o;
        int ret = 0;

        TAILQ_FOREACH (o, &t->ordered, link)
                ret = first_error(ret, o->ops->wait(o));
        return ret;
}

/* The journal's superblock says that the log is empty: that must change first (J32). */
static int open_log(struct jbd2_transaction *t)
{
        struct jbd2 *j = t->j;
        int ret = 0;

        mtx_lock(&j->super_lock);
        if (j->empty_on_disk) {
                j->log.sb.s_start = be32_make(t->log_start);
                j->log.sb.s_sequence = be32_make(t->tid);
                ret = jbd2_super_write(j); /* order: the log is known before it has a commit */
                j->empty_on_disk = ret < 0;
                mtx_lock(&j->lock);
                j->tail = t->log_start;
                j->tail_tid = t->tid;
                mtx_unlock(&j->lock);
        }
        mtx_unlock(&j->super_lock);
        return ret;
}

static int to_log(struct jbd2_transaction *t)
{
        struct jbd2 *j = t->j;
        uint32_t v1_crc, tail, tail_tid;
        bool worth;
        int ret = open_log(t);

        if (ret == 0)
                ret = jbd2_log_write(t, &v1_crc);
        ret = first_error(ret, wait_ordered(t)); /* order: data before the commit block */
        if (ret < 0 || jbd2_is_aborted(j))
                return ret;

        mtx_lock(&j->lock);
        jbd2_tail_candidate(j, &tail, &tail_tid); /* order: before the flush (J25) */
        worth = jbd2_tail_frees_much(j, tail);
        t->state = TXN_COMMIT;
        mtx_unlock(&j->lock);

        if (!j->same_device)
                ret = jbd2_flush_fs(j); /* order: data and checkpointed blocks */
        if (ret == 0)
                ret = jbd2_flush_log(j); /* order: the log before its commit block */
        if (ret == 0)
                ret = jbd2_log_write_commit(t, v1_crc);
        if (ret == 0 && worth)
                ret = jbd2_move_tail(j, tail, tail_tid);
        return ret;
}

/* ---- without a log ---- */

#define HOME_BATCH 256

/* Take the bytes of up to HOME_BATCH buffers, from *next on. */
static size_t gather_homes(struct jbd2_transaction *t, struct jbd2_buf **next,
                           struct buf_home *homes)
{
        size_t nr = 0;

        mtx_lock(&t->j->lock);
        for (; *next && nr < HOME_BATCH; *next = TAILQ_NEXT(*next, link)) {
                struct jbd2_buf *jb = *next;

                if (!jb->dirty)
                        continue;
                jb->io = !jb->frozen;
                atomic_store(&jb->buf->state, BUF_DIRTY);
                homes[nr++] =
                        (struct buf_home){jb->buf, jb->frozen ? jb->frozen : jb->buf->data};
        }
        mtx_unlock(&t->j->lock);
        return nr;
}

static void homes_done(struct jbd2 *j, const struct buf_home *homes, size_t nr)
{
        mtx_lock(&j->lock);
        for (size_t i = 0; i < nr; i++) {
                struct jbd2_buf *jb = jbd2_buf_of(homes[i].buf);

                atomic_store(&jb->buf->state, BUF_OPEN);
                jb->io = false;
                jb->logged = true;
        }
        j->stats.nr_logged += nr;
        cond_broadcast(&j->changed);
        mtx_unlock(&j->lock);
}

static int to_home(struct jbd2_transaction *t)
{
        struct jbd2_buf *next = TAILQ_FIRST(&t->bufs);
        struct buf_home homes[HOME_BATCH];
        struct jbd2 *j = t->j;
        int ret = wait_ordered(t);
        size_t nr;

        while (ret == 0 && (nr = gather_homes(t, &next, homes)) > 0) {
                ret = buf_write_home(j->opts.bufs, homes, nr);
                homes_done(j, homes, nr);
        }
        mtx_lock(&j->lock);
        t->state = TXN_COMMIT;
        mtx_unlock(&j->lock);
        return ret == 0 ? jbd2_flush_fs(j) : ret; /* order: durable when the commit ends */
}

/* ---- the transaction's end ---- */

/* The buffers go on to the next transaction, or home.  The lock is held. */
static void pass_on(struct jbd2_transaction *t, struct jbd2_buf *jb, bool durable)
{
        struct jbd2 *j = t->j;

        mem_free(jb->committed);
        jb->committed = jb->next ? jb->frozen : NULL;
        if (!jb->next)
                mem_free(jb->frozen);
        jb->frozen = NULL;
        TAILQ_REMOVE(&t->bufs, jb, link);
        jb->txn = jb->next;
        jb->next = NULL;
        if (jb->txn)
                TAILQ_INSERT_TAIL(&jb->txn->bufs, jb, link);

        if (jb->forgotten && !jb->txn) { /* freed by t: of no use to anybody */
                jbd2_buf_uncheckpoint(jb);
        } else if (jb->dirty && (j->has_log || !durable)) {
                jbd2_buf_uncheckpoint(jb);
                jb->cp = t;
                TAILQ_INSERT_TAIL(&t->homes, jb, cp_link);
        }
        jb->dirty = jb->next_dirty;
        jb->next_dirty = false;
        jb->logged = false;
        if (!jb->txn)
                jb->created = false;
        jbd2_buf_settle(jb);
}

/* What was given access to and not changed is none of its business.  The lock is held. */
static void drop_unchanged(struct jbd2_transaction *t)
{
        struct jbd2_buf *jb, *next;

        for (jb = TAILQ_FIRST(&t->bufs); jb; jb = next) {
                next = TAILQ_NEXT(jb, link);
                if (jb->dirty || jb->forgotten)
                        continue;
                TAILQ_REMOVE(&t->bufs, jb, link);
                jb->txn = NULL;
                jb->forgotten = jb->created; /* its zeros are not on the device */
                mem_free(jb->committed);
                jb->committed = NULL;
                jbd2_buf_settle(jb);
        }
}

static void run_callbacks(struct jbd2_transaction *t, int err)
{
        struct jbd2_callback *cb;

        while ((cb = TAILQ_FIRST(&t->callbacks))) {
                TAILQ_REMOVE(&t->callbacks, cb, link);
                cb->fn(cb, err);
        }
}

/* The lock is held. */
static void finish(struct jbd2_transaction *t, bool durable)
{
        struct jbd2 *j = t->j;
        struct jbd2_ordered *o;
        struct jbd2_buf *jb;

        while ((o = TAILQ_FIRST(&t->ordered))) {
                TAILQ_REMOVE(&t->ordered, o, link);
                o->txn = NULL;
        }
        while ((jb = TAILQ_FIRST(&t->bufs)))
                pass_on(t, jb, durable);
        t->cost_left = 0;
        j->committing = NULL;
        if (durable) {
                j->stats.nr_commits++;
                atomic_store_explicit(&j->durable_tid, t->tid, memory_order_release);
        }
        /* What could not be made durable stays in memory: reads go on. */
        if (TAILQ_EMPTY(&t->homes))
                jbd2_txn_free(t);
        else
                TAILQ_INSERT_TAIL(&j->checkpoints, t, link);
}

/* Steps 1 and 2.  The lock is held. */
static struct jbd2_transaction *take_running(struct jbd2 *j)
{
        struct jbd2_transaction *t = j->running;

        t->state = TXN_LOCKED;
        while (t->nr_handles > 0)
                cond_wait(&j->changed, &j->lock);
        t->credits = t->revoke_credits = 0;
        t->cost_left = jbd2_txn_cost(t, 0, 0);
        t->log_start = j->head;
        t->state = TXN_FLUSH;
        j->committing = t;
        j->running = NULL;
        drop_unchanged(t);
        cond_broadcast(&j->changed);
        return t;
}

/* Commit the running transaction; there is one, and nobody else commits.  The lock is held. */
static void commit_one(struct jbd2 *j)
{
        struct jbd2_transaction *t;
        int ret;

        j->commit_busy = true;
        t = take_running(j);
        mtx_unlock(&j->lock);

        ret = jbd2_is_aborted(j) ? jbd2_error(j) : submit_ordered(t);
        if (ret == 0)
                ret = j->has_log ? to_log(t) : to_home(t);
        if (ret < 0)
                jbd2_abort(j, ret);
        if (jbd2_is_aborted(j))
                ret = jbd2_error(j);
        run_callbacks(t, ret);

        mtx_lock(&j->lock);
        finish(t, ret == 0);
        j->commit_busy = false;
        j->want_checkpoint = true;
        cond_signal(&j->timer_wake);
        cond_broadcast(&j->changed);
}

void jbd2_commit_locked(struct jbd2 *j, uint32_t tid)
{
        while (!jbd2_is_durable(j, tid)) {
                if (j->commit_busy)
                        cond_wait(&j->changed, &j->lock);
                else if (j->running && !jbd2_tid_after(j->running->tid, tid))
                        commit_one(j);
                else
                        return; /* it was given up, or is none */
        }
}

/* ---- for everybody ---- */

bool jbd2_is_durable(const struct jbd2 *j, uint32_t tid)
{
        return !jbd2_tid_after(tid,
                               atomic_load_explicit(&j->durable_tid, memory_order_acquire));
}

int jbd2_commit(struct jbd2 *j, uint32_t tid)
{
        if (jbd2_is_durable(j, tid))
                return 0;
        if (jbd2_current(j))
                return -EDEADLK;
        mtx_lock(&j->lock);
        jbd2_commit_locked(j, tid);
        mtx_unlock(&j->lock);
        return jbd2_is_durable(j, tid) ? 0 : first_error(jbd2_error(j), -EINVAL);
}

int jbd2_commit_all(struct jbd2 *j)
{
        uint32_t tid;

        mtx_lock(&j->lock);
        tid = j->next_tid - 1;
        mtx_unlock(&j->lock);
        return jbd2_commit(j, tid);
}

bool jbd2_will_flush(struct jbd2 *j, uint32_t tid)
{
        struct jbd2_transaction *t = NULL;

        mtx_lock(&j->lock);
        if (j->running && j->running->tid == tid)
                t = j->running;
        else if (j->committing && j->committing->tid == tid &&
                 j->committing->state < TXN_COMMIT)
                t = j->committing;
        mtx_unlock(&j->lock);
        return t && !j->opts.no_barrier;
}
