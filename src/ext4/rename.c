/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <string.h>
#include <sys/stat.h>

#include "ext4/dir_insert.h"
#include "ext4/namei.h"
#include "ext4/orphan.h"
#include "ext4/perm.h"
#include "ext4/super_write.h"

/*
 * Renaming.
 *
 * Everything that can fail comes first: room for a new name, the places of the old ones, access
 * to all that will be changed.  Then all of it is changed, in one transaction: after a power
 * cut there is the old name or the new one, never both and never none.
 *
 * Locks.  A directory is locked before what is in it.  Of two directories the one that is
 * above the other comes first; if neither is, the one with the lower number.  Which is above
 * which is found out before they are locked, from the bottom up; it stays so, because nobody
 * moves a directory to another one without fs->rename_lock.  What the two names lead to is
 * locked after both directories: other directories before anything else, then by number.
 * Since the names may have changed before the directories were locked, they are looked up
 * again, and it all begins anew if they lead elsewhere, or to a directory that somebody else
 * has locked (ext4_lock_child()).
 */

struct side {
        struct ext4_inode *dir;
        const struct ext4_name *name;
        uint32_t ino;                 /* that the name was seen to lead to; 0: there was none */
        struct ext4_inode *inode;     /* a reference, or NULL */
        struct ext4_dir_place place;  /* of the name */
        struct ext4_dir_place parent; /* of ".." in the inode, if that changes */
        struct ext4_iloc dir_loc, loc; /* of dir (of the second side if it is another one) */
};

struct rename {
        struct side from, to;
        enum ext4_rename_flags flags;
        struct ext4_dir_slot slot;   /* for the new name, when it replaces none */
        bool to_is_below;            /* of two directories */
        struct ext4_inode *whiteout; /* a reference; NULL: the old name goes */
        struct ext4_inode *busy;     /* of the two: its lock could not be had */
};

static bool is_cross(const struct rename *r)
{
        return r->from.dir != r->to.dir;
}

static bool is_exchange(const struct rename *r)
{
        return r->flags & EXT4_RENAME_EXCHANGE;
}

static bool is_dir(const struct ext4_inode *inode)
{
        return inode && S_ISDIR(inode->mode);
}

/* ---- who is above whom ---- */

#define MAX_DEPTH (1u << 20)

/* What is above a directory: the two that are asked for. */
struct above {
        uint32_t dir, ino;
        bool has_dir, has_ino;
};

/* The directory that `at` is in, in its place. */
static int step_up(struct ext4_inode **at)
{
        struct ext4_inode *parent;
        uint32_t ino;
        int ret = ext4_dir_lookup(*at, "..", 2, &ino);

        if (ret < 0)
                return ret;
        if (ino == ext4_ino(*at))
                return 0;
        ret = ext4_iget((*at)->fs, ino, &parent);
        if (ret < 0) /* of a directory that was removed ".." leads nowhere */
                return ret == -ESTALE ? -ENOENT : ret;
        ext4_iput(*at);
        *at = parent;
        return 1;
}

static int look_above(struct ext4_inode *dir, struct above *a)
{
        const struct ext4_where where = ext4_at(dir, 0);
        struct ext4_inode *at = dir;
        unsigned depth = 0;
        int ret;

        ext4_iget_again(at);
        do {
                a->has_dir |= at != dir && ext4_ino(at) == a->dir;
                a->has_ino |= ext4_ino(at) == a->ino;
                ret = step_up(&at);
        } while (ret > 0 && ++depth < MAX_DEPTH);
        ext4_iput(at);
        return ret > 0 ? ext4_corrupt(&where, "the directories above it have no end") : ret;
}

static int see(struct side *s)
{
        int ret = ext4_dir_lookup(s->dir, s->name->text, s->name->len, &s->ino);

        if (ret == -ENOENT)
                s->ino = 0;
        return ret == -ENOENT ? 0 : ret;
}

