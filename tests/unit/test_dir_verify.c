/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Verifiers of directory blocks: for each kind a valid block, and rows that change one field of
 * it.  The checksum is put right again after the change, unless the row is about the checksum.
 * Then what a damaged directory answers: lookups and reads over a device in memory.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "ext4/dir.h"
#include "ext4/dir_read.h"
#include "ext4/hash.h"
#include "util/crc.h"

#define T_BLOCK     1024
#define T_NR_BLOCKS 10 /* of the directory, at blocks 100.. of the device */
#define T_FIRST_BLK 100
#define T_NR_INODES 5000
#define T_DIR_INO   77
#define T_LINE_SIZE 256

static struct ext4_fs fs;
static struct ext4_inode dir;
static uint8_t device[128 * T_BLOCK] __attribute__((aligned(4096)));
static uint8_t big[65536] __attribute__((aligned(64)));
static unsigned nr_lines;
static char last_line[T_LINE_SIZE];

static void t_log(void *arg, int level, const char *text)
{
        nr_lines++;
        snprintf(last_line, sizeof(last_line), "%s", text);
}

enum t_flags {
        T_CSUM = 1u << 0,
        T_NO_FILETYPE = 1u << 1,
        T_LARGE_DIR = 1u << 2,
        T_NOCSUM_OPTION = 1u << 3,
        T_INDEXED = 1u << 4,
        T_STALE_CSUM = 1u << 5, /* do not put the checksum right */
};

static void t_setup(unsigned flags, uint32_t block_size)
{
        uint32_t incompat = 0;

        if (!(flags & T_NO_FILETYPE))
                incompat |= EXT4_INCOMPAT_FILETYPE;
        if (flags & T_LARGE_DIR)
                incompat |= EXT4_INCOMPAT_LARGEDIR;
        fs = (struct ext4_fs){
                .block_size = block_size,
                .block_bits = (uint32_t)__builtin_ctz(block_size),
                .nr_inodes = T_NR_INODES,
                .nr_blocks = 1000,
                .has_metadata_csum = flags & T_CSUM,
                .csum_seed = 0x12345678,
                .opts.nocsum = flags & T_NOCSUM_OPTION,
        };
        fs.vfs.log = (struct log_sink){.fn = t_log};
        fs.sb.s_feature_compat = le32_make(EXT4_COMPAT_DIR_INDEX);
        fs.sb.s_feature_incompat = le32_make(incompat);
        dir = (struct ext4_inode){
                .fs = &fs,
                .mode = S_IFDIR | 0755,
                .flags = EXT4_FL_EXTENTS | (flags & T_INDEXED ? EXT4_FL_INDEX : 0),
                .csum_seed = 0x9abcdef0,
        };
        vfs_inode_init(&dir.vfs, &fs.vfs, T_DIR_INO);
        atomic_store(&dir.vfs.size, (uint64_t)T_NR_BLOCKS * block_size);
        nr_lines = 0;
        last_line[0] = '\0';
}

/* ---- making blocks ---- */

static void t_put(uint8_t *block, uint32_t pos, uint32_t value, unsigned width)
{
        for (unsigned i = 0; i < width; i++)
                block[pos + i] = (uint8_t)(value >> 8 * i);
}

/* An entry; returns where the next one begins. */
static uint32_t t_entry(uint8_t *block, uint32_t pos, uint32_t ino, uint32_t rec_len,
                        const char *name)
{
        t_put(block, pos, ino, 4);
        t_put(block, pos + 4, rec_len, 2);
        block[pos + 6] = (uint8_t)strlen(name);
        block[pos + 7] = ino ? EXT4_FT_REG_FILE : 0;
        memcpy(block + pos + 8, name, strlen(name));
        return pos + rec_len;
}

static void t_seal_leaf(uint8_t *block)
{
        t_put(block, T_BLOCK - 4, crc32c(dir.csum_seed, block, T_BLOCK - 12), 4);
}

static uint32_t t_leaf_end(void)
{
        return fs.has_metadata_csum ? T_BLOCK - 12 : T_BLOCK;
}

static void t_tail(uint8_t *block)
{
        if (!fs.has_metadata_csum)
                return;
        t_entry(block, T_BLOCK - 12, 0, 12, "");
        block[T_BLOCK - 12 + 7] = EXT4_FT_DIR_CSUM;
        t_seal_leaf(block);
}

/* Where the entries of t_leaf() are. */
#define DOT    0
#define DOTDOT 12
#define FILE_A 24
#define UNUSED 44
#define FILE_B 64
#define TAIL   (T_BLOCK - 12)

static void t_leaf(uint8_t *block)
{
        uint32_t pos = 0;

        memset(block, 0, T_BLOCK);
        pos = t_entry(block, pos, T_DIR_INO, 12, ".");
        pos = t_entry(block, pos, 2, 12, "..");
        pos = t_entry(block, pos, T_NR_INODES, 20, "file-a");
        pos = t_entry(block, pos, 0, 20, "gone");
        t_entry(block, pos, 12, t_leaf_end() - pos, "b");
        t_tail(block);
}

