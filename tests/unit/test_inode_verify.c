/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Inodes: raw bytes made by hand, wrong in one field, a row each; and the fields that come out
 * of bytes that are right.
 */

#include "t_fs.h"

#define BITS      10
#define NR_BLOCKS 4096u
#define ITABLE    100u /* block of the inode table */
#define INO       13u
#define OFF(f)    offsetof(struct ext4_inode_disk, f)

/* One group of 64 inodes. */
static void fs_init(struct t_fs *t, uint32_t inode_size)
{
        struct ext4_group_desc *gd;
        struct ext4_fs *fs;

        t_fs_init(t, BITS, NR_BLOCKS);
        fs = t->fs;
        fs->inode_size = inode_size;
        fs->desc_size = 32;
        fs->descs_per_block = fs->block_size / 32;
        fs->inodes_per_group = 64;
        fs->nr_inodes = 64;
        fs->blocks_per_group = 8192;
        fs->nr_groups = 1;
        fs->sb_fsblk = 1;
        fs->csum_seed = 0x5eed5eed;
        gd = t_block(t, 2);
        gd->bg_block_bitmap_lo = le32_make(3);
        gd->bg_inode_bitmap_lo = le32_make(4);
        gd->bg_inode_table_lo = le32_make(ITABLE);
}

static void set_incompat(struct t_fs *t, uint32_t bits)
{
        t->fs->sb.s_feature_incompat = le32_make(bits);
}

static void set_ro_compat(struct t_fs *t, uint32_t bits)
{
        t->fs->sb.s_feature_ro_compat = le32_make(bits);
}

/* A regular file without blocks. */
static void raw_init(const struct t_fs *t, struct ext4_inode_disk *di)
{
        memset(di, 0, 128);
        if (t->fs->inode_size > 128) {
                memset((char *)di + 128, 0, t->fs->inode_size - 128);
                di->i_extra_isize = le16_make(32);
        }
        di->i_mode = le16_make(S_IFREG | 0644);
        di->i_links_count = le16_make(1);
}

static struct ext4_inode_disk *raw_in_table(struct t_fs *t)
{
        return (void *)((char *)t_block(t, ITABLE) + (INO - 1) * t->fs->inode_size);
}

static void seal(const struct t_fs *t, uint32_t ino, struct ext4_inode_disk *di)
{
        const le32 nr = le32_make(ino);
        uint32_t crc = crc32c(t->fs->csum_seed, &nr, 4);
        bool has_hi = t->fs->inode_size > 128 && le16_get(di->i_extra_isize) >= 4;

        crc = crc32c(crc, &di->i_generation, 4);
        di->i_checksum_lo = le16_make(0);
        if (has_hi)
                di->i_checksum_hi = le16_make(0);
        crc = crc32c(crc, di, t->fs->inode_size);
        di->i_checksum_lo = le16_make((uint16_t)crc);
        if (has_hi)
                di->i_checksum_hi = le16_make((uint16_t)(crc >> 16));
}

/* ---- checks ---- */

