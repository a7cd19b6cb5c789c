/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Direct writes that are not torn (RWF_ATOMIC): who may have them, and what a power cut leaves.
 */

#include <fcntl.h>

#include "../change/rig.h"
#include "uext4.h"

#ifndef RWF_ATOMIC
#define RWF_ATOMIC 0x40
#endif

#define FEATURES \
        "has_journal,extents,huge_file,flex_bg,64bit,dir_nlink,extra_isize,metadata_csum"
#define EXT4_4K \
        "-b 4096 -I 256 -N 64 -J size=4 -O none,sparse_super,large_file,filetype," FEATURES
#define EXT3_4K "-b 4096 -N 64 -J size=4 -O none,has_journal,filetype,sparse_super,large_file"
#define INLINE  EXT4_4K ",inline_data,ext_attr"
#define SIZE    (12u << 20)

struct stage {
        struct uext4_bdev *sim, *dev;
        struct rig_mount m;
        struct uext4_file *file;
        uint8_t *buf, *image;
};

static void t_open(struct stage *st, const char *mkfs, const char *options, uint32_t atomic_max)
{
        struct t_image img = rig_make(SIZE, mkfs, NULL, "write /dev/null file\\n");
        const struct uext4_bdev_sim_params p = {
                .size = img.size,
                .image = img.data,
                .caps = UEXT4_BDEV_CAP_FUA,
                .atomic_max = atomic_max,
                .seed = 1,
        };
        char words[128];

        assert_int_equal(uext4_bdev_open_sim(&p, &st->sim), 0);
        assert_int_equal(uext4_bdev_open_trace(st->sim, 64, &st->dev), 0);
        t_image_free(&img);
        snprintf(words, sizeof(words), "%s%s", RIG_OPTIONS, options);
        assert_int_equal(rig_mount(&st->m, st->dev, words), 0);
        assert_int_equal(uext4_open_path(st->m.fs, "/file", O_RDWR | O_DIRECT, &st->file), 0);
        st->buf = t_alloc(65536);
        st->image = t_alloc(SIZE);
}

static void t_close(struct stage *st)
{
        uext4_close(st->file);
        assert_int_equal(rig_unmount(&st->m), 0);
        uext4_bdev_close(st->dev);
        free(st->buf);
        free(st->image);
}

static int64_t t_write(struct stage *st, int byte, uint64_t pos, uint64_t len, int flags)
{
        const struct iovec iov = {st->buf, len};

        memset(st->buf, byte, len);
        return uext4_pwritev2(st->file, &iov, 1, pos, flags);
}

static int64_t t_queue_write(struct stage *st, int byte, uint64_t pos, uint64_t len, int flags)
{
        const struct iovec iov = {st->buf, len};
        const struct uext4_request req = {.op = UEXT4_WRITE,
                                          .flags = flags,
                                          .file = st->file,
                                          .iov = &iov,
                                          .nr_iov = 1,
                                          .pos = pos};
        struct uext4_completion done;
        struct uext4_queue *queue;

        memset(st->buf, byte, len);
        assert_int_equal(uext4_queue_new(st->m.fs, 4, &queue), 0);
        assert_int_equal(uext4_queue_submit(queue, &req, 1), 1);
        assert_int_equal(uext4_queue_wait(queue, &done, 1, 1, -1), 1);
        uext4_queue_free(queue);
        return done.result;
}

/* ---- who may ---- */

static void one_block_at_its_place_C52(void **state)
{
        static const struct {
                uint64_t pos, len;
                int64_t want;
        } rows[] = {
                {0, 4096, 4096},       {4096, 4096, 4096},
                {1 << 20, 4096, 4096}, {0, 0, 0},
                {512, 4096, -EINVAL},  {0, 2048, -EINVAL},
                {0, 8192, -EINVAL},    {0, 512, -EINVAL},
                {0, 12288, -EINVAL},   {100, 4096, -EINVAL},
        };
        struct uext4_bdev_trace_entry last[64];
        struct uext4_stat stat;
        struct stage st;

        t_open(&st, EXT4_4K, "", 8192);
        assert_int_equal(uext4_stat(uext4_file_inode(st.file), &stat), 0);
        assert_int_equal(stat.atomic_write_min, 4096);
        assert_int_equal(stat.atomic_write_max, 4096);
        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
                assert_int_equal(t_write(&st, 'x', rows[i].pos, rows[i].len, RWF_ATOMIC),
                                 rows[i].want);
                assert_int_equal(t_queue_write(&st, 'x', rows[i].pos, rows[i].len, RWF_ATOMIC),
                                 rows[i].want);
        }
        /* O_DSYNC goes with it, in the same request. */
        assert_int_equal(uext4_fsync(st.file), 0);
        uext4_bdev_trace_reset(st.dev);
        assert_int_equal(t_write(&st, 'y', 4096, 4096, RWF_ATOMIC | RWF_DSYNC), 4096);
        assert_int_equal(uext4_bdev_trace_list(st.dev, last, 64), 1);
        assert_int_equal(last[0].flags, UEXT4_BDEV_FUA | UEXT4_BDEV_ATOMIC);
        assert_int_equal(last[0].len, 4096);
        t_close(&st);
}

