/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Mutations that know where things are in an ext4 image.
 *
 * Most bytes of an image are file data or nothing, so random changes would hardly ever meet a
 * structure.  Here each mutation picks a kind of structure, finds one of that kind by the
 * image's own superblock and inodes, and changes one field of it, or puts a copy of another
 * structure in its place.  The size of the image stays.
 *
 * The image may be the result of any number of mutations: nothing in it is believed.  Every
 * pointer into it comes from at() or block_at(), which return NULL outside.
 *
 * The checksum of the superblock is put right, or the mount with checksums would end there.
 * Those of other structures are left wrong: the mount without checksums is the one that looks
 * deeper, and the other one is there to see what happens at a wrong checksum.
 */

#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>

#include "ext4/format.h"
#include "util/crc.h"

#define MAX_SCANNED_INODES 400
#define WINDOW             64
#define CHOICES            16 /* bytes at the start that image_walk() reads */

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed);
size_t LLVMFuzzerCustomCrossOver(const uint8_t *data1, size_t size1, const uint8_t *data2,
                                 size_t size2, uint8_t *out, size_t max_out_size,
                                 unsigned seed);

struct image {
        uint8_t *data;
        size_t size;
        uint64_t random;

        struct ext4_super_block *sb;
        uint32_t block_size;
        uint32_t inode_size;
        uint32_t desc_size;
        uint32_t first_block;
        uint32_t blocks_per_group;
        uint32_t inodes_per_group;
        uint32_t nr_blocks;
};

/* ---- finding one's way ---- */

static uint32_t pick(struct image *m, uint32_t limit)
{
        m->random ^= m->random << 13;
        m->random ^= m->random >> 7;
        m->random ^= m->random << 17;
        return limit ? (uint32_t)(m->random >> 11) % limit : 0;
}

static void *at(const struct image *m, uint64_t pos, size_t len)
{
        return pos <= m->size && len <= m->size - pos ? m->data + pos : NULL;
}

static uint8_t *block_at(const struct image *m, uint64_t blk)
{
        return blk < m->nr_blocks ? at(m, blk * m->block_size, m->block_size) : NULL;
}

static bool learn(struct image *m, uint8_t *data, size_t size, unsigned seed)
{
        uint32_t log_block;

        *m = (struct image){.data = data, .size = size, .random = seed * 2654435761ull + 1};
        for (int i = 0; i < 3; i++)
                pick(m, 1);
        m->sb = at(m, EXT4_SUPER_OFFSET, EXT4_SUPER_SIZE);
        if (!m->sb || le16_get(m->sb->s_magic) != EXT4_SUPER_MAGIC)
                return false;
        log_block = le32_get(m->sb->s_log_block_size);
        m->block_size = EXT4_MIN_BLOCK_SIZE << (log_block > 6 ? 0 : log_block);
        m->inode_size = le32_get(m->sb->s_rev_level) ? le16_get(m->sb->s_inode_size)
                                                     : EXT4_GOOD_OLD_INODE_SIZE;
        m->desc_size = le32_get(m->sb->s_feature_incompat) & EXT4_INCOMPAT_64BIT
                               ? le16_get(m->sb->s_desc_size)
                               : EXT4_MIN_DESC_SIZE;
        m->first_block = le32_get(m->sb->s_first_data_block);
        m->blocks_per_group = le32_get(m->sb->s_blocks_per_group);
        m->inodes_per_group = le32_get(m->sb->s_inodes_per_group);
        m->nr_blocks = (uint32_t)(size / m->block_size);
        return m->inode_size >= EXT4_GOOD_OLD_INODE_SIZE &&
               m->desc_size >= EXT4_MIN_DESC_SIZE && m->inode_size <= m->block_size &&
               m->desc_size <= m->block_size && m->inode_size % 4 == 0 &&
               m->desc_size % 4 == 0 && m->blocks_per_group > 0 && m->inodes_per_group > 0;
}

static uint32_t nr_groups(const struct image *m)
{
        return m->nr_blocks / m->blocks_per_group + 1;
}

static bool is_power_of(uint32_t n, uint32_t base)
{
        while (n % base == 0)
                n /= base;
        return n == 1;
}

static bool has_super(const struct image *m, uint32_t group)
{
        if (!(le32_get(m->sb->s_feature_ro_compat) & EXT4_RO_COMPAT_SPARSE_SUPER))
                return true;
        return group <= 1 || is_power_of(group, 3) || is_power_of(group, 5) ||
               is_power_of(group, 7);
}

