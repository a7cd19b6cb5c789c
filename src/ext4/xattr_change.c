/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ext4/xattr_change.h"

#include <string.h>
#include <sys/stat.h>

#include "ext4/balloc.h"
#include "ext4/perm.h"
#include "ext4/setattr.h"
#include "ext4/super_write.h"
#include "ext4/truncate.h"
#include "ext4/xattr_plan.h"
#include "ext4/xattr_value.h"
#include "util/alloc.h"

/*
 * One attribute set or removed.
 *
 *      plan     (xattr_plan.c) both runs as they are to be, in memory; a large value is
 *               written to an inode that no entry names yet
 *      apply()  one handle: everything that can fail, then everything that changes
 *
 * A block that others have, too (its reference count says so), is not changed: this inode gets
 * a copy of its own.  Values in inodes belong to the block: they get one reference more, and
 * before this inode leaves the old block: whoever is alone with that from then on may take
 * its references away, and without any a value is deleted.  Nothing makes a block shared, so
 * that a count of one stays.
 *
 * The inode lock is held all the time.  What completions of writes store, too, is changed
 * under the map lock.
 */

#define PERMISSIONS 0777u /* of a mode, that an ACL says, too */

/* ---- apply: what can fail ---- */

static uint32_t cluster_of(const struct ext4_fs *fs)
{
        return 1u << fs->cluster_bits;
}

static int begin_new_block(struct jbd2_handle *h, struct ext4_xattr_plan *c)
{
        struct ext4_inode *inode = c->inode;
        const struct ext4_alloc a = {
                .inode = inode,
                .len = 1,
                .flags = EXT4_ALLOC_META | ext4_alloc_rights(inode->fs),
        };
        uint32_t nr;
        int ret;

        ret = ext4_balloc(h, &a, &c->new_blk, &nr);
        if (ret < 0) {
                c->new_blk = 0;
                return ret;
        }
        ret = buf_new(inode->fs->bufs, c->new_blk, &c->new);
        return ret < 0 ? ret : jbd2_get_create(h, c->new, &c->bytes);
}

static int begin_block(struct jbd2_handle *h, struct ext4_xattr_plan *c)
{
        int ret = 0;

        if (c->action == EXT4_XATTR_BLOCK_LEAVE || c->action == EXT4_XATTR_BLOCK_COPY)
                ret = jbd2_get_write(h, c->old, &c->old_bytes);
        if (ret == 0 &&
            (c->action == EXT4_XATTR_BLOCK_NEW || c->action == EXT4_XATTR_BLOCK_COPY))
                ret = begin_new_block(h, c);
        if (ret == 0 && c->action == EXT4_XATTR_BLOCK_EDIT) {
                buf_get(c->old);
                c->new = c->old;
                ret = jbd2_get_write(h, c->new, &c->bytes);
        }
        return ret;
}

/* The table block of a value, so that changing the value later cannot fail for it. */
static int touch(struct jbd2_handle *h, struct ext4_inode *value)
{
        struct ext4_iloc loc;
        int ret = ext4_inode_begin(h, value, &loc);

        if (ret == 0)
                ext4_iloc_put(&loc);
        return ret;
}

static int begin_values(struct jbd2_handle *h, struct ext4_xattr_plan *c)
{
        int ret = c->fresh ? touch(h, c->fresh) : 0;

        for (size_t i = 0; ret == 0 && i < c->nr_drops; i++)
                ret = touch(h, c->drops[i].value);
        for (size_t i = 0; ret == 0 && i < c->nr_shares; i++)
                ret = ext4_inode_begin(h, c->shares[i], &c->share_locs[i]);
        return ret;
}

static void share_values(struct jbd2_handle *h, struct ext4_xattr_plan *c)
{
        for (size_t i = 0; i < c->nr_shares; i++)
                ext4_value_share(h, c->shares[i], &c->share_locs[i]);
        c->has_shared = true;
}

/* -EAGAIN: what was shared is so no longer. */
static int let_go_of_old(struct jbd2_handle *h, struct ext4_xattr_plan *c)
{
        struct ext4_inode *inode = c->inode;

        if (c->action == EXT4_XATTR_BLOCK_FREE)
                return ext4_xattr_block_free(h, inode, inode->file_acl);
        if (c->action != EXT4_XATTR_BLOCK_LEAVE && c->action != EXT4_XATTR_BLOCK_COPY)
                return 0;
        if (!ext4_xattr_block_unshare(inode->fs, inode->file_acl, c->old_bytes))
                return -EAGAIN;
        jbd2_dirty(h, c->old);
        return 0;
}

