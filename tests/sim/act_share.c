/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * act_share.c - some sectors of a file of which others write the others.
 *
 * Who a sector belongs to is drawn from the seed of the world, for short runs of sectors that
 * begin and end anywhere in blocks and pages.  Each writes, frees and reads its own runs only,
 * so that it knows what is there, and syncs the file.  The size does not change.
 */
#include <fcntl.h>
#include <linux/falloc.h>

#include "actor.h"
#include "baton.h"

#define FILE_BYTES ((size_t)SHARED_SECTORS * TRACK_SECTOR)
#define DEPTH      4

/* A write under way. */
struct slot {
        bool busy;
        uint32_t version;
        int flags;
        struct track_range range;
        struct iovec iov;
};

struct share {
        struct track t;
        unsigned owner[SHARED_SECTORS];
        struct uext4_file *direct, *buffered;
        struct uext4_queue *queue;
        struct slot slots[DEPTH];
        unsigned nr_flying;
        uint8_t *buf; /* the file; what is under way lies in it, too */
};

static void draw_owners(const struct world *w, unsigned *owner)
{
        uint64_t rand = w->seed;

        for (unsigned i = 0; i < SHARED_SECTORS;) {
                unsigned nr = 1 + (unsigned)t_below(&rand, 12);
                unsigned who = (unsigned)t_below(&rand, w->nr_actors);

                while (nr-- > 0 && i < SHARED_SECTORS)
                        owner[i++] = who;
        }
}

static void init(struct actor *a)
{
        struct share *s = t_alloc(sizeof(*s));

        track_init(&s->t, 32 + a->n, SHARED_SECTORS);
        track_resize(&s->t, FILE_BYTES);
        track_resized(&s->t, FILE_BYTES);
        track_synced(&s->t);
        draw_owners(a->w, s->owner);
        T_CHECK(posix_memalign((void **)&s->buf, 4096, FILE_BYTES) == 0);
        a->state = s;
}

static int open_files(struct actor *a)
{
        struct share *s = a->state;
        int ret = uext4_open_path(a->w->fs, "/shared", O_RDWR | O_DIRECT, &s->direct);

        if (ret == 0)
                ret = uext4_open_path(a->w->fs, "/shared", O_RDWR, &s->buffered);
        return ret < 0 ? ret : uext4_queue_new(a->w->fs, DEPTH, &s->queue);
}

static void close_files(struct actor *a)
{
        struct share *s = a->state;

        uext4_queue_free(s->queue);
        uext4_close(s->direct);
        uext4_close(s->buffered);
}

/* ---- steps ---- */

/* One of its runs, or a part of it; false: it has none. */
static bool any_range(struct actor *a, struct track_range *ret)
{
        const struct share *s = a->state;
        unsigned first = (unsigned)actor_below(a, SHARED_SECTORS), tries = 0;

        while (s->owner[first] != a->n) {
                first = (first + 1) % SHARED_SECTORS;
                if (++tries == SHARED_SECTORS)
                        return false;
        }
        *ret = (struct track_range){first, 1};
        while (first + ret->nr < SHARED_SECTORS && s->owner[first + ret->nr] == a->n &&
               actor_below(a, 8))
                ret->nr++;
        return true;
}

static uint64_t pos_of(struct track_range r)
{
        return (uint64_t)r.first * TRACK_SECTOR;
}

static uint64_t len_of(struct track_range r)
{
        return (uint64_t)r.nr * TRACK_SECTOR;
}

static int any_flags(struct actor *a)
{
        static const int flags[] = {0, 0, 0, RWF_DSYNC, RWF_SYNC};

        return flags[actor_below(a, ARRAY_LEN(flags))];
}

static int write_range(struct actor *a, struct uext4_file *file, struct track_range r)
{
        const int flags = any_flags(a);
        struct share *s = a->state;
        const struct iovec iov = {s->buf + pos_of(r), len_of(r)};
        uint32_t version = track_write(&s->t, r, true);
        ssize_t n;

        a->what = file == s->direct ? "direct write" : "buffered write";
        track_fill(&s->t, version, r, iov.iov_base);
        n = uext4_pwritev2(file, &iov, 1, pos_of(r), flags);
        if (n < 0 || (uint64_t)n != len_of(r))
                return n < 0 ? (int)n : -EIO;
        track_written(&s->t, version, r);
        if (flags)
                track_durable(&s->t, version, r, false);
        return 0;
}

static int zero_range(struct actor *a, struct track_range r, int mode)
{
        struct share *s = a->state;
        int ret;

        a->what = mode == FALLOC_FL_PUNCH_HOLE ? "punch" : "zero range";
        track_zero(&s->t, r);
        ret = uext4_fallocate(s->direct, mode | FALLOC_FL_KEEP_SIZE, pos_of(r), len_of(r));
        if (ret == 0)
                track_zeroed(&s->t, r);
        return ret;
}

