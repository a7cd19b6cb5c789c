/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ext4/dir.h"

#include <string.h>
#include <sys/stat.h>

#include "util/crc.h"

/*
 * Directories: blocks of entries, and finding a name in them.  Reading them is dir_read.c.
 *
 * The entries of a block fill it without a gap, so that a block is walked from one to the next;
 * an unused one has inode 0.  With metadata checksums the last twelve bytes are an unused entry
 * of a special form that holds the checksum.  A hashed directory has blocks of its index among
 * the others: for who walks they are unused space, apart from "." and ".." at
 * the start of the first.  Only a lookup uses the index (htree.c).
 *
 * Invariant
 *  D1  A walk sees verified bytes only: a block through ext4_dir_block_verify(), an inline
 *      directory through ext4_inline_load().
 *
 * A hole holds no names: it is said and skipped.  A block that is damaged hides names: a lookup
 * goes on behind it, and if the name is nowhere else the answer is the damage, not -ENOENT.
 *
 * On purpose: names of a casefolded directory are compared byte for byte, and an encrypted
 * directory is not read at all.
 */

/* Of ".", and no entry is shorter: one with a name of one byte. */
#define MIN_REC_LEN 12

uint32_t ext4_dir_rec_len(uint32_t block_size, le16 rec_len)
{
        uint32_t v = le16_get(rec_len);

        if (block_size < 65536)
                return v;
        if (v == 65535 || v == 0)
                return block_size;
        return (v & 65532) | (v & 3) << 16;
}

static const char *name_of(const struct ext4_dir_entry *entry)
{
        return (const char *)(entry + 1);
}

static bool is_dot(const char *name, size_t len)
{
        return len == 1 && name[0] == '.';
}

static bool is_dotdot(const char *name, size_t len)
{
        return len == 2 && name[0] == '.' && name[1] == '.';
}

const struct ext4_dir_entry *ext4_dir_walk_next(struct ext4_dir_walk *walk)
{
        const struct ext4_dir_entry *entry = (const void *)(walk->data + walk->pos);

        if (walk->pos >= walk->size)
                return NULL;
        walk->pos += ext4_dir_rec_len(walk->block_size, entry->rec_len);
        return entry;
}

/* ---- the verifier ---- */

static int check_name(const struct ext4_where *at, const struct ext4_dir_entry *entry,
                      uint32_t pos)
{
        /* Without the filetype feature name_len has 16 bits on paper.  No name needs the
         * upper eight, and they keep old types where the feature was taken away. */
        size_t len = entry->name_len;

        if (len == 0)
                return ext4_corrupt(at, "directory entry at %u: the name is empty", pos);
        if (memchr(name_of(entry), '/', len))
                return ext4_corrupt(at, "directory entry at %u: a slash in the name", pos);
        if (memchr(name_of(entry), '\0', len))
                return ext4_corrupt(at, "directory entry at %u: a zero byte in the name", pos);
        return 0;
}

/* `left`: bytes from the entry to the end of the run; at least MIN_REC_LEN. */
static int check_entry(const struct ext4_where *at, const struct ext4_dir_entry *entry,
                       uint32_t pos, uint32_t left)
{
        uint32_t rec_len = ext4_dir_rec_len(at->fs->block_size, entry->rec_len);

        if (rec_len < MIN_REC_LEN)
                return ext4_corrupt(at, "directory entry at %u: length %u is too small", pos,
                                    rec_len);
        if (rec_len % 4 != 0)
                return ext4_corrupt(at, "directory entry at %u: length %u is not aligned", pos,
                                    rec_len);
        if (rec_len < ext4_dir_entry_size(entry->name_len))
                return ext4_corrupt(at,
                                    "directory entry at %u: length %u is less than its name",
                                    pos, rec_len);
        if (rec_len > left)
                return ext4_corrupt(at, "directory entry at %u: length %u leaves the block",
                                    pos, rec_len);
        if (le32_get(entry->inode) > at->fs->nr_inodes)
                return ext4_corrupt(at, "directory entry at %u: no inode %u", pos,
                                    le32_get(entry->inode));
        if (le32_get(entry->inode) != 0)
                return check_name(at, entry, pos);
        return 0;
}