static const struct {
        const char *name;
        uint32_t inode_size;
        uint32_t incompat;
        struct {
                size_t at;
                unsigned width;
                uint32_t value;
        } change[3];
        int want;
        const char *said;
} rows[] = {
        {"valid", 256, 0, {}, 0, NULL},
        {"valid, 128 bytes", 128, 0, {}, 0, NULL},
        {"valid, 1024 bytes", 1024, 0, {}, 0, NULL},

        {"free", 256, 0, {{OFF(i_links_count), 2, 0}}, -ESTALE, NULL},
        {"free and full of rubbish",
         256,
         0,
         {{OFF(i_links_count), 2, 0}, {OFF(i_mode), 2, 0xffff}},
         -ESTALE,
         NULL},

        {"no type", 256, 0, {{OFF(i_mode), 2, 0644}}, -EUCLEAN, "file type 0 is unknown"},
        {"unknown type 3", 256, 0, {{OFF(i_mode), 2, 0x3000}}, -EUCLEAN, "file type 30000"},
        {"unknown type 15", 256, 0, {{OFF(i_mode), 2, 0xf000}}, -EUCLEAN, "file type 170000"},
        {"fifo", 256, 0, {{OFF(i_mode), 2, S_IFIFO}}, 0, NULL},
        {"socket", 256, 0, {{OFF(i_mode), 2, S_IFSOCK}}, 0, NULL},
        {"character device", 256, 0, {{OFF(i_mode), 2, S_IFCHR}}, 0, NULL},
        {"block device", 256, 0, {{OFF(i_mode), 2, S_IFBLK}}, 0, NULL},
        {"symlink", 256, 0, {{OFF(i_mode), 2, S_IFLNK}}, 0, NULL},
        {"directory", 256, 0, {{OFF(i_mode), 2, S_IFDIR}}, 0, NULL},

        {"no extra fields", 256, 0, {{OFF(i_extra_isize), 2, 0}}, 0, NULL},
        {"extra fields fill the inode", 256, 0, {{OFF(i_extra_isize), 2, 128}}, 0, NULL},
        {"extra fields behind the inode",
         256,
         0,
         {{OFF(i_extra_isize), 2, 132}},
         -EUCLEAN,
         "extra size 132"},
        {"extra fields far behind",
         256,
         0,
         {{OFF(i_extra_isize), 2, 0xfffc}},
         -EUCLEAN,
         "extra size 65532"},
        {"extra size not a multiple of 4",
         256,
         0,
         {{OFF(i_extra_isize), 2, 30}},
         -EUCLEAN,
         "extra size 30"},
        {"in 128 bytes there is no extra size", 128, 0, {}, 0, NULL},

        {"largest size",
         256,
         0,
         {{OFF(i_size_lo), 4, 0xffffffff}, {OFF(i_size_hi), 4, 0x7fffffff}},
         0,
         NULL},
        {"negative size",
         256,
         0,
         {{OFF(i_size_hi), 4, 0x80000000}},
         -EUCLEAN,
         "size is negative"},
        {"a directory's size has no upper half",
         256,
         0,
         {{OFF(i_mode), 2, S_IFDIR}, {OFF(i_size_hi), 4, 0x80000000}},
         0,
         NULL},
        {"with large_dir it has",
         256,
         EXT4_INCOMPAT_LARGEDIR,
         {{OFF(i_mode), 2, S_IFDIR}, {OFF(i_size_hi), 4, 0x80000000}},
         -EUCLEAN,
         "size is negative"},

        {"attribute block", 256, 0, {{OFF(i_file_acl_lo), 4, NR_BLOCKS - 1}}, 0, NULL},
        {"attribute block behind the end",
         256,
         0,
         {{OFF(i_file_acl_lo), 4, NR_BLOCKS}},
         -EUCLEAN,
         "attribute block 4096 is outside"},
        {"attribute block, upper half",
         256,
         0,
         {{OFF(i_file_acl_hi), 2, 1}},
         -EUCLEAN,
         "attribute block 4294967296 is outside"},

        {"inline data without the feature",
         256,
         0,
         {{OFF(i_flags), 4, EXT4_FL_INLINE_DATA}},
         -EUCLEAN,
         "inline data without the feature"},
        {"inline data",
         256,
         EXT4_INCOMPAT_INLINE_DATA,
         {{OFF(i_flags), 4, EXT4_FL_INLINE_DATA}},
         0,
         NULL},
        {"inline data without extra fields",
         256,
         EXT4_INCOMPAT_INLINE_DATA,
         {{OFF(i_flags), 4, EXT4_FL_INLINE_DATA}, {OFF(i_extra_isize), 2, 0}},
         -EUCLEAN,
         "inline data without attribute space"},
        {"inline data in 128 bytes",
         128,
         EXT4_INCOMPAT_INLINE_DATA,
         {{OFF(i_flags), 4, EXT4_FL_INLINE_DATA}},
         -EUCLEAN,
         "inline data without attribute space"},

        {"extent root of zeros",
         256,
         0,
         {{OFF(i_flags), 4, EXT4_FL_EXTENTS}},
         -EUCLEAN,
         "extent node: the magic is 0000"},
        {"extent root of zeros, directory",
         256,
         0,
         {{OFF(i_flags), 4, EXT4_FL_EXTENTS}, {OFF(i_mode), 2, S_IFDIR}},
         -EUCLEAN,
         "magic"},
        {"extent root of zeros, symlink",
         256,
         0,
         {{OFF(i_flags), 4, EXT4_FL_EXTENTS}, {OFF(i_mode), 2, S_IFLNK}},
         -EUCLEAN,
         "magic"},
        {"a fifo has no extents",
         256,
         0,
         {{OFF(i_flags), 4, EXT4_FL_EXTENTS}, {OFF(i_mode), 2, S_IFIFO}},
         0,
         NULL},
        {"inline data have no extents",
         256,
         EXT4_INCOMPAT_INLINE_DATA,
         {{OFF(i_flags), 4, EXT4_FL_EXTENTS | EXT4_FL_INLINE_DATA}},
         0,
         NULL},
        {"empty extent root",
         256,
         0,
         {{OFF(i_flags), 4, EXT4_FL_EXTENTS},
          {OFF(i_block), 4, EXT4_EXTENT_MAGIC},
          {OFF(i_block) + 4, 4, 4}},
         0,
         NULL},
        {"extent root with too much room",
         256,
         0,
         {{OFF(i_flags), 4, EXT4_FL_EXTENTS},
          {OFF(i_block), 4, EXT4_EXTENT_MAGIC},
          {OFF(i_block) + 4, 4, 5}},
         -EUCLEAN,
         "room for 5"},
};

