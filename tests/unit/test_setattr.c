/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What is set of an inode beside its contents: permissions, owners, times, flags.  What needs
 * an identity, and is the same in the kernel, is in tests/posix/.
 */
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/stat.h>
#include <unistd.h>

#include "t_tree.h"

#define LAST_SECOND 15032385535 /* of an inode with nanoseconds: in 2446 */

static const char small_inodes[] = "-b 1024 -I 128 -O has_journal,extents,dir_index,filetype";
static const char big_inodes[] = "-b 1024 -I 256 -O " T_DIRS;

/* The same image, mounted in another way. */
static void mount_as(struct t_tree *t, const char *options)
{
        struct uext4_mount_params params = {
                .options = options, .log = t_log_line, .log_arg = &t->log};

        t_tree_unmount(t);
        T_CHECK(uext4_bdev_open_buffer(t->img.data, t->img.size, 0, &t->dev) == 0);
        T_CHECK(uext4_mount_bdev(t->dev, &params, &t->fs) == 0);
}

static struct uext4_inode *make(struct t_tree *t, const char *name, uint32_t mode)
{
        struct uext4_inode *root = t_tree_at(t, "/"), *inode;

        assert_int_equal(uext4_mknod(root, name, strlen(name), mode, 0, 0, &inode), 0);
        uext4_inode_put(root);
        return inode;
}

static struct uext4_file *open_as(struct uext4_inode *inode, int flags)
{
        struct uext4_file *file;

        assert_int_equal(uext4_open(inode, flags, &file), 0);
        return file;
}

static int set_times(struct uext4_inode *inode, struct timespec atime, struct timespec mtime)
{
        const struct uext4_setattr set = {
                .mask = UEXT4_SET_ATIME | UEXT4_SET_MTIME, .atime = atime, .mtime = mtime};

        return uext4_setattr(inode, &set);
}

static int set_mode(struct uext4_inode *inode, uint32_t mode)
{
        const struct uext4_setattr set = {.mask = UEXT4_SET_MODE, .mode = mode};

        return uext4_setattr(inode, &set);
}

static bool is_now(struct timespec t)
{
        struct timespec now;

        clock_gettime(CLOCK_REALTIME, &now);
        return t.tv_sec >= now.tv_sec - 100 && t.tv_sec <= now.tv_sec;
}

