/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "driver.h"

#define MAX_BLOCKS 64 /* of one handle */

void driver_shared_init(struct driver_shared *s, struct rig *r, struct model *m)
{
        memset(s, 0, sizeof(*s));
        s->r = r;
        s->m = m;
        s->data_busy = t_alloc(m->nr_blocks * sizeof(*s->data_busy));
        s->block_locks = t_alloc(m->nr_blocks * sizeof(*s->block_locks));
        for (uint32_t i = 0; i < m->nr_blocks; i++)
                pthread_mutex_init(&s->block_locks[i], NULL);
}

void driver_learn_tid(struct driver_shared *s)
{
        struct jbd2_handle *h = rig_start(s->r, 1, 0);

        s->m->first_tid = jbd2_tid(h);
        T_CHECK(jbd2_stop(h) == 0);
}

/* ---- what is freed ---- */

struct freed {
        struct jbd2_callback cb;
        struct driver_shared *s;
        uint32_t blk;
        uint32_t age;
        bool was_revoked;
};

/* The transaction that freed the block is durable: it may be used for something else (J22). */
static void freed_durably(struct jbd2_callback *cb, int err)
{
        struct freed *f = (struct freed *)cb;
        struct model *m = f->s->m;
        struct model_block *b = &m->blocks[f->blk];

        pthread_mutex_lock(&m->lock);
        if (err == 0 && b->life == MODEL_PENDING && b->life_age == f->age) {
                b->life = MODEL_FREE;
                if (f->was_revoked)
                        b->no_copies = true;
        }
        pthread_mutex_unlock(&m->lock);
        T_CHECK(atomic_fetch_sub(&f->s->nr_callbacks_due, 1) > 0);
        free(f);
}

static void watch_freed(struct driver *d, struct jbd2_handle *h, uint32_t blk, bool was_revoked)
{
        struct freed *f = t_alloc(sizeof(*f));

        f->cb.fn = freed_durably;
        f->s = d->s;
        f->blk = blk;
        f->age = model_age(d->s->m, jbd2_tid(h));
        f->was_revoked = was_revoked;
        atomic_fetch_add(&d->s->nr_callbacks_due, 1);
        jbd2_on_commit(h, &f->cb);
}

/* ---- changes of one block; its lock and a handle are held ---- */

static bool by_chance(struct driver *d, unsigned percent)
{
        return t_below(&d->rand, 100) < percent;
}

static void note(struct driver *d, struct jbd2_handle *h, uint32_t blk, enum model_kind kind,
                 uint64_t version, enum model_life life)
{
        struct model *m = d->s->m;
        struct model_block *b = &m->blocks[blk];
        const uint32_t age = model_age(m, jbd2_tid(h));

        pthread_mutex_lock(&m->lock);
        model_append(m, blk, jbd2_tid(h), kind, version);
        b->life = life;
        b->life_age = age;
        if (kind == MODEL_META && b->no_copies) {
                b->no_copies = false;
                b->copy_age = age;
        }
        pthread_mutex_unlock(&m->lock);
}

static uint64_t new_version(struct model *m)
{
        uint64_t version;

        pthread_mutex_lock(&m->lock);
        version = m->next_version++;
        pthread_mutex_unlock(&m->lock);
        return version;
}

static struct model_entry last_of(struct model *m, uint32_t blk)
{
        struct model_entry last;

        pthread_mutex_lock(&m->lock);
        last = *model_last(m, blk);
        pthread_mutex_unlock(&m->lock);
        return last;
}

static void check_bytes(struct driver *d, uint32_t blk, const void *bytes)
{
        const struct model_entry last = last_of(d->s->m, blk);

        if (last.kind == MODEL_META && model_is(d->s->m, blk, last.version, bytes))
                return;
        fprintf(stderr, "block %u in memory is not version %llu of age %u (kind %d): %#llx\n",
                blk, (unsigned long long)last.version, last.age, last.kind,
                *(const unsigned long long *)bytes);
        pthread_mutex_lock(&d->s->m->lock);
        model_tell_block(d->s->m, bytes, blk);
        abort();
}

static void set_bytes(struct driver *d, struct jbd2_handle *h, uint32_t blk, struct buf *buf,
                      void *bytes)
{
        struct model *m = d->s->m;
        uint64_t version = new_version(m);

        note(d, h, blk, MODEL_META, version, MODEL_USED);
        model_fill(m, blk, version, bytes);
        jbd2_dirty(h, buf);
}

