/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ext4/xattr.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "ext4/perm.h"
#include "ext4/xattr_value.h"
#include "util/alloc.h"
#include "util/crc.h"

/*
 * Extended attributes: in the inode behind its fields, then in one block.
 *
 * Both are a run: a list of entries from the start, ended by four zero bytes, and values
 * that an entry names by offset.  A value may also be the data of an inode of its own
 * (ea_inode), which knows a hash of it.
 *
 * Invariants
 *  X1  A run is read only after its verifier passed: the list ends inside, each value lies
 *      behind the list and inside.
 *  X2  The inode lock is held from finding an entry until its value is read.  So the entry
 *      names the value all the time, and one in an inode of its own neither goes nor changes;
 *      that inode's lock is not needed.
 *
 * Where a name occurs twice the first counts, in the inode before in the block.  The hash in
 * an entry is not looked at: it adds nothing to the checksums, and kernels have disagreed about
 * the sign of the characters in it.
 */

struct run {
        const uint8_t *first; /* entry */
        const uint8_t *base;  /* offsets of values count from here */
        const uint8_t *end;
};

static const struct ext4_xattr_entry *entry_at(const uint8_t *p)
{
        return (const void *)p;
}

static const char *name_of(const struct ext4_xattr_entry *entry)
{
        return (const char *)(entry + 1);
}

static size_t entry_size(const struct ext4_xattr_entry *entry)
{
        return sizeof(*entry) + round_up_pow2(entry->e_name_len, 4);
}

static bool is_end(const uint8_t *p)
{
        return le32_get(*(const le32 *)(const void *)p) == 0;
}

/* ---- verifiers ---- */

static int check_value_inode(const struct ext4_where *at, const struct ext4_xattr_entry *entry)
{
        uint32_t ino = le32_get(entry->e_value_inum);
        uint32_t size = le32_get(entry->e_value_size);

        if (!ext4_has_incompat(at->fs, EXT4_INCOMPAT_EA_INODE))
                return ext4_corrupt(at, "attribute value in inode %u without the feature", ino);
        if (ino < at->fs->first_ino || ino > at->fs->nr_inodes)
                return ext4_corrupt(at, "attribute value in inode %u: there is none", ino);
        if (size > EXT4_XATTR_MAX_VALUE)
                return ext4_corrupt(at, "attribute value of %u bytes in inode %u", size, ino);
        return 0;
}

/* `list_end`: behind the zeros that end the list. */
static int check_value(const struct ext4_where *at, const struct run *run,
                       const struct ext4_xattr_entry *entry, const uint8_t *list_end)
{
        size_t room = (size_t)(run->end - run->base);
        size_t offs = le16_get(entry->e_value_offs);
        size_t size = le32_get(entry->e_value_size);

        if (le32_get(entry->e_value_inum) != 0)
                return check_value_inode(at, entry);
        if (size == 0)
                return 0; /* the offset means nothing then */
        if (offs > room || size > room - offs)
                return ext4_corrupt(at, "attribute value at %zu + %zu ends outside", offs,
                                    size);
        if (run->base + offs < list_end)
                return ext4_corrupt(at, "attribute value at %zu lies in the list of names",
                                    offs);
        return 0;
}

static const uint8_t *bad_list(const struct ext4_where *at, const char *what)
{
        (void)ext4_corrupt(at, "attributes: %s", what);
        return NULL;
}

/* Where the list ends, behind its zeros, every entry before that; NULL when that was not so. */
static const uint8_t *check_list(const struct ext4_where *at, const struct run *run)
{
        const uint8_t *p = run->first;

        for (;;) {
                const struct ext4_xattr_entry *entry = entry_at(p);
                size_t left = (size_t)(run->end - p);

                if (left < sizeof(le32))
                        return bad_list(at, "the list does not end");
                if (is_end(p))
                        return p + sizeof(le32);
                if (left < sizeof(*entry) || left < entry_size(entry))
                        return bad_list(at, "an entry ends outside");
                /* With its value elsewhere it would be four zeros: the end. */
                if (entry->e_name_len == 0 && entry->e_name_index == 0)
                        return bad_list(at, "an entry without a name");
                if (memchr(name_of(entry), '\0', entry->e_name_len))
                        return bad_list(at, "a zero byte in a name");
                p += entry_size(entry);
        }
}

