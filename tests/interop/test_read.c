/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_read.c - what the public API promises about reading, on one image whose contents are
 * known.
 *
 * The image is made here by mke2fs and debugfs, without root: a file of data, holes and
 * unwritten ranges, one of several hundred extents, one inside its inode.  Each test that is
 * about contents runs on three devices: the file by io_uring, the mapped file, and the gate
 * (gate.h), whose requests finish when the test says so; those about what happens while
 * requests are under way use the gate.
 *
 * Random tests take UEXT4_SEED (default 1) and print it when they fail.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
/* cmocka wants these first */
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "gate.h"
#include "uext4.h"

#define BS           4096u
#define MIXED_BLOCKS 70u
#define MIXED_SIZE   (MIXED_BLOCKS * BS + 123u)
/* Odd, so that data ends it: mke2fs -d 1.47.0 with inline_data drops a hole at the end. */
#define FRAG_BLOCKS 801u
#define FRAG_SIZE   (FRAG_BLOCKS * BS)
#define INLINE_SIZE 53u
#define ROUND       512u /* of all three devices, at most */
#define FOREVER     (-1)
#define SECOND      1000000000LL

enum device {
        DEVICE_FILE,
        DEVICE_MMAP,
        DEVICE_GATE,
        NR_DEVICES
};

static const char *const device_names[] = {"file", "mmap", "gate"};

/* ---- the image ----------------------------------------------------------- */

static char work_dir[300];
static char image[400];
static uint8_t mixed[MIXED_SIZE];
static uint8_t frag[FRAG_SIZE];
static uint8_t inlined[INLINE_SIZE];
static uint64_t seed;

static uint64_t rng_next(uint64_t *state)
{
        uint64_t z = (*state += 0x9e3779b97f4a7c15u);

        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        return z ^ (z >> 31);
}

static uint64_t rng_below(uint64_t *state, uint64_t n)
{
        return rng_next(state) % n;
}

static void fill_random(uint8_t *p, size_t len, uint64_t key)
{
        uint64_t state = seed ^ key;

        for (size_t i = 0; i < len; i++)
                p[i] = (uint8_t)rng_next(&state);
}

/* Blocks 0-9 data, 10-19 hole, 20-29 unwritten, 30 data, 31 hole, 32 unwritten, 33-34 data,
 * then in turns up to the end, which lies in a block of data. */
static bool mixed_has_data(unsigned blk)
{
        if (blk < 35)
                return blk < 10 || blk == 30 || blk >= 33;
        return blk % 4 < 2 || blk == MIXED_BLOCKS;
}

static bool mixed_is_unwritten(unsigned blk)
{
        if (blk < 35)
                return (blk >= 20 && blk < 30) || blk == 32;
        return blk % 8 == 3 && blk != MIXED_BLOCKS;
}

static void write_file(const char *name, const uint8_t *data, size_t size,
                       bool (*has_data)(unsigned))
{
        char path[600];

        snprintf(path, sizeof(path), "%s/tree/%s", work_dir, name);

        int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

        assert_true(fd >= 0);
        assert_return_code(ftruncate(fd, (off_t)size), errno);
        for (size_t pos = 0; pos < size; pos += BS) {
                size_t n = size - pos < BS ? size - pos : BS;

                if (has_data && !has_data((unsigned)(pos / BS)))
                        continue;
                assert_int_equal(pwrite(fd, data + pos, n, (off_t)pos), n);
        }
        close(fd);
}

static bool frag_has_data(unsigned blk)
{
        return blk % 2 == 0;
}