static struct ext4_group_desc *desc_at(const struct image *m, uint32_t group)
{
        uint32_t per_block = m->block_size / m->desc_size;
        uint64_t blk = (uint64_t)m->first_block + 1 + group / per_block;

        if (le32_get(m->sb->s_feature_incompat) & EXT4_INCOMPAT_META_BG &&
            group / per_block >= le32_get(m->sb->s_first_meta_bg)) {
                uint32_t first = group / per_block * per_block;

                blk = (uint64_t)m->first_block + (uint64_t)first * m->blocks_per_group +
                      has_super(m, first);
        }
        return at(m, blk * m->block_size + group % per_block * m->desc_size, m->desc_size);
}

/* An inode by its number, counted from 0. */
static struct ext4_inode_disk *inode_at(const struct image *m, uint32_t nr)
{
        struct ext4_group_desc *desc = desc_at(m, nr / m->inodes_per_group);

        if (!desc)
                return NULL;
        return at(m,
                  (uint64_t)le32_get(desc->bg_inode_table_lo) * m->block_size +
                          (uint64_t)(nr % m->inodes_per_group) * m->inode_size,
                  m->inode_size);
}

typedef bool inode_test(const struct ext4_inode_disk *inode);

static bool is_used(const struct ext4_inode_disk *inode)
{
        return le16_get(inode->i_mode) != 0;
}

static bool is_directory(const struct ext4_inode_disk *inode)
{
        return S_ISDIR(le16_get(inode->i_mode));
}

static bool has_extents(const struct ext4_inode_disk *inode)
{
        return le32_get(inode->i_flags) & EXT4_FL_EXTENTS;
}

static bool is_deep(const struct ext4_inode_disk *inode)
{
        const struct ext4_extent_header *eh = (const void *)inode->i_block;

        return has_extents(inode) && le16_get(eh->eh_depth) > 0;
}

static bool is_indirect(const struct ext4_inode_disk *inode)
{
        return is_used(inode) && (S_ISREG(le16_get(inode->i_mode)) || is_directory(inode)) &&
               !(le32_get(inode->i_flags) & (EXT4_FL_EXTENTS | EXT4_FL_INLINE_DATA));
}

static bool has_xattr_block(const struct ext4_inode_disk *inode)
{
        return le32_get(inode->i_file_acl_lo) != 0;
}

/* One of the inodes that pass the test, each with the same chance. */
static struct ext4_inode_disk *pick_inode(struct image *m, inode_test *test)
{
        uint64_t total = (uint64_t)m->inodes_per_group * nr_groups(m);
        uint32_t limit = total < MAX_SCANNED_INODES ? (uint32_t)total : MAX_SCANNED_INODES;
        struct ext4_inode_disk *found = NULL;
        uint32_t nr = 0;

        for (uint32_t i = 0; i < limit; i++) {
                struct ext4_inode_disk *inode = inode_at(m, i);

                if (inode && test(inode) && pick(m, ++nr) == 0)
                        found = inode;
        }
        return found;
}

/* ---- changing one number ---- */

static uint64_t get_number(const uint8_t *p, unsigned width)
{
        uint64_t value = 0;

        memcpy(&value, p, width);
        return value;
}

static uint64_t pick_boundary(struct image *m)
{
        static const uint64_t values[] = {
                0,      1,      2,          3,          4,          5,         8,
                11,     12,     13,         16,         127,        128,       255,
                256,    511,    512,        1023,       1024,       1025,      4095,
                4096,   0x7fff, 0x8000,     0x8001,     0xfffe,     0xffff,    0x10000,
                0x1000, 0xf30a, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff};

        return values[pick(m, sizeof(values) / sizeof(values[0]))];
}

/* The image is little-endian, and so are the hosts that we fuzz on. */
static void change_number(struct image *m, uint8_t *p, unsigned width)
{
        uint64_t value = get_number(p, width);

        switch (pick(m, 10)) {
        case 0:
        case 1:
                value = pick_boundary(m);
                break;
        case 2:
                value = ~pick_boundary(m);
                break;
        case 3:
                value += pick(m, 2) ? 1 + pick(m, 16) : -(uint64_t)(1 + pick(m, 16));
                break;
        case 4:
                value ^= 1ull << pick(m, width * 8);
                break;
        case 5:
                value = pick(m, m->nr_blocks + 2);
                break;
        case 6:
                value = pick(m, 64);
                break;
        case 7:
                value = pick(m, 2) ? value << 1 : value >> 1;
                break;
        case 8:
                value = (uint64_t)pick(m, UINT32_MAX) << 32 | pick(m, UINT32_MAX);
                break;
        default:
                LLVMFuzzerMutate(p, width, width);
                return;
        }
        memcpy(p, &value, width);
}

