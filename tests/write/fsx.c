/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * One file, random operations, and a model of it in memory; in the manner of fsx.
 *
 *      fsx CONFIG [-n OPERATIONS] [-s SEED] [-u UNIT] [-m MODE] [-v]
 *
 * The device is memory whose free space is full of a pattern, so that a stale byte is seen.
 * Reads are compared with the model; every so often the file system is unmounted, given to
 * e2fsck -fn, and mounted again.  Writes are direct, buffered, and batches on a queue, which a
 * truncation may follow before they are waited for.  Reads are direct, buffered, and loans of
 * cached pages, some of which are kept while other things happen to the file.
 *
 * Linked with ../lib/on_kernel.c it does the same to a file of a mounted directory; the
 * configuration is "kernel" then, and has what a FUSE file system can.
 *
 * UNIT bounds positions and lengths of direct I/O to its multiples.  MODE is a word of
 * "direct", "buffered", "mixed".
 */

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <linux/falloc.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../lib/host.h"
#include "uext4.h"

#define MAX_SIZE (1u << 20) /* of the file */
#define DEPTH    16
#define STALE    0xa5
#define MAX_LOAN 16 /* pieces */
#define NR_KEPT  4

struct config {
        const char *name;
        const char *mkfs;  /* options of mke2fs; NULL: there is no image to be made */
        const char *mount; /* beside rw */
        unsigned mib;
        bool has_extents;
        unsigned cluster; /* bytes: what collapse and insert are aligned to; 0: neither */
        unsigned filler;  /* blocks that another file has */
        bool has_leases;  /* files can be used as memory */
};

#define FEATURES "extents,huge_file,flex_bg,64bit,dir_nlink,extra_isize,metadata_csum"

static const struct config configs[] = {
        {"4k", "-b 4096 -O has_journal," FEATURES, "", 32, true, 4096},
        {"1k", "-b 1024 -O has_journal," FEATURES, "", 24, true, 1024},
        {"64k", "-b 65536 -O has_journal," FEATURES, "", 300, true, 65536},
        {"ext3", "-b 1024 -O none,has_journal,sparse_super,large_file", "", 24, false, 1024},
        {"ext3-4k", "-b 4096 -O none,has_journal,sparse_super,large_file", "", 32, false, 4096},
        {"ext2", "-b 1024 -O none,sparse_super,large_file", "", 16, false, 1024},
        {"nojournal", "-b 4096 -O ^has_journal," FEATURES, "", 16, true, 4096},
        {"data-journal", "-b 4096 -O has_journal," FEATURES, ",data=journal", 32, true, 4096},
        {"data-journal-ext3", "-b 1024 -O none,has_journal,sparse_super,large_file",
         ",data=journal", 24, false, 1024},
        {"data-journal-bigalloc", "-b 1024 -C 8192 -O bigalloc,has_journal," FEATURES,
         ",data=journal", 32, true, 8192},
        {"data-journal-inline", "-b 1024 -I 512 -O inline_data,has_journal," FEATURES,
         ",data=journal", 24, true, 1024},
        {"data-journal-full", "-b 1024 -m 0 -N 16 -J size=1 -O has_journal," FEATURES,
         ",data=journal", 3, true, 1024, .filler = 1400},
        {"data-writeback", "-b 4096 -O has_journal," FEATURES, ",data=writeback", 32, true,
         4096},
        {"bigalloc", "-b 4096 -C 65536 -O bigalloc,has_journal," FEATURES, "", 64, true, 65536},
        {"bigalloc-1k", "-b 1024 -C 8192 -O bigalloc,has_journal," FEATURES, "", 32, true,
         8192},
        {"inline", "-b 4096 -I 512 -O inline_data,has_journal," FEATURES, "", 32, true, 4096},
        {"dax", "-b 4096 -O has_journal," FEATURES, ",dax", 32, true, 4096, .has_leases = true},
        {"dax-1k", "-b 1024 -O has_journal," FEATURES, ",dax", 24, true, 1024,
         .has_leases = true},
        {"dax-ext3", "-b 1024 -O none,has_journal,sparse_super,large_file", ",dax", 24, false,
         1024, .has_leases = true},
        {"dax-bigalloc", "-b 1024 -C 8192 -O bigalloc,has_journal," FEATURES, ",dax", 32, true,
         8192, .has_leases = true},
        {"dax-nojournal", "-b 4096 -O ^has_journal," FEATURES, ",dax", 16, true, 4096,
         .has_leases = true},
        {"dax-full", "-b 1024 -m 0 -N 16 -J size=1 -O has_journal," FEATURES, ",dax", 3, true,
         1024, .filler = 1400, .has_leases = true},
        {"full", "-b 1024 -m 0 -N 16 -J size=1 -O has_journal," FEATURES, "", 3, true, 1024,
         .filler = 1400},
        /* Folios come and go in the middle of everything. */
        {"tiny-cache", "-b 4096 -O has_journal," FEATURES, ",page_cache=1M", 32, true, 4096},
        {"tiny-cache-1k", "-b 1024 -O has_journal," FEATURES, ",page_cache=1M,nodelalloc", 24,
         true, 1024},
        {"tiny-cache-ext3", "-b 1024 -O none,has_journal,sparse_super,large_file",
         ",page_cache=1M", 24, false, 1024},
        {"tiny-cache-full", "-b 1024 -m 0 -N 16 -J size=1 -O has_journal," FEATURES,
         ",page_cache=1M", 3, true, 1024, .filler = 1400},
        {"nodelalloc", "-b 4096 -O has_journal," FEATURES, ",nodelalloc", 32, true, 4096},
        {"kernel", NULL, "", 0, true, 0, .has_leases = true},
};

