/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef EXT4_EXT4_H
#define EXT4_EXT4_H

/*
 * The in-memory objects of ext4, and the calls between its files that reading takes:
 *
 *   super.c statfs.c features.c group.c       the file system as a whole
 *   corrupt.c csum.c                          what is wrong on disk
 *   inode.c inode_table.c                     inodes, from disk and in memory
 *   extent.c indirect.c extent_status.c map.c where a file's blocks are
 *   file.c                                    reading a file
 *   dir.c htree.c hash.c                      directories, and names in them
 *   dir_read.c dir_order.c (dir_read.h)       reading them from first to last
 *   xattr.c acl.c inline.c symlink.c          extended attributes, inline data
 *
 * The rest has headers of its own:
 *
 *   super_write.h journal.h                   a mount that writes; its journal, and recovery
 *   balloc.h delayed.h                        blocks given out; space promised to data
 *   ialloc.h orphan.h inode_store.h           inodes given out, unlinked, on their way to disk
 *   map_change.h truncate.h fallocate.h       changing where a file's blocks are
 *   write.h cache.h data_journal.h dax.h      writing a file, and its contents in memory
 *   fsync.h                                   making it durable
 *   namei.h dir_change.h                      names that come, go and move
 *   setattr.h xattr_change.h perm.h           attributes, and who may what
 */

#include <bsd/sys/tree.h>
#include <stdarg.h>
#include <time.h>

#include "buf/buf.h"
#include "ext4/format.h"
#include "iomap/iomap.h"
#include "vfs/inode.h"

struct ext4_dir_batch;
struct ext4_inode;
struct ext4_inode_table;
struct ext4_balloc;
struct ext4_errors;
struct ext4_ialloc;
struct ext4_orphan;
struct ext4_orphans;
struct jbd2;

/* ---- the file system ---- */

/* When reading changes access times. */
enum ext4_atime_mode {
        EXT4_ATIME_RELATIVE, /* when the file has changed since, or a day has passed */
        EXT4_ATIME_STRICT,
        EXT4_ATIME_NEVER,
};

/* How what is written to files is ordered with the metadata that finds it. */
enum ext4_data_mode {
        EXT4_DATA_ORDERED,
        EXT4_DATA_WRITEBACK,
        EXT4_DATA_JOURNAL,
};

/* Which files are used as memory, on a device that is memory (dax.h). */
enum ext4_dax_mode {
        EXT4_DAX_INODE, /* those with EXT4_FL_DAX */
        EXT4_DAX_ALWAYS,
        EXT4_DAX_NEVER,
};

/* Options that the caller has given: for the others the superblock has defaults. */
enum ext4_given {
        EXT4_GIVEN_BARRIER = 1u << 0,
        EXT4_GIVEN_DISCARD = 1u << 1,
        EXT4_GIVEN_ERRORS = 1u << 2,
        EXT4_GIVEN_DATA = 1u << 3,
        EXT4_GIVEN_RESUID = 1u << 4,
        EXT4_GIVEN_RESGID = 1u << 5,
};

struct ext4_mount_options {
        bool read_only;
        bool noload;       /* leave the journal alone */
        bool nocsum;       /* do not verify checksums */
        bool for_recovery; /* by ext4_mount_for_recovery(): nothing is sure yet */
        uint64_t sb_block; /* of the superblock, in units of 1 KiB; 1 is the primary */
        uint64_t meta_cache_bytes;
        uint64_t page_cache_bytes;
        bool nodelalloc; /* allocate when data is written to the cache, not when it leaves */
        enum ext4_dax_mode dax;

        /* For writing. */
        struct uext4_bdev *journal_dev; /* an external journal; NULL: none was given */
        uint32_t commit_ms; /* age at which a transaction is committed; 0: default */
        bool has_epoch;     /* all times are `epoch`, what is random follows from it */
        int64_t epoch;      /* seconds */
        unsigned given;     /* EXT4_GIVEN_*: which of the following */
        bool nobarrier;     /* the device loses nothing: no flushes */
        bool discard;       /* tell the device what has been freed */
        enum ext4_atime_mode atime;
        uint16_t errors; /* EXT4_ERRORS_* */
        enum ext4_data_mode data;
        uint32_t resuid, resgid; /* who may use the reserved blocks, beside root */
};

