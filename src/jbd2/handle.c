/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Handles: who may join the running transaction, and with how much.
 *
 * What one may ask for is bounded three times (J17): a transaction takes max_cost log blocks at
 * most, reservations included; there must be room in the log for it and for the rest of the
 * committing one (txn.h, I4); and a handle has only what it asked for.  A transaction is opened
 * only when the log has room for a full one, so that those who join it need not wait.
 */

#include "jbd2/txn.h"

/* This thread's handles, at most one of each journal. */
static _Thread_local struct jbd2_handle *open_handles;

struct jbd2_handle *jbd2_current(struct jbd2 *j)
{
        struct jbd2_handle *h = open_handles;

        while (h && h->j != j)
                h = h->outer;
        return h;
}

/* ---- costs ---- */

static uint32_t div_up(uint32_t n, uint32_t by)
{
        return n / by + (n % by != 0);
}

uint32_t jbd2_cost(const struct jbd2 *j, uint32_t blocks, uint32_t revokes)
{
        /* Blocks, their descriptors, revoke blocks, the commit block.  Two descriptors more,
         * for when memory is short (log_write.c). */
        return blocks + div_up(blocks, j->tags_per_block) + 2 +
               div_up(revokes, j->revokes_per_block) + 1;
}

uint32_t jbd2_txn_cost(const struct jbd2_transaction *t, uint32_t blocks, uint32_t revokes)
{
        return jbd2_cost(t->j, t->nr_dirty + t->credits + blocks,
                         (uint32_t)jbd2_revoke_count(t->revokes) + t->revoke_credits + revokes);
}

uint32_t jbd2_max_credits(const struct jbd2 *j)
{
        uint32_t blocks = j->max_cost / 2;

        /* Half of a transaction may be reserved; the rest must do. */
        return blocks - div_up(blocks, j->tags_per_block) - 4;
}

/* ---- transactions ---- */

static struct jbd2_transaction *txn_new(struct jbd2 *j)
{
        struct jbd2_transaction *t = mem_zalloc(sizeof(*t));

        if (!t)
                return NULL;
        if (jbd2_revoke_table_new(&t->revokes) < 0) {
                mem_free(t);
                return NULL;
        }
        t->j = j;
        t->started_ns = clock_ns();
        TAILQ_INIT(&t->bufs);
        TAILQ_INIT(&t->homes);
        TAILQ_INIT(&t->ordered);
        TAILQ_INIT(&t->callbacks);
        return t;
}

void jbd2_txn_free(struct jbd2_transaction *t)
{
        if (!t)
                return;
        jbd2_revoke_table_free(t->revokes);
        mem_free(t);
}

/* ---- joining ---- */

struct need {
        uint32_t blocks, revokes, reserve;
        bool from_reserved; /* room has been set aside */
};

static uint32_t committing_left(const struct jbd2 *j)
{
        return j->committing ? j->committing->cost_left : 0;
}

static bool has_room(const struct jbd2 *j, uint32_t cost)
{
        return !j->has_log || (uint64_t)committing_left(j) + cost <= j->free;
}

/* May `need` join t: -EAGAIN when the transaction is full, -ENOSPC when the log is. */
static int may_join(const struct jbd2 *j, const struct jbd2_transaction *t,
                    const struct need *need)
{
        uint32_t cost;

        if (need->from_reserved) /* from `reserved` to `credits`: the sum stays */
                return 0;
        cost = jbd2_txn_cost(t, need->blocks, need->revokes) + j->reserved + need->reserve;
        if (cost > j->max_cost)
                return -EAGAIN;
        return has_room(j, cost) ? 0 : -ENOSPC;
}

