/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Inodes that have no name, or had one: files made without a name (O_TMPFILE), and handles
 * whose inode has become another one.
 */
#include <fcntl.h>
#include <linux/fs.h>

#include "t_tree.h"

static const char *const kinds[] = {
        "-b 1024 -N 400 -O " T_DIRS,
        "-b 1024 -N 400 -O orphan_file," T_DIRS,
        "-b 4096 -N 400 -O " T_DIRS,
        "-b 1024 -N 400 -I 256 -O inline_data," T_DIRS,
        "-b 1024 -N 400 -O has_journal,dir_index,filetype",
        "-b 1024 -N 400 -O dir_index,filetype",
};

static void write_some(struct uext4_inode *inode, size_t size)
{
        char *data = t_alloc(size);
        struct uext4_file *file;

        memset(data, 'x', size);
        assert_int_equal(uext4_open(inode, O_RDWR, &file), 0);
        assert_int_equal(uext4_pwrite(file, data, size, 0), (int)size);
        uext4_close(file);
        free(data);
}

static uint64_t nr_free_inodes(struct t_tree *t)
{
        struct uext4_info info;

        assert_int_equal(uext4_get_info(t->fs, &info), 0);
        return info.nr_inodes_free;
}

/* Made, written, let go of: nothing is left. */
static void test_goes_with_its_reference(void **state)
{
        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
                struct uext4_inode *root, *tmp[3];
                struct statvfs before, after;
                struct t_tree t;

                t_tree_begin(&t, kinds[i], 8, NULL);
                root = t_tree_at(&t, "/");
                assert_int_equal(uext4_statfs(t.fs, &before), 0);
                for (unsigned k = 0; k < 3; k++) {
                        assert_int_equal(uext4_tmpfile(root, 0640, 0, &tmp[k]), 0);
                        assert_int_equal(t_tree_stat(tmp[k]).nlink, 0);
                        assert_int_equal(t_tree_stat(tmp[k]).mode, S_IFREG | 0640);
                        write_some(tmp[k], 20000);
                }
                assert_int_equal(t_tree_count(root), 1);
                assert_int_equal(uext4_unmount(t.fs), -EBUSY);
                uext4_inode_put(tmp[1]);
                uext4_inode_put(tmp[0]);
                uext4_inode_put(tmp[2]);
                assert_int_equal(uext4_syncfs(t.fs), 0);
                assert_int_equal(uext4_statfs(t.fs, &after), 0);
                assert_int_equal(after.f_bfree, before.f_bfree);
                assert_int_equal(after.f_ffree, before.f_ffree);
                uext4_inode_put(root);
                t_tree_end(&t, kinds[i]);
        }
}

static void test_gets_a_name(void **state)
{
        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
                struct uext4_inode *root, *tmp, *other, *d;
                struct t_tree t;

                t_tree_begin(&t, kinds[i], 8, NULL);
                root = t_tree_at(&t, "/");
                assert_int_equal(uext4_mkdir(root, "d", 1, 0755, &d), 0);
                assert_int_equal(uext4_tmpfile(d, 0600, 0, &tmp), 0);
                assert_int_equal(uext4_tmpfile(d, 0600, 0, &other), 0);
                write_some(tmp, 5000);
                assert_int_equal(uext4_link(tmp, root, "d", 1), -EEXIST);
                assert_int_equal(uext4_link(tmp, root, "f", 1), 0);
                assert_int_equal(t_tree_stat(tmp).nlink, 1);
                assert_int_equal(uext4_link(tmp, d, "g", 1), 0);
                assert_int_equal(uext4_link(other, d, "h", 1), 0);
                uext4_inode_put(tmp);
                uext4_inode_put(other);
                uext4_inode_put(d);
                uext4_inode_put(root);
                t_tree_again(&t, kinds[i]);

                tmp = t_tree_at(&t, "/f");
                root = t_tree_at(&t, "/");
                d = t_tree_at(&t, "/d");
                assert_int_equal(t_tree_stat(tmp).nlink, 2);
                assert_int_equal(t_tree_stat(tmp).size, 5000);
                /* Once it has had a name it is like any other. */
                assert_int_equal(uext4_unlink(root, "f", 1), 0);
                assert_int_equal(uext4_unlink(d, "g", 1), 0);
                assert_int_equal(uext4_link(tmp, root, "f", 1), -ENOENT);
                assert_int_equal(uext4_unlink(d, "h", 1), 0);
                uext4_inode_put(tmp);
                uext4_inode_put(d);
                uext4_inode_put(root);
                t_tree_end(&t, kinds[i]);
        }
}

