/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * iomap over a fake file system: a table of mappings, on a memory device under the fault and
 * trace filters.  Every byte of the device tells its position, so that a byte that came from
 * the wrong place is seen.
 */

#include <linux/fiemap.h>
#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#include "iomap/iomap.h"
#include "t_util.h"

#define BLK      1024u
#define DEV_SIZE (4u << 20)
#define MAX_MAPS 40

/* ---- the fake file system ---- */

struct fake {
        struct vfs_super sb;
        struct vfs_inode inode;
        struct uext4_bdev *fault, *dev; /* dev is the trace filter on top */
        struct t_log log;

        struct iomap maps[MAX_MAPS]; /* in order; what is between is a hole */
        unsigned nr_maps;

        uint64_t fail_from; /* begin fails at or behind this position */
        int fail_error;     /* 0: it does not */
        int end_error;
        int64_t new_size;  /* set by begin unless negative: the size changes under the reader */
        uint32_t op_flags; /* that begin saw */
        unsigned nr_begins, nr_ends;
        uint64_t nr_direct_at_begin;         /* requests counted, at the last one */
        uint64_t end_pos, end_len, end_done; /* of the last end */
};

static uint8_t device_byte(uint64_t addr)
{
        uint64_t z = addr * 0x9e3779b97f4a7c15u;

        return (uint8_t)(1 +
                         (z >> 40) % 250); /* 1 .. 250: neither a hole nor untouched memory */
}

static struct fake *fake_of(struct vfs_inode *inode)
{
        return container_of(inode, struct fake, inode);
}

/* The mapping that covers pos: one of the table, or the hole around it. */
static struct iomap map_at(const struct fake *f, uint64_t pos)
{
        struct iomap hole = {.addr = IOMAP_NULL_ADDR, .type = IOMAP_HOLE, .offset = 0};
        uint64_t end = INT64_MAX;

        for (unsigned i = 0; i < f->nr_maps; i++) {
                const struct iomap *m = &f->maps[i];

                if (pos < m->offset) {
                        end = m->offset;
                        break;
                }
                if (pos < m->offset + m->length)
                        return *m;
                hole.offset = m->offset + m->length;
        }
        hole.length = end - hole.offset;
        return hole;
}

static int fake_begin(struct vfs_inode *inode, uint64_t pos, uint64_t len, uint32_t op_flags,
                      struct iomap *ret_map)
{
        struct fake *f = fake_of(inode);

        f->nr_begins++;
        f->nr_direct_at_begin = atomic_load(&inode->dio.nr);
        f->op_flags = op_flags;
        if (f->new_size >= 0)
                atomic_store(&inode->size, (uint64_t)f->new_size);
        if (f->fail_error && pos >= f->fail_from)
                return f->fail_error;
        *ret_map = map_at(f, pos);
        return 0;
}

static int fake_end(struct vfs_inode *inode, uint64_t pos, uint64_t len, uint64_t done,
                    uint32_t op_flags, const struct iomap *map)
{
        struct fake *f = fake_of(inode);

        f->nr_ends++;
        f->end_pos = pos;
        f->end_len = len;
        f->end_done = done;
        return f->end_error;
}

static const struct iomap_ops fake_ops = {.begin = fake_begin};
static const struct iomap_ops fake_ops_with_end = {.begin = fake_begin, .end = fake_end};

static void fake_init(struct fake *f, uint64_t size)
{
        static uint8_t bytes[DEV_SIZE]; /* made once */
        struct uext4_bdev *mem;
        struct log_sink sink;

        memset(f, 0, sizeof(*f));
        t_log_init(&f->log);
        sink = t_log_sink(&f->log);
        T_CHECK(uext4_bdev_open_mem(DEV_SIZE, &mem) == 0);
        for (uint64_t i = 0; bytes[DEV_SIZE - 1] == 0 && i < DEV_SIZE; i++)
                bytes[i] = device_byte(i);
        memcpy(mem->ops->mapping(mem), bytes, DEV_SIZE);
        T_CHECK(uext4_bdev_open_fault(mem, &f->fault) == 0);
        T_CHECK(uext4_bdev_open_trace(f->fault, 64, &f->dev) == 0);
        vfs_super_init(&f->sb, f->dev, &sink);
        vfs_inode_init(&f->inode, &f->sb, 12);
        atomic_store(&f->inode.size, size);
        f->new_size = -1;
}

static void fake_done(struct fake *f)
{
        vfs_inode_done(&f->inode);
        vfs_super_done(&f->sb);
        uext4_bdev_close(f->dev);
}

/* Blocks of the file at a block of the device. */
static void add_map(struct fake *f, enum iomap_type type, uint64_t blk, uint64_t nr,
                    uint64_t dev_blk)
{
        T_CHECK(f->nr_maps < MAX_MAPS);
        f->maps[f->nr_maps++] = (struct iomap){
                .type = type,
                .offset = blk * BLK,
                .length = nr * BLK,
                .addr = type == IOMAP_MAPPED || type == IOMAP_UNWRITTEN ? dev_blk * BLK
                                                                        : IOMAP_NULL_ADDR,
        };
}

static uint8_t file_byte(const struct fake *f, uint64_t pos)
{
        struct iomap m = map_at(f, pos);

        switch (m.type) {
        case IOMAP_MAPPED:
                return device_byte(iomap_addr_of(&m, pos));
        case IOMAP_INLINE:
                return ((const uint8_t *)m.inline_data)[pos - m.offset];
        default:
                return 0;
        }
}

static void fail_reads(struct fake *f, uint64_t blk, uint64_t nr, int error)
{
        const struct uext4_bdev_fault rule = {
                .ops = 1u << UEXT4_BDEV_READ,
                .pos = blk * BLK,
                .len = nr * BLK,
                .error = error,
        };

        T_CHECK(uext4_bdev_fault_add(f->fault, &rule) == 0);
}

static uint64_t nr_requests(struct fake *f)
{
        struct uext4_bdev_counts counts;

        uext4_bdev_trace_counts(f->dev, &counts);
        return counts.requests[UEXT4_BDEV_READ];
}

/* ---- a direct read ---- */

enum mode {
        SYNC,
        QUEUED, /* the submitter drives the queue */
        NR_MODES,
};

static const char *const mode_names[] = {"sync", "queued"};

struct dio_req {
        struct vfs_kiocb iocb;
        struct iomap_dio dio;
        struct vfs_queue queue;
        int64_t result;
        uint32_t
                pending_at_complete; /* the inode's count of direct I/O, as complete() saw it */
        _Atomic unsigned nr_completes;
};

static void on_complete(struct vfs_kiocb *iocb, int64_t result)
{
        struct dio_req *r = container_of(iocb, struct dio_req, iocb);

        r->result = result;
        r->pending_at_complete = atomic_load(&iocb->inode->dio.nr);
        atomic_fetch_add(&r->nr_completes, 1);
}

static int64_t start_read(struct fake *f, struct dio_req *r, struct uext4_bdev_queue *queue,
                          uint64_t pos, const struct iovec *iov, int nr, uint32_t flags)
{
        struct iov_iter iter;

        r->iocb = (struct vfs_kiocb){
                .inode = &f->inode,
                .pos = pos,
                .flags = flags,
                .queue = queue ? &r->queue : NULL,
                .complete = on_complete,
        };
        r->queue.bdev_queue = queue;
        atomic_store(&r->nr_completes, 0);
        T_CHECK(iov_iter_init(&iter, iov, nr) == 0);
        return iomap_dio_read(&r->dio, &r->iocb, &iter, &fake_ops);
}

static int64_t read_queued(struct fake *f, uint64_t pos, const struct iovec *iov, int nr,
                           uint32_t flags)
{
        struct uext4_bdev_queue *queue;
        struct dio_req r;
        int64_t ret;

        T_CHECK(uext4_bdev_queue_new(f->dev, 8, &queue) == 0);
        ret = start_read(f, &r, queue, pos, iov, nr, flags);
        if (ret == VFS_QUEUED) {
                while (atomic_load(&r.nr_completes) == 0)
                        T_CHECK(uext4_bdev_queue_drive(queue, -1) >= 0);
                assert_int_equal(r.nr_completes, 1);
                assert_int_equal(r.pending_at_complete, 0); /* C16 */
                ret = r.result;
        }
        uext4_bdev_queue_free(queue);
        return ret;
}

