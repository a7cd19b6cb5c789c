/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Telling the device what is free, on a device that believes it: what is discarded becomes
 * junk, and is remembered.  So whatever is told of what somebody has is found out by who reads
 * it.
 */

#include <fcntl.h>
#include <uext4.h>
#include <unistd.h>

#include "ext4/bitmap.h"
#include "t_write.h"

#define JUNK 0xdb

/* ---- the device ---- */

struct junker {
        struct uext4_bdev dev;
        struct uext4_bdev *lower;
        char *data;
        uint8_t *told; /* of each 1024 bytes */
        _Atomic uint64_t nr_bytes;

        int error; /* what the device says, if not 0 */

        /* Discards wait while `hold` is set. */
        pthread_mutex_t lock;
        pthread_cond_t cond;
        bool hold, is_inside;
};

static struct junker *junker_of(struct uext4_bdev *dev)
{
        return container_of(dev, struct junker, dev);
}

static int64_t sum(int ret, const struct iovec *iov, int nr_iov)
{
        int64_t len = 0;

        for (int i = 0; i < nr_iov; i++)
                len += (int64_t)iov[i].iov_len;
        return ret < 0 ? ret : len;
}

static int64_t junker_read(struct uext4_bdev *dev, const struct iovec *iov, int nr_iov,
                           uint64_t pos)
{
        return sum(uext4_bdev_readv(junker_of(dev)->lower, iov, nr_iov, pos), iov, nr_iov);
}

static int64_t junker_write(struct uext4_bdev *dev, const struct iovec *iov, int nr_iov,
                            uint64_t pos, uint32_t flags)
{
        return sum(uext4_bdev_writev(junker_of(dev)->lower, iov, nr_iov, pos, flags), iov,
                   nr_iov);
}

static int junker_discard(struct uext4_bdev *dev, uint64_t pos, uint64_t len)
{
        struct junker *j = junker_of(dev);

        pthread_mutex_lock(&j->lock);
        j->is_inside = true;
        pthread_cond_broadcast(&j->cond);
        while (j->hold)
                pthread_cond_wait(&j->cond, &j->lock);
        j->is_inside = false;
        pthread_mutex_unlock(&j->lock);
        if (j->error)
                return j->error;
        memset(j->data + pos, JUNK, len);
        memset(j->told + pos / 1024, 1, len / 1024);
        atomic_fetch_add(&j->nr_bytes, len);
        return 0;
}

static int junker_write_zeroes(struct uext4_bdev *dev, uint64_t pos, uint64_t len,
                               uint32_t flags)
{
        return uext4_bdev_write_zeroes(junker_of(dev)->lower, pos, len, flags);
}

static void junker_close(struct uext4_bdev *dev)
{
        uext4_bdev_close(junker_of(dev)->lower);
}

static void junker_open(struct junker *j, struct t_image *img, uint32_t caps)
{
        static const struct uext4_bdev_ops ops = {
                .name = "junker",
                .read = junker_read,
                .write = junker_write,
                .discard = junker_discard,
                .write_zeroes = junker_write_zeroes,
                .close = junker_close,
        };
        struct uext4_bdev_geometry geo;

        memset(j, 0, sizeof(*j));
        T_CHECK(uext4_bdev_open_buffer(img->data, img->size, 0, &j->lower) == 0);
        geo = *uext4_bdev_geometry(j->lower);
        geo.caps = caps;
        T_CHECK(uext4_bdev_init(&j->dev, &ops, &geo) == 0);
        j->data = img->data;
        j->told = t_alloc(img->size / 1024);
        pthread_mutex_init(&j->lock, NULL);
        pthread_cond_init(&j->cond, NULL);
}

static void junker_done(struct junker *j)
{
        uext4_bdev_close(&j->dev);
        pthread_cond_destroy(&j->cond);
        pthread_mutex_destroy(&j->lock);
}

static void junker_forget(struct junker *j, uint64_t size)
{
        memset(j->told, 0, size / 1024);
        j->nr_bytes = 0;
}

/* ---- a mount on it ---- */

struct stage {
        struct t_image img;
        struct junker j;
        struct uext4_fs *fs;
        struct uext4_inode *root;
        struct t_log log;
};

static void mount(struct stage *st, const char *options)
{
        struct uext4_mount_params params = {options, t_log_line, &st->log};

        T_CHECK(uext4_mount_bdev(&st->j.dev, &params, &st->fs) == 0);
        T_CHECK(uext4_inode_get(st->fs, UEXT4_ROOT_INO, 0, &st->root) == 0);
}

