/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Many threads on one mount, and on one file: each knows what its own part must hold.
 *
 * The parts of a file lie side by side at multiples of 512 bytes that are no block's, so that
 * neighbours share blocks.  What a thread reads in its part is what it wrote there last;
 * whoever zeroes a neighbour, loses a conversion or lets stale blocks through is found out.
 *
 * UEXT4_LONG=1 takes a minute for each case instead of a moment.
 */

#include <fcntl.h>
#include <linux/falloc.h>

#include "../change/rig.h"
#include "uext4.h"

#define PART     (64u * 1024 + 512)
#define NR_PARTS 4
#define DEPTH    8

#define EXT4_4K                                                                       \
        "-b 4096 -J size=4 -O has_journal,extents,huge_file,flex_bg,64bit,dir_nlink," \
        "extra_isize,metadata_csum"
#define EXT3_1K      "-b 1024 -J size=1 -O none,has_journal,sparse_super,large_file"
#define NOJOURNAL_4K "-b 4096 -O ^has_journal,extents,huge_file,flex_bg,64bit,metadata_csum"

struct stage {
        struct uext4_bdev *sim;
        struct rig_mount m;
        bool has_extents;
        uint64_t until; /* clock_ns() */
        uint64_t seed;
};

static void t_open(struct stage *st, const char *mkfs)
{
        struct t_image img = rig_make(24 << 20, mkfs, NULL,
                                      "write /dev/null parts\\nwrite /dev/null grows\\n"
                                      "write /dev/null shrinks\\n");

        *st = (struct stage){.has_extents = !strstr(mkfs, "none")};
        st->sim = t_open_sim(&img, 1);
        t_image_free(&img);
        T_CHECK(rig_mount(&st->m, st->sim, "rw,commit=1") == 0);
        st->until = clock_ns() + (t_is_long() ? 60000000000 : 1500000000);
        st->seed = t_seed();
}

static void t_close(struct stage *st)
{
        T_CHECK(rig_unmount(&st->m) == 0);
        rig_close_sim(st->sim, st->sim);
}

static struct uext4_file *t_file(struct stage *st, const char *path, int flags)
{
        struct uext4_file *file;

        T_CHECK(uext4_open_path(st->m.fs, path, O_RDWR | flags, &file) == 0);
        return file;
}

static bool is_over(const struct stage *st)
{
        return clock_ns() >= st->until;
}

/* ---- parts ---- */

struct part {
        struct stage *st;
        struct uext4_file *file, *buffered;
        struct uext4_queue *queue;
        uint64_t pos, rand;
        uint8_t model[PART], got[PART];
        uint8_t mem[DEPTH][8192];
};

/* A range of sectors of the part. */
static uint64_t part_range(struct part *p, uint64_t max, uint64_t *ret_len)
{
        uint64_t at = 512 * t_below(&p->rand, PART / 512);
        uint64_t len = 512 * (1 + t_below(&p->rand, max / 512));

        *ret_len = min_t(uint64_t, len, PART - at);
        return at;
}

static void part_write(struct part *p)
{
        static const int flags[] = {0, 0, RWF_DSYNC, RWF_SYNC};
        struct iovec iov = {p->mem[0], 0};
        uint64_t at = part_range(p, sizeof(p->mem[0]), &iov.iov_len);
        bool direct = t_below(&p->rand, 4);

        memset(p->mem[0], 1 + (int)t_below(&p->rand, 200), iov.iov_len);
        T_CHECK(uext4_pwritev2(direct ? p->file : p->buffered, &iov, 1, p->pos + at,
                               flags[t_below(&p->rand, 4)]) == (ssize_t)iov.iov_len);
        memcpy(p->model + at, p->mem[0], iov.iov_len);
}

