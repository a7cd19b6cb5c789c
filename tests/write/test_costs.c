/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What writes cost, counted: requests of the device by kind, blocks in the journal, commits,
 * and allocations of memory.  The device is one with something volatile and FUA, under the
 * trace filter, all of whose requests are remembered.
 *
 * The filter takes memory for each request of a queue, which test_write.c has a test without.
 *
 * The table of the whole is printed, so that a change of it is seen.
 */

#include <fcntl.h>

#include "../change/rig.h"
#include "uext4.h"

#define EXT4_4K                                                                              \
        "-b 4096 -I 256 -J size=4 -O has_journal,extents,huge_file,flex_bg,64bit,dir_nlink," \
        "extra_isize,metadata_csum"

#define BLOCK     4096u
#define DEPTH     64
#define FILE_SIZE (1280u << 10)

/* ---- memory that has FUA, and flushes ---- */

struct plain {
        struct uext4_bdev dev;
        struct uext4_bdev *lower;
};

static struct uext4_bdev *lower_of(struct uext4_bdev *dev)
{
        return container_of(dev, struct plain, dev)->lower;
}

static int64_t plain_read(struct uext4_bdev *dev, const struct iovec *iov, int nr, uint64_t pos)
{
        return lower_of(dev)->ops->read(lower_of(dev), iov, nr, pos);
}

static int64_t plain_write(struct uext4_bdev *dev, const struct iovec *iov, int nr,
                           uint64_t pos, uint32_t flags)
{
        return lower_of(dev)->ops->write(lower_of(dev), iov, nr, pos, 0);
}

static int plain_flush(struct uext4_bdev *dev)
{
        return 0;
}

static int plain_write_zeroes(struct uext4_bdev *dev, uint64_t pos, uint64_t len,
                              uint32_t flags)
{
        return uext4_bdev_write_zeroes(lower_of(dev), pos, len, 0);
}

static void plain_close(struct uext4_bdev *dev)
{
        uext4_bdev_close(lower_of(dev));
        free(container_of(dev, struct plain, dev));
}

static const struct uext4_bdev_ops plain_ops = {
        .name = "plain",
        .read = plain_read,
        .write = plain_write,
        .flush = plain_flush,
        .write_zeroes = plain_write_zeroes,
        .close = plain_close,
};

static struct uext4_bdev *plain_open(struct uext4_bdev *lower)
{
        struct plain *p = t_alloc(sizeof(*p));
        struct uext4_bdev_geometry geo = *uext4_bdev_geometry(lower);

        geo.caps |= UEXT4_BDEV_CAP_FUA | UEXT4_BDEV_CAP_VOLATILE;
        p->lower = lower;
        T_CHECK(uext4_bdev_init(&p->dev, &plain_ops, &geo) == 0);
        return &p->dev;
}

/* ---- the stage ---- */

#define MAX_TRACED 4096

struct stage {
        struct t_image img;
        struct uext4_bdev *dev; /* the trace filter */
        struct rig_mount m;
        struct uext4_file *file;
        struct uext4_queue *queue;
        uint8_t *buf; /* 1 MiB */
        struct fiemap_extent log[8];
        int nr_log;
};

/* Where the journal is. */
static void find_log(struct stage *st)
{
        struct uext4_inode *inode;
        struct uext4_file *log;

        assert_int_equal(uext4_inode_get(st->m.fs, 8, 0, &inode), 0);
        assert_int_equal(uext4_open(inode, O_RDONLY, &log), 0);
        st->nr_log = uext4_fiemap(log, 0, 4 << 20, st->log, ARRAY_LEN(st->log));
        assert_in_range(st->nr_log, 1, ARRAY_LEN(st->log) - 1);
        uext4_close(log);
        uext4_inode_put(inode);
}

/*
 * A file of 1280 KiB: 512 written, then 512 unwritten, then a hole; its map is
 * known, and nothing is left to be committed.
 */
