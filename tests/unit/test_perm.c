/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Identities, where there is nothing to compare with in the kernel: damaged ACLs, what is
 * remembered of an inode's attributes, each way to write. The rest is in tests/posix/.
 */
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/fs.h>
#include <linux/posix_acl.h>
#include <sys/stat.h>

#include "ext4/setattr.h"
#include "ext4/xattr_plan.h"
#include "t_tree.h"

#define IMAGE "-b 1024 -I 256 -O " T_DIRS

static const struct uext4_cred owner = {.uid = 1, .gid = 1};
static const struct uext4_cred other = {.uid = 2, .gid = 2};
static const struct uext4_cred keeper = {.uid = 2, .gid = 2, .caps = 1ull << CAP_FSETID};

static const uint8_t capability[20] = {0, 0, 0, 2, 0, 0x20};

/* u::rw-, u:2:PERM, g::---, m::rw-, o::--- */
static int set_acl(struct uext4_inode *inode, uint8_t perm)
{
        const uint8_t acl[44] = {
                2, 0, 0, 0,    0x01, 0,    6,    0, 0xff, 0xff, 0xff, 0xff, 0x02, 0,    perm,
                0, 2, 0, 0,    0,    0x04, 0,    0, 0,    0xff, 0xff, 0xff, 0xff, 0x10, 0,
                6, 0, 0, 0xff, 0xff, 0xff, 0x20, 0, 0,    0,    0xff, 0xff, 0xff, 0xff,
        };

        return uext4_setxattr(inode, "system.posix_acl_access", acl, sizeof(acl), 0);
}

static int open_by(const struct uext4_cred *cred, struct uext4_inode *inode, int flags)
{
        struct uext4_file *file = NULL;
        int ret;

        uext4_cred_use(cred);
        ret = uext4_open(inode, flags, &file);
        uext4_cred_use(NULL);
        uext4_close(file);
        return ret;
}

static struct uext4_inode *make_by(const struct uext4_cred *cred, struct t_tree *t,
                                   uint32_t mode)
{
        struct uext4_inode *root = t_tree_at(t, "/"), *inode;
        const struct uext4_setattr set = {.mask = UEXT4_SET_MODE, .mode = 0777};

        assert_int_equal(uext4_setattr(root, &set), 0);
        uext4_cred_use(cred);
        assert_int_equal(uext4_create(root, "f", 1, mode, &inode), 0);
        uext4_cred_use(NULL);
        uext4_inode_put(root);
        return inode;
}

static uint32_t mode_of(struct uext4_inode *inode)
{
        return t_tree_stat(inode).mode & 07777;
}

static int set_mode(struct uext4_inode *inode, uint32_t mode)
{
        const struct uext4_setattr set = {.mask = UEXT4_SET_MODE, .mode = mode};

        return uext4_setattr(inode, &set);
}

/* ---- ACLs ---- */

/* That there is none is remembered, until there is one. */
static void test_acl_comes_and_goes(void **state)
{
        struct uext4_inode *f;
        struct t_tree t;

        (void)state;
        t_tree_begin(&t, IMAGE, 8, NULL);
        f = make_by(&owner, &t, 0660);
        assert_int_equal(open_by(&other, f, O_RDONLY), -EACCES);
        assert_true(inode_in(f)->lacks & EXT4_LACKS_ACL);
        assert_int_equal(set_acl(f, 4), 0);
        assert_int_equal(open_by(&other, f, O_RDONLY), 0);
        assert_int_equal(open_by(&other, f, O_RDWR), -EACCES);
        assert_int_equal(uext4_setxattr(f, "user.x", "1", 1, 0), 0);
        assert_int_equal(set_acl(f, 6), 0);
        assert_int_equal(open_by(&other, f, O_RDWR), 0);
        assert_int_equal(uext4_removexattr(f, "system.posix_acl_access"), 0);
        assert_int_equal(open_by(&other, f, O_RDONLY), -EACCES);
        assert_true(inode_in(f)->lacks & EXT4_LACKS_ACL);
        uext4_inode_put(f);
        t_tree_end(&t, "comes and goes");
}

/* From a damaged ACL nobody has rights, but who needs none of it. */
static void test_damaged_acl(void **state)
{
        struct uext4_inode *f;
        uint8_t *tag = NULL;
        struct t_tree t;

        (void)state;
        t_tree_begin(&t, IMAGE, 8, NULL);
        f = make_by(&owner, &t, 0660);
        assert_int_equal(set_acl(f, 6), 0);
        for (uint32_t i = 0; !tag && i + 4 <= inode_in(f)->ibody_size; i += 4) {
                uint8_t *at = inode_in(f)->ibody + i;

                if (at[0] == 0x20 && at[1] == 0 && i + 4 > inode_in(f)->ibody_size / 2)
                        tag = at;
        }
        assert_non_null(tag);
        *tag = 0x77;
        assert_int_equal(open_by(&other, f, O_RDONLY), -EUCLEAN);
        assert_int_equal(set_mode(f, 0600), -EUCLEAN);
        assert_int_equal(open_by(&owner, f, O_RDWR), 0);
        *tag = 0x20;
        uext4_inode_put(f);
        t_tree_unmount(&t); /* an error was noted: e2fsck has something to say */
        t_image_free(&t.img);
}

