/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ext4/namei.h"

#include <string.h>
#include <sys/stat.h>

#include "ext4/dir_insert.h"
#include "ext4/orphan.h"
#include "ext4/perm.h"
#include "ext4/super_write.h"

/*
 * New names.
 *
 * In one transaction: room in the directory, the inode, what is in it from the beginning, the
 * entry.  The entry comes last, and cannot fail; if something before it does, an inode that was
 * allocated has no links, is an orphan in the same transaction, and goes with its reference.
 *
 * A new inode is changed without its lock: nobody has its number yet.
 */

/* ---- what these files share ---- */

int ext4_check_name(const struct ext4_name *name)
{
        if (name->len > EXT4_NAME_LEN)
                return -ENAMETOOLONG;
        if (name->len == 0)
                return -ENOENT;
        if (memchr(name->text, '/', name->len) || memchr(name->text, '\0', name->len))
                return -EINVAL;
        return 0;
}

int ext4_may_search_dir(struct ext4_inode *dir)
{
        if (!S_ISDIR(dir->mode))
                return -ENOTDIR;
        if (dir->flags & EXT4_FL_ENCRYPT)
                return -ENOKEY;
        if (dir->flags & EXT4_FL_CASEFOLD) {
                log_say(&dir->fs->vfs.log, LOG_WARNING,
                        "directory %u ignores case (casefold): it is not changed",
                        ext4_ino(dir));
                return -EOPNOTSUPP;
        }
        return dir->nlink == 0 ? -ENOENT : ext4_permission_locked(dir, EXT4_MAY_EXEC);
}

int ext4_may_change_dir(struct ext4_inode *dir, enum ext4_dir_purpose purpose)
{
        int ret = ext4_may_search_dir(dir);

        if (ret < 0)
                return ret;
        if (dir->flags & EXT4_FL_IMMUTABLE)
                return -EPERM;
        ret = ext4_permission_locked(dir, EXT4_MAY_WRITE);
        if (ret < 0)
                return ret;
        if (purpose == EXT4_DIR_DELETE && (dir->flags & EXT4_FL_APPEND))
                return -EPERM;
        return ext4_writable(dir->fs);
}

int ext4_may_add_subdir(const struct ext4_inode *dir)
{
        if (dir->nlink < EXT4_LINK_MAX)
                return 0;
        /* Where it will be hashed is where it can have so many. */
        return ext4_has_ro_compat(dir->fs, EXT4_RO_COMPAT_DIR_NLINK) &&
                               (dir->flags & EXT4_FL_INDEX)
                       ? 0
                       : -EMLINK;
}

void ext4_count_subdir(struct ext4_inode *dir, int change)
{
        if (dir->nlink == 1) /* it is not known how many there are */
                return;
        if (change < 0) {
                dir->nlink -= dir->nlink > 2;
                return;
        }
        dir->nlink++;
        if (dir->nlink > EXT4_LINK_MAX)
                dir->nlink = 1;
}

bool ext4_lock_child(struct ext4_inode *inode, enum lock_rank rank)
{
        if (S_ISDIR(inode->mode))
                return rwsem_write_trylock(&inode->vfs.lock);
        rwsem_write_lock_nested(&inode->vfs.lock, rank);
        return true;
}

void ext4_wait_for_child(struct ext4_inode *inode)
{
        rwsem_write_lock(&inode->vfs.lock);
        rwsem_write_unlock(&inode->vfs.lock);
}

void ext4_store_links(struct jbd2_handle *h, struct ext4_inode *inode, struct ext4_iloc *loc,
                      uint32_t links, struct timespec now)
{
        rwsem_write_lock(&inode->map_lock);
        inode->nlink = links;
        ext4_set_ctime(inode, now);
        ext4_inode_store(h, inode, loc);
        rwsem_write_unlock(&inode->map_lock);
}

void ext4_dir_sync(struct jbd2_handle *h, const struct ext4_inode *dir)
{
        if (dir->flags & (EXT4_FL_DIRSYNC | EXT4_FL_SYNC))
                jbd2_sync(h);
}

/* The name must not be there. */
static int check_new(struct ext4_inode *dir, const struct ext4_name *name)
{
        struct ext4_dir_hit hit;
        int ret = ext4_may_search_dir(dir);

        if (ret < 0)
                return ret;
        ret = ext4_dir_lookup_locked(dir, name, &hit);
        if (ret != -ENOENT)
                return ret == 0 ? -EEXIST : ret;
        return ext4_may_change_dir(dir, EXT4_DIR_ENTER);
}

/* ---- what is in a new inode ---- */

/* A short target lies where the map would be, else in a block that is journalled. */
static int put_target(struct jbd2_handle *h, struct ext4_inode *inode,
                      const struct ext4_name *target, unsigned alloc_flags)
{
        struct ext4_new_block new;
        int ret;

        if (target->len < EXT4_I_BLOCK_SIZE) {
                inode->flags &= ~(uint32_t)EXT4_FL_EXTENTS;
                memset(inode->block, 0, sizeof(inode->block));
                memcpy(inode->block, target->text, target->len);
        } else {
                ret = ext4_append_block(h, inode, alloc_flags, &new);
                if (ret < 0)
                        return ret;
                memcpy(new.bytes, target->text, target->len);
                jbd2_dirty(h, new.buf);
                buf_put(new.buf);
        }
        ext4_set_size(inode, target->len);
        return 0;
}