/* Leaf with one name; the rest of the block belongs to it. */
static void t_leaf_of(uint8_t *block, uint32_t ino, const char *name)
{
        memset(block, 0, T_BLOCK);
        t_entry(block, 0, ino, t_leaf_end(), name);
        t_tail(block);
}

static uint32_t t_limit(uint32_t offset)
{
        return (T_BLOCK - offset) / 8 - (fs.has_metadata_csum ? 1 : 0);
}

/* Also when limit and count are damaged. */
static void t_seal_index(uint8_t *block, uint32_t offset, uint32_t limit, uint32_t count)
{
        uint32_t zero = 0;
        uint32_t crc;

        if (!fs.has_metadata_csum)
                return;
        crc = crc32c(dir.csum_seed, block, offset + count * 8);
        crc = crc32c(crc, block + offset + limit * 8, 4);
        crc = crc32c(crc, &zero, 4);
        t_put(block, offset + limit * 8 + 4, crc, 4);
}

/* `nr` entries: the first without a hash. */
static void t_index(uint8_t *block, uint32_t offset, const uint32_t (*entries)[2], uint32_t nr)
{
        for (uint32_t i = 0; i < nr; i++) {
                t_put(block, offset + i * 8, entries[i][0], 4);
                t_put(block, offset + i * 8 + 4, entries[i][1], 4);
        }
        t_put(block, offset, t_limit(offset), 2);
        t_put(block, offset + 2, nr, 2);
        t_seal_index(block, offset, t_limit(offset), nr);
}

static void t_root(uint8_t *block, uint8_t levels, const uint32_t (*entries)[2], uint32_t nr)
{
        memset(block, 0, T_BLOCK);
        t_entry(block, 0, T_DIR_INO, 12, ".");
        t_entry(block, 12, 2, T_BLOCK - 12, "..");
        block[28] = EXT4_DX_HASH_HALF_MD4;
        block[29] = 8;
        block[30] = levels;
        t_index(block, EXT4_DX_ROOT_OFFSET, entries, nr);
}

static void t_node(uint8_t *block, const uint32_t (*entries)[2], uint32_t nr)
{
        memset(block, 0, T_BLOCK);
        t_put(block, 4, T_BLOCK, 2);
        t_index(block, EXT4_DX_NODE_OFFSET, entries, nr);
}

static const uint32_t three_entries[][2] = {{0, 1}, {0x40000000, 2}, {0x80000000, 3}};

/* ---- rows ---- */

struct t_row {
        const char *what;
        uint32_t pos;
        unsigned width;
        uint32_t value;
        int want;
        unsigned flags;
};

enum t_kind {
        T_LEAF,
        T_ROOT,
        T_NODE,
};

static void t_make(uint8_t *block, enum t_kind kind)
{
        if (kind == T_LEAF)
                t_leaf(block);
        else if (kind == T_ROOT)
                t_root(block, 1, three_entries, 3);
        else
                t_node(block, three_entries, 3);
}

static void t_seal(uint8_t *block, enum t_kind kind)
{
        if (!fs.has_metadata_csum)
                return;
        if (kind == T_LEAF)
                t_seal_leaf(block);
        else if (kind == T_ROOT)
                t_seal_index(block, EXT4_DX_ROOT_OFFSET, t_limit(EXT4_DX_ROOT_OFFSET), 3);
        else
                t_seal_index(block, EXT4_DX_NODE_OFFSET, t_limit(EXT4_DX_NODE_OFFSET), 3);
}

static void t_run_rows(const struct t_row *rows, size_t nr, enum t_kind kind,
                       int (*verify)(const void *, size_t, uint64_t, const void *),
                       unsigned flags)
{
        for (size_t i = 0; i < nr; i++) {
                uint8_t *block = device;
                int ret;

                t_setup(flags | rows[i].flags, T_BLOCK);
                t_make(block, kind);
                t_put(block, rows[i].pos, rows[i].value, rows[i].width);
                if (!(rows[i].flags & T_STALE_CSUM))
                        t_seal(block, kind);
                ret = verify(block, T_BLOCK, T_FIRST_BLK, &dir);
                if (ret != rows[i].want)
                        fail_msg("%s: %d, not %d (%s)", rows[i].what, ret, rows[i].want,
                                 last_line);
                /* Damage is said once, sound blocks cause no noise. */
                if (nr_lines != (rows[i].want < 0))
                        fail_msg("%s: %u lines in the log", rows[i].what, nr_lines);
        }
}

