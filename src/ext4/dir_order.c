/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ext4/dir_read.h"

#include <stdlib.h>
#include <string.h>

#include "ext4/hash.h"
#include "ext4/htree.h"
#include "util/alloc.h"

/*
 * Reading a directory in the order of hashes.
 *
 * In a hashed directory the leaf is found in which the hash of the cookie would be; all of its
 * names behind the cookie are sorted by their keys, and handed out one by one.  When they are
 * used up it goes on with the first hash of the next leaf.  Elsewhere, and where the index is
 * damaged, all blocks are looked at, and the smallest keys behind the cookie are kept.
 *
 * What was sorted is a batch: places of entries, in the order of their keys.  It is good for
 * every cookie between its two ends as long as nobody changes the directory.  Since the
 * caller has a cookie only, the last batches are kept in the inode; who reads takes one out, so
 * that it is his alone, and puts it back afterwards.
 *
 * Invariants
 *  DO1 A batch has all names with keys from `from` on and up to `to`: what is not in a batch
 *      either lies outside of its ends, or was entered later, when the batch is void.
 *  DO2 A batch has at most 2 * MAX_ITEMS items, whatever the directory is like.
 *  DO3 Each batch that is made ends higher than the one before, so that empty leaves, however
 *      many, are passed once.
 */

/* ---- cookies ---- */

#define LEFT_BITS 5
#define LEFT_MASK ((1u << LEFT_BITS) - 1)
#define TAIL_BITS 26 /* of the second hash */

static uint64_t key_of(uint32_t hash, uint32_t tail)
{
        return (uint64_t)(hash >> 1) << TAIL_BITS |
               max_t(uint32_t, tail >> (32 - TAIL_BITS), 1);
}

static uint32_t hash_of_key(uint64_t key)
{
        return (uint32_t)(key >> TAIL_BITS) << 1;
}

/* All names with keys below this one are done, and so many of those with this key are left. */
static uint64_t make_cookie(uint64_t key, uint32_t left)
{
        return EXT4_COOKIE_HASHED | key << LEFT_BITS | (LEFT_MASK - left);
}

static uint64_t cookie_key(uint64_t cookie)
{
        return (cookie & (EXT4_COOKIE_HASHED - 1)) >> LEFT_BITS;
}

static uint32_t cookie_left(uint64_t cookie)
{
        return LEFT_MASK - (uint32_t)(cookie & LEFT_MASK);
}

/* Before the first name of a hash, which may be just above all that there are. */
static uint64_t cookie_of_hash(uint64_t hash)
{
        return hash >> 32 ? EXT4_COOKIE_END : make_cookie(hash >> 1 << TAIL_BITS, LEFT_MASK);
}

/* ---- batches ---- */

#define MAX_ITEMS 4096 /* a leaf of 64 KiB has no more than twice as many */

struct item {
        uint64_t key;
        ext4_lblk_t lblk;
        uint32_t pos; /* in the block, or in inline_data */
};

struct ext4_dir_batch {
        uint64_t seq;      /* of the directory's changes, when it was made */
        uint64_t from, to; /* cookies: the one that it was made for, the one to go on with */
        int err;           /* to be told before going on there */
        uint32_t nr, cap;
        struct item *items;
};

static void batch_free(struct ext4_dir_batch *batch)
{
        if (!batch)
                return;
        mem_free(batch->items);
        mem_free(batch);
}

void ext4_dir_forget_batch(struct ext4_inode *dir)
{
        for (size_t i = 0; i < ARRAY_LEN(dir->batches); i++) {
                if (atomic_load(&dir->batches[i]))
                        batch_free(atomic_exchange(&dir->batches[i], NULL));
        }
}

static bool is_good_for(const struct ext4_dir_batch *batch, const struct ext4_inode *dir,
                        uint64_t cookie)
{
        return batch->seq == dir->dir_seq && batch->from <= cookie && cookie < batch->to;
}

/* One that is good, or NULL.  Those that are void go. */
static struct ext4_dir_batch *take_batch(struct ext4_inode *dir, uint64_t cookie)
{
        for (size_t i = 0; i < ARRAY_LEN(dir->batches); i++) {
                struct ext4_dir_batch *batch = atomic_exchange(&dir->batches[i], NULL);
                struct ext4_dir_batch *none = NULL;

                if (!batch)
                        continue;
                if (is_good_for(batch, dir, cookie))
                        return batch;
                if (batch->seq == dir->dir_seq &&
                    atomic_compare_exchange_strong(&dir->batches[i], &none, batch))
                        continue;
                batch_free(batch);
        }
        return NULL;
}