static void each_wrong_field_of_an_inode_is_found(void **state)
{
        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
                _Alignas(8) char raw[1024];
                struct t_fs t;

                fs_init(&t, rows[i].inode_size);
                set_incompat(&t, rows[i].incompat);
                raw_init(&t, (void *)raw);
                for (size_t c = 0; c < ARRAY_LEN(rows[i].change); c++)
                        for (unsigned b = 0; b < rows[i].change[c].width; b++)
                                raw[rows[i].change[c].at + b] =
                                        (char)(rows[i].change[c].value >> 8 * b);
                t_assert_row(rows[i].name, ext4_inode_check(t.fs, INO, raw), rows[i].want);
                t_assert_row(rows[i].name, t.log.nr_lines, rows[i].said ? 1 : 0);
                if (rows[i].said && !t_log_has(&t.log, rows[i].said))
                        fail_msg("%s: the log says %s", rows[i].name, t.log.text);
                if (rows[i].said && !t_log_has(&t.log, "inode 13: "))
                        fail_msg("%s: no inode in %s", rows[i].name, t.log.text);
                t_fs_done(&t);
        }
}

static void attribute_block_of_the_hurd_has_32_bits(void **state)
{
        _Alignas(8) char raw[256];
        struct ext4_inode_disk *di = (void *)raw;
        struct t_fs t;

        fs_init(&t, 256);
        t.fs->sb.s_creator_os = le32_make(1);
        raw_init(&t, di);
        di->i_file_acl_hi = le16_make(0xffff); /* is something else there */
        assert_int_equal(ext4_inode_check(t.fs, INO, raw), 0);
        t_fs_done(&t);
}

/* ---- checksums ---- */

static const struct {
        const char *name;
        uint32_t inode_size, extra;
} sizes[] = {
        {"128 bytes", 128, 0},    {"no room for the upper half", 256, 0},
        {"upper half", 256, 4},   {"all extra fields", 256, 32},
        {"1024 bytes", 1024, 32},
};