/* What holds with and without checksums. */
static const struct t_row leaf_rows[] = {
        {"as made", 0, 0, 0, 0, 0},
        {"length 0", FILE_A + 4, 2, 0, -EUCLEAN, 0},
        {"length below the least", FILE_A + 4, 2, 8, -EUCLEAN, 0},
        {"length not a multiple of four", FILE_A + 4, 2, 22, -EUCLEAN, 0},
        {"length less than the name needs", FILE_A + 6, 1, 13, -EUCLEAN, 0},
        {"the longest name that fits", FILE_B + 6, 1, 1, 0, 0},
        {"length beyond the end", FILE_B + 4, 2, T_BLOCK, -EUCLEAN, 0},
        {"length 65535", FILE_B + 4, 2, 65535, -EUCLEAN, 0},
        {"a few bytes left over", FILE_B + 4, 2, TAIL - FILE_B - 8, -EUCLEAN, 0},
        {"unused entry: length beyond the end", UNUSED + 4, 2, T_BLOCK, -EUCLEAN, 0},
        {"unused entry: length too small", UNUSED + 4, 2, 4, -EUCLEAN, 0},
        {"inode beyond the last", FILE_A, 4, T_NR_INODES + 1, -EUCLEAN, 0},
        {"inode far beyond the last", FILE_A, 4, 0xffffffff, -EUCLEAN, 0},
        {"empty name", FILE_A + 6, 1, 0, -EUCLEAN, 0},
        {"slash in a name", FILE_A + 10, 1, '/', -EUCLEAN, 0},
        {"zero byte in a name", FILE_A + 10, 1, 0, -EUCLEAN, 0},
        {"slash in an unused name", UNUSED + 10, 1, '/', 0, 0},
        {"entry becomes unused", FILE_A, 4, 0, 0, 0},
        {"unknown type", FILE_A + 7, 1, 200, 0, 0},
        {"type left behind without the feature", FILE_A + 7, 1, 1, 0, T_NO_FILETYPE},
};

static const struct t_row tail_rows[] = {
        {"length swallows the tail", FILE_B + 4, 2, T_BLOCK - FILE_B, -EUCLEAN, 0},
        {"tail: inode", TAIL, 4, 1, -EUCLEAN, 0},
        {"tail: length", TAIL + 4, 2, 16, -EUCLEAN, 0},
        {"tail: name length", TAIL + 6, 1, 1, -EUCLEAN, 0},
        {"tail: type", TAIL + 7, 1, 0, -EUCLEAN, 0},
        {"checksum", TAIL + 8, 4, 1, -EBADMSG, T_STALE_CSUM},
        {"a byte of a name changed", FILE_A + 8, 1, 'x', -EBADMSG, T_STALE_CSUM},
        {"a byte that nobody uses changed", TAIL - 1, 1, 'x', -EBADMSG, T_STALE_CSUM},
        {"checksum with nocsum", TAIL + 8, 4, 1, 0, T_STALE_CSUM | T_NOCSUM_OPTION},
        {"tail: type with nocsum", TAIL + 7, 1, 0, 0, T_NOCSUM_OPTION},
};

static void leaf_fields_are_checked(void **state)
{
        t_run_rows(leaf_rows, ARRAY_LEN(leaf_rows), T_LEAF, ext4_dir_block_verify, T_CSUM);
        t_run_rows(leaf_rows, ARRAY_LEN(leaf_rows), T_LEAF, ext4_dir_block_verify, 0);
        t_run_rows(leaf_rows, ARRAY_LEN(leaf_rows), T_LEAF, ext4_dir_block_verify,
                   T_CSUM | T_INDEXED);
        t_run_rows(tail_rows, ARRAY_LEN(tail_rows), T_LEAF, ext4_dir_block_verify, T_CSUM);
}

/* A leaf for its two entries alone looks like a root; without an index it is one entry more. */
static void leaf_that_spans_the_block_is_one(void **state)
{
        t_setup(0, T_BLOCK);
        t_leaf_of(device, 12, "x");
        assert_int_equal(ext4_dir_block_verify(device, T_BLOCK, 1, &dir), 0);
        t_leaf_of(device, 0, "");
        assert_int_equal(ext4_dir_block_verify(device, T_BLOCK, 1, &dir), 0);
        t_setup(T_INDEXED, T_BLOCK);
        assert_int_equal(ext4_dir_block_verify(device, T_BLOCK, 1, &dir), 0);
        t_setup(T_CSUM, T_BLOCK);
        assert_int_equal(ext4_dir_block_verify(device, T_BLOCK, 1, &dir), -EUCLEAN);
}

static void lengths_of_64k_blocks(void **state)
{
        static const struct {
                uint32_t rec_len;
                int want;
        } rows[] = {
                {0, 0},            /* all of the block, both ways to say it */
                {65535, 0},        /* */
                {65534, -EUCLEAN}, /* 65532 + 131072 */
                {65532, -EUCLEAN}, /* four bytes less */
                {65524, -EUCLEAN}, /* twelve zero bytes are no entry */
        };

        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
                t_setup(0, 65536);
                memset(big, 0, sizeof(big));
                t_entry(big, 0, 12, 0, "x");
                t_put(big, 4, rows[i].rec_len, 2);
                assert_int_equal(ext4_dir_block_verify(big, 65536, 1, &dir), rows[i].want);
        }
        t_setup(0, 65536);
        t_entry(big, 0, 12, 65524, "x");
        t_entry(big, 65524, 13, 12, "y");
        assert_int_equal(ext4_dir_block_verify(big, 65536, 1, &dir), 0);
}

