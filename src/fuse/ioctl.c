/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * ioctl(2): flags, projects, generation, trimming, shutting down.
 *
 * The kernel copies the caller's structure as the number of the request says (direction and
 * size), and no more.  FIEMAP does not come here: the kernel answers it for FUSE itself.
 */

#include <errno.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>

#include "fuse/internal.h"

static int reply(struct srv_request *rq, const void *data, size_t size)
{
        struct fuse_ioctl_out out = {0};
        struct iovec iov[3];

        iov[1] = (struct iovec){&out, sizeof(out)};
        iov[2].iov_base = (void *)(uintptr_t)data; /* is only read */
        iov[2].iov_len = size;
        return srv_reply_iov(rq, iov, size > 0 ? 3 : 2);
}

/* The structure that the caller has given. */
static int argument(const struct srv_request *rq, void *to, size_t size)
{
        const struct fuse_ioctl_in *in = (const void *)rq->arg;

        if (in->in_size < size || rq->arg_len - sizeof(*in) < size)
                return -EINVAL;
        memcpy(to, rq->arg + sizeof(*in), size);
        return 0;
}

/* The kernel has asked whether the caller may, but for what only ext4 knows of. */
static int set_flags(struct srv_request *rq, struct srv_node *node)
{
        struct fuse_ioctl_out out = {0};
        uint32_t flags, old;
        int ret = argument(rq, &flags, sizeof(flags));

        if (ret == 0)
                ret = uext4_get_flags(node->inode, &old);
        if (ret == 0 && ((flags ^ old) & FS_JOURNAL_DATA_FL) && !srv_is_admin(rq))
                ret = -EPERM;
        if (ret == 0)
                ret = uext4_set_flags(node->inode, flags);
        return ret < 0 ? ret : srv_reply_after_drop(rq, node->nodeid, 0, 0, &out, sizeof(out));
}

static int set_fsxattr(struct srv_request *rq, struct srv_node *node)
{
        struct fuse_ioctl_out out = {0};
        struct fsxattr attr;
        int ret = argument(rq, &attr, sizeof(attr));

        if (ret == 0)
                ret = uext4_set_fsxattr(node->inode, &attr);
        return ret < 0 ? ret : srv_reply_after_drop(rq, node->nodeid, 0, 0, &out, sizeof(out));
}

static int get(struct srv_request *rq, struct srv_node *node, uint32_t cmd)
{
        struct fsxattr attr;
        uint32_t number;
        int ret;

        switch (cmd) {
        case FS_IOC_GETFLAGS:
                ret = uext4_get_flags(node->inode, &number);
                return ret < 0 ? ret : reply(rq, &number, sizeof(number));
        case FS_IOC_GETVERSION:
                ret = uext4_get_version(node->inode, &number);
                return ret < 0 ? ret : reply(rq, &number, sizeof(number));
        default:
                ret = uext4_get_fsxattr(node->inode, &attr);
                return ret < 0 ? ret : reply(rq, &attr, sizeof(attr));
        }
}

/* fstrim(8). */
static int trim(struct srv_request *rq)
{
        struct fstrim_range range;
        uint64_t trimmed;
        int ret = srv_is_admin(rq) ? argument(rq, &range, sizeof(range)) : -EPERM;

        if (ret == 0)
                ret = uext4_trim(rq->server->fs, range.start, range.len, range.minlen,
                                 &trimmed);
        if (ret < 0)
                return ret;
        range.len = trimmed;
        return reply(rq, &range, sizeof(range));
}

/* The end of all changes, as tests and clusters ask for it. */
static int shut_down(struct srv_request *rq, uint32_t how)
{
        int ret = -EPERM;

        if (srv_is_admin(rq))
                ret = uext4_shutdown(rq->server->fs, (enum uext4_shutdown)how);
        if (ret < 0)
                return ret;
        atomic_store(&rq->server->is_down, true);
        return reply(rq, NULL, 0);
}

/*
 * The number that everybody has says that the kernel copies to the caller and not from him, and
 * so how he wants it stays with him: everything is made durable first, which one of the three
 * ways asks for, and the others allow.  Ours is the same but for its direction.
 */
static int shut_down_as_told(struct srv_request *rq)
{
        uint32_t how;
        int ret = argument(rq, &how, sizeof(how));

        return ret < 0 ? ret : shut_down(rq, how);
}

int srv_op_ioctl(struct srv_request *rq)
{
        const struct fuse_ioctl_in *in = (const void *)rq->arg;
        struct srv_node *node = srv_node_find(rq->server, rq->in->nodeid);

        if (!node)
                return -ESTALE;
        switch (in->cmd) {
        case FS_IOC_GETFLAGS:
        case FS_IOC_GETVERSION:
        case FS_IOC_FSGETXATTR:
                return get(rq, node, in->cmd);
        case FS_IOC_SETFLAGS:
                return set_flags(rq, node);
        case FS_IOC_FSSETXATTR:
                return set_fsxattr(rq, node);
        case FITRIM:
                return trim(rq);
        case PROTO_IOC_SHUTDOWN:
                return shut_down(rq, UEXT4_SHUTDOWN_SYNC);
        case PROTO_IOC_SHUTDOWN_AS_TOLD:
                return shut_down_as_told(rq);
        default:
                return -ENOTTY;
        }
}