/* What the handle may use, and t counts on, becomes more. */
static int add_credits(struct jbd2_handle *h, struct jbd2_transaction *t,
                       const struct need *need)
{
        int ret = 0;

        if (need->revokes) /* so that jbd2_revoke() cannot fail */
                ret = jbd2_revoke_reserve(t->revokes, t->revoke_credits + need->revokes);
        if (ret < 0)
                return ret;
        t->credits += need->blocks;
        t->revoke_credits += need->revokes;
        h->credits += need->blocks;
        h->revoke_credits += need->revokes;
        return 0;
}

/* The handle, which has no credits, becomes one of t's. */
static int join(struct jbd2_handle *h, struct jbd2_transaction *t, const struct need *need)
{
        int ret = add_credits(h, t, need);

        if (ret < 0)
                return ret;
        t->nr_handles++;
        h->j->reserved += need->reserve;
        h->txn = t;
        return 0;
}

/* There is no running transaction: open one.  0 when the caller shall look again. */
static int open_txn(struct jbd2 *j, const struct need *need)
{
        struct jbd2_transaction *t;

        if (!need->from_reserved && !has_room(j, j->max_cost)) {
                j->stats.nr_space_waits++;
                jbd2_make_room(j);
                return 0;
        }
        t = txn_new(j);
        if (!t)
                return -ENOMEM;
        t->tid = j->next_tid++;
        j->running = t;
        cond_signal(&j->timer_wake);
        return 0;
}

/* The running transaction cannot take it: let the next one be. */
static void make_way(struct jbd2 *j, struct jbd2_transaction *t, int why)
{
        if (why == -ENOSPC) {
                j->stats.nr_space_waits++;
                jbd2_make_room(j);
        } else if (t->nr_dirty == 0 && t->credits == 0 && t->revoke_credits == 0 &&
                   jbd2_revoke_count(t->revokes) == 0) {
                cond_wait(&j->changed,
                          &j->lock); /* an empty one: reservations are in the way */
        } else {
                jbd2_commit_locked(j, t->tid);
        }
}

static int join_locked(struct jbd2_handle *h, const struct need *need)
{
        struct jbd2 *j = h->j;
        int ret;

        for (;;) {
                struct jbd2_transaction *t = j->running;

                if (jbd2_is_aborted(j))
                        return jbd2_refusal(j);
                if (!t) {
                        ret = open_txn(j, need);
                        if (ret < 0)
                                return ret;
                        continue;
                }
                if (t->state != TXN_RUNNING) {
                        cond_wait(&j->changed, &j->lock);
                        continue;
                }
                ret = may_join(j, t, need);
                if (ret == 0)
                        return join(h, t, need);
                make_way(j, t, ret);
        }
}

/* A new handle of this thread, in the running transaction. */
static int begin(struct jbd2 *j, const struct need *need, struct jbd2_handle **ret_handle)
{
        struct jbd2_handle *h = mem_zalloc(sizeof(*h));
        int ret;

        if (!h)
                return -ENOMEM;
#ifdef UEXT4_LOCK_DEBUG
        lock_debug_before(RANK_HANDLE, "journal handle");
#endif
        h->j = j;
        h->depth = 1;
        mtx_lock(&j->lock);
        ret = join_locked(h, need);
        if (ret == 0)
                j->stats.nr_handles++;
        mtx_unlock(&j->lock);
        if (ret < 0) {
                mem_free(h);
                return ret;
        }
#ifdef UEXT4_LOCK_DEBUG
        lock_debug_taken(h, RANK_HANDLE, "journal handle");
#endif
        h->outer = open_handles;
        open_handles = h;
        *ret_handle = h;
        return 0;
}

/* Whether any transaction could ever take it. */
static bool is_possible(const struct jbd2 *j, uint32_t blocks, uint32_t revokes)
{
        return (uint64_t)blocks + revokes / 64 <= jbd2_max_credits(j);
}

static int nest(struct jbd2_handle *h, uint32_t blocks, uint32_t revokes)
{
        if (!h->txn || jbd2_is_aborted(h->j))
                return jbd2_refusal(h->j);
        if (blocks > h->credits || revokes > h->revoke_credits)
                return -ENOSPC;
        h->depth++;
        return 0;
}

