/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The power is cut at each request of the device while a name is made, replaced, moved, or
 * removed: after recovery there is what was before or what is to be after, and what was made
 * durable is there.  e2fsck must be content.
 *
 * UEXT4_LONG=1: of each cut more of what may be left on the device.
 */
#include <errno.h>
#include <linux/fs.h>

#include "t_cuts.h"

/* How many links there are at a path; 0: nothing is there. */
static unsigned links(struct mount *m, const char *path)
{
        struct uext4_inode *inode;
        struct uext4_stat st;
        int ret = uext4_resolve(m->fs, path, UEXT4_NOFOLLOW, &inode);

        if (ret == -ENOENT)
                return 0;
        T_CHECK(ret == 0 && uext4_stat(inode, &st) == 0);
        uext4_inode_put(inode);
        return st.nlink;
}

/* The owner, by which the scenarios know what is what; -1: nothing is there. */
static int owner(struct mount *m, const char *path)
{
        struct uext4_inode *inode;
        struct uext4_stat st;
        int ret = uext4_resolve(m->fs, path, UEXT4_NOFOLLOW, &inode);

        if (ret == -ENOENT)
                return -1;
        T_CHECK(ret == 0 && uext4_stat(inode, &st) == 0);
        uext4_inode_put(inode);
        return (int)st.uid;
}

/* What is made from now on is this user's; 0: root's. */
static void own(uint32_t uid)
{
        static _Thread_local struct uext4_cred cred;

        cred = (struct uext4_cred){.uid = uid, .gid = uid, .flags = UEXT4_CRED_TRUSTED};
        uext4_cred_use(uid ? &cred : NULL);
}

static void put_file(struct mount *m, const char *dir, const char *name, uint32_t uid)
{
        struct uext4_inode *up = at(m, dir);

        own(uid);
        T_CHECK(uext4_create(up, name, strlen(name), 0600, NULL) == 0);
        own(0);
        uext4_inode_put(up);
}

static void put_dir(struct mount *m, const char *dir, const char *name, uint32_t uid)
{
        struct uext4_inode *up = at(m, dir);

        own(uid);
        T_CHECK(uext4_mkdir(up, name, strlen(name), 0700, NULL) == 0);
        own(0);
        uext4_inode_put(up);
}

/* ---- scenarios ---- */

static void prepare_two(struct mount *m)
{
        put_dir(m, "/", "a", 1);
        put_dir(m, "/", "b", 2);
        put_file(m, "/a", "f", 3);
        put_file(m, "/b", "g", 4);
        put_dir(m, "/a", "s", 5);
        put_dir(m, "/b", "t", 6);
}

static int in_dir(struct mount *m, const char *dir,
                  int (*fn)(struct uext4_inode *dir, struct mount *m))
{
        struct uext4_inode *up = try_at(m, dir);
        int ret = up ? fn(up, m) : -EIO;

        uext4_inode_put(up);
        return ret;
}

static int create_it(struct uext4_inode *dir, struct mount *m)
{
        int ret;

        (void)m;
        own(7);
        ret = uext4_create(dir, "new", 3, 0600, NULL);
        own(0);
        return ret;
}

static int run_create(struct mount *m)
{
        return in_dir(m, "/a", create_it);
}

static int look_create(struct mount *m)
{
        int uid = owner(m, "/a/new");

        return uid == 7 ? 1 : uid == -1 ? 0 : -1;
}

static int mkdir_it(struct uext4_inode *dir, struct mount *m)
{
        int ret;

        (void)m;
        own(7);
        ret = uext4_mkdir(dir, "new", 3, 0700, NULL);
        own(0);
        return ret;
}

static int run_mkdir(struct mount *m)
{
        return in_dir(m, "/a", mkdir_it);
}

static int look_mkdir(struct mount *m)
{
        if (owner(m, "/a/new") == 7)
                return links(m, "/a") == 4 && owner(m, "/a/new/..") == 1 ? 1 : -1;
        return links(m, "/a") == 3 ? 0 : -1;
}

static int move(struct mount *m, const char *dir, const char *name, const char *to_dir,
                const char *to, unsigned flags)
{
        struct uext4_inode *a = try_at(m, dir), *b = try_at(m, to_dir);
        int ret = -EIO;

        if (a && b)
                ret = uext4_rename(a, name, strlen(name), b, to, strlen(to), flags);

        uext4_inode_put(a);
        uext4_inode_put(b);
        return ret;
}

static int run_over(struct mount *m)
{
        return move(m, "/a", "f", "/b", "g", 0);
}

static int look_over(struct mount *m)
{
        int f = owner(m, "/a/f"), g = owner(m, "/b/g");

        return f == 3 && g == 4 ? 0 : f == -1 && g == 3 ? 1 : -1;
}

