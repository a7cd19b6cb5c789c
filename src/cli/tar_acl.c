/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tar_acl.c - ACLs between archives and extended attributes (see tar.h).
 *
 * The value of an attribute is a version, 2, in 4 bytes, then entries of a tag in 2, the
 * permissions in 2, and an id in 4 bytes, all little-endian, in the order of tags and ids.
 */
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cli/owner.h"
#include "cli/tar.h"

#define VERSION 2u
#define NO_ID   UINT32_MAX

struct raw_entry {
        uint16_t tag, perm;
        uint32_t id;
};

/* The numbers are those of acl(5) as the kernel has them. */
static const struct {
        uint16_t raw;
        int tag;
        bool has_id;
} tags[] = {
        {0x01, ARCHIVE_ENTRY_ACL_USER_OBJ, false},  {0x02, ARCHIVE_ENTRY_ACL_USER, true},
        {0x04, ARCHIVE_ENTRY_ACL_GROUP_OBJ, false}, {0x08, ARCHIVE_ENTRY_ACL_GROUP, true},
        {0x10, ARCHIVE_ENTRY_ACL_MASK, false},      {0x20, ARCHIVE_ENTRY_ACL_OTHER, false},
};

#define NR_TAGS (sizeof(tags) / sizeof(tags[0]))

const char *tar_acl_name(int type)
{
        return type == ARCHIVE_ENTRY_ACL_TYPE_ACCESS ? "system.posix_acl_access"
                                                     : "system.posix_acl_default";
}

int tar_acl_type(const char *name)
{
        if (strcmp(name, tar_acl_name(ARCHIVE_ENTRY_ACL_TYPE_ACCESS)) == 0)
                return ARCHIVE_ENTRY_ACL_TYPE_ACCESS;
        if (strcmp(name, tar_acl_name(ARCHIVE_ENTRY_ACL_TYPE_DEFAULT)) == 0)
                return ARCHIVE_ENTRY_ACL_TYPE_DEFAULT;
        return 0;
}

static int add_entry(struct archive_entry *entry, int type, const struct raw_entry *raw)
{
        uint16_t tag = le16toh(raw->tag), perm = le16toh(raw->perm);

        for (size_t i = 0; i < NR_TAGS; i++) {
                int id = tags[i].has_id ? (int)le32toh(raw->id) : -1;

                if (tags[i].raw != tag)
                        continue;
                /* Their bits for the permissions are those of the mode, too. */
                if (archive_entry_acl_add_entry(entry, type, perm & 7, tags[i].tag, id, NULL) !=
                    ARCHIVE_OK)
                        return -EINVAL;
                return 0;
        }
        return -EINVAL;
}

int tar_acl_to_entry(struct archive_entry *entry, int type, const void *value, size_t size)
{
        struct raw_entry raw;
        uint32_t version;

        if (size < sizeof(version) || (size - sizeof(version)) % sizeof(raw) != 0)
                return -EINVAL;
        memcpy(&version, value, sizeof(version));
        if (le32toh(version) != VERSION)
                return -EINVAL;
        for (size_t at = sizeof(version); at < size; at += sizeof(raw)) {
                int ret;

                memcpy(&raw, (const uint8_t *)value + at, sizeof(raw));
                ret = add_entry(entry, type, &raw);
                if (ret < 0)
                        return ret;
        }
        return 0;
}

static int compare(const void *a, const void *b)
{
        const struct raw_entry *x = a, *y = b;
        uint16_t s = le16toh(x->tag), t = le16toh(y->tag);
        uint32_t i = le32toh(x->id), j = le32toh(y->id);

        return s != t ? (s > t) - (s < t) : (i > j) - (i < j);
}

/* Archives may have names instead of ids: those of the host, as tar takes them. */
static bool find_id(int tag, const char *name, int *ret_id)
{
        struct owner owner;
        char *text;
        int ret;

        if (*ret_id >= 0)
                return true;
        if (!name || !*name)
                return false;
        text = cli_printf("%s%s", tag == ARCHIVE_ENTRY_ACL_GROUP ? ":" : "", name);
        ret = owner_parse(text, &owner);
        free(text);
        if (ret == 0)
                *ret_id = (int)(tag == ARCHIVE_ENTRY_ACL_GROUP ? owner.gid : owner.uid);
        return ret == 0;
}

static bool fill(struct raw_entry *raw, int tag, int permset, int id, const char *name)
{
        for (size_t i = 0; i < NR_TAGS; i++) {
                if (tags[i].tag != tag)
                        continue;
                if (tags[i].has_id && !find_id(tag, name, &id))
                        return false;
                raw->tag = htole16(tags[i].raw);
                raw->perm = htole16((uint16_t)(permset & 7));
                raw->id = htole32(tags[i].has_id ? (uint32_t)id : NO_ID);
                return true;
        }
        return false;
}

void tar_acl_from_entry(struct archive_entry *entry, int type, void **ret_value,
                        size_t *ret_size)
{
        int nr = archive_entry_acl_reset(entry, type), n = 0, got, permset, tag, id = -1;
        struct raw_entry *raws;
        const uint32_t version = htole32(VERSION);
        const char *name;
        uint8_t *value;

        *ret_value = NULL;
        *ret_size = 0;
        if (nr <= 0)
                return;
        raws = cli_alloc((size_t)nr, sizeof(*raws));
        /* An entry for nobody here makes the ACL one that is not valid, which is said. */
        while (n < nr && archive_entry_acl_next(entry, type, &got, &permset, &tag, &id,
                                                &name) == ARCHIVE_OK) {
                if (!fill(&raws[n], tag, permset, id, name))
                        raws[n].tag = 0;
                n++;
        }
        qsort(raws, (size_t)n, sizeof(*raws), compare);
        *ret_size = sizeof(version) + (size_t)n * sizeof(*raws);
        value = cli_alloc(*ret_size, 1);
        memcpy(value, &version, sizeof(version));
        memcpy(value + sizeof(version), raws, (size_t)n * sizeof(*raws));
        free(raws);
        *ret_value = value;
}

uint32_t tar_acl_mode(struct archive_entry *entry)
{
        const int type = ARCHIVE_ENTRY_ACL_TYPE_ACCESS;
        uint32_t mode = archive_entry_mode(entry);
        int got, permset, tag, id;
        const char *name;

        if (archive_entry_acl_reset(entry, type) <= 0)
                return mode;
        while (archive_entry_acl_next(entry, type, &got, &permset, &tag, &id, &name) ==
               ARCHIVE_OK)
                if (tag == ARCHIVE_ENTRY_ACL_MASK)
                        mode = (mode & ~070u) | (uint32_t)(permset & 7) << 3;
        return mode;
}
