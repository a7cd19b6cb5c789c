/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Many threads make, move, look up and remove names in directories that they share, directories
 * among what they move.  Nothing hangs, no answer is damage, and e2fsck is content.
 */
#include <errno.h>
#include <linux/fs.h>

#include "t_tree.h"

#define NR_THREADS 4
#define NR_NAMES   12

struct shared {
        struct uext4_fs *fs;
        unsigned nr_ops;
        _Atomic unsigned nr_done[8]; /* by kind, those that succeeded */
};

/* What happens when others are at work. */
static void expected(int ret)
{
        static const int fine[] = {0,       -ENOENT,    -EEXIST, -ENOTDIR, -EISDIR,
                                   -EINVAL, -ENOTEMPTY, -EPERM,  -ESTALE,  -ENOSPC};

        for (size_t i = 0; i < ARRAY_LEN(fine); i++) {
                if (ret == fine[i])
                        return;
        }
        fprintf(stderr, "unexpected: %d\n", ret);
        abort();
}

/* A directory up to three levels below the root, with a reference. */
static struct uext4_inode *any_dir(struct shared *s, uint64_t *rand)
{
        struct uext4_inode *dir, *below;
        char name[8];

        T_CHECK(uext4_resolve(s->fs, "/", 0, &dir) == 0);
        for (unsigned depth = t_below(rand, 4); depth > 0; depth--) {
                struct uext4_stat st;

                snprintf(name, sizeof(name), "n%u", (unsigned)t_below(rand, NR_NAMES));
                if (uext4_lookup(dir, name, strlen(name), &below) < 0)
                        break;
                uext4_stat(below, &st);
                if (!S_ISDIR(st.mode)) {
                        uext4_inode_put(below);
                        break;
                }
                uext4_inode_put(dir);
                dir = below;
        }
        return dir;
}

static int one(struct shared *s, uint64_t *rand, unsigned kind)
{
        struct uext4_inode *a = any_dir(s, rand), *b = any_dir(s, rand), *found = NULL;
        char from[8], to[8];
        int ret;

        snprintf(from, sizeof(from), "n%u", (unsigned)t_below(rand, NR_NAMES));
        snprintf(to, sizeof(to), "n%u", (unsigned)t_below(rand, NR_NAMES));
        switch (kind) {
        case 0:
                ret = uext4_create(a, from, strlen(from), 0600, NULL);
                break;
        case 1:
                ret = uext4_mkdir(a, from, strlen(from), 0700, NULL);
                break;
        case 2:
                ret = uext4_unlink(a, from, strlen(from));
                break;
        case 3:
                ret = uext4_rmdir(a, from, strlen(from));
                break;
        case 4:
                ret = uext4_lookup(a, from, strlen(from), &found);
                if (ret == 0)
                        ret = uext4_link(found, b, to, strlen(to));
                uext4_inode_put(found);
                break;
        case 5:
                ret = uext4_rename(a, from, strlen(from), b, to, strlen(to), RENAME_EXCHANGE);
                break;
        default:
                ret = uext4_rename(a, from, strlen(from), b, to, strlen(to), 0);
        }
        uext4_inode_put(a);
        uext4_inode_put(b);
        return ret;
}

static void work(void *arg, unsigned n)
{
        struct shared *s = arg;
        uint64_t rand = n + 1;

        for (unsigned i = 0; i < s->nr_ops; i++) {
                unsigned kind = (unsigned)t_below(&rand, 8);
                int ret = one(s, &rand, kind);

                expected(ret);
                if (ret == 0)
                        s->nr_done[kind]++;
        }
}

static void test_shared_tree(void **state)
{
        struct t_tree t = {.img = t_mkfs(24u << 20, "-b 1024 -N 4000 -O " T_DIRS, NULL)};
        struct shared s = {.nr_ops = 20000};

        (void)state;
        t_tree_mount_as(&t, "rw");
        s.fs = t.fs;
        t_run_threads(NR_THREADS, work, &s);
        t_tree_unmount(&t);
        assert_string_equal(t.log.text, "");
        for (unsigned i = 0; i < ARRAY_LEN(s.nr_done); i++)
                assert_true(s.nr_done[i] > 0);
        t_tree_end(&t, "a tree of all");
}

/* Threads that fill one directory, whose index grows, while another one reads it. */

static void fill(void *arg, unsigned n)
{
        struct shared *s = arg;
        struct uext4_inode *root;
        char name[256];

        T_CHECK(uext4_resolve(s->fs, "/", 0, &root) == 0);
        for (unsigned i = 0; i < s->nr_ops && n > 0; i++) {
                memset(name, 'x', 200);
                name[snprintf(name, 200, "%u-%u", n, i)] = '-';
                T_CHECK(uext4_create(root, name, 200, 0600, NULL) == 0);
        }
        for (unsigned i = 0; i < 20 && n == 0; i++) {
                struct uext4_dirent entry;
                uint64_t cookie = 0;
                int ret;

                while ((ret = uext4_readdir(root, &cookie, &entry)) > 0)
                        s->nr_done[0]++;
                T_CHECK(ret == 0);
        }
        uext4_inode_put(root);
}

static void test_one_directory(void **state)
{
        struct t_tree t = {.img = t_mkfs(24u << 20, "-b 1024 -N 6000 -O " T_DIRS, NULL)};
        struct shared s = {.nr_ops = 1000};
        struct uext4_inode *root;

        (void)state;
        t_tree_mount_as(&t, "rw");
        s.fs = t.fs;
        t_run_threads(NR_THREADS, fill, &s);
        root = t_tree_at(&t, "/");
        assert_int_equal(t_tree_count(root), 1 + (NR_THREADS - 1) * s.nr_ops); /* lost+found */
        uext4_inode_put(root);
        t_tree_unmount(&t);
        assert_string_equal(t.log.text, "");
        t_tree_end(&t, "one directory");
}

/* ---- two directories, each in the other, which no lock of the upper one comes first in ----
 */

struct loop {
        struct uext4_inode *dirs[2];
        unsigned nr_ops;
};

static void go_round(void *arg, unsigned n)
{
        static const char *const names[] = {"b", "a"};
        struct loop *l = arg;
        struct uext4_inode *dir = l->dirs[n % 2];
        const char *name = names[n % 2];

        for (unsigned i = 0; i < l->nr_ops; i++) {
                if (n < 2) {
                        expected(uext4_rmdir(dir, name, 1));
                        continue;
                }
                expected(uext4_rename(dir, name, 1, dir, "c", 1, 0));
                expected(uext4_rename(dir, "c", 1, dir, name, 1, 0));
        }
}

static void test_each_in_the_other(void **state)
{
        struct t_tree t = {.img = t_mkfs(8u << 20,
                                         "-b 1024 -O " T_EXT4
                                         ",filetype,large_file,sparse_super",
                                         "mkdir a\\nmkdir a/b\\nln a a/b/a\\n")};
        struct loop l = {.nr_ops = 3000};

        (void)state;
        t_tree_mount_as(&t, "rw");
        l.dirs[0] = t_tree_at(&t, "/a");
        l.dirs[1] = t_tree_at(&t, "/a/b");
        t_run_threads(4, go_round, &l);
        for (unsigned i = 0; i < 2; i++)
                uext4_inode_put(l.dirs[i]);
        t_tree_unmount(&t);
        t_image_free(&t.img); /* it is damaged: nothing for e2fsck */
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_shared_tree),
                cmocka_unit_test(test_one_directory),
                cmocka_unit_test(test_each_in_the_other),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
