/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "ext4/dir_insert.h"
#include "ext4/hash.h"
#include "ext4/htree.h"
#include "util/alloc.h"

/*
 * Room in a hashed directory.
 *
 * The leaf in which the name belongs is found by its hash.  While it has no room one step is
 * made, and the leaf is looked for again:
 *
 *      the leaf is split in two, if the block of the index above it has room for the new one;
 *      else a block of the index is split, the lowest that is full under one that is not;
 *      else, all being full, what the root has moves to a new block, and the root names that.
 *
 * Each step adds one block, and leaves a good index (DI1).  A leaf is split between two
 * hashes, so that both halves are about as full.  When that would have to be between names of
 * one hash, these are in both, and the entry of the second has bit 0 of the hash set: who looks
 * for such a name goes on there (htree.c).
 */

/* As many steps as there can be: the root moves, two blocks of the index are split, a leaf. */
#define MAX_STEPS 4

/* ---- blocks of the index ---- */

/* One that may be changed. */
struct node {
        struct buf *buf;
        uint8_t *block;
        uint32_t offset; /* of the entries */
};

static struct ext4_dx_entry *entries_of(const struct node *n)
{
        return (void *)(n->block + n->offset);
}

static uint32_t count_of(const struct node *n)
{
        return le16_get(((struct ext4_dx_countlimit *)(void *)entries_of(n))->count);
}

static uint32_t room_for(const struct ext4_fs *fs, uint32_t offset)
{
        return (fs->block_size - offset) / (uint32_t)sizeof(struct ext4_dx_entry) -
               (fs->has_metadata_csum ? 1 : 0);
}

static void set_count(const struct ext4_fs *fs, struct node *n, uint32_t count)
{
        *(struct ext4_dx_countlimit *)(void *)entries_of(n) = (struct ext4_dx_countlimit){
                .limit = le16_make((uint16_t)room_for(fs, n->offset)),
                .count = le16_make((uint16_t)count),
        };
}

/* The bytes were changed. */
static void node_done(struct jbd2_handle *h, const struct ext4_inode *dir, struct node *n)
{
        if (dir->fs->has_metadata_csum)
                ext4_dx_seal(dir, n->block, n->offset);
        jbd2_dirty(h, n->buf);
}

/* Access to a block on the path, whose reference stays the path's. */
static int node_begin(struct jbd2_handle *h, const struct ext4_dx_path *path, unsigned level,
                      struct node *ret_node)
{
        void *bytes;
        int ret = jbd2_get_write(h, path->levels[level].buf, &bytes);

        if (ret == 0)
                *ret_node =
                        (struct node){path->levels[level].buf, bytes,
                                      level == 0 ? EXT4_DX_ROOT_OFFSET : EXT4_DX_NODE_OFFSET};
        return ret;
}

/* An unused entry that fills the block, for who does not know of indexes, before the entries.
 */
static struct node node_new(const struct ext4_fs *fs, const struct ext4_new_block *new)
{
        struct ext4_dir_entry *unused = (void *)new->bytes;

        unused->rec_len = ext4_dir_rec_len_make(fs->block_size, fs->block_size);
        return (struct node){new->buf, new->bytes, EXT4_DX_NODE_OFFSET};
}

/* A new entry behind entry `at`.  There is room. */
static void insert_entry(const struct ext4_fs *fs, struct node *n, uint32_t at, uint32_t hash,
                         ext4_lblk_t lblk)
{
        struct ext4_dx_entry *e = entries_of(n);
        uint32_t count = count_of(n);

        memmove(e + at + 2, e + at + 1, (count - at - 1) * sizeof(*e));
        e[at + 1] = (struct ext4_dx_entry){le32_make(hash), le32_make(lblk)};
        set_count(fs, n, count + 1);
}

static bool is_full(const struct ext4_dx_path *path, unsigned level)
{
        return path->levels[level].count >=
               room_for(path->dir->fs, level == 0 ? EXT4_DX_ROOT_OFFSET : EXT4_DX_NODE_OFFSET);
}

static struct ext4_dx_root_info *info_of(const struct node *root)
{
        return (void *)(root->block + EXT4_DX_ROOT_OFFSET - sizeof(struct ext4_dx_root_info));
}

/* ---- steps of the index ---- */