static void t_open(struct stage *st)
{
        *st = (struct stage){
                .img = rig_make(24 << 20, EXT4_4K, NULL, "write /dev/null file\\n")};
        assert_int_equal(uext4_bdev_open_trace(plain_open(rig_open_image(&st->img)), MAX_TRACED,
                                               &st->dev),
                         0);
        assert_int_equal(rig_mount(&st->m, st->dev, RIG_OPTIONS), 0);
        find_log(st);
        assert_int_equal(uext4_open_path(st->m.fs, "/file", O_RDWR | O_DIRECT, &st->file), 0);
        assert_int_equal(uext4_queue_new(st->m.fs, DEPTH, &st->queue), 0);
        T_CHECK(posix_memalign((void **)&st->buf, 4096, 1 << 20) == 0);
        memset(st->buf, 'x', 1 << 20);
        assert_int_equal(uext4_pwrite(st->file, st->buf, 512 << 10, 0), 512 << 10);
        assert_int_equal(uext4_fallocate(st->file, 0, 512 << 10, 512 << 10), 0);
        assert_int_equal(uext4_truncate(st->file, FILE_SIZE), 0);
        assert_int_equal(uext4_pwrite(st->file, st->buf, BLOCK, 0), BLOCK);
        assert_int_equal(uext4_fsync(st->file), 0);
        assert_int_equal(uext4_syncfs(st->m.fs), 0);
        uext4_bdev_trace_reset(st->dev);
}

static void t_close(struct stage *st)
{
        uext4_queue_free(st->queue);
        uext4_close(st->file);
        rig_end(&st->m, st->dev, &st->img);
        free(st->buf);
}

/* ---- counting ---- */

struct cost {
        uint64_t reads, writes, fua, flushes; /* of the device; writes: but those to the log */
        uint64_t log_blocks;                  /* written there */
        uint64_t commits, memory;
};

static bool is_write(const struct uext4_bdev_trace_entry *e)
{
        return e->op == UEXT4_BDEV_WRITE || e->op == UEXT4_BDEV_WRITE_ZEROES;
}

static bool is_in_log(const struct stage *st, uint64_t pos)
{
        for (int i = 0; i < st->nr_log; i++) {
                if (pos >= st->log[i].fe_physical &&
                    pos < st->log[i].fe_physical + st->log[i].fe_length)
                        return true;
        }
        return false;
}

static void add_request(const struct stage *st, const struct uext4_bdev_trace_entry *e,
                        struct cost *c)
{
        bool is_log = is_in_log(st, e->pos);

        c->reads += e->op == UEXT4_BDEV_READ ? 1 : 0;
        c->flushes += e->op == UEXT4_BDEV_FLUSH ? 1 : 0;
        if (is_write(e) && is_log)
                c->log_blocks += e->len / BLOCK;
        else if (is_write(e))
                c->writes++;
        c->fua += is_write(e) && (e->flags & UEXT4_BDEV_FUA) ? 1 : 0;
}

static struct cost cost_so_far(struct stage *st)
{
        struct uext4_bdev_trace_entry *entries = t_alloc(MAX_TRACED * sizeof(*entries));
        size_t nr = uext4_bdev_trace_list(st->dev, entries, MAX_TRACED);
        struct cost c = {.memory = mem_count()};
        struct uext4_stats s;

        T_CHECK(nr < MAX_TRACED);
        for (size_t i = 0; i < nr; i++)
                add_request(st, &entries[i], &c);
        uext4_get_stats(st->m.fs, &s);
        c.commits = s.commits;
        free(entries);
        return c;
}

static struct cost since(struct stage *st, const struct cost *then)
{
        struct cost now = cost_so_far(st);

        return (struct cost){
                .reads = now.reads - then->reads,
                .writes = now.writes - then->writes,
                .fua = now.fua - then->fua,
                .flushes = now.flushes - then->flushes,
                .log_blocks = now.log_blocks - then->log_blocks,
                .commits = now.commits - then->commits,
                .memory = now.memory - then->memory,
        };
}

