/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Part of an image: the blocks of a directory, with an index and without; or the bytes of one
 * that is inline. */

#include "part.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "ext4/dir.h"
#include "util/crc.h"

#define MAX_NAMES   32u
#define MAX_ENTRIES 4000u /* more cannot be in the blocks that there are */
#define MAX_CALLS   12u

#ifndef RENAME_NOREPLACE /* stdio.h has them with _GNU_SOURCE */
#define RENAME_NOREPLACE 1
#define RENAME_EXCHANGE  2
#endif

struct name {
        size_t len;
        char text[256];
};

struct dir_run {
        struct part_run *run;
        struct uext4_inode *file; /* to be linked; NULL: it is not there */
        struct name names[MAX_NAMES];
        unsigned nr_names;
};

/* ---- where it is ---- */

/* The fields of an inode from i_block on, but for the checksum and the generation. */
static void find_inline(struct part_place *place, uint32_t inode_size)
{
        const uint32_t block = offsetof(struct ext4_inode_disk, i_block);

        part_add_piece(place, place->inode_pos + block, EXT4_I_BLOCK_SIZE);
        part_add_piece(place, place->inode_pos + EXT4_GOOD_OLD_INODE_SIZE,
                       inode_size - EXT4_GOOD_OLD_INODE_SIZE);
}

static void find(struct part_place *place, struct ext4_inode *inode)
{
        ext4_lblk_t nr = 0;
        uint64_t blk;

        if (inode->flags & EXT4_FL_INLINE_DATA) {
                find_inline(place, inode->fs->inode_size);
                return;
        }
        promise(ext4_dir_nr_blocks(inode, &nr) == 0);
        for (ext4_lblk_t lblk = 0; lblk < nr && lblk < PART_MAX_PIECES; lblk++)
                if (part_block_of(inode, lblk, &blk))
                        part_add_piece(place, blk * inode->fs->block_size,
                                       inode->fs->block_size);
}

/* The checksum of an index is behind as many entries as it has room for. */
static void seal_index(const struct part_place *place, uint8_t *block, uint32_t offset)
{
        const struct ext4_dx_countlimit *cl = (const void *)(block + offset);
        const uint32_t count_end = offset + 8u * le16_get(cl->count);
        const uint32_t tail = offset + 8u * le16_get(cl->limit);
        const uint32_t zero = 0;
        uint32_t crc;

        if (tail + 8 > place->fs.block_size || count_end > place->fs.block_size)
                return;
        crc = crc32c(place->csum_seed, block, count_end);
        crc = crc32c(crc, block + tail, 4);
        crc = crc32c(crc, &zero, 4);
        memcpy(block + tail + 4, &crc, 4);
}

static void seal(const struct part_place *place, unsigned piece, uint8_t *bytes)
{
        const uint32_t size = place->fs.block_size;
        uint32_t crc;

        if (!place->fs.has_metadata_csum || place->pieces[piece].size != size)
                return;
        switch (ext4_dir_form(bytes, size)) {
        case EXT4_DX_ROOT:
                seal_index(place, bytes, EXT4_DX_ROOT_OFFSET);
                break;
        case EXT4_DX_NODE:
                seal_index(place, bytes, EXT4_DX_NODE_OFFSET);
                break;
        default:
                crc = crc32c(place->csum_seed, bytes, size - 12);
                memcpy(bytes + size - 4, &crc, 4);
        }
}

/* ---- the work ---- */

/* From first to last; whether there was damage. */
static bool read_all(struct dir_run *d)
{
        struct uext4_dirent e;
        uint64_t cookie = 0;
        bool is_damaged = false;
        unsigned nr = 0;
        int64_t ret;

        d->nr_names = 0;
        while ((ret = PART_EXPECT(d->run, uext4_readdir(d->run->inode, &cookie, &e))) != 0) {
                promise(nr++ < MAX_ENTRIES);
                if (ret < 0) {
                        is_damaged = true;
                        continue;
                }
                promise(e.name_len > 0 && e.name_len < sizeof(d->names[0].text));
                promise(memchr(e.name, 0, e.name_len) == NULL && e.name[e.name_len] == 0);
                if (d->nr_names < MAX_NAMES && e.name[0] != '.' &&
                    part_choose(d->run, 3) == 0) {
                        struct name *name = &d->names[d->nr_names++];

                        name->len = e.name_len;
                        memcpy(name->text, e.name, e.name_len);
                }
        }
        return is_damaged;
}

static struct name new_name(struct dir_run *d)
{
        struct name name = {.len = part_choose(d->run, 3)
                                           ? 1 + part_choose(d->run, 40)
                                           : 1 + part_choose(d->run, EXT4_NAME_LEN)};

