/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * record.c - a filter that writes down what reaches a device, in the format of the kernel's
 * dm-log-writes target.
 *
 * The log, in sectors of the recorded device's logical block, all integers little-endian:
 *
 *      sector 0        the super block, struct log_super
 *      then, for each entry:
 *        1 sector      struct log_entry; behind it the name of a mark
 *        nr_sectors    the data, of a write only
 *
 * Entries stand in the order in which their bytes are known to be on the medium:
 * a completed write waits on `pending` until a flush that was submitted after its completion
 * has completed.  A FUA write is logged when it completes.
 *
 *  I1. `clock` counts events.  pending is in order of completion, by stamp; a flush
 *      takes the stamps below its own.
 *  I2. Replaying is writing one entry after the other.  So a FUA write that overlaps
 *      pending ones is logged behind them: else the flush would bring the older bytes
 *      back.
 *  I3. The super block counts an entry only after it has been written.
 *
 * The recorder has no queue of its own: a queued request is carried out when it is
 * kicked.  The lock is held while the log, which nobody else uses, is written, and
 * therefore has the rank of a device's submission side; it is not held while the
 * lower device works.
 */
#include <string.h>
#include <sys/queue.h>

#include "bdev/bdev.h"
#include "bdev/vec.h"
#include "util/alloc.h"
#include "util/endian.h"
#include "util/lock.h"

#define LOG_MAGIC   0x6a736677736872u
#define LOG_VERSION 1

enum {
        LOG_FLUSH = 1 << 0,
        LOG_FUA = 1 << 1,
        LOG_DISCARD = 1 << 2,
        LOG_MARK = 1 << 3, /* 1 << 4 says that a write is metadata, which we do not know */
};

struct log_super {
        le64 magic;
        le64 version;
        le64 nr_entries;
        le32 sector_size;
};

struct log_entry {
        le64 sector;
        le64 nr_sectors;
        le64 flags;
        le64 data_len; /* bytes behind the entry in its own sector: the name of a mark */
};

static_assert(offsetof(struct log_super, sector_size) == 24, "super block");
static_assert(sizeof(struct log_entry) == 32, "entry");

/* A change, from before the lower device sees it until it is logged. */
struct change {
        TAILQ_ENTRY(change) link; /* in pending [record.lock] */
        uint64_t stamp;           /* I1 [record.lock] */
        uint64_t pos, len;
        uint64_t flags; /* LOG_FUA, LOG_DISCARD */
        char *data;     /* NULL: zeros, or a discard */
};

TAILQ_HEAD(change_list, change);

struct record {
        struct uext4_bdev dev;
        struct uext4_bdev *lower; /* [const] */
        struct uext4_bdev *log;   /* [lock] */

        struct mtx lock;            /* RANK_BDEV_QUEUE */
        struct change_list pending; /* completed, not flushed [lock] */
        uint64_t clock;             /* [lock] */
        uint64_t log_pos;           /* where the next entry goes [lock] */
        uint64_t nr_entries;        /* [lock] */
        int log_error;              /* the first one; nothing is logged after it [lock] */
        char *sector;               /* one, to write it from [lock] */
};

static struct record *record_of(struct uext4_bdev *dev)
{
        return container_of(dev, struct record, dev);
}

static uint64_t sector_size(const struct record *r)
{
        return r->dev.geo.logical_block;
}

/* ---- changes ---- */

static void change_free(struct change *ch)
{
        if (ch)
                mem_free(ch->data);
        mem_free(ch);
}

static struct change *change_new(uint64_t pos, uint64_t len, uint64_t flags)
{
        struct change *ch = mem_zalloc(sizeof(*ch));

        if (ch) {
                ch->pos = pos;
                ch->len = len;
                ch->flags = flags;
        }
        return ch;
}

static struct change *change_of_vec(const struct record *r, const struct iovec *iov,
                                    uint64_t pos, uint64_t len, uint32_t flags)
{
        struct change *ch = change_new(pos, len, flags & UEXT4_BDEV_FUA ? LOG_FUA : 0);
        struct vec v = {.iov = iov};

        if (!ch)
                return NULL;
        ch->data = mem_alloc_aligned(bdev_unit(r->log), len);
        if (!ch->data) {
                change_free(ch);
                return NULL;
        }
        vec_get(&v, ch->data, len);
        return ch;
}

/* ---- the log ---- */

static int write_sector_locked(struct record *r, const void *head, size_t head_len,
                               const char *tail, size_t tail_len, uint64_t pos)
{
        memset(r->sector, 0, sector_size(r));
        memcpy(r->sector, head, head_len);
        if (tail_len > 0)
                memcpy(r->sector + head_len, tail, tail_len);
        return uext4_bdev_write(r->log, r->sector, sector_size(r), pos, 0);
}

