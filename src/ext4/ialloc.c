/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Inodes given out and taken back: the bit, the descriptor's counts, the raw inode and the
 * object in memory, in one transaction.
 *
 * Of a group the lowest free inode is taken.  This matters where inode tables are lazy: those
 * from `itable_unused` inodes before the end of a group were never used, e2fsck does not look
 * at them, and their bytes may be anything.  By taking the lowest none is ever skipped, so that
 * everything before that border has been written as a whole inode at some time.
 *
 * I1  A raw inode is written while its object is in the table and either its load lock is held
 *     (a new one) or it is dying (one that goes): no reader sees half of it.
 * I2  The object leaves the table before the bit is clear: a new inode of that number is a new
 *     object.
 */

#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "ext4/bitmap.h"
#include "ext4/ialloc_group.h"
#include "ext4/truncate.h"
#include "ext4/xattr_change.h"
#include "util/alloc.h"

/* ---- the mount ---- */

/* No transaction before the one that a handle is part of now can change inodes any more. */
static int set_first_tid(struct ext4_fs *fs)
{
        struct jbd2_handle *h;
        int ret = jbd2_start(fs->journal, 0, 0, &h);

        if (ret < 0)
                return ret;
        ext4_inode_table_set_tid(fs->inodes, jbd2_tid(h) - 1);
        return jbd2_stop(h);
}

/* A group whose descriptor is bad was said, and is not used. */
static void count_group(struct ext4_ialloc *ia, ext4_group_t group)
{
        const struct ext4_group none = {0};
        struct ext4_group g;

        if (ext4_group_get(ia->fs, group, 0, &g) < 0)
                return;
        g.free_inodes = min_t(uint32_t, g.free_inodes, ia->fs->inodes_per_group);
        g.used_dirs = min_t(uint32_t, g.used_dirs, ia->fs->inodes_per_group);
        ext4_ialloc_count(ia, group, &none, &g);
}

static void seed(struct ext4_ialloc *ia)
{
        uint64_t random = (uint64_t)ia->fs->opts.epoch;

        atomic_init(&ia->random, random);
        if (ia->fs->opts.has_epoch)
                return;
        /* Not a secret: when there is no randomness the time is good enough. */
        if (getrandom(&random, sizeof(random), GRND_NONBLOCK) != sizeof(random))
                random = clock_ns();
        atomic_store(&ia->random, random);
}

int ext4_ialloc_new(struct ext4_fs *fs)
{
        struct ext4_ialloc *ia;
        int ret = set_first_tid(fs);

        if (ret < 0)
                return ret;
        ia = mem_zalloc(sizeof(*ia) + fs->nr_groups * sizeof(ia->groups[0]));
        if (!ia)
                return -ENOMEM;
        ia->fs = fs;
        ia->groups_per_flex = 1;
        if (ext4_has_incompat(fs, EXT4_INCOMPAT_FLEX_BG) && fs->sb.s_log_groups_per_flex < 31)
                ia->groups_per_flex = 1u << fs->sb.s_log_groups_per_flex;
        seed(ia);
        for (ext4_group_t g = 0; g < fs->nr_groups; g++)
                count_group(ia, g);
        fs->ialloc = ia;
        return 0;
}

void ext4_ialloc_free(struct ext4_fs *fs)
{
        mem_free(fs->ialloc);
        fs->ialloc = NULL;
}

/* ---- allocating in one group ---- */

struct attempt {
        struct jbd2_handle *h;
        const struct ext4_new_inode *want;
        struct ext4_inode *dir;
        ext4_group_t group;
        const struct ext4_inherited *inherited;

        struct ext4_group_loc desc;
        struct ext4_group g;
        struct ext4_bitmap_loc bitmap;
        bool has_bitmap; /* bitmap is begun */
        struct ext4_iloc iloc;
        struct ext4_inode *inode;
        uint32_t bit;
};

static void report_bad_group(struct attempt *a, const char *what)
{
        const struct ext4_where at = {a->dir->fs, 0, 0};

        (void)!ext4_corrupt(&at, "group %u: %s", a->group, what);
}