static void others_are_refused_at_the_entrance_C53(void **state)
{
        static const struct {
                const char *mkfs, *options;
                uint32_t atomic_max;
        } rows[] = {
                {EXT4_4K, "", 0},    {EXT4_4K, "", 2048}, {EXT4_4K, ",data=journal", 65536},
                {EXT3_4K, "", 4096}, {INLINE, "", 4096},
        };

        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
                struct uext4_bdev_counts counts;
                struct uext4_stat stat;
                struct stage st;

                t_open(&st, rows[i].mkfs, rows[i].options, rows[i].atomic_max);
                assert_int_equal(uext4_stat(uext4_file_inode(st.file), &stat), 0);
                assert_int_equal(stat.atomic_write_max, 0);
                uext4_bdev_trace_reset(st.dev);
                assert_int_equal(t_write(&st, 'x', 0, 4096, RWF_ATOMIC), -EOPNOTSUPP);
                assert_int_equal(t_queue_write(&st, 'x', 0, 4096, RWF_ATOMIC), -EOPNOTSUPP);
                uext4_bdev_trace_counts(st.dev, &counts);
                assert_int_equal(counts.requests[UEXT4_BDEV_WRITE], 0);
                t_close(&st);
        }
}

/* Without O_DIRECT, and in memory that is mapped (DAX), there is none. */
static void neither_buffered_nor_in_mapped_memory_C53(void **state)
{
        struct t_image img = rig_make(SIZE, EXT4_4K, NULL, "write /dev/null file\\n");
        const struct iovec iov = {img.data, 4096}; /* any bytes will do */
        struct uext4_file *file;
        struct uext4_bdev *dev;
        struct rig_mount m;

        assert_int_equal(uext4_bdev_open_mem(SIZE, &dev), 0);
        assert_int_equal(uext4_bdev_write(dev, img.data, SIZE, 0, 0), 0);
        for (unsigned dax = 0; dax < 2; dax++) {
                assert_int_equal(rig_mount(&m, dev, dax ? RIG_OPTIONS ",dax" : RIG_OPTIONS), 0);
                assert_int_equal(uext4_open_path(m.fs, "/file", O_RDWR, &file), 0);
                assert_int_equal(uext4_pwritev2(file, &iov, 1, 0, RWF_ATOMIC), -EOPNOTSUPP);
                uext4_close(file);
                assert_int_equal(uext4_open_path(m.fs, "/file", O_RDWR | O_DIRECT, &file), 0);
                assert_int_equal(uext4_pwritev2(file, &iov, 1, 0, RWF_ATOMIC),
                                 dax ? -EOPNOTSUPP : 4096);
                uext4_close(file);
                assert_int_equal(rig_unmount(&m), 0);
        }
        uext4_bdev_close(dev);
        t_image_free(&img);
}

/* ---- power cuts ---- */

/* How many of the outcomes show a block that is neither old nor new. */
static unsigned count_torn(struct stage *st, uint64_t pos)
{
        unsigned nr = 0;

        for (uint64_t seed = 0; seed < 48; seed++) {
                const struct uext4_bdev_sim_survivor how = {
                        .mode = UEXT4_BDEV_SIM_RANDOM, .seed = seed, .junk_percent = 10};
                struct uext4_file *file;
                struct uext4_bdev *dev;
                struct rig_mount m;

                assert_int_equal(uext4_bdev_sim_survivor(st->sim, &how, st->image), 0);
                assert_int_equal(uext4_bdev_open_buffer(st->image, SIZE, 0, &dev), 0);
                assert_int_equal(rig_mount(&m, dev, "ro"), 0);
                assert_int_equal(uext4_open_path(m.fs, "/file", O_RDONLY, &file), 0);
                assert_int_equal(uext4_pread(file, st->buf, 4096, pos), 4096);
                for (unsigned i = 0; i < 4096; i++) {
                        if (st->buf[i] == st->buf[0] &&
                            (st->buf[i] == 'o' || st->buf[i] == 'x'))
                                continue;
                        nr++;
                        break;
                }
                uext4_close(file);
                assert_int_equal(rig_unmount(&m), 0);
                uext4_bdev_close(dev);
        }
        return nr;
}

static void a_power_cut_tears_no_atomic_write(void **state)
{
        for (unsigned queued = 0; queued < 2; queued++) {
                int64_t (*put)(struct stage *, int, uint64_t, uint64_t, int) =
                        queued ? t_queue_write : t_write;
                struct stage st;

                t_open(&st, EXT4_4K, "", 4096);
                assert_int_equal(t_write(&st, 'o', 0, 65536, RWF_DSYNC), 65536);
                assert_int_equal(put(&st, 'x', 8192, 4096, 0), 4096);
                assert_true(count_torn(&st, 8192) > 0);
                assert_int_equal(put(&st, 'x', 16384, 4096, RWF_ATOMIC), 4096);
                assert_int_equal(count_torn(&st, 16384), 0);
                t_close(&st);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(one_block_at_its_place_C52),
                cmocka_unit_test(others_are_refused_at_the_entrance_C53),
                cmocka_unit_test(neither_buffered_nor_in_mapped_memory_C53),
                cmocka_unit_test(a_power_cut_tears_no_atomic_write),
        };

        cmocka_set_test_filter(getenv("UEXT4_TEST"));
        return cmocka_run_group_tests_name("write_atomic", tests, NULL, NULL);
}
