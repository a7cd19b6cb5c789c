/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Files whose data goes through the journal: what power cuts leave of them, what becomes of
 * blocks that they had, and what happens when memory is short.
 *
 * A write of one transaction is there wholly or not at all.  So every state that the file has
 * had since it was last synced may be found, and no other.
 */

#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>

#include "../change/rig.h"
#include "../lib/host.h"
#include "ext4/data_journal.h"
#include "held.h"

#ifndef FALLOC_FL_WRITE_ZEROES
#define FALLOC_FL_WRITE_ZEROES 0x80
#endif

#define FEATURES \
        "has_journal,extents,huge_file,flex_bg,64bit,dir_nlink,extra_isize,metadata_csum"
#define EXT4_4K \
        "-b 4096 -I 256 -N 64 -J size=4 -O none,sparse_super,large_file,filetype," FEATURES
#define EXT4_1K \
        "-b 1024 -I 256 -N 64 -J size=1 -O none,sparse_super,large_file,filetype," FEATURES
#define EXT3_1K   "-b 1024 -N 64 -J size=1 -O none,has_journal,filetype,sparse_super,large_file"
#define INLINE_4K EXT4_4K ",inline_data,ext_attr"

#define MAX_SIZE   65536u
#define MAX_STATES 64

struct config {
        const char *name, *mkfs;
        unsigned mib, block;
        uint32_t max_write;
        bool has_extents;
};

static const struct config configs[] = {
        {"4k", EXT4_4K, 12, 4096, 32768, true},
        {"1k", EXT4_1K, 4, 1024, 16384, true},
        {"ext3", EXT3_1K, 4, 1024, 8192, false},
        {"inline", INLINE_4K, 12, 4096, 32768, true},
};

struct state {
        uint32_t size;
        uint8_t bytes[MAX_SIZE];
};

struct stage {
        const struct config *config;
        struct uext4_bdev *sim, *dev;
        size_t size;
        struct rig_mount m;
        struct uext4_file *file;
        uint64_t rand;
        unsigned one_in; /* requests are looked at */
        bool looking;
        const char *op;

        struct state *states; /* [first, nr) may be found */
        unsigned first, nr;
        uint8_t *buf, *image;
        struct state got;
        uint64_t nr_looked, nr_replayed;
        uint64_t other_size; /* of another file, full of 'o' */
};

/* ---- looking ---- */

static bool is_known(const struct stage *st)
{
        for (unsigned i = st->first; i < st->nr; i++) {
                const struct state *s = &st->states[i];

                if (s->size == st->got.size && memcmp(s->bytes, st->got.bytes, s->size) == 0)
                        return true;
        }
        return false;
}

static void complain(const struct stage *st, const char *what)
{
        const struct state *last = &st->states[st->nr - 1];

        fprintf(stderr, "%s, %s: %s (size %u; last one %u)\n", st->config->name, st->op, what,
                st->got.size, last->size);
        for (uint32_t i = 0; i < min_t(uint32_t, st->got.size, last->size); i++) {
                if (st->got.bytes[i] != last->bytes[i]) {
                        fprintf(stderr, "from %u on not the last one\n", i);
                        break;
                }
        }
        rig_keep("data-journal", st->image, st->size);
        abort();
}

static void check_other(struct stage *st, struct rig_mount *m)
{
        struct uext4_file *file;
        uint8_t *got = t_alloc(MAX_SIZE);

        T_CHECK(uext4_open_path(m->fs, "/other", O_RDONLY, &file) == 0);
        for (uint64_t pos = 0; pos < st->other_size; pos += MAX_SIZE) {
                ssize_t n = uext4_pread(file, got, MAX_SIZE, pos);

                T_CHECK(n > 0);
                for (ssize_t i = 0; i < n; i++) {
                        if (got[i] != 'o')
                                complain(st, "another file has lost its data");
                }
        }
        uext4_close(file);
        free(got);
}