static int change(struct driver *d, struct jbd2_handle *h, uint32_t blk)
{
        struct buf *buf;
        void *bytes;
        int ret = buf_read(d->s->r->bufs, blk, NULL, 0, &buf);

        if (ret < 0)
                return ret;
        check_bytes(d, blk, buf->data);
        ret = by_chance(d, 10) ? jbd2_get_undo(h, buf, &bytes) : jbd2_get_write(h, buf, &bytes);
        if (ret == 0 && !by_chance(d, 5)) /* sometimes access is not used */
                set_bytes(d, h, blk, buf, bytes);
        buf_put(buf);
        return ret;
}

static int create(struct driver *d, struct jbd2_handle *h, uint32_t blk)
{
        static const char zeros[4096];
        struct buf *buf;
        void *bytes;
        int ret = buf_new(d->s->r->bufs, blk, &buf);

        if (ret < 0)
                return ret;
        ret = jbd2_get_create(h, buf, &bytes);
        if (ret == 0) {
                T_CHECK(memcmp(bytes, zeros, d->s->m->block_size) == 0);
                set_bytes(d, h, blk, buf, bytes);
        }
        buf_put(buf);
        return ret;
}

/* A block that no earlier transaction has a copy of needs no revocation. */
static bool can_forget(struct driver *d, struct jbd2_handle *h, uint32_t blk)
{
        struct model *m = d->s->m;
        struct model_block *b = &m->blocks[blk];
        bool can;

        pthread_mutex_lock(&m->lock);
        can = b->no_copies || b->copy_age == model_age(m, jbd2_tid(h));
        if (can)
                b->no_copies = true;
        pthread_mutex_unlock(&m->lock);
        return can;
}

static int free_block(struct driver *d, struct jbd2_handle *h, uint32_t blk)
{
        struct buf *buf = NULL;
        void *bytes;
        int ret = 0;

        if (by_chance(d, 70)) {
                ret = buf_read(d->s->r->bufs, blk, NULL, 0, &buf);
                if (ret < 0)
                        return ret;
                check_bytes(d, blk, buf->data);
                if (by_chance(d, 30)) {
                        ret = jbd2_get_write(h, buf, &bytes);
                        if (ret == 0)
                                set_bytes(d, h, blk, buf, bytes);
                }
        }
        if (ret == 0) {
                bool forget = buf && can_forget(d, h, blk);

                watch_freed(d, h, blk, !forget);
                note(d, h, blk, MODEL_ANY, 0, MODEL_PENDING);
                if (forget)
                        jbd2_forget(h, buf);
                else
                        jbd2_revoke(h, blk, buf);
                d->nr_freed++;
        }
        buf_put(buf);
        return ret;
}

/* A free block may be had again in the transaction that freed it, as metadata (J36). */
static bool can_create(struct driver *d, struct jbd2_handle *h, uint32_t blk)
{
        struct model *m = d->s->m;
        const struct model_block *b = &m->blocks[blk];
        bool ok;

        pthread_mutex_lock(&m->lock);
        ok = b->life == MODEL_FREE || b->life == MODEL_HAS_DATA ||
             (b->life == MODEL_PENDING && b->life_age == model_age(m, jbd2_tid(h)));
        pthread_mutex_unlock(&m->lock);
        return ok;
}

static enum model_life life_of(struct model *m, uint32_t blk)
{
        enum model_life life;

        pthread_mutex_lock(&m->lock);
        life = m->blocks[blk].life;
        pthread_mutex_unlock(&m->lock);
        return life;
}

static int change_somehow(struct driver *d, struct jbd2_handle *h, uint32_t blk)
{
        if (life_of(d->s->m, blk) == MODEL_USED)
                return by_chance(d, 85) ? change(d, h, blk) : free_block(d, h, blk);
        return can_create(d, h, blk) && by_chance(d, 50) ? create(d, h, blk) : 0;
}

/* ---- a handle ---- */

static void lock_blocks(struct driver *d, const uint32_t *blks, unsigned nr)
{
        for (unsigned i = 0; i < nr; i++)
                pthread_mutex_lock(&d->s->block_locks[blks[i]]);
}

static void unlock_blocks(struct driver *d, const uint32_t *blks, unsigned nr)
{
        for (unsigned i = 0; i < nr; i++)
                pthread_mutex_unlock(&d->s->block_locks[blks[i]]);
}

