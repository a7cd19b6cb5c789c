/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What a power cut leaves of one direct write: the tables of docs/write-path.md, row by row.
 *
 * The write is stopped at its data, before or after that has gone to the device, and there
 * everything that was changed so far is committed, or not; then what may survive is recovered
 * and looked at.  Free space holds a pattern, so that a file that shows what was on the device
 * before is found out.  The blocks in use after recovery are counted: nothing leaks.
 */

#include <fcntl.h>
#include <linux/falloc.h>

#include "../change/rig.h"
#include "ext4/write_path.h"
#include "held.h"

#define FEATURES \
        "has_journal,extents,huge_file,flex_bg,64bit,dir_nlink,extra_isize,metadata_csum"
#define EXT4_4K \
        "-b 4096 -I 256 -N 64 -J size=4 -O none,sparse_super,large_file,filetype," FEATURES
#define EXT4_1K \
        "-b 1024 -I 256 -N 64 -J size=1 -O none,sparse_super,large_file,filetype," FEATURES
#define EXT3_1K "-b 1024 -N 64 -J size=1 -O none,has_journal,filetype,sparse_super,large_file"

struct config {
        const char *name, *mkfs;
        unsigned mib;
};

static const struct config configs[] = {
        {"4k", EXT4_4K, 12},
        {"1k", EXT4_1K, 4},
        {"1k, orphan file", EXT4_1K ",orphan_file", 4},
};

/* What a file is made of: pieces of equal bytes. */
struct piece {
        unsigned len;
        uint8_t byte;
};

typedef struct piece view[8];

/* ---- the stage ---- */

#define MAX_SIZE 131072u

struct table {
        struct uext4_bdev *sim, *fault, *dev;
        size_t size;
        struct rig_mount m;
        struct uext4_file *file;
        uint8_t *x, *got, *image;
        uint64_t nr_free; /* blocks, with the old file */

        /* What the hook does. */
        const char *name;
        int when; /* enum held_when of the data; -1: never; -2: at every request */
        bool commits;
        const view *views; /* that may be found; the last one is empty */
        bool frees;        /* nothing but the old file takes space then */
        uint64_t nr_looked;
};

static bool matches(const struct table *t, const view *v, uint64_t size)
{
        uint64_t pos = 0;

        for (const struct piece *p = *v; p->len > 0; p++) {
                for (uint64_t end = pos + p->len; pos < end; pos++) {
                        if (pos >= size || t->got[pos] != p->byte)
                                return false;
                }
        }
        return pos == size;
}

static void complain(const struct table *t, const char *how, const char *what)
{
        fprintf(stderr, "%s, %s: %s\n", t->name, how, what);
        rig_keep("table", t->image, t->size);
        abort();
}

static void check_views(struct table *t, struct uext4_file *file, const char *how)
{
        const view *v = t->views;
        ssize_t got = uext4_pread(file, t->got, MAX_SIZE, 0);

        T_CHECK(got >= 0);
        while ((*v)[0].len > 0 && !matches(t, v, (uint64_t)got))
                v++;
        if ((*v)[0].len > 0)
                return;
        fprintf(stderr, "size %zd", got);
        for (ssize_t i = 0; i < got; i += 512)
                fprintf(stderr, "%s%02x", i % 4096 ? " " : "\n", t->got[i]);
        complain(t, how, "the file is none of what it may be");
}

/* Recover the image, and look. */
static void check_image(void *arg, const char *how, void *image, size_t size)
{
        struct table *t = arg;
        struct uext4_file *file;
        struct uext4_bdev *dev;
        struct rig_mount m;
        struct statvfs st;
        char *text;

        memcpy(t->image, image, size); /* which complain() keeps */
        T_CHECK(uext4_bdev_open_buffer(t->image, size, 0, &dev) == 0);
        if (rig_mount(&m, dev, RIG_OPTIONS) < 0)
                complain(t, how, m.log.text);
        T_CHECK(uext4_open_path(m.fs, "/file", O_RDONLY, &file) == 0);
        check_views(t, file, how);
        T_CHECK(!ext4_is_orphan((void *)uext4_file_inode(file)));
        T_CHECK(uext4_statfs(m.fs, &st) == 0);
        if (t->frees && st.f_bfree != t->nr_free)
                complain(t, how, "the count of free blocks is not what it was");
        uext4_close(file);
        T_CHECK(rig_unmount(&m) == 0);
        uext4_bdev_close(dev);
        text = rig_fsck(t->image, size);
        if (text)
                complain(t, how, text);
}