int jbd2_start(struct jbd2 *j, uint32_t blocks, uint32_t revokes,
               struct jbd2_handle **ret_handle)
{
        struct jbd2_handle *h = jbd2_current(j);
        int ret;

        if (h) {
                ret = nest(h, blocks, revokes);
                if (ret == 0)
                        *ret_handle = h;
                return ret;
        }
        if (!is_possible(j, blocks, revokes))
                return -ENOSPC;
        return begin(j, &(struct need){.blocks = blocks, .revokes = revokes}, ret_handle);
}

/* ---- reservations ---- */

int jbd2_start_reserving(struct jbd2 *j, uint32_t blocks, uint32_t revokes, uint32_t reserve,
                         struct jbd2_handle **ret_handle, struct jbd2_reserved **ret_reserved)
{
        const uint32_t cost = jbd2_cost(j, reserve, 0);
        const struct need need = {.blocks = blocks, .revokes = revokes, .reserve = cost};
        struct jbd2_reserved *r;
        int ret;

        if (jbd2_current(j))
                return -EDEADLK;
        if (!is_possible(j, blocks, revokes) || reserve > jbd2_max_credits(j) / 2)
                return -ENOSPC;
        r = mem_zalloc(sizeof(*r));
        if (!r)
                return -ENOMEM;
        *r = (struct jbd2_reserved){j, reserve};
        ret = begin(j, &need, ret_handle);
        if (ret < 0) {
                mem_free(r);
                return ret;
        }
        *ret_reserved = r;
        return 0;
}

void jbd2_unreserve(struct jbd2_reserved *r)
{
        struct jbd2 *j;

        if (!r)
                return;
        j = r->j;
        mtx_lock(&j->lock);
        j->reserved -= jbd2_cost(j, r->blocks, 0);
        cond_broadcast(&j->changed);
        mtx_unlock(&j->lock);
        mem_free(r);
}

int jbd2_start_reserved(struct jbd2_reserved *r, struct jbd2_handle **ret_handle)
{
        struct jbd2 *j = r->j;
        const struct need need = {.blocks = r->blocks, .from_reserved = true};
        int ret = jbd2_current(j) ? -EDEADLK : begin(j, &need, ret_handle);

        /* Given back only now: what it stood for is part of the transaction. */
        jbd2_unreserve(r);
        return ret;
}

/* ---- more credits ---- */

int jbd2_extend(struct jbd2_handle *h, uint32_t blocks, uint32_t revokes)
{
        const struct need need = {.blocks = blocks, .revokes = revokes};
        struct jbd2 *j = h->j;
        int ret;

        if (!h->txn || jbd2_is_aborted(j))
                return jbd2_refusal(j);
        mtx_lock(&j->lock);
        /* Once it is locked others wait for this handle: no more for it. */
        ret = h->txn->state == TXN_RUNNING ? may_join(j, h->txn, &need) : -EAGAIN;
        if (ret == 0)
                ret = add_credits(h, h->txn, &need);
        mtx_unlock(&j->lock);
        return ret == -ENOMEM ? ret : ret < 0;
}

static void leave_locked(struct jbd2_handle *h)
{
        struct jbd2_transaction *t = h->txn;

        if (!t)
                return;
        t->credits -= h->credits;
        t->revoke_credits -= h->revoke_credits;
        h->credits = 0;
        h->revoke_credits = 0;
        h->txn = NULL;
        if (--t->nr_handles == 0 && t->state == TXN_LOCKED)
                cond_broadcast(&h->j->changed);
}

