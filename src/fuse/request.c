/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * One request: from its bytes to its answer.
 *
 * libfuse has all of this, too, but not for us: its version in the distributions that we build
 * on knows nothing of FUSE_TMPFILE, FUSE_STATX, FUSE_SYNCFS, parallel direct writes, mapped
 * files with direct I/O, and who takes S_ISUID away (FUSE_HANDLE_KILLPRIV_V2, without which the
 * kernel asks for an attribute before each write); and it answers on one channel only, from
 * memory that it allocates for each request.  So libfuse mounts and unmounts, and this file
 * talks.
 */

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "fuse/internal.h"

/* ---- the kinds ---- */

struct op {
        const char *name;
        srv_op_fn *run;
        size_t arg_size; /* at least */
};

#define OP(opcode, name, run, arg) [opcode] = {name, run, arg}

static const struct op ops[PROTO_MAX_OPCODE] = {
        OP(FUSE_LOOKUP, "lookup", srv_op_lookup, 1),
        OP(FUSE_FORGET, "forget", srv_op_forget, sizeof(struct fuse_forget_in)),
        OP(FUSE_GETATTR, "getattr", srv_op_getattr, 0),
        OP(FUSE_SETATTR, "setattr", srv_op_setattr, sizeof(struct fuse_setattr_in)),
        OP(FUSE_READLINK, "readlink", srv_op_readlink, 0),
        OP(FUSE_SYMLINK, "symlink", srv_op_symlink, 2),
        OP(FUSE_MKNOD, "mknod", srv_op_mknod, sizeof(struct fuse_mknod_in)),
        OP(FUSE_MKDIR, "mkdir", srv_op_mkdir, sizeof(struct fuse_mkdir_in)),
        OP(FUSE_UNLINK, "unlink", srv_op_unlink, 1),
        OP(FUSE_RMDIR, "rmdir", srv_op_rmdir, 1),
        OP(FUSE_RENAME, "rename", srv_op_rename, sizeof(struct fuse_rename_in)),
        OP(FUSE_LINK, "link", srv_op_link, sizeof(struct fuse_link_in)),
        OP(FUSE_OPEN, "open", srv_op_open, sizeof(struct fuse_open_in)),
        OP(FUSE_READ, "read", srv_op_read, sizeof(struct fuse_read_in)),
        OP(FUSE_WRITE, "write", srv_op_write, sizeof(struct fuse_write_in)),
        OP(FUSE_STATFS, "statfs", srv_op_statfs, 0),
        OP(FUSE_RELEASE, "release", srv_op_release, sizeof(struct fuse_release_in)),
        OP(FUSE_FSYNC, "fsync", srv_op_fsync, sizeof(struct fuse_fsync_in)),
        OP(FUSE_SETXATTR, "setxattr", srv_op_setxattr, sizeof(struct fuse_setxattr_in)),
        OP(FUSE_GETXATTR, "getxattr", srv_op_getxattr, sizeof(struct fuse_getxattr_in)),
        OP(FUSE_LISTXATTR, "listxattr", srv_op_listxattr, sizeof(struct fuse_getxattr_in)),
        OP(FUSE_REMOVEXATTR, "removexattr", srv_op_removexattr, 1),
        OP(FUSE_INIT, "init", srv_op_init, 16),
        OP(FUSE_OPENDIR, "opendir", srv_op_opendir, sizeof(struct fuse_open_in)),
        OP(FUSE_READDIR, "readdir", srv_op_readdir, sizeof(struct fuse_read_in)),
        OP(FUSE_RELEASEDIR, "releasedir", srv_op_release, sizeof(struct fuse_release_in)),
        OP(FUSE_FSYNCDIR, "fsyncdir", srv_op_fsyncdir, sizeof(struct fuse_fsync_in)),
        OP(FUSE_ACCESS, "access", srv_op_access, sizeof(struct fuse_access_in)),
        OP(FUSE_CREATE, "create", srv_op_create, sizeof(struct fuse_create_in)),
        OP(FUSE_IOCTL, "ioctl", srv_op_ioctl, sizeof(struct fuse_ioctl_in)),
        OP(FUSE_BATCH_FORGET, "forget_many", srv_op_batch_forget,
           sizeof(struct fuse_batch_forget_in)),
        OP(FUSE_FALLOCATE, "fallocate", srv_op_fallocate, sizeof(struct fuse_fallocate_in)),
        OP(FUSE_READDIRPLUS, "readdirplus", srv_op_readdirplus, sizeof(struct fuse_read_in)),
        OP(FUSE_RENAME2, "rename2", srv_op_rename2, sizeof(struct fuse_rename2_in)),
        OP(FUSE_LSEEK, "lseek", srv_op_lseek, sizeof(struct fuse_lseek_in)),
        OP(FUSE_COPY_FILE_RANGE, "copy_file_range", srv_op_copy,
           sizeof(struct fuse_copy_file_range_in)),
        OP(FUSE_SYNCFS, "syncfs", srv_op_syncfs, 0),
        OP(FUSE_TMPFILE, "tmpfile", srv_op_tmpfile, sizeof(struct fuse_create_in)),
        OP(PROTO_STATX, "statx", srv_op_statx, sizeof(struct proto_statx_in)),
};

const char *srv_op_name(unsigned opcode)
{
        return opcode < PROTO_MAX_OPCODE ? ops[opcode].name : NULL;
}

/* ---- arguments ---- */

const char *srv_string(const struct srv_request *rq, size_t pos, size_t *ret_len)
{
        const char *end;

        if (pos >= rq->arg_len)
                return NULL;
        end = memchr(rq->arg + pos, '\0', rq->arg_len - pos);
        if (!end)
                return NULL;
        *ret_len = (size_t)(end - (rq->arg + pos));
        return rq->arg + pos;
}