#define EXT4_DEFAULT_META_CACHE (32u << 20)
#define EXT4_NR_SAID            256

struct ext4_fs {
        struct vfs_super vfs;
        struct buf_cache *bufs;
        struct ext4_inode_table *inodes;
        struct jbd2 *journal;           /* [const] NULL: this mount does not write */
        struct ext4_balloc *balloc;     /* NULL likewise */
        struct ext4_ialloc *ialloc;     /* NULL likewise */
        struct ext4_orphans *orphans;   /* NULL likewise */
        struct ext4_errors *errors;     /* what to tell the superblock (abort.c) */
        struct mtx super_lock;          /* RANK_SUPER: the superblock's bytes */
        struct mtx rename_lock;         /* RANK_RENAME: which directory is in which */
        bool super_is_torn;             /* its checksum is wrong: for recovery only */
        uint16_t mount_state;           /* [const] s_state before the mount */
        struct ext4_mount_options opts; /* [const] */

        /* The rest is what the superblock says, checked: all [const] in a read-only mount. */
        struct ext4_super_block sb;
        uint32_t block_size;
        uint32_t block_bits;
        uint32_t cluster_bits; /* log2 of blocks per cluster */
        uint32_t inode_size;
        uint32_t desc_size;
        uint32_t descs_per_block;
        uint32_t inodes_per_group;
        uint32_t blocks_per_group;
        uint32_t nr_inodes;
        uint32_t first_ino;
        ext4_group_t nr_groups;
        ext4_fsblk_t nr_blocks;
        ext4_fsblk_t first_data_block;
        ext4_fsblk_t sb_fsblk; /* block that holds the superblock we use */
        uint32_t csum_seed;    /* of all crc32c */
        bool has_metadata_csum;
        bool has_gdt_csum;
        uint8_t hash_version; /* of new indexes, without its sign */
        bool hash_unsigned;

        char readonly_reason[256]; /* why this mount does not write */

        _Atomic uint64_t said[EXT4_NR_SAID]; /* what the log was told already (corrupt.c) */
        _Atomic uint64_t nr_cached_extents;  /* all extent status entries of the mount */
};

static inline bool ext4_has_compat(const struct ext4_fs *fs, uint32_t bits)
{
        return le32_get(fs->sb.s_feature_compat) & bits;
}

static inline bool ext4_has_incompat(const struct ext4_fs *fs, uint32_t bits)
{
        return le32_get(fs->sb.s_feature_incompat) & bits;
}

static inline bool ext4_has_ro_compat(const struct ext4_fs *fs, uint32_t bits)
{
        return le32_get(fs->sb.s_feature_ro_compat) & bits;
}

/*
 * Mount the device: read and check the superblock, pass the feature gate; for writing, recover,
 * load the journal and help the orphans.  Errors are said to the log.  What must not be
 * written is mounted read-only all the same, and fs->readonly_reason says why.  The device
 * stays the caller's.
 */
int ext4_mount(struct uext4_bdev *dev, const struct ext4_mount_options *opts,
               const struct log_sink *log, struct ext4_fs **ret_fs);

/*
 * As far as needed to find the journal: nothing but the superblock is looked at, because the
 * rest, the root directory too, may be good only after replay.
 */
int ext4_mount_for_recovery(struct uext4_bdev *dev, const struct ext4_mount_options *opts,
                            const struct log_sink *log, struct ext4_fs **ret_fs);

/*
 * Whether a mount with these options would write; else why not, or an empty text when it would
 * fail.  Nothing is said to a log.
 */
bool ext4_mount_would_write(struct uext4_bdev *dev, const struct ext4_mount_options *opts,
                            char *ret_reason, size_t size);

/*
 * -EBUSY when inodes are still referenced: then nothing happened.  Otherwise the file system is
 * gone, and an error is what went wrong in bringing it in order on the device.
 */
int ext4_unmount(struct ext4_fs *fs);

struct ext4_free_counts {
        uint64_t blocks;
        uint64_t inodes;
};

/* The superblock's own numbers: right after a clean unmount. */
struct ext4_free_counts ext4_super_free_counts(const struct ext4_fs *fs);

/* Counted from the group descriptors: reads all of them. */
int ext4_count_free(struct ext4_fs *fs, struct ext4_free_counts *ret_n);