static bool same_time(struct timespec a, struct timespec b)
{
        return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

/* ---- times ---- */

struct time_row {
        struct timespec set, is;
};

static const struct time_row with_nanoseconds[] = {
        {{1, 999999999}, {1, 999999999}},         {{-1, 5}, {-1, 5}},
        {{INT32_MIN, 7}, {INT32_MIN, 7}},         {{INT32_MIN - 1ll, 7}, {INT32_MIN, 0}},
        {{1ll << 31, 1}, {1ll << 31, 1}},         {{LAST_SECOND, 3}, {LAST_SECOND, 3}},
        {{LAST_SECOND + 1, 3}, {LAST_SECOND, 0}}, {{INT64_MAX, 999999999}, {LAST_SECOND, 0}},
};

static const struct time_row without[] = {
        {{1, 999999999}, {1, 0}},
        {{INT32_MIN, 7}, {INT32_MIN, 0}},
        {{1ll << 31, 1}, {INT32_MAX, 0}},
        {{INT64_MIN, 1}, {INT32_MIN, 0}},
};

static void set_row(struct uext4_inode *inode, const struct time_row *row)
{
        struct uext4_stat st;

        assert_int_equal(set_times(inode, row->set, (struct timespec){5, 0}), 0);
        st = t_tree_stat(inode);
        assert_true(same_time(st.atime, row->is));
        assert_int_equal(set_times(inode, (struct timespec){9, 0}, row->set), 0);
        st = t_tree_stat(inode);
        assert_int_equal(st.atime.tv_sec, 9);
        assert_true(same_time(st.mtime, row->is));
        assert_true(is_now(st.ctime));
}

/* What stat says before it is on disk is what it says afterwards. */
static void check_times(const char *options, const struct time_row *rows, size_t nr)
{
        struct t_tree t;
        char name[24];

        t_tree_begin(&t, options, 8, NULL);
        for (size_t i = 0; i < nr; i++) {
                struct uext4_inode *inode;

                snprintf(name, sizeof(name), "%zu", i);
                inode = make(&t, name, S_IFREG | 0600);
                set_row(inode, &rows[i]);
                uext4_inode_put(inode);
        }
        t_tree_again(&t, "times");
        for (size_t i = 0; i < nr; i++) {
                struct uext4_inode *inode;

                snprintf(name, sizeof(name), "/%zu", i);
                inode = t_tree_at(&t, name);
                assert_true(same_time(t_tree_stat(inode).mtime, rows[i].is));
                assert_int_equal(t_tree_stat(inode).atime.tv_sec, 9);
                uext4_inode_put(inode);
        }
        t_tree_end(&t, "times");
}

static void test_times_fit_the_inode(void **state)
{
        (void)state;
        check_times(big_inodes, with_nanoseconds, ARRAY_LEN(with_nanoseconds));
        check_times(small_inodes, without, ARRAY_LEN(without));
}

/* What is set counts from then on, and a write counts after that, whatever was set. */
static void test_set_and_written(void **state)
{
        static const int flags[] = {O_RDWR, O_RDWR | O_DIRECT};
        const struct timespec future = {8000000000, 0}, past = {1000, 0};
        char *data = t_alloc(4096);

        (void)state;
        memset(data, 'x', 4096);
        for (size_t i = 0; i < ARRAY_LEN(flags); i++) {
                struct uext4_inode *inode;
                struct uext4_file *file;
                struct uext4_stat st;
                struct t_tree t;

                t_tree_begin(&t, "-b 4096 -I 256 -O " T_DIRS, 16, NULL);
                inode = make(&t, "f", S_IFREG | 0600);
                file = open_as(inode, flags[i]);
                for (unsigned k = 0; k < 3; k++) { /* extending, then in place */
                        assert_int_equal(uext4_pwrite(file, data, 4096, 0), 4096);
                        assert_true(is_now(t_tree_stat(inode).mtime));
                        assert_int_equal(set_times(inode, past, k ? past : future), 0);
                        st = t_tree_stat(inode);
                        assert_true(same_time(st.mtime, k ? past : future));
                        assert_true(same_time(st.atime, past));
                }
                assert_int_equal(uext4_fsync(file), 0);
                assert_true(same_time(t_tree_stat(inode).mtime, past));
                assert_int_equal(set_times(inode, past, future), 0);
                assert_int_equal(uext4_pwrite(file, data, 4096, 0), 4096);
                assert_true(is_now(t_tree_stat(inode).mtime));
                uext4_close(file);
                uext4_inode_put(inode);
                t_tree_again(&t, "written");
                inode = t_tree_at(&t, "/f");
                assert_true(is_now(t_tree_stat(inode).mtime));
                uext4_inode_put(inode);
                t_tree_end(&t, "written");
        }
        free(data);
}

/* What happens to the access time, by mount option: of a file, a directory, a symlink. */
static void test_access_times(void **state)
{
        enum {
                OLD,
                NEW
        };
        static const struct {
                const char *options;
                time_t age; /* of the access time before; mtime is a year old */
                int flags;
                unsigned inode_flags;
                int is;
        } rows[] = {
                {"rw", 2 * 365 * 86400, 0, 0, NEW}, /* before the last change */
                {"rw", 100, 0, 0, OLD},
                {"rw", 2 * 86400, 0, 0, NEW},
                {"rw,relatime", 2 * 365 * 86400, O_NOATIME, 0, OLD},
                {"rw", 2 * 365 * 86400, 0, FS_NOATIME_FL, OLD},
                {"rw,strictatime", 100, 0, 0, NEW},
                {"rw,strictatime", 100, O_NOATIME, 0, OLD},
                {"rw,noatime", 2 * 365 * 86400, 0, 0, OLD},
                {"ro", 2 * 365 * 86400, 0, 0, OLD},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
                struct uext4_inode *f, *d, *root;
                struct timespec now, before;
                struct uext4_file *file;
                struct t_tree t;
                char c;

                clock_gettime(CLOCK_REALTIME, &now);
                before = (struct timespec){now.tv_sec - rows[i].age, 0};
                t_tree_begin(&t, big_inodes, 8, NULL);
                root = t_tree_at(&t, "/");
                f = make(&t, "f", S_IFREG | 0600);
                assert_int_equal(uext4_mkdir(root, "d", 1, 0700, &d), 0);
                if (rows[i].inode_flags) {
                        assert_int_equal(uext4_set_flags(f, rows[i].inode_flags | FS_EXTENT_FL),
                                         0);
                        assert_int_equal(uext4_set_flags(d, rows[i].inode_flags | FS_EXTENT_FL),
                                         0);
                }
                /* Their change time is later than all that, which counts as well: a step into
                 * the past is what tests the rule. */
                inode_in(f)->ctime = inode_in(d)->ctime =
                        (struct timespec){now.tv_sec - 400000};
                assert_int_equal(
                        set_times(f, before, (struct timespec){now.tv_sec - 365 * 86400}), 0);
                assert_int_equal(
                        set_times(d, before, (struct timespec){now.tv_sec - 365 * 86400}), 0);
                uext4_inode_put(root);
                uext4_inode_put(f);
                uext4_inode_put(d);
                mount_as(&t, rows[i].options);

                f = t_tree_at(&t, "/f");
                d = t_tree_at(&t, "/d");
                inode_in(f)->ctime = inode_in(d)->ctime = inode_in(f)->mtime;
                file = open_as(f, O_RDONLY | rows[i].flags);
                assert_int_equal(uext4_pread(file, &c, 1, 0), 0);
                uext4_close(file);
                assert_int_equal(t_tree_count(d), 0);
                assert_int_equal(is_now(t_tree_stat(f).atime) &&
                                         t_tree_stat(f).atime.tv_sec >= now.tv_sec,
                                 rows[i].is);
                if (!rows[i].flags)
                        assert_int_equal(t_tree_stat(d).atime.tv_sec >= now.tv_sec, rows[i].is);
                uext4_inode_put(f);
                uext4_inode_put(d);
                if (rows[i].is == NEW) { /* on disk, too */
                        t_tree_again(&t, "atime");
                        f = t_tree_at(&t, "/f");
                        assert_true(t_tree_stat(f).atime.tv_sec >= now.tv_sec);
                        uext4_inode_put(f);
                }
                t_tree_end(&t, "atime");
        }
}

/* ---- without an identity ---- */

/* Nobody is asked, and nothing is taken away that root could keep. */
static void test_nobody(void **state)
{
        const struct uext4_setattr owner = {
                .mask = UEXT4_SET_UID | UEXT4_SET_GID, .uid = 1u << 31, .gid = 70000};
        const struct uext4_setattr both = {
                .mask = UEXT4_SET_UID | UEXT4_SET_MODE, .uid = 5, .mode = S_IFREG | 06711};
        struct uext4_inode *inode;
        struct uext4_file *file;
        struct uext4_stat st;
        struct t_tree t;

        (void)state;
        t_tree_begin(&t, big_inodes, 8, NULL);
        inode = make(&t, "f", S_IFREG | 0600);
        assert_int_equal(uext4_setattr(inode, &(struct uext4_setattr){.mask = 1u << 9}),
                         -EINVAL);
        assert_int_equal(uext4_setattr(inode, &(struct uext4_setattr){0}), 0);
        assert_int_equal(set_times(inode, (struct timespec){1, -1}, (struct timespec){1}),
                         -EINVAL);
        assert_int_equal(set_mode(inode, 06755), 0);
        file = open_as(inode, O_RDWR);
        assert_int_equal(uext4_pwrite(file, "x", 1, 0), 1);
        assert_int_equal(uext4_truncate(file, 0), 0);
        uext4_close(file);
        assert_int_equal(t_tree_stat(inode).mode, S_IFREG | 06755);
        assert_int_equal(uext4_setattr(inode, &owner), 0);
        st = t_tree_stat(inode);
        assert_int_equal(st.mode, S_IFREG | 0755);
        assert_int_equal(st.uid, 1u << 31);
        assert_int_equal(st.gid, 70000);
        assert_int_equal(uext4_setattr(inode, &both), 0);
        assert_int_equal(t_tree_stat(inode).mode, S_IFREG | 06711);
        assert_int_equal(t_tree_stat(inode).uid, 5);
        assert_int_equal(uext4_access(inode, R_OK | W_OK | X_OK), 0);
        uext4_inode_put(inode);
        inode = make(&t, "s", S_IFSOCK | 0600);
        assert_int_equal(uext4_get_flags(inode, &st.flags), -ENOTTY);
        assert_int_equal(uext4_set_flags(inode, 0), -ENOTTY);
        uext4_inode_put(inode);
        t_tree_end(&t, "nobody");
}

/* An identity that is trusted is for whom things are. */
static void test_trusted(void **state)
{
        const struct uext4_cred cred = {
                .uid = 7, .gid = 8, .umask = 022, .flags = UEXT4_CRED_TRUSTED};
        struct uext4_inode *root, *inode;
        struct t_tree t;

        (void)state;
        t_tree_begin(&t, big_inodes, 8, NULL);
        root = t_tree_at(&t, "/");
        assert_int_equal(set_mode(root, 0), 0);
        assert_null(uext4_cred_use(&cred));
        inode = make(&t, "f", S_IFREG | 0666);
        assert_int_equal(t_tree_stat(inode).uid, 7);
        assert_int_equal(t_tree_stat(inode).gid, 8);
        assert_int_equal(t_tree_stat(inode).mode, S_IFREG | 0644);
        assert_int_equal(uext4_setattr(inode, &(struct uext4_setattr){.mask = UEXT4_SET_UID}),
                         0);
        assert_int_equal(set_mode(inode, 0), 0);
        assert_int_equal(uext4_access(inode, R_OK), 0);
        assert_int_equal(uext4_setxattr(inode, "trusted.x", "1", 1, 0), 0);
        assert_ptr_equal(uext4_cred_use(NULL), &cred);
        uext4_inode_put(inode);
        uext4_inode_put(root);
        t_tree_end(&t, "trusted");
}

/* ---- flags ---- */

static void test_flags(void **state)
{
        struct uext4_inode *f, *d, *in;
        struct fsxattr x;
        struct t_tree t;
        uint32_t flags;

        (void)state;
        t_tree_begin(&t, "-b 1024 -I 256 -O project," T_DIRS, 8, NULL);
        f = make(&t, "f", S_IFREG | 0600);
        in = t_tree_at(&t, "/");
        assert_int_equal(uext4_mkdir(in, "d", 1, 0700, &d), 0);
        uext4_inode_put(in);
        assert_int_equal(uext4_get_flags(f, &flags), 0);
        assert_int_equal(flags, FS_EXTENT_FL);
        assert_int_equal(uext4_set_flags(d, FS_EXTENT_FL | FS_CASEFOLD_FL), -EOPNOTSUPP);
        assert_int_equal(uext4_set_flags(f, FS_EXTENT_FL | FS_DIRSYNC_FL), -EOPNOTSUPP);
        assert_int_equal(uext4_set_flags(f, FS_EXTENT_FL | 0x00200000), -EOPNOTSUPP);
        assert_int_equal(uext4_set_flags(f, FS_EXTENT_FL | FS_DAX_FL | FS_JOURNAL_DATA_FL),
                         -EOPNOTSUPP);
        assert_int_equal(uext4_set_flags(f, FS_EXTENT_FL | FS_NODUMP_FL | FS_SYNC_FL), 0);
        assert_int_equal(t_tree_stat(f).attributes, STATX_ATTR_NODUMP);
        assert_true(t_tree_stat(f).attributes_mask & STATX_ATTR_IMMUTABLE);

        assert_int_equal(uext4_get_fsxattr(f, &x), 0);
        assert_int_equal(x.fsx_xflags, FS_XFLAG_NODUMP | FS_XFLAG_SYNC);
        assert_int_equal(x.fsx_projid, 0);
        x.fsx_xflags = FS_XFLAG_NOATIME;
        x.fsx_projid = 4000000000;
        assert_int_equal(uext4_set_fsxattr(f, &x), 0);
        assert_int_equal(uext4_get_flags(f, &flags), 0);
        assert_int_equal(flags, FS_EXTENT_FL | FS_NOATIME_FL);
        assert_int_equal(t_tree_stat(f).projid, 4000000000);

        assert_int_equal(uext4_get_fsxattr(d, &x), 0);
        x.fsx_xflags = FS_XFLAG_PROJINHERIT;
        x.fsx_projid = 7;
        assert_int_equal(uext4_set_fsxattr(d, &x), 0);
        assert_int_equal(uext4_create(d, "g", 1, 0600, &in), 0);
        assert_int_equal(t_tree_stat(in).projid, 7);
        assert_int_equal(uext4_get_fsxattr(in, &x), 0);
        assert_int_equal(x.fsx_xflags, 0);
        assert_int_equal(uext4_link(f, d, "f", 1), -EXDEV);
        x.fsx_xflags = FS_XFLAG_EXTSIZE;
        assert_int_equal(uext4_set_fsxattr(in, &x), -EOPNOTSUPP);
        assert_int_equal(uext4_get_version(in, &flags), 0);
        assert_int_equal(flags, t_tree_stat(in).generation);
        uext4_inode_put(in);
        uext4_inode_put(f);
        uext4_inode_put(d);
        t_tree_end(&t, "flags");
}

static void test_no_projects(void **state)
{
        static const char *const options[] = {big_inodes, small_inodes};

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(options); i++) {
                struct uext4_inode *f;
                struct fsxattr x;
                struct t_tree t;

                t_tree_begin(&t, options[i], 8, NULL);
                f = make(&t, "f", S_IFREG | 0600);
                assert_int_equal(uext4_get_fsxattr(f, &x), 0);
                assert_int_equal(uext4_set_fsxattr(f, &x), 0);
                x.fsx_projid = 1;
                assert_int_equal(uext4_set_fsxattr(f, &x), -EOPNOTSUPP);
                uext4_inode_put(f);
                t_tree_end(&t, "no projects");
        }
}