/* ---- creating ---- */

static int fill_inode(struct jbd2_handle *h, struct ext4_inode *inode,
                      const struct ext4_new_name *new)
{
        unsigned flags = ext4_alloc_rights(inode->fs);
        int ret = 0;

        if (S_ISDIR(new->mode))
                ret = ext4_dir_init(h, inode, ext4_ino(new->dir), flags);
        else if (S_ISLNK(new->mode))
                ret = put_target(h, inode, &new->target, flags);
        return ret < 0 ? ret : ext4_inode_dirty(h, inode);
}

void ext4_make_nameless(struct jbd2_handle *h, struct ext4_inode *inode)
{
        int ret;

        inode->nlink = 0;
        ret = ext4_orphan_add(h, inode);
        if (ret == 0)
                ret = ext4_inode_dirty(h, inode);
        if (ret < 0)
                ext4_abort(inode->fs, ret);
}

int ext4_make_inode(struct jbd2_handle *h, const struct ext4_new_name *new,
                    struct ext4_inode **ret_inode)
{
        const struct ext4_cred *cred = ext4_cred_get();
        const struct ext4_new_inode want = {
                .mode = ext4_creation_mode(new->dir, new->mode),
                .umask = cred ? (uint16_t)(cred->umask & 0777) : 0,
                .uid = cred ? cred->uid : 0,
                .gid = cred ? cred->gid : 0,
                .rdev_major = new->rdev_major,
                .rdev_minor = new->rdev_minor,
                .now = ext4_now(new->dir->fs),
        };
        int ret = ext4_ialloc(h, new->dir, &want, ret_inode);

        if (ret < 0)
                return ret;
        ret = fill_inode(h, *ret_inode, new);
        if (ret < 0)
                ext4_make_nameless(h, *ret_inode);
        return ret;
}

/* *ret_inode: to be put, also after an error, when no lock is held. */
static int create_in(struct jbd2_handle *h, const struct ext4_new_name *new,
                     struct ext4_inode **ret_inode)
{
        struct ext4_inode *dir = new->dir;
        struct ext4_dir_slot slot;
        struct ext4_iloc loc;
        int ret = ext4_dir_make_room(h, dir, &new->name, ext4_alloc_rights(dir->fs), &slot);

        if (ret < 0)
                return ret;
        ret = ext4_inode_begin(h, dir, &loc);
        if (ret == 0) {
                ret = ext4_make_inode(h, new, ret_inode);
                if (ret < 0)
                        ext4_iloc_put(&loc);
        }
        if (ret == 0) {
                ext4_dir_enter(h, dir, &slot, &new->name, *ret_inode);
                if (S_ISDIR(new->mode))
                        ext4_count_subdir(dir, 1);
                ext4_touch_changed(dir);
                ext4_inode_store(h, dir, &loc);
                ext4_dir_sync(h, dir);
        }
        ext4_dir_slot_put(&slot);
        return ret;
}

/* Room and entry, the directory's inode, the new one, its first block if it has one, its
 * orphan entry if it is not to be after all. */
static uint32_t create_credits(const struct ext4_new_name *new)
{
        uint32_t n = ext4_dir_insert_credits(new->dir) + EXT4_INODE_CREDITS +
                     EXT4_IALLOC_CREDITS + EXT4_ORPHAN_CREDITS;

        /* As for a directory of which nothing is known but that it has no tree yet: no more
         * than for this one. */
        if (S_ISDIR(new->mode) || S_ISLNK(new->mode))
                n += ext4_dir_append_credits(new->dir);
        return n;
}

static int create_locked(const struct ext4_new_name *new, struct ext4_inode **ret_inode)
{
        struct jbd2_handle *h;
        int ret = check_new(new->dir, &new->name);

        if (ret == 0)
                ret = ext4_may_mknod(new->mode, new->rdev_major, new->rdev_minor);
        if (ret == 0 && S_ISDIR(new->mode))
                ret = ext4_may_add_subdir(new->dir);
        if (ret == 0)
                ret = jbd2_start(new->dir->fs->journal, create_credits(new), 0, &h);
        if (ret < 0)
                return ret;
        ret = create_in(h, new, ret_inode);
        return first_error(ret, jbd2_stop(h));
}

static int check_request(const struct ext4_new_name *new)
{
        const struct ext4_name *target = &new->target;
        int ret = ext4_check_name(&new->name);

        if (ret < 0)
                return ret;
        if (ext4_is_dots(&new->name))
                return S_ISDIR(new->dir->mode) ? -EEXIST : -ENOTDIR;
        if (!S_ISLNK(new->mode))
                return 0;
        if (target->len == 0)
                return -ENOENT;
        /* With the zero byte that others expect behind it. */
        if (target->len >= min_t(size_t, new->dir->fs->block_size, 4096))
                return -ENAMETOOLONG;
        return memchr(target->text, '\0', target->len) ? -EINVAL : 0;
}