ext4_fsblk_t ext4_reserved_blocks(const struct ext4_fs *fs);

/* As statvfs(3), with ext4_count_free(); what is promised to data in memory is in use. */
struct statvfs;
int ext4_statfs(struct ext4_fs *fs, struct statvfs *ret_st);

/* True when [blk, blk + nr) lies inside the file system's data area. */
static inline bool ext4_blocks_valid(const struct ext4_fs *fs, ext4_fsblk_t blk, uint64_t nr)
{
        return blk >= fs->first_data_block && blk < fs->nr_blocks && nr <= fs->nr_blocks - blk;
}

/* ---- features (features.c) ---- */

/*
 * The gate.  -EOPNOTSUPP, with the names to the log, when this library cannot read the image.
 * Otherwise `reason` tells why it must not be written, or is empty.
 */
int ext4_feature_gate(const struct ext4_super_block *sb, const struct log_sink *log,
                      char *reason, size_t size);

/* Names of all feature bits that are set, separated by blanks; unknown bits as FEATURE_I17. */
void ext4_feature_names(const struct ext4_super_block *sb, char *text, size_t size);

/* ---- reporting what is wrong on disk (corrupt.c) ---- */

struct ext4_where {
        struct ext4_fs *fs;
        uint64_t ino; /* 0: none */
        uint64_t blk; /* 0: none */
};

/* Say it, do what errors= asks for when this mount writes, return -EUCLEAN. */
#define ext4_corrupt(at, ...) ext4_corrupt_in((at), __func__, __LINE__, __VA_ARGS__)
int ext4_corrupt_in(const struct ext4_where *at, const char *func, uint32_t line,
                    const char *fmt, ...) printf_like(4, 5);

/* The same for the checksum of `what`, which does not match; return -EBADMSG. */
#define ext4_bad_csum(at, what) ext4_bad_csum_in((at), __func__, __LINE__, (what))
int ext4_bad_csum_in(const struct ext4_where *at, const char *func, uint32_t line,
                     const char *what);

/* The errors of these two: what is elsewhere may be good all the same. */
static inline bool ext4_is_damage(int err)
{
        return err == -EUCLEAN || err == -EBADMSG;
}

/* ---- checksums (csum.c) ---- */

/* Seed of everything that belongs to one inode. */
uint32_t ext4_inode_csum_seed(const struct ext4_fs *fs, uint32_t ino, le32 generation);

bool ext4_super_csum_ok(const struct ext4_super_block *sb);
void ext4_super_seal(struct ext4_super_block *sb); /* set it */
bool ext4_desc_csum_ok(const struct ext4_fs *fs, ext4_group_t group, const void *desc);
void ext4_desc_seal(const struct ext4_fs *fs, ext4_group_t group, void *desc); /* set it */
/* `raw` has fs->inode_size bytes. */
bool ext4_inode_csum_ok(const struct ext4_fs *fs, uint32_t ino, const void *raw);
void ext4_inode_seal(const struct ext4_fs *fs, uint32_t ino, void *raw); /* set it */

/* Whether metadata checksums exist and are to be verified. */
static inline bool ext4_verify_csums(const struct ext4_fs *fs)
{
        return fs->has_metadata_csum && !fs->opts.nocsum;
}

/* ---- groups (group.c) ---- */

struct ext4_group {
        ext4_fsblk_t block_bitmap;
        ext4_fsblk_t inode_bitmap;
        ext4_fsblk_t inode_table;
        uint32_t free_clusters;
        uint32_t free_inodes;
        uint32_t used_dirs;
        uint32_t itable_unused;
        uint32_t block_bitmap_csum; /* the low 16 bits with descriptors of 32 bytes */
        uint32_t inode_bitmap_csum;
        uint16_t flags;
};

/* Whether a group holds a copy of the superblock (and of descriptors beside it). */
bool ext4_group_has_super(const struct ext4_fs *fs, ext4_group_t group);

/* Read and check one descriptor; group < nr_groups.  flags: BUF_*. */
int ext4_group_get(struct ext4_fs *fs, ext4_group_t group, unsigned flags,
                   struct ext4_group *ret_group);

/* ---- the map of a file ---- */

enum ext4_map_type {
        EXT4_MAP_HOLE,
        EXT4_MAP_WRITTEN,
        EXT4_MAP_UNWRITTEN,
};