int ext4_dir_check_entries(const struct ext4_where *at, const void *data, uint32_t size)
{
        uint32_t pos = 0;

        while (pos < size) {
                const struct ext4_dir_entry *entry =
                        (const void *)((const uint8_t *)data + pos);
                int ret;

                if (size - pos < MIN_REC_LEN)
                        return ext4_corrupt(at, "directory entry at %u: no room at the end",
                                            pos);
                ret = check_entry(at, entry, pos, size - pos);
                if (ret < 0)
                        return ret;
                pos += ext4_dir_rec_len(at->fs->block_size, entry->rec_len);
        }
        return 0;
}

/* A block of entries; with checksums they end where the tail begins. */
static int check_leaf(const struct ext4_where *at, uint32_t csum_seed, const void *data,
                      uint32_t size)
{
        const uint32_t end = size - (uint32_t)sizeof(struct ext4_dir_tail);
        const struct ext4_dir_tail *tail = (const void *)((const uint8_t *)data + end);

        if (!ext4_verify_csums(at->fs))
                return ext4_dir_check_entries(at, data, size);
        if (le32_get(tail->det_reserved_zero1) != 0 ||
            le16_get(tail->det_rec_len) != sizeof(*tail) || tail->det_reserved_zero2 != 0 ||
            tail->det_reserved_ft != EXT4_FT_DIR_CSUM)
                return ext4_corrupt(at, "directory block: no checksum at its end");
        if (crc32c(csum_seed, data, end) != le32_get(tail->det_checksum))
                return ext4_bad_csum(at, "directory block");
        return ext4_dir_check_entries(at, data, end);
}

enum ext4_dir_form ext4_dir_form(const void *data, uint32_t size)
{
        const struct ext4_dir_entry *first = data;
        const struct ext4_dir_entry *second =
                (const void *)((const uint8_t *)data + MIN_REC_LEN);
        uint32_t rec_len = ext4_dir_rec_len(size, first->rec_len);

        if (rec_len == size && le32_get(first->inode) == 0 && first->name_len == 0)
                return EXT4_DX_NODE;
        if (rec_len == MIN_REC_LEN &&
            ext4_dir_rec_len(size, second->rec_len) == size - MIN_REC_LEN)
                return EXT4_DX_ROOT;
        return EXT4_DIR_LEAF;
}

int ext4_dir_block_verify(const void *data, size_t size, uint64_t blk, const void *arg)
{
        const struct ext4_inode *dir = arg;
        const struct ext4_where at = ext4_at(dir, blk);
        enum ext4_dir_form form = EXT4_DIR_LEAF;
        int ret;

        if (dir->flags & EXT4_FL_INDEX)
                form = ext4_dir_form(data, (uint32_t)size);
        if (form == EXT4_DIR_LEAF)
                return check_leaf(&at, dir->csum_seed, data, (uint32_t)size);
        /* Of an index block only the checksum matters here. */
        if (ext4_verify_csums(at.fs)) {
                ret = ext4_dx_check_tail(&at, dir->csum_seed, data, (uint32_t)size,
                                         form == EXT4_DX_ROOT ? EXT4_DX_ROOT_OFFSET
                                                              : EXT4_DX_NODE_OFFSET);
                if (ret < 0)
                        return ret;
        }
        return ext4_dir_check_entries(&at, data, (uint32_t)size);
}

/* ---- the blocks of a directory ---- */

int ext4_dir_can_read(const struct ext4_inode *dir)
{
        if (!S_ISDIR(dir->mode))
                return -ENOTDIR;
        if (dir->flags & EXT4_FL_ENCRYPT)
                return -ENOKEY;
        return 0;
}

