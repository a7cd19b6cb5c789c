/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What recovery knows of revoked blocks: block -> the latest tid that revoked it.  An
 * open-addressed table that doubles, so that millions of records cost no more than one each
 * (J34).
 */

#include "jbd2/journal.h"
#include "util/alloc.h"

#define FIRST_SIZE 256

struct record {
        uint64_t fs_blk;
        uint32_t tid;
        bool used;
};

struct jbd2_revoke_table {
        struct record *slots;
        size_t mask; /* size - 1 */
        size_t nr;
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
                if (jbd2_tid_after(tid, r->tid))
                        r->tid = tid;
                return 0;
        }
        if (t->nr * 2 > t->mask) {
                int ret = grow(t);

                if (ret < 0)
                        return ret;
                r = find(t, fs_blk);
        }
        *r = (struct record){fs_blk, tid, true};
        t->nr++;
        return 0;
}

bool jbd2_is_revoked(const struct jbd2_revoke_table *t, uint64_t fs_blk, uint32_t tid)
{
        const struct record *r = find(t, fs_blk);

        return r->used && !jbd2_tid_after(tid, r->tid);
}
