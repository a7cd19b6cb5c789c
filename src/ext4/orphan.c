/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Orphans: what both kinds of tracking have in common, and the pass at mounting.
 *
 * With an orphan file that is where they go, and to the list when the file is full; at mounting
 * both are looked at, because the one who crashed may have used either.
 *
 * The pass takes one after the other, and each is gone from the disk before or with the end of
 * the work on it: cut by a crash it is done again, from where it was (J48).  A list that is
 * damaged ends where the damage is.  It cannot be endless: an orphan that comes up again is
 * either known still, which is damage, or was freed, which is damage as well, or was taken from
 * the list, and then it leads nowhere.
 */

#include <sys/stat.h>

#include "ext4/ialloc.h"
#include "ext4/orphan_track.h"
#include "ext4/truncate.h"
#include "util/alloc.h"

/* ---- the mount ---- */

int ext4_orphan_new(struct ext4_fs *fs)
{
        struct ext4_orphans *os = mem_zalloc(sizeof(*os));
        int ret;

        if (!os)
                return -ENOMEM;
        os->fs = fs;
        mtx_init(&os->lock, RANK_ORPHAN);
        TAILQ_INIT(&os->list);
        TAILQ_INIT(&os->in_file);
        fs->orphans = os;
        ret = ext4_orphan_file_open(os);
        if (ret < 0)
                ext4_orphan_free(fs);
        return ret;
}

static void free_list(struct ext4_orphan_list *list)
{
        struct ext4_orphan *o;

        while ((o = TAILQ_FIRST(list))) {
                if (o->inode)
                        o->inode->orphan = NULL; /* unused, but still in the table */
                TAILQ_REMOVE(list, o, link);
                mem_free(o);
        }
}

void ext4_orphan_free(struct ext4_fs *fs)
{
        struct ext4_orphans *os = fs->orphans;

        if (!os)
                return;
        ext4_orphan_file_close(os);
        free_list(&os->list);
        free_list(&os->in_file);
        mtx_done(&os->lock);
        mem_free(os);
        fs->orphans = NULL;
}

bool ext4_orphans_left(struct ext4_fs *fs)
{
        struct ext4_orphans *os = fs->orphans;
        bool left;

        if (!os)
                return false;
        mtx_lock(&os->lock);
        left = !TAILQ_EMPTY(&os->list) || !TAILQ_EMPTY(&os->in_file);
        mtx_unlock(&os->lock);
        return left;
}

/* ---- add and delete ---- */

/* Without a journal nobody can rely on what the disk says. */
static bool has_orphans(const struct ext4_fs *fs)
{
        return fs->orphans && ext4_has_compat(fs, EXT4_COMPAT_HAS_JOURNAL);
}

static struct ext4_orphan *find_in(struct ext4_orphan_list *list, uint32_t ino)
{
        struct ext4_orphan *o;

        TAILQ_FOREACH (o, list, link) {
                if (o->ino == ino)
                        return o;
        }
        return NULL;
}

static struct ext4_orphan *find_locked(struct ext4_orphans *os, uint32_t ino)
{
        struct ext4_orphan *o = find_in(&os->list, ino);

        return o ? o : find_in(&os->in_file, ino);
}

/* The orphan belongs to this object. */
static void attach_locked(struct ext4_orphan *o, struct ext4_inode *inode)
{
        o->inode = inode;
        inode->orphan = o;
}

/* True when the inode is one already, perhaps since an earlier object of it. */
static bool adopt_locked(struct ext4_orphans *os, struct ext4_inode *inode)
{
        struct ext4_orphan *o;

        if (inode->orphan)
                return true;
        o = os->nr_left > 0 ? find_locked(os, ext4_ino(inode)) : NULL;
        if (!o)
                return false;
        os->nr_left--;
        attach_locked(o, inode);
        return true;
}

static int add_locked(struct jbd2_handle *h, struct ext4_orphans *os, struct ext4_orphan *o)
{
        int ret = os->file.nr_blocks > 0 ? ext4_orphan_file_add(h, os, o) : -ENOSPC;

        return ret == -ENOSPC ? ext4_orphan_list_add(h, os, o) : ret;
}

int ext4_orphan_add(struct jbd2_handle *h, struct ext4_inode *inode)
{
        struct ext4_orphans *os = inode->fs->orphans;
        struct ext4_orphan *o;
        int ret = 0;

        if (!has_orphans(inode->fs) || ext4_is_orphan(inode))
                return 0;
        o = mem_zalloc(sizeof(*o));
        if (!o)
                return -ENOMEM;
        o->ino = ext4_ino(inode);
        mtx_lock(&os->lock);
        if (!adopt_locked(os, inode)) {
                ret = add_locked(h, os, o);
                if (ret == 0) {
                        attach_locked(o, inode);
                        o = NULL;
                }
        }
        mtx_unlock(&os->lock);
        mem_free(o);
        return ret;
}