/* ---- index blocks ---- */

#define ROOT(n) (EXT4_DX_ROOT_OFFSET + (n)*8)
#define NODE(n) (EXT4_DX_NODE_OFFSET + (n)*8)

static const struct t_row root_rows[] = {
        {"as made", 0, 0, 0, 0, 0},
        {"length of .", 4, 2, 16, -EUCLEAN, 0},
        {"length of ..", 16, 2, 12, -EUCLEAN, 0},
        {"reserved", 24, 4, 1, -EUCLEAN, 0},
        {"legacy hash", 28, 1, EXT4_DX_HASH_LEGACY, 0, 0},
        {"TEA", 28, 1, EXT4_DX_HASH_TEA, 0, 0},
        {"unsigned hash, which is never stored", 28, 1, 3, -EUCLEAN, 0},
        {"hash of encrypted names", 28, 1, EXT4_DX_HASH_SIPHASH, -EUCLEAN, 0},
        {"unknown hash", 28, 1, 200, -EUCLEAN, 0},
        {"length of the header", 29, 1, 9, -EUCLEAN, 0},
        {"three levels", 30, 1, 2, -EUCLEAN, 0},
        {"three levels of a large directory", 30, 1, 2, 0, T_LARGE_DIR},
        {"four levels of a large directory", 30, 1, 3, -EUCLEAN, T_LARGE_DIR},
        {"unknown flag", 31, 1, 1, -EUCLEAN, 0},
        {"limit 0", ROOT(0), 2, 0, -EUCLEAN, 0},
        {"limit too great", ROOT(0), 2, 125, -EUCLEAN, 0},
        {"limit 65535", ROOT(0), 2, 65535, -EUCLEAN, 0},
        {"count 0", ROOT(0) + 2, 2, 0, -EUCLEAN, T_STALE_CSUM},
        {"count above the limit", ROOT(0) + 2, 2, 126, -EUCLEAN, T_STALE_CSUM},
        {"child of the first entry is the root", ROOT(0) + 4, 4, 0, -EUCLEAN, 0},
        {"child is the root", ROOT(2) + 4, 4, 0, -EUCLEAN, 0},
        {"child behind the end", ROOT(2) + 4, 4, T_NR_BLOCKS, -EUCLEAN, 0},
        {"child with bits set that are no number", ROOT(2) + 4, 4, 0x50000009, 0, 0},
        {"hashes out of order", ROOT(1), 4, 0x80000002, -EUCLEAN, 0},
        {"the same hash twice", ROOT(1), 4, 0x80000000, 0, 0},
};

static const struct t_row node_rows[] = {
        {"as made", 0, 0, 0, 0, 0},
        {"an inode", 0, 4, 12, -EUCLEAN, 0},
        {"length", 4, 2, T_BLOCK - 12, -EUCLEAN, 0},
        {"a name", 6, 1, 1, -EUCLEAN, 0},
        {"limit", NODE(0), 2, 7, -EUCLEAN, 0},
        {"limit 65535", NODE(0), 2, 65535, -EUCLEAN, 0},
        {"count 0", NODE(0) + 2, 2, 0, -EUCLEAN, T_STALE_CSUM},
        {"count above the limit", NODE(0) + 2, 2, 128, -EUCLEAN, T_STALE_CSUM},
        {"child is the root", NODE(1) + 4, 4, 0, -EUCLEAN, 0},
        {"child behind the end", NODE(1) + 4, 4, T_NR_BLOCKS, -EUCLEAN, 0},
        {"hashes out of order", NODE(2), 4, 0x3fffffff, -EUCLEAN, 0},
};

static const struct t_row index_csum_rows[] = {
        {"a hash changed", NODE(1), 4, 0x40000002, -EBADMSG, T_STALE_CSUM},
        {"checksum", T_BLOCK - 4, 4, 1, -EBADMSG, T_STALE_CSUM},
        {"reserved word of the tail", T_BLOCK - 8, 4, 1, -EBADMSG, T_STALE_CSUM},
        {"an entry that is not in use changed", NODE(3), 4, 1, 0, T_STALE_CSUM},
        {"checksum with nocsum", T_BLOCK - 4, 4, 1, 0, T_STALE_CSUM | T_NOCSUM_OPTION},
};

