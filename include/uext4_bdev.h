/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef UEXT4_BDEV_H
#define UEXT4_BDEV_H

/*
 * uext4_bdev.h - the block-device contract.
 *
 * A device is an array of bytes that is read and written in whole logical
 * blocks.  It has two faces:
 *
 *  - the synchronous face (uext4_bdev_read, _write, _flush, ...): one request,
 *    done when the call returns;
 *  - a queue (uext4_bdev_queue_*): many requests under way at once.
 *
 * The library brings backends (a file or block device, memory, a mapping, a simulated
 * device) and filters (slice, cow, fault, trace, record); a program brings its own device
 * by filling a struct uext4_bdev_ops and calling uext4_bdev_init().
 *
 * Durability is spelled.  A request is *submitted*, then *completed*; what it
 * wrote is *durable* only when the request carried UEXT4_BDEV_FUA, or when a
 * flush that began after its completion has completed.  A device without the
 * UEXT4_BDEV_CAP_VOLATILE flag promises that completed is durable.
 *
 * Requests under way at the same time have no order among them.
 *
 * Threads: every function of the synchronous face may be called by any thread
 * at any time.  A queue is filled by one thread at a time, its owner; any
 * thread may *help*, that is, drive the completions of a queue that it does not
 * own, because a queue's requests complete only while somebody drives it.
 *
 * Errors are negative errno values everywhere.
 */

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifdef __GNUC__
#define UEXT4_API __attribute__((visibility("default")))
#else
#define UEXT4_API
#endif

/* ---- geometry -------------------------------------------------------- */

enum {
        UEXT4_BDEV_CAP_READONLY = 1u << 0, /* writes fail with -EROFS */
        UEXT4_BDEV_CAP_FUA = 1u << 1,      /* UEXT4_BDEV_FUA costs less than write + flush */
        UEXT4_BDEV_CAP_VOLATILE = 1u << 2, /* completed is not durable without a flush */
        UEXT4_BDEV_CAP_DISCARD = 1u << 3,  /* uext4_bdev_discard() does something */
        UEXT4_BDEV_CAP_DIRECT = 1u << 4,   /* the host does not cache what we transfer */
};

/* Fixed for the life of the device. */
struct uext4_bdev_geometry {
        uint64_t size;          /* bytes, a multiple of logical_block */
        uint32_t logical_block; /* bytes; power of two, 512 .. 65536: unit of pos and length */
        uint32_t mem_align; /* bytes; power of two: alignment of buffers and their lengths */
        uint32_t caps;      /* UEXT4_BDEV_CAP_* */

        /*
         * Lengths, in bytes, that a write with UEXT4_BDEV_ATOMIC may have: powers of two, from
         * the logical block on.  Both 0: the device tears any write.
         */
        uint32_t atomic_min, atomic_max;
};

/* ---- requests -------------------------------------------------------- */

enum uext4_bdev_op {
        UEXT4_BDEV_READ,
        UEXT4_BDEV_WRITE,
        UEXT4_BDEV_FLUSH,        /* all completed writes become durable; no range */
        UEXT4_BDEV_DISCARD,      /* contents of the range become undefined */
        UEXT4_BDEV_WRITE_ZEROES, /* the range reads as zeros afterwards */
};

#define UEXT4_BDEV_NR_OPS 5

/* Flags of one request. */
enum {
        UEXT4_BDEV_FUA = 1u << 0, /* WRITE, WRITE_ZEROES: durable when completed */

        /*
         * WRITE: after a power cut all of it is on the medium or nothing.  The length is a
         * power of two within the geometry's bounds, and the position a multiple of it:
         * -EINVAL; -EOPNOTSUPP where there are no bounds.
         */
        UEXT4_BDEV_ATOMIC = 1u << 1,

        /*
         * READ, WRITE of a queue: the vector has one element, which lies in the buffer that was
         * registered with the queue under number `buffer`.
         */
        UEXT4_BDEV_FIXED = 1u << 2,
};

struct uext4_bdev;
struct uext4_bdev_queue;

/*
 * One request of a queue.  The caller owns the memory, the vector and the
 * buffers, and keeps them untouched from uext4_bdev_queue_add() until done()
 * has been entered.  Fields up to `done` are filled by the caller.
 */