struct ext4_map {
        ext4_lblk_t lblk;
        uint64_t len;      /* blocks; 64 bits because a hole may have 2^32 (C43) */
        ext4_fsblk_t pblk; /* of lblk, unless a hole */
        enum ext4_map_type type;
};

/* Logical blocks are 0 .. EXT4_MAX_LBLK (B8); one more would not fit a file's length field. */
#define EXT4_MAX_LBLK 0xfffffffeu
#define EXT4_NR_LBLKS 0xffffffffull

/*
 * The extent status cache of one inode: what is known of its map, in memory.  Entries do not
 * overlap; neighbours that continue each other are one.  A block that no entry covers is
 * unknown, not a hole.
 */
struct ext4_es_entry {
        RB_ENTRY(ext4_es_entry) node;
        struct ext4_map map;
};

RB_HEAD(ext4_es_tree, ext4_es_entry);

struct ext4_es {
        struct rwsem lock;        /* RANK_MAP_CACHE */
        struct ext4_es_tree tree; /* [lock] */
        uint32_t nr;              /* [lock] */
        ext4_lblk_t hand;         /* [lock] where forgetting goes on */
        _Atomic uint64_t seq;     /* changes of the map; written under map lock and lock */
};

void ext4_es_init(struct ext4_es *es);

/* Forget everything; `total` is the mount's count of entries. */
void ext4_es_clear(struct ext4_es *es, _Atomic uint64_t *total);

/* Forget `nr` entries at most, going on behind those that went the last time. */
void ext4_es_shrink(struct ext4_es *es, uint32_t nr, _Atomic uint64_t *total);

/* The entry that covers lblk.  Shared lock only. */
bool ext4_es_lookup(struct ext4_es *es, ext4_lblk_t lblk, struct ext4_map *ret_map);

/*
 * Remember a mapping that was read from the map under the inode lock (C37).  What it covers is
 * replaced.  When memory is short it is not remembered.
 */
void ext4_es_insert(struct ext4_es *es, const struct ext4_map *map, _Atomic uint64_t *total);

/*
 * The map is being changed, by who holds the map lock exclusive: nothing is known of [from, to)
 * any more; or it is `map` now.
 */
void ext4_es_forget(struct ext4_es *es, uint64_t from, uint64_t to, _Atomic uint64_t *total);
void ext4_es_set(struct ext4_es *es, const struct ext4_map *map, _Atomic uint64_t *total);

/*
 * How often the map was changed (C38).  A mapping that was looked up after this was read is
 * still right if it gives the same number again.
 */
static inline uint64_t ext4_es_seq(const struct ext4_es *es)
{
        return atomic_load_explicit(&es->seq, memory_order_acquire);
}

enum ext4_map_flags {
        EXT4_MAP_NOWAIT = 1u << 0, /* -EAGAIN rather than read metadata */
};

/*
 * The largest mapping that is known to cover lblk (B9): from the extent status cache, or from
 * the tree, which is then remembered.  It begins at lblk.  The caller holds the inode lock,
 * shared at least (C37).
 */
int ext4_map_lookup(struct ext4_inode *inode, ext4_lblk_t lblk, unsigned flags,
                    struct ext4_map *ret_map);

/* What the map itself says; the mapping covers lblk and may begin before it.  The caller holds
 * the map lock. */
int ext4_map_lookup_locked(struct ext4_inode *inode, ext4_lblk_t lblk, unsigned flags,
                           struct ext4_map *ret_map);

/* inode->extent_depth is what inode->block says: after every change of the latter's depth. */
void ext4_extent_note_depth(struct ext4_inode *inode);

/* What the two kinds of map answer; the mapping returned covers lblk and may begin before it.
 */
int ext4_extent_lookup(struct ext4_inode *inode, ext4_lblk_t lblk, unsigned flags,
                       struct ext4_map *ret_map);
int ext4_indirect_lookup(struct ext4_inode *inode, ext4_lblk_t lblk, unsigned flags,
                         struct ext4_map *ret_map);

/* Where a logical block is in an indirect map. */
struct ext4_indirect_path {
        unsigned root;   /* slot of i_block */
        unsigned levels; /* pointer blocks between it and the data: 0 .. 3 */
        uint64_t first;  /* logical block at which the tree of this root begins */
        uint64_t index;  /* of lblk inside that tree */
};

