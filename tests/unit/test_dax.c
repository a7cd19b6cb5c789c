/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Files on a device that is memory (DAX), through the public API.
 *
 * Every block that is free has been another file's and is full of a pattern: found in a file,
 * it is what somebody else has deleted.  What a process leaves that ends at some moment is a
 * copy of the device's memory at that moment; and once, a process is killed indeed.
 */

#include <linux/falloc.h>
#include <signal.h>
#include <sys/wait.h>

#include "ext4/dax.h"
#include "ext4/write_path.h"
#include "lib/lib.h"
#include "t_write.h"

#define STALE 0xa5

#define EXT4_4K      "-b 4096 -J size=4 -O " T_EXT4
#define EXT4_1K      "-b 1024 -J size=1 -O " T_EXT4
#define EXT3_1K      "-b 1024 -J size=1 -O none,has_journal,sparse_super,large_file"
#define EXT2_1K      "-b 1024 -O none,sparse_super,large_file"
#define BIGALLOC_1K  "-b 1024 -C 8192 -J size=1 -O bigalloc," T_EXT4
#define NOJOURNAL_4K "-b 4096 -O ^has_journal,extents,64bit,metadata_csum"

static const struct config {
        const char *name, *mkfs;
        bool has_extents;
} configs[] = {
        {"4k", EXT4_4K, true},           {"1k", EXT4_1K, true},
        {"ext3", EXT3_1K, false},        {"ext2", EXT2_1K, false},
        {"bigalloc", BIGALLOC_1K, true}, {"no journal", NOJOURNAL_4K, true},
};

/* ---- the stage ---- */

struct stage {
        struct t_image img;
        struct uext4_bdev *dev;
        struct uext4_fs *fs;
        struct uext4_file *file; /* /file, for reading and writing */
        struct t_log log;
};

static int t_try_mount(struct stage *st, const char *options)
{
        const struct uext4_mount_params params = {options, t_log_line, &st->log};

        return uext4_mount_bdev(st->dev, &params, &st->fs);
}

static void t_begin(struct stage *st, const char *options)
{
        T_CHECK(uext4_bdev_open_buffer(st->img.data, st->img.size, 0, &st->dev) == 0);
        t_log_init(&st->log);
        T_CHECK(t_try_mount(st, options) == 0);
        T_CHECK(uext4_open_path(st->fs, "/file",
                                strncmp(options, "ro", 2) == 0 ? O_RDONLY : O_RDWR,
                                &st->file) == 0);
}

static void t_end(struct stage *st)
{
        uext4_close(st->file);
        T_CHECK(uext4_unmount(st->fs) == 0);
        uext4_bdev_close(st->dev);
}

static void t_unlink(struct uext4_fs *fs, const char *name)
{
        struct uext4_inode *root;

        T_CHECK(uext4_resolve(fs, "/", 0, &root) == 0);
        T_CHECK(uext4_unlink(root, name, strlen(name)) == 0);
        uext4_inode_put(root);
}

/* All space has been another file's, and is free now. */
static void t_spoil(struct stage *st)
{
        const size_t size = 1 << 20;
        char *buf = t_alloc(size);
        struct uext4_file *filler;
        uint64_t pos = 0;
        ssize_t n;

        memset(buf, STALE, size);
        t_begin(st, "rw,dax");
        T_CHECK(uext4_open_path(st->fs, "/filler", O_RDWR, &filler) == 0);
        while ((n = uext4_pwrite(filler, buf, size, pos)) > 0)
                pos += (uint64_t)n;
        T_CHECK(n == -ENOSPC);
        uext4_close(filler);
        t_unlink(st->fs, "filler");
        t_end(st);
        free(buf);
}

/* Images that were made before: making one takes longer than most tests. */
static struct made {
        const char *mkfs, *script;
        struct t_image img;
} made[16];

static struct made *find_made(const char *mkfs, const char *script)
{
        struct made *m = made;

        while (m->mkfs && (m->mkfs != mkfs || m->script != script))
                m++;
        T_CHECK(m < made + ARRAY_LEN(made) - 1);
        return m;
}

/* An image with an empty /file.  `script` is more for debugfs.  Both are constants. */
static void t_make(struct stage *st, const char *mkfs, const char *script)
{
        struct made *m = find_made(mkfs, script);
        char text[512];

        *st = (struct stage){0};
        if (m->mkfs) {
                st->img = t_image_copy(&m->img);
                return;
        }
        snprintf(text, sizeof(text), "write /dev/null file\\nwrite /dev/null filler\\n%s",
                 script ? script : "");
        st->img = t_mkfs(16 << 20, mkfs, text);
        t_spoil(st);
        *m = (struct made){mkfs, script, t_image_copy(&st->img)};
}

static void t_open(struct stage *st, const char *mkfs, const char *options)
{
        t_make(st, mkfs, NULL);
        t_begin(st, options);
}

/* Unmount; e2fsck is content. */
static void t_close(struct stage *st)
{
        const char *complaint;

        t_end(st);
        complaint = t_fsck(&st->img, false);
        if (complaint)
                fail_msg("e2fsck: %s", complaint);
        t_image_free(&st->img);
}

static void t_write(struct stage *st, uint64_t pos, const char *text)
{
        const size_t len = strlen(text);

        assert_int_equal(uext4_pwrite(st->file, text, len, pos), len);
}

static struct uext4_stats t_stats(struct stage *st)
{
        struct uext4_stats s;