/* The first inode of the group that may be given out. */
static uint32_t first_bit(const struct ext4_fs *fs, ext4_group_t group)
{
        uint64_t first = (uint64_t)group * fs->inodes_per_group;

        return first + 1 >= fs->first_ino ? 0
                                          : (uint32_t)min_t(uint64_t, fs->first_ino - 1 - first,
                                                            fs->inodes_per_group);
}

/* Inodes of the group that were ever used; all where that is not kept. */
static uint32_t nr_ever_used(const struct ext4_fs *fs, const struct ext4_group *g)
{
        if (!fs->has_gdt_csum && !fs->has_metadata_csum)
                return fs->inodes_per_group;
        return fs->inodes_per_group - min_t(uint32_t, g->itable_unused, fs->inodes_per_group);
}

/* Choose the bit.  An initialised bitmap is begun for it. */
static int choose_bit(struct attempt *a)
{
        struct ext4_fs *fs = a->dir->fs;
        uint32_t end = fs->inodes_per_group;
        int ret;

        a->bit = first_bit(fs, a->group);
        if (ext4_bitmap_is_init(fs, &a->g, EXT4_INODE_BITMAP)) {
                ret = ext4_bitmap_begin(a->h, &a->desc, &a->g, EXT4_INODE_BITMAP, &a->bitmap);
                if (ret < 0)
                        return ret;
                a->has_bitmap = true;
                a->bit = ext4_bits_next_clear(a->bitmap.bytes, a->bit, end);
        }
        if (a->bit == end) {
                report_bad_group(a, "no inode is free, but some are counted");
                return -EUCLEAN;
        }
        if (a->bit > nr_ever_used(fs, &a->g)) {
                report_bad_group(a, "inodes are in use that were never used");
                return -EUCLEAN;
        }
        return 0;
}

/* Everything that can fail.  What was begun is let go by the caller. */
static int prepare(struct attempt *a)
{
        struct ext4_fs *fs = a->dir->fs;
        uint32_t ino;
        int ret = choose_bit(a);

        if (ret < 0)
                return ret;
        ino = a->group * fs->inodes_per_group + a->bit + 1;
        ret = ext4_iget_new(fs, ino, &a->inode);
        if (ret < 0)
                return ret;
        ret = ext4_inode_init_new(a->inode, a->dir, a->want, a->inherited);
        if (ret < 0)
                return ret;
        ret = ext4_iloc_begin(a->h, fs, ino, &a->iloc);
        if (ret < 0 || a->has_bitmap)
                return ret;
        ret = ext4_bitmap_begin(a->h, &a->desc, &a->g, EXT4_INODE_BITMAP, &a->bitmap);
        a->has_bitmap = ret == 0;
        return ret;
}

static void store_group(struct attempt *a)
{
        struct ext4_fs *fs = a->dir->fs;
        const struct ext4_group old = a->g;

        ext4_bits_set(a->bitmap.bytes, a->bit, 1);
        a->g.free_inodes--;
        if (S_ISDIR(a->inode->mode))
                a->g.used_dirs++;
        if (a->bit >= nr_ever_used(fs, &old)) /* then both checksums of descriptors exist */
                a->g.itable_unused = fs->inodes_per_group - a->bit - 1;
        ext4_bitmap_store(a->h, &a->desc, &a->bitmap, &a->g);
        ext4_group_store(a->h, &a->desc, &a->g);
        ext4_ialloc_count(fs->ialloc, a->group, &old, &a->g);
}

static void store_inode(struct attempt *a)
{
        struct ext4_fs *fs = a->dir->fs;
        uint32_t offset =
                (uint32_t)((const char *)a->iloc.raw - (const char *)a->iloc.buf->data);

        a->inode->disk_pos = (a->iloc.buf->blk << fs->block_bits) + offset;
        memset(a->iloc.raw, 0, fs->inode_size);
        if (fs->inode_size > EXT4_GOOD_OLD_INODE_SIZE)
                a->iloc.raw->i_extra_isize = le16_make((uint16_t)ext4_new_inode_extra(fs));
        ext4_inode_map_changed(a->h, a->inode);
        ext4_inode_store(a->h, a->inode, &a->iloc);
}

