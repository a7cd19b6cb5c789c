/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A transaction on its way to the log: revoke blocks, then descriptor blocks, each with the
 * blocks that its tags name behind it.
 *
 * Blocks are gathered and written in one request as long as they are neighbours on the device.
 * A buffer's own bytes go out unless there is a frozen copy; meanwhile nobody may change them
 * (txn.h, I5).  A block that begins with the journal's magic goes out as a copy (J9).
 *
 * A commit must not fail for want of memory.  Where there is none the journal's two spare
 * blocks serve: what uses one is written at once.
 */

#include <string.h>

#include "jbd2/txn.h"

#define MAX_GATHER 512
#define UUID_SIZE  16

struct out {
        struct jbd2_transaction *t;
        struct jbd2 *j;
        uint32_t first; /* log block of iov[0] */
        int nr;
        struct iovec iov[MAX_GATHER];
        struct jbd2_buf *writing[MAX_GATHER]; /* whose bytes iov[i] has, or NULL */
        void *owned[MAX_GATHER];              /* to be freed, or NULL */
        bool spare_used;                      /* the journal's spare[0] is in iov */
        uint64_t nr_blocks, nr_revokes;

        char *desc; /* the open descriptor block, in iov already, or NULL */
        char *last_tag;
        uint32_t pos; /* of the next tag */
        uint32_t v1_crc;
        int err;
};

/* ---- blocks out ---- */

/* The blocks of iov have been written: whoever waits to change them may. */
static void release(struct out *o)
{
        mtx_lock(&o->j->lock);
        for (int i = 0; i < o->nr; i++) {
                if (o->writing[i]) {
                        o->writing[i]->io = false;
                        o->writing[i]->logged = true;
                }
        }
        o->t->cost_left -= min_t(uint32_t, o->t->cost_left, o->nr);
        cond_broadcast(&o->j->changed);
        mtx_unlock(&o->j->lock);
        for (int i = 0; i < o->nr; i++)
                mem_free(o->owned[i]);
        o->spare_used = false;
        o->nr = 0;
}

static void checksum_v1(struct out *o)
{
        if (!(o->j->log.compat & JBD2_COMPAT_CHECKSUM))
                return;
        for (int i = 0; i < o->nr; i++) {
                const struct jbd2_header *h = o->iov[i].iov_base;

                /* Data never begins with the magic. */
                if (be32_get(h->h_magic) == JBD2_MAGIC &&
                    be32_get(h->h_blocktype) == JBD2_REVOKE)
                        continue;
                o->v1_crc = jbd2_crc32_be(o->v1_crc, h, o->j->block_size);
        }
}

/* Neighbours in the log need not be neighbours on the device, and the log has an end. */
static int write_runs(struct out *o)
{
        const struct jbd2_journal *log = &o->j->log;
        int ret = 0;

        for (int done = 0; done < o->nr && ret == 0;) {
                uint32_t blk = jbd2_log_after(log, o->first, (uint32_t)done), nr;
                uint64_t pos = jbd2_position(log, blk, &nr);
                int n = (int)min_t(uint32_t, min_t(uint32_t, nr, log->last - blk),
                                   (uint32_t)(o->nr - done));

                ret = uext4_bdev_writev(log->place.dev, o->iov + done, n, pos, 0);
                done += n;
        }
        return ret;
}

static void close_descriptor(struct out *o);

static void emit(struct out *o)
{
        int ret = 0;

        close_descriptor(o);
        if (o->nr == 0)
                return;
        checksum_v1(o);
        if (o->err == 0 && !jbd2_is_aborted(o->j))
                ret = write_runs(o);
        o->err = first_error(o->err, ret);
        release(o);
}

/* One block of the log is taken; false when there is none, against all accounting. */
static bool advance(struct jbd2 *j)
{
        bool ok;

        mtx_lock(&j->lock);
        ok = j->free > 0;
        if (ok) {
                j->head = jbd2_log_after(&j->log, j->head, 1);
                j->free--;
        }
        mtx_unlock(&j->lock);
        return ok;
}

/* The next log block is for `data`. */
static void add(struct out *o, void *data, struct jbd2_buf *writing, void *owned)
{
        struct jbd2 *j = o->j;

        if (o->nr == 0)
                o->first = j->head;
        o->iov[o->nr] = (struct iovec){data, j->block_size};
        o->writing[o->nr] = writing;
        o->owned[o->nr] = owned;
        o->nr++;
        if (!advance(j))
                o->err = first_error(o->err, -ENOSPC);
}

/* Can n more blocks be gathered? */
static bool fits(const struct out *o, uint32_t n)
{
        return (uint32_t)o->nr + n <= MAX_GATHER;
}

static void *control_block(struct out *o, uint32_t type, void **ret_owned)
{
        struct jbd2_header *h = jbd2_block_new(o->j);

        *ret_owned = h;
        if (!h) {
                if (o->spare_used)
                        emit(o);
                o->spare_used = true;
                h = o->j->spare[0];
        }
        memset(h, 0, o->j->block_size);
        h->h_magic = be32_make(JBD2_MAGIC);
        h->h_blocktype = be32_make(type);
        h->h_sequence = be32_make(o->t->tid);
        return h;
}