/* A handle that is open is no way around. */
static void test_immutable_and_open(void **state)
{
        struct uext4_inode *f;
        struct uext4_file *file;
        struct t_tree t;
        char c;

        (void)state;
        t_tree_begin(&t, big_inodes, 8, NULL);
        f = make(&t, "f", S_IFREG | 0600);
        file = open_as(f, O_RDWR);
        assert_int_equal(uext4_pwrite(file, "x", 1, 0), 1);
        assert_int_equal(uext4_set_flags(f, FS_EXTENT_FL | FS_IMMUTABLE_FL), 0);
        assert_int_equal(uext4_pwrite(file, "y", 1, 0), -EPERM);
        assert_int_equal(uext4_truncate(file, 0), -EPERM);
        assert_int_equal(uext4_fallocate(file, 0, 0, 4096), -EPERM);
        assert_int_equal(uext4_pread(file, &c, 1, 0), 1);
        assert_int_equal(c, 'x');
        assert_int_equal(uext4_set_flags(f, FS_EXTENT_FL | FS_APPEND_FL), 0);
        assert_int_equal(uext4_truncate(file, 0), -EPERM);
        assert_int_equal(uext4_set_flags(f, FS_EXTENT_FL), 0);
        assert_int_equal(uext4_pwrite(file, "y", 1, 0), 1);
        uext4_close(file);
        uext4_inode_put(f);
        t_tree_end(&t, "immutable");
}