int srv_named(const struct srv_request *rq, size_t pos, struct srv_named *ret_at)
{
        ret_at->node = srv_node_find(rq->server, rq->in->nodeid);
        ret_at->name = srv_string(rq, pos, &ret_at->len);
        if (!ret_at->node)
                return -ESTALE;
        return ret_at->name ? 0 : -EINVAL;
}

/* ---- answers ---- */

static int send_answer(struct srv_request *rq, int error, struct iovec *iov, int nr_iov)
{
        struct fuse_out_header out = {.error = error, .unique = rq->in->unique};
        size_t len = sizeof(out);

        iov[0] = (struct iovec){&out, sizeof(out)};
        for (int i = 1; i < nr_iov; i++)
                len += iov[i].iov_len;
        out.len = (uint32_t)len;
        rq->answered = true;
        return writev(rq->worker->fd, iov, nr_iov) < 0 ? -errno : 0;
}

int srv_reply_iov(struct srv_request *rq, struct iovec *iov, int nr_iov)
{
        return send_answer(rq, 0, iov, nr_iov);
}

int srv_reply(struct srv_request *rq, const void *data, size_t len)
{
        struct iovec iov[2];

        iov[1].iov_base = (void *)(uintptr_t)data; /* is only read */
        iov[1].iov_len = len;
        return send_answer(rq, 0, iov, len > 0 ? 2 : 1);
}

/* ---- serving ---- */

static void count(struct srv_request *rq, int error)
{
        struct srv_counter *c;

        if (rq->in->opcode >= PROTO_MAX_OPCODE)
                return;
        c = &rq->worker->counters[rq->in->opcode];
        atomic_fetch_add_explicit(&c->requests, 1, memory_order_relaxed);
        atomic_fetch_add_explicit(&c->bytes, rq->bytes, memory_order_relaxed);
        if (error < 0)
                atomic_fetch_add_explicit(&c->errors, 1, memory_order_relaxed);
}

static void say(const struct srv_request *rq, const char *name, int error)
{
        if (name)
                fprintf(stderr, "%s", name);
        else
                fprintf(stderr, "opcode %u", rq->in->opcode);
        fprintf(stderr, " node %llu, %u bytes, uid %u, pid %u: %s\n",
                (unsigned long long)rq->in->nodeid, rq->in->len, rq->in->uid, rq->in->pid,
                error < 0 ? strerror(-error) : "ok");
}

/* What goes on with a file that is open, or is the kernel's own, has no identity to ask. */
static bool is_for_anybody(uint32_t opcode)
{
        switch (opcode) {
        case FUSE_INIT:
        case FUSE_FORGET:
        case FUSE_BATCH_FORGET:
        case FUSE_READ:
        case FUSE_WRITE:
        case FUSE_FSYNC:
        case FUSE_RELEASE:
        case FUSE_READDIR:
        case FUSE_READDIRPLUS:
        case FUSE_FSYNCDIR:
        case FUSE_RELEASEDIR:
                return true;
        default:
                return false;
        }
}

/* What is left when the file system has been shut down. */
static bool is_for_ever(uint32_t opcode)
{
        switch (opcode) {
        case FUSE_FORGET:
        case FUSE_BATCH_FORGET:
        case FUSE_RELEASE:
        case FUSE_RELEASEDIR:
        case FUSE_GETATTR:
        case PROTO_STATX:
        case FUSE_STATFS:
                return true;
        default:
                return false;
        }
}

static int may_run(const struct srv_request *rq, const struct op *op)
{
        const struct fuse_server *server = rq->server;

        if (rq->arg_len < op->arg_size)
                return -EINVAL;
        if (atomic_load_explicit(&server->is_down, memory_order_relaxed) &&
            !is_for_ever(rq->in->opcode))
                return -EIO;
        if (server->allow_root && !srv_is_admin(rq) && !is_for_anybody(rq->in->opcode))
                return -EACCES;
        return 0;
}

/*
 * What we do not know the kernel must not ask again: -ENOSYS.  For FUSE_INTERRUPT that says
 * that nothing here waits for long; for FUSE_FLUSH, that closing tells no errors, as that of
 * ext4; for FUSE_POLL, that files are always ready.
 */
static int run(struct srv_request *rq, const struct op *op)
{
        const uint64_t mark = srv_space_mark(rq->server);
        int ret;

        if (!op || !op->run)
                return -ENOSYS;
        ret = may_run(rq, op);
        if (ret < 0)
                return ret;
        srv_cred_use(rq, 0);
        ret = op->run(rq);
        /* It has changed nothing. */
        if (ret == -ENOSPC && !rq->answered && srv_space_came(rq->server, mark)) {
                srv_cred_use(rq, 0);
                ret = op->run(rq);
        }
        return ret;
}

void srv_serve(struct srv_worker *worker, size_t len)
{
        struct srv_request rq = {
                .worker = worker,
                .server = worker->server,
                .in = (const struct fuse_in_header *)(const void *)worker->in,
                .arg = worker->in + sizeof(struct fuse_in_header),
        };
        const struct op *op;
        struct iovec iov[1];
        int ret;

        if (len < sizeof(*rq.in) || rq.in->len != len)
                return;
        rq.arg_len = len - sizeof(*rq.in);
        op = rq.in->opcode < PROTO_MAX_OPCODE ? &ops[rq.in->opcode] : NULL;
        ret = run(&rq, op);
        if (worker->server->debug)
                say(&rq, op ? op->name : NULL, ret);
        count(&rq, ret);
        if (!rq.answered)
                send_answer(&rq, ret < 0 ? ret : 0, iov, 1);
        uext4_cred_use(NULL);
}
