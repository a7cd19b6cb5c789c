/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "buf/buf.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "util/alloc.h"

/*
 * The cache is cut in shards by block number; each has a hash table, a list of the
 * buffers that nobody references (oldest first) and its share of the bound.  The
 * shard lock guards membership and reference counts and is held for moments;
 * reading and checking happen under the buffer's own load lock, so that two
 * threads which want the same cold block make one device read.
 */

#define NR_SHARDS   16
#define NR_VERDICTS 2 /* a block that two owners claim is rare, three are an attack */

struct verdict {
        int (*verify)(const void *data, size_t size, uint64_t blk, const void *arg);
        uint64_t owner;
        int err;
};

struct shard;

struct entry {
        struct buf buf;
        struct shard *shard;
        LIST_ENTRY(entry) hash;    /* [shard] */
        TAILQ_ENTRY(entry) unused; /* [shard] on the list iff refs == 0 */
        uint32_t refs;             /* [shard] */

        struct mtx load;
        bool loaded;                          /* [load] */
        unsigned next_verdict;                /* [load] */
        struct verdict verdicts[NR_VERDICTS]; /* [load] verify NULL: free */

        /* How many have asked for it, each as something else, readers without a check being
         * one.  Written under load; buf_changed() reads it without. */
        _Atomic uint32_t nr_roles;
        bool read_unchecked; /* [load] */
};

LIST_HEAD(entry_list, entry);
TAILQ_HEAD(entry_queue, entry);

struct shard {
        struct buf_cache *cache;
        struct mtx lock;
        struct entry_list *table;  /* [lock] */
        struct entry_queue unused; /* [lock] */
        uint32_t nr;               /* [lock] */
} __attribute__((aligned(CACHE_LINE)));

struct buf_cache {
        struct shard shards[NR_SHARDS];
        struct uext4_bdev *dev;
        uint32_t block_size;
        uint32_t max_per_shard; /* buffers */
        uint32_t table_mask;
        _Atomic uint64_t reads;
};

static uint64_t mix(uint64_t blk)
{
        return blk * 0x9e3779b97f4a7c15u >> 20;
}

static struct shard *shard_of(struct buf_cache *cache, uint64_t blk)
{
        return &cache->shards[mix(blk) % NR_SHARDS];
}

static struct entry_list *slot_of(struct shard *s, uint64_t blk)
{
        return &s->table[mix(blk) / NR_SHARDS & s->cache->table_mask];
}

/* ---- life ---- */

static int shard_init(struct shard *s, struct buf_cache *cache)
{
        s->cache = cache;
        mtx_init(&s->lock, RANK_BUF_SHARD);
        TAILQ_INIT(&s->unused);
        s->table = mem_array(cache->table_mask + 1, sizeof(*s->table));
        return s->table ? 0 : -ENOMEM;
}

int buf_cache_new(struct uext4_bdev *dev, uint32_t block_size, uint64_t max_bytes,
                  struct buf_cache **ret_cache)
{
        struct buf_cache *cache = mem_alloc_aligned(CACHE_LINE, sizeof(*cache));
        uint64_t per_shard = max_bytes / block_size / NR_SHARDS;

        if (!cache)
                return -ENOMEM;
        *cache = (struct buf_cache){.dev = dev, .block_size = block_size};
        cache->max_per_shard =
                (uint32_t)min_t(uint64_t, max_t(uint64_t, per_shard, 4), 1u << 24);
        cache->table_mask = 1;
        while (cache->table_mask < cache->max_per_shard)
                cache->table_mask = cache->table_mask << 1 | 1;
        for (unsigned i = 0; i < NR_SHARDS; i++) {
                if (shard_init(&cache->shards[i], cache) < 0) {
                        buf_cache_free(cache);
                        return -ENOMEM;
                }
        }
        *ret_cache = cache;
        return 0;
}

uint32_t buf_cache_block_size(const struct buf_cache *cache)
{
        return cache->block_size;
}

static void entry_free(struct entry *e)
{
        mtx_done(&e->load);
        mem_free((void *)(uintptr_t)e->buf.data);
        mem_free(e);
}

void buf_cache_free(struct buf_cache *cache)
{
        if (!cache)
                return;
        for (unsigned i = 0; i < NR_SHARDS; i++) {
                struct shard *s = &cache->shards[i];
                struct entry *e;

                if (!s->cache)
                        continue;
                while ((e = TAILQ_FIRST(&s->unused))) {
                        TAILQ_REMOVE(&s->unused, e, unused);
                        entry_free(e);
                        s->nr--;
                }
                assert(s->nr == 0); /* I1: somebody kept a reference */
                mem_free(s->table);
                mtx_done(&s->lock);
        }
        mem_free(cache);
}

/* ---- lookup ---- */

static struct entry *find_locked(struct shard *s, uint64_t blk)
{
        struct entry *e;