int ext4_create(const struct ext4_new_name *new, struct ext4_inode **ret_inode)
{
        struct ext4_fs *fs = new->dir->fs;
        int ret = check_request(new);
        int tries = 0;

        if (ret < 0)
                return ret;
        do {
                struct ext4_inode *inode = NULL;

                rwsem_write_lock(&new->dir->vfs.lock);
                ret = create_locked(new, &inode);
                rwsem_write_unlock(&new->dir->vfs.lock);
                if (ret == 0)
                        *ret_inode = inode;
                else
                        ext4_iput(inode);
        } while (ret == -ENOSPC && ext4_balloc_retry(fs, &tries) > 0);
        return ret;
}

/* ---- one more name ---- */

static int check_link(const struct ext4_inode *dir, const struct ext4_inode *inode)
{
        const struct ext4_where at = ext4_at(inode, 0);

        if (S_ISDIR(inode->mode) || (inode->flags & (EXT4_FL_IMMUTABLE | EXT4_FL_APPEND)))
                return -EPERM;
        if (inode->nlink == 0 && !inode->can_get_name)
                return -ENOENT;
        if (ext4_is_own(inode))
                return ext4_corrupt(&at, "a name is wanted for an inode of the file "
                                         "system's own");
        if (inode->nlink >= EXT4_LINK_MAX)
                return -EMLINK;
        if ((dir->flags & EXT4_FL_PROJINHERIT) && dir->projid != inode->projid)
                return -EXDEV;
        return 0;
}

/* With its first name what uext4_tmpfile() has made is no orphan any more. */
static int begin_linked(struct jbd2_handle *h, struct ext4_inode *inode, struct ext4_iloc *loc)
{
        int ret = ext4_inode_begin(h, inode, loc);

        if (ret < 0 || inode->nlink > 0)
                return ret;
        ret = ext4_orphan_del_freed(h, inode);
        if (ret < 0)
                ext4_iloc_put(loc);
        else
                inode->can_get_name = false;
        return ret;
}

static int link_in(struct jbd2_handle *h, struct ext4_inode *dir, const struct ext4_name *name,
                   struct ext4_inode *inode)
{
        struct ext4_iloc loc, dir_loc;
        struct ext4_dir_slot slot;
        int ret = ext4_dir_make_room(h, dir, name, ext4_alloc_rights(dir->fs), &slot);

        if (ret < 0)
                return ret;
        ret = ext4_inode_begin(h, dir, &dir_loc);
        if (ret == 0) {
                ret = begin_linked(h, inode, &loc);
                if (ret < 0)
                        ext4_iloc_put(&dir_loc);
        }
        if (ret == 0) {
                ext4_dir_enter(h, dir, &slot, name, inode);
                ext4_touch_changed(dir);
                ext4_inode_store(h, dir, &dir_loc);
                ext4_store_links(h, inode, &loc, inode->nlink + 1, dir->ctime);
                ext4_dir_sync(h, dir);
        }
        ext4_dir_slot_put(&slot);
        return ret;
}

static int link_locked(struct ext4_inode *dir, const struct ext4_name *name,
                       struct ext4_inode *inode)
{
        /* Room and entry, both inodes, an orphan. */
        uint32_t credits =
                ext4_dir_insert_credits(dir) + 2 * EXT4_INODE_CREDITS + EXT4_ORPHAN_CREDITS;
        struct jbd2_handle *h;
        int ret = check_new(dir, name);

        if (ret == 0)
                ret = check_link(dir, inode);
        if (ret == 0)
                ret = jbd2_start(dir->fs->journal, credits, 0, &h);
        if (ret < 0)
                return ret;
        ret = link_in(h, dir, name, inode);
        return first_error(ret, jbd2_stop(h));
}

/* A directory gets no second name; but what is wrong with the name is said first. */
static int refuse_link(struct ext4_inode *dir, const struct ext4_name *name)
{
        int ret;

        rwsem_write_lock(&dir->vfs.lock);
        ret = check_new(dir, name);
        rwsem_write_unlock(&dir->vfs.lock);
        return ret < 0 ? ret : -EPERM;
}

int ext4_link(struct ext4_inode *dir, const struct ext4_name *name, struct ext4_inode *inode)
{
        int ret = ext4_check_name(name);
        int tries = 0;

        if (ret < 0)
                return ret;
        if (!S_ISDIR(dir->mode))
                return -ENOTDIR;
        if (ext4_is_dots(name))
                return -EEXIST;
        /* Known without its lock, which might be the one of dir. */
        if (S_ISDIR(inode->mode))
                return refuse_link(dir, name);
        do {
                rwsem_write_lock(&dir->vfs.lock);
                rwsem_write_lock_nested(&inode->vfs.lock, RANK_INODE_CHILD);
                ret = link_locked(dir, name, inode);
                rwsem_write_unlock(&inode->vfs.lock);
                rwsem_write_unlock(&dir->vfs.lock);
        } while (ret == -ENOSPC && ext4_balloc_retry(dir->fs, &tries) > 0);
        return ret;
}
