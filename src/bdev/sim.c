/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * sim.c - a simulated device with a volatile cache, for power cuts.
 *
 * There are two images: `now` is what reads see, `medium` is what is durable.  A
 * change (write, zeroes, discard) carries its own copy of the bytes, and moves:
 *
 *      change_new -> under_way -> (completes: copied to now) -> cached -> (flush) -> medium
 *                              `-> with FUA: straight to the medium
 *
 * What may survive a cut besides the medium is in `cached` and `under_way`.
 *
 *  I1. `clock` counts events.  A change gets its `stamp` when it completes, a flush when it is
 *      submitted; cached is in order of stamps.  A flush takes the changes
 *      with a stamp below its own.
 *  I2. durable_stamp[s] is the stamp of the change whose bytes the medium has in sector s.
 *      A change with a lower stamp never goes there any more: FUA may overtake
 *      older changes of the same sector that are still in the cache.
 *  I3. After the cut nothing moves.
 *
 * A queue keeps its requests on `started`, linked by their own `next`, and reap() carries out
 * a random number of them in random order.  Reads need nothing else, so that they
 * allocate nothing; changes and flushes have their struct change, which reap() finds again by
 * its request.
 */
#include <sys/eventfd.h>
#include <sys/queue.h>

#include "bdev/bdev.h"
#include "bdev/vec.h"
#include "util/alloc.h"
#include "util/lock.h"

#define SECTOR UEXT4_BDEV_SIM_SECTOR

/* A change of contents, or a flush on its way (len 0). */
struct change {
        TAILQ_ENTRY(change) link;   /* in under_way, then cached [sim.lock] */
        struct uext4_bdev_req *req; /* of a queue, until it completes */
        uint64_t stamp;             /* I1; NOT_YET while a change is under way [sim.lock] */
        uint64_t pos, len;          /* [const] */
        bool is_atomic;             /* never torn [const] */
        char data[];                /* [const] */
};

#define NOT_YET UINT64_MAX

TAILQ_HEAD(change_list, change);

struct sim {
        struct uext4_bdev dev;
        int cut_error; /* [const] */

        struct mtx lock;              /* RANK_LEAF */
        uint64_t random;              /* [lock] */
        uint64_t clock;               /* [lock] */
        uint64_t requests;            /* [lock] */
        uint64_t cut_at;              /* 0: never [lock] */
        bool is_cut;                  /* [lock] */
        struct change_list under_way; /* submitted, in this order [lock] */
        struct change_list cached;    /* completed, not durable [lock] */
        char *now;                    /* [lock] */
        char *medium;                 /* [lock] */
        uint64_t *durable_stamp;      /* I2 [lock] */
};

static struct sim *sim_of(struct uext4_bdev *dev)
{
        return container_of(dev, struct sim, dev);
}

/* ---- randomness ---- */

static uint64_t random_next(uint64_t *state)
{
        uint64_t x = *state += 0x9e3779b97f4a7c15u;

        x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
        x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
        return x ^ (x >> 31);
}

static uint64_t random_below(uint64_t *state, uint64_t limit)
{
        return random_next(state) % limit;
}

static void junk(uint64_t *state, char *to, uint64_t len)
{
        for (uint64_t i = 0; i < len; i += sizeof(uint64_t)) {
                const uint64_t x = random_next(state);

                memcpy(to + i, &x, sizeof(x));
        }
}

/* ---- changes ---- */

static struct change *change_new(uint64_t pos, uint64_t len)
{
        struct change *ch = mem_alloc(sizeof(*ch) + len);

        if (!ch)
                return NULL;
        ch->req = NULL;
        ch->stamp = NOT_YET;
        ch->is_atomic = false;
        ch->pos = pos;
        ch->len = len;
        return ch;
}

static struct change *change_of_vec(const struct iovec *iov, uint64_t pos, uint64_t len,
                                    uint32_t flags)
{
        struct change *ch = change_new(pos, len);
        struct vec v = {.iov = iov};

        if (!ch)
                return NULL;
        ch->is_atomic = flags & UEXT4_BDEV_ATOMIC;
        vec_get(&v, ch->data, len);
        return ch;
}

static struct change *change_of_zeros(uint64_t pos, uint64_t len)
{
        struct change *ch = change_new(pos, len);

        if (ch)
                memset(ch->data, 0, len);
        return ch;
}

/* Undefined contents: zeros, junk, or what was there. */
static struct change *change_of_discard(struct sim *sim, uint64_t pos, uint64_t len)
{
        struct change *ch = change_of_zeros(pos, len);

        if (!ch)
                return NULL;
        mtx_lock(&sim->lock);
        switch (random_below(&sim->random, 3)) {
        case 0:
                junk(&sim->random, ch->data, len);
                break;
        case 1:
                memcpy(ch->data, sim->now + pos, len);
                break;
        default:
                break;
        }
        mtx_unlock(&sim->lock);
        return ch;
}

static void free_list(struct change_list *list)
{
        while (!TAILQ_EMPTY(list)) {
                struct change *ch = TAILQ_FIRST(list);

                TAILQ_REMOVE(list, ch, link);
                mem_free(ch);
        }
}

/* ---- how a request begins and ends ---- */

/*
 * Count a request.  `ch` is NULL for a read.  0 when the device took it, or the
 * error that it will end with; ch belongs to the device either way.
 */
static int submit_locked(struct sim *sim, struct change *ch)
{
        if (sim->is_cut) {
                mem_free(ch);
                return sim->cut_error;
        }
        if (ch)
                TAILQ_INSERT_TAIL(&sim->under_way, ch, link);
        if (++sim->requests == sim->cut_at)
                sim->is_cut = true;
        return sim->is_cut ? sim->cut_error : 0;
}

static void persist_locked(struct sim *sim, const struct change *ch)
{
        for (uint64_t at = 0; at < ch->len; at += SECTOR) {
                const uint64_t pos = ch->pos + at;

                if (ch->stamp < sim->durable_stamp[pos / SECTOR])
                        continue; /* I2 */
                memcpy(sim->medium + pos, ch->data + at, SECTOR);
                sim->durable_stamp[pos / SECTOR] = ch->stamp;
        }
}

static void complete_change_locked(struct sim *sim, struct change *ch, uint32_t flags)
{
        TAILQ_REMOVE(&sim->under_way, ch, link);
        ch->req = NULL;
        ch->stamp = ++sim->clock;
        memcpy(sim->now + ch->pos, ch->data, ch->len);
        if ((flags & UEXT4_BDEV_FUA) && (sim->dev.geo.caps & UEXT4_BDEV_CAP_FUA)) {
                persist_locked(sim, ch);
                mem_free(ch);
        } else {
                TAILQ_INSERT_TAIL(&sim->cached, ch, link);
        }
}

/* I1: what completed after the flush had been submitted stays where it is. */
static void complete_flush_locked(struct sim *sim, struct change *flush)
{
        struct change *ch;

        while ((ch = TAILQ_FIRST(&sim->cached)) != NULL && ch->stamp < flush->stamp) {
                persist_locked(sim, ch);
                TAILQ_REMOVE(&sim->cached, ch, link);
                mem_free(ch);
        }
        TAILQ_REMOVE(&sim->under_way, flush, link);
        mem_free(flush);
}

/* ---- the synchronous face: submitted and completed at once ---- */

static int64_t sim_read(struct uext4_bdev *dev, const struct iovec *iov, int nr_iov,
                        uint64_t pos)
{
        struct sim *sim = sim_of(dev);
        const uint64_t len = vec_sum(iov, nr_iov);
        struct vec v = {.iov = iov};
        int ret;

        mtx_lock(&sim->lock);
        ret = submit_locked(sim, NULL);
        if (ret == 0)
                vec_put(&v, sim->now + pos, len);
        mtx_unlock(&sim->lock);
        return ret < 0 ? ret : (int64_t)len;
}

static int change_now(struct sim *sim, struct change *ch, uint32_t flags)
{
        int ret;

        if (!ch)
                return -ENOMEM;
        mtx_lock(&sim->lock);
        ret = submit_locked(sim, ch);
        if (ret == 0)
                complete_change_locked(sim, ch, flags);
        mtx_unlock(&sim->lock);
        return ret;
}

static int64_t sim_write(struct uext4_bdev *dev, const struct iovec *iov, int nr_iov,
                         uint64_t pos, uint32_t flags)
{
        const uint64_t len = vec_sum(iov, nr_iov);
        int ret = change_now(sim_of(dev), change_of_vec(iov, pos, len, flags), flags);

        return ret < 0 ? ret : (int64_t)len;
}

static int sim_write_zeroes(struct uext4_bdev *dev, uint64_t pos, uint64_t len, uint32_t flags)
{
        return change_now(sim_of(dev), change_of_zeros(pos, len), flags);
}

static int sim_discard(struct uext4_bdev *dev, uint64_t pos, uint64_t len)
{
        struct sim *sim = sim_of(dev);

        return change_now(sim, change_of_discard(sim, pos, len), 0);
}

static int submit_flush_locked(struct sim *sim, struct change *flush)
{
        flush->stamp = ++sim->clock;
        return submit_locked(sim, flush);
}

static int sim_flush(struct uext4_bdev *dev)
{
        struct sim *sim = sim_of(dev);
        struct change *flush = change_new(0, 0);
        int ret;

        if (!flush)
                return -ENOMEM;
        mtx_lock(&sim->lock);
        ret = submit_flush_locked(sim, flush);
        if (ret == 0)
                complete_flush_locked(sim, flush);
        mtx_unlock(&sim->lock);
        return ret;
}

/* ---- the queue ---- */

struct sim_queue {
        struct sim *sim;                /* [const] */
        struct bdev_fifo added;         /* not kicked yet [sim.lock] */
        struct uext4_bdev_req *started; /* a stack [sim.lock] */
        unsigned nr_started;            /* [sim.lock] */
        int eventfd;                    /* -1: none; not ours [sim.lock] */
};

static int sim_queue_new(struct uext4_bdev *dev, unsigned depth, void **ret_impl)
{
        struct sim_queue *sq = mem_zalloc(sizeof(*sq));

        if (!sq)
                return -ENOMEM;
        sq->sim = sim_of(dev);
        sq->eventfd = -1;
        *ret_impl = sq;
        return 0;
}

static void sim_queue_free(void *impl)
{
        mem_free(impl);
}

static struct change *change_of_req(struct sim *sim, const struct uext4_bdev_req *req)
{
        switch (req->op) {
        case UEXT4_BDEV_WRITE:
                return change_of_vec(req->iov, req->pos, req->len, req->flags);
        case UEXT4_BDEV_DISCARD:
                return change_of_discard(sim, req->pos, req->len);
        case UEXT4_BDEV_WRITE_ZEROES:
                return change_of_zeros(req->pos, req->len);
        default:
                return change_new(0, 0);
        }
}

/* The device may be gone already, or go now: the request learns that when it is reaped. */
static int sim_queue_add(void *impl, struct uext4_bdev_req *req)
{
        struct sim_queue *sq = impl;
        struct sim *sim = sq->sim;
        struct change *ch = NULL;

        if (req->op != UEXT4_BDEV_READ) {
                ch = change_of_req(sim, req);
                if (!ch)
                        return -ENOMEM;
                ch->req = req;
        }
        mtx_lock(&sim->lock);
        if (req->op == UEXT4_BDEV_FLUSH)
                req->result = submit_flush_locked(sim, ch);
        else
                req->result = submit_locked(sim, ch);
        bdev_fifo_push(&sq->added, req);
        mtx_unlock(&sim->lock);
        return 0;
}

static void signal_locked(struct sim_queue *sq)
{
        if (sq->started && sq->eventfd >= 0)
                eventfd_write(sq->eventfd, 1);
}

static int sim_queue_kick(void *impl)
{
        struct sim_queue *sq = impl;
        struct uext4_bdev_req *req;

        mtx_lock(&sq->sim->lock);
        while ((req = bdev_fifo_pop(&sq->added)) != NULL) {
                req->next = sq->started;
                sq->started = req;
                sq->nr_started++;
        }
        signal_locked(sq);
        mtx_unlock(&sq->sim->lock);
        return 0;
}

static struct uext4_bdev_req *take_any_locked(struct sim_queue *sq)
{
        uint64_t skip = random_below(&sq->sim->random, sq->nr_started);
        struct uext4_bdev_req **at = &sq->started;
        struct uext4_bdev_req *req;

        while (skip-- > 0)
                at = &(*at)->next;
        req = *at;
        *at = req->next;
        sq->nr_started--;
        return req;
}

static struct change *change_of_started_locked(struct sim *sim,
                                               const struct uext4_bdev_req *req)
{
        struct change *ch;

        TAILQ_FOREACH (ch, &sim->under_way, link)
                if (ch->req == req)
                        return ch;
        return NULL;
}

static void carry_out_locked(struct sim *sim, struct uext4_bdev_req *req)
{
        struct vec v = {.iov = req->iov};

        if (sim->is_cut) {
                req->result = sim->cut_error; /* I3 */
        } else if (req->op == UEXT4_BDEV_READ) {
                vec_put(&v, sim->now + req->pos, req->len);
        } else {
                struct change *ch = change_of_started_locked(sim, req);

                if (req->op == UEXT4_BDEV_FLUSH)
                        complete_flush_locked(sim, ch);
                else
                        complete_change_locked(sim, ch, req->flags);
        }
}

/* Some of what was started, in any order; the rest waits for the next reap. */
static struct bdev_fifo complete_some(struct sim_queue *sq)
{
        struct bdev_fifo finished = {NULL};
        struct sim *sim = sq->sim;

        mtx_lock(&sim->lock);
        if (sq->nr_started > 0) {
                uint64_t nr = 1 + random_below(&sim->random, sq->nr_started);

                while (nr-- > 0) {
                        struct uext4_bdev_req *req = take_any_locked(sq);

                        carry_out_locked(sim, req);
                        bdev_fifo_push(&finished, req);
                }
        }
        signal_locked(sq);
        mtx_unlock(&sim->lock);
        return finished;
}

/* Never waits: what was started can be completed. */
static int sim_queue_reap(void *impl, int64_t timeout_ns)
{
        struct bdev_fifo finished = complete_some(impl);
        struct uext4_bdev_req *req;
        int nr = 0;

        while ((req = bdev_fifo_pop(&finished)) != NULL) {
                const int64_t moved = bdev_is_transfer(req->op) ? (int64_t)req->len : 0;

                uext4_bdev_complete(req, req->result < 0 ? req->result : moved);
                nr++;
        }
        return nr;
}

/* Requests end as they would have ended: a simulation that stops some would differ from run to
 * run. */
static void sim_queue_cancel_all(void *impl)
{
}

static int sim_queue_set_eventfd(void *impl, int fd)
{
        struct sim_queue *sq = impl;

        mtx_lock(&sq->sim->lock);
        sq->eventfd = fd;
        mtx_unlock(&sq->sim->lock);
        return 0;
}

static const struct uext4_bdev_queue_ops sim_queue_ops = {
        .new_queue = sim_queue_new,
        .free_queue = sim_queue_free,
        .add = sim_queue_add,
        .kick = sim_queue_kick,
        .reap = sim_queue_reap,
        .cancel_all = sim_queue_cancel_all,
        .set_eventfd = sim_queue_set_eventfd,
};

/* ---- open, close ---- */

static void sim_free(struct sim *sim)
{
        free_list(&sim->under_way);
        free_list(&sim->cached);
        mtx_done(&sim->lock);
        mem_free(sim->durable_stamp);
        mem_free(sim->medium);
        mem_free(sim->now);
        mem_free(sim);
}

static void sim_close(struct uext4_bdev *dev)
{
        sim_free(sim_of(dev));
}

/* No mapping: memory has no requests to cut at. */
static const struct uext4_bdev_ops sim_ops = {
        .name = "sim",
        .read = sim_read,
        .write = sim_write,
        .flush = sim_flush,
        .discard = sim_discard,
        .write_zeroes = sim_write_zeroes,
        .close = sim_close,
        .queue = &sim_queue_ops,
};

static int sim_init(struct sim *sim, const struct uext4_bdev_sim_params *p)
{
        const uint32_t may = UEXT4_BDEV_CAP_FUA | UEXT4_BDEV_CAP_DISCARD;
        const struct uext4_bdev_geometry geo = {
                .size = p->size,
                .logical_block = p->logical_block ? p->logical_block : SECTOR,
                .mem_align = 1,
                .caps = p->caps | UEXT4_BDEV_CAP_VOLATILE,
                .atomic_min =
                        p->atomic_max ? (p->logical_block ? p->logical_block : SECTOR) : 0,
                .atomic_max = p->atomic_max,
        };
        int ret = uext4_bdev_init(&sim->dev, &sim_ops, &geo);

        if (ret < 0)
                return ret;
        if ((p->caps & ~may) || p->cut_error > 0 || p->size == 0)
                return -EINVAL;
        sim->cut_error = p->cut_error ? p->cut_error : -EIO;
        sim->random = p->seed;
        sim->now = mem_array(p->size, 1);
        sim->medium = mem_array(p->size, 1);
        sim->durable_stamp = mem_array(p->size / SECTOR, sizeof(*sim->durable_stamp));
        if (!sim->now || !sim->medium || !sim->durable_stamp)
                return -ENOMEM;
        if (p->image) {
                memcpy(sim->now, p->image, p->size);
                memcpy(sim->medium, p->image, p->size);
        }
        return 0;
}

int uext4_bdev_open_sim(const struct uext4_bdev_sim_params *params, struct uext4_bdev **ret_dev)
{
        struct sim *sim = mem_zalloc(sizeof(*sim));
        int ret;

        if (!sim)
                return -ENOMEM;
        mtx_init(&sim->lock, RANK_LEAF);
        TAILQ_INIT(&sim->under_way);
        TAILQ_INIT(&sim->cached);
        ret = sim_init(sim, params);
        if (ret < 0)
                sim_free(sim);
        else
                *ret_dev = &sim->dev;
        return ret;
}

/* ---- the cut ---- */

static struct sim *sim_of_dev(struct uext4_bdev *dev)
{
        assert(dev->ops == &sim_ops);
        return sim_of(dev);
}

void uext4_bdev_sim_cut(struct uext4_bdev *dev)
{
        struct sim *sim = sim_of_dev(dev);

        mtx_lock(&sim->lock);
        sim->is_cut = true;
        mtx_unlock(&sim->lock);
}

void uext4_bdev_sim_cut_at(struct uext4_bdev *dev, uint64_t number)
{
        struct sim *sim = sim_of_dev(dev);

        mtx_lock(&sim->lock);
        sim->cut_at = number;
        mtx_unlock(&sim->lock);
}

/* ---- what survives ---- */

/* The changes that are not durable, oldest first: first, then next until NULL. */
static struct change *first_change_locked(struct sim *sim)
{
        struct change *ch = TAILQ_FIRST(&sim->cached);

        return ch ? ch : TAILQ_FIRST(&sim->under_way);
}

static struct change *next_change_locked(struct sim *sim, struct change *ch)
{
        struct change *next = TAILQ_NEXT(ch, link);

        if (!next && ch == TAILQ_LAST(&sim->cached, change_list))
                return TAILQ_FIRST(&sim->under_way);
        return next;
}

/* Can the sector `at` bytes into the change still reach the medium?  (I2) */
static bool sector_is_live_locked(const struct sim *sim, const struct change *ch, uint64_t at)
{
        return ch->stamp > sim->durable_stamp[(ch->pos + at) / SECTOR];
}

static uint64_t count_live_locked(const struct sim *sim, const struct change *ch)
{
        uint64_t nr = 0;

        for (uint64_t at = 0; at < ch->len; at += SECTOR)
                nr += sector_is_live_locked(sim, ch, at);
        return nr;
}

static void state_locked(struct sim *sim, struct uext4_bdev_sim_state *ret)
{
        *ret = (struct uext4_bdev_sim_state){
                .requests = sim->requests,
                .is_cut = sim->is_cut,
        };
        for (struct change *ch = first_change_locked(sim); ch;
             ch = next_change_locked(sim, ch)) {
                const uint64_t nr = count_live_locked(sim, ch);

                ret->nr_writes += nr > 0;
                ret->nr_sectors += ch->is_atomic ? nr > 0 : nr;
        }
}

void uext4_bdev_sim_state(struct uext4_bdev *dev, struct uext4_bdev_sim_state *ret_state)
{
        struct sim *sim = sim_of_dev(dev);

        mtx_lock(&sim->lock);
        state_locked(sim, ret_state);
        mtx_unlock(&sim->lock);
}

/* One outcome on its way.  Bits and coins are drawn in the order of changes and sectors. */
struct outcome {
        const struct uext4_bdev_sim_survivor *how;
        uint64_t index; /* bits not used yet */
        uint64_t random;
        uint64_t keep; /* of 256 writes, or sectors of a torn write, so many survive */
};

enum fate {
        FATE_LOST,
        FATE_WHOLE,
        FATE_TORN, /* each sector for itself */
};

static bool next_bit(struct outcome *o)
{
        const bool bit = o->index & 1;

        o->index >>= 1;
        return bit;
}

static bool coin(struct outcome *o)
{
        return random_below(&o->random, 256) < o->keep;
}

static enum fate fate_of_write(struct outcome *o)
{
        switch (o->how->mode) {
        case UEXT4_BDEV_SIM_ALL:
                return FATE_WHOLE;
        case UEXT4_BDEV_SIM_WRITES:
                return next_bit(o) ? FATE_WHOLE : FATE_LOST;
        case UEXT4_BDEV_SIM_SECTORS:
                return FATE_TORN;
        case UEXT4_BDEV_SIM_RANDOM:
                if (random_below(&o->random, 4) == 0)
                        return FATE_TORN;
                return coin(o) ? FATE_WHOLE : FATE_LOST;
        default:
                return FATE_LOST;
        }
}

static bool sector_survives(struct outcome *o, enum fate fate)
{
        if (fate != FATE_TORN)
                return fate == FATE_WHOLE;
        return o->how->mode == UEXT4_BDEV_SIM_SECTORS ? next_bit(o) : coin(o);
}

static bool sector_is_junk(struct outcome *o)
{
        return o->how->mode == UEXT4_BDEV_SIM_RANDOM && o->how->junk_percent > 0 &&
               random_below(&o->random, 100) < o->how->junk_percent;
}

static void apply_locked(const struct sim *sim, const struct change *ch, struct outcome *o,
                         char *image)
{
        enum fate fate = fate_of_write(o);

        if (ch->is_atomic && fate == FATE_TORN)
                fate = sector_survives(o, fate) ? FATE_WHOLE : FATE_LOST;
        for (uint64_t at = 0; at < ch->len; at += SECTOR) {
                if (!sector_is_live_locked(sim, ch, at))
                        continue;
                if (sector_survives(o, fate))
                        memcpy(image + ch->pos + at, ch->data + at, SECTOR);
                if (!ch->is_atomic && sector_is_junk(o))
                        junk(&o->random, image + ch->pos + at, SECTOR);
        }
}

/* Is the index one of 2^nr? */
static int check_index(const struct uext4_bdev_sim_survivor *how,
                       const struct uext4_bdev_sim_state *st)
{
        uint64_t nr;

        if (how->mode != UEXT4_BDEV_SIM_WRITES && how->mode != UEXT4_BDEV_SIM_SECTORS)
                return 0;
        nr = how->mode == UEXT4_BDEV_SIM_WRITES ? st->nr_writes : st->nr_sectors;
        if (nr > 63)
                return -E2BIG;
        return how->index >> nr == 0 ? 0 : -ERANGE;
}

static int survivor_locked(struct sim *sim, const struct uext4_bdev_sim_survivor *how,
                           char *image)
{
        struct outcome o = {.how = how, .index = how->index, .random = how->seed};
        struct uext4_bdev_sim_state st;
        int ret;

        state_locked(sim, &st);
        ret = check_index(how, &st);
        if (ret < 0)
                return ret;
        o.keep = 16 + random_below(&o.random, 225); /* few or most of them, by seed */
        memcpy(image, sim->medium, sim->dev.geo.size);
        for (struct change *ch = first_change_locked(sim); ch; ch = next_change_locked(sim, ch))
                if (count_live_locked(sim, ch) > 0)
                        apply_locked(sim, ch, &o, image);
        return 0;
}

int uext4_bdev_sim_survivor(struct uext4_bdev *dev, const struct uext4_bdev_sim_survivor *how,
                            void *image)
{
        struct sim *sim = sim_of_dev(dev);
        int ret;

        if ((unsigned)how->mode > UEXT4_BDEV_SIM_SECTORS || how->junk_percent > 100)
                return -EINVAL;
        mtx_lock(&sim->lock);
        ret = survivor_locked(sim, how, image);
        mtx_unlock(&sim->lock);
        return ret;
}
