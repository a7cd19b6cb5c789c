/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What follows the I/O of a direct write.
 *
 * The order is that of C16: convert, size, count down, sync, tell.  Of a request that has
 * failed nothing is converted (B40).
 */

#include "ext4/write_path.h"

/* ---- conversion ---- */

/* What is on the device, of one request or of some that follow each other. */
struct run {
        struct ext4_inode *inode;
        uint64_t pos, end;
};

static struct run run_of(const struct iomap_dio *dio)
{
        const struct vfs_kiocb *iocb = dio->iocb;

        vfs_count(iocb->inode->sb, VFS_CONVERSIONS);
        return (struct run){ext4_inode_of(iocb->inode), iocb->pos, iocb->pos + dio->done};
}

static int convert(struct jbd2_handle *h, const struct run *run)
{
        return ext4_write_convert(h, run->inode, run->pos, run->end, 0);
}

static int convert_one(struct iomap_dio *dio)
{
        const struct run run = run_of(dio);
        struct jbd2_handle *h;
        int ret =
                jbd2_start(run.inode->fs->journal, ext4_map_convert_credits(run.inode), 0, &h);

        if (ret < 0)
                return ret;
        ret = convert(h, &run);
        return first_error(ret, jbd2_stop(h));
}

int64_t ext4_end_write(struct iomap_dio *dio, int64_t result)
{
        int ret = 0;

        if (result > 0 && (dio->flags & IOMAP_DIO_UNWRITTEN))
                ret = convert_one(dio);
        iomap_dio_end(dio);
        return ret < 0 ? ret : result;
}

/* ---- behind the size ---- */

int ext4_begin_extend(struct ext4_inode *inode)
{
        struct jbd2_handle *h;
        int ret;

        if (ext4_is_orphan(inode))
                return 0;
        ret = jbd2_start(inode->fs->journal, EXT4_ORPHAN_CREDITS, 0, &h);
        if (ret < 0)
                return ret;
        ret = ext4_orphan_add(h, inode);
        return first_error(ret, jbd2_stop(h));
}

enum orphan_end {
        KEEP_ORPHAN, /* it is none, or there is something left to do */
        END_ORPHAN,
};

/* The new size, and what else belongs to its transaction (C14). */
static int publish(const struct ext4_extension *x, enum orphan_end orphan)
{
        const uint32_t rest = EXT4_GROW_CREDITS + EXT4_INODE_CREDITS + EXT4_ORPHAN_CREDITS;
        struct ext4_inode *inode = x->inode;
        struct jbd2_handle *h;
        int ret = jbd2_start(inode->fs->journal, ext4_map_convert_credits(inode) + rest, 0, &h);

        if (ret < 0)
                return ret;
        if (x->is_unwritten)
                ret = ext4_write_convert(h, inode, x->pos, x->end, rest);
        if (ret == 0)
                ret = ext4_grow_and_store(h, inode, x->end); /* after the conversion: B44 */
        if (ret == 0 && orphan == END_ORPHAN)
                ret = ext4_orphan_del(h, inode); /* order: the entry ends with the size (B41) */
        return first_error(ret, jbd2_stop(h));
}

static int end_orphan(struct ext4_inode *inode)
{
        struct jbd2_handle *h;
        int ret = jbd2_start(inode->fs->journal, EXT4_ORPHAN_CREDITS, 0, &h);

        if (ret < 0)
                return ret;
        ret = ext4_orphan_del(h, inode);
        return first_error(ret, jbd2_stop(h));
}

/* Blocks that were allocated behind what is the size now, and the orphan entry. */
static int clean_up(struct ext4_inode *inode, bool has_new)
{
        int ret = has_new ? ext4_truncate_tail(inode) : end_orphan(inode);

        if (ret < 0) /* it stays one on disk, for the next mount: B43 */
                ret = first_error(ret, ext4_orphan_del(NULL, inode));
        return ret;
}

int64_t ext4_end_extension(const struct ext4_extension *x, int64_t result)
{
        bool trim = x->is_short && x->has_new; /* order: before the entry ends (C19) */
        bool left = x->is_orphan && (result <= 0 || trim);
        int ret = 0;

        if (result > 0) {
                ret = publish(x, x->is_orphan && !left ? END_ORPHAN : KEEP_ORPHAN);
                vfs_count(x->inode->vfs.sb, VFS_EXTENDS);
        }
        if (ret < 0)
                left = x->is_orphan;
        if (left) {
                int err = clean_up(x->inode, x->has_new);

                if (result > 0)
                        ret = first_error(ret, err);
        }
        return ret < 0 ? ret : result;
}