/* What is wrong with the names themselves is said rather than `err`. */
static int names_first(const struct rename *r, int err)
{
        if (r->from.ino == 0 || (is_exchange(r) && r->to.ino == 0))
                return -ENOENT;
        return r->to.ino != 0 && (r->flags & EXT4_RENAME_NOREPLACE) ? -EEXIST : err;
}

/* With the rename lock held, and no other. */
static int look_around(struct rename *r)
{
        struct above a, b;
        int ret = see(&r->from);

        if (ret == 0)
                ret = see(&r->to);
        if (ret < 0)
                return ret;
        a = (struct above){.dir = ext4_ino(r->from.dir), .ino = r->from.ino};
        b = (struct above){.dir = ext4_ino(r->to.dir), .ino = r->to.ino};
        ret = look_above(r->to.dir, &a);
        if (ret == 0)
                ret = look_above(r->from.dir, &b);
        if (ret < 0)
                return ret;
        r->to_is_below =
                a.has_dir || (!b.has_dir && ext4_ino(r->from.dir) < ext4_ino(r->to.dir));
        if (r->from.ino != 0 && a.has_ino) /* a directory cannot be moved into itself */
                return names_first(r, -EINVAL);
        if (r->to.ino != 0 && b.has_ino)
                return names_first(r, is_exchange(r) ? -EINVAL : -ENOTEMPTY);
        return 0;
}

static void lock_dirs(const struct rename *r)
{
        struct ext4_inode *first = r->to_is_below ? r->from.dir : r->to.dir;
        struct ext4_inode *second = r->to_is_below ? r->to.dir : r->from.dir;

        rwsem_write_lock(&first->vfs.lock);
        if (is_cross(r))
                rwsem_write_lock_nested(&second->vfs.lock, RANK_INODE_SECOND);
}

static void unlock_dirs(const struct rename *r)
{
        if (is_cross(r))
                rwsem_write_unlock(&r->to.dir->vfs.lock);
        rwsem_write_unlock(&r->from.dir->vfs.lock);
}

/* True when b is to be locked before a. */
static bool is_after(const struct ext4_inode *a, const struct ext4_inode *b)
{
        if (is_dir(a) != is_dir(b))
                return is_dir(b);
        return ext4_ino(a) > ext4_ino(b);
}

static bool lock_inodes(struct rename *r)
{
        struct ext4_inode *first = r->from.inode;
        struct ext4_inode *second = r->to.inode;

        if (second && is_after(first, second)) {
                first = r->to.inode;
                second = r->from.inode;
        }
        if (!ext4_lock_child(first, RANK_INODE_CHILD)) {
                r->busy = first;
        } else if (second && !ext4_lock_child(second, RANK_INODE_CHILD2)) {
                rwsem_write_unlock(&first->vfs.lock);
                r->busy = second;
        }
        return !r->busy;
}

static void unlock_inodes(const struct rename *r)
{
        if (r->to.inode)
                rwsem_write_unlock(&r->to.inode->vfs.lock);
        rwsem_write_unlock(&r->from.inode->vfs.lock);
}

/* ---- checks ---- */

/* Something loses its name. */
static int check_leaving(const struct side *s)
{
        const struct ext4_where at = ext4_at(s->inode, 0);
        int ret = ext4_may_take_name(s->dir, s->inode);

        if (ret < 0)
                return ret;
        if (ext4_is_own(s->inode) || s->inode->nlink == 0)
                return ext4_corrupt(&at, "a directory has a name for it, which cannot be");
        return s->inode->flags & (EXT4_FL_IMMUTABLE | EXT4_FL_APPEND) ? -EPERM : 0;
}

static int check_project(const struct ext4_inode *inode, const struct ext4_inode *dir)
{
        return (dir->flags & EXT4_FL_PROJINHERIT) && dir->projid != inode->projid ? -EXDEV : 0;
}