static int sync_file(struct actor *a)
{
        const uint64_t dice = actor_below(a, 4);
        struct share *s = a->state;
        int ret;

        a->what = dice == 0 ? "syncfs" : dice == 1 ? "fdatasync" : "fsync";
        ret = dice == 0   ? uext4_syncfs(a->w->fs)
              : dice == 1 ? uext4_fdatasync(s->direct)
                          : uext4_fsync(s->direct);
        if (ret == 0)
                track_synced(&s->t);
        return ret;
}

static int read_range(struct actor *a, struct uext4_file *file, struct track_range r)
{
        struct share *s = a->state;
        ssize_t n;

        a->what = "read";
        n = uext4_pread(file, s->buf + pos_of(r), len_of(r), pos_of(r));
        if (n < 0 || (uint64_t)n != len_of(r))
                return n < 0 ? (int)n : -EIO;
        a->wrong = track_check_now(&s->t, r, s->buf + pos_of(r));
        return a->wrong ? -EIO : 0;
}

/* ---- on the queue ---- */

static int fetched(struct share *s, const struct uext4_completion *c)
{
        struct slot *slot = c->user_data;

        slot->busy = false;
        s->nr_flying--;
        if (c->result < 0 || (uint64_t)c->result != len_of(slot->range))
                return c->result < 0 ? (int)c->result : -EIO;
        track_written(&s->t, slot->version, slot->range);
        if (slot->flags)
                track_durable(&s->t, slot->version, slot->range, false);
        return 0;
}

static int reap(struct actor *a)
{
        struct uext4_completion done[DEPTH];
        struct share *s = a->state;
        const unsigned min = (unsigned)actor_below(a, s->nr_flying + 1);
        int nr, ret = 0;

        a->what = "wait";
        nr = uext4_queue_wait(s->queue, done, min, DEPTH, min ? -1 : 0);
        for (int i = 0; i < nr; i++) {
                int err = fetched(s, &done[i]);

                ret = ret < 0 ? ret : err;
        }
        return nr < 0 ? nr : ret;
}

static int submit(struct actor *a, struct track_range r)
{
        struct share *s = a->state;
        struct uext4_request req = {
                .op = UEXT4_WRITE, .file = s->direct, .nr_iov = 1, .pos = pos_of(r)};
        struct slot *slot = s->slots;

        a->what = "submit";
        if (s->nr_flying == DEPTH)
                return reap(a);
        while (slot->busy)
                slot++;
        *slot = (struct slot){true,
                              track_write(&s->t, r, true),
                              any_flags(a),
                              r,
                              {s->buf + pos_of(r), len_of(r)}};
        track_fill(&s->t, slot->version, r, slot->iov.iov_base);
        req.iov = &slot->iov;
        req.flags = slot->flags;
        req.user_data = slot;
        s->nr_flying++;
        T_CHECK(uext4_queue_submit(s->queue, &req, 1) == 1);
        return 0;
}

static int step(struct actor *a)
{
        struct share *s = a->state;
        const uint64_t dice = actor_below(a, 100);
        struct track_range r;

        if (!any_range(a, &r))
                return 0;
        if (track_is_full(&s->t))
                return sync_file(a);
        baton_note("range", r.first, r.nr, dice);
        if (track_is_flying(&s->t, r))
                return reap(a);
        if (dice < 15)
                return submit(a, r);
        if (dice < 30)
                return write_range(a, s->direct, r);
        if (dice < 55)
                return write_range(a, s->buffered, r);
        if (dice < 63)
                return zero_range(a, r, FALLOC_FL_PUNCH_HOLE);
        if (dice < 68)
                return a->w->has_extents ? zero_range(a, r, FALLOC_FL_ZERO_RANGE) : 0;
        if (dice < 80)
                return sync_file(a);
        return read_range(a, dice & 1 ? s->direct : s->buffered, r);
}

/* ---- afterwards ---- */

static void settled(struct actor *a)
{
        struct share *s = a->state;

        track_synced(&s->t);
}

static const char *check_sectors(const struct actor *a)
{
        const struct share *s = a->state;
        const char *wrong = NULL;

        for (unsigned i = 0; i < SHARED_SECTORS && !wrong; i++) {
                if (s->owner[i] == a->n)
                        wrong = track_check_range_cut(&s->t, (struct track_range){i, 1},
                                                      s->buf + (size_t)i * TRACK_SECTOR);
        }
        return wrong;
}

static const char *check(struct actor *a, struct uext4_fs *fs)
{
        struct share *s = a->state;
        struct uext4_file *file;
        ssize_t n;

        if (uext4_open_path(fs, "/shared", O_RDONLY, &file) < 0)
                return "the shared file cannot be opened";
        n = uext4_pread(file, s->buf, FILE_BYTES, 0);
        uext4_close(file);
        return n == (ssize_t)FILE_BYTES ? check_sectors(a) : "the shared file cannot be read";
}

static void done(struct actor *a)
{
        struct share *s = a->state;

        track_done(&s->t);
        free(s->buf);
        free(s);
}

const struct actor_ops actor_share = {"share",     init,    open_files, step,
                                      close_files, settled, check,      done};