/* Side by side, in one batch. */
static void part_batch(struct part *p)
{
        struct uext4_completion done[DEPTH];
        struct uext4_request reqs[DEPTH];
        struct iovec iov[DEPTH];
        uint64_t len, at = part_range(p, 8192, &len);
        int flags = t_below(&p->rand, 2) ? RWF_DSYNC : 0;
        unsigned nr = 0;

        while (nr < DEPTH && at + len <= PART) {
                iov[nr] = (struct iovec){p->mem[nr], len};
                memset(p->mem[nr], 1 + (int)t_below(&p->rand, 200), len);
                memcpy(p->model + at, p->mem[nr], len);
                reqs[nr] = (struct uext4_request){.op = UEXT4_WRITE,
                                                  .flags = flags,
                                                  .file = p->file,
                                                  .iov = &iov[nr],
                                                  .nr_iov = 1,
                                                  .pos = p->pos + at};
                at += len;
                nr++;
        }
        T_CHECK(uext4_queue_submit(p->queue, reqs, nr) == (int)nr);
        T_CHECK(uext4_queue_wait(p->queue, done, nr, DEPTH, -1) == (int)nr);
        for (unsigned i = 0; i < nr; i++) {
                if (done[i].result != (int64_t)len)
                        fprintf(stderr, "result %lld, not %llu\n", (long long)done[i].result,
                                (unsigned long long)len);
                T_CHECK(done[i].result == (int64_t)len);
        }
}

static void part_punch(struct part *p)
{
        int mode = t_below(&p->rand, 2) && p->st->has_extents ? FALLOC_FL_ZERO_RANGE
                                                              : FALLOC_FL_PUNCH_HOLE;
        uint64_t len, at = part_range(p, 32768, &len);

        T_CHECK(uext4_fallocate(p->file, mode | FALLOC_FL_KEEP_SIZE, p->pos + at, len) == 0);
        memset(p->model + at, 0, len);
}

static void part_read(struct part *p)
{
        uint64_t len, at = part_range(p, PART, &len);
        struct uext4_file *file = t_below(&p->rand, 2) ? p->file : p->buffered;

        T_CHECK(uext4_pread(file, p->got, len, p->pos + at) == (ssize_t)len);
        T_CHECK(memcmp(p->got, p->model + at, len) == 0);
}

static void part_run(void *arg, unsigned n)
{
        struct stage *st = arg;
        struct part *p = t_alloc(sizeof(*p));

        p->st = st;
        p->pos = n * PART;
        p->rand = st->seed * 77 + n;
        p->file = t_file(st, "/parts", O_DIRECT);
        p->buffered = t_file(st, "/parts", 0);
        T_CHECK(uext4_queue_new(st->m.fs, DEPTH, &p->queue) == 0);
        while (!is_over(st)) {
                switch (t_below(&p->rand, 8)) {
                case 0:
                        part_punch(p);
                        break;
                case 1:
                case 2:
                        part_batch(p);
                        break;
                case 3:
                        T_CHECK((t_below(&p->rand, 2) ? uext4_fsync(p->file)
                                                      : uext4_fdatasync(p->file)) == 0);
                        break;
                case 4:
                case 5:
                        part_read(p);
                        break;
                default:
                        part_write(p);
                }
        }
        uext4_queue_free(p->queue);
        uext4_close(p->file);
        uext4_close(p->buffered);
        free(p);
}

static void parts_of_a_file(const char *mkfs)
{
        struct uext4_file *file;
        struct stage st;

        t_open(&st, mkfs);
        file = t_file(&st, "/parts", 0);
        T_CHECK(uext4_truncate(file, NR_PARTS * PART) == 0);
        t_run_threads(NR_PARTS, part_run, &st);
        uext4_close(file);
        t_close(&st);
}

static void neighbours_keep_their_bytes(void **state)
{
        parts_of_a_file(EXT4_4K);
}

static void neighbours_keep_their_bytes_ext3(void **state)
{
        parts_of_a_file(EXT3_1K);
}

static void neighbours_keep_their_bytes_nojournal(void **state)
{
        parts_of_a_file(NOJOURNAL_4K);
}

/* ---- a file that grows ---- */

static void append(struct stage *st, struct uext4_file *file)
{
        static const size_t lens[] = {512, 4096, 1536, 16384};
        uint8_t *mem = t_alloc(16384);
        uint64_t pos = 0;

        memset(mem, 'x', 16384);
        for (unsigned n = 0; !is_over(st); n++) {
                struct iovec iov = {mem, lens[n % 4]};

                T_CHECK(uext4_pwritev2(file, &iov, 1, 0, RWF_APPEND) == (ssize_t)iov.iov_len);
                pos += iov.iov_len;
                if (pos > 1 << 20) {
                        T_CHECK(uext4_truncate(file, 0) == 0);
                        pos = 0;
                }
        }
        free(mem);
}