static int run_exchange(struct mount *m)
{
        return move(m, "/a", "s", "/b", "g", RENAME_EXCHANGE);
}

static int look_exchange(struct mount *m)
{
        int s = owner(m, "/a/s"), g = owner(m, "/b/g");

        if (s == 5 && g == 4)
                return links(m, "/a") == 3 && links(m, "/b") == 3 ? 0 : -1;
        if (s != 4 || g != 5 || owner(m, "/b/g/..") != 2)
                return -1;
        return links(m, "/a") == 2 && links(m, "/b") == 4 ? 1 : -1;
}

static int run_move_dir(struct mount *m)
{
        return move(m, "/a", "s", "/b", "t", 0);
}

static int look_move_dir(struct mount *m)
{
        int s = owner(m, "/a/s"), t = owner(m, "/b/t");

        if (s == 5 && t == 6)
                return links(m, "/a") == 3 && links(m, "/b") == 3 ? 0 : -1;
        if (s != -1 || t != 5 || owner(m, "/b/t/..") != 2)
                return -1;
        return links(m, "/a") == 2 && links(m, "/b") == 3 ? 1 : -1;
}

static int rmdir_it(struct uext4_inode *dir, struct mount *m)
{
        (void)m;
        return uext4_rmdir(dir, "s", 1);
}

static int run_rmdir(struct mount *m)
{
        return in_dir(m, "/a", rmdir_it);
}

static int look_rmdir(struct mount *m)
{
        int s = owner(m, "/a/s");

        return s == 5 && links(m, "/a") == 3 ? 0 : s == -1 && links(m, "/a") == 2 ? 1 : -1;
}

static int link_it(struct uext4_inode *dir, struct mount *m)
{
        struct uext4_inode *f = try_at(m, "/a/f");
        int ret = f ? uext4_link(f, dir, "l", 1) : -EIO;

        uext4_inode_put(f);
        return ret;
}

static int run_link(struct mount *m)
{
        return in_dir(m, "/b", link_it);
}

static int look_link(struct mount *m)
{
        unsigned n = links(m, "/a/f");

        return n == 1 && links(m, "/b/l") == 0 ? 0 : n == 2 && links(m, "/b/l") == 2 ? 1 : -1;
}

static int symlink_it(struct uext4_inode *dir, struct mount *m)
{
        char target[200];

        (void)m;
        memset(target, 't', sizeof(target));
        return uext4_symlink(dir, "l", 1, target, sizeof(target), NULL);
}

static int run_symlink(struct mount *m)
{
        return in_dir(m, "/b", symlink_it);
}

static int look_symlink(struct mount *m)
{
        struct uext4_inode *inode;
        char text[256];
        ssize_t n;

        if (uext4_resolve(m->fs, "/b/l", UEXT4_NOFOLLOW, &inode) < 0)
                return 0;
        n = uext4_readlink(inode, text, sizeof(text));
        uext4_inode_put(inode);
        for (ssize_t i = 0; i < n; i++) {
                if (text[i] != 't')
                        return -1;
        }
        return n == 200 ? 1 : -1;
}

static int unlink_it(struct uext4_inode *dir, struct mount *m)
{
        (void)m;
        return uext4_unlink(dir, "f", 1);
}

static int run_unlink(struct mount *m)
{
        return in_dir(m, "/a", unlink_it);
}

static int look_unlink(struct mount *m)
{
        return links(m, "/a/f") == 0 ? 1 : owner(m, "/a/f") == 3 ? 0 : -1;
}

/* ---- files with something in them ---- */

#define SIZE 30000

static int write_it(struct uext4_inode *inode, size_t size)
{
        char *data = t_alloc(size);
        struct uext4_file *file;
        int ret = uext4_open(inode, O_RDWR, &file);

        memset(data, 'x', size);
        if (ret == 0) {
                ssize_t n = uext4_pwrite(file, data, size, 0);

                ret = n < 0 ? (int)n : uext4_fsync(file);
                uext4_close(file);
        }
        free(data);
        return ret;
}

static int64_t size_of(struct mount *m, const char *path)
{
        struct uext4_inode *inode;
        struct uext4_stat st;
        int ret = uext4_resolve(m->fs, path, UEXT4_NOFOLLOW, &inode);

        if (ret == -ENOENT)
                return -1;
        T_CHECK(ret == 0 && uext4_stat(inode, &st) == 0);
        uext4_inode_put(inode);
        return (int64_t)st.size;
}

static void prepare_written(struct mount *m)
{
        struct uext4_inode *f;

        prepare_two(m);
        f = at(m, "/a/f");
        T_CHECK(write_it(f, SIZE) == 0);
        T_CHECK(uext4_setxattr(f, "user.small", "small", 5, 0) == 0);
        uext4_inode_put(f);
}

