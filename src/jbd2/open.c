/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Opening a journal: its superblock, checked field by field. */

#include <string.h>

#include "jbd2/journal.h"
#include "util/alloc.h"
#include "util/crc.h"

void *jbd2_block_alloc(const struct jbd2_journal *j)
{
        uint32_t align = uext4_bdev_geometry(j->place.dev)->mem_align;

        return mem_alloc_aligned(max_t(uint32_t, align, 64), j->place.block_size);
}

/* The run that holds journal block `blk`; they cover all of it. */
static const struct jbd2_run *find_run(const struct jbd2_place *place, uint32_t blk)
{
        uint32_t lo = 0, hi = place->nr_runs;

        while (hi - lo > 1) {
                uint32_t mid = lo + (hi - lo) / 2;

                if (place->runs[mid].first <= blk)
                        lo = mid;
                else
                        hi = mid;
        }
        return &place->runs[lo];
}

uint64_t jbd2_position(const struct jbd2_journal *j, uint32_t blk, uint32_t *ret_nr)
{
        const struct jbd2_run *run = find_run(&j->place, blk);

        assert(blk >= run->first && blk - run->first < run->len);
        *ret_nr = run->len - (blk - run->first);
        return (run->pblk + (blk - run->first)) * j->place.block_size;
}

static uint64_t position_of(const struct jbd2_journal *j, uint32_t blk)
{
        uint32_t nr;

        return jbd2_position(j, blk, &nr);
}

int jbd2_read_block(const struct jbd2_journal *j, uint32_t blk, void *data)
{
        return uext4_bdev_read(j->place.dev, data, j->place.block_size, position_of(j, blk));
}

/* ---- the superblock ---- */

static int refuse(const struct jbd2_journal *j, int err, const char *why)
{
        log_say(&j->log, LOG_ERR, "journal superblock: %s", why);
        return err;
}

static int read_super(struct jbd2_journal *j)
{
        void *block = jbd2_block_alloc(j);
        int ret;

        if (!block)
                return -ENOMEM;
        ret = jbd2_read_block(j, j->place.super_blk, block);
        if (ret == 0)
                memcpy(&j->sb, block, sizeof(j->sb));
        mem_free(block);
        return ret;
}

void jbd2_features_changed(struct jbd2_journal *j)
{
        j->has_csum = j->incompat & (JBD2_INCOMPAT_CSUM_V2 | JBD2_INCOMPAT_CSUM_V3);
        j->csum_seed = crc32c(~0u, j->sb.s_uuid, sizeof(j->sb.s_uuid));
        j->record_size = j->incompat & JBD2_INCOMPAT_64BIT ? 8 : 4;
        if (j->incompat & JBD2_INCOMPAT_CSUM_V3)
                j->tag_size = sizeof(struct jbd2_tag3);
        else
                j->tag_size = 8 + (j->incompat & JBD2_INCOMPAT_CSUM_V2 ? 2 : 0) +
                              (j->incompat & JBD2_INCOMPAT_64BIT ? 4 : 0);
}

static int check_features(struct jbd2_journal *j)
{
        const uint32_t v2v3 = JBD2_INCOMPAT_CSUM_V2 | JBD2_INCOMPAT_CSUM_V3;
        uint32_t ro_compat = 0;

        if (be32_get(j->sb.s_header.h_blocktype) == JBD2_SUPER_V2) {
                ro_compat = be32_get(j->sb.s_feature_ro_compat);
                j->compat = be32_get(j->sb.s_feature_compat);
                j->incompat = be32_get(j->sb.s_feature_incompat);
        }
        if ((j->incompat & ~JBD2_INCOMPAT_KNOWN) || ro_compat) {
                log_say(&j->log, LOG_ERR,
                        "the journal needs a feature that uext4 does not know: "
                        "incompat %#x, ro_compat %#x",
                        j->incompat & ~JBD2_INCOMPAT_KNOWN, ro_compat);
                return -EOPNOTSUPP;
        }
        if ((j->incompat & v2v3) == v2v3)
                return refuse(j, -EUCLEAN, "checksums v2 and v3 at once");
        if ((j->incompat & v2v3) && (j->compat & JBD2_COMPAT_CHECKSUM))
                return refuse(j, -EUCLEAN, "checksums of two generations at once");
        if ((j->incompat & v2v3) && j->sb.s_checksum_type != JBD2_CHECKSUM_CRC32C)
                return refuse(j, -EOPNOTSUPP, "unknown checksum type");
        jbd2_features_changed(j);
        return 0;
}