struct uext4_bdev_req {
        enum uext4_bdev_op op;
        uint32_t flags;          /* UEXT4_BDEV_FUA, _ATOMIC, _FIXED */
        uint64_t pos;            /* bytes from the start of the device */
        uint64_t len;            /* bytes; for READ and WRITE the sum of the vector */
        const struct iovec *iov; /* READ, WRITE */
        int nr_iov;
        uint32_t buffer; /* with UEXT4_BDEV_FIXED */

        /*
         * Called once, by whichever thread drives the queue, with no lock of the
         * queue held.  It may add requests to the same queue; it must not
         * wait for one.  The request belongs to the caller again on entry.
         */
        void (*done)(struct uext4_bdev_req *req);

        int result; /* valid in done(): 0 when all of it was done, or -errno */

        /* Private to the queue between add and done. */
        struct uext4_bdev_queue *queue;
        struct uext4_bdev_req *next;
};

/* ---- bringing a device ----------------------------------------------- */

/*
 * What a queue needs from a device that has one of its own.  A device without
 * (ops->queue == NULL) gets a queue that carries each request out through the
 * synchronous face when it is kicked.
 */
struct uext4_bdev_queue_ops {
        /* Make a queue for up to `depth` requests under way; depth >= 1. */
        int (*new_queue)(struct uext4_bdev *dev, unsigned depth, void **ret_impl);

        /* No request is under way.  Cannot fail. */
        void (*free_queue)(void *impl);

        /*
         * Take one request, perhaps without starting it.  Called by one thread
         * at a time, possibly while another one reaps.  Must not call back.
         * On an error the request was not taken.
         */
        int (*add)(void *impl, struct uext4_bdev_req *req);

        /* Start everything that was added.  As add(); may be called by a helper too. */
        int (*kick)(void *impl);

        /*
         * Complete what has finished: uext4_bdev_complete() for each request.
         * If none has, wait for one, up to timeout_ns nanoseconds (0: do not
         * wait, negative: for ever).  Called by one thread at a time, and with
         * a wait only while requests are under way.  Returns how many it completed,
         * 0 on a time-out, or -errno when the queue itself is broken.
         */
        int (*reap)(void *impl, int64_t timeout_ns);

        /* Try to stop requests early; they still complete, with -ECANCELED or not. */
        void (*cancel_all)(void *impl);

        /* From now on signal `fd` (an eventfd) whenever reap() would find something. */
        int (*set_eventfd)(void *impl, int fd);

        /*
         * Prepare for these buffers, in whose place none were registered so far; with nr 0, for
         * none any more.  No request is under way.  NULL: UEXT4_BDEV_FIXED means nothing here.
         */
        int (*set_buffers)(void *impl, const struct iovec *buffers, unsigned nr);
};

/*
 * A device's methods.  Called with checked arguments only: ranges inside the
 * device, whole logical blocks, aligned buffers, no writes on a read-only device.
 * read and write return the bytes moved (a short count is legal, the caller goes
 * on behind it, unless the write is atomic) or -errno; the others 0 or -errno.
 */
struct uext4_bdev_ops {
        const char *name; /* of the backend or filter, for messages */

        int64_t (*read)(struct uext4_bdev *dev, const struct iovec *iov, int nr_iov,
                        uint64_t pos);
        int64_t (*write)(struct uext4_bdev *dev, const struct iovec *iov, int nr_iov,
                         uint64_t pos, uint32_t flags);
        int (*flush)(struct uext4_bdev *dev);
        int (*discard)(struct uext4_bdev *dev, uint64_t pos, uint64_t len);
        int (*write_zeroes)(struct uext4_bdev *dev, uint64_t pos, uint64_t len, uint32_t flags);

        /* Give back the device's resources, not the struct uext4_bdev of a caller. */
        void (*close)(struct uext4_bdev *dev);

        const struct uext4_bdev_queue_ops *queue; /* NULL: the generic queue */

        /*
         * The device as memory: a pointer to all of it that stays valid until
         * close.  NULL where there is none.  DAX is built on it.
         */
        void *(*mapping)(struct uext4_bdev *dev);
};