/* The last reference outlives the name: it takes the file with it, or the next mount does. */
static int run_unlink_open(struct mount *m)
{
        struct uext4_inode *f = try_at(m, "/a/f");
        int ret = f ? run_unlink(m) : -EIO;

        if (ret == 0)
                ret = uext4_syncfs(m->fs);
        uext4_inode_put(f);
        return ret;
}

static int look_unlink_open(struct mount *m)
{
        return links(m, "/a/f") == 0 ? 1 : size_of(m, "/a/f") == SIZE ? 0 : -1;
}

/* Nothing but its own reference knows of it. */
static int run_tmpfile(struct mount *m)
{
        struct uext4_inode *a = try_at(m, "/a"), *tmp;
        int ret = a ? uext4_tmpfile(a, 0600, 0, &tmp) : -EIO;

        if (ret == 0) {
                ret = write_it(tmp, SIZE);
                uext4_inode_put(tmp);
        }
        uext4_inode_put(a);
        return ret;
}

static int look_tmpfile(struct mount *m)
{
        struct uext4_inode *a = at(m, "/a");
        struct uext4_dirent e;
        uint64_t cookie = 0;
        unsigned nr = 0;

        while (uext4_readdir(a, &cookie, &e) == 1)
                nr++;
        uext4_inode_put(a);
        return nr == 4 ? 1 : -1;
}

static int run_tmpfile_link(struct mount *m)
{
        struct uext4_inode *a = try_at(m, "/a"), *tmp;
        int ret;

        own(7);
        ret = a ? uext4_tmpfile(a, 0600, 0, &tmp) : -EIO;
        own(0);
        if (ret == 0) {
                ret = write_it(tmp, SIZE);
                if (ret == 0)
                        ret = uext4_link(tmp, a, "new", 3);
                uext4_inode_put(tmp);
        }
        uext4_inode_put(a);
        return ret;
}

static int look_tmpfile_link(struct mount *m)
{
        if (links(m, "/a/new") == 0)
                return look_tmpfile(m) == 1 ? 0 : -1;
        return links(m, "/a/new") == 1 && owner(m, "/a/new") == 7 &&
                               size_of(m, "/a/new") == SIZE
                       ? 1
                       : -1;
}

/* The attribute does not fit into the inode any more: a block. */
static int set_it(struct mount *m, char value, size_t size)
{
        struct uext4_inode *f = try_at(m, "/a/f");
        char data[800];
        int ret;

        memset(data, value, sizeof(data));
        ret = f ? uext4_setxattr(f, "user.large", data, size, 0) : -EIO;
        uext4_inode_put(f);
        return ret;
}

static int run_spill(struct mount *m)
{
        return set_it(m, 'b', 600);
}

static void prepare_spilled(struct mount *m)
{
        prepare_written(m);
        T_CHECK(set_it(m, 'b', 600) == 0);
}

static int run_replace(struct mount *m)
{
        return set_it(m, 'c', 700);
}

/* How long the large one is, if all of it is right, and so is the small one; 0: there is none;
 * negative: wrong. */
static int attribute(struct mount *m)
{
        struct uext4_inode *f = at(m, "/a/f");
        char small[8], data[1000];
        ssize_t n = uext4_getxattr(f, "user.large", data, sizeof(data));
        bool right = uext4_getxattr(f, "user.small", small, sizeof(small)) == 5;

        uext4_inode_put(f);
        for (ssize_t i = 0; i < n; i++)
                right = right && data[i] == (n == 600 ? 'b' : 'c');
        if (!right || memcmp(small, "small", 5) != 0)
                return -1;
        return n == -ENODATA ? 0 : (int)n;
}

static int look_spill(struct mount *m)
{
        int n = attribute(m);

        return n == 0 ? 0 : n == 600 ? 1 : -1;
}

static int look_replace(struct mount *m)
{
        int n = attribute(m);

        return n == 600 ? 0 : n == 700 ? 1 : -1;
}

/* ---- what is durable by itself ---- */

static int run_mkdir_fsync(struct mount *m)
{
        struct uext4_inode *a = try_at(m, "/a");
        int ret = a ? run_mkdir(m) : -EIO;

        if (ret == 0)
                ret = uext4_fsync_inode(a);
        uext4_inode_put(a);
        return ret < 0 ? ret : 1;
}

/* ---- whiteouts ---- */

static int run_whiteout(struct mount *m)
{
        return move(m, "/a", "f", "/b", "g", RENAME_WHITEOUT);
}