static void unmount(struct stage *st)
{
        uext4_inode_put(st->root);
        T_CHECK(uext4_unmount(st->fs) == 0);
}

static void again(struct stage *st)
{
        unmount(st);
        mount(st, "rw");
}

static void begin(struct stage *st, const char *options, unsigned mib, const char *mount_with)
{
        st->img = t_mkfs((uint64_t)mib << 20, options, NULL);
        t_log_init(&st->log);
        junker_open(&st->j, &st->img, UEXT4_BDEV_CAP_DISCARD);
        mount(st, mount_with);
}

/* The image, and what was told of it, stay. */
static void end(struct stage *st, const char *name)
{
        const char *complaint;

        unmount(st);
        junker_done(&st->j);
        assert_int_equal(st->log.nr_lines, 0);
        complaint = t_fsck(&st->img, false);
        if (complaint)
                fail_msg("%s: e2fsck: %s", name, complaint);
}

static void fill(void *mem, size_t len, uint64_t seed)
{
        uint64_t *words = mem;

        for (size_t i = 0; i < len / 8; i++)
                words[i] = seed * 0x9e3779b97f4a7c15 + i;
}

/* Of a thread that must not jump. */
static void make(struct stage *st, const char *name, size_t len, uint64_t seed)
{
        uint64_t *mem = t_alloc(len);
        struct uext4_inode *inode;
        struct uext4_file *file;

        T_CHECK(uext4_create(st->root, name, strlen(name), 0600, &inode) == 0);
        T_CHECK(uext4_open(inode, O_RDWR, &file) == 0);
        fill(mem, len, seed);
        T_CHECK(uext4_pwrite(file, mem, len, 0) == (ssize_t)len);
        uext4_close(file);
        uext4_inode_put(inode);
        free(mem);
}

static void check(struct stage *st, const char *name, size_t len, uint64_t seed)
{
        uint64_t *want = t_alloc(len), *got = t_alloc(len);
        struct uext4_inode *inode;
        struct uext4_file *file;

        T_CHECK(uext4_lookup(st->root, name, strlen(name), &inode) == 0);
        T_CHECK(uext4_open(inode, O_RDONLY | O_DIRECT, &file) == 0);
        fill(want, len, seed);
        T_CHECK(uext4_pread(file, got, len, 0) == (ssize_t)len);
        T_CHECK(memcmp(got, want, len) == 0);
        uext4_close(file);
        uext4_inode_put(inode);
        free(want);
        free(got);
}

static void drop(struct stage *st, const char *name)
{
        T_CHECK(uext4_unlink(st->root, name, strlen(name)) == 0);
}

static void forget(struct stage *st)
{
        free(st->j.told);
        t_image_free(&st->img);
}

/* ---- which ---- */

/* What was told of is what the bitmaps have as free, but for a cluster cut by the end. */
static void compare_with_bitmaps(struct stage *st, const char *name)
{
        struct t_write w;
        struct ext4_fs *fs;
        uint8_t *bytes;

        t_write_begin(&w, &st->img);
        fs = w.fs;
        bytes = t_alloc(fs->block_size);
        for (ext4_group_t group = 0; group < fs->nr_groups; group++) {
                uint32_t nr = ext4_bitmap_nr_bits(fs, group, EXT4_BLOCK_BITMAP);
                struct ext4_group g;

                T_CHECK(ext4_group_get(fs, group, 0, &g) == 0);
                T_CHECK(ext4_bitmap_load(fs, group, &g, EXT4_BLOCK_BITMAP, bytes) == 0);
                for (uint32_t i = 0; i < nr; i++) {
                        ext4_fsblk_t blk = fs->first_data_block +
                                           (uint64_t)group * fs->blocks_per_group +
                                           ((uint64_t)i << fs->cluster_bits);
                        bool is_free = !(bytes[i / 8] >> i % 8 & 1);

                        if (blk + (1u << fs->cluster_bits) <= fs->nr_blocks &&
                            st->j.told[blk << fs->block_bits >> 10] != is_free)
                                fail_msg("%s: block %llu, free %d", name,
                                         (unsigned long long)blk, is_free);
                }
        }
        free(bytes);
        T_CHECK(t_write_end(&w) == 0);
}