/* What was written before and after is there, whichever way it was written. */
static void test_data_journalling(void **state)
{
        char *data = t_alloc(8192), *got = t_alloc(8192);
        struct uext4_inode *f;
        struct t_tree t;

        (void)state;
        t_tree_begin(&t, big_inodes, 16, NULL);
        f = make(&t, "f", S_IFREG | 0600);
        for (unsigned k = 0; k < 6; k++) {
                uint32_t flags = FS_EXTENT_FL | (k % 2 ? FS_JOURNAL_DATA_FL : 0);
                struct uext4_file *file;

                assert_int_equal(uext4_set_flags(f, flags), 0);
                assert_int_equal(t_tree_stat(f).flags, flags);
                assert_int_equal(t_tree_stat(f).dio_mem_align == 0, k % 2);
                file = open_as(f, O_RDWR);
                memset(data, 'a' + (int)k, 8192);
                assert_int_equal(uext4_pwrite(file, data, 8192, 4096 * (k % 3)), 8192);
                assert_int_equal(uext4_pread(file, got, 8192, 4096 * (k % 3)), 8192);
                assert_memory_equal(got, data, 8192);
                uext4_close(file);
        }
        uext4_inode_put(f);
        t_tree_again(&t, "data journalling");
        f = t_tree_at(&t, "/f");
        for (unsigned k = 3; k < 6; k++) { /* the last that was written to each block */
                struct uext4_file *file = open_as(f, O_RDONLY);

                memset(data, 'a' + (int)k, 4096);
                assert_int_equal(uext4_pread(file, got, 4096, 4096 * (k % 3)), 4096);
                assert_memory_equal(got, data, 4096);
                uext4_close(file);
        }
        uext4_inode_put(f);
        t_tree_end(&t, "data journalling");
        free(data);
        free(got);
}