static void keep_batch(struct ext4_inode *dir, struct ext4_dir_batch *batch)
{
        for (size_t i = 0; i < ARRAY_LEN(dir->batches); i++) {
                struct ext4_dir_batch *none = NULL;

                if (atomic_compare_exchange_strong(&dir->batches[i], &none, batch))
                        return;
        }
        /* Somebody else's place, by what nobody knows before. */
        batch_free(atomic_exchange(&dir->batches[batch->from / 61 % ARRAY_LEN(dir->batches)],
                                   batch));
}

/* ---- gathering ---- */

struct gather {
        struct ext4_inode *dir;
        uint8_t version;      /* of the hash, with its sign */
        uint64_t min_key;     /* keys below are of no interest, nor those above */
        uint64_t max_key;     /* UINT64_MAX until there were too many */
        uint64_t leaves_left; /* DO3 holds for an index that is one; more is damage */
        struct ext4_dir_batch *batch;
};

static int by_key(const void *pa, const void *pb)
{
        const struct item *a = pa, *b = pb;

        if (a->key != b->key)
                return a->key < b->key ? -1 : 1;
        if (a->lblk != b->lblk)
                return a->lblk < b->lblk ? -1 : 1;
        return a->pos < b->pos ? -1 : a->pos > b->pos;
}

static void sort_items(struct ext4_dir_batch *batch)
{
        if (batch->nr > 1)
                qsort(batch->items, batch->nr, sizeof(*batch->items), by_key);
}

/* Keep the smallest.  Of names with the same key all or none; more than fit are more than
 * anybody could tell apart. */
static void drop_largest(struct gather *g)
{
        struct ext4_dir_batch *batch = g->batch;
        uint32_t nr = MAX_ITEMS;

        sort_items(batch);
        while (nr > 0 && batch->items[nr - 1].key == batch->items[nr].key)
                nr--;
        batch->nr = nr > 0 ? nr : MAX_ITEMS;
        g->max_key = batch->items[batch->nr - 1].key;
}

static int grow(struct ext4_dir_batch *batch)
{
        uint32_t cap = batch->cap ? batch->cap * 2 : 64;
        struct item *items = mem_alloc(cap * sizeof(*items));

        if (!items)
                return -ENOMEM;
        if (batch->nr > 0)
                memcpy(items, batch->items, batch->nr * sizeof(*items));
        mem_free(batch->items);
        batch->items = items;
        batch->cap = cap;
        return 0;
}

static int add_item(struct gather *g, const struct item *item)
{
        struct ext4_dir_batch *batch = g->batch;

        if (item->key < g->min_key || item->key > g->max_key)
                return 0;
        if (batch->nr == 2 * MAX_ITEMS) {
                drop_largest(g);
                if (item->key > g->max_key)
                        return 0;
        }
        if (batch->nr == batch->cap) {
                int ret = grow(batch);

                if (ret < 0)
                        return ret;
        }
        batch->items[batch->nr++] = *item;
        return 0;
}

static bool is_dots(const struct ext4_dir_entry *entry)
{
        const char *name = (const char *)(entry + 1);

        return name[0] == '.' &&
               (entry->name_len == 1 || (entry->name_len == 2 && name[1] == '.'));
}

static uint64_t key_of_entry(const struct ext4_fs *fs, uint8_t version,
                             const struct ext4_dir_entry *entry)
{
        const char *name = (const char *)(entry + 1);

        return key_of(ext4_dx_hash(version, fs->sb.s_hash_seed, name, entry->name_len),
                      ext4_name_tail(fs->sb.s_hash_seed, name, entry->name_len));
}

/*
 * The names of a run, whose hashes must be in the range of the leaf: 0; -EUCLEAN, not said,
 * when there are others.  `base`: of the run, for positions.
 */
static int gather_run(struct gather *g, const uint8_t *data, uint32_t base, uint32_t size,
                      ext4_lblk_t lblk, const struct ext4_dx_range *range)
{
        struct ext4_dir_walk walk = ext4_dir_walk(g->dir, data + base, size);

        for (;;) {
                struct item item = {.lblk = lblk, .pos = base + walk.pos};
                const struct ext4_dir_entry *entry = ext4_dir_walk_next(&walk);
                int ret;

                if (!entry)
                        return 0;
                if (le32_get(entry->inode) == 0 || is_dots(entry))
                        continue;
                item.key = key_of_entry(g->dir->fs, g->version, entry);
                if (range && !ext4_dx_in_range(range, hash_of_key(item.key)))
                        return -EUCLEAN;
                ret = add_item(g, &item);
                if (ret < 0)
                        return ret;
        }
}

/* All names before `to` were looked at; but if there were too many, not all are kept, and what
 * is wrong will be found again by the one who goes on. */
static void end_batch(struct gather *g, uint64_t to)
{
        g->batch->to = to;
        if (g->max_key != UINT64_MAX && make_cookie(g->max_key, 0) < to) {
                g->batch->to = make_cookie(g->max_key, 0);
                g->batch->err = 0;
        }
}

