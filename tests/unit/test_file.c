/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A file of a real image, asked through ext4's answers for iomap and its file operations.
 *
 * "mixed" has blocks of every kind that a file can have (LAYOUT below, one letter a block); the
 * image is made by mke2fs and debugfs, once with extents and once with an indirect map, which
 * has no unwritten blocks.
 */

#include <fcntl.h>
#include <linux/fiemap.h>

#include "t_fs.h"

#define BLOCK 1024u

/* w: written, u: unwritten, h: hole.  The last block holds the end of the file. */
static const char LAYOUT[] = "wwwwhhhhuuuuw";
#define NR_BLOCKS (sizeof(LAYOUT) - 1)
#define SIZE      (12 * BLOCK + 100)

enum kind {
        EXTENTS,
        INDIRECT,
        INLINE,
        NR_KINDS
};

static struct t_image images[NR_KINDS];

struct file {
        struct t_mount mount;
        struct ext4_inode *inode;
};

static char kind_of_block(enum kind kind, size_t block)
{
        return kind == INDIRECT && LAYOUT[block] == 'u' ? 'h' : LAYOUT[block];
}

/* ---- making the images ---- */

static struct host_file make_source(void)
{
        struct host_file f = host_file_new(NULL, SIZE);
        char data[BLOCK];

        for (size_t i = 0; i < NR_BLOCKS; i++) {
                size_t len = i + 1 < NR_BLOCKS ? BLOCK : SIZE % BLOCK;

                memset(data, 'a' + (int)i, sizeof(data));
                if (LAYOUT[i] == 'w')
                        T_CHECK(pwrite(f.fd, data, len, (off_t)(i * BLOCK)) == (ssize_t)len);
        }
        return f;
}

static int make_images(void **state)
{
        struct host_file source = make_source();
        char script[600];

        snprintf(script, sizeof(script), "write %s mixed\\nfallocate mixed 8 11\\n",
                 source.path);
        images[EXTENTS] = t_mkfs(4 << 20, "-b 1024 -O extents,^has_journal", script);
        snprintf(script, sizeof(script), "write %s mixed\\n", source.path);
        images[INDIRECT] = t_mkfs(4 << 20, "-b 1024 -O ^extents,^has_journal", script);
        T_CHECK(ftruncate(source.fd, 20) == 0);
        images[INLINE] =
                t_mkfs(4 << 20, "-b 1024 -I 256 -O extents,inline_data,^has_journal", script);
        host_file_close(&source);
        return 0;
}

static int free_images(void **state)
{
        for (int kind = 0; kind < NR_KINDS; kind++)
                t_image_free(&images[kind]);
        return 0;
}

static void t_open(struct file *f, enum kind kind)
{
        struct ext4_inode *root;
        uint32_t ino;

        assert_int_equal(t_mount(&f->mount, &images[kind], &t_mount_ro), 0);
        assert_int_equal(ext4_iget(f->mount.fs, EXT4_INO_ROOT, &root), 0);
        assert_int_equal(ext4_dir_lookup(root, "mixed", 5, &ino), 0);
        assert_int_equal(ext4_iget(f->mount.fs, ino, &f->inode), 0);
        ext4_iput(root);
}

static void t_close(struct file *f)
{
        ext4_iput(f->inode);
        t_umount(&f->mount);
}

/* ---- requests ---- */

static int t_begin(struct file *f, uint64_t pos, uint64_t len, struct iomap *ret_map)
{
        return ext4_read_ops.begin(&f->inode->vfs, pos, len, 0, ret_map);
}

static int64_t t_read(struct file *f, uint64_t pos, void *buf, size_t len, uint32_t flags)
{
        const struct iovec iov = {buf, len};
        struct vfs_kiocb iocb = {.inode = &f->inode->vfs, .pos = pos, .flags = flags};
        struct iov_iter iter;
        struct iomap_dio dio;

        T_CHECK(iov_iter_init(&iter, &iov, 1) == 0);
        return ext4_file_read_direct(&dio, &iocb, &iter);
}

static uint64_t t_counter(struct file *f, enum vfs_counter what)
{
        return vfs_counter_sum(&f->mount.fs->vfs, what);
}

/* ---- mappings ---- */