/* With the flag for it a change is durable when the call is over. */
static void test_sync(void **state)
{
        struct uext4_stats before, after;
        struct uext4_inode *root, *d, *f;
        struct uext4_file *file;
        struct t_tree t;

        (void)state;
        t_tree_begin(&t, big_inodes, 8, NULL);
        root = t_tree_at(&t, "/");
        assert_int_equal(uext4_mkdir(root, "d", 1, 0700, &d), 0);
        assert_int_equal(uext4_create(root, "f", 1, 0600, &f), 0);
        uext4_get_stats(t.fs, &before);
        assert_int_equal(uext4_create(d, "a", 1, 0600, NULL), 0);
        assert_int_equal(set_mode(f, 0644), 0);
        uext4_get_stats(t.fs, &after);
        assert_int_equal(after.commits, before.commits);

        assert_int_equal(uext4_set_flags(d, FS_EXTENT_FL | FS_DIRSYNC_FL), 0);
        assert_int_equal(uext4_set_flags(f, FS_EXTENT_FL | FS_SYNC_FL), 0);
        for (unsigned k = 0; k < 7; k++) {
                const struct uext4_setattr touch = {.mask = UEXT4_SET_MTIME,
                                                    .mtime = {.tv_nsec = UTIME_NOW}};

                uext4_get_stats(t.fs, &before);
                switch (k) {
                case 0:
                        assert_int_equal(uext4_create(d, "b", 1, 0600, NULL), 0);
                        break;
                case 1:
                        assert_int_equal(uext4_rename(d, "b", 1, root, "b", 1, 0), 0);
                        break;
                case 2:
                        assert_int_equal(uext4_unlink(d, "a", 1), 0);
                        break;
                case 3:
                        assert_int_equal(set_mode(f, 0600), 0);
                        break;
                case 4:
                        assert_int_equal(uext4_setattr(f, &touch), 0);
                        break;
                case 5:
                        assert_int_equal(uext4_setxattr(f, "user.a", "v", 1, 0), 0);
                        break;
                default:
                        file = open_as(f, O_RDWR);
                        assert_int_equal(uext4_pwrite(file, "x", 1, 0), 1);
                        uext4_close(file);
                }
                uext4_get_stats(t.fs, &after);
                if (after.commits == before.commits)
                        fail_msg("step %u is not durable", k);
        }
        uext4_inode_put(d);
        uext4_inode_put(f);
        uext4_inode_put(root);
        t_tree_end(&t, "sync");
}