        uext4_get_stats(st->fs, &s);
        return s;
}

static uint64_t t_size(struct stage *st)
{
        struct uext4_stat s;

        assert_int_equal(uext4_stat(uext4_file_inode(st->file), &s), 0);
        return s.size;
}

/* All bytes of the file are zeros but for `text` at pos; 0 bytes of it: no text. */
static void t_expect(const char *row, struct stage *st, uint64_t pos, const char *text)
{
        const uint64_t size = t_size(st);
        char *buf = t_alloc(size + 1), *want = t_alloc(size + 1);

        memcpy(want + pos, text, strlen(text));
        t_assert_row(row, uext4_pread(st->file, buf, size + 1, 0), size);
        for (uint64_t i = 0; i < size; i++) {
                if (buf[i] != want[i])
                        fail_msg("%s: byte %llu is %02x", row, (unsigned long long)i,
                                 (uint8_t)buf[i]);
        }
        free(buf);
        free(want);
}

/* A lease of /file. */
struct held {
        struct uext4_lease *lease;
        char *mem;
        ssize_t len;
};

static struct held t_lease(struct stage *st, uint64_t pos, uint64_t len, uint32_t flags)
{
        const struct uext4_lease_params p = {.pos = pos, .len = len, .flags = flags};
        struct held h = {0};
        void *mem = NULL;

        h.len = uext4_map_lease(st->file, &p, &mem, &h.lease);
        h.mem = mem;
        return h;
}

/* What a process that ends now leaves, mounted again: as `st`, but of a copy. */
static void t_crash(struct stage *st, struct stage *ret_after)
{
        *ret_after = (struct stage){.img = t_image_copy(&st->img)};
        t_begin(ret_after, "rw,dax");
}

/* ---- which files ---- */

/* The option is refused where it cannot be had, with a word about why. */
static void refused_without_a_mapping(void **state)
{
        struct uext4_bdev *mem, *trace;
        struct stage st;

        t_make(&st, EXT4_4K, NULL);
        assert_int_equal(uext4_bdev_open_buffer(st.img.data, st.img.size, 0, &mem), 0);
        assert_int_equal(uext4_bdev_open_trace(mem, 0, &trace), 0);
        st.dev = trace;
        t_log_init(&st.log);
        assert_int_equal(t_try_mount(&st, "rw,dax"), -EOPNOTSUPP);
        assert_true(t_log_has(&st.log, "dax needs a device that is memory"));
        assert_int_equal(t_try_mount(&st, "rw,dax=sometimes"), -EINVAL);
        assert_true(t_log_has(&st.log, "bad value 'sometimes'"));
        assert_int_equal(t_try_mount(&st, "rw,dax=inode"), 0);
        assert_int_equal(uext4_unmount(st.fs), 0);
        uext4_bdev_close(trace);

        assert_int_equal(uext4_bdev_open_buffer(st.img.data, st.img.size, 0, &st.dev), 0);
        assert_int_equal(t_try_mount(&st, "rw,dax,data=journal"), -EINVAL);
        assert_true(t_log_has(&st.log, "dax does not go with data=journal"));
        uext4_bdev_close(st.dev);
        t_image_free(&st.img);
}

static void option_and_flag_decide(void **state)
{
        static const struct {
                const char *options, *script;
                bool is_dax;
        } rows[] = {
                {"rw,dax", "", true},
                {"rw,dax=always", "", true},
                {"rw", "", false},
                {"rw,dax=inode", "", false},
                {"rw", "set_inode_field /file flags 0x2080000\\n", true},
                {"rw,dax=never", "set_inode_field /file flags 0x2080000\\n", false},
                {"rw,dax", "set_inode_field /file flags 0x84000\\n", false}, /* data=journal */
        };

        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
                struct uext4_stat stat;
                struct uext4_stats s;
                struct held h;
                struct stage st;

                t_make(&st, EXT4_4K, rows[i].script);
                t_begin(&st, rows[i].options);
                t_write(&st, 10, "abc");
                t_expect(rows[i].options, &st, 10, "abc");
                s = t_stats(&st);
                assert_int_equal(uext4_stat(uext4_file_inode(st.file), &stat), 0);
                t_assert_row(rows[i].options, stat.dio_offset_align == 1, rows[i].is_dax);
                t_assert_row(rows[i].options, s.dax_writes, rows[i].is_dax);
                t_assert_row(rows[i].options, s.dax_reads, rows[i].is_dax);
                t_assert_row(rows[i].options, s.buffered_writes, !rows[i].is_dax);
                h = t_lease(&st, 0, 10, 0);
                t_assert_row(rows[i].options, h.len, rows[i].is_dax ? 10 : -EOPNOTSUPP);
                uext4_unmap_lease(h.lease);
                t_close(&st);
        }
}

/* A file whose data is in the inode becomes one when it grows out of it. */
static void inline_file_becomes_one(void **state)
{
        struct stage st;
        struct held h;

        t_open(&st, "-b 4096 -J size=4 -I 256 -O inline_data," T_EXT4, "rw,dax");
        t_write(&st, 0, "abc");
        assert_int_equal(t_stats(&st).dax_writes, 0);
        assert_int_equal(t_lease(&st, 0, 3, 0).len, -EOPNOTSUPP);
        t_write(&st, 5000, "def");
        t_write(&st, 5000, "ghi");
        assert_int_equal(t_stats(&st).dax_writes, 1);
        h = t_lease(&st, 0, 3, 0);
        assert_int_equal(h.len, 3);
        assert_memory_equal(h.mem, "abc", 3);
        uext4_unmap_lease(h.lease);
        t_close(&st);
}

