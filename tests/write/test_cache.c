/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Buffered reads and writes, delayed allocation and writing back, as a caller sees them:
 * through the public API, on a simulated device under the fault filter and one whose requests
 * can be stopped (held.h).  The free space of all images holds a pattern that nobody writes.
 */

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sched.h>

#include "../change/rig.h"
#include "ext4/balloc_group.h"
#include "ext4/delayed.h"
#include "held.h"
#include "jbd2/jbd2.h"
#include "vfs/pages.h"

#define FEATURES                                                                           \
        "has_journal,extents,huge_file,flex_bg,64bit,dir_nlink,extra_isize,metadata_csum," \
        "large_file,filetype,sparse_super"
#define EXT4_4K "-b 4096 -I 256 -N 64 -J size=4 -O none," FEATURES
#define EXT4_1K "-b 1024 -I 256 -N 64 -J size=1 -O none," FEATURES
#define EXT3_1K \
        "-b 1024 -I 256 -N 64 -J size=1 -O none,has_journal,filetype,sparse_super,large_file"
#define BIGALLOC "-b 1024 -C 8192 -I 256 -N 64 -J size=1 -O none,bigalloc," FEATURES

#define DEPTH 16
#define BUF   (4u << 20)

struct stage {
        struct uext4_bdev *sim, *fault, *dev;
        size_t size;
        struct rig_mount m;
        struct uext4_file *file, *direct;
        struct uext4_queue *queue;
        uint8_t *buf; /* BUF bytes */
};

static void t_begin(struct stage *st, const char *options)
{
        char words[128];

        snprintf(words, sizeof(words), RIG_OPTIONS "%s", options);
        assert_int_equal(rig_mount(&st->m, st->dev, words), 0);
        assert_int_equal(uext4_open_path(st->m.fs, "/file", O_RDWR, &st->file), 0);
        assert_int_equal(uext4_open_path(st->m.fs, "/file", O_RDWR | O_DIRECT, &st->direct), 0);
        assert_int_equal(uext4_queue_new(st->m.fs, DEPTH, &st->queue), 0);
}

static void t_give_back(struct stage *st)
{
        uext4_queue_free(st->queue);
        uext4_close(st->file);
        uext4_close(st->direct);
}

static void t_remount(struct stage *st, const char *options)
{
        t_give_back(st);
        assert_int_equal(rig_unmount(&st->m), 0);
        t_begin(st, options);
}

static void t_open(struct stage *st, const char *mkfs, uint64_t mib, const char *options)
{
        struct t_image img = rig_make(mib << 20, mkfs, NULL,
                                      "write /dev/null file\\nwrite /dev/null other\\n");

        *st = (struct stage){.size = img.size};
        st->sim = t_open_sim(&img, 1);
        assert_int_equal(uext4_bdev_open_fault(st->sim, &st->fault), 0);
        st->dev = held_open(st->fault);
        t_image_free(&img);
        t_begin(st, options);
        st->buf = t_alloc(BUF);
        memset(st->buf, 'x', BUF);
}

/* Unmount, which may say `want`, and what e2fsck says. */
static void t_close_with(struct stage *st, int want)
{
        t_give_back(st);
        assert_int_equal(rig_unmount(&st->m), want);
        rig_close_sim(st->sim, st->dev);
        free(st->buf);
}

static void t_close(struct stage *st)
{
        t_close_with(st, 0);
}

/* ---- shorthand ---- */

static ssize_t t_write_to(struct stage *st, struct uext4_file *file, char c, uint64_t pos,
                          uint64_t len)
{
        assert_true(len <= BUF);
        memset(st->buf, c, len);
        return uext4_pwrite(file, st->buf, len, pos);
}

#define t_must_write(st, c, pos, len) \
        assert_int_equal(t_write_to((st), (st)->file, (c), (pos), (len)), (len))
#define t_must_write_direct(st, c, pos, len) \
        assert_int_equal(t_write_to((st), (st)->direct, (c), (pos), (len)), (len))
#define t_must_sync(st) assert_int_equal(uext4_fsync((st)->file), 0)

static void t_assert_in(struct uext4_file *file, char want, uint64_t pos, uint64_t len)
{
        uint8_t *got = t_alloc(len);

        assert_int_equal(uext4_pread(file, got, len, pos), (ssize_t)len);
        for (uint64_t i = 0; i < len; i++) {
                if (got[i] != (uint8_t)want)
                        fail_msg("byte %llu is %u, not %u", (unsigned long long)(pos + i),
                                 got[i], (uint8_t)want);
        }
        free(got);
}

static void t_assert_bytes(struct stage *st, char want, uint64_t pos, uint64_t len)
{
        t_assert_in(st->file, want, pos, len);
}

static struct uext4_stat t_stat(struct stage *st)
{
        struct uext4_stat s;

        assert_int_equal(uext4_stat(uext4_file_inode(st->file), &s), 0);
        return s;
}

static struct ext4_inode *t_inode(struct stage *st)
{
        return st->file->inode;
}

static struct vfs_pagecache *t_cache(struct stage *st)
{
        return &rig_fs(&st->m)->vfs.pagecache;
}

static bool t_is_dirty(struct stage *st)
{
        return vfs_has_dirty(&t_inode(st)->vfs.pages);
}

static uint64_t t_free_blocks(struct stage *st)
{
        struct statvfs s;

        assert_int_equal(uext4_statfs(st->m.fs, &s), 0);
        return s.f_bfree;
}

/* As a power cut right now would have it: what is durable, or all that was written. */
static void t_cut(struct stage *st, enum uext4_bdev_sim_mode mode, struct t_image *img)
{
        struct uext4_bdev_sim_survivor how = {.mode = mode};

        *img = (struct t_image){.size = st->size, .data = t_alloc(st->size)};
        assert_int_equal(uext4_bdev_sim_survivor(st->sim, &how, img->data), 0);
}

struct found {
        struct uext4_bdev *dev;
        struct rig_mount m;
        struct uext4_file *file;
        uint64_t size;
};

static void found_open(struct found *f, const struct t_image *img)
{
        struct uext4_stat s;

        f->dev = rig_open_image(img);
        assert_int_equal(rig_mount(&f->m, f->dev, RIG_OPTIONS), 0);
        assert_int_equal(uext4_open_path(f->m.fs, "/file", O_RDONLY, &f->file), 0);
        assert_int_equal(uext4_stat(uext4_file_inode(f->file), &s), 0);
        f->size = s.size;
}

static void found_close(struct found *f, struct t_image *img)
{
        uext4_close(f->file);
        rig_end(&f->m, f->dev, img);
}

/* ---- what reports say ---- */

#define t_assert_seek(st, from, whence, want) \
        assert_int_equal(uext4_seek((st)->file, (from), (whence)), (want))

/* The extents of the whole file. */
static int t_fiemap(struct stage *st, struct fiemap_extent *fe, unsigned max)
{
        int n = uext4_fiemap(st->file, 0, UINT64_MAX, fe, max);

        assert_true(n >= 0);
        return n;
}

static void delayed_data_is_reported_B21(void **state)
{
        struct fiemap_extent fe[8];
        struct stage st;

        t_open(&st, EXT4_4K, 16, "");
        t_must_write(&st, 'a', 65536, 8192);
        assert_true(t_is_dirty(&st));
        t_assert_seek(&st, 0, SEEK_DATA, 65536);
        t_assert_seek(&st, 0, SEEK_HOLE, 0);
        t_assert_seek(&st, 65536, SEEK_HOLE, 65536 + 8192);
        t_assert_seek(&st, 70000, SEEK_DATA, 70000);
        assert_int_equal(t_fiemap(&st, fe, 8), 1);
        assert_int_equal(fe[0].fe_logical, 65536);
        assert_int_equal(fe[0].fe_length, 8192);
        assert_int_equal(fe[0].fe_flags,
                         FIEMAP_EXTENT_DELALLOC | FIEMAP_EXTENT_UNKNOWN | FIEMAP_EXTENT_LAST);
        /* A program that takes a file without blocks for one without data must not. */
        assert_int_equal(t_stat(&st).blocks, 16);
        t_must_sync(&st);
        assert_int_equal(t_stat(&st).blocks, 16);
        assert_int_equal(t_fiemap(&st, fe, 8), 1);
        assert_int_equal(fe[0].fe_flags, FIEMAP_EXTENT_LAST);
        t_assert_seek(&st, 0, SEEK_DATA, 65536);
        t_close(&st);
}

