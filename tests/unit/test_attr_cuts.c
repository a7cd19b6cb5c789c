/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The power is cut at each request of the device (t_cuts.h) while what an inode has beside its
 * name is changed: permissions and owner, times, project, size, the kind of its map.
 *
 * UEXT4_LONG=1: of each cut more of what may be left on the device.
 */
#include <fcntl.h>
#include <linux/fs.h>

#include "t_cuts.h"

#define OPTIONS                                                                            \
        "-b 1024 -I 256 -N 1200 -J size=1 -O project," T_EXT4 ",dir_index,filetype,large_" \
        "file,sparse_super"

static struct uext4_stat stat_of(struct mount *m, const char *path)
{
        struct uext4_inode *inode = at(m, path);
        struct uext4_stat st;

        T_CHECK(uext4_stat(inode, &st) == 0);
        uext4_inode_put(inode);
        return st;
}

/* ---- the file: pieces of 3 KiB, each of another byte, with holes between them ---- */

#define NR_PIECES 12u
#define PIECE     3072u
#define STRIDE    32768u
#define SIZE      (NR_PIECES * STRIDE)

static uint8_t byte_at(uint64_t pos)
{
        return pos % STRIDE < PIECE ? (uint8_t)(1 + pos / STRIDE) : 0;
}

static void put_file(struct mount *m, const struct uext4_setattr *set)
{
        struct uext4_inode *root = at(m, "/"), *inode;
        char piece[PIECE];
        struct uext4_file *file;

        T_CHECK(uext4_create(root, "f", 1, 0600, &inode) == 0);
        T_CHECK(uext4_open(inode, O_RDWR, &file) == 0);
        T_CHECK(uext4_truncate(file, SIZE) == 0);
        for (unsigned i = 0; i < NR_PIECES; i++) {
                memset(piece, byte_at(i * STRIDE), sizeof(piece));
                T_CHECK(uext4_pwrite(file, piece, PIECE, i * STRIDE) == PIECE);
        }
        uext4_close(file);
        T_CHECK(uext4_setattr(inode, set) == 0);
        uext4_inode_put(inode);
        uext4_inode_put(root);
}

/* Whether the file has its bytes up to `len`, then zeros, and ends at `size`. */
static bool is_whole(struct mount *m, uint64_t len, uint64_t size)
{
        struct uext4_inode *inode = at(m, "/f");
        char *data = t_alloc(2 * SIZE);
        struct uext4_file *file;
        ssize_t n;

        T_CHECK(uext4_open(inode, O_RDONLY, &file) == 0);
        n = uext4_pread(file, data, 2 * SIZE, 0);
        for (ssize_t i = 0; i < n; i++) {
                if ((uint8_t)data[i] != ((uint64_t)i < len ? byte_at((uint64_t)i) : 0))
                        n = -1;
        }
        uext4_close(file);
        uext4_inode_put(inode);
        free(data);
        return n == (ssize_t)size;
}

static void prepare(struct mount *m)
{
        const struct uext4_setattr set = {
                .mask = UEXT4_SET_MODE | UEXT4_SET_UID | UEXT4_SET_GID | UEXT4_SET_ATIME |
                        UEXT4_SET_MTIME,
                .mode = 06755,
                .uid = 1,
                .gid = 2,
                .atime = {100, 1},
                .mtime = {200, 2},
        };

        put_file(m, &set);
}

/* The old state, the new one, or neither. */
static int one_of(bool is_old, bool is_new)
{
        return is_old ? 0 : is_new ? 1 : -1;
}

static int set(struct mount *m, const struct uext4_setattr *attr)
{
        struct uext4_inode *inode = try_at(m, "/f");
        int ret = inode ? uext4_setattr(inode, attr) : -EIO;

        uext4_inode_put(inode);
        return ret;
}

/* ---- permissions and owner: the set-id bits go with the owner ---- */

static int run_chmod(struct mount *m)
{
        const struct uext4_setattr attr = {.mask = UEXT4_SET_MODE, .mode = 01640};

        return set(m, &attr);
}

static int look_chmod(struct mount *m)
{
        uint32_t mode = stat_of(m, "/f").mode & 07777;

        return one_of(mode == 06755, mode == 01640);
}

static int run_chown(struct mount *m)
{
        const struct uext4_setattr attr = {
                .mask = UEXT4_SET_UID | UEXT4_SET_GID, .uid = 70000, .gid = 80000};

        return set(m, &attr);
}

static int look_chown(struct mount *m)
{
        struct uext4_stat st = stat_of(m, "/f");
        uint32_t mode = st.mode & 07777;

        return one_of(mode == 06755 && st.uid == 1 && st.gid == 2,
                      mode == 0755 && st.uid == 70000 && st.gid == 80000);
}

/* With an ACL the permissions are in an attribute as well: user::7, user 5: 7, group::5,
 * mask::5, other::5. */
static void prepare_acl(struct mount *m)
{
        static const uint8_t acl[] = {2,   0,   0,   0,   1,   0,   7,  0,   255, 255, 255,
                                      255, 2,   0,   7,   0,   5,   0,  0,   0,   4,   0,
                                      5,   0,   255, 255, 255, 255, 16, 0,   5,   0,   255,
                                      255, 255, 255, 32,  0,   5,   0,  255, 255, 255, 255};
        struct uext4_inode *inode;

        prepare(m);
        inode = at(m, "/f");
        T_CHECK(uext4_setxattr(inode, "system.posix_acl_access", acl, sizeof(acl), 0) == 0);
        uext4_inode_put(inode);
}