        for (size_t i = 0; i < name.len; i++)
                name.text[i] = (char)('a' + part_choose(d->run, 26));
        return name;
}

static struct name some_name(struct dir_run *d)
{
        if (d->nr_names == 0 || part_choose(d->run, 6) == 0)
                return new_name(d);
        return d->names[part_choose(d->run, d->nr_names)];
}

#define NAME_ERRORS                                                                       \
        ENOENT, EEXIST, EISDIR, ENOTDIR, ENOTEMPTY, EPERM, EINVAL, ENOSPC, EMLINK, EXDEV, \
                EBUSY, EOPNOTSUPP, ENOKEY

static void look_up(struct dir_run *d)
{
        struct name name = some_name(d);
        struct uext4_inode *inode;

        if (PART_EXPECT(d->run, uext4_lookup(d->run->inode, name.text, name.len, &inode),
                        ENOENT) == 0)
                uext4_inode_put(inode);
}

/* What was entered is there. */
static void add_link(struct dir_run *d)
{
        struct uext4_inode *inode;
        struct name name = new_name(d);

        if (!d->file ||
            PART_EXPECT(d->run, uext4_link(d->file, d->run->inode, name.text, name.len),
                        NAME_ERRORS) < 0)
                return;
        if (PART_EXPECT(d->run, uext4_lookup(d->run->inode, name.text, name.len, &inode)) < 0)
                return;
        promise(inode == d->file);
        uext4_inode_put(inode);
        if (d->nr_names < MAX_NAMES)
                d->names[d->nr_names++] = name;
}

/* Long names, until blocks have to be split. */
static void add_many(struct dir_run *d)
{
        for (unsigned n = 2 + (unsigned)part_choose(d->run, 12); n > 0; n--)
                add_link(d);
}

static void make_one(struct dir_run *d)
{
        struct name name = new_name(d);
        int ret;

        if (part_choose(d->run, 2))
                ret = uext4_mkdir(d->run->inode, name.text, name.len, 0755, NULL);
        else
                ret = uext4_create(d->run->inode, name.text, name.len, 0644, NULL);
        PART_EXPECT(d->run, ret, NAME_ERRORS);
}

static void remove_one(struct dir_run *d)
{
        struct name name = some_name(d);
        int64_t ret;

        ret = PART_EXPECT(d->run, uext4_unlink(d->run->inode, name.text, name.len),
                          NAME_ERRORS);
        if (ret == -EISDIR)
                PART_EXPECT(d->run, uext4_rmdir(d->run->inode, name.text, name.len),
                            NAME_ERRORS);
}

static void rename_one(struct dir_run *d)
{
        static const unsigned flags[] = {0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE};
        struct name from = some_name(d), to = some_name(d);

        PART_EXPECT(d->run,
                    uext4_rename(d->run->inode, from.text, from.len, d->run->inode, to.text,
                                 to.len, flags[part_choose(d->run, 4)]),
                    NAME_ERRORS);
}

/* From anywhere: a cookie that nobody gave. */
static void read_from(struct dir_run *d)
{
        uint64_t cookie = part_choose(d->run, 1ull << part_choose(d->run, 63));
        struct uext4_dirent e;

        for (unsigned n = 0; n < 4; n++)
                if (PART_EXPECT(d->run, uext4_readdir(d->run->inode, &cookie, &e), EINVAL) == 0)
                        return;
}

static void change(struct dir_run *d)
{
        static void (*const calls[])(struct dir_run * d) = {
                look_up,    add_link,   add_link,   add_many,   add_many,   make_one,
                remove_one, remove_one, remove_one, rename_one, rename_one, read_from};

        for (unsigned nr = 1 + (unsigned)part_choose(d->run, MAX_CALLS); nr > 0; nr--)
                calls[part_choose(d->run, sizeof(calls) / sizeof(calls[0]))](d);
}

/* What was good and is changed without a word stays good. */
static void work(struct part_run *run)
{
        struct dir_run d = {.run = run};
        struct uext4_stat st;

        promise(uext4_stat(run->inode, &st) == 0);
        if (!S_ISDIR(st.mode))
                return;
        if (PART_EXPECT(run, uext4_resolve(run->fs, "/a", 0, &d.file), ENOENT) < 0)
                d.file = NULL;
        read_all(&d);
        change(&d);
        if (!run->is_damaged)
                promise(!read_all(&d));
        if (d.file)
                uext4_inode_put(d.file);
}

const struct part part = {
        .images = {{"htree-csum.img", "/h"}, {"inline-csum.img", "/i"}},
        .find = find,
        .seal = seal,
        .work = work,
};