/* ---- writing ---- */

/* CREATE_ZERO: nothing of the new blocks but what was written, inside the size and behind it,
 * in holes and in unwritten space; no request to the device, nothing to convert. */
static void allocation_zeroes(void **state)
{
        for (size_t i = 0; i < ARRAY_LEN(configs); i++) {
                const struct config *c = &configs[i];
                struct uext4_stats s;
                struct stage st;
                struct held h;

                t_open(&st, c->mkfs, "rw,dax");
                t_write(&st, 100001, "abc"); /* behind the size */
                t_expect(c->name, &st, 100001, "abc");
                h = t_lease(&st, 100001, 100, 0);
                t_assert_row(c->name, h.len, 3);
                for (uint64_t at = 100004; at % 1024 != 0; at++) /* the rest of its block */
                        t_assert_row(c->name, h.mem[at - 100001], 0);
                uext4_unmap_lease(h.lease);

                t_write(&st, 100001, (char[]){1, 1, 1, 0});
                assert_int_equal(uext4_truncate(st.file, 100000), 0);
                t_write(&st, 50001, "abc"); /* into a hole: of an indirect map, too */
                t_expect(c->name, &st, 50001, "abc");
                if (c->has_extents) {
                        assert_int_equal(uext4_truncate(st.file, 0), 0);
                        assert_int_equal(
                                uext4_fallocate(st.file, FALLOC_FL_KEEP_SIZE, 0, 1 << 20), 0);
                        t_write(&st, 300001, "abc"); /* into unwritten space behind it */
                        t_expect(c->name, &st, 300001, "abc");
                        t_write(&st, 300001, (char[]){'a', 'b', 'c', 0});
                        assert_int_equal(
                                uext4_fallocate(st.file, FALLOC_FL_ZERO_RANGE, 0, 400000), 0);
                        t_write(&st, 200001, "abc"); /* inside it */
                        t_expect(c->name, &st, 200001, "abc");
                }
                s = t_stats(&st);
                t_assert_row(c->name, s.device_writes, 0);
                t_assert_row(c->name, s.conversions, 0);
                t_assert_row(c->name, s.fallback_hole, 0);
                t_assert_row(c->name, s.buffered_writes, 0);
                t_close(&st);
        }
}

/* The transaction that allocates may be durable before any data is stored: then there are
 * zeros, not what the blocks had. */
static void crash_after_allocation_shows_zeros(void **state)
{
        for (size_t i = 0; i < ARRAY_LEN(configs); i++) {
                const struct config *c = &configs[i];
                struct stage st, after;
                struct held h;

                t_open(&st, c->mkfs, "rw,dax");
                assert_int_equal(uext4_truncate(st.file, 100000), 0);
                h = t_lease(&st, 20000, 30000, UEXT4_LEASE_WRITE); /* allocates */
                t_assert_row(c->name, h.len > 0, 1);
                assert_int_equal(uext4_syncfs(st.fs), 0);
                t_crash(&st, &after);
                t_expect(c->name, &after, 0, "");
                t_close(&after);
                uext4_unmap_lease(h.lease);
                t_close(&st);
        }
}

/* What was acknowledged as durable is there; of the rest all or nothing. */
static void sync_makes_durable(void **state)
{
        for (size_t i = 0; i < ARRAY_LEN(configs); i++) {
                const struct config *c = &configs[i];
                const struct iovec iov = {(char[]){"abc"}, 3};
                struct stage st, after;

                if (strcmp(c->name, "ext2") == 0 || strcmp(c->name, "no journal") == 0)
                        continue;
                t_open(&st, c->mkfs, "rw,dax,commit=100000");
                t_write(&st, 3000, "abc");
                t_crash(&st, &after);
                t_assert_row(c->name, t_size(&after), 0);
                t_close(&after);

                assert_int_equal(uext4_fdatasync(st.file), 0);
                t_crash(&st, &after);
                t_expect(c->name, &after, 3000, "abc");
                t_close(&after);

                assert_int_equal(uext4_pwritev2(st.file, &iov, 1, 3003, RWF_DSYNC), 3);
                t_crash(&st, &after);
                t_expect(c->name, &after, 3000, "abcabc");
                t_close(&after);
                t_close(&st);
        }
}

/* A file that nothing was written to needs no flush; one with a lease for writing always may.
 */
static void fsync_flushes_what_was_touched(void **state)
{
        struct uext4_stats s;
        struct stage st;
        struct held h;
        uint64_t n;

        t_open(&st, EXT4_4K, "rw,dax,commit=100000");
        t_write(&st, 0, "abc");
        assert_int_equal(uext4_fsync(st.file), 0);
        s = t_stats(&st);
        assert_int_equal(uext4_fdatasync(st.file), 0);
        assert_int_equal(t_stats(&st).flushes, s.flushes);
        t_write(&st, 0, "def"); /* an overwrite: a flush, and no commit */
        assert_int_equal(uext4_fdatasync(st.file), 0);
        assert_int_equal(t_stats(&st).flushes, s.flushes + 1);
        assert_int_equal(t_stats(&st).commits, s.commits);

        h = t_lease(&st, 0, 3, UEXT4_LEASE_WRITE);
        assert_int_equal(h.len, 3);
        for (n = s.flushes + 2; n < s.flushes + 4; n++) {
                assert_int_equal(uext4_fdatasync(st.file), 0);
                assert_int_equal(t_stats(&st).flushes, n);
        }
        uext4_unmap_lease(h.lease); /* it may have stored something since */
        assert_int_equal(uext4_fdatasync(st.file), 0);
        assert_int_equal(t_stats(&st).flushes, n);
        assert_int_equal(uext4_fdatasync(st.file), 0);
        assert_int_equal(t_stats(&st).flushes, n);

        h = t_lease(&st, 0, 3, 0);
        assert_int_equal(uext4_fdatasync(st.file), 0);
        uext4_unmap_lease(h.lease);
        assert_int_equal(uext4_fdatasync(st.file), 0);
        assert_int_equal(t_stats(&st).flushes, n);
        t_close(&st);
}