/* What random operations there are. */
enum mode {
        DIRECT,
        BUFFERED,
        MIXED,
};

/* Bytes of the cache on loan. */
struct loan {
        struct uext4_loan *loan; /* NULL: none */
        struct iovec iov[MAX_LOAN];
        int64_t len;
};

struct run {
        const struct config *config;
        enum mode mode;
        unsigned unit; /* of direct I/O */
        bool verbose;
        uint64_t seed, random;
        unsigned nr; /* of the operation */

        uint8_t *image;
        size_t image_size;
        struct uext4_bdev *dev;
        struct uext4_fs *fs;
        struct uext4_file *direct, *buffered;
        struct uext4_queue *queue;
        struct loan kept[NR_KEPT];

        uint8_t model[MAX_SIZE];
        uint64_t size;
        uint8_t *buf;             /* MAX_SIZE, aligned */
        uint64_t nr_full, nr_run; /* operations that met -ENOSPC; that were done */
};

static void fail(struct run *r, const char *what, int64_t got, int64_t want)
{
        fprintf(stderr,
                "operation %u: %s: %" PRId64 " instead of %" PRId64
                "\nrepeat: fsx %s -s %" PRIu64 " -n %u -u %u -m %s -v\n",
                r->nr, what, got, want, r->config->name, r->seed, r->nr + 1, r->unit,
                r->mode == DIRECT     ? "direct"
                : r->mode == BUFFERED ? "buffered"
                                      : "mixed");
        exit(1);
}

static void check(struct run *r, const char *what, int64_t got, int64_t want)
{
        if (got != want)
                fail(r, what, got, want);
}

static uint32_t rnd(struct run *r, uint32_t below)
{
        r->random = r->random * 6364136223846793005u + 1442695040888963407u;
        return below ? (uint32_t)((r->random >> 33) % below) : 0;
}

static void say(struct run *r, const char *what, uint64_t pos, uint64_t len)
{
        if (r->verbose)
                fprintf(stderr, "%u: %s %" PRIu64 " +%" PRIu64 " (size %" PRIu64 ")\n", r->nr,
                        what, pos, len, r->size);
}

/* ---- the file system ---- */

static void run_command(struct run *r, const char *command)
{
        int ret = system(command);

        if (ret != 0) {
                fprintf(stderr, "%s\n", command);
                fail(r, "the command above", ret, 0);
        }
}

static void make_image(struct run *r)
{
        struct host_file f;
        char command[1024];

        if (!r->config->mkfs)
                return;
        r->image_size = (size_t)r->config->mib << 20;
        r->image = malloc(r->image_size);
        memset(r->image, STALE, r->image_size);
        f = host_file_new(r->image, r->image_size);
        snprintf(command, sizeof(command),
                 "MKE2FS_CONFIG=/dev/null mke2fs -q -F -E nodiscard,lazy_itable_init=0 %s %s "
                 ">/dev/null 2>&1",
                 r->config->mkfs, f.path);
        run_command(r, command);
        snprintf(command, sizeof(command),
                 "debugfs -w -R 'write /dev/null file' %s >/dev/null 2>&1", f.path);
        run_command(r, command);
        if (r->config->filler) {
                snprintf(command, sizeof(command),
                         "printf 'write /dev/null filler\\nfallocate filler 0 %u\\n' | "
                         "debugfs -w -f /dev/stdin %s >/dev/null 2>&1",
                         r->config->filler - 1, f.path);
                run_command(r, command);
        }
        memset(r->image, 0, r->image_size);
        host_file_read(&f, r->image, r->image_size);
        host_file_close(&f);
}

