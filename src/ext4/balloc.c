/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Choosing blocks.
 *
 * A request is first claimed from the mount's count of free clusters, so that what is reserved
 * stays; then a place is looked for:
 *
 *   1. in the inode's window (prealloc.c);
 *   2. at the goal: whatever is free there continues what the file has;
 *   3. from the goal's group on round all groups, a run that takes the request and a window
 *      behind it; then one that takes the request; then the longest ones left;
 *   4. again, after all windows were dropped, and while nothing is being trimmed.
 *
 * Which groups can have a run of some length is known without their locks as an upper bound; so
 * a round over many groups is cheap, and only promising ones are locked and loaded.
 *
 * Data take the first run that is long enough, so that small files of a directory lie close
 * together; metadata the tightest, so that they fill gaps.
 */

#include "ext4/balloc_group.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ext4/perm.h"
#include "util/alloc.h"

#define POOL_PART    50 /* of all clusters, kept for completion work, */
#define POOL_MOST    4096
#define LOADS_MOST   8 /* bitmaps read for the sake of a window */
#define RETRIES_MOST 3
#define AGAIN_MOST   8 /* searches after one that found nothing */

/* ---- the mount ---- */

static void condemn_desc(void *arg, ext4_group_t group)
{
        struct ext4_fs *fs = arg;
        const struct ext4_where at = {fs, 0, 0};

        if (group == EXT4_ZONE_NO_GROUP)
                return;
        ext4_corrupt(&at, "group %u: its own blocks lie where others do", group);
        ext4_group_state(fs, group)->bad_desc = true;
        ext4_group_condemn(fs, group);
}

static int add_group(struct ext4_fs *fs, ext4_group_t group)
{
        struct ext4_group_state *gs = ext4_group_state(fs, group);
        struct ext4_balloc *b = fs->balloc;
        struct ext4_group g;
        int ret = ext4_zones_add_fixed(&b->zones, fs, group);

        if (ret == 0)
                ret = ext4_group_get(fs, group, 0, &g);
        if (ext4_is_damage(ret)) {
                gs->bad_desc = true;
                ext4_group_condemn(fs, group);
                return 0;
        }
        if (ret == 0)
                ret = ext4_zones_add_group(&b->zones, fs, group, &g);
        if (ret < 0)
                return ret;
        gs->free = g.free_clusters;
        gs->longest = g.free_clusters;
        ext4_clusters_give(b, g.free_clusters);
        return 0;
}

static int add_groups(struct ext4_fs *fs)
{
        int ret = 0;

        for (ext4_group_t group = 0; ret == 0 && group < fs->nr_groups; group++)
                ret = add_group(fs, group);
        if (ret == 0)
                ret = ext4_zones_add_journal(&fs->balloc->zones, fs);
        if (ret == 0)
                ext4_zones_settle(&fs->balloc->zones, condemn_desc, fs);
        return ret;
}

/* What is set aside, by the rules that the kernel has. */
static void init_reserves(struct ext4_balloc *b)
{
        const struct ext4_fs *fs = b->fs;
        uint64_t all = fs->nr_blocks >> fs->cluster_bits;

        b->reserved = min_t(uint64_t, ext4_reserved_blocks(fs) >> fs->cluster_bits, all);
        /* Only extents can need blocks when a write completes. */
        if (ext4_has_incompat(fs, EXT4_INCOMPAT_EXTENTS))
                b->pool = min_t(uint64_t, all / POOL_PART, POOL_MOST);
}

int ext4_balloc_new(struct ext4_fs *fs)
{
        struct ext4_balloc *b;
        int ret;

        if (fs->cluster_bits && fs->first_data_block) {
                log_say(&fs->vfs.log, LOG_ERR, "clusters that begin at block 1");
                return -EUCLEAN;
        }
        b = mem_zalloc(sizeof(*b));
        if (!b)
                return -ENOMEM;
        b->fs = fs;
        b->groups = mem_array(fs->nr_groups, sizeof(*b->groups));
        if (!b->groups) {
                mem_free(b);
                return -ENOMEM;
        }
        for (ext4_group_t group = 0; group < fs->nr_groups; group++) {
                mtx_init_named(&b->groups[group].lock, RANK_GROUP, "group");
                LIST_INIT(&b->groups[group].windows);
        }
        for (unsigned i = 0; i < EXT4_NR_DESC_LOCKS; i++)
                mtx_init_named(&b->desc_locks[i], RANK_LEAF, "group descriptor");
        mtx_init_named(&b->trim_lock, RANK_TRIM, "trim");
        init_reserves(b);
        fs->balloc = b;
        ret = add_groups(fs);
        if (ret < 0)
                ext4_balloc_free(fs);
        return ret;
}

