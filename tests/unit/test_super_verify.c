/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The superblock, the feature gate and the group descriptors.  Images are made by mke2fs, so
 * that what is right is somebody else's word; then one field is made wrong, a row each.
 */

#include <sys/statvfs.h>

#include "t_fs.h"

enum kind {
        PLAIN,     /* 4k blocks, no checksums, descriptors of 32 bytes */
        CRC32C,    /* 1k, metadata_csum, 64 bytes */
        CRC16,     /* 1k, uninit_bg, 32 bytes */
        CRC16_64,  /* 1k, uninit_bg, 64 bytes */
        META_BG,   /* 1k, metadata_csum, 64 groups, meta_bg */
        META_BG16, /* 1k, uninit_bg, 64 groups, meta_bg, a copy in each group */
        NR_KINDS,
};

#define COMMON "-O none,extent,filetype,sparse_super,"

static const struct {
        const char *name;
        const char *options;
        uint64_t size;
        unsigned bits;
        uint32_t desc_size;
        uint32_t backup; /* as sb= */
} kinds[NR_KINDS] = {
        {"plain", "-b 4096 -g 256 -I 256 -N 128 -O none,extent,filetype,sparse_super", 8 << 20,
         12, 32, 1024},
        {"crc32c", "-b 1024 -g 1024 -I 256 -N 128 " COMMON "64bit,metadata_csum", 8 << 20, 10,
         64, 1025},
        {"crc16", "-b 1024 -g 1024 -I 128 -N 128 " COMMON "uninit_bg", 8 << 20, 10, 32, 1025},
        {"crc16 64bit", "-b 1024 -g 1024 -I 256 -N 128 " COMMON "64bit,uninit_bg", 8 << 20, 10,
         64, 1025},
        {"meta_bg", "-b 1024 -g 256 -I 256 -N 512 " COMMON "64bit,metadata_csum,meta_bg",
         16 << 20, 10, 64, 257},
        {"meta_bg crc16",
         "-b 1024 -g 256 -I 256 -N 512 -O none,extent,filetype,uninit_bg,meta_bg", 16 << 20, 10,
         32, 257},
};

static struct t_image images[NR_KINDS];

static int make_images(void **state)
{
        for (int k = 0; k < NR_KINDS; k++)
                images[k] = t_mkfs(kinds[k].size, kinds[k].options, NULL);
        return 0;
}

static int free_images(void **state)
{
        for (int k = 0; k < NR_KINDS; k++)
                t_image_free(&images[k]);
        return 0;
}

static bool is_sealed(enum kind k)
{
        return le32_get(t_super(&images[k])->s_feature_ro_compat) &
               EXT4_RO_COMPAT_METADATA_CSUM;
}

struct change {
        size_t at;
        unsigned width; /* 0: none */
        uint32_t value;
};

static void apply(void *to, const struct change *changes, size_t nr)
{
        uint8_t *bytes = to;

        for (size_t c = 0; c < nr; c++) /* little-endian */
                for (unsigned b = 0; b < changes[c].width; b++)
                        bytes[changes[c].at + b] = (uint8_t)(changes[c].value >> 8 * b);
}

static void assert_said(const char *row, const struct t_log *log, const char *what)
{
        if (what && !t_log_has(log, what))
                fail_msg("%s: the log says '%s'", row, log->text);
}

/* ---- the superblock ---- */

#define SB(f) offsetof(struct ext4_super_block, f)

