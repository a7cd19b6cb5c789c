/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef UEXT4_FUSE_INTERNAL_H
#define UEXT4_FUSE_INTERNAL_H

/*
 * internal.h - what the files of the FUSE server share.
 *
 * A request is read by one of the workers (loop.c), each of which has a channel and buffers of
 * its own, and served there from beginning to end (request.c, and a function for each kind in
 * the other files).  The kernel knows an inode by its node id, which is the inode's number, and
 * says how often it has been told of it (node.c); and an open file by the address of its handle
 * (handle.c).
 *
 * The kernel is trusted: it keeps what it counts, and hands back what it was given.  What it
 * passes on from programs (names, positions, flags) is not.
 */

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/uio.h>
#include <time.h>

#include "fuse/proto.h"
#include "fuse/server.h"
#include "uext4.h"

enum {
        SRV_MAX_IO = 1 << 20,      /* bytes of one read or write */
        SRV_ALIGN = 4096,          /* of the payload of a write in its buffer */
        SRV_NR_SHARDS = 64,        /* of the table of nodes */
        SRV_MAX_GROUPS = 128,      /* supplementary ones that are looked at */
        SRV_VALID_SECONDS = 86400, /* how long the kernel may keep what it was told */
};

/* ---- nodes (node.c) ---- */

struct srv_node {
        LIST_ENTRY(srv_node) link; /* [shard] */
        uint64_t nodeid;
        uint64_t nr_lookups;       /* that the kernel has not forgotten [shard] */
        unsigned nr_handles;       /* [shard] */
        struct uext4_inode *inode; /* a reference */
        struct uext4_file *writer; /* for what belongs to no handle; or NULL [shard] */
        _Atomic bool cached;       /* the kernel may have pages of it: see data.c */
        _Atomic bool was_cut;      /* it has been made shorter: likewise */
};

LIST_HEAD(srv_node_list, srv_node);

struct srv_shard {
        pthread_mutex_t lock;
        struct srv_node_list *buckets;
        size_t nr_buckets; /* a power of two */
        size_t nr_nodes;
};

struct srv_request;

int srv_nodes_init(struct fuse_server *server);
void srv_nodes_done(struct fuse_server *server);

/* The node of a request; NULL: there is none, which is -ESTALE. */
struct srv_node *srv_node_find(struct fuse_server *server, uint64_t nodeid);

/* Count one look-up of `inode`, whose reference is taken over, also on failure. */
int srv_node_enter(struct fuse_server *server, struct uext4_inode *inode, uint64_t ino,
                   struct srv_node **ret_node);
void srv_node_forget(struct fuse_server *server, uint64_t nodeid, uint64_t nr_lookups);

/* A handle begins and ends. */
void srv_node_hold(struct fuse_server *server, struct srv_node *node);
void srv_node_release(struct fuse_server *server, struct srv_node *node);

/* A file of the node that is open to read and write, for the server's own ends. */
int srv_node_writer(struct fuse_server *server, struct srv_node *node,
                    struct uext4_file **ret_file);

/* ---- open files (handle.c) ---- */

struct srv_handle {
        TAILQ_ENTRY(srv_handle) link; /* [server->handles_lock] */
        struct srv_node *node;
        int flags;                          /* access mode, O_NOATIME; O_APPEND: append-only */
        struct uext4_file *primary;         /* NULL: a directory */
        _Atomic(struct uext4_file *) other; /* the same with O_DIRECT the other way round */
        bool is_direct;                     /* primary is with O_DIRECT */
};

TAILQ_HEAD(srv_handle_list, srv_handle);

int srv_handle_new(struct fuse_server *server, struct srv_node *node, int flags,
                   struct srv_handle **ret_handle);
void srv_handle_free(struct fuse_server *server, struct srv_handle *handle);
void srv_handles_done(struct fuse_server *server);

static inline struct srv_handle *srv_handle_of(uint64_t fh)
{
        return (struct srv_handle *)(uintptr_t)fh; /* the kernel hands back what it was given */
}

/* The handle's file with O_DIRECT, or without. */
int srv_handle_file(struct srv_handle *handle, bool direct, struct uext4_file **ret_file);