void ext4_balloc_free(struct ext4_fs *fs)
{
        struct ext4_balloc *b = fs->balloc;

        if (!b)
                return;
        ext4_windows_drop_all(fs);
        for (ext4_group_t group = 0; group < fs->nr_groups; group++) {
                group_space_done(&b->groups[group].space);
                mtx_done(&b->groups[group].lock);
        }
        for (unsigned i = 0; i < EXT4_NR_DESC_LOCKS; i++)
                mtx_done(&b->desc_locks[i]);
        mtx_done(&b->trim_lock);
        ext4_zones_done(&b->zones);
        mem_free(b->groups);
        mem_free(b);
        fs->balloc = NULL;
}

/* ---- counting ---- */

uint64_t ext4_free_clusters(const struct ext4_fs *fs)
{
        int64_t n = atomic_load(&fs->balloc->free);

        return n > 0 ? (uint64_t)n : 0;
}

uint32_t ext4_group_free_clusters(const struct ext4_fs *fs, ext4_group_t group)
{
        return atomic_load_explicit(&ext4_group_state(fs, group)->free, memory_order_relaxed);
}

bool ext4_reserved_is_for(const struct ext4_fs *fs, uint32_t uid, uint32_t gid)
{
        const struct ext4_mount_options *o = &fs->opts;

        /* Group 0 is the default: it stands for nobody. */
        return uid == 0 || uid == o->resuid || (o->resgid && gid == o->resgid);
}

unsigned ext4_alloc_rights(const struct ext4_fs *fs)
{
        const struct ext4_cred *cred = ext4_cred_get();

        if (!cred)
                return ext4_reserved_is_for(fs, geteuid(), getegid()) ? EXT4_ALLOC_RESERVED : 0;
        return (cred->caps >> CAP_SYS_RESOURCE & 1) ||
                               ext4_reserved_is_for(fs, cred->uid, cred->gid)
                       ? EXT4_ALLOC_RESERVED
                       : 0;
}

/* Clusters that a request with these flags must leave. */
static int64_t floor_of(const struct ext4_balloc *b, unsigned flags)
{
        if (flags & EXT4_ALLOC_POOL)
                return 0;
        if (flags & EXT4_ALLOC_RESERVED)
                return (int64_t)b->pool;
        return (int64_t)(b->pool + b->reserved);
}

/* Take least .. most out of a count, and leave `lowest`; or take nothing. */
static uint64_t take_from(_Atomic int64_t *count, uint64_t least, uint64_t most, int64_t lowest)
{
        int64_t old = atomic_load(count);
        uint64_t got;

        do {
                if (old <= lowest || (uint64_t)(old - lowest) < least)
                        return 0;
                got = min_t(uint64_t, most, (uint64_t)(old - lowest));
        } while (!atomic_compare_exchange_weak(count, &old, old - (int64_t)got));
        return got;
}

uint64_t ext4_clusters_claim(struct ext4_balloc *b, uint64_t least, uint64_t most,
                             unsigned flags)
{
        uint64_t got = take_from(&b->free, least, most, floor_of(b, flags));
        uint64_t ready;

        if (got == 0)
                return 0;
        ready = take_from(&b->ready, least, got,
                          flags & EXT4_ALLOC_POOL ? 0 : (int64_t)b->pool);
        atomic_fetch_add(&b->free, got - ready);
        return ready;
}

void ext4_clusters_give(struct ext4_balloc *b, uint64_t nr)
{
        atomic_fetch_add(&b->ready, nr);
        atomic_fetch_add(&b->free, nr);
}

void ext4_clusters_charge(struct ext4_balloc *b, uint64_t nr)
{
        atomic_fetch_sub(&b->free, nr);
        atomic_fetch_sub(&b->ready, nr);
}

int ext4_balloc_retry(struct ext4_fs *fs, int *tries)
{
        int ret;

        if (*tries >= RETRIES_MOST)
                return 0;
        ++*tries;
        /* A commit by somebody else may have brought something back meanwhile. */
        if (fs->balloc->nr_pending == 0)
                return ext4_free_clusters(fs) > 0;
        ret = jbd2_commit_all(fs->journal);
        return ret < 0 ? ret : 1;
}

/* ---- one group ---- */

struct search {
        struct jbd2_handle *h;
        const struct ext4_alloc *req;
        struct ext4_fs *fs;
        uint32_t need; /* clusters claimed */
        uint32_t want; /* with the window */

        ext4_group_t first; /* group to begin with */
        uint32_t from;      /* cluster in it */
        bool has_goal;      /* that one exactly, if it is free */
        unsigned nr_loads;  /* bitmaps read for the sake of a window */
        unsigned nr_again;  /* searches after the first */
        int err;            /* of a group that could not be looked at */