static void check_by_mount(struct stage *st)
{
        struct uext4_file *file;
        struct uext4_bdev *dev;
        struct rig_mount m;
        ssize_t got;
        char *text;

        T_CHECK(uext4_bdev_open_buffer(st->image, st->size, 0, &dev) == 0);
        if (rig_mount(&m, dev, RIG_OPTIONS) < 0)
                complain(st, m.log.text);
        T_CHECK(uext4_open_path(m.fs, "/file", O_RDONLY, &file) == 0);
        got = uext4_pread(file, st->got.bytes, MAX_SIZE, 0);
        T_CHECK(got >= 0);
        st->got.size = (uint32_t)got;
        uext4_close(file);
        check_other(st, &m);
        T_CHECK(rig_unmount(&m) == 0);
        uext4_bdev_close(dev);
        if (!is_known(st))
                complain(st, "the file is none of what it may be");
        text = rig_fsck(st->image, st->size);
        if (text)
                complain(st, text);
}

/* Others replay the log to the same effect. */
static void check_by_e2fsck(struct stage *st)
{
        struct host_file out = host_file_new(NULL, 0);
        char command[256];
        int status;

        free(host_repair(st->image, st->size, &status));
        if (status > 1)
                complain(st, "e2fsck cannot replay it");
        snprintf(command, sizeof(command), "debugfs -R 'dump /file %s' %s >/dev/null 2>&1",
                 out.path, host_path(st->image, st->size));
        t_run(command);
        st->got.size = (uint32_t)pread(out.fd, st->got.bytes, MAX_SIZE, 0);
        host_file_close(&out);
        if (!is_known(st))
                complain(st, "e2fsck replays it to something else");
        st->nr_replayed++;
}

static void *look_in_thread(void *arg)
{
        static const enum uext4_bdev_sim_mode modes[] = {
                UEXT4_BDEV_SIM_NONE, UEXT4_BDEV_SIM_ALL, UEXT4_BDEV_SIM_RANDOM};
        struct stage *st = arg;
        const struct uext4_bdev_sim_survivor how = {.mode = modes[t_below(&st->rand, 3)],
                                                    .seed = t_rand(&st->rand)};

        T_CHECK(uext4_bdev_sim_survivor(st->sim, &how, st->image) == 0);
        if (!rig_super_is_whole(st->sim, st->image, st->size))
                return NULL;
        /* debugfs does not give the size of inline data. */
        if (st->nr_looked++ % 16 == 0 && strcmp(st->config->name, "inline") != 0)
                check_by_e2fsck(st);
        T_CHECK(uext4_bdev_sim_survivor(st->sim, &how, st->image) == 0);
        check_by_mount(st);
        return NULL;
}

/* In a thread that holds no locks of the mount that is being looked at. */
static void look(struct stage *st)
{
        pthread_t id;

        T_CHECK(pthread_create(&id, NULL, look_in_thread, st) == 0);
        pthread_join(id, NULL);
}

static void at_device(void *arg, enum held_when when, const struct held_io *io)
{
        struct stage *st = arg;

        if (st->looking && io->op != UEXT4_BDEV_READ && t_below(&st->rand, st->one_in) == 0)
                look(st);
}

/* ---- the stage ---- */

static void t_open(struct stage *st, const struct config *c, const char *options, uint64_t seed)
{
        struct t_image img = rig_make((uint64_t)c->mib << 20, c->mkfs, NULL,
                                      "write /dev/null file\\nwrite /dev/null other\\n");
        char words[128];

        *st = (struct stage){.config = c, .size = img.size, .rand = seed, .op = "nothing"};
        st->sim = t_open_sim(&img, seed);
        st->dev = held_open(st->sim);
        t_image_free(&img);
        snprintf(words, sizeof(words), "%s,%s", RIG_OPTIONS, options);
        T_CHECK(rig_mount(&st->m, st->dev, words) == 0);
        T_CHECK(uext4_open_path(st->m.fs, "/file", O_RDWR, &st->file) == 0);
        held_set_hook(st->dev, at_device, st);
        st->states = calloc(MAX_STATES, sizeof(*st->states));
        st->nr = 1;
        st->buf = t_alloc(MAX_SIZE);
        st->image = t_alloc(st->size);
}

static void t_close(struct stage *st)
{
        st->looking = false;
        uext4_close(st->file);
        T_CHECK(rig_unmount(&st->m) == 0);
        uext4_bdev_close(st->dev);
        free(st->states);
        free(st->buf);
        free(st->image);
}