/* What gets another name. */
static int check_moved(const struct rename *r, const struct side *s, const struct side *to)
{
        int ret = check_leaving(s);

        /* ".." in it will change. */
        if (ret == 0 && is_cross(r) && is_dir(s->inode))
                ret = ext4_permission_locked(s->inode, EXT4_MAY_WRITE);
        return ret < 0 ? ret : check_project(s->inode, to->dir);
}

/* What loses its only name here. */
static int check_replaced(const struct rename *r)
{
        struct ext4_inode *inode = r->from.inode;
        struct ext4_inode *victim = r->to.inode;
        int ret = check_leaving(&r->to);

        if (ret < 0)
                return ret;
        if (!is_dir(victim))
                return is_dir(inode) ? -ENOTDIR : 0;
        return is_dir(inode) ? ext4_may_remove_dir(r->to.dir, victim) : -EISDIR;
}

/* Whether the directory that gets one more can have it. */
static int check_counts(const struct rename *r)
{
        bool from = is_dir(r->from.inode);
        bool to = is_dir(r->to.inode);

        if (!is_cross(r) || from == to)
                return 0;
        if (from)
                return ext4_may_add_subdir(r->to.dir);
        return is_exchange(r) ? ext4_may_add_subdir(r->from.dir) : 0;
}

static int check(const struct rename *r)
{
        int ret = check_moved(r, &r->from, &r->to);

        if (ret == 0 && r->to.inode)
                ret = is_exchange(r) ? check_moved(r, &r->to, &r->from) : check_replaced(r);
        return ret < 0 ? ret : check_counts(r);
}

/* ---- finding ---- */

/* -EAGAIN: somebody was faster. */
static int find_side(const struct rename *r, struct side *s)
{
        const struct ext4_where at = ext4_at(s->dir, 0);
        int ret = ext4_dir_find_locked(s->dir, s->name, &s->place);
        uint32_t ino = ret == 0 ? s->place.ino : 0;

        ext4_dir_place_put(&s->place); /* it is found again when it is needed */
        if (ret < 0 && ret != -ENOENT)
                return ret;
        if (is_cross(r) && ino != s->ino)
                return -EAGAIN;
        if (ino == 0)
                return 0;
        ret = ext4_iget_linked(s->dir, ino, &s->inode);
        if (ret < 0)
                return ret;
        if (s->inode == r->from.dir || s->inode == r->to.dir)
                return ext4_corrupt(&at, "a directory is in itself");
        return 0;
}

static int find_both(struct rename *r)
{
        int ret = ext4_may_search_dir(r->from.dir);

        if (ret == 0)
                ret = ext4_may_search_dir(r->to.dir);
        if (ret == 0)
                ret = find_side(r, &r->from);
        if (ret == 0)
                ret = find_side(r, &r->to);
        if (ret < 0)
                return ret;
        if (!r->from.inode)
                return -ENOENT;
        if (!r->to.inode && is_exchange(r))
                return -ENOENT;
        if (r->to.inode && (r->flags & EXT4_RENAME_NOREPLACE))
                return -EEXIST;
        if (r->from.inode == r->to.inode)
                return ext4_writable(r->from.dir->fs); /* nothing will change */
        ret = ext4_may_change_dir(r->from.dir, EXT4_DIR_DELETE);
        if (ret == 0)
                ret = ext4_may_change_dir(r->to.dir,
                                          r->to.inode ? EXT4_DIR_DELETE : EXT4_DIR_ENTER);
        return ret;
}

/* ---- access to all that changes ---- */

/* ".." of what is a directory and moves to another one. */
static int begin_parent(struct jbd2_handle *h, struct side *s)
{
        int ret = ext4_dir_find_parent_locked(s->inode, s->dir, &s->parent);

        return ret < 0 ? ret : ext4_dir_place_begin(h, &s->parent);
}

