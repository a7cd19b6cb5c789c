/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The version of a file (uext4_stat.version): another one after each change, however soon, and
 * not after what changes nothing; the same after a mount, and on disk.
 */
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/stat.h>
#include <unistd.h>

#include "t_tree.h"

struct stage {
        struct t_tree t;
        struct uext4_inode *dir, *other, *f;
        struct uext4_file *buffered, *direct;
        char *data;
};

static void stage_begin(struct stage *s)
{
        struct uext4_inode *root = t_tree_at(&s->t, "/");

        assert_int_equal(uext4_mkdir(root, "d", 1, 0755, &s->dir), 0);
        assert_int_equal(uext4_mkdir(root, "o", 1, 0755, &s->other), 0);
        assert_int_equal(uext4_create(s->dir, "f", 1, 0644, &s->f), 0);
        assert_int_equal(uext4_open(s->f, O_RDWR, &s->buffered), 0);
        assert_int_equal(uext4_open(s->f, O_RDWR | O_DIRECT, &s->direct), 0);
        s->data = t_alloc(4096);
        uext4_inode_put(root);
}

static void stage_end(struct stage *s)
{
        free(s->data);
        uext4_close(s->buffered);
        uext4_close(s->direct);
        uext4_inode_put(s->f);
        uext4_inode_put(s->other);
        uext4_inode_put(s->dir);
}

/* ---- steps ---- */

static int write_buffered(struct stage *s)
{
        return uext4_pwrite(s->buffered, "abc", 3, 5) == 3 ? 0 : -EIO;
}

static int write_direct(struct stage *s)
{
        return uext4_pwrite(s->direct, s->data, 4096, 0) == 4096 ? 0 : -EIO;
}

static int append(struct stage *s)
{
        uint64_t size = t_tree_stat(s->f).size;

        return uext4_pwrite(s->buffered, "abc", 3, size) == 3 ? 0 : -EIO;
}

static int cut_short(struct stage *s)
{
        return uext4_truncate(s->buffered, 4096);
}

static int punch(struct stage *s)
{
        return uext4_fallocate(s->buffered, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
                               1024);
}

static int change_mode(struct stage *s)
{
        const struct uext4_setattr set = {.mask = UEXT4_SET_MODE, .mode = 0600};

        return uext4_setattr(s->f, &set);
}

static int change_flags(struct stage *s)
{
        return uext4_set_flags(s->f, FS_EXTENT_FL | FS_NODUMP_FL);
}

static int set_attribute(struct stage *s)
{
        return uext4_setxattr(s->f, "user.a", "b", 1, 0);
}

static int link_it(struct stage *s)
{
        return uext4_link(s->f, s->dir, "g", 1);
}

static int move_it(struct stage *s)
{
        return uext4_rename(s->dir, "g", 1, s->other, "h", 1, 0);
}

static int unlink_it(struct stage *s)
{
        return uext4_unlink(s->other, "h", 1);
}

static int read_it(struct stage *s)
{
        return uext4_pread(s->buffered, s->data, 100, 0) == 100 ? 0 : -EIO;
}

static int list(struct stage *s)
{
        return t_tree_count(s->dir) == 1 ? 0 : -EIO;
}

static int sync_it(struct stage *s)
{
        return uext4_fsync(s->buffered);
}

static int fail_to_make(struct stage *s)
{
        return uext4_create(s->dir, "f", 1, 0600, NULL) == -EEXIST ? 0 : -EIO;
}

static const struct step {
        const char *name;
        int (*run)(struct stage *s);
        bool f, dir, other; /* whose version becomes another one */
} steps[] = {
        {"append", append, true, false, false},
        {"write, direct", write_direct, true, false, false},
        {"overwrite", write_buffered, true, false, false},
        {"overwrite, direct", write_direct, true, false, false},
        {"truncate", cut_short, true, false, false},
        {"punch", punch, true, false, false},
        {"chmod", change_mode, true, false, false},
        {"flags", change_flags, true, false, false},
        {"attribute", set_attribute, true, false, false},
        {"link", link_it, true, true, false},
        {"rename", move_it, true, true, true},
        {"unlink", unlink_it, true, false, true},
        {"read", read_it, false, false, false},
        {"readdir", list, false, false, false},
        {"fsync", sync_it, false, false, false},
        {"create, in vain", fail_to_make, false, false, false},
};

/* ---- what is seen ---- */

struct versions {
        uint64_t f, dir, other;
};

static struct versions versions_of(struct stage *s)
{
        return (struct versions){t_tree_stat(s->f).version, t_tree_stat(s->dir).version,
                                 t_tree_stat(s->other).version};
}

static void check_one(const char *step, const char *whose, uint64_t was, uint64_t is,
                      bool changes)
{
        if (changes ? is <= was : is != was)
                fail_msg("%s: %s: from %llu to %llu", step, whose, (unsigned long long)was,
                         (unsigned long long)is);
}

/* Twice: with the epoch time stands still. */
static void every_change_counts(void **state)
{
        static const char *const options[] = {"rw,commit=100000,epoch=1000000000",
                                              "rw,commit=100000,strictatime"};

        for (size_t k = 0; k < ARRAY_LEN(options); k++) {
                struct uext4_mount_params params = {.options = options[k]};
                struct stage s = {0};
                struct versions was, is;

                t_tree_begin(&s.t, "-b 1024 -I 256 -O " T_DIRS, 8, NULL);
                t_tree_unmount(&s.t);
                T_CHECK(uext4_bdev_open_buffer(s.t.img.data, s.t.img.size, 0, &s.t.dev) == 0);
                T_CHECK(uext4_mount_bdev(s.t.dev, &params, &s.t.fs) == 0);
                stage_begin(&s);
                was = versions_of(&s);
                for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
                        const struct step *step = &steps[i];

                        assert_int_equal(step->run(&s), 0);
                        is = versions_of(&s);
                        check_one(step->name, "f", was.f, is.f, step->f);
                        check_one(step->name, "dir", was.dir, is.dir, step->dir);
                        check_one(step->name, "other", was.other, is.other, step->other);
                        was = is;
                }
                stage_end(&s);
                t_tree_again(&s.t, options[k]);
                s.f = t_tree_at(&s.t, "/d/f");
                assert_int_equal(t_tree_stat(s.f).version, was.f);
                uext4_inode_put(s.f);
                t_tree_end(&s.t, options[k]);
        }
}

/* Nobody asks in between: overwrites at the same time are one change. */
static void who_does_not_ask(void **state)
{
        struct stage s = {0};
        uint64_t was;

        t_tree_begin(&s.t, "-b 1024 -I 256 -O " T_DIRS, 8, NULL);
        stage_begin(&s);
        assert_int_equal(write_direct(&s), 0);
        was = t_tree_stat(s.f).version;
        for (unsigned i = 0; i < 1000; i++)
                assert_int_equal(write_direct(&s), 0);
        assert_in_range(t_tree_stat(s.f).version, was + 1, was + 999);
        stage_end(&s);
        t_tree_end(&s.t, "who does not ask");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(every_change_counts),
                cmocka_unit_test(who_does_not_ask),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