static void *look_in_thread(void *arg)
{
        struct table *t = arg;

        rig_survivors(t->sim, ++t->nr_looked, 1, check_image, t);
        return NULL;
}

/* In a thread that holds no locks of the mount that is being looked at. */
static void look(struct table *t)
{
        pthread_t id;

        T_CHECK(pthread_create(&id, NULL, look_in_thread, t) == 0);
        pthread_join(id, NULL);
}

static void at_device(void *arg, enum held_when when, const struct held_io *io)
{
        struct table *t = arg;
        const uint8_t *mem = io->mem;
        bool is_data = io->op == UEXT4_BDEV_WRITE && mem >= t->x && mem < t->x + MAX_SIZE;

        if (t->when == -2 ? io->op == UEXT4_BDEV_READ : !is_data || t->when != (int)when)
                return;
        if (t->commits)
                T_CHECK(uext4_syncfs(t->m.fs) == 0);
        look(t);
}

static void t_open(struct table *t, const struct config *c)
{
        struct t_image img =
                rig_make((uint64_t)c->mib << 20, c->mkfs, NULL, "write /dev/null file\\n");

        *t = (struct table){.size = img.size, .when = -1, .name = c->name};
        t->sim = t_open_sim(&img, 1);
        T_CHECK(uext4_bdev_open_fault(t->sim, &t->fault) == 0);
        t->dev = held_open(t->fault);
        t_image_free(&img);
        T_CHECK(rig_mount(&t->m, t->dev, RIG_OPTIONS) == 0);
        T_CHECK(uext4_open_path(t->m.fs, "/file", O_RDWR | O_DIRECT, &t->file) == 0);
        held_set_hook(t->dev, at_device, t);
        t->x = t_alloc(MAX_SIZE);
        t->got = t_alloc(MAX_SIZE);
        t->image = t_alloc(t->size);
        memset(t->x, 'x', MAX_SIZE);
}

static void t_close(struct table *t)
{
        t->when = -1;
        uext4_close(t->file);
        T_CHECK(rig_unmount(&t->m) == 0);
        uext4_bdev_close(t->dev);
        free(t->x);
        free(t->got);
        free(t->image);
}

static int64_t t_write(struct table *t, uint64_t pos, uint64_t len, int flags)
{
        const struct iovec iov = {t->x, len};

        return uext4_pwritev2(t->file, &iov, 1, pos, flags);
}

/* 'o', durable, from 0 on. */
static void t_old_bytes(struct table *t, uint64_t len)
{
        uint8_t *o = t_alloc(len);
        struct statvfs st;

        memset(o, 'o', len);
        assert_int_equal(uext4_pwrite(t->file, o, len, 0), len);
        assert_int_equal(uext4_syncfs(t->m.fs), 0);
        assert_int_equal(uext4_statfs(t->m.fs, &st), 0);
        t->nr_free = st.f_bfree;
        free(o);
}

/* ---- the first table: behind the size ---- */

static const view old_file[] = {{{8192, 'o'}}, {{0, 0}}};
static const view new_file[] = {{{8192, 'o'}, {20480, 'x'}}, {{0, 0}}};

enum row_at {
        AT_BEFORE = HELD_BEFORE,
        AT_AFTER = HELD_AFTER,
        AT_END, /* when the write has returned */
};

struct row {
        const char *name;
        enum row_at at;
        bool commits;
        int flags;
        const view *views;
        bool frees;
};

