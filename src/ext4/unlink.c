/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Removing names: of files, and of empty directories. */

#include <sys/stat.h>

#include "ext4/dir_insert.h"
#include "ext4/namei.h"
#include "ext4/orphan.h"
#include "ext4/perm.h"
#include "ext4/super_write.h"

/* What the name leads to. */
static int check_victim(const struct ext4_inode *dir, const struct ext4_inode *victim,
                        bool want_dir)
{
        const struct ext4_where at = ext4_at(victim, 0);
        int ret = ext4_may_take_name(dir, victim);

        if (ret < 0)
                return ret;

        if (ext4_is_own(victim))
                return ext4_corrupt(&at, "a directory has a name for an inode of the file "
                                         "system's own");
        if (victim->flags & (EXT4_FL_IMMUTABLE | EXT4_FL_APPEND))
                return -EPERM;
        if (victim->nlink == 0)
                return ext4_corrupt(&at, "a directory has a name for an inode without links");
        if (S_ISDIR(victim->mode) != want_dir)
                return want_dir ? -ENOTDIR : -EISDIR;
        return 0;
}

int ext4_may_remove_dir(const struct ext4_inode *dir, struct ext4_inode *victim)
{
        struct ext4_dir_place parent;
        int ret = ext4_dir_is_empty_locked(victim);

        if (ret <= 0)
                return ret < 0 ? ret : -ENOTEMPTY;
        ret = ext4_dir_find_parent_locked(victim, dir, &parent);
        if (ret == 0)
                ext4_dir_place_put(&parent);
        return ret;
}

/* The entry, the inode with the link, and the superblock or a block of the orphan file. */
#define UNLINK_CREDITS (EXT4_DIR_REMOVE_CREDITS + EXT4_INODE_CREDITS + EXT4_ORPHAN_CREDITS)

/*
 * Everything that can fail first.  With its last link the inode becomes an orphan, in the
 * same transaction: a cut leaves something with a name, or what the next mount deletes.
 */
static int unlink_in(struct jbd2_handle *h, struct ext4_inode *dir,
                     struct ext4_dir_place *place, struct ext4_inode *victim)
{
        const uint32_t left = ext4_links_left(victim);
        struct ext4_iloc loc, dir_loc = {0};
        int ret = ext4_inode_begin(h, victim, &loc);

        if (ret < 0)
                return ret;
        ret = ext4_inode_begin(h, dir, &dir_loc);
        if (ret == 0)
                ret = ext4_dir_place_begin(h, place);
        if (ret == 0 && left == 0)
                ret = ext4_orphan_add(h, victim);
        if (ret < 0) {
                ext4_iloc_put(&dir_loc);
                ext4_iloc_put(&loc);
                return ret;
        }
        ext4_dir_take_out(h, dir, place);
        if (S_ISDIR(victim->mode))
                ext4_count_subdir(dir, -1);
        ext4_touch_changed(dir);
        ext4_inode_store(h, dir, &dir_loc);
        ext4_store_links(h, victim, &loc, left, dir->ctime);
        ext4_dir_sync(h, dir);
        return 0;
}

static int unlink_victim(struct ext4_inode *dir, struct ext4_dir_place *place,
                         struct ext4_inode *victim, bool want_dir)
{
        struct jbd2_handle *h;
        int ret;

        if (!ext4_lock_child(victim, RANK_INODE_CHILD))
                return -EDEADLK;
        ret = check_victim(dir, victim, want_dir);
        if (ret == 0 && want_dir)
                ret = ext4_may_remove_dir(dir, victim);
        if (ret == 0)
                ret = jbd2_start(dir->fs->journal, UNLINK_CREDITS, 0, &h);
        if (ret == 0) {
                ret = unlink_in(h, dir, place, victim);
                ret = first_error(ret, jbd2_stop(h));
        }
        rwsem_write_unlock(&victim->vfs.lock);
        return ret;
}

/* *ret_victim: to be put when no lock is held any more, because that may delete it.  -EDEADLK:
 * the name is to be looked for again when its lock was to be had. */
static int unlink_locked(struct ext4_inode *dir, const struct ext4_name *name, bool want_dir,
                         struct ext4_inode **ret_victim)
{
        const struct ext4_where at = ext4_at(dir, 0);
        struct ext4_dir_place place;
        struct ext4_inode *victim;
        int ret = ext4_may_search_dir(dir);

        if (ret == 0)
                ret = ext4_dir_find_locked(dir, name, &place);
        if (ret < 0)
                return ret;
        ret = ext4_may_change_dir(dir, EXT4_DIR_DELETE);
        if (ret == 0)
                ret = ext4_iget_linked(dir, place.ino, &victim);
        if (ret == 0) {
                *ret_victim = victim;
                ret = victim == dir ? ext4_corrupt(&at, "a directory is in itself")
                                    : unlink_victim(dir, &place, victim, want_dir);
        }
        ext4_dir_place_put(&place);
        return ret;
}

static int remove_name(struct ext4_inode *dir, const struct ext4_name *name, bool want_dir)
{
        int ret;

        do {
                struct ext4_inode *victim = NULL;

                rwsem_write_lock(&dir->vfs.lock);
                ret = unlink_locked(dir, name, want_dir, &victim);
                rwsem_write_unlock(&dir->vfs.lock);
                if (ret == -EDEADLK && victim)
                        ext4_wait_for_child(victim);
                ext4_iput(victim);
        } while (ret == -EDEADLK);
        return ret;
}

int ext4_unlink(struct ext4_inode *dir, const struct ext4_name *name)
{
        int ret = ext4_check_name(name);

        if (ret < 0)
                return ret;
        if (ext4_is_dots(name))
                return S_ISDIR(dir->mode) ? -EISDIR : -ENOTDIR;
        return remove_name(dir, name, false);
}

int ext4_rmdir(struct ext4_inode *dir, const struct ext4_name *name)
{
        int ret = ext4_check_name(name);

        if (ret < 0)
                return ret;
        if (ext4_is_dots(name) && S_ISDIR(dir->mode))
                return name->len == 1 ? -EINVAL : -ENOTEMPTY;
        return remove_name(dir, name, true);
}
