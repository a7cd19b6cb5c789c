/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "ext4/htree.h"
#include "ext4/hash.h"
#include "util/crc.h"

/*
 * The index of a directory: a tree of one to three levels, sorted by the hash of names.
 *
 * Block 0 of the directory is the root; the blocks that it names are further index blocks or,
 * below the last level, leaves: ordinary blocks of entries.  An entry of the index says: hashes
 * from here on are in that block; the first entry of a block has no hash of its own, its
 * place holds the block's limit and count.  Hashes are even.  When names with one hash
 * did not fit in one leaf, the entry of the leaf that continues has the hash with bit 0 set.
 *
 * Invariants
 *  H1  At every level 0 <= at < count: the child of entry `at` is on the path.
 *  H2  A leaf is visited once, so that a lookup ends after as many leaves as the directory has
 *      blocks; more is damage.
 *
 * The index only makes lookups fast.  Where it is damaged, or of a kind that we do not know,
 * the verifier says so and dir.c reads all blocks instead.
 */

/* ---- verifiers ---- */

static const struct ext4_dx_entry *entries_at(const void *data, uint32_t offset)
{
        return (const void *)((const uint8_t *)data + offset);
}

static const struct ext4_dx_countlimit *countlimit_at(const void *data, uint32_t offset)
{
        return (const void *)((const uint8_t *)data + offset);
}

/* The checksum covers what is in use, and the tail with zeros in its own place. */
static uint32_t csum_of(uint32_t seed, const void *data, size_t used,
                        const struct ext4_dx_tail *tail)
{
        const le32 zero = le32_make(0);
        uint32_t crc = crc32c(seed, data, used);

        crc = crc32c(crc, tail, offsetof(struct ext4_dx_tail, dt_checksum));
        return crc32c(crc, &zero, sizeof(zero));
}

static bool csum_ok(uint32_t seed, const void *data, size_t used,
                    const struct ext4_dx_tail *tail)
{
        return csum_of(seed, data, used, tail) == le32_get(tail->dt_checksum);
}

/* The room, not what the block says of it: without verification that may be anything. */
void ext4_dx_seal(const struct ext4_inode *dir, uint8_t *block, uint32_t offset)
{
        const uint32_t entry = sizeof(struct ext4_dx_entry);
        uint32_t limit = (dir->fs->block_size - offset) / entry - 1;
        uint32_t count = min_t(uint32_t, le16_get(countlimit_at(block, offset)->count), limit);
        struct ext4_dx_tail *tail = (void *)(block + offset + limit * entry);

        tail->dt_checksum =
                le32_make(csum_of(dir->csum_seed, block, offset + count * entry, tail));
}

int ext4_dx_check_tail(const struct ext4_where *at, uint32_t csum_seed, const void *data,
                       uint32_t size, uint32_t offset)
{
        uint32_t limit = le16_get(countlimit_at(data, offset)->limit);
        uint32_t count = le16_get(countlimit_at(data, offset)->count);
        uint32_t room = (size - offset) / sizeof(struct ext4_dx_entry);

        if (at->fs->has_metadata_csum)
                room--; /* the tail has the size of an entry */
        if (limit != room)
                return ext4_corrupt(at, "directory index: limit %u, not %u", limit, room);
        if (count == 0 || count > limit)
                return ext4_corrupt(at, "directory index: count %u of %u", count, limit);
        if (ext4_verify_csums(at->fs) &&
            !csum_ok(csum_seed, data, offset + count * sizeof(struct ext4_dx_entry),
                     (const void *)(entries_at(data, offset) + limit)))
                return ext4_bad_csum(at, "directory index");
        return 0;
}

static int check_entries(const struct ext4_where *at, const struct ext4_dx_entry *entries,
                         uint32_t count, ext4_lblk_t nr_blocks)
{
        for (uint32_t i = 0; i < count; i++) {
                uint32_t block = le32_get(entries[i].block) & EXT4_DX_BLOCK_MASK;

                if (block == 0 || block >= nr_blocks)
                        return ext4_corrupt(at,
                                            "directory index: entry %u names block %u of %u", i,
                                            block, nr_blocks);
                if (i > 1 && le32_get(entries[i].hash) < le32_get(entries[i - 1].hash))
                        return ext4_corrupt(at, "directory index: entry %u is out of order", i);
        }
        return 0;
}

/* All of an index block but what only the root has. */
static int check_index(const struct ext4_where *at, const struct ext4_inode *dir,
                       const void *data, uint32_t size, uint32_t offset)
{
        ext4_lblk_t nr_blocks = (ext4_lblk_t)min_t(
                uint64_t, vfs_size(&dir->vfs) >> dir->fs->block_bits, EXT4_NR_LBLKS);
        int ret = ext4_dx_check_tail(at, dir->csum_seed, data, size, offset);

        if (ret < 0)
                return ret;
        return check_entries(at, entries_at(data, offset),
                             le16_get(countlimit_at(data, offset)->count), nr_blocks);
}

