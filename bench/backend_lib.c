/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* backend_lib.c - the library, with a mount of its own (worker.h). */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "worker.h"

static int lib_start(struct bench *b)
{
        struct uext4_mount_params params = {.options = b->p.mount};
        int ret = uext4_mount(b->path, &params, &b->fs);

        return ret < 0 ? ret : uext4_inode_get(b->fs, UEXT4_ROOT_INO, 0, &b->root.inode);
}

static int lib_stop(struct bench *b)
{
        uext4_inode_put(b->root.inode);
        return uext4_unmount(b->fs);
}

/* ---- names --------------------------------------------------------------- */

static int lib_mkdir(union handle dir, const char *name, union handle *ret_dir)
{
        return uext4_mkdir(dir.inode, name, strlen(name), 0755, &ret_dir->inode);
}

static int lib_opendir(union handle dir, const char *name, union handle *ret_dir)
{
        return uext4_lookup(dir.inode, name, strlen(name), &ret_dir->inode);
}

static void lib_put(union handle dir)
{
        uext4_inode_put(dir.inode);
}

static int lib_rmdir(union handle dir, const char *name)
{
        return uext4_rmdir(dir.inode, name, strlen(name));
}

/* Takes the reference. */
static int open_inode(struct uext4_inode *inode, int flags, union handle *ret_file)
{
        int ret = uext4_open(inode, O_RDWR | flags, &ret_file->file);

        uext4_inode_put(inode);
        return ret;
}

static int lib_create(union handle dir, const char *name, int flags, union handle *ret_file)
{
        struct uext4_inode *inode;
        int ret = uext4_create(dir.inode, name, strlen(name), 0644, &inode);

        return ret < 0 ? ret : open_inode(inode, flags, ret_file);
}

static int lib_open(union handle dir, const char *name, int flags, union handle *ret_file)
{
        struct uext4_inode *inode;
        int ret = uext4_lookup(dir.inode, name, strlen(name), &inode);

        return ret < 0 ? ret : open_inode(inode, flags, ret_file);
}

static int lib_stat(union handle dir, const char *name)
{
        struct uext4_inode *inode;
        struct uext4_stat st;
        int ret = uext4_lookup(dir.inode, name, strlen(name), &inode);

        if (ret < 0)
                return ret;
        ret = uext4_stat(inode, &st);
        uext4_inode_put(inode);
        return ret;
}

static void lib_close(union handle file)
{
        uext4_close(file.file);
}

static int lib_unlink(union handle dir, const char *name)
{
        return uext4_unlink(dir.inode, name, strlen(name));
}

/* ---- files --------------------------------------------------------------- */

static ssize_t lib_read(union handle file, void *buf, size_t len, uint64_t pos)
{
        return uext4_pread(file.file, buf, len, pos);
}

static ssize_t lib_write(union handle file, const void *buf, size_t len, uint64_t pos,
                         bool durable)
{
        const struct iovec iov = {.iov_base = (void *)(uintptr_t)buf, .iov_len = len};

        return uext4_pwritev2(file.file, &iov, 1, pos, durable ? RWF_DSYNC : 0);
}

static int lib_fdatasync(union handle file)
{
        return uext4_fdatasync(file.file);
}

static int lib_fallocate(union handle file, uint64_t len)
{
        return uext4_fallocate(file.file, 0, 0, len);
}

static int lib_syncfs(const struct bench *b)
{
        return uext4_syncfs(b->fs);
}

/* ---- queues -------------------------------------------------------------- */

struct io_queue {
        struct uext4_queue *queue;
        struct uext4_file *file;
        unsigned depth;
        struct uext4_request *requests;
        struct uext4_completion *completions;
};

static int lib_queue_new(const struct bench *b, union handle file, unsigned depth,
                         struct io_queue **ret_queue)
{
        struct io_queue *q = get_memory(1, sizeof(*q));

        q->file = file.file;
        q->depth = depth;
        q->requests = get_memory(depth, sizeof(*q->requests));
        q->completions = get_memory(depth, sizeof(*q->completions));
        *ret_queue = q;
        return uext4_queue_new(b->fs, depth, &q->queue);
}

static void lib_queue_free(struct io_queue *q)
{
        uext4_queue_free(q->queue);
        free(q->requests);
        free(q->completions);
        free(q);
}

static int lib_queue_submit(struct io_queue *q, struct slot **slots, unsigned nr)
{
        for (unsigned i = 0; i < nr; i++)
                q->requests[i] = (struct uext4_request){
                        .op = slots[i]->write ? UEXT4_WRITE : UEXT4_READ,
                        .flags = slots[i]->durable ? RWF_DSYNC : 0,
                        .file = q->file,
                        .iov = &slots[i]->iov,
                        .nr_iov = 1,
                        .pos = slots[i]->pos,
                        .user_data = slots[i],
                };
        return uext4_queue_submit(q->queue, q->requests, nr);
}

static int lib_queue_wait(struct io_queue *q, struct slot **done)
{
        int nr = uext4_queue_wait(q->queue, q->completions, 1, q->depth, -1);

        for (int i = 0; i < nr; i++) {
                done[i] = q->completions[i].user_data;
                check_whole("request", (ssize_t)q->completions[i].result, done[i]->iov.iov_len);
        }
        return nr;
}

const struct backend backend_lib = {
        .name = "lib",
        .start = lib_start,
        .stop = lib_stop,
        .mkdir = lib_mkdir,
        .opendir = lib_opendir,
        .put = lib_put,
        .rmdir = lib_rmdir,
        .create = lib_create,
        .open = lib_open,
        .stat = lib_stat,
        .close = lib_close,
        .unlink = lib_unlink,
        .read = lib_read,
        .write = lib_write,
        .fdatasync = lib_fdatasync,
        .fallocate = lib_fallocate,
        .syncfs = lib_syncfs,
        .queue_new = lib_queue_new,
        .queue_free = lib_queue_free,
        .queue_submit = lib_queue_submit,
        .queue_wait = lib_queue_wait,
};