static int begin(struct jbd2_handle *h, struct ext4_xattr_plan *c)
{
        int ret = ext4_xattr_mark(h, c->inode->fs);

        if (ret == 0)
                ret = ext4_inode_begin(h, c->inode, &c->loc);
        if (ret == 0)
                ret = begin_values(h, c);
        if (ret == 0)
                ret = begin_block(h, c);
        if (ret < 0)
                return ret;
        share_values(h, c); /* order: before the old block is another's alone */
        return let_go_of_old(h, c);
}

static void undo_shares(struct jbd2_handle *h, struct ext4_xattr_plan *c)
{
        int ret = 0;

        for (size_t i = 0; i < c->nr_shares; i++) {
                if (!c->has_shared)
                        ext4_iloc_put(&c->share_locs[i]);
                else if (ret == 0)
                        ret = ext4_value_unshare(h, c->shares[i]);
        }
        if (ret < 0) /* it was touched before: of memory only */
                ext4_abort(c->inode->fs, ret);
}

static void undo(struct jbd2_handle *h, struct ext4_xattr_plan *c)
{
        struct ext4_fs *fs = c->inode->fs;

        buf_put(c->new);
        if (c->new_blk != 0 &&
            ext4_bfree(h, c->inode, c->new_blk, cluster_of(fs), EXT4_FREE_FORGET) < 0)
                ext4_abort(fs, -EUCLEAN);
        undo_shares(h, c);
        ext4_iloc_put(&c->loc);
}

/* ---- apply: what changes ---- */

/* What can fail here was touched before: memory only. */
static int change_values(struct jbd2_handle *h, struct ext4_xattr_plan *c)
{
        int ret = c->fresh ? ext4_value_name(h, c->fresh) : 0;

        for (size_t i = 0; ret == 0 && i < c->nr_drops; i++) {
                if (c->drops[i].loses_reference)
                        ret = ext4_value_drop(h, c->drops[i].value);
        }
        if (ret < 0)
                ext4_abort(c->inode->fs, ret);
        return ret;
}

static void change_block(struct jbd2_handle *h, struct ext4_xattr_plan *c)
{
        struct ext4_fs *fs = c->inode->fs;

        if (!c->new)
                return;
        memcpy(c->bytes, c->new_block, fs->block_size);
        ext4_xattr_block_seal(fs, c->new->blk, c->bytes);
        jbd2_dirty(h, c->new);
        buf_put(c->new);
}

static void set_mode(struct ext4_inode *inode, uint16_t permissions)
{
        uint16_t mode = (inode->mode & (uint16_t)~PERMISSIONS) | permissions;

        if ((mode & S_ISGID) && !ext4_may_set_sgid(inode->gid))
                mode &= (uint16_t)~S_ISGID;
        inode->mode = mode;
}

/* Completions of writes store the inode, too, without its lock. */
static void change_inode(struct jbd2_handle *h, struct ext4_xattr_plan *c)
{
        struct ext4_inode *inode = c->inode;

        rwsem_write_lock(&inode->map_lock);
        if (c->ibody_changed)
                memcpy(inode->ibody, c->new_ibody, inode->ibody_size);
        if (c->action == EXT4_XATTR_BLOCK_FREE || c->action == EXT4_XATTR_BLOCK_LEAVE)
                inode->file_acl = 0;
        if (c->new_blk != 0)
                inode->file_acl = c->new_blk;
        inode->blocks += c->more_sectors;
        inode->blocks -= min_t(uint64_t, inode->blocks, c->less_sectors);
        if (c->order->sets_mode)
                set_mode(inode, c->order->mode);
        ext4_set_ctime(inode, ext4_now(inode->fs));
        if (c->order->also)
                ext4_setattr_apply(inode, c->order->also, c->loc.raw);
        /* It may have come.  Who looks for it remembers what he finds. */
        if (c->order->key.index == EXT4_XATTR_INDEX_POSIX_ACL_ACCESS)
                atomic_fetch_and(&inode->lacks, (uint8_t)~EXT4_LACKS_ACL);
        if (c->order->key.index == EXT4_XATTR_INDEX_SECURITY)
                atomic_fetch_and(&inode->lacks, (uint8_t)~EXT4_LACKS_CAPABILITY);
        ext4_inode_store(h, inode, &c->loc);
        rwsem_write_unlock(&inode->map_lock);
}