/* Fill a part with one number over and over, so that what ended there no longer ends. */
static void smear(struct image *m, uint8_t *base, size_t size)
{
        size_t start = (size_t)4 * pick(m, (uint32_t)(size / 4));
        size_t len = pick(m, 2) ? size - start : 4 + (size_t)4 * pick(m, 16);
        uint64_t value = pick(m, 2) ? 0x01010101u * pick(m, 256) : get_number(base + start, 4);

        if (len > size - start)
                len = size - start;
        for (size_t i = 0; i + 4 <= len; i += 4)
                memcpy(base + start + i, &value, 4);
}

struct field {
        uint16_t offset;
        uint8_t width;
};

#define FIELD(type, member)                                               \
        {                                                                 \
                offsetof(type, member), sizeof(((const type *)0)->member) \
        }
#define NR_FIELDS(table) ((uint32_t)(sizeof(table) / sizeof((table)[0])))

/* One of the fields, or now and then any number of the structure. */
static void change_field(struct image *m, uint8_t *base, size_t size,
                         const struct field *fields, uint32_t nr_fields)
{
        struct field f = fields[pick(m, nr_fields)];

        if (pick(m, 8) == 0) {
                f.width = (uint8_t)(1u << pick(m, 3));
                f.offset = (uint16_t)(pick(m, (uint32_t)(size / f.width)) * f.width);
        }
        if (f.offset + (size_t)f.width <= size)
                change_number(m, base + f.offset, f.width);
}

/* ---- superblock, descriptors, inodes ---- */

static bool change_super(struct image *m)
{
        static const struct field fields[] = {
                FIELD(struct ext4_super_block, s_inodes_count),
                FIELD(struct ext4_super_block, s_blocks_count_lo),
                FIELD(struct ext4_super_block, s_free_blocks_count_lo),
                FIELD(struct ext4_super_block, s_r_blocks_count_lo),
                FIELD(struct ext4_super_block, s_free_inodes_count),
                FIELD(struct ext4_super_block, s_first_data_block),
                FIELD(struct ext4_super_block, s_log_block_size),
                FIELD(struct ext4_super_block, s_log_cluster_size),
                FIELD(struct ext4_super_block, s_blocks_per_group),
                FIELD(struct ext4_super_block, s_clusters_per_group),
                FIELD(struct ext4_super_block, s_inodes_per_group),
                FIELD(struct ext4_super_block, s_state),
                FIELD(struct ext4_super_block, s_rev_level),
                FIELD(struct ext4_super_block, s_first_ino),
                FIELD(struct ext4_super_block, s_inode_size),
                FIELD(struct ext4_super_block, s_feature_compat),
                FIELD(struct ext4_super_block, s_feature_incompat),
                FIELD(struct ext4_super_block, s_feature_ro_compat),
                FIELD(struct ext4_super_block, s_reserved_gdt_blocks),
                FIELD(struct ext4_super_block, s_journal_inum),
                FIELD(struct ext4_super_block, s_def_hash_version),
                FIELD(struct ext4_super_block, s_desc_size),
                FIELD(struct ext4_super_block, s_first_meta_bg),
                FIELD(struct ext4_super_block, s_blocks_count_hi),
                FIELD(struct ext4_super_block, s_free_blocks_count_hi),
                FIELD(struct ext4_super_block, s_min_extra_isize),
                FIELD(struct ext4_super_block, s_flags),
                FIELD(struct ext4_super_block, s_log_groups_per_flex),
                FIELD(struct ext4_super_block, s_checksum_type),
                FIELD(struct ext4_super_block, s_overhead_blocks),
                FIELD(struct ext4_super_block, s_backup_bgs),
                FIELD(struct ext4_super_block, s_checksum_seed),
                FIELD(struct ext4_super_block, s_last_orphan),
                FIELD(struct ext4_super_block, s_orphan_file_inum),
                FIELD(struct ext4_super_block, s_error_count),
        };

        change_field(m, (uint8_t *)m->sb, EXT4_SUPER_SIZE, fields, NR_FIELDS(fields));
        return true;
}

