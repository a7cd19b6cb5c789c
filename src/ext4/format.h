/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef EXT4_FORMAT_H
#define EXT4_FORMAT_H

/*
 * ext4 as it lies on disk.  Little-endian throughout (the journal, which is not,
 * has its own file).  Offsets are asserted at the end of each structure.
 * docs/format.md explains; here are only names, sizes and places.
 */

#include "util/base.h"
#include "util/endian.h"

typedef uint64_t ext4_fsblk_t; /* physical block, from the start of the file system */
typedef uint32_t ext4_lblk_t;  /* logical block of a file */
typedef uint32_t ext4_group_t;

#define AT(type, member, offset) \
        _Static_assert(offsetof(type, member) == (offset), #type "." #member)
#define SIZE_IS(type, size) _Static_assert(sizeof(type) == (size), #type)

/* ---- superblock ---- */

#define EXT4_SUPER_OFFSET 1024
#define EXT4_SUPER_SIZE   1024
#define EXT4_SUPER_MAGIC  0xef53

#define EXT4_MIN_BLOCK_SIZE  1024
#define EXT4_MAX_BLOCK_SIZE  65536
#define EXT4_MAX_CLUSTER_LOG 30 /* of the cluster size in bytes */

struct ext4_super_block {
        le32 s_inodes_count;            /* 0x00 */
        le32 s_blocks_count_lo;         /* 0x04 */
        le32 s_r_blocks_count_lo;       /* 0x08 reserved for root */
        le32 s_free_blocks_count_lo;    /* 0x0c; blocks, with bigalloc too */
        le32 s_free_inodes_count;       /* 0x10 */
        le32 s_first_data_block;        /* 0x14 */
        le32 s_log_block_size;          /* 0x18: 1024 << n */
        le32 s_log_cluster_size;        /* 0x1c: 1024 << n */
        le32 s_blocks_per_group;        /* 0x20 */
        le32 s_clusters_per_group;      /* 0x24 */
        le32 s_inodes_per_group;        /* 0x28 */
        le32 s_mtime;                   /* 0x2c */
        le32 s_wtime;                   /* 0x30 */
        le16 s_mnt_count;               /* 0x34 */
        le16 s_max_mnt_count;           /* 0x36 */
        le16 s_magic;                   /* 0x38 */
        le16 s_state;                   /* 0x3a: EXT4_STATE_* */
        le16 s_errors;                  /* 0x3c */
        le16 s_minor_rev_level;         /* 0x3e */
        le32 s_lastcheck;               /* 0x40 */
        le32 s_checkinterval;           /* 0x44 */
        le32 s_creator_os;              /* 0x48 */
        le32 s_rev_level;               /* 0x4c: 0 has none of the fields below up to 0x60 */
        le16 s_def_resuid;              /* 0x50 */
        le16 s_def_resgid;              /* 0x52 */
        le32 s_first_ino;               /* 0x54 */
        le16 s_inode_size;              /* 0x58 */
        le16 s_block_group_nr;          /* 0x5a: of this copy */
        le32 s_feature_compat;          /* 0x5c */
        le32 s_feature_incompat;        /* 0x60 */
        le32 s_feature_ro_compat;       /* 0x64 */
        uint8_t s_uuid[16];             /* 0x68 */
        char s_volume_name[16];         /* 0x78 */
        char s_last_mounted[64];        /* 0x88 */
        le32 s_algorithm_usage_bitmap;  /* 0xc8 */
        uint8_t s_prealloc_blocks;      /* 0xcc */
        uint8_t s_prealloc_dir_blocks;  /* 0xcd */
        le16 s_reserved_gdt_blocks;     /* 0xce */
        uint8_t s_journal_uuid[16];     /* 0xd0 */
        le32 s_journal_inum;            /* 0xe0 */
        le32 s_journal_dev;             /* 0xe4 */
        le32 s_last_orphan;             /* 0xe8 */
        le32 s_hash_seed[4];            /* 0xec */
        uint8_t s_def_hash_version;     /* 0xfc */
        uint8_t s_jnl_backup_type;      /* 0xfd */
        le16 s_desc_size;               /* 0xfe */
        le32 s_default_mount_opts;      /* 0x100 */
        le32 s_first_meta_bg;           /* 0x104 */
        le32 s_mkfs_time;               /* 0x108 */
        le32 s_jnl_blocks[17];          /* 0x10c */
        le32 s_blocks_count_hi;         /* 0x150 */
        le32 s_r_blocks_count_hi;       /* 0x154 */
        le32 s_free_blocks_count_hi;    /* 0x158 */
        le16 s_min_extra_isize;         /* 0x15c */
        le16 s_want_extra_isize;        /* 0x15e */
        le32 s_flags;                   /* 0x160: EXT4_SUPER_* */
        le16 s_raid_stride;             /* 0x164 */
        le16 s_mmp_interval;            /* 0x166 */
        le64 s_mmp_block;               /* 0x168 */
        le32 s_raid_stripe_width;       /* 0x170 */
        uint8_t s_log_groups_per_flex;  /* 0x174 */
        uint8_t s_checksum_type;        /* 0x175: 1 is crc32c */
        uint8_t s_encryption_level;     /* 0x176 */
        uint8_t s_reserved_pad;         /* 0x177 */
        le64 s_kbytes_written;          /* 0x178 */
        le32 s_snapshot_inum;           /* 0x180 */
        le32 s_snapshot_id;             /* 0x184 */
        le64 s_snapshot_r_blocks_count; /* 0x188 */
        le32 s_snapshot_list;           /* 0x190 */
        le32 s_error_count;             /* 0x194 */
        le32 s_first_error_time;        /* 0x198 */
        le32 s_first_error_ino;         /* 0x19c */
        le64 s_first_error_block;       /* 0x1a0 */
        char s_first_error_func[32];    /* 0x1a8 */
        le32 s_first_error_line;        /* 0x1c8 */
        le32 s_last_error_time;         /* 0x1cc */
        le32 s_last_error_ino;          /* 0x1d0 */
        le32 s_last_error_line;         /* 0x1d4 */
        le64 s_last_error_block;        /* 0x1d8 */
        char s_last_error_func[32];     /* 0x1e0 */
        char s_mount_opts[64];          /* 0x200 */
        le32 s_usr_quota_inum;          /* 0x240 */
        le32 s_grp_quota_inum;          /* 0x244 */
        le32 s_overhead_blocks;         /* 0x248 */
        le32 s_backup_bgs[2];           /* 0x24c: sparse_super2 */
        uint8_t s_encrypt_algos[4];     /* 0x254 */
        uint8_t s_encrypt_pw_salt[16];  /* 0x258 */
        le32 s_lpf_ino;                 /* 0x268 */
        le32 s_prj_quota_inum;          /* 0x26c */
        le32 s_checksum_seed;           /* 0x270 */
        uint8_t s_wtime_hi;             /* 0x274: bits 32..39 of the times */
        uint8_t s_mtime_hi;             /* 0x275 */
        uint8_t s_mkfs_time_hi;         /* 0x276 */
        uint8_t s_lastcheck_hi;         /* 0x277 */
        uint8_t s_first_error_time_hi;  /* 0x278 */
        uint8_t s_last_error_time_hi;   /* 0x279 */
        uint8_t s_first_error_errcode;  /* 0x27a */
        uint8_t s_last_error_errcode;   /* 0x27b */
        le16 s_encoding;                /* 0x27c: casefold */
        le16 s_encoding_flags;          /* 0x27e */
        le32 s_orphan_file_inum;        /* 0x280 */
        le32 s_reserved[94];            /* 0x284 */
        le32 s_checksum;                /* 0x3fc */
};
AT(struct ext4_super_block, s_magic, 0x38);
AT(struct ext4_super_block, s_uuid, 0x68);
AT(struct ext4_super_block, s_hash_seed, 0xec);
AT(struct ext4_super_block, s_blocks_count_hi, 0x150);
AT(struct ext4_super_block, s_mmp_block, 0x168);
AT(struct ext4_super_block, s_first_error_block, 0x1a0);
AT(struct ext4_super_block, s_mount_opts, 0x200);
AT(struct ext4_super_block, s_checksum_seed, 0x270);
AT(struct ext4_super_block, s_orphan_file_inum, 0x280);
AT(struct ext4_super_block, s_checksum, 0x3fc);
SIZE_IS(struct ext4_super_block, EXT4_SUPER_SIZE);

/* s_state */
#define EXT4_STATE_VALID  0x0001
#define EXT4_STATE_ERROR  0x0002
#define EXT4_STATE_ORPHAN 0x0004

/* s_errors */
#define EXT4_ERRORS_CONTINUE 1
#define EXT4_ERRORS_RO       2
#define EXT4_ERRORS_PANIC    3

/* s_creator_os */
#define EXT4_OS_LINUX 0
#define EXT4_OS_HURD  1

/* s_default_mount_opts */
#define EXT4_DEFAULT_DATA_MASK      0x0060
#define EXT4_DEFAULT_DATA_JOURNAL   0x0020
#define EXT4_DEFAULT_DATA_ORDERED   0x0040
#define EXT4_DEFAULT_DATA_WRITEBACK 0x0060
#define EXT4_DEFAULT_NOBARRIER      0x0100
#define EXT4_DEFAULT_DISCARD        0x0400

/* s_flags */
#define EXT4_SUPER_SIGNED_HASH   0x0001
#define EXT4_SUPER_UNSIGNED_HASH 0x0002

/* Inodes with a meaning of their own. */
#define EXT4_INO_BAD       1
#define EXT4_INO_ROOT      2
#define EXT4_INO_JOURNAL   8
#define EXT4_OLD_FIRST_INO 11

/* ---- features ---- */

#define EXT4_COMPAT_DIR_PREALLOC  0x0001
#define EXT4_COMPAT_IMAGIC_INODES 0x0002
#define EXT4_COMPAT_HAS_JOURNAL   0x0004
#define EXT4_COMPAT_EXT_ATTR      0x0008
#define EXT4_COMPAT_RESIZE_INODE  0x0010
#define EXT4_COMPAT_DIR_INDEX     0x0020
#define EXT4_COMPAT_SPARSE_SUPER2 0x0200
#define EXT4_COMPAT_FAST_COMMIT   0x0400
#define EXT4_COMPAT_STABLE_INODES 0x0800
#define EXT4_COMPAT_ORPHAN_FILE   0x1000

#define EXT4_RO_COMPAT_SPARSE_SUPER   0x0001
#define EXT4_RO_COMPAT_LARGE_FILE     0x0002
#define EXT4_RO_COMPAT_BTREE_DIR      0x0004
#define EXT4_RO_COMPAT_HUGE_FILE      0x0008
#define EXT4_RO_COMPAT_GDT_CSUM       0x0010
#define EXT4_RO_COMPAT_DIR_NLINK      0x0020
#define EXT4_RO_COMPAT_EXTRA_ISIZE    0x0040
#define EXT4_RO_COMPAT_HAS_SNAPSHOT   0x0080
#define EXT4_RO_COMPAT_QUOTA          0x0100
#define EXT4_RO_COMPAT_BIGALLOC       0x0200
#define EXT4_RO_COMPAT_METADATA_CSUM  0x0400
#define EXT4_RO_COMPAT_REPLICA        0x0800
#define EXT4_RO_COMPAT_READONLY       0x1000
#define EXT4_RO_COMPAT_PROJECT        0x2000
#define EXT4_RO_COMPAT_SHARED_BLOCKS  0x4000
#define EXT4_RO_COMPAT_VERITY         0x8000
#define EXT4_RO_COMPAT_ORPHAN_PRESENT 0x10000

#define EXT4_INCOMPAT_COMPRESSION 0x0001
#define EXT4_INCOMPAT_FILETYPE    0x0002
#define EXT4_INCOMPAT_RECOVER     0x0004
#define EXT4_INCOMPAT_JOURNAL_DEV 0x0008
#define EXT4_INCOMPAT_META_BG     0x0010
#define EXT4_INCOMPAT_EXTENTS     0x0040
#define EXT4_INCOMPAT_64BIT       0x0080
#define EXT4_INCOMPAT_MMP         0x0100
#define EXT4_INCOMPAT_FLEX_BG     0x0200
#define EXT4_INCOMPAT_EA_INODE    0x0400
#define EXT4_INCOMPAT_DIRDATA     0x1000
#define EXT4_INCOMPAT_CSUM_SEED   0x2000
#define EXT4_INCOMPAT_LARGEDIR    0x4000
#define EXT4_INCOMPAT_INLINE_DATA 0x8000
#define EXT4_INCOMPAT_ENCRYPT     0x10000
#define EXT4_INCOMPAT_CASEFOLD    0x20000

/* ---- group descriptors ---- */

#define EXT4_MIN_DESC_SIZE       32
#define EXT4_MIN_DESC_SIZE_64BIT 64
#define EXT4_MAX_DESC_SIZE       1024

struct ext4_group_desc {
        le32 bg_block_bitmap_lo;      /* 0x00 */
        le32 bg_inode_bitmap_lo;      /* 0x04 */
        le32 bg_inode_table_lo;       /* 0x08 */
        le16 bg_free_blocks_count_lo; /* 0x0c */
        le16 bg_free_inodes_count_lo; /* 0x0e */
        le16 bg_used_dirs_count_lo;   /* 0x10 */
        le16 bg_flags;                /* 0x12: EXT4_BG_* */
        le32 bg_exclude_bitmap_lo;    /* 0x14 */
        le16 bg_block_bitmap_csum_lo; /* 0x18 */
        le16 bg_inode_bitmap_csum_lo; /* 0x1a */
        le16 bg_itable_unused_lo;     /* 0x1c */
        le16 bg_checksum;             /* 0x1e */
        /* Only with descriptors of 64 bytes: */
        le32 bg_block_bitmap_hi;      /* 0x20 */
        le32 bg_inode_bitmap_hi;      /* 0x24 */
        le32 bg_inode_table_hi;       /* 0x28 */
        le16 bg_free_blocks_count_hi; /* 0x2c */
        le16 bg_free_inodes_count_hi; /* 0x2e */
        le16 bg_used_dirs_count_hi;   /* 0x30 */
        le16 bg_itable_unused_hi;     /* 0x32 */
        le32 bg_exclude_bitmap_hi;    /* 0x34 */
        le16 bg_block_bitmap_csum_hi; /* 0x38 */
        le16 bg_inode_bitmap_csum_hi; /* 0x3a */
        le32 bg_reserved;             /* 0x3c */
};
AT(struct ext4_group_desc, bg_checksum, 0x1e);
SIZE_IS(struct ext4_group_desc, 64);

#define EXT4_BG_INODE_UNINIT 0x0001
#define EXT4_BG_BLOCK_UNINIT 0x0002
#define EXT4_BG_INODE_ZEROED 0x0004

/* ---- inodes ---- */

#define EXT4_GOOD_OLD_INODE_SIZE 128
#define EXT4_NR_DIRECT           12
#define EXT4_IND_BLOCK           12
#define EXT4_DIND_BLOCK          13
#define EXT4_TIND_BLOCK          14
#define EXT4_N_BLOCKS            15
#define EXT4_I_BLOCK_SIZE        (EXT4_N_BLOCKS * 4)

struct ext4_inode_disk {
        le16 i_mode;        /* 0x00 */
        le16 i_uid_lo;      /* 0x02 */
        le32 i_size_lo;     /* 0x04 */
        le32 i_atime;       /* 0x08; of an ea_inode: hash of its value */
        le32 i_ctime;       /* 0x0c; of an ea_inode: reference count, low half */
        le32 i_mtime;       /* 0x10 */
        le32 i_dtime;       /* 0x14; on the orphan list: the next inode */
        le16 i_gid_lo;      /* 0x18 */
        le16 i_links_count; /* 0x1a */
        le32 i_blocks_lo;   /* 0x1c */
        le32 i_flags;       /* 0x20: EXT4_FL_* */
        le32 i_version_lo;  /* 0x24 */
        uint8_t i_block[EXT4_I_BLOCK_SIZE]; /* 0x28 */
        le32 i_generation;                  /* 0x64 */
        le32 i_file_acl_lo;                 /* 0x68 */
        le32 i_size_hi;                     /* 0x6c */
        le32 i_obso_faddr;                  /* 0x70 */
        le16 i_blocks_hi;                   /* 0x74 */
        le16 i_file_acl_hi;                 /* 0x76 */
        le16 i_uid_hi;                      /* 0x78 */
        le16 i_gid_hi;                      /* 0x7a */
        le16 i_checksum_lo;                 /* 0x7c */
        le16 i_reserved;                    /* 0x7e */
        /* Only in inodes larger than 128 bytes, as far as i_extra_isize reaches: */
        le16 i_extra_isize;  /* 0x80 */
        le16 i_checksum_hi;  /* 0x82 */
        le32 i_ctime_extra;  /* 0x84: two bits of epoch, 30 bits of nanoseconds */
        le32 i_mtime_extra;  /* 0x88 */
        le32 i_atime_extra;  /* 0x8c */
        le32 i_crtime;       /* 0x90 */
        le32 i_crtime_extra; /* 0x94 */
        le32 i_version_hi;   /* 0x98 */
        le32 i_projid;       /* 0x9c */
};
AT(struct ext4_inode_disk, i_block, 0x28);
AT(struct ext4_inode_disk, i_file_acl_lo, 0x68);
AT(struct ext4_inode_disk, i_checksum_lo, 0x7c);
AT(struct ext4_inode_disk, i_extra_isize, 0x80);
AT(struct ext4_inode_disk, i_projid, 0x9c);
SIZE_IS(struct ext4_inode_disk, 160);

/* ---- the orphan file ---- */

#define EXT4_ORPHAN_MAGIC 0x0b10ca04

/* At the end of each of its blocks; before it inode numbers (le32), 0 where a slot is free. */
struct ext4_orphan_tail {
        le32 ob_magic;
        le32 ob_checksum; /* of the block's number (64 bits) and the slots, seed as the inode's
                           */
};
SIZE_IS(struct ext4_orphan_tail, 8);

/* ---- i_flags ---- */

#define EXT4_FL_SYNC         0x00000008
#define EXT4_FL_IMMUTABLE    0x00000010
#define EXT4_FL_APPEND       0x00000020
#define EXT4_FL_NODUMP       0x00000040
#define EXT4_FL_NOATIME      0x00000080
#define EXT4_FL_ENCRYPT      0x00000800
#define EXT4_FL_INDEX        0x00001000 /* a hashed directory */
#define EXT4_FL_IMAGIC       0x00002000
#define EXT4_FL_JOURNAL_DATA 0x00004000
#define EXT4_FL_NOTAIL       0x00008000
#define EXT4_FL_DIRSYNC      0x00010000
#define EXT4_FL_TOPDIR       0x00020000
#define EXT4_FL_HUGE_FILE    0x00040000 /* i_blocks counts file system blocks */
#define EXT4_FL_EXTENTS      0x00080000
#define EXT4_FL_VERITY       0x00100000
#define EXT4_FL_EA_INODE     0x00200000 /* holds the value of an attribute */
#define EXT4_FL_DAX          0x02000000
#define EXT4_FL_INLINE_DATA  0x10000000
#define EXT4_FL_PROJINHERIT  0x20000000
#define EXT4_FL_CASEFOLD     0x40000000

/* ---- extents ---- */

#define EXT4_EXTENT_MAGIC     0xf30a
#define EXT4_EXTENT_MAX_DEPTH 5
#define EXT4_EXTENT_MAX_LEN   32768 /* longer: unwritten, by len - 32768 blocks (B18) */

struct ext4_extent_header {
        le16 eh_magic;
        le16 eh_entries;
        le16 eh_max;
        le16 eh_depth; /* 0: a leaf */
        le32 eh_generation;
};
SIZE_IS(struct ext4_extent_header, 12);

struct ext4_extent_disk {
        le32 ee_block; /* first logical block */
        le16 ee_len;
        le16 ee_start_hi;
        le32 ee_start_lo;
};
SIZE_IS(struct ext4_extent_disk, 12);

struct ext4_extent_index {
        le32 ei_block; /* the child covers logical blocks from here on */
        le32 ei_leaf_lo;
        le16 ei_leaf_hi;
        le16 ei_unused;
};
SIZE_IS(struct ext4_extent_index, 12);

/* ---- directories ---- */

#define EXT4_NAME_LEN 255

struct ext4_dir_entry {
        le32 inode;        /* 0: unused */
        le16 rec_len;      /* see ext4_dir_rec_len() for 64k blocks */
        uint8_t name_len;  /* without filetype: low byte of a 16-bit length */
        uint8_t file_type; /* EXT4_FT_*, 0 without the feature */
        /* then the name */
};
SIZE_IS(struct ext4_dir_entry, 8);

#define EXT4_FT_UNKNOWN  0
#define EXT4_FT_REG_FILE 1
#define EXT4_FT_DIR      2
#define EXT4_FT_CHRDEV   3
#define EXT4_FT_BLKDEV   4
#define EXT4_FT_FIFO     5
#define EXT4_FT_SOCK     6
#define EXT4_FT_SYMLINK  7
#define EXT4_FT_DIR_CSUM 0xde

/* Last entry of a directory block with metadata_csum. */
struct ext4_dir_tail {
        le32 det_reserved_zero1; /* an unused entry for old readers */
        le16 det_rec_len;        /* 12 */
        uint8_t det_reserved_zero2;
        uint8_t det_reserved_ft; /* EXT4_FT_DIR_CSUM */
        le32 det_checksum;
};
SIZE_IS(struct ext4_dir_tail, 12);

/* Behind "." and ".." of the first block of a hashed directory, at byte 24. */
struct ext4_dx_root_info {
        le32 reserved_zero;
        uint8_t hash_version; /* EXT4_DX_HASH_* */
        uint8_t info_length;  /* 8 */
        uint8_t indirect_levels;
        uint8_t unused_flags;
};
SIZE_IS(struct ext4_dx_root_info, 8);

#define EXT4_DX_HASH_LEGACY            0
#define EXT4_DX_HASH_HALF_MD4          1
#define EXT4_DX_HASH_TEA               2
#define EXT4_DX_HASH_LEGACY_UNSIGNED   3
#define EXT4_DX_HASH_HALF_MD4_UNSIGNED 4
#define EXT4_DX_HASH_TEA_UNSIGNED      5
#define EXT4_DX_HASH_SIPHASH           6

/* The first entry's hash field holds limit and count instead. */
struct ext4_dx_entry {
        le32 hash;
        le32 block; /* logical block of the directory */
};
SIZE_IS(struct ext4_dx_entry, 8);

struct ext4_dx_countlimit {
        le16 limit;
        le16 count;
};
SIZE_IS(struct ext4_dx_countlimit, 4);

/* Behind the last possible entry of an index block with metadata_csum. */
struct ext4_dx_tail {
        le32 dt_reserved;
        le32 dt_checksum;
};
SIZE_IS(struct ext4_dx_tail, 8);

/* ---- extended attributes ---- */

#define EXT4_XATTR_MAGIC 0xea020000

struct ext4_xattr_header { /* at the start of a block */
        le32 h_magic;
        le32 h_refcount;
        le32 h_blocks; /* 1 */
        le32 h_hash;
        le32 h_checksum;
        le32 h_reserved[3];
};
SIZE_IS(struct ext4_xattr_header, 32);

struct ext4_xattr_ibody_header { /* in an inode, behind i_extra_isize */
        le32 h_magic;
};
SIZE_IS(struct ext4_xattr_ibody_header, 4);

struct ext4_xattr_entry {
        uint8_t e_name_len;
        uint8_t e_name_index; /* EXT4_XATTR_INDEX_* */
        le16 e_value_offs;    /* from the first entry (inode) or the block's start */
        le32 e_value_inum;    /* inode that holds the value (ea_inode), or 0 */
        le32 e_value_size;
        le32 e_hash;
        /* then the name; the next entry at a multiple of 4; four zero bytes end the list */
};
SIZE_IS(struct ext4_xattr_entry, 16);

#define EXT4_XATTR_INDEX_USER              1
#define EXT4_XATTR_INDEX_POSIX_ACL_ACCESS  2
#define EXT4_XATTR_INDEX_POSIX_ACL_DEFAULT 3
#define EXT4_XATTR_INDEX_TRUSTED           4
#define EXT4_XATTR_INDEX_LUSTRE            5
#define EXT4_XATTR_INDEX_SECURITY          6
#define EXT4_XATTR_INDEX_SYSTEM            7
#define EXT4_XATTR_INDEX_RICHACL           8
#define EXT4_XATTR_INDEX_ENCRYPTION        9
#define EXT4_XATTR_INDEX_HURD              10

/* ext4's own short form of a POSIX ACL. */
#define EXT4_ACL_VERSION 0x0001

struct ext4_acl_header {
        le32 a_version;
};

struct ext4_acl_entry_short { /* user_obj, group_obj, mask, other */
        le16 e_tag;
        le16 e_perm;
};

struct ext4_acl_entry { /* user, group */
        le16 e_tag;
        le16 e_perm;
        le32 e_id;
};
SIZE_IS(struct ext4_acl_entry_short, 4);
SIZE_IS(struct ext4_acl_entry, 8);

#undef AT
#undef SIZE_IS

#endif