/* log2 of the pointers in a block. */
static inline unsigned ext4_ptr_bits(const struct ext4_fs *fs)
{
        return fs->block_bits - 2;
}

/* False beyond what three levels can reach (B23: a hole, not an error). */
bool ext4_indirect_path(const struct ext4_fs *fs, ext4_lblk_t lblk,
                        struct ext4_indirect_path *ret_path);

/* Read a block of pointers, checked.  flags: EXT4_MAP_*. */
must_check int ext4_indirect_read(struct ext4_inode *inode, ext4_fsblk_t blk, unsigned flags,
                                  struct buf **ret_buf);

/* Check an extent node of `size` bytes: the root in an inode, or a block (with its checksum
 * tail, in verifying which `at->blk` != 0 matters).  0, -EUCLEAN, -EBADMSG. */
int ext4_extent_node_check(const struct ext4_where *at, const void *node, size_t size,
                           int depth, uint32_t csum_seed);

/* Read the node at blk, which is `depth` levels above its leaves, checked.  flags: EXT4_MAP_*.
 */
must_check int ext4_extent_read_node(struct ext4_inode *inode, ext4_fsblk_t blk, int depth,
                                     unsigned flags, struct buf **ret_buf);

extern const struct iomap_ops ext4_read_ops;   /* for data */
extern const struct iomap_ops ext4_report_ops; /* for seek and fiemap (B19) */

/* ---- inodes ---- */

/* Clusters kept for a file that grows, not allocated yet: its window (prealloc.c). */
struct ext4_prealloc {
        bool on;                        /* perhaps has one [inode.map_lock] */
        ext4_group_t group;             /* while on [inode.map_lock] */
        LIST_ENTRY(ext4_prealloc) link; /* of the group's, iff nr > 0 [group lock] */
        ext4_lblk_t lblk;               /* of the first cluster [group lock] */
        uint32_t start;                 /* first cluster, in its group [group lock] */
        uint32_t nr;                    /* 0: it was taken away [group lock] */
};

/* The clusters of a file that space is promised for, and what their map may need (delayed.h).
 */
struct ext4_delayed_chunk;
RB_HEAD(ext4_delayed_tree, ext4_delayed_chunk);

struct ext4_delayed {
        struct mtx lock;               /* RANK_LEAF */
        struct ext4_delayed_tree tree; /* [lock] */
        uint64_t nr;                   /* clusters in it [lock] */
        uint64_t need;                 /* sum of what its chunks need of the map [lock] */
        uint64_t nr_loose;             /* extents to come in clusters that are there [lock] */
        _Atomic uint64_t nr_unwritten; /* clusters to be converted; changes under lock */
        bool is_reserving;             /* what is promised for the map stays [lock] */
        bool is_writing;          /* to unwritten blocks: likewise [lock and the inode's] */
        _Atomic uint64_t nr_map;  /* clusters promised for the map; changes under lock */
        _Atomic uint64_t nr_data; /* nr, to be read without the lock */
};

/* Attributes that are asked for again and again. */
enum ext4_lacks {
        EXT4_LACKS_ACL = 1u << 0,        /* for access */
        EXT4_LACKS_CAPABILITY = 1u << 1, /* "security.capability" */
};

struct ext4_inode {
        struct vfs_inode vfs;
        struct ext4_fs *fs; /* [const] */

        /* The table's. */
        LIST_ENTRY(ext4_inode) hash; /* [table shard] */
        TAILQ_ENTRY(ext4_inode) lru; /* [table shard] on the list iff refs == 0 */
        uint32_t refs;               /* [table shard] */
        bool hashed;                 /* to be found [table shard] */
        bool dying;        /* unlinked, being deleted: not to be had any more [table shard] */
        bool can_get_name; /* without links, but ext4_link() may give it one [vfs.lock] */

        struct mtx load; /* RANK_INODE_LOAD: being read from disk */
        bool loaded;     /* [load] */

        uint64_t disk_pos; /* of the inode on the device, in bytes [const once loaded] */

        /* The size that the journal may write: what is behind it may not be there yet, so that
         * it is never above vfs.size (C20).  [vfs.lock, and map_lock for completions] */
        _Atomic uint64_t disk_size;

