/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Attributes: what stat(2) shows, and what chmod(2) and its like change.
 *
 * The kernel may keep attributes for a day.  They change in the course of requests alone, all
 * of which come from this kernel, and it knows which attributes a request of its own makes
 * void: times and size after a write, the access time after a read, the links and the time of
 * change after a change of names.  What it does not know of (flags) it is told (ioctl.c).
 */

#include <errno.h>
#include <fcntl.h>
#include <linux/stat.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fuse/internal.h"

/* As the kernel packs device numbers. */
static uint32_t rdev_of(const struct uext4_stat *st)
{
        return (st->rdev_minor & 0xff) | st->rdev_major << 8 | (st->rdev_minor & ~0xffu) << 12;
}

void srv_attr_of(const struct uext4_stat *st, struct fuse_attr *ret_attr)
{
        *ret_attr = (struct fuse_attr){
                .ino = st->ino,
                .size = st->size,
                .blocks = st->blocks,
                .atime = (uint64_t)st->atime.tv_sec,
                .mtime = (uint64_t)st->mtime.tv_sec,
                .ctime = (uint64_t)st->ctime.tv_sec,
                .atimensec = (uint32_t)st->atime.tv_nsec,
                .mtimensec = (uint32_t)st->mtime.tv_nsec,
                .ctimensec = (uint32_t)st->ctime.tv_nsec,
                .mode = st->mode,
                .nlink = st->nlink,
                .uid = st->uid,
                .gid = st->gid,
                .rdev = rdev_of(st),
                .blksize = st->blksize,
        };
}

static int reply_stat(struct srv_request *rq, const struct uext4_stat *st, uint64_t seconds)
{
        struct fuse_attr_out out = {.attr_valid = seconds};

        srv_attr_of(st, &out.attr);
        return srv_reply(rq, &out, sizeof(out));
}

static int reply_attr(struct srv_request *rq, struct uext4_inode *inode)
{
        struct uext4_stat st;
        int ret = uext4_stat(inode, &st);

        return ret < 0 ? ret : reply_stat(rq, &st, SRV_VALID_SECONDS);
}

int srv_op_getattr(struct srv_request *rq)
{
        struct srv_node *node = srv_node_find(rq->server, rq->in->nodeid);

        return node ? reply_attr(rq, node->inode) : -ESTALE;
}

/* ---- statx: the time of birth; the kernel does not pass on the rest ---- */

static struct proto_sx_time sx_time(const struct timespec *t)
{
        return (struct proto_sx_time){.sec = t->tv_sec, .nsec = (uint32_t)t->tv_nsec};
}

static void statx_of(const struct uext4_stat *st, struct proto_statx *ret_sx)
{
        *ret_sx = (struct proto_statx){
                .mask = STATX_BASIC_STATS,
                .blksize = st->blksize,
                .attributes = st->attributes,
                .attributes_mask = st->attributes_mask,
                .nlink = st->nlink,
                .uid = st->uid,
                .gid = st->gid,
                .mode = (uint16_t)st->mode,
                .ino = st->ino,
                .size = st->size,
                .blocks = st->blocks,
                .atime = sx_time(&st->atime),
                .btime = sx_time(&st->btime),
                .ctime = sx_time(&st->ctime),
                .mtime = sx_time(&st->mtime),
                .rdev_major = st->rdev_major,
                .rdev_minor = st->rdev_minor,
        };
        if (st->btime.tv_sec != 0 || st->btime.tv_nsec != 0)
                ret_sx->mask |= STATX_BTIME;
}

int srv_op_statx(struct srv_request *rq)
{
        struct srv_node *node = srv_node_find(rq->server, rq->in->nodeid);
        struct proto_statx_out out = {.attr_valid = SRV_VALID_SECONDS};
        struct uext4_stat st;
        int ret = node ? uext4_stat(node->inode, &st) : -ESTALE;

        if (ret < 0)
                return ret;
        statx_of(&st, &out.stat);
        return srv_reply(rq, &out, sizeof(out));
}

/* ---- changing ---- */

static struct timespec time_to_set(uint32_t valid, uint32_t now, uint64_t sec, uint32_t nsec)
{
        if (valid & now)
                return (struct timespec){.tv_nsec = UTIME_NOW};
        return (struct timespec){.tv_sec = (time_t)sec, .tv_nsec = (long)nsec};
}

/* The time of change is always now: that of FATTR_CTIME is hardly older. */
static void order_of(const struct fuse_setattr_in *in, struct uext4_setattr *ret_attr)
{
        static const struct {
                uint32_t valid, mask;
        } bits[] = {
                {FATTR_MODE, UEXT4_SET_MODE},   {FATTR_UID, UEXT4_SET_UID},
                {FATTR_GID, UEXT4_SET_GID},     {FATTR_ATIME, UEXT4_SET_ATIME},
                {FATTR_MTIME, UEXT4_SET_MTIME},
        };

        *ret_attr = (struct uext4_setattr){
                .mode = in->mode & 07777,
                .uid = in->uid,
                .gid = in->gid,
                .atime = time_to_set(in->valid, FATTR_ATIME_NOW, in->atime, in->atimensec),
                .mtime = time_to_set(in->valid, FATTR_MTIME_NOW, in->mtime, in->mtimensec),
        };
        for (size_t i = 0; i < sizeof(bits) / sizeof(bits[0]); i++) {
                if (in->valid & bits[i].valid)
                        ret_attr->mask |= bits[i].mask;
        }
}

