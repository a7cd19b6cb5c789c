/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "mix.h"

#include <fcntl.h>
#include <linux/falloc.h>

#define FILE_BYTES ((size_t)MIX_SECTORS * TRACK_SECTOR)
#define SLOT_BYTES (32u * TRACK_SECTOR)

void mix_init(struct mix *m, unsigned file, uint64_t seed, bool has_extents)
{
        *m = (struct mix){.rand = seed, .has_extents = has_extents, .what = "nothing"};
        track_init(&m->t, file, MIX_SECTORS);
        T_CHECK(posix_memalign((void **)&m->buf, 4096, FILE_BYTES) == 0);
        for (unsigned i = 0; i < MIX_DEPTH; i++)
                T_CHECK(posix_memalign((void **)&m->slots[i].buf, 4096, SLOT_BYTES) == 0);
}

void mix_done(struct mix *m)
{
        for (unsigned i = 0; i < MIX_DEPTH; i++)
                free(m->slots[i].buf);
        free(m->buf);
        track_done(&m->t);
}

int mix_open(struct mix *m, struct uext4_fs *fs, const char *path)
{
        int ret = uext4_open_path(fs, path, O_RDWR | O_DIRECT, &m->direct);

        if (ret == 0)
                ret = uext4_open_path(fs, path, O_RDWR, &m->buffered);
        return ret < 0 ? ret : uext4_queue_new(fs, MIX_DEPTH, &m->queue);
}

void mix_close(struct mix *m)
{
        uext4_queue_free(m->queue);
        uext4_close(m->direct);
        uext4_close(m->buffered);
        m->queue = NULL;
        m->direct = m->buffered = NULL;
}

/* ---- where ---- */

static uint64_t below(struct mix *m, uint64_t n)
{
        return t_below(&m->rand, n);
}

static struct track_range any_range(struct mix *m)
{
        static const unsigned lengths[] = {1, 2, 7, 8, 16, 32};
        struct track_range r = {.nr = lengths[below(m, ARRAY_LEN(lengths))]};

        r.first = (unsigned)below(m, MIX_SECTORS - r.nr);
        if (below(m, 4) == 0 && m->t.size / TRACK_SECTOR + r.nr <= MIX_SECTORS)
                r.first = (unsigned)(m->t.size / TRACK_SECTOR);
        else if (below(m, 3) == 0)
                r.first &= ~7u;
        return r;
}

/* One that no write under way touches; false when chance finds none. */
static bool free_range(struct mix *m, struct track_range *ret_range)
{
        for (unsigned i = 0; i < 8; i++) {
                *ret_range = any_range(m);
                if (!track_is_flying(&m->t, *ret_range))
                        return true;
        }
        return false;
}

static int any_flags(struct mix *m)
{
        static const int flags[] = {0, 0, 0, 0, RWF_DSYNC, RWF_SYNC};

        return flags[below(m, ARRAY_LEN(flags))];
}

static uint64_t pos_of(struct track_range r)
{
        return (uint64_t)r.first * TRACK_SECTOR;
}

static uint64_t len_of(struct track_range r)
{
        return (uint64_t)r.nr * TRACK_SECTOR;
}

/* Whether a direct write may move the size to a place inside of it. */
static bool goes_in_steps(const struct mix *m)
{
        return !m->has_extents || m->may_be_short;
}

/* ---- writes under way ---- */

static int as_errno(int64_t result, struct track_range r)
{
        if (result < 0)
                return (int)result;
        return (uint64_t)result == len_of(r) ? 0 : -EIO;
}

static int fetched(struct mix *m, const struct uext4_completion *c)
{
        struct mix_slot *s = c->user_data;
        int ret = as_errno(c->result, s->range);

        s->busy = false;
        m->nr_flying--;
        if (ret < 0)
                return ret;
        track_written(&m->t, s->version, s->range);
        if (s->flags)
                track_durable(&m->t, s->version, s->range, false);
        return 0;
}

static int reap(struct mix *m, unsigned min)
{
        struct uext4_completion done[MIX_DEPTH];
        int nr, ret = 0;

        m->what = "wait";
        nr = uext4_queue_wait(m->queue, done, min, MIX_DEPTH, min ? -1 : 0);
        if (nr < 0)
                return nr;
        T_CHECK((unsigned)nr >= min);
        for (int i = 0; i < nr; i++) {
                int err = fetched(m, &done[i]);

                ret = ret < 0 ? ret : err;
        }
        return ret;
}

int mix_settle(struct mix *m)
{
        return m->nr_flying ? reap(m, m->nr_flying) : 0;
}

static int submit(struct mix *m)
{
        struct uext4_request req = {.op = UEXT4_WRITE, .file = m->direct, .nr_iov = 1};
        struct mix_slot *s = m->slots;
        struct track_range r;

        m->what = "submit";
        while (s < m->slots + MIX_DEPTH && s->busy)
                s++;
        if (s == m->slots + MIX_DEPTH || !free_range(m, &r))
                return reap(m, 1);
        s->busy = true;
        s->range = r;
        s->flags = any_flags(m);
        s->version = track_write(&m->t, r, goes_in_steps(m));
        track_fill(&m->t, s->version, r, s->buf);
        s->iov = (struct iovec){s->buf, len_of(r)};
        req.iov = &s->iov;
        req.pos = pos_of(r);
        req.flags = s->flags;
        req.user_data = s;
        m->nr_flying++;
        T_CHECK(uext4_queue_submit(m->queue, &req, 1) == 1);
        return 0;
}

/* ---- the others ---- */