static const struct row extending[] = {
        {"nothing is committed", AT_BEFORE, false, 0, old_file, true},
        {"the allocation is committed, the data on its way", AT_BEFORE, true, 0, old_file,
         true},
        {"the data is there, nothing is committed", AT_AFTER, false, 0, old_file, true},
        {"the data is there, the size is not committed", AT_AFTER, true, 0, old_file, true},
        {"it has returned, the size is not committed", AT_END, false, 0, old_file, true},
        {"the size is committed", AT_END, true, 0, new_file, false},
        {"it was durable when it returned", AT_END, false, RWF_DSYNC, new_file, false},
        {"it was synced when it returned", AT_END, false, RWF_SYNC, new_file, false},
};

static void play(struct table *t, const struct row *row, uint64_t pos, uint64_t len)
{
        t->name = row->name;
        t->commits = row->commits;
        t->views = row->views;
        t->frees = row->frees;
        t->when = row->at == AT_END ? -1 : (int)row->at;
        t->nr_looked = 0;
        assert_int_equal(t_write(t, pos, len, row->flags), len);
        if (row->at == AT_END) {
                if (row->commits)
                        assert_int_equal(uext4_syncfs(t->m.fs), 0);
                look(t);
        }
        t->when = -1;
        assert_true(t->nr_looked > 0);
}

static void extending_write_B38_B41(void **state)
{
        struct table t;

        for (size_t i = 0; i < ARRAY_LEN(configs); i++) {
                for (size_t n = 0; n < ARRAY_LEN(extending); n++) {
                        t_open(&t, &configs[i]);
                        t_old_bytes(&t, 8192);
                        play(&t, &extending[n], 8192, 20480);
                        t_close(&t);
                }
        }
}

/* With the size the entry ends: in memory at once, on disk with the same commit. */
static void extending_write_ends_its_entry_B41(void **state)
{
        for (size_t i = 0; i < ARRAY_LEN(configs); i++) {
                const struct uext4_bdev_sim_survivor none = {.mode = UEXT4_BDEV_SIM_NONE};
                const struct ext4_super_block *sb;
                struct ext4_inode *inode;
                struct table t;

                t_open(&t, &configs[i]);
                inode = (void *)uext4_file_inode(t.file);
                for (unsigned n = 0; n < 3; n++) {
                        assert_int_equal(t_write(&t, n * 8192, 8192, RWF_DSYNC), 8192);
                        assert_false(ext4_is_orphan(inode));
                }
                /* The list of those who have no file for it. */
                assert_int_equal(uext4_syncfs(t.m.fs), 0);
                assert_int_equal(jbd2_flush(inode->fs->journal), 0);
                assert_int_equal(uext4_bdev_sim_survivor(t.sim, &none, t.image), 0);
                sb = (const void *)(t.image + EXT4_SUPER_OFFSET);
                assert_int_equal(le32_get(sb->s_last_orphan), 0);
                t_close(&t);
        }
}

/* The entry alone is committed: there is nothing to do, and it goes. */
static void orphan_entry_alone_B38(void **state)
{
        struct ext4_inode *inode;
        struct table t;

        for (size_t i = 0; i < ARRAY_LEN(configs); i++) {
                t_open(&t, &configs[i]);
                t_old_bytes(&t, 8192);
                inode = (void *)uext4_file_inode(t.file);
                rwsem_write_lock(&inode->vfs.lock);
                assert_int_equal(ext4_begin_extend(inode), 0);
                rwsem_write_unlock(&inode->vfs.lock);
                assert_true(ext4_is_orphan(inode));
                t.views = old_file;
                t.frees = true;
                look(&t); /* nothing is committed */
                assert_int_equal(uext4_syncfs(t.m.fs), 0);
                look(&t);
                assert_int_equal(t_write(&t, 8192, 20480, 0), 20480);
                assert_false(ext4_is_orphan(inode));
                t_close(&t);
        }
}