/* Embed it in your own structure; treat the fields as read-only after init. */
struct uext4_bdev {
        const struct uext4_bdev_ops *ops;
        struct uext4_bdev_geometry geo;
};

/*
 * Fill in a device.  Returns -EINVAL for a geometry that breaks its own rules.
 * The caller keeps the memory of `dev` until after uext4_bdev_close().
 */
UEXT4_API int uext4_bdev_init(struct uext4_bdev *dev, const struct uext4_bdev_ops *ops,
                              const struct uext4_bdev_geometry *geo);

/*
 * For queue_ops.reap only: `req` ended with `result` bytes moved (READ, WRITE)
 * or 0, or -errno.  A short count is finished here, synchronously.
 */
UEXT4_API void uext4_bdev_complete(struct uext4_bdev_req *req, int64_t result);

/* ---- backends and filters -------------------------------------------- */

enum {
        UEXT4_BDEV_OPEN_READONLY = 1u << 0,
        UEXT4_BDEV_OPEN_BUFFERED = 1u << 1, /* do not ask the host for O_DIRECT */
};

/*
 * Called with a line of text that the user should see; level as in syslog(3),
 * LOG_ERR .. LOG_DEBUG.  It may be called by any thread, with locks held: it
 * must not call back into the library.
 */
typedef void uext4_log_fn(void *arg, int level, const char *text);

/*
 * Open a regular file or block device.  O_DIRECT where the host grants it; where
 * it does not, `log` (may be NULL) is told once.  Opening for writing
 * takes an exclusive advisory lock (flock) and, on a block device, O_EXCL;
 * opening read-only takes a shared lock.  A lock held by somebody else is
 * -EBUSY.  Files whose size is no multiple of 512 lose the odd bytes at the end.
 */
UEXT4_API int uext4_bdev_open_file(const char *path, uint32_t flags, uext4_log_fn *log,
                                   void *log_arg, struct uext4_bdev **ret_dev);

/* The same file as one shared mapping: no request needs the host, ops->mapping is there. */
UEXT4_API int uext4_bdev_open_mmap(const char *path, uint32_t flags,
                                   struct uext4_bdev **ret_dev);

/* `size` bytes of zeroed memory (cut to a multiple of 512), nothing volatile. */
UEXT4_API int uext4_bdev_open_mem(uint64_t size, struct uext4_bdev **ret_dev);

/*
 * Memory that the caller owns and keeps until close.  With
 * UEXT4_BDEV_OPEN_READONLY it is never written.
 */
UEXT4_API int uext4_bdev_open_buffer(void *mem, uint64_t size, uint32_t flags,
                                     struct uext4_bdev **ret_dev);

/*
 * Open what a URI names: "PATH" or "file:PATH", "mmap:PATH", "mem:SIZE" (SIZE in
 * bytes, with an optional suffix K, M, G or T).  Unknown scheme: a PATH.
 */
UEXT4_API int uext4_bdev_open(const char *uri, uint32_t flags, uext4_log_fn *log, void *log_arg,
                              struct uext4_bdev **ret_dev);

/* The bytes [pos, pos + len) of `lower` as a device; len 0: to its end.  Owns lower. */
UEXT4_API int uext4_bdev_open_slice(struct uext4_bdev *lower, uint64_t pos, uint64_t len,
                                    struct uext4_bdev **ret_dev);

/*
 * A private overlay: writes go to memory, reads see them, `lower` is never written (it may be
 * read-only).  `max_bytes` bounds the memory (0: no bound); beyond it a write is -ENOSPC.  A
 * read-write device with nothing volatile.  Owns lower.
 */
UEXT4_API int uext4_bdev_open_cow(struct uext4_bdev *lower, uint64_t max_bytes,
                                  struct uext4_bdev **ret_dev);

/* Bytes of the overlay that are in use. */
UEXT4_API uint64_t uext4_bdev_cow_bytes(struct uext4_bdev *cow);

