/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Reading the log: control blocks one after the other, and what stands in them. */

#include <string.h>

#include "jbd2/journal.h"
#include "util/alloc.h"

#define UUID_SIZE 16

int jbd2_walk_init(struct jbd2_walk *w, const struct jbd2_journal *j)
{
        *w = (struct jbd2_walk){
                .j = j,
                .next_blk = be32_get(j->sb.s_start),
                .next_tid = be32_get(j->sb.s_sequence),
                .left = jbd2_is_empty(j) ? 0 : jbd2_log_size(j),
                .block = jbd2_block_alloc(j),
        };
        return w->block ? 0 : -ENOMEM;
}

void jbd2_walk_done(struct jbd2_walk *w)
{
        mem_free(w->block);
        w->block = NULL;
}

uint32_t jbd2_log_after(const struct jbd2_journal *j, uint32_t blk, uint32_t n)
{
        uint32_t size = jbd2_log_size(j);

        return j->first + (blk - j->first + n % size) % size;
}

/* Where tags end: with checksums the block's own is behind them. */
static uint32_t end_of_block(const struct jbd2_journal *j)
{
        return j->place.block_size - (j->has_csum ? sizeof(struct jbd2_block_tail) : 0);
}

static uint32_t nr_tags(const struct jbd2_walk *w)
{
        struct jbd2_tag_info tag;
        struct jbd2_tag_iter it;
        uint32_t nr = 0;

        jbd2_tags(w, &it);
        while (jbd2_tag_next(&it, &tag))
                nr++;
        return nr;
}

int jbd2_walk_next(struct jbd2_walk *w)
{
        const struct jbd2_header *h = w->block;
        uint32_t used = 1;
        int ret;

        if (w->left == 0)
                return 0;
        ret = jbd2_read_block(w->j, w->next_blk, w->block);
        if (ret < 0)
                return ret;
        if (be32_get(h->h_magic) != JBD2_MAGIC || be32_get(h->h_sequence) != w->next_tid)
                return 0;
        w->blk = w->next_blk;
        w->type = be32_get(h->h_blocktype);
        w->tid = w->next_tid;
        switch (w->type) {
        case JBD2_DESCRIPTOR:
                used += nr_tags(w);
                break;
        case JBD2_COMMIT:
                w->next_tid++;
                break;
        case JBD2_REVOKE:
                break;
        default:
                return 0; /* no block that a log has */
        }
        if (used > w->left)
                return 0; /* it would run into its own beginning */
        w->left -= used;
        w->next_blk = jbd2_log_after(w->j, w->blk, used);
        return 1;
}

/* ---- tags ---- */

void jbd2_tags(const struct jbd2_walk *w, struct jbd2_tag_iter *it)
{
        *it = (struct jbd2_tag_iter){
                .w = w,
                .pos = sizeof(struct jbd2_header),
                .log_blk = jbd2_log_after(w->j, w->blk, 1),
        };
}

/* Tags are packed, so their fields may lie at any address. */
static void parse_tag(const struct jbd2_journal *j, const char *p, struct jbd2_tag_info *tag)
{
        if (j->incompat & JBD2_INCOMPAT_CSUM_V3) {
                struct jbd2_tag3 t;

                memcpy(&t, p, sizeof(t));
                tag->fs_blk = be32_get(t.t_blocknr);
                tag->flags = be32_get(t.t_flags) & 0xffff;
                tag->checksum = be32_get(t.t_checksum);
                if (j->incompat & JBD2_INCOMPAT_64BIT)
                        tag->fs_blk |= (uint64_t)be32_get(t.t_blocknr_high) << 32;
        } else {
                struct jbd2_tag t = {};

                memcpy(&t, p, min_t(size_t, j->tag_size, sizeof(t)));
                tag->fs_blk = be32_get(t.t_blocknr);
                tag->flags = be16_get(t.t_flags);
                tag->checksum = be16_get(t.t_checksum);
                if (j->incompat & JBD2_INCOMPAT_64BIT)
                        tag->fs_blk |= (uint64_t)be32_get(t.t_blocknr_high) << 32;
        }
}

bool jbd2_tag_next(struct jbd2_tag_iter *it, struct jbd2_tag_info *ret_tag)
{
        const struct jbd2_journal *j = it->w->j;

        if (it->last || it->pos + j->tag_size > end_of_block(j))
                return false;
        parse_tag(j, (const char *)it->w->block + it->pos, ret_tag);
        ret_tag->log_blk = it->log_blk;
        it->log_blk = jbd2_log_after(j, it->log_blk, 1);
        it->pos += j->tag_size;
        if (!(ret_tag->flags & JBD2_TAG_SAME_UUID))
                it->pos += UUID_SIZE;
        it->last = ret_tag->flags & JBD2_TAG_LAST;
        return true;
}

/* ---- revoke records ---- */

int jbd2_revokes(const struct jbd2_walk *w, struct jbd2_revoke_iter *it)
{
        const struct jbd2_revoke_header *h = w->block;
        uint32_t count = be32_get(h->r_count);

        if (count < sizeof(*h) || count > end_of_block(w->j)) /* J12 */
                return -EUCLEAN;
        *it = (struct jbd2_revoke_iter){.w = w, .pos = sizeof(*h), .end = count};
        return 0;
}

bool jbd2_revoke_next(struct jbd2_revoke_iter *it, uint64_t *ret_fs_blk)
{
        const uint32_t size = it->w->j->record_size;
        const char *p = (const char *)it->w->block + it->pos;

        if (it->pos + size > it->end)
                return false;
        if (size == 8) {
                be64 blk;

                memcpy(&blk, p, sizeof(blk));
                *ret_fs_blk = be64_get(blk);
        } else {
                be32 blk;

                memcpy(&blk, p, sizeof(blk));
                *ret_fs_blk = be32_get(blk);
        }
        it->pos += size;
        return true;
}
