/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <string.h>

#include "ext4/xattr.h"

/*
 * POSIX ACLs.  On disk an entry has an id only where it means something (named users and
 * groups); getxattr(2) shows all entries in one size.  That form has the same fields as the
 * longer one on disk.
 */

#define MAX_PERM (ACL_READ | ACL_WRITE | ACL_EXECUTE)

struct acl_reader {
        const struct ext4_where *at;
        const uint8_t *next;
        const uint8_t *end;
};

/* 0 for a tag that there is not. */
static size_t size_of_tag(uint16_t tag)
{
        switch (tag) {
        case ACL_USER:
        case ACL_GROUP:
                return sizeof(struct ext4_acl_entry);
        case ACL_USER_OBJ:
        case ACL_GROUP_OBJ:
        case ACL_MASK:
        case ACL_OTHER:
                return sizeof(struct ext4_acl_entry_short);
        default:
                return 0;
        }
}

/* 1 and an entry with an id, 0 at the end, -EUCLEAN. */
static int acl_next(struct acl_reader *r, struct ext4_acl_entry *ret_entry)
{
        struct ext4_acl_entry entry = {.e_id = le32_make((uint32_t)ACL_UNDEFINED_ID)};
        size_t left = (size_t)(r->end - r->next);
        size_t size;

        if (left == 0)
                return 0;
        if (left < sizeof(struct ext4_acl_entry_short))
                return ext4_corrupt(r->at, "ACL: %zu bytes at its end", left);
        memcpy(&entry, r->next, sizeof(struct ext4_acl_entry_short));
        size = size_of_tag(le16_get(entry.e_tag));
        if (size == 0)
                return ext4_corrupt(r->at, "ACL: tag %#x", le16_get(entry.e_tag));
        if (left < size)
                return ext4_corrupt(r->at, "ACL: the last entry is cut");
        if (le16_get(entry.e_perm) & ~MAX_PERM)
                return ext4_corrupt(r->at, "ACL: permissions %#x", le16_get(entry.e_perm));
        memcpy(&entry, r->next, size);
        r->next += size;
        *ret_entry = entry;
        return 1;
}

ssize_t ext4_acl_to_xattr(const struct ext4_where *at, const void *value, size_t len, void *buf,
                          size_t size)
{
        const le32 version = le32_make(POSIX_ACL_XATTR_VERSION);
        struct acl_reader reader = {
                at,
                (const uint8_t *)value + sizeof(struct ext4_acl_header),
                (const uint8_t *)value + len,
        };
        struct ext4_acl_header header;
        struct ext4_acl_entry entry = {0};
        size_t used = sizeof(version);
        int ret;

        if (len < sizeof(header))
                return ext4_corrupt(at, "ACL: %zu bytes", len);
        memcpy(&header, value, sizeof(header));
        if (le32_get(header.a_version) != EXT4_ACL_VERSION)
                return ext4_corrupt(at, "ACL: version %u", le32_get(header.a_version));
        if (size >= sizeof(version))
                memcpy(buf, &version, sizeof(version));
        while ((ret = acl_next(&reader, &entry)) > 0) {
                if (size >= used + sizeof(entry))
                        memcpy((char *)buf + used, &entry, sizeof(entry));
                used += sizeof(entry);
        }
        if (ret < 0)
                return ret;
        if (size != 0 && size < used)
                return -ERANGE;
        return (ssize_t)used;
}