static int64_t read_v(struct fake *f, enum mode mode, uint64_t pos, const struct iovec *iov,
                      int nr, uint32_t flags)
{
        struct dio_req r;
        int64_t ret;

        uext4_bdev_trace_reset(f->dev);
        if (mode == QUEUED) {
                ret = read_queued(f, pos, iov, nr, flags);
        } else {
                ret = start_read(f, &r, NULL, pos, iov, nr, flags);
                assert_int_equal(r.nr_completes, 0);
        }
        assert_int_equal(atomic_load(&f->inode.dio.nr), 0);
        return ret;
}

static int64_t read_flat(struct fake *f, enum mode mode, uint64_t pos, void *buf, size_t len,
                         uint32_t flags)
{
        const struct iovec iov = {buf, len};

        memset(buf, 0xff, len);
        return read_v(f, mode, pos, &iov, 1, flags);
}

static void assert_bytes(const struct fake *f, uint64_t pos, const uint8_t *buf, size_t len)
{
        for (size_t i = 0; i < len; i++) {
                if (buf[i] != file_byte(f, pos + i))
                        fail_msg("byte %llu of the file is %u, not %u",
                                 (unsigned long long)(pos + i), buf[i], file_byte(f, pos + i));
        }
}

/* ---- the iterator ---- */

static void iterator_walks_mappings_and_clips_them_to_the_range(void **state)
{
        static const struct {
                uint64_t pos, len;
                enum iomap_type type;
        } want[] = {
                {512, 512, IOMAP_MAPPED},
                {1024, 2048, IOMAP_HOLE},
                {3072, 1024, IOMAP_UNWRITTEN},
                {4096, 100, IOMAP_HOLE},
        };
        struct iomap_iter it;
        struct fake f;
        unsigned n = 0;
        int ret;

        fake_init(&f, 1 << 20);
        add_map(&f, IOMAP_MAPPED, 0, 1, 7);
        add_map(&f, IOMAP_UNWRITTEN, 3, 1, 9);
        it = (struct iomap_iter)IOMAP_ITER(&f.inode, 512, 4196 - 512, IOMAP_OP_NOWAIT,
                                           &fake_ops);
        while ((ret = iomap_iter_next(&it)) > 0) {
                assert_true(n < ARRAY_LEN(want));
                assert_int_equal(it.pos, want[n].pos);
                assert_int_equal(it.map.type, want[n].type);
                assert_int_equal(iomap_iter_length(&it), want[n].len);
                assert_int_equal(f.op_flags, IOMAP_OP_NOWAIT);
                iomap_iter_advance(&it, want[n++].len);
        }
        assert_int_equal(ret, 0);
        assert_int_equal(n, ARRAY_LEN(want));
        assert_int_equal(f.nr_begins, n);
        fake_done(&f);
}

static void iterator_of_an_empty_range_asks_nothing(void **state)
{
        struct iomap_iter it;
        struct fake f;

        fake_init(&f, 1 << 20);
        it = (struct iomap_iter)IOMAP_ITER(&f.inode, 512, 0, 0, &fake_ops_with_end);
        assert_int_equal(iomap_iter_next(&it), 0);
        assert_int_equal(f.nr_begins + f.nr_ends, 0);
        fake_done(&f);
}

static void end_hears_what_was_done(void **state)
{
        struct iomap_iter it;
        struct fake f;

        fake_init(&f, 1 << 20);
        it = (struct iomap_iter)IOMAP_ITER(&f.inode, 1000, 5000, 0, &fake_ops_with_end);
        assert_int_equal(iomap_iter_next(&it), 1);
        iomap_iter_advance(&it, 300);
        iomap_iter_advance(&it, 0);
        iomap_iter_advance(&it, 7);
        assert_int_equal(f.nr_ends, 0);
        assert_int_equal(iomap_iter_next(&it), 1); /* a part was used: go on behind it */
        assert_int_equal(f.nr_ends, 1);
        assert_int_equal(f.end_pos, 1000);
        assert_int_equal(f.end_len, 5000);
        assert_int_equal(f.end_done, 307);
        assert_int_equal(it.pos, 1307);
        iomap_iter_advance(&it, 4693);
        assert_int_equal(iomap_iter_next(&it), 0);
        assert_int_equal(f.nr_ends, 2);
        assert_int_equal(f.end_pos, 1307);
        assert_int_equal(f.end_len, 4693);
        assert_int_equal(f.end_done, 4693);
        fake_done(&f);
}

/* A round of the iterator that ends it. */
static const struct {
        const char *name;
        uint64_t advance;
        int status, end_error;
        int want;
        uint64_t want_pos;
} last_rounds[] = {
        {"neither advanced nor failed", 0, 0, 0, 0, 1000},
        {"failed", 0, -ENOMEM, 0, -ENOMEM, 1000},
        {"advanced and failed", 300, -ENOMEM, 0, -ENOMEM, 1300},
        {"end failed", 300, 0, -ENOSPC, -ENOSPC, 1300},
        {"end failed without progress", 0, 0, -ENOSPC, -ENOSPC, 1000},
        {"both failed: the round's error (C30)", 300, -EINVAL, -ENOTBLK, -EINVAL, 1300},
        {"both failed without progress", 0, -EINVAL, -ENOTBLK, -EINVAL, 1000},
};

static void advancing_and_failing_are_two_things(void **state)
{
        for (size_t i = 0; i < ARRAY_LEN(last_rounds); i++) {
                struct iomap_iter it;
                struct fake f;

                fake_init(&f, 1 << 20);
                f.end_error = last_rounds[i].end_error;
                it = (struct iomap_iter)IOMAP_ITER(&f.inode, 1000, 5000, 0, &fake_ops_with_end);
                t_assert_row(last_rounds[i].name, iomap_iter_next(&it), 1);
                iomap_iter_advance(&it, last_rounds[i].advance);
                it.status = last_rounds[i].status;
                t_assert_row(last_rounds[i].name, iomap_iter_next(&it), last_rounds[i].want);
                t_assert_row(last_rounds[i].name, it.pos, last_rounds[i].want_pos);
                t_assert_row(last_rounds[i].name, f.nr_begins, 1);
                t_assert_row(last_rounds[i].name, f.nr_ends, 1);
                t_assert_row(last_rounds[i].name, f.end_done, last_rounds[i].advance);
                fake_done(&f);
        }
}

static void error_of_begin_ends_without_end(void **state)
{
        struct iomap_iter it;
        struct fake f;

        fake_init(&f, 1 << 20);
        f.fail_error = -EUCLEAN;
        it = (struct iomap_iter)IOMAP_ITER(&f.inode, 0, 5000, 0, &fake_ops_with_end);
        assert_int_equal(iomap_iter_next(&it), -EUCLEAN);
        assert_int_equal(f.nr_ends, 0);
        f.fail_from = 100;
        it = (struct iomap_iter)IOMAP_ITER(&f.inode, 0, 5000, 0, &fake_ops_with_end);
        assert_int_equal(iomap_iter_next(&it), 1);
        iomap_iter_advance(&it, 100);
        assert_int_equal(iomap_iter_next(&it), -EUCLEAN);
        assert_int_equal(f.nr_ends, 1); /* of the first */
        fake_done(&f);
}

/* ---- direct reads: data ---- */

/* Blocks 0-1 mapped, 2 hole, 3-4 unwritten, 5 inline, 6 mapped elsewhere, 7 hole. */
static void add_all_types(struct fake *f, const void *inline_data)
{
        add_map(f, IOMAP_MAPPED, 0, 2, 100);
        add_map(f, IOMAP_UNWRITTEN, 3, 2, 103);
        add_map(f, IOMAP_INLINE, 5, 1, 0);
        f->maps[f->nr_maps - 1].inline_data = inline_data;
        add_map(f, IOMAP_MAPPED, 6, 1, 50);
}

