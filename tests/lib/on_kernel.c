/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The part of uext4.h that the exercisers use, by system calls on a directory: an exerciser
 * that is linked with this instead of the library does to a mount what it does to the library,
 * and its model says what must come of it.
 *
 * The directory is ON_KERNEL.  To unmount is to close all files and to run the command
 * ON_KERNEL_AGAIN, if there is one, which may mount anew.  An inode is found by its number
 * again by the file handle that it had when it was seen first, as an NFS server would: it must
 * be good over unmounting.  So this needs root.
 */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/fs.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "uext4.h"

#define PAGE      ((uint64_t)4096)
#define NR_SHARDS 4096

struct uext4_fs {
        int root;
};

struct uext4_inode {
        int fd; /* O_PATH, or that of an open file */
        struct uext4_fs *fs;
};

struct uext4_file {
        struct uext4_inode inode;
};

struct uext4_queue {
        aio_context_t context;
};

struct uext4_loan {
        void *copy;
};

struct uext4_lease {
        char *map;
        size_t len;
};

static void *must(void *p)
{
        if (!p)
                abort();
        return p;
}

static int64_t result_of(int64_t ret)
{
        return ret < 0 ? -errno : ret;
}

/* A path that leads to what is open, for calls that take no O_PATH. */
struct proc_path {
        char text[40];
};

static struct proc_path path_of(int fd)
{
        struct proc_path p;

        snprintf(p.text, sizeof(p.text), "/proc/self/fd/%d", fd);
        return p;
}

/* A name that need not end with a zero byte. */
struct text {
        char bytes[4096];
};

static struct text text_of(const char *name, size_t len)
{
        struct text t;

        if (len >= sizeof(t.bytes))
                abort();
        memcpy(t.bytes, name, len);
        t.bytes[len] = '\0';
        return t;
}

/* ---- mounts ---- */

int uext4_bdev_open(const char *uri, uint32_t flags, uext4_log_fn *log, void *log_arg,
                    struct uext4_bdev **ret_dev)
{
        *ret_dev = NULL;
        return 0;
}

int uext4_bdev_open_buffer(void *mem, uint64_t size, uint32_t flags,
                           struct uext4_bdev **ret_dev)
{
        *ret_dev = NULL;
        return 0;
}

void uext4_bdev_close(struct uext4_bdev *dev)
{
}

int uext4_mount_bdev(struct uext4_bdev *dev, const struct uext4_mount_params *params,
                     struct uext4_fs **ret_fs)
{
        const char *path = getenv("ON_KERNEL");
        struct uext4_fs *fs = must(calloc(1, sizeof(*fs)));

        fs->root = open(path ? path : "", O_RDONLY | O_DIRECTORY);
        if (fs->root < 0) {
                perror("ON_KERNEL");
                exit(1);
        }
        *ret_fs = fs;
        return 0;
}

int uext4_unmount(struct uext4_fs *fs)
{
        const char *again = getenv("ON_KERNEL_AGAIN");

        close(fs->root);
        free(fs);
        return again ? system(again) : 0;
}

int uext4_get_info(struct uext4_fs *fs, struct uext4_info *ret_info)
{
        *ret_info = (struct uext4_info){0};
        return 0;
}

int uext4_syncfs(struct uext4_fs *fs)
{
        return (int)result_of(syncfs(fs->root));
}

/* ---- inodes by number ---- */

struct known {
        struct known *next;
        uint64_t ino;
        struct {
                struct file_handle head;
                unsigned char bytes[MAX_HANDLE_SZ];
        } handle;
};

static struct known *known[NR_SHARDS];
static pthread_mutex_t known_lock = PTHREAD_MUTEX_INITIALIZER;

static struct known *find_locked(uint64_t ino)
{
        struct known *k = known[ino % NR_SHARDS];

        while (k && k->ino != ino)
                k = k->next;
        return k;
}

/* The number may have been another file's. */
static int learn(int fd)
{
        struct known *k, fresh = {.handle.head.handle_bytes = MAX_HANDLE_SZ};
        struct stat st;
        int mount_id;

        if (fstat(fd, &st) < 0 ||
            name_to_handle_at(fd, "", &fresh.handle.head, &mount_id, AT_EMPTY_PATH) < 0)
                return -errno;
        fresh.ino = st.st_ino;
        pthread_mutex_lock(&known_lock);
        k = find_locked(fresh.ino);
        if (k) {
                k->handle = fresh.handle;
        } else {
                fresh.next = known[fresh.ino % NR_SHARDS];
                k = must(malloc(sizeof(*k)));
                *k = fresh;
                known[fresh.ino % NR_SHARDS] = k;
        }
        pthread_mutex_unlock(&known_lock);
        return 0;
}