/* ---- requests (request.c) ---- */

struct srv_counter {
        _Atomic uint64_t requests, errors, bytes; /* written by one worker, relaxed */
};

/* Who of the workers takes requests: see crew.c. */
struct srv_crew {
        unsigned min, max, nr_cpus; /* [const] */
        _Atomic unsigned size;      /* workers with a lower index do [written under lock] */
        _Atomic unsigned idle;      /* of these, wait for a request */
        _Atomic bool is_watched;
        bool stops; /* [lock] */
        bool has_watcher;
        pthread_t watcher;
        pthread_mutex_t lock;
        pthread_cond_t may_work, look;
};

struct srv_worker {
        struct fuse_server *server;
        unsigned index;
        int blocking, polled; /* its channels: reading one sleeps, the other not */
        int fd;               /* the one that its request came from */
        pthread_t thread;
        bool running;
        char *memory; /* both buffers */
        char *in;     /* a request; the payload of a write begins at a multiple of SRV_ALIGN */
        char *out;    /* SRV_MAX_IO bytes for an answer, aligned */
        struct srv_counter counters[PROTO_MAX_OPCODE];
};

struct srv_request {
        struct srv_worker *worker;
        struct fuse_server *server;
        const struct fuse_in_header *in;
        const char *arg; /* what follows the header */
        size_t arg_len;
        struct uext4_cred cred;
        uint32_t groups[SRV_MAX_GROUPS];
        size_t bytes;  /* of contents that were moved */
        bool answered; /* or needs no answer */
};