static const struct {
        const char *name;
        enum kind kind;
        struct change change[3];
        int want;
        const char *said;
} rows[] = {
        {"plain as made", PLAIN, {}, 0, NULL},
        {"crc32c as made", CRC32C, {}, 0, NULL},
        {"crc16 as made", CRC16, {}, 0, NULL},
        {"crc16 64bit as made", CRC16_64, {}, 0, NULL},
        {"meta_bg as made", META_BG, {}, 0, NULL},
        {"meta_bg crc16 as made", META_BG16, {}, 0, NULL},

        {"magic",
         PLAIN,
         {{SB(s_magic), 2, 0xef54}},
         -EINVAL,
         "no ext4 superblock at byte 1024"},
        {"magic, sealed", CRC32C, {{SB(s_magic), 2, 0}}, -EINVAL, "no ext4 superblock"},

        {"block size of 128k",
         PLAIN,
         {{SB(s_log_block_size), 4, 7}},
         -EUCLEAN,
         "more than 64 KiB"},
        {"block size that overflows",
         PLAIN,
         {{SB(s_log_block_size), 4, 0xffffffff}},
         -EUCLEAN,
         "more than 64 KiB"},
        {"bigalloc, cluster of a block", PLAIN, {{SB(s_feature_ro_compat), 4, 0x201}}, 0, NULL},
        {"bigalloc, cluster of 16 blocks",
         PLAIN,
         {{SB(s_feature_ro_compat), 4, 0x201},
          {SB(s_log_cluster_size), 4, 6},
          {SB(s_clusters_per_group), 4, 16}},
         0,
         NULL},
        {"bigalloc, cluster below a block",
         PLAIN,
         {{SB(s_feature_ro_compat), 4, 0x201}, {SB(s_log_cluster_size), 4, 1}},
         -EUCLEAN,
         "cluster size"},
        {"bigalloc, cluster of 2 GiB",
         PLAIN,
         {{SB(s_feature_ro_compat), 4, 0x201}, {SB(s_log_cluster_size), 4, 21}},
         -EUCLEAN,
         "cluster size"},
        {"bigalloc, cluster that overflows",
         PLAIN,
         {{SB(s_feature_ro_compat), 4, 0x201}, {SB(s_log_cluster_size), 4, 0xffffffff}},
         -EUCLEAN,
         "cluster size"},
        {"bigalloc, clusters that are no group",
         PLAIN,
         {{SB(s_feature_ro_compat), 4, 0x201}, {SB(s_log_cluster_size), 4, 6}},
         -EUCLEAN,
         "blocks per group"},
        {"bigalloc, no clusters",
         PLAIN,
         {{SB(s_feature_ro_compat), 4, 0x201},
          {SB(s_log_cluster_size), 4, 6},
          {SB(s_clusters_per_group), 4, 0}},
         -EUCLEAN,
         "blocks per group"},

        {"inode size 0", PLAIN, {{SB(s_inode_size), 2, 0}}, -EUCLEAN, "inode size"},
        {"inode size 64", PLAIN, {{SB(s_inode_size), 2, 64}}, -EUCLEAN, "inode size"},
        {"inode size 192", PLAIN, {{SB(s_inode_size), 2, 192}}, -EUCLEAN, "inode size"},
        {"inode size above a block",
         PLAIN,
         {{SB(s_inode_size), 2, 8192}},
         -EUCLEAN,
         "inode size"},
        {"old revision has inodes of 128",
         CRC16,
         {{SB(s_rev_level), 4, 0}, {SB(s_inode_size), 2, 4711}, {SB(s_first_ino), 4, 0}},
         0,
         NULL},
        {"first inode", PLAIN, {{SB(s_first_ino), 4, 10}}, -EUCLEAN, "first inode number"},
        {"descriptors of 32 with 64bit",
         CRC32C,
         {{SB(s_desc_size), 2, 32}},
         -EUCLEAN,
         "group descriptor size"},
        {"descriptors of 0 with 64bit",
         CRC32C,
         {{SB(s_desc_size), 2, 0}},
         -EUCLEAN,
         "group descriptor size"},
        {"descriptors of 96",
         CRC32C,
         {{SB(s_desc_size), 2, 96}},
         -EUCLEAN,
         "group descriptor size"},
        {"descriptors of 2048",
         CRC32C,
         {{SB(s_desc_size), 2, 2048}},
         -EUCLEAN,
         "group descriptor size"},
        {"without 64bit the size does not matter", PLAIN, {{SB(s_desc_size), 2, 77}}, 0, NULL},

        {"no blocks", PLAIN, {{SB(s_blocks_count_lo), 4, 0}}, -EUCLEAN, "first data block"},
        {"block count that overflows",
         CRC32C,
         {{SB(s_blocks_count_hi), 4, 0xffffffff}},
         -EUCLEAN,
         "block count overflows"},
        {"without 64bit there is no upper half",
         PLAIN,
         {{SB(s_blocks_count_hi), 4, 0xffffffff}},
         0,
         NULL},
        {"more groups than inode numbers",
         CRC32C,
         {{SB(s_blocks_count_hi), 4, 0x1000}},
         -EUCLEAN,
         "more groups than inode numbers"},
        {"first data block 1 with 4k",
         PLAIN,
         {{SB(s_first_data_block), 4, 1}},
         -EUCLEAN,
         "first data block"},
        {"first data block 2",
         CRC16,
         {{SB(s_first_data_block), 4, 2}},
         -EUCLEAN,
         "first data block"},
        {"first data block behind the end",
         CRC16,
         {{SB(s_first_data_block), 4, 0xffffffff}},
         -EUCLEAN,
         "first data block"},
        {"no blocks in a group",
         PLAIN,
         {{SB(s_blocks_per_group), 4, 0}},
         -EUCLEAN,
         "blocks per group"},
        {"more blocks in a group than bits in a block",
         PLAIN,
         {{SB(s_blocks_per_group), 4, 32769}},
         -EUCLEAN,
         "blocks per group"},
        {"no inodes in a group",
         PLAIN,
         {{SB(s_inodes_per_group), 4, 0}},
         -EUCLEAN,
         "inodes per group"},
        {"more inodes in a group than bits in a block",
         PLAIN,
         {{SB(s_inodes_per_group), 4, 32769}},
         -EUCLEAN,
         "inodes per group"},
        {"another number of inodes",
         PLAIN,
         {{SB(s_inodes_count), 4, 129}},
         -EUCLEAN,
         "inode count and group count"},
        {"no inodes at all",
         PLAIN,
         {{SB(s_inodes_count), 4, 0}},
         -EUCLEAN,
         "inode count and group count"},
        {"a group more",
         PLAIN,
         {{SB(s_blocks_count_lo), 4, 2049}},
         -EUCLEAN,
         "inode count and group count"},

        {"checksum type 0",
         CRC32C,
         {{SB(s_checksum_type), 1, 0}},
         -EOPNOTSUPP,
         "unknown checksum type 0"},
        {"checksum type 2",
         CRC32C,
         {{SB(s_checksum_type), 1, 2}},
         -EOPNOTSUPP,
         "unknown checksum type 2"},
        {"larger than the device",
         PLAIN,
         {{SB(s_blocks_count_lo), 4, 4096}, {SB(s_inodes_count), 4, 256}},
         -EINVAL,
         "truncated"},

        {"journal to be replayed",
         PLAIN,
         {{SB(s_feature_incompat), 4, 0x46}},
         -EROFS,
         "noload"},
        {"both checksums: crc32c counts",
         CRC32C,
         {{SB(s_feature_ro_compat), 4, 0x411}},
         0,
         NULL},
};

static void each_wrong_field_of_the_superblock_is_found(void **state)
{
        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
                struct t_image *img = &images[rows[i].kind];
                const struct ext4_super_block saved = *t_super(img);
                struct t_mount m;
                int ret;

                apply(t_super(img), rows[i].change, ARRAY_LEN(rows[i].change));
                if (is_sealed(rows[i].kind))
                        t_super_seal(t_super(img));
                ret = t_mount(&m, img, &t_mount_ro);
                t_umount(&m);
                *t_super(img) = saved;
                if (ret != rows[i].want)
                        fail_msg("%s: got %d, want %d: %s", rows[i].name, ret, rows[i].want,
                                 m.log.text);
                assert_said(rows[i].name, &m.log, rows[i].said);
                t_assert_row(rows[i].name, m.log.nr_lines, rows[i].said ? 1 : 0);
        }
}

