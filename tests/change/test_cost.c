/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What changes of large files cost: blocks of the journal, and requests to the device.  The
 * table is printed; counts have bounds here, times have none.
 *
 * UEXT4_LONG=1 removes a file of a million extents, instead of 20 000.
 */
#include <time.h>

#include "jbd2/jbd2.h"
#include "model.h"

#define MIB (1ull << 20)
#define GIB (1ull << 30)

#define FEATURES                                                                             \
        "-O none,has_journal,ext_attr,dir_index,filetype,extent,64bit,flex_bg,sparse_super," \
        "large_file,huge_file,dir_nlink,extra_isize,metadata_csum"

struct bench {
        struct host_file file;
        struct uext4_bdev *dev; /* a trace */
        struct rig_mount m;
        struct ext4_inode *inode;
        struct jbd2_stats stats;
        struct uext4_bdev_counts counts;
        struct timespec start;
};

struct cost {
        uint64_t commits, logged, revokes;
        uint64_t writes, flushes, reads, bytes;
        double seconds;
};

/* ---- the device ---- */

/* A sparse file with an empty /f in it, mounted; seen through a trace. */
static void open_bench(struct bench *b, uint64_t size, const char *options)
{
        struct uext4_bdev *file;

        b->file = host_file_new(NULL, size);
        t_make_fs(b->file.path, options, "write /dev/null f\\n");
        T_CHECK(uext4_bdev_open_file(b->file.path, 0, t_log_line, &b->m.log, &file) == 0);
        T_CHECK(uext4_bdev_open_trace(file, 0, &b->dev) == 0);
        T_CHECK(rig_mount(&b->m, b->dev, RIG_OPTIONS) == 0);
        T_CHECK(op_get(&b->m, "/f", &b->inode) == 0);
}

/* Unmount, ask e2fsck, and forget it. */
static void close_bench(struct bench *b)
{
        char command[512];

        ext4_iput(b->inode);
        T_CHECK(rig_unmount(&b->m) == 0);
        uext4_bdev_close(b->dev);
        snprintf(command, sizeof(command), "e2fsck -fn %s >/dev/null 2>&1", b->file.path);
        t_run(command);
        host_file_close(&b->file);
}

/* ---- measuring ---- */

static void start(struct bench *b)
{
        T_CHECK(op_sync(&b->m) == 0);
        T_CHECK(jbd2_flush(rig_fs(&b->m)->journal) == 0);
        jbd2_get_stats(rig_fs(&b->m)->journal, &b->stats);
        uext4_bdev_trace_counts(b->dev, &b->counts);
        clock_gettime(CLOCK_MONOTONIC, &b->start);
}

static uint64_t requests(const struct bench *b, const struct uext4_bdev_counts *now,
                         enum uext4_bdev_op op)
{
        return now->requests[op] - b->counts.requests[op];
}

/* Everything durable and at home. */
static struct cost stop(struct bench *b, const char *what)
{
        struct uext4_bdev_counts counts;
        struct jbd2_stats stats;
        struct timespec now;
        struct cost c;

        T_CHECK(op_sync(&b->m) == 0);
        clock_gettime(CLOCK_MONOTONIC, &now);
        T_CHECK(jbd2_flush(rig_fs(&b->m)->journal) == 0);
        jbd2_get_stats(rig_fs(&b->m)->journal, &stats);
        uext4_bdev_trace_counts(b->dev, &counts);
        c = (struct cost){
                .commits = stats.nr_commits - b->stats.nr_commits,
                .logged = stats.nr_logged - b->stats.nr_logged,
                .revokes = stats.nr_revokes - b->stats.nr_revokes,
                .writes = requests(b, &counts, UEXT4_BDEV_WRITE) +
                          requests(b, &counts, UEXT4_BDEV_WRITE_ZEROES),
                .flushes = requests(b, &counts, UEXT4_BDEV_FLUSH),
                .reads = requests(b, &counts, UEXT4_BDEV_READ),
                .bytes = counts.bytes[UEXT4_BDEV_WRITE] - b->counts.bytes[UEXT4_BDEV_WRITE],
                .seconds = (double)(now.tv_sec - b->start.tv_sec) +
                           1e-9 * (double)(now.tv_nsec - b->start.tv_nsec),
        };
        printf("# %-40s %7llu %7llu %7llu %7llu %7llu %7llu %9llu %8.1f ms\n", what,
               (unsigned long long)c.commits, (unsigned long long)c.logged,
               (unsigned long long)c.revokes, (unsigned long long)c.writes,
               (unsigned long long)c.flushes, (unsigned long long)c.reads,
               (unsigned long long)c.bytes / 1024, c.seconds * 1000);
        fflush(stdout);
        return c;
}

static void print_head(void)
{
        printf("# %-40s %7s %7s %7s %7s %7s %7s %9s %8s\n", "", "commits", "logged", "revokes",
               "writes", "flushes", "reads", "KiB", "time");
}

