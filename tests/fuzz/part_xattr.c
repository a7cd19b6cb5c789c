/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Part of an image: the attributes of an inode, in its own space and in a block; some of them
 * ACLs, some with values in other inodes. */

#include "part.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "ext4/xattr.h"

#define MAX_NAMES 24u
#define MAX_LIST  65536u
#define MAX_VALUE 65536u
#define MAX_CALLS 8u

struct xattr_run {
        struct part_run *run;
        char names[MAX_NAMES][256 + 32];
        unsigned nr_names;
};

/* ---- where it is ---- */

static void find(struct part_place *place, struct ext4_inode *inode)
{
        part_add_piece(place, place->inode_pos + EXT4_GOOD_OLD_INODE_SIZE,
                       inode->fs->inode_size - EXT4_GOOD_OLD_INODE_SIZE);
        if (inode->file_acl)
                part_add_piece(place, inode->file_acl << inode->fs->block_bits,
                               inode->fs->block_size);
}

static void seal(const struct part_place *place, unsigned piece, uint8_t *bytes)
{
        const uint64_t blk = place->pieces[piece].pos >> place->fs.block_bits;

        if (piece == 1)
                ext4_xattr_block_seal(&place->fs, blk, bytes);
}

/* ---- the work ---- */

/* The value in a buffer of its very size; its length, or an error. */
static int64_t get(struct xattr_run *x, const char *name, uint8_t **ret_value)
{
        struct uext4_inode *inode = x->run->inode;
        int64_t len = PART_EXPECT(x->run, uext4_getxattr(inode, name, NULL, 0), ENODATA,
                                  EOPNOTSUPP, ERANGE, ENOENT, EINVAL);
        int64_t got;

        *ret_value = NULL;
        if (len < 0)
                return len;
        promise(len <= (int64_t)MAX_VALUE);
        *ret_value = must_alloc((size_t)len);
        if (len == 0)
                return 0;
        got = PART_EXPECT(x->run, uext4_getxattr(inode, name, *ret_value, (size_t)len));
        promise(got < 0 || got == len);
        if (len > 1)
                promise(uext4_getxattr(inode, name, *ret_value, (size_t)len - 1) < 0);
        return got;
}

static void read_all(struct xattr_run *x)
{
        int64_t size = PART_EXPECT(x->run, uext4_listxattr(x->run->inode, NULL, 0));
        uint8_t *value;
        char *list;

        x->nr_names = 0;
        if (size <= 0)
                return;
        promise(size <= MAX_LIST);
        list = must_alloc((size_t)size);
        promise(uext4_listxattr(x->run->inode, list, (size_t)size) == size);
        promise(list[size - 1] == 0);
        for (const char *name = list; name < list + size; name += strlen(name) + 1) {
                promise(strlen(name) > 0 && strlen(name) < sizeof(x->names[0]));
                if (x->nr_names < MAX_NAMES)
                        memcpy(x->names[x->nr_names++], name, strlen(name) + 1);
                get(x, name, &value);
                free(value);
        }
        free(list);
}

/* One that is there, or is likely not to be. */
static const char *choose_name(struct xattr_run *x)
{
        static const char *const others[] = {"user.one",
                                             "user.fresh",
                                             "trusted.longer-than-the-others-are",
                                             "security.capability",
                                             "user.x",
                                             "system.posix_acl_access",
                                             "system.posix_acl_default",
                                             "system.data"};

        if (x->nr_names > 0 && part_choose(x->run, 2))
                return x->names[part_choose(x->run, x->nr_names)];
        return others[part_choose(x->run, sizeof(others) / sizeof(others[0]))];
}

#define CHANGE_ERRORS \
        EEXIST, ENODATA, ENOSPC, EPERM, EINVAL, ERANGE, EOPNOTSUPP, E2BIG, ENOENT, EACCES

static bool is_plain(const char *name)
{
        return strncmp(name, "user.", 5) == 0 || strncmp(name, "trusted.", 8) == 0;
}

/* What was set is there. */
static void set(struct xattr_run *x)
{
        static const uint32_t sizes[] = {0, 1, 4, 20, 60, 100, 300, 700, 900, 2000, 9000};
        const size_t size = sizes[part_choose(x->run, sizeof(sizes) / sizeof(sizes[0]))];
        const char *name = choose_name(x);
        uint8_t *value = must_alloc(size);
        uint8_t *got = NULL;

        for (size_t i = 0; i < size; i++)
                value[i] = (uint8_t)part_choose(x->run, 256);
        if (PART_EXPECT(
                    x->run,
                    uext4_setxattr(x->run->inode, name, value, size,
                                   part_choose(x->run, 4) ? 0 : (int)part_choose(x->run, 3)),
                    CHANGE_ERRORS) == 0 &&
            is_plain(name)) {
                int64_t len = get(x, name, &got);

                promise(len < 0 ? x->run->is_damaged
                                : len == (int64_t)size && memcmp(got, value, size) == 0);
        }
        free(got);
        free(value);
}

static void take_away(struct xattr_run *x)
{
        const char *name = choose_name(x);
        int64_t ret =
                PART_EXPECT(x->run, uext4_removexattr(x->run->inode, name), CHANGE_ERRORS);

        if (ret == 0 && is_plain(name) && !x->run->is_damaged)
                promise(uext4_getxattr(x->run->inode, name, NULL, 0) == -ENODATA);
}

/* The ACL follows the mode. */
static void change_mode(struct xattr_run *x)
{
        const struct uext4_setattr set = {.mask = UEXT4_SET_MODE,
                                          .mode = (uint32_t)part_choose(x->run, 01000)};

        PART_EXPECT(x->run, uext4_setattr(x->run->inode, &set), ENOSPC, EPERM, EINVAL);
}

/* As somebody whom the ACL is about. */
static void ask_access(struct xattr_run *x)
{
        const struct uext4_cred somebody = {.uid = (uint32_t)part_choose(x->run, 2) + 1000,
                                            .gid = 100};
        struct uext4_inode *inode = NULL;
        int ret;

        uext4_cred_use(&somebody);
        ret = uext4_access(x->run->inode, 1 + (int)part_choose(x->run, 7));
        uext4_cred_use(NULL);
        PART_EXPECT(x->run, ret, EACCES, EPERM, EINVAL);
        ret = uext4_create(x->run->inode, "heir", 4, 0640, &inode); /* of the default ACL */
        if (PART_EXPECT(x->run, ret, ENOTDIR, EEXIST, ENOSPC, EPERM) == 0)
                uext4_inode_put(inode);
}

static void work(struct part_run *run)
{
        static void (*const calls[])(struct xattr_run * x) = {
                set, set, set, take_away, take_away, change_mode, ask_access};
        struct xattr_run x = {.run = run};
        read_all(&x);
        for (unsigned nr = 1 + (unsigned)part_choose(run, MAX_CALLS); nr > 0; nr--)
                calls[part_choose(run, sizeof(calls) / sizeof(calls[0]))](&x);
        read_all(&x);
}

const struct part part = {
        .images = {{"xattr-csum.img", "/a"},
                   {"xattr-csum.img", "/d"},
                   {"ea-inode.img", "/d/b"}},
        .find = find,
        .seal = seal,
        .work = work,
};
