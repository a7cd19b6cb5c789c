/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* backend_sys.c - system calls in a folder where something is mounted (worker.h). */
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "worker.h"

/* As a call of the library returns it. */
static ssize_t from_errno(ssize_t ret)
{
        return ret < 0 ? -errno : ret;
}

static int open_at(int dir, const char *name, int flags, union handle *ret)
{
        ret->fd = openat(dir, name, flags | O_CLOEXEC, 0644);
        return ret->fd < 0 ? -errno : 0;
}

static int sys_start(struct bench *b)
{
        return open_at(AT_FDCWD, b->path, O_RDONLY | O_DIRECTORY, &b->root);
}

static void sys_close(union handle any)
{
        close(any.fd);
}

static int sys_stop(struct bench *b)
{
        sys_close(b->root);
        return 0;
}

/* ---- names --------------------------------------------------------------- */

static int sys_opendir(union handle dir, const char *name, union handle *ret_dir)
{
        return open_at(dir.fd, name, O_RDONLY | O_DIRECTORY, ret_dir);
}

static int sys_mkdir(union handle dir, const char *name, union handle *ret_dir)
{
        if (mkdirat(dir.fd, name, 0755) < 0)
                return -errno;
        return sys_opendir(dir, name, ret_dir);
}

static int sys_rmdir(union handle dir, const char *name)
{
        return (int)from_errno(unlinkat(dir.fd, name, AT_REMOVEDIR));
}

static int sys_create(union handle dir, const char *name, int flags, union handle *ret_file)
{
        return open_at(dir.fd, name, O_RDWR | O_CREAT | O_EXCL | flags, ret_file);
}

static int sys_open(union handle dir, const char *name, int flags, union handle *ret_file)
{
        return open_at(dir.fd, name, O_RDWR | flags, ret_file);
}

static int sys_stat(union handle dir, const char *name)
{
        struct stat st;

        return (int)from_errno(fstatat(dir.fd, name, &st, AT_SYMLINK_NOFOLLOW));
}

static int sys_unlink(union handle dir, const char *name)
{
        return (int)from_errno(unlinkat(dir.fd, name, 0));
}

/* ---- files --------------------------------------------------------------- */

static ssize_t sys_read(union handle file, void *buf, size_t len, uint64_t pos)
{
        return from_errno(pread(file.fd, buf, len, (off_t)pos));
}

static ssize_t sys_write(union handle file, const void *buf, size_t len, uint64_t pos,
                         bool durable)
{
        const struct iovec iov = {.iov_base = (void *)(uintptr_t)buf, .iov_len = len};

        return from_errno(pwritev2(file.fd, &iov, 1, (off_t)pos, durable ? RWF_DSYNC : 0));
}

static int sys_fdatasync(union handle file)
{
        return (int)from_errno(fdatasync(file.fd));
}

static int sys_fallocate(union handle file, uint64_t len)
{
        return (int)from_errno(fallocate(file.fd, 0, 0, (off_t)len));
}

static int sys_syncfs(const struct bench *b)
{
        return (int)from_errno(syncfs(b->root.fd));
}

/* ---- queues: io_uring, with the file registered, as the library has it ---- */

struct io_queue {
        struct io_uring ring;
        unsigned depth;
};

static int sys_queue_new(const struct bench *b, union handle file, unsigned depth,
                         struct io_queue **ret_queue)
{
        struct io_queue *q = get_memory(1, sizeof(*q));
        /* Who asks for what has completed is not interrupted for it: Linux since 6.1. */
        int ret = io_uring_queue_init(depth, &q->ring,
                                      IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN);

        if (ret == -EINVAL)
                ret = io_uring_queue_init(depth, &q->ring, 0);
        (void)b;
        q->depth = depth;
        *ret_queue = q;
        return ret < 0 ? ret : io_uring_register_files(&q->ring, &file.fd, 1);
}

/* The kernel takes a ring apart in its own time; the file must not wait for that, or its mount
 * is busy. */
static void sys_queue_free(struct io_queue *q)
{
        io_uring_unregister_files(&q->ring);
        io_uring_queue_exit(&q->ring);
        free(q);
}

static int sys_queue_submit(struct io_queue *q, struct slot **slots, unsigned nr)
{
        for (unsigned i = 0; i < nr; i++) {
                struct io_uring_sqe *sqe = io_uring_get_sqe(&q->ring);
                const struct iovec *iov = &slots[i]->iov;

                if (slots[i]->write)
                        io_uring_prep_write(sqe, 0, iov->iov_base, (unsigned)iov->iov_len,
                                            slots[i]->pos);
                else
                        io_uring_prep_read(sqe, 0, iov->iov_base, (unsigned)iov->iov_len,
                                           slots[i]->pos);
                sqe->rw_flags = slots[i]->durable ? RWF_DSYNC : 0;
                sqe->flags |= IOSQE_FIXED_FILE;
                io_uring_sqe_set_data(sqe, slots[i]);
        }
        return io_uring_submit(&q->ring);
}

static int sys_queue_wait(struct io_queue *q, struct slot **done)
{
        struct io_uring_cqe *cqe;
        unsigned head, nr = 0;
        int ret;

        do
                ret = io_uring_wait_cqe(&q->ring, &cqe);
        while (ret == -EINTR);
        if (ret < 0)
                return ret;
        io_uring_for_each_cqe(&q->ring, head, cqe)
        {
                done[nr] = io_uring_cqe_get_data(cqe);
                check_whole("request", cqe->res, done[nr]->iov.iov_len);
                nr++;
        }
        io_uring_cq_advance(&q->ring, nr);
        return (int)nr;
}

const struct backend backend_sys = {
        .name = "sys",
        .start = sys_start,
        .stop = sys_stop,
        .mkdir = sys_mkdir,
        .opendir = sys_opendir,
        .put = sys_close,
        .rmdir = sys_rmdir,
        .create = sys_create,
        .open = sys_open,
        .stat = sys_stat,
        .close = sys_close,
        .unlink = sys_unlink,
        .read = sys_read,
        .write = sys_write,
        .fdatasync = sys_fdatasync,
        .fallocate = sys_fallocate,
        .syncfs = sys_syncfs,
        .queue_new = sys_queue_new,
        .queue_free = sys_queue_free,
        .queue_submit = sys_queue_submit,
        .queue_wait = sys_queue_wait,
};