int ext4_dir_nr_blocks(struct ext4_inode *dir, ext4_lblk_t *ret_nr)
{
        const struct ext4_where at = ext4_at(dir, 0);
        const struct ext4_fs *fs = dir->fs;
        uint64_t size = vfs_size(&dir->vfs);

        if (size & (fs->block_size - 1))
                return ext4_corrupt(&at, "directory of %llu bytes, not whole blocks",
                                    (unsigned long long)size);
        /* Directories have no holes.  This bounds every loop over the blocks of one. */
        if (size >> fs->block_bits > min_t(uint64_t, fs->nr_blocks, EXT4_NR_LBLKS))
                return ext4_corrupt(&at, "directory of %llu bytes in a smaller file system",
                                    (unsigned long long)size);
        *ret_nr = (ext4_lblk_t)(size >> fs->block_bits);
        return 0;
}

/* The first block behind the hole at lblk, which is said. */
static int skip_hole(struct ext4_inode *dir, ext4_lblk_t lblk, uint64_t *ret_next)
{
        const struct ext4_where at = ext4_at(dir, 0);
        struct ext4_map map;
        int ret = ext4_map_lookup(dir, lblk, 0, &map);

        if (ret < 0)
                return ret;
        (void)ext4_corrupt(&at, "the directory has a hole"); /* once, not for each */
        if (map.type == EXT4_MAP_HOLE)
                *ret_next = lblk + map.len;
        return 0;
}

int ext4_dir_next_block(struct ext4_inode *dir, uint64_t *lblk, ext4_lblk_t nr,
                        struct buf **ret_buf)
{
        const struct buf_check check = ext4_dir_check(dir, ext4_dir_block_verify);

        while (*lblk < nr) {
                uint64_t next = *lblk + 1;
                struct buf *buf;
                int ret = ext4_read_block(dir, (ext4_lblk_t)*lblk, &check, &buf);

                if (ret == 0 && buf) {
                        *ret_buf = buf;
                        return 1;
                }
                if (ret == 0)
                        ret = skip_hole(dir, (ext4_lblk_t)*lblk, &next);
                *lblk = next;
                if (ret < 0)
                        return ret;
        }
        return 0;
}

/* ---- lookup ---- */

int ext4_dir_search(const struct ext4_dir_walk *run, const struct ext4_name *name,
                    uint32_t *ret_ino)
{
        const char last = name->text[name->len - 1];
        struct ext4_dir_walk walk = *run;
        const struct ext4_dir_entry *entry;

        while ((entry = ext4_dir_walk_next(&walk))) {
                /* Names of a directory begin alike rather than end alike. */
                if (entry->name_len == name->len && name_of(entry)[name->len - 1] == last &&
                    le32_get(entry->inode) != 0 &&
                    memcmp(name_of(entry), name->text, name->len) == 0) {
                        *ret_ino = le32_get(entry->inode);
                        return 0;
                }
        }
        return -ENOENT;
}

/* Every block in turn. */
static int lookup_linear(struct ext4_inode *dir, const struct ext4_name *name,
                         ext4_lblk_t nr_blocks, struct ext4_dir_hit *ret_hit)
{
        int not_found = -ENOENT;
        uint64_t lblk = 0;

        for (;;) {
                _cleanup_buf_ struct buf *buf = NULL;
                struct ext4_dir_walk walk;
                int ret = ext4_dir_next_block(dir, &lblk, nr_blocks, &buf);

                if (ret == 0)
                        return not_found;
                if (ext4_is_damage(ret)) {
                        not_found = ret; /* it may have been there */
                        continue;
                }
                if (ret < 0)
                        return ret;
                walk = ext4_dir_walk(dir, buf->data, dir->fs->block_size);
                if (ext4_dir_search(&walk, name, &ret_hit->ino) == 0) {
                        ret_hit->lblk = (ext4_lblk_t)lblk;
                        return 0;
                }
                lblk++;
        }
}

bool ext4_dir_is_hashed(const struct ext4_inode *dir)
{
        return (dir->flags & EXT4_FL_INDEX) &&
               ext4_has_compat(dir->fs, EXT4_COMPAT_DIR_INDEX) &&
               !(dir->flags & EXT4_FL_CASEFOLD); /* hashes of folded names */
}