/* Without a handle: the orphan stays behind. */
static void leave_locked(struct ext4_orphans *os, struct ext4_orphan *o)
{
        o->inode->orphan = NULL;
        o->inode = NULL;
        os->nr_left++;
}

static int del_locked(struct jbd2_handle *h, struct ext4_orphans *os, struct ext4_inode *inode)
{
        struct ext4_orphan *o = inode->orphan;
        int ret;

        if (!o)
                return 0;
        ret = o->in_file ? ext4_orphan_file_del(h, os, o) : ext4_orphan_list_del(h, os, o);
        if (ret < 0)
                return ret;
        inode->orphan = NULL;
        mem_free(o);
        return 0;
}

int ext4_orphan_del_freed(struct jbd2_handle *h, struct ext4_inode *inode)
{
        struct ext4_orphans *os = inode->fs->orphans;
        int ret;

        if (!os)
                return 0;
        mtx_lock(&os->lock);
        ret = del_locked(h, os, inode);
        mtx_unlock(&os->lock);
        return ret;
}

int ext4_orphan_del(struct jbd2_handle *h, struct ext4_inode *inode)
{
        if (!h) {
                ext4_orphan_leave(inode);
                return 0;
        }
        return inode->nlink == 0 ? 0 : ext4_orphan_del_freed(h, inode);
}

void ext4_orphan_leave(struct ext4_inode *inode)
{
        struct ext4_orphans *os = inode->fs->orphans;

        if (!os)
                return;
        mtx_lock(&os->lock);
        if (inode->orphan)
                leave_locked(os, inode->orphan);
        mtx_unlock(&os->lock);
}

bool ext4_is_orphan(struct ext4_inode *inode)
{
        struct ext4_orphans *os = inode->fs->orphans;
        bool is;

        if (!os)
                return false;
        mtx_lock(&os->lock);
        is = inode->orphan != NULL;
        mtx_unlock(&os->lock);
        return is;
}

/* ---- the pass ---- */

struct pass {
        struct ext4_orphans *os;
        unsigned nr_deleted;
        unsigned nr_truncated;
        unsigned nr_failed;
};

/* Whether an inode number from disk can be an orphan at all.  -EUCLEAN, said. */
static int check_number(struct ext4_orphans *os, uint32_t ino)
{
        struct ext4_fs *fs = os->fs;
        const struct ext4_where at = {fs, ino, 0};
        int ret;

        if (ino < fs->first_ino || ino > fs->nr_inodes || ino == os->file.ino)
                return ext4_corrupt(&at, "this number cannot be an orphan's");
        ret = ext4_inode_in_use(fs, ino);
        if (ret == 0)
                return ext4_corrupt(&at, "an orphan that is free");
        return ret < 0 ? ret : 0;
}

/* Remember what is on disk.  Of the list: behind the last that is known. */
static int know(struct ext4_orphans *os, const struct ext4_orphan *what,
                struct ext4_inode *inode)
{
        const struct ext4_where at = ext4_at(inode, 0);
        struct ext4_orphan *o = mem_alloc(sizeof(*o));
        int ret = 0;

        if (!o)
                return -ENOMEM;
        *o = *what;
        mtx_lock(&os->lock);
        if (find_locked(os, o->ino)) {
                ret = ext4_corrupt(&at, "an orphan twice");
        } else {
                attach_locked(o, inode);
                TAILQ_INSERT_TAIL(o->in_file ? &os->in_file : &os->list, o, link);
                o = NULL;
        }
        mtx_unlock(&os->lock);
        mem_free(o);
        return ret;
}

/* One that has links: there was a truncation, or a write at the end. */
static int finish_truncate(struct ext4_inode *inode)
{
        struct jbd2_handle *h;
        int ret = 0;

        rwsem_write_lock(&inode->vfs.lock); /* J48 */
        if (S_ISREG(inode->mode))
                ret = ext4_truncate_tail(inode);
        if (ret == 0 && ext4_is_orphan(inode)) {
                ret = jbd2_start(inode->fs->journal, EXT4_ORPHAN_CREDITS, 0, &h);
                if (ret == 0) {
                        ret = ext4_orphan_del(h, inode);
                        ret = first_error(ret, jbd2_stop(h));
                }
        }
        rwsem_write_unlock(&inode->vfs.lock);
        return ret;
}