static void fsck(struct run *r)
{
        int status;
        char *text;

        if (!r->image)
                return;
        text = host_fsck(r->image, r->image_size, NULL, &status);
        if (status != 0) {
                fprintf(stderr, "%s\n", text);
                fail(r, "e2fsck", status, 0);
        }
        free(text);
}

static void mount_fs(struct run *r)
{
        char options[64];
        struct uext4_mount_params params = {.options = options};

        snprintf(options, sizeof(options), "rw%s", r->config->mount);
        check(r, "open device", uext4_bdev_open_buffer(r->image, r->image_size, 0, &r->dev), 0);
        check(r, "mount", uext4_mount_bdev(r->dev, &params, &r->fs), 0);
        check(r, "open", uext4_open_path(r->fs, "/file", O_RDWR | O_DIRECT, &r->direct), 0);
        check(r, "open", uext4_open_path(r->fs, "/file", O_RDWR, &r->buffered), 0);
        check(r, "queue", uext4_queue_new(r->fs, DEPTH, &r->queue), 0);
}

static void unmount_fs(struct run *r)
{
        uext4_queue_free(r->queue);
        uext4_close(r->direct);
        uext4_close(r->buffered);
        check(r, "unmount", uext4_unmount(r->fs), 0);
        uext4_bdev_close(r->dev);
        fsck(r);
}

/* ---- the model ---- */

static void model_write(struct run *r, uint64_t pos, const uint8_t *bytes, uint64_t len)
{
        memcpy(r->model + pos, bytes, len);
        if (pos + len > r->size)
                r->size = pos + len;
}

/* Bytes behind the size are zeros, always. */
static void model_truncate(struct run *r, uint64_t size)
{
        if (size < r->size)
                memset(r->model + size, 0, r->size - size);
        r->size = size;
}

static void compare(struct run *r, const char *what, uint64_t pos, int64_t got)
{
        for (int64_t i = 0; i < got; i++) {
                if (r->buf[i] != r->model[pos + (uint64_t)i]) {
                        fprintf(stderr, "byte %" PRIu64 " (size %" PRIu64 ")\n",
                                pos + (uint64_t)i, r->size);
                        fail(r, what, r->buf[i], r->model[pos + (uint64_t)i]);
                }
        }
}

/* ---- operations ---- */

static bool is_direct(struct run *r)
{
        return r->mode == DIRECT || (r->mode == MIXED && rnd(r, 2));
}

/* A range; of multiples of `unit`; small or large. */
static void range(struct run *r, unsigned unit, uint64_t *pos, uint64_t *len)
{
        static const unsigned max[] = {512, 4096, 16384, 262144, MAX_SIZE / 2};
        uint64_t end;

        *pos = rnd(r, MAX_SIZE - unit);
        if (rnd(r, 4) == 0 && r->size < MAX_SIZE - unit)
                *pos = r->size; /* the end is where things happen */
        *len = 1 + rnd(r, max[rnd(r, sizeof(max) / sizeof(max[0]))]);
        *pos -= *pos % unit;
        *len += unit - 1;
        *len -= *len % unit;
        end = *pos + *len < MAX_SIZE ? *pos + *len : MAX_SIZE;
        *len = end - *pos;
}

static void fill(struct run *r, uint8_t *bytes, uint64_t len)
{
        uint8_t b = (uint8_t)(r->nr * 7 + 1);

        for (uint64_t i = 0; i < len; i++)
                bytes[i] = (uint8_t)(b + i / 512) == STALE ? 1 : (uint8_t)(b + i / 512);
}

static int random_flags(struct run *r)
{
        static const int flags[] = {0, 0, 0, RWF_DSYNC, RWF_SYNC, RWF_HIPRI};

        return flags[rnd(r, sizeof(flags) / sizeof(flags[0]))];
}