static void free_space_and_nothing_else(void **state)
{
        for (size_t i = 0; i < ARRAY_LEN(t_configs); i += t_sweep_step(5)) {
                const struct t_config *c = &t_configs[i];
                struct stage st;
                uint64_t trimmed;

                begin(&st, c->options, c->mib, "rw");
                make(&st, "keep", 100 << 10, 1);
                make(&st, "drop", 300 << 10, 2);
                drop(&st, "drop");
                make(&st, "after", 5 << 10, 3);
                again(&st); /* what is kept for files that are in memory is not trimmed */
                t_assert_row(c->name, uext4_trim(st.fs, 0, UINT64_MAX, 0, &trimmed), 0);
                t_assert_row(c->name, trimmed, st.j.nr_bytes);
                check(&st, "keep", 100 << 10, 1);
                check(&st, "after", 5 << 10, 3);
                end(&st, c->name);
                compare_with_bitmaps(&st, c->name);
                forget(&st);
        }
}

#define PLAIN "-b 1024 -g 8192 -O " T_EXT4

static void a_range_and_a_minimum(void **state)
{
        static const struct {
                uint64_t start, len, least;
                int64_t want; /* -1: something */
        } cases[] = {
                {34 << 20, 4 << 20, 0, 4 << 20},
                {(34 << 20) + 1, 4 << 20, 0, (4 << 20) - 1024},
                {(34 << 20) + 1024, 1024, 0, 1024},
                {(34 << 20), 1024, 1025, 0},
                {34 << 20, 4 << 20, 8 << 20, 0},
                {34 << 20, UINT64_MAX, 0, -1},
                {0, 1024, 0, 0},
                {0, UINT64_MAX, 8 << 20, 8 << 20},
                {48 << 20, 1024, 0, -EINVAL},
                {UINT64_MAX, UINT64_MAX, 0, -EINVAL},
                {0, 1023, 0, -EINVAL},
                {0, UINT64_MAX, (8 << 20) + 1, -EINVAL},
                {0, UINT64_MAX, UINT64_MAX, -EINVAL},
        };
        struct stage st;

        begin(&st, PLAIN, 48, "rw");
        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
                uint64_t trimmed = 0;
                int64_t ret;
                char row[16];

                snprintf(row, sizeof(row), "case %zu", i);
                junker_forget(&st.j, st.img.size);
                ret = uext4_trim(st.fs, cases[i].start, cases[i].len, cases[i].least, &trimmed);
                t_assert_row(row, trimmed, st.j.nr_bytes);
                if (cases[i].want < 0 && cases[i].want != -1)
                        t_assert_row(row, ret, cases[i].want);
                else
                        t_assert_row(row, ret, 0);
                if (cases[i].want == -1)
                        assert_true(trimmed > 10 << 20);
                else
                        t_assert_row(row, trimmed, cases[i].want < 0 ? 0 : cases[i].want);
        }
        end(&st, "range");
        forget(&st);
}

static void what_is_freed_waits_for_its_commit(void **state)
{
        uint64_t before, pending, after;
        struct stage st;

        begin(&st, PLAIN, 48, "rw,commit=100000");
        make(&st, "a", 1 << 20, 1);
        T_CHECK(uext4_syncfs(st.fs) == 0);
        assert_int_equal(uext4_trim(st.fs, 0, UINT64_MAX, 0, &before), 0);
        drop(&st, "a");
        assert_int_equal(uext4_trim(st.fs, 0, UINT64_MAX, 0, &pending), 0);
        assert_int_equal(pending, before);
        T_CHECK(uext4_syncfs(st.fs) == 0);
        assert_int_equal(uext4_trim(st.fs, 0, UINT64_MAX, 0, &after), 0);
        assert_int_equal(after, before + (1 << 20));
        end(&st, "pending");
        forget(&st);
}

static void who_must_not_or_cannot(void **state)
{
        struct uext4_mount_params params = {"ro", NULL, NULL};
        uint64_t trimmed = 7;
        struct uext4_fs *fs;
        struct junker j;
        struct stage st;

        begin(&st, PLAIN, 48, "rw");
        st.j.error = -EIO;
        assert_int_equal(uext4_trim(st.fs, 0, UINT64_MAX, 0, &trimmed), -EIO);
        st.j.error = -EOPNOTSUPP;
        assert_int_equal(uext4_trim(st.fs, 0, UINT64_MAX, 0, &trimmed), -EOPNOTSUPP);
        assert_int_equal(trimmed, 7);
        make(&st, "all", 10 << 20, 1); /* nothing stays out */
        end(&st, "refused");

        for (unsigned i = 0; i < 2; i++) {
                params.options = i ? "rw" : "ro";
                junker_open(&j, &st.img, i ? 0 : UEXT4_BDEV_CAP_DISCARD);
                T_CHECK(uext4_mount_bdev(&j.dev, &params, &fs) == 0);
                assert_int_equal(uext4_trim(fs, 0, UINT64_MAX, 0, &trimmed),
                                 i ? -EOPNOTSUPP : -EROFS);
                T_CHECK(uext4_unmount(fs) == 0);
                junker_done(&j);
                free(j.told);
        }
        forget(&st);
}