/* The log wraps at the end of the normal blocks; those for fast commits lie behind (J14, J30).
 */
static int check_geometry(struct jbd2_journal *j)
{
        uint32_t maxlen = be32_get(j->sb.s_maxlen);
        uint32_t start = be32_get(j->sb.s_start);
        uint32_t nr_fc = be32_get(j->sb.s_num_fc_blks);

        if (be32_get(j->sb.s_blocksize) != j->place.block_size)
                return refuse(j, -EUCLEAN, "its block size is not the file system's");
        if (maxlen > j->place.nr_blocks)
                return refuse(j, -EUCLEAN, "the journal is shorter than it says");
        j->first = be32_get(j->sb.s_first);
        j->last = maxlen;
        if (j->incompat & JBD2_INCOMPAT_FAST_COMMIT) {
                if (nr_fc == 0)
                        nr_fc = JBD2_DEFAULT_FC_BLOCKS;
                if (nr_fc >= maxlen)
                        return refuse(j, -EUCLEAN, "too many blocks for fast commits");
                j->last = maxlen - nr_fc;
                j->fc_first = j->last + 1;
                j->fc_last = maxlen;
        }
        if (j->first <= j->place.super_blk || j->first >= j->last)
                return refuse(j, -EUCLEAN, "the log has no blocks");
        if (start != 0 && (start < j->first || start >= j->last))
                return refuse(j, -EUCLEAN, "the log begins outside of the journal");
        return 0;
}

static int check_super(struct jbd2_journal *j)
{
        uint32_t type = be32_get(j->sb.s_header.h_blocktype);
        int ret;

        if (be32_get(j->sb.s_header.h_magic) != JBD2_MAGIC)
                return refuse(j, -EUCLEAN, "the magic is wrong");
        if (type != JBD2_SUPER_V1 && type != JBD2_SUPER_V2)
                return refuse(j, -EUCLEAN, "it is another kind of block");
        ret = check_features(j);
        if (ret == 0 && !jbd2_super_csum_ok(j))
                ret = refuse(j, -EBADMSG, "the checksum does not match");
        return ret < 0 ? ret : check_geometry(j);
}

int jbd2_open(const struct jbd2_place *place, const struct log_sink *log,
              struct jbd2_journal *ret_journal)
{
        struct jbd2_journal j = {.place = *place, .log = *log};
        int ret = place->nr_blocks > place->super_blk ? read_super(&j)
                                                      : refuse(&j, -EUCLEAN, "there is none");

        if (ret == 0)
                ret = check_super(&j);
        if (ret < 0) {
                jbd2_close(&j);
                return ret;
        }
        *ret_journal = j;
        return 0;
}

void jbd2_close(struct jbd2_journal *j)
{
        mem_free(j->place.runs);
        j->place.runs = NULL;
}

int jbd2_reset_log(struct jbd2_journal *j, uint32_t end_tid)
{
        void *block = jbd2_block_alloc(j);
        int ret;

        if (!block)
                return -ENOMEM;
        ret = jbd2_read_block(j, j->place.super_blk, block);
        if (ret == 0) {
                j->sb.s_start = be32_make(0);
                /* One further, so that a torn commit of end_tid is no part of the new log. */
                j->sb.s_sequence = be32_make(end_tid + 1);
                j->sb.s_errno = be32_make(0);
                jbd2_super_seal(j);
                memcpy(block, &j->sb, sizeof(j->sb));
                ret = uext4_bdev_write(j->place.dev, block, j->place.block_size,
                                       position_of(j, j->place.super_blk), UEXT4_BDEV_FUA);
        }
        mem_free(block);
        return ret;
}