/* What is open becomes an inode; `fd` may be an error in errno. */
static int new_inode(struct uext4_fs *fs, int fd, struct uext4_inode **ret_inode)
{
        int ret = fd < 0 ? -errno : learn(fd);

        if (ret < 0) {
                if (fd >= 0)
                        close(fd);
                return ret;
        }
        *ret_inode = must(malloc(sizeof(**ret_inode)));
        **ret_inode = (struct uext4_inode){fd, fs};
        return 0;
}

int uext4_inode_get(struct uext4_fs *fs, uint64_t ino, uint64_t incarnation,
                    struct uext4_inode **ret_inode)
{
        struct known k = {0}, *found;

        pthread_mutex_lock(&known_lock);
        found = find_locked(ino);
        if (found)
                k = *found;
        pthread_mutex_unlock(&known_lock);
        if (!found)
                return -ESTALE;
        return new_inode(fs, open_by_handle_at(fs->root, &k.handle.head, O_PATH | O_NOFOLLOW),
                         ret_inode);
}

void uext4_inode_put(struct uext4_inode *inode)
{
        if (!inode)
                return;
        close(inode->fd);
        free(inode);
}

static int open_name(struct uext4_inode *dir, const char *name, struct uext4_inode **ret_inode)
{
        return new_inode(dir->fs, openat(dir->fd, name, O_PATH | O_NOFOLLOW), ret_inode);
}

int uext4_lookup(struct uext4_inode *dir, const char *name, size_t len,
                 struct uext4_inode **ret_inode)
{
        return open_name(dir, text_of(name, len).bytes, ret_inode);
}

int uext4_resolve(struct uext4_fs *fs, const char *path, uint32_t flags,
                  struct uext4_inode **ret_inode)
{
        struct uext4_inode root = {fs->root, fs};

        return open_name(&root, path[1] ? path + 1 : ".", ret_inode);
}

int uext4_stat(struct uext4_inode *inode, struct uext4_stat *ret_st)
{
        struct stat st;

        if (fstat(inode->fd, &st) < 0)
                return -errno;
        *ret_st = (struct uext4_stat){
                .ino = st.st_ino,
                .mode = st.st_mode,
                .nlink = (uint32_t)st.st_nlink,
                .uid = st.st_uid,
                .gid = st.st_gid,
                .rdev_major = major(st.st_rdev),
                .rdev_minor = minor(st.st_rdev),
                .size = (uint64_t)st.st_size,
                .blocks = (uint64_t)st.st_blocks,
        };
        return 0;
}

ssize_t uext4_readlink(struct uext4_inode *inode, char *buf, size_t size)
{
        return (ssize_t)result_of(readlinkat(inode->fd, "", buf, size));
}

ssize_t uext4_getxattr(struct uext4_inode *inode, const char *name, void *buf, size_t size)
{
        return (ssize_t)result_of(getxattr(path_of(inode->fd).text, name, buf, size));
}

int uext4_setxattr(struct uext4_inode *inode, const char *name, const void *value, size_t size,
                   int flags)
{
        return (int)result_of(setxattr(path_of(inode->fd).text, name, value, size, flags));
}

int uext4_removexattr(struct uext4_inode *inode, const char *name)
{
        return (int)result_of(removexattr(path_of(inode->fd).text, name));
}

/* Each call stands for itself: the cookie is all that it knows. */
int uext4_readdir(struct uext4_inode *dir, uint64_t *cookie, struct uext4_dirent *ret_entry)
{
        int fd = openat(dir->fd, ".", O_RDONLY | O_DIRECTORY), ret;
        _Alignas(struct dirent64) char buf[512];
        const struct dirent64 *e = (const void *)buf;

        if (fd < 0)
                return -errno;
        ret = lseek(fd, (off_t)*cookie, SEEK_SET) < 0
                      ? -errno
                      : (int)result_of(getdents64(fd, buf, sizeof(buf)));
        close(fd);
        if (ret <= 0)
                return ret;
        *ret_entry = (struct uext4_dirent){.ino = e->d_ino,
                                           .cookie = (uint64_t)e->d_off,
                                           .type = e->d_type,
                                           .name_len = (uint16_t)strlen(e->d_name)};
        memcpy(ret_entry->name, e->d_name, ret_entry->name_len + 1u);
        *cookie = (uint64_t)e->d_off;
        return 1;
}

/* ---- names ---- */

/* What a call has made; the caller may not want to know. */
static int made(struct uext4_inode *dir, int ret, const char *name,
                struct uext4_inode **ret_inode)
{
        if (ret < 0)
                return -errno;
        return ret_inode ? open_name(dir, name, ret_inode) : 0;
}

int uext4_create(struct uext4_inode *dir, const char *name, size_t len, uint32_t mode,
                 struct uext4_inode **ret_inode)
{
        const struct text t = text_of(name, len);
        int fd = openat(dir->fd, t.bytes, O_CREAT | O_EXCL | O_RDWR, mode);