static int apply_in(struct jbd2_handle *h, struct ext4_xattr_plan *c)
{
        int ret = begin(h, c);

        if (ret < 0) {
                undo(h, c);
                return ret;
        }
        ret = change_values(h, c);
        change_block(h, c);
        change_inode(h, c);
        if (c->inode->flags & EXT4_FL_SYNC)
                jbd2_sync(h);
        return ret;
}

/*
 * The superblock's flag and the inode; of blocks one is changed, and one allocated (its failure
 * undone: same blocks) or freed; each value that gets or loses its entry; the inode of each
 * that is shared.
 */
static uint32_t credits_of(const struct ext4_xattr_plan *c)
{
        const struct ext4_fs *fs = c->inode->fs;
        uint32_t values = (uint32_t)(c->nr_drops + (c->fresh ? 1 : 0));
        uint32_t n = EXT4_XATTR_MARK_CREDITS + EXT4_INODE_CREDITS;

        if (c->action != EXT4_XATTR_BLOCK_STAYS)
                n += 2 + max_t(uint32_t, EXT4_BALLOC_CREDITS,
                               ext4_bfree_credits(fs, cluster_of(fs)));
        return n + values * EXT4_VALUE_CREDITS + (uint32_t)c->nr_shares;
}

static int apply(struct ext4_xattr_plan *c)
{
        struct ext4_fs *fs = c->inode->fs;
        uint32_t revokes = ext4_bfree_revokes(cluster_of(fs), EXT4_FREE_META);
        struct jbd2_handle *h;
        int ret = jbd2_start(fs->journal, credits_of(c), revokes, &h);

        if (ret < 0)
                return ret;
        ret = apply_in(h, c);
        return first_error(ret, jbd2_stop(h));
}

int ext4_xattr_mark(struct jbd2_handle *h, struct ext4_fs *fs)
{
        struct ext4_super_loc loc;
        uint32_t features;
        int ret;

        if (ext4_has_compat(fs, EXT4_COMPAT_EXT_ATTR))
                return 0;
        ret = ext4_super_begin(h, fs, &loc);
        if (ret < 0)
                return ret;
        features = le32_get(loc.sb->s_feature_compat);
        if (features & EXT4_COMPAT_EXT_ATTR) {
                ext4_super_put(fs, &loc); /* since this mount */
                return 0;
        }
        loc.sb->s_feature_compat = le32_make(features | EXT4_COMPAT_EXT_ATTR);
        ext4_super_store(h, fs, &loc);
        return 0;
}

/* ---- one attribute ---- */

int ext4_xattr_change_locked(struct ext4_xattr_plan *c)
{
        int ret = ext4_xattr_plan_make(c);

        if (ret < 0)
                return ret;
        if (!c->ibody_changed && c->action == EXT4_XATTR_BLOCK_STAYS && !c->order->sets_mode &&
            !c->order->also)
                return 0;
        return apply(c);
}

/* 0 when this inode's attributes of this kind may be changed. */
static int may_change(struct ext4_inode *inode, const struct ext4_xattr_order *order)
{
        const struct ext4_xattr_key *key = &order->key;
        int ret;

        if (inode->nlink == 0)
                return -ENOENT;
        if ((ext4_is_own(inode) && ext4_ino(inode) != EXT4_INO_ROOT) ||
            (inode->flags & (EXT4_FL_IMMUTABLE | EXT4_FL_APPEND)))
                return -EPERM;
        if (key->index == EXT4_XATTR_INDEX_USER && !S_ISREG(inode->mode) &&
            !S_ISDIR(inode->mode))
                return -EPERM;
        ret = ext4_writable(inode->fs);
        return ret < 0 ? ret : ext4_may_set_xattr(inode, key);
}

static int change_once(struct ext4_inode *inode, const struct ext4_xattr_order *order,
                       bool *ret_no_room)
{
        struct ext4_xattr_plan c = {.inode = inode, .order = order};
        int ret;

        rwsem_write_lock(&inode->vfs.lock);
        ret = may_change(inode, order);
        if (ret == 0)
                ret = ext4_xattr_change_locked(&c);
        rwsem_write_unlock(&inode->vfs.lock);
        *ret_no_room = c.no_room;
        ext4_xattr_plan_done(&c);
        return ret;
}

static int carry_out(struct ext4_inode *inode, const struct ext4_xattr_order *order)
{
        bool no_room;
        int tries = 0;
        int ret;

        do {
                ret = change_once(inode, order, &no_room);
        } while (ext4_xattr_try_again(inode->fs, ret, no_room, &tries));
        return ret;
}