        ext4_group_t group; /* result */
        struct group_run run;
};

enum place {
        PLACE_GOAL, /* at `from`, any length */
        PLACE_FIT,  /* a run of the length wanted */
};

static struct group_run pick(const struct search *s, ext4_group_t group, enum place place,
                             uint32_t len)
{
        const struct group_space *space = &ext4_group_state(s->fs, group)->space;

        if (place == PLACE_GOAL)
                return group_space_at(space, s->from);
        if (s->req->flags & EXT4_ALLOC_META)
                return group_space_tight(space, len);
        return group_space_first(space, len, group == s->first ? s->from : 0);
}

/* Take a run on disk that is out of the space already, and counted as promised. */
static int take_locked(struct search *s, ext4_group_t group, struct group_run run)
{
        struct ext4_group_state *gs = ext4_group_state(s->fs, group);
        int ret = ext4_space_change(s->h, s->fs, group, run, EXT4_CHANGE_TAKE);

        gs->nr_promised--;
        if (ret < 0)
                group_space_add(&gs->space, run);
        if (ext4_is_damage(ret))
                ret = ext4_group_condemn(s->fs, group);
        ext4_space_publish(s->fs, group);
        if (ret < 0)
                return ret;
        s->group = group;
        s->run = run;
        return 1;
}

/* Keep what follows the run that was taken, up to `want` clusters with that. */
static void keep_window_locked(struct search *s, ext4_group_t group, uint32_t room)
{
        uint32_t nr = min_t(uint32_t, room, s->want);
        struct group_run rest = {s->run.start + s->run.len, nr - s->run.len};
        uint64_t lblk = s->req->lblk + ((uint64_t)s->run.len << s->fs->cluster_bits);

        if (rest.len == 0 || lblk > EXT4_MAX_LBLK)
                return;
        group_space_take(&ext4_group_state(s->fs, group)->space, rest);
        ext4_window_put(s->req->inode, group, rest, (ext4_lblk_t)lblk);
        ext4_space_publish(s->fs, group);
}

/* 1: taken.  0: it has no such run. */
static int try_locked(struct search *s, ext4_group_t group, enum place place, uint32_t len)
{
        struct ext4_group_state *gs = ext4_group_state(s->fs, group);
        struct group_run found;
        struct group_run run;
        int ret = ext4_space_load(s->fs, group);

        if (ret == 0)
                ret = ext4_space_reserve(s->fs, group, 3); /* the gap cut, run and window */
        if (ret < 0)
                return ret;
        found = pick(s, group, place, len);
        if (found.len == 0)
                return 0;
        run = (struct group_run){found.start, min_t(uint32_t, found.len, s->need)};
        group_space_take(&gs->space, run);
        gs->nr_promised++;
        ret = take_locked(s, group, run);
        if (ret > 0)
                keep_window_locked(s, group, found.len);
        return ret;
}

/* A group that is damaged or cannot be read is as good as full. */
static int pass_over(struct search *s, int ret)
{
        if (ret == -EIO)
                s->err = ret;
        return ret == -EIO || ret == -EUCLEAN ? 0 : ret;
}

static int try_group(struct search *s, ext4_group_t group, enum place place, uint32_t len)
{
        int ret;

        ext4_group_lock(s->fs, group);
        ret = try_locked(s, group, place, len);
        ext4_group_unlock(s->fs, group);
        return pass_over(s, ret);
}

/* ---- all groups ---- */

/* Reading a bitmap is worth it for the request, and a few times for a window. */
static bool may_load(struct search *s, const struct ext4_group_state *gs, uint32_t len)
{
        return gs->loaded || len <= s->need || s->nr_loads++ < LOADS_MOST;
}

/* One round for a run of `len`.  *longest: the longest that was met and did not do. */
static int round_of_groups(struct search *s, uint32_t len, uint32_t *longest)
{
        ext4_group_t group = s->first;

        for (ext4_group_t i = 0; i < s->fs->nr_groups; i++) {
                struct ext4_group_state *gs = ext4_group_state(s->fs, group);
                uint32_t seen = gs->longest;

                if (seen >= len && may_load(s, gs, len)) {
                        int ret = try_group(s, group, PLACE_FIT, len);

                        if (ret != 0)
                                return ret;
                        /* As long as before: it could not be looked at.  Ask less often. */
                        seen = gs->longest < len ? gs->longest : len / 2;
                }
                *longest = max_t(uint32_t, *longest, seen);
                if (++group == s->fs->nr_groups)
                        group = 0;
        }
        return 0;
}