static int write_super_locked(struct record *r)
{
        const struct log_super super = {
                .magic = le64_make(LOG_MAGIC),
                .version = le64_make(LOG_VERSION),
                .nr_entries = le64_make(r->nr_entries),
                .sector_size = le32_make((uint32_t)sector_size(r)),
        };

        return write_sector_locked(r, &super, sizeof(super), NULL, 0, 0);
}

/* The bytes of a write, behind its entry. */
static int write_data_locked(struct record *r, const struct change *ch, uint64_t pos)
{
        if (ch->data)
                return uext4_bdev_write(r->log, ch->data, ch->len, pos, 0);
        return uext4_bdev_write_zeroes(r->log, pos, ch->len, 0);
}

/* `name` is what a mark has. */
static int append_locked(struct record *r, const struct change *ch, const char *name)
{
        const size_t name_len = name ? strlen(name) : 0;
        const uint64_t data_len = ch->flags & LOG_DISCARD ? 0 : ch->len;
        const struct log_entry entry = {
                .sector = le64_make(ch->pos / sector_size(r)),
                .nr_sectors = le64_make(ch->len / sector_size(r)),
                .flags = le64_make(ch->flags),
                .data_len = le64_make(name_len),
        };
        const uint64_t room = r->log->geo.size - r->log_pos;
        int ret;

        if (room < sector_size(r) || data_len > room - sector_size(r))
                return -ENOSPC;
        ret = write_sector_locked(r, &entry, sizeof(entry), name, name_len, r->log_pos);
        if (ret == 0 && data_len > 0)
                ret = write_data_locked(r, ch, r->log_pos + sector_size(r));
        if (ret < 0)
                return ret;
        r->log_pos += sector_size(r) + data_len;
        r->nr_entries++;
        return 0;
}

static void log_locked(struct record *r, const struct change *ch, const char *name)
{
        if (r->log_error == 0)
                r->log_error = append_locked(r, ch, name);
}

static void log_pending_locked(struct record *r, struct change *ch)
{
        TAILQ_REMOVE(&r->pending, ch, link);
        log_locked(r, ch, NULL);
        change_free(ch);
}

/* A point where a reader may stop. */
static int close_point_locked(struct record *r)
{
        if (r->log_error == 0)
                r->log_error = write_super_locked(r); /* I3 */
        return r->log_error;
}

/* ---- what happens to the device ---- */

static bool overlap(const struct change *a, const struct change *b)
{
        return a->pos < b->pos + b->len && b->pos < a->pos + a->len;
}

/* I2.  Among themselves the pending ones keep their order. */
static int log_fua_locked(struct record *r, const struct change *fua)
{
        struct change *ch = TAILQ_FIRST(&r->pending);
        struct change *last = NULL;

        for (; ch; ch = TAILQ_NEXT(ch, link))
                if (overlap(ch, fua))
                        last = ch;
        while (last) {
                ch = TAILQ_FIRST(&r->pending);
                if (ch == last)
                        last = NULL;
                log_pending_locked(r, ch);
        }
        log_locked(r, fua, NULL);
        return close_point_locked(r);
}

/* `ret` is what the lower device said to it.  Takes `ch`. */
static int change_done(struct record *r, struct change *ch, int ret)
{
        if (ret < 0) {
                change_free(ch);
                return ret;
        }
        mtx_lock(&r->lock);
        if (ch->flags & LOG_FUA) {
                ret = log_fua_locked(r, ch);
                change_free(ch);
        } else {
                ch->stamp = ++r->clock;
                TAILQ_INSERT_TAIL(&r->pending, ch, link);
        }
        mtx_unlock(&r->lock);
        return ret;
}

static int64_t record_read(struct uext4_bdev *dev, const struct iovec *iov, int nr_iov,
                           uint64_t pos)
{
        int ret = uext4_bdev_readv(record_of(dev)->lower, iov, nr_iov, pos);

        return ret < 0 ? ret : (int64_t)vec_sum(iov, nr_iov);
}

static int64_t record_write(struct uext4_bdev *dev, const struct iovec *iov, int nr_iov,
                            uint64_t pos, uint32_t flags)
{
        struct record *r = record_of(dev);
        const uint64_t len = vec_sum(iov, nr_iov);
        struct change *ch = change_of_vec(r, iov, pos, len, flags);
        int ret;

        if (!ch)
                return -ENOMEM;
        ret = change_done(r, ch, uext4_bdev_writev(r->lower, iov, nr_iov, pos, flags));
        return ret < 0 ? ret : (int64_t)len;
}