/* C19: a write that space ran out under keeps its orphan entry until what it has not used is
 * gone; the bytes that it did write are there. */
static void short_write_is_trimmed(void **state)
{
        const size_t len = 20 << 20;
        char *buf = t_alloc(len);
        struct stage st, after;
        ssize_t n;

        memset(buf, 'x', len);
        t_open(&st, EXT4_1K, "rw,dax");
        n = uext4_pwrite(st.file, buf, len, 0);
        assert_true(n > 0 && (size_t)n < len);
        assert_int_equal(t_size(&st), n);
        assert_int_equal(uext4_pwrite(st.file, buf, len, (uint64_t)n), -ENOSPC);
        assert_int_equal(t_size(&st), n);
        assert_int_equal(uext4_syncfs(st.fs), 0);
        t_crash(&st, &after);
        assert_int_equal(t_size(&after), n);
        t_close(&after);
        t_close(&st);
        free(buf);
}

/* The same when what it has not used had been allocated with the rest: its entry ends in the
 * end, and nothing is left behind the size. */
static void the_rest_of_a_short_write_goes_C19(void **state)
{
        struct ext4_extension x = {
                .end = 1000, .has_new = true, .is_short = true, .is_orphan = true};
        struct statvfs before, now;
        struct stage st, after;
        struct iomap map;

        t_open(&st, EXT4_1K, "rw,dax");
        x.inode = (void *)uext4_file_inode(st.file);
        assert_int_equal(uext4_statfs(st.fs, &before), 0);
        rwsem_write_lock(&x.inode->vfs.lock);
        assert_int_equal(ext4_begin_extend(x.inode), 0);
        assert_int_equal(ext4_dax_ops.begin(&x.inode->vfs, 0, 8192, 0, &map), 0);
        assert_int_equal(map.length, 8192);
        assert_int_equal(ext4_end_extension(&x, 1000), 1000);
        rwsem_write_unlock(&x.inode->vfs.lock);
        assert_false(ext4_is_orphan(x.inode));
        assert_int_equal(t_size(&st), 1000);
        assert_int_equal(uext4_statfs(st.fs, &now), 0);
        assert_int_equal(now.f_bfree, before.f_bfree - 1);
        assert_int_equal(uext4_syncfs(st.fs), 0);
        t_crash(&st, &after);
        assert_int_equal(t_size(&after), 1000);
        t_close(&after);
        t_close(&st);
}

/* NOWAIT does what changes bytes only, and else nothing. */
static void nowait_never_sleeps(void **state)
{
        static const struct {
                const char *name;
                uint64_t pos;
                int64_t result;
        } rows[] = {
                {"written", 3, 3},
                {"up to the size", 8189, 3},
                {"behind the size", 8191, -EAGAIN},
                {"into a hole", 5000, -EAGAIN},
                {"across its start", 4095, -EAGAIN},
        };
        const struct iovec iov = {(char[]){"xyz"}, 3};
        struct stage st;

        t_open(&st, EXT4_1K, "rw,dax");
        t_write(&st, 0, "abc");
        assert_int_equal(uext4_truncate(st.file, 8192), 0);
        t_write(&st, 4093, "abc");
        t_write(&st, 8189, "abc");
        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
                t_assert_row(rows[i].name,
                             uext4_pwritev2(st.file, &iov, 1, rows[i].pos, RWF_NOWAIT),
                             rows[i].result);
                assert_int_equal(t_size(&st), 8192);
        }
        t_close(&st);
}

/* One byte at a time, as O_DIRECT, at the end by O_APPEND, from vectors. */
static void any_shape_will_do(void **state)
{
        struct uext4_file *direct;
        char buf[32] = "";
        struct stage st;

        t_open(&st, EXT4_4K, "rw,dax");
        assert_int_equal(uext4_open_path(st.fs, "/file", O_RDWR | O_DIRECT, &direct), 0);
        for (unsigned i = 0; i < 3; i++)
                assert_int_equal(uext4_pwrite(direct, &"abc"[i], 1, i), 1);
        assert_int_equal(uext4_pwrite(direct, "B", 1, 1), 1); /* an overwrite of one byte */
        assert_int_equal(
                uext4_pwritev2(
                        direct,
                        (struct iovec[]){{(char[]){"de"}, 2}, {NULL, 0}, {(char[]){"f"}, 1}}, 3,
                        0, RWF_APPEND),
                3);
        assert_int_equal(uext4_pread(direct, buf, sizeof(buf), 1), 5);
        assert_string_equal(buf, "Bcdef");
        assert_int_equal(uext4_pwrite(direct, "x", 0, 1000), 0);
        assert_int_equal(t_size(&st), 6);
        uext4_close(direct);
        t_close(&st);
}