/* Features are bits: the ones next to each other have nothing in common. */
static bool change_feature(struct image *m)
{
        le32 *words[] = {&m->sb->s_feature_compat, &m->sb->s_feature_incompat,
                         &m->sb->s_feature_ro_compat};
        le32 *word = words[pick(m, 3)];

        *word = le32_make(le32_get(*word) ^ 1u << pick(m, 18));
        return true;
}

static bool change_desc(struct image *m)
{
        static const struct field fields[] = {
                FIELD(struct ext4_group_desc, bg_block_bitmap_lo),
                FIELD(struct ext4_group_desc, bg_inode_bitmap_lo),
                FIELD(struct ext4_group_desc, bg_inode_table_lo),
                FIELD(struct ext4_group_desc, bg_inode_table_lo),
                FIELD(struct ext4_group_desc, bg_flags),
                FIELD(struct ext4_group_desc, bg_itable_unused_lo),
                FIELD(struct ext4_group_desc, bg_checksum),
                FIELD(struct ext4_group_desc, bg_inode_table_hi),
                FIELD(struct ext4_group_desc, bg_free_blocks_count_lo),
                FIELD(struct ext4_group_desc, bg_free_inodes_count_lo),
                FIELD(struct ext4_group_desc, bg_used_dirs_count_lo),
        };
        struct ext4_group_desc *desc = desc_at(m, pick(m, nr_groups(m)));

        if (!desc)
                return false;
        change_field(m, (uint8_t *)desc, m->desc_size, fields, NR_FIELDS(fields));
        return true;
}

/* Space that is in use and free, and the other way round. */
static bool change_bitmap(struct image *m)
{
        struct ext4_group_desc *desc = desc_at(m, pick(m, nr_groups(m)));
        bool of_inodes = pick(m, 2);
        uint32_t nr_used = of_inodes ? m->inodes_per_group : m->blocks_per_group;
        uint8_t *map;

        if (!desc)
                return false;
        map = block_at(
                m, le32_get(of_inodes ? desc->bg_inode_bitmap_lo : desc->bg_block_bitmap_lo));
        if (!map)
                return false;
        if (nr_used > m->nr_blocks && !of_inodes)
                nr_used = m->nr_blocks;
        if (pick(m, 8) == 0) {
                smear(m, map, m->block_size);
                return true;
        }
        for (uint32_t n = 1 + pick(m, 8), bit = pick(m, nr_used); n > 0; n--, bit++)
                if (bit / 8 < m->block_size)
                        map[bit / 8] ^= (uint8_t)(1u << bit % 8);
        return true;
}

/* The number of an inode, most often one that can be an orphan. */
static uint32_t pick_number(struct image *m)
{
        return pick(m, 6) ? 11 + pick(m, 30) : pick(m, m->inodes_per_group * 2 + 2);
}

/* Orphans: who is in the list, and what is to be done with it. */
static bool change_orphans(struct image *m)
{
        uint32_t nr = pick_number(m);
        struct ext4_inode_disk *inode = nr > 0 ? inode_at(m, nr - 1) : NULL;

        if (!inode)
                return false;
        switch (pick(m, 4)) {
        case 0:
                inode->i_dtime = m->sb->s_last_orphan;
                m->sb->s_last_orphan = le32_make(nr);
                break;
        case 1:
                inode->i_dtime = le32_make(pick_number(m));
                break;
        case 2:
                inode->i_size_lo = le32_make(pick(m, 20000));
                break;
        default:
                m->sb->s_last_orphan = le32_make(nr);
                break;
        }
        if (pick(m, 2))
                inode->i_links_count = le16_make((uint16_t)pick(m, 2));
        return true;
}

static bool change_inode(struct image *m)
{
        static const struct field fields[] = {
                FIELD(struct ext4_inode_disk, i_mode),
                FIELD(struct ext4_inode_disk, i_size_lo),
                FIELD(struct ext4_inode_disk, i_size_lo),
                FIELD(struct ext4_inode_disk, i_dtime),
                FIELD(struct ext4_inode_disk, i_links_count),
                FIELD(struct ext4_inode_disk, i_blocks_lo),
                FIELD(struct ext4_inode_disk, i_flags),
                FIELD(struct ext4_inode_disk, i_flags),
                FIELD(struct ext4_inode_disk, i_generation),
                FIELD(struct ext4_inode_disk, i_file_acl_lo),
                FIELD(struct ext4_inode_disk, i_size_hi),
                FIELD(struct ext4_inode_disk, i_blocks_hi),
                FIELD(struct ext4_inode_disk, i_file_acl_hi),
                FIELD(struct ext4_inode_disk, i_uid_hi),
                FIELD(struct ext4_inode_disk, i_gid_hi),
                FIELD(struct ext4_inode_disk, i_checksum_lo),
                FIELD(struct ext4_inode_disk, i_extra_isize),
                FIELD(struct ext4_inode_disk, i_ctime_extra),
                FIELD(struct ext4_inode_disk, i_atime_extra),
                FIELD(struct ext4_inode_disk, i_projid),
        };
        struct ext4_inode_disk *inode = pick_inode(m, is_used);

        if (!inode)
                return false;
        change_field(m, (uint8_t *)inode, m->inode_size, fields, NR_FIELDS(fields));
        return true;
}

