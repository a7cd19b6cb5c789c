/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tar_entry.c - an entry of an archive as something to be copied (see tar.h). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cli/tar.h"

/* ---- contents ----------------------------------------------------------- */

/* What the archive gives, block by block, each at its place. */
struct stream {
        struct archive *a;
        struct archive_entry *entry;
        const void *block;
        size_t len;
        int64_t pos;
        bool ended;
};

static int stream_next_data(struct content *c, uint64_t pos, uint64_t end, uint64_t *ret_pos,
                            uint64_t *ret_end)
{
        const struct stream *s = c->stream;
        int64_t from, len;

        *ret_pos = pos;
        *ret_end = end;
        if (archive_entry_sparse_reset(s->entry) == 0)
                return pos < end;
        while (archive_entry_sparse_next(s->entry, &from, &len) == ARCHIVE_OK) {
                uint64_t stop = (uint64_t)from + (uint64_t)len;

                if (from < 0 || len < 0)
                        return -EUCLEAN;
                if (stop <= pos || len == 0)
                        continue;
                if ((uint64_t)from >= end)
                        return 0;
                *ret_pos = (uint64_t)from > pos ? (uint64_t)from : pos;
                *ret_end = stop < end ? stop : end;
                return 1;
        }
        return 0;
}

static int stream_fetch(struct stream *s)
{
        int ret = archive_read_data_block(s->a, &s->block, &s->len, &s->pos);

        s->ended = ret == ARCHIVE_EOF;
        if (s->ended || ret >= ARCHIVE_WARN)
                return 0;
        return archive_errno(s->a) > 0 ? -archive_errno(s->a) : -EIO;
}

static int stream_read(struct content *c, void *buf, size_t len, uint64_t pos)
{
        struct stream *s = c->stream;
        uint64_t end = pos + len;

        memset(buf, 0, len);
        while (!s->ended) {
                uint64_t from = (uint64_t)s->pos, to = from + s->len;
                int ret;

                if (from < end && to > pos) { /* what of the block is wanted */
                        uint64_t first = from > pos ? from : pos, last = to < end ? to : end;

                        memcpy((uint8_t *)buf + (first - pos),
                               (const uint8_t *)s->block + (first - from),
                               (size_t)(last - first));
                }
                if (to >= end && s->len > 0)
                        break;
                ret = stream_fetch(s);
                if (ret < 0)
                        return ret;
        }
        return 0;
}

static void stream_close(struct content *c)
{
        free(c->stream);
}

/* ---- an entry as an object ---------------------------------------------- */

static int entry_readlink(const struct object *o, char *buf, size_t size)
{
        const char *target = archive_entry_symlink(o->entry);

        if (!target)
                return -EINVAL;
        if (strlen(target) >= size)
                return -ENAMETOOLONG;
        memcpy(buf, target, strlen(target) + 1);
        return 0;
}

/* Append a name to a list, or only count it. */
static void list_name(const char *name, char *buf, size_t size, size_t *used)
{
        size_t len = strlen(name) + 1;

        if (*used + len <= size)
                memcpy(buf + *used, name, len);
        *used += len;
}

static ssize_t entry_listxattr(const struct object *o, char *buf, size_t size)
{
        static const int types[] = {ARCHIVE_ENTRY_ACL_TYPE_ACCESS,
                                    ARCHIVE_ENTRY_ACL_TYPE_DEFAULT};
        struct archive_entry *entry = o->entry;
        const char *name;
        const void *value;
        size_t len, used = 0;

        archive_entry_xattr_reset(entry);
        while (archive_entry_xattr_next(entry, &name, &value, &len) == ARCHIVE_OK)
                if (!tar_acl_type(name))
                        list_name(name, buf, size, &used);
        for (size_t i = 0; i < 2; i++)
                if (archive_entry_acl_count(entry, types[i]) > 0)
                        list_name(tar_acl_name(types[i]), buf, size, &used);
        return size > 0 && used > size ? -ERANGE : (ssize_t)used;
}

static ssize_t give_value(const void *value, size_t len, void *buf, size_t size)
{
        if (size > 0 && len > size)
                return -ERANGE;
        if (size > 0)
                memcpy(buf, value, len);
        return (ssize_t)len;
}

static ssize_t entry_getxattr(const struct object *o, const char *name, void *buf, size_t size)
{
        struct archive_entry *entry = o->entry;
        int type = tar_acl_type(name);
        const char *other;
        const void *value;
        size_t len;
        void *acl;
        ssize_t ret;

        if (type) {
                tar_acl_from_entry(entry, type, &acl, &len);
                ret = give_value(acl, len, buf, size);
                free(acl);
                return ret;
        }
        archive_entry_xattr_reset(entry);
        while (archive_entry_xattr_next(entry, &other, &value, &len) == ARCHIVE_OK)
                if (strcmp(name, other) == 0)
                        return give_value(value, len, buf, size);
        return -ENODATA;
}

static int entry_open(const struct object *o, struct content *ret_content)
{
        static const struct content_ops ops = {stream_next_data, stream_read, stream_close};
        struct stream *s = cli_alloc(1, sizeof(*s));

        s->a = o->archive;
        s->entry = o->entry;
        *ret_content = (struct content){.ops = &ops, .stream = s};
        return 0;
}

struct object tar_object(struct archive *a, struct archive_entry *entry, char *name)
{
        static const struct object_ops ops = {entry_readlink, entry_listxattr, entry_getxattr,
                                              entry_open};
        struct object o = {
                .ops = &ops,
                .source = name,
                .archive = a,
                .entry = entry,
                .st =
                        {
                                .mode = tar_acl_mode(entry),
                                .nlink = 1,
                                .uid = (uint32_t)archive_entry_uid(entry),
                                .gid = (uint32_t)archive_entry_gid(entry),
                                .rdev_major = (uint32_t)archive_entry_rdevmajor(entry),
                                .rdev_minor = (uint32_t)archive_entry_rdevminor(entry),
                                .mtime = {archive_entry_mtime(entry),
                                          archive_entry_mtime_nsec(entry)},
                        },
        };

        if (archive_entry_size(entry) > 0)
                o.st.size = (uint64_t)archive_entry_size(entry);
        o.st.atime = o.st.mtime;
        if (archive_entry_atime_is_set(entry))
                o.st.atime = (struct timespec){archive_entry_atime(entry),
                                               archive_entry_atime_nsec(entry)};
        return o;
}