bool ext4_xattr_try_again(struct ext4_fs *fs, int ret, bool no_room, int *tries)
{
        return ret == -EAGAIN ||
               (ret == -ENOSPC && !no_room && ext4_balloc_retry(fs, tries) > 0);
}

/* ---- by full name ---- */

static bool is_acl(const struct ext4_xattr_key *key)
{
        return key->index == EXT4_XATTR_INDEX_POSIX_ACL_ACCESS ||
               key->index == EXT4_XATTR_INDEX_POSIX_ACL_DEFAULT;
}

static int key_of(const char *name, struct ext4_xattr_key *ret_key)
{
        int ret = ext4_xattr_key_of(name, ret_key);

        if (ret == 0 && ret_key->index == EXT4_XATTR_INDEX_RICHACL)
                return -EOPNOTSUPP;
        return ret;
}

/* The order for an ACL; *ret_disk is its value. */
static int order_acl(struct ext4_inode *inode, const struct ext4_acl *acl,
                     struct ext4_xattr_order *order, void **ret_disk)
{
        bool is_default = order->key.index == EXT4_XATTR_INDEX_POSIX_ACL_DEFAULT;
        bool same;

        *ret_disk = NULL;
        if (S_ISLNK(inode->mode))
                return -EOPNOTSUPP;
        order->value = NULL;
        order->absent_is_fine = true;
        if (acl->nr == 0)
                return 0;
        if (is_default && !S_ISDIR(inode->mode))
                return -EACCES;
        if (!is_default) {
                order->sets_mode = true;
                order->mode = ext4_acl_mode(acl, &same);
                if (same)
                        return 0;
        }
        *ret_disk = ext4_acl_to_disk(acl, &order->size);
        order->value = *ret_disk;
        return *ret_disk ? 0 : -ENOMEM;
}

static int set_acl(struct ext4_inode *inode, struct ext4_xattr_order *order)
{
        _cleanup_mem_ void *disk = NULL;
        struct ext4_acl acl;
        int ret = ext4_acl_of_xattr(&acl, order->value, order->size);

        if (ret < 0)
                return ret;
        ret = order_acl(inode, &acl, order, &disk);
        ext4_acl_done(&acl);
        return ret < 0 ? ret : carry_out(inode, order);
}

int ext4_xattr_set(struct ext4_inode *inode, const char *name, const void *value, size_t size,
                   unsigned flags)
{
        struct ext4_xattr_order order = {
                .value = size > 0 ? value : "", .size = size, .flags = flags};
        int ret = key_of(name, &order.key);

        if (ret < 0)
                return ret;
        if (size > EXT4_XATTR_MAX_VALUE)
                return -E2BIG;
        if (ext4_xattr_is_capability(&order.key) && !ext4_capability_is_valid(value, size))
                return -EINVAL;
        return is_acl(&order.key) ? set_acl(inode, &order) : carry_out(inode, &order);
}

int ext4_xattr_remove(struct ext4_inode *inode, const char *name)
{
        struct ext4_xattr_order order = {0};
        int ret = key_of(name, &order.key);

        return ret < 0 ? ret : carry_out(inode, &order);
}

/* ---- what a change of the file takes away ---- */

static int remove_locked(struct ext4_inode *inode, const struct ext4_xattr_order *order)
{
        bool no_room;
        int tries = 0;
        int ret;

        do {
                struct ext4_xattr_plan c = {.inode = inode, .order = order};

                ret = ext4_xattr_change_locked(&c);
                no_room = c.no_room;
                ext4_xattr_plan_done(&c);
        } while (ext4_xattr_try_again(inode->fs, ret, no_room, &tries));
        return ret;
}

int ext4_find_capability(struct ext4_inode *inode)
{
        const struct ext4_xattr_key key = EXT4_XATTR_CAPABILITY;
        ssize_t len;

        if (!ext4_may_have_capability(inode))
                return 0;
        len = ext4_xattr_get_locked(inode, &key, NULL, 0);
        if (len == -ENODATA)
                atomic_fetch_or(&inode->lacks, EXT4_LACKS_CAPABILITY);
        return len >= 0 ? 1 : len == -ENODATA ? 0 : (int)len;
}

int ext4_drop_capability(struct ext4_inode *inode)
{
        const struct ext4_xattr_order order = {.key = EXT4_XATTR_CAPABILITY,
                                               .absent_is_fine = true};
        int ret = ext4_find_capability(inode);

        /* From what is damaged nobody gets any. */
        if (ext4_is_damage(ret))
                return 0;
        if (ret > 0)
                ret = remove_locked(inode, &order);
        return ret < 0 ? ret : 0;
}
