/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef UEXT4_H
#define UEXT4_H

/*
 * uext4.h - ext4 in user space.
 *
 * Conventions.  Every function that can fail returns a negative errno; 0 or a
 * positive count is success.  Results through `ret_` parameters are written
 * only on success.  Positions and lengths are bytes.  Functions may block on
 * device I/O unless their comment says otherwise.
 *
 * Threads.  Any thread may use any handle at any time, two threads the same
 * handle too; only a queue belongs to one thread at a time, and giving a
 * handle back (uext4_inode_put, uext4_close, uext4_unmount) must be the last use
 * of that handle.
 *
 * Errors of the file system.  A structure on disk that breaks its rules is
 * -EUCLEAN, one whose checksum does not match is -EBADMSG; both are said once
 * to the mount's log, with inode and block.  -EIO comes from the device.
 */

#include <linux/fiemap.h>
#include <stdint.h>
#include <sys/statvfs.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>

#include "uext4_bdev.h"

#ifdef __cplusplus
extern "C" {
#endif

struct uext4_fs;    /* a mounted file system */
struct uext4_inode; /* a referenced inode */
struct uext4_file;  /* an open file */
struct uext4_queue; /* many requests under way at once */

/* "MAJOR.MINOR.PATCH" of the library that is running. */
UEXT4_API const char *uext4_version(void);

/* ---- mount ----------------------------------------------------------- */

/*
 * Mount options are a comma-separated list in the spelling of ext4(5) and
 * mount(8), NULL for none.  An unknown option is -EINVAL, said to the log.
 *
 *   ro                 never write to the device
 *   noload, norecovery do not replay the journal: read the image as it is
 *                      (needs ro)
 *   sb=N               the superblock is in block N, counted in units of 1 KiB
 *   offset=BYTES       the file system starts there on the device (mount(8)); K, M, G, T
 *   nocsum             check structures, not checksums: a rescue from a damaged
 *                      image (needs ro)
 *   journal_path=URI   the external journal of this file system
 *   meta_cache=BYTES   bound of the metadata cache's memory (default 8M); K, M, G
 *
 * This version does not write: a mount without `ro` becomes a read-only one, and the
 * log says so.  A journal that must be replayed is replayed in memory, into a private
 * overlay; uext4_recover() does it in the image.
 */
struct uext4_mount_params {
        const char *options;
        uext4_log_fn *log; /* NULL: warnings and errors go to stderr */
        void *log_arg;
};

/*
 * Mount the device that `uri` names (see uext4_bdev_open).  `params` may be NULL.
 * -EINVAL no ext4 there, or one with impossible geometry; -EOPNOTSUPP an unknown
 * incompatible feature, named to the log; -EUCLEAN/-EBADMSG damaged; -EBUSY
 * somebody has the device open for writing; what uext4_recover says of
 * the journal (`noload` reads the image without it).
 */
UEXT4_API int uext4_mount(const char *uri, const struct uext4_mount_params *params,
                          struct uext4_fs **ret_fs);

/*
 * As uext4_mount, on a device that the caller keeps open until after unmount.  The option
 * `offset` is -EINVAL here: cut the device with uext4_bdev_open_slice().
 */
UEXT4_API int uext4_mount_bdev(struct uext4_bdev *dev, const struct uext4_mount_params *params,
                               struct uext4_fs **ret_fs);

/*
 * Unmount and free.  -EBUSY, and nothing is changed, while an inode, file or
 * queue of this mount has not been given back.
 */
UEXT4_API int uext4_unmount(struct uext4_fs *fs);

/*
 * As statvfs(3): f_bavail leaves out the blocks reserved for root.  Free blocks and inodes are
 * counted from the group descriptors, all of which are read.
 */
UEXT4_API int uext4_statfs(struct uext4_fs *fs, struct statvfs *ret_st);

/* What the superblock says, for people. */
struct uext4_info {
        uint32_t block_size;   /* bytes */
        uint32_t cluster_size; /* bytes; block_size without bigalloc */
        uint32_t inode_size;   /* bytes on disk */
        uint32_t nr_groups;
        uint32_t inodes_per_group;
        uint32_t blocks_per_group;
        uint64_t nr_blocks;
        uint64_t nr_blocks_free;
        uint64_t nr_blocks_reserved;
        uint64_t nr_inodes;
        uint64_t nr_inodes_free;
        uint32_t first_inode; /* the first one that is not reserved */
        uint32_t revision;
        uint16_t state; /* s_state: 1 clean, 2 errors, 4 orphans */
        uint16_t mount_count;
        int needs_recovery; /* the journal is not empty */
        int64_t mkfs_time;  /* seconds since the epoch, as the next two; 0 unknown */
        int64_t mount_time;
        int64_t write_time;
        uint8_t uuid[16];
        char label[17]; /* NUL-terminated, bytes as on disk */
        char last_mounted[65];
        char features[768];        /* names as in tune2fs(8), separated by blanks */
        char readonly_reason[256]; /* why this mount does not write */
};

UEXT4_API int uext4_get_info(struct uext4_fs *fs, struct uext4_info *ret_info);

/* Counters since mount. */
struct uext4_stats {
        uint64_t direct_reads; /* requests */
        uint64_t direct_read_bytes;
        uint64_t device_reads;    /* device requests that they became */
        uint64_t buffered_reads;  /* files opened without O_DIRECT */
        uint64_t fallback_inline; /* direct requests served buffered (B26), by reason */
        uint64_t fallback_data_journal;
        uint64_t fallback_verity;
        uint64_t nowait_again; /* NOWAIT requests that would have slept */
        uint64_t extent_cache_hits;
        uint64_t extent_cache_misses;
        uint64_t meta_reads;        /* metadata blocks read from the device */
        uint64_t meta_cached_bytes; /* now */
};

UEXT4_API void uext4_get_stats(struct uext4_fs *fs, struct uext4_stats *ret_stats);

/* ---- inodes ---------------------------------------------------------- */

#define UEXT4_ROOT_INO 2

/*
 * Get inode `ino`; with a generation other than 0 only if it is that
 * incarnation.  -ESTALE when it is free, another incarnation, or no inode at all.
 */
UEXT4_API int uext4_inode_get(struct uext4_fs *fs, uint64_t ino, uint32_t generation,
                              struct uext4_inode **ret_inode);

/* Give a reference back.  NULL is fine.  Does not block. */
UEXT4_API void uext4_inode_put(struct uext4_inode *inode);

/* Look up one name of `len` bytes in a directory.  -ENOENT, -ENOTDIR, -ENAMETOOLONG;
 * -ENOKEY when the directory is encrypted. */
UEXT4_API int uext4_lookup(struct uext4_inode *dir, const char *name, size_t len,
                           struct uext4_inode **ret_inode);

enum {
        UEXT4_NOFOLLOW = 1u << 0, /* a symlink at the end of the path is the result itself */
};

/*
 * Walk a path from the root.  Symlinks are followed inside the file system,
 * absolute ones from its root; more than 40 are -ELOOP.  A trailing slash
 * asks for a directory.
 */
UEXT4_API int uext4_resolve(struct uext4_fs *fs, const char *path, uint32_t flags,
                            struct uext4_inode **ret_inode);

struct uext4_stat {
        uint64_t ino;
        uint32_t generation;
        uint32_t mode; /* as st_mode */
        uint32_t nlink;
        uint32_t uid, gid, projid;
        uint32_t rdev_major, rdev_minor;
        uint32_t flags; /* FS_*_FL of linux/fs.h */
        uint32_t blksize;
        uint64_t size;                              /* bytes */
        uint64_t blocks;                            /* units of 512 bytes */
        struct timespec atime, mtime, ctime, btime; /* btime 0 where unknown */

        /*
         * As statx(2) STATX_DIOALIGN: alignment, in bytes, of buffers and of
         * positions and lengths for direct I/O; both 0 when direct requests
         * of this file are served buffered (C51).
         */
        uint32_t dio_mem_align;
        uint32_t dio_offset_align;
};

/* Does no I/O. */
UEXT4_API int uext4_stat(struct uext4_inode *inode, struct uext4_stat *ret_st);

/*
 * The target of a symlink, at most `size` bytes, no NUL behind it; returns its whole length.
 * -EINVAL when it is no symlink, -ENOKEY when it is encrypted.
 */
UEXT4_API ssize_t uext4_readlink(struct uext4_inode *inode, char *buf, size_t size);

/*
 * As getxattr(2) and listxattr(2), with full names ("user.x", "security.y",
 * "system.posix_acl_access" in the form that getxattr(2) gives).  With size 0 they return
 * the size needed; -ERANGE when the buffer is too small, -ENODATA, -EOPNOTSUPP for a
 * namespace that ext4 does not have.
 */
UEXT4_API ssize_t uext4_getxattr(struct uext4_inode *inode, const char *name, void *buf,
                                 size_t size);
UEXT4_API ssize_t uext4_listxattr(struct uext4_inode *inode, char *buf, size_t size);

struct uext4_dirent {
        uint64_t ino;
        uint64_t cookie; /* hand it to uext4_readdir to go on behind this entry */
        uint8_t type;    /* DT_* of dirent.h; DT_UNKNOWN where the directory does not say */
        uint16_t name_len;
        char name[256]; /* NUL-terminated */
};

/*
 * One entry of a directory, "." and ".." included.  Start with *cookie 0; it is
 * moved on.  Returns 1, 0 at the end, or -errno.  On a damaged block the error comes
 * once and *cookie moves behind the block, so that a caller may go on.
 */
UEXT4_API int uext4_readdir(struct uext4_inode *dir, uint64_t *cookie,
                            struct uext4_dirent *ret_entry);

/* ---- files ----------------------------------------------------------- */

/*
 * Open a regular file.  `flags`: O_RDONLY, with O_DIRECT for direct I/O; O_CLOEXEC,
 * O_NOATIME, O_LARGEFILE, O_NONBLOCK are accepted.  -EROFS for a write access mode, -EISDIR,
 * -EINVAL for other file types, -ENOKEY for an encrypted file.  The file
 * holds its own reference to the inode.
 */
UEXT4_API int uext4_open(struct uext4_inode *inode, int flags, struct uext4_file **ret_file);
UEXT4_API int uext4_open_path(struct uext4_fs *fs, const char *path, int flags,
                              struct uext4_file **ret_file);

/* Waits for the requests of this file that are under way (their results stay on
 * their queues), then frees it.  NULL is fine. */
UEXT4_API void uext4_close(struct uext4_file *file);

/* The inode of an open file; no reference is taken. */
UEXT4_API struct uext4_inode *uext4_file_inode(struct uext4_file *file);

/*
 * As preadv2(2) at a position.  `flags`: RWF_NOWAIT (never sleeps for a lock or metadata:
 * -EAGAIN before anything was done; the data itself may be waited for), RWF_HIPRI (accepted, a
 * hint).  Other flags are -EOPNOTSUPP.
 *
 * With O_DIRECT, position, total length and each buffer must be aligned as
 * uext4_stat says, else -EINVAL (B27): never a silent fallback.  Returns the bytes read,
 * which end at the size that the file had at the start (B29), 0 at and past it.
 */
UEXT4_API ssize_t uext4_preadv2(struct uext4_file *file, const struct iovec *iov, int nr_iov,
                                uint64_t pos, int flags);
UEXT4_API ssize_t uext4_pread(struct uext4_file *file, void *buf, size_t len, uint64_t pos);

/* lseek(2) with SEEK_DATA or SEEK_HOLE: the new position, or -ENXIO at or past the end. */
UEXT4_API int64_t uext4_seek(struct uext4_file *file, uint64_t pos, int whence);

/*
 * The extents that touch [pos, pos + len), as FS_IOC_FIEMAP gives them: at most `max` of them,
 * FIEMAP_EXTENT_LAST on the file's last.  With max 0 they are counted.  Returns how many.
 * -EFBIG when pos is beyond what the file can have.
 */
UEXT4_API int uext4_fiemap(struct uext4_file *file, uint64_t pos, uint64_t len,
                           struct fiemap_extent *extents, unsigned max);

/* ---- queues ---------------------------------------------------------- */

enum uext4_req_op {
        UEXT4_READ,
};

struct uext4_request {
        enum uext4_req_op op;
        int flags; /* RWF_*, as for uext4_preadv2 */
        struct uext4_file *file;
        const struct iovec *iov; /* vector and buffers stay until the completion is fetched */
        int nr_iov;
        uint64_t pos;
        void *user_data; /* comes back with the completion */
};

struct uext4_completion {
        void *user_data;
        int64_t result; /* bytes, or -errno */
};

/* A queue for `depth` requests (1 .. 65536) under way or finished and not yet fetched. */
UEXT4_API int uext4_queue_new(struct uext4_fs *fs, unsigned depth,
                              struct uext4_queue **ret_queue);

/* Cancels and waits for what is under way, drops unfetched completions, frees.  NULL is fine.
 */
UEXT4_API void uext4_queue_free(struct uext4_queue *queue);

/*
 * Submit up to `nr` requests; returns how many were taken, fewer when the depth is reached
 * (-EAGAIN when none could be).  An error of a request itself comes as its
 * completion.  When this returns all taken requests are started.
 */
UEXT4_API int uext4_queue_submit(struct uext4_queue *queue, const struct uext4_request *reqs,
                                 unsigned nr);

/*
 * Fetch up to `max` completions.  Waits until there are `min` of them, or nothing
 * is under way any more, or timeout_ns nanoseconds have passed (negative: for ever, 0: do not
 * wait). Returns how many.
 */
UEXT4_API int uext4_queue_wait(struct uext4_queue *queue, struct uext4_completion *completions,
                               unsigned min, unsigned max, int64_t timeout_ns);

/*
 * A descriptor (eventfd) to poll for reading; when it is readable, read it and
 * call uext4_queue_wait with min 0.  Owned by the queue.  -errno on failure.
 */
UEXT4_API int uext4_queue_eventfd(struct uext4_queue *queue);

/* ---- the journal ---- */

struct uext4_recovery {
        int was_needed;           /* 0: the journal was empty, nothing was changed */
        uint32_t first_tid;       /* of the log */
        uint32_t nr_transactions; /* replayed */
        uint64_t nr_blocks;       /* copied to their places */
        uint64_t nr_revokes;      /* revoke records read */
        uint64_t nr_skipped;      /* copies that a revoke record made void */
};

/*
 * Replay the journal of the image in its place and mark the image clean of it, durably.  Opens
 * the device for writing.  Can be cut at any moment and begun anew (J35).  Mount options that
 * matter: sb, offset, journal_path.  -EBADMSG, -EUCLEAN the journal is damaged; -EOPNOTSUPP it
 * needs something that this library does not have (fast commits): both are said to the log, and
 * nothing was changed, except that copies with a wrong checksum are found while others are
 * written (J29).
 */
UEXT4_API int uext4_recover(const char *uri, const struct uext4_mount_params *params,
                            struct uext4_recovery *ret_recovery);

struct uext4_journal; /* a look at the log; one thread at a time */

struct uext4_journal_info {
        uint32_t block_size;  /* bytes */
        uint32_t nr_blocks;   /* of the journal, its superblock included */
        uint32_t first, last; /* the log is the blocks first .. last - 1 */
        uint32_t nr_fast_commit_blocks;
        uint32_t start;           /* block where the log begins; 0: it is empty */
        uint32_t sequence;        /* first tid expected there */
        uint32_t error;           /* errno that an aborted journal left; 0 none */
        uint32_t nr_transactions; /* complete ones in the log */
        uint8_t uuid[16];
        char features[160]; /* names as in dumpe2fs(8), separated by blanks */
        char end[80];       /* why the log ends where it ends */
};

enum uext4_journal_kind {
        UEXT4_JOURNAL_BLOCK,  /* a copy of a block */
        UEXT4_JOURNAL_REVOKE, /* copies of a block up to this tid are void */
        UEXT4_JOURNAL_COMMIT, /* the end of a transaction */
};

struct uext4_journal_entry {
        enum uext4_journal_kind kind;
        uint32_t tid;
        uint32_t log_block; /* where in the journal: the copy, or the block with the record */
        uint64_t fs_block;  /* BLOCK, REVOKE: of the file system */
        int escaped;        /* BLOCK: it began like a block of the journal (J9) */
        int csum_ok;        /* 0: its checksum does not match */
        int complete;       /* 0: its transaction has no valid commit, recovery ignores it */
        int64_t sec;        /* COMMIT: when */
        uint32_t nsec;
};

/*
 * Open the journal of an image for looking; nothing is changed.  Mount options as for
 * uext4_recover.  -ENODATA when the file system has none.
 */
UEXT4_API int uext4_journal_open(const char *uri, const struct uext4_mount_params *params,
                                 struct uext4_journal **ret_journal);
UEXT4_API void uext4_journal_get_info(const struct uext4_journal *journal,
                                      struct uext4_journal_info *ret_info);

/* The next entry in the order of the log: 1, 0 at the end, -errno. */
UEXT4_API int uext4_journal_next(struct uext4_journal *journal,
                                 struct uext4_journal_entry *ret_entry);
UEXT4_API void uext4_journal_close(struct uext4_journal *journal); /* NULL is fine */

#ifdef __cplusplus
}
#endif
#endif
