/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Large directories: three levels of the index, with every hash; more subdirectories than can
 * be counted; names of anything.
 *
 * UEXT4_LONG=1: also a million names in one directory.
 */
#include "ext4/hash.h"
#include "t_tree.h"

static unsigned nr_levels(struct uext4_inode *dir)
{
        struct buf *buf;
        unsigned nr;

        if (!(inode_in(dir)->flags & EXT4_FL_INDEX))
                return 0;
        T_CHECK(ext4_read_block(inode_in(dir), 0, NULL, &buf) == 0 && buf);
        nr = ((const uint8_t *)buf->data)[24 + 6] + 1u;
        buf_put(buf);
        return nr;
}

static void name_of(char *text, unsigned i, size_t len)
{
        memset(text, 'n', len);
        text[snprintf(text, 12, "%u", i)] = '-';
        text[len] = '\0';
}

/* Every name is found, and comes once. */
static void check_names(const char *row, struct uext4_inode *dir, unsigned nr, size_t len)
{
        uint8_t *seen = t_alloc(nr);
        struct uext4_dirent e;
        uint64_t cookie = 0;
        unsigned nr_seen = 0;
        char text[256];
        uint32_t ino;

        memset(seen, 0, nr);
        while (uext4_readdir(dir, &cookie, &e) == 1) {
                if (e.name[0] == '.')
                        continue;
                T_CHECK((unsigned)atoi(e.name) < nr && !seen[atoi(e.name)]);
                seen[atoi(e.name)] = 1;
                nr_seen++;
        }
        t_assert_row(row, nr_seen, nr);
        for (unsigned i = 0; i<nr; i += nr> 100000 ? 37 : 1) {
                name_of(text, i, len);
                T_CHECK(ext4_dir_lookup(inode_in(dir), text, len, &ino) == 0);
        }
        free(seen);
}

static void enter(struct uext4_inode *dir, struct uext4_inode *file, unsigned i, size_t len)
{
        char text[256];

        name_of(text, i, len);
        T_CHECK(uext4_link(file, dir, text, len) == 0);
}

/* Links to one file: up to 65000. */
static void test_three_levels(void **state)
{
        static const struct {
                const char *name, *script;
        } rows[] = {
                {"half_md4", "ssv def_hash_version half_md4\\n"},
                {"tea", "ssv def_hash_version tea\\n"},
                {"legacy", "ssv def_hash_version legacy\\n"},
        };
        const unsigned nr = 24000;

        (void)state;
        for (size_t i = 0; i < (t_is_long() ? ARRAY_LEN(rows) : 1); i++) {
                struct uext4_inode *root, *d, *f;
                struct t_tree t;

                t_tree_begin(&t, "-b 1024 -N 100 -O large_dir," T_DIRS, 40, rows[i].script);
                root = t_tree_at(&t, "/");
                assert_int_equal(uext4_mkdir(root, "d", 1, 0755, &d), 0);
                assert_int_equal(uext4_create(root, "f", 1, 0600, &f), 0);
                for (unsigned k = 0; k < nr; k++)
                        enter(d, f, k, 255);
                t_assert_row(rows[i].name, nr_levels(d), 3);
                uext4_inode_put(d);
                uext4_inode_put(f);
                uext4_inode_put(root);
                t_tree_again(&t, rows[i].name);
                d = t_tree_at(&t, "/d");
                check_names(rows[i].name, d, nr, 255);
                for (unsigned k = 0; k < nr; k += 2) {
                        char text[256];

                        name_of(text, k, 255);
                        T_CHECK(uext4_unlink(d, text, 255) == 0);
                }
                t_assert_row(rows[i].name, t_tree_count(d), nr / 2);
                uext4_inode_put(d);
                t_tree_end(&t, rows[i].name);
        }
}

static void test_a_million(void **state)
{
        const unsigned nr = 1000000, per_file = 60000;
        struct uext4_inode *root, *d, *f = NULL;
        struct t_tree t;

        (void)state;
        if (!t_is_long())
                skip();
        t_tree_begin(&t, "-b 1024 -N 100 -O large_dir," T_DIRS, 200, NULL);
        root = t_tree_at(&t, "/");
        assert_int_equal(uext4_mkdir(root, "d", 1, 0755, &d), 0);
        for (unsigned i = 0; i < nr; i++) {
                if (i % per_file == 0) {
                        char text[16];

                        uext4_inode_put(f);
                        snprintf(text, sizeof(text), "f%u", i);
                        assert_int_equal(uext4_create(root, text, strlen(text), 0600, &f), 0);
                }
                enter(d, f, i, 30);
        }
        assert_int_equal(nr_levels(d), 3);
        uext4_inode_put(f);
        uext4_inode_put(d);
        uext4_inode_put(root);
        t_tree_again(&t, "a million");
        d = t_tree_at(&t, "/d");
        check_names("a million", d, nr, 30);
        uext4_inode_put(d);
        t_tree_end(&t, "a million");
}