/* C23: what a lease has left behind the end is not seen when the file grows. */
static void growing_zeroes_the_tail(void **state)
{
        struct stage st;
        struct held h;

        t_open(&st, EXT4_4K, "rw,dax");
        t_write(&st, 0, "abc");
        for (unsigned i = 0; i < 2; i++) {
                const uint64_t size = t_size(&st);

                h = t_lease(&st, 0, 3, UEXT4_LEASE_WRITE);
                assert_int_equal(h.len, 3);
                memset(h.mem + size, 'x', 100); /* which it must not */
                uext4_unmap_lease(h.lease);
                if (i == 0)
                        assert_int_equal(uext4_truncate(st.file, size + 50), 0);
                else
                        assert_int_equal(uext4_pwrite(st.file, "", 1, size + 50), 1);
                t_expect("grown", &st, 0, "abc");
        }
        t_close(&st);
}

/* ---- leases ---- */

/* The pointer and the calls see the same bytes, at once. */
static void lease_is_the_file(void **state)
{
        struct stage st;
        struct held h;

        t_open(&st, EXT4_4K, "rw,dax");
        t_write(&st, 5000, "abc");
        h = t_lease(&st, 4999, 1000, UEXT4_LEASE_WRITE);
        assert_int_equal(h.len, 4); /* to the end of the file */
        assert_memory_equal(h.mem, "\0abc", 4);
        memcpy(h.mem, "xyz", 3);
        t_expect("stored", &st, 4999, "xyzc");
        t_write(&st, 5000, "AB");
        assert_memory_equal(h.mem, "xABc", 4);
        t_write(&st, 9000, "more"); /* growing does not move it */
        assert_memory_equal(h.mem, "xABc", 4);
        uext4_unmap_lease(h.lease);
        t_close(&st);
}

static void lease_refusals(void **state)
{
        const struct uext4_lease_params odd = {.len = 1, .flags = 2};
        struct uext4_file *file;
        struct uext4_lease *lease;
        struct stage st;
        void *mem;

        t_open(&st, EXT4_4K, "rw,dax");
        assert_int_equal(t_lease(&st, 0, 1, 0).len, -ENXIO); /* an empty file */
        assert_int_equal(uext4_truncate(st.file, 10000), 0);
        assert_int_equal(t_lease(&st, 0, 0, 0).len, -EINVAL);
        assert_int_equal(t_lease(&st, UINT64_MAX, 1, 0).len, -EINVAL);
        assert_int_equal(uext4_map_lease(st.file, &odd, &mem, &lease), -EINVAL);
        assert_int_equal(t_lease(&st, 0, 1, 0).len, -ENXIO); /* a hole */
        assert_int_equal(t_lease(&st, 10000, 1, UEXT4_LEASE_WRITE).len, -ENXIO);
        file = st.file;
        assert_int_equal(uext4_open_path(st.fs, "/file", O_RDONLY, &st.file), 0);
        assert_int_equal(t_lease(&st, 0, 1, UEXT4_LEASE_WRITE).len, -EBADF);
        uext4_close(st.file);
        assert_int_equal(uext4_open_path(st.fs, "/file", O_WRONLY, &st.file), 0);
        assert_int_equal(t_lease(&st, 0, 1, 0).len, -EBADF);
        uext4_close(st.file);
        st.file = file;
        uext4_unmap_lease(NULL);
        t_close(&st);
}

/* Also where nothing can be written. */
static void lease_on_a_read_only_mount(void **state)
{
        struct stage st;
        struct held h;

        t_open(&st, EXT4_4K, "rw,dax");
        t_write(&st, 0, "abc");
        t_end(&st);
        t_begin(&st, "ro,dax");
        h = t_lease(&st, 1, 100, 0);
        assert_int_equal(h.len, 2);
        assert_memory_equal(h.mem, "bc", 2);
        uext4_unmap_lease(h.lease);
        t_close(&st);
}

/* What waits for a lease of [8192, 12288) in a file of 64 KiB: in the thread that holds it,
 * what would wait is -EDEADLK. */
static void what_waits_for_a_lease(void **state)
{
        static const struct {
                const char *name;
                int mode; /* -1: truncate to pos */
                uint64_t pos, len;
                bool waits;
        } rows[] = {
                {"truncate to its end", -1, 12288, 0, false},
                {"truncate into it", -1, 12287, 0, true},
                {"truncate to 0", -1, 0, 0, true},
                {"grow", -1, 100000, 0, false},
                {"allocate", 0, 0, 100000, false},
                {"punch before", FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 8192, false},
                {"punch its first byte", FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 8193,
                 true},
                {"punch its last byte", FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 12287, 9000,
                 true},
                {"punch behind", FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 12288, 9000,
                 false},
                {"zero range", FALLOC_FL_ZERO_RANGE, 4096, 8192, true},
                {"zero range behind", FALLOC_FL_ZERO_RANGE, 12288, 8192, false},
                {"collapse before", FALLOC_FL_COLLAPSE_RANGE, 0, 4096, true},
                {"collapse behind", FALLOC_FL_COLLAPSE_RANGE, 12288, 4096, false},
                {"insert before", FALLOC_FL_INSERT_RANGE, 4096, 4096, true},
                {"insert behind", FALLOC_FL_INSERT_RANGE, 12288, 4096, false},
        };

        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
                struct stage st;
                struct held h;
                int ret;

                t_open(&st, EXT4_4K, "rw,dax");
                t_write(&st, 65533, "end");
                h = t_lease(&st, 8192, 4096, UEXT4_LEASE_WRITE);
                assert_int_equal(h.len, 4096);
                memcpy(h.mem, "abc", 3);
                for (unsigned round = 0; round < 2; round++) {
                        if (rows[i].mode < 0)
                                ret = uext4_truncate(st.file, rows[i].pos);
                        else
                                ret = uext4_fallocate(st.file, rows[i].mode, rows[i].pos,
                                                      rows[i].len);
                        t_assert_row(rows[i].name, ret,
                                     rows[i].waits && round == 0 ? -EDEADLK : 0);
                        if (round == 1)
                                break;
                        assert_memory_equal(h.mem, "abc", 3);
                        uext4_unmap_lease(h.lease);
                }
                t_close(&st);
        }
}