/* Whether the index knows about this name. */
static bool is_indexed(const struct ext4_inode *dir, const struct ext4_name *name)
{
        return ext4_dir_is_hashed(dir) && !is_dot(name->text, name->len) &&
               !is_dotdot(name->text, name->len);
}

static int lookup_blocks(struct ext4_inode *dir, const struct ext4_name *name,
                         struct ext4_dir_hit *ret_hit)
{
        ext4_lblk_t nr_blocks;
        int ret = ext4_dir_nr_blocks(dir, &nr_blocks);

        if (ret < 0)
                return ret;
        if (is_indexed(dir, name)) {
                ret = ext4_htree_lookup_locked(dir, name, ret_hit);
                if (!ext4_is_damage(ret))
                        return ret;
        }
        return lookup_linear(dir, name, nr_blocks, ret_hit);
}

static int lookup_inline(struct ext4_inode *dir, const struct ext4_name *name,
                         uint32_t *ret_ino)
{
        if (dir->inline_err < 0)
                return dir->inline_err;
        if (is_dot(name->text, name->len)) {
                *ret_ino = ext4_ino(dir);
                return 0;
        }
        if (is_dotdot(name->text, name->len)) {
                *ret_ino = ext4_inline_parent(dir);
                return 0;
        }
        for (unsigned which = 0; which < 2; which++) {
                struct ext4_inline_run run = ext4_inline_run(dir, which);
                struct ext4_dir_walk walk =
                        ext4_dir_walk(dir, dir->inline_data + run.start, run.size);

                if (ext4_dir_search(&walk, name, ret_ino) == 0)
                        return 0;
        }
        return -ENOENT;
}

int ext4_dir_lookup_locked(struct ext4_inode *dir, const struct ext4_name *name,
                           struct ext4_dir_hit *ret_hit)
{
        if (!(dir->flags & EXT4_FL_INLINE_DATA))
                return lookup_blocks(dir, name, ret_hit);
        ret_hit->lblk = 0;
        return lookup_inline(dir, name, &ret_hit->ino);
}

static int check_lookup(const struct ext4_inode *dir, size_t len)
{
        int ret = ext4_dir_can_read(dir);

        if (ret < 0)
                return ret;
        if (len > EXT4_NAME_LEN)
                return -ENAMETOOLONG;
        return len == 0 ? -ENOENT : 0;
}

int ext4_dir_lookup(struct ext4_inode *dir, const char *name, size_t len, uint32_t *ret_ino)
{
        const struct ext4_name want = {name, len};
        struct ext4_dir_hit hit;
        int ret = check_lookup(dir, len);

        if (ret < 0)
                return ret;
        rwsem_read_lock(&dir->vfs.lock);
        ret = ext4_dir_lookup_locked(dir, &want, &hit);
        rwsem_read_unlock(&dir->vfs.lock);
        if (ret == 0)
                *ret_ino = hit.ino;
        return ret;
}

/* While the lock is held the name stays, and so does what it leads to. */
static int get_locked(struct ext4_inode *dir, const struct ext4_name *name,
                      struct ext4_inode **ret_inode)
{
        struct ext4_dir_hit hit;
        int ret;

        if (dir->nlink == 0)
                return -ENOENT; /* it has been removed: ".." leads nowhere */
        ret = ext4_dir_lookup_locked(dir, name, &hit);
        return ret < 0 ? ret : ext4_iget_linked(dir, hit.ino, ret_inode);
}

int ext4_dir_get(struct ext4_inode *dir, const char *name, size_t len,
                 struct ext4_inode **ret_inode)
{
        const struct ext4_name want = {name, len};
        int ret = check_lookup(dir, len);

        if (ret < 0)
                return ret;
        rwsem_read_lock(&dir->vfs.lock);
        ret = get_locked(dir, &want, ret_inode);
        rwsem_read_unlock(&dir->vfs.lock);
        return ret;
}