static int check_run(const struct ext4_where *at, const struct run *run)
{
        const uint8_t *list_end = check_list(at, run);
        int ret = list_end ? 0 : -EUCLEAN;

        for (const uint8_t *p = run->first; ret == 0 && !is_end(p);
             p += entry_size(entry_at(p)))
                ret = check_value(at, run, entry_at(p), list_end);
        return ret;
}

/* False when there are no attributes in the inode: the space was never used. */
static bool ibody_run(const void *ibody, size_t size, struct run *ret_run)
{
        const struct ext4_xattr_ibody_header *header = ibody;

        if (size < sizeof(*header) || le32_get(header->h_magic) != EXT4_XATTR_MAGIC)
                return false;
        ret_run->first = (const uint8_t *)(header + 1);
        ret_run->base = ret_run->first;
        ret_run->end = (const uint8_t *)ibody + size;
        return true;
}

static struct run block_run(const void *data, size_t size)
{
        const uint8_t *start = data;

        return (struct run){start + sizeof(struct ext4_xattr_header), start, start + size};
}

int ext4_xattr_ibody_check(const struct ext4_where *at, const void *ibody, size_t size)
{
        struct run run;

        return ibody_run(ibody, size, &run) ? check_run(at, &run) : 0;
}

/* Of the block's number and its bytes, the checksum itself taken as zeros. */
static uint32_t block_csum(const struct ext4_fs *fs, const void *data, size_t size,
                           uint64_t blk)
{
        const size_t at = offsetof(struct ext4_xattr_header, h_checksum);
        const le64 nr = le64_make(blk);
        const le32 zero = le32_make(0);
        uint32_t crc = crc32c(fs->csum_seed, &nr, sizeof(nr));

        crc = crc32c(crc, data, at);
        crc = crc32c(crc, &zero, sizeof(zero));
        return crc32c(crc, (const uint8_t *)data + at + sizeof(zero), size - at - sizeof(zero));
}

void ext4_xattr_block_seal(const struct ext4_fs *fs, uint64_t blk, void *data)
{
        struct ext4_xattr_header *header = data;

        if (fs->has_metadata_csum)
                header->h_checksum = le32_make(block_csum(fs, data, fs->block_size, blk));
}

int ext4_xattr_block_verify(const void *data, size_t size, uint64_t blk, const void *arg)
{
        /* Reports go through the mount's log, which is all that changes. */
        struct ext4_fs *fs = (struct ext4_fs *)(uintptr_t)arg;
        const struct ext4_where at = {.fs = fs, .blk = blk};
        const struct ext4_xattr_header *header = data;
        const struct run run = block_run(data, size);

        if (le32_get(header->h_magic) != EXT4_XATTR_MAGIC)
                return ext4_corrupt(&at, "attribute block: magic %#x",
                                    le32_get(header->h_magic));
        if (ext4_verify_csums(fs) &&
            block_csum(fs, data, size, blk) != le32_get(header->h_checksum))
                return ext4_bad_csum(&at, "attribute block");
        if (le32_get(header->h_blocks) != 1)
                return ext4_corrupt(&at, "attribute block: part of %u blocks",
                                    le32_get(header->h_blocks));
        return check_run(&at, &run);
}

/* ---- values elsewhere, for who takes them away ---- */

static struct ext4_xattr_entry *first_outside(const struct run *run)
{
        for (const uint8_t *p = run->first; !is_end(p); p += entry_size(entry_at(p))) {
                if (le32_get(entry_at(p)->e_value_inum) != 0)
                        return (void *)(uintptr_t)p;
        }
        return NULL;
}

struct ext4_xattr_entry *ext4_xattr_ibody_outside(void *ibody, size_t size)
{
        struct run run;

        return ibody_run(ibody, size, &run) ? first_outside(&run) : NULL;
}

struct ext4_xattr_entry *ext4_xattr_block_outside(void *data, size_t size)
{
        const struct run run = block_run(data, size);

        return first_outside(&run);
}

/* ---- the attributes of an inode ---- */