static void every_byte_of_the_superblock_counts(void **state)
{
        struct t_image img = t_image_copy(&images[CRC32C]);
        struct ext4_super_block *sb = t_super(&img);

        assert_true(ext4_super_csum_ok(sb)); /* as mke2fs made it */
        for (size_t i = 0; i < sizeof(*sb); i++) {
                ((char *)sb)[i] ^= 1;
                if (ext4_super_csum_ok(sb))
                        fail_msg("byte %zu does not count", i);
                ((char *)sb)[i] ^= 1;
        }
        t_image_free(&img);
}

static void damaged_superblock_is_ebadmsg_unless_nocsum(void **state)
{
        struct t_image img = t_image_copy(&images[CRC32C]);
        struct ext4_mount_options opts = t_mount_ro;
        struct t_mount m;

        t_super(&img)->s_volume_name[0] ^= 1;
        assert_int_equal(t_mount(&m, &img, &opts), -EBADMSG);
        assert_said("csum", &m.log, "superblock: the checksum does not match");
        t_umount(&m);
        opts.nocsum = true;
        assert_int_equal(t_mount(&m, &img, &opts), 0);
        t_umount(&m);
        t_image_free(&img);
}

static void cut_devices_are_refused(void **state)
{
        static const struct {
                const char *name;
                size_t size;
                const char *said;
        } cuts[] = {
                {"a sector less", (8 << 20) - 512, "truncated"},
                {"half", 4 << 20, "truncated"},
                {"the superblock alone", 2048, "truncated"},
                {"half a superblock", 1536, "no ext4 superblock"},
                {"no superblock", 1024, "no ext4 superblock"},
                {"one sector", 512, "no ext4 superblock"},
        };

        for (int k = PLAIN; k <= CRC32C; k++) {
                for (size_t i = 0; i < ARRAY_LEN(cuts); i++) {
                        struct t_image cut = {images[k].data, cuts[i].size};
                        struct t_mount m;

                        t_assert_row(cuts[i].name, t_mount(&m, &cut, &t_mount_ro), -EINVAL);
                        assert_said(cuts[i].name, &m.log, cuts[i].said);
                        t_umount(&m);
                }
        }
}

static void device_with_larger_sectors_than_blocks_is_refused(void **state)
{
        struct uext4_bdev *dev;
        struct log_sink sink;
        struct ext4_fs *fs;
        struct t_log log;

        t_log_init(&log);
        sink = t_log_sink(&log);
        assert_int_equal(
                uext4_bdev_open_buffer(images[CRC16].data, images[CRC16].size, 0, &dev), 0);
        dev->geo.logical_block = 2048;
        assert_int_equal(ext4_mount(dev, &t_mount_ro, &sink, &fs), -EINVAL);
        assert_said("sectors", &log, "transfers 2048 bytes at a time, a block has only 1024");
        uext4_bdev_close(dev);
}

static void root_that_is_none_is_corrupt(void **state)
{
        static const struct {
                const char *name;
                struct change change[1];
                int want;
                const char *said;
        } roots[] = {
                {"free",
                 {{offsetof(struct ext4_inode_disk, i_links_count), 2, 0}},
                 -EUCLEAN,
                 "inode 2: the root directory is a free inode"},
                {"a file",
                 {{offsetof(struct ext4_inode_disk, i_mode), 2, S_IFREG}},
                 -EUCLEAN,
                 "inode 2: the root directory is no directory"},
                {"no type",
                 {{offsetof(struct ext4_inode_disk, i_mode), 2, 0}},
                 -EUCLEAN,
                 "inode 2: the file type 0 is unknown"},
        };

        for (size_t i = 0; i < ARRAY_LEN(roots); i++) {
                struct t_image img = t_image_copy(&images[PLAIN]);
                const struct ext4_group_desc *gd = (void *)(img.data + 4096);
                struct t_mount m;

                apply(img.data + (size_t)le32_get(gd->bg_inode_table_lo) * 4096 + 256,
                      roots[i].change, 1);
                t_assert_row(roots[i].name, t_mount(&m, &img, &t_mount_ro), roots[i].want);
                assert_said(roots[i].name, &m.log, roots[i].said);
                t_umount(&m);
                t_image_free(&img);
        }
}

static void mount_without_memory_leaves_nothing(void **state)
{
        int fails = 0;

        for (int n = 0;; n++) {
                struct log_sink sink;
                struct uext4_bdev *dev;
                struct ext4_fs *fs;
                struct t_log log;
                int ret;

                t_log_init(&log);
                sink = t_log_sink(&log);
                assert_int_equal(uext4_bdev_open_buffer(images[CRC32C].data,
                                                        images[CRC32C].size, 0, &dev),
                                 0);
                mem_fail_after(n);
                ret = ext4_mount(dev, &t_mount_ro, &sink, &fs);
                mem_fail_after(-1);
                if (ret == 0) {
                        assert_false(ext4_unmount(fs));
                        uext4_bdev_close(dev);
                        break;
                }
                assert_int_equal(ret, -ENOMEM);
                uext4_bdev_close(dev);
                fails++;
        }
        assert_true(fails > 10);
}

/* ---- backups ---- */