static bool run(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

static bool run(const char *fmt, ...)
{
        char cmd[2000];
        va_list ap;

        va_start(ap, fmt);
        vsnprintf(cmd, sizeof(cmd), fmt, ap);
        va_end(ap);

        int ret = system(cmd);

        if (ret != 0)
                fprintf(stderr, "exit %d: %s\n", ret, cmd);
        return ret == 0;
}

static void make_unwritten(void)
{
        char path[600];
        FILE *f;

        snprintf(path, sizeof(path), "%s/commands", work_dir);
        f = fopen(path, "w");
        assert_non_null(f);
        for (unsigned blk = 0; blk < MIXED_BLOCKS; blk++)
                if (mixed_is_unwritten(blk))
                        fprintf(f, "fallocate /mixed %u %u\n", blk, blk);
        fclose(f);
        assert_true(run("PATH=$PATH:/usr/sbin:/sbin debugfs -w -f %s %s >%s/out 2>&1", path,
                        image, work_dir));
}

/* At exit: a failed assertion in a thread ends the process at once. */
static void remove_image(void)
{
        run("rm -rf '%s'", work_dir);
}

static int make_image(void **state)
{
        const char *tmp = getenv("TMPDIR");

        if (!tmp)
                tmp = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
        snprintf(work_dir, sizeof(work_dir), "%s/uext4-read-XXXXXX", tmp);
        assert_non_null(mkdtemp(work_dir));
        atexit(remove_image);
        snprintf(image, sizeof(image), "%s/image", work_dir);
        fill_random(mixed, sizeof(mixed), 1);
        fill_random(frag, sizeof(frag), 2);
        fill_random(inlined, sizeof(inlined), 3);
        for (unsigned blk = 0; blk < MIXED_BLOCKS; blk++)
                if (!mixed_has_data(blk))
                        memset(mixed + blk * BS, 0, BS);
        for (unsigned blk = 0; blk < FRAG_BLOCKS; blk++)
                if (!frag_has_data(blk))
                        memset(frag + blk * BS, 0, BS);
        assert_true(run("mkdir %s/tree %s/tree/dir", work_dir, work_dir));
        assert_true(
                run("cd %s/tree/dir && for i in $(seq 20); do mkdir $i; for j in $(seq 60); do "
                    ": >$i/name-$j; done; done",
                    work_dir));
        assert_true(run("ln -s mixed %s/tree/link; mkfifo %s/tree/fifo", work_dir, work_dir));
        write_file("mixed", mixed, sizeof(mixed), mixed_has_data);
        write_file("frag", frag, sizeof(frag), frag_has_data);
        write_file("inline", inlined, sizeof(inlined), NULL);
        write_file("empty", NULL, 0, NULL);
        assert_true(run("truncate -s 32M %s", image));
        assert_true(run(
                "PATH=$PATH:/usr/sbin:/sbin MKE2FS_CONFIG=/dev/null mke2fs -q -F -b %u -I 256 "
                "-N 2048 -O none,ext_attr,dir_index,filetype,extent,64bit,flex_bg,"
                "sparse_super,large_file,huge_file,extra_isize,metadata_csum,"
                "inline_data -d %s/tree %s >%s/out 2>&1",
                BS, work_dir, image, work_dir));
        make_unwritten();
        return 0;
}

/* ---- a mount -------------------------------------------------------------- */

struct mount {
        struct gate gate; /* with DEVICE_GATE */
        enum device device;
        struct uext4_fs *fs;
};

static void log_quiet(void *arg, int level, const char *text)
{
        if (level <= 4)
                fprintf(stderr, "log: %s\n", text);
}

static void mount_it(struct mount *m, enum device device)
{
        struct uext4_mount_params params = {.options = "ro", .log = log_quiet};
        int ret;

        m->device = device;
        if (device == DEVICE_GATE) {
                gate_init(&m->gate, image);
                ret = uext4_mount_bdev(&m->gate.dev, &params, &m->fs);
        } else {
                char uri[500];

                snprintf(uri, sizeof(uri), "%s:%s", device_names[device], image);
                ret = uext4_mount(uri, &params, &m->fs);
        }
        assert_int_equal(ret, 0);
}

static void unmount_it(struct mount *m)
{
        assert_int_equal(uext4_unmount(m->fs), 0);
        if (m->device == DEVICE_GATE)
                gate_done(&m->gate);
}

static struct uext4_file *open_it(struct mount *m, const char *path, int flags)
{
        struct uext4_file *file;

        assert_int_equal(uext4_open_path(m->fs, path, flags, &file), 0);
        return file;
}

static struct uext4_stats stats_of(struct mount *m)
{
        struct uext4_stats s;

        uext4_get_stats(m->fs, &s);
        return s;
}

static void *aligned(size_t size)
{
        void *p = NULL;

        assert_int_equal(posix_memalign(&p, 4096, size), 0);
        memset(p, 0xa5, size);
        return p;
}

/* Run a test body on each device. */
#define ON_EACH_DEVICE(name)                                   \
        static void name(void **state)                         \
        {                                                      \
                for (enum device d = 0; d < NR_DEVICES; d++) { \
                        struct mount m;                        \
                                                               \
                        mount_it(&m, d);                       \
                        name##_on(&m);                         \
                        unmount_it(&m);                        \
                }                                              \
        }

static void expect_bytes(const void *got, const uint8_t *want, size_t len, uint64_t pos)
{
        const uint8_t *g = got;

        if (memcmp(g, want, len) == 0)
                return;
        for (size_t i = 0; i < len; i++)
                if (g[i] != want[i])
                        fail_msg("byte %" PRIu64 " is %02x, not %02x (UEXT4_SEED=%" PRIu64 ")",
                                 pos + i, g[i], want[i], seed);
}

/* ---- alignment, end of file ------------------------------------------------ */

static void reads_at_every_alignment_on(struct mount *m)
{
        struct uext4_file *file = open_it(m, "/mixed", O_RDONLY | O_DIRECT);
        uint8_t *buf = aligned(8 * BS);

        /* around each kind of border: data to hole, hole to unwritten, unwritten to data */
        for (uint64_t start = 8 * BS; start < 36 * BS; start += 2 * BS)
                for (uint64_t pos = start; pos < start + 2 * BS; pos += ROUND)
                        for (size_t len = ROUND; len <= 4 * BS; len += 3 * ROUND) {
                                assert_int_equal(uext4_pread(file, buf, len, pos), len);
                                expect_bytes(buf, mixed + pos, len, pos);
                        }
        free(buf);
        uext4_close(file);
}
ON_EACH_DEVICE(reads_at_every_alignment)

/* B27: what is not aligned is refused, by the queue too, and never served buffered. */
static void misaligned_is_refused_on(struct mount *m)
{
        struct uext4_file *file = open_it(m, "/mixed", O_RDONLY | O_DIRECT);
        struct uext4_stat st;
        uint8_t *buf = aligned(4 * BS);

        assert_int_equal(uext4_stat(uext4_file_inode(file), &st), 0);
        assert_true(st.dio_offset_align >= 1 && st.dio_offset_align <= BS);
        assert_true(st.dio_mem_align >= 1);
        if (st.dio_offset_align > 1) {
                for (uint64_t off = 1; off < st.dio_offset_align; off = off * 2 + 1) {
                        assert_int_equal(uext4_pread(file, buf, BS, off), -EINVAL);
                        assert_int_equal(uext4_pread(file, buf, off, 0), -EINVAL);
                        /* at and past the end, too */
                        assert_int_equal(uext4_pread(file, buf, off, 200 * BS), -EINVAL);
                }
                /* two lengths that are wrong, whose sum is right, in one request */
                struct iovec iov[] = {{buf, st.dio_offset_align - 1}, {buf + BS, 1}};

                if (st.dio_mem_align > 1)
                        assert_int_equal(uext4_preadv2(file, iov, 2, 0, 0), -EINVAL);
        }
        if (st.dio_mem_align > 1) {
                assert_int_equal(uext4_pread(file, buf + 1, BS, 0), -EINVAL);
                assert_int_equal(uext4_pread(file, buf + st.dio_mem_align / 2, BS, 0), -EINVAL);
        }
        assert_int_equal(uext4_pread(file, buf + st.dio_mem_align, BS, 0), BS);
        expect_bytes(buf + st.dio_mem_align, mixed, BS, 0);
        assert_int_equal(stats_of(m).buffered_reads, 0);

        struct uext4_queue *q;
        struct iovec iov = {buf, BS};
        struct uext4_request req = {.op = UEXT4_READ,
                                    .file = file,
                                    .iov = &iov,
                                    .nr_iov = 1,
                                    .pos = 1,
                                    .user_data = &iov};
        struct uext4_completion done;

        if (st.dio_offset_align > 1) {
                assert_int_equal(uext4_queue_new(m->fs, 1, &q), 0);
                assert_int_equal(uext4_queue_submit(q, &req, 1), 1);
                assert_int_equal(uext4_queue_wait(q, &done, 1, 1, FOREVER), 1);
                assert_int_equal(done.result, -EINVAL);
                assert_ptr_equal(done.user_data, &iov);
                uext4_queue_free(q);
        }
        free(buf);
        uext4_close(file);
}
ON_EACH_DEVICE(misaligned_is_refused)

/* B29: a read ends at the size. */
static void reads_end_at_the_size_on(struct mount *m)
{
        struct uext4_file *direct = open_it(m, "/mixed", O_RDONLY | O_DIRECT);
        struct uext4_file *buffered = open_it(m, "/mixed", O_RDONLY);
        struct uext4_file *empty = open_it(m, "/empty", O_RDONLY | O_DIRECT);
        uint64_t last = MIXED_BLOCKS * BS;
        uint8_t *buf = aligned(4 * BS);

        assert_int_equal(uext4_pread(direct, buf, BS, last), 123);
        expect_bytes(buf, mixed + last, 123, last);
        memset(buf, 0xa5, 4 * BS);
        assert_int_equal(uext4_pread(direct, buf, 4 * BS, last - BS), BS + 123);
        expect_bytes(buf, mixed + last - BS, BS + 123, last - BS);
        for (size_t i = 2 * BS; i < 4 * BS; i++)
                assert_int_equal(buf[i], 0xa5);
        assert_int_equal(uext4_pread(direct, buf, ROUND, last + ROUND), 0);
        assert_int_equal(uext4_pread(direct, buf, BS, last + BS), 0);
        assert_int_equal(uext4_pread(direct, buf, BS, (uint64_t)1 << 40), 0);
        assert_int_equal(uext4_pread(direct, buf, 0, 0), 0);
        assert_int_equal(uext4_pread(empty, buf, BS, 0), 0);
        assert_int_equal(uext4_pread(buffered, buf, 1000, MIXED_SIZE - 1), 1);
        assert_int_equal(uext4_pread(buffered, buf, 1000, MIXED_SIZE), 0);
        assert_int_equal(uext4_pread(buffered, buf, 1000, MIXED_SIZE + 1), 0);
        assert_int_equal(uext4_pread(buffered, buf, 0, 5), 0);
        /* positions that off_t does not have: an error or nothing, no crash */
        assert_true(uext4_pread(buffered, buf, BS, UINT64_MAX - 100) <= 0);
        assert_true(uext4_pread(direct, buf, BS, UINT64_MAX - BS + 1) <= 0);
        assert_true(uext4_pread(direct, buf, BS, (uint64_t)1 << 63) <= 0);
        free(buf);
        uext4_close(direct);
        uext4_close(buffered);
        uext4_close(empty);
}
ON_EACH_DEVICE(reads_end_at_the_size)

static void one_request_crosses_all_kinds_on(struct mount *m)
{
        struct uext4_file *file = open_it(m, "/mixed", O_RDONLY | O_DIRECT);
        struct fiemap_extent fe[64];
        uint8_t *buf = aligned(72 * BS);
        unsigned nr_unwritten = 0;
        int nr = uext4_fiemap(file, 0, UINT64_MAX, fe, 64);

        assert_true(nr > 10);
        for (int i = 0; i < nr; i++)
                nr_unwritten += !!(fe[i].fe_flags & FIEMAP_EXTENT_UNWRITTEN);
        assert_true(nr_unwritten > 4); /* else the image is not what this test needs */

        assert_int_equal(uext4_pread(file, buf, 72 * BS, 0), MIXED_SIZE);
        expect_bytes(buf, mixed, MIXED_SIZE, 0);

        /* the same into many small pieces */
        struct iovec iov[144];

        memset(buf, 0xa5, 72 * BS);
        for (int i = 0; i < 144; i++)
                iov[i] = (struct iovec){buf + (size_t)i * BS / 2, BS / 2};
        assert_int_equal(uext4_preadv2(file, iov, 144, 0, 0), MIXED_SIZE);
        expect_bytes(buf, mixed, MIXED_SIZE, 0);
        free(buf);
        uext4_close(file);
}
ON_EACH_DEVICE(one_request_crosses_all_kinds)

/* B26: inline data is read buffered, at any alignment, and counted. */
static void inline_data_is_read_buffered_on(struct mount *m)
{
        struct uext4_file *file = open_it(m, "/inline", O_RDONLY | O_DIRECT);
        uint64_t before = stats_of(m).fallback_inline;
        struct uext4_stat st;
        uint8_t buf[200];

        assert_int_equal(uext4_stat(uext4_file_inode(file), &st), 0);
        assert_int_equal(st.dio_offset_align, 0);
        assert_int_equal(st.dio_mem_align, 0);
        for (size_t pos = 0; pos <= INLINE_SIZE; pos++) {
                memset(buf, 0xa5, sizeof(buf));
                assert_int_equal(uext4_pread(file, buf + 1, 101, pos), INLINE_SIZE - pos);
                expect_bytes(buf + 1, inlined + pos, INLINE_SIZE - pos, pos);
                assert_int_equal(buf[1 + INLINE_SIZE - pos], 0xa5);
        }
        assert_true(stats_of(m).fallback_inline > before);

        /* by a queue */
        struct uext4_queue *q;
        struct iovec iov[2] = {{buf, 7}, {buf + 100, 90}};
        struct uext4_request req = {.op = UEXT4_READ, .file = file, .iov = iov, .nr_iov = 2};
        struct uext4_completion done;

        assert_int_equal(uext4_queue_new(m->fs, 4, &q), 0);
        assert_int_equal(uext4_queue_submit(q, &req, 1), 1);
        assert_int_equal(uext4_queue_wait(q, &done, 1, 4, FOREVER), 1);
        assert_int_equal(done.result, INLINE_SIZE);
        expect_bytes(buf, inlined, 7, 0);
        expect_bytes(buf + 100, inlined + 7, INLINE_SIZE - 7, 7);
        uext4_queue_free(q);
        uext4_close(file);
}
ON_EACH_DEVICE(inline_data_is_read_buffered)

/* ---- random scatter lists ---------------------------------------------------- */

struct scatter {
        struct iovec iov[24];
        int nr;
        size_t total;
        uint64_t pos;
        uint8_t *mem;
};

/* Pieces of `unit` bytes, memory aligned to mem_align, the pieces in any order in memory. */
static void scatter_make(struct scatter *s, uint64_t *rng, size_t size, size_t unit,
                         size_t mem_align)
{
        s->nr = 1 + (int)rng_below(rng, 24);
        s->pos = rng_below(rng, size / unit + 8) * unit;
        s->total = 0;
        s->mem = aligned(24 * (16 * unit + 64 + 2 * mem_align));

        size_t at = 0;

        for (int i = 0; i < s->nr; i++) {
                int to = i ? (int)rng_below(rng, (uint64_t)i + 1) : 0;
                struct iovec v = {s->mem + at, rng_below(rng, 16) * unit};

                at += v.iov_len + 64;
                at = (at + mem_align - 1) / mem_align * mem_align;
                s->iov[i] = s->iov[to];
                s->iov[to] = v;
                s->total += v.iov_len;
        }
}

static void scatter_check(const struct scatter *s, int64_t result, const uint8_t *want,
                          size_t size)
{
        size_t left = s->pos < size ? size - (size_t)s->pos : 0;
        size_t expected = left < s->total ? left : s->total;
        size_t done = 0;

        if (result != (int64_t)expected)
                fail_msg("%zu bytes at %" PRIu64 " in %d pieces: %" PRId64
                         ", not %zu (UEXT4_SEED=%" PRIu64 ")",
                         s->total, s->pos, s->nr, result, expected, seed);
        for (int i = 0; i < s->nr; i++) {
                size_t n = s->iov[i].iov_len;
                size_t valid = expected - done < n ? expected - done : n;

                expect_bytes(s->iov[i].iov_base, want + s->pos + done, valid, s->pos + done);
                for (int k = 0; k < 64; k++)
                        assert_int_equal(((uint8_t *)s->iov[i].iov_base)[n + (size_t)k], 0xa5);
                done += valid;
        }
}

static void random_scatter_lists_on(struct mount *m)
{
        struct uext4_file *files[2] = {open_it(m, "/mixed", O_RDONLY | O_DIRECT),
                                       open_it(m, "/frag", O_RDONLY | O_DIRECT)};
        struct uext4_file *buffered[2] = {open_it(m, "/mixed", O_RDONLY),
                                          open_it(m, "/frag", O_RDONLY)};
        const uint8_t *want[2] = {mixed, frag};
        const size_t size[2] = {MIXED_SIZE, FRAG_SIZE};
        uint64_t rng = seed ^ 77;
        struct uext4_stat st;

        assert_int_equal(uext4_stat(uext4_file_inode(files[0]), &st), 0);
        for (int i = 0; i < 1000; i++) {
                struct scatter s;
                int f = i & 1;
                bool is_buffered = i % 5 == 4;

                if (is_buffered)
                        scatter_make(&s, &rng, size[f], 1 + rng_below(&rng, 2000), 1);
                else
                        scatter_make(&s, &rng, size[f], ROUND, st.dio_mem_align);
                scatter_check(&s,
                              uext4_preadv2(is_buffered ? buffered[f] : files[f], s.iov, s.nr,
                                            s.pos, 0),
                              want[f], size[f]);
                free(s.mem);
        }
        for (int f = 0; f < 2; f++) {
                uext4_close(files[f]);
                uext4_close(buffered[f]);
        }
}
ON_EACH_DEVICE(random_scatter_lists)

/* Keep a queue full of random requests; each comes back once, with the right bytes. */
static void queue_workout(struct uext4_fs *fs, struct uext4_file *file, uint64_t rng,
                          int nr_all)
{
        enum {
                DEPTH = 16
        };
        struct scatter s[DEPTH];
        bool used[DEPTH] = {false};
        struct uext4_queue *q;
        int nr_done = 0;
        int nr_sent = 0;

        assert_int_equal(uext4_queue_new(fs, DEPTH, &q), 0);
        while (nr_done < nr_all) {
                struct uext4_request reqs[DEPTH];
                unsigned nr = 0;

                for (int i = 0; i < DEPTH && nr_sent + (int)nr < nr_all; i++) {
                        if (used[i] || rng_below(&rng, 3) == 0)
                                continue;
                        scatter_make(&s[i], &rng, FRAG_SIZE, ROUND, 512);
                        used[i] = true;
                        reqs[nr++] = (struct uext4_request){.op = UEXT4_READ,
                                                            .file = file,
                                                            .iov = s[i].iov,
                                                            .nr_iov = s[i].nr,
                                                            .pos = s[i].pos,
                                                            .user_data = &s[i]};
                }
                if (nr > 0)
                        assert_int_equal(uext4_queue_submit(q, reqs, nr), nr);
                nr_sent += (int)nr;

                struct uext4_completion done[DEPTH];
                int got =
                        uext4_queue_wait(q, done, (unsigned)rng_below(&rng, 4), DEPTH, FOREVER);

                assert_true(got >= 0);
                for (int i = 0; i < got; i++) {
                        struct scatter *one = done[i].user_data;

                        assert_true(used[one - s]);
                        used[one - s] = false;
                        scatter_check(one, done[i].result, frag, FRAG_SIZE);
                        free(one->mem);
                }
                nr_done += got;
        }
        uext4_queue_free(q);
}

static void queue_reads_random_lists_on(struct mount *m)
{
        struct uext4_file *file = open_it(m, "/frag", O_RDONLY | O_DIRECT);

        queue_workout(m->fs, file, seed ^ 5, 1000);
        uext4_close(file);
}
ON_EACH_DEVICE(queue_reads_random_lists)

struct worker {
        struct mount *m;
        struct uext4_file *file;
        uint64_t rng;
};

static void *worker_main(void *arg)
{
        struct worker *w = arg;

        queue_workout(w->m->fs, w->file, w->rng, 600);
        return NULL;
}

static void two_threads_with_a_queue_each_on(struct mount *m)
{
        struct uext4_file *file = open_it(m, "/frag", O_RDONLY | O_DIRECT);
        struct worker w[2] = {{m, file, seed ^ 100}, {m, file, seed ^ 200}};
        pthread_t t[2];

        for (int i = 0; i < 2; i++)
                assert_int_equal(pthread_create(&t[i], NULL, worker_main, &w[i]), 0);
        for (int i = 0; i < 2; i++)
                pthread_join(t[i], NULL);
        uext4_close(file);
}
ON_EACH_DEVICE(two_threads_with_a_queue_each)

/* ---- many threads, little memory ------------------------------------------------------ */

/* Everything about every inode below `dir`, and the bytes of /frag on the way. */
static void walk_below(struct uext4_inode *dir, struct uext4_file *file, uint64_t *rng)
{
        struct uext4_dirent e;
        uint64_t cookie = 0;
        int ret;

        while ((ret = uext4_readdir(dir, &cookie, &e)) > 0) {
                struct uext4_inode *inode;
                struct uext4_stat st;
                char names[1000];
                uint8_t buf[BS];
                uint64_t pos = rng_below(rng, FRAG_SIZE - BS);

                assert_int_equal(uext4_lookup(dir, e.name, e.name_len, &inode), 0);
                assert_int_equal(uext4_stat(inode, &st), 0);
                assert_int_equal(st.ino, e.ino);
                assert_int_equal(uext4_listxattr(inode, names, sizeof(names)), 0);
                if (S_ISDIR(st.mode) && e.name[0] != '.')
                        walk_below(inode, file, rng);
                assert_int_equal(uext4_pread(file, buf, BS, pos), BS);
                expect_bytes(buf, frag + pos, BS, pos);
                uext4_inode_put(inode);
        }
        assert_int_equal(ret, 0);
}

static void *walker_main(void *arg)
{
        struct worker *w = arg;
        struct uext4_inode *root;

        for (int round = 0; round < 8; round++) {
                /* a file of its own each time: its map is read again */
                struct uext4_file *file;

                assert_int_equal(uext4_open_path(w->m->fs, "/frag", O_RDONLY, &file), 0);
                assert_int_equal(uext4_resolve(w->m->fs, "/", 0, &root), 0);
                walk_below(root, file, &w->rng);
                uext4_inode_put(root);
                uext4_close(file);
        }
        return NULL;
}

/* Four threads walk one mount whose metadata cache is too small for any of them. */
static void threads_share_a_small_cache(void **state)
{
        struct uext4_mount_params params = {.options = "ro,meta_cache=64K", .log = log_quiet};
        struct mount m = {.device = DEVICE_FILE};
        struct worker w[4];
        pthread_t t[4];

        assert_int_equal(uext4_mount(image, &params, &m.fs), 0);
        for (uint64_t i = 0; i < 4; i++) {
                w[i] = (struct worker){.m = &m, .rng = seed ^ (i << 32)};
                assert_int_equal(pthread_create(&t[i], NULL, walker_main, &w[i]), 0);
        }
        for (int i = 0; i < 4; i++)
                pthread_join(t[i], NULL);
        unmount_it(&m);
}

/* ---- flags, open ---------------------------------------------------------------- */

static void flags_of_a_read(void **state)
{
        struct mount m;

        mount_it(&m, DEVICE_FILE);

        struct uext4_file *file = open_it(&m, "/mixed", O_RDONLY | O_DIRECT);
        uint8_t *buf = aligned(BS);
        struct iovec iov = {buf, BS};

        assert_int_equal(uext4_preadv2(file, &iov, 1, 0, RWF_HIPRI), BS);
        assert_int_equal(uext4_preadv2(file, &iov, 1, 0, RWF_DSYNC), -EOPNOTSUPP);
        assert_int_equal(uext4_preadv2(file, &iov, 1, 0, RWF_APPEND), -EOPNOTSUPP);
        assert_int_equal(uext4_preadv2(file, &iov, 1, 0, 1 << 30), -EOPNOTSUPP);
        assert_int_equal(uext4_preadv2(file, &iov, 0, 0, 0), 0);
        assert_int_equal(uext4_preadv2(file, &iov, -1, 0, 0), -EINVAL);
        free(buf);
        uext4_close(file);
        unmount_it(&m);
}

static void what_can_be_opened(void **state)
{
        static const struct {
                const char *path;
                int flags, result;
        } cases[] = {
                {"/mixed", O_RDONLY | O_CLOEXEC | O_NOATIME | O_NONBLOCK, 0},
                {"/mixed", O_RDWR, -EROFS},
                {"/mixed", O_WRONLY, -EROFS},
                {"/mixed", O_RDWR | O_DIRECT, -EROFS},
                {"/link", O_RDONLY, 0},
                {"/dir", O_RDONLY, -EISDIR},
                {"/", O_RDONLY, -EISDIR},
                {"/fifo", O_RDONLY, -EINVAL},
                {"/nothing", O_RDONLY, -ENOENT},
                {"/mixed/x", O_RDONLY, -ENOTDIR},
                {"/mixed/", O_RDONLY, -ENOTDIR},
                {"/dir/../mixed", O_RDONLY, 0},
                {"//./mixed", O_RDONLY, 0},
        };
        struct mount m;

        mount_it(&m, DEVICE_FILE);
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                struct uext4_file *file = NULL;
                int ret = uext4_open_path(m.fs, cases[i].path, cases[i].flags, &file);

                if (ret != cases[i].result)
                        fail_msg("open of %s with %#x: %d, not %d", cases[i].path,
                                 cases[i].flags, ret, cases[i].result);
                if (ret == 0)
                        uext4_close(file);
        }
        uext4_close(NULL);
        uext4_inode_put(NULL);
        uext4_queue_free(NULL);
        unmount_it(&m);
}