/* ---- random changes, cut anywhere ---- */

static struct state *next_state(struct stage *st)
{
        T_CHECK(st->nr < MAX_STATES);
        st->states[st->nr] = st->states[st->nr - 1];
        return &st->states[st->nr++];
}

static void op_write(struct stage *st)
{
        struct state *s = next_state(st);
        uint32_t pos = (uint32_t)t_below(&st->rand, MAX_SIZE - st->config->max_write);
        uint32_t len = 1 + (uint32_t)t_below(&st->rand, st->config->max_write);

        if (t_below(&st->rand, 2))
                pos = min_t(uint32_t, s->size, pos);
        if (t_below(&st->rand, 3) == 0) {
                pos = round_down_pow2(pos, 4096);
                len = (uint32_t)round_up_pow2(len, 4096);
        }
        for (uint32_t i = 0; i < len; i++)
                st->buf[i] = (uint8_t)t_rand(&st->rand);
        memcpy(s->bytes + pos, st->buf, len);
        s->size = max_t(uint32_t, s->size, pos + len);
        st->op = "write";
        assert_int_equal(uext4_pwrite(st->file, st->buf, len, pos), len);
}

static void op_truncate(struct stage *st)
{
        struct state *s = next_state(st);
        uint32_t size = (uint32_t)t_below(&st->rand, MAX_SIZE);

        if (size < s->size)
                memset(s->bytes + size, 0, s->size - size);
        s->size = size;
        st->op = "truncate";
        assert_int_equal(uext4_truncate(st->file, size), 0);
}

/* Whole blocks, which is one transaction. */
static void op_zero(struct stage *st, int mode)
{
        const uint32_t unit = st->config->block;
        struct state *s = next_state(st);
        uint32_t pos = (uint32_t)round_down_pow2(t_below(&st->rand, MAX_SIZE), unit);
        uint32_t len = unit * (1 + (uint32_t)t_below(&st->rand, 3));

        len = min_t(uint32_t, len, MAX_SIZE - pos);
        memset(s->bytes + pos, 0, len);
        st->op = "zero";
        assert_int_equal(uext4_fallocate(st->file, mode | FALLOC_FL_KEEP_SIZE, pos, len), 0);
}

static void op_sync(struct stage *st)
{
        st->op = "fsync";
        assert_int_equal(
                t_below(&st->rand, 2) ? uext4_fsync(st->file) : uext4_fdatasync(st->file), 0);
        st->states[0] = st->states[st->nr - 1];
        st->first = 0;
        st->nr = 1;
}

/* What a reader sees is the last state. */
static void check_now(struct stage *st)
{
        const struct state *s = &st->states[st->nr - 1];
        ssize_t got = uext4_pread(st->file, st->got.bytes, MAX_SIZE, 0);

        assert_int_equal(got, s->size);
        assert_memory_equal(st->got.bytes, s->bytes, s->size);
}

static void change_and_cut(struct stage *st, unsigned nr_ops)
{
        st->looking = true;
        for (unsigned i = 0; i < nr_ops; i++) {
                uint64_t what = t_below(&st->rand, 100);

                if (st->nr == MAX_STATES || what < 10)
                        op_sync(st);
                else if (what < 75)
                        op_write(st);
                else if (what < 88)
                        op_truncate(st);
                else if (what < 94 || !st->config->has_extents)
                        op_zero(st, FALLOC_FL_PUNCH_HOLE);
                else
                        op_zero(st, FALLOC_FL_ZERO_RANGE);
                if (i % 8 == 0)
                        check_now(st);
                if (t_below(&st->rand, st->one_in) == 0)
                        look(st);
        }
        st->looking = false;
        if (t_is_long())
                printf("# %s: %llu cuts, %llu replayed by e2fsck\n", st->config->name,
                       (unsigned long long)st->nr_looked, (unsigned long long)st->nr_replayed);
}

static void each_write_is_whole_after_a_cut(void **state)
{
        const unsigned nr_ops = t_is_long() ? 2000 : 60;
        uint64_t seed = t_seed();

        for (size_t i = 0; i < ARRAY_LEN(configs); i++) {
                struct stage st;

                t_open(&st, &configs[i], "data=journal", t_rand(&seed));
                st.one_in = 12;
                change_and_cut(&st, nr_ops);
                assert_true(st.nr_looked > 0);
                t_close(&st);
        }
}

