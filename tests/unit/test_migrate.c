/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Files get a map of the other kind (FS_EXTENT_FL): of many shapes, on file systems of many
 * kinds; what cannot be; what happens when space runs out.  Power cuts are in test_attr_cuts.c.
 */
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <unistd.h>

#include "t_tree.h"

static const struct kind {
        const char *name, *options, *mount;
} kinds[] = {
        {"1k", "-b 1024 -I 256 -O " T_DIRS, "rw"},
        {"4k", "-b 4096 -I 256 -O " T_DIRS, "rw"},
        {"128-byte inodes, no checksums", "-b 1024 -I 128 -O " T_DIRS ",^metadata_csum", "rw"},
        {"ea_inode, orphan_file", "-b 1024 -I 256 -O ea_inode,orphan_file," T_DIRS, "rw"},
        {"data=journal", "-b 1024 -I 256 -O " T_DIRS, "rw,data=journal"},
        {"no journal", "-b 1024 -I 256 -O " T_DIRS ",^has_journal", "rw"},
};

static void begin(struct t_tree *t, const char *options, const char *mount, unsigned mib)
{
        struct uext4_mount_params params = {
                .options = mount, .log = t_log_line, .log_arg = &t->log};

        t_tree_begin(t, options, mib, NULL);
        t_tree_unmount(t);
        t_log_init(&t->log);
        T_CHECK(uext4_bdev_open_buffer(t->img.data, t->img.size, 0, &t->dev) == 0);
        T_CHECK(uext4_mount_bdev(t->dev, &params, &t->fs) == 0);
}

/* ---- files ---- */

#define MAX_SIZE (3u << 20)

struct shape {
        const char *name;
        uint64_t size;
        uint32_t piece, stride; /* bytes that are written, and from one to the next */
        uint32_t attribute;     /* the size of its value; 0: none */
        bool is_journalled;
        bool is_preallocated;
};

static const struct shape shapes[] = {
        {"empty", 0, 1, 1, 0, false, false},
        {"one byte", 1, 1, 1, 100, false, false},
        {"hole", 1u << 20, 0, 1u << 20, 0, false, false},
        {"one piece", MAX_SIZE - 77, MAX_SIZE, MAX_SIZE, 700, false, false},
        {"many pieces", 2u << 20, 2000, 9000, 5000, false, false},
        {"journalled", 300000, 2000, 7000, 700, true, false},
        {"preallocated", 300000, 2000, 50000, 0, false, true},
};

static uint8_t byte_at(const struct shape *s, uint64_t pos)
{
        return pos % s->stride < s->piece ? (uint8_t)(1 + (pos / s->stride + pos) % 255) : 0;
}

static struct uext4_file *open_it(struct uext4_inode *inode, int flags)
{
        struct uext4_file *file;

        assert_int_equal(uext4_open(inode, flags, &file), 0);
        return file;
}

static void write_file(struct uext4_inode *inode, const struct shape *s)
{
        struct uext4_file *file = open_it(inode, O_RDWR);
        uint8_t *data = t_alloc(MAX_SIZE);

        for (uint64_t i = 0; i < s->size; i++)
                data[i] = byte_at(s, i);
        for (uint64_t pos = 0; s->piece > 0 && pos < s->size; pos += s->stride) {
                size_t n = min_t(uint64_t, s->piece, s->size - pos);

                assert_int_equal(uext4_pwrite(file, data + pos, n, pos), n);
        }
        assert_int_equal(uext4_truncate(file, s->size), 0);
        if (s->is_preallocated) {
                assert_int_equal(uext4_fallocate(file, 0, 0, s->size), 0);
                assert_int_equal(uext4_fallocate(file, FALLOC_FL_KEEP_SIZE, s->size, 1u << 20),
                                 0);
        }
        free(data);
        uext4_close(file);
}

/* Whether a value of this size can be kept at all. */
static bool can_have(const struct t_tree *t, uint32_t size)
{
        return size < t->fs->ext4->block_size - 100 ||
               ext4_has_incompat(t->fs->ext4, EXT4_INCOMPAT_EA_INODE);
}