/* ---- maps ---- */

enum which_block {
        FIRST_BLOCK,
        ANY_BLOCK,
};

static uint32_t pick_slot(struct image *m, enum which_block which, uint32_t limit)
{
        return which == FIRST_BLOCK ? 0 : pick(m, limit);
}

/* A child of the node, or NULL when it is a leaf or the child is nowhere. */
static uint8_t *child_of(struct image *m, uint8_t *node, size_t size, enum which_block which)
{
        const struct ext4_extent_header *eh = (const void *)node;
        const struct ext4_extent_index *ei = (const void *)(eh + 1);
        uint32_t nr = le16_get(eh->eh_entries);

        if (le16_get(eh->eh_depth) == 0 || nr == 0 || nr > size / 12 - 1)
                return NULL;
        return block_at(m, le32_get(ei[pick_slot(m, which, nr)].ei_leaf_lo));
}

/* A header and its entries, in an inode or a block. */
static void change_extent_node(struct image *m, uint8_t *node, size_t size)
{
        static const struct field header[] = {
                FIELD(struct ext4_extent_header, eh_magic),
                FIELD(struct ext4_extent_header, eh_entries),
                FIELD(struct ext4_extent_header, eh_max),
                FIELD(struct ext4_extent_header, eh_depth),
        };
        static const struct field extent[] = {
                FIELD(struct ext4_extent_disk, ee_block),
                FIELD(struct ext4_extent_disk, ee_len),
                FIELD(struct ext4_extent_disk, ee_start_hi),
                FIELD(struct ext4_extent_disk, ee_start_lo),
        };
        static const struct field index[] = {
                FIELD(struct ext4_extent_index, ei_block),
                FIELD(struct ext4_extent_index, ei_leaf_lo),
                FIELD(struct ext4_extent_index, ei_leaf_hi),
        };
        const struct ext4_extent_header *eh = (const void *)node;
        uint32_t nr = le16_get(eh->eh_entries);
        uint8_t *entry;

        nr = nr < 1 ? 1 : nr;
        nr = nr > size / 12 - 1 ? (uint32_t)(size / 12) - 1 : nr;
        entry = node + (size_t)12 * (1 + pick(m, nr));
        switch (pick(m, 5)) {
        case 0:
                change_field(m, node, 12, header, NR_FIELDS(header));
                break;
        case 1: /* another entry in its place */
                memmove(entry, node + (size_t)12 * (1 + pick(m, nr)), 12);
                break;
        default:
                if (le16_get(eh->eh_depth) > 0)
                        change_field(m, entry, 12, index, NR_FIELDS(index));
                else
                        change_field(m, entry, 12, extent, NR_FIELDS(extent));
                break;
        }
}

static bool change_extents(struct image *m)
{
        struct ext4_inode_disk *inode = pick_inode(m, pick(m, 2) ? is_deep : has_extents);
        size_t size = EXT4_I_BLOCK_SIZE;
        uint8_t *node;

        if (!inode)
                return false;
        node = inode->i_block;
        for (int level = 0; level < 6 && pick(m, 4) != 0; level++) {
                uint8_t *child = child_of(m, node, size, ANY_BLOCK);

                if (!child)
                        break;
                node = child;
                size = m->block_size;
        }
        change_extent_node(m, node, size);
        return true;
}

static bool change_indirect(struct image *m)
{
        struct ext4_inode_disk *inode = pick_inode(m, is_indirect);
        uint8_t *node;
        uint32_t nr = EXT4_N_BLOCKS;
        uint32_t slot;

        if (!inode)
                return false;
        node = inode->i_block;
        slot = pick(m, nr);
        for (int level = 0; level < 3 && slot >= EXT4_NR_DIRECT && pick(m, 3) != 0; level++) {
                uint8_t *child = block_at(m, get_number(node + (size_t)4 * slot, 4));

                if (!child || child == m->data)
                        break;
                node = child;
                nr = m->block_size / 4;
                slot = EXT4_NR_DIRECT + pick(m, nr - EXT4_NR_DIRECT);
        }
        change_number(m, node + (size_t)4 * slot, 4);
        return true;
}