static void t_change(struct stage *st, bool on)
{
        struct uext4_inode *inode = uext4_file_inode(st->file);
        uint32_t flags;

        assert_int_equal(uext4_get_flags(inode, &flags), 0);
        flags = on ? flags | FS_JOURNAL_DATA_FL : flags & ~(uint32_t)FS_JOURNAL_DATA_FL;
        assert_int_equal(uext4_set_flags(inode, flags), 0);
}

/* The same by the flag, on a mount that orders data. */
static void the_flag_alone_will_do(void **state)
{
        uint64_t seed = t_seed();
        struct stage st;

        t_open(&st, &configs[0], "data=ordered", t_rand(&seed));
        t_change(&st, true);
        assert_int_equal(uext4_syncfs(st.m.fs), 0);
        st.one_in = 12;
        change_and_cut(&st, t_is_long() ? 2000 : 60);
        t_close(&st);
}

/* ---- blocks that were journalled ---- */

static void t_fill(struct stage *st, uint8_t byte, uint32_t len)
{
        memset(st->buf, byte, len);
        st->states[0].size = len;
        memset(st->states[0].bytes, byte, len);
        st->first = 0;
        st->nr = 1;
        assert_int_equal(uext4_pwrite(st->file, st->buf, len, 0), len);
        assert_int_equal(uext4_fsync(st->file), 0);
}

/* All of the free space, directly. */
static void t_fill_other(struct stage *st)
{
        struct uext4_file *file;
        ssize_t n = 1;

        memset(st->buf, 'o', MAX_SIZE);
        assert_int_equal(uext4_open_path(st->m.fs, "/other", O_RDWR | O_DIRECT, &file), 0);
        while (n > 0) {
                n = uext4_pwrite(file, st->buf, MAX_SIZE, st->other_size);
                st->other_size += (uint64_t)max_t(ssize_t, n, 0);
        }
        assert_int_equal(n, -ENOSPC);
        assert_int_equal(uext4_fsync(file), 0);
        uext4_close(file);
}

/* No copy in the log comes back over what was written directly since, and nothing that was
 * cached is taken for it. */
static void the_flag_goes_on_and_off(void **state)
{
        struct stage st;

        t_open(&st, &configs[0], "data=ordered", 1);
        for (unsigned round = 0; round < 3; round++) {
                t_change(&st, true);
                t_fill(&st, (uint8_t)('a' + round), 40000);
                check_now(&st);
                look(&st);
                t_change(&st, false);
                look(&st);
                t_fill(&st, (uint8_t)('A' + round), 40000);
                check_now(&st);
                look(&st);
                t_change(&st, true);
                check_now(&st);
                t_change(&st, true);
                t_change(&st, false);
        }
        t_close(&st);
}

/* Blocks that the file had are another's, whose data goes past the journal. */
static void freed_blocks_stay_the_next_ones(void **state)
{
        for (unsigned way = 0; way < 3; way++) {
                struct stage st;

                t_open(&st, &configs[0], "data=ordered", way + 1);
                t_change(&st, true);
                t_fill(&st, 'j', MAX_SIZE);
                if (way == 0)
                        assert_int_equal(uext4_truncate(st.file, 0), 0);
                else if (way == 2) /* as unwritten blocks they are freed a second time */
                        op_zero(&st, FALLOC_FL_ZERO_RANGE);
                if (way > 0)
                        assert_int_equal(
                                uext4_fallocate(st.file,
                                                FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
                                                MAX_SIZE),
                                0);
                st.states[0] = (struct state){.size = way == 0 ? 0 : MAX_SIZE};
                st.nr = 1;
                assert_int_equal(uext4_syncfs(st.m.fs), 0);
                t_fill_other(&st);
                look(&st);
                t_close(&st);
        }
}

