/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef JBD2_FORMAT_H
#define JBD2_FORMAT_H

/* The journal as it lies on disk: big-endian throughout (J1, J2). */

#include "util/base.h"
#include "util/endian.h"

#define AT(type, member, offset) \
        _Static_assert(offsetof(type, member) == (offset), #type "." #member)
#define SIZE_IS(type, size) _Static_assert(sizeof(type) == (size), #type)

#define JBD2_MAGIC 0xc03b3998u

#define JBD2_DESCRIPTOR 1
#define JBD2_COMMIT     2
#define JBD2_SUPER_V1   3
#define JBD2_SUPER_V2   4
#define JBD2_REVOKE     5

/* At the start of every block of the log that is no copy of a file system block. */
struct jbd2_header {
        be32 h_magic;
        be32 h_blocktype;
        be32 h_sequence; /* tid */
};
SIZE_IS(struct jbd2_header, 12);

struct jbd2_super {
        struct jbd2_header s_header;
        be32 s_blocksize; /* 0x0c */
        be32 s_maxlen;    /* 0x10 blocks of the journal, this one included */
        be32 s_first;     /* 0x14 first block of the log */
        be32 s_sequence;  /* 0x18 first tid expected in the log */
        be32 s_start;     /* 0x1c where it begins; 0: the log is empty (J3) */
        be32 s_errno;     /* 0x20 */
        /* Version 2 only: */
        be32 s_feature_compat;    /* 0x24 */
        be32 s_feature_incompat;  /* 0x28 */
        be32 s_feature_ro_compat; /* 0x2c */
        uint8_t s_uuid[16];       /* 0x30 */
        be32 s_nr_users;          /* 0x40 */
        be32 s_dynsuper;          /* 0x44 */
        be32 s_max_transaction;   /* 0x48 */
        be32 s_max_trans_data;    /* 0x4c */
        uint8_t s_checksum_type;  /* 0x50 4: crc32c */
        uint8_t s_padding2[3];
        be32 s_num_fc_blks; /* 0x54 0: the default */
        be32 s_head;        /* 0x58 */
        be32 s_padding[40];
        be32 s_checksum; /* 0xfc */
        uint8_t s_users[16 * 48];
};
AT(struct jbd2_super, s_start, 0x1c);
AT(struct jbd2_super, s_uuid, 0x30);
AT(struct jbd2_super, s_checksum_type, 0x50);
AT(struct jbd2_super, s_checksum, 0xfc);
SIZE_IS(struct jbd2_super, 1024);

#define JBD2_COMPAT_CHECKSUM 0x1 /* v1: one CRC-32 over a transaction, in its commit block */

#define JBD2_INCOMPAT_REVOKE       0x01
#define JBD2_INCOMPAT_64BIT        0x02
#define JBD2_INCOMPAT_ASYNC_COMMIT 0x04
#define JBD2_INCOMPAT_CSUM_V2      0x08
#define JBD2_INCOMPAT_CSUM_V3      0x10
#define JBD2_INCOMPAT_FAST_COMMIT  0x20
#define JBD2_INCOMPAT_KNOWN        0x3f

#define JBD2_CHECKSUM_CRC32  1
#define JBD2_CHECKSUM_CRC32C 4

#define JBD2_DEFAULT_FC_BLOCKS 256

/*
 * A tag of a descriptor block names the place of one block.  Its size depends on features (J5):
 * with CSUM_V3 16 bytes, flags and checksum having 32 bits each; else 8, 10, 12 or 14.  Behind
 * a tag without SAME_UUID stand 16 bytes of UUID.
 */
struct jbd2_tag {
        be32 t_blocknr;
        be16 t_checksum; /* v2: the lower half */
        be16 t_flags;
        be32 t_blocknr_high; /* with 64BIT */
};
SIZE_IS(struct jbd2_tag, 12);

struct jbd2_tag3 {
        be32 t_blocknr;
        be32 t_flags; /* only the lower half is used (J6) */
        be32 t_blocknr_high;
        be32 t_checksum;
};
SIZE_IS(struct jbd2_tag3, 16);

#define JBD2_TAG_ESCAPED   1 /* the first four bytes were the magic and are zeroed (J9) */
#define JBD2_TAG_SAME_UUID 2
#define JBD2_TAG_DELETED   4
#define JBD2_TAG_LAST      8

struct jbd2_revoke_header {
        struct jbd2_header r_header;
        be32 r_count; /* bytes in use, this header included (J12) */
};
SIZE_IS(struct jbd2_revoke_header, 16);

/* The end of descriptor and revoke blocks, with checksums v2 and v3. */
struct jbd2_block_tail {
        be32 t_checksum;
};

struct jbd2_commit_block {
        struct jbd2_header h_header;
        uint8_t h_chksum_type; /* v1 only */
        uint8_t h_chksum_size;
        uint8_t h_padding[2];
        be32 h_chksum[8];
        be64 h_commit_sec; /* 0x30 */
        be32 h_commit_nsec;
};
AT(struct jbd2_commit_block, h_chksum, 0x10);
AT(struct jbd2_commit_block, h_commit_sec, 0x30);

#undef AT
#undef SIZE_IS

#endif