/* ---- what is done ---- */

static void do_write(struct stage *st, uint64_t pos, uint64_t len, int flags)
{
        const struct iovec iov = {st->buf, len};

        assert_int_equal(uext4_pwritev2(st->file, &iov, 1, pos, flags), len);
}

static void do_nothing(struct stage *st)
{
}

static void overwrite(struct stage *st)
{
        do_write(st, 8 * BLOCK, BLOCK, 0);
}

static void overwrite_a_sector(struct stage *st)
{
        do_write(st, 8 * BLOCK + 512, 512, 0);
}

static void overwrite_dsync(struct stage *st)
{
        do_write(st, 8 * BLOCK, BLOCK, RWF_DSYNC);
}

static void overwrite_nowait(struct stage *st)
{
        do_write(st, 8 * BLOCK, BLOCK, RWF_NOWAIT);
}

static void into_space(struct stage *st)
{
        do_write(st, 600 << 10, BLOCK, 0);
}

static void into_space_dsync(struct stage *st)
{
        do_write(st, 600 << 10, BLOCK, RWF_DSYNC);
}

static void into_hole_dsync(struct stage *st)
{
        do_write(st, 1100 << 10, BLOCK, RWF_DSYNC);
}

/* A new block at the end. */
static void append_dsync(struct stage *st)
{
        do_write(st, FILE_SIZE, BLOCK, RWF_DSYNC);
}

static void append_a_sector(struct stage *st)
{
        do_write(st, FILE_SIZE, 512, RWF_DSYNC);
}

static void append_another_sector_dsync(struct stage *st)
{
        do_write(st, FILE_SIZE + 512, 512, RWF_DSYNC);
}

static void sync_data(struct stage *st)
{
        assert_int_equal(uext4_fdatasync(st->file), 0);
}

static void fsync_and_fdatasync(struct stage *st)
{
        assert_int_equal(uext4_fsync(st->file), 0);
        assert_int_equal(uext4_fdatasync(st->file), 0);
}

/* `nr` requests of a block each, which have a block between them. */
static void queue_blocks(struct stage *st, unsigned nr, uint64_t pos, int flags)
{
        struct uext4_completion done[DEPTH];
        struct uext4_request reqs[DEPTH];
        const struct iovec iov = {st->buf, BLOCK};

        for (unsigned i = 0; i < nr; i++)
                reqs[i] = (struct uext4_request){.op = UEXT4_WRITE,
                                                 .flags = flags,
                                                 .file = st->file,
                                                 .iov = &iov,
                                                 .nr_iov = 1,
                                                 .pos = pos + 2 * i * BLOCK};
        assert_int_equal(uext4_queue_submit(st->queue, reqs, nr), nr);
        assert_int_equal(uext4_queue_wait(st->queue, done, nr, DEPTH, -1), nr);
        for (unsigned i = 0; i < nr; i++)
                assert_int_equal(done[i].result, BLOCK);
}

static void queue_overwrites(struct stage *st)
{
        queue_blocks(st, 64, 0, 0);
}

static void queue_overwrites_dsync(struct stage *st)
{
        queue_blocks(st, 64, 0, RWF_DSYNC);
}

static void queue_into_space_dsync(struct stage *st)
{
        queue_blocks(st, 64, 512 << 10, RWF_DSYNC);
}

/* ---- the table ---- */

#define ANY 999

struct row {
        const char *name;
        void (*before)(struct stage *st);
        void (*what)(struct stage *st);
        struct cost cost; /* log_blocks and memory: at most, others exactly; ANY */
};