static void checksum_covers_every_byte(void **state)
{
        for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
                _Alignas(8) char raw[1024];
                struct ext4_inode_disk *di = (void *)raw;
                struct t_fs t;

                fs_init(&t, sizes[i].inode_size);
                t.fs->has_metadata_csum = true;
                raw_init(&t, di);
                if (sizes[i].inode_size > 128)
                        di->i_extra_isize = le16_make((uint16_t)sizes[i].extra);
                di->i_generation = le32_make(99);
                seal(&t, INO, di);
                t_assert_row(sizes[i].name, ext4_inode_check(t.fs, INO, raw), 0);
                t_assert_row(sizes[i].name, ext4_inode_csum_ok(t.fs, INO + 1, raw), 0);
                for (uint32_t b = 0; b < sizes[i].inode_size; b++) {
                        raw[b] ^= 0x40;
                        if (ext4_inode_csum_ok(t.fs, INO, raw))
                                fail_msg("%s: byte %u does not count", sizes[i].name, b);
                        raw[b] ^= 0x40;
                }
                raw[8] ^= 1;
                t_assert_row(sizes[i].name, ext4_inode_check(t.fs, INO, raw), -EBADMSG);
                assert_true(t_log_has(&t.log, "inode 13: inode: the checksum does not match"));
                t.fs->opts.nocsum = true;
                t_assert_row(sizes[i].name, ext4_inode_check(t.fs, INO, raw), 0);
                t_fs_done(&t);
        }
}

static void free_inode_needs_no_checksum(void **state)
{
        static const char zeros[256];
        struct t_fs t;

        fs_init(&t, 256);
        t.fs->has_metadata_csum = true;
        assert_int_equal(ext4_inode_check(t.fs, INO, zeros), -ESTALE);
        assert_int_equal(t.log.nr_lines, 0);
        t_fs_done(&t);
}

/* ---- loading ---- */

static void load(struct t_fs *t, struct ext4_inode *inode)
{
        t_fs_drop_cache(t);
        t_inode_init(inode, t->fs, INO);
        assert_int_equal(ext4_inode_load(inode), 0);
}

static const struct {
        const char *name;
        uint32_t seconds, extra;
        int64_t want_sec;
        long want_nsec;
} times[] = {
        {"the epoch", 0, 0, 0, 0},
        {"a second before (1969)", 0xffffffff, 0, -1, 0},
        {"the earliest (1901)", 0x80000000, 0, -0x80000000ll, 0},
        {"last of the old fields (2038)", 0x7fffffff, 0, 0x7fffffff, 0},
        {"first with an epoch (2038)", 0x80000000, 1, 0x80000000ll, 0},
        {"last before 2106", 0xffffffff, 1, 0xffffffffll, 0},
        {"first in 2106", 0, 1, 0x100000000ll, 0},
        {"epoch 2, negative", 0x80000000, 2, 0x180000000ll, 0},
        {"epoch 2", 0, 2, 0x200000000ll, 0},
        {"epoch 3, negative", 0x80000000, 3, 0x280000000ll, 0},
        {"the latest (2446)", 0x7fffffff, 3, 0x37fffffffll, 0},
        {"nanoseconds", 5, 123456789u << 2, 5, 123456789},
        {"most nanoseconds", 5, 999999999u << 2 | 3, 0x300000005ll, 999999999},
        {"nanoseconds before 1970", 0xffffffff, 1u << 2, -1, 1},
        {"too many nanoseconds", 5, 0xfffffffc, 5, 999999999},
};

static void assert_time(const char *row, const struct timespec *got, int64_t sec, long nsec)
{
        t_assert_row(row, got->tv_sec, sec);
        t_assert_row(row, got->tv_nsec, nsec);
}

static void times_have_34_bits_and_nanoseconds(void **state)
{
        struct t_fs t;

        fs_init(&t, 256);
        for (size_t i = 0; i < ARRAY_LEN(times); i++) {
                const le32 sec = le32_make(times[i].seconds), extra = le32_make(times[i].extra);
                struct ext4_inode_disk *di = raw_in_table(&t);
                struct ext4_inode inode;

                for (int field = 0; field < 4; field++) {
                        const char *row = times[i].name;
                        struct timespec want[4] = {};

                        raw_init(&t, di);
                        *(field == 0   ? &di->i_atime
                          : field == 1 ? &di->i_mtime
                          : field == 2 ? &di->i_ctime
                                       : &di->i_crtime) = sec;
                        *(field == 0   ? &di->i_atime_extra
                          : field == 1 ? &di->i_mtime_extra
                          : field == 2 ? &di->i_ctime_extra
                                       : &di->i_crtime_extra) = extra;
                        want[field] = (struct timespec){times[i].want_sec, times[i].want_nsec};
                        load(&t, &inode);
                        assert_time(row, &inode.atime, want[0].tv_sec, want[0].tv_nsec);
                        assert_time(row, &inode.mtime, want[1].tv_sec, want[1].tv_nsec);
                        assert_time(row, &inode.ctime, want[2].tv_sec, want[2].tv_nsec);
                        assert_time(row, &inode.btime, want[3].tv_sec, want[3].tv_nsec);
                        t_inode_done(&inode);
                }
        }
        t_fs_done(&t);
}