static void test_refusals(void **state)
{
        struct uext4_inode *root, *tmp, *f;
        struct t_tree t;
        int ret = 0;

        (void)state;
        t_tree_begin(&t, kinds[0], 8, NULL);
        root = t_tree_at(&t, "/");
        assert_int_equal(uext4_create(root, "f", 1, 0600, &f), 0);
        assert_int_equal(uext4_tmpfile(f, 0600, 0, &tmp), -ENOTDIR);
        assert_int_equal(uext4_tmpfile(root, 0600, O_TRUNC, &tmp), -EINVAL);
        assert_int_equal(uext4_tmpfile(root, 0600, O_EXCL, &tmp), 0);
        assert_int_equal(uext4_link(tmp, root, "x", 1), -ENOENT);
        uext4_inode_put(tmp);
        inode_in(f)->nlink = 64999;
        assert_int_equal(uext4_link(f, root, "x", 1), 0);
        assert_int_equal(uext4_link(f, root, "y", 1), -EMLINK);
        assert_int_equal(uext4_unlink(root, "x", 1), 0);
        inode_in(f)->nlink = 1;
        assert_int_equal(uext4_setxattr(f, "user.x", "y", 1, 0), 0); /* stores it */
        uext4_inode_put(f);
        /* No inode is free. */
        for (unsigned i = 0; ret == 0; i++) {
                char name[16];

                snprintf(name, sizeof(name), "n%u", i);
                ret = uext4_mknod(root, name, strlen(name), S_IFIFO | 0600, 0, 0, NULL);
        }
        assert_int_equal(ret, -ENOSPC);
        assert_int_equal(uext4_tmpfile(root, 0600, 0, &tmp), -ENOSPC);
        uext4_inode_put(root);
        t_tree_end(&t, "refusals");
}

/* ---- whiteouts ---- */

static void expect_whiteout(struct t_tree *t, const char *path)
{
        struct uext4_inode *inode = t_tree_at(t, path);
        struct uext4_stat st = t_tree_stat(inode);

        assert_int_equal(st.mode, S_IFCHR);
        assert_int_equal(st.nlink, 1);
        assert_int_equal(st.rdev_major, 0);
        assert_int_equal(st.rdev_minor, 0);
        uext4_inode_put(inode);
}

static uint64_t ino_at(struct t_tree *t, const char *path)
{
        struct uext4_inode *inode = t_tree_find(t, path);
        uint64_t ino = inode ? t_tree_stat(inode).ino : 0;

        uext4_inode_put(inode);
        return ino;
}

static int move(struct t_tree *t, const char *from, const char *from_name, const char *to,
                const char *to_name, unsigned flags)
{
        struct uext4_inode *a = t_tree_at(t, from), *b = t_tree_at(t, to);
        int ret = uext4_rename(a, from_name, strlen(from_name), b, to_name, strlen(to_name),
                               flags);

        uext4_inode_put(a);
        uext4_inode_put(b);
        return ret;
}