static void index_fields_are_checked(void **state)
{
        t_run_rows(root_rows, ARRAY_LEN(root_rows), T_ROOT, ext4_dx_root_verify,
                   T_CSUM | T_INDEXED);
        t_run_rows(root_rows, ARRAY_LEN(root_rows), T_ROOT, ext4_dx_root_verify, T_INDEXED);
        t_run_rows(node_rows, ARRAY_LEN(node_rows), T_NODE, ext4_dx_node_verify,
                   T_CSUM | T_INDEXED);
        t_run_rows(node_rows, ARRAY_LEN(node_rows), T_NODE, ext4_dx_node_verify, T_INDEXED);
        t_run_rows(index_csum_rows, ARRAY_LEN(index_csum_rows), T_NODE, ext4_dx_node_verify,
                   T_CSUM | T_INDEXED);
}

/* Who reads the blocks in turn meets the index, too, with the checksum that it has. */
static void index_blocks_are_blocks_without_names(void **state)
{
        t_run_rows(index_csum_rows, ARRAY_LEN(index_csum_rows), T_NODE, ext4_dir_block_verify,
                   T_CSUM | T_INDEXED);
        for (enum t_kind kind = T_ROOT; kind <= T_NODE; kind++) {
                unsigned nr = 0;
                struct ext4_dir_walk walk;
                const struct ext4_dir_entry *entry;

                t_setup(T_CSUM | T_INDEXED, T_BLOCK);
                t_make(device, kind);
                assert_int_equal(ext4_dir_block_verify(device, T_BLOCK, 1, &dir), 0);
                walk = ext4_dir_walk(&dir, device, T_BLOCK);
                while ((entry = ext4_dir_walk_next(&walk)))
                        nr += le32_get(entry->inode) != 0;
                assert_int_equal(nr, kind == T_ROOT ? 2 : 0);
                /* In a directory without an index it is a block that lacks a checksum. */
                dir.flags &= ~EXT4_FL_INDEX;
                assert_int_equal(ext4_dir_block_verify(device, T_BLOCK, 1, &dir), -EUCLEAN);
        }
}

/* ---- whole directories ---- */

static struct uext4_bdev *bdev;

static uint8_t *t_dir_block(unsigned lblk)
{
        return device + (T_FIRST_BLK + lblk) * T_BLOCK;
}

/* What the blocks were made to be is behind a device; the map says where. */
static void t_open(ext4_lblk_t nr_mapped)
{
        const struct ext4_map map = {
                .lblk = 0,
                .len = nr_mapped,
                .pblk = T_FIRST_BLK,
                .type = EXT4_MAP_WRITTEN,
        };
        const struct ext4_map hole = {
                .lblk = nr_mapped,
                .len = EXT4_NR_LBLKS - nr_mapped,
                .type = EXT4_MAP_HOLE,
        };

        assert_int_equal(
                uext4_bdev_open_buffer(device, sizeof(device), UEXT4_BDEV_OPEN_READONLY, &bdev),
                0);
        assert_int_equal(buf_cache_new(bdev, T_BLOCK, 1 << 20, &fs.bufs), 0);
        ext4_es_init(&dir.es);
        ext4_es_insert(&dir.es, &map, &fs.nr_cached_extents);
        ext4_es_insert(&dir.es, &hole, &fs.nr_cached_extents);
}

static void t_close(void)
{
        ext4_dir_forget_batch(&dir);
        ext4_es_clear(&dir.es, &fs.nr_cached_extents);
        buf_cache_free(fs.bufs);
        uext4_bdev_close(bdev);
        vfs_inode_done(&dir.vfs);
}

static int t_lookup(const char *name)
{
        uint32_t ino;
        int ret = ext4_dir_lookup(&dir, name, strlen(name), &ino);

        return ret < 0 ? ret : (int)ino;
}

static uint32_t t_hash(const char *name)
{
        return ext4_dx_hash(EXT4_DX_HASH_HALF_MD4, fs.sb.s_hash_seed, name, strlen(name));
}

/* Leaves 1..9, nine names "n1".."n9" in the order of their hashes, behind a root. */
static void t_indexed_dir(uint8_t levels)
{
        uint32_t entries[9][2];
        char names[9][3];

        for (unsigned i = 0; i < 9; i++) {
                unsigned at = i;

                snprintf(names[i], sizeof(names[i]), "n%u", i + 1);
                for (; at > 0 && t_hash(names[at - 1]) > t_hash(names[at]); at--) {
                        char swap[3];

                        memcpy(swap, names[at], 3);
                        memcpy(names[at], names[at - 1], 3);
                        memcpy(names[at - 1], swap, 3);
                }
        }
        if (levels == 0) {
                for (unsigned i = 0; i < 9; i++) {
                        entries[i][0] = t_hash(names[i]);
                        entries[i][1] = i + 1;
                        t_leaf_of(t_dir_block(i + 1), 20u + (unsigned)(names[i][1] - '0'),
                                  names[i]);
                }
                t_root(t_dir_block(0), 0, (const uint32_t(*)[2])entries, 9);
                return;
        }
        /* Two nodes in blocks 1 and 2 with three and four leaves; two names are left out. */
        for (unsigned i = 0; i < 7; i++) {
                entries[i][0] = t_hash(names[i]);
                entries[i][1] = i + 3;
                t_leaf_of(t_dir_block(i + 3), 20u + (unsigned)(names[i][1] - '0'), names[i]);
        }
        t_node(t_dir_block(1), (const uint32_t(*)[2])entries, 3);
        t_node(t_dir_block(2), (const uint32_t(*)[2])(entries + 3), 4);
        {
                const uint32_t top[2][2] = {{0, 1}, {t_hash(names[3]), 2}};

                t_root(t_dir_block(0), 1, top, 2);
        }
}