static inline int64_t srv_clock_ns(clockid_t clock)
{
        struct timespec t;

        clock_gettime(clock, &t);
        return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* ---- the crew ---- */

void srv_crew_init(struct srv_crew *crew, unsigned nr_workers, unsigned nr_cpus);
int srv_crew_start(struct srv_crew *crew);
void srv_crew_stop(struct srv_crew *crew); /* nobody enters any more */

/* A worker is going to wait for a request, perhaps after being parked.  False: it is over. */
bool srv_crew_enter(struct srv_crew *crew, unsigned index);
void srv_crew_take(struct srv_crew *crew); /* it has one, or waits no more */

/* A request has been read: serve it. */
void srv_serve(struct srv_worker *worker, size_t len);

/* Answer with success.  The first element of `iov` is left for the header.  -errno when the
 * kernel did not take it. */
int srv_reply(struct srv_request *rq, const void *data, size_t len);
int srv_reply_iov(struct srv_request *rq, struct iovec *iov, int nr_iov);
const char *srv_op_name(unsigned opcode);

/* The name, or other string, at `pos` of the arguments; NULL: there is none. */
const char *srv_string(const struct srv_request *rq, size_t pos, size_t *ret_len);

/* What the request is about: its node, and a name in it, at `pos` of the arguments: 0, -ESTALE
 * without the node, -EINVAL without the name. */
struct srv_named {
        struct srv_node *node;
        const char *name;
        size_t len;
};

int srv_named(const struct srv_request *rq, size_t pos, struct srv_named *ret_at);

/* Use the identity of the request for what follows in this thread. */
void srv_cred_use(struct srv_request *rq, uint32_t umask);
/* The same one, which is to be asked for what it may by the library. */
void srv_cred_use_asked(struct srv_request *rq, uint64_t caps);
bool srv_is_in_group(struct srv_request *rq, uint32_t gid);
bool srv_is_admin(const struct srv_request *rq);

/* ---- space (space.c) ---- */

/* A name has been removed; what has none any more is being freed, and has been. */
void srv_space_removed(struct fuse_server *server);
void srv_space_freeing(struct fuse_server *server);
void srv_space_freed(struct fuse_server *server);

/* A request that began at the mark has found no space: whether it is to be made again. */
uint64_t srv_space_mark(struct fuse_server *server);
bool srv_space_came(struct fuse_server *server, uint64_t mark);

/* ---- invalidation (notify.c) ---- */

int srv_notify_start(struct fuse_server *server);
void srv_notify_stop(struct fuse_server *server); /* while workers serve what it waits for */
void srv_notify_done(struct fuse_server *server); /* when they have ended */

/*
 * Drop what the kernel has cached of a node: its attributes, and with len > 0 the pages from
 * pos on; then answer the request with `data`.  Never in the worker, who must be there for what
 * the kernel wants while it drops pages.
 */
int srv_reply_after_drop(struct srv_request *rq, uint64_t nodeid, uint64_t pos, uint64_t len,
                         const void *data, size_t size);

/* The same of all pages, which writes those that are dirty; then the answer is uext4_seek(), or
 * uext4_pread(). */
int srv_seek_after_drop(struct srv_request *rq, uint64_t nodeid, struct uext4_file *file,
                        uint64_t pos, int whence);
int srv_read_after_drop(struct srv_request *rq, uint64_t nodeid, struct uext4_file *file,
                        uint64_t pos, size_t size);

/* ---- kinds of requests ---- */

/* 0: done, and answered if `rq->answered`, else to be answered without data; or -errno. */
typedef int srv_op_fn(struct srv_request *rq);

srv_op_fn srv_op_init;                                                     /* init.c */
srv_op_fn srv_op_lookup, srv_op_forget, srv_op_batch_forget, srv_op_mknod; /* names.c */
srv_op_fn srv_op_mkdir, srv_op_symlink, srv_op_link, srv_op_unlink, srv_op_rmdir;
srv_op_fn srv_op_rename, srv_op_rename2;
srv_op_fn srv_op_getattr, srv_op_setattr, srv_op_statx, srv_op_readlink; /* attr.c */
srv_op_fn srv_op_access, srv_op_statfs;
srv_op_fn srv_op_open, srv_op_create, srv_op_tmpfile, srv_op_release;               /* open.c */
srv_op_fn srv_op_opendir, srv_op_readdir, srv_op_readdirplus, srv_op_fsyncdir;      /* dir.c */
srv_op_fn srv_op_read, srv_op_write;                                                /* data.c */
srv_op_fn srv_op_fsync, srv_op_syncfs, srv_op_fallocate, srv_op_lseek, srv_op_copy; /* file.c */
srv_op_fn srv_op_setxattr, srv_op_getxattr, srv_op_listxattr, srv_op_removexattr; /* xattr.c */
srv_op_fn srv_op_ioctl;                                                           /* ioctl.c */

/* As a look-up answers: counts `inode`, whose reference is taken over. */
int srv_enter(struct srv_request *rq, struct uext4_inode *inode,
              struct fuse_entry_out *ret_entry);
int srv_reply_entry(struct srv_request *rq, struct uext4_inode *inode);
void srv_attr_of(const struct uext4_stat *st, struct fuse_attr *ret_attr);

/* By a file that is open to write, or with NULL by one of ours, where the caller may write.
 * `kill`: S_ISUID goes. */
int srv_truncate(struct srv_request *rq, struct srv_node *node, struct uext4_file *file,
                 uint64_t size, bool kill);

/* ---- the server ---- */

struct fuse_session;

struct fuse_server {
        struct uext4_fs *fs;
        struct fuse_session *session;
        enum fuse_cache cache;
        enum fuse_atime atime;
        bool default_permissions;
        bool allow_root;
        bool debug;
        _Atomic bool is_down; /* by ioctl: nothing is done any more, but what ends */
        uint32_t owner;       /* who runs this: the image is his */

        struct srv_shard shards[SRV_NR_SHARDS];
        pthread_mutex_t handles_lock;
        struct srv_handle_list handles;

        _Atomic int64_t last_removal; /* time, see space.c */
        _Atomic uint64_t nr_freed;
        _Atomic int nr_freeing;

        int wake_fd;          /* eventfd: the loop is to end */
        _Atomic int error;    /* why, when it is one */
        bool may_look;        /* see loop.c: there is more than one CPU */
        _Atomic bool looking; /* somebody does; who has set it owns look_misses */
        _Atomic int look_rest;
        int look_misses;
        struct srv_notifier *notifier;

        struct srv_crew crew;
        unsigned nr_workers;
        struct srv_worker *workers;
};

#endif