static void dirty_pages_over_unwritten_space_are_data_B22(void **state)
{
        struct fiemap_extent fe[8];
        struct stage st;

        t_open(&st, EXT4_4K, 16, "");
        assert_int_equal(uext4_fallocate(st.file, 0, 0, 131072), 0);
        t_assert_seek(&st, 0, SEEK_DATA, -ENXIO);
        t_must_write(&st, 'a', 16384, 4096);
        t_assert_seek(&st, 0, SEEK_DATA, 16384);
        t_assert_seek(&st, 16384, SEEK_HOLE, 20480);
        t_assert_seek(&st, 20480, SEEK_DATA, -ENXIO);
        assert_int_equal(t_fiemap(&st, fe, 8), 1);
        assert_int_equal(fe[0].fe_flags, FIEMAP_EXTENT_UNWRITTEN | FIEMAP_EXTENT_LAST);
        t_must_sync(&st);
        t_assert_seek(&st, 0, SEEK_DATA, 16384);
        t_assert_seek(&st, 16384, SEEK_HOLE, 20480);
        assert_int_equal(t_fiemap(&st, fe, 8), 3);
        t_close(&st);
}

/* One dirty block of a large folio that was read: the rest of it stays a hole. */
static void a_large_folio_is_reported_by_blocks_B22(void **state)
{
        struct fiemap_extent fe[8];
        struct stage st;

        t_open(&st, EXT4_1K, 16, "");
        assert_int_equal(uext4_truncate(st.file, 1 << 20), 0);
        t_assert_bytes(&st, 0, 0, 1 << 20);
        t_must_write(&st, 'a', 300 << 10, 1024);
        t_assert_seek(&st, 0, SEEK_DATA, 300 << 10);
        t_assert_seek(&st, 300 << 10, SEEK_HOLE, 301 << 10);
        t_assert_seek(&st, 301 << 10, SEEK_DATA, -ENXIO);
        assert_int_equal(t_fiemap(&st, fe, 8), 1);
        assert_int_equal(fe[0].fe_logical, 300 << 10);
        assert_int_equal(fe[0].fe_length, 1024);
        t_must_sync(&st);
        t_assert_seek(&st, 0, SEEK_DATA, 300 << 10);
        t_assert_seek(&st, 300 << 10, SEEK_HOLE, 301 << 10);
        t_close(&st);
}

/* ---- direct and buffered, side by side ---- */

static int64_t t_queue_one(struct stage *st, enum uext4_req_op op, uint64_t pos, uint64_t len,
                           int flags)
{
        const struct iovec iov = {st->buf, len};
        const struct uext4_request req = {.op = op,
                                          .file = st->direct,
                                          .iov = &iov,
                                          .nr_iov = 1,
                                          .pos = pos,
                                          .flags = flags};
        struct uext4_completion c;

        assert_int_equal(uext4_queue_submit(st->queue, &req, 1), 1);
        assert_int_equal(uext4_queue_wait(st->queue, &c, 1, 1, -1), 1);
        return c.result;
}

static void write_one_way(struct stage *st, unsigned way, char c, uint64_t pos, uint64_t len)
{
        memset(st->buf, c, len);
        if (way == 0)
                assert_int_equal(uext4_pwrite(st->file, st->buf, len, pos), len);
        else if (way == 1)
                assert_int_equal(uext4_pwrite(st->direct, st->buf, len, pos), len);
        else
                assert_int_equal(t_queue_one(st, UEXT4_WRITE, pos, len, 0), len);
}

static void read_one_way(struct stage *st, unsigned way, uint8_t *to, uint64_t pos,
                         uint64_t len)
{
        if (way == 0) {
                assert_int_equal(uext4_pread(st->file, to, len, pos), len);
        } else if (way == 1) {
                assert_int_equal(uext4_pread(st->direct, to, len, pos), len);
        } else {
                assert_int_equal(t_queue_one(st, UEXT4_READ, pos, len, 0), len);
                memcpy(to, st->buf, len);
        }
}

/* B28: each way of reading sees what was written each other way just before, in parts of
 * blocks, whole blocks and many; with the whole range in the cache or not. */
static void all_ways_see_each_other(const char *mkfs, const char *options)
{
        static const struct {
                uint64_t pos, len;
        } ranges[] = {{0, 65536}, {4096, 512}, {5120, 1536}, {12288, 4096}, {30208, 20480}};
        uint8_t *model = t_alloc(65536), *got = aligned_alloc(4096, 65536);
        struct stage st;
        char c = 'a';

        t_open(&st, mkfs, 16, options);
        for (unsigned w = 0; w < 3; w++) {
                for (unsigned r = 0; r < 3; r++) {
                        for (unsigned i = 0; i < ARRAY_LEN(ranges); i++) {
                                c = c == 'z' ? 'a' : (char)(c + 1);
                                write_one_way(&st, w, c, ranges[i].pos, ranges[i].len);
                                memset(model + ranges[i].pos, c, ranges[i].len);
                                read_one_way(&st, r, got, 0, 65536);
                                assert_memory_equal(got, model, 65536);
                        }
                        if (w % 2)
                                t_must_sync(&st);
                }
        }
        t_remount(&st, options);
        assert_int_equal(uext4_pread(st.file, got, 65536, 0), 65536);
        assert_memory_equal(got, model, 65536);
        t_close(&st);
        free(model);
        free(got);
}

static void all_ways_see_each_other_B28(void **state)
{
        all_ways_see_each_other(EXT4_4K, "");
        all_ways_see_each_other(EXT4_1K, ",nodelalloc");
        all_ways_see_each_other(EXT3_1K, "");
        all_ways_see_each_other(BIGALLOC, "");
}

/* C13, C17: the page that has the end of the file is not older than the size. */
static void the_page_at_the_end_is_not_stale_C17(void **state)
{
        struct stage st;

        t_open(&st, EXT4_4K, 16, "");
        t_must_write(&st, 'a', 0, 5000);
        t_must_sync(&st);
        t_assert_bytes(&st, 'a', 0, 5000);
        t_must_write_direct(&st, 'b', 5120, 512); /* in the same block */
        t_assert_bytes(&st, 'a', 0, 5000);
        t_assert_bytes(&st, 0, 5000, 120);
        t_assert_bytes(&st, 'b', 5120, 512);
        t_must_write_direct(&st, 'c', 16384, 4096);
        t_assert_bytes(&st, 0, 5632, 16384 - 5632);
        t_assert_bytes(&st, 'c', 16384, 4096);
        assert_int_equal(uext4_truncate(st.file, 17000), 0);
        t_assert_bytes(&st, 'c', 16384, 616);
        assert_int_equal(uext4_truncate(st.file, 30000), 0);
        t_assert_bytes(&st, 0, 17000, 13000); /* C23 */
        t_must_write(&st, 'd', 40000, 100);
        t_assert_bytes(&st, 0, 17000, 23000);
        t_remount(&st, "");
        t_assert_bytes(&st, 'b', 5120, 512);
        t_assert_bytes(&st, 0, 17000, 23000);
        t_assert_bytes(&st, 'd', 40000, 100);
        t_close(&st);
}

/*
 * A write looks at the mapping once, and then fills folio after folio.  Meanwhile what was
 * dirty may be written back and leave the cache: the rest of a block that is written in part
 * must come from the device then.
 */
static void a_block_that_left_the_cache_in_a_write_is_whole_C40(void **state)
{
        static const char *const options[] = {",page_cache=1M", ",page_cache=1M,nodelalloc"};
        const uint64_t len = 3 << 20;

        for (unsigned i = 0; i < 2 * ARRAY_LEN(options); i++) {
                struct stage st;

                t_open(&st, i < 2 ? EXT4_4K : EXT4_1K, 24, options[i % 2]);
                if (i % 2 == 0)
                        assert_int_equal(uext4_fallocate(st.file, 0, 0, 4 << 20), 0);
                t_must_write(&st, 'o', len + 200, 300);
                t_must_write(&st, 'n', 0, len + 50);
                t_assert_bytes(&st, 'n', 0, len + 50);
                t_assert_bytes(&st, 0, len + 50, 150);
                t_assert_bytes(&st, 'o', len + 200, 300);
                t_close(&st);
        }
}

