/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The inodes in memory: one object per inode number, shared by everybody who asks.
 *
 * Hashed by number into shards with a lock each, held for moments.  An inode without references
 * stays for the next one who asks, up to a bound per shard, oldest out first.  Reading from
 * disk happens under the inode's own load lock; an inode whose reading failed is not kept.
 */

#include <sys/queue.h>

#include "ext4/ext4.h"
#include "util/alloc.h"

#define NR_SHARDS  16
#define NR_SLOTS   256 /* per shard */
#define MAX_UNUSED 256 /* per shard */

LIST_HEAD(inode_list, ext4_inode);
TAILQ_HEAD(inode_queue, ext4_inode);

struct shard {
        struct mtx lock;
        struct inode_list slots[NR_SLOTS]; /* [lock] */
        struct inode_queue unused;         /* [lock] */
        uint32_t nr_unused;                /* [lock] */
        uint32_t nr;                       /* [lock] all inodes */
} __attribute__((aligned(CACHE_LINE)));

struct ext4_inode_table {
        struct ext4_fs *fs;
        struct shard shards[NR_SHARDS];
};

static struct shard *shard_of(struct ext4_inode_table *table, uint64_t ino)
{
        return &table->shards[ino % NR_SHARDS];
}

static struct inode_list *slot_of(struct shard *s, uint64_t ino)
{
        return &s->slots[ino / NR_SHARDS % NR_SLOTS];
}

/* ---- objects ---- */

static struct ext4_inode *inode_new(struct ext4_fs *fs, uint64_t ino)
{
        struct ext4_inode *inode = mem_zalloc(sizeof(*inode));

        if (!inode)
                return NULL;
        vfs_inode_init(&inode->vfs, &fs->vfs, ino);
        inode->fs = fs;
        inode->refs = 1;
        mtx_init(&inode->load, RANK_INODE_LOAD);
        rwsem_init(&inode->map_lock, RANK_MAP);
        ext4_es_init(&inode->es);
        return inode;
}

static void inode_free(struct ext4_inode *inode)
{
        ext4_es_clear(&inode->es, &inode->fs->nr_cached_extents);
        rwsem_done(&inode->es.lock);
        ext4_inode_unload(inode);
        rwsem_done(&inode->map_lock);
        mtx_done(&inode->load);
        vfs_inode_done(&inode->vfs);
        mem_free(inode);
}

static void free_all(struct inode_queue *victims)
{
        struct ext4_inode *inode;

        while ((inode = TAILQ_FIRST(victims))) {
                TAILQ_REMOVE(victims, inode, lru);
                inode_free(inode);
        }
}

/* ---- the table ---- */

int ext4_inode_table_new(struct ext4_fs *fs, struct ext4_inode_table **ret_table)
{
        struct ext4_inode_table *table = mem_alloc_aligned(CACHE_LINE, sizeof(*table));

        if (!table)
                return -ENOMEM;
        table->fs = fs;
        for (unsigned i = 0; i < NR_SHARDS; i++) {
                struct shard *s = &table->shards[i];

                mtx_init(&s->lock, RANK_INODE_TABLE);
                for (unsigned j = 0; j < NR_SLOTS; j++)
                        LIST_INIT(&s->slots[j]);
                TAILQ_INIT(&s->unused);
                s->nr_unused = 0;
                s->nr = 0;
        }
        *ret_table = table;
        return 0;
}

/* Take unused inodes out of the table, oldest first, until at most `keep` are left. */
static void evict_locked(struct shard *s, uint32_t keep, struct inode_queue *victims)
{
        while (s->nr_unused > keep) {
                struct ext4_inode *inode = TAILQ_FIRST(&s->unused);

                TAILQ_REMOVE(&s->unused, inode, lru);
                LIST_REMOVE(inode, hash);
                s->nr_unused--;
                s->nr--;
                TAILQ_INSERT_TAIL(victims, inode, lru);
        }
}

void ext4_inode_table_trim(struct ext4_inode_table *table)
{
        for (unsigned i = 0; i < NR_SHARDS; i++) {
                struct inode_queue victims = TAILQ_HEAD_INITIALIZER(victims);
                struct shard *s = &table->shards[i];

                mtx_lock(&s->lock);
                evict_locked(s, 0, &victims);
                mtx_unlock(&s->lock);
                free_all(&victims);
        }
}

