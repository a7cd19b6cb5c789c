/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ext4/dir_read.h"

#include <string.h>

#include "ext4/htree.h"

/*
 * Reading a directory: "." and "..", and the rest in one of two orders (dir_read.h).
 *
 * Invariants
 *  DR1 Any number is a safe cookie: an entry is read only where the walk from the start of its
 *      run arrives (positions), or after its name was found to lie behind the cookie (hashes).
 *  DR2 Every call that returns an entry or an error moves the cookie up, so that who goes on
 *      comes to an end.
 *
 * A block that is damaged hides names: that is reported once, and the cookie moves behind it.
 */

static uint8_t file_type_of(const struct ext4_inode *dir, const struct ext4_dir_entry *entry)
{
        if (!ext4_has_incompat(dir->fs, EXT4_INCOMPAT_FILETYPE) ||
            entry->file_type > EXT4_FT_SYMLINK)
                return EXT4_FT_UNKNOWN;
        return entry->file_type;
}

static void fill_name(struct ext4_dirent *ret, uint32_t ino, uint8_t file_type,
                      const char *name, uint8_t name_len)
{
        ret->ino = ino;
        ret->file_type = file_type;
        ret->name_len = name_len;
        memcpy(ret->name, name, name_len);
        ret->name[name_len] = '\0';
}

void ext4_dirent_fill(const struct ext4_inode *dir, const struct ext4_dir_entry *entry,
                      struct ext4_dirent *ret_entry)
{
        fill_name(ret_entry, le32_get(entry->inode), file_type_of(dir, entry),
                  (const char *)(entry + 1), entry->name_len);
}

/* ---- in the order of positions ---- */

/* The first used entry of a run at or behind `pos`: 1, with *pos behind it; 0: none. */
static int read_run(const struct ext4_inode *dir, const struct ext4_dir_walk *run,
                    uint32_t *pos, struct ext4_dirent *ret_entry)
{
        struct ext4_dir_walk walk = *run;

        for (;;) {
                uint32_t start = walk.pos;
                const struct ext4_dir_entry *entry = ext4_dir_walk_next(&walk);

                if (!entry)
                        return 0;
                if (start < *pos || le32_get(entry->inode) == 0)
                        continue;
                ext4_dirent_fill(dir, entry, ret_entry);
                *pos = walk.pos;
                return 1;
        }
}

static int read_blocks(struct ext4_inode *dir, ext4_lblk_t nr_blocks, uint64_t *cookie,
                       struct ext4_dirent *ret_entry)
{
        const struct ext4_fs *fs = dir->fs;
        uint64_t lblk = *cookie >> fs->block_bits;
        uint32_t pos = (uint32_t)(*cookie & (fs->block_size - 1));

        for (;; lblk++, pos = 0) {
                _cleanup_buf_ struct buf *buf = NULL;
                uint64_t want = lblk;
                struct ext4_dir_walk walk;
                int ret = ext4_dir_next_block(dir, &lblk, nr_blocks, &buf);

                if (ret < 0)
                        *cookie = lblk << fs->block_bits;
                if (ret <= 0)
                        return ret;
                if (lblk != want)
                        pos = 0; /* the cookie pointed into a hole */
                walk = ext4_dir_walk(dir, buf->data, fs->block_size);
                if (read_run(dir, &walk, &pos, ret_entry) > 0) {
                        *cookie = (lblk << fs->block_bits) + pos;
                        return 1;
                }
        }
}

/* ---- "." and ".." before what has the order of hashes ---- */

/* In the first block they are entries like others: 1, 0 when there is none.  That the block is
 * damaged is told later, by who reads all of it. */
static int find_dots(struct ext4_inode *dir, const struct ext4_name *name, uint32_t *ret_ino)
{
        const struct buf_check check = ext4_dir_check(dir, ext4_dir_block_verify);
        _cleanup_buf_ struct buf *buf = NULL;
        struct ext4_dir_walk walk;
        int ret = ext4_read_block(dir, 0, &check, &buf);

        if (ext4_is_damage(ret) || (ret == 0 && !buf))
                return 0;
        if (ret < 0)
                return ret;
        walk = ext4_dir_walk(dir, buf->data, dir->fs->block_size);
        return ext4_dir_search(&walk, name, ret_ino) == 0;
}