/* B30: what is read into the cache while a direct write is on its way may be older. */
static void what_was_read_in_a_direct_write_leaves_the_cache_B30(void **state)
{
        struct uext4_completion c;
        struct iovec iov;
        struct stage st;

        t_open(&st, EXT4_4K, 16, "");
        t_must_write_direct(&st, 'o', 0, 65536);
        t_must_sync(&st);
        iov = (struct iovec){st.buf, 8192};
        memset(st.buf, 'n', 8192);
        held_stop(st.dev);
        {
                const struct uext4_request req = {.op = UEXT4_WRITE,
                                                  .file = st.direct,
                                                  .iov = &iov,
                                                  .nr_iov = 1,
                                                  .pos = 4096};

                assert_int_equal(uext4_queue_submit(st.queue, &req, 1), 1);
        }
        t_assert_bytes(&st, 'o', 0, 65536);
        held_go(st.dev);
        assert_int_equal(uext4_queue_wait(st.queue, &c, 1, 1, -1), 1);
        assert_int_equal(c.result, 8192);
        t_assert_bytes(&st, 'o', 0, 4096);
        t_assert_bytes(&st, 'n', 4096, 8192);
        t_assert_bytes(&st, 'o', 12288, 65536 - 12288);
        t_close(&st);
}

/* ---- order and size ---- */

/* C20, C21: the size on disk waits for the data, whatever else is committed. */
static void the_size_waits_for_the_data_C20(void **state)
{
        static const char *const mkfs[] = {EXT4_4K, EXT4_1K, EXT3_1K, BIGALLOC};

        for (unsigned i = 0; i < ARRAY_LEN(mkfs); i++) {
                struct t_image img;
                struct found f;
                struct stage st;

                t_open(&st, mkfs[i], 16, "");
                t_must_write(&st, 'a', 0, 20000);
                assert_int_equal(jbd2_commit_all(rig_fs(&st.m)->journal), 0);
                t_cut(&st, UEXT4_BDEV_SIM_NONE, &img);
                found_open(&f, &img);
                assert_int_equal(f.size, 0);
                found_close(&f, &img);
                t_must_sync(&st);
                t_cut(&st, UEXT4_BDEV_SIM_NONE, &img);
                found_open(&f, &img);
                assert_int_equal(f.size, 20000);
                t_assert_in(f.file, 'a', 0, 20000);
                found_close(&f, &img);
                t_close(&st);
        }
}

/* Data behind the size on disk is written in order: a part of it that somebody needs on the
 * device does not make the size pass what is only in memory. */
static void the_size_does_not_pass_data_in_memory_C20(void **state)
{
        struct t_image img;
        struct found f;
        struct stage st;

        t_open(&st, EXT4_4K, 16, "");
        t_must_write(&st, 'a', 0, 4096);
        for (uint64_t pos = 4096; pos < 262144; pos += 4096)
                t_must_write(&st, 'b', pos, 4096);
        t_assert_in(st.direct, 'b', 131072, 4096);
        assert_int_equal(jbd2_commit_all(rig_fs(&st.m)->journal), 0);
        t_cut(&st, UEXT4_BDEV_SIM_NONE, &img);
        found_open(&f, &img);
        if (f.size > 4096)
                t_assert_in(f.file, 'b', 4096, f.size - 4096);
        found_close(&f, &img);
        t_close(&st);
}

/* C22: punching takes dirty pages away that have the end of the file. */
static void the_size_outlives_punching_its_pages_C22(void **state)
{
        struct stage st;

        t_open(&st, EXT4_4K, 16, "");
        for (uint64_t pos = 0; pos < 65536; pos += 4096)
                t_must_write(&st, 'a', pos, 4096);
        assert_int_equal(uext4_fallocate(st.file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                         32768, 65536),
                         0);
        assert_int_equal(t_stat(&st).size, 65536);
        t_remount(&st, "");
        assert_int_equal(t_stat(&st).size, 65536);
        t_assert_bytes(&st, 'a', 0, 32768);
        t_assert_bytes(&st, 0, 32768, 32768);
        t_close(&st);
}

static void unmount_writes_everything(void **state)
{
        static const char *const options[] = {"", ",nodelalloc", ",page_cache=1M",
                                              ",data=writeback", ",page_cache=1M,nodelalloc"};

        for (unsigned i = 0; i < ARRAY_LEN(options); i++) {
                struct uext4_file *other;
                struct stage st;

                t_open(&st, EXT4_1K, 16, options[i]);
                assert_int_equal(uext4_open_path(st.m.fs, "/other", O_WRONLY, &other), 0);
                t_must_write(&st, 'a', 100, 2 << 20);
                assert_int_equal(t_write_to(&st, other, 'b', 0, 3 << 20), 3 << 20);
                uext4_close(other);
                t_must_write(&st, 'c', 100000, 100);
                t_remount(&st, options[i]);
                assert_int_equal(t_stat(&st).size, 100 + (2 << 20));
                t_assert_bytes(&st, 0, 0, 100);
                t_assert_bytes(&st, 'a', 100, 99900);
                t_assert_bytes(&st, 'c', 100000, 100);
                t_assert_bytes(&st, 'a', 100100, (2 << 20) - 100000);
                assert_int_equal(uext4_open_path(st.m.fs, "/other", O_RDONLY, &other), 0);
                t_assert_in(other, 'b', 0, 3 << 20);
                uext4_close(other);
                t_close(&st);
        }
}

/* ---- others change the file ---- */

static void changes_of_the_file_over_dirty_data_C39(void **state)
{
        const uint32_t unit = 8192;
        struct stage st;

        for (unsigned i = 0; i < 4; i++) {
                static const char *const mkfs[] = {EXT4_4K, EXT4_1K, BIGALLOC, EXT4_1K};

                t_open(&st, mkfs[i], 16, i == 3 ? ",nodelalloc" : "");
                for (unsigned n = 0; n < 16; n++)
                        t_must_write(&st, (char)('a' + n), n * unit, unit);
                assert_int_equal(
                        uext4_fallocate(st.file, FALLOC_FL_COLLAPSE_RANGE, 2 * unit, 2 * unit),
                        0); /* ab efghijklmnop */
                t_assert_bytes(&st, 'e', 2 * unit, unit);
                t_must_write(&st, 'E', 2 * unit + 100, 100);
                assert_int_equal(
                        uext4_fallocate(st.file, FALLOC_FL_INSERT_RANGE, 2 * unit, unit),
                        0); /* ab.efghijklmnop */
                t_assert_bytes(&st, 0, 2 * unit, unit);
                t_assert_bytes(&st, 'E', 3 * unit + 100, 100);
                t_must_write(&st, 'F', 4 * unit, unit);
                assert_int_equal(uext4_fallocate(st.file,
                                                 FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                                 4 * unit + 700, 2 * unit),
                                 0);
                t_assert_bytes(&st, 'F', 4 * unit, 700);
                t_assert_bytes(&st, 0, 4 * unit + 700, 2 * unit);
                t_assert_bytes(&st, 'h', 6 * unit + 700, unit - 700);
                t_must_write(&st, 'I', 7 * unit, unit);
                assert_int_equal(
                        uext4_fallocate(st.file, FALLOC_FL_ZERO_RANGE, 7 * unit + 10, unit), 0);
                t_assert_bytes(&st, 'I', 7 * unit, 10);
                t_assert_bytes(&st, 0, 7 * unit + 10, unit);
                t_must_write(&st, 'J', 9 * unit, 3 * unit);
                assert_int_equal(uext4_truncate(st.file, 10 * unit + 77), 0);
                assert_int_equal(uext4_truncate(st.file, 20 * unit), 0);
                t_remount(&st, "");
                t_assert_bytes(&st, 'b', unit, unit);
                t_assert_bytes(&st, 0, 2 * unit, unit);
                t_assert_bytes(&st, 'e', 3 * unit, 100);
                t_assert_bytes(&st, 'E', 3 * unit + 100, 100);
                t_assert_bytes(&st, 'F', 4 * unit, 700);
                t_assert_bytes(&st, 0, 4 * unit + 700, 2 * unit);
                t_assert_bytes(&st, 'I', 7 * unit, 10);
                t_assert_bytes(&st, 0, 7 * unit + 10, unit);
                t_assert_bytes(&st, 'J', 9 * unit, unit + 77);
                t_assert_bytes(&st, 0, 10 * unit + 77, 10 * unit - 77);
                t_close(&st);
        }
}