static int look_acl(struct mount *m)
{
        struct uext4_inode *inode = at(m, "/f");
        uint8_t acl[64] = {0};
        ssize_t n = uext4_getxattr(inode, "system.posix_acl_access", acl, sizeof(acl));
        uint32_t mode = stat_of(m, "/f").mode & 0777;

        uext4_inode_put(inode);
        if (n != 44)
                return -1;
        return one_of(mode == 0755 && acl[6] == 7 && acl[30] == 5 && acl[38] == 5,
                      mode == 0640 && acl[6] == 6 && acl[30] == 4 && acl[38] == 0);
}

/* ---- times ---- */

static int run_utimes(struct mount *m)
{
        const struct uext4_setattr attr = {
                .mask = UEXT4_SET_ATIME | UEXT4_SET_MTIME,
                .atime = {5000000000, 999999999},
                .mtime = {-7, 3},
        };

        return set(m, &attr);
}

static int look_utimes(struct mount *m)
{
        struct uext4_stat st = stat_of(m, "/f");

        return one_of(st.atime.tv_sec == 100 && st.atime.tv_nsec == 1 &&
                              st.mtime.tv_sec == 200 && st.mtime.tv_nsec == 2,
                      st.atime.tv_sec == 5000000000 && st.atime.tv_nsec == 999999999 &&
                              st.mtime.tv_sec == -7 && st.mtime.tv_nsec == 3);
}

/* ---- project and flags ---- */

static int run_project(struct mount *m)
{
        const struct fsxattr x = {.fsx_xflags = FS_XFLAG_NODUMP, .fsx_projid = 4711};
        struct uext4_inode *inode = try_at(m, "/f");
        int ret = inode ? uext4_set_fsxattr(inode, &x) : -EIO;

        uext4_inode_put(inode);
        return ret;
}

static int look_project(struct mount *m)
{
        struct uext4_stat st = stat_of(m, "/f");
        bool nodump = st.flags & FS_NODUMP_FL;

        return one_of(st.projid == 0 && !nodump, st.projid == 4711 && nodump);
}

/* ---- the size ---- */

#define SHORT (3 * STRIDE + 1001u) /* in the midst of a piece */

static int resize(struct mount *m, uint64_t size)
{
        struct uext4_inode *inode = try_at(m, "/f");
        struct uext4_file *file;
        int ret = inode ? uext4_open(inode, O_RDWR, &file) : -EIO;

        uext4_inode_put(inode);
        if (ret < 0)
                return ret;
        ret = uext4_truncate(file, size);
        uext4_close(file);
        return ret;
}

static int run_shorter(struct mount *m)
{
        return resize(m, SHORT);
}

static int look_shorter(struct mount *m)
{
        return one_of(is_whole(m, SIZE, SIZE), is_whole(m, SHORT, SHORT));
}

/* What was cut off does not come back. */
static int run_shorter_and_longer(struct mount *m)
{
        int ret = resize(m, SHORT);

        return ret < 0 ? ret : resize(m, SIZE + 77);
}

static int look_longer(struct mount *m)
{
        return one_of(is_whole(m, SIZE, SIZE) || is_whole(m, SHORT, SHORT),
                      is_whole(m, SHORT, SIZE + 77));
}

/* ---- the kind of the map ---- */

static int set_extents(struct mount *m, bool on)
{
        struct uext4_inode *inode = try_at(m, "/f");
        int ret = inode ? uext4_set_flags(inode, on ? FS_EXTENT_FL : 0) : -EIO;

        uext4_inode_put(inode);
        return ret;
}

static int run_to_indirect(struct mount *m)
{
        return set_extents(m, false);
}

static int look_to_indirect(struct mount *m)
{
        bool extents = stat_of(m, "/f").flags & FS_EXTENT_FL;

        return is_whole(m, SIZE, SIZE) ? !extents : -1;
}

static void prepare_indirect(struct mount *m)
{
        prepare(m);
        T_CHECK(set_extents(m, false) == 0);
}

static int run_to_extents(struct mount *m)
{
        return set_extents(m, true);
}

static int look_to_extents(struct mount *m)
{
        bool extents = stat_of(m, "/f").flags & FS_EXTENT_FL;

        return is_whole(m, SIZE, SIZE) ? extents : -1;
}

/* ---- all of them ---- */

static const struct scenario scenarios[] = {
        {"chmod", prepare, run_chmod, look_chmod},
        {"chmod, ACL", prepare_acl, run_chmod, look_acl},
        {"chown", prepare, run_chown, look_chown},
        {"utimes", prepare, run_utimes, look_utimes},
        {"project", prepare, run_project, look_project},
        {"shorter", prepare, run_shorter, look_shorter},
        {"shorter and longer", prepare, run_shorter_and_longer, look_longer},
};

static const struct scenario maps[] = {
        {"to an indirect map", prepare, run_to_indirect, look_to_indirect},
        {"to extents", prepare_indirect, run_to_extents, look_to_extents},
};

static void test_attributes(void **state)
{
        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(scenarios); i++)
                run_scenario(&scenarios[i], OPTIONS);
}

static void test_maps(void **state)
{
        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(maps); i++) {
                run_scenario(&maps[i], OPTIONS);
                if (t_is_long())
                        run_scenario(&maps[i], OPTIONS ",orphan_file");
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_attributes),
                cmocka_unit_test(test_maps),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