/* ---- all of the directory ---- */

static int gather_inline(struct gather *g)
{
        int ret = 0;

        for (unsigned which = 0; ret == 0 && which < 2; which++) {
                struct ext4_inline_run run = ext4_inline_run(g->dir, which);

                ret = gather_run(g, g->dir->inline_data, run.start, run.size, 0, NULL);
        }
        return ret;
}

static int gather_blocks(struct gather *g)
{
        ext4_lblk_t nr_blocks;
        uint64_t lblk = 0;
        int ret = ext4_dir_nr_blocks(g->dir, &nr_blocks);

        while (ret == 0) {
                _cleanup_buf_ struct buf *buf = NULL;

                ret = ext4_dir_next_block(g->dir, &lblk, nr_blocks, &buf);
                if (ext4_is_damage(ret)) {
                        g->batch->err = ret; /* told at the end */
                        ret = 0;
                        continue;
                }
                if (ret <= 0)
                        return ret;
                ret = gather_run(g, buf->data, 0, g->dir->fs->block_size, (ext4_lblk_t)lblk,
                                 NULL);
                lblk++;
        }
        return ret;
}

static int gather_all(struct gather *g)
{
        int ret = g->dir->flags & EXT4_FL_INLINE_DATA ? gather_inline(g) : gather_blocks(g);

        sort_items(g->batch);
        end_batch(g, EXT4_COOKIE_END);
        return ret;
}

/* ---- one leaf ---- */

/* A leaf that cannot be read is told about, and passed. */
static int gather_leaf(struct gather *g, struct ext4_dx_path *path,
                       const struct ext4_dx_range *range)
{
        _cleanup_buf_ struct buf *buf = NULL;
        const struct ext4_where at = ext4_at(g->dir, 0);
        ext4_lblk_t lblk = ext4_dx_leaf(path);
        int ret;

        if (g->leaves_left-- == 0)
                return ext4_corrupt(&at, "directory index: more leaves than blocks");
        ret = ext4_dx_read_block(g->dir, lblk, ext4_dir_block_verify, &buf);
        if (ext4_is_damage(ret)) {
                g->batch->err = ret;
                return 0;
        }
        if (ret < 0)
                return ret;
        ret = gather_run(g, buf->data, 0, g->dir->fs->block_size, lblk, range);
        if (ret == -EUCLEAN)
                return ext4_corrupt(&at, "directory index: a name is where its hash does not "
                                         "belong");
        return ret;
}

/* What the leaf of a hash has, and those in which this hash goes on; to the first hash that is
 * not known to be all there. */
static int gather_hash(struct gather *g, struct ext4_dx_path *path, uint32_t hash,
                       uint64_t *ret_next)
{
        const struct ext4_where at = ext4_at(g->dir, 0);
        struct ext4_dx_range range;
        int ret = ext4_dx_path_go(path, hash);

        do {
                if (ret < 0)
                        return ret;
                range = ext4_dx_path_range(path);
                ret = gather_leaf(g, path, &range);
                if (ret == 0)
                        ret = ext4_dx_next_leaf(path);
        } while (ret != 0);
        *ret_next = range.to & ~1ull;
        if (*ret_next <= hash)
                return ext4_corrupt(&at, "directory index: hashes do not rise");
        return 0;
}

/* The names of the first hash that may go on in the leaf behind are left to the next batch. */
static void cut_at(struct ext4_dir_batch *batch, uint64_t hash)
{
        while (batch->nr > 0 && hash_of_key(batch->items[batch->nr - 1].key) >= hash)
                batch->nr--;
}

/* From the leaf of the cookie to the first one that has something to tell. */
static int gather_index(struct gather *g)
{
        _cleanup_dx_path_ struct ext4_dx_path path = {.dir = g->dir};
        struct ext4_dir_batch *batch = g->batch;
        uint64_t hash = hash_of_key(g->min_key);
        int ret = ext4_dx_path_begin(&path);

        if (ret < 0)
                return ret;
        g->version = path.version;
        g->leaves_left = 2 * (uint64_t)path.leaves_left; /* two hashes may have one leaf */
        while (hash >> 32 == 0) {
                uint64_t next;

                g->max_key = UINT64_MAX;
                ret = gather_hash(g, &path, (uint32_t)hash, &next);
                if (ret < 0)
                        return ret;
                sort_items(batch);
                cut_at(batch, next);
                end_batch(g, cookie_of_hash(next));
                if (batch->nr > 0 || batch->err < 0)
                        return 0;
                hash = next;
        }
        return 0;
}