#define at_most(what, bound)                                                               \
        do {                                                                               \
                if ((what) > (bound))                                                      \
                        fail_msg("%s: %llu, more than %llu", #what,                        \
                                 (unsigned long long)(what), (unsigned long long)(bound)); \
        } while (0)

/* ---- a GiB ---- */

/*
 * Nine groups of 128 MiB: a bitmap each, one or two blocks of descriptors, a leaf or two, the
 * inode, the superblock.
 */
static void a_gib_costs_a_few_blocks(void **state)
{
        struct bench b;
        struct cost c;

        print_head();
        open_bench(&b, 2 * GIB, "-b 4096 -I 256 -N 1024 -J size=16 " FEATURES);
        start(&b);
        T_CHECK(op_fallocate(b.inode, 0, 0, GIB) == 0);
        c = stop(&b, "fallocate 1 GiB, 4k");
        at_most(c.logged, 24u);
        at_most(c.writes, 60u);
        start(&b);
        T_CHECK(op_truncate(b.inode, 0) == 0);
        c = stop(&b, "truncate 1 GiB to nothing, 4k");
        at_most(c.logged, 24u);
        at_most(c.writes, 60u);
        close_bench(&b);
}

/* 1 KiB blocks: 130 groups of 8 MiB, and extents of 8 MiB. */
static void a_gib_of_small_blocks(void **state)
{
        struct bench b;
        struct cost c;

        open_bench(&b, 2 * GIB, "-b 1024 -I 256 -N 1024 -J size=16 " FEATURES);
        start(&b);
        T_CHECK(op_fallocate(b.inode, 0, 0, GIB) == 0);
        c = stop(&b, "fallocate 1 GiB, 1k");
        at_most(c.logged, 400u);
        at_most(c.writes, 600u);
        start(&b);
        T_CHECK(op_truncate(b.inode, 0) == 0);
        c = stop(&b, "truncate 1 GiB to nothing, 1k");
        at_most(c.logged, 400u);
        at_most(c.writes, 600u);
        close_bench(&b);
}

/* An indirect map has a pointer for each block. */
static void an_indirect_map(void **state)
{
        const size_t piece = 16 * MIB;
        char *bytes = t_alloc(piece);
        struct bench b;
        struct cost c;

        memset(bytes, 'x', piece);
        open_bench(&b, 600 * MIB,
                   "-b 4096 -I 256 -N 1024 -J size=16 -O "
                   "none,has_journal,ext_attr,filetype,sparse_super,large_file");
        start(&b);
        for (uint64_t pos = 0; pos < 256 * MIB; pos += piece)
                T_CHECK(op_write(b.inode, pos, bytes, piece, OP_DIRECT) == 0);
        stop(&b, "write 256 MiB, 4k, indirect");
        start(&b);
        T_CHECK(op_truncate(b.inode, 0) == 0);
        c = stop(&b, "truncate 256 MiB to nothing, indirect");
        at_most(c.logged, 200u); /* 65 pointer blocks */
        close_bench(&b);
        free(bytes);
}

/* ---- extents ---- */

/* Every other block. */
static struct cost fragment(struct bench *b, unsigned nr)
{
        char what[64];

        start(b);
        for (unsigned i = 0; i < nr; i++)
                T_CHECK(op_fallocate(b->inode, 0, 2048ull * i, 1024) == 0);
        snprintf(what, sizeof(what), "make %u extents", nr);
        return stop(b, what);
}

static struct cost remove_all(struct bench *b, unsigned nr)
{
        char what[64];

        start(b);
        T_CHECK(op_unlink(&b->m, "/", "f") == 0);
        ext4_iput(b->inode);
        b->inode = NULL;
        snprintf(what, sizeof(what), "remove %u extents", nr);
        return stop(b, what);
}

static struct cost make_and_remove(unsigned nr)
{
        struct bench b;
        struct cost c;

        open_bench(&b, nr * 1200ull + 64 * MIB, "-b 1024 -I 256 -N 1024 -J size=16 " FEATURES);
        fragment(&b, nr);
        c = remove_all(&b, nr);
        close_bench(&b);
        return c;
}

/*
 * A leaf of 1 KiB has 84 extents, or 42 when it has been split in the middle; freeing it costs
 * a revoke record, 8 or 4 bytes of a block.  A group has 8192 blocks.  The inode and blocks of
 * the path are in each transaction.
 */
static void removing_extents_is_linear(void **state)
{
        const unsigned nr = t_is_long() ? 1000000 : 20000;
        const struct cost half = make_and_remove(nr / 2), whole = make_and_remove(nr);

        at_most(whole.logged, nr / 40 + nr / 2000 + 40);
        at_most(whole.logged, 3 * half.logged + 20);
        at_most(whole.writes, 3 * half.writes + 20);
        printf("# ns for each extent: %.0f of %u, %.0f of %u\n", half.seconds / (nr / 2) * 1e9,
               nr / 2, whole.seconds / nr * 1e9, nr);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_gib_costs_a_few_blocks),
                cmocka_unit_test(a_gib_of_small_blocks),
                cmocka_unit_test(an_indirect_map),
                cmocka_unit_test(removing_extents_is_linear),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