static uint64_t nr_device_writes(struct stage *st)
{
        return vfs_counter_sum(&rig_fs(&st->m)->vfs, VFS_DEVICE_WRITES);
}

static void what_is_deleted_is_not_written(void **state)
{
        struct uext4_inode *root;
        uint64_t writes, nr_free;
        struct stage st;

        t_open(&st, EXT4_4K, 16, "");
        assert_int_equal(uext4_resolve(st.m.fs, "/", 0, &root), 0);
        nr_free = t_free_blocks(&st);
        writes = nr_device_writes(&st);
        t_must_write(&st, 'a', 0, 4 << 20);
        /* For the map there is something promised, too. */
        assert_in_range(nr_free - t_free_blocks(&st), 1024, 1024 + 64);
        assert_int_equal(uext4_truncate(st.file, 0), 0);
        assert_int_equal(t_free_blocks(&st), nr_free);
        t_must_write(&st, 'b', 0, 2 << 20);
        assert_int_equal(uext4_unlink(root, "file", 4), 0);
        t_assert_bytes(&st, 'b', 0, 2 << 20);
        t_give_back(&st);
        assert_int_equal(t_free_blocks(&st), nr_free);
        assert_int_equal(nr_device_writes(&st), writes);
        assert_int_equal(atomic_load(&t_cache(&st)->bytes), 0);
        uext4_inode_put(root);
        st.file = st.direct = NULL;
        st.queue = NULL;
        t_close(&st);
}

/* ---- errors ---- */

static void t_fail_writes(struct stage *st, uint64_t count)
{
        const struct uext4_bdev_fault rule = {
                .ops = 1u << UEXT4_BDEV_WRITE, .count = count, .error = -EIO};

        assert_int_equal(uext4_bdev_fault_add(st->fault, &rule), 0);
}

static void an_error_is_told_each_file_once_C32(void **state)
{
        struct uext4_file *second, *later;
        struct stage st;

        t_open(&st, EXT4_4K, 16, "");
        assert_int_equal(uext4_open_path(st.m.fs, "/file", O_RDONLY, &second), 0);
        t_must_write(&st, 'a', 0, 65536);
        t_fail_writes(&st, 1); /* the first is the data's */
        assert_int_equal(uext4_fsync(st.file), -EIO);
        uext4_bdev_fault_clear(st.fault);
        assert_int_equal(uext4_open_path(st.m.fs, "/file", O_RDONLY, &later), 0);
        assert_int_equal(uext4_fsync(later), 0);
        assert_int_equal(uext4_fsync(st.file), 0);
        assert_int_equal(uext4_fdatasync(second), -EIO);
        assert_int_equal(uext4_fsync(second), 0);
        assert_int_equal(uext4_fsync(st.direct), -EIO);
        assert_int_equal(uext4_fsync(st.direct), 0);
        uext4_close(second);
        uext4_close(later);
        /* Nothing was converted, and nothing stale is there. */
        t_remount(&st, "");
        if (t_stat(&st).size > 0)
                t_assert_bytes(&st, 0, 0, t_stat(&st).size);
        t_must_write(&st, 'b', 0, 65536);
        t_remount(&st, "");
        t_assert_bytes(&st, 'b', 0, 65536);
        t_close(&st);
}

/* A write that makes its data durable tells what fsync would, and so tells it for good; also
 * of what was written before it. */
static void an_error_of_a_durable_write_is_told_once_C32(void **state)
{
        struct uext4_file *durable;
        struct stage st;

        t_open(&st, EXT4_4K, 16, "");
        assert_int_equal(uext4_open_path(st.m.fs, "/file", O_RDWR | O_DSYNC, &durable), 0);
        t_fail_writes(&st, 1); /* the first is the data's */
        assert_int_equal(t_write_to(&st, durable, 'a', 0, 4096), -EIO);
        uext4_bdev_fault_clear(st.fault);
        assert_int_equal(uext4_fsync(durable), 0);
        assert_int_equal(t_write_to(&st, durable, 'a', 0, 4096), 4096);
        assert_int_equal(uext4_fsync(st.file), -EIO);
        t_must_write(&st, 'b', 65536, 4096);
        t_fail_writes(&st, 1);
        assert_int_equal(uext4_syncfs(st.m.fs), -EIO);
        uext4_bdev_fault_clear(st.fault);
        assert_int_equal(t_write_to(&st, durable, 'c', 0, 4096), -EIO);
        assert_int_equal(t_write_to(&st, durable, 'c', 0, 4096), 4096);
        assert_int_equal(uext4_fsync(st.file), -EIO);
        assert_int_equal(uext4_fsync(st.file), 0);
        uext4_close(durable);
        t_close(&st);
}

/* Who closes without an fsync has not been told: then unmount tells.  Of a file that is gone
 * there is nothing to tell. */
static void an_error_that_no_file_was_told_of_is_told_by_unmount(void **state)
{
        struct stage st;

        for (unsigned is_removed = 0; is_removed < 2; is_removed++) {
                t_open(&st, EXT4_4K, 16, "");
                t_must_write(&st, 'a', 0, 65536);
                t_fail_writes(&st, 1);
                assert_int_equal(uext4_truncate(st.file, 100000), 0); /* writes it back */
                uext4_bdev_fault_clear(st.fault);
                assert_false(t_is_dirty(&st));
                if (is_removed) {
                        struct uext4_inode *root;

                        assert_int_equal(uext4_inode_get(st.m.fs, UEXT4_ROOT_INO, 0, &root), 0);
                        assert_int_equal(uext4_unlink(root, "file", 4), 0);
                        uext4_inode_put(root);
                }
                t_close_with(&st, is_removed ? 0 : -EIO);
        }
}

static bool t_is_journalled(struct stage *st)
{
        uint32_t flags;

        assert_int_equal(uext4_get_flags(uext4_file_inode(st->file), &flags), 0);
        return flags & FS_JOURNAL_DATA_FL;
}

static int t_allocate(struct stage *st, int mode)
{
        return uext4_fallocate(st->file, mode, 16384, 16384);
}

static int t_turn(struct stage *st, int flag)
{
        return uext4_set_flags(uext4_file_inode(st->file), FS_EXTENT_FL ^ (uint32_t)flag);
}

/* Who changes where data lies, or zeroes what is beside it, needs it on the device: when it
 * cannot be written back he says so, as fsync does, and has done nothing. */
static void what_needs_the_data_on_the_device_tells_its_error_C39(void **state)
{
        static const struct {
                const char *name;
                int (*fn)(struct stage *st, int arg);
                int arg;
        } rows[] = {
                {"allocate", t_allocate, FALLOC_FL_KEEP_SIZE},
                {"punch", t_allocate, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE},
                {"zero", t_allocate, FALLOC_FL_ZERO_RANGE},
                {"collapse", t_allocate, FALLOC_FL_COLLAPSE_RANGE},
                {"insert", t_allocate, FALLOC_FL_INSERT_RANGE},
                {"map", t_turn, FS_EXTENT_FL},
                {"journal", t_turn, FS_JOURNAL_DATA_FL},
        };
        struct fiemap_extent fe[8], now[8];

        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
                struct stage st;
                int nr;

                t_open(&st, EXT4_4K, 16, "");
                t_must_write(&st, 'a', 0, 16384);
                t_must_write(&st, 'b', 24576, 40960);
                t_must_sync(&st);
                nr = t_fiemap(&st, fe, ARRAY_LEN(fe));
                t_must_write(&st, 'c', 40000, 5000);
                t_fail_writes(&st, 1);
                t_assert_row(rows[i].name, rows[i].fn(&st, rows[i].arg), -EIO);
                uext4_bdev_fault_clear(st.fault);
                t_assert_row(rows[i].name, t_stat(&st).size, 65536);
                t_assert_row(rows[i].name, t_fiemap(&st, now, ARRAY_LEN(now)), nr);
                assert_memory_equal(now, fe, (size_t)nr * sizeof(fe[0]));
                assert_false(t_is_journalled(&st));
                t_assert_bytes(&st, 'a', 0, 16384);
                t_assert_bytes(&st, 'b', 24576, 40000 - 24576);
                t_assert_row(rows[i].name, uext4_fsync(st.file), -EIO);
                t_assert_row(rows[i].name, rows[i].fn(&st, rows[i].arg), 0);
                t_assert_row(rows[i].name, uext4_fsync(st.file), 0);
                t_close(&st);
        }
}