static void test_whiteout(void **state)
{
        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
                struct uext4_inode *root, *a, *b;
                uint64_t f, s;
                struct t_tree t;

                t_tree_begin(&t, kinds[i], 8, NULL);
                root = t_tree_at(&t, "/");
                assert_int_equal(uext4_mkdir(root, "a", 1, 0755, &a), 0);
                assert_int_equal(uext4_mkdir(root, "b", 1, 0755, &b), 0);
                assert_int_equal(uext4_create(a, "f", 1, 0644, NULL), 0);
                assert_int_equal(uext4_create(b, "g", 1, 0644, NULL), 0);
                assert_int_equal(uext4_mkdir(a, "s", 1, 0755, NULL), 0);
                f = ino_at(&t, "/a/f");
                s = ino_at(&t, "/a/s");

                assert_int_equal(move(&t, "/a", "f", "/a", "f2", RENAME_WHITEOUT), 0);
                expect_whiteout(&t, "/a/f");
                assert_int_equal(ino_at(&t, "/a/f2"), f);
                assert_int_equal(
                        move(&t, "/a", "f2", "/b", "g", RENAME_WHITEOUT | RENAME_NOREPLACE),
                        -EEXIST);
                assert_int_equal(move(&t, "/a", "f2", "/b", "g", RENAME_WHITEOUT),
                                 0); /* over */
                expect_whiteout(&t, "/a/f2");
                assert_int_equal(ino_at(&t, "/b/g"), f);
                assert_int_equal(
                        move(&t, "/a", "s", "/b", "s", RENAME_WHITEOUT | RENAME_NOREPLACE), 0);
                expect_whiteout(&t, "/a/s");
                assert_int_equal(ino_at(&t, "/b/s"), s);
                assert_int_equal(t_tree_stat(a).nlink, 2);
                assert_int_equal(t_tree_stat(b).nlink, 3);
                /* A name on itself, and two of one file: nothing happens. */
                assert_int_equal(move(&t, "/b", "g", "/b", "g", RENAME_WHITEOUT), 0);
                assert_int_equal(ino_at(&t, "/b/g"), f);
                /* What cannot be together. */
                assert_int_equal(
                        move(&t, "/b", "g", "/b", "s", RENAME_WHITEOUT | RENAME_EXCHANGE),
                        -EINVAL);
                assert_int_equal(
                        move(&t, "/b", "g", "/b", "s", RENAME_NOREPLACE | RENAME_EXCHANGE),
                        -EINVAL);
                assert_int_equal(move(&t, "/b", "g", "/b", "h", 1u << 3), -EINVAL);
                /* Over a whiteout. */
                assert_int_equal(move(&t, "/b", "g", "/a", "f", RENAME_WHITEOUT), 0);
                expect_whiteout(&t, "/b/g");
                assert_int_equal(ino_at(&t, "/a/f"), f);
                uext4_inode_put(a);
                uext4_inode_put(b);
                uext4_inode_put(root);
                t_tree_end(&t, kinds[i]);
        }
}

/* ---- handles ---- */

/* A number that is used again is another inode, and an old handle does not lead to it. */
static void test_handles(void **state)
{
        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
                struct uext4_inode *root, *f, *found;
                struct uext4_stat first, st;
                unsigned nr_again = 0;
                struct t_tree t;

                t_tree_begin(&t, kinds[i], 8, NULL);
                root = t_tree_at(&t, "/");
                assert_int_equal(uext4_create(root, "f", 1, 0600, &f), 0);
                first = t_tree_stat(f);
                assert_int_equal(uext4_inode_get(t.fs, first.ino, first.generation, &found), 0);
                assert_ptr_equal(found, f);
                uext4_inode_put(found);
                assert_int_equal(uext4_inode_get(t.fs, first.ino, first.generation + 1, &found),
                                 -ESTALE);
                assert_int_equal(
                        uext4_inode_get(t.fs, first.ino, first.incarnation + 1, &found),
                        -ESTALE);
                assert_int_equal(uext4_inode_get(t.fs, first.ino, first.incarnation, &found),
                                 0);
                uext4_inode_put(found);
                /* Unlinked, and still in use. */
                assert_int_equal(uext4_unlink(root, "f", 1), 0);
                assert_int_equal(uext4_inode_get(t.fs, first.ino, first.generation, &found), 0);
                uext4_inode_put(found);
                uext4_inode_put(f);
                assert_int_equal(uext4_inode_get(t.fs, first.ino, first.generation, &found),
                                 -ESTALE);
                assert_int_equal(uext4_inode_get(t.fs, first.ino, 0, &found), -ESTALE);
                for (unsigned k = 0; k < 200; k++) {
                        assert_int_equal(uext4_create(root, "g", 1, 0600, &f), 0);
                        st = t_tree_stat(f);
                        if (st.ino == first.ino) {
                                nr_again++;
                                assert_int_not_equal(st.generation, first.generation);
                                assert_int_not_equal(st.incarnation, first.incarnation);
                                assert_int_equal(uext4_inode_get(t.fs, first.ino,
                                                                 first.generation, &found),
                                                 -ESTALE);
                                assert_int_equal(
                                        uext4_inode_get(t.fs, st.ino, st.generation, &found),
                                        0);
                                uext4_inode_put(found);
                        }
                        assert_int_equal(uext4_unlink(root, "g", 1), 0);
                        uext4_inode_put(f);
                }
                assert_true(nr_again > 0);
                assert_int_equal(uext4_create(root, "g", 1, 0600, &f), 0);
                st = t_tree_stat(f);
                uext4_inode_put(f);
                uext4_inode_put(root);
                t_tree_again(&t, kinds[i]);
                assert_int_equal(uext4_inode_get(t.fs, st.ino, st.incarnation, &found), 0);
                uext4_inode_put(found);
                if (st.ino == first.ino)
                        assert_int_equal(
                                uext4_inode_get(t.fs, st.ino, first.generation, &found),
                                -ESTALE);
                t_tree_end(&t, kinds[i]);
        }
}