static void give_up(struct attempt *a)
{
        if (a->has_bitmap)
                ext4_bitmap_put(&a->bitmap);
        if (a->iloc.buf)
                ext4_iloc_put(&a->iloc);
        ext4_group_loc_put(&a->desc);
}

static int attempt_locked(struct attempt *a)
{
        int ret = ext4_group_begin(a->h, a->dir->fs, a->group, &a->desc, &a->g);

        if (ret < 0)
                return ret;
        if (a->g.free_inodes == 0) {
                ext4_group_loc_put(&a->desc);
                return -ENOSPC;
        }
        ret = prepare(a);
        if (ret < 0) {
                give_up(a);
                return ret;
        }
        store_group(a);
        store_inode(a);
        return 0;
}

/* -ENOSPC: there is none in this group. */
static int alloc_in_group(const struct attempt *begun, ext4_group_t group,
                          struct ext4_inode **ret_inode)
{
        struct ext4_inode *dir = begun->dir;
        struct attempt a = *begun;
        int ret;

        a.group = group;
        ext4_group_lock(dir->fs, group);
        ret = attempt_locked(&a);
        if (a.inode && ret < 0)
                ext4_inode_unload(a.inode); /* somebody may wait to load it from disk */
        if (a.inode)
                ext4_iget_new_done(a.inode, ret == 0);
        ext4_group_unlock(dir->fs, group);
        if (ret == 0)
                *ret_inode = a.inode;
        else
                ext4_iput(a.inode);
        return ret;
}

static int alloc_somewhere(const struct attempt *begun, struct ext4_inode **ret_inode)
{
        struct ext4_fs *fs = begun->dir->fs;
        struct ext4_ialloc *ia = fs->ialloc;
        ext4_group_t first = ext4_ialloc_choose(ia, begun->dir, begun->want);

        for (ext4_group_t i = 0; i < fs->nr_groups; i++) {
                ext4_group_t group = (ext4_group_t)(((uint64_t)first + i) % fs->nr_groups);
                int ret;

                if (atomic_load(&ia->groups[group].free_inodes) == 0)
                        continue;
                ret = alloc_in_group(begun, group, ret_inode);
                if (ext4_is_damage(ret))
                        ext4_ialloc_set_bad(ia, group); /* said; others may be good */
                else if (ret != -ENOSPC)
                        return ret;
        }
        return -ENOSPC;
}

int ext4_ialloc(struct jbd2_handle *h, struct ext4_inode *dir,
                const struct ext4_new_inode *want, struct ext4_inode **ret_inode)
{
        struct ext4_inherited inherited = {.mode = want->mode};
        const struct attempt a = {.h = h, .dir = dir, .want = want, .inherited = &inherited};
        int ret = 0;

        if (!want->is_part)
                ret = ext4_acl_inherit(h, dir, want->mode, ext4_new_ibody_size(dir->fs),
                                       &inherited);
        if (ret < 0)
                return ret;
        if (!inherited.has_acl && !S_ISLNK(want->mode))
                inherited.mode &= (uint16_t)~want->umask;
        ret = alloc_somewhere(&a, ret_inode);
        if (ret < 0)
                ext4_acl_inherit_undo(h, dir, &inherited);
        mem_free(inherited.ibody);
        return ret;
}

/* ---- freeing ---- */

static int check_before_free(const struct ext4_inode *inode, const struct ext4_group *g,
                             const struct ext4_bitmap_loc *bitmap, uint32_t bit)
{
        const struct ext4_where at = ext4_at(inode, 0);

        if (ext4_bits_next_set(bitmap->bytes, bit, bit + 1) != bit)
                return ext4_corrupt(&at, "its inode is free already");
        if (g->free_inodes >= inode->fs->inodes_per_group)
                return ext4_corrupt(&at, "its group counts more free inodes than it has");
        if (S_ISDIR(inode->mode) && g->used_dirs == 0)
                return ext4_corrupt(&at, "its group counts no directory");
        return 0;
}