void ext4_inode_table_free(struct ext4_inode_table *table)
{
        if (!table)
                return;
        ext4_inode_table_trim(table);
        for (unsigned i = 0; i < NR_SHARDS; i++) {
                assert(table->shards[i].nr == 0);
                mtx_done(&table->shards[i].lock);
        }
        mem_free(table);
}

bool ext4_inode_table_idle(struct ext4_inode_table *table)
{
        bool idle = true;

        for (unsigned i = 0; i < NR_SHARDS; i++) {
                struct shard *s = &table->shards[i];

                mtx_lock(&s->lock);
                idle &= s->nr == s->nr_unused;
                mtx_unlock(&s->lock);
        }
        return idle;
}

/* ---- get and put ---- */

static struct ext4_inode *find_locked(struct shard *s, uint64_t ino)
{
        struct ext4_inode *inode;

        LIST_FOREACH (inode, slot_of(s, ino), hash) {
                if (inode->vfs.ino == ino)
                        return inode;
        }
        return NULL;
}

static void ref_locked(struct shard *s, struct ext4_inode *inode)
{
        if (inode->refs++ == 0) {
                TAILQ_REMOVE(&s->unused, inode, lru);
                s->nr_unused--;
        }
}

/* The object for `ino` with a reference, perhaps not loaded; NULL: no memory. */
static struct ext4_inode *get_object(struct ext4_inode_table *table, uint64_t ino)
{
        struct shard *s = shard_of(table, ino);
        struct ext4_inode *fresh = NULL;
        struct ext4_inode *inode;

        mtx_lock(&s->lock);
        inode = find_locked(s, ino);
        if (!inode) {
                mtx_unlock(&s->lock);
                fresh = inode_new(table->fs, ino);
                if (!fresh)
                        return NULL;
                mtx_lock(&s->lock);
                inode = find_locked(s, ino);
        }
        if (inode) {
                ref_locked(s, inode);
        } else {
                LIST_INSERT_HEAD(slot_of(s, ino), fresh, hash);
                s->nr++;
                inode = fresh;
                fresh = NULL;
        }
        mtx_unlock(&s->lock);
        if (fresh)
                inode_free(fresh);
        return inode;
}

int ext4_iget(struct ext4_fs *fs, uint64_t ino, struct ext4_inode **ret_inode)
{
        struct ext4_inode *inode;
        int ret = 0;

        if (ino == 0 || ino > fs->nr_inodes)
                return -ESTALE;
        inode = get_object(fs->inodes, ino);
        if (!inode)
                return -ENOMEM;
        mtx_lock(&inode->load);
        if (!inode->loaded) {
                ret = ext4_inode_load(inode);
                inode->loaded = ret == 0;
        }
        mtx_unlock(&inode->load);
        if (ret < 0) {
                ext4_iput(inode);
                return ret;
        }
        *ret_inode = inode;
        return 0;
}

int ext4_iget_linked(struct ext4_inode *dir, uint64_t ino, struct ext4_inode **ret_inode)
{
        const struct ext4_where at = ext4_at(dir, 0);
        int ret = ext4_iget(dir->fs, ino, ret_inode);

        if (ret == -ESTALE)
                return ext4_corrupt(&at, "an entry leads to inode %llu, which is free",
                                    (unsigned long long)ino);
        return ret;
}

void ext4_iget_again(struct ext4_inode *inode)
{
        struct shard *s = shard_of(inode->fs->inodes, inode->vfs.ino);

        mtx_lock(&s->lock);
        assert(inode->refs > 0);
        inode->refs++;
        mtx_unlock(&s->lock);
}

void ext4_iput(struct ext4_inode *inode)
{
        struct inode_queue victims = TAILQ_HEAD_INITIALIZER(victims);
        struct shard *s;

        if (!inode)
                return;
        s = shard_of(inode->fs->inodes, inode->vfs.ino);
        mtx_lock(&s->lock);
        assert(inode->refs > 0);
        if (--inode->refs == 0) {
                s->nr_unused++;
                /* `loaded` cannot change without a reference.  What could not be read goes at
                 * once. */
                if (inode->loaded) {
                        TAILQ_INSERT_TAIL(&s->unused, inode, lru);
                        evict_locked(s, MAX_UNUSED, &victims);
                } else {
                        TAILQ_INSERT_HEAD(&s->unused, inode, lru);
                        evict_locked(s, s->nr_unused - 1, &victims);
                }
        }
        mtx_unlock(&s->lock);
        free_all(&victims);
}
