/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The flags of an inode that programs see and set, and its project. */

#include <linux/capability.h>
#include <linux/fs.h>
#include <sys/stat.h>

#include "ext4/data_journal.h"
#include "ext4/inode_raw.h"
#include "ext4/migrate.h"
#include "ext4/perm.h"
#include "ext4/setattr.h"
#include "ext4/super_write.h"
#include "ext4/truncate.h"

/* Kept for programs; nobody acts on them. */
#define KEPT (FS_SECRM_FL | FS_UNRM_FL | FS_COMPR_FL | FS_NODUMP_FL | FS_NOTAIL_FL)

/* What may be set. */
#define SETTABLE                                                                        \
        (KEPT | FS_SYNC_FL | FS_IMMUTABLE_FL | FS_APPEND_FL | FS_NOATIME_FL |           \
         FS_JOURNAL_DATA_FL | FS_DIRSYNC_FL | FS_TOPDIR_FL | FS_DAX_FL | FS_EXTENT_FL | \
         FS_PROJINHERIT_FL | FS_CASEFOLD_FL)

/* What is shown: also what the file system has set itself. */
#define SHOWN                                                                     \
        (SETTABLE | FS_DIRTY_FL | FS_COMPRBLK_FL | FS_NOCOMP_FL | FS_ENCRYPT_FL | \
         FS_INDEX_FL | FS_VERITY_FL | FS_INLINE_DATA_FL)

#define DIR_ONLY (FS_DIRSYNC_FL | FS_TOPDIR_FL | FS_CASEFOLD_FL | FS_PROJINHERIT_FL)

/* What FS_IOC_FSSETXATTR knows of: the rest stays. */
#define COMMON                                                                        \
        (FS_SYNC_FL | FS_IMMUTABLE_FL | FS_APPEND_FL | FS_NODUMP_FL | FS_NOATIME_FL | \
         FS_DAX_FL | FS_PROJINHERIT_FL)

uint32_t ext4_visible_flags(const struct ext4_inode *inode)
{
        return inode->flags & SHOWN;
}

struct change {
        struct ext4_inode *inode;
        uint32_t flags; /* as they are to be, of those that may be set */
        uint32_t diff;  /* what changes of these */
        uint32_t projid;
        struct ext4_inode *old_map; /* what migration has left, to be put */
};

/* ---- may it be ---- */

static int plan(struct change *c, struct ext4_inode *inode, const struct ext4_new_flags *new)
{
        uint32_t old = inode->flags & SETTABLE;
        uint32_t want = new->flags;

        if (new->is_common)
                want = (want & COMMON) | (old & ~COMMON);
        if (want & ~SHOWN)
                return -EOPNOTSUPP;
        want &= SETTABLE;
        if (!S_ISDIR(inode->mode) && (want & DIR_ONLY))
                return -EOPNOTSUPP;
        *c = (struct change){
                .inode = inode,
                .flags = want,
                .diff = want ^ old,
                .projid = new->sets_projid ? new->projid : inode->projid,
        };
        return 0;
}

static int check_identity(const struct change *c)
{
        int ret = ext4_may_own(c->inode);

        if (ret < 0)
                return ret;
        if ((c->diff & (FS_IMMUTABLE_FL | FS_APPEND_FL)) && !ext4_capable(CAP_LINUX_IMMUTABLE))
                return -EPERM;
        if ((c->diff & FS_JOURNAL_DATA_FL) && !ext4_capable(CAP_SYS_RESOURCE))
                return -EPERM;
        return 0;
}

/* What cannot be, whoever asks. */
static int check_change(const struct change *c)
{
        const struct ext4_inode *inode = c->inode;
        const uint32_t not_dax = FS_JOURNAL_DATA_FL | FS_VERITY_FL | FS_ENCRYPT_FL;
        int ret = ext4_writable(inode->fs);

        if (ret < 0)
                return ret;
        if (ext4_is_own(inode) && ext4_ino(inode) != EXT4_INO_ROOT)
                return -EPERM;
        /* What is immutable and stays so stays as it is. */
        if ((inode->flags & c->flags & FS_IMMUTABLE_FL) &&
            (c->diff != 0 || c->projid != inode->projid))
                return -EPERM;
        if ((c->diff & FS_CASEFOLD_FL) || ((c->diff & FS_EXTENT_FL) && !S_ISREG(inode->mode)))
                return -EOPNOTSUPP;
        if ((c->diff & (FS_DAX_FL | FS_JOURNAL_DATA_FL)) && (c->flags & FS_DAX_FL) &&
            ((c->flags | inode->flags) & not_dax))
                return -EOPNOTSUPP;
        if (c->projid != inode->projid &&
            !ext4_has_ro_compat(inode->fs, EXT4_RO_COMPAT_PROJECT))
                return -EOPNOTSUPP;
        return 0;
}

/* ---- doing it ---- */

static int change_in(struct jbd2_handle *h, struct change *c)
{
        struct ext4_inode *inode = c->inode;
        struct ext4_iloc loc;
        int ret = ext4_inode_begin(h, inode, &loc);

        if (ret < 0)
                return ret;
        if (c->projid != inode->projid && !ext4_has_projid(inode->fs, loc.raw)) {
                ext4_iloc_put(&loc);
                return -EOVERFLOW;
        }
        rwsem_write_lock(&inode->map_lock);
        inode->flags = (inode->flags & ~(uint32_t)SETTABLE) | c->flags;
        inode->projid = c->projid;
        ext4_set_ctime(inode, ext4_now(inode->fs));
        ext4_inode_store(h, inode, &loc);
        rwsem_write_unlock(&inode->map_lock);
        if ((c->diff | inode->flags) & FS_SYNC_FL)
                jbd2_sync(h);
        return 0;
}

static int change(struct change *c)
{
        struct ext4_inode *inode = c->inode;
        struct jbd2_handle *h;
        int ret = 0;

        if (c->diff & FS_EXTENT_FL)
                ret = ext4_migrate_locked(inode, c->flags & FS_EXTENT_FL, &c->old_map);
        /* That of a directory is what files in it inherit. */
        if (ret == 0 && (c->diff & FS_JOURNAL_DATA_FL) && S_ISREG(inode->mode))
                ret = ext4_data_journal_change_locked(inode, c->flags & FS_JOURNAL_DATA_FL);
        if (ret == 0)
                ret = jbd2_start(inode->fs->journal, EXT4_INODE_CREDITS, 0, &h);
        if (ret < 0)
                return ret;
        ret = change_in(h, c);
        return first_error(ret, jbd2_stop(h));
}

static int set_locked(struct change *c, struct ext4_inode *inode,
                      const struct ext4_new_flags *new)
{
        int ret = plan(c, inode, new);

        if (ret == 0)
                ret = check_identity(c);
        if (ret == 0)
                ret = check_change(c);
        return ret < 0 ? ret : change(c);
}

int ext4_set_flags(struct ext4_inode *inode, const struct ext4_new_flags *new)
{
        struct change c = {0};
        int ret;

        if (!S_ISREG(inode->mode) && !S_ISDIR(inode->mode))
                return -ENOTTY;
        /* How its data is written may change: nobody writes. */
        ret = ext4_io_exclude_leases(inode, 0, UINT64_MAX);
        if (ret < 0)
                return ret;
        ret = set_locked(&c, inode, new);
        ext4_io_admit(inode);
        ext4_iput(c.old_map); /* which frees it */
        return ret;
}