/* dir_nlink: what cannot be counted is 1, and stays so; without it that is too many. */
static void test_many_subdirectories(void **state)
{
        static const struct {
                const char *name, *options;
                int ret;
                unsigned nlink;
        } rows[] = {
                {"dir_nlink", "-b 1024 -N 300 -O " T_DIRS, 0, 1},
                {"without it", "-b 1024 -N 300 -O " T_DIRS ",^dir_nlink", -EMLINK, 65000},
        };
        const unsigned nr = 40; /* so that it is a hashed one */

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
                struct uext4_inode *root, *d;
                struct t_tree t;
                char text[256];
                int ret = 0;

                t_tree_begin(&t, rows[i].options, 16, NULL);
                root = t_tree_at(&t, "/");
                assert_int_equal(uext4_mkdir(root, "d", 1, 0755, &d), 0);
                for (unsigned k = 0; k < nr; k++) {
                        name_of(text, k, 100);
                        assert_int_equal(uext4_mkdir(d, text, 100, 0755, NULL), 0);
                }
                inode_in(d)->nlink = 64999; /* as if there were so many */
                for (unsigned k = nr; k < nr + 3 && ret == 0; k++) {
                        name_of(text, k, 100);
                        ret = uext4_mkdir(d, text, 100, 0755, NULL);
                }
                t_assert_row(rows[i].name, ret, rows[i].ret);
                t_assert_row(rows[i].name, t_tree_stat(d).nlink, rows[i].nlink);
                if (ret == 0) {
                        assert_int_equal(uext4_mkdir(root, "e", 1, 0755, NULL), 0);
                        name_of(text, 0, 100);
                        assert_int_equal(uext4_rename(root, "e", 1, d, "e", 1, 0), 0);
                        assert_int_equal(uext4_rmdir(d, text, 100), 0);
                        t_assert_row(rows[i].name, t_tree_stat(d).nlink, rows[i].nlink);
                }
                /* The true number, for e2fsck. */
                inode_in(d)->nlink = 2 + t_tree_count(d);
                assert_int_equal(uext4_create(d, "x", 1, 0600, NULL), 0);
                uext4_inode_put(d);
                uext4_inode_put(root);
                t_tree_end(&t, rows[i].name);
        }
}

/* 255 bytes of anything but a slash and zero. */
static void any_name(char *text, size_t len, uint64_t *rand)
{
        for (size_t i = 0; i < len; i++) {
                do {
                        text[i] = (char)t_rand(rand);
                } while (text[i] == '/' || text[i] == '\0');
        }
        text[len] = '\0';
}

static void test_names_of_anything(void **state)
{
        static const char *const scripts[] = {"ssv flags 1\\n", "ssv flags 2\\n"};
        const unsigned nr = 500;

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(scripts) * 3; i++) {
                char script[128];
                static const char *const hashes[] = {"legacy", "half_md4", "tea"};
                struct uext4_inode *root, *d, *f, *found;
                uint64_t rand = t_seed();
                struct t_tree t;
                char text[256];

                snprintf(script, sizeof(script), "%sssv def_hash_version %s\\n", scripts[i % 2],
                         hashes[i / 2]);
                t_tree_begin(&t, "-b 1024 -N 100 -O " T_DIRS, 8, script);
                root = t_tree_at(&t, "/");
                assert_int_equal(uext4_mkdir(root, "d", 1, 0755, &d), 0);
                assert_int_equal(uext4_create(root, "f", 1, 0600, &f), 0);
                for (unsigned k = 0; k < nr; k++) {
                        size_t len = k % 3 ? 255 : 3 + k % 253;

                        any_name(text, len, &rand);
                        assert_int_equal(uext4_link(f, d, text, len), 0);
                        assert_int_equal(uext4_lookup(d, text, len, &found), 0);
                        assert_ptr_equal(found, f);
                        uext4_inode_put(found);
                }
                assert_int_equal(t_tree_count(d), nr);
                uext4_inode_put(d);
                uext4_inode_put(f);
                uext4_inode_put(root);
                t_tree_end(&t, script);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_three_levels),
                cmocka_unit_test(test_many_subdirectories),
                cmocka_unit_test(test_names_of_anything),
                cmocka_unit_test(test_a_million),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