static void index_finds_every_name(void **state)
{
        for (unsigned flags = 0; flags <= T_CSUM; flags += T_CSUM) {
                for (uint8_t levels = 0; levels < 2; levels++) {
                        unsigned nr_found = 0;
                        char name[3] = "n1";

                        t_setup(flags | T_INDEXED, T_BLOCK);
                        t_indexed_dir(levels);
                        t_open(T_NR_BLOCKS);
                        for (; name[1] <= '9'; name[1]++) {
                                int ret = t_lookup(name);

                                if (ret != -ENOENT) {
                                        assert_int_equal(ret, 20 + name[1] - '0');
                                        nr_found++;
                                }
                        }
                        assert_int_equal(nr_found, levels ? 7 : 9);
                        assert_int_equal(t_lookup("."), T_DIR_INO);
                        assert_int_equal(t_lookup(".."), 2);
                        assert_int_equal(t_lookup("n"), -ENOENT);
                        assert_int_equal(nr_lines, 0);
                        t_close();
                }
        }
}

/* The entry of a leaf in which names of the same hash go on has the lowest bit set. */
static void collisions_go_on_in_the_next_leaf(void **state)
{
        for (uint8_t levels = 0; levels < 2; levels++) {
                t_setup(T_CSUM | T_INDEXED, T_BLOCK);
                {
                        uint32_t hash = t_hash("same");
                        const uint32_t leaves[4][2] = {
                                {0, 3}, {hash, 4}, {hash | 1, 5}, {hash + 2, 6}};
                        const uint32_t nodes[2][2] = {{0, 1}, {hash | 1, 2}};

                        if (levels == 0) {
                                t_root(t_dir_block(0), 0, leaves, 4);
                        } else {
                                t_root(t_dir_block(0), 1, nodes, 2);
                                t_node(t_dir_block(1), leaves, 2);
                                t_node(t_dir_block(2), leaves + 2, 2);
                        }
                }
                t_leaf_of(t_dir_block(3), 30, "below");
                t_leaf_of(t_dir_block(4), 31, "other");
                t_leaf_of(t_dir_block(5), 32, "same");
                t_leaf_of(t_dir_block(6), 33, "above");
                t_open(T_NR_BLOCKS);
                assert_int_equal(t_lookup("same"), 32);
                t_close();
        }
}

/* dir.c then reads all blocks; what is wrong is said once. */
static void damaged_index_falls_back_to_all_blocks(void **state)
{
        unsigned nr_found = 0;

        t_setup(T_CSUM | T_INDEXED, T_BLOCK);
        t_indexed_dir(1);
        t_put(t_dir_block(2), NODE(0), 3, 2); /* limit */
        t_open(T_NR_BLOCKS);
        for (char name[3] = "n1"; name[1] <= '9'; name[1]++) {
                int ret = t_lookup(name);

                if (ret >= 0) {
                        assert_int_equal(ret, 20 + name[1] - '0');
                        nr_found++;
                } else if (ret != -ENOENT) {
                        /* Absent, but it may be in the block, for all that is known. */
                        assert_int_equal(ret, -EUCLEAN);
                }
        }
        assert_int_equal(nr_found, 7);
        assert_int_equal(nr_lines, 1);
        t_close();

        /* The hash is unknown: the checksum is good, and all names are found. */
        t_setup(T_CSUM | T_INDEXED, T_BLOCK);
        t_indexed_dir(0);
        t_dir_block(0)[28] = 9;
        t_seal_index(t_dir_block(0), EXT4_DX_ROOT_OFFSET, t_limit(EXT4_DX_ROOT_OFFSET), 9);
        t_open(T_NR_BLOCKS);
        for (char name[3] = "n1"; name[1] <= '9'; name[1]++)
                assert_int_equal(t_lookup(name), 20 + name[1] - '0');
        assert_int_equal(t_lookup("absent"), -ENOENT);
        assert_int_equal(nr_lines, 1);
        t_close();
}

