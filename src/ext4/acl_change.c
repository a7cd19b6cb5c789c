/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * POSIX ACLs that are set, and those that new inodes inherit.
 *
 * An ACL that is stored is valid: the owner, named users, the group, named groups, the mask,
 * others, in this order; each once but for the named ones, with which there must be a mask.
 */

#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <string.h>
#include <sys/stat.h>

#include "ext4/balloc.h"
#include "ext4/super_write.h"
#include "ext4/xattr_change.h"
#include "util/alloc.h"

#define MAX_PERM (ACL_READ | ACL_WRITE | ACL_EXECUTE)

void ext4_acl_done(struct ext4_acl *acl)
{
        mem_free(acl->aces);
        *acl = (struct ext4_acl){0};
}

static bool is_named(uint16_t tag)
{
        return tag == ACL_USER || tag == ACL_GROUP;
}

/* ---- validity ---- */

/* The place of a tag in the order; 0 for none. */
static unsigned place_of(uint16_t tag)
{
        switch (tag) {
        case ACL_USER_OBJ:
                return 1;
        case ACL_USER:
                return 2;
        case ACL_GROUP_OBJ:
                return 3;
        case ACL_GROUP:
                return 4;
        case ACL_MASK:
                return 5;
        case ACL_OTHER:
                return 6;
        default:
                return 0;
        }
}

static bool is_valid(const struct ext4_acl *acl)
{
        unsigned seen = 0, last = 0;
        const unsigned must = 1u << 1 | 1u << 3 | 1u << 6;

        for (size_t i = 0; i < acl->nr; i++) {
                const struct ext4_acl_ace *ace = &acl->aces[i];
                unsigned place = place_of(ace->tag);

                if (place == 0 || (ace->perm & ~MAX_PERM) || place < last ||
                    (place == last && !is_named(ace->tag)) ||
                    (is_named(ace->tag) && ace->id == (uint32_t)ACL_UNDEFINED_ID))
                        return false;
                seen |= 1u << place;
                last = place;
        }
        if ((seen & must) != must)
                return false;
        return !(seen & (1u << 2 | 1u << 4)) || (seen & 1u << 5);
}

/* ---- between forms ---- */

static struct ext4_acl_ace ace_of(const struct ext4_acl_entry *entry)
{
        uint16_t tag = le16_get(entry->e_tag);

        return (struct ext4_acl_ace){tag, le16_get(entry->e_perm),
                                     is_named(tag) ? le32_get(entry->e_id)
                                                   : (uint32_t)ACL_UNDEFINED_ID};
}

int ext4_acl_of_xattr(struct ext4_acl *acl, const void *value, size_t size)
{
        const uint8_t *next = (const uint8_t *)value + sizeof(le32);
        le32 version;

        *acl = (struct ext4_acl){0};
        if (size == 0)
                return 0;
        if (size < sizeof(version) ||
            (size - sizeof(version)) % sizeof(struct ext4_acl_entry) != 0)
                return -EINVAL;
        memcpy(&version, value, sizeof(version));
        if (le32_get(version) != POSIX_ACL_XATTR_VERSION)
                return -EOPNOTSUPP;
        if (size == sizeof(version))
                return 0;
        acl->nr = (size - sizeof(version)) / sizeof(struct ext4_acl_entry);
        acl->aces = mem_alloc(acl->nr * sizeof(*acl->aces));
        if (!acl->aces)
                return -ENOMEM;
        for (size_t i = 0; i < acl->nr; i++, next += sizeof(struct ext4_acl_entry)) {
                struct ext4_acl_entry entry;

                memcpy(&entry, next, sizeof(entry));
                acl->aces[i] = ace_of(&entry);
        }
        if (is_valid(acl))
                return 0;
        ext4_acl_done(acl);
        return -EINVAL;
}

static int acl_of_disk(struct ext4_acl *acl, const struct ext4_where *at, const void *value,
                       size_t size)
{
        ssize_t len = ext4_acl_to_xattr(at, value, size, NULL, 0);
        _cleanup_mem_ void *xattr = NULL;
        int ret;

        *acl = (struct ext4_acl){0};
        if (len < 0)
                return (int)len;
        xattr = mem_alloc((size_t)len);
        if (!xattr)
                return -ENOMEM;
        len = ext4_acl_to_xattr(at, value, size, xattr, (size_t)len);
        if (len < 0)
                return (int)len;
        ret = ext4_acl_of_xattr(acl, xattr, (size_t)len);
        return ret == -EINVAL ? ext4_corrupt(at, "ACL: not in order, or something is missing")
                              : ret;
}