static void extending_write_fails_B41(void **state)
{
        const struct uext4_bdev_fault rule = {
                .ops = 1u << UEXT4_BDEV_WRITE, .count = 1, .error = -EIO};
        struct table t;

        for (size_t i = 0; i < ARRAY_LEN(configs); i++) {
                t_open(&t, &configs[i]);
                t_old_bytes(&t, 8192);
                t.views = old_file;
                t.frees = true;
                assert_int_equal(uext4_bdev_fault_add(t.fault, &rule), 0);
                assert_int_equal(t_write(&t, 8192, 20480, 0), -EIO);
                look(&t);
                assert_int_equal(uext4_syncfs(t.m.fs), 0);
                look(&t);
                t_close(&t);
        }
}

/* ---- the second table: inside the size ---- */

static const view zeros[] = {{{8192, 'o'}, {65536, 0}}, {{0, 0}}};
static const view data[] = {{{8192, 'o'}, {8192, 0}, {16384, 'x'}, {40960, 0}}, {{0, 0}}};

static const struct row inside[] = {
        {"nothing is committed", AT_BEFORE, false, 0, zeros, false},
        {"the allocation is committed", AT_BEFORE, true, 0, zeros, false},
        {"the data is there, nothing is committed", AT_AFTER, false, 0, zeros, false},
        {"the data is there, the conversion is not committed", AT_AFTER, true, 0, zeros, false},
        {"it has returned, the conversion is not committed", AT_END, false, 0, zeros, false},
        {"the conversion is committed", AT_END, true, 0, data, false},
        {"it was durable when it returned", AT_END, false, RWF_DSYNC, data, false},
};

static void write_into(bool has_space)
{
        struct table t;

        for (size_t i = 0; i < ARRAY_LEN(configs); i++) {
                for (size_t n = 0; n < ARRAY_LEN(inside); n++) {
                        t_open(&t, &configs[i]);
                        t_old_bytes(&t, 8192);
                        if (has_space)
                                assert_int_equal(uext4_fallocate(t.file, 0, 8192, 65536), 0);
                        else
                                assert_int_equal(uext4_truncate(t.file, 73728), 0);
                        assert_int_equal(uext4_syncfs(t.m.fs), 0);
                        play(&t, &inside[n], 16384, 16384);
                        t_close(&t);
                }
        }
}

static void write_into_a_hole_B11(void **state)
{
        write_into(false);
}

static void write_into_preallocated_space_B40(void **state)
{
        write_into(true);
}

/* ---- several extents ---- */

/* Blocks 0, 2, 4 ... are unwritten; those between hold 'o'. */
static void make_extents(struct table *t, unsigned nr, uint64_t bs)
{
        uint8_t *o = t_alloc(bs);

        memset(o, 'o', bs);
        assert_int_equal(uext4_fallocate(t->file, 0, 0, nr * bs), 0);
        for (unsigned i = 1; i < nr; i += 2)
                assert_int_equal(uext4_pwrite(t->file, o, bs, i * bs), bs);
        assert_int_equal(uext4_syncfs(t->m.fs), 0);
        free(o);
}

struct half {
        struct table t;
        uint64_t bs, nr_none, nr_half, nr_all;
};