static const struct row rows[] = {
        {"4k overwrite (C44)", do_nothing, overwrite, {.writes = 1}},
        {"overwrite of a sector (C5)", do_nothing, overwrite_a_sector, {.writes = 1}},
        {"overwrite, NOWAIT (C9)", do_nothing, overwrite_nowait, {.writes = 1}},
        {"overwrite, O_DSYNC (B7)", do_nothing, overwrite_dsync, {.writes = 1, .fua = 1}},
        {"64 overwrites (C44)", do_nothing, queue_overwrites, {.writes = 64, .memory = 64}},
        {"64 overwrites, O_DSYNC (B7)",
         do_nothing,
         queue_overwrites_dsync,
         {.writes = 64, .fua = 64, .memory = 64}},
        {"fdatasync, nothing written (B49)", do_nothing, sync_data, {.writes = 0}},
        {"fdatasync after O_DSYNC (B7)", overwrite_dsync, sync_data, {.writes = 0}},
        {"fdatasync after an overwrite (B51)", overwrite, sync_data, {.flushes = 1}},
        {"fdatasync, again", fsync_and_fdatasync, sync_data, {.writes = 0}},
        {"into prealloc. space (B40)", do_nothing, into_space, {.writes = 1, .memory = ANY}},
        {"the same, O_DSYNC (B7)",
         do_nothing,
         into_space_dsync,
         {.writes = 1, .fua = 1, .flushes = 1, .commits = 1, .log_blocks = 4, .memory = ANY}},
        {"64 into prealloc. space, O_DSYNC (C16)",
         do_nothing,
         queue_into_space_dsync,
         {.writes = 64, .fua = 1, .flushes = 1, .commits = 1, .log_blocks = 6, .memory = ANY}},
        {"into a hole, O_DSYNC (B40)",
         do_nothing,
         into_hole_dsync,
         {.writes = 1, .fua = 1, .flushes = 1, .commits = 1, .log_blocks = 6, .memory = ANY}},
        {"append a block, O_DSYNC (B38)",
         do_nothing,
         append_dsync,
         {.writes = 1, .fua = 1, .flushes = 1, .commits = 1, .log_blocks = 7, .memory = ANY}},
        {"append in a block, O_DSYNC",
         append_a_sector,
         append_another_sector_dsync,
         {.writes = 2, .fua = 1, .flushes = 1, .commits = 1, .log_blocks = 3, .memory = ANY}},
};

static void print_cost(const char *name, const struct cost *c)
{
        printf("# %-40s reads %llu, writes %llu, FUA %llu, flushes %llu, journal %llu, "
               "commits %llu, memory %llu\n",
               name, (unsigned long long)c->reads, (unsigned long long)c->writes,
               (unsigned long long)c->fua, (unsigned long long)c->flushes,
               (unsigned long long)c->log_blocks, (unsigned long long)c->commits,
               (unsigned long long)c->memory);
        fflush(stdout);
}

static void check_row(const struct row *row, const struct cost *c)
{
        t_assert_row(row->name, c->writes, row->cost.writes);
        t_assert_row(row->name, c->fua, row->cost.fua);
        t_assert_row(row->name, c->flushes, row->cost.flushes);
        t_assert_row(row->name, c->commits, row->cost.commits);
        if (c->log_blocks > row->cost.log_blocks)
                fail_msg("%s: %llu blocks of the journal", row->name,
                         (unsigned long long)c->log_blocks);
        if (c->memory > row->cost.memory)
                fail_msg("%s: memory is taken %llu times", row->name,
                         (unsigned long long)c->memory);
        if (row->cost.memory != ANY)
                t_assert_row(row->name, c->reads, 0);
}

static void table(void **state)
{
        struct cost before, c;
        struct stage st;

        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
                t_open(&st);
                rows[i].before(&st);
                before = cost_so_far(&st);
                rows[i].what(&st);
                c = since(&st, &before);
                print_cost(rows[i].name, &c);
                check_row(&rows[i], &c);
                t_close(&st);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(table),
        };

        return cmocka_run_group_tests_name("write_costs", tests, NULL, NULL);
}