static struct uext4_inode *make(struct t_tree *t, const char *name, const struct shape *s)
{
        struct uext4_inode *root = t_tree_at(t, "/"), *inode;
        char *value = t_alloc(MAX_SIZE);
        uint32_t flags;

        assert_int_equal(uext4_create(root, name, strlen(name), 0640, &inode), 0);
        assert_int_equal(uext4_get_flags(inode, &flags), 0);
        if (s->is_journalled)
                assert_int_equal(uext4_set_flags(inode, flags | FS_JOURNAL_DATA_FL), 0);
        write_file(inode, s);
        if (s->attribute > 0 && can_have(t, s->attribute)) {
                memset(value, 'v', s->attribute);
                assert_int_equal(uext4_setxattr(inode, "user.a", value, s->attribute, 0), 0);
        }
        free(value);
        uext4_inode_put(root);
        return inode;
}

static void check_bytes(struct uext4_inode *inode, const struct shape *s, int flags)
{
        struct uext4_file *file = open_it(inode, flags);
        uint8_t *data = aligned_alloc(4096, MAX_SIZE + 4096);
        ssize_t n;

        T_CHECK(data);
        n = uext4_pread(file, data, MAX_SIZE + 4096, 0);
        assert_int_equal(n, s->size);
        for (uint64_t i = 0; i < s->size; i++) {
                if (data[i] != byte_at(s, i))
                        fail_msg("%s: byte %llu", s->name, (unsigned long long)i);
        }
        free(data);
        uext4_close(file);
}

static bool has_extents(struct uext4_inode *inode)
{
        return t_tree_stat(inode).flags & FS_EXTENT_FL;
}

static int set_extents(struct uext4_inode *inode, bool on)
{
        uint32_t flags = t_tree_stat(inode).flags & ~(uint32_t)FS_EXTENT_FL;

        return uext4_set_flags(inode, flags | (on ? FS_EXTENT_FL : 0));
}

static void check_file(struct uext4_inode *inode, const struct shape *s, bool extents)
{
        assert_int_equal(has_extents(inode), extents);
        check_bytes(inode, s, O_RDONLY);
        check_bytes(inode, s, O_RDONLY | O_DIRECT);
}

/* There and back; in between it can be written like any other. */
static void there_and_back(struct t_tree *t, const struct shape *s)
{
        struct uext4_inode *inode = make(t, s->name, s);
        uint64_t blocks = t_tree_stat(inode).blocks;
        struct uext4_file *file;
        uint8_t last = byte_at(s, s->size - 1);

        assert_int_equal(set_extents(inode, false), 0);
        assert_int_equal(set_extents(inode, false), 0); /* nothing happens */
        check_file(inode, s, false);
        if (s->is_preallocated)
                assert_true(t_tree_stat(inode).blocks < blocks);
        if (s->size > 0 && last != 0) {
                file = open_it(inode, O_RDWR);
                assert_int_equal(uext4_pwrite(file, "?", 1, s->size - 1), 1);
                assert_int_equal(uext4_pwrite(file, &last, 1, s->size - 1), 1);
                uext4_close(file);
        }
        assert_int_equal(set_extents(inode, true), 0);
        check_file(inode, s, true);
        if (s->attribute > 0 && can_have(t, s->attribute))
                assert_int_equal(uext4_getxattr(inode, "user.a", NULL, 0), s->attribute);
        uext4_inode_put(inode);
}

/* What is half way is looked at by e2fsck, too. */
static void leave_indirect(struct t_tree *t, const struct shape *s)
{
        struct uext4_inode *inode;
        char name[64];

        snprintf(name, sizeof(name), "%s, indirect", s->name);
        inode = make(t, name, s);
        assert_int_equal(set_extents(inode, false), 0);
        uext4_inode_put(inode);
}