static bool is_whiteout(struct mount *m, const char *path)
{
        struct uext4_inode *inode = at(m, path);
        struct uext4_stat st;

        T_CHECK(uext4_stat(inode, &st) == 0);
        uext4_inode_put(inode);
        return st.mode == S_IFCHR && st.rdev_major == 0 && st.rdev_minor == 0;
}

static int look_whiteout(struct mount *m)
{
        if (owner(m, "/a/f") == 3)
                return owner(m, "/b/g") == 4 ? 0 : -1;
        return owner(m, "/b/g") == 3 && is_whiteout(m, "/a/f") ? 1 : -1;
}

/* ---- leaves and blocks of the index that split ---- */

static void long_name(char *text, unsigned i)
{
        memset(text, 'n', 255);
        text[snprintf(text, 255, "%u", i)] = '-';
}

/* Before the last one the directory has not become a hashed one, or a leaf is not split, or
 * its root has not been replaced. */
static void fill(struct mount *m, unsigned nr)
{
        struct uext4_inode *dir;
        char name[256];

        put_dir(m, "/", "d", 9);
        dir = at(m, "/d");
        for (unsigned i = 0; i < nr; i++) {
                long_name(name, i);
                T_CHECK(uext4_create(dir, name, 255, 0600, NULL) == 0);
        }
        uext4_inode_put(dir);
}

static unsigned nr_filled;

static void prepare_full(struct mount *m)
{
        fill(m, nr_filled);
}

static int create_long(struct uext4_inode *dir, struct mount *m)
{
        char name[256];

        (void)m;
        for (unsigned i = nr_filled; i < nr_filled + 3; i++) {
                int ret;

                long_name(name, i);
                ret = uext4_create(dir, name, 255, 0600, NULL);
                if (ret < 0)
                        return ret;
        }
        return 0;
}

static int run_split(struct mount *m)
{
        return in_dir(m, "/d", create_long);
}

/* All that were there are there; of the new ones, as many as there are, in their order. */
static int look_split(struct mount *m)
{
        struct uext4_inode *dir = at(m, "/d");
        unsigned nr = 0;
        char name[256];

        for (unsigned i = 0; i < nr_filled + 3; i++) {
                uint32_t ino;

                long_name(name, i);
                if (ext4_dir_lookup(inode_in(dir), name, 255, &ino) == 0)
                        nr += nr == i;
        }
        uext4_inode_put(dir);
        return nr < nr_filled ? -1 : nr == nr_filled + 3 ? 1 : 0;
}

static const struct scenario scenarios[] = {
        {"create", prepare_two, run_create, look_create},
        {"mkdir", prepare_two, run_mkdir, look_mkdir},
        {"rename over", prepare_two, run_over, look_over},
        {"exchange", prepare_two, run_exchange, look_exchange},
        {"move a directory", prepare_two, run_move_dir, look_move_dir},
        {"rmdir", prepare_two, run_rmdir, look_rmdir},
        {"link", prepare_two, run_link, look_link},
        {"symlink", prepare_two, run_symlink, look_symlink},
        {"unlink", prepare_two, run_unlink, look_unlink},
        {"whiteout", prepare_two, run_whiteout, look_whiteout},
        {"mkdir, fsync", prepare_two, run_mkdir_fsync, look_mkdir},
        {"attribute that spills", prepare_written, run_spill, look_spill},
        {"attribute replaced", prepare_spilled, run_replace, look_replace},
};

/* Those with orphans: with the list of them, and with the file. */
static const struct scenario orphans[] = {
        {"unlink of an open file", prepare_written, run_unlink_open, look_unlink_open},
        {"tmpfile", prepare_two, run_tmpfile, look_tmpfile},
        {"tmpfile, link", prepare_two, run_tmpfile_link, look_tmpfile_link},
};

#define OPTIONS \
        "-b 1024 -N 1200 -J size=1 -O " T_EXT4 ",dir_index,filetype,large_file,sparse_super"

static void test_names(void **state)
{
        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(scenarios); i++)
                run_scenario(&scenarios[i], OPTIONS);
}

static void test_orphans(void **state)
{
        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(orphans); i++) {
                if (t_is_long() || i % 2 == 0)
                        run_scenario(&orphans[i], OPTIONS);
                if (t_is_long() || i > 0)
                        run_scenario(&orphans[i], OPTIONS ",orphan_file");
        }
}

/* 3 names fill a block: the fourth makes the directory a hashed one.  With about 250 the root
 * is full. */
static void test_splits(void **state)
{
        static const struct scenario split = {"split", prepare_full, run_split, look_split};
        static const unsigned nr[] = {2, 5, 40};

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(nr); i++) {
                nr_filled = nr[i];
                run_scenario(&split, OPTIONS);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_names),
                cmocka_unit_test(test_orphans),
                cmocka_unit_test(test_splits),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
