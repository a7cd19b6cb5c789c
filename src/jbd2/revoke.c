/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Revoked blocks: block -> the latest tid that revoked it, as recovery collects them or as a
 * transaction will write them.  An open-addressed table that doubles, so that millions of
 * records cost no more than one each (J34).
 */

#include "jbd2/journal.h"
#include "util/alloc.h"

#define FIRST_SIZE 256

struct record {
        uint64_t fs_blk;
        uint32_t tid;
        bool used;
        bool cancelled;
};

struct jbd2_revoke_table {
        struct record *slots;
        size_t mask; /* size - 1 */
        size_t nr;   /* used, cancelled ones included */
};

int jbd2_revoke_table_new(struct jbd2_revoke_table **ret_table)
{
        struct jbd2_revoke_table *t = mem_zalloc(sizeof(*t));

        if (!t)
                return -ENOMEM;
        t->slots = mem_array(FIRST_SIZE, sizeof(*t->slots));
        if (!t->slots) {
                mem_free(t);
                return -ENOMEM;
        }
        t->mask = FIRST_SIZE - 1;
        *ret_table = t;
        return 0;
}

void jbd2_revoke_table_free(struct jbd2_revoke_table *t)
{
        if (!t)
                return;
        mem_free(t->slots);
        mem_free(t);
}

/* The slot of fs_blk, or the free one where it belongs. */
static struct record *find(const struct jbd2_revoke_table *t, uint64_t fs_blk)
{
        size_t i = (fs_blk * 0x9e3779b97f4a7c15u >> 24) & t->mask;

        while (t->slots[i].used && t->slots[i].fs_blk != fs_blk)
                i = (i + 1) & t->mask;
        return &t->slots[i];
}

static int grow(struct jbd2_revoke_table *t)
{
        size_t old_size = t->mask + 1;
        struct record *old = t->slots;
        struct record *slots = mem_array(old_size * 2, sizeof(*slots));

        if (!slots)
                return -ENOMEM;
        t->slots = slots;
        t->mask = old_size * 2 - 1;
        for (size_t i = 0; i < old_size; i++) {
                if (old[i].used)
                        *find(t, old[i].fs_blk) = old[i];
        }
        mem_free(old);
        return 0;
}

int jbd2_revoke_add(struct jbd2_revoke_table *t, uint64_t fs_blk, uint32_t tid)
{
        struct record *r = find(t, fs_blk);

        if (r->used) {
                if (r->cancelled || jbd2_tid_after(tid, r->tid))
                        r->tid = tid;
                r->cancelled = false;
                return 0;
        }
        if (t->nr * 2 > t->mask) {
                int ret = grow(t);

                if (ret < 0)
                        return ret;
                r = find(t, fs_blk);
        }
        *r = (struct record){.fs_blk = fs_blk, .tid = tid, .used = true};
        t->nr++;
        return 0;
}

int jbd2_revoke_reserve(struct jbd2_revoke_table *t, size_t nr)
{
        int ret = 0;

        while (ret == 0 && (t->nr + nr) * 2 > t->mask)
                ret = grow(t);
        return ret;
}

bool jbd2_revoke_cancel(struct jbd2_revoke_table *t, uint64_t fs_blk)
{
        struct record *r = find(t, fs_blk);

        if (!r->used || r->cancelled)
                return false;
        r->cancelled = true;
        return true;
}

bool jbd2_revoke_each(const struct jbd2_revoke_table *t, size_t *pos, uint64_t *ret_fs_blk)
{
        for (; *pos <= t->mask; (*pos)++) {
                const struct record *r = &t->slots[*pos];

                if (r->used && !r->cancelled) {
                        (*pos)++;
                        *ret_fs_blk = r->fs_blk;
                        return true;
                }
        }
        return false;
}

size_t jbd2_revoke_count(const struct jbd2_revoke_table *t)
{
        return t->nr;
}

bool jbd2_is_revoked(const struct jbd2_revoke_table *t, uint64_t fs_blk, uint32_t tid)
{
        const struct record *r = find(t, fs_blk);

        return r->used && !r->cancelled && !jbd2_tid_after(tid, r->tid);
}