/* Unwritten blocks that held data are zeros, whatever the log has of them. */
static void zeroed_blocks_stay_zeros(void **state)
{
        struct stage st;

        t_open(&st, &configs[0], "data=journal", 1);
        st.op = "zero";
        for (unsigned sync = 0; sync < 2; sync++) {
                t_fill(&st, 'j', MAX_SIZE);
                assert_int_equal(uext4_fallocate(st.file, FALLOC_FL_ZERO_RANGE, 5000, 30000),
                                 0);
                memset(st.states[0].bytes + 5000, 0, 30000);
                check_now(&st);
                /* A part is written again, in the same transaction or another one. */
                if (sync)
                        assert_int_equal(uext4_fsync(st.file), 0);
                assert_int_equal(uext4_pwrite(st.file, st.buf, 100, 9000), 100);
                memset(st.states[0].bytes + 9000, 'j', 100);
                assert_int_equal(uext4_fallocate(st.file, FALLOC_FL_WRITE_ZEROES, 20000, 20001),
                                 0);
                memset(st.states[0].bytes + 20000, 0, 20001);
                check_now(&st);
                assert_int_equal(uext4_fdatasync(st.file), 0);
                look(&st);
        }
        t_close(&st);
}

/* ---- no memory ---- */

/* Bytes, a hole, preallocated space and bytes again. */
static void t_make_mixed(struct stage *st)
{
        struct state *s = &st->states[0];

        assert_int_equal(uext4_truncate(st->file, 0), 0);
        memset(st->buf, 'o', MAX_SIZE);
        assert_int_equal(uext4_pwrite(st->file, st->buf, 10000, 0), 10000);
        assert_int_equal(uext4_pwrite(st->file, st->buf, 5000, 45000), 5000);
        if (st->config->has_extents)
                assert_int_equal(uext4_fallocate(st->file, 0, 30000, 8192), 0);
        *s = (struct state){.size = 50000};
        memset(s->bytes, 'o', 10000);
        memset(s->bytes + 45000, 'o', 5000);
}

static void without_memory_nothing_half_is_left(void **state)
{
        static const struct {
                uint32_t pos, len;
        } writes[] = {{100, 4000}, {12000, 9000}, {28000, 9000}, {49000, 9000}, {0, 60000}};
        const int nr = t_is_long() ? 100 : 36;

        for (unsigned c = 0; c < ARRAY_LEN(configs); c++) {
                unsigned nr_failed = 0;
                struct stage st;

                t_open(&st, &configs[c], "data=journal", 1);
                st.op = "write without memory";
                for (int k = 0; k < nr * (int)ARRAY_LEN(writes); k++) {
                        const uint32_t pos = writes[k / nr].pos, len = writes[k / nr].len;
                        struct state *s = &st.states[0];
                        ssize_t ret;

                        t_make_mixed(&st);
                        memset(st.buf, 'a', len);
                        mem_fail_after(k % nr);
                        ret = uext4_pwrite(st.file, st.buf, len, pos);
                        mem_fail_after(-1);
                        if (ret < 0) {
                                assert_int_equal(ret, -ENOMEM);
                                nr_failed++;
                                ret = 0;
                        }
                        memset(s->bytes + pos, 'a', (size_t)ret);
                        s->size = max_t(uint32_t, s->size, ret > 0 ? pos + (uint32_t)ret : 0);
                        check_now(&st);
                        if (k % nr == 0)
                                assert_int_equal(uext4_fsync(st.file), 0);
                }
                assert_true(nr_failed > 0);
                assert_int_equal(uext4_fsync(st.file), 0);
                look(&st);
                t_close(&st);
        }
}

/* ---- what else is promised ---- */

/* Reads of any kind see what is in the log and not at home. */
static void every_way_of_reading_sees_it_B26(void **state)
{
        struct uext4_file *direct;
        struct uext4_stats stats;
        struct uext4_stat stat;
        struct stage st;

        t_open(&st, &configs[0], "data=journal", 1);
        t_fill(&st, 'j', 20000);
        assert_int_equal(uext4_open_path(st.m.fs, "/file", O_RDONLY | O_DIRECT, &direct), 0);
        assert_int_equal(uext4_pread(direct, st.buf, 20000, 0), 20000);
        assert_memory_equal(st.buf, st.states[0].bytes, 20000);
        assert_int_equal(uext4_pread(direct, st.buf, 7, 19999), 1);
        uext4_get_stats(st.m.fs, &stats);
        assert_int_equal(stats.fallback_data_journal, 2);
        assert_int_equal(uext4_stat(uext4_file_inode(direct), &stat), 0);
        assert_int_equal(stat.dio_mem_align, 0); /* C51 */
        assert_int_equal(uext4_seek(direct, 0, SEEK_HOLE), 20000);
        uext4_close(direct);
        t_close(&st);
}