        if (fd < 0)
                return -errno;
        close(fd);
        return made(dir, 0, t.bytes, ret_inode);
}

int uext4_mknod(struct uext4_inode *dir, const char *name, size_t len, uint32_t mode,
                uint32_t rdev_major, uint32_t rdev_minor, struct uext4_inode **ret_inode)
{
        const struct text t = text_of(name, len);

        return made(dir, mknodat(dir->fd, t.bytes, mode, makedev(rdev_major, rdev_minor)),
                    t.bytes, ret_inode);
}

int uext4_mkdir(struct uext4_inode *dir, const char *name, size_t len, uint32_t mode,
                struct uext4_inode **ret_inode)
{
        const struct text t = text_of(name, len);

        return made(dir, mkdirat(dir->fd, t.bytes, mode), t.bytes, ret_inode);
}

int uext4_symlink(struct uext4_inode *dir, const char *name, size_t len, const char *target,
                  size_t target_len, struct uext4_inode **ret_inode)
{
        const struct text t = text_of(name, len), to = text_of(target, target_len);

        return made(dir, symlinkat(to.bytes, dir->fd, t.bytes), t.bytes, ret_inode);
}

int uext4_tmpfile(struct uext4_inode *dir, uint32_t mode, int flags,
                  struct uext4_inode **ret_inode)
{
        return new_inode(dir->fs, openat(dir->fd, ".", O_TMPFILE | O_RDWR | flags, mode),
                         ret_inode);
}

int uext4_link(struct uext4_inode *inode, struct uext4_inode *dir, const char *name, size_t len)
{
        return (int)result_of(
                linkat(inode->fd, "", dir->fd, text_of(name, len).bytes, AT_EMPTY_PATH));
}

int uext4_unlink(struct uext4_inode *dir, const char *name, size_t len)
{
        return (int)result_of(unlinkat(dir->fd, text_of(name, len).bytes, 0));
}

int uext4_rmdir(struct uext4_inode *dir, const char *name, size_t len)
{
        return (int)result_of(unlinkat(dir->fd, text_of(name, len).bytes, AT_REMOVEDIR));
}

int uext4_rename(struct uext4_inode *old_dir, const char *old_name, size_t old_len,
                 struct uext4_inode *new_dir, const char *new_name, size_t new_len,
                 unsigned flags)
{
        const struct text from = text_of(old_name, old_len), to = text_of(new_name, new_len);

        return (int)result_of(renameat2(old_dir->fd, from.bytes, new_dir->fd, to.bytes, flags));
}

/* ---- files ---- */

int uext4_open_path(struct uext4_fs *fs, const char *path, int flags,
                    struct uext4_file **ret_file)
{
        int fd = openat(fs->root, path + 1, flags | O_CREAT, 0600);

        if (fd < 0)
                return -errno;
        *ret_file = must(malloc(sizeof(**ret_file)));
        (*ret_file)->inode = (struct uext4_inode){fd, fs};
        return 0;
}

void uext4_close(struct uext4_file *file)
{
        close(file->inode.fd);
        free(file);
}

struct uext4_inode *uext4_file_inode(struct uext4_file *file)
{
        return &file->inode;
}

static int fd_of(const struct uext4_file *file)
{
        return file->inode.fd;
}

ssize_t uext4_pread(struct uext4_file *file, void *buf, size_t len, uint64_t pos)
{
        return (ssize_t)result_of(pread(fd_of(file), buf, len, (off_t)pos));
}

ssize_t uext4_pwrite(struct uext4_file *file, const void *buf, size_t len, uint64_t pos)
{
        return (ssize_t)result_of(pwrite(fd_of(file), buf, len, (off_t)pos));
}

ssize_t uext4_pwritev2(struct uext4_file *file, const struct iovec *iov, int nr_iov,
                       uint64_t pos, int flags)
{
        return (ssize_t)result_of(pwritev2(fd_of(file), iov, nr_iov, (off_t)pos, flags));
}

ssize_t uext4_copy_range(struct uext4_file *in, uint64_t in_pos, struct uext4_file *out,
                         uint64_t out_pos, size_t len)
{
        off64_t from = (off64_t)in_pos, to = (off64_t)out_pos;

        return (ssize_t)result_of(copy_file_range(fd_of(in), &from, fd_of(out), &to, len, 0));
}

int uext4_truncate(struct uext4_file *file, uint64_t size)
{
        return (int)result_of(ftruncate(fd_of(file), (off_t)size));
}

int uext4_fallocate(struct uext4_file *file, int mode, uint64_t pos, uint64_t len)
{
        return (int)result_of(fallocate(fd_of(file), mode, (off_t)pos, (off_t)len));
}

int uext4_fsync(struct uext4_file *file)
{
        return (int)result_of(fsync(fd_of(file)));
}