/* ---- threads ---- */

struct shared {
        struct uext4_inode *inode;
        struct uext4_file *file;
        unsigned nr;
};

static void *change_things(void *arg)
{
        struct shared *s = arg;

        for (unsigned i = 0; i < s->nr; i++) {
                const struct uext4_setattr set = {.mask = UEXT4_SET_MODE | UEXT4_SET_GID |
                                                          UEXT4_SET_ATIME,
                                                  .mode = i % 2 ? 06777 : 0644,
                                                  .gid = i,
                                                  .atime = {.tv_sec = i}};

                T_CHECK(uext4_setattr(s->inode, &set) == 0);
                T_CHECK(uext4_set_flags(s->inode, FS_EXTENT_FL | (i % 3 ? FS_NODUMP_FL : 0)) ==
                        0);
        }
        return NULL;
}

static void *write_things(void *arg)
{
        const struct uext4_cred cred = {.uid = 3, .gid = 3};
        struct shared *s = arg;

        uext4_cred_use(&cred);
        for (unsigned i = 0; i < s->nr; i++)
                T_CHECK(uext4_pwrite(s->file, "abcd", 4, i % 64) == 4);
        uext4_cred_use(NULL);
        return NULL;
}

static void *read_things(void *arg)
{
        const struct uext4_cred cred = {.uid = 3, .gid = 3};
        struct shared *s = arg;
        char buf[64];

        uext4_cred_use(&cred);
        for (unsigned i = 0; i < s->nr; i++) {
                struct uext4_stat st = t_tree_stat(s->inode);
                int ret = uext4_access(s->inode, R_OK | X_OK);

                T_CHECK(ret == 0 || ret == -EACCES);
                T_CHECK((st.mode & 0600) == 0600);
                T_CHECK(uext4_pread(s->file, buf, sizeof(buf), 0) >= 0);
        }
        uext4_cred_use(NULL);
        return NULL;
}