static void do_write(struct run *r)
{
        bool direct = is_direct(r);
        struct iovec iov[3];
        uint64_t pos, len, cut;
        int64_t ret;

        range(r, direct ? r->unit : 1, &pos, &len);
        say(r, direct ? "write direct" : "write buffered", pos, len);
        fill(r, r->buf, len);
        cut = rnd(r, (uint32_t)len);
        iov[0] = (struct iovec){r->buf, cut};
        iov[1] = (struct iovec){NULL, 0};
        iov[2] = (struct iovec){r->buf + cut, len - cut};
        ret = uext4_pwritev2(direct ? r->direct : r->buffered, iov, 3, pos, random_flags(r));
        if (ret == -ENOSPC) {
                r->nr_full++;
                return;
        }
        if (ret > 0 && (uint64_t)ret < len) { /* space ran out behind it */
                r->nr_full++;
                len = (uint64_t)ret;
        }
        check(r, "write", ret, (int64_t)len);
        model_write(r, pos, r->buf, len);
}

static void do_append(struct run *r)
{
        uint64_t pos, len;
        int64_t ret;

        range(r, 1, &pos, &len);
        if (len > MAX_SIZE - r->size)
                len = MAX_SIZE - r->size;
        if (r->mode == DIRECT || len == 0)
                return;
        say(r, "append", r->size, len);
        fill(r, r->buf, len);
        ret = uext4_pwritev2(r->buffered, &(struct iovec){r->buf, len}, 1, pos, RWF_APPEND);
        if (ret == -ENOSPC) {
                r->nr_full++;
                return;
        }
        if (ret < 1 || (uint64_t)ret > len)
                fail(r, "append", ret, (int64_t)len);
        model_write(r, r->size, r->buf, (uint64_t)ret);
}

static void do_read(struct run *r)
{
        bool direct = is_direct(r);
        uint64_t pos, len;
        int64_t want, ret;

        range(r, direct ? r->unit : 1, &pos, &len);
        say(r, direct ? "read direct" : "read buffered", pos, len);
        want = pos >= r->size ? 0 : (int64_t)(r->size - pos < len ? r->size - pos : len);
        memset(r->buf, STALE, len);
        ret = uext4_pread(direct ? r->direct : r->buffered, r->buf, len, pos);
        check(r, "read", ret, want);
        compare(r, "read", pos, ret);
}

static void do_truncate(struct run *r)
{
        uint64_t pos, len;
        int ret;

        range(r, r->mode == DIRECT ? r->unit : 1, &pos, &len);
        say(r, "truncate", pos, 0);
        ret = uext4_truncate(r->direct, pos);
        check(r, "truncate", ret, 0);
        model_truncate(r, pos);
}

/* What stays of a fallocate() that ran out of space is the space, and perhaps the size. */
static bool fallocate_ok(struct run *r, int ret, const char *what)
{
        struct uext4_stat st;

        if (ret != -ENOSPC) {
                check(r, what, ret, 0);
                return true;
        }
        r->nr_full++;
        check(r, "stat", uext4_stat(uext4_file_inode(r->direct), &st), 0);
        if (st.size < r->size)
                fail(r, "size after -ENOSPC", (int64_t)st.size, (int64_t)r->size);
        r->size = st.size;
        return false;
}

static void do_allocate(struct run *r)
{
        int keep = rnd(r, 2) ? FALLOC_FL_KEEP_SIZE : 0;
        uint64_t pos, len;

        range(r, 1, &pos, &len);
        say(r, keep ? "allocate, keep size" : "allocate", pos, len);
        if (fallocate_ok(r, uext4_fallocate(r->direct, keep, pos, len), "allocate") && !keep &&
            pos + len > r->size)
                r->size = pos + len;
}

static void model_zero(struct run *r, uint64_t pos, uint64_t len)
{
        if (pos < r->size)
                memset(r->model + pos, 0, r->size - pos < len ? r->size - pos : len);
}

static void do_zero_range(struct run *r)
{
        int keep = rnd(r, 2) ? FALLOC_FL_KEEP_SIZE : 0;
        int mode = rnd(r, 4) == 0 && r->config->mkfs ? 0x80 : FALLOC_FL_ZERO_RANGE;
        uint64_t pos, len;
        int ret;

        if (mode == 0x80)
                keep = 0;
        range(r, 1, &pos, &len);
        say(r, keep ? "zero range, keep size" : "zero range", pos, len);
        ret = uext4_fallocate(r->direct, mode | keep, pos, len);
        if (ret == -ENOSPC) { /* how much of it became zeros is open */
                (void)fallocate_ok(r, ret, "zero range");
                check(r, "read back", uext4_pread(r->buffered, r->model, r->size, 0),
                      (int64_t)r->size);
                return;
        }
        check(r, "zero range", ret, 0);
        model_zero(r, pos, len);
        if (!keep && pos + len > r->size)
                r->size = pos + len;
}