int jbd2_restart(struct jbd2_handle *h, uint32_t blocks, uint32_t revokes)
{
        const struct need need = {.blocks = blocks, .revokes = revokes};
        struct jbd2 *j = h->j;
        int ret;

        if (!is_possible(j, blocks, revokes))
                return -ENOSPC;
#ifdef UEXT4_LOCK_DEBUG
        lock_debug_released(h);
        lock_debug_before(RANK_HANDLE, "journal handle");
#endif
        mtx_lock(&j->lock);
        leave_locked(h);
        ret = join_locked(h, &need);
        mtx_unlock(&j->lock);
#ifdef UEXT4_LOCK_DEBUG
        lock_debug_taken(h, RANK_HANDLE, "journal handle");
#endif
        return ret;
}

int jbd2_ensure(struct jbd2_handle *h, uint32_t blocks, uint32_t revokes)
{
        uint32_t more = blocks > h->credits ? blocks - h->credits : 0;
        uint32_t more_revokes = revokes > h->revoke_credits ? revokes - h->revoke_credits : 0;
        int ret;

        if (!h->txn || jbd2_is_aborted(h->j))
                return jbd2_refusal(h->j);
        if (more == 0 && more_revokes == 0)
                return 0;
        ret = jbd2_extend(h, more, more_revokes);
        if (ret <= 0)
                return ret;
        ret = jbd2_restart(h, blocks, revokes);
        return ret < 0 ? ret : 1;
}

uint32_t jbd2_credits(const struct jbd2_handle *h)
{
        return h->credits;
}

uint32_t jbd2_tid(const struct jbd2_handle *h)
{
        return h->txn ? h->txn->tid : 0;
}

struct jbd2 *jbd2_of(const struct jbd2_handle *h)
{
        return h->j;
}

/* ---- the end ---- */

void jbd2_sync(struct jbd2_handle *h)
{
        h->sync = true;
}

static void unlink_handle(struct jbd2_handle *h)
{
        struct jbd2_handle **p = &open_handles;

        while (*p != h)
                p = &(*p)->outer;
        *p = h->outer;
}

int jbd2_stop(struct jbd2_handle *h)
{
        struct jbd2 *j = h->j;
        const uint32_t tid = jbd2_tid(h);
        const bool sync = h->sync && h->txn;

        if (--h->depth > 0)
                return jbd2_error(j);
        unlink_handle(h);
#ifdef UEXT4_LOCK_DEBUG
        lock_debug_released(h);
#endif
        mtx_lock(&j->lock);
        leave_locked(h);
        mtx_unlock(&j->lock);
        mem_free(h);
        return sync ? jbd2_commit(j, tid) : jbd2_error(j);
}

/* ---- what else belongs to the transaction ---- */

void jbd2_order(struct jbd2_handle *h, struct jbd2_ordered *o)
{
        struct jbd2 *j = h->j;

        mtx_lock(&j->lock);
        /* With the committing one: that waits for what was written until now as well. */
        if (h->txn && o->txn != h->txn) {
                while (o->txn)
                        cond_wait(&j->changed, &j->lock);
                o->txn = h->txn;
                TAILQ_INSERT_TAIL(&h->txn->ordered, o, link);
        }
        mtx_unlock(&j->lock);
}

void jbd2_unorder(struct jbd2 *j, struct jbd2_ordered *o)
{
        mtx_lock(&j->lock);
        while (o->txn && o->txn->state != TXN_RUNNING && o->txn->state != TXN_LOCKED)
                cond_wait(&j->changed, &j->lock);
        if (o->txn) {
                TAILQ_REMOVE(&o->txn->ordered, o, link);
                o->txn = NULL;
        }
        mtx_unlock(&j->lock);
}

void jbd2_on_commit(struct jbd2_handle *h, struct jbd2_callback *cb)
{
        struct jbd2 *j = h->j;

        mtx_lock(&j->lock);
        if (h->txn)
                TAILQ_INSERT_TAIL(&h->txn->callbacks, cb, link);
        mtx_unlock(&j->lock);
        if (!h->txn)
                cb->fn(cb, -EROFS);
}