static void unmount_needs_everything_back(void **state)
{
        struct mount m;
        struct uext4_inode *inode;
        struct uext4_queue *q;

        mount_it(&m, DEVICE_FILE);
        assert_int_equal(uext4_resolve(m.fs, "/dir", 0, &inode), 0);
        assert_int_equal(uext4_unmount(m.fs), -EBUSY);
        uext4_inode_put(inode);

        struct uext4_file *file = open_it(&m, "/mixed", O_RDONLY);

        assert_int_equal(uext4_unmount(m.fs), -EBUSY);
        uext4_close(file);
        assert_int_equal(uext4_queue_new(m.fs, 1, &q), 0);
        assert_int_equal(uext4_unmount(m.fs), -EBUSY);
        uext4_queue_free(q);
        unmount_it(&m);
}

/* ---- NOWAIT -------------------------------------------------------------------------- */

/*
 * On a cold map -EAGAIN comes without one synchronous read of the device; once the map has been
 * read the same request is served.
 */
static void nowait_never_reads_metadata(void **state)
{
        struct mount m;
        uint8_t *buf = aligned(64 * BS);
        struct iovec iov = {buf, 64 * BS};

        mount_it(&m, DEVICE_GATE);

        struct uext4_file *file = open_it(&m, "/frag", O_RDONLY | O_DIRECT);
        unsigned reads = gate_reads(&m.gate);
        unsigned queued = gate_queued(&m.gate);
        uint64_t again = stats_of(&m).nowait_again;

        for (int i = 0; i < 3; i++)
                assert_int_equal(
                        uext4_preadv2(file, &iov, 1, (uint64_t)i * 64 * BS, RWF_NOWAIT),
                        -EAGAIN);
        assert_int_equal(gate_reads(&m.gate), reads);
        assert_int_equal(gate_queued(&m.gate), queued);
        assert_int_equal(stats_of(&m).nowait_again, again + 3);

        /* by a queue: the request is taken, and its completion says -EAGAIN */
        struct uext4_queue *q;
        struct uext4_completion done;
        struct uext4_request req = {
                .op = UEXT4_READ, .flags = RWF_NOWAIT, .file = file, .iov = &iov, .nr_iov = 1};

        assert_int_equal(uext4_queue_new(m.fs, 2, &q), 0);
        assert_int_equal(uext4_queue_submit(q, &req, 1), 1);
        assert_int_equal(uext4_queue_wait(q, &done, 1, 1, FOREVER), 1);
        assert_int_equal(done.result, -EAGAIN);
        assert_int_equal(gate_reads(&m.gate), reads);

        /* warm it */
        for (uint64_t pos = 0; pos < FRAG_SIZE; pos += 64 * BS)
                assert_true(uext4_preadv2(file, &iov, 1, pos, 0) > 0);
        for (uint64_t pos = 0; pos + 64 * BS <= FRAG_SIZE; pos += 64 * BS) {
                memset(buf, 0xa5, 64 * BS);
                assert_int_equal(uext4_preadv2(file, &iov, 1, pos, RWF_NOWAIT), 64 * BS);
                expect_bytes(buf, frag + pos, 64 * BS, pos);
        }
        assert_int_equal(uext4_queue_submit(q, &req, 1), 1);
        assert_int_equal(uext4_queue_wait(q, &done, 1, 1, FOREVER), 1);
        assert_int_equal(done.result, 64 * BS);
        expect_bytes(buf, frag, 64 * BS, 0);
        assert_int_equal(stats_of(&m).nowait_again, again + 4);
        uext4_queue_free(q);
        free(buf);
        uext4_close(file);
        unmount_it(&m);
}