static void do_punch(struct run *r)
{
        uint64_t pos, len;

        range(r, 1, &pos, &len);
        say(r, "punch", pos, len);
        check(r, "punch",
              uext4_fallocate(r->direct, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, pos, len),
              0);
        model_zero(r, pos, len);
}

static void do_collapse(struct run *r)
{
        uint64_t pos, len;

        if (r->config->cluster == 0)
                return;
        range(r, r->config->cluster, &pos, &len);
        if (len == 0 || pos + len >= r->size)
                return;
        say(r, "collapse", pos, len);
        check(r, "collapse", uext4_fallocate(r->direct, FALLOC_FL_COLLAPSE_RANGE, pos, len), 0);
        memmove(r->model + pos, r->model + pos + len, r->size - pos - len);
        model_truncate(r, r->size - len);
}

static void do_insert(struct run *r)
{
        uint64_t pos, len;
        int ret;

        if (r->config->cluster == 0)
                return;
        range(r, r->config->cluster, &pos, &len);
        if (len == 0 || pos >= r->size || r->size + len > MAX_SIZE)
                return;
        say(r, "insert", pos, len);
        ret = uext4_fallocate(r->direct, FALLOC_FL_INSERT_RANGE, pos, len);
        if (ret == -ENOSPC) { /* for a node, when an extent is cut in two; nothing was done */
                r->nr_full++;
                return;
        }
        check(r, "insert", ret, 0);
        memmove(r->model + pos + len, r->model + pos, r->size - pos);
        memset(r->model + pos, 0, len);
        r->size += len;
}

/* The same by the call for it, of places that do not overlap. */
static void copy_range(struct run *r, uint64_t from, uint64_t to, uint64_t len)
{
        const uint64_t n = from < r->size ? (len < r->size - from ? len : r->size - from) : 0;
        int64_t ret = uext4_copy_range(r->buffered, from, r->buffered, to, len);

        if (ret == -ENOSPC) {
                r->nr_full++;
                return;
        }
        if (ret < 0 || (uint64_t)ret > n || (ret == 0 && n > 0))
                fail(r, "copy range", ret, (int64_t)n);
        if (ret == 0)
                return;
        memcpy(r->buf, r->model + from, (size_t)ret);
        model_write(r, to, r->buf, (uint64_t)ret);
}

/* From one place of the file to another, through memory. */
static void do_copy(struct run *r)
{
        unsigned unit = r->mode == DIRECT ? r->unit : 1;
        uint64_t from, to, len, to_len;
        int64_t n, ret;

        range(r, unit, &from, &len);
        range(r, unit, &to, &to_len);
        len = len < to_len ? len : to_len;
        say(r, "copy", from, len);
        if (unit == 1 && (from + len <= to || to + len <= from) && rnd(r, 2)) {
                copy_range(r, from, to, len);
                return;
        }
        n = uext4_pread(unit == 1 ? r->buffered : r->direct, r->buf, len, from);
        if (n < 0)
                fail(r, "copy: read", n, (int64_t)len);
        n -= n % unit;
        if (n == 0)
                return;
        ret = uext4_pwrite(unit == 1 ? r->buffered : r->direct, r->buf, (size_t)n, to);
        if (ret == -ENOSPC) {
                r->nr_full++;
                return;
        }
        if (ret < 1 || ret > n)
                fail(r, "copy: write", ret, n);
        model_write(r, to, r->buf, (uint64_t)ret);
}

static bool is_zero(const struct run *r, uint64_t from, uint64_t to)
{
        for (uint64_t i = from; i < to; i++) {
                if (r->model[i])
                        return false;
        }
        return true;
}

/* Where no data are said to be the model has zeros; where a hole begins is not behind the end.
 */