static void mapping_has_the_type_of_its_block_B1_B2(void **state)
{
        for (enum kind kind = EXTENTS; kind <= INDIRECT; kind++) {
                struct file f;

                t_open(&f, kind);
                for (size_t i = 0; i < NR_BLOCKS; i++) {
                        struct iomap map;
                        char want = kind_of_block(kind, i);

                        assert_int_equal(t_begin(&f, i * BLOCK, BLOCK, &map), 0);
                        assert_int_equal(map.type, want == 'w'   ? IOMAP_MAPPED
                                                   : want == 'u' ? IOMAP_UNWRITTEN
                                                                 : IOMAP_HOLE);
                }
                t_close(&f);
        }
}

static void only_blocks_have_an_address_B3(void **state)
{
        struct file f;

        t_open(&f, EXTENTS);
        for (size_t i = 0; i < NR_BLOCKS; i++) {
                struct iomap map;

                assert_int_equal(t_begin(&f, i * BLOCK, BLOCK, &map), 0);
                assert_int_equal(map.addr == IOMAP_NULL_ADDR, LAYOUT[i] == 'h');
        }
        t_close(&f);
}

static void position_beyond_the_last_block_is_a_hole_B8_C43(void **state)
{
        static const uint64_t positions[] = {
                (uint64_t)EXT4_MAX_LBLK * BLOCK, /* the last block */
                EXT4_NR_LBLKS * BLOCK,
                (EXT4_NR_LBLKS + 1) * BLOCK + 5,
                INT64_MAX,
        };

        for (enum kind kind = EXTENTS; kind <= INDIRECT; kind++) {
                struct file f;

                t_open(&f, kind);
                for (size_t i = 0; i < ARRAY_LEN(positions); i++) {
                        struct iomap map;

                        assert_int_equal(t_begin(&f, positions[i], 1, &map), 0);
                        assert_int_equal(map.type, IOMAP_HOLE);
                        assert_true(map.offset <= positions[i]);
                        assert_true(positions[i] - map.offset < map.length);
                }
                t_close(&f);
        }
}

static void mapping_covers_the_first_byte_and_may_be_longer_than_asked_B9(void **state)
{
        struct file f;
        struct iomap map;

        t_open(&f, EXTENTS);
        assert_int_equal(t_begin(&f, BLOCK + 5, 1, &map), 0);
        assert_true(map.offset <= BLOCK + 5);
        assert_int_equal(map.offset + map.length, 4 * BLOCK); /* all of the extent */
        /* It does not know the size: the last block is whole. */
        assert_int_equal(t_begin(&f, 12 * BLOCK, 1, &map), 0);
        assert_int_equal(map.offset + map.length, 13 * BLOCK);
        t_close(&f);
}

static void repeated_lookup_reads_nothing_and_needs_no_map_lock_C37(void **state)
{
        for (enum kind kind = EXTENTS; kind <= INDIRECT; kind++) {
                struct ext4_map first, again;
                struct buf_stats before, after;
                struct file f;

                t_open(&f, kind);
                assert_int_equal(ext4_map_lookup(f.inode, 12, 0, &first), 0);
                buf_cache_stats(f.mount.fs->bufs, &before);
                rwsem_write_lock(&f.inode->map_lock); /* a lookup that wants it would hang */
                assert_int_equal(ext4_map_lookup(f.inode, 12, 0, &again), 0);
                assert_int_equal(ext4_map_lookup(f.inode, 12, EXT4_MAP_NOWAIT, &again), 0);
                rwsem_write_unlock(&f.inode->map_lock);
                buf_cache_stats(f.mount.fs->bufs, &after);
                assert_int_equal(before.reads, after.reads);
                assert_int_equal(first.pblk, again.pblk);
                assert_int_equal(t_counter(&f, VFS_MAP_CACHE_HITS), 2);
                t_close(&f);
        }
}

/* ---- reports ---- */

static bool is_data(enum kind kind, uint64_t pos)
{
        return pos < SIZE && kind_of_block(kind, pos / BLOCK) == 'w';
}

/* What lseek(2) promises, byte by byte. */
static int64_t naive_seek(enum kind kind, uint64_t pos, int whence)
{
        if (pos >= SIZE)
                return -ENXIO;
        for (; pos < SIZE; pos++) {
                if (is_data(kind, pos) == (whence == SEEK_DATA))
                        return (int64_t)pos;
        }
        return whence == SEEK_HOLE ? (int64_t)SIZE : -ENXIO;
}