struct attrs {
        struct run runs[2];
        unsigned nr;
        struct buf *buf;
};

static void attrs_done(struct attrs *attrs)
{
        buf_put(attrs->buf);
}

#define _cleanup_attrs_ __attribute__((cleanup(attrs_done)))

static void add_ibody(struct attrs *attrs, const struct ext4_inode *inode)
{
        if (ibody_run(inode->ibody, inode->ibody_size, &attrs->runs[attrs->nr]))
                attrs->nr++;
}

static int add_block(struct attrs *attrs, struct ext4_inode *inode)
{
        const struct buf_check check = {.verify = ext4_xattr_block_verify, .arg = inode->fs};
        int ret;

        if (inode->file_acl == 0)
                return 0;
        ret = buf_read(inode->fs->bufs, inode->file_acl, &check, 0, &attrs->buf);
        if (ret < 0)
                return ret;
        attrs->runs[attrs->nr++] = block_run(attrs->buf->data, inode->fs->block_size);
        return 0;
}

static bool entry_has_key(const struct ext4_xattr_entry *entry,
                          const struct ext4_xattr_key *key)
{
        return entry->e_name_index == key->index && entry->e_name_len == key->len &&
               memcmp(name_of(entry), key->name, key->len) == 0;
}

/* The first entry of this name and its run; NULL. */
static const struct ext4_xattr_entry *
find(const struct attrs *attrs, const struct ext4_xattr_key *key, const struct run **ret_run)
{
        for (unsigned i = 0; i < attrs->nr; i++) {
                const uint8_t *p = attrs->runs[i].first;

                for (; !is_end(p); p += entry_size(entry_at(p))) {
                        if (entry_has_key(entry_at(p), key)) {
                                *ret_run = &attrs->runs[i];
                                return entry_at(p);
                        }
                }
        }
        return NULL;
}

static const void *value_of(const struct run *run, const struct ext4_xattr_entry *entry)
{
        /* An empty value may have any offset. */
        return le32_get(entry->e_value_size) ? run->base + le16_get(entry->e_value_offs)
                                             : run->base;
}

ssize_t ext4_xattr_ibody_find(const struct ext4_inode *inode, uint8_t index, const char *name,
                              size_t name_len, const void **ret_value)
{
        const struct ext4_where at = ext4_at(inode, 0);
        const struct ext4_xattr_key key = {index, name, name_len};
        const struct ext4_xattr_entry *entry;
        const struct run *run;
        struct attrs attrs = {0};

        add_ibody(&attrs, inode);
        entry = find(&attrs, &key, &run);
        if (!entry)
                return -ENODATA;
        if (le32_get(entry->e_value_inum) != 0)
                return ext4_corrupt(&at, "attribute %.*s has its value in another inode",
                                    (int)name_len, name);
        *ret_value = value_of(run, entry);
        return le32_get(entry->e_value_size);
}

/* ---- values ---- */

/* A value in an inode of its own. */
struct value_ref {
        uint32_t ino; /* 0: it is not */
        uint32_t size;
};

static ssize_t copy_value(const void *value, size_t len, void *buf, size_t size)
{
        if (size == 0)
                return (ssize_t)len;
        if (len > size)
                return -ERANGE;
        memcpy(buf, value, len);
        return (ssize_t)len;
}

/* The value's length, and the value in `buf` or, if ret_ref->ino is set, elsewhere. */
static ssize_t find_value(struct ext4_inode *inode, const struct ext4_xattr_key *key, void *buf,
                          size_t size, struct value_ref *ret_ref)
{
        _cleanup_attrs_ struct attrs attrs = {0};
        const struct ext4_xattr_entry *entry;
        const struct run *run;

        add_ibody(&attrs, inode);
        entry = find(&attrs, key, &run);
        if (!entry) {
                int ret = add_block(&attrs, inode);

                if (ret < 0)
                        return ret;
                entry = find(&attrs, key, &run);
        }
        if (!entry)
                return -ENODATA;
        ret_ref->ino = le32_get(entry->e_value_inum);
        ret_ref->size = le32_get(entry->e_value_size);
        if (ret_ref->ino)
                return ret_ref->size;
        return copy_value(value_of(run, entry), ret_ref->size, buf, size);
}