static void all_mapping_types_in_one_request(void **state)
{
        static uint8_t inline_data[BLK], buf[8 * BLK];
        struct fake f;

        memset(inline_data, 0xee, sizeof(inline_data));
        for (int mode = SYNC; mode < NR_MODES; mode++) {
                fake_init(&f, sizeof(buf));
                add_all_types(&f, inline_data);
                for (uint64_t pos = 0; pos < sizeof(buf); pos += 512) {
                        for (size_t len = 512; len <= sizeof(buf); len += 512) {
                                size_t want = min_t(size_t, len, sizeof(buf) - pos);

                                assert_int_equal(
                                        read_flat(&f, (enum mode)mode, pos, buf, len, 0), want);
                                assert_bytes(&f, pos, buf, want);
                                for (size_t i = want; i < len; i++)
                                        assert_int_equal(buf[i], 0xff);
                        }
                }
                fake_done(&f);
        }
}

static const struct {
        const char *name;
        struct {
                enum iomap_type type;
                uint64_t blk, nr, dev_blk;
        } maps[4];
        unsigned nr_maps;
        uint64_t want; /* device requests for blocks 0 .. 11 */
} merges[] = {
        {"one mapping", {{IOMAP_MAPPED, 0, 12, 100}}, 1, 1},
        {"neighbours on the device",
         {{IOMAP_MAPPED, 0, 4, 100}, {IOMAP_MAPPED, 4, 8, 104}},
         2,
         1},
        {"three of them",
         {{IOMAP_MAPPED, 0, 4, 100}, {IOMAP_MAPPED, 4, 4, 104}, {IOMAP_MAPPED, 8, 4, 108}},
         3,
         1},
        {"a gap on the device", {{IOMAP_MAPPED, 0, 4, 100}, {IOMAP_MAPPED, 4, 8, 105}}, 2, 2},
        {"backwards on the device",
         {{IOMAP_MAPPED, 0, 4, 104}, {IOMAP_MAPPED, 4, 4, 100}},
         2,
         2},
        {"the same place twice", {{IOMAP_MAPPED, 0, 4, 100}, {IOMAP_MAPPED, 4, 4, 100}}, 2, 2},
        {"a hole between neighbours on the device",
         {{IOMAP_MAPPED, 0, 4, 100}, {IOMAP_MAPPED, 6, 4, 104}},
         2,
         2},
        {"unwritten between neighbours on the device",
         {{IOMAP_MAPPED, 0, 4, 100}, {IOMAP_UNWRITTEN, 4, 2, 200}, {IOMAP_MAPPED, 6, 4, 104}},
         3,
         2},
        {"unwritten in one piece with the rest",
         {{IOMAP_MAPPED, 0, 4, 100}, {IOMAP_UNWRITTEN, 4, 2, 104}, {IOMAP_MAPPED, 6, 4, 106}},
         3,
         2},
        {"holes only", {{IOMAP_UNWRITTEN, 0, 3, 100}}, 1, 0},
        {"two and two",
         {{IOMAP_MAPPED, 0, 2, 10},
          {IOMAP_MAPPED, 2, 2, 12},
          {IOMAP_MAPPED, 4, 2, 50},
          {IOMAP_MAPPED, 6, 2, 52}},
         4,
         2},
};

static void neighbours_on_the_device_become_one_request(void **state)
{
        static uint8_t buf[12 * BLK];

        for (size_t i = 0; i < ARRAY_LEN(merges) * NR_MODES; i++) {
                size_t row = i / NR_MODES;
                struct fake f;

                fake_init(&f, sizeof(buf));
                for (unsigned m = 0; m < merges[row].nr_maps; m++)
                        add_map(&f, merges[row].maps[m].type, merges[row].maps[m].blk,
                                merges[row].maps[m].nr, merges[row].maps[m].dev_blk);
                t_assert_row(merges[row].name,
                             read_flat(&f, i % NR_MODES, 0, buf, sizeof(buf), 0), sizeof(buf));
                t_assert_row(merges[row].name, nr_requests(&f), merges[row].want);
                t_assert_row(merges[row].name, vfs_counter_sum(&f.sb, VFS_DEVICE_READS),
                             merges[row].want);
                assert_bytes(&f, 0, buf, sizeof(buf));
                fake_done(&f);
        }
}

/* Cut [0, len) of `mem` into pieces of whole units, with some of length 0 between. */
static int scatter(struct iovec *iov, int max, uint8_t *mem, size_t len, uint64_t *seed)
{
        size_t at = 0;
        int nr = 0;

        while (at < len && nr < max - 1) {
                size_t n = 512 * t_below(seed, 9);

                n = min_t(size_t, n, len - at);
                iov[nr++] = (struct iovec){mem + at, n};
                at += n;
        }
        if (at < len)
                iov[nr++] = (struct iovec){mem + at, len - at};
        return nr;
}

static void random_maps(struct fake *f, uint64_t *seed)
{
        uint64_t blk = t_below(seed, 3), dev_blk = t_below(seed, 1000);

        f->nr_maps = 0;
        while (blk < 60 && f->nr_maps < MAX_MAPS) {
                uint64_t nr = 1 + t_below(seed, 6);

                if (t_below(seed, 2))
                        dev_blk = t_below(seed, 4000);
                add_map(f, t_below(seed, 4) ? IOMAP_MAPPED : IOMAP_UNWRITTEN, blk, nr, dev_blk);
                blk += nr + (t_below(seed, 2) ? t_below(seed, 4) : 0);
                dev_blk += nr;
        }
}

static void random_maps_and_vectors_read_right(void **state)
{
        static uint8_t mem[80 * BLK];
        uint64_t seed = t_seed();
        struct fake f;

        fake_init(&f, 0);
        for (int round = 0; round < 600; round++) {
                struct iovec iov[32];
                uint64_t size = t_below(&seed, 64 * BLK);
                uint64_t pos = 512 * t_below(&seed, 100);
                size_t len = 512 * t_below(&seed, 120);
                size_t want = pos >= size ? 0 : min_t(size_t, len, size - pos);
                enum mode mode = round % NR_MODES;
                int nr;

                random_maps(&f, &seed);
                atomic_store(&f.inode.size, size);
                memset(mem, 0xff, sizeof(mem));
                nr = scatter(iov, ARRAY_LEN(iov), mem, len, &seed);
                t_assert_row(mode_names[mode], read_v(&f, mode, pos, iov, nr, 0), want);
                assert_bytes(&f, pos, mem, want);
                /* At most the unit that holds the end is filled, too (B29). */
                for (size_t i = round_up_pow2(want, 512); i < sizeof(mem); i++)
                        assert_int_equal(mem[i], 0xff);
        }
        fake_done(&f);
}

/* ---- direct reads: the size (B29) ---- */

static void reads_end_at_the_size(void **state)
{
        static const struct {
                const char *name;
                uint64_t size, pos;
                size_t len;
                int64_t want;
                uint64_t want_bytes; /* over the wire */
        } rows[] = {
                {"inside", 4096, 0, 2048, 2048, 2048},
                {"up to the end", 4096, 1024, 3072, 3072, 3072},
                {"over the end", 4096, 3072, 4096, 1024, 1024},
                {"at the end", 4096, 4096, 512, 0, 0},
                {"behind the end", 4096, 8192, 512, 0, 0},
                {"nothing", 4096, 0, 0, 0, 0},
                {"empty file", 0, 0, 512, 0, 0},
                {"end inside a unit", 1000, 0, 4096, 1000, 1024},
                {"end in the first byte of a unit", 1025, 0, 4096, 1025, 1536},
                {"end in the last byte of a unit", 1535, 512, 4096, 1023, 1024},
                {"one byte", 1, 0, 512, 1, 512},
        };
        static uint8_t buf[8 * BLK];

        for (size_t i = 0; i < ARRAY_LEN(rows) * NR_MODES; i++) {
                size_t row = i / NR_MODES;
                struct uext4_bdev_counts counts;
                struct fake f;

                fake_init(&f, rows[row].size);
                add_map(&f, IOMAP_MAPPED, 0, 16, 100);
                memset(buf, 0xff, sizeof(buf));
                t_assert_row(rows[row].name,
                             read_flat(&f, i % NR_MODES, rows[row].pos, buf, rows[row].len, 0),
                             rows[row].want);
                uext4_bdev_trace_counts(f.dev, &counts);
                t_assert_row(rows[row].name, counts.bytes[UEXT4_BDEV_READ],
                             rows[row].want_bytes);
                assert_bytes(&f, rows[row].pos, buf, (size_t)rows[row].want);
                fake_done(&f);
        }
}