/* What the root has moves to a new block below it. */
static int deepen(struct jbd2_handle *h, const struct ext4_dx_path *path, unsigned alloc_flags)
{
        struct ext4_inode *dir = path->dir;
        struct ext4_new_block new;
        struct node root = {0}, below;
        uint32_t count;
        int ret = node_begin(h, path, 0, &root);

        if (ret == 0)
                ret = ext4_append_block(h, dir, alloc_flags, &new);
        if (ret < 0)
                return ret;
        below = node_new(dir->fs, &new);
        count = count_of(&root);
        memcpy(entries_of(&below), entries_of(&root), count * sizeof(struct ext4_dx_entry));
        set_count(dir->fs, &below, count);
        node_done(h, dir, &below);
        entries_of(&root)->block = le32_make(new.lblk);
        set_count(dir->fs, &root, 1);
        info_of(&root)->indirect_levels++;
        node_done(h, dir, &root);
        buf_put(new.buf);
        return 0;
}

/* The upper half of a block of the index moves to a new one; the block above has room. */
static int split_node(struct jbd2_handle *h, const struct ext4_dx_path *path, unsigned level,
                      unsigned alloc_flags)
{
        struct ext4_inode *dir = path->dir;
        struct node old = {0}, above = {0}, upper;
        struct ext4_new_block new;
        uint32_t count, half;
        int ret = node_begin(h, path, level, &old);

        if (ret == 0)
                ret = node_begin(h, path, level - 1, &above);
        if (ret == 0)
                ret = ext4_append_block(h, dir, alloc_flags, &new);
        if (ret < 0)
                return ret;
        upper = node_new(dir->fs, &new);
        count = count_of(&old);
        half = count / 2;
        insert_entry(dir->fs, &above, path->levels[level - 1].at,
                     le32_get(entries_of(&old)[half].hash), new.lblk);
        memcpy(entries_of(&upper), entries_of(&old) + half,
               (count - half) * sizeof(struct ext4_dx_entry));
        set_count(dir->fs, &upper, count - half);
        set_count(dir->fs, &old, half);
        node_done(h, dir, &upper);
        node_done(h, dir, &old);
        node_done(h, dir, &above);
        buf_put(new.buf);
        return 0;
}

/* ---- splitting a leaf ---- */

struct item {
        uint32_t hash;
        uint32_t pos;  /* in the leaf as it was */
        uint32_t size; /* that it needs */
};

/* A leaf, and what is in it by hash. */
struct leaf {
        uint8_t *image; /* as it was */
        struct item *items;
        uint32_t nr;
};

static void leaf_done(struct leaf *leaf)
{
        mem_free(leaf->image);
        mem_free(leaf->items);
}

static int by_hash(const void *pa, const void *pb)
{
        const struct item *a = pa, *b = pb;

        if (a->hash != b->hash)
                return a->hash < b->hash ? -1 : 1;
        return a->pos < b->pos ? -1 : a->pos > b->pos;
}

static int read_items(const struct ext4_dx_path *path, const void *data, struct leaf *leaf)
{
        const struct ext4_fs *fs = path->dir->fs;
        struct ext4_dir_walk walk;
        const struct ext4_dir_entry *entry;
        uint32_t pos = 0;

        leaf->image = mem_alloc(fs->block_size);
        leaf->items = mem_alloc(fs->block_size / ext4_dir_entry_size(1) * sizeof(*leaf->items));
        if (!leaf->image || !leaf->items)
                return -ENOMEM;
        memcpy(leaf->image, data, fs->block_size);
        walk = ext4_dir_walk(path->dir, leaf->image, ext4_dir_leaf_end(fs));
        while ((entry = ext4_dir_walk_next(&walk))) {
                if (le32_get(entry->inode) != 0)
                        leaf->items[leaf->nr++] = (struct item){
                                .hash = ext4_dx_hash(path->version, fs->sb.s_hash_seed,
                                                     (const char *)(entry + 1),
                                                     entry->name_len),
                                .pos = pos,
                                .size = ext4_dir_entry_size(entry->name_len),
                        };
                pos = walk.pos;
        }
        qsort(leaf->items, leaf->nr, sizeof(*leaf->items), by_hash);
        return 0;
}

/* The first item of the upper half.  With two items at least, both halves have one. */
static uint32_t find_middle(const struct ext4_fs *fs, const struct leaf *leaf)
{
        uint32_t upper = 0;
        uint32_t i = leaf->nr - 1;

        for (; i > 1; i--) {
                if (upper + leaf->items[i].size / 2 > fs->block_size / 2)
                        return i + 1 < leaf->nr ? i + 1 : i;
                upper += leaf->items[i].size;
        }
        return 1;
}

