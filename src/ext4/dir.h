/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef EXT4_DIR_H
#define EXT4_DIR_H

/* What dir.c, dir_read.c, dir_order.c, htree.c and inline.c share. */

#include "ext4/ext4.h"

struct ext4_name {
        const char *text; /* not terminated */
        size_t len;       /* 1 .. EXT4_NAME_LEN */
};

/*
 * The entries in a verified run of bytes, used and unused ones.
 *
 *      struct ext4_dir_walk walk = ext4_dir_walk(dir, data, size);
 *
 *      while ((entry = ext4_dir_walk_next(&walk)))
 *              ...walk.pos is where the next one begins...
 */
struct ext4_dir_walk {
        const uint8_t *data;
        uint32_t pos;
        uint32_t size;
        uint32_t block_size;
};

static inline struct ext4_dir_walk ext4_dir_walk(const struct ext4_inode *dir, const void *data,
                                                 uint32_t size)
{
        return (struct ext4_dir_walk){data, 0, size, dir->fs->block_size};
}

/* NULL at the end. */
const struct ext4_dir_entry *ext4_dir_walk_next(struct ext4_dir_walk *walk);

/* The length of an entry.  With blocks of 64 KiB it needs 17 bits, the upper ones of which
 * are kept in the two lowest bits. */
uint32_t ext4_dir_rec_len(uint32_t block_size, le16 rec_len);

/* Bytes that an entry with such a name takes. */
static inline uint32_t ext4_dir_entry_size(size_t name_len)
{
        return (uint32_t)round_up_pow2(sizeof(struct ext4_dir_entry) + name_len, 4);
}

/* The name in a verified run: its inode number, or -ENOENT. */
int ext4_dir_search(const struct ext4_dir_walk *run, const struct ext4_name *name,
                    uint32_t *ret_ino);

/*
 * Check a run of entries that fills data[0, size).  After it the walk is safe, and each used
 * entry has a name and a possible inode number.  0, -EUCLEAN.
 */
int ext4_dir_check_entries(const struct ext4_where *at, const void *data, uint32_t size);

/*
 * For struct buf_check; arg is the directory's struct ext4_inode.  The first takes any block of
 * a directory, as a run of entries: in a block of the index that is a run without names.
 * The others take blocks of the index, and all that htree.c relies on.
 */
int ext4_dir_block_verify(const void *data, size_t size, uint64_t blk, const void *arg);
int ext4_dx_root_verify(const void *data, size_t size, uint64_t blk, const void *arg);
int ext4_dx_node_verify(const void *data, size_t size, uint64_t blk, const void *arg);

static inline struct buf_check ext4_dir_check(const struct ext4_inode *dir,
                                              int (*verify)(const void *, size_t, uint64_t,
                                                            const void *))
{
        return (struct buf_check){.verify = verify, .arg = dir, .owner = ext4_owner(dir)};
}

/* Entries of an index block begin here. */
#define EXT4_DX_ROOT_OFFSET 32
#define EXT4_DX_NODE_OFFSET 8

enum ext4_dir_form {
        EXT4_DIR_LEAF,
        EXT4_DX_ROOT,
        EXT4_DX_NODE,
};

/* What a block of `size` bytes looks like from its first entries. */
enum ext4_dir_form ext4_dir_form(const void *data, uint32_t size);

/* Count, limit and the checksum behind them of an index block whose entries begin at
 * `offset`.  0, -EUCLEAN, -EBADMSG. */
int ext4_dx_check_tail(const struct ext4_where *at, uint32_t csum_seed, const void *data,
                       uint32_t size, uint32_t offset);

/* Set that checksum, of a block whose count and limit are right. */
void ext4_dx_seal(const struct ext4_inode *dir, uint8_t *block, uint32_t offset);

/* Where a name was found. */
struct ext4_dir_hit {
        uint32_t ino;
        ext4_lblk_t lblk; /* the block that has the entry, unless inline */
};

/* ext4_dir_lookup(), the lock being held and the name's length possible. */
int ext4_dir_lookup_locked(struct ext4_inode *dir, const struct ext4_name *name,
                           struct ext4_dir_hit *ret_hit);

/* Whether names can be asked for at all: -ENOTDIR, -ENOKEY. */
int ext4_dir_can_read(const struct ext4_inode *dir);

/* It has an index that can be used. */
bool ext4_dir_is_hashed(const struct ext4_inode *dir);

/*
 * The first of nr blocks at or behind *lblk that is there, with a reference: 1; 0 at the end.
 * *lblk becomes its number, on an error the one to go on from.  Holes are said, and skipped.
 */
must_check int ext4_dir_next_block(struct ext4_inode *dir, uint64_t *lblk, ext4_lblk_t nr,
                                   struct buf **ret_buf);

/* Blocks of a directory that is not inline, or -EUCLEAN. */
int ext4_dir_nr_blocks(struct ext4_inode *dir, ext4_lblk_t *ret_nr);

/*
 * Look in the index.  0, -ENOENT; -EUCLEAN or -EBADMSG when the index or a block that it names
 * is damaged: the name may still be there.  Caller holds the inode lock, shared at least.
 */
int ext4_htree_lookup_locked(struct ext4_inode *dir, const struct ext4_name *name,
                             struct ext4_dir_hit *ret_hit);

/*
 * An inline directory has no blocks: two runs of entries that do not continue each other,
 * behind the parent's number at the start of inode.inline_data.
 */
#define EXT4_INLINE_DIR_START 4
#define EXT4_INLINE_DIR_SPLIT EXT4_I_BLOCK_SIZE

struct ext4_inline_run {
        uint32_t start; /* in inline_data */
        uint32_t size;  /* may be 0 */
};

static inline struct ext4_inline_run ext4_inline_run(const struct ext4_inode *dir,
                                                     unsigned which)
{
        if (which == 0)
                return (struct ext4_inline_run){EXT4_INLINE_DIR_START,
                                                EXT4_INLINE_DIR_SPLIT - EXT4_INLINE_DIR_START};
        return (struct ext4_inline_run){EXT4_INLINE_DIR_SPLIT,
                                        dir->inline_size - EXT4_INLINE_DIR_SPLIT};
}

static inline uint32_t ext4_inline_parent(const struct ext4_inode *dir)
{
        return le32_get(*(const le32 *)(const void *)dir->inline_data);
}

#endif