/* The same of what nobody waits for. */
static void errors_in_the_background_are_told(void **state)
{
        struct uext4_file *second;
        struct stage st;

        t_open(&st, EXT4_4K, 16, ",page_cache=1M");
        assert_int_equal(uext4_open_path(st.m.fs, "/file", O_RDONLY, &second), 0);
        t_fail_writes(&st, 1);
        t_must_write(&st, 'a', 0, 384 << 10); /* more than a quarter: the thread is called */
        while (t_is_dirty(&st))
                sched_yield();
        uext4_bdev_fault_clear(st.fault);
        assert_int_equal(uext4_fsync(st.file), -EIO);
        assert_int_equal(uext4_fsync(st.file), 0);
        assert_int_equal(uext4_fsync(second), -EIO);
        assert_int_equal(uext4_fsync(second), 0);
        uext4_close(second);
        t_close(&st);
}

/* The space that was promised to what could not be written comes back. */
static void promises_of_failed_writes_come_back(void **state)
{
        uint64_t nr_free;
        struct stage st;

        t_open(&st, EXT4_4K, 16, "");
        nr_free = t_free_blocks(&st);
        t_must_write(&st, 'a', 0, 1 << 20);
        t_fail_writes(&st, 1);
        assert_int_equal(uext4_fsync(st.file), -EIO);
        uext4_bdev_fault_clear(st.fault);
        assert_int_equal(uext4_truncate(st.file, 0), 0);
        assert_int_equal(uext4_syncfs(st.m.fs), 0);
        assert_int_equal(t_free_blocks(&st), nr_free);
        t_close(&st);
}

/* Whatever allocation fails in a write or a read: what was acknowledged is there. */
static void without_memory_nothing_acknowledged_is_lost(void **state)
{
        const uint64_t len = 20000;
        uint64_t size = 0;
        struct stage st;

        t_open(&st, EXT4_4K, 16, ",page_cache=1M");
        for (int64_t after = 0; after < 40; after++) {
                uint8_t got[100];
                ssize_t n;

                memset(st.buf, 'a' + (int)(size / len) % 26, len);
                mem_fail_after(after);
                n = uext4_pwrite(st.file, st.buf, len, size);
                mem_fail_after(-1);
                assert_true(n == -ENOMEM || (n > 0 && (uint64_t)n <= len));
                if (n > 0 && (uint64_t)n < len)
                        assert_int_equal(uext4_truncate(st.file, size), 0);
                else if (n > 0)
                        size += len;
                mem_fail_after(after % 8);
                n = uext4_pread(st.file, got, sizeof(got), 0);
                mem_fail_after(-1);
                assert_true(n == -ENOMEM || n == (size > 0 ? 100 : 0));
        }
        assert_true(size > 0);
        t_must_sync(&st);
        t_remount(&st, "");
        assert_int_equal(t_stat(&st).size, size);
        for (uint64_t pos = 0; pos < size; pos += len)
                t_assert_bytes(&st, (char)('a' + pos / len % 26), pos, len);
        t_close(&st);
}

/* ---- a full disk ---- */

/* Write pieces of random lengths at random places, until nothing fits any more; `bytes` is
 * what was acknowledged. */
static uint64_t fill_disk(struct stage *st, uint8_t *bytes, uint64_t max, uint64_t *rand)
{
        unsigned nr_full = 0;
        uint64_t size = 0;

        while (nr_full < 20) {
                uint64_t len = 1 + t_below(rand, 40000);
                uint64_t pos = t_below(rand, 2) ? size : t_below(rand, max - len);
                uint8_t c = (uint8_t)(1 + t_below(rand, 200));
                ssize_t n;

                if (pos + len > max)
                        pos = max - len;
                n = t_write_to(st, st->file, (char)c, pos, len);
                if (n == -ENOSPC || (n >= 0 && (uint64_t)n < len))
                        nr_full++;
                else
                        assert_int_equal(n, len);
                if (n > 0) {
                        memset(bytes + pos, c, (size_t)n);
                        size = max_t(uint64_t, size, pos + (uint64_t)n);
                }
                if (t_below(rand, 16) == 0)
                        t_must_sync(st);
        }
        return size;
}

static void nothing_acknowledged_is_lost_on_a_full_disk_C33(void **state)
{
        static const struct {
                const char *mkfs, *options;
                unsigned mib;
        } rows[] = {{EXT4_1K " -m 0", "", 4},
                    {EXT4_1K " -m 0", ",nodelalloc", 4},
                    {EXT3_1K " -m 0", "", 4},
                    {BIGALLOC " -m 0", "", 6},
                    {EXT4_1K " -m 0", ",page_cache=1M", 4}};
        const uint64_t max = 8 << 20;
        uint64_t rand = t_seed();

        for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
                uint8_t *bytes = t_alloc(max), *got = t_alloc(max);
                uint64_t size, left;
                struct stage st;

                t_open(&st, rows[i].mkfs, rows[i].mib, rows[i].options);
                size = fill_disk(&st, bytes, max, &rand);
                left = t_free_blocks(&st) + ext4_delayed_map_clusters(rig_fs(&st.m));
                t_must_sync(&st); /* what was promised is there */
                assert_true(t_free_blocks(&st) <= left);
                assert_int_equal(t_stat(&st).size, size);
                assert_int_equal(uext4_pread(st.file, got, max, 0), size);
                assert_memory_equal(got, bytes, size);
                t_remount(&st, rows[i].options);
                assert_int_equal(uext4_pread(st.file, got, max, 0), size);
                assert_memory_equal(got, bytes, size);
                /* And what is deleted can be used at once. */
                assert_int_equal(uext4_truncate(st.file, 0), 0);
                assert_true(t_write_to(&st, st.file, 'y', 0, 1 << 20) > 0);
                t_must_sync(&st);
                t_close(&st);
                free(bytes);
                free(got);
        }
}

/* Every second block of unwritten space, inside the file and behind its end: each is an extent
 * more. */
static uint64_t fill_unwritten(struct stage *st, uint64_t first, uint64_t end, uint64_t block,
                               uint64_t *nr)
{
        uint64_t pos;

        for (pos = first; pos < end; pos += 2 * block, ++*nr) {
                if (t_write_to(st, st->file, 'u', pos, block) != (ssize_t)block)
                        break;
        }
        return pos;
}

/* All of the device but `left` blocks: nobody keeps any for work that must not fail. */
static void take_all_but(struct stage *st, uint64_t left)
{
        struct uext4_file *other;
        uint64_t size = 0;

        rig_fs(&st->m)->balloc->pool = 0;
        assert_int_equal(uext4_open_path(st->m.fs, "/other", O_RDWR, &other), 0);
        for (uint64_t len = 65536; len >= 1024;) {
                if (t_write_to(st, other, 'o', size, len) == (ssize_t)len)
                        size += len;
                else
                        len /= 2;
        }
        assert_int_equal(uext4_fsync(other), 0);
        assert_int_equal(uext4_truncate(other, size - left * 1024), 0);
        assert_int_equal(uext4_fsync(other), 0);
        uext4_close(other);
}

/* What is preallocated on a full disk can be written to as far as there is space for the nodes
 * of the map: that is said by the write, not by who writes back. */
static void conversion_does_not_fail_on_a_full_disk_C33(void **state)
{
        static const char *const options[] = {"", ",nodelalloc", ",page_cache=1M"};

        for (unsigned i = 0; i < ARRAY_LEN(options); i++) {
                const uint64_t size = 1536 << 10, all = 3 << 20;
                uint64_t nr = 0, end;
                struct stage st;

                t_open(&st, EXT4_1K " -m 0", 6, options[i]);
                assert_int_equal(uext4_truncate(st.file, size), 0);
                assert_int_equal(uext4_fallocate(st.file, FALLOC_FL_KEEP_SIZE, 0, all), 0);
                take_all_but(&st, 12);
                end = fill_unwritten(&st, 0, all, 1024, &nr);
                assert_true(nr > 8 && end < all);
                t_must_sync(&st);
                t_remount(&st, options[i]);
                for (uint64_t pos = 0; pos < end; pos += 2048) {
                        t_assert_bytes(&st, 'u', pos, 1024);
                        if (pos + 2048 < end)
                                t_assert_bytes(&st, 0, pos + 1024, 1024);
                }
                t_close(&st);
        }
}