/* A queued NOWAIT request leaves submit without waiting, even for data. */
static void nowait_submit_does_not_wait_for_data(void **state)
{
        struct mount m;
        uint8_t *buf = aligned(4 * BS);
        struct iovec iov = {buf, 4 * BS};

        mount_it(&m, DEVICE_GATE);

        struct uext4_file *file = open_it(&m, "/frag", O_RDONLY | O_DIRECT);
        struct uext4_queue *q;
        struct uext4_completion done;
        struct uext4_request req = {
                .op = UEXT4_READ, .flags = RWF_NOWAIT, .file = file, .iov = &iov, .nr_iov = 1};

        assert_true(uext4_pread(file, buf, 4 * BS, 0) > 0); /* warms the map */
        assert_int_equal(uext4_queue_new(m.fs, 2, &q), 0);
        gate_set(&m.gate, false);
        assert_int_equal(uext4_queue_submit(q, &req, 1), 1); /* would hang here */
        assert_int_equal(uext4_queue_wait(q, &done, 1, 1, 0), 0);
        gate_set(&m.gate, true);
        assert_int_equal(uext4_queue_wait(q, &done, 1, 1, FOREVER), 1);
        assert_int_equal(done.result, 4 * BS);
        uext4_queue_free(q);
        free(buf);
        uext4_close(file);
        unmount_it(&m);
}

