/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * buffered.c - one job of bench/buffered: buffered I/O, and how long it took.
 *
 * The loops are the same over two back ends, so that what differs is the file system: libuext4
 * with a mount of its own, and system calls in a folder where something is mounted.  A process
 * does one job, with an empty cache at its start; who starts it has mounted anew.
 *
 * A line of the output is a measurement: its name, how much was done (bytes, requests or
 * files), seconds.  What a job makes it removes again, and that is not measured.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "uext4.h"

#define CHUNK      (128u << 10) /* of sequential requests, as cp(1) has it */
#define PAGE       4096u        /* of random ones */
#define SMALL_FILE 2048u

#define OVERWRITTEN_PART 8u /* of the file is what is overwritten */

#define OPS_PER_LOOK 64u /* at the clock */

static void fail(const char *what, int err)
{
        fprintf(stderr, "bench-buffered: %s: %s\n", what, strerror(-err));
        exit(1);
}

/* `ret` of a call that may have failed. */
static void check(const char *what, int ret)
{
        if (ret < 0)
                fail(what, ret);
}

/* As a call of the library returns it. */
static ssize_t from_errno(ssize_t ret)
{
        return ret < 0 ? -errno : ret;
}

/* ---- back ends ---------------------------------------------------------- */

/* A directory or a file, of one back end. */
union handle {
        struct uext4_inode *inode;
        struct uext4_file *file;
        int fd;
};

struct backend {
        int (*mkdir)(union handle dir, const char *name, union handle *ret_dir);
        void (*put)(union handle dir);
        int (*rmdir)(union handle dir, const char *name);
        int (*create)(union handle dir, const char *name, union handle *ret_file);
        int (*open)(union handle dir, const char *name, union handle *ret_file);
        void (*close)(union handle file);
        int (*unlink)(union handle dir, const char *name);
        ssize_t (*read)(union handle file, void *buf, size_t len, uint64_t pos);
        ssize_t (*write)(union handle file, const void *buf, size_t len, uint64_t pos);
        int (*fsync)(union handle file);
        int (*syncfs)(union handle root);
};

static struct uext4_fs *fs; /* the mount of the library's back end */