/* Whatever size it sees, what is below it is data. */
static void watch(struct stage *st, struct uext4_file *file)
{
        uint8_t *mem = t_alloc(1 << 20);

        while (!is_over(st)) {
                ssize_t n = uext4_pread(file, mem, 1 << 20, 0);

                T_CHECK(n >= 0);
                for (ssize_t i = 0; i < n; i++)
                        T_CHECK(mem[i] == 'x');
        }
        free(mem);
}

static void sync_all(struct stage *st, struct uext4_file *file)
{
        struct timespec nap = {.tv_nsec = 1000000};
        struct uext4_stat s;

        while (!is_over(st)) {
                T_CHECK(uext4_fsync(file) == 0);
                T_CHECK(uext4_stat(uext4_file_inode(file), &s) == 0);
                T_CHECK(uext4_syncfs(st->m.fs) == 0);
                nanosleep(&nap, NULL);
        }
}

static void grow_run(void *arg, unsigned n)
{
        struct stage *st = arg;
        struct uext4_file *file = t_file(st, "/grows", n == 2 ? 0 : O_DIRECT);

        if (n == 0)
                append(st, file);
        else if (n == 3)
                sync_all(st, file);
        else
                watch(st, file);
        uext4_close(file);
}

static void who_sees_the_size_sees_the_data_C13(void **state)
{
        struct stage st;

        t_open(&st, EXT4_4K);
        t_run_threads(4, grow_run, &st);
        t_close(&st);
}

/* ---- requests against truncation, from anywhere ---- */

static void submit_for_ever(struct stage *st, struct uext4_file *file, uint64_t rand)
{
        static uint8_t mem[4096];
        struct uext4_queue *queue;

        T_CHECK(uext4_queue_new(st->m.fs, DEPTH, &queue) == 0);
        while (!is_over(st)) {
                struct uext4_completion done[DEPTH];
                struct uext4_request reqs[DEPTH];
                struct iovec iov = {mem, 4096};

                for (unsigned i = 0; i < DEPTH; i++)
                        reqs[i] = (struct uext4_request){
                                .op = t_below(&rand, 4) ? UEXT4_WRITE : UEXT4_READ,
                                .flags = t_below(&rand, 2) ? RWF_DSYNC : 0,
                                .file = file,
                                .iov = &iov,
                                .nr_iov = 1,
                                .pos = 4096 * t_below(&rand, 64)};
                for (unsigned i = 0; i < DEPTH; i++) {
                        if (reqs[i].op ==
                            UEXT4_READ) /* it would write to memory that is read */
                                reqs[i].pos = 1 << 30;
                        if (reqs[i].op == UEXT4_READ)
                                reqs[i].flags = 0;
                }
                T_CHECK(uext4_queue_submit(queue, reqs, DEPTH) == DEPTH);
                T_CHECK(uext4_queue_wait(queue, done, DEPTH, DEPTH, -1) == DEPTH);
                for (unsigned i = 0; i < DEPTH; i++)
                        T_CHECK(done[i].result == 4096 || done[i].result == 0);
        }
        uext4_queue_free(queue);
}

static void cut_for_ever(struct stage *st, struct uext4_file *file, uint64_t rand)
{
        while (!is_over(st)) {
                T_CHECK(uext4_truncate(file, 512 * t_below(&rand, 512)) == 0);
                T_CHECK(uext4_fallocate(file, 0, 4096 * t_below(&rand, 32), 65536) == 0);
                if (t_below(&rand, 4) == 0)
                        T_CHECK(uext4_fallocate(file, FALLOC_FL_COLLAPSE_RANGE, 0, 4096) == 0);
        }
}

static void shrink_run(void *arg, unsigned n)
{
        struct stage *st = arg;
        struct uext4_file *file = t_file(st, "/shrinks", O_DIRECT);

        if (n < 3)
                submit_for_ever(st, file, st->seed + n);
        else
                cut_for_ever(st, file, st->seed);
        uext4_close(file);
}

static void truncation_and_requests_do_not_meet_C11(void **state)
{
        struct stage st;

        t_open(&st, EXT4_4K);
        t_run_threads(4, shrink_run, &st);
        t_close(&st);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(neighbours_keep_their_bytes),
                cmocka_unit_test(neighbours_keep_their_bytes_ext3),
                cmocka_unit_test(neighbours_keep_their_bytes_nojournal),
                cmocka_unit_test(who_sees_the_size_sees_the_data_C13),
                cmocka_unit_test(truncation_and_requests_do_not_meet_C11),
        };

        return cmocka_run_group_tests_name("write_threads", tests, NULL, NULL);
}