static uint32_t end_of_block(const struct jbd2 *j)
{
        return j->block_size - (j->log.has_csum ? sizeof(struct jbd2_block_tail) : 0);
}

/* ---- revoke records ---- */

static void put_record(struct jbd2 *j, char *p, uint64_t blk)
{
        if (j->log.record_size == 8) {
                const be64 v = be64_make(blk);

                memcpy(p, &v, sizeof(v));
        } else {
                const be32 v = be32_make((uint32_t)blk);

                memcpy(p, &v, sizeof(v));
        }
}

static void write_revokes(struct out *o)
{
        struct jbd2 *j = o->j;
        const uint32_t size = j->log.record_size;
        uint64_t blk;
        size_t at = 0;
        bool more = jbd2_revoke_each(o->t->revokes, &at, &blk);

        while (more) {
                uint32_t pos = sizeof(struct jbd2_revoke_header);
                struct jbd2_revoke_header *h;
                void *owned;

                if (!fits(o, 1))
                        emit(o);
                h = control_block(o, JBD2_REVOKE, &owned);
                for (; more && pos + size <= end_of_block(j); pos += size) {
                        put_record(j, (char *)h + pos, blk);
                        o->nr_revokes++;
                        more = jbd2_revoke_each(o->t->revokes, &at, &blk);
                }
                h->r_count = be32_make(pos);
                jbd2_tail_seal(&j->log, h);
                add(o, h, NULL, owned);
        }
}

/* ---- descriptors and blocks ---- */

/* Tags may lie at any address. */
static void set_last(const struct jbd2 *j, char *tag)
{
        if (j->log.incompat & JBD2_INCOMPAT_CSUM_V3) {
                struct jbd2_tag3 t;

                memcpy(&t, tag, sizeof(t));
                t.t_flags = be32_make(be32_get(t.t_flags) | JBD2_TAG_LAST);
                memcpy(tag, &t, sizeof(t));
        } else {
                struct jbd2_tag t = {};
                const size_t size = min_t(size_t, j->log.tag_size, sizeof(t));

                memcpy(&t, tag, size);
                t.t_flags = be16_make(be16_get(t.t_flags) | JBD2_TAG_LAST);
                memcpy(tag, &t, size);
        }
}

static void close_descriptor(struct out *o)
{
        if (!o->desc)
                return;
        set_last(o->j, o->last_tag);
        jbd2_tail_seal(&o->j->log, o->desc);
        o->desc = NULL;
}

static void put_tag(struct out *o, uint64_t blk, uint32_t flags, uint32_t csum)
{
        struct jbd2 *j = o->j;
        const bool has_high = j->log.incompat & JBD2_INCOMPAT_64BIT;
        const be32 low = be32_make((uint32_t)blk);
        const be32 high = be32_make((uint32_t)(blk >> 32));
        char *p = o->desc + o->pos;

        if (!has_high && blk >> 32)
                o->err = first_error(o->err, -EFBIG);
        if (j->log.incompat & JBD2_INCOMPAT_CSUM_V3) {
                struct jbd2_tag3 t = {.t_blocknr = low,
                                      .t_flags = be32_make(flags),
                                      .t_checksum = be32_make(csum)};

                if (has_high)
                        t.t_blocknr_high = high;
                memcpy(p, &t, sizeof(t));
        } else {
                struct jbd2_tag t = {.t_blocknr = low, .t_flags = be16_make((uint16_t)flags)};

                if (j->log.incompat & JBD2_INCOMPAT_CSUM_V2)
                        t.t_checksum = be16_make((uint16_t)csum);
                if (has_high)
                        t.t_blocknr_high = high;
                memcpy(p, &t, min_t(size_t, j->log.tag_size, sizeof(t)));
        }
        o->last_tag = p;
        o->pos += j->log.tag_size;
        if (!(flags & JBD2_TAG_SAME_UUID)) {
                memcpy(o->desc + o->pos, j->log.sb.s_uuid, UUID_SIZE);
                o->pos += UUID_SIZE;
        }
}

/* Room for one more block: with a tag in a descriptor that is open. */
static void make_room(struct out *o)
{
        if (o->desc &&
            (o->pos + o->j->log.tag_size + UUID_SIZE > end_of_block(o->j) || !fits(o, 1)))
                close_descriptor(o);
        if (!o->desc && !fits(o, o->j->tags_per_block + 1))
                emit(o);
}

static void open_descriptor(struct out *o)
{
        void *owned, *block;

        if (o->desc)
                return;
        block = control_block(o, JBD2_DESCRIPTOR, &owned);
        add(o, block, NULL, owned);
        o->desc = block;
        o->pos = sizeof(struct jbd2_header);
}