static void size_is_sampled_at_the_start(void **state)
{
        static const int64_t new_sizes[] = {0, 100, 4096, 1 << 20};
        static uint8_t buf[8 * BLK];

        for (size_t i = 0; i < ARRAY_LEN(new_sizes) * NR_MODES; i++) {
                struct fake f;

                fake_init(&f, 3000);
                add_map(&f, IOMAP_MAPPED, 0, 1, 100);
                add_map(&f, IOMAP_MAPPED, 1, 7, 200);
                f.new_size = new_sizes[i / NR_MODES];
                assert_int_equal(read_flat(&f, i % NR_MODES, 0, buf, sizeof(buf), 0), 3000);
                assert_bytes(&f, 0, buf, 3000);
                fake_done(&f);
        }
}

/* ---- direct reads: errors ---- */

static void first_device_error_is_the_result(void **state)
{
        static uint8_t buf[8 * BLK];

        for (int mode = SYNC; mode < NR_MODES; mode++) {
                struct fake f;

                fake_init(&f, sizeof(buf));
                add_map(&f, IOMAP_MAPPED, 0, 2, 100);
                add_map(&f, IOMAP_MAPPED, 2, 2, 200);
                add_map(&f, IOMAP_MAPPED, 4, 2, 300);
                fail_reads(&f, 300, 2, -ENODATA);
                fail_reads(&f, 200, 2, -ETIMEDOUT);
                t_assert_row(mode_names[mode], read_flat(&f, mode, 0, buf, sizeof(buf), 0),
                             -ETIMEDOUT);
                t_assert_row(mode_names[mode], nr_requests(&f), mode == SYNC ? 2 : 3);
                uext4_bdev_fault_clear(f.fault);
                t_assert_row(mode_names[mode], read_flat(&f, mode, 0, buf, sizeof(buf), 0),
                             sizeof(buf));
                assert_bytes(&f, 0, buf, sizeof(buf));
                fake_done(&f);
        }
}

static void early_end_of_the_device_is_eio(void **state)
{
        const struct uext4_bdev_fault rule = {.ops = 1u << UEXT4_BDEV_READ, .short_len = 0};
        static uint8_t buf[8 * BLK];

        for (int mode = SYNC; mode < NR_MODES; mode++) {
                struct fake f;

                fake_init(&f, sizeof(buf));
                add_map(&f, IOMAP_MAPPED, 0, 8, 100);
                assert_int_equal(uext4_bdev_fault_add(f.fault, &rule), 0);
                t_assert_row(mode_names[mode], read_flat(&f, mode, 0, buf, sizeof(buf), 0),
                             -EIO);
                fake_done(&f);
        }
}

static void error_of_the_map_is_the_result(void **state)
{
        static uint8_t buf[8 * BLK];

        for (int mode = SYNC; mode < NR_MODES; mode++) {
                struct fake f;

                fake_init(&f, sizeof(buf));
                add_map(&f, IOMAP_MAPPED, 0, 4, 100);
                f.fail_error = -EUCLEAN;
                t_assert_row(mode_names[mode], read_flat(&f, mode, 0, buf, sizeof(buf), 0),
                             -EUCLEAN);
                t_assert_row(mode_names[mode], nr_requests(&f), 0);
                f.fail_from = 4 * BLK; /* behind good data: still no short read */
                t_assert_row(mode_names[mode], read_flat(&f, mode, 0, buf, sizeof(buf), 0),
                             -EUCLEAN);
                t_assert_row(mode_names[mode], read_flat(&f, mode, 0, buf, 4 * BLK, 0),
                             4 * BLK);
                fake_done(&f);
        }
}

static void delayed_extents_are_eio(void **state) /* B30 */
{
        static uint8_t buf[8 * BLK];

        for (int mode = SYNC; mode < NR_MODES; mode++) {
                struct fake f;

                fake_init(&f, sizeof(buf));
                add_map(&f, IOMAP_MAPPED, 0, 2, 100);
                add_map(&f, IOMAP_DELALLOC, 2, 2, 0);
                t_assert_row(mode_names[mode], read_flat(&f, mode, 0, buf, sizeof(buf), 0),
                             -EIO);
                t_assert_row(mode_names[mode], read_flat(&f, mode, 0, buf, 2 * BLK, 0),
                             2 * BLK);
                fake_done(&f);
        }
}

static void nowait_gives_what_is_at_hand(void **state)
{
        static uint8_t buf[8 * BLK];

        for (int mode = SYNC; mode < NR_MODES; mode++) {
                struct fake f;

                fake_init(&f, sizeof(buf));
                add_map(&f, IOMAP_MAPPED, 0, 2, 100);
                add_map(&f, IOMAP_MAPPED, 3, 2, 200);
                f.fail_error = -EAGAIN;
                f.fail_from = 0;
                t_assert_row(mode_names[mode],
                             read_flat(&f, mode, 0, buf, sizeof(buf), VFS_NOWAIT), -EAGAIN);
                t_assert_row(mode_names[mode], nr_requests(&f), 0);
                assert_int_equal(f.op_flags, IOMAP_OP_NOWAIT);
                f.fail_from = 2 * BLK; /* behind data */
                t_assert_row(mode_names[mode],
                             read_flat(&f, mode, 0, buf, sizeof(buf), VFS_NOWAIT), 2 * BLK);
                assert_bytes(&f, 0, buf, 2 * BLK);
                f.fail_from = 3 * BLK; /* behind a hole */
                t_assert_row(mode_names[mode],
                             read_flat(&f, mode, 0, buf, sizeof(buf), VFS_NOWAIT), 3 * BLK);
                assert_bytes(&f, 0, buf, 3 * BLK);
                /* An error of what was at hand counts. */
                fail_reads(&f, 100, 2, -EIO);
                t_assert_row(mode_names[mode],
                             read_flat(&f, mode, 0, buf, sizeof(buf), VFS_NOWAIT), -EIO);
                fake_done(&f);
        }
}

static void device_that_says_again_is_an_error(void **state)
{
        static const uint64_t places[] = {100, 200, 300};
        static uint8_t buf[8 * BLK];

        for (size_t i = 0; i < ARRAY_LEN(places) * NR_MODES * 2; i++) {
                uint32_t flags = i % 2 ? VFS_NOWAIT : 0;
                struct fake f;

                fake_init(&f, 6 * BLK);
                add_map(&f, IOMAP_MAPPED, 0, 2, 100);
                add_map(&f, IOMAP_MAPPED, 2, 2, 200);
                add_map(&f, IOMAP_MAPPED, 4, 2, 300);
                fail_reads(&f, places[i / 2 / NR_MODES], 1, -EAGAIN);
                assert_int_equal(read_flat(&f, i / 2 % NR_MODES, 0, buf, sizeof(buf), flags),
                                 -EAGAIN);
                fake_done(&f);
        }
}

static void requests_that_the_queue_refuses_are_errors(void **state)
{
        static uint8_t buf[8 * BLK];
        struct fake f;

        fake_init(&f, sizeof(buf));
        add_map(&f, IOMAP_MAPPED, 0, 2, 100);
        add_map(&f, IOMAP_MAPPED, 2, 2, DEV_SIZE / BLK); /* a map that leads outside */
        add_map(&f, IOMAP_MAPPED, 4, 2, 200);
        for (int mode = SYNC; mode < NR_MODES; mode++)
                t_assert_row(mode_names[mode], read_flat(&f, mode, 0, buf, sizeof(buf), 0),
                             -ENXIO);
        fake_done(&f);
}