/* An index that goes in circles over the same leaf ends. */
static void leaves_are_bounded(void **state)
{
        static const unsigned nr = 100;
        uint32_t entries[100][2];

        t_setup(T_INDEXED, T_BLOCK);
        for (unsigned i = 0; i < nr; i++) {
                entries[i][0] = t_hash("x") | 1;
                entries[i][1] = 1;
        }
        entries[1][0] = t_hash("x");
        t_root(t_dir_block(0), 0, (const uint32_t(*)[2])entries, nr);
        for (unsigned i = 1; i < T_NR_BLOCKS; i++)
                t_leaf_of(t_dir_block(i), 0, "");
        t_open(T_NR_BLOCKS);
        assert_int_equal(t_lookup("x"), -ENOENT); /* said, and all blocks were read */
        assert_int_equal(nr_lines, 1);
        t_close();
}

static void damaged_block_hides_only_its_names(void **state)
{
        struct ext4_dirent entry;
        uint64_t cookie = 0;
        unsigned nr = 0;

        t_setup(T_CSUM, T_BLOCK);
        t_leaf(t_dir_block(0));
        for (unsigned i = 1; i < T_NR_BLOCKS; i++) {
                const char name[] = {'m', (char)('0' + i), '\0'};

                t_leaf_of(t_dir_block(i), 40 + i, name);
        }
        t_dir_block(4)[8] = 'x';
        t_open(T_NR_BLOCKS);
        assert_int_equal(t_lookup("file-a"), T_NR_INODES);
        assert_int_equal(t_lookup("gone"), -EBADMSG);
        assert_int_equal(t_lookup("m3"), 43);
        assert_int_equal(t_lookup("m4"), -EBADMSG);
        assert_int_equal(t_lookup("m9"), 49);
        for (;;) {
                int ret = ext4_dir_read(&dir, &cookie, &entry);

                if (ret == 0)
                        break;
                if (ret < 0) {
                        assert_int_equal(ret, -EBADMSG);
                        assert_int_equal(cookie, 5 * T_BLOCK);
                        continue;
                }
                assert_int_equal(t_lookup(entry.name), entry.ino);
                nr++;
        }
        assert_int_equal(nr, 4 + T_NR_BLOCKS - 2);
        assert_int_equal(nr_lines, 1);
        t_close();
}

/* D2 */
static void any_cookie_is_safe(void **state)
{
        t_setup(T_CSUM, T_BLOCK);
        for (unsigned i = 0; i < T_NR_BLOCKS; i++)
                t_leaf(t_dir_block(i));
        t_open(T_NR_BLOCKS);
        for (uint64_t start = 0; start < (T_NR_BLOCKS + 1) * T_BLOCK; start++) {
                struct ext4_dirent entry;
                uint64_t cookie = start;
                int ret = ext4_dir_read(&dir, &cookie, &entry);

                if (ret == 0) {
                        assert_true(start > (T_NR_BLOCKS - 1) * T_BLOCK + FILE_B);
                        continue;
                }
                assert_int_equal(ret, 1);
                assert_true(cookie > start);
                assert_true(entry.ino == T_DIR_INO || entry.ino == 2 ||
                            entry.ino == T_NR_INODES || entry.ino == 12);
        }
        t_close();
}

/* Read it all: how many names, besides "." and ".."; the error that came, which must be one. */
static unsigned t_read_all(int *ret_err)
{
        struct ext4_dirent entry;
        uint64_t cookie = 0;
        unsigned nr = 0;
        int ret;

        *ret_err = 0;
        while ((ret = ext4_dir_read(&dir, &cookie, &entry)) != 0) {
                if (ret < 0) {
                        assert_int_equal(*ret_err, 0);
                        *ret_err = ret;
                } else if (entry.name[0] != '.') {
                        nr++;
                }
        }
        return nr;
}

static void hashed_directory_is_read_by_hash(void **state)
{
        static const struct {
                const char *what;
                unsigned block, pos, width;
                uint32_t value;
                unsigned want;
                int err;
        } rows[] = {
                {"as made", 0, 0, 0, 0, 9, 0},
                {"a damaged leaf", 4, 8, 1, 'x', 8, -EBADMSG},
                {"a damaged root", 0, 30, 1, 'x', 9, -EBADMSG},
                {"block 0 is no root", 0, 24, 4, 1, 9, -EBADMSG},
        };

        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
                int err;

                t_setup(T_CSUM | T_INDEXED, T_BLOCK);
                t_indexed_dir(0);
                t_put(t_dir_block(rows[i].block), rows[i].pos, rows[i].value, rows[i].width);
                t_open(T_NR_BLOCKS);
                {
                        unsigned nr = t_read_all(&err);

                        if (nr != rows[i].want || err != rows[i].err ||
                            (nr_lines > 0) != (rows[i].err < 0))
                                fail_msg("%s: %u names, %d, %u lines", rows[i].what, nr, err,
                                         nr_lines);
                }
                t_close();
        }
}