static bool begins_with_magic(const void *data)
{
        be32 first;

        memcpy(&first, data, sizeof(first));
        return be32_get(first) == JBD2_MAGIC;
}

/* The bytes of the transaction: the frozen copy, or else the buffer's, which are held. */
static void *hold_bytes(struct jbd2 *j, struct jbd2_buf *jb)
{
        void *data;

        mtx_lock(&j->lock);
        data = jb->frozen;
        if (!data) {
                jb->io = true;
                data = buf_bytes(jb->buf);
        }
        mtx_unlock(&j->lock);
        return data;
}

static void let_go(struct jbd2 *j, struct jbd2_buf *jb)
{
        mtx_lock(&j->lock);
        jb->io = false;
        jb->logged = true;
        cond_broadcast(&j->changed);
        mtx_unlock(&j->lock);
}

/* A copy of an escaped block, in a spare one when there is no memory: then all others must be
 * out. */
static void *escape(struct out *o, const void *data, void **ret_owned)
{
        struct jbd2 *j = o->j;
        void *copy = jbd2_block_new(j);

        *ret_owned = copy;
        if (!copy) {
                emit(o);
                copy = j->spare[1];
        }
        memcpy(copy, data, j->block_size);
        memset(copy, 0, sizeof(be32));
        return copy;
}

static void write_block(struct out *o, struct jbd2_buf *jb)
{
        struct jbd2 *j = o->j;
        struct jbd2_buf *writing = jb;
        uint32_t flags = 0, csum = 0;
        void *data = hold_bytes(j, jb);
        void *owned = NULL;

        if (begins_with_magic(data)) {
                data = escape(o, data, &owned);
                let_go(j, jb);
                writing = NULL;
                flags = JBD2_TAG_ESCAPED;
        }
        make_room(o);
        open_descriptor(o);
        if (o->pos > sizeof(struct jbd2_header))
                flags |= JBD2_TAG_SAME_UUID;
        if (j->log.has_csum)
                csum = jbd2_data_csum(&j->log, data, o->t->tid);
        put_tag(o, jb->buf->blk, flags, csum);
        add(o, data, writing, owned);
        o->nr_blocks++;
}

void *jbd2_log_out_new(void)
{
        return mem_zalloc(sizeof(struct out));
}

int jbd2_log_write(struct jbd2_transaction *t, uint32_t *ret_v1_crc)
{
        struct out *o = t->j->log_out;
        struct jbd2_buf *jb;

        *o = (struct out){.t = t, .j = t->j, .v1_crc = ~0u};
        write_revokes(o);
        TAILQ_FOREACH (jb, &t->bufs, link) {
                if (jb->dirty)
                        write_block(o, jb);
        }
        emit(o);
        mtx_lock(&t->j->lock);
        t->j->stats.nr_logged += o->nr_blocks;
        t->j->stats.nr_revokes += o->nr_revokes;
        mtx_unlock(&t->j->lock);
        *ret_v1_crc = o->v1_crc;
        return o->err;
}

/* ---- the commit block ---- */

static void fill_commit(struct jbd2_transaction *t, struct jbd2_commit_block *cb,
                        uint32_t v1_crc)
{
        struct jbd2 *j = t->j;
        struct timespec now;

        clock_gettime(CLOCK_REALTIME, &now);
        /* Recovery takes a time that goes backwards for the end of the log (J26). */
        if (now.tv_sec > 0)
                j->last_commit_sec = max_t(uint64_t, j->last_commit_sec, (uint64_t)now.tv_sec);
        cb->h_header.h_magic = be32_make(JBD2_MAGIC);
        cb->h_header.h_blocktype = be32_make(JBD2_COMMIT);
        cb->h_header.h_sequence = be32_make(t->tid);
        cb->h_commit_sec = be64_make(j->last_commit_sec);
        cb->h_commit_nsec = be32_make((uint32_t)now.tv_nsec);
        if (j->log.compat & JBD2_COMPAT_CHECKSUM) {
                cb->h_chksum_type = JBD2_CHECKSUM_CRC32;
                cb->h_chksum_size = sizeof(be32);
                cb->h_chksum[0] = be32_make(v1_crc);
        }
        jbd2_commit_seal(&j->log, cb);
}

int jbd2_log_write_commit(struct jbd2_transaction *t, uint32_t v1_crc)
{
        struct jbd2 *j = t->j;
        const uint32_t fua = j->opts.no_barrier ? 0 : UEXT4_BDEV_FUA; /* order: commit block */
        uint32_t nr;
        uint64_t pos = jbd2_position(&j->log, j->head, &nr);
        int ret;

        if (!advance(j))
                return -ENOSPC;
        memset(j->spare[0], 0, j->block_size);
        fill_commit(t, j->spare[0], v1_crc);
        ret = uext4_bdev_write(j->log.place.dev, j->spare[0], j->block_size, pos, fua);
        mtx_lock(&j->lock);
        t->cost_left = 0;
        mtx_unlock(&j->lock);
        return ret;
}