/* With the clusters that are kept for it there is space for the nodes: what is preallocated can
 * be written to when there is none for anything else. */
static void what_is_preallocated_can_be_written_C33(void **state)
{
        static const char *const options[] = {"", ",nodelalloc"};

        for (unsigned i = 0; i < ARRAY_LEN(options); i++) {
                const uint64_t size = 1 << 20;
                uint64_t nr = 0;
                struct uext4_file *rest;
                struct stage st;

                t_open(&st, EXT4_1K, 16, options[i]);
                assert_int_equal(uext4_fallocate(st.file, 0, 0, size), 0);
                assert_int_equal(uext4_open_path(st.m.fs, "/other", O_RDWR, &rest), 0);
                for (uint64_t len = 1 << 20, at = 0; len >= 1024;) {
                        if (uext4_fallocate(rest, 0, at, len) == 0)
                                at += len;
                        else
                                len /= 2;
                }
                assert_int_equal(t_write_to(&st, rest, 'r', 20 << 20, 1024), -ENOSPC);
                assert_int_equal(fill_unwritten(&st, 0, size, 1024, &nr), size);
                t_must_sync(&st);
                for (uint64_t pos = 0; pos < size; pos += 2048)
                        t_assert_bytes(&st, 'u', pos, 1024);
                uext4_close(rest);
                t_close(&st);
        }
}

/* What writing back takes of the device is not more than was promised; and nothing stays
 * promised then. */
static void conversion_takes_what_was_promised_C33(void **state)
{
        static const struct {
                const char *mkfs;
                unsigned cluster; /* blocks */
                uint64_t step, len;
        } rows[] = {{EXT4_1K, 1, 2048, 1024},
                    {EXT4_1K, 1, 5120, 2048},
                    {EXT4_4K, 1, 8192, 1},
                    {BIGALLOC, 8, 2048, 1024},
                    {EXT4_1K, 1, 262144, 1024}};
        const uint64_t size = 6 << 20;

        for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
                uint64_t nr_free, promised, taken;
                struct stage st;

                t_open(&st, rows[i].mkfs, 16, "");
                assert_int_equal(uext4_fallocate(st.file, FALLOC_FL_KEEP_SIZE, 0, size), 0);
                nr_free = t_free_blocks(&st);
                for (uint64_t pos = 0; pos + rows[i].len <= size; pos += rows[i].step)
                        t_must_write(&st, 'u', pos, rows[i].len);
                promised = ext4_delayed_map_clusters(rig_fs(&st.m)) * rows[i].cluster;
                t_must_sync(&st);
                taken = nr_free - t_free_blocks(&st);
                if (taken > promised)
                        fail_msg("row %u: %llu blocks were promised, %llu taken", i,
                                 (unsigned long long)promised, (unsigned long long)taken);
                assert_int_equal(ext4_delayed_map_clusters(rig_fs(&st.m)), 0);
                assert_int_equal(atomic_load(&t_inode(&st)->delayed.nr_unwritten), 0);
                t_close(&st);
        }
}

/* statfs leaves out what is promised to data, to the cluster, and to the map of that data. */
static void statfs_knows_promises(void **state)
{
        uint64_t nr_free, nr_first;
        struct stage st;

        t_open(&st, BIGALLOC, 16, "");
        nr_free = t_free_blocks(&st);
        t_must_write(&st, 'a', 3000, 100); /* one cluster of 8 blocks */
        nr_first = t_free_blocks(&st);
        assert_in_range(nr_first, nr_free - 16, nr_free - 8);
        t_must_write(&st, 'b', 7000, 100); /* in the same */
        assert_int_equal(t_free_blocks(&st), nr_first);
        t_must_write(&st, 'c', 8190, 10);
        assert_in_range(t_free_blocks(&st), nr_first - 16, nr_first - 8);
        t_must_sync(&st);
        assert_int_equal(t_free_blocks(&st), nr_free - 16);
        t_close(&st);
}

/* ---- bounds ---- */

static void memory_and_dirty_data_stay_within_their_bounds_C55(void **state)
{
        const uint64_t limit = 1 << 20, most = 10 << 20;
        struct vfs_pagecache *cache;
        struct stage st;

        t_open(&st, EXT4_4K, 24, ",page_cache=1M");
        cache = t_cache(&st);
        for (uint64_t pos = 0; pos < most; pos += 100000) {
                t_must_write(&st, (char)('a' + pos / 100000 % 26), pos, 100000);
                assert_true(atomic_load(&cache->bytes) <= limit);
                assert_true(atomic_load(&cache->dirty_bytes) <= limit / 2);
        }
        for (uint64_t pos = 0; pos < most; pos += 100000) {
                t_assert_bytes(&st, (char)('a' + pos / 100000 % 26), pos, 100000);
                assert_true(atomic_load(&cache->bytes) <= limit);
        }
        assert_int_equal(t_write_to(&st, st.file, 'A', 4096, 3 << 20), 3 << 20);
        assert_true(atomic_load(&cache->bytes) <= limit);
        assert_true(atomic_load(&cache->dirty_bytes) <= limit / 2);
        t_assert_bytes(&st, 'A', 4096, 3 << 20);
        t_remount(&st, "");
        t_assert_bytes(&st, 'A', 4096, 3 << 20);
        t_close(&st);
}

/* C55: one folio over many small extents. */
static void large_folios_over_many_extents_C55(void **state)
{
        static const char *const mkfs[] = {EXT4_1K, EXT3_1K};

        for (unsigned i = 0; i < ARRAY_LEN(mkfs); i++) {
                struct stage st;

                t_open(&st, mkfs[i], 16, "");
                for (uint64_t pos = 0; pos < 1 << 20; pos += 4096)
                        t_must_write_direct(&st, 'o', pos, 1024);
                t_must_write(&st, 'n', 512, (1 << 20) - 1024);
                t_must_sync(&st);
                t_remount(&st, "");
                t_assert_bytes(&st, 'o', 0, 512);
                t_assert_bytes(&st, 'n', 512, (1 << 20) - 1024);
                t_close(&st);
        }
}

/* ---- times ---- */

static bool is_earlier(struct timespec a, struct timespec b)
{
        return a.tv_sec < b.tv_sec || (a.tv_sec == b.tv_sec && a.tv_nsec < b.tv_nsec);
}

static void times_are_those_of_the_write(void **state)
{
        struct timespec nap = {.tv_nsec = 20000000}, after;
        struct uext4_stat s;
        struct stage st;

        t_open(&st, EXT4_4K, 16, "");
        t_must_write(&st, 'a', 0, 10000);
        s = t_stat(&st);
        nanosleep(&nap, NULL);
        clock_gettime(CLOCK_REALTIME_COARSE, &after);
        nanosleep(&nap, NULL);
        t_must_sync(&st);
        assert_true(is_earlier(t_stat(&st).mtime, after));
        t_remount(&st, "");
        assert_int_equal(t_stat(&st).mtime.tv_sec, s.mtime.tv_sec);
        assert_int_equal(t_stat(&st).mtime.tv_nsec, s.mtime.tv_nsec);
        assert_true(is_earlier(t_stat(&st).ctime, after));
        t_close(&st);
}

/* ---- options ---- */

static void options_are_checked(void **state)
{
        static const struct {
                const char *words;
                int want;
        } rows[] = {
                {"rw,page_cache=1M", 0},
                {"ro,page_cache=1048576", 0},
                {"rw,page_cache=1048575", -EINVAL},
                {"rw,page_cache=0", -EINVAL},
                {"rw,page_cache=", -EINVAL},
                {"rw,page_cache", -EINVAL},
                {"rw,page_cache=x", -EINVAL},
                {"rw,page_cache=-1", -EINVAL},
                {"rw,page_cache=99999999999999999999", -EINVAL},
                {"rw,nodelalloc", 0},
                {"rw,delalloc", 0},
                {"rw,nodelalloc,delalloc", 0},
                {"rw,nodelalloc=1", -EINVAL},
        };
        struct t_image img = rig_make(8 << 20, EXT4_1K, NULL, NULL);
        struct uext4_bdev *dev = rig_open_image(&img);

        for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
                struct rig_mount m;

                t_assert_row(rows[i].words, rig_mount(&m, dev, rows[i].words), rows[i].want);
                if (m.fs)
                        t_assert_row(rows[i].words, rig_unmount(&m), 0);
        }
        uext4_bdev_close(dev);
        t_image_free(&img);
}