static void fill(const struct ext4_inode *dir, uint8_t *block, const struct leaf *leaf,
                 uint32_t from, uint32_t to)
{
        struct ext4_dir_filler f = {.dir = dir, .block = block};

        for (uint32_t i = from; i < to; i++) {
                const struct ext4_dir_entry *e = (void *)(leaf->image + leaf->items[i].pos);

                ext4_dir_fill_one(&f, le32_get(e->inode), e->file_type, (const char *)(e + 1),
                                  e->name_len);
        }
        ext4_dir_fill_end(&f);
}

static int split_items(struct jbd2_handle *h, const struct ext4_dx_path *path, struct buf *buf,
                       const struct leaf *leaf, unsigned alloc_flags)
{
        const unsigned last = path->nr_levels - 1;
        uint32_t middle = find_middle(path->dir->fs, leaf);
        uint32_t hash = leaf->items[middle].hash;
        struct ext4_new_block new;
        struct node above;
        void *bytes;
        int ret = jbd2_get_write(h, buf, &bytes);

        if (ret == 0)
                ret = node_begin(h, path, last, &above);
        if (ret == 0)
                ret = ext4_append_block(h, path->dir, alloc_flags, &new);
        if (ret < 0)
                return ret;
        if (leaf->items[middle - 1].hash == hash)
                hash |= 1;
        fill(path->dir, new.bytes, leaf, middle, leaf->nr);
        fill(path->dir, bytes, leaf, 0, middle);
        ext4_dir_changed(path->dir);
        insert_entry(path->dir->fs, &above, path->levels[last].at, hash, new.lblk);
        jbd2_dirty(h, new.buf);
        jbd2_dirty(h, buf);
        node_done(h, path->dir, &above);
        buf_put(new.buf);
        return 0;
}

static int split_leaf(struct jbd2_handle *h, const struct ext4_dx_path *path, struct buf *buf,
                      unsigned alloc_flags)
{
        const struct ext4_where at = ext4_at(path->dir, buf->blk);
        struct leaf leaf = {0};
        int ret = read_items(path, buf->data, &leaf);

        if (ret == 0 && leaf.nr < 2)
                ret = ext4_corrupt(&at, "directory block: full with %u names", leaf.nr);
        if (ret == 0)
                ret = split_items(h, path, buf, &leaf, alloc_flags);
        leaf_done(&leaf);
        return ret;
}

/* ---- making room ---- */

/* The leaf of this path has none. */
static int make_step(struct jbd2_handle *h, const struct ext4_dx_path *path, struct buf *leaf,
                     unsigned alloc_flags)
{
        const struct ext4_fs *fs = path->dir->fs;
        unsigned level = path->nr_levels;

        while (level > 0 && is_full(path, level - 1))
                level--;
        if (level == path->nr_levels)
                return split_leaf(h, path, leaf, alloc_flags);
        if (level > 0)
                return split_node(h, path, level, alloc_flags);
        if (path->nr_levels < ext4_dx_max_levels(fs))
                return deepen(h, path, alloc_flags);
        log_say(&fs->vfs.log, LOG_WARNING, "directory %u: its index is full%s",
                ext4_ino(path->dir),
                ext4_has_incompat(fs, EXT4_INCOMPAT_LARGEDIR) ? "" : "; large_dir would help");
        return -ENOSPC;
}

/* 1: there is room, and the slot; 0: a step has been made. */
static int try_or_step(struct jbd2_handle *h, struct ext4_inode *dir,
                       const struct ext4_name *name, unsigned alloc_flags,
                       struct ext4_dir_slot *ret_slot)
{
        _cleanup_dx_path_ struct ext4_dx_path path = {.dir = dir};
        const uint32_t end = ext4_dir_leaf_end(dir->fs);
        struct buf *buf;
        uint32_t pos;
        void *bytes;
        int ret = ext4_dx_path_to(&path, name);

        if (ret == 0)
                ret = ext4_dx_read_block(dir, ext4_dx_leaf(&path), ext4_dir_block_verify, &buf);
        if (ret < 0)
                return ret;
        ret = ext4_dir_run_has_room(dir, buf->data, end, ext4_dir_entry_size(name->len), &pos);
        if (ret == 0)
                ret = make_step(h, &path, buf, alloc_flags);
        else if (ret > 0 && (ret = jbd2_get_write(h, buf, &bytes)) == 0) {
                *ret_slot = (struct ext4_dir_slot){.buf = buf,
                                                   .block = bytes,
                                                   .size = end,
                                                   .pos = pos,
                                                   .seq = dir->dir_seq};
                return 1;
        }
        buf_put(buf);
        return ret;
}