static void fields_behind_the_extra_size_are_not_there(void **state)
{
        /* i_extra_isize, and which of ctime, mtime, atime have extra bits, btime is there and
         * has extra bits. */
        static const struct {
                uint16_t extra;
                bool c, m, a, b, b_extra;
        } reach[] = {
                {0, false, false, false, false, false}, {4, false, false, false, false, false},
                {8, true, false, false, false, false},  {12, true, true, false, false, false},
                {16, true, true, true, false, false},   {20, true, true, true, true, false},
                {24, true, true, true, true, true},     {32, true, true, true, true, true},
        };
        struct t_fs t;

        fs_init(&t, 256);
        for (size_t i = 0; i < ARRAY_LEN(reach); i++) {
                struct ext4_inode_disk *di = raw_in_table(&t);
                struct ext4_inode inode;
                const char *row = "extra size";

                raw_init(&t, di);
                di->i_ctime = di->i_mtime = di->i_atime = di->i_crtime = le32_make(7);
                di->i_ctime_extra = di->i_mtime_extra = di->i_atime_extra = di->i_crtime_extra =
                        le32_make(9u << 2);
                di->i_extra_isize = le16_make(reach[i].extra);
                if (reach[i].extra == 0)
                        memset((char *)di + 132, 0, 124); /* the attributes begin at 128 */
                load(&t, &inode);
                assert_time(row, &inode.ctime, 7, reach[i].c ? 9 : 0);
                assert_time(row, &inode.mtime, 7, reach[i].m ? 9 : 0);
                assert_time(row, &inode.atime, 7, reach[i].a ? 9 : 0);
                assert_time(row, &inode.btime, reach[i].b ? 7 : 0, reach[i].b_extra ? 9 : 0);
                t_inode_done(&inode);
        }
        t_fs_done(&t);
}

static void inodes_of_128_bytes_have_the_old_fields(void **state)
{
        struct ext4_inode_disk *di;
        struct ext4_inode inode;
        struct t_fs t;

        fs_init(&t, 128);
        set_ro_compat(&t, EXT4_RO_COMPAT_PROJECT);
        di = raw_in_table(&t);
        memset(di + 1, 0xff, 64); /* of the next inode: not ours */
        raw_init(&t, di);
        memset((char *)di + 128, 0xff, 64);
        di->i_mtime = le32_make(0xffffffff);
        di->i_size_lo = le32_make(5);
        load(&t, &inode);
        assert_time("mtime", &inode.mtime, -1, 0);
        assert_time("btime", &inode.btime, 0, 0);
        assert_int_equal(inode.projid, 0);
        assert_int_equal(vfs_size(&inode.vfs), 5);
        assert_null(inode.ibody);
        assert_int_equal(inode.ibody_size, 0);
        t_inode_done(&inode);
        t_fs_done(&t);
}

static void owners_have_32_bits(void **state)
{
        struct ext4_inode_disk *di;
        struct ext4_inode inode;
        struct t_fs t;

        fs_init(&t, 256);
        di = raw_in_table(&t);
        raw_init(&t, di);
        di->i_uid_lo = le16_make(0x1234);
        di->i_uid_hi = le16_make(0xfedc);
        di->i_gid_lo = le16_make(0xffff);
        di->i_gid_hi = le16_make(0xffff);
        di->i_projid = le32_make(0xabcdef01);
        di->i_links_count = le16_make(65000);
        di->i_generation = le32_make(0x89abcdef);
        load(&t, &inode);
        assert_int_equal(inode.uid, 0xfedc1234);
        assert_int_equal(inode.gid, 0xffffffff);
        assert_int_equal(inode.nlink, 65000);
        assert_int_equal(inode.generation, 0x89abcdef);
        assert_int_equal(inode.projid, 0); /* without the feature */
        t_inode_done(&inode);
        set_ro_compat(&t, EXT4_RO_COMPAT_PROJECT);
        load(&t, &inode);
        assert_int_equal(inode.projid, 0xabcdef01);
        t_inode_done(&inode);
        t_fs_done(&t);
}