static const struct ext4_dx_root_info *root_info(const void *data)
{
        return (const void *)((const uint8_t *)data + EXT4_DX_ROOT_OFFSET -
                              sizeof(struct ext4_dx_root_info));
}

uint32_t ext4_dx_max_levels(const struct ext4_fs *fs)
{
        return ext4_has_incompat(fs, EXT4_INCOMPAT_LARGEDIR) ? EXT4_DX_MAX_LEVELS
                                                             : EXT4_DX_MAX_LEVELS - 1;
}

int ext4_dx_root_verify(const void *data, size_t size, uint64_t blk, const void *arg)
{
        const struct ext4_inode *dir = arg;
        const struct ext4_where at = ext4_at(dir, blk);
        const struct ext4_dx_root_info *info = root_info(data);

        if (ext4_dir_form(data, (uint32_t)size) != EXT4_DX_ROOT)
                return ext4_corrupt(&at, "directory index: the root is none");
        if (le32_get(info->reserved_zero) != 0 || info->info_length != sizeof(*info))
                return ext4_corrupt(&at, "directory index: the root's header is wrong");
        if (info->hash_version > EXT4_DX_HASH_TEA)
                return ext4_corrupt(&at, "directory index: hash %u is unknown",
                                    info->hash_version);
        if (info->unused_flags & 1)
                return ext4_corrupt(&at, "directory index: flags %#x are unknown",
                                    info->unused_flags);
        if (info->indirect_levels >= ext4_dx_max_levels(dir->fs))
                return ext4_corrupt(&at, "directory index: %u levels", info->indirect_levels);
        return check_index(&at, dir, data, (uint32_t)size, EXT4_DX_ROOT_OFFSET);
}

int ext4_dx_node_verify(const void *data, size_t size, uint64_t blk, const void *arg)
{
        const struct ext4_inode *dir = arg;
        const struct ext4_where at = ext4_at(dir, blk);

        if (ext4_dir_form(data, (uint32_t)size) != EXT4_DX_NODE)
                return ext4_corrupt(&at, "directory index: an index block is none");
        return check_index(&at, dir, data, (uint32_t)size, EXT4_DX_NODE_OFFSET);
}

/* ---- the path to a leaf ---- */

void ext4_dx_path_done(struct ext4_dx_path *path)
{
        for (unsigned i = 0; i < EXT4_DX_MAX_LEVELS; i++)
                buf_put(path->levels[i].buf);
}

int ext4_dx_read_block(struct ext4_inode *dir, ext4_lblk_t lblk,
                       int (*verify)(const void *, size_t, uint64_t, const void *),
                       struct buf **ret_buf)
{
        const struct ext4_where at = ext4_at(dir, 0);
        const struct buf_check check = ext4_dir_check(dir, verify);
        int ret = ext4_read_block(dir, lblk, &check, ret_buf);

        if (ret == 0 && !*ret_buf)
                return ext4_corrupt(&at, "directory index: block %u is in a hole", lblk);
        return ret;
}

/* Take the reference to an index block as level i of the path, at its first entry. */
static void set_level(struct ext4_dx_path *path, unsigned i, struct buf *buf, uint32_t offset)
{
        buf_put(path->levels[i].buf);
        path->levels[i] = (struct ext4_dx_level){
                .buf = buf,
                .entries = entries_at(buf->data, offset),
                .count = le16_get(countlimit_at(buf->data, offset)->count),
        };
}

uint8_t ext4_dx_new_version(const struct ext4_fs *fs)
{
        return fs->hash_version <= EXT4_DX_HASH_TEA ? fs->hash_version : EXT4_DX_HASH_HALF_MD4;
}

uint8_t ext4_dx_default_version(const struct ext4_fs *fs)
{
        return ext4_dx_with_sign(ext4_dx_new_version(fs), fs->hash_unsigned);
}

static int read_root(struct ext4_dx_path *path)
{
        const struct ext4_dx_root_info *info;
        struct buf *buf;
        int ret = ext4_dx_read_block(path->dir, 0, ext4_dx_root_verify, &buf);

        if (ret < 0)
                return ret;
        info = root_info(buf->data);
        path->version = ext4_dx_with_sign(info->hash_version, path->dir->fs->hash_unsigned);
        path->nr_levels = info->indirect_levels + 1u;
        set_level(path, 0, buf, EXT4_DX_ROOT_OFFSET);
        return 0;
}