        /* What lies behind the size in its block is zeros on the device, or in a dirty folio:
         * it has been looked at once, and everything since keeps to it (C23).  [vfs.lock] */
        bool tail_known;

        /* The last transaction that changed the inode; the last that changed what fdatasync
         * waits for (B5, B6).  Written under a handle, read by who syncs. */
        _Atomic uint32_t sync_tid, datasync_tid;

        struct ext4_orphan *orphan; /* [fs.orphans lock] NULL: it is none */

        /* When data was last written, in ns; 0: not since it was loaded.  A write changes
         * nothing else under a shared lock: see ext4_mtime(). */
        _Atomic int64_t written_at;
        _Atomic int64_t accessed_at; /* likewise, when it was last read: ext4_atime() */
        _Atomic bool times_due;      /* one of these is later than what a transaction has */
        _Atomic uint64_t version;    /* see ext4_count_version() (inode_store.h) */
        _Atomic uint32_t nr_writers; /* open files that may write */

        /* From disk.  [vfs.lock for changes] */
        uint32_t generation;
        _Atomic uint16_t mode;  /* its type never changes: that is known without the lock */
        _Atomic uint32_t flags; /* EXT4_FL_* */
        uint32_t nlink;
        uint32_t uid, gid, projid;
        uint32_t rdev_major, rdev_minor;
        uint64_t blocks; /* units of 512 bytes */
        struct timespec atime, mtime, ctime, btime;
        ext4_fsblk_t file_acl;
        uint32_t csum_seed;               /* of its blocks */
        uint8_t block[EXT4_I_BLOCK_SIZE]; /* i_block */
        atomic_uint extent_depth;         /* of the tree in it; changes under map_lock */

        /* EXT4_LACKS_*: attributes that it is known not to have, which spares looking.  Set
         * under the inode lock, taken away under the exclusive one. */
        _Atomic uint8_t lacks;
        bool is_dax; /* it had EXT4_FL_DAX when it was read [const once loaded] */

        /* The inode's own attribute space, a copy of what lies behind the fixed fields. */
        uint8_t *ibody;
        uint32_t ibody_size;

        /*
         * With EXT4_FL_INLINE_DATA: all of it in one piece, i_block and then the attribute.  Of
         * a file vfs.size bytes or fewer (the rest zeros).  Of a directory always all that
         * there is: the parent's number, entries up to byte EXT4_I_BLOCK_SIZE, and from there a
         * second run of entries; inline_err is what its verifier said.
         */
        uint8_t *inline_data;
        uint32_t inline_size;
        int inline_err;

        /* Of a directory: changes of its entries [vfs.lock]; what is kept for who goes on
         * reading it, taken and put back by exchange (dir_order.c). */
        uint64_t dir_seq;
        _Atomic(struct ext4_dir_batch *) batches[2];

        struct rwsem map_lock; /* RANK_MAP */
        struct ext4_prealloc prealloc;
        struct ext4_delayed delayed;
        struct ext4_es es;
};

static inline struct ext4_inode *ext4_inode_of(struct vfs_inode *inode)
{
        return container_of(inode, struct ext4_inode, vfs);
}