static void without_memory_reads_are_enomem(void **state)
{
        static uint8_t buf[16 * BLK];

        for (int mode = SYNC; mode < NR_MODES; mode++) {
                const struct iovec iov[4] = {{buf, 5 * BLK},
                                             {buf + 5 * BLK, 512},
                                             {buf + 5 * BLK + 512, 3 * BLK},
                                             {buf + 8 * BLK + 512, 7 * BLK + 512}};
                struct uext4_bdev_queue *queue = NULL;
                int fails = 0;
                struct fake f;

                fake_init(&f, sizeof(buf));
                for (uint64_t b = 0; b < 16; b += 4)
                        add_map(&f, IOMAP_MAPPED, b, 4, 100 * (b + 1));
                if (mode == QUEUED)
                        assert_int_equal(uext4_bdev_queue_new(f.dev, 8, &queue), 0);
                for (int n = 0;; n++) {
                        struct dio_req r;
                        int64_t ret;

                        memset(buf, 0xff, sizeof(buf));
                        mem_fail_after(n);
                        ret = start_read(&f, &r, queue, 0, iov, 4, 0);
                        mem_fail_after(-1);
                        while (ret == VFS_QUEUED && atomic_load(&r.nr_completes) == 0)
                                T_CHECK(uext4_bdev_queue_drive(queue, -1) >= 0);
                        if (ret == VFS_QUEUED)
                                ret = r.result;
                        assert_int_equal(atomic_load(&f.inode.dio.nr), 0);
                        if (ret == sizeof(buf))
                                break;
                        t_assert_row(mode_names[mode], ret, -ENOMEM);
                        fails++;
                }
                assert_bytes(&f, 0, buf, sizeof(buf));
                assert_true(fails >= 4);
                uext4_bdev_queue_free(queue);
                fake_done(&f);
        }
}

static void one_request_with_one_buffer_allocates_nothing(void **state)
{
        static uint8_t buf[8 * BLK];
        const struct iovec iov = {buf, sizeof(buf)};
        struct dio_req r;
        uint64_t before;
        struct fake f;

        fake_init(&f, sizeof(buf));
        add_map(&f, IOMAP_MAPPED, 0, 4, 100);
        add_map(&f, IOMAP_MAPPED, 4, 2, 104); /* and then a hole */
        before = mem_count();
        assert_int_equal(start_read(&f, &r, NULL, 0, &iov, 1, 0), sizeof(buf));
        assert_int_equal(mem_count() - before, 0);
        fake_done(&f);
}

/* ---- very long reads ---- */

struct log_device {
        struct uext4_bdev dev;
        uint64_t pos[8], len[8];
        unsigned nr;
};

static int64_t log_read(struct uext4_bdev *dev, const struct iovec *iov, int nr_iov,
                        uint64_t pos)
{
        struct log_device *d = container_of(dev, struct log_device, dev);
        uint64_t sum = 0;

        for (int i = 0; i < nr_iov; i++)
                sum += iov[i].iov_len;
        T_CHECK(d->nr < 8);
        d->pos[d->nr] = pos;
        d->len[d->nr++] = sum;
        return (int64_t)sum;
}

static void log_close(struct uext4_bdev *dev)
{
}