int uext4_fdatasync(struct uext4_file *file)
{
        return (int)result_of(fdatasync(fd_of(file)));
}

int64_t uext4_seek(struct uext4_file *file, uint64_t pos, int whence)
{
        return result_of(lseek(fd_of(file), (off_t)pos, whence));
}

/* ---- files as memory ---- */

/* At most len bytes from pos on that the file has; the map begins at a page. */
static int64_t map(struct uext4_file *file, uint64_t pos, uint64_t len, int prot,
                   struct uext4_lease *ret_map)
{
        struct stat st;
        uint64_t size, start = pos / PAGE * PAGE;

        if (fstat(fd_of(file), &st) < 0)
                return -errno;
        size = (uint64_t)st.st_size;
        if (pos >= size)
                return 0;
        len = size - pos < len ? size - pos : len;
        ret_map->len = (size_t)(pos + len - start);
        ret_map->map = mmap(NULL, ret_map->len, prot, MAP_SHARED, fd_of(file), (off_t)start);
        return ret_map->map == MAP_FAILED ? -errno : (int64_t)len;
}

/* A copy: pages behind the end of a file that has become shorter cannot be touched. */
ssize_t uext4_lend(struct uext4_file *file, uint64_t pos, size_t len, struct iovec *iov,
                   int max_iov, struct uext4_loan **ret_loan)
{
        struct uext4_lease m;
        int64_t n = map(file, pos, len, PROT_READ, &m);

        if (n <= 0)
                return (ssize_t)n;
        *ret_loan = must(malloc(sizeof(**ret_loan)));
        (*ret_loan)->copy = must(malloc((size_t)n));
        memcpy((*ret_loan)->copy, m.map + pos % PAGE, (size_t)n);
        munmap(m.map, m.len);
        *iov = (struct iovec){(*ret_loan)->copy, (size_t)n};
        return (ssize_t)n;
}

void uext4_loan_end(struct uext4_loan *loan)
{
        free(loan->copy);
        free(loan);
}

ssize_t uext4_map_lease(struct uext4_file *file, const struct uext4_lease_params *params,
                        void **ret_addr, struct uext4_lease **ret_lease)
{
        int prot = PROT_READ | (params->flags & UEXT4_LEASE_WRITE ? PROT_WRITE : 0);
        struct uext4_lease m;
        int64_t n = map(file, params->pos, params->len, prot, &m);

        if (n <= 0)
                return n < 0 ? (ssize_t)n : -ENXIO;
        *ret_lease = must(malloc(sizeof(m)));
        **ret_lease = m;
        *ret_addr = m.map + params->pos % PAGE;
        return (ssize_t)n;
}

void uext4_unmap_lease(struct uext4_lease *lease)
{
        munmap(lease->map, lease->len);
        free(lease);
}

/* ---- queues: the kernel's asynchronous I/O ---- */

int uext4_queue_new(struct uext4_fs *fs, unsigned depth, struct uext4_queue **ret_queue)
{
        struct uext4_queue *q = must(calloc(1, sizeof(*q)));

        if (syscall(SYS_io_setup, depth, &q->context) < 0) {
                free(q);
                return -errno;
        }
        *ret_queue = q;
        return 0;
}

void uext4_queue_free(struct uext4_queue *queue)
{
        syscall(SYS_io_destroy, queue->context);
        free(queue);
}

int uext4_queue_submit(struct uext4_queue *queue, const struct uext4_request *reqs, unsigned nr)
{
        for (unsigned i = 0; i < nr; i++) {
                struct iocb iocb = {
                        .aio_data = (uintptr_t)reqs[i].user_data,
                        .aio_lio_opcode =
                                reqs[i].op == UEXT4_WRITE ? IOCB_CMD_PWRITEV : IOCB_CMD_PREADV,
                        .aio_rw_flags = reqs[i].flags,
                        .aio_fildes = (uint32_t)fd_of(reqs[i].file),
                        .aio_buf = (uintptr_t)reqs[i].iov,
                        .aio_nbytes = (uint64_t)reqs[i].nr_iov,
                        .aio_offset = (int64_t)reqs[i].pos,
                };
                struct iocb *list[] = {&iocb};

                if (syscall(SYS_io_submit, queue->context, 1L, list) != 1)
                        return -errno;
        }
        return (int)nr;
}

int uext4_queue_wait(struct uext4_queue *queue, struct uext4_completion *completions,
                     unsigned min, unsigned max, int64_t timeout_ns)
{
        struct io_event events[64];
        long nr = syscall(SYS_io_getevents, queue->context, (long)min,
                          (long)(max < 64 ? max : 64), events, NULL);

        for (long i = 0; i < nr; i++)
                completions[i] = (struct uext4_completion){(void *)(uintptr_t)events[i].data,
                                                           events[i].res};
        return (int)result_of(nr);
}