static void seek_finds_data_and_holes_B19_B22_B24(void **state)
{
        for (enum kind kind = EXTENTS; kind <= INDIRECT; kind++) {
                struct file f;

                t_open(&f, kind);
                for (uint64_t pos = 0; pos <= SIZE + 1;
                     pos += pos % BLOCK == 1 ? BLOCK - 2 : 1) {
                        assert_int_equal(ext4_file_seek(f.inode, pos, SEEK_DATA),
                                         naive_seek(kind, pos, SEEK_DATA));
                        assert_int_equal(ext4_file_seek(f.inode, pos, SEEK_HOLE),
                                         naive_seek(kind, pos, SEEK_HOLE));
                }
                t_close(&f);
        }
}

static void fiemap_covers_every_block_that_is_no_hole_B24(void **state)
{
        for (enum kind kind = EXTENTS; kind <= INDIRECT; kind++) {
                struct fiemap_extent extents[NR_BLOCKS];
                char found[NR_BLOCKS];
                struct file f;
                int nr;

                t_open(&f, kind);
                nr = ext4_file_fiemap(f.inode, 0, SIZE, extents, NR_BLOCKS);
                assert_true(nr > 0);
                assert_int_equal(ext4_file_fiemap(f.inode, 0, SIZE, NULL, 0), nr);
                memset(found, 'h', sizeof(found));
                for (int i = 0; i < nr; i++) {
                        size_t first = extents[i].fe_logical / BLOCK;
                        size_t len = extents[i].fe_length / BLOCK;
                        bool unwritten = extents[i].fe_flags & FIEMAP_EXTENT_UNWRITTEN;

                        assert_true(first + len <= NR_BLOCKS);
                        memset(found + first, unwritten ? 'u' : 'w', len);
                        assert_int_equal(!!(extents[i].fe_flags & FIEMAP_EXTENT_LAST),
                                         i + 1 == nr);
                }
                for (size_t i = 0; i < NR_BLOCKS; i++)
                        assert_int_equal(found[i], kind_of_block(kind, i));
                t_close(&f);
        }
}

static void inline_data_is_one_extent_of_data_B20(void **state)
{
        struct fiemap_extent extent;
        struct file f;

        t_open(&f, INLINE);
        assert_int_equal(ext4_file_seek(f.inode, 0, SEEK_DATA), 0);
        assert_int_equal(ext4_file_seek(f.inode, 3, SEEK_HOLE), 20);
        assert_int_equal(ext4_file_seek(f.inode, 20, SEEK_DATA), -ENXIO);
        assert_int_equal(ext4_file_fiemap(f.inode, 0, 100, &extent, 1), 1);
        assert_int_equal(extent.fe_length, 20);
        assert_true(extent.fe_flags & FIEMAP_EXTENT_DATA_INLINE);
        assert_true(extent.fe_flags & FIEMAP_EXTENT_LAST);
        assert_int_equal(extent.fe_physical,
                         f.inode->disk_pos + offsetof(struct ext4_inode_disk, i_block));
        t_close(&f);
}

/* ---- reading ---- */

static void read_gives_data_and_zeros_up_to_the_size_B29(void **state)
{
        for (enum kind kind = EXTENTS; kind <= INDIRECT; kind++) {
                static char buf[16 * BLOCK] __attribute__((aligned(4096)));
                struct file f;

                t_open(&f, kind);
                memset(buf, 'X', sizeof(buf));
                assert_int_equal(t_read(&f, 0, buf, sizeof(buf), 0), SIZE);
                for (size_t pos = 0; pos < SIZE; pos++)
                        assert_int_equal(buf[pos],
                                         is_data(kind, pos) ? 'a' + (int)(pos / BLOCK) : 0);
                assert_int_equal(t_read(&f, 13 * BLOCK, buf, BLOCK, 0), 0);
                t_close(&f);
        }
}

static void read_of_no_bytes_is_0_B31(void **state)
{
        struct file f;

        t_open(&f, EXTENTS);
        assert_int_equal(t_read(&f, 0, NULL, 0, 0), 0);
        assert_int_equal(t_counter(&f, VFS_DEVICE_READS), 0);
        t_close(&f);
}