/* ---- queues ---------------------------------------------------------------------------- */

struct bench {
        struct mount m;
        struct uext4_file *file;
        struct uext4_queue *q;
        uint8_t *buf[16];
        struct iovec iov[16];
        struct uext4_request reqs[16];
        struct uext4_completion done[16];
};

/* A mount on the gate, a queue, and requests for the data blocks 0, 2, 4 ... of /frag. */
static void bench_start(struct bench *b, unsigned depth)
{
        memset(b, 0, sizeof(*b));
        mount_it(&b->m, DEVICE_GATE);
        b->file = open_it(&b->m, "/frag", O_RDONLY | O_DIRECT);
        assert_int_equal(uext4_queue_new(b->m.fs, depth, &b->q), 0);
        for (int i = 0; i < 16; i++) {
                b->buf[i] = aligned(BS);
                b->iov[i] = (struct iovec){b->buf[i], BS};
                b->reqs[i] = (struct uext4_request){.op = UEXT4_READ,
                                                    .file = b->file,
                                                    .iov = &b->iov[i],
                                                    .nr_iov = 1,
                                                    .pos = (uint64_t)i * 2 * BS,
                                                    .user_data = &b->reqs[i]};
        }
        /* the map is warm: what the gate holds is data */
        assert_int_equal(uext4_pread(b->file, b->buf[0], BS, 0), BS);
}