        LIST_FOREACH (e, slot_of(s, blk), hash) {
                if (e->buf.blk == blk)
                        return e;
        }
        return NULL;
}

static void ref_locked(struct entry *e)
{
        if (e->refs++ == 0)
                TAILQ_REMOVE(&e->shard->unused, e, unused);
}

static struct entry *entry_new(struct shard *s, uint64_t blk)
{
        struct buf_cache *cache = s->cache;
        struct entry *e = mem_zalloc(sizeof(*e));
        uint32_t align = max_t(uint32_t, uext4_bdev_geometry(cache->dev)->mem_align, 64);

        if (!e)
                return NULL;
        e->buf.data = mem_alloc_aligned(align, cache->block_size);
        if (!e->buf.data) {
                mem_free(e);
                return NULL;
        }
        memset(buf_bytes(&e->buf), 0, cache->block_size);
        e->buf.blk = blk;
        e->shard = s;
        e->refs = 1;
        mtx_init(&e->load, RANK_BUF_LOAD);
        return e;
}

static void drop_locked(struct entry *e)
{
        TAILQ_REMOVE(&e->shard->unused, e, unused);
        LIST_REMOVE(e, hash);
        e->shard->nr--;
        entry_free(e);
}

/* I3: make room, oldest first. */
static void shrink_locked(struct shard *s)
{
        struct entry *e;

        while (s->nr >= s->cache->max_per_shard && (e = TAILQ_FIRST(&s->unused)))
                drop_locked(e);
}

/* The entry of `blk` with a reference, perhaps not yet loaded; NULL: no memory. */
static struct entry *entry_get(struct buf_cache *cache, uint64_t blk)
{
        struct shard *s = shard_of(cache, blk);
        struct entry *fresh = NULL;
        struct entry *e;

        mtx_lock(&s->lock);
        e = find_locked(s, blk);
        if (!e) {
                mtx_unlock(&s->lock);
                fresh = entry_new(s, blk);
                if (!fresh)
                        return NULL;
                mtx_lock(&s->lock);
                e = find_locked(s, blk); /* somebody may have been quicker */
        }
        if (e) {
                ref_locked(e);
        } else {
                shrink_locked(s);
                LIST_INSERT_HEAD(slot_of(s, blk), fresh, hash);
                s->nr++;
                e = fresh;
                fresh = NULL;
        }
        mtx_unlock(&s->lock);
        if (fresh)
                entry_free(fresh);
        return e;
}

bool buf_find(struct buf_cache *cache, uint64_t blk, struct buf **ret_buf)
{
        struct shard *s = shard_of(cache, blk);
        struct entry *e;

        mtx_lock(&s->lock);
        e = find_locked(s, blk);
        if (e)
                ref_locked(e);
        mtx_unlock(&s->lock);
        if (e)
                *ret_buf = &e->buf;
        return e != NULL;
}

void buf_get(struct buf *buf)
{
        struct entry *e = container_of(buf, struct entry, buf);

        mtx_lock(&e->shard->lock);
        ref_locked(e);
        mtx_unlock(&e->shard->lock);
}

void buf_put(struct buf *buf)
{
        struct entry *e;
        struct shard *s;

        if (!buf)
                return;
        e = container_of(buf, struct entry, buf);
        s = e->shard;
        mtx_lock(&s->lock);
        assert(e->refs > 0);
        /* Its journal keeps a reference as long as it is not on the device (I4). */
        assert(e->refs > 1 || atomic_load(&e->buf.state) == BUF_CLEAN);
        if (--e->refs == 0) {
                TAILQ_INSERT_TAIL(&s->unused, e, unused);
                if (s->nr > s->cache->max_per_shard)
                        drop_locked(TAILQ_FIRST(&s->unused));
        }
        mtx_unlock(&s->lock);
}

/* ---- load and check ---- */

static int load_locked(struct buf_cache *cache, struct entry *e, unsigned flags)
{
        int ret;

        if (e->loaded)
                return 0;
        if (flags & BUF_NOWAIT)
                return -EAGAIN;
        ret = uext4_bdev_read(cache->dev, (void *)(uintptr_t)e->buf.data, cache->block_size,
                              e->buf.blk * cache->block_size);
        if (ret < 0)
                return ret;
        atomic_fetch_add_explicit(&cache->reads, 1, memory_order_relaxed);
        e->loaded = true;
        return 0;
}

static int check_locked(struct buf_cache *cache, struct entry *e, const struct buf_check *check)
{
        struct verdict *v;

        for (unsigned i = 0; i < NR_VERDICTS; i++) {
                v = &e->verdicts[i];
                if (v->verify == check->verify && v->owner == check->owner)
                        return v->err;
        }
        atomic_fetch_add(&e->nr_roles, 1);
        v = &e->verdicts[e->next_verdict++ % NR_VERDICTS];
        *v = (struct verdict){
                .verify = check->verify,
                .owner = check->owner,
                .err = check->verify(e->buf.data, cache->block_size, e->buf.blk, check->arg),
        };
        return v->err;
}

