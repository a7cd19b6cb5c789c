/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Removing names. */

#include <sys/stat.h>

#include "ext4/dir_change.h"
#include "ext4/orphan.h"
#include "ext4/super_write.h"
#include "ext4/truncate.h"

static int check_dir(const struct ext4_inode *dir)
{
        if (!S_ISDIR(dir->mode))
                return -ENOTDIR;
        if (dir->flags & EXT4_FL_ENCRYPT)
                return -ENOKEY;
        if (dir->flags & (EXT4_FL_IMMUTABLE | EXT4_FL_APPEND))
                return -EPERM;
        return ext4_writable(dir->fs);
}

/* What the name leads to. */
static int check_victim(const struct ext4_inode *victim)
{
        const struct ext4_where at = ext4_at(victim, 0);

        if (ext4_is_own(victim))
                return ext4_corrupt(&at, "a directory has a name for an inode of the file "
                                         "system's own");
        if (victim->flags & (EXT4_FL_IMMUTABLE | EXT4_FL_APPEND))
                return -EPERM;
        if (victim->nlink == 0)
                return ext4_corrupt(&at, "a directory has a name for an inode without links");
        return 0;
}

/* The entry, the inode with the link, and the superblock or a block of the orphan file. */
#define UNLINK_CREDITS (EXT4_DIR_REMOVE_CREDITS + EXT4_INODE_CREDITS + EXT4_ORPHAN_CREDITS)

/*
 * Everything that can fail first.  With its last link the inode becomes an orphan, in the
 * same transaction: a cut leaves a file with a name, or one that the next mount deletes.
 */
static int unlink_in(struct jbd2_handle *h, struct ext4_inode *dir,
                     const struct ext4_dir_place *place, struct ext4_inode *victim)
{
        struct ext4_iloc loc;
        int ret = ext4_inode_begin(h, victim, &loc);

        if (ret < 0)
                return ret;
        if (victim->nlink == 1)
                ret = ext4_orphan_add(h, victim);
        if (ret == 0) {
                ret = ext4_dir_remove_locked(h, dir, place);
                if (ret < 0 && victim->nlink == 1)
                        ret = first_error(ret, ext4_orphan_del(h, victim));
        }
        if (ret < 0) {
                ext4_iloc_put(&loc);
                return ret;
        }
        victim->nlink--;
        victim->ctime = dir->ctime;
        ext4_inode_store(h, victim, &loc);
        if (dir->flags & (EXT4_FL_DIRSYNC | EXT4_FL_SYNC))
                jbd2_sync(h);
        return 0;
}

static int unlink_victim(struct ext4_inode *dir, const struct ext4_dir_place *place,
                         struct ext4_inode *victim)
{
        struct jbd2_handle *h;
        int ret;

        if (S_ISDIR(victim->mode))
                return -EISDIR; /* known without its lock, which might be ordered before dir's
                                 */
        rwsem_write_lock_nested(&victim->vfs.lock, RANK_INODE_CHILD);
        ret = check_victim(victim);
        if (ret == 0)
                ret = jbd2_start(dir->fs->journal, UNLINK_CREDITS, 0, &h);
        if (ret == 0) {
                ret = unlink_in(h, dir, place, victim);
                ret = first_error(ret, jbd2_stop(h));
        }
        rwsem_write_unlock(&victim->vfs.lock);
        return ret;
}

/* *ret_victim: to be put when no lock is held any more, because that may delete it. */
static int unlink_locked(struct ext4_inode *dir, const struct ext4_name *name,
                         struct ext4_inode **ret_victim)
{
        struct ext4_dir_place place;
        struct ext4_inode *victim;
        int ret = check_dir(dir);

        if (ret == 0)
                ret = ext4_dir_find_locked(dir, name, &place);
        if (ret < 0)
                return ret;
        ret = ext4_iget_linked(dir, place.ino, &victim);
        if (ret == 0) {
                ret = unlink_victim(dir, &place, victim);
                *ret_victim = victim;
        }
        ext4_dir_place_put(&place);
        return ret;
}

/* Names of directories, always. */
static bool is_dots(const struct ext4_name *name)
{
        return name->text[0] == '.' &&
               (name->len == 1 || (name->len == 2 && name->text[1] == '.'));
}

int ext4_unlink(struct ext4_inode *dir, const struct ext4_name *name)
{
        struct ext4_inode *victim = NULL;
        int ret;

        if (name->len > EXT4_NAME_LEN)
                return -ENAMETOOLONG;
        if (name->len == 0)
                return -ENOENT;
        if (is_dots(name))
                return S_ISDIR(dir->mode) ? -EISDIR : -ENOTDIR;
        rwsem_write_lock(&dir->vfs.lock);
        ret = unlink_locked(dir, name, &victim);
        rwsem_write_unlock(&dir->vfs.lock);
        ext4_iput(victim);
        return ret;
}