static int record_write_zeroes(struct uext4_bdev *dev, uint64_t pos, uint64_t len,
                               uint32_t flags)
{
        struct record *r = record_of(dev);
        struct change *ch = change_new(pos, len, flags & UEXT4_BDEV_FUA ? LOG_FUA : 0);

        if (!ch)
                return -ENOMEM;
        return change_done(r, ch, uext4_bdev_write_zeroes(r->lower, pos, len, flags));
}

static int record_discard(struct uext4_bdev *dev, uint64_t pos, uint64_t len)
{
        struct record *r = record_of(dev);
        struct change *ch = change_new(pos, len, LOG_DISCARD);

        if (!ch)
                return -ENOMEM;
        return change_done(r, ch, uext4_bdev_discard(r->lower, pos, len));
}

static uint64_t stamp_now(struct record *r)
{
        uint64_t stamp;

        mtx_lock(&r->lock);
        stamp = ++r->clock;
        mtx_unlock(&r->lock);
        return stamp;
}

static void log_pending_before_locked(struct record *r, uint64_t stamp)
{
        struct change *ch;

        while ((ch = TAILQ_FIRST(&r->pending)) != NULL && ch->stamp < stamp)
                log_pending_locked(r, ch);
}

static int record_flush(struct uext4_bdev *dev)
{
        struct record *r = record_of(dev);
        const struct change flush = {.flags = LOG_FLUSH};
        const uint64_t stamp = stamp_now(r); /* I1: before the flush begins below */
        int ret = uext4_bdev_flush(r->lower);

        if (ret < 0)
                return ret;
        mtx_lock(&r->lock);
        log_pending_before_locked(r, stamp);
        log_locked(r, &flush, NULL);
        ret = close_point_locked(r);
        mtx_unlock(&r->lock);
        return ret;
}

/* ---- open, close ---- */

/* Whoever cares for errors of the log has flushed. */
static void record_close(struct uext4_bdev *dev)
{
        struct record *r = record_of(dev);

        mtx_lock(&r->lock);
        log_pending_before_locked(r, UINT64_MAX);
        if (close_point_locked(r) == 0)
                r->log_error = uext4_bdev_flush(r->log);
        mtx_unlock(&r->lock);
        uext4_bdev_close(r->log);
        uext4_bdev_close(r->lower);
        mtx_done(&r->lock);
        mem_free(r->sector);
        mem_free(r);
}

/* No mapping: what goes through memory could not be recorded. */
static const struct uext4_bdev_ops record_ops = {
        .name = "record",
        .read = record_read,
        .write = record_write,
        .flush = record_flush,
        .discard = record_discard,
        .write_zeroes = record_write_zeroes,
        .close = record_close,
};

static bool log_fits(const struct uext4_bdev *log, const struct uext4_bdev *lower)
{
        return lower->geo.logical_block % bdev_unit(log) == 0 &&
               log->geo.size >= lower->geo.logical_block &&
               !(log->geo.caps & UEXT4_BDEV_CAP_READONLY);
}

static int record_init(struct record *r, struct uext4_bdev *lower, struct uext4_bdev *log)
{
        struct uext4_bdev_geometry geo = lower->geo;
        int ret;

        if (!log_fits(log, lower))
                return -EINVAL;
        geo.caps |= UEXT4_BDEV_CAP_VOLATILE | UEXT4_BDEV_CAP_FUA;
        ret = uext4_bdev_init(&r->dev, &record_ops, &geo);
        if (ret < 0)
                return ret;
        r->lower = lower;
        r->log = log;
        r->sector = mem_alloc_aligned(bdev_unit(log), geo.logical_block);
        if (!r->sector)
                return -ENOMEM;
        r->log_pos = geo.logical_block;
        return write_super_locked(r); /* nobody else has it yet */
}

int uext4_bdev_open_record(struct uext4_bdev *lower, struct uext4_bdev *log,
                           struct uext4_bdev **ret_dev)
{
        struct record *r = mem_zalloc(sizeof(*r));
        int ret;

        if (!r)
                return -ENOMEM;
        ret = record_init(r, lower, log);
        if (ret < 0) {
                mem_free(r->sector);
                mem_free(r);
                return ret;
        }
        mtx_init(&r->lock, RANK_BDEV_QUEUE);
        TAILQ_INIT(&r->pending);
        *ret_dev = &r->dev;
        return 0;
}

int uext4_bdev_record_mark(struct uext4_bdev *dev, const char *name)
{
        struct record *r = record_of(dev);
        const struct change mark = {.flags = LOG_MARK};
        int ret;

        assert(dev->ops == &record_ops);
        if (strlen(name) >=
            sector_size(r) - sizeof(struct log_entry)) /* its readers want a 0 */
                return -ENAMETOOLONG;
        mtx_lock(&r->lock);
        log_locked(r, &mark, name);
        ret = close_point_locked(r);
        mtx_unlock(&r->lock);
        return ret;
}