static void backup_superblock_brings_its_own_descriptors(void **state)
{
        for (int k = 0; k < NR_KINDS; k++) {
                struct t_image img = t_image_copy(&images[k]);
                struct ext4_mount_options opts = t_mount_ro;
                struct t_mount m;

                /* The primary and all that follows it up to the first block bitmap is gone. */
                memset(img.data, 0, kinds[k].bits == 12 ? 8192 : 3072);
                t_assert_row(kinds[k].name, t_mount(&m, &img, &opts), -EINVAL);
                t_umount(&m);
                opts.sb_block = kinds[k].backup;
                t_assert_row(kinds[k].name, t_mount(&m, &img, &opts), 0);
                for (ext4_group_t g = 0; g < m.fs->nr_groups; g++) {
                        struct ext4_group group;

                        t_assert_row(kinds[k].name, ext4_group_get(m.fs, g, 0, &group), 0);
                }
                t_umount(&m);
                t_image_free(&img);
        }
}

static void backup_that_is_none_is_refused(void **state)
{
        static const uint64_t places[] = {2, 100, 8191, 8192, 1u << 20, INT64_MAX / 1024};

        for (size_t i = 0; i < ARRAY_LEN(places); i++) {
                struct ext4_mount_options opts = t_mount_ro;
                struct t_mount m;

                opts.sb_block = places[i];
                assert_int_equal(t_mount(&m, &images[CRC16], &opts), -EINVAL);
                assert_said("sb=", &m.log, "sb=");
                t_umount(&m);
        }
}

/* ---- features ---- */

enum word {
        COMPAT,
        INCOMPAT,
        RO_COMPAT,
};

enum what {
        FULL,   /* no reason not to write */
        READS,  /* may be read, not written */
        REFUSE, /* not even read */
};

static const struct {
        enum word word;
        unsigned bit;
        const char *name; /* as dumpe2fs and tune2fs(8) say it */
        enum what what;
} known[] = {
        {COMPAT, 0, "dir_prealloc", FULL},
        {COMPAT, 1, "imagic_inodes", READS},
        {COMPAT, 2, "has_journal", FULL},
        {COMPAT, 3, "ext_attr", FULL},
        {COMPAT, 4, "resize_inode", FULL},
        {COMPAT, 5, "dir_index", FULL},
        {COMPAT, 9, "sparse_super2", FULL},
        {COMPAT, 10, "fast_commit", FULL},
        {COMPAT, 11, "stable_inodes", FULL},
        {COMPAT, 12, "orphan_file", FULL},
        {INCOMPAT, 0, "compression", REFUSE},
        {INCOMPAT, 1, "filetype", FULL},
        {INCOMPAT, 2, "needs_recovery", FULL},
        {INCOMPAT, 3, "journal_dev", REFUSE},
        {INCOMPAT, 4, "meta_bg", FULL},
        {INCOMPAT, 6, "extent", FULL},
        {INCOMPAT, 7, "64bit", FULL},
        {INCOMPAT, 8, "mmp", READS},
        {INCOMPAT, 9, "flex_bg", FULL},
        {INCOMPAT, 10, "ea_inode", FULL},
        {INCOMPAT, 12, "dirdata", REFUSE},
        {INCOMPAT, 13, "metadata_csum_seed", FULL},
        {INCOMPAT, 14, "large_dir", FULL},
        {INCOMPAT, 15, "inline_data", FULL},
        {INCOMPAT, 16, "encrypt", FULL},
        {INCOMPAT, 17, "casefold", FULL},
        {RO_COMPAT, 0, "sparse_super", FULL},
        {RO_COMPAT, 1, "large_file", FULL},
        {RO_COMPAT, 2, "btree_dir", READS},
        {RO_COMPAT, 3, "huge_file", FULL},
        {RO_COMPAT, 4, "uninit_bg", FULL},
        {RO_COMPAT, 5, "dir_nlink", FULL},
        {RO_COMPAT, 6, "extra_isize", FULL},
        {RO_COMPAT, 7, "snapshot", READS},
        {RO_COMPAT, 8, "quota", READS},
        {RO_COMPAT, 9, "bigalloc", FULL},
        {RO_COMPAT, 10, "metadata_csum", FULL},
        {RO_COMPAT, 11, "replica", READS},
        {RO_COMPAT, 12, "read-only", READS},
        {RO_COMPAT, 13, "project", FULL},
        {RO_COMPAT, 14, "shared_blocks", READS},
        {RO_COMPAT, 15, "verity", FULL},
        {RO_COMPAT, 16, "orphan_present", FULL},
};

static void check_feature(enum word word, unsigned bit, const char *name, enum what what)
{
        struct log_sink sink;
        struct ext4_super_block sb = {};
        char text[768], reason[256];
        struct t_log log;
        le32 *words[] = {&sb.s_feature_compat, &sb.s_feature_incompat, &sb.s_feature_ro_compat};

        t_log_init(&log);
        sink = t_log_sink(&log);
        *words[word] = le32_make(1u << bit);
        ext4_feature_names(&sb, text, sizeof(text));
        assert_string_equal(text, name);
        t_assert_row(name, ext4_feature_gate(&sb, &sink, reason, sizeof(reason)),
                     what == REFUSE ? -EOPNOTSUPP : 0);
        t_assert_row(name, t_log_has(&log, name), what == REFUSE);
        if (what != REFUSE)
                t_assert_row(name, strstr(reason, name) != NULL, what == READS);
        if (what == FULL)
                assert_string_equal(reason, "");
}

static void every_known_feature_has_its_name_and_class(void **state)
{
        for (size_t i = 0; i < ARRAY_LEN(known); i++)
                check_feature(known[i].word, known[i].bit, known[i].name, known[i].what);
}

