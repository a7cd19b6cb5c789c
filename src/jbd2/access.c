/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Access to buffers.
 *
 * A buffer that is to be changed joins the running transaction.  When the committing one still
 * needs the bytes as they are they are copied out first: as late as that, and only then (J20).
 * When there is no memory for the copy, who wants to change the buffer waits until the
 * committing transaction does not need it any more (C60): that waits for no handle.
 *
 * Nothing here changes the bytes of a buffer that a device reads (txn.h, I5).
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "jbd2/txn.h"

/* ---- life of a struct jbd2_buf ---- */

static struct jbd2_buf *attach(struct buf *buf)
{
        struct jbd2_buf *jb = mem_zalloc(sizeof(*jb));

        if (!jb)
                return NULL;
        jb->buf = buf;
        buf->journal = jb;
        buf_get(buf);
        return jb;
}

static void detach(struct jbd2_buf *jb)
{
        struct buf *buf = jb->buf;

        mem_free(jb->frozen);
        mem_free(jb->committed);
        buf->journal = NULL;
        atomic_store(&buf->state, BUF_CLEAN);
        if (jb->forgotten) /* the bytes were never written home, and never will be */
                buf_forget(buf);
        mem_free(jb);
        buf_put(buf);
}

void jbd2_buf_settle(struct jbd2_buf *jb)
{
        if (jb->txn)
                atomic_store(&jb->buf->state, BUF_OPEN);
        else if (jb->cp)
                atomic_store(&jb->buf->state, BUF_DIRTY);
        else
                detach(jb);
}

void jbd2_buf_uncheckpoint(struct jbd2_buf *jb)
{
        if (jb->cp)
                TAILQ_REMOVE(&jb->cp->homes, jb, cp_link);
        jb->cp = NULL;
}

/* ---- joining the running transaction ---- */

/* Does the committing transaction need the bytes as they are? */
static bool must_copy(const struct jbd2_buf *jb, bool undo)
{
        if (!jb->dirty || jb->frozen)
                return false;
        /* What becomes the durable state must be known to those who ask for it. */
        return !jb->logged || undo || jb->committed;
}

static bool copy_out(struct jbd2 *j, struct jbd2_buf *jb)
{
        void *copy = jbd2_block_new(j);

        if (!copy)
                return false;
        memcpy(copy, jb->buf->data, j->block_size);
        jb->frozen = copy;
        j->stats.nr_copied_out++;
        return true;
}

static void take_over(struct jbd2_buf *jb, struct jbd2_transaction *t)
{
        if (jb->txn) {
                jb->next = t;
                jb->next_dirty = false;
        } else {
                jb->txn = t;
                jb->dirty = false;
                jb->logged = false;
                TAILQ_INSERT_TAIL(&t->bufs, jb, link);
                jbd2_buf_settle(jb);
        }
        jb->created = false;
        jb->forgotten = false;
}

/*
 * One try to make the buffer one of t's, which is running.  False when the caller must look
 * again: it has slept.
 */
static bool try_join(struct jbd2_buf *jb, struct jbd2_transaction *t, bool undo)
{
        struct jbd2 *j = t->j;
        bool others = jb->txn && jb->txn != t; /* the committing one's */

        if (jb->next == t || (jb->txn == t && !jb->io)) {
                /* t freed it and has it again: what others need was not copied then. */
                if (!(jb->forgotten && others && must_copy(jb, undo))) {
                        jb->forgotten = false;
                        return true;
                }
        }
        if (jb->io) {
                cond_wait(&j->changed, &j->lock);
                return false;
        }
        if (others && undo && jb->dirty && !jb->committed) {
                cond_wait(&j->changed, &j->lock); /* its durable bytes are known to nobody */
                return false;
        }
        if (others && must_copy(jb, undo) && !copy_out(j, jb)) {
                cond_wait(&j->changed, &j->lock);
                return false;
        }
        take_over(jb, t);
        return true;
}

static int keep_committed(struct jbd2 *j, struct jbd2_buf *jb)
{
        if (jb->committed)
                return 0;
        jb->committed = jbd2_block_new(j);
        if (!jb->committed)
                return -ENOMEM;
        memcpy(jb->committed, jb->buf->data, j->block_size);
        return 0;
}

static bool is_changed_by(const struct jbd2_buf *jb, const struct jbd2_transaction *t)
{
        return jb->next == t ? jb->next_dirty : jb->txn == t && jb->dirty;
}

static int join_locked(struct jbd2_handle *h, struct buf *buf, bool undo)
{
        struct jbd2_transaction *t = h->txn;
        struct jbd2_buf *jb;

        do {
                if (jbd2_is_aborted(h->j))
                        return jbd2_refusal(h->j);
                jb = jbd2_buf_of(buf);
                if (!jb)
                        jb = attach(buf);
                if (!jb)
                        return -ENOMEM;
        } while (!try_join(jb, t, undo));
        return undo && !is_changed_by(jb, t) ? keep_committed(h->j, jb) : 0;
}

static int get_access(struct jbd2_handle *h, struct buf *buf, bool undo, void **ret_bytes)
{
        struct jbd2 *j = h->j;
        int ret;

        if (!h->txn)
                return jbd2_refusal(j);
        mtx_lock(&j->lock);
        ret = join_locked(h, buf, undo);
        mtx_unlock(&j->lock);
        if (ret == 0)
                *ret_bytes = buf_bytes(buf);
        return ret;
}