/* ---- directories ---- */

/* A data block of the inode, by the first nodes of its map. */
static uint8_t *data_block(struct image *m, struct ext4_inode_disk *inode,
                           enum which_block which)
{
        uint8_t *node = inode->i_block;
        size_t size = EXT4_I_BLOCK_SIZE;
        const struct ext4_extent_header *eh = (const void *)node;
        const struct ext4_extent_disk *ee;
        uint32_t nr;

        if (!has_extents(inode))
                return block_at(
                        m,
                        get_number(node + (size_t)4 * pick_slot(m, which, EXT4_NR_DIRECT), 4));
        for (int level = 0; level < 6 && le16_get(eh->eh_depth) > 0; level++) {
                node = child_of(m, node, size, which);
                if (!node)
                        return NULL;
                size = m->block_size;
                eh = (const void *)node;
        }
        nr = le16_get(eh->eh_entries);
        if (nr == 0 || nr > size / 12 - 1)
                return NULL;
        ee = (const struct ext4_extent_disk *)(const void *)(eh + 1) + pick_slot(m, which, nr);
        return block_at(m, (uint64_t)le32_get(ee->ee_start_lo) +
                                   pick_slot(m, which, le16_get(ee->ee_len)));
}

/* Another name length and the entry's length to fit, which may lie outside of the block. */
static void stretch_entry(struct image *m, struct ext4_dir_entry *de)
{
        uint32_t name_len = pick(m, EXT4_NAME_LEN + 1);
        uint32_t rec_len = (8 + name_len + 3) & ~3u;

        de->name_len = (uint8_t)name_len;
        de->rec_len = le16_make((uint16_t)(rec_len + 4 * pick(m, 3)));
}

/* Let the entry end a little before the block does, and put a stretched one behind it. */
static void push_entry(struct image *m, struct ext4_dir_entry *de, size_t left)
{
        size_t room = 12 + (size_t)4 * pick(m, 16);
        struct ext4_dir_entry *last;

        if (left < room + 12)
                return;
        de->rec_len = le16_make((uint16_t)(left - room));
        last = (void *)((uint8_t *)de + left - room);
        memset(last, 'n', room);
        last->inode = de->inode;
        last->file_type = de->file_type;
        stretch_entry(m, last);
}

static void change_entry(struct image *m, uint8_t *run, size_t size)
{
        static const struct field fields[] = {
                FIELD(struct ext4_dir_entry, inode),    FIELD(struct ext4_dir_entry, inode),
                FIELD(struct ext4_dir_entry, rec_len),  FIELD(struct ext4_dir_entry, rec_len),
                FIELD(struct ext4_dir_entry, name_len), FIELD(struct ext4_dir_entry, file_type),
                {sizeof(struct ext4_dir_entry), 1}, /* the name's first byte */
        };
        size_t pos = 0;
        size_t chosen = 0;
        uint32_t nr = 0;

        while (pos + 12 <= size) {
                const size_t at_len = offsetof(struct ext4_dir_entry, rec_len);
                size_t len = get_number(run + pos + at_len, 2);

                if (pick(m, ++nr) == 0)
                        chosen = pos;
                if (len < 8 || len > size - pos)
                        break;
                pos += len;
        }
        if (nr == 0)
                return;
        if ((run + chosen - m->data) % 4 != 0 || pick(m, 4) != 0)
                change_field(m, run + chosen, 12, fields, NR_FIELDS(fields));
        else if (pick(m, 2))
                stretch_entry(m, (void *)(run + chosen));
        else
                push_entry(m, (void *)(run + chosen), size - chosen);
}

/* A full index, or one with a few entries more than there is room for. */
static void fill_index(struct image *m, uint8_t *block, size_t start)
{
        struct ext4_dx_countlimit *cl = (void *)(block + start);
        struct ext4_dx_entry *entries = (void *)(block + start);
        uint32_t room = (uint32_t)((m->block_size - start) / sizeof(*entries));
        uint32_t count = le16_get(cl->count);

        if (count == 0 || count > room)
                return;
        for (uint32_t i = count; i < room; i++)
                entries[i] = entries[i - 1];
        cl->count = le16_make((uint16_t)(le16_get(cl->limit) + pick(m, 4)));
}