static void long_stretches_are_cut_into_requests_of_1_gib(void **state)
{
        static const struct uext4_bdev_ops ops = {
                .name = "log", .read = log_read, .close = log_close};
        const uint64_t gib = 1u << 30;
        const struct uext4_bdev_geometry geo = {.size = 4 * gib,
                                                .logical_block = 512,
                                                .mem_align = 1,
                                                .caps = UEXT4_BDEV_CAP_READONLY};
        const uint64_t len = 2 * gib + gib / 2;
        struct log_device d = {.nr = 0};
        struct iovec iov[2];
        struct dio_req r;
        struct fake f;
        char *mem;

        mem = mmap(NULL, len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        assert_true(mem != MAP_FAILED);
        fake_init(&f, 4 * gib);
        assert_int_equal(uext4_bdev_init(&d.dev, &ops, &geo), 0);
        f.sb.dev = &d.dev;
        add_map(&f, IOMAP_MAPPED, 0, 4 * gib / BLK - 1, 1);
        iov[0] = (struct iovec){mem, gib / 2};
        iov[1] = (struct iovec){mem + gib / 2, 2 * gib};
        assert_int_equal(start_read(&f, &r, NULL, 0, iov, 2, 0), len);
        assert_int_equal(d.nr, 3);
        for (unsigned i = 0; i < 3; i++) {
                assert_int_equal(d.pos[i], BLK + i * gib);
                assert_int_equal(d.len[i], i < 2 ? gib : gib / 2);
        }
        munmap(mem, len);
        fake_done(&f);
}

/* ---- completion elsewhere ---- */

struct helper {
        struct uext4_bdev_queue *queue;
        pthread_t id;
        _Atomic bool stop;
};

static void *help(void *arg)
{
        struct helper *h = arg;

        while (!atomic_load(&h->stop)) {
                T_CHECK(uext4_bdev_queue_drive(h->queue, 1000000) >= 0);
                sched_yield();
        }
        return NULL;
}

static void another_thread_completes(void **state)
{
        static uint8_t mem[64 * BLK];
        uint64_t seed = t_seed();
        struct helper h = {.stop = false};
        unsigned nr_queued = 0;
        struct fake f;

        fake_init(&f, 60 * BLK);
        fail_reads(&f, 3000, 1, -EIO);
        T_CHECK(uext4_bdev_queue_new(f.dev, 8, &h.queue) == 0);
        T_CHECK(pthread_create(&h.id, NULL, help, &h) == 0);
        for (int round = 0; round < 500; round++) {
                struct iovec iov[16];
                struct dio_req r;
                int64_t ret;
                int nr;

                random_maps(&f, &seed);
                memset(mem, 0xff, sizeof(mem));
                nr = scatter(iov, ARRAY_LEN(iov), mem, sizeof(mem), &seed);
                ret = start_read(&f, &r, h.queue, 0, iov, nr, 0);
                if (ret == VFS_QUEUED) {
                        T_CHECK(uext4_bdev_queue_kick(h.queue) >= 0);
                        while (atomic_load(&r.nr_completes) == 0)
                                sched_yield();
                        nr_queued++;
                        assert_int_equal(r.pending_at_complete, 0); /* C16 */
                        ret = r.result;
                }
                if (ret == -EIO)
                        continue; /* the damaged block was among them */
                assert_int_equal(ret, 60 * BLK);
                assert_bytes(&f, 0, mem, 60 * BLK);
        }
        atomic_store(&h.stop, true);
        pthread_join(h.id, NULL);
        assert_true(nr_queued > 0);
        uext4_bdev_queue_free(h.queue);
        fake_done(&f);
}

/* ---- direct writes ---- */

static int64_t write_knowing(struct fake *f, struct dio_req *r, uint64_t pos, size_t len,
                             struct uext4_bdev_queue *queue, const struct iomap *first)
{
        static uint8_t mem[64 * BLK];
        const struct iomap_dio_write how = {
                .ops = &fake_ops_with_end, .first = first, .wait = true};
        const struct iovec iov = {mem, len};
        struct iov_iter iter;
        int64_t ret;

        memset(mem, 'w', len);
        r->iocb = (struct vfs_kiocb){.inode = &f->inode,
                                     .pos = pos,
                                     .flags = VFS_DSYNC,
                                     .queue = queue ? &r->queue : NULL,
                                     .complete = on_complete};
        r->queue.bdev_queue = queue;
        f->sb.block_bits = 10;
        T_CHECK(iov_iter_init(&iter, &iov, 1) == 0);
        ret = iomap_dio_write(&r->dio, &r->iocb, &iter, &how);
        assert_int_equal(atomic_load(&f->inode.dio.nr), 1); /* until the caller has finished */
        iomap_dio_end(&r->dio);
        assert_int_equal(atomic_load(&f->inode.dio.nr), 0);
        return ret;
}

static int64_t write_direct(struct fake *f, struct dio_req *r, uint64_t pos, size_t len,
                            struct uext4_bdev_queue *queue)
{
        return write_knowing(f, r, pos, len, queue, NULL);
}

static void assert_written(struct fake *f, uint64_t addr, size_t len, uint8_t want)
{
        uint8_t got[64 * BLK];

        assert_int_equal(uext4_bdev_read(f->dev, got, len, addr), 0);
        for (size_t i = 0; i < len; i++)
                assert_int_equal(got[i], want ? want : device_byte(addr + i));
}

static void write_goes_where_the_file_is(void **state)
{
        struct uext4_bdev_queue *queue;
        struct dio_req r;
        struct fake f;

        fake_init(&f, 60 * BLK);
        add_map(&f, IOMAP_MAPPED, 0, 4, 100);
        add_map(&f, IOMAP_MAPPED, 4, 4, 200);
        assert_int_equal(write_direct(&f, &r, BLK, 6 * BLK, NULL), 6 * BLK);
        assert_int_equal(r.dio.flags, IOMAP_DIO_WRITE | IOMAP_DIO_THROUGH); /* B7 */
        assert_written(&f, 100 * BLK, BLK, 0);
        assert_written(&f, 101 * BLK, 3 * BLK, 'w');
        assert_written(&f, 200 * BLK, 3 * BLK, 'w');
        assert_written(&f, 203 * BLK, BLK, 0);
        /* Forced to wait, on a queue: R7. */
        T_CHECK(uext4_bdev_queue_new(f.dev, 8, &queue) == 0);
        assert_int_equal(write_direct(&f, &r, 0, 8 * BLK, queue), 8 * BLK);
        assert_written(&f, 100 * BLK, 4 * BLK, 'w');
        uext4_bdev_queue_free(queue);
        fake_done(&f);
}

/* What the caller found may be used, but for unwritten blocks: who converts these looks for
 * requests that are counted before he touches what is beside his own. */
static void what_was_found_unwritten_is_asked_for_again(void **state)
{
        struct iomap found = {
                .type = IOMAP_MAPPED, .addr = 100 * BLK, .offset = 0, .length = 8 * BLK};
        struct dio_req r;
        struct fake f;

        fake_init(&f, 60 * BLK);
        add_map(&f, IOMAP_MAPPED, 0, 8, 200);
        assert_int_equal(write_knowing(&f, &r, 0, 8 * BLK, NULL, &found), 8 * BLK);
        assert_int_equal(f.nr_begins, 0);
        assert_written(&f, 100 * BLK, 8 * BLK, 'w');
        found.type = IOMAP_UNWRITTEN;
        assert_int_equal(write_knowing(&f, &r, 0, 8 * BLK, NULL, &found), 8 * BLK);
        assert_int_equal(f.nr_begins, 1);
        assert_int_equal(f.nr_direct_at_begin, 1);
        assert_written(&f, 200 * BLK, 8 * BLK, 'w');
        fake_done(&f);
}

/* B4: zeros for the rest of blocks that hold whatever was on the device; of no others. */
static void parts_of_new_blocks_are_zeroed_B4(void **state)
{
        uint8_t got[2 * BLK];
        struct dio_req r;
        struct fake f;

        fake_init(&f, 60 * BLK);
        add_map(&f, IOMAP_UNWRITTEN, 0, 4, 100);
        assert_int_equal(write_direct(&f, &r, 512, BLK, NULL), BLK);
        assert_int_equal(r.dio.flags,
                         IOMAP_DIO_WRITE | IOMAP_DIO_UNWRITTEN | IOMAP_DIO_NEED_SYNC);
        assert_int_equal(uext4_bdev_read(f.dev, got, sizeof(got), 100 * BLK), 0);
        for (size_t i = 0; i < sizeof(got); i++)
                assert_int_equal(got[i], i < 512 || i >= 512 + BLK ? 0 : 'w');
        assert_written(&f, 102 * BLK, 2 * BLK, 0);
        fake_done(&f);
}

static void write_ends_at_what_cannot_be_had_B47(void **state)
{
        static const int errors[] = {-ENOTBLK, -ENOSPC};

        for (size_t i = 0; i < ARRAY_LEN(errors); i++) {
                struct dio_req r;
                struct fake f;

                fake_init(&f, 60 * BLK);
                add_map(&f, IOMAP_MAPPED, 0, 8, 100);
                add_map(&f, IOMAP_MAPPED, 8, 8, 300);
                f.fail_from = 8 * BLK;
                f.fail_error = errors[i];
                assert_int_equal(write_direct(&f, &r, 4 * BLK, 8 * BLK, NULL), 4 * BLK);
                assert_int_equal(r.dio.stopped, errors[i]);
                assert_written(&f, 104 * BLK, 4 * BLK, 'w');
                assert_int_equal(write_direct(&f, &r, 8 * BLK, BLK, NULL), errors[i]);
                assert_written(&f, 300 * BLK, BLK, 0);
                fake_done(&f);
        }
}

static void error_of_the_write_wins_over_that_of_end_C30(void **state)
{
        const struct uext4_bdev_fault rule = {.ops = 1u << UEXT4_BDEV_WRITE_ZEROES,
                                              .error = -EREMOTEIO};
        struct dio_req r;
        struct fake f;

        fake_init(&f, 60 * BLK);
        add_map(&f, IOMAP_UNWRITTEN, 0, 4, 100);
        T_CHECK(uext4_bdev_fault_add(f.fault, &rule) == 0);
        f.end_error = -EINVAL;
        assert_int_equal(write_direct(&f, &r, 512, BLK, NULL), -EREMOTEIO);
        assert_int_equal(f.end_done, 0);
        uext4_bdev_fault_clear(f.fault);
        assert_int_equal(write_direct(&f, &r, 512, BLK, NULL), -EINVAL);
        fake_done(&f);
}

/* A hole is for begin() to fill. */
static void nothing_is_written_to_a_hole(void **state)
{
        struct dio_req r;
        struct fake f;

        fake_init(&f, 60 * BLK);
        assert_int_equal(write_direct(&f, &r, 0, BLK, NULL), -EIO);
        fake_done(&f);
}

/* ---- buffered reads ---- */

static int64_t read_buffered(struct fake *f, uint64_t pos, void *buf, size_t len,
                             uint32_t flags)
{
        const struct iovec iov[3] = {
                {buf, len / 3}, {NULL, 0}, {(char *)buf + len / 3, len - len / 3}};
        struct vfs_kiocb iocb = {.inode = &f->inode, .pos = pos, .flags = flags};
        struct iov_iter iter;

        memset(buf, 0xff, len);
        T_CHECK(iov_iter_init(&iter, iov, 3) == 0);
        return iomap_uncached_read(&iocb, &iter, &fake_ops);
}

static void uncached_reads_at_any_position(void **state)
{
        static uint8_t mem[70 * BLK];
        uint64_t seed = t_seed();
        struct fake f;

        fake_init(&f, 0);
        for (int round = 0; round < 1000; round++) {
                uint64_t size = t_below(&seed, 64 * BLK);
                uint64_t pos = t_below(&seed, 64 * BLK);
                size_t len = t_below(&seed, t_below(&seed, 2) ? 40 : sizeof(mem));
                size_t want = pos >= size ? 0 : min_t(size_t, len, size - pos);

                random_maps(&f, &seed);
                atomic_store(&f.inode.size, size);
                assert_int_equal(read_buffered(&f, pos, mem, len, 0), want);
                assert_bytes(&f, pos, mem, want);
                for (size_t i = want; i < len; i++) /* nothing behind the end */
                        assert_int_equal(mem[i], 0xff);
        }
        fake_done(&f);
}

static void uncached_reads_larger_than_the_bounce(void **state)
{
        static uint8_t mem[3u << 20];
        struct fake f;

        fake_init(&f, sizeof(mem) + 999);
        add_map(&f, IOMAP_MAPPED, 0, 1, 3500);
        add_map(&f, IOMAP_MAPPED, 1, 3300, 7);
        assert_int_equal(read_buffered(&f, 777, mem, sizeof(mem), 0), sizeof(mem));
        assert_bytes(&f, 777, mem, sizeof(mem));
        /* Not aligned where the long mapping is met. */
        assert_int_equal(read_buffered(&f, 1999, mem, 1u << 20, 0), 1u << 20);
        assert_bytes(&f, 1999, mem, 1u << 20);
        fake_done(&f);
}

static void uncached_read_returns_what_came_before_an_error(void **state)
{
        static uint8_t buf[8 * BLK];
        struct fake f;

        fake_init(&f, sizeof(buf));
        add_map(&f, IOMAP_MAPPED, 0, 2, 100);
        add_map(&f, IOMAP_MAPPED, 3, 2, 200);
        fail_reads(&f, 200, 1, -EIO);
        assert_int_equal(read_buffered(&f, 10, buf, 7000, 0), 3 * BLK - 10);
        assert_bytes(&f, 10, buf, 3 * BLK - 10);
        assert_int_equal(read_buffered(&f, 3 * BLK, buf, 100, 0), -EIO);
        uext4_bdev_fault_clear(f.fault);
        f.fail_error = -EUCLEAN;
        f.fail_from = 2 * BLK;
        assert_int_equal(read_buffered(&f, 10, buf, 7000, 0), 2 * BLK - 10);
        assert_int_equal(read_buffered(&f, 2 * BLK, buf, 7000, 0), -EUCLEAN);
        f.fail_error = -EAGAIN;
        assert_int_equal(read_buffered(&f, 2 * BLK, buf, 7000, VFS_NOWAIT), -EAGAIN);
        assert_int_equal(f.op_flags, IOMAP_OP_NOWAIT);
        assert_int_equal(read_buffered(&f, 10, buf, 7000, VFS_NOWAIT), 2 * BLK - 10);
        fake_done(&f);
}

static void uncached_read_without_memory_is_enomem(void **state)
{
        static uint8_t buf[8 * BLK];
        int fails = 0;
        struct fake f;

        fake_init(&f, sizeof(buf));
        add_map(&f, IOMAP_MAPPED, 0, 8, 100);
        for (int n = 0;; n++) {
                int64_t ret;

                mem_fail_after(n);
                ret = read_buffered(&f, 1, buf, 5000, 0);
                mem_fail_after(-1);
                if (ret == 5000)
                        break;
                assert_int_equal(ret, -ENOMEM);
                fails++;
        }
        assert_true(fails > 0);
        fake_done(&f);
}

static void uncached_read_of_delayed_extents_is_eio(void **state)
{
        static uint8_t buf[8 * BLK];
        struct fake f;

        fake_init(&f, sizeof(buf));
        add_map(&f, IOMAP_DELALLOC, 0, 8, 0);
        assert_int_equal(read_buffered(&f, 0, buf, 100, 0), -EIO);
        fake_done(&f);
}

/* ---- seek and fiemap, exhaustively ---- */

#define MAX_SEQ 5

/* The `code`-th sequence of `n` mappings of one block each, out of three types. */
static void make_sequence(struct fake *f, unsigned n, unsigned code)
{
        static const enum iomap_type types[] = {IOMAP_HOLE, IOMAP_UNWRITTEN, IOMAP_MAPPED};

        f->nr_maps = 0;
        for (unsigned i = 0; i < n; i++, code /= 3)
                add_map(f, types[code % 3], i, 1, 100 + 10 * i);
}

static unsigned power_of_3(unsigned n)
{
        return n == 0 ? 1 : 3 * power_of_3(n - 1);
}

/* Byte by half block, to be slow and right. */
static int64_t naive_seek(const struct fake *f, uint64_t pos, uint64_t size, bool want_data)
{
        if (pos >= size)
                return -ENXIO;
        for (uint64_t at = pos; at < size; at = (at / 512 + 1) * 512) {
                if ((map_at(f, at).type == IOMAP_MAPPED) == want_data)
                        return (int64_t)at;
        }
        return want_data ? -ENXIO : (int64_t)size;
}

static void seek_all_sequences(void **state)
{
        struct fake f;

        fake_init(&f, 0);
        for (unsigned n = 0; n <= MAX_SEQ; n++) {
                for (unsigned code = 0; code < power_of_3(n); code++) {
                        make_sequence(&f, n, code);
                        for (uint64_t size = 0; size <= (n + 1) * BLK; size += 256) {
                                atomic_store(&f.inode.size, size);
                                for (uint64_t pos = 0; pos <= size + 256; pos += 256) {
                                        assert_int_equal(
                                                iomap_seek(&f.inode, pos, SEEK_DATA, &fake_ops),
                                                naive_seek(&f, pos, size, true));
                                        assert_int_equal(
                                                iomap_seek(&f.inode, pos, SEEK_HOLE, &fake_ops),
                                                naive_seek(&f, pos, size, false));
                                }
                        }
                }
        }
        fake_done(&f);
}

static void seek_errors(void **state)
{
        struct fake f;

        fake_init(&f, 4 * BLK);
        assert_int_equal(iomap_seek(&f.inode, 0, SEEK_SET, &fake_ops), -EINVAL);
        assert_int_equal(iomap_seek(&f.inode, 0, 99, &fake_ops), -EINVAL);
        assert_int_equal(iomap_seek(&f.inode, UINT64_MAX, SEEK_DATA, &fake_ops), -ENXIO);
        f.fail_error = -EUCLEAN;
        assert_int_equal(iomap_seek(&f.inode, 0, SEEK_DATA, &fake_ops), -EUCLEAN);
        assert_int_equal(iomap_seek(&f.inode, 0, SEEK_HOLE, &fake_ops), -EUCLEAN);
        fake_done(&f);
}

static void seek_takes_delayed_and_inline_data_for_data(void **state)
{
        struct fake f;

        fake_init(&f, 4 * BLK);
        add_map(&f, IOMAP_DELALLOC, 1, 1, 0);
        add_map(&f, IOMAP_INLINE, 3, 1, 0);
        assert_int_equal(iomap_seek(&f.inode, 0, SEEK_DATA, &fake_ops), BLK);
        assert_int_equal(iomap_seek(&f.inode, 2 * BLK, SEEK_DATA, &fake_ops), 3 * BLK);
        assert_int_equal(iomap_seek(&f.inode, BLK, SEEK_HOLE, &fake_ops), 2 * BLK);
        fake_done(&f);
}

/* The extents that touch [pos, end), without a limit. */
static unsigned naive_fiemap(const struct fake *f, uint64_t pos, uint64_t end,
                             struct fiemap_extent *extents)
{
        unsigned nr = 0, last = 0;

        for (unsigned i = 0; i < f->nr_maps; i++)
                if (f->maps[i].type != IOMAP_HOLE)
                        last = i;
        for (unsigned i = 0; i < f->nr_maps; i++) {
                const struct iomap *m = &f->maps[i];

                if (m->type == IOMAP_HOLE || m->offset >= end || m->offset + m->length <= pos)
                        continue;
                extents[nr++] = (struct fiemap_extent){
                        .fe_logical = m->offset,
                        .fe_physical = m->addr,
                        .fe_length = m->length,
                        .fe_flags = (m->type == IOMAP_UNWRITTEN ? FIEMAP_EXTENT_UNWRITTEN : 0) |
                                    (i == last ? FIEMAP_EXTENT_LAST : 0),
                };
        }
        return nr;
}

static void check_fiemap(struct fake *f, uint64_t pos, uint64_t len)
{
        uint64_t end = len > INT64_MAX - pos ? INT64_MAX : pos + len;
        struct fiemap_extent want[MAX_SEQ], got[MAX_SEQ + 2];
        unsigned nr = pos < end ? naive_fiemap(f, pos, end, want) : 0;

        for (unsigned max = 0; max <= MAX_SEQ + 1; max++) {
                unsigned filled = min_t(unsigned, nr, max);

                memset(got, 0xaa, sizeof(got));
                /* With max 0 they are counted. */
                assert_int_equal(
                        iomap_fiemap(&f->inode, pos, len, max ? got : NULL, max, &fake_ops),
                        max ? filled : nr);
                assert_memory_equal(got, want, filled * sizeof(got[0]));
                for (size_t i = filled * sizeof(got[0]); i < sizeof(got); i++)
                        assert_int_equal(((uint8_t *)got)[i], 0xaa);
        }
}

static void fiemap_all_sequences(void **state)
{
        struct fake f;

        fake_init(&f, 0); /* the size does not matter */
        for (unsigned n = 0; n <= MAX_SEQ; n++) {
                for (unsigned code = 0; code < power_of_3(n); code++) {
                        make_sequence(&f, n, code);
                        for (uint64_t pos = 0; pos <= (n + 1) * BLK; pos += 512) {
                                for (uint64_t len = 0; len <= (n + 1) * BLK; len += 512)
                                        check_fiemap(&f, pos, len);
                                check_fiemap(&f, pos, 1);
                                check_fiemap(&f, pos, INT64_MAX);
                                check_fiemap(&f, pos, UINT64_MAX);
                        }
                }
        }
        fake_done(&f);
}

static void fiemap_at_the_largest_positions(void **state)
{
        struct fake f;

        fake_init(&f, 0);
        make_sequence(&f, 3, 2 + 3 * 2 + 9 * 2);
        check_fiemap(&f, INT64_MAX, 1);
        check_fiemap(&f, INT64_MAX, UINT64_MAX);
        check_fiemap(&f, INT64_MAX - 1, 1);
        fake_done(&f);
}

static void fiemap_flags(void **state)
{
        static const struct {
                const char *name;
                enum iomap_type type;
                uint32_t map_flags, want;
        } rows[] = {
                {"mapped", IOMAP_MAPPED, 0, 0},
                {"unwritten", IOMAP_UNWRITTEN, 0, FIEMAP_EXTENT_UNWRITTEN},
                {"delayed", IOMAP_DELALLOC, 0, FIEMAP_EXTENT_DELALLOC | FIEMAP_EXTENT_UNKNOWN},
                {"inline", IOMAP_INLINE, 0,
                 FIEMAP_EXTENT_DATA_INLINE | FIEMAP_EXTENT_NOT_ALIGNED},
                {"merged", IOMAP_MAPPED, IOMAP_F_MERGED, FIEMAP_EXTENT_MERGED},
                {"shared", IOMAP_MAPPED, IOMAP_F_SHARED, FIEMAP_EXTENT_SHARED},
                {"new and dirty are not told", IOMAP_MAPPED, IOMAP_F_NEW | IOMAP_F_DIRTY, 0},
        };

        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
                struct fiemap_extent fe;
                struct fake f;

                fake_init(&f, 0);
                add_map(&f, rows[i].type, 3, 2, 70);
                f.maps[0].flags = rows[i].map_flags;
                t_assert_row(rows[i].name,
                             iomap_fiemap(&f.inode, 0, BLK * 10, &fe, 1, &fake_ops), 1);
                t_assert_row(rows[i].name, fe.fe_flags, rows[i].want | FIEMAP_EXTENT_LAST);
                t_assert_row(rows[i].name, fe.fe_logical, 3 * BLK);
                t_assert_row(rows[i].name, fe.fe_length, 2 * BLK);
                t_assert_row(rows[i].name, fe.fe_physical,
                             f.maps[0].addr == IOMAP_NULL_ADDR ? 0 : 70 * BLK);
                fake_done(&f);
        }
}