static void every_unknown_feature_is_named_by_its_bit(void **state)
{
        static const enum what classes[] = {
                [COMPAT] = FULL, [INCOMPAT] = REFUSE, [RO_COMPAT] = READS};

        for (int word = COMPAT; word <= RO_COMPAT; word++) {
                for (unsigned bit = 0; bit < 32; bit++) {
                        bool is_known = false;
                        char name[32];

                        for (size_t i = 0; i < ARRAY_LEN(known); i++)
                                is_known |=
                                        known[i].word == (enum word)word && known[i].bit == bit;
                        snprintf(name, sizeof(name), "FEATURE_%c%u", "CIR"[word], bit);
                        if (!is_known)
                                check_feature((enum word)word, bit, name, classes[word]);
                }
        }
}

static void all_features_at_once_fit_into_any_buffer(void **state)
{
        struct ext4_super_block sb = {};
        char text[2048];

        memset(&sb.s_feature_compat, 0xff, 12);
        for (size_t size = 1; size < sizeof(text); size += 13) {
                memset(text, 'x', sizeof(text));
                ext4_feature_names(&sb, text, size);
                assert_true(strnlen(text, size) < size);
                assert_int_equal(text[size], 'x');
        }
        assert_non_null(strstr(text, "orphan_present FEATURE_R17"));
}

static void all_refused_features_are_named(void **state)
{
        struct t_image img = t_image_copy(&images[PLAIN]);
        struct t_mount m;

        t_super(&img)->s_feature_incompat = le32_make(0x42 | 1u << 0 | 1u << 31);
        assert_int_equal(t_mount(&m, &img, &t_mount_ro), -EOPNOTSUPP);
        assert_said("names", &m.log, "compression FEATURE_I31");
        t_umount(&m);
        t_image_free(&img);
}

static void unknown_feature_is_told_before_its_consequences(void **state)
{
        struct t_image img = t_image_copy(&images[PLAIN]);
        struct t_mount m;

        t_super(&img)->s_feature_incompat = le32_make(0x42 | 1u << 20);
        t_super(&img)->s_inode_size = le16_make(77); /* perhaps means something else then */
        assert_int_equal(t_mount(&m, &img, &t_mount_ro), -EOPNOTSUPP);
        t_umount(&m);
        t_image_free(&img);
}

/* ---- why a mount does not write ---- */

static void readonly_reason_names_the_strongest(void **state)
{
        static const struct {
                const char *name;
                bool ro;
                uint32_t ro_compat;
                uint32_t dev_flags;
                const char *want;
                bool is_said; /* the user did not ask for it */
        } reasons[] = {
                {"asked for", true, 1, 0, "mounted with ro", false},
                {"asked for, everything else too", true, 0x80000001, UEXT4_BDEV_OPEN_READONLY,
                 "mounted with ro", false},
                {"unknown feature", false, 0x80000001, 0, "FEATURE_R31", true},
                {"known feature", false, 0x101, UEXT4_BDEV_OPEN_READONLY, "quota", true},
                {"device", false, 1, UEXT4_BDEV_OPEN_READONLY, "the device is read-only", true},
        };

        for (size_t i = 0; i < ARRAY_LEN(reasons); i++) {
                struct t_image img = t_image_copy(&images[PLAIN]);
                struct ext4_mount_options opts = t_mount_ro;
                struct log_sink sink;
                struct uext4_bdev *dev;
                struct ext4_fs *fs;
                struct t_log log;

                t_log_init(&log);
                sink = t_log_sink(&log);
                t_super(&img)->s_feature_ro_compat = le32_make(reasons[i].ro_compat);
                opts.read_only = reasons[i].ro;
                assert_int_equal(
                        uext4_bdev_open_buffer(img.data, img.size, reasons[i].dev_flags, &dev),
                        0);
                t_assert_row(reasons[i].name, ext4_mount(dev, &opts, &sink, &fs), 0);
                if (!strstr(fs->readonly_reason, reasons[i].want))
                        fail_msg("%s: %s", reasons[i].name, fs->readonly_reason);
                t_assert_row(reasons[i].name, log.nr_lines, reasons[i].is_said);
                if (reasons[i].is_said)
                        assert_said(reasons[i].name, &log, reasons[i].want);
                assert_false(ext4_unmount(fs));
                uext4_bdev_close(dev);
                t_image_free(&img);
        }
}

static void noload_reads_an_image_that_needs_recovery(void **state)
{
        struct t_image img = t_image_copy(&images[PLAIN]);
        struct ext4_mount_options opts = t_mount_ro;
        struct t_mount m;

        t_super(&img)->s_feature_incompat = le32_make(0x42 | EXT4_INCOMPAT_RECOVER);
        opts.noload = true;
        assert_int_equal(t_mount(&m, &img, &opts), 0);
        assert_said("noload", &m.log, "the journal is not replayed (noload)");
        t_umount(&m);
        t_image_free(&img);
}

static void statfs_does_not_believe_impossible_counts(void **state)
{
        struct t_image img = t_image_copy(&images[CRC32C]);
        struct ext4_super_block *sb = t_super(&img);
        struct statvfs st;
        struct t_mount m;

        assert_int_equal(t_mount(&m, &img, &t_mount_ro), 0);
        assert_int_equal(ext4_statfs(m.fs, &st), 0);
        assert_int_equal(st.f_bsize, 1024);
        assert_int_equal(st.f_blocks, 8192 - le32_get(sb->s_overhead_blocks));
        assert_int_equal(st.f_bfree, le32_get(sb->s_free_blocks_count_lo));
        assert_int_equal(st.f_bavail, le32_get(sb->s_free_blocks_count_lo) -
                                              le32_get(sb->s_r_blocks_count_lo));
        assert_int_equal(st.f_files, 128);
        assert_int_equal(st.f_ffree, 117);
        t_umount(&m);

        /* After a crash only the groups know. */
        sb->s_free_blocks_count_lo = le32_make(1);
        sb->s_free_inodes_count = le32_make(1);
        t_super_seal(sb);
        assert_int_equal(t_mount(&m, &img, &t_mount_ro), 0);
        assert_int_equal(ext4_statfs(m.fs, &st), 0);
        assert_int_equal(st.f_bfree,
                         le32_get(t_super(&images[CRC32C])->s_free_blocks_count_lo));
        assert_int_equal(st.f_ffree, 117);
        t_umount(&m);

        sb->s_free_blocks_count_hi = le32_make(1);
        sb->s_overhead_blocks = le32_make(0xffffffff);
        sb->s_free_inodes_count = le32_make(0xffffffff);
        t_super_seal(sb);
        assert_int_equal(t_mount(&m, &img, &t_mount_ro), 0);
        assert_int_equal(ext4_statfs(m.fs, &st), 0);
        assert_int_equal(st.f_blocks, 0);
        assert_true(st.f_bfree <= 8192 && st.f_bavail <= st.f_bfree);
        assert_int_equal(st.f_ffree, 117);
        t_umount(&m);
        t_image_free(&img);
}