/* An ACL without a byte is none, for everybody. */
static void test_empty_acl(void **state)
{
        struct ext4_xattr_order order = {.key = {EXT4_XATTR_INDEX_POSIX_ACL_ACCESS, "", 0},
                                         .value = ""};
        struct ext4_xattr_plan plan = {.order = &order};
        struct uext4_inode *f;
        struct t_tree t;
        char buf[8];

        (void)state;
        t_tree_begin(&t, IMAGE, 8, NULL);
        f = make_by(&owner, &t, 0664);
        plan.inode = inode_in(f);
        rwsem_write_lock(&plan.inode->vfs.lock);
        assert_int_equal(ext4_xattr_change_locked(&plan), 0);
        rwsem_write_unlock(&plan.inode->vfs.lock);
        ext4_xattr_plan_done(&plan);
        assert_int_equal(open_by(&other, f, O_RDONLY), 0);
        assert_int_equal(open_by(&other, f, O_RDWR), -EACCES);
        assert_int_equal(uext4_getxattr(f, "system.posix_acl_access", buf, sizeof(buf)),
                         -ENODATA);
        assert_int_equal(set_mode(f, 0666), 0);
        assert_int_equal(open_by(&other, f, O_RDWR), 0);
        uext4_inode_put(f);
        t_tree_end(&t, "empty");
}

/* ---- what writing takes away ---- */

enum way {
        BUFFERED,
        DIRECT,
        QUEUED,
        TRUNCATED,
        ALLOCATED,
        NR_WAYS
};

static void write_one(struct t_tree *t, struct uext4_inode *f, enum way way, void *data)
{
        struct iovec iov = {data, 4096};
        struct uext4_completion done;
        struct uext4_request req = {.op = UEXT4_WRITE, .iov = &iov, .nr_iov = 1};
        struct uext4_queue *queue;
        struct uext4_file *file;

        assert_int_equal(
                uext4_open(f, O_RDWR | (way == DIRECT || way == QUEUED ? O_DIRECT : 0), &file),
                0);
        switch (way) {
        case TRUNCATED:
                assert_int_equal(uext4_truncate(file, 4096), 0);
                break;
        case ALLOCATED:
                assert_int_equal(uext4_fallocate(file, 0, 0, 4096), 0);
                break;
        case QUEUED:
                assert_int_equal(uext4_queue_new(t->fs, 1, &queue), 0);
                req.file = file;
                assert_int_equal(uext4_queue_submit(queue, &req, 1), 1);
                assert_int_equal(uext4_queue_wait(queue, &done, 1, 1, -1), 1);
                assert_int_equal(done.result, 4096);
                uext4_queue_free(queue);
                break;
        default:
                assert_int_equal(uext4_pwrite(file, data, 4096, 0), 4096);
        }
        uext4_close(file);
}

static void test_every_way_takes_away(void **state)
{
        void *data = t_alloc(4096);
        struct uext4_inode *f;
        struct t_tree t;
        char buf[64];

        (void)state;
        memset(data, 'x', 4096);
        t_tree_begin(&t, IMAGE, 16, NULL);
        f = make_by(&owner, &t, 0777);
        for (enum way way = 0; way < NR_WAYS; way++) {
                assert_int_equal(set_mode(f, 06777), 0);
                assert_int_equal(uext4_setxattr(f, "security.capability", capability,
                                                sizeof(capability), 0),
                                 0);
                uext4_cred_use(&keeper);
                write_one(&t, f, way, data);
                assert_int_equal(mode_of(f), 06777);
                assert_int_equal(uext4_getxattr(f, "security.capability", buf, sizeof(buf)),
                                 -ENODATA);
                uext4_cred_use(&other);
                write_one(&t, f, way, data);
                assert_int_equal(mode_of(f), 0777);
                uext4_cred_use(NULL);
        }
        assert_true(inode_in(f)->lacks & EXT4_LACKS_CAPABILITY);
        uext4_inode_put(f);
        t_tree_end(&t, "takes away");
        free(data);
}