/* As with the page cache: it is in memory, or does not come. */
static void nowait_reads_no_device_C7(void **state)
{
        struct uext4_file *direct;
        struct iovec iov;
        struct stage st;

        t_open(&st, &configs[0], "data=journal", 1);
        iov = (struct iovec){st.buf, 20000};
        t_fill(&st, 'j', 20000);
        assert_int_equal(uext4_preadv2(st.file, &iov, 1, 0, RWF_NOWAIT), 20000);
        assert_memory_equal(st.buf, st.states[0].bytes, 20000);
        uext4_close(st.file);
        assert_int_equal(rig_unmount(&st.m), 0);
        assert_int_equal(rig_mount(&st.m, st.dev, RIG_OPTIONS ",data=journal"), 0);
        assert_int_equal(uext4_open_path(st.m.fs, "/file", O_RDWR, &st.file), 0);
        assert_int_equal(uext4_open_path(st.m.fs, "/file", O_RDONLY | O_DIRECT, &direct), 0);
        assert_int_equal(uext4_preadv2(st.file, &iov, 1, 0, RWF_NOWAIT), -EAGAIN);
        assert_int_equal(uext4_preadv2(direct, &iov, 1, 0, RWF_NOWAIT), -EAGAIN);
        assert_int_equal(uext4_pwrite(st.file, "k", 1, 100), 1); /* now block 0 is cached */
        assert_int_equal(uext4_preadv2(st.file, &iov, 1, 0, RWF_NOWAIT), 4096);
        assert_int_equal(st.buf[100], 'k');
        uext4_close(direct);
        t_close(&st);
}

/* More than one transaction takes: in order, and the last part is not there without the first.
 */
static void a_long_write_is_cut_in_order(void **state)
{
        const uint32_t len = 2 << 20;
        struct uext4_file *file;
        struct stage st;
        uint8_t *buf = t_alloc(len), *got = t_alloc(len);

        t_open(&st, &configs[0], "data=journal", 1);
        memset(buf, 'l', len);
        assert_int_equal(uext4_pwrite(st.file, buf, len, 0), len);
        for (uint64_t seed = 0; seed < 3; seed++) {
                const struct uext4_bdev_sim_survivor how = {.mode = UEXT4_BDEV_SIM_RANDOM,
                                                            .seed = seed};
                struct uext4_bdev *dev;
                struct rig_mount m;
                ssize_t n;

                assert_int_equal(uext4_bdev_sim_survivor(st.sim, &how, st.image), 0);
                assert_int_equal(uext4_bdev_open_buffer(st.image, st.size, 0, &dev), 0);
                assert_int_equal(rig_mount(&m, dev, RIG_OPTIONS), 0);
                assert_int_equal(uext4_open_path(m.fs, "/file", O_RDONLY, &file), 0);
                n = uext4_pread(file, got, len, 0);
                assert_true(n >= 0);
                assert_memory_equal(got, buf, n);
                uext4_close(file);
                assert_int_equal(rig_unmount(&m), 0);
                uext4_bdev_close(dev);
                assert_null(rig_fsck(st.image, st.size));
        }
        free(buf);
        free(got);
        t_close(&st);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(each_write_is_whole_after_a_cut),
                cmocka_unit_test(the_flag_alone_will_do),
                cmocka_unit_test(the_flag_goes_on_and_off),
                cmocka_unit_test(freed_blocks_stay_the_next_ones),
                cmocka_unit_test(zeroed_blocks_stay_zeros),
                cmocka_unit_test(without_memory_nothing_half_is_left),
                cmocka_unit_test(every_way_of_reading_sees_it_B26),
                cmocka_unit_test(nowait_reads_no_device_C7),
                cmocka_unit_test(a_long_write_is_cut_in_order),
        };

        cmocka_set_test_filter(getenv("UEXT4_TEST"));
        return cmocka_run_group_tests_name("data_journal", tests, NULL, NULL);
}