static void bench_check(struct bench *b, int nr)
{
        for (int i = 0; i < nr; i++) {
                struct uext4_request *r = b->done[i].user_data;

                assert_int_equal(b->done[i].result, BS);
                expect_bytes(r->iov->iov_base, frag + r->pos, BS, r->pos);
        }
}

static void bench_end(struct bench *b)
{
        gate_set(&b->m.gate, true);
        uext4_queue_free(b->q);
        uext4_close(b->file);
        unmount_it(&b->m);
        for (int i = 0; i < 16; i++)
                free(b->buf[i]);
}

static int64_t now_ns(void)
{
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return (int64_t)t.tv_sec * SECOND + t.tv_nsec;
}

static void queue_depth_is_a_limit(void **state)
{
        struct bench b;
        struct uext4_queue *q;

        bench_start(&b, 4);
        assert_int_equal(uext4_queue_new(b.m.fs, 0, &q), -EINVAL);
        assert_int_equal(uext4_queue_new(b.m.fs, 65537, &q), -EINVAL);
        gate_set(&b.m.gate, false);
        assert_int_equal(uext4_queue_submit(b.q, b.reqs, 6), 4);
        assert_int_equal(uext4_queue_submit(b.q, b.reqs + 4, 2), -EAGAIN);
        assert_int_equal(gate_pending(&b.m.gate), 4);
        gate_set(&b.m.gate, true);
        /* finished and not fetched counts too */
        assert_int_equal(uext4_queue_wait(b.q, b.done, 4, 1, FOREVER), 1);
        bench_check(&b, 1);
        assert_int_equal(uext4_queue_submit(b.q, b.reqs + 4, 3), 1);
        assert_int_equal(uext4_queue_wait(b.q, b.done, 4, 16, FOREVER), 4);
        bench_check(&b, 4);
        assert_int_equal(uext4_queue_submit(b.q, b.reqs, 4), 4);
        assert_int_equal(uext4_queue_wait(b.q, b.done, 4, 16, FOREVER), 4);
        assert_int_equal(uext4_queue_submit(b.q, b.reqs, 0), 0);
        bench_end(&b);
}

static void queue_wait_counts_and_times(void **state)
{
        struct bench b;

        bench_start(&b, 8);
        /* nothing under way: there is nothing to wait for */
        assert_int_equal(uext4_queue_wait(b.q, b.done, 3, 8, FOREVER), 0);
        gate_set(&b.m.gate, false);
        assert_int_equal(uext4_queue_submit(b.q, b.reqs, 5), 5);
        assert_int_equal(uext4_queue_wait(b.q, b.done, 0, 8, FOREVER), 0);
        assert_int_equal(uext4_queue_wait(b.q, b.done, 1, 8, 0), 0);

        int64_t start = now_ns();

        assert_int_equal(uext4_queue_wait(b.q, b.done, 1, 8, SECOND / 20), 0);

        int64_t took = now_ns() - start;

        assert_true(took >= SECOND / 20 - SECOND / 1000);
        gate_set(&b.m.gate, true);
        assert_int_equal(uext4_queue_wait(b.q, b.done, 2, 2, FOREVER), 2);
        bench_check(&b, 2);
        /* a minimum above what is under way ends with what there is */
        assert_int_equal(uext4_queue_wait(b.q, b.done, 8, 8, FOREVER), 3);
        bench_check(&b, 3);
        assert_int_equal(uext4_queue_wait(b.q, b.done, 1, 8, FOREVER), 0);
        bench_end(&b);
}