/* ---- group descriptors ---- */

#define GD(f) offsetof(struct ext4_group_desc, f)

static void *desc_at(struct t_image *img, enum kind k, ext4_group_t group)
{
        uint64_t blk = kinds[k].bits == 10 ? 2 : 1; /* behind the superblock */

        return img->data + (blk << kinds[k].bits) + (size_t)group * kinds[k].desc_size;
}

/* The known vectors: mke2fs made the checksums. */
static void descriptors_of_mke2fs_are_right(void **state)
{
        for (int k = 0; k < NR_KINDS; k++) {
                uint64_t free_blocks = 0, used_dirs = 0;
                struct t_mount m;

                t_assert_row(kinds[k].name, t_mount(&m, &images[k], &t_mount_ro), 0);
                t_assert_row(kinds[k].name, m.fs->desc_size, kinds[k].desc_size);
                t_assert_row(kinds[k].name, m.fs->nr_groups, kinds[k].size >> 20 == 8 ? 8 : 64);
                for (ext4_group_t g = 0; g < m.fs->nr_groups; g++) {
                        struct ext4_group group;

                        t_assert_row(kinds[k].name, ext4_group_get(m.fs, g, 0, &group), 0);
                        free_blocks += group.free_clusters;
                        used_dirs += group.used_dirs;
                }
                t_assert_row(kinds[k].name, used_dirs, 2); /* the root and lost+found */
                t_assert_row(kinds[k].name, free_blocks,
                             le32_get(m.fs->sb.s_free_blocks_count_lo));
                t_assert_row(kinds[k].name, m.log.nr_lines, 0);
                t_umount(&m);
        }
}

static void inodes_of_mke2fs_are_right(void **state)
{
        struct ext4_inode *inode;
        struct t_mount m;

        assert_int_equal(t_mount(&m, &images[CRC32C], &t_mount_ro), 0);
        for (uint32_t ino = 1; ino <= 128; ino++) {
                int ret = ext4_iget(m.fs, ino, &inode);

                t_assert_row("iget", ret, ino == 2 || ino == 11 ? 0 : -ESTALE);
                if (ret == 0)
                        ext4_iput(inode);
        }
        assert_int_equal(m.log.nr_lines, 0);
        t_umount(&m);
}

static void every_byte_of_a_descriptor_counts(void **state)
{
        static const enum kind with_csum[] = {CRC32C, CRC16, CRC16_64};

        for (size_t n = 0; n < ARRAY_LEN(with_csum); n++) {
                enum kind k = with_csum[n];
                struct t_mount m;
                char desc[64];

                assert_int_equal(t_mount(&m, &images[k], &t_mount_ro), 0);
                memcpy(desc, desc_at(&images[k], k, 3), kinds[k].desc_size);
                assert_true(ext4_desc_csum_ok(m.fs, 3, desc));
                assert_false(ext4_desc_csum_ok(m.fs, 4, desc)); /* the group's number counts */
                for (size_t i = 0; i < kinds[k].desc_size; i++) {
                        desc[i] ^= 1;
                        if (ext4_desc_csum_ok(m.fs, 3, desc))
                                fail_msg("%s: byte %zu does not count", kinds[k].name, i);
                        desc[i] ^= 1;
                }
                t_umount(&m);
        }
}

static const struct {
        const char *name;
        enum kind kind;
        struct change change[1];
        int want;
        const char *said;
} descs[] = {
        {"block bitmap behind the end",
         PLAIN,
         {{GD(bg_block_bitmap_lo), 4, 2048}},
         -EUCLEAN,
         "group 3: the block bitmap at 2048 is outside"},
        {"inode bitmap behind the end",
         PLAIN,
         {{GD(bg_inode_bitmap_lo), 4, 2048}},
         -EUCLEAN,
         "group 3: the inode bitmap at 2048 is outside"},
        {"inode table behind the end",
         PLAIN,
         {{GD(bg_inode_table_lo), 4, 2048}},
         -EUCLEAN,
         "group 3: the inode table at 2048 is outside"},
        {"inode table far behind the end",
         PLAIN,
         {{GD(bg_inode_table_lo), 4, UINT32_MAX}},
         -EUCLEAN,
         "group 3: the inode table"},
        {"inode table up to the end", PLAIN, {{GD(bg_inode_table_lo), 4, 2047}}, 0, NULL},
        {"inode table over the end",
         CRC32C,
         {{GD(bg_inode_table_lo), 4, 8189}},
         -EUCLEAN,
         "group 3: the inode table at 8189 is outside"},
        {"inode table up to the end, 1k", CRC32C, {{GD(bg_inode_table_lo), 4, 8188}}, 0, NULL},
        {"inode table at block 0",
         CRC32C,
         {{GD(bg_inode_table_lo), 4, 0}},
         -EUCLEAN,
         "the inode table at 0 is outside"},
        {"block bitmap, upper half",
         CRC32C,
         {{GD(bg_block_bitmap_hi), 4, 1}},
         -EUCLEAN,
         "group 3: the block bitmap at 429"},
        {"inode bitmap, upper half",
         CRC32C,
         {{GD(bg_inode_bitmap_hi), 4, 1}},
         -EUCLEAN,
         "group 3: the inode bitmap at 429"},
        {"inode table, upper half",
         CRC32C,
         {{GD(bg_inode_table_hi), 4, 0xffffffff}},
         -EUCLEAN,
         "group 3: the inode table at 1844674406"},
        {"block bitmap at block 0",
         CRC16,
         {{GD(bg_block_bitmap_lo), 4, 0}},
         -EUCLEAN,
         "the block bitmap at 0"},
        {"counts are not believed anyway",
         CRC32C,
         {{GD(bg_free_blocks_count_hi), 2, 0xffff}},
         0,
         NULL},
};