int jbd2_get_write(struct jbd2_handle *h, struct buf *buf, void **ret_bytes)
{
        return get_access(h, buf, false, ret_bytes);
}

int jbd2_get_undo(struct jbd2_handle *h, struct buf *buf, void **ret_bytes)
{
        return get_access(h, buf, true, ret_bytes);
}

int jbd2_get_create(struct jbd2_handle *h, struct buf *buf, void **ret_bytes)
{
        struct jbd2 *j = h->j;
        int ret = get_access(h, buf, false, ret_bytes);

        if (ret < 0)
                return ret;
        mtx_lock(&j->lock);
        /* A record that is cancelled stood for older copies: there must be one again if it is
         * freed once more. */
        jbd2_buf_of(buf)->created = !jbd2_revoke_cancel(h->txn->revokes, buf->blk);
        /* Since buf_new() the transaction that freed the block may have ended: detach(). */
        buf_set_known(buf);
        mtx_unlock(&j->lock);
        memset(*ret_bytes, 0, j->block_size);
        return 0;
}

bool jbd2_committed_bytes(struct jbd2 *j, struct buf *buf, void *ret_bytes)
{
        const struct jbd2_buf *jb;
        bool found;

        mtx_lock(&j->lock);
        jb = jbd2_buf_of(buf);
        found = jb && jb->committed;
        if (found)
                memcpy(ret_bytes, jb->committed, j->block_size);
        mtx_unlock(&j->lock);
        return found;
}

/* ---- changed ---- */

static void use_credit(struct jbd2_handle *h)
{
#ifdef UEXT4_LOCK_DEBUG
        if (h->credits == 0) {
                fprintf(stderr, "journal: a handle changes more blocks than it asked for\n");
                abort();
        }
#endif
        /* Elsewhere the transaction has slack for it, as others ask for more than they use. */
        if (h->credits > 0) {
                h->credits--;
                h->txn->credits--;
        }
        h->txn->nr_dirty++;
}

void jbd2_dirty(struct jbd2_handle *h, struct buf *buf)
{
        struct jbd2_transaction *t = h->txn;
        struct jbd2 *j = h->j;
        struct jbd2_buf *jb;

        if (!t)
                return;
        buf_changed(buf);
        mtx_lock(&j->lock);
        jb = jbd2_buf_of(buf);
        assert(jb && (jb->txn == t || jb->next == t)); /* it has access */
        if (!is_changed_by(jb, t)) {
                use_credit(h);
                if (jb->next == t)
                        jb->next_dirty = true;
                else
                        jb->dirty = true;
        }
        mtx_unlock(&j->lock);
}

/* ---- freed ---- */

static void undo_change(struct jbd2_buf *jb, struct jbd2_transaction *t)
{
        if (!is_changed_by(jb, t))
                return;
        if (jb->next == t)
                jb->next_dirty = false;
        else
                jb->dirty = false;
        t->nr_dirty--;
}

/*
 * The buffer stays with the transaction that frees it, so that its end finds it: only then the
 * copy of an older transaction needs not go home any more.
 */
static void forget_locked(struct jbd2_handle *h, struct buf *buf)
{
        struct jbd2_transaction *t = h->txn;
        struct jbd2_buf *jb;

        while ((jb = jbd2_buf_of(buf)) && jb->io)
                cond_wait(&h->j->changed, &h->j->lock); /* J23 */
        if (!jb)
                return;
        if (jb->txn != t && jb->next != t)
                take_over(jb, t);
        undo_change(jb, t);
        jb->forgotten = true;
        if (jb->txn == t && !jb->cp) {
                TAILQ_REMOVE(&t->bufs, jb, link);
                jb->txn = NULL;
                jbd2_buf_settle(jb);
        }
}

void jbd2_forget(struct jbd2_handle *h, struct buf *buf)
{
        if (!h->txn)
                return;
        mtx_lock(&h->j->lock);
        forget_locked(h, buf);
        mtx_unlock(&h->j->lock);
}

static bool needs_record(const struct jbd2_handle *h, struct buf *buf)
{
        const struct jbd2_buf *jb = buf ? jbd2_buf_of(buf) : NULL;

        if (!h->j->has_log)
                return false;
        return !(jb && jb->created && (jb->txn == h->txn || jb->next == h->txn)); /* J38 */
}

static void use_revoke_credit(struct jbd2_handle *h)
{
#ifdef UEXT4_LOCK_DEBUG
        if (h->revoke_credits == 0) {
                fprintf(stderr, "journal: a handle revokes more blocks than it asked for\n");
                abort();
        }
#endif
        if (h->revoke_credits > 0) {
                h->revoke_credits--;
                h->txn->revoke_credits--;
        }
}

void jbd2_revoke(struct jbd2_handle *h, uint64_t blk, struct buf *buf)
{
        struct buf *found = NULL;
        int ret = 0;

        if (!h->txn)
                return;
        if (!buf && buf_find(h->j->opts.bufs, blk, &found))
                buf = found;
        mtx_lock(&h->j->lock);
        if (needs_record(h, buf)) {
                use_revoke_credit(h);
                ret = jbd2_revoke_add(h->txn->revokes, blk, h->txn->tid);
        }
        if (buf)
                forget_locked(h, buf);
        mtx_unlock(&h->j->lock);
        buf_put(found);
        if (ret < 0) /* room for it was made when the handle started */
                jbd2_abort(h->j, ret);
}