/* Different blocks in rising order, half of them from a small set that all want. */
static unsigned choose_blocks(struct driver *d, uint32_t *blks, unsigned max)
{
        unsigned nr = 0, want = 1 + (unsigned)t_below(&d->rand, max);

        while (nr < want) {
                uint32_t n = d->s->m->nr_meta;
                uint32_t blk = (uint32_t)t_below(&d->rand, by_chance(d, 50) ? n : n / 8 + 1);
                unsigned at = 0;

                while (at < nr && blks[at] < blk)
                        at++;
                if (at < nr && blks[at] == blk) {
                        want--;
                        continue;
                }
                memmove(blks + at + 1, blks + at, (nr - at) * sizeof(*blks));
                blks[at] = blk;
                nr++;
        }
        return nr;
}

static unsigned max_blocks(struct driver *d)
{
        const unsigned wanted = d->s->max_blocks ? d->s->max_blocks : 6;
        const uint32_t max = jbd2_max_credits(d->s->r->j);

        T_CHECK(max >= 2 && wanted <= MAX_BLOCKS);
        return max - 1 < wanted ? max - 1 : wanted;
}

static int change_blocks(struct driver *d, struct jbd2_handle *h, unsigned max)
{
        uint32_t blks[MAX_BLOCKS];
        unsigned nr = choose_blocks(d, blks, max);
        int ret = 0;

        lock_blocks(d, blks, nr);
        for (unsigned i = 0; i < nr && ret == 0; i++)
                ret = change_somehow(d, h, blks[i]);
        unlock_blocks(d, blks, nr);
        return ret;
}

/* ---- ordered data (J25c) ---- */

struct ordered {
        struct jbd2_ordered o;
        struct jbd2_callback cb;
        struct driver_shared *s;
        uint32_t blk;
        uint64_t version;
        struct ordered *next; /* in s->over */
};

static int write_data(struct driver_shared *s, uint32_t blk, uint64_t version)
{
        uint64_t bytes[4096 / sizeof(uint64_t)];

        model_fill(s->m, blk, version, bytes);
        return uext4_bdev_write(s->r->devs[RIG_FS], bytes, s->m->block_size,
                                (uint64_t)blk * s->m->block_size, 0);
}

/* A write may be over when submit() returns, or no sooner than wait() returns. */
static int ordered_submit(struct jbd2_ordered *o)
{
        struct ordered *od = (struct ordered *)o;

        return od->version % 2 ? write_data(od->s, od->blk, od->version) : 0;
}

static int ordered_wait(struct jbd2_ordered *o)
{
        struct ordered *od = (struct ordered *)o;

        return od->version % 2 ? 0 : write_data(od->s, od->blk, od->version);
}

static const struct jbd2_ordered_ops ordered_ops = {ordered_submit, ordered_wait};

static void ordered_over(struct jbd2_callback *cb, int err)
{
        struct ordered *od = container_of(cb, struct ordered, cb);
        struct model *m = od->s->m;

        T_CHECK(atomic_fetch_sub(&od->s->nr_callbacks_due, 1) > 0);
        pthread_mutex_lock(&m->lock);
        od->next = od->s->over;
        od->s->over = od;
        pthread_mutex_unlock(&m->lock);
}

/* Those whose transaction is over; not in a callback, because the commit goes on a little. */
static void drop_ordered(struct driver_shared *s)
{
        struct ordered *od, *next;

        pthread_mutex_lock(&s->m->lock);
        od = s->over;
        s->over = NULL;
        pthread_mutex_unlock(&s->m->lock);
        for (; od; od = next) {
                next = od->next;
                if (s->r->j)
                        jbd2_unorder(s->r->j, &od->o);
                atomic_store(&s->data_busy[od->blk], false);
                free(od);
        }
}

/* One that no transaction needs at present, or 0. */
static uint32_t try_data_block(struct driver *d)
{
        const struct model *m = d->s->m;
        uint32_t nr = m->nr_blocks - m->nr_meta;
        uint32_t blk = m->nr_meta + (nr ? (uint32_t)t_below(&d->rand, nr) : 0);

        if (nr == 0 || atomic_exchange(&d->s->data_busy[blk], true))
                return 0;
        return blk;
}