static void nodelalloc_allocates_at_once(void **state)
{
        struct fiemap_extent fe[4];
        struct stage st;

        t_open(&st, EXT4_4K, 16, ",nodelalloc");
        t_must_write(&st, 'a', 0, 20000);
        assert_true(t_is_dirty(&st));
        assert_int_equal(t_fiemap(&st, fe, 4), 1);
        assert_int_equal(fe[0].fe_flags, FIEMAP_EXTENT_UNWRITTEN | FIEMAP_EXTENT_LAST);
        assert_int_equal(t_stat(&st).blocks, 40);
        t_assert_seek(&st, 0, SEEK_HOLE, 20000);
        t_must_sync(&st);
        assert_int_equal(t_fiemap(&st, fe, 4), 1);
        assert_int_equal(fe[0].fe_flags, FIEMAP_EXTENT_LAST);
        t_close(&st);
}

/* ---- NOWAIT ---- */

static ssize_t t_read_nowait(struct uext4_file *file, uint8_t *to, uint64_t pos, uint64_t len)
{
        const struct iovec iov = {to, len};

        return uext4_preadv2(file, &iov, 1, pos, RWF_NOWAIT);
}

static void nowait_reads_what_is_in_memory_B41(void **state)
{
        struct stage st;

        t_open(&st, EXT4_4K, 16, "");
        t_must_write(&st, 'a', 0, 1 << 20);
        assert_int_equal(t_read_nowait(st.file, st.buf, 0, 65536), 65536);
        assert_int_equal(t_read_nowait(st.direct, st.buf, 0, 4096), -EAGAIN); /* dirty */
        t_remount(&st, "");
        assert_int_equal(t_read_nowait(st.file, st.buf, 0, 65536), -EAGAIN);
        t_assert_bytes(&st, 'a', 16384, 4096);
        assert_int_equal(t_read_nowait(st.file, st.buf, 0, 4096), -EAGAIN);
        assert_int_equal(t_read_nowait(st.file, st.buf, 16384, 4096), 4096);
        t_assert_bytes(&st, 'a', 0, 4096);
        t_remount(&st, "");
        t_assert_bytes(&st, 'a', 0, 4096);
        memset(st.buf, 0, 65536);
        assert_in_range(t_read_nowait(st.file, st.buf, 0, 1 << 20), 4096, (1 << 20) - 1);
        assert_int_equal(st.buf[4095], 'a');
        assert_int_equal(t_read_nowait(st.file, st.buf, 1 << 20, 10), 0);
        t_close(&st);
}

/* NOWAIT direct writes go where nothing is cached, whatever else of the file is. */
static void nowait_direct_writes_beside_the_cache_C9(void **state)
{
        struct iovec iov;
        struct stage st;

        t_open(&st, EXT4_4K, 16, "");
        t_must_write_direct(&st, 'a', 0, 65536);
        t_must_sync(&st);
        t_must_write(&st, 'b', 0, 4096);
        iov = (struct iovec){st.buf, 4096};
        memset(st.buf, 'c', 4096);
        assert_int_equal(uext4_pwritev2(st.direct, &iov, 1, 0, RWF_NOWAIT), -EAGAIN);
        assert_int_equal(uext4_pwritev2(st.direct, &iov, 1, 32768, RWF_NOWAIT), 4096);
        t_assert_bytes(&st, 'b', 0, 4096);
        t_assert_bytes(&st, 'a', 4096, 28672);
        t_assert_bytes(&st, 'c', 32768, 4096);
        t_close(&st);
}

/* ---- the ends of what can be ---- */

static void a_file_as_long_as_can_be_B8(void **state)
{
        const uint64_t max = (1ull << 44) - 4096;
        struct fiemap_extent fe[4];
        struct stage st;

        t_open(&st, EXT4_4K, 16, "");
        t_must_write(&st, 'a', 0, 100);
        t_must_write(&st, 'z', max - 5000, 5000);
        assert_int_equal(t_write_to(&st, st.file, 'y', max, 1), -EFBIG);
        assert_int_equal(t_write_to(&st, st.file, 'z', max - 10, 20), 10);
        assert_int_equal(t_stat(&st).size, max);
        for (unsigned i = 0; i < 2; i++) {
                t_assert_bytes(&st, 'z', max - 5000, 5000);
                t_assert_bytes(&st, 0, max - 8192, 8192 - 5000);
                t_assert_seek(&st, 4096, SEEK_DATA, max - 8192);
                t_assert_seek(&st, 0, SEEK_HOLE, 4096);
                assert_int_equal(t_fiemap(&st, fe, 4), 2);
                t_must_sync(&st);
        }
        t_remount(&st, "");
        t_assert_bytes(&st, 'z', max - 5000, 5000);
        t_close(&st);
}

/* What could not be read is not taken for read. */
static void errors_of_reading_are_told_and_forgotten(void **state)
{
        const struct uext4_bdev_fault rule = {
                .ops = 1u << UEXT4_BDEV_READ, .count = 2, .error = -EIO};
        struct stage st;

        t_open(&st, EXT4_4K, 16, "");
        t_must_write(&st, 'a', 0, 65536);
        t_remount(&st, "");
        assert_int_equal(uext4_bdev_fault_add(st.fault, &rule), 0);
        assert_int_equal(uext4_pread(st.file, st.buf, 4096, 0), -EIO);
        uext4_bdev_fault_clear(st.fault);
        t_assert_bytes(&st, 'a', 0, 65536);
        t_remount(&st, "");
        assert_int_equal(uext4_bdev_fault_add(st.fault, &rule), 0);
        assert_int_equal(t_write_to(&st, st.file, 'b', 100, 100), -EIO);
        uext4_bdev_fault_clear(st.fault);
        t_assert_bytes(&st, 'a', 0, 65536);
        t_close(&st);
}

/* ---- who waits for whom ---- */

/* The first write of the data stops until it may go on. */
static void gate_hook(void *arg, enum held_when when, const struct held_io *io)
{
        if (io->op == UEXT4_BDEV_WRITE && when == HELD_BEFORE)
                held_gate_pass(arg);
}

static void *run_syncfs(void *arg)
{
        struct stage *st = arg;

        T_CHECK(uext4_syncfs(st->m.fs) == 0);
        return NULL;
}

static void *run_fsync(void *arg)
{
        struct stage *st = arg;

        T_CHECK(uext4_fsync(st->file) == 0);
        return NULL;
}

static void a_moment(void)
{
        struct timespec nap = {.tv_nsec = 30000000};

        nanosleep(&nap, NULL);
}

/* A file is being written back; what is dirtied behind its writer's back belongs to the next
 * syncfs all the same. */
static void syncfs_writes_what_others_have_passed(void **state)
{
        struct held_gate g = HELD_GATE;
        pthread_t first, second;
        struct t_image img;
        struct stage st;
        struct found f;

        t_open(&st, EXT4_4K, 32, "");
        t_must_write(&st, 'a', 0, 4096);
        t_must_sync(&st);
        t_must_write(&st, 'b', 1 << 20, 65536);
        held_set_hook(st.dev, gate_hook, &g);
        held_gate_arm(&g);
        T_CHECK(pthread_create(&first, NULL, run_syncfs, &st) == 0);
        held_gate_wait(&g);
        t_must_write(&st, 'c', 0, 4096);
        T_CHECK(pthread_create(&second, NULL, run_syncfs, &st) == 0);
        a_moment();
        held_gate_open(&g);
        pthread_join(first, NULL);
        pthread_join(second, NULL);
        t_cut(&st, UEXT4_BDEV_SIM_NONE, &img);
        found_open(&f, &img);
        assert_int_equal(f.size, (1 << 20) + 65536);
        t_assert_in(f.file, 'c', 0, 4096);
        t_assert_in(f.file, 'b', 1 << 20, 65536);
        found_close(&f, &img);
        held_set_hook(st.dev, NULL, NULL);
        t_close(&st);
}