static void files_of_all_shapes(void **state)
{
        for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
                struct uext4_inode *inode;
                struct t_tree t;
                char path[80];

                begin(&t, kinds[k].options, kinds[k].mount, 40);
                for (size_t i = 0; i < ARRAY_LEN(shapes); i++) {
                        there_and_back(&t, &shapes[i]);
                        leave_indirect(&t, &shapes[i]);
                }
                t_tree_again(&t, kinds[k].name);
                for (size_t i = 0; i < ARRAY_LEN(shapes); i++) {
                        snprintf(path, sizeof(path), "/%s", shapes[i].name);
                        inode = t_tree_at(&t, path);
                        check_file(inode, &shapes[i], true);
                        uext4_inode_put(inode);
                        snprintf(path, sizeof(path), "/%s, indirect", shapes[i].name);
                        inode = t_tree_at(&t, path);
                        check_file(inode, &shapes[i], false);
                        assert_int_equal(set_extents(inode, true), 0);
                        uext4_inode_put(inode);
                }
                t_tree_end(&t, kinds[k].name);
        }
}

/* ---- what cannot be ---- */

static void refused(void **state)
{
        static const struct shape s = {"f", 5000, 5000, 5000, 0, false, false};
        struct uext4_inode *inode, *dir;
        struct uext4_file *file;
        struct t_tree t;

        begin(&t, "-b 1024 -I 256 -O " T_DIRS, "rw", 16);
        inode = make(&t, "f", &s);
        dir = t_tree_at(&t, "/");
        assert_int_equal(set_extents(dir, false), -EOPNOTSUPP);
        file = open_it(inode, O_RDWR);
        assert_int_equal(uext4_truncate(file, 20ull << 30), 0);
        assert_int_equal(set_extents(inode, false), -EFBIG);
        assert_int_equal(uext4_truncate(file, s.size), 0);
        uext4_close(file);
        check_file(inode, &s, true);
        uext4_inode_put(inode);
        uext4_inode_put(dir);
        t_tree_end(&t, "refused");

        begin(&t, "-b 1024 -C 4096 -O bigalloc," T_DIRS, "rw", 16);
        inode = make(&t, "f", &s);
        assert_int_equal(set_extents(inode, false), -EOPNOTSUPP);
        check_file(inode, &s, true);
        uext4_inode_put(inode);
        t_tree_end(&t, "bigalloc");

        begin(&t, "-b 1024 -O has_journal,large_file", "rw", 16);
        inode = make(&t, "f", &s);
        assert_int_equal(set_extents(inode, true), -EOPNOTSUPP);
        check_file(inode, &s, false);
        uext4_inode_put(inode);
        t_tree_end(&t, "ext3");
}

/* The data has no room a second time: nothing has happened, and nothing is lost. */
static void no_space(void **state)
{
        static const struct shape s = {"f", MAX_SIZE, MAX_SIZE, MAX_SIZE, 0, false, false};
        struct uext4_inode *inode, *other;
        struct statvfs before, after;
        struct t_tree t;

        begin(&t, "-b 1024 -m 0 -J size=1 -I 256 -O " T_DIRS, "rw", 8);
        inode = make(&t, "f", &s);
        other = make(&t, "g", &shapes[4]);
        assert_int_equal(uext4_syncfs(t.fs), 0);
        assert_int_equal(uext4_statfs(t.fs, &before), 0);
        assert_int_equal(set_extents(inode, false), -ENOSPC);
        check_file(inode, &s, true);
        assert_int_equal(uext4_statfs(t.fs, &after), 0);
        assert_int_equal(after.f_bfree, before.f_bfree);
        assert_int_equal(after.f_ffree, before.f_ffree);
        assert_int_equal(set_extents(other, false), 0);
        check_file(other, &shapes[4], false);
        uext4_inode_put(inode);
        uext4_inode_put(other);
        t_tree_end(&t, "no space");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(files_of_all_shapes),
                cmocka_unit_test(refused),
                cmocka_unit_test(no_space),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