static void do_seek(struct run *r)
{
        struct uext4_file *file = is_direct(r) ? r->direct : r->buffered;
        const uint64_t pos = rnd(r, MAX_SIZE);
        int64_t data = uext4_seek(file, pos, SEEK_DATA),
                hole = uext4_seek(file, pos, SEEK_HOLE);

        say(r, "seek", pos, 0);
        if (pos >= r->size) {
                check(r, "data behind the end", data, -ENXIO);
                check(r, "a hole behind the end", hole, -ENXIO);
                return;
        }
        if (data == -ENXIO)
                data = (int64_t)r->size;
        if (data < (int64_t)pos || data > (int64_t)r->size)
                fail(r, "data", data, (int64_t)pos);
        if (hole < (int64_t)pos || hole > (int64_t)r->size)
                fail(r, "a hole", hole, (int64_t)pos);
        check(r, "zeros up to the data", is_zero(r, pos, (uint64_t)data), true);
        if (data > (int64_t)pos)
                check(r, "a hole where there are no data", hole, (int64_t)pos);
}

static void do_sync(struct run *r)
{
        static const char *const names[] = {"fsync", "fdatasync", "syncfs"};
        const uint32_t how = rnd(r, 3);
        int ret;

        say(r, names[how], 0, 0);
        if (how == 0)
                ret = uext4_fsync(r->direct);
        else
                ret = how == 1 ? uext4_fdatasync(r->buffered) : uext4_syncfs(r->fs);
        check(r, names[how], ret, 0);
}

/* Into r->buf. */
static void gather(struct run *r, const struct loan *l)
{
        int64_t done = 0;

        for (unsigned i = 0; done < l->len; i++) {
                memcpy(r->buf + done, l->iov[i].iov_base, l->iov[i].iov_len);
                done += (int64_t)l->iov[i].iov_len;
        }
}

/* It has what the file had or was given since: never what was free on the device. */
static void end_loan(struct run *r, struct loan *l)
{
        if (!l->loan)
                return;
        gather(r, l);
        for (int64_t i = 0; i < l->len; i++)
                check(r, "a stale byte on loan", r->buf[i] == STALE, false);
        uext4_loan_end(l->loan);
        l->loan = NULL;
}

static void end_loans(struct run *r)
{
        for (unsigned i = 0; i < NR_KEPT; i++)
                end_loan(r, &r->kept[i]);
}

/* Whether files of this configuration may have their data elsewhere. */
static bool may_refuse_loans(const struct config *config)
{
        return (config->mkfs && strstr(config->mkfs, "inline_data")) ||
               strstr(config->mount, "data=journal") || strstr(config->mount, "dax");
}

static void do_loan(struct run *r)
{
        struct loan *l = &r->kept[rnd(r, NR_KEPT)];
        uint64_t pos, len;

        end_loan(r, l);
        range(r, 1, &pos, &len);
        say(r, "loan", pos, len);
        l->len = uext4_lend(r->buffered, pos, len, l->iov, MAX_LOAN, &l->loan);
        if (l->len == -EOPNOTSUPP && may_refuse_loans(r->config))
                return;
        if (pos >= r->size) {
                check(r, "loan behind the end", l->len, 0);
                return;
        }
        if (l->len < 1 || (uint64_t)l->len > len || pos + (uint64_t)l->len > r->size)
                fail(r, "loan", l->len, (int64_t)len);
        gather(r, l);
        compare(r, "loan", pos, l->len);
        if (rnd(r, 2))
                end_loan(r, l);
}

/* Bytes of the file in place: seen, changed, seen again. */
static void do_lease(struct run *r)
{
        bool writes = rnd(r, 2);
        struct uext4_lease_params p = {.flags = writes ? UEXT4_LEASE_WRITE : 0};
        struct uext4_lease *lease;
        void *bytes;
        ssize_t n;

        range(r, 1, &p.pos, &p.len);
        say(r, writes ? "lease, and write" : "lease", p.pos, p.len);
        n = uext4_map_lease(r->direct, &p, &bytes, &lease);
        if (writes && n == -ENOSPC) {
                r->nr_full++;
                return;
        }
        if (n == -ENXIO && (p.pos >= r->size || !writes))
                return;
        if (n < 1 || (uint64_t)n > p.len || p.pos + (uint64_t)n > r->size)
                fail(r, "lease", n, (int64_t)p.len);
        check(r, "bytes in place", memcmp(bytes, r->model + p.pos, (size_t)n), 0);
        if (writes) {
                fill(r, bytes, (uint64_t)n);
                model_write(r, p.pos, bytes, (uint64_t)n);
        }
        uext4_unmap_lease(lease);
}