/* fsync waits for what others are writing. */
static void fsync_waits_for_what_others_write(void **state)
{
        struct held_gate g = HELD_GATE;
        pthread_t first;
        struct t_image img;
        struct stage st;
        struct found f;

        t_open(&st, EXT4_4K, 32, "");
        t_must_write(&st, 'a', 0, 4096);
        held_set_hook(st.dev, gate_hook, &g);
        held_gate_arm(&g);
        T_CHECK(pthread_create(&first, NULL, run_syncfs, &st) == 0);
        held_gate_wait(&g);
        {
                pthread_t second;

                T_CHECK(pthread_create(&second, NULL, run_fsync, &st) == 0);
                a_moment();
                held_gate_open(&g);
                pthread_join(second, NULL);
        }
        t_cut(&st, UEXT4_BDEV_SIM_NONE, &img);
        pthread_join(first, NULL);
        found_open(&f, &img);
        assert_int_equal(f.size, 4096);
        t_assert_in(f.file, 'a', 0, 4096);
        found_close(&f, &img);
        held_set_hook(st.dev, NULL, NULL);
        t_close(&st);
}

/* While the data is on its way the file can be read, and says that it has data; who writes the
 * same block waits. */
static void a_file_can_be_used_while_it_is_written(void **state)
{
        struct held_gate g = HELD_GATE;
        pthread_t first;
        struct stage st;

        t_open(&st, EXT4_4K, 32, "");
        t_must_write(&st, 'a', 0, 65536);
        held_set_hook(st.dev, gate_hook, &g);
        held_gate_arm(&g);
        T_CHECK(pthread_create(&first, NULL, run_fsync, &st) == 0);
        held_gate_wait(&g);
        t_assert_bytes(&st, 'a', 0, 65536);
        t_assert_seek(&st, 0, SEEK_DATA, 0);
        t_assert_seek(&st, 0, SEEK_HOLE, 65536);
        t_must_write(&st, 'b', 1 << 20, 4096);
        t_assert_bytes(&st, 0, 65536, 4096);
        held_gate_open(&g);
        t_must_write(&st, 'c', 0, 4096);
        pthread_join(first, NULL);
        held_set_hook(st.dev, NULL, NULL);
        t_assert_bytes(&st, 'c', 0, 4096);
        t_remount(&st, "");
        t_assert_bytes(&st, 'c', 0, 4096);
        t_assert_bytes(&st, 'a', 4096, 61440);
        t_assert_bytes(&st, 'b', 1 << 20, 4096);
        t_close(&st);
}

/*
 * Two write one file back at a time, and the one with the later part is ready first: the size
 * on disk waits for the earlier part (C20).
 */
static void the_later_part_waits_for_the_earlier_C20(void **state)
{
        struct held_gate g = HELD_GATE;
        pthread_t first, second;
        struct t_image img;
        struct stage st;
        struct found f;

        t_open(&st, EXT4_4K, 32, "");
        t_must_write(&st, 'a', 0, 65536);
        held_set_hook(st.dev, gate_hook, &g);
        held_gate_arm(&g);
        T_CHECK(pthread_create(&first, NULL, run_fsync, &st) == 0);
        held_gate_wait(&g);
        t_must_write(&st, 'b', 65536, 65536);
        T_CHECK(pthread_create(&second, NULL, run_fsync, &st) == 0);
        a_moment();
        assert_int_equal(jbd2_commit_all(rig_fs(&st.m)->journal), 0);
        t_cut(&st, UEXT4_BDEV_SIM_ALL, &img);
        held_gate_open(&g);
        pthread_join(first, NULL);
        pthread_join(second, NULL);
        held_set_hook(st.dev, NULL, NULL);
        found_open(&f, &img);
        assert_int_equal(f.size, 0);
        found_close(&f, &img);
        t_remount(&st, "");
        t_assert_bytes(&st, 'a', 0, 65536);
        t_assert_bytes(&st, 'b', 65536, 65536);
        t_close(&st);
}

/* C41: blocks inside the size are not seen, whatever is committed, before their data is there.
 */
static void blocks_are_not_seen_before_their_data_C41(void **state)
{
        static const char *const options[] = {"", ",nodelalloc", ",data=writeback"};

        for (unsigned i = 0; i < ARRAY_LEN(options); i++) {
                struct held_gate g = HELD_GATE;
                pthread_t first;
                struct t_image img;
                struct stage st;
                struct found f;

                t_open(&st, EXT4_4K, 32, options[i]);
                assert_int_equal(uext4_truncate(st.file, 131072), 0);
                t_must_sync(&st);
                t_must_write(&st, 'a', 0, 65536);
                held_set_hook(st.dev, gate_hook, &g);
                held_gate_arm(&g);
                T_CHECK(pthread_create(&first, NULL, run_fsync, &st) == 0);
                held_gate_wait(&g);
                assert_int_equal(jbd2_commit_all(rig_fs(&st.m)->journal), 0);
                t_cut(&st, UEXT4_BDEV_SIM_ALL, &img);
                held_gate_open(&g);
                pthread_join(first, NULL);
                held_set_hook(st.dev, NULL, NULL);
                found_open(&f, &img);
                assert_int_equal(f.size, 131072);
                t_assert_in(f.file, 0, 0, 131072);
                found_close(&f, &img);
                t_close(&st);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(delayed_data_is_reported_B21),
                cmocka_unit_test(dirty_pages_over_unwritten_space_are_data_B22),
                cmocka_unit_test(a_large_folio_is_reported_by_blocks_B22),
                cmocka_unit_test(all_ways_see_each_other_B28),
                cmocka_unit_test(the_page_at_the_end_is_not_stale_C17),
                cmocka_unit_test(a_block_that_left_the_cache_in_a_write_is_whole_C40),
                cmocka_unit_test(what_was_read_in_a_direct_write_leaves_the_cache_B30),
                cmocka_unit_test(the_size_waits_for_the_data_C20),
                cmocka_unit_test(the_size_does_not_pass_data_in_memory_C20),
                cmocka_unit_test(the_size_outlives_punching_its_pages_C22),
                cmocka_unit_test(unmount_writes_everything),
                cmocka_unit_test(changes_of_the_file_over_dirty_data_C39),
                cmocka_unit_test(what_is_deleted_is_not_written),
                cmocka_unit_test(an_error_is_told_each_file_once_C32),
                cmocka_unit_test(an_error_of_a_durable_write_is_told_once_C32),
                cmocka_unit_test(an_error_that_no_file_was_told_of_is_told_by_unmount),
                cmocka_unit_test(what_needs_the_data_on_the_device_tells_its_error_C39),
                cmocka_unit_test(errors_in_the_background_are_told),
                cmocka_unit_test(promises_of_failed_writes_come_back),
                cmocka_unit_test(without_memory_nothing_acknowledged_is_lost),
                cmocka_unit_test(nothing_acknowledged_is_lost_on_a_full_disk_C33),
                cmocka_unit_test(conversion_does_not_fail_on_a_full_disk_C33),
                cmocka_unit_test(what_is_preallocated_can_be_written_C33),
                cmocka_unit_test(conversion_takes_what_was_promised_C33),
                cmocka_unit_test(statfs_knows_promises),
                cmocka_unit_test(memory_and_dirty_data_stay_within_their_bounds_C55),
                cmocka_unit_test(large_folios_over_many_extents_C55),
                cmocka_unit_test(times_are_those_of_the_write),
                cmocka_unit_test(options_are_checked),
                cmocka_unit_test(nodelalloc_allocates_at_once),
                cmocka_unit_test(nowait_reads_what_is_in_memory_B41),
                cmocka_unit_test(nowait_direct_writes_beside_the_cache_C9),
                cmocka_unit_test(a_file_as_long_as_can_be_B8),
                cmocka_unit_test(errors_of_reading_are_told_and_forgotten),
                cmocka_unit_test(syncfs_writes_what_others_have_passed),
                cmocka_unit_test(fsync_waits_for_what_others_write),
                cmocka_unit_test(a_file_can_be_used_while_it_is_written),
                cmocka_unit_test(the_later_part_waits_for_the_earlier_C20),
                cmocka_unit_test(blocks_are_not_seen_before_their_data_C41),
        };

        cmocka_set_test_filter(getenv("UEXT4_TEST"));
        return cmocka_run_group_tests_name("write_cache", tests, NULL, NULL);
}
