/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The fast-commit area, as far as to know whether it holds anything (J50).
 *
 * It is a string of records, each with a little-endian tag and length: a head that names
 * features and a tid, changes, and a tail with the tid and a crc32c over all since the head.
 * Records do not cross blocks.  What counts is everything up to the last valid tail of the tid
 * that comes next; without one the area is left over from before the last full commit.
 */

#include <string.h>

#include "ext4/journal.h"
#include "util/alloc.h"
#include "util/crc.h"

#define FC_TAG_TAIL 0x08
#define FC_TAG_HEAD 0x09

struct fc_record {
        le16 fc_tag;
        le16 fc_len;
};

struct fc_head {
        le32 fc_features;
        le32 fc_tid;
};

struct fc_tail {
        le32 fc_tid;
        le32 fc_crc;
};

enum fc_verdict {
        FC_GO_ON,
        FC_END,   /* no record of this tid */
        FC_VALID, /* a valid tail */
};

struct fc_state {
        uint32_t tid;
        uint32_t crc;
        bool has_head;
};

static enum fc_verdict look_at_head(struct fc_state *s, const char *value, size_t len)
{
        struct fc_head head;

        if (len < sizeof(head))
                return FC_END;
        memcpy(&head, value, sizeof(head));
        if (le32_get(head.fc_tid) != s->tid)
                return FC_END;
        s->has_head = true;
        return FC_GO_ON;
}

/* The checksum covers the record as far as itself. */
static enum fc_verdict look_at_tail(struct fc_state *s, const char *record, size_t len)
{
        const char *value = record + sizeof(struct fc_record);
        struct fc_tail tail;

        if (len < sizeof(tail))
                return FC_END;
        memcpy(&tail, value, sizeof(tail));
        s->crc = crc32c(s->crc, record,
                        sizeof(struct fc_record) + offsetof(struct fc_tail, fc_crc));
        return le32_get(tail.fc_tid) == s->tid && le32_get(tail.fc_crc) == s->crc ? FC_VALID
                                                                                  : FC_END;
}

static enum fc_verdict look_at_block(struct fc_state *s, const char *block, size_t size)
{
        size_t pos = 0;

        while (size - pos >= sizeof(struct fc_record)) {
                enum fc_verdict verdict = FC_GO_ON;
                struct fc_record record;
                size_t len, tag;

                memcpy(&record, block + pos, sizeof(record));
                tag = le16_get(record.fc_tag);
                len = le16_get(record.fc_len);
                if (len > size - pos - sizeof(record))
                        return FC_END;
                if (!s->has_head && tag != FC_TAG_HEAD)
                        return FC_END;
                if (tag == FC_TAG_HEAD)
                        verdict = look_at_head(s, block + pos + sizeof(record), len);
                else if (tag == FC_TAG_TAIL)
                        return look_at_tail(s, block + pos, len);
                if (verdict != FC_GO_ON)
                        return verdict;
                s->crc = crc32c(s->crc, block + pos, sizeof(record) + len);
                pos += sizeof(record) + len;
        }
        return FC_GO_ON;
}

int ext4_fast_commit_check(const struct jbd2_journal *j, uint32_t end_tid)
{
        struct fc_state s = {.tid = end_tid};
        enum fc_verdict verdict = FC_GO_ON;
        _cleanup_mem_ char *block = jbd2_block_alloc(j);
        int ret = block ? 0 : -ENOMEM;

        for (uint32_t blk = j->fc_first; ret == 0 && verdict == FC_GO_ON && blk < j->fc_last;
             blk++) {
                ret = jbd2_read_block(j, blk, block);
                if (ret == 0)
                        verdict = look_at_block(&s, block, j->place.block_size);
        }
        if (ret < 0 || verdict != FC_VALID)
                return ret;
        log_say(&j->log, LOG_ERR,
                "the journal ends with fast commits, which this version of uext4 cannot "
                "replay; "
                "the kernel or e2fsck can");
        return -EOPNOTSUPP;
}