static const struct {
        const char *name;
        uint32_t mode, old, new;
        uint32_t major, minor;
} devices[] = {
        {"old encoding", S_IFBLK, 0x0801, 0, 8, 1},
        {"old encoding, largest", S_IFCHR, 0xffff, 0, 255, 255},
        {"new encoding", S_IFBLK, 0, 0x0801, 8, 1},
        {"new encoding, minor of 20 bits", S_IFBLK, 0, 0xfff008ff, 8, 0xfffff},
        {"new encoding, major of 12 bits", S_IFCHR, 0, 0x000fff00, 4095, 0},
        {"new encoding, all", S_IFCHR, 0, 0x12345678, 0x456, 0x12378},
        {"old one wins", S_IFCHR, 0x0103, 0x0801, 1, 3},
        {"none", S_IFCHR, 0, 0, 0, 0},
        {"not of a file", S_IFREG, 0x0801, 0, 0, 0},
};

static void device_numbers_have_two_encodings(void **state)
{
        struct t_fs t;

        fs_init(&t, 256);
        for (size_t i = 0; i < ARRAY_LEN(devices); i++) {
                struct ext4_inode_disk *di = raw_in_table(&t);
                const le32 words[2] = {le32_make(devices[i].old), le32_make(devices[i].new)};
                struct ext4_inode inode;

                raw_init(&t, di);
                di->i_mode = le16_make((uint16_t)devices[i].mode);
                memcpy(di->i_block, words, sizeof(words));
                load(&t, &inode);
                t_assert_row(devices[i].name, inode.rdev_major, devices[i].major);
                t_assert_row(devices[i].name, inode.rdev_minor, devices[i].minor);
                t_inode_done(&inode);
        }
        t_fs_done(&t);
}

static const struct {
        const char *name;
        uint32_t ro_compat, flags, lo;
        uint16_t hi;
        uint64_t want;
} counts[] = {
        {"32 bits", 0, 0, 0xffffffff, 0, 0xffffffff},
        {"upper half without huge_file", 0, 0, 8, 1, 8},
        {"flag without huge_file", 0, EXT4_FL_HUGE_FILE, 8, 0, 8},
        {"48 bits", EXT4_RO_COMPAT_HUGE_FILE, 0, 8, 0x1234, 0x123400000008},
        {"in blocks", EXT4_RO_COMPAT_HUGE_FILE, EXT4_FL_HUGE_FILE, 3, 0, 6},
        {"48 bits in blocks", EXT4_RO_COMPAT_HUGE_FILE, EXT4_FL_HUGE_FILE, 0xffffffff, 0xffff,
         0x1fffffffffffe},
};

static void blocks_count_sectors_or_blocks(void **state)
{
        for (size_t i = 0; i < ARRAY_LEN(counts); i++) {
                struct ext4_inode_disk *di;
                struct ext4_inode inode;
                struct t_fs t;

                fs_init(&t, 256);
                set_ro_compat(&t, counts[i].ro_compat);
                di = raw_in_table(&t);
                raw_init(&t, di);
                di->i_flags = le32_make(counts[i].flags);
                di->i_blocks_lo = le32_make(counts[i].lo);
                di->i_blocks_hi = le16_make(counts[i].hi);
                load(&t, &inode);
                t_assert_row(counts[i].name, inode.blocks, counts[i].want);
                t_inode_done(&inode);
                t_fs_done(&t);
        }
}