static int read_dots(struct ext4_inode *dir, uint64_t *cookie, struct ext4_dirent *ret_entry)
{
        bool is_inline = dir->flags & EXT4_FL_INLINE_DATA;
        bool has_type = ext4_has_incompat(dir->fs, EXT4_INCOMPAT_FILETYPE);
        uint8_t type = has_type || is_inline ? EXT4_FT_DIR : EXT4_FT_UNKNOWN;

        *cookie |= EXT4_COOKIE_HASHED;
        while (*cookie < EXT4_COOKIE_FIRST) {
                uint8_t len = (uint8_t)(*cookie - EXT4_COOKIE_HASHED + 1);
                const struct ext4_name name = {"..", len};
                uint32_t ino = len == 1 ? ext4_ino(dir) : 0;
                int ret = 1;

                if (!is_inline)
                        ret = find_dots(dir, &name, &ino);
                else if (len == 2)
                        ino = ext4_inline_parent(dir);
                if (ret < 0)
                        return ret;
                ++*cookie;
                if (ret > 0) {
                        fill_name(ret_entry, ino, type, name.text, len);
                        return 1;
                }
        }
        return 0;
}

/* ---- which order ---- */

/* At the beginning of a walk. */
static bool reads_by_hash(struct ext4_inode *dir, ext4_lblk_t nr_blocks)
{
        struct buf *buf;

        if (!ext4_has_compat(dir->fs, EXT4_COMPAT_DIR_INDEX) || (dir->flags & EXT4_FL_CASEFOLD))
                return false;
        if (!(dir->flags & EXT4_FL_INDEX))
                return nr_blocks == 1;
        if (ext4_dx_read_block(dir, 0, ext4_dx_root_verify, &buf) < 0)
                return false;
        buf_put(buf);
        return true;
}

static int read_ordered(struct ext4_inode *dir, uint64_t *cookie, struct ext4_dirent *ret_entry)
{
        int ret = *cookie < EXT4_COOKIE_FIRST ? read_dots(dir, cookie, ret_entry) : 0;

        return ret != 0 ? ret : ext4_dir_read_ordered(dir, cookie, ret_entry);
}

static int read_locked(struct ext4_inode *dir, uint64_t *cookie, struct ext4_dirent *ret_entry)
{
        ext4_lblk_t nr_blocks;
        int ret;

        if (dir->flags & EXT4_FL_INLINE_DATA) {
                if (*cookie != 0 && *cookie < EXT4_COOKIE_HASHED)
                        return 0; /* of another directory: there are no positions here */
                ret = dir->inline_err;
        } else {
                ret = ext4_dir_nr_blocks(dir, &nr_blocks);
        }
        if (ret < 0) {
                *cookie = EXT4_COOKIE_END; /* all of the directory is damaged */
                return ret;
        }
        if ((dir->flags & EXT4_FL_INLINE_DATA) || *cookie >= EXT4_COOKIE_HASHED ||
            (*cookie == 0 && reads_by_hash(dir, nr_blocks)))
                return read_ordered(dir, cookie, ret_entry);
        return read_blocks(dir, nr_blocks, cookie, ret_entry);
}

int ext4_dir_read(struct ext4_inode *dir, uint64_t *cookie, struct ext4_dirent *ret_entry)
{
        int ret;

        if (*cookie >= EXT4_COOKIE_END)
                return 0;
        ret = ext4_dir_can_read(dir);
        if (ret < 0) {
                *cookie = EXT4_COOKIE_END;
                return ret;
        }
        rwsem_read_lock(&dir->vfs.lock);
        ret = read_locked(dir, cookie, ret_entry);
        rwsem_read_unlock(&dir->vfs.lock);
        return ret;
}