/* The work on one.  It may fail: then the orphan stays (J49). */
static void help(struct pass *p, struct ext4_inode *inode)
{
        uint32_t ino = ext4_ino(inode);
        int ret;

        if (inode->nlink > 0) {
                ret = finish_truncate(inode);
                ext4_iput(inode);
                p->nr_truncated += ret == 0;
        } else {
                ext4_iput(inode); /* which deletes it, and says when it cannot */
                mtx_lock(&p->os->lock);
                ret = find_locked(p->os, ino) ? -EUCLEAN : 0;
                mtx_unlock(&p->os->lock);
                p->nr_deleted += ret == 0;
        }
        if (ret < 0) {
                log_say(&p->os->fs->vfs.log, LOG_WARNING, "orphan inode %u is left", ino);
                p->nr_failed++;
        }
}

/* The inode of an orphan on disk, known as one.  *ret_inode has a reference. */
static int get_orphan(struct ext4_orphans *os, const struct ext4_orphan *what,
                      struct ext4_inode **ret_inode)
{
        struct ext4_inode *inode;
        int ret = check_number(os, what->ino);

        if (ret < 0)
                return ret;
        ret = ext4_iget_orphan(os->fs, what->ino, &inode);
        if (ret == -ESTALE) {
                const struct ext4_where at = {os->fs, what->ino, 0};

                return ext4_corrupt(&at, "an orphan that is no file");
        }
        if (ret < 0)
                return ret;
        ret = know(os, what, inode);
        if (ret < 0)
                ext4_iput(inode);
        else
                *ret_inode = inode;
        return ret;
}

/* ---- the list ---- */

static int cut_list(struct ext4_orphans *os)
{
        struct jbd2_handle *h;
        int ret = jbd2_start(os->fs->journal, EXT4_ORPHAN_CREDITS, 0, &h);

        if (ret < 0)
                return ret;
        log_say(&os->fs->vfs.log, LOG_ERR, "the list of orphans is damaged: the rest is lost");
        mtx_lock(&os->lock);
        ret = ext4_orphan_list_cut(h, os);
        mtx_unlock(&os->lock);
        return first_error(ret, jbd2_stop(h));
}

static int pass_list(struct pass *p)
{
        struct ext4_orphans *os = p->os;
        uint32_t ino, next;
        int ret = ext4_orphan_list_head(os, &ino);

        while (ret == 0 && ino != 0) {
                const struct ext4_orphan what = {.ino = ino};
                struct ext4_inode *inode;

                ret = get_orphan(os, &what, &inode);
                if (ret < 0)
                        break;
                ret = ext4_orphan_list_next(os, ino, &next);
                help(p, inode);
                ino = next;
        }
        return ext4_is_damage(ret) ? cut_list(os) : ret;
}

/* ---- the file ---- */

/* A slot with a number in it that is no orphan's. */
static int clear_slot(struct ext4_orphans *os, struct ext4_orphan *what)
{
        struct jbd2_handle *h;
        int ret = jbd2_start(os->fs->journal, EXT4_ORPHAN_CREDITS, 0, &h);

        if (ret < 0)
                return ret;
        mtx_lock(&os->lock);
        TAILQ_INSERT_TAIL(&os->in_file, what, link);
        ret = ext4_orphan_file_del(h, os, what);
        if (ret < 0)
                TAILQ_REMOVE(&os->in_file, what, link);
        mtx_unlock(&os->lock);
        return first_error(ret, jbd2_stop(h));
}

static int pass_slot(struct pass *p, uint32_t block, uint32_t slot, uint32_t ino)
{
        struct ext4_orphan what = {
                .ino = ino,
                .in_file = true,
                .block = block,
                .slot = slot,
        };
        struct ext4_inode *inode;
        int ret = get_orphan(p->os, &what, &inode);

        if (ext4_is_damage(ret))
                return clear_slot(p->os, &what);
        if (ret == 0)
                help(p, inode);
        return ret;
}

static int pass_file(struct pass *p)
{
        uint32_t block = 0, slot = 0, ino;
        int ret;

        while ((ret = ext4_orphan_file_next(p->os, &block, &slot, &ino)) > 0) {
                ret = pass_slot(p, block, slot, ino);
                if (ret < 0)
                        return ret;
                slot++;
        }
        return ret;
}

int ext4_orphan_pass(struct ext4_fs *fs)
{
        struct pass p = {.os = fs->orphans};
        int ret = pass_list(&p);

        if (ret == 0)
                ret = pass_file(&p);
        if (p.nr_deleted + p.nr_truncated + p.nr_failed > 0)
                log_say(&fs->vfs.log, LOG_INFO, "orphans: %u deleted, %u truncated, %u left",
                        p.nr_deleted, p.nr_truncated, p.nr_failed);
        return ret;
}