/* A thread that truncates, and a flag that says when it has done so. */
struct cutter {
        struct stage *st;
        _Atomic int done;
};

static void *cut_main(void *arg)
{
        struct cutter *c = arg;

        T_CHECK(uext4_truncate(c->st->file, 0) == 0);
        atomic_store(&c->done, 1);
        return NULL;
}

/* Another thread waits; the file can be used meanwhile, and the memory is what it was. */
static void truncate_waits(void **state)
{
        struct cutter c = {0};
        struct stage st;
        struct held h;
        pthread_t id;

        t_open(&st, EXT4_4K, "rw,dax");
        t_write(&st, 0, "abc");
        h = t_lease(&st, 0, 3, UEXT4_LEASE_WRITE);
        assert_int_equal(h.len, 3);
        c.st = &st;
        assert_int_equal(pthread_create(&id, NULL, cut_main, &c), 0);
        for (unsigned i = 0; i < 20; i++) {
                usleep(1000);
                assert_int_equal(atomic_load(&c.done), 0);
                t_write(&st, 5000, "def"); /* nobody holds a lock while he waits */
                assert_int_equal(t_size(&st), 5003);
                assert_memory_equal(h.mem, "abc", 3);
        }
        uext4_unmap_lease(h.lease);
        pthread_join(id, NULL);
        assert_int_equal(t_size(&st), 0);
        t_close(&st);
}

struct recalled {
        struct held h;
        unsigned nr;
};

static void end_when_asked(void *arg)
{
        struct recalled *r = arg;

        r->nr++;
        uext4_unmap_lease(r->h.lease);
}

/* The holder is asked once, and may end it on the spot; who is not in the way is not asked. */
static void recall_asks_the_holder(void **state)
{
        struct recalled r[3] = {0};
        struct stage st;

        t_open(&st, EXT4_4K, "rw,dax");
        t_write(&st, 0, "abc");
        t_write(&st, 5000, "abc");
        for (unsigned i = 0; i < 3; i++) {
                const struct uext4_lease_params p = {.pos = i == 0 ? 0 : 5000,
                                                     .len = 3,
                                                     .flags = i == 1 ? UEXT4_LEASE_WRITE : 0,
                                                     .recall = end_when_asked,
                                                     .arg = &r[i]};
                void *mem;

                assert_int_equal(uext4_map_lease(st.file, &p, &mem, &r[i].h.lease), 3);
        }
        assert_int_equal(uext4_truncate(st.file, 4096), 0);
        assert_int_equal(r[0].nr, 0);
        assert_int_equal(r[1].nr, 1);
        assert_int_equal(r[2].nr, 1);
        assert_int_equal(uext4_truncate(st.file, 0), 0);
        assert_int_equal(r[0].nr, 1);
        t_close(&st);
}

/* A lease keeps its file, also without a name. */
static void lease_outlives_the_file(void **state)
{
        struct stage st;
        struct held h;

        t_open(&st, EXT4_4K, "rw,dax");
        t_write(&st, 0, "abc");
        h = t_lease(&st, 0, 3, UEXT4_LEASE_WRITE);
        assert_int_equal(h.len, 3);
        uext4_close(st.file);
        st.file = NULL;
        t_unlink(st.fs, "file");
        assert_int_equal(uext4_syncfs(st.fs), 0);
        assert_int_equal(uext4_unmount(st.fs), -EBUSY);
        assert_memory_equal(h.mem, "abc", 3);
        uext4_unmap_lease(h.lease);
        t_close(&st);
}

/* ---- many threads ---- */

#define SLOT     5000 /* bytes: several share a block */
#define NR_SLOTS 8

struct crowd {
        struct stage st;
        uint64_t seed;
};

/* Asked to make haste: the lease ends when its owner sees this. */
static void note_recall(void *arg)
{
        atomic_store((_Atomic int *)arg, 1);
}

/* Store to the slot of one's own in place; nothing changes it until the lease ends. */
static void use_slot(struct crowd *c, unsigned n, uint64_t *random)
{
        _Atomic int recalled = 0;
        struct uext4_lease_params p = {.pos = n * SLOT,
                                       .len = 1 + t_below(random, SLOT),
                                       .flags = UEXT4_LEASE_WRITE,
                                       .recall = note_recall,
                                       .arg = &recalled};
        const char stamp = (char)(1 + t_below(random, 100));
        struct uext4_lease *lease;
        ssize_t len;
        char *bytes;
        void *mem;

        len = uext4_map_lease(c->st.file, &p, &mem, &lease);
        if (len == -ENXIO)
                return; /* it was truncated */
        T_CHECK(len > 0 && (uint64_t)len <= p.len);
        bytes = mem;
        memset(bytes, stamp, (size_t)len);
        for (unsigned i = 0; i < 20 && !atomic_load(&recalled); i++)
                usleep(10);
        for (ssize_t i = 0; i < len; i++)
                T_CHECK(bytes[i] == stamp);
        uext4_unmap_lease(lease);
}