static int begin_side(struct jbd2_handle *h, const struct rename *r, struct side *s)
{
        bool moves = s == &r->from || is_exchange(r);
        int ret = 0;

        if (is_cross(r) || s == &r->from)
                ret = ext4_inode_begin(h, s->dir, &s->dir_loc);
        if (ret < 0 || !s->inode)
                return ret;
        ret = ext4_inode_begin(h, s->inode, &s->loc);
        if (ret == 0)
                ret = ext4_dir_find_locked(s->dir, s->name, &s->place);
        if (ret == 0)
                ret = ext4_dir_place_begin(h, &s->place);
        if (ret == 0 && is_cross(r) && moves && is_dir(s->inode))
                ret = begin_parent(h, s);
        return ret;
}

/* What the old name leads to afterwards: overlayfs takes it for nothing. */
static int make_whiteout(struct jbd2_handle *h, struct rename *r)
{
        const struct ext4_new_name new = {.dir = r->from.dir, .mode = S_IFCHR};

        return r->flags & EXT4_RENAME_WHITEOUT ? ext4_make_inode(h, &new, &r->whiteout) : 0;
}

static int begin_replaced(struct jbd2_handle *h, struct rename *r)
{
        struct ext4_inode *replaced = is_exchange(r) ? NULL : r->to.inode;
        int ret = 0;

        if (replaced && ext4_links_left(replaced) == 0)
                ret = ext4_orphan_add(h, replaced);
        if (ret < 0 && r->whiteout)
                ext4_make_nameless(h, r->whiteout);
        return ret;
}

static int begin(struct jbd2_handle *h, struct rename *r)
{
        int ret = 0;

        if (!r->to.inode)
                ret = ext4_dir_make_room(h, r->to.dir, r->to.name,
                                         ext4_alloc_rights(r->to.dir->fs), &r->slot);
        if (ret == 0)
                ret = begin_side(h, r, &r->from);
        if (ret == 0)
                ret = begin_side(h, r, &r->to);
        if (ret == 0)
                ret = make_whiteout(h, r);
        return ret < 0 ? ret : begin_replaced(h, r);
}

static void side_put(struct side *s)
{
        ext4_dir_place_put(&s->place);
        ext4_dir_place_put(&s->parent);
        ext4_iloc_put(&s->dir_loc);
        ext4_iloc_put(&s->loc);
}

/* ---- changing ---- */

static void change_names(struct jbd2_handle *h, struct rename *r)
{
        if (r->to.inode)
                ext4_dir_lead_to(h, r->to.dir, &r->to.place, r->from.inode);
        if (is_exchange(r))
                ext4_dir_lead_to(h, r->from.dir, &r->from.place, r->to.inode);
        else if (r->whiteout)
                ext4_dir_lead_to(h, r->from.dir, &r->from.place, r->whiteout);
        else
                ext4_dir_take_out(h, r->from.dir, &r->from.place);
        if (!r->to.inode)
                ext4_dir_enter(h, r->to.dir, &r->slot, r->to.name, r->from.inode);
}

static void change_parents(struct jbd2_handle *h, struct rename *r)
{
        if (!is_cross(r))
                return;
        if (is_dir(r->from.inode))
                ext4_dir_lead_to(h, r->from.inode, &r->from.parent, r->to.dir);
        if (is_exchange(r) && is_dir(r->to.inode))
                ext4_dir_lead_to(h, r->to.inode, &r->to.parent, r->from.dir);
}

/* Of the directories. */
static void change_counts(struct rename *r)
{
        bool from = is_dir(r->from.inode);
        bool to = is_dir(r->to.inode);

        if (from) {
                ext4_count_subdir(r->from.dir, -1);
                ext4_count_subdir(r->to.dir, 1);
        }
        if (to) {
                ext4_count_subdir(r->to.dir, -1);
                if (is_exchange(r))
                        ext4_count_subdir(r->from.dir, 1);
        }
}

static void store_side(struct jbd2_handle *h, const struct rename *r, struct side *s,
                       struct timespec now)
{
        bool goes = s == &r->to && !is_exchange(r);

