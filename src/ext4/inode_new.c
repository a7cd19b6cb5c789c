/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What a new inode is like: what the caller wants, what its directory passes on, and the
 * format's own. */

#include <string.h>
#include <sys/stat.h>

#include "ext4/extent_change.h"
#include "ext4/ialloc_group.h"
#include "ext4/xattr_change.h"
#include "util/alloc.h"

/* Of i_flags that are kept for programs: for deletion and compression, which nobody does. */
#define FL_SECRM   0x00000001u
#define FL_UNRM    0x00000002u
#define FL_COMPR   0x00000004u
#define FL_NOCOMPR 0x00000400u

/* What a new inode has of its directory's flags. */
#define FL_INHERITED                                                                  \
        (FL_SECRM | FL_UNRM | FL_COMPR | FL_NOCOMPR | EXT4_FL_SYNC | EXT4_FL_NODUMP | \
         EXT4_FL_NOATIME | EXT4_FL_JOURNAL_DATA | EXT4_FL_NOTAIL | EXT4_FL_DIRSYNC |  \
         EXT4_FL_PROJINHERIT | EXT4_FL_CASEFOLD | EXT4_FL_DAX)
/* Of these, what is for directories only. */
#define FL_DIR_ONLY (EXT4_FL_DIRSYNC | EXT4_FL_PROJINHERIT | EXT4_FL_CASEFOLD)
/* And all that others than files and directories have. */
#define FL_OTHERS (EXT4_FL_NODUMP | EXT4_FL_NOATIME)

/* The extra fields that this library knows. */
#define WANT_EXTRA (sizeof(struct ext4_inode_disk) - EXT4_GOOD_OLD_INODE_SIZE)

static uint32_t inherited_flags(const struct ext4_inode *dir, uint32_t mode)
{
        uint32_t flags = dir->flags & FL_INHERITED;

        if (S_ISDIR(mode))
                return flags;
        return S_ISREG(mode) ? flags & ~FL_DIR_ONLY : flags & FL_OTHERS;
}

/* Device numbers: the old form where it can hold them, as everybody writes them. */
static void put_rdev(struct ext4_inode *inode)
{
        uint32_t major = inode->rdev_major;
        uint32_t minor = inode->rdev_minor;
        le32 words[2] = {{0}, {0}};

        if (major < 256 && minor < 256)
                words[0] = le32_make(major << 8 | minor);
        else
                words[1] = le32_make((minor & 0xff) | (major & 0xfff) << 8 |
                                     (minor & 0xfff00) << 12);
        memcpy(inode->block, words, sizeof(words));
}

uint32_t ext4_new_inode_extra(const struct ext4_fs *fs)
{
        uint32_t max = fs->inode_size - EXT4_GOOD_OLD_INODE_SIZE;
        uint32_t want = 0;

        if (max == 0)
                return 0;
        if (ext4_has_ro_compat(fs, EXT4_RO_COMPAT_EXTRA_ISIZE))
                want = max_t(uint32_t, le16_get(fs->sb.s_want_extra_isize),
                             le16_get(fs->sb.s_min_extra_isize));
        want = max_t(uint32_t, want, WANT_EXTRA);
        return want <= max && want % 4 == 0 ? want : min_t(uint32_t, WANT_EXTRA, max);
}

uint32_t ext4_new_ibody_size(const struct ext4_fs *fs)
{
        uint32_t extra = ext4_new_inode_extra(fs);

        return extra == 0 ? 0 : fs->inode_size - EXT4_GOOD_OLD_INODE_SIZE - extra;
}

static int put_attributes(struct ext4_inode *inode, const struct ext4_inherited *inherited)
{
        uint32_t size = ext4_new_ibody_size(inode->fs);

        if (size > 0) {
                inode->ibody = mem_zalloc(size);
                if (!inode->ibody)
                        return -ENOMEM;
                inode->ibody_size = size;
        }
        if (inherited->ibody)
                memcpy(inode->ibody, inherited->ibody, size);
        inode->file_acl = inherited->block;
        inode->blocks = inherited->sectors;
        return 0;
}

static void set_owner(struct ext4_inode *inode, const struct ext4_inode *dir,
                      const struct ext4_new_inode *want, uint16_t mode)
{
        inode->mode = mode;
        inode->uid = want->uid;
        inode->gid = want->gid;
        if (dir->mode & S_ISGID) {
                inode->gid = dir->gid;
                if (S_ISDIR(inode->mode))
                        inode->mode |= S_ISGID;
        }
        inode->projid = dir->flags & EXT4_FL_PROJINHERIT ? dir->projid : 0;
}

int ext4_inode_init_new(struct ext4_inode *inode, const struct ext4_inode *dir,
                        const struct ext4_new_inode *want,
                        const struct ext4_inherited *inherited)
{
        struct ext4_fs *fs = inode->fs;

        set_owner(inode, dir, want, inherited->mode);
        inode->generation = ext4_ialloc_random(fs->ialloc);
        inode->csum_seed =
                ext4_inode_csum_seed(fs, ext4_ino(inode), le32_make(inode->generation));
        inode->nlink = S_ISDIR(want->mode) ? 2 : 1;
        inode->flags = inherited_flags(dir, want->mode);
        inode->is_dax = inode->flags & EXT4_FL_DAX;
        inode->atime = inode->mtime = want->now;
        ext4_set_ctime(inode, want->now);
        /* Where nobody could read it again it is not known from the beginning. */
        if (ext4_new_inode_extra(fs) >=
            offsetof(struct ext4_inode_disk, i_version_hi) - EXT4_GOOD_OLD_INODE_SIZE)
                inode->btime = want->now;
        if (S_ISCHR(want->mode) || S_ISBLK(want->mode)) {
                inode->rdev_major = want->rdev_major;
                inode->rdev_minor = want->rdev_minor;
                put_rdev(inode);
        }
        if (ext4_has_incompat(fs, EXT4_INCOMPAT_EXTENTS) &&
            (S_ISREG(want->mode) || S_ISDIR(want->mode) || S_ISLNK(want->mode))) {
                inode->flags |= EXT4_FL_EXTENTS;
                ext4_extent_init(inode);
        }
        return put_attributes(inode, inherited);
}