static void change_file(struct crowd *c, uint64_t *random)
{
        static const char zeros[SLOT];
        const uint64_t pos = t_below(random, NR_SLOTS * SLOT);
        const uint64_t len = 1 + t_below(random, SLOT);

        switch (t_below(random, 5)) {
        case 0:
                T_CHECK(uext4_truncate(c->st.file, pos) == 0);
                break;
        case 1:
                T_CHECK(uext4_fallocate(c->st.file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                        pos, len) == 0);
                break;
        case 2:
                T_CHECK(uext4_fallocate(c->st.file, FALLOC_FL_ZERO_RANGE, pos, len) == 0);
                break;
        case 3:
                T_CHECK(uext4_fdatasync(c->st.file) == 0);
                break;
        default: /* behind all slots, to make the file long again */
                T_CHECK(uext4_pwrite(c->st.file, zeros, 3000, NR_SLOTS * SLOT + pos) == 3000);
        }
}

static void crowd_main(void *arg, unsigned n)
{
        struct crowd *c = arg;
        uint64_t random = c->seed + n;

        for (unsigned i = 0; i < 150; i++) {
                if (n < 3)
                        use_slot(c, n, &random);
                else
                        change_file(c, &random);
        }
}

static void leases_under_changes(void **state)
{
        struct crowd c = {.seed = t_seed()};

        t_open(&c.st, EXT4_1K, "rw,dax");
        t_run_threads(5, crowd_main, &c);
        t_close(&c.st);
}

/* ---- a process that is killed ---- */

#define RECORD 1500

/* What the process to be killed has. */
struct victim {
        struct uext4_fs *fs;
        struct uext4_file *file;
        int acknowledged; /* a pipe: the numbers of what is durable */
        uint64_t random;
};

static void acknowledge(struct victim *v, unsigned nr)
{
        T_CHECK(write(v->acknowledged, &nr, sizeof(nr)) == sizeof(nr));
}

/* Write records, each with its number, one after the other, and say of each that it is there.
 */
static void write_records(struct victim *v)
{
        char bytes[RECORD];
        struct iovec iov = {bytes, RECORD};

        for (unsigned i = 0;; i++) {
                memset(bytes, 1 + (int)(i % 100), sizeof(bytes));
                T_CHECK(uext4_pwritev2(v->file, &iov, 1, (uint64_t)i * RECORD,
                                       i % 4 == 3 ? RWF_DSYNC : 0) == RECORD);
                if (i % 4 == 3)
                        acknowledge(v, i);
                if ((uint64_t)i * RECORD > 4 << 20)
                        pause();
        }
}

/* Anything, for ever. */
static void change_at_random(struct victim *v)
{
        static const int modes[] = {0, FALLOC_FL_KEEP_SIZE,
                                    FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                    FALLOC_FL_ZERO_RANGE};
        char bytes[20000];

        memset(bytes, 'x', sizeof(bytes));
        for (unsigned i = 0;; i++) {
                const uint64_t pos = t_below(&v->random, 1 << 20);
                const uint64_t len = 1 + t_below(&v->random, sizeof(bytes));

                switch (t_below(&v->random, 8)) {
                case 0:
                        T_CHECK(uext4_truncate(v->file, pos) == 0);
                        break;
                case 1:
                case 2:
                        T_CHECK(uext4_fallocate(v->file,
                                                modes[t_below(&v->random, ARRAY_LEN(modes))],
                                                pos, len) == 0);
                        break;
                case 3:
                        T_CHECK(uext4_fdatasync(v->file) == 0);
                        break;
                default:
                        T_CHECK(uext4_pwrite(v->file, bytes, len, pos) == (ssize_t)len);
                }
                if (i % 64 == 0)
                        acknowledge(v, i);
        }
}

static void *sync_for_ever(void *arg)
{
        struct victim *v = arg;

        for (;;)
                T_CHECK(uext4_syncfs(v->fs) == 0);
        return NULL;
}

/* Long writes behind the size, while every transaction of theirs is made durable by itself. */
static void extend_and_sync(struct victim *v)
{
        const size_t len = 9 << 20;
        char *bytes = t_alloc(len);
        pthread_t id;

        memset(bytes, 'x', len);
        T_CHECK(pthread_create(&id, NULL, sync_for_ever, v) == 0);
        for (unsigned i = 0;; i++) {
                T_CHECK(uext4_pwrite(v->file, bytes, len, 0) == (ssize_t)len);
                T_CHECK(uext4_truncate(v->file, 0) == 0);
                acknowledge(v, i);
        }
}

static void be_killed(const char *path, void (*work)(struct victim *v), struct victim *v)
{
        const struct uext4_mount_params params = {.options = "rw,dax"};
        char uri[512];

        snprintf(uri, sizeof(uri), "mmap:%s", path);
        T_CHECK(uext4_mount(uri, &params, &v->fs) == 0);
        T_CHECK(uext4_open_path(v->fs, "/file", O_RDWR, &v->file) == 0);
        work(v);
        _exit(0);
}