static void test_threads(void **state)
{
        void *(*const roles[])(void *) = {change_things, change_things, write_things,
                                          read_things};
        pthread_t threads[ARRAY_LEN(roles)];
        struct shared s = {.nr = t_is_long() ? 5000 : 200};
        struct t_tree t;

        (void)state;
        t_tree_begin(&t, big_inodes, 16, NULL);
        s.inode = make(&t, "f", S_IFREG | 0644);
        s.file = open_as(s.inode, O_RDWR);
        for (size_t i = 0; i < ARRAY_LEN(roles); i++)
                T_CHECK(pthread_create(&threads[i], NULL, roles[i], &s) == 0);
        for (size_t i = 0; i < ARRAY_LEN(roles); i++)
                pthread_join(threads[i], NULL);
        uext4_close(s.file);
        uext4_inode_put(s.inode);
        t_tree_end(&t, "threads");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_times_fit_the_inode),
                cmocka_unit_test(test_set_and_written),
                cmocka_unit_test(test_access_times),
                cmocka_unit_test(test_nobody),
                cmocka_unit_test(test_trusted),
                cmocka_unit_test(test_flags),
                cmocka_unit_test(test_no_projects),
                cmocka_unit_test(test_immutable_and_open),
                cmocka_unit_test(test_data_journalling),
                cmocka_unit_test(test_sync),
                cmocka_unit_test(test_threads),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