/* ---- batches ---- */

struct batch {
        struct uext4_request reqs[DEPTH];
        struct iovec iov[DEPTH];
        unsigned nr;
};

/* Requests side by side, none twice, units of the device, so that many share blocks. */
static void make_batch(struct run *r, struct batch *b)
{
        uint64_t pos, len, at;
        unsigned i;

        range(r, r->unit, &pos, &len);
        fill(r, r->buf, len);
        at = pos;
        for (i = 0; i < DEPTH && at < pos + len; i++) {
                uint64_t n = r->unit * (1 + rnd(r, 24));

                if (n > pos + len - at)
                        n = pos + len - at;
                b->iov[i] = (struct iovec){r->buf + (at - pos), n};
                b->reqs[i] = (struct uext4_request){
                        .op = UEXT4_WRITE,
                        .flags = random_flags(r),
                        .file = r->direct,
                        .iov = &b->iov[i],
                        .nr_iov = 1,
                        .pos = at,
                        .user_data = &b->reqs[i],
                };
                at += n + r->unit * rnd(r, 3);
        }
        b->nr = i;
        for (i = b->nr; i-- > 1;) { /* in any order */
                unsigned other = rnd(r, i + 1);
                struct uext4_request t = b->reqs[i];

                b->reqs[i] = b->reqs[other];
                b->reqs[other] = t;
                b->reqs[i].user_data = &b->reqs[i];
                b->reqs[other].user_data = &b->reqs[other];
        }
}

/*
 * The kernel lets a FUSE server have the truncation before writes that were under way already:
 * these may then be behind it.  What is behind the cut is theirs, or zeros.
 */
static void take_over(struct run *r, const struct batch *b, uint64_t cut_at)
{
        uint64_t size;
        struct uext4_stat st;
        bool is_end;

        check(r, "stat", uext4_stat(uext4_file_inode(r->direct), &st), 0);
        size = st.size;
        is_end = size == cut_at;
        memset(r->buf, 0, MAX_SIZE);
        for (unsigned i = 0; i < b->nr; i++) {
                const struct uext4_request *q = &b->reqs[i];
                const uint64_t end = q->pos + q->iov->iov_len;

                is_end |= end > cut_at && size == end;
                memcpy(r->buf + q->pos, r->model + q->pos, q->iov->iov_len);
        }
        check(r, "size after a truncation", is_end, true);
        model_truncate(r, cut_at);
        if (size == cut_at)
                return;
        check(r, "read", uext4_pread(r->buffered, r->model + cut_at, size - cut_at, cut_at),
              (int64_t)(size - cut_at));
        r->size = size;
        for (uint64_t i = cut_at; i < size; i++) {
                if (r->model[i])
                        check(r, "a byte behind the cut", r->model[i], r->buf[i]);
        }
}

static void do_batch(struct run *r)
{
        bool cut = rnd(r, 4) == 0;
        uint64_t cut_at = r->unit * (uint64_t)rnd(r, MAX_SIZE / r->unit);
        struct uext4_completion done[DEPTH];
        int64_t result[DEPTH];
        struct batch b;

        if (r->mode == BUFFERED)
                return;
        make_batch(r, &b);
        for (unsigned i = 0; i < b.nr; i++)
                say(r, "queue write", b.reqs[i].pos, b.iov[0].iov_len);
        check(r, "submit", uext4_queue_submit(r->queue, b.reqs, b.nr), b.nr);
        if (cut) {
                say(r, "truncate before the end of it", cut_at, 0);
                check(r, "truncate", uext4_truncate(r->direct, cut_at), 0);
        }
        check(r, "wait", uext4_queue_wait(r->queue, done, b.nr, DEPTH, -1), b.nr);
        for (unsigned i = 0; i < b.nr; i++)
                result[(struct uext4_request *)done[i].user_data - b.reqs] = done[i].result;
        for (unsigned i = 0; i < b.nr; i++) {
                int64_t len = (int64_t)b.reqs[i].iov->iov_len;

                if (result[i] == -ENOSPC) {
                        r->nr_full++;
                        continue;
                }
                if (result[i] < 1 || result[i] > len)
                        fail(r, "a write of a batch", result[i], len);
                if (result[i] < len)
                        r->nr_full++;
                model_write(r, b.reqs[i].pos, b.reqs[i].iov->iov_base, (uint64_t)result[i]);
        }
        if (cut && r->config->mkfs)
                model_truncate(r, cut_at);
        else if (cut)
                take_over(r, &b, cut_at);
}