/* An index node: the root behind "." and "..", or a block behind an empty entry. */
static void change_dx(struct image *m, uint8_t *block)
{
        static const struct field root[] = {
                FIELD(struct ext4_dx_root_info, reserved_zero),
                FIELD(struct ext4_dx_root_info, hash_version),
                FIELD(struct ext4_dx_root_info, info_length),
                FIELD(struct ext4_dx_root_info, indirect_levels),
                FIELD(struct ext4_dx_root_info, unused_flags),
        };
        size_t start = pick(m, 2) ? 32 : 8;

        if (pick(m, 8) == 0)
                fill_index(m, block, start);
        else if (pick(m, 4) == 0)
                change_field(m, block + 24, 8, root, NR_FIELDS(root));
        else if (pick(m, 3) == 0) /* limit, count, first block */
                change_number(m, block + start + 2 * pick(m, 4), 2);
        else
                change_number(m, block + start + (size_t)4 * pick(m, 24), 4);
}

static bool change_directory(struct image *m)
{
        struct ext4_inode_disk *inode = pick_inode(m, is_directory);
        bool is_index;
        uint8_t *block;

        if (!inode)
                return false;
        if (le32_get(inode->i_flags) & EXT4_FL_INLINE_DATA) {
                change_entry(m, inode->i_block + 4, EXT4_I_BLOCK_SIZE - 4);
                return true;
        }
        is_index = le32_get(inode->i_flags) & EXT4_FL_INDEX && pick(m, 3) == 0;
        block = data_block(m, inode, is_index && pick(m, 3) != 0 ? FIRST_BLOCK : ANY_BLOCK);
        if (!block)
                return false;
        if (is_index)
                change_dx(m, block);
        else if (pick(m, 8) == 0) /* the checksum's place */
                change_number(m, block + m->block_size - 12 + (size_t)4 * pick(m, 3), 4);
        else if (pick(m, 8) == 0)
                smear(m, block, m->block_size);
        else
                change_entry(m, block, m->block_size);
        return true;
}

/* ---- extended attributes ---- */

static void change_xattr_list(struct image *m, uint8_t *list, size_t size)
{
        static const struct field fields[] = {
                FIELD(struct ext4_xattr_entry, e_name_len),
                FIELD(struct ext4_xattr_entry, e_name_index),
                FIELD(struct ext4_xattr_entry, e_value_offs),
                FIELD(struct ext4_xattr_entry, e_value_offs),
                FIELD(struct ext4_xattr_entry, e_value_inum),
                FIELD(struct ext4_xattr_entry, e_value_size),
                FIELD(struct ext4_xattr_entry, e_value_size),
                FIELD(struct ext4_xattr_entry, e_hash),
                {sizeof(struct ext4_xattr_entry), 1},
        };
        size_t pos = 0;
        size_t chosen = 0;
        uint32_t nr = 0;

        while (pos + 20 <= size && get_number(list + pos, 4) != 0) {
                if (pick(m, ++nr) == 0)
                        chosen = pos;
                pos += 16 + (((size_t)list[pos] + 3) & ~(size_t)3);
        }
        if (pick(m, 8) == 0)
                smear(m, list, size);
        else if (nr > 0 && pick(m, 8) != 0) /* or a part of a value, which may be an ACL */
                change_field(m, list + chosen, 20, fields, NR_FIELDS(fields));
        else if (size >= 4)
                change_number(m, list + (size_t)4 * pick(m, (uint32_t)(size / 4)), 4);
}

static bool change_xattr(struct image *m)
{
        static const struct field header[] = {
                FIELD(struct ext4_xattr_header, h_magic),
                FIELD(struct ext4_xattr_header, h_refcount),
                FIELD(struct ext4_xattr_header, h_blocks),
        };
        struct ext4_inode_disk *inode = pick_inode(m, has_xattr_block);
        uint8_t *block = inode ? block_at(m, le32_get(inode->i_file_acl_lo)) : NULL;

        if (!block)
                return false;
        if (pick(m, 8) == 0)
                change_field(m, block, 32, header, NR_FIELDS(header));
        else
                change_xattr_list(m, block + 32, m->block_size - 32);
        return true;
}