static int lib_mkdir(union handle dir, const char *name, union handle *ret_dir)
{
        return uext4_mkdir(dir.inode, name, strlen(name), 0755, &ret_dir->inode);
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
static int lib_open_inode(struct uext4_inode *inode, union handle *ret_file)
{
        int ret = uext4_open(inode, O_RDWR, &ret_file->file);

        uext4_inode_put(inode);
        return ret;
}

static int lib_create(union handle dir, const char *name, union handle *ret_file)
{
        struct uext4_inode *inode;
        int ret = uext4_create(dir.inode, name, strlen(name), 0644, &inode);

        return ret < 0 ? ret : lib_open_inode(inode, ret_file);
}

static int lib_open(union handle dir, const char *name, union handle *ret_file)
{
        struct uext4_inode *inode;
        int ret = uext4_lookup(dir.inode, name, strlen(name), &inode);

        return ret < 0 ? ret : lib_open_inode(inode, ret_file);
}

static void lib_close(union handle file)
{
        uext4_close(file.file);
}

static int lib_unlink(union handle dir, const char *name)
{
        return uext4_unlink(dir.inode, name, strlen(name));
}

static ssize_t lib_read(union handle file, void *buf, size_t len, uint64_t pos)
{
        return uext4_pread(file.file, buf, len, pos);
}

static ssize_t lib_write(union handle file, const void *buf, size_t len, uint64_t pos)
{
        return uext4_pwrite(file.file, buf, len, pos);
}

static int lib_fsync(union handle file)
{
        return uext4_fsync(file.file);
}

static int lib_syncfs(union handle root)
{
        return uext4_syncfs(fs);
}

static const struct backend lib_backend = {
        .mkdir = lib_mkdir,
        .put = lib_put,
        .rmdir = lib_rmdir,
        .create = lib_create,
        .open = lib_open,
        .close = lib_close,
        .unlink = lib_unlink,
        .read = lib_read,
        .write = lib_write,
        .fsync = lib_fsync,
        .syncfs = lib_syncfs,
};

static int sys_mkdir(union handle dir, const char *name, union handle *ret_dir)
{
        if (mkdirat(dir.fd, name, 0755) < 0)
                return -errno;
        ret_dir->fd = openat(dir.fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        return ret_dir->fd < 0 ? -errno : 0;
}

static void sys_close(union handle any)
{
        close(any.fd);
}

static int sys_rmdir(union handle dir, const char *name)
{
        return (int)from_errno(unlinkat(dir.fd, name, AT_REMOVEDIR));
}

static int sys_create(union handle dir, const char *name, union handle *ret_file)
{
        ret_file->fd = openat(dir.fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
        return ret_file->fd < 0 ? -errno : 0;
}

static int sys_open(union handle dir, const char *name, union handle *ret_file)
{
        ret_file->fd = openat(dir.fd, name, O_RDWR | O_CLOEXEC);
        return ret_file->fd < 0 ? -errno : 0;
}

static int sys_unlink(union handle dir, const char *name)
{
        return (int)from_errno(unlinkat(dir.fd, name, 0));
}

static ssize_t sys_read(union handle file, void *buf, size_t len, uint64_t pos)
{
        return from_errno(pread(file.fd, buf, len, (off_t)pos));
}

static ssize_t sys_write(union handle file, const void *buf, size_t len, uint64_t pos)
{
        return from_errno(pwrite(file.fd, buf, len, (off_t)pos));
}

static int sys_fsync(union handle file)
{
        return (int)from_errno(fsync(file.fd));
}

static int sys_syncfs(union handle root)
{
        return (int)from_errno(syncfs(root.fd));
}

static const struct backend sys_backend = {
        .mkdir = sys_mkdir,
        .put = sys_close,
        .rmdir = sys_rmdir,
        .create = sys_create,
        .open = sys_open,
        .close = sys_close,
        .unlink = sys_unlink,
        .read = sys_read,
        .write = sys_write,
        .fsync = sys_fsync,
        .syncfs = sys_syncfs,
};

/* ---- jobs --------------------------------------------------------------- */

struct bench {
        const struct backend *on;
        union handle root;
        uint64_t amount; /* bytes of the file, or files */
        double runtime;  /* seconds, of the random jobs */
        void *buf;       /* CHUNK bytes */
};

static double now(void)
{
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void report(const char *what, uint64_t amount, double start)
{
        printf("%s %llu %.9f\n", what, (unsigned long long)amount, now() - start);
}

static void whole(const char *what, ssize_t done, size_t len)
{
        if (done < 0)
                fail(what, (int)done);
        if ((size_t)done != len)
                fail(what, -EIO);
}

static size_t chunk_at(const struct bench *b, uint64_t pos)
{
        return b->amount - pos < CHUNK ? (size_t)(b->amount - pos) : CHUNK;
}

static union handle open_data(const struct bench *b)
{
        union handle file;

        check("cannot open data", b->on->open(b->root, "data", &file));
        return file;
}

static void read_all(const struct bench *b, union handle file)
{
        for (uint64_t pos = 0; pos < b->amount; pos += CHUNK) {
                size_t len = chunk_at(b, pos);

                whole("read", b->on->read(file, b->buf, len, pos), len);
        }
}

static void job_write(const struct bench *b)
{
        double start = now();
        union handle file;

        check("create", b->on->create(b->root, "new", &file));
        for (uint64_t pos = 0; pos < b->amount; pos += CHUNK) {
                size_t len = chunk_at(b, pos);

                whole("write", b->on->write(file, b->buf, len, pos), len);
        }
        check("fsync", b->on->fsync(file));
        report("write", b->amount, start);
        b->on->close(file);
        check("unlink", b->on->unlink(b->root, "new"));
}

static void job_read(const struct bench *b)
{
        union handle file = open_data(b);
        double start = now();

        read_all(b, file);
        report("cold", b->amount, start);
        start = now();
        read_all(b, file);
        report("warm", b->amount, start);
        b->on->close(file);
}

/* All pages of the file in a random order, the same in each run. */
static uint32_t *shuffled_pages(uint32_t nr)
{
        uint32_t *pages = calloc(nr, sizeof(*pages));

        if (!pages)
                fail("memory", -ENOMEM);
        srandom(1);
        for (uint32_t i = 0; i < nr; i++) {
                uint32_t other = (uint32_t)random() % (i + 1);

                pages[i] = pages[other];
                pages[other] = i;
        }
        return pages;
}

/* What the random jobs work with. */
struct random_work {
        const struct bench *b;
        union handle file;
        uint32_t *pages; /* shuffled */
        uint32_t nr_pages;
};

static void random_start(struct random_work *w, const struct bench *b)
{
        w->b = b;
        w->nr_pages = (uint32_t)(b->amount / PAGE);
        if (w->nr_pages < OVERWRITTEN_PART)
                fail("too small a file", -EINVAL);
        w->pages = shuffled_pages(w->nr_pages);
        w->file = open_data(b);
}

static void random_done(struct random_work *w)
{
        w->b->on->close(w->file);
        free(w->pages);
}

static void read_page(const struct random_work *w, uint32_t page)
{
        uint64_t pos = (uint64_t)page * PAGE;

        whole("read", w->b->on->read(w->file, w->b->buf, PAGE, pos), PAGE);
}

static void write_page(const struct random_work *w, uint32_t page)
{
        uint64_t pos = (uint64_t)page * PAGE;

        whole("write", w->b->on->write(w->file, w->b->buf, PAGE, pos), PAGE);
}

/* Whether a random job that began at `start` and has made `nr` requests goes on. */
static bool goes_on(const struct random_work *w, uint64_t nr, double start)
{
        return nr % OPS_PER_LOOK != 0 || now() - start < w->b->runtime;
}

static void job_hit(const struct bench *b)
{
        struct random_work w;
        uint64_t nr = 0;
        double start;

        random_start(&w, b);
        read_all(b, w.file);
        start = now();
        do
                read_page(&w, w.pages[nr++ % w.nr_pages]);
        while (goes_on(&w, nr, start));
        report("hit", nr, start);
        random_done(&w);
}

/* Each page at most once. */
static void job_miss(const struct bench *b)
{
        struct random_work w;
        uint64_t nr = 0;
        double start;

        random_start(&w, b);
        start = now();
        do
                read_page(&w, w.pages[nr++]);
        while (nr < w.nr_pages && goes_on(&w, nr, start));
        report("miss", nr, start);
        random_done(&w);
}

/*
 * Making a clean page dirty costs more than writing to one that is: the first has a number of
 * requests, not a time, so that the second has the same pages whoever is measured.
 */
static void job_overwrite(const struct bench *b)
{
        struct random_work w;
        uint32_t nr_dirty;
        uint64_t nr = 0;
        double start;

        random_start(&w, b);
        nr_dirty = w.nr_pages / OVERWRITTEN_PART;
        read_all(b, w.file);
        start = now();
        for (uint32_t i = 0; i < nr_dirty; i++)
                write_page(&w, w.pages[i]);
        report("clean", nr_dirty, start);
        start = now();
        do
                write_page(&w, w.pages[nr++ % nr_dirty]);
        while (goes_on(&w, nr, start));
        report("dirty", nr, start);
        random_done(&w);
}

static const char *small_name(char *buf, size_t size, uint64_t nr)
{
        snprintf(buf, size, "file-%llu", (unsigned long long)nr);
        return buf;
}

static void job_files(const struct bench *b)
{
        double start = now();
        union handle dir, file;
        char name[32];

        check("mkdir", b->on->mkdir(b->root, "small", &dir));
        for (uint64_t i = 0; i < b->amount; i++) {
                check("create", b->on->create(dir, small_name(name, sizeof(name), i), &file));
                whole("write", b->on->write(file, b->buf, SMALL_FILE, 0), SMALL_FILE);
                b->on->close(file);
        }
        check("syncfs", b->on->syncfs(b->root));
        report("files", b->amount, start);
        for (uint64_t i = 0; i < b->amount; i++)
                check("unlink", b->on->unlink(dir, small_name(name, sizeof(name), i)));
        b->on->put(dir);
        check("rmdir", b->on->rmdir(b->root, "small"));
}

static const struct job {
        const char *name;
        void (*run)(const struct bench *b);
} jobs[] = {
        {"write", job_write}, {"read", job_read},           {"hit", job_hit},
        {"miss", job_miss},   {"overwrite", job_overwrite}, {"files", job_files},
};

static const struct job *find_job(const char *name)
{
        for (size_t i = 0; i < sizeof(jobs) / sizeof(*jobs); i++)
                if (strcmp(jobs[i].name, name) == 0)
                        return &jobs[i];
        return NULL;
}

/* ---- main --------------------------------------------------------------- */

static void start_library(struct bench *b, const char *image, const char *options)
{
        struct uext4_mount_params params = {.options = options};

        check(image, uext4_mount(image, &params, &fs));
        check("root", uext4_inode_get(fs, UEXT4_ROOT_INO, 0, &b->root.inode));
        b->on = &lib_backend;
}

static void start_folder(struct bench *b, const char *folder)
{
        b->root.fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (b->root.fd < 0)
                fail(folder, -errno);
        b->on = &sys_backend;
}

int main(int argc, char **argv)
{
        const struct job *job = argc >= 5 && argc <= 6 ? find_job(argv[1]) : NULL;
        struct bench b = {0};

        if (job) {
                b.amount = strtoull(argv[2], NULL, 10);
                b.runtime = strtod(argv[3], NULL);
        }
        if (!job || b.amount == 0) {
                fputs("usage: bench-buffered JOB AMOUNT SECONDS FOLDER\n"
                      "       bench-buffered JOB AMOUNT SECONDS IMAGE MOUNT-OPTIONS\n",
                      stderr);
                return 2;
        }
        b.buf = malloc(CHUNK);
        if (!b.buf)
                fail("memory", -ENOMEM);
        memset(b.buf, 0x5a, CHUNK);
        if (argc == 6)
                start_library(&b, argv[4], argv[5]);
        else
                start_folder(&b, argv[4]);
        job->run(&b);
        b.on->put(b.root);
        free(b.buf);
        if (fs)
                check("unmount", uext4_unmount(fs));
        return 0;
}