static void fiemap_ends_where_inline_data_end(void **state) /* B20 */
{
        struct fiemap_extent fe[2];
        struct fake f;

        fake_init(&f, 100);
        add_map(&f, IOMAP_INLINE, 0, 1, 0);
        f.maps[0].length = 100; /* and behind it a hole */
        assert_int_equal(iomap_fiemap(&f.inode, 0, 4096, fe, 2, &fake_ops), 1);
        assert_int_equal(fe[0].fe_flags, FIEMAP_EXTENT_DATA_INLINE | FIEMAP_EXTENT_NOT_ALIGNED |
                                                 FIEMAP_EXTENT_LAST);
        assert_int_equal(fe[0].fe_length, 100);
        assert_int_equal(iomap_fiemap(&f.inode, 100, 4096, fe, 2, &fake_ops), 0);
        fake_done(&f);
}

static void fiemap_errors_of_the_map_are_passed_on(void **state)
{
        struct fiemap_extent fe[8];
        struct fake f;

        fake_init(&f, 100);
        add_map(&f, IOMAP_MAPPED, 0, 1, 7);
        f.fail_error = -EUCLEAN;
        f.fail_from = BLK;
        assert_int_equal(iomap_fiemap(&f.inode, 0, 4096, fe, 8, &fake_ops), -EUCLEAN);
        fake_done(&f);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(iterator_walks_mappings_and_clips_them_to_the_range),
                cmocka_unit_test(iterator_of_an_empty_range_asks_nothing),
                cmocka_unit_test(end_hears_what_was_done),
                cmocka_unit_test(advancing_and_failing_are_two_things),
                cmocka_unit_test(error_of_begin_ends_without_end),
                cmocka_unit_test(all_mapping_types_in_one_request),
                cmocka_unit_test(neighbours_on_the_device_become_one_request),
                cmocka_unit_test(random_maps_and_vectors_read_right),
                cmocka_unit_test(reads_end_at_the_size),
                cmocka_unit_test(size_is_sampled_at_the_start),
                cmocka_unit_test(first_device_error_is_the_result),
                cmocka_unit_test(early_end_of_the_device_is_eio),
                cmocka_unit_test(error_of_the_map_is_the_result),
                cmocka_unit_test(delayed_extents_are_eio),
                cmocka_unit_test(nowait_gives_what_is_at_hand),
                cmocka_unit_test(device_that_says_again_is_an_error),
                cmocka_unit_test(requests_that_the_queue_refuses_are_errors),
                cmocka_unit_test(without_memory_reads_are_enomem),
                cmocka_unit_test(one_request_with_one_buffer_allocates_nothing),
                cmocka_unit_test(long_stretches_are_cut_into_requests_of_1_gib),
                cmocka_unit_test(another_thread_completes),
                cmocka_unit_test(write_goes_where_the_file_is),
                cmocka_unit_test(what_was_found_unwritten_is_asked_for_again),
                cmocka_unit_test(parts_of_new_blocks_are_zeroed_B4),
                cmocka_unit_test(write_ends_at_what_cannot_be_had_B47),
                cmocka_unit_test(error_of_the_write_wins_over_that_of_end_C30),
                cmocka_unit_test(nothing_is_written_to_a_hole),
                cmocka_unit_test(uncached_reads_at_any_position),
                cmocka_unit_test(uncached_reads_larger_than_the_bounce),
                cmocka_unit_test(uncached_read_returns_what_came_before_an_error),
                cmocka_unit_test(uncached_read_without_memory_is_enomem),
                cmocka_unit_test(uncached_read_of_delayed_extents_is_eio),
                cmocka_unit_test(seek_all_sequences),
                cmocka_unit_test(seek_errors),
                cmocka_unit_test(seek_takes_delayed_and_inline_data_for_data),
                cmocka_unit_test(fiemap_all_sequences),
                cmocka_unit_test(fiemap_at_the_largest_positions),
                cmocka_unit_test(fiemap_flags),
                cmocka_unit_test(fiemap_ends_where_inline_data_end),
                cmocka_unit_test(fiemap_errors_of_the_map_are_passed_on),
        };

        cmocka_set_test_filter(getenv("UEXT4_TEST"));
        return cmocka_run_group_tests_name("iomap", tests, NULL, NULL);
}