/* A rule of the fault filter.  A request matches by operation and range. */
struct uext4_bdev_fault {
        uint32_t ops;       /* bit (1 << enum uext4_bdev_op) each */
        uint64_t pos;       /* range of bytes; FLUSH matches any range */
        uint64_t len;       /* 0: to the end of the device */
        uint64_t skip;      /* let this many matching requests pass first */
        uint64_t count;     /* then fail this many; 0: sticky, for ever */
        int error;          /* negative errno, or 0 for short I/O */
        uint64_t short_len; /* with error 0: move at most this many bytes; 0 counts as an
                             * early end, which the caller sees as -EIO */
};

/* Pass everything on to `lower` except what a rule catches.  Owns lower. */
UEXT4_API int uext4_bdev_open_fault(struct uext4_bdev *lower, struct uext4_bdev **ret_dev);

/* Add a rule; the newest matching rule decides.  Any thread, at any time. */
UEXT4_API int uext4_bdev_fault_add(struct uext4_bdev *fault,
                                   const struct uext4_bdev_fault *rule);

/* Remove all rules. */
UEXT4_API void uext4_bdev_fault_clear(struct uext4_bdev *fault);

/* How many requests were failed or cut short so far. */
UEXT4_API uint64_t uext4_bdev_fault_hits(struct uext4_bdev *fault);

/* What the trace filter counts, by operation. */
struct uext4_bdev_counts {
        uint64_t requests[UEXT4_BDEV_NR_OPS];
        uint64_t bytes[UEXT4_BDEV_NR_OPS];
        uint64_t fua;       /* requests with UEXT4_BDEV_FUA */
        uint64_t in_flight; /* of queues, now */
        uint64_t max_in_flight;
};

struct uext4_bdev_trace_entry {
        uint64_t seq; /* 0, 1, 2, ... in order of submission */
        enum uext4_bdev_op op;
        uint32_t flags;
        uint64_t pos, len;
};

/*
 * Count requests on their way to `lower`; remember the last `nr_entries` of
 * them (0: none).  Owns lower.
 */
UEXT4_API int uext4_bdev_open_trace(struct uext4_bdev *lower, size_t nr_entries,
                                    struct uext4_bdev **ret_dev);
UEXT4_API void uext4_bdev_trace_counts(struct uext4_bdev *trace,
                                       struct uext4_bdev_counts *ret_counts);
UEXT4_API void uext4_bdev_trace_reset(struct uext4_bdev *trace);

/* Copy the remembered requests, oldest first; returns how many. */
UEXT4_API size_t uext4_bdev_trace_list(struct uext4_bdev *trace,
                                       struct uext4_bdev_trace_entry *entries, size_t max);

/*
 * A simulated device in memory, whose power can be cut.
 *
 *  - A write that completed lies in a volatile cache: reads see it, the medium
 *    does not have it.  WRITE_ZEROES is a write of zeros; DISCARD a write of zeros,
 *    of junk or of nothing, as the seed has it.
 *  - A flush makes durable what had completed before the flush was submitted, when
 *    the flush completes; not what completed meanwhile.  A write with
 *    UEXT4_BDEV_FUA is durable when it completes, and what else is in the cache is
 *    not.  Nothing else makes durable.
 *  - Requests of a queue complete in an order that depends on the seed, some when
 *    the queue is driven and some not before it is driven again.  They take effect
 *    when they complete.
 *  - At the cut, every request that has not completed fails, and so does every
 *    later one.
 *  - What is found on the medium after a cut is what was durable, and of each
 *    sector (UEXT4_BDEV_SIM_SECTOR bytes) of each other write, completed or under
 *    way, either nothing or the new bytes (or junk, if asked for).  Where several
 *    such writes met in a sector, any of them may be found, but a write never comes
 *    back after a later one of the same sector is durable.  A write with UEXT4_BDEV_ATOMIC
 *    counts as one sector: it is found whole, or not at all.
 *
 * The same seed and the same calls from one thread give the same run.  The device takes
 * about twice its size in memory, plus what is in its cache.
 */
#define UEXT4_BDEV_SIM_SECTOR 512

struct uext4_bdev_sim_params {
        uint64_t size;          /* bytes */
        const void *image;      /* `size` bytes to begin with, copied; NULL: zeros */
        uint32_t logical_block; /* 0: 512 */
        uint32_t caps;          /* of UEXT4_BDEV_CAP_FUA and _DISCARD; it is always _VOLATILE */
        uint32_t atomic_max;    /* the geometry's; 0: any write may be torn */
        uint64_t seed;
        int cut_error; /* of requests after the cut; 0: -EIO */
};