static inline struct timespec ext4_time_of_ns(int64_t ns)
{
        return (struct timespec){.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
}

/*
 * Times of the file: those in the struct, unless it was written or read since.  Whoever sets
 * one of these two in the struct, with the inode lock held exclusive, makes the other number 0.
 */
static inline struct timespec ext4_mtime(const struct ext4_inode *inode)
{
        int64_t ns = atomic_load_explicit(&inode->written_at, memory_order_relaxed);

        return ns ? ext4_time_of_ns(ns) : inode->mtime;
}

static inline struct timespec ext4_atime(const struct ext4_inode *inode)
{
        int64_t ns = atomic_load_explicit(&inode->accessed_at, memory_order_relaxed);

        return ns ? ext4_time_of_ns(ns) : inode->atime;
}

static inline bool ext4_is_later(struct timespec a, struct timespec b)
{
        return a.tv_sec > b.tv_sec || (a.tv_sec == b.tv_sec && a.tv_nsec > b.tv_nsec);
}

/* It changes whenever mtime does, and at other times; nobody sets it. */
static inline struct timespec ext4_ctime(const struct ext4_inode *inode)
{
        int64_t ns = atomic_load_explicit(&inode->written_at, memory_order_relaxed);
        struct timespec written = ext4_time_of_ns(ns);

        return ns && ext4_is_later(written, inode->ctime) ? written : inode->ctime;
}

static inline uint32_t ext4_ino(const struct ext4_inode *inode)
{
        return (uint32_t)inode->vfs.ino;
}

/* For reports about this inode, at block blk or 0. */
static inline struct ext4_where ext4_at(const struct ext4_inode *inode, ext4_fsblk_t blk)
{
        return (struct ext4_where){inode->fs, inode->vfs.ino, blk};
}

/* Blocks of one inode incarnation, for buf_check.owner. */
static inline uint64_t ext4_owner(const struct ext4_inode *inode)
{
        return (uint64_t)inode->generation << 32 | inode->vfs.ino;
}

/*
 * Fill in a fresh inode (fs and vfs.ino are set) from its place in the inode table.  -ESTALE
 * when it is free or out of range.
 */
int ext4_inode_load(struct ext4_inode *inode);

/* The same for one that may have no links any more. */
int ext4_inode_load_orphan(struct ext4_inode *inode);

/* Free what load allocated. */
void ext4_inode_unload(struct ext4_inode *inode);

/* Check the raw bytes of an inode (fs->inode_size of them): every field that later code relies
 * on.  0, -EUCLEAN, -EBADMSG; -ESTALE when it is free. */
int ext4_inode_check(struct ext4_fs *fs, uint32_t ino, const void *raw);

int ext4_inode_table_new(struct ext4_fs *fs, struct ext4_inode_table **ret_table);
void ext4_inode_table_free(struct ext4_inode_table *table);
/* No inode is referenced. */
bool ext4_inode_table_idle(struct ext4_inode_table *table);

/* Get inode `ino` with a reference.  -ESTALE as above. */
must_check int ext4_iget(struct ext4_fs *fs, uint64_t ino, struct ext4_inode **ret_inode);

/* The same for the orphan pass: it may have no links. */
must_check int ext4_iget_orphan(struct ext4_fs *fs, uint64_t ino,
                                struct ext4_inode **ret_inode);

/*
 * The object for an inode that has just been allocated, with a reference and its load lock
 * held, so that nobody sees it before its fields are there; ext4_iget_new_done() ends that.
 * -EUCLEAN: it is in use in memory.
 */
must_check int ext4_iget_new(struct ext4_fs *fs, uint32_t ino, struct ext4_inode **ret_inode);
void ext4_iget_new_done(struct ext4_inode *inode, bool loaded);

/* The number is about to be free for another inode: nobody finds this object any more. */
void ext4_inode_unhash(struct ext4_inode *inode);

/* A transaction that is durable: what inodes that are read from disk need not wait for. */
void ext4_inode_table_set_tid(struct ext4_inode_table *table, uint32_t tid);

/* Held while the bytes of one raw inode and its checksum are changed (RANK_LEAF): orphans
 * change their neighbours' on the list. */
struct mtx *ext4_inode_raw_lock(struct ext4_inode_table *table, uint64_t ino);

/* For `ino` found in directory `dir`: a free inode there is corruption. */
must_check int ext4_iget_linked(struct ext4_inode *dir, uint64_t ino,
                                struct ext4_inode **ret_inode);
void ext4_iget_again(struct ext4_inode *inode); /* one more reference */

/*
 * NULL is fine.  The last reference to an inode without links deletes it: then no handle is
 * open and no lock is held.
 */
void ext4_iput(struct ext4_inode *inode);

/* Shrink the extent status caches of unused inodes when the mount holds too many entries. */
void ext4_inode_table_trim(struct ext4_inode_table *table);

/* The block `lblk` of a directory or similar, checked; NULL in *ret_buf for a hole. */
must_check int ext4_read_block(struct ext4_inode *inode, ext4_lblk_t lblk,
                               const struct buf_check *check, struct buf **ret_buf);

/*
 * Read [pos, pos + len) of an inode's data through its map, for ea_inode values and the like.
 * The caller knows that the map does not change: it holds the inode lock, or nobody else can
 * reach it.
 */
must_check int ext4_read_data(struct ext4_inode *inode, uint64_t pos, void *data, size_t len);

/* ---- files (file.c) ---- */

enum ext4_fallback {
        EXT4_DIRECT_OK,
        EXT4_FALLBACK_INLINE,
        EXT4_FALLBACK_DATA_JOURNAL,
        EXT4_FALLBACK_VERITY,
};

/* Whether direct requests of this file are served buffered, and why (B26). */
enum ext4_fallback ext4_direct_fallback(const struct ext4_inode *inode);
void ext4_count_fallback(const struct ext4_inode *inode, enum ext4_fallback why);

/* The inode lock, for a read or a write.  -EAGAIN under `nowait`, if it takes waiting. */
must_check int ext4_io_lock(struct vfs_inode *inode, bool is_exclusive, bool nowait);
void ext4_io_unlock(struct vfs_inode *inode, bool is_exclusive);

/* A result on its way to the caller, who is told to come again: that is counted. */
int64_t ext4_count_again(struct vfs_inode *inode, int64_t ret);

/* The length, in bytes, of direct writes that are never torn: a block, or 0 (C52). */
uint32_t ext4_atomic_unit(const struct ext4_inode *inode);

/* One read.  As iomap_dio_read; also takes the inode lock and counts. */
int64_t ext4_file_read_direct(struct iomap_dio *dio, struct vfs_kiocb *iocb,
                              struct iov_iter *iter);
int64_t ext4_file_read_buffered(struct vfs_kiocb *iocb, struct iov_iter *iter);

/* The folio that has the bytes from iocb->pos on, with a reference, and how many of `len` it
 * has; 0 at and behind the end of the file.  Takes the inode lock.  -EOPNOTSUPP: the file has
 * no pages. */
int64_t ext4_file_lend(struct vfs_kiocb *iocb, uint64_t len, struct folio **ret_folio);
int64_t ext4_file_seek(struct ext4_inode *inode, uint64_t pos, int whence);
struct fiemap_extent;
int ext4_file_fiemap(struct ext4_inode *inode, uint64_t pos, uint64_t len,
                     struct fiemap_extent *extents, unsigned max);

/* ---- directories (dir.c, htree.c, hash.c) ---- */

struct ext4_dirent {
        uint32_t ino;
        uint8_t file_type; /* EXT4_FT_*; EXT4_FT_UNKNOWN where the directory does not say */
        uint8_t name_len;
        char name[EXT4_NAME_LEN + 1]; /* NUL-terminated */
};

/*
 * Find a name: its inode number, or -ENOENT.  -ENOTDIR, -ENAMETOOLONG, -ENOKEY (encrypted).
 * Takes the inode lock shared.
 */
int ext4_dir_lookup(struct ext4_inode *dir, const char *name, size_t len, uint32_t *ret_ino);

/* The same, with the inode: it cannot be deleted in between. */
must_check int ext4_dir_get(struct ext4_inode *dir, const char *name, size_t len,
                            struct ext4_inode **ret_inode);

/*
 * The next entry at *cookie, which moves on: 1, 0 at the end, -errno.  Takes the
 * inode lock shared.  On a damaged block the error comes and *cookie is behind the block.
 * dir_read.h says what a cookie is.
 */
int ext4_dir_read(struct ext4_inode *dir, uint64_t *cookie, struct ext4_dirent *ret_entry);

/* ---- extended attributes (xattr.c) ---- */

/* By full name, as getxattr(2). */
ssize_t ext4_xattr_get(struct ext4_inode *inode, const char *name, void *buf, size_t size);
ssize_t ext4_xattr_list(struct ext4_inode *inode, char *buf, size_t size);

/* Called from ext4_inode_load: check the in-inode attribute space.  0, -EUCLEAN. */
int ext4_xattr_ibody_check(const struct ext4_where *at, const void *ibody, size_t size);

/* ---- inline data (inline.c) ---- */

/* Gather inline_data from i_block and the system.data attribute. */
int ext4_inline_load(struct ext4_inode *inode);

/* ---- symlinks (symlink.c) ---- */

/* The target of this symlink lies in i_block, where others have their map. */
bool ext4_symlink_is_fast(const struct ext4_inode *inode);

/* The target's length; at most `size` bytes are copied. */
ssize_t ext4_readlink(struct ext4_inode *inode, char *buf, size_t size);

#endif