static bool change_ibody(struct image *m)
{
        struct ext4_inode_disk *inode = pick_inode(m, is_used);
        size_t start;

        if (!inode || m->inode_size <= EXT4_GOOD_OLD_INODE_SIZE)
                return false;
        start = EXT4_GOOD_OLD_INODE_SIZE + (size_t)le16_get(inode->i_extra_isize);
        if (start + 4 + 20 > m->inode_size)
                return false;
        if (pick(m, 16) == 0)
                change_number(m, (uint8_t *)inode + start, 4);
        else
                change_xattr_list(m, (uint8_t *)inode + start + 4, m->inode_size - start - 4);
        return true;
}

/* ---- anything ---- */

static bool copy_inode(struct image *m)
{
        struct ext4_inode_disk *from = pick_inode(m, is_used);
        struct ext4_inode_disk *to = pick_inode(m, is_used);

        if (!from || !to)
                return false;
        if (pick(m, 2))
                memmove(to, from, m->inode_size);
        else
                memmove(to->i_block, from->i_block, EXT4_I_BLOCK_SIZE);
        return true;
}

/* A block that is not all zeros, if a few tries find one. */
static uint8_t *pick_block(struct image *m)
{
        uint8_t *block = NULL;

        for (int i = 0; i < 8; i++) {
                block = block_at(m, pick(m, m->nr_blocks));
                if (block && (block[0] || memcmp(block, block + 1, m->block_size - 1) != 0))
                        break;
        }
        return block;
}

static bool copy_block(struct image *m)
{
        uint8_t *from = pick_block(m);
        uint8_t *to = pick_block(m);

        if (!from || !to || to == m->data)
                return false;
        memmove(to, from, m->block_size);
        return true;
}

/* What libFuzzer does by itself, on a few bytes. */
static bool change_window(struct image *m)
{
        uint8_t *block = pick_block(m);

        if (!block)
                return false;
        LLVMFuzzerMutate(block + (size_t)WINDOW * pick(m, m->block_size / WINDOW), WINDOW,
                         WINDOW);
        return true;
}

static bool change_choices(struct image *m)
{
        change_number(m, m->data + pick(m, CHOICES / 4) * 4, 4);
        return true;
}

static bool change_something(struct image *m)
{
        static const struct {
                uint32_t weight;
                bool (*change)(struct image *m);
        } table[] = {
                {6, change_super},      {4, change_feature},  {6, change_desc},
                {16, change_inode},     {14, change_extents}, {10, change_indirect},
                {14, change_directory}, {10, change_xattr},   {10, change_ibody},
                {4, copy_inode},        {3, copy_block},      {5, change_window},
                {4, change_choices},    {8, change_bitmap},   {6, change_orphans},
        };
        uint32_t total = 0;
        uint32_t chosen;

        for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
                total += table[i].weight;
        chosen = pick(m, total);
        for (size_t i = 0;; i++) {
                if (chosen < table[i].weight)
                        return table[i].change(m);
                chosen -= table[i].weight;
        }
}

static void fix_super_csum(struct image *m)
{
        if (le32_get(m->sb->s_feature_ro_compat) & EXT4_RO_COMPAT_METADATA_CSUM &&
            pick(m, 16) != 0)
                m->sb->s_checksum = le32_make(
                        crc32c(~0u, m->sb, offsetof(struct ext4_super_block, s_checksum)));
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
        struct image m;
        uint32_t nr;

        if (!learn(&m, data, size, seed))
                return LLVMFuzzerMutate(data, size, max_size);
        nr = 1 + pick(&m, 4) * pick(&m, 2);
        for (int tries = 0; nr > 0 && tries < 32; tries++) {
                if (change_something(&m))
                        nr--;
        }
        fix_super_csum(&m);
        m.data[9] = (uint8_t)pick(&m, 256); /* how often to mount is no property of an input */
        return size;
}

/* Blocks of the second image at their own places in the first. */
size_t LLVMFuzzerCustomCrossOver(const uint8_t *data1, size_t size1, const uint8_t *data2,
                                 size_t size2, uint8_t *out, size_t max_out_size, unsigned seed)
{
        struct image m;
        uint32_t nr;

        if (size1 > max_out_size)
                return 0;
        memcpy(out, data1, size1);
        if (!learn(&m, out, size1, seed) || size2 < EXT4_SUPER_OFFSET + EXT4_SUPER_SIZE)
                return size1;
        nr = 1 + pick(&m, 8);
        for (uint32_t i = 0; i < nr; i++) {
                uint64_t blk = pick(&m, m.nr_blocks);
                uint8_t *block = block_at(&m, blk);

                if (block && (blk + 1) * m.block_size <= size2)
                        memcpy(block, data2 + blk * m.block_size, m.block_size);
        }
        return size1;
}