/* Two leaves have changed places: no look-up finds their names, but they are there. */
static void names_where_their_hashes_do_not_belong_are_read(void **state)
{
        uint8_t *a = t_dir_block(2), *b = t_dir_block(6);
        uint8_t swap[T_BLOCK];
        int err;

        t_setup(T_CSUM | T_INDEXED, T_BLOCK);
        t_indexed_dir(0);
        memcpy(swap, a, T_BLOCK);
        memcpy(a, b, T_BLOCK);
        memcpy(b, swap, T_BLOCK);
        t_open(T_NR_BLOCKS);
        assert_int_equal(t_read_all(&err), 9);
        assert_int_equal(err, 0);
        assert_int_equal(nr_lines, 1);
        t_close();
}

/* The same name forty times: more than a cookie can tell apart. */
static void too_many_of_one_name_are_an_error(void **state)
{
        uint8_t *block = t_dir_block(0);
        uint32_t pos = 0;
        int err;

        t_setup(0, T_BLOCK);
        atomic_store(&dir.vfs.size, T_BLOCK);
        memset(block, 0, T_BLOCK);
        pos = t_entry(block, pos, T_DIR_INO, 12, ".");
        pos = t_entry(block, pos, 2, 12, "..");
        for (unsigned i = 0; i < 40; i++)
                pos = t_entry(block, pos, 20 + i, 12, "same");
        t_entry(block, pos, 12, T_BLOCK - pos, "other");
        t_open(1);
        assert_int_equal(t_read_all(&err), 31 + 1);
        assert_int_equal(err, -EOVERFLOW);
        t_close();
}

static void hole_is_skipped_and_said_once(void **state)
{
        struct ext4_dirent entry;
        uint64_t cookie = 0;
        unsigned nr = 0;

        t_setup(T_CSUM, T_BLOCK);
        t_leaf(t_dir_block(0));
        t_open(1);
        assert_int_equal(t_lookup("b"), 12);
        assert_int_equal(t_lookup("c"), -ENOENT);
        while (ext4_dir_read(&dir, &cookie, &entry) == 1)
                nr++;
        assert_int_equal(nr, 4);
        assert_int_equal(nr_lines, 1);
        t_close();
}

static void impossible_sizes_are_damage(void **state)
{
        static const uint64_t sizes[] = {
                T_BLOCK + 1,
                1001 * T_BLOCK, /* more than the file system */
                1ull << 50,
                UINT64_MAX & ~(uint64_t)(T_BLOCK - 1),
        };

        for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
                struct ext4_dirent entry;
                uint64_t cookie = 0;

                t_setup(0, T_BLOCK);
                atomic_store(&dir.vfs.size, sizes[i]);
                assert_int_equal(t_lookup("x"), -EUCLEAN);
                assert_int_equal(ext4_dir_read(&dir, &cookie, &entry), -EUCLEAN);
                assert_int_equal(ext4_dir_read(&dir, &cookie, &entry), 0);
                assert_int_equal(nr_lines, 1);
        }
}

static void some_inodes_cannot_be_read(void **state)
{
        struct ext4_dirent entry;
        uint64_t cookie = 0;
        char name[300];

        t_setup(0, T_BLOCK);
        memset(name, 'x', sizeof(name) - 1);
        name[sizeof(name) - 1] = '\0';
        assert_int_equal(t_lookup(name), -ENAMETOOLONG);
        assert_int_equal(t_lookup(""), -ENOENT);
        dir.flags |= EXT4_FL_ENCRYPT;
        assert_int_equal(t_lookup("x"), -ENOKEY);
        assert_int_equal(ext4_dir_read(&dir, &cookie, &entry), -ENOKEY);
        assert_int_equal(ext4_dir_read(&dir, &cookie, &entry), 0);
        dir.mode = S_IFREG;
        assert_int_equal(t_lookup("x"), -ENOTDIR);
        assert_int_equal(nr_lines, 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(leaf_fields_are_checked),
                cmocka_unit_test(leaf_that_spans_the_block_is_one),
                cmocka_unit_test(lengths_of_64k_blocks),
                cmocka_unit_test(index_fields_are_checked),
                cmocka_unit_test(index_blocks_are_blocks_without_names),
                cmocka_unit_test(index_finds_every_name),
                cmocka_unit_test(collisions_go_on_in_the_next_leaf),
                cmocka_unit_test(damaged_index_falls_back_to_all_blocks),
                cmocka_unit_test(leaves_are_bounded),
                cmocka_unit_test(damaged_block_hides_only_its_names),
                cmocka_unit_test(any_cookie_is_safe),
                cmocka_unit_test(hashed_directory_is_read_by_hash),
                cmocka_unit_test(names_where_their_hashes_do_not_belong_are_read),
                cmocka_unit_test(too_many_of_one_name_are_an_error),
                cmocka_unit_test(hole_is_skipped_and_said_once),
                cmocka_unit_test(impossible_sizes_are_damage),
                cmocka_unit_test(some_inodes_cannot_be_read),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