static void nowait_read_does_not_wait_for_the_inode_lock_B25_C7(void **state)
{
        static char buf[4 * BLOCK] __attribute__((aligned(4096)));
        struct file f;

        t_open(&f, EXTENTS);
        assert_int_equal(t_read(&f, 0, buf, sizeof(buf), 0), sizeof(buf)); /* warm */
        rwsem_write_lock(&f.inode->vfs.lock);
        assert_int_equal(t_read(&f, 0, buf, sizeof(buf), VFS_NOWAIT), -EAGAIN);
        rwsem_write_unlock(&f.inode->vfs.lock);
        assert_int_equal(t_counter(&f, VFS_NOWAIT_AGAIN), 1);
        /* Another reader is no obstacle. */
        rwsem_read_lock(&f.inode->vfs.lock);
        assert_int_equal(t_read(&f, 0, buf, sizeof(buf), VFS_NOWAIT), sizeof(buf));
        rwsem_read_unlock(&f.inode->vfs.lock);
        t_close(&f);
}

static void fallback_is_counted_by_reason_B26(void **state)
{
        static const struct {
                uint32_t flag;
                enum vfs_counter counter;
        } rows[] = {
                {EXT4_FL_VERITY, VFS_FALLBACK_VERITY},
                {EXT4_FL_JOURNAL_DATA, VFS_FALLBACK_DATA_JOURNAL},
        };
        char buf[33]; /* no alignment that a direct read would accept */
        struct file f;

        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
                t_open(&f, EXTENTS);
                f.inode->flags |= rows[i].flag;
                assert_int_equal(t_read(&f, BLOCK - 1, buf, sizeof(buf), 0), sizeof(buf));
                assert_int_equal(buf[0], 'a');
                assert_int_equal(buf[1], 'b');
                assert_int_equal(t_counter(&f, rows[i].counter), 1);
                assert_int_equal(t_counter(&f, VFS_DIRECT_READS), 0);
                t_close(&f);
        }
        t_open(&f, INLINE);
        assert_int_equal(t_read(&f, 1, buf, sizeof(buf), 0), 19);
        assert_int_equal(t_counter(&f, VFS_FALLBACK_INLINE), 1);
        t_close(&f);
}

static void misaligned_read_is_an_error_and_no_fallback_B27(void **state)
{
        static char buf[2 * BLOCK] __attribute__((aligned(4096)));
        struct file f;

        t_open(&f, EXTENTS);
        /* The unit is the device's logical block of 512 bytes, not the block of 1024. */
        assert_int_equal(t_read(&f, 512, buf, 512, 0), 512);
        assert_int_equal(t_read(&f, 511, buf, 512, 0), -EINVAL);
        assert_int_equal(t_read(&f, 512, buf, 511, 0), -EINVAL);
        assert_int_equal(t_counter(&f, VFS_BUFFERED_READS), 0);
        t_close(&f);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(mapping_has_the_type_of_its_block_B1_B2),
                cmocka_unit_test(only_blocks_have_an_address_B3),
                cmocka_unit_test(position_beyond_the_last_block_is_a_hole_B8_C43),
                cmocka_unit_test(mapping_covers_the_first_byte_and_may_be_longer_than_asked_B9),
                cmocka_unit_test(repeated_lookup_reads_nothing_and_needs_no_map_lock_C37),
                cmocka_unit_test(seek_finds_data_and_holes_B19_B22_B24),
                cmocka_unit_test(fiemap_covers_every_block_that_is_no_hole_B24),
                cmocka_unit_test(inline_data_is_one_extent_of_data_B20),
                cmocka_unit_test(read_gives_data_and_zeros_up_to_the_size_B29),
                cmocka_unit_test(read_of_no_bytes_is_0_B31),
                cmocka_unit_test(nowait_read_does_not_wait_for_the_inode_lock_B25_C7),
                cmocka_unit_test(fallback_is_counted_by_reason_B26),
                cmocka_unit_test(misaligned_read_is_an_error_and_no_fallback_B27),
        };

        return cmocka_run_group_tests(tests, make_images, free_images);
}
