/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* System zones: see system_zone.h.  One sorted array, made at mount, constant afterwards. */

#include "ext4/system_zone.h"

#include <stdlib.h>
#include <string.h>

#include "util/alloc.h"

void ext4_zones_done(struct ext4_zones *z)
{
        mem_free(z->zones);
        *z = (struct ext4_zones){};
}

static int grow(struct ext4_zones *z)
{
        size_t cap = z->cap + z->cap / 2 + 16;
        struct ext4_zone *zones = mem_array(cap, sizeof(*zones));

        if (!zones)
                return -ENOMEM;
        if (z->nr)
                memcpy(zones, z->zones, z->nr * sizeof(*zones));
        mem_free(z->zones);
        z->zones = zones;
        z->cap = cap;
        return 0;
}

/* Cut to what lies in the file system. */
static int add(struct ext4_zones *z, const struct ext4_fs *fs, struct ext4_zone zone)
{
        int ret;

        if (zone.start >= fs->nr_blocks)
                return 0;
        zone.len = min_t(uint64_t, zone.len, fs->nr_blocks - zone.start);
        if (zone.len == 0)
                return 0;
        if (z->nr == z->cap) {
                ret = grow(z);
                if (ret < 0)
                        return ret;
        }
        z->zones[z->nr++] = zone;
        return 0;
}

/* ---- what lies where ---- */

/* Blocks of descriptors, and room for more of them, beside the super block of a group or, with
 * meta_bg, in the first, the second and the last group of those that they describe. */
static uint64_t desc_blocks(const struct ext4_fs *fs, ext4_group_t group, bool has_super)
{
        uint64_t all = div_round_up(fs->nr_groups, fs->descs_per_block);
        bool meta_bg = ext4_has_incompat(fs, EXT4_INCOMPAT_META_BG);
        uint32_t in_meta = group % fs->descs_per_block;

        if (meta_bg) {
                all = min_t(uint64_t, all, le32_get(fs->sb.s_first_meta_bg));
                if (group / fs->descs_per_block >= le32_get(fs->sb.s_first_meta_bg))
                        return in_meta <= 1 || in_meta == fs->descs_per_block - 1;
        }
        return has_super ? all + le16_get(fs->sb.s_reserved_gdt_blocks) : 0;
}

int ext4_zones_add_fixed(struct ext4_zones *z, const struct ext4_fs *fs, ext4_group_t group)
{
        ext4_fsblk_t start = fs->first_data_block + (uint64_t)group * fs->blocks_per_group;
        bool has_super = ext4_group_has_super(fs, group);
        uint64_t len = has_super + desc_blocks(fs, group, has_super);

        /* With blocks of 1k and clusters the boot block is block 0 of group 0. */
        if (group == 0 && fs->block_size == 1024 && fs->first_data_block == 0)
                len++;
        return add(z, fs, (struct ext4_zone){start, len, EXT4_ZONE_NO_GROUP});
}

int ext4_zones_add_group(struct ext4_zones *z, const struct ext4_fs *fs, ext4_group_t group,
                         const struct ext4_group *g)
{
        uint64_t table =
                div_round_up((uint64_t)fs->inodes_per_group * fs->inode_size, fs->block_size);
        int ret = add(z, fs, (struct ext4_zone){g->block_bitmap, 1, group});

        if (ret == 0)
                ret = add(z, fs, (struct ext4_zone){g->inode_bitmap, 1, group});
        if (ret == 0)
                ret = add(z, fs, (struct ext4_zone){g->inode_table, table, group});
        return ret;
}

/* It is no larger than the file system: ext4_journal_open() has looked. */
static int add_file(struct ext4_zones *z, struct ext4_inode *inode)
{
        uint64_t nr = div_round_up(vfs_size(&inode->vfs), inode->fs->block_size);

        nr = min_t(uint64_t, nr, EXT4_NR_LBLKS);
        for (uint64_t lblk = 0; lblk < nr;) {
                struct ext4_map map;
                int ret = ext4_map_lookup(inode, (ext4_lblk_t)lblk, 0, &map);

                if (ret < 0)
                        return ret;
                if (map.type != EXT4_MAP_HOLE)
                        ret = add(z, inode->fs,
                                  (struct ext4_zone){map.pblk, map.len, EXT4_ZONE_NO_GROUP});
                if (ret < 0)
                        return ret;
                lblk += map.len;
        }
        return 0;
}

int ext4_zones_add_journal(struct ext4_zones *z, struct ext4_fs *fs)
{
        uint32_t ino = le32_get(fs->sb.s_journal_inum);
        struct ext4_inode *inode;
        int ret;

        if (!ext4_has_compat(fs, EXT4_COMPAT_HAS_JOURNAL) || ino == 0)
                return 0;
        ret = ext4_iget(fs, ino, &inode);
        if (ret < 0)
                return ret;
        rwsem_read_lock(&inode->vfs.lock);
        if (!(inode->flags & EXT4_FL_INLINE_DATA))
                ret = add_file(z, inode);
        rwsem_read_unlock(&inode->vfs.lock);
        ext4_iput(inode);
        return ret;
}

/* ---- using it ---- */

static int by_start(const void *a, const void *b)
{
        const struct ext4_zone *x = a;
        const struct ext4_zone *y = b;

        return (x->start > y->start) - (x->start < y->start);
}

void ext4_zones_settle(struct ext4_zones *z, void (*bad)(void *arg, ext4_group_t group),
                       void *arg)
{
        size_t nr = 0;

        if (z->nr)
                qsort(z->zones, z->nr, sizeof(*z->zones), by_start);
        for (size_t i = 0; i < z->nr; i++) {
                struct ext4_zone zone = z->zones[i];
                struct ext4_zone *last = nr ? &z->zones[nr - 1] : NULL;
                ext4_fsblk_t end = zone.start + zone.len;

                if (!last || zone.start > last->start + last->len) {
                        z->zones[nr++] = zone;
                        continue;
                }
                if (zone.start < last->start + last->len) {
                        bad(arg, zone.group);
                        bad(arg, last->group);
                }
                /* Whoever overlaps the joined zone next most likely overlaps its last part. */
                last->group = zone.group;
                last->len = max_t(uint64_t, last->len, end - last->start);
        }
        z->nr = nr;
}

const struct ext4_zone *ext4_zones_from(const struct ext4_zones *z, ext4_fsblk_t blk)
{
        size_t lo = 0;
        size_t hi = z->nr;

        while (lo < hi) {
                size_t mid = lo + (hi - lo) / 2;

                if (z->zones[mid].start + z->zones[mid].len > blk)
                        hi = mid;
                else
                        lo = mid + 1;
        }
        return lo < z->nr ? &z->zones[lo] : NULL;
}

bool ext4_zones_overlap(const struct ext4_zones *z, ext4_fsblk_t blk, uint64_t nr)
{
        const struct ext4_zone *zone = ext4_zones_from(z, blk);

        return zone && zone->start < blk + nr;
}