UEXT4_API int uext4_bdev_open_sim(const struct uext4_bdev_sim_params *params,
                                  struct uext4_bdev **ret_dev);

/* Cut the power now. */
UEXT4_API void uext4_bdev_sim_cut(struct uext4_bdev *sim);

/*
 * Cut it when request `number` is submitted; 1 is the first one after open, 0 means never.
 * Requests of both faces and all operations count.  That request is under way at the
 * cut: it fails, and of a write any sector may be found on the medium.
 */
UEXT4_API void uext4_bdev_sim_cut_at(struct uext4_bdev *sim, uint64_t number);

struct uext4_bdev_sim_state {
        uint64_t requests;   /* submitted before the cut, with the one that met it */
        uint64_t nr_writes;  /* writes that are not durable, completed or under way */
        uint64_t nr_sectors; /* sectors of them; one that was written twice counts twice */
        int is_cut;
};

UEXT4_API void uext4_bdev_sim_state(struct uext4_bdev *sim,
                                    struct uext4_bdev_sim_state *ret_state);

enum uext4_bdev_sim_mode {
        UEXT4_BDEV_SIM_NONE,    /* nothing that was not durable survives */
        UEXT4_BDEV_SIM_ALL,     /* all of it does */
        UEXT4_BDEV_SIM_RANDOM,  /* some of it, by seed: whole writes, torn ones, junk */
        UEXT4_BDEV_SIM_WRITES,  /* write k survives, whole, if bit k of the index is set */
        UEXT4_BDEV_SIM_SECTORS, /* sector k does */
};

struct uext4_bdev_sim_survivor {
        enum uext4_bdev_sim_mode mode;
        uint64_t seed;         /* RANDOM: another one, another outcome */
        uint32_t junk_percent; /* RANDOM: of the sectors that are not durable */
        uint64_t index;        /* WRITES, SECTORS: below 2^nr of uext4_bdev_sim_state() */
};

/*
 * What is on the medium if the power goes, or went: the device's size in bytes, to
 * `image`.  It may be called at any time and again and again; the device stays as it is.  A
 * device opened with the image is the machine after its restart, and may be cut again.  -ERANGE
 * for an index of 2^nr and above: a loop over all outcomes ends there.  -E2BIG when nr is
 * above 63.
 */
UEXT4_API int uext4_bdev_sim_survivor(struct uext4_bdev *sim,
                                      const struct uext4_bdev_sim_survivor *how, void *image);

/*
 * Record what happens to `lower` on `log`, in the format of the kernel's dm-log-writes, so
 * that its tools can replay it.  A write or discard that completed is logged by the next flush
 * that began after it, or at close; one with UEXT4_BDEV_FUA at once.  So the log up to a
 * flush is the least that a device with a volatile cache has on its medium by then; the
 * recorder claims to be such a device even if lower is not.  The log's sector is the logical
 * block of lower, and the log device must take it: -EINVAL otherwise.  Owns both devices.
 *
 * When the log fails (-ENOSPC: it is full), so does the flush, the FUA write or the mark that
 * needed it, and all later ones.
 */
UEXT4_API int uext4_bdev_open_record(struct uext4_bdev *lower, struct uext4_bdev *log,
                                     struct uext4_bdev **ret_dev);

/*
 * Log a mark with a name, which ends before byte (logical block - 32): -ENAMETOOLONG.  Flush
 * first if it shall stand behind what was written.
 */
UEXT4_API int uext4_bdev_record_mark(struct uext4_bdev *record, const char *name);

/* ---- the synchronous face -------------------------------------------- */

static inline const struct uext4_bdev_geometry *
uext4_bdev_geometry(const struct uext4_bdev *dev)
{
        return &dev->geo;
}

/*
 * Move exactly the vector's bytes.  0, or -errno: -EINVAL when position, length or
 * memory break the geometry, -ENXIO beyond the end, -EROFS, -EIO when the device
 * ends early, or what the device says.  After an error any part may have been done.
 */