static int write_range(struct mix *m, struct uext4_file *file, struct track_range r, int flags)
{
        struct iovec iov = {.iov_base = m->buf};
        uint32_t version;
        int ret;

        m->what = file == m->direct ? "direct write" : "buffered write";
        version = track_write(&m->t, r, file == m->buffered || goes_in_steps(m));
        track_fill(&m->t, version, r, m->buf);
        iov.iov_len = len_of(r);
        ret = as_errno(uext4_pwritev2(file, &iov, 1, pos_of(r), flags), r);
        if (ret < 0)
                return ret;
        track_written(&m->t, version, r);
        if (flags)
                track_durable(&m->t, version, r, true);
        return 0;
}

static int write_now(struct mix *m, struct uext4_file *file)
{
        struct track_range r;

        return free_range(m, &r) ? write_range(m, file, r, any_flags(m)) : 0;
}

/* It waits for the writes under way (C11), so they come before it. */
static int truncate_now(struct mix *m)
{
        uint64_t size = below(m, MIX_SECTORS) * TRACK_SECTOR;
        int ret;

        m->what = "truncate";
        track_resize(&m->t, size);
        ret = uext4_truncate(m->direct, size);
        if (ret == 0)
                ret = mix_settle(m);
        track_resize(&m->t, size); /* what has become durable before it may go yet */
        if (ret == 0)
                track_resized(&m->t, size);
        return ret;
}

static int zero_now(struct mix *m, int mode)
{
        struct track_range r = any_range(m);
        int ret;

        m->what = mode & FALLOC_FL_PUNCH_HOLE ? "punch" : "zero range";
        track_zero(&m->t, r);
        ret = uext4_fallocate(m->direct, mode | FALLOC_FL_KEEP_SIZE, pos_of(r), len_of(r));
        if (ret == 0)
                ret = mix_settle(m);
        track_zero(&m->t, r);
        if (ret == 0)
                track_zeroed(&m->t, r);
        return ret;
}

static int allocate_now(struct mix *m)
{
        struct track_range r = any_range(m);

        m->what = "allocate";
        if (!m->has_extents)
                return 0;
        return uext4_fallocate(m->direct, FALLOC_FL_KEEP_SIZE, pos_of(r), len_of(r));
}

static int sync_now(struct mix *m, int (*sync)(struct uext4_file *file))
{
        int ret;

        m->what = sync == uext4_fsync ? "fsync" : "fdatasync";
        ret = sync(m->direct);
        if (ret == 0)
                track_synced(&m->t);
        return ret;
}

static int read_now(struct mix *m)
{
        struct track_range r = any_range(m);
        uint64_t known = m->t.size > pos_of(r) ? m->t.size - pos_of(r) : 0;
        struct uext4_file *file = below(m, 2) ? m->direct : m->buffered;
        ssize_t got;

        m->what = "read";
        got = uext4_pread(file, m->buf, len_of(r), pos_of(r));
        if (got < 0)
                return (int)got;
        known = min_t(uint64_t, known, len_of(r));
        if ((uint64_t)got < known)
                return -EIO; /* the device has failed behind that */
        r.nr = (unsigned)(known / TRACK_SECTOR);
        m->wrong = track_check_now(&m->t, r, m->buf);
        return m->wrong ? -EIO : 0;
}

/* Nothing but bytes changes, once all of it is there: syncs find no transaction. */
static int step_calmly(struct mix *m)
{
        const uint64_t dice = below(m, 100);

        if (m->t.size == 0)
                return write_range(m, m->direct, (struct track_range){0, MIX_SECTORS},
                                   RWF_SYNC);
        if (dice < 55)
                return submit(m);
        if (dice < 75)
                return reap(m, m->nr_flying ? (unsigned)below(m, m->nr_flying) : 0);
        if (dice < 80)
                return write_now(m, below(m, 2) ? m->direct : m->buffered);
        if (dice < 95)
                return sync_now(m, below(m, 2) ? uext4_fsync : uext4_fdatasync);
        return read_now(m);
}

int mix_step(struct mix *m)
{
        const uint64_t dice = below(m, 100);

        if (track_is_full(&m->t))
                return sync_now(m, uext4_fsync);
        if (m->is_calm)
                return step_calmly(m);
        if (dice < 45)
                return submit(m);
        if (dice < 60)
                return reap(m, m->nr_flying ? (unsigned)below(m, m->nr_flying) : 0);
        if (dice < 66)
                return write_now(m, m->direct);
        if (dice < 71)
                return write_now(m, m->buffered);
        if (dice < 76)
                return truncate_now(m);
        if (dice < 81)
                return zero_now(m, FALLOC_FL_PUNCH_HOLE);
        if (dice < 83)
                return m->has_extents ? zero_now(m, FALLOC_FL_ZERO_RANGE) : 0;
        if (dice < 86)
                return allocate_now(m);
        if (dice < 94)
                return sync_now(m, below(m, 2) ? uext4_fsync : uext4_fdatasync);
        return read_now(m);
}

/* ---- afterwards ---- */

const char *mix_check_cut(struct mix *m, struct uext4_fs *fs, const char *path)
{
        struct uext4_file *file;
        struct uext4_stat st;
        const char *wrong;
        ssize_t got;

        if (uext4_open_path(fs, path, O_RDONLY, &file) < 0)
                return "it cannot be opened";
        got = uext4_pread(file, m->buf, FILE_BYTES, 0);
        T_CHECK(uext4_stat(uext4_file_inode(file), &st) == 0);
        wrong = got < 0 || (uint64_t)got != min_t(uint64_t, st.size, FILE_BYTES)
                        ? "it cannot be read"
                        : track_check_cut(&m->t, st.size, m->buf);
        uext4_close(file);
        return wrong;
}