static void *open_gate_later(void *arg)
{
        struct gate *g = arg;
        struct timespec pause = {0, 30000000};

        nanosleep(&pause, NULL);
        gate_set(g, true);
        return NULL;
}

static void queue_wait_sleeps_until_done(void **state)
{
        struct bench b;
        pthread_t t;

        bench_start(&b, 8);
        gate_set(&b.m.gate, false);
        assert_int_equal(uext4_queue_submit(b.q, b.reqs, 3), 3);
        assert_int_equal(pthread_create(&t, NULL, open_gate_later, &b.m.gate), 0);
        assert_int_equal(uext4_queue_wait(b.q, b.done, 3, 8, FOREVER), 3);
        bench_check(&b, 3);
        pthread_join(t, NULL);
        bench_end(&b);
}

static void queue_eventfd_wakes(void **state)
{
        struct bench b;
        eventfd_t count;

        bench_start(&b, 8);

        int fd = uext4_queue_eventfd(b.q);
        struct pollfd p = {.fd = fd, .events = POLLIN};
        pthread_t t;

        assert_true(fd >= 0);
        assert_int_equal(uext4_queue_eventfd(b.q), fd);
        for (int round = 0; round < 3; round++) {
                int got = 0;

                gate_set(&b.m.gate, false);
                assert_int_equal(uext4_queue_submit(b.q, b.reqs, 3), 3);
                assert_int_equal(uext4_queue_wait(b.q, b.done, 0, 8, 0), 0);
                assert_int_equal(poll(&p, 1, 0), 0);
                assert_int_equal(pthread_create(&t, NULL, open_gate_later, &b.m.gate), 0);
                while (got < 3) {
                        int n;

                        assert_int_equal(poll(&p, 1, 10000), 1);
                        assert_int_equal(eventfd_read(fd, &count), 0);
                        n = uext4_queue_wait(b.q, b.done, 0, 8, 0);
                        assert_true(n >= 0);
                        bench_check(&b, n);
                        got += n;
                }
                pthread_join(t, NULL);
                if (poll(&p, 1, 0) == 1) /* one wake too many is no harm */
                        assert_int_equal(eventfd_read(fd, &count), 0);
        }
        bench_end(&b);
}

/* Requests that need no device are finished when submit returns; a sleeper must hear of them.
 */
static void queue_eventfd_wakes_without_io(void **state)
{
        struct bench b;
        eventfd_t count;

        bench_start(&b, 8);

        int fd = uext4_queue_eventfd(b.q);
        struct pollfd p = {.fd = fd, .events = POLLIN};

        assert_true(fd >= 0);
        b.reqs[0].pos = BS;                  /* a hole */
        b.reqs[1].pos = (uint64_t)FRAG_SIZE; /* the end */
        b.reqs[2].pos = 1;                   /* misaligned */
        assert_int_equal(uext4_queue_submit(b.q, b.reqs, 3), 3);
        assert_int_equal(poll(&p, 1, 10000), 1);
        assert_int_equal(eventfd_read(fd, &count), 0);
        assert_int_equal(uext4_queue_wait(b.q, b.done, 0, 8, 0), 3);
        for (int i = 0; i < 3; i++) {
                struct uext4_request *r = b.done[i].user_data;

                assert_int_equal(b.done[i].result, r == &b.reqs[0]   ? (int64_t)BS
                                                   : r == &b.reqs[1] ? 0
                                                                     : -EINVAL);
        }
        bench_end(&b);
}

static void queue_eventfd_wakes_on_io_uring(void **state)
{
        struct mount m;
        uint8_t *buf = aligned(BS);
        struct iovec iov = {buf, BS};
        struct uext4_completion done;
        struct uext4_queue *q;
        eventfd_t count;

        mount_it(&m, DEVICE_FILE);

        struct uext4_file *file = open_it(&m, "/frag", O_RDONLY | O_DIRECT);
        struct uext4_request req = {.op = UEXT4_READ, .file = file, .iov = &iov, .nr_iov = 1};

        assert_int_equal(uext4_queue_new(m.fs, 2, &q), 0);

        struct pollfd p = {.fd = uext4_queue_eventfd(q), .events = POLLIN};

        assert_true(p.fd >= 0);
        for (uint64_t i = 0; i < 50; i++) {
                int got = 0;

                req.pos = i * BS;
                assert_int_equal(uext4_queue_submit(q, &req, 1), 1);
                while (got == 0) {
                        assert_int_equal(poll(&p, 1, 10000), 1);
                        assert_int_equal(eventfd_read(p.fd, &count), 0);
                        got = uext4_queue_wait(q, &done, 0, 1, 0);
                }
                assert_int_equal(got, 1);
                assert_int_equal(done.result, BS);
                expect_bytes(buf, frag + req.pos, BS, req.pos);
        }
        uext4_queue_free(q);
        free(buf);
        uext4_close(file);
        unmount_it(&m);
}

/* Free cancels what is under way: it ends although the gate never opens. */
static void queue_is_freed_with_requests_under_way(void **state)
{
        struct bench b;

        bench_start(&b, 8);
        gate_set(&b.m.gate, false);
        assert_int_equal(uext4_queue_submit(b.q, b.reqs, 5), 5);
        uext4_queue_free(b.q);
        b.q = NULL;
        assert_int_equal(gate_pending(&b.m.gate), 0);
        assert_true(gate_cancels(&b.m.gate) > 0);
        bench_end(&b);
}

static void queue_is_freed_with_results_unfetched(void **state)
{
        struct bench b;

        bench_start(&b, 8);
        assert_int_equal(uext4_queue_submit(b.q, b.reqs, 5), 5);
        assert_int_equal(uext4_queue_wait(b.q, b.done, 1, 1, FOREVER), 1);
        bench_end(&b);
}

/* The thread that closes is the one that would have to poll: it helps itself. */
static void close_waits_for_requests(void **state)
{
        struct bench b;
        pthread_t t;

        bench_start(&b, 8);
        gate_set(&b.m.gate, false);
        assert_int_equal(uext4_queue_submit(b.q, b.reqs, 5), 5);
        assert_int_equal(pthread_create(&t, NULL, open_gate_later, &b.m.gate), 0);
        uext4_close(b.file);
        b.file = NULL;
        assert_int_equal(gate_pending(&b.m.gate), 0);
        pthread_join(t, NULL);
        /* the results stay on their queue */
        assert_int_equal(uext4_queue_wait(b.q, b.done, 5, 8, FOREVER), 5);
        bench_check(&b, 5);
        bench_end(&b);
}

static void *close_main(void *arg)
{
        uext4_close(arg);
        return NULL;
}