/* Of what was unwritten each block is zeros or data, wholly; of the others, whatever. */
static void *look_at_half(void *arg)
{
        const struct uext4_bdev_sim_survivor none = {.mode = UEXT4_BDEV_SIM_NONE};
        struct half *h = arg;
        struct table *t = &h->t;
        struct uext4_file *file;
        struct uext4_bdev *dev;
        unsigned nr_new = 0, nr = MAX_SIZE / (unsigned)h->bs / 2;
        struct rig_mount m;
        char *text;

        T_CHECK(uext4_bdev_sim_survivor(t->sim, &none, t->image) == 0);
        T_CHECK(uext4_bdev_open_buffer(t->image, t->size, 0, &dev) == 0);
        T_CHECK(rig_mount(&m, dev, RIG_OPTIONS) == 0);
        T_CHECK(uext4_open_path(m.fs, "/file", O_RDONLY, &file) == 0);
        T_CHECK(uext4_pread(file, t->got, MAX_SIZE, 0) == MAX_SIZE);
        for (uint64_t pos = 0; pos < MAX_SIZE; pos += 2 * h->bs) {
                T_CHECK(t->got[pos] == 0 || t->got[pos] == 'x');
                nr_new += t->got[pos] == 'x' ? 1 : 0;
                for (uint64_t i = 1; i < h->bs; i++)
                        T_CHECK(t->got[pos + i] == t->got[pos]);
        }
        uext4_close(file);
        T_CHECK(rig_unmount(&m) == 0);
        uext4_bdev_close(dev);
        text = rig_fsck(t->image, t->size);
        if (text)
                complain(t, "nothing survives", text);
        h->nr_none += nr_new == 0 ? 1 : 0;
        h->nr_half += nr_new > 0 && nr_new < nr ? 1 : 0;
        h->nr_all += nr_new == nr ? 1 : 0;
        return NULL;
}

static void at_flush(void *arg, enum held_when when, const struct held_io *io)
{
        pthread_t id;

        if (io->op != UEXT4_BDEV_FLUSH && !(io->flags & UEXT4_BDEV_FUA))
                return;
        T_CHECK(pthread_create(&id, NULL, look_at_half, arg) == 0);
        pthread_join(id, NULL);
}

/* First in one piece, then as two writes with a commit between them. */
static void conversion_of_many_extents(void **state)
{
        struct half h;

        for (unsigned parts = 1; parts <= 2; parts++) {
                memset(&h, 0, sizeof(h));
                t_open(&h.t, &configs[1]);
                h.bs = 1024;
                make_extents(&h.t, MAX_SIZE / 1024, h.bs);
                held_set_hook(h.t.dev, at_flush, &h);
                for (unsigned i = 0; i < parts; i++)
                        assert_int_equal(t_write(&h.t, i * MAX_SIZE / parts, MAX_SIZE / parts,
                                                 RWF_DSYNC),
                                         MAX_SIZE / parts);
                assert_true(h.nr_none > 0 && h.nr_all > 0);
                assert_true(parts == 1 || h.nr_half > 0);
                held_set_hook(h.t.dev, NULL, NULL);
                t_close(&h.t);
        }
}

/* ---- a file without extents ---- */

/* The data is on the device before the commit that maps it, at every request. */
static void hole_of_an_indirect_file_B12(void **state)
{
        static const struct config ext3 = {"ext3", EXT3_1K, 4};
        static const view either[] = {
                {{8192, 'o'}, {65536, 0}},
                {{8192, 'o'}, {8192, 0}, {16384, 'x'}, {40960, 0}},
                {{0, 0}},
        };
        struct table t;

        for (unsigned dsync = 0; dsync < 2; dsync++) {
                t_open(&t, &ext3);
                t_old_bytes(&t, 8192);
                assert_int_equal(uext4_truncate(t.file, 73728), 0);
                assert_int_equal(uext4_syncfs(t.m.fs), 0);
                t.views = either;
                t.when = -2;
                assert_int_equal(t_write(&t, 16384, 16384, dsync ? RWF_DSYNC : 0), 16384);
                if (!dsync)
                        assert_int_equal(uext4_fdatasync(t.file), 0);
                t.views = data;
                look(&t);
                t_close(&t);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(extending_write_B38_B41),
                cmocka_unit_test(extending_write_ends_its_entry_B41),
                cmocka_unit_test(orphan_entry_alone_B38),
                cmocka_unit_test(extending_write_fails_B41),
                cmocka_unit_test(write_into_a_hole_B11),
                cmocka_unit_test(write_into_preallocated_space_B40),
                cmocka_unit_test(conversion_of_many_extents),
                cmocka_unit_test(hole_of_an_indirect_file_B12),
        };

        cmocka_set_test_filter(getenv("UEXT4_TEST"));
        return cmocka_run_group_tests_name("write_tables", tests, NULL, NULL);
}