static void each_wrong_field_of_a_descriptor_is_found(void **state)
{
        for (size_t i = 0; i < ARRAY_LEN(descs); i++) {
                struct t_image img = t_image_copy(&images[descs[i].kind]);
                struct ext4_mount_options opts = t_mount_ro;
                struct ext4_group group = {.flags = 4711};
                struct t_mount m;

                opts.nocsum = true;
                apply(desc_at(&img, descs[i].kind, 3), descs[i].change, 1);
                assert_int_equal(t_mount(&m, &img, &opts), 0);
                for (int n = 0; n < 2; n++)
                        t_assert_row(descs[i].name, ext4_group_get(m.fs, 3, 0, &group),
                                     descs[i].want);
                assert_said(descs[i].name, &m.log, descs[i].said);
                t_assert_row(descs[i].name, m.log.nr_lines, descs[i].said ? 1 : 0);
                if (descs[i].want < 0)
                        t_assert_row(descs[i].name, group.flags, 4711);
                /* One damaged group does not take its neighbours along. */
                t_assert_row(descs[i].name, ext4_group_get(m.fs, 2, 0, &group), 0);
                t_assert_row(descs[i].name, ext4_group_get(m.fs, 4, 0, &group), 0);
                t_umount(&m);
                t_image_free(&img);
        }
}

static void damaged_descriptor_is_ebadmsg_unless_nocsum(void **state)
{
        for (int k = CRC32C; k <= CRC16_64; k++) {
                struct t_image img = t_image_copy(&images[k]);
                struct ext4_mount_options opts = t_mount_ro;
                struct ext4_group group;
                struct t_mount m;

                ((struct ext4_group_desc *)desc_at(&img, (enum kind)k, 3))
                        ->bg_used_dirs_count_lo = le16_make(9);
                assert_int_equal(t_mount(&m, &img, &opts), 0);
                t_assert_row(kinds[k].name, ext4_group_get(m.fs, 3, 0, &group), -EBADMSG);
                t_assert_row(kinds[k].name, ext4_group_get(m.fs, 3, 0, &group), -EBADMSG);
                assert_said(kinds[k].name, &m.log,
                            "group descriptor: the checksum does not match");
                t_assert_row(kinds[k].name, ext4_group_get(m.fs, 4, 0, &group), 0);
                t_umount(&m);
                opts.nocsum = true;
                assert_int_equal(t_mount(&m, &img, &opts), 0);
                t_assert_row(kinds[k].name, ext4_group_get(m.fs, 3, 0, &group), 0);
                t_assert_row(kinds[k].name, group.used_dirs, 9);
                t_umount(&m);
                t_image_free(&img);
        }
}

static void upper_halves_are_read_with_64_bytes_only(void **state)
{
        struct t_image img = t_image_copy(&images[CRC32C]);
        struct ext4_mount_options opts = t_mount_ro;
        struct ext4_group_desc *gd = desc_at(&img, CRC32C, 3);
        struct ext4_group group;
        struct t_mount m;

        opts.nocsum = true;
        gd->bg_free_blocks_count_hi = gd->bg_free_inodes_count_hi = gd->bg_used_dirs_count_hi =
                gd->bg_itable_unused_hi = le16_make(0x1234);
        gd->bg_flags = le16_make(7);
        assert_int_equal(t_mount(&m, &img, &opts), 0);
        assert_int_equal(ext4_group_get(m.fs, 3, 0, &group), 0);
        assert_int_equal(group.free_clusters >> 16, 0x1234);
        assert_int_equal(group.free_inodes >> 16, 0x1234);
        assert_int_equal(group.used_dirs >> 16, 0x1234);
        assert_int_equal(group.itable_unused >> 16, 0x1234);
        assert_int_equal(group.flags, 7);
        t_umount(&m);
        t_image_free(&img);
}

/* Where a descriptor block is: only there is one, so that any other place is found out. */
static const struct {
        const char *name;
        uint32_t compat, incompat, ro_compat;
        uint32_t first_meta_bg;
        uint32_t first_data_block;
        uint32_t sb; /* as sb= */
        ext4_group_t group;
        uint64_t want; /* block */
} placement[] = {
        /* 1k blocks, 32 descriptors in a block, 1024 blocks in a group */
        {"behind the superblock", 0, 0, 1, 0, 1, 1, 0, 2},
        {"second block", 0, 0, 1, 0, 1, 1, 32, 3},
        {"behind a backup", 0, 0, 1, 0, 1, 1025, 32, 1027},
        {"meta_bg, group 0", 0, 0x10, 1, 0, 1, 1, 0, 2},
        {"meta_bg, group 31", 0, 0x10, 1, 0, 1, 1, 31, 2},
        {"meta_bg, no superblock there", 0, 0x10, 1, 0, 1, 1, 32, 32769},
        {"meta_bg, group of the same meta group", 0, 0x10, 1, 0, 1, 1, 63, 32769},
        {"meta_bg, superblocks everywhere", 0, 0x10, 0, 0, 1, 1, 32, 32770},
        {"meta_bg, copy", 0, 0x10, 1, 0, 1, 1025, 32, 33793},
        {"meta_bg, copy in group 1", 0, 0x10, 1, 0, 1, 1025, 0, 1026},
        {"meta_bg, before the first", 0, 0x10, 1, 2, 1, 1, 32, 3},
        {"meta_bg, from the first on", 0, 0x10, 1, 1, 1, 1, 32, 32769},
        {"meta_bg, block 0 is data", 0, 0x10, 1, 0, 0, 1, 0, 2},
        {"sparse_super2", 0x200, 0x10, 1, 0, 1, 1, 32, 32769},
        {"sparse_super2, second backup there", 0x200, 0x10, 1, 0, 1, 1, 64, 65538},
};