/* Architecture, rule 5: the owner of the queue sleeps elsewhere; who closes drives the queue.
 */
static void close_helps_a_queue_of_another_thread(void **state)
{
        for (enum device d = 0; d < NR_DEVICES; d++) {
                struct mount m;
                struct uext4_queue *q;
                struct uext4_completion done[4];
                struct uext4_request reqs[4];
                struct iovec iov[4];
                uint8_t *buf = aligned(4 * BS);
                pthread_t t;

                mount_it(&m, d);

                struct uext4_file *file = open_it(&m, "/frag", O_RDONLY | O_DIRECT);

                assert_int_equal(uext4_queue_new(m.fs, 4, &q), 0);
                for (int i = 0; i < 4; i++) {
                        iov[i] = (struct iovec){buf + (size_t)i * BS, BS};
                        reqs[i] = (struct uext4_request){.op = UEXT4_READ,
                                                         .file = file,
                                                         .iov = &iov[i],
                                                         .nr_iov = 1,
                                                         .pos = (uint64_t)i * BS,
                                                         .user_data = &iov[i]};
                }
                assert_int_equal(uext4_queue_submit(q, reqs, 4), 4);
                assert_int_equal(pthread_create(&t, NULL, close_main, file), 0);
                pthread_join(t, NULL); /* hangs where nobody drives */
                assert_int_equal(uext4_queue_wait(q, done, 4, 4, FOREVER), 4);
                for (int i = 0; i < 4; i++)
                        assert_int_equal(done[i].result, BS);
                expect_bytes(buf, frag, 4 * BS, 0);
                uext4_queue_free(q);
                unmount_it(&m);
                free(buf);
        }
}

/* Both at once: the owner waits on its queue while another thread closes the file. */
static void close_and_wait_at_the_same_time(void **state)
{
        for (int round = 0; round < 20; round++) {
                struct bench b;
                pthread_t t, opener;

                bench_start(&b, 8);
                gate_set(&b.m.gate, false);
                assert_int_equal(uext4_queue_submit(b.q, b.reqs, 5), 5);
                assert_int_equal(pthread_create(&t, NULL, close_main, b.file), 0);
                assert_int_equal(pthread_create(&opener, NULL, open_gate_later, &b.m.gate), 0);
                b.file = NULL;
                assert_int_equal(uext4_queue_wait(b.q, b.done, 5, 8, FOREVER), 5);
                bench_check(&b, 5);
                pthread_join(t, NULL);
                pthread_join(opener, NULL);
                bench_end(&b);
        }
}

static void device_errors_reach_the_reader(void **state)
{
        struct bench b;

        bench_start(&b, 8);
        gate_fail(&b.m.gate, true);
        assert_int_equal(uext4_pread(b.file, b.buf[0], BS, 0), -EIO);
        assert_int_equal(uext4_queue_submit(b.q, b.reqs, 3), 3);
        assert_int_equal(uext4_queue_wait(b.q, b.done, 3, 8, FOREVER), 3);
        for (int i = 0; i < 3; i++)
                assert_int_equal(b.done[i].result, -EIO);
        gate_fail(&b.m.gate, false);
        assert_int_equal(uext4_queue_submit(b.q, b.reqs, 3), 3);
        assert_int_equal(uext4_queue_wait(b.q, b.done, 3, 8, FOREVER), 3);
        bench_check(&b, 3);
        assert_int_equal(uext4_pread(b.file, b.buf[0], BS, 0), BS);
        bench_end(&b);
}

/* A request of many extents is many device requests and one completion. */
static void one_request_of_many_extents(void **state)
{
        struct bench b;
        uint8_t *big = aligned(400 * BS);
        struct iovec iov = {big, 400 * BS};
        struct uext4_request req = {
                .op = UEXT4_READ, .iov = &iov, .nr_iov = 1, .pos = 100 * BS, .user_data = &iov};

        bench_start(&b, 2);
        req.file = b.file;
        assert_int_equal(uext4_queue_submit(b.q, &req, 1), 1);
        assert_int_equal(uext4_queue_wait(b.q, b.done, 1, 2, FOREVER), 1);
        assert_int_equal(b.done[0].result, 400 * BS);
        expect_bytes(big, frag + 100 * BS, 400 * BS, 100 * BS);
        assert_true(stats_of(&b.m).device_reads >= 200);

        /* and freed half way */
        gate_set(&b.m.gate, false);
        assert_int_equal(uext4_queue_submit(b.q, &req, 1), 1);
        uext4_queue_free(b.q);
        b.q = NULL;
        free(big);
        bench_end(&b);
}

/* ---- main ------------------------------------------------------------------------------- */

int main(void)
{
        const char *text = getenv("UEXT4_SEED");
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(reads_at_every_alignment),
                cmocka_unit_test(misaligned_is_refused),
                cmocka_unit_test(reads_end_at_the_size),
                cmocka_unit_test(one_request_crosses_all_kinds),
                cmocka_unit_test(inline_data_is_read_buffered),
                cmocka_unit_test(random_scatter_lists),
                cmocka_unit_test(queue_reads_random_lists),
                cmocka_unit_test(two_threads_with_a_queue_each),
                cmocka_unit_test(threads_share_a_small_cache),
                cmocka_unit_test(flags_of_a_read),
                cmocka_unit_test(what_can_be_opened),
                cmocka_unit_test(unmount_needs_everything_back),
                cmocka_unit_test(nowait_never_reads_metadata),
                cmocka_unit_test(nowait_submit_does_not_wait_for_data),
                cmocka_unit_test(queue_depth_is_a_limit),
                cmocka_unit_test(queue_wait_counts_and_times),
                cmocka_unit_test(queue_wait_sleeps_until_done),
                cmocka_unit_test(queue_eventfd_wakes),
                cmocka_unit_test(queue_eventfd_wakes_without_io),
                cmocka_unit_test(queue_eventfd_wakes_on_io_uring),
                cmocka_unit_test(queue_is_freed_with_requests_under_way),
                cmocka_unit_test(queue_is_freed_with_results_unfetched),
                cmocka_unit_test(close_waits_for_requests),
                cmocka_unit_test(close_helps_a_queue_of_another_thread),
                cmocka_unit_test(close_and_wait_at_the_same_time),
                cmocka_unit_test(device_errors_reach_the_reader),
                cmocka_unit_test(one_request_of_many_extents),
        };

        seed = text ? strtoull(text, NULL, 0) : 1;
        if (system("PATH=$PATH:/usr/sbin:/sbin; command -v mke2fs debugfs >/dev/null") != 0) {
                printf("SKIP: mke2fs and debugfs are not installed\n");
                return 77;
        }
        return cmocka_run_group_tests(tests, make_image, NULL);
}
