/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The inodes in memory: one object per inode number, shared by everybody who asks.
 *
 * Hashed by number into shards with a lock each, held for moments.  An inode without references
 * stays for the next one who asks, up to a bound per shard, oldest out first.  Reading from
 * disk happens under the inode's own load lock; an inode whose reading failed is not kept.
 *
 * The last reference to an inode without links deletes it.  From then on it is dying: nobody
 * gets it.  Before its number is given back it leaves the table (ext4_inode_unhash), so
 * that the next inode of that number is another object.
 */

#include <string.h>
#include <sys/queue.h>

#include "ext4/delayed.h"
#include "ext4/dir_read.h"
#include "ext4/ialloc.h"
#include "ext4/orphan.h"
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
        struct mtx raw; /* RANK_LEAF: bytes of the raw inodes of this shard */
} __attribute__((aligned(CACHE_LINE)));

struct ext4_inode_table {
        struct ext4_fs *fs;

        /* No inode that is not in memory was changed later than by this transaction.  Changes
         * to a later one only; partner: the reader in set_tids(). */
        _Atomic uint32_t tid;

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
        inode->hashed = true;
        mtx_init(&inode->load, RANK_INODE_LOAD);
        rwsem_init(&inode->map_lock, RANK_MAP);
        ext4_delayed_init(&inode->delayed);
        ext4_es_init(&inode->es);
        return inode;
}

static void inode_free(struct ext4_inode *inode)
{
        vfs_pages_discard(&inode->vfs, 0, UINT64_MAX); /* nothing is dirty */
        ext4_orphan_leave(inode);
        /* One that was made in vain has none, and may be given up under a group's lock. */
        if (!RB_EMPTY(&inode->es.tree))
                ext4_es_clear(&inode->es, &inode->fs->nr_cached_extents);
        rwsem_done(&inode->es.lock);
        ext4_inode_unload(inode);
        ext4_delayed_done(&inode->delayed);
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
        atomic_init(&table->tid, 0);
        for (unsigned i = 0; i < NR_SHARDS; i++) {
                struct shard *s = &table->shards[i];

                mtx_init(&s->lock, RANK_INODE_TABLE);
                mtx_init(&s->raw, RANK_LEAF);
                for (unsigned j = 0; j < NR_SLOTS; j++)
                        LIST_INIT(&s->slots[j]);
                TAILQ_INIT(&s->unused);
                s->nr_unused = 0;
                s->nr = 0;
        }
        *ret_table = table;
        return 0;
}

struct mtx *ext4_inode_raw_lock(struct ext4_inode_table *table, uint64_t ino)
{
        return &shard_of(table, ino)->raw;
}

void ext4_inode_table_set_tid(struct ext4_inode_table *table, uint32_t tid)
{
        atomic_store(&table->tid, tid);
}

/* The inode leaves memory: who reads it again must wait for what has changed it. */
static void remember_tid(struct ext4_inode_table *table, struct ext4_inode *inode)
{
        uint32_t tid = atomic_load(&inode->sync_tid);
        uint32_t seen = atomic_load(&table->tid);

        while ((int32_t)(tid - seen) > 0 &&
               !atomic_compare_exchange_weak(&table->tid, &seen, tid))
                ;
}

static void unhash_locked(struct ext4_inode_table *table, struct shard *s,
                          struct ext4_inode *inode)
{
        LIST_REMOVE(inode, hash);
        inode->hashed = false;
        s->nr--;
        remember_tid(table, inode);
}

/* Take unused inodes out of the table, oldest first, until at most `keep` are left. */
static void evict_locked(struct ext4_inode_table *table, struct shard *s, uint32_t keep,
                         struct inode_queue *victims)
{
        while (s->nr_unused > keep) {
                struct ext4_inode *inode = TAILQ_FIRST(&s->unused);

                TAILQ_REMOVE(&s->unused, inode, lru);
                s->nr_unused--;
                unhash_locked(table, s, inode);
                TAILQ_INSERT_TAIL(victims, inode, lru);
        }
}