static void need_data(struct driver *d, uint32_t blk, uint64_t version, uint32_t age)
{
        struct model *m = d->s->m;

        pthread_mutex_lock(&m->lock);
        m->blocks[blk].is_ordered = true;
        m->blocks[blk].need_version = version;
        m->blocks[blk].need_age = age;
        pthread_mutex_unlock(&m->lock);
}

static void order_data(struct driver *d, struct jbd2_handle *h)
{
        struct model *m = d->s->m;
        uint32_t blk = try_data_block(d);
        struct ordered *od;

        if (!blk)
                return;
        od = t_alloc(sizeof(*od));
        od->o.ops = &ordered_ops;
        od->cb.fn = ordered_over;
        od->s = d->s;
        od->blk = blk;
        od->version = new_version(m);
        need_data(d, blk, od->version, model_age(m, jbd2_tid(h)));
        atomic_fetch_add(&d->s->nr_callbacks_due, 1);
        jbd2_order(h, &od->o);
        if (by_chance(d, 20))
                jbd2_order(h, &od->o); /* idempotent */
        jbd2_on_commit(h, &od->cb);
}

/* ---- kinds of steps ---- */

static int extend_or_restart(struct driver *d, struct jbd2_handle *h, unsigned max)
{
        int ret;

        if (by_chance(d, 50)) {
                ret = jbd2_extend(h, 1, 0);
                if (ret == 1)
                        ret = jbd2_restart(h, max, max);
        } else if (by_chance(d, 50)) {
                ret = jbd2_ensure(h, max, max);
        } else {
                ret = jbd2_restart(h, max, max);
        }
        if (ret < 0)
                return ret;
        if (jbd2_credits(h) < max)
                return 0;
        return change_blocks(d, h, max);
}

static int commit(struct driver *d, uint32_t tid)
{
        int ret = jbd2_commit(d->s->r->j, tid);

        T_CHECK(ret != 0 || jbd2_is_durable(d->s->r->j, tid));
        d->nr_commits++;
        return ret;
}

static int work_in(struct driver *d, struct jbd2_handle *h, unsigned max)
{
        int ret = change_blocks(d, h, max);

        if (ret == 0 && by_chance(d, 10))
                order_data(d, h);
        if (ret == 0 && by_chance(d, 10))
                ret = extend_or_restart(d, h, max);
        return ret;
}

/* A handle, and perhaps a wait until it is durable. */
static int step_handle(struct driver *d)
{
        const unsigned max = max_blocks(d);
        bool sync = !d->s->no_waits && by_chance(d, 3);
        struct jbd2_handle *h;
        uint32_t tid;
        int ret = jbd2_start(d->s->r->j, max, max, &h);

        if (ret < 0)
                return ret;
        d->nr_handles++;
        ret = work_in(d, h, max);
        if (ret == 0 && sync)
                jbd2_sync(h);
        tid = ret == 0 ? jbd2_tid(h) : 0;
        ret = first_error(ret, jbd2_stop(h));
        if (ret == 0 && sync)
                T_CHECK(jbd2_is_durable(d->s->r->j, tid));
        if (ret == 0 && !d->s->no_waits && by_chance(d, 8))
                ret = commit(d, tid);
        return ret;
}

/* One that is free now; another thread may be faster. */
static uint32_t choose_free(struct driver *d)
{
        struct model *m = d->s->m;
        uint32_t blk = (uint32_t)t_below(&d->rand, m->nr_meta);

        pthread_mutex_lock(&m->lock);
        for (uint32_t n = 0; n < m->nr_meta; n++) {
                const struct model_block *b = &m->blocks[blk];

                if (b->life == MODEL_FREE && b->no_copies)
                        break;
                blk = (blk + 1) % m->nr_meta;
        }
        pthread_mutex_unlock(&m->lock);
        return blk;
}

/* What a block is used for changes, if it is in this state. */
static bool take_over(struct driver *d, uint32_t blk, bool *ret_was_data)
{
        struct model_block *b = &d->s->m->blocks[blk];
        bool ok;

        pthread_mutex_lock(&d->s->m->lock);
        ok = (b->life == MODEL_FREE || b->life == MODEL_HAS_DATA) && b->no_copies;
        if (ok) {
                *ret_was_data = b->life == MODEL_HAS_DATA;
                b->life = MODEL_HAS_DATA;
                b->entries[b->nr - 1].kind = MODEL_ANY;
        }
        pthread_mutex_unlock(&d->s->m->lock);
        return ok;
}