UEXT4_API int uext4_bdev_readv(struct uext4_bdev *dev, const struct iovec *iov, int nr_iov,
                               uint64_t pos);
UEXT4_API int uext4_bdev_writev(struct uext4_bdev *dev, const struct iovec *iov, int nr_iov,
                                uint64_t pos, uint32_t flags);
UEXT4_API int uext4_bdev_read(struct uext4_bdev *dev, void *buf, size_t len, uint64_t pos);
UEXT4_API int uext4_bdev_write(struct uext4_bdev *dev, const void *buf, size_t len,
                               uint64_t pos, uint32_t flags);

/* As uext4_bdev_read, for any position, length and memory (through a bounce buffer). */
UEXT4_API int uext4_bdev_read_bytes(struct uext4_bdev *dev, void *buf, size_t len,
                                    uint64_t pos);

/* 0 at once on a device that has nothing volatile. */
UEXT4_API int uext4_bdev_flush(struct uext4_bdev *dev);

/* -EOPNOTSUPP without UEXT4_BDEV_CAP_DISCARD. */
UEXT4_API int uext4_bdev_discard(struct uext4_bdev *dev, uint64_t pos, uint64_t len);
UEXT4_API int uext4_bdev_write_zeroes(struct uext4_bdev *dev, uint64_t pos, uint64_t len,
                                      uint32_t flags);

/* No queue of the device is left.  NULL is fine. */
UEXT4_API void uext4_bdev_close(struct uext4_bdev *dev);

/* ---- queues ---------------------------------------------------------- */

/* A queue for about `depth` requests under way (more is legal, and slower). */
UEXT4_API int uext4_bdev_queue_new(struct uext4_bdev *dev, unsigned depth,
                                   struct uext4_bdev_queue **ret_queue);

/* Cancel what can be cancelled, complete the rest, free.  Owner only.  NULL is fine. */
UEXT4_API void uext4_bdev_queue_free(struct uext4_bdev_queue *queue);

/*
 * Add one request; it starts with the next kick, or before.  Owner, or done().
 * Errors as for the synchronous face; after one, done() is not called.
 */
UEXT4_API int uext4_bdev_queue_add(struct uext4_bdev_queue *queue, struct uext4_bdev_req *req);

/*
 * Register memory that will be used many times, so that the host need not look at it for each
 * request (UEXT4_BDEV_FIXED): 1 .. UEXT4_MAX_BUFFERS buffers, numbered from 0, which stay the
 * caller's and in place until they are unregistered, or the queue is freed.  The vector itself
 * is copied.  Owner only, with nothing in flight: -EBUSY, also when there are some already.
 * -EINVAL for none, too many, or an empty one; -ENOMEM: the host does not lock so much memory.
 */
#define UEXT4_MAX_BUFFERS 16384
UEXT4_API int uext4_bdev_queue_register(struct uext4_bdev_queue *queue,
                                        const struct iovec *buffers, unsigned nr);

/* 0 too when there are none.  -EBUSY while something is in flight. */
UEXT4_API int uext4_bdev_queue_unregister(struct uext4_bdev_queue *queue);

/* Start everything that was added. */
UEXT4_API int uext4_bdev_queue_kick(struct uext4_bdev_queue *queue);

/*
 * Drive the queue: complete what has finished; if nothing has, wait for one
 * completion, at most timeout_ns (0: do not wait, negative: for ever).  Any
 * thread: this is both the owner's wait and the helper's.  When another thread
 * is driving already, wait until it has completed something instead.
 * Returns at once when nothing is under way.  1: something may have completed,
 * 0: nothing did, or -errno when the queue is broken.
 */
UEXT4_API int uext4_bdev_queue_drive(struct uext4_bdev_queue *queue, int64_t timeout_ns);

/* Requests added and not yet completed. */
UEXT4_API unsigned uext4_bdev_queue_in_flight(struct uext4_bdev_queue *queue);

/*
 * An eventfd that becomes readable when the queue should be driven; owned by the
 * queue, made at the first call.  Returns the descriptor or -errno.
 */
UEXT4_API int uext4_bdev_queue_eventfd(struct uext4_bdev_queue *queue);

#ifdef __cplusplus
}
#endif
#endif