static void descriptors_are_where_the_features_say(void **state)
{
        for (size_t i = 0; i < ARRAY_LEN(placement); i++) {
                struct ext4_group_desc *gd;
                struct ext4_group group;
                struct t_fs t;

                t_fs_init(&t, 10, 100 * 1024);
                t.fs->desc_size = 32;
                t.fs->descs_per_block = 32;
                t.fs->inodes_per_group = 8;
                t.fs->blocks_per_group = 1024;
                t.fs->nr_groups = 100;
                t.fs->first_data_block = placement[i].first_data_block;
                t.fs->opts.sb_block = placement[i].sb;
                t.fs->sb_fsblk = placement[i].sb;
                t.fs->sb.s_feature_compat = le32_make(placement[i].compat);
                t.fs->sb.s_feature_incompat = le32_make(placement[i].incompat);
                t.fs->sb.s_feature_ro_compat = le32_make(placement[i].ro_compat);
                t.fs->sb.s_first_meta_bg = le32_make(placement[i].first_meta_bg);
                t.fs->sb.s_backup_bgs[0] = le32_make(1);
                t.fs->sb.s_backup_bgs[1] = le32_make(64);
                gd = (struct ext4_group_desc *)t_block(&t, placement[i].want);
                gd = (void *)((char *)gd + 32 * (placement[i].group % 32));
                gd->bg_block_bitmap_lo = le32_make(50);
                gd->bg_inode_bitmap_lo = le32_make(51);
                gd->bg_inode_table_lo = le32_make(4711);
                group.inode_table = 0;
                (void)ext4_group_get(t.fs, placement[i].group, 0, &group);
                t_assert_row(placement[i].name, group.inode_table, 4711);
                t_fs_done(&t);
        }
}

static void descriptor_block_outside_of_the_device_is_corrupt(void **state)
{
        struct ext4_group group;
        struct t_fs t;

        t_fs_init(&t, 10, 1024);
        t.fs->desc_size = 32;
        t.fs->descs_per_block = 32;
        t.fs->inodes_per_group = 8;
        t.fs->blocks_per_group = 1;
        t.fs->nr_groups = 100000;
        t.fs->sb_fsblk = 1;
        assert_int_equal(ext4_group_get(t.fs, 99999, 0, &group), -EUCLEAN);
        assert_true(t_log_has(&t.log, "group 99999: its descriptor would be at block 3126"));
        t_fs_done(&t);
}

static void nowait_needs_warm_descriptors(void **state)
{
        struct ext4_group group;
        struct t_mount m;

        assert_int_equal(t_mount(&m, &images[META_BG], &t_mount_ro), 0);
        assert_int_equal(ext4_group_get(m.fs, 63, BUF_NOWAIT, &group), -EAGAIN);
        assert_int_equal(ext4_group_get(m.fs, 63, 0, &group), 0);
        assert_int_equal(ext4_group_get(m.fs, 63, BUF_NOWAIT, &group), 0);
        t_umount(&m);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(each_wrong_field_of_the_superblock_is_found),
                cmocka_unit_test(every_byte_of_the_superblock_counts),
                cmocka_unit_test(damaged_superblock_is_ebadmsg_unless_nocsum),
                cmocka_unit_test(cut_devices_are_refused),
                cmocka_unit_test(device_with_larger_sectors_than_blocks_is_refused),
                cmocka_unit_test(root_that_is_none_is_corrupt),
                cmocka_unit_test(mount_without_memory_leaves_nothing),
                cmocka_unit_test(backup_superblock_brings_its_own_descriptors),
                cmocka_unit_test(backup_that_is_none_is_refused),
                cmocka_unit_test(every_known_feature_has_its_name_and_class),
                cmocka_unit_test(every_unknown_feature_is_named_by_its_bit),
                cmocka_unit_test(all_features_at_once_fit_into_any_buffer),
                cmocka_unit_test(all_refused_features_are_named),
                cmocka_unit_test(unknown_feature_is_told_before_its_consequences),
                cmocka_unit_test(readonly_reason_names_the_strongest),
                cmocka_unit_test(noload_reads_an_image_that_needs_recovery),
                cmocka_unit_test(statfs_does_not_believe_impossible_counts),
                cmocka_unit_test(descriptors_of_mke2fs_are_right),
                cmocka_unit_test(inodes_of_mke2fs_are_right),
                cmocka_unit_test(every_byte_of_a_descriptor_counts),
                cmocka_unit_test(each_wrong_field_of_a_descriptor_is_found),
                cmocka_unit_test(damaged_descriptor_is_ebadmsg_unless_nocsum),
                cmocka_unit_test(upper_halves_are_read_with_64_bytes_only),
                cmocka_unit_test(descriptors_are_where_the_features_say),
                cmocka_unit_test(descriptor_block_outside_of_the_device_is_corrupt),
                cmocka_unit_test(nowait_needs_warm_descriptors),
        };

        return cmocka_run_group_tests_name("super_verify", tests, make_images, free_images);
}