void ext4_inode_table_trim(struct ext4_inode_table *table)
{
        for (unsigned i = 0; i < NR_SHARDS; i++) {
                struct inode_queue victims = TAILQ_HEAD_INITIALIZER(victims);
                struct shard *s = &table->shards[i];

                mtx_lock(&s->lock);
                evict_locked(table, s, 0, &victims);
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
                mtx_done(&table->shards[i].raw);
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

/* The object for `ino` with a reference, perhaps not loaded.  -ENOMEM; -ESTALE: it is dying. */
static int get_object(struct ext4_inode_table *table, uint64_t ino,
                      struct ext4_inode **ret_inode)
{
        struct shard *s = shard_of(table, ino);
        struct ext4_inode *fresh = NULL;
        struct ext4_inode *inode;
        int ret = 0;

        mtx_lock(&s->lock);
        inode = find_locked(s, ino);
        if (!inode) {
                mtx_unlock(&s->lock);
                fresh = inode_new(table->fs, ino);
                if (!fresh)
                        return -ENOMEM;
                mtx_lock(&s->lock);
                inode = find_locked(s, ino);
        }
        if (!inode) {
                LIST_INSERT_HEAD(slot_of(s, ino), fresh, hash);
                s->nr++;
                inode = fresh;
                fresh = NULL;
        } else if (inode->dying) {
                ret = -ESTALE;
        } else {
                ref_locked(s, inode);
        }
        mtx_unlock(&s->lock);
        if (fresh)
                inode_free(fresh);
        if (ret == 0)
                *ret_inode = inode;
        return ret;
}

/* What has changed it before it was read is not known, but not later than this. */
static void set_tids(struct ext4_inode *inode)
{
        uint32_t tid = atomic_load(&inode->fs->inodes->tid);

        atomic_store(&inode->sync_tid, tid);
        atomic_store(&inode->datasync_tid, tid);
}

static int get_loaded(struct ext4_fs *fs, uint64_t ino, int (*load)(struct ext4_inode *inode),
                      struct ext4_inode **ret_inode)
{
        struct ext4_inode *inode;
        int ret;

        if (ino == 0 || ino > fs->nr_inodes)
                return -ESTALE;
        ret = get_object(fs->inodes, ino, &inode);
        if (ret < 0)
                return ret;
        mtx_lock(&inode->load);
        if (!inode->loaded) {
                set_tids(inode);
                ret = load(inode);
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

int ext4_iget(struct ext4_fs *fs, uint64_t ino, struct ext4_inode **ret_inode)
{
        return get_loaded(fs, ino, ext4_inode_load, ret_inode);
}

int ext4_iget_orphan(struct ext4_fs *fs, uint64_t ino, struct ext4_inode **ret_inode)
{
        return get_loaded(fs, ino, ext4_inode_load_orphan, ret_inode);
}

/* Give back an object that is loaded, without taking another's place in memory: the caller may
 * hold locks that freeing an object does not go with. */
static void put_loaded(struct ext4_inode *inode)
{
        struct shard *s = shard_of(inode->fs->inodes, inode->vfs.ino);

        mtx_lock(&s->lock);
        if (--inode->refs == 0) {
                s->nr_unused++;
                TAILQ_INSERT_TAIL(&s->unused, inode, lru);
        }
        mtx_unlock(&s->lock);
}

int ext4_iget_new(struct ext4_fs *fs, uint32_t ino, struct ext4_inode **ret_inode)
{
        const struct ext4_where at = {fs, ino, 0};
        struct ext4_inode *inode;
        int ret = get_object(fs->inodes, ino, &inode);

        if (ret == -ENOMEM)
                return ret;
        if (ret == 0) {
                mtx_lock(&inode->load);
                if (!inode->loaded) {
                        set_tids(inode);
                        *ret_inode = inode;
                        return 0;
                }
                mtx_unlock(&inode->load);
                put_loaded(inode);
        }
        return ext4_corrupt(&at, "free in the bitmap, but in use");
}

void ext4_iget_new_done(struct ext4_inode *inode, bool loaded)
{
        inode->loaded = loaded;
        mtx_unlock(&inode->load);
}

void ext4_inode_unhash(struct ext4_inode *inode)
{
        struct ext4_inode_table *table = inode->fs->inodes;
        struct shard *s = shard_of(table, inode->vfs.ino);

        mtx_lock(&s->lock);
        if (inode->hashed)
                unhash_locked(table, s, inode);
        mtx_unlock(&s->lock);
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

/* The last reference is gone: keep the object for the next who asks, if it is good for that. */
static void retire_locked(struct ext4_inode_table *table, struct shard *s,
                          struct ext4_inode *inode, struct inode_queue *victims)
{
        ext4_dir_forget_batch(inode);
        if (inode->hashed && inode->loaded && !inode->dying) {
                s->nr_unused++;
                TAILQ_INSERT_TAIL(&s->unused, inode, lru);
                evict_locked(table, s, MAX_UNUSED, victims);
                return;
        }
        if (inode->hashed)
                unhash_locked(table, s, inode);
        TAILQ_INSERT_TAIL(victims, inode, lru);
}

/* Nobody but the holder of the last reference can change the number of links; `loaded` cannot
 * change without a reference. */
static bool is_to_die_locked(const struct ext4_inode *inode)
{
        return inode->fs->ialloc && /* this mount writes */
               inode->refs == 1 && inode->loaded && inode->nlink == 0 && !inode->dying;
}

/* The list of dirty files does not keep one that is to be deleted: its data goes with it. */
static void forget_dirty_locked(struct ext4_inode *inode)
{
        /* Of two references one is the list's, so that nobody changes the inode now. */
        if (inode->refs == 2 && inode->fs->ialloc && vfs_flusher_lists(&inode->vfs) &&
            inode->loaded && inode->nlink == 0 && vfs_flusher_forget(&inode->vfs))
                inode->refs--;
}

/*
 * Give a reference back: true.  False when it is the last one to an inode that is to be
 * deleted: it is kept, and nobody gets another one.  Deciding that and counting down are one
 * step, since of two who give theirs back one must find that it is the last.
 */
static bool put_unless_last(struct ext4_inode *inode)
{
        struct inode_queue victims = TAILQ_HEAD_INITIALIZER(victims);
        struct ext4_inode_table *table = inode->fs->inodes;
        struct shard *s = shard_of(table, inode->vfs.ino);
        bool last;

        mtx_lock(&s->lock);
        assert(inode->refs > 0);
        forget_dirty_locked(inode);
        last = is_to_die_locked(inode);
        if (last)
                inode->dying = true;
        else if (--inode->refs == 0)
                retire_locked(table, s, inode, &victims);
        mtx_unlock(&s->lock);
        free_all(&victims);
        return !last;
}

void ext4_iput(struct ext4_inode *inode)
{
        int ret;

        if (!inode || put_unless_last(inode))
                return;
        ret = ext4_inode_delete(inode);
        /* Nobody waits for the answer.  It stays on the orphan list (J49). */
        if (ret < 0)
                log_say(&inode->fs->vfs.log, LOG_WARNING,
                        "inode %u is unlinked and could not be deleted: %s", ext4_ino(inode),
                        strerror(-ret));
        (void)put_unless_last(inode); /* it is dying: this lets go of it */
}