/* An ACL, as on disk.  0 bytes: there is none. */
static int read_value(struct ext4_inode *inode, uint8_t index, void **ret_value,
                      size_t *ret_size)
{
        const struct ext4_xattr_key key = {index, "", 0};
        ssize_t len = ext4_xattr_get_locked(inode, &key, NULL, 0);

        *ret_size = 0;
        if (len <= 0)
                return len == -ENODATA ? 0 : (int)len;
        *ret_value = mem_alloc((size_t)len);
        if (!*ret_value)
                return -ENOMEM;
        len = ext4_xattr_get_locked(inode, &key, *ret_value, (size_t)len);
        if (len < 0)
                return (int)len;
        *ret_size = (size_t)len;
        return 0;
}

int ext4_acl_read_locked(struct ext4_inode *inode, uint8_t index, struct ext4_acl *ret_acl)
{
        const struct ext4_where at = ext4_at(inode, 0);
        _cleanup_mem_ void *value = NULL;
        size_t size;
        int ret = read_value(inode, index, &value, &size);

        *ret_acl = (struct ext4_acl){0};
        return ret < 0 || size == 0 ? ret : acl_of_disk(ret_acl, &at, value, size);
}

void *ext4_acl_to_disk(const struct ext4_acl *acl, size_t *ret_size)
{
        const struct ext4_acl_header header = {.a_version = le32_make(EXT4_ACL_VERSION)};
        uint8_t *value = mem_alloc(sizeof(header) + acl->nr * sizeof(struct ext4_acl_entry));
        uint8_t *next = value + sizeof(header);

        if (!value)
                return NULL;
        memcpy(value, &header, sizeof(header));
        for (size_t i = 0; i < acl->nr; i++) {
                const struct ext4_acl_ace *ace = &acl->aces[i];
                const struct ext4_acl_entry entry = {le16_make(ace->tag), le16_make(ace->perm),
                                                     le32_make(ace->id)};
                size_t len = is_named(ace->tag) ? sizeof(struct ext4_acl_entry)
                                                : sizeof(struct ext4_acl_entry_short);

                memcpy(next, &entry, len);
                next += len;
        }
        *ret_size = (size_t)(next - value);
        return value;
}

/* ---- and modes ---- */

/* The entry that stands for the group's permissions in the mode is the mask if there is one. */
static struct ext4_acl_ace *class_of(const struct ext4_acl *acl, uint16_t tag)
{
        for (size_t i = 0; i < acl->nr; i++) {
                if (acl->aces[i].tag == tag)
                        return &acl->aces[i];
        }
        return NULL;
}

static struct ext4_acl_ace *group_class(const struct ext4_acl *acl)
{
        struct ext4_acl_ace *mask = class_of(acl, ACL_MASK);

        return mask ? mask : class_of(acl, ACL_GROUP_OBJ);
}

uint16_t ext4_acl_mode(const struct ext4_acl *acl, bool *ret_same)
{
        *ret_same = acl->nr == 3; /* valid, and none but the three that a mode has */
        return (uint16_t)(class_of(acl, ACL_USER_OBJ)->perm << 6 | group_class(acl)->perm << 3 |
                          class_of(acl, ACL_OTHER)->perm);
}

/* A new inode has what both its mode and the ACL allow. */
static uint16_t mask_with_mode(struct ext4_acl *acl, uint16_t mode)
{
        bool same;

        class_of(acl, ACL_USER_OBJ)->perm &= mode >> 6;
        group_class(acl)->perm &= mode >> 3;
        class_of(acl, ACL_OTHER)->perm &= mode;
        return (mode & (uint16_t)~0777u) | ext4_acl_mode(acl, &same);
}

int ext4_acl_with_mode(struct ext4_inode *inode, uint16_t mode, void **ret_value,
                       size_t *ret_size)
{
        struct ext4_acl acl;
        int ret = ext4_acl_read_locked(inode, EXT4_XATTR_INDEX_POSIX_ACL_ACCESS, &acl);

        *ret_value = NULL;
        if (ret == 0 && acl.nr > 0) {
                class_of(&acl, ACL_USER_OBJ)->perm = mode >> 6 & MAX_PERM;
                group_class(&acl)->perm = mode >> 3 & MAX_PERM;
                class_of(&acl, ACL_OTHER)->perm = mode & MAX_PERM;
                *ret_value = ext4_acl_to_disk(&acl, ret_size);
                ret = *ret_value ? 0 : -ENOMEM;
        }
        ext4_acl_done(&acl);
        return ret;
}

/* ---- inheriting ---- */

static int put_block(struct jbd2_handle *h, struct ext4_inode *dir, struct ext4_xattr_set *set,
                     struct ext4_inherited *inh)
{
        struct ext4_fs *fs = dir->fs;
        const struct ext4_alloc a = {
                .inode = dir,
                .len = 1,
                .flags = EXT4_ALLOC_META | ext4_alloc_rights(fs),
        };
        struct buf *buf = NULL;
        uint32_t nr;
        void *bytes;
        int ret = ext4_balloc(h, &a, &inh->block, &nr);