/* ---- others meanwhile ---- */

static void *trim_all(void *arg)
{
        struct stage *st = arg;
        uint64_t trimmed;

        T_CHECK(uext4_trim(st->fs, 0, UINT64_MAX, 0, &trimmed) == 0);
        return NULL;
}

static void *take_some(void *arg)
{
        make(arg, "a", 64 << 10, 1);
        T_CHECK(uext4_syncfs(((struct stage *)arg)->fs) == 0);
        atomic_store(&((struct stage *)arg)->j.nr_bytes, 0); /* it is over */
        return NULL;
}

/* All that is free is one run, and the device is at it: who wants some of it gets it later. */
static void who_finds_nothing_waits(void **state)
{
        pthread_t trimmer, taker;
        struct stage st;

        begin(&st, "-b 1024 -O none", 4, "rw");
        st.j.nr_bytes = 1;
        st.j.hold = true;
        T_CHECK(pthread_create(&trimmer, NULL, trim_all, &st) == 0);
        pthread_mutex_lock(&st.j.lock);
        while (!st.j.is_inside)
                pthread_cond_wait(&st.j.cond, &st.j.lock);
        pthread_mutex_unlock(&st.j.lock);
        T_CHECK(pthread_create(&taker, NULL, take_some, &st) == 0);
        usleep(100000);
        assert_int_equal(st.j.nr_bytes, 1);
        pthread_mutex_lock(&st.j.lock);
        st.j.hold = false;
        pthread_cond_broadcast(&st.j.cond);
        pthread_mutex_unlock(&st.j.lock);
        pthread_join(taker, NULL);
        pthread_join(trimmer, NULL);
        check(&st, "a", 64 << 10, 1);
        end(&st, "waiting");
        forget(&st);
}

#define NR_WRITERS 3
#define NR_ROUNDS  (t_is_long() ? 2000 : 40)

struct crowd {
        struct stage st;
        _Atomic unsigned nr_left;
};

/* Files of all sizes come and go; what is there is as it was written. */
static void write_or_trim(void *arg, unsigned n)
{
        struct crowd *c = arg;
        size_t lens[4] = {0};
        uint64_t rng = n + 1, trimmed;
        char name[16];

        for (int round = 0; n < NR_WRITERS && round < NR_ROUNDS; round++) {
                unsigned i = (unsigned)t_below(&rng, 4);

                snprintf(name, sizeof(name), "%u-%u", n, i);
                if (lens[i]) {
                        check(&c->st, name, lens[i], n + 7 * i);
                        drop(&c->st, name);
                }
                lens[i] = 4096 * (1 + t_below(&rng, 200));
                make(&c->st, name, lens[i], n + 7 * i);
                if (round % 8 == 0)
                        T_CHECK(uext4_syncfs(c->st.fs) == 0);
        }
        for (unsigned i = 0; n < NR_WRITERS && i < 4; i++) {
                snprintf(name, sizeof(name), "%u-%u", n, i);
                if (lens[i])
                        check(&c->st, name, lens[i], n + 7 * i);
        }
        if (n < NR_WRITERS) {
                atomic_fetch_sub(&c->nr_left, 1);
                return;
        }
        while (atomic_load(&c->nr_left) > 0)
                T_CHECK(uext4_trim(c->st.fs, 0, UINT64_MAX, 0, &trimmed) == 0);
}

static void while_others_write(void **state)
{
        struct crowd c = {.nr_left = NR_WRITERS};

        begin(&c.st, "-b 1024 -g 8192 -O " T_EXT4, 24, "rw");
        t_run_threads(NR_WRITERS + 2, write_or_trim, &c);
        end(&c.st, "threads");
        forget(&c.st);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(free_space_and_nothing_else),
                cmocka_unit_test(a_range_and_a_minimum),
                cmocka_unit_test(what_is_freed_waits_for_its_commit),
                cmocka_unit_test(who_must_not_or_cannot),
                cmocka_unit_test(who_finds_nothing_waits),
                cmocka_unit_test(while_others_write),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