/* The raw inode of one that is gone: what e2fsck wants to see are the links and the time. */
static void store_deleted(struct jbd2_handle *h, struct ext4_inode *inode,
                          struct ext4_iloc *iloc)
{
        const struct timespec now = ext4_now(inode->fs);

        inode->nlink = 0;
        inode->disk_size = 0;
        inode->ctime = now;
        /* A smaller number is taken for the next inode of the orphan list. */
        iloc->raw->i_dtime =
                le32_make(max_t(uint32_t, (uint32_t)now.tv_sec, inode->fs->nr_inodes));
        ext4_inode_store(h, inode, iloc);
}

static int free_in_group(struct jbd2_handle *h, struct ext4_inode *inode, ext4_group_t group,
                         struct ext4_iloc *iloc)
{
        struct ext4_fs *fs = inode->fs;
        uint32_t bit = (ext4_ino(inode) - 1) % fs->inodes_per_group;
        struct ext4_bitmap_loc bitmap;
        struct ext4_group_loc desc;
        struct ext4_group g, old;
        int ret = ext4_group_begin(h, fs, group, &desc, &g);

        if (ret < 0)
                return ret;
        if (!ext4_bitmap_is_init(fs, &g, EXT4_INODE_BITMAP)) {
                const struct ext4_where at = ext4_at(inode, 0);

                ext4_group_loc_put(&desc);
                return ext4_corrupt(&at, "its group has no inodes in use");
        }
        ret = ext4_bitmap_begin(h, &desc, &g, EXT4_INODE_BITMAP, &bitmap);
        if (ret < 0) {
                ext4_group_loc_put(&desc);
                return ret;
        }
        ret = check_before_free(inode, &g, &bitmap, bit);
        if (ret < 0) {
                ext4_bitmap_put(&bitmap);
                ext4_group_loc_put(&desc);
                return ret;
        }
        old = g;
        store_deleted(h, inode, iloc); /* I1: before it leaves the table */
        ext4_inode_unhash(inode);      /* I2 */
        ext4_bits_clear(bitmap.bytes, bit, 1);
        g.free_inodes++;
        if (S_ISDIR(inode->mode))
                g.used_dirs--;
        ext4_bitmap_store(h, &desc, &bitmap, &g);
        ext4_group_store(h, &desc, &g);
        ext4_ialloc_count(fs->ialloc, group, &old, &g);
        return 0;
}

int ext4_ifree(struct jbd2_handle *h, struct ext4_inode *inode)
{
        struct ext4_fs *fs = inode->fs;
        ext4_group_t group = (ext4_ino(inode) - 1) / fs->inodes_per_group;
        struct ext4_iloc iloc;
        int ret = ext4_inode_begin(h, inode, &iloc);

        if (ret < 0)
                return ret;
        ext4_group_lock(fs, group);
        ret = free_in_group(h, inode, group, &iloc);
        ext4_group_unlock(fs, group);
        if (ret < 0)
                ext4_iloc_put(&iloc);
        return ret;
}

/* ---- asking ---- */

static int in_use_locked(struct ext4_fs *fs, ext4_group_t group, uint32_t bit)
{
        struct ext4_group g;
        uint8_t *bytes;
        int ret = ext4_group_get(fs, group, 0, &g);

        if (ret < 0)
                return ret;
        if (!ext4_bitmap_is_init(fs, &g, EXT4_INODE_BITMAP))
                return 0;
        bytes = mem_alloc(fs->block_size);
        if (!bytes)
                return -ENOMEM;
        ret = ext4_bitmap_load(fs, group, &g, EXT4_INODE_BITMAP, bytes);
        if (ret == 0)
                ret = ext4_bits_next_set(bytes, bit, bit + 1) == bit;
        mem_free(bytes);
        return ret;
}

int ext4_inode_in_use(struct ext4_fs *fs, uint32_t ino)
{
        ext4_group_t group = (ino - 1) / fs->inodes_per_group;
        int ret;

        if (ino == 0 || ino > fs->nr_inodes)
                return 0;
        ext4_group_lock(fs, group);
        ret = in_use_locked(fs, group, (ino - 1) % fs->inodes_per_group);
        ext4_group_unlock(fs, group);
        return ret;
}