static int gather(struct ext4_inode *dir, struct ext4_dir_batch *batch)
{
        struct gather g = {
                .dir = dir,
                .version = ext4_dx_default_version(dir->fs),
                .min_key = cookie_key(batch->from) + (cookie_left(batch->from) == 0),
                .max_key = UINT64_MAX,
                .batch = batch,
        };

        if (ext4_dir_is_hashed(dir)) {
                int ret = gather_index(&g);

                if (!ext4_is_damage(ret))
                        return ret;
                batch->nr = 0;
                batch->err = 0;
                g.max_key = UINT64_MAX;
        }
        return gather_all(&g);
}

static int make_batch(struct ext4_inode *dir, uint64_t cookie,
                      struct ext4_dir_batch **ret_batch)
{
        struct ext4_dir_batch *batch = mem_zalloc(sizeof(*batch));
        int ret;

        if (!batch)
                return -ENOMEM;
        batch->seq = dir->dir_seq;
        batch->from = cookie;
        batch->to = EXT4_COOKIE_END;
        ret = gather(dir, batch);
        if (ret < 0)
                batch_free(batch);
        else
                *ret_batch = batch;
        return ret;
}

/* ---- handing out ---- */

static uint32_t first_from(const struct ext4_dir_batch *batch, uint64_t key)
{
        uint32_t low = 0, high = batch->nr;

        while (low < high) {
                uint32_t mid = low + (high - low) / 2;

                if (batch->items[mid].key < key)
                        low = mid + 1;
                else
                        high = mid;
        }
        return low;
}

/* How many have the key of item i and come behind it; LEFT_MASK: so many or more. */
static uint32_t nr_left(const struct ext4_dir_batch *batch, uint32_t i)
{
        uint32_t n = 0;

        while (n < LEFT_MASK && i + n + 1 < batch->nr &&
               batch->items[i + n + 1].key == batch->items[i].key)
                n++;
        return n;
}

/* The entry is looked at anew: the block may have been read again, from a device that changes
 * by itself. */
static int fill_item(struct ext4_inode *dir, const struct item *item,
                     struct ext4_dirent *ret_entry)
{
        const struct buf_check check = ext4_dir_check(dir, ext4_dir_block_verify);
        const struct ext4_where at = ext4_at(dir, 0);
        _cleanup_buf_ struct buf *buf = NULL;
        const uint8_t *data = dir->inline_data;
        uint32_t size = dir->inline_size;
        const struct ext4_dir_entry *entry;
        int ret = 0;

        if (!(dir->flags & EXT4_FL_INLINE_DATA)) {
                ret = ext4_read_block(dir, item->lblk, &check, &buf);
                data = buf ? buf->data : NULL;
                size = dir->fs->block_size;
        }
        if (ret < 0)
                return ret;
        entry = (const void *)(data + item->pos);
        if (!data || item->pos + sizeof(*entry) > size ||
            item->pos + sizeof(*entry) + entry->name_len > size || entry->name_len == 0 ||
            le32_get(entry->inode) == 0 || le32_get(entry->inode) > dir->fs->nr_inodes)
                return ext4_corrupt(&at, "a directory block has changed by itself");
        ext4_dirent_fill(dir, entry, ret_entry);
        return 1;
}

/* The first item behind *cookie, which moves on: 1; 0: there is none. */
static int read_batch(struct ext4_inode *dir, const struct ext4_dir_batch *batch,
                      uint64_t *cookie, struct ext4_dirent *ret_entry)
{
        uint64_t key = cookie_key(*cookie);

        for (uint32_t i = first_from(batch, key); i < batch->nr; i++) {
                const struct item *item = &batch->items[i];
                uint32_t left = nr_left(batch, i);

                if (item->key == key && left >= cookie_left(*cookie))
                        continue;
                if (left >= LEFT_MASK) {
                        *cookie = make_cookie(item->key, LEFT_MASK);
                        return -EOVERFLOW;
                }
                *cookie = make_cookie(item->key, left);
                return fill_item(dir, item, ret_entry);
        }
        return 0;
}

int ext4_dir_read_ordered(struct ext4_inode *dir, uint64_t *cookie,
                          struct ext4_dirent *ret_entry)
{
        uint64_t at = *cookie;

        while (at < EXT4_COOKIE_END) {
                struct ext4_dir_batch *batch = take_batch(dir, at);
                int ret = batch ? 0 : make_batch(dir, at, &batch);

                if (ret < 0)
                        return ret;
                ret = read_batch(dir, batch, &at, ret_entry);
                if (ret != 0) {
                        keep_batch(dir, batch);
                        *cookie = at;
                        return ret;
                }
                ret = batch->err;
                at = batch->to;
                batch_free(batch);
                if (ret < 0) {
                        *cookie = at;
                        return ret;
                }
        }
        return 0;
}