/* File data in a block that was metadata: no recovery may touch it once it is durable (J39). */
static int step_data(struct driver *d)
{
        struct model *m = d->s->m;
        uint32_t blk = choose_free(d);
        uint64_t version = new_version(m);
        bool was_data;
        int ret = 0;

        pthread_mutex_lock(&d->s->block_locks[blk]);
        if (take_over(d, blk, &was_data)) {
                ret = write_data(d->s, blk, version);
                if (ret == 0)
                        ret = uext4_bdev_flush(d->s->r->devs[RIG_FS]);
                if (ret == 0) {
                        pthread_mutex_lock(&m->lock);
                        m->blocks[blk].entries[m->blocks[blk].nr - 1].kind = MODEL_DATA;
                        m->blocks[blk].entries[m->blocks[blk].nr - 1].version = version;
                        pthread_mutex_unlock(&m->lock);
                        d->nr_reused += !was_data;
                }
        }
        pthread_mutex_unlock(&d->s->block_locks[blk]);
        return ret;
}

/* fsync of a file whose data was written directly: one flush for both, if possible (B49). */
static int step_fsync(struct driver *d)
{
        const unsigned max = max_blocks(d);
        struct model *m = d->s->m;
        uint32_t blk = try_data_block(d), tid = 0;
        uint64_t version = new_version(m);
        struct jbd2_handle *h;
        int ret;

        if (!blk)
                return 0;
        need_data(d, blk, version, UINT32_MAX);
        ret = write_data(d->s, blk, version);
        if (ret == 0)
                ret = jbd2_start(d->s->r->j, max, max, &h);
        if (ret == 0) {
                ret = change_blocks(d, h, max);
                tid = jbd2_tid(h);
                ret = first_error(ret, jbd2_stop(h));
        }
        if (ret == 0 && !jbd2_will_flush(d->s->r->j, tid))
                ret = uext4_bdev_flush(d->s->r->devs[RIG_FS]);
        if (ret == 0)
                ret = commit(d, tid);
        if (ret == 0)
                need_data(d, blk, version, 0);
        atomic_store(&d->s->data_busy[blk], false);
        return ret;
}

/* Reading needs no handle. */
static int step_read(struct driver *d)
{
        uint32_t blk = (uint32_t)t_below(&d->rand, d->s->m->nr_meta);
        struct buf *buf;
        int ret = 0;

        pthread_mutex_lock(&d->s->block_locks[blk]);
        if (life_of(d->s->m, blk) == MODEL_USED) {
                ret = buf_read(d->s->r->bufs, blk, NULL, 0, &buf);
                if (ret == 0) {
                        check_bytes(d, blk, buf->data);
                        buf_put(buf);
                }
        }
        pthread_mutex_unlock(&d->s->block_locks[blk]);
        return ret;
}

static int step_all(struct driver *d)
{
        struct jbd2 *j = d->s->r->j;

        d->nr_commits++;
        if (d->s->no_waits)
                return by_chance(d, 15) ? jbd2_flush(j) : 0;
        return by_chance(d, 50) ? jbd2_commit_all(j) : jbd2_flush(j);
}

int driver_step(struct driver *d)
{
        unsigned kind = (unsigned)t_below(&d->rand, 100);
        int ret;

        drop_ordered(d->s);
        if (kind < 10)
                ret = step_read(d);
        else if (kind < 18 && !d->s->no_waits)
                ret = step_data(d);
        else if (kind < 21 && !d->s->no_waits)
                ret = step_fsync(d);
        else if (kind == 21)
                ret = step_all(d);
        else
                ret = step_handle(d);
        if (ret < 0 && !d->s->may_fail)
                fprintf(stderr, "a step of kind %u: %d\n%s", kind, ret, d->s->r->log.text);
        T_CHECK(ret >= 0 || d->s->may_fail);
        return ret;
}

uint64_t driver_run(struct driver *d, uint64_t nr)
{
        uint64_t n = 0;

        while (n < nr && driver_step(d) >= 0)
                n++;
        return n;
}

void driver_shared_done(struct driver_shared *s)
{
        T_CHECK(atomic_load(&s->nr_callbacks_due) == 0); /* each was called (J22) */
        drop_ordered(s);
        for (uint32_t i = 0; i < s->m->nr_blocks; i++)
                pthread_mutex_destroy(&s->block_locks[i]);
        free(s->block_locks);
        free(s->data_busy);
}