/* Every acknowledged record is there, and no byte that was never written. */
static void check_records(struct stage *st, int64_t last)
{
        const uint64_t size = t_size(st);
        char *bytes = t_alloc(size + 1);

        assert_true((int64_t)size >= (last + 1) * RECORD);
        assert_int_equal(uext4_pread(st->file, bytes, size + 1, 0), size);
        for (uint64_t i = 0; i < size; i++) {
                if (bytes[i] != (char)(1 + i / RECORD % 100))
                        fail_msg("byte %llu of %llu is %02x", (unsigned long long)i,
                                 (unsigned long long)size, (uint8_t)bytes[i]);
        }
        free(bytes);
}

/* Zeros and what was written are in the file, nothing that others have deleted. */
static void check_no_stale(struct stage *st, int64_t last)
{
        const uint64_t size = t_size(st);
        char *bytes = t_alloc(size + 1);

        assert_int_equal(uext4_pread(st->file, bytes, size + 1, 0), size);
        for (uint64_t i = 0; i < size; i++) {
                if (bytes[i] != 0 && bytes[i] != 'x')
                        fail_msg("after %lld: byte %llu of %llu is %02x", (long long)last,
                                 (unsigned long long)i, (unsigned long long)size,
                                 (uint8_t)bytes[i]);
        }
        free(bytes);
}

/* The last number that was acknowledged. */
static int64_t run_and_kill(const char *path, void (*work)(struct victim *v), uint64_t *random)
{
        struct victim v = {.random = t_rand(random)};
        int64_t last = -1;
        unsigned nr;
        int pipes[2];
        pid_t child;

        T_CHECK(pipe(pipes) == 0);
        child = fork();
        T_CHECK(child >= 0);
        if (child == 0) {
                v.acknowledged = pipes[1];
                be_killed(path, work, &v);
        }
        close(pipes[1]);
        T_CHECK(read(pipes[0], &nr, sizeof(nr)) == sizeof(nr)); /* it is at work */
        last = nr;
        usleep((unsigned)t_below(random, 20000));
        kill(child, SIGKILL);
        T_CHECK(waitpid(child, NULL, 0) == child);
        while (read(pipes[0], &nr, sizeof(nr)) == sizeof(nr))
                last = nr;
        close(pipes[0]);
        return last;
}

static void kill_often(const char *mkfs, void (*work)(struct victim *v),
                       void (*check)(struct stage *st, int64_t last))
{
        uint64_t random = t_seed();
        struct stage st;

        t_make(&st, mkfs, NULL);
        for (unsigned i = 0; i < 6; i++) {
                struct stage after = {.img = t_image_copy(&st.img)};
                struct host_file f = host_file_new(st.img.data, st.img.size);
                int64_t last = run_and_kill(f.path, work, &random);

                T_CHECK(pread(f.fd, after.img.data, after.img.size, 0) ==
                        (ssize_t)after.img.size);
                host_file_close(&f);
                t_begin(&after, "rw,dax");
                check(&after, last);
                t_close(&after);
        }
        t_image_free(&st.img);
}

/* SIGKILL at any moment: what was acknowledged with O_DSYNC is in the file, the rest of it is
 * what was written, and e2fsck is content after recovery. */
static void killed_process_leaves_what_it_acknowledged(void **state)
{
        kill_often(EXT4_1K, write_records, check_records);
}

/* No crash shows what a block had before it was the file's. */
static void killed_process_leaves_nothing_stale(void **state)
{
        kill_often(EXT4_1K, change_at_random, check_no_stale);
        kill_often(EXT4_4K, change_at_random, check_no_stale);
}

/* B38: of a write behind the size that was under way nothing stays but what its size covers. */
static void killed_process_leaves_nothing_behind_the_size(void **state)
{
        kill_often(EXT4_4K, extend_and_sync, check_no_stale);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(killed_process_leaves_what_it_acknowledged),
                cmocka_unit_test(killed_process_leaves_nothing_stale),
                cmocka_unit_test(killed_process_leaves_nothing_behind_the_size),
                cmocka_unit_test(refused_without_a_mapping),
                cmocka_unit_test(option_and_flag_decide),
                cmocka_unit_test(inline_file_becomes_one),
                cmocka_unit_test(allocation_zeroes),
                cmocka_unit_test(crash_after_allocation_shows_zeros),
                cmocka_unit_test(sync_makes_durable),
                cmocka_unit_test(fsync_flushes_what_was_touched),
                cmocka_unit_test(short_write_is_trimmed),
                cmocka_unit_test(the_rest_of_a_short_write_goes_C19),
                cmocka_unit_test(nowait_never_sleeps),
                cmocka_unit_test(any_shape_will_do),
                cmocka_unit_test(growing_zeroes_the_tail),
                cmocka_unit_test(lease_is_the_file),
                cmocka_unit_test(lease_refusals),
                cmocka_unit_test(lease_on_a_read_only_mount),
                cmocka_unit_test(what_waits_for_a_lease),
                cmocka_unit_test(truncate_waits),
                cmocka_unit_test(recall_asks_the_holder),
                cmocka_unit_test(lease_outlives_the_file),
                cmocka_unit_test(leases_under_changes),
        };

        cmocka_set_test_filter(getenv("UEXT4_TEST"));
        return cmocka_run_group_tests(tests, NULL, NULL);
}