        if (ret < 0) {
                inh->block = 0;
                return ret;
        }
        ret = buf_new(fs->bufs, inh->block, &buf);
        if (ret == 0)
                ret = jbd2_get_create(h, buf, &bytes);
        if (ret == 0) {
                ext4_xattr_build_block(set, bytes, fs->block_size);
                ext4_xattr_block_seal(fs, inh->block, bytes);
                jbd2_dirty(h, buf);
        }
        buf_put(buf);
        inh->sectors = (uint64_t)fs->block_size >> 9 << fs->cluster_bits;
        return ret;
}

/* Each where there is room for it. */
static int place(struct jbd2_handle *h, struct ext4_inode *dir,
                 const struct ext4_xattr_item *items, size_t nr, struct ext4_inherited *inh)
{
        struct ext4_xattr_item in_ibody[2], in_block[2];
        struct ext4_xattr_set ibody = {in_ibody, 0, 2}, block = {in_block, 0, 2};

        for (size_t i = 0; i < nr; i++) {
                ext4_xattr_set_add(&ibody, &items[i]);
                if (ext4_xattr_set_size(&ibody) <= ext4_xattr_ibody_room(inh->ibody_size))
                        continue;
                ext4_xattr_set_remove(&ibody, ibody.nr - 1);
                ext4_xattr_set_add(&block, &items[i]);
                block.items[block.nr - 1].hash =
                        ext4_xattr_hash_value(&items[i].key, items[i].value, items[i].size);
        }
        if (ext4_xattr_set_size(&block) > ext4_xattr_block_room(dir->fs->block_size))
                return -ENOSPC;
        if (ibody.nr > 0) {
                inh->ibody = mem_alloc(inh->ibody_size);
                if (!inh->ibody)
                        return -ENOMEM;
                ext4_xattr_build_ibody(&ibody, inh->ibody, inh->ibody_size);
        }
        return block.nr > 0 ? put_block(h, dir, &block, inh) : 0;
}

static int inherit(struct jbd2_handle *h, struct ext4_inode *dir, struct ext4_acl *acl,
                   const void *value, size_t size, struct ext4_inherited *inh)
{
        struct ext4_xattr_item items[2];
        _cleanup_mem_ void *access = NULL;
        bool same;
        size_t nr = 0, len;
        int ret;

        inh->mode = mask_with_mode(acl, inh->mode);
        (void)ext4_acl_mode(acl, &same);
        if (!same) {
                access = ext4_acl_to_disk(acl, &len);
                if (!access)
                        return -ENOMEM;
                items[nr++] = (struct ext4_xattr_item){
                        .key = {EXT4_XATTR_INDEX_POSIX_ACL_ACCESS, "", 0},
                        .value = access,
                        .size = (uint32_t)len,
                };
        }
        if (S_ISDIR(inh->mode))
                items[nr++] = (struct ext4_xattr_item){
                        .key = {EXT4_XATTR_INDEX_POSIX_ACL_DEFAULT, "", 0},
                        .value = value,
                        .size = (uint32_t)size,
                };
        ret = place(h, dir, items, nr, inh);
        if (ret < 0)
                ext4_acl_inherit_undo(h, dir, inh);
        return ret;
}

int ext4_acl_inherit(struct jbd2_handle *h, struct ext4_inode *dir, uint16_t mode,
                     uint32_t ibody_size, struct ext4_inherited *ret_inherited)
{
        const struct ext4_where at = ext4_at(dir, 0);
        _cleanup_mem_ void *value = NULL;
        struct ext4_acl acl;
        size_t size;
        int ret;

        *ret_inherited = (struct ext4_inherited){.mode = mode, .ibody_size = ibody_size};
        if (S_ISLNK(mode) || !S_ISDIR(dir->mode))
                return 0;
        ret = read_value(dir, EXT4_XATTR_INDEX_POSIX_ACL_DEFAULT, &value, &size);
        if (ret < 0 || size == 0)
                return ret;
        ret = acl_of_disk(&acl, &at, value, size);
        ret_inherited->has_acl = ret == 0 && acl.nr > 0;
        if (ret_inherited->has_acl)
                ret = inherit(h, dir, &acl, value, size, ret_inherited);
        ext4_acl_done(&acl);
        return ret;
}

void ext4_acl_inherit_undo(struct jbd2_handle *h, struct ext4_inode *dir,
                           struct ext4_inherited *inh)
{
        uint32_t cluster = 1u << dir->fs->cluster_bits;

        mem_free(inh->ibody);
        inh->ibody = NULL;
        if (inh->block != 0 && ext4_bfree(h, dir, inh->block, cluster, EXT4_FREE_FORGET) < 0)
                ext4_abort(dir->fs, -EUCLEAN);
        inh->block = 0;
}