/* Threads that take a number out of use and into it again, while others hold old handles. */

#define NR_SLOTS 8

struct shared {
        struct uext4_fs *fs;
        struct uext4_inode *root;
        _Atomic uint64_t handles[NR_SLOTS]; /* inode | generation << 32 */
        unsigned nr_rounds;
        _Atomic unsigned nr_stale, nr_good;
};

static void make_and_remove(struct shared *s, unsigned n)
{
        for (unsigned i = 0; i < s->nr_rounds; i++) {
                struct uext4_inode *inode;
                struct uext4_stat st;
                char name[16];

                snprintf(name, sizeof(name), "t%u", n);
                T_CHECK(uext4_create(s->root, name, strlen(name), 0600, &inode) == 0);
                st = t_tree_stat(inode);
                s->handles[(n * 4 + i) % NR_SLOTS] = st.ino | (uint64_t)st.generation << 32;
                uext4_inode_put(inode);
                T_CHECK(uext4_unlink(s->root, name, strlen(name)) == 0);
        }
}

static void use_handles(struct shared *s)
{
        for (unsigned i = 0; i < s->nr_rounds * 4; i++) {
                uint64_t handle = s->handles[i % NR_SLOTS];
                struct uext4_inode *inode;
                int ret;

                if (handle == 0)
                        continue;
                ret = uext4_inode_get(s->fs, (uint32_t)handle, (uint32_t)(handle >> 32),
                                      &inode);
                T_CHECK(ret == 0 || ret == -ESTALE);
                if (ret < 0) {
                        s->nr_stale++;
                        continue;
                }
                T_CHECK(t_tree_stat(inode).generation == handle >> 32);
                uext4_inode_put(inode);
                s->nr_good++;
        }
}

static void work(void *arg, unsigned n)
{
        if (n < 2)
                make_and_remove(arg, n);
        else
                use_handles(arg);
}

static void test_handles_in_threads(void **state)
{
        struct shared s = {.nr_rounds = t_is_long() ? 20000 : 1000};
        struct t_tree t;

        (void)state;
        t_tree_begin(&t, kinds[0], 8, NULL);
        s.fs = t.fs;
        s.root = t_tree_at(&t, "/");
        t_run_threads(4, work, &s);
        use_handles(&s); /* all are gone */
        assert_true(s.nr_stale > 0);
        uext4_inode_put(s.root);
        assert_string_equal(t.log.text, "");
        assert_true(nr_free_inodes(&t) > 300);
        t_tree_end(&t, "handles in threads");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_goes_with_its_reference),
                cmocka_unit_test(test_gets_a_name),
                cmocka_unit_test(test_refusals),
                cmocka_unit_test(test_whiteout),
                cmocka_unit_test(test_handles),
                cmocka_unit_test(test_handles_in_threads),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