int64_t ext4_end_extend(struct iomap_dio *dio, int64_t result, bool is_orphan)
{
        const struct ext4_extension x = {
                .inode = ext4_inode_of(dio->iocb->inode),
                .pos = dio->iocb->pos,
                .end = dio->iocb->pos + dio->done,
                .is_unwritten = dio->flags & IOMAP_DIO_UNWRITTEN,
                .has_new = dio->flags & IOMAP_DIO_NEW,
                .is_short = dio->stopped,
                .is_orphan = is_orphan,
        };

        result = ext4_end_extension(&x, result);
        iomap_dio_end(dio);
        return result;
}

/* ---- requests that are reaped together ---- */

static struct iomap_dio *dio_of(struct vfs_work *work)
{
        return container_of(work, struct iomap_dio, work);
}

static bool needs_conversion(const struct iomap_dio *dio)
{
        if (iomap_dio_result(dio) <= 0)
                return false; /* order: data before conversion (B40) */
        return dio->flags & IOMAP_DIO_UNWRITTEN;
}

/* False when it is no neighbour. */
static bool run_add(struct run *run, const struct iomap_dio *dio)
{
        const struct vfs_kiocb *iocb = dio->iocb;
        const uint64_t end = iocb->pos + dio->done;

        if (ext4_inode_of(iocb->inode) != run->inode)
                return false;
        if (iocb->pos != run->end && end != run->pos)
                return false;
        *run = (struct run){run->inode, min_t(uint64_t, run->pos, iocb->pos),
                            max_t(uint64_t, run->end, end)};
        vfs_count(iocb->inode->sb, VFS_CONVERSIONS);
        return true;
}

static void fail_unconverted(struct vfs_work *works, const struct vfs_work *until, int err)
{
        for (struct vfs_work *w = works; w != until; w = w->next) {
                if (needs_conversion(dio_of(w)))
                        iomap_dio_fail(dio_of(w), err);
        }
}

/*
 * Under a handle that is shared by all of the list.  A change of the map costs as much for one
 * block as for many: requests that follow each other in the list and in the file are one.
 */
static void convert_all(struct jbd2_handle *h, struct vfs_work *works)
{
        struct vfs_work *next;

        for (struct vfs_work *w = works; w; w = next) {
                struct run run;
                int ret;

                next = w->next;
                if (!needs_conversion(dio_of(w)))
                        continue;
                run = run_of(dio_of(w));
                while (next && needs_conversion(dio_of(next)) && run_add(&run, dio_of(next)))
                        next = next->next;
                ret = jbd2_ensure(h, ext4_map_convert_credits(run.inode), 0);
                if (ret >= 0)
                        ret = convert(h, &run);
                if (ret < 0)
                        fail_unconverted(w, next, ret);
        }
}

static void convert_works(struct ext4_fs *fs, struct vfs_work *works)
{
        struct vfs_work *w = works;
        struct jbd2_handle *h;
        int ret;

        while (w && !needs_conversion(dio_of(w)))
                w = w->next;
        if (!w)
                return;
        ret = jbd2_start(fs->journal, 0, 0, &h); /* each brings its credits */
        if (ret == 0) {
                convert_all(h, w);
                ret = jbd2_stop(h);
        }
        if (ret < 0)
                fail_unconverted(w, NULL, ret);
}

/* The first commit makes all of the list durable; for the others there is nothing left. */
static void sync_works(struct vfs_work *works)
{
        for (struct vfs_work *w = works; w; w = w->next) {
                struct iomap_dio *dio = dio_of(w);
                int ret;

                if (!(dio->flags & IOMAP_DIO_NEED_SYNC) || iomap_dio_result(dio) < 0)
                        continue;
                ret = ext4_fsync_written(ext4_inode_of(dio->iocb->inode),
                                         dio->iocb->flags & VFS_SYNC ? EXT4_SYNC_ALL
                                                                     : EXT4_SYNC_DATA);
                if (ret < 0)
                        iomap_dio_fail(dio, ret);
        }
}

void ext4_finish_writes(struct vfs_super *sb, struct vfs_work *works)
{
        struct ext4_fs *fs = container_of(sb, struct ext4_fs, vfs);
        struct vfs_work *next;

        vfs_count(sb, VFS_BATCHES);
        convert_works(fs, works);
        for (struct vfs_work *w = works; w; w = w->next)
                iomap_dio_end(dio_of(w));
        sync_works(works); /* order: durable before the user hears (C16) */
        for (struct vfs_work *w = works; w; w = next) {
                struct iomap_dio *dio = dio_of(w);

                next = w->next; /* the user may use the memory again */
                dio->iocb->complete(dio->iocb, iomap_dio_result(dio));
        }
}