        if (s->dir_loc.buf) {
                s->dir->mtime = now;
                ext4_set_ctime(s->dir, now);
                ext4_inode_store(h, s->dir, &s->dir_loc);
                ext4_dir_sync(h, s->dir);
        }
        if (s->inode)
                ext4_store_links(h, s->inode, &s->loc,
                                 goes ? ext4_links_left(s->inode) : s->inode->nlink, now);
}

static int rename_in(struct jbd2_handle *h, struct rename *r)
{
        const struct timespec now = ext4_now(r->from.dir->fs);
        int ret = begin(h, r);

        if (ret == 0) {
                change_names(h, r);
                change_parents(h, r);
                change_counts(r);
                store_side(h, r, &r->from, now);
                store_side(h, r, &r->to, now);
        }
        ext4_dir_slot_put(&r->slot);
        side_put(&r->from);
        side_put(&r->to);
        return ret;
}

/* Room for a name; two places, two more for ".."; two directories and two inodes; an orphan. */
static uint32_t credits_of(const struct rename *r)
{
        uint32_t n = ext4_dir_insert_credits(r->to.dir) + 4 + 4 * EXT4_INODE_CREDITS +
                     EXT4_ORPHAN_CREDITS;

        return r->flags & EXT4_RENAME_WHITEOUT ? n + EXT4_MAKE_CREDITS : n;
}

static int rename_inodes(struct rename *r)
{
        struct jbd2_handle *h;
        int ret;

        if (!lock_inodes(r))
                return -EAGAIN;
        ret = check(r);
        if (ret == 0)
                ret = jbd2_start(r->from.dir->fs->journal, credits_of(r), 0, &h);
        if (ret == 0) {
                ret = rename_in(h, r);
                ret = first_error(ret, jbd2_stop(h));
        }
        unlock_inodes(r);
        return ret;
}

static int rename_once(struct rename *r)
{
        struct mtx *lock = &r->from.dir->fs->rename_lock;
        int ret = 0;

        if (is_cross(r)) {
                mtx_lock(lock);
                ret = look_around(r);
        }
        if (ret == 0) {
                lock_dirs(r);
                ret = find_both(r);
                if (ret == 0 && r->from.inode != r->to.inode)
                        ret = rename_inodes(r);
                unlock_dirs(r);
        }
        if (is_cross(r))
                mtx_unlock(lock);
        return ret;
}

int ext4_rename(struct ext4_inode *old_dir, const struct ext4_name *old_name,
                struct ext4_inode *new_dir, const struct ext4_name *new_name, unsigned flags)
{
        int ret = ext4_check_name(old_name);
        int tries = 0;

        if (ret == 0)
                ret = ext4_check_name(new_name);
        if (ret < 0)
                return ret;
        if (!S_ISDIR(old_dir->mode) || !S_ISDIR(new_dir->mode))
                return -ENOTDIR;
        if (ext4_is_dots(old_name) || ext4_is_dots(new_name))
                return -EBUSY;
        /* What is found out without locks is not for everybody to know. */
        ret = ext4_permission(old_dir, EXT4_MAY_EXEC);
        if (ret == 0)
                ret = ext4_permission(new_dir, EXT4_MAY_EXEC);
        if (ret < 0)
                return ret;
        do {
                struct rename r = {
                        .from = {.dir = old_dir, .name = old_name},
                        .to = {.dir = new_dir, .name = new_name},
                        .flags = flags,
                };

                ret = rename_once(&r);
                if (r.busy)
                        ext4_wait_for_child(r.busy);
                ext4_iput(r.from.inode);
                ext4_iput(r.to.inode);
                ext4_iput(r.whiteout);
        } while (ret == -EAGAIN ||
                 (ret == -ENOSPC && ext4_balloc_retry(old_dir->fs, &tries) > 0));
        return ret;
}