/* A value in an inode of its own is deleted with the file's lock held. */
static void test_capability_in_an_inode(void **state)
{
        struct uext4_info before, after;
        struct uext4_inode *f;
        char *filler = t_alloc(4096);
        void *data = t_alloc(4096);
        struct t_tree t;
        char buf[64];

        (void)state;
        memset(filler, 'v', 4096);
        t_tree_begin(&t, "-b 1024 -I 256 -O ea_inode," T_DIRS, 16, NULL);
        f = make_by(&owner, &t, 0777);
        assert_int_equal(uext4_setxattr(f, "user.1", filler, 52, 0), 0);
        assert_int_equal(uext4_setxattr(f, "user.2", filler, 932, 0), 0);
        assert_int_equal(uext4_get_info(t.fs, &before), 0);
        assert_int_equal(
                uext4_setxattr(f, "security.capability", capability, sizeof(capability), 0), 0);
        assert_int_equal(uext4_get_info(t.fs, &after), 0);
        assert_int_equal(after.nr_inodes_free, before.nr_inodes_free - 1);
        write_one(&t, f, BUFFERED, data);
        assert_int_equal(uext4_getxattr(f, "security.capability", buf, sizeof(buf)), -ENODATA);
        assert_int_equal(uext4_get_info(t.fs, &after), 0);
        assert_int_equal(after.nr_inodes_free, before.nr_inodes_free);
        uext4_inode_put(f);
        t_tree_end(&t, "in an inode");
        free(filler);
        free(data);
}

/* NOWAIT is no worse off for all that: the file was looked at when it was opened. */
static void test_first_write_nowait(void **state)
{
        void *data = t_alloc(4096);
        const struct iovec iov = {data, 4096};
        struct uext4_inode *f;
        struct uext4_file *file;
        struct t_tree t;

        (void)state;
        t_tree_begin(&t, IMAGE, 16, NULL);
        f = make_by(&owner, &t, 0666);
        assert_int_equal(uext4_setxattr(f, "user.x", "1", 1, 0), 0);
        write_one(&t, f, DIRECT, data);
        uext4_inode_put(f);
        t_tree_again(&t, "nowait");
        f = t_tree_at(&t, "/f");
        assert_int_equal(uext4_open(f, O_RDWR | O_DIRECT, &file), 0);
        assert_true(inode_in(f)->lacks & EXT4_LACKS_CAPABILITY);
        /* It may not find the map without reading. */
        assert_int_equal(uext4_pread(file, data, 4096, 0), 4096);
        assert_int_equal(uext4_pwritev2(file, &iov, 1, 0, RWF_NOWAIT), 4096);
        uext4_close(file);
        uext4_inode_put(f);
        t_tree_end(&t, "nowait");
        free(data);
}

/* ---- space ---- */

/* What is reserved for root is not for everybody. */
static void test_reserved_space(void **state)
{
        static const struct uext4_cred strong = {
                .uid = 2, .gid = 2, .caps = 1ull << CAP_SYS_RESOURCE};
        struct uext4_inode *f;
        struct uext4_file *file;
        struct statvfs st;
        struct t_tree t;
        uint64_t len;

        (void)state;
        t_tree_begin(&t, "-b 1024 -m 20 -I 256 -O " T_DIRS, 16, NULL);
        f = make_by(&other, &t, 0600);
        assert_int_equal(uext4_open(f, O_RDWR, &file), 0);
        assert_int_equal(uext4_statfs(t.fs, &st), 0);
        len = (st.f_bavail + (st.f_bfree - st.f_bavail) / 2) * st.f_frsize;
        uext4_cred_use(&other);
        assert_int_equal(uext4_fallocate(file, 0, 0, len), -ENOSPC);
        uext4_cred_use(&strong);
        assert_int_equal(uext4_fallocate(file, 0, 0, len), 0);
        uext4_cred_use(NULL);
        uext4_close(file);
        uext4_inode_put(f);
        t_tree_end(&t, "reserved");
}

/* ---- threads ---- */

static void *ask(void *arg)
{
        struct uext4_inode *f = arg;
        const struct uext4_cred *mine = (uintptr_t)pthread_self() % 2 ? &owner : &other;

        for (unsigned i = 0; i < 2000; i++) {
                const struct uext4_cred *cred = i % 2 ? mine : &other;

                T_CHECK(uext4_cred_use(cred) == (i == 0 ? NULL : i % 2 ? &other : mine));
                T_CHECK(uext4_access(f, 4) == (cred == &owner ? 0 : -EACCES));
        }
        return NULL;
}

/* Each thread has its own. */
static void test_threads(void **state)
{
        pthread_t threads[4];
        struct uext4_inode *f;
        struct t_tree t;

        (void)state;
        t_tree_begin(&t, IMAGE, 8, NULL);
        f = make_by(&owner, &t, 0600);
        for (size_t i = 0; i < ARRAY_LEN(threads); i++)
                T_CHECK(pthread_create(&threads[i], NULL, ask, f) == 0);
        for (size_t i = 0; i < ARRAY_LEN(threads); i++)
                pthread_join(threads[i], NULL);
        uext4_inode_put(f);
        t_tree_end(&t, "threads");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_acl_comes_and_goes),
                cmocka_unit_test(test_damaged_acl),
                cmocka_unit_test(test_empty_acl),
                cmocka_unit_test(test_every_way_takes_away),
                cmocka_unit_test(test_capability_in_an_inode),
                cmocka_unit_test(test_first_write_nowait),
                cmocka_unit_test(test_reserved_space),
                cmocka_unit_test(test_threads),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