static void size_has_an_upper_half_in_files(void **state)
{
        static const struct {
                const char *name;
                uint32_t mode, incompat;
                uint64_t want;
        } sizes_of[] = {
                {"file", S_IFREG, 0, 0x500000007},
                {"directory", S_IFDIR, 0, 7},
                {"directory with large_dir", S_IFDIR, EXT4_INCOMPAT_LARGEDIR, 0x500000007},
                {"fifo", S_IFIFO, 0, 7},
        };

        for (size_t i = 0; i < ARRAY_LEN(sizes_of); i++) {
                struct ext4_inode_disk *di;
                struct ext4_inode inode;
                struct t_fs t;

                fs_init(&t, 256);
                set_incompat(&t, sizes_of[i].incompat);
                di = raw_in_table(&t);
                raw_init(&t, di);
                di->i_mode = le16_make((uint16_t)sizes_of[i].mode);
                di->i_size_lo = le32_make(7);
                di->i_size_hi = le32_make(5);
                load(&t, &inode);
                t_assert_row(sizes_of[i].name, vfs_size(&inode.vfs), sizes_of[i].want);
                t_inode_done(&inode);
                t_fs_done(&t);
        }
}

/* ---- what cannot be loaded ---- */

static int load_ret(struct t_fs *t, uint32_t ino)
{
        struct ext4_inode inode;
        int ret;

        t_inode_init(&inode, t->fs, ino);
        ret = ext4_inode_load(&inode);
        t_inode_done(&inode);
        return ret;
}

static void numbers_outside_are_stale(void **state)
{
        struct t_fs t;

        fs_init(&t, 256);
        assert_int_equal(load_ret(&t, 0), -ESTALE);
        assert_int_equal(load_ret(&t, 65), -ESTALE);
        assert_int_equal(load_ret(&t, UINT32_MAX), -ESTALE);
        assert_int_equal(load_ret(&t, 64), -ESTALE); /* free */
        assert_int_equal(t.log.nr_lines, 0);
        t_fs_done(&t);
}

static void load_without_memory_leaves_nothing(void **state)
{
        struct t_fs t;

        fs_init(&t, 256);
        raw_init(&t, raw_in_table(&t));
        for (int n = 0;; n++) {
                int ret;

                t_fs_drop_cache(&t);
                mem_fail_after(n);
                ret = load_ret(&t, INO);
                mem_fail_after(-1);
                if (ret == 0) {
                        assert_true(n > 2);
                        break;
                }
                assert_int_equal(ret, -ENOMEM);
        }
        t_fs_done(&t);
}

static void damaged_group_is_not_the_inodes_fault(void **state)
{
        struct ext4_group_desc *gd;
        struct t_fs t;

        fs_init(&t, 256);
        raw_init(&t, raw_in_table(&t));
        gd = t_block(&t, 2);
        gd->bg_inode_table_lo = le32_make(NR_BLOCKS);
        assert_int_equal(load_ret(&t, INO), -EUCLEAN);
        assert_true(t_log_has(&t.log, "group 0: the inode table at 4096 is outside"));
        t_fs_done(&t);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(each_wrong_field_of_an_inode_is_found),
                cmocka_unit_test(attribute_block_of_the_hurd_has_32_bits),
                cmocka_unit_test(checksum_covers_every_byte),
                cmocka_unit_test(free_inode_needs_no_checksum),
                cmocka_unit_test(times_have_34_bits_and_nanoseconds),
                cmocka_unit_test(fields_behind_the_extra_size_are_not_there),
                cmocka_unit_test(inodes_of_128_bytes_have_the_old_fields),
                cmocka_unit_test(owners_have_32_bits),
                cmocka_unit_test(device_numbers_have_two_encodings),
                cmocka_unit_test(blocks_count_sectors_or_blocks),
                cmocka_unit_test(size_has_an_upper_half_in_files),
                cmocka_unit_test(numbers_outside_are_stale),
                cmocka_unit_test(load_without_memory_leaves_nothing),
                cmocka_unit_test(damaged_group_is_not_the_inodes_fault),
        };

        return cmocka_run_group_tests_name("inode_verify", tests, NULL, NULL);
}
