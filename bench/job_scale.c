/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * job_scale.c - what it costs when there is more of something (worker.h).
 *
 * Two jobs make what the others measure: `pieces` a file of many extents, `fill` a directory of
 * many names.  The image then is anybody's to mount.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "worker.h"

#define OPS_PER_LOOK 16u
#define NR_SOUGHT    1000u /* names, of those that are there */

static const char *name_of(char *buf, size_t size, uint64_t nr)
{
        snprintf(buf, size, "name-%llu", (unsigned long long)nr);
        return buf;
}

/* ---- extents ------------------------------------------------------------- */

/* The file `data`: preallocated, and `size` bytes of it written; with `piece` every other piece
 * of that many bytes. */
static void job_pieces(struct bench *b)
{
        const uint64_t piece = b->p.piece ? b->p.piece : b->p.size;
        const uint64_t step = b->p.piece ? 2 * piece : piece;
        const uint64_t end = b->p.piece ? 2 * b->p.size : b->p.size;
        union handle file;

        check("create", b->on->create(b->root, "data", 0, &file));
        check("fallocate", b->on->fallocate(file, end));
        for (uint64_t from = 0; from < end; from += step) {
                for (uint64_t done = 0; done < piece;) {
                        const size_t len =
                                piece - done < CHUNK ? (size_t)(piece - done) : CHUNK;

                        check_whole("write",
                                    b->on->write(file, b->buf, len, from + done, false), len);
                        done += len;
                }
        }
        check("fdatasync", b->on->fdatasync(file));
        b->on->close(file);
}

/* ---- names --------------------------------------------------------------- */

static void job_fill(struct bench *b)
{
        union handle dir, file;
        char name[32];

        check("mkdir", b->on->mkdir(b->root, "names", &dir));
        for (uint64_t i = 0; i < b->p.files; i++) {
                check("create", b->on->create(dir, name_of(name, sizeof(name), i), 0, &file));
                b->on->close(file);
        }
        b->on->put(dir);
}

/* Some of the names that are there, spread over all of them, again and again, which is how a
 * program uses a directory. */
static void look_for_present(const struct bench *b, union handle dir, double seconds,
                             const char *what)
{
        const uint64_t nr_sought = b->p.files < NR_SOUGHT ? b->p.files : NR_SOUGHT;
        const uint64_t apart = b->p.files / nr_sought;
        const double start = now();
        uint64_t nr = 0;
        char name[32];

        while (nr % NR_SOUGHT || now() - start < seconds) {
                name_of(name, sizeof(name), nr++ % nr_sought * apart);
                check("stat", b->on->stat(dir, name));
        }
        if (what)
                report(what, nr, now() - start);
}

/* Names that are not there, another one each time, so that nobody has an answer from before. */
static void look_for_absent(const struct bench *b, union handle dir)
{
        const double start = now();
        uint64_t nr = 0;
        char name[32];

        while (nr % OPS_PER_LOOK || now() - start < b->p.seconds) {
                name_of(name, sizeof(name), b->p.files + nr++);
                if (b->on->stat(dir, name) != -ENOENT)
                        fail("a name that is not there", -EEXIST);
        }
        report("absent", nr, now() - start);
}

static void job_lookup(struct bench *b)
{
        union handle dir;

        check("names", b->on->opendir(b->root, "names", &dir));
        look_for_present(b, dir, b->p.seconds / 4, NULL);
        look_for_present(b, dir, b->p.seconds, "present");
        look_for_absent(b, dir);
        b->on->put(dir);
}

/* ---- open files ---------------------------------------------------------- */

/* Small direct reads of `files` open files in turn, `size` bytes in all. */
static void job_open(struct bench *b)
{
        const uint32_t nr = (uint32_t)b->p.files;
        const uint64_t each = b->p.size / nr / PAGE * PAGE;
        union handle *files = get_memory(nr, sizeof(*files));
        uint32_t *order = shuffled(nr);
        uint64_t done = 0;
        char name[32];
        double start;

        for (uint32_t i = 0; i < nr; i++) {
                check("create", b->on->create(b->root, name_of(name, sizeof(name), i), O_DIRECT,
                                              &files[i]));
                for (uint64_t pos = 0; pos < each; pos += PAGE)
                        check_whole("write", b->on->write(files[i], b->buf, PAGE, pos, false),
                                    PAGE);
        }
        check("syncfs", b->on->syncfs(b));
        start = now();
        while (done % OPS_PER_LOOK || now() - start < b->p.seconds) {
                uint64_t pos = done / nr * 7919 * PAGE % each;

                check_whole("read", b->on->read(files[order[done % nr]], b->buf, PAGE, pos),
                            PAGE);
                done++;
        }
        report("open", done, now() - start);
        for (uint32_t i = 0; i < nr; i++) {
                b->on->close(files[i]);
                check("unlink", b->on->unlink(b->root, name_of(name, sizeof(name), i)));
        }
        free(order);
        free(files);
}

/* ---- mounting ------------------------------------------------------------ */

/* Makes the first file of a mount; then what the mount costs that nobody asks for a figure. */
static void first_calls(struct uext4_fs *fs, bool writes)
{
        struct uext4_inode *root, *inode;
        struct statvfs st;
        double start = now();

        check("root", uext4_inode_get(fs, UEXT4_ROOT_INO, 0, &root));
        if (writes) {
                check("create", uext4_create(root, "new", 3, 0644, &inode));
                uext4_inode_put(inode);
                check("syncfs", uext4_syncfs(fs));
                report("create", 1, now() - start);
                check("unlink", uext4_unlink(root, "new", 3));
        }
        uext4_inode_put(root);
        start = now();
        check("statfs", uext4_statfs(fs, &st));
        report("statfs", 1, now() - start);
}

/* For the library alone: it counts what is read, too. */
static void job_mount(struct bench *b)
{
        struct uext4_mount_params params = {.options = b->p.mount};
        const bool writes = b->p.mount[1] == 'w';
        struct uext4_bdev_counts counts;
        struct uext4_bdev *dev;
        struct uext4_fs *fs;
        double start;

        check("unmount", b->on->stop(b));
        check("device", uext4_bdev_open(b->path, writes ? 0 : UEXT4_BDEV_OPEN_READONLY, NULL,
                                        NULL, &dev));
        check("trace", uext4_bdev_open_trace(dev, 0, &dev));
        start = now();
        check("mount", uext4_mount_bdev(dev, &params, &fs));
        report("mount", 1, now() - start);
        uext4_bdev_trace_counts(dev, &counts);
        report("bytes", counts.bytes[UEXT4_BDEV_READ], 1);
        first_calls(fs, writes);
        start = now();
        check("unmount", uext4_unmount(fs));
        report("unmount", 1, now() - start);
        uext4_bdev_close(dev);
        check("mount", b->on->start(b));
}

const struct job scale_jobs[] = {
        {"pieces", job_pieces}, {"fill", job_fill},   {"lookup", job_lookup},
        {"open", job_open},     {"mount", job_mount}, {NULL, NULL},
};