static void note_unchecked_locked(struct entry *e)
{
        if (e->read_unchecked)
                return;
        e->read_unchecked = true;
        atomic_fetch_add(&e->nr_roles, 1);
}

static int load_and_check(struct buf_cache *cache, struct entry *e,
                          const struct buf_check *check, unsigned flags)
{
        int ret;

        if (flags & BUF_NOWAIT) {
                if (!mtx_trylock(&e->load))
                        return -EAGAIN; /* being read by another thread */
        } else {
                mtx_lock(&e->load);
        }
        ret = load_locked(cache, e, flags);
        if (ret == 0 && check)
                ret = check_locked(cache, e, check);
        else if (ret == 0)
                note_unchecked_locked(e);
        mtx_unlock(&e->load);
        return ret;
}

int buf_read(struct buf_cache *cache, uint64_t blk, const struct buf_check *check,
             unsigned flags, struct buf **ret_buf)
{
        struct entry *e = entry_get(cache, blk);
        int ret;

        if (!e)
                return -ENOMEM;
        ret = load_and_check(cache, e, check, flags);
        if (ret < 0) {
                buf_put(&e->buf);
                return ret;
        }
        *ret_buf = &e->buf;
        return 0;
}

static void forget_roles_locked(struct entry *e)
{
        memset(e->verdicts, 0, sizeof(e->verdicts));
        e->read_unchecked = false;
        atomic_store(&e->nr_roles, 0);
}

static void set_contents(struct entry *e, bool known)
{
        mtx_lock(&e->load);
        e->loaded = known;
        forget_roles_locked(e);
        mtx_unlock(&e->load);
}

void buf_changed(struct buf *buf)
{
        struct entry *e = container_of(buf, struct entry, buf);

        if (likely(atomic_load_explicit(&e->nr_roles, memory_order_relaxed) <= 1))
                return; /* the writer's own */
        mtx_lock(&e->load);
        forget_roles_locked(e);
        mtx_unlock(&e->load);
}

int buf_new(struct buf_cache *cache, uint64_t blk, struct buf **ret_buf)
{
        struct entry *e = entry_get(cache, blk);

        if (!e)
                return -ENOMEM;
        set_contents(e, true);
        *ret_buf = &e->buf;
        return 0;
}

void buf_set_known(struct buf *buf)
{
        set_contents(container_of(buf, struct entry, buf), true);
}

void buf_forget(struct buf *buf)
{
        set_contents(container_of(buf, struct entry, buf), false);
}

/* ---- going home ---- */

static int compare_homes(const void *a, const void *b)
{
        uint64_t x = ((const struct buf_home *)a)->buf->blk;
        uint64_t y = ((const struct buf_home *)b)->buf->blk;

        return x < y ? -1 : x > y;
}

#define MAX_RUN 64 /* blocks in one request */

/* How many blocks from homes[0] on lie one behind the other on the device. */
static int run_length(const struct buf_home *homes, size_t nr)
{
        int n = 1;

        while ((size_t)n < nr && n < MAX_RUN && homes[n].buf->blk == homes[0].buf->blk + n)
                n++;
        return n;
}

static int write_run(struct buf_cache *cache, const struct buf_home *homes, int nr)
{
        struct iovec iov[MAX_RUN];

        for (int i = 0; i < nr; i++)
                iov[i] = (struct iovec){(void *)(uintptr_t)homes[i].data, cache->block_size};
        return uext4_bdev_writev(cache->dev, iov, nr, homes[0].buf->blk * cache->block_size, 0);
}

int buf_write_home(struct buf_cache *cache, struct buf_home *homes, size_t nr)
{
        int ret = 0;

        for (size_t i = 0; i < nr; i++) {
                if (atomic_load(&homes[i].buf->state) != BUF_DIRTY)
                        return -EBUSY;
        }
        qsort(homes, nr, sizeof(*homes), compare_homes);
        for (size_t i = 0; i < nr && ret == 0;) {
                int n = run_length(homes + i, nr - i);

                ret = write_run(cache, homes + i, n);
                i += n;
        }
        return ret;
}

void buf_cache_stats(struct buf_cache *cache, struct buf_stats *ret_stats)
{
        uint64_t nr = 0;

        for (unsigned i = 0; i < NR_SHARDS; i++) {
                struct shard *s = &cache->shards[i];

                mtx_lock(&s->lock);
                nr += s->nr;
                mtx_unlock(&s->lock);
        }
        ret_stats->reads = atomic_load_explicit(&cache->reads, memory_order_relaxed);
        ret_stats->cached_bytes = nr * cache->block_size;
}