/* ---- the whole ---- */

static void check_all(struct run *r)
{
        struct uext4_stat st;

        check(r, "stat", uext4_stat(uext4_file_inode(r->direct), &st), 0);
        check(r, "size", (int64_t)st.size, (int64_t)r->size);
        memset(r->buf, STALE, MAX_SIZE);
        check(r, "read all", uext4_pread(r->buffered, r->buf, MAX_SIZE, 0), (int64_t)r->size);
        compare(r, "all", 0, (int64_t)r->size);
}

static void do_remount(struct run *r)
{
        say(r, "remount", 0, 0);
        end_loans(r);
        unmount_fs(r);
        mount_fs(r);
        check_all(r);
}

static void step(struct run *r)
{
        static void (*const ops[])(struct run *) = {
                do_write,    do_write,    do_write, do_batch, do_batch, do_read,   do_read,
                do_truncate, do_truncate, do_punch, do_copy,  do_sync,  do_append, do_seek,
        };
        static void (*const extent_ops[])(struct run *) = {
                do_allocate,
                do_zero_range,
                do_collapse,
                do_insert,
        };
        const unsigned nr = sizeof(ops) / sizeof(ops[0]);
        const unsigned nr_extent = sizeof(extent_ops) / sizeof(extent_ops[0]);
        unsigned pick;

        r->nr_run++;
        if (rnd(r, 1000) == 0) {
                do_remount(r);
                return;
        }
        if (r->config->has_leases && rnd(r, 8) == 0) {
                do_lease(r);
                return;
        }
        if (r->mode != DIRECT && rnd(r, 12) == 0) {
                do_loan(r);
                return;
        }
        pick = rnd(r, nr + nr_extent);
        if (pick < nr)
                ops[pick](r);
        else if (r->config->has_extents)
                extent_ops[pick - nr](r);
}

static void run(struct run *r, unsigned nr_ops)
{
        r->random = r->seed * 0x9e3779b97f4a7c15u + 1;
        r->buf = aligned_alloc(4096, MAX_SIZE);
        make_image(r);
        mount_fs(r);
        check(r, "truncate", uext4_truncate(r->direct, 0), 0); /* one that was there */
        for (r->nr = 0; r->nr < nr_ops; r->nr++) {
                step(r);
                if (r->nr % 64 == 63)
                        check_all(r);
        }
        check_all(r);
        do_remount(r);
        unmount_fs(r); /* no loan outlives do_remount() */
        free(r->buf);
        free(r->image);
        printf("%s: %" PRIu64 " operations, %" PRIu64 " met a full device\n", r->config->name,
               r->nr_run, r->nr_full);
}

static const struct config *find_config(const char *name)
{
        for (size_t i = 0; i < sizeof(configs) / sizeof(configs[0]); i++) {
                if (strcmp(configs[i].name, name) == 0)
                        return &configs[i];
        }
        return NULL;
}

static bool find_mode(const char *name, enum mode *ret_mode)
{
        static const char *const modes[] = {"direct", "buffered", "mixed"};

        for (unsigned i = 0; i < 3; i++) {
                if (strcmp(modes[i], name) == 0) {
                        *ret_mode = (enum mode)i;
                        return true;
                }
        }
        return false;
}

int main(int argc, char **argv)
{
        static struct run r = {.mode = MIXED, .unit = 512};
        const char *seed = getenv("UEXT4_SEED");
        unsigned nr_ops = 3000;
        int c;

        r.seed = seed ? strtoull(seed, NULL, 0) : 1;
        while ((c = getopt(argc, argv, "n:s:u:m:v")) >= 0) {
                if (c == 'n')
                        nr_ops = (unsigned)strtoul(optarg, NULL, 0);
                else if (c == 's')
                        r.seed = strtoull(optarg, NULL, 0);
                else if (c == 'u')
                        r.unit = (unsigned)strtoul(optarg, NULL, 0);
                else if (c == 'v')
                        r.verbose = true;
                else if (c != 'm' || !find_mode(optarg, &r.mode))
                        return 2;
        }
        r.config = optind < argc ? find_config(argv[optind]) : NULL;
        if (!r.config || r.unit == 0) {
                fprintf(stderr, "fsx: which configuration?\n");
                return 2;
        }
        run(&r, nr_ops);
        return 0;
}