int ext4_htree_make_room(struct jbd2_handle *h, struct ext4_inode *dir,
                         const struct ext4_name *name, unsigned alloc_flags,
                         struct ext4_dir_slot *ret_slot)
{
        const struct ext4_where at = ext4_at(dir, 0);
        int ret;

        if (!ext4_has_compat(dir->fs, EXT4_COMPAT_DIR_INDEX))
                return ext4_corrupt(&at, "a hashed directory, without the feature dir_index");
        for (unsigned i = 0; i <= MAX_STEPS; i++) {
                ret = try_or_step(h, dir, name, alloc_flags, ret_slot);
                if (ret != 0)
                        return ret < 0 ? ret : 0;
        }
        return ext4_corrupt(&at, "directory index: splitting makes no room");
}

/* ---- from linear to hashed ---- */

/* Whether a first block begins with "." and "..", as an index needs it. */
static bool begins_with_dots(const struct ext4_inode *dir, const uint8_t *block)
{
        const struct ext4_dir_entry *dot = (const void *)block;
        const struct ext4_dir_entry *dotdot = (const void *)(block + ext4_dir_entry_size(1));
        const uint8_t *names[2] = {(const uint8_t *)(dot + 1), (const uint8_t *)(dotdot + 1)};

        return ext4_dir_rec_len(dir->fs->block_size, dot->rec_len) == ext4_dir_entry_size(1) &&
               le32_get(dot->inode) == ext4_ino(dir) && dot->name_len == 1 &&
               names[0][0] == '.' && le32_get(dotdot->inode) != 0 && dotdot->name_len == 2 &&
               names[1][0] == '.' && names[1][1] == '.';
}

/* All but "." and ".." to the new block. */
static void move_entries(const struct ext4_inode *dir, const uint8_t *from, uint8_t *to)
{
        struct ext4_dir_filler f = {.dir = dir, .block = to};
        struct ext4_dir_walk walk = ext4_dir_walk(dir, from, ext4_dir_leaf_end(dir->fs));
        const struct ext4_dir_entry *entry;

        (void)ext4_dir_walk_next(&walk);
        (void)ext4_dir_walk_next(&walk);
        while ((entry = ext4_dir_walk_next(&walk))) {
                if (le32_get(entry->inode) != 0)
                        ext4_dir_fill_one(&f, le32_get(entry->inode), entry->file_type,
                                          (const char *)(entry + 1), entry->name_len);
        }
        ext4_dir_fill_end(&f);
}

/* The block with "." and ".." becomes the root, over one leaf. */
static void make_root(struct ext4_inode *dir, struct node *root, ext4_lblk_t leaf)
{
        const struct ext4_fs *fs = dir->fs;
        const uint32_t second = ext4_dir_entry_size(1);
        struct ext4_dir_entry *dotdot = (void *)(root->block + second);
        uint32_t used = second + ext4_dir_entry_size(2);

        dotdot->rec_len = ext4_dir_rec_len_make(fs->block_size, fs->block_size - second);
        memset(root->block + used, 0, fs->block_size - used);
        *info_of(root) = (struct ext4_dx_root_info){
                .hash_version = ext4_dx_new_version(fs),
                .info_length = sizeof(struct ext4_dx_root_info),
        };
        entries_of(root)->block = le32_make(leaf);
        set_count(fs, root, 1);
        dir->flags |= EXT4_FL_INDEX;
}

int ext4_htree_convert(struct jbd2_handle *h, struct ext4_inode *dir, unsigned alloc_flags)
{
        const struct buf_check check = ext4_dir_check(dir, ext4_dir_block_verify);
        _cleanup_buf_ struct buf *buf = NULL;
        struct ext4_new_block new;
        struct node root;
        struct ext4_iloc loc;
        void *bytes;
        int ret = ext4_read_block(dir, 0, &check, &buf);

        if (ret < 0 || !buf || !begins_with_dots(dir, buf->data))
                return ret;
        ret = jbd2_get_write(h, buf, &bytes);
        if (ret == 0)
                ret = ext4_inode_begin(h, dir, &loc);
        if (ret < 0)
                return ret;
        ret = ext4_append_block(h, dir, alloc_flags, &new);
        if (ret < 0) {
                ext4_iloc_put(&loc);
                return ret;
        }
        root = (struct node){buf, bytes, EXT4_DX_ROOT_OFFSET};
        move_entries(dir, bytes, new.bytes);
        ext4_dir_changed(dir);
        jbd2_dirty(h, new.buf);
        make_root(dir, &root, new.lblk);
        node_done(h, dir, &root);
        ext4_inode_store(h, dir, &loc);
        buf_put(new.buf);
        return 1;
}