int srv_truncate(struct srv_request *rq, struct srv_node *node, struct uext4_file *file,
                 uint64_t size, bool kill)
{
        const struct uext4_cred *before;
        struct uext4_file *own = NULL;
        int ret = 0;

        if (!file) {
                ret = rq->server->default_permissions ? 0 : uext4_access(node->inode, W_OK);
                before = uext4_cred_use(NULL);
                if (ret == 0)
                        ret = uext4_open(node->inode, O_RDWR, &own);
                uext4_cred_use(before);
                file = own;
        }
        if (ret < 0)
                return ret;
        srv_cred_use_asked(rq, kill ? 0 : ~0ull);
        ret = uext4_truncate(file, size);
        uext4_close(own);
        return ret;
}

/* truncate(2), which has no file, and ftruncate(2). */
static int set_size(struct srv_request *rq, struct srv_node *node,
                    const struct fuse_setattr_in *in)
{
        struct uext4_file *file = in->valid & FATTR_FH ? srv_handle_of(in->fh)->primary : NULL;
        struct uext4_stat st;
        int ret = uext4_stat(node->inode, &st);

        if (ret < 0)
                return ret;
        if (in->size < st.size)
                atomic_store(&node->was_cut, true);
        return srv_truncate(rq, node, file, in->size, in->valid & FATTR_KILL_SUIDGID);
}

/*
 * S_ISUID and S_ISGID, when the kernel says that they go.  Without an owner that is because the
 * file was written to, and its pages are in the kernel still.  With one the library does it,
 * but that S_ISGID of a file which its group may not execute goes as well if the caller is not
 * in the group: the library cannot know that.
 */
static bool loses_sgid(struct srv_request *rq, const struct fuse_setattr_in *in,
                       const struct uext4_stat *st)
{
        if (!(st->mode & S_ISGID))
                return false;
        if (st->mode & S_IXGRP)
                return true;
        return (in->valid & (FATTR_UID | FATTR_GID)) && rq->in->uid != 0 &&
               !srv_is_in_group(rq, st->gid);
}

static int add_kill(struct srv_request *rq, struct srv_node *node, struct uext4_setattr *attr)
{
        const struct fuse_setattr_in *in = (const void *)rq->arg;
        struct uext4_stat st;
        int ret;

        if (!(in->valid & FATTR_KILL_SUIDGID) || (in->valid & (FATTR_SIZE | FATTR_MODE)))
                return 0;
        ret = uext4_stat(node->inode, &st);
        if (ret < 0 || S_ISDIR(st.mode))
                return ret;
        attr->mode = st.mode & 07777 & ~(uint32_t)S_ISUID;
        if (loses_sgid(rq, in, &st))
                attr->mode &= ~(uint32_t)S_ISGID;
        if (attr->mode != (st.mode & 07777))
                attr->mask |= UEXT4_SET_MODE;
        return 0;
}

/*
 * A write may have made the file longer since (data.c).  But the kernel drops its pages behind
 * the size that it is told, and none when that is the old one: so it is told the size that it
 * has asked for, and asks for attributes again.
 */
static int reply_cut(struct srv_request *rq, struct uext4_inode *inode, uint64_t size)
{
        struct uext4_stat st;
        int ret = uext4_stat(inode, &st);

        st.size = size;
        return ret < 0 ? ret : reply_stat(rq, &st, 0);
}

int srv_op_setattr(struct srv_request *rq)
{
        const struct fuse_setattr_in *in = (const void *)rq->arg;
        struct srv_node *node = srv_node_find(rq->server, rq->in->nodeid);
        struct uext4_setattr attr;
        int ret = 0;

        if (!node)
                return -ESTALE;
        order_of(in, &attr);
        ret = add_kill(rq, node, &attr);
        if (ret == 0 && (in->valid & FATTR_SIZE))
                ret = set_size(rq, node, in);
        if (ret < 0)
                return ret;
        srv_cred_use(rq, 0);
        if (attr.mask)
                ret = uext4_setattr(node->inode, &attr);
        if (ret < 0)
                return ret;
        if (in->valid & FATTR_SIZE)
                return reply_cut(rq, node->inode, in->size);
        return reply_attr(rq, node->inode);
}

/* ---- the rest ---- */

int srv_op_readlink(struct srv_request *rq)
{
        struct srv_node *node = srv_node_find(rq->server, rq->in->nodeid);
        ssize_t len = node ? uext4_readlink(node->inode, rq->worker->out, SRV_MAX_IO) : -ESTALE;

        return len < 0 ? (int)len : srv_reply(rq, rq->worker->out, (size_t)len);
}

/* Comes without default_permissions only. */
int srv_op_access(struct srv_request *rq)
{
        const struct fuse_access_in *in = (const void *)rq->arg;
        struct srv_node *node = srv_node_find(rq->server, rq->in->nodeid);

        return node ? uext4_access(node->inode, (int)(in->mask & (R_OK | W_OK | X_OK)))
                    : -ESTALE;
}

int srv_op_statfs(struct srv_request *rq)
{
        struct fuse_statfs_out out = {0};
        struct statvfs st;
        int ret = uext4_statfs(rq->server->fs, &st);

        if (ret < 0)
                return ret;
        out.st = (struct fuse_kstatfs){
                .blocks = st.f_blocks,
                .bfree = st.f_bfree,
                .bavail = st.f_bavail,
                .files = st.f_files,
                .ffree = st.f_ffree,
                .bsize = (uint32_t)st.f_bsize,
                .namelen = (uint32_t)st.f_namemax,
                .frsize = (uint32_t)st.f_frsize,
        };
        return srv_reply(rq, &out, sizeof(out));
}