static int check_ea_inode(struct ext4_inode *ea, uint32_t size)
{
        const struct ext4_where at = ext4_at(ea, 0);

        if (!(ea->flags & EXT4_FL_EA_INODE) || !S_ISREG(ea->mode) ||
            (ea->flags & EXT4_FL_INLINE_DATA))
                return ext4_corrupt(&at, "an attribute names it, but it holds no value");
        if (vfs_size(&ea->vfs) != size)
                return ext4_corrupt(&at,
                                    "it holds a value of %llu bytes, the attribute says %u",
                                    (unsigned long long)vfs_size(&ea->vfs), size);
        return 0;
}

static int read_value(struct ext4_inode *ea, const struct ext4_inode *owner, void *buf,
                      uint32_t size)
{
        const struct ext4_where at = ext4_at(ea, 0);
        int ret = check_ea_inode(ea, size);

        if (ret < 0)
                return ret;
        ret = ext4_read_data(ea, 0, buf, size);
        if (ret < 0)
                return ret;
        if (!ea->fs->opts.nocsum && !ext4_value_is_lustre(ea, owner) &&
            crc32c(ea->fs->csum_seed, buf, size) != (uint32_t)ea->atime.tv_sec)
                return ext4_bad_csum(&at, "attribute value");
        return 0;
}

/* X2 */
static ssize_t read_ea_inode(struct ext4_inode *owner, const struct value_ref *ref, void *buf)
{
        const struct ext4_where at = ext4_at(owner, 0);
        struct ext4_inode *ea;
        int ret = ext4_iget(owner->fs, ref->ino, &ea);

        if (ret == -ESTALE)
                return ext4_corrupt(&at, "attribute value in inode %u, which is free",
                                    ref->ino);
        if (ret < 0)
                return ret;
        ret = read_value(ea, owner, buf, ref->size);
        ext4_iput(ea);
        return ret < 0 ? ret : (ssize_t)ref->size;
}

ssize_t ext4_xattr_get_locked(struct ext4_inode *inode, const struct ext4_xattr_key *key,
                              void *buf, size_t size)
{
        struct value_ref ref = {0};
        ssize_t ret = find_value(inode, key, buf, size, &ref);

        if (ret < 0 || ref.ino == 0 || size == 0)
                return ret;
        if (ref.size > size)
                return -ERANGE;
        return read_ea_inode(inode, &ref, buf);
}

/* ---- by full name ---- */

/* What users see; other indices (inline data, encryption contexts) are internal. */
static const struct namespace
{
        const char *text;
        uint8_t index;
        enum {
                PREFIX, /* names follow */
                WHOLE,  /* the name on disk is empty */
        } kind;
}
namespaces[] = {
        {"user.", EXT4_XATTR_INDEX_USER, PREFIX},
        {"trusted.", EXT4_XATTR_INDEX_TRUSTED, PREFIX},
        {"security.", EXT4_XATTR_INDEX_SECURITY, PREFIX},
        {"system.posix_acl_access", EXT4_XATTR_INDEX_POSIX_ACL_ACCESS, WHOLE},
        {"system.posix_acl_default", EXT4_XATTR_INDEX_POSIX_ACL_DEFAULT, WHOLE},
        {"system.richacl", EXT4_XATTR_INDEX_RICHACL, WHOLE},
};

int ext4_xattr_key_of(const char *name, struct ext4_xattr_key *ret_key)
{
        if (strlen(name) > EXT4_NAME_LEN)
                return -ERANGE;
        for (size_t i = 0; i < ARRAY_LEN(namespaces); i++) {
                const struct namespace *ns = &namespaces[i];
                size_t len = strlen(ns->text);

                if (strncmp(name, ns->text, len) != 0)
                        continue;
                if (ns->kind == WHOLE && name[len] != '\0')
                        continue;
                if (ns->kind == PREFIX && name[len] == '\0')
                        return -EINVAL;
                *ret_key = (struct ext4_xattr_key){ns->index, name + len, strlen(name + len)};
                return 0;
        }
        return -EOPNOTSUPP;
}