static int search(struct search *s)
{
        uint32_t len = s->want;
        int ret = 0;

        if (s->has_goal)
                ret = try_group(s, s->first, PLACE_GOAL, 1);
        while (ret == 0 && len > 0) {
                uint32_t longest = 0;

                ret = round_of_groups(s, len, &longest);
                len = len > s->need ? s->need : min_t(uint32_t, len - 1, longest);
        }
        return ret;
}

/*
 * Without a goal: the inode's group.  Where groups share their tables (flex_bg) the first group
 * of such a flock is left to directories and maps, and files begin in the second.
 */
static ext4_group_t home_group(const struct ext4_fs *fs, const struct ext4_alloc *req)
{
        ext4_group_t group = (ext4_ino(req->inode) - 1) / fs->inodes_per_group;
        uint8_t log_flex = fs->sb.s_log_groups_per_flex;

        if (ext4_has_incompat(fs, EXT4_INCOMPAT_FLEX_BG) && log_flex >= 2 && log_flex < 31 &&
            (req->flags & EXT4_ALLOC_DATA) && S_ISREG(req->inode->mode) &&
            group % (1u << log_flex) == 0 && group + 1 < fs->nr_groups)
                group++;
        return group;
}

static void aim(struct search *s)
{
        const struct ext4_alloc *req = s->req;

        if (req->goal && ext4_blocks_valid(s->fs, req->goal, 1)) {
                s->has_goal = true;
                s->first = ext4_group_of(s->fs, req->goal);
                s->from = ext4_cluster_of(s->fs, req->goal);
        } else {
                s->first = home_group(s->fs, req);
        }
}

static int take_from_window(struct search *s)
{
        struct group_run run;
        ext4_group_t group;
        int ret;

        if (!(s->req->flags & EXT4_ALLOC_DATA) ||
            !ext4_window_take(s->req, s->need, &group, &run))
                return 0;
        ext4_group_state(s->fs, group)->nr_promised++;
        ret = take_locked(s, group, run);
        ext4_group_unlock(s->fs, group);
        if (ret < 0)
                ext4_prealloc_drop(s->req->inode);
        return pass_over(s, ret);
}

/*
 * No window of space that is claimed or promised.  (Others may be in windows by the time it is
 * wanted: then they are dropped.)
 */
static uint32_t want_of(const struct search *s)
{
        uint32_t want = ext4_window_want(s->req, s->need);

        return atomic_load(&s->fs->balloc->ready) < (int64_t)(want - s->need) ? s->need : want;
}

/*
 * What was claimed is there, but it may be in windows, or being trimmed; and while windows are
 * dropped and groups are looked at one by one, others may move theirs to where one was.  What
 * is promised is not given up so soon.
 */
static bool may_search_again(struct search *s)
{
        if (s->nr_again++ >= AGAIN_MOST)
                return false;
        if (s->nr_again == 1 || s->fs->balloc->nr_windows > 0)
                return true;
        return (s->req->flags & EXT4_ALLOC_DELAYED) && s->err == 0;
}

static int find_and_take(struct search *s)
{
        int ret = take_from_window(s);

        if (ret != 0)
                return ret;
        s->want = want_of(s);
        aim(s);
        ret = search(s);
        while (ret == 0 && may_search_again(s)) {
                ext4_windows_drop_all(s->fs);
                s->want = s->need;
                ext4_trim_pause(s->fs);
                ret = search(s);
                ext4_trim_resume(s->fs);
        }
        if (ret == 0)
                ret = s->err ? s->err : -ENOSPC;
        return ret;
}

int ext4_balloc(struct jbd2_handle *h, const struct ext4_alloc *req, ext4_fsblk_t *ret_pblk,
                uint32_t *ret_len)
{
        struct ext4_fs *fs = req->inode->fs;
        struct search s = {.h = h, .req = req, .fs = fs};
        uint64_t nr = div_round_up(req->len, 1ull << fs->cluster_bits);
        bool is_paid = req->flags & EXT4_ALLOC_DELAYED;
        int ret;

        assert(req->len > 0);
        nr = min_t(uint64_t, nr, fs->blocks_per_group >> fs->cluster_bits);
        if (!is_paid)
                nr = ext4_clusters_claim(fs->balloc, 1, nr, req->flags);
        if (nr == 0)
                return -ENOSPC;
        s.need = (uint32_t)nr;
        ret = find_and_take(&s);
        if (!is_paid)
                ext4_clusters_give(fs->balloc, s.need - s.run.len);
        if (ret < 0)
                return ret;
        *ret_pblk = ext4_cluster_block(fs, s.group, s.run.start);
        *ret_len = s.run.len << fs->cluster_bits;
        return 0;
}
