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

#define FILE_BYTES ((size_t)SHARED_SECTORS * TRACK_SECTOR)

struct share {
        struct track t;
        unsigned owner[SHARED_SECTORS];
        struct uext4_file *direct, *buffered;
        uint8_t *buf;
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
        return ret;
}

static void close_files(struct actor *a)
{
        struct share *s = a->state;

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

static int write_range(struct actor *a, struct uext4_file *file, struct track_range r)
{
        static const int all_flags[] = {0, 0, 0, RWF_DSYNC, RWF_SYNC};
        const int flags = all_flags[actor_below(a, ARRAY_LEN(all_flags))];
        struct share *s = a->state;
        const struct iovec iov = {s->buf, len_of(r)};
        uint32_t version = track_write(&s->t, r, true);
        ssize_t n;

        a->what = file == s->direct ? "direct write" : "buffered write";
        track_fill(&s->t, version, r, s->buf);
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

static int sync_file(struct actor *a, int (*sync)(struct uext4_file *file))
{
        struct share *s = a->state;
        int ret;

        a->what = "fsync";
        ret = sync(s->direct);
        if (ret == 0)
                track_synced(&s->t);
        return ret;
}

static int read_range(struct actor *a, struct uext4_file *file, struct track_range r)
{
        struct share *s = a->state;
        ssize_t n;

        a->what = "read";
        n = uext4_pread(file, s->buf, len_of(r), pos_of(r));
        if (n < 0 || (uint64_t)n != len_of(r))
                return n < 0 ? (int)n : -EIO;
        a->wrong = track_check_now(&s->t, r, s->buf);
        return a->wrong ? -EIO : 0;
}

static int step(struct actor *a)
{
        struct share *s = a->state;
        const uint64_t dice = actor_below(a, 100);
        struct track_range r;

        if (!any_range(a, &r))
                return 0;
        if (track_is_full(&s->t))
                return sync_file(a, uext4_fsync);
        if (dice < 30)
                return write_range(a, s->direct, r);
        if (dice < 55)
                return write_range(a, s->buffered, r);
        if (dice < 63)
                return zero_range(a, r, FALLOC_FL_PUNCH_HOLE);
        if (dice < 68)
                return a->w->has_extents ? zero_range(a, r, FALLOC_FL_ZERO_RANGE) : 0;
        if (dice < 80)
                return sync_file(a, dice & 1 ? uext4_fsync : uext4_fdatasync);
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