static ssize_t get_acl_locked(struct ext4_inode *inode, const struct ext4_xattr_key *key,
                              void *buf, size_t size)
{
        const struct ext4_where at = ext4_at(inode, 0);
        _cleanup_mem_ void *raw = NULL;
        ssize_t len = ext4_xattr_get_locked(inode, key, NULL, 0);

        if (len <= 0) /* without any bytes it is none */
                return len < 0 ? len : -ENODATA;
        raw = mem_alloc((size_t)len);
        if (!raw)
                return -ENOMEM;
        len = ext4_xattr_get_locked(inode, key, raw, (size_t)len);
        if (len < 0)
                return len;
        return ext4_acl_to_xattr(&at, raw, (size_t)len, buf, size);
}

ssize_t ext4_xattr_get(struct ext4_inode *inode, const char *name, void *buf, size_t size)
{
        struct ext4_xattr_key key;
        ssize_t ret = ext4_xattr_key_of(name, &key);

        if (ret == 0)
                ret = ext4_may_get_xattr(inode, &key);
        if (ret < 0)
                return ret;
        rwsem_read_lock(&inode->vfs.lock);
        if (key.index == EXT4_XATTR_INDEX_POSIX_ACL_ACCESS ||
            key.index == EXT4_XATTR_INDEX_POSIX_ACL_DEFAULT)
                ret = get_acl_locked(inode, &key, buf, size);
        else
                ret = ext4_xattr_get_locked(inode, &key, buf, size);
        rwsem_read_unlock(&inode->vfs.lock);
        return ret;
}

/* ---- list ---- */

static const struct namespace *namespace_of(const struct ext4_xattr_entry *entry)
{
        for (size_t i = 0; i < ARRAY_LEN(namespaces); i++) {
                const struct namespace *ns = &namespaces[i];

                /* An empty name is the whole of some names, and none of the others. */
                if (ns->index == entry->e_name_index &&
                    (ns->kind == WHOLE) == (entry->e_name_len == 0))
                        return ns;
        }
        return NULL;
}

struct name_list {
        char *buf;
        size_t size; /* 0: only count */
        size_t used;
};

static int list_append(struct name_list *list, const char *text, size_t len)
{
        if (list->size != 0) {
                if (len > list->size - list->used)
                        return -ERANGE;
                memcpy(list->buf + list->used, text, len);
        }
        list->used += len;
        return 0;
}

static int list_entry(struct name_list *list, const struct attrs *attrs,
                      const struct ext4_xattr_entry *entry)
{
        const struct ext4_xattr_key key = {entry->e_name_index, name_of(entry),
                                           entry->e_name_len};
        const struct namespace *ns = namespace_of(entry);
        const struct run *run;
        int ret;

        if (!ns || find(attrs, &key, &run) != entry)
                return 0; /* internal, or hidden by the first of this name */
        if (ns->index == EXT4_XATTR_INDEX_TRUSTED && !ext4_capable(CAP_SYS_ADMIN))
                return 0;
        ret = list_append(list, ns->text, strlen(ns->text));
        if (ret == 0)
                ret = list_append(list, name_of(entry), entry->e_name_len);
        return ret < 0 ? ret : list_append(list, "", 1);
}

static int list_locked(struct ext4_inode *inode, struct name_list *list)
{
        _cleanup_attrs_ struct attrs attrs = {0};
        int ret;

        add_ibody(&attrs, inode);
        ret = add_block(&attrs, inode);
        for (unsigned i = 0; ret == 0 && i < attrs.nr; i++) {
                const uint8_t *p = attrs.runs[i].first;

                for (; ret == 0 && !is_end(p); p += entry_size(entry_at(p)))
                        ret = list_entry(list, &attrs, entry_at(p));
        }
        return ret;
}

ssize_t ext4_xattr_list(struct ext4_inode *inode, char *buf, size_t size)
{
        struct name_list list = {.buf = buf, .size = size};
        int ret;

        rwsem_read_lock(&inode->vfs.lock);
        ret = list_locked(inode, &list);
        rwsem_read_unlock(&inode->vfs.lock);
        return ret < 0 ? ret : (ssize_t)list.used;
}