/* The last entry whose hash is not above `hash`; the first has none and stands below all. */
static uint32_t search_level(const struct ext4_dx_level *level, uint32_t hash)
{
        uint32_t low = 0;
        uint32_t high = level->count;

        /* entries[low] <= hash < entries[high] */
        while (high - low > 1) {
                uint32_t mid = low + (high - low) / 2;

                if (le32_get(level->entries[mid].hash) > hash)
                        high = mid;
                else
                        low = mid;
        }
        return low;
}

enum descent {
        DESCEND_BY_HASH,
        DESCEND_TO_FIRST,
};

/* Read the levels below `from`, whose `at` is set. */
static int descend(struct ext4_dx_path *path, unsigned from, enum descent how)
{
        for (unsigned i = from + 1; i < path->nr_levels; i++) {
                struct buf *buf;
                int ret = ext4_dx_read_block(path->dir, ext4_dx_child(&path->levels[i - 1]),
                                             ext4_dx_node_verify, &buf);

                if (ret < 0)
                        return ret;
                set_level(path, i, buf, EXT4_DX_NODE_OFFSET);
                if (how == DESCEND_BY_HASH)
                        path->levels[i].at = search_level(&path->levels[i], path->hash);
        }
        return 0;
}

/*
 * Go to the next leaf if names of this hash go on there: 1; 0 if not.  What the entry says to
 * which all levels above agree is enough: the first entry of a block has its hash in the
 * parent.
 */
int ext4_dx_next_leaf(struct ext4_dx_path *path)
{
        unsigned i = path->nr_levels;
        struct ext4_dx_level *level;
        int ret;

        do {
                if (i == 0)
                        return 0;
                level = &path->levels[--i];
        } while (level->at + 1 == level->count);
        if ((le32_get(level->entries[level->at + 1].hash) & ~1u) != path->hash)
                return 0;
        level->at++;
        ret = descend(path, i, DESCEND_TO_FIRST);
        return ret < 0 ? ret : 1;
}

static int search_leaf(struct ext4_dx_path *path, const struct ext4_name *name,
                       struct ext4_dir_hit *ret_hit)
{
        _cleanup_buf_ struct buf *buf = NULL;
        const struct ext4_where at = ext4_at(path->dir, 0);
        struct ext4_dir_walk walk;
        int ret;

        if (path->leaves_left-- == 0)
                return ext4_corrupt(&at, "directory index: more leaves than blocks");
        ret_hit->lblk = ext4_dx_leaf(path);
        ret = ext4_dx_read_block(path->dir, ret_hit->lblk, ext4_dir_block_verify, &buf);
        if (ret < 0)
                return ret;
        walk = ext4_dir_walk(path->dir, buf->data, path->dir->fs->block_size);
        return ext4_dir_search(&walk, name, &ret_hit->ino);
}

int ext4_dx_path_begin(struct ext4_dx_path *path)
{
        int ret = ext4_dir_nr_blocks(path->dir, &path->leaves_left);

        return ret < 0 ? ret : read_root(path);
}

int ext4_dx_path_go(struct ext4_dx_path *path, uint32_t hash)
{
        path->hash = hash;
        path->levels[0].at = search_level(&path->levels[0], hash);
        return descend(path, 0, DESCEND_BY_HASH);
}

int ext4_dx_path_to(struct ext4_dx_path *path, const struct ext4_name *name)
{
        const struct ext4_fs *fs = path->dir->fs;
        int ret = ext4_dx_path_begin(path);

        if (ret < 0)
                return ret;
        return ext4_dx_path_go(
                path, ext4_dx_hash(path->version, fs->sb.s_hash_seed, name->text, name->len));
}

struct ext4_dx_range ext4_dx_path_range(const struct ext4_dx_path *path)
{
        struct ext4_dx_range range = {0, 1ull << 32};

        for (unsigned i = 0; i < path->nr_levels; i++) {
                const struct ext4_dx_level *l = &path->levels[i];

                if (l->at > 0)
                        range.from =
                                max_t(uint64_t, range.from, le32_get(l->entries[l->at].hash));
                if (l->at + 1 < l->count)
                        range.to =
                                min_t(uint64_t, range.to, le32_get(l->entries[l->at + 1].hash));
        }
        return range;
}

int ext4_htree_lookup_locked(struct ext4_inode *dir, const struct ext4_name *name,
                             struct ext4_dir_hit *ret_hit)
{
        _cleanup_dx_path_ struct ext4_dx_path path = {.dir = dir};
        int ret = ext4_dx_path_to(&path, name);

        if (ret < 0)
                return ret;
        do {
                ret = search_leaf(&path, name, ret_hit);
                if (ret != -ENOENT)
                        return ret;
                ret = ext4_dx_next_leaf(&path);
        } while (ret > 0);
        return ret < 0 ? ret : -ENOENT;
}
